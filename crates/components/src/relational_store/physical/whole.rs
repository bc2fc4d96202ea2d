//! A whole server as it was at an instant: a directory of data that PostgreSQL is started on. For the day on which the server's machine
//! is gone: nothing but the backup and the server's release are needed.
//!
//! ```text
//! <parent>/.<name>.strongroom    where it is made: base, log, a server of ours that replays and is shut down (`replay`)
//! <parent>/<name>                its data, when all of it is synced: the one commit
//! ```
//! The parent is often the directory of the account that servers run as. Whatever we did there as root by its name that account could
//! turn elsewhere, so it is done as that account; in a parent of root's nobody else may move anything on the way to it.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use repository::{Control, Id, Index, Repository, TreeSize};

use super::super::cluster::{Account, Cluster, DATA};
use super::super::tools;
use super::replay::Replay;
use crate::{Error, ErrorKind, Result, file_store, process};

/// Run in the directory of the data, when the server has ended. What others of its group might read they may read again.
const FINISH: &str = r#"cd "$0" && rm -f postmaster.opts && mv -f ../postgresql.auto.conf . &&
case $(ls -l PG_VERSION) in ????r*) chmod 750 . ;; esac"#;
/// What `pg_controldata` says of a server that has ended as it should.
const ENDED: &str = "shut down";
/// What it says of the limits that the server had. Whoever follows the server, or restores by its log, must have these at least, so
/// ours, which are written into the log, are no others.
const LIMITS: [(&str, &str); 2] = [
    ("max_connections setting:", "max_connections"),
    ("max_locks_per_xact setting:", "max_locks_per_transaction"),
];
/// The server that is begun with goes on: its log is good for those who follow it, and the history of its new time line waits to be
/// archived by whatever archives it then.
const STAYS: [&str; 3] = ["wal_level=replica", "archive_mode=on", "archive_command="];
/// So much of its log a server keeps while it replays, beside what lies here.
const KEPT_BYTES_MAX: u64 = 6 << 30;

/// Which server is wanted, and where.
pub struct ServerRequest<'a> {
    /// Where the snapshot is.
    pub repository: &'a Repository,
    /// That repository's index.
    pub index: &'a Index,
    /// A snapshot of a component of kind `relationalStore` by the physical way.
    pub snapshot: Id,
    /// Milliseconds since 1970; `None`: the end of the backup.
    pub at: Option<i64>,
    /// The directory that its data become: new, or empty.
    pub target: &'a Path,
    /// Where the server's programs lie; else they are looked for.
    pub tools_directory: Option<&'a Path>,
    /// Cancellation and progress.
    pub control: &'a Arc<Control>,
}

/// A server that was restored, and does not run.
#[derive(Clone, Debug)]
pub struct RestoredServer {
    /// Its release, such as `15.14`.
    pub version: String,
    /// The instant, in milliseconds since 1970 by its own clock.
    pub at: i64,
    /// Bytes that were read from the backup.
    pub bytes: u64,
    /// As whom it must be started; `None`: as who we are.
    pub account: Option<&'static str>,
}

/// Makes it. After an error the target is as it was, unless the message says that it is there.
pub fn restore_server(request: &ServerRequest<'_>) -> Result<RestoredServer> {
    // Whatever was going on was taken away under it.
    make(request).map_err(|error| match request.control.check() {
        Err(stopped) => Error::engine("the restore was stopped, nothing was changed", stopped),
        Ok(()) => error,
    })
}

fn make(request: &ServerRequest<'_>) -> Result<RestoredServer> {
    let ServerRequest { repository, index, snapshot, at, target, tools_directory, control } = *request;
    // Without a slash at its end, behind which a link would be followed.
    let target = &target.components().collect::<PathBuf>();
    refuse_unless_empty(target)?;
    let replay = Replay::open((repository, index, snapshot), at, tools_directory, control)?;
    let (base, log) = replay.bytes()?;
    // The log lies here, makes the data grow, and is copied to where the server replays it.
    let room = base.saturating_add(log.saturating_mul(2)).saturating_add(log.min(KEPT_BYTES_MAX));
    let site = Site::make(target, &replay.account, room, control)?;
    replay.lay_down(&site.home)?;
    let limits = limits(&replay, &site.home, control)?;
    let server = replay.start(&site.home, false, limits)?;
    finish(&replay, server, &site, control)?;
    site.commit()?;
    let version = replay.manifest.server_version;
    Ok(RestoredServer {
        version: format!("{}.{}", version / 10_000, version % 10_000),
        at: replay.instant(),
        bytes: base.saturating_add(log),
        account: replay.account.name(),
    })
}

