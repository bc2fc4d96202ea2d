//! Who is told what and how often, over a whole server and with targets that fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::sinks::{Answer, Request, WebSink};
use notify::{Target, WebhookSettings};
use secrecy::SecretString;
use serde_json::Value;
use storage::AddressRule;

use super::outbox::next_attempt;
use super::*;
use crate::tests::support::*;
use crate::{CronFields, NeedPlace, Recovery, RunStatus, Severity, TaskChange, TaskKind, TaskParameters};

const DAY: i64 = 86_400_000;

fn subscription(name: &str, sink: &WebSink, events: &[EventKind]) -> Subscription {
    let settings = WebhookSettings {
        url: SecretString::from(sink.url("/")),
        secret: SecretString::from("shared"),
        allow_http: true,
        ca_pem: None,
        addresses: Arc::new(AddressRule::inner_networks_too(Vec::new())),
    };
    Subscription { target: Arc::new(Target::webhook(name, settings).unwrap()), events: events.to_vec() }
}

/// A site whose one target is told of everything.
fn site(sink: &WebSink) -> Site {
    let mut site = Site::new();
    site.settings.notify = vec![subscription("ops", sink, &EventKind::ALL)];
    site
}

fn body(request: &Request) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn events(sink: &WebSink) -> Vec<String> {
    sink.taken().iter().map(|request| body(request)["event"].as_str().unwrap().to_owned()).collect()
}

async fn until_taken(sink: &WebSink, count: usize) -> Vec<Request> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while sink.taken().len() < count {
        assert!(Instant::now() < deadline, "{:?}", events(sink));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    sink.taken()
}

/// Delivers all that is due at that time, on a server that does not work by itself.
async fn deliver(server: &Recovery, now: i64) {
    let to = server.inner.settings.notify[0].clone();
    while server.inner.state.due_delivery(&to.target.name, now).await.unwrap().0.is_some() {
        server.inner.deliver_next(&to, now).await.unwrap();
    }
}

async fn tell(server: &Recovery, subject: &str) {
    let notice =
        server.inner.notice(EventKind::BackupFailed, subject.to_owned(), String::new(), &[]).unwrap();
    server.inner.state.tell(&notice, now_ms()).await.unwrap();
}

fn cron(minute: &str, hour: &str) -> CronFields {
    CronFields {
        minute: minute.to_owned(),
        hour: hour.to_owned(),
        day_of_month: "*".to_owned(),
        month: "*".to_owned(),
        day_of_week: "?".to_owned(),
    }
}

async fn create_task(server: &Recovery, kind: TaskKind) -> String {
    let parameters = TaskParameters {
        name: "nightly".to_owned(),
        store_name: "s".to_owned(),
        ..TaskParameters::default()
    };
    let change = TaskChange {
        cron: Some(cron("30", "2")),
        parameters: Some(parameters),
        passcode: Some(passcode(PASSCODE)),
        ..TaskChange::default()
    };
    server.create_task(kind, change, "admin").await.unwrap()
}

