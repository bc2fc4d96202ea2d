//! `repo prune`: frees the space that no snapshot needs.

use std::sync::Arc;

use anyhow::Result;
use repository::{Control, Id, PruneRequest, Repository};
use serde_json::json;

use super::place::{Place, lock_owner};
use crate::exit::{Exit, Failure};
use crate::progress::{Follower, Work};
use crate::{terminal, words};

/// Arguments of `repo prune`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Say what would be freed, change nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    #[command(flatten)]
    tolerance: Tolerance,
}

/// How much unused data may stay because moving it costs more.
#[derive(clap::Args, Debug)]
pub struct Tolerance {
    /// Unused data that may stay, in per cent of the whole, like 5%
    #[arg(long, value_name = "PERCENT", default_value = "5%")]
    max_unused: String,
}

/// Runs the verb.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (repository, control) = place.open()?;
    now(place, &repository, &control, &arguments.tolerance, arguments.dry_run, Vec::new())
}

/// Prunes an open repository on which we hold no lock.
pub fn now(
    place: &Place,
    repository: &Repository,
    control: &Arc<Control>,
    tolerance: &Tolerance,
    dry_run: bool,
    forgotten: Vec<Id>,
) -> Result<Exit> {
    let request = PruneRequest { max_unused_percent: percent(&tolerance.max_unused)?, dry_run, forgotten };
    let follower = Follower::start(control, Work::Check, place.json);
    let report = repository::prune(repository, &lock_owner(), &request, control);
    drop(follower);
    let report = report?;
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "dry_run": dry_run,
            "packs_removed": report.packs_removed, "packs_repacked": report.packs_repacked,
            "bytes_removed": report.bytes_removed, "bytes_repacked": report.bytes_repacked,
            "bytes_after": report.bytes_after,
        }))?;
    } else {
        terminal::out(format!(
            "{} {} ({}), {} {} ({}); {} {}",
            if dry_run { "would remove" } else { "removed" },
            words::counted(report.packs_removed, "pack", "packs"),
            words::bytes(report.bytes_removed),
            if dry_run { "would repack" } else { "repacked" },
            words::counted(report.packs_repacked, "pack", "packs"),
            words::bytes(report.bytes_repacked),
            words::bytes(report.bytes_after),
            if dry_run { "would remain" } else { "remain" },
        ))?;
    }
    Ok(Exit::Done)
}

fn percent(text: &str) -> Result<f64, Failure> {
    let number = text.trim().trim_end_matches('%').parse::<f64>().ok();
    match number {
        _ if text == "unlimited" => Ok(100.0),
        Some(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err(Failure::usage(format!("--max-unused '{text}' is no percentage, like 5%"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tolerance_is_a_percentage() {
        assert_eq!(percent("5%").unwrap(), 5.0);
        assert_eq!(percent("0").unwrap(), 0.0);
        assert_eq!(percent("unlimited").unwrap(), 100.0);
        for wrong in ["", "-1", "101%", "NaN", "5G"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
