//! What differs between two snapshots.
//!
//! Both trees are walked side by side; directories with the same id are the same and are not entered. The figures of
//! blobs need a second look into these, as a blob that went here may still stand there.

use std::collections::HashSet;

use crate::pack::BlobKind;
use crate::repository::Opener;
use crate::tree::{Node, NodeKind};
use crate::walk::in_directory;
use crate::{Control, Id, Index, Repository, Result};

/// What became of one entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// In the second alone.
    pub added: bool,
    /// In the first alone.
    pub removed: bool,
    /// Of another kind.
    pub kind: bool,
    /// A file of other content.
    pub content: bool,
    /// Other metadata; looked for only if that was asked for.
    pub metadata: bool,
    /// It is a directory (in the second, if it is in both).
    pub directory: bool,
}

/// Sums over what is in one of two snapshots alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[allow(missing_docs)]
pub struct DiffSums {
    pub files: u64,
    pub dirs: u64,
    pub others: u64,
    pub data_blobs: u64,
    pub tree_blobs: u64,
    /// Bytes of these blobs before compression.
    pub bytes: u64,
}

/// The figures of a comparison, under restic's names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct DiffReport {
    pub changed_files: u64,
    pub added: DiffSums,
    pub removed: DiffSums,
}

/// Compares two trees; `told` hears of each entry that differs, by its path.
pub fn diff(
    repository: &Repository,
    index: &Index,
    (first, second): (Id, Id),
    metadata: bool,
    control: &Control,
    told: &mut dyn FnMut(&[u8], Change) -> Result<()>,
) -> Result<DiffReport> {
    let mut diff = Diff {
        repository,
        index,
        control,
        metadata,
        told,
        opener: Opener::new()?,
        report: DiffReport::default(),
        before: HashSet::new(),
        after: HashSet::new(),
        common: HashSet::new(),
    };
    diff.before.insert((BlobKind::Tree, first));
    diff.after.insert((BlobKind::Tree, second));
    if first == second {
        return Ok(diff.report);
    }
    diff.trees(Some(first), Some(second))?;
    diff.sum_up()
}

type Blobs = HashSet<(BlobKind, Id)>;

struct Diff<'a> {
    repository: &'a Repository,
    index: &'a Index,
    control: &'a Control,
    metadata: bool,
    told: &'a mut dyn FnMut(&[u8], Change) -> Result<()>,
    opener: Opener,
    report: DiffReport,
    before: Blobs,
    after: Blobs,
    /// Directories that both have.
    common: HashSet<Id>,
}

/// Two directories of the same path; one of them may be missing.
struct Level {
    path: usize,
    first: std::iter::Peekable<std::vec::IntoIter<Node>>,
    second: std::iter::Peekable<std::vec::IntoIter<Node>>,
}

