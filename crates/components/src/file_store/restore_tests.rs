//! The file store with the real engine and a real store: backup, stage, swap, finish.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use repository::{Compression, Control, Cost, Id, Passcode, Repository};
use storage::{Directory, DirectoryOptions, Fault, FaultPlan, Faulty, Shared};

use super::directory;
use super::place::STAGING_PREFIX;
use super::remove::{Left, remove};
use super::test_support::{Mount, fill, is_root, picture};
use crate::{
    BackupContext, Component, ErrorKind, FileStoreSettings, Hooks, Kind, Portion, Recovered, RestoreContext,
    Result, StagedRestore, file_store,
};

const JOB: &str = "job-1";

/// A component with content, and a store with a repository.
struct Scene {
    dir: tempfile::TempDir,
    storage: Shared,
    repository: Repository,
    settings: FileStoreSettings,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let storage: Shared = Arc::new(
            Directory::create_root(&dir.path().join("store"), DirectoryOptions { sync: false }).unwrap(),
        );
        let repository = Repository::init(Arc::clone(&storage), &passcode(), Cost::FAST).unwrap();
        let path = dir.path().canonicalize().unwrap().join("srv/content");
        fs::create_dir_all(&path).unwrap();
        let settings = FileStoreSettings {
            name: "content".to_owned(),
            path,
            exclude: vec!["*.tmp".to_owned()],
            optional: false,
            hooks: Hooks { timeout: Duration::from_secs(30), ..Hooks::default() },
        };
        Self { dir, storage, repository, settings }
    }

    fn filled() -> Self {
        let scene = Self::new();
        fill(scene.path(), "new");
        fs::write(scene.path().join("large"), vec![7; 3 << 20]).unwrap();
        scene
    }

    fn path(&self) -> &Path {
        &self.settings.path
    }

    fn component(&self) -> Arc<dyn Component> {
        file_store(self.settings.clone())
    }

    fn backup(&self) -> Result<Id> {
        let index = self.repository.load_index(&|_| true).unwrap();
        let outcome = self.component().backup(&BackupContext {
            repository: &self.repository,
            index: &index,
            tags: vec!["component=content".to_owned()],
            hostname: "host".to_owned(),
            compression: Compression::Auto,
            control: Control::new(),
        })?;
        Ok(outcome.outcome.snapshot.unwrap())
    }

    fn stage_with(
        &self,
        repository: &Repository,
        snapshot: Id,
        control: &Arc<Control>,
    ) -> Result<Box<dyn StagedRestore>> {
        self.stage_portion(repository, snapshot, Portion::default(), control)
    }

    fn stage_portion(
        &self,
        repository: &Repository,
        snapshot: Id,
        portion: Portion,
        control: &Arc<Control>,
    ) -> Result<Box<dyn StagedRestore>> {
        let index = self.repository.load_index(&|_| true).unwrap();
        let control = Arc::clone(control);
        self.component().stage(&RestoreContext {
            repository,
            index: &index,
            snapshot,
            job_id: JOB,
            portion,
            at: None,
            control,
        })
    }

    fn stage(&self, snapshot: Id) -> Result<Box<dyn StagedRestore>> {
        self.stage_with(&self.repository, snapshot, &Control::new())
    }

    /// Another content in the place of the one that was backed up.
    fn damage(&self) {
        let (content, mut left) = (directory::open(self.path()).unwrap(), Left::default());
        for name in directory::names(&content).unwrap() {
            remove(&content, &name, &mut left);
        }
        assert_eq!(left.count, 0);
        for name in ["user.flavour", "user.only-new"] {
            let _ = rustix::fs::removexattr(self.path(), name);
        }
        fill(self.path(), "old");
    }

    fn assert_no_staging(&self) {
        for place in [self.path(), self.path().parent().unwrap()] {
            for entry in fs::read_dir(place).into_iter().flatten() {
                let name = entry.unwrap().file_name();
                assert!(!name.as_bytes().starts_with(STAGING_PREFIX.as_bytes()), "{name:?} is left");
            }
        }
    }
}

fn passcode() -> Passcode {
    Passcode::new("correct horse".to_owned())
}

