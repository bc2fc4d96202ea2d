//! The running server, put together from the crates below: used by `serve`, and by `quickstart` in its own process.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use recovery::Recovery;

use crate::config::Config;
use crate::exit::Failure;
use crate::tls::{self, Shown};

/// A server that has its data directory and its port, and serves nothing yet.
pub struct Opened {
    /// The domain.
    pub recovery: Recovery,
    /// Where people and clients reach it.
    pub url: String,
    /// The certificate that is shown; `None` for plain HTTP.
    pub shown: Option<Arc<Shown>>,
    bound: api::Bound,
}

/// Opens the state and binds the port. `listen` is the configured address, or another one for this run.
pub async fn open(config: &Config, listen: SocketAddr) -> Result<Opened> {
    let url = config.url_at(listen);
    let oidc = config.oidc.as_ref().map(|oidc| oidc.settings()).transpose()?;
    let recovery = open_state(config, &url).await?;
    // Whom nobody vouches for any more must not stay.
    recovery.end_other_provider_sessions(config.oidc.as_ref().map(|oidc| oidc.issuer())).await?;
    let shown = tls::shown(config)?;
    let settings = api::ServerSettings {
        listen,
        context: config.context.clone(),
        tls: shown.clone().map(tls::server_config),
        public_url: url.clone(),
        oidc,
    };
    let bound = api::bind(settings).await?;
    Ok(Opened { recovery, url, shown, bound })
}

/// Opens the state alone. Fails while another process has it.
pub async fn open_state(config: &Config, url: &str) -> Result<Recovery> {
    Ok(Recovery::open(config.settings(url.to_owned())).await?)
}

/// Opens the state to manage users, also beside a running server.
pub async fn open_users(config: &Config, url: &str) -> Result<Recovery> {
    Ok(Recovery::open_for_users(config.settings(url.to_owned())).await?)
}

impl Opened {
    /// Takes up interrupted jobs and serves until `stop`; then running jobs pause, to go on at the next start.
    pub async fn serve(self, stop: impl Future<Output = ()> + Send + 'static) -> Result<()> {
        self.recovery.start().await?;
        self.bound.serve(self.recovery.clone(), stop).await;
        self.recovery.stop().await;
        Ok(())
    }
}

/// A runtime for the asynchronous edges: HTTP, timers, the state database.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// Loads a configuration, and says that the file is meant when a directory is given.
pub fn load_config(file: &Path) -> Result<Config> {
    if file.is_dir() {
        return Err(Failure::usage(format!("{} is a directory", file.display()))
            .hint(format!("did you mean {}?", file.join("strongroom.toml").display()))
            .into());
    }
    Ok(crate::config::load(file)?)
}
