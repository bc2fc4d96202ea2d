//! `--keep-days`, `--keep-until`: how long a backup is kept.

use anyhow::{Context, Result};
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::cli::repo::times;

/// How long a backup is kept; nothing said: for ever, or as it was.
#[derive(clap::Args, Debug)]
pub struct Keeping {
    /// Keep it for so many days
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    keep_days: Option<u32>,
    /// Keep it until the end of this day, or until a time like 2026-03-01 10:15:30
    #[arg(long, value_name = "DATE", conflicts_with = "keep_days")]
    keep_until: Option<String>,
}

impl Keeping {
    /// The parameter of the interface that says it. Days are reckoned by the server's clock.
    pub fn parameter(&self) -> Result<Option<(&'static str, String)>> {
        match (self.keep_days, &self.keep_until) {
            (Some(days), _) => Ok(Some(("retentionDays", days.to_string()))),
            (None, Some(text)) => Ok(Some(("retentionDate", end_of(text)?.to_string()))),
            (None, None) => Ok(None),
        }
    }
}

/// The end of a day, or a time as it is, in milliseconds since 1970.
fn end_of(text: &str) -> Result<i64> {
    let text = text.trim();
    // A longer text may begin with a date too.
    match text.parse::<Date>() {
        Ok(day) if text.len() <= "2026-03-01".len() => {
            let next = day.tomorrow().context("the date lies too far ahead")?;
            let end = TimeZone::system().to_timestamp(next.to_datetime(Default::default()));
            Ok(end.context("the date lies too far ahead")?.as_millisecond())
        }
        _ => Ok(times::parse(text)?.seconds.saturating_mul(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_means_the_whole_day_and_a_time_means_itself() {
        let (day, evening) = (end_of("2026-03-01").unwrap(), end_of("2026-03-01 23:59:59").unwrap());
        assert_eq!(day - evening, 1000);
        assert_eq!(end_of("2026-03-01T10:00:00Z").unwrap(), 1_772_359_200_000);
        assert!(end_of("tomorrow").is_err());
        assert!(end_of("9999-12-31").is_err());
    }
}
