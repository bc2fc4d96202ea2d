//! `repo backup`: files and directories into a new snapshot.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use repository::{BackupOutcome, BackupRequest, Compression, Control, LockKind};
use serde_json::{Value, json};

use super::place::{Place, user_name};
use super::short;
use crate::exit::{Exit, Failure};
use crate::progress::{self, Follower, Work};
use crate::{terminal, words};

/// What is backed up and how.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Files and directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A tag for the snapshot; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Leave out what matches this pattern; may be given several times
    #[arg(long = "exclude", short = 'e', value_name = "PATTERN")]
    excludes: Vec<String>,
    /// How hard to compress
    #[arg(long, value_enum, default_value = "auto")]
    compression: CompressionName,
    /// Read and compare, store nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Read every file again, changed or not
    #[arg(long, short = 'f')]
    force: bool,
    /// The snapshot to compare with (default: the newest of the same host and paths)
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<String>,
    /// The host name to write into the snapshot (default: this machine's)
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

/// How hard to compress, in restic's words.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompressionName {
    Off,
    Fastest,
    Auto,
    Max,
}

impl From<CompressionName> for Compression {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::Off => Self::Off,
            CompressionName::Fastest => Self::Fastest,
            CompressionName::Auto => Self::Auto,
            CompressionName::Max => Self::Max,
        }
    }
}

/// Runs the backup.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let started = Instant::now();
    let (repository, control) = place.open()?;
    let _lock = place.lock(&repository, LockKind::Shared)?;
    let parent = match &arguments.parent {
        Some(text) => Some(repository.find_snapshot(text)?.0),
        None => None,
    };
    let index = repository.load_index(&|_| true)?;
    let mut request = BackupRequest::new(existing(&arguments.paths, &control)?);
    request.excludes = arguments.excludes.clone();
    request.tags = arguments.tags.iter().flat_map(|tags| tags.split(',')).map(str::to_owned).collect();
    request.hostname = arguments.host.clone().unwrap_or_else(words::host_name);
    request.username = user_name();
    request.compression = arguments.compression.into();
    request.parent = parent;
    request.force = arguments.force;
    request.dry_run = arguments.dry_run;

    let follower = Follower::start(&control, Work::Backup, place.json);
    let outcome = repository::backup(&repository, &index, &request, &control);
    drop(follower);
    progress::tell_warnings(&control, Work::Backup, place.json);
    let outcome = outcome?;
    if place.json {
        terminal::out_json(&summary(&outcome, started.elapsed().as_secs_f64()))?;
    } else {
        tell(&outcome, started.elapsed())?;
    }
    Ok(if control.warning_count() > 0 { Exit::Incomplete } else { Exit::Done })
}

/// The paths, absolute. As with restic, one that is not there is named and left out, unless none is there.
fn existing(paths: &[PathBuf], control: &Control) -> Result<Vec<PathBuf>> {
    let absolute = paths.iter().map(std::path::absolute).collect::<Result<Vec<_>, _>>()?;
    let is_missing =
        |path: &PathBuf| path.symlink_metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound);
    let (missing, existing): (Vec<_>, Vec<_>) = absolute.into_iter().partition(is_missing);
    if existing.is_empty() {
        let named: Vec<_> =
            missing.iter().map(|path| progress::printable(&path.display().to_string())).collect();
        return Err(Failure::new(
            Exit::Failed,
            format!("nothing to back up: there is no {}", named.join(", no ")),
        )
        .into());
    }
    for path in missing {
        control.warn(path.display().to_string(), "does not exist");
    }
    Ok(existing)
}

fn tell(outcome: &BackupOutcome, elapsed: std::time::Duration) -> std::io::Result<()> {
    let s = &outcome.summary;
    let three = |new: u64, changed: u64, unmodified: u64| {
        format!(
            "{:>8} new, {:>8} changed, {:>8} unmodified",
            words::count(new),
            words::count(changed),
            words::count(unmodified)
        )
    };
    terminal::out(format!("files:       {}", three(s.files_new, s.files_changed, s.files_unmodified)))?;
    terminal::out(format!("directories: {}", three(s.dirs_new, s.dirs_changed, s.dirs_unmodified)))?;
    terminal::out(format!(
        "processed {}, {} in {}",
        words::counted(s.total_files_processed, "file", "files"),
        words::bytes(s.total_bytes_processed),
        words::duration(elapsed)
    ))?;
    let added = words::bytes(s.data_added);
    match outcome.snapshot {
        Some(id) => {
            terminal::out(format!("added {added}, {} as stored", words::bytes(s.data_added_packed)))?;
            terminal::out(format!("snapshot {} saved", short(&id.to_string())))
        }
        None => terminal::out(format!("would add {added} before compression; nothing was stored")),
    }
}

fn summary(outcome: &BackupOutcome, seconds: f64) -> Value {
    let s = &outcome.summary;
    let mut summary = json!({
        "message_type": "summary",
        "files_new": s.files_new, "files_changed": s.files_changed, "files_unmodified": s.files_unmodified,
        "dirs_new": s.dirs_new, "dirs_changed": s.dirs_changed, "dirs_unmodified": s.dirs_unmodified,
        "data_blobs": s.data_blobs, "tree_blobs": s.tree_blobs,
        "data_added": s.data_added, "data_added_packed": s.data_added_packed,
        "total_files_processed": s.total_files_processed, "total_bytes_processed": s.total_bytes_processed,
        "total_duration": seconds,
    });
    match outcome.snapshot {
        Some(id) => summary["snapshot_id"] = json!(id.to_string()),
        None => summary["dry_run"] = json!(true),
    }
    summary
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_is_named_and_left_out_unless_none_is_there() {
        let place = tempfile::tempdir().unwrap();
        let (there, missing) = (place.path().to_owned(), place.path().join("missing"));
        let control = Control::new();
        assert_eq!(existing(&[there.clone(), missing.clone()], &control).unwrap(), [there]);
        assert_eq!(control.warnings()[0].item, missing.display().to_string());
        assert!(existing(&[missing], &control).is_err());
    }
}
