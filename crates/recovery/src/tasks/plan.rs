//! When a task runs next, and what is due now: plain functions of its schedule and a clock.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::cron::{self, Cron, CronFields};
use crate::Result;

/// A time that passed while nobody was there is made up for if it is younger.
const MAKE_UP_MS: i64 = 6 * 3_600_000;

/// When a task runs.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    pub cron: Cron,
    pub zone: TimeZone,
    /// No run before; 0 = none such.
    pub start_date: i64,
    /// No run after; 0 = none such.
    pub end_date: i64,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// This slot, now.
    Run(i64),
    /// This slot passed too long ago.
    Missed(i64),
}

impl Schedule {
    /// Of what is kept, or refuses what cannot be understood by its name on the wire.
    pub fn parse(cron: &CronFields, zone: &str, start_date: i64, end_date: i64) -> Result<Self> {
        Ok(Self { cron: Cron::parse(cron)?, zone: cron::zone(zone)?, start_date, end_date })
    }

    /// The first slot after an instant; -1 if there is none.
    pub fn next_after(&self, after: i64) -> i64 {
        let after = after.max(self.start_date.saturating_sub(1));
        let next = Timestamp::from_millisecond(after)
            .ok()
            .and_then(|after| self.cron.next_after(after, &self.zone))
            .map(Timestamp::as_millisecond);
        next.filter(|next| self.end_date <= 0 || *next <= self.end_date).unwrap_or(-1)
    }

    /// What became due since `next`, the first slot that nobody has seen yet. Of several slots that passed while
    /// nobody was there only the last one counts.
    pub fn due(&self, next: i64, now: i64) -> Option<Due> {
        if next < 0 || next > now {
            return None;
        }
        let mut last = None;
        let mut slot = self.next_after((next - 1).max(now.saturating_sub(MAKE_UP_MS)));
        while slot >= 0 && slot <= now {
            last = Some(slot);
            slot = self.next_after(slot);
        }
        Some(last.map_or(Due::Missed(next), Due::Run))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    const DAY: i64 = 24 * HOUR;

    fn schedule(minute: &str, hour: &str) -> Schedule {
        let fields = CronFields {
            minute: minute.to_owned(),
            hour: hour.to_owned(),
            day_of_month: "*".to_owned(),
            month: "*".to_owned(),
            day_of_week: "?".to_owned(),
        };
        Schedule::parse(&fields, "UTC", 0, 0).unwrap()
    }

    #[test]
    fn nothing_is_due_before_its_time_and_the_slot_itself_is() {
        let nightly = schedule("0", "2");
        let slot = 2 * HOUR;
        assert_eq!(nightly.next_after(0), slot);
        assert_eq!(nightly.due(slot, slot - 1), None);
        assert_eq!(nightly.due(slot, slot), Some(Due::Run(slot)));
        assert_eq!(nightly.next_after(slot), DAY + slot);
        assert_eq!(nightly.due(-1, DAY), None, "no next run");
    }

    #[test]
    fn of_what_passed_meanwhile_the_last_is_made_up_for_once_if_it_is_young() {
        let nightly = schedule("0", "2");
        let (slot, later) = (2 * HOUR, 10 * DAY + 2 * HOUR);
        assert_eq!(nightly.due(slot, later + 5 * HOUR), Some(Due::Run(later)));
        assert_eq!(nightly.due(slot, later + MAKE_UP_MS - 1), Some(Due::Run(later)));
        assert_eq!(nightly.due(slot, later + MAKE_UP_MS), Some(Due::Missed(slot)));
        let hourly = schedule("0", "*");
        assert_eq!(hourly.due(HOUR, 100 * HOUR + 1), Some(Due::Run(100 * HOUR)));
    }

    #[test]
    fn nothing_runs_before_the_start_or_after_the_end() {
        let mut nightly = schedule("0", "2");
        nightly.start_date = 5 * DAY;
        nightly.end_date = 6 * DAY + 2 * HOUR;
        assert_eq!(nightly.next_after(0), 5 * DAY + 2 * HOUR);
        assert_eq!(nightly.next_after(5 * DAY + 2 * HOUR), 6 * DAY + 2 * HOUR, "the end itself counts");
        assert_eq!(nightly.next_after(6 * DAY + 2 * HOUR), -1);
        nightly.start_date = 5 * DAY + 2 * HOUR;
        assert_eq!(nightly.next_after(0), 5 * DAY + 2 * HOUR, "the start itself counts");
    }
}
