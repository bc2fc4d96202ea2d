//! Databases while things go wrong: tables that change at a bad moment, ways that break, servers that are away, deaths.

use std::sync::Arc;

use components::{Password, Portion, Recovered, RelationalStoreSettings, RestoreContext};
use repository::{BackupRequest, Control, Fed, FedFile, Time};
use storage::{Fault, FaultPlan, Faulty};
use strongroom_tests::postgres::Breaking;
use strongroom_tests::server::wait_for;

use super::Scene;
use crate::world::{self, PASSCODE};

#[test]
fn a_table_that_is_rewritten_or_exchanged_right_after_the_snapshot_is_not_taken_for_empty() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    let ways = [
        "TRUNCATE t; INSERT INTO t SELECT generate_series(1, 200);",
        "CREATE TABLE fresh AS SELECT generate_series(1, 200) AS i; ALTER TABLE t RENAME TO stale; ALTER TABLE fresh RENAME TO t;",
    ];
    for (number, way) in ways.into_iter().enumerate() {
        let database = format!("d{number}");
        server.sql("postgres", &format!("CREATE DATABASE {database}"));
        server.script(&database, "CREATE TABLE t AS SELECT generate_series(1, 100) AS i");
        let component = scene.component(&[&database]);
        std::thread::scope(|scope| {
            // Until the backup has its snapshot and waits for the table.
            scope.spawn(|| {
                let wait = "DO $$ BEGIN WHILE NOT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation IS NOT NULL) LOOP
                   PERFORM pg_sleep(0.05); END LOOP; END $$;";
                server.script(&database, &format!("BEGIN; {way} {wait} COMMIT;"));
            });
            let locked = "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND relation = 't'::regclass";
            wait_for("the table to be rewritten", || (server.sql(&database, locked) == "t").then_some(()));
            scene.back_up(&database, &component).unwrap();
        });
        server.sql(&database, "DROP TABLE t");
        scene.restore(&database, &component).unwrap();
        assert_eq!(server.sql(&database, "SELECT count(*) FROM t"), "200", "{way}");
    }
}

#[test]
fn a_setting_that_the_server_refuses_is_named_and_the_rest_is_restored() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server
        .script("postgres", "CREATE DATABASE one; CREATE ROLE owner; ALTER ROLE owner SET work_mem = '8MB';");
    // As another release may have known it.
    server.script(
        "postgres",
        "SET allow_system_table_mods = on; ALTER DATABASE one SET work_mem = '9MB';
         UPDATE pg_db_role_setting SET setconfig = array_prepend('no_such_setting=1', setconfig);",
    );
    let component = scene.component(&["one"]);
    scene.back_up("b", &component).unwrap();
    server.script("postgres", "DROP DATABASE one; DROP ROLE owner;");
    let done = scene.restore("b", &component).unwrap();
    let told: Vec<&str> = done.warnings.iter().map(|warning| warning.item.as_str()).collect();
    assert_eq!(told, ["owner", "one"]);
    assert!(done.warnings[0].reason.contains("'no_such_setting' was refused"), "{:?}", done.warnings);
    assert_eq!(server.sql("one", "SHOW work_mem"), "9MB");
    assert_eq!(
        server.sql("one", "SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = 0"),
        "{work_mem=8MB}"
    );
}

#[test]
fn whoever_wants_to_alter_a_table_meanwhile_waits_and_the_backup_goes_on() {
    let databases = [(
        "one",
        "CREATE TABLE a AS SELECT 1 AS i; CREATE TABLE b AS SELECT generate_series(1, 300000) AS i, 'x' AS w;",
    )];
    let Some((scene, component)) = Scene::with(&databases) else { return };
    let server = &scene.server;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Only pg_dump reads the parsers of text search, after it has locked the tables.
            server.sql(
                "one",
                "SET statement_timeout = '60s'; \
                 DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks a JOIN pg_locks b USING (pid) WHERE a.granted \
                 AND a.relation = 'b'::regclass AND b.relation = 'pg_ts_parser'::regclass AND pid <> pg_backend_pid()) \
                 LOOP PERFORM pg_sleep(0.002); END LOOP; END $$; \
                 SET lock_timeout = 0; ALTER TABLE b ADD COLUMN later int",
            )
        });
        scene.back_up("b", &component).unwrap();
    });
    scene.restore("b", &component).unwrap();
    assert_eq!(server.sql("one", "SELECT count(*) FROM b"), "300000");
}

