//! What a run does, by the kind of its task. A backup is a job like any other; the rest works here, step by step, and
//! looks between the steps whether the server stops.

use std::time::Duration;

use serde_json::Value;

use super::scheduler::told;
use super::{RunStatus, RunView, TaskKind, of_run};
use crate::clock::now_ms;
use crate::recovery::Inner;
use crate::retention::RetentionReport;
use crate::state::{Finish, JobRow, TaskRow};
use crate::{BackupView, Caller, CreateBackup, Error, ErrorKind, JobStatus, Passcode, Result};

/// How often a verification is looked at.
const POLL_TIME: Duration = Duration::from_millis(500);
/// So often in all the state may fail to tell how a verification goes: a minute.
const FAILED_LOOKS_MAX: u32 = 120;
/// Two runs in one second: so many get names of their own.
const NAMES_MAX: usize = 9;
/// More lines are counted, not told.
const LINES_MAX: usize = 20;

const STOPPED: &str = "The server stopped before all stores were looked at.";
const STOPPED_VERIFYING: &str = "The server stopped before all was verified.";
const DIED: &str = "The server stopped during this run.";

/// What is known of a backup that was to be verified, or tried out by a drill.
enum Verdict {
    Whole,
    Damaged(Vec<String>),
    /// It did not stand its drill.
    NotRestored(Vec<String>),
    /// It could not be verified, for this reason.
    Unknown(String),
}

/// How a run tells of what it did.
struct Words {
    done: &'static str,
    how: &'static str,
}

impl Words {
    fn of(kind: TaskKind, with_passcode: bool) -> Self {
        match (kind, with_passcode) {
            (TaskKind::RecoveryDrill, true) => {
                Self { done: "proven", how: "restored into scratch and checked there" }
            }
            (TaskKind::RecoveryDrill, false) => Self {
                done: "looked at",
                how: "every pack was read; nothing was restored without a passcode",
            },
            (_, true) => Self { done: "verified", how: "every byte was read" },
            (_, false) => {
                Self { done: "verified", how: "every pack is there; nothing was read without a passcode" }
            }
        }
    }
}

/// What came of a run.
struct Outcome {
    status: RunStatus,
    result: String,
}

/// Lines that tell what went wrong, or what was done if nothing did.
fn outcome(done: String, mut failures: Vec<String>) -> Outcome {
    if failures.is_empty() {
        return Outcome { status: RunStatus::Succeeded, result: done };
    }
    let more = failures.len().saturating_sub(LINES_MAX);
    failures.truncate(LINES_MAX);
    if more > 0 {
        failures.push(format!("and {more} more"));
    }
    let result = format!("{} {done}", failures.join(" "));
    Outcome { status: RunStatus::Failed, result: result.trim().to_owned() }
}

/// A run that the server's stop broke off: that is no failure, but what was found until then is.
fn broken_off(why: &str, done: &str, failures: Vec<String>) -> Outcome {
    let result = format!("{why} {done}").trim().to_owned();
    match failures.is_empty() {
        true => Outcome { status: RunStatus::Skipped, result },
        false => outcome(result, failures),
    }
}

/// What the job of a verification that did not succeed says of its backup.
fn verdict_of(result: Option<&Value>, messages: &[String]) -> Verdict {
    let lines = |key: &str| -> Vec<String> {
        let lines = result.and_then(|result| result.get(key));
        lines.and_then(|lines| serde_json::from_value(lines.clone()).ok()).unwrap_or_default()
    };
    match (lines("details"), lines("failures")) {
        (details, _) if !details.is_empty() => Verdict::Damaged(details),
        (_, failures) if !failures.is_empty() => Verdict::NotRestored(failures),
        _ => Verdict::Unknown(messages.join(" ")),
    }
}

