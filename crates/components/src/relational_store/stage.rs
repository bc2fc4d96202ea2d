//! A restore up to the point where nothing has changed yet: every database is built beside the present one.
//!
//! ```text
//! manifest → can it be restored here? → roles that are missing
//! each database   create → pg_restore before data → COPY, several at once, rows counted → pg_restore data, after data → analyse
//! ```

use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use postgres::Client;
use repository::{Control, Id, Node, RestoreOutcome};

use super::backup::copy_in;
use super::inventory::{self, About};
use super::manifest::{self, Database, Manifest, Table};
use super::names::{Names, Note, comment};
use super::server::TOOL_OPTIONS;
use super::tools::{self, Tools};
use super::{RelationalStore, failure, quote, swap};
use crate::{Error, ErrorKind, RestoreContext, Result, StagedRestore};

/// What `pg_restore` and the loading connections set: the swap's own commit makes all of it durable.
const LOADING: [(&str, &str); 2] = [("synchronous_commit", "off"), ("maintenance_work_mem", "256MB")];

/// A restore whose databases are built.
pub(super) struct Staged {
    store: RelationalStore,
    trace: swap::Trace,
    outcome: RestoreOutcome,
    /// The name of each in the end, and its number in the server's catalogue.
    built: Vec<(String, u32)>,
    swapped: bool,
}

/// The snapshot as files.
pub(super) struct Snapshot<'a> {
    repository: &'a repository::Repository,
    index: &'a repository::Index,
    tree: Id,
    root: String,
}

impl<'a> Snapshot<'a> {
    pub(super) fn open(
        repository: &'a repository::Repository,
        index: &'a repository::Index,
        snapshot: Id,
    ) -> Result<Self> {
        let fail = |e| Error::engine("cannot read the snapshot of a database server", e);
        let snapshot = repository.snapshot(snapshot).map_err(fail)?;
        let root = snapshot.paths.first().cloned().unwrap_or_default();
        Ok(Self { repository, index, tree: snapshot.tree, root })
    }

    fn node(&self, path: &str) -> Result<Node> {
        let whole = format!("{}/{path}", self.root);
        let found = repository::look_up(self.repository, self.index, self.tree, whole.as_bytes())
            .map_err(|e| Error::engine(format!("cannot find {whole} in the backup"), e))?;
        found
            .flatten()
            .ok_or_else(|| Error::new(ErrorKind::Damaged, format!("the backup lacks the file {whole}")))
    }

    fn write(&self, path: &str, control: &Control, out: &mut dyn Write) -> Result<()> {
        let node = self.node(path)?;
        repository::dump_file(self.repository, self.index, &node, control, out)
            .map_err(|e| Error::engine(format!("cannot read {}/{path} of the backup", self.root), e))
    }

    pub(super) fn manifest(&self, control: &Control) -> Result<Manifest> {
        let mut text = Vec::new();
        self.write(manifest::MANIFEST, control, &mut text)?;
        Manifest::parse(&text)
    }
}

