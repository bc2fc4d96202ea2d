//! The whole engine on real directories: every kind of entry, change detection, damage, faults, prune.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use storage::{Directory, DirectoryOptions, Fault, FaultPlan, Faulty, Shared};

use crate::*;

mod copies;
mod faults;
mod misfortunes;
mod model;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["repo", "source"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn storage(&self) -> Shared {
        let options = DirectoryOptions { sync: false };
        Arc::new(Directory::open(&self.path("repo"), options).unwrap())
    }

    fn init(&self) -> Repository {
        Repository::init(self.storage(), &passcode(), Cost::FAST).unwrap()
    }

    fn back_up(&self, repository: &Repository) -> BackupOutcome {
        let (outcome, control) = self.try_back_up(repository);
        assert_eq!(control.warnings(), []);
        outcome.unwrap()
    }

    fn try_back_up(&self, repository: &Repository) -> (Result<BackupOutcome>, Arc<Control>) {
        let control = Control::new();
        let index = repository.load_index(&|_| true);
        let outcome = index.and_then(|index| {
            backup(repository, &index, &BackupRequest::new(vec![self.path("source")]), &control)
        });
        (outcome, control)
    }

    /// Flips a bit of a blob where it is stored.
    fn damage(&self, index: &Index, kind: crate::pack::BlobKind, id: &Id) {
        let blob = index.place(kind, id).unwrap().unwrap();
        let pack = self.path("repo").join(crate::pack::pack_key(index.pack_id(blob.pack)));
        let mut bytes = fs::read(&pack).unwrap();
        bytes[blob.offset as usize + blob.length as usize / 2] ^= 1;
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, bytes).unwrap();
    }

    fn restore_to(&self, repository: &Repository, snapshot: Id, target: &str) -> Result<RestoreOutcome> {
        let request = RestoreRequest {
            snapshot,
            subpath: Some(self.path("source").as_os_str().as_bytes().to_vec()),
            target: self.path(target),
            reuse_from: None,
            choice: Choice::All,
            verify: true,
        };
        let index = repository.load_index(&|_| true)?;
        restore(repository, &index, &request, &Control::new())
    }
}

fn passcode() -> Passcode {
    Passcode::new("a good passcode".to_owned())
}

/// Noise that does not compress and differs by `seed`.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(length + 8);
    while out.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        out.extend_from_slice(&state.to_le_bytes());
    }
    out.truncate(length);
    out
}

fn make_source(root: &Path) {
    fs::write(root.join("small.txt"), "hello").unwrap();
    fs::write(root.join("empty"), "").unwrap();
    fs::write(root.join("large"), noise(1, 5 << 20)).unwrap();
    fs::write(root.join("text"), "all work and no play ".repeat(100_000)).unwrap();
    fs::create_dir_all(root.join("a/b/c")).unwrap();
    fs::create_dir(root.join("empty dir")).unwrap();
    fs::write(root.join("a/b/c/deep"), "deep").unwrap();
    fs::hard_link(root.join("small.txt"), root.join("a/linked")).unwrap();
    symlink("../nowhere", root.join("a/dangling")).unwrap();
    symlink(std::ffi::OsString::from_vec(b"to\xff".to_vec()), root.join("a/raw link")).unwrap();
    fs::write(root.join(std::ffi::OsString::from_vec(b"not utf8 \xfe\xff".to_vec())), "x").unwrap();
    fs::write(root.join("n".repeat(255)), "long name").unwrap();
    fs::write(root.join("quo\"te\\ \n<&>"), "odd").unwrap();
    fs::set_permissions(root.join("a/b"), fs::Permissions::from_mode(0o2750)).unwrap();
    fs::set_permissions(root.join("a/b/c/deep"), fs::Permissions::from_mode(0o4711)).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, root.join("fifo"), rustix::fs::FileType::Fifo, 0o640.into(), 0)
        .unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"begin", 0).unwrap();
    sparse.write_all_at(b"middle", 30 << 20).unwrap();
    sparse.set_len(64 << 20).unwrap();
    let holes = fs::File::create(root.join("only hole")).unwrap();
    holes.set_len(20 << 20).unwrap();
}

