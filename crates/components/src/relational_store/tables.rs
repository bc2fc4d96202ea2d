//! Rows of some tables of a database, with all of its definitions.
//!
//! What depends on rows that do not come is left out of `pg_restore`'s list: foreign keys that lead to them, and the
//! content of materialised views, which would be another one.

use std::collections::{HashMap, HashSet};

use super::manifest::Database;

/// How much of a table comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comes {
    Whole,
    /// Of the table at the top: some of its partitions.
    Partly,
    Not,
}

/// The tables of a database, by schema and name as `pg_restore` lists them.
#[derive(Debug)]
pub(super) struct Tables(HashMap<String, Comes>);

impl Tables {
    /// Takes the tables that do not come out of a database.
    pub(super) fn choose(database: &mut Database, comes: impl Fn(&str, &str) -> bool) -> Self {
        let mut known: HashMap<String, Comes> = HashMap::new();
        let mut chosen = HashSet::new();
        for (at, table) in database.tables.iter().enumerate() {
            let top = table.top.as_ref();
            let is_chosen =
                comes(&table.schema, &table.name) || top.is_some_and(|(schema, name)| comes(schema, name));
            let much = if is_chosen { Comes::Whole } else { Comes::Not };
            known.insert(listed(&table.schema, &table.name), much);
            if let Some((schema, name)) = top {
                let so_far = known.entry(listed(schema, name)).or_insert(much);
                if *so_far != much {
                    *so_far = Comes::Partly;
                }
            }
            if is_chosen {
                chosen.insert(at);
            }
        }
        let mut at = 0..;
        database.tables.retain(|_| at.next().is_some_and(|at| chosen.contains(&at)));
        Self(known)
    }

    /// How much of the table comes with whose name a line goes on. A name may hold blanks: the longest is meant.
    fn of<'l>(&self, line: &'l str) -> (&'l str, Comes) {
        let ends = line.match_indices(' ').map(|(at, _)| at).collect::<Vec<_>>();
        let names = ends.into_iter().rev().filter_map(|at| Some((&line[..at], *self.0.get(&line[..at])?)));
        names.into_iter().next().unwrap_or((line, Comes::Not))
    }

    /// What is restored of an archive that `pg_restore --list --verbose` tells of.
    pub(super) fn choose_of(&self, list: &str) -> Chosen {
        let entries = parse(list);
        let tables: HashMap<&str, (&str, Comes)> = entries
            .iter()
            .filter_map(|entry| Some((entry.id, self.of(entry.what.strip_prefix("TABLE ")?))))
            .collect();
        let mut left_out: HashSet<&str> = HashSet::new();
        let mut foreign_keys = Vec::new();
        for entry in &entries {
            if entry.what.starts_with("MATERIALIZED VIEW DATA ") {
                left_out.insert(entry.id);
            } else if let Some(line) = entry.what.strip_prefix("FK CONSTRAINT ")
                && !self.holds(line, entry, &tables)
            {
                left_out.insert(entry.id);
                foreign_keys.push(line.to_owned());
            }
        }
        // Their comments, and what else is about them.
        loop {
            let more: Vec<&str> = entries
                .iter()
                .filter(|entry| !left_out.contains(entry.id))
                .filter(|entry| entry.depends.iter().any(|id| left_out.contains(id)))
                .map(|entry| entry.id)
                .collect();
            if more.is_empty() {
                break;
            }
            left_out.extend(more);
        }
        let kept = entries.iter().filter(|entry| !left_out.contains(entry.id));
        Chosen { list: kept.map(|entry| format!("{};\n", entry.id)).collect(), foreign_keys }
    }

    /// Whether a foreign key holds for the rows that come.
    fn holds(&self, line: &str, entry: &Entry<'_>, tables: &HashMap<&str, (&str, Comes)>) -> bool {
        let (own, comes) = self.of(line);
        if comes == Comes::Not {
            return true; // No row that leads anywhere.
        }
        let others: Vec<Comes> = entry
            .depends
            .iter()
            .filter_map(|id| tables.get(id))
            .filter(|(name, _)| *name != own)
            .map(|(_, comes)| *comes)
            .collect();
        match others.is_empty() {
            true => comes == Comes::Whole,
            false => others.iter().all(|comes| *comes == Comes::Whole),
        }
    }
}

