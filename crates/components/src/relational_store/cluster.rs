//! A PostgreSQL server of our own, for a drill: in a private directory, reached by a socket in it alone, without archiving and
//! without durability. It ends with whoever started it, however that one ends.
//!
//! ```text
//! <place>/data     the cluster
//! <place>/.s.…     its socket
//! <place>/spaceN   tablespaces
//! ```
//! The shell that starts it waits for the end of a pipe that we hold, and then tells the server to stop; so it also stops when
//! we are killed. What outlives both is ended by [`end_cluster`], before its directory is removed.

use std::io::{self, PipeWriter, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use repository::Control;
use rustix::process::{Pid, Signal, kill_process};

use super::server::Server;
use super::tools::{self, Tools};
use super::{failure, quote};
use crate::drill::Place;
use crate::process::{self, Output};
use crate::{Error, ErrorKind, Result};

/// The superuser; no server has a role of this name, whose place it would take.
const ROLE: &str = "strongroom_drill";
const PORT: u16 = 5432;
/// As whom a server runs where we are root, which PostgreSQL refuses to be.
const ACCOUNT: &str = "postgres";
/// Longest path of a socket that systems take.
const SOCKET_BYTES_MAX: usize = 107;
const START_TIME: Duration = Duration::from_secs(60);
/// So long a server may take to stop before it is killed.
const STOP_TIME: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// `$0 server arguments…`, with the pipe as standard input.
const GUARD: &str = r#"exec 3<&0 </dev/null
"$0" "$@" 3<&- &
server=$!
{ read -r _ <&3; kill -QUIT "$server"; } 2>/dev/null &
guard=$!
exec 3<&-
wait "$server"
status=$?
kill "$guard" 2>/dev/null
exit "$status""#;

/// Settings beside the server's own. Nothing is archived, sent or fetched, and no crash has to be survived.
const SETTINGS: [&str; 16] = [
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "archive_mode=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_logical_replication_workers=0",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "autovacuum=off",
    "max_connections=100",
    "max_locks_per_transaction=1024",
    "max_prepared_transactions=0",
    "shared_buffers=128MB",
    "max_wal_size=4GB",
    "logging_collector=off",
];

/// A running server; it is ended with this value.
pub(super) struct Cluster {
    /// The way to it.
    pub server: Server,
    stop: Arc<AtomicBool>,
    guard: Option<JoinHandle<()>>,
}

impl Cluster {
    /// Makes and starts one in an empty place, with these tablespaces.
    pub(super) fn start(
        place: &Place,
        tools: &Tools,
        tablespaces: &[&str],
        control: &Arc<Control>,
    ) -> Result<Self> {
        let home = place.path();
        let fail = |e: io::Error| Error::io(format!("cannot prepare a server in {}", home.display()), e);
        if home.as_os_str().len() + "/.s.PGSQL.65535".len() > SOCKET_BYTES_MAX {
            let message = format!(
                "{} is too long for the socket of a server; set drills.directory to a shorter one",
                home.display()
            );
            return Err(Error::new(ErrorKind::Io, message));
        }
        let account = Account::of_servers()?;
        let spaces: Vec<PathBuf> = (0..tablespaces.len()).map(|n| home.join(format!("space{n}"))).collect();
        for directory in spaces.iter().chain([&home.join("data")]) {
            std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(fail)?;
            account.give(directory).map_err(fail)?;
        }
        account.give(&home).map_err(fail)?;
        account.check_way(&home)?;

        let mut command = account.command(&tools.path("initdb"));
        command.arg("-D").arg(home.join("data")).args(["-U", ROLE, "-E", "UTF8", "--locale=C", "--no-sync"]);
        command.args(["--auth-local=trust", "--auth-host=reject"]);
        tools::run_quiet(command, control).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => cancelled(),
            _ => fail(e),
        })?;
        let cluster = Self::run(&home, tools, &account, control)?;
        cluster.make_tablespaces(tablespaces, &spaces)?;
        Ok(cluster)
    }

    fn run(home: &Path, tools: &Tools, account: &Account, control: &Arc<Control>) -> Result<Self> {
        let fail = |e: io::Error| Error::io("cannot start a server for a drill", e);
        let server = server_at(home)?;
        let (reader, lifeline) = io::pipe().map_err(fail)?;
        let (said, writer) = io::pipe().map_err(fail)?;
        let mut command = account.command(Path::new("/bin/sh"));
        command.args(["-c", GUARD]).arg(tools.path("postgres")).arg("-D").arg(home.join("data"));
        command.arg("-k").arg(home).args(["-p", &PORT.to_string()]);
        command.args(SETTINGS.iter().flat_map(|setting| ["-c", *setting]));
        command.stdin(reader).stdout(Stdio::null()).stderr(writer).process_group(0);
        let child = command.spawn().map_err(fail)?;
        drop(command); // closes our copies of the pipes' ends
        let said = Output::collect(said, |piece, kept| kept.extend_from_slice(piece));
        let stop = Arc::new(AtomicBool::new(false));
        let guard = {
            let (stop, control) = (Arc::clone(&stop), Arc::clone(control));
            std::thread::spawn(move || keep(child, lifeline, &stop, &control))
        };
        let cluster = Self { server, stop, guard: Some(guard) };
        cluster.wait_until_ready(&said, control)?;
        Ok(cluster)
    }

    fn wait_until_ready(&self, said: &Output, control: &Control) -> Result<()> {
        let deadline = Instant::now() + START_TIME;
        loop {
            let error = match self.server.connect(self.server.maintenance()) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if control.cancelled.load(Ordering::Relaxed) {
                return Err(cancelled());
            }
            let has_ended = self.guard.as_ref().is_none_or(JoinHandle::is_finished);
            if has_ended || Instant::now() > deadline {
                let message = match has_ended {
                    true => format!("the server of a drill did not start; it said: {}", said.tail()),
                    false => format!("the server of a drill does not answer: {error}"),
                };
                return Err(Error::new(ErrorKind::Io, message));
            }
            std::thread::sleep(POLL);
        }
    }

    fn make_tablespaces(&self, names: &[&str], places: &[PathBuf]) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut client = self.server.connect(self.server.maintenance())?;
        for (name, place) in names.iter().zip(places) {
            let place = quote::literal(&place.display().to_string());
            client
                .batch_execute(&format!("CREATE TABLESPACE {} LOCATION {place}", quote::ident(name)))
                .map_err(|e| failure::server(format!("cannot make the tablespace '{name}'"), &e))?;
        }
        Ok(())
    }

    /// How programs find it, in the words of their environment.
    pub(super) fn environment(home: &Path) -> Vec<(&'static str, String)> {
        vec![
            ("PGHOST", home.display().to_string()),
            ("PGPORT", PORT.to_string()),
            ("PGUSER", ROLE.to_owned()),
            ("PGDATABASE", "postgres".to_owned()),
        ]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(guard) = self.guard.take() {
            let _ = guard.join();
        }
    }
}

