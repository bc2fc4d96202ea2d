//! `pg_dump`, `pg_restore` and `pg_dumpall`: where they are, and running them so that their end counts.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use repository::Control;

use crate::process::{self, Ended, Output};
use crate::{Error, ErrorKind, Result};

/// So long a tool may take to quit.
const QUIT_TIME: Duration = Duration::from_secs(5);
/// So much a pipe is asked to hold, which is what everybody may have: both sides then wait seldom for each other.
const PIPE_BYTES: usize = 1 << 20;
/// From this release on the tools set what older servers do not know, and restores into those fail.
const FUSSY_SINCE_MAJOR: u32 = 17;

/// The tools of one release.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    directory: PathBuf,
    /// The release's first number.
    pub(super) major: u32,
}

impl Tools {
    /// The oldest tools that are not older than the server's `major`, as `pg_dump` refuses a newer server, and not so new
    /// that it does not understand them. `directory`: only there.
    pub(super) fn find(directory: Option<&Path>, major: u32) -> Result<Self> {
        let found = installed(directory, &["pg_dump", "pg_restore", "pg_dumpall"]);
        let end = if major < FUSSY_SINCE_MAJOR { FUSSY_SINCE_MAJOR } else { u32::MAX };
        if let Some((&major, directory)) = found.range(major..end).next() {
            return Ok(Self { directory: directory.clone(), major });
        }
        let have: Vec<String> = found.keys().map(u32::to_string).collect();
        let have = match have.is_empty() {
            true => "none were found".to_owned(),
            false => format!("those of {} were found", have.join(", ")),
        };
        let wanted =
            if end < u32::MAX { format!("{major} to {}", end - 1) } else { format!("{major} or newer") };
        let message = format!(
            "the client tools of PostgreSQL {wanted} (pg_dump, pg_restore, pg_dumpall) are needed, and {have}; install them, or set \
             tools_directory"
        );
        Err(Error::new(ErrorKind::Missing, message))
    }

    /// The oldest server that is installed here and not older than `major`, to start one of our own. `directory`: only there.
    pub(super) fn find_server(directory: Option<&Path>, major: u32) -> Result<Self> {
        let found = installed(directory, &["postgres", "initdb"]);
        if let Some((&major, directory)) = found.range(major..).next() {
            return Ok(Self { directory: directory.clone(), major });
        }
        let have: Vec<String> = found.keys().map(u32::to_string).collect();
        let have = match have.is_empty() {
            true => "none was found".to_owned(),
            false => format!("{} was found", have.join(", ")),
        };
        let message = format!(
            "a PostgreSQL server of our own is needed, release {major} or newer, and {have} here; install the package of the \
             server (postgres, initdb), or set tools_directory"
        );
        Err(Error::new(ErrorKind::Missing, message))
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    for (parent, tail) in [("/usr/lib/postgresql", "bin"), ("/usr/local/pgsql", "bin")] {
        for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
            places.push(entry.path().join(tail));
        }
        places.push(Path::new(parent).join(tail));
    }
    for entry in std::fs::read_dir("/usr").into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("pgsql-") {
            places.push(entry.path().join("bin"));
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    places.extend(std::env::split_paths(&path));
    places
}

/// Directories with these programs, by the first number of their release, which the first program tells. Of two with the
/// same, the first.
fn installed(directory: Option<&Path>, programs: &[&str]) -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    for place in directory.map_or_else(usual_places, |directory| vec![directory.to_owned()]) {
        if programs.iter().all(|name| place.join(name).is_file())
            && let Some(major) = programs.first().and_then(|name| major_of(&place.join(name)))
        {
            found.entry(major).or_insert(place);
        }
    }
    found
}

fn major_of(program: &Path) -> Option<u32> {
    let output = Command::new(program).arg("--version").env_clear().output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Starts a tool whose output is wanted. It waits when its pipe is full, until somebody reads.
pub(super) fn start(mut command: Command) -> io::Result<Running> {
    Running::start(command.stdin(Stdio::null()).stdout(Stdio::piped()))
}

/// Hands on what a tool writes, piece by piece. It counts only if the tool ended well. It is killed when the job is
/// cancelled, or nobody takes what it writes.
pub(super) fn run(mut running: Running, control: &Control, out: &mut dyn Write) -> io::Result<()> {
    let mut child = running.take()?;
    let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
    widen(&stdout);
    let failed = AtomicBool::new(false);
    let stop = || failed.load(Ordering::Relaxed) || control.cancelled.load(Ordering::Relaxed);
    let (copied, ended) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| process::wait(child, None, &stop));
        let copied = io::copy(&mut BufReader::with_capacity(PIPE_BYTES, stdout), out);
        failed.store(copied.is_err(), Ordering::Relaxed);
        (copied, waiting.join())
    });
    copied?;
    running.judge(ended.unwrap_or_else(|_| Err(io::Error::other("nobody waited for it; please report this"))))
}

