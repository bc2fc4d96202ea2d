//! What can go wrong with a component, by what a caller may decide upon it.

use std::fmt::Display;
use std::io;

/// Result of a component's call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The content's root is missing, or is no directory.
    Missing,
    /// A hook failed or took too long.
    Hook,
    /// The file system of the target, or the store, is full.
    NoSpace,
    /// The work was cancelled.
    Cancelled,
    /// The backup, or the journal of a restore, is damaged.
    Damaged,
    /// The right to go on was withdrawn: lease or lock lost.
    Forbidden,
    /// What was to be restored is not in the backup, or not to be had alone or under that name.
    Selection,
    /// Anything else.
    Io,
}

/// A failed call. `Display` gives the full message for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What a caller may decide on.
    pub kind: ErrorKind,
    /// What failed, on what, why, what to do.
    pub message: String,
    /// The engine's error, where it is the cause.
    #[source]
    pub source: Option<repository::Error>,
}

impl Error {
    /// An error of our own.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// An error made of the system's answer; `what` failed, like "cannot open /srv/content".
    pub fn io(what: impl Display, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            _ => ErrorKind::Io,
        };
        Self::new(kind, format!("{what}: {source}"))
    }

    /// An error of the engine; `what` failed, like "cannot back up 'content'".
    pub fn engine(what: impl Display, source: repository::Error) -> Self {
        use repository::ErrorKind as Engine;
        // The engine was only told that the source failed.
        if source.kind == Engine::Source {
            return Self::new(ErrorKind::Io, format!("{what}: {}", source.message));
        }
        let kind = match source.kind {
            Engine::NoSpace => ErrorKind::NoSpace,
            Engine::Cancelled => ErrorKind::Cancelled,
            Engine::Damaged | Engine::NotFound | Engine::NoRepository => ErrorKind::Damaged,
            Engine::Forbidden | Engine::LockLost => ErrorKind::Forbidden,
            _ => ErrorKind::Io,
        };
        Self { kind, message: format!("{what}: {}", source.message), source: Some(source) }
    }
}
