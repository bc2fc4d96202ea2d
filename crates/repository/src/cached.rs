//! A far repository with local copies of what describes it: index files, snapshots, and packs of trees.
//!
//! ```text
//! a whole file of index/ or snapshots/   its copy, if that is right; else from the store, and kept
//! a part of a pack of trees              from its copy, if that is right; else the whole pack from the store, and kept
//! everything else                        the store: listings above all, so a copy never says what there is
//! ```
//! These files never change and are named by the SHA-256 of their bytes, so a copy is compared with its name before
//! it counts; one that is wrong is fetched anew. Copies are sealed, as the files are. Nothing depends on them, they may
//! be deleted at any time, and what goes wrong with them only makes things slower. Whoever looks for damage, or
//! removes things, works without them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use storage::{Directory, DirectoryOptions, Draft, Entry, ErrorKind, Permit, Shared, Storage, Version};

use crate::file::Folder;
use crate::{Id, lock_mutex};

/// The copies of one repository have so many bytes at most; those used least recently go.
const COPIES_BYTES_MAX: u64 = 1 << 30;
/// Longer files are not kept. A pack has some 16 MiB, and memory holds one for each thread that fetches.
const COPY_BYTES_MAX: u64 = 32 << 20;
/// Of so many packs it is remembered that their copies are right.
const PACKS_MAX: usize = 1 << 14;
/// What a killed process left is deleted after so long.
const LEFTOVER_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// `inner`, with copies.
#[derive(Debug)]
pub(crate) struct Cached {
    inner: Shared,
    copies: Copies,
    packs: Mutex<HashMap<String, Arc<Mutex<Pack>>>>,
}

/// What is known of a pack of trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pack {
    Unknown,
    /// There is a copy, and it was compared with its name.
    Kept,
    /// It is too large, damaged, or there is no room.
    NotKept,
}

impl Cached {
    /// Keeps copies in `dir`, which is made for this repository alone, and readable by nobody else.
    pub(crate) fn new(inner: Shared, dir: &Path) -> storage::Result<Self> {
        Self::with_size(inner, dir, COPIES_BYTES_MAX)
    }

    fn with_size(inner: Shared, dir: &Path, bytes_max: u64) -> storage::Result<Self> {
        Ok(Self { inner, copies: Copies::open(dir, bytes_max)?, packs: Mutex::default() })
    }

    /// What is known of the pack. Its lock is held while it is fetched, so that this happens once.
    fn pack(&self, key: &str) -> Arc<Mutex<Pack>> {
        let mut packs = lock_mutex(&self.packs);
        if packs.len() >= PACKS_MAX && !packs.contains_key(key) {
            packs.clear();
        }
        packs.entry(key.to_owned()).or_insert_with(|| Arc::new(Mutex::new(Pack::Unknown))).clone()
    }

    /// Looks for a copy of a pack, or makes one.
    fn keep_pack(&self, key: &str) -> storage::Result<Pack> {
        if self.copies.get(key).is_some() {
            return Ok(Pack::Kept);
        }
        match self.inner.get(key, COPY_BYTES_MAX) {
            Ok(body) if self.copies.keep(key, &body) => Ok(Pack::Kept),
            Ok(_) => Ok(Pack::NotKept),
            Err(e) if e.kind == ErrorKind::TooLarge => Ok(Pack::NotKept),
            Err(e) => Err(e),
        }
    }
}

impl Storage for Cached {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn get(&self, key: &str, size_max: u64) -> storage::Result<Vec<u8>> {
        if !is_kept_whole(key) {
            return self.inner.get(key, size_max);
        }
        if let Some(body) = self.copies.get(key).filter(|body| body.len() as u64 <= size_max) {
            return Ok(body);
        }
        let body = self.inner.get(key, size_max)?;
        self.copies.keep(key, &body);
        Ok(body)
    }

    fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> storage::Result<()> {
        *body = self.get(key, size_max)?;
        Ok(())
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> storage::Result<(Vec<u8>, Version)> {
        self.inner.get_versioned(key, size_max)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> storage::Result<Vec<u8>> {
        self.inner.get_range(key, range)
    }

    fn get_range_into(&self, key: &str, range: Range<u64>, body: &mut Vec<u8>) -> storage::Result<()> {
        self.inner.get_range_into(key, range, body)
    }

    fn get_metadata_range(&self, key: &str, range: Range<u64>) -> storage::Result<Vec<u8>> {
        let pack = self.pack(key);
        let known = {
            let mut known = lock_mutex(&pack);
            if *known == Pack::Unknown {
                *known = self.keep_pack(key)?;
            }
            *known
        };
        if known == Pack::Kept {
            if let Some(part) = self.copies.part(key, range.clone()) {
                return Ok(part);
            }
            *lock_mutex(&pack) = Pack::Unknown; // it went meanwhile
        }
        self.inner.get_range(key, range)
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> storage::Result<()> {
        self.inner.create(key, parts)
    }

    fn draft(&self, prefix: &str) -> storage::Result<Option<Box<dyn Draft>>> {
        self.inner.draft(prefix)
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> storage::Result<()> {
        self.inner.replace(key, body, expected)
    }

    fn delete(&self, key: &str) -> storage::Result<()> {
        self.inner.delete(key)?;
        self.copies.remove(key);
        lock_mutex(&self.packs).remove(key);
        Ok(())
    }

    fn head(&self, key: &str) -> storage::Result<Option<Entry>> {
        self.inner.head(key)
    }

    /// The store's own listing. Copies of what is no longer in it go.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> storage::Result<()>) -> storage::Result<()> {
        if !WHOLE.iter().any(|folder| prefix.strip_suffix('/') == Some(folder.name())) {
            return self.inner.list(prefix, visit);
        }
        let mut there = HashSet::new();
        self.inner.list(prefix, &mut |entry| {
            there.insert(entry.key.clone());
            visit(entry)
        })?;
        self.copies.retain(prefix, &there);
        Ok(())
    }

    fn free_space(&self) -> storage::Result<Option<u64>> {
        self.inner.free_space()
    }

    /// Whoever keeps copies works without a lease.
    fn under(&self, _: &Arc<dyn Permit>) -> Option<Shared> {
        None
    }

    fn parallelism(&self) -> Option<usize> {
        self.inner.parallelism()
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn clean_leftovers(&self, prefix: &str, age_min: Duration) -> storage::Result<u64> {
        self.inner.clean_leftovers(prefix, age_min)
    }
}

/// Files of these folders are kept whole.
const WHOLE: [Folder; 2] = [Folder::Index, Folder::Snapshots];

fn is_kept_whole(key: &str) -> bool {
    key.split_once('/').is_some_and(|(folder, _)| WHOLE.iter().any(|whole| whole.name() == folder))
}

/// Whether these bytes have the hash that is the last part of the key.
fn is_named(key: &str, body: &[u8]) -> bool {
    key.rsplit('/').next().and_then(|name| name.parse().ok()) == Some(Id::of(body))
}

/// Copies on this machine, under the keys that the files have in the store. None of its methods fails: a copy that
/// cannot be read or written is none.
#[derive(Debug)]
struct Copies {
    dir: Directory,
    bytes_max: u64,
    /// About how many bytes there are.
    bytes: AtomicU64,
}

impl Copies {
    fn open(dir: &Path, bytes_max: u64) -> storage::Result<Self> {
        // What a loss of power takes away is fetched again.
        let dir = Directory::create_root(dir, DirectoryOptions { sync: false })?;
        let _ = dir.clean_leftovers("", LEFTOVER_AGE);
        let bytes = dir.list_all("")?.iter().map(|entry| entry.size).sum();
        Ok(Self { dir, bytes_max, bytes: AtomicU64::new(bytes) })
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.root().join(key)
    }

    /// A copy that is what its name says.
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        let body = self.dir.get(key, COPY_BYTES_MAX).ok()?;
        if !is_named(key, &body) {
            self.remove(key);
            return None;
        }
        // So that it goes late.
        let _ = File::options().append(true).open(self.path(key)).map(|f| f.set_modified(SystemTime::now()));
        Some(body)
    }

    /// A part of a copy that was right when [`Copies::get`] read it.
    fn part(&self, key: &str, range: Range<u64>) -> Option<Vec<u8>> {
        let file = File::open(self.path(key)).ok()?;
        if range.end > file.metadata().ok()?.len() {
            return None;
        }
        let mut part = vec![0; usize::try_from(range.end.checked_sub(range.start)?).ok()?];
        file.read_exact_at(&mut part, range.start).ok()?;
        Some(part)
    }

    /// Keeps a copy, if its bytes are what its name says; whether there is one now.
    fn keep(&self, key: &str, body: &[u8]) -> bool {
        let size = body.len() as u64;
        if size > COPY_BYTES_MAX.min(self.bytes_max / 4) || !is_named(key, body) {
            return false;
        }
        match self.dir.create(key, &[body]) {
            Ok(()) => {}
            // Another process was faster.
            Err(e) if e.kind == ErrorKind::Exists => return self.get(key).is_some(),
            Err(_) => return false,
        }
        if self.bytes.fetch_add(size, Ordering::Relaxed) + size > self.bytes_max {
            self.cut_back();
        }
        true
    }

    /// Removes what was used least recently, until a quarter of the room is free.
    fn cut_back(&self) {
        let Ok(mut entries) = self.dir.list_all("") else { return };
        entries.sort_by_key(|entry| entry.modified);
        let mut bytes: u64 = entries.iter().map(|entry| entry.size).sum();
        for entry in entries {
            if bytes <= self.bytes_max / 4 * 3 {
                break;
            }
            self.remove(&entry.key);
            bytes -= entry.size;
        }
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn remove(&self, key: &str) {
        let _ = self.dir.delete(key);
    }

    /// Removes copies below `prefix` of what is not `there`.
    fn retain(&self, prefix: &str, there: &HashSet<String>) {
        let entries = self.dir.list_all(prefix).unwrap_or_default();
        entries.iter().filter(|entry| !there.contains(&entry.key)).for_each(|entry| self.remove(&entry.key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::Memory;

    struct Place {
        dir: tempfile::TempDir,
        store: Arc<Memory>,
    }

    impl Place {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), store: Arc::default() }
        }

        fn cached(&self, bytes_max: u64) -> Cached {
            Cached::with_size(self.store.clone(), self.dir.path(), bytes_max).unwrap()
        }

        /// Puts bytes under their hash; the key.
        fn put(&self, folder: &str, body: &[u8]) -> String {
            let key = format!("{folder}/{}", Id::of(body));
            self.store.create(&key, &[body]).unwrap();
            key
        }
    }

    #[test]
    fn a_copy_with_any_byte_changed_or_cut_off_is_fetched_anew() {
        let place = Place::new();
        let (whole, pack) = (place.put("index", b"an index"), place.put("data/00", b"trees and trees"));
        let read = || {
            let cached = place.cached(1 << 20);
            assert_eq!(cached.get(&whole, 99).unwrap(), b"an index");
            assert_eq!(cached.get_metadata_range(&pack, 6..9).unwrap(), b"and");
            [&whole, &pack].map(|key| std::fs::read(place.dir.path().join(key)).unwrap())
        };
        let right = read();
        for (key, body) in [(&whole, &right[0]), (&pack, &right[1])] {
            for at in 0..body.len() {
                let mut flipped = body.clone();
                flipped[at] ^= 1;
                for damaged in [&flipped[..], &body[..at], &[&body[..], b"more"].concat()] {
                    std::fs::write(place.dir.path().join(key), damaged).unwrap();
                    assert_eq!(read(), right);
                }
            }
        }
        std::fs::remove_dir_all(place.dir.path().join("data")).unwrap();
        assert_eq!(read(), right);
    }

    #[test]
    fn what_is_damaged_or_too_large_in_the_store_is_passed_on_and_not_kept() {
        let place = Place::new();
        let (index, pack) = (format!("index/{}", "ab".repeat(32)), format!("data/ab/{}", "ab".repeat(32)));
        place.store.create(&index, &[b"not its hash"]).unwrap();
        place.store.create(&pack, &[b"not its hash"]).unwrap();
        let large = place.put("data/00", &[7; 3000]);
        let cached = place.cached(10_000);
        assert_eq!(cached.get(&index, 99).unwrap(), b"not its hash");
        assert_eq!(cached.get_metadata_range(&pack, 0..3).unwrap(), b"not");
        assert_eq!(cached.get_metadata_range(&large, 2999..3000).unwrap(), [7]);
        assert_eq!(cached.get_metadata_range(&large, 2999..3001).unwrap_err().kind, ErrorKind::Short);
        let missing = format!("data/00/{}", "00".repeat(32));
        assert_eq!(cached.get_metadata_range(&missing, 0..1).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(cached.copies.dir.list_all("").unwrap(), []);
    }

    #[test]
    fn copies_stay_within_their_size_and_those_used_last_stay() {
        let place = Place::new();
        let keys: Vec<String> = (0..40u8).map(|i| place.put("snapshots", &[i; 1000])).collect();
        let cached = place.cached(10_000);
        let sizes = || cached.copies.dir.list_all("").unwrap();
        for (i, key) in keys.iter().enumerate() {
            cached.get(key, 1000).unwrap();
            // The order of use, whatever the clock's grain.
            let file = File::options().append(true).open(place.dir.path().join(key)).unwrap();
            file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(i as u64)).unwrap();
            assert!(sizes().iter().map(|entry| entry.size).sum::<u64>() <= 10_000);
        }
        let kept = sizes();
        assert!(kept.len() >= 7, "{}", kept.len());
        let last: HashSet<&String> = keys[keys.len() - kept.len()..].iter().collect();
        assert!(kept.iter().all(|entry| last.contains(&entry.key)));
    }

    #[test]
    fn copies_of_what_is_gone_from_the_store_go() {
        let place = Place::new();
        let keys = [place.put("snapshots", b"one"), place.put("snapshots", b"two"), place.put("index", b"x")];
        let cached = place.cached(1 << 20);
        keys.iter().for_each(|key| drop(cached.get(key, 9).unwrap()));
        place.store.delete(&keys[0]).unwrap();
        assert_eq!(cached.list_all("snapshots/").unwrap().len(), 1);
        assert_eq!(cached.get(&keys[0], 9).unwrap_err().kind, ErrorKind::NotFound);
        cached.delete(&keys[2]).unwrap();
        assert_eq!(cached.get(&keys[2], 9).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(cached.copies.dir.list_all("").unwrap().len(), 1);
    }
}
