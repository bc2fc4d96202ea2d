//! One database at one instant: a transaction that exports its snapshot, and connections that see through it.

use std::sync::{Arc, Mutex, PoisonError};

use postgres::Client;
use postgres::error::SqlState;

use super::inventory::{self, TableFound};
use super::manifest::Database;
use super::server::Server;
use super::{failure, quote};
use crate::Result;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";

/// A database as it was when its snapshot was taken.
pub(super) struct Session {
    pub(super) database: Database,
    pub(super) tables: Vec<TableFound>,
    /// It holds what is shown to a superuser alone.
    pub(super) hidden: bool,
    /// The name under which others see the same.
    pub(super) snapshot: String,
    server: Server,
    /// Connections in the same snapshot that are not in use.
    idle: Mutex<Vec<Client>>,
    /// Keeps the snapshot and the locks.
    owner: Mutex<Client>,
}

/// A connection whose transaction is to begin: so that many can begin one right after the other.
pub(super) struct Waiting {
    client: Client,
    database: Database,
}

impl Waiting {
    pub(super) fn connect(server: &Server, database: Database) -> Result<Self> {
        Ok(Self { client: server.connect(&database.name)?, database })
    }

    /// Takes the snapshot. Nothing else, so that those of all databases lie close together.
    pub(super) fn begin(mut self, server: &Server, standby: bool) -> Result<Begun> {
        let what = format!("cannot take a snapshot of the database '{}'", self.database.name);
        let fail = |e: postgres::Error| failure::server(&what, &e);
        let position = if standby { "pg_last_wal_replay_lsn()" } else { "pg_current_wal_lsn()" };
        let text = format!(
            "SELECT COALESCE({position}::text, ''), (extract(epoch FROM clock_timestamp()) * 1000)::int8, pg_export_snapshot()"
        );
        self.client.batch_execute(BEGIN).map_err(fail)?;
        let row = self.client.query_one(&text, &[]).map_err(fail)?;
        self.database.log_position = inventory::get(&row, 0)?;
        self.database.snapshot_time = inventory::get(&row, 1)?;
        Ok(Begun {
            client: self.client,
            database: self.database,
            snapshot: inventory::get(&row, 2)?,
            server: server.clone(),
            standby,
        })
    }
}

/// A snapshot of which nothing is known yet.
pub(super) struct Begun {
    client: Client,
    database: Database,
    snapshot: String,
    server: Server,
    standby: bool,
}

/// What a look at a snapshot came to.
pub(super) enum Looked {
    Session(Arc<Session>),
    /// This table was changed between the snapshot and its lock, so that the snapshot does not show its rows any more.
    Moved(String),
}

impl Begun {
    /// Looks what is in it, and sees to it that no table goes meanwhile. Readers and writers are not kept waiting.
    pub(super) fn look(mut self) -> Result<Looked> {
        let mut tables = inventory::tables(&mut self.client, self.standby)?;
        for table in &tables {
            let name = quote::table(&table.schema, &table.name);
            let locked = self.client.batch_execute(&format!("LOCK TABLE ONLY {name} IN ACCESS SHARE MODE"));
            if let Err(e) = locked {
                if matches!(e.code(), Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME)) {
                    return Ok(Looked::Moved(format!("{}.{}", table.schema, table.name)));
                }
                let what = format!(
                    "cannot lock the table {}.{} of the database '{}' for reading",
                    table.schema, table.name, self.database.name
                );
                return Err(failure::server(what, &e));
            }
        }
        if let Some(moved) = inventory::measure(&mut self.client, &mut tables)? {
            return Ok(Looked::Moved(moved));
        }
        inventory::complete(&mut self.client, &mut self.database)?;
        let hidden = inventory::has_hidden(&mut self.client)?;
        Ok(Looked::Session(Arc::new(Session {
            database: self.database,
            tables,
            hidden,
            snapshot: self.snapshot,
            server: self.server,
            idle: Mutex::default(),
            owner: Mutex::new(self.client),
        })))
    }
}

impl Session {
    /// Runs `work` on a connection that sees this snapshot; it is used again if that went well.
    pub(super) fn with_connection<T>(
        &self,
        work: impl FnOnce(&mut Client) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut client = match idle {
            Some(client) => client,
            None => {
                let mut client = self.server.connect(&self.database.name).map_err(failure::other)?;
                let begin = format!("{BEGIN}; SET TRANSACTION SNAPSHOT {}", quote::literal(&self.snapshot));
                client.batch_execute(&begin).map_err(|e| {
                    failure::source(
                        format!("cannot use the snapshot of the database '{}'", self.database.name),
                        &e,
                    )
                })?;
                client
            }
        };
        let done = work(&mut client)?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        Ok(done)
    }

    /// The same on the one that holds the locks, for what another connection has to wait for: whoever wants to alter a table waits
    /// for us, and all others behind it.
    pub(super) fn with_owner<T>(
        &self,
        work: impl FnOnce(&mut Client) -> std::io::Result<T>,
    ) -> std::io::Result<T> {
        work(&mut self.owner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
