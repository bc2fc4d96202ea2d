//! Random histories of two repositories that two clients share: files change; backup, forget, prune, tag, copy, keys that
//! come and go, and repairs of what is whole, some at the same time, some under a lock and with an index that were taken
//! long before; any of them may fail or die at any storage call, and the locks of the dead stay until somebody removes
//! them.
//!
//! The model is simple: which snapshots each repository has, what is in each, and which passcodes open it. After each step the repository lists
//! these and no others, but for what a failed step may have brought to its end, and a check of all its data finds
//! nothing; every few steps and at the end every snapshot is read to its last blob and compared.
//!
//! `STRONGROOM_TEST_SEED` repeats a history, `STRONGROOM_TEST_HISTORIES` sets how many are played.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use storage::Memory;

use site::{Changed, Kept, Site, on_disk};

use super::faults::{Backend, FAULTS, Stand, open};
use super::*;
use crate::file::{self, Folder};

mod site;

const STEPS: usize = 28;
const HISTORIES: u64 = 12;
/// Histories mostly wait for locks.
const SIDE_BY_SIDE: u64 = 32;
/// Keys beside the first; each costs every opening time.
const KEYS_MAX: usize = 3;
/// Everything is read after so many steps.
const READ_EVERY: usize = 8;

/// A client in the middle of its work: locked, its index loaded.
struct Holding {
    site: usize,
    repository: Repository,
    index: Index,
    plan: FaultPlan,
    owner: LockOwner,
    _lock: Lock,
}

struct History {
    told: String,
    random: StdRng,
    dir: tempfile::TempDir,
    sites: [Site; 2],
    holding: [Option<Holding>; 2],
    /// Processes that ended badly and may have left locks.
    dead: Vec<LockOwner>,
    made: usize,
    figures: Figures,
}

/// How the work of a history ended.
#[derive(Debug, Default)]
struct Figures {
    done: u64,
    locked_out: u64,
    faults: u64,
}

fn back_up(repository: &Repository, index: &Index, request: &BackupRequest) -> Result<Id> {
    Ok(backup(repository, index, request, &Control::new())?.snapshot.unwrap())
}

fn lock_and_back_up(repository: &Repository, owner: &LockOwner, request: &BackupRequest) -> Result<Id> {
    let _lock = repository.lock(LockKind::Shared, owner)?;
    back_up(repository, &repository.load_index(&|_| true)?, request)
}

impl History {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut random = StdRng::seed_from_u64(seed);
        let sites = ["one", "other"].map(|name| {
            let made: Arc<Memory> = Arc::default();
            Repository::init(made.clone(), &passcode(), Cost::FAST).unwrap();
            let backend = match random.random_range(0..3) {
                0 => Backend::Directory,
                attempts => Backend::Bucket { attempts },
            };
            Site {
                stand: Stand::new(backend, &made, dir.path(), name),
                snapshots: BTreeMap::new(),
                keys: BTreeMap::new(),
            }
        });
        for client in ["source-0", "source-1"] {
            fs::create_dir_all(dir.path().join(client).join("sub")).unwrap();
        }
        let (told, dead) = (format!("STRONGROOM_TEST_SEED={seed}"), Vec::new());
        let figures = Figures::default();
        Self { told, random, dir, sites, holding: [None, None], dead, made: 0, figures }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn source(&self, client: usize) -> PathBuf {
        self.dir.path().join(format!("source-{client}"))
    }

    /// A new process.
    fn process(&mut self) -> (LockOwner, FaultPlan) {
        self.made += 1;
        let owner = LockOwner { hostname: format!("process/{}", self.made), username: String::new() };
        let fault = FAULTS[self.below(FAULTS.len())];
        // Short verbs have few calls, long ones many.
        let end = [1, 1, 18, 70][self.below(4)];
        let at = if end == 1 { 0 } else { self.random.random_range(1..end) };
        (owner, FaultPlan::new(at, fault))
    }

