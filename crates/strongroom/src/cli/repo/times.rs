//! Times as people write them on a command line.

use std::time::Duration;

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

/// `90s`, `5m`, `1h30m`: numbers with their units, as Go and so restic writes them.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || "write hours, minutes and seconds like 90s, 5m or 1h30m".to_owned();
    let (mut rest, mut seconds) = (text, 0u64);
    while !rest.is_empty() && text != "0" {
        let (number, behind) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let (unit, behind) = behind.split_at_checked(1).ok_or_else(invalid)?;
        let one: u64 = match unit {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            _ => return Err(invalid()),
        };
        seconds = number.checked_mul(one).and_then(|n| n.checked_add(seconds)).ok_or_else(invalid)?;
        rest = behind;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(Duration::from_secs(seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, seconds) in [("0", 0), ("90s", 90), ("5m", 300), ("1h30m", 5400), ("2h0m5s", 7205)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for wrong in
            ["", "5", "m", "5 m", "-5m", "1.5h", "5ä", "5ms", "99999999999999999999s", "9999999999999999999h"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_in_several_forms() {
        assert_eq!(parse("1970-01-01T00:00:05Z").unwrap().seconds, 5);
        let minute = parse("2026-03-01 10:15").unwrap();
        assert_eq!(parse("2026-03-01 10:15:30").unwrap().seconds, minute.seconds + 30);
        assert!(parse("2026-03-01").unwrap() < minute);
        assert!(parse("yesterday").is_err());
    }
}
