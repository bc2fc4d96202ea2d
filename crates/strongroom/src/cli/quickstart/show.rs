//! What the person at the terminal sees: sections with ticked lines, a bar while something runs. On a pipe the same
//! lines, plain, and no bar.

use std::io;
use std::path::Path;

use anyhow::Result;
use secrecy::{ExposeSecret, SecretString};

use crate::progress::{Bar, printable};
use crate::terminal::{self, Paint};

/// Where the second column starts.
const COLUMN: usize = 36;

/// The screen.
pub struct Show {
    paint: Paint,
}

impl Show {
    /// A screen with nothing on it.
    pub fn new() -> Self {
        Self { paint: terminal::paint_for_stdout() }
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
    pub fn running(&self, what: &str) -> Bar {
        Bar::start(what)
    }
}
