//! The commands that are clients of a running server, as a person or a script runs them: the real binary against the
//! real server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use strongroom_tests::server::{ADMIN, Launch, Options, PASSWORD, Site};
use strongroom_tests::services::{ACCESS_KEY, SECRET_KEY, Service};
use strongroom_tests::tree::Picture;
use tempfile::TempDir;

use crate::command::{Ran, run, strongroom};

/// Somebody at a shell, with a place of their own for tokens.
pub struct Desk {
    home: TempDir,
    server: String,
    certificate: PathBuf,
}

impl Desk {
    /// Not logged in.
    pub fn new(site: &Site) -> Self {
        let home = TempDir::with_prefix("strongroom-desk-").unwrap();
        fs::write(home.path().join("password"), format!("{PASSWORD}\n")).unwrap();
        Self { home, server: site.url(), certificate: site.certificate() }
    }

    /// Logged in as the administrator.
    pub fn logged_in(site: &Site) -> Self {
        let desk = Self::new(site);
        desk.log_in(ADMIN).expect(0);
        desk
    }

    pub fn log_in(&self, username: &str) -> Ran {
        let mut command = self.command(["login", "--username", username, "--server", &self.server]);
        command.arg("--password-file").arg(self.path("password"));
        run(command.arg("--ca-file").arg(&self.certificate))
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub fn command<const N: usize>(&self, words: [&str; N]) -> Command {
        let mut command = strongroom(words);
        command.env("XDG_STATE_HOME", self.path("state"));
        command
    }

    pub fn run<const N: usize>(&self, words: [&str; N]) -> Ran {
        run(&mut self.command(words))
    }

    /// The one JSON value on standard output.
    #[track_caller]
    pub fn json<const N: usize>(&self, words: [&str; N]) -> Value {
        let ran = run(self.command(words).arg("--json")).expect(0);
        let mut values = ran.json();
        assert_eq!(values.len(), 1, "{ran}");
        values.remove(0)
    }

    fn token_file(&self) -> PathBuf {
        let files: Vec<_> = fs::read_dir(self.path("state/strongroom")).unwrap().collect();
        assert_eq!(files.len(), 1);
        files[0].as_ref().unwrap().path()
    }

    /// Registers the site's store `s1` as the default one.
    pub fn register(&self, site: &Site) {
        self.run(["store", "register", "s1", "--default", "--location", site.store().to_str().unwrap()])
            .expect(0);
    }
}

/// A site with a few files, and its store registered.
pub fn site_with(options: Options) -> Site {
    let site = Site::new(options);
    for (name, text) in [("one", "1"), ("two/zwei", "22"), ("two/drei", "333")] {
        let file = site.content().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    site
}

#[test]
fn a_person_registers_a_store_makes_a_backup_restores_it_and_deletes_it() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    let place = site.stores().join("im Keller");
    // Names as people choose them.
    let (store, name) = ("Keller 1 – Übersee", "Grüße aus Köln, 1. März");
    desk.run(["store", "register", store, "--location", place.to_str().unwrap()])
        .expect(0)
        .expect_text("Keller 1 – Übersee");
    desk.run(["store", "list"]).expect(0).expect_text(store).expect_text(place.to_str().unwrap());
    desk.run(["store", "show", store]).expect(0).expect_text("FILESYSTEM");
    desk.run(["store", "validate", store]).expect(0).expect_text("ready");
    desk.run(["store", "update", store, "--default"]).expect(0);
    assert_eq!(desk.json(["store", "show", store])["default"], true);

    let made =
        desk.run(["backup", "create", name, "--description", "von Hand", "--keep-days", "30", "--wait"]);
    let made = made.expect(0).expect_text("completed").expect_text("3 files");
    assert!(!made.err.contains('\u{1b}') && !made.out.contains('\u{1b}'), "colour in a pipe: {made}");
    let listed = desk.run(["backup", "list"]).expect(0).expect_text(name).expect_text("completed");
    assert_eq!(listed.out.lines().count(), 2, "{listed}");
    let shown = desk.run(["backup", "show", name]).expect(0).expect_text("von Hand").expect_text("fileStore");
    shown.expect_text(site.content().to_str().unwrap());

    let before = Picture::take(&site.content());
    fs::write(site.content().join("one"), "changed").unwrap();
    fs::remove_dir_all(site.content().join("two")).unwrap();
    desk.run(["backup", "validate", name]).expect(0);
    desk.run(["backup", "validate", name, "--read-data", "--wait"]).expect(0);
    let proven = desk.run(["backup", "drill", name, "--wait"]).expect(0).expect_text("a recovery takes");
    drop(proven.expect_text("proven: component 'content'"));
    desk.run(["backup", "drill", name, "--packs-only", "--wait"])
        .expect(0)
        .expect_text("not proven: that a passcode opens it");
    desk.run(["backup", "restore", name, "--validate-only"]).expect(0).expect_text("nothing was changed");
    assert!(!site.content().join("two").exists());
    desk.run(["backup", "restore", name, "--yes", "--wait", "--component", "content"]).expect(0);
    before.assert_same(&Picture::take(&site.content()), "restored by the command line");
    desk.run(["status"]).expect(0).expect_text("Restore").expect_text("success");

    desk.run(["backup", "update", name, "--keep-forever", "--description", "bleibt"]).expect(0);
    let shown = desk.run(["backup", "show", name]).expect(0).expect_text("for ever").expect_text("bleibt");
    drop(shown);
    desk.run(["backup", "update", name, "--keep-until", "2199-12-31"]).expect(0);
    desk.run(["backup", "list", "--store", store]).expect(0).expect_text("2200-01-01 00:00:00");
    desk.run(["backup", "delete", name]).expect(0);
    let listed = desk.run(["backup", "list"]).expect(0);
    assert_eq!(listed.out.lines().count(), 1, "{listed}");

    desk.run(["job", "list"]).expect(0).expect_text("Backup of").expect_text("Restore of");
    desk.run(["store", "unregister", store]).expect(0).expect_text("stay");
    assert!(place.join("strongroom.json").exists());
    desk.run(["logout"]).expect(0).expect_text("logged out");
    desk.run(["store", "list"]).expect(2).expect_text("not logged in");
}

#[test]
fn a_script_reads_json_and_decides_by_the_exit_code() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::new(&site);
    let mut login = desk.command(["login", "--json", "--username", ADMIN]);
    // Everything from the environment.
    login
        .env("STRONGROOM_SERVER", format!("{}/admin/", desk.server))
        .env("STRONGROOM_CA_FILE", &desk.certificate);
    let logged_in = run(login.arg("--password-file").arg(desk.path("password"))).expect(0);
    assert_eq!(logged_in.json()[0]["server"], desk.server);
    assert_eq!(logged_in.json()[0]["username"], ADMIN);
    assert!(logged_in.json()[0]["expires"].as_i64().unwrap() > 1_700_000_000_000);

