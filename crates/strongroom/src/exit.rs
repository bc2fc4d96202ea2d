//! How the command ends: every exit code in one place, and what an error looks like to the person who reads it.
//!
//! A command returns `anyhow::Result<Exit>`. Errors of the crates below keep their type on the way up, so that
//! [`classify`] can decide by their kind; messages of our own that need a certain code are a [`Failure`].

use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::{client, terminal};

/// The exit codes that scripts may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed; nothing changed, or rolled back.
    Failed = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Done, but some source data could not be read (named on standard error).
    Incomplete = 3,
    /// There is no such repository or store.
    NoRepository = 10,
    /// Somebody else holds the lock.
    Locked = 11,
    /// The passcode does not open it.
    WrongPasscode = 12,
    /// Damaged data was found.
    Damaged = 13,
    /// Interrupted.
    Interrupted = 130,
}

/// An error of the command itself: its exit code, what is wrong, and what to do about it.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
    hints: Vec<String>,
}

impl Failure {
    /// A failure that ends with this exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hints: Vec::new() }
    }

    /// Wrong usage or configuration.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds one line of advice.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl Exit {
    /// What is said where the command ends without an error of its own: what is wrong was named before.
    fn sentence(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "it failed",
            Self::Usage => "wrong usage",
            Self::Incomplete => "done, but not with everything: what could not be read or set is named above",
            Self::NoRepository => "there is no such repository or store",
            Self::Locked => "somebody else holds the lock",
            Self::WrongPasscode => "the passcode does not open it",
            Self::Damaged => "damaged data was found; it is named above",
            Self::Interrupted => "interrupted",
        }
    }
}

/// What became of the command.
pub struct Outcome {
    /// How it ended, or why it failed.
    pub result: anyhow::Result<Exit>,
    /// Whoever started it reads JSON.
    pub in_json: bool,
}

/// Tells what went wrong, if anything did, on standard error and gives the process its exit code.
pub fn report(outcome: Outcome) -> ExitCode {
    let exit = if outcome.in_json { report_in_json(outcome.result) } else { report_in_words(outcome.result) };
    ExitCode::from(exit as u8)
}

/// One line in restic's form, with the advice at the end of the message as restic has it.
fn report_in_json(result: anyhow::Result<Exit>) -> Exit {
    let (exit, message) = match result {
        Ok(exit) => (exit, exit.sentence().to_owned()),
        Err(error) if is_broken_pipe(&error) => (Exit::Done, String::new()),
        Err(error) => match classify(&error) {
            Exit::Interrupted => (Exit::Interrupted, interruption(&error)),
            exit => (
                exit,
                std::iter::once(message_of(&error)).chain(hints_of(&error)).collect::<Vec<_>>().join("\n"),
            ),
        },
    };
    if exit != Exit::Done {
        terminal::note(exit_error(exit, &message));
    }
    exit
}

/// The last line of a command that failed, for who reads JSON.
pub fn exit_error(exit: Exit, message: &str) -> serde_json::Value {
    serde_json::json!({"message_type": "exit_error", "code": exit as u8, "message": message})
}

fn report_in_words(result: anyhow::Result<Exit>) -> Exit {
    match result {
        Ok(exit) => exit,
        // Whoever read our output has gone (`strongroom … | head`): nothing is left to be said.
        Err(error) if is_broken_pipe(&error) => Exit::Done,
        Err(error) if classify(&error) == Exit::Interrupted => {
            terminal::note(interruption(&error));
            Exit::Interrupted
        }
        Err(error) => {
            let paint = terminal::paint_for_stderr();
            terminal::note(format!("{} {}", paint.red("error:"), message_of(&error)));
            for hint in hints_of(&error) {
                terminal::note(format!("{} {hint}", paint.dim("hint:")));
            }
            classify(&error)
        }
    }
}

/// The exit code that an error stands for: the outermost cause that has a kind decides.
pub fn classify(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.exit;
        }
        if let Some(e) = cause.downcast_ref::<client::Error>() {
            return e.exit();
        }
        if let Some(e) = cause.downcast_ref::<recovery::Error>() {
            return of_recovery(e.kind);
        }
        if let Some(e) = cause.downcast_ref::<components::Error>() {
            return of_component(e.kind);
        }
        if let Some(e) = cause.downcast_ref::<repository::Error>() {
            return of_repository(e.kind);
        }
    }
    Exit::Failed
}

fn of_repository(kind: repository::ErrorKind) -> Exit {
    use repository::ErrorKind as Kind;
    match kind {
        Kind::NoRepository => Exit::NoRepository,
        Kind::Locked | Kind::LockLost => Exit::Locked,
        Kind::WrongPasscode => Exit::WrongPasscode,
        Kind::Damaged => Exit::Damaged,
        Kind::Cancelled => Exit::Interrupted,
        Kind::Invalid | Kind::Ambiguous => Exit::Usage,
        _ => Exit::Failed,
    }
}

