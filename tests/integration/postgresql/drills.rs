//! Drills: a backup is restored into scratch, and what is wrong with it comes to light there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use components::{
    Backup, BackupContext, Component, DrillContext, Drilled, ErrorKind, Kind, Portion, Recovered,
    RestoreContext, StagedRestore,
};
use recovery::store::Store;
use recovery::work::{DrillTask, run_drill, verify_backup};
use recovery::{Cost, DrillReport, FileStoreSettings, Hooks};
use repository::{BackupRequest, Control, Fed, FedFile, Id, Index, Repository, Time};
use sha2::Digest;
use strongroom_tests::postgres::{PASSWORD, Postgres};
use strongroom_tests::server::{Options, Site, wait_for};
use tempfile::TempDir;

use super::Scene;
use crate::world::{self, PASSCODE, Silent};

/// Where a server that runs as somebody else can get to.
pub(super) fn scratch() -> TempDir {
    let scratch = tempfile::Builder::new().prefix("dr").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    scratch
}

pub(super) fn drill(
    scene: &Scene,
    name: &str,
    scratch: &TempDir,
    components: &[Arc<dyn Component>],
    passcode: Option<&str>,
) -> DrillReport {
    drill_in(&scene.store, name, scratch, components, passcode)
}

fn drill_in(
    store: &Store,
    name: &str,
    scratch: &TempDir,
    components: &[Arc<dyn Component>],
    passcode: Option<&str>,
) -> DrillReport {
    let task = task_of(name, scratch, components, passcode);
    let report = run_drill(store, &task, &Control::new(), &Silent).unwrap();
    let left = std::fs::read_dir(&task.directory).map_or(0, Iterator::count);
    assert_eq!(left, 0, "the drill left something");
    report
}

fn task_of(
    name: &str,
    scratch: &TempDir,
    components: &[Arc<dyn Component>],
    passcode: Option<&str>,
) -> DrillTask {
    DrillTask {
        job_id: "a-drill".to_owned(),
        server_id: "test/1".to_owned(),
        name: name.to_owned(),
        store_name: "store".to_owned(),
        passcode: passcode.map(world::passcode),
        components: components.to_vec(),
        directory: scratch.path().join("drills"),
    }
}

fn content(scene: &Scene, hooks: Hooks) -> Arc<dyn Component> {
    let path = scene.dir.path().join("content");
    world::write_content(&path, 1);
    let settings =
        FileStoreSettings { name: "content".to_owned(), path, exclude: Vec::new(), optional: false, hooks };
    recovery::file_store(settings)
}

/// A program that checks.
fn script(scene: &Scene, name: &str, text: &str) -> Vec<String> {
    let path = scene.dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    vec![format!("/bin/sh {}", path.display())]
}

fn back_up(scene: &Scene, name: &str, components: &[Arc<dyn Component>]) {
    let mut task = world::task(name, PASSCODE, Path::new("/nowhere"));
    task.components = components.to_vec();
    world::back_up(&scene.store, &task).unwrap();
}

#[track_caller]
pub(super) fn assert_said(lines: &[String], words: &str) {
    assert!(lines.iter().any(|line| line.contains(words)), "'{words}' is not in {lines:#?}");
}

const MADE: &str = "CREATE EXTENSION citext;
    CREATE TABLE owners (id int PRIMARY KEY, name citext UNIQUE);
    CREATE TABLE plots (id int PRIMARY KEY, owner int REFERENCES owners, price money, area float8 DEFAULT random());
    CREATE TABLE felt (feeling text, x int) PARTITION BY HASH (feeling);
    CREATE TABLE felt_0 PARTITION OF felt FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE felt_1 PARTITION OF felt FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE here (x int) TABLESPACE \"some space\";
    INSERT INTO owners SELECT i, 'owner ' || i FROM generate_series(1, 20) i;
    INSERT INTO plots SELECT i, i % 20 + 1, i FROM generate_series(1, 500) i;
    INSERT INTO felt SELECT md5(i::text), i FROM generate_series(1, 300) i;
    CREATE FUNCTION meddle() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no changes''; END';
    CREATE EVENT TRIGGER guard ON ddl_command_end EXECUTE FUNCTION meddle();";

