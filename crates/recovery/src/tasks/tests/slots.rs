//! Slots on a simulated clock, in the state alone: each once over years, and when one is late.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;

use super::super::scheduler::decide;
use super::super::*;
use super::{DAY, HOUR, daily};
use crate::state::State;

fn row(id: &str, cron: CronFields, zone: &str, now: i64) -> TaskRow {
    let mut row = TaskRow::new(id.to_owned(), TaskKind::CreateBackup, cron, "", now);
    row.zone = zone.to_owned();
    row.next_run = row.schedule().unwrap().next_after(now);
    row
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[tokio::test]
async fn over_two_years_in_three_time_zones_two_servers_with_restarts_run_each_slot_exactly_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.db");
    let mut servers = [State::open(&file).await.unwrap(), State::open(&file).await.unwrap()];
    let start: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
    let (start, end) =
        (start.as_millisecond(), "2028-01-01T12:00:00Z".parse::<Timestamp>().unwrap().as_millisecond());
    // Times that each zone's clocks skip once a year, and show twice once a year.
    let zones = [
        ("berlin", "Europe/Berlin", "30", "2"),
        ("new-york", "America/New_York", "30", "1"),
        ("lord-howe", "Australia/Lord_Howe", "15", "2"),
    ];
    for (id, zone, minute, hour) in zones {
        assert!(servers[0].add_task(&row(id, daily(minute, hour), zone, start)).await.unwrap());
    }
    let (mut dice, mut now) = (Dice(7), start);
    while now < end {
        // Up to five hours and a half between two looks: what passed then is made up for.
        now += i64::try_from(dice.below(330)).unwrap() * 60_000 + 1;
        let first = usize::try_from(dice.below(2)).unwrap();
        if dice.below(50) == 0 {
            servers[first].close().await;
            servers[first] = State::open(&file).await.unwrap();
        }
        let look = |task: &TaskRow| decide(task, now);
        // Both at once, and sometimes one alone.
        let one = servers[first].claim_due(now, look);
        if dice.below(3) == 0 {
            one.await.unwrap();
        } else {
            let (one, other) = tokio::join!(one, servers[1 - first].claim_due(now, look));
            assert!(one.unwrap() + other.unwrap() <= zones.len());
        }
    }
    for (id, zone, minute, hour) in zones {
        let zone = cron::zone(zone).unwrap();
        let mut days: BTreeMap<Date, Vec<String>> = BTreeMap::new();
        for run in servers[0].runs(id).await.unwrap() {
            assert_eq!(run.status, RunStatus::Scheduled, "{run:?}");
            let local = zone.to_datetime(Timestamp::from_millisecond(run.slot).unwrap());
            days.entry(local.date()).or_default().push(local.strftime("%H:%M").to_string());
        }
        let (first, last) = (*days.keys().next().unwrap(), *days.keys().last().unwrap());
        assert_eq!(
            days.len(),
            usize::try_from((last - first).get_days()).unwrap() + 1,
            "{id}: a day is missing"
        );
        assert!(days.len() >= 729, "{id}: {}", days.len());
        let usual = format!("{hour:0>2}:{minute:0>2}");
        let others: Vec<_> = days.iter().filter(|(_, times)| **times != [usual.clone()]).collect();
        for (_, times) in &others {
            assert_eq!(times.len(), 1, "{id}: twice on one day: {others:?}");
        }
        // Once a year the clocks skip that time in Berlin and on Lord Howe; in New York it is only shown twice.
        assert_eq!(others.len(), if id == "new-york" { 0 } else { 2 }, "{id}: {others:?}");
    }
}

#[tokio::test]
async fn a_schedule_is_late_after_two_slots_without_a_backup_and_not_over_a_weekend_that_it_leaves_out() {
    let weekdays =
        CronFields { day_of_month: "?".to_owned(), day_of_week: "MON-FRI".to_owned(), ..daily("30", "2") };
    let friday = "2026-11-27T03:00:00Z".parse::<Timestamp>().unwrap().as_millisecond();
    let task = row("t", weekdays, "UTC", friday - DAY).view();
    for (later, late) in [(2 * DAY, false), (3 * DAY + HOUR, false), (4 * DAY, false), (4 * DAY + HOUR, true)]
    {
        assert_eq!(is_late(&task, friday, friday + later), late, "{} hours later", later / HOUR);
    }
}
