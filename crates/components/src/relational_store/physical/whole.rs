//! A whole server as it was at an instant: a directory of data that PostgreSQL is started on. For the day on which the server's machine
//! is gone: nothing but the backup and the server's release are needed.
//!
//! ```text
//! <parent>/.<name>.strongroom    where it is made: base, log, a server of ours that replays and is shut down (`replay`)
//! <parent>/<name>                its data, when all of it is synced: the one commit
//! ```
//! The parent is often the directory of the account that servers run as. Whatever we do there as root that account could turn
//! elsewhere, so it is done as the owner of the parent.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use repository::{Control, Id, Index, Repository, TreeSize};

use super::super::cluster::{Account, Cluster, DATA};
use super::super::tools;
use super::replay::Replay;
use crate::{Error, ErrorKind, Result, file_store, process};

/// Run in the directory of the data, when the server has ended.
const FINISH: &str = r#"cd "$0" && rm -f postmaster.opts && mv -f ../postgresql.auto.conf ."#;
/// What `pg_controldata` says of a server that has ended as it should.
const ENDED: &str = "shut down";

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

/// Makes it. After an error the target is as it was.
pub fn restore_server(request: &ServerRequest<'_>) -> Result<RestoredServer> {
    let ServerRequest { repository, index, snapshot, at, target, tools_directory, control } = *request;
    refuse_unless_empty(target)?;
    let replay = Replay::open((repository, index, snapshot), at, tools_directory, control)?;
    let bytes = replay.bytes()?;
    let site = Site::make(target, &replay.account, bytes)?;
    replay.lay_down(&site.home)?;
    let server = replay.start(&site.home)?;
    finish(&replay, server, &site.home, control)?;
    site.commit()?;
    let version = replay.manifest.server_version;
    Ok(RestoredServer {
        version: format!("{}.{}", version / 10_000, version % 10_000),
        at: replay.instant(),
        bytes,
        account: replay.account.name(),
    })
}

/// Ends the server in order, as it is to be started by others. It ran without durability, which is made up for here.
fn finish(replay: &Replay<'_>, server: Cluster, home: &Path, control: &Control) -> Result<()> {
    let data = home.join(DATA);
    let fail = |e| Error::io(format!("the server in {} could not be ended", home.display()), e);
    control.progress.set_current("ending the server");
    let mut stop = replay.account.command(&replay.tools.path("pg_ctl"));
    stop.arg("-D").arg(&data).args(["-m", "fast", "-w", "-t", "86400", "-s", "stop"]);
    tools::run_quiet(stop, control).map_err(fail)?;
    drop(server);
    let mut state = replay.account.command(&replay.tools.path("pg_controldata"));
    state.arg("-D").arg(&data);
    let mut said = Vec::new();
    tools::start(state).and_then(|running| tools::run(running, control, &mut said)).map_err(fail)?;
    let said = String::from_utf8_lossy(&said);
    let state =
        said.lines().find_map(|line| line.strip_prefix("Database cluster state:")).unwrap_or_default();
    if state.trim() != ENDED {
        let message = format!(
            "the server that replayed the log did not end as it should: pg_controldata calls it '{}'",
            state.trim()
        );
        return Err(Error::new(ErrorKind::Io, message));
    }
    replay.run(FINISH, &[&data])?;
    control.progress.set_current("syncing");
    let place = std::fs::File::open(home).map_err(fail)?;
    rustix::fs::syncfs(&place).map_err(|e| fail(e.into()))
}

fn refuse_unless_empty(target: &Path) -> Result<()> {
    let is_empty = match std::fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => std::fs::symlink_metadata(target).is_err(),
        Err(e) => return Err(Error::io(format!("cannot look into {}", target.display()), e)),
    };
    match is_empty {
        true => Ok(()),
        false => {
            let message = format!(
                "{} is not empty; nothing was changed. Name a new directory, or move away what is there",
                target.display()
            );
            Err(Error::new(ErrorKind::Selection, message))
        }
    }
}

