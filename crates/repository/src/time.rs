//! Times as restic writes them: RFC 3339 with offset, up to nine fractional digits, no trailing zeros.

use std::fmt::Write as _;

/// Seconds and nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Time {
    /// Whole seconds, negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999, counted forward from `seconds`.
    pub nanoseconds: u32,
}

/// The first and the last second that the format can write (years 0000 to 9999).
const SECONDS_MIN: i64 = -62_167_219_200;
const SECONDS_MAX: i64 = 253_402_300_799;

/// Days since 1970-01-01 to year, month, day (Howard Hinnant's `civil_from_days`).
pub(crate) fn civil(days: i64) -> (i64, u32, u32) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let mp = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * mp + 2) / 5 + 1) as u32;
    let month = if mp < 10 { mp + 3 } else { mp - 9 } as u32;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Year, month, day to days since 1970-01-01; the inverse of [`civil`].
pub(crate) fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

impl Time {
    /// Now.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self { seconds: i64::try_from(since.as_secs()).unwrap_or(0), nanoseconds: since.subsec_nanos() }
    }

    /// Appends the text in UTC; years outside 0000–9999 are clamped, as restic does.
    pub(crate) fn write(self, out: &mut String) {
        let seconds = self.seconds.clamp(SECONDS_MIN, SECONDS_MAX);
        let (year, month, day) = civil(seconds.div_euclid(86_400));
        let rest = seconds.rem_euclid(86_400);
        let (h, m, s) = (rest / 3600, rest / 60 % 60, rest % 60);
        // Writing to a String cannot fail.
        let _ = write!(out, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}");
        if self.nanoseconds != 0 {
            let digits = format!("{:09}", self.nanoseconds);
            let _ = write!(out, ".{}", digits.trim_end_matches('0'));
        }
        out.push('Z');
    }

    /// The text in UTC.
    pub fn text(self) -> String {
        let mut out = String::with_capacity(32);
        self.write(&mut out);
        out
    }

    /// Reads RFC 3339 with any offset.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(fast) = Self::parse_utc(text) {
            return Some(fast);
        }
        let at: jiff::Timestamp = text.parse().ok()?;
        let mut seconds = at.as_second();
        let mut nanoseconds = at.subsec_nanosecond();
        if nanoseconds < 0 {
            seconds -= 1;
            nanoseconds += 1_000_000_000;
        }
        Some(Self { seconds, nanoseconds: u32::try_from(nanoseconds).ok()? })
    }

    /// The form that this module writes, without the cost of a general parser: trees hold millions of times.
    fn parse_utc(text: &str) -> Option<Self> {
        let b = text.as_bytes();
        if b.len() < 20 || b.last() != Some(&b'Z') || b[4] != b'-' || b[10] != b'T' {
            return None;
        }
        let number = |range: std::ops::Range<usize>| -> Option<i64> {
            b[range].iter().try_fold(0i64, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
        };
        let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
        let (h, m, s) = (number(11..13)?, number(14..16)?, number(17..19)?);
        if !(1..=12).contains(&month) || !(1..=31).contains(&day) || h > 23 || m > 59 || s > 59 {
            return None;
        }
        let mut nanoseconds = 0;
        if b.len() > 20 {
            let digits = b.len() - 21;
            if b[19] != b'.' || !(1..=9).contains(&digits) {
                return None;
            }
            nanoseconds = number(20..b.len() - 1)? * 10i64.pow(9 - digits as u32);
        }
        let days = days_from_civil(year, month, day);
        Some(Self { seconds: days * 86_400 + h * 3600 + m * 60 + s, nanoseconds: nanoseconds as u32 })
    }
}

/// Now, as text.
pub(crate) fn now_text() -> String {
    Time::now().text()
}

#[cfg(test)]
mod tests {
    use super::Time;

    #[test]
    fn times_round_trip_and_drop_trailing_zeros() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (1_634_961_600, 120_000_000, "2021-10-23T04:00:00.12Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400, 1, "2000-02-29T00:00:00.000000001Z"),
        ] {
            let time = Time { seconds, nanoseconds };
            assert_eq!(time.text(), text);
            assert_eq!(Time::parse(text), Some(time));
        }
        assert_eq!(Time::parse("2021-10-23T06:00:00.12+02:00"), Time::parse("2021-10-23T04:00:00.12Z"));
        assert_eq!(Time::parse("yesterday"), None);
    }

    #[test]
    fn years_beyond_four_digits_are_clamped() {
        assert_eq!(Time { seconds: i64::MAX, nanoseconds: 0 }.text(), "9999-12-31T23:59:59Z");
        assert_eq!(Time { seconds: i64::MIN, nanoseconds: 0 }.text(), "0000-01-01T00:00:00Z");
    }
}
