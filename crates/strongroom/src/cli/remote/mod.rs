//! The commands that are clients of a running server: `login`, `logout`, `status`, `store`, `backup`, `schedule`, `job`, `component`,
//! `key`;
//! and `user`, which also works without one.
//!
//! ```text
//! Place      which server, whom to trust, JSON or words: the same options for every verb
//! login      keeps a token; the others use it
//! store, backup, schedule, job, status    one call each, and what came of it
//! following  of a job: the bar, and how it ended
//! ```
//!
//! What crosses the line is JSON, which is handed on as it came with `--json`. For people its texts go through
//! `printable`: names and descriptions are somebody else's.

pub mod backup;
pub mod component;
mod following;
pub mod job;
mod keeping;
pub mod key;
pub mod login;
pub mod logout;
pub mod schedule;
pub mod status;
pub mod store;

use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

use crate::client::{self, Client, Kept, Server, Trust};
use crate::exit::{Exit, Failure};
use crate::passcode::read_secret_file;
use crate::progress::printable;
use crate::{terminal, tls};

/// Which server, and how the answer is told.
#[derive(clap::Args, Debug)]
pub struct Place {
    /// The server, https://HOST:PORT/CONTEXT [default: the one that you are logged in to]
    #[arg(long, value_name = "URL", env = "STRONGROOM_SERVER", global = true, help_heading = "Server")]
    server: Option<String>,
    /// Trust the certificates in this file (PEM) and no others [default: as at the log-in; else those of this machine]
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CA_FILE", global = true, help_heading = "Server")]
    ca_file: Option<PathBuf>,
    /// Use the API key in this file, and no log-in; needs --server
    #[arg(long, value_name = "FILE", env = "STRONGROOM_KEY_FILE", global = true, help_heading = "Server")]
    key_file: Option<PathBuf>,
    /// The server's own answer, as one line of JSON
    #[arg(long, global = true, help_heading = "Server")]
    pub json: bool,
}

impl Place {
    /// A client that is logged in, or has a key.
    pub(super) fn connect(&self) -> Result<Client> {
        tls::install_provider();
        if let Some(file) = &self.key_file {
            let server = self.server()?.ok_or_else(|| {
                Failure::usage("a key does not say which server it is for")
                    .hint("name it with --server or STRONGROOM_SERVER")
            })?;
            let trust = self.ca_file.clone().map_or(Trust::System, Trust::Certificates);
            return Ok(Client::new(server, &trust)?.with_token(read_secret_file(file)?));
        }
        let kept = self.kept()?;
        let trust = self.trust(&kept);
        Ok(Client::new(kept.server, &trust)?.with_token(kept.token))
    }

    /// What was said now, else what was said at the log-in.
    fn trust(&self, kept: &Kept) -> Trust {
        let file = self.ca_file.clone().or_else(|| kept.ca_file.clone());
        file.map_or(Trust::System, Trust::Certificates)
    }

    /// The log-in that is meant: that of `--server`, or the only one.
    fn kept(&self) -> Result<Kept> {
        if let Some(server) = self.server()? {
            return match client::kept_for(&server)? {
                Some(kept) => Ok(kept),
                None => Err(client::Error::LoggedOut { server: server.to_string() }.into()),
            };
        }
        let mut all = client::all_kept()?;
        match (all.pop(), all.len()) {
            (Some(kept), 0) => Ok(kept),
            (None, _) => Err(Failure::usage("no server was named, and you are not logged in to any")
                .hint("log in: strongroom login --server https://HOST:PORT/CONTEXT --username NAME")
                .into()),
            (Some(last), _) => {
                let failure = Failure::usage("you are logged in to several servers: say which with --server");
                Err(all.iter().chain([&last]).fold(failure, |f, kept| f.hint(kept.server.base())).into())
            }
        }
    }

    fn server(&self) -> Result<Option<Server>> {
        Ok(self.server.as_deref().map(Server::parse).transpose()?)
    }

    /// Tells the server's answer as it is, or what people make of it.
    pub(super) fn tell(&self, answer: &Value, in_words: impl FnOnce() -> String) -> Result<Exit> {
        if self.json {
            terminal::out_json(answer)?;
        } else {
            terminal::out(in_words())?;
        }
        Ok(Exit::Done)
    }
}

/// A text of the server for people; empty if it is not there.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Null => String::new(),
        other => printable(&other.to_string()),
    }
}

/// A list of the server; empty if it is not there.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

pub(super) fn time(value: &Value) -> String {
    crate::words::moment(value.as_i64().unwrap_or_default())
}

/// What a validation answered: ready, or a failure of that exit code with all that is wrong.
fn validated(place: &Place, answer: &Value, what: &str, bad: Exit) -> Result<Exit> {
    if answer["isReady"] == Value::Bool(true) {
        return place.tell(answer, || format!("{} is ready", printable(what)));
    }
    if place.json {
        terminal::out_json(answer)?;
    }
    let failure = Failure::new(bad, format!("{what} is not ready"));
    Err(list(&answer["details"]).iter().fold(failure, |f, detail| f.hint(shown(detail))).into())
}
