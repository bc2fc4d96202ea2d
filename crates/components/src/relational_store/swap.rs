//! Restored databases take the places of the present ones, all of a server in one transaction; and the way back.
//!
//! `ALTER DATABASE … RENAME` locks the database against whoever wants to connect, and waits some seconds for those who
//! are connected; a second connection ends these meanwhile. So nobody slips in between.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postgres::Client;
use postgres::error::SqlState;

use super::inventory::get;
use super::names::{Found, Names, Note, comment};
use super::server::Server;
use super::trace::Trace;
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
            if note.beside {
                let message = format!(
                    "a database '{}' was made during the restore, and it is not touched; restore again under another name",
                    note.database
                );
                return Err(Error::new(ErrorKind::Selection, message));
            }
            let was = Note::new(WAS, &note.database, present);
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
/// A swap whose answer was lost may come true while it is taken back: so often we look again.
const TAKE_BACK_TURNS: usize = 5;

/// Takes back: what was there before is there again, and what was built (`built`: their names in the end, and numbers in
/// the server's catalogue) is gone.
fn take_back(server: &Server, names: &Names, built: &[(String, u32)]) -> Result<()> {
    for _ in 0..TAKE_BACK_TURNS {
        let mut client = aside(server, &[])?;
        let found = names.find(&mut client)?;
        if found.is_empty() {
            return remove_built(server, built);
        }
        let mut renames = Vec::new();
        for (number, old) in found.iter().filter(|one| one.old).enumerate() {
            let note = note_of(old)?;
            if let Some(present) = comment_of(&mut client, &note.database)? {
                let becomes = Note::new(BECOMES, &note.database, present);
                let to = names.new_one(number);
                renames.push(Rename { from: note.database.clone(), to, comment: Some(becomes.text()?) });
            }
            let comment = note.comment.clone();
            renames.push(Rename { from: old.name.clone(), to: note.database.clone(), comment });
        }
        drop(client);
        if !renames.is_empty() {
            rename(server, &renames)?;
        }
        remove(server, names, false)?;
    }
    Err(Error::new(ErrorKind::Io, "the databases of a restore keep changing while they are taken back"))
}

/// Whether a database of this name is the one that was built.
fn is_ours(client: &mut Client, (name, number): &(String, u32)) -> Result<bool> {
    let found = client
        .query_opt("SELECT 1 FROM pg_database WHERE datname = $1 AND oid = $2", &[name, number])
        .map_err(|e| failure::server(format!("cannot look for the database '{name}'"), &e))?;
    Ok(found.is_some())
}