#[tokio::test]
async fn each_is_told_once_of_what_it_wants_to_know_and_never_a_secret() {
    let (all, failures) =
        (WebSink::web(vec![Answer::Status(200)]).unwrap(), WebSink::web(vec![Answer::Status(200)]).unwrap());
    let mut site = site(&all);
    site.settings.notify.push(subscription("failures", &failures, &[EventKind::BackupFailed]));
    let server = site.server_with_store().await;
    make(&server, "b1").await;
    let restored = server.restore_backup(restore("s", "b1"), caller()).await.unwrap().unwrap();
    ended(&server, &restored).await;
    std::fs::rename(site.content(), site.base.join("elsewhere")).unwrap();
    let failed = server.create_backup(create("s", "b2"), caller()).await.unwrap();
    ended(&server, &failed).await;
    let told = until_taken(&all, 3).await;
    assert_eq!(events(&all), ["backup.completed", "restore.ended", "backup.failed"]);
    let told_of_failure = body(&told[2]);
    assert_eq!(
        (told_of_failure["job"].as_str(), told_of_failure["backup"].as_str()),
        (Some(failed.as_str()), Some("b2"))
    );
    assert_eq!(
        (told_of_failure["store"].as_str(), told_of_failure["site"].as_str()),
        (Some("s"), Some("site1"))
    );
    assert!(told_of_failure["subject"].as_str().unwrap().contains("backup 'b2' of store 's' failed"));
    until_taken(&failures, 1).await;
    assert_eq!(events(&failures), ["backup.failed"]);
    assert_ne!(
        body(&told[2])["delivery"],
        body(&failures.taken()[0])["delivery"],
        "each delivery has its own id"
    );
    for request in told {
        assert!(!String::from_utf8_lossy(&request.body).contains(PASSCODE));
    }
    // What was taken is noted a moment later.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let target = &server.targets().await.unwrap()[0];
        let counts = (target.delivered, target.waiting, target.gave_up);
        if counts == (3, 0, 0) {
            break;
        }
        assert!(Instant::now() < deadline, "{counts:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_under_the_same_id_until_it_is_taken_and_then_never() {
    let sink = WebSink::web(vec![
        Answer::Status(500),
        Answer::Reset,
        Answer::Redirect("/".to_owned()),
        Answer::Status(200),
    ])
    .unwrap();
    let site = site(&sink);
    let server = site.idle_server().await;
    tell(&server, "x").await;
    let now = now_ms();
    deliver(&server, now).await;
    let waiting = &server.targets().await.unwrap()[0];
    assert_eq!((waiting.waiting, waiting.last_error.as_str()), (1, "answered 500 Internal Server Error"));
    deliver(&server, now).await;
    assert_eq!(sink.taken().len(), 1, "not again at once");
    for hour in 1..10 {
        deliver(&server, now + hour * 3_600_000 * 2).await;
    }
    let ids: Vec<Value> = sink.taken().iter().map(|request| body(request)["delivery"].clone()).collect();
    assert_eq!(ids.len(), 4, "{ids:?}");
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(server.targets().await.unwrap()[0].delivered, 1);
}

#[tokio::test]
async fn what_is_new_is_told_before_what_failed_before() {
    let sink = WebSink::web(vec![Answer::Status(500), Answer::Status(500), Answer::Status(200)]).unwrap();
    let site = site(&sink);
    let server = site.idle_server().await;
    let now = now_ms();
    for subject in ["first", "second"] {
        tell(&server, subject).await;
    }
    deliver(&server, now + 1000).await;
    tell(&server, "third").await;
    deliver(&server, now + 3_600_000).await;
    let told: Vec<Value> = sink.taken().iter().map(|one| body(one)["subject"].clone()).collect();
    let subjects = ["first", "second", "third", "first", "second"];
    assert_eq!(told, subjects.map(|subject| format!("Strongroom site1: {subject}")));
}

#[tokio::test]
async fn what_nobody_takes_for_a_day_is_given_up_and_is_an_alarm_until_another_one_arrives() {
    let sink = WebSink::web(vec![Answer::Status(500)]).unwrap();
    let site = site(&sink);
    let server = site.idle_server().await;
    tell(&server, "x").await;
    let mut now = now_ms();
    deliver(&server, now + 3 * DAY).await;
    assert_eq!(
        server.targets().await.unwrap()[0].waiting,
        1,
        "a server that slept tries several times first"
    );
    let alarm = |overview: crate::Overview| {
        let needs = overview.needs.into_iter();
        needs.filter(|need| need.place == NeedPlace::Notifications).collect::<Vec<_>>()
    };
    assert!(alarm(server.overview().await.unwrap()).is_empty());
    now += 3 * DAY;
    for _ in 0..8 {
        now += 2 * 3_600_000;
        deliver(&server, now).await;
    }
    let needs = alarm(server.overview().await.unwrap());
    assert_eq!(needs[0].severity, Severity::Alarm);
    assert!(needs[0].text.contains("'ops'") && needs[0].text.contains("500"), "{needs:?}");
    let tried = sink.taken().len();
    deliver(&server, now + DAY).await;
    assert_eq!(sink.taken().len(), tried, "what was given up is not tried again");
    sink.set(vec![Answer::Status(200)]);
    tell(&server, "y").await;
    deliver(&server, now_ms() + 1).await;
    assert!(alarm(server.overview().await.unwrap()).is_empty());
}

#[tokio::test]
async fn a_restart_goes_on_and_sends_nothing_again_that_was_taken() {
    let sink = WebSink::web(vec![Answer::Silence]).unwrap();
    let site = site(&sink);
    let server = site.server_with_store().await;
    make(&server, "b1").await;
    let tried = body(&until_taken(&sink, 1).await[0]);
    drop(server);
    sink.set(vec![Answer::Status(200)]);
    let server = site.server().await;
    let taken = body(&until_taken(&sink, 2).await[1]);
    assert_eq!(tried["delivery"], taken["delivery"]);
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.targets().await.unwrap()[0].delivered == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(server);
    let server = site.server().await;
    make(&server, "b2").await;
    let told = until_taken(&sink, 3).await;
    assert_eq!(body(&told[2])["backup"], "b2", "b1 is not told again");
}

#[tokio::test]
async fn a_target_that_hangs_keeps_neither_jobs_nor_other_targets() {
    let (hangs, works) =
        (WebSink::web(vec![Answer::Silence]).unwrap(), WebSink::web(vec![Answer::Status(200)]).unwrap());
    let mut site = site(&hangs);
    site.settings.notify.push(subscription("works", &works, &EventKind::ALL));
    let server = site.server_with_store().await;
    make(&server, "b1").await;
    make(&server, "b2").await;
    until_taken(&works, 2).await;
    assert_eq!(server.targets().await.unwrap()[0].delivered, 0);
}

#[tokio::test]
async fn what_waits_for_a_target_that_is_gone_from_the_configuration_is_given_up() {
    let sink = WebSink::web(vec![Answer::Status(500)]).unwrap();
    let mut site = site(&sink);
    let server = site.idle_server().await;
    tell(&server, "x").await;
    drop(server);
    site.settings.notify[0] = subscription("others", &sink, &EventKind::ALL);
    let server = site.server().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while server.inner.state.target_figures("ops").await.unwrap().gave_up == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(server.targets().await.unwrap()[0].waiting == 0 && sink.taken().is_empty());
}

#[tokio::test]
async fn what_cannot_run_or_is_late_is_an_alarm_and_told_once_a_day() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let site = site(&sink);
    let server = site.idle_server().await;
    server.register_store(register("s", &site.store())).await.unwrap();
    let task = create_task(&server, TaskKind::CreateBackup).await;
    let change = async |sql: &'static str| {
        let mut write = server.inner.state.write().await.unwrap();
        sqlx::query(sql).execute(&mut *write).await.unwrap();
        server.inner.state.commit(write).await.unwrap();
    };
    let told = async || {
        for _ in 0..3 {
            server.inner.tell_needs().await.unwrap();
        }
        deliver(&server, now_ms() + 1).await;
        let needs = server.overview().await.unwrap().needs.into_iter();
        needs
            .filter(|need| need.place == NeedPlace::Task(task.clone()))
            .map(|need| need.text)
            .collect::<String>()
    };
    assert_eq!(told().await, "");
    change("UPDATE tasks SET updated_at = updated_at - 864000000 WHERE kind = 'CreateBackup'").await;
    assert!(told().await.contains("has made no backup since"));
    assert_eq!(events(&sink), ["backup.late"]);
    change("UPDATE tasks SET zone = 'Mars/Base' WHERE kind = 'CreateBackup'").await;
    assert!(told().await.contains("does not run: its schedule is not understood"));
    change("UPDATE tasks SET zone = 'UTC', passcode = X'00' WHERE kind = 'CreateBackup'").await;
    assert!(told().await.contains("its passcode cannot be opened"));
    assert_eq!(
        events(&sink),
        ["backup.late", "schedule.resting"],
        "the same need on the same day is told once"
    );
    change("UPDATE tasks SET updated_at = updated_at - 86400000 WHERE kind = 'CreateBackup'").await;
    told().await;
    assert_eq!(events(&sink).len(), 3, "another change, another need");
}

