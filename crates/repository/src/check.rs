//! Check: is everything there, whole, and right?
//!
//! Without `read_data` the structure is checked: every index, snapshot and tree opens, every blob that a tree names
//! is in an index, and every pack is there with the size that the index reckons. With it every pack is read: its
//! content must fit its name, its header the index, and each blob its id. Each finding names the damaged file.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use storage::ErrorKind as StorageKind;

use crate::file::{self, Folder};
use crate::pack::{BlobKind, PackedBlob, pack_key, pack_size, read_header};
use crate::repository::Opener;
use crate::{Control, Error, ErrorKind, Id, Index, Repository, Result, lock_mutex, parallel, threads};

/// Longest pack that is read whole.
const PACK_BYTES_MAX: u64 = 4 << 30;

/// How thoroughly.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckRequest {
    /// Read every pack, blob by blob.
    pub read_data: bool,
}

/// One damaged or missing thing.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// Key of the file in the repository, like `data/ab/ab12…`.
    pub file: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What a check saw.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Damage; empty if all is well.
    pub findings: Vec<Finding>,
    /// Things worth knowing that harm nothing.
    pub notes: Vec<String>,
    /// Packs looked at.
    pub packs: u64,
    /// Bytes of packs read.
    pub bytes_read: u64,
    /// Snapshots whose trees were walked.
    pub snapshots: u64,
}

/// Checks the whole repository.
pub fn check(repository: &Repository, request: CheckRequest, control: &Arc<Control>) -> Result<CheckReport> {
    let check = Check::new(repository, control);
    check.keys()?;
    let (snapshots, damaged) = repository.snapshots()?;
    for warning in damaged {
        check.find(warning.item, warning.reason);
    }
    let index = check.index()?;
    let listing = repository.list_packs()?;
    let blobs = index.by_pack();
    let mut packs: Vec<Id> = blobs.keys().copied().collect();
    packs.sort_unstable();
    check.sizes(&packs, &blobs, &listing);
    let unlisted = listing.keys().filter(|id| !blobs.contains_key(*id)).count();
    if unlisted > 0 {
        check.note(format!(
            "{unlisted} packs are in no index: a killed backup leaves such; 'prune' removes them"
        ));
    }
    let roots: Vec<Id> = snapshots.iter().map(|(_, snapshot)| snapshot.tree).collect();
    check.trees(&index, roots)?;
    if request.read_data {
        check.packs(&packs, &blobs, &listing)?;
    }
    Ok(check.report(packs.len(), snapshots.len()))
}

/// Checks these snapshots alone: their trees, and the packs that they need.
pub fn check_snapshots(
    repository: &Repository,
    snapshots: &[Id],
    request: CheckRequest,
    control: &Arc<Control>,
) -> Result<CheckReport> {
    let check = Check::new(repository, control);
    let index = check.index()?;
    let mut roots = Vec::new();
    for id in snapshots {
        match repository.snapshot(*id) {
            Ok(snapshot) => roots.push(snapshot.tree),
            Err(e) if e.kind == ErrorKind::Damaged => check.find(Folder::Snapshots.key(*id), e.message),
            Err(e) => return Err(e),
        }
    }
    let needed = check.trees(&index, roots)?;
    let listing = repository.list_packs()?;
    let blobs = index.by_pack();
    let mut packs: Vec<Id> = needed.into_iter().collect();
    packs.sort_unstable();
    check.sizes(&packs, &blobs, &listing);
    if request.read_data {
        check.packs(&packs, &blobs, &listing)?;
    }
    Ok(check.report(packs.len(), snapshots.len()))
}

struct Check<'a> {
    repository: &'a Repository,
    control: &'a Control,
    findings: Mutex<Vec<Finding>>,
    notes: Mutex<Vec<String>>,
    bytes_read: AtomicU64,
}

impl<'a> Check<'a> {
    fn new(repository: &'a Repository, control: &'a Control) -> Self {
        let (findings, notes, bytes_read) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        Self { repository, control, findings, notes, bytes_read }
    }

    fn find(&self, file: impl Into<String>, problem: impl Into<String>) {
        lock_mutex(&self.findings).push(Finding { file: file.into(), problem: problem.into() });
    }

    fn note(&self, note: String) {
        lock_mutex(&self.notes).push(note);
    }

