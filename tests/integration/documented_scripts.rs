//! The scripts of `docs/scripting.md`, as they stand in `docs/examples`, against a real server: what they do, and the exit
//! codes by which the ones who run them decide.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_tests::server::{ADMIN, Options, PASSCODE, PASSWORD, Site};
use strongroom_tests::tree::Picture;

use crate::client::{Desk, site_with};
use crate::command::{Ran, run};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/examples");

/// Somebody who runs one of the scripts.
struct Script<'a> {
    site: &'a Site,
    program: &'static str,
    file: PathBuf,
}

impl<'a> Script<'a> {
    /// None where the machine lacks what it needs.
    fn new(site: &'a Site, program: &'static str, file: &str, needs: &[&[&str]]) -> Option<Self> {
        for words in needs {
            let there =
                Command::new(words[0]).args(&words[1..]).output().is_ok_and(|ran| ran.status.success());
            if !there {
                eprintln!("skipped: docs/examples/{file} needs {}", words[0]);
                return None;
            }
        }
        fs::write(site.root().join("password"), format!("{PASSWORD}\n")).unwrap();
        fs::write(site.root().join("passcode"), format!("{PASSCODE}\n")).unwrap();
        Some(Self { site, program, file: Path::new(EXAMPLES).join(file) })
    }

    /// With the words, as the administrator.
    fn command(&self, words: &[&str]) -> Command {
        let root = self.site.root();
        let mut command = Command::new(self.program);
        command.arg(&self.file).args(words).env("DR_SERVER", self.site.url()).env("DR_STORE", "s 1");
        command.env("DR_CA_FILE", self.site.certificate()).env("DR_USER", ADMIN);
        command.env("DR_PASSWORD_FILE", root.join("password"));
        command.env("DR_PASSCODE_FILE", root.join("passcode"));
        command
    }

    fn run(&self, words: &[&str]) -> Ran {
        run(&mut self.command(words))
    }

    /// The small job of the page, and what goes wrong with it.
    fn plays(&self) {
        let site = self.site;
        let place = site.stores().join("one");
        self.run(&["register", place.to_str().unwrap()]).expect(0).expect_text("registered: ");
        self.run(&["register", place.to_str().unwrap()]).expect(1).expect_text("DR_STORE_EXISTS");
        let before = Picture::take(&site.content());
        self.run(&["create", "vor dem Umzug"]).expect(0).expect_text("done: job j");
        self.run(&["create", "vor dem Umzug"]).expect(1).expect_text("DR_BACKUP_EXISTS");
        self.run(&["list"]).expect(0).expect_text("vor dem Umzug\tcompleted\t");
        self.run(&["validate", "vor dem Umzug"]).expect(0).expect_text("done: job j");
        fs::remove_dir_all(site.content().join("two")).unwrap();
        self.run(&["restore", "vor dem Umzug"]).expect(0).expect_text("done: job j");
        before.assert_same(&Picture::take(&site.content()), "restored by the script");

        self.run(&["restore", "none"]).expect(1).expect_text("BACKUP_NOT_FOUND");
        self.run(&["restore"]).expect(2).expect_text("usage: ");
        run(self.command(&["list"]).env("DR_STORE", "none")).expect(10).expect_text("STORE_NOT_FOUND");
        let wrong = site.root().join("wrong");
        fs::write(&wrong, "quite another one").unwrap();
        let ran = run(self.command(&["restore", "vor dem Umzug"]).env("DR_PASSCODE_FILE", &wrong)).expect(12);
        assert!(!format!("{ran}").contains("quite another one"), "{ran}");
        run(self.command(&["list"]).env("DR_PASSWORD_FILE", &wrong)).expect(1).expect_text("LOGIN_FAILED");
        run(self.command(&["list"]).env_remove("DR_USER")).expect(2);

        // A key in place of the password, as a line of cron has it.
        let desk = Desk::logged_in(site);
        let key = site.root().join("key");
        let words =
            ["key", "create", "cron", "--role", "operator", "--only", "read,backup", "--store", "s 1"];
        run(desk.command(words).arg("--output").arg(&key)).expect(0);
        let with_key = |words: &[&str]| {
            let mut command = self.command(words);
            run(command.env_remove("DR_USER").env_remove("DR_PASSWORD_FILE").env("DR_KEY_FILE", &key))
        };
        with_key(&["create", "nightly"]).expect(0).expect_text("done: job j");
        with_key(&["list"]).expect(0).expect_text("nightly\tcompleted\t");
        with_key(&["delete", "nightly"]).expect(1).expect_text("FORBIDDEN");
        self.run(&["delete", "nightly"]).expect(0).expect_text("success");
        assert!(!self.run(&["list"]).expect(0).out.contains("nightly"));
    }
}

#[test]
fn the_documented_shell_script_does_what_the_page_says_and_fails_with_the_exit_codes_that_it_names() {
    let site = site_with(Options::default());
    let _server = site.start();
    let needs: [&[&str]; 2] = [&["jq", "--version"], &["curl", "--version"]];
    if let Some(script) = Script::new(&site, "bash", "backup.sh", &needs) {
        script.plays();
    }
}

#[test]
fn the_documented_python_script_does_what_the_page_says_and_fails_with_the_exit_codes_that_it_names() {
    let site = site_with(Options::default());
    let _server = site.start();
    let needs: [&[&str]; 1] = [&["python3", "-c", "import sys; sys.exit(sys.version_info < (3, 10))"]];
    if let Some(script) = Script::new(&site, "python3", "backup.py", &needs) {
        script.plays();
    }
}
