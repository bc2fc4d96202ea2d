//! `pg_dump`, `pg_restore` and `pg_dumpall`: where they are, and running them so that their end counts.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use repository::Control;

use crate::{Error, ErrorKind, Result};

/// So much of what a tool complains of is told.
const OUTPUT_BYTES_MAX: usize = 4096;
const PIPE_BYTES: usize = 1 << 18;
/// How often a running tool looks whether the job was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(100);

/// The tools of one release.
#[derive(Clone, Debug)]
pub(super) struct Tools {
    directory: PathBuf,
    /// The release's first number.
    pub(super) major: u32,
}

impl Tools {
    /// The oldest tools that are not older than `major`: `pg_dump` refuses a newer server. `directory`: only there.
    pub(super) fn find(directory: Option<&Path>, major: u32) -> Result<Self> {
        let found = match directory {
            Some(directory) => installed(&[directory.to_owned()]),
            None => installed(&usual_places()),
        };
        if let Some((&major, directory)) = found.range(major..).next() {
            return Ok(Self { directory: directory.clone(), major });
        }
        let have = match found.keys().last() {
            None => "none were found".to_owned(),
            Some(newest) => format!("the newest that were found are those of {newest}"),
        };
        let message = format!(
            "the client tools of PostgreSQL {major} or newer (pg_dump, pg_restore, pg_dumpall) are needed, and {have}; install \
             them, or set tools_directory"
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

/// Runs a tool and hands on what it writes, piece by piece. It counts only if it ended well.
pub(super) fn run(mut command: Command, out: &mut dyn Write) -> io::Result<()> {
    let mut running = Running::start(command.stdout(Stdio::piped()))?;
    let mut stdout = running.child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
    let mut buffer = vec![0; PIPE_BYTES];
    loop {
        match stdout.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => out.write_all(&buffer[..length])?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    let status = running.child.wait()?;
    running.judge(status)
}

/// Runs a tool that writes nothing we want. It is killed when the job is cancelled.
pub(super) fn run_quiet(mut command: Command, control: &Control) -> io::Result<()> {
    let mut running = Running::start(command.stdout(Stdio::null()))?;
    let status = loop {
        if let Some(status) = running.child.try_wait()? {
            break status;
        }
        if control.cancelled.load(Ordering::Relaxed) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "cancelled"));
        }
        std::thread::sleep(CANCEL_POLL);
    };
    running.judge(status)
}

/// A tool at work. Dropped before its end it is killed.
struct Running {
    child: Child,
    name: String,
    said: Arc<Mutex<Vec<u8>>>,
    listener: Option<std::thread::JoinHandle<()>>,
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        let name =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut child =
            started.map_err(|e| io::Error::new(e.kind(), format!("{name} could not be started: {e}")))?;
        let said: Arc<Mutex<Vec<u8>>> = Arc::default();
        let listener = child.stderr.take().map(|mut stderr| {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut buffer = [0; OUTPUT_BYTES_MAX];
                while let Ok(length @ 1..) = stderr.read(&mut buffer) {
                    let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = OUTPUT_BYTES_MAX.saturating_sub(said.len());
                    said.extend_from_slice(&buffer[..length.min(room)]);
                }
            })
        });
        Ok(Self { child, name, said, listener })
    }

    fn judge(&mut self, status: std::process::ExitStatus) -> io::Result<()> {
        if let Some(listener) = self.listener.take() {
            let _ = listener.join();
        }
        if status.success() {
            return Ok(());
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let text: String = String::from_utf8_lossy(&said)
            .chars()
            .map(|c| if c == '\n' { ' ' } else { c })
            .filter(|c| !c.is_control())
            .collect();
        Err(io::Error::other(format!("{} failed ({status}): {}", self.name, text.trim())))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let _ = self.child.kill();
            let _ = self.child.wait();
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
        let mut out = Vec::new();
        run(shell("echo data"), &mut out).unwrap();
        assert_eq!(out, b"data\n");
        let error = run(shell("echo half; echo 'no rights' >&2; exit 1"), &mut out).unwrap_err().to_string();
        assert!(error.contains("sh failed (exit status: 1): no rights"), "{error}");
    }

    #[test]
    fn a_cancelled_job_ends_its_tool() {
        let control = Control::default();
        control.cancel();
        assert_eq!(run_quiet(shell("sleep 600"), &control).unwrap_err().kind(), io::ErrorKind::Interrupted);
    }

    #[test]
    fn tools_that_are_too_old_are_refused_with_what_is_needed() {
        let empty = tempfile::tempdir().unwrap();
        let error = Tools::find(Some(empty.path()), 15).unwrap_err();
        assert!(
            error.message.contains("PostgreSQL 15 or newer") && error.message.contains("none were found"),
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
        assert!(error.message.contains("those of 14"), "{error}");
    }
}
