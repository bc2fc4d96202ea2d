//! `strongroom user`: who may log in. Works on the state itself, beside a running server or without one.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use recovery::{Recovery, Role};

use crate::exit::Exit;
use crate::passcode::read_secret_file;
use crate::{server, terminal};

/// Arguments of `strongroom user`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Add a user
    Add {
        #[command(flatten)]
        config: ConfigFile,
        /// The new user's name
        #[arg(long, value_name = "NAME")]
        username: String,
        /// What the user may do
        #[arg(long, value_enum, default_value = "viewer")]
        role: RoleName,
        /// File that holds the password
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// Give a user another password
    Passwd {
        #[command(flatten)]
        config: ConfigFile,
        /// The user's name
        #[arg(long, value_name = "NAME")]
        username: String,
        /// File that holds the password
        #[arg(long, value_name = "FILE")]
        password_file: PathBuf,
    },
    /// List the users
    List {
        #[command(flatten)]
        config: ConfigFile,
        /// As one JSON array
        #[arg(long)]
        json: bool,
    },
    /// Remove a user
    Remove {
        #[command(flatten)]
        config: ConfigFile,
        /// The user's name
        #[arg(long, value_name = "NAME")]
        username: String,
    },
}

#[derive(clap::Args, Debug)]
struct ConfigFile {
    /// The configuration
    #[arg(long, value_name = "FILE", env = "STRONGROOM_CONFIG")]
    config: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum RoleName {
    Administrator,
    Operator,
    Viewer,
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
    let runtime = server::runtime()?;
    match arguments.verb {
        Verb::Add { config, username, role, password_file } => {
            let password = read_secret_file(&password_file)?;
            let recovery = runtime.block_on(open(config))?;
            runtime.block_on(recovery.add_user(&username, &password, role.into()))?;
            terminal::out(format!("added user {username}"))?;
        }
        Verb::Passwd { config, username, password_file } => {
            let password = read_secret_file(&password_file)?;
            let recovery = runtime.block_on(open(config))?;
            runtime.block_on(recovery.set_password(&username, &password))?;
            terminal::out(format!("changed the password of {username}"))?;
        }
        Verb::Remove { config, username } => {
            let recovery = runtime.block_on(open(config))?;
            runtime.block_on(recovery.remove_user(&username))?;
            terminal::out(format!("removed user {username}"))?;
        }
        Verb::List { config, json } => {
            let recovery = runtime.block_on(open(config))?;
            let users = runtime.block_on(recovery.users())?;
            if json {
                terminal::out_json(&users)?;
            } else {
                for user in users {
                    terminal::out(format!("{}  {}", role_text(user.role), user.username))?;
                }
            }
        }
    }
    Ok(Exit::Done)
}

fn role_text(role: Role) -> &'static str {
    match role {
        Role::Administrator => "administrator",
        Role::Operator => "operator     ",
        Role::Viewer => "viewer       ",
    }
}

/// Opens the state; a running server sees the change at once.
async fn open(file: ConfigFile) -> Result<Recovery> {
    let config = server::load_config(&file.config)?;
    let url = config.url_at(config.listen);
    server::open_users(&config, &url).await
}
