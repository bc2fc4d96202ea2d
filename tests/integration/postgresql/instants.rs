//! Servers by the physical way: what was committed by an instant is there after a restore to it, and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use components::{Component, Method, PhysicalSettings, Portion};
use recovery::store::{CatalogueEntry, Store};
use recovery::work::{RestoreTask, run_restore};
use recovery::{Cost, ErrorKind, Kind, Selection};
use repository::Control;
use strongroom_tests::postgres::{PASSWORD, Postgres};
use strongroom_tests::server::{self, ADMIN, Options, wait_for};
use strongroom_tests::tree::noise;
use tempfile::TempDir;

use super::Scene;
use super::drills::{Lying, assert_said, drill, scratch};
use crate::client::{Desk, site_with};
use crate::command;
use crate::world::{self, PASSCODE, Silent};

pub(super) const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A server that tells when each row was committed, and a component of it by the physical way.
pub(super) struct Times {
    pub(super) scene: Scene,
    clusters: TempDir,
    base_every: Duration,
    component: Arc<dyn Component>,
}

impl Times {
    pub(super) fn new(base_every: Duration) -> Option<Self> {
        let scene = Scene::of(Postgres::start_with_small_segments()?);
        scene.server.sql("postgres", "ALTER SYSTEM SET track_commit_timestamp = on");
        scene.server.sql("postgres", "ALTER SYSTEM SET restore_command = '/bin/false'");
        scene.server.stop();
        scene.server.start_again();
        scene.server.sql("postgres", "CREATE DATABASE counted");
        scene.server.sql("counted", "CREATE TABLE numbers (n int PRIMARY KEY, filler text)");
        scene.server.sql("counted", "ALTER TABLE numbers ALTER filler SET STORAGE EXTERNAL");
        let clusters = scratch();
        let component = physical(&scene, &clusters, base_every);
        Some(Self { scene, clusters, base_every, component })
    }

    pub(super) fn server(&self) -> &Postgres {
        &self.scene.server
    }

    pub(super) fn back_up(&self, name: &str) -> CatalogueEntry {
        self.scene.back_up(name, &self.component).unwrap()
    }

    fn restore(&self, name: &str, at: Option<i64>) -> recovery::Result<()> {
        let task = RestoreTask {
            job_id: "a-restore".to_owned(),
            name: name.to_owned(),
            store_name: "store".to_owned(),
            passcode: world::passcode(PASSCODE),
            components: vec![Arc::clone(&self.component)],
            selection: Selection { at, ..Selection::default() },
        };
        let outcome = run_restore(&self.scene.store, &task, &Control::new(), &Silent, &|| Ok(()));
        let left = std::fs::read_dir(self.clusters.path().join("clusters")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "the restore left something in scratch");
        outcome.map(drop)
    }

    /// Writes numbers up to `until`, each in a transaction of its own.
    pub(super) fn write(&self, from: u32, until: u32) {
        let text = format!(
            "DO $$ BEGIN FOR i IN {from}..{until} LOOP INSERT INTO numbers VALUES (i, repeat(md5(i::text), 150)); COMMIT; PERFORM pg_sleep(0.002); END LOOP; END $$"
        );
        self.server().sql("counted", &text);
    }

    /// The backup `one` has rows up to 150; then the server is set back to when it had 50.
    fn back_up_what_is_undone(&self) {
        self.write(1, 50);
        self.server().stop();
        self.server().keep_state();
        self.server().start_again();
        self.write(51, 150);
        self.back_up("one");
        self.server().stop();
        self.server().go_back();
        self.server().start_again();
    }

    /// When each row was committed: its number, microseconds since 1970.
    pub(super) fn committed(&self) -> Vec<(u32, i64)> {
        self.committed_on(self.server())
    }

    pub(super) fn committed_on(&self, server: &Postgres) -> Vec<(u32, i64)> {
        let text = "SELECT n, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::int8 FROM numbers ORDER BY n";
        let rows = server.sql("counted", text);
        let row = |line: &str| {
            let (n, at) = line.split_once('|')?;
            Some((n.parse().ok()?, at.parse().ok()?))
        };
        rows.lines().map(|line| row(line).unwrap()).collect()
    }

    fn numbers(&self) -> Vec<u32> {
        let rows = self.server().sql("counted", "SELECT n FROM numbers ORDER BY n");
        rows.lines().map(|line| line.parse().unwrap()).collect()
    }

