//! One database, built under a name of its own.
//!
//! create → pg_restore before data → COPY, several at once, rows counted → pg_restore data, after data → analyse → owner, rights,
//! settings

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use postgres::Client;
use repository::{Control, RestoreOutcome};

use super::copy::copy_in;
use super::inventory::{self, About};
use super::manifest::{self, Database, Table};
use super::names::{Names, Note, comment};
use super::roles::set;
use super::server::TOOL_OPTIONS;
use super::snapshot::Snapshot;
use super::tables::Tables;
use super::tools::{self, Tools};
use super::{RelationalStore, failure, quote, swap};
use crate::{Error, ErrorKind, Result};

/// What `pg_restore` and the loading connections set: the swap's own commit makes all of it durable.
const LOADING: [(&str, &str); 2] = [("synchronous_commit", "off"), ("maintenance_work_mem", "256MB")];

/// Rights on a database.
const PRIVILEGES: [&str; 3] = ["CREATE", "CONNECT", "TEMPORARY"];

/// Makes an empty database that nobody else gets into; returns its number in the server's catalogue.
/// `beside`: in the end it takes nobody's place.
pub(super) fn create(
    client: &mut Client,
    about: &About,
    database: &Database,
    name: &str,
    beside: bool,
) -> Result<u32> {
    let fail =
        |e: &postgres::Error| failure::server(format!("cannot create a database for '{}'", database.name), e);
    let ident = quote::ident(name);
    let mut text = format!(
        "CREATE DATABASE {ident} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {} TABLESPACE {}",
        quote::literal(&database.encoding),
        quote::literal(&database.collate),
        quote::literal(&database.ctype),
        quote::ident(&database.tablespace),
    );
    if about.major() >= 15 {
        let locale = database.locale.as_deref().map(quote::literal).unwrap_or_default();
        text.push_str(&match database.provider.as_str() {
            "i" => {
                let rules = database.icu_rules.as_deref().map(quote::literal);
                let rules = rules.map(|rules| format!(" ICU_RULES {rules}")).unwrap_or_default();
                format!(" LOCALE_PROVIDER icu ICU_LOCALE {locale}{rules}")
            }
            "b" => format!(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {locale}"),
            _ => " LOCALE_PROVIDER libc".to_owned(),
        });
    }
    client.batch_execute(&text).map_err(|e| fail(&e))?;
    let note = Note { beside, ..Note::new(swap::BECOMES, &database.name, database.comment.clone()) };
    let hide = format!("REVOKE ALL ON DATABASE {ident} FROM PUBLIC; {}", comment(name, Some(&note.text()?)));
    client.batch_execute(&hide).map_err(|e| fail(&e))?;
    let row =
        client.query_one("SELECT oid FROM pg_database WHERE datname = $1", &[&name]).map_err(|e| fail(&e))?;
    inventory::get(&row, 0)
}

/// What it takes to build databases.
pub(super) struct Builder<'a> {
    pub store: &'a RelationalStore,
    pub snapshot: &'a Snapshot<'a>,
    pub tools: &'a Tools,
    pub control: &'a Control,
}

