//! Which entry the kernel means by a number.
//!
//! An entry has its number from when the kernel is told of it until the kernel forgets it, so memory is bounded by what
//! the kernel keeps. The number is a keyed hash of what the entry is: the same again after it was forgotten, and nobody
//! who wrote the repository can choose it. Two entries never share one: who comes second gets the next.

use std::collections::HashMap;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repository::{Id, Node, NodeKind};

use super::folders::Root;

/// The number of the mounted directory itself.
pub const TOP: u64 = 1;
/// A path has so many components at most where it is shown.
const SHOWN_MAX: usize = 4096;

/// Something that the kernel was told of.
#[derive(Clone)]
pub enum Entry {
    /// A folder of ours, by its path.
    Folder(Arc<str>),
    /// A link of ours to a neighbour.
    Link(OsString),
    /// The root of a snapshot.
    Snapshot(Root),
    /// An entry of a listing, without its chunks and attributes: those are looked up in the listing when they are
    /// needed.
    Node(Id, Arc<Node>),
}

/// What makes an entry itself. Equal keys mean equal content for ever, but for our own folders and links.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A name in a directory; of a snapshot's root also the snapshot, since times may name another one later.
    Named(u64, Vec<u8>, Option<Id>),
    /// One of several names of a file in a snapshot: its device, inode, and what its content is.
    Linked(u64, u64, u64, Id),
}

impl Key {
    /// The key of an entry of a snapshot in a directory.
    pub fn of_node(parent: u64, snapshot: u64, node: &Node) -> Self {
        if node.links > 1 && node.inode != 0 && node.kind != NodeKind::Dir {
            return Self::Linked(snapshot, node.device_id, node.inode, node.content_mark());
        }
        Self::Named(parent, node.name.clone(), None)
    }
}

struct Known {
    key: Key,
    entry: Entry,
    /// Where it was met first, and in which snapshot: the number of that.
    parent: u64,
    name: Vec<u8>,
    snapshot: u64,
    /// How often the kernel was told of it and has not forgotten it.
    told: u64,
}

/// A directory that something is in.
pub struct Directory {
    /// Its number.
    pub number: u64,
    /// What it is.
    pub entry: Entry,
    /// The number of the snapshot that it is in; 0 for a folder of ours.
    pub snapshot: u64,
}

/// All that the kernel knows of.
pub struct Numbers {
    known: Mutex<HashMap<u64, Known>>,
    hashing: RandomState,
}

impl Numbers {
    /// The mounted directory alone.
    pub fn new() -> Self {
        let top = Known {
            key: Key::Named(0, Vec::new(), None),
            entry: Entry::Folder(Arc::from("")),
            parent: TOP,
            name: Vec::new(),
            snapshot: 0,
            told: 1,
        };
        Self { known: Mutex::new(HashMap::from([(TOP, top)])), hashing: RandomState::new() }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<u64, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has this number.
    pub fn entry(&self, number: u64) -> Option<Entry> {
        self.known().get(&number).map(|known| known.entry.clone())
    }

    /// What has this number, with what its entries must know.
    pub fn directory(&self, number: u64) -> Option<Directory> {
        let known = self.known();
        let found = known.get(&number)?;
        let is_root = matches!(found.entry, Entry::Snapshot(_));
        let snapshot = if is_root { number } else { found.snapshot };
        Some(Directory { number, entry: found.entry.clone(), snapshot })
    }

    /// The number of the directory above.
    pub fn parent(&self, number: u64) -> u64 {
        self.known().get(&number).map_or(TOP, |known| known.parent)
    }

    /// The number that an entry with this key gets, unless another one has it.
    pub fn number(&self, key: &Key) -> u64 {
        // 0 is none.
        self.hashing.hash_one(key).max(TOP + 1)
    }

    /// The kernel is told of an entry of a directory.
    pub fn tell(&self, directory: &Directory, name: &[u8], key: Key, entry: Entry) -> u64 {
        self.tell_as(self.number(&key), directory, name, key, entry)
    }

    fn tell_as(&self, mut number: u64, directory: &Directory, name: &[u8], key: Key, entry: Entry) -> u64 {
        let mut known = self.known();
        while known.get(&number).is_some_and(|other| other.key != key) {
            number = number.wrapping_add(1).max(TOP + 1);
        }
        let (parent, snapshot, name) = (directory.number, directory.snapshot, name.to_vec());
        let new = || Known { key, entry: entry.clone(), parent, name, snapshot, told: 0 };
        let told = known.entry(number).or_insert_with(new);
        told.told += 1;
        // A link of ours may point elsewhere by now.
        told.entry = entry;
        number
    }

    /// The kernel forgets that it was told so often.
    pub fn forget(&self, number: u64, times: u64) {
        let mut known = self.known();
        if let Some(one) = known.get_mut(&number).filter(|_| number != TOP) {
            one.told = one.told.saturating_sub(times);
            if one.told == 0 {
                known.remove(&number);
            }
        }
    }

    /// Where an entry is, for people.
    pub fn path(&self, number: u64) -> String {
        let known = self.known();
        let mut names = Vec::new();
        let mut at = number;
        while let Some(one) = known.get(&at).filter(|_| at != TOP && names.len() < SHOWN_MAX) {
            names.push(String::from_utf8_lossy(&one.name).into_owned());
            at = one.parent;
        }
        names.reverse();
        names.join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top(numbers: &Numbers) -> Directory {
        numbers.directory(TOP).unwrap()
    }

    fn named(name: &str) -> Key {
        Key::Named(TOP, name.into(), None)
    }

    fn link(target: &str) -> Entry {
        Entry::Link(target.into())
    }

    #[test]
    fn what_the_kernel_forgot_is_no_longer_in_memory_and_gets_the_same_number_again() {
        let numbers = Numbers::new();
        let tell = || numbers.tell(&top(&numbers), b"name", named("name"), link("target"));
        let number = tell();
        assert_eq!(tell(), number);
        assert_eq!(numbers.path(number), "name");
        numbers.forget(number, 1);
        assert!(numbers.entry(number).is_some(), "told twice, forgotten once");
        numbers.forget(number, 1);
        assert!(numbers.entry(number).is_none());
        assert_eq!(numbers.known().len(), 1);
        assert_eq!(tell(), number);
        numbers.forget(number, u64::MAX);
        numbers.forget(number, 1);
        numbers.forget(TOP, 100);
        assert!(numbers.entry(TOP).is_some(), "the mounted directory stays");
    }

    #[test]
    fn two_entries_never_share_a_number() {
        let numbers = Numbers::new();
        let tell =
            |name: &str| numbers.tell_as(u64::MAX, &top(&numbers), name.as_bytes(), named(name), link(name));
        let (one, other) = (tell("one"), tell("other"));
        assert_eq!((one, other), (u64::MAX, TOP + 1));
        assert_eq!(tell("other"), other);
        for (number, name) in [(one, "one"), (other, "other")] {
            assert!(matches!(numbers.entry(number), Some(Entry::Link(target)) if target == name));
        }
    }

    #[test]
    fn a_link_that_points_elsewhere_keeps_its_number() {
        let numbers = Numbers::new();
        let tell = |target: &str| numbers.tell(&top(&numbers), b"latest", named("latest"), link(target));
        let number = tell("one");
        assert_eq!(tell("two"), number);
        assert!(matches!(numbers.entry(number), Some(Entry::Link(target)) if target == "two"));
    }
}