/// Everything that a person could see of a tree.
fn picture(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let m = fs::symlink_metadata(&path).unwrap();
            let content = if m.is_file() {
                Id::of(&fs::read(&path).unwrap()).to_string()
            } else if m.is_symlink() {
                format!("{:?}", fs::read_link(&path).unwrap())
            } else {
                String::new()
            };
            let links = if m.is_dir() { 0 } else { m.nlink() };
            let facts = format!(
                "{:o} {}:{} {}.{} links {links} {content}",
                m.mode(),
                m.uid(),
                m.gid(),
                m.mtime(),
                m.mtime_nsec()
            );
            seen.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), facts);
            if m.is_dir() {
                pending.push(path);
            }
        }
    }
    seen
}

#[test]
fn a_tree_of_oddities_comes_back_the_same() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let outcome = place.back_up(&repository);
    let snapshot = outcome.snapshot.unwrap();
    let done = place.restore_to(&repository, snapshot, "out").unwrap();
    assert_eq!(picture(&place.path("source")), picture(&place.path("out")));
    assert!(done.bytes > 80 << 20);
    // Holes are holes again.
    for name in ["sparse", "only hole"] {
        let blocks = fs::metadata(place.path("out").join(name)).unwrap().blocks();
        assert!(blocks * 512 < 1 << 20, "{name} takes {blocks} blocks");
    }
    let report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!(report.findings, []);
    // What the outcome says of packs is what a walk finds.
    let index = repository.load_index(&|_| true).unwrap();
    assert_eq!(needed_packs(&repository, &index, snapshot, &Control::new()).unwrap(), outcome.used_packs);
}

#[test]
fn an_unchanged_tree_is_not_read_again_and_a_changed_file_is() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let first = place.back_up(&repository);
    let second = place.back_up(&repository);
    let (one, two) = (first.snapshot.unwrap(), second.snapshot.unwrap());
    let source = |snapshot| {
        let (index, mut tree) = (repository.load_index(&|_| true).unwrap(), None);
        walk(&repository, &index, snapshot, &mut |path, node| {
            if path == place.path("source").as_os_str().as_bytes() {
                tree = node.subtree;
            }
            Ok(())
        })
        .unwrap();
        tree.unwrap()
    };
    assert_eq!(source(one), source(two));
    assert_eq!((second.summary.files_new, second.summary.files_changed), (0, 0));
    // Only the directory of all temporary files, which others change, may be new.
    assert!(second.summary.data_blobs == 0 && second.summary.tree_blobs <= 1, "{:?}", second.summary);
    fs::write(place.path("source/small.txt"), "HELLO").unwrap();
    let third = place.back_up(&repository);
    // The hard link changed with it.
    assert_eq!(third.summary.files_changed, 2);
    assert_eq!(third.summary.data_blobs, 1);
}

#[test]
fn a_damaged_listing_costs_only_what_lies_in_that_directory() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    let mut listing = None;
    walk(&repository, &index, snapshot, &mut |path, node| {
        if path.ends_with(b"/source/a/b") {
            listing = node.subtree;
        }
        Ok(())
    })
    .unwrap();
    place.damage(&index, crate::pack::BlobKind::Tree, &listing.unwrap());

    let failed = place.restore_to(&repository, snapshot, "out").unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Damaged, "{failed}");
    let mut expected = picture(&place.path("source"));
    expected.retain(|path, _| !path.starts_with(b"a/b/"));
    assert_eq!(picture(&place.path("out")), expected);
}

#[test]
fn restore_over_present_files_reuses_what_is_right_and_replaces_what_is_not() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    place.restore_to(&repository, snapshot, "present").unwrap();
    let damaged = fs::OpenOptions::new().write(true).open(place.path("present/large")).unwrap();
    damaged.write_all_at(b"scrambled", 3 << 20).unwrap();
    let request = RestoreRequest {
        snapshot,
        subpath: Some(place.path("source").as_os_str().as_bytes().to_vec()),
        target: place.path("out"),
        reuse_from: Some(place.path("present")),
        choice: Choice::All,
        verify: true,
    };
    let index = repository.load_index(&|_| true).unwrap();
    let done = restore(&repository, &index, &request, &Control::new()).unwrap();
    assert_eq!(picture(&place.path("source")), picture(&place.path("out")));
    assert!(done.bytes_reused > 0 && done.bytes_reused < done.bytes);
}

