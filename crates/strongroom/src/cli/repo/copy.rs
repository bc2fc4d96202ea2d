//! `repo copy`: snapshots of another repository into this one.

use std::path::PathBuf;

use anyhow::Result;
use repository::{Copied, CopyRequest, LockKind};
use serde_json::json;

use super::backup::CompressionName;
use super::filter::Filter;
use super::place::{Place, open_repository};
use crate::exit::Exit;
use crate::progress::{Follower, Work};
use crate::{passcode, terminal, words};

/// What is copied from where.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Snapshots of the other repository by id or prefix, or `latest` (default: all)
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// The repository to copy from
    #[arg(long, alias = "from-repo", value_name = "URL", env = "STRONGROOM_FROM_REPOSITORY")]
    from_repository: String,
    /// File that holds its passcode (else STRONGROOM_FROM_PASSCODE, else a hidden prompt)
    #[arg(long, alias = "from-password-file", value_name = "FILE")]
    from_passcode_file: Option<PathBuf>,
    /// How hard to compress
    #[arg(long, value_enum, default_value = "auto")]
    compression: CompressionName,
}

/// Runs the copy.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (target, control) = place.open()?;
    let question = "Passcode of the repository to copy from: ";
    let from_passcode =
        passcode::existing(arguments.from_passcode_file.as_deref(), "STRONGROOM_FROM_PASSCODE", question)?;
    let source = place.patient(open_repository(&arguments.from_repository, &from_passcode)?, &control);
    let _read = place.lock_for_reading(&source)?;
    let lock = place.lock(&target, LockKind::Shared)?;
    let target = target.under(&lock);
    let (chosen, unreadable) = arguments.filter.choose(&source, &arguments.snapshots)?;
    let request = CopyRequest {
        snapshots: chosen.iter().map(|(id, _)| *id).collect(),
        compression: arguments.compression.into(),
    };
    let (mut new, mut already) = (0, 0);
    let mut told = Ok(());
    let follower = Follower::start(&control, Work::Check, place.json);
    let copied = repository::copy(&source, &target, &request, &control, &mut |id, outcome| {
        let (word, there) = match outcome {
            Copied::New(there) => ("copied", there),
            Copied::Already(there) => ("skipped", there),
        };
        *(if word == "copied" { &mut new } else { &mut already }) += 1;
        let line = if place.json {
            terminal::out_json(&json!({
                "message_type": word, "source_snapshot_id": id, "snapshot_id": there,
            }))
        } else if word == "copied" {
            terminal::out(format!("{} copied as {}", id.short(), there.short()))
        } else {
            terminal::out(format!("{} is there already as {}", id.short(), there.short()))
        };
        if told.is_ok() {
            told = line;
        }
    });
    drop(follower);
    copied?;
    told?;
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "snapshots_copied": new, "snapshots_skipped": already,
        }))?;
    } else {
        terminal::out(format!(
            "copied {}, {} were there already",
            words::counted(new, "snapshot", "snapshots"),
            words::count(already)
        ))?;
    }
    Ok(if unreadable { Exit::Damaged } else { Exit::Done })
}