/// Where it is made. What is there goes with this value, unless it was committed.
struct Site<'a> {
    account: &'a Account,
    /// As whom things are done in the parent.
    owner: Owner,
    home: PathBuf,
    target: PathBuf,
    is_committed: bool,
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
    fn make(target: &Path, account: &'a Account, bytes: u64) -> Result<Self> {
        let fail = |e| Error::io(format!("cannot make a directory for {}", target.display()), e);
        let name = target.file_name().ok_or_else(|| {
            Error::new(ErrorKind::Selection, format!("{} cannot be made", target.display()))
        })?;
        let parent = target.parent().unwrap_or(Path::new("/")).canonicalize().map_err(fail)?;
        let owner = owner_of(&parent, account)?;
        let size = TreeSize { files: 1, dirs: 1, bytes };
        let place = std::fs::File::open(&parent).map_err(fail)?;
        if let Some(missing) = file_store::missing_room(&place, &size).map_err(fail)? {
            let message = format!("the server in {} {missing}; make room there", parent.display());
            return Err(Error::new(ErrorKind::NoSpace, message));
        }
        let home = parent.join(format!(".{}.strongroom", name.to_string_lossy()));
        if std::fs::symlink_metadata(&home).is_ok() {
            let message = format!(
                "{} is there: another restore into this place runs, or was killed; if none runs, remove it",
                home.display()
            );
            return Err(Error::new(ErrorKind::Selection, message));
        }
        let site = Self { account, owner, home, target: parent.join(name), is_committed: false };
        site.run("mkdir -m 700 \"$0\"", &[&site.home]).map_err(fail)?;
        if owner == Owner::We {
            account.give(&site.home).map_err(fail)?;
        }
        Ok(site)
    }

    /// The one commit.
    fn commit(mut self) -> Result<()> {
        let fail = |e| Error::io(format!("cannot make {}", self.target.display()), e);
        // Of an empty directory `mv -T` makes nothing else than this one.
        self.run("mv -T \"$0\" \"$1\"", &[&self.home.join(DATA), &self.target]).map_err(fail)?;
        let parent = self.target.parent().unwrap_or(Path::new("/"));
        std::fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(fail)?;
        self.is_committed = true;
        Ok(())
    }

    /// Runs a script as the owner of the parent.
    fn run(&self, script: &str, places: &[&Path]) -> io::Result<()> {
        let shell = Path::new(process::SHELL);
        let mut command = match self.owner {
            Owner::Account => self.account.command(shell),
            Owner::We => Command::new(shell),
        };
        // What is begun here is ended, also when the job is cancelled.
        tools::run_quiet(
            std::mem::replace(command.args(["-c", script]).args(places), Command::new(shell)),
            &Control::default(),
        )
    }
}

impl Drop for Site<'_> {
    fn drop(&mut self) {
        // What lies in it is the account's, and it itself the owner's of the parent.
        let mut inside = self.account.command(Path::new(process::SHELL));
        inside.args(["-c", "cd \"$0\" && find . -mindepth 1 -delete"]).arg(&self.home);
        let removed = tools::run_quiet(inside, &Control::default())
            .and_then(|()| self.run("rmdir \"$0\"", &[&self.home]));
        if let Err(error) = removed {
            tracing::warn!(place = %self.home.display(), %error, "what a restore made could not be removed");
        }
    }
}

/// Refuses a parent that is somebody else's, or in which others may write.
fn owner_of(parent: &Path, account: &Account) -> Result<Owner> {
    let found = std::fs::metadata(parent)
        .map_err(|e| Error::io(format!("cannot look at {}", parent.display()), e))?;
    let is_open = found.mode() & 0o022 != 0;
    let we = rustix::process::geteuid().as_raw();
    match found.uid() {
        uid if !is_open && account.is(uid) => Ok(Owner::Account),
        uid if !is_open && [0, we].contains(&uid) => Ok(Owner::We),
        _ => {
            let message = format!(
                "others may write to {}, and could have the server's files lie elsewhere; choose a directory of root's or of the \
                 account of the server",
                parent.display()
            );
            Err(Error::new(ErrorKind::Selection, message))
        }
    }
}
