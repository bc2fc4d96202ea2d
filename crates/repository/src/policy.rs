//! The policy of forgetting: a pure function from the snapshots of a group to those that stay, with the reasons.
//!
//! It decides as restic's does. Snapshots are looked at from the newest to the oldest. Each rule keeps the newest one
//! of every period that it counts, and the oldest one of all while it still has some left to keep. Days and hours are
//! those of the time zone in which a snapshot's time was written.

use crate::select::has_tags;
use crate::{Id, Snapshot, Time};

/// How long a rule reaches back from the newest snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Span {
    pub years: i32,
    pub months: i32,
    pub days: i32,
    pub hours: i32,
}

impl Span {
    fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Reads `1y5m7d2h`; any of the parts may be missing, but not all.
    pub fn parse(text: &str) -> Option<Self> {
        let mut span = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            let number: i32 = rest.get(..digits)?.parse().ok()?;
            let unit = rest[digits..].chars().next()?;
            let part = match unit {
                'y' => &mut span.years,
                'm' => &mut span.months,
                'd' => &mut span.days,
                'h' => &mut span.hours,
                _ => return None,
            };
            *part = number;
            rest = &rest[digits + unit.len_utf8()..];
        }
        (!text.is_empty()).then_some(span)
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, unit) in [(self.years, 'y'), (self.months, 'm'), (self.days, 'd'), (self.hours, 'h')] {
            if number != 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        Ok(())
    }
}

/// How many a rule keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// The rule is not used.
    #[default]
    None,
    /// So many.
    Some(u32),
    /// As many as there are.
    All,
}

/// The rules; a snapshot stays if any of them keeps it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct KeepPolicy {
    pub last: Count,
    pub hourly: Count,
    pub daily: Count,
    pub weekly: Count,
    pub monthly: Count,
    pub yearly: Count,
    pub within: Span,
    pub within_hourly: Span,
    pub within_daily: Span,
    pub within_weekly: Span,
    pub within_monthly: Span,
    pub within_yearly: Span,
    /// Snapshots that bear all tags of one of these lists stay.
    pub tags: Vec<Vec<String>>,
}

impl KeepPolicy {
    /// Whether there is no rule at all; then everything stays.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A snapshot and what becomes of it: it stays for these reasons, or goes if there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Its id.
    pub id: Id,
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Why it stays, in restic's words.
    pub reasons: Vec<String>,
}

impl Verdict {
    /// Does it stay?
    pub fn stays(&self) -> bool {
        !self.reasons.is_empty()
    }
}

/// What a rule takes for the same period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Period {
    Each,
    Hour,
    Day,
    Week,
    Month,
    Year,
}

/// A rule while it is at work.
struct Rule {
    period: Period,
    reason: String,
    limit: Limit,
    last: Option<i64>,
}

enum Limit {
    Count(Count),
    /// Newer than this.
    Since(Time),
}

/// Decides on the snapshots of a group, newest first. `now` only serves to leave snapshots of the future out of account
/// when it is looked which one is the newest.
pub fn apply_policy(policy: &KeepPolicy, snapshots: Vec<(Id, Snapshot)>, now: Time) -> Vec<Verdict> {
    let mut snapshots: Vec<(Moment, Id, Snapshot)> =
        snapshots.into_iter().map(|(id, snapshot)| (Moment::of(&snapshot.time), id, snapshot)).collect();
    snapshots.sort_by(|a, b| b.0.time.cmp(&a.0.time).then(a.1.cmp(&b.1)));
    if policy.is_empty() {
        let stay = |(_, id, snapshot)| Verdict { id, snapshot, reasons: vec!["policy is empty".to_owned()] };
        return snapshots.into_iter().map(stay).collect();
    }
    let newest = snapshots.iter().map(|(moment, ..)| *moment).find(|moment| moment.time <= now);
    let newest = newest.unwrap_or_default();
    let mut rules = rules(policy, newest);
    let count = snapshots.len();
    let mut verdicts = Vec::with_capacity(count);
    for (number, (moment, id, snapshot)) in snapshots.into_iter().enumerate() {
        let mut reasons = Vec::new();
        for tags in &policy.tags {
            if has_tags(&snapshot, tags) {
                reasons.push(format!("has tags [{}]", tags.join(", ")));
            }
        }
        if !policy.within.is_zero() && moment.time > newest.before(policy.within) {
            reasons.push(format!("within {}", policy.within));
        }
        for rule in &mut rules {
            reasons.extend(rule.keeps(moment, number, number + 1 == count));
        }
        verdicts.push(Verdict { id, snapshot, reasons });
    }
    verdicts
}