/// What the server's own program says of its data.
fn control_data(replay: &Replay<'_>, home: &Path, control: &Control) -> io::Result<String> {
    let mut state = replay.account.command(&replay.tools.path("pg_controldata"));
    state.arg("-D").arg(home.join(DATA));
    let mut said = Vec::new();
    tools::run(tools::start(state)?, control, &mut said)?;
    Ok(String::from_utf8_lossy(&said).into_owned())
}

fn value<'s>(said: &'s str, key: &str) -> Option<&'s str> {
    said.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// The settings of a server that is to stay.
fn limits(replay: &Replay<'_>, home: &Path, control: &Control) -> Result<Vec<String>> {
    let said =
        control_data(replay, home, control).map_err(|e| Error::io("cannot look at the restored base", e))?;
    let number = |key| value(&said, key).and_then(|text| text.parse::<u32>().ok());
    let limits = LIMITS.iter().filter_map(|(key, setting)| Some(format!("{setting}={}", number(key)?)));
    Ok(limits.chain(STAYS.iter().map(|setting| (*setting).to_owned())).collect())
}

/// Ends the server in order, as it is to be started by others. It ran without durability, which is made up for here.
fn finish(replay: &Replay<'_>, server: Cluster, site: &Site<'_>, control: &Control) -> Result<()> {
    let data = site.home.join(DATA);
    let fail = |e| Error::io(format!("the server in {} could not be ended", site.home.display()), e);
    control.progress.set_current("ending the server");
    let mut stop = replay.account.command(&replay.tools.path("pg_ctl"));
    stop.arg("-D").arg(&data).args(["-m", "fast", "-w", "-t", "86400", "-s", "stop"]);
    tools::run_quiet(stop, control).map_err(fail)?;
    drop(server);
    let said = control_data(replay, &site.home, control).map_err(fail)?;
    let state = value(&said, "Database cluster state:").unwrap_or_default();
    if state != ENDED {
        let message = format!(
            "the server that replayed the log did not end as it should: pg_controldata calls it '{state}'"
        );
        return Err(Error::new(ErrorKind::Io, message));
    }
    replay.run(FINISH, &[&data])?;
    control.progress.set_current("syncing");
    rustix::fs::syncfs(&site.parent).map_err(|e| fail(e.into()))
}

fn selection(message: String) -> Error {
    Error::new(ErrorKind::Selection, message)
}

/// A link, or a file system of its own, cannot be exchanged for a directory.
fn refuse_unless_empty(target: &Path) -> Result<()> {
    let refuse = |what: &str| Err(selection(format!("{} {what}; nothing was changed", target.display())));
    let fail = |e| Error::io(format!("cannot look at {}", target.display()), e);
    let found = match std::fs::symlink_metadata(target) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(fail)?,
    };
    if found.is_symlink() {
        return refuse("is a link: name the place that it leads to");
    }
    if !found.is_dir() || std::fs::read_dir(target).map_err(fail)?.next().is_some() {
        return refuse("is not an empty directory: name a new one, or stop what runs there and move it away");
    }
    let parent = std::fs::metadata(target.parent().unwrap_or(Path::new("/"))).map_err(fail)?;
    match parent.dev() == found.dev() {
        true => Ok(()),
        false => refuse("is a file system of its own: name a new directory in it"),
    }
}

/// Where it is made. What is there goes with this value; when it was committed, that is the log.
struct Site<'a> {
    account: &'a Account,
    /// As whom things are done in the parent.
    owner: Owner,
    /// The parent, held open.
    parent: File,
    home: PathBuf,
    target: PathBuf,
    control: &'a Control,
}

/// Whose the parent is.
#[derive(Clone, Copy, PartialEq)]
enum Owner {
    /// Ours, or root's.
    We,
    /// The account's that servers run as.
    Account,
}

