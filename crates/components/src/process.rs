//! Programs that we start: each leads a process group of its own, which is killed as a whole, and of what it says the end is
//! kept.

use std::io::{self, Read};
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

/// How much of what a program says is kept: its end.
const OUTPUT_BYTES_MAX: usize = 4096;
/// How often it is looked whether a running program is to be stopped.
const STOP_POLL: Duration = Duration::from_millis(100);

pub(crate) const SHELL: &str = "/bin/sh";

/// A script that runs the program in its arguments, and sends it the signal `$0` when its own standard input, a pipe that we hold, is
/// closed. What a shell starts in this way ignores INT and QUIT, unless it handles them.
pub(crate) const GUARD: &str = r#"exec 3<&0 </dev/null
"$@" 3<&- &
program=$!
{ read -r _ <&3; kill -"$0" "$program"; } 2>/dev/null &
guard=$!
exec 3<&-
wait "$program"
status=$?
kill "$guard" 2>/dev/null
exit "$status""#;

/// How a program ended.
pub(crate) enum Ended {
    /// By itself.
    By(ExitStatus),
    /// Killed at its time limit.
    TimedOut,
    /// Killed because it was to stop.
    Stopped,
}

/// Waits for the leader of a process group, within the limit and until `stop`; then the group is killed.
pub(crate) fn wait(mut child: Child, limit: Option<Duration>, stop: &dyn Fn() -> bool) -> io::Result<Ended> {
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
    let Some(ended) = watch(&exited, limit.map(|limit| Instant::now() + limit), stop) else {
        return child.wait().map(Ended::By);
    };
    kill(child);
    Ok(ended)
}

/// Kills the group that an unreaped child leads.
pub(crate) fn kill(mut child: Child) {
    let pid = Pid::from_child(&child);
    if let Err(e) = kill_process_group(pid, Signal::KILL) {
        tracing::warn!("cannot kill the process group {}: {e}", pid.as_raw_nonzero());
    }
    // Reaped aside: a process that hangs in the kernel (a dead network disk) dies later, and we must not hang too.
    std::thread::spawn(move || child.wait());
}

/// None: it exited by itself.
fn watch(
    exited: &Receiver<rustix::io::Result<()>>,
    deadline: Option<Instant>,
    stop: &dyn Fn() -> bool,
) -> Option<Ended> {
    loop {
        let left = deadline.map_or(STOP_POLL, |deadline| deadline.saturating_duration_since(Instant::now()));
        match exited.recv_timeout(left.min(STOP_POLL)) {
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) if left.is_zero() => return Some(Ended::TimedOut),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if stop() {
            return Some(Ended::Stopped);
        }
    }
}

/// The end of what a program said. Its reader goes on until the last writer is gone, which may be a daemon that the program
/// started.
pub(crate) struct Output {
    tail: Arc<Mutex<Vec<u8>>>,
    closed: Receiver<()>,
}

impl Output {
    /// `keep` is given one piece after the other, and adds what may be told of it.
    pub(crate) fn collect(
        mut reader: impl Read + Send + 'static,
        mut keep: impl FnMut(&[u8], &mut Vec<u8>) + Send + 'static,
    ) -> Self {
        let tail = Arc::new(Mutex::new(Vec::new()));
        let (send, closed) = mpsc::channel();
        let shared = Arc::clone(&tail);
        std::thread::spawn(move || {
            let mut buffer = [0; OUTPUT_BYTES_MAX];
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                let mut tail = shared.lock().unwrap_or_else(PoisonError::into_inner);
                keep(&buffer[..n], &mut tail);
                let surplus = tail.len().saturating_sub(OUTPUT_BYTES_MAX);
                tail.drain(..surplus);
            }
            drop(send);
        });
        Self { tail, closed }
    }

    /// For people: without control characters, which could rewrite a terminal.
    pub(crate) fn tail(&self) -> String {
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
