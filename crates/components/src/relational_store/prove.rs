//! What a drill looks at in a restored database: rows, indexes, foreign keys, extensions.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use postgres::Client;
use postgres::error::SqlState;
use repository::Control;

use super::copy::{copy, copy_out};
use super::failure;
use super::inventory::{self, TableFound, get};
use super::manifest::{Database, Part, Table};
use super::server::Server;
use crate::{Drilled, Error, ErrorKind, Result};

/// Where amcheck is put while it is used.
const SCHEMA: &str = "strongroom_drill";
/// More failures of one kind in one database are counted, not told.
const TOLD_MAX: usize = 10;

/// One restored database, and where what was found goes.
pub(super) struct Prover<'a> {
    pub server: &'a Server,
    pub database: &'a Database,
    /// Tables that are read at once.
    pub connections: usize,
    pub control: &'a Control,
    pub drilled: &'a mut Drilled,
}

/// Rows of one table, or of all partitions of one: to which of these a row belongs may differ on another server.
#[derive(Default)]
struct Sums {
    rows: u64,
    sum: u128,
}

impl Sums {
    fn add(&mut self, part: &Part) {
        self.rows += part.rows;
        self.sum = self.sum.wrapping_add(u128::from_str_radix(&part.sum, 16).unwrap_or_default());
    }
}

