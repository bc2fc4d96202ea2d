//! The swap under failures: killed or failing at every single step, the target is old or new, never a mixture.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use super::journal::{self, Method, Phase};
use super::place::{STAGING_PREFIX, staging_name};
use super::recover::{recover, recover_with};
use super::staging::{NEW, Staging, finished_name};
use super::swap::Swap;
use super::test_support::{Mount, fill, is_root, kill, picture, staged_by_hand, until_killed};
use crate::{ErrorKind, Recovered};

const JOB: &str = "j1";
type Picture = BTreeMap<Vec<u8>, String>;

/// The ways a swap can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Exchange,
    TwoRenames,
    Absent,
    Entries,
}

impl Way {
    fn refusal(self) -> Option<Errno> {
        (self == Way::TwoRenames).then_some(Errno::INVAL)
    }
}

const WAYS: [Way; 4] = [Way::Exchange, Way::TwoRenames, Way::Absent, Way::Entries];

/// A target with old content, its restore staged, and what both look like.
struct Scene {
    _dir: tempfile::TempDir,
    way: Way,
    target: PathBuf,
    old: Option<Picture>,
    new: Picture,
}

impl Scene {
    fn new(way: Way) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        let (target, like) = (root.join("content"), root.join("like"));
        fs::create_dir(&like).unwrap();
        fill(&like, "new");
        if way != Way::Absent {
            fs::create_dir(&target).unwrap();
            fill(&target, "old");
        }
        let old = (way != Way::Absent).then(|| picture(&target));
        Self { _dir: dir, way, target, old, new: picture(&like) }
    }

    fn stage(&self) -> Swap {
        let method = if self.way == Way::Entries { Method::Entries } else { Method::Root };
        let mut swap = staged_by_hand(&self.target, method, JOB);
        swap.exchange_refused = self.way.refusal();
        swap
    }

    fn recover(&self) -> Recovered {
        recover_with("content", &self.target, JOB, &mut |s| s.exchange_refused = self.way.refusal()).unwrap()
    }

    fn now(&self) -> Option<Picture> {
        self.target.exists().then(|| picture(&self.target))
    }

    fn assert_clean(&self, what: &str) {
        for place in [Some(self.target.as_path()), self.target.parent()].into_iter().flatten() {
            let Ok(listing) = fs::read_dir(place) else { continue };
            for entry in listing {
                let name = entry.unwrap().file_name();
                assert!(!name.to_string_lossy().starts_with(STAGING_PREFIX), "{what}: {name:?} is left");
            }
        }
    }
}

/// Calls `act` at the `n`th step that the swap reaches, counted from one.
fn at_step(swap: &mut Swap, n: u32, act: fn() -> io::Result<()>) {
    let count = AtomicU32::new(0);
    swap.checkpoint =
        Box::new(move |_| if count.fetch_add(1, Ordering::Relaxed) + 1 == n { act() } else { Ok(()) });
}

fn killed() -> io::Result<()> {
    kill()
}

fn failed() -> io::Result<()> {
    Err(io::Error::other("injected"))
}

fn whole_restore(swap: &mut Swap) {
    swap.enter(Phase::Staging).unwrap();
    swap.prepare().unwrap();
    swap.run().unwrap();
    swap.finish().unwrap();
}

#[test]
fn each_way_of_swapping_brings_the_restored_content_whole() {
    for way in WAYS {
        let scene = Scene::new(way);
        let mut swap = scene.stage();
        whole_restore(&mut swap);
        assert_eq!(swap.warnings, Vec::<String>::new(), "{way:?}");
        assert_eq!(scene.now().as_ref(), Some(&scene.new), "{way:?}");
        scene.assert_clean("after the restore");
        assert_eq!(scene.recover(), Recovered::Nothing, "{way:?}");
    }
}

