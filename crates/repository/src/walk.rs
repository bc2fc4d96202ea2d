//! Walks through the trees of a snapshot.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

use crate::index::{Bits, PackMarks};
use crate::pack::BlobKind;
use crate::posix::show;
use crate::repository::Opener;
use crate::tree::{Node, NodeKind, visit_nodes, visit_references};
use crate::{Control, Error, ErrorKind, Id, Index, Repository, Result, fetchers, lock_mutex, parallel};

/// Sums over a snapshot or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TreeSize {
    /// Regular files, and links, devices and the like.
    pub files: u64,
    /// Directories.
    pub dirs: u64,
    /// Bytes of file content; a hard-linked file counts each time.
    pub bytes: u64,
}

/// Visits all entries of a snapshot, each directory before what is in it: path (`/srv/content/a`, raw bytes) and entry.
pub fn walk(
    repository: &Repository,
    index: &Index,
    snapshot: Id,
    visit: &mut dyn FnMut(&[u8], &Node) -> Result<()>,
) -> Result<()> {
    let tree = repository.snapshot(snapshot)?.tree;
    walk_tree(repository, index, tree, &mut Opener::new()?, visit)
}

/// Visits all entries below a tree. Only the listings on the way to the current entry are in memory.
pub(crate) fn walk_tree(
    repository: &Repository,
    index: &Index,
    tree: Id,
    opener: &mut Opener,
    visit: &mut dyn FnMut(&[u8], &Node) -> Result<()>,
) -> Result<()> {
    let mut path = Vec::new();
    let mut stack = vec![(0, repository.read_tree(index, tree, opener)?.into_iter())];
    while let Some((length, nodes)) = stack.last_mut() {
        path.truncate(*length);
        let Some(node) = nodes.next() else {
            stack.pop();
            continue;
        };
        path.push(b'/');
        path.extend_from_slice(&node.name);
        visit(&path, &node)?;
        if let Some(subtree) = directory_of(&node, &path)? {
            let nodes = repository.read_tree(index, subtree, opener).map_err(|e| in_directory(&path, e))?;
            stack.push((path.len(), nodes.into_iter()));
        }
    }
    Ok(())
}

/// The listing of a directory; `None` for other entries.
pub(crate) fn directory_of(node: &Node, path: &[u8]) -> Result<Option<Id>> {
    match (node.kind, node.subtree) {
        (NodeKind::Dir, Some(id)) => Ok(Some(id)),
        (NodeKind::Dir, None) => {
            Err(Error::damaged(format!("directory '{}'", show(path)), "it has no listing"))
        }
        _ => Ok(None),
    }
}

pub(crate) fn in_directory(path: &[u8], mut error: Error) -> Error {
    error.message = format!("directory '{}': {}", show(path), error.message);
    error
}

/// The entry at `path` (like `/srv/content`) below a tree; `None` for the root itself.
pub(crate) fn find(
    repository: &Repository,
    index: &Index,
    tree: Id,
    path: &[u8],
    opener: &mut Opener,
) -> Result<Option<Node>> {
    let none = || Error::new(ErrorKind::NotFound, format!("the snapshot has no '{}'", show(path)));
    find_if_any(repository, index, tree, path, opener)?.ok_or_else(none)
}

/// The same where it is no error that there is nothing: then `None`, and `Some(None)` for the root itself.
pub fn look_up(
    repository: &Repository,
    index: &Index,
    tree: Id,
    path: &[u8],
) -> Result<Option<Option<Node>>> {
    find_if_any(repository, index, tree, path, &mut Opener::new()?)
}

fn find_if_any(
    repository: &Repository,
    index: &Index,
    tree: Id,
    path: &[u8],
    opener: &mut Opener,
) -> Result<Option<Option<Node>>> {
    let mut found: Option<Node> = None;
    for part in path.split(|&b| b == b'/').filter(|part| !part.is_empty() && *part != b".") {
        let listing = match &found {
            None => Some(tree),
            Some(node) => node.subtree,
        };
        let Some(listing) = listing else { return Ok(None) };
        // One entry is in memory at a time, however many the directory has.
        let (mut next, text) = (None, repository.read_blob(index, BlobKind::Tree, listing, opener)?);
        visit_nodes(listing, &text, &mut |node| {
            if next.is_none() && node.name == part {
                next = Some(node);
            }
            Ok(())
        })?;
        if next.is_none() {
            return Ok(None);
        }
        found = next;
    }
    Ok(Some(found))
}

/// Visits the entries of one directory in their order; one of them is in memory at a time, however many there are.
pub fn visit_directory(
    repository: &Repository,
    index: &Index,
    tree: Id,
    visit: &mut dyn FnMut(Node) -> Result<()>,
) -> Result<()> {
    let text = repository.read_blob(index, BlobKind::Tree, tree, &mut Opener::new()?)?;
    visit_nodes(tree, &text, visit)
}

