//! A directory whose entries are being worked on: it becomes a tree blob when the last of them is done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::blobs::{BlobStore, count};
use crate::pack::BlobKind;
use crate::pack_writer::Sealer;
use crate::tree::{Node, tree_text};
use crate::{Id, Result, lock_mutex};

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
        before: Option<Id>,
    },
}

/// A listing in the making.
pub(super) struct Directory {
    above: Above,
    /// JSON of each entry, in order of names; `None` for those that vanished or cannot be read.
    entries: Mutex<Vec<Option<Box<str>>>>,
    /// Entries that are not done yet, and one for the scan itself while it adds more.
    pending: AtomicUsize,
}

impl Directory {
    /// The listing of the snapshot's root.
    pub(super) fn root(root: &Root) -> Arc<Self> {
        Arc::new(Self {
            above: Above::Root(root.0.clone()),
            entries: Mutex::default(),
            pending: AtomicUsize::new(1),
        })
    }

    /// The listing of a directory at `slot` of `parent`. `before` is its listing in the parent snapshot.
    pub(super) fn child(parent: &Arc<Self>, slot: usize, node: Node, before: Option<Id>) -> Arc<Self> {
        let above = Above::Parent { parent: parent.clone(), slot, node: Box::new(Mutex::new(node)), before };
        Arc::new(Self { above, entries: Mutex::default(), pending: AtomicUsize::new(1) })
    }

    /// Makes room for `count` entries; each must be ended by [`Directory::done`].
    pub(super) fn expect(&self, count: usize) {
        lock_mutex(&self.entries).resize(count, None);
        self.pending.fetch_add(count, Ordering::AcqRel);
    }

    /// Ends the entry at `slot`: with its text, or without it if it is not in the backup.
    pub(super) fn done(
        self: &Arc<Self>,
        slot: usize,
        node: Option<&Node>,
        end: &mut End<'_, '_>,
    ) -> Result<()> {
        if let Some(node) = node {
            let mut text = String::with_capacity(512);
            node.write(&mut text);
            lock_mutex(&self.entries)[slot] = Some(text.into_boxed_str());
        }
        self.release(end)
    }

    /// Ends the scan's own hold, or one entry's. The last one out finishes the listing, and so on upwards.
    pub(super) fn release(self: &Arc<Self>, end: &mut End<'_, '_>) -> Result<()> {
        let mut directory = self.clone();
        while directory.pending.fetch_sub(1, Ordering::AcqRel) == 1 {
            let text = {
                let entries = std::mem::take(&mut *lock_mutex(&directory.entries));
                tree_text(entries.iter().flatten().map(|text| &**text))
            };
            let id = Id::of(&text);
            end.blobs.store(end.sealer, BlobKind::Tree, id, &text)?;
            let next = match &directory.above {
                Above::Root(root) => {
                    let _ = root.set(id);
                    return Ok(());
                }
                Above::Parent { parent, slot, node, before } => {
                    let figures = &end.blobs.figures;
                    count(match before {
                        None => &figures.dirs_new,
                        Some(before) if *before == id => &figures.dirs_unmodified,
                        Some(_) => &figures.dirs_changed,
                    });
                    let mut node = lock_mutex(node);
                    node.subtree = Some(id);
                    let mut text = String::with_capacity(512);
                    node.write(&mut text);
                    lock_mutex(&parent.entries)[*slot] = Some(text.into_boxed_str());
                    parent.clone()
                }
            };
            directory = next;
        }
        Ok(())
    }
}

/// What a thread needs to finish listings.
pub(super) struct End<'a, 'b> {
    pub(super) blobs: &'a BlobStore<'b>,
    pub(super) sealer: &'a mut Sealer,
}
