//! `repo key`: the passcodes that open the repository.

use std::path::PathBuf;

use anyhow::Result;
use clap::Subcommand;
use repository::{Cost, KeyLabel, LockKind, Passcode};
use serde_json::{Value, json};

use super::place::{Place, user_name};
use crate::exit::Exit;
use crate::progress::printable;
use crate::table::Table;
use crate::{passcode, terminal, words};

/// What is done with keys.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List the keys; a star marks the one in use
    List,
    /// Let one more passcode open the repository
    Add(NewKey),
    /// Remove a key; the one in use stays
    Remove {
        /// Id of the key, or a prefix of it
        key: String,
    },
    /// Replace the key in use by one of a new passcode
    Passwd(NewKey),
}

/// A new passcode and whose it is.
#[derive(clap::Args, Debug)]
pub struct NewKey {
    /// File that holds the new passcode (else STRONGROOM_NEW_PASSCODE, else a hidden prompt)
    #[arg(long, alias = "new-password-file", value_name = "FILE")]
    new_passcode_file: Option<PathBuf>,
    /// The user name to write, in clear, into the key
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The host name to write, in clear, into the key
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
}

impl NewKey {
    fn passcode(&self) -> Result<Passcode> {
        passcode::new(self.new_passcode_file.as_deref(), "STRONGROOM_NEW_PASSCODE")
    }

    fn label(&self) -> KeyLabel {
        KeyLabel {
            username: self.user.clone().unwrap_or_else(user_name),
            hostname: self.host.clone().unwrap_or_else(words::host_name),
        }
    }
}

/// Runs the verb.
pub fn run(place: &Place, verb: &Verb) -> Result<Exit> {
    match verb {
        Verb::List => list(place),
        Verb::Add(new) => {
            let (repository, _control) = place.open()?;
            let _lock = place.lock(&repository, LockKind::Shared)?;
            let id = repository::add_key(&repository, &new.passcode()?, Cost::DEFAULT, &new.label())?;
            tell(place, "added", &id.to_string(), &format!("added key {}", id.short()))
        }
        Verb::Remove { key } => {
            let (repository, _control) = place.open()?;
            let _lock = place.lock(&repository, LockKind::Exclusive)?;
            let id = repository::remove_key(&repository, key)?;
            tell(place, "removed", &id.to_string(), &format!("removed key {}", id.short()))
        }
        Verb::Passwd(new) => {
            let (repository, _control) = place.open()?;
            let _lock = place.lock(&repository, LockKind::Exclusive)?;
            let id = repository::change_passcode(&repository, &new.passcode()?, Cost::DEFAULT, &new.label())?;
            let line = format!("changed the passcode; the key is {} now", id.short());
            tell(place, "changed", &id.to_string(), &line)
        }
    }
}

fn tell(place: &Place, word: &str, id: &str, line: &str) -> Result<Exit> {
    if place.json {
        terminal::out_json(&json!({"message_type": word, "id": id}))?;
    } else {
        terminal::out(line)?;
    }
    Ok(Exit::Done)
}

fn list(place: &Place) -> Result<Exit> {
    let (repository, _control) = place.open()?;
    let _lock = place.lock_for_reading(&repository)?;
    let (keys, damaged) = repository::list_keys(&repository)?;
    if place.json {
        let list: Vec<Value> = keys
            .iter()
            .map(|key| {
                json!({
                    "current": key.current, "id": key.id, "userName": key.label.username,
                    "hostName": key.label.hostname, "created": key.created,
                })
            })
            .collect();
        terminal::out_json(&list)?;
    } else {
        let mut table = Table::new(["", "ID", "User", "Host", "Created"]);
        for key in &keys {
            table.row([
                if key.current { "*" } else { "" }.to_owned(),
                key.id.short(),
                printable(&key.label.username),
                printable(&key.label.hostname),
                super::look::time_of(&key.created),
            ]);
        }
        terminal::out(table.text())?;
    }
    for warning in &damaged {
        terminal::warn(format!("{}: {}", warning.item, warning.reason));
    }
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::Damaged })
}
