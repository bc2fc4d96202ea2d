//! Prune: removes packs that no snapshot needs, and packs the rest anew where too much of it is waste.
//!
//! First a plan from a complete look at all snapshots and trees; anything missing or unreadable stops it before a
//! byte is removed. Then, each step leaving a whole repository behind should it be the last: repacked blobs are
//! stored; index files that list doomed packs are written anew without them; the old ones go; then the packs go.
//!
//! In memory are sums for each pack and a bit for each blob. Whether a copy of a blob stays follows from those and
//! from the index, which is gone through in order ([`Index::blobs`]).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::file::Folder;
use crate::index::{BLOBS_PER_FILE_MAX, Bits, BlobText, Entry, PackText, visit_index_file};
use crate::listing::Listing;
use crate::pack::{BlobKind, PackedBlob, pack_key};
use crate::pack_writer::{PackWriter, Plain, Sealer, Written};
use crate::repository::Opener;
use crate::seal::OVERHEAD;
use crate::tree::visit_references;
use crate::uploaders::with_uploaders;
use crate::walk::each_tree;
use crate::{
    Compression, Control, Error, ErrorKind, Id, Index, LockKind, LockOwner, Repository, Result, parallel,
    threads,
};

/// Packs below this size are worth joining once there are this many of them.
const SMALL_PACK_BYTES: u64 = (4 << 20) * 8 / 10;
/// And below this one if that is asked for: four fifths of a new pack.
const SMALLER_PACK_BYTES: u64 = (16 << 20) / 10 * 8;
const SMALL_PACKS_MIN: usize = 10;
/// About so many blobs are repacked in one go; for each the index is gone through once.
const REPACK_BLOBS: u64 = 500_000;

/// How to prune.
#[derive(Clone, Debug)]
pub struct PruneRequest {
    /// Waste that may stay, per cent of what is left then; restic's default is 5, and it reckons the same way.
    pub max_unused_percent: f64,
    /// The same in bytes, which then counts instead.
    pub max_unused_bytes: Option<u64>,
    /// So many bytes of packs are repacked at most.
    pub max_repack_bytes: Option<u64>,
    /// Repack nothing but directory listings.
    pub trees_alone: bool,
    /// Repack every pack that is smaller than it might be.
    pub repack_small: bool,
    /// Repack every pack that holds content which is not compressed, and compress it so hard.
    pub repack_uncompressed: Option<Compression>,
    /// Plan alone.
    pub dry_run: bool,
    /// Snapshots that count as forgotten already: what a dry run of forgetting them would free.
    pub forgotten: Vec<Id>,
}

impl Default for PruneRequest {
    fn default() -> Self {
        Self {
            max_unused_percent: 5.0,
            max_unused_bytes: None,
            max_repack_bytes: None,
            trees_alone: false,
            repack_small: false,
            repack_uncompressed: None,
            dry_run: false,
            forgotten: Vec::new(),
        }
    }
}

/// What a prune did, or would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Packs that nothing needs, or that were repacked.
    pub packs_removed: u64,
    /// Packs whose needed blobs were stored again elsewhere.
    pub packs_repacked: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Bytes that were stored again, as they lay there before.
    pub bytes_repacked: u64,
    /// Bytes of packs that are left; a plan reckons that what is repacked stays as large as it is.
    pub bytes_after: u64,
}

/// What becomes of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It stays as it is.
    Keep,
    /// It goes after its needed blobs were stored again.
    Repack,
    /// Nothing needs it.
    Remove,
    /// It is missing and nothing needs it: index files are written anew without it.
    Missing,
}

/// What the plan reckons of one pack.
#[derive(Clone, Copy, Default)]
struct Sums {
    /// Bytes of all its blobs.
    all: u64,
    /// Bytes of blobs that are needed, whether or not another pack has a copy.
    needed: u64,
    /// Bytes and number of the blobs that are kept here.
    wanted: u64,
    wanted_count: u64,
    has_data: bool,
    has_trees: bool,
    /// A blob that is kept here would be compressed if it were stored again.
    compressible: bool,
    /// It has a copy that cannot be read.
    damaged: bool,
    /// Place in the order in which packs may keep a blob that several have.
    rank: u32,
}

struct Plan {
    index: Index,
    compressing: Compressing,
    /// One bit for each needed blob.
    used: Bits,
    /// Copies (pack, offset) of needed blobs that cannot be read.
    bad: HashSet<(u32, u32)>,
    packs: Vec<Sums>,
    fates: Vec<Fate>,
    listing: Listing,
}

