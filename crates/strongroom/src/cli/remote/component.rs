//! `strongroom component`: what a running server protects.

use anyhow::Result;
use clap::Subcommand;

use super::{Place, list, shown, time};
use crate::client;
use crate::exit::Exit;
use crate::table::Table;

/// Arguments of `strongroom component`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List what is protected: whether it is there, and the last backup that holds it and lacks nothing
    List,
}

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    let Verb::List = arguments.verb;
    let answer = place.connect()?.get(client::COMPONENTS)?;
    place.tell(&answer["components"], || {
        let mut table = Table::new(["Component", "Kind", "Target", "Last backup", "Of", "Problem"]);
        for component in list(&answer["components"]) {
            let backup = shown(&component["backupName"]);
            let when = if backup.is_empty() { "none".to_owned() } else { time(&component["backupTime"]) };
            table.row([
                shown(&component["name"]),
                shown(&component["kind"]),
                shown(&component["target"]),
                when,
                backup,
                shown(&component["problem"]),
            ]);
        }
        table.text()
    })
}
