//! A directory whose entries are being worked on: it becomes a tree blob when the last of them is done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::blobs::{BlobStore, count};
use crate::pack::BlobKind;
use crate::pack_writer::Sealer;
use crate::posix::show;
use crate::repository::{BLOB_BYTES_MAX, Opener};
use crate::tree::{self, Node, tree_text};
use crate::{ErrorKind, Id, Result, lock_mutex};

/// A longer listing could not be read back.
const LISTING_BYTES_MAX: usize = BLOB_BYTES_MAX as usize;

/// Where the id of the whole tree appears in the end.
#[derive(Default)]
pub(super) struct Root(Arc<OnceLock<Id>>);

impl Root {
    pub(super) fn tree(&self) -> Option<Id> {
        self.0.get().copied()
    }
}

enum Above {
    Root(Arc<OnceLock<Id>>),
    /// The directory's own entry, and where it goes in the listing above.
    Parent {
        parent: Arc<Directory>,
        slot: usize,
        node: Box<Mutex<Node>>,
        before: Option<usize>,
    },
}

/// The listing of the same directory in the parent snapshot; nothing if there is none, or it cannot be read.
#[derive(Default)]
pub(super) struct Before {
    pub(super) tree: Option<Id>,
    pub(super) nodes: Vec<Node>,
}

impl Before {
    /// One that cannot be read costs time, as all below it is read anew; and nothing may refer to it. `path` is for people.
    pub(super) fn read(
        blobs: &BlobStore<'_>,
        tree: Option<Id>,
        path: &[u8],
        opener: &mut Opener,
    ) -> Result<Self> {
        let Some(id) = tree else { return Ok(Self::default()) };
        match blobs.repository.read_tree(blobs.index, id, opener) {
            Ok(nodes) => Ok(Self { tree, nodes }),
            Err(e) if e.kind == ErrorKind::Damaged => {
                blobs.doubt(&id)?;
                let path = if path.is_empty() { b"/" } else { path };
                let problem =
                    format!("its listing in the parent snapshot is damaged, all of it is read anew: {e}");
                blobs.control.warn(show(path), problem);
                Ok(Self::default())
            }
            // It may be whole; that it could not be asked for costs only time.
            Err(_) => Ok(Self::default()),
        }
    }
}

/// An entry of a listing.
#[derive(Clone)]
enum Slot {
    /// Not done, or not in the backup: vanished, or cannot be read.
    Empty,
    /// Its JSON.
    Text(Box<str>),
    /// The same as this one of the parent snapshot.
    Same(usize),
}

/// A listing in the making.
pub(super) struct Directory {
    above: Above,
    pub(super) before: Before,
    /// In order of names.
    entries: Mutex<Vec<Slot>>,
    /// Entries that are not done yet, and one for the scan itself while it adds more.
    pending: AtomicUsize,
}

impl Directory {
    /// The listing of the snapshot's root.
    pub(super) fn root(root: &Root, before: Before) -> Arc<Self> {
        Self::new(Above::Root(root.0.clone()), before)
    }

    /// The listing of a directory, which is itself at `slot` of `parent`, and was number `own_before` there.
    pub(super) fn child(
        parent: &Arc<Self>,
        slot: usize,
        node: Node,
        own_before: Option<usize>,
        before: Before,
    ) -> Arc<Self> {
        let node = Box::new(Mutex::new(node));
        Self::new(Above::Parent { parent: parent.clone(), slot, node, before: own_before }, before)
    }

    fn new(above: Above, before: Before) -> Arc<Self> {
        Arc::new(Self { above, before, entries: Mutex::default(), pending: AtomicUsize::new(1) })
    }

    /// Makes room for `count` entries; each must be ended by [`Directory::done`] or [`Directory::same`].
    pub(super) fn expect(&self, count: usize) {
        lock_mutex(&self.entries).resize(count, Slot::Empty);
        self.pending.fetch_add(count, Ordering::AcqRel);
    }

    /// Makes room for one entry more, behind the others; it must be ended likewise.
    pub(super) fn expect_one(&self) -> usize {
        self.pending.fetch_add(1, Ordering::AcqRel);
        let mut entries = lock_mutex(&self.entries);
        entries.push(Slot::Empty);
        entries.len() - 1
    }

    /// Ends the entry at `slot`: with its text, or without it if it is not in the backup.
    pub(super) fn done(
        self: &Arc<Self>,
        slot: usize,
        node: Option<&Node>,
        end: &mut End<'_, '_>,
    ) -> Result<()> {
        if let Some(node) = node {
            self.set(slot, Slot::Text(node.text()));
        }
        self.release(end)
    }

    /// Ends the entry at `slot`: it is the same as number `before` of the parent snapshot's listing.
    pub(super) fn same(self: &Arc<Self>, slot: usize, before: usize, end: &mut End<'_, '_>) -> Result<()> {
        self.set(slot, Slot::Same(before));
        self.release(end)
    }

    fn set(&self, slot: usize, entry: Slot) {
        lock_mutex(&self.entries)[slot] = entry;
    }