#[test]
fn restore_in_place_writes_what_differs_and_leaves_no_trace_of_what_was_there() {
    let place = Place::new();
    make_source(&place.path("source"));
    let zeros = place.path("source/zeros");
    fs::write(&zeros, vec![0; 3 << 20]).unwrap();
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let first = place.restore_to(&repository, snapshot, "out").unwrap();
    assert_eq!(first.bytes_reused, 0);
    let large = place.path("out/large");
    let inode = fs::metadata(&large).unwrap().ino();

    let change = |name: &str| fs::OpenOptions::new().write(true).open(place.path(name)).unwrap();
    change("out/large").write_all_at(b"scrambled", 3 << 20).unwrap();
    change("out/zeros").write_all_at(b"not zero", 2 << 20).unwrap();
    // A file with another name is not changed under that name.
    let shared = place.path("elsewhere");
    fs::hard_link(place.path("out/a/b/c/deep"), &shared).unwrap();
    fs::write(&shared, "of somebody else").unwrap();
    // Longer than it should be, with an attribute and rights that it should not have.
    change("out/large").set_len(64 << 20).unwrap();
    fs::set_permissions(&large, fs::Permissions::from_mode(0o666)).unwrap();
    let attribute = rustix::fs::setxattr(&large, "user.of.before", b"1", rustix::fs::XattrFlags::empty());
    assert!(matches!(attribute, Ok(()) | Err(rustix::io::Errno::OPNOTSUPP)), "{attribute:?}");

    let again = place.restore_to(&repository, snapshot, "out").unwrap();
    assert_eq!(picture(&place.path("source")), picture(&place.path("out")));
    assert_eq!(fs::read(&shared).unwrap(), b"of somebody else");
    assert_eq!(fs::metadata(&large).unwrap().ino(), inode, "it was written in place");
    assert!(rustix::fs::getxattr(&large, "user.of.before", &mut [0; 8]).is_err());
    assert!(again.bytes_reused > first.bytes / 2 && again.bytes_reused < first.bytes, "{again:?}");
}

#[test]
fn a_restore_takes_what_is_chosen_and_nothing_else() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    let restored = |target: &str, choice: Choice| {
        let request = RestoreRequest {
            snapshot,
            subpath: Some(place.path("source").as_os_str().as_bytes().to_vec()),
            target: place.path(target),
            reuse_from: None,
            choice,
            verify: true,
        };
        restore(&repository, &index, &request, &Control::new()).unwrap();
        picture(&place.path(target))
    };
    let patterns = |texts: &[&str]| {
        Patterns::new(&texts.iter().map(|&text| Pattern::new(text)).collect::<Vec<_>>()).unwrap()
    };
    let all = picture(&place.path("source"));
    let expected = |chosen: &dyn Fn(&[u8]) -> bool| {
        all.iter().filter(|(path, _)| chosen(path)).map(|(path, line)| (path.clone(), line.clone())).collect()
    };
    let only: BTreeMap<_, _> = expected(&|path| path == b"large" || b"a/b/c/deep".starts_with(path));
    assert_eq!(restored("only", Choice::Only(patterns(&["/a/b/c", "large"]))), only);
    // What is there beside it, and above it, is not touched.
    fs::create_dir_all(place.path("kept/a")).unwrap();
    fs::set_permissions(place.path("kept/a"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(place.path("kept/small.txt"), "mine").unwrap();
    restored("kept", Choice::Only(patterns(&["deep"])));
    assert_eq!(fs::metadata(place.path("kept/a")).unwrap().mode() & 0o777, 0o711);
    assert_eq!(fs::read(place.path("kept/small.txt")).unwrap(), b"mine");
    assert_eq!(fs::metadata(place.path("kept/a/b")).unwrap().mode() & 0o7777, 0o2750);

    let without: BTreeMap<_, _> = expected(&|path| !path.starts_with(b"a/b") && path != b"text");
    assert_eq!(restored("without", Choice::Without(patterns(&["/a/b", "text"]))), without);
}

#[test]
fn what_cannot_be_restored_leaves_the_file_that_is_there() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    place.damage(&index, crate::pack::BlobKind::Data, &Id::of(b"hello"));
    place.damage(&index, crate::pack::BlobKind::Data, &Id::of(b"deep"));
    // Two names of one lost file, and one file with a single name.
    let mine = ["small.txt", "a/linked", "a/b/c/deep"];
    fs::create_dir_all(place.path("out/a/b/c")).unwrap();
    for name in mine {
        let path = place.path("out").join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    }
    let failed = place.restore_to(&repository, snapshot, "out").unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Damaged);
    assert!(failed.message.starts_with("3 files"), "{failed}");
    let (mut left, mut expected) = (picture(&place.path("out")), picture(&place.path("source")));
    for name in mine {
        let path = place.path("out").join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), name);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o604, "{name}");
        left.remove(name.as_bytes());
        expected.remove(name.as_bytes());
    }
    assert_eq!(left, expected);
}

