//! Check: is everything there, whole, and right?
//!
//! Without `read_data` the structure is checked: every index, snapshot and tree opens, every blob that a tree names
//! is in an index, and every pack is there with the size that the index reckons. With it every pack is read: its
//! content must fit its name, its header the index, and each blob its id. Each finding names the damaged file.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use rand::seq::SliceRandom as _;
use storage::ErrorKind as StorageKind;

use crate::file::{self, Folder};
use crate::hash::{self, Hashing};
use crate::index::PackMarks;
use crate::listing::Listing;
use crate::pack::{BlobKind, PackedBlob, pack_key, read_header};
use crate::repository::Opener;
use crate::seal::SealKey;
use crate::tree::visit_nodes;
use crate::walk::each_tree;
use crate::{Control, Error, ErrorKind, Id, Index, Repository, Result, fetchers, lock_mutex, parallel};

/// Longest pack that is read whole.
const PACK_BYTES_MAX: u64 = 4 << 30;

/// How thoroughly.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckRequest {
    /// Read every pack, blob by blob.
    pub read_data: bool,
}

/// Which packs a check reads.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ReadData {
    /// None of them: the structure alone.
    #[default]
    None,
    /// All of them.
    All,
    /// Those of part `n` of `of`, from 1; all parts together are all packs.
    Part {
        /// Which part.
        n: u8,
        /// How many parts there are.
        of: u8,
    },
    /// So many per cent of them, chosen by chance.
    Percent(f64),
    /// About so many bytes of them, chosen by chance.
    Bytes(u64),
}

impl ReadData {
    /// Takes those that are read out of all packs.
    fn choose(self, index: &Index, mut packs: Vec<u32>) -> Vec<u32> {
        let percent = match self {
            Self::None => 0.0,
            Self::All => return packs,
            Self::Part { n, of } => {
                let of = of.max(1);
                packs.retain(|pack| index.pack_id(*pack).0[0] % of == n.saturating_sub(1));
                return packs;
            }
            Self::Percent(percent) => percent,
            Self::Bytes(bytes) => {
                let all: u64 = packs.iter().map(|pack| index.pack_size(*pack)).sum();
                bytes as f64 * 100.0 / all.max(1) as f64
            }
        };
        if percent > 0.0 && !packs.is_empty() {
            let count = (packs.len() as f64 * percent / 100.0) as usize;
            packs.shuffle(&mut rand::rng());
            packs.truncate(count.max(1));
            packs.sort_unstable();
            return packs;
        }
        Vec::new()
    }
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
    check_reading(repository, if request.read_data { ReadData::All } else { ReadData::None }, control)
}

