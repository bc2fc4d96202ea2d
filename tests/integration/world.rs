//! A store with several backups, made in this process by the calls that the server makes, and what was in each.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use components::{Component, RestoreContext, StagedRestore};
use recovery::store::CatalogueEntry;
pub use recovery::store::Store;
use recovery::work::{
    BackupTask, RestoreDone, RestoreTask, StageSink, run_backup, run_restore, scrub, verify_backup,
};
use recovery::{Cost, FileStoreSettings, Hooks, Portion, file_store};
use repository::{Control, Passcode, Repository, RestoreRequest};
use storage::{Directory, DirectoryOptions, Fault, FaultPlan, Faulty, Shared};
use strongroom_tests::tree::{Aspect, Picture, noise};
use tempfile::TempDir;

pub use crate::command::PASSCODE;
pub const OTHER_PASSCODE: &str = "another passcode";
const SERVER: &str = "test/1";

pub fn directory(path: &Path) -> Shared {
    let options = DirectoryOptions { sync: false };
    Arc::new(Directory::open(path, options).unwrap())
}

pub fn passcode(text: &str) -> Passcode {
    Passcode::new(text.to_owned())
}

/// Something that can be restored, and what must come of it.
pub struct Restorable {
    pub name: String,
    pub passcode: &'static str,
    pub expected: Picture,
}

/// A store with several backups, and what was in them.
pub struct World {
    pub dir: TempDir,
    pub backups: Vec<Restorable>,
}

pub struct Silent;

impl StageSink for Silent {
    fn stage(&self, _: &str, _: &str) {}
}

fn component(content: &Path) -> Arc<dyn recovery::Component> {
    let settings = FileStoreSettings {
        name: "content".to_owned(),
        path: content.to_owned(),
        exclude: Vec::new(),
        optional: false,
        hooks: Hooks { timeout: Duration::from_secs(20), ..Hooks::default() },
    };
    file_store(settings)
}

/// A backup of one directory.
pub fn task(name: &str, passcode_text: &str, content: &Path) -> BackupTask {
    BackupTask {
        job_id: format!("job-{name}"),
        server_id: SERVER.to_owned(),
        username: "somebody".to_owned(),
        name: name.to_owned(),
        store_name: "store".to_owned(),
        description: "made by a test".to_owned(),
        retention_date: -1,
        passcode: passcode(passcode_text),
        components: vec![component(content)],
        site_name: "site".to_owned(),
        release: "12.0.0".to_owned(),
        schedule_type: "MANUAL".to_owned(),
        compression: repository::Compression::Fastest,
        cost: Cost::FAST,
    }
}

/// Runs a backup.
pub fn back_up(store: &Store, task: &BackupTask) -> recovery::Result<CatalogueEntry> {
    run_backup(store, task, &Control::new(), &Silent)
}

/// Restores a backup to where its content lay, as the server does it.
pub fn restore_in_place(
    store: &Store,
    name: &str,
    passcode_text: &str,
    content: &Path,
) -> recovery::Result<RestoreDone> {
    let task = RestoreTask {
        job_id: format!("restore-{name}"),
        name: name.to_owned(),
        store_name: "store".to_owned(),
        passcode: passcode(passcode_text),
        components: vec![component(content)],
        selection: recovery::Selection::default(),
    };
    run_restore(store, &task, &Control::new(), &Silent, &|| Ok(()))
}

/// A restore of a backup's first component that is staged and not swapped, under the job `a-restore`.
pub fn stage(
    store: &Store,
    name: &str,
    component: &Arc<dyn Component>,
    portion: &Portion,
) -> Box<dyn StagedRestore> {
    let entry = store.backup(name).unwrap().unwrap();
    let vault = store.open_vault(&entry, &passcode(PASSCODE)).unwrap();
    let index = vault.load_index(&|_| true).unwrap();
    let context = RestoreContext {
        repository: &vault,
        index: &index,
        snapshot: entry.components[0].snapshot,
        job_id: "a-restore",
        portion: portion.clone(),
        at: None,
        control: Control::new(),
    };
    component.stage(&context).unwrap()
}

/// Content that changes from generation to generation and shares most of it.
pub fn write_content(content: &Path, generation: u64) {
    fs::create_dir_all(content.join("directory/below")).unwrap();
    fs::write(content.join("larger than a chunk"), noise(1, 1_500_000)).unwrap();
    fs::write(content.join("text"), "again and again\n".repeat(2_000)).unwrap();
    for number in 0..4 {
        fs::write(content.join(format!("directory/{number}")), noise(10 + number, 3_000)).unwrap();
    }
    fs::write(content.join("directory/below/changes"), noise(100 + generation, 2_000)).unwrap();
    fs::write(content.join(format!("generation {generation}")), format!("{generation}")).unwrap();
}

impl World {
    /// The store's directory.
    pub fn root(&self) -> PathBuf {
        self.path("store")
    }

    /// A place beside the store.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// With backups of two passcodes that share a store.
    pub fn new() -> Self {
        Self::in_directory(TempDir::with_prefix("strongroom-").unwrap())
    }

    /// In `store` below a directory of the caller's.
    pub fn in_directory(dir: TempDir) -> Self {
        fs::create_dir_all(dir.path().join("store")).unwrap();
        let mut world = Self { dir, backups: Vec::new() };
        let (store, _) = Store::create_or_adopt(directory(&world.root()), "store", Cost::FAST).unwrap();
        store.claim(SERVER).unwrap();
        for (generation, (name, passcode)) in
            [("first", PASSCODE), ("second", PASSCODE), ("other", OTHER_PASSCODE)].into_iter().enumerate()
        {
            let content = world.dir.path().join("content");
            write_content(&content, generation as u64);
            back_up(&store, &task(name, passcode, &content)).unwrap();
            world.backups.push(Restorable {
                name: name.to_owned(),
                passcode,
                expected: Picture::take(&content),
            });
        }
        store.update_backup("second", Some(1_900_000_000_000), Some("edited – später")).unwrap();
        world
    }