#[test]
fn killed_at_any_step_the_next_start_leaves_old_or_new_and_never_a_mixture() {
    for way in WAYS {
        let (mut undone, mut finished) = (0, 0);
        for n in 1.. {
            let scene = Scene::new(way);
            let mut swap = scene.stage();
            at_step(&mut swap, n, killed);
            if until_killed(|| whole_restore(&mut swap)).is_some() {
                break;
            }
            drop(swap);
            match scene.recover() {
                Recovered::Undone => {
                    undone += 1;
                    assert_eq!(finished, 0, "{way:?} step {n}: once the swap was announced it is finished");
                    assert_eq!(scene.now(), scene.old, "{way:?} step {n}");
                }
                Recovered::Finished => {
                    finished += 1;
                    assert_eq!(scene.now().as_ref(), Some(&scene.new), "{way:?} step {n}");
                }
                Recovered::Nothing => panic!("{way:?} step {n}: the staging directory was not found"),
            }
            scene.assert_clean(&format!("{way:?} step {n}"));
            assert_eq!(scene.recover(), Recovered::Nothing);
        }
        assert_eq!(undone, 2, "{way:?}: before and after staging");
        assert!(finished >= 3, "{way:?}: {finished}");
    }
}

#[test]
fn killed_again_while_recovering_it_still_ends_whole() {
    for way in WAYS {
        for n in 3.. {
            let scene = Scene::new(way);
            let mut swap = scene.stage();
            at_step(&mut swap, n, killed);
            if until_killed(|| whole_restore(&mut swap)).is_some() {
                break;
            }
            drop(swap);
            // Killed once more at each of the first steps of every recovery, until one comes through.
            let mut kills = 0;
            while until_killed(|| {
                let adjust = &mut |swap: &mut Swap| {
                    swap.exchange_refused = way.refusal();
                    at_step(swap, 1 + kills % 3, killed);
                };
                recover_with("content", &scene.target, JOB, adjust).unwrap()
            })
            .is_none()
            {
                kills += 1;
                assert!(kills < 200, "{way:?} step {n}: no progress");
            }
            assert_eq!(scene.now().as_ref(), Some(&scene.new), "{way:?} step {n}");
            scene.assert_clean(&format!("{way:?} step {n}"));
        }
    }
}

#[test]
fn a_failure_at_any_step_puts_the_old_content_back() {
    for way in WAYS {
        let mut failures = 0;
        for n in 1.. {
            let scene = Scene::new(way);
            let mut swap = scene.stage();
            swap.enter(Phase::Staging).unwrap();
            swap.prepare().unwrap();
            at_step(&mut swap, n, failed);
            let Err(error) = swap.run() else { break };
            failures += 1;
            assert!(error.message.contains("the target is as it was before"), "{error}");
            assert_eq!(scene.now(), scene.old, "{way:?} step {n}");
            assert!(swap.run().is_err(), "it cannot be swapped any more");
            swap.give_up().unwrap();
            scene.assert_clean(&format!("{way:?} step {n}"));
        }
        assert!(failures >= 3, "{way:?}: {failures}");
    }
}

#[test]
fn killed_while_undoing_the_next_start_ends_whole() {
    for way in WAYS {
        let mut kills = 0;
        for n in 1.. {
            let scene = Scene::new(way);
            let mut swap = scene.stage();
            swap.enter(Phase::Staging).unwrap();
            swap.prepare().unwrap();
            swap.run().unwrap();
            at_step(&mut swap, n, killed);
            let gone = until_killed(|| swap.give_up().unwrap()).is_some();
            drop(swap);
            let recovered = scene.recover();
            assert_eq!(recovered == Recovered::Nothing, gone, "{way:?} step {n}");
            assert_ne!(recovered, Recovered::Finished, "{way:?} step {n}");
            assert_eq!(scene.now(), scene.old, "{way:?} step {n}");
            scene.assert_clean(&format!("{way:?} step {n}"));
            kills += 1;
            if gone {
                break;
            }
        }
        assert!(kills >= 3, "{way:?}: {kills}");
    }
}

#[test]
fn a_swap_that_failed_midway_and_could_not_be_put_back_is_settled_at_the_next_start() {
    for way in [Way::TwoRenames, Way::Entries] {
        let scene = Scene::new(way);
        let mut swap = scene.stage();
        swap.enter(Phase::Staging).unwrap();
        swap.prepare().unwrap();
        let count = AtomicU32::new(0);
        swap.checkpoint =
            Box::new(move |_| if count.fetch_add(1, Ordering::Relaxed) < 2 { Ok(()) } else { failed() });
        let error = swap.run().unwrap_err();
        assert!(error.message.contains("could not be put back either"), "{error}");
        drop(swap);
        assert_eq!(scene.recover(), Recovered::Undone);
        assert_eq!(scene.now(), scene.old, "{way:?}");
        scene.assert_clean("settled");
    }
}

