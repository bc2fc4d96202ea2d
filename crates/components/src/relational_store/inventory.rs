//! What there is on a server: its databases, roles and tablespaces, and the tables of a database.

use postgres::types::FromSqlOwned;
use postgres::{Client, Row};

use super::manifest::{Database, Grant, Membership, ROLE_OPTIONS, Role};
use super::{failure, quote};
use crate::{Error, ErrorKind, Result};

/// Older servers are not supported.
pub(super) const OLDEST_MAJOR: u32 = 13;

/// What the server says of itself.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// 150020 is 15.20.
    pub version: u32,
    pub system_identifier: String,
    /// It follows another server and takes no writes.
    pub standby: bool,
    pub superuser: bool,
    pub may_create: bool,
}

impl About {
    pub(super) fn major(&self) -> u32 {
        self.version / 10_000
    }
}

/// A value. Text in the shared catalogues is in the encoding of the database from which it was written, and may be none for us.
pub(super) fn get<T: FromSqlOwned>(row: &Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|e| {
        let column = row.columns().get(at).map_or("?", |column| column.name());
        let message = format!(
            "the catalogue of the server holds a name or text ({column}) that cannot be read as UTF-8: {e}; rename it, from a database in \
             whose encoding it was made"
        );
        Error::new(ErrorKind::Io, message)
    })
}

fn fail(what: &'static str) -> impl Fn(postgres::Error) -> Error {
    move |e| failure::server(format!("cannot {what}"), &e)
}

pub(super) fn about(client: &mut Client) -> Result<About> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, \
               (SELECT system_identifier::text FROM pg_control_system()), pg_is_in_recovery(), \
               r.rolsuper, r.rolsuper OR (r.rolcreatedb AND r.rolcreaterole) FROM pg_roles r WHERE r.rolname = current_user",
            &[],
        )
        .map_err(fail("ask the server for its version"))?;
    let version = u32::try_from(get::<i32>(&row, 0)?).unwrap_or(0);
    if version / 10_000 < OLDEST_MAJOR {
        let message = format!(
            "the server is PostgreSQL {}.{}, and {OLDEST_MAJOR} is the oldest that can be backed up; upgrade it",
            version / 10_000,
            version % 10_000
        );
        return Err(Error::new(ErrorKind::Io, message));
    }
    Ok(About {
        version,
        system_identifier: get(&row, 1)?,
        standby: get(&row, 2)?,
        superuser: get(&row, 3)?,
        may_create: get(&row, 4)?,
    })
}

/// The server's databases by name, without `template0`, `template1`, what an interrupted DROP DATABASE left, and what a restore
/// of ours is building or putting away. Beside them the names of those that nobody can connect to.
pub(super) fn databases(client: &mut Client, major: u32) -> Result<(Vec<Database>, Vec<String>)> {
    let (provider, locale, version) = match major {
        17.. => ("d.datlocprovider::text", "d.datlocale", "d.datcollversion"),
        15.. => ("d.datlocprovider::text", "d.daticulocale", "d.datcollversion"),
        _ => ("'c'", "NULL::text", "NULL::text"),
    };
    let rules = if major >= 16 { "d.daticurules" } else { "NULL::text" };
    let text = format!(
        "SELECT d.datname::text, pg_get_userbyid(d.datdba)::text, pg_encoding_to_char(d.encoding)::text, d.datcollate::text, \
           d.datctype::text, {provider}, {locale}, {version}, d.datconnlimit, t.spcname::text, \
           shobj_description(d.oid, 'pg_database'), d.datacl IS NULL, d.oid, {rules}, d.datistemplate, d.datallowconn \
         FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace \
         WHERE d.datname NOT IN ('template0', 'template1') AND d.datconnlimit <> -2 \
           AND d.datname !~ '^strongroom_(new|old)_[0-9a-f]{{16}}_[0-9]+$'"
    );
    let what = "list the databases";
    let (mut found, mut closed) = (Vec::new(), Vec::new());
    for row in client.query(&text, &[]).map_err(fail(what))? {
        let (name, oid): (String, u32) = (get(&row, 0)?, get(&row, 12)?);
        if !get::<bool>(&row, 15)? {
            closed.push(name);
            continue;
        }
        let grants = match get(&row, 11)? {
            true => None,
            false => Some(grants(client, oid)?),
        };
        let settings = client
            .query(
                "SELECT CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole)::text END, unnest(s.setconfig) \
                 FROM pg_db_role_setting s WHERE s.setdatabase = $1 ORDER BY 1 NULLS FIRST, 2",
                &[&oid],
            )
            .map_err(fail(what))?;
        found.push(Database {
            directory: quote::file_name(&name),
            name,
            owner: get(&row, 1)?,
            encoding: get(&row, 2)?,
            collate: get(&row, 3)?,
            ctype: get(&row, 4)?,
            provider: get(&row, 5)?,
            locale: get(&row, 6)?,
            icu_rules: get(&row, 13)?,
            is_template: get(&row, 14)?,
            public: true,
            collation_version: get(&row, 7)?,
            connection_limit: get(&row, 8)?,
            tablespace: get(&row, 9)?,
            tablespaces: Vec::new(),
            comment: get(&row, 10)?,
            grants,
            settings: settings.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect::<Result<_>>()?,
            extensions: Vec::new(),
            geodatabase: false,
            log_position: String::new(),
            snapshot_time: 0,
            tables: Vec::new(),
        });
    }
    // As the directories are named, so that files come in their order.
    found.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok((found, closed))
}

