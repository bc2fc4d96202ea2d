//! The index against simple maps, and its cache against damage, strangers and changes.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::sync::Arc;

use storage::{Directory, DirectoryOptions};

use super::*;
use crate::{Cost, Passcode};

/// Pack, offset and length.
type Copies = BTreeSet<(Id, u32, u32)>;

/// A repository of index files alone, and what they say.
struct World {
    dir: tempfile::TempDir,
    repository: Repository,
    blobs: HashMap<(BlobKind, Id), Copies>,
    files: Vec<Id>,
    next: u32,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("repo")).unwrap();
        let storage = Directory::open(&dir.path().join("repo"), DirectoryOptions { sync: false }).unwrap();
        let passcode = Passcode::new("a good passcode".to_owned());
        let repository = Repository::init(Arc::new(storage), &passcode, Cost::FAST).unwrap();
        Self { dir, repository, blobs: HashMap::new(), files: Vec::new(), next: 0 }
    }

    fn cached(&self) -> Repository {
        self.repository.with_cache(&self.dir.path().join("cache"))
    }

    /// The file of the cache.
    fn cache_file(&self) -> PathBuf {
        let mut files = fs::read_dir(self.dir.path().join("cache")).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none(), "nothing else is left there");
        file
    }

    /// Writes an index file of so many packs of some blobs each, a few of which are copies.
    fn add_file(&mut self, packs: u32) {
        let pack = |this: &mut Self| {
            this.next += 1;
            let pack = Id::of(&(this.next + 1_000_000).to_le_bytes());
            let mut offset = 0;
            let blobs = (0..rand::random_range(1..40u32)).map(|n| {
                let number = rand::random_range(0..2000u32) + this.next / 50 * 1500;
                let kind = if n % 5 == 0 { BlobKind::Tree } else { BlobKind::Data };
                let length = rand::random_range(40..1000u32);
                let blob = PackedBlob {
                    kind,
                    id: Id::of(&number.to_le_bytes()),
                    offset,
                    length,
                    uncompressed: (n % 3 != 0).then_some(length * 2),
                };
                this.blobs.entry((kind, blob.id)).or_default().insert((pack, offset, length));
                offset += length;
                BlobText::from(&blob)
            });
            PackText { id: pack, blobs: blobs.collect() }
        };
        let packs = (0..packs).map(|_| pack(self)).collect();
        let text = IndexText { packs };
        self.files.push(file::write_json(&self.repository, Folder::Index, &text).unwrap());
    }

    /// Loads with so little memory that the index goes to a file.
    fn load(&self, repository: &Repository, in_memory_max: usize) -> Index {
        let cache = repository.cache().map(|dir| Cache::new(dir, repository));
        let (packs, entries) = Loading::new(repository, cache, in_memory_max).load().unwrap();
        Index::new(packs, entries, &|_| true)
    }

    /// Is this what the index files say?
    fn compare(&self, index: &Index) {
        let count: usize = self.blobs.values().map(BTreeSet::len).sum();
        assert_eq!(index.blob_count(), count as u64);
        let mut numbers = BTreeSet::new();
        for ((kind, id), copies) in &self.blobs {
            let places = index.places(*kind, id).unwrap();
            let found: BTreeSet<_> =
                places.iter().map(|p| (index.pack_id(p.pack), p.offset, p.length)).collect();
            assert_eq!((&found, places.len()), (copies, copies.len()));
            let (number, first) = index.first(*kind, id).unwrap().unwrap();
            assert_eq!(Some(&first), places.first());
            assert!(numbers.insert(number), "two blobs share number {number}");
        }
        for number in 0..3000u32 {
            let id = Id::of(&(number + 5_000_000).to_le_bytes());
            assert_eq!(index.place(BlobKind::Data, &id).unwrap(), None);
        }
        let mut seen = 0;
        index
            .blobs(&mut |number, copies| {
                let blob = (copies[0].kind(), copies[0].id);
                assert_eq!(copies.len(), self.blobs[&blob].len());
                assert_eq!(index.first(blob.0, &blob.1).unwrap().unwrap().0, number);
                seen += 1;
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, self.blobs.len());
        let mut listed: Vec<Id> = index.files().map(|(file, _)| file).collect();
        let mut files = self.files.clone();
        listed.sort_unstable();
        files.sort_unstable();
        assert_eq!(listed, files);
        let sizes = index.packs();
        let packs: BTreeSet<Id> = self.blobs.values().flatten().map(|(pack, _, _)| *pack).collect();
        assert_eq!(sizes.len(), packs.len());
    }
}

