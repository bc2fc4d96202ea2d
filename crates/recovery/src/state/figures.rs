//! Counts and ages over all jobs, for monitoring.

use super::State;
use crate::{JobFigures, Result};

/// One for each operation: together they would walk all jobs.
pub(super) const LAST_DURATION: &str = "SELECT operation, ran_ms FROM jobs \
     WHERE operation = $1 AND status = 'COMPLETED' AND ran_ms IS NOT NULL ORDER BY seq DESC LIMIT 1";

impl State {
    /// What monitoring asks of the jobs that are kept.
    pub async fn job_figures(&self) -> Result<JobFigures> {
        let counts = sqlx::query_as(
            "SELECT operation, status, COUNT(*) FROM jobs GROUP BY operation, status ORDER BY operation, status",
        );
        let counts: Vec<(String, String, i64)> =
            counts.fetch_all(self.reader()).await.map_err(self.read_error())?;
        let mut last_durations = Vec::new();
        for (operation, ..) in counts.iter().filter(|(_, status, _)| status == "COMPLETED") {
            let ran: Option<(String, i64)> = sqlx::query_as(LAST_DURATION)
                .bind(operation)
                .fetch_optional(self.reader())
                .await
                .map_err(self.read_error())?;
            last_durations.extend(ran);
        }
        let verified = sqlx::query_as(
            "SELECT store, MAX(ended_at) FROM jobs WHERE operation = 'Validate' AND status = 'COMPLETED'
             GROUP BY store ORDER BY store",
        );
        let last_verified = verified.fetch_all(self.reader()).await.map_err(self.read_error())?;
        Ok(JobFigures { counts, last_durations, last_verified })
    }
}
