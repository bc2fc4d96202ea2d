//! Every verb of the engine, on each kind of backend, with each kind of fault at each call to a directory and at each
//! request to a bucket. After a fault nothing that was committed is lost, nothing half-made is visible, and the same
//! verb run again does its work. And bits flipped at random: each is found and named.
//!
//! By default a part of it, spread over all calls. `STRONGROOM_TEST_FAULTS=all` tries every call,
//! `STRONGROOM_TEST_FLIPS=2000` so many flips, `STRONGROOM_TEST_SEED` chooses others. Counts are printed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use storage::{Bucket, Memory, Storage};

use super::*;

/// A default run tries one call in so many, with so many snapshots in the repositories.
const STRIDE: u64 = 23;
const GENERATIONS: usize = 4;
/// A full run has more snapshots, and so more files and more calls.
const GENERATIONS_OF_ALL: usize = 14;
const THREADS: usize = 4;
pub(super) const FAULTS: [Fault; 5] =
    [Fault::ErrorBefore, Fault::ErrorAfter, Fault::DieBefore, Fault::DieAfter, Fault::Full];

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Backend {
    Directory,
    /// A bucket, of which each request is tried so often.
    Bucket {
        attempts: u32,
    },
}

/// Every fault on each kind of backend; and those that a bucket's client overcomes by a second attempt.
fn modes() -> impl Iterator<Item = (Backend, Fault)> {
    let each = [Backend::Directory, Backend::Bucket { attempts: 1 }]
        .into_iter()
        .flat_map(|backend| FAULTS.map(|fault| (backend, fault)));
    each.chain([Fault::ErrorBefore, Fault::ErrorAfter].map(|fault| (Backend::Bucket { attempts: 2 }, fault)))
}

/// Repositories in the states in which verbs find them, each made once.
struct Ground {
    place: Place,
    empty: Memory,
    fresh: Memory,
    /// One snapshot for each generation of the source.
    full: Memory,
    snapshots: Vec<Id>,
    /// The odd snapshots are forgotten, their data still there.
    wasteful: Memory,
    /// No index file is left.
    unindexed: Memory,
    /// The last snapshot's pack of data has a flipped bit.
    damaged: Memory,
    bad_pack: Id,
    /// … and is gone from pack and index.
    cut: Memory,
    two_keys: Memory,
    second_key: Id,
    other: Memory,
}

fn other_passcode() -> Passcode {
    Passcode::new("quite another one".to_owned())
}

fn owner() -> LockOwner {
    LockOwner { hostname: "test".into(), username: String::new() }
}

fn compressing(dry_run: bool) -> PruneRequest {
    PruneRequest { repack_uncompressed: Some(Compression::Fastest), dry_run, ..PruneRequest::default() }
}

pub(super) fn open(storage: &Shared) -> Result<Repository> {
    Repository::open(storage.clone(), &passcode())
}

/// Works on a fork of `memory`; gives the fork.
fn after(memory: &Memory, work: impl FnOnce(&Repository)) -> Memory {
    let shared = Arc::new(memory.fork());
    work(&open(&(shared.clone() as Shared)).unwrap());
    shared.fork()
}

impl Ground {
    fn new(generations: usize) -> Self {
        let place = Place::new();
        let empty = Memory::default();
        let made: Arc<Memory> = Arc::default();
        Repository::init(made.clone(), &passcode(), Cost::FAST).unwrap();
        let fresh = made.fork();
        let other: Arc<Memory> = Arc::default();
        Repository::init(other.clone(), &passcode(), Cost::FAST).unwrap();
        let mut snapshots = Vec::new();
        let mut bad_pack = None;
        let full = after(&fresh, |repository| {
            for generation in 0..generations {
                make_generation(&place.path("source"), generation);
                let outcome = place.back_up(repository);
                snapshots.push(outcome.snapshot.unwrap());
                let largest = outcome.new_packs.iter().max_by_key(|(_, size)| *size);
                bad_pack = largest.map(|(id, _)| *id);
            }
        });
        make_generation(&place.path("source"), generations);
        let bad_pack = bad_pack.unwrap();
        let wasteful = after(&full, |repository| {
            snapshots.iter().skip(1).step_by(2).for_each(|id| repository.delete_snapshot(*id).unwrap());
        });
        let unindexed = after(&full, |repository| {
            for entry in repository.storage().list_all("index/").unwrap() {
                repository.storage().delete(&entry.key).unwrap();
            }
        });
        let damaged = full.fork();
        let key = crate::pack::pack_key(bad_pack);
        let mut body = damaged.get(&key, u64::MAX).unwrap();
        body[50] ^= 4;
        damaged.damage(&key, body);
        let cut = after(&damaged, |repository| {
            repair_packs(repository, &owner(), &[bad_pack], &Control::new()).unwrap();
        });
        let mut second_key = None;
        let two_keys = after(&full, |repository| {
            let label = KeyLabel::default();
            second_key = add_key(repository, &other_passcode(), Cost::FAST, &label).ok();
        });
        let (other, second_key) = (other.fork(), second_key.unwrap());
        Self {
            place,
            empty,
            fresh,
            full,
            snapshots,
            wasteful,
            unindexed,
            damaged,
            bad_pack,
            cut,
            two_keys,
            second_key,
            other,
        }
    }
}

