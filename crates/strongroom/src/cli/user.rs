//! `strongroom user`: who may log in. With a configuration it works on the state itself, beside a running server or
//! without one, as for the first administrator; else it asks the server that somebody is logged in to.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use recovery::{Recovery, Role};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::remote::{self, Place};
use crate::client::{self, Client};
use crate::exit::Exit;
use crate::passcode::read_secret_file;
use crate::progress::printable;
use crate::server;
use crate::table::Table;

/// Arguments of `strongroom user`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    /// The configuration of a server of this machine: work on its state, whether it runs or not
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CONFIG", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add a user
    Add {
        #[command(flatten)]
        user: Name,
        /// What the user may do
        #[arg(long, value_enum, default_value = "viewer")]
        role: RoleName,
        /// File that holds the password
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Give a user another role, another password, or both; it ends the user's sessions
    #[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["role", "password_file"]))]
    Update {
        #[command(flatten)]
        user: Name,
        /// What the user may do from now on
        #[arg(long, value_enum)]
        role: Option<RoleName>,
        /// File that holds the password
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
    /// Give a user another password; it ends the user's sessions
    Passwd {
        #[command(flatten)]
        user: Name,
        /// File that holds the password
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// List the users
    List,
    /// End all sessions of a user and make all tokens worthless
    SignOut(Name),
    /// Remove a user
    Remove(Name),
}

#[derive(clap::Args, Debug)]
struct Name {
    /// The user's name
    #[arg(long, value_name = "NAME")]
    username: String,
}

/// A role, as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleName {
    /// Everything
    Administrator,
    /// Makes and validates backups as well
    Operator,
    /// Reads
    Viewer,
}

impl RoleName {
    /// As the interface calls it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Operator => "operator",
            Self::Viewer => "viewer",
        }
    }
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Administrator => Self::Administrator,
            RoleName::Operator => Self::Operator,
            RoleName::Viewer => Self::Viewer,
        }
    }
}

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    let users = Users::at(place, arguments.config)?;
    let (answer, told) = match &arguments.verb {
        Verb::Add { user, role, password_file } => {
            let password = read_secret_file(password_file)?;
            (users.add(&user.username, *role, &password)?, format!("added user {}", user.shown()))
        }
        Verb::Update { user, role, password_file } => {
            let password = password_file.as_deref().map(read_secret_file).transpose()?;
            let answer = users.update(&user.username, *role, password.as_ref())?;
            (answer, format!("changed user {}", user.shown()))
        }
        Verb::Passwd { user, password_file } => {
            let password = read_secret_file(password_file)?;
            let answer = users.update(&user.username, None, Some(&password))?;
            (answer, format!("changed the password of {}", user.shown()))
        }
        Verb::List => {
            let list = users.list()?;
            let told = table(&list);
            (list, told)
        }
        Verb::SignOut(user) => {
            (users.sign_out(&user.username)?, format!("{} is signed out everywhere", user.shown()))
        }
        Verb::Remove(user) => (users.remove(&user.username)?, format!("removed user {}", user.shown())),
    };
    place.tell(&answer, || told)
}

impl Name {
    fn shown(&self) -> String {
        printable(&self.username)
    }
}

fn table(users: &Value) -> String {
    let mut table = Table::new(["User", "Role", "Added"]);
    for user in remote::list(users) {
        table.row([
            remote::shown(&user["username"]),
            remote::shown(&user["role"]),
            remote::time(&user["createdTime"]),
        ]);
    }
    table.text()
}

/// Where the users are looked after; both answer as the server does.
enum Users {
    /// In the state, which guards them by itself; a running server sees a change at once.
    Here(Recovery, Runtime),
    There(Client),
}

impl Users {
    fn at(place: &Place, config: Option<PathBuf>) -> Result<Self> {
        let Some(file) = config else { return Ok(Self::There(place.connect()?)) };
        let runtime = server::runtime()?;
        let config = server::load_config(&file)?;
        let url = config.url_at(config.listen);
        let recovery = runtime.block_on(server::open_users(&config, &url))?;
        Ok(Self::Here(recovery, runtime))
    }

    fn add(&self, username: &str, role: RoleName, password: &SecretString) -> Result<Value> {
        match self {
            Self::Here(state, runtime) => {
                runtime.block_on(state.add_user(username, password, role.into()))?;
                Ok(done())
            }
            Self::There(client) => {
                let fields =
                    [("username", username), ("role", role.text()), ("password", password.expose_secret())];
                Ok(client.post(&format!("{}/add", client::USERS), &fields)?)
            }
        }
    }

    fn update(
        &self,
        username: &str,
        role: Option<RoleName>,
        password: Option<&SecretString>,
    ) -> Result<Value> {
        match self {
            Self::Here(state, runtime) => {
                runtime.block_on(state.update_user(username, role.map(Role::from), password))?;
                Ok(done())
            }
            Self::There(client) => {
                let role = role.map(|role| ("role", role.text()));
                let password = password.map(|password| ("password", password.expose_secret()));
                let fields: Vec<_> = role.into_iter().chain(password).collect();
                Ok(client.post(&format!("{}/update", client::user(username)), &fields)?)
            }
        }
    }

    fn list(&self) -> Result<Value> {
        match self {
            Self::Here(state, runtime) => Ok(json!(runtime.block_on(state.users())?)),
            Self::There(client) => Ok(client.get(client::USERS)?["users"].take()),
        }
    }

    fn sign_out(&self, username: &str) -> Result<Value> {
        match self {
            Self::Here(state, runtime) => {
                runtime.block_on(state.revoke_tokens(username))?;
                Ok(done())
            }
            Self::There(client) => Ok(client.post(&format!("{}/signOut", client::user(username)), &[])?),
        }
    }

    fn remove(&self, username: &str) -> Result<Value> {
        match self {
            Self::Here(state, runtime) => {
                runtime.block_on(state.remove_user(username))?;
                Ok(done())
            }
            Self::There(client) => Ok(client.post(&format!("{}/remove", client::user(username)), &[])?),
        }
    }
}

fn done() -> Value {
    json!({"status": "success"})
}
