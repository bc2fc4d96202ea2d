//! Looking around in snapshots, a little here and a little there, as a mounted file system does.
//!
//! [`Browser`] knows the snapshots of the moment and the index. Listings and chunks that were read last are kept within
//! fixed bounds, so that reading on in a directory or a file fetches nothing twice; each was hashed when it was read. A
//! file that was opened knows where each of its chunks begins, so that it can be read at any offset.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::file::{self, Folder};
use crate::pack::BlobKind;
use crate::repository::{Opener, Snapshots};
use crate::select::SnapshotFilter;
use crate::time::Time;
use crate::tree::{Node, NodeKind};
use crate::{Error, ErrorKind, Id, Index, Repository, Result, Snapshot, Warning, lock_mutex};

/// So many bytes of chunks are kept, and so many of listings; of each the newest, however large it is.
const CHUNK_BYTES_MAX: usize = 64 << 20;
const LISTING_BYTES_MAX: usize = 32 << 20;
/// So many of each are kept.
const KEPT_MAX: usize = 512;

/// An open repository to look around in, from several threads.
pub struct Browser {
    repository: Repository,
    filter: SnapshotFilter,
    seen: RwLock<Seen>,
    listings: Recent<Listing>,
    chunks: Recent<Vec<u8>>,
}

/// What there was at the last look.
#[derive(Clone)]
struct Seen {
    /// Oldest first.
    snapshots: Arc<Snapshots>,
    index: Arc<Index>,
    /// All ids that were listed, also of those that the filter leaves out or that cannot be read.
    ids: Arc<HashMap<Id, Option<Snapshot>>>,
}

impl Browser {
    /// Looks around in the snapshots that the filter lets pass. What could not be read is named.
    pub fn new(repository: Repository, filter: SnapshotFilter) -> Result<(Self, Vec<Warning>)> {
        let nothing =
            Seen { snapshots: Arc::default(), index: Arc::new(Index::empty()), ids: Arc::default() };
        let (seen, warnings) = look(&repository, &filter, &nothing)?;
        let seen = RwLock::new(seen.unwrap_or(nothing));
        let (listings, chunks) = (Recent::new(LISTING_BYTES_MAX), Recent::new(CHUNK_BYTES_MAX));
        Ok((Self { repository, filter, seen, listings, chunks }, warnings))
    }

    /// Looks whether snapshots came or went; names what of the new could not be read. After an error everything is as
    /// it was before.
    pub fn look_again(&self) -> Result<Vec<Warning>> {
        let before = self.seen();
        let (seen, warnings) = look(&self.repository, &self.filter, &before)?;
        if let Some(seen) = seen {
            *self.seen.write().unwrap_or_else(PoisonError::into_inner) = seen;
        }
        Ok(warnings)
    }

    /// The snapshots of the last look, oldest first.
    pub fn snapshots(&self) -> Arc<Snapshots> {
        self.seen().snapshots
    }

