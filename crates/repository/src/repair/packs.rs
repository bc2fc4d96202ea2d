//! Saves the whole blobs of damaged packs into new packs, and removes the damaged ones.
//!
//! What lies in a pack is known from the index and, if it can be read, from the pack's header. A blob is whole if it
//! opens and its content fits its id. Order: new packs, new index, old index files, damaged packs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Write;

use super::{delete_index_files, index_files_naming, list_others};
use crate::pack::{BlobKind, PackedBlob, pack_key, read_header_of};
use crate::pack_writer::PackWriter;
use crate::repository::Opener;
use crate::uploaders::with_uploaders;
use crate::{Control, Error, ErrorKind, Id, Index, LockKind, LockOwner, Repository, Result};

/// A pack is copied in pieces of this size.
const PIECE_BYTES: u64 = 8 << 20;

/// What a repair of packs did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairPacksReport {
    /// Damaged packs that were removed.
    pub packs_removed: u64,
    /// Blobs that were whole and are stored again.
    pub blobs_saved: u64,
    /// Their bytes as stored.
    pub bytes_saved: u64,
    /// Blobs of which no whole copy is left.
    pub blobs_lost: Vec<(BlobKind, Id)>,
}

/// Repairs these packs under the exclusive lock, which it takes itself.
pub fn repair_packs(
    repository: &Repository,
    owner: &LockOwner,
    packs: &[Id],
    control: &Control,
) -> Result<RepairPacksReport> {
    repository.check_removal()?;
    let lock = repository.lock(LockKind::Exclusive, owner)?;
    let (index, unreadable) = repository.load_readable_index()?;
    if let Some(file) = unreadable.first() {
        let message = format!("nothing was changed: {} cannot be read; run 'repair index' first", file.item);
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    let doomed: HashSet<Id> = packs.iter().copied().collect();
    let blobs = blobs_of(repository, &index, &doomed)?;
    let writer = PackWriter::new(repository, control);
    let mut salvage = Salvage {
        repository,
        index: &index,
        doomed: &doomed,
        opener: Opener::new()?,
        plain: Vec::new(),
        saved: HashSet::new(),
        lost: BTreeSet::new(),
        bytes: 0,
    };
    with_uploaders(&writer, || {
        for (pack, blobs) in &blobs {
            control.progress.set_current(&pack_key(*pack));
            for blob in blobs {
                control.check()?;
                if writer.has_failed() {
                    return Ok(());
                }
                salvage.blob(*pack, blob, &writer)?;
            }
        }
        Ok(())
    })?;
    if let Some(failure) = writer.take_failure() {
        return Err(failure);
    }
    let stale = index_files_naming(&index, &doomed);
    list_others(repository, &writer, &stale, &doomed)?;
    let report = salvage.report(doomed.len());
    writer.finish()?;
    delete_index_files(repository, &lock, stale)?;
    lock.removing(&doomed, |pack| Ok(repository.storage().delete(&pack_key(*pack))?))?;
    Ok(report)
}

/// What the index and the packs' own headers say lies in them; a pack that neither knows is refused.
fn blobs_of(
    repository: &Repository,
    index: &Index,
    packs: &HashSet<Id>,
) -> Result<BTreeMap<Id, Vec<PackedBlob>>> {
    let stored: HashMap<Id, u64> = repository.list_packs()?;
    let mut known = index.blobs_of(packs)?;
    let mut found = BTreeMap::new();
    for pack in packs {
        let mut blobs = known.remove(pack);
        if let Some(size) = stored.get(pack) {
            let blobs = blobs.get_or_insert_default();
            if let Ok(header) = read_header_of(repository, *pack, *size)? {
                let offsets: HashSet<u32> = blobs.iter().map(|blob| blob.offset).collect();
                blobs.extend(header.into_iter().filter(|blob| !offsets.contains(&blob.offset)));
            }
        }
        let Some(blobs) = blobs else {
            return Err(Error::new(ErrorKind::NotFound, format!("there is no pack {pack}")));
        };
        found.insert(*pack, blobs);
    }
    Ok(found)
}

struct Salvage<'a> {
    repository: &'a Repository,
    index: &'a Index,
    doomed: &'a HashSet<Id>,
    opener: Opener,
    plain: Vec<u8>,
    saved: HashSet<(BlobKind, Id)>,
    lost: BTreeSet<(BlobKind, Id)>,
    bytes: u64,
}

impl Salvage<'_> {
    fn blob(&mut self, pack: Id, blob: &PackedBlob, writer: &PackWriter<'_>) -> Result<()> {
        if self.saved.contains(&(blob.kind, blob.id)) {
            return Ok(());
        }
        match self.read(pack, blob)? {
            Some(sealed) => {
                writer.add(blob.kind, blob.id, &sealed, blob.uncompressed)?;
                self.bytes += sealed.len() as u64;
                self.saved.insert((blob.kind, blob.id));
            }
            None if !self.has_copy_elsewhere(blob)? => drop(self.lost.insert((blob.kind, blob.id))),
            None => {}
        }
        Ok(())
    }

    /// The sealed bytes of a blob that is whole.
    fn read(&mut self, pack: Id, blob: &PackedBlob) -> Result<Option<Vec<u8>>> {
        let range = u64::from(blob.offset)..u64::from(blob.offset) + u64::from(blob.length);
        let sealed = match self.repository.storage().get_range(&pack_key(pack), range) {
            Ok(sealed) => sealed,
            Err(e) if matches!(e.kind, storage::ErrorKind::NotFound | storage::ErrorKind::Short) => {
                return Ok(None);
            }
            Err(e) => return Err(e.into()),
        };
        let key = self.repository.key();
        let opened = self.opener.open(key, &sealed, blob.uncompressed, blob.id, &mut self.plain);
        Ok(opened.is_ok().then_some(sealed))
    }

    fn has_copy_elsewhere(&mut self, blob: &PackedBlob) -> Result<bool> {
        for place in self.index.places(blob.kind, &blob.id)? {
            let pack = self.index.pack_id(place.pack);
            let copy = PackedBlob {
                offset: place.offset,
                length: place.length,
                uncompressed: place.uncompressed,
                ..*blob
            };
            if !self.doomed.contains(&pack) && self.read(pack, &copy)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn report(self, packs: usize) -> RepairPacksReport {
        // One copy in these packs may be damaged and another whole.
        let lost = self.lost.into_iter().filter(|blob| !self.saved.contains(blob));
        RepairPacksReport {
            packs_removed: packs as u64,
            blobs_saved: self.saved.len() as u64,
            bytes_saved: self.bytes,
            blobs_lost: lost.collect(),
        }
    }
}

/// Writes the file of a pack as it lies there, damaged or not; `false` if there is none.
pub fn copy_pack_file(repository: &Repository, pack: Id, to: &mut dyn Write) -> Result<bool> {
    let key = pack_key(pack);
    let Some(entry) = repository.storage().head(&key)? else { return Ok(false) };
    let mut at = 0;
    while at < entry.size {
        let end = entry.size.min(at + PIECE_BYTES);
        let piece = repository.storage().get_range(&key, at..end)?;
        to.write_all(&piece).map_err(|e| Error::path("keep a copy of", &key, e))?;
        at = end;
    }
    Ok(true)
}
