//! Rows of jobs: a durable queue.
//!
//! Life of a row: SUBMITTED → EXECUTING → COMPLETED, FAILED or CANCELLED, the last by way of CANCELLING. What its worker
//! writes is in `leases`; here is what everybody else does: submit, look, ask to cancel. Terminal rows never
//! change, and the statement that ends a job wipes its sealed passcode.

use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::State;
use crate::notices::Notice;
use crate::{Error, ErrorKind, JobStatus, ProgressView, Result, StageView};

/// Backups and restores: one at a time per deployment.
pub(crate) const LANE_MAIN: &str = "main";
/// Deletions and registrations.
pub(crate) const LANE_SIDE: &str = "side";
/// Verifications that read everything.
pub(crate) const LANE_VERIFY: &str = "verify";

/// Job lists hold at most this many.
const JOBS_MAX: i64 = 10_000;
/// A job to submit.
#[derive(Clone, Debug)]
pub(crate) struct NewJob {
    pub id: String,
    pub operation: &'static str,
    pub lane: &'static str,
    pub store: String,
    pub backup: String,
    pub backup_key: String,
    pub parameters: serde_json::Value,
    pub passcode: Option<Vec<u8>>,
    pub operation_uri: String,
    pub username: String,
    pub request_id: String,
    pub stages: Vec<StageView>,
    /// The run of a task that it is made for.
    pub run: Option<String>,
}

/// One job, as kept.
#[derive(Clone, Debug)]
pub(crate) struct JobRow {
    pub id: String,
    pub operation: String,
    pub status: JobStatus,
    pub store: String,
    pub backup: String,
    pub backup_key: String,
    pub parameters: serde_json::Value,
    pub passcode: Option<Vec<u8>>,
    pub operation_uri: String,
    pub username: String,
    pub request_id: String,
    pub submitted_at: i64,
    pub updated_at: i64,
    pub ended_at: i64,
    pub interruptions: i64,
    pub phase: String,
    pub lease_owner: Option<String>,
    pub lease_token: i64,
    pub messages: Vec<String>,
    pub stages: Vec<StageView>,
    pub progress: Option<ProgressView>,
    pub result: Option<serde_json::Value>,
}

/// What a worker holds of a job it claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    pub job_id: String,
    pub token: i64,
}

/// How a job ends.
#[derive(Clone, Debug)]
pub(crate) struct Finish {
    pub status: JobStatus,
    pub messages: Vec<String>,
    pub stages: Vec<StageView>,
    pub result: Option<serde_json::Value>,
    /// Who is told of it.
    pub notice: Option<Notice>,
}

/// What became of a wish to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cancel {
    Unknown,
    /// It has ended already, like this.
    Ended(JobStatus),
    /// It is past the point from which it can be undone.
    TooLate,
    /// It had not begun and never will.
    Cancelled,
    /// Its worker is to stop it.
    Cancelling,
}

pub(crate) fn status_text(status: JobStatus) -> &'static str {
    match status {
        JobStatus::Submitted => "SUBMITTED",
        JobStatus::Executing => "EXECUTING",
        JobStatus::Cancelling => "CANCELLING",
        JobStatus::Cancelled => "CANCELLED",
        JobStatus::Failed => "FAILED",
        JobStatus::Completed => "COMPLETED",
        JobStatus::Unavailable => "UNAVAILABLE",
    }
}

fn status_of(text: &str) -> JobStatus {
    match text {
        "SUBMITTED" => JobStatus::Submitted,
        "EXECUTING" => JobStatus::Executing,
        "CANCELLING" => JobStatus::Cancelling,
        "CANCELLED" => JobStatus::Cancelled,
        "COMPLETED" => JobStatus::Completed,
        "FAILED" => JobStatus::Failed,
        _ => JobStatus::Unavailable,
    }
}

impl JobRow {
    /// What its worker holds.
    pub fn lease(&self) -> Lease {
        Lease { job_id: self.id.clone(), token: self.lease_token }
    }
}