    assert_eq!(desk.json(["store", "list"]), Value::Array(Vec::new()));
    let registered = desk.json(["store", "register", "s1", "--location", site.store().to_str().unwrap()]);
    assert_eq!(registered["status"], "success");
    assert_eq!(desk.json(["status"])["status"]["state"], "none");

    // The id of the job is all that stands on standard output.
    let id = desk.run(["backup", "create", "a"]).expect(0).out.trim().to_owned();
    assert!(id.starts_with('j') && id.len() == 37, "{id}");
    let job = desk.json(["job", "wait", &id]);
    assert_eq!((&job["status"], &job["result"]["backupName"]), (&"COMPLETED".into(), &"a".into()));
    assert_eq!(desk.json(["job", "show", &id])["jobid"], *id);
    let made = desk.json(["backup", "create", "b", "--wait"]);
    assert_eq!(made["result"]["filesTotal"], 3);
    assert!(desk.json(["backup", "create", "c"])["jobsUrl"].as_str().unwrap().contains("/admin/jobs/j"));
    desk.json(["job", "wait", desk.json(["job", "list"])[0]["jobid"].as_str().unwrap()]);

    let names: Vec<_> = desk.json(["backup", "list"]).as_array().unwrap().iter().map(name_of).collect();
    assert_eq!(names, ["c", "b", "a"]);
    assert_eq!(name_of(&desk.json(["backup", "show", "a"])), "a");
    assert_eq!(desk.json(["backup", "validate", "a"])["isReady"], true);
    assert_eq!(desk.json(["backup", "restore", "a", "--validate-only"])["isReady"], true);
    assert_eq!(desk.json(["backup", "restore", "a", "--yes", "--wait"])["result"]["operation"], "Restore");
    assert_eq!(desk.json(["status"])["status"]["state"], "success");
    assert_eq!(desk.json(["job", "list", "--limit", "2"]).as_array().unwrap().len(), 2);
    assert_eq!(desk.json(["store", "show", "s1"])["backupCount"], 3);
    for words in [
        ["backup", "update", "a", "--keep-days=1"],
        ["backup", "delete", "a", "--store=s1"],
        ["store", "update", "s1", "--default"],
    ] {
        assert_eq!(desk.json(words)["status"], "success");
    }
    assert_eq!(desk.json(["store", "validate", "s1"])["isReady"], true);
    assert_eq!(desk.json(["store", "unregister", "s1"])["status"], "success");

