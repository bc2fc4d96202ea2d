//! The outbox: what is to be told to whom, written in the transaction of the fact that it tells.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::jobs::{json, parse};
use super::{Connection, State};
use crate::notices::{Content, EventKind, Notice};
use crate::{DeliveryStatus, DeliveryView, Result};

const DAY_MS: i64 = 86_400_000;

/// One delivery with what it tells.
#[derive(Clone, Debug)]
pub(crate) struct DeliveryRow {
    pub id: String,
    pub status: DeliveryStatus,
    pub attempts: i64,
    pub tried_at: i64,
    pub error: String,
    pub event: EventKind,
    pub at: i64,
    pub content: Content,
}

/// What is known of one target.
#[derive(Clone, Debug, Default)]
pub(crate) struct TargetFigures {
    pub waiting: i64,
    pub delivered: i64,
    pub gave_up: i64,
    /// The last one that was delivered, and when.
    pub last_delivered: i64,
    /// When an attempt failed last, and why.
    pub last_failed: i64,
    pub last_error: String,
    /// Whether the last delivery that came to an end was given up.
    pub is_given_up: bool,
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attempt {
    Delivered,
    /// Why it failed, and when it is tried again; `None`: never.
    Failed(String, Option<i64>),
}

fn delivery_of(row: &SqliteRow) -> Result<DeliveryRow, sqlx::Error> {
    let decode = |what: String| sqlx::Error::Decode(what.into());
    let (status, event): (String, String) = (row.try_get("status")?, row.try_get("event")?);
    let content = parse(row.try_get("content")?);
    Ok(DeliveryRow {
        id: row.try_get("id")?,
        status: DeliveryStatus::of(&status).ok_or_else(|| decode(format!("delivery status '{status}'")))?,
        attempts: row.try_get("attempts")?,
        tried_at: row.try_get("tried_at")?,
        error: row.try_get("error")?,
        event: EventKind::of(&event).ok_or_else(|| decode(format!("event '{event}'")))?,
        at: row.try_get("at")?,
        content: content.ok_or_else(|| decode("content of a notice".to_owned()))?,
    })
}

impl DeliveryRow {
    pub fn view(self, target: &str) -> DeliveryView {
        DeliveryView {
            id: self.id,
            target: target.to_owned(),
            event: self.event,
            subject: self.content.subject,
            time: self.at,
            status: self.status,
            attempts: self.attempts,
            tried: self.tried_at,
            error: self.error,
        }
    }
}

const DELIVERIES: &str = "SELECT deliveries.*, notices.event, notices.at, notices.content FROM deliveries
     JOIN notices ON notices.id = deliveries.notice";

impl State {
    /// Puts a notice into the outbox, in the transaction of the fact that it tells. What is told once and was told already
    /// leaves no trace.
    pub(super) async fn add_notice(&self, write: &mut Connection, notice: &Notice, now: i64) -> Result<()> {
        if let Some(run) = &notice.unless_run {
            let at_work: Option<String> =
                sqlx::query_scalar("SELECT id FROM runs WHERE id = $1 AND status = 'executing'")
                    .bind(run)
                    .fetch_optional(&mut *write)
                    .await
                    .map_err(self.read_error())?;
            if at_work.is_some() {
                return Ok(());
            }
        }
        let done = sqlx::query(
            "INSERT INTO notices (id, event, at, once, content) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (once) DO NOTHING",
        )
        .bind(&notice.id)
        .bind(notice.event.name())
        .bind(now)
        .bind(&notice.once)
        .bind(json(&notice.content)?)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        if done.rows_affected() == 0 {
            return Ok(());
        }
        for target in &notice.targets {
            sqlx::query(
                "INSERT INTO deliveries (id, notice, target, status, attempts, next_at, ended_at, tried_at, error)
                 VALUES ($1, $2, $3, 'waiting', 0, $4, 0, 0, '')",
            )
            .bind(uuid::Uuid::new_v4().to_string())
            .bind(&notice.id)
            .bind(target)
            .bind(now)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        }
        Ok(())
    }

    /// The same, where there is no other fact to write.
    pub async fn tell(&self, notice: &Notice, now: i64) -> Result<()> {
        let mut write = self.write().await?;
        self.add_notice(&mut write, notice, now).await?;
        self.commit(write).await
    }

    /// Tells it under this key, unless something was told under it within the last day: whoever looks, and however often.
    pub async fn tell_daily(&self, notice: Notice, key: &str, now: i64) -> Result<()> {
        let mut write = self.write().await?;
        // '0' is the character behind '/'.
        let last: Option<i64> =
            sqlx::query_scalar("SELECT MAX(at) FROM notices WHERE once >= $1 AND once < $2 AND at <= $3")
                .bind(format!("{key}/"))
                .bind(format!("{key}0"))
                .bind(now)
                .fetch_one(&mut *write)
                .await
                .map_err(self.read_error())?;
        if last.is_none_or(|last| now.saturating_sub(last) >= DAY_MS) {
            self.add_notice(&mut write, &notice.once(format!("{key}/{now}")), now).await?;
        }
        self.commit(write).await
    }