#[tokio::test]
async fn damage_that_a_verification_finds_is_told_once_by_its_job_or_its_run() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let mut site = site(&sink);
    site.settings.notify = vec![subscription(
        "ops",
        &sink,
        &[EventKind::VerificationFailed, EventKind::RetentionFailed, EventKind::BackupLate],
    )];
    let server = site.server_with_store().await;
    make(&server, "b1").await;
    for file in all_files(&site.store().join("vaults")) {
        if file.to_string_lossy().contains("/data/") {
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[20] ^= 1;
            std::fs::remove_file(&file).unwrap();
            std::fs::write(&file, bytes).unwrap();
        }
    }
    let job = server.verify_backup_as_job("s", "b1", passcode(PASSCODE), caller()).await.unwrap();
    ended(&server, &job).await;
    let told = until_taken(&sink, 1).await;
    assert_eq!(body(&told[0])["job"].as_str(), Some(job.as_str()));
    let task = create_task(&server, TaskKind::VerifyBackups).await;
    let (run, _) = server.run_task(&task, caller()).await.unwrap();
    let told = until_taken(&sink, 2).await;
    assert_eq!(body(&told[1])["run"].as_str(), Some(run.as_str()));
    assert!(body(&told[1])["message"].as_str().unwrap().contains("is damaged"));
    assert_eq!(events(&sink), ["verification.failed", "verification.failed"]);
}

