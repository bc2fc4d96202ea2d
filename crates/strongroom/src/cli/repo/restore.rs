//! `repo restore`: a snapshot, or a part of it, into a directory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use repository::{
    Choice, Control, Existing, Index, Pattern, Patterns, Planned, Repository, RestoreRequest, plan_restore,
};
use serde_json::json;

use super::lists;
use super::look::split;
use super::place::Place;
use super::stopped;
use crate::exit::{Exit, Failure};
use crate::progress::{self, Follower, Work, printable};
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
    /// What becomes of files that are there already
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    overwrite: Overwrite,
    /// Remove what lies in restored directories and is not in the snapshot; --include and --exclude count here too
    #[arg(long)]
    delete: bool,
    /// Planned nothing; tell what would be made, changed and removed
    #[arg(long, short = 'n', conflicts_with = "verify")]
    dry_run: bool,
    /// Read everything back and compare
    #[arg(long)]
    verify: bool,
}

/// restic's words for [`Existing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Overwrite {
    /// They are read, and what differs in them is written
    #[default]
    Always,
    /// The same, but those of the same size and time of change are not read
    IfChanged,
    /// Those that are as young as the snapshot's, or younger, stay as they are
    IfNewer,
    /// They stay as they are
    Never,
}

impl Overwrite {
    fn existing(self) -> Existing {
        match self {
            Self::Always => Existing::MadeEqual,
            Self::IfChanged => Existing::MadeEqualUnlessAlike,
            Self::IfNewer => Existing::KeptIfYounger,
            Self::Never => Existing::Kept,
        }
    }
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
    let target = std::path::absolute(&arguments.target)?;
    refuse_nonsense(arguments, &choice, &target)?;
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
        subpath: path.map(|path| path.as_bytes().to_vec()),
        choice,
        existing: arguments.overwrite.existing(),
        remove_others: arguments.delete,
        verify: arguments.verify,
        ..RestoreRequest::new(id, target)
    };
    if arguments.dry_run {
        return tell_plan(place, &repository, &index, &request, &control);
    }
    let follower = Follower::start(&control, Work::Restore, place.json);
    let outcome = repository::restore(&repository, &index, &request, &control);
    drop(follower);
    progress::tell_warnings(&control, Work::Restore, place.json);
    let outcome = outcome?;
    let elapsed = started.elapsed();
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "seconds_elapsed": elapsed.as_secs(),
            "total_files": outcome.files + outcome.dirs + outcome.other + outcome.kept,
            "files_restored": outcome.files + outcome.dirs + outcome.other,
            "total_bytes": outcome.bytes, "bytes_restored": outcome.bytes - outcome.bytes_reused,
            "bytes_skipped": outcome.bytes_reused, "files_skipped": outcome.kept,
            "files_deleted": outcome.removed, "verified": arguments.verify,
        }))?;
    } else {
        terminal::out(format!(
            "restored {}, {} to {} in {}{}{}{}{}",
            words::counted(outcome.files, "file", "files"),
            words::bytes(outcome.bytes),
            request.target.display(),
            words::duration(elapsed),
            match outcome.bytes_reused {
                0 => String::new(),
                bytes => format!(", {} of it right already", words::bytes(bytes)),
            },
            match outcome.kept {
                0 => String::new(),
                kept => format!(", {} kept as they are", words::counted(kept, "entry", "entries")),
            },
            match outcome.removed {
                0 => String::new(),
                removed => format!(", {} removed", words::counted(removed, "entry", "entries")),
            },
            if arguments.verify { ", read back and compared" } else { "" }
        ))?;
    }
    Ok(if control.warning_count() > 0 { Exit::Incomplete } else { Exit::Done })
}

/// What nobody can mean.
fn refuse_nonsense(arguments: &Arguments, choice: &Choice, target: &Path) -> Result<()> {
    let target = std::fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
    if arguments.delete && target.parent().is_none() && !matches!(choice, Choice::Only(_)) {
        return Err(Failure::usage("--delete would remove all of this machine that is not in the snapshot")
            .hint("say with --include what it may touch, or restore into another directory")
            .into());
    }
    if arguments.verify && matches!(arguments.overwrite, Overwrite::IfNewer | Overwrite::Never) {
        return Err(Failure::usage(
            "--verify compares everything with the snapshot, and files that stay may differ",
        )
        .hint("leave out --verify, or use --overwrite always or if-changed")
        .into());
    }
    Ok(())
}

/// The dry run: a line for each change, then how many there are.
fn tell_plan(
    place: &Place,
    repository: &Repository,
    index: &Index,
    request: &RestoreRequest,
    control: &Control,
) -> Result<Exit> {
    let plan = plan_restore(repository, index, request, control, &mut |path, change, bytes| {
        let item = String::from_utf8_lossy(path);
        let (sign, action) = match change {
            Planned::Made => ('+', "restored"),
            Planned::MadeEqual => ('M', "updated"),
            Planned::Removed => ('-', "deleted"),
        };
        let told = if place.json {
            terminal::out_json(&json!({
                "message_type": "verbose_status", "action": action, "item": item, "size": bytes,
            }))
        } else {
            terminal::out(format!("{sign} {}", printable(&item)))
        };
        told.map_err(stopped)
    })?;
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "dry_run": true,
            "files_restored": plan.made, "files_updated": plan.made_equal, "files_unchanged": plan.unchanged,
            "files_skipped": plan.kept, "files_deleted": plan.removed, "bytes_restored": plan.bytes,
        }))?;
    } else {
        terminal::out(format!(
            "would make {}, change {} and remove {}, and write {}; {} are right already, {} would be kept",
            words::counted(plan.made, "entry", "entries"),
            plan.made_equal,
            plan.removed,
            words::bytes(plan.bytes),
            plan.unchanged,
            plan.kept,
        ))?;
    }
    Ok(Exit::Done)
}