#[test]
fn an_entry_that_cannot_be_moved_leaves_the_target_as_it_was() {
    if !is_root() {
        return;
    }
    let scene = Scene::new(Way::Entries);
    let stuck = scene.target.join("sub");
    let chattr = |flag: &str| {
        std::process::Command::new("chattr").arg(flag).arg(&stuck).status().is_ok_and(|s| s.success())
    };
    if !chattr("+i") {
        println!("SKIPPED: no immutable files on this file system");
        return;
    }
    let mut swap = scene.stage();
    swap.enter(Phase::Staging).unwrap();
    swap.prepare().unwrap();
    let result = swap.run();
    assert!(chattr("-i"));
    let error = result.unwrap_err();
    assert!(error.message.contains("\"sub\""), "{error}");
    assert_eq!(scene.now(), scene.old);
    swap.give_up().unwrap();
    scene.assert_clean("given up");
}

#[test]
fn old_content_that_cannot_be_removed_is_named_and_the_restore_stands() {
    if !is_root() {
        return;
    }
    let scene = Scene::new(Way::Exchange);
    let stuck = scene.target.join("sub/b");
    let mut swap = scene.stage();
    let stuck_in_old = swap.staging.path.join(NEW).join("sub/b");
    let chattr = |flag: &str, path: &Path| {
        std::process::Command::new("chattr").arg(flag).arg(path).status().is_ok_and(|s| s.success())
    };
    if !chattr("+i", &stuck) {
        println!("SKIPPED: no immutable files on this file system");
        return;
    }
    swap.enter(Phase::Staging).unwrap();
    swap.prepare().unwrap();
    swap.run().unwrap();
    let finished = swap.finish();
    assert!(chattr("-i", &stuck_in_old));
    finished.unwrap();
    assert_eq!(swap.warnings.len(), 1);
    assert!(swap.warnings[0].contains("1 entries (\"b\": Operation not permitted"), "{:?}", swap.warnings);
    assert_eq!(scene.now().as_ref(), Some(&scene.new));
    assert_eq!(scene.recover(), Recovered::Finished, "what is left can be removed later");
    scene.assert_clean("recovered");
}

#[test]
fn a_bind_mounted_target_is_swapped_although_its_root_cannot_be_renamed() {
    if !is_root() {
        return;
    }
    // As the restore sees it beforehand, and as the kernel says only when it is asked to rename.
    for method in [Method::Entries, Method::Root] {
        let scene = Scene::new(Way::Exchange);
        let source = scene.target.with_file_name("source");
        fs::rename(&scene.target, &source).unwrap();
        fs::create_dir(&scene.target).unwrap();
        fs::create_dir(source.join("lost+found")).unwrap();
        fs::write(source.join("lost+found/#1"), "the file system's own").unwrap();
        let mount = Mount::bind(&source, &scene.target);
        let mut swap = staged_by_hand(&scene.target, method, JOB);
        swap.enter(Phase::Staging).unwrap();
        swap.prepare().unwrap();
        let swapped = swap.run();
        if method == Method::Root {
            // The staging directory lies on the other side of the mount and cannot move in: refused, untouched.
            let error = swapped.unwrap_err();
            assert!(error.message.contains("the target is as it was before"), "{error}");
            swap.give_up().unwrap();
            let mut old = scene.old.clone().unwrap();
            let now = scene.now().unwrap();
            old.extend(
                now.iter().filter(|(k, _)| k.starts_with(b"lost+found")).map(|(k, v)| (k.clone(), v.clone())),
            );
            assert_eq!(now, old);
        } else {
            swapped.unwrap();
            swap.finish().unwrap();
            assert_eq!(swap.warnings, Vec::<String>::new());
            assert!(scene.target.join("lost+found/#1").exists());
            fs::remove_dir_all(scene.target.join("lost+found")).unwrap();
            assert_eq!(scene.now().as_ref(), Some(&scene.new));
        }
        drop(mount);
    }
}

