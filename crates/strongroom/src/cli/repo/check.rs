//! `repo check`: looks for damage and names each damaged file.

use anyhow::Result;
use repository::{CheckReport, CheckRequest, LockKind};
use serde_json::json;

use super::place::Place;
use crate::exit::Exit;
use crate::progress::{Follower, Work};
use crate::{terminal, words};

/// How thoroughly is looked.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Read and verify every pack, not only the structure
    #[arg(long)]
    read_data: bool,
}

/// Runs the check.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (repository, control) = place.open()?;
    // As with restic, nobody may change the repository meanwhile; a reader without a lock takes that upon itself.
    let _lock =
        if place.reads_without_lock() { None } else { Some(place.lock(&repository, LockKind::Exclusive)?) };
    let follower = Follower::start(&control, Work::Check, place.json);
    let report = repository::check(&repository, CheckRequest { read_data: arguments.read_data }, &control);
    drop(follower);
    tell(&report?, place.json)
}

/// Tells a report: each finding, then one line that sums it up.
pub fn tell(report: &CheckReport, as_json: bool) -> Result<Exit> {
    for finding in &report.findings {
        if as_json {
            terminal::out_json(&json!({
                "message_type": "error", "file": finding.file, "message": finding.problem,
            }))?;
        } else {
            terminal::out(format!("damaged: {}: {}", finding.file, finding.problem))?;
        }
    }
    if as_json {
        terminal::out_json(&json!({
            "message_type": "summary", "num_errors": report.findings.len(), "packs": report.packs,
            "snapshots": report.snapshots, "bytes_read": report.bytes_read, "notes": report.notes,
        }))?;
    } else {
        for note in &report.notes {
            terminal::note(format!("note: {note}"));
        }
        let found = match report.findings.len() as u64 {
            0 => "no damage found".to_owned(),
            n => words::counted(n, "damaged thing", "damaged things"),
        };
        terminal::out(format!(
            "{found}; {}, {}, {} read",
            words::counted(report.snapshots, "snapshot", "snapshots"),
            words::counted(report.packs, "pack", "packs"),
            words::bytes(report.bytes_read)
        ))?;
    }
    Ok(if report.findings.is_empty() { Exit::Done } else { Exit::Damaged })
}
