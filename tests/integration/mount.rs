//! `repo mount`: what is mounted is what was backed up, and it is read-only, bounded and ends cleanly. What needs a real
//! mount is skipped where there can be none, or where the program was built without it, with a line that says so.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use repository::{Id, Time};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use strongroom_tests::tree::{Aspect, Picture, am_root, make_odd_tree, noise};

use crate::command::{Place, is_installed, run, strongroom};
use crate::forge::{Forge, ForgedBlob};
use crate::world::keys;

const DEADLINE: Duration = Duration::from_secs(60);

/// Whether there can be a mount here.
fn can_mount() -> bool {
    let built = run(&mut strongroom(["repo", "mount", "/nonexistent"]));
    if built.err.contains("--features mount") {
        println!("NOT TESTED: repo mount, as the program was built without it");
        return false;
    }
    if !am_root() || File::options().read(true).write(true).open("/dev/fuse").is_err() {
        println!("NOT TESTED: repo mount, as /dev/fuse cannot be opened, or without root");
        return false;
    }
    true
}

/// A running `repo mount`.
struct Mounted {
    child: Child,
    at: PathBuf,
    err: PathBuf,
}

impl Mounted {
    fn new(place: &Place, more: &[&str]) -> Self {
        let (at, err) = (place.path("mounted here"), place.path("mount.err"));
        fs::create_dir_all(&at).unwrap();
        let mut command = place.repo_command(["mount"]);
        command.arg(&at).args(more).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.stderr(File::create(&err).unwrap()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let mounted = Self { child, at, err };
        assert!(line.starts_with("mounted at"), "{line}{}", mounted.told());
        mounted
    }

    /// What stands on standard error.
    fn told(&self) -> String {
        fs::read_to_string(&self.err).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn unmount(&self) {
        assert!(Command::new("umount").arg(&self.at).status().unwrap().success());
    }

    /// Waits for the end, which must be this one, with nothing left mounted.
    fn expect(mut self, code: i32) -> String {
        let since = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(since.elapsed() < DEADLINE, "still running: {}", self.told());
            std::thread::sleep(Duration::from_millis(5));
        };
        let told = self.told();
        assert_eq!(status.code(), Some(code), "{told}");
        assert!(!told.contains("panicked"), "{told}");
        assert!(!is_mounted(&self.at), "it is still mounted");
        told
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if is_mounted(&self.at) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
        }
    }
}

fn is_mounted(at: &Path) -> bool {
    let escaped = at.to_str().unwrap().replace(' ', "\\040");
    fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&format!(" {escaped} "))
}

/// Below a snapshot, where this directory is.
fn inside(snapshot: &Path, path: &Path) -> PathBuf {
    snapshot.join(path.strip_prefix("/").unwrap())
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn locks(place: &Place) -> usize {
    fs::read_dir(place.repository().join("locks")).map_or(0, Iterator::count)
}

fn failure<T>(result: io::Result<T>) -> Option<Errno> {
    result.err().and_then(|e| Errno::from_io_error(&e))
}

fn backed_up() -> (Place, PathBuf) {
    let place = Place::with_repository();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("large"), noise(9, 9_500_000)).unwrap();
    fs::write(source.join("small"), "small").unwrap();
    place.repo(["backup", "--host", "one", "--tag", "x", source.to_str().unwrap()]).expect(0);
    (place, source)
}

#[test]
fn what_is_mounted_is_what_was_backed_up() {
    if !can_mount() {
        return;
    }
    let place = Place::with_repository();
    let source = place.path("source");
    make_odd_tree(&source);
    let was = Picture::take(&source);
    place.repo(["backup", source.to_str().unwrap()]).expect(0);
    let mounted = Mounted::new(&place, &[]);
    let shown = Picture::take(&inside(&mounted.at.join("snapshots/latest"), &source));
    let mut differences = was.differences(&shown);
    // A repository knows of no holes; restores make them anew.
    differences.retain(|difference| difference.aspect != Aspect::Holes);
    assert!(differences.is_empty(), "{differences:#?}");
    mounted.unmount();
    mounted.expect(0);
}

