//! The server's own memory: users, tokens, keys, registered stores, jobs and system tasks, in one SQLite file.
//!
//! Reads go through a small pool of connections, writes through a pool of exactly one, each write in a
//! transaction that takes the write lock at its start (`BEGIN IMMEDIATE`): so writers queue in the process and
//! never fail half-way for a lock. WAL with `synchronous=FULL`: what is committed survives loss of power.
//! SQL lies in one file per subject and uses what PostgreSQL understands too.

mod audit;
mod figures;
mod jobs;
mod keys;
mod leases;
mod notices;
mod stores;
mod tasks;
mod users;

use std::borrow::Cow;
use std::fs::OpenOptions;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, Sqlite, SqliteConnection, SqlitePool};

use crate::{Error, ErrorKind, Result};

pub(crate) use jobs::{
    Cancel, Finish, JobRow, LANE_MAIN, LANE_SIDE, LANE_VERIFY, Lease, NewJob, status_text,
};
pub(crate) use notices::{Attempt, DeliveryRow};
pub(crate) use stores::{DeleteStore, StoreRow};
pub(crate) use tasks::{Claim, NewRun, TaskRow};
pub(crate) use users::{NewToken, ProviderSignIn, ProviderUser, UserChange};

/// A transaction that holds the write lock. Not sqlx's own: SQLite ends a transaction by itself when the disk is full,
/// which sqlx does not learn, and the connection would be of no use ever after. Here a transaction that is not
/// committed takes its connection with it, and the next write gets a new one.
pub(crate) struct Write {
    connection: PoolConnection<Sqlite>,
    committed: bool,
}

impl Deref for Write {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Write {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Write {
    fn drop(&mut self) {
        if !self.committed {
            self.connection.close_on_drop();
        }
    }
}

/// How long a statement waits for a lock that a foreign tool holds on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The open state database.
#[derive(Clone, Debug)]
pub(crate) struct State {
    readers: SqlitePool,
    writer: SqlitePool,
    file: String,
}

impl State {
    /// Opens the file, making it (readable by its owner alone) and bringing its tables up to date.
    pub async fn open(file: &Path) -> Result<Self> {
        if !file.exists() {
            tracing::info!("making a new state database, without users and stores: {}", file.display());
        }
        make_private(file).map_err(|source| {
            let message = format!("cannot open the state database {}: {source}", file.display());
            Error::new(ErrorKind::Configuration, message).because(source)
        })?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            // Sealed passcodes are wiped when their job ends: then they must not stay in free pages.
            .pragma("secure_delete", "ON");
        let name = file.display().to_string();
        let opened = |e: sqlx::Error| convert(&name, "open", e);
        let writer = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone());
        let writer = writer.await.map_err(opened)?;
        migrations().run(&writer).await.map_err(|e| {
            let message = format!(
                "cannot bring the state database {name} up to date: {e}; was it written by a newer release?"
            );
            Error::new(ErrorKind::Configuration, message).because(e)
        })?;
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_with(options.pragma("query_only", "ON"))
            .await
            .map_err(opened)?;
        Ok(Self { readers, writer, file: name })
    }

    /// Begins a write; `commit` ends it, dropping it undoes it.
    pub async fn write(&self) -> Result<Write> {
        let connection = self.writer.acquire().await.map_err(self.write_error())?;
        let mut write = Write { connection, committed: false };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *write).await.map_err(self.write_error())?;
        Ok(write)
    }

    /// Ends a write durably.
    pub async fn commit(&self, mut write: Write) -> Result<()> {
        sqlx::query("COMMIT").execute(&mut *write).await.map_err(self.write_error())?;
        write.committed = true;
        Ok(())
    }

    fn reader(&self) -> &SqlitePool {
        &self.readers
    }

    fn error(&self, verb: &str, error: sqlx::Error) -> Error {
        convert(&self.file, verb, error)
    }

