//! Keys, tags and copies: whatever one program did, the other opens, reads and finds whole.

use std::fs;
use std::path::Path;
use std::process::Command;

use strongroom_tests::tree::{Picture, make_odd_tree};

use crate::command::{Place, Ran, restics, run, strongroom};

const SECOND: &str = "another good passcode";

/// `strongroom repo …` on the repository with the second passcode.
fn repo_with_second(place: &Place, arguments: &[&str]) -> Ran {
    run(place.repo_command(arguments).env("STRONGROOM_PASSCODE", SECOND))
}

fn restic_with(program: &Path, repository: &Path, password_file: &Path, arguments: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.arg("--no-cache").arg("--repo").arg(repository).args(arguments);
    run(command.env("RESTIC_PASSWORD_FILE", password_file))
}

fn key_ids(place: &Place) -> Vec<(String, bool)> {
    let list = place.repo(["key", "list", "--json"]).expect(0).json();
    let one =
        |key: &serde_json::Value| (key["id"].as_str().unwrap().to_owned(), key["current"].as_bool().unwrap());
    list[0].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn a_key_that_either_program_added_opens_for_both_and_the_one_in_use_stays() {
    for restic in restics() {
        let place = Place::with_repository();
        fs::write(place.path("second"), SECOND).unwrap();
        let second = place.path("second");
        let second = second.to_str().unwrap();
        place.repo(["key", "add", "--new-passcode-file", second, "--user", "somebody"]).expect(0);
        restic_with(&restic.path, &place.repository(), Path::new(second), &["snapshots"]).expect(0);
        repo_with_second(&place, &["snapshots"]).expect(0);
        assert!(place.restic(&restic, ["key", "list"]).expect(0).out.contains("somebody"));

        let third = place.path("third");
        fs::write(&third, "a third passcode").unwrap();
        place.restic(&restic, ["key", "add", "--new-password-file", third.to_str().unwrap()]).expect(0);
        run(place.repo_command(["snapshots"]).env("STRONGROOM_PASSCODE", "a third passcode")).expect(0);
        let keys = key_ids(&place);
        assert_eq!((keys.len(), keys.iter().filter(|(_, current)| *current).count()), (3, 1));

        let in_use = &keys.iter().find(|(_, current)| *current).unwrap().0;
        place.repo(["key", "remove", in_use]).expect(1).expect_text("in use");
        place.repo(["key", "remove", "zz"]).expect(1).expect_text("no key");
        for (other, _) in keys.iter().filter(|(_, current)| !current) {
            place.repo(["key", "remove", &other[..16]]).expect(0);
        }
        place.repo(["key", "remove", in_use]).expect(1);
        assert_eq!(key_ids(&place).len(), 1);
        repo_with_second(&place, &["snapshots"]).expect(12);
        place.restic(&restic, ["snapshots"]).expect(0);
    }
}

#[test]
fn a_changed_passcode_opens_and_the_old_one_does_not() {
    let place = Place::with_repository();
    fs::write(place.path("second"), SECOND).unwrap();
    let second = place.path("second");
    place.repo(["key", "passwd", "--new-passcode-file", second.to_str().unwrap()]).expect(0);
    place.repo(["snapshots"]).expect(12);
    repo_with_second(&place, &["snapshots"]).expect(0);
    for restic in restics() {
        restic_with(&restic.path, &place.repository(), &second, &["check"]).expect(0);
    }
    fs::write(&second, "short").unwrap();
    let ran = repo_with_second(&place, &["key", "passwd", "--new-passcode-file", second.to_str().unwrap()]);
    ran.expect(2).expect_text("fewer than 8");
    repo_with_second(&place, &["snapshots"]).expect(0);
}

/// A repository with two snapshots of a tree of oddities, made by our program, or by restic.
fn with_odd_tree(restic: Option<&crate::command::Restic>) -> Place {
    let place = Place::new();
    let source = place.path("source");
    make_odd_tree(&source);
    for tag in ["first", "second"] {
        fs::write(source.join("which"), tag).unwrap();
        match restic {
            None => {
                if tag == "first" {
                    place.repo(["init"]).expect(0);
                }
                place.repo(["backup", "--tag", tag, source.to_str().unwrap()]).expect(0);
            }
            Some(restic) => {
                if tag == "first" {
                    place.restic(restic, ["init"]).expect(0);
                }
                place.restic(restic, ["backup", "--tag", tag, source.to_str().unwrap()]).expect(0);
            }
        }
    }
    place
}

fn copy(from: &Place, to: &Place, more: &[&str]) -> Ran {
    let passcode = from.path("passcode");
    let mut command = to.repo_command(["copy", "--from-repository"]);
    command.arg(from.repository()).arg("--from-passcode-file").arg(passcode).args(more);
    run(&mut command)
}

fn tree_ids(place: &Place) -> Vec<String> {
    let list = place.repo(["snapshots", "--json"]).expect(0).json();
    let tree = |one: &serde_json::Value| one["tree"].as_str().unwrap().to_owned();
    list[0].as_array().unwrap().iter().map(tree).collect()
}

#[test]
fn copies_hold_the_same_trees_under_another_key_and_a_second_copy_adds_nothing() {
    for restic in restics() {
        for from in [with_odd_tree(None), with_odd_tree(Some(&restic))] {
            let to = Place::new();
            fs::write(to.path("passcode"), SECOND).unwrap();
            let init = ["repo", "init", "--repository", to.repository().to_str().unwrap()].map(str::to_owned);
            run(strongroom(init).env("STRONGROOM_PASSCODE", SECOND)).expect(0);
            let copy = |more: &[&str]| {
                let mut command = to.repo_command(["copy", "--from-repo"]);
                command.arg(from.repository()).arg("--from-passcode-file").arg(from.path("passcode"));
                run(command.args(more).env("STRONGROOM_PASSCODE", SECOND))
            };
            copy(&["--tag", "second"]).expect(0).expect_text("copied 1 snapshot");
            copy(&[]).expect(0).expect_text("copied 1 snapshot, 1 were there already");
            let summary = copy(&["--json"]).expect(0).json().pop().unwrap();
            assert_eq!((&summary["snapshots_copied"], &summary["snapshots_skipped"]), (&0.into(), &2.into()));

            to.restic(&restic, ["check", "--read-data"]).expect(0);
            let list = repo_with_second(&to, &["snapshots", "--json"]).expect(0).json();
            let list = list[0].as_array().unwrap();
            assert_eq!(list.len(), 2);
            for one in list {
                assert!(tree_ids(&from).contains(&one["tree"].as_str().unwrap().to_owned()));
                assert!(one["original"].is_string() && one["parent"].is_null(), "{one}");
            }
            let target = to.path("target");
            repo_with_second(&to, &["restore", "latest", "--verify", "--target", target.to_str().unwrap()])
                .expect(0);
            assert_eq!(
                fs::read(target.join(from.path("source/which").strip_prefix("/").unwrap())).unwrap(),
                b"second"
            );
        }
    }
}

#[test]
fn a_copy_of_a_repository_onto_itself_is_refused() {
    let place = Place::with_repository();
    copy(&place, &place, &[]).expect(2).expect_text("the same repository");
}

#[test]
fn a_copy_that_meets_damage_ends_with_13_and_makes_no_snapshot() {
    let (from, to) = (with_odd_tree(None), Place::with_repository());
    for key in crate::world::keys(&from.repository(), "data/") {
        let path = from.repository().join(key);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[..middle].fill(0);
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    copy(&from, &to, &[]).expect(13);
    assert!(crate::world::keys(&to.repository(), "snapshots/").is_empty());
    to.repo(["check", "--read-data"]).expect(0);
}

#[test]
fn tags_change_and_everything_else_of_a_snapshot_stays() {
    for restic in restics() {
        let place = with_odd_tree(Some(&restic));
        let before = Picture::take(&place.path("source"));
        let trees = tree_ids(&place);
        place.repo(["tag", "--add", "x,y", "--remove", "first"]).expect(0).expect_text("changed 2");
        place.repo(["tag", "--add", "x"]).expect(0).expect_text("changed 0");
        place.restic(&restic, ["tag", "--add", "z", "latest"]).expect(0);
        place.repo(["tag", "--tag", "second,z", "--set", "only"]).expect(0).expect_text("changed 1");
        let list = place.repo(["snapshots", "--json"]).expect(0).json();
        let tags: Vec<_> = list[0].as_array().unwrap().iter().map(|one| one["tags"].to_string()).collect();
        assert_eq!(tags, [r#"["x","y"]"#, r#"["only"]"#]);
        assert_eq!(tree_ids(&place), trees);
        place.repo(["tag", "--set", ""]).expect(0);
        place.repo(["tag"]).expect(2);
        assert_eq!(
            place.restic(&restic, ["snapshots", "--tag", "x"]).expect(0).out.matches("/source").count(),
            0
        );
        place.restic(&restic, ["check"]).expect(0);
        before.assert_same(&Picture::take(&place.path("source")), "the source");
    }
}
