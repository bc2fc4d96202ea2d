//! What `backup` takes and leaves out, as restic does with the same options; and streams.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use strongroom_tests::tree::noise;

use crate::command::{Place, restics};
use crate::world::keys;

/// A source with something for every option.
fn make_source(source: &Path) {
    for (name, content) in [
        ("keep.txt", "keep"),
        ("a.tmp", "temporary"),
        ("deep/b.tmp", "temporary"),
        ("deep/Photo.JPG", "photo"),
        ("deep/other.jpg", "photo"),
        ("build/out/file", "built"),
        ("cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ("cache/file", "cached"),
        ("cache/deep/file", "cached"),
        ("no cache/CACHEDIR.TAG", "Signature: something else"),
        ("no cache/file", "not cached"),
        ("private/.nobackup", "go away"),
        ("private/file", "private"),
        ("private/deep/file", "private"),
        ("{braces}/file", "in braces"),
        ("logs/x.log", "log"),
        ("logs/keep.log", "log"),
    ] {
        let path = source.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    fs::write(source.join("large"), noise(1, 3000)).unwrap();
}

fn listed(place: &Place) -> Vec<String> {
    let mut paths: Vec<_> = place.repo(["ls", "latest"]).expect(0).out.lines().map(str::to_owned).collect();
    paths.sort();
    paths
}

#[test]
fn the_same_is_left_out_as_with_restic() {
    let place = Place::with_repository();
    let source = place.path("source");
    make_source(&source);
    let file = |name: &str, content: String| {
        fs::write(place.path(name), content).unwrap();
        place.path(name).to_str().unwrap().to_owned()
    };
    let patterns =
        file("patterns", format!("# comment\n*.tmp\n\n{}/build\n$NOBODY_SETS_THIS*.jpg\n", source.display()));
    let any_case = file("any case", "*.Jpg\n".to_owned());
    let list = file("list", format!("{0}/deep\n{0}/lo*\n", source.display()));
    let verbatim = file("verbatim", format!("{0}/deep\n{0}/logs\n", source.display()));
    let raw = file("raw", format!("{0}/deep\0{0}/logs\0", source.display()));
    let whole = source.to_str().unwrap();
    let anchored = format!("{whole}/build");
    let options: &[&[&str]] = &[
        &["-e", "*.tmp", whole],
        &["--exclude", "deep", whole],
        &["--exclude", "deep/*.jpg", "--exclude", "{braces}", whole],
        &["--exclude", &anchored, whole],
        &["--exclude", "**/out/**", whole],
        &["--iexclude", "*.JPG", whole],
        &["--exclude-file", &patterns, whole],
        &["--iexclude-file", &any_case, whole],
        &["--exclude-caches", whole],
        &["--exclude-if-present", ".nobackup", whole],
        &["--exclude-if-present", ".nobackup:go", whole],
        &["--exclude-if-present", ".nobackup:stay", whole],
        &["--exclude-larger-than", "2k", whole],
        &["--exclude-larger-than", "3000", whole],
        &["--exclude", "*.log", "--exclude", "!keep.log", whole],
        &["--files-from", &list],
        &["--files-from-verbatim", &verbatim],
        &["--files-from-raw", &raw, &anchored],
        &["--one-file-system", whole],
    ];
    for restic in restics() {
        for options in options {
            // Patterns that take back came with restic 0.15.
            if restic.version < (0, 15) && options.contains(&"!keep.log") {
                continue;
            }
            let arguments: Vec<&str> = ["backup"].into_iter().chain(options.iter().copied()).collect();
            place.restic(&restic, &arguments).expect(0);
            let theirs = listed(&place);
            place.repo(&arguments).expect(0);
            let ours = listed(&place);
            let differ = |a: &[String], b: &[String]| -> Vec<String> {
                a.iter().filter(|one| !b.contains(one)).cloned().collect()
            };
            assert_eq!((differ(&ours, &theirs), differ(&theirs, &ours)), (vec![], vec![]), "{options:?}");
        }
        place.restic(&restic, ["check", "--read-data"]).expect(0);
    }
}

#[test]
fn wrong_options_end_with_2_and_make_no_snapshot() {
    let place = Place::with_repository();
    fs::create_dir(place.path("source")).unwrap();
    let source = place.path("source");
    let source = source.to_str().unwrap();
    for wrong in [
        &["backup"][..],
        &["backup", source, "--exclude", "["],
        &["backup", source, "--exclude-larger-than", "much"],
        &["backup", source, "--exclude-if-present", "a/b"],
        &["backup", source, "--exclude-file", "/nonexistent/list"],
        &["backup", source, "--time", "yesterday"],
        &["backup", source, "--stdin"],
        &["backup", "--stdin-from-command"],
        &["backup", "--stdin", "--stdin-filename", "../out"],
        &["backup", "--stdin", "--files-from", "x"],
    ] {
        place.repo(wrong).expect(2);
    }
    assert!(keys(&place.repository(), "snapshots/").is_empty());
}

#[test]
fn a_stream_is_backed_up_as_one_file_that_both_give_back() {
    let place = Place::with_repository();
    for (length, name) in [(0, "nothing"), (5, "a/b/few"), (9_000_000, "many")] {
        let content = noise(length as u64, length);
        let mut backup = place.repo_command(["backup", "--stdin", "--stdin-filename", name]);
        let mut child = backup.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&content).unwrap();
        assert!(child.wait().unwrap().success());
        let path = format!("/{name}");
        let ours = place.repo_command(["dump", "latest", &path]).output().unwrap();
        assert!(ours.stdout == content, "{name}");
        for restic in restics() {
            let mut dump = place.restic_on(&restic, &place.repository(), ["dump", "latest", &path]);
            assert!(dump.output().unwrap().stdout == content, "{name} by restic");
        }
    }
    for restic in restics() {
        place.restic(&restic, ["check", "--read-data"]).expect(0);
    }
}

#[test]
fn what_a_command_wrote_is_kept_only_if_it_ended_well() {
    let place = Place::with_repository();
    let backup = |script: &str| {
        place.repo([
            "backup",
            "--stdin-from-command",
            "--stdin-filename",
            "dump.sql",
            "--",
            "sh",
            "-c",
            script,
        ])
    };
    backup("echo half; exit 7").expect(1).expect_text("exit status: 7");
    backup("echo half; kill -9 $$").expect(1);
    place.repo(["backup", "--stdin-from-command", "--", "/nonexistent/program"]).expect(1);
    assert!(keys(&place.repository(), "snapshots/").is_empty());
    backup("test -z \"$STRONGROOM_PASSCODE\" && echo whole").expect(0);
    assert_eq!(place.repo(["dump", "latest", "/dump.sql"]).expect(0).out, "whole\n");
}

#[test]
fn time_and_host_are_those_that_were_given() {
    let place = Place::with_repository();
    make_source(&place.path("source"));
    let source = place.path("source");
    let source = source.to_str().unwrap();
    place.repo(["backup", source, "--time", "2020-02-03T04:05:06Z", "--host", "elsewhere"]).expect(0);
    let list = place.repo(["snapshots", "--json", "--host", "elsewhere", "--path", source]).expect(0).json();
    assert_eq!(list[0][0]["time"], "2020-02-03T04:05:06Z");
    // Only what looks changed is read again.
    let touched = Path::new(source).join("keep.txt");
    assert!(Command::new("chmod").arg("600").arg(&touched).status().unwrap().success());
    let summary = |more: &str| {
        place
            .repo(["backup", source, "--host", "elsewhere", "--dry-run", "--json", more])
            .expect(0)
            .json()
            .pop()
            .unwrap()
    };
    assert_eq!(summary("--ignore-ctime")["files_changed"], 0);
    assert_eq!(summary("--no-lock")["files_changed"], 1);
}