/// The line of a run that tells of a backup that is not known to be whole.
fn line_of(backup: &str, store: &str, verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::Whole => None,
        Verdict::Damaged(details) => {
            Some(format!("Backup '{backup}' of store '{store}' is damaged: {}.", details.join("; ")))
        }
        Verdict::NotRestored(failures) => {
            let why = failures.join("; ");
            Some(format!("Backup '{backup}' of store '{store}' did not stand its drill: {why}."))
        }
        Verdict::Unknown(why) => {
            Some(format!("Backup '{backup}' of store '{store}' could not be verified: {why}"))
        }
    }
}

/// The same of a job that has failed.
fn line_of_job(job: &JobRow) -> String {
    let verdict = verdict_of(job.result.as_ref(), &job.messages);
    line_of(&job.backup, &job.store, &verdict).unwrap_or_default()
}

impl Inner {
    /// Makes the job of a backup by schedule, and joins it to its run.
    pub async fn submit_scheduled(
        &self,
        task: &TaskRow,
        run: &str,
        slot: i64,
        caller: Caller,
    ) -> Result<String> {
        let missing = || Error::new(ErrorKind::Internal, format!("task {} has no passcode", task.id));
        let passcode = self.passcode_of_task(task)?.ok_or_else(missing)?;
        let time = jiff::Timestamp::from_millisecond(slot).unwrap_or_default();
        let base = format!("{}-{}", task.parameters.name, time.strftime("%Y%m%d-%H%M%S"));
        let mut number = 1;
        loop {
            let request = CreateBackup {
                name: if number == 1 { base.clone() } else { format!("{base}-{number}") },
                store: task.parameters.store_name.clone(),
                passcode: passcode.clone(),
                description: task.parameters.description.clone(),
                retention_date: match task.parameters.retention_offset {
                    Some(offset) if offset > 0 => now_ms().saturating_add(offset),
                    _ => -1,
                },
            };
            match self.submit_backup(request, caller.clone(), Some(run)).await {
                Err(error) if error.kind == ErrorKind::BackupExists && number < NAMES_MAX => number += 1,
                other => return other,
            }
        }
    }

    /// Does what a run of a task other than a backup is to do, and notes what came of it.
    pub(crate) async fn work_on_run(&self, task: &TaskRow, run: &str) {
        let done = match task.kind {
            TaskKind::BackupRetentionCleaner => self.run_retention().await.map(|report| cleaned(&report)),
            TaskKind::ReclaimSpace => self.reclaim_stores(task).await,
            TaskKind::VerifyBackups | TaskKind::RecoveryDrill => self.verify_stores(task, run).await,
            TaskKind::CreateBackup => return,
        };
        let ended = done.unwrap_or_else(|error| match error.kind {
            ErrorKind::Cancelled if self.runner.is_stopping() => broken_off(STOPPED, "", Vec::new()),
            _ => Outcome { status: RunStatus::Failed, result: told(&error) },
        });
        tracing::info!(task = %task.id, run, kind = task.kind.name(), status = ended.status.name(), "run ended: {}", ended.result);
        let (from, now) = (RunStatus::Executing, now_ms());
        // What the server's stop broke off is skipped and nobody's concern; what was found before that is a failure.
        let notice = self.notice_of_run(task, run, ended.status, &ended.result);
        let end = (ended.status, ended.result.as_str());
        let mut noted = self.state.end_run(run, from, end, notice.as_ref(), now).await.map(|_| ());
        let has_jobs = matches!(task.kind, TaskKind::VerifyBackups | TaskKind::RecoveryDrill);
        if noted.is_ok() && has_jobs && self.runner.is_stopping() {
            noted = self.tell_of_jobs(run, &ended.result).await;
        }
        match noted {
            Ok(()) => self.bell.ring(),
            Err(error) => {
                tracing::error!(task = %task.id, run, "the end of this run could not be noted: {error}")
            }
        }
    }

    /// Tells of verifications that ended in the moment in which their run was broken off: neither they nor the run knew
    /// that the other would not.
    async fn tell_of_jobs(&self, run: &str, told: &str) -> Result<()> {
        for job in self.state.failed_verifications(&of_run(run)).await? {
            if told.contains(&line_of_job(&job)) {
                continue;
            }
            let finish = Finish {
                status: job.status,
                messages: job.messages.clone(),
                stages: Vec::new(),
                result: job.result.clone(),
                notice: None,
            };
            if let Some(notice) = self.notice_of_job(&job, &finish, false) {
                self.state.tell(&notice, now_ms()).await?;
            }
        }
        Ok(())
    }

