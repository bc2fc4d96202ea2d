//! Sizes of snapshots, counted in the ways that restic counts them.

use std::collections::{HashMap, HashSet};

use crate::index::Bits;
use crate::pack::BlobKind;
use crate::repository::Opener;
use crate::seal::OVERHEAD;
use crate::walk::walk_tree;
use crate::{Control, Error, Id, Index, Repository, Result};

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StatsMode {
    /// What a restore of every snapshot would write; a file with several names counts once in each.
    #[default]
    RestoreSize,
    /// Each file content once.
    FilesByContents,
    /// What lies in the repository for these snapshots, as stored.
    RawData,
    /// Each blob once for each file that it is a part of.
    BlobsPerFile,
}

/// Sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes.
    pub size: u64,
    /// Bytes that there were without compression; [`StatsMode::RawData`] alone.
    pub uncompressed: u64,
    /// Bytes of blobs that are compressed, and what these were without; [`StatsMode::RawData`] alone.
    pub compressed: (u64, u64),
    /// Entries.
    pub files: u64,
    /// Blobs; [`StatsMode::RawData`] and [`StatsMode::BlobsPerFile`] alone.
    pub blobs: u64,
}

/// Counts what is in the trees of some snapshots.
pub fn stats(
    repository: &Repository,
    index: &Index,
    trees: &[Id],
    mode: StatsMode,
    control: &Control,
) -> Result<Stats> {
    match mode {
        StatsMode::RawData => raw_data(repository, index, trees, control),
        StatsMode::RestoreSize => restore_size(repository, index, trees, control),
        StatsMode::FilesByContents | StatsMode::BlobsPerFile => {
            by_contents(repository, index, trees, mode, control)
        }
    }
}

fn restore_size(repository: &Repository, index: &Index, trees: &[Id], control: &Control) -> Result<Stats> {
    let (mut sums, mut opener) = (Stats::default(), Opener::new()?);
    // Of one tree after the other; the same tree has the same sums.
    let mut known: HashMap<Id, (u64, u64)> = HashMap::new();
    for tree in trees {
        if !known.contains_key(tree) {
            let (mut files, mut size, mut inodes) = (0, 0, HashSet::new());
            walk_tree(repository, index, *tree, &mut opener, &mut |_, node| {
                files += 1;
                let counted =
                    node.inode != 0 && node.links > 1 && !inodes.insert((node.device_id, node.inode));
                size += if counted { 0 } else { node.size };
                control.check()
            })?;
            known.insert(*tree, (files, size));
        }
        let (files, size) = known.get(tree).copied().unwrap_or_default();
        sums.files += files;
        sums.size += size;
    }
    Ok(sums)
}

fn by_contents(
    repository: &Repository,
    index: &Index,
    trees: &[Id],
    mode: StatsMode,
    control: &Control,
) -> Result<Stats> {
    let (mut sums, mut opener) = (Stats::default(), Opener::new()?);
    let mut contents = HashSet::new();
    let mut parts: HashMap<Vec<u8>, HashSet<Id>> = HashMap::new();
    for tree in trees {
        walk_tree(repository, index, *tree, &mut opener, &mut |path, node| {
            control.check()?;
            let ids: Vec<u8> = node.content.iter().flat_map(|id| id.0).collect();
            if !contents.insert(Id::of(&ids)) {
                return Ok(());
            }
            if mode == StatsMode::FilesByContents {
                sums.files += 1;
                sums.size += node.size;
                return Ok(());
            }
            for id in &node.content {
                let known = parts.entry(path.to_vec()).or_default();
                sums.files += u64::from(known.is_empty());
                if known.insert(*id) {
                    sums.blobs += 1;
                    let place = index.place(BlobKind::Data, id)?;
                    sums.size += place.map_or(0, |place| u64::from(place.plain_length()));
                }
            }
            Ok(())
        })?;
    }
    Ok(sums)
}

fn raw_data(repository: &Repository, index: &Index, trees: &[Id], control: &Control) -> Result<Stats> {
    let (mut sums, mut opener) = (Stats::default(), Opener::new()?);
    let seen = Bits::new(index.blob_count());
    let mut pending: Vec<Id> = trees.to_vec();
    let count = |kind, id: &Id, sums: &mut Stats| -> Result<bool> {
        let (number, place) = index
            .first(kind, id)?
            .ok_or_else(|| Error::damaged(format!("blob {id}"), "no index knows it; it is missing"))?;
        let new = seen.set(number);
        if new {
            sums.blobs += 1;
            sums.size += u64::from(place.length);
            let uncompressed = u64::from(place.plain_length()) + OVERHEAD as u64;
            sums.uncompressed += uncompressed;
            if place.uncompressed.is_some() {
                sums.compressed.0 += u64::from(place.length);
                sums.compressed.1 += uncompressed;
            }
        }
        Ok(new)
    };
    while let Some(tree) = pending.pop() {
        control.check()?;
        if !count(BlobKind::Tree, &tree, &mut sums)? {
            continue;
        }
        for node in repository.read_tree(index, tree, &mut opener)? {
            for id in &node.content {
                count(BlobKind::Data, id, &mut sums)?;
            }
            pending.extend(node.subtree);
        }
    }
    Ok(sums)
}
