//! `repo check`: looks for damage and names each damaged file.

use anyhow::Result;
use repository::{CheckReport, LockKind, ReadData};
use serde_json::json;

use super::place::Place;
use super::sizes;
use crate::exit::{Exit, Failure};
use crate::progress::{Follower, Work};
use crate::{terminal, words};

/// How thoroughly is looked.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Read and verify every pack, not only the structure
    #[arg(long)]
    read_data: bool,
    /// Read and verify some packs: n/t (part n of t), 2.5% or a size like 10G (chosen by chance)
    #[arg(long, value_name = "SUBSET", conflicts_with = "read_data")]
    read_data_subset: Option<String>,
}

impl Arguments {
    fn which(&self) -> Result<ReadData, Failure> {
        match &self.read_data_subset {
            Some(text) => subset(text),
            None if self.read_data => Ok(ReadData::All),
            None => Ok(ReadData::None),
        }
    }
}

/// `3/7`, `2.5%`, `10G`.
fn subset(text: &str) -> Result<ReadData, Failure> {
    let wrong = || {
        Failure::usage(format!("'{}' is no part of the packs", text.escape_debug())).hint(
            "write n/t with n from 1 to t and t up to 255, a percentage above 0% and up to 100%, or a size",
        )
    };
    if let Some((n, of)) = text.split_once('/') {
        let (n, of) = (n.parse().map_err(|_| wrong())?, of.parse().map_err(|_| wrong())?);
        return if (1..=of).contains(&n) { Ok(ReadData::Part { n, of }) } else { Err(wrong()) };
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f64 = percent.parse().map_err(|_| wrong())?;
        return if percent > 0.0 && percent <= 100.0 { Ok(ReadData::Percent(percent)) } else { Err(wrong()) };
    }
    match sizes::parse(text) {
        Ok(bytes) if bytes > 0 => Ok(ReadData::Bytes(bytes)),
        _ => Err(wrong()),
    }
}

/// Runs the check.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let which = arguments.which()?;
    let (repository, control) = place.open()?;
    // As with restic, nobody may change the repository meanwhile; a reader without a lock takes that upon itself.
    let _lock =
        if place.reads_without_lock() { None } else { Some(place.lock(&repository, LockKind::Exclusive)?) };
    let follower = Follower::start(&control, Work::Check, place.json);
    let report = repository::check_reading(&repository, which, &control);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_packs_is_named_in_three_ways() {
        assert_eq!(subset("3/7").unwrap(), ReadData::Part { n: 3, of: 7 });
        assert_eq!(subset("2.5%").unwrap(), ReadData::Percent(2.5));
        assert_eq!(subset("10G").unwrap(), ReadData::Bytes(10 << 30));
        for wrong in ["", "0/5", "6/5", "1/300", "1/0", "0%", "101%", "NaN%", "0", "much"] {
            assert!(subset(wrong).is_err(), "{wrong}");
        }
    }
}