    fn seen(&self) -> Seen {
        self.seen.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The entries of a directory.
    pub fn list(&self, tree: Id) -> Result<Arc<Listing>> {
        self.listings.get(tree, || {
            let nodes = self.repository.read_tree(&self.seen().index, tree, &mut Opener::new()?)?;
            let listing = Listing::new(nodes);
            let cost = listing.bytes();
            Ok((listing, cost))
        })
    }

    /// Prepares to read a file. `Damaged` if the index does not know one of its chunks, or if they do not add up to the
    /// file's size.
    pub fn open(&self, node: &Node) -> Result<OpenFile> {
        OpenFile::new(&self.seen().index, node)
    }

    /// Reads `length` bytes at `offset`; fewer only at the end of the file.
    pub fn read(&self, file: &OpenFile, offset: u64, length: usize) -> Result<Vec<u8>> {
        let end = file.size.min(offset.saturating_add(length as u64));
        let mut out = Vec::with_capacity(end.saturating_sub(offset).min(1 << 20) as usize);
        let mut at = file.chunks.partition_point(|(start, _)| *start <= offset).saturating_sub(1);
        while let Some((start, id)) = file.chunks.get(at).filter(|(start, _)| *start < end) {
            at += 1;
            let behind = file.chunks.get(at).map_or(file.size, |(next, _)| *next);
            let chunk = self.chunk(*id)?;
            if chunk.len() as u64 != behind - start {
                let problem = format!("it has {} bytes, and the index says {}", chunk.len(), behind - start);
                return Err(Error::damaged(format!("data blob {id}"), problem));
            }
            let within = |at: u64| at.clamp(*start, behind).saturating_sub(*start) as usize;
            out.extend_from_slice(chunk.get(within(offset)..within(end)).unwrap_or_default());
        }
        Ok(out)
    }

    fn chunk(&self, id: Id) -> Result<Arc<Vec<u8>>> {
        self.chunks.get(id, || {
            let index = self.seen().index;
            let chunk = self.repository.read_blob(&index, BlobKind::Data, id, &mut Opener::new()?)?;
            let cost = chunk.len();
            Ok((chunk, cost))
        })
    }
}

/// What there is now; `None` if there is what there was. Only snapshots that are new are read.
fn look(
    repository: &Repository,
    filter: &SnapshotFilter,
    before: &Seen,
) -> Result<(Option<Seen>, Vec<Warning>)> {
    let listed = file::list(repository.storage(), Folder::Snapshots)?;
    if listed.len() == before.ids.len() && listed.iter().all(|(id, _)| before.ids.contains_key(id)) {
        return Ok((None, Vec::new()));
    }
    let (mut ids, mut warnings) = (HashMap::with_capacity(listed.len()), Vec::new());
    for (id, _) in listed {
        let snapshot = match before.ids.get(&id) {
            Some(known) => known.clone(),
            None => match repository.snapshot(id) {
                Ok(snapshot) => Some(snapshot),
                Err(e) if e.kind == ErrorKind::Damaged => {
                    warnings.push(Warning { item: Folder::Snapshots.key(id), reason: e.message });
                    None
                }
                Err(e) => return Err(e),
            },
        };
        ids.insert(id, snapshot);
    }
    let fitting = ids.iter().filter_map(|(id, snapshot)| Some((*id, snapshot.clone()?)));
    let mut snapshots: Snapshots = fitting.filter(|(_, snapshot)| filter.fits(snapshot)).collect();
    snapshots.sort_by_key(|(id, snapshot)| (Time::parse(&snapshot.time), *id));
    // After the snapshots: what a snapshot needs was listed before it came.
    let (index, damaged) = repository.load_readable_index()?;
    warnings.extend(damaged);
    let seen = Seen { snapshots: Arc::new(snapshots), index: Arc::new(index), ids: Arc::new(ids) };
    Ok((Some(seen), warnings))
}

/// A file that was opened: its chunks, and where each begins.
#[derive(Debug)]
pub struct OpenFile {
    chunks: Vec<(u64, Id)>,
    size: u64,
}

impl OpenFile {
    /// As [`Browser::open`] does it, by an index at hand.
    pub fn new(index: &Index, node: &Node) -> Result<Self> {
        if node.kind != NodeKind::File {
            return Err(Error::new(ErrorKind::Invalid, format!("a {} has no content", node.kind)));
        }
        let (mut chunks, mut size) = (Vec::with_capacity(node.content.len()), 0);
        for id in &node.content {
            let place = index.place(BlobKind::Data, id)?.ok_or_else(|| {
                Error::damaged(format!("data blob {id}"), "no index knows it; it is missing")
            })?;
            chunks.push((size, *id));
            size += u64::from(place.plain_length());
        }
        if size != node.size {
            let problem = format!("it should have {} bytes, and its chunks have {size}", node.size);
            return Err(Error::damaged("the file's entry", problem));
        }
        Ok(Self { chunks, size })
    }

    /// Bytes in it.
    pub fn size(&self) -> u64 {
        self.size
    }
}

/// The entries of a directory, in order of their names, each name once.
#[derive(Debug)]
pub struct Listing {
    nodes: Vec<Node>,
}

impl Listing {
    fn new(mut nodes: Vec<Node>) -> Self {
        // As every program writes them. By one that does not, the first of a name counts.
        if !nodes.is_sorted_by(|one, next| one.name < next.name) {
            nodes.sort_by(|one, other| one.name.cmp(&other.name));
            nodes.dedup_by(|one, kept| one.name == kept.name);
        }
        Self { nodes }
    }

    /// All of them.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The one of this name.
    pub fn find(&self, name: &[u8]) -> Option<&Node> {
        let at = self.nodes.binary_search_by(|node| node.name.as_slice().cmp(name)).ok()?;
        self.nodes.get(at)
    }

