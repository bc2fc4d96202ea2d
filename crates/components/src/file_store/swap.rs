//! The swap: staged content takes the place of the present one, and can be taken back until it is finished.
//!
//! [`Swap::prepare`] makes the staged content durable and writes down what it is. [`Swap::run`] exchanges (by the
//! root, see `root.rs`, or by its entries, see `entries.rs`); if it fails, what was there before is put back.
//! [`Swap::finish`] checks and removes the old content, [`Swap::give_up`] leaves the target as it was before.
//! Every phase is announced in the journal before its first step, and every step can be repeated, so that the same
//! functions serve the restore itself and the recovery after a kill.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use super::directory;
use super::journal::{Journal, Method, Phase, Staged};
use super::metadata::RootMetadata;
use super::remove::Left;
use super::staging::{NEW, Staging};
use super::verify;
use crate::{Error, ErrorKind, Result};

/// Called after every step with its name. Nothing in production; tests fail or "kill" there.
pub(super) type Checkpoint = Box<dyn FnMut(&str) -> io::Result<()> + Send>;

/// One restore from the first staged byte to its end.
pub(super) struct Swap {
    /// The target's real path.
    pub target: PathBuf,
    pub staging: Staging,
    pub journal: Journal,
    /// What could not be done as it should, for people.
    pub warnings: Vec<String>,
    /// Tests: what the kernel answers to an exchange of the two roots.
    pub exchange_refused: Option<rustix::io::Errno>,
    pub checkpoint: Checkpoint,
}

impl Swap {
    /// A restore that begins.
    pub fn new(target: &Path, staging: Staging, method: Method) -> Self {
        Self::of(target, staging, Journal::new(target, method))
    }

    /// Goes on with a journal that was read.
    pub fn of(target: &Path, staging: Staging, journal: Journal) -> Self {
        let target = target.to_owned();
        let checkpoint = Box::new(|_: &str| Ok(()));
        Self { target, staging, journal, warnings: Vec::new(), exchange_refused: None, checkpoint }
    }

    /// What lies in `new` is complete: make it durable and remember what it is.
    pub fn prepare(&mut self) -> Result<()> {
        let facts = self.examine().map_err(|e| self.error("cannot examine what was staged", e))?;
        directory::sync_file_system(&self.staging.directory)
            .map_err(|e| self.error("cannot write what was staged to the disk", e))?;
        self.journal.staged = Some(facts);
        self.enter(Phase::Staged)
    }

    fn examine(&self) -> io::Result<Staged> {
        let missing = || io::Error::other("there is no staged content");
        let staging = &self.staging.directory;
        let stat = directory::stat(staging, OsStr::new(NEW))?.ok_or_else(missing)?;
        let new = directory::open_for_change(staging, OsStr::new(NEW))?;
        let totals = verify::count(&new)?;
        let staged_root = RootMetadata::read(&new, stat.st_mode)?;
        if stat.st_mode & 0o700 != 0o700 {
            staged_root.apply(&new); // opening it widened the mode
        }
        let (mut old_inode, mut old_root) = (None, None);
        if let Some(old) = directory::stat(rustix::fs::CWD, self.target.as_os_str())? {
            // Needed for an undo by entries alone, which a root that we may not even read does not allow anyway.
            old_root = directory::open(&self.target).and_then(|t| RootMetadata::read(&t, old.st_mode)).ok();
            old_inode = Some(old.st_ino);
        }
        Ok(Staged { staged_inode: stat.st_ino, old_inode, totals, staged_root, old_root })
    }

    /// Makes the target the restored one, from whatever phase the journal is in. After an error the target is as
    /// it was before (phase [`Phase::Staging`]), or the error says that it is not.
    pub fn run(&mut self) -> Result<()> {
        let begun = self.journal.phase;
        let swapped = match (begun, self.journal.method) {
            (Phase::Staged | Phase::Swapping | Phase::Swapped, Method::Root) => self.swap_root(),
            (Phase::Staged | Phase::MovingOut | Phase::MovingIn, Method::Entries) => self.swap_entries(),
            (Phase::Swapped, Method::Entries) => Ok(()),
            (phase, _) => {
                let phase = io::Error::other(format!("it is in phase {phase:?}"));
                return Err(self.error("there is nothing to swap", phase));
            }
        };
        match swapped {
            // Once it was complete, parts of the old content may be gone.
            Err(error) if begun != Phase::Swapped => Err(self.undo_after(error)),
            other => other,
        }
    }

    fn undo_after(&mut self, mut error: Error) -> Error {
        match self.undo() {
            Ok(()) => error.message.push_str("; the target is as it was before"),
            Err(undo) => {
                error.message = format!(
                    "{}; it could not be put back either ({undo}); the next start tries to finish or undo it",
                    error.message
                );
            }
        }
        error
    }