impl<'a> Site<'a> {
    fn make(target: &Path, account: &'a Account, room: u64, control: &'a Control) -> Result<Self> {
        let fail = |e| Error::io(format!("cannot make a directory for {}", target.display()), e);
        let name = target
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| selection(format!("{} is no name for a directory", target.display())))?;
        let parent = target.parent().unwrap_or(Path::new("/"));
        let parent = parent.canonicalize().map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                selection(format!("there is no {}: make it, as the user of the server", parent.display()))
            }
            _ => fail(e),
        })?;
        // A server takes several directories for its socket, with commas between.
        if parent.to_str().is_none_or(|text| text.contains(',')) || name.contains(',') {
            let message = format!("{} holds a comma, or is no text; choose another place", target.display());
            return Err(selection(message));
        }
        let owner = owner_of(&parent, account)?;
        account.check_place(&parent)?;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::DIRECTORY;
        let open = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&parent);
        let held = open.map_err(fail)?;
        let size = TreeSize { files: 1, dirs: 1, bytes: room };
        if let Some(missing) = file_store::missing_room(&held, &size).map_err(fail)? {
            let message = format!("the server in {} {missing}; make room there", parent.display());
            return Err(Error::new(ErrorKind::NoSpace, message));
        }
        let home = parent.join(format!(".{name}.strongroom"));
        if std::fs::symlink_metadata(&home).is_ok() {
            return Err(selection(format!(
                "{} is there: another restore into this place runs, or was killed; if none runs, remove it",
                home.display()
            )));
        }
        let site = Self { account, owner, parent: held, home, target: parent.join(name), control };
        site.run("mkdir -m 700 \"$0\"", &[&site.home]).map_err(fail)?;
        if owner == Owner::We {
            account.give(&site.home).map_err(fail)?;
        }
        Ok(site)
    }

    /// The one commit.
    fn commit(self) -> Result<()> {
        // Of an empty directory `mv -T` makes nothing else than this one.
        self.run("mv -T \"$0\" \"$1\"", &[&self.home.join(DATA), &self.target])
            .map_err(|e| Error::io(format!("cannot make {}", self.target.display()), e))?;
        self.parent.sync_all().map_err(|e| {
            let message = format!(
                "{} is there and whole, but its name could not be synced: after a power cut it may lie in {}",
                self.target.display(),
                self.home.display()
            );
            Error::io(message, e)
        })
    }

    /// Runs a script as the owner of the parent. What is begun here is ended, also when the job is cancelled.
    fn run(&self, script: &str, places: &[&Path]) -> io::Result<()> {
        let shell = Path::new(process::SHELL);
        let mut command = match self.owner {
            Owner::Account => self.account.command(shell),
            Owner::We => Command::new(shell),
        };
        command.args(["-c", script]).args(places);
        tools::run_quiet(command, &Control::default())
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        // What lies in it is the account's, and it itself the owner's of the parent.
        let mut inside = self.account.command(Path::new(process::SHELL));
        inside.args(["-c", "cd \"$0\" && find . -mindepth 1 -delete"]).arg(&self.home);
        let emptied = tools::run_quiet(inside, &Control::default());
        if let Err(error) = self.run("rmdir \"$0\"", &[&self.home]) {
            let error = emptied.err().unwrap_or(error);
            let what = self.home.display().to_string();
            self.control.warn(what, format!("what the restore made could not be removed: {error}"));
        }
    }
}

/// Refuses a parent that is somebody else's, or to which the way could be made another one by others.
fn owner_of(parent: &Path, account: &Account) -> Result<Owner> {
    let look = |place: &Path| {
        std::fs::metadata(place).map_err(|e| Error::io(format!("cannot look at {}", place.display()), e))
    };
    let we = rustix::process::geteuid().as_raw();
    let others_write = |mode: u32| mode & 0o022 != 0;
    let found = look(parent)?;
    if others_write(found.mode()) {
        return Err(selection(format!(
            "others may write to {}, and could have the server's files lie elsewhere; choose another directory",
            parent.display()
        )));
    }
    if account.is(found.uid()) {
        return Ok(Owner::Account);
    }
    for place in parent.ancestors() {
        let found = look(place)?;
        // In one that is sticky, like /tmp, nobody moves what is not his.
        let is_safe =
            [0, we].contains(&found.uid()) && (!others_write(found.mode()) || found.mode() & 0o1000 != 0);
        if !is_safe {
            return Err(selection(format!(
                "{} is not yours alone, and {} lies below it: run this as its owner, or give {} to the user of the server",
                place.display(),
                parent.display(),
                parent.display()
            )));
        }
    }
    Ok(Owner::We)
}
