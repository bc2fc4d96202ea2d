//! `strongroom key`: keys with which programs use the server, in place of a user and a password.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};

use super::{Place, list, shown, time};
use crate::cli::user::RoleName;
use crate::client::{self, Client};
use crate::config::write_new;
use crate::exit::Exit;
use crate::progress::printable;
use crate::table::Table;
use crate::terminal;

/// Arguments of `strongroom key`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the keys: what each is good for, when it ends, when it was last used
    List,
    /// Make a key, which is told once and kept nowhere
    Create(Create),
    /// Make a key worthless, at once
    Revoke {
        /// Its name
        #[arg(value_name = "KEY")]
        name: String,
    },
}

#[derive(clap::Args, Debug)]
struct Create {
    /// What it is for; the audit log tells it
    #[arg(value_name = "KEY")]
    name: String,
    /// What it may do at most
    #[arg(long, value_enum)]
    role: RoleName,
    /// The operations it is good for [default: all that the role allows]
    #[arg(long, value_enum, value_name = "OPERATIONS", value_delimiter = ',')]
    only: Vec<Group>,
    /// A store it is good for; may be repeated [default: all]
    #[arg(long, value_name = "STORE")]
    store: Vec<String>,
    /// How long it is good for
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=365))]
    days: u32,
    /// Write the key into this new file, readable by its owner alone, and not to standard output
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A group of operations, as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Group {
    /// Looking
    Read,
    /// Making and validating backups, validating stores, cancelling jobs
    Backup,
    /// Restoring
    Restore,
    /// Schedules and other tasks
    Schedules,
    /// Stores, deletion and retention of backups, settings, mode
    Manage,
}

impl Group {
    fn text(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Schedules => "schedules",
            Self::Manage => "manage",
        }
    }
}

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    let client = &place.connect()?;
    match &arguments.verb {
        Verb::List => list_all(place, client),
        Verb::Create(wanted) => create(place, client, wanted),
        Verb::Revoke { name } => {
            let answer = client.post(&format!("{}/revoke", client::key(name)), &[])?;
            place.tell(&answer, || format!("revoked key '{}'", printable(name)))
        }
    }
}

fn list_all(place: &Place, client: &Client) -> Result<Exit> {
    let answer = client.get(client::KEYS)?;
    place.tell(&answer["keys"], || {
        let mut table = Table::new(["Key", "Role", "Good for", "Stores", "Ends", "Last used"]);
        for key in list(&answer["keys"]) {
            let texts = |of: &str| list(&key[of]).iter().map(shown).collect::<Vec<_>>().join(", ");
            let stores = Some(texts("stores")).filter(|stores| !stores.is_empty());
            let used = key["lastUsedTime"].as_i64().unwrap_or_default();
            table.row([
                shown(&key["name"]),
                shown(&key["role"]),
                texts("operations"),
                stores.unwrap_or_else(|| "all".to_owned()),
                time(&key["expires"]),
                if used == 0 { "never".to_owned() } else { time(&key["lastUsedTime"]) },
            ]);
        }
        table.text()
    })
}

fn create(place: &Place, client: &Client, wanted: &Create) -> Result<Exit> {
    let days = wanted.days.to_string();
    let mut fields =
        vec![("name", wanted.name.as_str()), ("role", wanted.role.text()), ("expirationDays", &days)];
    let only: Vec<_> = wanted.only.iter().map(|group| group.text()).collect();
    let only = only.join(",");
    if !only.is_empty() {
        fields.push(("operations", &only));
    }
    let stores = serde_json::to_string(&wanted.store)?;
    if !wanted.store.is_empty() {
        fields.push(("stores", &stores));
    }
    // Before the key is made: one that cannot be written down is lost.
    if let Some(file) = &wanted.output {
        write_new(file, b"", 0o600).with_context(|| format!("cannot make {}", file.display()))?;
    }
    let mut answer = match client.post(&format!("{}/create", client::KEYS), &fields) {
        Ok(answer) => answer,
        Err(error) => {
            // It is empty, and ours.
            wanted.output.as_ref().map(std::fs::remove_file);
            return Err(error.into());
        }
    };
    let key = client.text(&answer, "key")?.to_owned();
    if let Some(file) = &wanted.output {
        write_down(file, &key)?;
        answer["key"].take();
    }
    if !place.json {
        let until = time(&answer["expires"]);
        terminal::note(format!("made key '{}', good until {until}", printable(&wanted.name)));
    }
    match &wanted.output {
        Some(file) => place.tell(&answer, || format!("the key is in {}", file.display())),
        None => place.tell(&answer, || key),
    }
}

fn write_down(file: &Path, key: &str) -> Result<()> {
    std::fs::write(file, format!("{key}\n")).with_context(|| {
        format!("cannot write the new key into {}; revoke it and make another one", file.display())
    })
}
