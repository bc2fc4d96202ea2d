//! Keyed compaction: what is left of partly used groups goes into new groups, so that the old ones can be given up.
//!
//! A backup does it after its commit, under a running record with a run of its own, if the vault is marked (see
//! `store::waste`) or if groups name files that are not there. One look at the vault, a survey of what all its backups
//! need ([`repository::survey`]), a plan ([`plan`]), and then, each step harmless should it be the last:
//!
//! 1. what is worth keeping of half-empty packs is stored in new packs, listed with the kept ones in new index files;
//! 2. `deleted/compaction.<time>.json` names the old groups and the new ones: whichever no entry names when all is over,
//!    `reclaim` removes;
//! 3. the new groups are written;
//! 4. each entry names old **and** new groups;
//! 5. the running record is still ours, and all that the new groups list is there: so nobody who deletes can have missed
//!    an entry of step 4, and nothing was deleted before;
//! 6. each entry names the new groups alone.
//!
//! Nothing is deleted here. Old groups go by the same rules as those of deleted backups, with the same grace, so a
//! restore or a backup that was begun before finds everything where it was.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use repository::{Control, Id, Index, Lock, Repository, Survey};

use self::plan::{Known, Pack, Plan};
use crate::clock::now_ms;
use crate::store::deletion::{Cause, DeletedRecord};
use crate::store::groups::{FoundGroup, Group};
use crate::store::sealed::Found;
use crate::store::vaults::{id_of, load_index};
use crate::store::{CatalogueEntry, FORMAT_VERSION, RunningRecord, Store, failure, layout};
use crate::{Error, ErrorKind, Result};

/// How far compaction goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Waste that may stay, per cent of what the vault's backups need.
    pub unused_percent_max: u64,
    /// Bytes that one run may store anew; the next run goes on.
    pub stored_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { unused_percent_max: 5, stored_bytes_max: 4 << 30 }
    }
}

/// What compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compacted {
    /// Groups that were given up, and those that took their place.
    pub groups: (usize, usize),
    /// Bytes stored anew.
    pub stored_bytes: u64,
    /// Bytes of waste in the packs that were given up.
    pub waste_bytes: u64,
}

/// What a compaction works with.
pub(super) struct Compaction<'a> {
    pub store: &'a Store,
    pub repository: &'a Repository,
    /// The backup's record; while this works another run's stands in its place.
    pub record: &'a RunningRecord,
    pub lock: &'a Lock,
    pub control: &'a Arc<Control>,
    pub limits: Limits,
}

/// The vault as this job finds it.
struct Vault {
    entries: Vec<CatalogueEntry>,
    known: Known,
    /// Packs of groups that were given up.
    doomed: HashSet<Id>,
    /// The groups do not tell any more what lies where.
    is_foreign: bool,
}

