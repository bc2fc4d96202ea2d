//! The engine: a restic v2 repository, written and read by our own code. Usable as a library on its own.
//!
//! A **backup** reads files, cuts them into chunks, hashes each (its id), and stores those that are not known yet:
//! compressed, sealed, many to a pack. Packs are listed in index files; directories become tree blobs; a snapshot
//! names the root tree. The order makes every instant safe: packs, then index, then snapshot ([`backup`]).
//! A **restore** walks the trees, plans by pack, and writes only what opens, decompresses and hashes right
//! ([`restore`]). [`check`] reads everything back; [`prune`] removes what no snapshot needs, and [`survey`] serves a
//! caller that removes packs by rules of its own.
//!
//! The engine is synchronous: threads and bounded queues, memory bounded whatever the size of the data. A
//! [`Control`] cancels, shows progress and collects what could not be done.
//!
//! Format: <https://restic.readthedocs.io/en/stable/100_references.html>.
#![deny(missing_docs)]

mod backup;
mod browse;
mod cached;
mod check;
mod chunk;
mod compact;
mod compress;
mod config;
mod control;
mod copy;
mod diff;
mod dump;
mod edit;
mod error;
mod fetch;
mod file;
mod find;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod hash;
mod id;
mod index;
mod json;
#[cfg(feature = "test-support")]
pub mod kernels;
mod key;
mod keys;
mod listing;
mod lock;
mod pack;
mod pack_writer;
mod pattern;
mod policy;
mod posix;
mod prune;
mod quote;
mod repair;
mod repository;
mod restore;
mod seal;
mod select;
mod snapshot;
mod stats;
#[cfg(feature = "test-support")]
pub mod synthetic;
mod tar;
#[cfg(test)]
mod tests;
mod time;
mod tree;
mod uploaders;
mod walk;
mod zip;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use backup::{
    BackupOutcome, BackupRequest, Fed, FedContent, FedFile, Marker, MoreExcludes, backup, backup_feed,
    backup_stream,
};
pub use browse::{Browser, Listing, OpenFile};
pub use check::{CheckReport, CheckRequest, Finding, ReadData, check, check_reading, check_snapshots};
pub use compact::{StoredAnew, Survey, SurveyedPack, survey};
pub use compress::Compression;
pub use control::{Control, Progress, Warning};
pub use copy::{Copied, CopyRequest, copy};
pub use diff::{Change, DiffReport, DiffSums, diff};
pub use dump::{ArchiveKind, dump_archive, dump_file, entry_at};
pub use edit::{TagChange, change_tags};
pub use error::{Error, ErrorKind, Result};
pub use find::{Search, Wanted, blobs_in_pack};
pub use id::Id;
pub use index::Index;
pub use key::{Cost, Passcode, derive_from_passcode};
pub use keys::{KeyInfo, KeyLabel, add_key, change_passcode, list_keys, remove_key};
pub use lock::{Lock, LockKind, LockOwner, LockWait};
pub use pack::BlobKind;
pub use pattern::{Pattern, Patterns};
pub use policy::{Count, KeepPolicy, Span, Verdict, apply_policy};
pub use posix::user_name;
pub use prune::{PruneReport, PruneRequest, prune};
pub use repair::{
    RepairIndexReport, RepairIndexRequest, RepairPacksReport, RepairSnapshotsRequest, RepairedSnapshot,
    copy_pack_file, repair_index, repair_packs, repair_snapshots,
};
pub use repository::{Repository, Snapshots};
pub use restore::{
    Choice, Existing, Planned, RestoreOutcome, RestorePlan, RestoreRequest, VisitPlanned, plan_restore,
    restore,
};
pub use select::{GroupBy, GroupKey, SnapshotFilter, choose_snapshots, find_snapshot, group_snapshots};
pub use snapshot::{Snapshot, Summary};
pub use stats::{Stats, StatsMode, stats};
pub use time::Time;
pub use tree::{Node, NodeKind};
pub use walk::{TreeSize, look_up, measure, needed_packs, visit_directory, walk};

/// The lock of a mutex. A thread that panicked while holding it has already ended the work that it belongs to.
pub(crate) fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How many threads work at once: one a core, at least two so that reading and computing overlap.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16)
}

/// Threads that fetch: where the storage is far away they mostly wait, so more of them than cores.
pub(crate) fn fetchers(storage: &storage::Shared) -> usize {
    const FETCHERS_MAX: usize = 8;
    threads().max(storage.parallelism().unwrap_or(0).min(FETCHERS_MAX))
}

/// Threads that hand packs to the storage; each holds one in memory. At least two, so that a sync and a seal overlap.
pub(crate) fn uploaders(storage: &storage::Shared) -> usize {
    const UPLOADERS_MAX: usize = 5;
    storage.parallelism().unwrap_or(0).clamp(2, UPLOADERS_MAX)
}

/// Runs `worker` on up to `threads` threads (no more than `jobs`); the first failure is returned.
pub(crate) fn parallel(threads: usize, jobs: usize, worker: impl Fn() -> Result<()> + Sync) -> Result<()> {
    let count = threads.min(jobs);
    if count <= 1 {
        return if jobs == 0 { Ok(()) } else { worker() };
    }
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..count).map_while(|_| spawn(scope, &worker).ok()).collect();
        if handles.is_empty() {
            // No thread can be had: this one does the work.
            return worker();
        }
        let results: Vec<_> = handles.into_iter().map(join).collect();
        results.into_iter().collect()
    })
}

/// What `work` makes of each thing, in the same order, on up to so many threads; or an error, and then not all of it was done.
/// For work that mostly waits: the threads are not the engine's.
pub fn each<T: Sync, R: Send, E: Send>(
    threads: usize,
    things: &[T],
    work: impl Fn(&T) -> std::result::Result<R, E> + Sync,
) -> std::result::Result<Vec<R>, E> {
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(thing) = things.get(place) else { return Ok(done) };
            match work(thing) {
                Ok(result) => done.push((place, result)),
                Err(error) => {
                    // Nobody begins another one.
                    next.store(things.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let mut done = std::thread::scope(|scope| {
        let others = (1..threads.min(things.len())).map_while(|_| {
            // Where no thread can be had, those that there are do the work.
            std::thread::Builder::new().spawn_scoped(scope, take).ok()
        });
        let others: Vec<_> = others.collect();
        let mut done = take()?;
        for other in others {
            done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(done)
    })?;
    done.sort_unstable_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

/// Starts a thread of the engine; that the system refuses one is an error and never a panic.
pub(crate) fn spawn<'scope, 'env, T: Send + 'scope>(
    scope: &'scope std::thread::Scope<'scope, 'env>,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Result<std::thread::ScopedJoinHandle<'scope, Result<T>>> {
    spawn_with(std::thread::Builder::new(), scope, work)
}

/// The same with a name or a stack of its own.
pub(crate) fn spawn_with<'scope, 'env, T: Send + 'scope>(
    builder: std::thread::Builder,
    scope: &'scope std::thread::Scope<'scope, 'env>,
    work: impl FnOnce() -> Result<T> + Send + 'scope,
) -> Result<std::thread::ScopedJoinHandle<'scope, Result<T>>> {
    builder.spawn_scoped(scope, work).map_err(|e| {
        let message = format!("cannot start a thread: {e}; raise the limit on processes");
        Error { kind: ErrorKind::Io, message, source: Some(Box::new(e)) }
    })
}

/// Waits for a thread of the engine; a panic in it becomes an error of the work.
pub(crate) fn join<T>(handle: std::thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    handle.join().unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Io, "a thread of the engine failed; please report this"))
    })
}