#[test]
fn a_drill_proves_a_directory_and_a_database_and_says_what_it_did_not_prove() {
    let Some(scene) = Scene::new() else { return };
    let server = &scene.server;
    let space = server.directory("space");
    server.sql("postgres", &format!("CREATE TABLESPACE \"some space\" LOCATION '{}'", space.display()));
    server.sql("postgres", "CREATE DATABASE gis");
    server.script("gis", MADE);
    let has_postgis = server.has_extension("postgis");
    if has_postgis {
        server.script(
            "gis",
            "DROP EVENT TRIGGER guard; CREATE EXTENSION postgis;
             CREATE TABLE places AS SELECT i, ST_MakePoint(i, i) AS at FROM generate_series(1, 50) i;
             CREATE EVENT TRIGGER guard ON ddl_command_end EXECUTE FUNCTION meddle();",
        );
    }
    let looks = script(&scene, "look", "ls \"$STRONGROOM_PLACE\" | grep -q 'larger than a chunk'");
    let mut settings = scene.settings(server, &["*"]);
    settings.hooks.drill_check = script(
        &scene,
        "ask",
        &format!(
            "exec {} -X -A -t -d gis -c 'SELECT 1 / (count(*) - 499)::int FROM plots'",
            server.tool("psql").get_program().display()
        ),
    );
    let components = [
        content(&scene, Hooks { drill_check: looks, ..Hooks::default() }),
        components::relational_store(settings).unwrap(),
    ];
    back_up(&scene, "b", &components);
    // Neither is read or changed.
    std::fs::remove_dir_all(scene.dir.path().join("content")).unwrap();
    server.sql("postgres", "DROP DATABASE gis");

    let scratch = scratch();
    let report = drill(&scene, "b", &scratch, &components, Some(PASSCODE));
    assert_eq!((report.failures.as_slice(), report.outcome.as_str()), ([].as_slice(), "proven"));
    for words in [
        "component 'content': 8 files",
        "(databases: 2, roles: 1)",
        "all rows have the numbers and sums of the backup (tables: ",
        "every index is valid",
        "database 'gis': the foreign keys hold (1)",
        "by amcheck, B-trees are in order",
        "citext 1.6",
        "your own checks succeeded",
    ] {
        assert_said(&report.proven, words);
    }
    if has_postgis {
        assert_said(&report.proven, "PostGIS 3");
    }
    assert_said(&report.not_proven, "that the rows are the same in 1 tables");
    assert!(report.recovery_time > 0 && report.files > 8, "{report:?}");
    let of_database =
        report.stages.iter().filter(|stage| stage.component == "gis" && stage.milliseconds > 0).count();
    assert_eq!(of_database, 3, "{:?}", report.stages);
    assert!(scene.store.backups().unwrap().0[0].start_time <= report.recovery_point);
    assert!(!scene.dir.path().join("content").exists());
}

/// A component whose backups say something else than is in them, and verify all the same.
pub(super) struct Lying {
    pub inner: Arc<dyn Component>,
    /// What is altered, and how.
    pub file: &'static str,
    pub alter: Box<dyn Fn(Vec<u8>) -> Vec<u8> + Send + Sync>,
}

impl std::fmt::Debug for Lying {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lying in {}", self.file)
    }
}

impl Lying {
    fn in_its_manifest(inner: Arc<dyn Component>, said: &'static str, says: &'static str) -> Arc<Self> {
        let alter = move |manifest: Vec<u8>| {
            let text = String::from_utf8(manifest).unwrap();
            assert!(text.contains(said), "{text}");
            text.replace(said, says).into_bytes()
        };
        Arc::new(Self { inner, file: "manifest.json", alter: Box::new(alter) })
    }