/// Sums of a snapshot, or of what lies at `subpath` in it; reads trees alone.
pub fn measure(
    repository: &Repository,
    index: &Index,
    snapshot: Id,
    subpath: Option<&[u8]>,
) -> Result<TreeSize> {
    let mut opener = Opener::new()?;
    let mut tree = repository.snapshot(snapshot)?.tree;
    let mut size = TreeSize::default();
    if let Some(node) = find(repository, index, tree, subpath.unwrap_or_default(), &mut opener)? {
        count(&mut size, &node);
        match node.subtree {
            Some(subtree) => tree = subtree,
            None => return Ok(size),
        }
    }
    walk_tree(repository, index, tree, &mut opener, &mut |_, node| {
        count(&mut size, node);
        Ok(())
    })?;
    Ok(size)
}

fn count(size: &mut TreeSize, node: &Node) {
    if node.kind == NodeKind::Dir {
        size.dirs += 1;
    } else {
        size.files += 1;
        size.bytes += node.size;
    }
}

/// Every pack that a snapshot needs. `Damaged` names the first blob that no index knows.
pub fn needed_packs(
    repository: &Repository,
    index: &Index,
    snapshot: Id,
    control: &Control,
) -> Result<HashSet<Id>> {
    let root = repository.snapshot(snapshot)?.tree;
    let packs = PackMarks::new(index);
    let need = |kind, id: &Id| match index.place(kind, id)? {
        Some(place) => {
            packs.mark(&place);
            Ok(())
        }
        None => Err(Error::damaged(format!("snapshot {snapshot}"), format!("blob {id} is in no index"))),
    };
    each_tree(repository, index, vec![root], control, &|tree, text, below| {
        need(BlobKind::Tree, &tree)?;
        visit_references(tree, &text?, &mut |entry| {
            below.extend(entry.subtree);
            entry.content.iter().flatten().try_for_each(|id| need(BlobKind::Data, id))
        })
    })?;
    Ok(packs.marked(index).collect())
}

/// Takes a tree's id and text, and adds the trees below it to the list.
pub(crate) type VisitTree<'a> = &'a (dyn Fn(Id, Result<Vec<u8>>, &mut Vec<Id>) -> Result<()> + Sync);

/// Visits every tree at and below `roots` once, on several threads. In memory are the trees at hand, one bit for each
/// blob of the index, and the ids of trees that are still to be visited: of each level those beside the current one.
pub(crate) fn each_tree(
    repository: &Repository,
    index: &Index,
    roots: Vec<Id>,
    control: &Control,
    visit: VisitTree<'_>,
) -> Result<()> {
    let seen = Seen { bits: Bits::new(index.blob_count()), unknown: Mutex::default() };
    let mut pending = Vec::new();
    for root in roots {
        if seen.add(index, &root)? {
            pending.push(root);
        }
    }
    let queue =
        Queue { state: Mutex::new(QueueState { pending, busy: 0, stopped: false }), changed: Condvar::new() };
    let threads = fetchers(repository.storage());
    parallel(threads, threads, || {
        let mut opener = Opener::new()?;
        let mut below = Vec::new();
        while let Some((tree, turn)) = queue.next() {
            let visited = control.check().and_then(|()| {
                let text = repository.read_blob(index, BlobKind::Tree, tree, &mut opener);
                visit(tree, text, &mut below)?;
                let mut new = Vec::with_capacity(below.len());
                for id in below.drain(..) {
                    if seen.add(index, &id)? {
                        new.push(id);
                    }
                }
                Ok(new)
            });
            match visited {
                Ok(new) => turn.done(new),
                Err(e) => {
                    queue.stop();
                    return Err(e);
                }
            }
        }
        Ok(())
    })
}

/// Which trees were met.
struct Seen {
    bits: Bits,
    /// Those that the index does not know.
    unknown: Mutex<HashSet<Id>>,
}

impl Seen {
    fn add(&self, index: &Index, tree: &Id) -> Result<bool> {
        match index.first(BlobKind::Tree, tree)? {
            Some((number, _)) => Ok(self.bits.set(number)),
            None => Ok(lock_mutex(&self.unknown).insert(*tree)),
        }
    }
}

/// Trees to visit, from which several threads take and to which they add.
struct Queue {
    state: Mutex<QueueState>,
    changed: Condvar,
}

struct QueueState {
    pending: Vec<Id>,
    /// Threads that may still add some.
    busy: usize,
    stopped: bool,
}

impl Queue {
    /// The next tree; waits while others may find more. `None`: all are done, or somebody failed.
    fn next(&self) -> Option<(Id, Turn<'_>)> {
        let mut state = lock_mutex(&self.state);
        loop {
            if state.stopped {
                return None;
            }
            if let Some(id) = state.pending.pop() {
                state.busy += 1;
                return Some((id, Turn(self)));
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more is to be done.
    fn stop(&self) {
        lock_mutex(&self.state).stopped = true;
        self.changed.notify_all();
    }
}

/// The work on one tree; however it ends, the others do not wait for it in vain.
struct Turn<'q>(&'q Queue);

impl Turn<'_> {
    fn done(self, mut new: Vec<Id>) {
        lock_mutex(&self.0.state).pending.append(&mut new);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock_mutex(&self.0.state).busy -= 1;
        self.0.changed.notify_all();
    }
}
