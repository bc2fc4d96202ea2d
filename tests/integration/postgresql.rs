//! Databases of real PostgreSQL servers: what comes back is what was there, told by the server's own tools.

use std::path::Path;
use std::sync::Arc;

use components::{Component, Hooks, Password, Recovered, RelationalStoreSettings, RestoreContext};
use recovery::store::{CatalogueEntry, Store};
use recovery::work::{RestoreDone, RestoreTask, run_restore};
use recovery::{Cost, Kind};
use repository::Control;
use strongroom_tests::postgres::{Breaking, PASSWORD, Postgres};
use strongroom_tests::server::{Options, Site, wait_for};
use tempfile::TempDir;

use crate::world::{self, PASSCODE, Silent};

/// Everything that a database may hold: each line has made some backup program stumble.
const TORTURE: &str = include_str!("postgresql/torture.sql");
/// The same for PostGIS.
const GEODATA: &str = include_str!("postgresql/geodata.sql");

/// A server, a store, and a way from one to the other.
struct Scene {
    server: Postgres,
    store: Store,
    dir: TempDir,
}

impl Scene {
    fn new() -> Option<Self> {
        let server = Postgres::start()?;
        let dir = TempDir::with_prefix("strongroom-").unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let storage = world::directory(&dir.path().join("store"));
        let (store, _) = Store::create_or_adopt(storage, "store", Cost::FAST).unwrap();
        store.claim("test/1").unwrap();
        Some(Self { server, store, dir })
    }

    fn settings(&self, server: &Postgres, databases: &[&str]) -> RelationalStoreSettings {
        RelationalStoreSettings {
            name: "gis".to_owned(),
            url: server.url(),
            password: Some(Password::Value(PASSWORD.into())),
            ca_file: None,
            databases: databases.iter().map(|name| (*name).to_owned()).collect(),
            connections: 3,
            tools_directory: None,
            scratch_directory: self.dir.path().join("scratch"),
            optional: false,
            hooks: Hooks::default(),
        }
    }

    fn component(&self, databases: &[&str]) -> Arc<dyn Component> {
        components::relational_store(self.settings(&self.server, databases)).unwrap()
    }

    fn back_up(&self, name: &str, component: &Arc<dyn Component>) -> recovery::Result<CatalogueEntry> {
        let mut task = world::task(name, PASSCODE, Path::new("/nowhere"));
        task.components = vec![Arc::clone(component)];
        world::back_up(&self.store, &task)
    }

    fn restore(&self, name: &str, component: &Arc<dyn Component>) -> recovery::Result<RestoreDone> {
        self.restore_until(name, component, &|| Ok(()))
    }

    fn restore_until(
        &self,
        name: &str,
        component: &Arc<dyn Component>,
        before_swap: &dyn Fn() -> recovery::Result<()>,
    ) -> recovery::Result<RestoreDone> {
        let task = RestoreTask {
            job_id: "a-restore".to_owned(),
            name: name.to_owned(),
            store_name: "store".to_owned(),
            passcode: world::passcode(PASSCODE),
            components: vec![Arc::clone(component)],
            selection: Vec::new(),
        };
        run_restore(&self.store, &task, &Control::new(), &Silent, before_swap)
    }

    /// Nothing of a restore is left on the server, nor beside it.
    fn assert_no_traces(&self) {
        let left =
            self.server.sql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'strongroom%'");
        assert_eq!(left, "");
        let scratch = std::fs::read_dir(self.dir.path().join("scratch"));
        assert_eq!(scratch.map_or(0, Iterator::count), 0);
    }
}

/// Where two texts begin to differ, as an assertion over megabytes tells nobody anything.
fn assert_same(before: &str, after: &str) {
    let differs = before.lines().zip(after.lines()).position(|(a, b)| a != b);
    if let Some(line) = differs {
        let around =
            |text: &str| text.lines().skip(line.saturating_sub(5)).take(12).collect::<Vec<_>>().join("\n");
        panic!("line {line} differs:\n--- before\n{}\n--- after\n{}", around(before), around(after));
    }
    assert_eq!(before.lines().count(), after.lines().count());
}