/// Modification times, to the nanosecond.
fn times(root: &Path) -> BTreeMap<Vec<u8>, (i64, i64)> {
    let paths = picture(root).into_keys().map(|path| (root.join(std::ffi::OsStr::from_bytes(&path)), path));
    paths
        .map(|(full, path)| {
            let m = fs::symlink_metadata(full).unwrap();
            (path, (m.mtime(), m.mtime_nsec()))
        })
        .collect()
}

#[test]
fn a_restore_brings_back_names_links_modes_attributes_and_times() {
    let scene = Scene::filled();
    let (before, times_before) = (picture(scene.path()), times(scene.path()));
    let snapshot = scene.backup().unwrap();
    scene.damage();
    assert_ne!(picture(scene.path()), before);
    let mut restore = scene.stage(snapshot).unwrap();
    restore.swap().unwrap();
    let outcome = restore.finish().unwrap();
    assert_eq!(picture(scene.path()), before);
    assert_eq!(times(scene.path()), times_before);
    assert!(outcome.bytes >= 3 << 20, "{outcome:?}");
    scene.assert_no_staging();
    assert_eq!(scene.component().recover(JOB, &Portion::default()).unwrap(), Recovered::Nothing);
}

#[test]
fn a_restore_into_a_mount_point_brings_back_the_same() {
    if !is_root() {
        return;
    }
    let scene = Scene::filled();
    let (before, times_before) = (picture(scene.path()), times(scene.path()));
    let snapshot = scene.backup().unwrap();
    scene.damage();
    let source = scene.path().with_file_name("source");
    fs::rename(scene.path(), &source).unwrap();
    fs::create_dir(scene.path()).unwrap();
    let mount = Mount::bind(&source, scene.path());
    let control = Control::new();
    let mut restore = scene.stage_with(&scene.repository, snapshot, &control).unwrap();
    restore.swap().unwrap();
    restore.finish().unwrap();
    assert_eq!(control.warnings(), []);
    assert_eq!(picture(scene.path()), before);
    assert_eq!(times(scene.path()), times_before);
    scene.assert_no_staging();
    drop(mount);
}

#[test]
fn a_restore_makes_a_target_that_does_not_exist() {
    let mut scene = Scene::filled();
    let before = picture(scene.path());
    let snapshot = scene.backup().unwrap();
    let (target, old) =
        (scene.dir.path().canonicalize().unwrap().join("fresh/server/content"), scene.path().to_owned());
    scene.settings.path = target.clone();
    let mut restore = scene.stage(snapshot).unwrap();
    assert!(!target.exists());
    restore.swap().unwrap();
    restore.finish().unwrap();
    assert_eq!(picture(&target), before);
    assert_eq!(picture(&old), before);
    assert_eq!(fs::read_dir(target.parent().unwrap()).unwrap().count(), 1);
}

#[test]
fn a_missing_or_unmounted_root_is_an_error_and_never_an_empty_backup() {
    let mut scene = Scene::new();
    let place = scene.settings.path.clone();
    fs::remove_dir(&place).unwrap();
    fs::write(place.with_file_name("file"), "").unwrap();
    for path in [place.clone(), place.with_file_name("file"), place.with_file_name("file").join("below")] {
        scene.settings.path = path;
        assert_eq!(scene.component().probe().unwrap_err().kind, ErrorKind::Missing);
        assert_eq!(scene.backup().unwrap_err().kind, ErrorKind::Missing);
    }
    assert!(scene.repository.snapshots().unwrap().0.is_empty());
    assert_eq!(scene.component().kind(), Kind::FileStore);
}

#[test]
fn excluded_names_and_staging_directories_are_not_backed_up() {
    let scene = Scene::filled();
    let before = picture(scene.path());
    fs::write(scene.path().join("sub/x.tmp"), "").unwrap();
    fs::create_dir(scene.path().join(format!("{STAGING_PREFIX}j-0"))).unwrap();
    fs::write(scene.path().join(format!("{STAGING_PREFIX}j-0/half")), "").unwrap();
    let snapshot = scene.backup().unwrap();
    let mut restore = scene.stage(snapshot).unwrap();
    restore.swap().unwrap();
    restore.finish().unwrap();
    assert_eq!(picture(scene.path()), before);
    scene.assert_no_staging();
}

