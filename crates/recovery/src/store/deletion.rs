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

/// What was taken out of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeletedRecord {
    /// The backup's name.
    pub name: String,
    /// The run that made it; empty if the entry was damaged.
    pub run: String,
    /// The vault that holds it; empty if the entry was damaged.
    pub vault: String,
    /// Its snapshots.
    pub snapshots: Vec<Id>,
    /// Its groups.
    pub groups: Vec<String>,
    /// When it was deleted, by the clock of the server that did.
    pub deleted_at: i64,
}

/// A record with its key.
pub(crate) type KeyedDeletion = (String, DeletedRecord);

impl Store {
    /// Takes a backup out of the catalogue. Idempotent; a backup that is not there is no error.
    ///
    /// An entry that is damaged can be deleted too. What it named is then unknown: the packs stay, and the next
    /// backup in their vault takes them over.
    pub fn delete_backup(&self, name: &str) -> Result<()> {
        let key = layout::backup_key(name);
        let found = match self.backup_even_void(name) {
            Ok(None) => return Ok(()),
            Ok(Some(entry)) => Some(entry),
            Err(e) if e.kind == Kind::Damaged => None,
            Err(e) => return Err(e),
        };
        let record = DeletedRecord::of(name, found.as_ref());
        if !self.has_deleted_record(&record)? {
            self.create_deleted_record(record)?;
        }
        // Look again right before: nothing else may have taken the name meanwhile.
        let same = match self.backup_even_void(name) {
            Ok(None) => return Ok(()),
            Ok(now) => now.map(|e| e.run) == found.map(|e| e.run),
            Err(e) if e.kind == Kind::Damaged => found.is_none(),
            Err(e) => return Err(e),
        };
        if !same {
            let message = format!("backup '{name}' was changed while it was being deleted; look again");
            return Err(Error::new(Kind::BackupInUse, message));
        }
        self.storage().delete(&key).map_err(failure::storage)
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
                match tokens.iter().all(legal) && record.groups.iter().all(|g| layout::is_token(g)) {
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
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn create_deleted_record(&self, record: DeletedRecord) -> Result<()> {
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
            },
            None => Self {
                name: name.to_owned(),
                run: String::new(),
                vault: String::new(),
                snapshots: Vec::new(),
                groups: Vec::new(),
                deleted_at,
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
        };
        self.create_deleted_record(record).unwrap();
    }
}
