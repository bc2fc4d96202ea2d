//! Restored databases take the places of the present ones, all of a server in one transaction; and the way back.
//!
//! `ALTER DATABASE … RENAME` locks the database against whoever wants to connect, and waits some seconds for those who
//! are connected; a second connection ends these meanwhile. So nobody slips in between.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;

use super::names::{Found, Names, Note, comment};
use super::server::Server;
use super::{failure, quote};
use crate::{Error, ErrorKind, Recovered, Result};

/// How often those who are connected are told to go.
const END_SESSIONS_EVERY: Duration = Duration::from_millis(100);
/// For so long a rename is tried again while somebody does not go.
const TRY_FOR: Duration = Duration::from_secs(60);

/// A rename, and the comment that the database then bears.
struct Rename {
    from: String,
    to: String,
    comment: Option<String>,
}

/// Puts what was built in place. After an error the state of things is told by the names alone.
pub(super) fn swap_in(server: &Server, names: &Names) -> Result<()> {
    let mut client = aside(server, &[])?;
    let found = names.find(&mut client)?;
    let mut renames = Vec::new();
    for (number, new) in found.iter().filter(|one| !one.old).enumerate() {
        let note = note_of(new)?;
        if let Some(present) = comment_of(&mut client, &note.database)? {
            let was = Note { strongroom: WAS.to_owned(), database: note.database.clone(), comment: present };
            let old = names.old_one(number);
            renames.push(Rename { from: note.database.clone(), to: old, comment: Some(was.text()?) });
        }
        renames.push(Rename {
            from: new.name.clone(),
            to: note.database.clone(),
            comment: note.comment.clone(),
        });
    }
    drop(client);
    rename(server, &renames)
}

const WAS: &str =
    "This was here before a restore of Strongroom took its place. It goes when the restore ends.";
pub(super) const BECOMES: &str =
    "Strongroom builds this in a restore. It is renamed or removed when the restore ends.";

/// Takes back: what was there before is there again, and what was built (`built`: their names in the end, and numbers in
/// the server's catalogue) is gone.
pub(super) fn take_back(server: &Server, names: &Names, built: &[(String, u32)]) -> Result<()> {
    let mut client = aside(server, &[])?;
    let found = names.find(&mut client)?;
    let mut renames = Vec::new();
    let old: Vec<&Found> = found.iter().filter(|one| one.old).collect();
    for (number, old) in old.iter().enumerate() {
        let note = note_of(old)?;
        if let Some(present) = comment_of(&mut client, &note.database)? {
            let becomes =
                Note { strongroom: BECOMES.to_owned(), database: note.database.clone(), comment: present };
            let to = names.new_one(number);
            renames.push(Rename { from: note.database.clone(), to, comment: Some(becomes.text()?) });
        }
        renames.push(Rename {
            from: old.name.clone(),
            to: note.database.clone(),
            comment: note.comment.clone(),
        });
    }
    drop(client);
    if !renames.is_empty() {
        rename(server, &renames)?;
    }
    remove(server, names, false)?;
    // Those of which there was none before bear their names in the end, and nothing else tells what they are.
    for (name, number) in built {
        let mut client = aside(server, std::slice::from_ref(name))?;
        let ours = client
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1 AND oid = $2", &[name, number])
            .map_err(|e| failure::server(format!("cannot look for the database '{name}'"), &e))?;
        if ours.is_some() {
            drop_database(&mut client, name)?;
        }
    }
    Ok(())
}

fn drop_database(client: &mut Client, name: &str) -> Result<()> {
    let text = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quote::ident(name));
    client
        .batch_execute(&text)
        .map_err(|e| failure::server(format!("cannot remove the database '{name}'"), &e))
}

/// Removes what was there before (`old`), or what was built.
pub(super) fn remove(server: &Server, names: &Names, old: bool) -> Result<()> {
    let mut client = aside(server, &[])?;
    for one in names.find(&mut client)?.iter().filter(|one| one.old == old) {
        drop_database(&mut client, &one.name)?;
    }
    Ok(())
}

