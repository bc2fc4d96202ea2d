//! `repo repair index`, `repair packs`, `repair snapshots`: the best that can be made of a damaged repository.

use std::fs::File;

use anyhow::{Context, Result};
use clap::Subcommand;
use repository::{
    BlobKind, Id, RepairIndexRequest, RepairSnapshotsRequest, RepairedSnapshot, repair_index, repair_packs,
    repair_snapshots,
};
use serde_json::json;

use super::filter::Filter;
use super::place::{Place, lock_owner};
use crate::exit::{Exit, Failure};
use crate::progress::{self, Follower, Work};
use crate::{terminal, words};

/// What is repaired.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List every pack as it lies there; the first thing to do
    Index(IndexArguments),
    /// Save what is whole in damaged packs, then remove them; the second thing
    Packs(PacksArguments),
    /// Take out of snapshots what is lost for good; the last thing
    Snapshots(SnapshotsArguments),
}

/// How the index is repaired.
#[derive(clap::Args, Debug)]
pub struct IndexArguments {
    /// Read the header of every pack, whatever the index says
    #[arg(long)]
    read_all_packs: bool,
    /// Say what would be done, change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Which packs are repaired.
#[derive(clap::Args, Debug)]
pub struct PacksArguments {
    /// Packs by their ids, or as `check` names them; a copy of each is kept in the working directory
    #[arg(required = true, value_name = "PACK")]
    packs: Vec<String>,
}

/// Which snapshots are repaired.
#[derive(clap::Args, Debug)]
pub struct SnapshotsArguments {
    /// Snapshots by id or prefix, or `latest` (default: all)
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Remove the originals
    #[arg(long)]
    forget: bool,
    /// Say what would be done, change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Runs the repair.
pub fn run(place: &Place, verb: &Verb) -> Result<Exit> {
    match verb {
        Verb::Index(arguments) => index(place, arguments),
        Verb::Packs(arguments) => packs(place, arguments),
        Verb::Snapshots(arguments) => snapshots(place, arguments),
    }
}

/// `repair index`, which restic 0.14 calls `rebuild-index`.
pub fn index(place: &Place, arguments: &IndexArguments) -> Result<Exit> {
    let (repository, control) = place.open()?;
    let follower = Follower::start(&control, Work::Check, place.json);
    let request = RepairIndexRequest { read_all_packs: arguments.read_all_packs, dry_run: arguments.dry_run };
    let report = repair_index(&repository, &lock_owner(), request, &control);
    drop(follower);
    let report = report?;
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "dry_run": arguments.dry_run, "packs_added": report.packs_added,
            "packs_listed_anew": report.packs_listed_anew, "packs_missing": report.packs_missing,
            "index_files_written": report.files_written, "index_files_removed": report.files_removed,
            "index_files_unreadable": report.unreadable_keys().collect::<Vec<_>>(), "damaged": report.damaged,
        }))?;
    } else {
        for key in report.unreadable_keys() {
            terminal::out(format!("{key} cannot be read and goes"))?;
        }
        for pack in &report.packs_missing {
            terminal::out(format!("pack {pack} is gone"))?;
        }
        for finding in &report.damaged {
            terminal::out(format!("damaged: {}: {}", finding.file, finding.problem))?;
        }
        terminal::out(format!(
            "{}{}, {}, {}; {} written, {} removed",
            if arguments.dry_run { "would be: " } else { "" },
            words::counted(report.packs_added, "pack added", "packs added"),
            words::counted(report.packs_listed_anew, "pack listed anew", "packs listed anew"),
            words::counted(report.packs_missing.len() as u64, "pack gone", "packs gone"),
            words::counted(report.files_written, "index file", "index files"),
            words::count(report.files_removed),
        ))?;
        if report.was_right() {
            terminal::out("the index was right")?;
        }
        if !report.damaged.is_empty() {
            terminal::note("`repair packs` saves what is whole in damaged packs");
        }
    }
    Ok(if report.damaged.is_empty() { Exit::Done } else { Exit::Damaged })
}

