//! Drills: asking for one, and what it found, as everybody sees it.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::backups::{backup_in_use, no_such_backup};
use crate::jobs::{SubmitJob, drill_stages};
use crate::names::check_passcode;
use crate::recovery::{Inner, blocking};
use crate::state::{JobRow, LANE_VERIFY};
use crate::store::Store;
use crate::{Caller, Error, ErrorKind, Passcode, Result};

/// So many reports on one backup are shown.
pub(crate) const REPORTS_SHOWN: usize = 20;

/// Outcome of a drill that restored the backup and found everything right.
pub const PROVEN: &str = "proven";
/// Outcome of a drill without the passcode: every pack is there and whole, and nothing was restored.
pub const WHOLE: &str = "whole";
/// Outcome of a drill that could not restore the backup, or found something wrong.
pub const FAILED: &str = "failed";

/// The report of one drill, as it lies in the store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillReport {
    /// 1.
    pub format_version: u32,
    /// The backup.
    pub backup: String,
    /// The attempt that made it: another backup of this name has another one.
    pub run: String,
    /// The store's id.
    pub store_id: String,
    /// The job that carried out the drill.
    pub job_id: String,
    /// The server that did.
    pub server: String,
    /// When the drill began, epoch milliseconds.
    pub start_time: i64,
    /// When it ended.
    pub end_time: i64,
    /// `proven`, `whole` or `failed`.
    pub outcome: String,
    /// Whether it had the passcode. Without it nothing was restored.
    pub with_passcode: bool,
    /// Milliseconds from opening the backup until all of it was restored, without checks and preparations; -1: nothing was.
    pub recovery_time: i64,
    /// The instant to which the backup brings everything back: that at which its first component was read.
    pub recovery_point: i64,
    /// Files restored.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Where the time went.
    pub stages: Vec<DrillStage>,
    /// What is known now.
    pub proven: Vec<String>,
    /// What is not, though one might think so.
    pub not_proven: Vec<String>,
    /// Why it failed.
    pub failures: Vec<String>,
}

/// A part of a drill's time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DrillStage {
    /// What was done.
    pub name: String,
    /// The component, or empty.
    pub component: String,
    /// How long it took.
    pub milliseconds: u64,
}

impl DrillReport {
    /// Whether the backup was restored and everything was right.
    pub fn is_proven(&self) -> bool {
        self.outcome == PROVEN
    }
}

/// The same as the result of its job.
pub(crate) fn job_result(report: &DrillReport) -> Value {
    let mut result = serde_json::to_value(report).unwrap_or_else(|_| json!({}));
    if let Some(result) = result.as_object_mut() {
        // Of the job itself, or of no use without the store.
        for key in ["formatVersion", "backup", "run", "storeId", "jobId", "server", "startTime", "endTime"] {
            result.remove(key);
        }
        // A job has stages of its own.
        if let Some(stages) = result.remove("stages") {
            result.insert("times".to_owned(), stages);
        }
    }
    result
}

impl Inner {
    /// All checks, then a job: with a passcode it restores the backup into scratch, without one it reads every pack.
    pub async fn drill_backup(
        &self,
        store: &str,
        name: &str,
        passcode: Option<Passcode>,
        caller: Caller,
    ) -> Result<String> {
        passcode.as_ref().map(check_passcode).transpose()?;
        let row = self.store_row(store).await?;
        let view = self.backup(&row.name, name).await?;
        if !view.is_complete() {
            let message =
                format!("Backup '{}' cannot be restored: its status is {}.", view.name, view.status);
            return Err(
                Error::new(ErrorKind::NotRestorable, message).detail(format!("jobid={}", view.job_id))
            );
        }
        if let Some(passcode) = &passcode {
            let opened = self.open_store_apart(&row).await?;
            match self.refuse_wrong_passcode(opened, &row.name, &view.name, passcode).await {
                // What is damaged is for the drill to tell.
                Err(error) if error.kind == ErrorKind::Damaged => {}
                other => other?,
            }
        }
        let job = SubmitJob {
            operation: "Drill",
            lane: LANE_VERIFY,
            store: &row.name,
            backup: &view.name,
            parameters: json!({"withPasscode": passcode.is_some()}),
            passcode: passcode.as_ref(),
            stages: drill_stages(&view, passcode.is_some()),
            run: None,
        };
        self.submit(job, caller, |active| {
            let same =
                |job: &&JobRow| job.operation == "Delete" && job.store == row.name && job.backup == view.name;
            active.iter().find(same).map_or(Ok(()), |job| Err(backup_in_use(job)))
        })
        .await
    }

    /// Whether a passcode opens a backup; one that does not is counted and answered late.
    pub async fn refuse_wrong_passcode(
        &self,
        opened: Store,
        store: &str,
        backup: &str,
        passcode: &Passcode,
    ) -> Result<()> {
        let (name, code) = (backup.to_owned(), passcode.clone());
        let turn = self.passcode_turns.acquire().await;
        let opens = blocking(move || match opened.backup(&name)? {
            Some(entry) => opened.open_vault(&entry, &code).map(drop),
            None => Err(no_such_backup("this", &name)),
        })
        .await;
        drop(turn);
        match opens {
            Err(error) => Err(self.wrong_passcodes.note(&format!("{store}/{backup}"), error).await),
            Ok(()) => Ok(()),
        }
    }

    /// The newest reports on a backup.
    pub async fn drill_reports(&self, store: &str, name: &str, count: usize) -> Result<Vec<DrillReport>> {
        let row = self.store_row(store).await?;
        let (opened, name) = (self.open_store(&row).await?, name.to_owned());
        blocking(move || {
            let Some(entry) = opened.backup(&name)? else { return Ok(Vec::new()) };
            let reports = opened.reports(&name, count)?.into_iter().map(|read| read.report);
            Ok(reports.filter(|report| report.run == entry.run).collect())
        })
        .await
    }

    /// What killed drills left goes; a place that cannot be tidied up keeps no server from starting.
    pub async fn clear_drills(&self) {
        let directory = self.settings.drill_directory.clone();
        let cleared = tokio::task::spawn_blocking(move || components::clear_drills(&directory)).await;
        if let Ok(Err(error)) = cleared {
            tracing::warn!("{error}");
        }
    }
}