#[test]
fn an_index_in_memory_and_one_in_a_file_agree_with_a_simple_map() {
    let mut world = World::new();
    for _ in 0..10 {
        world.add_file(60);
    }
    world.compare(&world.load(&world.repository, usize::MAX));
    world.compare(&world.load(&world.repository, 100));
    let both = (world.load(&world.repository, usize::MAX), world.load(&world.repository, 100));
    assert_eq!(both.0.packs(), both.1.packs());
    for (kind, id) in world.blobs.keys() {
        assert_eq!(both.0.places(*kind, id).unwrap(), both.1.places(*kind, id).unwrap());
        assert_eq!(both.0.first(*kind, id).unwrap(), both.1.first(*kind, id).unwrap());
    }
}

#[test]
fn a_small_index_puts_nothing_on_the_disk() {
    let mut world = World::new();
    world.add_file(10);
    world.compare(
        &world.cached().load_index(&|_| true).map(|_| world.load(&world.cached(), 1 << 20)).unwrap(),
    );
    let files = fs::read_dir(world.dir.path().join("cache")).map_or(0, Iterator::count);
    assert_eq!(files, 0);
}

#[test]
fn a_cache_follows_index_files_that_come_and_go() {
    let mut world = World::new();
    for round in 0..6 {
        world.add_file(30);
        world.compare(&world.load(&world.cached(), 100));
        // Again, from the cache alone.
        let path = world.cache_file();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        world.compare(&world.load(&world.cached(), 100));
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        if round == 3 {
            // The files go, and others list the same blobs in one pack each.
            for file in std::mem::take(&mut world.files) {
                world.repository.storage().delete(&Folder::Index.key(file)).unwrap();
            }
            world.blobs.clear();
            world.add_file(20);
            world.compare(&world.load(&world.cached(), 100));
        }
    }
}

#[test]
fn a_cache_holds_no_id_in_the_clear() {
    let mut world = World::new();
    world.add_file(50);
    world.load(&world.cached(), 100);
    let file = fs::read(world.cache_file()).unwrap();
    let packs: BTreeSet<Id> = world.blobs.values().flatten().map(|(pack, _, _)| *pack).collect();
    for id in world.blobs.keys().map(|(_, id)| id).chain(&packs) {
        assert!(!file.windows(8).any(|part| part == &id.0[..8]));
    }
}

/// Every page in turn is damaged at some byte, cut off, or put elsewhere: the cache is made anew or refused.
#[test]
fn a_damaged_cache_never_gives_a_wrong_answer() {
    let mut world = World::new();
    for _ in 0..4 {
        world.add_file(40);
    }
    world.load(&world.cached(), 100);
    let path = world.cache_file();
    let good = fs::read(&path).unwrap();
    let pages = good.len() / 4096;
    assert!(pages > 20);
    let (mut refused, mut anew) = (0, 0);
    let mut judge = |bad: &[u8]| {
        fs::write(&path, bad).unwrap();
        let cached = world.cached();
        let cache = Cache::new(cached.cache().unwrap(), &cached);
        match cache.open() {
            None => {
                anew += 1;
                assert!(!path.exists(), "what is no good is gone");
            }
            Some((packs, entries)) => {
                let index = Index::new(packs, Sorted::File(entries), &|_| true);
                let mut wrong = 0;
                for ((kind, id), copies) in &world.blobs {
                    match index.places(*kind, id) {
                        Ok(places) => assert_eq!(places.len(), copies.len()),
                        Err(e) => {
                            assert!(e.message.contains("delete that file"), "{e}");
                            wrong += 1;
                        }
                    }
                }
                assert!(wrong > 0, "the damage was not noticed");
                refused += 1;
            }
        }
    };
    for page in 0..pages {
        let mut bad = good.clone();
        bad[page * 4096 + rand::random_range(0..4096usize)] ^= 1 << rand::random_range(0..8u32);
        judge(&bad);
        let other = (page + 1 + rand::random_range(0..pages - 1)) % pages;
        let mut bad = good.clone();
        bad.copy_within(other * 4096..(other + 1) * 4096, page * 4096);
        judge(&bad);
        judge(&good[..page * 4096 + rand::random_range(0..4096usize)]);
    }
    assert!(refused > pages / 2 && anew > pages / 2, "{refused} refused, {anew} made anew");
    // And the next load makes it anew.
    fs::write(&path, b"no index at all").unwrap();
    world.compare(&world.load(&world.cached(), 100));
    world.compare(&world.load(&world.cached(), 100));
}

