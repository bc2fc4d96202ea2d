//! The domain: backup stores, their catalogue, backups, restores, jobs, schedules, retention and users.
//!
//! [`Recovery`] is the way in. A request passes its checks, becomes a durable row in the state database
//! and a job; the job's worker holds a lease on that row and drives the engine on threads of its own. What a restore needs
//! lies in the store, never here alone: [`store`] describes what a store holds, [`work`] what a job does with it, and both
//! also serve tools that run without a server.

mod audit;
mod backups;
mod browse;
mod buckets;
mod clock;
mod drills;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod jobs;
mod keys;
mod looks;
mod model;
mod names;
mod notices;
mod overview;
mod ownership;
mod password;
mod protected;
mod recovery;
mod restores;
mod retention;
mod secrets;
mod selection;
mod settings;
mod site;
mod state;
pub mod store;
mod stores;
mod tasks;
#[cfg(test)]
mod tests;
mod users;
pub mod work;

pub use audit::{AuditEntry, AuditView};
pub use browse::{ComponentPlan, EntryKind, FileEntry, FileListing, OpenedFile, PlannedNames};
pub use buckets::{BucketConnection, kind_of};
pub use components::{Component, Facts, FileStoreSettings, Hooks, Kind, LogState, Portion, file_store};
pub use drills::{DrillReport, DrillStage};
pub use error::{Error, ErrorKind, Result};
pub use keys::{KEY_ENDS_SOON_MS, KeyScope, KeyView, NewKey, OperationGroup};
pub use model::{
    BackupComponentView, BackupView, Caller, CreateBackup, Deletion, JobStatus, JobView, Principal,
    ProgressView, Proof, Purpose, RegisterStore, RestoreBackup, Role, StageView, StoreDetail, StorePlace,
    StoreView, UserView, Validation,
};
pub use notices::{DeliveryStatus, DeliveryView, EventKind, Subscription, TargetView};
pub use notify::{MailSettings, MailTls, Target, WebhookSettings};
pub use overview::{
    Cause, JobFigures, MeasuredRestore, Need, NeedPlace, Overview, Severity, StoreOverview, TaskRuns,
};
pub use protected::ComponentView;
pub use recovery::Recovery;
pub use repository::{Cost, Passcode, RestorePlan};
pub use retention::RetentionReport;
pub use selection::{Selection, Wanted};
pub use settings::Settings;
pub use site::{DisasterSettings, Mode, StagingVolume, VolumeProvisioning};
pub use state::copy_state;
pub use storage::{AddressRule, Credentials, ObjectOptions, ObjectPlace, Service};
pub use tasks::{CLEANER_ID, CronFields, RunStatus, RunView, TaskChange, TaskKind, TaskParameters, TaskView};

/// The release of the interface that this server is compatible with; written into each backup.
pub const RELEASE: &str = "12.0.0";