pub(super) fn stage(store: &RelationalStore, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>> {
    let control = &*context.control;
    let snapshot = Snapshot::open(context.repository, context.index, context.snapshot)?;
    let manifest = snapshot.manifest(control)?;
    let mut client = swap::aside(&store.server, &[])?;
    let about = inventory::about(&mut client)?;
    check(&mut client, &about, &manifest, control)?;
    let tools =
        Tools::find(store.settings.tools_directory.as_deref(), about.major().max(manifest.tools_version))?;
    make_roles(&mut client, about.major(), &manifest, control)?;

    let trace = store.trace(Names::new(context.job_id, &store.settings.name));
    swap::clear_leftovers(&store.server, &trace.directory, &trace.component, Some(&trace.names));
    trace.write(&[])?;
    let mut staged = Staged {
        store: store.clone(),
        trace,
        outcome: RestoreOutcome::default(),
        built: Vec::new(),
        swapped: false,
    };
    let builder = Builder { store, snapshot: &snapshot, tools: &tools, control };
    for (number, database) in manifest.databases.iter().enumerate() {
        let name = staged.trace.names.new_one(number);
        let made = create(&mut client, &about, database, &name)?;
        staged.built.push((database.name.clone(), made));
        builder.build(&mut client, database, &name, &mut staged.outcome)?;
    }
    staged.trace.write(&staged.built)?;
    Ok(Box::new(staged))
}

/// Everything that would end the restore later on.
fn check(client: &mut Client, about: &About, manifest: &Manifest, control: &Control) -> Result<()> {
    let refuse = |message: String| Err(Error::new(ErrorKind::Io, message));
    if about.standby {
        return refuse(
            "the server follows another one and takes no writes; restore into the one that it follows"
                .to_owned(),
        );
    }
    if !about.may_create {
        return refuse(
            "the role must be a superuser, or have CREATEDB and CREATEROLE, to restore databases".to_owned(),
        );
    }
    if about.major() < manifest.server_major() {
        return refuse(format!(
            "the backup is of PostgreSQL {}, and the server is {}: databases cannot be restored into an older release",
            manifest.server_major(),
            about.major()
        ));
    }
    let available =
        list(client, "SELECT name::text FROM pg_available_extensions", "list the available extensions")?;
    let mut missing: Vec<&str> = manifest
        .databases
        .iter()
        .flat_map(|database| &database.extensions)
        .map(|(name, _)| name.as_str())
        .filter(|name| !available.contains(*name))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        return refuse(format!(
            "the server lacks extensions that the backup needs: {}; install their packages on its machine",
            missing.join(", ")
        ));
    }
    let tablespaces: HashSet<String> = inventory::tablespaces(client)?.into_iter().collect();
    let used = manifest
        .databases
        .iter()
        .flat_map(|database| database.tablespaces.iter().chain([&database.tablespace]));
    let lacking: Vec<&str> = used.filter(|name| !tablespaces.contains(*name)).map(String::as_str).collect();
    if !lacking.is_empty() {
        return refuse(format!(
            "the server lacks the tablespaces {}; make them first (globals.sql in the backup says how they were made)",
            lacking.join(", ")
        ));
    }
    let names: Vec<String> = manifest.databases.iter().map(|database| database.name.clone()).collect();
    let held = [
        (
            "SELECT database::text, gid FROM pg_prepared_xacts WHERE database = ANY($1)",
            "the prepared transaction",
        ),
        (
            "SELECT database::text, slot_name::text FROM pg_replication_slots WHERE database = ANY($1)",
            "the logical replication slot",
        ),
        (
            "SELECT d.datname::text, s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = ANY($1)",
            "the subscription",
        ),
    ];
    for (text, what) in held {
        let rows = client
            .query(text, &[&names])
            .map_err(|e| failure::server(format!("cannot look for {what}"), &e))?;
        if let Some(row) = rows.first() {
            let (database, name): (String, String) = (inventory::get(row, 0)?, inventory::get(row, 1)?);
            return refuse(format!(
                "the database '{database}' cannot be replaced while {what} '{name}' holds it; end that first"
            ));
        }
    }
    if about.major() >= 15 {
        let text = "SELECT datcollversion FROM pg_database WHERE datname = 'template0'";
        let here: Option<String> = client
            .query_opt(text, &[])
            .map_err(|e| failure::server("cannot ask for the version of the collations", &e))?
            .and_then(|row| row.get(0));
        let other = manifest.databases.iter().find(|database| {
            database.provider == "c"
                && here.is_some()
                && database.collation_version.is_some()
                && database.collation_version != here
        });
        if let Some(database) = other {
            let reason = format!(
                "text was sorted by collation version {} there and is by {} here; all indexes were built anew",
                database.collation_version.as_deref().unwrap_or_default(),
                here.as_deref().unwrap_or_default()
            );
            control.warn(database.name.clone(), reason);
        }
    }
    Ok(())
}

fn list(client: &mut Client, text: &str, what: &str) -> Result<HashSet<String>> {
    let rows = client.query(text, &[]).map_err(|e| failure::server(format!("cannot {what}"), &e))?;
    rows.iter().map(|row| inventory::get(row, 0)).collect()
}

/// What is off by default needs no right to be turned off.
const ROLE_OPTIONS: [&str; 7] =
    ["SUPERUSER", "NOINHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS"];
/// Rights on a database.
const PRIVILEGES: [&str; 3] = ["CREATE", "CONNECT", "TEMPORARY"];

/// Makes the roles that are missing, with their memberships. Those that are there stay as they are.
fn make_roles(client: &mut Client, major: u32, manifest: &Manifest, control: &Control) -> Result<()> {
    let present = list(client, "SELECT rolname::text FROM pg_roles", "list the roles")?;
    let (mut statements, mut settings) = (Vec::new(), Vec::new());
    for role in manifest.roles.iter().filter(|role| !present.contains(&role.name)) {
        let name = quote::ident(&role.name);
        // What is off by default needs no right to be turned off.
        let options =
            ROLE_OPTIONS.into_iter().filter(|option| role.options.iter().any(|given| given == option));
        let mut text = format!("CREATE ROLE {name} {}", options.collect::<Vec<_>>().join(" "));
        if role.connection_limit >= 0 {
            text.push_str(&format!(" CONNECTION LIMIT {}", role.connection_limit));
        }
        if let Some(password) = &role.password {
            text.push_str(&format!(" PASSWORD {}", quote::literal(password)));
        }
        if let Some(until) = &role.valid_until {
            text.push_str(&format!(" VALID UNTIL {}", quote::literal(until)));
        }
        statements.push(text);
        settings.extend(
            role.settings.iter().map(|text| (role.name.clone(), format!("ALTER ROLE {name}"), text.clone())),
        );
    }
    for membership in
        manifest.memberships.iter().filter(|m| !present.contains(&m.role) || !present.contains(&m.member))
    {
        let word = |yes: bool| if yes { "TRUE" } else { "FALSE" };
        let admin = match (membership.inherit, membership.set) {
            (Some(inherit), Some(set)) if major >= 16 => {
                format!(
                    " WITH ADMIN {}, INHERIT {}, SET {}",
                    word(membership.admin),
                    word(inherit),
                    word(set)
                )
            }
            _ if membership.admin => " WITH ADMIN OPTION".to_owned(),
            _ => String::new(),
        };
        statements.push(format!(
            "GRANT {} TO {}{admin}",
            quote::ident(&membership.role),
            quote::ident(&membership.member)
        ));
    }
    if statements.is_empty() {
        return Ok(());
    }
    let text = format!("BEGIN; {}; COMMIT", statements.join("; "));
    client.batch_execute(&text).map_err(|e| failure::server("cannot make the roles of the backup", &e))?;
    for (role, alter, text) in &settings {
        set(client, role, alter, text, control);
    }
    Ok(())
}

