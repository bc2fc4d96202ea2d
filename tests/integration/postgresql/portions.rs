//! Parts of a server alone, and under another name: what is not meant stays as it is.

use std::sync::Arc;

use components::{Component, Portion, Recovered, StagedRestore};
use recovery::work::{RestoreDone, check_portions, check_restore, run_restore};
use recovery::{ErrorKind, Selection};
use repository::Control;

use strongroom_tests::postgres::{PASSWORD, Postgres};
use strongroom_tests::server::Options;
use tempfile::TempDir;

use super::Scene;
use crate::client::{Desk, site_with};
use crate::command;
use crate::world::{self, Silent};

fn portion(only: &[&str], into: Option<&str>) -> Portion {
    Portion { paths: only.iter().map(|path| (*path).to_owned()).collect(), into: into.map(str::to_owned) }
}

fn selection(portion: Portion) -> Selection {
    let portions = [("gis".to_owned(), portion)].into();
    Selection { components: vec!["gis".to_owned()], portions, ..Selection::default() }
}

impl Scene {
    fn restore_only(
        &self,
        component: &Arc<dyn Component>,
        only: &[&str],
        into: Option<&str>,
    ) -> recovery::Result<RestoreDone> {
        let mut task = self.task("b", component);
        task.selection = selection(portion(only, into));
        run_restore(&self.store, &task, &Control::new(), &Silent, &|| Ok(()))
    }

    /// What a request for it is refused with, before there is a job.
    fn refusal(&self, component: &Arc<dyn Component>, only: &[&str], into: Option<&str>) -> String {
        let mut task = self.task("b", component);
        task.selection = selection(portion(only, into));
        let vault = check_restore(&self.store, &task).unwrap();
        let error = check_portions(&self.store, &task, &vault).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ParameterInvalid, "{error}");
        // A job that is there all the same does no more.
        let failed = run_restore(&self.store, &task, &Control::new(), &Silent, &|| Ok(())).unwrap_err();
        assert_eq!(failed.kind, ErrorKind::ParameterInvalid, "{failed}");
        self.assert_no_traces();
        error.message
    }

    fn begin(&self, component: &Arc<dyn Component>, portion: &Portion) -> Box<dyn StagedRestore> {
        world::stage(&self.store, "b", component, portion)
    }

    fn databases(&self) -> String {
        let all = "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE datname NOT LIKE 'template%'";
        self.server.sql("postgres", all)
    }
}

#[test]
fn one_database_alone_comes_back_and_the_others_stay_as_they_are() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    let names = ["one", "a/b", "three"];
    for database in names {
        server.sql("postgres", &format!("CREATE DATABASE \"{database}\""));
        server.script(database, "CREATE TABLE state AS SELECT 'old' AS word");
    }
    let component = scene.component(&names);
    scene.back_up("b", &component).unwrap();
    for database in names {
        server.script(database, "UPDATE state SET word = 'new'");
    }
    let word = |database: &str| server.sql(database, "SELECT word FROM state");
    scene.restore_only(&component, &["a%2Fb"], None).unwrap();
    assert_eq!((word("one"), word("a/b"), word("three")), ("new".into(), "old".into(), "new".into()));
    server.sql("postgres", "DROP DATABASE three");
    scene.restore_only(&component, &["three/", "one"], None).unwrap();
    assert_eq!((word("one"), word("three")), ("old".into(), "old".into()));
    scene.assert_no_traces();
}

