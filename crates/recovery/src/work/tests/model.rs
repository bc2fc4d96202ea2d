//! Random histories of one store: backups, deletions, reclaims and compactions by two servers, each of which may die at
//! any storage call, two of them at a time. The model is the set of backups that were reported complete and not deleted.
//! After each step every one of them, and every other one in the catalogue, is read to its last blob, with the passcode
//! and without; and in the end the space of the dead has been freed: waste is within the limit of a compaction, and of a
//! store without backups no pack, index file, snapshot or group is left.
//!
//! `STRONGROOM_TEST_SEED` repeats a history, `STRONGROOM_TEST_HISTORIES` sets how many are played.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use repository::{CheckRequest, Control};
use storage::{Fault, FaultPlan, Faulty};

use super::support::*;
use crate::store::Store;
use crate::work::{BackupTask, undo_backup};

const SERVERS: [&str; 2] = [SERVER, "other/2"];
const STEPS: usize = 14;

struct History {
    world: World,
    random: StdRng,
    seed: u64,
    step: usize,
    /// Reported complete and not deleted.
    living: BTreeSet<String>,
    /// Backups that were begun and not completed: their jobs may be taken up again.
    open: Vec<BackupTask>,
    made: usize,
}

impl History {
    fn new(seed: u64) -> History {
        let world = World::new();
        let random = StdRng::seed_from_u64(seed);
        History { world, random, seed, step: 0, living: BTreeSet::new(), open: Vec::new(), made: 0 }
    }

    fn change_content(&mut self) {
        for _ in 0..self.random.random_range(1..4) {
            let name = format!("f{}.bin", self.random.random_range(0..6));
            if self.random.random_ratio(1, 3) {
                let _ = fs::remove_file(self.world.content().join(name));
            } else {
                let length = self.random.random_range(1..60_000);
                self.world.write(&name, &noise(self.random.random_range(0..30), length));
            }
        }
    }

    fn new_task(&mut self) -> BackupTask {
        self.made += 1;
        let server_id = SERVERS[self.random.random_range(0..2)].to_owned();
        BackupTask { server_id, ..self.world.task(&format!("b{}", self.made)) }
    }

    /// The store, at times behind a fault.
    fn store(&mut self) -> Store {
        let faults = [Fault::DieBefore, Fault::DieAfter, Fault::ErrorBefore, Fault::ErrorAfter, Fault::Full];
        if self.random.random_ratio(2, 3) {
            return self.world.store.clone();
        }
        let fault = faults[self.random.random_range(0..faults.len())];
        let plan = FaultPlan::new(self.random.random_range(1..90), fault);
        self.world.store.with_storage(Arc::new(Faulty::new(self.world.store.storage().clone(), plan)))
    }

    fn take_up(&mut self) -> Option<BackupTask> {
        match self.open.is_empty() {
            true => None,
            false => Some(self.open.swap_remove(self.random.random_range(0..self.open.len()))),
        }
    }

    fn a_living(&mut self) -> Option<String> {
        let names: Vec<&String> = self.living.iter().collect();
        (!names.is_empty()).then(|| names[self.random.random_range(0..names.len())].clone())
    }

    fn step(&mut self) {
        self.change_content();
        let (store, other) = (self.store(), self.store());
        let owner = self.world.store.owner().unwrap().unwrap().server;
        let reclaim = move |store: &Store| drop(store.reclaim(&owner, Duration::ZERO, &Control::new()));
        match self.random.random_range(0..10) {
            // A backup, new or taken up again, beside nothing, a reclaim, a deletion or another backup.
            0..=6 => {
                let task = match self.random.random_ratio(1, 2) {
                    true => self.take_up(),
                    false => None,
                };
                let task = task.unwrap_or_else(|| self.new_task());
                let beside = self.random.random_range(0..4);
                let doomed = if beside == 2 { self.a_living() } else { None };
                let second = (beside == 3).then(|| self.new_task()).filter(|t| t.server_id != task.server_id);
                let delay = Duration::from_millis(self.random.random_range(0..300));
                let (first, others) = std::thread::scope(|scope| {
                    let beside = scope.spawn(|| {
                        // Meets the backup anywhere; nothing is asserted on when.
                        std::thread::park_timeout(delay);
                        match (beside, &doomed, &second) {
                            (1, ..) => reclaim(&other),
                            (_, Some(name), _) => {
                                let _ = other.delete_backup(name);
                                reclaim(&other);
                            }
                            (_, _, Some(task)) => return Some(back_up(&other, task).is_ok()),
                            _ => {}
                        }
                        None
                    });
                    let first = back_up(&store, &task).is_ok();
                    (first, beside.join().unwrap())
                });
                self.settle_deleted(doomed);
                self.note(task, first);
                if let (Some(task), Some(done)) = (second, others) {
                    self.note(task, done);
                }
            }
            7 => {
                let doomed = self.a_living();
                if let Some(name) = &doomed {
                    let _ = store.delete_backup(name);
                }
                self.settle_deleted(doomed);
                reclaim(&store);
            }
            8 => reclaim(&store),
            // A job is given up; or the store changes hands.
            _ if self.random.random_ratio(1, 2) => {
                if let Some(task) = self.take_up()
                    && undo_backup(&store, &task).is_err()
                {
                    self.open.push(task);
                }
            }
            _ => {
                let server = SERVERS[self.random.random_range(0..2)];
                let _ = store.claim(server);
            }
        }
        if self.random.random_ratio(1, 2) {
            self.world.age_locks();
            self.clear_records_of_ended_jobs();
        }
    }