    // A failure is one line of JSON too, on standard error.
    let failed = desk.run(["store", "show", "s1", "--json"]).expect(10);
    assert_eq!(failed.out, "");
    let error: Value = serde_json::from_str(&failed.err).unwrap();
    assert_eq!((&error["message_type"], &error["code"]), (&"exit_error".into(), &10.into()));
    let usage = desk.run(["backup", "restore", "--json"]).expect(2);
    assert_eq!(serde_json::from_str::<Value>(&usage.err).unwrap()["code"], 2);
    assert_eq!(desk.json(["logout"])["forgotten"], true);
}

fn name_of(backup: &Value) -> String {
    backup["backupName"].as_str().unwrap().to_owned()
}

#[test]
fn what_is_refused_ends_with_the_code_of_its_reason_and_says_what_to_do() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.run(["backup", "list"]).expect(10).expect_text("store register");
    desk.register(&site);
    desk.run(["backup", "create", "a", "--wait"]).expect(0);

    // 1: failed, and nothing changed.
    desk.run(["backup", "show", "missing"]).expect(1).expect_text("missing");
    desk.run(["backup", "restore", "missing", "--yes"]).expect(1).expect_text("missing");
    desk.run(["job", "show", "j00000000-0000-0000-0000-000000000000"]).expect(1);
    desk.run(["backup", "create", "a"]).expect(1).expect_text("exists");
    desk.run(["job", "cancel", desk.json(["job", "list"])[0]["jobid"].as_str().unwrap()]).expect(1);
    // 2: wrong usage.
    let short = run(desk.command(["backup", "create", "b"]).env("STRONGROOM_PASSCODE", "short")).expect(2);
    short.expect_text("fewer than 8 characters");
    desk.run(["backup", "create", "a/b"]).expect(2);
    desk.run(["backup", "create", "b", "--keep-days", "0"]).expect(2);
    desk.run(["backup", "create", "b", "--keep-days", "3", "--keep-until", "2199-01-01"]).expect(2);
    desk.run(["backup", "create", "b", "--keep-until", "2001-01-01"]).expect(2).expect_text("past");
    desk.run(["backup", "update", "a"]).expect(2);
    desk.run(["backup", "restore", "a"]).expect(2).expect_text("--yes");
    desk.run(["store", "register", "s2", "--location", "relative"]).expect(2);
    desk.run(["store", "register", "s2", "--location", "/not/allowed"]).expect(2);
    desk.run(["store", "list", "--server", "http://dr.example.org/x"]).expect(2).expect_text("https");
    desk.run(["store", "list", "--server", "nonsense"]).expect(2);
    // 10: no such store.
    desk.run(["store", "show", "missing"]).expect(10);
    desk.run(["backup", "list", "--store", "missing"]).expect(10);
    // 12: wrong passcode.
    for words in [["restore", "--yes"], ["restore", "--validate-only"], ["validate", "--store=s1"]] {
        let mut command = desk.command(["backup", words[0], "a", words[1]]);
        let wrong = run(command.env("STRONGROOM_PASSCODE", "another one altogether")).expect(12);
        assert!(!wrong.err.contains("another one"), "{wrong}");
    }
    // 13: damage; a pack of the backup is gone.
    let packs = site.store().join("vaults");
    let pack = first_file(&packs, "data");
    fs::rename(&pack, desk.path("pack")).unwrap();
    desk.run(["backup", "validate", "a"]).expect(13).expect_text("not ready");
    desk.run(["backup", "validate", "a", "--json"]).expect(13);
    fs::rename(desk.path("pack"), &pack).unwrap();
    // 10: the place is gone.
    fs::rename(site.store(), desk.path("away")).unwrap();
    desk.run(["store", "validate", "s1"]).expect(10);
    desk.run(["backup", "list"]).expect(10);
    fs::rename(desk.path("away"), site.store()).unwrap();
    desk.run(["backup", "list"]).expect(0);
}