/// Checks the structure of the whole repository, and some of its packs.
pub fn check_reading(repository: &Repository, read: ReadData, control: &Arc<Control>) -> Result<CheckReport> {
    let check = Check::new(repository, control);
    check.keys()?;
    let (snapshots, damaged) = repository.snapshots()?;
    for warning in damaged {
        check.find(warning.item, warning.reason);
    }
    let index = check.index()?;
    let listing = Listing::new(repository, &index)?;
    let packs: Vec<u32> = (0..index.pack_count() as u32).collect();
    check.sizes(&index, &packs, &listing);
    let unlisted = listing.unlisted.len();
    if unlisted > 0 {
        check.note(format!(
            "{unlisted} packs are in no index: a killed backup leaves such; 'prune' removes them"
        ));
    }
    let roots: Vec<Id> = snapshots.iter().map(|(_, snapshot)| snapshot.tree).collect();
    check.trees(&index, roots)?;
    let read = read.choose(&index, packs.clone());
    check.packs(&index, &read, &listing)?;
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
    let packs: Vec<u32> = check.trees(&index, roots)?.numbers().collect();
    let listing = Listing::new(repository, &index)?;
    check.sizes(&index, &packs, &listing);
    if request.read_data {
        check.packs(&index, &packs, &listing)?;
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

    /// The index by the index files themselves: a cache would hide that they are damaged.
    fn index(&self) -> Result<Index> {
        let (index, damaged) = Index::load_lenient(self.repository)?;
        for (id, e) in damaged {
            self.find(Folder::Index.key(id), e.message);
        }
        Ok(index)
    }

    fn sizes(&self, index: &Index, packs: &[u32], listing: &Listing) {
        for &pack in packs {
            let (key, expected) = (|| pack_key(index.pack_id(pack)), index.pack_size(pack));
            match listing.size(pack) {
                None => self.find(key(), "the pack is missing"),
                Some(size) if size != expected => {
                    self.find(key(), format!("the pack has {size} bytes, the index reckons {expected}"));
                }
                Some(_) => {}
            }
        }
    }

    /// Walks all trees below `roots`, each once; returns the packs that they need.
    fn trees(&self, index: &Index, roots: Vec<Id>) -> Result<PackMarks> {
        let needed = PackMarks::new(index);
        each_tree(self.repository, index, roots, self.control, &|id, text, below| {
            let place = index.place(BlobKind::Tree, &id)?;
            place.iter().for_each(|place| needed.mark(place));
            let read = text.and_then(|text| {
                visit_nodes(id, &text, &mut |node| {
                    below.extend(node.subtree);
                    self.content(index, &node.content, &needed)
                })
            });
            match read {
                Err(e) if e.kind == ErrorKind::Damaged => {
                    let place = place.map(|place| pack_key(index.pack_id(place.pack)));
                    self.find(place.unwrap_or_else(|| format!("tree {id}")), e.message);
                    Ok(())
                }
                other => other,
            }
        })?;
        Ok(needed)
    }

    fn content(&self, index: &Index, content: &[Id], needed: &PackMarks) -> Result<()> {
        for blob in content {
            match index.place(BlobKind::Data, blob)? {
                Some(place) => needed.mark(&place),
                None => self.find(format!("blob {blob}"), "is needed by a file but in no index"),
            }
        }
        Ok(())
    }

    fn packs(&self, index: &Index, packs: &[u32], listing: &Listing) -> Result<()> {
        let progress = &self.control.progress;
        // One of a wrong size is named already, and might be of any size.
        let there: Vec<u32> = packs.iter().copied().filter(|pack| listing.fits(index, *pack)).collect();
        let bytes = there.iter().map(|pack| index.pack_size(*pack)).sum();
        progress.files_total.store(there.len() as u64, Ordering::Relaxed);
        progress.bytes_total.store(bytes, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        parallel(fetchers(self.repository.storage()), there.len(), || {
            let mut reader =
                PackReader { opener: Opener::new()?, body: Vec::new(), plain: Default::default() };
            while let Some(pack) = there.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.control.check()?;
                if let Err(problem) = self.pack(index, *pack, &mut reader)? {
                    self.find(pack_key(index.pack_id(*pack)), problem);
                }
                progress.file_done();
            }
            Ok(())
        })
    }

    /// `Ok(Err(…))` tells what is wrong with the pack.
    fn pack(&self, index: &Index, pack: u32, reader: &mut PackReader) -> Result<Result<(), String>> {
        let key = pack_key(index.pack_id(pack));
        match self.repository.storage().get_into(&key, PACK_BYTES_MAX, &mut reader.body) {
            Ok(()) => {}
            Err(e) if matches!(e.kind, StorageKind::NotFound | StorageKind::TooLarge) => {
                return Ok(Err(e.reason));
            }
            Err(e) => return Err(Error::from(e)),
        }
        let length = reader.body.len() as u64;
        self.bytes_read.fetch_add(length, Ordering::Relaxed);
        self.control.progress.bytes(length);
        reader.check(self.repository.key(), index, pack)
    }
}

/// What one thread needs to read packs, reused from pack to pack.
struct PackReader {
    opener: Opener,
    body: Vec<u8>,
    /// Plaintexts of two blobs.
    plain: [Vec<u8>; 2],
}

impl PackReader {
    /// Compares the pack in `body` with its name, its header with the index, and each blob with its id. The name comes
    /// last, as the pack is hashed beside its blobs, but is what is told if it does not fit.
    fn check(&mut self, key: &SealKey, index: &Index, pack: u32) -> Result<Result<(), String>> {
        let Self { opener, body, plain } = self;
        let mut name = Hashing::new(body);
        let content = check_content(key, index, pack, body, opener, plain, &mut name)?;
        Ok(if name.finish() == index.pack_id(pack) {
            content
        } else {
            Err("its content does not fit its name".to_owned())
        })
    }
}

fn check_content(
    key: &SealKey,
    index: &Index,
    pack: u32,
    body: &[u8],
    opener: &mut Opener,
    plain: &mut [Vec<u8>; 2],
    name: &mut Hashing<'_>,
) -> Result<Result<(), String>> {
    let header = match read_header(key, body) {
        Ok(header) => header,
        Err(problem) => return Ok(Err(problem)),
    };
    // The index may know fewer blobs than the pack has, but none that it has not.
    let mut listed = 0;
    for blob in &header {
        listed += u32::from(index.lists(pack, blob)?);
    }
    if listed != index.blobs_in_pack(pack) {
        return Ok(Err("its header and the index name different blobs".to_owned()));
    }
    Ok(header.chunks(2).try_for_each(|blobs| {
        for (blob, plain) in blobs.iter().zip(&mut *plain) {
            let sealed = &body[blob.offset as usize..][..blob.length as usize];
            opener.unseal(key, sealed, blob.uncompressed, plain).map_err(|problem| wrong(blob, &problem))?;
        }
        let [a, b] = &*plain;
        let (mut a, mut b) = (Hashing::new(a), Hashing::new(if blobs.len() == 2 { b } else { &[] }));
        hash::advance(&mut a, &mut b);
        hash::advance(&mut a, name);
        hash::advance(&mut b, name);
        for (blob, hashing) in blobs.iter().zip([a, b]) {
            if hashing.finish() != blob.id {
                return Err(wrong(blob, "its content does not fit its id"));
            }
        }
        Ok(())
    }))
}

fn wrong(blob: &PackedBlob, problem: &str) -> String {
    format!("blob {} at byte {}: {problem}", blob.id, blob.offset)
}