#[test]
fn a_root_that_the_kernel_will_not_rename_is_swapped_by_its_entries() {
    for n in 1.. {
        let scene = Scene::new(Way::Exchange);
        let mut swap = scene.stage();
        swap.enter(Phase::Staging).unwrap();
        swap.prepare().unwrap();
        swap.exchange_refused = Some(Errno::BUSY);
        at_step(&mut swap, n, killed);
        let done = until_killed(|| swap.run().unwrap()).is_some();
        if done {
            swap.checkpoint = Box::new(|_| Ok(()));
            swap.finish().unwrap();
            assert_eq!(swap.warnings, Vec::<String>::new());
            assert_eq!(swap.journal.method, Method::Entries);
        }
        drop(swap);
        match scene.recover() {
            Recovered::Undone => assert_eq!(scene.now(), scene.old, "step {n}"),
            Recovered::Finished | Recovered::Nothing => {
                assert_eq!(scene.now().as_ref(), Some(&scene.new), "step {n}");
            }
        }
        scene.assert_clean(&format!("step {n}"));
        if done {
            assert!(n > 10);
            break;
        }
    }
}

#[test]
fn what_is_written_while_entries_move_never_mixes_with_the_restored() {
    let scene = Scene::new(Way::Entries);
    let mut swap = scene.stage();
    swap.enter(Phase::Staging).unwrap();
    swap.prepare().unwrap();
    let target = scene.target.clone();
    let count = Arc::new(AtomicU32::new(0));
    swap.checkpoint = Box::new(move |step| {
        // A busy application: it makes the same names again after each of the first moves.
        if step.starts_with("move") && count.fetch_add(1, Ordering::Relaxed) < 9 {
            let _ = fs::write(target.join("a"), "late");
            let _ = fs::create_dir(target.join("sub"));
        }
        Ok(())
    });
    swap.run().unwrap();
    swap.checkpoint = Box::new(|_| Ok(()));
    assert_eq!(fs::read_to_string(scene.target.join("sub/b")).unwrap(), "new sub/b");
    swap.finish().unwrap();
    assert_eq!(fs::read_to_string(scene.target.join("link")).unwrap_or_default(), "");
    scene.assert_clean("finished");
}

#[test]
fn another_jobs_staging_directory_inside_the_target_is_left_alone() {
    let scene = Scene::new(Way::Entries);
    let other = scene.target.join(staging_name("other", &scene.target).unwrap());
    fs::create_dir(&other).unwrap();
    fs::write(other.join("kept"), "x").unwrap();
    let mut swap = scene.stage();
    whole_restore(&mut swap);
    assert_eq!(scene.now().as_ref(), Some(&scene.new));
    assert!(other.join("kept").exists());
}

#[test]
fn the_root_keeps_the_restored_times_although_its_entries_were_moved() {
    use std::os::unix::fs::MetadataExt;
    let scene = Scene::new(Way::Entries);
    let mut swap = scene.stage();
    let new = fs::File::open(swap.staging.path.join(NEW)).unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123);
    new.set_times(fs::FileTimes::new().set_modified(then)).unwrap();
    whole_restore(&mut swap);
    let now = fs::metadata(&scene.target).unwrap();
    assert_eq!((now.mtime(), now.mtime_nsec()), (1_000_000_000, 123));
}

#[test]
fn a_difference_after_the_swap_is_told() {
    let scene = Scene::new(Way::Exchange);
    let mut swap = scene.stage();
    swap.enter(Phase::Staging).unwrap();
    swap.prepare().unwrap();
    swap.run().unwrap();
    fs::write(scene.target.join("late"), "by an application").unwrap();
    swap.finish().unwrap();
    assert!(swap.warnings[0].contains("something else has written there"), "{:?}", swap.warnings);
}

#[test]
fn a_target_replaced_by_somebody_else_meanwhile_is_not_touched() {
    let scene = Scene::new(Way::Exchange);
    let mut swap = scene.stage();
    swap.enter(Phase::Staging).unwrap();
    swap.prepare().unwrap();
    fs::rename(&scene.target, scene.target.with_file_name("elsewhere")).unwrap();
    fs::create_dir(&scene.target).unwrap();
    fs::write(scene.target.join("mine"), "x").unwrap();
    let error = swap.run().unwrap_err();
    assert!(error.message.contains("was replaced by another directory"), "{error}");
    swap.give_up().unwrap();
    assert_eq!(fs::read_to_string(scene.target.join("mine")).unwrap(), "x");
    scene.assert_clean("given up");

    // After the swap: the old content is kept, and said to be.
    let scene = Scene::new(Way::Exchange);
    let mut swap = scene.stage();
    swap.enter(Phase::Staging).unwrap();
    swap.prepare().unwrap();
    swap.run().unwrap();
    fs::rename(&scene.target, scene.target.with_file_name("elsewhere")).unwrap();
    fs::create_dir(&scene.target).unwrap();
    assert_eq!(swap.finish().unwrap_err().kind, ErrorKind::Damaged);
    assert_eq!(recover("content", &scene.target, JOB).unwrap_err().kind, ErrorKind::Damaged);
    assert_eq!(picture(&swap.staging.path.join(NEW)), scene.old.unwrap());
}

