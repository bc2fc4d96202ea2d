//! What the server or its tools say, as errors of ours.

use std::fmt::Display;

use crate::{Error, ErrorKind};

/// `what` failed, like "cannot list the databases".
pub(super) fn server(what: impl Display, error: &postgres::Error) -> Error {
    use postgres::error::SqlState;
    let Some(said) = error.as_db_error() else {
        let mut reason = error.to_string();
        if let Some(source) = std::error::Error::source(error) {
            reason = source.to_string();
        }
        return Error::new(ErrorKind::Io, format!("{what}: {reason}"));
    };
    let kind = match *said.code() {
        SqlState::DISK_FULL => ErrorKind::NoSpace,
        SqlState::INVALID_CATALOG_NAME => ErrorKind::Missing,
        _ => ErrorKind::Io,
    };
    let code = said.code().code();
    // In what is said of values they stand themselves: `invalid input syntax for type json: "…"`, `Failing row contains (…)`.
    let of_values = code.starts_with("22") || code.starts_with("23");
    let told = match of_values {
        true => said.message().split(": \"").next().unwrap_or_default(),
        false => said.message(),
    };
    let mut message = format!("{what}: {told} (SQLSTATE {code})");
    for more in [said.detail().filter(|_| !of_values), said.hint()].into_iter().flatten() {
        message.push_str("; ");
        message.push_str(more);
    }
    if *said.code() == SqlState::INSUFFICIENT_PRIVILEGE {
        message.push_str("; docs/postgresql.md lists the rights that the role needs");
    }
    Error::new(kind, message)
}

/// For a closure that writes content: the message alone survives.
pub(super) fn source(what: impl Display, error: &postgres::Error) -> std::io::Error {
    std::io::Error::other(server(what, error).message)
}

pub(super) fn other(error: Error) -> std::io::Error {
    std::io::Error::other(error.message)
}