    fn read_error(&self) -> impl Fn(sqlx::Error) -> Error + '_ {
        |e| self.error("read", e)
    }

    fn write_error(&self) -> impl Fn(sqlx::Error) -> Error + '_ {
        |e| self.error("write to", e)
    }

    /// True once the database answers.
    pub async fn answers(&self) -> bool {
        sqlx::query("SELECT name FROM meta LIMIT 1").fetch_optional(self.reader()).await.is_ok()
    }

    /// The value kept under `name`; `default` is kept if there is none yet.
    pub async fn meta(&self, name: &str, default: &str) -> Result<String> {
        let mut write = self.write().await?;
        sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(default)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        let value = sqlx::query_scalar("SELECT value FROM meta WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *write)
            .await
            .map_err(self.read_error())?;
        self.commit(write).await?;
        Ok(value)
    }

    /// The value kept under `name`, if any.
    pub async fn meta_if_any(&self, name: &str) -> Result<Option<String>> {
        sqlx::query_scalar("SELECT value FROM meta WHERE name = $1")
            .bind(name)
            .fetch_optional(self.reader())
            .await
            .map_err(self.read_error())
    }

    /// Keeps a value under `name`, in place of any earlier one.
    pub async fn set_meta(&self, name: &str, value: &str) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = $2",
        )
        .bind(name)
        .bind(value)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// Moves everything from the write-ahead log into the database file, so that a copy of that one file is whole.
    /// Best effort: what stays in the log is found at the next opening.
    pub async fn settle(&self) {
        if let Err(e) = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&self.writer).await {
            tracing::debug!("the write-ahead log of {} stays as it is: {e}", self.file);
        }
    }

    /// Closes all connections.
    #[cfg(test)]
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Copies the state database, also one that is in use, as it is at one instant, to a file that must not exist yet and is
/// readable by its owner alone.
pub fn copy_state(file: &Path, to: &Path) -> Result<()> {
    let failed = |e: io::Error| {
        let message = format!("cannot copy the state database to {}: {e}", to.display());
        Error::new(ErrorKind::Internal, message).because(e)
    };
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let options =
        SqliteConnectOptions::new().filename(file).create_if_missing(false).busy_timeout(BUSY_TIMEOUT);
    let copy = async {
        let mut connection = SqliteConnection::connect_with(&options).await?;
        sqlx::query("VACUUM INTO $1").bind(to.display().to_string()).execute(&mut connection).await?;
        connection.close().await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    // A runtime must not wait in a thread of another one.
    let copied = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(copy)).join());
    let died = |_| Error::new(ErrorKind::Internal, "the thread that copied the state database died");
    copied.map_err(died)?.map_err(|e| convert(&file.display().to_string(), "copy", e))
}

/// One list of steps; a step that was released is never changed again.
fn migrations() -> Migrator {
    let initial = include_str!("../../migrations/sqlite/0001_initial.sql").into_sql_str();
    let buckets = include_str!("../../migrations/sqlite/0002_buckets.sql").into_sql_str();
    let grants = include_str!("../../migrations/sqlite/0003_grants.sql").into_sql_str();
    let tasks = include_str!("../../migrations/sqlite/0004_tasks.sql").into_sql_str();
    let audit = include_str!("../../migrations/sqlite/0005_audit.sql").into_sql_str();
    let keys = include_str!("../../migrations/sqlite/0006_keys.sql").into_sql_str();
    let providers = include_str!("../../migrations/sqlite/0007_providers.sql").into_sql_str();
    let notices = include_str!("../../migrations/sqlite/0008_notices.sql").into_sql_str();
    let running_time = include_str!("../../migrations/sqlite/0009_running_time.sql").into_sql_str();
    let job_indexes = include_str!("../../migrations/sqlite/0010_job_indexes.sql").into_sql_str();
    let step =
        |number, name, text| Migration::new(number, Cow::Borrowed(name), MigrationType::Simple, text, false);
    Migrator::with_migrations(vec![
        step(1, "initial", initial),
        step(2, "buckets", buckets),
        step(3, "grants", grants),
        step(4, "tasks", tasks),
        step(5, "audit", audit),
        step(6, "keys", keys),
        step(7, "providers", providers),
        step(8, "notices", notices),
        step(9, "running time", running_time),
        step(10, "job indexes", job_indexes),
    ])
}

/// SQLite gives its side files the mode of the database file, so it must be right from the start.
fn make_private(file: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(file)?;
    Ok(())
}

/// SQLite's primary result codes for a file whose content is damaged, and for one that is no database.
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_NOTADB: u32 = 26;
/// SQLite's primary result code for a full disk, and its code for a side file that could not grow.
const SQLITE_FULL: u32 = 13;
const SQLITE_IOERR_SHMSIZE: u32 = 4874;

fn convert(file: &str, verb: &str, error: sqlx::Error) -> Error {
    let code = match &error {
        sqlx::Error::Database(database) => database.code().and_then(|code| code.parse::<u32>().ok()),
        _ => None,
    };
    let full = code.is_some_and(|code| code & 0xff == SQLITE_FULL || code == SQLITE_IOERR_SHMSIZE);
    if full {
        let message = format!(
            "no space left for the state database {file}; nothing was changed. Free some room there and try again."
        );
        return Error::new(ErrorKind::NoSpace, message).because(error);
    }
    if code.is_some_and(|code| matches!(code & 0xff, SQLITE_CORRUPT | SQLITE_NOTADB)) {
        let message = format!(
            "the state database {file} is damaged ({error}). Put a copy of it back; or move it and its side files \
             ('-wal', '-shm') away, start with an empty one, add users and register the stores again: all backups lie \
             there"
        );
        return Error::new(ErrorKind::Internal, message).because(error);
    }
    Error::new(ErrorKind::Internal, format!("cannot {verb} the state database {file}: {error}"))
        .because(error)
}

/// Keeps the executor's type in one place.
type Connection = SqliteConnection;

#[cfg(test)]
mod tests;