/// Waits for the end of the server, and brings it about when it is to stop or the job is cancelled.
fn keep(mut child: Child, lifeline: PipeWriter, stop: &AtomicBool, control: &Control) {
    while !stop.load(Ordering::Relaxed) && !control.cancelled.load(Ordering::Relaxed) {
        match child.try_wait() {
            Ok(None) => std::thread::sleep(POLL),
            _ => return,
        }
    }
    drop(lifeline);
    if let Err(error) = process::wait(child, Some(STOP_TIME), &|| false) {
        tracing::warn!("the server of a drill could not be waited for: {error}");
    }
}

pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the drill was cancelled")
}

fn server_at(home: &Path) -> Result<Server> {
    let host: String = home.as_os_str().as_bytes().iter().map(|byte| format!("%{byte:02X}")).collect();
    Server::new(&format!("postgres://{ROLE}@{host}:{PORT}/postgres"), None, None).map_err(|why| {
        Error::new(ErrorKind::Io, format!("cannot reach a server in {}: {why}", home.display()))
    })
}

/// As whom the server runs: `None` is ourselves.
struct Account(Option<(u32, u32)>);

impl Account {
    fn of_servers() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let of = users.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [ACCOUNT, _, user, group, ..] = fields.as_slice() else { return None };
            Some((user.parse().ok()?, group.parse().ok()?))
        });
        of.map(|of| Self(Some(of))).ok_or_else(|| {
            let message = format!(
                "PostgreSQL does not run as root, and there is no user '{ACCOUNT}' here as whom the server of a drill could run; make \
                 one, or run Strongroom as a user of its own"
            );
            Error::new(ErrorKind::Missing, message)
        })
    }

    fn give(&self, path: &Path) -> io::Result<()> {
        self.0.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)))
    }

    /// Whether the server gets to its directory.
    fn check_way(&self, home: &Path) -> Result<()> {
        let Some((user, group)) = self.0 else { return Ok(()) };
        for directory in home.ancestors() {
            let found = std::fs::metadata(directory)
                .map_err(|e| Error::io(format!("cannot look at {}", directory.display()), e))?;
            let right = match (found.uid() == user, found.gid() == group) {
                (true, _) => 0o100,
                (_, true) => 0o010,
                _ => 0o001,
            };
            if found.mode() & right == 0 {
                let message = format!(
                    "the server of a drill runs as the user '{ACCOUNT}', as PostgreSQL refuses root, and that user may not pass \
                     through {}; set drills.directory to a place that it can reach, or run Strongroom as a user of its own",
                    directory.display()
                );
                return Err(Error::new(ErrorKind::Io, message));
            }
        }
        Ok(())
    }

    /// With nothing of our environment.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").current_dir("/");
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Ends the server whose cluster lies in a place, if one runs: a killed drill may have left it.
pub(crate) fn end_cluster(place: &Path) {
    let data = place.join("data");
    let Some(pid) = postmaster(&data) else { return };
    for (signal, time) in [(Signal::QUIT, STOP_TIME), (Signal::KILL, STOP_TIME)] {
        let _ = kill_process(pid, signal);
        let deadline = Instant::now() + time;
        while postmaster(&data).is_some() {
            if Instant::now() > deadline {
                break;
            }
            std::thread::sleep(POLL);
        }
    }
}

/// The number in the cluster's own note, if the process of that number still works in this directory.
fn postmaster(data: &Path) -> Option<Pid> {
    // What lies there was written by code of a backup's databases too: nothing that waits, and nothing long.
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open(data.join("postmaster.pid")).ok()?;
    let mut note = String::new();
    file.take(4096).read_to_string(&mut note).ok()?;
    let number: i32 = note.lines().next()?.trim().parse().ok()?;
    let pid = Pid::from_raw(number).filter(|_| number > 1)?;
    (std::fs::read_link(format!("/proc/{number}/cwd")).ok()? == data).then_some(pid)
}
