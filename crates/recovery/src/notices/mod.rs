//! Notifications: what is told to people and programs outside, by webhook or mail.
//!
//! ```text
//! a job or run ends ──┐ in the same transaction
//! a look finds a need ┴─▶ notice + one delivery a target (SQLite) ──▶ outbox: one worker a target ──▶ notify::Target
//!                                                                          └─ fails: again later, for a day
//! ```
//!
//! A delivery keeps its id over all attempts and ends once: taken by the other side, or given up. Between the taking and
//! the note of it the server may die; then it is sent again under the same id, and the receiver can tell. Nothing that
//! does the work waits for a target.

mod ends;
mod outbox;
#[cfg(test)]
mod tests;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use notify::Target;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::watch::{Receiver, Sender};

use crate::clock::now_ms;
use crate::recovery::Inner;
use crate::{Error, ErrorKind, Result};

/// Whoever asks for a test waits this long for its outcome.
const TEST_TIME_MAX: Duration = Duration::from_secs(35);
const TEST_LOOK: Duration = Duration::from_millis(100);
/// What was told is kept this long.
const KEPT_MS: i64 = 30 * 86_400_000;

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A backup was completed.
    BackupCompleted,
    /// A backup failed, was over its time, or could not be begun.
    BackupFailed,
    /// A schedule has made no backup at its times.
    BackupLate,
    /// A restore was completed, failed or was cancelled.
    RestoreEnded,
    /// A backup is damaged, or could not be verified.
    VerificationFailed,
    /// A store has too little room for another backup.
    StoreLow,
    /// Expired backups could not be removed, or space not be freed.
    RetentionFailed,
    /// A task cannot run: its schedule or its passcode is of no use here.
    ScheduleResting,
    /// Somebody wants to see whether this arrives.
    Test,
}

impl EventKind {
    /// Those that a target can be told of.
    pub const ALL: [Self; 8] = [
        Self::BackupCompleted,
        Self::BackupFailed,
        Self::BackupLate,
        Self::RestoreEnded,
        Self::VerificationFailed,
        Self::StoreLow,
        Self::RetentionFailed,
        Self::ScheduleResting,
    ];

    /// Its name in the configuration and on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::BackupCompleted => "backup.completed",
            Self::BackupFailed => "backup.failed",
            Self::BackupLate => "backup.late",
            Self::RestoreEnded => "restore.ended",
            Self::VerificationFailed => "verification.failed",
            Self::StoreLow => "store.low",
            Self::RetentionFailed => "retention.failed",
            Self::ScheduleResting => "schedule.resting",
            Self::Test => "test",
        }
    }

    /// The event of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().chain([Self::Test]).find(|kind| kind.name() == name)
    }
}

/// Somebody to tell, and what of.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// Who.
    pub target: Arc<Target>,
    /// What of.
    pub events: Vec<EventKind>,
}

/// Whether a delivery has come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// To be tried, now or later.
    Waiting,
    /// Taken by the other side.
    Delivered,
    /// Tried for a day, or to a target that is not configured any more.
    GaveUp,
}

impl DeliveryStatus {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Delivered => "delivered",
            Self::GaveUp => "gaveup",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Delivered, Self::GaveUp].into_iter().find(|status| status.name() == name)
    }
}

/// One delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryView {
    /// The same at each attempt.
    pub id: String,
    /// To whom.
    pub target: String,
    /// What of.
    pub event: EventKind,
    /// In a line.
    pub subject: String,
    /// When it happened.
    pub time: i64,
    /// Whether it has come to its end.
    pub status: DeliveryStatus,
    /// How often it was tried.
    pub attempts: i64,
    /// When it was tried last; 0 = not yet.
    pub tried: i64,
    /// Why the last attempt that failed did.
    pub error: String,
}

/// A target, and what became of what it was to be told. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetView {
    /// Its name.
    pub name: String,
    /// `webhook` or `mail`.
    pub kind: &'static str,
    /// Where it is.
    pub place: String,
    /// What it is told of.
    pub events: Vec<EventKind>,
    /// Deliveries that wait, were taken, and were given up; of those that are still kept.
    pub waiting: i64,
    /// Those that were taken.
    pub delivered: i64,
    /// Those that were given up.
    pub gave_up: i64,
    /// When the last one was taken; 0 = none.
    pub last_delivered: i64,
    /// When an attempt failed last; 0 = none of what is not delivered did.
    pub last_failed: i64,
    /// Why.
    pub last_error: String,
    /// Whether the last one that ended was given up.
    pub is_given_up: bool,
}

/// The text of a notice, and what it is about.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Content {
    pub subject: String,
    pub message: String,
    pub facts: Map<String, Value>,
}