fn of_component(kind: components::ErrorKind) -> Exit {
    match kind {
        components::ErrorKind::Damaged => Exit::Damaged,
        components::ErrorKind::Selection => Exit::Usage,
        components::ErrorKind::Cancelled => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

fn of_recovery(kind: recovery::ErrorKind) -> Exit {
    use recovery::ErrorKind as Kind;
    match kind {
        Kind::StoreNotFound | Kind::StoreUnreachable => Exit::NoRepository,
        Kind::PasscodeWrong => Exit::WrongPasscode,
        Kind::Damaged => Exit::Damaged,
        Kind::Cancelled => Exit::Interrupted,
        Kind::AlreadyRunning | Kind::Busy | Kind::StoreInUse | Kind::BackupInUse | Kind::LeaseLost => {
            Exit::Locked
        }
        Kind::Configuration
        | Kind::ParameterMissing
        | Kind::ParameterInvalid
        | Kind::NameInvalid
        | Kind::PasscodeShort
        | Kind::RetentionInvalid
        | Kind::NotSupported => Exit::Usage,
        _ => Exit::Failed,
    }
}

/// What is said after Ctrl-C: what the command has to say of it, or the plain word.
fn interruption(error: &anyhow::Error) -> String {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.to_string(),
        None => Exit::Interrupted.sentence().to_owned(),
    }
}

/// All causes in one line. A cause whose text is already there (many errors tell their cause themselves) is left out.
fn message_of(error: &anyhow::Error) -> String {
    let mut message = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if message.contains(&text) {
            continue;
        }
        if !message.is_empty() {
            message.push_str(": ");
        }
        message.push_str(&text);
    }
    message
}

fn hints_of(error: &anyhow::Error) -> Vec<String> {
    for cause in error.chain() {
        if let Some(failure) = cause.downcast_ref::<Failure>() {
            return failure.hints.clone();
        }
        if let Some(e) = cause.downcast_ref::<client::Error>() {
            return e.hints();
        }
        if let Some(e) = cause.downcast_ref::<recovery::Error>() {
            return e.details.clone();
        }
        if let Some(e) = cause.downcast_ref::<repository::Error>() {
            return hint_for_repository(e.kind).map(str::to_owned).into_iter().collect();
        }
    }
    Vec::new()
}

fn hint_for_repository(kind: repository::ErrorKind) -> Option<&'static str> {
    use repository::ErrorKind as Kind;
    match kind {
        Kind::NoRepository => Some("check the location; `strongroom repo init` makes a new repository"),
        Kind::Locked => Some(
            "wait for the other work to end; `strongroom repo unlock` removes locks of dead processes of this machine, and those of more than half an hour ago",
        ),
        Kind::WrongPasscode => {
            Some("a repository opens with the passcode that it was made with; without it nobody can read it")
        }
        _ => None,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|e| e.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    fn repository_error(kind: repository::ErrorKind) -> anyhow::Error {
        repository::Error { kind, message: "it failed".to_owned(), source: None }.into()
    }

    #[test]
    fn every_promised_exit_code_has_its_number() {
        let codes = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Incomplete, 3),
            (Exit::NoRepository, 10),
            (Exit::Locked, 11),
            (Exit::WrongPasscode, 12),
            (Exit::Damaged, 13),
            (Exit::Interrupted, 130),
        ];
        for (exit, number) in codes {
            assert_eq!(exit as u8, number);
        }
    }

    #[test]
    fn errors_of_the_engine_end_with_the_code_of_their_kind_also_below_a_context() {
        use repository::ErrorKind as Kind;
        for (kind, exit) in [
            (Kind::NoRepository, Exit::NoRepository),
            (Kind::Locked, Exit::Locked),
            (Kind::WrongPasscode, Exit::WrongPasscode),
            (Kind::Damaged, Exit::Damaged),
            (Kind::Cancelled, Exit::Interrupted),
            (Kind::NoSpace, Exit::Failed),
        ] {
            let error = Err::<(), _>(repository_error(kind)).context("while testing").unwrap_err();
            assert_eq!(classify(&error), exit, "{kind:?}");
        }
    }

    #[test]
    fn errors_of_the_domain_end_with_the_code_of_their_kind() {
        use recovery::ErrorKind as Kind;
        for (kind, exit) in [
            (Kind::StoreUnreachable, Exit::NoRepository),
            (Kind::PasscodeWrong, Exit::WrongPasscode),
            (Kind::Damaged, Exit::Damaged),
            (Kind::AlreadyRunning, Exit::Locked),
            (Kind::Configuration, Exit::Usage),
            (Kind::Internal, Exit::Failed),
        ] {
            assert_eq!(classify(&recovery::Error::new(kind, "it failed").into()), exit, "{kind:?}");
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let error: anyhow::Error = io::Error::from(io::ErrorKind::BrokenPipe).into();
        assert!(is_broken_pipe(&error));
        assert!(!is_broken_pipe(&repository_error(repository::ErrorKind::Io)));
    }

    #[test]
    fn a_message_does_not_repeat_a_cause_that_it_already_tells() {
        let error =
            anyhow::Error::from(io::Error::other("disk on fire")).context("cannot write: disk on fire");
        assert_eq!(message_of(&error), "cannot write: disk on fire");
        let error = anyhow::Error::from(io::Error::other("disk on fire")).context("cannot write");
        assert_eq!(message_of(&error), "cannot write: disk on fire");
    }
}
