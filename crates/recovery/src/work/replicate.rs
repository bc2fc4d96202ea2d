//! A store copied to another place, without any passcode.
//!
//! For each vault: a running record in the copy, so that nobody frees space there meanwhile; config and keys; then for each
//! backup, oldest first, its packs, index files and snapshots, its groups, and **last its entry, byte for byte**. What is
//! named by its hash is hashed on the way and not copied if that is wrong. So the copy holds whole backups only, at any
//! instant; what is there already is not read again, and a copy that was cut short goes on where it was.
//!
//! Backups that are gone from the store stay in the copy. An entry that compaction or an edit has changed is replaced; the
//! groups that it no longer names are given up by a record, for whoever frees space there. What was deleted in the copy
//! itself does not come back.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use repository::{Control, Id};
use storage::ErrorKind as Place;

use super::entry_files::list_packs;
use crate::clock::now_ms;
use crate::store::deletion::{Cause, DeletedRecord};
use crate::store::groups::{FoundGroup, Group};
use crate::store::sealed::Found;
use crate::store::vaults::is_named_by_hash;
use crate::store::{CatalogueEntry, RunningRecord, Store, failure, layout};
use crate::{Error, ErrorKind, Result};

/// Files that are copied at a time, each whole in memory.
const COPIERS: usize = 4;
/// No pack, index file or snapshot is larger.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// The running record is written anew so often: whoever watches it sees that somebody is at work.
const BEAT: Duration = Duration::from_secs(60);

/// What was copied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replicated {
    /// Backups that came new into the copy, or whose entry changed.
    pub copied: Vec<String>,
    /// Backups that were there as they are.
    pub unchanged: u64,
    /// Backups that were not copied, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Files copied, small ones left out.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies what `from` holds to the place `to`, which is empty or a copy of the same store.
pub fn replicate(from: &Store, to: storage::Shared, control: &Arc<Control>) -> Result<Replicated> {
    let to = from.copy_at(to)?;
    let (entries, damaged) = from.backups()?;
    let mut done = Replicated::default();
    done.skipped.extend(damaged.into_iter().map(|finding| (finding.file, finding.problem)));
    let mut vaults: BTreeMap<String, Vec<CatalogueEntry>> = BTreeMap::new();
    for entry in entries {
        vaults.entry(entry.vault.clone()).or_default().push(entry);
    }
    for (vault, entries) in vaults {
        let mut copy = VaultCopy::begin(from, &to, vault, control)?;
        let outcome = entries.iter().try_for_each(|entry| copy.backup(&entry.name, &mut done));
        let ended = copy.end();
        outcome.and(ended)?;
    }
    Ok(done)
}

/// One vault on its way.
struct VaultCopy<'a> {
    from: &'a Store,
    to: &'a Store,
    control: &'a Arc<Control>,
    record: RunningRecord,
    beat: Mutex<Instant>,
    /// Packs of the copy.
    there: HashMap<Id, u64>,
    /// Packs of the copy that may go at any time.
    doomed: HashSet<Id>,
    /// Runs whose backups were deleted in the copy.
    deleted: HashSet<String>,
}

impl<'a> VaultCopy<'a> {
    fn begin(from: &'a Store, to: &'a Store, vault: String, control: &'a Arc<Control>) -> Result<Self> {
        let record = RunningRecord {
            job_id: format!("replicate-{}", layout::new_token()),
            run: layout::new_token(),
            server: "replicate".to_owned(),
            backup: format!("copies of the vault {vault}"),
            vault,
            started_at: now_ms(),
        };
        to.put_running(&record, None)?;
        let mut copy = VaultCopy {
            from,
            to,
            control,
            record,
            beat: Mutex::new(Instant::now()),
            there: HashMap::new(),
            doomed: HashSet::new(),
            deleted: HashSet::new(),
        };
        match copy.look().and_then(|()| copy.small_files()) {
            Ok(()) => Ok(copy),
            Err(error) => {
                let _ = copy.end();
                Err(error)
            }
        }
    }

    fn end(&self) -> Result<()> {
        self.to.storage().delete(&layout::running_key(&self.record.job_id)).map_err(failure::storage)
    }