#[test]
fn by_the_command_line_and_the_interface_a_part_is_restored_and_a_wrong_one_refused_before_there_is_a_job() {
    let Some(postgres) = Postgres::start() else { return };
    postgres.sql("postgres", "CREATE DATABASE city");
    postgres.script("city", "CREATE TABLE state AS SELECT 'old' AS word");
    let secret = TempDir::with_prefix("strongroom-").unwrap();
    let password_file = secret.path().join("password");
    std::fs::write(&password_file, PASSWORD).unwrap();
    let component = format!(
        "[[component]]\nkind = \"relationalStore\"\nname = \"gis\"\nurl = \"{}\"\npassword_file = \"{}\"\n",
        postgres.url(),
        password_file.display()
    );
    let site = site_with(Options { configuration: component, ..Options::default() });
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    desk.run(["backup", "create", "b", "--wait"]).expect(0);
    postgres.script("city", "UPDATE state SET word = 'new'");
    std::fs::write(site.content().join("later"), "not in the backup").unwrap();
    let word = |database: &str| postgres.sql(database, "SELECT word FROM state");

    desk.run(["backup", "restore", "b", "--only", "gis/city", "--into", "copy", "--wait"]).expect(0);
    assert_eq!((word("copy"), word("city")), ("old".into(), "new".into()));
    desk.run(["backup", "restore", "b", "--only", "gis/city", "--wait", "--yes"]).expect(0);
    assert_eq!(word("city"), "old");
    assert!(site.content().join("later").exists(), "other components are not restored");

    let client = site.client();
    let jobs = client.jobs();
    for (only, into, told) in [
        ("gis/town", "", "it holds city, postgres"),
        ("city", "", "must be COMPONENT/PATH"),
        ("gis/city", "copy", "there is a database 'copy' already"),
        ("[\"gis/city\", \"gis/postgres\"]", "new", "only names several"),
        ("[]", "", "expected COMPONENT/PATH"),
        ("", "new", "it needs only"),
    ] {
        let fields = [("passcode", command::PASSCODE), ("only", only), ("into", into)];
        let refused = client.dr_post("stores/s1/backups/b/restore", &fields).refused(400, "PARAM_INVALID");
        let message = refused.json["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(told), "{message}");
    }
    desk.run(["backup", "restore", "b", "--into", "copy", "--yes"]).expect(2);
    assert_eq!(client.jobs(), jobs, "no job was made");
}

#[test]
fn a_backup_comes_into_another_server_and_another_directory_and_those_of_its_names_stay() {
    let (Some(first), Some(second)) = (Postgres::start(), Postgres::start()) else { return };
    first.sql("postgres", "CREATE DATABASE city");
    first.script("city", "CREATE TABLE state AS SELECT 'old' AS word");
    let secret = TempDir::with_prefix("strongroom-").unwrap();
    let (password_file, standby) = (secret.path().join("password"), secret.path().join("standby"));
    std::fs::write(&password_file, PASSWORD).unwrap();
    std::fs::create_dir(&standby).unwrap();
    let server = |name: &str, postgres: &Postgres| {
        format!(
            "[[component]]\nkind = \"relationalStore\"\nname = \"{name}\"\nurl = \"{}\"\npassword_file = \"{}\"\n",
            postgres.url(),
            password_file.display()
        )
    };
    let configuration = format!(
        "{}{}[[component]]\nkind = \"fileStore\"\nname = \"standby\"\npath = \"{}\"\n",
        server("gis", &first),
        server("gis2", &second),
        standby.display()
    );
    let site = site_with(Options { configuration, ..Options::default() });
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    desk.run(["backup", "create", "b", "--wait"]).expect(0);
    first.script("city", "UPDATE state SET word = 'new'");
    std::fs::write(site.content().join("one"), "damaged").unwrap();

    let to = ["--target", "gis=gis2", "--target", "content=standby"];
    desk.run(["backup", "restore", "b", to[0], to[1], to[2], to[3], "--yes", "--wait"]).expect(0);
    assert_eq!(second.sql("city", "SELECT word FROM state"), "old");
    assert_eq!(first.sql("city", "SELECT word FROM state"), "new");
    assert_eq!(std::fs::read_to_string(standby.join("one")).unwrap(), "1");
    assert_eq!(std::fs::read_to_string(site.content().join("one")).unwrap(), "damaged");
    // A part as well, beside what is there.
    desk.run(["backup", "restore", "b", "--only", "gis/city", "--into", "copy", to[0], to[1], "--wait"])
        .expect(0);
    assert_eq!(second.sql("copy", "SELECT word FROM state"), "old");
    assert!(first.try_sql("copy", "SELECT 1").is_err());

    let client = site.client();
    let jobs = client.jobs();
    for (components, target, code, told) in [
        ("", "gis=standby", "DR_INCOMPATIBLE", "no relationalStore named 'standby'"),
        ("", "nobody=gis2", "PARAM_INVALID", "must be NAME=COMPONENT"),
        ("gis,gis2", "gis=gis2", "PARAM_INVALID", "would both be restored into"),
        ("content", "gis=gis2", "PARAM_INVALID", "is not among what is to be restored"),
    ] {
        let fields = [("passcode", command::PASSCODE), ("components", components), ("target", target)];
        let refused = client.dr_post("stores/s1/backups/b/restore", &fields);
        let message = refused.json["error"]["message"].as_str().unwrap_or_default().to_owned();
        assert!(message.contains(told) && refused.json.to_string().contains(code), "{}", refused.json);
    }
    assert_eq!(client.jobs(), jobs, "no job was made");
}

#[test]
fn a_database_under_another_name_leaves_the_present_one_untouched() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    server.script(
        "postgres",
        "CREATE ROLE owner; CREATE DATABASE city OWNER owner CONNECTION LIMIT 9; COMMENT ON DATABASE city IS 'the city';
         ALTER DATABASE city SET work_mem = '9MB'; CREATE ROLE reader; GRANT CONNECT ON DATABASE city TO reader;",
    );
    server.script("city", "CREATE TABLE roads AS SELECT generate_series(1, 1000) AS id");
    let component = scene.component(&["city"]);
    scene.back_up("b", &component).unwrap();
    let before = server.dump("city");
    server.script("city", "DELETE FROM roads WHERE id > 5");
    let present = server.dump("city");
    let number = "SELECT oid FROM pg_database WHERE datname = 'city'";
    let same = server.sql("postgres", number);
    scene.restore_only(&component, &["city"], Some("copied")).unwrap();
    assert_eq!(server.sql("postgres", number), same);
    super::assert_same(&present, &server.dump("city"));
    super::assert_same(&before, &server.dump("copied").replace("copied", "city"));
    scene.restore_only(&component, &["city"], Some("we\"ird / copy")).unwrap();
    assert_eq!(server.sql("we\"ird / copy", "SELECT count(*) FROM roads"), "1000");
    scene.assert_no_traces();
}

