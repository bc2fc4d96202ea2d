//! Makes runs of what is due, gives them to their work, and notes what came of it.
//!
//! ```text
//! task due ──claim──▶ run scheduled ──job made, in one transaction──▶ executing ──job ended──▶ succeeded, failed
//!                          └──────── something else runs for an hour ─────────────────────▶ skipped
//! ```
//!
//! All of it lies in the state database, so a server that dies anywhere is followed by one that goes on: a slot that was
//! claimed is not claimed again, a run whose job was made is not given another.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::plan::Due;
use super::{
    CLEANER_ID, CronFields, RunStatus, RunView, STORE_TIME_MAX, TaskKind, does_not_answer, new_id, of_run,
};
use crate::clock::{self, now_ms};
use crate::recovery::Inner;
use crate::state::{Claim, NewRun, TaskRow, status_text};
use crate::{Caller, Error, ErrorKind, JobStatus, Result};

/// A run waits so long for another job to end.
const WAIT_MS: i64 = 3_600_000;
/// With runs at work the scheduler looks this often, else this often at least.
const BUSY_TIME: Duration = Duration::from_secs(1);
const IDLE_TIME: Duration = Duration::from_secs(20);

/// What is due of a task at that time, and how it goes on.
pub(super) fn decide(task: &TaskRow, now: i64) -> Option<Claim> {
    let schedule = match task.schedule() {
        Ok(schedule) => schedule,
        Err(error) => {
            tracing::error!(task = %task.id, "its schedule cannot be understood, so it does not run: {error}");
            return None;
        }
    };
    let (slot, status, result) = match schedule.due(task.next_run, now)? {
        Due::Run(slot) => (slot, RunStatus::Scheduled, String::new()),
        Due::Missed(slot) => {
            let why = format!(
                "The server was not running at {}, and not within six hours of any later time.",
                clock::text(slot)
            );
            (slot, RunStatus::Skipped, why)
        }
    };
    let run = NewRun {
        id: new_id(),
        task: task.id.clone(),
        status,
        result,
        slot,
        by_hand: false,
        give_up_at: now + WAIT_MS,
    };
    Some(Claim { run, next_run: schedule.next_after(now), notice: None })
}

impl Inner {
    /// Makes the tasks that are there from the start.
    pub async fn prepare_tasks(&self) -> Result<()> {
        let now = now_ms();
        let every = || "*".to_owned();
        let hourly = CronFields {
            minute: "0".to_owned(),
            hour: every(),
            day_of_month: every(),
            month: every(),
            day_of_week: "?".to_owned(),
        };
        let kind = TaskKind::BackupRetentionCleaner;
        let mut cleaner = TaskRow::new(CLEANER_ID.to_owned(), kind, hourly, "", now);
        cleaner.title = "Remove backups whose retention date has passed".to_owned();
        cleaner.parameters.keep_last = Some(1);
        cleaner.next_run = cleaner.schedule()?.next_after(now);
        self.state.add_task(&cleaner).await?;
        // Work without a job ended with the server that did it.
        for open in self.state.open_runs().await? {
            if open.run.status == RunStatus::Executing && open.run.job_id.is_empty() {
                self.end_dead_run(&open.run, now).await?;
            }
        }
        Ok(())
    }

    /// Looks for what is due until the server stops.
    pub async fn schedule_tasks(self: Arc<Self>) {
        let mut works = JoinSet::new();
        while !self.runner.is_stopping() {
            let pause = match self.tick(now_ms(), &mut works).await {
                Ok(open) if open > 0 => BUSY_TIME,
                Ok(_) => self.until_next_run().await,
                Err(error) => {
                    tracing::error!("schedules: {error}");
                    BUSY_TIME
                }
            };
            tokio::select! {
                () = self.runner.tasks_woken() => {}
                () = tokio::time::sleep(pause) => {}
                Some(_) = works.join_next(), if !works.is_empty() => {}
            }
        }
        // They look themselves whether the server stops.
        while works.join_next().await.is_some() {}
    }

    async fn until_next_run(&self) -> Duration {
        let tasks = self.state.tasks().await.unwrap_or_default();
        let next =
            tasks.iter().filter(|task| task.active && task.next_run >= 0).map(|task| task.next_run).min();
        let left = next.map_or(i64::MAX, |next| next.saturating_sub(now_ms()).max(0));
        Duration::from_millis(left.unsigned_abs()).clamp(BUSY_TIME, IDLE_TIME)
    }

    /// One look: claims what is due, begins what waits, notes what has ended. Returns how many runs are open.
    pub(super) async fn tick(self: &Arc<Self>, now: i64, works: &mut JoinSet<()>) -> Result<usize> {
        self.put_back_next_runs(now).await?;
        let decided = |task: &TaskRow| {
            let mut claim = decide(task, now)?;
            if claim.run.status == RunStatus::Skipped {
                claim.notice = self.notice_of_missed(task, &claim.run.id, &claim.run.result);
            }
            Some(claim)
        };
        if self.state.claim_due(now, decided).await? > 0 {
            self.bell.ring();
        }
        self.settle_runs(now).await?;
        let open = self.state.open_runs().await?;
        for waiting in open.iter().filter(|open| open.run.status == RunStatus::Scheduled) {
            let Some(task) = self.state.task(&waiting.run.task).await? else { continue };
            let (inner, run) = (self.clone(), waiting.run.clone());
            if task.kind == TaskKind::CreateBackup {
                // Beside: a store that hangs must not keep other tasks waiting.
                let Some(begun) = self.runner.begin_run(&run.id) else { continue };
                let give_up_at = waiting.give_up_at;
                works.spawn(async move {
                    inner.begin_backup(&task, &run, give_up_at, now).await;
                    drop(begun);
                });
            } else if open
                .iter()
                .any(|other| other.run.task == task.id && other.run.status == RunStatus::Executing)
            {
                let why = "The run before was still at work.";
                self.state.move_run(&run.id, RunStatus::Scheduled, RunStatus::Skipped, why, now).await?;
            } else {
                let (from, to) = (RunStatus::Scheduled, RunStatus::Executing);
                if self.state.move_run(&run.id, from, to, "", now).await? {
                    works.spawn(async move { inner.work_on_run(&task, &run.id).await });
                }
            }
        }
        Ok(open.len())
    }

