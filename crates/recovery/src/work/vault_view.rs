//! What a backup may build on in its vault, and what its own group will list.
//!
//! Looks are made in this order, after the running record exists: catalogue, deletions, their groups, the listing of
//! packs, the index. A pack may be used if the listing has it at the right size and it is not *doomed*: in a group
//! that a deletion names and no entry does. Packs and index files that neither an entry's nor a deletion's group lists
//! (a killed backup left them, or another one is just writing them) are taken over into the new backup's group, so
//! that each of them belongs to a group and goes with it one day.

use std::collections::{BTreeSet, HashMap, HashSet};

use repository::{Id, Index, Repository};

use super::compaction::files_that_speak_of;
use crate::store::groups::{FoundGroup, Group};
use crate::store::vaults::load_index;
use crate::store::{Store, failure};
use crate::{Error, ErrorKind, Result};

/// The vault as a new backup sees it.
pub(super) struct VaultView {
    vault: String,
    /// Packs that may be used, with their sizes; new ones are added as they come.
    usable: HashMap<Id, u64>,
    /// Packs in no group of an entry or deletion.
    free: HashMap<Id, u64>,
    /// Groups that entries name.
    living: Vec<(String, Group)>,
    /// Index files in groups of entries and deletions.
    bound_indexes: HashSet<Id>,
    /// A group that an entry names cannot be read, or a pack that it lists is not there as it should be.
    is_unsound: bool,
}

impl VaultView {
    /// Looks at the vault.
    pub fn load(store: &Store, repository: &Repository, vault: &str) -> Result<VaultView> {
        let catalogue = store.catalogue()?;
        let (deleted, _) = store.deleted_records()?;
        let living_ids: BTreeSet<&String> = catalogue
            .entries
            .iter()
            .filter(|entry| entry.vault == vault)
            .flat_map(|entry| &entry.groups)
            .collect();
        let doomed_ids: BTreeSet<&String> = deleted
            .iter()
            .filter(|(_, record)| record.vault == vault)
            .flat_map(|(_, record)| &record.groups)
            .filter(|id| !living_ids.contains(id))
            .collect();
        let living_count = living_ids.len();
        let living = read_groups(store, living_ids)?;
        let doomed = read_groups(store, doomed_ids)?;
        let listing = list_packs(repository)?;

        let living_packs: HashMap<Id, u64> =
            living.iter().flat_map(|(_, group)| group.packs.iter().map(|(id, size)| (*id, *size))).collect();
        let doomed_packs: HashSet<Id> =
            doomed.iter().flat_map(|(_, group)| group.packs.keys().copied()).collect();
        let bound_indexes =
            living.iter().chain(&doomed).flat_map(|(_, g)| g.indexes.keys().copied()).collect();
        let is_unsound = living.len() < living_count
            || living_packs.iter().any(|(id, size)| listing.get(id) != Some(size));
        let (mut usable, mut free) = (HashMap::new(), HashMap::new());
        for (id, size) in listing {
            match living_packs.get(&id) {
                // A pack of another size than it had is damaged; what it holds is stored again.
                Some(expected) if *expected == size => drop(usable.insert(id, size)),
                Some(_) => {}
                None if doomed_packs.contains(&id) => {}
                None => {
                    usable.insert(id, size);
                    free.insert(id, size);
                }
            }
        }
        Ok(VaultView { vault: vault.to_owned(), usable, free, living, bound_indexes, is_unsound })
    }

    /// The index of what may be used. Packs whose listed size is not the one that the index reckons are left out.
    pub fn index(&mut self, repository: &Repository) -> Result<Index> {
        let index = load_index(repository, &|id| self.usable.contains_key(&id))?;
        let reckoned = index.packs();
        let before = self.usable.len();
        self.usable.retain(|id, size| reckoned.get(id).is_none_or(|expected| expected == size));
        if self.usable.len() == before {
            return Ok(index);
        }
        load_index(repository, &|id| self.usable.contains_key(&id))
    }

    /// Packs that this backup has just written.
    pub fn add(&mut self, packs: &[(Id, u64)]) {
        self.usable.extend(packs.iter().copied());
        self.free.extend(packs.iter().copied());
    }

