//! What a backup of a server says of itself: `manifest.json` in its snapshot, written last.
//!
//! ```text
//! /<component>/databases/<database>/schema.dump                        pg_dump's archive: all but the rows of tables
//! /<component>/databases/<database>/tables/<schema>/<table>/<n>.copy   rows, as COPY writes them
//! /<component>/globals.sql                                             roles and tablespaces, as pg_dumpall writes them
//! /<component>/manifest.json                                           this
//! ```
//! `docs/postgresql.md` tells how to restore these with the server's own tools alone.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// The newest layout that this release knows.
pub(super) const FORMAT: u32 = 1;
pub(super) const MANIFEST: &str = "manifest.json";
pub(super) const GLOBALS: &str = "globals.sql";
pub(super) const SCHEMA: &str = "schema.dump";

/// What a role may have that it has not by itself; what is off by default needs no right to be turned off.
pub(super) const ROLE_OPTIONS: [&str; 7] =
    ["SUPERUSER", "NOINHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS"];

/// The whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub format: u32,
    /// As the server gives it: 150020 is 15.20.
    pub server_version: u32,
    /// The release of `pg_dump` that wrote the archives; an older `pg_restore` may not read them.
    pub tools_version: u32,
    /// Tells one server's data from another's.
    pub system_identifier: String,
    pub roles: Vec<Role>,
    pub memberships: Vec<Membership>,
    /// Whether the roles' (hashed) passwords could be read.
    pub with_passwords: bool,
    pub databases: Vec<Database>,
    /// The tables are not listed, as nobody knows them yet; never so in a backup.
    #[serde(skip)]
    pub is_outline: bool,
}

/// A role, as `CREATE ROLE` makes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Role {
    pub name: String,
    /// Of [`ROLE_OPTIONS`].
    pub options: Vec<String>,
    pub connection_limit: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<String>,
    /// `name=value`.
    pub settings: Vec<String>,
}

/// A role in a role.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Membership {
    pub role: String,
    pub member: String,
    pub admin: bool,
    /// Whether its rights are had at once, and whether it may be taken on; of servers since 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inherit: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<bool>,
}

/// One database.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Database {
    pub name: String,
    /// Its directory's name in the snapshot.
    pub directory: String,
    pub owner: String,
    pub encoding: String,
    pub collate: String,
    pub ctype: String,
    /// `c`: the C library's, `i`: ICU's, `b`: the server's own.
    pub provider: String,
    pub locale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icu_rules: Option<String>,
    pub is_template: bool,
    /// Whether it has the schema `public`, which new databases are born with.
    pub public: bool,
    pub collation_version: Option<String>,
    pub connection_limit: i32,
    pub tablespace: String,
    /// All that it uses.
    pub tablespaces: Vec<String>,
    pub comment: Option<String>,
    /// `None`: the server's usual grants.
    pub grants: Option<Vec<Grant>>,
    /// Role (or none) and `name=value`.
    pub settings: Vec<(Option<String>, String)>,
    pub extensions: Vec<(String, String)>,
    /// Whether a geodatabase lies in it.
    pub geodatabase: bool,
    /// The position in the write-ahead log right before its snapshot was taken, and the server's time.
    pub log_position: String,
    pub snapshot_time: i64,
    pub tables: Vec<Table>,
}

/// A right on a database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Grant {
    /// `None`: everybody.
    pub to: Option<String>,
    pub privilege: String,
    pub grantable: bool,
}

/// A table whose rows lie in files of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Table {
    pub schema: String,
    pub name: String,
    /// Of a partition: the table at the top, schema and name, through which rows are put back. To which partition a row
    /// belongs may differ on another server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<(String, String)>,
    /// Those that are stored, in their order; generated ones are not.
    pub columns: Vec<String>,
    pub parts: Vec<Part>,
}

/// A file with rows of a table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Part {
    pub rows: u64,
    pub bytes: u64,
    /// The sum, modulo 2^128, of the SipHash-1-3 (128 bits, key 0) of each row without its line break: whatever their order.
    pub sum: String,
}

/// The file of part `number`.
pub(super) fn part_file(number: usize) -> String {
    format!("{number:06}.copy")
}

impl Manifest {
    pub(super) fn parse(text: &[u8]) -> Result<Self> {
        let damaged = |why: String| Error::new(ErrorKind::Damaged, format!("{MANIFEST} in the backup {why}"));
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let version: Version =
            serde_json::from_slice(text).map_err(|e| damaged(format!("cannot be understood: {e}")))?;
        if version.format > FORMAT {
            return Err(damaged(format!(
                "has format {}; this release knows up to {FORMAT}. Restore it with a newer release",
                version.format
            )));
        }
        serde_json::from_slice(text).map_err(|e| damaged(format!("cannot be understood: {e}")))
    }

    /// Like 15.
    pub(super) fn server_major(&self) -> u32 {
        self.server_version / 10_000
    }
}

/// What tests are made of.
#[cfg(test)]
pub(super) mod samples {
    use super::{Database, Table};

    pub fn table(schema: &str, name: &str, top: Option<&str>) -> Table {
        Table {
            schema: schema.to_owned(),
            name: name.to_owned(),
            top: top.map(|top| (schema.to_owned(), top.to_owned())),
            columns: Vec::new(),
            parts: Vec::new(),
        }
    }

    pub fn database(name: &str, tables: Vec<Table>) -> Database {
        Database {
            name: name.to_owned(),
            directory: super::super::quote::file_name(name),
            owner: "owner".to_owned(),
            encoding: "UTF8".to_owned(),
            collate: "C".to_owned(),
            ctype: "C".to_owned(),
            provider: "c".to_owned(),
            locale: None,
            icu_rules: None,
            is_template: false,
            public: true,
            collation_version: None,
            connection_limit: -1,
            tablespace: "pg_default".to_owned(),
            tablespaces: Vec::new(),
            comment: None,
            grants: None,
            settings: Vec::new(),
            extensions: Vec::new(),
            geodatabase: false,
            log_position: String::new(),
            snapshot_time: 0,
            tables,
        }
    }
}
