//! What can go wrong with a store, by what a caller may decide upon it.

use std::io;

/// Result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a caller may decide on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such object, or the whole place is gone.
    NotFound,
    /// An object of that key is there already.
    Exists,
    /// The object is not the version that was expected.
    Precondition,
    /// The place is full, or a quota is.
    NoSpace,
    /// The place refuses us.
    Denied,
    /// The object is shorter than the range asked for.
    Short,
    /// The object is longer than the caller allows.
    TooLarge,
    /// The key or the place is not one that this backend can hold.
    Invalid,
    /// The permit for writing was withdrawn: lease lost, cancelled, or stopping.
    Forbidden,
    /// Anything else: an I/O error.
    Io,
}

/// A failed storage call: what was tried, on which object, where and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {reason}", place(key, location))]
pub struct Error {
    /// What a caller may decide on.
    pub kind: ErrorKind,
    /// The verb, like `read`.
    pub operation: &'static str,
    /// The object's key; empty when the place itself failed.
    pub key: String,
    /// The place.
    pub location: String,
    /// Why, for people.
    pub reason: String,
    /// The system's error, where there is one.
    #[source]
    pub source: Option<io::Error>,
}

/// The object, or the place itself where no object is meant.
fn place(key: &str, location: &str) -> String {
    if key.is_empty() { location.to_owned() } else { format!("'{key}' in {location}") }
}

impl Error {
    /// An error without a system error below it.
    pub fn new(
        kind: ErrorKind,
        operation: &'static str,
        key: &str,
        location: &str,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            operation,
            key: key.to_owned(),
            location: location.to_owned(),
            reason: reason.into(),
            source: None,
        }
    }

    /// An error made of the system's answer.
    pub fn io(operation: &'static str, key: &str, location: &str, source: io::Error) -> Self {
        let kind = match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ErrorKind::NotFound,
            io::ErrorKind::AlreadyExists => ErrorKind::Exists,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => ErrorKind::Denied,
            _ => ErrorKind::Io,
        };
        let reason = match kind {
            ErrorKind::NoSpace => "no space left; free some room there and try again".to_owned(),
            _ => source.to_string(),
        };
        Self {
            kind,
            operation,
            key: key.to_owned(),
            location: location.to_owned(),
            reason,
            source: Some(source),
        }
    }
}