/// A file in the first directory of that name below.
fn first_file(directory: &Path, below: &str) -> PathBuf {
    let pattern = format!("*/{below}/*");
    let found =
        run(Command::new("find").arg(directory).args(["-type", "f", "-path", &pattern, "-print", "-quit"]));
    PathBuf::from(found.expect(0).out.trim_end())
}

#[test]
fn who_is_not_logged_in_or_no_longer_is_told_how_to_log_in() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::new(&site);
    desk.run(["store", "list"]).expect(2).expect_text("strongroom login");
    desk.run(["store", "list", "--server", &desk.server]).expect(1).expect_text("strongroom login --server");

    fs::write(desk.path("password"), "not the password").unwrap();
    let wrong = desk.log_in(ADMIN).expect(1).expect_text("Invalid username or password");
    assert!(!wrong.err.contains("not the password"), "{wrong}");
    desk.log_in("nobody").expect(1).expect_text("Invalid username or password");
    assert!(!desk.path("state/strongroom").exists(), "nothing is kept of a log-in that failed");

    fs::write(desk.path("password"), PASSWORD).unwrap();
    desk.log_in(ADMIN).expect(0);
    desk.run(["store", "list"]).expect(0);
    // A new password ends the tokens of the old one.
    let mut passwd = strongroom(["user", "passwd", "--username", ADMIN, "--config"]);
    fs::write(desk.path("new password"), "another-Password-77").unwrap();
    run(passwd.arg(site.config()).arg("--password-file").arg(desk.path("new password"))).expect(0);
    desk.run(["store", "list"]).expect(1).expect_text("no longer").expect_text("strongroom login --server");
    desk.run(["store", "list", "--json"]).expect(1);
}