#[test]
fn a_root_that_is_a_link_stands_for_its_directory() {
    let mut scene = Scene::filled();
    let before = picture(scene.path());
    let link = scene.dir.path().canonicalize().unwrap().join("link");
    symlink(scene.path(), &link).unwrap();
    let real = std::mem::replace(&mut scene.settings.path, link.clone());
    let snapshot = scene.backup().unwrap();
    fs::remove_file(real.join("large")).unwrap();
    let mut restore = scene.stage(snapshot).unwrap();
    restore.swap().unwrap();
    restore.finish().unwrap();
    assert!(link.is_symlink());
    assert_eq!(picture(&real), before);
}

#[test]
fn hooks_run_around_their_work_and_a_failing_one_stops_it() {
    let mut scene = Scene::filled();
    let log = scene.dir.path().join("log");
    let script = scene.dir.path().join("hook.sh");
    fs::write(&script, format!("echo $STRONGROOM_HOOK >> {}; exit $1", log.display())).unwrap();
    let hook = |code: u8| vec![format!("/bin/sh {} {code}", script.display())];
    scene.settings.hooks.before_backup = hook(0);
    scene.settings.hooks.after_backup = hook(0);
    scene.settings.hooks.before_restore = hook(0);
    scene.settings.hooks.after_restore = hook(0);
    let snapshot = scene.backup().unwrap();
    scene.component().after_backup().unwrap();
    drop(scene.stage(snapshot).unwrap());
    scene.component().after_restore().unwrap();
    assert_eq!(
        fs::read_to_string(&log).unwrap(),
        "before_backup\nafter_backup\nbefore_restore\nafter_restore\n"
    );

    scene.settings.hooks.before_backup = hook(1);
    scene.settings.hooks.before_restore = hook(1);
    assert_eq!(scene.backup().unwrap_err().kind, ErrorKind::Hook);
    assert_eq!(scene.stage(snapshot).err().unwrap().kind, ErrorKind::Hook);
    assert_eq!(scene.repository.snapshots().unwrap().0.len(), 1);
    scene.assert_no_staging();
}

#[test]
fn a_restore_that_is_given_up_leaves_the_target_as_it_was() {
    let scene = Scene::filled();
    let snapshot = scene.backup().unwrap();
    scene.damage();
    let before = (picture(scene.path()), times(scene.path()));
    scene.stage(snapshot).unwrap().abandon().unwrap();
    assert_eq!((picture(scene.path()), times(scene.path())), before, "before the swap");
    drop(scene.stage(snapshot).unwrap());
    assert_eq!((picture(scene.path()), times(scene.path())), before, "dropped");
    assert!(scene.stage(snapshot).unwrap().finish().is_err());
    assert_eq!((picture(scene.path()), times(scene.path())), before, "finished without a swap");
    let mut restore = scene.stage(snapshot).unwrap();
    restore.swap().unwrap();
    restore.abandon().unwrap();
    assert_eq!((picture(scene.path()), times(scene.path())), before, "after the swap");
    scene.assert_no_staging();
}

#[test]
fn a_restore_that_was_left_after_its_swap_is_finished_by_recovery() {
    let scene = Scene::filled();
    let before = picture(scene.path());
    let snapshot = scene.backup().unwrap();
    scene.damage();
    let mut restore = scene.stage(snapshot).unwrap();
    restore.swap().unwrap();
    drop(restore);
    assert_eq!(scene.component().recover(JOB, &Portion::default()).unwrap(), Recovered::Finished);
    assert_eq!(scene.component().recover(JOB, &Portion::default()).unwrap(), Recovered::Nothing);
    assert_eq!(picture(scene.path()), before);
    scene.assert_no_staging();
}

#[test]
fn cancelled_while_staging_nothing_is_left() {
    let scene = Scene::filled();
    let snapshot = scene.backup().unwrap();
    scene.damage();
    let before = picture(scene.path());
    let control = Control::new();
    control.cancel();
    let error = scene.stage_with(&scene.repository, snapshot, &control).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert_eq!(picture(scene.path()), before);
    scene.assert_no_staging();
}