/// A server that does not work by itself, with the backups `b1` and `b2`, a run of a task that verifies both, and the sink
/// that is told of verifications.
async fn idle_with_run(sink: &WebSink) -> (Site, Recovery, crate::state::TaskRow, String) {
    let mut site = site(sink);
    site.settings.notify = vec![subscription("ops", sink, &[EventKind::VerificationFailed])];
    let server = site.server_with_store().await;
    make(&server, "b1").await;
    make(&server, "b2").await;
    server.stop().await;
    drop(server);
    let server = site.idle_server().await;
    let change = TaskChange {
        cron: Some(cron("30", "2")),
        parameters: Some(TaskParameters {
            store_name: "s".to_owned(),
            all_backups: true,
            ..TaskParameters::default()
        }),
        passcode: Some(passcode(PASSCODE)),
        ..TaskChange::default()
    };
    let task = server.create_task(TaskKind::VerifyBackups, change, "admin").await.unwrap();
    let task = server.inner.state.task(&task).await.unwrap().unwrap();
    let run = crate::state::NewRun::at_work("a".repeat(32), &task.id);
    server.inner.state.add_run(&run, now_ms()).await.unwrap();
    (site, server, task, run.id)
}

/// The next verification that waits, once there is one.
async fn waiting_verification(server: &Recovery) -> crate::state::JobRow {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let now = now_ms();
        let claimed =
            server.inner.state.claim_job(crate::state::LANE_VERIFY, "test", now, now + 60_000).await;
        if let Some(job) = claimed.unwrap() {
            return job;
        }
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Ends a verification as the worker does that found this damage.
async fn find_damage(server: &Recovery, job: &crate::state::JobRow, damage: &str) {
    let mut finish = crate::state::Finish {
        status: crate::JobStatus::Failed,
        messages: vec![format!("backup '{}' is damaged", job.backup)],
        stages: Vec::new(),
        result: Some(serde_json::json!({"details": [damage]})),
        notice: None,
    };
    finish.notice = server.inner.notice_of_job(job, &finish, false);
    assert!(server.inner.state.finish_job(&job.lease(), &finish, now_ms()).await.unwrap());
}

#[tokio::test]
async fn what_a_verification_found_is_told_though_the_stop_of_the_server_breaks_it_off() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let (site, server, task, run) = idle_with_run(&sink).await;
    let (inner, of_task, of_run) = (server.inner.clone(), task.clone(), run.clone());
    let work = tokio::spawn(async move { inner.work_on_run(&of_task, &of_run).await });
    let first = waiting_verification(&server).await;
    assert_eq!(first.backup, "b2", "the newest comes first");
    find_damage(&server, &first, "pack 1 is gone").await;
    deliver(&server, now_ms() + 1).await;
    assert!(events(&sink).is_empty(), "of its job the run will tell");
    let second = waiting_verification(&server).await;
    let noted = server.run(&task.id, &run).await.unwrap();
    assert!(noted.result.contains("pack 1 is gone"), "kept as it goes, should the server die: {noted:?}");
    server.inner.runner.stop().await;
    work.await.unwrap();
    let ended = server.run(&task.id, &run).await.unwrap();
    assert_eq!(ended.status, RunStatus::Failed, "{ended:?}");
    for part in ["'b2' of store 's' is damaged: pack 1 is gone", "The server stopped"] {
        assert!(ended.result.contains(part), "{ended:?}");
    }
    deliver(&server, now_ms() + 1).await;
    assert_eq!(events(&sink), ["verification.failed"]);
    assert_eq!(body(&sink.taken()[0])["run"].as_str(), Some(run.as_str()));
    // The other one goes on without its run, and tells by itself.
    let now = now_ms();
    assert!(server.inner.state.release_lease(&second.lease(), None, now).await.unwrap());
    drop(server);
    let server = site.idle_server().await;
    let again = waiting_verification(&server).await;
    assert_eq!(again.id, second.id);
    find_damage(&server, &again, "pack 2 is gone").await;
    deliver(&server, now_ms() + 1).await;
    assert_eq!(events(&sink).len(), 2);
    assert_eq!(body(&sink.taken()[1])["job"].as_str(), Some(second.id.as_str()));
}

