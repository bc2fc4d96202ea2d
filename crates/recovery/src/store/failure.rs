//! Errors of the layers below, turned into the domain's: one function for each layer, and no other place does it.

use components::ErrorKind as Part;
use repository::ErrorKind as Engine;
use storage::ErrorKind as Place;

use crate::{Error, ErrorKind};

/// An error of the place that keeps the store.
pub(crate) fn storage(error: storage::Error) -> Error {
    let (kind, hint) = match error.kind {
        Place::NoSpace => (ErrorKind::NoSpace, ""),
        Place::Forbidden => (ErrorKind::LeaseLost, ""),
        Place::Short | Place::TooLarge => (ErrorKind::Damaged, ""),
        Place::NotFound | Place::Io => (
            ErrorKind::StoreUnreachable,
            "; check that the store's disk or share is mounted and works, then try again",
        ),
        Place::Denied => (
            ErrorKind::StoreUnreachable,
            "; check that the server's account may read and write there, then try again",
        ),
        Place::Exists | Place::Precondition | Place::Invalid => (ErrorKind::Internal, ""),
    };
    Error::new(kind, format!("{error}{hint}")).because(error)
}

/// An error of the engine; `what` was tried, like "cannot open the vault of backup 'a'".
pub(crate) fn engine(what: &str, error: repository::Error) -> Error {
    Error::new(engine_kind(error.kind), format!("{what}: {error}")).because(error)
}

fn engine_kind(kind: Engine) -> ErrorKind {
    match kind {
        Engine::WrongPasscode => ErrorKind::PasscodeWrong,
        Engine::Damaged | Engine::NotFound | Engine::NoRepository => ErrorKind::Damaged,
        Engine::UnsupportedVersion => ErrorKind::Incompatible,
        Engine::Cancelled => ErrorKind::Cancelled,
        Engine::NoSpace => ErrorKind::NoSpace,
        Engine::Forbidden | Engine::LockLost => ErrorKind::LeaseLost,
        Engine::Locked => ErrorKind::Busy,
        Engine::Denied | Engine::Io => ErrorKind::StoreUnreachable,
        Engine::Exists | Engine::Ambiguous | Engine::Invalid | Engine::Source => ErrorKind::Internal,
    }
}

/// An error of a component; its message names what failed already, the component's name is put before it.
pub(crate) fn component(name: &str, error: components::Error) -> Error {
    let kind = match (error.kind, &error.source) {
        (Part::Selection, _) => ErrorKind::ParameterInvalid,
        (Part::NoSpace, _) => ErrorKind::NoSpace,
        (Part::Cancelled, _) => ErrorKind::Cancelled,
        (Part::Forbidden, _) => ErrorKind::LeaseLost,
        (_, Some(source)) => engine_kind(source.kind),
        (Part::Damaged, None) => ErrorKind::Damaged,
        (Part::Missing | Part::Hook, None) => ErrorKind::Configuration,
        (Part::Io, None) => ErrorKind::Internal,
    };
    Error::new(kind, format!("component '{name}': {error}")).because(error)
}

/// Something in the store is damaged, forged or missing; named by its key.
pub(crate) fn damaged(key: &str, reason: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("'{key}' in the store is damaged: {reason}"))
}
