//! Which databases of a backup are restored, or which tables of one, and under which names.

use postgres::Client;

use super::backup::TABLES_MAX;
use super::manifest::{Database, Manifest};
use super::tables::Tables;
use super::{failure, quote};
use crate::{Error, ErrorKind, Portion, Result};

/// PostgreSQL cuts longer ones off.
const NAME_BYTES_MAX: usize = 63;
/// So many names are told when one is unknown.
const TOLD_MAX: usize = 20;

/// What is restored.
pub(super) struct Selected {
    /// The backup's, with these databases alone, each under the name that it gets.
    pub manifest: Manifest,
    /// Its database takes nobody's place.
    pub beside: bool,
    /// If not all tables of its database come: those that do are in the manifest.
    pub tables: Option<Tables>,
}

/// A path in a portion: a database, a schema in it, a table in that, each as its directory is named in the backup.
struct Path<'p> {
    database: &'p str,
    schema: Option<&'p str>,
    table: Option<&'p str>,
}

impl<'p> Path<'p> {
    fn parse(text: &'p str) -> Result<Self> {
        let mut parts = text.strip_suffix('/').unwrap_or(text).split('/');
        let path =
            Self { database: parts.next().unwrap_or_default(), schema: parts.next(), table: parts.next() };
        match parts.next() {
            None => Ok(path),
            Some(_) => refuse(format!(
                "only: '{}' must be DATABASE, DATABASE/SCHEMA or DATABASE/SCHEMA/TABLE; a slash in a name is written %2F",
                text.escape_debug()
            )),
        }
    }

    fn holds(&self, schema: &str, table: &str) -> bool {
        let is = |part: Option<&str>, name: &str| part.is_none_or(|part| part == quote::file_name(name));
        is(self.schema, schema) && is(self.table, table)
    }
}

/// Takes what is wanted out of a manifest.
pub(super) fn select(mut manifest: Manifest, portion: &Portion) -> Result<Selected> {
    if portion.is_all() {
        return Ok(Selected { manifest, beside: false, tables: None });
    }
    let paths = portion.paths.iter().map(|path| Path::parse(path)).collect::<Result<Vec<_>>>()?;
    for path in &paths {
        look_for(&manifest, path)?;
    }
    if manifest.is_outline {
        let unknown =
            paths.iter().filter(|path| !manifest.databases.iter().any(|one| one.directory == path.database));
        let unknown = unknown.map(|path| path.database.to_owned());
        let unknown: std::collections::BTreeSet<String> = unknown.collect();
        let outline = |name: String| Database { directory: name.clone(), name, ..Database::default() };
        manifest.databases.extend(unknown.into_iter().map(outline));
    }
    manifest.databases.retain(|database| paths.iter().any(|path| path.database == database.directory));
    let is_whole = paths.iter().any(|path| path.schema.is_none());
    let Some(name) = &portion.into else {
        return match paths.iter().find(|path| path.schema.is_some()) {
            None => Ok(Selected { manifest, beside: false, tables: None }),
            Some(path) => refuse(format!(
                "a schema or table of the database '{}' is restored into a database of its own alone: give it a name with into",
                path.database
            )),
        };
    };
    check_name(name)?;
    let [database] = manifest.databases.as_mut_slice() else {
        return refuse(format!("one database alone can be restored into '{name}'; only names several"));
    };
    database.name.clone_from(name);
    let tables = match is_whole {
        true => None,
        false => {
            Some(Tables::choose(database, |schema, table| paths.iter().any(|path| path.holds(schema, table))))
        }
    };
    Ok(Selected { manifest, beside: true, tables })
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorKind::Selection, message))
}