#[test]
fn what_cannot_be_restored_is_refused_and_nothing_is_changed() {
    let databases = [("one", "CREATE TABLE t AS SELECT 1 AS x"), ("two", "CREATE TABLE t AS SELECT 2 AS x")];
    let Some((scene, component)) = Scene::with(&databases) else { return };
    let server = &scene.server;
    scene.back_up("b", &component).unwrap();
    server.script("one", "UPDATE t SET x = 10");
    let refused = |words: &str| {
        let error = scene.restore("b", &component).unwrap_err();
        assert!(error.message.contains(words), "{error}");
        assert_eq!(server.sql("one", "SELECT x FROM t"), "10");
        assert_eq!(server.sql("two", "SELECT x FROM t"), "2");
        scene.assert_no_traces();
    };
    server.script("two", "BEGIN; UPDATE t SET x = 3; PREPARE TRANSACTION 'in doubt'");
    refused("the prepared transaction 'in doubt' holds it");
    server.script("two", "ROLLBACK PREPARED 'in doubt'");
    server.script("one", "SELECT pg_create_logical_replication_slot('follower', 'pgoutput')");
    refused("the logical replication slot 'follower' holds it");
    server.script("one", "SELECT pg_drop_replication_slot('follower')");

    let wrong = RelationalStoreSettings {
        password: Some(Password::Value("not this one".into())),
        ..scene.settings(server, &["one"])
    };
    let error = scene.back_up("c", &components::relational_store(wrong).unwrap()).unwrap_err();
    assert!(
        error.message.contains("password authentication failed") && !error.message.contains("not this one"),
        "{error}"
    );
    let error = scene.back_up("d", &scene.component(&["none"])).unwrap_err();
    assert!(error.message.contains("has no database 'none'"), "{error}");
    scene.restore("b", &component).unwrap();
    assert_eq!(server.sql("one", "SELECT x FROM t"), "1");
    scene.assert_no_traces();
}

#[test]
fn whoever_is_connected_is_sent_away_and_nobody_sees_a_mixture() {
    let made = "CREATE TABLE state AS SELECT 'old' AS word";
    let Some((scene, component)) = Scene::with(&[("one", made), ("two", made)]) else { return };
    let server = &scene.server;
    scene.back_up("b", &component).unwrap();
    for database in ["one", "two"] {
        server.script(database, "UPDATE state SET word = 'new'");
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = ["one", "two"].map(|database| {
            let done = &done;
            scope.spawn(move || {
                // Comes again at once whenever it is sent away.
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    if let Ok(word) = server.try_sql(database, "SELECT word, pg_sleep(0.2) FROM state") {
                        assert!(["old|", "new|"].contains(&word.as_str()), "{word}");
                    }
                }
            })
        });
        let outcome = scene.restore("b", &component);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        looking.into_iter().for_each(|thread| thread.join().unwrap());
        outcome.unwrap();
    });
    assert_eq!(server.sql("one", "SELECT word FROM state"), "old");
    assert_eq!(server.sql("two", "SELECT word FROM state"), "old");
    scene.assert_no_traces();
}

