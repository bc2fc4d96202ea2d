//! What we write, restic reads, checks, prunes and restores; and the other way round.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::{Control, Passcode, Repository};
use storage::{Directory, DirectoryOptions};
use strongroom_tests::tree::{Aspect, Picture, am_root, make_odd_tree, make_unnameable_paths, noise};

use crate::command::{PASSCODE, Place, Restic, restic, restics, run};

/// An absolute path as it lies below the target of a restore.
fn inside(target: &Path, path: &Path) -> PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

#[test]
fn a_tree_of_oddities_comes_back_as_it_was() {
    let place = Place::with_repository();
    let source = place.path("source");
    make_odd_tree(&source);
    make_unnameable_paths(&source.join("unnameable"));
    let before = Picture::take(&source);
    place.repo(["backup", source.to_str().unwrap()]).expect(0);
    place.repo(["check", "--read-data"]).expect(0);
    let target = place.path("target");
    place.repo(["restore", "latest", "--verify", "--target", target.to_str().unwrap()]).expect(0);
    before.assert_same(&Picture::take(&inside(&target, &source)), "restored whole");

    let part = place.path("part");
    let what = format!("latest:{}", source.display());
    place.repo(["restore", &what, "--target", part.to_str().unwrap()]).expect(0);
    before.assert_same(&Picture::take(&part), "restored as a part");
    before.assert_same(&Picture::take(&source), "the source itself");
}

#[test]
fn restic_checks_and_restores_what_strongroom_backed_up() {
    for restic in restics() {
        let place = Place::with_repository();
        let source = place.path("source");
        make_odd_tree(&source);
        let before = Picture::take(&source);
        place.repo(["backup", source.to_str().unwrap()]).expect(0);
        place.restic(&restic, ["check", "--read-data"]).expect(0).expect_text("no errors were found");

        let target = place.path("target");
        let mut restore = vec!["restore", "latest", "--target", target.to_str().unwrap()];
        if restic.version >= (0, 15) {
            restore.push("--sparse");
        }
        let ran = place.restic(&restic, restore);
        println!("{ran}");
        let after = Picture::take(&inside(&target, &source));
        before.assert_same_but(&after, &format!("{restic:?}"), &restic_cannot_restore(&restic));
    }
}

/// What this restic does not bring back of a snapshot that holds it.
fn restic_cannot_restore(restic: &Restic) -> Vec<(&'static str, Aspect, &'static str)> {
    let mut but = vec![
        ("special/socket", Aspect::Missing, "no restic makes sockets"),
        ("links/dangling", Aspect::HardLinks, "restic restores hard links of regular files only"),
        ("links/other/a second name of a symbolic link", Aspect::HardLinks, "as above"),
    ];
    if restic.version < (0, 15) && am_root() {
        but.push(("attributes/link", Aspect::Attributes, "restic sets a link's attributes on what it points to"));
        but.push(("attributes/file", Aspect::Attributes, "as above: the link points to it"));
    }
    if restic.version < (0, 16) {
        but.push(("links/not text", Aspect::LinkTarget, "linktarget_raw came with restic 0.16"));
    }
    if restic.version < (0, 15) {
        for file in SPARSE {
            but.push((file, Aspect::Holes, "restore --sparse came with restic 0.15"));
        }
    }
    but
}

const SPARSE: [&str; 5] = [
    "sparse/hole at the start",
    "sparse/hole in the middle",
    "sparse/hole at the end",
    "sparse/nothing but a hole",
    "sparse/holes of odd sizes",
];

#[test]
fn strongroom_checks_and_restores_what_restic_backed_up() {
    for restic in restics() {
        let place = Place::new();
        let source = place.path("source");
        make_odd_tree(&source);
        let before = Picture::take(&source);
        place.restic(&restic, ["init"]).expect(0);
        place.restic(&restic, ["backup", source.to_str().unwrap()]).expect(0);
        place.repo(["check", "--read-data"]).expect(0);
        let target = place.path("target");
        place.repo(["restore", "latest", "--verify", "--target", target.to_str().unwrap()]).expect(0);
        let mut but = vec![("special/socket", Aspect::Missing, "restic does not back up sockets")];
        if restic.version < (0, 15) && am_root() {
            but.push(("attributes/link", Aspect::Attributes, "restic 0.14 does not read attributes of links"));
        }
        if restic.version < (0, 16) {
            but.push(("links/not text", Aspect::LinkTarget, "restic 0.14 does not back up the bytes of such a target"));
        }
        before.assert_same_but(&Picture::take(&inside(&target, &source)), &format!("{restic:?}"), &but);
    }
}