    /// The next delivery to a target that is due, and when the next one after that time is. What was never tried comes
    /// first: many that fail again and again must not keep it back, nor a test of a target.
    pub async fn due_delivery(&self, target: &str, now: i64) -> Result<(Option<DeliveryRow>, Option<i64>)> {
        let query = format!(
            "{DELIVERIES} WHERE target = $1 AND status = 'waiting' AND next_at <= $2 \
             ORDER BY attempts > 0, seq LIMIT 1"
        );
        let row = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(target)
            .bind(now)
            .fetch_optional(self.reader())
            .await
            .map_err(self.read_error())?;
        let due = row.as_ref().map(delivery_of).transpose().map_err(self.read_error())?;
        let later = sqlx::query_scalar(
            "SELECT MIN(next_at) FROM deliveries WHERE target = $1 AND status = 'waiting'",
        )
        .bind(target)
        .fetch_one(self.reader())
        .await
        .map_err(self.read_error())?;
        Ok((due, later))
    }

    /// Notes what an attempt came to.
    pub async fn note_attempt(&self, id: &str, attempt: &Attempt, now: i64) -> Result<()> {
        let (status, error, next_at) = match attempt {
            Attempt::Delivered => (DeliveryStatus::Delivered, None, 0),
            Attempt::Failed(why, Some(next_at)) => (DeliveryStatus::Waiting, Some(why), *next_at),
            Attempt::Failed(why, None) => (DeliveryStatus::GaveUp, Some(why), 0),
        };
        let ended_at = if status == DeliveryStatus::Waiting { 0 } else { now };
        let mut write = self.write().await?;
        sqlx::query(
            "UPDATE deliveries SET status = $2, attempts = attempts + 1, next_at = $3, ended_at = $4, tried_at = $5,
                 error = COALESCE($6, error) WHERE id = $1 AND status = 'waiting'",
        )
        .bind(id)
        .bind(status.name())
        .bind(next_at)
        .bind(ended_at)
        .bind(now)
        .bind(error)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// Gives up what waits for targets that are not configured any more. Returns how many.
    pub async fn give_up_others(&self, targets: &[String], why: &str, now: i64) -> Result<u64> {
        let mut write = self.write().await?;
        let waiting: Vec<(String, String)> =
            sqlx::query_as("SELECT id, target FROM deliveries WHERE status = 'waiting'")
                .fetch_all(&mut *write)
                .await
                .map_err(self.read_error())?;
        let mut gone = 0;
        for (id, _) in waiting.iter().filter(|(_, target)| !targets.contains(target)) {
            sqlx::query(
                "UPDATE deliveries SET status = 'gaveup', ended_at = $2, tried_at = $2, error = $3 WHERE id = $1",
            )
            .bind(id)
            .bind(now)
            .bind(why)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
            gone += 1;
        }
        self.commit(write).await?;
        Ok(gone)
    }

    /// The deliveries of one notice, each with its target.
    pub async fn deliveries_of(&self, notice: &str) -> Result<Vec<DeliveryView>> {
        let query = format!("{DELIVERIES} WHERE notice = $1 ORDER BY seq");
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(notice)
            .fetch_all(self.reader())
            .await
            .map_err(self.read_error())?;
        let view = |row: &SqliteRow| Ok(delivery_of(row)?.view(row.try_get("target")?));
        rows.iter().map(view).collect::<Result<_, sqlx::Error>>().map_err(self.read_error())
    }

    /// What is known of one target.
    pub async fn target_figures(&self, target: &str) -> Result<TargetFigures> {
        let mut figures = TargetFigures::default();
        let counts: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT status, COUNT(*), MAX(ended_at) FROM deliveries WHERE target = $1 GROUP BY status",
        )
        .bind(target)
        .fetch_all(self.reader())
        .await
        .map_err(self.read_error())?;
        for (status, count, ended) in counts {
            match DeliveryStatus::of(&status) {
                Some(DeliveryStatus::Waiting) => figures.waiting = count,
                Some(DeliveryStatus::Delivered) => {
                    (figures.delivered, figures.last_delivered) = (count, ended);
                }
                Some(DeliveryStatus::GaveUp) => figures.gave_up = count,
                None => {}
            }
        }
        let last: Option<String> = sqlx::query_scalar(
            "SELECT status FROM deliveries WHERE target = $1 AND ended_at > 0 ORDER BY ended_at DESC, seq DESC LIMIT 1",
        )
        .bind(target)
        .fetch_optional(self.reader())
        .await
        .map_err(self.read_error())?;
        figures.is_given_up = last.as_deref() == Some(DeliveryStatus::GaveUp.name());
        let failed: Option<(i64, String)> = sqlx::query_as(
            "SELECT tried_at, error FROM deliveries WHERE target = $1 AND error <> '' AND status <> 'delivered'
             ORDER BY tried_at DESC LIMIT 1",
        )
        .bind(target)
        .fetch_optional(self.reader())
        .await
        .map_err(self.read_error())?;
        (figures.last_failed, figures.last_error) = failed.unwrap_or_default();
        Ok(figures)
    }

    /// Forgets notices of before that time of which nothing waits any more. What is told once stays so long.
    pub async fn purge_notices(&self, before: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "DELETE FROM notices WHERE at < $1
             AND NOT EXISTS (SELECT 1 FROM deliveries WHERE notice = notices.id AND status = 'waiting')",
        )
        .bind(before)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await
    }
}
