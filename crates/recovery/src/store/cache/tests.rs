//! The cache shows what a fresh read would show, whatever happens to the store, and reads no entry twice.

use std::fs;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use repository::{Cost, Warning};
use serde_json::value::to_raw_value;
use storage::{Directory, DirectoryOptions, Fault, FaultPlan, Faulty, Memory, Shared, Storage};

use super::super::catalogue::EntryFile;
use super::super::groups::Group;
use super::super::sealed;
use super::*;

/// A store that counts the calls which it gets.
struct World {
    store: Store,
    calls: FaultPlan,
    cache: CatalogueCache,
}

impl World {
    fn over(storage: Shared) -> Self {
        let calls = FaultPlan::new(0, Fault::ErrorBefore);
        let (store, _) = Store::create_or_adopt(storage.clone(), "s", Cost::FAST).unwrap();
        let store = store.with_storage(Arc::new(Faulty::new(storage, calls.clone())));
        Self { store, calls, cache: CatalogueCache::default() }
    }

    fn look(&self) -> Look {
        self.store.listed(&self.cache, "s").unwrap()
    }

    /// Calls that one more look makes.
    fn cost_of_a_look(&self) -> u64 {
        let before = self.calls.calls();
        self.look();
        self.calls.calls() - before
    }
}

/// The listings of catalogue and revocations.
const WARM: u64 = 2;

fn entry(name: &str) -> CatalogueEntry {
    CatalogueEntry {
        format_version: 1,
        name: name.to_owned(),
        vault: layout::new_token(),
        run: layout::new_token(),
        status: "completed".to_owned(),
        warnings: vec![Warning { item: "a".to_owned(), reason: "b".to_owned() }],
        warning_count: 1,
        ..CatalogueEntry::default()
    }
}

fn file(entry: &CatalogueEntry) -> Vec<u8> {
    let raw = to_raw_value(entry).unwrap();
    let file = EntryFile { entry: raw, mac: String::new(), changes: None, checksum: String::new() };
    sealed::seal(&file).unwrap()
}

fn put(store: &Store, entry: &CatalogueEntry) {
    store.storage().create(&layout::backup_key(&entry.name), &[&file(entry)]).unwrap();
}

/// All that lists show, in one order.
fn shown(look: &Look) -> Vec<String> {
    let backups = look.backups.iter().map(|listed| format!("{:?} {}", listed.view, listed.name_key));
    let findings = look.findings.iter().map(|finding| format!("{finding:?}"));
    let mut lines: Vec<String> = backups.chain(findings).collect();
    lines.sort();
    lines
}

/// The same from the files alone.
fn fresh(store: &Store) -> Vec<String> {
    let catalogue = store.catalogue().unwrap();
    let backups = catalogue.entries.into_iter().map(|entry| Arc::new(Listed::of(entry, "s"))).collect();
    shown(&Look { backups, findings: catalogue.findings })
}

#[test]
fn whatever_happens_to_a_store_a_look_shows_what_its_files_say() {
    for seed in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed);
        let memory = Arc::new(Memory::default());
        let world = World::over(memory.clone());
        let other = Store::open(memory.clone()).unwrap();
        for step in 0..150 {
            let name = format!("Backup {}", rng.random_range(0..30));
            let key = layout::backup_key(&name);
            match rng.random_range(0..8) {
                0..=2 => drop(memory.create(&key, &[&file(&entry(&name))])),
                3 => memory.delete(&key).unwrap(),
                4 => drop(other.update_backup(&name, Some(rng.random_range(0..1000)), Some("changed"))),
                5 => memory.damage(&key, b"{torn".to_vec()),
                6 => memory.damage(&key, file(&entry(&name))),
                _ => {
                    if let Ok(Some(there)) = other.backup_even_void(&name) {
                        let _ = memory.create(&layout::revoked_key(&there.run), &[b"x"]);
                    }
                }
            }
            if rng.random_range(0..3) > 0 {
                assert_eq!(shown(&world.look()), fresh(&other), "seed {seed}, step {step}");
            }
        }
        let kept = world.cache.kept();
        let sum: usize = kept.entries.values().map(|known| known.bytes).sum();
        assert_eq!(kept.bytes, sum, "what is kept is counted");
        assert!(kept.entries.len() <= memory.list_all(layout::BACKUPS).unwrap().len());
    }
}

#[test]
fn what_was_read_once_is_not_read_again() {
    let world = World::over(Arc::new(Memory::default()));
    for n in 0..100 {
        put(&world.store, &entry(&format!("b{n}")));
    }
    assert_eq!(world.cost_of_a_look(), WARM + 100);
    assert_eq!(world.cost_of_a_look(), WARM);
    let look = world.look();
    assert_eq!(look.backups.len(), 100);
    assert!(look.backups.iter().all(|one| one.view.warnings.is_empty() && one.view.warning_count == 1));
    world.store.update_backup("b7", Some(5), None).unwrap();
    put(&world.store, &entry("new"));
    assert_eq!(world.cost_of_a_look(), WARM + 2, "the changed one and the new one");
    assert_eq!(world.cost_of_a_look(), WARM);
}

