//! Counts and ages over all jobs, for monitoring.

use super::State;
use crate::{JobFigures, Result};

impl State {
    /// What monitoring asks of the jobs that are kept.
    pub async fn job_figures(&self) -> Result<JobFigures> {
        let counts = sqlx::query_as(
            "SELECT operation, status, COUNT(*) FROM jobs GROUP BY operation, status ORDER BY operation, status",
        );
        let durations = sqlx::query_as(
            "SELECT operation, ran_ms FROM jobs WHERE seq IN
                 (SELECT MAX(seq) FROM jobs WHERE status = 'COMPLETED' AND ran_ms IS NOT NULL GROUP BY operation)
             ORDER BY operation",
        );
        let verified = sqlx::query_as(
            "SELECT store, MAX(ended_at) FROM jobs WHERE operation = 'Validate' AND status = 'COMPLETED'
             GROUP BY store ORDER BY store",
        );
        Ok(JobFigures {
            counts: counts.fetch_all(self.reader()).await.map_err(self.read_error())?,
            last_durations: durations.fetch_all(self.reader()).await.map_err(self.read_error())?,
            last_verified: verified.fetch_all(self.reader()).await.map_err(self.read_error())?,
        })
    }
}