/// Each generation changes one file, adds one and leaves the others.
fn make_generation(source: &Path, generation: usize) {
    let seed = generation as u64;
    fs::create_dir_all(source.join("sub")).unwrap();
    fs::write(source.join("changing"), noise(100 + seed, 3000)).unwrap();
    fs::write(source.join(format!("sub/added-{generation}")), noise(200 + seed, 2000)).unwrap();
    fs::write(source.join("same"), "text ".repeat(300)).unwrap();
}

/// One verb: what it finds, what it does, what must be true when it is done.
struct Verb {
    name: &'static str,
    start: fn(&Ground) -> &Memory,
    act: fn(&Ground, &Shared, &Shared) -> Result<()>,
    /// Snapshots that must be there at every time.
    keeps: fn(&Ground) -> Vec<Id>,
    /// Whole at every time, and not only once the verb is through: all but repairs.
    always_whole: bool,
    done: fn(&Ground, &Repository, &Repository) -> bool,
}

fn all(ground: &Ground) -> Vec<Id> {
    ground.snapshots.clone()
}

fn none(_: &Ground) -> Vec<Id> {
    Vec::new()
}

fn even(ground: &Ground) -> Vec<Id> {
    ground.snapshots.iter().copied().step_by(2).collect()
}

fn but_last(ground: &Ground) -> Vec<Id> {
    ground.snapshots[..ground.snapshots.len() - 1].to_vec()
}

fn count(repository: &Repository) -> usize {
    repository.snapshots().unwrap().0.len()
}

