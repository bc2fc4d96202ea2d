//! A store copied to another place.

use std::fs;
use std::sync::Arc;

use repository::Control;
use storage::{Fault, FaultPlan, Faulty};

use super::faults::for_every_call;
use super::support::*;
use crate::store::Store;
use crate::work::{Replicated, replicate};

/// A place for a copy, and the copy as a world whose store it is.
fn copy(world: &World) -> (Replicated, World) {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("store")).unwrap();
    fs::create_dir(dir.path().join("content")).unwrap();
    let place = directory(&dir.path().join("store"));
    let done = replicate(&world.store, place.clone(), &Control::new()).unwrap();
    let store = Store::open(place).unwrap();
    (done, World { dir, store })
}

fn again(world: &World, copy: &World) -> Replicated {
    replicate(&world.store, copy.store.storage().clone(), &Control::new()).unwrap()
}

#[test]
fn a_copy_restores_what_the_store_does_and_is_copied_once() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.write("c.bin", &noise(3, 50_000));
    world.back_up("two").unwrap();
    let task = crate::work::BackupTask { passcode: passcode("battery staple"), ..world.task("three") };
    back_up(&world.store, &task).unwrap();
    let content = tree(&world.content());

    let (done, copied) = copy(&world);
    assert_eq!((done.copied.len(), done.skipped.len()), (3, 0), "{done:?}");
    copied.assert_verifies("one");
    copied.assert_verifies("two");
    assert_eq!(copied.scrub().findings, []);
    assert!(copied.keys("running/").is_empty() && copied.keys("deleted/").is_empty());
    copied.restore("two").unwrap();
    assert_eq!(tree(&copied.content()), content);

    let done = again(&world, &copied);
    assert_eq!((done.copied.len(), done.unchanged, done.files, done.bytes), (0, 3, 0, 0), "{done:?}");
    world.write("d.bin", &noise(4, 50_000));
    world.back_up("four").unwrap();
    world.store.update_backup("one", Some(99), Some("kept")).unwrap();
    let done = again(&world, &copied);
    assert_eq!((done.copied.len(), done.unchanged), (2, 2), "{done:?}");
    assert!(done.bytes < 100_000, "{done:?}");
    assert_eq!(copied.store.backup("one").unwrap().unwrap().retention_date, 99);
    copied.assert_verifies("four");
    // The copy is a store like any other: a backup goes on in it.
    copied.store.claim(SERVER).unwrap();
    copied.back_up("five").unwrap();
    copied.assert_verifies("five");
}

#[test]
fn what_is_damaged_is_named_and_not_copied_and_the_rest_is() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.write("c.bin", &noise(3, 50_000));
    let known = world.keys("vaults/");
    world.back_up("two").unwrap();
    let new = world.keys("vaults/").into_iter().find(|key| key.contains("/data/") && !known.contains(key));
    world.flip(&new.unwrap());
    let (done, copied) = copy(&world);
    assert_eq!(done.copied, ["one"]);
    assert!(done.skipped[0].0 == "two" && done.skipped[0].1.contains("match its name"), "{done:?}");
    assert_eq!(copied.names(), ["one"]);
    copied.assert_verifies("one");
}

#[test]
fn a_compacted_store_is_copied_compacted_and_a_deletion_in_the_copy_stays() {
    let world = World::new();
    world.write("big.bin", &noise(5, 400_000));
    world.back_up("one").unwrap();
    fs::remove_file(world.content().join("big.bin")).unwrap();
    world.back_up("two").unwrap();
    let (_, copied) = copy(&world);
    copied.store.claim(SERVER).unwrap();
    world.store.delete_backup("one").unwrap();
    world.reclaim_now();
    world.back_up("three").unwrap();
    world.reclaim_now();
    let done = again(&world, &copied);
    assert_eq!(done.copied, ["two", "three"]);
    assert_eq!(copied.names(), ["one", "two", "three"]);
    for name in ["one", "two", "three"] {
        copied.assert_verifies(name);
    }
    copied.store.delete_backup("one").unwrap();
    copied.store.delete_backup("three").unwrap();
    let done = again(&world, &copied);
    assert!(done.skipped.iter().any(|(name, why)| name == "three" && why.contains("deleted")), "{done:?}");
    let report = copied.reclaim_now();
    assert!(report.bytes > 400_000 && report.waiting.is_empty(), "{report:?}");
    copied.assert_verifies("two");
    assert_eq!(copied.scrub().findings, []);
}

#[test]
fn only_an_empty_place_or_a_copy_of_the_same_store_is_written_to() {
    let (world, other) = (World::new(), World::new());
    world.back_up("one").unwrap();
    let refused = replicate(&world.store, other.store.storage().clone(), &Control::new()).unwrap_err();
    assert!(refused.message.contains("cannot hold a copy"), "{refused}");
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), b"mine").unwrap();
    let refused = replicate(&world.store, directory(dir.path()), &Control::new()).unwrap_err();
    assert!(refused.message.contains("not empty"), "{refused}");
}

#[test]
fn a_copy_may_die_at_any_storage_call_and_goes_on() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.write("c.bin", &noise(3, 50_000));
    world.back_up("two").unwrap();
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        let calls = for_every_call(|n| {
            let dir = tempfile::tempdir().unwrap();
            let place = directory(dir.path());
            let plan = FaultPlan::new(n, fault);
            let faulty = Arc::new(Faulty::new(place.clone(), plan.clone()));
            let _ = replicate(&world.store, faulty, &Control::new());
            if let Ok(store) = Store::open(place.clone()) {
                for entry in store.backups().unwrap().0 {
                    let report = crate::work::verify_backup(
                        &store,
                        &entry.name,
                        Some(&passcode(PASSCODE)),
                        true,
                        &Control::new(),
                    );
                    assert_eq!(report.unwrap().findings, [], "call {n} {fault:?}: '{}'", entry.name);
                }
            }
            let done = replicate(&world.store, place.clone(), &Control::new()).unwrap();
            assert_eq!(done.skipped, [], "call {n} {fault:?}");
            let store = Store::open(place).unwrap();
            assert_eq!(store.backups().unwrap().0.len(), 2, "call {n} {fault:?}");
            assert_eq!(crate::work::scrub(&store, &Control::new()).unwrap().findings, []);
            plan.fired()
        });
        println!("{calls} storage calls in a copy ({fault:?})");
        assert!(calls > 20);
    }
}
