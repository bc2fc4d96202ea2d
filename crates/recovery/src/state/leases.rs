//! What a worker writes into the row of its job, under a lease.
//!
//! Whoever claims a row gets a lease with a fencing token, one higher at each claim. Every later write of that worker
//! names the token and hits nothing once the row was claimed again or has ended; a worker that learns of it has lost
//! the job. Giving a row back or ending it adds to how long it ran; of a worker that died, the time until its last renewal.

use super::State;
use super::jobs::{Finish, JobRow, Lease, job_of, json, parse, status_text};
use crate::{ProgressView, Result, StageView};

/// A job keeps at most this many messages.
const MESSAGES_MAX: usize = 100;

impl State {
    /// Takes the next job of a lane that nobody holds: one that was begun before comes first.
    pub async fn claim_job(&self, lane: &str, owner: &str, now: i64, until: i64) -> Result<Option<JobRow>> {
        let mut write = self.write().await?;
        let row = sqlx::query(
            "UPDATE jobs SET status = CASE WHEN status = 'SUBMITTED' THEN 'EXECUTING' ELSE status END,
                 ran_ms = COALESCE(ran_ms, 0) + CASE WHEN lease_owner IS NOT NULL AND claimed_at > 0
                     AND updated_at > claimed_at THEN updated_at - claimed_at ELSE 0 END,
                 lease_owner = $2, lease_token = lease_token + 1, lease_until = $4, updated_at = $3, claimed_at = $3
             WHERE id = (SELECT id FROM jobs
                 WHERE lane = $1 AND status IN ('SUBMITTED', 'EXECUTING', 'CANCELLING')
                   AND (lease_owner IS NULL OR lease_until < $3)
                 ORDER BY CASE WHEN status = 'SUBMITTED' THEN 1 ELSE 0 END, seq LIMIT 1)
             RETURNING *",
        )
        .bind(lane)
        .bind(owner)
        .bind(now)
        .bind(until)
        .fetch_optional(&mut *write)
        .await
        .map_err(self.write_error())?;
        let job = row.as_ref().map(job_of).transpose().map_err(self.read_error())?;
        self.commit(write).await?;
        Ok(job)
    }

