//! What callers see and send: views of users, stores, backups and jobs, and requests for changes.
//! Times are epoch milliseconds everywhere; the names of states are those of the interface.

use std::path::PathBuf;

use components::{Facts, Kind};
use repository::Passcode;

use crate::keys::KeyScope;
use crate::selection::Wanted;

/// What a user may do; each includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Creates and validates backups, cancels jobs.
    Operator,
    /// Everything.
    Administrator,
}

/// Who asks.
#[derive(Clone, Debug)]
pub struct Principal {
    /// The user's name; that of a key has a mark before it that no user's name can have.
    pub username: String,
    /// What the user may do.
    pub role: Role,
    /// What the key is good for that proved it; none for a person.
    pub key: Option<KeyScope>,
}

impl Principal {
    /// Somebody who signed in.
    pub fn person(username: String, role: Role) -> Self {
        Self { username, role, key: None }
    }
}

/// What a token is good for. One of each kind is worthless where another is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Requests in the user's name.
    Access,
    /// One exchange for tokens of the other kinds.
    Code,
    /// New access tokens, again and again.
    Refresh,
}

/// One user, for lists.
#[derive(Clone, Debug, serde::Serialize)]
pub struct UserView {
    /// The user's name.
    pub username: String,
    /// What the user may do.
    pub role: Role,
    /// When the user was added.
    #[serde(rename = "createdTime")]
    pub created_at: i64,
}

/// One registered store.
#[derive(Clone, Debug)]
pub struct StoreView {
    /// The name it was registered under.
    pub name: String,
    /// Whether it is the default store.
    pub default: bool,
    /// `HOSTED`, `FILESYSTEM`, `S3`, `AZURE_BLOBSTORE` or `GOOGLE_CLOUD_STORAGE`.
    pub kind: String,
    /// Its directory, or the prefix in its bucket.
    pub root_dir: String,
    /// How its bucket is reached, if it is one.
    pub connection: Option<crate::BucketConnection>,
    /// What was sent as `storageConfig`.
    pub storage_config: serde_json::Value,
    /// 20 characters that tell stores apart.
    pub identity: String,
    /// The release that made the store, like `12.0.0`.
    pub version_created: String,
}

/// One store with what had to be counted.
#[derive(Clone, Debug)]
pub struct StoreDetail {
    /// The store.
    pub store: StoreView,
    /// Backups in its catalogue.
    pub backup_count: u64,
    /// Bytes that they take together.
    pub bytes_stored: u64,
    /// When it was last found ready; 0 = never.
    pub last_validated: i64,
    /// Free room, where the place knows it.
    pub free_bytes: Option<u64>,
}

/// `settings` of register, parsed by the wire.
#[derive(Clone, Debug)]
pub struct RegisterStore {
    /// The store's name.
    pub name: String,
    /// Where it is to lie.
    pub place: StorePlace,
    /// Kept as it came.
    pub storage_config: serde_json::Value,
    /// Take the default flag.
    pub default: bool,
}

/// Where a store is to lie.
#[derive(Clone, Debug)]
pub enum StorePlace {
    /// In a directory of the server's choice.
    Hosted,
    /// In this directory.
    Directory(PathBuf),
    /// In a bucket.
    Bucket(Box<storage::ObjectPlace>),
}

impl StorePlace {
    /// Its type on the wire.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Hosted => "HOSTED",
            Self::Directory(_) => "FILESYSTEM",
            Self::Bucket(place) => crate::kind_of(place.service),
        }
    }
}

/// Result of a look at a store or a backup.
#[derive(Clone, Debug)]
pub struct Validation {
    /// Nothing is wrong.
    pub ready: bool,
    /// What is wrong, one line each.
    pub details: Vec<String>,
}

/// One backup as the catalogue has it.
#[derive(Clone, Debug)]
pub struct BackupView {
    /// Its name, unique in its store.
    pub name: String,
    /// The store's name.
    pub store: String,
    /// Free text.
    pub description: String,
    /// The release that made it.
    pub release: String,
    /// The deployment's name.
    pub site_name: String,
    /// `in_progress`, `completed`, `completed_with_warnings` or `deleting`.
    pub status: String,
    /// `MANUAL` or `SCHEDULED`.
    pub schedule_type: String,
    /// When it began.
    pub start_time: i64,
    /// When it was complete; 0 while in progress.
    pub complete_time: i64,
    /// From when it may be cleaned; -1 = never.
    pub retention_date: i64,
    /// One for each component.
    pub components: Vec<BackupComponentView>,
    /// Bytes of all files in it.
    pub bytes_read: u64,
    /// Bytes that it added to the store.
    pub bytes_added: u64,
    /// Files in it.
    pub files_total: u64,
    /// Version of the catalogue's format.
    pub format_version: u32,
    /// The vault that holds it.
    pub vault: String,
    /// What is not in it, with reasons; empty in lists.
    pub warnings: Vec<repository::Warning>,
    /// How many such warnings there were.
    pub warning_count: u64,
    /// The job that makes or made it.
    pub job_id: String,
}

