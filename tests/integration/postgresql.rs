//! Databases of real PostgreSQL servers: what comes back is what was there, told by the server's own tools.

#[path = "postgresql/drills.rs"]
mod drills;
#[path = "postgresql/instants.rs"]
mod instants;
#[path = "postgresql/misfortunes.rs"]
mod misfortunes;
#[path = "postgresql/portions.rs"]
mod portions;
#[path = "postgresql/rescue.rs"]
mod rescue;

use std::path::Path;
use std::sync::Arc;

use components::{Component, Hooks, Method, Password, RelationalStoreSettings};
use recovery::store::{CatalogueEntry, Store};
use recovery::work::{RestoreDone, RestoreTask, run_restore};
use recovery::{Cost, Kind, Selection};
use repository::Control;
use strongroom_tests::postgres::{PASSWORD, Postgres};
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
        Some(Self::of(Postgres::start()?))
    }

    fn of(server: Postgres) -> Self {
        let dir = TempDir::with_prefix("strongroom-").unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let storage = world::directory(&dir.path().join("store"));
        let (store, _) = Store::create_or_adopt(storage, "store", Cost::FAST).unwrap();
        store.claim("test/1").unwrap();
        Self { server, store, dir }
    }

    /// With databases, each made by a script, and a component of all of them.
    fn with(databases: &[(&str, &str)]) -> Option<(Self, Arc<dyn Component>)> {
        let scene = Self::new()?;
        for (name, script) in databases {
            scene.server.sql("postgres", &format!("CREATE DATABASE {name}"));
            scene.server.script(name, script);
        }
        let names: Vec<&str> = databases.iter().map(|(name, _)| *name).collect();
        let component = scene.component(&names);
        Some((scene, component))
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
            method: Method::Logical,
            clusters_directory: self.dir.path().join("clusters"),
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
        run_restore(&self.store, &self.task(name, component), &Control::new(), &Silent, before_swap)
    }

    fn task(&self, name: &str, component: &Arc<dyn Component>) -> RestoreTask {
        RestoreTask {
            job_id: "a-restore".to_owned(),
            name: name.to_owned(),
            store_name: "store".to_owned(),
            passcode: world::passcode(PASSCODE),
            components: vec![Arc::clone(component)],
            selection: Selection::default(),
        }
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
    // Its absence is nothing that pg_dump writes.
    assert_eq!(server.sql("we\"ird / name", "SELECT to_regnamespace('public') IS NULL"), "t");
    assert_same(&globals, &server.globals());
    scene.assert_no_traces();
}

#[test]
fn rows_find_their_partitions_though_these_are_other_ones_after_a_restore() {
    // To which partition an enum belongs depends on numbers that are new in each database.
    let databases = [(
        "felt",
        "CREATE TYPE mood AS ENUM ('sad', 'calm', 'fine', 'happy', 'merry', 'glad');
         CREATE TABLE felt (feeling mood, x int) PARTITION BY HASH (feeling);
         CREATE TABLE felt_0 PARTITION OF felt FOR VALUES WITH (MODULUS 3, REMAINDER 0) PARTITION BY LIST (x);
         CREATE TABLE felt_0_0 PARTITION OF felt_0 DEFAULT;
         CREATE TABLE felt_1 PARTITION OF felt FOR VALUES WITH (MODULUS 3, REMAINDER 1);
         CREATE TABLE felt_2 PARTITION OF felt FOR VALUES WITH (MODULUS 3, REMAINDER 2);
         INSERT INTO felt SELECT m, i FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 50) i;",
    )];
    let Some((scene, component)) = Scene::with(&databases) else { return };
    let server = &scene.server;
    let all = "SELECT string_agg(f::text, ' ' ORDER BY f) FROM felt f";
    let before = server.sql("felt", all);
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
    server.script(
        "postgres",
        "CREATE ROLE surveyor LOGIN NOINHERIT PASSWORD 'a planted word' CONNECTION LIMIT 5 VALID UNTIL '2099-01-01' IN ROLE pg_monitor;
         CREATE ROLE team CREATEDB; GRANT team TO surveyor WITH ADMIN OPTION; ALTER ROLE surveyor SET work_mem = '8MB';",
    );
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
    let databases = [("bank", "CREATE TABLE a (id int PRIMARY KEY, amount int); CREATE TABLE b (LIKE a INCLUDING ALL); CREATE TABLE stop (x int);
         INSERT INTO a SELECT i, 100 FROM generate_series(0, 4999) i; INSERT INTO b SELECT i, 0 FROM generate_series(0, 4999) i;
         CREATE PROCEDURE move() LANGUAGE plpgsql AS $$ DECLARE i int := 0; BEGIN
           WHILE NOT EXISTS (SELECT FROM stop) LOOP
             UPDATE a SET amount = amount - 1 WHERE id = i % 5000; UPDATE b SET amount = amount + 1 WHERE id = i % 5000; COMMIT; i := i + 1;
           END LOOP; END $$;")];
    let Some((scene, component)) = Scene::with(&databases) else { return };
    let server = &scene.server;
    let moved = || server.sql("bank", "SELECT sum(amount) FROM b").parse::<u32>().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| server.sql("bank", "CALL move()"));
        wait_for("rows move", || (moved() > 0).then_some(()));
        for number in 0..3 {
            let before = moved();
            scene.back_up(&format!("b{number}"), &component).unwrap();
            assert!(moved() > before, "rows move while it is made");
        }
        server.sql("bank", "INSERT INTO stop VALUES (1)");
    });
    for number in 0..3 {
        scene.restore(&format!("b{number}"), &component).unwrap();
        let sum = "SELECT (SELECT sum(amount) FROM a) + (SELECT sum(amount) FROM b)";
        assert_eq!(server.sql("bank", sum), "500000");
    }
}

#[test]
fn a_second_backup_of_the_same_rows_adds_next_to_nothing() {
    let databases = [(
        "large",
        "CREATE TABLE rows AS SELECT i, md5(i::text) || md5((i + 1)::text) AS word FROM generate_series(1, 200000) i;",
    )];
    let Some((scene, component)) = Scene::with(&databases) else { return };
    let first = scene.back_up("one", &component).unwrap();
    let second = scene.back_up("two", &component).unwrap();
    assert!(first.bytes_added > 2_000_000, "{}", first.bytes_added);
    assert!(second.bytes_added < first.bytes_added / 20, "{} of {}", second.bytes_added, first.bytes_added);
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
