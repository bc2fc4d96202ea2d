//! `repo dump`: a file of a snapshot to standard output, or a directory as an archive.

use std::fs::File;
use std::io::{BufWriter, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::ValueEnum;
use repository::{ArchiveKind, NodeKind};

use super::filter::Filter;
use super::look::split;
use super::place::Place;
use crate::exit::{Exit, Failure};
use crate::progress::{self, Work};

/// What is written where.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Id, prefix of an id, or `latest`; with `:PATH` the other path counts from there
    #[arg(value_name = "SNAPSHOT[:PATH]")]
    snapshot: String,
    /// The file, or directory, in it
    path: String,
    #[command(flatten)]
    filter: Filter,
    /// The kind of archive that a directory becomes
    #[arg(long, short = 'a', value_enum, default_value = "tar")]
    archive: Archive,
    /// Write to this file instead of standard output
    #[arg(long, short = 't', value_name = "FILE")]
    target: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Archive {
    Tar,
    Zip,
}

impl From<Archive> for ArchiveKind {
    fn from(archive: Archive) -> Self {
        match archive {
            Archive::Tar => Self::Tar,
            Archive::Zip => Self::Zip,
        }
    }
}

/// Runs the dump.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (repository, control) = place.open_to_look()?;
    let _lock = place.lock_for_reading(&repository)?;
    let (snapshot, below) = split(&arguments.snapshot);
    let (_, snapshot) = repository::find_snapshot(&repository, snapshot, &arguments.filter.conditions()?)?;
    let (index, damaged) = repository.load_readable_index()?;
    for file in damaged {
        crate::terminal::warn(format!("damaged: {}; what only this index lists cannot be read", file.item));
    }
    let entry = |tree, path: &str| repository::entry_at(&repository, &index, tree, path.as_bytes());
    let mut tree = snapshot.tree;
    if let Some(path) = below
        && let Some(node) = entry(tree, path)?
    {
        tree = node.subtree.ok_or_else(|| not_dumped(path, "it is no directory"))?;
    }
    let node = entry(tree, &arguments.path)?;
    let mut out = open(arguments)?;
    match &node {
        Some(file) if file.kind == NodeKind::File => {
            repository::dump_file(&repository, &index, file, &control, &mut out)?;
        }
        directory => {
            let listing = match directory {
                Some(node) => node
                    .subtree
                    .ok_or_else(|| not_dumped(&arguments.path, "it is neither a file nor a directory"))?,
                None => tree,
            };
            if arguments.target.is_none() && std::io::stdout().is_terminal() {
                return Err(Failure::usage("an archive is not for a terminal")
                    .hint("redirect standard output, or use --target FILE")
                    .into());
            }
            let place = (listing, arguments.path.as_bytes());
            let kind = arguments.archive.into();
            repository::dump_archive(
                &repository,
                &index,
                kind,
                place,
                directory.as_ref(),
                &control,
                &mut out,
            )?;
        }
    }
    out.finish()?;
    progress::tell_warnings(&control, Work::Restore, place.json);
    Ok(if control.warning_count() > 0 { Exit::Incomplete } else { Exit::Done })
}

fn not_dumped(path: &str, why: &str) -> Failure {
    Failure::new(Exit::Failed, format!("'{}' cannot be dumped: {why}", progress::printable(path)))
}

/// Where the content goes.
enum Out {
    Standard(std::io::StdoutLock<'static>),
    File(BufWriter<File>),
}

fn open(arguments: &Arguments) -> Result<Out> {
    Ok(match &arguments.target {
        None => Out::Standard(std::io::stdout().lock()),
        Some(path) => Out::File(BufWriter::new(
            File::create(path).with_context(|| format!("cannot write to {}", path.display()))?,
        )),
    })
}

impl Out {
    fn finish(self) -> std::io::Result<()> {
        match self {
            Self::Standard(mut out) => out.flush(),
            Self::File(file) => file.into_inner().map_err(|e| e.into_error())?.sync_all(),
        }
    }
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Standard(out) => out.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Standard(out) => out.flush(),
            Self::File(file) => file.flush(),
        }
    }
}
