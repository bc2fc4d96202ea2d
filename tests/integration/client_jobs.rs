//! The command line and the jobs of the server: waiting for them, stopping them, and leaving them alone.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use strongroom_tests::server::{ADMIN, Options, PASSWORD, wait_for};
use tempfile::TempDir;

use crate::client::{Desk, site_with};
use crate::command::{PASSCODE, run, strongroom, strongroom_path};

/// A hook at which jobs wait as long as the gate is closed.
struct Gate(TempDir);

impl Gate {
    fn closed() -> Self {
        let gate = Self(TempDir::with_prefix("strongroom-gate-").unwrap());
        let place = gate.0.path().display();
        let script = format!("touch {place}/reached\nwhile [ -e {place}/closed ]; do sleep 0.02; done\n");
        fs::write(gate.0.path().join("wait.sh"), script).unwrap();
        fs::write(gate.0.path().join("closed"), "").unwrap();
        gate
    }

    fn options(&self) -> Options {
        let hook = format!("before_backup = [\"/bin/sh {}/wait.sh\"]\n", self.0.path().display());
        Options { component: hook, ..Options::default() }
    }

    fn reached(&self) {
        let file = self.0.path().join("reached");
        wait_for("a job to reach the gate", || file.exists().then_some(()));
    }

    fn open(&self) {
        let _ = fs::remove_file(self.0.path().join("closed"));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}

#[test]
fn a_backup_without_everything_ends_with_3_and_names_what_is_missing() {
    let component = "[[component]]\nkind = \"fileStore\"\nname = \"plans\"\npath = \"/nonexistent/plans\"\noptional = true\n";
    let site = site_with(Options { component: component.to_owned(), ..Options::default() });
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    let partial = desk.run(["backup", "create", "partial", "--wait"]).expect(3);
    assert!(partial.err.contains("warning:") && partial.err.contains("plans"), "{partial}");
    let told = desk.run(["backup", "create", "again", "--wait", "--json"]).expect(3);
    assert_eq!(told.json()[0]["result"]["state"], "completed_with_warnings");
}

#[test]
fn a_job_that_fails_while_it_is_waited_for_ends_with_1_and_its_reason() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    fs::rename(site.content(), desk.path("away")).unwrap();
    let failed = desk.run(["backup", "create", "a", "--wait"]).expect(1).expect_text("error:");
    failed.expect_text(site.content().to_str().unwrap());
    let failed = desk.run(["backup", "create", "a", "--wait", "--json"]).expect(1);
    assert_eq!(failed.json()[0]["status"], "FAILED");
    let id = desk.json(["job", "list"])[0]["jobid"].as_str().unwrap().to_owned();
    desk.run(["job", "wait", &id]).expect(1);
    desk.run(["job", "show", &id]).expect(0).expect_text("failed");
}

/// Begins a backup and waits for it; what it says goes to the file `told`.
fn waiting(desk: &Desk, name: &str) -> Child {
    let told = fs::File::create(desk.path("told")).unwrap();
    let mut command = desk.command(["backup", "create", name, "--wait"]);
    command.stdin(Stdio::null()).stdout(told.try_clone().unwrap()).stderr(told);
    command.spawn().unwrap()
}

/// The exit code of [`waiting`], and what it said.
fn waited(desk: &Desk, child: Child) -> (i32, String) {
    let (code, _) = finish(child);
    (code, fs::read_to_string(desk.path("told")).unwrap())
}

fn finish(child: Child) -> (i32, String) {
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

#[test]
fn ctrl_c_ends_the_waiting_and_not_the_job() {
    let gate = Gate::closed();
    let site = site_with(gate.options());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    let child = waiting(&desk, "a");
    gate.reached();
    // 11: it stands in the way of another one, which names it.
    desk.run(["backup", "create", "b"]).expect(11).expect_text("strongroom job wait j");
    kill_process(Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap(), Signal::INT).unwrap();
    let (code, told) = waited(&desk, child);
    assert_eq!(code, 130, "{told}");
    let id = desk.json(["job", "list"])[0]["jobid"].as_str().unwrap().to_owned();
    assert!(told.contains(&format!("strongroom job wait {id}")), "{told}");
    assert_eq!(desk.json(["job", "show", &id])["status"], "EXECUTING");
    gate.open();
    desk.run(["job", "wait", &id]).expect(0).expect_text("completed");
    desk.run(["backup", "show", "a"]).expect(0);
}

#[test]
fn a_job_can_be_cancelled_by_who_waits_for_it_or_by_somebody_else() {
    let gate = Gate::closed();
    let site = site_with(gate.options());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    let child = waiting(&desk, "a");
    gate.reached();
    let id = desk.json(["job", "list"])[0]["jobid"].as_str().unwrap().to_owned();
    desk.run(["job", "cancel", &id]).expect(0);
    gate.open();
    let (code, told) = waited(&desk, child);
    assert_eq!(code, 1, "{told}");
    assert!(told.to_lowercase().contains("cancel"), "{told}");
    desk.run(["backup", "show", "a"]).expect(1);
}

#[test]
fn who_waits_for_a_job_stays_while_the_server_is_restarted() {
    let gate = Gate::closed();
    let site = site_with(gate.options());
    let mut server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    let child = waiting(&desk, "a");
    gate.reached();
    server.kill();
    wait_for("the client to notice", || {
        fs::read_to_string(desk.path("told")).unwrap().contains("asking again").then_some(())
    });
    gate.open();
    let _server = site.start();
    let (code, told) = waited(&desk, child);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("completed"), "{told}");
}