#[test]
fn whatever_a_database_holds_comes_back_to_the_letter() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    let tablespace = server.directory("space");
    server.sql("postgres", &format!("CREATE TABLESPACE \"some space\" LOCATION '{}'", tablespace.display()));
    server.script("postgres", TORTURE);
    let names = ["torture", "we\"ird / name", "latin", "model"];
    let before: Vec<String> = names.iter().map(|name| server.dump(name)).collect();
    let globals = server.globals();

    let component = scene.component(&names);
    let entry = scene.back_up("one", &component).unwrap();
    assert_eq!(entry.warnings, []);
    assert_eq!(entry.components[0].kind, Kind::RelationalStore);
    assert_eq!(entry.components[0].facts.databases, ["latin", "model", "torture", "we\"ird / name"]);

    // One is damaged, one is lost, and one is as it was.
    server.script("torture", "DROP SCHEMA app CASCADE; CREATE TABLE later (x int); SELECT lo_unlink(4711);");
    server.script(
        "we\"ird / name",
        "ALTER SUBSCRIPTION following SET (slot_name = NONE); DROP SUBSCRIPTION following;",
    );
    server.sql("postgres", "DROP DATABASE \"we\"\"ird / name\"");
    scene.restore("one", &component).unwrap();
    for (name, before) in names.iter().zip(&before) {
        assert_same(before, &server.dump(name));
    }
    assert_same(&globals, &server.globals());
    scene.assert_no_traces();
}

#[test]
fn rows_find_their_partitions_though_these_are_other_ones_after_a_restore() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.sql("postgres", "CREATE DATABASE felt");
    // To which partition an enum belongs depends on numbers that are new in each database.
    server.script(
        "felt",
        "CREATE TYPE mood AS ENUM ('sad', 'calm', 'fine', 'happy', 'merry', 'glad');
         CREATE TABLE felt (feeling mood, x int) PARTITION BY HASH (feeling);
         CREATE TABLE felt_0 PARTITION OF felt FOR VALUES WITH (MODULUS 3, REMAINDER 0) PARTITION BY LIST (x);
         CREATE TABLE felt_0_0 PARTITION OF felt_0 DEFAULT;
         CREATE TABLE felt_1 PARTITION OF felt FOR VALUES WITH (MODULUS 3, REMAINDER 1);
         CREATE TABLE felt_2 PARTITION OF felt FOR VALUES WITH (MODULUS 3, REMAINDER 2);
         INSERT INTO felt SELECT m, i FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 50) i;",
    );
    let all = "SELECT string_agg(f::text, ' ' ORDER BY f) FROM felt f";
    let before = server.sql("felt", all);
    let component = scene.component(&["felt"]);
    scene.back_up("b", &component).unwrap();
    for _ in 0..3 {
        scene.restore("b", &component).unwrap();
        assert_eq!(server.sql("felt", all), before);
    }
}

#[test]
fn geodata_with_its_extensions_comes_back_to_another_server_with_its_roles() {
    let Some(scene) = Scene::new() else { return };
    if !scene.server.has_extension("postgis_topology") {
        eprintln!("SKIPPED: PostGIS is not installed");
        return;
    }
    let server = &scene.server;
    server.sql("postgres", "CREATE ROLE surveyor LOGIN PASSWORD 'a planted word' IN ROLE pg_monitor");
    server.sql("postgres", "CREATE DATABASE gis OWNER surveyor");
    server.script("gis", GEODATA);
    scene.back_up("one", &scene.component(&["*"])).unwrap();
    let (before, globals) = (server.dump("gis"), server.globals());

    let Some(other) = Postgres::start() else { return };
    let component = components::relational_store(scene.settings(&other, &["*"])).unwrap();
    scene.restore("one", &component).unwrap();
    assert_same(&before, &other.dump("gis"));
    assert_same(&globals, &other.globals());
    let near = "SELECT count(*) FROM places WHERE ST_DWithin(at, 'SRID=4326;POINT(1 1)'::geometry, 3)";
    assert_eq!(other.sql("gis", near), server.sql("gis", near));
}

#[test]
fn a_backup_is_one_instant_although_rows_come_and_go_meanwhile() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.sql("postgres", "CREATE DATABASE bank");
    server.script(
        "bank",
        "CREATE TABLE a (id int PRIMARY KEY, amount int); CREATE TABLE b (LIKE a INCLUDING ALL);
         INSERT INTO a SELECT i, 100 FROM generate_series(1, 5000) i; INSERT INTO b SELECT i, 0 FROM generate_series(1, 5000) i;
         CREATE PROCEDURE move() LANGUAGE plpgsql AS $$ BEGIN
           FOR i IN 1..5000 LOOP
             UPDATE a SET amount = amount - 1 WHERE id = i; UPDATE b SET amount = amount + 1 WHERE id = i; COMMIT;
           END LOOP; END $$;",
    );
    let component = scene.component(&["bank"]);
    std::thread::scope(|scope| {
        scope.spawn(|| server.sql("bank", "CALL move()"));
        for number in 0..3 {
            scene.back_up(&format!("b{number}"), &component).unwrap();
        }
    });
    for number in 0..3 {
        scene.restore(&format!("b{number}"), &component).unwrap();
        let sum = "SELECT (SELECT sum(amount) FROM a) + (SELECT sum(amount) FROM b)";
        assert_eq!(server.sql("bank", sum), "500000");
    }
}

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
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.sql("postgres", "CREATE DATABASE one");
    server.script("one", "CREATE TABLE a AS SELECT 1 AS i; CREATE TABLE b AS SELECT generate_series(1, 300000) AS i, 'x' AS w;");
    let component = scene.component(&["one"]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // By the connection that keeps the snapshot, and by pg_dump.
            let ours = "SELECT count(DISTINCT pid) FROM pg_locks WHERE relation = 'b'::regclass AND granted AND \
                        mode = 'AccessShareLock' AND pid <> pg_backend_pid()";
            wait_for("both locks", || (server.sql("one", ours) == "2").then_some(()));
            server.sql("one", "SET lock_timeout = 0; ALTER TABLE b ADD COLUMN later int")
        });
        scene.back_up("b", &component).unwrap();
    });
    scene.restore("b", &component).unwrap();
    assert_eq!(server.sql("one", "SELECT count(*) FROM b"), "300000");
}