    /// Keeps what was found with a run that goes on, so that it is not lost with the server.
    async fn note_found(&self, run: &str, failures: &[String]) {
        let kept = failures.iter().take(LINES_MAX).cloned().collect::<Vec<_>>().join(" ");
        let (status, now) = (RunStatus::Executing, now_ms());
        if let Err(error) = self.state.move_run(run, status, status, &kept, now).await {
            tracing::error!(run, "what this run found could not be kept: {error}");
        }
    }

    /// Ends a run whose server died while it was at work here, and tells what it had found.
    pub(super) async fn end_dead_run(&self, run: &RunView, now: i64) -> Result<()> {
        let mut found = run.result.clone();
        for job in self.state.failed_verifications(&of_run(&run.id)).await? {
            let line = line_of_job(&job);
            if !found.contains(&line) {
                found = format!("{found} {line}");
            }
        }
        let result = format!("{found} {DIED}").trim().to_owned();
        let task = if found.is_empty() { None } else { self.state.task(&run.task).await? };
        let notice = task.and_then(|task| self.notice_of_run(&task, &run.id, RunStatus::Failed, &result));
        let end = (RunStatus::Failed, result.as_str());
        self.state.end_run(&run.id, RunStatus::Executing, end, notice.as_ref(), now).await?;
        Ok(())
    }

    /// The stores that a task works on.
    async fn stores_of(&self, task: &TaskRow) -> Result<Vec<String>> {
        let name = &task.parameters.store_name;
        if !name.is_empty() {
            return Ok(vec![self.store_row(name).await?.name]);
        }
        Ok(self.state.stores().await?.into_iter().map(|row| row.name).collect())
    }

    async fn reclaim_stores(&self, task: &TaskRow) -> Result<Outcome> {
        let mut report = RetentionReport::default();
        for store in self.stores_of(task).await? {
            report.stopped |= self.runner.is_stopping();
            if report.stopped {
                break;
            }
            self.reclaim(&self.store_row(&store).await?, &mut report).await;
        }
        if report.stopped {
            return Ok(broken_off(STOPPED, "", lines(&report.failures)));
        }
        let waiting = report.waiting.len();
        let mut done =
            format!("{} packs removed, {} bytes freed.", report.packs_reclaimed, report.bytes_reclaimed);
        if waiting > 0 {
            done.push_str(&format!(
                " {waiting} deletions wait for their grace time or for a running backup."
            ));
        }
        Ok(outcome(done, lines(&report.failures)))
    }

