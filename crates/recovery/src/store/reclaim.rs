//! Deletion, step two: what no backup needs any more goes. No passcode is needed; whole groups are judged.
//!
//! The order of looks makes it safe beside backups that run at the same time, without any clock:
//!
//! 1. records of deletions, groups, then the whole catalogue (first look);
//! 2. `running/`: a vault with a record there is left alone (a damaged record stops everything);
//! 3. the whole catalogue again (second look). A file of it that cannot be read stops everything.
//!
//! Due is a deletion whose entry was gone at the first look and whose grace has passed. A group is dead if a due
//! deletion names it and neither look nor a deletion within its grace does. A backup could use a dead group only if
//! it had seen a living entry of it, so before the first look; its running record was written before that; so either
//! step 2 finds the record, or the backup had ended and step 3 finds its entry. Later backups find the deletion's
//! record, or the packs gone from the listing, which they make last; dead groups never come to life again, so a
//! reclaimer that pauses for long harms nothing either.
//!
//! In a vault, things go in this order, each step idempotent and each leaving a vault that every living backup can be
//! restored from: snapshots of due deletions; index files of dead groups of which no pack is needed; packs of dead
//! groups that are in no living one; the groups; the records. A crash leaves the records, so the next pass goes on.
//!
//! An index file of a dead group stays if it alone lists a pack that is needed. Where a deleted backup's groups stay, as
//! others use something of them, the vault is marked for compaction (see `waste`), which needs the passcode. What
//! compaction gives up comes here as a record of the same kind, and goes by the same rules.
//!
//! A vault is left alone, and the report says why, while a fresh restic lock lies in it (somebody reads or writes with
//! a restic client), or while it has a snapshot that neither catalogue nor deletions name: somebody's own, or a killed
//! backup's, which the next backup in that vault removes.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime};

use repository::{Control, Id};

use super::catalogue::{Catalogue, CatalogueEntry};
use super::deletion::{Cause, DeletedRecord, KeyedDeletion};
use super::groups::{FoundGroup, Group};
use super::running::RunningRecord;
use super::vaults::id_of;
use super::{Store, failure, layout};
use crate::clock::now_ms;
use crate::{Error, ErrorKind as Kind, Result};

/// A restic lock older than this belongs to a dead client; live ones are renewed every five minutes.
const LOCK_FRESH: Duration = Duration::from_secs(30 * 60);

/// What reclaiming did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReclaimReport {
    /// Packs removed.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Why something stays, one line each.
    pub waiting: Vec<String>,
}

/// One complete look at what decides over deletion.
struct Looks {
    deleted: Vec<KeyedDeletion>,
    groups: Vec<String>,
    first: Catalogue,
    running: Vec<RunningRecord>,
    second: Catalogue,
    deleted_damaged: bool,
}

/// The deletions of one vault.
struct Doomed<'a> {
    vault: &'a str,
    due: Vec<&'a KeyedDeletion>,
    within_grace: Vec<&'a DeletedRecord>,
}

/// What is to be removed in one vault.
#[derive(Default)]
struct Plan {
    snapshots: Vec<Id>,
    indexes: BTreeSet<Id>,
    packs: BTreeMap<Id, u64>,
    groups: Vec<String>,
    records: Vec<String>,
    /// A deleted backup's groups stay, as others use something of them.
    leaves_waste: bool,
}

impl Store {
    /// Removes snapshots, index files and packs that only deleted backups needed, once `grace` has passed since the
    /// deletion and no backup runs in the vault. Only the server that claimed the store may.
    pub fn reclaim(&self, server_id: &str, grace: Duration, control: &Control) -> Result<ReclaimReport> {
        let mut report = ReclaimReport::default();
        self.check_owner(server_id)?;
        let Some(looks) = self.look(&mut report)? else { return Ok(report) };
        let mut vaults: BTreeMap<&str, Doomed<'_>> = BTreeMap::new();
        for item in &looks.deleted {
            let (_, record) = item;
            let vault = record.vault.as_str();
            let doomed =
                vaults.entry(vault).or_insert(Doomed { vault, due: Vec::new(), within_grace: Vec::new() });
            // A deletion that died half-way: its entry is there, and tells itself what it needs.
            if looks.is_incomplete(record) {
                report.waiting.push(format!(
                    "the deletion of backup '{}' was not completed; it is still in the catalogue",
                    record.name
                ));
                continue;
            }
            match looks.hindrance(record, grace) {
                None => doomed.due.push(item),
                Some(why) => {
                    doomed.within_grace.push(record);
                    report.waiting.push(why);
                }
            }
        }
        for doomed in vaults.values().filter(|doomed| !doomed.due.is_empty()) {
            if doomed.vault.is_empty() {
                self.forget_damaged(doomed)?;
                continue;
            }
            match self.plan(doomed, &looks)? {
                Err(why) => report.waiting.push(why),
                Ok((plan, notes)) => {
                    report.waiting.extend(notes);
                    self.check_owner(server_id)?;
                    self.carry_out(doomed.vault, plan, control, &mut report)?;
                }
            }
        }
        self.sweep(&looks)?;
        Ok(report)
    }