#[test]
fn a_second_backup_of_the_same_rows_adds_next_to_nothing() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.sql("postgres", "CREATE DATABASE large");
    server.script(
        "large",
        "CREATE TABLE rows AS SELECT i, md5(i::text) || md5((i + 1)::text) AS word FROM generate_series(1, 200000) i;",
    );
    let component = scene.component(&["large"]);
    let first = scene.back_up("one", &component).unwrap();
    let second = scene.back_up("two", &component).unwrap();
    assert!(first.bytes_added > 2_000_000, "{}", first.bytes_added);
    assert!(second.bytes_added < first.bytes_added / 20, "{} of {}", second.bytes_added, first.bytes_added);
}

#[test]
fn what_cannot_be_restored_is_refused_and_nothing_is_changed() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.script("postgres", "CREATE DATABASE one; CREATE DATABASE two;");
    server.script("one", "CREATE TABLE t AS SELECT 1 AS x");
    server.script("two", "CREATE TABLE t AS SELECT 2 AS x");
    let component = scene.component(&["one", "two"]);
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
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.script("postgres", "CREATE DATABASE one; CREATE DATABASE two;");
    for database in ["one", "two"] {
        server.script(database, "CREATE TABLE state AS SELECT 'old' AS word");
    }
    let component = scene.component(&["one", "two"]);
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
    let begin = || {
        let entry = scene.store.backup("b").unwrap().unwrap();
        let vault = scene.store.open_vault(&entry, &world::passcode(PASSCODE)).unwrap();
        let index = vault.load_index(&|_| true).unwrap();
        let context = RestoreContext {
            repository: &vault,
            index: &index,
            snapshot: entry.components[0].snapshot,
            job_id: "a-restore",
            target: None,
            control: Control::new(),
        };
        component.stage(&context).unwrap()
    };
    let recover = || component.recover("a-restore", None).unwrap();
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
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.script("postgres", "CREATE DATABASE one; CREATE DATABASE two;");
    let sum = "SELECT count(*), sum(i) FROM rows";
    for database in ["one", "two"] {
        server
            .script(database, "CREATE TABLE rows AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i");
    }
    let before = server.sql("one", sum);
    let component = scene.component(&["one", "two"]);
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
        component.recover("a-restore", None).unwrap();
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
fn the_rights_that_are_documented_are_enough_and_without_them_the_table_is_named() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.script(
        "postgres",
        "CREATE DATABASE gis; CREATE ROLE strongroom LOGIN PASSWORD 'a planted word' BYPASSRLS IN ROLE pg_read_all_data;
         CREATE ROLE stranger LOGIN PASSWORD 'a planted word';",
    );
    server.script(
        "gis",
        "CREATE TABLE hidden AS SELECT 7 AS x; ALTER TABLE hidden ENABLE ROW LEVEL SECURITY; CREATE SEQUENCE numbers;",
    );
    let before = server.dump("gis");
    let component = |role: &str| {
        let settings = RelationalStoreSettings {
            url: server.url().replace("postgres@", &format!("{role}@")),
            password: Some(Password::Value("a planted word".into())),
            ..scene.settings(server, &["gis"])
        };
        components::relational_store(settings).unwrap()
    };
    let error = scene.back_up("a", &component("stranger")).unwrap_err();
    assert!(error.message.contains("permission denied for table hidden"), "{error}");
    let entry = scene.back_up("b", &component("strongroom")).unwrap();
    assert_eq!(entry.warnings, []);
    let error = scene.restore("b", &component("strongroom")).unwrap_err();
    assert!(error.message.contains("must be a superuser"), "{error}");
    server.sql("gis", "DROP TABLE hidden");
    scene.restore("b", &scene.component(&["gis"])).unwrap();
    assert_same(&before, &server.dump("gis"));

    server.script("gis", "GRANT SELECT ON hidden, numbers TO stranger");
    let error = scene.back_up("c", &component("stranger")).unwrap_err();
    assert!(error.message.contains("row-level security"), "{error}");
    server.script("gis", "ALTER ROLE stranger BYPASSRLS");
    let entry = scene.back_up("d", &component("stranger")).unwrap();
    assert!(entry.warnings[0].reason.contains("passwords"), "{:?}", entry.warnings);
}

