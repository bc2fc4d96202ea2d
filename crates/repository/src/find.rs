//! Looks for entries in snapshots, by name and time, or by the blobs that they consist of.

use std::collections::HashSet;

use crate::repository::Opener;
use crate::tree::{Node, NodeKind};
use crate::walk::{directory_of, in_directory};
use crate::{Control, Id, Index, Patterns, Repository, Result, Time};

/// What is looked for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Entries that fit; what is below a directory that fits is found too.
    Paths(Patterns),
    /// Files and directories that consist of one of these blobs.
    Blobs(HashSet<Id>),
}

/// Hears of an entry that was found: its path, the listing that it stands in, and the entry. The root of a snapshot,
/// `/`, stands in no listing and is no more than a name, a kind and its own listing.
pub type Found<'a> = dyn FnMut(&[u8], Option<Id>, &Node) -> Result<()> + 'a;

/// A search through one snapshot after the other.
pub struct Search<'a> {
    repository: &'a Repository,
    index: &'a Index,
    control: &'a Control,
    wanted: Wanted,
    /// Changed since, and until.
    oldest: Option<Time>,
    newest: Option<Time>,
    opener: Opener,
    /// Directories with nothing in them that is wanted, wherever they stand.
    barren: HashSet<Id>,
}

struct Level {
    tree: Id,
    path: usize,
    nodes: std::vec::IntoIter<Node>,
    /// Everything in here is wanted.
    inside: bool,
    found: bool,
}

impl<'a> Search<'a> {
    /// A search; the times are those of the last change of an entry's content.
    pub fn new(
        repository: &'a Repository,
        index: &'a Index,
        control: &'a Control,
        wanted: Wanted,
        (oldest, newest): (Option<Time>, Option<Time>),
    ) -> Result<Self> {
        let (opener, barren) = (Opener::new()?, HashSet::new());
        Ok(Self { repository, index, control, wanted, oldest, newest, opener, barren })
    }

    /// Tells every entry of the tree that is wanted: its path, the listing that it stands in, and the entry.
    pub fn run(&mut self, root: Id, found: &mut Found<'_>) -> Result<()> {
        let forget = match &self.wanted {
            Wanted::Paths(patterns) => patterns.look_at_names_alone(),
            Wanted::Blobs(_) => true,
        };
        if matches!(&self.wanted, Wanted::Blobs(ids) if ids.contains(&root)) {
            let node = Node { subtree: Some(root), ..Node::new(Vec::new(), NodeKind::Dir) };
            found(b"/", None, &node)?;
        }
        let mut path = Vec::new();
        let mut levels = vec![self.enter(root, &path, false)?];
        while let Some(level) = levels.last_mut() {
            self.control.check()?;
            path.truncate(level.path);
            let Some(node) = level.nodes.next() else {
                let (tree, any) = (level.tree, level.found);
                levels.pop();
                match levels.last_mut() {
                    Some(above) if any => above.found = true,
                    _ if !any && forget => drop(self.barren.insert(tree)),
                    _ => {}
                }
                continue;
            };
            path.push(b'/');
            path.extend_from_slice(&node.name);
            let fits = match &self.wanted {
                Wanted::Paths(patterns) => level.inside || patterns.fits(&path),
                Wanted::Blobs(ids) => node.content.iter().chain(&node.subtree).any(|id| ids.contains(id)),
            };
            if fits {
                level.found = true;
                let recent = self.oldest.is_none_or(|oldest| node.mtime >= oldest);
                if recent && self.newest.is_none_or(|newest| node.mtime <= newest) {
                    found(&path, Some(level.tree), &node)?;
                }
            }
            if node.kind == NodeKind::Dir
                && let Some(tree) = directory_of(&node, &path)?
                && (fits || !self.barren.contains(&tree))
            {
                let inside = fits && matches!(self.wanted, Wanted::Paths(_));
                levels.push(self.enter(tree, &path, inside)?);
            }
        }
        Ok(())
    }

    fn enter(&mut self, tree: Id, path: &[u8], inside: bool) -> Result<Level> {
        let nodes = self
            .repository
            .read_tree(self.index, tree, &mut self.opener)
            .map_err(|e| in_directory(path, e))?;
        Ok(Level { tree, path: path.len(), nodes: nodes.into_iter(), inside, found: false })
    }
}

/// The blobs that lie in a pack; `None` if no index lists it.
pub fn blobs_in_pack(index: &Index, pack: Id) -> Result<Option<HashSet<Id>>> {
    let blobs = index.blobs_of(&HashSet::from([pack]))?.remove(&pack);
    Ok(blobs.map(|blobs| blobs.into_iter().map(|blob| blob.id).collect()))
}