    fn report(self, packs: usize, snapshots: usize) -> CheckReport {
        let mut findings = self.findings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        findings.sort_by(|a, b| (&a.file, &a.problem).cmp(&(&b.file, &b.problem)));
        findings.dedup();
        CheckReport {
            findings,
            notes: self.notes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner),
            packs: packs as u64,
            bytes_read: self.bytes_read.into_inner(),
            snapshots: snapshots as u64,
        }
    }

    fn keys(&self) -> Result<()> {
        for (id, _) in file::list(self.repository.storage(), Folder::Keys)? {
            match file::read_raw(self.repository.storage(), Folder::Keys, id) {
                Err(e) if e.kind == ErrorKind::Damaged => self.find(Folder::Keys.key(id), e.message),
                other => drop(other?),
            }
        }
        Ok(())
    }

    fn index(&self) -> Result<Index> {
        Index::load_lenient(self.repository.storage(), self.repository.key(), |id, e| {
            if e.kind != ErrorKind::Damaged {
                return Err(e);
            }
            self.find(Folder::Index.key(id), e.message);
            Ok(())
        })
    }

    fn sizes(&self, packs: &[Id], blobs: &HashMap<Id, Vec<PackedBlob>>, listing: &HashMap<Id, u64>) {
        for id in packs {
            let expected = blobs.get(id).map_or(0, |blobs| pack_size(blobs));
            match listing.get(id) {
                None => self.find(pack_key(*id), "the pack is missing"),
                Some(size) if *size != expected => {
                    self.find(
                        pack_key(*id),
                        format!("the pack has {size} bytes, the index reckons {expected}"),
                    );
                }
                Some(_) => {}
            }
        }
    }

    /// Walks all trees below `roots`, each once, level by level; returns the packs that they need.
    fn trees(&self, index: &Index, roots: Vec<Id>) -> Result<HashSet<Id>> {
        let mut seen: HashSet<Id> = HashSet::new();
        let needed = Mutex::new(HashSet::new());
        let mut level: Vec<Id> = roots.into_iter().filter(|id| seen.insert(*id)).collect();
        while !level.is_empty() {
            let (next, below) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
            parallel(threads(), level.len(), || {
                let mut opener = Opener::new()?;
                let (mut packs, mut found) = (HashSet::new(), Vec::new());
                while let Some(id) = level.get(next.fetch_add(1, Ordering::Relaxed)) {
                    self.control.check()?;
                    self.tree(index, *id, &mut opener, &mut packs, &mut found)?;
                }
                lock_mutex(&needed).extend(packs);
                lock_mutex(&below).append(&mut found);
                Ok(())
            })?;
            level = below.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
            level.retain(|id| seen.insert(*id));
        }
        Ok(needed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn tree(
        &self,
        index: &Index,
        id: Id,
        opener: &mut Opener,
        packs: &mut HashSet<Id>,
        below: &mut Vec<Id>,
    ) -> Result<()> {
        packs.extend(index.place(BlobKind::Tree, &id).map(|place| index.pack_id(place.pack)));
        let nodes = match self.repository.read_tree(index, id, opener) {
            Ok(nodes) => nodes,
            Err(e) if e.kind == ErrorKind::Damaged => {
                let place = index.place(BlobKind::Tree, &id).map(|place| pack_key(index.pack_id(place.pack)));
                self.find(place.unwrap_or_else(|| format!("tree {id}")), e.message);
                return Ok(());
            }
            Err(e) => return Err(e),
        };
        for node in nodes {
            for blob in &node.content {
                match index.place(BlobKind::Data, blob) {
                    Some(place) => drop(packs.insert(index.pack_id(place.pack))),
                    None => self.find(format!("blob {blob}"), "is needed by a file but in no index"),
                }
            }
            below.extend(node.subtree);
        }
        Ok(())
    }

    fn packs(
        &self,
        packs: &[Id],
        blobs: &HashMap<Id, Vec<PackedBlob>>,
        listing: &HashMap<Id, u64>,
    ) -> Result<()> {
        let progress = &self.control.progress;
        // One of a wrong size is named already, and might be of any size.
        let whole = |id: &&Id| {
            listing.get(*id).is_some_and(|size| *size == blobs.get(*id).map_or(0, |b| pack_size(b)))
        };
        let there: Vec<Id> = packs.iter().filter(whole).copied().collect();
        let bytes = there.iter().filter_map(|id| listing.get(id)).sum();
        progress.files_total.store(there.len() as u64, Ordering::Relaxed);
        progress.bytes_total.store(bytes, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        parallel(threads(), there.len(), || {
            let (mut opener, mut plain) = (Opener::new()?, Vec::new());
            while let Some(id) = there.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.control.check()?;
                let expected = blobs.get(id).map_or(&[][..], |blobs| blobs);
                if let Err(problem) = self.pack(*id, expected, &mut opener, &mut plain)? {
                    self.find(pack_key(*id), problem);
                }
                progress.file_done();
            }
            Ok(())
        })
    }

    /// `Ok(Err(…))` tells what is wrong with the pack.
    fn pack(
        &self,
        id: Id,
        expected: &[PackedBlob],
        opener: &mut Opener,
        plain: &mut Vec<u8>,
    ) -> Result<Result<(), String>> {
        let body = match self.repository.storage().get(&pack_key(id), PACK_BYTES_MAX) {
            Ok(body) => body,
            Err(e) if matches!(e.kind, StorageKind::NotFound | StorageKind::TooLarge) => {
                return Ok(Err(e.reason));
            }
            Err(e) => return Err(Error::from(e)),
        };
        self.bytes_read.fetch_add(body.len() as u64, Ordering::Relaxed);
        self.control.progress.bytes(body.len() as u64);
        Ok(self.pack_body(id, &body, expected, opener, plain))
    }

    fn pack_body(
        &self,
        id: Id,
        body: &[u8],
        expected: &[PackedBlob],
        opener: &mut Opener,
        plain: &mut Vec<u8>,
    ) -> Result<(), String> {
        if Id::of(body) != id {
            return Err("its content does not fit its name".to_owned());
        }
        let header = read_header(self.repository.key(), body)?;
        // Both are in order of offsets; the index may know fewer blobs than the pack has.
        let mut there = header.iter();
        if !expected.iter().all(|blob| there.any(|other| other == blob)) {
            return Err("its header and the index name different blobs".to_owned());
        }
        for blob in &header {
            let sealed = &body[blob.offset as usize..][..blob.length as usize];
            opener
                .open(self.repository.key(), sealed, blob.uncompressed, blob.id, plain)
                .map_err(|problem| format!("blob {} at byte {}: {problem}", blob.id, blob.offset))?;
        }
        Ok(())
    }
}
