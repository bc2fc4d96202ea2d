//! One thing that the provider told: kept for a while, asked for anew by one caller at a time.
//!
//! ```text
//! younger than an hour ──▶ used as it is
//! older, or of no use ───▶ one asks; others wait for that, within limits, or go on with what was good
//! asked a moment ago ────▶ that answer counts, or that failure
//! ```
//!
//! A provider that hangs so keeps few callers, and none of those who can do with what is kept.

use super::Refusal;
use super::provider::{REQUEST_TIME_MAX, bad};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// What was told is asked for anew after this.
pub(super) const KEPT: Duration = Duration::from_secs(3600);
/// So long it counts while the provider fails to tell it anew.
pub(super) const KEPT_MAX: Duration = Duration::from_secs(24 * 3600);
/// After a failure nobody is made to wait for the next one at once.
pub(super) const PAUSE: Duration = Duration::from_secs(5);
/// So many wait for what somebody asks for. More are told so: each holds a place where requests are handled.
const WAITING_MAX: usize = 64;

struct Told<T> {
    good: Option<(Instant, Arc<T>)>,
    /// When it was asked for last.
    asked: Option<Instant>,
}

/// The place of one such thing.
pub(super) struct Shelf<T> {
    told: Mutex<Told<T>>,
    asking: tokio::sync::Mutex<()>,
    waiting: Semaphore,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self {
            told: Mutex::new(Told { good: None, asked: None }),
            asking: tokio::sync::Mutex::default(),
            waiting: Semaphore::new(WAITING_MAX),
        }
    }
}

impl<T> Shelf<T> {
    fn told(&self) -> MutexGuard<'_, Told<T>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was told, if that is not longer ago.
    pub fn younger_than(&self, age: Duration) -> Option<Arc<T>> {
        let told = self.told();
        told.good.as_ref().filter(|(at, _)| at.elapsed() < age).map(|(_, value)| value.clone())
    }

    /// Asks anew, unless that was done within `pause`: then that outcome counts. Whoever `may_wait` does so while somebody
    /// else asks.
    pub async fn ask(
        &self,
        pause: Duration,
        may_wait: bool,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<Arc<T>, Refusal> {
        let not_yet = || bad("the provider", "it has not answered yet");
        let _alone = match self.asking.try_lock() {
            Ok(alone) => alone,
            Err(_) if !may_wait => return Err(not_yet()),
            Err(_) => {
                let _place = self.waiting.try_acquire().map_err(|_| Refusal::Busy)?;
                let waited = tokio::time::timeout(REQUEST_TIME_MAX, self.asking.lock()).await;
                waited.map_err(|_| not_yet())?
            }
        };
        if let Some(outcome) = self.just_told(pause) {
            return outcome;
        }
        let outcome = work.await;
        let mut told = self.told();
        let now = Instant::now();
        told.asked = Some(now);
        let value = Arc::new(outcome?);
        told.good = Some((now, value.clone()));
        Ok(value)
    }

    /// What came of asking, if that was done within `pause`.
    fn just_told(&self, pause: Duration) -> Option<Result<Arc<T>, Refusal>> {
        let told = self.told();
        let asked = told.asked.filter(|at| at.elapsed() < pause)?;
        Some(match &told.good {
            Some((at, value)) if *at >= asked => Ok(value.clone()),
            _ => Err(bad("the provider", "it did not answer a moment ago")),
        })
    }

    /// As if so much time had passed since it was asked for.
    #[cfg(test)]
    pub fn let_time_pass(&self, time: Duration) {
        let mut told = self.told();
        let back = |at: Instant| at.checked_sub(time).unwrap_or(at);
        told.asked = told.asked.map(back);
        told.good = told.good.take().map(|(at, value)| (back(at), value));
    }
}
