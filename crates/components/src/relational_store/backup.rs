//! The backup of a server.
//!
//! ```text
//! maintenance database   version, databases, roles → tools
//! each database          connect; then all snapshots one right after the other; then look and lock
//! files                  schema.dump (pg_dump) · rows (COPY, several at once, large tables in ranges of pages) · globals.sql
//! manifest.json          last, when all rows are counted
//! ```
//! A snapshot is exact within a database. Those of several databases are taken one right after the other, as PostgreSQL
//! offers nothing closer; the manifest says when, and at which position of the log.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use repository::{BackupRequest, Control, Fed, FedContent, FedFile, Time};

use super::copy::{copy, copy_out, lock, ranges};
use super::inventory::{self, About, TableFound};
use super::manifest::{self, Database, FORMAT, Manifest, Part, Table};
use super::server::Server;
use super::session::{Begun, Looked, Session, Waiting};
use super::tools::{self, Running, Tools};
use super::{RelationalStore, failure, quote, swap};
use crate::{Backup, BackupContext, Error, ErrorKind, Facts, Result};

/// `pg_dump` is told that it should leave the rows of so many tables, the largest, to us; it keeps those of the others.
pub(super) const TABLES_MAX: usize = 10_000;
/// More databases are backed up in groups, so as not to use up the server's connections; each group has its own instant.
const DATABASES_AT_ONCE: usize = 8;
/// So often a group's snapshots are taken again because a table was rewritten right after them.
const SNAPSHOTS_MAX: usize = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long `pg_dump` may wait for a lock, in milliseconds.
const LOCK_WAIT_MS: u32 = 30_000;

/// Can the server be reached and backed up?
pub(super) fn probe(store: &RelationalStore) -> Result<()> {
    let mut client = store.server.connect(store.server.maintenance())?;
    let about = inventory::about(&mut client)?;
    Tools::find(store.settings.tools_directory.as_deref(), about.major())?;
    choose(store, inventory::databases(&mut client, about.major())?.0).map(drop)
}

/// The databases that are asked for.
pub(super) fn choose(store: &RelationalStore, all: Vec<Database>) -> Result<Vec<Database>> {
    let wanted = &store.settings.databases;
    if wanted.iter().any(|name| name == "*") {
        return match all.is_empty() {
            false => Ok(all),
            true => {
                Err(Error::new(ErrorKind::Missing, "the server has no database that may be connected to"))
            }
        };
    }
    if let Some(missing) = wanted.iter().find(|name| !all.iter().any(|database| database.name == **name)) {
        let message = format!("the server at {} has no database '{missing}'", store.server.address());
        return Err(Error::new(ErrorKind::Missing, message));
    }
    Ok(all.into_iter().filter(|database| wanted.contains(&database.name)).collect())
}

