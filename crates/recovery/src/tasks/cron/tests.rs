//! The dialect, and what clocks do to it.

use super::*;

fn fields(text: &str) -> CronFields {
    let [minute, hour, day_of_month, month, day_of_week] =
        text.split(' ').map(str::to_owned).collect::<Vec<_>>().try_into().unwrap();
    CronFields { minute, hour, day_of_month, month, day_of_week }
}

fn cron(text: &str) -> Cron {
    Cron::parse(&fields(text)).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    let error = Cron::parse(&fields(text)).expect_err(text);
    assert_eq!(error.kind, ErrorKind::ParameterInvalid, "{text}");
    error.message
}

/// The next times after an instant, as UTC.
fn times(text: &str, zone_name: &str, after: &str, count: usize) -> Vec<String> {
    let (cron, zone) = (cron(text), zone(zone_name).unwrap());
    let mut at: Timestamp = after.parse().unwrap();
    let mut found = Vec::new();
    for _ in 0..count {
        at = cron.next_after(at, &zone).unwrap();
        found.push(at.strftime("%Y-%m-%d %H:%M").to_string());
    }
    found
}

#[test]
fn day_seven_is_saturday_as_in_the_documented_task() {
    // The documented example: dayOfWeek 7 at 04:00, first start 1634961600000.
    let start =
        cron("0 4 ? * 7").next_after("2021-10-22T20:00:00Z".parse().unwrap(), &TimeZone::UTC).unwrap();
    assert_eq!(start.as_millisecond(), 1_634_961_600_000);
    assert_eq!(times("0 4 * * 1", "UTC", "2021-10-23T00:00:00Z", 1), ["2021-10-24 04:00"], "1 is Sunday");
    assert_eq!(times("0 0 * * 0", "UTC", "2021-10-23T00:00:00Z", 1), ["2021-10-24 00:00"], "0 is Sunday too");
    assert_eq!(cron("0 4 ? * SAT"), cron("0 4 ? * 7"));
    assert_eq!(cron("0 4 ? * mon-FRI"), cron("0 4 ? * 2-6"));
}

#[test]
fn lists_ranges_and_steps_name_values() {
    assert_eq!(
        times("15,45 8-10/2 * * ?", "UTC", "2026-01-01T00:00:00Z", 5),
        ["2026-01-01 08:15", "2026-01-01 08:45", "2026-01-01 10:15", "2026-01-01 10:45", "2026-01-02 08:15"]
    );
    assert_eq!(cron("*/20 * * * ?"), cron("0,20,40 * * * ?"));
    assert_eq!(cron("10/20 0 * * ?"), cron("10,30,50 0 * * ?"), "a start and a step go to the end");
    assert_eq!(cron("0 0 1 JAN,Jul ?"), cron("0 0 1 1,7 *"));
}

#[test]
fn a_star_beside_a_restricted_day_restricts_nothing_and_two_restrictions_add_up() {
    assert_eq!(
        times("0 0 13 * *", "UTC", "2026-01-01T00:00:00Z", 2),
        ["2026-01-13 00:00", "2026-02-13 00:00"]
    );
    assert_eq!(
        times("0 0 13 * 6", "UTC", "2026-03-01T00:00:00Z", 4),
        ["2026-03-06 00:00", "2026-03-13 00:00", "2026-03-20 00:00", "2026-03-27 00:00"],
        "each Friday, and the 13th on whatever day"
    );
}

#[test]
fn the_29th_of_february_is_found_even_across_a_century_without_one() {
    assert_eq!(times("0 0 29 2 ?", "UTC", "2096-03-01T00:00:00Z", 1), ["2104-02-29 00:00"]);
}

#[test]
fn what_never_comes_or_comes_too_often_is_refused_by_its_field() {
    assert!(refused("0 0 30 2 ?").contains("'dayOfMonth'"));
    assert!(refused("0 0 31 4,6,9,11 ?").contains("never comes"));
    for often in ["* * * * ?", "*/4 0 * * ?", "0,4 0 * * ?", "0,59 * * * ?", "2,58 0,23 * * ?"] {
        assert!(refused(often).contains("every 5 minutes"), "{often}");
    }
    cron("*/5 * * * ?");
    cron("0 0,23 * * ?");
}

