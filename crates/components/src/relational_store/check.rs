//! Whether a backup can be restored into a server: everything that would end the restore later on.

use std::collections::HashSet;

use postgres::Client;
use repository::Control;

use super::failure;
use super::inventory::{self, About};
use super::manifest::Manifest;
use crate::{Error, ErrorKind, Result};

/// Refuses what cannot be restored, before anything is changed.
pub(super) fn check(
    client: &mut Client,
    about: &About,
    manifest: &Manifest,
    control: &Control,
) -> Result<()> {
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
    let available: HashSet<String> = inventory::names(
        client,
        "SELECT name::text FROM pg_available_extensions",
        "list the available extensions",
    )?
    .into_iter()
    .collect();
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
            .and_then(|row| inventory::get(&row, 0).transpose())
            .transpose()?;
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