impl Plan {
    fn new(repository: &Repository, request: &PruneRequest, control: &Control) -> Result<Self> {
        // From the index files themselves: what is removed for good is not decided upon by a cache.
        let index = Index::load_fresh(repository)?;
        let listing = Listing::new(repository, &index)?;
        let used = used_blobs(repository, &index, &request.forgotten, control)?;
        let packs = vec![Sums::default(); index.pack_count()];
        let fates = vec![Fate::Keep; index.pack_count()];
        let compressing = Compressing { version: repository.version(), content: request.repack_uncompressed };
        let mut plan = Self { index, compressing, used, bad: HashSet::new(), packs, fates, listing };
        plan.sum_needed()?;
        plan.rank();
        plan.find_bad_copies(repository, control)?;
        plan.sum_wanted()?;
        plan.decide(request)?;
        Ok(plan)
    }

    fn sum_needed(&mut self) -> Result<()> {
        let Self { index, used, packs, .. } = self;
        index.blobs(&mut |blob, copies| {
            let is_used = used.is_set(blob);
            for copy in copies {
                let (pack, bytes) = (&mut packs[copy.pack as usize], u64::from(copy.place().length));
                pack.all += bytes;
                pack.needed += if is_used { bytes } else { 0 };
                match copy.kind() {
                    BlobKind::Data => pack.has_data = true,
                    BlobKind::Tree => pack.has_trees = true,
                }
            }
            Ok(())
        })
    }

    /// Where a blob has several copies, the pack with the most needed bytes keeps its own.
    fn rank(&mut self) {
        let mut order: Vec<u32> = (0..self.packs.len() as u32).collect();
        order.sort_unstable_by_key(|&pack| (std::cmp::Reverse(self.packs[pack as usize].needed), pack));
        for (rank, pack) in order.into_iter().enumerate() {
            self.packs[pack as usize].rank = rank as u32;
        }
    }

    /// Needed blobs that lie in several packs are read: a copy that is damaged must not be kept in place of a whole one.
    fn find_bad_copies(&mut self, repository: &Repository, control: &Control) -> Result<()> {
        let (mut opener, mut plain) = (Opener::new()?, Vec::new());
        let Self { index, used, listing, bad, packs, .. } = self;
        index.blobs(&mut |blob, copies| {
            if copies.len() < 2 || !used.is_set(blob) {
                return Ok(());
            }
            control.check()?;
            for copy in copies {
                let fine = listing.fits(index, copy.pack) && {
                    let packed = copy.packed();
                    let sealed = read_sealed(repository, index.pack_id(copy.pack), &packed)?;
                    opener.open(repository.key(), &sealed, packed.uncompressed, packed.id, &mut plain).is_ok()
                };
                if !fine {
                    bad.insert((copy.pack, copy.place().offset));
                    packs[copy.pack as usize].damaged = true;
                }
            }
            Ok(())
        })
    }

