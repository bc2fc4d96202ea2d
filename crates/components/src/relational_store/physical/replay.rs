//! A server of our own that replays a log: base and log are put where it finds them, and it goes on until an instant.
//!
//! It has no way out: it listens on a socket in a private directory, archives nothing and fetches its log from beside it. What
//! comes from a base may be anything, so all of it is written with the server's own rights, never with ours.
//!
//! ```text
//! <home>/data                   the base
//! <home>/log                    the segments since
//! <home>/server.conf, …         the settings under which it replays, in place of its own
//! <home>/postgresql.auto.conf   of its own settings those that lay in the base, out of its way
//! ```

use std::cell::Cell;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use repository::{Control, Id, Index, Repository};

use super::super::cluster::{Account, Cluster, DATA};
use super::super::snapshot::Snapshot;
use super::super::tools::{self, Tools};
use super::log::{PARTIAL, Position, Segment};
use super::manifest::{Base, LOG, Manifest, shown};
use super::refuse_preload;
use crate::{Error, ErrorKind, Result, process};

const CONFIGURATION: &str = "server.conf";
const ACCESS: &str = "access.conf";

/// Run in the directory of the data.
const PREPARE: &str = r#"cd "$0" && rm -f postmaster.pid postmaster.opts standby.signal recovery.signal &&
{ mv -f postgresql.auto.conf .. 2>/dev/null || : >../postgresql.auto.conf; } && : >postgresql.auto.conf && : >recovery.signal"#;

/// A backup, what is needed to replay it, and until when.
pub(super) struct Replay<'a> {
    pub(super) manifest: Manifest,
    pub(super) account: Account,
    pub(super) tools: Tools,
    snapshot: Snapshot<'a>,
    base: Base,
    /// Milliseconds since 1970; `None`: the end of the backup.
    at: Option<i64>,
    control: &'a Arc<Control>,
}

impl<'a> Replay<'a> {
    /// Refuses instants that the backup does not hold, and what cannot be replayed here.
    pub(super) fn open(
        (repository, index, snapshot): (&'a Repository, &'a Index, Id),
        at: Option<i64>,
        tools_directory: Option<&Path>,
        control: &'a Arc<Control>,
    ) -> Result<Self> {
        let snapshot = Snapshot::open(repository, index, snapshot)?;
        let manifest = snapshot.physical_if_any(control)?.ok_or_else(|| {
            Error::new(
                ErrorKind::Missing,
                "the backup was not made by the physical way and holds no server's files",
            )
        })?;
        let base = manifest.base_for(at)?.clone();
        if let Some(why) = refuse_preload(&manifest.preload) {
            return Err(Error::new(ErrorKind::Damaged, format!("the backup cannot be trusted: {why}")));
        }
        let tools = Tools::find_server(tools_directory, manifest.server_major())?;
        if tools.major != manifest.server_major() {
            let message = format!(
                "a server's files are understood by the same release alone: PostgreSQL {} must be installed here to restore them, and {} is",
                manifest.server_major(),
                tools.major
            );
            return Err(Error::new(ErrorKind::Missing, message));
        }
        Ok(Self { manifest, account: Account::of_servers()?, tools, snapshot, base, at, control })
    }

    /// The instant that is reached.
    pub(super) fn instant(&self) -> i64 {
        self.at.unwrap_or(self.manifest.until)
    }

    /// Bytes of base and log.
    pub(super) fn bytes(&self) -> Result<(u64, u64)> {
        let base = self.snapshot.size(&self.base.file)?;
        Ok((base, self.segments()?.iter().fold(0, |sum: u64, (_, bytes)| sum.saturating_add(*bytes))))
    }

    /// Base and log. `home` is an empty directory of the account's own.
    pub(super) fn lay_down(&self, home: &Path) -> Result<()> {
        self.account.check_place(home)?;
        let (data, log) = (home.join(DATA), home.join(LOG));
        self.run("umask 077 && mkdir \"$0\" \"$1\"", &[&data, &log])?;

        self.control.progress.set_current("the base of the server");
        let mut unpack = self.account.command(Path::new("tar"));
        unpack.args(["--extract", "--file=-", "--directory"]).arg(&data);
        self.hand(&self.base.file, unpack, &data)?;
        let mut verify = self.account.command(&self.tools.path("pg_verifybackup"));
        verify.args(["--no-parse-wal", "--exit-on-error", "--quiet"]).arg(&data);
        tools::run_quiet(verify, self.control).map_err(|e| {
            let message = format!("the base is not what it was: {e}");
            Error::new(
                if e.kind() == io::ErrorKind::Interrupted {
                    ErrorKind::Cancelled
                } else {
                    ErrorKind::Damaged
                },
                message,
            )
        })?;
        // Of the server's own settings those count that `settings` names, whatever lies there.
        self.run(PREPARE, &[&data])?;

        self.control.progress.set_current("the write-ahead log");
        for (name, _) in self.segments()? {
            self.check()?;
            let target = log.join(name.trim_end_matches(PARTIAL));
            self.hand(&format!("{LOG}/{name}"), self.writing(&target), &target)?;
        }
        for (name, text) in [(CONFIGURATION, ""), (ACCESS, "local all all trust\n")] {
            let target = home.join(name);
            tools::fill(self.writing(&target), self.control, |out| out.write_all(text.as_bytes()))
                .map_err(|e| cannot_prepare(&target, e))?;
        }
        Ok(())
    }

