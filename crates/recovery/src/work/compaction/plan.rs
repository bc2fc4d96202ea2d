//! Which packs of a vault are worth compacting, which new groups come of it, and what each entry names then. Plain
//! reckoning, without a store.
//!
//! A pack is *chosen* if too much of it is waste. The groups that list a chosen pack are *old*: they are given up, and
//! what is left of them goes into new groups, one for all old groups that the same entries name. So the groups of a
//! backup still go whole, without the passcode, as soon as no other backup needs anything of them.
//!
//! What must hold: for each blob that a backup needs, the pack that is its home is in a group that its entry names.
//! An entry named the groups with all copies that it needed. So it is enough to follow what becomes of each copy: it
//! stays where it is, or it goes, and then the entry also names a group with the blob's home.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use repository::Id;

use super::Limits;
use crate::store::groups::Group;
use crate::store::layout;

/// What is known of one pack of the index.
#[derive(Clone, Debug, Default)]
pub(super) struct Pack {
    /// Bytes of all blobs in it.
    pub blob_bytes: u64,
    /// Bytes of blobs that have their home here.
    pub kept_bytes: u64,
    /// The homes of needed blobs that lie here too.
    pub elsewhere: BTreeSet<Id>,
}

/// A vault as it is.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Groups that entries name.
    pub groups: BTreeMap<String, Group>,
    /// For each entry the groups that it names.
    pub entries: Vec<Vec<String>>,
    /// Groups that must stay as they are.
    pub frozen: BTreeSet<String>,
    /// Groups that name packs or index files which are not there.
    pub unsound: BTreeSet<String>,
    /// Packs that are there, with their sizes.
    pub listing: HashMap<Id, u64>,
    /// Packs of the index.
    pub packs: BTreeMap<Id, Pack>,
}

/// What becomes of some old groups together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Class {
    /// The new group.
    pub id: String,
    /// The old ones.
    pub old: BTreeSet<String>,
    /// Packs that stay as they are.
    pub whole: BTreeSet<Id>,
    /// Packs of which something is stored anew.
    pub half_empty: Vec<Id>,
}

impl Class {
    /// Nothing is left: there will be no new group.
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.half_empty.is_empty()
    }
}

/// What to do.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub classes: Vec<Class>,
    /// Nothing worth compacting is left out.
    pub complete: bool,
    /// Bytes that will go.
    pub waste: u64,
    chosen: BTreeSet<Id>,
}

impl Known {
    fn is_there(&self, group: &Group, pack: &Id) -> bool {
        self.listing.get(pack).is_some_and(|size| group.packs.get(pack) == Some(size))
    }

    fn kept_bytes(&self, pack: &Id) -> u64 {
        self.packs.get(pack).map_or(0, |pack| pack.kept_bytes)
    }

    /// Packs of living groups that are there, with size and waste.
    fn living_packs(&self) -> BTreeMap<Id, (u64, u64)> {
        let mut packs = BTreeMap::new();
        for group in self.groups.values() {
            for (id, size) in group.packs.iter().filter(|(id, _)| self.is_there(group, id)) {
                let facts = self.packs.get(id).filter(|facts| facts.kept_bytes > 0);
                let waste = facts.map_or(*size, |facts| facts.blob_bytes.saturating_sub(facts.kept_bytes));
                packs.insert(*id, (*size, waste));
            }
        }
        packs
    }

    /// The packs worth compacting, those with most waste first, until what is left is within the limit.
    fn choose(&self, limits: &Limits) -> (BTreeSet<Id>, u64, bool) {
        let packs = self.living_packs();
        let needed: u64 = packs.keys().map(|id| self.kept_bytes(id)).sum();
        let allowed = needed.saturating_mul(limits.unused_percent_max) / 100;
        let mut left: u64 = packs.values().map(|(_, waste)| waste).sum();
        let bound: BTreeSet<&Id> = self
            .groups
            .iter()
            .filter(|(id, _)| self.frozen.contains(*id))
            .flat_map(|(_, group)| group.packs.keys())
            .collect();
        let mut candidates: Vec<(Id, u64, u64)> = packs
            .iter()
            .filter(|(id, (_, waste))| *waste > 0 && !bound.contains(id))
            .map(|(id, (size, waste))| (*id, *size, *waste))
            .collect();
        candidates.sort_by_key(|(id, size, waste)| {
            (std::cmp::Reverse(u128::from(*waste) * 1_000_000 / u128::from(*size).max(1)), *id)
        });
        let (mut chosen, mut stored, mut gone) = (BTreeSet::new(), 0, 0);
        for (id, _, waste) in candidates {
            if left <= allowed {
                break;
            }
            let kept = self.kept_bytes(&id);
            if stored + kept > limits.stored_bytes_max {
                continue;
            }
            stored += kept;
            gone += waste;
            left -= waste;
            chosen.insert(id);
        }
        (chosen, gone, left <= allowed)
    }