#[test]
fn what_is_not_in_the_backup_or_has_a_name_that_is_taken_is_refused_with_what_there_is() {
    let made = "CREATE TABLE roads (id int); CREATE SCHEMA empty";
    let Some((scene, component)) = Scene::with(&[("one", made), ("two", made), ("taken", made)]) else {
        return;
    };
    scene.back_up("b", &component).unwrap();
    let before = scene.databases();
    let refusal = |only: &[&str], into| scene.refusal(&component, only, into);
    let told = refusal(&["city"], None);
    assert!(told.contains("no database 'city'") && told.contains("it holds one, taken, two"), "{told}");
    let told = refusal(&["one"], Some("taken"));
    assert!(told.contains("there is a database 'taken' already"), "{told}");
    assert!(refusal(&["one"], Some("one")).contains("there is a database 'one' already"));
    let told = refusal(&["one", "two"], Some("new"));
    assert!(told.contains("only names several"), "{told}");
    for name in ["", "strongroom_old_x", &"x".repeat(64), "a\0b"] {
        assert!(refusal(&["one"], Some(name)).contains("a database needs a name"), "{name}");
    }
    assert_eq!(scene.databases(), before);
}

#[test]
fn a_restore_into_another_name_that_fails_or_dies_leaves_nothing_or_the_whole() {
    let made = "CREATE TABLE state AS SELECT 'old' AS word";
    let Some((scene, component)) = Scene::with(&[("one", made)]) else { return };
    let server = &scene.server;
    scene.back_up("b", &component).unwrap();
    server.script("one", "UPDATE state SET word = 'new'");
    let named = portion(&["one"], Some("copy"));
    let recover = || component.recover("a-restore", &named).unwrap();
    let word = |database: &str| server.sql(database, "SELECT word FROM state");
    let untouched = || {
        assert_eq!((scene.databases(), word("one")), ("one postgres".into(), "new".into()));
        scene.assert_no_traces();
    };

    // Dies before the swap.
    std::mem::forget(scene.begin(&component, &named));
    assert_eq!(recover(), Recovered::Undone);
    untouched();

    // Taken back after it.
    let mut staged = scene.begin(&component, &named);
    staged.swap().unwrap();
    assert_eq!(word("copy"), "old");
    staged.abandon().unwrap();
    untouched();

    // It cannot be taken back just then.
    let mut staged = scene.begin(&component, &named);
    staged.swap().unwrap();
    server.stop();
    staged.abandon().unwrap_err();
    server.start_again();
    assert_eq!(recover(), Recovered::Undone);
    untouched();

    // Somebody else takes the name meanwhile: theirs stays.
    let mut staged = scene.begin(&component, &named);
    server.sql("postgres", "CREATE DATABASE copy");
    let error = staged.swap().unwrap_err();
    assert!(error.message.contains("'copy' was made during the restore"), "{error}");
    staged.abandon().unwrap();
    assert_eq!(server.sql("copy", "SELECT to_regclass('state') IS NULL"), "t");
    scene.assert_no_traces();
    server.sql("postgres", "DROP DATABASE copy");

    // Dies after the swap: finished, and not tried again over itself.
    let mut staged = scene.begin(&component, &named);
    staged.swap().unwrap();
    std::mem::forget(staged);
    assert_eq!(recover(), Recovered::Finished);
    assert_eq!(recover(), Recovered::Nothing);
    assert_eq!((word("copy"), word("one")), ("old".into(), "new".into()));
    scene.assert_no_traces();
}

