//! What we write, restic reads, checks, prunes and restores; and the other way round.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::{Passcode, Repository};
use storage::{Directory, DirectoryOptions};
use strongroom_tests::tree::{Aspect, Picture, am_root, make_odd_tree, make_unnameable_paths, noise};

use crate::command::{PASSCODE, Place, Restic, restic, restics};

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
        but.push((
            "attributes/link",
            Aspect::Attributes,
            "restic sets a link's attributes on what it points to",
        ));
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
            but.push((
                "attributes/link",
                Aspect::Attributes,
                "restic 0.14 does not read attributes of links",
            ));
        }
        if restic.version < (0, 16) {
            but.push((
                "links/not text",
                Aspect::LinkTarget,
                "restic 0.14 does not back up the bytes of such a target",
            ));
        }
        before.assert_same_but(&Picture::take(&inside(&target, &source)), &format!("{restic:?}"), &but);
    }
}

#[test]
fn both_prune_in_turn_and_nothing_is_lost() {
    for restic in restics() {
        let place = Place::with_repository();
        let source = place.path("source");
        fs::create_dir(&source).unwrap();
        let mut generations = Vec::new();
        for number in 0..6 {
            change(&source, number);
            generations.push(Picture::take(&source));
            if number % 2 == 0 {
                place.repo(["backup", source.to_str().unwrap(), "--host", "one"]).expect(0);
            } else {
                place.restic(&restic, ["backup", source.to_str().unwrap(), "--host", "one"]).expect(0);
            }
        }
        place.repo(["forget", "--keep-last", "5", "--prune", "--max-unused", "0"]).expect(0);
        everything_is_there(&place, &restic, &source, &generations[1..]);
        let forget = ["forget", "--keep-last", "4", "--prune", "--max-unused", "0", "--group-by", "host"];
        place.restic(&restic, forget).expect(0);
        everything_is_there(&place, &restic, &source, &generations[2..]);
        place.repo(["forget", "--keep-last", "3"]).expect(0);
        place.repo(["prune", "--max-unused", "0"]).expect(0);
        everything_is_there(&place, &restic, &source, &generations[3..]);
        place.restic(&restic, ["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]).expect(0);
        everything_is_there(&place, &restic, &source, &generations[5..]);
        // What both call unused is gone: a second prune of either finds nothing.
        let again = place.repo(["--json", "prune", "--max-unused", "0"]).expect(0).json();
        assert_eq!(
            (&again[0]["packs_removed"], &again[0]["packs_repacked"]),
            (&0.into(), &0.into()),
            "{again:?}"
        );
    }
}

/// What restic would repack if it were asked to compress what is not.
fn left_to_compress(place: &Place, restic: &Restic) -> String {
    let ran = place.restic(restic, ["prune", "--dry-run", "--repack-uncompressed"]).expect(0);
    let line = ran.out.lines().find(|line| line.starts_with("to repack:"));
    line.unwrap_or_else(|| panic!("nothing is said of repacking: {ran}")).to_owned()
}

#[test]
fn restic_finds_nothing_left_to_compress_and_no_error_after_our_prune() {
    for restic in restics() {
        let place = Place::new();
        let source = place.path("source");
        fs::create_dir_all(source.join("directory/below")).unwrap();
        fs::write(source.join("directory/below/small"), "small").unwrap();
        fs::write(source.join("text"), "the same again and again\n".repeat(100_000)).unwrap();
        fs::write(source.join("noise"), noise(3, 3_000_000)).unwrap();
        let before = Picture::take(&source);
        place.restic(&restic, ["init", "--repository-version", "1"]).expect(0);
        place.restic(&restic, ["backup", source.to_str().unwrap()]).expect(0);
        place.repo(["prune", "--repack-uncompressed"]).expect(2).expect_text("version 1");
        place.restic(&restic, ["migrate", "upgrade_repo_v2"]).expect(0);
        assert!(!left_to_compress(&place, &restic).contains(" 0 blobs"));

        place.repo(["prune", "--repack-uncompressed", "--compression", "off"]).expect(2);
        place.repo(["prune", "--dry-run", "--repack-uncompressed"]).expect(0).expect_text("would repack");
        place.repo(["prune", "--repack-uncompressed", "--compression", "max"]).expect(0);
        let left = left_to_compress(&place, &restic);
        assert!(left.contains(" 0 blobs / 0 B"), "{left}");
        place.restic(&restic, ["check", "--read-data"]).expect(0).expect_text("no errors were found");
        place.repo(["check", "--read-data"]).expect(0);
        place.repo(["prune", "--repack-uncompressed"]).expect(0).expect_text("repacked 0 packs");
        let target = place.path("target");
        place.repo(["restore", "latest", "--verify", "--target", target.to_str().unwrap()]).expect(0);
        before.assert_same(&Picture::take(&inside(&target, &source)), "restored");
    }
}

/// The next generation of a source: some files stay, some change, some go.
fn change(source: &Path, number: u64) {
    fs::write(source.join("stays"), noise(7, 700_000)).unwrap();
    fs::write(source.join("changes in the middle"), {
        let mut bytes = noise(8, 3_000_000);
        bytes[1_000_000..1_100_000].copy_from_slice(&noise(100 + number, 100_000));
        bytes
    })
    .unwrap();
    fs::write(source.join(format!("of generation {number}")), noise(200 + number, 400_000)).unwrap();
    if number >= 2 {
        fs::remove_file(source.join(format!("of generation {}", number - 2))).unwrap();
    }
    let below = source.join(format!("directory {number}"));
    fs::create_dir(&below).unwrap();
    for i in 0..50 {
        fs::write(below.join(format!("{i}")), format!("{number} {i}")).unwrap();
    }
}

/// Both programs find the repository whole, and each generation comes back by the hand of either.
fn everything_is_there(place: &Place, restic: &Restic, source: &Path, generations: &[Picture]) {
    place.repo(["check", "--read-data"]).expect(0);
    place.restic(restic, ["check", "--read-data"]).expect(0).expect_text("no errors were found");
    let snapshots = place.repo(["--json", "snapshots"]).expect(0).json().remove(0);
    let snapshots = snapshots.as_array().unwrap().clone();
    assert_eq!(snapshots.len(), generations.len());
    for (snapshot, before) in snapshots.iter().zip(generations) {
        let id = snapshot["id"].as_str().unwrap();
        let (ours, theirs) = (place.path("ours"), place.path("theirs"));
        place.repo(["restore", id, "--target", ours.to_str().unwrap()]).expect(0);
        before.assert_same(&Picture::take(&inside(&ours, source)), "restored by strongroom");
        place.restic(restic, ["restore", id, "--target", theirs.to_str().unwrap()]).expect(0);
        before.assert_same(&Picture::take(&inside(&theirs, source)), "restored by restic");
        fs::remove_dir_all(&ours).unwrap();
        fs::remove_dir_all(&theirs).unwrap();
    }
}

#[test]
fn each_lists_what_the_other_wrote_in_the_same_words() {
    for restic in restics() {
        let place = Place::with_repository();
        let source = place.path("source");
        make_odd_tree(&source);
        let path = source.to_str().unwrap();
        place.repo(["backup", path, "--tag", "by us", "--tag", "second", "--host", "here"]).expect(0);
        place.restic(&restic, ["backup", path, "--tag", "by them", "--host", "there"]).expect(0);

        let ours = place.repo(["--json", "snapshots"]).expect(0).json().remove(0);
        let theirs = place.restic(&restic, ["--json", "snapshots"]).expect(0).json().remove(0);
        for list in [&ours, &theirs] {
            assert_eq!(list.as_array().unwrap().len(), 2, "{list}");
        }
        for (one, other) in ours.as_array().unwrap().iter().zip(theirs.as_array().unwrap()) {
            for field in ["id", "short_id", "time", "tree", "paths", "hostname", "tags", "parent"] {
                assert_eq!(one[field], other[field], "{field}");
            }
        }
        for host in ["here", "there"] {
            let id = ours.as_array().unwrap().iter().find(|snapshot| snapshot["hostname"] == host).unwrap();
            let id = id["id"].as_str().unwrap();
            let (ours, theirs) =
                (place.repo(["--json", "ls", id]), place.restic(&restic, ["--json", "ls", id]));
            let (ours, theirs) = (ours.expect(0).json(), theirs.expect(0).json());
            assert_eq!(ours.len(), theirs.len(), "entries of the snapshot of {host}");
            for (one, other) in ours.iter().zip(&theirs).skip(1) {
                for field in ["type", "uid", "gid", "mtime", "size"] {
                    assert_eq!(one[field], other[field], "{field} of {other}");
                }
                for field in ["name", "path"] {
                    assert_eq!(readable(&one[field]), readable(&other[field]), "{field} of {other}");
                }
                // restic leaves a mode of 0 out.
                assert_eq!(
                    one["mode"].as_u64(),
                    Some(other["mode"].as_u64().unwrap_or(0)),
                    "mode of {other}"
                );
            }
        }
    }
}

/// Bytes that are no text become marks in JSON: one a byte with restic, one a sequence with us.
fn readable(name: &serde_json::Value) -> String {
    let mut name = name.as_str().unwrap().to_owned();
    while name.contains("\u{fffd}\u{fffd}") {
        name = name.replace("\u{fffd}\u{fffd}", "\u{fffd}");
    }
    name
}

#[test]
fn a_plain_tree_gets_the_same_tree_id_from_both() {
    let place = Place::with_repository();
    let source = place.path("source");
    fs::create_dir_all(source.join("below/and below")).unwrap();
    fs::create_dir(source.join("empty directory")).unwrap();
    for (name, content) in
        [("a file", "one\n"), ("empty", ""), ("below/b-1.txt", "two"), ("below/and below/c", "3")]
    {
        fs::write(source.join(name), content).unwrap();
    }
    fs::hard_link(source.join("a file"), source.join("below/the same file")).unwrap();
    std::os::unix::fs::symlink("a file", source.join("link")).unwrap();
    let restic = restic();
    place.repo(["backup", source.to_str().unwrap(), "--host", "ours"]).expect(0);
    // Without a parent, so that nothing is taken over from our snapshot.
    place.restic(&restic, ["backup", source.to_str().unwrap(), "--host", "theirs", "--force"]).expect(0);

    let options = DirectoryOptions::default();
    let storage = Arc::new(Directory::open(&place.repository(), options).unwrap());
    let repository = Repository::open(storage, &Passcode::new(PASSCODE.to_owned())).unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    let snapshots = repository.snapshots().unwrap().0;
    let trees: Vec<_> = snapshots
        .iter()
        .map(|(id, _)| {
            let mut trees = Vec::new();
            repository::walk(&repository, &index, *id, &mut |path, node| {
                // What lies above the source may change between the two backups.
                if path.starts_with(source.as_os_str().as_encoded_bytes()) {
                    trees.extend(node.subtree);
                }
                Ok(())
            })
            .unwrap();
            trees
        })
        .collect();
    assert_eq!(trees[0].len(), 4);
    assert_eq!(trees[0], trees[1], "tree ids of strongroom and of {restic:?}");
}

#[test]
fn a_repository_of_format_version_1_serves_both() {
    let place = Place::new();
    let restic = restic();
    let source = place.path("source");
    make_odd_tree(&source);
    let before = Picture::take(&source);
    place.restic(&restic, ["init", "--repository-version", "1"]).expect(0);
    place.restic(&restic, ["backup", source.to_str().unwrap(), "--host", "theirs"]).expect(0);
    place.repo(["backup", source.to_str().unwrap(), "--host", "ours"]).expect(0);
    place.repo(["check", "--read-data"]).expect(0);
    place.restic(&restic, ["check", "--read-data"]).expect(0).expect_text("no errors were found");
    let target = place.path("target");
    place.repo(["restore", "latest", "--verify", "--target", target.to_str().unwrap()]).expect(0);
    before.assert_same(&Picture::take(&inside(&target, &source)), "restored from version 1");
    place.repo(["forget", "--keep-last", "1", "--prune", "--max-unused", "0"]).expect(0);
    place.restic(&restic, ["prune", "--max-unused", "0"]).expect(0);
    place.repo(["check", "--read-data"]).expect(0);
    place.restic(&restic, ["check", "--read-data"]).expect(0);
}

#[test]
fn an_attribute_that_the_format_cannot_hold_is_named() {
    let place = Place::with_repository();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let name = std::os::unix::ffi::OsStrExt::from_bytes(b"user.\xff");
    let set = |name: &std::ffi::OsStr| {
        rustix::fs::setxattr(source.join("file"), name, b"value", rustix::fs::XattrFlags::empty()).unwrap();
    };
    set("user.text".as_ref());
    let before = Picture::take(&source);
    set(name);
    let ran = place.repo(["backup", source.to_str().unwrap()]).expect(3);
    assert!(ran.err.contains("user.\\xff") && ran.err.contains("file"), "{ran}");
    let target = place.path("target");
    place.repo(["restore", "latest", "--target", target.to_str().unwrap()]).expect(0);
    before.assert_same(&Picture::take(&inside(&target, &source)), "all but that attribute");
}
