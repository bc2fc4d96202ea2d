//! Times, lengths of time and counts as people tell them.

/// A time to the minute.
pub(super) fn exact(ms: i64) -> String {
    told(ms, "%Y-%m-%d %H:%M UTC")
}

/// One that can be typed in: to the millisecond.
pub(super) fn instant(ms: i64) -> String {
    told(ms, "%Y-%m-%dT%H:%M:%S%.3fZ")
}

/// The same as `exact` in a table or at a mark.
pub(super) fn minute(ms: i64) -> String {
    told(ms, "%Y-%m-%d %H:%M")
}

/// The time of the day.
pub(super) fn clock(ms: i64) -> String {
    told(ms, "%H:%M UTC")
}

/// The day.
pub(super) fn day(ms: i64) -> String {
    told(ms, "%A, %-d %B %Y")
}

/// The day, for programs and where there is little room.
pub(super) fn date(ms: i64) -> String {
    told(ms, "%Y-%m-%d")
}

fn told(ms: i64, format: &str) -> String {
    jiff::Timestamp::from_millisecond(ms).unwrap_or_default().strftime(format).to_string()
}

/// A length of time, as exact as people want it.
pub(super) fn length(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..60 => several(seconds, "second"),
        60..3600 => several(seconds / 60, "minute"),
        3600..172_800 => several(seconds / 3600, "hour"),
        _ => several(seconds / 86_400, "day"),
    }
}

pub(super) fn ago(ms: i64) -> String {
    // The clock of another server may be ahead.
    if ms < 60_000 { "just now".to_owned() } else { format!("{} ago", length(ms)) }
}

pub(super) fn ahead(ms: i64) -> String {
    if ms < 60_000 { "now".to_owned() } else { format!("in {}", length(ms)) }
}

/// So many of something.
pub(super) fn several(count: i64, one: &str) -> String {
    let number = grouped(count.unsigned_abs());
    if count == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_tell_them() {
        for (ms, words) in [
            (-5, "just now"),
            (59_999, "just now"),
            (60_000, "1 minute ago"),
            (7_199_000, "1 hour ago"),
            (47 * 3_600_000, "47 hours ago"),
            (48 * 3_600_000, "2 days ago"),
            (400 * 86_400_000, "400 days ago"),
        ] {
            assert_eq!(ago(ms), words);
        }
        assert_eq!(ahead(30 * 60_000), "in 30 minutes");
        assert_eq!(length(1000), "1 second");
        assert_eq!(day(1_634_736_144_653), "Wednesday, 20 October 2021");
        assert_eq!(clock(1_634_736_144_653), "13:22 UTC");
        assert_eq!(exact(i64::MAX), "1970-01-01 00:00 UTC", "no time is worth a failure");
    }

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(several(2917, "file"), "2,917 files");
    }
}
