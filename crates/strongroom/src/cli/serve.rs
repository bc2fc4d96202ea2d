//! `strongroom serve`: runs the server until it is asked to stop.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Result;
use clap::ValueEnum;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Tls};
use crate::exit::{Exit, Failure};
use crate::tls::Shown;
use crate::{interrupt, logging, server, terminal, tls};

/// Arguments of `strongroom serve`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The configuration
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CONFIG")]
    config: PathBuf,
    /// What this process does
    #[arg(long, value_enum, default_value = "all")]
    role: Role,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    All,
    Api,
    Worker,
}

/// Runs it.
pub fn run(arguments: Arguments) -> Result<Exit> {
    if arguments.role != Role::All {
        return Err(Failure::usage("separate api and worker processes are not in this build yet")
            .hint("use --role all, or leave it out")
            .into());
    }
    let config = server::load_config(&arguments.config)?;
    tls::install_provider();
    logging::to_stderr()?;
    for key in &config.without_effect {
        tracing::warn!(key, "this key has no effect in this build yet");
    }
    if config.tls == Tls::Off && !config.listen.ip().is_loopback() {
        tracing::warn!(listen = %config.listen, "plain HTTP on an address that others can reach");
    }
    server::runtime()?.block_on(serve(&config))?;
    Ok(Exit::Done)
}

async fn serve(config: &Config) -> Result<()> {
    let opened = server::open(config, config.listen).await?;
    terminal::out(format!("Strongroom serves {}/admin", opened.url))?;
    if config.components.is_empty() {
        tracing::warn!("no component is configured: there is nothing to back up");
    }
    if let Some(shown) = opened.shown.clone() {
        tokio::spawn(shown.follow());
    }
    tokio::spawn(reload_on_hangup(opened.shown.clone()));
    opened
        .serve(async {
            if interrupt::stop_requested().await.is_ok() {
                tracing::info!("stopping; running jobs pause and go on at the next start");
                tokio::spawn(interrupt::exit_at_next_signal());
            }
        })
        .await?;
    tracing::info!("stopped");
    Ok(())
}

/// SIGHUP: certificate and key are read anew; everything else is taken up at a start alone.
async fn reload_on_hangup(shown: Option<Arc<Shown>>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        if let Some(shown) = &shown {
            shown.reload_and_tell();
        }
        tracing::warn!("what was changed in the configuration besides the certificate needs a restart");
    }
}
