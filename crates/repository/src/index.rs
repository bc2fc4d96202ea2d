//! The index in memory: where each blob lies.
//!
//! Index files are read in parallel, their entries put into one array sorted by blob id (48 bytes an entry), with
//! a table over the first two bytes of the id in front. One blob may lie in several packs; a damaged copy falls
//! back on the next one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use storage::Shared;

use crate::file::{self, Folder};
use crate::pack::{BlobKind, PackedBlob, pack_size};
use crate::seal::SealKey;
use crate::{Error, Id, Result};

/// An index file is closed at so many blobs.
pub(crate) const BLOBS_PER_FILE_MAX: usize = 50_000;

/// JSON of an index file.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct IndexText {
    pub(crate) packs: Vec<PackText>,
    /// rustic's packs that are readable but doomed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) packs_to_delete: Vec<PackText>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct PackText {
    pub(crate) id: Id,
    pub(crate) blobs: Vec<BlobText>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct BlobText {
    id: Id,
    #[serde(rename = "type")]
    kind: BlobKind,
    offset: u32,
    length: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    uncompressed_length: Option<u32>,
}

impl From<&PackedBlob> for BlobText {
    fn from(blob: &PackedBlob) -> Self {
        Self {
            id: blob.id,
            kind: blob.kind,
            offset: blob.offset,
            length: blob.length,
            uncompressed_length: blob.uncompressed,
        }
    }
}

impl From<&BlobText> for PackedBlob {
    fn from(text: &BlobText) -> Self {
        Self {
            kind: text.kind,
            id: text.id,
            offset: text.offset,
            length: text.length,
            uncompressed: text.uncompressed_length.filter(|&length| length != 0),
        }
    }
}

/// Where one copy of a blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the pack, for [`Index::pack_id`].
    pub(crate) pack: u32,
    pub(crate) offset: u32,
    pub(crate) length: u32,
    pub(crate) uncompressed: Option<u32>,
}

impl Place {
    pub(crate) fn plain_length(&self) -> u32 {
        self.uncompressed.unwrap_or(self.length.saturating_sub(crate::seal::OVERHEAD as u32))
    }
}

#[derive(Clone, Copy)]
struct Entry {
    id: Id,
    pack: u32,
    offset: u32,
    /// Stored length; the top bit tells a tree.
    length: u32,
    /// 0: not compressed.
    uncompressed: u32,
}

const TREE: u32 = 1 << 31;

impl Entry {
    fn kind(&self) -> BlobKind {
        if self.length & TREE == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    fn place(&self) -> Place {
        Place {
            pack: self.pack,
            offset: self.offset,
            length: self.length & !TREE,
            uncompressed: (self.uncompressed != 0).then_some(self.uncompressed),
        }
    }
}

/// Everything that the index files say.
pub struct Index {
    entries: Vec<Entry>,
    /// `fan[p]..fan[p + 1]` are the entries whose id starts with the two bytes `p`.
    fan: Vec<u32>,
    packs: Vec<PackInfo>,
    files: BTreeMap<Id, Vec<Id>>,
}

#[derive(Clone, Copy)]
struct PackInfo {
    id: Id,
    /// Size as the entries add up to.
    size: u64,
    /// May a new backup refer to it?
    usable: bool,
}

impl Index {
    /// An index of nothing.
    pub fn empty() -> Self {
        Self::build(Vec::new(), Vec::new(), BTreeMap::new())
    }

    /// Reads all index files. Blobs in packs that `usable` refuses can be read, but count as unknown in backups.
    pub(crate) fn load(storage: &Shared, key: &SealKey, usable: &dyn Fn(Id) -> bool) -> Result<Self> {
        let names = file::list(storage, Folder::Index)?;
        let texts = read_all(storage, key, &names)?;
        Ok(Self::from_texts(texts, usable))
    }

    /// Like [`Index::load`], but names index files that cannot be read instead of failing.
    pub(crate) fn load_lenient(
        storage: &Shared,
        key: &SealKey,
        mut bad: impl FnMut(Id, Error) -> Result<()>,
    ) -> Result<Self> {
        let mut texts = Vec::new();
        for (id, _) in file::list(storage, Folder::Index)? {
            match read_one(storage, key, id) {
                Ok(text) => texts.push((id, text)),
                Err(error) => bad(id, error)?,
            }
        }
        Ok(Self::from_texts(texts, &|_| true))
    }

