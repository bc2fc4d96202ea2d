//! What goes wrong around the engine: a lock that is gone, a store that takes nothing more, copies out of reach.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use storage::{Entry, Storage, Version};

use super::*;
use crate::file::Folder;
use crate::pack_writer::PackWriter;
use crate::repository::{KEYS_TRIED_MAX, Opener};
use crate::uploaders::with_uploaders;

/// Is told of each call before it is carried out, and may refuse it.
type Hook = Box<dyn Fn(&'static str, &str) -> storage::Result<()> + Send + Sync>;

/// A store whose calls a test watches.
struct Watched {
    inner: Shared,
    hook: Hook,
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

impl Watched {
    fn over(
        inner: Shared,
        hook: impl Fn(&'static str, &str) -> storage::Result<()> + Send + Sync + 'static,
    ) -> Shared {
        Arc::new(Self { inner, hook: Box::new(hook) })
    }
}

impl Storage for Watched {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn get(&self, key: &str, size_max: u64) -> storage::Result<Vec<u8>> {
        (self.hook)("get", key)?;
        self.inner.get(key, size_max)
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> storage::Result<(Vec<u8>, Version)> {
        self.inner.get_versioned(key, size_max)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> storage::Result<Vec<u8>> {
        (self.hook)("get", key)?;
        self.inner.get_range(key, range)
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> storage::Result<()> {
        (self.hook)("create", key)?;
        self.inner.create(key, parts)
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> storage::Result<()> {
        self.inner.replace(key, body, expected)
    }

    fn delete(&self, key: &str) -> storage::Result<()> {
        (self.hook)("delete", key)?;
        self.inner.delete(key)
    }

    fn head(&self, key: &str) -> storage::Result<Option<Entry>> {
        self.inner.head(key)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> storage::Result<()>) -> storage::Result<()> {
        self.inner.list(prefix, visit)
    }

    fn free_space(&self) -> storage::Result<Option<u64>> {
        self.inner.free_space()
    }

    storage::plain_calls!();
}

fn refused(key: &str) -> storage::Error {
    storage::Error::new(storage::ErrorKind::Io, "use", key, "a store", "it does not answer")
}

fn owner() -> LockOwner {
    LockOwner { hostname: "h".into(), username: "u".into() }
}

/// As another client does that takes our lock for stale.
fn remove_locks(storage: &Shared) {
    for entry in storage.list_all("locks/").unwrap() {
        storage.delete(&entry.key).unwrap();
    }
}

fn keys(storage: &Shared, prefix: &str) -> Vec<String> {
    storage.list_all(prefix).unwrap().into_iter().map(|entry| entry.key).collect()
}

/// Two backups of which the first is forgotten and shares packs with the second: so many files that no thread gets
/// only such as stay, or only such as go, into its pack.
fn half_waste(place: &Place) -> Repository {
    const FILES: u64 = 40;
    let repository = place.init();
    let path = |kind: &str, n| place.path("source").join(format!("{n}-{kind}"));
    for n in 0..FILES {
        fs::write(path("kept", n), noise(2 * n, 64 << 10)).unwrap();
        fs::write(path("gone", n), noise(2 * n + 1, 64 << 10)).unwrap();
    }
    let first = place.back_up(&repository).snapshot.unwrap();
    (0..FILES).for_each(|n| fs::remove_file(path("gone", n)).unwrap());
    place.back_up(&repository);
    repository.delete_snapshot(first).unwrap();
    repository
}

fn prune_all(repository: &Repository) -> Result<PruneReport> {
    let request = PruneRequest { max_unused_bytes: Some(0), ..PruneRequest::default() };
    prune(repository, &owner(), &request, &Control::new())
}

#[test]
fn no_snapshot_is_written_or_removed_once_the_lock_is_gone() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let first = place.back_up(&repository).snapshot.unwrap();
    let other = tempfile::tempdir().unwrap();
    let storage: Shared = Arc::new(Directory::open(other.path(), DirectoryOptions { sync: false }).unwrap());
    let target = Repository::init(storage.clone(), &passcode(), Cost::FAST).unwrap();

    let lock = repository.lock(LockKind::Exclusive, &owner()).unwrap();
    let target_lock = target.lock(LockKind::Shared, &owner()).unwrap();
    let (under, target) = (repository.under(&lock), target.under(&target_lock));
    place.back_up(&under);
    let before = keys(&place.storage(), "snapshots/");
    remove_locks(&place.storage());
    remove_locks(&storage);

    let lost = |result: Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::LockLost, "{error}");
        assert!(error.message.contains("lock is gone"), "{error}");
    };
    lost(place.try_back_up(&under).0.map(drop));
    let (index, request) = (under.load_index(&|_| true).unwrap(), BackupRequest::new(Vec::new()));
    let name = Path::new("stream");
    lost(backup_stream(&under, &index, &request, name, &mut &b"text"[..], &Control::new()).map(drop));
    lost(change_tags(&under, first, &TagChange::Set(vec!["new".to_owned()])).map(drop));
    lost(under.delete_snapshot(first));
    assert_eq!(keys(&place.storage(), "snapshots/"), before);
    let request = CopyRequest { snapshots: vec![first], ..CopyRequest::default() };
    lost(copy(&repository, &target, &request, &Control::new(), &mut |_, _| {}));
    assert!(keys(&storage, "snapshots/").is_empty());
}

/// The lock goes when a file of this folder is made or deleted.
#[test]
fn nothing_more_is_removed_once_the_lock_is_gone() {
    for (operation, folder) in [("create", "index/"), ("delete", "index/")] {
        for repair in [false, true] {
            let place = Place::new();
            let repository = half_waste(&place);
            let (inner, armed) = (place.storage(), Arc::new(AtomicBool::new(true)));
            let storage = Watched::over(inner.clone(), {
                let (inner, armed) = (inner.clone(), armed.clone());
                move |this, key| {
                    if this == operation && key.starts_with(folder) && armed.swap(false, Ordering::SeqCst) {
                        remove_locks(&inner);
                    }
                    Ok(())
                }
            });
            let (packs, indexes) = (keys(&inner, "data/"), keys(&inner, "index/"));
            let watched = repository.with_storage(storage);
            let error = if repair {
                let ids: Vec<Id> = watched.list_packs().unwrap().into_keys().collect();
                repair_packs(&watched, &owner(), &ids, &Control::new()).unwrap_err()
            } else {
                prune_all(&watched).unwrap_err()
            };
            assert_eq!(error.kind, ErrorKind::LockLost, "{operation} {repair} {error}");
            assert!(!armed.load(Ordering::SeqCst));
            let after = keys(&inner, "data/");
            assert!(packs.iter().all(|pack| after.contains(pack)), "{operation} {repair}");
            if operation == "create" {
                let after = keys(&inner, "index/");
                assert!(indexes.iter().all(|file| after.contains(file)), "{repair}");
            }
        }
    }
}

#[test]
fn a_copy_that_is_out_of_reach_is_never_taken_for_damaged() {
    let place = Place::new();
    fs::write(place.path("source/a"), noise(3, 3000)).unwrap();
    let repository = place.init();
    // The same trees again, whatever others do in the directory of all temporary files meanwhile.
    let request =
        BackupRequest { force: true, timeless_way: true, ..BackupRequest::new(vec![place.path("source")]) };
    let back_up_anew = || {
        let nothing = repository.load_index(&|_| false).unwrap();
        backup(&repository, &nothing, &request, &Control::new()).unwrap().snapshot.unwrap()
    };
    let first = back_up_anew();
    let once = keys(&place.storage(), "data/");
    drop(tempfile::tempdir().unwrap());
    back_up_anew();
    let index = repository.load_index(&|_| true).unwrap();
    let tree = repository.snapshot(first).unwrap().tree;
    assert_eq!(index.places(BlobKind::Tree, &tree).unwrap().len(), 2);

    for out_of_reach_first in [true, false] {
        let once = once.clone();
        let storage = Watched::over(place.storage(), move |operation, key| {
            if operation != "get" || !key.starts_with("data/") {
                return Ok(());
            }
            if once.iter().any(|pack| pack == key) == out_of_reach_first {
                return Err(refused(key));
            }
            Err(storage::Error::new(storage::ErrorKind::NotFound, "read", key, "a store", "it is not there"))
        });
        let watched = repository.with_storage(storage);
        let read = watched.read_blob(&index, BlobKind::Tree, tree, &mut Opener::new().unwrap());
        assert_eq!(read.unwrap_err().kind, ErrorKind::Io);
        let request = RepairSnapshotsRequest {
            snapshots: vec![first],
            forget: true,
            ..RepairSnapshotsRequest::default()
        };
        repair_snapshots(&watched, &owner(), &request, &Control::new()).unwrap_err();
        repository.snapshot(first).unwrap();
    }
}

#[test]
fn no_key_is_added_that_would_not_be_tried() {
    let place = Place::new();
    let repository = place.init();
    let add = |number: usize| {
        let passcode = Passcode::new(format!("passcode {number}"));
        add_key(&repository, &passcode, Cost::FAST, &KeyLabel::default())
    };
    for number in 1..KEYS_TRIED_MAX {
        add(number).unwrap();
    }
    let error = add(KEYS_TRIED_MAX).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("remove one"), "{error}");
    assert_eq!(keys(&place.storage(), "keys/").len(), KEYS_TRIED_MAX);
    for number in 1..KEYS_TRIED_MAX {
        Repository::open(place.storage(), &Passcode::new(format!("passcode {number}"))).unwrap();
    }
    // In the place of another one there is room.
    change_passcode(&repository, &Passcode::new("new".to_owned()), Cost::FAST, &KeyLabel::default()).unwrap();
    let opened = Repository::open(place.storage(), &Passcode::new("new".to_owned())).unwrap();

    let nobody = Passcode::new("nobody's".to_owned());
    let error = Repository::open(place.storage(), &nobody).unwrap_err();
    assert!(!error.message.contains("not tried"), "{error}");
    // Another program knows no such limit.
    for _ in 0..3 {
        let body = key::make_key_file(opened.key(), &passcode(), Cost::FAST).unwrap();
        place.storage().create(&Folder::Keys.key(Id::of(&body)), &[&body]).unwrap();
    }
    let error = Repository::open(place.storage(), &nobody).unwrap_err();
    assert_eq!(error.kind, ErrorKind::WrongPasscode);
    assert!(error.message.contains("the other 3 were not tried"), "{error}");
}

/// The upload of packs fails; tells how often something was read from the index after that.
fn refusing_packs(inner: Shared) -> (Shared, Arc<AtomicU64>) {
    let (failed, read) = (AtomicBool::new(false), Arc::new(AtomicU64::new(0)));
    let counter = read.clone();
    let storage = Watched::over(inner, move |operation, key| {
        if operation == "create" && key.starts_with("data/") {
            failed.store(true, Ordering::SeqCst);
            return Err(refused(key));
        }
        if operation == "get" && key.starts_with("index/") && failed.load(Ordering::SeqCst) {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    });
    (storage, read)
}

#[test]
fn the_index_is_not_written_anew_once_a_pack_could_not_be_stored() {
    let place = Place::new();
    let repository = half_waste(&place);
    let (storage, read) = refusing_packs(place.storage());
    let watched = repository.with_storage(storage);
    assert!(prune_all(&watched).unwrap_err().message.contains("does not answer"));
    let ids: Vec<Id> = watched.list_packs().unwrap().into_keys().collect();
    let error = repair_packs(&watched, &owner(), &ids, &Control::new()).unwrap_err();
    assert!(error.message.contains("does not answer"), "{error}");
    // That of the repair itself, which loads the index before it stores anything.
    assert_eq!(read.load(Ordering::SeqCst), keys(&place.storage(), "index/").len() as u64);
}

/// Gives noise, and counts what was taken.
struct Noise {
    piece: Vec<u8>,
    taken: u64,
    rest: u64,
}

impl std::io::Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.piece.len()).min(self.rest as usize);
        self.taken += length as u64;
        self.rest -= length as u64;
        // Never the same twice.
        let mask = self.taken.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        for ((out, byte), mask) in buffer[..length].iter_mut().zip(&self.piece).zip(mask.iter().cycle()) {
            *out = byte ^ mask;
        }
        Ok(length)
    }
}

#[test]
fn a_stream_is_read_no_further_once_nothing_can_be_stored() {
    let place = Place::new();
    let repository = place.init();
    let (storage, _) = refusing_packs(place.storage());
    let watched = repository.with_storage(storage);
    let (index, request) = (Index::empty(), BackupRequest::new(Vec::new()));
    let mut input = Noise { piece: noise(5, 1 << 20), taken: 0, rest: 300 << 20 };
    let name = Path::new("stream");
    let outcome = backup_stream(&watched, &index, &request, name, &mut input, &Control::new());
    assert!(outcome.unwrap_err().message.contains("does not answer"));
    assert!(input.rest > 100 << 20, "{} bytes were read", input.taken);
}

#[test]
fn a_panic_of_the_work_ends_the_uploaders_too() {
    let (sender, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let place = Place::new();
        let (repository, control) = (place.init(), Control::new());
        let writer = PackWriter::new(&repository, &control);
        let work = Mutex::new(|| panic!("on purpose"));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            with_uploaders(&writer, || (work.lock().unwrap())())
        }));
        sender.send((outcome.is_err(), writer.has_failed())).unwrap();
    });
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok((true, true)));
}

