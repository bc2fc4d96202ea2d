//! `strongroom version`

use anyhow::Result;

use crate::exit::Exit;
use crate::terminal;

/// The version of the repository format that the engine writes.
const RESTIC_FORMAT_VERSION: u32 = 2;

/// Arguments of `strongroom version`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// Prints it.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let version = env!("CARGO_PKG_VERSION");
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    if arguments.json {
        terminal::out_json(&serde_json::json!({
            "version": version, "restic_format_version": RESTIC_FORMAT_VERSION, "target": target,
        }))?;
    } else {
        terminal::out(format!(
            "strongroom {version}\nrestic repository format {RESTIC_FORMAT_VERSION}\n{target}"
        ))?;
    }
    Ok(Exit::Done)
}