#[test]
fn a_wrong_passcode_and_a_missing_repository_are_told_apart() {
    let place = Place::new();
    place.init();
    let wrong = Repository::open(place.storage(), &Passcode::new("wrong".into())).unwrap_err();
    assert_eq!(wrong.kind, ErrorKind::WrongPasscode);
    let again = Repository::init(place.storage(), &passcode(), Cost::FAST).unwrap_err();
    assert_eq!(again.kind, ErrorKind::Exists);
    let nowhere = Place::new();
    let none = Repository::open(nowhere.storage(), &passcode()).unwrap_err();
    assert_eq!(none.kind, ErrorKind::NoRepository);
}

#[test]
fn a_source_that_is_missing_is_an_error_and_a_file_that_cannot_be_read_is_named() {
    let place = Place::new();
    let repository = place.init();
    fs::remove_dir(place.path("source")).unwrap();
    let (outcome, _) = place.try_back_up(&repository);
    assert_eq!(outcome.unwrap_err().kind, ErrorKind::NotFound);
    assert!(repository.snapshots().unwrap().0.is_empty());
}

#[test]
fn excluded_entries_are_left_out_with_all_below_them() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let mut request = BackupRequest::new(vec![place.path("source")]);
    request.excludes = vec!["b".into(), "*.txt".into()];
    let index = Index::empty();
    let snapshot = backup(&repository, &index, &request, &Control::new()).unwrap().snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    let mut names = Vec::new();
    walk(&repository, &index, snapshot, &mut |path, _| {
        names.push(String::from_utf8_lossy(path).into_owned());
        Ok(())
    })
    .unwrap();
    assert!(names.iter().any(|name| name.ends_with("/a/linked")));
    assert!(!names.iter().any(|name| name.contains("/a/b") || name.ends_with(".txt")));
}

#[test]
fn prune_removes_what_no_snapshot_needs_and_nothing_else() {
    let place = Place::new();
    let repository = place.init();
    let owner = LockOwner { hostname: "test".into(), username: String::new() };
    let source = place.path("source");
    for n in 0..4 {
        for file in 0..6 {
            if file % (n + 1) == 0 {
                fs::write(source.join(format!("f{file}")), noise(n * 10 + file, 700_000)).unwrap();
            }
        }
        place.back_up(&repository);
    }
    let (snapshots, _) = repository.snapshots().unwrap();
    let expected = picture(&source);
    for (id, _) in &snapshots[..3] {
        repository.delete_snapshot(*id).unwrap();
    }
    let request = PruneRequest { max_unused_percent: 0.0, ..PruneRequest::default() };
    let before: u64 = repository.list_packs().unwrap().values().sum();
    let planned =
        prune(&repository, &owner, &PruneRequest { dry_run: true, ..request.clone() }, &Control::new())
            .unwrap();
    let report = prune(&repository, &owner, &request, &Control::new()).unwrap();
    // How long the headers of new packs are shows when they are written.
    assert_eq!(PruneReport { bytes_after: planned.bytes_after, ..report.clone() }, planned);
    assert!(report.packs_removed > 0 && report.packs_repacked > 0);
    let after: u64 = repository.list_packs().unwrap().values().sum();
    assert!(after < before);
    assert_eq!(report.bytes_after, after);
    let check_report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!((check_report.findings, check_report.notes), (vec![], vec![]));
    place.restore_to(&repository, snapshots[3].0, "out").unwrap();
    assert_eq!(picture(&place.path("out")), expected);
    // Nothing is left to do.
    let again = prune(&repository, &owner, &request, &Control::new()).unwrap();
    assert_eq!(again.packs_removed, 0);
}