pub(super) fn backup(store: &RelationalStore, context: &BackupContext<'_>) -> Result<Backup> {
    swap::clear_leftovers(&store.server, &store.settings.scratch_directory, &store.settings.name);
    let mut client = store.server.connect(store.server.maintenance())?;
    let about = inventory::about(&mut client)?;
    let tools = Tools::find(store.settings.tools_directory.as_deref(), about.major())?;
    let (found, closed) = inventory::databases(&mut client, about.major())?;
    let databases = choose(store, found)?;
    let (roles, memberships, with_passwords) = inventory::roles(&mut client, about.major())?;
    drop(client);
    for name in closed.iter().filter(|_| store.settings.databases.iter().any(|name| name == "*")) {
        context.control.warn(name.clone(), "the database takes no connections and is not in the backup");
    }
    if !with_passwords {
        let reason = "the role may not read the passwords of others (pg_authid): roles that a restore makes will have none";
        context.control.warn(store.settings.name.clone(), reason);
    }
    let mut facts = Facts {
        cluster: about.system_identifier.clone(),
        version: format!("{}.{}", about.major(), about.version % 10_000),
        ..Facts::default()
    };
    let manifest = Manifest {
        format: FORMAT,
        server_version: about.version,
        tools_version: tools.major,
        system_identifier: about.system_identifier.clone(),
        roles,
        memberships,
        with_passwords,
        databases: Vec::new(),
        is_outline: false,
    };
    let (send, counted) = channel();
    let mut feed = Feed {
        store,
        tools: Arc::new(tools),
        about,
        manifest: Some(manifest),
        counting: Some((send, counted)),
        ahead: databases.into(),
        sessions: VecDeque::new(),
        files: VecDeque::new(),
        failed: None,
        named: Vec::new(),
        earlier: Vec::new(),
        control: Arc::clone(&context.control),
    };
    let mut request =
        BackupRequest::new(vec![PathBuf::from("/").join(quote::file_name(&store.settings.name))]);
    request.tags = context.tags.clone();
    request.hostname = context.hostname.clone();
    request.compression = context.compression;
    let mut next = || feed.next();
    let outcome = repository::backup_feed(
        context.repository,
        context.index,
        &request,
        &mut next,
        store.settings.connections,
        &context.control,
    );
    // What was told in naming the files is told as it was.
    if let Some(error) = feed.failed.take() {
        return Err(error);
    }
    let outcome = outcome
        .map_err(|e| Error::engine(format!("cannot back up component '{}'", store.settings.name), e))?;
    for (name, is_geodatabase) in std::mem::take(&mut feed.named) {
        if is_geodatabase { &mut facts.geodatabases } else { &mut facts.databases }.push(name);
    }
    Ok(Backup { outcome, facts })
}

/// How a file counts its rows: database, table, part.
type Counted = (usize, usize, usize, Part);

/// Names the files of the backup in the order of their paths.
struct Feed<'s> {
    store: &'s RelationalStore,
    tools: Arc<Tools>,
    about: About,
    manifest: Option<Manifest>,
    /// To it files tell their rows, until all are named.
    counting: Option<(Sender<Counted>, Receiver<Counted>)>,
    /// Databases whose turn has not come.
    ahead: VecDeque<Database>,
    /// Those of the present group.
    sessions: VecDeque<Opened>,
    files: VecDeque<FedFile<'s>>,
    failed: Option<Error>,
    /// Each database, and whether it is a geodatabase.
    named: Vec<(String, bool)>,
    /// Sessions of groups that were named; alive as long as one of their files is.
    earlier: Vec<Weak<Session>>,
    control: Arc<Control>,
}