#[test]
fn any_part_of_a_mounted_file_is_read_and_nothing_can_be_written() {
    if !can_mount() {
        return;
    }
    let (place, source) = backed_up();
    let mounted = Mounted::new(&place, &[]);
    let dir = inside(&mounted.at.join("snapshots/latest"), &source);
    let (was, is) = (fs::read(source.join("large")).unwrap(), File::open(dir.join("large")).unwrap());
    let mut random = 1usize;
    for _ in 0..300 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (from, length) = ((random >> 20) % was.len(), (random >> 10) % 300_000);
        let mut bytes = vec![0; length];
        let mut read = 0;
        while let n @ 1.. = is.read_at(&mut bytes[read..], (from + read) as u64).unwrap() {
            read += n;
        }
        let to = (from + length).min(was.len());
        assert!(bytes[..read] == was[from..to], "{length} bytes at {from}");
    }
    assert_eq!(failure(fs::write(dir.join("new"), "")), Some(Errno::ROFS));
    assert_eq!(failure(File::options().append(true).open(dir.join("small"))), Some(Errno::ROFS));
    assert_eq!(failure(fs::remove_file(dir.join("small"))), Some(Errno::ROFS));
    assert_eq!(failure(fs::create_dir(mounted.at.join("ids/new"))), Some(Errno::ROFS));
    assert_eq!(failure(fs::rename(dir.join("small"), dir.join("other"))), Some(Errno::ROFS));
    assert_eq!(failure(fs::metadata(dir.join("none"))), Some(Errno::NOENT));
    assert_eq!(locks(&place), 1, "it holds a lock");
    // A file of it is still open.
    mounted.signal(Signal::TERM);
    mounted.expect(0);
    assert_eq!(locks(&place), 0);
    drop(is);
}

#[test]
fn snapshots_are_mounted_by_id_time_host_and_tag_and_come_and_go() {
    if !can_mount() {
        return;
    }
    let (place, source) = backed_up();
    let mounted = Mounted::new(&place, &["--no-lock", "--look-again", "0s"]);
    let at = mounted.at.clone();
    assert_eq!(names(&at), ["hosts", "ids", "snapshots", "tags"]);
    assert_eq!((names(&at.join("hosts")), names(&at.join("tags"))), (vec!["one".into()], vec!["x".into()]));
    let latest = |folder: &str| fs::read_link(at.join(folder).join("latest")).unwrap();
    let first = latest("snapshots");
    assert_eq!((latest("hosts/one"), latest("tags/x")), (first.clone(), first.clone()));
    fs::write(source.join("small"), "changed").unwrap();
    let later = ["backup", "--host", "two", "--time", "2099-01-01 00:00:00", source.to_str().unwrap()];
    place.repo(later).expect(0);
    let small = inside(&at.join("snapshots/latest"), &source).join("small");
    assert_eq!(fs::read_to_string(&small).unwrap(), "changed", "the new one is there");
    assert_eq!((names(&at.join("hosts")).len(), names(&at.join("ids")).len()), (2, 2));
    let second = names(&at.join("hosts/two"))[0].clone();
    let held = File::open(inside(&at.join("hosts/two").join(&second), &source).join("large")).unwrap();
    let list = place.repo(["snapshots", "--json", "--host", "two"]).expect(0).json();
    place.repo(["forget", list[0][0]["id"].as_str().unwrap()]).expect(0);
    place.repo(["prune", "--max-unused", "0"]).expect(0);
    assert_eq!((names(&at.join("hosts")), latest("snapshots")), (vec!["one".into()], first));
    assert_eq!(held.metadata().unwrap().len(), 9_500_000);
    mounted.signal(Signal::INT);
    mounted.expect(0);
}

#[test]
fn a_mount_of_chosen_snapshots_shows_those_alone_and_owners_as_asked() {
    use std::os::unix::fs::MetadataExt;
    if !can_mount() {
        return;
    }
    let (place, source) = backed_up();
    std::os::unix::fs::chown(source.join("small"), Some(4711), Some(4712)).unwrap();
    place.repo(["backup", "--host", "two", source.to_str().unwrap()]).expect(0);
    let mounted = Mounted::new(&place, &["--host", "two"]);
    assert_eq!(names(&mounted.at.join("hosts")), ["two"]);
    assert_eq!(names(&mounted.at.join("tags")), [""; 0]);
    let small = inside(&mounted.at.join("snapshots/latest"), &source).join("small");
    let owner = |path: &Path| fs::metadata(path).map(|of| (of.uid(), of.gid())).unwrap();
    assert_eq!(owner(&small), (4711, 4712));
    mounted.unmount();
    mounted.expect(0);
    let mounted = Mounted::new(&place, &["--host", "two", "--owner-root"]);
    assert_eq!(owner(&small), (0, 0));
    mounted.unmount();
    mounted.expect(0);
}

