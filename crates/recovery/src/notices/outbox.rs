//! Delivers what waits in the outbox: one worker a target, so that none waits for another.

use std::sync::Arc;
use std::time::Duration;

use notify::Letter;
use tokio::task::JoinSet;

use super::Subscription;
use crate::Result;
use crate::clock::now_ms;
use crate::recovery::Inner;
use crate::state::{Attempt, DeliveryRow};

/// Between two attempts at the same delivery: this at first, twice as long each time, and never longer than an hour.
const FIRST_PAUSE_MS: i64 = 10_000;
const PAUSE_MS_MAX: i64 = 3_600_000;
/// After so long, and so many attempts, a delivery is given up. Both, as a server may have slept for a day.
const TRIED_FOR_MS: i64 = 86_400_000;
const ATTEMPTS_MIN: i64 = 8;
/// A target that failed is left alone this long, whatever else waits for it.
const REST: Duration = Duration::from_secs(1);
/// Nobody has to ring.
const IDLE: Duration = Duration::from_secs(30);
/// When the state takes nothing.
const STATE_PAUSE: Duration = Duration::from_secs(2);
/// An attempt that is under way may end in this time when the server stops.
const STOP_TIME: Duration = Duration::from_secs(3);

/// When a delivery that has failed so often is tried again; `None`: never. `jitter` is 0 to 1.
pub(super) fn next_attempt(happened: i64, attempts: i64, now: i64, jitter: f64) -> Option<i64> {
    if attempts >= ATTEMPTS_MIN && now - happened >= TRIED_FOR_MS {
        return None;
    }
    let doubled = FIRST_PAUSE_MS.checked_shl(u32::try_from(attempts - 1).unwrap_or(20).min(20));
    let pause = doubled.unwrap_or(PAUSE_MS_MAX).clamp(FIRST_PAUSE_MS, PAUSE_MS_MAX);
    // Spread by a quarter to each side, so that servers that were cut off together do not come back together.
    let spread = (pause as f64 * (0.75 + jitter.clamp(0.0, 1.0) / 2.0)) as i64;
    Some(now.saturating_add(spread))
}

impl Inner {
    /// Delivers until the server stops.
    pub async fn deliver_notices(self: Arc<Self>) {
        let names: Vec<String> = self.settings.notify.iter().map(|to| to.target.name.clone()).collect();
        let why = "The configuration does not name this target any more.";
        match self.state.give_up_others(&names, why, now_ms()).await {
            Ok(0) => {}
            Ok(count) => tracing::warn!(count, "notifications to targets that are gone were given up"),
            Err(error) => tracing::error!("the outbox cannot be read: {error}"),
        }
        let mut workers = JoinSet::new();
        for to in self.settings.notify.clone() {
            workers.spawn(self.clone().deliver_to(to));
        }
        while workers.join_next().await.is_some() {}
    }

    async fn deliver_to(self: Arc<Self>, to: Subscription) {
        let mut bell = self.bell.listen();
        while !self.runner.is_stopping() {
            bell.mark_unchanged();
            let pause = match self.deliver_next(&to, now_ms()).await {
                Ok(Some(pause)) => pause,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(target = %to.target.name, "the outbox cannot be read: {error}");
                    STATE_PAUSE
                }
            };
            tokio::select! {
                _ = bell.changed(), if pause > REST => {}
                stopped = self.pause(pause) => if stopped { return },
            }
        }
    }

    /// Delivers what is due; says how long to wait, if there is nothing more to do at once.
    pub(super) async fn deliver_next(&self, to: &Subscription, now: i64) -> Result<Option<Duration>> {
        let (due, later) = self.state.due_delivery(&to.target.name, now).await?;
        let Some(delivery) = due else {
            let left = later.map_or(i64::MAX, |later| later.saturating_sub(now));
            return Ok(Some(Duration::from_millis(left.max(0).unsigned_abs()).clamp(REST, IDLE)));
        };
        let letter = letter(&delivery);
        let sent = tokio::select! {
            sent = to.target.send(&letter) => sent,
            () = self.stopped_for(STOP_TIME) => return Ok(Some(Duration::ZERO)),
        };
        let attempt = match sent {
            Ok(()) => Attempt::Delivered,
            Err(failure) => {
                let next = next_attempt(delivery.at, delivery.attempts + 1, now, rand::random());
                Attempt::Failed(failure.to_string(), next)
            }
        };
        self.note(to, &delivery, &attempt).await;
        Ok(matches!(attempt, Attempt::Failed(..)).then_some(REST))
    }

    /// Notes what an attempt came to, again and again until the state takes it: what was taken must not be sent again
    /// because a disk was full for a while.
    async fn note(&self, to: &Subscription, delivery: &DeliveryRow, attempt: &Attempt) {
        let (target, event) = (&to.target.name, delivery.event.name());
        match attempt {
            Attempt::Delivered => {
                tracing::info!(%target, event, delivery = %delivery.id, "notification delivered")
            }
            Attempt::Failed(why, Some(_)) => {
                tracing::warn!(%target, event, delivery = %delivery.id, "notification not delivered: {why}");
            }
            Attempt::Failed(why, None) => {
                tracing::error!(%target, event, delivery = %delivery.id, "notification given up: {why}");
            }
        }
        while let Err(error) = self.state.note_attempt(&delivery.id, attempt, now_ms()).await {
            tracing::error!(%target, delivery = %delivery.id, "what became of it could not be noted: {error}");
            if self.runner.is_killed() {
                return;
            }
            tokio::time::sleep(STATE_PAUSE).await;
        }
    }

    /// Once the server has been stopping for so long.
    async fn stopped_for(&self, time: Duration) {
        while !self.pause(IDLE).await {}
        tokio::time::sleep(time).await;
    }
}

fn letter(delivery: &DeliveryRow) -> Letter {
    Letter {
        delivery: delivery.id.clone(),
        event: delivery.event.name().to_owned(),
        time: delivery.at,
        subject: delivery.content.subject.clone(),
        message: delivery.content.message.clone(),
        facts: delivery.content.facts.clone(),
    }
}