impl BackupView {
    /// Whether it can be restored: not in progress, and not being deleted.
    pub fn is_complete(&self) -> bool {
        matches!(self.status.as_str(), "completed" | "completed_with_warnings")
    }
}

/// One component inside a backup.
#[derive(Clone, Debug)]
pub struct BackupComponentView {
    /// Its kind.
    pub kind: Kind,
    /// Its configured name.
    pub name: String,
    /// Where its content lay.
    pub place: String,
    /// Its snapshot in the vault.
    pub snapshot_id: String,
    /// When reading began.
    pub start_time: i64,
    /// When reading ended.
    pub end_time: i64,
    /// `completed` or `completed_with_warnings`.
    pub status: String,
    /// Files in it.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes that it added to the store.
    pub bytes_added: u64,
    /// What it holds, in the words of its kind.
    pub facts: Facts,
}

/// When a backup was last shown to be good by this server, as far as its jobs are kept; 0 = not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Every byte was read and checked.
    pub verified: i64,
    /// It was restored.
    pub restored: i64,
    /// Such a verification found damage, later than it found none.
    pub damaged: i64,
}

/// A backup to make.
#[derive(Clone, Debug)]
pub struct CreateBackup {
    /// Its name.
    pub name: String,
    /// The store's name.
    pub store: String,
    /// What seals it.
    pub passcode: Passcode,
    /// Free text, may be empty.
    pub description: String,
    /// From when it may be cleaned; -1 = never.
    pub retention_date: i64,
}

/// A backup to restore.
#[derive(Clone, Debug)]
pub struct RestoreBackup {
    /// Its name.
    pub name: String,
    /// The store's name.
    pub store: String,
    /// The passcode of its creation.
    pub passcode: Passcode,
    /// What of it.
    pub wanted: Wanted,
    /// Only the checks.
    pub validate_only: bool,
}

/// Where a job is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum JobStatus {
    /// Accepted and durable.
    Submitted,
    /// A worker has it.
    Executing,
    /// Being stopped and undone.
    Cancelling,
    /// Stopped; nothing of it is left.
    Cancelled,
    /// Ended without success; the messages say why.
    Failed,
    /// Done.
    Completed,
    /// Its worker has not reported for a minute.
    Unavailable,
}

/// One job.
#[derive(Clone, Debug)]
pub struct JobView {
    /// `j` and a UUID.
    pub id: String,
    /// `Backup`, `Restore`, `Delete`, `Validate` or `Register`.
    pub operation: String,
    /// Where it is in its life.
    pub status: JobStatus,
    /// The store it works on.
    pub store: String,
    /// The backup it works on; may be empty.
    pub backup: String,
    /// When it was submitted.
    pub start_time: i64,
    /// When it ended; 0 while running.
    pub end_time: i64,
    /// When its row last changed.
    pub updated_time: i64,
    /// Of a restore: what is restored alone, in words; empty: whole components.
    pub portion: String,
    /// The URL path by which it was asked for.
    pub operation_uri: String,
    /// Who asked for it.
    pub username: String,
    /// `SCHEDULED` if a task asked for it, else `MANUAL`.
    pub schedule_type: String,
    /// Most important first once it has ended; what happened on the way before.
    pub messages: Vec<String>,
    /// How far it is, while it runs.
    pub progress: Option<ProgressView>,
    /// Its steps in order.
    pub stages: Vec<StageView>,
    /// Further keys of `result`.
    pub result: Option<serde_json::Value>,
}

/// How far a job is.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct ProgressView {
    /// 0 to 100.
    pub percent: u8,
    /// The stage at work.
    pub stage: String,
    /// Bytes read so far.
    pub bytes_done: u64,
    /// Bytes to read, as far as known.
    pub bytes_total: u64,
    /// Files done so far.
    pub files_done: u64,
    /// Files to do, as far as known.
    pub files_total: u64,
    /// Over the last seconds.
    pub bytes_per_second: u64,
    /// At this rate; `None` if not known.
    pub seconds_left: Option<u64>,
    /// What is being read.
    pub current: String,
}

/// One step of a job.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct StageView {
    /// Its name in the interface.
    pub name: String,
    /// `pending`, `in_progress`, `completed`, `completed_with_warnings`, `failed`, `skipped` or `cancelled`.
    pub state: String,
    /// How long it took.
    #[serde(rename = "durationMs")]
    pub duration_ms: u64,
    /// When its state last changed.
    #[serde(rename = "lastUpdated")]
    pub last_updated: i64,
}

/// Who asks, and by which URL path: goes into the job's row.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user's name.
    pub username: String,
    /// The URL path with context.
    pub operation_uri: String,
    /// Ties log lines of one request together.
    pub request_id: String,
}

/// What became of a deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The backup is out of the catalogue.
    Done,
    /// A job with this id does it.
    Job(String),
}
