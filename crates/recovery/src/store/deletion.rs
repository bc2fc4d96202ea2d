//! Deletion, step one: a backup leaves the catalogue. No passcode is needed.
//!
//! `deleted/<name>.<time>.json` is created first; the removal of `backups/<name>.json` is the deletion. A crash
//! between the two leaves the backup in the catalogue, whole and restorable; deleting it again uses the record that
//! is there. The record says what step two (see `reclaim`) may remove, and is the last thing to go.

use repository::{Finding, Id};
use serde::{Deserialize, Serialize};
use storage::ErrorKind;

use super::catalogue::CatalogueEntry;
use super::sealed::{self, Found};
use super::{Store, failure, layout};
use crate::clock::now_ms;
use crate::{Error, ErrorKind as Kind, Result};

const RECORD_BYTES_MAX: u64 = 4 << 20;
const TRIES_MAX: u32 = 8;

/// Why packs may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Cause {
    /// A backup was deleted.
    #[default]
    Deletion,
    /// Groups were compacted into others. The record names both: whichever no entry names in the end go.
    Compaction,
    /// A backup was not completed, and what it had stored is not kept for the next one. Nobody ever used it, so it goes
    /// without a grace time.
    Unfinished,
}

impl Cause {
    fn is_deletion(&self) -> bool {
        *self == Cause::Deletion
    }
}

/// What was taken out of the catalogue, or otherwise given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeletedRecord {
    /// The backup's name.
    pub name: String,
    /// The run that made it; empty if the entry was damaged. Of a compaction, a token of its own.
    pub run: String,
    /// The vault that holds it; empty if the entry was damaged.
    pub vault: String,
    /// Its snapshots.
    pub snapshots: Vec<Id>,
    /// Its groups.
    pub groups: Vec<String>,
    /// When it was deleted, by the clock of the server that did.
    pub deleted_at: i64,
    /// Why.
    #[serde(default, skip_serializing_if = "Cause::is_deletion")]
    pub cause: Cause,
    /// Those of `groups` that a compaction made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub successors: Vec<String>,
}

/// A record with its key.
pub(crate) type KeyedDeletion = (String, DeletedRecord);

impl Store {
    /// Takes a backup out of the catalogue. Idempotent; a backup that is not there is no error.
    ///
    /// An entry that is damaged can be deleted too. What it named is then unknown: the packs stay, and the next
    /// backup in their vault takes them over.
    pub fn delete_backup(&self, name: &str) -> Result<()> {
        for _ in 0..TRIES_MAX {
            if self.try_delete(name)? {
                return Ok(());
            }
        }
        let message = format!("backup '{name}' was changed while it was being deleted; look again");
        Err(Error::new(Kind::BackupInUse, message))
    }

    /// `false`: its entry changed meanwhile, perhaps as its groups were compacted.
    fn try_delete(&self, name: &str) -> Result<bool> {
        let key = layout::backup_key(name);
        let found = match self.backup_even_void(name) {
            Ok(None) => return Ok(true),
            Ok(Some(entry)) => Some(entry),
            Err(e) if e.kind == Kind::Damaged => None,
            Err(e) => return Err(e),
        };
        let record = DeletedRecord::of(name, found.as_ref());
        if !self.has_deleted_record(&record)? {
            self.create_deleted_record(record)?;
        }
        // Look again right before: nothing else may have taken the name meanwhile, and the record must name all groups.
        let what = |entry: &CatalogueEntry| (entry.run.clone(), entry.groups.clone());
        match self.backup_even_void(name) {
            Ok(None) => return Ok(true),
            Ok(Some(now)) if found.as_ref().map(what) != Some(what(&now)) => return Ok(false),
            Ok(Some(_)) => {}
            Err(e) if e.kind == Kind::Damaged && found.is_none() => {}
            Err(e) if e.kind == Kind::Damaged => return Ok(false),
            Err(e) => return Err(e),
        }
        self.storage().delete(&key).map_err(failure::storage)?;
        Ok(true)
    }

