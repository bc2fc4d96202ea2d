//! Two works interleaved at every kind of instant: one runs up to its mth storage call, the other up to its nth, then the
//! first goes on to its end, and then the other. A backup and a deletion with reclaim; the same with a backup that
//! compacts; and that beside a backup of another server. The reclaimer is made blind to restic's locks and to strange
//! snapshots, so that the order of its looks alone has to keep what is needed.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use repository::{CheckRequest, Control};
use storage::{Entry, Shared, Storage, Version};

use super::support::*;
use crate::Result;
use crate::store::Store;
use crate::work::BackupTask;

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

    storage::plain_calls!();
}

fn gated(world: &World, at: u64, hidden: &'static [&'static str]) -> (Store, Arc<Gate>) {
    let gate = Gate::new(at);
    let storage = Gated { inner: world.store.storage().clone(), gate: Arc::clone(&gate), hidden };
    (world.store.with_storage(Arc::new(storage)), gate)
}

type Work<'a> = (&'a (dyn Fn() -> Result<()> + Sync), &'a Gate);

/// Runs both works, each up to its gate, then the first and then the second to its end.
fn interleave(what: &str, first: Work<'_>, second: Work<'_>) {
    std::thread::scope(|scope| {
        let start = |(run, gate): Work<'_>| {
            let outcome = run();
            gate.reach();
            outcome
        };
        let one = scope.spawn(move || start(first));
        first.1.wait_until_reached();
        let two = scope.spawn(move || start(second));
        second.1.wait_until_reached();
        first.1.open();
        one.join().unwrap().unwrap_or_else(|e| panic!("{what}: {e}"));
        second.1.open();
        two.join().unwrap().unwrap_or_else(|e| panic!("{what}: {e}"));
    });
}

/// What goes on when the two begin.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Case {
    /// A backup is deleted beside the new one.
    Deletion,
    /// A backup has been deleted; its space is reclaimed beside the new one.
    Reclaim,
    /// The new backup compacts what an earlier deletion left; another backup is deleted beside it.
    Compaction,
    /// The same, beside a backup of another server.
    SecondServer,
}

