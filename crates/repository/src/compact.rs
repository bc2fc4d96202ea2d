//! Compaction for a caller that keeps its own account of packs and removes them later by its own rules.
//!
//! [`survey`] tells which blobs some snapshots need and gives each of them one pack as its home; [`Survey::store_anew`]
//! puts what is left of half-empty packs into new ones and lists new and kept packs in new index files. Sealed bytes are
//! stored as they are, after they opened and hashed right. Nothing is removed here.
//!
//! In memory are sums for each pack, a bit for each blob, and the homes of blobs that lie in several packs.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;

use crate::file::{self, Folder};
use crate::index::{Bits, BlobText, Entry, PackText};
use crate::pack::{BlobKind, PackedBlob, pack_key};
use crate::pack_writer::PackWriter;
use crate::repository::Opener;
use crate::tree::visit_references;
use crate::uploaders::with_uploaders;
use crate::walk::each_tree;
use crate::{Control, Error, Id, Index, Repository, Result, lock_mutex, parallel};

/// Threads that read packs, each with what it keeps of one pack in memory.
const READERS: usize = 2;
/// About so many blobs are moved or listed in one go; for each the index is gone through once.
const BATCH_BLOBS: u64 = 500_000;

/// What some snapshots need of the packs of a repository.
pub struct Survey<'a> {
    index: &'a Index,
    /// One bit for each needed blob.
    needed: Bits,
    /// Pack and offset of needed blobs that lie in several packs.
    homes: HashMap<u64, (u32, u32)>,
    packs: Vec<SurveyedPack>,
}

/// One pack, as the index has it.
#[derive(Clone, Debug, Default)]
pub struct SurveyedPack {
    /// Bytes of all blobs in it.
    pub blob_bytes: u64,
    /// Bytes of the blobs that have their home here.
    pub kept_bytes: u64,
    /// Other packs, in which needed blobs have their home that lie here too.
    pub elsewhere: BTreeSet<Id>,
    kept_count: u64,
}

/// What was stored.
#[derive(Debug, Default)]
pub struct StoredAnew {
    /// New packs, with their sizes.
    pub packs: Vec<(Id, u64)>,
    /// New index files, each with the packs that it lists.
    pub indexes: Vec<(Id, Vec<Id>)>,
    /// Packs that could not be read whole: nothing was taken from them, and the new index files list them as they are.
    pub unreadable: Vec<Id>,
}

/// Looks through all trees of `snapshots` and gives each blob that they need a home: of the packs that `rank` allows, the
/// one that it ranks lowest. Where a blob lies in several, only a copy that was read and is right becomes its home.
///
/// `Damaged` if a needed blob, tree or snapshot cannot be found.
pub fn survey<'a>(
    repository: &Repository,
    index: &'a Index,
    snapshots: &[Id],
    rank: &dyn Fn(Id) -> Option<u64>,
    control: &Control,
) -> Result<Survey<'a>> {
    let needed = needed_blobs(repository, index, snapshots, control)?;
    let ranks: Vec<Option<u64>> =
        (0..index.pack_count() as u32).map(|pack| rank(index.pack_id(pack))).collect();
    let mut packs = vec![SurveyedPack::default(); index.pack_count()];
    let mut homes = HashMap::new();
    let mut opener = Opener::new()?;
    index.blobs(&mut |number, copies| {
        for copy in copies {
            packs[copy.pack as usize].blob_bytes += u64::from(copy.place().length);
        }
        if !needed.is_set(number) {
            return Ok(());
        }
        control.check()?;
        let home = home(repository, index, copies, &ranks, &mut opener)?;
        if copies.len() > 1 {
            homes.insert(number, (home.pack, home.place().offset));
        }
        for copy in copies.iter().filter(|copy| copy.pack != home.pack) {
            packs[copy.pack as usize].elsewhere.insert(index.pack_id(home.pack));
        }
        let pack = &mut packs[home.pack as usize];
        pack.kept_bytes += u64::from(home.place().length);
        pack.kept_count += 1;
        Ok(())
    })?;
    Ok(Survey { index, needed, homes, packs })
}

