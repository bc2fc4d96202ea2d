//! The catalogue: `backups/<name>.json`, one file for each backup. Its creation is the commit of the backup.
//!
//! `{"entry":{…},"mac":"…","changes":{…},"checksum":"…"}`. `entry` holds the facts; `mac` is an HMAC-SHA256 over the
//! exact bytes of its value under a key of the vault, so that with the passcode at hand an entry that was forged,
//! swapped or altered is refused. `changes` (absent at first) holds what was edited without a passcode: retention
//! date and description; the MAC does not cover it. The checksum covers all (see `sealed`).
//!
//! A file is in the catalogue unless its run was revoked (see `running`). Readers read entries first and
//! revocations after them, so that an entry which lands after its revocation is never shown.

use components::{Facts, Kind};
use hmac::{Hmac, KeyInit, Mac};
use repository::{Finding, Id, Repository, Warning};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::Sha256;
use storage::{ErrorKind, Version};

use super::sealed::{self, Found};
use super::{Store, failure, layout, parallel};
use crate::{BackupComponentView, BackupView, Error, ErrorKind as Reason, Result};

/// Largest entry that is read.
const ENTRY_BYTES_MAX: u64 = 16 << 20;
/// Most bytes of warnings that an entry keeps; the rest is counted.
const WARNING_BYTES_MAX: usize = 1 << 20;
const MAC_PURPOSE: &str = "strongroom catalogue v1";

/// One backup, as the store's catalogue has it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueEntry {
    /// Version of the format.
    pub format_version: u32,
    /// The backup's name, unique in its store.
    pub name: String,
    /// The store's id.
    pub store_id: String,
    /// The vault that holds it, 32 hexadecimal digits.
    pub vault: String,
    /// SHA-256 of the vault's config file, hexadecimal: finds damage of it without the passcode.
    pub vault_config: String,
    /// The vault's key files (their names are the SHA-256 of their content).
    pub vault_keys: Vec<String>,
    /// The job that made it.
    pub job_id: String,
    /// The attempt of that job that made it.
    pub run: String,
    /// The deployment's name.
    pub site_name: String,
    /// The release that made it.
    pub release: String,
    /// Free text.
    pub description: String,
    /// `MANUAL` or `SCHEDULED`.
    pub schedule_type: String,
    /// `completed` or `completed_with_warnings`.
    pub status: String,
    /// When it began, epoch milliseconds.
    pub start_time: i64,
    /// When it was complete.
    pub complete_time: i64,
    /// From when it may be cleaned; -1 = never.
    pub retention_date: i64,
    /// One for each component.
    pub components: Vec<EntryComponent>,
    /// Groups that list the packs it needs.
    pub groups: Vec<String>,
    /// Bytes of all files in it.
    pub bytes_read: u64,
    /// Bytes that it added to the store.
    pub bytes_added: u64,
    /// Files in it.
    pub files_total: u64,
    /// What is not in it, with reasons.
    pub warnings: Vec<Warning>,
    /// How many warnings there were; more than `warnings` holds if they were too many.
    pub warning_count: u64,
    /// Exact bytes and MAC, as they lie in the store.
    #[serde(skip)]
    pub(crate) seal: Seal,
}

/// One component inside a backup.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryComponent {
    /// Its kind.
    pub kind: Kind,
    /// Its configured name.
    pub name: String,
    /// Where its content lay.
    pub place: String,
    /// Its snapshot in the vault.
    pub snapshot: Id,
    /// When reading began.
    pub start_time: i64,
    /// When reading ended.
    pub end_time: i64,
    /// `completed` or `completed_with_warnings`.
    pub status: String,
    /// Files in it.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Bytes that it added to the store.
    pub bytes_added: u64,
    /// What it holds, in the words of its kind.
    #[serde(default, skip_serializing_if = "is_default")]
    pub facts: Facts,
}