#[test]
fn names_of_one_inode_with_different_content_are_no_hard_links_in_an_archive() {
    let place = Place::new();
    for name in ["a", "b", "c"] {
        fs::write(place.path("source").join(name), if name == "b" { "second" } else { "first" }).unwrap();
    }
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    // As if all were names of one inode, which changed between two readings.
    let mut nodes = Vec::new();
    walk(&repository, &index, snapshot, &mut |_, node| {
        if node.kind == NodeKind::File {
            nodes.push(Node { links: 3, inode: 7, device_id: 1, ..node.clone() });
        }
        Ok(())
    })
    .unwrap();
    let listing = tree::tree_text(nodes.iter().map(Node::text));
    let control = Control::new();
    let writer = PackWriter::new(&repository, &control);
    let mut sealer = pack_writer::Sealer::new(Compression::Auto, true).unwrap();
    let plain = pack_writer::Plain::new(&listing);
    with_uploaders(&writer, || sealer.store(&writer, BlobKind::Tree, &plain).map(drop)).unwrap();
    let root = plain.id;
    writer.finish().unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    let mut archive = Vec::new();
    dump_archive(&repository, &index, ArchiveKind::Tar, (root, b"/"), None, &control, &mut archive).unwrap();
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("archive.tar"), archive).unwrap();
    let unpacked = std::process::Command::new("tar")
        .arg("-xf")
        .arg(place.path("archive.tar"))
        .arg("-C")
        .arg(place.path("out"))
        .status();
    assert!(unpacked.unwrap().success());
    let read = |name: &str| fs::read_to_string(place.path("out").join(name)).unwrap();
    assert_eq!([read("a"), read("b"), read("c")], ["first", "second", "first"]);
    let inode = |name: &str| fs::metadata(place.path("out").join(name)).unwrap().ino();
    assert_eq!(inode("a"), inode("c"));
    assert_ne!(inode("a"), inode("b"));
}

