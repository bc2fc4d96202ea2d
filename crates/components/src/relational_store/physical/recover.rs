//! A server as it was at an instant: its base and log are put into scratch, a server of our own replays them, and its databases
//! become a logical backup in scratch, which is restored as every other one.
//!
//! The server has no way out: it listens on a socket in a private directory, archives nothing and fetches its log from beside it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use repository::{Compression, Control, Cost, Id, Index, Passcode, Repository, TreeSize};
use storage::{Directory, DirectoryOptions};

use super::super::cluster::{Account, Cluster, DATA};
use super::super::inventory;
use super::super::snapshot::Snapshot;
use super::super::tools::{self, Tools};
use super::super::{Method, RelationalStore, backup};
use super::log::{PARTIAL, Position, Segment};
use super::manifest::{Base, LOG, Manifest, shown};
use super::refuse_preload;
use crate::drill::{Place, RECOVERED, ROWS};
use crate::{BackupContext, Error, ErrorKind, Hooks, Portion, Result, file_store, process};

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
    let Recovery { store, control, .. } = *asked;
    let name = &store.settings.name;
    let snapshot = Snapshot::open(asked.repository, asked.index, asked.snapshot)?;
    let manifest = snapshot
        .physical_if_any(control)?
        .ok_or_else(|| Error::new(ErrorKind::Damaged, "the backup was not made by the physical way"))?;
    let base = manifest.base_for(asked.at)?;
    if let Some(why) = refuse_preload(&manifest.preload) {
        return Err(Error::new(ErrorKind::Damaged, format!("the backup cannot be trusted: {why}")));
    }
    let tools = Tools::find_server(store.settings.tools_directory.as_deref(), manifest.server_major())?;
    if tools.major != manifest.server_major() {
        let message = format!(
            "a server's files are understood by the same release alone: PostgreSQL {} must be installed here to restore them, and {} is",
            manifest.server_major(),
            tools.major
        );
        return Err(Error::new(ErrorKind::Missing, message));
    }
    let place = Place::make(asked.directory, asked.job_id, name, RECOVERED)?;
    let size = repository::measure(asked.repository, asked.index, asked.snapshot, None)
        .map_err(|e| Error::engine("cannot measure the backup", e))?;
    let size = TreeSize { files: 1, dirs: 1, bytes: size.bytes.saturating_mul(TIMES) };
    file_store::refuse_without_room(name, &place.path(), &size)?;

    let account = Account::of_servers()?;
    lay_down(&place.path(), &account, &tools, &snapshot, (&manifest, base), control)?;
    control.progress.set_current("replaying the write-ahead log");
    let cluster = Cluster::replay(
        &place,
        &tools,
        &account,
        &manifest.superuser,
        &settings(&place.path(), &manifest, asked.at)?,
        control,
    )?;
    tracing::info!(
        component = name,
        at = shown(asked.at.unwrap_or(manifest.until)),
        "the server was recovered"
    );

    let rows = Place::make(asked.directory, asked.job_id, name, ROWS)?;
    let recovered = read(asked, &manifest, &cluster, rows)?;
    drop(cluster);
    place.remove()?;
    Ok(recovered)
}

