//! `strongroom man`: manual pages, made from the command line itself.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::exit::Exit;
use crate::terminal;

/// Arguments of `strongroom man`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Where the pages go, such as /usr/local/share/man/man1; it is made if need be, and pages of before are replaced
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
}

/// Writes a page for the program and for each command and verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let directory = arguments.directory;
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    clap_mangen::generate_to(super::command(), &directory)
        .with_context(|| format!("cannot write manual pages to {}", directory.display()))?;
    terminal::out(format!("wrote manual pages to {}", directory.display()))?;
    Ok(Exit::Done)
}
