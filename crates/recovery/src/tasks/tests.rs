//! Schedules as their users rely on them, over a whole server: waiting, giving up, making up, what is kept of it.

mod slots;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::*;
use crate::tests::gate::Point;
use crate::tests::support::*;
use crate::{JobStatus, Recovery};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn daily(minute: &str, hour: &str) -> CronFields {
    CronFields {
        minute: minute.to_owned(),
        hour: hour.to_owned(),
        day_of_month: "*".to_owned(),
        month: "*".to_owned(),
        day_of_week: "?".to_owned(),
    }
}

/// A backup each night at 02:30 UTC, kept for 14 days.
fn nightly() -> TaskChange {
    TaskChange {
        cron: Some(daily("30", "2")),
        parameters: Some(TaskParameters {
            name: "nightly".to_owned(),
            store_name: "s".to_owned(),
            retention_offset: Some(14 * DAY),
            ..TaskParameters::default()
        }),
        passcode: Some(passcode(PASSCODE)),
        ..TaskChange::default()
    }
}

async fn create_nightly(server: &Recovery) -> String {
    server.create_task(TaskKind::CreateBackup, nightly(), "admin").await.unwrap()
}

/// A server that accepts jobs and does not work on them, with the store `s` and a nightly schedule: its id, its first slot.
async fn idle_with_nightly(site: &Site) -> (Recovery, String, i64) {
    let server = site.idle_server().await;
    server.register_store(register("s", &site.store())).await.unwrap();
    let task = create_nightly(&server).await;
    let slot = server.task(&task).await.unwrap().next_run;
    (server, task, slot)
}

/// Cancels all jobs that can be, so that the next may begin.
async fn clear_the_way(server: &Recovery) {
    for job in server.jobs().await.unwrap() {
        let _ = server.cancel_job(&job).await;
    }
}

/// One look of the scheduler at that time, and all that it began to its end.
async fn tick(server: &Recovery, now: i64) {
    let mut works = JoinSet::new();
    server.inner.tick(now, &mut works).await.unwrap();
    while works.join_next().await.is_some() {}
}

async fn ended_run(server: &Recovery, task: &str, run: &str) -> RunView {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = server.run(task, run).await.unwrap();
        if found.status.has_ended() {
            return found;
        }
        assert!(Instant::now() < deadline, "still {found:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_backup_by_schedule_is_made_under_its_name_with_its_retention() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let task = create_nightly(&server).await;
    let before = crate::clock::now_ms();
    let (run, job) = server.run_task(&task, caller()).await.unwrap();
    let job = ended(&server, &job.unwrap()).await;
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    assert_eq!(job.schedule_type, "SCHEDULED");
    let run = ended_run(&server, &task, &run).await;
    assert_eq!((run.status, run.by_hand, &run.job_id), (RunStatus::Succeeded, true, &job.id), "{run:?}");

    let backups = server.backups("s").await.unwrap();
    let [backup] = backups.as_slice() else { panic!("{backups:?}") };
    let slot = Timestamp::from_millisecond(run.slot).unwrap();
    assert_eq!(backup.name, format!("nightly-{}", slot.strftime("%Y%m%d-%H%M%S")));
    assert_eq!(backup.schedule_type, "SCHEDULED");
    assert!((before + 14 * DAY..before + 14 * DAY + HOUR).contains(&backup.retention_date), "{backup:?}");
    let task = server.task(&task).await.unwrap();
    assert!(task.last_start >= before && task.next_run > before && task.active, "{task:?}");
    assert_eq!(task.interval_seconds, Some(86_400));
}

#[tokio::test]
async fn a_run_waits_an_hour_for_another_job_and_then_gives_up_naming_it() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    let job = server.create_backup(create("s", "by hand"), caller()).await.unwrap();

    tick(&server, slot - 1).await;
    assert!(server.runs(&task).await.unwrap().is_empty(), "too early");
    tick(&server, slot).await;
    tick(&server, slot + HOUR - 1).await;
    let runs = server.runs(&task).await.unwrap();
    assert_eq!((runs.len(), runs[0].status, runs[0].slot), (1, RunStatus::Scheduled, slot), "{runs:?}");
    assert!(runs[0].result.contains(&job), "it says what it waits for: {runs:?}");
    tick(&server, slot + HOUR).await;
    let runs = server.runs(&task).await.unwrap();
    assert_eq!((runs.len(), runs[0].status), (1, RunStatus::Skipped), "{runs:?}");
    assert!(runs[0].result.contains(&job), "{runs:?}");
    assert_eq!(server.task(&task).await.unwrap().next_run, slot + DAY);
}