#[tokio::test]
async fn a_verification_that_ends_just_when_its_run_is_broken_off_tells_by_itself() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let (_site, server, task, run) = idle_with_run(&sink).await;
    let caller = crate::Caller { request_id: format!("run {run}"), ..caller() };
    server.verify_backup_as_job("s", "b1", passcode(PASSCODE), caller).await.unwrap();
    let job = waiting_verification(&server).await;
    find_damage(&server, &job, "pack 1 is gone").await;
    // Its run, which it left that to, did not look at it any more.
    server.inner.runner.stop().await;
    server.inner.work_on_run(&task, &run).await;
    let ended = server.run(&task.id, &run).await.unwrap();
    assert_eq!(ended.status, RunStatus::Skipped, "{ended:?}");
    deliver(&server, now_ms() + 1).await;
    assert_eq!(events(&sink), ["verification.failed"]);
    assert_eq!(body(&sink.taken()[0])["job"].as_str(), Some(job.id.as_str()));
}

#[tokio::test]
async fn a_verification_that_found_nothing_and_was_broken_off_is_no_failure() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let (_site, server, task, run) = idle_with_run(&sink).await;
    let (inner, of_task, of_run) = (server.inner.clone(), task.clone(), run.clone());
    let work = tokio::spawn(async move { inner.work_on_run(&of_task, &of_run).await });
    waiting_verification(&server).await;
    server.inner.runner.stop().await;
    work.await.unwrap();
    let ended = server.run(&task.id, &run).await.unwrap();
    assert_eq!(ended.status, RunStatus::Skipped, "{ended:?}");
    deliver(&server, now_ms() + 1).await;
    assert!(events(&sink).is_empty());
}

#[tokio::test]
async fn what_a_verification_found_is_told_though_the_server_dies_before_its_run_ends() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let (site, server, task, run) = idle_with_run(&sink).await;
    let caller = crate::Caller { request_id: format!("run {run}"), ..caller() };
    // One that the run had noted, and one that ended just before the death.
    let noted = "Backup 'b2' of store 's' is damaged: pack 1 is gone.";
    let (state, executing) = (&server.inner.state, RunStatus::Executing);
    state.move_run(&run, executing, executing, noted, now_ms()).await.unwrap();
    server.verify_backup_as_job("s", "b1", passcode(PASSCODE), caller).await.unwrap();
    let job = waiting_verification(&server).await;
    find_damage(&server, &job, "pack 2 is gone").await;
    drop(server);
    let server = site.idle_server().await;
    server.inner.prepare_tasks().await.unwrap();
    let ended = server.run(&task.id, &run).await.unwrap();
    assert_eq!(ended.status, RunStatus::Failed, "{ended:?}");
    for part in [noted, "Backup 'b1' of store 's' is damaged: pack 2 is gone.", "stopped during this run"] {
        assert!(ended.result.contains(part), "{ended:?}");
    }
    deliver(&server, now_ms() + 1).await;
    server.inner.prepare_tasks().await.unwrap();
    deliver(&server, now_ms() + 1).await;
    assert_eq!(events(&sink), ["verification.failed"], "once, however often it starts");
    assert!(body(&sink.taken()[0])["message"].as_str().unwrap().contains("pack 2 is gone"));
}

