//! Times by the cron dialect of the interface: minute, hour, day of the month, month and day of the week, with
//! `,` `-` `*` `/` `?`. **Days of the week are 1 = Sunday to 7 = Saturday**, as in Quartz; 0 is Sunday too.
//!
//! Where both fields for days are restricted, a day that fits either counts. Times are those of the clocks in a
//! time zone: an hour that is repeated when the clocks go back counts once, the first time; a time that is skipped
//! when they go forward comes at the first instant after the gap.

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

use crate::{Error, ErrorKind, Result};

/// Two starts are at least this far apart.
const GAP_MINUTES_MIN: u32 = 5;
const DAY_MINUTES: u32 = 24 * 60;
/// 29 February can be eight years away (around a year like 2100); further there is nothing to find.
const DAYS_MAX: i32 = 366 * 9;
/// No honest field is longer.
const FIELD_BYTES_MAX: usize = 200;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// The five fields as they were sent; what the interface shows again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CronFields {
    /// 0 to 59.
    pub minute: String,
    /// 0 to 23.
    pub hour: String,
    /// 1 to 31.
    pub day_of_month: String,
    /// 1 to 12, or JAN to DEC.
    pub month: String,
    /// 1 (Sunday) to 7 (Saturday), or SUN to SAT; 0 is Sunday too.
    pub day_of_week: String,
}

impl CronFields {
    /// As one line in the style of Quartz, with the seconds in front.
    pub fn expression(&self) -> String {
        let Self { minute, hour, day_of_month, month, day_of_week } = self;
        format!("0 {minute} {hour} {day_of_month} {month} {day_of_week}")
    }
}

/// The same, understood: one bit for each value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cron {
    minutes: u64,
    hours: u64,
    months: u64,
    /// `None`: the field restricts nothing.
    days: Option<u64>,
    /// Bit 1 is Sunday, bit 7 Saturday; `None` as above.
    weekdays: Option<u64>,
}

/// One field: its name on the wire, the values that it may have, the words for them.
struct Field {
    name: &'static str,
    first: u32,
    last: u32,
    words: &'static [&'static str],
}

const MINUTE: Field = Field { name: "minute", first: 0, last: 59, words: &[] };
const HOUR: Field = Field { name: "hour", first: 0, last: 23, words: &[] };
const DAY: Field = Field { name: "dayOfMonth", first: 1, last: 31, words: &[] };
const MONTH: Field = Field { name: "month", first: 1, last: 12, words: &MONTHS };
const WEEKDAY: Field = Field { name: "dayOfWeek", first: 1, last: 7, words: &WEEKDAYS };

impl Field {
    fn refuse(&self, text: &str, why: &str) -> Error {
        let shown: String = text.chars().filter(|c| !c.is_control()).take(40).collect();
        let message = format!("Parameter '{}' is not valid: '{shown}' {why}.", self.name);
        Error::new(ErrorKind::ParameterInvalid, message)
    }

    /// One number or word.
    fn value(&self, text: &str) -> Result<u32> {
        if let Some(place) = self.words.iter().position(|word| word.eq_ignore_ascii_case(text)) {
            return Ok(self.first + u32::try_from(place).unwrap_or(0));
        }
        let number = text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
        let why = || format!("is not among the values {} to {}", self.first, self.last);
        number
            .filter(|number| (self.first..=self.last).contains(number))
            .ok_or_else(|| self.refuse(text, &why()))
    }

    /// The bits of the whole field; `None` for `*` and `?`.
    fn bits(&self, text: &str) -> Result<Option<u64>> {
        let text = text.trim();
        if text.is_empty() || text.len() > FIELD_BYTES_MAX {
            return Err(self.refuse(text, "is empty or too long; * stands for every value"));
        }
        if matches!(text, "*" | "?") {
            return Ok(None);
        }
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part.trim())?)).map(Some)
    }

    /// `a`, `a-b`, `*`, each perhaps with `/step`.
    fn part(&self, text: &str) -> Result<u64> {
        let (range, step) = match text.split_once('/') {
            None => (text, None),
            Some((range, step)) => {
                let number = step.parse::<u32>().ok().filter(|step| (1..=59).contains(step));
                (range, Some(number.ok_or_else(|| self.refuse(text, "has a step that is not 1 to 59"))?))
            }
        };
        let (first, last) = match range.split_once('-') {
            _ if matches!(range, "*" | "?") => (self.first, self.last),
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            // A Sunday, as other dialects of cron write it; it begins no range, as those number the rest otherwise.
            None if range == "0" && self.name == WEEKDAY.name && step.is_none() => (1, 1),
            None => {
                let value = self.value(range)?;
                (value, if step.is_some() { self.last } else { value })
            }
        };
        if first > last {
            return Err(self.refuse(text, "ends before it begins; write two ranges with a comma between"));
        }
        let step = usize::try_from(step.unwrap_or(1)).unwrap_or(1);
        Ok((first..=last).step_by(step).fold(0, |bits, value| bits | 1 << value))
    }

    /// The bits, with all of them where nothing is restricted.
    fn all_bits(&self, text: &str) -> Result<u64> {
        Ok(self
            .bits(text)?
            .unwrap_or_else(|| (self.first..=self.last).fold(0, |bits, value| bits | 1 << value)))
    }
}

