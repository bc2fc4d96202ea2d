//! The swap by entries, for a root that cannot be renamed: first everything that is there moves out into
//! `old`, then everything staged moves in, then the root gets its metadata.
//!
//! What an entry is follows from the phase and from where it lies; no list of names is kept. While moving out,
//! nothing staged is in the target, so all that is found there is old. While moving in, all that is still in `new` is
//! staged, and an old entry in its way can only have been made since. So each phase can be repeated after a
//! kill, with any number of entries and with names of any bytes. Each phase is made durable before the next.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::journal::Phase;
use super::metadata::RootMetadata;
use super::staging::{NEW, OLD, UNDONE};
use super::swap::Swap;
use super::{directory, is_kept};
use crate::Result;

/// How often entries that somebody makes meanwhile are moved away, before that is given up.
const ROUNDS_MAX: u32 = 16;

impl Swap {
    pub(super) fn swap_entries(&mut self) -> Result<()> {
        let target = self.open_target()?;
        let staged = self.staged()?;
        if self.journal.phase == Phase::Staged {
            self.enter(Phase::MovingOut)?;
        }
        if self.journal.phase == Phase::MovingOut {
            self.empty_into(&target, OLD)?;
            self.sync()?;
            self.enter(Phase::MovingIn)?;
        }
        self.move_in(&target)?;
        self.apply_root(&target, &staged.staged_root);
        self.reached("root metadata")?;
        self.sync()?;
        self.enter(Phase::Swapped)
    }

    pub(super) fn undo_entries(&mut self) -> Result<()> {
        let target = self.open_target()?;
        let staged = self.staged()?;
        match self.journal.phase {
            Phase::TakingOut | Phase::PuttingBack => {}
            // What has not moved out yet must stay.
            Phase::MovingOut => self.enter(Phase::PuttingBack)?,
            _ => self.enter(Phase::TakingOut)?,
        }
        if self.journal.phase == Phase::TakingOut {
            self.empty_into(&target, UNDONE)?;
            self.sync()?;
            self.enter(Phase::PuttingBack)?;
        }
        self.put_back(&target)?;
        if let Some(old_root) = &staged.old_root {
            self.apply_root(&target, old_root);
        }
        self.sync()
    }

    /// Moves all entries of the target into numbered directories of `place`. Each pass has its own, so
    /// that a name which comes back meanwhile finds room.
    fn empty_into(&mut self, target: &OwnedFd, place: &str) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            let names = self.entries(target)?;
            if names.is_empty() {
                return Ok(());
            }
            let aside = self.numbered(place)?;
            for name in names {
                match directory::rename(target, &name, &aside, &name) {
                    Ok(()) | Err(Errno::NOENT) => self.reached("move out")?,
                    Err(e) => return Err(self.error(&format!("cannot move {name:?} out of the target"), e)),
                }
            }
        }
        let busy = io::Error::other("something goes on writing there; stop it for the time of the restore");
        Err(self.error("cannot empty the target", busy))
    }

    fn move_in(&mut self, target: &OwnedFd) -> Result<()> {
        let new = directory::open_for_change(&self.staging.directory, OsStr::new(NEW))
            .map_err(|e| self.error("cannot open the staged content", e))?;
        for name in self.entries(&new)? {
            self.move_one_in(&new, target, &name)?;
            self.reached("move in")?;
        }
        Ok(())
    }

    fn move_one_in(&mut self, new: &OwnedFd, target: &OwnedFd, name: &OsStr) -> Result<()> {
        for _ in 0..ROUNDS_MAX {
            match directory::rename(new, name, target, name) {
                Ok(()) => return Ok(()),
                // Made after the target was emptied: as old as what was there before.
                Err(Errno::EXIST) => {
                    let aside = self.numbered(OLD)?;
                    match directory::rename(target, name, &aside, name) {
                        Ok(()) | Err(Errno::NOENT) => {}
                        Err(e) => {
                            return Err(self.error(&format!("cannot move {name:?} out of the target"), e));
                        }
                    }
                }
                Err(e) => return Err(self.error(&format!("cannot move {name:?} into the target"), e)),
            }
        }
        let busy =
            io::Error::other("something keeps making one of that name; stop it for the time of the restore");
        Err(self.error(&format!("cannot move {name:?} into the target"), busy))
    }

    fn put_back(&mut self, target: &OwnedFd) -> Result<()> {
        let old = self.make(OLD)?;
        for number in 0.. {
            let name = OsString::from(number.to_string());
            let opened = match directory::open_at(&old, &name) {
                Ok(opened) => opened,
                Err(e) if e.kind() == io::ErrorKind::NotFound => break,
                Err(e) => return Err(self.error("cannot open what was there before", e)),
            };
            for name in self.entries(&opened)? {
                match directory::rename(&opened, &name, target, &name) {
                    Ok(()) => {}
                    // The oldest one of a name is what was there before the restore; later ones were made during it.
                    Err(Errno::EXIST) => self.warnings.push(format!(
                        "{name:?} was made again while the restore ran; what was there before it is kept"
                    )),
                    Err(e) => return Err(self.error(&format!("cannot put {name:?} back"), e)),
                }
                self.reached("put back")?;
            }
        }
        Ok(())
    }

    fn apply_root(&mut self, target: &OwnedFd, metadata: &RootMetadata) {
        let failures = metadata.apply(target);
        self.warnings.extend(failures.into_iter().map(|failure| format!("of the root itself: {failure}")));
    }

    fn entries(&self, directory: impl AsFd) -> Result<Vec<OsString>> {
        let mut names = directory::names(directory).map_err(|e| self.error("cannot list entries", e))?;
        names.retain(|name| !is_kept(name));
        Ok(names)
    }

    /// A new directory below `place`, named by the first number that is free.
    fn numbered(&self, place: &str) -> Result<OwnedFd> {
        let place = self.make(place)?;
        for number in 0_u64.. {
            match directory::make(&place, OsStr::new(&number.to_string())) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other.map_err(|e| self.error("cannot make room for what is there", e)),
            }
        }
        Err(self.confused())
    }

    fn make(&self, name: &str) -> Result<OwnedFd> {
        self.staging.make(name).map_err(|e| self.error("cannot make room for what is there", e))
    }
}
