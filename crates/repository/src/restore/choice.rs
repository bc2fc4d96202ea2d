//! Which entries of a snapshot are restored.

use crate::Patterns;

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
            Self::Only(patterns) if directory == Fate::Restored || patterns.fits(path) => Fate::Restored,
            Self::Only(_) if is_dir => Fate::Passed,
            Self::Only(_) => Fate::LeftOut,
        }
    }

    /// The fate of the target itself.
    pub(super) fn of_target(&self) -> Fate {
        if matches!(self, Self::Only(_)) { Fate::Passed } else { Fate::Restored }
    }
}
