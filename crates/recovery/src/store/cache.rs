//! What was read of a store's catalogue, kept so that a look reads only what is new.
//!
//! Each look lists the catalogue and the revocations; a listing is never kept. An entry whose stamp and size are those of
//! before is not read again ([`storage::Stamp`]), all others are, several at a time. What comes out is [`Listed`]: enough to
//! show, too little to act on. Whoever deletes, restores, reclaims or commits reads entries themselves.
//!
//! A backup of one component takes some 1.2 KiB here; what is beyond [`BYTES_MAX`] is read anew at each look.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem::size_of;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use repository::Finding;
use sha2::{Digest, Sha256};
use storage::Stamp;

use super::catalogue::CatalogueEntry;
use super::groups::FoundGroup;
use super::{Store, failure, layout, parallel};
use crate::names::name_key;
use crate::{BackupView, Result};

/// Of one store: some 50,000 backups.
const BYTES_MAX: usize = 64 << 20;
/// So many new entries are read by one look for all that come meanwhile.
const MANY: usize = 16;
/// An allocation takes so much more than what was asked for.
const ALLOCATION: usize = 16;

/// A backup as lists show it.
#[derive(Debug)]
pub(crate) struct Listed {
    /// Without its warnings, which are counted alone.
    pub view: Arc<BackupView>,
    /// By which names are told apart.
    pub name_key: String,
    run: String,
    groups: Vec<String>,
    /// No other one that was ever read has it.
    number: u64,
}

/// What a look saw.
#[derive(Debug, Default)]
pub(crate) struct Look {
    /// What is in the catalogue, in no special order.
    pub backups: Vec<Arc<Listed>>,
    /// Files that are not intact entries.
    pub findings: Vec<Finding>,
}

/// The caches of all registered stores.
#[derive(Debug, Default)]
pub(crate) struct Caches(Mutex<HashMap<String, (String, Arc<CatalogueCache>)>>);

impl Caches {
    /// That of the store of this name and identity. What was kept of another one of that name is forgotten.
    pub fn of(&self, name: &str, identity: &str) -> Arc<CatalogueCache> {
        let mut caches = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = caches.entry(name.to_owned()).or_default();
        if kept.0 != identity {
            *kept = (identity.to_owned(), Arc::default());
        }
        kept.1.clone()
    }

    /// Frees what was kept of a store that is registered no more.
    pub fn forget(&self, name: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }
}

/// The cache of one store.
#[derive(Debug, Default)]
pub(crate) struct CatalogueCache {
    kept: Mutex<Kept>,
    /// Held by a look that reads many entries, so that those who come meanwhile do not read the same.
    reading: Mutex<()>,
}

#[derive(Debug, Default)]
struct Kept {
    entries: HashMap<String, KeptEntry>,
    bytes: usize,
    stored: Option<Stored>,
}

/// Bytes that the packs of some groups take together.
#[derive(Clone, Copy, Debug)]
struct Stored {
    /// The entries that named them.
    entries: Numbers,
    /// The digest of their names.
    groups: [u8; 32],
    bytes: u64,
}

/// Which entries a look saw, in any order: how many, and the sum of their numbers. What is read later has larger ones, so
/// that with as many other entries the sum has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    count: usize,
    sum: u128,
}

impl Numbers {
    fn of(listed: &[Arc<Listed>]) -> Self {
        Self { count: listed.len(), sum: listed.iter().map(|listed| u128::from(listed.number)).sum() }
    }
}

#[derive(Debug)]
struct KeptEntry {
    stamp: Stamp,
    size: u64,
    bytes: usize,
    listed: Arc<Listed>,
}

impl CatalogueCache {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves what is known from `unknown` to `backups`.
    fn take_known(&self, unknown: &mut Vec<&storage::Entry>, backups: &mut Vec<Arc<Listed>>) {
        let kept = self.kept();
        unknown.retain(|entry| match kept.entries.get(&entry.key) {
            Some(known) if Some(known.stamp) == entry.stamp && known.size == entry.size => {
                backups.push(known.listed.clone());
                false
            }
            _ => true,
        });
    }

    /// Whether there was room for it.
    fn keep(&self, entry: &storage::Entry, listed: &Arc<Listed>) -> bool {
        let (Some(stamp), mut kept) = (entry.stamp, self.kept()) else { return false };
        kept.remove(&entry.key);
        let bytes = listed.bytes() + size_of::<KeptEntry>() + entry.key.len() + 2 * ALLOCATION;
        let has_room = kept.bytes + bytes <= BYTES_MAX;
        if has_room {
            kept.bytes += bytes;
            let known = KeptEntry { stamp, size: entry.size, bytes, listed: listed.clone() };
            kept.entries.insert(entry.key.clone(), known);
        }
        has_room
    }