#[tokio::test]
async fn low_room_in_a_store_is_told_once_a_day_whatever_backups_come_and_however_many_look() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let site = site(&sink);
    let mut server = site.idle_server().await;
    let need = |store: &str| crate::Need {
        severity: Severity::Warning,
        text: format!("Store '{store}' has 1 bytes of room left, less than the last backup added."),
        place: NeedPlace::Store(store.to_owned()),
        cause: Some(crate::Cause { event: EventKind::StoreLow, since: None }),
    };
    let start = now_ms();
    for hour in 0..72 {
        if hour % 24 == 5 {
            drop(server);
            server = site.idle_server().await;
        }
        // Two that look at the same time.
        for _ in 0..2 {
            server.inner.tell_need(&need("s"), start + hour * 3_600_000).await.unwrap();
        }
    }
    deliver(&server, start + 4 * DAY).await;
    assert_eq!(events(&sink), ["store.low"; 3]);
    for store in ["t", "s2"] {
        server.inner.tell_need(&need(store), start).await.unwrap();
    }
    deliver(&server, start + 4 * DAY).await;
    assert_eq!(events(&sink).len(), 5, "other stores have days of their own");
}

#[tokio::test]
async fn a_backup_by_schedule_that_cannot_begin_is_told() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let site = site(&sink);
    let server = site.server_with_store().await;
    let task = create_task(&server, TaskKind::CreateBackup).await;
    let mut write = server.inner.state.write().await.unwrap();
    sqlx::query("UPDATE tasks SET next_run = $1 WHERE id = $2")
        .bind(now_ms() - 1000)
        .bind(&task)
        .execute(&mut *write)
        .await
        .unwrap();
    server.inner.state.commit(write).await.unwrap();
    // Each night's time is hours away, so what is due is one that was missed for long.
    std::fs::rename(site.store(), site.base.join("gone")).unwrap();
    server.inner.runner.wake_tasks();
    let told = body(&until_taken(&sink, 1).await[0]);
    assert!(["backup.failed", "backup.late"].contains(&told["event"].as_str().unwrap()), "{told}");
    assert_eq!(told["task"].as_str(), Some(task.as_str()));
    let runs = server.runs(&task).await.unwrap();
    assert!(matches!(runs[0].status, RunStatus::SubmitFailed | RunStatus::Skipped), "{runs:?}");
}

#[test]
fn pauses_grow_from_seconds_to_an_hour_and_end_after_a_day() {
    let pause = |attempts, jitter| next_attempt(0, attempts, 1000, jitter).map(|at| at - 1000);
    assert_eq!((pause(1, 0.0), pause(1, 0.5), pause(1, 1.0)), (Some(7500), Some(10_000), Some(12_500)));
    assert_eq!((pause(2, 0.5), pause(3, 0.5)), (Some(20_000), Some(40_000)));
    assert_eq!((pause(30, 0.5), pause(i64::MAX, 1.0)), (Some(3_600_000), Some(4_500_000)));
    assert!(next_attempt(0, 8, DAY - 1, 0.5).is_some());
    assert_eq!(next_attempt(0, 8, DAY, 0.5), None);
    assert!(next_attempt(0, 7, 30 * DAY, 0.5).is_some(), "not before it was tried several times");
    // At these pauses, a day has more attempts than are needed to give up.
    let (mut now, mut attempts) = (0, 0);
    while let Some(next) = next_attempt(0, attempts + 1, now, 1.0) {
        (now, attempts) = (next, attempts + 1);
    }
    assert!((20..60).contains(&attempts), "{attempts}");
}
