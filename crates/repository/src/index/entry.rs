//! One line of the index: a copy of a blob and where it lies, in 48 bytes.

use crate::Id;
use crate::pack::{BlobKind, PackedBlob};

/// Bytes of an entry on disk, and in memory.
pub(super) const ENTRY_BYTES: usize = 48;

/// Where one copy of a blob lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Number of the pack, for [`Index::pack_id`](super::Index::pack_id).
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

/// A copy of a blob. Entries are in order of id, kind, pack and offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) id: Id,
    /// Number of the pack.
    pub(crate) pack: u32,
    offset: u32,
    /// Stored length; the top bit tells a tree.
    length: u32,
    /// 0: not compressed.
    uncompressed: u32,
}

const TREE: u32 = 1 << 31;

impl Entry {
    pub(super) fn new(pack: u32, blob: &PackedBlob) -> Self {
        let tree = if blob.kind == BlobKind::Tree { TREE } else { 0 };
        Self {
            id: blob.id,
            pack,
            offset: blob.offset,
            length: (blob.length & !TREE) | tree,
            uncompressed: blob.uncompressed.unwrap_or(0),
        }
    }

    pub(crate) fn kind(&self) -> BlobKind {
        if self.length & TREE == 0 { BlobKind::Data } else { BlobKind::Tree }
    }

    pub(crate) fn place(&self) -> Place {
        Place {
            pack: self.pack,
            offset: self.offset,
            length: self.length & !TREE,
            uncompressed: (self.uncompressed != 0).then_some(self.uncompressed),
        }
    }

    /// The blob as its pack's header names it.
    pub(crate) fn packed(&self) -> PackedBlob {
        let Place { offset, length, uncompressed, .. } = self.place();
        PackedBlob { kind: self.kind(), id: self.id, offset, length, uncompressed }
    }

    /// Bytes that the blob takes in its pack, the line in the header included.
    pub(super) fn share_of_pack(&self) -> u64 {
        let line = if self.uncompressed == 0 { 37 } else { 41 };
        u64::from(self.length & !TREE) + line
    }

    /// The blob that this is a copy of.
    pub(super) fn blob(&self) -> (Id, BlobKind) {
        (self.id, self.kind())
    }

    /// The first eight bytes of the id.
    pub(super) fn prefix(&self) -> u64 {
        prefix(&self.id)
    }

    pub(super) fn write(&self, out: &mut [u8; ENTRY_BYTES]) {
        out[..32].copy_from_slice(&self.id.0);
        for (at, number) in [(32, self.pack), (36, self.offset), (40, self.length), (44, self.uncompressed)] {
            out[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn read(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let number = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            id: Id(std::array::from_fn(|i| bytes[i])),
            pack: number(32),
            offset: number(36),
            length: number(40),
            uncompressed: number(44),
        }
    }
}

/// The first eight bytes of an id, in the order of ids.
pub(super) fn prefix(id: &Id) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| id.0[i]))
}

/// Puts entries in order and drops those that are there twice, as the same pack may stand in several index files.
pub(super) fn sort(entries: &mut Vec<Entry>) {
    entries.sort_unstable_by(|a, b| {
        let rest = |e: &Entry| (e.length & TREE, e.pack, e.offset, e.length, e.uncompressed);
        a.id.cmp(&b.id).then_with(|| rest(a).cmp(&rest(b)))
    });
    entries.dedup_by(|a, b| (a.id, a.pack, a.offset) == (b.id, b.pack, b.offset));
}