    fn from_texts(texts: Vec<(Id, IndexText)>, usable: &dyn Fn(Id) -> bool) -> Self {
        let mut numbers: HashMap<Id, u32> = HashMap::new();
        let (mut packs, mut entries, mut files) = (Vec::new(), Vec::new(), BTreeMap::new());
        for (file, text) in texts {
            let listed = files.entry(file).or_insert_with(Vec::new);
            let doomed = text.packs_to_delete.iter().map(|pack| (pack, false));
            for (pack, living) in text.packs.iter().map(|pack| (pack, true)).chain(doomed) {
                listed.push(pack.id);
                let known = numbers.contains_key(&pack.id);
                let number = *numbers.entry(pack.id).or_insert(packs.len() as u32);
                if !known {
                    packs.push(PackInfo { id: pack.id, size: 0, usable: living && usable(pack.id) });
                }
                entries.extend(pack.blobs.iter().map(|blob| entry(number, blob)));
            }
        }
        Self::build(entries, packs, files)
    }

    fn build(mut entries: Vec<Entry>, mut packs: Vec<PackInfo>, files: BTreeMap<Id, Vec<Id>>) -> Self {
        entries.sort_unstable_by(|a, b| {
            (a.id, a.length & TREE, a.pack, a.offset).cmp(&(b.id, b.length & TREE, b.pack, b.offset))
        });
        // The same pack may stand in several index files.
        entries.dedup_by(|a, b| (a.id, a.pack, a.offset) == (b.id, b.pack, b.offset));
        let mut header = vec![0u64; packs.len()];
        for entry in &entries {
            let line = if entry.uncompressed == 0 { 37 } else { 41 };
            header[entry.pack as usize] += u64::from(entry.length & !TREE) + line;
        }
        for (pack, sum) in packs.iter_mut().zip(header) {
            pack.size = sum + pack_size(&[]);
        }
        let mut fan = vec![0u32; 65_537];
        for entry in &entries {
            fan[usize::from(u16::from_be_bytes([entry.id.0[0], entry.id.0[1]])) + 1] += 1;
        }
        for i in 1..fan.len() {
            fan[i] += fan[i - 1];
        }
        Self { entries, fan, packs, files }
    }

    fn copies(&self, kind: BlobKind, id: &Id) -> &[Entry] {
        let p = usize::from(u16::from_be_bytes([id.0[0], id.0[1]]));
        let bucket = &self.entries[self.fan[p] as usize..self.fan[p + 1] as usize];
        let tree = u32::from(kind == BlobKind::Tree) << 31;
        let from = bucket.partition_point(|e| (e.id, e.length & TREE) < (*id, tree));
        let rest = &bucket[from..];
        let to = rest.iter().take_while(|e| e.id == *id && e.length & TREE == tree).count();
        &rest[..to]
    }

    /// Every copy of a blob.
    pub(crate) fn places(&self, kind: BlobKind, id: &Id) -> impl Iterator<Item = Place> + use<'_> {
        self.copies(kind, id).iter().map(Entry::place)
    }

    /// The first copy of a blob.
    pub(crate) fn place(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        self.copies(kind, id).first().map(Entry::place)
    }

    /// The first copy that a new backup may refer to.
    pub(crate) fn usable_place(&self, kind: BlobKind, id: &Id) -> Option<Place> {
        self.copies(kind, id).iter().find(|e| self.packs[e.pack as usize].usable).map(Entry::place)
    }

    /// The id of a pack.
    pub(crate) fn pack_id(&self, number: u32) -> Id {
        self.packs[number as usize].id
    }

    pub(crate) fn pack_count(&self) -> usize {
        self.packs.len()
    }

    /// Blobs by pack, each sorted by offset: for check and prune.
    pub(crate) fn by_pack(&self) -> HashMap<Id, Vec<PackedBlob>> {
        let mut by_pack: HashMap<Id, Vec<PackedBlob>> = HashMap::with_capacity(self.packs.len());
        for pack in &self.packs {
            by_pack.insert(pack.id, Vec::new());
        }
        for entry in &self.entries {
            let place = entry.place();
            by_pack.entry(self.pack_id(entry.pack)).or_default().push(PackedBlob {
                kind: entry.kind(),
                id: entry.id,
                offset: place.offset,
                length: place.length,
                uncompressed: place.uncompressed,
            });
        }
        for blobs in by_pack.values_mut() {
            blobs.sort_unstable_by_key(|blob| blob.offset);
        }
        by_pack
    }

    /// For each index file its id and the packs that it lists.
    pub fn files(&self) -> &BTreeMap<Id, Vec<Id>> {
        &self.files
    }