    /// About so much memory.
    fn bytes(&self) -> usize {
        let more = |node: &Node| {
            let xattrs: usize = node.xattrs.iter().map(|(name, value)| name.len() + value.len() + 48).sum();
            let target = node.link_target.as_ref().map_or(0, Vec::len);
            node.name.len() + target + xattrs + node.content.len() * size_of::<Id>()
        };
        self.nodes.iter().map(|node| size_of::<Node>() + more(node)).sum()
    }
}

/// Where something will be once one of those who want it has made it.
type Slot<T> = Arc<Mutex<Option<Arc<T>>>>;

/// What was asked for last. What several ask for at the same time is made once.
struct Recent<T> {
    /// Longest not asked for first, each with what it costs.
    kept: Mutex<VecDeque<(Id, usize, Slot<T>)>>,
    cost_max: usize,
}

impl<T> Recent<T> {
    fn new(cost_max: usize) -> Self {
        Self { kept: Mutex::default(), cost_max }
    }

    /// What is kept, or what is made now, with what that costs. What cannot be made is tried again the next time.
    fn get(&self, id: Id, make: impl FnOnce() -> Result<(T, usize)>) -> Result<Arc<T>> {
        let slot = self.slot(id);
        let mut value = lock_mutex(&slot);
        if let Some(known) = &*value {
            return Ok(known.clone());
        }
        let (made, cost) = make()?;
        let made = Arc::new(made);
        *value = Some(made.clone());
        drop(value);
        self.charge(&slot, cost);
        Ok(made)
    }

    /// The place of this, behind all others.
    fn slot(&self, id: Id) -> Slot<T> {
        let mut kept = lock_mutex(&self.kept);
        let known = kept.iter().rposition(|(known, ..)| *known == id);
        let entry = known.and_then(|at| kept.remove(at)).unwrap_or_else(|| (id, 0, Slot::default()));
        let slot = entry.2.clone();
        kept.push_back(entry);
        slot
    }

    fn charge(&self, made: &Slot<T>, cost: usize) {
        let mut kept = lock_mutex(&self.kept);
        if let Some(entry) = kept.iter_mut().find(|(.., slot)| Arc::ptr_eq(slot, made)) {
            entry.1 = cost;
        }
        let mut sum: usize = kept.iter().map(|(_, cost, _)| cost).sum();
        while kept.len() > 1 && (kept.len() > KEPT_MAX || sum > self.cost_max) {
            sum -= kept.pop_front().map_or(0, |(_, cost, _)| cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_was_asked_for_last_is_kept_within_the_bound() {
        let recent: Recent<usize> = Recent::new(10);
        let made = Mutex::new(Vec::new());
        let get = |id: u16, cost: usize| {
            let make = || {
                made.lock().unwrap().push(id);
                Ok((cost, cost))
            };
            let mut key = [0; 32];
            key[..2].copy_from_slice(&id.to_be_bytes());
            assert_eq!(*recent.get(Id(key), make).unwrap(), cost);
        };
        [1, 2, 3, 1, 4, 1, 2].into_iter().for_each(|id| get(id, 3));
        assert_eq!(*made.lock().unwrap(), [1, 2, 3, 4, 2], "2 was the oldest when 4 came");
        get(6, 11);
        get(6, 11);
        assert_eq!(made.lock().unwrap()[5..], [6], "the newest is kept, however large");
        get(1, 3);
        get(6, 11);
        assert_eq!(made.lock().unwrap()[6..], [1, 6]);
        (0..=KEPT_MAX as u16).for_each(|id| get(id, 0));
        assert_eq!(lock_mutex(&recent.kept).len(), KEPT_MAX);
    }

    #[test]
    fn what_several_want_is_made_once_and_what_failed_is_tried_again() {
        let recent: Recent<u8> = Recent::new(10);
        let made = AtomicUsize::new(0);
        let failed = recent.get(Id([1; 32]), || Err(Error::new(ErrorKind::Io, "not now")));
        assert!(failed.is_err());
        let barrier = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    let make = || {
                        made.fetch_add(1, Ordering::SeqCst);
                        Ok((7, 1))
                    };
                    assert_eq!(*recent.get(Id([1; 32]), make).unwrap(), 7);
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
    }

    #[test]
    fn a_listing_out_of_order_or_with_a_name_twice_is_searched_all_the_same() {
        let node = |name: &str, size| {
            let mut node = Node::new(name.into(), NodeKind::File);
            node.size = size;
            node
        };
        let listing = Listing::new(vec![node("c", 1), node("a", 2), node("b", 3), node("a", 4)]);
        let names: Vec<_> = listing.nodes().iter().map(|node| node.name.as_slice()).collect();
        assert_eq!(names, [b"a", b"b", b"c"]);
        assert_eq!(listing.find(b"a").unwrap().size, 2);
        assert!(listing.find(b"d").is_none());
    }
}