    /// Forgets what the catalogue does not list any more. Of what it lists, so many entries are kept.
    fn retain(&self, listed: &[storage::Entry], held: usize) {
        let mut kept = self.kept();
        if kept.entries.len() == held {
            return;
        }
        let listed: HashSet<&str> = listed.iter().map(|entry| entry.key.as_str()).collect();
        let gone: Vec<String> =
            kept.entries.keys().filter(|key| !listed.contains(key.as_str())).cloned().collect();
        for key in gone {
            kept.remove(&key);
        }
    }
}

impl Kept {
    fn remove(&mut self, key: &str) {
        if let Some(known) = self.entries.remove(key) {
            self.bytes -= known.bytes;
        }
    }
}

impl Listed {
    /// What lists show of this entry.
    pub fn of(entry: CatalogueEntry, store_name: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut view = entry.view(store_name);
        view.warnings = Vec::new();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (run, groups) = (entry.run, entry.groups);
        Self { name_key: name_key(&view.name), view: Arc::new(view), run, groups, number }
    }

    /// What it takes in memory, a little more rather than less.
    fn bytes(&self) -> usize {
        let text = |text: &String| text.capacity() + ALLOCATION;
        let view = &self.view;
        let texts = [
            &view.name,
            &view.store,
            &view.description,
            &view.release,
            &view.site_name,
            &view.status,
            &view.schedule_type,
            &view.vault,
            &view.job_id,
            &self.name_key,
            &self.run,
        ];
        let components = view.components.iter().map(|component| {
            let texts = [&component.name, &component.place, &component.snapshot_id, &component.status];
            size_of_val(component) + texts.into_iter().map(text).sum::<usize>()
        });
        let groups = self.groups.iter().map(|group| size_of_val(group) + text(group));
        size_of::<Self>()
            + size_of::<BackupView>()
            + texts.into_iter().map(text).sum::<usize>()
            + components.sum::<usize>()
            + groups.sum::<usize>()
            + 4 * ALLOCATION
    }
}

impl Store {
    /// A complete look at the catalogue, as lists show it.
    pub(crate) fn listed(&self, cache: &CatalogueCache, store_name: &str) -> Result<Look> {
        let mut all = Vec::new();
        let mut note = |entry| {
            all.push(entry);
            Ok(())
        };
        self.storage().list(layout::BACKUPS, &mut note).map_err(failure::storage)?;
        let mut unknown: Vec<&storage::Entry> = all.iter().collect();
        let mut look = Look { backups: Vec::with_capacity(all.len()), findings: Vec::new() };
        cache.take_known(&mut unknown, &mut look.backups);
        let _one = if unknown.len() > MANY {
            let one = cache.reading.lock().unwrap_or_else(PoisonError::into_inner);
            cache.take_known(&mut unknown, &mut look.backups);
            Some(one)
        } else {
            None
        };
        let mut held = look.backups.len();
        let read = parallel::each(self.storage().as_ref(), &unknown, |entry| {
            Ok(match self.read_entry(&entry.key)? {
                None => None,
                Some(Ok((found, ..))) => Some(Ok(Arc::new(Listed::of(found, store_name)))),
                Some(Err(error)) => Some(Err(Finding { file: entry.key.clone(), problem: error.message })),
            })
        })?;
        for (entry, found) in unknown.iter().zip(read) {
            match found {
                None => {}
                Some(Ok(listed)) => {
                    held += usize::from(cache.keep(entry, &listed));
                    look.backups.push(listed);
                }
                // Read again each time: a disk may have failed for a moment.
                Some(Err(finding)) => look.findings.push(finding),
            }
        }
        cache.retain(&all, held);
        // After the entries, as `catalogue` does.
        let revoked = self.revoked()?;
        look.backups.retain(|listed| !revoked.contains(&listed.run));
        Ok(look)
    }

    /// Bytes of all packs that these backups need. Counted anew only once there are other entries, and read anew only once
    /// these name other groups.
    pub(crate) fn bytes_stored(&self, cache: &CatalogueCache, look: &Look) -> Result<u64> {
        let entries = Numbers::of(&look.backups);
        if let Some(known) = cache.kept().stored.filter(|known| known.entries == entries) {
            return Ok(known.bytes);
        }
        let groups: BTreeSet<&String> = look.backups.iter().flat_map(|listed| &listed.groups).collect();
        let groups: Vec<&String> = groups.into_iter().collect();
        let mut digest = Sha256::new();
        groups.iter().for_each(|group| digest.update(group.as_bytes()));
        let digest: [u8; 32] = digest.finalize().into();
        if let Some(known) = &mut cache.kept().stored
            && known.groups == digest
        {
            known.entries = entries;
            return Ok(known.bytes);
        }
        let mut packs = HashMap::new();
        let mut whole = true;
        for some in groups.chunks(256) {
            for found in parallel::each(self.storage().as_ref(), some, |group| self.group(group))? {
                match found {
                    FoundGroup::Good(group) => packs.extend(group.packs),
                    _ => whole = false,
                }
            }
        }
        let bytes = packs.values().sum();
        if whole {
            cache.kept().stored = Some(Stored { entries, groups: digest, bytes });
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