    /// A clock that was ahead for a while left next runs in a future too far: they come back to where they belong.
    /// Slots that had a run get no second one.
    async fn put_back_next_runs(&self, now: i64) -> Result<()> {
        for mut task in self.state.tasks().await? {
            if !task.active || task.next_run <= now {
                continue;
            }
            let Ok(schedule) = task.schedule() else { continue };
            let next = schedule.next_after(now);
            if next >= 0 && next < task.next_run {
                tracing::warn!(task = %task.id, "its next run was too late by the clock; it is put right");
                (task.next_run, task.updated_at) = (next, now);
                let last_start = task.last_start;
                self.state.change_task(&task, last_start).await?;
            }
        }
        Ok(())
    }

    /// Notes the ends of jobs in the runs that they belong to.
    pub async fn settle_runs(&self, now: i64) -> Result<()> {
        for open in self.state.open_runs().await? {
            let run = open.run;
            if run.status != RunStatus::Executing || run.job_id.is_empty() {
                continue;
            }
            let (status, result) = match self.state.job(&run.job_id).await? {
                None => (RunStatus::Failed, "Its job is not there any more.".to_owned()),
                Some(job) => {
                    let told = job.messages.first().cloned().unwrap_or_default();
                    match job.status {
                        JobStatus::Completed if told.is_empty() => {
                            (RunStatus::Succeeded, format!("{} '{}' completed.", job.operation, job.backup))
                        }
                        JobStatus::Completed => {
                            let text =
                                format!("{} '{}' completed with warnings: {told}", job.operation, job.backup);
                            (RunStatus::Succeeded, text)
                        }
                        JobStatus::Failed | JobStatus::Cancelled => {
                            let ended = status_text(job.status).to_lowercase();
                            (RunStatus::Failed, format!("{} '{}' {ended}: {told}", job.operation, job.backup))
                        }
                        _ => continue,
                    }
                }
            };
            if self.state.move_run(&run.id, RunStatus::Executing, status, &result, now).await? {
                tracing::info!(task = %run.task, run = %run.id, job = %run.job_id, status = status.name(), "run ended: {result}");
            }
        }
        Ok(())
    }

    async fn begin_backup(&self, task: &TaskRow, run: &RunView, give_up_at: i64, now: i64) {
        let caller = self.caller_of(task, &run.id);
        let submitted =
            tokio::time::timeout(STORE_TIME_MAX, self.submit_scheduled(task, &run.id, run.slot, caller))
                .await;
        let error = match submitted {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error,
            Err(_) => does_not_answer(&task.parameters.store_name),
        };
        if let Err(failed) = self.note_not_begun(task, run, &error, now < give_up_at, now).await {
            tracing::error!(task = %task.id, run = %run.id, "what became of this run could not be noted: {failed}");
        }
    }

    async fn note_not_begun(
        &self,
        task: &TaskRow,
        run: &RunView,
        error: &Error,
        may_wait: bool,
        now: i64,
    ) -> Result<()> {
        let why = told(error);
        let in_the_way = matches!(error.kind, ErrorKind::Busy | ErrorKind::ReadOnly);
        if in_the_way && may_wait {
            // Still waiting: what for is told, without a write at each look.
            if run.result != why {
                self.state.move_run(&run.id, RunStatus::Scheduled, RunStatus::Scheduled, &why, now).await?;
            }
            return Ok(());
        }
        let to = if in_the_way { RunStatus::Skipped } else { RunStatus::SubmitFailed };
        tracing::error!(task = %task.id, title = %task.title, run = %run.id, "no backup by schedule: {why}");
        let notice = self.notice_of_run(task, &run.id, to, &why);
        self.state.end_run(&run.id, RunStatus::Scheduled, (to, &why), notice.as_ref(), now).await?;
        self.bell.ring();
        Ok(())
    }

    /// Who asks for what a task does.
    pub(super) fn caller_of(&self, task: &TaskRow, run: &str) -> Caller {
        let url = &self.settings.public_url;
        let context =
            url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map_or("", |(_, path)| path);
        let slash = if context.is_empty() { "" } else { "/" };
        Caller {
            username: task.owner.clone(),
            operation_uri: format!("{slash}{context}/admin/system/tasks/{}", task.id),
            request_id: of_run(run),
        }
    }
}

/// What an error says to those who may read a run, with its details. What is our own fault is for the log.
pub(super) fn told(error: &Error) -> String {
    if error.kind == ErrorKind::Internal {
        tracing::error!("a run of a task failed: {error}");
        return "The server failed at this; its log names the cause.".to_owned();
    }
    let details = error.details.iter().map(|line| format!(" ({line})"));
    error.message.clone() + &details.collect::<String>()
}
