//! The first step of a restore: everything is made ready beside the target, which stays untouched.
//!
//! place → staging directory and journal → room → the engine restores into `new` and reads it back → made durable.
//! Whatever goes wrong on the way, or a cancellation, removes the staging directory again: dropping the
//! [`FileStoreRestore`] does it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use repository::{
    Control, Existing, Id, Index, Planned, Repository, RestoreOutcome, RestorePlan, RestoreRequest, TreeSize,
    VisitPlanned,
};

use super::directory;
use super::journal::{Method, Phase};
use super::staging::{NEW, Staging};
use super::swap::Swap;
use super::{part, place};
use crate::{Error, ErrorKind, FileStoreSettings, RestoreContext, Result, StagedRestore};

/// Room that is asked for above the plain sum of the files, as a divisor of it: 5 %.
const RESERVE_DIVISOR: u64 = 20;

/// Stages a snapshot for `root`, or a directory of it for that below `root`.
pub(super) fn stage(
    component: &str,
    root: &Path,
    context: &RestoreContext<'_>,
) -> Result<Box<dyn StagedRestore>> {
    let fail = |e| Error::engine(format!("cannot restore component '{component}'"), e);
    context.control.check().map_err(fail)?;
    let relative = part::relative(&context.portion)?;
    let subpath = part::find(component, (context.repository, context.index, context.snapshot), relative)?;
    let target = part::target(root, relative)?;
    let size = repository::measure(context.repository, context.index, context.snapshot, Some(&subpath))
        .map_err(fail)?;
    let (staging, method) = make_staging(&target, context.job_id)?;
    let mut restore = FileStoreRestore {
        component: component.to_owned(),
        swap: Swap::new(&target, staging, method),
        outcome: RestoreOutcome::default(),
        control: Arc::clone(&context.control),
        settled: false,
    };
    restore.swap.enter(Phase::Staging)?;
    check_room(&restore.swap, &size)?;
    let request = RestoreRequest {
        subpath: Some(subpath),
        reuse_from: fs::symlink_metadata(&target).is_ok().then(|| target.clone()),
        verify: true,
        ..RestoreRequest::new(context.snapshot, restore.swap.staging.path.join(NEW))
    };
    restore.outcome =
        repository::restore(context.repository, context.index, &request, &context.control).map_err(fail)?;
    restore.swap.prepare()?;
    context.control.check().map_err(fail)?;
    Ok(Box::new(restore))
}

/// What a restore of what lies at `relative` would change, with paths below the component's place.
pub(super) fn plan(
    settings: &FileStoreSettings,
    (repository, index, snapshot): (&Repository, &Index, Id),
    relative: &str,
    control: &Control,
    visit: &mut VisitPlanned<'_>,
) -> Result<RestorePlan> {
    let name = &settings.name;
    let fail = |e| Error::engine(format!("cannot compare component '{name}'"), e);
    let request = RestoreRequest {
        subpath: Some(part::find(name, (repository, index, snapshot), relative)?),
        existing: Existing::MadeEqualUnlessAlike,
        remove_others: true,
        ..RestoreRequest::new(snapshot, part::target(&settings.path, relative)?)
    };
    let mut stays = 0;
    let mut see = |path: &[u8], planned: Planned, bytes: u64| {
        let top = path.split(|byte| *byte == b'/').find(|name| !name.is_empty()).unwrap_or_default();
        // No content: it is never swapped.
        if planned == Planned::Removed && place::is_kept(OsStr::from_bytes(top)) {
            stays += 1;
            return Ok(());
        }
        match relative {
            "" => visit(path, planned, bytes),
            above => visit(&[b"/", above.as_bytes(), path].concat(), planned, bytes),
        }
    };
    let mut plan = repository::plan_restore(repository, index, &request, control, &mut see).map_err(fail)?;
    plan.removed -= stays;
    Ok(plan)
}

/// The snapshot's only path: that directory becomes the target.
pub(super) fn subpath(component: &str, repository: &Repository, id: Id) -> Result<Vec<u8>> {
    let fail = |e| Error::engine(format!("cannot restore component '{component}'"), e);
    let snapshot = repository.snapshot(id).map_err(fail)?;
    match snapshot.paths.as_slice() {
        [path] => Ok(path.clone().into_bytes()),
        paths => Err(Error::new(
            ErrorKind::Damaged,
            format!(
                "cannot restore component '{component}': its snapshot {} has {} paths, not one",
                id,
                paths.len()
            ),
        )),
    }
}