    fn some_snapshots(&mut self, site: usize) -> Vec<Id> {
        let ids: Vec<Id> = self.sites[site].snapshots.keys().copied().collect();
        ids.into_iter().filter(|_| self.below(3) == 0).collect()
    }

    /// Nothing fails without a cause, and a lock keeps out what it must and nothing else. `None` if it failed.
    fn judge<T>(
        &mut self,
        outcome: Result<T>,
        blocked: bool,
        plan: &FaultPlan,
        owner: &LockOwner,
    ) -> Option<T> {
        let struck = plan.fired();
        if struck {
            self.figures.faults += 1;
            self.dead.push(owner.clone());
            if self.below(2) == 0 {
                self.bury();
            }
        }
        match outcome {
            Ok(done) => {
                assert!(!blocked, "{}: a lock was passed over", self.told);
                self.figures.done += 1;
                Some(done)
            }
            Err(e) if e.kind == ErrorKind::Locked && blocked => {
                self.figures.locked_out += 1;
                None
            }
            Err(e) => {
                assert!(struck, "{}: {e}", self.told);
                None
            }
        }
    }

    /// Removes the locks of the dead.
    fn bury(&mut self) {
        for owner in std::mem::take(&mut self.dead) {
            for site in &self.sites {
                site.open().break_locks_of(&owner.hostname).unwrap();
            }
        }
    }

    /// Work on one repository by a process that may fail.
    fn run<T>(
        &mut self,
        site: usize,
        kind: LockKind,
        work: impl FnOnce(&Repository, &LockOwner) -> Result<T>,
    ) -> Option<T> {
        let (owner, plan) = self.process();
        let blocked = self.sites[site].blocks(kind);
        let outcome = open(&self.sites[site].stand.open_failing(&plan)).and_then(|r| work(&r, &owner));
        self.judge(outcome, blocked, &plan, &owner)
    }

    /// Compares a repository with the model after a step.
    fn settle(&mut self, site: usize, may_go: &[Id], may_come: &[Kept]) -> Changed {
        self.sites[site].compare(may_go, may_come, &self.told)
    }

    fn change_files(&mut self, client: usize) {
        let source = self.source(client);
        for _ in 0..1 + self.below(3) {
            let folder = ["", "sub/"][self.below(2)];
            let path = source.join(format!("{folder}f{}", self.below(6)));
            // By renaming, so that two changes within one tick of the clock are told apart by the inode.
            let new = self.dir.path().join("new");
            match self.below(8) {
                0 => drop(fs::remove_file(&path)),
                1 => {
                    symlink(format!("to {}", self.below(5)), &new).unwrap();
                    fs::rename(&new, &path).unwrap();
                }
                kind => {
                    let length = if kind == 2 { 1_500_000 } else { 20_000 };
                    let (seed, length) = (self.below(12) as u64, self.below(length));
                    fs::write(&new, noise(seed, length)).unwrap();
                    fs::rename(&new, &path).unwrap();
                }
            }
        }
    }

    fn request(&mut self, client: usize) -> (BackupRequest, Kept) {
        let mut request = BackupRequest::new(vec![self.source(client)]);
        request.tags = vec![format!("tag-{}", self.below(3))];
        request.compression = [Compression::Off, Compression::Auto, Compression::Max][self.below(3)];
        request.force = self.below(4) == 0;
        let kept = Kept { tags: request.tags.clone(), tree: on_disk(&self.source(client)) };
        (request, kept)
    }

    fn backup(&mut self, client: usize, site: usize) {
        let (request, kept) = self.request(client);
        let done = self.run(site, LockKind::Shared, |r, owner| lock_and_back_up(r, owner, &request));
        let changed = self.settle(site, &[], &[kept]);
        assert!(done.is_none_or(|id| changed.come == [id]) && changed.come.len() <= 1, "{}", self.told);
    }

