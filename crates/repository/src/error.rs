//! What can go wrong in the engine, by what a caller may decide upon it.

use storage::ErrorKind as StorageKind;

/// Result of an engine call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no repository at the place.
    NoRepository,
    /// There is a repository already.
    Exists,
    /// A repository of a version that this engine does not know.
    UnsupportedVersion,
    /// No key file opens with the passcode.
    WrongPasscode,
    /// Another client holds a conflicting lock.
    Locked,
    /// Our own lock could not be refreshed in time; the work must stop.
    LockLost,
    /// A stored file is damaged, or a needed one is missing.
    Damaged,
    /// No such snapshot, or path inside one.
    NotFound,
    /// A prefix that fits several snapshots.
    Ambiguous,
    /// The caller cancelled.
    Cancelled,
    /// No room in the store or on the target.
    NoSpace,
    /// The store refuses us, or the target's rights do.
    Denied,
    /// The permit for writing was withdrawn.
    Forbidden,
    /// What was to be backed up could not be read, or not be named; the store is well.
    Source,
    /// A parameter is impossible.
    Invalid,
    /// Any other I/O error.
    Io,
}

/// A failed engine call; `Display` is the whole message for people.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What a caller may decide on.
    pub kind: ErrorKind,
    /// What failed, on what, why, and what to do.
    pub message: String,
    /// The cause.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a message alone.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// A stored file that cannot be right.
    pub fn damaged(file: impl std::fmt::Display, problem: impl std::fmt::Display) -> Self {
        Self::new(ErrorKind::Damaged, format!("{file} is damaged: {problem}"))
    }

    /// A failed system call on a path of the source or target.
    pub fn path(what: &str, path: impl std::fmt::Display, source: impl Into<std::io::Error>) -> Self {
        let source = source.into();
        let kind = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::ReadOnlyFilesystem => {
                ErrorKind::Denied
            }
            std::io::ErrorKind::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        Self { kind, message: format!("cannot {what} '{path}': {source}"), source: Some(Box::new(source)) }
    }
}

impl From<storage::Error> for Error {
    fn from(source: storage::Error) -> Self {
        let kind = match source.kind {
            StorageKind::NoSpace => ErrorKind::NoSpace,
            StorageKind::Denied => ErrorKind::Denied,
            StorageKind::Forbidden => ErrorKind::Forbidden,
            StorageKind::Short | StorageKind::TooLarge => ErrorKind::Damaged,
            StorageKind::Exists => ErrorKind::Exists,
            _ => ErrorKind::Io,
        };
        Self { kind, message: source.to_string(), source: Some(Box::new(source)) }
    }
}
