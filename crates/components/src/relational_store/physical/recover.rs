//! The databases of a server as they were at an instant: a server of our own replays the log in scratch (`replay`), and its
//! databases become a logical backup in scratch, which is restored as every other one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::{Compression, Control, Cost, Id, Index, Passcode, Repository, TreeSize};
use storage::{Directory, DirectoryOptions};

use super::super::cluster::Cluster;
use super::super::inventory;
use super::super::{Method, RelationalStore, backup};
use super::manifest::{Manifest, shown};
use super::replay::Replay;
use crate::drill::{Place, RECOVERED, ROWS};
use crate::{BackupContext, Error, ErrorKind, Hooks, Portion, Result, file_store};

/// What is to be recovered, and where.
pub(in super::super) struct Recovery<'a> {
    pub store: &'a RelationalStore,
    pub repository: &'a Repository,
    pub index: &'a Index,
    pub snapshot: Id,
    pub job_id: &'a str,
    /// Where servers of our own are made.
    pub directory: &'a Path,
    /// Milliseconds since 1970; `None`: the end of the backup.
    pub at: Option<i64>,
    /// What of it is wanted.
    pub portion: &'a Portion,
    pub control: &'a Arc<Control>,
}

/// The databases as they were, as a logical backup. It goes with this value.
pub(in super::super) struct Rows {
    pub repository: Repository,
    pub index: Index,
    pub snapshot: Id,
    _place: Place,
}

/// So much is written beside what is restored: rows once more, and the log that the server writes itself.
const TIMES: u64 = 2;

pub(in super::super) fn recover(asked: &Recovery<'_>) -> Result<Rows> {
    // The server was taken away under whatever was going on.
    run(asked).map_err(|error| match asked.control.check() {
        Err(stopped) => Error::engine("the recovery was stopped", stopped),
        Ok(()) => error,
    })
}

fn run(asked: &Recovery<'_>) -> Result<Rows> {
    let name = &asked.store.settings.name;
    let tools = asked.store.settings.tools_directory.as_deref();
    let replay =
        Replay::open((asked.repository, asked.index, asked.snapshot), asked.at, tools, asked.control)?;
    let place = Place::make(asked.directory, asked.job_id, name, RECOVERED)?;
    let (base, log) = replay.bytes()?;
    let bytes = base.saturating_add(log).saturating_mul(TIMES);
    file_store::refuse_without_room(name, &place.path(), &TreeSize { files: 1, dirs: 1, bytes })?;

    let home = place.path();
    replay.account.give(&home).map_err(|e| Error::io(format!("cannot give away {}", home.display()), e))?;
    replay.lay_down(&home)?;
    let cluster = replay.start(&home, true, Vec::new())?;
    tracing::info!(component = name, at = shown(replay.instant()), "the server was recovered");

    let rows = Place::make(asked.directory, asked.job_id, name, ROWS)?;
    let recovered = read(asked, &replay.manifest, &cluster, rows)?;
    drop(cluster);
    place.remove()?;
    Ok(recovered)
}

/// Of the databases that were there at the instant those that are wanted.
fn wanted(manifest: &Manifest, cluster: &Cluster, portion: &Portion) -> Result<Vec<String>> {
    let mut client = cluster.server.connect(cluster.server.maintenance())?;
    let major = inventory::about(&mut client)?.major();
    let (mut there, _) = inventory::databases(&mut client, major)?;
    let asked: Vec<&str> =
        portion.paths.iter().map(|path| path.split('/').next().unwrap_or_default()).collect();
    there.retain(|database| match asked.is_empty() {
        true => manifest.named.iter().any(|name| name == "*" || *name == database.name),
        false => asked.contains(&database.directory.as_str()),
    });
    match there.is_empty() {
        false => Ok(there.into_iter().map(|database| database.name).collect()),
        true => Err(Error::new(
            ErrorKind::Missing,
            "at that instant the server had none of the databases that are to be restored",
        )),
    }
}

/// The server's databases as a logical backup.
fn read(asked: &Recovery<'_>, manifest: &Manifest, cluster: &Cluster, rows: Place) -> Result<Rows> {
    let Recovery { store, control, .. } = *asked;
    let fail = |e| Error::engine("cannot keep the rows of a recovered server", e);
    let place: PathBuf = rows.path().join("vault");
    // It is gone after a crash anyway.
    let options = DirectoryOptions { sync: false };
    let scratch = Directory::create_root(&place, options)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot keep the rows of a recovered server: {e}")))?;
    let passcode = Passcode::new(Id::random().to_string());
    let repository = Repository::init(Arc::new(scratch), &passcode, Cost::DEFAULT).map_err(fail)?;
    let mut there = store.clone();
    there.server = cluster.server.clone();
    there.settings.method = Method::Logical;
    there.settings.databases = wanted(manifest, cluster, asked.portion)?;
    there.settings.hooks = Hooks::default();
    there.settings.scratch_directory = rows.path();
    let context = BackupContext {
        repository: &repository,
        index: &Index::empty(),
        tags: Vec::new(),
        hostname: String::new(),
        compression: Compression::Off,
        control: Arc::clone(control),
    };
    let snapshot = backup::backup(&there, &context)?
        .outcome
        .snapshot
        .ok_or_else(|| Error::new(ErrorKind::Io, "no rows were kept; please report this"))?;
    let index = repository.load_index(&|_| true).map_err(fail)?;
    Ok(Rows { repository, index, snapshot, _place: rows })
}