fn has(bits: u64, value: u32) -> bool {
    bits >> value & 1 == 1
}

impl Cron {
    /// Understands the fields, or names the one that cannot be.
    pub fn parse(fields: &CronFields) -> Result<Self> {
        let cron = Self {
            minutes: MINUTE.all_bits(&fields.minute)?,
            hours: HOUR.all_bits(&fields.hour)?,
            days: DAY.bits(&fields.day_of_month)?,
            months: MONTH.all_bits(&fields.month)?,
            weekdays: WEEKDAY.bits(&fields.day_of_week)?,
        };
        if cron.smallest_gap() < GAP_MINUTES_MIN {
            let why = format!("comes more often than every {GAP_MINUTES_MIN} minutes");
            return Err(MINUTE.refuse(&fields.minute, &why));
        }
        if cron.next_after(Timestamp::UNIX_EPOCH, &TimeZone::UTC).is_none() {
            return Err(DAY.refuse(&fields.day_of_month, "never comes in the months of 'month'"));
        }
        Ok(cron)
    }

    /// Minutes between two starts of a day, at least; midnight joins its ends.
    fn smallest_gap(&self) -> u32 {
        let slots: Vec<u32> = self
            .slots()
            .map(|(hour, minute)| u32::from(hour.unsigned_abs()) * 60 + u32::from(minute.unsigned_abs()))
            .collect();
        let (Some(first), Some(last)) = (slots.first(), slots.last()) else { return DAY_MINUTES };
        let inside = slots.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap_or(DAY_MINUTES);
        inside.min(first + DAY_MINUTES - last)
    }

    /// Hours and minutes of a day, in order.
    fn slots(&self) -> impl Iterator<Item = (i8, i8)> + '_ {
        let hours = (0..24i8).filter(|hour| has(self.hours, u32::from(hour.unsigned_abs())));
        hours.flat_map(|hour| {
            let minutes = (0..60i8).filter(|minute| has(self.minutes, u32::from(minute.unsigned_abs())));
            minutes.map(move |minute| (hour, minute))
        })
    }

    fn is_day(&self, date: Date) -> bool {
        if !has(self.months, u32::from(date.month().unsigned_abs())) {
            return false;
        }
        let day = self.days.map(|days| has(days, u32::from(date.day().unsigned_abs())));
        let weekday = u32::from(date.weekday().to_sunday_one_offset().unsigned_abs());
        let weekday = self.weekdays.map(|weekdays| has(weekdays, weekday));
        match (day, weekday) {
            (None, None) => true,
            (Some(fits), None) | (None, Some(fits)) => fits,
            (Some(day), Some(weekday)) => day || weekday,
        }
    }

    /// The first time after an instant; `None` if there is none within nine years.
    pub fn next_after(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        // From the day before, as an instant may belong to another day by the clocks that gave it.
        let mut date = zone.to_datetime(after).date().yesterday().ok()?;
        for _ in 0..DAYS_MAX {
            if self.is_day(date)
                && let Some(found) = self.first_of_day(date, after, zone)
            {
                return Some(found);
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    fn first_of_day(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        self.slots()
            .filter_map(|(hour, minute)| instant(date, hour, minute, zone))
            .find(|instant| *instant > after)
    }

    /// Seconds between the next two times, for people who want to know how often.
    pub fn interval_seconds(&self, now: Timestamp, zone: &TimeZone) -> Option<i64> {
        let first = self.next_after(now, zone)?;
        Some(self.next_after(first, zone)?.as_second() - first.as_second())
    }
}

/// When clocks in that zone first show this time; right after the gap if they never do.
fn instant(date: Date, hour: i8, minute: i8, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(date.at(hour, minute, 0, 0));
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => {
            let before = ambiguous.earlier().ok()?;
            zone.following(before.checked_sub(1.second()).ok()?).next().map(|change| change.timestamp())
        }
        _ => ambiguous.earlier().ok(),
    }
}

/// A time zone by its name in the IANA database, like `Europe/Berlin`.
pub(crate) fn zone(name: &str) -> Result<TimeZone> {
    let found = TimeZone::get(name).ok().filter(|zone| zone.iana_name().is_some() || name == "UTC");
    found.filter(|_| name.len() <= FIELD_BYTES_MAX).ok_or_else(|| {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
        let message = format!(
            "Parameter 'timeZone' is not valid: '{shown}' is no time zone; expected one like Europe/Berlin."
        );
        Error::new(ErrorKind::ParameterInvalid, message)
    })
}

#[cfg(test)]
mod tests;