impl Prover<'_> {
    pub(super) fn prove(mut self) -> Result<()> {
        self.rows()?;
        let mut client = self.server.connect(&self.database.name)?;
        self.extensions(&mut client)?;
        self.indexes(&mut client)?;
        self.foreign_keys(&mut client)?;
        self.order_of_indexes(&mut client)
    }

    fn what(&self, what: &str) -> String {
        format!("cannot {what} of the database '{}'", self.database.name)
    }

    fn proven(&mut self, text: &str) {
        self.drilled.proven.push(format!("database '{}': {text}", self.database.name));
    }

    fn not_proven(&mut self, text: &str) {
        self.drilled.not_proven.push(format!("database '{}': {text}", self.database.name));
    }

    fn failed(&mut self, mut lines: Vec<String>) {
        let more = lines.len().saturating_sub(TOLD_MAX);
        lines.truncate(TOLD_MAX);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        let name = &self.database.name;
        self.drilled.failures.extend(lines.into_iter().map(|line| format!("database '{name}': {line}")));
    }

    /// Reads every row again, as the backup did, and compares numbers and sums.
    fn rows(&mut self) -> Result<()> {
        let found = self.read_tables()?;
        let mut groups: BTreeMap<(&str, &str), Vec<&Table>> = BTreeMap::new();
        for table in &self.database.tables {
            let (schema, name) = table.top.as_ref().map_or((&table.schema, &table.name), |(s, n)| (s, n));
            groups.entry((schema, name)).or_default().push(table);
        }
        let incomparable = self.tables_with_money()?;
        let (mut wrong, mut rows, mut only_counted) = (Vec::new(), 0, 0);
        for ((schema, name), tables) in &groups {
            let (mut recorded, mut restored) = (Sums::default(), Sums::default());
            for table in tables {
                table.parts.iter().for_each(|part| recorded.add(part));
                if let Some(part) = found.get(&(table.schema.as_str(), table.name.as_str())) {
                    restored.add(part);
                }
            }
            rows += restored.rows;
            let alike = tables.windows(2).all(|two| two[0].columns == two[1].columns)
                && !tables
                    .iter()
                    .any(|table| incomparable.contains(&(table.schema.clone(), table.name.clone())));
            only_counted += usize::from(!alike);
            if recorded.rows != restored.rows {
                wrong.push(format!(
                    "the table {schema}.{name} has {} rows, and {} were backed up",
                    restored.rows, recorded.rows
                ));
            } else if alike && recorded.sum != restored.sum {
                wrong.push(format!(
                    "the table {schema}.{name} has as many rows as were backed up ({}), and not the same",
                    restored.rows
                ));
            }
        }
        if wrong.is_empty() {
            self.proven(&format!(
                "all rows have the numbers and sums of the backup (tables: {}, rows: {rows})",
                groups.len()
            ));
        }
        if only_counted > 0 {
            let text = "that the rows are the same in {} tables: their text depends on the server (money) or on the partition, so they were counted alone";
            self.not_proven(&text.replace("{}", &only_counted.to_string()));
        }
        self.failed(wrong);
        Ok(())
    }

    /// Several at once.
    fn read_tables(&self) -> Result<BTreeMap<(&str, &str), Part>> {
        let (left, found) = (Mutex::new(self.database.tables.iter()), Mutex::new(BTreeMap::new()));
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || -> Result<()> {
            let mut client = None;
            while let Some(table) = next() {
                let client = match &mut client {
                    Some(client) => client,
                    none => none.insert(self.server.connect(&self.database.name)?),
                };
                let part = self.read_table(client, table)?;
                let key = (table.schema.as_str(), table.name.as_str());
                found.lock().unwrap_or_else(PoisonError::into_inner).insert(key, part);
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..self.connections.max(1)).map(|_| scope.spawn(work)).collect();
            let ended = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Err(Error::new(ErrorKind::Io, "a thread of the drill failed; please report this"))
                })
            });
            ended.collect::<Vec<_>>().into_iter().collect::<Result<()>>()
        })?;
        Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn read_table(&self, client: &mut Client, table: &Table) -> Result<Part> {
        let label = format!("{}.{} of the database '{}'", table.schema, table.name, self.database.name);
        self.control.progress.set_current(&format!("reading {}: {}", self.database.name, table.name));
        let as_found = TableFound {
            number: 0,
            schema: table.schema.clone(),
            name: table.name.clone(),
            columns: table.columns.clone(),
            top: None,
            bytes: 0,
        };
        let text = copy_out(&as_found, None, &self.database.encoding);
        copy(client, &text, &label, &mut Watched(self.control))
            .map_err(|e| Error::io(format!("what was restored of {label} cannot be read"), e))
    }

    /// Their text is in the server's own currency.
    fn tables_with_money(&self) -> Result<HashSet<(String, String)>> {
        let mut client = self.server.connect(&self.database.name)?;
        let text = "SELECT DISTINCT n.nspname::text, c.relname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid \
                    JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_type d ON d.oid = a.atttypid \
                    WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped \
                      AND (a.atttypid IN ('money'::regtype, 'money[]'::regtype) OR d.typbasetype = 'money'::regtype)";
        let rows = client.query(text, &[]).map_err(|e| failure::server(self.what("list the tables"), &e))?;
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?))).collect()
    }

    fn extensions(&mut self, client: &mut Client) -> Result<()> {
        let found: BTreeMap<String, String> = inventory::extensions(client)?.into_iter().collect();
        let (mut same, mut missing) = (Vec::new(), Vec::new());
        for (name, version) in &self.database.extensions {
            match found.get(name) {
                Some(here) if here == version => same.push(format!("{name} {version}")),
                Some(here) => self.not_proven(&format!(
                    "that it works with {name} {version}, which was backed up: {here} is installed here"
                )),
                None => missing.push(format!("the extension {name} is missing")),
            }
        }
        self.failed(missing);
        if !same.is_empty() {
            self.proven(&format!("the extensions have their versions: {}", same.join(", ")));
        }
        if found.contains_key("postgis") {
            self.postgis(client)?;
        }
        Ok(())
    }

    /// The library behind the extension must answer, and be what the extension takes it for.
    fn postgis(&mut self, client: &mut Client) -> Result<()> {
        let text = "SELECT quote_ident(n.nspname), e.extversion FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace \
                    WHERE e.extname = 'postgis'";
        let row =
            client.query_one(text, &[]).map_err(|e| failure::server(self.what("look for PostGIS"), &e))?;
        let (schema, version): (String, String) = (get(&row, 0)?, get(&row, 1)?);
        match client.query_one(&format!("SELECT {schema}.postgis_lib_version()"), &[]) {
            Ok(row) => match get::<String>(&row, 0)? {
                library if library == version => self.proven(&format!("PostGIS {library} answers")),
                library => {
                    self.failed(vec![format!("the extension postgis is {version} and its library {library}")])
                }
            },
            Err(e) => self.failed(vec![failure::server("PostGIS does not answer", &e).message]),
        }
        Ok(())
    }

    fn indexes(&mut self, client: &mut Client) -> Result<()> {
        let text = "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                    JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'i' AND NOT (i.indisvalid AND i.indisready) ORDER BY 1";
        let bad = inventory::names(client, text, "list the indexes")?;
        if bad.is_empty() {
            self.proven("every index is valid");
        }
        self.failed(bad.into_iter().map(|name| format!("the index {name} is not valid")).collect());
        Ok(())
    }

    /// The server checked each against the rows when the restore made it; those that it did not are told.
    fn foreign_keys(&mut self, client: &mut Client) -> Result<()> {
        let text = "SELECT format('%I on %s', conname, conrelid::regclass), convalidated FROM pg_constraint WHERE contype = 'f' ORDER BY 1";
        let rows = client.query(text, &[]).map_err(|e| failure::server(self.what("list the keys"), &e))?;
        let mut checked = 0_usize;
        for row in &rows {
            match get::<bool>(row, 1)? {
                true => checked += 1,
                false => {
                    let name: String = get(row, 0)?;
                    self.not_proven(&format!(
                        "the foreign key {name}: it is NOT VALID, as it was in the backup"
                    ));
                }
            }
        }
        if checked > 0 {
            self.proven(&format!("the foreign keys hold ({checked})"));
        }
        Ok(())
    }

    /// Whether every B-tree is in order and has every row of its table.
    fn order_of_indexes(&mut self, client: &mut Client) -> Result<()> {
        // Neither triggers nor event triggers of the backup are to see what we do.
        let text = "SET session_replication_role = replica; SET client_min_messages = error";
        client.batch_execute(text).map_err(|e| failure::server(self.what("prepare the check"), &e))?;
        let text = format!("CREATE SCHEMA {SCHEMA}; CREATE EXTENSION amcheck SCHEMA {SCHEMA}");
        let schema = match client.batch_execute(&text) {
            Ok(()) => SCHEMA.to_owned(),
            Err(e) if e.code() == Some(&SqlState::DUPLICATE_OBJECT) => {
                let text = "SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'";
                inventory::names(client, text, "look for amcheck")?.pop().unwrap_or_default()
            }
            Err(e) => {
                let why = failure::server("amcheck cannot be used", &e).message;
                self.not_proven(&format!("that its indexes are in order: {why}"));
                return Ok(());
            }
        };
        let text = "SELECT c.oid, format('%I.%I', n.nspname, c.relname) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid \
                    JOIN pg_am a ON a.oid = c.relam JOIN pg_namespace n ON n.oid = c.relnamespace \
                    WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence <> 't' AND i.indisvalid AND i.indisready \
                      AND n.nspname !~ '^pg_toast'";
        let rows = client.query(text, &[]).map_err(|e| failure::server(self.what("list the indexes"), &e))?;
        let look = format!("SELECT {schema}.bt_index_check($1::oid::regclass, true)");
        let (mut good, mut bad) = (0_usize, Vec::new());
        for row in &rows {
            self.control.check().map_err(|e| Error::engine("the drill was stopped", e))?;
            let (number, name): (u32, String) = (get(row, 0)?, get(row, 1)?);
            match client.execute(&look, &[&number]) {
                Ok(_) => good += 1,
                Err(e)
                    if matches!(e.code(), Some(&SqlState::INDEX_CORRUPTED | &SqlState::DATA_CORRUPTED)) =>
                {
                    bad.push(failure::server(format!("the index {name} is damaged"), &e).message);
                }
                Err(e) => {
                    let why = failure::server(format!("that the index {name} is in order"), &e).message;
                    self.not_proven(&why);
                }
            }
        }
        if bad.is_empty() && good > 0 {
            self.proven(&format!(
                "by amcheck, B-trees are in order and hold every row of their tables ({good} of {}, the catalogue's too)",
                rows.len()
            ));
        }
        self.failed(bad);
        let text = format!("DROP SCHEMA IF EXISTS {SCHEMA} CASCADE");
        client.batch_execute(&text).map_err(|e| failure::server(self.what("tidy up the check"), &e))
    }
}

/// Takes what is read, until the job is cancelled.
struct Watched<'a>(&'a Control);

impl Write for Watched<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.check().map_err(io::Error::other)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