/// Makes a pipe hold more. One that stays as it is, as this user has many, does as well.
fn widen(pipe: &impl AsFd) {
    let _ = rustix::pipe::fcntl_setpipe_size(pipe, PIPE_BYTES);
}

/// Runs a tool that writes nothing we want. It is killed when the job is cancelled.
pub(super) fn run_quiet(command: Command, control: &Control) -> io::Result<()> {
    run_until(command, &|| control.cancelled.load(Ordering::Relaxed))
}

/// The same until somebody says that it is to stop: `Interrupted`.
pub(super) fn run_until(mut command: Command, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let mut running = Running::start(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let ended = process::wait(running.take()?, None, stop);
    running.judge(ended)
}

/// The same for a tool that was made by [`super::server::Server::guarded_tool`]: it is told to quit, and gets the time for it.
pub(super) fn run_guarded(mut command: Command, name: &str, stop: &dyn Fn() -> bool) -> io::Result<()> {
    let (reader, lifeline) = io::pipe()?;
    let mut running = Running::start_as(name.to_owned(), command.stdin(reader).stdout(Stdio::null()))?;
    command.stdin(Stdio::null()); // closes our copy of the pipe's reading end
    let lifeline = Cell::new(Some(lifeline));
    let asked = Cell::new(None::<Instant>);
    let ended = process::wait(running.take()?, None, &|| {
        if asked.get().is_none() && stop() {
            drop(lifeline.take());
            asked.set(Some(Instant::now()));
        }
        asked.get().is_some_and(|asked| asked.elapsed() > QUIT_TIME)
    });
    match asked.get() {
        None => running.judge(ended),
        Some(_) => Err(io::Error::new(io::ErrorKind::Interrupted, "stopped")),
    }
}

/// Gives a tool what `write` writes. It is killed when that fails, or the job is cancelled.
pub(super) fn fill(
    mut command: Command,
    control: &Control,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut running = Running::start(command.stdin(Stdio::piped()).stdout(Stdio::null()))?;
    let mut child = running.take()?;
    let mut stdin = child.stdin.take().ok_or_else(|| io::Error::other("no pipe"))?;
    widen(&stdin);
    let failed = AtomicBool::new(false);
    let stop = || failed.load(Ordering::Relaxed) || control.cancelled.load(Ordering::Relaxed);
    let (written, ended) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| process::wait(child, None, &stop));
        let written = write(&mut stdin);
        drop(stdin);
        // Whom the tool's own end kept from writing has its reason from the tool.
        failed
            .store(written.as_ref().is_err_and(|e| e.kind() != io::ErrorKind::BrokenPipe), Ordering::Relaxed);
        (written, waiting.join())
    });
    let ended = ended.unwrap_or_else(|_| Err(io::Error::other("nobody waited for it; please report this")));
    match running.judge(ended) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => Err(e),
        other => written.and(other),
    }
}

/// A tool that was started. Dropped before somebody waits for it it is killed.
pub(super) struct Running {
    child: Option<Child>,
    name: String,
    said: Output,
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        let program = Path::new(command.get_program()).file_name().unwrap_or_default();
        Self::start_as(program.to_string_lossy().into_owned(), command)
    }

    /// For people, and in what it says, it has this name.
    fn start_as(name: String, command: &mut Command) -> io::Result<Self> {
        let fail = |e: io::Error| io::Error::new(e.kind(), format!("{name} could not be started: {e}"));
        let (reader, writer) = io::pipe().map_err(fail)?;
        let child = command.stderr(writer).process_group(0).spawn().map_err(fail)?;
        command.stderr(Stdio::null()); // closes our copy of the pipe's writing end
        let mut statements = Statements { name: format!("{name}: "), line: Vec::new(), skipping: false };
        let said = Output::collect(reader, move |piece, kept| statements.leave_out(piece, kept));
        Ok(Self { child: Some(child), name, said })
    }

    fn take(&mut self) -> io::Result<Child> {
        self.child.take().ok_or_else(|| io::Error::other(format!("{} was waited for already", self.name)))
    }

    fn judge(&self, ended: io::Result<Ended>) -> io::Result<()> {
        match ended? {
            Ended::By(status) if status.success() => Ok(()),
            Ended::By(status) => {
                Err(io::Error::other(format!("{} failed ({status}): {}", self.name, self.said.tail())))
            }
            Ended::Stopped | Ended::TimedOut => Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled")),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            process::kill(child);
        }
    }
}

/// Leaves statements that failed, and rows, out of what a tool says: passwords may stand in them. One may go over several lines; what the
/// tool says by itself begins with its name.
struct Statements {
    name: String,
    line: Vec<u8>,
    skipping: bool,
}

/// What comes before a statement, or before rows and values, in the language that the tools are given.
const STATEMENTS: [&str; 5] =
    ["Command was:", "Query was:", "STATEMENT:", "CONTEXT:", "DETAIL:  Failing row"];
/// So much of a line is looked at.
const LINE_BYTES_MAX: usize = 4096;

