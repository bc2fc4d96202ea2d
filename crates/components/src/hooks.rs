//! Hooks: programs of the operator that run before and after a component is backed up or restored.
//!
//! A hook is a program and its arguments, split on blanks; no shell reads it, unless the program is one. It runs in
//! a process group of its own, with nothing on standard input and an environment made anew, so that no secret of the
//! server's environment reaches it. At its time limit the whole group is killed. The end of what it wrote goes
//! into the error message.

use std::io::{self, PipeReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use repository::Control;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::{Error, ErrorKind, Result};

/// How much of a hook's output is kept: its end.
const OUTPUT_BYTES_MAX: usize = 4096;
/// How often a running hook looks whether the job was cancelled.
const CANCEL_POLL: Duration = Duration::from_millis(100);
/// What of the server's environment a hook gets.
const ENVIRONMENT: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// When hooks run, and for whom; a hook reads it from its environment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion<'a> {
    /// `before_backup` and so on: `STRONGROOM_HOOK`.
    pub name: &'static str,
    /// `STRONGROOM_COMPONENT`.
    pub component: &'a str,
    /// `STRONGROOM_PLACE`.
    pub place: &'a str,
    /// The limit for each hook.
    pub timeout: Duration,
}

/// Runs hooks in order; the first that fails ends it. `control`: a cancelled job kills the hook at work.
pub(crate) fn run_before(occasion: &Occasion<'_>, hooks: &[String], control: &Control) -> Result<()> {
    for hook in hooks {
        run(occasion, hook, Some(control))?;
    }
    Ok(())
}

/// Runs every hook, also after one that failed: each may be what thaws an application. The first error is returned.
pub(crate) fn run_after(occasion: &Occasion<'_>, hooks: &[String]) -> Result<()> {
    let mut first = Ok(());
    for hook in hooks {
        if let Err(error) = run(occasion, hook, None) {
            tracing::warn!(component = occasion.component, "{error}");
            first = first.and(Err(error));
        }
    }
    first
}

fn run(occasion: &Occasion<'_>, hook: &str, control: Option<&Control>) -> Result<()> {
    let name = occasion.name;
    let fail = |why: String| {
        let component = occasion.component;
        Error::new(ErrorKind::Hook, format!("{name} hook '{hook}' of component '{component}' {why}"))
    };
    let (child, output) = start(occasion, hook).map_err(|e| fail(format!("could not be started: {e}")))?;
    match wait(child, occasion.timeout, control) {
        Ok(Ended::By(status)) if status.success() => Ok(()),
        Ok(Ended::By(status)) => Err(fail(format!("failed ({status}); it said: {}", output.tail()))),
        Ok(Ended::TimedOut) => Err(fail(format!(
            "was killed after its limit of {} s; it had said: {}",
            occasion.timeout.as_secs_f64(),
            output.tail()
        ))),
        Ok(Ended::Cancelled) => {
            Err(Error::new(ErrorKind::Cancelled, format!("cancelled while the {name} hook '{hook}' ran")))
        }
        Err(e) => Err(fail(format!("could not be waited for: {e}"))),
    }
}

fn start(occasion: &Occasion<'_>, hook: &str) -> io::Result<(Child, Output)> {
    let mut words = hook.split_whitespace();
    let program = words.next().ok_or_else(|| io::Error::other("it names no program"))?;
    let (reader, writer) = io::pipe()?;
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .env("STRONGROOM_HOOK", occasion.name)
        .env("STRONGROOM_COMPONENT", occasion.component)
        .env("STRONGROOM_PLACE", occasion.place)
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(writer.try_clone()?)
        .stdout(writer)
        .process_group(0);
    for key in ENVIRONMENT {
        if let Some(value) = std::env::var_os(key) {
            command.env(key, value);
        }
    }
    let child = command.spawn()?;
    drop(command); // closes our copies of the pipe's writing end
    Ok((child, Output::collect(reader)))
}