#[test]
fn prune_compresses_what_lies_uncompressed_once_and_for_all() {
    let place = Place::new();
    let repository = place.init();
    let source = place.path("source");
    let numbers = |n: u64| (0..60_000).map(|i| format!("{} ", i * n)).collect::<String>();
    for n in 0..3 {
        fs::write(source.join(format!("numbers {n}")), numbers(n + 1)).unwrap();
        fs::write(source.join(format!("noise {n}")), noise(n, 900_000)).unwrap();
    }
    let back_up = |compression| {
        let request = BackupRequest { compression, ..BackupRequest::new(vec![source.clone()]) };
        let index = repository.load_index(&|_| true).unwrap();
        backup(&repository, &index, &request, &Control::new()).unwrap().snapshot.unwrap()
    };
    back_up(Compression::Off);
    fs::write(source.join("compressed already"), numbers(7)).unwrap();
    let snapshot = back_up(Compression::Fastest);
    let expected = picture(&source);
    let blobs = || {
        let (mut all, mut uncompressed) = (0, 0);
        let index = repository.load_index(&|_| true).unwrap();
        index
            .blobs(&mut |_, copies| {
                all += copies.len();
                uncompressed += copies.iter().filter(|copy| copy.packed().uncompressed.is_none()).count();
                Ok(())
            })
            .unwrap();
        (all, uncompressed)
    };
    let stored = || repository.list_packs().unwrap().values().sum::<u64>();
    let owner = LockOwner { hostname: "test".into(), username: String::new() };
    let run = |request: &PruneRequest| prune(&repository, &owner, request, &Control::new()).unwrap();

    let (all, uncompressed) = blobs();
    assert!(0 < uncompressed && uncompressed < all);
    let before = stored();
    assert_eq!(run(&PruneRequest::default()).packs_repacked, 0, "nobody asked for it");
    let request = PruneRequest { repack_uncompressed: Some(Compression::Max), ..PruneRequest::default() };
    let planned = run(&PruneRequest { dry_run: true, ..request.clone() });
    assert!(planned.packs_repacked > 0 && stored() == before);
    let report = run(&request);
    assert_eq!(report.packs_repacked, planned.packs_repacked);
    assert_eq!(blobs(), (all, 0));
    assert!(stored() < before - 500_000, "{} of {before} are left", stored());
    assert_eq!(report.bytes_after, stored());
    assert_eq!(run(&request).packs_repacked, 0, "noise is not tried again and again");
    let found = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!((found.findings, found.notes), (vec![], vec![]));
    place.restore_to(&repository, snapshot, "out").unwrap();
    assert_eq!(picture(&place.path("out")), expected);
}

#[test]
fn locks_exclude_each_other_as_restic_has_it() {
    let place = Place::new();
    let repository = place.init();
    let owner = |name: &str| LockOwner { hostname: name.into(), username: "u".into() };
    let shared = repository.lock(LockKind::Shared, &owner("a")).unwrap();
    let second = repository.lock(LockKind::Shared, &owner("b")).unwrap();
    let error = repository.lock(LockKind::Exclusive, &owner("c")).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Locked);
    assert!(shared.check().is_ok());
    drop((shared, second));
    let exclusive = repository.lock(LockKind::Exclusive, &owner("c")).unwrap();
    assert_eq!(repository.lock(LockKind::Shared, &owner("a")).err().unwrap().kind, ErrorKind::Locked);
    drop(exclusive);
    assert_eq!(place.storage().list_all("locks/").unwrap(), []);
}