fn trial(first_at: u64, second_at: u64, backup_first: bool, case: Case) -> (u64, u64) {
    let world = World::new();
    let compacts = matches!(case, Case::Compaction | Case::SecondServer);
    if compacts {
        world.write("big.bin", &noise(5, 300_000));
        world.back_up("first").unwrap();
        std::fs::remove_file(world.content().join("big.bin")).unwrap();
    }
    world.back_up("old").unwrap();
    world.write("shared.bin", &noise(7, 40_000));
    world.back_up("doomed").unwrap();
    std::fs::remove_file(world.content().join("a.txt")).unwrap();
    if compacts {
        world.store.delete_backup("first").unwrap();
        world.reclaim_now();
        assert_eq!(world.keys("waste/").len(), 1);
    }
    if case == Case::Reclaim {
        world.store.delete_backup("doomed").unwrap();
    }
    let hidden: &[&str] = if case == Case::SecondServer { &[] } else { &["/locks/", "/snapshots/"] };
    let (backup_store, backup_gate) = gated(&world, first_at, &[]);
    let (other_store, other_gate) = gated(&world, second_at, hidden);
    let backup = || back_up(&backup_store, &world.task("new")).map(drop);
    let other = || match case {
        Case::SecondServer => {
            let task = BackupTask { server_id: "other/2".to_owned(), ..world.task("new too") };
            back_up(&other_store, &task).map(drop)
        }
        _ => other_store
            .delete_backup("doomed")
            .and_then(|()| other_store.reclaim(SERVER, Duration::ZERO, &Control::new()))
            .map(drop),
    };
    let what = format!("backup at {first_at}, other at {second_at}, backup first: {backup_first}, {case:?}");
    let (one, two): (Work<'_>, Work<'_>) = ((&backup, &*backup_gate), (&other, &*other_gate));
    match backup_first {
        true => interleave(&what, one, two),
        false => interleave(&what, two, one),
    }
    let mut expected = vec!["old", "new"];
    if case == Case::SecondServer {
        expected = vec!["old", "doomed", "new", "new too"];
    }
    for name in &expected {
        assert_eq!(world.verify(name).findings, [], "{what}: '{name}'");
    }
    let mut names = world.names();
    names.sort();
    let mut sorted = expected.clone();
    sorted.sort();
    assert_eq!(names, sorted, "{what}");
    assert_eq!(world.reclaim_now().waiting, [""; 0], "{what}");
    if compacts {
        // What the two kept each other from is done by the next job.
        world.back_up("last").unwrap();
        assert_eq!(world.reclaim_now().waiting, [""; 0], "{what}");
        let packs = world.store.storage().list_all("vaults/").unwrap();
        let packs = packs.iter().filter(|entry| entry.key.contains("/data/"));
        let bytes: u64 = packs.map(|entry| entry.size).sum();
        assert!(bytes < 290_000, "{what}: {bytes} bytes are left");
    }
    for name in &expected {
        assert_eq!(world.verify(name).findings, [], "{what}: '{name}'");
    }
    let entry = world.store.backup("new").unwrap().unwrap();
    let vault = world.store.open_vault(&entry, &passcode(PASSCODE)).unwrap();
    let report = repository::check(&vault, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!((report.findings, report.notes), (vec![], vec![]), "{what}");
    (backup_gate.calls.load(Ordering::SeqCst), other_gate.calls.load(Ordering::SeqCst))
}

fn trials(case: Case) {
    let (backup_calls, other_calls) = trial(u64::MAX, u64::MAX, true, case);
    // A trial with a compaction takes several backups.
    let step = if matches!(case, Case::Compaction | Case::SecondServer) { 14 } else { 5 };
    let pairs: Vec<(u64, u64)> = (1..=backup_calls)
        .step_by(step)
        .flat_map(|b| (1..=other_calls).step_by(step).map(move |r| (b, r)))
        .map(|(b, r)| (b + rand::random_range(0..step as u64), r + rand::random_range(0..step as u64)))
        .collect();
    println!(
        "{backup_calls} calls in a backup, {other_calls} in the other: {} pairs, both ways",
        pairs.len()
    );
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some((b, r)) = pairs.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    trial(*b, *r, true, case);
                    trial(*b, *r, false, case);
                }
            });
        }
    });
}

#[test]
fn a_backup_beside_a_deletion_is_whole_wherever_the_two_meet() {
    trials(Case::Deletion);
}

#[test]
fn a_backup_beside_a_reclaim_is_whole_wherever_the_two_meet() {
    trials(Case::Reclaim);
}

#[test]
fn a_compaction_beside_a_deletion_keeps_what_is_needed_wherever_the_two_meet() {
    trials(Case::Compaction);
}

#[test]
fn a_compaction_beside_a_backup_of_another_server_keeps_what_is_needed_wherever_the_two_meet() {
    trials(Case::SecondServer);
}

/// A backup of another server comes and dies, before its group is written, at each instant of a backup. What it left
/// must then not be lost with that backup, once its own job was taken up again.
fn dies_beside(at: u64) -> bool {
    let world = World::new();
    world.back_up("old").unwrap();
    world.write("first.bin", &noise(8, 40_000));
    let (store, gate) = gated(&world, at, &[]);
    std::thread::scope(|scope| {
        let backup = scope.spawn(|| {
            let outcome = back_up(&store, &world.task("first"));
            gate.reach();
            outcome
        });
        gate.wait_until_reached();
        world.write("new.bin", &noise(7, 40_000));
        let dead =
            Arc::new(DiesAt { inner: world.store.storage().clone(), prefix: "groups/", dead: false.into() });
        let task = BackupTask { server_id: "other/2".to_owned(), ..world.task("second") };
        back_up(&world.store.with_storage(dead), &task).unwrap_err();
        gate.open();
        backup.join().unwrap().unwrap();
        back_up(&world.store, &task).unwrap();
    });
    world.store.delete_backup("first").unwrap();
    world.reclaim_now();
    for name in ["old", "second"] {
        assert_eq!(world.verify(name).findings, [], "call {at}: '{name}'");
    }
    gate.calls.load(Ordering::SeqCst) >= at
}