/// Base and log, where a server finds them. As long as we write, nobody else may in what we write to: what comes from the base may be
/// anything, and is handled with the server's own rights alone.
fn lay_down(
    home: &Path,
    account: &Account,
    tools: &Tools,
    snapshot: &Snapshot<'_>,
    (manifest, base): (&Manifest, &Base),
    control: &Control,
) -> Result<()> {
    let fail = |e: io::Error| Error::io(format!("cannot prepare a server in {}", home.display()), e);
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o711)).map_err(fail)?;
    account.check_place(home)?;
    let (data, log) = (home.join(DATA), home.join(LOG));
    for directory in [&data, &log] {
        std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(fail)?;
    }
    account.give(&data).map_err(fail)?;

    control.progress.set_current("the base of the server");
    let mut unpack = account.command(Path::new("tar"));
    unpack.args(["--extract", "--file=-", "--directory"]).arg(&data);
    let mut failed = None;
    let unpacked = tools::fill(unpack, control, |out| {
        snapshot.write(&base.file, control, out).map_err(|error| {
            let message = error.message.clone();
            failed = Some(error);
            io::Error::other(message)
        })
    });
    match failed {
        // What keeps the tool from taking more, it tells itself.
        Some(error) if error.kind != ErrorKind::Io => return Err(error),
        _ => unpacked.map_err(fail)?,
    }
    let mut verify = account.command(&tools.path("pg_verifybackup"));
    verify.args(["--no-parse-wal", "--exit-on-error", "--quiet"]).arg(&data);
    tools::run_quiet(verify, control)
        .map_err(|e| Error::new(ErrorKind::Damaged, format!("the base is not what it was: {e}")))?;
    // Of the server's own settings those count that `settings` names, whatever lies there.
    let mut prepare = account.command(Path::new(process::SHELL));
    prepare.args(["-c", PREPARE]).arg(&data);
    tools::run_quiet(prepare, control).map_err(fail)?;

    control.progress.set_current("the write-ahead log");
    let names = snapshot.files(LOG)?.into_keys();
    let segments = names.filter_map(|name| Some((Segment::parse(&name, manifest.segment_bytes)?, name)));
    for (_, name) in segments.filter(|(segment, _)| segment.number >= base.first_segment) {
        control.check().map_err(|e| Error::engine("the restore was stopped", e))?;
        let target = log.join(name.trim_end_matches(PARTIAL));
        // Of one that is there whole, the beginning is not needed.
        if name.ends_with(PARTIAL) && target.exists() {
            continue;
        }
        let mut file = File::create(&target).map_err(fail)?;
        snapshot.write(&format!("{LOG}/{name}"), control, &mut file)?;
        file.flush().map_err(fail)?;
        account.give(&target).map_err(fail)?;
    }
    for (name, text) in [(CONFIGURATION, ""), (ACCESS, "local all all trust\n")] {
        let path = home.join(name);
        std::fs::write(&path, text).and_then(|()| account.give(&path)).map_err(fail)?;
    }
    std::fs::set_permissions(home, std::fs::Permissions::from_mode(0o700)).map_err(fail)?;
    account.give(&log).and_then(|()| account.give(home)).map_err(fail)
}

/// Run with the server's rights in the directory of its data.
const PREPARE: &str = r#"cd "$0" && rm -f postmaster.pid standby.signal recovery.signal postgresql.auto.conf && : >postgresql.auto.conf && : >recovery.signal"#;

const CONFIGURATION: &str = "server.conf";
const ACCESS: &str = "access.conf";

/// Commands are run in the directory of the data.
fn settings(home: &Path, manifest: &Manifest, at: Option<i64>) -> Result<Vec<String>> {
    let target = match at {
        // The server knows no Z here.
        Some(at) => format!("recovery_target_time={}", shown(at).replace('Z', "+00")),
        // Clocks may go wrong; positions do not.
        None => {
            let position = Position::parse(&manifest.until_position).ok_or_else(|| {
                Error::new(ErrorKind::Damaged, "the backup does not tell where its log ends")
            })?;
            format!("recovery_target_lsn={position}")
        }
    };
    Ok(vec![
        format!("config_file={}", home.join(CONFIGURATION).display()),
        format!("hba_file={}", home.join(ACCESS).display()),
        "hot_standby=off".to_owned(),
        format!("restore_command=cp ../{LOG}/%f %p"),
        target,
        // What stands at a position was not written before it.
        format!("recovery_target_inclusive={}", if at.is_some() { "on" } else { "off" }),
        "recovery_target_action=promote".to_owned(),
        "recovery_target_timeline=current".to_owned(),
        format!("max_prepared_transactions={}", manifest.prepared_max),
        // Libraries are loaded for what the data need of them, and do not go to work by themselves.
        "max_worker_processes=0".to_owned(),
        format!("shared_preload_libraries={}", manifest.preload),
    ])
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