    fn check_owner(&self, server_id: &str) -> Result<()> {
        match self.owner()? {
            Some(owner) if owner.server == server_id => Ok(()),
            other => {
                let who =
                    other.map_or_else(|| "nobody".to_owned(), |owner| format!("server '{}'", owner.server));
                let message = format!(
                    "the right to delete in the store '{}' belongs to {who}; this server does not reclaim space there",
                    self.identity().name
                );
                Err(Error::new(Kind::Forbidden, message))
            }
        }
    }

    /// The looks in their order; `None`, with the reason in the report, if one is not complete.
    fn look(&self, report: &mut ReclaimReport) -> Result<Option<Looks>> {
        let (deleted, damaged) = self.deleted_records()?;
        let deleted_damaged = !damaged.is_empty();
        for finding in &damaged {
            report
                .waiting
                .push(format!("'{}' is damaged ({}); its packs stay", finding.file, finding.problem));
        }
        let groups = self.group_ids()?;
        let first = self.catalogue()?;
        let (running, damaged_running) = self.running_records()?;
        let second = self.catalogue()?;
        let stop = first.findings.iter().chain(&damaged_running).chain(&second.findings).next();
        if let Some(finding) = stop {
            report.waiting.push(format!(
                "'{}' cannot be read ({}), so what it needs is not known; nothing is removed until it is repaired or deleted",
                finding.file, finding.problem
            ));
            return Ok(None);
        }
        // A backup that committed and died before it removed its record runs no more, deleted meanwhile or not.
        let committed: HashSet<&String> = second
            .entries
            .iter()
            .map(|entry| &entry.run)
            .chain(deleted.iter().map(|(_, record)| &record.run).filter(|run| !run.is_empty()))
            .collect();
        let (over, running): (Vec<_>, Vec<_>) =
            running.into_iter().partition(|record| committed.contains(&record.run));
        for record in over {
            // Another run of the same job, like a compaction, may have taken its place.
            if self.still_running(&record).is_ok() {
                self.storage().delete(&layout::running_key(&record.job_id)).map_err(failure::storage)?;
            }
        }
        Ok(Some(Looks { deleted, groups, first, running, second, deleted_damaged }))
    }

    /// Deletions of entries that were damaged: nothing is known of what they named.
    fn forget_damaged(&self, doomed: &Doomed<'_>) -> Result<()> {
        for (key, _) in &doomed.due {
            self.storage().delete(key).map_err(failure::storage)?;
        }
        Ok(())
    }

    /// What may go in a vault, with notes on what stays; or why nothing may.
    fn plan(
        &self,
        doomed: &Doomed<'_>,
        looks: &Looks,
    ) -> Result<std::result::Result<(Plan, Vec<String>), String>> {
        let vault = doomed.vault;
        if let Some(record) = looks.running.iter().find(|record| record.vault == vault) {
            return Ok(Err(format!(
                "the backup '{}' (job {}, server '{}') is at work in the vault {vault}",
                record.backup, record.job_id, record.server
            )));
        }
        if let Some(why) = self.fresh_lock(vault)? {
            return Ok(Err(why));
        }
        let entries: Vec<&CatalogueEntry> = looks.entries().filter(|entry| entry.vault == vault).collect();
        if let Some(why) = self.strange_snapshot(doomed, &entries)? {
            return Ok(Err(why));
        }
        let living_ids: BTreeSet<&String> = entries
            .iter()
            .flat_map(|entry| &entry.groups)
            .chain(doomed.within_grace.iter().flat_map(|record| &record.groups))
            .collect();
        let dead_ids: BTreeSet<&String> =
            doomed.due.iter().flat_map(|(_, r)| &r.groups).filter(|id| !living_ids.contains(id)).collect();
        // A compaction that died may have named groups that it never came to write.
        let named_by_entries: BTreeSet<&String> = entries.iter().flat_map(|entry| &entry.groups).collect();
        let compacted: BTreeSet<&String> = doomed
            .within_grace
            .iter()
            .filter(|record| record.cause == Cause::Compaction)
            .flat_map(|record| &record.groups)
            .filter(|id| !named_by_entries.contains(id))
            .collect();
        let mut living = Vec::new();
        for id in &living_ids {
            match self.group(id)? {
                FoundGroup::Good(group) => living.push(group),
                FoundGroup::Missing if compacted.contains(id) => {}
                // Within its grace, a deletion's groups may have been removed by nobody but us, before.
                _ => {
                    return Ok(Err(format!(
                        "'{}' is missing or damaged, and a backup needs it",
                        layout::group_key(id)
                    )));
                }
            }
        }
        let mut dead = BTreeMap::new();
        for id in dead_ids {
            match self.group(id)? {
                FoundGroup::Good(group) => drop(dead.insert(id.clone(), group)),
                FoundGroup::Missing => {}
                FoundGroup::Damaged(why) => {
                    return Ok(Err(format!(
                        "'{}' is damaged ({why}); its packs stay",
                        layout::group_key(id)
                    )));
                }
            }
        }
        let leaves_waste = doomed.due.iter().any(|(_, record)| {
            let mut old = record.groups.iter().filter(|id| !record.successors.contains(id));
            record.cause != Cause::Unfinished && old.any(|id| living_ids.contains(id))
        });
        let there = self.index_files(vault)?;
        let (plan, notes) = Plan::of(doomed, &entries, &living, dead, &there);
        Ok(Ok((Plan { leaves_waste, ..plan }, notes)))
    }