#[tokio::test]
async fn a_waiting_run_begins_when_the_way_is_free_and_gets_one_job_even_across_a_restart() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    let job = server.create_backup(create("s", "by hand"), caller()).await.unwrap();
    tick(&server, slot).await;
    server.cancel_job(&job).await.unwrap();
    drop(server);

    let server = site.idle_server().await;
    tick(&server, slot + 60_000).await;
    let run = server.runs(&task).await.unwrap().remove(0);
    assert_eq!(run.status, RunStatus::Executing, "{run:?}");
    let jobs = server.jobs().await.unwrap();
    assert_eq!(jobs, [run.job_id.clone(), job]);
    drop(server);

    let server = site.idle_server().await;
    tick(&server, slot + 120_000).await;
    assert_eq!(server.jobs().await.unwrap(), jobs, "no second job");
    server.cancel_job(&run.job_id).await.unwrap();
    let run = server.run(&task, &run.id).await.unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.result.contains("cancelled"), "{run:?}");
}

#[tokio::test]
async fn what_was_missed_for_long_is_told_once_and_not_made_up_for() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    tick(&server, slot + 30 * DAY + 12 * HOUR).await;
    let runs = server.runs(&task).await.unwrap();
    assert_eq!((runs.len(), runs[0].status, runs[0].slot), (1, RunStatus::Skipped, slot), "{runs:?}");
    assert!(runs[0].result.contains("not running"), "{runs:?}");
    assert!(server.jobs().await.unwrap().is_empty());
    assert_eq!(server.task(&task).await.unwrap().next_run, slot + 31 * DAY);
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_while_leaves_no_gap_and_no_second_run() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    tick(&server, slot).await;
    let job = server.runs(&task).await.unwrap()[0].job_id.clone();
    server.cancel_job(&job).await.unwrap();
    tick(&server, slot + 100 * DAY).await;
    let job = server.runs(&task).await.unwrap()[0].job_id.clone();
    server.cancel_job(&job).await.unwrap();
    assert_eq!(server.task(&task).await.unwrap().next_run, slot + 101 * DAY);
    // The clock is put right.
    tick(&server, slot + HOUR).await;
    assert_eq!(server.task(&task).await.unwrap().next_run, slot + DAY);
    tick(&server, slot + DAY).await;
    let slots: Vec<i64> = server.runs(&task).await.unwrap().into_iter().map(|run| run.slot).collect();
    assert_eq!(slots.len(), 3);
    assert_eq!(slots.iter().collect::<HashSet<_>>().len(), 3, "each slot once: {slots:?}");
}

#[tokio::test]
async fn after_its_last_run_a_task_is_paused_and_counts_anew_once_enabled() {
    let site = Site::new();
    let server = site.idle_server().await;
    server.register_store(register("s", &site.store())).await.unwrap();
    let mut change = nightly();
    change.max_occurrences = Some(2);
    let twice = server.create_task(TaskKind::CreateBackup, change, "admin").await.unwrap();
    let slot = server.task(&twice).await.unwrap().next_run;
    for day in 0..5 {
        tick(&server, slot + day * DAY).await;
        clear_the_way(&server).await;
    }
    let task = server.task(&twice).await.unwrap();
    assert_eq!((server.runs(&twice).await.unwrap().len(), task.active, task.next_run), (2, false, -1));
    server.enable_task(&twice, true).await.unwrap();
    let task = server.task(&twice).await.unwrap();
    assert_eq!((task.active, task.occurrences), (true, 0));

    let mut change = nightly();
    change.parameters.as_mut().unwrap().once = true;
    let once = server.create_task(TaskKind::CreateBackup, change, "admin").await.unwrap();
    tick(&server, slot).await;
    tick(&server, slot + DAY).await;
    assert_eq!(server.runs(&once).await.unwrap().len(), 1);
    assert!(!server.task(&once).await.unwrap().active);
}

