//! The first minute with the product: `quickstart` tells its whole story without a terminal, and leaves what it promised.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_tests::tree::{Aspect, Picture, make_odd_tree, noise};

use crate::command::{Place, Ran, restic, run, strongroom};
use crate::disk_full::SmallDisk;

fn free_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// Runs `quickstart --once`; what it says must be plain text, without a secret that a log would keep.
fn quickstart(directory: &Path, more: &[&str]) -> Ran {
    let mut command = strongroom(["quickstart", "--once", "--port", &free_port(), "--directory"]);
    let ran = run(command.arg(directory).args(more).env_remove("STRONGROOM_PASSCODE"));
    assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'), "colour in a pipe: {ran}");
    ran
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The only vault of the store.
fn vault(directory: &Path) -> PathBuf {
    let vaults: Vec<_> =
        fs::read_dir(directory.join("store/vaults")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(vaults.len(), 1, "{vaults:?}");
    vaults[0].clone()
}

/// restic with the passcode that quickstart left.
fn restic_on(directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(restic().path);
    command.arg("--no-cache").arg("--repo").arg(vault(directory)).args(arguments);
    run(command.env("RESTIC_PASSWORD_FILE", directory.join("passcode"))).expect(0)
}

fn backups(directory: &Path) -> usize {
    fs::read_dir(directory.join("store/backups")).map_or(0, |entries| entries.count())
}

#[test]
fn quickstart_tells_its_story_and_leaves_what_it_promised() {
    let place = Place::new();
    let directory = place.path("quickstart");
    let told = quickstart(&directory, &[]).expect(0);
    let told = told.expect_text("identical").expect_text("/admin").expect_text("restic -r");
    let password = fs::read_to_string(directory.join("admin-password")).unwrap();
    assert!(told.out.contains(password.trim()), "the password is shown at the first run");
    let passcode = fs::read_to_string(directory.join("passcode")).unwrap();
    let log = fs::read_to_string(directory.join("server.log")).unwrap();
    for secret in [password.trim(), passcode.trim()] {
        assert!(secret.len() >= 8);
        assert!(!log.contains(secret), "a secret is in the log");
    }
    assert!(!format!("{}{}", told.out, told.err).contains(passcode.trim()), "the passcode is told");

    assert_eq!(mode(&directory), 0o700);
    for secret in ["admin-password", "passcode", "master.key", "key.pem"] {
        assert_eq!(mode(&directory.join(secret)), 0o600, "{secret}");
    }
    assert_eq!(mode(&directory.join("strongroom.toml")) & 0o007, 0, "strongroom.toml is not for everybody");
    assert!(count_files(&directory.join("content")) > 1_000, "a few thousand files");

    restic_on(&directory, &["check", "--read-data"]).expect_text("no errors were found");
    let target = place.path("by restic");
    restic_on(&directory, &["restore", "latest", "--target", target.to_str().unwrap()]);
    let content = directory.join("content");
    let restored = target.join(content.canonicalize().unwrap().strip_prefix("/").unwrap());
    run(Command::new("diff").args(["--recursive", "--no-dereference"]).arg(&content).arg(&restored))
        .expect(0);
    let before = Picture::take(&content);
    let differences = before.differences(&Picture::take(&restored));
    assert!(differences.iter().all(|d| d.aspect == Aspect::Holes), "restored by restic: {differences:#?}");

    let rescued = place.path("rescued");
    let mut rescue = strongroom(["rescue", "restore", "--store"]);
    rescue.arg(directory.join("store")).arg("--target").arg(&rescued);
    rescue.arg("--passcode-file").arg(directory.join("passcode")).env_remove("STRONGROOM_PASSCODE");
    run(&mut rescue).expect(0);
    before.assert_same(&Picture::take(&rescued), "rescued");

    second_run(&directory, &before);
}

fn count_files(directory: &Path) -> usize {
    run(Command::new("find").arg(directory).args(["-type", "f", "-printf", "x\\n"]))
        .expect(0)
        .out
        .lines()
        .count()
}

/// Goes on with what is there: the same secrets, the same content, one backup more, nothing stored twice.
fn second_run(directory: &Path, before: &Picture) {
    let secrets = || {
        let files =
            ["admin-password", "passcode", "master.key", "key.pem", "certificate.pem", "strongroom.toml"];
        files
            .map(|name| (name, fs::read(directory.join(name)).unwrap()))
            .into_iter()
            .collect::<BTreeMap<_, _>>()
    };
    let (kept, stored) = (secrets(), bytes_of(&vault(directory)));
    let told = quickstart(directory, &[]).expect(0).expect_text("identical");
    let password = fs::read_to_string(directory.join("admin-password")).unwrap();
    assert!(!told.out.contains(password.trim()), "the password is shown once only");
    assert_eq!(kept, secrets());
    assert_eq!(backups(directory), 2);
    before.assert_same(&Picture::take(&directory.join("content")), "content after the second run");
    let added = bytes_of(&vault(directory)) - stored;
    assert!(added < 2 << 20, "the second backup of the same content added {added} bytes");
    restic_on(directory, &["check", "--read-data"]);
}

fn bytes_of(directory: &Path) -> u64 {
    Picture::take(directory).entries.values().map(|entry| entry.size).sum()
}

#[test]
fn quickstart_with_protect_leaves_the_directory_untouched() {
    let place = Place::new();
    let (directory, own) = (place.path("quickstart"), place.path("own"));
    make_odd_tree(&own);
    let before = Picture::take(&own);
    let changed =
        |path: &Path| run(Command::new("find").arg(path).args(["-printf", "%C@ %p\\n"])).expect(0).out;
    let times = changed(&own);
    quickstart(&directory, &["--protect", own.to_str().unwrap()]).expect(0).expect_text("identical");
    assert_eq!(times, changed(&own), "times of change in the protected directory");
    before.assert_same(&Picture::take(&own), "the protected directory");
    let restored: Vec<_> =
        fs::read_dir(directory.join("restored")).unwrap().map(|entry| entry.unwrap().path()).collect();
    before.assert_same(&Picture::take(&restored[0]), "its restored copy");
    assert!(!directory.join("content").exists(), "no sample is made beside a directory of one's own");

    // The same place cannot be used for something else, nor protect itself.
    quickstart(&directory, &[]).expect(2);
    quickstart(&place.path("other"), &["--protect", place.dir.path().to_str().unwrap()]).expect(2);
    quickstart(&place.path("other"), &["--protect", "/no/such/directory"]).expect(2);
    before.assert_same(&Picture::take(&own), "the protected directory after refusals");
}

#[test]
fn quickstart_on_a_full_disk_fails_by_name_and_damages_nothing() {
    let place = Place::new();
    let directory = place.path("quickstart");
    let Some(disk) = SmallDisk::mount(&directory.join("store"), 8 << 20) else { return };
    // Seen before it begins: a store needs some room.
    let refused = quickstart(&directory, &[]).expect(10).expect_text("free");
    let store = directory.join("store");
    assert!(refused.err.contains(store.to_str().unwrap()), "the place is not named: {refused}");
    // Seen only when the room is gone.
    disk.resize(128 << 20);
    fs::write(directory.join("content/too much"), noise(1, 120 << 20)).unwrap();
    let failed = quickstart(&directory, &[]).expect(1).expect_text("no space");
    assert!(failed.err.contains(store.to_str().unwrap()), "the place is not named: {failed}");
    for ran in [refused, failed] {
        assert!(!ran.out.contains("Disaster"), "content was damaged without a backup of it: {ran}");
    }
    assert_eq!(backups(&directory), 0);
    fs::remove_file(directory.join("content/too much")).unwrap();
    disk.resize(256 << 20);
    quickstart(&directory, &[]).expect(0).expect_text("identical");
}
