//! strongroom.toml: read as typed ([`typed`]), overlaid by the environment ([`environment`]), turned into what is
//! meant ([`Config`], made by [`meant`]). A mistake is told with file, line and, for a misspelt key, the right one.

mod bucket;
mod environment;
mod meant;
mod named;
mod notify;
mod oidc;
mod protected;
mod suggestion;
mod template;
mod typed;

use std::path::{Path, PathBuf};

pub use meant::{Config, Tls};
pub use template::{Template, write_new};

use crate::exit::Failure;

/// A configuration longer than this is not one.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Loads the file, lets `STRONGROOM_SECTION__KEY` from the environment win, and checks what comes of it.
pub fn load(file: &Path) -> Result<Config, Failure> {
    let text = read(file)?;
    let variables = environment::variables(std::env::vars_os());
    parse(&text, file, &variables)
}

fn parse(text: &str, file: &Path, variables: &[environment::Variable]) -> Result<Config, Failure> {
    let typed = typed::parse(text).map_err(|mistake| mistake.in_file(file, text))?;
    let (table, typed) = environment::overlay(text, typed, variables)?;
    let file = std::path::absolute(file)
        .map_err(|e| Failure::usage(format!("cannot tell where {} lies: {e}", file.display())))?;
    let directory = file.parent().map(Path::to_owned).unwrap_or_else(|| PathBuf::from("/"));
    let named = named::files(table, &directory);
    meant::from_typed(typed, &file, &directory, named)
        .map_err(|problem| Failure::usage(format!("{}: {problem}", file.display())))
}

fn read(file: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| {
        let failure = Failure::usage(format!("cannot read the configuration {}: {e}", file.display()));
        match e.kind() {
            std::io::ErrorKind::NotFound => failure.hint("`strongroom init --directory DIR` makes one"),
            _ => failure,
        }
    };
    let length = std::fs::metadata(file).map_err(failed)?.len();
    if length > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{} is too long to be a configuration", file.display())));
    }
    std::fs::read_to_string(file).map_err(failed)
}

#[cfg(test)]
mod tests;
