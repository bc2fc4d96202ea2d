//! Rows of the audit log. They are added and, when they are old, removed; nothing changes one.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::State;
use crate::Result;
use crate::audit::{AuditEntry, AuditView};

fn view_of(row: &SqliteRow) -> Result<AuditView, sqlx::Error> {
    Ok(AuditView {
        id: row.try_get("seq")?,
        time: row.try_get("at")?,
        entry: AuditEntry {
            username: row.try_get("username")?,
            address: row.try_get("address")?,
            operation: row.try_get("operation")?,
            path: row.try_get("path")?,
            code: u16::try_from(row.try_get::<i64, _>("code")?).unwrap_or_default(),
            message_code: row.try_get("message_code")?,
            job_id: row.try_get("job")?,
            request_id: row.try_get("request_id")?,
        },
    })
}

impl State {
    /// Adds an entry.
    pub async fn add_audit(&self, entry: &AuditEntry, is_log_in: bool, now: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "INSERT INTO audit (at, username, address, operation, path, code, message_code, job, request_id, log_in)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(now)
        .bind(&entry.username)
        .bind(&entry.address)
        .bind(&entry.operation)
        .bind(&entry.path)
        .bind(i64::from(entry.code))
        .bind(&entry.message_code)
        .bind(&entry.job_id)
        .bind(&entry.request_id)
        .bind(i64::from(is_log_in))
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// How many log-ins were told since then that failed, and whether this very one was.
    pub async fn told_log_ins(&self, entry: &AuditEntry, since: i64) -> Result<(i64, bool)> {
        let row: (i64, i64) = sqlx::query_as(
            "SELECT COUNT(CASE WHEN code <> 0 THEN 1 END),
                 COUNT(CASE WHEN username = $2 AND address = $3 AND operation = $4 AND code = $5 THEN 1 END)
             FROM audit WHERE log_in = 1 AND at > $1",
        )
        .bind(since)
        .bind(&entry.username)
        .bind(&entry.address)
        .bind(&entry.operation)
        .bind(i64::from(entry.code))
        .fetch_one(self.reader())
        .await
        .map_err(self.read_error())?;
        Ok((row.0, row.1 > 0))
    }

    /// Entries with an id below `before`, newest first, of one user if a name is given.
    pub async fn audit(&self, username: &str, before: i64, count: i64) -> Result<Vec<AuditView>> {
        let rows = sqlx::query(
            "SELECT * FROM audit WHERE seq < $2 AND ($1 = '' OR username = $1) ORDER BY seq DESC LIMIT $3",
        )
        .bind(username)
        .bind(before)
        .bind(count)
        .fetch_all(self.reader())
        .await
        .map_err(self.read_error())?;
        rows.iter().map(view_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// Removes entries from before that time, and the oldest beyond the limits: one for failed log-ins, which strangers
    /// cause, and one for all.
    pub async fn purge_audit(&self, before: i64, most_failed: i64, most: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "DELETE FROM audit WHERE log_in = 1 AND code <> 0 AND seq <= (SELECT seq FROM audit
                 WHERE log_in = 1 AND code <> 0 ORDER BY seq DESC LIMIT 1 OFFSET $1)",
        )
        .bind(most_failed)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        sqlx::query("DELETE FROM audit WHERE at < $1 OR seq <= (SELECT MAX(seq) FROM audit) - $2")
            .bind(before)
            .bind(most)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }
}
