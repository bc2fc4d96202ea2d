//! Wall-clock time, as the interface gives it, and a watch for jumps of it.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Epoch milliseconds.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time for people: UTC, to the second.
pub(crate) fn text(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A time for people and programs: RFC 3339 in UTC, to the millisecond.
pub(crate) fn exact(ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

/// A wall clock that moved this far against the monotonic one is not believed at once.
const JUMP_MIN: Duration = Duration::from_secs(24 * 3600);

/// Compares wall clock and monotonic clock from one look to the next.
#[derive(Debug)]
pub(crate) struct JumpWatch {
    last: Mutex<(i64, Instant)>,
}

impl JumpWatch {
    /// Watches from now on.
    pub fn new() -> Self {
        Self { last: Mutex::new((now_ms(), Instant::now())) }
    }

    /// By how many milliseconds the wall clock jumped since the last look, if that is more than a day.
    pub fn jumped(&self) -> Option<i64> {
        self.jumped_at(now_ms(), Instant::now())
    }

    fn jumped_at(&self, wall: i64, monotonic: Instant) -> Option<i64> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (wall_before, monotonic_before) = std::mem::replace(&mut *last, (wall, monotonic));
        let passed = monotonic.saturating_duration_since(monotonic_before).as_millis();
        let drift = (wall - wall_before).saturating_sub(i64::try_from(passed).unwrap_or(i64::MAX));
        (u128::from(drift.unsigned_abs()) > JUMP_MIN.as_millis()).then_some(drift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_of_more_than_a_day_is_seen_once() {
        let watch = JumpWatch { last: Mutex::new((1_000_000, Instant::now())) };
        let later = Instant::now() + Duration::from_secs(3600);
        assert_eq!(watch.jumped_at(1_000_000 + 3_600_000, later), None);
        let month = 30 * 24 * 3_600_000;
        assert!(watch.jumped_at(1_000_000 + 3_600_000 + month, later).is_some());
        assert_eq!(watch.jumped_at(1_000_000 + 3_600_000 + month, later), None);
        assert!(watch.jumped_at(1_000_000, later).is_some_and(|drift| drift < 0));
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(text(0), "1970-01-01 00:00:00 UTC");
    }
}
