//! Unpacked files (index, snapshot, lock): sealed, compressed JSON under the SHA-256 of the sealed bytes.

use serde::Serialize;
use storage::{ErrorKind as StorageKind, Shared};

use crate::compress::{TEXT_LEVEL, decompress_text};
use crate::seal::SealKey;
use crate::{Error, ErrorKind, Id, Repository, Result};

/// Longest unpacked file that is read, and longest text in one: an index file is usually below 8 MiB.
const FILE_BYTES_MAX: u64 = 512 << 20;
const TEXT_BYTES_MAX: usize = 1 << 30;
/// First byte of a payload that goes on as a zstd frame.
const COMPRESSED: u8 = 2;

/// The folders of a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Folder {
    Index,
    Snapshots,
    Locks,
    Keys,
}

impl Folder {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Snapshots => "snapshots",
            Self::Locks => "locks",
            Self::Keys => "keys",
        }
    }

    pub(crate) fn key(self, id: Id) -> String {
        format!("{}/{id}", self.name())
    }
}

/// Ids of the files in a folder, with their sizes; names that are no ids are ignored.
pub(crate) fn list(storage: &Shared, folder: Folder) -> Result<Vec<(Id, u64)>> {
    let mut ids = Vec::new();
    let prefix = format!("{}/", folder.name());
    storage.list(&prefix, &mut |entry| {
        if let Some(Ok(id)) = entry.key.strip_prefix(&prefix).map(str::parse) {
            ids.push((id, entry.size));
        }
        Ok(())
    })?;
    ids.sort_unstable();
    Ok(ids)
}

/// Reads a whole file and compares its content with its name.
pub(crate) fn read_raw(storage: &Shared, folder: Folder, id: Id) -> Result<Vec<u8>> {
    let key = folder.key(id);
    let body = storage.get(&key, FILE_BYTES_MAX).map_err(|e| match e.kind {
        StorageKind::NotFound => Error::damaged(&key, "the file is missing"),
        _ => e.into(),
    })?;
    if Id::of(&body) == id {
        Ok(body)
    } else {
        Err(Error::damaged(&key, "its content does not fit its name"))
    }
}

/// Reads, opens and unpacks the JSON text of a file.
pub(crate) fn read_text(storage: &Shared, key: &SealKey, folder: Folder, id: Id) -> Result<Vec<u8>> {
    let sealed = read_raw(storage, folder, id)?;
    let payload = key.open(&sealed).map_err(|_| Error::damaged(folder.key(id), "its seal is broken"))?;
    decode_payload(payload).map_err(|problem| Error::damaged(folder.key(id), problem))
}

/// The JSON text in an opened payload.
pub(crate) fn decode_payload(payload: Vec<u8>) -> Result<Vec<u8>, String> {
    match payload.first() {
        Some(b'{' | b'[') => Ok(payload),
        Some(&COMPRESSED) => decompress_text(&payload[1..], TEXT_BYTES_MAX).map_err(|e| e.to_string()),
        _ => Err("unsupported encoding".to_owned()),
    }
}

/// Seals and stores something as JSON; returns its name. Storing the same bytes twice cannot happen: the seal is random.
pub(crate) fn write_json(repository: &Repository, folder: Folder, value: &impl Serialize) -> Result<Id> {
    let payload = encode_payload(repository.version(), value)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot write a file for {}/: {e}", folder.name())))?;
    let sealed = repository.key().seal(&payload);
    let id = Id::of(&sealed);
    repository.storage().create(&folder.key(id), &[&sealed])?;
    Ok(id)
}

/// The text is compressed as it is made, as that of an index can be large. Version 1 knows no compression.
fn encode_payload(version: u32, value: &impl Serialize) -> std::io::Result<Vec<u8>> {
    if version < 2 {
        return Ok(serde_json::to_vec(value)?);
    }
    let mut encoder = zstd::stream::write::Encoder::new(vec![COMPRESSED], TEXT_LEVEL)?;
    serde_json::to_writer(&mut encoder, value)?;
    encoder.finish()
}
