//! A PostgreSQL server of our own, for a drill or to replay a log: in a private directory, reached by a socket in it alone, without archiving and
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
/// A database that every server has.
const EVERYWHERE: &str = "template1";
const PORT: u16 = 5432;
/// As whom a server runs where we are root, which PostgreSQL refuses to be.
const ACCOUNT: &str = "postgres";
/// Longest path of a socket that systems take.
const SOCKET_BYTES_MAX: usize = 107;
/// Where its data lie in a place.
pub(super) const DATA: &str = "data";
const START_TIME: Duration = Duration::from_secs(60);
/// So long a server may take to stop before it is killed.
const STOP_TIME: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// Settings beside the server's own. Nothing is archived, sent or fetched, and no crash has to be survived.
const SETTINGS: [&str; 18] = [
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
    "max_replication_slots=1000",
    "shared_buffers=128MB",
    "max_wal_size=4GB",
    "logging_collector=off",
    "log_min_messages=fatal",
];

/// A running server; it is ended with this value.
pub(super) struct Cluster {
    /// The way to it.
    pub server: Server,
    data: PathBuf,
    said: Output,
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
        let account = Account::of_servers()?;
        let spaces: Vec<PathBuf> = (0..tablespaces.len()).map(|n| home.join(format!("space{n}"))).collect();
        account.furnish(&home, spaces.iter().chain([&home.join(DATA)]))?;

        let mut command = account.command(&tools.path("initdb"));
        command.arg("-D").arg(home.join(DATA)).args(["-U", ROLE, "-E", "UTF8", "--locale=C", "--no-sync"]);
        command.args(["--auth-local=trust", "--auth-host=reject"]);
        tools::run_quiet(command, control).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => cancelled(),
            _ => Error::io(format!("cannot prepare a server in {}", home.display()), e),
        })?;
        let cluster = Self::run(&home, tools, &account, server_at(&home, ROLE)?, &[], control)?;
        cluster.wait_until_ready(Some(START_TIME), true, control)?;
        cluster.make_tablespaces(tablespaces, &spaces)?;
        Ok(cluster)
    }

    /// Starts one whose data lie in a place, and waits until it has replayed its log as these settings say. `user`: its superuser, if
    /// somebody is to connect to it.
    pub(super) fn replay(
        home: &Path,
        tools: &Tools,
        account: &Account,
        user: Option<&str>,
        settings: &[String],
        control: &Arc<Control>,
    ) -> Result<Self> {
        let server = server_at(home, user.unwrap_or(ROLE))?;
        let cluster = Self::run(home, tools, account, server, settings, control)?;
        cluster.wait_until_ready(None, user.is_some(), control)?;
        Ok(cluster)
    }

    fn run(
        home: &Path,
        tools: &Tools,
        account: &Account,
        server: Server,
        settings: &[String],
        control: &Arc<Control>,
    ) -> Result<Self> {
        let fail = |e: io::Error| Error::io("cannot start a server of our own", e);
        let (reader, lifeline) = io::pipe().map_err(fail)?;
        let (said, writer) = io::pipe().map_err(fail)?;
        let mut command = account.command(Path::new(process::SHELL));
        command
            .args(["-c", process::GUARD, "QUIT"])
            .arg(tools.path("postgres"))
            .arg("-D")
            .arg(home.join(DATA));
        command.arg("-k").arg(home).args(["-p", &PORT.to_string()]);
        // Of two settings of the same name the later one counts.
        let settings = SETTINGS.iter().copied().chain(settings.iter().map(String::as_str));
        command.args(settings.flat_map(|setting| ["-c", setting]));
        command.stdin(reader).stdout(Stdio::null()).stderr(writer).process_group(0);
        let child = command.spawn().map_err(fail)?;
        drop(command); // closes our copies of the pipes' ends
        let said = Output::collect(said, |piece, kept| kept.extend_from_slice(piece));
        let stop = Arc::new(AtomicBool::new(false));
        let guard = {
            let (stop, control) = (Arc::clone(&stop), Arc::clone(control));
            std::thread::spawn(move || keep(child, lifeline, &stop, &control))
        };
        Ok(Self { server, data: home.join(DATA), said, stop, guard: Some(guard) })
    }

    /// Within `time`, if it is limited, and so that we can connect, if we want to.
    fn wait_until_ready(&self, time: Option<Duration>, connects: bool, control: &Control) -> Result<()> {
        let mut deadline = time.map(|time| Instant::now() + time);
        loop {
            let mut why = "it is starting".to_owned();
            if is_ready(&self.data) {
                if !connects {
                    return Ok(());
                }
                // However long it took until now.
                deadline = deadline.or_else(|| Some(Instant::now() + START_TIME));
                match self.server.connect(self.server.maintenance()) {
                    Ok(_) => return Ok(()),
                    Err(error) => why = error.message,
                }
            }
            if control.cancelled.load(Ordering::Relaxed) {
                return Err(cancelled());
            }
            let has_ended = self.guard.as_ref().is_none_or(JoinHandle::is_finished);
            if has_ended || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                let message = match has_ended {
                    true => format!("the server of our own did not start; it said: {}", self.said.tail()),
                    false => format!("the server of our own does not answer: {why}"),
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
        tracing::warn!("a server of our own could not be waited for: {error}");
    }
}

pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::Cancelled, "the drill was cancelled")
}

