//! Results go to standard output, everything else to standard error; colour only where a person sees it.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// Writes one line of results to standard output. A reader that has gone is an error of kind `BrokenPipe`,
/// which ends the command quietly.
pub fn out(line: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}

/// Writes one JSON object to standard output, on a line of its own.
pub fn out_json(value: &impl serde::Serialize) -> io::Result<()> {
    let line = serde_json::to_string(value).map_err(io::Error::other)?;
    out(line)
}

/// Writes one message to standard error. If nobody can read it there is nobody to be told.
pub fn note(line: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Names something that is not as it should be.
pub fn warn(text: impl Display) {
    note(format!("{} {text}", paint_for_stderr().yellow("warning:")));
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

/// Colours for standard output.
pub fn paint_for_stdout() -> Paint {
    Paint { on: io::stdout().is_terminal() && colour_is_welcome() }
}

/// Colours for standard error.
pub fn paint_for_stderr() -> Paint {
    Paint { on: io::stderr().is_terminal() && colour_is_welcome() }
}

/// `NO_COLOR` set to anything but nothing, or a terminal that says it is dumb, turns colour off.
fn colour_is_welcome() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

impl Paint {
    fn wrap(self, code: &str, text: impl Display) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_string() }
    }

    /// Good.
    pub fn green(self, text: impl Display) -> String {
        self.wrap("32", text)
    }

    /// Bad.
    pub fn red(self, text: impl Display) -> String {
        self.wrap("1;31", text)
    }

    /// Take care.
    pub fn yellow(self, text: impl Display) -> String {
        self.wrap("33", text)
    }

    /// A link or a command to copy.
    pub fn cyan(self, text: impl Display) -> String {
        self.wrap("36", text)
    }

    /// A heading or the figure that counts.
    pub fn bold(self, text: impl Display) -> String {
        self.wrap("1", text)
    }

    /// Of less weight.
    pub fn dim(self, text: impl Display) -> String {
        self.wrap("2", text)
    }
}
