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

mod browsing;
mod copies;
mod faults;
mod feeding;
mod misfortunes;
mod model;
mod pruning;
mod restores;

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
            subpath: Some(self.path("source").as_os_str().as_bytes().to_vec()),
            verify: true,
            ..RestoreRequest::new(snapshot, self.path(target))
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
            repository.remove_all_locks().unwrap();
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