fn rules(policy: &KeepPolicy, newest: Moment) -> Vec<Rule> {
    let counted = [
        (policy.last, Period::Each, "last snapshot"),
        (policy.hourly, Period::Hour, "hourly snapshot"),
        (policy.daily, Period::Day, "daily snapshot"),
        (policy.weekly, Period::Week, "weekly snapshot"),
        (policy.monthly, Period::Month, "monthly snapshot"),
        (policy.yearly, Period::Year, "yearly snapshot"),
    ];
    let within = [
        (policy.within_hourly, Period::Hour, "hourly within"),
        (policy.within_daily, Period::Day, "daily within"),
        (policy.within_weekly, Period::Week, "weekly within"),
        (policy.within_monthly, Period::Month, "monthly within"),
        (policy.within_yearly, Period::Year, "yearly within"),
    ];
    let counted = counted
        .into_iter()
        .filter(|(count, ..)| *count != Count::None)
        .map(|(count, period, reason)| (Limit::Count(count), period, reason.to_owned()));
    let within = within.into_iter().filter(|(span, ..)| !span.is_zero()).map(|(span, period, reason)| {
        (Limit::Since(newest.before(span)), period, format!("{reason} {span}"))
    });
    counted.chain(within).map(|(limit, period, reason)| Rule { period, reason, limit, last: None }).collect()
}

impl Rule {
    /// The reason for which it keeps the snapshot, if it does.
    fn keeps(&mut self, moment: Moment, number: usize, is_oldest: bool) -> Option<String> {
        match &self.limit {
            Limit::Count(Count::None | Count::Some(0)) => return None,
            Limit::Since(since) if moment.time <= *since => return None,
            _ => {}
        }
        let period = moment.period(self.period, number);
        let same = self.last == Some(period);
        if same && !is_oldest {
            return None;
        }
        self.last = Some(period);
        if let Limit::Count(Count::Some(left)) = &mut self.limit {
            *left -= 1;
        }
        Some(if same { format!("oldest {}", self.reason) } else { self.reason.clone() })
    }
}

/// A time as it was written: the instant, and what a clock on the wall showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moment {
    time: Time,
    /// Seconds that the clock was ahead of UTC.
    offset: i64,
}

impl Moment {
    fn of(text: &str) -> Self {
        let time = Time::parse(text).unwrap_or_default();
        Self { time, offset: offset_of(text).unwrap_or(0) }
    }

    /// Year, month, day and hour on the wall.
    fn wall(self) -> (i64, i64, i64, i64) {
        let seconds = self.time.seconds + self.offset;
        let (year, month, day) = crate::time::civil(seconds.div_euclid(86_400));
        (year, month.into(), day.into(), seconds.rem_euclid(86_400) / 3600)
    }

    /// A number that is the same for all times of a period.
    fn period(self, period: Period, number: usize) -> i64 {
        let (year, month, day, hour) = self.wall();
        match period {
            Period::Each => number as i64,
            Period::Hour => ((year * 100 + month) * 100 + day) * 100 + hour,
            Period::Day => (year * 100 + month) * 100 + day,
            Period::Week => {
                // An ISO week belongs to the year that its Thursday is in; all its days have the same Monday.
                (self.time.seconds + self.offset).div_euclid(86_400) + 3 - self.weekday()
            }
            Period::Month => year * 100 + month,
            Period::Year => year,
        }
    }

    /// Monday is 0.
    fn weekday(self) -> i64 {
        ((self.time.seconds + self.offset).div_euclid(86_400) + 3).rem_euclid(7)
    }

    /// So much earlier, as a calendar reckons it: a month before 31 March is 31 February, which is 3 March.
    fn before(self, span: Span) -> Time {
        let (year, month, day, _) = self.wall();
        let months = year * 12 + month - 1 - i64::from(span.years) * 12 - i64::from(span.months);
        let first = crate::time::days_from_civil(months.div_euclid(12), months.rem_euclid(12) + 1, 1);
        let days = first + day - 1 - i64::from(span.days);
        let of_day = (self.time.seconds + self.offset).rem_euclid(86_400);
        let seconds = days * 86_400 + of_day - self.offset - i64::from(span.hours) * 3600;
        Time { seconds, nanoseconds: self.time.nanoseconds }
    }
}

