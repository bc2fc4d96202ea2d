//! Local copies of a far repository's metadata: they save requests and never change an answer.

use std::os::unix::fs::PermissionsExt;

use storage::{Memory, Storage};

use super::*;

/// Everything that a look shows: snapshots, and all paths in each.
type Seen = Vec<(Id, Vec<Vec<u8>>)>;

/// A repository in a store, and a directory for copies.
struct World {
    place: Place,
    store: Arc<Memory>,
}

impl World {
    fn new() -> Self {
        let place = Place::new();
        let store: Arc<Memory> = Arc::default();
        let repository = Repository::init(store.clone(), &passcode(), Cost::FAST).unwrap();
        for generation in 0..3 {
            fs::create_dir_all(place.path("source/sub")).unwrap();
            fs::write(place.path("source/sub/file"), noise(generation, 2000)).unwrap();
            fs::write(place.path(&format!("source/new {generation}")), "x").unwrap();
            place.back_up(&repository);
        }
        Self { place, store }
    }

    fn plain(&self) -> Repository {
        Repository::open(self.store.clone(), &passcode()).unwrap()
    }

    fn cached(&self) -> Repository {
        self.plain().with_copies(&self.place.path("cache")).unwrap()
    }

    /// Each copy: its key in the store, and its file.
    fn copies(&self) -> Vec<(String, PathBuf)> {
        let dir = fs::read_dir(self.place.path("cache")).unwrap().next().unwrap().unwrap().path();
        let directory = Directory::open(&dir, DirectoryOptions { sync: false }).unwrap();
        let entries = directory.list_all("").unwrap().into_iter();
        entries.map(|entry| (entry.key.clone(), dir.join(entry.key))).collect()
    }
}

fn look(repository: &Repository) -> Result<Seen> {
    let (snapshots, damaged) = repository.snapshots()?;
    assert_eq!(damaged, []);
    let index = repository.load_index(&|_| true)?;
    let paths = |id| {
        let mut paths = Vec::new();
        walk(repository, &index, id, &mut |path, _| {
            paths.push(path.to_vec());
            Ok(())
        })?;
        Ok((id, paths))
    };
    snapshots.into_iter().map(|(id, _)| paths(id)).collect()
}

#[test]
fn what_was_looked_at_once_is_not_fetched_again() {
    let world = World::new();
    let seen = look(&world.plain()).unwrap();
    assert_eq!(look(&world.cached()).unwrap(), seen);
    let keys: Vec<String> = world.copies().into_iter().map(|(key, _)| key).collect();
    let kept = |folder: &str| keys.iter().filter(|key| key.starts_with(folder)).count();
    // One pack of trees for each backup, and none of data.
    assert_eq!((kept("snapshots/"), kept("index/"), kept("data/"), keys.len()), (3, 3, 3, 9));
    assert!(world.store.list_all("data/").unwrap().len() >= 6);
    for (_, file) in world.copies() {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let whole = world.store.fork();
    for key in &keys {
        world.store.damage(key, b"whoever reads this gets it wrong".to_vec());
    }
    assert_eq!(look(&world.cached()).unwrap(), seen);
    // Copies are no ground for any claim about the store: who goes without them sees what lies there.
    assert_eq!(world.plain().snapshots().unwrap().1.len(), 3);
    let report = check(&world.plain(), CheckRequest { read_data: true }, &Control::new()).unwrap();
    let named = |key: &String| report.findings.iter().any(|finding| finding.file == *key);
    // Without an index it looks into no pack.
    assert!(keys.iter().filter(|key| !key.starts_with("data/")).all(named));
    for key in &keys {
        world.store.damage(key, whole.get(key, u64::MAX).unwrap());
    }
    fs::remove_dir_all(world.place.path("cache")).unwrap();
    assert_eq!(look(&world.cached()).unwrap(), seen);
}

#[test]
fn a_copy_that_goes_bad_in_use_gives_no_wrong_answer() {
    let world = World::new();
    let cached = world.cached();
    let seen = look(&cached).unwrap();
    for (key, file) in world.copies() {
        let whole = fs::read(&file).unwrap();
        for at in (0..whole.len()).step_by(13) {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            fs::write(&file, &damaged).unwrap();
            assert_eq!(look(&cached).unwrap(), seen, "byte {at} of {key}");
        }
        for damaged in [&b""[..], &whole[..whole.len() / 2], b"another text"] {
            fs::write(&file, damaged).unwrap();
            assert_eq!(look(&cached).unwrap(), seen, "{key}");
        }
        fs::remove_file(&file).unwrap();
        assert_eq!(look(&cached).unwrap(), seen, "{key} is gone");
        // The next process compares each copy anew.
        assert_eq!(look(&world.cached()).unwrap(), seen);
        assert_eq!(fs::read(&file).unwrap(), whole, "{key}");
    }
}

#[test]
fn what_another_client_removed_is_not_seen_again() {
    let world = World::new();
    let cached = world.cached();
    let seen = look(&cached).unwrap();
    let other = world.plain();
    other.delete_snapshot(seen[0].0).unwrap();
    assert_eq!(look(&cached).unwrap(), seen[1..]);
    assert_eq!(cached.snapshot(seen[0].0).unwrap_err().kind, ErrorKind::Damaged, "its copy is gone too");
    let owner = LockOwner { hostname: "test".into(), username: String::new() };
    let request = PruneRequest { max_unused_percent: 0.0, ..PruneRequest::default() };
    prune(&other, &owner, &request, &Control::new()).unwrap();
    assert_eq!(look(&cached).unwrap(), seen[1..]);
    assert_eq!(look(&world.cached()).unwrap(), seen[1..]);
    let store: Vec<String> = world.store.list_all("").unwrap().into_iter().map(|entry| entry.key).collect();
    let listed = |key: &String| key.starts_with("data/") || store.contains(key);
    assert!(world.copies().iter().all(|(key, _)| listed(key)));
}