fn grants(client: &mut Client, oid: u32) -> Result<Vec<Grant>> {
    let rows = client
        .query(
            "SELECT CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable \
             FROM pg_database d, aclexplode(d.datacl) a WHERE d.oid = $1 ORDER BY 1 NULLS FIRST, 2",
            &[&oid],
        )
        .map_err(fail("list the rights on a database"))?;
    rows.iter()
        .map(|row| Ok(Grant { to: get(row, 0)?, privilege: get(row, 1)?, grantable: get(row, 2)? }))
        .collect()
}

/// The roles that were made by people, and who is in whom. Passwords only where they may be read.
pub(super) fn roles(client: &mut Client, major: u32) -> Result<(Vec<Role>, Vec<Membership>, bool)> {
    let what = "list the roles";
    let readable = yes(client, "SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')")?;
    let (from, password) = match readable {
        true => ("pg_authid", "r.rolpassword"),
        false => ("pg_roles", "NULL::text"),
    };
    let text = format!(
        "SELECT r.rolname::text, r.rolsuper, NOT r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, \
           r.rolbypassrls, r.rolconnlimit, {password}, r.rolvaliduntil::text, \
           COALESCE((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = 0 AND s.setrole = r.oid), ARRAY[]::text[]) \
         FROM {from} r WHERE r.rolname !~ '^pg_' ORDER BY r.rolname COLLATE \"C\""
    );
    let roles = client.query(&text, &[]).map_err(fail(what))?;
    let roles = roles.iter().map(|row| {
        let has =
            (1..).zip(ROLE_OPTIONS).map(|(at, option)| Ok(get::<bool>(row, at)?.then(|| option.to_owned())));
        Ok(Role {
            name: get(row, 0)?,
            options: has.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
            connection_limit: get(row, 8)?,
            password: get(row, 9)?,
            valid_until: get(row, 10)?,
            settings: get(row, 11)?,
        })
    });
    let more =
        if major >= 16 { "bool_or(inherit_option), bool_or(set_option)" } else { "NULL::bool, NULL::bool" };
    let text = format!(
        "SELECT pg_get_userbyid(roleid)::text, pg_get_userbyid(member)::text, bool_or(admin_option), {more} FROM pg_auth_members \
         WHERE pg_get_userbyid(member) !~ '^pg_' GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let members = client.query(&text, &[]).map_err(fail(what))?;
    let members = members.iter().map(|row| {
        Ok(Membership {
            role: get(row, 0)?,
            member: get(row, 1)?,
            admin: get(row, 2)?,
            inherit: get(row, 3)?,
            set: get(row, 4)?,
        })
    });
    Ok((roles.collect::<Result<_>>()?, members.collect::<Result<_>>()?, readable))
}

/// All tablespaces of the server.
pub(super) fn tablespaces(client: &mut Client) -> Result<Vec<String>> {
    names(client, "SELECT spcname::text FROM pg_tablespace", "list the tablespaces")
}

/// One text of each row.
pub(super) fn names(client: &mut Client, text: &str, what: &'static str) -> Result<Vec<String>> {
    client.query(text, &[]).map_err(fail(what))?.iter().map(|row| get(row, 0)).collect()
}

/// What else a restore must know of a database, besides its tables.
pub(super) fn complete(client: &mut Client, database: &mut Database) -> Result<()> {
    database.extensions = extensions(client)?;
    database.geodatabase = is_geodatabase(client)?;
    database.public = yes(client, "SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = 'public')")?;
    let text = "SELECT DISTINCT t.spcname::text FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace \
                WHERE t.spcname <> 'pg_global' ORDER BY 1";
    database.tablespaces = names(client, text, "list the tablespaces of a database")?;
    Ok(())
}

/// A geodatabase has a table of this name.
pub(super) fn is_geodatabase(client: &mut Client) -> Result<bool> {
    yes(
        client,
        "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'gdb_items' AND relkind IN ('r', 'p', 'v'))",
    )
}

/// Whether a database holds subscriptions or user mappings, which `pg_dump` leaves out, or shows in part, to all but superusers.
pub(super) fn has_hidden(client: &mut Client) -> Result<bool> {
    yes(
        client,
        "SELECT EXISTS (SELECT 1 FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid WHERE d.datname = current_database()) \
           OR EXISTS (SELECT 1 FROM pg_user_mappings)",
    )
}

fn yes(client: &mut Client, text: &str) -> Result<bool> {
    get(&client.query_one(text, &[]).map_err(fail("look into a database"))?, 0)
}

/// Name and version of each extension in a database.
pub(super) fn extensions(client: &mut Client) -> Result<Vec<(String, String)>> {
    let rows = client
        .query("SELECT extname::text, extversion FROM pg_extension ORDER BY extname COLLATE \"C\"", &[])
        .map_err(fail("list the extensions"))?;
    rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
}

/// A table with rows of its own that was made by people, not by an extension.
#[derive(Clone, Debug)]
pub(super) struct TableFound {
    pub number: u32,
    pub schema: String,
    pub name: String,
    pub columns: Vec<String>,
    /// Of a partition: schema and name of the table at the top.
    pub top: Option<(String, String)>,
    /// Length of its main file in bytes, rows that are dead included; see [`measure`].
    pub bytes: i64,
}

/// All of them, in the order of their files. Waits for no lock.
pub(super) fn tables(client: &mut Client, standby: bool) -> Result<Vec<TableFound>> {
    // What is not logged cannot be read where the log is only followed.
    let persistence = if standby { "('p')" } else { "('p', 'u')" };
    let text = format!(
        "SELECT c.oid, n.nspname::text, c.relname::text, \
           ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             AND a.attgenerated = '' ORDER BY a.attnum), tn.nspname::text, t.relname::text \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
           LEFT JOIN LATERAL (SELECT relid FROM pg_partition_ancestors(c.oid) WITH ORDINALITY AS a(relid, depth) ORDER BY depth DESC \
             LIMIT 1) top ON c.relispartition \
           LEFT JOIN pg_class t ON t.oid = top.relid LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence IN {persistence} AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
           AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"
    );
    let rows = client.query(&text, &[]).map_err(fail("list the tables"))?;
    let table = |row: &Row| {
        let (schema, name): (Option<String>, Option<String>) = (get(row, 4)?, get(row, 5)?);
        Ok(TableFound {
            number: get(row, 0)?,
            schema: get(row, 1)?,
            name: get(row, 2)?,
            columns: get(row, 3)?,
            top: schema.zip(name),
            bytes: 0,
        })
    };
    let mut tables = rows.iter().map(table).collect::<Result<Vec<_>>>()?;
    tables.sort_by_cached_key(|table| (quote::file_name(&table.schema), quote::file_name(&table.name)));
    Ok(tables)
}

/// Measures tables that are locked. Returns the first that is no longer what the snapshot shows: between the snapshot and
/// the lock its rows were put elsewhere (TRUNCATE, a rewriting ALTER TABLE), or it was dropped or renamed and another one has its
/// name, and it would look empty.
pub(super) fn measure(client: &mut Client, tables: &mut [TableFound]) -> Result<Option<String>> {
    let numbers: Vec<u32> = tables.iter().map(|table| table.number).collect();
    let text = "SELECT c.oid, c.relfilenode IS DISTINCT FROM pg_relation_filenode(c.oid) \
                  OR to_regclass(quote_ident(n.nspname) || '.' || quote_ident(c.relname)) IS DISTINCT FROM c.oid::regclass, \
                  COALESCE(pg_relation_size(c.oid), 0) \
                FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY($1)";
    let rows = client.query(text, &[&numbers]).map_err(fail("measure the tables"))?;
    let mut measured = std::collections::HashMap::new();
    for row in &rows {
        measured.insert(get::<u32>(row, 0)?, (get::<bool>(row, 1)?, get::<i64>(row, 2)?));
    }
    for table in tables {
        match measured.get(&table.number) {
            Some((false, bytes)) => table.bytes = *bytes,
            _ => return Ok(Some(format!("{}.{}", table.schema, table.name))),
        }
    }
    Ok(None)
}
