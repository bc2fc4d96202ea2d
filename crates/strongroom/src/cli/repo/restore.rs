//! `repo restore`: a snapshot, or a part of it, into a directory.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use repository::{Choice, Pattern, Patterns, RestoreRequest};
use serde_json::json;

use super::lists;
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
    #[command(flatten)]
    choice: Choosing,
    /// Read everything back and compare
    #[arg(long)]
    verify: bool,
}

/// `--include` and `--exclude`: patterns over the paths below the target.
#[derive(clap::Args, Debug)]
struct Choosing {
    /// Restore only what fits, and all that lies below it; may be given several times
    #[arg(
        long = "include",
        short = 'i',
        value_name = "PATTERN",
        group = "chosen",
        conflicts_with = "left-out"
    )]
    includes: Vec<String>,
    /// The same; upper and lower case count alike
    #[arg(long = "iinclude", value_name = "PATTERN", group = "chosen", conflicts_with = "left-out")]
    iincludes: Vec<String>,
    /// A file with a pattern for --include on each line
    #[arg(long = "include-file", value_name = "FILE", group = "chosen", conflicts_with = "left-out")]
    include_files: Vec<PathBuf>,
    /// Leave out what fits, and all that lies below it; may be given several times
    #[arg(long = "exclude", short = 'e', value_name = "PATTERN", group = "left-out")]
    excludes: Vec<String>,
    /// The same; upper and lower case count alike
    #[arg(long = "iexclude", value_name = "PATTERN", group = "left-out")]
    iexcludes: Vec<String>,
    /// A file with a pattern for --exclude on each line
    #[arg(long = "exclude-file", value_name = "FILE", group = "left-out")]
    exclude_files: Vec<PathBuf>,
}

impl Choosing {
    fn choice(&self) -> Result<Choice> {
        let gather =
            |exact: &[String], ignoring_case: &[String], files: &[PathBuf]| -> Result<Vec<Pattern>> {
                let mut patterns: Vec<Pattern> = exact.iter().map(Pattern::new).collect();
                patterns.extend(ignoring_case.iter().map(Pattern::ignoring_case));
                for file in files {
                    patterns.extend(lists::patterns(file)?.into_iter().map(Pattern::new));
                }
                Ok(patterns)
            };
        let included = gather(&self.includes, &self.iincludes, &self.include_files)?;
        let excluded = gather(&self.excludes, &self.iexcludes, &self.exclude_files)?;
        Ok(match (included.is_empty(), excluded.is_empty()) {
            (true, true) if self.include_files.is_empty() => Choice::All,
            (_, true) => Choice::Only(Patterns::new(&included)?),
            (_, false) => Choice::Without(Patterns::new(&excluded)?),
        })
    }
}

/// Runs the restore.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let started = Instant::now();
    let choice = arguments.choice.choice()?;
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
        choice,
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
