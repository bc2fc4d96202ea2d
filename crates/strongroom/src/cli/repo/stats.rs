//! `repo stats`: sizes of snapshots, counted in one of restic's ways.

use anyhow::Result;
use clap::ValueEnum;
use repository::StatsMode;
use serde_json::{Value, json};

use super::filter::Filter;
use super::place::Place;
use crate::exit::Exit;
use crate::{terminal, words};

/// What is counted how.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Snapshots by id or prefix, or `latest` (default: all)
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// What is counted
    #[arg(long, value_enum, default_value = "restore-size")]
    mode: Mode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// What a restore of each snapshot writes
    RestoreSize,
    /// Each file content once
    FilesByContents,
    /// What is stored for these snapshots
    RawData,
    /// Each blob once a file
    BlobsPerFile,
}

impl From<Mode> for StatsMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::RestoreSize => Self::RestoreSize,
            Mode::FilesByContents => Self::FilesByContents,
            Mode::RawData => Self::RawData,
            Mode::BlobsPerFile => Self::BlobsPerFile,
        }
    }
}

/// Runs the count.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let (repository, control) = place.open_to_look()?;
    let _lock = place.lock_for_reading(&repository)?;
    let (chosen, unreadable) = arguments.filter.choose(&repository, &arguments.snapshots)?;
    let index = repository.load_index(&|_| true)?;
    let trees: Vec<_> = chosen.iter().map(|(_, snapshot)| snapshot.tree).collect();
    let stats = repository::stats(&repository, &index, &trees, arguments.mode.into(), &control)?;
    let exit = if unreadable { Exit::Damaged } else { Exit::Done };
    // As restic has it, over the blobs that are compressed.
    let ratio = stats.compressed.1 as f64 / stats.compressed.0.max(1) as f64;
    if place.json {
        let mut value = json!({"total_size": stats.size, "snapshots_count": chosen.len()});
        let mut put = |name: &str, number: Value| value[name] = number;
        if arguments.mode == Mode::RawData {
            put("total_uncompressed_size", json!(stats.uncompressed));
            put("compression_ratio", json!(ratio));
            put("compression_progress", json!(percent(stats.compressed.1, stats.uncompressed)));
            put("compression_space_saving", json!(100.0 - percent(stats.size, stats.uncompressed)));
        }
        if stats.files > 0 {
            put("total_file_count", json!(stats.files));
        }
        if stats.blobs > 0 {
            put("total_blob_count", json!(stats.blobs));
        }
        terminal::out_json(&value)?;
        return Ok(exit);
    }
    terminal::out(format!("snapshots: {}", words::count(chosen.len() as u64)))?;
    if stats.files > 0 {
        terminal::out(format!("entries:   {}", words::count(stats.files)))?;
    }
    if stats.blobs > 0 {
        terminal::out(format!("blobs:     {}", words::count(stats.blobs)))?;
    }
    terminal::out(format!("size:      {}", words::bytes(stats.size)))?;
    if arguments.mode == Mode::RawData {
        terminal::out(format!("without compression: {}", words::bytes(stats.uncompressed)))?;
    }
    Ok(exit)
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}