    /// All packs with the size that the index reckons.
    pub fn packs(&self) -> HashMap<Id, u64> {
        self.packs.iter().map(|pack| (pack.id, pack.size)).collect()
    }

    /// How many blobs are listed, copies included.
    pub fn blob_count(&self) -> u64 {
        self.entries.len() as u64
    }
}

fn entry(pack: u32, blob: &BlobText) -> Entry {
    let tree = if blob.kind == BlobKind::Tree { TREE } else { 0 };
    Entry {
        id: blob.id,
        pack,
        offset: blob.offset,
        length: (blob.length & !TREE) | tree,
        uncompressed: blob.uncompressed_length.unwrap_or(0),
    }
}

pub(crate) fn read_one(storage: &Shared, key: &SealKey, id: Id) -> Result<IndexText> {
    let text = file::read_text(storage, key, Folder::Index, id)?;
    serde_json::from_slice(&text).map_err(|e| Error::damaged(Folder::Index.key(id), e))
}

fn read_all(storage: &Shared, key: &SealKey, names: &[(Id, u64)]) -> Result<Vec<(Id, IndexText)>> {
    let next = AtomicUsize::new(0);
    let read = Mutex::new(Vec::with_capacity(names.len()));
    let worker = || -> Result<()> {
        while let Some((id, _)) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let text = read_one(storage, key, *id)?;
            crate::lock_mutex(&read).push((*id, text));
        }
        Ok(())
    };
    crate::parallel(crate::threads(), names.len(), worker)?;
    let mut texts = read.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    texts.sort_unstable_by_key(|(id, _)| *id);
    Ok(texts)
}

/// Which packs a running backup refers to; marked from many threads.
pub(crate) struct PackMarks(Vec<AtomicBool>);

impl PackMarks {
    pub(crate) fn new(index: &Index) -> Self {
        Self((0..index.pack_count()).map(|_| AtomicBool::new(false)).collect())
    }

    pub(crate) fn mark(&self, place: &Place) {
        // A load first: almost always it is marked already, and a shared cache line stays shared.
        if let Some(mark) = self.0.get(place.pack as usize)
            && !mark.load(Ordering::Relaxed)
        {
            mark.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn marked<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = Id> + 'a {
        self.0
            .iter()
            .enumerate()
            .filter(|(_, mark)| mark.load(Ordering::Relaxed))
            .map(|(n, _)| index.packs[n].id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_agree_with_a_simple_map_over_random_packs() {
        let mut map: HashMap<(BlobKind, Id), Vec<(Id, u32)>> = HashMap::new();
        let ids: Vec<Id> = (0..500u32).map(|i| Id::of(&i.to_le_bytes())).collect();
        let packs = (0..200u32).map(|p| {
            let pack = Id::of(&(p + 10_000).to_le_bytes());
            let mut offset = 0;
            let blobs = (0..20)
                .map(|_| {
                    let id = ids[rand::random_range(0..ids.len())];
                    let kind = if rand::random() { BlobKind::Data } else { BlobKind::Tree };
                    map.entry((kind, id)).or_default().push((pack, offset));
                    offset += 100;
                    BlobText { id, kind, offset: offset - 100, length: 100, uncompressed_length: None }
                })
                .collect();
            PackText { id: pack, blobs }
        });
        let text = IndexText { packs: packs.collect(), packs_to_delete: Vec::new() };
        let index = Index::from_texts(vec![(Id::of(b"file"), text)], &|_| true);
        for id in &ids {
            for kind in [BlobKind::Data, BlobKind::Tree] {
                let mut found: Vec<_> =
                    index.places(kind, id).map(|p| (index.pack_id(p.pack), p.offset)).collect();
                let mut expected = map.remove(&(kind, *id)).unwrap_or_default();
                found.sort_unstable();
                expected.sort_unstable();
                assert_eq!(found, expected);
            }
        }
        assert!(index.place(BlobKind::Data, &Id::of(b"unknown")).is_none());
    }

    #[test]
    fn a_pack_in_several_index_files_counts_once() {
        let blob = || BlobText {
            id: Id::of(b"b"),
            kind: BlobKind::Data,
            offset: 0,
            length: 50,
            uncompressed_length: None,
        };
        let text = || IndexText {
            packs: vec![PackText { id: Id::of(b"p"), blobs: vec![blob()] }],
            ..Default::default()
        };
        let index = Index::from_texts(vec![(Id::of(b"1"), text()), (Id::of(b"2"), text())], &|_| true);
        assert_eq!(index.blob_count(), 1);
        assert_eq!(index.packs()[&Id::of(b"p")], 50 + 37 + 36);
    }
}