#[test]
fn a_restore_that_fails_or_dies_leaves_every_database_as_before_or_as_after() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.script(
        "postgres",
        "CREATE DATABASE one; COMMENT ON DATABASE one IS 'a comment'; CREATE DATABASE two;",
    );
    for database in ["one", "two"] {
        server.script(database, "CREATE TABLE state AS SELECT 'old' AS word");
    }
    server.script(
        "two",
        "CREATE SUBSCRIPTION s CONNECTION 'host=nowhere.invalid' PUBLICATION p WITH (connect = false)",
    );
    let component = scene.component(&["one", "two"]);
    scene.back_up("b", &component).unwrap();
    server.script("one", "UPDATE state SET word = 'new'");
    server.script("two", "ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s;");
    server.script("postgres", "DROP DATABASE two; COMMENT ON DATABASE one IS 'a newer comment'");
    let one = || server.sql("one", "SELECT word FROM state");
    let comment = || {
        server.sql(
            "postgres",
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'one'",
        )
    };

    // The right to go on is withdrawn right before the swap.
    let stop = || Err(recovery::Error::new(recovery::ErrorKind::Cancelled, "stopped"));
    scene.restore_until("b", &component, &stop).unwrap_err();
    assert_eq!((one(), comment()), ("new".into(), "a newer comment".into()));
    scene.assert_no_traces();

    // Dies before the swap: what was built is there, and the next start removes it.
    let begin = || world::stage(&scene.store, "b", &component, &Portion::default());
    let recover = || component.recover("a-restore", &Portion::default()).unwrap();
    std::mem::forget(begin());
    let made =
        server.sql("postgres", "SELECT min(datname) FROM pg_database WHERE datname LIKE 'strongroom_new%'");
    std::fs::write(scene.dir.path().join(format!("scratch/{made}.dump")), "definitions").unwrap();
    assert_eq!(
        server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'strongroom_new%'"),
        "2"
    );
    assert_eq!(recover(), Recovered::Undone);
    assert_eq!((one(), comment()), ("new".into(), "a newer comment".into()));
    scene.assert_no_traces();

    // What cannot be removed, as the server is away, goes with the next backup.
    let staged = begin();
    server.stop();
    drop(staged);
    server.start_again();
    assert_eq!(
        server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname LIKE 'strongroom_new%'"),
        "2"
    );
    scene.back_up("c", &scene.component(&["one"])).unwrap();
    scene.assert_no_traces();

    // Another component's swap fails: this one's is taken back.
    let mut staged = begin();
    staged.swap().unwrap();
    assert_eq!((one(), comment()), ("old".into(), "a comment".into()));
    assert_eq!(server.sql("two", "SELECT word FROM state"), "old");
    staged.abandon().unwrap();
    assert_eq!((one(), comment()), ("new".into(), "a newer comment".into()));
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'two'"), "0");
    scene.assert_no_traces();

    // It cannot be taken back just then, as the server is away: the next start does it, and does not finish instead.
    let mut staged = begin();
    staged.swap().unwrap();
    server.stop();
    staged.abandon().unwrap_err();
    server.start_again();
    assert_eq!(recover(), Recovered::Undone);
    assert_eq!((one(), comment()), ("new".into(), "a newer comment".into()));
    assert_eq!(server.sql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'two'"), "0");
    scene.assert_no_traces();

    // Dies after it: the next start finishes.
    let mut staged = begin();
    staged.swap().unwrap();
    std::mem::forget(staged);
    assert_eq!(recover(), Recovered::Finished);
    assert_eq!(recover(), Recovered::Nothing);
    assert_eq!((one(), comment()), ("old".into(), "a comment".into()));
    scene.assert_no_traces();
}

#[test]
fn a_way_that_breaks_anywhere_fails_the_work_and_leaves_all_as_before_or_as_after() {
    let made = "CREATE TABLE rows AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i";
    let Some((scene, component)) = Scene::with(&[("one", made), ("two", made)]) else { return };
    let server = &scene.server;
    let sum = "SELECT count(*), sum(i) FROM rows";
    let before = server.sql("one", sum);
    let over = |way: &Breaking| {
        let mut settings = scene.settings(server, &["one", "two"]);
        settings.url = format!("postgres://postgres@127.0.0.1:{}/", way.port);
        components::relational_store(settings).unwrap()
    };
    for bytes in [1, 1_000, 10_000, 40_000, 200_000, 900_000] {
        let error = scene.back_up("b", &over(&Breaking::start(server, bytes, true))).unwrap_err();
        assert!(!error.message.is_empty());
        assert_eq!(scene.store.backups().unwrap().0.len(), 0, "after {bytes} bytes");
    }
    scene.back_up("b", &over(&Breaking::start(server, 1 << 30, true))).unwrap();

    for database in ["one", "two"] {
        server.script(database, "DELETE FROM rows WHERE i > 5");
    }
    let (mut failed, mut changed) = (0, 0);
    for bytes in [1, 1_000, 5_000, 20_000, 100_000, 500_000, 900_000, 1_500_000, 1_800_000, 1 << 30] {
        let outcome = scene.restore("b", &over(&Breaking::start(server, bytes, false)));
        failed += usize::from(outcome.is_err());
        // The next start, when the server can be reached again.
        component.recover("a-restore", &Portion::default()).unwrap();
        scene.assert_no_traces();
        let both = ["one", "two"].map(|database| server.sql(database, sum));
        assert_eq!(both[0], both[1], "after {bytes} bytes: {outcome:?}");
        assert!(both[0] == before || both[0] == "5|15", "{}", both[0]);
        changed += usize::from(both[0] == before);
    }
    assert!(failed >= 6 && changed >= 1, "{failed} of 10 failed, {changed} changed something");
    assert_eq!(server.sql("two", sum), before);
}