impl Diff<'_> {
    fn trees(&mut self, first: Option<Id>, second: Option<Id>) -> Result<()> {
        let mut path = Vec::new();
        let mut levels = vec![self.enter(first, second, &path)?];
        while let Some(level) = levels.last_mut() {
            self.control.check()?;
            path.truncate(level.path);
            let Some((before, after)) = level.next() else {
                levels.pop();
                continue;
            };
            let Some(name) = before.as_ref().or(after.as_ref()).map(|node| &node.name) else { continue };
            path.push(b'/');
            path.extend_from_slice(name);
            self.entry(&path, before.as_ref(), after.as_ref())?;
            let subtree = |node: &Option<Node>| node.as_ref().and_then(|node| node.subtree);
            match (subtree(&before), subtree(&after)) {
                (None, None) => {}
                (Some(a), Some(b)) if a == b => drop(self.common.insert(a)),
                (a, b) => levels.push(self.enter(a, b, &path)?),
            }
        }
        Ok(())
    }

    fn enter(&mut self, first: Option<Id>, second: Option<Id>, path: &[u8]) -> Result<Level> {
        let mut read = |tree: Option<Id>| -> Result<_> {
            let nodes = match tree {
                Some(id) => self.repository.read_tree(self.index, id, &mut self.opener),
                None => Ok(Vec::new()),
            };
            let mut nodes = nodes.map_err(|e| in_directory(path, e))?;
            // They are sorted, unless another program wrote them otherwise.
            nodes.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(nodes.into_iter().peekable())
        };
        Ok(Level { path: path.len(), first: read(first)?, second: read(second)? })
    }

    fn entry(&mut self, path: &[u8], before: Option<&Node>, after: Option<&Node>) -> Result<()> {
        note(&mut self.before, before);
        note(&mut self.after, after);
        let mut change = Change::default();
        if let Some(node) = after.or(before) {
            change.directory = node.kind == NodeKind::Dir;
        }
        match (before, after) {
            (Some(a), Some(b)) => {
                change.kind = a.kind != b.kind;
                change.content =
                    (a.kind, b.kind) == (NodeKind::File, NodeKind::File) && a.content != b.content;
                change.metadata = self.metadata && !change.content && a != b;
                self.report.changed_files += u64::from(change.content);
            }
            (Some(node), None) => {
                change.removed = true;
                self.report.removed.count(node);
            }
            (None, Some(node)) => {
                change.added = true;
                self.report.added.count(node);
            }
            (None, None) => {}
        }
        let plain = Change { directory: change.directory, ..Change::default() };
        if change == plain { Ok(()) } else { (self.told)(path, change) }
    }

    /// Counts the blobs of one snapshot that the other has not.
    fn sum_up(mut self) -> Result<DiffReport> {
        let both: Blobs = self.before.intersection(&self.after).copied().collect();
        self.before.retain(|blob| !both.contains(blob));
        self.after.retain(|blob| !both.contains(blob));
        let mut pending: Vec<Id> = self.common.iter().copied().collect();
        while let Some(id) = pending.pop() {
            self.control.check()?;
            for set in [&mut self.before, &mut self.after] {
                set.remove(&(BlobKind::Tree, id));
            }
            for node in self.repository.read_tree(self.index, id, &mut self.opener)? {
                for chunk in node.content {
                    self.before.remove(&(BlobKind::Data, chunk));
                    self.after.remove(&(BlobKind::Data, chunk));
                }
                pending.extend(node.subtree.filter(|id| self.common.insert(*id)));
            }
        }
        self.report.removed.add_blobs(self.index, &self.before)?;
        self.report.added.add_blobs(self.index, &self.after)?;
        Ok(self.report)
    }
}

fn note(blobs: &mut Blobs, node: Option<&Node>) {
    if let Some(node) = node {
        blobs.extend(node.content.iter().map(|id| (BlobKind::Data, *id)));
        blobs.extend(node.subtree.map(|id| (BlobKind::Tree, id)));
    }
}

impl Level {
    /// The next name, with its entry in each.
    fn next(&mut self) -> Option<(Option<Node>, Option<Node>)> {
        let order = match (self.first.peek(), self.second.peek()) {
            (None, None) => return None,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.name.cmp(&b.name),
        };
        Some((
            if order.is_le() { self.first.next() } else { None },
            if order.is_ge() { self.second.next() } else { None },
        ))
    }
}

impl DiffSums {
    fn count(&mut self, node: &Node) {
        *(match node.kind {
            NodeKind::File => &mut self.files,
            NodeKind::Dir => &mut self.dirs,
            _ => &mut self.others,
        }) += 1;
    }

    fn add_blobs(&mut self, index: &Index, blobs: &Blobs) -> Result<()> {
        for (kind, id) in blobs {
            match kind {
                BlobKind::Data => self.data_blobs += 1,
                BlobKind::Tree => self.tree_blobs += 1,
            }
            self.bytes += index.place(*kind, id)?.map_or(0, |place| u64::from(place.plain_length()));
        }
        Ok(())
    }
}
