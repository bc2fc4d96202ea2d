//! Looking into snapshots: what `find`, `dump`, `diff` and `stats` say is what is there, and what restic says.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use strongroom_tests::tree::{Aspect, Picture, am_root, make_odd_tree, noise};

use crate::command::{Place, is_installed, restics, run};

/// Two snapshots of a tree of oddities, between which something of every sort happened.
fn with_two_snapshots() -> Place {
    let place = Place::with_repository();
    let source = place.path("source");
    make_odd_tree(&source);
    fs::create_dir_all(source.join("goes/deep")).unwrap();
    fs::write(source.join("goes/deep/file"), noise(5, 3000)).unwrap();
    fs::write(source.join("becomes a directory"), "file").unwrap();
    fs::write(source.join("changes"), noise(6, 2_000_000)).unwrap();
    fs::write(source.join("moves"), noise(7, 5000)).unwrap();
    place.repo(["backup", source.to_str().unwrap()]).expect(0);
    fs::remove_dir_all(source.join("goes")).unwrap();
    fs::remove_file(source.join("becomes a directory")).unwrap();
    fs::create_dir(source.join("becomes a directory")).unwrap();
    fs::write(source.join("changes"), noise(8, 1_500_000)).unwrap();
    fs::rename(source.join("moves"), source.join("moved")).unwrap();
    fs::create_dir(source.join("comes")).unwrap();
    fs::write(source.join("comes/file"), "new").unwrap();
    place.repo(["backup", source.to_str().unwrap()]).expect(0);
    place
}