#[test]
fn a_table_with_fewer_rows_than_were_counted_ends_the_restore_and_nothing_is_changed() {
    let made = "CREATE TABLE t AS SELECT generate_series(1, 10) AS i";
    let Some((scene, component)) = Scene::with(&[("one", made)]) else { return };
    let entry = scene.back_up("b", &component).unwrap();
    let vault = scene.store.open_vault(&entry, &world::passcode(PASSCODE)).unwrap();
    let index = vault.load_index(&|_| true).unwrap();
    // The same files, and a manifest that says otherwise.
    let mut files = Vec::new();
    repository::walk(&vault, &index, entry.components[0].snapshot, &mut |path, node| {
        if node.kind == repository::NodeKind::File {
            let mut content = Vec::new();
            repository::dump_file(&vault, &index, node, &Control::new(), &mut content)?;
            if path.ends_with(b"manifest.json") {
                content = String::from_utf8(content).unwrap().replace("\"rows\": 10", "\"rows\": 11").into();
            }
            let path = path.split(|&b| b == b'/').skip(2).map(<[u8]>::to_vec).collect();
            files.push((path, content));
        }
        Ok(())
    })
    .unwrap();
    let mut files = files.into_iter();
    let mut next = || {
        Ok(files.next().map(|(path, content): (Vec<Vec<u8>>, Vec<u8>)| FedFile {
            path,
            mtime: Time::default(),
            attributes: Vec::new(),
            same_if_size: None,
            content: Box::new(move |out| out.write_all(&content).map(|()| Fed::Whole)),
        }))
    };
    let request = BackupRequest::new(vec!["/gis".into()]);
    let fed = repository::backup_feed(&vault, &index, &request, &mut next, 1, &Control::new()).unwrap();
    let index = vault.load_index(&|_| true).unwrap();
    let context = RestoreContext {
        at: None,
        repository: &vault,
        index: &index,
        snapshot: fed.snapshot.unwrap(),
        job_id: "a-restore",
        portion: Portion::default(),
        control: Control::new(),
    };
    let error = component.stage(&context).err().unwrap();
    assert!(error.message.contains("10 rows came out of the backup, and 11 went into it"), "{error}");
    scene.assert_no_traces();
}

#[test]
fn an_optional_server_that_cannot_be_read_is_left_out_but_a_store_that_fails_is_not_forgiven() {
    let Some((scene, _)) = Scene::with(&[("one", "CREATE TABLE t AS SELECT generate_series(1, 50000) AS i")])
    else {
        return;
    };
    let way = Breaking::start(&scene.server, 200_000, true);
    let optional = |port| {
        let mut settings = scene.settings(&scene.server, &["one"]);
        (settings.optional, settings.url) = (true, format!("postgres://postgres@127.0.0.1:{port}/"));
        components::relational_store(settings).unwrap()
    };
    let mut task = world::task("b", PASSCODE, &scene.dir.path().join("content"));
    world::write_content(&scene.dir.path().join("content"), 1);
    task.components.push(optional(way.port));
    let entry = world::back_up(&scene.store, &task).unwrap();
    assert_eq!((entry.components.len(), entry.warnings[0].item.as_str()), (1, "gis"));

    // Whichever write fails: the backup fails, or it lacks nothing.
    let mut failed = 0;
    for number in (4..40).step_by(2) {
        let mut task = world::task(&format!("c{number}"), PASSCODE, &scene.dir.path().join("content"));
        task.components.push(optional(scene.server.port));
        let plan = FaultPlan::new(number, Fault::ErrorBefore).writes_only();
        let failing = scene.store.with_storage(Arc::new(Faulty::new(scene.store.storage().clone(), plan)));
        match world::back_up(&failing, &task) {
            Ok(entry) => {
                assert_eq!((entry.components.len(), entry.warnings), (2, Vec::new()), "write {number}")
            }
            Err(_) => failed += 1,
        }
    }
    assert!(failed > 3, "{failed}");
}
