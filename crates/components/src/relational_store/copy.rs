//! Rows of a table: how they are read and put back, a large table in parts.

use std::io::{self, BufRead, Write};

use postgres::Client;
use postgres::error::SqlState;

use super::inventory::TableFound;
use super::manifest::{Part, Table};
use super::rows::Rows;
use super::{failure, quote};

/// A table is read in parts of so many pages of 8 KiB (1 GiB), several at once. Where a part begins depends on the table
/// alone, so that what did not change is the same in the next backup.
const PAGES_A_PART: i64 = 131_072;
const PAGE_BYTES: i64 = 8192;
/// Reading a range of pages without the rest needs this release.
const RANGES_SINCE_MAJOR: u32 = 14;

/// First page, and the one behind the last; `None`: to the end.
type Pages = (i64, Option<i64>);

/// The parts of a table; one without a range is the whole of it.
pub(super) fn ranges(table: &TableFound, major: u32) -> Vec<Option<Pages>> {
    let pages = table.bytes / PAGE_BYTES;
    if major < RANGES_SINCE_MAJOR || pages <= PAGES_A_PART {
        return vec![None];
    }
    let parts = (pages + PAGES_A_PART - 1) / PAGES_A_PART;
    (0..parts)
        .map(|part| {
            let end = (part + 1 < parts).then_some((part + 1) * PAGES_A_PART);
            Some((part * PAGES_A_PART, end))
        })
        .collect()
}

fn columns(table: &[String]) -> String {
    table.iter().map(|name| quote::ident(name)).collect::<Vec<_>>().join(", ")
}

/// How rows are read.
pub(super) fn copy_out(table: &TableFound, range: Option<Pages>, encoding: &str) -> String {
    let name = quote::table(&table.schema, &table.name);
    let from = match (range, table.columns.is_empty()) {
        (None, true) => name,
        (None, false) => format!("{name} ({})", columns(&table.columns)),
        (Some((first, end)), _) => {
            let end = end.map(|end| format!(" AND ctid < '({end},0)'")).unwrap_or_default();
            format!("(SELECT {} FROM ONLY {name} WHERE ctid >= '({first},0)'{end})", columns(&table.columns))
        }
    };
    format!("COPY {from} TO STDOUT (ENCODING {})", quote::literal(encoding))
}

/// How rows come back.
pub(super) fn copy_in(table: &Table, encoding: &str) -> String {
    let (schema, name) =
        table.top.as_ref().map_or((&table.schema, &table.name), |(schema, name)| (schema, name));
    let name = quote::table(schema, name);
    let columns = match table.columns.is_empty() {
        true => String::new(),
        false => format!(" ({})", columns(&table.columns)),
    };
    format!("COPY {name}{columns} FROM STDIN (ENCODING {})", quote::literal(encoding))
}

/// Locks a table, which the owner of the snapshot has locked already, before anything of it is read. `WouldBlock`: somebody
/// who wants to alter it stands in between, and the owner must read it.
pub(super) fn lock(client: &mut Client, table: &str, label: &str) -> io::Result<()> {
    let text = format!(
        "SET LOCAL lock_timeout = '2s'; LOCK TABLE ONLY {table} IN ACCESS SHARE MODE; SET LOCAL lock_timeout = '30s'"
    );
    client.batch_execute(&text).map_err(|e| {
        let error = failure::source(format!("cannot lock the table {label}"), &e);
        match e.code() {
            Some(&SqlState::LOCK_NOT_AVAILABLE) => io::Error::new(io::ErrorKind::WouldBlock, error),
            _ => error,
        }
    })
}

/// Reads rows into a file.
pub(super) fn copy(client: &mut Client, text: &str, label: &str, out: &mut dyn Write) -> io::Result<Part> {
    let fail = |e: &postgres::Error| failure::source(format!("cannot read the table {label}"), e);
    let mut rows = Rows::new(out);
    let mut reader = client.copy_out(text).map_err(|e| fail(&e))?;
    loop {
        let data = reader.fill_buf().map_err(|e| {
            match e.get_ref().and_then(|e| e.downcast_ref::<postgres::Error>()) {
                Some(said) => fail(said),
                None => io::Error::new(e.kind(), format!("cannot read the table {label}: {e}")),
            }
        })?;
        if data.is_empty() {
            return Ok(rows.part());
        }
        rows.write_all(data)?;
        let length = data.len();
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(bytes: i64) -> TableFound {
        TableFound {
            number: 1,
            top: None,
            schema: "public".into(),
            name: "roads".into(),
            columns: vec!["id".into(), "Name".into()],
            bytes,
        }
    }

    #[test]
    fn a_large_table_is_read_in_ranges_that_leave_no_page_out() {
        let part = PAGES_A_PART * PAGE_BYTES;
        assert_eq!(ranges(&table(part), 15), [None]);
        let large = ranges(&table(2 * part + PAGE_BYTES), 15);
        let (first, second) = (PAGES_A_PART, 2 * PAGES_A_PART);
        assert_eq!(large, [Some((0, Some(first))), Some((first, Some(second))), Some((second, None))]);
        assert_eq!(ranges(&table(9 * part), 13), [None], "13 would read the whole table for each range");
        assert_eq!(
            copy_out(&table(0), large[1], "UTF8"),
            format!(
                "COPY (SELECT \"id\", \"Name\" FROM ONLY \"public\".\"roads\" WHERE ctid >= '({first},0)' AND ctid < '({second},0)') \
                 TO STDOUT (ENCODING 'UTF8')"
            )
        );
    }
}