impl<'s> Feed<'s> {
    fn next(&mut self) -> repository::Result<Option<FedFile<'s>>> {
        self.try_next().map_err(|error| {
            let message = error.message.clone();
            self.failed = Some(error);
            repository::Error::new(repository::ErrorKind::Source, message)
        })
    }

    fn try_next(&mut self) -> Result<Option<FedFile<'s>>> {
        loop {
            if let Some(file) = self.files.pop_front() {
                return Ok(Some(file));
            }
            if let Some(opened) = self.sessions.pop_front() {
                self.database(opened);
            } else if !self.ahead.is_empty() {
                self.group()?;
            } else if let Some(manifest) = self.manifest.take() {
                self.last(manifest);
            } else {
                return Ok(None);
            }
        }
    }

    /// Takes the snapshots of the next databases, once the files of the last ones are read.
    fn group(&mut self) -> Result<()> {
        // Workers wait for nobody, and after a failure they drop what is left.
        while self.earlier.iter().any(|session| session.strong_count() > 0) {
            self.control.check().map_err(|e| Error::engine("the backup was stopped", e))?;
            std::thread::sleep(LOOK_AGAIN);
        }
        let some: Vec<Database> = self.ahead.drain(..self.ahead.len().min(DATABASES_AT_ONCE)).collect();
        for _ in 0..SNAPSHOTS_MAX {
            match self.snapshots(&some)? {
                Ok(sessions) => {
                    self.earlier = sessions.iter().map(Arc::downgrade).collect();
                    self.sessions =
                        sessions.into_iter().map(|session| self.open(session)).collect::<Result<_>>()?;
                    return Ok(());
                }
                Err(table) => tracing::info!(
                    table,
                    "a table was rewritten right after the snapshot; another one is taken"
                ),
            }
        }
        let message = format!(
            "tables were rewritten (TRUNCATE, ALTER TABLE, DROP) each time right after a snapshot was taken, {SNAPSHOTS_MAX} times; make the \
             backup at another time"
        );
        Err(Error::new(ErrorKind::Io, message))
    }

    /// One snapshot of each, or the name of a table that one of them does not show any more.
    fn snapshots(&self, databases: &[Database]) -> Result<std::result::Result<Vec<Arc<Session>>, String>> {
        let server = &self.store.server;
        let all = self.store.settings.databases.iter().any(|name| name == "*");
        let mut waiting = Vec::new();
        for database in databases {
            match Waiting::connect(server, database.clone()) {
                Ok(one) => waiting.push(one),
                Err(e) if all && e.kind == ErrorKind::Missing => {
                    self.control.warn(
                        database.name.clone(),
                        "the database was dropped while the others were backed up",
                    );
                }
                Err(e) => return Err(e),
            }
        }
        let begun: Vec<Begun> =
            waiting.into_iter().map(|one| one.begin(server, self.about.standby)).collect::<Result<_>>()?;
        let mut sessions = Vec::new();
        for one in begun {
            match one.look()? {
                Looked::Session(session) => sessions.push(session),
                Looked::Moved(table) => return Ok(Err(table)),
            }
        }
        Ok(Ok(sessions))
    }

    /// Starts `pg_dump` at once, so that it has its locks before somebody who wants to alter a table stands in its way. It waits
    /// when its pipe is full.
    fn open(&self, session: Arc<Session>) -> Result<Opened> {
        let ours = ours(&session.tables);
        let fail =
            |e: io::Error| Error::io(format!("cannot back up the database '{}'", session.database.name), e);
        let dump = dump(&self.store.server, &self.tools, &session, &ours)?;
        let dump = tools::start(dump).map_err(fail)?;
        Ok(Opened { session, ours, dump })
    }

    /// Names the files of a database.
    fn database(&mut self, Opened { session, ours, dump }: Opened) {
        let (at, mut database) = (self.named.len(), session.database.clone());
        let directory = [b"databases".to_vec(), database.directory.clone().into_bytes()];
        let path = |rest: &[&str]| {
            let rest = rest.iter().map(|name| name.as_bytes().to_vec());
            directory.iter().cloned().chain(rest).collect::<Vec<_>>()
        };
        let (control, of_dump) = (Arc::clone(&self.control), Arc::clone(&session));
        let content: FedContent<'s> = Box::new(move |out| {
            let _snapshot = of_dump;
            tools::run(dump, &control, out).map(|()| Fed::Whole)
        });
        self.files.push_back(file(path(&[manifest::SCHEMA]), content));
        for (number, &i) in ours.iter().enumerate() {
            let table = &session.tables[i];
            let ranges = ranges(table, self.about.major());
            for (part, range) in ranges.iter().enumerate() {
                let (session, send) =
                    (Arc::clone(&session), self.counting.as_ref().map(|(send, _)| send.clone()));
                let text = copy_out(table, *range, &database.encoding);
                let locked = quote::table(&table.schema, &table.name);
                let label = format!("{}.{} of the database '{}'", table.schema, table.name, database.name);
                let content: FedContent<'s> = Box::new(move |out| {
                    let counted = match session.with_connection(|client| {
                        lock(client, &locked, &label)?;
                        copy(client, &text, &label, out)
                    }) {
                        // Nothing was written yet.
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                            session.with_owner(|client| copy(client, &text, &label, out))
                        }
                        other => other,
                    }?;
                    if let Some(send) = &send {
                        let _ = send.send((at, number, part, counted));
                    }
                    Ok(Fed::Whole)
                });
                let file_name = manifest::part_file(part);
                let (schema, name) = (quote::file_name(&table.schema), quote::file_name(&table.name));
                self.files.push_back(file(path(&["tables", &schema, &name, &file_name]), content));
            }
            database.tables.push(Table {
                schema: table.schema.clone(),
                name: table.name.clone(),
                top: table.top.clone(),
                columns: table.columns.clone(),
                parts: vec![Part::default(); ranges.len()],
            });
        }
        if session.hidden && !self.about.superuser {
            let reason = "subscriptions and the options of user mappings are shown to a superuser alone: they are not in the backup";
            self.control.warn(database.name.clone(), reason);
        }
        self.named.push((database.name.clone(), database.geodatabase));
        if let Some(manifest) = &mut self.manifest {
            manifest.databases.push(database);
        }
    }

    /// Names what lies beside the databases. The manifest's content waits until no other file is at work.
    fn last(&mut self, mut manifest: Manifest) {
        let control = Arc::clone(&self.control);
        let (server, tools, with) =
            (self.store.server.clone(), Arc::clone(&self.tools), manifest.with_passwords);
        let globals: FedContent<'s> = Box::new(move |out| {
            let mut command =
                server.tool(&tools.path("pg_dumpall"), server.maintenance()).map_err(failure::other)?;
            command.args(["--globals-only", "--no-password", "--database"]).arg(server.maintenance());
            if !with {
                command.arg("--no-role-passwords");
            }
            tools::run(tools::start(command)?, &control, out).map(|()| Fed::Whole)
        });
        self.files.push_back(file(vec![manifest::GLOBALS.into()], globals));
        let counted = self.counting.take().map(|(_, counted)| counted);
        let content: FedContent<'s> = Box::new(move |out| {
            for (database, table, part, rows) in counted.iter().flatten() {
                manifest.databases[database].tables[table].parts[part] = rows;
            }
            serde_json::to_writer_pretty(&mut *out, &manifest)?;
            out.write_all(b"\n").map(|()| Fed::Whole)
        });
        self.files.push_back(file(vec![manifest::MANIFEST.into()], content));
    }
}

