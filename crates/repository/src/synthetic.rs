//! Huge repositories for measuring, without their packs: index files that list as many blobs as wanted, and one
//! snapshot with a file in each of many directories that refers to some of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use storage::{Entry, Shared, Storage, Version};

use crate::file::{self, Folder};
use crate::index::{BLOBS_PER_FILE_MAX, BlobText, IndexText, PackText};
use crate::pack::{BlobKind, PackedBlob, pack_key, pack_size};
use crate::pack_writer::{PackWriter, Plain, Sealer};
use crate::tree::{Node, NodeKind, go_mode, tree_text};
use crate::uploaders::with_uploaders;
use crate::{Compression, Control, Id, Repository, Result, Snapshot, parallel, threads};

/// How large.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Blobs in the index.
    pub blobs: u64,
    /// Blobs in each pack.
    pub blobs_per_pack: u64,
    /// Directories of the snapshot.
    pub directories: u64,
    /// Blobs that the file in each directory refers to.
    pub blobs_per_file: u64,
}

impl Size {
    fn packs(&self) -> u64 {
        self.blobs.div_ceil(self.blobs_per_pack)
    }

    /// The id of a blob; from `blobs` on those of blobs that are not there.
    pub fn blob_id(&self, number: u64) -> Id {
        Id::of(&number.to_le_bytes())
    }

    fn blob(&self, number: u64) -> PackedBlob {
        let offset = (number % self.blobs_per_pack) as u32 * 1000;
        let id = self.blob_id(number);
        PackedBlob { kind: BlobKind::Data, id, offset, length: 1000, uncompressed: Some(2000) }
    }

    fn pack(&self, number: u64) -> (Id, Vec<PackedBlob>) {
        let blobs = number * self.blobs_per_pack..self.blobs.min((number + 1) * self.blobs_per_pack);
        let id = Id::of(&(u128::from(number) | 1 << 64).to_le_bytes());
        (id, blobs.map(|number| self.blob(number)).collect())
    }
}

/// Writes the index files and the snapshot.
pub fn write(repository: &Repository, size: &Size) -> Result<Id> {
    let per_file = (BLOBS_PER_FILE_MAX as u64 / size.blobs_per_pack).max(1);
    let next = AtomicU64::new(0);
    parallel(threads(), threads(), || {
        loop {
            let first = next.fetch_add(per_file, Ordering::Relaxed);
            if first >= size.packs() {
                return Ok(());
            }
            let packs = (first..size.packs().min(first + per_file)).map(|number| {
                let (id, blobs) = size.pack(number);
                PackText { id, blobs: blobs.iter().map(BlobText::from).collect() }
            });
            file::write_json(repository, Folder::Index, &IndexText { packs: packs.collect() })?;
        }
    })?;
    let control = Control::new();
    let writer = PackWriter::new(repository, &control);
    let mut tree = Id([0; 32]);
    with_uploaders(&writer, || {
        let mut sealer = Sealer::new(Compression::Auto, false)?;
        let mut store = |nodes: &[Node]| {
            let listing = tree_text(nodes.iter().map(Node::text));
            let id = Id::of(&listing);
            sealer.store(&writer, BlobKind::Tree, &Plain::of_id(id, &listing)).map(|_| id)
        };
        let mut directories = Vec::new();
        for number in 0..size.directories {
            let mut file = Node::new(b"file".to_vec(), NodeKind::File);
            let blobs = number * size.blobs_per_file..(number + 1) * size.blobs_per_file;
            file.content = blobs.map(|blob| size.blob(blob % size.blobs).id).collect();
            file.size = 2000 * size.blobs_per_file;
            let mut directory = Node::new(format!("{number:08}").into_bytes(), NodeKind::Dir);
            directory.mode = go_mode::DIR | 0o755;
            directory.subtree = Some(store(&[file])?);
            directories.push(directory);
        }
        tree = store(&directories)?;
        Ok(())
    })?;
    writer.finish()?;
    repository.save_snapshot(&Snapshot {
        time: crate::time::now_text(),
        tree,
        paths: vec!["/synthetic".to_owned()],
        parent: None,
        hostname: String::new(),
        username: String::new(),
        uid: 0,
        gid: 0,
        excludes: Vec::new(),
        tags: Vec::new(),
        original: None,
        program_version: String::new(),
        summary: None,
    })
}

/// A store that lists the packs of such a repository though they are not there.
#[derive(Debug)]
pub struct PretendedPacks {
    inner: Shared,
    size: Size,
}

impl PretendedPacks {
    /// In front of the store with all else.
    pub fn over(inner: Shared, size: Size) -> Shared {
        Arc::new(Self { inner, size })
    }
}

impl Storage for PretendedPacks {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn get(&self, key: &str, size_max: u64) -> storage::Result<Vec<u8>> {
        self.inner.get(key, size_max)
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> storage::Result<(Vec<u8>, Version)> {
        self.inner.get_versioned(key, size_max)
    }

    fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> storage::Result<Vec<u8>> {
        self.inner.get_range(key, range)
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> storage::Result<()> {
        self.inner.create(key, parts)
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> storage::Result<()> {
        self.inner.replace(key, body, expected)
    }

    fn delete(&self, key: &str) -> storage::Result<()> {
        self.inner.delete(key)
    }

    fn head(&self, key: &str) -> storage::Result<Option<Entry>> {
        self.inner.head(key)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> storage::Result<()>) -> storage::Result<()> {
        self.inner.list(prefix, visit)?;
        if prefix == "data/" {
            for number in 0..self.size.packs() {
                let (id, blobs) = self.size.pack(number);
                visit(Entry { key: pack_key(id), size: pack_size(&blobs), modified: None, stamp: None })?;
            }
        }
        Ok(())
    }

    fn free_space(&self) -> storage::Result<Option<u64>> {
        self.inner.free_space()
    }

    storage::plain_calls!();
}