impl Builder<'_> {
    /// Fills the database `name`, which is empty. `tables`: if not all come.
    pub(super) fn build(
        &self,
        client: &mut Client,
        database: &Database,
        tables: Option<&Tables>,
        name: &str,
        outcome: &mut RestoreOutcome,
    ) -> Result<()> {
        self.control.progress.set_current(&format!("database {}", database.name));
        let archive = Scratch::new(self, &format!("{name}.dump"))?;
        let mut file = archive.create()?;
        let of_database = format!("databases/{}", database.directory);
        self.snapshot.write(&format!("{of_database}/{}", manifest::SCHEMA), self.control, &mut file)?;
        drop(file);
        let list = tables.map(|tables| self.list(&archive, database, tables, name)).transpose()?;
        let chosen: Vec<String> =
            list.iter().map(|list| format!("--use-list={}", list.path.display())).collect();
        let options = |more: &[&str]| {
            chosen.iter().cloned().chain(more.iter().map(|&one| one.to_owned())).collect::<Vec<_>>()
        };
        if !database.public {
            let mut inside = self.store.server.connect(name)?;
            inside.batch_execute("DROP SCHEMA IF EXISTS public").map_err(|e| {
                failure::server(format!("cannot prepare the database '{}'", database.name), &e)
            })?;
        }
        self.run_restore(&archive, database, name, &options(&["--section=pre-data"]))?;
        let (rows, bytes) = self.load(database, name, &of_database)?;
        self.run_restore(&archive, database, name, &options(&["--section=data"]))?;
        let jobs = format!("--jobs={}", self.store.settings.connections);
        self.run_restore(&archive, database, name, &options(&["--section=post-data", &jobs]))?;
        drop((archive, list));
        self.analyse(database, name)?;
        self.dress(client, database, name)?;
        outcome.files += 1 + database.tables.iter().map(|table| table.parts.len() as u64).sum::<u64>();
        outcome.bytes += bytes;
        tracing::info!(
            database = database.name,
            rows,
            bytes,
            "a database was restored beside the present one"
        );
        Ok(())
    }

    /// What of an archive is restored with some tables alone; tells what is not.
    fn list(&self, archive: &Scratch, database: &Database, tables: &Tables, name: &str) -> Result<Scratch> {
        let fail = |e: io::Error| {
            Error::io(format!("cannot list the definitions of the database '{}'", database.name), e)
        };
        let mut command = self.store.server.tool(&self.tools.path("pg_restore"), name)?;
        command.args(["--list", "--verbose"]).arg(&archive.path);
        let mut text = Vec::new();
        tools::start(command).and_then(|tool| tools::run(tool, self.control, &mut text)).map_err(fail)?;
        let chosen = tables.choose_of(&String::from_utf8_lossy(&text));
        for key in &chosen.foreign_keys {
            let reason =
                format!("the foreign key '{key}' was left out: it leads to rows that were not selected");
            self.control.warn(database.name.clone(), reason);
        }
        let list = Scratch::new(self, &format!("{name}.list"))?;
        list.create()?.write_all(chosen.list.as_bytes()).map_err(fail)?;
        Ok(list)
    }

    fn run_restore(
        &self,
        archive: &Scratch,
        database: &Database,
        name: &str,
        options: &[String],
    ) -> Result<()> {
        let mut command = self.store.server.tool(&self.tools.path("pg_restore"), name)?;
        let set: Vec<String> = LOADING.iter().map(|(key, value)| format!("-c {key}={value}")).collect();
        command
            .env("PGOPTIONS", format!("{TOOL_OPTIONS} {}", set.join(" ")))
            .args(["--exit-on-error", "--no-password", "--dbname"])
            .arg(name)
            .args(options)
            .arg(&archive.path);
        self.run(command, database)
    }

    /// Statistics are not in a backup, and without them the first queries would take long.
    fn analyse(&self, database: &Database, name: &str) -> Result<()> {
        let mut command = self.store.server.tool(&self.tools.path("vacuumdb"), name)?;
        command.args(["--analyze-only", "--quiet", "--no-password"]);
        command.arg(format!("--jobs={}", self.store.settings.connections)).arg("--dbname").arg(name);
        self.run(command, database)
    }

    fn run(&self, command: std::process::Command, database: &Database) -> Result<()> {
        tools::run_quiet(command, self.control).map_err(|e| match e.kind() {
            io::ErrorKind::Interrupted => Error::new(ErrorKind::Cancelled, "the restore was cancelled"),
            _ if e.to_string().contains("No space left on device") => Error::new(
                ErrorKind::NoSpace,
                format!("cannot restore the database '{}': {e}", database.name),
            ),
            _ => Error::new(ErrorKind::Io, format!("cannot restore the database '{}': {e}", database.name)),
        })
    }

    /// Loads the rows, with several connections at once; tells how many rows and bytes.
    fn load(&self, database: &Database, name: &str, of_database: &str) -> Result<(u64, u64)> {
        let mut parts: Vec<(&Table, usize)> = database
            .tables
            .iter()
            .flat_map(|table| (0..table.parts.len()).map(move |at| (table, at)))
            .collect();
        // The largest first, so that none is left for the end alone; taken from the back.
        parts.sort_by_key(|(table, at)| table.parts[*at].bytes);
        let queue = Mutex::new((parts, None::<Error>));
        std::thread::scope(|scope| {
            for _ in 0..self.store.settings.connections {
                scope.spawn(|| {
                    let mut client = None;
                    loop {
                        let next = {
                            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                            if queue.1.is_some() { None } else { queue.0.pop() }
                        };
                        let Some((table, at)) = next else { return };
                        let done = self
                            .connection(&mut client, name)
                            .and_then(|client| self.part(client, database, of_database, table, at));
                        if let Err(error) = done {
                            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                            queue.1.get_or_insert(error);
                        }
                    }
                });
            }
        });
        if let Some(error) = queue.into_inner().unwrap_or_else(PoisonError::into_inner).1 {
            return Err(error);
        }
        let sum =
            |of: fn(&manifest::Part) -> u64| database.tables.iter().flat_map(|t| &t.parts).map(of).sum();
        Ok((sum(|part| part.rows), sum(|part| part.bytes)))
    }

    fn connection<'c>(&self, client: &'c mut Option<Client>, name: &str) -> Result<&'c mut Client> {
        if client.is_none() {
            let mut fresh = self.store.server.connect(name)?;
            let set: Vec<String> =
                LOADING.iter().map(|(key, value)| format!("SET {key} = '{value}'")).collect();
            fresh
                .batch_execute(&set.join("; "))
                .map_err(|e| failure::server(format!("cannot prepare the loading of '{name}'"), &e))?;
            *client = Some(fresh);
        }
        client.as_mut().ok_or_else(|| Error::new(ErrorKind::Io, "no connection"))
    }

    fn part(
        &self,
        client: &mut Client,
        database: &Database,
        of_database: &str,
        table: &Table,
        at: usize,
    ) -> Result<()> {
        self.control.check().map_err(|e| Error::engine("the restore was stopped", e))?;
        let label = format!("{}.{}", table.schema, table.name);
        self.control.progress.set_current(&format!("{}: {label}", database.name));
        let what = || format!("cannot load the table {label} of the database '{}'", database.name);
        let fail = |e: postgres::Error| failure::server(what(), &e);
        let (schema, name) = (quote::file_name(&table.schema), quote::file_name(&table.name));
        let path = format!("{of_database}/tables/{schema}/{name}/{}", manifest::part_file(at));
        let mut writer = client.copy_in(&copy_in(table, &database.encoding)).map_err(fail)?;
        let mut said = None;
        let written =
            self.snapshot.write(&path, self.control, &mut Told { out: &mut writer, said: &mut said });
        if let Err(error) = written {
            drop(writer);
            // The server's reason comes as an error of the writing.
            return Err(said.map_or(error, |said| Error::new(ErrorKind::Io, format!("{}: {said}", what()))));
        }
        let rows = writer.finish().map_err(fail)?;
        let expected = table.parts[at].rows;
        if rows != expected {
            let message =
                format!("{}: {rows} rows came out of the backup, and {expected} went into it", what());
            return Err(Error::new(ErrorKind::Damaged, message));
        }
        Ok(())
    }

    /// Owner, rights and settings; the comment comes with the name.
    fn dress(&self, client: &mut Client, database: &Database, name: &str) -> Result<()> {
        let ident = quote::ident(name);
        let mut statements = vec![
            format!("ALTER DATABASE {ident} OWNER TO {}", quote::ident(&database.owner)),
            format!("ALTER DATABASE {ident} CONNECTION LIMIT {}", database.connection_limit),
        ];
        match &database.grants {
            None => statements.push(format!("GRANT CONNECT, TEMPORARY ON DATABASE {ident} TO PUBLIC")),
            Some(grants) => {
                statements
                    .push(format!("REVOKE ALL ON DATABASE {ident} FROM {}", quote::ident(&database.owner)));
                for grant in grants.iter().filter(|grant| PRIVILEGES.contains(&grant.privilege.as_str())) {
                    let to = grant.to.as_deref().map_or_else(|| "PUBLIC".to_owned(), quote::ident);
                    let option = if grant.grantable { " WITH GRANT OPTION" } else { "" };
                    statements.push(format!("GRANT {} ON DATABASE {ident} TO {to}{option}", grant.privilege));
                }
            }
        }
        if database.is_template {
            statements.push(format!("ALTER DATABASE {ident} IS_TEMPLATE true"));
        }
        client.batch_execute(&statements.join("; ")).map_err(|e| {
            failure::server(format!("cannot set owner and rights of the database '{}'", database.name), &e)
        })?;
        for (role, text) in &database.settings {
            let alter = match role {
                None => format!("ALTER DATABASE {ident}"),
                Some(role) => format!("ALTER ROLE {} IN DATABASE {ident}", quote::ident(role)),
            };
            set(client, &database.name, &alter, text, self.control);
        }
        Ok(())
    }
}

