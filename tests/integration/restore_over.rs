//! Restores over what is there: which of it stays, which goes, and what is told beforehand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use strongroom_tests::tree::{Aspect, Picture, am_root};

use crate::command::{Place, restics};

/// A snapshot of `source`, and what lies in a target before a restore of it: older and younger files, one of other
/// content with the same looks, one too many, and a directory too many.
fn with_drift() -> Place {
    let place = Place::with_repository();
    let source = place.path("source");
    fs::create_dir_all(source.join("a")).unwrap();
    for name in ["same", "older", "younger", "alike", "missing", "a/deep"] {
        fs::write(source.join(name), format!("{name} of the snapshot")).unwrap();
    }
    place.repo(["backup", source.to_str().unwrap()]).expect(0);
    place
}

fn drift(place: &Place, target: &Path) {
    let source = place.path("source");
    fs::create_dir_all(target.join("a/other")).unwrap();
    for name in ["same", "older", "younger", "alike", "a/deep"] {
        fs::write(target.join(name), format!("{name} of the snapshot")).unwrap();
    }
    fs::write(target.join("older"), "of the target").unwrap();
    fs::write(target.join("younger"), "of the target").unwrap();
    fs::write(target.join("alike"), "alike of the TARGET!!").unwrap();
    fs::write(target.join("a/other/file"), "too many").unwrap();
    fs::write(target.join("many.log"), "too many").unwrap();
    let set = |name: &str, at: SystemTime| {
        fs::File::options().write(true).open(target.join(name)).unwrap().set_modified(at).unwrap();
    };
    let at = |name: &str| fs::metadata(source.join(name)).unwrap().modified().unwrap();
    let hour = Duration::from_secs(3600);
    for name in ["same", "alike", "a/deep"] {
        set(name, at(name));
    }
    set("older", at("older") - hour);
    set("younger", at("younger") + hour);
}

#[test]
fn a_restore_over_a_drifted_tree_ends_as_with_restic_and_its_dry_run_told_so() {
    let place = with_drift();
    let Some(restic) = restics().into_iter().find(|restic| restic.version >= (0, 17)) else {
        return println!("NOT TESTED: only restic 0.17 and later restore over what is there in this way");
    };
    let snapshot = format!("latest:{}", place.path("source").display());
    for (number, when) in ["always", "if-changed", "if-newer", "never"].into_iter().enumerate() {
        for options in [&[][..], &["--delete"], &["--delete", "--exclude", "*.log"]] {
            let what = format!("--overwrite {when} {options:?}");
            let target = |of: &str| place.path(&format!("{of}-{number}-{}", options.len()));
            let (ours, theirs) = (target("ours"), target("theirs"));
            drift(&place, &ours);
            drift(&place, &theirs);
            let arguments = |target: &Path| {
                let mut all =
                    vec!["restore".to_owned(), snapshot.clone(), "--overwrite".to_owned(), when.to_owned()];
                all.extend(options.iter().map(|&option| option.to_owned()));
                all.extend(["--target".to_owned(), target.display().to_string()]);
                all
            };
            let before = Picture::take(&ours);
            let mut dry = arguments(&ours);
            dry.extend(["--dry-run".to_owned(), "--json".to_owned()]);
            let plan = place.repo(&dry).expect(0).json().pop().unwrap();
            before.assert_same(&Picture::take(&ours), &what);
            let done = place
                .repo([arguments(&ours), vec!["--json".to_owned()]].concat())
                .expect(0)
                .json()
                .pop()
                .unwrap();
            place.restic(&restic, arguments(&theirs)).expect(0);

            let differences = Picture::take(&theirs).differences(&Picture::take(&ours));
            let real: Vec<_> = differences
                .into_iter()
                .filter(|d| matches!(d.aspect, Aspect::Missing | Aspect::Surplus | Aspect::Content))
                .collect();
            assert!(real.is_empty(), "{what}: {real:?}");
            assert_eq!(plan["files_deleted"], done["files_deleted"], "{what}");
            assert_eq!(plan["files_skipped"], done["files_skipped"], "{what}");
            assert_eq!(plan["bytes_restored"], done["bytes_restored"], "{what}");
        }
    }
}

#[test]
fn what_nobody_can_mean_is_refused_before_anything_happens() {
    let place = with_drift();
    let target = place.path("out");
    drift(&place, &target);
    let before = Picture::take(&target);
    place.repo(["restore", "latest", "--target", "/", "--delete"]).expect(2).expect_text("--include");
    let out = target.to_str().unwrap();
    place
        .repo(["restore", "latest", "-t", out, "--verify", "--overwrite", "never"])
        .expect(2)
        .expect_text("--verify");
    place.repo(["restore", "latest", "-t", out, "--verify", "--dry-run"]).expect(2);
    place.repo(["restore", "latest", "-t", out, "--overwrite", "sometimes"]).expect(2);
    before.assert_same(&Picture::take(&target), "nothing was restored");
    let told = place.repo([
        "restore",
        &format!("latest:{}", place.path("source").display()),
        "-t",
        out,
        "-n",
        "--delete",
    ]);
    let lines = ["+ /missing", "M /older", "M /alike", "- /many.log", "- /a/other", "would make 1 entry"];
    lines.into_iter().fold(told.expect(0), |told, line| told.expect_text(line));
    before.assert_same(&Picture::take(&target), "nothing was restored");
}

#[test]
fn what_lies_on_another_file_system_is_not_removed() {
    if !am_root() {
        return println!("NOT TESTED: only root can mount");
    }
    let place = Place::with_repository();
    let source = place.path("source");
    fs::create_dir_all(source.join("disk")).unwrap();
    let mounted = Mounted::at(&source.join("disk"));
    fs::write(source.join("disk/file"), "on another disk").unwrap();
    place.repo(["backup", "--one-file-system", source.to_str().unwrap()]).expect(0);
    fs::write(source.join("other"), "not in the snapshot").unwrap();
    let snapshot = format!("latest:{}", source.display());
    let arguments = ["restore", &snapshot, "--target", source.to_str().unwrap(), "--delete"];
    let plan = place.repo([&arguments[..], &["--dry-run"]].concat()).expect(0).expect_text("- /other");
    assert!(!plan.out.contains("disk"), "{plan}");
    place.repo(arguments).expect(3).expect_text("another file system");
    assert!(source.join("disk/file").exists() && !source.join("other").exists());
    drop(mounted);
}

/// A small file system in memory, until this goes.
struct Mounted(PathBuf);

impl Mounted {
    fn at(path: &Path) -> Self {
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(path).status();
        assert!(mount.unwrap().success());
        Self(path.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
