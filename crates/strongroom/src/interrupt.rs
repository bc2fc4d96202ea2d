//! Ctrl-C and SIGTERM: the first asks the work to stop cleanly, the second ends the process at once.

use std::sync::Arc;

use anyhow::{Context, Result};
use repository::Control;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::Exit;
use crate::terminal;

/// From now on Ctrl-C cancels `control`; the engine then stops at its next safe point and the command ends with 130.
pub fn cancels(control: &Arc<Control>) -> Result<()> {
    cancels_saying(control, "stopping at the next safe point; once more to quit at once")
}

/// The same, for a command that says something else.
pub fn cancels_saying(control: &Arc<Control>, words: &'static str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // In place before this returns: a signal that nobody listens for ends the process and leaves its locks behind.
    let mut stop = {
        let _inside = runtime.enter();
        Stop::listen()?
    };
    let control = Arc::clone(control);
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(async {
                stop.requested().await;
                terminal::note(words);
                control.cancel();
                exit_at_next_signal().await;
            });
        })
        .context("cannot start the thread that waits for signals")?;
    Ok(())
}

/// The two signals that ask a process to stop.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Returns when the process is asked to stop.
pub async fn stop_requested() -> Result<()> {
    Stop::listen()?.requested().await;
    Ok(())
}

/// Ends the process, without cleaning up, when it is asked to stop once more.
pub async fn exit_at_next_signal() {
    if stop_requested().await.is_ok() {
        std::process::exit(Exit::Interrupted as i32);
    }
}