/// A program at a terminal, with somebody who reads before typing.
struct Terminal {
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(desk: &Desk, words: &str, passcode: Option<&str>) -> Self {
        let line = format!("'{}' {words}", strongroom_path().display());
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        for (name, value) in desk.command([]).get_envs() {
            match value {
                Some(value) => script.env(name, value),
                None => script.env_remove(name),
            };
        }
        script.env("TERM", "xterm").env("NO_COLOR", "1");
        match passcode {
            Some(passcode) => script.env("STRONGROOM_PASSCODE", passcode),
            None => script.env_remove("STRONGROOM_PASSCODE"),
        };
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = script.spawn().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut output, told) = (child.stdout.take().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut bytes) {
                told.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { child, shown }
    }

    /// Waits for a question and answers it.
    fn answer(&mut self, question: &str, answer: &str) {
        wait_for(question, || self.shown.lock().unwrap().contains(question).then_some(()));
        self.child.stdin.as_mut().unwrap().write_all(format!("{answer}\n").as_bytes()).unwrap();
    }

    /// The exit code, and all that was on the screen once `last` was.
    fn end(mut self, last: &str) -> (i32, String) {
        wait_for(last, || self.shown.lock().unwrap().contains(last).then_some(()));
        let code = self.child.wait().unwrap().code().unwrap();
        (code, self.shown.lock().unwrap().clone())
    }
}

#[test]
fn on_a_terminal_a_restore_asks_and_the_stages_are_shown() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    desk.run(["backup", "create", "a", "--wait"]).expect(0);
    fs::write(site.content().join("one"), "changed").unwrap();
    let restore = |answer: &str, last: &str| {
        let mut terminal = Terminal::start(&desk, "backup restore a --wait", Some(PASSCODE));
        terminal.answer("Replace it?", answer);
        terminal.end(last)
    };
    let (code, told) = restore("n", "nothing was changed");
    assert_eq!(code, 1, "{told}");
    assert!(told.contains(site.content().to_str().unwrap()), "{told}");
    assert_eq!(fs::read_to_string(site.content().join("one")).unwrap(), "changed");
    let (code, told) = restore("y", "completed");
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("Validation") && told.contains("✓"), "no stages: {told}");
    assert_eq!(fs::read_to_string(site.content().join("one")).unwrap(), "1");
}

#[test]
fn on_a_terminal_a_stage_that_failed_is_marked() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    fs::rename(site.content(), desk.path("away")).unwrap();
    let terminal = Terminal::start(&desk, "backup create a --wait", Some(PASSCODE));
    let (code, told) = terminal.end("error:");
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("✗") && !told.contains("✓ Stage volumes"), "{told}");
}

#[test]
fn on_a_terminal_what_is_missing_is_asked_for_and_secrets_are_not_shown() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::new(&site);
    let login = format!("login --server {} --ca-file '{}'", site.url(), site.certificate().display());
    let mut terminal = Terminal::start(&desk, &login, None);
    terminal.answer("User: ", ADMIN);
    terminal.answer(&format!("Password of {ADMIN}: "), PASSWORD);
    let (code, told) = terminal.end("logged in");
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains(PASSWORD), "{told}");

    desk.register(&site);
    let secret = "typed, and not seen";
    let mut terminal = Terminal::start(&desk, "backup create a --wait", None);
    terminal.answer("New passcode: ", secret);
    terminal.answer("The same again: ", secret);
    let (code, told) = terminal.end("completed");
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains(secret), "{told}");
    let mut validate = desk.command(["backup", "validate", "a"]);
    run(validate.env("STRONGROOM_PASSCODE", secret)).expect(0);

    let mut terminal = Terminal::start(&desk, "backup create b", None);
    terminal.answer("New passcode: ", secret);
    terminal.answer("The same again: ", "something else");
    assert_eq!(terminal.end("differ").0, 2);
}

#[test]
fn a_log_in_that_ends_while_a_job_is_waited_for_leaves_the_job_alone() {
    let gate = Gate::closed();
    let site = site_with(gate.options());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    let child = waiting(&desk, "a");
    gate.reached();
    fs::write(desk.path("password"), "another-Password-77").unwrap();
    let mut passwd = strongroom(["user", "passwd", "--username", ADMIN, "--config"]);
    run(passwd.arg(site.config()).arg("--password-file").arg(desk.path("password"))).expect(0);
    let (code, told) = waited(&desk, child);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("can no longer be followed") && told.contains("strongroom login"), "{told}");
    gate.open();
    desk.log_in(ADMIN).expect(0);
    let id = desk.json(["job", "list"])[0]["jobid"].as_str().unwrap().to_owned();
    desk.run(["job", "wait", &id]).expect(0);
}
