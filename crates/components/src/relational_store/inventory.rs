//! What there is on a server: its databases, roles and tablespaces, and the tables of a database.

use postgres::Client;

use super::manifest::{Database, Grant, Membership, Role};
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
    pub may_create: bool,
}

impl About {
    pub(super) fn major(&self) -> u32 {
        self.version / 10_000
    }
}

fn fail(what: &'static str) -> impl Fn(postgres::Error) -> Error {
    move |e| failure::server(format!("cannot {what}"), &e)
}

pub(super) fn about(client: &mut Client) -> Result<About> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, \
               (SELECT system_identifier::text FROM pg_control_system()), pg_is_in_recovery(), \
               r.rolsuper OR (r.rolcreatedb AND r.rolcreaterole) FROM pg_roles r WHERE r.rolname = current_user",
            &[],
        )
        .map_err(fail("ask the server for its version"))?;
    let version = u32::try_from(row.get::<_, i32>(0)).unwrap_or(0);
    if version / 10_000 < OLDEST_MAJOR {
        let message = format!(
            "the server is PostgreSQL {}.{}, and {OLDEST_MAJOR} is the oldest that can be backed up; upgrade it",
            version / 10_000,
            version % 10_000
        );
        return Err(Error::new(ErrorKind::Io, message));
    }
    Ok(About { version, system_identifier: row.get(1), standby: row.get(2), may_create: row.get(3) })
}

/// All databases that take connections and are no templates, by name.
pub(super) fn databases(client: &mut Client, major: u32) -> Result<Vec<Database>> {
    let (provider, locale, version) = match major {
        17.. => ("d.datlocprovider::text", "d.datlocale", "d.datcollversion"),
        15.. => ("d.datlocprovider::text", "d.daticulocale", "d.datcollversion"),
        _ => ("'c'", "NULL::text", "NULL::text"),
    };
    let text = format!(
        "SELECT d.datname::text, pg_get_userbyid(d.datdba)::text, pg_encoding_to_char(d.encoding)::text, d.datcollate::text, \
           d.datctype::text, {provider}, {locale}, {version}, d.datconnlimit, t.spcname::text, \
           shobj_description(d.oid, 'pg_database'), d.datacl IS NULL, d.oid \
         FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace \
         WHERE d.datallowconn AND NOT d.datistemplate ORDER BY d.datname COLLATE \"C\""
    );
    let what = "list the databases";
    let mut found = Vec::new();
    for row in client.query(&text, &[]).map_err(fail(what))? {
        let (name, oid): (String, u32) = (row.get(0), row.get(12));
        let grants = match row.get::<_, bool>(11) {
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
            owner: row.get(1),
            encoding: row.get(2),
            collate: row.get(3),
            ctype: row.get(4),
            provider: row.get(5),
            locale: row.get(6),
            collation_version: row.get(7),
            connection_limit: row.get(8),
            tablespace: row.get(9),
            comment: row.get(10),
            grants,
            settings: settings.iter().map(|row| (row.get(0), row.get(1))).collect(),
            extensions: Vec::new(),
            geodatabase: false,
            log_position: String::new(),
            snapshot_time: 0,
            tables: Vec::new(),
        });
    }
    // As the directories are named, so that files come in their order.
    found.sort_by(|a, b| a.directory.cmp(&b.directory));
    Ok(found)
}

fn grants(client: &mut Client, oid: u32) -> Result<Vec<Grant>> {
    let rows = client
        .query(
            "SELECT CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee)::text END, a.privilege_type, a.is_grantable \
             FROM pg_database d, aclexplode(d.datacl) a WHERE d.oid = $1 ORDER BY 1 NULLS FIRST, 2",
            &[&oid],
        )
        .map_err(fail("list the rights on a database"))?;
    Ok(rows
        .iter()
        .map(|row| Grant { to: row.get(0), privilege: row.get(1), grantable: row.get(2) })
        .collect())
}