#[test]
fn a_restore_that_removes_loses_nothing_of_the_snapshot_when_packs_go_out_of_reach_in_the_middle() {
    let place = Place::new();
    let source = place.path("source");
    fs::create_dir_all(source.join("a/b")).unwrap();
    for name in ["one", "a/two", "a/b/three"] {
        fs::write(source.join(name), name).unwrap();
    }
    let snapshot = place.back_up(&place.init()).snapshot.unwrap();
    let out = place.path("out");
    let request = RestoreRequest {
        subpath: Some(source.as_os_str().as_bytes().to_vec()),
        remove_others: true,
        ..RestoreRequest::new(snapshot, out.clone())
    };
    for reads in 0.. {
        let (left, gone) = (AtomicU64::new(reads), Arc::new(AtomicBool::new(false)));
        let seen = gone.clone();
        let storage = Watched::over(place.storage(), move |call, key| {
            if call != "get" || !key.starts_with("data/") {
                return Ok(());
            }
            let next = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            next.map(drop).map_err(|_| {
                seen.store(true, Ordering::SeqCst);
                storage::Error::new(storage::ErrorKind::NotFound, "read", key, "a store", "it is gone")
            })
        });
        // All that the snapshot has is there and right, and one thing too many.
        let _ = fs::remove_dir_all(&out);
        fs::create_dir_all(out.join("a/b")).unwrap();
        for name in ["one", "a/two", "a/b/three"] {
            fs::copy(source.join(name), out.join(name)).unwrap();
        }
        fs::write(out.join("a/b/other"), "too many").unwrap();
        let repository = Repository::open(storage, &passcode()).unwrap();
        let index = repository.load_index(&|_| true).unwrap();
        let done = restore(&repository, &index, &request, &Control::new());
        for name in ["one", "a/two", "a/b/three"] {
            assert!(out.join(name).exists(), "{name} went, after {reads} reads: {done:?}");
        }
        if !gone.load(Ordering::SeqCst) {
            done.unwrap();
            assert!(!out.join("a/b/other").exists());
            assert!(reads > 3, "listings are read twice");
            break;
        }
        assert_eq!(done.unwrap_err().kind, ErrorKind::Damaged, "after {reads} reads");
    }
}
