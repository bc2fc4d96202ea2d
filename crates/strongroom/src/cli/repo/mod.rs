//! `strongroom repo`: a plain restic v2 repository, with restic's words and meaning.
//!
//! Every verb opens the repository, takes the lock that restic would take, works, and tells the outcome on standard
//! output: text for people, or with `--json` one object a line in restic's form where restic has one.

mod backup;
mod check;
mod copy;
mod diff;
mod dump;
mod filter;
mod find;
mod forget;
mod key;
mod lists;
mod look;
#[cfg(feature = "mount")]
mod mount;
#[cfg(not(feature = "mount"))]
#[path = "mount/absent.rs"]
mod mount;
mod place;
mod prune;
mod repair;
mod restore;
mod sizes;
mod stats;
mod stream;
mod tag;
pub mod times;
mod whereabouts;

use anyhow::Result;
use clap::Subcommand;

use crate::exit::Exit;
use crate::{terminal, words};
pub use check::tell as tell_report;
use place::Place;
pub use place::{lock_owner, open_storage};

/// Arguments of `strongroom repo`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Make a new repository
    Init,
    /// Back up files and directories as a new snapshot
    Backup(backup::Arguments),
    /// List the snapshots
    Snapshots(look::SnapshotsArguments),
    /// List what is in a snapshot
    Ls(look::LsArguments),
    /// Find files and directories in snapshots
    Find(find::Arguments),
    /// Write a file of a snapshot, or a directory as a tar or zip archive, to standard output
    Dump(dump::Arguments),
    /// Tell what differs between two snapshots
    Diff(diff::Arguments),
    /// Restore a snapshot, or a part of it, into a directory
    Restore(restore::Arguments),
    /// Show the snapshots as a read-only file system, until Ctrl-C or `umount`
    #[cfg_attr(not(feature = "mount"), command(hide = true))]
    Mount(mount::Arguments),
    /// Look for damage
    Check(check::Arguments),
    /// Remove snapshots: those named, or those that no rule keeps
    Forget(forget::Arguments),
    /// Free the space that no snapshot needs
    Prune(prune::Arguments),
    /// Copy snapshots of another repository into this one
    Copy(copy::Arguments),
    /// Change the tags of snapshots
    Tag(tag::Arguments),
    /// List, add, remove and change the passcodes that open the repository
    #[command(subcommand)]
    Key(key::Verb),
    /// Make the best of a damaged repository: first `index`, then `packs`, then `snapshots`
    #[command(subcommand)]
    Repair(repair::Verb),
    /// The same as `repair index`, as restic 0.14 calls it
    #[command(hide = true)]
    RebuildIndex(repair::IndexArguments),
    /// Count what is in snapshots, or what is stored for them
    Stats(stats::Arguments),
    /// Remove locks of dead processes of this machine, and those that nobody has refreshed for half an hour
    Unlock(UnlockArguments),
}

#[derive(clap::Args, Debug)]
struct UnlockArguments {
    /// Remove every lock, also one that is in use
    #[arg(long)]
    remove_all: bool,
}

impl Arguments {
    /// Whether `--json` was given.
    pub fn in_json(&self) -> bool {
        self.place.json
    }
}

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    match &arguments.verb {
        Verb::Init => init(place),
        Verb::Backup(arguments) => backup::run(place, arguments),
        Verb::Snapshots(arguments) => look::snapshots(place, arguments),
        Verb::Ls(arguments) => look::ls(place, arguments),
        Verb::Find(arguments) => find::run(place, arguments),
        Verb::Dump(arguments) => dump::run(place, arguments),
        Verb::Diff(arguments) => diff::run(place, arguments),
        Verb::Restore(arguments) => restore::run(place, arguments),
        Verb::Mount(arguments) => mount::run(place, arguments),
        Verb::Check(arguments) => check::run(place, arguments),
        Verb::Forget(arguments) => forget::run(place, arguments),
        Verb::Prune(arguments) => prune::run(place, arguments),
        Verb::Copy(arguments) => copy::run(place, arguments),
        Verb::Tag(arguments) => tag::run(place, arguments),
        Verb::Key(verb) => key::run(place, verb),
        Verb::Repair(verb) => repair::run(place, verb),
        Verb::RebuildIndex(arguments) => repair::index(place, arguments),
        Verb::Stats(arguments) => stats::run(place, arguments),
        Verb::Unlock(arguments) => unlock(place, arguments),
    }
}

fn init(place: &Place) -> Result<Exit> {
    let repository = place.init()?;
    let location = repository.storage().location();
    if place.json {
        terminal::out_json(&serde_json::json!({
            "message_type": "initialized", "id": repository.id(), "repository": location,
        }))?;
    } else {
        terminal::out(format!("made repository {} at {location}", short(repository.id())))?;
        terminal::note("keep the passcode: without it the repository cannot be read by anybody");
    }
    Ok(Exit::Done)
}

fn unlock(place: &Place, arguments: &UnlockArguments) -> Result<Exit> {
    let (repository, _control) = place.open()?;
    let removed = if arguments.remove_all {
        repository.remove_all_locks()?
    } else {
        let here = whereabouts::Here::find();
        repository.unlock(&|hostname| here.wrote(hostname))?
    };
    let left = repository.storage().list_all("locks/")?.len() as u64;
    if place.json {
        terminal::out_json(&serde_json::json!({
            "message_type": "summary", "locks_removed": removed, "locks_left": left,
        }))?;
        return Ok(Exit::Done);
    }
    terminal::out(format!("removed {}", words::counted(removed, "lock", "locks")))?;
    if left > 0 {
        let locks = words::counted(left, "lock stays", "locks stay");
        terminal::note(format!(
            "{locks}: less than half an hour old, and not known to be of a dead process of this machine; --remove-all removes them too"
        ));
    }
    Ok(Exit::Done)
}

/// A walk of the engine can only be stopped by an error of the engine: that our output fails becomes one.
fn stopped(e: std::io::Error) -> repository::Error {
    let message = format!("cannot write the output: {e}");
    repository::Error { kind: repository::ErrorKind::Io, message, source: Some(Box::new(e)) }
}

/// The first eight characters of an id, as restic shows it.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}