fn needed_blobs(repository: &Repository, index: &Index, snapshots: &[Id], control: &Control) -> Result<Bits> {
    let needed = Bits::new(index.blob_count());
    let need = |kind, id: &Id| match index.first(kind, id)? {
        Some((number, _)) => {
            needed.set(number);
            Ok(())
        }
        None => Err(Error::damaged(format!("blob {id}"), "a backup needs it, and it is in no index")),
    };
    let mut roots = Vec::new();
    for id in snapshots {
        roots.push(repository.snapshot(*id)?.tree);
    }
    each_tree(repository, index, roots, control, &|tree, text, below| {
        need(BlobKind::Tree, &tree)?;
        visit_references(tree, &text?, &mut |entry| {
            below.extend(entry.subtree);
            entry.content.iter().flatten().try_for_each(|id| need(BlobKind::Data, id))
        })
    })?;
    Ok(needed)
}

fn home<'e>(
    repository: &Repository,
    index: &Index,
    copies: &'e [Entry],
    ranks: &[Option<u64>],
    opener: &mut Opener,
) -> Result<&'e Entry> {
    let mut allowed: Vec<(u64, &Entry)> = copies
        .iter()
        .filter_map(|copy| Some((ranks.get(copy.pack as usize).copied().flatten()?, copy)))
        .collect();
    allowed.sort_by_key(|(rank, copy)| (*rank, copy.pack, copy.place().offset));
    let mut plain = Vec::new();
    for (_, copy) in allowed {
        if copies.len() == 1
            || read(repository, index.pack_id(copy.pack), &copy.packed(), opener, &mut plain)?.is_ok()
        {
            return Ok(copy);
        }
    }
    let problem = "a backup needs it, and no pack that may be used has a whole copy; run 'check'";
    Err(Error::damaged(format!("blob {}", copies[0].id), problem))
}

/// The sealed bytes of a blob, known to be right; or what is wrong with them.
fn read(
    repository: &Repository,
    pack: Id,
    blob: &PackedBlob,
    opener: &mut Opener,
    plain: &mut Vec<u8>,
) -> Result<std::result::Result<Vec<u8>, String>> {
    let range = u64::from(blob.offset)..u64::from(blob.offset) + u64::from(blob.length);
    let sealed = match repository.storage().get_range(&pack_key(pack), range) {
        Ok(sealed) => sealed,
        Err(e) if matches!(e.kind, storage::ErrorKind::NotFound | storage::ErrorKind::Short) => {
            return Ok(Err(e.to_string()));
        }
        Err(e) => return Err(e.into()),
    };
    Ok(opener.open(repository.key(), &sealed, blob.uncompressed, blob.id, plain).map(|()| sealed))
}

