//! The command line where it is about who may do what: users on a running server and in the state, keys for programs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use strongroom_tests::server::{ADMIN, Options, PASSWORD, Site};

use crate::client::{Desk, site_with};
use crate::command::{Ran, run, strongroom};

/// A program with a key in a file, and no log-in.
fn with_key<const N: usize>(desk: &Desk, site: &Site, words: [&str; N]) -> Command {
    let mut command = strongroom(words);
    command.env("XDG_STATE_HOME", desk.path("nothing")).env("STRONGROOM_SERVER", site.url());
    command.env("STRONGROOM_CA_FILE", site.certificate()).env("STRONGROOM_KEY_FILE", desk.path("key"));
    command
}

#[test]
fn a_program_backs_up_with_a_key_that_can_do_nothing_else_until_it_is_revoked() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    let file = desk.path("key");
    let only = ["key", "create", "nightly, from cron", "--role", "operator", "--only", "read,backup"];
    let create = |output: &str| {
        let mut command = desk.command(only);
        run(command.args(["--store", "s1", "--days", "30", "--output", output]))
    };
    create(file.to_str().unwrap()).expect(0).expect_text("key is in").expect_text("good until");
    let key = fs::read_to_string(&file).unwrap();
    assert!(key.starts_with("srk_"), "{key}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    create(file.to_str().unwrap()).expect(1).expect_text("cannot make");
    create(desk.path("other").to_str().unwrap()).expect(2).expect_text("already");
    assert!(!desk.path("other").exists(), "no empty file is left");

    let key_can = |words| run(&mut with_key(&desk, &site, words));
    run(&mut with_key(&desk, &site, ["backup", "create", "b1", "--store", "s1", "--wait"])).expect(0);
    run(&mut with_key(&desk, &site, ["backup", "list", "--store", "s1"])).expect(0).expect_text("b1");
    key_can(["backup", "delete", "b1", "--store", "s1"])
        .expect(1)
        .expect_text("needs the role administrator");
    key_can(["backup", "create", "b2", "--store", "s2"]).expect(1).expect_text("some stores alone");
    run(&mut with_key(&desk, &site, ["job", "list"])).expect(1).expect_text("some stores alone");
    run(&mut with_key(&desk, &site, ["user", "list"])).expect(1).expect_text("role administrator");
    let listed = desk.run(["key", "list"]).expect(0).expect_text("nightly, from cron").expect_text("s1");
    assert!(!listed.out.contains("srk_"), "{listed}");
    assert_eq!(desk.json(["key", "list"])[0]["operations"], json!(["backup", "read"]));
    assert_eq!(desk.json(["job", "list"])[0]["username"], "key:nightly, from cron");

    desk.run(["key", "revoke", "nightly, from cron"]).expect(0);
    run(&mut with_key(&desk, &site, ["status"])).expect(1).expect_text("revoked");
    desk.run(["key", "revoke", "nightly, from cron"]).expect(1).expect_text("no key");
    // Without a file the key is the one line of standard output.
    let made = desk.run(["key", "create", "other", "--role", "viewer"]).expect(0);
    assert!(made.out.starts_with("srk_") && made.out.lines().count() == 1, "{made}");
    fs::write(&file, &made.out).unwrap();
    run(&mut with_key(&desk, &site, ["status"])).expect(0);
    run(with_key(&desk, &site, ["status"]).env_remove("STRONGROOM_SERVER")).expect(2).expect_text("--server");
    desk.run(["key", "create", "long", "--role", "viewer", "--days", "366"]).expect(2);
    desk.run(["key", "create", "none", "--role", "viewer", "--only", "everything"]).expect(2);
}

#[test]
fn users_are_looked_after_on_the_running_server_and_in_its_state_with_the_same_words() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    let config = site.config();
    fs::write(desk.path("first"), "first-planted-secret").unwrap();
    fs::write(desk.path("second"), "second-planted-secret").unwrap();
    let (first, second) = (desk.path("first"), desk.path("second"));
    let (first, second) = (first.to_str().unwrap(), second.to_str().unwrap());
    let mut told = Vec::new();
    for name in ["Änne am Server", "Änne daneben"] {
        let here = name.ends_with("daneben");
        let user = |words: &[&str]| -> Ran {
            let mut command = desk.command(["user"]);
            command.args(words);
            if here {
                command.env("STRONGROOM_CONFIG", &config);
            }
            run(&mut command)
        };
        let guest = Desk::new(&site);
        let logs_in = |password: &str| {
            fs::write(guest.path("password"), password).unwrap();
            guest.log_in(name).code
        };
        user(&["add", "--username", name, "--role", "operator", "--password-file", first]).expect(0);
        assert_eq!(logs_in("first-planted-secret"), 0);
        user(&["update", "--username", name, "--role", "viewer"]).expect(0);
        guest.run(["status"]).expect(1).expect_text("not logged in");
        let listed = user(&["list"]).expect(0).expect_text(name).expect_text("viewer");
        assert!(listed.out.contains(ADMIN), "{listed}");
        assert_eq!(logs_in("first-planted-secret"), 0);
        user(&["sign-out", "--username", name]).expect(0);
        guest.run(["status"]).expect(1);
        user(&["passwd", "--username", name, "--password-file", second]).expect(0);
        assert_eq!((logs_in("first-planted-secret"), logs_in("second-planted-secret")), (1, 0));
        user(&["update", "--username", name]).expect(2);
        let json = user(&["list", "--json"]).expect(0).json();
        let keys: Vec<_> = json[0][0].as_object().unwrap().keys().cloned().collect();
        user(&["remove", "--username", name]).expect(0);
        user(&["remove", "--username", name]).expect(1).expect_text("no user");
        user(&["remove", "--username", ADMIN]).expect(1).expect_text("only administrator");
        user(&["remove", "--username", ADMIN, "--json"]).expect(1).expect_text("exit_error");
        assert_eq!(logs_in("second-planted-secret"), 1);
        told.push(keys);
    }
    assert_eq!(told[0], told[1], "both tell the same of a user");
}

#[test]
fn who_may_not_manage_users_and_keys_is_told_so() {
    let site = site_with(Options::default());
    site.add_user("olga", "operator", PASSWORD);
    let _server = site.start();
    let desk = Desk::new(&site);
    desk.run(["user", "list"]).expect(2).expect_text("not logged in");
    desk.log_in("olga").expect(0);
    desk.run(["user", "list"]).expect(1).expect_text("role administrator");
    desk.run(["key", "list"]).expect(1).expect_text("role administrator");
    desk.run(["key", "create", "k", "--role", "viewer"]).expect(1).expect_text("role administrator");
}

#[test]
fn what_is_protected_is_told_with_its_last_backup() {
    let site = site_with(Options::default());
    let _server = site.start();
    let desk = Desk::logged_in(&site);
    desk.register(&site);
    desk.run(["component", "list"]).expect(0).expect_text("content").expect_text("none");
    desk.run(["backup", "create", "b1", "--wait"]).expect(0);
    desk.run(["component", "list"]).expect(0).expect_text("b1").expect_text("fileStore");
    assert_eq!(desk.json(["component", "list"])[0]["isMissing"], false);
}