const VERBS: &[Verb] = &[
    Verb {
        name: "init",
        start: |ground| &ground.empty,
        // Again on what is there already it is refused.
        act: |_, storage, _| match Repository::init(storage.clone(), &passcode(), Cost::FAST) {
            Err(e) if e.kind == ErrorKind::Exists => Ok(()),
            done => done.map(drop),
        },
        keeps: none,
        always_whole: false,
        done: |_, repository, _| count(repository) == 0,
    },
    Verb {
        name: "first backup",
        start: |ground| &ground.fresh,
        act: back_up,
        keeps: none,
        always_whole: true,
        done: |_, repository, _| count(repository) >= 1,
    },
    Verb {
        name: "another backup",
        start: |ground| &ground.full,
        act: back_up,
        keeps: all,
        always_whole: true,
        done: |ground, repository, _| count(repository) > ground.snapshots.len(),
    },
    Verb {
        name: "forget",
        start: |ground| &ground.full,
        act: |ground, storage, _| {
            let repository = open(storage)?;
            let _lock = repository.lock(LockKind::Exclusive, &owner())?;
            ground.snapshots.iter().skip(1).step_by(2).try_for_each(|id| repository.delete_snapshot(*id))
        },
        keeps: even,
        always_whole: true,
        done: |ground, repository, _| count(repository) == even(ground).len(),
    },
    Verb {
        name: "prune",
        start: |ground| &ground.wasteful,
        act: |_, storage, _| {
            let request = PruneRequest { max_unused_percent: 0.0, ..PruneRequest::default() };
            prune(&open(storage)?, &owner(), &request, &Control::new()).map(drop)
        },
        keeps: even,
        always_whole: true,
        done: |_, repository, _| {
            let request = PruneRequest { max_unused_percent: 0.0, dry_run: true, ..PruneRequest::default() };
            let again = prune(repository, &owner(), &request, &Control::new()).unwrap();
            (again.packs_removed, again.packs_repacked) == (0, 0)
        },
    },
    Verb {
        name: "prune that compresses",
        start: |ground| &ground.wasteful,
        act: |_, storage, _| prune(&open(storage)?, &owner(), &compressing(false), &Control::new()).map(drop),
        keeps: even,
        always_whole: true,
        done: |_, repository, _| {
            let again = prune(repository, &owner(), &compressing(true), &Control::new()).unwrap();
            (again.packs_removed, again.packs_repacked) == (0, 0)
        },
    },
    Verb {
        name: "copy",
        start: |ground| &ground.full,
        act: |ground, storage, other| {
            let (source, target) = (open(storage)?, open(other)?);
            let _locks = (source.lock(LockKind::Shared, &owner())?, target.lock(LockKind::Shared, &owner())?);
            let request = CopyRequest { snapshots: ground.snapshots.clone(), ..CopyRequest::default() };
            copy(&source, &target, &request, &Control::new(), &mut |_, _| {})
        },
        keeps: all,
        always_whole: true,
        done: |ground, _, target| count(target) == ground.snapshots.len(),
    },
    Verb {
        name: "key add",
        start: |ground| &ground.full,
        act: |_, storage, _| {
            add_key(&open(storage)?, &other_passcode(), Cost::FAST, &KeyLabel::default()).map(drop)
        },
        keeps: all,
        always_whole: true,
        done: |_, repository, _| Repository::open(repository.storage().clone(), &other_passcode()).is_ok(),
    },
    Verb {
        name: "key remove",
        start: |ground| &ground.two_keys,
        act: |ground, storage, _| match remove_key(&open(storage)?, &ground.second_key.to_string()) {
            Err(e) if e.kind == ErrorKind::NotFound => Ok(()), // gone already
            done => done.map(drop),
        },
        keeps: all,
        always_whole: true,
        done: |_, repository, _| list_keys(repository).unwrap().0.len() == 1,
    },
    Verb {
        name: "key passwd",
        start: |ground| &ground.full,
        act: |_, storage, _| {
            let repository = Repository::open(storage.clone(), &passcode())?;
            // Changed to the same passcode, so that the looks afterwards need not know how far it came.
            change_passcode(&repository, &passcode(), Cost::FAST, &KeyLabel::default()).map(drop)
        },
        keeps: all,
        always_whole: true,
        done: |_, repository, _| !list_keys(repository).unwrap().0.is_empty(),
    },
    Verb {
        name: "tag",
        start: |ground| &ground.full,
        act: |_, storage, _| {
            let repository = open(storage)?;
            let _lock = repository.lock(LockKind::Exclusive, &owner())?;
            let change = TagChange::Set(vec!["tagged".to_owned()]);
            for (id, _) in repository.snapshots()?.0 {
                change_tags(&repository, id, &change)?;
            }
            Ok(())
        },
        keeps: none, // their ids change; that none is lost is seen at the end
        always_whole: true,
        done: |ground, repository, _| {
            let (snapshots, _) = repository.snapshots().unwrap();
            let trees: BTreeSet<Id> = snapshots.iter().map(|(_, snapshot)| snapshot.tree).collect();
            trees.len() == ground.snapshots.len()
                && snapshots.iter().all(|(_, snapshot)| snapshot.tags == ["tagged"])
        },
    },
    Verb {
        name: "repair index",
        start: |ground| &ground.unindexed,
        act: |_, storage, _| {
            repair_index(&open(storage)?, &owner(), RepairIndexRequest::default(), &Control::new()).map(drop)
        },
        keeps: all,
        always_whole: false,
        done: |_, _, _| true,
    },
    Verb {
        name: "repair packs and snapshots",
        start: |ground| &ground.damaged,
        act: |ground, storage, _| {
            let repository = open(storage)?;
            if repository.list_packs()?.contains_key(&ground.bad_pack) {
                repair_packs(&repository, &owner(), &[ground.bad_pack], &Control::new())?;
            }
            repair_snapshots_of(&repository)
        },
        keeps: but_last,
        always_whole: false,
        done: |ground, repository, _| count(repository) >= but_last(ground).len(),
    },
    Verb {
        name: "repair snapshots",
        start: |ground| &ground.cut,
        act: |_, storage, _| repair_snapshots_of(&open(storage)?),
        keeps: but_last,
        always_whole: false,
        done: |ground, repository, _| count(repository) >= but_last(ground).len(),
    },
    Verb {
        name: "restore",
        start: |ground| &ground.full,
        act: |ground, storage, _| {
            let repository = open(storage)?;
            let out = tempfile::tempdir().unwrap();
            let last = ground.snapshots.len() - 1;
            let index = repository.load_index(&|_| true)?;
            let request = RestoreRequest {
                subpath: Some(ground.place.path("source").as_os_str().as_bytes().to_vec()),
                verify: true,
                ..RestoreRequest::new(ground.snapshots[last], out.path().join("out"))
            };
            restore(&repository, &index, &request, &Control::new())?;
            let expected = noise(100 + last as u64, 3000);
            assert_eq!(fs::read(out.path().join("out/changing")).unwrap(), expected);
            Ok(())
        },
        keeps: all,
        always_whole: true,
        done: |_, _, _| true,
    },
    Verb {
        name: "check",
        start: |ground| &ground.full,
        act: |_, storage, _| {
            let repository = open(storage)?;
            let _lock = repository.lock(LockKind::Exclusive, &owner())?;
            check(&repository, CheckRequest { read_data: true }, &Control::new()).map(drop)
        },
        keeps: all,
        always_whole: true,
        done: |_, _, _| true,
    },
];