/// Makes the staging directory where the target can be swapped from: on the same file system.
fn make_staging(target: &Path, job_id: &str) -> Result<(Staging, Method)> {
    let name = place::staging_name(job_id, target)?;
    let fail =
        |parent: &Path, e| Error::io(format!("cannot make a staging directory in {}", parent.display()), e);
    let parent = target.parent().unwrap_or(target);
    fs::create_dir_all(parent).map_err(|e| fail(parent, e))?;
    if place::method(target)? == Method::Root {
        match Staging::create(parent, &name) {
            Ok(staging) if on_file_system_of(&staging, target) => return Ok((staging, Method::Root)),
            Ok(staging) => drop(staging.remove()),
            // The parent is not ours to write to, but the target may be.
            Err(e) if forbidden(&e) && target.is_dir() => {}
            Err(e) => return Err(fail(parent, e)),
        }
    }
    let staging = Staging::create(target, &name).map_err(|e| fail(target, e))?;
    Ok((staging, Method::Entries))
}

fn forbidden(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
}

/// A target that does not exist yet comes to be where the staging directory is.
fn on_file_system_of(staging: &Staging, target: &Path) -> bool {
    match directory::stat(rustix::fs::CWD, target.as_os_str()) {
        Ok(Some(stat)) => rustix::fs::fstat(&staging.directory).is_ok_and(|s| s.st_dev == stat.st_dev),
        other => other.is_ok(),
    }
}

/// Old and new content lie there side by side, so all of the new needs room.
fn check_room(swap: &Swap, size: &TreeSize) -> Result<()> {
    let missing = missing_room(&swap.staging.directory, size)
        .map_err(|e| swap.error("cannot find out how much room there is", e))?;
    match missing {
        None => Ok(()),
        Some(missing) => {
            let message = format!(
                "a restore of {} is staged beside what is there and {missing}; make room there, or restore to another place",
                swap.target.display()
            );
            Err(Error::new(ErrorKind::NoSpace, message))
        }
    }
}

/// What is missing on the file system of a directory for content of this size, in words.
pub(crate) fn missing_room(directory: impl AsFd, size: &TreeSize) -> io::Result<Option<String>> {
    let space = rustix::fs::fstatvfs(directory)?;
    let short =
        |needed: u64, free: u64, what| format!("needs {needed} {what} on that file system; {free} are free");
    let needed = size.bytes.saturating_add(size.bytes / RESERVE_DIVISOR);
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    if needed > free {
        return Ok(Some(short(needed, free, "bytes")));
    }
    let entries = size.files.saturating_add(size.dirs);
    // Zero files in all: a file system that makes inodes as they are needed.
    let few = space.f_files > 0 && entries > space.f_favail;
    Ok(few.then(|| short(entries, space.f_favail, "inodes")))
}

/// A staged restore of a directory.
struct FileStoreRestore {
    component: String,
    swap: Swap,
    outcome: RestoreOutcome,
    control: Arc<Control>,
    /// Nothing is left to clean up when this is dropped.
    settled: bool,
}

impl FileStoreRestore {
    /// What could not be done as it should goes into the job.
    fn tell(&mut self) {
        for warning in self.swap.warnings.drain(..) {
            self.control.warn(self.component.clone(), warning);
        }
    }
}

impl StagedRestore for FileStoreRestore {
    fn swap(&mut self) -> Result<()> {
        let result = self.swap.run();
        self.tell();
        result
    }

    fn finish(mut self: Box<Self>) -> Result<RestoreOutcome> {
        let result = self.swap.finish();
        self.tell();
        result.map(|()| std::mem::take(&mut self.outcome))
    }

    fn abandon(mut self: Box<Self>) -> Result<()> {
        self.settled = true;
        let result = self.swap.give_up();
        self.tell();
        result
    }
}

impl Drop for FileStoreRestore {
    fn drop(&mut self) {
        if self.settled || !matches!(self.swap.journal.phase, Phase::Staging | Phase::Staged) {
            return;
        }
        if let Err(error) = self.swap.give_up() {
            tracing::warn!(component = self.component, "{error}");
        }
        for warning in &self.swap.warnings {
            tracing::warn!(component = self.component, "{warning}");
        }
    }
}