    /// A client locks and loads its index, and goes on in a later step.
    fn hold(&mut self, client: usize, site: usize) {
        if self.holding[client].is_some() {
            return;
        }
        let (owner, plan) = self.process();
        let blocked = self.sites[site].blocks(LockKind::Shared);
        let held = open(&self.sites[site].stand.open_failing(&plan)).and_then(|repository| {
            let lock = repository.lock(LockKind::Shared, &owner)?;
            let index = repository.load_index(&|_| true)?;
            let (plan, owner) = (plan.clone(), owner.clone());
            Ok(Holding { site, repository, index, plan, owner, _lock: lock })
        });
        match held {
            Ok(held) if !blocked => self.holding[client] = Some(held),
            held => drop(self.judge(held, blocked, &plan, &owner)),
        }
    }

    fn go_on(&mut self, client: usize) {
        let Some(held) = self.holding[client].take() else { return };
        let (request, kept) = self.request(client);
        let outcome = back_up(&held.repository, &held.index, &request);
        let Holding { site, plan, owner, _lock: lock, .. } = held;
        drop(lock);
        let done = self.judge(outcome, false, &plan, &owner);
        let changed = self.settle(site, &[], &[kept]);
        assert!(done.is_none_or(|id| changed.come == [id]), "{}", self.told);
    }

    fn forget(&mut self, site: usize) {
        let doomed = self.some_snapshots(site);
        let done = self.run(site, LockKind::Exclusive, |repository, owner| {
            let _lock = repository.lock(LockKind::Exclusive, owner)?;
            doomed.iter().try_for_each(|id| repository.delete_snapshot(*id))
        });
        let changed = self.settle(site, &doomed, &[]);
        assert!(done.is_none() || changed.gone == doomed, "{}", self.told);
    }

    fn prune_request(&mut self) -> PruneRequest {
        let limit = self.below(7);
        PruneRequest {
            max_unused_percent: [0.0, 5.0, 50.0][self.below(3)],
            max_unused_bytes: (limit == 0).then_some(20_000),
            max_repack_bytes: (limit == 1).then_some(50_000),
            trees_alone: limit == 2,
            repack_small: limit == 3,
            repack_uncompressed: (limit == 4).then_some(Compression::Fastest),
            ..PruneRequest::default()
        }
    }

    fn prune(&mut self, site: usize) {
        let request = self.prune_request();
        let (rehearse, again) = (self.below(3) == 0, self.below(3) == 0);
        let only_plan =
            PruneRequest { dry_run: true, forgotten: self.some_snapshots(site), ..request.clone() };
        if rehearse {
            let before = self.sites[site].files();
            self.run(site, LockKind::Exclusive, |r, owner| prune(r, owner, &only_plan, &Control::new()));
            assert_eq!(before, self.sites[site].files(), "{}: a dry run changed something", self.told);
        }
        let done = self.run(site, LockKind::Exclusive, |r, owner| prune(r, owner, &request, &Control::new()));
        self.settle(site, &[], &[]);
        if done.is_some() && again && !request.trees_alone && request.max_repack_bytes.is_none() {
            let request = PruneRequest { dry_run: true, ..request };
            let again =
                self.run(site, LockKind::Exclusive, |r, owner| prune(r, owner, &request, &Control::new()));
            let left = again.map_or(0, |again| again.packs_removed);
            assert_eq!(left, 0, "{}: a prune left something to do", self.told);
        }
    }

    fn tag(&mut self, site: usize) {
        let Some(id) = self.some_snapshots(site).first().copied() else { return };
        let kept = self.sites[site].snapshots[&id].clone();
        let tag = format!("tag-{}", self.below(5));
        let new = Kept { tags: vec![tag.clone()], tree: kept.tree };
        let done = self.run(site, LockKind::Exclusive, |repository, owner| {
            let _lock = repository.lock(LockKind::Exclusive, owner)?;
            change_tags(repository, id, &TagChange::Set(vec![tag]))
        });
        let changed = self.settle(site, &[id], &[new]);
        assert!(changed.gone.len() <= changed.come.len(), "{}: {changed:?}", self.told);
        if let Some(new) = done {
            let expected = new.map_or(Changed::default(), |new| Changed { gone: vec![id], come: vec![new] });
            assert_eq!(changed, expected, "{}", self.told);
        }
    }

