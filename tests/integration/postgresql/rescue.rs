//! A server of which nothing is left but store and passcode: its files as they were at an instant.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use strongroom_tests::postgres::{self, Postgres};
use strongroom_tests::server::wait_for;
use tempfile::TempDir;

use super::instants::{Times, WEEK, window};
use super::{Scene, drills::scratch};
use crate::command::{Ran, run, strongroom};

fn command_of(scene: &Scene, target: &Path, words: &[&str]) -> Command {
    let mut command = strongroom(["rescue", "postgresql", "--json", "--store"]);
    command.arg(scene.dir.path().join("store")).arg("--target").arg(target).args(words);
    command
}

fn rescue(scene: &Scene, target: &Path, words: &[&str]) -> Ran {
    run(&mut command_of(scene, target, words))
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn numbers(server: &Postgres) -> usize {
    server.sql("counted", "SELECT count(*) FROM numbers").parse().unwrap()
}

/// Room for a server's files, and nothing in it.
fn room(of_servers: bool) -> TempDir {
    postgres::place(of_servers)
}

#[test]
fn a_lost_server_starts_again_from_store_and_passcode_as_it_was_at_any_instant() {
    let Some(times) = Times::new(WEEK) else { return };
    times.write(1, 50);
    times.back_up("one");
    times.write(51, 100);
    let last = times.back_up("two");
    let committed = times.committed();
    times.server().stop();

    // In a directory of ours, and in one of the account's that servers run as.
    let at = committed[69].1 / 1000;
    let expected = committed.iter().filter(|(_, committed)| *committed <= at * 1000).count();
    let place = room(false);
    let told = rescue(&times.scene, &place.path().join("data"), &["--at", &at.to_string()]).expect(0).json();
    let summary = told.iter().find(|line| line["message_type"] == "summary").unwrap();
    assert_eq!(summary["recoveryTime"], at, "{summary}");
    assert!(summary["serverVersion"].as_str().unwrap().contains('.'), "{summary}");
    assert_eq!(names(place.path()), ["data"]);
    let server = Postgres::on(place);
    assert_eq!(numbers(&server), expected);
    assert_eq!(times.committed_on(&server)[..expected], committed[..expected], "when each row was committed");
    // Its own settings are the ones that it had; what was needed to get there is gone.
    assert_eq!(server.sql("postgres", "SHOW track_commit_timestamp"), "on");
    assert_eq!(server.sql("postgres", "SHOW restore_command"), "/bin/false");
    assert_eq!(server.sql("postgres", "SHOW recovery_target_time"), "");
    assert_eq!(server.sql("postgres", "SHOW shared_preload_libraries"), "");
    // And it writes, and survives its death.
    server.sql("counted", "INSERT INTO numbers SELECT generate_series(1000, 1999)");
    server.stop();
    server.start_again();
    assert_eq!(numbers(&server), expected + 1000);

    let place = room(true);
    std::fs::create_dir(place.path().join("data")).unwrap();
    std::os::unix::fs::chown(place.path().join("data"), Some(owner(place.path())), None).unwrap();
    rescue(&times.scene, &place.path().join("data"), &["--component", "gis"]).expect(0);
    assert_eq!(names(place.path()), ["data"]);
    let server = Postgres::on(place);
    assert_eq!(numbers(&server), 100);
    assert_eq!(last.warnings, []);
}

fn owner(path: &Path) -> u32 {
    std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(path).unwrap())
}

#[test]
fn a_rescued_server_takes_the_place_of_nothing_and_what_cannot_be_had_changes_nothing() {
    let Some(times) = Times::new(WEEK) else { return };
    times.write(1, 10);
    let (from, _) = window(&times.back_up("one"));
    times.scene.back_up("rows", &times.scene.component(&["counted"])).unwrap();

    let place = room(false);
    let target = place.path().join("data");
    let refused = |words: &[&str], code: i32, text: &str| {
        rescue(&times.scene, &target, words).expect(code).expect_text(text);
        assert_eq!(names(place.path()), Vec::<String>::new());
    };
    refused(&["--backup", "one", "--at", &(from - 1).to_string()], 1, "at any instant from");
    refused(&["--backup", "one", "--component", "nobody"], 2, "it holds: gis");
    refused(&["--backup", "rows"], 2, "rescue restore");
    refused(&["--backup", "one", "--tools-directory", "/nowhere"], 1, "PostgreSQL server");
    let below = place.path().join("none/data");
    rescue(&times.scene, &below, &["--backup", "one"]).expect(2).expect_text("make it");
    std::os::unix::fs::symlink("/tmp", &target).unwrap();
    rescue(&times.scene, &target, &["--backup", "one"]).expect(2).expect_text("is a link");
    std::fs::remove_file(&target).unwrap();
    rescue(&times.scene, &place.path().join("a,b"), &["--backup", "one"]).expect(2).expect_text("a comma");

    // Somebody else's directory, and one in which a restore was killed.
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    refused(&["--backup", "one"], 2, "others may write");
    std::fs::set_permissions(place.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    std::fs::create_dir(place.path().join(".data.strongroom")).unwrap();
    rescue(&times.scene, &target, &["--backup", "one"]).expect(2).expect_text("was killed");
    std::fs::remove_dir(place.path().join(".data.strongroom")).unwrap();

    std::fs::create_dir(&target).unwrap();
    std::fs::write(target.join("mine"), "mine").unwrap();
    rescue(&times.scene, &target, &["--backup", "one"]).expect(2).expect_text("is not an empty directory");
    assert_eq!(names(&target), ["mine"]);
    assert_eq!(names(place.path()), ["data"]);

    // A damaged base is found before anything has its name.
    let other = scratch();
    let packs = times.scene.dir.path().join("store/vaults");
    damage_packs(&packs);
    let ran = rescue(&times.scene, &other.path().join("data"), &["--backup", "one"]);
    assert_eq!(ran.code, 13, "{ran}");
    assert_eq!(names(other.path()), Vec::<String>::new());
}

#[test]
fn a_rescue_that_is_interrupted_in_its_midst_leaves_nothing() {
    let Some(times) = Times::new(WEEK) else { return };
    times.write(1, 10);
    times.back_up("one");
    let place = room(true);
    let target = place.path().join("data");
    for phase in ["data", "log", "data/postmaster.pid"] {
        let mut child = command_of(&times.scene, &target, &[]).spawn().unwrap();
        let sign = place.path().join(".data.strongroom").join(phase);
        // However soon it ends, it is either whole or not there.
        wait_for("the phase, or the end", || {
            (sign.exists() || child.try_wait().unwrap().is_some()).then_some(())
        });
        let pid = rustix::process::Pid::from_child(&child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        let code = child.wait().unwrap().code();
        match code {
            Some(130) => assert_eq!(names(place.path()), Vec::<String>::new(), "{phase}"),
            _ => {
                assert_eq!((code, names(place.path())), (Some(0), vec!["data".to_owned()]), "{phase}");
                std::fs::remove_dir_all(&target).unwrap();
            }
        }
    }
}

/// Turns a bit in the middle of each large file.
fn damage_packs(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            damage_packs(&path);
        } else if entry.metadata().unwrap().len() > 1 << 20 {
            let mut content = std::fs::read(&path).unwrap();
            let middle = content.len() / 2;
            content[middle] ^= 1;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            std::fs::write(&path, content).unwrap();
        }
    }
}