#[tokio::test]
async fn a_disabled_task_does_not_run_and_its_waiting_run_ends() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    server.create_backup(create("s", "by hand"), caller()).await.unwrap();
    tick(&server, slot).await;
    server.enable_task(&task, false).await.unwrap();
    let run = server.runs(&task).await.unwrap().remove(0);
    assert_eq!((run.status, run.result.as_str()), (RunStatus::Skipped, "the task was disabled"));
    tick(&server, slot + DAY).await;
    assert_eq!(server.runs(&task).await.unwrap().len(), 1);
    assert_eq!(server.task(&task).await.unwrap().next_run, -1);
}

#[tokio::test]
async fn what_a_task_cannot_do_is_refused_before_anything_is_kept() {
    let site = Site::new();
    let server = site.idle_server().await;
    server.register_store(register("s", &site.store())).await.unwrap();
    let with = |edit: &dyn Fn(&mut TaskChange, &mut TaskParameters)| {
        let mut change = nightly();
        let mut parameters = change.parameters.take().unwrap();
        edit(&mut change, &mut parameters);
        change.parameters = Some(parameters);
        change
    };
    let cases: Vec<(TaskChange, ErrorKind)> = vec![
        (with(&|change, _| change.passcode = None), ErrorKind::ParameterMissing),
        (with(&|change, _| change.passcode = Some(passcode("short"))), ErrorKind::PasscodeShort),
        (with(&|change, _| change.cron = None), ErrorKind::ParameterMissing),
        (with(&|change, _| change.cron = Some(daily("61", "2"))), ErrorKind::ParameterInvalid),
        (with(&|change, _| change.zone = Some("Mars/Olympus".to_owned())), ErrorKind::ParameterInvalid),
        (with(&|change, _| change.max_occurrences = Some(0)), ErrorKind::ParameterInvalid),
        (with(&|change, _| change.end_date = Some(1)), ErrorKind::ParameterInvalid),
        (with(&|change, _| change.start_date = Some(-5)), ErrorKind::ParameterInvalid),
        (with(&|change, _| change.title = Some("a\u{7}b".to_owned())), ErrorKind::ParameterInvalid),
        (with(&|_, told| told.name.clear()), ErrorKind::ParameterMissing),
        (with(&|_, told| told.name = "a/b".to_owned()), ErrorKind::NameInvalid),
        (with(&|_, told| told.name = "n".repeat(81)), ErrorKind::NameInvalid),
        (with(&|_, told| told.name = "日".repeat(62)), ErrorKind::NameInvalid),
        (with(&|_, told| told.store_name.clear()), ErrorKind::ParameterMissing),
        (with(&|_, told| told.store_name = "nope".to_owned()), ErrorKind::StoreNotFound),
        (with(&|_, told| told.retention_offset = Some(0)), ErrorKind::ParameterInvalid),
        (with(&|_, told| told.retention_offset = Some(i64::MAX)), ErrorKind::ParameterInvalid),
    ];
    for (change, expected) in cases {
        let shown = format!("{change:?}");
        assert_eq!(
            kind(server.create_task(TaskKind::CreateBackup, change, "admin").await),
            expected,
            "{shown}"
        );
    }
    let cleaner = server.create_task(TaskKind::BackupRetentionCleaner, nightly(), "admin").await;
    assert_eq!(kind(cleaner), ErrorKind::TaskInUse);
    assert!(server.tasks().await.unwrap().iter().all(|task| task.kind == TaskKind::BackupRetentionCleaner));
    for outcome in [server.enable_task("nope", true).await, server.delete_task("nope").await] {
        assert_eq!(kind(outcome), ErrorKind::TaskNotFound);
    }
}