    fn copy(&mut self, from: usize) {
        let to = 1 - from;
        let request = CopyRequest { snapshots: self.some_snapshots(from), ..CopyRequest::default() };
        let kept: Vec<Kept> =
            request.snapshots.iter().map(|id| self.sites[from].snapshots[id].clone()).collect();
        let (owner, plan) = self.process();
        let blocked = self.sites.iter().any(|site| site.blocks(LockKind::Shared));
        let mut copied = Vec::new();
        let outcome = [from, to].map(|site| open(&self.sites[site].stand.open_failing(&plan)));
        let outcome = outcome.into_iter().collect::<Result<Vec<_>>>().and_then(|repositories| {
            let [source, target] = &repositories[..] else { unreachable!() };
            let _locks = (source.lock(LockKind::Shared, &owner)?, target.lock(LockKind::Shared, &owner)?);
            copy(source, target, &request, &Control::new(), &mut |_, new| copied.push(new))
        });
        let done = self.judge(outcome, blocked, &plan, &owner);
        let changed = self.settle(to, &[], &kept);
        self.settle(from, &[], &[]);
        assert!(done.is_none() || copied.len() == kept.len(), "{}", self.told);
        for new in copied {
            match new {
                Copied::New(id) => assert!(changed.come.contains(&id), "{}", self.told),
                Copied::Already(id) => {
                    let known = &self.sites[to].snapshots[&id].tree;
                    assert!(kept.iter().any(|kept| kept.tree == *known), "{}", self.told);
                }
            }
        }
    }

    /// With all index files there, or with one lost before.
    fn repair_index(&mut self, site: usize, lose: bool) {
        let request = RepairIndexRequest { read_all_packs: self.below(3) == 0, dry_run: false };
        let work = |r: &Repository, owner: &LockOwner| repair_index(r, owner, request, &Control::new());
        if lose {
            let files = self.sites[site].files();
            let indexes: Vec<_> = files.iter().filter(|key| key.starts_with("index/")).collect();
            if indexes.is_empty() || self.sites[site].blocks(LockKind::Exclusive) {
                return;
            }
            let lost = indexes[self.below(indexes.len())];
            self.sites[site].stand.open().delete(lost).unwrap();
            while self.run(site, LockKind::Exclusive, work).is_none() {
                self.bury();
            }
        } else {
            self.run(site, LockKind::Exclusive, work);
        }
        self.settle(site, &[], &[]);
    }

    /// Repairs packs that nothing is wrong with: all of them stay readable.
    fn repair_packs(&mut self, site: usize) {
        let packs = self.sites[site].open().list_packs().unwrap();
        let mut packs: Vec<Id> = packs.into_keys().collect();
        packs.sort_unstable();
        packs.retain(|_| self.below(4) == 0);
        let work = |r: &Repository, owner: &LockOwner| repair_packs(r, owner, &packs, &Control::new());
        let done = self.run(site, LockKind::Exclusive, work);
        assert!(done.is_none_or(|report| report.blobs_lost.is_empty()), "{}", self.told);
        self.settle(site, &[], &[]);
    }

    /// Repairs snapshots that nothing is wrong with: they stay as they are.
    fn repair_snapshots(&mut self, site: usize) {
        let request = RepairSnapshotsRequest {
            snapshots: self.some_snapshots(site),
            forget: self.below(2) == 0,
            dry_run: self.below(4) == 0,
        };
        let work = |r: &Repository, owner: &LockOwner| repair_snapshots(r, owner, &request, &Control::new());
        if let Some(done) = self.run(site, LockKind::Exclusive, work) {
            let whole: Vec<_> = request.snapshots.iter().map(|id| RepairedSnapshot::Whole(*id)).collect();
            assert_eq!(done, whole, "{}", self.told);
        }
        self.settle(site, &[], &[]);
    }