    fn index_files(&self, vault: &str) -> Result<HashSet<Id>> {
        let listed =
            self.storage().list_all(&layout::vault_key(vault, "index/")).map_err(failure::storage)?;
        Ok(listed.iter().filter_map(|entry| id_of(&entry.key)).collect())
    }

    fn fresh_lock(&self, vault: &str) -> Result<Option<String>> {
        let locks = self.storage().list_all(&layout::vault_key(vault, "locks/")).map_err(failure::storage)?;
        let fresh = locks.iter().find(|lock| {
            let age = lock.modified.and_then(|at| SystemTime::now().duration_since(at).ok());
            lock.size > 0 && age.is_none_or(|age| age < LOCK_FRESH)
        });
        Ok(fresh
            .map(|lock| format!("'{}' is fresh: somebody works in the vault with the passcode", lock.key)))
    }

    fn strange_snapshot(&self, doomed: &Doomed<'_>, entries: &[&CatalogueEntry]) -> Result<Option<String>> {
        let mut known: HashSet<Id> = entries.iter().flat_map(|entry| entry.snapshots()).collect();
        known.extend(doomed.due.iter().flat_map(|(_, record)| &record.snapshots));
        known.extend(doomed.within_grace.iter().flat_map(|record| &record.snapshots));
        let prefix = layout::vault_key(doomed.vault, "snapshots/");
        let listed = self.storage().list_all(&prefix).map_err(failure::storage)?;
        let strange = listed.iter().find(|entry| id_of(&entry.key).is_some_and(|id| !known.contains(&id)));
        Ok(strange.map(|entry| {
            format!(
                "'{}' belongs to no backup of the catalogue and may need any pack; \
                 the next backup in the vault removes it if a killed one left it",
                entry.key
            )
        }))
    }

    fn has_unnamed_snapshot(&self, vault: &str, looks: &Looks) -> Result<bool> {
        let mut known: HashSet<Id> = looks.entries().flat_map(CatalogueEntry::snapshots).collect();
        known.extend(looks.deleted.iter().flat_map(|(_, record)| record.snapshots.iter().copied()));
        let listed =
            self.storage().list_all(&layout::vault_key(vault, "snapshots/")).map_err(failure::storage)?;
        Ok(listed.iter().any(|entry| id_of(&entry.key).is_some_and(|id| !known.contains(&id))))
    }

    fn carry_out(
        &self,
        vault: &str,
        plan: Plan,
        control: &Control,
        report: &mut ReclaimReport,
    ) -> Result<()> {
        let delete = |key: &str| self.storage().delete(key).map_err(failure::storage);
        let check = || control.check().map_err(|e| failure::engine("space is no longer reclaimed", e));
        for id in &plan.snapshots {
            check()?;
            delete(&layout::vault_key(vault, &format!("snapshots/{id}")))?;
        }
        for id in &plan.indexes {
            check()?;
            delete(&layout::vault_key(vault, &format!("index/{id}")))?;
        }
        for (id, size) in &plan.packs {
            check()?;
            delete(&layout::vault_key(vault, &layout::pack_file(*id)))?;
            report.packs += 1;
            report.bytes += size;
        }
        for id in &plan.groups {
            delete(&layout::group_key(id))?;
        }
        if plan.leaves_waste {
            self.mark_waste(vault)?;
        }
        for key in &plan.records {
            delete(key)?;
        }
        Ok(())
    }