/// A repository that waits for locks; what it is told goes into the list, and `then` happens each time.
fn waiting(
    place: &Place,
    at_most: Duration,
    then: impl Fn(&Control) + Send + Sync + 'static,
) -> (Repository, Arc<Mutex<Vec<ErrorKind>>>) {
    let (told, control) = (Arc::new(Mutex::new(Vec::new())), Control::new());
    let (kept, cancel) = (told.clone(), control.clone());
    let notice = Arc::new(move |locked: &Error| {
        kept.lock().unwrap().push(locked.kind);
        then(&cancel);
    });
    let repository = Repository::open(place.storage(), &passcode()).unwrap();
    (repository.with_lock_wait(LockWait { at_most, notice, control }), told)
}

#[test]
fn a_lock_that_another_holds_is_waited_for_until_it_goes_the_time_is_over_or_the_work_is_cancelled() {
    let place = Place::new();
    let repository = place.init();
    let owner = LockOwner { hostname: "a".into(), username: "u".into() };
    let held = repository.lock(LockKind::Exclusive, &owner).unwrap();

    let (hasty, told) = waiting(&place, Duration::ZERO, |_| {});
    assert_eq!(hasty.lock(LockKind::Shared, &owner).err().unwrap().kind, ErrorKind::Locked);
    assert!(told.lock().unwrap().is_empty(), "no time to wait, nothing to tell");
    let (brief, told) = waiting(&place, Duration::from_secs(2), |_| {});
    assert_eq!(brief.lock(LockKind::Shared, &owner).err().unwrap().kind, ErrorKind::Locked);
    assert_eq!(*told.lock().unwrap(), [ErrorKind::Locked], "told once, though it was tried several times");
    let (cancelled, _) = waiting(&place, Duration::from_secs(3600), Control::cancel);
    assert_eq!(cancelled.lock(LockKind::Shared, &owner).err().unwrap().kind, ErrorKind::Cancelled);

    // The lock goes once it is known that somebody waits for it.
    let held = Mutex::new(Some(held));
    let (patient, told) =
        waiting(&place, Duration::from_secs(3600), move |_| drop(held.lock().unwrap().take()));
    let lock = patient.lock(LockKind::Exclusive, &owner).unwrap();
    assert_eq!(*told.lock().unwrap(), [ErrorKind::Locked]);
    drop(lock);
    assert_eq!(place.storage().list_all("locks/").unwrap(), []);
}

#[test]
fn one_flipped_bit_in_any_file_is_found_and_never_restored() {
    let place = Place::new();
    fs::write(place.path("source/a"), noise(3, 3000)).unwrap();
    fs::write(place.path("source/b"), "text ".repeat(300)).unwrap();
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let expected = picture(&place.path("source"));
    for entry in place.storage().list_all("").unwrap() {
        let path = place.path("repo").join(&entry.key);
        let good = fs::read(&path).unwrap();
        for step in 0..8 {
            let at = (good.len() - 1) * step / 7;
            let mut bad = good.clone();
            bad[at] ^= 1 << step;
            fs::write(&path, &bad).unwrap();
            let named = match Repository::open(place.storage(), &passcode()) {
                Err(e) => e.message,
                Ok(repository) => {
                    let target = format!("out-{}-{step}", entry.key.replace('/', "_"));
                    if place.restore_to(&repository, snapshot, &target).is_ok() {
                        assert_eq!(picture(&place.path(&target)), expected);
                    }
                    let report = check(&repository, CheckRequest { read_data: true }, &Control::new());
                    format!("{:?}", report.unwrap().findings)
                }
            };
            assert!(named.contains(&entry.key), "bit {step} at {at} of {}: {named}", entry.key);
        }
        fs::write(&path, &good).unwrap();
    }
}

