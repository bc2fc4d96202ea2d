//! Which snapshots are meant: by id, by `latest`, or by host, tags and paths; and how they form groups.

use std::collections::BTreeMap;

use crate::repository::Snapshots;
use crate::{Error, ErrorKind, Id, Repository, Result, Snapshot, Warning};

/// Conditions on snapshots; those that are empty let everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// One of these hosts.
    pub hosts: Vec<String>,
    /// All tags of one of these lists. A list of one empty tag means snapshots without any.
    pub tags: Vec<Vec<String>>,
    /// All of these paths.
    pub paths: Vec<String>,
}

impl SnapshotFilter {
    /// Does it let this snapshot pass?
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.hostname))
            && (self.tags.is_empty() || self.tags.iter().any(|list| has_tags(snapshot, list)))
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
    }
}

/// Whether a snapshot bears all these tags; a list of one empty tag means: none at all.
pub(crate) fn has_tags(snapshot: &Snapshot, tags: &[String]) -> bool {
    if let [only] = tags
        && only.is_empty()
    {
        return snapshot.tags.is_empty();
    }
    tags.iter().all(|tag| snapshot.tags.contains(tag))
}

/// The snapshots that are named, in that order and each once; or, if none is, all that the filter lets pass, oldest
/// first. `latest` is the newest that the filter lets pass. What cannot be read is named in the second list.
pub fn choose_snapshots(
    repository: &Repository,
    named: &[String],
    filter: &SnapshotFilter,
) -> Result<(Snapshots, Vec<Warning>)> {
    if named.is_empty() {
        let (mut snapshots, unreadable) = repository.snapshots()?;
        snapshots.retain(|(_, snapshot)| filter.fits(snapshot));
        return Ok((snapshots, unreadable));
    }
    let mut chosen: Snapshots = Vec::new();
    for text in named {
        let found = find_snapshot(repository, text, filter)?;
        if !chosen.iter().any(|(id, _)| *id == found.0) {
            chosen.push(found);
        }
    }
    Ok((chosen, Vec::new()))
}

/// One snapshot by id, by a prefix that fits one alone, or by `latest`: the newest that the filter lets pass.
pub fn find_snapshot(repository: &Repository, text: &str, filter: &SnapshotFilter) -> Result<(Id, Snapshot)> {
    if text != "latest" || *filter == SnapshotFilter::default() {
        return repository.find_snapshot(text);
    }
    let newest = repository.snapshots()?.0.into_iter().rev().find(|(_, snapshot)| filter.fits(snapshot));
    newest.ok_or_else(|| {
        Error::new(ErrorKind::NotFound, "there is no snapshot of that host, with those tags and paths")
    })
}

/// What snapshots of one group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The paths.
    pub paths: bool,
    /// The tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

/// What the snapshots of a group have in common; empty where that does not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The host.
    pub hostname: String,
    /// The paths, sorted.
    pub paths: Vec<String>,
    /// The tags, sorted.
    pub tags: Vec<String>,
}

/// Snapshots that belong together, in order of their keys; those of a group stay in the order in which they came.
pub fn group_snapshots(snapshots: Snapshots, by: GroupBy) -> Vec<(GroupKey, Snapshots)> {
    let sorted = |texts: &[String]| {
        let mut texts = texts.to_vec();
        texts.sort();
        texts
    };
    let mut groups: BTreeMap<GroupKey, Snapshots> = BTreeMap::new();
    for (id, snapshot) in snapshots {
        let key = GroupKey {
            hostname: if by.host { snapshot.hostname.clone() } else { String::new() },
            paths: if by.paths { sorted(&snapshot.paths) } else { Vec::new() },
            tags: if by.tags { sorted(&snapshot.tags) } else { Vec::new() },
        };
        groups.entry(key).or_default().push((id, snapshot));
    }
    groups.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(host: &str, tags: &[&str], paths: &[&str]) -> Snapshot {
        serde_json::from_value(serde_json::json!({
            "time": "2026-01-01T00:00:00Z", "tree": Id([0; 32]), "paths": paths, "hostname": host, "tags": tags,
        }))
        .unwrap()
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn a_filter_wants_one_host_one_list_of_tags_and_all_paths() {
        let one = snapshot("a", &["x", "y"], &["/p", "/q"]);
        let fits = |hosts: &[&str], tags: &[&[&str]], paths: &[&str]| {
            let tags = tags.iter().map(|list| texts(list)).collect();
            SnapshotFilter { hosts: texts(hosts), tags, paths: texts(paths) }.fits(&one)
        };
        assert!(fits(&[], &[], &[]));
        assert!(fits(&["b", "a"], &[&["z"], &["x", "y"]], &["/p"]));
        assert!(!fits(&["b"], &[], &[]));
        assert!(!fits(&[], &[&["x", "z"]], &[]));
        assert!(!fits(&[], &[], &["/p", "/r"]));
        assert!(!fits(&[], &[&[""]], &[]));
        let untagged = SnapshotFilter { tags: vec![texts(&[""])], ..Default::default() };
        assert!(untagged.fits(&snapshot("a", &[], &[])));
    }

    #[test]
    fn snapshots_of_the_same_host_and_paths_in_any_order_form_a_group() {
        let all = vec![
            (Id([1; 32]), snapshot("a", &["t"], &["/p", "/q"])),
            (Id([2; 32]), snapshot("b", &[], &["/p", "/q"])),
            (Id([3; 32]), snapshot("a", &[], &["/q", "/p"])),
        ];
        let members = |by: GroupBy| -> Vec<Vec<u8>> {
            let groups = group_snapshots(all.clone(), by).into_iter();
            groups.map(|(_, group)| group.into_iter().map(|(id, _)| id.0[0]).collect()).collect()
        };
        assert_eq!(members(GroupBy::default()), [vec![1, 3], vec![2]]);
        assert_eq!(members(GroupBy { host: false, paths: false, tags: false }), [vec![1, 2, 3]]);
        assert_eq!(members(GroupBy { host: true, paths: true, tags: true }), [vec![3], vec![1], vec![2]]);
    }
}
