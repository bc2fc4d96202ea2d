//! What a restore would change: the objects of a snapshot beside those of the bucket.

use std::collections::HashMap;

use repository::{Control, Id, Index, Node, NodeKind, Repository};
use storage::{Content, ContentEntry, Headers};

use super::keys::Keys;
use super::{ETAG, HEADERS, ObjectStore, each, listing, names, store_error};
use crate::{Error, ErrorKind, Portion, Result};

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Action {
    /// There is none; it is written.
    Make,
    /// It is another one; it is written over.
    Replace,
    /// The snapshot has none; it is removed.
    Remove,
}

/// An object that is to become another.
pub(super) struct Change {
    pub(super) action: Action,
    pub(super) key: String,
    /// As the snapshot has it; none if it is removed.
    pub(super) node: Option<Node>,
    /// The one that is there.
    pub(super) present: Option<ContentEntry>,
}

impl Change {
    pub(super) fn bytes(&self) -> u64 {
        self.node.as_ref().map_or(0, |node| node.size)
    }
}

/// All changes, and what stays as it is.
#[derive(Default)]
pub(super) struct Compared {
    pub(super) changes: Vec<Change>,
    pub(super) kept: u64,
    pub(super) bytes_kept: u64,
}

pub(super) fn compare(
    store: &ObjectStore,
    (repository, index, snapshot): (&Repository, &Index, Id),
    portion: &Portion,
    control: &Control,
) -> Result<Compared> {
    let content = &*store.content;
    let keys = Keys::find(portion, (repository, index, snapshot))?;
    control.progress.set_current(&format!("listing {}", content.location()));
    let mut present: HashMap<String, ContentEntry> = HashMap::new();
    for prefix in keys.prefixes() {
        listing::visit(content, prefix, control, &mut |entry| {
            if keys.hold(&entry.key) {
                present.insert(entry.key.clone(), entry);
            }
        })?;
    }
    let fail = |e| Error::engine("cannot read the snapshot of a bucket", e);
    let found = repository.snapshot(snapshot).map_err(fail)?;
    let root =
        format!("{}/", found.paths.first().map(String::as_str).unwrap_or_default().trim_end_matches('/'));
    let mut compared = Compared::default();
    // Of these only the service knows whether their headers are the same.
    let mut alike = Vec::new();
    repository::walk(repository, index, snapshot, &mut |path, node| {
        control.check()?;
        if node.kind != NodeKind::File {
            return Ok(());
        }
        let key = path.strip_prefix(root.as_bytes()).and_then(names::key_of).ok_or_else(|| {
            let shown = String::from_utf8_lossy(path);
            let message =
                format!("'{}' in the snapshot stands for no object of a bucket", shown.escape_debug());
            repository::Error::new(repository::ErrorKind::Damaged, message)
        })?;
        if !keys.hold(&key) {
            return Ok(());
        }
        let there = present.remove(&key);
        let is_alike = there.as_ref().is_some_and(|entry| is_alike(entry, node));
        if is_alike && there.as_ref().is_some_and(|entry| entry.modified_ms == milliseconds(node)) {
            compared.kept += 1;
            compared.bytes_kept += node.size;
            return Ok(());
        }
        let action = if there.is_some() { Action::Replace } else { Action::Make };
        let change = Change { action, key, node: Some(node.clone()), present: there };
        if is_alike { &mut alike } else { &mut compared.changes }.push(change);
        Ok(())
    })
    .map_err(fail)?;
    let same = each(content, control, &alike, |change| has_headers(content, change))?;
    for (change, same) in alike.into_iter().zip(same) {
        match same {
            true => {
                compared.kept += 1;
                compared.bytes_kept += change.bytes();
            }
            false => compared.changes.push(change),
        }
    }
    // What a backup leaves out is not taken for something new.
    let removed = present.into_values().filter(|entry| listing::beyond_us(entry).is_none()).map(|entry| {
        Change { action: Action::Remove, key: entry.key.clone(), node: None, present: Some(entry) }
    });
    compared.changes.extend(removed);
    compared.changes.sort_unstable_by(|a, b| a.key.cmp(&b.key));
    Ok(compared)
}

/// Same length and tag.
fn is_alike(entry: &ContentEntry, node: &Node) -> bool {
    let tag = attribute(node, ETAG).unwrap_or_default();
    entry.size == node.size && !tag.is_empty() && entry.tag.as_bytes() == tag
}

fn milliseconds(node: &Node) -> i64 {
    node.mtime.seconds.saturating_mul(1000).saturating_add(i64::from(node.mtime.nanoseconds / 1_000_000))
}

/// Whether the object that is there is still the one that was listed, with the headers that the snapshot has.
fn has_headers(content: &dyn Content, change: &Change) -> Result<bool> {
    let Some(node) = &change.node else { return Ok(false) };
    let Some(there) = content.look(&change.key).map_err(store_error)? else { return Ok(false) };
    let is_listed = there.version.tag.as_deref() == change.present.as_ref().map(|entry| entry.tag.as_str());
    Ok(is_listed && there.lacking.is_empty() && there.headers == headers_of(node)?)
}

fn attribute<'n>(node: &'n Node, name: &str) -> Option<&'n [u8]> {
    node.xattrs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_slice())
}

/// What belongs to the object that became this file.
pub(super) fn headers_of(node: &Node) -> Result<Headers> {
    let Some(text) = attribute(node, HEADERS) else { return Ok(Headers::default()) };
    serde_json::from_slice(text).map_err(|e| {
        let name = String::from_utf8_lossy(&node.name).into_owned();
        Error::new(
            ErrorKind::Damaged,
            format!("the headers of '{}' are not understood: {e}", name.escape_debug()),
        )
    })
}
