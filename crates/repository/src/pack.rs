//! Packs: many sealed blobs, then a sealed list of them, then the length of that list.
//!
//! `seal(blob 1) ‖ … ‖ seal(blob n) ‖ seal(header) ‖ u32le(length of the sealed header)`. The header names each
//! blob in order with its kind, stored length and id; offsets are the running sum.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use storage::{Draft, Shared};

use crate::seal::{OVERHEAD, SealKey};
use crate::{Error, Id, Repository, Result};

/// What a blob holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlobKind {
    /// A chunk of a file.
    Data,
    /// A directory listing.
    Tree,
}

/// One blob of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackedBlob {
    pub(crate) kind: BlobKind,
    pub(crate) id: Id,
    pub(crate) offset: u32,
    /// Stored length, sealing included.
    pub(crate) length: u32,
    /// Length of the plaintext if it was compressed.
    pub(crate) uncompressed: Option<u32>,
}

impl PackedBlob {
    fn entry_length(&self) -> usize {
        if self.uncompressed.is_some() { 41 } else { 37 }
    }
}

/// Longest sealed header that is read.
pub(crate) const HEADER_BYTES_MAX: u32 = 16 << 20;

/// So much of a pack's end is read first: enough for the header of most.
const HEADER_GUESS_BYTES: u64 = 16 << 10;

/// Size of the file that holds these blobs.
pub(crate) fn pack_size(blobs: &[PackedBlob]) -> u64 {
    let stored: u64 = blobs.iter().map(|b| u64::from(b.length) + b.entry_length() as u64).sum();
    stored + OVERHEAD as u64 + 4
}

/// The header's plaintext.
pub(crate) fn encode_header(blobs: &[PackedBlob]) -> Vec<u8> {
    let mut header = Vec::with_capacity(blobs.len() * 41);
    for blob in blobs {
        let kind = match (blob.kind, blob.uncompressed) {
            (BlobKind::Data, None) => 0,
            (BlobKind::Tree, None) => 1,
            (BlobKind::Data, Some(_)) => 2,
            (BlobKind::Tree, Some(_)) => 3,
        };
        header.push(kind);
        header.extend_from_slice(&blob.length.to_le_bytes());
        if let Some(length) = blob.uncompressed {
            header.extend_from_slice(&length.to_le_bytes());
        }
        header.extend_from_slice(&blob.id.0);
    }
    header
}

/// The blobs that a header's plaintext names.
pub(crate) fn decode_header(mut header: &[u8]) -> Result<Vec<PackedBlob>, &'static str> {
    let (mut blobs, mut offset) = (Vec::new(), 0u32);
    while let Some((&kind, rest)) = header.split_first() {
        let (kind, compressed) = match kind {
            0 => (BlobKind::Data, false),
            1 => (BlobKind::Tree, false),
            2 => (BlobKind::Data, true),
            3 => (BlobKind::Tree, true),
            _ => return Err("its header names an unknown kind of blob"),
        };
        let (length, rest) = rest.split_first_chunk::<4>().ok_or("its header is cut off")?;
        let (uncompressed, rest) = if compressed {
            let (length, rest) = rest.split_first_chunk::<4>().ok_or("its header is cut off")?;
            (Some(u32::from_le_bytes(*length)), rest)
        } else {
            (None, rest)
        };
        let (id, rest) = rest.split_first_chunk::<32>().ok_or("its header is cut off")?;
        let length = u32::from_le_bytes(*length);
        if length < OVERHEAD as u32 {
            return Err("its header names a blob that is too short");
        }
        blobs.push(PackedBlob { kind, id: Id(*id), offset, length, uncompressed });
        offset = offset.checked_add(length).ok_or("its blobs are longer than a pack can be")?;
        header = rest;
    }
    Ok(blobs)
}

/// Reads the header of a whole pack in memory and compares its sum with the file's length.
pub(crate) fn read_header(key: &SealKey, pack: &[u8]) -> Result<Vec<PackedBlob>, String> {
    header_in(key, pack, pack.len() as u64)
}

/// Reads the header at the end of a pack of `size` bytes.
fn header_in(key: &SealKey, end: &[u8], size: u64) -> Result<Vec<PackedBlob>, String> {
    let (rest, length) = end.split_last_chunk::<4>().ok_or("it is shorter than any pack")?;
    let length = u32::from_le_bytes(*length);
    if length > HEADER_BYTES_MAX || length as usize > rest.len() {
        return Err("the length of its header is impossible".to_owned());
    }
    let sealed = &rest[rest.len() - length as usize..];
    let header = key.open(sealed).map_err(|_| "its header does not open")?;
    let blobs = decode_header(&header)?;
    if pack_size(&blobs) != size {
        return Err("its header does not fit its length".to_owned());
    }
    Ok(blobs)
}

/// Reads the header of a stored pack of `size` bytes by its end alone. `Ok(Err(…))` tells what is wrong with it.
pub(crate) fn read_header_of(
    repository: &Repository,
    pack: Id,
    size: u64,
) -> Result<Result<Vec<PackedBlob>, String>> {
    let key = pack_key(pack);
    let tail = |length: u64| -> Result<Option<Vec<u8>>> {
        match repository.storage().get_range(&key, size - length.min(size)..size) {
            Ok(tail) => Ok(Some(tail)),
            Err(e) if matches!(e.kind, storage::ErrorKind::NotFound | storage::ErrorKind::Short) => Ok(None),
            Err(e) => Err(e.into()),
        }
    };
    let gone = || Ok(Err("it is gone, or shorter than it was a moment ago".to_owned()));
    let Some(mut end) = tail(HEADER_GUESS_BYTES)? else { return gone() };
    let Some(length) = end.last_chunk::<4>().map(|length| u32::from_le_bytes(*length)) else {
        return Ok(Err("it is shorter than any pack".to_owned()));
    };
    let whole = u64::from(length) + 4;
    if length <= HEADER_BYTES_MAX && whole <= size && whole > end.len() as u64 {
        let Some(longer) = tail(whole)? else { return gone() };
        end = longer;
    }
    Ok(header_in(repository.key(), &end, size))
}