#[test]
fn a_cache_that_is_damaged_while_it_is_merged_is_made_anew() {
    let mut world = World::new();
    world.add_file(60);
    world.load(&world.cached(), 100);
    let file = fs::OpenOptions::new().write(true).open(world.cache_file()).unwrap();
    file.write_all_at(b"flipped", 2 * 4096 + 100).unwrap();
    world.add_file(60);
    world.compare(&world.load(&world.cached(), 100));
}

#[test]
fn the_cache_of_another_repository_is_refused() {
    let (mut one, mut other) = (World::new(), World::new());
    one.add_file(30);
    other.add_file(30);
    one.load(&one.cached(), 100);
    other.load(&other.cached(), 100);
    fs::copy(one.cache_file(), other.cache_file()).unwrap();
    let cached = other.cached();
    assert!(Cache::new(cached.cache().unwrap(), &cached).open().is_none());
    other.compare(&other.load(&cached, 100));
}

#[test]
fn an_index_works_where_nothing_can_be_kept() {
    let mut world = World::new();
    world.add_file(60);
    fs::write(world.dir.path().join("a file"), "").unwrap();
    let repository = world.repository.with_cache(&world.dir.path().join("a file/cache"));
    world.compare(&world.load(&repository, 100));
}

/// A small disk of its own for the cache; `None` where none can be mounted.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=400k", "tmpfs"])
            .arg(&at)
            .status()
            .is_ok_and(|status| status.success());
        if !mounted {
            println!("skipped: no file system can be mounted");
        }
        mounted.then_some(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn an_index_is_loaded_though_the_disk_of_its_cache_is_full() {
    let mut world = World::new();
    let Some(disk) = SmallDisk::mount(world.dir.path().join("small")) else { return };
    world.add_file(20);
    let repository = world.repository.with_cache(&disk.0);
    world.compare(&world.load(&repository, 100));
    let kept = || fs::read_dir(&disk.0).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let before = kept();
    assert_eq!(before.len(), 1);
    // The file of the parts, the new cache, or its last pages: something has no room.
    for fill in [0, 150_000, 250_000, 330_000] {
        fs::write(disk.0.join("other"), vec![0; fill]).unwrap_or_default();
        world.add_file(100);
        world.compare(&world.load(&repository, 100));
        fs::remove_file(disk.0.join("other")).unwrap();
        assert_eq!(kept().len(), 1, "one cache, and nothing is left behind");
    }
}

#[test]
fn a_pack_in_several_index_files_counts_once() {
    let mut world = World::new();
    let blob =
        PackedBlob { kind: BlobKind::Data, id: Id::of(b"b"), offset: 0, length: 50, uncompressed: None };
    for _ in 0..2 {
        let text =
            IndexText { packs: vec![PackText { id: Id::of(b"p"), blobs: vec![BlobText::from(&blob)] }] };
        world.files.push(file::write_json(&world.repository, Folder::Index, &text).unwrap());
    }
    // From the files at once, and one after the other into a cache.
    let fresh = world.load(&world.repository, 0);
    let last = world.files.pop().unwrap();
    let key = Folder::Index.key(last);
    let bytes = world.repository.storage().get(&key, 1 << 20).unwrap();
    world.repository.storage().delete(&key).unwrap();
    world.load(&world.cached(), 0);
    world.repository.storage().create(&key, &[&bytes]).unwrap();
    for index in [fresh, world.load(&world.cached(), 0), world.load(&world.repository, 10)] {
        assert_eq!(index.blob_count(), 1);
        assert_eq!(index.packs()[&Id::of(b"p")], 50 + 37 + 36);
        assert_eq!(index.blobs_in_pack(0), 1);
        assert_eq!(index.files().count(), 2);
    }
}

#[test]
fn packs_that_will_go_can_be_read_but_are_not_referred_to() {
    let world = World::new();
    let text = format!(
        r#"{{"packs":[],"packs_to_delete":[{{"id":"{}","blobs":[{{"id":"{}","type":"data","offset":0,"length":50}}],"time":"x"}}],"more":1}}"#,
        Id::of(b"p"),
        Id::of(b"b")
    );
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    file::write_json(&world.repository, Folder::Index, &value).unwrap();
    let index = world.load(&world.repository, 10);
    assert!(index.place(BlobKind::Data, &Id::of(b"b")).unwrap().is_some());
    assert!(index.usable_place(BlobKind::Data, &Id::of(b"b")).unwrap().is_none());
}