#[test]
fn what_a_dead_backup_left_beside_another_does_not_go_with_that_one() {
    let next = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| while dies_beside(next.fetch_add(1, Ordering::SeqCst)) {});
        }
    });
    assert!(next.into_inner() > 30);
}

/// The first backup of a vault, beside one of another server that dies before it has copied its key.
fn begins_beside(dying_at: u64, at: u64) {
    let world = World::new();
    let (store, gate) = gated(&world, at, &[]);
    let inner = world.store.storage().clone();
    let dead = Arc::new(DiesAt { inner, prefix: "copies/vaults/", dead: false.into() });
    let dying_gate = Gate::new(dying_at);
    let dying = Arc::new(Gated { inner: dead, gate: dying_gate.clone(), hidden: &[] });
    let dying = world.store.with_storage(dying);
    let task = BackupTask { server_id: "other/2".to_owned(), ..world.task("second") };
    let what = format!("calls {dying_at} and {at}");
    interleave(
        &what,
        (
            &|| {
                let _ = back_up(&dying, &task);
                Ok(())
            },
            &dying_gate,
        ),
        (&|| back_up(&store, &world.task("first")).map(drop), &gate),
    );
    assert_eq!(world.verify("first").findings, [], "{what}");
    let keyless = crate::work::verify_backup(&world.store, "first", None, true, &Control::new());
    assert_eq!(keyless.unwrap().findings, [], "{what}, without passcode");
}

#[test]
fn a_first_backup_is_whole_though_another_server_dies_while_it_begins_the_vault_too() {
    // Around the calls that begin the vault and copy it; what comes after is the same in every vault.
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= 16 * 16 {
                        return;
                    }
                    begins_beside(8 + number / 16, 4 + 2 * (number % 16));
                }
            });
        }
    });
}

/// Dead as soon as something is created below a prefix.
#[derive(Debug)]
struct DiesAt {
    inner: Shared,
    prefix: &'static str,
    dead: std::sync::atomic::AtomicBool,
}

impl DiesAt {
    fn alive(&self, key: &str) -> storage::Result<()> {
        match self.dead.load(Ordering::SeqCst) {
            false => Ok(()),
            true => Err(storage::Error::new(storage::ErrorKind::Io, "use", key, "here", "it is dead")),
        }
    }
}

impl Storage for DiesAt {
    fn location(&self) -> String {
        self.inner.location()
    }
    fn get(&self, key: &str, size_max: u64) -> storage::Result<Vec<u8>> {
        self.alive(key)?;
        self.inner.get(key, size_max)
    }
    fn get_versioned(&self, key: &str, size_max: u64) -> storage::Result<(Vec<u8>, Version)> {
        self.alive(key)?;
        self.inner.get_versioned(key, size_max)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> storage::Result<Vec<u8>> {
        self.alive(key)?;
        self.inner.get_range(key, range)
    }
    fn create(&self, key: &str, parts: &[&[u8]]) -> storage::Result<()> {
        if key.starts_with(self.prefix) {
            self.dead.store(true, Ordering::SeqCst);
        }
        self.alive(key)?;
        self.inner.create(key, parts)
    }
    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> storage::Result<()> {
        self.alive(key)?;
        self.inner.replace(key, body, expected)
    }
    fn delete(&self, key: &str) -> storage::Result<()> {
        self.alive(key)?;
        self.inner.delete(key)
    }
    fn head(&self, key: &str) -> storage::Result<Option<Entry>> {
        self.alive(key)?;
        self.inner.head(key)
    }
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> storage::Result<()>) -> storage::Result<()> {
        self.alive(prefix)?;
        self.inner.list(prefix, visit)
    }
    fn free_space(&self) -> storage::Result<Option<u64>> {
        self.inner.free_space()
    }

    storage::plain_calls!();
}