    /// What lies in the copy, after the record is there: see `vault_view`.
    fn look(&mut self) -> Result<()> {
        let catalogue = self.to.catalogue()?;
        let (deleted, damaged) = self.to.deleted_records()?;
        if let Some(finding) = catalogue.findings.iter().chain(&damaged).next() {
            return Err(failure::damaged(&finding.file, &finding.problem));
        }
        let living: BTreeSet<&String> = catalogue.entries.iter().flat_map(|entry| &entry.groups).collect();
        let mut kept = HashSet::new();
        for id in &living {
            if let FoundGroup::Good(group) = self.to.group(id)? {
                kept.extend(group.packs.into_keys());
            }
        }
        for (_, record) in deleted.into_iter().filter(|(_, record)| record.vault == self.record.vault) {
            for id in record.groups.iter().filter(|id| !living.contains(id)) {
                if let FoundGroup::Good(group) = self.to.group(id)? {
                    self.doomed.extend(group.packs.into_keys().filter(|pack| !kept.contains(pack)));
                }
            }
            if record.cause == Cause::Deletion {
                self.deleted.insert(record.run);
            }
        }
        self.there = list_packs(self.to, &self.record.vault)?;
        Ok(())
    }

    /// Config and keys, with their second copies: whichever of the two is intact.
    fn small_files(&self) -> Result<()> {
        let vault = &self.record.vault;
        let (originals, copies) = self.from.both_small_files(vault)?;
        let known = self.from.config_digests(vault)?;
        let Some(files) = crate::store::vaults::best_of(&originals, &copies, &known) else {
            return Err(failure::damaged(&layout::vault_key(vault, "config"), "it is missing"));
        };
        for (file, bytes) in &files.0 {
            for key in [layout::vault_key(vault, file), layout::vault_copy_key(vault, file)] {
                match self.to.storage().create(&key, &[bytes]) {
                    Err(e) if e.kind == Place::Exists => {}
                    other => other.map_err(failure::storage)?,
                }
            }
        }
        Ok(())
    }

    /// One backup; why it cannot be copied is noted, and only what concerns the whole place is an error.
    fn backup(&mut self, name: &str, done: &mut Replicated) -> Result<()> {
        if let Some(why) = self.try_backup(name, done)? {
            done.skipped.push((name.to_owned(), why));
        }
        Ok(())
    }

    fn try_backup(&mut self, name: &str, done: &mut Replicated) -> Result<Option<String>> {
        let skip = |why: String| Ok(Some(why));
        let Some((entry, bytes)) = self.from.entry_bytes(name)? else { return Ok(None) };
        let before = match self.to.entry_bytes(name) {
            Ok(Some((_, there))) if there == bytes => {
                done.unchanged += 1;
                return Ok(None);
            }
            Ok(Some((there, _))) if there.run != entry.run => {
                return skip("another backup of this name lies in the copy".to_owned());
            }
            Ok(there) => there.map(|(there, _)| there),
            Err(e) if e.kind == ErrorKind::Damaged => return skip(e.message),
            Err(e) => return Err(e),
        };
        if before.is_none() && self.deleted.contains(&entry.run) {
            return skip("it was deleted in the copy".to_owned());
        }
        let mut groups = BTreeMap::new();
        for id in &entry.groups {
            match self.from.group(id)? {
                FoundGroup::Good(group) => drop(groups.insert(id.clone(), group)),
                _ => return skip(format!("'{}' is missing or damaged", layout::group_key(id))),
            }
        }
        if groups.values().flat_map(|group| group.packs.keys()).any(|pack| self.doomed.contains(pack)) {
            return skip(
                "the copy is about to free packs that it needs; copy again once that is done".to_owned(),
            );
        }
        match self.files(&entry, &groups, done)? {
            Some(why) => skip(why),
            None => self.commit(&entry, before, &groups, &bytes, done).map(|()| None),
        }
    }

    /// Packs, then index files, then snapshots; or why not.
    fn files(
        &mut self,
        entry: &CatalogueEntry,
        groups: &BTreeMap<String, Group>,
        done: &mut Replicated,
    ) -> Result<Option<String>> {
        let packs: BTreeMap<Id, u64> =
            groups.values().flat_map(|group| group.packs.iter().map(|(id, size)| (*id, *size))).collect();
        let missing: Vec<(Id, u64)> =
            packs.into_iter().filter(|(id, size)| self.there.get(id) != Some(size)).collect();
        let keys = missing.iter().map(|(id, _)| layout::pack_file(*id)).collect::<Vec<_>>();
        let indexes: BTreeSet<&Id> = groups.values().flat_map(|group| group.indexes.keys()).collect();
        let indexes = indexes.into_iter().map(|id| format!("index/{id}")).collect::<Vec<_>>();
        let snapshots = entry.snapshots().iter().map(|id| format!("snapshots/{id}")).collect::<Vec<_>>();
        for (files, is_listed) in [(keys, true), (indexes, false), (snapshots, false)] {
            if let Some(why) = self.copy_all(&files, is_listed, done)? {
                return Ok(Some(why));
            }
        }
        self.there.extend(missing);
        Ok(None)
    }