pub(super) fn job_of(row: &SqliteRow) -> Result<JobRow, sqlx::Error> {
    let json = |column: &str| -> Result<Option<String>, sqlx::Error> { row.try_get(column) };
    Ok(JobRow {
        id: row.try_get("id")?,
        operation: row.try_get("operation")?,
        status: status_of(row.try_get("status")?),
        store: row.try_get("store")?,
        backup: row.try_get("backup")?,
        backup_key: row.try_get("backup_key")?,
        parameters: parse(json("parameters")?).unwrap_or_default(),
        passcode: row.try_get("passcode")?,
        operation_uri: row.try_get("operation_uri")?,
        username: row.try_get("username")?,
        request_id: row.try_get("request_id")?,
        submitted_at: row.try_get("submitted_at")?,
        updated_at: row.try_get("updated_at")?,
        ended_at: row.try_get("ended_at")?,
        interruptions: row.try_get("interruptions")?,
        phase: row.try_get("phase")?,
        lease_owner: row.try_get("lease_owner")?,
        lease_token: row.try_get("lease_token")?,
        messages: parse(json("messages")?).unwrap_or_default(),
        stages: parse(json("stages")?).unwrap_or_default(),
        progress: parse(json("progress")?),
        result: parse(json("result")?),
    })
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(text: Option<String>) -> Option<T> {
    text.and_then(|text| serde_json::from_str(&text).ok())
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::Internal, "cannot write a job's row as JSON").because(e))
}