/// Every storage call of backup and of prune, failing or being the last: what was there stays whole.
#[test]
fn a_death_at_any_storage_call_loses_nothing_and_shows_nothing_half_made() {
    let mut counted = 0;
    for fault in [Fault::DieBefore, Fault::DieAfter, Fault::ErrorBefore, Fault::ErrorAfter] {
        for n in 1.. {
            let place = Place::new();
            fs::write(place.path("source/a"), noise(1, 1000)).unwrap();
            let repository = place.init();
            let first = place.back_up(&repository).snapshot.unwrap();
            let old = picture(&place.path("source"));
            fs::write(place.path("source/a"), noise(2, 1000)).unwrap();
            fs::write(place.path("source/b"), noise(3, 1000)).unwrap();
            let plan = FaultPlan::new(n, fault);
            let faulty: Shared = Arc::new(Faulty::new(place.storage(), plan.clone()));
            let broken = repository.with_storage(faulty);
            let owner = LockOwner { hostname: "test".into(), username: String::new() };
            let (outcome, _) = place.try_back_up(&broken);
            if let Ok(outcome) = &outcome {
                // The second half of the story: forget the new one again and prune.
                let id = outcome.snapshot.unwrap();
                if broken.delete_snapshot(id).is_ok() {
                    let request = PruneRequest { max_unused_percent: 0.0, ..PruneRequest::default() };
                    let _ = prune(&broken, &owner, &request, &Control::new());
                }
            }
            repository.unlock(true).unwrap();
            let report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
            assert_eq!(report.findings, [], "{fault:?} at call {n}");
            let (snapshots, damaged) = repository.snapshots().unwrap();
            assert_eq!(damaged, []);
            assert!(snapshots.iter().any(|(id, _)| *id == first));
            place.restore_to(&repository, first, "old").unwrap();
            let restored = picture(&place.path("old"));
            assert_eq!(restored[&b"a"[..]], old[&b"a"[..]]);
            // And it goes on as if nothing had been.
            place.back_up(&repository);
            if !plan.fired() {
                break;
            }
            counted += 1;
        }
    }
    println!("{counted} faults injected");
    assert!(counted > 60);
}

/// A damaged pack counts as unknown, the next backup stores its blobs again, and a prune keeps the whole copies.
#[test]
fn prune_keeps_the_whole_copy_of_a_blob_and_never_the_damaged_one() {
    for missing in [false, true] {
        let place = Place::new();
        fs::write(place.path("source/a"), noise(1, 300_000)).unwrap();
        fs::write(place.path("source/b"), noise(2, 300_000)).unwrap();
        let repository = place.init();
        let mut request = BackupRequest::new(vec![place.path("source")]);
        // What other tests do beside the source must not make other listings, which would be lost with the packs.
        request.timeless_way = true;
        let index = repository.load_index(&|_| true).unwrap();
        let first = backup(&repository, &index, &request, &Control::new()).unwrap();
        for (pack, _) in &first.new_packs {
            let path = place.path("repo").join(crate::pack::pack_key(*pack));
            if missing {
                fs::remove_file(&path).unwrap();
            } else {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(b"flipped", 100).unwrap();
            }
        }
        let bad: Vec<Id> = first.new_packs.iter().map(|(id, _)| *id).collect();
        let index = repository.load_index(&|id| !bad.contains(&id)).unwrap();
        backup(&repository, &index, &request, &Control::new()).unwrap();
        let owner = LockOwner { hostname: "test".into(), username: String::new() };
        prune(&repository, &owner, &PruneRequest::default(), &Control::new()).unwrap();
        place.restore_to(&repository, first.snapshot.unwrap(), "out").unwrap();
        assert_eq!(picture(&place.path("source")), picture(&place.path("out")));
        let report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
        assert_eq!(report.findings, [], "missing: {missing}");
    }
}