/// Makes one setting. Another release may not know it any more, which is told and is no reason to give up a restore.
fn set(client: &mut Client, of: &str, alter: &str, text: &str, control: &Control) {
    let Some(setting) = quote::setting(text) else { return };
    if let Err(e) = client.batch_execute(&format!("{alter} {setting}")) {
        let name = text.split('=').next().unwrap_or_default();
        control.warn(of.to_owned(), failure::server(format!("the setting '{name}' was refused"), &e).message);
    }
}

/// Makes an empty database that nobody else gets into; returns its number in the server's catalogue.
fn create(client: &mut Client, about: &About, database: &Database, name: &str) -> Result<u32> {
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
    let note = Note::new(swap::BECOMES, &database.name, database.comment.clone());
    let hide = format!("REVOKE ALL ON DATABASE {ident} FROM PUBLIC; {}", comment(name, Some(&note.text()?)));
    client.batch_execute(&hide).map_err(|e| fail(&e))?;
    let row =
        client.query_one("SELECT oid FROM pg_database WHERE datname = $1", &[&name]).map_err(|e| fail(&e))?;
    Ok(row.get(0))
}

struct Builder<'a> {
    store: &'a RelationalStore,
    snapshot: &'a Snapshot<'a>,
    tools: &'a Tools,
    control: &'a Control,
}

impl Builder<'_> {
    fn build(
        &self,
        client: &mut Client,
        database: &Database,
        name: &str,
        outcome: &mut RestoreOutcome,
    ) -> Result<()> {
        self.control.progress.set_current(&format!("database {}", database.name));
        let archive = Scratch::new(self, name)?;
        let mut file = archive.create()?;
        let of_database = format!("databases/{}", database.directory);
        self.snapshot.write(&format!("{of_database}/{}", manifest::SCHEMA), self.control, &mut file)?;
        drop(file);
        if !database.public {
            let mut inside = self.store.server.connect(name)?;
            inside.batch_execute("DROP SCHEMA IF EXISTS public").map_err(|e| {
                failure::server(format!("cannot prepare the database '{}'", database.name), &e)
            })?;
        }
        self.run_restore(&archive, database, name, &["--section=pre-data"])?;
        let (rows, bytes) = self.load(database, name, &of_database)?;
        self.run_restore(&archive, database, name, &["--section=data"])?;
        let jobs = format!("--jobs={}", self.store.settings.connections);
        self.run_restore(&archive, database, name, &["--section=post-data", &jobs])?;
        drop(archive);
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

    fn run_restore(
        &self,
        archive: &Scratch,
        database: &Database,
        name: &str,
        options: &[&str],
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
    fn new(builder: &Builder<'_>, name: &str) -> Result<Self> {
        let directory = &builder.store.settings.scratch_directory;
        std::fs::create_dir_all(directory).map_err(|e| {
            Error::io(format!("cannot make the scratch directory {}", directory.display()), e)
        })?;
        Ok(Self { path: directory.join(format!("{name}.dump")) })
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

impl StagedRestore for Staged {
    fn swap(&mut self) -> Result<()> {
        // Even after an error: the answer may have been lost.
        self.swapped = true;
        swap::swap_in(&self.store.server, &self.trace.names)
    }

    fn finish(self: Box<Self>) -> Result<RestoreOutcome> {
        swap::finish(&self.store.server, &self.trace.names)?;
        self.trace.remove()?;
        Ok(self.outcome.clone())
    }

    fn abandon(mut self: Box<Self>) -> Result<()> {
        self.swapped = true;
        swap::abandon(&self.store.server, &self.trace, &self.built)
    }
}

impl Drop for Staged {
    /// What a restore that failed had built goes; if the server is away, with the next backup or restore.
    fn drop(&mut self) {
        if self.swapped {
            return;
        }
        let removed =
            swap::remove(&self.store.server, &self.trace.names, false).and_then(|()| self.trace.remove());
        if let Err(error) = removed {
            tracing::warn!(component = self.store.settings.name, %error, "what a restore had built could not be removed yet");
        }
    }
}
