//! `repo diff`: what differs between two snapshots.

use anyhow::Result;
use repository::{Change, DiffSums, Repository};
use serde_json::json;

use super::look::split;
use super::place::Place;
use super::stopped;
use crate::exit::{Exit, Failure};
use crate::progress::printable;
use crate::{terminal, words};

/// Which snapshots are compared.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The first: id, prefix of an id, or `latest`; with `:PATH` only what lies there
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    first: String,
    /// The second
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    second: String,
    /// Tell differences of owners, modes, times and the like, too
    #[arg(long)]
    metadata: bool,
}

/// Runs the comparison.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (repository, control) = place.open_to_look()?;
    let _lock = place.lock_for_reading(&repository)?;
    let index = repository.load_index(&|_| true)?;
    let first = tree_of(&repository, &index, &arguments.first)?;
    let second = tree_of(&repository, &index, &arguments.second)?;
    let trees = (first.1, second.1);
    let report =
        repository::diff(&repository, &index, trees, arguments.metadata, &control, &mut |path, change| {
            let path = String::from_utf8_lossy(path);
            let slash = if change.directory { "/" } else { "" };
            let told = if place.json {
                terminal::out_json(&json!({
                    "message_type": "change", "path": format!("{path}{slash}"), "modifier": modifier(change),
                }))
            } else {
                terminal::out(format!("{:<5}{}{slash}", modifier(change), printable(&path)))
            };
            told.map_err(stopped)
        })?;
    if place.json {
        terminal::out_json(&json!({
            "message_type": "statistics", "source_snapshot": first.0, "target_snapshot": second.0,
            "changed_files": report.changed_files, "added": report.added, "removed": report.removed,
        }))?;
        return Ok(Exit::Done);
    }
    let line = |name: &str, of: fn(&DiffSums) -> u64| {
        format!("{name:<12} {:>5} new, {:>5} removed", of(&report.added), of(&report.removed))
    };
    terminal::out("")?;
    terminal::out(format!("{}, {:>5} changed", line("Files:", |sums| sums.files), report.changed_files))?;
    terminal::out(line("Dirs:", |sums| sums.dirs))?;
    terminal::out(line("Others:", |sums| sums.others))?;
    terminal::out(line("Data Blobs:", |sums| sums.data_blobs))?;
    terminal::out(line("Tree Blobs:", |sums| sums.tree_blobs))?;
    terminal::out(format!("  Added:   {}", words::bytes(report.added.bytes)))?;
    terminal::out(format!("  Removed: {}", words::bytes(report.removed.bytes)))?;
    Ok(Exit::Done)
}

/// The snapshot's id, and the listing that is compared.
fn tree_of(
    repository: &Repository,
    index: &repository::Index,
    text: &str,
) -> Result<(repository::Id, repository::Id)> {
    let (snapshot, path) = split(text);
    let (id, snapshot) = repository.find_snapshot(snapshot)?;
    let node = match path {
        Some(path) => repository::entry_at(repository, index, snapshot.tree, path.as_bytes())?,
        None => None,
    };
    match node {
        None => Ok((id, snapshot.tree)),
        Some(node) => node.subtree.map(|tree| (id, tree)).ok_or_else(|| {
            Failure::usage(format!("'{}' is no directory", printable(path.unwrap_or_default()))).into()
        }),
    }
}

/// restic's letters.
fn modifier(change: Change) -> String {
    if change.added || change.removed {
        return if change.added { "+" } else { "-" }.to_owned();
    }
    [(change.kind, 'T'), (change.content, 'M'), (change.metadata, 'U')]
        .into_iter()
        .filter_map(|(is_so, letter)| is_so.then_some(letter))
        .collect()
}