/// After a kill: finishes what had taken its place, and undoes what had not.
pub(super) fn recover(server: &Server, names: &Names) -> Result<Recovered> {
    let found = names.find(&mut aside(server, &[])?)?;
    if found.iter().any(|one| one.old) {
        remove(server, names, true)?;
        return Ok(Recovered::Finished);
    }
    if found.is_empty() {
        return Ok(Recovered::Nothing);
    }
    remove(server, names, false)?;
    Ok(Recovered::Undone)
}

fn note_of(found: &Found) -> Result<&Note> {
    found.note.as_ref().ok_or_else(|| {
        let message = format!(
            "the comment on the database '{}' does not say what it belongs to; rename or remove it by hand",
            found.name
        );
        Error::new(ErrorKind::Damaged, message)
    })
}

/// `None`: there is no such database.
fn comment_of(client: &mut Client, database: &str) -> Result<Option<Option<String>>> {
    let row = client
        .query_opt(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = $1",
            &[&database],
        )
        .map_err(|e| failure::server(format!("cannot look for the database '{database}'"), &e))?;
    Ok(row.map(|row| row.get(0)))
}

/// A connection to a database that is none of `busy`, as one's own cannot be renamed.
pub(super) fn aside(server: &Server, busy: &[String]) -> Result<Client> {
    let mut first = None;
    for database in [server.maintenance(), "postgres", "template1"] {
        if busy.iter().any(|name| name == database) {
            continue;
        }
        match server.connect(database) {
            Ok(client) => return Ok(client),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or_else(|| Error::new(ErrorKind::Io, "there is no database left to work from")))
}

fn rename(server: &Server, renames: &[Rename]) -> Result<()> {
    let busy: Vec<String> = renames.iter().flat_map(|one| [one.from.clone(), one.to.clone()]).collect();
    let mut client = aside(server, &busy)?;
    let mut other = aside(server, &busy)?;
    let done = AtomicBool::new(false);
    let until = Instant::now() + TRY_FOR;
    std::thread::scope(|scope| {
        scope.spawn(|| end_sessions(&mut other, &busy, &done));
        let outcome = loop {
            match transaction(&mut client, renames) {
                Err(e) if e.code() == Some(&SqlState::OBJECT_IN_USE) && Instant::now() < until => {
                    let _ = client.batch_execute("ROLLBACK");
                }
                other => break other,
            }
        };
        done.store(true, Ordering::Relaxed);
        outcome
    })
    .map_err(|e| failure::server("cannot put the restored databases in place of the present ones", &e))
}

fn transaction(client: &mut Client, renames: &[Rename]) -> std::result::Result<(), postgres::Error> {
    // Whoever is killed before the end has changed nothing.
    client.batch_execute("BEGIN; SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = '30s'")?;
    for one in renames {
        let text = format!("ALTER DATABASE {} RENAME TO {}", quote::ident(&one.from), quote::ident(&one.to));
        client.batch_execute(&text)?;
        client.batch_execute(&comment(&one.to, one.comment.as_deref()))?;
    }
    client.batch_execute("COMMIT")
}

fn end_sessions(client: &mut Client, databases: &[String], done: &AtomicBool) {
    let mut told = HashMap::new();
    while !done.load(Ordering::Relaxed) {
        let ended = client.query(
            "SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY($1) AND pid <> pg_backend_pid()",
            &[&databases],
        );
        match ended {
            Ok(rows) => told.extend(rows.iter().map(|row| (row.get::<_, i32>(0), row.get::<_, bool>(1)))),
            Err(error) => {
                let error =
                    failure::server("cannot end the sessions of databases that are being restored", &error);
                tracing::warn!("{error}");
            }
        }
        std::thread::sleep(END_SESSIONS_EVERY);
    }
    if !told.is_empty() {
        tracing::info!(sessions = told.len(), "ended the sessions of databases that were restored");
    }
}