fn is_default(facts: &Facts) -> bool {
    *facts == Facts::default()
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seal {
    pub(super) raw: String,
    mac: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EntryFile {
    pub(super) entry: Box<RawValue>,
    pub(super) mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) changes: Option<Changes>,
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    pub(super) checksum: String,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Changes {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retention_date: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

impl CatalogueEntry {
    /// What callers see of it.
    pub fn view(&self, store_name: &str) -> BackupView {
        BackupView {
            name: self.name.clone(),
            store: store_name.to_owned(),
            description: self.description.clone(),
            release: self.release.clone(),
            site_name: self.site_name.clone(),
            status: self.status.clone(),
            schedule_type: self.schedule_type.clone(),
            start_time: self.start_time,
            complete_time: self.complete_time,
            retention_date: self.retention_date,
            components: self.components.iter().map(EntryComponent::view).collect(),
            bytes_read: self.bytes_read,
            bytes_added: self.bytes_added,
            files_total: self.files_total,
            format_version: self.format_version,
            vault: self.vault.clone(),
            warnings: self.warnings.clone(),
            warning_count: self.warning_count,
            job_id: self.job_id.clone(),
        }
    }

    /// Its snapshots.
    pub fn snapshots(&self) -> Vec<Id> {
        self.components.iter().map(|component| component.snapshot).collect()
    }

    /// Keeps as many warnings as fit; the count stays whole.
    pub(crate) fn set_warnings(&mut self, warnings: Vec<Warning>, count: u64) {
        let mut bytes = 0;
        self.warning_count = count.max(warnings.len() as u64);
        self.warnings = warnings
            .into_iter()
            .take_while(|warning| {
                bytes += warning.item.len() + warning.reason.len();
                bytes <= WARNING_BYTES_MAX
            })
            .collect();
    }

    /// Whether these very facts were written by somebody who could open the vault.
    pub(crate) fn is_authentic(&self, vault: &Repository) -> bool {
        hex::decode(&self.seal.mac).is_ok_and(|mac| keyed(vault, &self.seal.raw).verify_slice(&mac).is_ok())
    }

    /// The bytes of its file, sealed under a key of its vault; and the entry as it will be read back.
    pub(crate) fn sealed_under(mut self, vault: &Repository) -> Result<(CatalogueEntry, Vec<u8>)> {
        let raw = serde_json::value::to_raw_value(&self).map_err(internal)?;
        let mac = hex::encode(keyed(vault, raw.get()).finalize().into_bytes());
        self.seal = Seal { raw: raw.get().to_owned(), mac: mac.clone() };
        let bytes = sealed::seal(&EntryFile { entry: raw, mac, changes: None, checksum: String::new() })?;
        Ok((self, bytes))
    }

    pub(super) fn from_file(file: EntryFile) -> std::result::Result<(CatalogueEntry, Changes), String> {
        let mut entry: CatalogueEntry = serde_json::from_str(file.entry.get())
            .map_err(|e| format!("it is not an entry of the expected form: {e}"))?;
        let changes = file.changes.unwrap_or_default();
        entry.retention_date = changes.retention_date.unwrap_or(entry.retention_date);
        if let Some(description) = &changes.description {
            entry.description.clone_from(description);
        }
        entry.seal = Seal { raw: file.entry.get().to_owned(), mac: file.mac };
        let tokens = [&entry.vault, &entry.run];
        if let Some(bad) = tokens.into_iter().chain(&entry.groups).find(|token| !layout::is_token(token)) {
            return Err(format!("'{bad}' in it is not the name of a vault, run or group"));
        }
        if let Some(bad) = entry.vault_keys.iter().find(|key| key.parse::<Id>().is_err()) {
            return Err(format!("'{bad}' in it is not the name of a key"));
        }
        Ok((entry, changes))
    }
}

/// An entry's file over arbitrary bytes, with its checksum and without.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn fuzz_entry(data: &[u8]) {
    for bytes in [data, &crate::fuzzing::with_checksum(data)] {
        if let Ok(file) = sealed::unseal::<EntryFile>(bytes) {
            let _ = CatalogueEntry::from_file(file);
        }
    }
}

impl EntryComponent {
    fn view(&self) -> BackupComponentView {
        BackupComponentView {
            kind: self.kind,
            name: self.name.clone(),
            place: self.place.clone(),
            snapshot_id: self.snapshot.to_string(),
            start_time: self.start_time,
            end_time: self.end_time,
            status: self.status.clone(),
            files: self.files,
            bytes: self.bytes,
            bytes_added: self.bytes_added,
            facts: self.facts.clone(),
        }
    }
}

pub(super) fn keyed(vault: &Repository, raw: &str) -> Hmac<Sha256> {
    keyed_for(vault, MAC_PURPOSE, raw)
}

pub(super) fn keyed_for(vault: &Repository, purpose: &str, raw: &str) -> Hmac<Sha256> {
    // HMAC fills a short key up with zeros to the hash's block.
    let mut block = zeroize::Zeroizing::new([0; 64]);
    if let Some(start) = block.first_chunk_mut::<32>() {
        *start = *vault.derive_key(purpose);
    }
    let mut mac = <Hmac<Sha256> as KeyInit>::new(&(*block).into());
    mac.update(raw.as_bytes());
    mac
}

pub(super) fn internal(error: serde_json::Error) -> Error {
    Error::new(Reason::Internal, "the catalogue entry could not be put into words").because(error)
}

/// A complete look at the catalogue.
#[derive(Default)]
pub(crate) struct Catalogue {
    /// What is in it.
    pub entries: Vec<CatalogueEntry>,
    /// Files that are not intact entries.
    pub findings: Vec<Finding>,
    /// Entries of revoked runs, which nobody sees.
    pub void: Vec<CatalogueEntry>,
}

impl Store {
    /// All backups, oldest first, and files of the catalogue that are damaged.
    pub fn backups(&self) -> Result<(Vec<CatalogueEntry>, Vec<Finding>)> {
        let catalogue = self.catalogue()?;
        Ok((catalogue.entries, catalogue.findings))
    }

    /// One backup; `Damaged` if its file is.
    pub fn backup(&self, name: &str) -> Result<Option<CatalogueEntry>> {
        match self.backup_even_void(name)? {
            Some(entry) if self.is_revoked(&entry.run)? => Ok(None),
            other => Ok(other),
        }
    }

    /// Changes what may be changed without the passcode. `None` leaves a thing as it is.
    pub fn update_backup(
        &self,
        name: &str,
        retention_date: Option<i64>,
        description: Option<&str>,
    ) -> Result<()> {
        let key = layout::backup_key(name);
        let not_found =
            || Error::new(Reason::BackupNotFound, format!("there is no backup '{name}' in the store"));
        for _ in 0..8 {
            let (entry, mut changes, version) = self.read_entry(&key)?.ok_or_else(not_found)??;
            if entry.name != name || self.is_revoked(&entry.run)? {
                return Err(not_found());
            }
            changes.retention_date = retention_date.or(changes.retention_date);
            changes.description = description.map(str::to_owned).or(changes.description);
            let raw = RawValue::from_string(entry.seal.raw).map_err(internal)?;
            let file = EntryFile {
                entry: raw,
                mac: entry.seal.mac,
                changes: Some(changes),
                checksum: String::new(),
            };
            match self.storage().replace(&key, &sealed::seal(&file)?, &version) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind == ErrorKind::Precondition => {}
                Err(e) if e.kind == ErrorKind::NotFound => return Err(not_found()),
                Err(e) => return Err(failure::storage(e)),
            }
        }
        Err(Error::new(
            Reason::Busy,
            format!("backup '{name}' is being changed by others all the time; try again"),
        ))
    }

    /// A complete look, for those who act on what they see: every entry is read.
    pub(crate) fn catalogue(&self) -> Result<Catalogue> {
        let mut catalogue = Catalogue::default();
        let listed = self.storage().list_all(layout::BACKUPS).map_err(failure::storage)?;
        let read = parallel::each(self.storage().as_ref(), &listed, |listed| self.read_entry(&listed.key))?;
        for (listed, found) in listed.into_iter().zip(read) {
            match found {
                None => {}
                Some(Ok((entry, ..))) => catalogue.entries.push(entry),
                Some(Err(error)) => {
                    catalogue.findings.push(Finding { file: listed.key, problem: error.message });
                }
            }
        }
        let revoked = self.revoked()?;
        let (void, valid) = catalogue.entries.into_iter().partition(|entry| revoked.contains(&entry.run));
        (catalogue.void, catalogue.entries) = (void, valid);
        catalogue.entries.sort_by(|a, b| (a.complete_time, &a.name).cmp(&(b.complete_time, &b.name)));
        Ok(catalogue)
    }

    /// What lies under the name, whether its run was revoked or not.
    pub(crate) fn backup_even_void(&self, name: &str) -> Result<Option<CatalogueEntry>> {
        match self.read_entry(&layout::backup_key(name))? {
            None => Ok(None),
            Some(found) => found.map(|(entry, ..)| Some(entry)),
        }
    }

    /// The commit. Succeeds only if this entry is then the one in the catalogue; `LeaseLost` if its run was revoked.
    pub(crate) fn commit(&self, entry: &CatalogueEntry, bytes: &[u8]) -> Result<()> {
        let key = layout::backup_key(&entry.name);
        let taken = || {
            Error::new(
                Reason::BackupExists,
                format!("there is a backup '{}' in the store already", entry.name),
            )
        };
        match self.storage().create(&key, &[bytes]) {
            Ok(()) => {}
            Err(e) if e.kind == ErrorKind::Exists => {
                let (there, _, version) = self.read_entry(&key)?.ok_or_else(taken)??;
                if there.run != entry.run {
                    if !self.is_revoked(&there.run)? {
                        return Err(taken());
                    }
                    self.storage().replace(&key, bytes, &version).map_err(failure::storage)?;
                }
            }
            // The answer may have been lost on its way back.
            Err(e) => match self.read_entry(&key) {
                Ok(Some(Ok((there, ..)))) if there.run == entry.run => {}
                _ => return Err(failure::storage(e)),
            },
        }
        if self.is_revoked(&entry.run)? {
            let message = format!(
                "the backup '{}' was given up by another worker while it was being completed",
                entry.name
            );
            return Err(Error::new(Reason::LeaseLost, message));
        }
        Ok(())
    }

    /// `Some(Err)` if the file is damaged.
    #[allow(clippy::type_complexity)]
    pub(super) fn read_entry(&self, key: &str) -> Result<Option<Result<(CatalogueEntry, Changes, Version)>>> {
        let damaged = |reason: &str| Ok(Some(Err(failure::damaged(key, reason))));
        let (file, version) = match sealed::read::<EntryFile>(self.storage().as_ref(), key, ENTRY_BYTES_MAX)?
        {
            Found::Missing => return Ok(None),
            Found::Damaged(reason, _) => return damaged(&reason),
            Found::Good(file, version) => (file, version),
        };
        match CatalogueEntry::from_file(file) {
            Ok((entry, _)) if layout::backup_key(&entry.name) != key => {
                damaged(&format!("it is the entry of another backup, '{}'", entry.name.escape_debug()))
            }
            Ok((entry, changes)) => Ok(Some(Ok((entry, changes, version)))),
            Err(reason) => damaged(&reason),
        }
    }
}
