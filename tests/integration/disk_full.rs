//! No room: in the repository or store, at the target, in the staging place. The message names the place, what was
//! there before is whole, nothing half-made is visible, and after room was made all goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use strongroom_tests::tree::{Picture, am_root, noise};
use tempfile::TempDir;

use crate::command::{Place, restic, run};
use crate::world::{self, Store};

const MIB: usize = 1 << 20;

/// A file system of a few MiB of its own, unmounted at the end.
pub struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// `None`, and a line that says so, where nothing can be mounted.
    pub fn mount(at: &Path, bytes: usize) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes},mode=0700");
        let mounted = am_root()
            && run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "strongroom-test"]).arg(at)).code
                == 0;
        if !mounted {
            println!(
                "NOT TESTED: a full disk, since a small file system cannot be mounted here (needs root)"
            );
        }
        mounted.then(|| Self { at: at.to_owned() })
    }

    pub fn resize(&self, bytes: usize) {
        run(Command::new("mount").args(["-o", &format!("remount,size={bytes}")]).arg(&self.at)).expect(0);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}

#[test]
fn a_backup_into_a_full_repository_fails_cleanly_and_goes_on_when_there_is_room() {
    let place = Place::new();
    let Some(disk) = SmallDisk::mount(&place.repository(), 8 * MIB) else { return };
    place.repo(["init"]).expect(0);
    let (small, large) = (place.path("small"), place.path("large"));
    for (directory, bytes) in [(&small, MIB), (&large, 24 * MIB)] {
        fs::create_dir(directory).unwrap();
        fs::write(directory.join("noise"), noise(bytes as u64, bytes)).unwrap();
    }
    let before = Picture::take(&small);
    place.repo(["backup", small.to_str().unwrap()]).expect(0);

    let failed = place.repo(["backup", large.to_str().unwrap()]).expect(1);
    let repository = place.repository();
    let failed = failed.expect_text("no space").expect_text(repository.to_str().unwrap());
    assert!(!failed.out.contains("saved"), "{failed}");

    let intact = || {
        let listed = place.repo(["--no-lock", "--json", "snapshots"]).expect(0).json().remove(0);
        assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
        place.repo(["--no-lock", "check", "--read-data"]).expect(0);
        place.restic(&restic(), ["--no-lock", "check", "--read-data"]).expect(0);
        let target = place.path("target");
        let what = format!("latest:{}", small.display());
        place
            .repo(["--no-lock", "restore", &what, "--verify", "--target", target.to_str().unwrap()])
            .expect(0);
        before.assert_same(&Picture::take(&target), "restored from the full repository");
        fs::remove_dir_all(&target).unwrap();
    };
    intact();
    // Again: a full disk must not get fuller, nor anything worse.
    place.repo(["backup", large.to_str().unwrap()]).expect(1).expect_text("no space");
    intact();
    let hidden = files_below(&repository).into_iter().filter(|name| name.contains("tmp")).collect::<Vec<_>>();
    assert!(hidden.is_empty(), "left behind: {hidden:?}");

    disk.resize(64 * MIB);
    place.repo(["backup", large.to_str().unwrap()]).expect(0);
    place.repo(["check", "--read-data"]).expect(0);
    place.restic(&restic(), ["check", "--read-data"]).expect(0);
}

fn files_below(root: &Path) -> Vec<String> {
    let listed = run(Command::new("find").arg(root).args(["-type", "f", "-printf", "%P\\n"])).expect(0);
    listed.out.lines().map(str::to_owned).collect()
}

#[test]
fn a_full_disk_can_be_emptied_by_forget_and_prune() {
    let place = Place::new();
    let Some(_disk) = SmallDisk::mount(&place.repository(), 8 * MIB) else { return };
    place.repo(["init"]).expect(0);
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    for generation in 0..2 {
        fs::write(source.join("noise"), noise(generation, 3 * MIB)).unwrap();
        place.repo(["backup", source.to_str().unwrap()]).expect(0);
    }
    let before = Picture::take(&source);
    fs::write(source.join("noise"), noise(9, 6 * MIB)).unwrap();
    place.repo(["backup", source.to_str().unwrap()]).expect(1).expect_text("no space");
    place.repo(["forget", "--keep-last", "1", "--prune"]).expect(0);
    place.repo(["check", "--read-data"]).expect(0);
    let target = place.path("target");
    let what = format!("latest:{}", source.display());
    place.repo(["restore", &what, "--target", target.to_str().unwrap()]).expect(0);
    before.assert_same(&Picture::take(&target), "what was kept");
}

