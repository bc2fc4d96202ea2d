//! `rescue postgresql`: a database server that was backed up by the physical way, as it was at an instant, straight from its vault:
//! a directory of data that PostgreSQL is started on.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use components::{Kind, RestoredServer, ServerRequest, restore_server};
use recovery::{BackupComponentView, BackupView};
use serde_json::json;

use super::restore::{find, open_vault};
use super::{Place, time_of};
use crate::exit::{Exit, Failure};
use crate::progress::{self, Follower, Work, printable};
use crate::{terminal, words};

/// Which server, of when, and whereto.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The backup (default: the newest that is complete)
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// The component; may be left out where the backup holds one such server alone
    #[arg(long, value_name = "NAME")]
    component: Option<String>,
    /// The instant: a time like 2026-05-04T11:59:30Z, or milliseconds since 1970 (default: the end of the backup)
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<i64>,
    /// A new or empty directory: that of the server's data
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    /// Where the programs of the server's own release lie (default: where packages put them)
    #[arg(long, value_name = "DIR")]
    tools_directory: Option<PathBuf>,
}

fn instant(text: &str) -> Result<i64, String> {
    let time = || Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond());
    let at = text.parse().ok().or_else(time);
    at.ok_or_else(|| "expected a time like 2026-05-04T11:59:30Z, or milliseconds since 1970".to_owned())
}

/// Runs the restore.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let started = Instant::now();
    let (store, control) = place.open()?;
    let entry = find(&store, arguments.backup.as_deref())?;
    let view = entry.view(&store.identity().name);
    let component = chosen(&view, arguments.component.as_deref())?;
    terminal::note(format!(
        "component {} of backup {} of {}",
        printable(&component.name),
        printable(&view.name),
        time_of(view.start_time)
    ));
    let target = std::path::absolute(&arguments.target)?;
    let (vault, index, _lock) = open_vault(&store, &entry, &place.passcode.existing()?)?;
    let (snapshot, _) = vault.find_snapshot(&component.snapshot_id)?;
    let follower = Follower::start(&control, Work::Restore, place.json);
    let restored = restore_server(&ServerRequest {
        repository: &vault,
        index: &index,
        snapshot,
        at: arguments.at,
        target: &target,
        tools_directory: arguments.tools_directory.as_deref(),
        control: &control,
    });
    drop(follower);
    progress::tell_warnings(&control, Work::Restore, place.json);
    let RestoredServer { version, at, bytes, account } = restored?;
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "backupName": view.name, "component": component.name, "target": target,
            "seconds_elapsed": started.elapsed().as_secs(), "bytes_restored": bytes, "recoveryTime": at,
            "serverVersion": version, "account": account,
        }))?;
        return Ok(Exit::Done);
    }
    terminal::out(format!(
        "PostgreSQL {version} as it was at {} lies in {}, shut down: {} of base and log, checked and replayed in {}",
        time_of(at),
        target.display(),
        words::bytes(bytes),
        words::duration(started.elapsed())
    ))?;
    let account = account.map(|account| format!(", as the user {account}")).unwrap_or_default();
    terminal::out(format!(
        "start it with PostgreSQL {version} or a later one of that release{account}; where its configuration does not lie in its \
         data (Debian: /etc/postgresql), give it one"
    ))?;
    Ok(Exit::Done)
}

/// The one that is named, or the only one whose log the backup holds.
fn chosen<'v>(view: &'v BackupView, name: Option<&str>) -> Result<&'v BackupComponentView> {
    let servers: Vec<_> = view
        .components
        .iter()
        .filter(|one| one.kind == Kind::RelationalStore && one.facts.window.is_some())
        .collect();
    let known = || servers.iter().map(|one| printable(&one.name).to_string()).collect::<Vec<_>>().join(", ");
    let found = match (name, servers.as_slice()) {
        (Some(name), _) => servers.iter().find(|one| one.name == name),
        (None, [only]) => Some(only),
        (None, []) => None,
        (None, _) => {
            return Err(Failure::usage("the backup holds several database servers")
                .hint(format!("name one with --component: {}", known()))
                .into());
        }
    };
    found.copied().ok_or_else(|| {
        let message = match name {
            Some(name) => format!("this backup holds no database server '{name}' with its log"),
            None => "this backup holds no database server with its log (method = \"physical\")".to_owned(),
        };
        let failure = Failure::usage(message);
        match servers.is_empty() {
            true => failure.hint("`strongroom rescue restore` restores what it holds as files"),
            false => failure.hint(format!("it holds: {}", known())),
        }
        .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_a_time_or_milliseconds() {
        assert_eq!(instant("1777896000000"), Ok(1_777_896_000_000));
        assert_eq!(instant("2026-05-04T12:00:00Z"), Ok(1_777_896_000_000));
        assert_eq!(instant("2026-05-04T14:00:00.5+02:00"), Ok(1_777_896_000_500));
        assert!(instant("yesterday").is_err());
    }
}
