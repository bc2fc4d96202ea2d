//! Real PostgreSQL servers, as the distribution's packages bring them. Each has a directory and a port of its own and
//! belongs to the user `postgres`, as the server refuses to run as root.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, OnceLock};

use tempfile::TempDir;

use crate::server::wait_for;
use crate::services::free_port;

/// The superuser's password.
pub const PASSWORD: &str = "planted-password-of-the-superuser";

/// A running server. Stopped when dropped.
pub struct Postgres {
    home: TempDir,
    bin: PathBuf,
    pub port: u16,
}

/// The releases that are installed, oldest first: first number, and where their programs lie.
pub fn installed() -> Vec<(u32, PathBuf)> {
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .collect();
    found.sort();
    found
}

/// Of the user that servers run as, if we are root.
fn user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap();
    let line = passwd.lines().find(|line| line.starts_with("postgres:")).expect("a user 'postgres'");
    let fields: Vec<&str> = line.split(':').collect();
    Some((fields[2].parse().unwrap(), fields[3].parse().unwrap()))
}

fn as_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user() {
        command.uid(uid).gid(gid);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Where a server's files may be put, in a directory of ours, or of the user's that servers run as.
pub fn place(of_servers: bool) -> TempDir {
    let home = passable_directory();
    if let Some((uid, gid)) = user().filter(|_| of_servers) {
        chown(home.path(), Some(uid), Some(gid)).unwrap();
    }
    home
}

fn passable_directory() -> TempDir {
    let home = tempfile::Builder::new().prefix("pg").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    home
}

/// A fresh cluster, made once of each kind and copied for each server.
fn template(bin: &Path, small_segments: bool) -> &'static Path {
    static MADE: [OnceLock<TempDir>; 2] = [OnceLock::new(), OnceLock::new()];
    MADE[usize::from(small_segments)]
        .get_or_init(|| {
            let home = passable_directory();
            let (data, password) = (home.path().join("data"), home.path().join("password"));
            std::fs::create_dir(&data).unwrap();
            std::fs::write(&password, PASSWORD).unwrap();
            if let Some((uid, gid)) = user() {
                chown(&data, Some(uid), Some(gid)).unwrap();
                chown(&password, Some(uid), Some(gid)).unwrap();
            }
            let options =
                ["-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"];
            let mut command = as_user(&bin.join("initdb"));
            command.arg("-D").arg(&data).args(options).arg("--pwfile").arg(&password);
            if small_segments {
                command.arg("--wal-segsize=1");
            }
            run(&mut command);
            home
        })
        .path()
}

impl Postgres {
    /// Starts one of the newest release that is installed; `None`, with a word about it, if none is.
    pub fn start() -> Option<Self> {
        Self::start_with(false)
    }

    /// The same with segments of its write-ahead log of 1 MiB, so that a test sees many.
    pub fn start_with_small_segments() -> Option<Self> {
        Self::start_with(true)
    }

    fn start_with(small_segments: bool) -> Option<Self> {
        let Some((_, bin)) = installed().pop() else {
            eprintln!("SKIPPED: no PostgreSQL server is installed");
            return None;
        };
        let home = passable_directory();
        let template = template(&bin, small_segments);
        run(Command::new("cp").arg("-a").arg(template.join("data")).arg(home.path().join("data")));
        let postgres = Self { home, bin, port: free_port() };
        postgres.control("start");
        Some(postgres)
    }

    /// Starts one on the files in `data` of a directory of [`place`].
    pub fn on(home: TempDir) -> Self {
        let (_, bin) = installed().pop().expect("an installed server");
        let postgres = Self { home, bin, port: free_port() };
        postgres.control("start");
        postgres
    }