    /// Groups of backups that died before their commit, and entries that were void from the start. Their packs are
    /// not touched: the next backup in the vault takes over what is in no group.
    fn sweep(&self, looks: &Looks) -> Result<()> {
        if !looks.running.is_empty() || looks.deleted_damaged {
            return Ok(());
        }
        let mut named: BTreeSet<&String> = looks.entries().flat_map(|entry| &entry.groups).collect();
        named.extend(looks.deleted.iter().flat_map(|(_, record)| &record.groups));
        let unnamed: Vec<&String> = looks.groups.iter().filter(|id| !named.contains(id)).collect();
        // What a deleted entry named that was damaged is not lost but given up.
        let of_damaged = looks.deleted.iter().any(|(_, record)| record.vault.is_empty());
        let lost = if unnamed.is_empty() || of_damaged { Vec::new() } else { self.lost_groups()? };
        for id in unnamed {
            // Of a backup whose entry is lost: what tells of it stays for as long as it can be restored.
            if let Some((_, vault)) = lost.iter().find(|(lost, _)| lost == id)
                && self.has_unnamed_snapshot(vault, looks)?
            {
                continue;
            }
            self.storage().delete(&layout::group_key(id)).map_err(failure::storage)?;
        }
        for void in &looks.first.void {
            if self.backup_even_void(&void.name)?.is_some_and(|there| there.run == void.run) {
                self.storage().delete(&layout::backup_key(&void.name)).map_err(failure::storage)?;
            }
        }
        Ok(())
    }
}

impl Looks {
    /// All entries of both looks.
    fn entries(&self) -> impl Iterator<Item = &CatalogueEntry> {
        self.first.entries.iter().chain(&self.second.entries)
    }

    fn is_incomplete(&self, record: &DeletedRecord) -> bool {
        self.entries().any(|entry| !record.run.is_empty() && entry.run == record.run)
    }

    /// Why this deletion is not due yet.
    fn hindrance(&self, record: &DeletedRecord, grace: Duration) -> Option<String> {
        if record.cause == Cause::Unfinished {
            return None;
        }
        let age = now_ms().saturating_sub(record.deleted_at);
        let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
        if age < 0 {
            return Some(format!(
                "{} was given up at a time that is still to come by this server's clock; one of the clocks is wrong",
                record.what()
            ));
        }
        (age < grace_ms)
            .then(|| format!("the space of {} is kept for {} s more", record.what(), (grace_ms - age) / 1000))
    }
}

impl Plan {
    fn of(
        doomed: &Doomed<'_>,
        entries: &[&CatalogueEntry],
        living: &[Group],
        dead: BTreeMap<String, Group>,
        index_files: &HashSet<Id>,
    ) -> (Plan, Vec<String>) {
        let mut plan = Plan::default();
        let mut notes = Vec::new();
        let mut kept_snapshots: HashSet<Id> = entries.iter().flat_map(|entry| entry.snapshots()).collect();
        kept_snapshots.extend(doomed.within_grace.iter().flat_map(|record| &record.snapshots));
        let mut kept_packs: HashSet<Id> =
            living.iter().flat_map(|group| group.packs.keys().copied()).collect();
        let kept_indexes: HashSet<Id> =
            living.iter().flat_map(|group| group.indexes.keys().copied()).collect();
        // Packs that an index file of the living lists, one that is really there.
        let listed =
            living.iter().flat_map(|group| &group.indexes).filter(|(id, _)| index_files.contains(id));
        let mut listed: HashSet<Id> = listed.flat_map(|(_, packs)| packs.iter().copied()).collect();
        // An index file stays if no other one lists a pack which is needed, and with it all packs that it speaks of. That
        // may reach further index files in turn, so go round until nothing changes.
        let mut held_indexes: HashSet<Id> = HashSet::new();
        loop {
            let held_before = held_indexes.len();
            for (id, packs) in dead.values().flat_map(|group| &group.indexes) {
                let needed = |pack: &Id| kept_packs.contains(pack) && !listed.contains(pack);
                let holds = kept_indexes.contains(id) || packs.iter().any(needed);
                if holds && held_indexes.insert(*id) {
                    kept_packs.extend(packs);
                    listed.extend(packs);
                }
            }
            if held_indexes.len() == held_before {
                break;
            }
        }
        let mut held_groups = BTreeSet::new();
        for (group_id, group) in dead {
            let holds = |id: &Id| held_indexes.contains(id) && !kept_indexes.contains(id);
            if group.indexes.keys().any(holds) {
                held_groups.insert(group_id);
            } else {
                plan.groups.push(group_id);
            }
            plan.indexes.extend(group.indexes.into_keys().filter(|id| !held_indexes.contains(id)));
            plan.packs.extend(group.packs.into_iter().filter(|(id, _)| !kept_packs.contains(id)));
        }
        for (key, record) in &doomed.due {
            plan.snapshots.extend(record.snapshots.iter().filter(|id| !kept_snapshots.contains(id)));
            if record.groups.iter().any(|id| held_groups.contains(id)) {
                notes.push(format!(
                    "an index file of {} alone speaks of packs that another backup needs; it goes with that backup",
                    record.what()
                ));
            } else {
                plan.records.push(key.clone());
            }
        }
        (plan, notes)
    }
}