/// Keeps what the server said when it refused what was written.
struct Told<'a, W> {
    out: &'a mut W,
    said: &'a mut Option<String>,
}

impl<W: Write> Write for Told<'_, W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.out.write(data).inspect_err(|e| {
            let said = e.get_ref().and_then(|e| e.downcast_ref::<postgres::Error>());
            *self.said =
                Some(said.map_or_else(|| e.to_string(), |e| failure::server("the server", e).message));
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A file that goes with its value.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(builder: &Builder<'_>, file: &str) -> Result<Self> {
        let directory = &builder.store.settings.scratch_directory;
        std::fs::create_dir_all(directory).map_err(|e| {
            Error::io(format!("cannot make the scratch directory {}", directory.display()), e)
        })?;
        Ok(Self { path: directory.join(file) })
    }

    fn create(&self) -> Result<std::fs::File> {
        use std::os::unix::fs::OpenOptionsExt;
        let _ = std::fs::remove_file(&self.path); // of a killed restore
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path)
            .map_err(|e| Error::io(format!("cannot create {}", self.path.display()), e))
    }
}

/// Removes what a killed restore left in the scratch directory.
pub(super) fn clear_scratch(directory: &Path, names: &Names) -> Result<()> {
    let fail =
        |e: io::Error| Error::io(format!("cannot clear the scratch directory {}", directory.display()), e);
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(fail)?,
    };
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if names.is_new(&entry.file_name().to_string_lossy()) {
            std::fs::remove_file(entry.path()).map_err(fail)?;
        }
    }
    Ok(())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
