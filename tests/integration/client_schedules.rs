//! The command line and what the server does by itself: schedules and their runs.

use std::fs;

use serde_json::Value;
use strongroom_tests::server::{Options, wait_for};

use crate::client::{Desk, site_with};
use crate::command::run;

/// The status of the newest run, once it has ended.
fn newest_run(desk: &Desk, name: &str) -> String {
    wait_for("the run to end", || {
        let runs = desk.json(["schedule", "runs", name]);
        let status = runs[0]["status"].as_str()?.to_owned();
        (!matches!(status.as_str(), "scheduled" | "executing")).then_some(status)
    })
}

#[test]
fn a_person_makes_a_schedule_runs_it_changes_it_and_removes_it() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    let name = "jede Nacht, Köln";
    let made = desk.run([
        "schedule",
        "create",
        name,
        "--at",
        "02:30",
        "--time-zone",
        "Europe/Berlin",
        "--keep-days",
        "14",
    ]);
    made.expect(0).expect_text("first backup at");
    let listed = desk.run(["schedule", "list"]).expect(0).expect_text(name).expect_text("CreateBackup");
    listed.expect_text("30 2 * * ?  Europe/Berlin").expect_text("BackupRetentionCleaner");
    desk.run(["schedule", "show", name]).expect(0).expect_text("14 days").expect_text("active");

    let ran = desk.run(["schedule", "run", name, "--wait"]).expect(0).expect_text("Backup of");
    drop(ran);
    assert_eq!(newest_run(&desk, name), "succeeded");
    desk.run(["schedule", "runs", name]).expect(0).expect_text("succeeded");
    let backups = desk.json(["backup", "list"]);
    let backup = backups[0]["backupName"].as_str().unwrap();
    assert!(backup.starts_with(&format!("{name}-")), "{backup}");
    assert_eq!(backups[0]["scheduleType"], "SCHEDULED");
    desk.run(["backup", "restore", backup, "--yes", "--wait"]).expect(0);

    desk.run(["schedule", "update", name, "--cron", "15 4 * * 1", "--time-zone", "UTC", "--keep-forever"])
        .expect(0);
    let shown = desk.run(["schedule", "show", name]).expect(0).expect_text("15 4 * * 1  UTC");
    shown.expect_text("for ever");
    desk.run(["schedule", "disable", name]).expect(0);
    desk.run(["schedule", "show", name]).expect(0).expect_text("paused");
    desk.run(["schedule", "enable", name]).expect(0);
    desk.run(["schedule", "show", name]).expect(0).expect_text("active");
    desk.run(["schedule", "delete", name]).expect(0);
    desk.run(["schedule", "show", name]).expect(1).expect_text("no schedule");
    desk.run(["backup", "show", backup]).expect(0);
}

#[test]
fn a_new_passcode_of_a_schedule_is_given_on_purpose_and_never_told() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    let (first, second) = ("planted-first-passcode", "planted-second-passcode");
    let create = |name: &str| {
        let mut command = desk.command(["schedule", "create", name, "--at", "3:00"]);
        run(command.env("STRONGROOM_PASSCODE", first)).expect(0);
    };
    create("a");
    let opens = |backup: &str, passcode: &str| {
        let mut command = desk.command(["backup", "validate", backup]);
        run(command.env("STRONGROOM_PASSCODE", passcode)).code
    };
    let back_up = || {
        let job = desk.json(["schedule", "run", "a", "--wait"]);
        job["result"]["backupName"].as_str().unwrap().to_owned()
    };
    // A variable that happens to be set changes nothing.
    let mut command = desk.command(["schedule", "update", "a", "--description", "every night"]);
    run(command.env("STRONGROOM_PASSCODE", second)).expect(0);
    let one = back_up();
    assert_eq!((opens(&one, first), opens(&one, second)), (0, 12));
    // Names of backups have seconds in them.
    wait_for("the next second", || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let made = desk.json(["backup", "show", &one])["startTime"].as_u64().unwrap() / 1000;
        (now > made + 1).then_some(())
    });
    fs::write(desk.path("second"), second).unwrap();
    let file = desk.path("second");
    desk.run(["schedule", "update", "a", "--passcode-file", file.to_str().unwrap()]).expect(0);
    let two = back_up();
    assert_eq!((opens(&two, first), opens(&two, second)), (12, 0));
    for words in [["schedule", "list", "--json"], ["schedule", "show", "a"], ["schedule", "runs", "a"]] {
        let told = desk.run(words).expect(0);
        assert!(!told.out.contains("planted") && !told.err.contains("planted"), "{told}");
    }
}

#[test]
fn what_is_wrong_with_a_schedule_is_said() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.run(["schedule", "create", "a", "--at", "02:30"]).expect(10);
    desk.register(&site);
    desk.run(["schedule", "create", "a"]).expect(2);
    desk.run(["schedule", "create", "a", "--at", "25:00"]).expect(2).expect_text("hour");
    desk.run(["schedule", "create", "a", "--at", "2"]).expect(2).expect_text("02:30");
    desk.run(["schedule", "create", "a", "--cron", "30 2 * *"]).expect(2).expect_text("five fields");
    desk.run(["schedule", "create", "a", "--at", "02:30", "--time-zone", "Atlantis/Capital"]).expect(2);
    desk.run(["schedule", "create", "a", "--at", "02:30", "--store", "missing"]).expect(10);
    let short =
        run(desk.command(["schedule", "create", "a", "--at", "02:30"]).env("STRONGROOM_PASSCODE", "short"));
    short.expect(2);
    desk.run(["schedule", "run", "missing"]).expect(1).expect_text("schedule list");
    // Two of one name: an id is wanted.
    let ids: Vec<_> = ["02:30", "03:30"]
        .map(|at| {
            desk.json(["schedule", "create", "twice", "--at", at])["taskId"].as_str().map(str::to_owned)
        })
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(ids.len(), 2);
    desk.run(["schedule", "show", "twice"]).expect(2).expect_text(&ids[0]).expect_text(&ids[1]);
    desk.run(["schedule", "delete", &ids[0]]).expect(0);
    let left: Value = desk.json(["schedule", "show", "twice"]);
    assert_eq!(left["taskId"], *ids[1]);
    // The server's own tasks are there from the start, and stay.
    desk.run(["schedule", "delete", "00000000000000000000000000000001"]).expect(1);
}
