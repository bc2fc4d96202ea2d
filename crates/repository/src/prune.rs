//! Prune: removes packs that no snapshot needs, and packs the rest anew where too much of it is waste.
//!
//! First a plan from a complete look at all snapshots and trees; anything missing or unreadable stops it before a
//! byte is removed. Then, each step leaving a whole repository behind should it be the last: repacked blobs are
//! stored; new index files without the doomed packs are written; the old index files go; then the packs go.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::file::{self, Folder};
use crate::index::{BlobText, PackText};
use crate::pack::{BlobKind, PackedBlob, pack_key, pack_size};
use crate::pack_writer::PackWriter;
use crate::repository::Opener;
use crate::{
    Control, Error, ErrorKind, Id, Index, LockKind, LockOwner, Repository, Result, join, parallel, spawn,
    threads,
};

/// Packs below this size are worth joining once there are this many of them.
const SMALL_PACK_BYTES: u64 = (4 << 20) * 8 / 10;
const SMALL_PACKS_MIN: usize = 10;
/// Threads that store repacked blobs.
const UPLOADERS: usize = 2;

/// How to prune.
#[derive(Clone, Debug)]
pub struct PruneRequest {
    /// Waste that may stay, per cent of the whole; restic's default is 5.
    pub max_unused_percent: f64,
    /// Plan alone.
    pub dry_run: bool,
    /// Snapshots that count as forgotten already: what a dry run of forgetting them would free.
    pub forgotten: Vec<Id>,
}

