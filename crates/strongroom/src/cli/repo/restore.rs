//! `repo restore`: a snapshot, or a part of it, into a directory.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use repository::RestoreRequest;
use serde_json::json;

use super::look::split;
use super::place::Place;
use crate::exit::Exit;
use crate::progress::{self, Follower, Work};
use crate::{terminal, words};

/// What is restored and whereto.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Id, prefix of an id, or `latest`; with `:PATH` the contents of that directory
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,
    /// The directory to restore into; made if need be
    #[arg(long, short = 't', value_name = "DIR")]
    target: PathBuf,
    /// Read everything back and compare
    #[arg(long)]
    verify: bool,
}

/// Runs the restore.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let started = Instant::now();
    let (repository, control) = place.open()?;
    let _lock = place.lock_for_reading(&repository)?;
    let (snapshot, path) = split(&arguments.snapshot);
    let (id, _) = repository.find_snapshot(snapshot)?;
    let (index, damaged) = repository.load_readable_index()?;
    for file in damaged {
        terminal::warn(format!(
            "damaged: {}; content that only this index lists cannot be restored",
            file.item
        ));
    }
    let request = RestoreRequest {
        snapshot: id,
        subpath: path.map(|path| path.as_bytes().to_vec()),
        target: std::path::absolute(&arguments.target)?,
        reuse_from: None,
        verify: arguments.verify,
    };
    let follower = Follower::start(&control, Work::Restore, place.json);
    let outcome = repository::restore(&repository, &index, &request, &control);
    drop(follower);
    progress::tell_warnings(&control, Work::Restore, place.json);
    let outcome = outcome?;
    let elapsed = started.elapsed();
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "seconds_elapsed": elapsed.as_secs(),
            "total_files": outcome.files + outcome.dirs + outcome.other,
            "files_restored": outcome.files + outcome.dirs + outcome.other,
            "total_bytes": outcome.bytes, "bytes_restored": outcome.bytes - outcome.bytes_reused,
            "bytes_skipped": outcome.bytes_reused, "verified": arguments.verify,
        }))?;
    } else {
        terminal::out(format!(
            "restored {}, {} to {} in {}{}{}",
            words::counted(outcome.files, "file", "files"),
            words::bytes(outcome.bytes),
            request.target.display(),
            words::duration(elapsed),
            match outcome.bytes_reused {
                0 => String::new(),
                bytes => format!(", {} of it right already", words::bytes(bytes)),
            },
            if arguments.verify { ", read back and compared" } else { "" }
        ))?;
    }
    Ok(if control.warning_count() > 0 { Exit::Incomplete } else { Exit::Done })
}