#[test]
fn a_token_whose_time_is_over_is_worth_nothing() {
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
    if !Path::new(LIBRARY).exists() {
        println!("NOT TESTED with a token that expires: {LIBRARY} is missing");
        return;
    }
    let site = site_with(Options::default());
    let mut server = site.start();
    let desk = Desk::new(&site);
    let mut login = desk.command(["login", "--username", ADMIN, "--minutes", "30", "--server", &desk.server]);
    login.arg("--password-file").arg(desk.path("password")).arg("--ca-file").arg(&desk.certificate);
    run(&mut login).expect(0);
    server.stop();
    // An hour later for the server.
    let environment = [("LD_PRELOAD", LIBRARY), ("FAKETIME", "+3600"), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let _later = site.start_as(&Launch { environment: environment.to_vec(), ..Launch::default() });
    desk.run(["store", "list"]).expect(1).expect_text("no longer").expect_text("strongroom login --server");
    run(&mut login).expect(0);
    desk.run(["store", "list"]).expect(0);
}

#[test]
fn roles_are_the_servers_and_what_they_forbid_is_named() {
    let site = site_with(Options::default());
    site.add_user("watcher", "viewer", PASSWORD);
    let _server = site.start();
    let desk = Desk::new(&site);
    desk.log_in("watcher").expect(0);
    desk.run(["store", "list"]).expect(0);
    let store = site.store();
    let refused = desk.run(["store", "register", "s1", "--location", store.to_str().unwrap()]);
    refused.expect(1).expect_text("administrator");
}

#[test]
fn a_server_that_is_not_there_or_not_trusted_is_named_and_gets_nothing() {
    let site = site_with(Options::default());
    let mut server = site.start();
    let desk = Desk::logged_in(&site);

    // Another server's certificate, and this machine's authorities, are not its own.
    let other = site_with(Options::default());
    let other_server = other.start();
    let mut command = desk.command(["login", "--username", ADMIN, "--server", &desk.server]);
    command.arg("--password-file").arg(desk.path("password"));
    run(&mut command).expect(2).expect_text("not trusted").expect_text("--ca-file");
    run(command.arg("--ca-file").arg(other.certificate())).expect(2).expect_text("not trusted");
    let mut command = desk.command(["store", "list", "--ca-file"]);
    run(command.arg(other.certificate())).expect(2).expect_text("not trusted");
    drop(other_server);
    // Nobody listens there.
    let elsewhere = desk.server.replace("127.0.0.1", "127.0.0.2");
    let mut command = desk.command(["login", "--username", ADMIN, "--server", &elsewhere]);
    command.arg("--password-file").arg(desk.path("password")).arg("--ca-file").arg(&desk.certificate);
    run(&mut command).expect(1).expect_text("no server answers");

    // What answers there is no context of this server.
    let wrong = desk.server.replace("/strongroom", "/elsewhere");
    let mut command = desk.command(["login", "--username", ADMIN, "--server", &wrong]);
    command.arg("--password-file").arg(desk.path("password")).arg("--ca-file").arg(&desk.certificate);
    run(&mut command).expect(2);

    server.stop();
    desk.run(["store", "list"]).expect(1).expect_text("no server answers").expect_text(&desk.server);
    desk.run(["backup", "create", "a", "--wait", "--store", "s1"]).expect(1);
}

#[test]
fn the_configuration_of_a_server_on_the_same_machine_says_where_it_is_and_whom_to_trust() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::new(&site);
    let mut login = desk.command(["login", "--username", ADMIN, "--config"]);
    run(login.arg(site.config()).arg("--password-file").arg(desk.path("password"))).expect(0);
    // From then on nothing needs to be named.
    desk.run(["store", "list"]).expect(0);
    desk.run(["status"]).expect(0).expect_text(&site.url());
}

#[test]
fn a_token_is_private_and_one_that_others_could_read_is_not_used() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    let file = desk.token_file();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let token = kept["token"].as_str().unwrap();
    for words in [["status", "--json"], ["store", "list"], ["job", "list"]] {
        let ran = desk.run(words).expect(0);
        assert!(!ran.out.contains(token) && !ran.err.contains(token), "the token is told: {ran}");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let refused =
        desk.run(["store", "list"]).expect(2).expect_text("644").expect_text(file.to_str().unwrap());
    assert!(!refused.err.contains(token), "{refused}");
    desk.log_in(ADMIN).expect(0);
    desk.run(["store", "list"]).expect(0);
}

#[test]
fn a_token_is_worth_nothing_after_the_logout() {
    let site = site_with(Options::default());
    let mut server = site.start();
    let desk = Desk::logged_in(&site);
    let (file, stolen) = (desk.token_file(), desk.path("stolen"));
    fs::copy(&file, &stolen).unwrap();
    let told = desk.run(["logout"]).expect(0);
    assert_eq!(told.err, "", "{told}");
    assert!(!file.exists());
    desk.run(["logout", "--server", &desk.server]).expect(0).expect_text("not logged in");
    fs::rename(&stolen, &file).unwrap();
    desk.run(["store", "list"]).expect(1).expect_text("no longer");

    // Without the server the token is forgotten all the same, and that is said.
    desk.log_in(ADMIN).expect(0);
    server.stop();
    desk.run(["logout"]).expect(0).expect_text("the server was not told");
    assert!(!file.exists());
}

