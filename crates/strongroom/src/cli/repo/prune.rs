//! `repo prune`: frees the space that no snapshot needs.

use std::sync::Arc;

use anyhow::Result;
use repository::{Compression, Control, Id, PruneRequest, Repository};
use serde_json::json;

use super::backup::CompressionName;
use super::place::{Place, lock_owner};
use super::sizes;
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

/// What is worth its cost.
#[derive(clap::Args, Debug)]
pub struct Tolerance {
    /// Unused data that may stay: a percentage of the whole like 5%, a size like 2G, or unlimited
    #[arg(long, value_name = "LIMIT", default_value = "5%")]
    max_unused: String,
    /// Repack no more than this, like 10G; the packs with the most waste come first
    #[arg(long, value_name = "SIZE")]
    max_repack_size: Option<String>,
    /// Repack nothing but directory listings
    #[arg(long)]
    repack_cacheable_only: bool,
    /// Repack packs of less than four fifths of a new one's size, too
    #[arg(long)]
    repack_small: bool,
    /// Repack packs that hold uncompressed data, and compress it
    #[arg(long)]
    repack_uncompressed: bool,
    /// How hard to compress that
    #[arg(long, value_enum, default_value = "auto")]
    compression: CompressionName,
}

impl Tolerance {
    fn request(&self, dry_run: bool, forgotten: Vec<Id>) -> Result<PruneRequest, Failure> {
        let (max_unused_percent, max_unused_bytes) = limit(&self.max_unused)?;
        let compression = Compression::from(self.compression);
        if self.repack_uncompressed && compression == Compression::Off {
            return Err(Failure::usage("--repack-uncompressed does nothing with --compression off"));
        }
        Ok(PruneRequest {
            max_unused_percent,
            max_unused_bytes,
            max_repack_bytes: self.max_repack_size.as_deref().map(sizes::parse).transpose()?,
            trees_alone: self.repack_cacheable_only,
            repack_small: self.repack_small,
            repack_uncompressed: self.repack_uncompressed.then_some(compression),
            dry_run,
            forgotten,
        })
    }
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
    let request = tolerance.request(dry_run, forgotten)?;
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

/// A percentage, or a number of bytes that counts instead.
fn limit(text: &str) -> Result<(f64, Option<u64>), Failure> {
    if text == "unlimited" {
        return Ok((100.0, None));
    }
    let wrong = || {
        Failure::usage(format!("--max-unused '{}' is no limit", text.escape_debug()))
            .hint("write a percentage like 5%, a size like 2G, or unlimited")
    };
    match text.strip_suffix('%') {
        Some(number) => match number.trim().parse::<f64>() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok((percent, None)),
            _ => Err(wrong()),
        },
        None => Ok((0.0, Some(sizes::parse(text).map_err(|_| wrong())?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_percentage_a_size_or_none() {
        assert_eq!(limit("5%").unwrap(), (5.0, None));
        assert_eq!(limit("0").unwrap(), (0.0, Some(0)));
        assert_eq!(limit("2G").unwrap(), (0.0, Some(2 << 30)));
        assert_eq!(limit("unlimited").unwrap(), (100.0, None));
        for wrong in ["", "-1", "101%", "NaN%", "much"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