    fn control(&self, verb: &str) {
        let directory = self.home.path();
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c full_page_writes=off -c max_connections=60 -c \
             max_prepared_transactions=4 -c wal_level=logical -c shared_buffers=64MB",
            self.port,
            directory.join("data").display()
        );
        let mut command = as_user(&self.bin.join("pg_ctl"));
        command.arg("-D").arg(directory.join("data")).args(["-w", "-t", "60", "-m", "immediate"]);
        if verb == "start" {
            command.args(["-l".into(), directory.join("data/server.log"), "-o".into(), options.into()]);
        }
        let status = command.arg(verb).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(
            status.success(),
            "pg_ctl {verb}: {:?}",
            std::fs::read_to_string(directory.join("data/server.log"))
        );
    }

    /// Dies.
    pub fn stop(&self) {
        self.control("stop");
    }

    /// Keeps its files as they are, after [`Postgres::stop`].
    pub fn keep_state(&self) {
        let home = self.home.path();
        run(Command::new("cp").arg("-a").arg(home.join("data")).arg(home.join("earlier")));
    }

    /// Gives it back the files that were kept: what came since is undone. After [`Postgres::stop`].
    pub fn go_back(&self) {
        let home = self.home.path();
        std::fs::remove_dir_all(home.join("data")).unwrap();
        std::fs::rename(home.join("earlier"), home.join("data")).unwrap();
    }

    /// Has it begin a new time line, as after a restore of its own. After [`Postgres::stop`].
    pub fn start_on_a_new_time_line(&self) {
        let signal = self.home.path().join("data/recovery.signal");
        std::fs::write(&signal, "").unwrap();
        if let Some((uid, gid)) = user() {
            chown(&signal, Some(uid), Some(gid)).unwrap();
        }
        self.control("start");
        wait_for("the end of the recovery", || {
            (self.sql("postgres", "SELECT pg_is_in_recovery()") == "f").then_some(())
        });
    }

    /// kill -9 of the server and of all that it has started.
    pub fn kill(&self) {
        let note = std::fs::read_to_string(self.home.path().join("data/postmaster.pid")).unwrap();
        let server: i32 = note.lines().next().unwrap().parse().unwrap();
        let pid = |number| rustix::process::Pid::from_raw(number).unwrap();
        // It can start no more of them while it stands still.
        rustix::process::kill_process(pid(server), rustix::process::Signal::STOP).unwrap();
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        let children: Vec<i32> = children.split_whitespace().map(|number| number.parse().unwrap()).collect();
        let all = || children.iter().copied().chain([server]);
        for number in all() {
            let _ = rustix::process::kill_process(pid(number), rustix::process::Signal::KILL);
        }
        // Whoever is dead and was not asked for yet is a zombie.
        let is_gone = |number: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
            stat.rsplit_once(')').is_none_or(|(_, state)| state.trim_start().starts_with('Z'))
        };
        wait_for("killed processes", || all().all(is_gone).then_some(()));
        // To whom asks by its number a zombie is there.
        let data = self.home.path().join("data");
        for lock in [data.join("postmaster.pid"), data.join(format!(".s.PGSQL.{}.lock", self.port))] {
            std::fs::remove_file(lock).unwrap();
        }
    }

    /// After [`Postgres::stop`] or [`Postgres::kill`].
    pub fn start_again(&self) {
        self.control("start");
    }

    /// From now on speaks in secret alone, as `localhost`; returns the certificate by which it may be known.
    pub fn encrypt(&self) -> PathBuf {
        let data = self.home.path().join("data");
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (data.join("server.crt"), data.join("server.key"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = user() {
            chown(&key, Some(uid), Some(gid)).unwrap();
        }
        let rules = data.join("pg_hba.conf");
        let before = std::fs::read_to_string(&rules).unwrap();
        std::fs::write(&rules, format!("hostnossl all all all reject\n{before}")).unwrap();
        self.sql("postgres", "ALTER SYSTEM SET ssl = on");
        self.sql("postgres", "SELECT pg_reload_conf()");
        let copy = self.home.path().join("authority.pem");
        std::fs::copy(&certificate, &copy).unwrap();
        wait_for("encryption", || self.try_sql("postgres", "SHOW ssl").ok().filter(|on| on == "on"));
        copy
    }

    /// `postgres://…`, without the password.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/", self.port)
    }

    /// A directory for a tablespace.
    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.home.path().join("data").join(name);
        std::fs::create_dir(&path).unwrap();
        if let Some((uid, gid)) = user() {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
        path
    }

    /// Whether an extension's files are installed.
    pub fn has_extension(&self, name: &str) -> bool {
        let text = format!("SELECT count(*) FROM pg_available_extensions WHERE name = '{name}'");
        self.sql("postgres", &text) == "1"
    }

    /// A program of the server's, as the superuser.
    pub fn tool(&self, name: &str) -> Command {
        let mut command = Command::new(self.bin.join(name));
        command.env("PGHOST", "127.0.0.1").env("PGPORT", self.port.to_string()).env("PGUSER", "postgres");
        command.env("PGPASSWORD", PASSWORD);
        command
    }

    /// Runs SQL; the rows, without their frame.
    pub fn sql(&self, database: &str, text: &str) -> String {
        self.try_sql(database, text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The same where it may fail.
    pub fn try_sql(&self, database: &str, text: &str) -> Result<String, String> {
        let mut command = self.tool("psql");
        command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", text]);
        let output = command.output().unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Runs a script from its text, each statement by itself.
    pub fn script(&self, database: &str, text: &str) {
        let file = self.home.path().join("script.sql");
        std::fs::write(&file, text).unwrap();
        run(self.tool("psql").args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f"]).arg(&file));
    }

    /// All of a database as text, by the server's own tool.
    pub fn dump(&self, database: &str) -> String {
        let text = run(self.tool("pg_dump").args(["--create", "--encoding=UTF8", database]));
        // A random word that each dump has anew.
        text.lines().filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict")).fold(
            String::new(),
            |mut all, line| {
                all.push_str(line);
                all.push('\n');
                all
            },
        )
    }

    /// Roles and tablespaces as text.
    pub fn globals(&self) -> String {
        let text = run(self.tool("pg_dumpall").arg("--globals-only"));
        text.lines()
            .filter(|line| !line.contains("restrict ") && !line.starts_with("--"))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut command = as_user(&self.bin.join("pg_ctl"));
        command.arg("-D").arg(self.home.path().join("data")).args(["-w", "-m", "immediate", "stop"]);
        let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A way to a server that breaks once so many bytes have passed in a direction.
pub struct Breaking {
    pub port: u16,
}

impl Breaking {
    /// `from_server`: which direction is counted.
    pub fn start(server: &Postgres, bytes: usize, from_server: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, left) = (server.port, Arc::new(AtomicIsize::new(bytes.try_into().unwrap())));
        std::thread::spawn(move || {
            for inner in listener.incoming().map_while(Result::ok) {
                let Ok(outer) = TcpStream::connect(("127.0.0.1", target)) else { return };
                for (from, to, counted) in [(&inner, &outer, !from_server), (&outer, &inner, from_server)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let left = Arc::clone(&left);
                    std::thread::spawn(move || {
                        let mut buffer = [0; 4096];
                        while let Ok(length @ 1..) = from.read(&mut buffer) {
                            let taken = if counted { length.cast_signed() } else { 0 };
                            let broken = left.fetch_sub(taken, Ordering::SeqCst) <= taken;
                            if broken || to.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                    });
                }
            }
        });
        Self { port }
    }
}