    /// The copy of a needed blob that stays: one that needs no compressing, so that work which was broken off is not
    /// done twice.
    fn chosen<'e>(&self, copies: &'e [Entry]) -> Option<&'e Entry> {
        let fine =
            |copy: &&Entry| self.bad.is_empty() || !self.bad.contains(&(copy.pack, copy.place().offset));
        copies
            .iter()
            .filter(fine)
            .min_by_key(|copy| (self.compressing.is_due(&copy.packed()), self.packs[copy.pack as usize].rank))
    }

    fn sum_wanted(&mut self) -> Result<()> {
        let mut wanted = vec![(0, 0, false); self.packs.len()];
        self.index.blobs(&mut |blob, copies| {
            if !self.used.is_set(blob) {
                return Ok(());
            }
            let Some(copy) = self.chosen(copies) else {
                let id = copies[0].id;
                let message = format!("nothing was removed: no copy of blob {id} can be read; run 'check'");
                return Err(Error::new(ErrorKind::Damaged, message));
            };
            let (bytes, count, compressible) = &mut wanted[copy.pack as usize];
            *bytes += u64::from(copy.place().length);
            *count += 1;
            *compressible |= self.compressing.is_due(&copy.packed());
            Ok(())
        })?;
        for (pack, sums) in self.packs.iter_mut().zip(wanted) {
            (pack.wanted, pack.wanted_count, pack.compressible) = sums;
        }
        Ok(())
    }

    fn decide(&mut self, request: &PruneRequest) -> Result<()> {
        let mut partly = Vec::new();
        for pack in 0..self.packs.len() as u32 {
            let there = self.listing.size(pack);
            if self.packs[pack as usize].wanted_count == 0 {
                let fate = if there.is_some() { Fate::Remove } else { Fate::Missing };
                self.fates[pack as usize] = fate;
            } else if self.listing.fits(&self.index, pack) {
                partly.push(pack);
            } else {
                let message = format!(
                    "nothing was removed: {} is missing or has a wrong size; run 'check'",
                    pack_key(self.index.pack_id(pack))
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
        self.choose(partly, request);
        Ok(())
    }

    /// Chooses which of the packs with needed blobs are repacked: mixed ones, those with the most waste until the
    /// rest is within the limit, those with something to be compressed, damaged ones, and small ones if there are many.
    fn choose(&mut self, mut partly: Vec<u32>, request: &PruneRequest) {
        let sums = |pack: u32| &self.packs[pack as usize];
        let waste = |pack: u32| sums(pack).all - sums(pack).wanted;
        let mut unused: u64 = partly.iter().map(|pack| waste(*pack)).sum();
        // By what is needed, which stays the same: reckoned by all, the next prune would find the limit lower.
        let needed: u64 = partly.iter().map(|pack| sums(*pack).wanted).sum();
        let percent = request.max_unused_percent.clamp(0.0, 100.0);
        let percentage = (needed as f64 * percent / (100.0 - percent)) as u64;
        let allowed = request.max_unused_bytes.unwrap_or(percentage);
        let small_bytes = if request.repack_small { SMALLER_PACK_BYTES } else { SMALL_PACK_BYTES };
        let small = |pack: u32| self.index.pack_size(pack) < small_bytes;
        let small_packs = |trees: bool| {
            partly.iter().filter(|pack| small(**pack) && sums(**pack).has_trees == trees).count()
        };
        let counts = [small_packs(false), small_packs(true)];
        // A repack leaves up to two small packs of content and one of listings: those are not repacked again.
        let join_small = [counts[0] > 2, counts[1] > 1].map(|several| match request.repack_small {
            true => several,
            false => counts[0] + counts[1] >= SMALL_PACKS_MIN,
        });
        let mut rest = request.max_repack_bytes.unwrap_or(u64::MAX);
        let share = |pack: u32| waste(pack) * 1000 / sums(pack).all.max(1);
        partly.sort_unstable_by_key(|pack| (std::cmp::Reverse(share(*pack)), *pack));
        for pack in partly {
            let (gone, sums) = (waste(pack), sums(pack));
            let mixed = sums.has_data && sums.has_trees;
            let joined = join_small[usize::from(sums.has_trees)] && small(pack);
            let worth = mixed || sums.compressible || (gone > 0 && unused > allowed) || joined;
            let size = self.index.pack_size(pack);
            let may = (!request.trees_alone || !sums.has_data) && size <= rest;
            if sums.damaged || (worth && may) {
                unused -= gone;
                rest = rest.saturating_sub(size);
                self.fates[pack as usize] = Fate::Repack;
            }
        }
    }

    /// The packs of a fate.
    fn packs(&self, fate: Fate) -> impl Iterator<Item = u32> + '_ {
        self.fates.iter().zip(0u32..).filter(move |(this, _)| **this == fate).map(|(_, pack)| pack)
    }

    /// There is nothing to do.
    fn is_idle(&self) -> bool {
        self.listing.unlisted.is_empty() && self.fates.iter().all(|fate| *fate == Fate::Keep)
    }

    fn report(&self) -> PruneReport {
        let mut report = PruneReport {
            packs_removed: self.listing.unlisted.len() as u64,
            bytes_removed: self.listing.unlisted.iter().map(|(_, size)| size).sum(),
            ..PruneReport::default()
        };
        for (pack, fate) in self.fates.iter().enumerate() {
            let (size, sums) = (self.listing.size(pack as u32).unwrap_or(0), &self.packs[pack]);
            match fate {
                Fate::Keep => report.bytes_after += size,
                Fate::Missing => {}
                Fate::Remove | Fate::Repack => {
                    report.packs_removed += 1;
                    report.bytes_removed += size;
                }
            }
            if *fate == Fate::Repack {
                report.packs_repacked += 1;
                report.bytes_repacked += sums.wanted;
            }
        }
        report.bytes_after += report.bytes_repacked;
        report
    }
}

/// Prunes under the exclusive lock, which it takes itself.
pub fn prune(
    repository: &Repository,
    owner: &LockOwner,
    request: &PruneRequest,
    control: &Arc<Control>,
) -> Result<PruneReport> {
    repository.check_removal()?;
    if !request.dry_run && !request.forgotten.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "only a dry run may take snapshots for forgotten"));
    }
    if request.repack_uncompressed.is_some() && repository.version() < 2 {
        let problem =
            "a repository of version 1 has no compression; `restic migrate upgrade_repo_v2` brings it";
        return Err(Error::new(ErrorKind::Invalid, problem));
    }
    let lock = repository.lock(LockKind::Exclusive, owner)?;
    let plan = Plan::new(repository, request, control)?;
    let mut report = plan.report();
    if request.dry_run || plan.is_idle() {
        return Ok(report);
    }
    lock.check()?;
    let written = execute(repository, &plan, control, &lock)?;
    let kept = plan.packs(Fate::Keep).filter_map(|pack| plan.listing.size(pack));
    report.bytes_after = kept.chain(written.packs.iter().map(|(_, size)| *size)).sum();
    Ok(report)
}