/// Whether user 65534 may read this.
fn nobody_reads(file: &Path) -> bool {
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat"]).arg(file);
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

#[test]
fn others_see_what_they_are_allowed_to_and_only_if_that_was_asked_for() {
    use std::os::unix::fs::PermissionsExt;
    if !can_mount() {
        return;
    }
    if !is_installed("setpriv") {
        println!("NOT TESTED: other users in a mount, as there is no setpriv");
        return;
    }
    let (place, source) = backed_up();
    fs::set_permissions(place.dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(source.join("large"), fs::Permissions::from_mode(0o600)).unwrap();
    place.repo(["backup", source.to_str().unwrap()]).expect(0);
    for (options, small, large) in [
        (&[][..], false, false),
        (&["--allow-other"], true, false),
        (&["--allow-other", "--no-default-permissions"], true, true),
    ] {
        let mounted = Mounted::new(&place, options);
        let dir = inside(&mounted.at.join("snapshots/latest"), &source);
        assert_eq!(nobody_reads(&dir.join("small")), small, "{options:?}");
        assert_eq!(nobody_reads(&dir.join("large")), large, "{options:?}");
        mounted.unmount();
        mounted.expect(0);
    }
}

#[test]
fn damage_is_an_error_of_the_read_and_is_named_and_the_rest_is_read() {
    if !can_mount() {
        return;
    }
    let (place, source) = backed_up();
    let was = fs::read(source.join("large")).unwrap();
    // The largest pack has the file's chunks; its middle is hit.
    let packs = keys(&place.repository(), "data/");
    let size = |key: &String| fs::metadata(place.repository().join(key)).unwrap().len();
    let pack = packs.iter().max_by_key(|key| size(key)).unwrap();
    let file = place.repository().join(pack);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    let mounted = Mounted::new(&place, &[]);
    let dir = inside(&mounted.at.join("snapshots/latest"), &source);
    let large = File::open(dir.join("large")).unwrap();
    let (mut right, mut failed) = (0, 0);
    for (at, chunk) in was.chunks(4096).enumerate() {
        let mut read = vec![0; chunk.len()];
        match large.read_exact_at(&mut read, at as u64 * 4096) {
            Ok(()) => {
                assert!(read == chunk, "wrong bytes at block {at}");
                right += 1;
            }
            Err(e) => {
                assert_eq!(Errno::from_io_error(&e), Some(Errno::IO));
                failed += 1;
            }
        }
    }
    assert!(right > 0 && failed > 0, "{right} {failed}");
    assert_eq!(fs::read_to_string(dir.join("small")).unwrap(), "small");
    drop(large);
    mounted.unmount();
    let told = mounted.expect(13);
    assert!(told.contains(pack.as_str()) && told.contains("large"), "{told}");
}

#[test]
fn a_hostile_repository_is_an_error_where_it_is_met_and_the_rest_is_shown() {
    if !can_mount() || !is_installed("restic") {
        return;
    }
    let time = Time::now().text();
    let node = |name: &str, kind: &str, subtree: Option<Id>| {
        json!({
            "name": name, "type": kind, "mode": 0o755, "mtime": time, "atime": time, "ctime": time, "uid": 0,
            "gid": 0, "size": if kind == "file" { 1_000_000u64 } else { 0 }, "links": u64::MAX, "inode": 1,
            "content": null, "subtree": subtree,
        })
    };
    let tree = |nodes: &[serde_json::Value]| ForgedBlob::tree(&format!("{}\n", json!({ "nodes": nodes })));
    let place = Place::with_repository();
    let forge = Forge::new(&place);
    let outside = tree(&[node("../outside", "file", None)]);
    let again = Id::of(b"a tree that contains itself");
    let mut itself = tree(&[node("again", "dir", Some(again))]);
    itself.id = again;
    let long = "n".repeat(1500);
    let root = tree(&[
        node("no listing", "dir", None),
        node("no content", "file", None),
        node("odd", "nothing that is known", None),
        node("outside", "dir", Some(outside.id)),
        node("again", "dir", Some(again)),
        node("good", "dir", Some(Id::of(b"{\"nodes\":[]}"))),
        node(&long, "file", None),
        node("good", "file", None),
    ]);
    let snapshot = json!({
        "time": "..", "tree": root.id, "paths": ["/p"], "hostname": "../../etc", "tags": ["/", "..", ""],
    });
    forge.pack(&[outside, itself, root, ForgedBlob::tree("{\"nodes\":[]}")]);
    forge.snapshot(&snapshot);
    let mounted = Mounted::new(&place, &[]);
    assert_eq!(names(&mounted.at.join("hosts")), [".._.._etc"]);
    assert_eq!(names(&mounted.at.join("tags")), ["_", "__"]);
    let root = mounted.at.join("snapshots/latest");
    assert_eq!(names(&root), ["again", "good", "no content", "no listing", "odd", "outside"]);
    for bad in ["no listing", "outside", "again"] {
        assert_eq!(failure(fs::read_dir(root.join(bad))), Some(Errno::IO), "{bad}");
    }
    for bad in ["no content", "odd"] {
        assert_eq!(failure(File::open(root.join(bad))), Some(Errno::IO), "{bad}");
    }
    assert_eq!(names(&root.join("good")), [""; 0]);
    mounted.unmount();
    mounted.expect(13);
}

#[test]
fn where_nothing_can_be_mounted_that_is_said_at_once() {
    let place = Place::with_repository();
    if place.repo(["mount", "/"]).expect(2).err.contains("--features mount") {
        return;
    }
    place.repo(["mount", place.path("none").to_str().unwrap()]).expect(2);
    place.repo(["mount", place.path("passcode").to_str().unwrap()]).expect(2).expect_text("no directory");
    let hidden = place.repo(["mount", place.dir.path().to_str().unwrap()]).expect(2);
    hidden.expect_text("hide");
    assert_eq!(locks(&place), 0);
}
