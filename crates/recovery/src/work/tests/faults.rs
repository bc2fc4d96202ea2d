//! The process dies at every call to the storage, one after another. After each death a fresh look must show every
//! earlier backup whole, the new one complete or not at all, and the same job run again must succeed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use repository::Control;
use storage::{Fault, FaultPlan, Faulty};

use super::support::*;
use crate::store::Store;

/// Runs `trial` for n = 1, 2, … until it tells that the fault did not fire, on several threads; returns the count.
pub(super) fn for_every_call(trial: impl Fn(u64) -> bool + Sync) -> u64 {
    let (next, last) = (AtomicU64::new(1), AtomicU64::new(u64::MAX));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n > last.load(Ordering::SeqCst) {
                        return;
                    }
                    if !trial(n) {
                        last.fetch_min(n - 1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    last.load(Ordering::SeqCst)
}

/// A fault that is no death strikes at calls that change the store alone.
pub(super) fn faulty(world: &World, n: u64, fault: Fault) -> (Store, FaultPlan) {
    let deadly = matches!(fault, Fault::DieBefore | Fault::DieAfter);
    let plan = FaultPlan::new(n, fault);
    let plan = if deadly { plan } else { plan.writes_only() };
    let storage = Arc::new(Faulty::new(world.store.storage().clone(), plan.clone()));
    (world.store.with_storage(storage), plan)
}

/// As a fresh server sees the store.
pub(super) fn fresh(world: &World) -> World {
    let store = Store::open(directory(&world.dir.path().join("store"))).unwrap();
    World { dir: tempfile::tempdir().unwrap(), store }
}

fn die_in_a_backup(n: u64, fault: Fault) -> bool {
    let world = World::new();
    world.back_up("old").unwrap();
    world.write("new.bin", &noise(n, 50_000));
    let (store, plan) = faulty(&world, n, fault);
    let outcome = back_up(&store, &world.task("new"));

    let after = fresh(&world);
    after.assert_verifies("old");
    let visible = after.names().contains(&"new".to_owned());
    if visible {
        after.assert_verifies("new");
    }
    assert!(outcome.is_err() || visible, "call {n}: reported complete and is not there");
    back_up(&after.store, &world.task("new"))
        .unwrap_or_else(|e| panic!("call {n} {fault:?}: run again: {e}"));
    let after = fresh(&world);
    after.assert_verifies("old");
    after.assert_verifies("new");
    assert!(after.store.running().unwrap().is_empty());
    // Nothing is left that would hold back deletion, or that nobody accounts for.
    after.store.delete_backup("old").unwrap();
    assert_eq!(world.reclaim_now().waiting, [""; 0], "call {n} {fault:?}");
    after.assert_verifies("new");
    assert_eq!(after.scrub().findings, []);
    after.store.delete_backup("new").unwrap();
    assert_eq!(world.reclaim_now().waiting, [""; 0], "call {n} {fault:?}");
    let left = world
        .keys("vaults/")
        .into_iter()
        .filter(|key| ["/data/", "/index/", "/snapshots/"].iter().any(|p| key.contains(p)));
    assert_eq!(left.count(), 0, "call {n} {fault:?}");
    plan.fired()
}

#[test]
fn a_backup_that_dies_before_any_storage_call_harms_nothing() {
    let calls = for_every_call(|n| die_in_a_backup(n, Fault::DieBefore));
    println!("{calls} storage calls in a backup");
    assert!(calls > 30);
}

#[test]
fn a_backup_that_dies_after_any_storage_call_harms_nothing() {
    let calls = for_every_call(|n| die_in_a_backup(n, Fault::DieAfter));
    println!("{calls} storage calls in a backup");
    assert!(calls > 30);
}

#[test]
fn a_backup_with_one_failed_call_or_a_lost_answer_ends_clean() {
    for fault in [Fault::ErrorBefore, Fault::ErrorAfter, Fault::Full] {
        let calls = for_every_call(|n| die_in_a_backup(n, fault));
        println!("{calls} storage writes in a backup ({fault:?})");
        assert!(calls > 8);
    }
}

fn die_in_the_first_backup(n: u64, fault: Fault) -> bool {
    let world = World::new();
    let (store, plan) = faulty(&world, n, fault);
    let outcome = back_up(&store, &world.task("new"));
    let after = fresh(&world);
    let visible = after.names().contains(&"new".to_owned());
    assert!(outcome.is_err() || visible, "call {n}: reported complete and is not there");
    back_up(&after.store, &world.task("new"))
        .unwrap_or_else(|e| panic!("call {n} {fault:?}: run again: {e}"));
    fresh(&world).assert_verifies("new");
    plan.fired()
}

#[test]
fn the_first_backup_of_a_vault_may_die_at_any_storage_call() {
    for fault in [Fault::DieBefore, Fault::DieAfter] {
        let calls = for_every_call(|n| die_in_the_first_backup(n, fault));
        println!("{calls} storage calls in a first backup ({fault:?})");
        assert!(calls > 30);
    }
}

fn die_in_a_deletion(n: u64, fault: Fault) -> bool {
    let world = World::new();
    world.back_up("old").unwrap();
    world.write("sub/b.bin", &noise(3, 100_000));
    world.back_up("doomed").unwrap();
    // The later backup needs nothing that only the doomed one brought.
    world.write("sub/b.bin", &noise(4, 50_000));
    world.back_up("later").unwrap();
    let (store, plan) = faulty(&world, n, fault);
    let delete = |store: &Store| {
        store.delete_backup("doomed")?;
        store.reclaim(SERVER, Duration::ZERO, &Control::new())
    };
    let _ = delete(&store);

    let after = fresh(&world);
    for name in ["old", "later"] {
        after.assert_verifies(name);
    }
    if after.names().contains(&"doomed".to_owned()) {
        after.assert_verifies("doomed");
    }
    // A backup between the death and the next try builds on nothing that goes.
    world.write("d.bin", &noise(n, 1000));
    back_up(&after.store, &world.task("between")).unwrap();
    assert_eq!(delete(&after.store).unwrap().waiting, [""; 0], "call {n} {fault:?}");
    assert_eq!(after.names(), ["old", "later", "between"]);
    for name in ["old", "later", "between"] {
        after.assert_verifies(name);
    }
    let entry = after.store.backup("old").unwrap().unwrap();
    let vault = after.store.open_vault(&entry, &passcode(PASSCODE)).unwrap();
    let report =
        repository::check(&vault, repository::CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!((report.findings, report.notes), (vec![], vec![]), "call {n} {fault:?}");
    assert!(world.keys("deleted/").is_empty());
    plan.fired()
}

#[test]
fn deletion_and_reclaim_may_die_at_any_storage_call() {
    for fault in [Fault::DieBefore, Fault::DieAfter, Fault::ErrorBefore, Fault::ErrorAfter] {
        let calls = for_every_call(|n| die_in_a_deletion(n, fault));
        println!("{calls} storage calls in a deletion with reclaim ({fault:?})");
        assert!(calls >= 7);
    }
}
