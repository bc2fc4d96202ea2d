//! The command line: what can be typed, and which file does it. One file, or folder, a command.

mod completions;
mod init;
mod man;
mod quickstart;
mod remote;
mod repo;
mod rescue;
mod serve;
mod user;
mod version;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::exit::{self, Exit, Outcome};
use crate::terminal;

/// Disaster recovery for a deployment: backups that prove themselves, and restores that never leave a mixture.
#[derive(Parser, Debug)]
#[command(name = "strongroom", version, max_term_width = 100, propagate_version = false)]
#[command(
    after_help = "Start with `strongroom quickstart`: a backup, a disaster and a recovery in a minute."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// See a backup, a disaster and a recovery with sample content, and keep the server
    Quickstart(quickstart::Arguments),
    /// Make a configuration, a master key and a self-signed certificate
    Init(init::Arguments),
    /// Run the server
    Serve(serve::Arguments),
    /// Manage who may log in, on a running server or in the state of this machine
    User(Box<user::Arguments>),
    /// Show what a running server protects
    Component(remote::component::Arguments),
    /// Manage the keys with which programs use a running server
    Key(Box<remote::key::Arguments>),
    /// Log in to a running server and keep the token
    Login(remote::login::Arguments),
    /// Forget the token that `login` kept
    Logout(remote::logout::Arguments),
    /// Show a running server, and what became of its last backup or restore
    Status(remote::status::Arguments),
    /// Work with the stores of a running server
    Store(remote::store::Arguments),
    /// Work with the backups of a running server
    Backup(Box<remote::backup::Arguments>),
    /// Work with the schedules of a running server, and what else it does by itself
    Schedule(Box<remote::schedule::Arguments>),
    /// Work with the jobs of a running server
    Job(remote::job::Arguments),
    /// List, verify and restore backups with nothing but a store and a passcode
    Rescue(rescue::Arguments),
    /// Work with a plain restic repository
    Repo(Box<repo::Arguments>),
    /// Print a script that completes commands in a shell
    Completions(completions::Arguments),
    /// Write manual pages
    Man(man::Arguments),
    /// Print the version, the repository format and the platform
    Version(version::Arguments),
}

/// Reads the command line and does what it says.
pub fn run() -> Outcome {
    let command = Arguments::try_parse().unwrap_or_else(|refused| refuse(&refused)).command;
    let in_json = command.in_json();
    Outcome { result: run_command(command), in_json }
}

/// The commands that tell their failures in JSON too.
const IN_JSON: [&str; 11] =
    ["repo", "login", "logout", "status", "store", "backup", "schedule", "job", "user", "key", "component"];

impl Command {
    /// Whether whoever started it reads JSON, also where it fails.
    fn in_json(&self) -> bool {
        match self {
            Self::Repo(arguments) => arguments.in_json(),
            Self::Login(arguments) => arguments.place.json,
            Self::Logout(arguments) => arguments.place.json,
            Self::Status(arguments) => arguments.place.json,
            Self::Store(arguments) => arguments.place.json,
            Self::Backup(arguments) => arguments.place.json,
            Self::Schedule(arguments) => arguments.place.json,
            Self::Job(arguments) => arguments.place.json,
            Self::User(arguments) => arguments.place.json,
            Self::Key(arguments) => arguments.place.json,
            Self::Component(arguments) => arguments.place.json,
            _ => false,
        }
    }
}

/// Ends with what clap has to say: the help that was asked for, or what is wrong with the command line.
fn refuse(refused: &clap::Error) -> ! {
    let words: Vec<_> = std::env::args_os().skip(1).take_while(|word| word != "--").collect();
    let reads_json = words.first().is_some_and(|word| IN_JSON.iter().any(|command| word == command))
        && words.iter().any(|word| word == "--json");
    if !(reads_json && refused.use_stderr()) {
        refused.exit();
    }
    let message = refused.render().to_string();
    let message = message.strip_prefix("error: ").unwrap_or(&message).trim_end();
    terminal::note(exit::exit_error(Exit::Usage, message));
    std::process::exit(Exit::Usage as i32)
}

fn run_command(command: Command) -> Result<Exit> {
    match command {
        Command::Quickstart(arguments) => quickstart::run(arguments),
        Command::Init(arguments) => init::run(arguments),
        Command::Serve(arguments) => serve::run(arguments),
        Command::User(arguments) => user::run(*arguments),
        Command::Component(arguments) => remote::component::run(arguments),
        Command::Key(arguments) => remote::key::run(*arguments),
        Command::Rescue(arguments) => rescue::run(arguments),
        Command::Repo(arguments) => repo::run(*arguments),
        Command::Login(arguments) => remote::login::run(arguments),
        Command::Logout(arguments) => remote::logout::run(arguments),
        Command::Status(arguments) => remote::status::run(arguments),
        Command::Store(arguments) => remote::store::run(arguments),
        Command::Backup(arguments) => remote::backup::run(*arguments),
        Command::Schedule(arguments) => remote::schedule::run(*arguments),
        Command::Job(arguments) => remote::job::run(arguments),
        Command::Man(arguments) => man::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
        Command::Version(arguments) => version::run(arguments),
    }
}

/// The whole command line, for completions.
fn command() -> clap::Command {
    <Arguments as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_free_of_contradictions() {
        command().debug_assert();
    }

    #[test]
    fn no_command_takes_a_passcode_or_password_as_an_argument() {
        fn visit(command: &clap::Command) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                let secret = id.contains("pass") || id.contains("secret");
                assert!(!secret || id.ends_with("_file"), "{}: {id}", command.get_name());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&command());
    }

    #[test]
    fn options_of_the_repository_may_stand_before_or_after_the_verb() {
        let before = ["strongroom", "repo", "-r", "/r", "--json", "backup", "/srv", "--tag", "a"];
        let after = ["strongroom", "repo", "backup", "/srv", "--tag", "a", "--repository", "/r", "--json"];
        assert!(Arguments::try_parse_from(before).is_ok());
        assert!(Arguments::try_parse_from(after).is_ok());
    }
}