enum Ended {
    By(ExitStatus),
    TimedOut,
    Cancelled,
}

/// Waits within the limit; kills the process group at its end.
fn wait(mut child: Child, timeout: Duration, control: Option<&Control>) -> io::Result<Ended> {
    let pid = Pid::from_child(&child);
    let (send, exited) = mpsc::channel();
    // The waiter leaves the zombie where it is, so that its number cannot name another group when we kill.
    std::thread::spawn(move || {
        let _ = send.send(loop {
            match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(rustix::io::Errno::INTR) => continue,
                other => break other.map(|_| ()),
            }
        });
    });
    let Some(ended) = watch(&exited, Instant::now() + timeout, control) else {
        return child.wait().map(Ended::By);
    };
    if let Err(e) = kill_process_group(pid, Signal::KILL) {
        tracing::warn!("cannot kill the process group {} of a hook: {e}", pid.as_raw_nonzero());
    }
    // Reaped aside: a process that hangs in the kernel (a dead network disk) dies later, and we must not hang too.
    std::thread::spawn(move || child.wait());
    Ok(ended)
}

/// None: it exited by itself.
fn watch(
    exited: &Receiver<rustix::io::Result<()>>,
    deadline: Instant,
    control: Option<&Control>,
) -> Option<Ended> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match exited.recv_timeout(left.min(CANCEL_POLL)) {
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Some(Ended::TimedOut),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if control.is_some_and(|c| c.cancelled.load(Ordering::Relaxed)) {
            return Some(Ended::Cancelled);
        }
    }
}

/// The end of what a hook wrote. Its reader goes on until the last writer is gone, which may be a daemon that
/// the hook started.
struct Output {
    tail: Arc<Mutex<Vec<u8>>>,
    closed: Receiver<()>,
}