    /// Copies files of the vault on several threads. `is_listed`: it is known that none of them is there.
    fn copy_all(&self, files: &[String], is_listed: bool, done: &mut Replicated) -> Result<Option<String>> {
        let (next, copied) = (AtomicUsize::new(0), Mutex::new((0, 0, None::<Result<String>>)));
        let locked = || copied.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..COPIERS.min(files.len()) {
                scope.spawn(|| {
                    while let Some(file) = files.get(next.fetch_add(1, Ordering::SeqCst)) {
                        if locked().2.is_some() {
                            return;
                        }
                        let outcome = self.copy(file, is_listed);
                        let mut state = locked();
                        match outcome {
                            Ok(Ok(bytes)) => {
                                state.0 += u64::from(bytes > 0);
                                state.1 += bytes;
                            }
                            Ok(Err(why)) => state.2 = Some(Ok(why)),
                            Err(error) => state.2 = Some(Err(error)),
                        }
                    }
                });
            }
        });
        let (count, bytes, failure) = std::mem::take(&mut *locked());
        done.files += count;
        done.bytes += bytes;
        failure.transpose()
    }

    /// Bytes copied; or why the file is not good.
    fn copy(&self, file: &str, is_listed: bool) -> Result<std::result::Result<u64, String>> {
        self.control.check().map_err(|e| failure::engine("the copy was stopped", e))?;
        self.beat()?;
        let key = layout::vault_key(&self.record.vault, file);
        self.control.progress.set_current(&key);
        if !is_listed && self.to.storage().head(&key).map_err(failure::storage)?.is_some() {
            return Ok(Ok(0));
        }
        let bytes = match self.from.storage().get(&key, FILE_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind, Place::NotFound | Place::TooLarge | Place::Short) => {
                return Ok(Err(format!("'{key}' cannot be copied: {}", e.reason)));
            }
            Err(e) => return Err(failure::storage(e)),
        };
        let name = file.rsplit('/').next().unwrap_or_default();
        if !is_named_by_hash(name, &bytes) {
            return Ok(Err(format!("'{key}' is damaged: its content does not match its name")));
        }
        match self.to.storage().create(&key, &[&bytes]) {
            Ok(()) => Ok(Ok(bytes.len() as u64)),
            Err(e) if e.kind == Place::Exists && !is_listed => Ok(Ok(0)),
            // It was not listed, or not at its size.
            Err(e) if e.kind == Place::Exists => {
                match self.to.storage().head(&key).map_err(failure::storage)? {
                    Some(there) if there.size == bytes.len() as u64 => Ok(Ok(0)),
                    _ => Ok(Err(format!(
                        "'{key}' in the copy has another size; remove it there and copy again"
                    ))),
                }
            }
            Err(e) => Err(failure::storage(e)),
        }
    }

    /// Shows whoever watches the record that somebody is at work.
    fn beat(&self) -> Result<()> {
        let mut beat = self.beat.lock().unwrap_or_else(PoisonError::into_inner);
        if beat.elapsed() < BEAT {
            return Ok(());
        }
        *beat = Instant::now();
        match self.to.read_running(&self.record.job_id)? {
            Found::Good(there, version) if there.run == self.record.run => {
                let record = RunningRecord { started_at: now_ms(), ..self.record.clone() };
                self.to.put_running(&record, Some(&version))
            }
            _ => self.to.still_running(&self.record),
        }
    }

    /// Groups, and then the entry. If the running record is gone after that, somebody may have freed space meanwhile
    /// without having seen either: the entry goes again.
    fn commit(
        &mut self,
        entry: &CatalogueEntry,
        before: Option<CatalogueEntry>,
        groups: &BTreeMap<String, Group>,
        bytes: &[u8],
        done: &mut Replicated,
    ) -> Result<()> {
        for (id, group) in groups {
            self.to.create_group(id, group)?;
        }
        self.to.still_running(&self.record)?;
        if let Some(before) = &before {
            let old: Vec<String> =
                before.groups.iter().filter(|id| !entry.groups.contains(id)).cloned().collect();
            if !old.is_empty() {
                self.to.create_deleted_record(DeletedRecord {
                    name: "compaction".to_owned(),
                    run: layout::new_token(),
                    vault: entry.vault.clone(),
                    snapshots: Vec::new(),
                    groups: old,
                    deleted_at: now_ms(),
                    cause: Cause::Compaction,
                    successors: Vec::new(),
                })?;
            }
        }
        self.to.put_entry(entry, bytes)?;
        if let Err(lost) = self.to.still_running(&self.record) {
            if before.is_none() {
                self.to.delete_backup(&entry.name)?;
            }
            return Err(Error::new(
                ErrorKind::LeaseLost,
                format!("the copy of backup '{}' was given up by a server; copy again", entry.name),
            )
            .because(lost));
        }
        done.copied.push(entry.name.clone());
        Ok(())
    }
}
