//! Jobs: durable rows, worked off under leases.
//!
//! `submit` makes a row. Three lanes claim rows, each one job at a time: backups and restores, deletions and
//! registrations, verifications. Whoever claims gets a lease with a fencing token (`lease`), which a thread of
//! its own prolongs (`runner`); the lease is also the permit under which the engine writes into the store. The work
//! itself is in `run`; `stages` and `progress` are what callers see of it meanwhile.
//!
//! A job ends once and for ever. Until then it survives: a clean stop gives the lease back, a killed server's
//! jobs are taken up at its next start.

mod lease;
mod progress;
mod run;
mod runner;
mod stages;
pub(crate) mod targets;

use crate::clock::now_ms;
use crate::names::name_key;
use crate::recovery::Inner;
use crate::secrets::Place;
use crate::state::{Cancel, JobRow, NewJob};
use crate::{Caller, Error, ErrorKind, JobStatus, JobView, Passcode, Result, StageView};

pub(crate) use runner::Runner;
pub(crate) use stages::{backup_stages, drill_stages, restore_stages};

/// A worker that has not reported for this long is shown as gone.
const UNAVAILABLE_MS: i64 = 60_000;
/// Ended jobs are kept this long.
const KEPT_MS: i64 = 90 * 24 * 3_600_000;

/// What a job is to do.
#[derive(Debug, Default)]
pub(crate) struct SubmitJob<'a> {
    pub operation: &'static str,
    pub lane: &'static str,
    pub store: &'a str,
    pub backup: &'a str,
    pub parameters: serde_json::Value,
    pub passcode: Option<&'a Passcode>,
    pub stages: Vec<StageView>,
    /// The run of a task that it is made for.
    pub run: Option<&'a str>,
}

/// Where the passcode of a job lies.
fn passcode_place(id: &str) -> Place<'_> {
    Place { table: "jobs", row: id, column: "passcode" }
}

impl Inner {
    /// Makes a job durable, if `admit` allows it beside the jobs that have not ended, and wakes its worker.
    pub async fn submit(
        &self,
        job: SubmitJob<'_>,
        caller: Caller,
        admit: impl FnOnce(&[JobRow]) -> Result<()> + Send,
    ) -> Result<String> {
        let id = format!("j{}", uuid::Uuid::new_v4());
        let seal = |code: &Passcode| self.key.seal(passcode_place(&id), code.expose().as_bytes());
        let passcode = job.passcode.map(seal).transpose()?;
        let new = NewJob {
            id: id.clone(),
            operation: job.operation,
            lane: job.lane,
            store: job.store.to_owned(),
            backup: job.backup.to_owned(),
            backup_key: name_key(job.backup),
            parameters: job.parameters,
            passcode,
            operation_uri: caller.operation_uri,
            username: caller.username,
            request_id: caller.request_id,
            stages: job.stages,
            run: job.run.map(str::to_owned),
        };
        self.state.submit_job(&new, now_ms(), admit).await?;
        tracing::info!(
            job = %id, operation = new.operation, store = %new.store, backup = %new.backup,
            user = %new.username, request = %new.request_id, "job submitted"
        );
        self.runner.wake(new.lane);
        Ok(id)
    }

    /// The passcode that was submitted with a job.
    fn passcode_of(&self, job: &JobRow) -> Result<Passcode> {
        let missing = || Error::new(ErrorKind::Internal, format!("the passcode of job {} is gone", job.id));
        let sealed = job.passcode.as_deref().ok_or_else(missing)?;
        let bytes = self.key.open(passcode_place(&job.id), sealed)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| missing())?;
        Ok(Passcode::new(text.to_owned()))
    }

    pub async fn job(&self, id: &str) -> Result<JobView> {
        match self.state.job(id).await? {
            Some(job) => Ok(view(job, now_ms())),
            None => Err(no_such_job(id)),
        }
    }

    pub async fn recent_jobs(&self, count: i64) -> Result<Vec<JobView>> {
        let now = now_ms();
        Ok(self.state.recent_jobs(count).await?.into_iter().map(|job| view(job, now)).collect())
    }

    pub async fn last_operation(&self) -> Result<Option<JobView>> {
        Ok(self.state.last_main_job().await?.map(|job| view(job, now_ms())))
    }

    pub async fn cancel_job(&self, id: &str) -> Result<()> {
        let outcome = self.state.cancel_job(id, now_ms()).await?;
        if outcome != Cancel::Unknown {
            tracing::info!(job = %id, ?outcome, "asked to cancel a job");
        }
        match outcome {
            Cancel::Cancelled => Ok(()),
            Cancel::Cancelling => {
                self.runner.cancel(id);
                Ok(())
            }
            Cancel::Unknown => Err(no_such_job(id)),
            Cancel::Ended(status) => {
                let message = format!("Job {id} has ended already ({}).", crate::state::status_text(status));
                Err(Error::new(ErrorKind::Busy, message))
            }
            Cancel::TooLate => {
                let message = format!("Job {id} can no longer be cancelled: it has begun to change things.");
                Err(Error::new(ErrorKind::Busy, message).detail(format!("jobid={id}")))
            }
        }
    }

    /// Hourly: old jobs go.
    pub async fn purge_jobs(&self) -> Result<()> {
        self.state.purge_jobs(now_ms() - KEPT_MS).await
    }
}

fn no_such_job(id: &str) -> Error {
    let shown: String = id.chars().filter(|c| !c.is_control()).take(60).collect();
    Error::new(ErrorKind::JobNotFound, format!("There is no job '{shown}'."))
}

fn view(job: JobRow, now: i64) -> JobView {
    let silent = matches!(job.status, JobStatus::Executing | JobStatus::Cancelling)
        && now - job.updated_at > UNAVAILABLE_MS;
    let portion = match job.operation.as_str() {
        "Restore" => targets::selection_of(&job).map(|selection| selection.in_words()).unwrap_or_default(),
        _ => String::new(),
    };
    JobView {
        portion,
        status: if silent { JobStatus::Unavailable } else { job.status },
        schedule_type: crate::backups::schedule_type(&job.parameters),
        id: job.id,
        operation: job.operation,
        store: job.store,
        backup: job.backup,
        start_time: job.submitted_at,
        end_time: job.ended_at,
        updated_time: job.updated_at,
        operation_uri: job.operation_uri,
        username: job.username,
        messages: job.messages,
        progress: job.progress,
        stages: job.stages,
        result: job.result,
    }
}
