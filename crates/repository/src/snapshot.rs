//! Snapshots: which tree was backed up, when, of what, by whom.

use serde::{Deserialize, Deserializer, Serialize};

use crate::Id;

/// A snapshot file's JSON. Every field but time, tree and paths may be missing in other programs' files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// RFC 3339.
    pub time: String,
    /// The snapshot whose unchanged files were not read again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// The root's listing.
    pub tree: Id,
    /// Absolute paths.
    #[serde(default, deserialize_with = "or_null")]
    pub paths: Vec<String>,
    /// Where it was made.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// By whom.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub username: String,
    /// Their number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// Their group's number.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Patterns that were left out.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<String>,
    /// Free words.
    #[serde(default, deserialize_with = "or_null", skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// First id of this snapshot, kept when its metadata is edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// The program that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// Figures of the backup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// Other programs write `null` for an empty list.
fn or_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// Figures of a backup, under restic's names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Summary {
    pub backup_start: String,
    pub backup_end: String,
    pub files_new: u64,
    pub files_changed: u64,
    pub files_unmodified: u64,
    pub dirs_new: u64,
    pub dirs_changed: u64,
    pub dirs_unmodified: u64,
    pub data_blobs: u64,
    pub tree_blobs: u64,
    /// Bytes of new blobs before compression.
    pub data_added: u64,
    /// Bytes of new blobs as stored.
    pub data_added_packed: u64,
    pub total_files_processed: u64,
    pub total_bytes_processed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_are_null_or_missing_are_empty() {
        let tree = Id([7; 32]);
        let text = format!(r#"{{"time":"2026-01-01T00:00:00Z","tree":"{tree}","paths":null,"tags":null}}"#);
        let snapshot: Snapshot = serde_json::from_str(&text).unwrap();
        assert!(snapshot.paths.is_empty() && snapshot.tags.is_empty() && snapshot.excludes.is_empty());
    }
}
