//! A backup and a deletion with reclaim, interleaved at every kind of instant: one runs up to its mth storage call, the
//! other up to its nth, then the first goes on to its end, and then the other. The reclaimer is made blind to restic's
//! locks and to strange snapshots, so that the order of its looks alone has to keep what is needed.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use repository::{CheckRequest, Control};
use storage::{Entry, Shared, Storage, Version};

use super::support::*;
use crate::store::Store;

/// Where one of the two works stands.
#[derive(Default)]
struct Gate {
    at: u64,
    calls: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The work waits at its call, or is over.
    reached: bool,
    open: bool,
}

impl Gate {
    fn new(at: u64) -> Arc<Gate> {
        Arc::new(Gate { at, ..Gate::default() })
    }

    fn pass(&self) {
        if self.calls.fetch_add(1, Ordering::SeqCst) + 1 == self.at {
            self.reach();
            let state = self.state.lock().unwrap();
            drop(self.changed.wait_while(state, |state| !state.open).unwrap());
        }
    }

    fn reach(&self) {
        self.state.lock().unwrap().reached = true;
        self.changed.notify_all();
    }

    fn wait_until_reached(&self) {
        drop(self.changed.wait_while(self.state.lock().unwrap(), |state| !state.reached).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().open = true;
        self.changed.notify_all();
    }
}

/// Waits at the gate; shows no keys that hold one of `hidden`.
struct Gated {
    inner: Shared,
    gate: Arc<Gate>,
    hidden: &'static [&'static str],
}

impl fmt::Debug for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl Storage for Gated {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn get(&self, key: &str, size_max: u64) -> storage::Result<Vec<u8>> {
        self.gate.pass();
        self.inner.get(key, size_max)
    }
    fn get_versioned(&self, key: &str, size_max: u64) -> storage::Result<(Vec<u8>, Version)> {
        self.gate.pass();
        self.inner.get_versioned(key, size_max)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> storage::Result<Vec<u8>> {
        self.gate.pass();
        self.inner.get_range(key, range)
    }
    fn create(&self, key: &str, parts: &[&[u8]]) -> storage::Result<()> {
        self.gate.pass();
        self.inner.create(key, parts)
    }
    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> storage::Result<()> {
        self.gate.pass();
        self.inner.replace(key, body, expected)
    }
    fn delete(&self, key: &str) -> storage::Result<()> {
        self.gate.pass();
        self.inner.delete(key)
    }
    fn head(&self, key: &str) -> storage::Result<Option<Entry>> {
        self.gate.pass();
        self.inner.head(key)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> storage::Result<()>) -> storage::Result<()> {
        self.gate.pass();
        if self.hidden.iter().any(|part| prefix.contains(part)) {
            return Ok(());
        }
        self.inner.list(prefix, visit)
    }
    fn free_space(&self) -> storage::Result<Option<u64>> {
        self.inner.free_space()
    }
}

fn gated(world: &World, at: u64, hidden: &'static [&'static str]) -> (Store, Arc<Gate>) {
    let gate = Gate::new(at);
    let storage = Gated { inner: world.store.storage().clone(), gate: Arc::clone(&gate), hidden };
    (world.store.with_storage(Arc::new(storage)), gate)
}

/// `deleted_before`: whether the doomed backup has left the catalogue already when the two begin.
fn trial(backup_at: u64, reclaim_at: u64, backup_first: bool, deleted_before: bool) -> (u64, u64) {
    let world = World::new();
    world.back_up("old").unwrap();
    world.write("shared.bin", &noise(7, 40_000));
    world.back_up("doomed").unwrap();
    std::fs::remove_file(world.content().join("a.txt")).unwrap();
    if deleted_before {
        world.store.delete_backup("doomed").unwrap();
    }
    let (backup_store, backup_gate) = gated(&world, backup_at, &[]);
    let (reclaim_store, reclaim_gate) = gated(&world, reclaim_at, &["/locks/", "/snapshots/"]);
    let backup = || {
        let outcome = back_up(&backup_store, &world.task("new"));
        backup_gate.reach();
        outcome
    };
    let reclaim = || {
        let outcome = reclaim_store
            .delete_backup("doomed")
            .and_then(|()| reclaim_store.reclaim(SERVER, Duration::ZERO, &Control::new()));
        reclaim_gate.reach();
        outcome
    };
    let (first_gate, second_gate) =
        if backup_first { (&backup_gate, &reclaim_gate) } else { (&reclaim_gate, &backup_gate) };
    let what = format!(
        "backup at {backup_at}, reclaim at {reclaim_at}, backup first: {backup_first}, {deleted_before}"
    );
    std::thread::scope(|scope| {
        let (mut backups, mut reclaims) = (None, None);
        for is_backup in [backup_first, !backup_first] {
            if is_backup {
                backups = Some(scope.spawn(backup));
                backup_gate.wait_until_reached();
            } else {
                reclaims = Some(scope.spawn(reclaim));
                reclaim_gate.wait_until_reached();
            }
        }
        first_gate.open();
        if backup_first {
            backups.take().unwrap().join().unwrap().unwrap_or_else(|e| panic!("{what}: {e}"));
        } else {
            reclaims.take().unwrap().join().unwrap().unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        second_gate.open();
        if let Some(handle) = backups {
            handle.join().unwrap().unwrap_or_else(|e| panic!("{what}: {e}"));
        }
        if let Some(handle) = reclaims {
            handle.join().unwrap().unwrap_or_else(|e| panic!("{what}: {e}"));
        }
    });
    for name in ["old", "new"] {
        assert_eq!(world.verify(name).findings, [], "{what}: '{name}'");
    }
    assert_eq!(world.names(), ["old", "new"]);
    assert_eq!(world.reclaim_now().waiting, [""; 0], "{what}");
    assert_eq!(world.verify("new").findings, [], "{what}");
    let entry = world.store.backup("new").unwrap().unwrap();
    let vault = world.store.open_vault(&entry, &passcode(PASSCODE)).unwrap();
    let report = repository::check(&vault, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!((report.findings, report.notes), (vec![], vec![]), "{what}");
    (backup_gate.calls.load(Ordering::SeqCst), reclaim_gate.calls.load(Ordering::SeqCst))
}

fn trials(deleted_before: bool) {
    let (backup_calls, reclaim_calls) = trial(u64::MAX, u64::MAX, true, deleted_before);
    let pairs: Vec<(u64, u64)> = (1..=backup_calls)
        .step_by(5)
        .flat_map(|b| (1..=reclaim_calls).step_by(5).map(move |r| (b, r)))
        .map(|(b, r)| (b + rand::random_range(0..5), r + rand::random_range(0..5)))
        .collect();
    println!(
        "{backup_calls} calls in a backup, {reclaim_calls} in a deletion: {} pairs, both ways",
        pairs.len()
    );
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((b, r)) = pairs.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    trial(*b, *r, true, deleted_before);
                    trial(*b, *r, false, deleted_before);
                }
            });
        }
    });
}

#[test]
fn a_backup_beside_a_deletion_is_whole_wherever_the_two_meet() {
    trials(false);
}

#[test]
fn a_backup_beside_a_reclaim_is_whole_wherever_the_two_meet() {
    trials(true);
}
