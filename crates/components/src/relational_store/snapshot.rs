//! The snapshot of a backup, as files.

use std::collections::BTreeMap;
use std::io::Write;

use repository::{Control, Id, Node};

use super::manifest::{self, Manifest};
use super::physical;
use crate::{Error, ErrorKind, Result};

/// The snapshot as files.
pub(super) struct Snapshot<'a> {
    repository: &'a repository::Repository,
    index: &'a repository::Index,
    tree: Id,
    root: String,
}

impl<'a> Snapshot<'a> {
    pub(super) fn open(
        repository: &'a repository::Repository,
        index: &'a repository::Index,
        snapshot: Id,
    ) -> Result<Self> {
        let fail = |e| Error::engine("cannot read the snapshot of a database server", e);
        let snapshot = repository.snapshot(snapshot).map_err(fail)?;
        let root = snapshot.paths.first().cloned().unwrap_or_default();
        Ok(Self { repository, index, tree: snapshot.tree, root })
    }

    fn node_if_any(&self, path: &str) -> Result<Option<Node>> {
        let whole = format!("{}/{path}", self.root);
        let found = repository::look_up(self.repository, self.index, self.tree, whole.as_bytes())
            .map_err(|e| Error::engine(format!("cannot find {whole} in the backup"), e))?;
        Ok(found.flatten())
    }

    fn node(&self, path: &str) -> Result<Node> {
        self.node_if_any(path)?.ok_or_else(|| {
            Error::new(ErrorKind::Damaged, format!("the backup lacks the file {}/{path}", self.root))
        })
    }

    /// The entries of a directory (`""`: the top one) by name; those whose names are no text are none of ours.
    pub(super) fn files(&self, directory: &str) -> Result<BTreeMap<String, Node>> {
        let tree = self.node(directory)?.subtree.ok_or_else(|| {
            let message = format!("{}/{directory} is no directory in the backup", self.root);
            Error::new(ErrorKind::Damaged, message)
        })?;
        let mut found = BTreeMap::new();
        repository::visit_directory(self.repository, self.index, tree, &mut |node| {
            if let Ok(name) = String::from_utf8(node.name.clone()) {
                found.insert(name, node);
            }
            Ok(())
        })
        .map_err(|e| Error::engine(format!("cannot list {}/{directory} of the backup", self.root), e))?;
        Ok(found)
    }

    /// Bytes of a file.
    pub(super) fn size(&self, path: &str) -> Result<u64> {
        self.node(path).map(|node| node.size)
    }

    /// Writes the content of a file.
    pub(super) fn write(&self, path: &str, control: &Control, out: &mut dyn Write) -> Result<()> {
        self.write_node(path, &self.node(path)?, control, out)
    }

    fn write_node(&self, path: &str, node: &Node, control: &Control, out: &mut dyn Write) -> Result<()> {
        repository::dump_file(self.repository, self.index, node, control, out)
            .map_err(|e| Error::engine(format!("cannot read {}/{path} of the backup", self.root), e))
    }

    /// What it says of itself, if it was made by the physical way.
    pub(super) fn physical_if_any(&self, control: &Control) -> Result<Option<physical::Manifest>> {
        let path = physical::MANIFEST;
        let Some(node) = self.node_if_any(path)? else { return Ok(None) };
        let mut text = Vec::new();
        self.write_node(path, &node, control, &mut text)?;
        physical::Manifest::parse(&text).map(Some)
    }

    /// What is in it, for those who only look: of one made by the physical way the names of its databases, as what tables there will
    /// be is known when the log is replayed.
    pub(super) fn contents(&self, control: &Control) -> Result<Manifest> {
        match self.physical_if_any(control)? {
            Some(physical) => Ok(physical.outline()),
            None => self.manifest(control),
        }
    }

    pub(super) fn manifest(&self, control: &Control) -> Result<Manifest> {
        let mut text = Vec::new();
        self.write(manifest::MANIFEST, control, &mut text)?;
        Manifest::parse(&text)
    }
}