#[test]
fn with_several_log_ins_the_server_must_be_named() {
    let (one, other) = (site_with(Options::default()), site_with(Options::default()));
    let (_one, _other) = (one.start(), other.start());
    let desk = Desk::logged_in(&one);
    let second = Desk { home: desk.home, server: other.url(), certificate: other.certificate() };
    second.log_in(ADMIN).expect(0);
    second.run(["store", "list"]).expect(2).expect_text(&one.url()).expect_text(&other.url());
    second.run(["store", "list", "--server", &one.url()]).expect(0);
    second.run(["store", "list", "--server", &other.url()]).expect(0);
    second.run(["logout", "--server", &one.url()]).expect(0);
    second.run(["store", "list"]).expect(0);
}

#[test]
fn a_bucket_is_registered_with_a_credential_that_only_a_file_holds() {
    let Some(service) = Service::s3() else { return };
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    let credential = |key: &str| {
        let secret = serde_json::json!({"accessKey": key, "secretKey": SECRET_KEY});
        serde_json::json!({"type": "ACCESS-KEY", "secret": secret}).to_string()
    };
    let file = desk.path("credential.json");
    fs::write(&file, credential(ACCESS_KEY)).unwrap();
    let (bucket, endpoint) = (service.bucket(), service.url());
    let location = format!("s3://{bucket}/site1?endpoint={endpoint}&region=us-east-1&path_style=true");
    let file_text = file.to_str().unwrap();
    let registered =
        desk.run(["store", "register", "cloud", "--location", &location, "--credential-file", file_text]);
    let shown = desk.run(["store", "show", "cloud"]);
    for ran in [registered.expect(0), shown.expect(0).expect_text("ACCESS-KEY").expect_text(&bucket)] {
        assert!(!ran.out.contains(SECRET_KEY) && !ran.err.contains(SECRET_KEY), "{ran}");
    }
    desk.run(["backup", "create", "a", "--wait"]).expect(0);
    desk.run(["backup", "restore", "a", "--yes", "--wait"]).expect(0);
    fs::write(&file, credential("AKIAOTHER")).unwrap();
    desk.run(["store", "update", "cloud", "--credential-file", file_text]).expect(0);
    desk.run(["store", "validate", "cloud"]).expect(0);

    // The same with the whole object of the interface in a file.
    let settings = serde_json::json!({"type": "S3", "connection": {
        "bucketName": bucket, "region": "us-east-1", "rootDir": "site2", "endpointUrl": endpoint,
        "credential": serde_json::from_str::<Value>(&credential(ACCESS_KEY)).unwrap()}});
    let file = desk.path("settings.json");
    fs::write(&file, settings.to_string()).unwrap();
    desk.run(["store", "register", "second", "--settings-file", file.to_str().unwrap()]).expect(0);
    desk.run(["backup", "create", "b", "--store", "second", "--wait"]).expect(0);
    desk.run(["backup", "list"]).expect(2).expect_text("cloud").expect_text("second");
}

#[test]
fn no_proxy_is_asked_for_a_server_on_this_machine() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    let mut command = desk.command(["store", "list"]);
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    run(command.env_remove("NO_PROXY").env_remove("no_proxy")).expect(0);
}

#[test]
fn there_is_a_manual_page_for_each_command_and_completions_know_them() {
    let place = TempDir::with_prefix("strongroom-man-").unwrap();
    let directory = place.path().join("man1");
    run(strongroom(["man", "--directory"]).arg(&directory)).expect(0);
    for page in [
        "strongroom",
        "strongroom-login",
        "strongroom-backup-create",
        "strongroom-job-wait",
        "strongroom-repo-backup",
    ] {
        let text = fs::read_to_string(directory.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".SH SYNOPSIS"), "{page}: {text}");
    }
    let script = run(&mut strongroom(["completions", "bash"])).expect(0).out;
    for word in ["login", "logout", "unregister", "--keep-days"] {
        assert!(script.contains(word), "{word}");
    }
}