    /// Verifies the newest complete backup of each store, or all: every byte if the task has the passcode, else that
    /// every pack is there. A drill restores the newest one into scratch.
    async fn verify_stores(&self, task: &TaskRow, run: &str) -> Result<Outcome> {
        let passcode = self.passcode_of_task(task)?;
        let words = Words::of(task.kind, passcode.is_some());
        let (mut verified, mut failures, mut other) = (0_usize, Vec::new(), 0_usize);
        for store in self.stores_of(task).await? {
            let mut backups = match self.backups(&store).await {
                Ok(backups) => backups,
                Err(error) => {
                    failures.push(format!("Store '{store}': {}", told(&error)));
                    self.note_found(run, &failures).await;
                    continue;
                }
            };
            backups.retain(|backup| backup.is_complete());
            if !task.parameters.all_backups {
                backups.truncate(1);
            }
            for backup in &backups {
                let done = || format!("{verified} backups {}.", words.done);
                if self.runner.is_stopping() {
                    return Ok(broken_off(STOPPED_VERIFYING, &done(), failures));
                }
                match self.verify_one(task, run, backup, passcode.as_ref()).await {
                    Ok(verdict) => match line_of(&backup.name, &store, &verdict) {
                        None => verified += 1,
                        Some(line) => {
                            failures.push(line);
                            self.note_found(run, &failures).await;
                        }
                    },
                    Err(error) if error.kind == ErrorKind::Cancelled && self.runner.is_stopping() => {
                        return Ok(broken_off(STOPPED_VERIFYING, &done(), failures));
                    }
                    // Deleted meanwhile, or just being deleted.
                    Err(error)
                        if matches!(error.kind, ErrorKind::BackupNotFound | ErrorKind::BackupInUse) => {}
                    Err(error) if error.kind == ErrorKind::PasscodeWrong && task.parameters.all_backups => {
                        other += 1
                    }
                    Err(error) => {
                        failures.push(format!(
                            "Backup '{}' of store '{store}': {}",
                            backup.name,
                            told(&error)
                        ));
                        self.note_found(run, &failures).await;
                    }
                }
            }
        }
        let mut done = format!("{verified} backups {} ({}).", words.done, words.how);
        if other > 0 {
            done.push_str(&format!(" {other} have another passcode and were not read."));
        }
        if verified == 0 && failures.is_empty() {
            if other > 0 {
                failures.push("No backup opens with the passcode of this task.".to_owned());
            } else {
                return Ok(Outcome {
                    status: RunStatus::Skipped,
                    result: "There is no complete backup.".to_owned(),
                });
            }
        }
        Ok(outcome(done, failures))
    }

    /// Verifies or drills one backup, and waits for the outcome.
    async fn verify_one(
        &self,
        task: &TaskRow,
        run: &str,
        backup: &BackupView,
        passcode: Option<&Passcode>,
    ) -> Result<Verdict> {
        let verdict = |damage: Vec<String>| {
            if damage.is_empty() { Verdict::Whole } else { Verdict::Damaged(damage) }
        };
        let drills = task.kind == TaskKind::RecoveryDrill;
        let id = if drills {
            let caller = self.caller_of(task, run);
            self.drill_backup(&backup.store, &backup.name, passcode.cloned(), caller).await?
        } else if let Some(passcode) = passcode {
            let caller = self.caller_of(task, run);
            self.verify_backup_as_job(&backup.store, &backup.name, passcode.clone(), caller).await?
        } else {
            return Ok(verdict(self.validate_backup(&backup.store, &backup.name, None).await?.details));
        };
        let mut failed_looks = 0;
        loop {
            let job = match self.job(&id).await {
                Ok(job) => job,
                // What the job finds is told by this run alone, which must not lose sight of it.
                Err(_) if failed_looks < FAILED_LOOKS_MAX && !self.runner.is_stopping() => {
                    failed_looks += 1;
                    tokio::time::sleep(POLL_TIME).await;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match job.status {
                JobStatus::Completed => return Ok(Verdict::Whole),
                JobStatus::Failed | JobStatus::Cancelled => {
                    return Ok(verdict_of(job.result.as_ref(), &job.messages));
                }
                _ if self.runner.is_stopping() => {
                    return Err(Error::new(
                        ErrorKind::Cancelled,
                        format!("the server stops; job {id} goes on at its next start"),
                    ));
                }
                _ => tokio::time::sleep(POLL_TIME).await,
            }
        }
    }
}

fn lines(of: &[(String, String)]) -> Vec<String> {
    of.iter().map(|(store, why)| format!("Store '{store}': {why}")).collect()
}

fn cleaned(report: &RetentionReport) -> Outcome {
    if let Some(why) = &report.skipped {
        return Outcome { status: RunStatus::Skipped, result: why.clone() };
    }
    if report.stopped {
        return broken_off(STOPPED, "", lines(&report.failures));
    }
    let mut done =
        format!("{} backups removed, {} bytes freed.", report.deleted.len(), report.bytes_reclaimed);
    for (store, name, why) in report.kept.iter().take(LINES_MAX) {
        done.push_str(&format!(" Kept '{name}' of store '{store}': {why}."));
    }
    outcome(done, lines(&report.failures))
}