    /// Receives the log all the time, as a server does.
    fn keeper(&self) -> Keeper {
        let (component, stop) = (Arc::clone(&self.component), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || component.attend(&|| stopped.load(Ordering::Relaxed)));
        Keeper { stop, thread: Some(thread) }
    }
}

struct Keeper {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn physical(scene: &Scene, clusters: &TempDir, base_every: Duration) -> Arc<dyn Component> {
    let mut settings = scene.settings(&scene.server, &["counted"]);
    settings.method =
        Method::Physical(PhysicalSettings { base_every, log_directory: scene.dir.path().join("log") });
    settings.clusters_directory = clusters.path().join("clusters");
    components::relational_store(settings).unwrap()
}

pub(super) fn window(entry: &CatalogueEntry) -> (i64, i64) {
    let window = entry.components[0].facts.window.unwrap();
    assert!(window.from <= window.until);
    (window.from, window.until)
}

/// So many instants are tried.
fn tries() -> usize {
    std::env::var("STRONGROOM_TEST_INSTANTS").map_or(3, |text| text.parse().unwrap())
}

#[test]
fn what_was_committed_by_an_instant_is_there_after_a_restore_and_nothing_else() {
    let Some(times) = Times::new(WEEK) else { return };
    let mut keeper = times.keeper();
    let first = times.back_up("one");
    assert_eq!(first.warnings, []);
    assert_eq!(first.components[0].kind, Kind::RelationalStore);
    assert_eq!(first.components[0].facts.databases, ["counted"]);

    // It dies, the receiver dies, both die: what was committed is in the log, and the log comes.
    times.write(1, 100);
    times.server().stop();
    times.server().start_again();
    times.write(101, 200);
    times.back_up("two");
    drop(keeper);
    times.server().sql("postgres", "SELECT pg_switch_wal()");
    times.write(201, 300);
    times.server().stop();
    times.server().start_again();
    keeper = times.keeper();
    times.write(301, 400);
    let last = times.back_up("three");
    assert_eq!(last.warnings, []);
    let (from, until) = window(&last);
    assert_eq!(from, window(&first).0, "the base is the first one");
    times.write(401, 450);
    let committed = times.committed();
    assert_eq!(committed.len(), 450);

    let mut instants = vec![committed[99].1 / 1000, committed[300].1 / 1000, until, from];
    let span = u64::try_from(until - from).unwrap();
    let step = |i: usize| {
        i64::try_from(noise(i as u64, 8).iter().fold(0, |all, byte| all << 8 | u64::from(*byte)) % span)
            .unwrap()
    };
    instants.extend((4..tries()).map(|i| from + step(i)));
    instants.truncate(tries());
    for at in instants {
        times.restore("three", Some(at)).unwrap();
        let expected: Vec<u32> =
            committed.iter().filter(|(_, committed)| *committed <= at * 1000).map(|(n, _)| *n).collect();
        assert_eq!(times.numbers(), expected, "at {at} of {from} to {until}");
    }
    times.restore("three", None).unwrap();
    assert_eq!(times.numbers().len(), 400);
    times.scene.assert_no_traces();
    drop(keeper);

    for outside in [from - 1, until + 1] {
        let refused = times.restore("three", Some(outside)).unwrap_err();
        assert_eq!(refused.kind, ErrorKind::ParameterInvalid, "{refused}");
        assert!(refused.message.contains("at any instant from"), "{refused}");
    }
    assert_eq!(times.numbers().len(), 400);
}

#[test]
fn a_second_backup_reads_and_stores_new_log_alone_and_a_new_base_leaves_no_instant_out() {
    let Some(mut times) = Times::new(WEEK) else { return };
    times.server().sql(
        "counted",
        "CREATE TABLE much AS SELECT i, md5(i::text) AS text FROM generate_series(1, 200000) i",
    );
    let first = times.back_up("one");
    times.write(1, 20);
    let second = times.back_up("two");
    let added = |entry: &CatalogueEntry| entry.components[0].bytes_added;
    assert!(added(&second) * 5 < added(&first), "{} of {}", added(&second), added(&first));

    // Bases are due at once now.
    times.base_every = Duration::ZERO;
    times.component = physical(&times.scene, &times.clusters, times.base_every);
    let third = times.back_up("three");
    times.write(21, 40);
    let fourth = times.back_up("four");
    assert_eq!(third.warnings, []);
    assert_eq!(window(&third).0, window(&first).0);
    assert!(window(&fourth).0 > window(&first).0 && window(&fourth).0 <= window(&third).1);
    let committed = times.committed();
    let at = window(&fourth).0;
    times.restore("four", Some(at)).unwrap();
    assert_eq!(
        times.numbers().len(),
        committed.iter().filter(|(_, committed)| *committed <= at * 1000).count()
    );
    times.restore("four", None).unwrap();
    assert_eq!(times.numbers().len(), 40);
}

#[test]
fn log_that_was_lost_is_told_and_the_next_backup_begins_anew() {
    let Some(times) = Times::new(WEEK) else { return };
    let first = times.back_up("one");
    // Nobody receives, and the slot that would keep the log is dropped.
    let slot = "strongroom_gis";
    wait_for("nobody uses the slot", || {
        let used = times.server().sql("postgres", "SELECT count(*) FROM pg_replication_slots WHERE active");
        (used == "0").then_some(())
    });
    times.server().sql("postgres", &format!("SELECT pg_drop_replication_slot('{slot}')"));
    times.write(1, 10);
    for _ in 0..3 {
        times.server().sql("counted", "CREATE TABLE x(); DROP TABLE x; SELECT pg_switch_wal(); CHECKPOINT");
    }
    let second = times.back_up("two");
    let reason = &second.warnings[0].reason;
    assert!(reason.contains("without a break") && reason.contains("does not hold"), "{reason}");
    assert!(window(&second).0 > window(&first).1);
    times.restore("two", None).unwrap();
    assert_eq!(times.numbers().len(), 10);
    times.restore("one", None).unwrap();
    assert_eq!(times.numbers().len(), 0);
    let third = times.back_up("three");
    assert_eq!(third.warnings, [], "the gap is told once");
}

#[test]
fn a_server_that_went_back_or_began_a_new_time_line_is_told_and_comes_back_as_it_is() {
    let Some(times) = Times::new(WEEK) else { return };
    times.back_up_what_is_undone();
    times.write(1001, 1010);
    let second = times.back_up("two");
    assert!(second.warnings[0].reason.contains("went back to an earlier state"), "{:?}", second.warnings);
    times.write(1011, 1150);
    let third = times.back_up("three");
    assert_eq!(third.warnings, []);

    times.server().stop();
    times.server().start_on_a_new_time_line();
    times.write(1151, 1160);
    let fourth = times.back_up("four");
    assert!(fourth.warnings[0].reason.contains("another time line"), "{:?}", fourth.warnings);
    let expected = |last: u32| (1..=50).chain(1001..=last).collect::<Vec<u32>>();
    for (name, last) in [("four", 1160), ("three", 1150), ("two", 1010)] {
        times.restore(name, None).unwrap();
        assert_eq!(times.numbers(), expected(last), "{name}");
    }
    times.restore("one", None).unwrap();
    assert_eq!(times.numbers(), (1..=150).collect::<Vec<u32>>());
}

#[test]
fn what_a_server_has_undone_is_not_joined_to_what_it_did_since_though_that_is_longer() {
    let Some(times) = Times::new(WEEK) else { return };
    let _keeper = times.keeper();
    times.back_up_what_is_undone();
    let left = times.scene.dir.path().join("log/left-0");
    wait_for("what was received to be put aside", || left.exists().then_some(()));
    for number in 0..4 {
        times.write(1001 + 50 * number, 1050 + 50 * number);
        times.server().sql("postgres", "SELECT pg_switch_wal()");
    }
    let second = times.back_up("two");
    assert!(second.warnings[0].reason.contains("without a break"), "{:?}", second.warnings);
    times.restore("two", None).unwrap();
    assert_eq!(times.numbers(), (1..=50).chain(1001..=1200).collect::<Vec<u32>>());
}

/// It was set back while nobody received, and has written past what lies here: by numbers of segments all would fit.
#[test]
fn a_server_that_went_back_while_nobody_looked_is_noticed_though_it_is_longer_now() {
    for at_a_boundary in [false, true] {
        let Some(times) = Times::new(WEEK) else { return };
        times.write(1, 50);
        times.back_up("zero");
        times.server().stop();
        times.server().keep_state();
        times.server().start_again();
        times.write(51, 150);
        times.back_up("one");
        if at_a_boundary {
            let keeper = times.keeper();
            times.server().sql("postgres", "SELECT pg_switch_wal()");
            let log = times.scene.dir.path().join("log");
            wait_for("whole segments alone", || {
                let names =
                    std::fs::read_dir(&log).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
                let names: Vec<String> = names.filter(|name| name.len() >= 24).collect();
                (!names.is_empty() && !names.iter().any(|name| name.ends_with(".partial"))).then_some(())
            });
            drop(keeper);
        }
        let end = "SELECT pg_current_wal_lsn() - '0/0'";
        let held: u64 = times.server().sql("postgres", end).parse().unwrap();
        times.server().stop();
        times.server().go_back();
        times.server().start_again();
        let mut last = 1000;
        while times.server().sql("postgres", end).parse::<u64>().unwrap() < held + (1 << 20) {
            times.write(last + 1, last + 50);
            last += 50;
        }
        let second = times.back_up("two");
        let reason = second.warnings.first().map(|warning| warning.reason.clone()).unwrap_or_default();
        assert!(reason.contains("without a break"), "{at_a_boundary}: {reason:?}");
        assert!(times.scene.dir.path().join("log/left-0").exists());
        times.write(last + 1, last + 10);
        let third = times.back_up("three");
        assert_eq!(third.warnings, []);
        let expected = |last: u32| (1..=50).chain(1001..=last).collect::<Vec<u32>>();
        for (name, last) in [("two", last), ("three", last + 10)] {
            times.restore(name, None).unwrap();
            assert_eq!(times.numbers(), expected(last), "{name}");
        }
    }
}

/// Server and spool were set back together, as with the machine on which both are; the store was not.
#[test]
fn a_backup_of_a_life_that_was_undone_is_not_gone_on_with() {
    let Some(mut times) = Times::new(WEEK) else { return };
    let log = times.scene.dir.path().join("log");
    let kept = times.scene.dir.path().join("log-kept");
    let copy = |from: &std::path::Path, to: &std::path::Path| {
        assert!(std::process::Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
    };
    times.write(1, 50);
    times.back_up("zero");
    times.server().stop();
    times.server().keep_state();
    copy(&log, &kept);
    times.server().start_again();
    times.write(51, 150);
    times.component = physical(&times.scene, &times.clusters, Duration::ZERO);
    times.back_up("one, with a base of its own");
    let end = "SELECT pg_current_wal_lsn() - '0/0'";
    let held: u64 = times.server().sql("postgres", end).parse().unwrap();
    times.server().stop();
    times.server().go_back();
    std::fs::remove_dir_all(&log).unwrap();
    copy(&kept, &log);
    times.server().start_again();
    times.component = physical(&times.scene, &times.clusters, WEEK);
    let mut last = 1000;
    while times.server().sql("postgres", end).parse::<u64>().unwrap() < held + (1 << 20) {
        times.write(last + 1, last + 50);
        last += 50;
    }
    let two = times.back_up("two");
    let reason = two.warnings.first().map(|warning| warning.reason.clone()).unwrap_or_default();
    assert!(reason.contains("further than the log here has ever gone"), "{reason:?}");
    times.restore("two", None).unwrap();
    assert_eq!(times.numbers(), (1..=50).chain(1001..=last).collect::<Vec<u32>>());
    assert_eq!(times.back_up("three").warnings, []);
}

#[test]
fn each_store_goes_on_with_what_it_holds_and_a_drill_replays_it() {
    let Some(times) = Times::new(WEEK) else { return };
    let dir = tempfile::tempdir().unwrap();
    let other = Store::create_or_adopt(world::directory(dir.path()), "other", Cost::FAST).unwrap().0;
    other.claim("test/1").unwrap();
    let back_up = |store: &Store, name: &str| {
        let mut task = world::task(name, PASSCODE, std::path::Path::new("/nowhere"));
        task.components = vec![Arc::clone(&times.component)];
        let entry = world::back_up(store, &task).unwrap();
        assert_eq!(entry.warnings, []);
        window(&entry)
    };
    let (here, there) = (back_up(&times.scene.store, "a"), back_up(&other, "b"));
    times.write(1, 100);
    assert_eq!(back_up(&times.scene.store, "c").0, here.0);
    assert_eq!(back_up(&other, "d").0, there.0);
    let report = drill(&times.scene, "c", &times.clusters, &[Arc::clone(&times.component)], Some(PASSCODE));
    assert_eq!(report.failures, Vec::<String>::new());
    assert_said(&report.proven, "its log is replayed until the end of the backup");
    assert_said(&report.proven, "(tables: 1, rows: 100)");
}

#[test]
fn what_is_wrong_with_a_base_is_found_before_anything_is_changed() {
    let Some(times) = Times::new(WEEK) else { return };
    times.write(1, 5);
    times.back_up("one");
    times.write(6, 10);
    // The database was made since, and another one is gone.
    times.server().sql("postgres", "CREATE DATABASE later");
    let settings = |databases: &[&str]| {
        let mut settings = times.scene.settings(times.server(), databases);
        settings.clusters_directory = times.clusters.path().join("clusters");
        components::relational_store(settings).unwrap()
    };
    let restored = times.scene.restore("one", &settings(&["counted", "later"]));
    assert_eq!(restored.map(|_| ()).map_err(|e| e.message), Ok(()));
    assert_eq!(times.numbers().len(), 5);
    // What was backed up counts, whatever is configured now.
    times.scene.restore("one", &settings(&["later"])).unwrap();
    assert_eq!(times.numbers().len(), 5);
    times.write(6, 10);
    let mut task = times.scene.task("one", &settings(&["*"]));
    let later = Portion { paths: vec!["later".to_owned()], into: None };
    task.selection.portions.insert("gis".to_owned(), later);
    let refused = run_restore(&times.scene.store, &task, &Control::new(), &Silent, &|| Ok(())).unwrap_err();
    assert!(refused.message.contains("at that instant"), "{refused}");
    assert_eq!(times.numbers().len(), 10);
    times.scene.assert_no_traces();
}

#[test]
fn by_the_command_line_and_the_interface_a_server_is_restored_to_an_instant_and_its_log_is_shown() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.sql("postgres", "CREATE DATABASE city");
    let (clusters, secret) = (scratch(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(secret.path(), PASSWORD).unwrap();
    let configuration = format!(
        "[drills]\ndirectory = \"{}\"\n[[component]]\nkind = \"relationalStore\"\nname = \"gis\"\nurl = \"{}\"\npassword_file = \
         \"{}\"\ndatabases = [\"city\"]\nmethod = \"physical\"\nbase_every_days = 1\n",
        clusters.path().join("drills").display(),
        postgres.url(),
        secret.path().display(),
    );
    let site = site_with(Options { configuration, ..Options::default() });
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    postgres.sql("city", "CREATE TABLE state AS SELECT 'old' AS word");
    desk.run(["backup", "create", "a", "--wait"]).expect(0);
    let told = |what: &str| {
        postgres.sql("city", &format!("SELECT to_char({what}, 'YYYY-MM-DD\"T\"HH24:MI:SS.MSZ')"))
    };
    let at = told("clock_timestamp() AT TIME ZONE 'UTC'");
    wait_for("the next millisecond", || (told("clock_timestamp() AT TIME ZONE 'UTC'") > at).then_some(()));
    postgres.sql("city", "UPDATE state SET word = 'new'");
    desk.run(["backup", "create", "b", "--wait"]).expect(0);

    let client = site.client();
    let restore = "stores/s1/backups/b/restore";
    for (component, at, says) in [
        ("gis", "2001-01-01T00:00:00Z", "at any instant from"),
        ("gis", "noon", "like 2026-05-04T11:59:30Z"),
        ("content", at.as_str(), "holds one instant alone"),
    ] {
        let fields = [("passcode", command::PASSCODE), ("components", component), ("recoveryTime", at)];
        let refused = client.dr_post(restore, &fields).refused(400, "PARAM_INVALID");
        assert!(refused.json["error"]["message"].as_str().unwrap().contains(says), "{}", refused.json);
    }
    desk.run(["backup", "restore", "b", "--component", "gis", "--at", &at, "--yes", "--wait"]).expect(0);
    assert_eq!(postgres.sql("city", "SELECT word FROM state"), "old");
    desk.run(["backup", "restore", "b", "--component", "gis", "--yes", "--wait"]).expect(0);
    assert_eq!(postgres.sql("city", "SELECT word FROM state"), "new");

    let agent = site.browser_agent();
    let form = [("username", ADMIN), ("password", server::PASSWORD)];
    let signed_in = agent
        .post(format!("{}/admin/login", site.url()))
        .header("accept", "text/html")
        .send_form(form)
        .unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let page = |path: &str| {
        let request = agent.get(format!("{}/admin/{path}", site.url())).header("cookie", &cookie);
        request.header("accept", "text/html").call().unwrap().into_body().read_to_string().unwrap()
    };
    let backup = "system/disasterrecovery/stores/s1/backups/b";
    assert!(page(backup).contains("any instant from "), "{}", page(backup));
    let form = page(&format!("{backup}/assistant"));
    assert!(form.contains("name=\"recoveryTime\"") && form.contains("gis from "), "{form}");
    let jobs = client.jobs();
    assert!(jobs.iter().any(|job| page(&format!("jobs/{job}")).contains(&format!("as of {at}"))), "{jobs:?}");
    wait_for("the keeper's figures", || {
        let figures = page("metrics");
        let shows = |figure: &str| figures.contains(figure);
        (shows("strongroom_log_arriving{component=\"gis\"} 1")
            && shows("strongroom_log_behind_bytes{component=\"gis\"}"))
        .then_some(())
    });
}

#[test]
fn what_a_hostile_server_puts_into_its_base_is_written_by_nobody_but_the_server_of_the_restore() {
    let Some(times) = Times::new(WEEK) else { return };
    times.write(1, 5);
    let precious = times.scene.dir.path().join("precious");
    std::fs::write(&precious, "precious").unwrap();
    let (to, work) = (precious.clone(), tempfile::tempdir().unwrap());
    // Names that a restore writes itself are links to a file of ours.
    let alter = move |base: Vec<u8>| {
        let tar = work.path().join("base.tar");
        std::fs::write(&tar, base).unwrap();
        let names = ["postgresql.auto.conf", "recovery.signal"];
        for name in names {
            std::os::unix::fs::symlink(&to, work.path().join(name)).unwrap();
        }
        let run = |words: &[&str]| {
            let mut command = std::process::Command::new("tar");
            assert!(
                command
                    .arg("-f")
                    .arg(&tar)
                    .arg("-C")
                    .arg(work.path())
                    .args(words)
                    .status()
                    .unwrap()
                    .success()
            );
        };
        run(&["-r", names[0], names[1]]);
        std::fs::read(&tar).unwrap()
    };
    let lying: Arc<dyn Component> = Arc::new(Lying {
        inner: Arc::clone(&times.component),
        file: "base-000001.tar",
        alter: Box::new(alter),
    });
    times.scene.back_up("one", &lying).unwrap();
    times.write(6, 10);
    times.restore("one", None).unwrap();
    assert_eq!(times.numbers().len(), 5);
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn a_server_that_cannot_be_backed_up_physically_is_refused_with_the_reason() {
    let Some(times) = Times::new(WEEK) else { return };
    let refusal = |component: &Arc<dyn Component>| {
        let probed = component.probe().unwrap_err();
        let error = times.scene.back_up("never", component).unwrap_err();
        assert!(error.message.contains(&probed.message), "{error}: {probed}");
        error.message
    };
    times.server().sql("postgres", "CREATE ROLE reader LOGIN PASSWORD 'a word'");
    let mut settings = times.scene.settings(times.server(), &["counted"]);
    settings.url = times.server().url().replace("postgres@", "reader@");
    settings.password = Some(components::Password::Value("a word".into()));
    settings.method = Method::Physical(PhysicalSettings {
        base_every: WEEK,
        log_directory: times.scene.dir.path().join("log"),
    });
    let reader = components::relational_store(settings).unwrap();
    assert!(refusal(&reader).contains("ALTER ROLE … REPLICATION"));

    times.server().sql("postgres", "ALTER ROLE reader REPLICATION");
    assert!(refusal(&reader).contains("pg_read_all_settings"));

    // With these rights alone it goes.
    times.server().sql("postgres", "GRANT pg_read_all_settings TO reader");
    times.scene.back_up("by a reader", &reader).unwrap();

    let space = scratch();
    std::fs::set_permissions(space.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let place = times.server().directory("space");
    times.server().sql("postgres", &format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    assert!(refusal(&times.component).contains("tablespaces"));
}