#[test]
fn a_store_that_fails_at_any_call_leaves_the_target_untouched() {
    let scene = Scene::filled();
    let snapshot = scene.backup().unwrap();
    scene.damage();
    let before = picture(scene.path());
    for at in 1.. {
        let faulty = Arc::new(Faulty::new(Arc::clone(&scene.storage), FaultPlan::new(at, Fault::DieBefore)));
        let Ok(repository) = Repository::open(faulty, &passcode()) else { continue };
        match scene.stage_with(&repository, snapshot, &Control::new()) {
            Ok(restore) => {
                restore.abandon().unwrap();
                break;
            }
            Err(_) => {
                assert_eq!(picture(scene.path()), before, "call {at}");
                scene.assert_no_staging();
            }
        }
        assert!(at < 1000);
    }
}

#[test]
fn damage_in_the_store_is_found_before_the_target_is_touched() {
    let scene = Scene::filled();
    let snapshot = scene.backup().unwrap();
    scene.damage();
    let before = picture(scene.path());
    let mut packs = 0;
    let data = scene.dir.path().join("store/data");
    let mut todo = vec![data];
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
            continue;
        }
        let mut bytes = fs::read(&path).unwrap();
        bytes[40] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        packs += 1;
    }
    assert!(packs > 0);
    assert_eq!(scene.stage(snapshot).err().unwrap().kind, ErrorKind::Damaged);
    assert_eq!(picture(scene.path()), before);
    scene.assert_no_staging();
}

#[test]
fn a_full_disk_is_found_out_beforehand_or_while_staging_and_nothing_is_left() {
    if !is_root() {
        return;
    }
    let mut scene = Scene::new();
    for n in 0..300 {
        fs::write(scene.path().join(format!("small-{n}")), "x").unwrap();
    }
    let many = scene.backup().unwrap();
    fs::write(scene.path().join("large"), vec![9; 2 << 20]).unwrap();
    let large = scene.backup().unwrap();
    let disk = scene.dir.path().canonicalize().unwrap().join("disk");
    fs::create_dir(&disk).unwrap();
    let mount = Mount::tmpfs(&disk, "size=1m,nr_inodes=10000");
    scene.settings.path = disk.join("content");
    fs::create_dir(scene.path()).unwrap();
    fs::write(scene.path().join("kept"), "x").unwrap();
    let before = picture(scene.path());
    for (snapshot, why) in [(large, "bytes on that file system"), (many, "")] {
        let error = scene.stage(snapshot).err().unwrap();
        assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
        assert!(error.message.contains(why), "{error}");
        assert_eq!(picture(scene.path()), before);
        scene.assert_no_staging();
    }
    drop(mount);
}

#[test]
fn a_plan_tells_each_change_by_name_and_nothing_of_what_is_never_swapped() {
    let scene = Scene::filled();
    let snapshot = scene.backup().unwrap();
    fs::remove_file(scene.path().join("large")).unwrap();
    fs::write(scene.path().join("other"), "x").unwrap();
    fs::create_dir(scene.path().join("lost+found")).unwrap();
    fs::create_dir(scene.path().join(format!("{STAGING_PREFIX}left"))).unwrap();
    let index = scene.repository.load_index(&|_| true).unwrap();
    let mut told = Vec::new();
    let mut see = |path: &[u8], change: repository::Planned, _| {
        told.push((String::from_utf8(path.to_vec()).unwrap(), change));
        Ok(())
    };
    let plan = scene
        .component()
        .plan(&scene.repository, &index, snapshot, &Portion::default(), &Control::new(), &mut see)
        .unwrap();
    told.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [("/large", repository::Planned::Made), ("/other", repository::Planned::Removed)];
    assert_eq!(told, expected.map(|(path, change)| (path.to_owned(), change)));
    assert_eq!((plan.made, plan.removed), (1, 1), "{plan:?}");
}

/// What lies below a path, and what does not.
fn divided(scene: &Scene, path: &str) -> [BTreeMap<Vec<u8>, String>; 2] {
    let below = |name: &[u8]| name == path.as_bytes() || name.starts_with(format!("{path}/").as_bytes());
    // The numbers of hard links depend on what else is there.
    let lines = [picture(&scene.path().join(path)), picture(scene.path())];
    let [inside, all] = lines;
    [inside, all.into_iter().filter(|(name, _)| !below(name)).collect()]
}