/// Rows, definition, rights and values of sequences, as text.
fn picture(scene: &Scene, database: &str, table: &str) -> String {
    let ask = |text: &str| scene.server.sql(database, &text.replace("TABLE", table));
    [
        ask("SELECT string_agg(t::text, E'\\n' ORDER BY t::text) FROM ONLY TABLE t"),
        ask("SELECT string_agg(pg_get_indexdef(indexrelid), ' ' ORDER BY pg_get_indexdef(indexrelid)) FROM pg_index WHERE indrelid = 'TABLE'::regclass"),
        ask("SELECT string_agg(conname || pg_get_constraintdef(oid), ' ' ORDER BY conname) FROM pg_constraint WHERE conrelid = 'TABLE'::regclass"),
        ask("SELECT relacl::text || relowner::regrole || COALESCE(obj_description(oid), '') FROM pg_class WHERE oid = 'TABLE'::regclass"),
        ask("SELECT string_agg(last_value::text, ' ' ORDER BY sequencename) FROM pg_sequences"),
    ]
    .join("\n--\n")
}

#[test]
fn tables_alone_come_into_a_database_of_their_own_with_all_that_belongs_to_them() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    let tablespace = server.directory("space");
    server.sql("postgres", &format!("CREATE TABLESPACE \"some space\" LOCATION '{}'", tablespace.display()));
    server.script("postgres", super::TORTURE);
    server.script("torture", "COMMENT ON CONSTRAINT egg_hen_fkey ON app.egg IS 'a comment'");
    let component = scene.component(&["torture"]);
    scene.back_up("b", &component).unwrap();
    let before = server.dump("torture");
    let count =
        |database: &str, table: &str| server.sql(database, &format!("SELECT count(*) FROM ONLY {table}"));
    let rows = |table: &str| {
        ["torture", "part"].map(|database| {
            let text = format!("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM {table} t");
            server.sql(database, &text)
        })
    };

    // Two tables with strange names and all kinds of columns; their parents, children and neighbours stay empty.
    let only = ["torture/app/parent", "torture/a%2Fb.c/t\"able %25", "torture/%2Ehidden"];
    let done = scene.restore_only(&component, &only, Some("part")).unwrap();
    assert_eq!(done.warnings, []);
    for table in ["app.parent", "\"a/b.c\".\"t\"\"able %\"", "\".hidden\".\".\""] {
        let [there, here] = ["torture", "part"].map(|database| picture(&scene, database, table));
        assert!(there.len() > 20, "{there}");
        super::assert_same(&there, &here);
    }
    for table in ["app.child", "app.long", "app.far", "app.log", "app.egg", "app.measured_other"] {
        assert_eq!(count("part", table), "0", "{table}");
    }
    assert_eq!(server.sql("part", "SELECT length(lo_get(4711))"), "600000");
    server.sql("postgres", "DROP DATABASE part");

    // A foreign key that leads out is left out and named, with its comment; the one that comes from elsewhere stays.
    let done = scene.restore_only(&component, &["torture/app/egg"], Some("part")).unwrap();
    let told: Vec<&str> = done.warnings.iter().map(|warning| warning.reason.as_str()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("'app egg egg_hen_fkey postgres' was left out"), "{told:?}");
    let keys = "SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE contype = 'f'";
    assert_eq!((count("part", "app.egg"), server.sql("part", keys)), ("1".into(), "hen_egg_fkey".into()));
    server.sql("postgres", "DROP DATABASE part");

    // All partitions by the name of their table; a schema with foreign keys among its own.
    let done = scene.restore_only(&component, &["torture/app/measured"], Some("part")).unwrap();
    assert_eq!(done.warnings, []);
    let [there, here] = rows("app.measured");
    assert_eq!(there, here);
    server.sql("postgres", "DROP DATABASE part");
    let done = scene.restore_only(&component, &["torture/app/", "torture/app/egg"], Some("part")).unwrap();
    assert_eq!(done.warnings, []);
    let [there, here] = ["torture", "part"].map(|database| picture(&scene, database, "app.egg"));
    super::assert_same(&there, &here);
    assert_eq!(server.sql("part", keys), "egg_hen_fkey hen_egg_fkey");
    assert_eq!(count("part", "\".hidden\".\".\""), "0");
    assert!(server.sql("part", "SELECT NOT relispopulated FROM pg_class WHERE relname = 'z_first'") == "t");

    super::assert_same(&before, &server.dump("torture"));
    scene.assert_no_traces();
}