    /// Puts back what was there before, from whatever phase. Nothing staged can be swapped afterwards.
    pub fn undo(&mut self) -> Result<()> {
        match (self.journal.phase, self.journal.method) {
            (Phase::Staging | Phase::Staged, _) => {}
            (_, Method::Root) => self.undo_root()?,
            (_, Method::Entries) => self.undo_entries()?,
        }
        // Without a journal a staging directory is removed, whatever else is in it. Unlike a new phase this needs no
        // room, and nothing on the disk can ask for a swap any more while the staged content is being removed.
        self.staging.remove_journal().map_err(|e| self.error("cannot remove the journal", e))?;
        self.journal.phase = Phase::Staging;
        self.reached("journal removed")
    }

    /// Checks the target, then removes what was there before, and the staging directory.
    pub fn finish(&mut self) -> Result<()> {
        if self.journal.phase != Phase::Swapped {
            let phase = io::Error::other(format!("it is in phase {:?}", self.journal.phase));
            return Err(self.error("there is nothing to finish", phase));
        }
        let staged = self.staged()?;
        let stat = directory::stat(rustix::fs::CWD, self.target.as_os_str())
            .map_err(|e| self.error("cannot examine the target", e))?;
        if self.journal.method == Method::Root && stat.map(|s| s.st_ino) != Some(staged.staged_inode) {
            return Err(self.confused());
        }
        self.compare(&staged)?;
        self.reached("counted")?;
        let left = self.staging.remove_finished();
        self.name_left("what was there before the restore", &left);
        if self.journal.method == Method::Entries {
            // The staging directory was an entry of the target.
            let times = self.open_target().map(|target| staged.staged_root.apply_times(&target));
            if let Ok(Err(e)) = times {
                self.warnings.push(format!("cannot set the root's times: {}", io::Error::from(e)));
            }
        }
        Ok(())
    }

    fn compare(&mut self, staged: &Staged) -> Result<()> {
        let counted = directory::open(&self.target).and_then(|target| verify::count(&target));
        match counted {
            Ok(totals) if totals == staged.totals => Ok(()),
            Ok(totals) => {
                self.warnings.push(format!(
                    "restored were {}; now there are {totals}: something else has written there meanwhile",
                    staged.totals
                ));
                Ok(())
            }
            // The restored root's mode may forbid it, unless we are root.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(e) => Err(self.error("cannot count the restored content", e)),
        }
    }

    /// Leaves the target as it was before the restore, and removes everything else.
    pub fn give_up(&mut self) -> Result<()> {
        self.undo()?;
        let left = self.staging.remove();
        self.name_left("the staged content", &left);
        Ok(())
    }

    fn name_left(&mut self, what: &str, left: &Left) {
        if left.count > 0 {
            self.warnings.push(format!(
                "{what} could not be removed whole: {} entries ({}) are left in {}; remove it by hand",
                left.count,
                left.failures.join(", "),
                self.staging.path.display()
            ));
        }
    }

    /// Announces a phase in the journal.
    pub fn enter(&mut self, phase: Phase) -> Result<()> {
        let before = std::mem::replace(&mut self.journal.phase, phase);
        self.journal.store(&self.staging.directory).map_err(|e| {
            self.journal.phase = before;
            self.error("cannot write the journal", e)
        })?;
        self.reached("journal")
    }

    /// Makes all steps of a phase durable before the next is announced.
    pub fn sync(&self) -> Result<()> {
        directory::sync_file_system(&self.staging.directory)
            .map_err(|e| self.error("cannot write the swap to the disk", e))
    }

    /// A step is done.
    pub fn reached(&mut self, step: &str) -> Result<()> {
        (self.checkpoint)(step).map_err(|e| self.error(&format!("cannot go on after step '{step}'"), e))
    }

    pub fn staged(&self) -> Result<Staged> {
        self.journal.staged.clone().ok_or_else(|| self.confused())
    }

    pub fn open_target(&self) -> Result<OwnedFd> {
        directory::open(&self.target).map_err(|e| self.error("cannot open the target", e))
    }

    pub fn error(&self, what: &str, source: impl Into<io::Error>) -> Error {
        Error::io(
            format!("restore of {} in {}: {what}", self.target.display(), self.staging.path.display()),
            source,
        )
    }

    /// What lies there is neither the old nor the new state. Nothing is removed then.
    pub fn confused(&self) -> Error {
        Error::new(
            ErrorKind::Damaged,
            format!(
                "the interrupted restore of {} cannot be finished or undone: something else was changed there \
                 meanwhile; compare it with what lies in {}, put right what is wrong, then remove that directory",
                self.target.display(),
                self.staging.path.display()
            ),
        )
    }
}
