//! Times as people write them on a command line.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use repository::Time;

use crate::exit::Failure;

/// `2026-03-01`, `2026-03-01 10:15`, `2026-03-01 10:15:30` in this machine's time zone, or RFC 3339.
pub fn parse(text: &str) -> Result<Time, Failure> {
    if let Some(time) = Time::parse(text) {
        return Ok(time);
    }
    let wall = text
        .parse::<DateTime>()
        .ok()
        .or_else(|| Some(text.parse::<Date>().ok()?.to_datetime(Default::default())));
    let instant = wall.and_then(|wall| TimeZone::system().to_timestamp(wall).ok());
    let instant = instant.ok_or_else(|| {
        Failure::usage(format!("'{}' is no time", text.escape_debug())).hint("write 2026-03-01 10:15:30")
    })?;
    Ok(Time { seconds: instant.as_second(), nanoseconds: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_several_forms() {
        assert_eq!(parse("1970-01-01T00:00:05Z").unwrap().seconds, 5);
        let minute = parse("2026-03-01 10:15").unwrap();
        assert_eq!(parse("2026-03-01 10:15:30").unwrap().seconds, minute.seconds + 30);
        assert!(parse("2026-03-01").unwrap() < minute);
        assert!(parse("yesterday").is_err());
    }
}