#[tokio::test]
async fn a_change_counts_from_the_next_run_and_keeps_what_is_not_sent() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let id = create_nightly(&server).await;
    let change = TaskChange { cron: Some(daily("0", "5")), ..TaskChange::default() };
    server.update_task(&id, change).await.unwrap();
    let task = server.task(&id).await.unwrap();
    assert_eq!(task.next_run % DAY, 5 * HOUR);
    assert_eq!((task.parameters.name.as_str(), task.has_passcode, task.generation), ("nightly", true, 2));
    let other = TaskChange { passcode: Some(passcode("another passcode")), ..TaskChange::default() };
    server.update_task(&id, other).await.unwrap();
    let (_, job) = server.run_task(&id, caller()).await.unwrap();
    assert_eq!(ended(&server, &job.unwrap()).await.status, JobStatus::Completed);
    let made = server.backups("s").await.unwrap().remove(0);
    let opens = server.validate_backup("s", &made.name, Some(passcode("another passcode"))).await.unwrap();
    assert!(opens.ready, "{opens:?}");
}

#[tokio::test]
async fn the_passcode_of_a_task_lies_sealed_and_never_in_clear() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let id = create_nightly(&server).await;
    let (_, job) = server.run_task(&id, caller()).await.unwrap();
    ended(&server, &job.unwrap()).await;
    server.stop().await;
    drop(server);
    assert!(!files_with(&site.base, "nightly").is_empty(), "the search finds what is there");
    assert_eq!(files_with(&site.base, PASSCODE), Vec::<std::path::PathBuf>::new());
    assert!(!format!("{:?}", nightly()).contains(PASSCODE));
}

#[tokio::test]
async fn a_run_by_hand_is_refused_while_something_runs_and_leaves_no_record() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let id = create_nightly(&server).await;
    site.gate.close(Point::Backup);
    let job = server.create_backup(create("s", "b"), caller()).await.unwrap();
    site.gate.reached(Point::Backup).await;
    let refused = server.run_task(&id, caller()).await.unwrap_err();
    assert_eq!((refused.kind, refused.details), (ErrorKind::Busy, vec![format!("jobid={job}")]));
    assert!(server.runs(&id).await.unwrap().is_empty());
    site.gate.open();
    ended(&server, &job).await;
}

#[tokio::test]
async fn the_cleaner_verification_and_reclaiming_run_as_tasks_and_say_what_they_did() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "b1").await;
    make(&server, "b2").await;
    let every = |kind| {
        let change = TaskChange {
            cron: Some(daily("0", "3")),
            passcode: Some(passcode(PASSCODE)),
            ..TaskChange::default()
        };
        let server = server.clone();
        async move { server.create_task(kind, change, "admin").await.unwrap() }
    };
    let verify = every(TaskKind::VerifyBackups).await;
    let reclaim = every(TaskKind::ReclaimSpace).await;
    let drill = every(TaskKind::RecoveryDrill).await;
    for (task, told) in [
        (CLEANER_ID, "0 backups removed"),
        (&verify, "1 backups verified"),
        (&drill, "1 backups proven (restored into scratch"),
        (&reclaim, "0 packs removed"),
    ] {
        let (run, job) = server.run_task(task, caller()).await.unwrap();
        assert_eq!(job, None);
        let run = ended_run(&server, task, &run).await;
        assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
        assert!(run.result.contains(told), "{run:?}");
    }
    let reports = server.drill_reports("s", "b2").await.unwrap();
    assert!(reports.len() == 1 && reports[0].is_proven(), "{reports:?}");
    assert_eq!(std::fs::read_dir(&site.settings.drill_directory).unwrap().count(), 0);
    // A damaged pack: the verification and the drill name the backup.
    let pack =
        all_files(&site.store()).into_iter().find(|path| path.to_string_lossy().contains("/data/")).unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    let middle = bytes.len() / 3;
    bytes[middle] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let all = TaskParameters { all_backups: true, ..TaskParameters::default() };
    server.update_task(&verify, TaskChange { parameters: Some(all), ..TaskChange::default() }).await.unwrap();
    let (run, _) = server.run_task(&verify, caller()).await.unwrap();
    let run = ended_run(&server, &verify, &run).await;
    assert_eq!(run.status, RunStatus::Failed, "{run:?}");
    assert!(run.result.contains("'b1'") && run.result.contains("damaged"), "{run:?}");
    let (run, _) = server.run_task(&drill, caller()).await.unwrap();
    let run = ended_run(&server, &drill, &run).await;
    assert_eq!(run.status, RunStatus::Failed, "{run:?}");
    assert!(run.result.contains("'b2' of store 's' did not stand its drill: "), "{run:?}");
}

