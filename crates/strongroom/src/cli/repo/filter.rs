//! `--host`, `--tag`, `--path`: which snapshots a verb works on, the same for every verb.

use anyhow::Result;
use repository::{Repository, SnapshotFilter, Snapshots};

use crate::terminal;

/// Conditions on snapshots.
#[derive(clap::Args, Debug, Default)]
pub struct Filter {
    /// Only snapshots of this host; may be given several times
    #[arg(long = "host", value_name = "NAME")]
    hosts: Vec<String>,
    /// Only snapshots with all of these tags; may be given several times: with one of these lists
    #[arg(long = "tag", value_name = "TAG[,TAG…]")]
    tags: Vec<String>,
    /// Only snapshots of this path; may be given several times: of all of them
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<String>,
}

impl Filter {
    /// The conditions, as the engine takes them. Paths count from the working directory.
    pub fn conditions(&self) -> Result<SnapshotFilter> {
        let absolute = |path: &String| -> Result<String> {
            Ok(std::path::absolute(path)?.to_string_lossy().into_owned())
        };
        Ok(SnapshotFilter {
            hosts: self.hosts.clone(),
            tags: tag_lists(&self.tags),
            paths: self.paths.iter().map(absolute).collect::<Result<_>>()?,
        })
    }

    /// The snapshots that are named or, if none is, all that fit. Those that cannot be read are told; `true` if
    /// there are such.
    pub fn choose(&self, repository: &Repository, named: &[String]) -> Result<(Snapshots, bool)> {
        let (snapshots, unreadable) = repository::choose_snapshots(repository, named, &self.conditions()?)?;
        for warning in &unreadable {
            terminal::warn(format!("{}: {} (left alone)", warning.item, warning.reason));
        }
        Ok((snapshots, !unreadable.is_empty()))
    }
}

/// Each argument is a list: `a,b` means both.
pub fn tag_lists(arguments: &[String]) -> Vec<Vec<String>> {
    arguments.iter().map(|list| list.split(',').map(|tag| tag.trim().to_owned()).collect()).collect()
}