impl Statements {
    fn leave_out(&mut self, piece: &[u8], kept: &mut Vec<u8>) {
        for &byte in piece {
            if byte != b'\n' {
                if self.line.len() < LINE_BYTES_MAX {
                    self.line.push(byte);
                }
                continue;
            }
            let line = String::from_utf8_lossy(&self.line);
            self.skipping &= !line.starts_with(&self.name);
            let statement = STATEMENTS.iter().filter_map(|word| line.find(word)).min();
            if !self.skipping {
                kept.extend_from_slice(line[..statement.unwrap_or(line.len())].as_bytes());
                kept.push(b'\n');
            }
            self.skipping |= statement.is_some();
            self.line.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.arg("-c").arg(script);
        command
    }

    #[test]
    fn what_a_tool_wrote_counts_only_if_it_ended_well() {
        let (mut out, control) = (Vec::new(), Control::default());
        run(start(shell("echo data")).unwrap(), &control, &mut out).unwrap();
        assert_eq!(out, b"data\n");
        let error = run(start(shell("echo half; echo 'no rights' >&2; exit 1")).unwrap(), &control, &mut out)
            .unwrap_err()
            .to_string();
        assert!(error.contains("sh failed (exit status: 1): no rights"), "{error}");
    }

    #[test]
    fn a_cancelled_job_ends_its_tool() {
        let control = Control::default();
        control.cancel();
        assert_eq!(
            run_quiet(shell("exec sleep 600"), &control).unwrap_err().kind(),
            io::ErrorKind::Interrupted
        );
        let error = run(start(shell("exec sleep 600")).unwrap(), &control, &mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn a_guarded_tool_is_asked_to_quit_and_ends_with_whoever_started_it() {
        let dir = tempfile::tempdir().unwrap();
        let guarded = |note: &Path| {
            let script =
                "trap 'echo asked >\"$0\"; exit' TERM; echo runs >\"$0\"; while :; do sleep 0.05; done";
            let mut command = Command::new(process::SHELL);
            command.args(["-c", process::GUARD, "TERM", "/bin/sh", "-c", script]).arg(note);
            command
        };
        let says = |note: &Path, word: &str| {
            let deadline = Instant::now() + Duration::from_secs(20);
            while !std::fs::read_to_string(note).is_ok_and(|text| text.trim() == word) {
                assert!(Instant::now() < deadline, "it never said '{word}'");
                std::thread::yield_now();
            }
        };
        let note = dir.path().join("told");
        let stop = || std::fs::read_to_string(&note).is_ok_and(|text| text.trim() == "runs");
        let stopped = run_guarded(guarded(&note), "sh", &stop).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::Interrupted);
        says(&note, "asked");

        // Nobody tells it anything: the other end of its pipe is gone, as when we are killed.
        let note = dir.path().join("left");
        let (reader, lifeline) = io::pipe().unwrap();
        let mut command = guarded(&note);
        let mut child = command.stdin(reader).spawn().unwrap();
        drop(command);
        says(&note, "runs");
        drop(lifeline);
        says(&note, "asked");
        child.wait().unwrap();
    }

    #[test]
    fn the_statement_that_failed_is_not_told() {
        let said = "pg_restore: error: could not execute query: ERROR:  no\nCommand was: CREATE SUBSCRIPTION s\n  CONNECTION 'password=planted';\n\npg_restore: detail: more";
        let said = format!(
            "{said}\nQuery was: CREATE FUNCTION {}\npg_catalog.planted\npg_restore: hint: none\n",
            "x".repeat(9000)
        );
        let mut statements =
            Statements { name: "pg_restore: ".to_owned(), line: Vec::new(), skipping: false };
        let mut kept = Vec::new();
        said.as_bytes().chunks(7).for_each(|piece| statements.leave_out(piece, &mut kept));
        assert_eq!(
            String::from_utf8(kept).unwrap().lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(),
            [
                "pg_restore: error: could not execute query: ERROR:  no",
                "pg_restore: detail: more",
                "pg_restore: hint: none"
            ]
        );
    }

    #[test]
    fn tools_that_are_too_old_are_refused_with_what_is_needed() {
        let empty = tempfile::tempdir().unwrap();
        let error = Tools::find(Some(empty.path()), 15).unwrap_err();
        assert!(
            error.message.contains("PostgreSQL 15 to 16") && error.message.contains("none were found"),
            "{error}"
        );
        for name in ["pg_dump", "pg_restore", "pg_dumpall"] {
            use std::os::unix::fs::PermissionsExt;
            let path = empty.path().join(name);
            std::fs::write(&path, "#!/bin/sh\necho 'pg_dump (PostgreSQL) 14.9 (Debian)'\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(Tools::find(Some(empty.path()), 13).unwrap().major, 14);
        let error = Tools::find(Some(empty.path()), 15).unwrap_err();
        assert!(error.message.contains("those of 14 were found"), "{error}");
    }
}