    /// What to do.
    pub fn plan(&self, limits: &Limits) -> Plan {
        let (chosen, waste, complete) = self.choose(limits);
        let is_old = |id: &String, group: &Group| {
            !self.frozen.contains(id)
                && (self.unsound.contains(id) || group.packs.keys().any(|pack| chosen.contains(pack)))
        };
        let mut by_entries: BTreeMap<Vec<usize>, Class> = BTreeMap::new();
        for (id, group) in self.groups.iter().filter(|(id, group)| is_old(id, group)) {
            let named_by = |(number, groups): (usize, &Vec<String>)| groups.contains(id).then_some(number);
            let entries = self.entries.iter().enumerate().filter_map(named_by).collect();
            let class = by_entries.entry(entries).or_default();
            class.old.insert(id.clone());
            let there = group.packs.keys().filter(|pack| self.is_there(group, pack));
            class.whole.extend(there.filter(|pack| !chosen.contains(pack)));
        }
        let mut classes: Vec<Class> = by_entries.into_values().collect();
        for pack in chosen.iter().filter(|pack| self.kept_bytes(pack) > 0) {
            let lists = |class: &&mut Class| self.class_lists(class, pack);
            if let Some(class) = classes.iter_mut().find(lists) {
                class.half_empty.push(*pack);
            }
        }
        for class in &mut classes {
            class.id = layout::new_token();
        }
        Plan { classes, complete, waste, chosen }
    }

    fn class_lists(&self, class: &Class, pack: &Id) -> bool {
        class.old.iter().filter_map(|id| self.groups.get(id)).any(|group| group.packs.contains_key(pack))
    }
}

impl Plan {
    /// Everything that backups need goes into one new group, and every entry names that alone: for a vault in which
    /// another program has moved things about, so that the groups no longer tell what lies where.
    pub fn of_everything(known: &Known) -> Plan {
        let whole = known.packs.iter().filter(|(_, pack)| pack.kept_bytes > 0).map(|(id, _)| *id).collect();
        let class = Class {
            id: layout::new_token(),
            old: known.entries.iter().flatten().cloned().collect(),
            whole,
            half_empty: Vec::new(),
        };
        Plan { classes: vec![class], complete: false, ..Plan::default() }
    }

    /// Some packs turned out to be unreadable: they stay as they are.
    pub fn leave(&mut self, class: usize, unreadable: &[Id]) {
        if let Some(class) = self.classes.get_mut(class) {
            class.half_empty.retain(|pack| !unreadable.contains(pack));
            class.whole.extend(unreadable);
        }
        self.complete &= unreadable.is_empty();
    }

    /// What each entry names then, in the order of `known.entries`; `None` if a blob's home is in no group.
    pub fn names(&self, known: &Known) -> Option<Vec<Vec<String>>> {
        // Where the blobs that have their home in a pack can be found afterwards.
        let mut places: HashMap<Id, BTreeSet<&String>> = HashMap::new();
        for class in &self.classes {
            for pack in class.half_empty.iter().chain(&class.whole) {
                places.entry(*pack).or_default().insert(&class.id);
            }
        }
        for (id, group) in known.groups.iter().filter(|(id, _)| self.class_of(id).is_none()) {
            for pack in group.packs.keys() {
                places.entry(*pack).or_default().insert(id);
            }
        }
        known.entries.iter().map(|named| self.names_of(known, named, &places)).collect()
    }

    fn class_of(&self, group: &String) -> Option<&Class> {
        self.classes.iter().find(|class| class.old.contains(group))
    }

    fn names_of(
        &self,
        known: &Known,
        named: &[String],
        places: &HashMap<Id, BTreeSet<&String>>,
    ) -> Option<Vec<String>> {
        let mut names: BTreeSet<&String> = BTreeSet::new();
        for id in named {
            match self.class_of(id) {
                None => drop(names.insert(id)),
                Some(class) if class.is_empty() => {}
                Some(class) => drop(names.insert(&class.id)),
            }
        }
        for group in named.iter().filter_map(|id| known.groups.get(id)) {
            let goes = |pack: &&Id| self.chosen.contains(pack) || !known.is_there(group, pack);
            for pack in group.packs.keys().filter(goes) {
                let Some(facts) = known.packs.get(pack) else { continue };
                let itself = (facts.kept_bytes > 0).then_some(pack);
                for home in itself.into_iter().chain(&facts.elsewhere) {
                    let places = places.get(home)?;
                    if names.is_disjoint(places) {
                        names.extend(places.first());
                    }
                }
            }
        }
        // In the order in which the entry named them, new ones last, so that what does not change reads the same.
        let mut ordered: Vec<String> = named.iter().filter(|id| names.remove(id)).cloned().collect();
        ordered.extend(names.into_iter().cloned());
        Some(ordered)
    }
}