impl State {
    /// Makes a job durable, if `admit` finds nothing against it among the jobs that have not ended.
    pub async fn submit_job(
        &self,
        job: &NewJob,
        now: i64,
        admit: impl FnOnce(&[JobRow]) -> Result<()> + Send,
    ) -> Result<()> {
        let mut write = self.write().await?;
        let active = sqlx::query(ACTIVE_JOBS).fetch_all(&mut *write).await.map_err(self.read_error())?;
        let active = active.iter().map(job_of).collect::<Result<Vec<_>, _>>().map_err(self.read_error())?;
        admit(&active)?;
        sqlx::query(
            "INSERT INTO jobs (id, operation, lane, status, store, backup, backup_key, parameters, passcode,
             operation_uri, username, request_id, submitted_at, updated_at, ended_at, interruptions, phase,
             lease_token, lease_until, messages, stages)
             VALUES ($1, $2, $3, 'SUBMITTED', $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, 0, 0, '', 0, 0, '[]', $13)",
        )
        .bind(&job.id)
        .bind(job.operation)
        .bind(job.lane)
        .bind(&job.store)
        .bind(&job.backup)
        .bind(&job.backup_key)
        .bind(job.parameters.to_string())
        .bind(job.passcode.as_deref())
        .bind(&job.operation_uri)
        .bind(&job.username)
        .bind(&job.request_id)
        .bind(now)
        .bind(json(&job.stages)?)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        if let Some(run) = &job.run {
            self.run_begins(&mut write, run, &job.id, now).await?;
        }
        self.commit(write).await
    }

    /// The jobs that have not ended, oldest first.
    pub async fn active_jobs(&self) -> Result<Vec<JobRow>> {
        let rows = sqlx::query(ACTIVE_JOBS).fetch_all(self.reader()).await.map_err(self.read_error())?;
        rows.iter().map(job_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// One job.
    pub async fn job(&self, id: &str) -> Result<Option<JobRow>> {
        let row = sqlx::query("SELECT * FROM jobs WHERE id = $1")
            .bind(id)
            .fetch_optional(self.reader())
            .await
            .map_err(self.read_error())?;
        row.as_ref().map(job_of).transpose().map_err(self.read_error())
    }

    /// Ids of all jobs, newest first.
    pub async fn job_ids(&self) -> Result<Vec<String>> {
        sqlx::query_scalar("SELECT id FROM jobs ORDER BY seq DESC LIMIT $1")
            .bind(JOBS_MAX)
            .fetch_all(self.reader())
            .await
            .map_err(self.read_error())
    }

    /// Restores that failed after they had begun to change their target.
    pub async fn failed_restores(&self) -> Result<Vec<JobRow>> {
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE operation = 'Restore' AND status = 'FAILED' AND phase <> '' ORDER BY seq",
        )
        .fetch_all(self.reader())
        .await
        .map_err(self.read_error())?;
        rows.iter().map(job_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// The verifications asked for by this request that failed.
    pub async fn failed_verifications(&self, request_id: &str) -> Result<Vec<JobRow>> {
        let rows = sqlx::query(
            "SELECT * FROM jobs WHERE operation IN ('Validate', 'Drill') AND status = 'FAILED' AND request_id = $1 ORDER BY seq",
        )
        .bind(request_id)
        .fetch_all(self.reader())
        .await
        .map_err(self.read_error())?;
        rows.iter().map(job_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// The jobs that were submitted last, newest first.
    pub async fn recent_jobs(&self, count: i64) -> Result<Vec<JobRow>> {
        let rows = sqlx::query("SELECT * FROM jobs ORDER BY seq DESC LIMIT $1")
            .bind(count)
            .fetch_all(self.reader())
            .await
            .map_err(self.read_error())?;
        rows.iter().map(job_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// The restore that was completed last.
    pub async fn last_restore(&self) -> Result<Option<JobRow>> {
        let row = sqlx::query(LAST_RESTORE).fetch_optional(self.reader()).await.map_err(self.read_error())?;
        row.as_ref().map(job_of).transpose().map_err(self.read_error())
    }

    /// Of some backups of a store: their names, and when the last verification and restore of each ended, by operation and
    /// status.
    pub async fn last_proofs(
        &self,
        store: &str,
        backups: &[&str],
    ) -> Result<Vec<(String, String, String, i64)>> {
        let mut query = proofs_of(store, backups);
        query.build_query_as().fetch_all(self.reader()).await.map_err(self.read_error())
    }

    /// The backup or restore that was submitted last.
    pub async fn last_main_job(&self) -> Result<Option<JobRow>> {
        let row = sqlx::query("SELECT * FROM jobs WHERE lane = 'main' ORDER BY seq DESC LIMIT 1")
            .fetch_optional(self.reader())
            .await
            .map_err(self.read_error())?;
        row.as_ref().map(job_of).transpose().map_err(self.read_error())
    }

    /// Asks for a job to be stopped.
    pub async fn cancel_job(&self, id: &str, now: i64) -> Result<Cancel> {
        let mut write = self.write().await?;
        let row = sqlx::query("SELECT * FROM jobs WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut *write)
            .await
            .map_err(self.read_error())?;
        let Some(row) = row else { return Ok(Cancel::Unknown) };
        let job = job_of(&row).map_err(self.read_error())?;
        let undoable = matches!(job.operation.as_str(), "Backup" | "Restore" | "Validate" | "Drill");
        match job.status {
            JobStatus::Submitted => {
                let stages: Vec<StageView> = job.stages.into_iter().map(cancelled_stage).collect();
                sqlx::query(
                    "UPDATE jobs SET status = 'CANCELLED', passcode = NULL, stages = $2, messages = $3,
                         updated_at = $4, ended_at = $4 WHERE id = $1",
                )
                .bind(id)
                .bind(json(&stages)?)
                .bind(json(&["cancelled before it began"])?)
                .bind(now)
                .execute(&mut *write)
                .await
                .map_err(self.write_error())?;
                self.commit(write).await?;
                Ok(Cancel::Cancelled)
            }
            JobStatus::Executing if undoable && job.phase.is_empty() => {
                sqlx::query("UPDATE jobs SET status = 'CANCELLING', updated_at = $2 WHERE id = $1")
                    .bind(id)
                    .bind(now)
                    .execute(&mut *write)
                    .await
                    .map_err(self.write_error())?;
                self.commit(write).await?;
                Ok(Cancel::Cancelling)
            }
            JobStatus::Executing => Ok(Cancel::TooLate),
            JobStatus::Cancelling => Ok(Cancel::Cancelling),
            ended => Ok(Cancel::Ended(ended)),
        }
    }

    /// Forgets jobs that ended before `ended_before`, and the oldest ended ones beyond the limit.
    pub async fn purge_jobs(&self, ended_before: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "DELETE FROM jobs WHERE status IN ('COMPLETED', 'FAILED', 'CANCELLED')
             AND (ended_at < $1 OR seq <= (SELECT MAX(seq) FROM jobs) - $2)",
        )
        .bind(ended_before)
        .bind(JOBS_MAX)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await
    }
}

const ACTIVE_JOBS: &str =
    "SELECT * FROM jobs WHERE status IN ('SUBMITTED', 'EXECUTING', 'CANCELLING') ORDER BY seq";

pub(super) const LAST_RESTORE: &str =
    "SELECT * FROM jobs WHERE operation = 'Restore' AND status = 'COMPLETED' ORDER BY seq DESC LIMIT 1";

pub(super) fn proofs_of(store: &str, backups: &[&str]) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "SELECT backup, operation, status, MAX(ended_at) FROM jobs \
         WHERE (operation IN ('Validate', 'Restore') AND status = 'COMPLETED' \
         OR operation = 'Validate' AND status = 'FAILED' AND result IS NOT NULL) AND store = ",
    );
    query.push_bind(store).push(" AND backup IN (");
    let mut names = query.separated(", ");
    for backup in backups {
        names.push_bind(*backup);
    }
    query.push(") GROUP BY backup, operation, status");
    query
}

fn cancelled_stage(mut stage: StageView) -> StageView {
    if stage.state == "pending" {
        stage.state = "cancelled".to_owned();
    }
    stage
}
