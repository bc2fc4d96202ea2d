//! The protected parts of a deployment, one module per kind, behind one trait.
//!
//! A [`Component`] hands its content to the engine (`repository`) for a backup, and takes it back in a restore of
//! three steps: [`Component::stage`] makes the restored content ready beside the present one and changes nothing,
//! [`StagedRestore::swap`] exchanges the two, [`StagedRestore::finish`] verifies and removes what was there before.
//! Several components can so be staged before the first is swapped. Each step is journaled where the content
//! lies: after a kill at any instant [`Component::recover`] finishes or undoes it, without passcode or store.
//!
//! This crate knows neither stores nor jobs; it is told a job's id and keeps its own traces under that name.

mod drill;
mod error;
mod file_store;
mod hooks;
mod object_store;
mod portion;
mod process;
mod relational_store;
mod system_configuration;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub use drill::{DrillContext, Drilled, clear_drills};
pub use error::{Error, ErrorKind, Result};
pub use file_store::STAGING_PREFIX;
pub use object_store::ObjectStoreSettings;
pub use portion::Portion;
pub use relational_store::{
    Method, Password, PhysicalSettings, RelationalStoreSettings, RestoredServer, ServerRequest,
    restore_server,
};
pub use system_configuration::{CopyState, KeptFile, SystemConfigurationSettings, SystemManifest};

/// What kind of thing a component is; the words are those of the Administrator API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// PostgreSQL databases.
    RelationalStore,
    /// Buckets of an object store.
    ObjectStore,
    /// A directory.
    FileStore,
    /// Resources of a cluster, settings.
    SystemConfiguration,
}

/// One protected directory, as configured.
#[derive(Clone, Debug)]
pub struct FileStoreSettings {
    /// The component's name, unique in the deployment.
    pub name: String,
    /// The directory.
    pub path: PathBuf,
    /// Patterns of what is left out of backups, in restic's words.
    pub exclude: Vec<String>,
    /// Whether a backup may go on without this component.
    pub optional: bool,
    /// Programs to run before and after.
    pub hooks: Hooks,
}

/// Programs of the operator that run before and after a component is backed up or restored. Each is a program and its
/// arguments, split on blanks; they run in order.
#[derive(Clone, Debug)]
pub struct Hooks {
    /// Run before a backup reads.
    pub before_backup: Vec<String>,
    /// Run after a backup, on every way out.
    pub after_backup: Vec<String>,
    /// Run before a restore stages.
    pub before_restore: Vec<String>,
    /// Run after a restore, on every way out.
    pub after_restore: Vec<String>,
    /// The operator's own checks of what a drill restored; each is told where it lies.
    pub drill_check: Vec<String>,
    /// How long each may take.
    pub timeout: Duration,
}

impl Default for Hooks {
    /// None; each that is added may take ten minutes.
    fn default() -> Self {
        let (before_backup, after_backup, before_restore, after_restore) = Default::default();
        Self {
            before_backup,
            after_backup,
            before_restore,
            after_restore,
            drill_check: Vec::new(),
            timeout: Duration::from_secs(600),
        }
    }
}

/// What a component's backup came to.
#[derive(Clone, Debug)]
pub struct Backup {
    /// The engine's outcome.
    pub outcome: repository::BackupOutcome,
    /// What is in it, for the catalogue.
    pub facts: Facts,
}

/// What a backup of a component holds, in the words of its kind. Public: it stands in the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Facts {
    /// Names of databases that are no geodatabases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub databases: Vec<String>,
    /// Names of geodatabases.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub geodatabases: Vec<String>,
    /// Names of buckets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<String>,
    /// What tells one server's data from another's; empty where there is no such thing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Release of the server that was backed up; empty where there is no such thing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The instants that can be restored, if there are more than one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// From one instant to another, both with it: milliseconds since 1970, by the clock of the server that was backed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Window {
    /// The first.
    pub from: i64,
    /// The last.
    pub until: i64,
}

/// How a server's log arrives here.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    /// Why it does not arrive, and since when.
    pub failure: Option<(String, SystemTime)>,
    /// Bytes that the server keeps for us, as they have not arrived yet; `None`: the server could not be asked.
    pub behind_bytes: Option<u64>,
    /// Bytes that lie here: what no backup holds yet, and what came in the last day.
    pub held_bytes: u64,
}

/// What a component needs to be backed up.
pub struct BackupContext<'a> {
    /// Where the snapshot goes.
    pub repository: &'a repository::Repository,
    /// What that repository holds already; fresh.
    pub index: &'a repository::Index,
    /// The snapshot's tags.
    pub tags: Vec<String>,
    /// The snapshot's host name.
    pub hostname: String,
    /// How hard to compress.
    pub compression: repository::Compression,
    /// Cancellation, progress, warnings.
    pub control: Arc<repository::Control>,
}