impl Output {
    fn collect(mut reader: PipeReader) -> Self {
        let tail = Arc::new(Mutex::new(Vec::new()));
        let (send, closed) = mpsc::channel();
        let shared = Arc::clone(&tail);
        std::thread::spawn(move || {
            let mut buffer = [0; OUTPUT_BYTES_MAX];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
                tail.extend_from_slice(&buffer[..n]);
                let surplus = tail.len().saturating_sub(OUTPUT_BYTES_MAX);
                tail.drain(..surplus);
            }
            drop(send);
        });
        Self { tail, closed }
    }

    /// For people: without control characters, which could rewrite a terminal.
    fn tail(&self) -> String {
        let _ = self.closed.recv_timeout(Duration::from_secs(1));
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        let text: String = String::from_utf8_lossy(&tail)
            .chars()
            .map(|c| if c == '\n' { ' ' } else { c })
            .filter(|c| !c.is_control())
            .collect();
        if text.trim().is_empty() { "nothing".to_owned() } else { text.trim().to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn occasion(timeout: Duration) -> Occasion<'static> {
        Occasion { name: "before_backup", component: "content", place: "/srv/content", timeout }
    }

    const LONG: Duration = Duration::from_secs(30);

    /// A hook that runs a shell script; the words of a hook cannot hold blanks themselves.
    fn script(dir: &Path, text: &str) -> String {
        let path = dir.join("hook.sh");
        fs::write(&path, text).unwrap();
        format!("/bin/sh {}", path.display())
    }

    #[test]
    fn hooks_run_in_order_and_know_their_occasion() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let text = format!("echo $STRONGROOM_HOOK $STRONGROOM_COMPONENT $1 >> {}", out.display());
        let hook = script(dir.path(), &text);
        let hooks = [format!("{hook} one"), format!("{hook}  two")];
        run_before(&occasion(LONG), &hooks, &Control::default()).unwrap();
        assert_eq!(
            fs::read_to_string(out).unwrap(),
            "before_backup content one\nbefore_backup content two\n"
        );
    }

    #[test]
    fn no_shell_reads_a_hook() {
        let dir = tempfile::tempdir().unwrap();
        let trap = dir.path().join("trap");
        let hook = format!("/bin/echo ;touch {}", trap.display());
        run_before(&occasion(LONG), &[hook], &Control::default()).unwrap();
        assert!(!trap.exists());
    }

    #[test]
    fn the_servers_environment_stays_away_from_hooks() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out");
        let hook = script(dir.path(), &format!("env > {}", out.display()));
        run_after(&occasion(LONG), &[hook]).unwrap();
        let environment = fs::read_to_string(out).unwrap();
        for line in environment.lines() {
            let name = line.split('=').next().unwrap();
            let of_the_shell = ["PWD", "OLDPWD", "SHLVL", "_"].contains(&name);
            let ours = ENVIRONMENT.contains(&name) || name.starts_with("STRONGROOM_");
            assert!(ours || of_the_shell, "{line}");
        }
        assert!(environment.contains("PATH="));
    }

    #[test]
    fn a_failing_hook_is_named_with_the_end_of_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let text =
            "head -c 100000 /dev/zero | tr '\\0' x; echo; printf 'the \\033[31mdatabase is away' >&2; exit 3";
        let hook = script(dir.path(), text);
        let never = dir.path().join("never");
        let hooks = [hook, format!("/usr/bin/touch {}", never.display())];
        let error = run_before(&occasion(LONG), &hooks, &Control::default()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Hook);
        assert!(error.message.contains("hook.sh' of component 'content' failed (exit status: 3)"), "{error}");
        assert!(error.message.ends_with("the [31mdatabase is away"), "{error}");
        assert!(error.message.len() < OUTPUT_BYTES_MAX + 300);
        assert!(!never.exists());
    }

    #[test]
    fn a_hook_past_its_limit_is_killed_with_all_its_children() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let hook = script(dir.path(), &format!("sleep 600 & echo $! > {}; wait", pid.display()));
        let error =
            run_before(&occasion(Duration::from_millis(300)), &[hook], &Control::default()).unwrap_err();
        assert!(error.message.contains("was killed after its limit of 0.3 s"), "{error}");
        let Ok(text) = fs::read_to_string(&pid) else { return }; // the limit came before the shell did
        let Some(pid) = text.trim().parse().ok().and_then(Pid::from_raw) else { return };
        let deadline = Instant::now() + LONG;
        while rustix::process::test_kill_process(pid).is_ok() && !is_zombie(pid) {
            assert!(Instant::now() < deadline, "the child of the hook is still there");
            std::thread::yield_now();
        }
    }

    /// Without an init process that reaps, a killed orphan stays as a zombie.
    fn is_zombie(pid: Pid) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).is_ok_and(|s| s.contains(") Z "))
    }

    #[test]
    fn cancelling_the_job_ends_its_hook() {
        let control = Control::default();
        control.cancelled.store(true, Ordering::Relaxed);
        let hooks = ["/bin/sleep 600".to_owned()];
        let error = run_before(&occasion(LONG), &hooks, &control).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Cancelled);
    }

    #[test]
    fn every_after_hook_runs_although_one_fails() {
        let dir = tempfile::tempdir().unwrap();
        let thawed = dir.path().join("thawed");
        let hooks =
            ["/no/such/program".to_owned(), String::new(), format!("/usr/bin/touch {}", thawed.display())];
        let error = run_after(&occasion(LONG), &hooks).unwrap_err();
        assert!(
            error.message.contains("/no/such/program' of component 'content' could not be started"),
            "{error}"
        );
        assert!(thawed.exists());
    }

    #[test]
    fn a_daemon_that_a_hook_leaves_behind_does_not_hold_it_up() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let hook = script(dir.path(), &format!("sleep 600 & echo $! > {}", pid.display()));
        run_before(&occasion(LONG), &[hook], &Control::default()).unwrap();
        let text = fs::read_to_string(&pid).unwrap();
        let pid = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
    }
}