#[test]
fn a_table_is_refused_without_a_name_for_its_database_and_an_unknown_one_with_those_that_there_are() {
    let made = "CREATE TABLE roads (id int); CREATE TABLE rivers (id int); CREATE SCHEMA other; CREATE VIEW other.v AS SELECT 1";
    let Some((scene, component)) = Scene::with(&[("one", made)]) else { return };
    scene.back_up("b", &component).unwrap();
    let refusal = |only: &str, into| scene.refusal(&component, &[only], into);
    assert!(refusal("one/public/roads", None).contains("give it a name with into"));
    let told = refusal("one/public/paths", Some("new"));
    assert!(told.contains("no table 'paths' with rows; it has rivers, roads"), "{told}");
    let told = refusal("one/other", Some("new"));
    assert!(told.contains("no schema 'other' with tables; it has public"), "{told}");
    assert!(refusal("one/public/roads/1", Some("new")).contains("a slash in a name is written %2F"));
}

#[test]
fn a_table_is_taken_over_into_the_present_database_as_it_is_documented() {
    let made = "CREATE TABLE roads (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text); CREATE INDEX ON roads (name);
         INSERT INTO roads (name) SELECT 'road ' || i FROM generate_series(1, 100) i;";
    let Some((scene, component)) = Scene::with(&[("city", made)]) else { return };
    let server = &scene.server;
    scene.back_up("b", &component).unwrap();
    let before = picture(&scene, "city", "public.roads");
    server.script("city", "DELETE FROM roads WHERE id > 10");
    scene.restore_only(&component, &["city/public/roads"], Some("june")).unwrap();
    server.script("city", "CREATE SCHEMA before; ALTER TABLE public.roads SET SCHEMA before");
    let dumped = server.tool("pg_dump").args(["-t", "public.roads", "june"]).output().unwrap();
    server.script("city", &String::from_utf8(dumped.stdout).unwrap());
    server.sql("city", "DROP SCHEMA before CASCADE");
    super::assert_same(&before, &picture(&scene, "city", "public.roads"));
}