    /// Prolongs a lease. False once it is lost.
    pub async fn renew_lease(&self, lease: &Lease, now: i64, until: i64) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "UPDATE jobs SET lease_until = $4, updated_at = $3
             WHERE id = $1 AND lease_token = $2 AND status IN ('EXECUTING', 'CANCELLING')",
        )
        .bind(&lease.job_id)
        .bind(lease.token)
        .bind(now)
        .bind(until)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives a lease back without ending the job; `interrupted` says why, if that was no clean stop. False once
    /// the lease is lost.
    pub async fn release_lease(&self, lease: &Lease, interrupted: Option<&str>, now: i64) -> Result<bool> {
        let mut write = self.write().await?;
        let Some(mut messages) = self.held_messages(&mut write, lease).await? else { return Ok(false) };
        if let Some(message) = interrupted {
            push_message(&mut messages, message);
        }
        let done = sqlx::query(
            "UPDATE jobs SET lease_owner = NULL, lease_until = 0, interruptions = interruptions + $3,
                 messages = $4, updated_at = $5,
                 ran_ms = COALESCE(ran_ms, 0) + CASE WHEN $5 > claimed_at THEN $5 - claimed_at ELSE 0 END
             WHERE id = $1 AND lease_token = $2 AND status IN ('EXECUTING', 'CANCELLING')",
        )
        .bind(&lease.job_id)
        .bind(lease.token)
        .bind(i64::from(interrupted.is_some()))
        .bind(json(&messages)?)
        .bind(now)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// At the start of a server that alone owns this state: nobody can hold a lease any more. A job that was
    /// held is counted as interrupted; one that a clean stop paused is not. Returns the ids of all that go on.
    pub async fn interrupt_all(&self, message: &str, now: i64) -> Result<Vec<String>> {
        let mut write = self.write().await?;
        let rows = sqlx::query("SELECT * FROM jobs WHERE status IN ('EXECUTING', 'CANCELLING') ORDER BY seq")
            .fetch_all(&mut *write)
            .await
            .map_err(self.read_error())?;
        let jobs = rows.iter().map(job_of).collect::<Result<Vec<_>, _>>().map_err(self.read_error())?;
        for job in &jobs {
            let mut messages = job.messages.clone();
            push_message(&mut messages, message);
            sqlx::query(
                "UPDATE jobs SET ran_ms = COALESCE(ran_ms, 0) + CASE WHEN lease_owner IS NOT NULL
                         AND updated_at > claimed_at AND claimed_at > 0 THEN updated_at - claimed_at ELSE 0 END,
                     lease_owner = NULL, lease_until = 0, interruptions = interruptions + $2,
                     messages = $3, updated_at = $4 WHERE id = $1",
            )
            .bind(&job.id)
            .bind(i64::from(job.lease_owner.is_some()))
            .bind(json(&messages)?)
            .bind(now)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        }
        self.commit(write).await?;
        Ok(jobs.into_iter().map(|job| job.id).collect())
    }

    /// Notes how far a job is. False once the lease is lost.
    pub async fn write_progress(
        &self,
        lease: &Lease,
        stages: &[StageView],
        progress: &ProgressView,
        now: i64,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "UPDATE jobs SET stages = $3, progress = $4, updated_at = $5
             WHERE id = $1 AND lease_token = $2 AND status IN ('EXECUTING', 'CANCELLING')",
        )
        .bind(&lease.job_id)
        .bind(lease.token)
        .bind(json(&stages)?)
        .bind(json(progress)?)
        .bind(now)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Notes that a job passed a point. False once the lease is lost or the job is being cancelled.
    pub async fn set_phase(&self, lease: &Lease, phase: &str, now: i64) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "UPDATE jobs SET phase = $3, updated_at = $4
             WHERE id = $1 AND lease_token = $2 AND status = 'EXECUTING'",
        )
        .bind(&lease.job_id)
        .bind(lease.token)
        .bind(phase)
        .bind(now)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Ends a job and wipes its passcode. False once the lease is lost: then nothing was written.
    pub async fn finish_job(&self, lease: &Lease, finish: &Finish, now: i64) -> Result<bool> {
        let mut write = self.write().await?;
        let Some(earlier) = self.held_messages(&mut write, lease).await? else { return Ok(false) };
        let mut messages = finish.messages.clone();
        messages.extend(earlier);
        messages.truncate(MESSAGES_MAX);
        let done = sqlx::query(
            "UPDATE jobs SET status = $3, passcode = NULL, lease_owner = NULL, lease_until = 0, messages = $4,
                 stages = $5, result = $6, progress = NULL, updated_at = $7, ended_at = $7,
                 ran_ms = COALESCE(ran_ms, 0) + CASE WHEN $7 > claimed_at THEN $7 - claimed_at ELSE 0 END
             WHERE id = $1 AND lease_token = $2 AND status IN ('EXECUTING', 'CANCELLING')",
        )
        .bind(&lease.job_id)
        .bind(lease.token)
        .bind(status_text(finish.status))
        .bind(json(&messages)?)
        .bind(json(&finish.stages)?)
        .bind(finish.result.as_ref().map(ToString::to_string))
        .bind(now)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        if let Some(notice) = finish.notice.as_ref().filter(|_| done.rows_affected() == 1) {
            self.add_notice(&mut write, notice, now).await?;
        }
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    async fn held_messages(
        &self,
        write: &mut super::Connection,
        lease: &Lease,
    ) -> Result<Option<Vec<String>>> {
        let text: Option<String> = sqlx::query_scalar(
            "SELECT messages FROM jobs
             WHERE id = $1 AND lease_token = $2 AND status IN ('EXECUTING', 'CANCELLING')",
        )
        .bind(&lease.job_id)
        .bind(lease.token)
        .fetch_optional(write)
        .await
        .map_err(self.read_error())?;
        Ok(text.map(|text| parse(Some(text)).unwrap_or_default()))
    }
}

fn push_message(messages: &mut Vec<String>, message: &str) {
    if messages.len() < MESSAGES_MAX {
        messages.push(message.to_owned());
    }
}