    /// One more passcode opens the repository.
    fn add_key(&mut self, site: usize) {
        if self.sites[site].keys.values().filter(|opens| **opens).count() >= KEYS_MAX {
            return;
        }
        let (owner, plan) = self.process();
        let text = format!("passcode of {}", owner.hostname);
        let outcome = open(&self.sites[site].stand.open_failing(&plan)).and_then(|repository| {
            add_key(&repository, &Passcode::new(text.clone()), Cost::FAST, &KeyLabel::default())
        });
        let done = self.judge(outcome, false, &plan, &owner);
        let opens = self.sites[site].opens(&text);
        assert!(done.is_none() || opens, "{}: the new passcode opens nothing", self.told);
        self.sites[site].keys.insert(text, opens);
        self.sites[site].try_keys(&self.told);
    }

    /// One passcode opens it no longer, and all others do.
    fn remove_key(&mut self, site: usize) {
        let opening = self.sites[site].keys.iter().filter(|(_, opens)| **opens).map(|(text, _)| text.clone());
        let opening: Vec<String> = opening.collect();
        if opening.is_empty() {
            return;
        }
        let text = opening[self.below(opening.len())].clone();
        let passcode = Passcode::new(text.clone());
        let doomed = Repository::open(self.sites[site].stand.open(), &passcode).unwrap().key_file();
        let (owner, plan) = self.process();
        let outcome = open(&self.sites[site].stand.open_failing(&plan))
            .and_then(|repository| remove_key(&repository, &doomed.to_string()));
        let done = self.judge(outcome, false, &plan, &owner);
        let opens = self.sites[site].opens(&text);
        assert!(done.is_none() || !opens, "{}: the removed passcode still opens", self.told);
        self.sites[site].keys.insert(text, opens);
        self.sites[site].try_keys(&self.told);
    }

    /// A backup while the other client backs up, or prunes. Either may be locked out by the other.
    fn at_once(&mut self, site: usize) {
        let ((mine, first), (other, second)) = (self.request(0), self.request(1));
        let (prunes, request) = (self.below(2) == 0, self.prune_request());
        let processes = [self.process(), self.process()];
        let stand = &self.sites[site].stand;
        let at = |number: usize| open(&stand.open_failing(&processes[number].1));
        let owners = [&processes[0].0, &processes[1].0];
        let outcomes = std::thread::scope(|scope| {
            let mine = scope.spawn(|| lock_and_back_up(&at(0)?, owners[0], &mine).map(Some));
            let other = at(1).and_then(|repository| match prunes {
                true => prune(&repository, owners[1], &request, &Control::new()).map(|_| None),
                false => lock_and_back_up(&repository, owners[1], &other).map(Some),
            });
            [mine.join().unwrap(), other]
        });
        let mut made = Vec::new();
        for (outcome, (owner, plan)) in outcomes.into_iter().zip(&processes) {
            let locked = matches!(&outcome, Err(e) if e.kind == ErrorKind::Locked);
            made.extend(self.judge(outcome, locked, plan, owner).flatten());
        }
        let changed = self.settle(site, &[], &[first, second]);
        assert!(made.iter().all(|id| changed.come.contains(id)), "{}: {changed:?}", self.told);
    }

    /// Half an hour later the locks of the dead are stale: whoever comes may remove them.
    fn let_locks_grow_old(&mut self, site: usize) {
        let repository = self.sites[site].open();
        for (id, _) in file::list(repository.storage(), Folder::Locks).unwrap() {
            let text = file::read_text(repository.storage(), repository.key(), Folder::Locks, id).unwrap();
            let mut lock: serde_json::Value = serde_json::from_slice(&text).unwrap();
            if self.dead.iter().any(|dead| lock["hostname"] == dead.hostname.as_str()) {
                lock["time"] = "2020-02-02T02:02:02Z".into();
                file::write_json(&repository, Folder::Locks, &lock).unwrap();
                repository.storage().delete(&Folder::Locks.key(id)).unwrap();
            }
        }
        if self.below(2) == 0 {
            repository.unlock(&|_| false).unwrap();
        }
    }