impl Compaction<'_> {
    /// Compacts the vault, if that is worth while. `unsound`: files that groups name are not there.
    pub fn run(&self, unsound: bool) -> Result<Compacted> {
        let vault = self.record.vault.as_str();
        if !unsound && !self.store.has_waste(vault)? {
            return Ok(Compacted::default());
        }
        let record = self.begin()?;
        let waits = |why: &str| {
            tracing::info!(vault, "not compacted: {why}");
            Ok(Compacted::default())
        };
        match self.look(&record)? {
            Err(why) => waits(&why),
            Ok((found, index)) => self.compact(&record, found, &index),
        }
    }

    /// Another run in the place of the backup's, which has ended with its commit.
    fn begin(&self) -> Result<RunningRecord> {
        let record = RunningRecord { run: layout::new_token(), started_at: now_ms(), ..self.record.clone() };
        match self.store.read_running(&record.job_id)? {
            Found::Good(there, version) if there.run == self.record.run => {
                self.store.put_running(&record, Some(&version))?;
                Ok(record)
            }
            _ => Err(Error::new(ErrorKind::LeaseLost, "the running record of the backup is gone")),
        }
    }

    /// One look at everything, or why there can be no compaction now.
    fn look(&self, record: &RunningRecord) -> Result<std::result::Result<(Vault, Index), String>> {
        let (store, vault) = (self.store, record.vault.as_str());
        let (running, damaged) = store.running_records()?;
        if let Some(finding) = damaged.first() {
            return Ok(Err(format!("'{}' is damaged", finding.file)));
        }
        if let Some(other) = running.iter().find(|r| r.vault == vault && r.run != record.run) {
            return Ok(Err(format!("the backup '{}' is at work in the vault", other.backup)));
        }
        let catalogue = store.catalogue()?;
        let (deleted, damaged) = store.deleted_records()?;
        if let Some(finding) = catalogue.findings.iter().chain(&damaged).next() {
            return Ok(Err(format!("'{}' is damaged: {}", finding.file, finding.problem)));
        }
        let of_vault = catalogue.entries.into_iter().filter(|entry| entry.vault == vault);
        let (entries, refused): (Vec<_>, Vec<_>) = of_vault
            .partition(|entry| entry.format_version <= FORMAT_VERSION && entry.is_authentic(self.repository));
        let deleted: Vec<DeletedRecord> =
            deleted.into_iter().map(|(_, record)| record).filter(|record| record.vault == vault).collect();
        let named = entries.iter().chain(&refused).flat_map(CatalogueEntry::snapshots);
        let named: HashSet<Id> =
            named.chain(deleted.iter().flat_map(|record| record.snapshots.iter().copied())).collect();
        let listed = store.storage().list_all(&layout::vault_key(vault, "snapshots/"));
        for entry in listed.map_err(failure::storage)? {
            if id_of(&entry.key).is_some_and(|id| !named.contains(&id)) {
                return Ok(Err(format!("'{}' belongs to no backup of the catalogue", entry.key)));
            }
        }
        self.account(entries, &refused, &deleted)
    }

    /// What the groups list, compared with what is there.
    fn account(
        &self,
        entries: Vec<CatalogueEntry>,
        refused: &[CatalogueEntry],
        deleted: &[DeletedRecord],
    ) -> Result<std::result::Result<(Vault, Index), String>> {
        // A deletion that did not come to its end has given up nothing yet.
        let runs: HashSet<&String> = entries.iter().map(|entry| &entry.run).collect();
        let deleted = deleted.iter().filter(|record| !runs.contains(&record.run));
        let given_up: BTreeSet<&String> = deleted.flat_map(|record| &record.groups).collect();
        let mut known = Known {
            entries: entries.iter().map(|entry| entry.groups.clone()).collect(),
            frozen: given_up.iter().copied().chain(refused.iter().flat_map(|e| &e.groups)).cloned().collect(),
            listing: self
                .repository
                .list_packs()
                .map_err(|e| failure::engine("cannot list the packs of the vault", e))?,
            ..Known::default()
        };
        let index = load_index(self.repository, &|_| true)?;
        let reckoned = index.packs();
        known.listing.retain(|id, size| reckoned.get(id).is_none_or(|expected| expected == size));
        let mut is_foreign = false;
        let living: BTreeSet<&String> = entries.iter().flat_map(|entry| &entry.groups).collect();
        for id in &living {
            let FoundGroup::Good(group) = self.store.group(id)? else {
                is_foreign = true;
                continue;
            };
            let missing: Vec<&Id> = group
                .packs
                .iter()
                .filter(|(id, size)| known.listing.get(id) != Some(size))
                .map(|(id, _)| id)
                .collect();
            is_foreign |= missing.iter().any(|id| !reckoned.contains_key(id));
            if !missing.is_empty() {
                known.unsound.insert((*id).clone());
            }
            known.groups.insert((*id).clone(), group);
        }
        let kept: HashSet<&Id> = known.groups.values().flat_map(|group| group.packs.keys()).collect();
        let good = files_that_speak_of(&index, &|pack| kept.contains(pack));
        for (id, group) in &known.groups {
            if !group.indexes.keys().all(|id| good.contains(id)) {
                known.unsound.insert(id.clone());
            }
        }
        let mut doomed = HashSet::new();
        for id in given_up.into_iter().filter(|id| !living.contains(id)) {
            if let FoundGroup::Good(group) = self.store.group(id)? {
                doomed.extend(group.packs.into_keys());
            }
        }
        Ok(Ok((Vault { entries, known, doomed, is_foreign }, index)))
    }

    fn survey<'i>(&self, vault: &Vault, index: &'i Index) -> Result<Survey<'i>> {
        // Of several copies the one in the group that most entries name is the home: it will stay longest.
        let mut named: HashMap<Id, u64> = HashMap::new();
        for (id, group) in &vault.known.groups {
            let entries = vault.known.entries.iter().filter(|names| names.contains(id)).count() as u64;
            for pack in group.packs.keys() {
                let most = named.entry(*pack).or_default();
                *most = entries.max(*most);
            }
        }
        let rank = |pack: Id| {
            let usable = vault.known.listing.contains_key(&pack)
                && (named.contains_key(&pack) || (vault.is_foreign && !vault.doomed.contains(&pack)));
            usable.then(|| u64::MAX - named.get(&pack).copied().unwrap_or(0))
        };
        let snapshots: Vec<Id> = vault.entries.iter().flat_map(CatalogueEntry::snapshots).collect();
        repository::survey(self.repository, index, &snapshots, &rank, self.control)
            .map_err(|e| failure::engine("cannot tell what the backups of the vault need", e))
    }

    fn compact(&self, record: &RunningRecord, mut vault: Vault, index: &Index) -> Result<Compacted> {
        let survey = self.survey(&vault, index)?;
        let facts = |pack: &repository::SurveyedPack| Pack {
            blob_bytes: pack.blob_bytes,
            kept_bytes: pack.kept_bytes,
            elsewhere: pack.elsewhere.clone(),
        };
        vault.known.packs = survey.packs().map(|(id, pack)| (id, facts(pack))).collect();
        let mut plan = match vault.is_foreign {
            true => Plan::of_everything(&vault.known),
            false => vault.known.plan(&self.limits()?),
        };
        let mut done = Compacted { waste_bytes: plan.waste, ..Compacted::default() };
        if plan.classes.is_empty() {
            if plan.complete && vault.known.frozen.is_empty() {
                self.store.clear_waste(&record.vault)?;
            }
            return Ok(done);
        }
        let mut new_groups = BTreeMap::new();
        for number in 0..plan.classes.len() {
            let Some(class) = plan.classes.get(number).filter(|class| !class.is_empty()).cloned() else {
                continue;
            };
            let whole: Vec<Id> = class.whole.iter().copied().collect();
            let stored = survey
                .store_anew(self.repository, &class.half_empty, &whole, self.control)
                .map_err(|e| failure::engine("what is left of packs could not be stored anew", e))?;
            plan.leave(number, &stored.unreadable);
            done.stored_bytes += stored.packs.iter().map(|(_, size)| size).sum::<u64>();
            let kept = whole.iter().chain(&stored.unreadable);
            let kept = kept.filter_map(|id| Some((*id, *vault.known.listing.get(id)?)));
            let packs: BTreeMap<Id, u64> = kept.chain(stored.packs).collect();
            let group =
                Group { vault: record.vault.clone(), packs, indexes: stored.indexes.into_iter().collect() };
            new_groups.insert(class.id, group);
        }
        let old: BTreeSet<&String> = plan.classes.iter().flat_map(|class| &class.old).collect();
        done.groups = (old.len(), new_groups.len());
        let Some(names) = plan.names(&vault.known) else {
            return Err(Error::new(
                ErrorKind::Internal,
                "a compaction would have lost a blob; nothing was changed",
            ));
        };
        self.give_up(record, old, new_groups.keys().cloned().collect())?;
        for (id, group) in &new_groups {
            self.store.create_group(id, group)?;
        }
        self.rename(record, &vault, &names, &new_groups)?;
        if plan.complete && vault.known.frozen.is_empty() {
            self.store.clear_waste(&record.vault)?;
        }
        tracing::info!(vault = %record.vault, ?done, "the vault was compacted");
        Ok(done)
    }

    /// Half of what is free may be used: what is given up goes only later.
    fn limits(&self) -> Result<Limits> {
        let free = self.store.storage().free_space().map_err(failure::storage)?.unwrap_or(u64::MAX);
        Ok(Limits { stored_bytes_max: self.limits.stored_bytes_max.min(free / 2), ..self.limits })
    }

    fn give_up(&self, record: &RunningRecord, old: BTreeSet<&String>, successors: Vec<String>) -> Result<()> {
        self.lock.check().map_err(|e| failure::engine("the lock on the vault was lost", e))?;
        self.store.still_running(record)?;
        self.store.create_deleted_record(DeletedRecord {
            name: "compaction".to_owned(),
            run: layout::new_token(),
            vault: record.vault.clone(),
            snapshots: Vec::new(),
            groups: old.into_iter().chain(&successors).cloned().collect(),
            deleted_at: now_ms(),
            cause: Cause::Compaction,
            successors,
        })
    }

    /// Steps 4 to 6.
    fn rename(
        &self,
        record: &RunningRecord,
        vault: &Vault,
        names: &[Vec<String>],
        new_groups: &BTreeMap<String, Group>,
    ) -> Result<()> {
        let changes: Vec<(&CatalogueEntry, Vec<String>, &Vec<String>)> = vault
            .entries
            .iter()
            .zip(names)
            .filter(|(entry, after)| entry.groups != **after)
            .map(|(entry, after)| {
                let added = after.iter().filter(|id| !entry.groups.contains(id));
                (entry, entry.groups.iter().chain(added).cloned().collect(), after)
            })
            .collect();
        let change = |entry: &CatalogueEntry, before: &[String], after: &[String]| {
            self.store.regroup((&entry.name, &entry.run), before, after, self.repository)
        };
        for (entry, both, _) in &changes {
            self.control.check().map_err(|e| failure::engine("the compaction was stopped", e))?;
            change(entry, &entry.groups, both)?;
        }
        if let Err(error) = self.confirm(record, new_groups) {
            for (entry, both, _) in &changes {
                change(entry, both, &entry.groups)?;
            }
            return Err(error);
        }
        for (entry, both, after) in &changes {
            change(entry, both, after)?;
        }
        Ok(())
    }

    /// The record is ours still, and all that the new groups list is there.
    fn confirm(&self, record: &RunningRecord, new_groups: &BTreeMap<String, Group>) -> Result<()> {
        self.store.still_running(record)?;
        let listing = self
            .repository
            .list_packs()
            .map_err(|e| failure::engine("cannot list the packs of the vault", e))?;
        let prefix = layout::vault_key(&record.vault, "index/");
        let indexes = self.store.storage().list_all(&prefix).map_err(failure::storage)?;
        let indexes: HashSet<Id> = indexes.iter().filter_map(|entry| id_of(&entry.key)).collect();
        for (id, group) in new_groups {
            let is_whole = group.packs.iter().all(|(pack, size)| listing.get(pack) == Some(size))
                && group.indexes.keys().all(|index| indexes.contains(index))
                && matches!(self.store.group(id)?, FoundGroup::Good(there) if there == *group);
            if !is_whole {
                let message = "something of what was stored anew is not there; the entries stay as they were";
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
        Ok(())
    }
}

/// The index files that speak of such packs alone.
pub(super) fn files_that_speak_of(index: &Index, such: &dyn Fn(&Id) -> bool) -> HashSet<Id> {
    let good = index.files().filter_map(|(id, mut packs)| packs.all(|pack| such(&pack)).then_some(id));
    good.collect()
}