fn snapshot_ids(place: &Place) -> Vec<String> {
    let list = place.repo(["snapshots", "--json"]).expect(0).json();
    list[0].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_differs_between_two_snapshots_is_what_restic_says() {
    let place = with_two_snapshots();
    let ids = snapshot_ids(&place);
    for restic in restics() {
        for more in [&[][..], &["--metadata"]] {
            let arguments: Vec<&str> =
                ["diff", "--json", &ids[0], &ids[1]].into_iter().chain(more.iter().copied()).collect();
            let ours = place.repo(&arguments).expect(0).json();
            let theirs = place.restic(&restic, &arguments).expect(0).json();
            let changes = |told: &[Value]| -> Vec<String> {
                let changes = told.iter().filter(|one| one["message_type"] == "change");
                let mut changes: Vec<_> =
                    changes.map(|one| format!("{} {}", one["modifier"], one["path"])).collect();
                changes.sort();
                changes
            };
            assert_eq!(changes(&ours), changes(&theirs), "{more:?}");
            for figure in ["changed_files", "added", "removed"] {
                let of = |told: &[Value]| told.last().unwrap()[figure].clone();
                assert_eq!(of(&ours), of(&theirs), "{figure}");
            }
        }
    }
    let same = place.repo(["diff", "--json", &ids[0], &ids[0]]).expect(0).json();
    assert_eq!(same.len(), 1);
}

#[test]
fn sizes_are_counted_as_restic_counts_them() {
    let place = with_two_snapshots();
    for restic in restics() {
        for mode in ["restore-size", "files-by-contents", "raw-data", "blobs-per-file"] {
            for snapshots in [&["latest"][..], &[]] {
                let arguments: Vec<&str> = ["stats", "--json", "--mode", mode]
                    .into_iter()
                    .chain(snapshots.iter().copied())
                    .collect();
                let (ours, theirs) = (
                    place.repo(&arguments).expect(0).json(),
                    place.restic(&restic, &arguments).expect(0).json(),
                );
                for figure in
                    ["total_size", "total_file_count", "total_blob_count", "total_uncompressed_size"]
                {
                    if figure == "total_uncompressed_size" && restic.version < (0, 15) {
                        continue;
                    }
                    let of = |told: &[Value]| told[0][figure].as_u64().unwrap_or(0);
                    assert_eq!(of(&ours), of(&theirs), "{figure} of {mode} {snapshots:?}");
                }
            }
        }
    }
}

/// All paths of all snapshots that were found.
fn found(told: &[Value]) -> Vec<String> {
    let matches = told[0].as_array().unwrap().iter().flat_map(|one| one["matches"].as_array().unwrap());
    let paths = matches.map(|one| format!("{} {}", one["path"], one["type"]));
    // What is no text is told in JSON with a replacement for each byte, or for several.
    let mut paths: Vec<_> = paths.filter(|path| !path.contains(char::REPLACEMENT_CHARACTER)).collect();
    paths.sort();
    paths
}

#[test]
fn what_is_found_is_what_restic_finds() {
    let place = with_two_snapshots();
    for restic in restics() {
        for arguments in [
            &["file"][..],
            &["FILE", "-i"],
            &["*e*"],
            &["goes"],
            &["comes/*"],
            &["nothing at all"],
            &["changes", "--newest", "2001-01-01"],
            &["changes", "--oldest", "2001-01-01"],
        ] {
            let arguments: Vec<&str> =
                ["find", "--json"].into_iter().chain(arguments.iter().copied()).collect();
            let ours = place.repo(&arguments).expect(0).json();
            let theirs = place.restic(&restic, &arguments).expect(0).json();
            let (ours, theirs) = (found(&ours), found(&theirs));
            let differ: Vec<_> = ours.iter().filter(|one| !theirs.contains(one)).collect();
            assert_eq!(differ, Vec::<&String>::new(), "{arguments:?}: found by us alone");
            assert_eq!(ours.len(), theirs.len(), "{arguments:?}");
        }
    }
    place.repo(["find", "goes"]).expect(0).expect_text("/goes/deep/file");
    place.repo(["find", "["]).expect(2);
    // By blob: the one that the file consists of.
    let index = place.repo(["find", "--json", "moved"]).expect(0);
    assert_eq!(index.json()[0].as_array().unwrap().len(), 1);
}

#[test]
fn a_listing_is_found_where_restic_finds_it_also_at_the_root_of_a_snapshot() {
    let place = with_two_snapshots();
    let list = place.repo(["snapshots", "--json"]).expect(0).json();
    for snapshot in list[0].as_array().unwrap() {
        let (id, tree) = (snapshot["id"].as_str().unwrap(), snapshot["tree"].as_str().unwrap());
        let ours = place.repo(["find", "--json", "--tree", tree]).expect(0).json();
        let one = &ours[0][0];
        assert_eq!((&one["path"], &one["object_type"]), (&json!("/"), &json!("tree")), "{ours:?}");
        assert_eq!((&one["snapshot"], one.get("parent_tree")), (&json!(id), None), "{ours:?}");
        assert_eq!(ours[0].as_array().unwrap().len(), 1, "{ours:?}");
        place.repo(["find", "--long", "--tree", tree]).expect(0).expect_text(&id[..8]);
        assert!(place.repo(["find", "--tree", tree]).out.lines().any(|line| line == "/"));
        // restic 0.14 does not look at the root.
        for restic in restics().into_iter().filter(|restic| restic.version >= (0, 19)) {
            let theirs = place.restic(&restic, ["find", "--tree", tree]).expect(0);
            assert!(theirs.out.lines().any(|line| line.trim() == "... path /"), "{theirs}");
        }
    }
}

#[test]
fn a_path_that_is_not_in_the_snapshot_is_an_error_and_no_empty_list() {
    let place = with_two_snapshots();
    let source = place.path("source");
    let inside = format!("latest:{}", source.display());
    for nowhere in ["latest:/nowhere", &format!("{inside}/moved/below a file"), &format!("{inside}/mov")] {
        let ran = place.repo(["ls", nowhere]).expect(1).expect_text("the snapshot has no '/");
        assert_eq!(ran.out, "", "{nowhere}");
        assert_eq!(place.repo(["ls", "--json", nowhere]).expect(1).out, "", "{nowhere}");
    }
    let all = place.repo(["ls", &inside]).expect(0).out;
    assert!(all.lines().count() > 1000, "{all}");
    for same in [format!("{inside}/"), inside.replace(":/", ":"), inside.replacen('/', "//./", 1)] {
        assert_eq!(place.repo(["ls", &same]).expect(0).out, all, "{same}");
    }
    let whole = place.repo(["ls", "latest"]).expect(0).out;
    for root in ["latest:/", "latest:"] {
        assert_eq!(place.repo(["ls", root]).expect(0).out, whole, "{root}");
    }
}

#[test]
fn what_is_listed_in_json_has_all_that_restic_tells() {
    let place = with_two_snapshots();
    let tell = ["ls", "--json", "latest"];
    let ours = place.repo(tell).expect(0).json();
    for restic in restics() {
        let theirs = place.restic(&restic, tell).expect(0).json();
        assert_eq!(ours.len(), theirs.len());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let is_text = !theirs.to_string().contains(char::REPLACEMENT_CHARACTER);
            // Ours are as `ls` shows them, with neither sticky bit nor set-uid.
            let fields = theirs.as_object().unwrap().iter().filter(|(field, _)| *field != "permissions");
            for (field, value) in fields.filter(|_| is_text) {
                assert_eq!(ours.get(field), Some(value), "{field}: {ours}");
            }
        }
    }
}