/// Which blobs are compressed when they are stored again, and how hard.
#[derive(Clone, Copy)]
struct Compressing {
    version: u32,
    /// `None`: listings alone.
    content: Option<Compression>,
}

impl Compressing {
    /// Listings are always compressed where the format can: only a repository that was upgraded has others. So it is
    /// with restic.
    fn is_due(&self, blob: &PackedBlob) -> bool {
        self.version >= 2
            && blob.uncompressed.is_none()
            && blob.length as usize > OVERHEAD
            && (blob.kind == BlobKind::Tree || self.content.is_some())
    }

    /// Noise is compressed like anything else, so that the next look finds nothing to do.
    fn sealer(&self) -> Result<Sealer> {
        Ok(Sealer::new(self.content.unwrap_or_default(), true)?.of_noise_too())
    }
}

/// A bit for each blob that some snapshot needs. An unreadable snapshot or tree stops everything.
fn used_blobs(repository: &Repository, index: &Index, forgotten: &[Id], control: &Control) -> Result<Bits> {
    let (mut snapshots, damaged) = repository.snapshots()?;
    snapshots.retain(|(id, _)| !forgotten.contains(id));
    if let Some(warning) = damaged.into_iter().next() {
        let message = format!("nothing was removed, as a snapshot cannot be read: {}", warning.reason);
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    let used = Bits::new(index.blob_count());
    let need = |kind, id: &Id| match index.first(kind, id)? {
        Some((number, _)) => {
            used.set(number);
            Ok(())
        }
        None => {
            let message = format!("nothing was removed: blob {id} is needed but in no index; run 'check'");
            Err(Error::new(ErrorKind::Damaged, message))
        }
    };
    let roots = snapshots.iter().map(|(_, snapshot)| snapshot.tree).collect();
    each_tree(repository, index, roots, control, &|tree, text, below| {
        let text = text?;
        need(BlobKind::Tree, &tree)?;
        visit_references(tree, &text, &mut |entry| {
            below.extend(entry.subtree);
            entry.content.iter().flatten().try_for_each(|id| need(BlobKind::Data, id))
        })
    })?;
    Ok(used)
}

fn read_sealed(repository: &Repository, pack: Id, blob: &PackedBlob) -> Result<Vec<u8>> {
    let range = u64::from(blob.offset)..u64::from(blob.offset) + u64::from(blob.length);
    Ok(repository.storage().get_range(&pack_key(pack), range)?)
}

fn execute(repository: &Repository, plan: &Plan, control: &Control, lock: &crate::Lock) -> Result<Written> {
    let writer = PackWriter::new(repository, control);
    with_uploaders(&writer, || repack(repository, plan, control, &writer))?;
    if let Some(failure) = writer.take_failure() {
        return Err(failure);
    }
    let obsolete = rewrite_index(repository, plan, &writer)?;
    let written = writer.finish()?;
    // From here on the new index alone counts; what follows only tidies up and may be repeated.
    lock.removing(obsolete.iter().filter(|id| !written.indexes.contains(id)), |id| {
        Ok(repository.storage().delete(&Folder::Index.key(*id))?)
    })?;
    let stored: HashSet<Id> = written.packs.iter().map(|(id, _)| *id).collect();
    let gone = plan.packs(Fate::Remove).chain(plan.packs(Fate::Repack)).map(|pack| plan.index.pack_id(pack));
    let gone = gone.chain(plan.listing.unlisted.iter().map(|(id, _)| *id));
    lock.removing(gone.filter(|id| !stored.contains(id)), |id| {
        Ok(repository.storage().delete(&pack_key(id))?)
    })?;
    Ok(written)
}

/// Lists the packs of index files that cannot stay once more, without those that go; returns these files. A file
/// stays if all its packs do and it is not small.
fn rewrite_index(repository: &Repository, plan: &Plan, writer: &PackWriter<'_>) -> Result<Vec<Id>> {
    let index = &plan.index;
    let mut obsolete = Vec::new();
    // Packs of which all blobs are listed by a file that stays, or were listed anew.
    let listed = Bits::new(index.pack_count() as u64);
    let mut small = 0;
    for (file, packs) in index.numbered_files() {
        let stays =
            packs.iter().all(|&pack| plan.fates[pack as usize] == Fate::Keep && !index.is_doomed(pack));
        let blobs: u64 = packs.iter().map(|pack| u64::from(index.blobs_in_pack(*pack))).sum();
        let is_small = blobs < BLOBS_PER_FILE_MAX as u64 / 2;
        small += usize::from(stays && is_small);
        if !stays || is_small {
            obsolete.push(file);
        }
    }
    // A single small file has nothing to be joined with.
    if small == 1 && obsolete.len() == 1 {
        obsolete.clear();
    }
    for file in &obsolete {
        visit_index_file(repository, *file, &mut |pack| {
            let Some(number) = index.pack_number(&pack.id) else { return Ok(()) };
            if plan.fates[number as usize] != Fate::Keep || listed.is_set(u64::from(number)) {
                return Ok(());
            }
            let mut blobs = pack.blobs;
            blobs.sort_unstable_by_key(|blob| (blob.offset, blob.id));
            blobs.dedup_by_key(|blob| (blob.offset, blob.id));
            // Some file may list a part of a pack only; then the other parts must be listed too.
            if blobs.len() as u64 == u64::from(index.blobs_in_pack(number)) {
                listed.set(u64::from(number));
            }
            writer.list(PackText { id: pack.id, blobs: blobs.iter().map(BlobText::from).collect() })
        })?;
    }
    Ok(obsolete)
}

/// Stores the needed blobs of doomed packs again.
fn repack(repository: &Repository, plan: &Plan, control: &Control, writer: &PackWriter<'_>) -> Result<()> {
    let mut packs = plan.packs(Fate::Repack).peekable();
    while packs.peek().is_some() {
        let (mut batch, mut blobs) = (HashSet::new(), 0);
        while blobs < REPACK_BLOBS
            && let Some(pack) = packs.next()
        {
            blobs += plan.packs[pack as usize].wanted_count;
            batch.insert(pack);
        }
        let mut wanted: Vec<Entry> = Vec::with_capacity(usize::try_from(blobs).unwrap_or(0));
        plan.index.blobs(&mut |blob, copies| {
            let chosen = plan.used.is_set(blob).then(|| plan.chosen(copies)).flatten();
            wanted.extend(chosen.filter(|copy| batch.contains(&copy.pack)));
            Ok(())
        })?;
        wanted.sort_unstable_by_key(|copy| (copy.pack, copy.place().offset));
        repack_blobs(repository, plan, &wanted, control, writer)?;
    }
    Ok(())
}

/// Sealed bytes go as they are, after they opened and hashed right, unless they are to be compressed. `wanted` is in
/// order of packs.
fn repack_blobs(
    repository: &Repository,
    plan: &Plan,
    wanted: &[Entry],
    control: &Control,
    writer: &PackWriter<'_>,
) -> Result<()> {
    let packs: Vec<&[Entry]> = wanted.chunk_by(|a, b| a.pack == b.pack).collect();
    let next = AtomicUsize::new(0);
    parallel(threads(), packs.len(), || {
        let (mut opener, mut plain) = (Opener::new()?, Vec::new());
        let mut sealer = plan.compressing.sealer()?;
        while let Some(copies) = packs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let pack = plan.index.pack_id(copies[0].pack);
            for copy in *copies {
                control.check()?;
                if writer.has_failed() {
                    return Ok(());
                }
                let blob = copy.packed();
                let sealed = read_sealed(repository, pack, &blob)?;
                opener.open(repository.key(), &sealed, blob.uncompressed, blob.id, &mut plain).map_err(
                    |problem| {
                        let problem = format!("blob {}: {problem}; nothing was removed", blob.id);
                        Error::damaged(pack_key(pack), problem)
                    },
                )?;
                if plan.compressing.is_due(&blob) {
                    sealer.store(writer, blob.kind, &Plain::of_id(blob.id, &plain))?;
                } else {
                    writer.add(blob.kind, blob.id, &sealed, blob.uncompressed)?;
                }
            }
        }
        Ok(())
    })
}
