//! What a server is like at the moment of a physical backup, and whether it can have one.

use postgres::Client;

use super::super::backup::choose;
use super::super::inventory::{self, About, get};
use super::super::{RelationalStore, failure};
use super::receive;
use super::spool::Spool;
use super::{PhysicalSettings, refuse_preload};
use crate::{Error, ErrorKind, Facts, Result};

/// `pg_default` and `pg_global`.
const OWN_TABLESPACES: usize = 2;

/// What the server is like now.
pub(super) struct Present {
    pub about: About,
    pub spool: Spool,
    /// The branch of its log.
    pub time_line: u64,
    pub superuser: String,
    pub preload: String,
    pub prepared_max: i32,
    pub databases: Vec<String>,
    pub facts: Facts,
}

impl Present {
    /// Asks, and refuses a server that cannot be backed up in this way.
    pub(super) fn ask(
        store: &RelationalStore,
        settings: &PhysicalSettings,
        client: &mut Client,
    ) -> Result<Self> {
        let about = inventory::about(client)?;
        let preload = check(store, client, &about)?;
        let row = client
            .query_one(
                "SELECT pg_get_userbyid(10)::text, current_setting('max_prepared_transactions')::int4",
                &[],
            )
            .map_err(|e| failure::server("cannot ask the server for its settings", &e))?;
        let (time_line, _) = receive::end_of_log(client)?;
        let found = choose(store, inventory::databases(client, about.major())?.0)?;
        let databases: Vec<String> = found.into_iter().map(|database| database.name).collect();
        Ok(Self {
            spool: receive::spool_of(client, settings)?,
            time_line,
            superuser: get(&row, 0)?,
            preload,
            prepared_max: get(&row, 1)?,
            facts: facts(store, &about, &databases),
            about,
            databases,
        })
    }
}

fn facts(store: &RelationalStore, about: &About, databases: &[String]) -> Facts {
    let mut facts = Facts {
        cluster: about.system_identifier.clone(),
        version: format!("{}.{}", about.major(), about.version % 10_000),
        ..Facts::default()
    };
    for name in databases {
        let is_geodatabase =
            store.server.connect(name).and_then(|mut one| inventory::is_geodatabase(&mut one));
        // Whom we may not ask is none that we know of.
        let of_its_kind =
            if is_geodatabase.unwrap_or(false) { &mut facts.geodatabases } else { &mut facts.databases };
        of_its_kind.push(name.clone());
    }
    facts
}

/// Refuses what cannot be backed up; returns the libraries that the server loads at its start.
fn check(store: &RelationalStore, client: &mut Client, about: &About) -> Result<String> {
    let refuse = |why: &str| {
        let message =
            format!("the server at {} cannot be backed up physically: {why}", store.server.address());
        Err(Error::new(ErrorKind::Io, message))
    };
    if about.standby {
        return refuse("it follows another one; protect that one, or use method = \"logical\"");
    }
    if inventory::tablespaces(client)?.len() > OWN_TABLESPACES {
        return refuse("it has tablespaces, which are not taken in this way yet; use method = \"logical\"");
    }
    let text = "SELECT r.rolsuper OR r.rolreplication, current_setting('wal_level') IN ('replica', 'logical'), \
                  (SELECT setting FROM pg_settings WHERE name = 'shared_preload_libraries'), \
                  (SELECT rolcanlogin FROM pg_roles WHERE oid = 10) AND (SELECT datallowconn FROM pg_database WHERE datname = 'template1') \
                FROM pg_roles r WHERE r.rolname = current_user";
    let row = client.query_one(text, &[]).map_err(|e| failure::server("cannot ask for our rights", &e))?;
    if !get::<bool>(&row, 0)? {
        return refuse("the role may not replicate; ALTER ROLE … REPLICATION");
    }
    if !get::<bool>(&row, 1)? {
        return refuse("its wal_level is minimal; set it to replica");
    }
    if !get::<Option<bool>>(&row, 3)?.unwrap_or(false) {
        return refuse(
            "its first superuser may not log in, or template1 takes no connections: a restore could not read what it recovers",
        );
    }
    let Some(preload) = get::<Option<String>>(&row, 2)? else {
        return refuse(
            "the role may not see which libraries the server loads, and a restore needs the same; GRANT pg_read_all_settings TO it",
        );
    };
    match refuse_preload(&preload) {
        None => Ok(preload),
        Some(why) => refuse(&why),
    }
}