fn file<'s>(path: Vec<Vec<u8>>, content: FedContent<'s>) -> FedFile<'s> {
    FedFile { path, mtime: Time::now(), attributes: Vec::new(), same_if_size: None, content }
}

/// The tables whose rows we read ourselves, in their order: all, or the largest of very many.
fn ours(tables: &[TableFound]) -> Vec<usize> {
    let mut all: Vec<usize> = (0..tables.len()).collect();
    if all.len() > TABLES_MAX {
        all.sort_by_key(|&i| std::cmp::Reverse(tables[i].bytes));
        all.truncate(TABLES_MAX);
        all.sort_unstable();
    }
    all
}

/// A database whose snapshot stands and whose `pg_dump` runs.
struct Opened {
    session: Arc<Session>,
    /// The tables whose rows we read ourselves.
    ours: Vec<usize>,
    dump: Running,
}

/// Writes everything of a database but the rows that we read ourselves.
fn dump(server: &Server, tools: &Tools, session: &Session, ours: &[usize]) -> Result<Command> {
    let mut command = server.tool(&tools.path("pg_dump"), &session.database.name)?;
    command
        .args(["--format=custom", "--compress=0", "--no-password"])
        .arg(format!("--lock-wait-timeout={LOCK_WAIT_MS}"))
        .arg(format!("--snapshot={}", session.snapshot));
    // The names of tables that follow are in this encoding; a server that knows none converts nothing.
    if session.database.encoding != "SQL_ASCII" {
        command.arg("--encoding=UTF8");
    }
    for table in ours.iter().filter_map(|&at| session.tables.get(at)) {
        command.arg(format!("--exclude-table-data={}", quote::table(&table.schema, &table.name)));
    }
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_very_many_tables_the_largest_are_ours() {
        let table = |bytes| TableFound {
            number: 1,
            top: None,
            schema: "public".into(),
            name: "roads".into(),
            columns: vec!["id".into()],
            bytes,
        };
        let mut tables = vec![table(0); TABLES_MAX + 2];
        tables[0].bytes = 5;
        tables[TABLES_MAX + 1].bytes = 7;
        let ours = ours(&tables);
        assert_eq!(ours.len(), TABLES_MAX);
        assert!(ours.contains(&0) && ours.contains(&(TABLES_MAX + 1)) && ours.is_sorted());
    }
}
