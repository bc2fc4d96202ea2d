//! `strongroom completions SHELL`

use std::io::Write;

use anyhow::Result;
use clap_complete::Shell;

use crate::exit::Exit;

/// Arguments of `strongroom completions`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "strongroom", &mut script);
    std::io::stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}