#[test]
fn a_server_is_spoken_to_in_secret_and_only_if_its_certificate_is_good() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.script("postgres", "CREATE DATABASE one");
    server.script("one", "CREATE TABLE t AS SELECT 1 AS x");
    let authority = server.encrypt();
    let component = |query: &str, ca_file: Option<&Path>| {
        let settings = RelationalStoreSettings {
            url: format!("postgres://postgres@localhost:{}/{query}", server.port),
            ca_file: ca_file.map(Path::to_owned),
            ..scene.settings(server, &["one"])
        };
        components::relational_store(settings).unwrap()
    };
    let error = scene.back_up("a", &component("?sslmode=disable", None)).unwrap_err();
    assert!(error.message.contains("pg_hba.conf rejects"), "{error}");
    let error = scene.back_up("a", &component("?sslmode=require", None)).unwrap_err();
    assert!(error.message.contains("certificate"), "nobody whom the system knows vouches for it: {error}");
    let other = scene.dir.path().join("other.pem");
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&other, made.cert.pem()).unwrap();
    let error = scene.back_up("a", &component("", Some(&other))).unwrap_err();
    assert!(error.message.contains("certificate"), "{error}");

    // Connections of ours, and the server's own tools.
    let good = component("", Some(&authority));
    scene.back_up("a", &good).unwrap();
    server.sql("one", "UPDATE t SET x = 2");
    scene.restore("a", &good).unwrap();
    assert_eq!(server.sql("one", "SELECT x FROM t"), "1");
}

#[test]
fn databases_are_backed_up_and_restored_over_the_interface_and_their_passwords_are_told_nobody() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.script(
        "postgres",
        "CREATE ROLE owner LOGIN PASSWORD 'a planted word'; CREATE DATABASE gis OWNER owner;",
    );
    postgres.script(
        "gis",
        "CREATE TABLE roads AS SELECT i, 'road ' || i AS name FROM generate_series(1, 5000) i;
         CREATE TABLE gdb_items (name text);",
    );
    let secret = TempDir::with_prefix("strongroom-").unwrap();
    let password_file = secret.path().join("password");
    std::fs::write(&password_file, PASSWORD).unwrap();
    let component = format!(
        "[[component]]\nkind = \"relationalStore\"\nname = \"gis\"\nurl = \"{}\"\npassword_file = \"{}\"\ndatabases = [\"gis\", \"postgres\"]\n",
        postgres.url(),
        password_file.display()
    );
    let site = Site::new(Options { configuration: component, log: "trace".to_owned(), ..Options::default() });
    let _server = site.start();
    let client = site.client();
    client.register(&site);
    client.back_up("b");
    let entry = client.dr_get("stores/s1/backups/b").ok();
    let store = &entry["relationalStore"][0];
    assert_eq!(store["systemDatabases"], serde_json::json!(["postgres"]));
    assert_eq!(store["geodatabases"], serde_json::json!([{"gdbName": "gis", "egdbID": ""}]));
    assert_eq!(
        store["clusterID"],
        postgres.sql("postgres", "SELECT system_identifier FROM pg_control_system()")
    );
    assert_eq!(entry["volumes"].as_array().unwrap().len(), 1);

    let hashed = postgres.sql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'owner'");
    postgres.script("postgres", "DROP DATABASE gis; DROP ROLE owner;");
    std::fs::write(site.content().join("later"), "not in the backup").unwrap();
    client.completed(&client.restore("b").ok());
    assert_eq!(postgres.sql("gis", "SELECT count(*) FROM roads"), "5000");
    assert!(!site.content().join("later").exists());
    let told = [site.log(), site.replies()].concat();
    assert_eq!(hashed, postgres.sql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'owner'"));
    for secret in [PASSWORD, "a planted word", &hashed] {
        assert!(!told.contains(secret), "a password is told");
    }

    // A server that is away fails the backup and harms nothing.
    drop(postgres);
    let job = client.create("c").ok();
    let ended = client.ended(strongroom_tests::client::job_id(&job));
    assert_eq!(ended["status"], "FAILED");
    assert!(ended.to_string().contains("cannot connect to the database"), "{ended}");
    assert_eq!(client.backups(), ["b"]);
}
