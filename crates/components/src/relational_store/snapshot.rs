//! The snapshot of a backup, as files.

use std::io::Write;

use repository::{Control, Id, Node};

use super::manifest::{self, Manifest};
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

    fn node(&self, path: &str) -> Result<Node> {
        let whole = format!("{}/{path}", self.root);
        let found = repository::look_up(self.repository, self.index, self.tree, whole.as_bytes())
            .map_err(|e| Error::engine(format!("cannot find {whole} in the backup"), e))?;
        found
            .flatten()
            .ok_or_else(|| Error::new(ErrorKind::Damaged, format!("the backup lacks the file {whole}")))
    }

    /// Writes the content of a file.
    pub(super) fn write(&self, path: &str, control: &Control, out: &mut dyn Write) -> Result<()> {
        let node = self.node(path)?;
        repository::dump_file(self.repository, self.index, &node, control, out)
            .map_err(|e| Error::engine(format!("cannot read {}/{path} of the backup", self.root), e))
    }

    pub(super) fn manifest(&self, control: &Control) -> Result<Manifest> {
        let mut text = Vec::new();
        self.write(manifest::MANIFEST, control, &mut text)?;
        Manifest::parse(&text)
    }
}
