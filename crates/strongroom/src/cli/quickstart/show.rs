//! What the person at the terminal sees: sections with ticked lines, a bar while something runs. On a pipe the same
//! lines, plain, and no bar.

use std::cell::{Cell, RefCell};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget};
use secrecy::{ExposeSecret, SecretString};

use crate::progress::printable;
use crate::terminal::{self, Paint};
use crate::{progress, words};

/// Where the second column starts.
const COLUMN: usize = 36;
const DRAW_INTERVAL: Duration = Duration::from_millis(50);

/// The screen.
pub struct Show {
    paint: Paint,
    bar: RefCell<Option<ProgressBar>>,
}

/// A bar that runs until it is dropped.
pub struct Running<'a> {
    show: &'a Show,
    started: Instant,
    /// When the bar was drawn last: it may be told of millions of files.
    drawn: Cell<Option<Instant>>,
}

impl Show {
    /// A screen with nothing on it.
    pub fn new() -> Self {
        Self { paint: terminal::paint_for_stdout(), bar: RefCell::new(None) }
    }

    /// Colours, for lines that are put together elsewhere.
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// The first lines.
    pub fn title(&self, directory: &Path, protects: bool) -> io::Result<()> {
        let story = if protects {
            "A backup and a recovery of your directory, which stays as it is."
        } else {
            "A backup, a disaster, and a recovery that proves itself."
        };
        terminal::out(format!("\n{}  {story}", self.paint.bold("Strongroom quickstart")))?;
        terminal::out(self.paint.dim(format!("Everything stays in {}", directory.display())))
    }

    /// Begins a section.
    pub fn section(&self, name: &str) -> io::Result<()> {
        terminal::out(format!("\n{}", self.paint.bold(name)))
    }

    /// Something is done.
    pub fn done(&self, what: &str, result: &str) -> io::Result<()> {
        self.line(&self.paint.green("✓"), what, result)
    }

    /// Something is lost, on purpose.
    pub fn lost(&self, what: &str, example: &str) -> io::Result<()> {
        terminal::out(format!("  {} {what:<56} {}", self.paint.red("✗"), self.paint.dim(example)))
    }

    /// Something that should be known.
    pub fn attention(&self, what: &str) -> io::Result<()> {
        terminal::out(format!("  {} {}", self.paint.yellow("!"), printable(what)))
    }

    /// Any line.
    pub fn plain(&self, text: &str) -> io::Result<()> {
        terminal::out(text)
    }

    fn line(&self, mark: &str, what: &str, result: &str) -> io::Result<()> {
        terminal::out(format!("  {mark} {what:<COLUMN$} {}", printable(result)))
    }

    /// Who may log in. A password is printed in the run that made it, and never again.
    pub fn administrator(&self, username: &str, password: &SecretString, is_new: bool) -> Result<()> {
        let told = if is_new {
            format!("{username}, password {} (shown once)", self.paint.bold(password.expose_secret()))
        } else {
            format!("{username} (as it was)")
        };
        Ok(terminal::out(format!("  {} {:<COLUMN$} {told}", self.paint.green("✓"), "administrator"))?)
    }

    /// The last lines while the server stays.
    pub fn serving(&self, url: &str) -> io::Result<()> {
        let console = self.paint.cyan(format!("{url}/admin"));
        terminal::out(format!("\nServing {console} until Ctrl-C."))
    }

    /// Begins something that takes a while.
    pub fn running(&self, what: &str) -> Running<'_> {
        if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
            bar.set_style(progress::spinner_style());
            bar.set_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            *self.bar.borrow_mut() = Some(bar);
        }
        Running { show: self, started: Instant::now(), drawn: Cell::new(None) }
    }
}

impl Running<'_> {
    /// So far so good: bytes done and, unless that is 0, to be done.
    pub fn at(&self, bytes: (u64, u64), files: u64, current: &str) {
        let bar = self.show.bar.borrow();
        let Some(bar) = bar.as_ref() else { return };
        if self.drawn.get().is_some_and(|drawn| drawn.elapsed() < DRAW_INTERVAL) {
            return;
        }
        self.drawn.set(Some(Instant::now()));
        let (done, total) = (bytes.0, bytes.1.max(bytes.0));
        let elapsed = self.started.elapsed();
        let files = words::counted(files, "file", "files");
        let mut message = if bytes.1 == 0 {
            bar.set_style(progress::spinner_style());
            format!("{}, {files}", words::bytes(done))
        } else {
            bar.set_style(progress::style());
            bar.set_length(total);
            bar.set_position(done);
            format!("{} of {}, {files}", words::bytes(done), words::bytes(total))
        };
        if elapsed > Duration::from_millis(400) && done > 0 {
            message += &format!(", {}", words::rate(done, elapsed));
            let left = Duration::from_secs_f64(elapsed.as_secs_f64() * (total - done) as f64 / done as f64);
            if left >= Duration::from_secs(1) {
                message += &format!(", {} left", words::duration(Duration::from_secs(left.as_secs())));
            }
        }
        if !current.is_empty() {
            message += &format!("  {}", printable(current));
        }
        bar.set_message(message);
    }

    /// A stage that has no bytes to count.
    pub fn stage(&self, name: &str) {
        if let Some(bar) = self.show.bar.borrow().as_ref() {
            bar.set_style(progress::spinner_style());
            bar.set_message(printable(name));
        }
    }

    /// Time since it began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.show.bar.borrow_mut().take() {
            bar.finish_and_clear();
        }
    }
}