impl Survey<'_> {
    /// All packs that the index knows.
    pub fn packs(&self) -> impl Iterator<Item = (Id, &SurveyedPack)> {
        self.packs.iter().zip(0u32..).map(|(pack, number)| (self.index.pack_id(number), pack))
    }

    /// Stores what has its home in the packs `half_empty` in new packs, and lists these and the packs `whole`, as they
    /// are, in new index files.
    pub fn store_anew(
        &self,
        repository: &Repository,
        half_empty: &[Id],
        whole: &[Id],
        control: &Arc<Control>,
    ) -> Result<StoredAnew> {
        let writer = PackWriter::new(repository, control);
        let unreadable = Mutex::new(Vec::new());
        with_uploaders(&writer, || {
            for batch in self.batches(half_empty, &|pack| pack.kept_count) {
                self.move_blobs(repository, &batch, control, &writer, &unreadable)?;
            }
            Ok(())
        })?;
        let unreadable = unreadable.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !writer.has_failed() {
            let listed: Vec<Id> = whole.iter().chain(&unreadable).copied().collect();
            self.list(&listed, &writer)?;
        }
        let written = writer.finish()?;
        let mut indexes = Vec::new();
        for id in written.indexes {
            indexes.push((id, packs_of_index(repository, id)?));
        }
        Ok(StoredAnew { packs: written.packs, indexes, unreadable })
    }

    /// Known packs, so many at a time that they have about as many blobs as fit into memory.
    fn batches(&self, packs: &[Id], blobs: &dyn Fn(&SurveyedPack) -> u64) -> Vec<HashSet<u32>> {
        let (mut batches, mut count) = (vec![HashSet::new()], 0);
        for number in packs.iter().filter_map(|id| self.index.pack_number(id)) {
            if count >= BATCH_BLOBS {
                batches.push(HashSet::new());
                count = 0;
            }
            count += blobs(&self.packs[number as usize]);
            if let Some(batch) = batches.last_mut() {
                batch.insert(number);
            }
        }
        batches
    }

    fn list(&self, packs: &[Id], writer: &PackWriter<'_>) -> Result<()> {
        // 100 bytes are about the least that a blob has.
        for batch in self.batches(packs, &|pack| pack.blob_bytes / 100) {
            let ids: HashSet<Id> = batch.iter().map(|number| self.index.pack_id(*number)).collect();
            for (id, blobs) in self.index.blobs_of(&ids)? {
                writer.list(PackText { id, blobs: blobs.iter().map(BlobText::from).collect() })?;
            }
        }
        Ok(())
    }

    fn move_blobs(
        &self,
        repository: &Repository,
        batch: &HashSet<u32>,
        control: &Control,
        writer: &PackWriter<'_>,
        unreadable: &Mutex<Vec<Id>>,
    ) -> Result<()> {
        let mut kept: Vec<(u32, PackedBlob)> = Vec::new();
        self.index.blobs(&mut |number, copies| {
            if self.needed.is_set(number) {
                let home = self.homes.get(&number);
                let is_home = |copy: &&Entry| home.is_none_or(|at| *at == (copy.pack, copy.place().offset));
                let here = copies.iter().find(is_home).filter(|copy| batch.contains(&copy.pack));
                kept.extend(here.map(|copy| (copy.pack, copy.packed())));
            }
            Ok(())
        })?;
        kept.sort_unstable_by_key(|(pack, blob)| (*pack, blob.offset));
        let packs: Vec<&[(u32, PackedBlob)]> = kept.chunk_by(|a, b| a.0 == b.0).collect();
        let next = AtomicUsize::new(0);
        parallel(READERS, packs.len(), || {
            let (mut opener, mut plain) = (Opener::new()?, Vec::new());
            while let Some(blobs) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
                control.check()?;
                if writer.has_failed() {
                    return Ok(());
                }
                let id = self.index.pack_id(blobs[0].0);
                let mut sealed = Vec::with_capacity(blobs.len());
                for (_, blob) in *blobs {
                    match read(repository, id, blob, &mut opener, &mut plain)? {
                        Ok(bytes) => sealed.push((blob, bytes)),
                        Err(_) => break,
                    }
                }
                if sealed.len() < blobs.len() {
                    lock_mutex(unreadable).push(id);
                    continue;
                }
                for (blob, bytes) in sealed {
                    writer.add(blob.kind, blob.id, &bytes, blob.uncompressed)?;
                }
            }
            Ok(())
        })
    }
}

/// The packs that an index file lists, read back from the store.
fn packs_of_index(repository: &Repository, id: Id) -> Result<Vec<Id>> {
    #[derive(Deserialize)]
    struct Text {
        packs: Vec<Pack>,
    }
    #[derive(Deserialize)]
    struct Pack {
        id: Id,
    }
    let text = file::read_text(repository.storage(), repository.key(), Folder::Index, id)?;
    let text: Text = serde_json::from_slice(&text).map_err(|e| Error::damaged(Folder::Index.key(id), e))?;
    Ok(text.packs.into_iter().map(|pack| pack.id).collect())
}