    /// Ends the scan's own hold, or one entry's. The last one out finishes the listing, and so on upwards.
    pub(super) fn release(self: &Arc<Self>, end: &mut End<'_, '_>) -> Result<()> {
        let mut directory = self.clone();
        while directory.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let id = directory.finish(end)?;
            let next = match &directory.above {
                Above::Root(root) => {
                    let _ = root.set(id);
                    return Ok(());
                }
                Above::Parent { parent, slot, node, before } => {
                    let figures = &end.blobs.figures;
                    let before = before.map(|number| (number, &parent.before.nodes[number]));
                    count(match before.and_then(|(_, before)| before.subtree) {
                        None => &figures.dirs_new,
                        Some(before) if before == id => &figures.dirs_unmodified,
                        Some(_) => &figures.dirs_changed,
                    });
                    let mut node = lock_mutex(node);
                    node.subtree = Some(id);
                    let entry = match before {
                        Some((number, before)) if *before == *node => Slot::Same(number),
                        _ => Slot::Text(node.text()),
                    };
                    parent.set(*slot, entry);
                    parent.clone()
                }
            };
            directory = next;
        }
        Ok(())
    }

    /// Stores the listing. One that did not change is known by its id: its text is not even made.
    fn finish(&self, end: &mut End<'_, '_>) -> Result<Id> {
        let entries = std::mem::take(&mut *lock_mutex(&self.entries));
        let nodes = &self.before.nodes;
        let all_same = entries.len() == nodes.len() && entries.iter().all(|e| matches!(e, Slot::Same(_)));
        if let Some(tree) = self.before.tree
            && all_same
            && end.blobs.is_known(BlobKind::Tree, &tree)?
        {
            return Ok(tree);
        }
        let texts = entries.into_iter().filter_map(|entry| match entry {
            Slot::Empty => None,
            Slot::Text(text) => Some(text),
            Slot::Same(before) => Some(nodes[before].text()),
        });
        let mut left_out = Vec::new();
        let text = tree_text(fitting(texts, LISTING_BYTES_MAX, &mut left_out));
        for entry in left_out {
            let path = [&self.path()[..], b"/", &name_in(&entry)?].concat();
            let reason = "its directory's listing would become too long to be read back, as there is too much content in one directory; split that directory";
            end.blobs.control.warn(show(&path), reason);
        }
        end.blobs.store(end.sealer, BlobKind::Tree, &text)
    }

    /// As the snapshot has it.
    fn path(&self) -> Vec<u8> {
        let (mut names, mut directory) = (Vec::new(), self);
        while let Above::Parent { parent, node, .. } = &directory.above {
            names.push(lock_mutex(node).name.clone());
            directory = parent;
        }
        names.iter().rev().flat_map(|name| [b"/", &name[..]]).flatten().copied().collect()
    }
}

/// The entries that a listing of so many bytes has room for; the others are put aside.
fn fitting(
    texts: impl Iterator<Item = Box<str>>,
    bytes_max: usize,
    left_out: &mut Vec<Box<str>>,
) -> impl Iterator<Item = Box<str>> {
    let mut bytes = tree_text(std::iter::empty::<&str>()).len();
    texts.filter_map(move |text| {
        if bytes + text.len() > bytes_max {
            left_out.push(text);
            return None;
        }
        bytes += text.len() + 1; // and a comma
        Some(text)
    })
}

fn name_in(entry: &str) -> Result<Vec<u8>> {
    let listing = tree_text(std::iter::once(entry));
    let nodes = tree::parse(Id::of(&listing), &listing)?;
    Ok(nodes.into_iter().next().map(|node| node.name).unwrap_or_default())
}

/// What a thread needs to finish listings.
pub(super) struct End<'a, 'b> {
    pub(super) blobs: &'a BlobStore<'b>,
    pub(super) sealer: &'a mut Sealer,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::NodeKind;

    #[test]
    fn an_entry_for_which_a_listing_has_no_room_is_left_out_and_named() {
        let entry = |name: &str, chunks: usize| {
            let mut node = Node::new(name.as_bytes().to_vec(), NodeKind::File);
            node.content = vec![Id([7; 32]); chunks];
            node.text()
        };
        let entries = [entry("a", 10), entry("b\n", 1000), entry("c", 10), entry("d", 10)];
        let split = |bytes_max| {
            let mut left_out = Vec::new();
            let fitting: Vec<_> = fitting(entries.iter().cloned(), bytes_max, &mut left_out).collect();
            (fitting, left_out)
        };
        let whole = tree_text(entries.iter()).len();
        assert_eq!(split(whole), (entries.to_vec(), vec![]));
        assert_eq!(split(whole - 1), (entries[..3].to_vec(), vec![entries[3].clone()]));
        let (texts, left_out) = split(10_000);
        assert!(tree_text(texts.iter()).len() <= 10_000);
        let names: Vec<_> = texts.iter().chain(&left_out).map(|text| name_in(text).unwrap()).collect();
        assert_eq!(names, [&b"a"[..], b"c", b"d", b"b\n"]);
    }
}
