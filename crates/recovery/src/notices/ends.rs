//! What the ends of jobs and runs tell.

use serde_json::Value;

use super::{EventKind, Notice};
use crate::recovery::Inner;
use crate::state::{Finish, JobRow, TaskRow};
use crate::tasks::run_in;
use crate::{JobStatus, RunStatus, TaskKind};

impl Inner {
    /// The end of a job. `is_failure`: a cancellation that nobody asked for.
    pub fn notice_of_job(&self, job: &JobRow, finish: &Finish, is_failure: bool) -> Option<Notice> {
        let failed = finish.status == JobStatus::Failed || is_failure;
        let event = match job.operation.as_str() {
            "Backup" if finish.status == JobStatus::Completed => EventKind::BackupCompleted,
            "Backup" if failed => EventKind::BackupFailed,
            "Restore" => EventKind::RestoreEnded,
            "Validate" | "Drill" if failed => EventKind::VerificationFailed,
            _ => return None,
        };
        let state = finish.result.as_ref().and_then(|result| result.get("state")).and_then(Value::as_str);
        let ended = match finish.status {
            JobStatus::Completed if state == Some("completed_with_warnings") => "completed with warnings",
            JobStatus::Completed => "completed",
            JobStatus::Cancelled => "cancelled",
            _ => "failed",
        };
        let operation = match event {
            EventKind::RestoreEnded => "restore of ",
            EventKind::VerificationFailed if job.operation == "Drill" => "drill of ",
            EventKind::VerificationFailed => "verification of ",
            _ => "",
        };
        let subject = format!("{operation}backup '{}' of store '{}' {ended}", job.backup, job.store);
        let message = match finish.messages.is_empty() {
            true => format!("{subject}."),
            false => format!("{subject}.\n{}", finish.messages.join("\n")),
        };
        let facts = [
            ("job", job.id.as_str()),
            ("backup", &job.backup),
            ("store", &job.store),
            ("status", crate::state::status_text(finish.status)),
            ("user", &job.username),
        ];
        let notice = self.notice(event, subject, message, &facts)?;
        if event != EventKind::VerificationFailed {
            return Some(notice);
        }
        let notice = notice.once(format!("{}/{}", event.name(), job.id));
        // The run that asked for it tells, unless it was broken off meanwhile.
        Some(Notice { unless_run: run_in(&job.request_id).map(str::to_owned), ..notice })
    }

    /// The end of a run that has no job of its own, or could not get one.
    pub fn notice_of_run(
        &self,
        task: &TaskRow,
        run: &str,
        status: RunStatus,
        result: &str,
    ) -> Option<Notice> {
        let event = match (task.kind, status) {
            (_, RunStatus::Succeeded | RunStatus::Scheduled | RunStatus::Executing) => return None,
            (TaskKind::CreateBackup, _) => EventKind::BackupFailed,
            (TaskKind::VerifyBackups | TaskKind::RecoveryDrill, RunStatus::Failed) => {
                EventKind::VerificationFailed
            }
            (TaskKind::BackupRetentionCleaner | TaskKind::ReclaimSpace, RunStatus::Failed) => {
                EventKind::RetentionFailed
            }
            _ => return None,
        };
        let how = if status == RunStatus::Skipped { "was skipped" } else { "failed" };
        self.notice_of_task(event, task, run, &format!("task '{}' {how}", task.title), result)
    }

    /// A time by its schedule that passed without a run.
    pub fn notice_of_missed(&self, task: &TaskRow, run: &str, result: &str) -> Option<Notice> {
        let subject = format!("task '{}' missed a time by its schedule", task.title);
        let is_backup = task.kind == TaskKind::CreateBackup;
        is_backup.then(|| self.notice_of_task(EventKind::BackupLate, task, run, &subject, result)).flatten()
    }

    fn notice_of_task(
        &self,
        event: EventKind,
        task: &TaskRow,
        run: &str,
        subject: &str,
        result: &str,
    ) -> Option<Notice> {
        let facts =
            [("task", task.id.as_str()), ("run", run), ("store", task.parameters.store_name.as_str())];
        self.notice(event, subject.to_owned(), format!("{subject}.\n{result}"), &facts)
    }
}