fn back_up(ground: &Ground, storage: &Shared, _: &Shared) -> Result<()> {
    let repository = open(storage)?;
    let _lock = repository.lock(LockKind::Shared, &owner())?;
    ground.place.try_back_up(&repository).0.map(drop)
}

fn repair_snapshots_of(repository: &Repository) -> Result<()> {
    let snapshots = repository.snapshots()?.0.into_iter().map(|(id, _)| id).collect();
    let request = RepairSnapshotsRequest { snapshots, forget: true, dry_run: false };
    repair_snapshots(repository, &owner(), &request, &Control::new()).map(drop)
}

/// A repository in a place of its own.
pub(super) enum Stand {
    Directory(Shared),
    Bucket(Bucket, u32),
}

impl Stand {
    /// With the content of `memory`; a directory lies in `dir`.
    pub(super) fn new(backend: Backend, memory: &Memory, dir: &Path, name: &str) -> Self {
        let stand = match backend {
            Backend::Directory => {
                let root = dir.join(name);
                fs::create_dir(&root).unwrap();
                Self::Directory(Arc::new(Directory::open(&root, DirectoryOptions { sync: false }).unwrap()))
            }
            Backend::Bucket { attempts } => Self::Bucket(Bucket::default(), attempts),
        };
        let storage = stand.open();
        for entry in memory.list_all("").unwrap() {
            let body = memory.get(&entry.key, u64::MAX).unwrap();
            storage.create(&entry.key, &[&body]).unwrap();
        }
        stand
    }

    pub(super) fn open(&self) -> Shared {
        match self {
            Self::Directory(directory) => directory.clone(),
            Self::Bucket(bucket, _) => Arc::new(bucket.open()),
        }
    }

    pub(super) fn open_failing(&self, plan: &FaultPlan) -> Shared {
        match self {
            Self::Directory(directory) => Arc::new(Faulty::new(directory.clone(), plan.clone())),
            Self::Bucket(bucket, attempts) => Arc::new(bucket.open_failing(plan, *attempts)),
        }
    }
}