#[test]
fn many_who_look_at_once_read_each_entry_once() {
    let world = World::over(Arc::new(Memory::default()));
    for n in 0..200 {
        put(&world.store, &entry(&format!("b{n}")));
    }
    let before = world.calls.calls();
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(world.look().backups.len(), 200));
        }
    });
    assert_eq!(world.calls.calls() - before, 200 + 10 * WARM);
}

#[test]
fn what_other_processes_do_to_the_files_is_seen_at_the_next_look() {
    let dir = tempfile::tempdir().unwrap();
    let options = DirectoryOptions { sync: false };
    let world = World::over(Arc::new(Directory::open(dir.path(), options).unwrap()));
    let [replaced, removed, stays] = ["replaced", "removed", "stays"].map(entry);
    for entry in [&replaced, &removed, &stays] {
        put(&world.store, entry);
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    while world.cost_of_a_look() > WARM {
        assert!(Instant::now() < deadline, "files that nobody touches are read again and again");
        std::thread::sleep(Duration::from_millis(50));
    }
    let path = |name: &str| dir.path().join(layout::backup_key(name));
    // As long as before, in place, and the time of its last change put back.
    let modified = fs::metadata(path("replaced")).unwrap().modified().unwrap();
    let other = CatalogueEntry { status: "otherwise".to_owned(), ..replaced };
    fs::write(path("replaced"), file(&other)).unwrap();
    fs::File::options().append(true).open(path("replaced")).unwrap().set_modified(modified).unwrap();
    fs::remove_file(path("removed")).unwrap();
    fs::write(path("added"), file(&entry("added"))).unwrap();
    let look = world.look();
    let mut seen: Vec<_> = look.backups.iter().map(|one| (&*one.view.name, &*one.view.status)).collect();
    seen.sort();
    assert_eq!(seen, [("added", "completed"), ("replaced", "otherwise"), ("stays", "completed")]);
}

#[test]
fn what_does_not_fit_is_shown_all_the_same() {
    let world = World::over(Arc::new(Memory::default()));
    let long = "x".repeat(BYTES_MAX / 40);
    for n in 0..50 {
        put(&world.store, &CatalogueEntry { description: long.clone(), ..entry(&format!("b{n}")) });
    }
    assert_eq!(world.look().backups.len(), 50);
    assert!(world.cache.kept().bytes <= BYTES_MAX);
    let again = world.cost_of_a_look();
    assert!((WARM + 1..WARM + 50).contains(&again), "{again}");
}

#[test]
fn the_bytes_of_all_packs_are_counted_anew_once_other_groups_are_named() {
    let world = World::over(Arc::new(Memory::default()));
    let named = |size: u64| {
        let (id, pack) = (layout::new_token(), repository::Id(rand::random()));
        let packs = [(pack, size)].into();
        let group = Group { vault: layout::new_token(), packs, ..Group::default() };
        world.store.storage().create(&layout::group_key(&id), &[&group.encode().unwrap()]).unwrap();
        id
    };
    let [one, two] = [named(5), named(7)];
    put(&world.store, &CatalogueEntry { groups: vec![one.clone()], ..entry("a") });
    put(&world.store, &CatalogueEntry { groups: vec![one.clone()], ..entry("b") });
    assert_eq!(world.store.bytes_stored(&world.cache, &world.look()).unwrap(), 5);
    put(&world.store, &CatalogueEntry { groups: vec![one, two.clone()], ..entry("c") });
    let look = world.look();
    assert_eq!(world.store.bytes_stored(&world.cache, &look).unwrap(), 12);
    let before = world.calls.calls();
    assert_eq!(world.store.bytes_stored(&world.cache, &look).unwrap(), 12);
    assert_eq!(world.calls.calls(), before);
    world.store.storage().delete(&layout::backup_key("c")).unwrap();
    assert_eq!(world.store.bytes_stored(&world.cache, &world.look()).unwrap(), 5);
    world.store.storage().delete(&layout::backup_key("b")).unwrap();
    put(&world.store, &CatalogueEntry { groups: vec![two], ..entry("d") });
    assert_eq!(world.store.bytes_stored(&world.cache, &world.look()).unwrap(), 12, "as many as before");
}

#[test]
fn another_store_under_a_known_name_begins_with_nothing() {
    let caches = Caches::default();
    let first = caches.of("s", "one");
    assert!(Arc::ptr_eq(&first, &caches.of("s", "one")));
    assert!(!Arc::ptr_eq(&first, &caches.of("s", "two")));
    caches.forget("s");
    assert!(!Arc::ptr_eq(&first, &caches.of("s", "one")));
}