#[test]
fn a_directory_alone_comes_back_and_all_around_it_stays_as_it_is() {
    let scene = Scene::filled();
    let snapshot = scene.backup().unwrap();
    let portion = Portion { paths: vec!["sub/deep/".to_owned()], into: None };
    let [before, _] = divided(&scene, "sub/deep");
    fs::set_permissions(scene.path().join("sub/deep"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(scene.path().join("sub/deep/c"), "damaged, and longer").unwrap();
    fs::write(scene.path().join("sub/deep/new"), "came later").unwrap();
    fs::write(scene.path().join("sub/b"), "changed too").unwrap();
    fs::write(scene.path().join("another"), "came later").unwrap();
    let [damaged, around] = divided(&scene, "sub/deep");
    let stage =
        || scene.stage_portion(&scene.repository, snapshot, portion.clone(), &Control::new()).unwrap();
    let recover = || scene.component().recover(JOB, &portion).unwrap();

    let index = scene.repository.load_index(&|_| true).unwrap();
    let mut told = Vec::new();
    let mut see = |path: &[u8], _: repository::Planned, _| {
        told.push(String::from_utf8(path.to_vec()).unwrap());
        Ok(())
    };
    scene.component().plan(&scene.repository, &index, snapshot, &portion, &Control::new(), &mut see).unwrap();
    told.sort();
    assert!(
        told.contains(&"/sub/deep/c".to_owned()) && told.contains(&"/sub/deep/new".to_owned()),
        "{told:?}"
    );
    assert!(told.iter().all(|path| path.starts_with("/sub/deep")), "{told:?}");

    // Dead before the swap, taken back after it, dead after it.
    std::mem::forget(stage());
    assert_eq!(recover(), Recovered::Undone);
    assert_eq!(divided(&scene, "sub/deep"), [damaged.clone(), around.clone()]);
    let mut staged = stage();
    staged.swap().unwrap();
    staged.abandon().unwrap();
    assert_eq!(divided(&scene, "sub/deep"), [damaged, around.clone()]);
    let mut staged = stage();
    staged.swap().unwrap();
    std::mem::forget(staged);
    assert_eq!(recover(), Recovered::Finished);
    assert_eq!(divided(&scene, "sub/deep"), [before.clone(), around.clone()]);
    assert_eq!(recover(), Recovered::Nothing);

    // One that is gone is made again.
    fs::remove_dir_all(scene.path().join("sub/deep")).unwrap();
    let mut staged = stage();
    staged.swap().unwrap();
    staged.finish().unwrap();
    assert_eq!(divided(&scene, "sub/deep"), [before, around]);
    scene.assert_no_staging();
}

#[test]
fn a_path_that_leads_out_or_is_no_directory_is_refused_and_nothing_is_changed() {
    let scene = Scene::filled();
    fs::create_dir_all(scene.path().join("ways/inner")).unwrap();
    let snapshot = scene.backup().unwrap();
    let outside = scene.dir.path().join("outside");
    fs::create_dir_all(outside.join("inner")).unwrap();
    let index = scene.repository.load_index(&|_| true).unwrap();
    let refused = |paths: &[&str], into: Option<&str>, words: &str| {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        let portion = Portion { paths, into: into.map(str::to_owned) };
        let before = picture(scene.path());
        let check = scene.component().check(&scene.repository, &index, snapshot, &portion, &Control::new());
        let staged = scene.stage_portion(&scene.repository, snapshot, portion, &Control::new());
        for error in [check.err().unwrap(), staged.err().unwrap()] {
            assert!(error.kind == ErrorKind::Selection && error.message.contains(words), "{error}");
        }
        assert_eq!(picture(scene.path()), before);
    };
    for path in ["..", "sub/../..", "./sub", "/etc", "sub//deep", ""] {
        refused(&[path], None, "is no path below");
    }
    refused(&["a"], None, "is no directory in the backup");
    refused(&["nothing"], None, "holds no 'nothing'");
    refused(&["sub", "ways"], None, "one directory at a time");
    refused(&["sub"], Some("elsewhere"), "in its own place alone");
    // Links where there were directories.
    fs::remove_dir_all(scene.path().join("ways")).unwrap();
    refused(&["ways/inner"], None, "is no directory now");
    symlink(&outside, scene.path().join("ways")).unwrap();
    refused(&["ways/inner"], None, "a symbolic link lies on the way");
    refused(&["ways"], None, "is no directory now; move it away");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}
