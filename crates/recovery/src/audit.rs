//! The audit log: every change that was asked for and every log-in, done or refused. It lies in the state database and
//! holds no secret: what was sent is not in it, only to which path.

use crate::Result;
use crate::clock::now_ms;
use crate::recovery::Inner;

const KEPT_MS: i64 = 400 * 86_400_000;
const ENTRIES_MAX: i64 = 200_000;
/// Strangers cause entries by failing to log in. They get this much of the log, and so many entries in ten minutes; the
/// server's own log has all.
const FAILED_LOG_INS_MAX: i64 = 20_000;
const FAILED_LOG_INS_AT_ONCE: i64 = 50;
/// Clients make a token before each call: the same again within this time is not told.
const SAME_LOG_IN_MS: i64 = 600_000;
const TEXT_CHARS_MAX: usize = 300;
/// More are never handed out at a time.
const COUNT_MAX: i64 = 1000;

/// What somebody asked for, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditEntry {
    /// Who; for a log-in that failed, the name that was typed.
    pub username: String,
    /// From where.
    pub address: String,
    /// What, in words.
    pub operation: String,
    /// The path of the URL.
    pub path: String,
    /// 0 = done, else the code of the refusal.
    pub code: u16,
    /// The stable name of the refusal; empty if it was done.
    pub message_code: String,
    /// The job that it began; empty if none.
    pub job_id: String,
    /// Ties it to the server's log.
    pub request_id: String,
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditView {
    /// Grows from entry to entry.
    pub id: i64,
    /// When.
    pub time: i64,
    /// What.
    pub entry: AuditEntry,
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TEXT_CHARS_MAX).collect()
}

impl Inner {
    /// Adds an entry. What was done is done: if the state cannot take the entry, the server's log holds it alone.
    pub async fn record(&self, entry: AuditEntry, is_log_in: bool) {
        let entry = AuditEntry {
            username: cut(&entry.username),
            address: cut(&entry.address),
            operation: cut(&entry.operation),
            path: cut(&entry.path),
            ..entry
        };
        tracing::info!(
            user = %entry.username, address = %entry.address, operation = %entry.operation, path = %entry.path,
            code = entry.code, request = %entry.request_id, "audit"
        );
        if let Err(error) = self.add_to_audit(&entry, is_log_in, now_ms()).await {
            tracing::error!(request = %entry.request_id, "an entry is missing in the audit log: {error}");
        }
    }

    async fn add_to_audit(&self, entry: &AuditEntry, is_log_in: bool, now: i64) -> Result<()> {
        if is_log_in {
            let (failed, is_told) = self.state.told_log_ins(entry, now - SAME_LOG_IN_MS).await?;
            if is_told || (entry.code != 0 && failed >= FAILED_LOG_INS_AT_ONCE) {
                return Ok(());
            }
        }
        self.state.add_audit(entry, is_log_in, now).await
    }

    /// Newest first, with ids below `before` if that is given; of one user, if a name is given.
    pub async fn audit(&self, username: &str, before: Option<i64>, count: i64) -> Result<Vec<AuditView>> {
        self.state.audit(username, before.unwrap_or(i64::MAX), count.clamp(1, COUNT_MAX)).await
    }

    /// Hourly: old entries go.
    pub async fn purge_audit(&self) -> Result<()> {
        self.state.purge_audit(now_ms() - KEPT_MS, FAILED_LOG_INS_MAX, ENTRIES_MAX).await
    }
}