/// What is restored of an archive.
pub(super) struct Chosen {
    /// For `pg_restore --use-list`.
    pub list: String,
    /// The foreign keys that are left out: schema, table, name and owner.
    pub foreign_keys: Vec<String>,
}

/// A thing in an archive.
struct Entry<'l> {
    id: &'l str,
    /// Its kind, schema, name and owner.
    what: &'l str,
    depends: Vec<&'l str>,
}

fn parse(list: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry<'_>> = Vec::new();
    for line in list.lines() {
        if let Some(ids) = line.strip_prefix(";\tdepends on:") {
            if let Some(entry) = entries.last_mut() {
                entry.depends = ids.split_whitespace().collect();
            }
        } else if let Some((id, rest)) = line.split_once("; ")
            && id.bytes().all(|byte| byte.is_ascii_digit())
            && let Some(what) = rest.splitn(3, ' ').nth(2)
        {
            entries.push(Entry { id, what, depends: Vec::new() });
        }
    }
    entries
}

/// Schema and name as they stand in a list, where a line is a line.
fn listed(schema: &str, name: &str) -> String {
    format!("{schema} {name}").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::super::manifest::samples::{database, table};
    use super::*;

    const LIST: &str = ";\n; Archive created at 2026-01-01\n;     Dumped by pg_dump version: 15.1\n;\n\
        7; 2615 16613 SCHEMA - app owner\n\
        10; 1259 1 TABLE app egg owner\n;\tdepends on: 7\n11; 1259 2 TABLE app hen owner\n12; 1259 3 TABLE app hen house owner\n\
        13; 1259 4 TABLE app measured owner\n14; 1259 5 TABLE app measured_1 owner\n\
        20; 0 0 SEQUENCE SET app counter owner\n\
        30; 2606 6 FK CONSTRAINT app egg egg_hen_fkey owner\n;\tdepends on: 10 11 7\n\
        31; 0 0 COMMENT app CONSTRAINT egg_hen_fkey ON egg owner\n;\tdepends on: 30\n\
        32; 2606 7 FK CONSTRAINT app hen hen_hen_fkey owner\n;\tdepends on: 11 11\n\
        33; 2606 8 FK CONSTRAINT app hen house house_fkey owner\n;\tdepends on: 12 10\n\
        34; 2606 9 FK CONSTRAINT app measured measured_fkey owner\n;\tdepends on: 13 13\n\
        40; 0 10 MATERIALIZED VIEW DATA app counted owner\n;\tdepends on: 10\n";

    fn tables(chosen: &[&str]) -> Tables {
        let known = [("egg", None), ("hen", None), ("hen house", None)].into_iter();
        let parts = [("measured_1", Some("measured")), ("measured_2", Some("measured"))];
        let tables: Vec<_> = known.chain(parts).map(|(name, top)| table("app", name, top)).collect();
        let mut database = database("d", tables);
        Tables::choose(&mut database, |_, name| chosen.contains(&name))
    }

    fn left_out(chosen: &[&str]) -> (Vec<&'static str>, Vec<String>) {
        let Chosen { list, foreign_keys } = tables(chosen).choose_of(LIST);
        let kept: HashSet<&str> = list.lines().collect();
        let all = parse(LIST).into_iter().map(|entry| entry.id);
        (all.filter(|id| !kept.contains(format!("{id};").as_str())).collect(), foreign_keys)
    }

    #[test]
    fn a_foreign_key_stays_if_all_rows_that_it_leads_to_come_or_none_leads_anywhere() {
        assert_eq!(left_out(&["egg", "hen"]), (vec!["40"], vec![]));
        let (ids, told) = left_out(&["egg"]);
        assert_eq!((ids, told), (vec!["30", "31", "40"], vec!["app egg egg_hen_fkey owner".to_owned()]));
        assert_eq!(left_out(&["hen house"]).0, ["33", "40"], "a name with a blank is another one");
        assert_eq!(left_out(&["hen"]).0, ["40"], "a table that leads to itself");
        assert_eq!(left_out(&["measured"]).0, ["40"]);
        assert_eq!(left_out(&["measured_1"]).0, ["34", "40"], "some partitions of it");
    }
}