    /// Also with what deleted, killed and given up backups leave.
    pub fn with_remains() -> Self {
        let world = Self::new();
        let store = Store::open(directory(&world.root())).unwrap();
        let content = world.dir.path().join("content");
        write_content(&content, 9);
        back_up(&store, &task("gone", PASSCODE, &content)).unwrap();
        store.delete_backup("gone").unwrap();
        for (generation, name) in [(10, "killed"), (11, "given up")] {
            write_content(&content, generation);
            let plan = FaultPlan::new(7, Fault::DieBefore).writes_only();
            let dying = store.with_storage(Arc::new(Faulty::new(store.storage().clone(), plan)));
            back_up(&dying, &task(name, PASSCODE, &content)).unwrap_err();
        }
        store.clear_running("job-given up").unwrap();
        for kind in ["owner.json", "deleted/", "running/", "revoked/"] {
            assert!(!keys(&world.root(), kind).is_empty(), "there is no {kind}");
        }
        world
    }

    pub fn damage_is_named(&self, key: &str) -> Result<(), String> {
        let found = match self.verify() {
            Ok(found) => found,
            Err(e) if e.kind == recovery::ErrorKind::Damaged => vec![e.message],
            Err(e) => return Err(format!("{:?}: {e}", e.kind)),
        };
        if found.iter().any(|file| file.contains(key)) {
            Ok(())
        } else {
            Err(format!("found only {found:?}"))
        }
    }

    /// What `rescue verify` does, with both passcodes.
    pub fn verify(&self) -> recovery::Result<Vec<String>> {
        let control = Control::new();
        let store = Store::open(directory(&self.root()))?;
        let mut found: Vec<_> = scrub(&store, &control)?.findings;
        found.extend(store.backups()?.1);
        for Restorable { name, passcode: text, .. } in &self.backups {
            match verify_backup(&store, name, Some(&passcode(text)), false, &control) {
                Ok(report) => found.extend(report.findings),
                Err(e) if e.kind == recovery::ErrorKind::Damaged => {
                    found.push(repository::Finding { file: e.message, problem: String::new() })
                }
                Err(e) if e.kind == recovery::ErrorKind::BackupNotFound => {}
                Err(e) => return Err(e),
            }
        }
        Ok(found.into_iter().map(|finding| finding.file).collect())
    }

    /// What `rescue restore` does. `Err`: why nothing was, or not all could be, restored.
    fn restore(&self, backup: &Restorable, target: &Path) -> Result<(), String> {
        let text = |e: recovery::Error| e.to_string();
        let store = Store::open(directory(&self.root())).map_err(text)?;
        let entry = store.backup(&backup.name).map_err(text)?.ok_or("there is no such backup")?;
        let vault = store.open_vault(&entry, &passcode(backup.passcode)).map_err(text)?;
        restore(&vault, entry.components[0].snapshot, target)
    }

    /// Restores all backups; each either fails or is right. Returns how many were restored.
    pub fn no_restore_is_wrong(&self, what: &str) -> usize {
        let restored = self.backups.iter().filter(|backup| {
            let target = TempDir::with_prefix_in("target-", self.dir.path()).unwrap();
            let outcome = self.restore(backup, target.path());
            is_right(&backup.expected, target.path(), &outcome, what)
        });
        restored.count()
    }
}

/// All keys below a directory that start with `prefix`, but those of locks: nothing depends on their content.
pub fn keys(root: &Path, prefix: &str) -> Vec<String> {
    let all = directory(root).list_all("").unwrap();
    let keys = all.into_iter().filter(|entry| entry.size > 0).map(|entry| entry.key);
    keys.filter(|key| key.starts_with(prefix) && !key.contains("locks/")).collect()
}

/// Restores the only path of a snapshot, as the commands do: past index files that are damaged.
pub fn restore(repository: &Repository, snapshot: repository::Id, target: &Path) -> Result<(), String> {
    let text = |e: repository::Error| e.to_string();
    let (index, _) = repository.load_readable_index().map_err(text)?;
    let paths = repository.snapshot(snapshot).map_err(text)?.paths;
    let request = RestoreRequest {
        subpath: Some(paths[0].clone().into_bytes()),
        verify: true,
        ..RestoreRequest::new(snapshot, target.to_owned())
    };
    repository::restore(repository, &index, &request, &Control::new()).map(drop).map_err(text)
}

/// A restore that succeeded must be right as a whole, and one that failed must at least have written nothing wrong.
#[track_caller]
pub fn is_right(expected: &Picture, target: &Path, outcome: &Result<(), String>, what: &str) -> bool {
    let after = Picture::take(target);
    match outcome {
        Ok(()) => expected.assert_same(&after, what),
        Err(message) => {
            assert!(!message.contains("please report this"), "{what}: a thread panicked: {message}");
            let mut wrong = expected.differences(&after);
            wrong.retain(|d| matches!(d.aspect, Aspect::Surplus | Aspect::Content));
            assert!(wrong.is_empty(), "{what}: the restore failed ({message}), but left {wrong:?}");
        }
    }
    outcome.is_ok()
}