#[test]
fn a_dumped_file_is_the_file() {
    let place = with_two_snapshots();
    for name in ["changes", "moved", "comes/file"] {
        let path = place.path("source").join(name);
        let target = place.path("dumped");
        place
            .repo(["dump", "latest", path.to_str().unwrap(), "--target", target.to_str().unwrap()])
            .expect(0);
        assert_eq!(fs::read(&target).unwrap(), fs::read(&path).unwrap(), "{name}");
        let piped = place.repo_command(["dump", "latest", path.to_str().unwrap()]).output().unwrap();
        assert_eq!(piped.stdout, fs::read(&path).unwrap(), "{name}");
    }
    let source = place.path("source");
    let inside = format!("latest:{}", source.display());
    let piped = place.repo_command(["dump", &inside, "/comes/file"]).output().unwrap();
    assert_eq!(piped.stdout, b"new");
    place.repo(["dump", "latest", "/nowhere"]).expect(1).expect_text("has no");
    place.repo(["dump", "latest", "/", "--archive", "arc"]).expect(2);
}

#[test]
fn a_dumped_directory_unpacks_to_what_it_was() {
    let place = with_two_snapshots();
    let (source, archive, target) = (place.path("source"), place.path("archive.tar"), place.path("target"));
    let ran = place.repo(["dump", "latest", source.to_str().unwrap(), "--target", archive.to_str().unwrap()]);
    ran.expect(3).expect_text("a tar archive cannot hold it: socket");
    fs::create_dir(&target).unwrap();
    let mut tar = Command::new("tar");
    tar.args(["--extract", "--preserve-permissions", "--xattrs", "--xattrs-include=*", "--file"]);
    run(tar.arg(&archive).arg("--directory").arg(&target)).expect(0);
    let inside = target.join(source.strip_prefix("/").unwrap());
    let mut but = vec![("special/socket", Aspect::Missing, "tar knows no sockets")];
    for sparse in [
        "sparse/hole at the start",
        "sparse/hole in the middle",
        "sparse/hole at the end",
        "sparse/nothing but a hole",
        "sparse/holes of odd sizes",
    ] {
        but.push((sparse, Aspect::Holes, "holes are zeros in the archive"));
    }
    but.push(("links/dangling", Aspect::HardLinks, "hard links of regular files only"));
    but.push(("links/other/a second name of a symbolic link", Aspect::HardLinks, "as above"));
    Picture::take(&source).assert_same_but(&Picture::take(&inside), "what tar unpacked", &but);
    assert!(am_root() || inside.is_dir());
    for restic in restics() {
        names_are_as_in_restics_archive(&place, &restic, &archive, &source);
    }
}

fn names_are_as_in_restics_archive(
    place: &Place,
    restic: &crate::command::Restic,
    ours: &Path,
    source: &Path,
) {
    let theirs = place.path("theirs.tar");
    let mut dump = place.restic_on(restic, &place.repository(), ["dump", "latest"]);
    dump.arg(source).stdout(fs::File::create(&theirs).unwrap());
    assert!(dump.status().unwrap().success());
    let names = |archive: &Path| -> Vec<String> {
        let listed = Command::new("tar").arg("--list").arg("--file").arg(archive).output().unwrap().stdout;
        let mut names: Vec<_> = listed
            .split(|&b| b == b'\n')
            .map(|name| String::from_utf8_lossy(std::ffi::OsStr::from_bytes(name).as_bytes()).into_owned())
            .collect();
        // Ours holds the directory itself too, and devices.
        names.retain(|name| Path::new("/").join(name) != source && !name.contains("/special/"));
        names.sort();
        names
    };
    let (ours, theirs) = (names(ours), names(&theirs));
    let differ = |a: &[String], b: &[String]| -> Vec<String> {
        a.iter().filter(|one| !b.contains(one)).cloned().collect()
    };
    assert_eq!((differ(&ours, &theirs), differ(&theirs, &ours)), (Vec::new(), Vec::new()));
}