#[tokio::test]
async fn the_cleaner_cannot_be_deleted_and_keeps_as_many_as_it_is_told() {
    let site = Site::new();
    let server = site.server_with_store().await;
    assert_eq!(kind(server.delete_task(CLEANER_ID).await), ErrorKind::TaskInUse);
    let keep = TaskParameters { keep_last: Some(3), ..TaskParameters::default() };
    server
        .update_task(CLEANER_ID, TaskChange { parameters: Some(keep), ..TaskChange::default() })
        .await
        .unwrap();
    assert_eq!(server.inner.keep_last().await.unwrap(), 3);
    server.enable_task(CLEANER_ID, false).await.unwrap();
    assert!(!server.task(CLEANER_ID).await.unwrap().active);
    drop(server);
    let server = site.server().await;
    assert!(!server.task(CLEANER_ID).await.unwrap().active, "a restart does not undo what was set");
}

#[tokio::test]
async fn a_store_with_a_schedule_is_unregistered_only_if_the_schedule_is_paused() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let task = create_nightly(&server).await;
    let refused = server.unregister_store("s", false).await.unwrap_err();
    assert_eq!((refused.kind, refused.details), (ErrorKind::StoreInUse, vec!["nightly".to_owned()]));
    server.unregister_store("s", true).await.unwrap();
    assert!(!server.task(&task).await.unwrap().active);
}

#[tokio::test]
async fn records_of_runs_change_and_go_only_after_their_end() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    tick(&server, slot).await;
    let run = server.runs(&task).await.unwrap().remove(0);
    assert_eq!(kind(server.delete_run(&task, &run.id).await), ErrorKind::TaskInUse);
    let told = Some("looked into it".to_owned());
    assert_eq!(kind(server.update_run(&task, &run.id, None, told.clone()).await), ErrorKind::TaskInUse);
    server.cancel_job(&run.job_id).await.unwrap();
    server.update_run(&task, &run.id, Some(RunStatus::Skipped), told).await.unwrap();
    let changed = server.run(&task, &run.id).await.unwrap();
    assert_eq!((changed.status, changed.result.as_str()), (RunStatus::Skipped, "looked into it"));
    let executing = server.update_run(&task, &run.id, Some(RunStatus::Executing), None).await;
    assert_eq!(kind(executing), ErrorKind::TaskInUse);
    let other = create_nightly(&server).await;
    assert_eq!(kind(server.run(&other, &run.id).await), ErrorKind::RunNotFound, "it belongs to another task");
    server.delete_run(&task, &run.id).await.unwrap();
    assert_eq!(kind(server.run(&task, &run.id).await), ErrorKind::RunNotFound);
}

#[tokio::test]
async fn old_runs_go_but_the_last_twenty() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    let state = &server.inner.state;
    for day in 0..30 {
        tick(&server, slot + day * DAY).await;
        clear_the_way(&server).await;
    }
    server.inner.settle_runs(slot + 30 * DAY).await.unwrap();
    state.purge_runs(slot + 5 * DAY).await.unwrap();
    let left = server.runs(&task).await.unwrap().len();
    assert!((20..30).contains(&left), "{left}");
    state.purge_runs(slot + 900 * DAY).await.unwrap();
    assert_eq!(server.runs(&task).await.unwrap().len(), 20);
}

#[tokio::test]
async fn a_run_is_skipped_while_the_one_before_is_still_at_work() {
    let site = Site::new();
    let server = site.idle_server().await;
    server.register_store(register("s", &site.store())).await.unwrap();
    let change = TaskChange { cron: Some(daily("0", "*")), ..TaskChange::default() };
    let task = server.create_task(TaskKind::ReclaimSpace, change, "admin").await.unwrap();
    let slot = server.task(&task).await.unwrap().next_run;
    let long = NewRun {
        id: new_id(),
        task: task.clone(),
        status: RunStatus::Executing,
        result: String::new(),
        slot: slot - HOUR,
        by_hand: false,
        give_up_at: 0,
    };
    server.inner.state.add_run(&long, slot - HOUR).await.unwrap();
    tick(&server, slot).await;
    let runs = server.runs(&task).await.unwrap();
    assert_eq!((runs[0].slot, runs[0].status), (slot, RunStatus::Skipped), "{runs:?}");
    assert_eq!(runs[1].status, RunStatus::Executing);
}