/// Refuses what the backup does not hold, with what it holds.
fn look_for(manifest: &Manifest, path: &Path<'_>) -> Result<()> {
    let Some(database) = manifest.databases.iter().find(|database| database.directory == path.database)
    else {
        // At another instant there may have been others.
        if manifest.is_outline {
            return Ok(());
        }
        return refuse(format!(
            "the backup holds no database '{}'; it holds {}",
            path.database.escape_debug(),
            told(manifest.databases.iter().map(|database| database.directory.clone()))
        ));
    };
    let Some(schema) = path.schema.filter(|_| !manifest.is_outline) else { return Ok(()) };
    if database.tables.len() >= TABLES_MAX {
        return refuse(format!(
            "the database '{}' has {TABLES_MAX} tables or more, and pg_dump keeps the rows of the smallest itself: restore all of it \
             into another name, and take the table from there",
            database.directory
        ));
    }
    let is_there = |(schema, table): (&str, &str)| path.holds(schema, table);
    if names(database).any(is_there) {
        return Ok(());
    }
    let of_schema = |(of, _): &(&str, &str)| quote::file_name(of) == schema;
    match path.table.filter(|_| names(database).any(|name| of_schema(&name))) {
        Some(table) => refuse(format!(
            "the schema '{schema}' of the database '{}' has no table '{}' with rows; it has {}",
            database.directory,
            table.escape_debug(),
            told(names(database).filter(of_schema).map(|(_, table)| quote::file_name(table)))
        )),
        None => refuse(format!(
            "the database '{}' has no schema '{}' with tables; it has {}",
            database.directory,
            schema.escape_debug(),
            told(names(database).map(|(schema, _)| quote::file_name(schema)))
        )),
    }
}

/// Schema and name of each table, and of each that is divided into partitions.
fn names(database: &Database) -> impl Iterator<Item = (&str, &str)> {
    database.tables.iter().flat_map(|table| {
        let top = table.top.as_ref().map(|(schema, name)| (schema.as_str(), name.as_str()));
        [(table.schema.as_str(), table.name.as_str())].into_iter().chain(top)
    })
}

/// The first names, each once, and how many more there are.
fn told(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    let more = names.len().saturating_sub(TOLD_MAX);
    names.truncate(TOLD_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

fn check_name(name: &str) -> Result<()> {
    let is_ours = ["strongroom_new_", "strongroom_old_"].iter().any(|prefix| name.starts_with(prefix));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') || is_ours {
        return refuse(format!(
            "into: a database needs a name of 1 to {NAME_BYTES_MAX} bytes that does not begin with strongroom_new_ or strongroom_old_"
        ));
    }
    Ok(())
}

/// Refuses a name that a database has already: what is there is not touched.
pub(super) fn refuse_taken(client: &mut Client, selected: &Selected) -> Result<()> {
    for database in selected.manifest.databases.iter().filter(|_| selected.beside) {
        let name = &database.name;
        let found = client
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[name])
            .map_err(|e| failure::server(format!("cannot look for the database '{name}'"), &e))?;
        if found.is_some() {
            return refuse(format!(
                "into: there is a database '{name}' already, and it is not touched; give another name, or drop it first"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::manifest::FORMAT;
    use super::super::manifest::samples::{database, table};
    use super::*;

    fn manifest(databases: Vec<Database>) -> Manifest {
        Manifest { format: FORMAT, server_version: 150_000, databases, ..Manifest::default() }
    }

    #[test]
    fn no_row_is_lost_in_silence_where_pg_dump_keeps_rows_itself() {
        let tables = |count| (0..count).map(|at| table("public", &format!("t{at}"), None)).collect();
        let portion = |path: &str| Portion { paths: vec![path.to_owned()], into: Some("new".to_owned()) };
        let many = manifest(vec![database("many", tables(TABLES_MAX))]);
        let error = select(many.clone(), &portion("many/public/t1")).err().unwrap();
        assert!(
            error.kind == ErrorKind::Selection
                && error.message.contains("restore all of it into another name"),
            "{error}"
        );
        assert!(select(many, &portion("many")).unwrap().tables.is_none());
        let fewer = manifest(vec![database("many", tables(TABLES_MAX - 1))]);
        let selected = select(fewer, &portion("many/public/t1")).unwrap();
        assert_eq!((selected.manifest.databases[0].tables.len(), selected.tables.is_some()), (1, true));
    }
}