#[test]
fn a_damaged_journal_stops_recovery_and_nothing_is_removed() {
    let scene = Scene::new(Way::Exchange);
    let mut swap = scene.stage();
    swap.enter(Phase::Staging).unwrap();
    swap.prepare().unwrap();
    fs::write(swap.staging.path.join(journal::FILE), "{").unwrap();
    let error = recover("content", &scene.target, JOB).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Damaged);
    assert!(swap.staging.path.join(NEW).join("a").exists());
    assert_eq!(scene.now(), scene.old);
}

#[test]
fn a_staging_directory_without_journal_is_removed() {
    let scene = Scene::new(Way::Exchange);
    let swap = scene.stage();
    drop(swap);
    assert_eq!(scene.recover(), Recovered::Undone);
    assert_eq!(scene.now(), scene.old);
    scene.assert_clean("undone");
}

#[test]
fn killed_while_removing_what_is_no_longer_needed_the_rest_goes_at_the_next_start() {
    for way in WAYS {
        // The old content, half removed.
        let scene = Scene::new(way);
        let mut swap = scene.stage();
        swap.enter(Phase::Staging).unwrap();
        swap.prepare().unwrap();
        swap.run().unwrap();
        for half in [NEW, "old/0", "old"] {
            let _ = fs::remove_file(swap.staging.path.join(half).join("a"));
            let _ = fs::remove_dir_all(swap.staging.path.join(half).join("sub"));
        }
        assert_eq!(scene.recover(), Recovered::Finished, "{way:?}");
        assert_eq!(scene.now().as_ref(), Some(&scene.new), "{way:?}");
        scene.assert_clean("finished");

        // The staged content, half removed: it must never be swapped in.
        let scene = Scene::new(way);
        let mut swap = scene.stage();
        swap.enter(Phase::Staging).unwrap();
        swap.prepare().unwrap();
        // A journal write that reported failure may have come through all the same.
        let mut announced = swap.journal.clone();
        announced.phase =
            if swap.journal.method == Method::Root { Phase::Swapping } else { Phase::MovingOut };
        announced.store(&swap.staging.directory).unwrap();
        swap.undo().unwrap();
        fs::remove_file(swap.staging.path.join(NEW).join("a")).unwrap();
        assert_eq!(scene.recover(), Recovered::Undone, "{way:?}");
        assert_eq!(scene.now(), scene.old, "{way:?}");
        scene.assert_clean("undone");

        // The staging directory itself, of a restore that has ended.
        let scene = Scene::new(way);
        let swap = scene.stage();
        let path = swap.staging.path.clone();
        fs::rename(&path, path.with_file_name(finished_name(path.file_name().unwrap()))).unwrap();
        assert_eq!(scene.recover(), Recovered::Finished, "{way:?}");
        scene.assert_clean("ended");
    }
}

#[test]
fn a_link_in_the_place_of_the_staging_directory_is_not_followed() {
    let scene = Scene::new(Way::Exchange);
    let outside = scene.target.with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("kept"), "x").unwrap();
    let name = staging_name(JOB, &scene.target).unwrap();
    std::os::unix::fs::symlink(&outside, scene.target.with_file_name(&name)).unwrap();
    let _ = recover("content", &scene.target, JOB);
    assert!(outside.join("kept").exists());
    assert!(Staging::create(scene.target.parent().unwrap(), &name).is_err());
}

#[test]
fn targets_beside_each_other_are_restored_by_one_job() {
    let one = Scene::new(Way::Exchange);
    let second = one.target.with_file_name("second");
    fs::create_dir(&second).unwrap();
    fill(&second, "old");
    let mut first = one.stage();
    let mut other = staged_by_hand(&second, Method::Root, JOB);
    whole_restore(&mut first);
    assert_eq!(
        recover("second", &second, JOB).unwrap(),
        Recovered::Undone,
        "its own staging, not the first's"
    );
    drop(other.staging);
    other = staged_by_hand(&second, Method::Root, JOB);
    whole_restore(&mut other);
    assert_eq!(picture(&second), one.new);
    one.assert_clean("both");
}
