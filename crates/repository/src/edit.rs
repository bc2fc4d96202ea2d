//! Snapshots whose text is changed: tags, another tree, another repository. Fields that this program does not know
//! stay as they are.

use serde_json::{Map, Value, json};

use crate::file::{self, Folder};
use crate::{Error, Id, Repository, Result, Snapshot};

/// The JSON of a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SnapshotText(Map<String, Value>);

impl SnapshotText {
    /// Reads a snapshot; it must be one that this program understands.
    pub(crate) fn read(repository: &Repository, id: Id) -> Result<Self> {
        let damaged = |e: &dyn std::fmt::Display| Error::damaged(Folder::Snapshots.key(id), e);
        let text = file::read_text(repository.storage(), repository.key(), Folder::Snapshots, id)?;
        let _: Snapshot = serde_json::from_slice(&text).map_err(|e| damaged(&e))?;
        serde_json::from_slice(&text).map(Self).map_err(|e| damaged(&e))
    }

    /// The root's listing.
    pub(crate) fn tree(&self) -> Result<Id> {
        let text = self.0.get("tree").and_then(Value::as_str).unwrap_or_default();
        text.parse().map_err(|e| Error::damaged("a snapshot", e))
    }

    pub(crate) fn set_tree(&mut self, tree: Id) {
        self.0.insert("tree".to_owned(), json!(tree));
    }

    /// Remembers the first id of this snapshot, unless an earlier one is remembered.
    pub(crate) fn set_original(&mut self, id: Id) {
        self.0.entry("original").or_insert_with(|| json!(id));
    }

    /// Forgets the parent, which another repository does not have.
    pub(crate) fn drop_parent(&mut self) {
        self.0.shift_remove("parent");
    }

    pub(crate) fn tags(&self) -> Vec<String> {
        let tags = self.0.get("tags").and_then(Value::as_array);
        tags.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    pub(crate) fn set_tags(&mut self, tags: &[String]) {
        if tags.is_empty() {
            self.0.shift_remove("tags");
        } else {
            self.0.insert("tags".to_owned(), json!(tags));
        }
    }

    pub(crate) fn add_tag(&mut self, tag: &str) {
        let mut tags = self.tags();
        if !tags.iter().any(|known| known == tag) {
            tags.push(tag.to_owned());
            self.set_tags(&tags);
        }
    }

    /// Stores it as a new snapshot.
    pub(crate) fn write(&self, repository: &Repository) -> Result<Id> {
        repository.save_snapshot(&self.0)
    }
}

/// What becomes of a snapshot's tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagChange {
    /// These alone.
    Set(Vec<String>),
    /// First some are added, then some are taken away.
    Edit {
        /// Added.
        add: Vec<String>,
        /// Taken away.
        remove: Vec<String>,
    },
}

impl TagChange {
    fn apply(&self, tags: &[String]) -> Vec<String> {
        match self {
            Self::Set(new) => new.clone(),
            Self::Edit { add, remove } => {
                let mut tags = tags.to_vec();
                for tag in add {
                    if !tags.contains(tag) {
                        tags.push(tag.clone());
                    }
                }
                tags.retain(|tag| !remove.contains(tag));
                tags
            }
        }
    }
}

/// Changes the tags of a snapshot: it gets a new id, and remembers its first. `None` if nothing changed. The new one is
/// there before the old one goes.
pub fn change_tags(repository: &Repository, id: Id, change: &TagChange) -> Result<Option<Id>> {
    repository.check_removal()?;
    let mut text = SnapshotText::read(repository, id)?;
    let tags = text.tags();
    let new = change.apply(&tags);
    if new == tags {
        return Ok(None);
    }
    text.set_tags(&new);
    text.set_original(id);
    let new = text.write(repository)?;
    repository.delete_snapshot(id)?;
    Ok(Some(new))
}