/// Whether what was built bears its names. All get them in one transaction.
fn bears_names(server: &Server, built: &[(String, u32)]) -> Result<bool> {
    let mut client = aside(server, &[])?;
    for one in built {
        if is_ours(&mut client, one)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Those of which there was none before bear their names in the end, and nothing else tells what they are.
fn remove_built(server: &Server, built: &[(String, u32)]) -> Result<()> {
    for one in built {
        let name = &one.0;
        let mut client = aside(server, std::slice::from_ref(name))?;
        if is_ours(&mut client, one)? {
            drop_database(server, &mut client, name)?;
        }
    }
    Ok(())
}

/// Removes a database of ours, or one that ours replaced. What would hold it is taken out first.
fn drop_database(server: &Server, client: &mut Client, name: &str) -> Result<()> {
    let ident = quote::ident(name);
    let fail = |e: &postgres::Error| failure::server(format!("cannot remove the database '{name}'"), e);
    let text = "SELECT datistemplate, datconnlimit <> -2 AND EXISTS (SELECT 1 FROM pg_subscription s WHERE s.subdbid = d.oid) \
                FROM pg_database d WHERE datname = $1";
    let Some(found) = client.query_opt(text, &[&name]).map_err(|e| fail(&e))? else { return Ok(()) };
    if get(&found, 0)? {
        client.batch_execute(&format!("ALTER DATABASE {ident} IS_TEMPLATE false")).map_err(|e| fail(&e))?;
    }
    if get(&found, 1)? {
        end_subscriptions(&mut server.connect(name)?)?;
    }
    client.batch_execute(&format!("DROP DATABASE IF EXISTS {ident} WITH (FORCE)")).map_err(|e| fail(&e))
}

/// Subscriptions came with the definitions, switched off and without a slot.
fn end_subscriptions(client: &mut Client) -> Result<()> {
    let fail = |e: postgres::Error| failure::server("cannot remove the subscriptions of a database", &e);
    let text = "SELECT subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid \
                WHERE d.datname = current_database()";
    for row in client.query(text, &[]).map_err(fail)? {
        let name = quote::ident(&get::<String>(&row, 0)?);
        for what in [
            "ALTER SUBSCRIPTION {} DISABLE",
            "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
            "DROP SUBSCRIPTION {}",
        ] {
            client.batch_execute(&what.replace("{}", &name)).map_err(fail)?;
        }
    }
    Ok(())
}

/// Removes what was there before (`old`), or what was built.
pub(super) fn remove(server: &Server, names: &Names, old: bool) -> Result<()> {
    let mut client = aside(server, &[])?;
    for one in names.find(&mut client)?.iter().filter(|one| one.old == old) {
        drop_database(server, &mut client, &one.name)?;
    }
    Ok(())
}

/// After a kill: finishes what had taken its place, and undoes what had not, or what was being taken back.
pub(super) fn recover(server: &Server, trace: &Trace) -> Result<Recovered> {
    let names = &trace.names;
    if trace.undo().exists() {
        let built = trace.read(&trace.undo())?;
        take_back(server, names, &built)?;
        trace.remove()?;
        return Ok(Recovered::Undone);
    }
    let found = names.find(&mut aside(server, &[])?)?;
    let recovered = if found.iter().any(|one| one.old) {
        remove(server, names, true)?;
        Recovered::Finished
    } else if found.is_empty() {
        // Those of which there was none before bear their names in the end, and only our note tells what they are.
        match bears_names(server, &trace.built()?)? {
            true => Recovered::Finished,
            false => Recovered::Nothing,
        }
    } else {
        remove(server, names, false)?;
        Recovered::Undone
    };
    trace.remove()?;
    Ok(recovered)
}

/// Takes back what was swapped in, or only built. That it is to be taken back is noted first, as the server may be away just
/// now: the names alone would say that it is to be finished.
pub(super) fn abandon(server: &Server, trace: &Trace, built: &[(String, u32)]) -> Result<()> {
    let noted = trace.turn_to_undo();
    match take_back(server, &trace.names, built) {
        Ok(()) => trace.remove(),
        Err(error) => Err(match noted {
            Ok(()) => error,
            Err(note) => {
                Error { message: format!("{}; nor could that be noted: {note}", error.message), ..error }
            }
        }),
    }
}

/// Removes what earlier restores of a component built and could not remove, as the server was away. What cannot be removed
/// yet is left for the next time. No restore of this component runs meanwhile.
pub(super) fn clear_leftovers(server: &Server, directory: &Path, component: &str) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Some(names) = Names::of_note(&entry.file_name().to_string_lossy()) else { continue };
        let trace = Trace { directory: directory.to_owned(), component: component.to_owned(), names };
        if trace.undo().exists() || trace.component_of_note().as_deref() != Some(component) {
            continue;
        }
        if let Err(error) = clear_leftover(server, &trace) {
            tracing::warn!(component, %error, "what an earlier restore had built could not be removed yet");
        }
    }
}

fn clear_leftover(server: &Server, trace: &Trace) -> Result<()> {
    let found = trace.names.find(&mut aside(server, &[])?)?;
    if found.iter().any(|one| one.old) {
        return Ok(()); // Swapped in: `recover` decides.
    }
    remove(server, &trace.names, false)?;
    trace.remove()
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
    row.map(|row| get(&row, 0)).transpose()
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
    let mut ended = 0;
    while !done.load(Ordering::Relaxed) {
        let text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY($1) AND pid <> pg_backend_pid()";
        match client.execute(text, &[&databases]) {
            Ok(count) => ended += count,
            Err(error) => {
                let error =
                    failure::server("cannot end the sessions of databases that are being restored", &error);
                tracing::warn!("{error}");
            }
        }
        std::thread::sleep(END_SESSIONS_EVERY);
    }
    if ended > 0 {
        tracing::info!(ended, "told the sessions of databases that were restored to end");
    }
}
