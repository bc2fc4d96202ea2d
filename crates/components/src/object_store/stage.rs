//! A restore of a bucket: what will be and what was are laid down in the bucket first; then the service copies each object to
//! its place.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use repository::{Control, Index, Node, Repository, RestoreOutcome};
use storage::{Content, Headers, Upload};

use super::area::{Area, State, Step};
use super::compare::{Action, Change, compare, headers_of};
use super::{ObjectStore, each, listing, store_error};
use crate::{Error, ErrorKind, RestoreContext, Result, StagedRestore};

/// Objects up to here are written by one request, larger ones in parts of so much.
const PART_BYTES: u64 = 16 << 20;
/// S3 takes 10,000.
const PARTS_MAX: u64 = 9_000;

/// A restore whose objects lie ready.
pub(super) struct Staged {
    content: Arc<dyn Content>,
    component: String,
    job_id: String,
    plan: Vec<Step>,
    /// Length of each object that is written.
    lengths: Vec<u64>,
    outcome: RestoreOutcome,
    swapped: bool,
}

pub(super) fn stage(store: &ObjectStore, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>> {
    let (content, control) = (&*store.content, &*context.control);
    let compared = compare(store, (context.repository, context.index, context.snapshot), control)?;
    let changes = &compared.changes;
    control.progress.files_total.fetch_add(changes.len() as u64, Ordering::Relaxed);
    control.progress.bytes_total.fetch_add(changes.iter().map(Change::bytes).sum(), Ordering::Relaxed);
    let removed = changes.iter().filter(|change| change.action == Action::Remove).count() as u64;
    let staged = Staged {
        content: Arc::clone(&store.content),
        component: store.settings.name.clone(),
        job_id: context.job_id.to_owned(),
        plan: changes.iter().map(|one| Step { key: one.key.clone(), action: one.action }).collect(),
        lengths: changes.iter().map(Change::bytes).collect(),
        outcome: RestoreOutcome {
            files: compared.kept + changes.len() as u64 - removed,
            bytes: compared.bytes_kept + changes.iter().map(Change::bytes).sum::<u64>(),
            bytes_reused: compared.bytes_kept,
            kept: compared.kept,
            removed,
            ..RestoreOutcome::default()
        },
        swapped: false,
    };
    let area = staged.area();
    area.write_plan(changes)?;
    let numbered: Vec<(usize, &Change)> = changes.iter().enumerate().collect();
    each(content, control, &numbered, |(number, change)| {
        if let Some(node) = &change.node {
            control.progress.set_current(&change.key);
            write(content, (context.repository, context.index), node, &area.new_one(*number), control)?;
        }
        if change.action != Action::Make {
            keep(content, change, &area.old_one(*number))?;
        }
        control.progress.files_done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })?;
    Ok(Box::new(staged))
}

/// Keeps what is there, so that it can be put back.
fn keep(content: &dyn Content, change: &Change, to: &str) -> Result<()> {
    let tag = change.tag.as_deref().filter(|tag| !tag.is_empty());
    content.copy(&change.key, to, tag).map_err(|e| match e.kind {
        storage::ErrorKind::NotFound | storage::ErrorKind::Precondition => {
            let key = change.key.escape_debug();
            let message = format!(
                "'{key}' was changed or removed during the restore; stop what writes to {} and restore again",
                content.location()
            );
            Error::new(ErrorKind::Io, message)
        }
        _ => store_error(e),
    })
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
        part_bytes: PART_BYTES.max(node.size.div_ceil(PARTS_MAX)),
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

    /// What was written is there in its length, and what was removed is not.
    fn verify(&self) -> Result<()> {
        let mut present = HashMap::new();
        listing::visit(&*self.content, &Control::default(), &mut |entry| {
            present.insert(entry.key, entry.size);
        })?;
        for (step, length) in self.plan.iter().zip(&self.lengths) {
            let expected = (step.action != Action::Remove).then_some(length);
            if present.get(&step.key) != expected {
                let message = format!(
                    "'{}' is not as it was restored: somebody else writes to {}; stop that and restore again",
                    step.key.escape_debug(),
                    self.content.location()
                );
                return Err(Error::new(ErrorKind::Io, message));
            }
        }
        Ok(())
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
        self.verify()?;
        let area = self.area();
        area.enter(State::Finished)?;
        area.clear()?;
        Ok(self.outcome.clone())
    }

    fn abandon(mut self: Box<Self>) -> Result<()> {
        if std::mem::replace(&mut self.swapped, true) {
            self.area().backward(&self.plan)?;
        }
        self.area().clear()
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
