//! `rescue replicate`: copies a store to another place, without any passcode.

use anyhow::Result;
use recovery::work::{Replicated, replicate};
use serde_json::json;

use super::Place;
use crate::cli::repo::open_storage;
use crate::exit::Exit;
use crate::progress::{Follower, Work, printable};
use crate::{terminal, words};

/// Where to.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// An empty directory or part of a bucket (s3://bucket/prefix), or one that holds an earlier copy of the same store
    #[arg(long, value_name = "URL")]
    to: String,
}

/// Copies, and tells what was copied. Incomplete if a backup could not be.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (store, control) = place.open()?;
    let to = open_storage(&arguments.to, "place for a copy")?;
    let follower = Follower::start(&control, Work::Check, place.json);
    let done = replicate(&store, to, &control);
    drop(follower);
    tell(&done?, place.json)
}

fn tell(done: &Replicated, as_json: bool) -> Result<Exit> {
    if as_json {
        let skipped: Vec<_> =
            done.skipped.iter().map(|(name, why)| json!({"backupName": name, "reason": why})).collect();
        terminal::out_json(&json!({
            "copied": done.copied, "unchanged": done.unchanged, "skipped": skipped, "files": done.files,
            "bytes": done.bytes,
        }))?;
    } else {
        terminal::out(format!(
            "{} copied, {} unchanged: {} in {}",
            words::counted(done.copied.len() as u64, "backup", "backups"),
            done.unchanged,
            words::bytes(done.bytes),
            words::counted(done.files, "file", "files")
        ))?;
    }
    for (name, why) in &done.skipped {
        terminal::warn(format!("not copied: {}: {}", printable(name), printable(why)));
    }
    Ok(if done.skipped.is_empty() { Exit::Done } else { Exit::Incomplete })
}