    /// Whether groups that entries name list files that are not there, or index files that speak of packs which nobody
    /// keeps: something is damaged, or another program worked in the vault, or a compaction died.
    pub fn is_unsound(&self, index: &Index) -> bool {
        let kept: HashSet<&Id> = self.living.iter().flat_map(|(_, group)| group.packs.keys()).collect();
        let is_kept = |pack: &Id| kept.contains(pack) || self.free.contains_key(pack);
        let good = files_that_speak_of(index, &is_kept);
        let mut files = self.living.iter().flat_map(|(_, group)| group.indexes.keys());
        self.is_unsound || !files.all(|id| good.contains(id))
    }

    /// The group of the new backup: what it wrote, and what belongs to no group. `index` was read after that.
    ///
    /// An index file that speaks of a pack which came only after this view, or of one that is about to go, is left to
    /// a later backup: a group has to list all packs of its index files, so that none of these goes too early.
    pub fn group(&self, repository: &Repository, index: &Index) -> Result<Group> {
        let living: HashMap<Id, u64> = self
            .living
            .iter()
            .flat_map(|(_, group)| group.packs.iter().map(|(id, size)| (*id, *size)))
            .collect();
        let mut group = Group { vault: self.vault.clone(), ..Group::default() };
        group.packs.extend(self.free.iter().map(|(id, size)| (*id, *size)));
        let mut listing = None;
        for (id, packs) in index.files().filter(|(id, _)| !self.bound_indexes.contains(id)) {
            let packs: Vec<Id> = packs.collect();
            let mut unknown = packs
                .iter()
                .filter(|pack| !living.contains_key(pack) && !self.free.contains_key(pack))
                .peekable();
            if unknown.peek().is_some() {
                let listing = match &mut listing {
                    Some(listing) => listing,
                    none => none.insert(list_packs(repository)?),
                };
                if unknown.any(|pack| listing.contains_key(pack)) {
                    continue;
                }
            }
            // A living pack that the index file speaks of is listed too: the file must not go before it.
            let shared = packs.iter().filter_map(|pack| Some((*pack, *living.get(pack)?)));
            group.packs.extend(shared);
            let listed = packs.into_iter().filter(|pack| group.packs.contains_key(pack));
            group.indexes.insert(id, listed.collect());
        }
        Ok(group)
    }

    /// The groups that an entry must name so that all packs in `used` are kept; `own` is the new backup's group.
    pub fn groups_of(&self, used: &HashSet<Id>, own_id: &str, own: &Group) -> Result<Vec<String>> {
        let mut named = Vec::new();
        let mut covered: HashSet<Id> = HashSet::new();
        let candidates = self.living.iter().map(|(id, group)| (id.as_str(), group));
        for (id, group) in candidates.chain([(own_id, own)]) {
            let here: Vec<Id> = group.packs.keys().filter(|pack| used.contains(pack)).copied().collect();
            if !here.is_empty() || (id == own_id && !group.is_empty()) {
                named.push(id.to_owned());
                covered.extend(here);
            }
        }
        match used.iter().find(|pack| !covered.contains(pack)) {
            None => Ok(named),
            Some(pack) => {
                let message =
                    format!("the backup needs pack {pack}, which no group lists; it was not completed");
                Err(Error::new(ErrorKind::Internal, message))
            }
        }
    }

    /// Lists all packs once more: every one in `used` must be there, at its size.
    pub fn confirm(&self, repository: &Repository, used: &HashSet<Id>) -> Result<()> {
        let listing = list_packs(repository)?;
        for pack in used {
            let (there, expected) = (listing.get(pack), self.usable.get(pack));
            if there.is_none() || there != expected {
                let message = format!(
                    "pack {pack}, which the backup needs, is not in the vault as it should be ({there:?} bytes, \
                     expected {expected:?}); the backup was not completed. Run it again"
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
        Ok(())
    }
}

fn list_packs(repository: &Repository) -> Result<HashMap<Id, u64>> {
    repository.list_packs().map_err(|e| failure::engine("cannot list the packs of the vault", e))
}

/// Damaged and missing groups are left out: their packs count as being in no group.
fn read_groups(store: &Store, ids: BTreeSet<&String>) -> Result<Vec<(String, Group)>> {
    let mut groups = Vec::new();
    for id in ids {
        match store.group(id)? {
            FoundGroup::Good(group) => groups.push((id.clone(), group)),
            FoundGroup::Missing => {}
            FoundGroup::Damaged(reason) => tracing::warn!(group = %id, reason, "a group of packs is damaged"),
        }
    }
    Ok(groups)
}