#[test]
fn a_restore_into_a_full_target_names_it() {
    let place = Place::with_repository();
    let target = place.path("target");
    let Some(disk) = SmallDisk::mount(&target, 2 * MIB) else { return };
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    for number in 0..8 {
        fs::write(source.join(format!("{number}")), noise(number, MIB)).unwrap();
    }
    let before = Picture::take(&source);
    place.repo(["backup", source.to_str().unwrap()]).expect(0);
    let what = format!("latest:{}", source.display());
    let restore = ["restore", &what, "--verify", "--target", target.to_str().unwrap()];
    let failed = place.repo(restore).expect(1).expect_text("no space");
    assert!(failed.err.contains(target.to_str().unwrap()), "the target is not named: {failed}");
    place.repo(["check", "--read-data"]).expect(0);
    disk.resize(32 * MIB);
    place.repo(restore).expect(0);
    before.assert_same(&Picture::take(&target), "restored after room was made");
}

#[test]
fn a_rescue_into_a_full_target_names_it() {
    let world = world::World::new();
    let target = world.path("target");
    let Some(disk) = SmallDisk::mount(&target, MIB / 2) else { return };
    let rescue = || {
        let mut command = crate::command::strongroom(["rescue", "restore", "--backup", "second"]);
        run(command.arg("--store").arg(world.root()).arg("--target").arg(&target))
    };
    let failed = rescue().expect(1).expect_text("no space");
    assert!(failed.err.contains(target.to_str().unwrap()), "the target is not named: {failed}");
    fs::read_dir(&target).unwrap().for_each(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    });
    disk.resize(16 * MIB);
    rescue().expect(0);
    world.backups[1].expected.assert_same(&Picture::take(&target), "rescued after room was made");
}

#[test]
fn a_backup_into_a_full_store_leaves_nothing_visible_and_earlier_backups_whole() {
    let dir = TempDir::with_prefix("strongroom-").unwrap();
    let Some(disk) = SmallDisk::mount(&dir.path().join("store"), 6 * MIB) else { return };
    let world = world::World::in_directory(dir);
    // Unmounted before the directory goes.
    let disk = disk;
    let store = Store::open(world::directory(&world.root())).unwrap();
    let large = world.path("large");
    fs::create_dir(&large).unwrap();
    fs::write(large.join("noise"), noise(5, 12 * MIB)).unwrap();
    let task = world::task("large", world::PASSCODE, &large);
    for _ in 0..2 {
        let failed = world::back_up(&store, &task).unwrap_err();
        assert_eq!(failed.kind, recovery::ErrorKind::NoSpace, "{failed}");
        assert!(
            failed.message.contains("no space") && failed.message.contains(world.root().to_str().unwrap()),
            "{failed}"
        );
        assert_eq!(world.verify().unwrap(), [""; 0]);
        assert_eq!(store.backups().unwrap().0.len(), 3, "backups in the catalogue");
        assert_eq!(world.no_restore_is_wrong("from a full store"), 3);
    }
    disk.resize(64 * MIB);
    world::back_up(&store, &task).unwrap();
    assert_eq!(world.verify().unwrap(), [""; 0]);
    assert_eq!(store.backups().unwrap().0.len(), 4, "backups in the catalogue");
    assert_eq!(world::keys(&world.root(), "running/"), [""; 0]);
}

#[test]
fn a_restore_without_room_for_staging_leaves_the_content_untouched() {
    let world = world::World::new();
    let content = world.path("small disk/content");
    let Some(disk) = SmallDisk::mount(&world.path("small disk"), 6 * MIB) else { return };
    fs::create_dir(&content).unwrap();
    fs::write(content.join("noise"), noise(6, 4 * MIB)).unwrap();
    fs::write(content.join("text"), "a text").unwrap();
    let original = Picture::take(&content);
    let store = Store::open(world::directory(&world.root())).unwrap();
    world::back_up(&store, &world::task("small", world::PASSCODE, &content)).unwrap();
    // Other content, so that nothing can be reused.
    fs::write(content.join("noise"), noise(7, 4 * MIB)).unwrap();
    let changed = Picture::take(&content);
    let failed = world::restore_in_place(&store, "small", world::PASSCODE, &content).unwrap_err();
    assert_eq!(failed.kind, recovery::ErrorKind::NoSpace, "{failed}");
    let told = failed.message.to_lowercase();
    assert!(told.contains("space") || told.contains("room"), "{failed}");
    assert!(
        failed.message.contains(content.parent().unwrap().to_str().unwrap()),
        "the place is not named: {failed}"
    );
    changed.assert_same(&Picture::take(&content), "content after the restore that had no room");
    assert_eq!(
        fs::read_dir(content.parent().unwrap()).unwrap().count(),
        1,
        "nothing lies beside the content"
    );
    disk.resize(32 * MIB);
    world::restore_in_place(&store, "small", world::PASSCODE, &content).unwrap();
    original.assert_same(&Picture::take(&content), "content after the restore");
}
