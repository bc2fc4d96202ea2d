//! Takes out of snapshots what is lost for good.
//!
//! A directory whose listing cannot be read becomes an empty one. A file keeps the chunks that the index knows, and
//! its size is what is left. Everything else keeps its exact text, also fields that this program does not know. A
//! snapshot that changed is written anew with the tag `repaired`; the original stays unless it is to be forgotten.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::edit::SnapshotText;
use crate::pack::BlobKind;
use crate::pack_writer::{PackWriter, Plain, Sealer};
use crate::repository::Opener;
use crate::tree::{self, Node, NodeKind, tree_text};
use crate::uploaders::with_uploaders;
use crate::{Compression, Control, Error, ErrorKind, Id, Index, LockKind, LockOwner, Repository, Result};

/// Directories nested deeper than this are given up as if they could not be read: no file system holds them.
const DEPTH_MAX: usize = 10_000;
/// What restic calls it, too.
const TAG: &str = "repaired";

/// How to repair snapshots.
#[derive(Clone, Debug, Default)]
pub struct RepairSnapshotsRequest {
    /// Which; in this order.
    pub snapshots: Vec<Id>,
    /// Remove the originals.
    pub forget: bool,
    /// Say what would be done, do nothing.
    pub dry_run: bool,
}

/// What became of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RepairedSnapshot {
    /// Nothing of it is lost.
    Whole(Id),
    /// It was written anew; the new id is missing in a dry run.
    Rewritten(Id, Option<Id>),
    /// Nothing of it is left, as its root cannot be read; it was removed if that was asked for.
    Lost(Id),
}

/// Repairs snapshots under the exclusive lock, which it takes itself. What is cut or dropped is named in `control`'s
/// warnings.
pub fn repair_snapshots(
    repository: &Repository,
    owner: &LockOwner,
    request: &RepairSnapshotsRequest,
    control: &Control,
) -> Result<Vec<RepairedSnapshot>> {
    if request.forget {
        repository.check_removal()?;
    }
    let lock = repository.lock(LockKind::Exclusive, owner)?;
    let (index, unreadable) = repository.load_readable_index()?;
    if let Some(file) = unreadable.first() {
        let message = format!("nothing was changed: {} cannot be read; run 'repair index' first", file.item);
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    let texts: Vec<(Id, SnapshotText)> = request
        .snapshots
        .iter()
        .map(|id| Ok((*id, SnapshotText::read(repository, *id)?)))
        .collect::<Result<_>>()?;
    let writer = PackWriter::new(repository, control);
    let mut mended = Vec::new();
    with_uploaders(&writer, || {
        let mut mender = Mender::new(repository, &index, &writer, control, request.dry_run)?;
        for (_, text) in &texts {
            mended.push(mender.root(text.tree()?)?);
        }
        Ok(())
    })?;
    writer.finish()?;
    let repository = &repository.under(&lock);
    let mut outcome = Vec::new();
    for ((id, mut text), tree) in texts.into_iter().zip(mended) {
        outcome.push(match tree {
            None => RepairedSnapshot::Lost(id),
            Some(tree) if tree == text.tree()? => RepairedSnapshot::Whole(id),
            Some(_) if request.dry_run => RepairedSnapshot::Rewritten(id, None),
            Some(tree) => {
                text.set_tree(tree);
                text.set_original(id);
                if !request.forget {
                    text.add_tag(TAG);
                }
                RepairedSnapshot::Rewritten(id, Some(text.write(repository)?))
            }
        });
        let replaced = !matches!(outcome.last(), Some(RepairedSnapshot::Whole(_)));
        if replaced && request.forget && !request.dry_run {
            repository.delete_snapshot(id)?;
        }
    }
    Ok(outcome)
}

/// The entries of a tree, each as its exact text.
#[derive(Deserialize)]
struct RawTree<'a> {
    #[serde(borrow, default)]
    nodes: Option<Vec<&'a RawValue>>,
}

/// A directory on the way.
struct Level {
    id: Id,
    /// Length of its path.
    path: usize,
    nodes: std::vec::IntoIter<(Node, String)>,
    done: Vec<String>,
    changed: bool,
    /// The directory that is being mended.
    pending: Option<String>,
}

struct Mender<'a> {
    repository: &'a Repository,
    index: &'a Index,
    writer: &'a PackWriter<'a>,
    control: &'a Control,
    dry_run: bool,
    opener: Opener,
    sealer: Sealer,
    /// Trees that were mended already; the same directory stands in many snapshots.
    known: HashMap<Id, Id>,
    empty: Option<Id>,
}

impl<'a> Mender<'a> {
    fn new(
        repository: &'a Repository,
        index: &'a Index,
        writer: &'a PackWriter<'a>,
        control: &'a Control,
        dry_run: bool,
    ) -> Result<Self> {
        Ok(Self {
            repository,
            index,
            writer,
            control,
            dry_run,
            opener: Opener::new()?,
            sealer: Sealer::new(Compression::Auto, true)?,
            known: HashMap::new(),
            empty: None,
        })
    }

