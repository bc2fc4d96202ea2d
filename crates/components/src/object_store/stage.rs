//! A restore of a bucket: what will be and what was are laid down in the bucket first; then the service copies each object to
//! its place.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use repository::{Control, Index, Node, Repository, RestoreOutcome};
use storage::{Content, ContentEntry, Headers, Upload};

use super::area::{Area, State, Step};
use super::compare::{Action, Change, compare, headers_of};
use super::{ObjectStore, each, store_error};
use crate::{Error, ErrorKind, RestoreContext, Result, StagedRestore};

/// Objects up to here are written by one request, larger ones in parts of so much.
const PART_BYTES: u64 = 16 << 20;
/// S3 takes 10,000.
const PARTS_MAX: u64 = 9_000;
/// Longer ones are a multiple of so much, as some services have pages.
const PART_STEP_BYTES: u64 = 1 << 20;

/// A restore whose objects lie ready.
pub(super) struct Staged {
    content: Arc<dyn Content>,
    component: String,
    job_id: String,
    plan: Vec<Step>,
    outcome: RestoreOutcome,
    swapped: bool,
}

pub(super) fn stage(store: &ObjectStore, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>> {
    let (content, control) = (&*store.content, &*context.control);
    let snapshot = (context.repository, context.index, context.snapshot);
    let compared = compare(store, snapshot, &context.portion, control)?;
    let changes = &compared.changes;
    control.progress.files_total.fetch_add(changes.len() as u64, Ordering::Relaxed);
    control.progress.bytes_total.fetch_add(changes.iter().map(Change::bytes).sum(), Ordering::Relaxed);
    let mut staged = Staged {
        content: Arc::clone(&store.content),
        component: store.settings.name.clone(),
        job_id: context.job_id.to_owned(),
        plan: Vec::new(),
        outcome: RestoreOutcome::default(),
        swapped: false,
    };
    let area = staged.area();
    let numbered: Vec<(usize, &Change)> = changes.iter().enumerate().collect();
    let steps = each(content, control, &numbered, |(number, change)| {
        control.progress.set_current(&change.key);
        if change.action == Action::Remove
            && let Some(why) = content.irremovable(&change.key).map_err(store_error)?
        {
            control.warn(&change.key, format!("it is not in the backup, and stays: {why}"));
            return Ok(None);
        }
        let kept = change.present.as_ref().map(|entry| keep(content, change, entry, &area.old_one(*number)));
        match kept.transpose() {
            Ok(_) => {}
            // It could not be backed up either.
            Err(e) if change.action == Action::Remove && e.kind == storage::ErrorKind::Denied => {
                control.warn(&change.key, format!("it is not in the backup, and stays: {}", e.reason));
                return Ok(None);
            }
            Err(e) => return Err(not_kept(content, e)),
        }
        if let Some(node) = &change.node {
            write(content, (context.repository, context.index), node, &area.new_one(*number), control)?;
        }
        control.progress.files_done.fetch_add(1, Ordering::Relaxed);
        Ok(Some(Step {
            number: *number,
            key: change.key.clone(),
            action: change.action,
            size: change.bytes(),
            size_before: change.present.as_ref().map_or(0, |entry| entry.size),
            tag_before: change.present.as_ref().map_or_else(String::new, |entry| entry.tag.clone()),
        }))
    })?;
    let plan: Vec<Step> = steps.into_iter().flatten().collect();
    area.write_plan(&plan)?;
    let (removed, written): (Vec<&Step>, Vec<&Step>) =
        plan.iter().partition(|step| step.action == Action::Remove);
    staged.outcome = RestoreOutcome {
        files: compared.kept + written.len() as u64,
        bytes: compared.bytes_kept + written.iter().map(|step| step.size).sum::<u64>(),
        bytes_reused: compared.bytes_kept,
        kept: compared.kept,
        removed: removed.len() as u64,
        ..RestoreOutcome::default()
    };
    staged.plan = plan;
    Ok(Box::new(staged))
}

/// Keeps what is there, so that it can be put back.
fn keep(content: &dyn Content, change: &Change, entry: &ContentEntry, to: &str) -> storage::Result<()> {
    let tag = Some(entry.tag.as_str()).filter(|tag| !tag.is_empty());
    content.copy(&change.key, to, entry.size, tag)
}

fn not_kept(content: &dyn Content, error: storage::Error) -> Error {
    match error.kind {
        storage::ErrorKind::NotFound | storage::ErrorKind::Precondition => {
            let message = format!(
                "an object was changed or removed during the restore: {error}; stop what writes to {} and restore again",
                content.location()
            );
            Error::new(ErrorKind::Io, message)
        }
        _ => store_error(error),
    }
}

fn write(
    content: &dyn Content,
    (repository, index): (&Repository, &Index),
    node: &Node,
    key: &str,
    control: &Control,
) -> Result<()> {
    let headers = headers_of(node)?;
    let mut parts = Parts {
        content,
        key,
        headers: &headers,
        part_bytes: PART_BYTES.max(node.size.div_ceil(PARTS_MAX).next_multiple_of(PART_STEP_BYTES)),
        buffer: Vec::new(),
        upload: None,
        failed: None,
    };
    let dumped = repository::dump_file(repository, index, node, control, &mut parts);
    if let Some(e) = parts.failed.take() {
        return Err(store_error(e));
    }
    dumped.map_err(|e| Error::engine(format!("cannot restore {key}"), e))?;
    parts.end().map_err(store_error)
}

/// Content on its way into an object: in one request, or in parts once it is longer.
struct Parts<'a> {
    content: &'a dyn Content,
    key: &'a str,
    headers: &'a Headers,
    part_bytes: u64,
    buffer: Vec<u8>,
    upload: Option<Box<dyn Upload>>,
    failed: Option<storage::Error>,
}