/// Everything committed is there and whole, and nothing that is not whole is visible.
fn assert_whole(repository: &Repository, keeps: &[Id], told: &str) {
    let (snapshots, damaged) = repository.snapshots().unwrap();
    assert_eq!(damaged, [], "{told}");
    for id in keeps {
        assert!(snapshots.iter().any(|(there, _)| there == id), "{told}: snapshot {id} is gone");
    }
    let report = check(repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!(report.findings, [], "{told}");
}

/// One fault at one call; whether it struck.
fn trial(ground: &Ground, verb: &Verb, backend: Backend, fault: Fault, n: u64) -> bool {
    let told = format!("{} on {backend:?}, {fault:?} at call {n}", verb.name);
    let dir = tempfile::tempdir().unwrap();
    let stand = Stand::new(backend, (verb.start)(ground), dir.path(), "repository");
    let other_stand = Stand::new(backend, &ground.other, dir.path(), "other");
    let plan = FaultPlan::new(n, fault);
    // Only what writes can find the place full.
    let plan = if fault == Fault::Full { plan.writes_only() } else { plan };
    let outcome = (verb.act)(ground, &stand.open_failing(&plan), &other_stand.open_failing(&plan));
    let struck = plan.fired();
    if let (Backend::Bucket { attempts: 2.. }, Err(e)) = (backend, outcome) {
        panic!("{told}: one failed request was not overcome: {e}");
    }
    let (storage, other) = (stand.open(), other_stand.open());

    let keeps = (verb.keeps)(ground);
    if verb.always_whole {
        let repository = open(&storage).unwrap_or_else(|e| panic!("{told}: {e}"));
        assert_whole(&repository, &keeps, &told);
        assert_whole(&open(&other).unwrap(), &[], &told);
    }
    for place in [&storage, &other] {
        if let Ok(repository) = open(place) {
            repository.remove_all_locks().unwrap();
        }
    }
    (verb.act)(ground, &storage, &other).unwrap_or_else(|e| panic!("{told}: run again: {e}"));
    let (repository, other) = (open(&storage).unwrap(), open(&other).unwrap());
    assert_whole(&repository, &keeps, &told);
    assert_whole(&other, &[], &told);
    assert!((verb.done)(ground, &repository, &other), "{told}: it was run again and is not done");
    struck
}

#[test]
fn no_fault_at_any_storage_call_of_any_verb_loses_or_half_makes_anything() {
    let all = std::env::var("STRONGROOM_TEST_FAULTS").is_ok_and(|v| v == "all");
    let (stride, generations) = if all { (1, GENERATIONS_OF_ALL) } else { (STRIDE, GENERATIONS) };
    let ground = Ground::new(generations);
    let of_verb = |number: usize, verb: &Verb| {
        let (mut directory, mut bucket) = (0, 0);
        for (shift, (backend, fault)) in modes().enumerate() {
            // Other calls are tried of each verb and fault.
            let first = 1 + (number + 3 * shift) as u64 % stride.min(5);
            let points = every(first, stride, |n| trial(&ground, verb, backend, fault, n));
            match backend {
                Backend::Directory => directory += points,
                Backend::Bucket { .. } => bucket += points,
            }
        }
        println!("{directory:6} fault points in a directory, {bucket:6} in a bucket: {}", verb.name);
        (directory, bucket)
    };
    // Locks wait; so verbs are tried side by side.
    let (directory, bucket) = std::thread::scope(|scope| {
        let of_verb = &of_verb;
        let verbs = VERBS.iter().enumerate();
        let running: Vec<_> =
            verbs.map(|(number, verb)| scope.spawn(move || of_verb(number, verb))).collect();
        let points = running.into_iter().map(|verb| verb.join().unwrap());
        points.fold((0, 0), |sum, (directory, bucket)| (sum.0 + directory, sum.1 + bucket))
    });
    println!(
        "{directory:6} fault points in a directory, {bucket:6} in a bucket: one call in {stride} of all verbs"
    );
    println!("{:6} fault points in all", directory + bucket);
    assert!(directory > 50 && bucket > 100);
}

/// Tries n = first, first + stride, … on several threads until a fault no longer strikes; counts those that did.
fn every(first: u64, stride: u64, trial: impl Fn(u64) -> bool + Sync) -> u64 {
    let (next, end, struck) = (AtomicU64::new(first), AtomicU64::new(u64::MAX), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(stride, Ordering::SeqCst);
                    if n > end.load(Ordering::SeqCst) {
                        return;
                    }
                    if trial(n) {
                        struck.fetch_add(1, Ordering::SeqCst);
                    } else {
                        end.fetch_min(n, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    struck.into_inner()
}

/// A bit anywhere in a repository, chosen at random by size of the files and once in each file.
#[test]
fn bits_flipped_at_random_are_found_and_named() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let flips = number("STRONGROOM_TEST_FLIPS").unwrap_or(100);
    let seed = number("STRONGROOM_TEST_SEED").unwrap_or(1);
    println!("{flips} flips, STRONGROOM_TEST_SEED={seed}");
    let ground = Ground::new(GENERATIONS);
    let files = ground.two_keys.list_all("").unwrap();
    let bits: u64 = files.iter().map(|file| file.size * 8).sum();
    let flip = |n: u64| {
        let random = noise(seed.wrapping_mul(1_000_003).wrapping_add(n), 16);
        let random = u64::from_le_bytes(random[8..16].try_into().unwrap());
        let (file, bit) = if n <= files.len() as u64 {
            let file = &files[n as usize - 1];
            (file, random % (file.size * 8))
        } else {
            let mut bit = random % bits;
            let mut chosen = files.iter();
            loop {
                let file = chosen.next().unwrap();
                if bit < file.size * 8 {
                    break (file, bit);
                }
                bit -= file.size * 8;
            }
        };
        let memory = ground.two_keys.fork();
        let mut body = memory.get(&file.key, u64::MAX).unwrap();
        body[bit as usize / 8] ^= 1 << (bit % 8);
        memory.damage(&file.key, body);
        let named = match open(&(Arc::new(memory) as Shared)) {
            Err(e) => e.to_string(),
            Ok(repository) => {
                let report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
                format!("{:?}", report.findings)
            }
        };
        assert!(named.contains(&file.key), "bit {bit} of {}: {named}", file.key);
        n < flips.max(files.len() as u64)
    };
    let found = every(1, 1, flip) + 1;
    println!("{found} flipped bits were found and named");
}