    fn lie(&self, repository: &Repository, index: &Index, snapshot: Id) -> repository::BackupOutcome {
        let mut files = Vec::new();
        repository::walk(repository, index, snapshot, &mut |path, node| {
            if node.kind == repository::NodeKind::File {
                let mut content = Vec::new();
                repository::dump_file(repository, index, node, &Control::new(), &mut content)?;
                if path.ends_with(self.file.as_bytes()) {
                    content = (self.alter)(content);
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
        let tags = repository.snapshot(snapshot).unwrap().tags;
        let root = repository.snapshot(snapshot).unwrap().paths.remove(0);
        let request = BackupRequest { tags, ..BackupRequest::new(vec![root.into()]) };
        repository::backup_feed(repository, index, &request, &mut next, 1, &Control::new()).unwrap()
    }
}

impl Component for Lying {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn optional(&self) -> bool {
        false
    }
    fn place(&self) -> String {
        self.inner.place()
    }
    fn probe(&self) -> components::Result<()> {
        self.inner.probe()
    }
    fn backup(&self, context: &BackupContext<'_>) -> components::Result<Backup> {
        let Backup { outcome, facts } = self.inner.backup(context)?;
        let index = context.repository.load_index(&|_| true).unwrap();
        let mut lie = self.lie(context.repository, &index, outcome.snapshot.unwrap());
        lie.new_packs.extend(outcome.new_packs);
        lie.new_indexes.extend(outcome.new_indexes);
        Ok(Backup { outcome: lie, facts })
    }
    fn after_backup(&self) -> components::Result<()> {
        Ok(())
    }
    fn stage(&self, context: &RestoreContext<'_>) -> components::Result<Box<dyn StagedRestore>> {
        self.inner.stage(context)
    }
    fn check(&self, _: &Repository, _: &Index, _: Id, _: &Portion, _: &Control) -> components::Result<()> {
        Err(components::Error::new(ErrorKind::Io, "nobody asks"))
    }
    fn plan(
        &self,
        _: &Repository,
        _: &Index,
        _: Id,
        _: &Portion,
        _: &Control,
        _: &mut repository::VisitPlanned<'_>,
    ) -> components::Result<repository::RestorePlan> {
        Err(components::Error::new(ErrorKind::Io, "nobody asks"))
    }
    fn recover(&self, job_id: &str, portion: &Portion) -> components::Result<Recovered> {
        self.inner.recover(job_id, portion)
    }
    fn after_restore(&self) -> components::Result<()> {
        Ok(())
    }
    fn drill(&self, context: &DrillContext<'_>, drilled: &mut Drilled) -> components::Result<()> {
        self.inner.drill(context, drilled)
    }
}

#[test]
fn a_backup_that_verifies_and_cannot_be_restored_fails_its_drill_with_the_reason() {
    let made = "CREATE EXTENSION citext; CREATE TABLE t AS SELECT generate_series(1, 10) AS i";
    let cases = [
        // More rows than there are: the restore itself finds out.
        ("\"rows\": 10", "\"rows\": 11", "10 rows came out of the backup, and 11 went into it"),
        // As many rows, and others.
        ("\"sum\": \"", "\"sum\": \"1", "has as many rows as were backed up (10), and not the same"),
        (
            "\"citext\"",
            "\"no_such_thing\"",
            "the server lacks extensions that the backup needs: no_such_thing",
        ),
        (
            "\"serverVersion\": 1",
            "\"serverVersion\": 9",
            "a PostgreSQL server of our own is needed, release 95",
        ),
    ];
    let Some((scene, inner)) = Scene::with(&[("one", made)]) else { return };
    let scratch = scratch();
    for (number, (said, says, words)) in cases.into_iter().enumerate() {
        let name = &format!("b{number}");
        let lying: [Arc<dyn Component>; 1] = [Lying::in_its_manifest(Arc::clone(&inner), said, says)];
        back_up(&scene, name, &lying);
        let passcode = world::passcode(PASSCODE);
        let verified =
            verify_backup(&scene.store, name, Some(&passcode), true, &Control::new()).unwrap().findings;
        assert!(verified.is_empty(), "{verified:?}");
        let report = drill(&scene, name, &scratch, &lying, Some(PASSCODE));
        assert_eq!((report.outcome.as_str(), report.recovery_time), ("failed", -1), "{report:?}");
        assert_said(&report.failures, words);
    }
    // Rows that the server refuses, as their check looks at a table that is not there yet, are told nobody.
    scene.server.sql("postgres", "CREATE DATABASE two");
    scene.server.script(
        "two",
        "CREATE TABLE z (x int); INSERT INTO z VALUES (1);
         CREATE FUNCTION ok() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RETURN EXISTS (SELECT FROM public.z); END';
         CREATE TABLE a (word text, CHECK (ok())); INSERT INTO a VALUES ('a planted word');",
    );
    let mut settings = scene.settings(&scene.server, &["two"]);
    settings.connections = 1;
    let two: [Arc<dyn Component>; 1] = [components::relational_store(settings).unwrap()];
    back_up(&scene, "two", &two);
    let report = drill(&scene, "two", &scratch, &two, Some(PASSCODE));
    assert_said(&report.failures, "violates check constraint");
    assert!(!format!("{report:?}").contains("planted"), "{report:?}");
    // The server's own configuration, of which a file is lacking.
    let [configuration, key] = ["strongroom.toml", "master.key"].map(|name| scene.dir.path().join(name));
    for file in [&configuration, &key] {
        std::fs::write(file, "text").unwrap();
    }
    let copy = |to: &Path| std::fs::write(to, "state").map_err(|e| e.to_string());
    let own = components::system_configuration(components::SystemConfigurationSettings {
        name: "own".to_owned(),
        files: vec![("security.master_key_file".to_owned(), key.clone())],
        master_key_file: key,
        state_file: scene.dir.path().join("state.db"),
        copy_state: components::CopyState(Arc::new(copy)),
        scratch_directory: scene.dir.path().join("own"),
        optional: false,
        hooks: Hooks::default(),
        configuration,
    });
    let lying: [Arc<dyn Component>; 1] = [Lying::in_its_manifest(own, "\"state.db\"", "\"other.db\"")];
    back_up(&scene, "own", &lying);
    let report = drill(&scene, "own", &scratch, &lying, Some(PASSCODE));
    assert_said(&report.failures, "the backup lacks 'other.db', which its manifest names");
    if rustix::process::geteuid().is_root() {
        // The server runs as somebody else then, who must get there.
        back_up(&scene, "b", std::slice::from_ref(&inner));
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let report = drill(&scene, "b", &scratch, std::slice::from_ref(&inner), Some(PASSCODE));
        assert_said(&report.failures, "may not pass through");
    }
}

#[test]
fn a_drill_that_is_cancelled_ends_its_server_and_leaves_neither_content_nor_report() {
    let made = "CREATE TABLE t AS SELECT generate_series(1, 10) AS i";
    let Some((scene, _)) = Scene::with(&[("one", made)]) else { return };
    let (scratch, here) = (scratch(), scene.dir.path().join("here"));
    let mut settings = scene.settings(&scene.server, &["one"]);
    settings.hooks.drill_check =
        script(&scene, "waits", &format!("echo $PGHOST > {}; exec sleep 600", here.display()));
    let components: [Arc<dyn Component>; 1] = [components::relational_store(settings).unwrap()];
    back_up(&scene, "b", &components);
    let (task, control) = (task_of("b", &scratch, &components, Some(PASSCODE)), Control::new());
    let (place, outcome) = std::thread::scope(|scope| {
        let drill = scope.spawn(|| run_drill(&scene.store, &task, &control, &Silent));
        let place =
            wait_for("the check", || std::fs::read_to_string(&here).ok().filter(|text| text.ends_with('\n')));
        control.cancel();
        (place, drill.join().unwrap())
    });
    assert_eq!(outcome.unwrap_err().kind, recovery::ErrorKind::Cancelled);
    assert!(!Path::new(place.trim()).exists());
    assert_eq!(std::fs::read_dir(&task.directory).unwrap().count(), 0);
    assert_eq!(world::keys(&scene.dir.path().join("store"), "reports/"), [""; 0]);
}

#[test]
fn damage_and_a_check_of_ones_own_fail_a_drill_and_without_a_passcode_it_proves_less() {
    let Some(scene) = Scene::new() else { return };
    let scratch = scratch();
    let refuses = script(&scene, "refuse", "echo the word is missing; exit 4");
    let strict = [content(&scene, Hooks { drill_check: refuses, ..Hooks::default() })];
    let lenient = [content(&scene, Hooks::default())];
    back_up(&scene, "b", &lenient);
    let report = drill(&scene, "b", &scratch, &strict, Some(PASSCODE));
    assert_eq!(report.outcome, "failed");
    assert_said(&report.failures, "failed (exit status: 4); it said: the word is missing");

    // No component has to be configured for that.
    let report = drill(&scene, "b", &scratch, &[], None);
    assert_eq!((report.outcome.as_str(), report.recovery_time), ("whole", -1));
    assert_said(&report.proven, "every pack of the backup is in the store");
    assert_said(&report.not_proven, "no passcode was given, and nothing was restored");
    assert_eq!(report.stages.len(), 1);

    let data = world::keys(&scene.dir.path().join("store"), "vaults/")
        .into_iter()
        .find(|key| key.contains("/data/"));
    let (key, store) = (data.unwrap(), scene.dir.path().join("store"));
    let mut bytes = std::fs::read(store.join(&key)).unwrap();
    bytes[100] ^= 1;
    std::fs::write(store.join(&key), bytes).unwrap();
    for passcode in [Some(PASSCODE), None] {
        let report = drill(&scene, "b", &scratch, &lenient, passcode);
        assert_eq!(report.outcome, "failed");
        assert!(!report.failures.is_empty() && report.proven.is_empty(), "{report:?}");
    }
}

#[test]
fn a_report_is_signed_by_the_passcode_and_what_is_changed_or_made_up_is_named() {
    let dir = TempDir::with_prefix("strongroom-").unwrap();
    std::fs::create_dir(dir.path().join("store")).unwrap();
    let (store, _) =
        Store::create_or_adopt(world::directory(&dir.path().join("store")), "store", Cost::FAST).unwrap();
    store.claim("test/1").unwrap();
    let path = dir.path().join("content");
    world::write_content(&path, 1);
    let mut task = world::task("b", PASSCODE, &path);
    task.description.clear();
    world::back_up(&store, &task).unwrap();
    let scratch = scratch();
    let again = || drill_in(&store, "b", &scratch, &task.components, Some(PASSCODE));
    let reports = || world::keys(&dir.path().join("store"), "reports/");
    again();
    assert!(!again().not_proven.iter().any(|line| line.contains("not signed")));
    assert_eq!(reports().len(), 2);

    // Whoever may write to the store, and does not have the passcode, says that it took a minute.
    let file = dir.path().join("store").join(&reports()[0]);
    let text = std::fs::read_to_string(&file).unwrap();
    let time = text.split("\"recoveryTime\":").nth(1).unwrap().split(',').next().unwrap();
    let changed = text.replace(&format!("\"recoveryTime\":{time},"), "\"recoveryTime\":60000,");
    std::fs::write(&file, &changed).unwrap();
    let damaged = recovery::work::scrub(&store, &Control::new()).unwrap().findings;
    assert_eq!(damaged[0].file, reports()[0], "one that is only changed is damaged");
    let open = changed.rsplit_once(",\"checksum\"").unwrap().0;
    let digest = sha2::Sha256::digest(open.as_bytes());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(&file, format!("{open},\"checksum\":\"{digest}\"}}")).unwrap();
    assert!(recovery::work::scrub(&store, &Control::new()).unwrap().findings.is_empty());
    let report = again();
    assert_eq!(report.outcome, "proven");
    assert_said(&report.not_proven, "it was not signed by anybody who had the passcode");
}

#[test]
fn a_server_killed_during_a_drill_leaves_no_database_server_and_its_next_start_tidies_up() {
    let Some(postgres) = Postgres::start() else { return };
    let (scratch, helpers) = (scratch(), TempDir::with_prefix("strongroom-").unwrap());
    let [password, waits, here] = ["password", "waits", "here"].map(|name| helpers.path().join(name));
    std::fs::write(&password, PASSWORD).unwrap();
    // The first time it never ends; it tells where the server is.
    let text = format!("[ -e {0} ] || {{ echo $PGHOST > {0}; exec sleep 600; }}", here.display());
    std::fs::write(&waits, text).unwrap();
    let configuration = format!(
        "[drills]\ndirectory = \"{}\"\n[[component]]\nkind = \"relationalStore\"\nname = \"gis\"\nurl = \"{}\"\n\
         password_file = \"{}\"\ndrill_check = [\"/bin/sh {}\"]\n",
        scratch.path().join("drills").display(),
        postgres.url(),
        password.display(),
        waits.display()
    );
    let site = Site::new(Options { configuration, ..Options::default() });
    let mut server = site.start();
    let client = site.client();
    client.register(&site);
    client.back_up("b");
    let begun =
        client.dr_post("stores/s1/backups/b/drill", &[("passcode", strongroom_tests::server::PASSCODE)]).ok();
    let place =
        wait_for("the check", || std::fs::read_to_string(&here).ok().filter(|text| text.ends_with('\n')));
    let note = std::fs::read_to_string(Path::new(place.trim()).join("data/postmaster.pid")).unwrap();
    let pid: i32 = note.lines().next().unwrap().parse().unwrap();
    server.kill();
    wait_for("the end of the database server", || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        (state.is_empty() || state.contains(") Z ")).then_some(())
    });
    assert!(Path::new(place.trim()).exists(), "what it had restored is there still");

    let mut server = site.start();
    let client = site.client();
    let job = client.ended(begun["jobid"].as_str().unwrap());
    assert_eq!((&job["status"], &job["result"]["outcome"]), (&"COMPLETED".into(), &"proven".into()), "{job}");
    assert_eq!(std::fs::read_dir(scratch.path().join("drills")).unwrap().count(), 0);

    // Also what belongs to no job any more.
    server.stop();
    let left = scratch.path().join("drills/drill-0123456789ab-cluster");
    std::fs::create_dir(&left).unwrap();
    let _server = site.start();
    wait_for("the tidying up", || (!left.exists()).then_some(()));
}
