//! `strongroom login`: asks the server for a token and keeps it for the other commands.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::Place;
use crate::client::{self, Client, Kept, Server, Trust};
use crate::config::Tls;
use crate::exit::{Exit, Failure};
use crate::progress::printable;
use crate::{passcode, server, tls, words};

/// Two weeks are the most that a server gives.
const MINUTES_MAX: u32 = 20_160;

/// Arguments of `strongroom login`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    /// Who logs in (else asked for)
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// File that holds the password (else a hidden prompt)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// On the server's own machine: takes URL and certificate from its configuration
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server", "ca_file"])]
    config: Option<PathBuf>,
    /// How long the token is good for
    #[arg(long, value_name = "N", default_value_t = 720, value_parser = clap::value_parser!(u32).range(1..=i64::from(MINUTES_MAX)))]
    minutes: u32,
}

/// Logs in.
pub fn run(arguments: Arguments) -> Result<Exit> {
    tls::install_provider();
    let (server, ca_file) = arguments.server()?;
    let trust = ca_file.clone().map_or(Trust::System, Trust::Certificates);
    let mut client = Client::new(server.clone(), &trust)?;
    let username = match arguments.username {
        Some(name) => name,
        None => ask_username()?,
    };
    let password = passcode::password(arguments.password_file.as_deref(), &username)?;
    let (token, expires) = client.log_in(&username, &password, arguments.minutes)?;
    client::keep(&Kept { server: server.clone(), username: username.clone(), token, expires, ca_file })?;
    // The token itself is told nobody: it stands in its file.
    let answer = json!({"server": server.base(), "username": username, "expires": expires});
    arguments.place.tell(&answer, || {
        format!("logged in to {server} as {} until {}", printable(&username), words::moment(expires))
    })
}

impl Arguments {
    /// The server, and the certificates to trust as a path that works from everywhere.
    fn server(&self) -> Result<(Server, Option<PathBuf>)> {
        if let Some(file) = &self.config {
            let config = server::load_config(file)?;
            let certificate = match &config.tls {
                Tls::Files { certificate, .. } | Tls::SelfSigned { certificate, .. } => {
                    Some(certificate.clone())
                }
                Tls::Off => None,
            };
            return Ok((Server::parse(&config.url_at(config.listen))?, certificate));
        }
        let server = self.place.server()?.ok_or_else(|| {
            Failure::usage("no server was named").hint("use --server URL, or set STRONGROOM_SERVER")
        })?;
        let ca_file = self.place.ca_file.as_ref().map(std::path::absolute).transpose();
        Ok((server, ca_file.context("cannot tell where the file of --ca-file lies")?))
    }
}

fn ask_username() -> Result<String> {
    let refuse = || Failure::usage("no user was named").hint("use --username NAME");
    if !std::io::stdin().is_terminal() {
        return Err(refuse().into());
    }
    let _ = write!(std::io::stderr().lock(), "User: ");
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("cannot read the user's name")?;
    match line.trim() {
        "" => Err(refuse().into()),
        name => Ok(name.to_owned()),
    }
}