#[tokio::test]
async fn a_verification_that_verified_nothing_has_not_succeeded() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let change = TaskChange {
        cron: Some(daily("0", "3")),
        parameters: Some(TaskParameters { all_backups: true, ..TaskParameters::default() }),
        passcode: Some(passcode("not the right one")),
        ..TaskChange::default()
    };
    let task = server.create_task(TaskKind::VerifyBackups, change, "admin").await.unwrap();
    let (run, _) = server.run_task(&task, caller()).await.unwrap();
    assert_eq!(ended_run(&server, &task, &run).await.status, RunStatus::Skipped, "there is no backup");
    make(&server, "b1").await;
    let (run, _) = server.run_task(&task, caller()).await.unwrap();
    let run = ended_run(&server, &task, &run).await;
    assert_eq!(run.status, RunStatus::Failed);
    assert!(run.result.contains("No backup opens"), "{run:?}");
}

#[tokio::test]
async fn what_is_written_into_a_record_does_not_change_when_its_run_ended() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    tick(&server, slot + 12 * HOUR).await;
    let run = server.runs(&task).await.unwrap().remove(0);
    assert_eq!((run.status, run.ended), (RunStatus::Skipped, slot + 12 * HOUR));
    server.update_run(&task, &run.id, Some(RunStatus::Succeeded), None).await.unwrap();
    let changed = server.run(&task, &run.id).await.unwrap();
    assert_eq!((changed.status, changed.ended), (RunStatus::Succeeded, run.ended));
}

#[tokio::test]
async fn a_change_made_from_an_older_state_of_a_task_is_refused() {
    let site = Site::new();
    let (server, task, _) = idle_with_nightly(&site).await;
    let seen = Some(server.task(&task).await.unwrap().generation);
    let change =
        |title: &str| TaskChange { title: Some(title.to_owned()), generation: seen, ..TaskChange::default() };
    server.update_task(&task, change("first")).await.unwrap();
    assert_eq!(kind(server.update_task(&task, change("second")).await), ErrorKind::Busy);
    assert_eq!(server.task(&task).await.unwrap().title, "first");
}

#[tokio::test]
async fn a_limit_that_was_lowered_pauses_a_task_without_counting_a_run_that_was_not_made() {
    let site = Site::new();
    let (server, task, slot) = idle_with_nightly(&site).await;
    for day in 0..2 {
        tick(&server, slot + day * DAY).await;
        clear_the_way(&server).await;
    }
    let before = server.task(&task).await.unwrap();
    let lower = TaskChange { max_occurrences: Some(1), ..TaskChange::default() };
    server.update_task(&task, lower).await.unwrap();
    tick(&server, slot + 2 * DAY).await;
    let after = server.task(&task).await.unwrap();
    assert_eq!((after.active, after.occurrences, after.last_start), (false, 2, before.last_start));
    assert_eq!(server.runs(&task).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_cleaner_that_the_stop_of_the_server_broke_off_has_not_succeeded() {
    let site = Site::new();
    let (server, _, _) = idle_with_nightly(&site).await;
    server.inner.prepare_tasks().await.unwrap();
    server.inner.runner.stop().await;
    for (kind, id) in [
        (TaskKind::BackupRetentionCleaner, CLEANER_ID.to_owned()),
        (TaskKind::ReclaimSpace, {
            let change = TaskChange { cron: Some(daily("0", "3")), ..TaskChange::default() };
            server.create_task(TaskKind::ReclaimSpace, change, "admin").await.unwrap()
        }),
    ] {
        let task = server.inner.state.task(&id).await.unwrap().unwrap();
        let run = NewRun::at_work(new_id(), &id);
        server.inner.state.add_run(&run, now_ms()).await.unwrap();
        server.inner.work_on_run(&task, &run.id).await;
        let run = server.run(&id, &run.id).await.unwrap();
        assert_eq!(run.status, RunStatus::Skipped, "{kind:?}: {run:?}");
        assert!(run.result.contains("stopped"), "{run:?}");
    }
}