#[test]
fn a_hole_of_exabytes_is_named_and_does_not_stop_the_backup() {
    let place = Place::new();
    let hole = fs::File::create(place.path("source/huge")).unwrap();
    if hole.set_len(15 << 40).is_err() || hole.set_len(17 << 40).is_err() {
        // This file system has no files of such a size.
        let _ = hole.set_len(0);
        return;
    }
    fs::write(place.path("source/small"), "kept").unwrap();
    let repository = place.init();
    let (outcome, control) = place.try_back_up(&repository);
    let outcome = outcome.unwrap();
    assert_eq!(outcome.summary.files_new, 1);
    assert!(control.warnings()[0].item.ends_with("/huge"));
}

#[test]
fn files_joined_by_inode_that_differ_in_content_come_back_as_they_were_read() {
    let place = Place::new();
    let repository = place.init();
    fs::write(place.path("source/log"), "one").unwrap();
    fs::hard_link(place.path("source/log"), place.path("source/log2")).unwrap();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    let mut contents = Vec::new();
    walk(&repository, &index, snapshot, &mut |_, node| {
        contents.extend(node.content.first().copied());
        Ok(())
    })
    .unwrap();
    assert_eq!(contents.len(), 2);
    place.restore_to(&repository, snapshot, "out").unwrap();
    assert_eq!(fs::metadata(place.path("out/log")).unwrap().nlink(), 2);
}

#[test]
fn what_happens_beside_the_path_makes_no_new_trees_if_the_way_is_timeless() {
    let place = Place::new();
    fs::write(place.path("source/a"), "content").unwrap();
    let repository = place.init();
    let mut request = BackupRequest::new(vec![place.path("source")]);
    request.timeless_way = true;
    let tree = |request: &BackupRequest| {
        let index = repository.load_index(&|_| true).unwrap();
        let id = backup(&repository, &index, request, &Control::new()).unwrap().snapshot.unwrap();
        repository.snapshot(id).unwrap().tree
    };
    let before = tree(&request);
    fs::write(place.path("beside"), "moves the time of the directory above").unwrap();
    assert_eq!(tree(&request), before);
    request.timeless_way = false;
    assert_ne!(tree(&request), before);
}

/// Some program may list a pack in parts, or twice. A prune that writes such index files anew loses no part.
#[test]
fn prune_keeps_every_blob_of_a_pack_that_is_listed_in_parts() {
    use crate::file::{Folder, list, write_json};
    use crate::index::{BlobText, IndexText, PackText, visit_index_file};

    let place = Place::new();
    for n in 0..30 {
        fs::write(place.path(&format!("source/{n}")), noise(n, 20_000)).unwrap();
    }
    let repository = place.init();
    let kept = place.back_up(&repository).snapshot.unwrap();
    let folder = Folder::Index;
    for (file, _) in list(repository.storage(), folder).unwrap() {
        let mut parts = [IndexText::default(), IndexText::default(), IndexText::default()];
        visit_index_file(&repository, file, &mut |pack| {
            let middle = pack.blobs.len() / 2;
            for (part, blobs) in
                parts.iter_mut().zip([&pack.blobs[..middle], &pack.blobs[middle..], &pack.blobs[..middle]])
            {
                let blobs = blobs.iter().map(BlobText::from).collect();
                part.packs.push(PackText { id: pack.id, blobs });
            }
            Ok(())
        })
        .unwrap();
        for part in &parts {
            write_json(&repository, folder, part).unwrap();
        }
        repository.storage().delete(&folder.key(file)).unwrap();
    }
    fs::write(place.path("source/more"), noise(99, 200_000)).unwrap();
    let gone = place.back_up(&repository).snapshot.unwrap();
    repository.delete_snapshot(gone).unwrap();
    let owner = LockOwner { hostname: "test".into(), username: String::new() };
    let report = prune(&repository, &owner, &PruneRequest::default(), &Control::new()).unwrap();
    assert!(report.packs_removed > 0);
    assert_eq!(list(repository.storage(), folder).unwrap().len(), 1, "small index files are joined");
    let report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!(report.findings, []);
    fs::remove_file(place.path("source/more")).unwrap();
    place.restore_to(&repository, kept, "out").unwrap();
    assert_eq!(fs::read(place.path("source/7")).unwrap(), fs::read(place.path("out/7")).unwrap());
}