/// For each entry of a zip archive, or each file, directory and link of a tree: name in hexadecimal digits, then mode,
/// digest of the content, and second of the last change.
const LIST: &str = r#"
import hashlib, json, os, stat, struct, sys, zipfile

def archive(path):
    told = {}
    archive = zipfile.ZipFile(path)
    assert archive.testzip() is None
    for entry in archive.infolist():
        name = entry.filename.encode('utf-8' if entry.flag_bits & 0x800 else 'cp437')
        at = entry.extra.find(b'UT\x05\x00\x01')
        time = struct.unpack('<i', entry.extra[at + 5:at + 9])[0] if at >= 0 else None
        told[name.hex()] = [entry.external_attr >> 16, digest(archive.read(entry)), time]
    return told

def tree(path):
    told = {}
    walked = [(b'', [os.fsencode(path)], [])] + list(os.walk(os.fsencode(path)))
    for root, directories, files in walked:
        for at in [os.path.join(root, name) for name in directories + files]:
            status = os.lstat(at)
            name, content = at[1:], b''
            if stat.S_ISDIR(status.st_mode):
                name += b'/'
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(at)
            elif stat.S_ISREG(status.st_mode):
                content = open(at, 'rb').read()
            else:
                continue
            time = status.st_mtime_ns // 10**9
            told[name.hex()] = [status.st_mode, digest(content), time if abs(time) < 2**31 else None]
    return told

def digest(content):
    return hashlib.sha256(content).hexdigest()

print(json.dumps(globals()[sys.argv[1]](sys.argv[2])))
"#;

fn listed(what: &str, path: &Path) -> BTreeMap<String, Value> {
    let ran = run(Command::new("python3").args(["-c", LIST, what]).arg(path)).expect(0);
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn python_finds_the_directory_with_names_modes_links_and_times_in_a_zip_archive() {
    if !is_installed("python3") {
        return println!("NOT TESTED: there is no python3 to read zip archives");
    }
    let place = with_two_snapshots();
    let (source, archive) = (place.path("source"), place.path("archive.zip"));
    let dump = ["dump", "--archive", "zip", "latest", source.to_str().unwrap()];
    let ran = place.repo(dump.iter().copied().chain(["--target", archive.to_str().unwrap()]));
    ran.expect(3).expect_text("a zip archive cannot hold it: socket");
    let (expected, ours) = (listed("tree", &source), listed("archive", &archive));
    assert!(expected.len() > 1000);
    for name in expected.keys().chain(ours.keys()) {
        assert_eq!(ours.get(name), expected.get(name), "{name}");
    }
    // Another reader, and no way back: what went through a pipe is the same.
    if is_installed("unzip") {
        run(Command::new("unzip").arg("-tqq").arg(&archive)).expect(0);
    }
    let piped = place.repo_command(dump).output().unwrap();
    assert!(piped.stdout == fs::read(&archive).unwrap());

    for restic in restics() {
        let archive = place.path("theirs.zip");
        let mut dump = place.restic_on(&restic, &place.repository(), ["dump", "--archive", "zip", "latest"]);
        dump.arg(&source).stdout(fs::File::create(&archive).unwrap());
        assert!(dump.status().unwrap().success());
        let content = |listed: BTreeMap<String, Value>| -> BTreeMap<String, Value> {
            listed.into_iter().map(|(name, entry)| (name, json!(entry[1]))).collect()
        };
        let (mut ours, theirs) = (content(ours.clone()), content(listed("archive", &archive)));
        // Ours holds the directory itself, too.
        let own = ours.keys().min_by_key(|name| name.len()).cloned();
        ours.remove(&own.unwrap());
        // A target that is no text came with restic 0.16.
        let raw_target = hex_of(source.join("links/not text").strip_prefix("/").unwrap());
        let known = |name: &&String| restic.version >= (0, 16) || **name != raw_target;
        for name in theirs.keys().chain(ours.keys()).filter(known) {
            assert_eq!(ours.get(name), theirs.get(name), "{name}");
        }
    }
}

fn hex_of(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}