/// Where the bytes of a pack wait until it is complete.
enum Body {
    /// In the store, unseen.
    Draft(Box<dyn Draft>),
    /// Here, for a store that takes objects whole.
    Memory(Vec<u8>),
}

/// A pack being filled: hashed and, where the store can do that, written as it grows.
pub(crate) struct PackBuilder {
    storage: Shared,
    body: Body,
    hash: Sha256,
    length: u64,
    blobs: Vec<PackedBlob>,
}

impl PackBuilder {
    /// An empty one. `memory` is used if the store takes objects whole.
    pub(crate) fn new(storage: &Shared, memory: impl FnOnce() -> Vec<u8>) -> Result<Self> {
        let body = match storage.draft("data/")? {
            Some(draft) => Body::Draft(draft),
            None => Body::Memory(memory()),
        };
        Ok(Self { storage: storage.clone(), body, hash: Sha256::new(), length: 0, blobs: Vec::new() })
    }

    /// Its size without the header.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    pub(crate) fn blob_count(&self) -> usize {
        self.blobs.len()
    }

    /// Adds a sealed blob.
    pub(crate) fn add(
        &mut self,
        kind: BlobKind,
        id: Id,
        sealed: &[u8],
        uncompressed: Option<u32>,
    ) -> Result<()> {
        let too_long = |_| Error::damaged("a pack", "it would grow beyond 4 GiB");
        let blob = PackedBlob {
            kind,
            id,
            offset: u32::try_from(self.length).map_err(too_long)?,
            length: u32::try_from(sealed.len()).map_err(too_long)?,
            uncompressed,
        };
        self.append(sealed)?;
        self.blobs.push(blob);
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        match &mut self.body {
            Body::Draft(draft) => draft.append(bytes)?,
            Body::Memory(body) => body.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// Adds the header and stores the pack, durably.
    pub(crate) fn store(mut self, key: &SealKey) -> Result<StoredPack> {
        let sealed = key.seal(&encode_header(&self.blobs));
        self.append(&sealed)?;
        self.append(&(sealed.len() as u32).to_le_bytes())?;
        let id = Id(self.hash.finalize().into());
        let name = pack_key(id);
        let (stored, memory) = match self.body {
            Body::Draft(draft) => (draft.commit(&name), None),
            Body::Memory(body) => (self.storage.create(&name, &[&body]), Some(body)),
        };
        match stored {
            // The name is the content's hash: what is there already is this very pack (a repeated call).
            Err(e) if e.kind == storage::ErrorKind::Exists => {}
            other => other?,
        }
        Ok(StoredPack { id, size: self.length, blobs: self.blobs, memory })
    }
}

/// A pack that was stored.
pub(crate) struct StoredPack {
    pub(crate) id: Id,
    pub(crate) size: u64,
    pub(crate) blobs: Vec<PackedBlob>,
    /// What held it, if it was held in memory.
    pub(crate) memory: Option<Vec<u8>>,
}

/// Key of a pack in the repository.
pub(crate) fn pack_key(id: Id) -> String {
    let name = id.to_string();
    format!("data/{}/{name}", &name[..2])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use storage::{Directory, DirectoryOptions};

    use super::*;

    fn store(blobs: &[(BlobKind, &[u8], Option<u32>)], key: &SealKey) -> (StoredPack, Vec<u8>) {
        let place = tempfile::tempdir().unwrap();
        let storage: Shared = Arc::new(Directory::open(place.path(), DirectoryOptions::default()).unwrap());
        let mut pack = PackBuilder::new(&storage, Vec::new).unwrap();
        for (kind, plain, uncompressed) in blobs {
            pack.add(*kind, Id::of(plain), &key.seal(plain), *uncompressed).unwrap();
        }
        let stored = pack.store(key).unwrap();
        let body = storage.get(&pack_key(stored.id), 1 << 20).unwrap();
        assert_eq!((Id::of(&body), body.len() as u64), (stored.id, stored.size));
        (stored, body)
    }

    #[test]
    fn a_pack_reads_back_what_was_added() {
        let key = SealKey::random();
        let added: [(_, &[u8], _); 2] =
            [(BlobKind::Data, b"first", None), (BlobKind::Data, b"second", Some(99))];
        let (stored, body) = store(&added, &key);
        let blobs = read_header(&key, &body).unwrap();
        assert_eq!(blobs, stored.blobs);
        assert_eq!(pack_size(&blobs), stored.size);
        let second = blobs[1];
        let sealed = &body[second.offset as usize..][..second.length as usize];
        assert_eq!(key.open(sealed).unwrap(), b"second");
    }

    #[test]
    fn a_cut_or_altered_pack_is_refused() {
        let key = SealKey::random();
        let (_, body) = store(&[(BlobKind::Tree, b"x", None)], &key);
        for length in 0..body.len() {
            assert!(read_header(&key, &body[..length]).is_err());
        }
        let tail = body.len() - 1;
        let mut bad = body;
        bad[tail] ^= 1;
        assert!(read_header(&key, &bad).is_err());
    }
}
