//! `repo backup`: files and directories into a new snapshot.

use std::ffi::OsString;
use std::io::Read;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;
use repository::{BackupOutcome, BackupRequest, Compression, Control, LockKind, Marker};
use serde_json::{Value, json};

use super::place::{Place, user_name};
use super::stream::FromCommand;
use super::{lists, short, sizes, times};
use crate::exit::{Exit, Failure};
use crate::progress::{self, Follower, Work};
use crate::{terminal, words};

/// What is backed up and how.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Files and directories; with --stdin-from-command the command and its arguments
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A tag for the snapshot; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    leaving_out: LeavingOut,
    #[command(flatten)]
    lists: Lists,
    /// Back up what comes on standard input, as one file
    #[arg(long, conflicts_with = "lists")]
    stdin: bool,
    /// Back up what a command writes, as one file, if it ends with 0
    #[arg(long, requires = "paths", conflicts_with_all = ["lists", "stdin"])]
    stdin_from_command: bool,
    /// The name of that file; directories may stand in front
    #[arg(long, value_name = "NAME", default_value = "stdin")]
    stdin_filename: PathBuf,
    /// How hard to compress
    #[arg(long, value_enum, default_value = "auto")]
    compression: CompressionName,
    /// Read and compare, store nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Read every file again, changed or not
    #[arg(long, short = 'f')]
    force: bool,
    /// Take a file for unchanged though its inode or change time is another one
    #[arg(long)]
    ignore_inode: bool,
    /// Take a file for unchanged though its change time is another one
    #[arg(long)]
    ignore_ctime: bool,
    /// The snapshot to compare with (default: the newest of the same host and paths)
    #[arg(long, value_name = "SNAPSHOT")]
    parent: Option<String>,
    /// The host name to write into the snapshot (default: this machine's)
    #[arg(long, short = 'H', value_name = "NAME")]
    host: Option<String>,
    /// The time that the snapshot bears (default: now)
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
}

/// What is left out.
#[derive(clap::Args, Debug)]
struct LeavingOut {
    /// Leave out what matches this pattern; may be given several times
    #[arg(long = "exclude", short = 'e', value_name = "PATTERN")]
    excludes: Vec<String>,
    /// The same, in upper or lower case
    #[arg(long = "iexclude", value_name = "PATTERN")]
    ignoring_case: Vec<String>,
    /// Leave out what matches a pattern in this file; may be given several times
    #[arg(long = "exclude-file", value_name = "FILE")]
    exclude_files: Vec<PathBuf>,
    /// The same, in upper or lower case
    #[arg(long = "iexclude-file", value_name = "FILE")]
    ignoring_case_files: Vec<PathBuf>,
    /// Leave out what lies beside a CACHEDIR.TAG
    #[arg(long)]
    exclude_caches: bool,
    /// Leave out what lies beside a file of this name, if it begins with HEADER; may be given several times
    #[arg(long = "exclude-if-present", value_name = "NAME[:HEADER]")]
    exclude_if_present: Vec<OsString>,
    /// Leave out files larger than this, like 100M
    #[arg(long, value_name = "SIZE")]
    exclude_larger_than: Option<String>,
    /// Leave out what lies on other file systems
    #[arg(long, short = 'x')]
    one_file_system: bool,
}

/// Files that list what is backed up.
#[derive(clap::Args, Debug)]
#[group(id = "lists", multiple = true)]
struct Lists {
    /// Back up what this file lists, a path or pattern a line; may be given several times
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// Back up what this file lists, a path a line as it stands there
    #[arg(long, value_name = "FILE")]
    files_from_verbatim: Vec<PathBuf>,
    /// Back up what this file lists, each path ended by a zero byte
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,
}

impl LeavingOut {
    fn put_into(&self, request: &mut BackupRequest) -> Result<()> {
        request.excludes = self.excludes.clone();
        for file in &self.exclude_files {
            request.excludes.extend(lists::patterns(file)?);
        }
        let also = &mut request.also_exclude;
        also.ignoring_case = self.ignoring_case.clone();
        for file in &self.ignoring_case_files {
            also.ignoring_case.extend(lists::patterns(file)?);
        }
        if self.exclude_caches {
            also.if_present.push(Marker::cache_directory());
        }
        for text in &self.exclude_if_present {
            let marker = Marker::parse(text).ok_or_else(|| {
                Failure::usage(format!("'{}' is no name of a file", text.to_string_lossy().escape_debug()))
            })?;
            also.if_present.push(marker);
        }
        also.larger_than = self.exclude_larger_than.as_deref().map(sizes::parse).transpose()?;
        also.other_file_systems = self.one_file_system;
        Ok(())
    }
}

impl Lists {
    fn read(&self) -> Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for file in &self.files_from {
            paths.extend(lists::paths(file)?);
        }
        for file in &self.files_from_verbatim {
            paths.extend(lists::paths_verbatim(file)?);
        }
        for file in &self.files_from_raw {
            paths.extend(lists::paths_raw(file)?);
        }
        Ok(paths)
    }
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
    let is_stream = arguments.stdin || arguments.stdin_from_command;
    let mut paths = arguments.lists.read()?;
    if !arguments.stdin_from_command {
        paths.extend(arguments.paths.iter().cloned());
    }
    if arguments.stdin && !paths.is_empty() {
        return Err(Failure::usage("--stdin takes no paths").into());
    }
    if !is_stream && paths.is_empty() {
        return Err(Failure::usage("back up what?")
            .hint("name files and directories, or a list of them")
            .into());
    }
    let mut request = BackupRequest::new(Vec::new());
    arguments.leaving_out.put_into(&mut request)?;
    request.tags = arguments.tags.iter().flat_map(|tags| tags.split(',')).map(str::to_owned).collect();
    request.hostname = arguments.host.clone().unwrap_or_else(words::host_name);
    request.username = user_name();
    request.compression = arguments.compression.into();
    request.force = arguments.force;
    request.ignore_inode = arguments.ignore_inode;
    request.ignore_ctime = arguments.ignore_ctime;
    request.time = arguments.time.as_deref().map(times::parse).transpose()?;
    request.dry_run = arguments.dry_run;

    let (repository, control) = place.open()?;
    let lock = place.lock(&repository, LockKind::Shared)?;
    let repository = repository.under(&lock);
    if let Some(text) = &arguments.parent {
        request.parent = Some(repository.find_snapshot(text)?.0);
    }
    if !is_stream {
        request.paths = existing(&paths, &control)?;
    }
    let index = repository.load_index_to_add(&control)?;
    let follower = Follower::start(&control, Work::Backup, place.json);
    let outcome = if is_stream {
        let mut input: Box<dyn Read> = if arguments.stdin {
            Box::new(std::io::stdin().lock())
        } else {
            let words: Vec<OsString> = arguments.paths.iter().map(|word| word.clone().into()).collect();
            Box::new(FromCommand::start(&words)?)
        };
        let name = &arguments.stdin_filename;
        repository::backup_stream(&repository, &index, &request, name, &mut *input, &control)
    } else {
        repository::backup(&repository, &index, &request, &control)
    };
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
        "backup_start": s.backup_start, "backup_end": s.backup_end,
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
