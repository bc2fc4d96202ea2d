//! A store, a directory to protect, and tasks on them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use components::{Component, FileStoreSettings, Hooks};
use repository::{CheckReport, Control, Cost, Passcode};
use storage::{Directory, DirectoryOptions, Shared};

use crate::store::{CatalogueEntry, Store};
use crate::work::{
    BackupTask, RestoreDone, RestoreTask, StageSink, run_backup, run_restore, scrub, verify_backup,
};
use crate::{Error, Result};

pub(super) const SERVER: &str = "host/1";
pub(super) const PASSCODE: &str = "correct horse";

/// Everything a test works on; gone when dropped.
pub(super) struct World {
    pub dir: tempfile::TempDir,
    pub store: Store,
}

/// Keeps what it is told.
#[derive(Default)]
pub(super) struct Seen(pub Mutex<Vec<(String, String)>>);

impl StageSink for Seen {
    fn stage(&self, name: &str, state: &str) {
        self.0.lock().unwrap().push((name.to_owned(), state.to_owned()));
    }
}

pub(super) fn directory(path: &Path) -> Shared {
    let options = DirectoryOptions { sync: false };
    Arc::new(Directory::open(path, options).unwrap())
}

pub(super) fn passcode(text: &str) -> Passcode {
    Passcode::new(text.to_owned())
}

/// Bytes that do not compress and depend on `seed` alone.
pub(super) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

impl World {
    pub fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        fs::create_dir_all(dir.path().join("content/sub")).unwrap();
        let (store, adopted) =
            Store::create_or_adopt(directory(&dir.path().join("store")), "local", Cost::FAST).unwrap();
        assert!(!adopted);
        store.claim(SERVER).unwrap();
        let world = World { dir, store };
        world.write("a.txt", b"first");
        world.write("sub/b.bin", &noise(1, 200_000));
        world
    }

    pub fn content(&self) -> PathBuf {
        self.dir.path().join("content")
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.content().join(name), bytes).unwrap();
    }

    pub fn component(&self) -> Arc<dyn Component> {
        file_store("content", &self.content())
    }

    pub fn task(&self, name: &str) -> BackupTask {
        BackupTask {
            job_id: format!("job-{name}"),
            server_id: SERVER.to_owned(),
            username: "ann".to_owned(),
            name: name.to_owned(),
            store_name: "local".to_owned(),
            description: "by test".to_owned(),
            retention_date: -1,
            passcode: passcode(PASSCODE),
            components: vec![self.component()],
            site_name: "site".to_owned(),
            release: "1.0".to_owned(),
            schedule_type: "MANUAL".to_owned(),
            compression: repository::Compression::Fastest,
            cost: Cost::FAST,
        }
    }

    pub fn restore_task(&self, name: &str) -> RestoreTask {
        RestoreTask {
            job_id: format!("restore-{name}"),
            name: name.to_owned(),
            store_name: "local".to_owned(),
            passcode: passcode(PASSCODE),
            components: vec![self.component()],
            selection: crate::Selection::default(),
        }
    }

    pub fn back_up(&self, name: &str) -> Result<CatalogueEntry> {
        back_up(&self.store, &self.task(name))
    }

    pub fn restore(&self, name: &str) -> Result<RestoreDone> {
        restore(&self.store, &self.restore_task(name))
    }

    pub fn verify(&self, name: &str) -> CheckReport {
        verify_backup(&self.store, name, Some(&passcode(PASSCODE)), true, &Control::new()).unwrap()
    }

    pub fn assert_verifies(&self, name: &str) {
        assert_eq!(self.verify(name).findings, [], "backup '{name}'");
        let keyless = verify_backup(&self.store, name, None, true, &Control::new()).unwrap();
        assert_eq!(keyless.findings, [], "backup '{name}' without passcode");
    }

    pub fn scrub(&self) -> CheckReport {
        scrub(&self.store, &Control::new()).unwrap()
    }

    pub fn reclaim_now(&self) -> crate::store::ReclaimReport {
        self.age_locks();
        self.store.reclaim(SERVER, Duration::ZERO, &Control::new()).unwrap()
    }

    /// Names in the catalogue.
    pub fn names(&self) -> Vec<String> {
        let (entries, findings) = self.store.backups().unwrap();
        assert_eq!(findings, []);
        entries.into_iter().map(|entry| entry.name).collect()
    }

    pub fn file(&self, key: &str) -> PathBuf {
        self.dir.path().join("store").join(key)
    }

    /// All keys below a prefix.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        self.store.storage().list_all(prefix).unwrap().into_iter().map(|entry| entry.key).collect()
    }

    /// As if an hour had passed since a killed process left its restic locks.
    pub fn age_locks(&self) {
        for key in self.keys("vaults/").iter().filter(|key| key.contains("/locks/")) {
            let file = fs::File::options().append(true).open(self.file(key)).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(3600)).unwrap();
        }
    }

    /// Flips one bit in the middle of a file of the store.
    pub fn flip(&self, key: &str) {
        let mut bytes = fs::read(self.file(key)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(self.file(key), bytes).unwrap();
    }
}

pub(super) fn file_store(name: &str, path: &Path) -> Arc<dyn Component> {
    components::file_store(settings(name, path))
}

pub(super) fn settings(name: &str, path: &Path) -> FileStoreSettings {
    FileStoreSettings {
        name: name.to_owned(),
        path: path.to_owned(),
        exclude: Vec::new(),
        optional: false,
        hooks: Hooks { timeout: Duration::from_secs(20), ..Hooks::default() },
    }
}

pub(super) fn back_up(store: &Store, task: &BackupTask) -> Result<CatalogueEntry> {
    run_backup(store, task, &Control::new(), &Seen::default())
}

pub(super) fn restore(store: &Store, task: &RestoreTask) -> Result<RestoreDone> {
    run_restore(store, task, &Control::new(), &Seen::default(), &|| Ok::<(), Error>(()))
}

/// Relative path to content of all files below a directory.
pub(super) fn tree(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(dir) = pending.pop() {
        for item in fs::read_dir(dir).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}
