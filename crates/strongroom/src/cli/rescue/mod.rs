//! `strongroom rescue`: lists, verifies, copies and restores backups, and rebuilds a server, with nothing but a store and a passcode. No server, no
//! state, no configuration: this is what is left after everything else is gone.

mod postgresql;
mod rebuild;
mod replicate;
mod restore;
mod verify;

use anyhow::Result;
use clap::Subcommand;
use recovery::BackupView;
use recovery::store::Store;
use serde_json::{Value, json};

use super::repo::open_storage;
use crate::exit::Exit;
use crate::passcode::PasscodeSource;
use crate::progress::printable;
use crate::{interrupt, terminal, words};

pub use restore::{Rescue, restore_into};

/// Arguments of `strongroom rescue`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

/// Which store, and what opens its backups.
#[derive(clap::Args, Debug)]
struct Place {
    /// The store: a directory, s3://bucket/prefix, azblob://container/prefix, gs://bucket/prefix, or
    /// s3:https://host/bucket/prefix; rights come from the environment, a profile, or the machine's role
    #[arg(
        long,
        value_name = "URL",
        env = "STRONGROOM_STORE",
        global = true,
        default_value = "",
        hide_default_value = true
    )]
    store: String,
    #[command(flatten)]
    passcode: PasscodeSource,
    /// One JSON object a line on standard output
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the backups of the store (needs no passcode)
    Backups,
    /// Look for damage, and name each damaged file
    Verify(verify::Arguments),
    /// Copy the store to another place (needs no passcode)
    Replicate(replicate::Arguments),
    /// Restore a backup into a directory
    Restore(restore::Arguments),
    /// Restore a database server whose log is in the backup, as it was at any instant, into a directory of data
    Postgresql(postgresql::Arguments),
    /// Put the server's own configuration, keys and state in their places on a new machine
    Rebuild(rebuild::Arguments),
}

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    match &arguments.verb {
        Verb::Backups => backups(place),
        Verb::Verify(arguments) => verify::run(place, arguments),
        Verb::Replicate(arguments) => replicate::run(place, arguments),
        Verb::Restore(arguments) => restore::run(place, arguments),
        Verb::Postgresql(arguments) => postgresql::run(place, arguments),
        Verb::Rebuild(arguments) => rebuild::run(place, arguments),
    }
}

impl Place {
    /// Opens the store. From now on Ctrl-C cancels the control.
    fn open(&self) -> Result<(Store, std::sync::Arc<repository::Control>)> {
        if self.store.is_empty() {
            return Err(crate::exit::Failure::usage("which store?")
                .hint("use --store DIR, or set STRONGROOM_STORE")
                .into());
        }
        let store = Store::open(open_storage(&self.store, "store")?)?;
        let control = repository::Control::new();
        interrupt::cancels(&control)?;
        Ok((store, control))
    }
}

fn backups(place: &Place) -> Result<Exit> {
    let (store, _control) = place.open()?;
    let (entries, damaged) = store.backups()?;
    let mut views: Vec<BackupView> = entries.iter().map(|entry| entry.view(&store.identity().name)).collect();
    views.sort_by_key(|view| std::cmp::Reverse(view.start_time));
    if place.json {
        for view in &views {
            terminal::out_json(&view_json(view))?;
        }
    } else {
        let store_name = printable(&store.identity().name);
        terminal::out(format!(
            "store {store_name} ({}): {}",
            store.identity().id,
            words::counted(views.len() as u64, "backup", "backups")
        ))?;
        for view in &views {
            tell(view)?;
        }
    }
    for finding in &damaged {
        terminal::warn(format!("damaged: {}: {}", finding.file, finding.problem));
    }
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::Damaged })
}

fn tell(view: &BackupView) -> std::io::Result<()> {
    terminal::out(format!(
        "\n{}  {}  {}",
        printable(&view.name),
        time_of(view.start_time),
        printable(&view.status.replace('_', " "))
    ))?;
    if !view.description.is_empty() {
        terminal::out(format!("  {}", printable(&view.description)))?;
    }
    for component in &view.components {
        terminal::out(format!(
            "  {}  {}, {}  from {}",
            printable(&component.name),
            words::counted(component.files, "file", "files"),
            words::bytes(component.bytes),
            printable(&component.place)
        ))?;
    }
    if !view.warnings.is_empty() {
        let warnings = words::counted(view.warnings.len() as u64, "warning", "warnings");
        terminal::out(format!("  {warnings}; `rescue restore` tells each: mostly what could not be read"))?;
    }
    Ok(())
}

fn view_json(view: &BackupView) -> Value {
    let components: Vec<_> = view
        .components
        .iter()
        .map(|c| {
            json!({"kind": c.kind, "name": c.name, "place": c.place, "snapshotId": c.snapshot_id, "status": c.status,
                "files": c.files, "bytes": c.bytes})
        })
        .collect();
    json!({
        "backupName": view.name, "status": view.status, "description": view.description, "siteName": view.site_name,
        "release": view.release, "startTime": view.start_time, "completeTime": view.complete_time,
        "retentionDate": view.retention_date, "vault": view.vault, "files": view.files_total,
        "bytes": view.bytes_read, "components": components, "warnings": view.warnings,
    })
}

/// An instant in this machine's time zone: `2026-03-01 10:15:30`.
fn time_of(milliseconds: i64) -> String {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) => {
            time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
        }
        Err(_) => "at an unknown time".to_owned(),
    }
}