    /// Key and content of all records of deletions; damaged ones are named.
    pub(crate) fn deleted_records(&self) -> Result<(Vec<KeyedDeletion>, Vec<Finding>)> {
        let (mut records, mut findings) = (Vec::new(), Vec::new());
        for entry in self.storage().list_all(layout::DELETED).map_err(failure::storage)? {
            match self.read_deleted(&entry.key)? {
                Found::Good(record, _) => records.push((entry.key, record)),
                Found::Missing => {}
                Found::Damaged(problem, _) => findings.push(Finding { file: entry.key, problem }),
            }
        }
        Ok((records, findings))
    }

    fn read_deleted(&self, key: &str) -> Result<Found<DeletedRecord>> {
        let found = sealed::read::<DeletedRecord>(self.storage().as_ref(), key, RECORD_BYTES_MAX)?;
        Ok(match found {
            Found::Good(record, version) => {
                let tokens = [&record.vault, &record.run];
                let legal = |token: &&String| token.is_empty() || layout::is_token(token);
                match tokens.iter().all(legal)
                    && record.groups.iter().chain(&record.successors).all(|g| layout::is_token(g))
                {
                    true => Found::Good(record, version),
                    false => {
                        Found::Damaged("it names an impossible vault or group".to_owned(), Some(version))
                    }
                }
            }
            other => other,
        })
    }

    fn has_deleted_record(&self, record: &DeletedRecord) -> Result<bool> {
        let prefix = layout::deleted_prefix(&record.name);
        for entry in self.storage().list_all(layout::DELETED).map_err(failure::storage)? {
            if entry.key.starts_with(&prefix)
                && let Found::Good(found, _) = self.read_deleted(&entry.key)?
                && found.run == record.run
                && found.name == record.name
                && found.groups == record.groups
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(crate) fn create_deleted_record(&self, record: DeletedRecord) -> Result<()> {
        let bytes = sealed::seal(&record)?;
        for later in 0..1000 {
            let key = layout::deleted_key(&record.name, record.deleted_at.saturating_add(later));
            match self.storage().create(&key, &[&bytes]) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind == ErrorKind::Exists => {}
                Err(e) => return Err(failure::storage(e)),
            }
        }
        Err(Error::new(Kind::Busy, format!("backup '{}' is being deleted by many at once", record.name)))
    }
}

impl DeletedRecord {
    /// What it speaks of, for people.
    pub fn what(&self) -> String {
        match self.cause {
            Cause::Deletion => format!("deleted backup '{}'", self.name),
            Cause::Compaction => format!("what was compacted in the vault {}", self.vault),
            Cause::Unfinished => format!("the backup '{}', which was not completed,", self.name),
        }
    }

    fn of(name: &str, entry: Option<&CatalogueEntry>) -> Self {
        let deleted_at = now_ms();
        match entry {
            Some(entry) => Self {
                name: name.to_owned(),
                run: entry.run.clone(),
                vault: entry.vault.clone(),
                snapshots: entry.snapshots(),
                groups: entry.groups.clone(),
                deleted_at,
                cause: Cause::Deletion,
                successors: Vec::new(),
            },
            None => Self {
                name: name.to_owned(),
                run: String::new(),
                vault: String::new(),
                snapshots: Vec::new(),
                groups: Vec::new(),
                deleted_at,
                cause: Cause::Deletion,
                successors: Vec::new(),
            },
        }
    }
}

#[cfg(test)]
impl Store {
    /// A deletion that names these groups, as if there had been a backup.
    pub(crate) fn forget_for_tests(&self, name: &str, vault: &str, groups: &[String]) {
        let record = DeletedRecord {
            name: name.to_owned(),
            run: layout::new_token(),
            vault: vault.to_owned(),
            snapshots: Vec::new(),
            groups: groups.to_vec(),
            deleted_at: now_ms(),
            cause: Cause::Deletion,
            successors: Vec::new(),
        };
        self.create_deleted_record(record).unwrap();
    }
}
