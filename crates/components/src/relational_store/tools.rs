//! `pg_dump`, `pg_restore` and `pg_dumpall`: where they are, and running them so that their end counts.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use repository::Control;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::{Error, ErrorKind, Result};

/// So much of what a tool complains of is told.
const OUTPUT_BYTES_MAX: usize = 4096;
const PIPE_BYTES: usize = 1 << 18;
/// How often a running tool looks whether the job was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(100);

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
        let found = match directory {
            Some(directory) => installed(&[directory.to_owned()]),
            None => installed(&usual_places()),
        };
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

/// By their first number. Of two with the same, the first.
fn installed(places: &[PathBuf]) -> BTreeMap<u32, PathBuf> {
    let mut found = BTreeMap::new();
    for place in places {
        if ["pg_dump", "pg_restore", "pg_dumpall"].iter().all(|name| place.join(name).is_file())
            && let Some(major) = major_of(&place.join("pg_dump"))
        {
            found.entry(major).or_insert_with(|| place.clone());
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
    Running::start(command.stdout(Stdio::piped()))
}

/// Hands on what a tool writes, piece by piece. It counts only if the tool ended well. It is killed when the job is
/// cancelled.
pub(super) fn run(mut running: Running, control: &Control, out: &mut dyn Write) -> io::Result<()> {
    let stdout = running.stdout()?;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                if control.cancelled.load(Ordering::Relaxed) {
                    running.kill();
                }
                std::thread::sleep(CANCEL_POLL);
            }
        });
        let copied = copy(stdout, out);
        done.store(true, Ordering::Relaxed);
        copied
    })?;
    running.end(control)
}

fn copy(mut from: impl Read, out: &mut dyn Write) -> io::Result<()> {
    let mut buffer = vec![0; PIPE_BYTES];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => out.write_all(&buffer[..length])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// Runs a tool that writes nothing we want. It is killed when the job is cancelled.
pub(super) fn run_quiet(mut command: Command, control: &Control) -> io::Result<()> {
    Running::start(command.stdout(Stdio::null()))?.end(control)
}

/// A tool at work. Dropped before its end it is killed.
pub(super) struct Running {
    child: Mutex<Child>,
    name: String,
    /// The end of what it complained of.
    said: Arc<Mutex<Vec<u8>>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        let name =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::null()).stderr(Stdio::piped()).process_group(0).spawn();
        let mut child =
            started.map_err(|e| io::Error::new(e.kind(), format!("{name} could not be started: {e}")))?;
        let said: Arc<Mutex<Vec<u8>>> = Arc::default();
        let listener = child.stderr.take().map(|stderr| {
            let (said, name) = (Arc::clone(&said), format!("{name}: "));
            std::thread::spawn(move || listen(stderr, &name, &said))
        });
        Ok(Self { child: Mutex::new(child), name, said, listener })
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stdout(&self) -> io::Result<ChildStdout> {
        self.child().stdout.take().ok_or_else(|| io::Error::other("no pipe"))
    }

    /// With those that it has started itself.
    fn kill(&self) {
        if let Err(error) = kill_process_group(Pid::from_child(&self.child()), Signal::KILL) {
            tracing::warn!(tool = self.name, %error, "cannot end a tool");
        }
    }

    fn end(&mut self, control: &Control) -> io::Result<()> {
        let status = loop {
            if let Some(status) = self.child().try_wait()? {
                break status;
            }
            if control.cancelled.load(Ordering::Relaxed) {
                self.kill();
            }
            std::thread::sleep(CANCEL_POLL);
        };
        if status.success() {
            return Ok(());
        }
        if control.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled"));
        }
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        Err(io::Error::other(format!("{} failed ({status}): {}", self.name, text(&said))))
    }
}

/// Keeps the end of what a tool says, without statements that failed, in which passwords may stand. A statement may go over
/// several lines; what the tool says by itself begins with its `name`.
fn listen(mut stderr: impl Read, name: &str, said: &Mutex<Vec<u8>>) {
    let (mut buffer, mut line, mut skipping) = ([0; OUTPUT_BYTES_MAX], Vec::new(), false);
    while let Ok(length @ 1..) = stderr.read(&mut buffer) {
        for &byte in &buffer[..length] {
            if byte != b'\n' {
                if line.len() < OUTPUT_BYTES_MAX {
                    line.push(byte);
                }
                continue;
            }
            let text = String::from_utf8_lossy(&line);
            skipping &= !text.starts_with(name);
            let statement = STATEMENTS.iter().filter_map(|word| text.find(word)).min();
            let kept = if skipping { "" } else { &text[..statement.unwrap_or(text.len())] };
            skipping |= statement.is_some();
            let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
            said.extend_from_slice(kept.as_bytes());
            said.push(b' ');
            let surplus = said.len().saturating_sub(OUTPUT_BYTES_MAX);
            said.drain(..surplus);
            drop(text);
            line.clear();
        }
    }
}

/// What comes before a statement, in the language that the tools are given.
const STATEMENTS: [&str; 3] = ["Command was:", "Query was:", "STATEMENT:"];

/// For people: without control characters.
fn text(said: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(said).chars().filter(|c| !c.is_control()).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Drop for Running {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Ok(None) = child.try_wait() {
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
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
    fn the_statement_that_failed_is_not_told() {
        let said = "pg_restore: error: could not execute query: ERROR:  no\nCommand was: CREATE SUBSCRIPTION s\n  CONNECTION 'password=planted';\n\npg_restore: detail: more";
        let kept = Mutex::default();
        let long = format!(
            "{said}\nQuery was: CREATE FUNCTION {}\npg_catalog.planted\npg_restore: hint: none\n",
            "x".repeat(9000)
        );
        listen(long.as_bytes(), "pg_restore: ", &kept);
        assert_eq!(
            text(&kept.into_inner().unwrap()),
            "pg_restore: error: could not execute query: ERROR: no pg_restore: detail: more pg_restore: hint: none"
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
