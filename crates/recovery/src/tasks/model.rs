//! Tasks and their runs as callers see and send them. Times are epoch milliseconds.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::cron::CronFields;
use crate::Passcode;

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TaskKind {
    /// Makes a backup.
    CreateBackup,
    /// Removes backups whose retention date has passed.
    BackupRetentionCleaner,
    /// Verifies backups in a store.
    VerifyBackups,
    /// Restores the newest backup of a store into scratch, to prove it.
    RecoveryDrill,
    /// Frees the space of what was deleted.
    ReclaimSpace,
}

impl TaskKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::CreateBackup,
        Self::BackupRetentionCleaner,
        Self::VerifyBackups,
        Self::RecoveryDrill,
        Self::ReclaimSpace,
    ];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateBackup => "CreateBackup",
            Self::BackupRetentionCleaner => "BackupRetentionCleaner",
            Self::VerifyBackups => "VerifyBackups",
            Self::RecoveryDrill => "RecoveryDrill",
            Self::ReclaimSpace => "ReclaimSpace",
        }
    }

    /// The kind of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What a task is told, apart from its passcode. Which of these count depends on its kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct TaskParameters {
    /// What the names of its backups begin with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The store it works on; empty: every store, where the kind allows that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub store_name: String,
    /// Goes into each backup.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// How long each backup is kept, in milliseconds; -1 = until somebody deletes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_offset: Option<i64>,
    /// So many of the newest complete backups of a store stay, whatever their retention date. Cleaner alone; at least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<u32>,
    /// One run, and then no more by itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// Verify every complete backup, not the newest alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all_backups: bool,
    /// Shown to people, and never looked at.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub meta_data: Value,
}

/// One task.
#[derive(Clone, Debug)]
pub struct TaskView {
    /// 32 hexadecimal digits.
    pub id: String,
    /// For people.
    pub title: String,
    /// What it does.
    pub kind: TaskKind,
    /// Whether it runs by itself.
    pub active: bool,
    /// One more at each change.
    pub generation: i64,
    /// Who made it.
    pub owner: String,
    /// When it runs.
    pub cron: CronFields,
    /// Whose clocks count; a name like `Europe/Berlin`.
    pub zone: String,
    /// Seconds between the next two runs, if there are two.
    pub interval_seconds: Option<i64>,
    /// No run before; 0 = none such.
    pub start_date: i64,
    /// No run after; 0 = none such.
    pub end_date: i64,
    /// -1 = no limit.
    pub max_occurrences: i64,
    /// Runs since it was last made active.
    pub occurrences: i64,
    /// When it was made.
    pub created: i64,
    /// When it was last changed.
    pub updated: i64,
    /// When it last began; 0 = never.
    pub last_start: i64,
    /// When it begins next; -1 = not by itself.
    pub next_run: i64,
    /// What it is told.
    pub parameters: TaskParameters,
    /// Whether it has a passcode.
    pub has_passcode: bool,
}

/// A task to make, or what is to change of one: what is absent stays as it is.
#[derive(Clone, Debug, Default)]
pub struct TaskChange {
    /// For people.
    pub title: Option<String>,
    /// When it runs.
    pub cron: Option<CronFields>,
    /// Whose clocks count.
    pub zone: Option<String>,
    /// No run before; 0 = none such.
    pub start_date: Option<i64>,
    /// No run after; 0 = none such.
    pub end_date: Option<i64>,
    /// -1 = no limit.
    pub max_occurrences: Option<i64>,
    /// What it is told.
    pub parameters: Option<TaskParameters>,
    /// What seals, or opens, its backups.
    pub passcode: Option<Passcode>,
    /// The generation that this change was made from: one made from an older one is refused.
    pub generation: Option<i64>,
}

/// Where a run is in its life; the names are those of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Due, and waiting for other jobs to end.
    Scheduled,
    /// At work.
    Executing,
    /// Done.
    Succeeded,
    /// Not done, as something else was in the way for too long, or the server was down.
    Skipped,
    /// Begun, and ended badly.
    Failed,
    /// Could not be begun.
    SubmitFailed,
}

impl RunStatus {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Executing => "executing",
            Self::Succeeded => "succeeded",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
            Self::SubmitFailed => "submitfailed",
        }
    }

    /// The status of that name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Scheduled, Self::Executing, Self::Succeeded, Self::Skipped, Self::Failed, Self::SubmitFailed]
            .into_iter()
            .find(|status| status.name() == name)
    }

    /// Whether nothing more will happen.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Scheduled | Self::Executing)
    }
}

/// One time that a task ran, or should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunView {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Its task's id.
    pub task: String,
    /// Where it is in its life.
    pub status: RunStatus,
    /// What came of it, for people.
    pub result: String,
    /// The time by the schedule; for one by hand, the time of asking.
    pub slot: i64,
    /// Whether somebody asked for it.
    pub by_hand: bool,
    /// When it was found due.
    pub created: i64,
    /// When its record last changed.
    pub modified: i64,
    /// When it ended; 0 before.
    pub ended: i64,
    /// Its job; empty if there is none.
    pub job_id: String,
}
