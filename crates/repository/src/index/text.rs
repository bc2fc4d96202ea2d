//! JSON of an index file, read pack by pack: the whole text is never held as structures.

use serde::{Deserialize, Serialize};

use crate::json::visit_lists;
use crate::pack::{BlobKind, PackedBlob};
use crate::{Error, Id, Result};

/// An index file is closed at so many blobs.
pub(crate) const BLOBS_PER_FILE_MAX: usize = 50_000;

/// An index file as it is written.
#[derive(Default, Serialize)]
pub(crate) struct IndexText {
    pub(crate) packs: Vec<PackText>,
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

/// What an index file says of one pack.
pub(crate) struct ListedPack {
    pub(crate) id: Id,
    pub(crate) blobs: Vec<PackedBlob>,
    /// rustic's packs that are readable but will go: nothing new may refer to them.
    pub(crate) doomed: bool,
}

/// Visits the packs of an index file's text in order. `name` is for the error.
pub(crate) fn visit_packs(
    name: &str,
    text: &[u8],
    visit: &mut dyn FnMut(ListedPack) -> Result<()>,
) -> Result<()> {
    let fields = ["packs", "packs_to_delete"];
    let seen = visit_lists(name, text, &fields, &mut |field, pack: PackText| {
        let blobs = pack.blobs.iter().map(PackedBlob::from).collect();
        visit(ListedPack { id: pack.id, blobs, doomed: field == 1 })
    })?;
    if seen[0] { Ok(()) } else { Err(Error::damaged(name, "it has no list of packs")) }
}