    /// The server, when it has come to the instant, with these settings beside those that it replays with.
    pub(super) fn start(&self, home: &Path, connects: bool, more: Vec<String>) -> Result<Cluster> {
        self.control.progress.set_current("replaying the write-ahead log");
        let user = connects.then_some(self.manifest.superuser.as_str());
        let settings = [self.settings(home)?, more].concat();
        Cluster::replay(home, &self.tools, &self.account, user, &settings, self.control)
    }

    /// Those that are needed, with their lengths. Of one that is there whole, the beginning is not.
    fn segments(&self) -> Result<Vec<(String, u64)>> {
        let files = self.snapshot.files(LOG)?;
        let needed = files.iter().filter(|(name, _)| {
            Segment::parse(name, self.manifest.segment_bytes)
                .is_some_and(|segment| segment.number >= self.base.first_segment)
                && !name.strip_suffix(PARTIAL).is_some_and(|whole| files.contains_key(whole))
        });
        Ok(needed.map(|(name, node)| (name.clone(), node.size)).collect())
    }

    /// Commands are run in the directory of the data.
    fn settings(&self, home: &Path) -> Result<Vec<String>> {
        let manifest = &self.manifest;
        let target = match self.at {
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
        // Since 18 the number of origins is a setting of its own.
        let origins = (self.tools.major >= 18).then(|| "max_active_replication_origins=1000".to_owned());
        let settings = vec![
            format!("config_file={}", home.join(CONFIGURATION).display()),
            format!("hba_file={}", home.join(ACCESS).display()),
            "hot_standby=off".to_owned(),
            format!("restore_command=cp ../{LOG}/%f %p"),
            target,
            // What stands at a position was not written before it.
            format!("recovery_target_inclusive={}", if self.at.is_some() { "on" } else { "off" }),
            "recovery_target_action=promote".to_owned(),
            "recovery_target_timeline=current".to_owned(),
            format!("max_prepared_transactions={}", manifest.prepared_max),
            // Libraries are loaded for what the data need of them, and do not go to work by themselves.
            "max_worker_processes=0".to_owned(),
            format!("shared_preload_libraries={}", manifest.preload),
            // Off, it would remove the times that there are.
            "track_commit_timestamp=on".to_owned(),
        ];
        Ok(settings.into_iter().chain(origins).collect())
    }

    /// Has a program take what the backup holds as `path`.
    fn hand(&self, path: &str, program: Command, target: &Path) -> Result<()> {
        let (mut failed, refuses) = (None, Cell::new(false));
        let taken = tools::fill(program, self.control, |out| {
            let mut out = Noting { out, refuses: &refuses };
            self.snapshot.write(path, self.control, &mut out).map_err(|error| {
                let message = error.message.clone();
                failed = Some(error);
                io::Error::other(message)
            })
        });
        match failed {
            // What keeps the program from taking more, it tells itself.
            Some(error) if !refuses.get() => Err(error),
            _ => taken.map_err(|e| cannot_prepare(target, e)),
        }
    }

    /// Writes what it is given into a new file.
    fn writing(&self, target: &Path) -> Command {
        self.shell("umask 077 && set -C && cat >\"$0\"", &[target])
    }

    /// Runs a script with the server's rights.
    pub(super) fn run(&self, script: &str, places: &[&Path]) -> Result<()> {
        let place = places.first().copied().unwrap_or(Path::new(""));
        tools::run_quiet(self.shell(script, places), self.control).map_err(|e| cannot_prepare(place, e))
    }

    fn shell(&self, script: &str, places: &[&Path]) -> Command {
        let mut shell = self.account.command(Path::new(process::SHELL));
        shell.args(["-c", script]).args(places);
        shell
    }

    fn check(&self) -> Result<()> {
        self.control.check().map_err(|e| Error::engine("the restore was stopped", e))
    }
}

/// Notes whether it was the taker who ended it.
struct Noting<'w> {
    out: &'w mut dyn Write,
    refuses: &'w Cell<bool>,
}

impl Write for Noting<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.out.write(data).inspect_err(|_| self.refuses.set(true))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn cannot_prepare(place: &Path, e: io::Error) -> Error {
    Error::io(format!("cannot prepare the files of a server, {}", place.display()), e)
}
