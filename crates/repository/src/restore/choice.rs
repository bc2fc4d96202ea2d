//! Which entries of a snapshot are restored, and over what.

use std::os::fd::BorrowedFd;

use crate::Patterns;
use crate::posix;
use crate::tree::Node;

/// What is chosen by patterns over paths below the target, as `/a/b`. A directory is chosen with all that lies in it.
#[derive(Clone, Debug, Default)]
pub enum Choice {
    /// Everything.
    #[default]
    All,
    /// What fits; directories on the way to it are made too.
    Only(Patterns),
    /// What does not fit.
    Without(Patterns),
}

/// What becomes of an entry of the target where the snapshot has one of the same name. Directories are always merged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Existing {
    /// It is made equal. A regular file is read, and what is wrong of it is written.
    #[default]
    MadeEqual,
    /// The same, but a regular file whose size and time of change fit is taken for equal and not read.
    MadeEqualUnlessAlike,
    /// One that is as young as the snapshot's, or younger, is kept as it is.
    KeptIfYounger,
    /// It is kept as it is, directories with their metadata too.
    Kept,
}

impl Existing {
    /// Whether what has the node's name in `dir` is kept as it is.
    pub(super) fn keeps(self, dir: BorrowedFd<'_>, node: &Node) -> bool {
        match self {
            Self::MadeEqual | Self::MadeEqualUnlessAlike => false,
            Self::KeptIfYounger => {
                posix::stat_at(dir, &node.name).is_ok_and(|stat| posix::mtime(&stat) >= node.mtime)
            }
            Self::Kept => posix::stat_at(dir, &node.name).is_ok(),
        }
    }

    /// Whether a file or link may go that stands where the snapshot has a directory.
    pub(super) fn gives_way_to_directories(self) -> bool {
        matches!(self, Self::MadeEqual | Self::MadeEqualUnlessAlike)
    }

    /// Whether a regular file that is there is taken for equal without reading it.
    pub(super) fn trusts(self, stat: &rustix::fs::Stat, node: &Node, size: u64) -> bool {
        self == Self::MadeEqualUnlessAlike
            && stat.st_size as u64 == size
            && posix::mtime(stat) == node.mtime
            && posix::kind(stat) == node.kind
    }
}

/// What becomes of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Restored,
    /// A directory that is not chosen, but perhaps something in it.
    Passed,
    LeftOut,
}

impl Choice {
    /// The fate of the entry at `path` in a directory that is itself restored or passed.
    pub(super) fn fate(&self, path: &[u8], is_dir: bool, directory: Fate) -> Fate {
        match self {
            Self::All => Fate::Restored,
            Self::Without(patterns) if patterns.fits(path) => Fate::LeftOut,
            Self::Without(_) => Fate::Restored,
            // Below what is chosen a pattern with `!` takes back.
            Self::Only(patterns) if patterns.says(path).unwrap_or(directory == Fate::Restored) => {
                Fate::Restored
            }
            Self::Only(_) if is_dir => Fate::Passed,
            Self::Only(_) => Fate::LeftOut,
        }
    }

    /// The fate of the target itself.
    pub(super) fn of_target(&self) -> Fate {
        if matches!(self, Self::Only(_)) { Fate::Passed } else { Fate::Restored }
    }
}
