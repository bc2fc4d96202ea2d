//! The inner loops of the engine, each by itself, for measuring them (feature `test-support`, `benches/kernels.rs`).
//! What stands here hands its arguments on and does no work of its own.

use storage::Shared;

use crate::pack::PackBuilder;
use crate::{BlobKind, Id, Index, Result, chunk, compress, hash, pack, seal};

/// An index of more blobs lies in a file of sealed pages.
pub const INDEX_IN_MEMORY_MAX: usize = crate::index::IN_MEMORY_MAX;

/// Cuts files into chunks.
pub struct Chunker(chunk::Chunker);

impl Chunker {
    /// One whose cuts depend on `secret`.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(chunk::Chunker::new(secret))
    }

    /// Length of the chunk that `data` starts with.
    pub fn cut(&self, data: &[u8]) -> usize {
        self.0.cut(data)
    }
}

/// The id of a message.
pub fn hash(message: &[u8]) -> Id {
    hash::Hashing::new(message).finish()
}

/// The ids of two messages, which are hashed side by side.
pub fn hash_pair(a: &[u8], b: &[u8]) -> (Id, Id) {
    hash::pair(a, b)
}

/// The key of a repository.
pub struct Key(seal::SealKey);

impl Key {
    /// A fresh random one.
    pub fn random() -> Self {
        Self(seal::SealKey::random())
    }

    /// Replaces `out` with the sealed form of `plaintext`.
    pub fn seal_into(&self, plaintext: &[u8], out: &mut Vec<u8>) {
        self.0.seal_into(plaintext, out);
    }

    /// Replaces `out` with the plaintext of `sealed`; whether that is authentic.
    pub fn open_into(&self, sealed: &[u8], out: &mut Vec<u8>) -> bool {
        self.0.open_into(sealed, out).is_ok()
    }

    /// Builds a pack of these sealed blobs and stores it. Gives its key in the storage, and `memory` back where the
    /// storage takes objects whole.
    pub fn build_pack(
        &self,
        storage: &Shared,
        blobs: &[(Id, Vec<u8>)],
        memory: Vec<u8>,
    ) -> Result<(String, Vec<u8>)> {
        let mut builder = PackBuilder::new(storage, || memory)?;
        for (id, sealed) in blobs {
            builder.add(BlobKind::Data, *id, sealed, None)?;
        }
        let stored = builder.store(&self.0)?;
        Ok((pack::pack_key(stored.id), stored.memory.unwrap_or_default()))
    }
}

/// Whether the index knows a blob of file content.
pub fn look_up(index: &Index, id: &Id) -> Result<bool> {
    Ok(index.first(BlobKind::Data, id)?.is_some())
}

/// A compressor and decompressor.
pub struct Zstd(compress::Zstd);

impl Zstd {
    /// For one thread.
    pub fn new() -> std::io::Result<Self> {
        compress::Zstd::new().map(Self)
    }

    /// Replaces `out` with the frame of `data`.
    pub fn compress(&mut self, data: &[u8], level: i32, out: &mut Vec<u8>) -> std::io::Result<()> {
        self.0.compress(data, level, out)
    }

    /// Replaces `out` with the content of `frame`, which is of `length` bytes.
    pub fn decompress(&mut self, frame: &[u8], length: usize, out: &mut Vec<u8>) -> std::io::Result<()> {
        self.0.decompress(frame, length, out)
    }
}
