//! Sizes, rates, counts, times and the machine's name as people say them.

use std::time::Duration;

/// `61.2 MiB`; below 1,024 whole bytes.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be shown as 1024.0 of the smaller unit.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// `3,012`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 file`, `3,012 files`.
pub fn counted(number: u64, singular: &str, plural: &str) -> String {
    format!("{} {}", count(number), if number == 1 { singular } else { plural })
}

/// `0.4 s`, `12 s`, `2 min 05 s`, `3 h 07 min`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 0.0005 {
        return "0 s".to_owned();
    }
    if seconds < 0.1 {
        return format!("{:.0} ms", (seconds * 1000.0).max(1.0));
    }
    if seconds < 9.95 && time.subsec_nanos() != 0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// `120.4 MiB/s`.
pub fn rate(count: u64, time: Duration) -> String {
    let seconds = time.as_secs_f64().max(0.001);
    format!("{}/s", bytes((count as f64 / seconds) as u64))
}

/// `2026-03-01 10:15:30` in this machine's time zone, of milliseconds since 1970; nothing for 0 and -1.
pub fn moment(milliseconds: i64) -> String {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) if milliseconds > 0 => {
            jiff::tz::TimeZone::system().to_datetime(time).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        _ => String::new(),
    }
}

/// Texts, comma-separated.
pub fn joined(texts: &[String]) -> String {
    texts.join(", ")
}

/// This machine's name.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_in_the_unit_that_fits() {
        let told = |n| bytes(n);
        assert_eq!(told(0), "0 B");
        assert_eq!(told(1023), "1023 B");
        assert_eq!(told(1024), "1.0 KiB");
        assert_eq!(told(1024 * 1024 - 1), "1.0 MiB");
        assert_eq!(told(61 * 1024 * 1024 + 209_715), "61.2 MiB");
        assert_eq!(told(u64::MAX), "16.0 EiB");
    }

    #[test]
    fn counts_have_their_thousands_apart() {
        assert_eq!(count(7), "7");
        assert_eq!(count(999), "999");
        assert_eq!(count(3012), "3,012");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "file", "files"), "1 file");
        assert_eq!(counted(0, "file", "files"), "0 files");
    }

    #[test]
    fn times_get_coarser_the_longer_they_are() {
        assert_eq!(duration(Duration::ZERO), "0 s");
        assert_eq!(duration(Duration::from_millis(12)), "12 ms");
        assert_eq!(duration(Duration::from_millis(420)), "0.4 s");
        assert_eq!(duration(Duration::from_secs(6)), "6 s");
        assert_eq!(duration(Duration::from_millis(9_960)), "10 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 05 s");
        assert_eq!(duration(Duration::from_secs(11_220)), "3 h 07 min");
    }

    #[test]
    fn a_time_that_is_not_known_is_not_shown_as_1970() {
        assert_eq!(moment(0), "");
        assert_eq!(moment(-1), "");
        assert_eq!(moment(i64::MAX), "");
        assert_eq!(moment(1_634_736_144_653).len(), "2021-10-20 13:22:24".len());
    }

    #[test]
    fn a_rate_of_no_time_at_all_is_still_a_number() {
        assert_eq!(rate(0, Duration::ZERO), "0 B/s");
        assert_eq!(rate(10 * 1024 * 1024, Duration::from_secs(2)), "5.0 MiB/s");
    }
}