    /// What is left of a tree; `None` if it cannot be read.
    fn root(&mut self, root: Id) -> Result<Option<Id>> {
        let mut path = Vec::new();
        let Some(level) = self.enter(root, &path)? else { return Ok(None) };
        let mut levels = vec![level];
        loop {
            self.control.check()?;
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { return Ok(Some(root)) };
            path.truncate(level.path);
            let Some((node, text)) = level.nodes.next() else {
                let Some(level) = levels.pop() else { return Ok(Some(root)) };
                let tree = self.leave(level)?;
                match levels.last_mut() {
                    None => return Ok(Some(tree)),
                    Some(above) => above.put(tree)?,
                }
                continue;
            };
            path.push(b'/');
            path.extend_from_slice(&node.name);
            match (node.kind, node.subtree) {
                (NodeKind::Dir, subtree) => {
                    let known = subtree.and_then(|id| self.known.get(&id).copied());
                    let below = match (known, subtree) {
                        (None, Some(id)) if depth < DEPTH_MAX => self.enter(id, &path)?,
                        _ => None,
                    };
                    level.pending = Some(text);
                    if let Some(below) = below {
                        levels.push(below);
                    } else {
                        let tree = match known {
                            Some(tree) => tree,
                            None => self.empty_tree()?,
                        };
                        level.put(tree)?;
                    }
                }
                (NodeKind::File, _) => {
                    let mended = self.file(&node, &text, &path)?;
                    level.changed |= mended.is_some();
                    level.done.push(mended.unwrap_or(text));
                }
                _ => level.done.push(text),
            }
        }
    }

    /// Reads a directory; one that cannot be read is named.
    fn enter(&mut self, id: Id, path: &[u8]) -> Result<Option<Level>> {
        let read = self.repository.read_blob(self.index, BlobKind::Tree, id, &mut self.opener);
        let parsed = read.and_then(|text| {
            let nodes = tree::parse(id, &text)?;
            let raw: RawTree<'_> =
                serde_json::from_slice(&text).map_err(|e| Error::damaged(format!("tree {id}"), e))?;
            let texts = raw.nodes.unwrap_or_default().into_iter().map(|raw| raw.get().to_owned());
            Ok(nodes.into_iter().zip(texts).collect::<Vec<_>>())
        });
        match parsed {
            Ok(nodes) => Ok(Some(Level {
                id,
                path: path.len(),
                nodes: nodes.into_iter(),
                done: Vec::new(),
                changed: false,
                pending: None,
            })),
            Err(e) if e.kind == ErrorKind::Damaged => {
                let what = if path.is_empty() { b"/" } else { path };
                self.control.warn(crate::posix::show(what), format!("its listing is lost: {}", e.message));
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// Stores a directory that changed.
    fn leave(&mut self, level: Level) -> Result<Id> {
        let tree = if level.changed { self.store(level.done.iter().map(String::as_str))? } else { level.id };
        self.known.insert(level.id, tree);
        self.known.insert(tree, tree);
        Ok(tree)
    }

    fn empty_tree(&mut self) -> Result<Id> {
        match self.empty {
            Some(id) => Ok(id),
            None => {
                let id = self.store(std::iter::empty())?;
                self.empty = Some(id);
                Ok(id)
            }
        }
    }

    fn store<'t>(&mut self, nodes: impl Iterator<Item = &'t str>) -> Result<Id> {
        let text = tree_text(nodes);
        let id = Id::of(&text);
        // A listing that stands in the index may be the very one that cannot be read: then it is stored again.
        let readable = self.repository.read_blob(self.index, BlobKind::Tree, id, &mut self.opener).is_ok();
        if !self.dry_run && !readable && !self.known.contains_key(&id) {
            self.sealer.store(self.writer, BlobKind::Tree, &Plain::of_id(id, &text))?;
        }
        Ok(id)
    }

    /// The text of a file that lost chunks.
    fn file(&self, node: &Node, text: &str, path: &[u8]) -> Result<Option<String>> {
        let mut left: Vec<(Id, u64)> = Vec::with_capacity(node.content.len());
        for id in &node.content {
            let place = self.index.place(BlobKind::Data, id)?;
            left.extend(place.map(|place| (*id, u64::from(place.plain_length()))));
        }
        let lost = node.content.len() - left.len();
        if lost == 0 {
            return Ok(None);
        }
        let size: u64 = left.iter().map(|(_, length)| length).sum();
        self.control.warn(
            crate::posix::show(path),
            format!(
                "{lost} of {} chunks are lost; {size} of {} bytes are left",
                node.content.len(),
                node.size
            ),
        );
        let mut value = parse_node(text)?;
        value["content"] = left.iter().map(|(id, _)| Value::from(id.to_string())).collect();
        value["size"] = size.into();
        if size == 0
            && let Some(object) = value.as_object_mut()
        {
            object.shift_remove("size");
        }
        Ok(Some(value.to_string()))
    }
}

impl Level {
    /// The directory that was pending has this listing now.
    fn put(&mut self, tree: Id) -> Result<()> {
        let Some(text) = self.pending.take() else { return Ok(()) };
        let mut value = parse_node(&text)?;
        let new = Value::from(tree.to_string());
        if value["subtree"] == new {
            self.done.push(text);
        } else {
            value["subtree"] = new;
            self.changed = true;
            self.done.push(value.to_string());
        }
        Ok(())
    }
}

fn parse_node(text: &str) -> Result<Value> {
    serde_json::from_str(text).map_err(|e| Error::damaged("an entry of a tree", e))
}