impl Default for PruneRequest {
    fn default() -> Self {
        Self { max_unused_percent: 5.0, dry_run: false, forgotten: Vec::new() }
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
    /// Bytes that were stored again.
    pub bytes_repacked: u64,
    /// Bytes of packs that are left.
    pub bytes_after: u64,
}

/// What is to be done with each pack.
struct Plan {
    /// Packs that stay, with all their blobs.
    keep: Vec<(Id, Vec<PackedBlob>)>,
    /// Packs that go after these blobs of theirs were stored again.
    repack: Vec<(Id, Vec<PackedBlob>)>,
    /// Packs that go: unneeded, or in no index at all.
    remove: Vec<Id>,
    old_indexes: Vec<Id>,
    /// An index names a pack that is missing and not needed: it is written anew without it.
    missing: bool,
    sizes: HashMap<Id, u64>,
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
    let lock = repository.lock(LockKind::Exclusive, owner)?;
    let plan = plan(repository, request, control)?;
    let report = report(&plan);
    if request.dry_run || (plan.remove.is_empty() && plan.repack.is_empty() && !plan.missing) {
        return Ok(report);
    }
    lock.check()?;
    execute(repository, &plan, control, &lock)?;
    Ok(report)
}

fn report(plan: &Plan) -> PruneReport {
    let size = |id: &Id| plan.sizes.get(id).copied().unwrap_or(0);
    let kept: u64 = plan.keep.iter().map(|(id, _)| size(id)).sum();
    let repacked: u64 =
        plan.repack.iter().flat_map(|(_, blobs)| blobs).map(|blob| u64::from(blob.length)).sum();
    let removed = plan.remove.iter().chain(plan.repack.iter().map(|(id, _)| id));
    PruneReport {
        packs_removed: (plan.remove.len() + plan.repack.len()) as u64,
        packs_repacked: plan.repack.len() as u64,
        bytes_removed: removed.map(size).sum(),
        bytes_repacked: repacked,
        bytes_after: kept + repacked,
    }
}

/// All blobs that some snapshot needs. An unreadable snapshot or tree stops everything.
fn used_blobs(
    repository: &Repository,
    index: &Index,
    forgotten: &[Id],
    control: &Control,
) -> Result<HashSet<(BlobKind, Id)>> {
    let (mut snapshots, damaged) = repository.snapshots()?;
    snapshots.retain(|(id, _)| !forgotten.contains(id));
    if let Some(warning) = damaged.into_iter().next() {
        let message = format!("nothing was removed, as a snapshot cannot be read: {}", warning.reason);
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    let mut used = HashSet::new();
    let mut pending: Vec<Id> = snapshots.into_iter().map(|(_, snapshot)| snapshot.tree).collect();
    let mut opener = Opener::new()?;
    while let Some(tree) = pending.pop() {
        control.check()?;
        if !used.insert((BlobKind::Tree, tree)) {
            continue;
        }
        for node in repository.read_tree(index, tree, &mut opener)? {
            for id in node.content {
                if index.place(BlobKind::Data, &id).is_none() {
                    let message =
                        format!("nothing was removed: blob {id} is needed but in no index; run 'check'");
                    return Err(Error::new(ErrorKind::Damaged, message));
                }
                used.insert((BlobKind::Data, id));
            }
            pending.extend(node.subtree);
        }
    }
    Ok(used)
}

fn plan(repository: &Repository, request: &PruneRequest, control: &Control) -> Result<Plan> {
    // Listed before the index is read: what is stored meanwhile is then unknown to both, or known.
    let old_indexes: Vec<Id> =
        file::list(repository.storage(), Folder::Index)?.into_iter().map(|(id, _)| id).collect();
    let index = repository.load_index(&|_| true)?;
    let sizes = repository.list_packs()?;
    let mut used = used_blobs(repository, &index, &request.forgotten, control)?;
    let mut packs: Vec<(Id, Vec<PackedBlob>)> = index.by_pack().into_iter().collect();
    let bad = bad_copies(repository, &packs, &used, &sizes, control)?;
    // Where a blob has several copies, the pack with the most needed bytes keeps its own.
    let needed = |blobs: &[PackedBlob]| -> u64 {
        blobs.iter().filter(|b| used.contains(&(b.kind, b.id))).map(|b| u64::from(b.length)).sum()
    };
    packs.sort_by_cached_key(|(id, blobs)| (std::cmp::Reverse(needed(blobs)), *id));
    let mut plan =
        Plan { keep: Vec::new(), repack: Vec::new(), remove: Vec::new(), old_indexes, missing: false, sizes };
    let mut partly = Vec::new();
    for (id, blobs) in packs {
        let wanted: Vec<PackedBlob> = blobs
            .iter()
            .filter(|b| !bad.contains(&(id, b.offset)) && used.remove(&(b.kind, b.id)))
            .copied()
            .collect();
        match plan.sizes.get(&id) {
            None if wanted.is_empty() => plan.missing = true,
            Some(_) if wanted.is_empty() => plan.remove.push(id),
            Some(size) if *size == pack_size(&blobs) => partly.push((id, blobs, wanted)),
            _ => {
                let message = format!(
                    "nothing was removed: {} is missing or has a wrong size; run 'check'",
                    pack_key(id)
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            }
        }
    }
    if let Some((_, id)) = used.iter().next() {
        let message = format!("nothing was removed: no copy of blob {id} can be read; run 'check'");
        return Err(Error::new(ErrorKind::Damaged, message));
    }
    let damaged = bad.into_iter().map(|(id, _)| id).collect();
    choose(&mut plan, partly, &damaged, request);
    let listed: HashSet<Id> = index.packs().into_keys().collect();
    plan.remove.extend(plan.sizes.keys().filter(|id| !listed.contains(*id)));
    plan.remove.sort_unstable();
    Ok(plan)
}

/// Copies (pack, offset) of needed blobs that lie in several packs and cannot be read: none of them may be kept
/// in place of a whole one.
fn bad_copies(
    repository: &Repository,
    packs: &[(Id, Vec<PackedBlob>)],
    used: &HashSet<(BlobKind, Id)>,
    sizes: &HashMap<Id, u64>,
    control: &Control,
) -> Result<HashSet<(Id, u32)>> {
    let mut once = HashSet::new();
    let several: HashSet<(BlobKind, Id)> = packs
        .iter()
        .flat_map(|(_, blobs)| blobs)
        .map(|blob| (blob.kind, blob.id))
        .filter(|blob| used.contains(blob) && !once.insert(*blob))
        .collect();
    drop(once);
    let (mut bad, mut opener, mut plain) = (HashSet::new(), Opener::new()?, Vec::new());
    for (id, blobs) in packs {
        let whole = sizes.get(id) == Some(&pack_size(blobs));
        for blob in blobs.iter().filter(|blob| several.contains(&(blob.kind, blob.id))) {
            control.check()?;
            let range = u64::from(blob.offset)..u64::from(blob.offset) + u64::from(blob.length);
            let fine = whole && {
                let sealed = repository.storage().get_range(&pack_key(*id), range)?;
                opener.open(repository.key(), &sealed, blob.uncompressed, blob.id, &mut plain).is_ok()
            };
            if !fine {
                bad.insert((*id, blob.offset));
            }
        }
    }
    Ok(bad)
}

/// Chooses which of the packs with needed blobs are repacked: mixed ones, those with the most waste until the rest
/// is within the limit, damaged ones, and small ones if there are many.
fn choose(
    plan: &mut Plan,
    mut packs: Vec<(Id, Vec<PackedBlob>, Vec<PackedBlob>)>,
    damaged: &HashSet<Id>,
    request: &PruneRequest,
) {
    let bytes = |blobs: &[PackedBlob]| blobs.iter().map(|b| u64::from(b.length)).sum::<u64>();
    let waste = |(_, all, wanted): &(Id, Vec<PackedBlob>, Vec<PackedBlob>)| bytes(all) - bytes(wanted);
    let total: u64 = packs.iter().map(|(_, all, _)| bytes(all)).sum();
    let mut unused: u64 = packs.iter().map(waste).sum();
    let allowed = (total as f64 * request.max_unused_percent.clamp(0.0, 100.0) / 100.0) as u64;
    let small = |blobs: &[PackedBlob]| pack_size(blobs) < SMALL_PACK_BYTES;
    let join_small = packs.iter().filter(|(_, all, _)| small(all)).count() >= SMALL_PACKS_MIN;
    packs.sort_by_cached_key(|pack| (std::cmp::Reverse(waste(pack) * 1000 / bytes(&pack.1).max(1)), pack.0));
    for (id, all, wanted) in packs {
        let gone = bytes(&all) - bytes(&wanted);
        let mixed = all.iter().any(|blob| blob.kind != all[0].kind);
        if mixed || damaged.contains(&id) || (gone > 0 && unused > allowed) || (join_small && small(&all)) {
            unused -= gone;
            plan.repack.push((id, wanted));
        } else {
            plan.keep.push((id, all));
        }
    }
}

fn execute(repository: &Repository, plan: &Plan, control: &Control, lock: &crate::Lock) -> Result<()> {
    let writer = PackWriter::new(repository, control);
    std::thread::scope(|scope| {
        let uploader = || {
            writer.run_uploader();
            Ok(())
        };
        let uploaders: Vec<_> = (0..UPLOADERS).map_while(|_| spawn(scope, uploader).ok()).collect();
        if uploaders.is_empty() {
            return Err(Error::new(ErrorKind::Io, "cannot start a thread; raise the limit on processes"));
        }
        if let Err(error) = repack(repository, plan, control, &writer) {
            writer.fail(error);
        }
        writer.close();
        uploaders.into_iter().try_for_each(join)
    })?;
    for (id, blobs) in &plan.keep {
        writer.list(PackText { id: *id, blobs: blobs.iter().map(BlobText::from).collect() })?;
    }
    let written = writer.finish()?;
    lock.check()?;
    // From here on the new index alone counts; what follows only tidies up and may be repeated.
    for id in plan.old_indexes.iter().filter(|id| !written.indexes.contains(id)) {
        repository.storage().delete(&Folder::Index.key(*id))?;
    }
    let stored: HashSet<Id> = written.packs.iter().map(|(id, _)| *id).collect();
    for id in plan.remove.iter().chain(plan.repack.iter().map(|(id, _)| id)) {
        if !stored.contains(id) {
            repository.storage().delete(&pack_key(*id))?;
        }
    }
    Ok(())
}

/// Stores the needed blobs of doomed packs again: sealed bytes as they are, after they opened and hashed right.
fn repack(repository: &Repository, plan: &Plan, control: &Control, writer: &PackWriter<'_>) -> Result<()> {
    let next = AtomicUsize::new(0);
    parallel(threads(), plan.repack.len(), || {
        let (mut opener, mut plain) = (Opener::new()?, Vec::new());
        while let Some((id, blobs)) = plan.repack.get(next.fetch_add(1, Ordering::Relaxed)) {
            control.check()?;
            if writer.has_failed() {
                return Ok(());
            }
            let key = pack_key(*id);
            for blob in blobs {
                let range = u64::from(blob.offset)..u64::from(blob.offset) + u64::from(blob.length);
                let sealed = repository.storage().get_range(&key, range)?;
                opener.open(repository.key(), &sealed, blob.uncompressed, blob.id, &mut plain).map_err(
                    |problem| {
                        Error::damaged(&key, format!("blob {}: {problem}; nothing was removed", blob.id))
                    },
                )?;
                writer.add(blob.kind, blob.id, &sealed, blob.uncompressed)?;
            }
        }
        Ok(())
    })
}
