//! The swap by the root: two directories change places in one step where the file system can do that, else by two
//! renames; where there was nothing, one rename is enough.
//!
//! Which of it has happened is told by inode numbers, never by the journal alone: an exchange made twice
//! would undo itself.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::RenameFlags;
use rustix::io::Errno;

use super::directory;
use super::journal::{Method, Phase};
use super::staging::{NEW, OLD};
use super::swap::Swap;
use crate::Result;

/// The most steps that either way takes.
const STEPS_MAX: u32 = 4;

/// Which inode is at each of the three names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    target: Option<u64>,
    new: Option<u64>,
    old: Option<u64>,
}

/// Why a root was not swapped.
enum Stop {
    /// The system says that this root cannot be renamed as a whole.
    RootStays,
    Failed(crate::Error),
}

impl Swap {
    pub(super) fn swap_root(&mut self) -> Result<()> {
        if self.journal.phase == Phase::Staged {
            self.enter(Phase::Swapping)?;
        }
        match self.root_forward() {
            Ok(()) if self.journal.phase == Phase::Swapped => Ok(()),
            Ok(()) => {
                self.sync()?;
                self.enter(Phase::Swapped)
            }
            Err(Stop::RootStays) => {
                self.move_staging_inside()?;
                self.swap_entries()
            }
            Err(Stop::Failed(error)) => Err(error),
        }
    }

    fn root_forward(&mut self) -> Result<(), Stop> {
        let staged = self.staged().map_err(Stop::Failed)?;
        let parent = self.open_parent().map_err(Stop::Failed)?;
        for _ in 0..STEPS_MAX {
            let seen = self.look(&parent).map_err(Stop::Failed)?;
            if seen.target == Some(staged.staged_inode) {
                return Ok(());
            }
            if seen.new != Some(staged.staged_inode) {
                return Err(Stop::Failed(self.confused()));
            }
            let step = match seen.target {
                None => ("bring in", self.rename((&self.staging.directory, NEW), (&parent, None))),
                Some(target) if Some(target) == staged.old_inode => self.replace_root(&parent),
                Some(_) => {
                    let changed =
                        io::Error::other("it was replaced by another directory while the restore ran");
                    return Err(Stop::Failed(self.error("the target is not what it was", changed)));
                }
            };
            match step {
                (name, Ok(())) => self.reached(name).map_err(Stop::Failed)?,
                (_, Err(Errno::BUSY | Errno::XDEV)) if seen.old.is_none() => return Err(Stop::RootStays),
                (name, Err(e)) => {
                    return Err(Stop::Failed(self.error(&format!("cannot {name} the content"), e)));
                }
            }
        }
        Err(Stop::Failed(self.confused()))
    }

    fn replace_root(&self, parent: &OwnedFd) -> (&'static str, Result<(), Errno>) {
        match self.exchange_roots(parent) {
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
            other => return ("exchange", other),
        }
        ("set aside", self.rename((parent, ""), (&self.staging.directory, Some(OLD))))
    }

    pub(super) fn undo_root(&mut self) -> Result<()> {
        if self.journal.phase != Phase::PuttingBack {
            self.enter(Phase::PuttingBack)?;
        }
        let staged = self.staged()?;
        let parent = self.open_parent()?;
        for _ in 0..STEPS_MAX {
            let seen = self.look(&parent)?;
            let new_is_out = seen.new == Some(staged.staged_inode) && seen.target != seen.new;
            let step = if new_is_out && seen.old.is_none() {
                return self.sync();
            } else if new_is_out && seen.target.is_none() && seen.old == staged.old_inode {
                ("put back", self.rename((&self.staging.directory, OLD), (&parent, None)))
            } else if seen.target != Some(staged.staged_inode) {
                return Err(self.confused());
            } else if seen.new.is_some() && seen.new == staged.old_inode {
                ("exchange", self.exchange_roots(&parent))
            } else if seen.new.is_none() && (staged.old_inode.is_none() || seen.old == staged.old_inode) {
                ("take out", self.rename((&parent, ""), (&self.staging.directory, Some(NEW))))
            } else {
                return Err(self.confused());
            };
            step.1.map_err(|e| self.error(&format!("cannot {} the content", step.0), e))?;
            self.reached(step.0)?;
        }
        Err(self.confused())
    }

    /// The kernel will not rename this root although it looked as if it would: go on with its entries.
    fn move_staging_inside(&mut self) -> Result<()> {
        self.journal.method = Method::Entries;
        self.enter(Phase::Staged)?;
        let target = self.target.clone();
        self.staging.move_into(&target).map_err(|e| {
            self.error("neither the target can be renamed, nor the staged content moved into it", e)
        })?;
        self.sync()?;
        self.reached("move inside")
    }

    /// An empty name stands for the target's own.
    fn rename(&self, from: (&OwnedFd, &str), to: (&OwnedFd, Option<&str>)) -> Result<(), Errno> {
        let own = self.target_name();
        let name = if from.1.is_empty() { own } else { OsStr::new(from.1) };
        directory::rename(from.0, name, to.0, to.1.map_or(own, OsStr::new))
    }

    fn exchange_roots(&self, parent: &OwnedFd) -> Result<(), Errno> {
        if let Some(errno) = self.exchange_refused {
            return Err(errno);
        }
        let flags = RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(parent, self.target_name(), &self.staging.directory, NEW, flags)
    }

    fn target_name(&self) -> &OsStr {
        self.target.file_name().unwrap_or_default()
    }

    fn open_parent(&self) -> Result<OwnedFd> {
        let parent = self.target.parent().unwrap_or(&self.target);
        directory::open(parent).map_err(|e| self.error("cannot open the directory above the target", e))
    }

    fn look(&self, parent: &OwnedFd) -> Result<Seen> {
        let look = || {
            let staging = &self.staging.directory;
            let device = rustix::fs::fstat(staging)?.st_dev;
            // Inode 0 is nobody's: something of another file system is nothing that we know.
            let inode = |directory: &OwnedFd, name: &OsStr| {
                let stat = directory::stat(directory, name)?;
                io::Result::Ok(stat.map(|s| if s.st_dev == device { s.st_ino } else { 0 }))
            };
            io::Result::Ok(Seen {
                target: inode(parent, self.target_name())?,
                new: inode(staging, OsStr::new(NEW))?,
                old: inode(staging, OsStr::new(OLD))?,
            })
        };
        look().map_err(|e| self.error("cannot examine the target", e))
    }
}