/// The roles that were made by people, and who is in whom. Passwords only where they may be read.
pub(super) fn roles(client: &mut Client) -> Result<(Vec<Role>, Vec<Membership>, bool)> {
    let what = "list the roles";
    let readable = client
        .query_one("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')", &[])
        .map_err(fail(what))?
        .get::<_, bool>(0);
    let (from, password) = match readable {
        true => ("pg_authid", "r.rolpassword"),
        false => ("pg_roles", "NULL::text"),
    };
    let text = format!(
        "SELECT r.rolname::text, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication, \
           r.rolbypassrls, r.rolconnlimit, {password}, r.rolvaliduntil::text, \
           COALESCE((SELECT s.setconfig FROM pg_db_role_setting s WHERE s.setdatabase = 0 AND s.setrole = r.oid), ARRAY[]::text[]) \
         FROM {from} r WHERE r.rolname !~ '^pg_' ORDER BY r.rolname COLLATE \"C\""
    );
    const OPTIONS: [(&str, &str); 7] = [
        ("SUPERUSER", "NOSUPERUSER"),
        ("INHERIT", "NOINHERIT"),
        ("CREATEROLE", "NOCREATEROLE"),
        ("CREATEDB", "NOCREATEDB"),
        ("LOGIN", "NOLOGIN"),
        ("REPLICATION", "NOREPLICATION"),
        ("BYPASSRLS", "NOBYPASSRLS"),
    ];
    let roles = client.query(&text, &[]).map_err(fail(what))?;
    let roles = roles.iter().map(|row| Role {
        name: row.get(0),
        options: (1..)
            .zip(OPTIONS)
            .map(|(at, (yes, no))| if row.get(at) { yes } else { no }.to_owned())
            .collect(),
        connection_limit: row.get(8),
        password: row.get(9),
        valid_until: row.get(10),
        settings: row.get(11),
    });
    let members = client
        .query(
            "SELECT DISTINCT pg_get_userbyid(roleid)::text, pg_get_userbyid(member)::text, admin_option FROM pg_auth_members \
             WHERE pg_get_userbyid(member) !~ '^pg_' ORDER BY 1, 2",
            &[],
        )
        .map_err(fail(what))?;
    let members =
        members.iter().map(|row| Membership { role: row.get(0), member: row.get(1), admin: row.get(2) });
    Ok((roles.collect(), members.collect(), readable))
}

pub(super) fn tablespaces(client: &mut Client) -> Result<Vec<String>> {
    let rows = client
        .query("SELECT spcname::text FROM pg_tablespace ORDER BY spcname COLLATE \"C\"", &[])
        .map_err(fail("list the tablespaces"))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Name and version of each extension in a database.
pub(super) fn extensions(client: &mut Client) -> Result<Vec<(String, String)>> {
    let rows = client
        .query("SELECT extname::text, extversion FROM pg_extension ORDER BY extname COLLATE \"C\"", &[])
        .map_err(fail("list the extensions"))?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Whether a database holds a geodatabase: one has a table `gdb_items`.
pub(super) fn is_geodatabase(client: &mut Client) -> Result<bool> {
    let row = client
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM pg_class WHERE relname = 'gdb_items' AND relkind IN ('r', 'p', 'v'))",
            &[],
        )
        .map_err(fail("look for a geodatabase"))?;
    Ok(row.get(0))
}

/// A table with rows of its own that was made by people, not by an extension.
#[derive(Clone, Debug)]
pub(super) struct TableFound {
    pub schema: String,
    pub name: String,
    pub columns: Vec<String>,
    /// Length of its main file in bytes, rows that are dead included.
    pub bytes: i64,
}

pub(super) fn tables(client: &mut Client, standby: bool) -> Result<Vec<TableFound>> {
    // What is not logged cannot be read where the log is only followed.
    let persistence = if standby { "('p')" } else { "('p', 'u')" };
    let text = format!(
        "SELECT n.nspname::text, c.relname::text, pg_relation_size(c.oid), \
           ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
             AND a.attgenerated = '' ORDER BY a.attnum) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind = 'r' AND c.relpersistence IN {persistence} AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' \
           AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')"
    );
    let rows = client.query(&text, &[]).map_err(fail("list the tables"))?;
    let mut tables: Vec<TableFound> = rows
        .iter()
        .map(|row| TableFound {
            schema: row.get(0),
            name: row.get(1),
            bytes: row.get::<_, Option<i64>>(2).unwrap_or(0),
            columns: row.get(3),
        })
        .collect();
    tables.sort_by_cached_key(|table| (quote::file_name(&table.schema), quote::file_name(&table.name)));
    Ok(tables)
}
