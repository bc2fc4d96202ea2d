//! `repo forget`: removes snapshots; the data that only they needed goes with `--prune`, or a later `repo prune`.

use std::collections::BTreeMap;

use anyhow::Result;
use repository::{Id, LockKind, Repository, Snapshot};
use serde_json::{Value, json};

use super::look::snapshot_json;
use super::place::Place;
use super::{prune, short};
use crate::exit::{Exit, Failure};
use crate::{terminal, words};

/// What goes.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Snapshots to remove: ids or prefixes
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    /// Keep the newest N snapshots of each host and set of paths, remove the others
    #[arg(long, short = 'l', value_name = "N", conflicts_with = "snapshots")]
    keep_last: Option<usize>,
    /// Say what would go, remove nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Free the space at once
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    pruning: prune::Tolerance,
}

/// Snapshots of one host and set of paths, and what becomes of each.
#[derive(Debug)]
struct Group {
    host: String,
    paths: Vec<String>,
    keep: Vec<(Id, Snapshot)>,
    remove: Vec<(Id, Snapshot)>,
}

/// Removes the snapshots.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    if arguments.snapshots.is_empty() && arguments.keep_last.is_none() {
        return Err(Failure::usage("forget what?").hint("name snapshots, or use --keep-last N").into());
    }
    if arguments.keep_last == Some(0) {
        return Err(Failure::usage("--keep-last 0 would remove every snapshot")
            .hint("name them instead")
            .into());
    }
    let (repository, control) = place.open()?;
    let lock = place.lock(&repository, LockKind::Exclusive)?;
    let groups = match arguments.keep_last {
        Some(last) => {
            let (snapshots, unreadable) = repository.snapshots()?;
            for warning in &unreadable {
                terminal::warn(format!("{}: {} (left alone)", warning.item, warning.reason));
            }
            keep_last(snapshots, last)
        }
        None => vec![named(&repository, &arguments.snapshots)?],
    };
    tell(&groups, place.json, arguments.dry_run)?;
    if !arguments.dry_run {
        for (id, _) in groups.iter().flat_map(|group| &group.remove) {
            control.check()?;
            repository.delete_snapshot(*id)?;
        }
    }
    // Pruning takes the exclusive lock itself.
    drop(lock);
    if arguments.prune {
        let removed = groups.iter().flat_map(|group| &group.remove).map(|(id, _)| *id);
        let forgotten = if arguments.dry_run { removed.collect() } else { Vec::new() };
        prune::now(place, &repository, &control, &arguments.pruning, arguments.dry_run, forgotten)
    } else {
        Ok(Exit::Done)
    }
}

fn named(repository: &Repository, snapshots: &[String]) -> Result<Group> {
    let mut remove: Vec<(Id, Snapshot)> = Vec::new();
    for text in snapshots {
        let found = repository.find_snapshot(text)?;
        if !remove.iter().any(|(id, _)| *id == found.0) {
            remove.push(found);
        }
    }
    Ok(Group { host: String::new(), paths: Vec::new(), keep: Vec::new(), remove })
}

/// `snapshots` come oldest first.
fn keep_last(snapshots: Vec<(Id, Snapshot)>, last: usize) -> Vec<Group> {
    let mut groups = BTreeMap::new();
    for (id, snapshot) in snapshots {
        let (host, mut paths) = (snapshot.hostname.clone(), snapshot.paths.clone());
        paths.sort();
        let group = groups.entry((host.clone(), paths.clone())).or_insert_with(|| Group {
            host,
            paths,
            keep: Vec::new(),
            remove: Vec::new(),
        });
        group.keep.push((id, snapshot));
    }
    let mut groups: Vec<Group> = groups.into_values().collect();
    for group in &mut groups {
        let newest = group.keep.split_off(group.keep.len().saturating_sub(last));
        group.remove = std::mem::replace(&mut group.keep, newest);
    }
    groups
}

fn tell(groups: &[Group], as_json: bool, dry_run: bool) -> Result<()> {
    if as_json {
        let list = |snapshots: &[(Id, Snapshot)]| {
            snapshots.iter().map(|(id, snapshot)| snapshot_json(*id, snapshot)).collect::<Vec<Value>>()
        };
        let groups: Vec<_> = groups
            .iter()
            .map(|group| {
                json!({"tags": null, "host": group.host, "paths": group.paths,
                    "keep": list(&group.keep), "remove": list(&group.remove)})
            })
            .collect();
        terminal::out_json(&groups)?;
        return Ok(());
    }
    let verb = if dry_run { "would remove" } else { "remove" };
    let (mut kept, mut removed) = (0, 0);
    for group in groups {
        kept += group.keep.len() as u64;
        removed += group.remove.len() as u64;
        for (id, snapshot) in &group.remove {
            terminal::out(format!(
                "{verb} {}  {}  {}",
                short(&id.to_string()),
                snapshot.time.get(..19).unwrap_or(&snapshot.time),
                snapshot.paths.join(", ")
            ))?;
        }
    }
    let kept = if kept > 0 { format!(", kept {}", words::count(kept)) } else { String::new() };
    let verb = if dry_run { "would remove" } else { "removed" };
    terminal::out(format!("{verb} {}{kept}", words::counted(removed, "snapshot", "snapshots")))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(number: u8, host: &str, path: &str) -> (Id, Snapshot) {
        let snapshot = serde_json::from_value(json!({
            "time": format!("2026-01-0{number}T00:00:00Z"), "tree": Id([0; 32]), "paths": [path], "hostname": host,
        }));
        (Id([number; 32]), snapshot.unwrap())
    }

    #[test]
    fn the_newest_of_each_host_and_path_stay() {
        let snapshots = vec![
            snapshot(1, "a", "/x"),
            snapshot(2, "a", "/x"),
            snapshot(3, "b", "/x"),
            snapshot(4, "a", "/y"),
            snapshot(5, "a", "/x"),
        ];
        let groups = keep_last(snapshots, 1);
        let removed: Vec<_> = groups.iter().flat_map(|group| &group.remove).map(|(id, _)| id.0[0]).collect();
        assert_eq!(removed, [1, 2]);
        assert_eq!(groups.iter().map(|group| group.keep.len()).sum::<usize>(), 3);
    }

    #[test]
    fn to_keep_more_than_there_are_removes_nothing() {
        let groups = keep_last(vec![snapshot(1, "a", "/x")], 9);
        assert!(groups[0].remove.is_empty());
    }
}