/// What a component needs to be restored.
pub struct RestoreContext<'a> {
    /// Where the snapshot is.
    pub repository: &'a repository::Repository,
    /// That repository's index.
    pub index: &'a repository::Index,
    /// The snapshot; its only path becomes the target.
    pub snapshot: repository::Id,
    /// Unique per job: names the staging directory and its journal, so that the next start finds them.
    pub job_id: &'a str,
    /// What of it is restored.
    pub portion: Portion,
    /// The instant to restore, in milliseconds since 1970, where the backup holds several; `None`: the last.
    pub at: Option<i64>,
    /// Cancellation, progress, warnings.
    pub control: Arc<repository::Control>,
}

/// What became of an interrupted restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovered {
    /// There was no trace of this job: it had changed nothing, or had ended.
    Nothing,
    /// The staged content was removed; the target is as before.
    Undone,
    /// The swap was completed; the target is the restored one.
    Finished,
}

/// A restore that is staged, so that several components can be staged before any is swapped.
///
/// Dropped before its swap it abandons itself; dropped after it, it leaves its traces for [`Component::recover`].
pub trait StagedRestore: Send {
    /// Exchanges staged and present content, journaled. After this the target is the restored one.
    /// After an error the target is as it was, or the message says what stands in the way of that.
    fn swap(&mut self) -> Result<()>;

    /// Verifies the swapped-in content and then removes what was there before.
    fn finish(self: Box<Self>) -> Result<repository::RestoreOutcome>;

    /// Gives up and leaves the target as it was before the restore: removes the staged content, and where the
    /// swap was already made (because another component's failed, say) takes it back first.
    fn abandon(self: Box<Self>) -> Result<()>;
}

/// One protected thing of the deployment. Calls block; each may run hooks and take long.
pub trait Component: Send + Sync + std::fmt::Debug {
    /// Its kind.
    fn kind(&self) -> Kind;

    /// Its name, unique in the deployment.
    fn name(&self) -> &str;

    /// Whether a backup may go on without it.
    fn optional(&self) -> bool;

    /// Where the content lies, for people ("/srv/content").
    fn place(&self) -> String;

    /// Can it be read (backup)? A missing root is an error, never an empty backup.
    fn probe(&self) -> Result<()>;

    /// Work beside backups that goes on as long as the server does: returns soon after `stop` says so, or at once where there is none.
    fn attend(&self, _stop: &(dyn Fn() -> bool + Sync)) {}

    /// How that work goes, where there is some that receives a log.
    fn log_state(&self) -> Option<LogState> {
        None
    }

    /// Runs the `before_backup` hooks and makes one snapshot. The caller then calls [`Component::after_backup`],
    /// whatever came of it.
    fn backup(&self, context: &BackupContext<'_>) -> Result<Backup>;

    /// Runs the `after_backup` hooks; called on every way out, also at the next start after a kill.
    fn after_backup(&self) -> Result<()>;

    /// Recovers what an earlier run of this job left, runs the `before_restore` hooks, checks room, restores beside the target, verifies. After an error or a
    /// cancellation nothing of it is left and the target is untouched.
    fn stage(&self, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>>;

    /// Refuses what is not in this snapshot, what cannot be restored alone, and a name that is taken, each with what would be
    /// right; changes nothing.
    fn check(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        control: &repository::Control,
    ) -> Result<()>;

    /// Tells what a restore of this portion of a snapshot would change, and changes nothing; shows each change with its path below the
    /// component's place. Files whose size and time of change fit are taken for equal and not read.
    fn plan(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        control: &repository::Control,
        visit: &mut repository::VisitPlanned<'_>,
    ) -> Result<repository::RestorePlan>;

    /// Finishes or undoes what a killed restore of this job left; `portion` as it was given to the restore.
    /// Idempotent. Never needs the passcode.
    fn recover(&self, job_id: &str, portion: &Portion) -> Result<Recovered>;

    /// Runs the `after_restore` hooks; called on every way out.
    fn after_restore(&self) -> Result<()>;

    /// Restores a snapshot into scratch, checks what came of it and removes it again on every way out; the component's own
    /// place is neither read nor changed. What was done until then stands in `drilled`, also after an error.
    fn drill(&self, context: &DrillContext<'_>, drilled: &mut Drilled) -> Result<()>;
}

/// A component of kind [`Kind::FileStore`].
pub fn file_store(settings: FileStoreSettings) -> Arc<dyn Component> {
    Arc::new(file_store::FileStore::new(settings))
}

/// A component of kind [`Kind::RelationalStore`]. The error says what is wrong with the settings.
pub fn relational_store(settings: RelationalStoreSettings) -> Result<Arc<dyn Component>, String> {
    Ok(Arc::new(relational_store::RelationalStore::new(settings)?))
}

/// A component of kind [`Kind::SystemConfiguration`].
pub fn system_configuration(settings: SystemConfigurationSettings) -> Arc<dyn Component> {
    Arc::new(system_configuration::SystemConfiguration::new(settings))
}

/// A component of kind [`Kind::ObjectStore`]. The error says what is wrong with the settings.
pub fn object_store(settings: ObjectStoreSettings) -> Result<Arc<dyn Component>, String> {
    Ok(Arc::new(object_store::ObjectStore::new(settings)?))
}