fn packs(place: &Place, arguments: &PacksArguments) -> Result<Exit> {
    let packs = arguments.packs.iter().map(|text| pack_id(text)).collect::<Result<Vec<Id>, Failure>>()?;
    let (repository, control) = place.open()?;
    for pack in &packs {
        let name = format!("pack-{pack}");
        let mut file = File::create(&name).with_context(|| format!("cannot keep a copy in ./{name}"))?;
        let there = repository::copy_pack_file(&repository, *pack, &mut file)?;
        file.sync_all().with_context(|| format!("cannot keep a copy in ./{name}"))?;
        if there {
            terminal::note(format!("kept a copy in ./{name}"));
        } else {
            std::fs::remove_file(&name)?;
        }
    }
    let follower = Follower::start(&control, Work::Check, place.json);
    let report = repair_packs(&repository, &lock_owner(), &packs, &control);
    drop(follower);
    let report = report?;
    if place.json {
        let lost: Vec<_> =
            report.blobs_lost.iter().map(|(kind, id)| json!({"type": word(*kind), "id": id})).collect();
        terminal::out_json(&json!({
            "message_type": "summary", "packs_removed": report.packs_removed, "blobs_saved": report.blobs_saved,
            "bytes_saved": report.bytes_saved, "blobs_lost": lost,
        }))?;
    } else {
        for (kind, id) in &report.blobs_lost {
            terminal::out(format!("lost: {} blob {id}", word(*kind)))?;
        }
        terminal::out(format!(
            "saved {} ({}), lost {}, removed {}",
            words::counted(report.blobs_saved, "blob", "blobs"),
            words::bytes(report.bytes_saved),
            words::count(report.blobs_lost.len() as u64),
            words::counted(report.packs_removed, "pack", "packs"),
        ))?;
        if !report.blobs_lost.is_empty() {
            terminal::note(
                "a new backup of the same data brings lost blobs back; else run `repair snapshots`",
            );
        }
    }
    Ok(Exit::Done)
}

fn word(kind: BlobKind) -> &'static str {
    match kind {
        BlobKind::Data => "data",
        BlobKind::Tree => "tree",
    }
}

/// An id, or a key like `data/ab/ab12…`.
fn pack_id(text: &str) -> Result<Id, Failure> {
    let name = text.rsplit('/').next().unwrap_or(text);
    name.parse().map_err(|_| {
        Failure::usage(format!("'{}' is no pack", text.escape_debug()))
            .hint("give the 64 digits of its name, or data/…, as `repo check` shows it")
    })
}

fn snapshots(place: &Place, arguments: &SnapshotsArguments) -> Result<Exit> {
    let (repository, control) = place.open()?;
    let (chosen, unreadable) = arguments.filter.choose(&repository, &arguments.snapshots)?;
    let request = RepairSnapshotsRequest {
        snapshots: chosen.iter().map(|(id, _)| *id).collect(),
        forget: arguments.forget,
        dry_run: arguments.dry_run,
    };
    let follower = Follower::start(&control, Work::Check, place.json);
    let repaired = repair_snapshots(&repository, &lock_owner(), &request, &control);
    drop(follower);
    progress::tell_warnings(&control, Work::Check, place.json);
    let repaired = repaired?;
    let mut changed = 0;
    for one in &repaired {
        let (id, new, fate) = match one {
            RepairedSnapshot::Whole(_) => continue,
            RepairedSnapshot::Rewritten(id, new) => (id, *new, "repaired"),
            RepairedSnapshot::Lost(id) => (id, None, "lost"),
        };
        changed += 1;
        if place.json {
            terminal::out_json(&json!({
                "message_type": "changed", "old_snapshot_id": id, "new_snapshot_id": new, "outcome": fate,
            }))?;
        } else {
            let told = match (one, new) {
                (RepairedSnapshot::Lost(_), _) if request.forget && !request.dry_run => {
                    "nothing is left of it, removed".to_owned()
                }
                (RepairedSnapshot::Lost(_), _) => "nothing is left of it; --forget removes it".to_owned(),
                (_, Some(new)) => format!("repaired as {}", new.short()),
                (_, None) => "would be repaired".to_owned(),
            };
            terminal::out(format!("{}: {told}", id.short()))?;
        }
    }
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "dry_run": request.dry_run, "changed_snapshots": changed,
        }))?;
    } else {
        terminal::out(format!(
            "{} of {}",
            words::count(changed),
            words::counted(repaired.len() as u64, "snapshot was damaged", "snapshots were damaged")
        ))?;
    }
    Ok(if unreadable { Exit::Damaged } else { Exit::Done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_is_named_by_its_id_or_as_check_names_it() {
        let digits = "ab".repeat(32);
        assert_eq!(pack_id(&digits).unwrap().to_string(), digits);
        assert_eq!(pack_id(&format!("data/ab/{digits}")).unwrap().to_string(), digits);
        assert!(pack_id("abab").is_err());
    }
}
