//! One error for everything that the domain refuses or fails at, by what a caller may decide on.

/// Result of a domain call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong; each has one place in the interface's table of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A parameter is absent.
    ParameterMissing,
    /// A parameter has an impossible value.
    ParameterInvalid,
    /// A name breaks the rules for names.
    NameInvalid,
    /// The passcode has fewer than eight characters.
    PasscodeShort,
    /// The passcode does not open the backup.
    PasscodeWrong,
    /// The retention date is no date, or past.
    RetentionInvalid,
    /// Unknown user or wrong password, or too many tries.
    LoginFailed,
    /// The user lacks the right.
    Forbidden,
    /// No such store.
    StoreNotFound,
    /// No such backup.
    BackupNotFound,
    /// No such user.
    UserNotFound,
    /// No such key.
    KeyNotFound,
    /// Nobody could administer this server any more.
    LastAdministrator,
    /// No such job.
    JobNotFound,
    /// No such system task.
    TaskNotFound,
    /// No such run of a task.
    RunNotFound,
    /// A store of that name is registered.
    StoreExists,
    /// A backup of that name is there.
    BackupExists,
    /// Another store is on the same place.
    LocationInUse,
    /// A job uses the store.
    StoreInUse,
    /// A job uses the backup.
    BackupInUse,
    /// The task, or its run, cannot be changed in this way now.
    TaskInUse,
    /// Another backup or restore runs.
    Busy,
    /// The backup is incomplete.
    NotRestorable,
    /// The backup cannot be restored by this server or into this configuration.
    Incompatible,
    /// The name is in several stores.
    Ambiguous,
    /// Read-only mode, or a restore is running.
    ReadOnly,
    /// Not in this build.
    NotSupported,
    /// The store does not answer, or refuses us.
    StoreUnreachable,
    /// No room in store, staging, target or state.
    NoSpace,
    /// Something in the store is damaged, forged or missing.
    Damaged,
    /// The work was cancelled.
    Cancelled,
    /// The lease on the work was lost, or the server stops.
    LeaseLost,
    /// The data directory belongs to another running server.
    AlreadyRunning,
    /// Wrong set-up: a setting, a key file, a place that cannot be used.
    Configuration,
    /// Our fault.
    Internal,
}

/// A refused or failed domain call.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What a caller may decide on.
    pub kind: ErrorKind,
    /// What failed, on what, why, and what to do; for people; never holds a secret.
    pub message: String,
    /// Further lines: the running job (`jobid=…`), or a list of obstacles.
    pub details: Vec<String>,
    /// The cause below, for the log.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error with a message and nothing else.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), details: Vec::new(), source: None }
    }

    /// Adds one line of detail.
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// Adds the cause.
    pub fn because(mut self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.source = Some(Box::new(source));
        self
    }
}