impl Parts<'_> {
    fn send_part(&mut self) -> storage::Result<()> {
        let mut upload = match self.upload.take() {
            Some(upload) => upload,
            None => self.content.upload(self.key, self.headers)?,
        };
        upload.part(std::mem::take(&mut self.buffer))?;
        self.upload = Some(upload);
        Ok(())
    }

    fn end(mut self) -> storage::Result<()> {
        if self.upload.is_none() {
            return self.content.write(self.key, self.headers, self.buffer);
        }
        if !self.buffer.is_empty() {
            self.send_part()?;
        }
        self.upload.map_or(Ok(()), Upload::end)
    }
}

impl Write for Parts<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let part_bytes = usize::try_from(self.part_bytes).unwrap_or(usize::MAX);
        // Not before there is more: one that just fits goes in one request.
        if self.buffer.len() == part_bytes
            && let Err(e) = self.send_part()
        {
            let message = e.to_string();
            self.failed = Some(e);
            return Err(io::Error::other(message));
        }
        let taken = data.len().min(part_bytes - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staged {
    fn area(&self) -> Area<'_> {
        Area::new(&*self.content, &self.job_id, &self.component)
    }
}

impl StagedRestore for Staged {
    fn swap(&mut self) -> Result<()> {
        self.swapped = true;
        let area = self.area();
        area.enter(State::Swapping)?;
        area.forward(&self.plan)
    }

    fn finish(self: Box<Self>) -> Result<RestoreOutcome> {
        let area = self.area();
        // Every copy was confirmed. If somebody else writes by now, nobody may copy over that at the next start.
        area.enter(State::Finished)?;
        let verified = area.verify_forward(&self.plan);
        area.clear()?;
        verified?;
        Ok(self.outcome.clone())
    }

    fn abandon(mut self: Box<Self>) -> Result<()> {
        let was_swapped = std::mem::replace(&mut self.swapped, true);
        let area = self.area();
        if !was_swapped {
            return area.clear();
        }
        let undone = area.backward(&self.plan);
        // Unless it can be tried again.
        if undone.is_ok() || area.is_undone()? {
            area.clear()?;
        }
        undone
    }
}

impl Drop for Staged {
    /// What a restore that failed had laid down goes.
    fn drop(&mut self) {
        if self.swapped {
            return;
        }
        if let Err(error) = self.area().clear() {
            tracing::warn!(component = self.component, %error, "what a restore had written could not be removed yet");
        }
    }
}