fn server_at(home: &Path, user: &str) -> Result<Server> {
    let encoded = |bytes: &[u8]| bytes.iter().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let (host, user) = (encoded(home.as_os_str().as_bytes()), encoded(user.as_bytes()));
    Server::new(&format!("postgres://{user}@{host}:{PORT}/{EVERYWHERE}"), None, None).map_err(|why| {
        Error::new(ErrorKind::Io, format!("cannot reach a server in {}: {why}", home.display()))
    })
}

/// As whom the server runs: `None` is ourselves.
pub(super) struct Account(Option<(u32, u32)>);

impl Account {
    pub(super) fn of_servers() -> Result<Self> {
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
                "PostgreSQL does not run as root, and there is no user '{ACCOUNT}' here as whom a server of our own could run; make \
                 one, or run Strongroom as a user of its own"
            );
            Error::new(ErrorKind::Missing, message)
        })
    }

    /// Makes the private directories of a server in a place of its own.
    pub(super) fn furnish<'p>(
        &self,
        home: &Path,
        directories: impl Iterator<Item = &'p PathBuf>,
    ) -> Result<()> {
        let fail = |e: io::Error| Error::io(format!("cannot prepare a server in {}", home.display()), e);
        for directory in directories {
            std::fs::DirBuilder::new().mode(0o700).create(directory).map_err(fail)?;
            self.give(directory).map_err(fail)?;
        }
        self.give(home).map_err(fail)?;
        self.check_place(home)
    }

    /// Whether it is another one than we are, and of this number.
    pub(super) fn is(&self, number: u32) -> bool {
        self.0.is_some_and(|(user, _)| user == number)
    }

    /// Its name, if it is another one than we are.
    pub(super) fn name(&self) -> Option<&'static str> {
        self.0.map(|_| ACCOUNT)
    }

    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        self.0.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)))
    }

    /// Whether the server gets to its directory, and its socket has room there.
    pub(super) fn check_place(&self, home: &Path) -> Result<()> {
        if home.as_os_str().len() + "/.s.PGSQL.65535".len() > SOCKET_BYTES_MAX {
            let message = format!(
                "{} is too long for the socket of a server; choose a shorter one (in the configuration: drills.directory)",
                home.display()
            );
            return Err(Error::new(ErrorKind::Io, message));
        }
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
                    "a server of our own runs as the user '{ACCOUNT}', as PostgreSQL refuses root, and that user may not pass \
                     through {}; choose a place that it can reach (in the configuration: drills.directory), or run Strongroom as a user \
                     of its own",
                    directory.display()
                );
                return Err(Error::new(ErrorKind::Io, message));
            }
        }
        Ok(())
    }

    /// With nothing of our environment.
    pub(super) fn command(&self, program: &Path) -> Command {
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
    let data = place.join(DATA);
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

/// The cluster's own note about its server: a line each for its number, its directory and more; in the eighth stands how far it is.
fn note(data: &Path) -> Option<String> {
    // What lies there was written by code of a backup's databases too: nothing that waits, and nothing long.
    let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits().cast_signed();
    let file =
        std::fs::OpenOptions::new().read(true).custom_flags(flags).open(data.join("postmaster.pid")).ok()?;
    let mut note = String::new();
    file.take(4096).read_to_string(&mut note).ok()?;
    Some(note)
}

/// Whether the server says that it takes connections. Whoever tries before fills its log.
fn is_ready(data: &Path) -> bool {
    note(data).is_some_and(|note| note.lines().nth(7).is_some_and(|line| line.trim() == "ready"))
}

/// The number in that note, if the process of that number still works in this directory.
fn postmaster(data: &Path) -> Option<Pid> {
    let number: i32 = note(data)?.lines().next()?.trim().parse().ok()?;
    let pid = Pid::from_raw(number).filter(|_| number > 1)?;
    (std::fs::read_link(format!("/proc/{number}/cwd")).ok()? == data).then_some(pid)
}
