//! The server's log: text for a person at a terminal, one JSON object a line for everything else.

use std::fs::OpenOptions;
use std::io::{self, IsTerminal};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Mutex;

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::exit::Failure;

/// What is logged: a level, or `target=level` pairs with commas between.
const VARIABLE: &str = "STRONGROOM_LOG";

/// Logs to standard error.
pub fn to_stderr() -> Result<()> {
    let builder = tracing_subscriber::fmt().with_env_filter(filter()?).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        let colour = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        builder.with_ansi(colour).init();
    } else {
        builder.json().flatten_event(true).init();
    }
    Ok(())
}

/// Logs to a file that its owner alone can read, after what is there.
pub fn to_file(file: &Path) -> Result<()> {
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)
        .with_context(|| format!("cannot open the log {}", file.display()))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter()?)
        .with_ansi(false)
        .with_writer(Mutex::new(opened))
        .init();
    Ok(())
}

fn filter() -> Result<EnvFilter> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let directives = if text.trim().is_empty() { "info" } else { text.trim() };
    // Its debug lines repeat statements, in which passwords stand.
    let directives = format!("{directives},tokio_postgres=info,postgres=info");
    let parsed = EnvFilter::try_new(directives).map_err(|e| {
        Failure::usage(format!("{VARIABLE} is not understood: {e}"))
            .hint("use error, warn, info, debug or trace, or pairs like recovery=debug,api=info")
    })?;
    Ok(parsed)
}