    fn note(&mut self, task: BackupTask, reported: bool) {
        if reported {
            self.living.insert(task.name);
        } else {
            self.open.push(task);
        }
    }

    /// A deletion may have died before or after it took effect.
    fn settle_deleted(&mut self, doomed: Option<String>) {
        if let Some(name) = doomed
            && !self.world.names().contains(&name)
        {
            self.living.remove(&name);
        }
    }

    fn check(&self) {
        let names: BTreeSet<String> = self.world.names().into_iter().collect();
        let what = format!("seed {}, step {}", self.seed, self.step);
        assert!(names.is_superset(&self.living), "{what}: {:?} are gone from {names:?}", self.living);
        for name in &names {
            let keyed = self.world.verify(name);
            assert_eq!(keyed.findings, [], "{what}: '{name}'");
            let keyless = crate::work::verify_backup(&self.world.store, name, None, true, &Control::new());
            assert_eq!(keyless.unwrap().findings, [], "{what}: '{name}' without passcode");
        }
    }

    /// As the server does once an hour.
    fn clear_records_of_ended_jobs(&self) {
        for record in self.world.store.running().unwrap() {
            if !self.open.iter().any(|task| task.job_id == record.job_id) {
                self.world.store.clear_running(&record.job_id).unwrap();
            }
        }
    }

    fn reclaim_all(&self) {
        self.world.store.claim(SERVER).unwrap();
        let mut waiting = self.world.reclaim_now().waiting;
        // Of a deletion that died half-way, and was not asked for again.
        waiting.retain(|why| !why.contains("it is still in the catalogue"));
        assert_eq!(waiting, [""; 0], "seed {}", self.seed);
    }

    /// All open jobs end, and then what nobody needs goes.
    fn end(mut self) {
        for task in std::mem::take(&mut self.open) {
            undo_backup(&self.world.store, &task).unwrap();
        }
        self.clear_records_of_ended_jobs();
        assert!(self.world.store.running().unwrap().is_empty(), "seed {}", self.seed);
        self.step += 1;
        self.check();
        for name in self.world.names().iter().step_by(2) {
            self.world.store.delete_backup(name).unwrap();
            self.living.remove(name);
        }
        // The first backup takes over what dead ones left; what it cannot compact, as it was deleted just now, the second
        // does.
        for name in ["last", "very last"] {
            self.reclaim_all();
            self.world.back_up(name).unwrap();
        }
        self.reclaim_all();
        self.check();
        let entry = self.world.store.backup("very last").unwrap().unwrap();
        let vault = self.world.store.open_vault(&entry, &passcode(PASSCODE)).unwrap();
        let report = repository::check(&vault, CheckRequest { read_data: true }, &Control::new()).unwrap();
        assert_eq!(report.findings, [], "seed {}", self.seed);
        self.assert_little_waste(&vault);
        assert_eq!(self.world.scrub().findings, [], "seed {}", self.seed);
        for name in self.world.names() {
            self.world.store.delete_backup(&name).unwrap();
        }
        self.reclaim_all();
        let left: Vec<String> = ["/data/", "/index/", "/snapshots/"]
            .iter()
            .flat_map(|part| self.world.keys("vaults/").into_iter().filter(move |key| key.contains(part)))
            .chain(["groups/", "deleted/", "running/"].iter().flat_map(|prefix| self.world.keys(prefix)))
            .collect();
        assert_eq!(left, [""; 0], "seed {}", self.seed);
    }

    fn assert_little_waste(&self, vault: &repository::Repository) {
        let index = vault.load_index(&|_| true).unwrap();
        let entries = self.world.store.backups().unwrap().0;
        let snapshots: Vec<_> = entries.iter().flat_map(|entry| entry.snapshots()).collect();
        let survey = repository::survey(vault, &index, &snapshots, &|_| Some(0), &Control::new()).unwrap();
        let listed: std::collections::HashSet<_> = survey.packs().map(|(id, _)| id).collect();
        let unlisted = vault.list_packs().unwrap().into_iter().filter(|(id, _)| !listed.contains(id));
        let unlisted: u64 = unlisted.map(|(_, size)| size).sum();
        let all: u64 = survey.packs().map(|(_, pack)| pack.blob_bytes).sum::<u64>() + unlisted;
        let kept: u64 = survey.packs().map(|(_, pack)| pack.kept_bytes).sum();
        assert!(all - kept <= kept / 20, "seed {}: {kept} of {all} bytes are needed", self.seed);
    }
}

fn play(seed: u64) {
    let mut history = History::new(seed);
    for step in 0..STEPS {
        history.step = step;
        history.step();
        history.check();
    }
    history.end();
}

#[test]
fn no_history_loses_a_backup_or_keeps_the_space_of_the_dead() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("STRONGROOM_TEST_SEED") {
        return play(seed);
    }
    let (histories, from) = (number("STRONGROOM_TEST_HISTORIES").unwrap_or(16), rand::random::<u32>());
    println!("{histories} histories from seed {from}");
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= histories {
                        return;
                    }
                    play(u64::from(from) + number);
                }
            });
        }
    });
}
