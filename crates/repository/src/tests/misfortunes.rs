//! What goes wrong around the engine: a lock that is gone.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use storage::{Entry, Storage, Version};

use super::*;

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

/// Two backups of which the first is forgotten and shares a pack with the second.
fn half_waste(place: &Place) -> Repository {
    let repository = place.init();
    for (name, seed) in [("kept", 1), ("gone", 2)] {
        fs::write(place.path("source").join(name), noise(seed, 2 << 20)).unwrap();
    }
    let first = place.back_up(&repository).snapshot.unwrap();
    fs::remove_file(place.path("source/gone")).unwrap();
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