/// A notice to be put into the outbox.
#[derive(Clone, Debug)]
pub(crate) struct Notice {
    pub id: String,
    pub event: EventKind,
    /// Told once under this key; `None`: each time.
    pub once: Option<String>,
    /// Not told as long as this run is at work, which tells the same.
    pub unless_run: Option<String>,
    pub content: Content,
    /// The names of those who are to be told.
    pub targets: Vec<String>,
}

/// What a notice is about, for programs; what is empty is left out.
pub(crate) type Facts<'a> = &'a [(&'static str, &'a str)];

impl Notice {
    /// To be told once under this key.
    pub fn once(self, key: String) -> Self {
        Self { once: Some(key), ..self }
    }
}

/// Wakes the workers of all targets.
#[derive(Debug)]
pub(crate) struct Bell(Sender<u64>);

impl Bell {
    pub fn new() -> Self {
        Self(Sender::new(0))
    }

    /// There may be something to deliver.
    pub fn ring(&self) {
        self.0.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn listen(&self) -> Receiver<u64> {
        self.0.subscribe()
    }
}

impl Inner {
    /// A notice to all who are to be told of such an event; `None` if nobody is.
    pub fn notice(
        &self,
        event: EventKind,
        subject: String,
        message: String,
        facts: Facts<'_>,
    ) -> Option<Notice> {
        let wants = |to: &&Subscription| to.events.contains(&event);
        let targets: Vec<String> =
            self.settings.notify.iter().filter(wants).map(|to| to.target.name.clone()).collect();
        (!targets.is_empty()).then(|| self.notice_to(targets, event, subject, message, facts))
    }

    fn notice_to(
        &self,
        targets: Vec<String>,
        event: EventKind,
        subject: String,
        message: String,
        facts: Facts<'_>,
    ) -> Notice {
        let ours =
            [("site", self.settings.site_name.as_str()), ("server", self.settings.public_url.as_str())];
        let told = facts.iter().chain(&ours).filter(|(_, text)| !text.is_empty());
        let facts = told.map(|(name, text)| ((*name).to_owned(), Value::from(*text))).collect();
        let subject = format!("Strongroom {}: {subject}", self.settings.site_name);
        let id = uuid::Uuid::new_v4().to_string();
        let content = Content { subject, message, facts };
        Notice { id, event, once: None, unless_run: None, content, targets }
    }

    /// All targets, as the configuration names them.
    pub async fn targets(&self) -> Result<Vec<TargetView>> {
        let mut views = Vec::new();
        for to in &self.settings.notify {
            let figures = self.state.target_figures(&to.target.name).await?;
            views.push(TargetView {
                name: to.target.name.clone(),
                kind: to.target.kind(),
                place: to.target.place(),
                events: to.events.clone(),
                waiting: figures.waiting,
                delivered: figures.delivered,
                gave_up: figures.gave_up,
                last_delivered: figures.last_delivered,
                last_failed: figures.last_failed,
                last_error: figures.last_error,
                is_given_up: figures.is_given_up,
            });
        }
        Ok(views)
    }

    /// Tells one target, or all, that this is a test; waits for the first attempts to come to an end.
    pub async fn test_notification(&self, target: &str, username: &str) -> Result<Vec<DeliveryView>> {
        let asked = |name: &&String| target.is_empty() || *name == target;
        let names = self.settings.notify.iter().map(|to| &to.target.name);
        let targets: Vec<String> = names.filter(asked).cloned().collect();
        if targets.is_empty() {
            let shown: String = target.chars().filter(|c| !c.is_control()).take(60).collect();
            let message = if target.is_empty() {
                "Nobody can be told: the configuration has no [[notify]].".to_owned()
            } else {
                format!("Parameter 'target' is not valid: the configuration has no [[notify]] '{shown}'.")
            };
            return Err(Error::new(ErrorKind::ParameterInvalid, message));
        }
        let message = format!("User '{username}' asked for this test. Nothing has to be done.");
        let subject = "a test of notifications".to_owned();
        let notice = self.notice_to(targets, EventKind::Test, subject, message, &[("user", username)]);
        self.state.tell(&notice, now_ms()).await?;
        self.bell.ring();
        let deadline = tokio::time::Instant::now() + TEST_TIME_MAX;
        loop {
            let deliveries = self.state.deliveries_of(&notice.id).await?;
            let is_over = deliveries.iter().all(|delivery| delivery.attempts > 0);
            if is_over || tokio::time::Instant::now() >= deadline || self.runner.is_stopping() {
                return Ok(deliveries);
            }
            tokio::time::sleep(TEST_LOOK).await;
        }
    }

    /// Hourly: what was told long ago goes.
    pub async fn purge_notices(&self) -> Result<()> {
        self.state.purge_notices(now_ms() - KEPT_MS).await
    }
}