#[test]
fn a_field_that_cannot_be_understood_is_named() {
    for (text, field) in [
        ("60 0 * * ?", "'minute'"),
        ("-1 0 * * ?", "'minute'"),
        ("+5 0 * * ?", "'minute'"),
        ("0 24 * * ?", "'hour'"),
        ("0 0 0 * ?", "'dayOfMonth'"),
        ("0 0 L * ?", "'dayOfMonth'"),
        ("0 0 15W * ?", "'dayOfMonth'"),
        ("0 0 * 13 ?", "'month'"),
        ("0 0 * FOO ?", "'month'"),
        ("0 0 ? * 8", "'dayOfWeek'"),
        ("0 0 ? * 6#3", "'dayOfWeek'"),
        ("0 0 ? * 0-6", "'dayOfWeek'"),
        ("0 0 ? * FRI-MON", "'dayOfWeek'"),
        ("1, 0 * * ?", "'minute'"),
        ("5/0 0 * * ?", "'minute'"),
        ("5/x 0 * * ?", "'minute'"),
        ("5-1 0 * * ?", "'minute'"),
    ] {
        let message = refused(text);
        assert!(message.contains(field), "{text}: {message}");
    }
    let long = format!("{} 0 * * ?", "1,".repeat(200));
    assert!(refused(&long).contains("too long"));
}

#[test]
fn a_time_that_the_clocks_skip_comes_right_after_the_gap_once() {
    // Berlin, 29 March 2026: 02:00 becomes 03:00, at 01:00 UTC.
    assert_eq!(
        times("30 2 * * ?", "Europe/Berlin", "2026-03-28T00:00:00Z", 3),
        ["2026-03-28 01:30", "2026-03-29 01:00", "2026-03-30 00:30"]
    );
    assert_eq!(
        times("*/15 2,3 * * ?", "Europe/Berlin", "2026-03-29T00:30:00Z", 3),
        ["2026-03-29 01:00", "2026-03-29 01:15", "2026-03-29 01:30"],
        "all that was skipped, and 03:00 itself, are one"
    );
}

#[test]
fn an_hour_that_is_repeated_counts_once() {
    // New York, 1 November 2026: 02:00 becomes 01:00 again, at 06:00 UTC.
    assert_eq!(
        times("30 1 * * ?", "America/New_York", "2026-10-31T06:00:00Z", 3),
        ["2026-11-01 05:30", "2026-11-02 06:30", "2026-11-03 06:30"]
    );
    // Asked in the midst of the second 01:xx hour.
    assert_eq!(times("30 1 * * ?", "America/New_York", "2026-11-01T06:15:00Z", 1), ["2026-11-02 06:30"]);
}

#[test]
fn gaps_of_half_an_hour_and_at_midnight_are_kept_too() {
    // Lord Howe Island shifts by 30 minutes: 4 October 2026, 02:00 becomes 02:30, at 15:30 UTC the day before.
    assert_eq!(times("15 2 * * ?", "Australia/Lord_Howe", "2026-10-03T00:00:00Z", 1), ["2026-10-03 15:30"]);
    // Beirut shifts at midnight: 29 March 2026, 00:00 becomes 01:00, at 22:00 UTC the day before.
    assert_eq!(
        times("0 0 * * ?", "Asia/Beirut", "2026-03-28T12:00:00Z", 2),
        ["2026-03-28 22:00", "2026-03-29 21:00"]
    );
    // Samoa left out a whole day: 30 December 2011.
    assert_eq!(times("0 12 30 12 ?", "Pacific/Apia", "2011-12-01T00:00:00Z", 1), ["2011-12-30 10:00"]);
}

#[test]
fn zones_are_known_by_name_and_nothing_else() {
    assert!(zone("UTC").is_ok() && zone("Europe/Zurich").is_ok());
    for bad in ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "EST5EDT,M3.2.0,M11.1.0\u{7}"] {
        let error = zone(bad).expect_err(bad);
        assert!(error.message.contains("'timeZone'"), "{error}");
    }
}

#[test]
fn the_next_time_is_always_later_and_nothing_lies_between() {
    // A walk by minutes over days with changes of the clocks must meet the same times, each once.
    for (text, name, from) in [
        ("*/20 0-4 * * ?", "Europe/Berlin", "2026-03-28T12:00:00Z"),
        ("*/20 0-4 * * ?", "Europe/Berlin", "2026-10-24T12:00:00Z"),
        ("7,37 * * * ?", "Australia/Lord_Howe", "2026-04-04T00:00:00Z"),
        ("0 3 ? * 1", "America/New_York", "2026-10-25T00:00:00Z"),
    ] {
        let (cron, zone) = (cron(text), zone(name).unwrap());
        let start: Timestamp = from.parse().unwrap();
        let end = start + 72.hours();
        let mut by_next = Vec::new();
        let mut at = start;
        while let Some(next) = cron.next_after(at, &zone).filter(|next| *next <= end) {
            assert!(next > at);
            by_next.push(next);
            at = next;
        }
        let mut by_minutes = Vec::new();
        let mut minute = start;
        while minute < end {
            let later = minute + 1.minute();
            if let Some(next) = cron.next_after(minute, &zone).filter(|next| *next <= later) {
                by_minutes.push(next);
            }
            minute = later;
        }
        assert_eq!(by_next, by_minutes, "{text} in {name}");
    }
}