    fn step(&mut self, number: usize) {
        let (client, site) = (self.below(2), usize::from(self.below(4) == 0));
        let action = self.below(32);
        self.told.truncate(self.told.find(',').unwrap_or(self.told.len()));
        self.told += &format!(", step {number}, action {action} by {client} at {site}");
        match action {
            0..=5 => {
                self.change_files(client);
                self.backup(client, site);
            }
            6 | 7 => self.hold(client, site),
            8..=10 => {
                self.change_files(client);
                self.go_on(client);
            }
            11 | 12 => self.forget(site),
            13..=15 => self.prune(site),
            16 | 24 | 25 => self.tag(site),
            17 | 18 => self.copy(site),
            19 => self.repair_index(site, false),
            20 => self.repair_index(site, true),
            21 => self.at_once(site),
            22 => self.let_locks_grow_old(site),
            26 => self.repair_packs(site),
            27 | 28 => self.repair_snapshots(site),
            29 | 30 => self.add_key(site),
            31 => self.remove_key(site),
            _ => self.bury(),
        }
    }

    /// Everybody ends; then one snapshot of each repository is restored as well.
    fn end(mut self) -> Figures {
        self.holding = [None, None];
        self.bury();
        for (number, site) in self.sites.iter_mut().enumerate() {
            site.compare(&[], &[], &self.told);
            site.read_all(&self.told);
            site.try_keys(&self.told);
            let Some((id, kept)) = site.snapshots.first_key_value() else { continue };
            let repository = site.open();
            let root = repository.snapshot(*id).unwrap().paths[0].clone().into_bytes();
            let target = self.dir.path().join(format!("restored-{number}"));
            let request = RestoreRequest {
                subpath: Some(root),
                verify: true,
                ..RestoreRequest::new(*id, target.clone())
            };
            let index = repository.load_index(&|_| true).unwrap();
            restore(&repository, &index, &request, &Control::new()).unwrap();
            assert_eq!(on_disk(&target), kept.tree, "{}", self.told);
        }
        std::mem::take(&mut self.figures)
    }
}

impl Drop for History {
    /// Whatever failed: how to play it again.
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("this history failed: {}", self.told);
        }
    }
}

fn play(seed: u64) -> Figures {
    let mut history = History::new(seed);
    for number in 0..STEPS {
        history.step(number);
        if number % READ_EVERY == READ_EVERY - 1 {
            history.sites.iter().for_each(|site| site.read_all(&history.told));
        }
    }
    history.end()
}

#[test]
fn no_history_loses_or_changes_a_snapshot() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("STRONGROOM_TEST_SEED") {
        println!("{:?}", play(seed));
        return;
    }
    let histories = number("STRONGROOM_TEST_HISTORIES").unwrap_or(HISTORIES);
    let from = u64::from(rand::random::<u32>());
    println!("{histories} histories from seed {from}");
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Figures::default()));
    std::thread::scope(|scope| {
        for _ in 0..SIDE_BY_SIDE.min(histories) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::SeqCst);
                    if number >= histories {
                        return;
                    }
                    let figures = play(from + number);
                    let mut sum = lock_mutex(&sum);
                    sum.done += figures.done;
                    sum.locked_out += figures.locked_out;
                    sum.faults += figures.faults;
                }
            });
        }
    });
    let Figures { done, locked_out, faults } = sum.into_inner().unwrap();
    println!("{done} verbs did their work, {locked_out} were kept out by a lock, {faults} faults struck");
    assert!(done > 0 && locked_out > 0 && faults > 0);
}