/// The `+02:00` at the end of a time, in seconds.
fn offset_of(text: &str) -> Option<i64> {
    let tail = text.get(text.len().checked_sub(6)?..)?;
    let sign = match tail.as_bytes()[0] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = tail[1..].split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 3600 + minutes.parse::<i64>().ok()? * 60))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn snapshot(number: usize, time: &str, tags: &[&str]) -> (Id, Snapshot) {
        let snapshot = serde_json::from_value(serde_json::json!({
            "time": time, "tree": Id([0; 32]), "paths": ["/p"], "hostname": "h", "tags": tags,
        }));
        (Id::of(&number.to_le_bytes()), snapshot.unwrap())
    }

    const NOW: Time = Time { seconds: 2_000_000_000, nanoseconds: 0 };

    fn kept(policy: &KeepPolicy, times: &[&str]) -> Vec<String> {
        let snapshots = times.iter().enumerate().map(|(number, time)| snapshot(number, time, &[])).collect();
        apply_policy(policy, snapshots, NOW)
            .into_iter()
            .filter(Verdict::stays)
            .map(|verdict| verdict.snapshot.time)
            .collect()
    }

    #[test]
    fn a_day_is_that_of_the_clock_on_the_wall() {
        let daily = KeepPolicy { daily: Count::Some(9), ..Default::default() };
        // In UTC both are on the 1st.
        let times = ["2026-01-01T23:30:00Z", "2026-01-02T01:00:00+02:00", "2026-01-01T10:00:00Z"];
        assert_eq!(kept(&daily, &times).len(), 3, "the oldest stays too");
        assert_eq!(kept(&daily, &times[..2]).len(), 2);
    }

    #[test]
    fn weeks_are_those_of_iso() {
        let weekly = KeepPolicy { weekly: Count::All, ..Default::default() };
        let times =
            ["2021-01-03T00:00:00Z", "2021-01-01T00:00:00Z", "2020-12-29T00:00:00Z", "2020-12-27T23:00:00Z"];
        assert_eq!(kept(&weekly, &times), ["2021-01-03T00:00:00Z", "2020-12-27T23:00:00Z"]);
    }

    #[test]
    fn a_month_before_the_31st_is_reckoned_as_a_calendar_does() {
        let at = Moment::of("2026-03-31T12:00:00Z");
        let before = |text| at.before(Span::parse(text).unwrap()).text();
        assert_eq!(before("1m"), "2026-03-03T12:00:00Z");
        assert_eq!(before("1y2m3d4h"), "2025-01-28T08:00:00Z");
        assert_eq!(Span::parse("1y2m3d4h").unwrap().to_string(), "1y2m3d4h");
        for wrong in ["", "5", "d", "1w", "1d-2h", "99999999999d"] {
            assert_eq!(Span::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn snapshots_of_the_future_do_not_move_the_window() {
        let within = KeepPolicy { within: Span::parse("2d").unwrap(), ..Default::default() };
        let times =
            ["2099-01-01T00:00:00Z", "2026-01-03T00:00:00Z", "2026-01-02T00:00:00Z", "2025-01-01T00:00:00Z"];
        assert_eq!(kept(&within, &times), &times[..3]);
    }

    #[test]
    fn tags_keep_what_bears_all_of_a_list() {
        let policy = KeepPolicy { tags: vec![vec!["a".into(), "b".into()]], ..Default::default() };
        let all = vec![
            snapshot(1, "2026-01-01T00:00:00Z", &["a", "b", "c"]),
            snapshot(2, "2026-01-02T00:00:00Z", &["a"]),
        ];
        let verdicts = apply_policy(&policy, all, NOW);
        assert_eq!(verdicts.iter().map(Verdict::stays).collect::<Vec<_>>(), [false, true]);
        assert_eq!(verdicts[1].reasons, ["has tags [a, b]"]);
    }

    fn counts() -> impl Strategy<Value = Count> {
        prop_oneof![Just(Count::None), (0u32..9).prop_map(Count::Some), Just(Count::All)]
    }

    proptest! {
        #[test]
        fn whatever_the_policy_nothing_is_lost_or_doubled_and_more_to_keep_keeps_no_less(
            seconds in proptest::collection::vec(1_600_000_000i64..1_760_000_000, 0..60),
            (last, daily, weekly, monthly) in (counts(), counts(), counts(), counts()),
        ) {
            let times: Vec<String> =
                seconds.iter().map(|&seconds| Time { seconds, nanoseconds: 0 }.text()).collect();
            let snapshots: Vec<_> =
                times.iter().enumerate().map(|(n, time)| snapshot(n, time, &[])).collect();
            let policy = KeepPolicy { last, daily, weekly, monthly, ..Default::default() };
            let verdicts = apply_policy(&policy, snapshots.clone(), NOW);
            let mut ids: Vec<Id> = verdicts.iter().map(|verdict| verdict.id).collect();
            ids.sort();
            let mut expected: Vec<Id> = snapshots.iter().map(|(id, _)| *id).collect();
            expected.sort();
            prop_assert_eq!(ids, expected);
            prop_assert!(verdicts.is_sorted_by(|a, b| Time::parse(&a.snapshot.time) >= Time::parse(&b.snapshot.time)));
            if let (Count::Some(n), Some(_)) = (last, verdicts.first()) {
                prop_assert!(verdicts.iter().take(n as usize).all(Verdict::stays));
            }
            let more = KeepPolicy { yearly: Count::Some(3), ..policy.clone() };
            let with_more = apply_policy(&more, snapshots, NOW);
            if !policy.is_empty() {
                for (few, many) in verdicts.iter().zip(&with_more) {
                    prop_assert!(!few.stays() || many.stays());
                }
            }
        }
    }
}
