//! Backup: from directories to a snapshot.
//!
//! ```text
//! scan                   lists directories, compares each entry with the parent snapshot
//!   └ files that changed ─▶ readers      read; small files are hashed and stored at once,
//!                             └ chunks ─▶ chunk workers   hash, known?, compress, seal, verify
//!                                           └ packs ─▶ uploaders   store, list in the index
//! ```
//! A directory's listing is finished by whoever finishes its last entry, and finishes its parent's in turn. Queues
//! are bounded and nobody waits for somebody further up, so memory is bounded and there is no deadlock.
//!
//! Order of commits: packs are durable before an index lists them, indexes before the snapshot exists.

mod blobs;
mod chunks;
mod content;
mod directory;
mod estimate;
mod exclude;
mod feed;
mod scan;
mod source;
mod stream;

use std::collections::HashSet;
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::bounded;

use crate::chunk::Chunker;
use crate::pack_writer::{PackWriter, Written};
use crate::posix::Names;
use crate::repository::Opener;
use crate::{
    Compression, Control, Error, ErrorKind, Id, Index, Repository, Result, Snapshot, Summary, Time, join,
    spawn, spawn_with, threads,
};
use blobs::BlobStore;
use chunks::{ChunkJob, Chunks, Spare};
use content::FileJob;
use exclude::Excludes;
pub use exclude::{Marker, MoreExcludes};
pub use feed::{Fed, FedContent, FedFile, backup_feed};
use scan::{Scan, Tasks};
pub use stream::backup_stream;

/// Files that wait for a reader.
const FILE_QUEUE: usize = 256;

const SCAN_STACK_BYTES: usize = 64 << 20;

/// What to back up and how.
#[derive(Clone, Debug)]
pub struct BackupRequest {
    /// Files and directories. Absolute paths appear in the snapshot with all their directories; a relative one
    /// with its last component alone, as restic does it.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out: with a leading `/` from the root, else anywhere. `*`, `?`, `[…]`, `**`; one with
    /// `!` in front takes back.
    pub excludes: Vec<String>,
    /// What is left out for other reasons.
    pub also_exclude: MoreExcludes,
    /// Free words.
    pub tags: Vec<String>,
    /// Name of this machine or process.
    pub hostname: String,
    /// For people.
    pub username: String,
    /// How hard to compress.
    pub compression: Compression,
    /// Parent for change detection; `None`: the newest snapshot of the same host and paths.
    pub parent: Option<Id>,
    /// Read everything again.
    pub force: bool,
    /// Take a file for unchanged though its inode is another one, or the time when its metadata changed.
    pub ignore_inode: bool,
    /// The same for that time alone.
    pub ignore_ctime: bool,
    /// The time that the snapshot bears; `None`: when the backup began.
    pub time: Option<Time>,
    /// Read and hash, but store nothing.
    pub dry_run: bool,
    /// Open, decompress and hash what is about to be written.
    pub verify: bool,
    /// Directories on the way to a path carry no times: then what happens beside the path makes no new listings, and
    /// the same content gives the same trees. restic records their times.
    pub timeless_way: bool,
}

impl BackupRequest {
    /// The usual: everything below `paths`, verified.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self {
            paths,
            excludes: Vec::new(),
            also_exclude: MoreExcludes::default(),
            tags: Vec::new(),
            hostname: String::new(),
            username: String::new(),
            compression: Compression::default(),
            parent: None,
            force: false,
            ignore_inode: false,
            ignore_ctime: false,
            time: None,
            dry_run: false,
            verify: true,
            timeless_way: false,
        }
    }
}

/// What a backup did.
#[derive(Clone, Debug)]
pub struct BackupOutcome {
    /// The new snapshot; `None` for a dry run.
    pub snapshot: Option<Id>,
    /// Its figures.
    pub summary: Summary,
    /// Packs written by this run, with their sizes.
    pub new_packs: Vec<(Id, u64)>,
    /// Index files written by this run.
    pub new_indexes: Vec<Id>,
    /// Every pack that this snapshot needs, new ones too.
    pub used_packs: HashSet<Id>,
}

/// Reads, chunks, seals, stores; index and snapshot last. `index` must be fresh. What could not be read is named in
/// `control`'s warnings and is not in the snapshot; a path that does not exist at all is an error.
pub fn backup(
    repository: &Repository,
    index: &Index,
    request: &BackupRequest,
    control: &Arc<Control>,
) -> Result<BackupOutcome> {
    let started = crate::time::now_text();
    let sources = source::Sources::new(&request.paths)?;
    let excludes = Excludes::of(request)?;
    let parent = find_parent(repository, request, &sources)?;
    let parent_tree = parent.as_ref().map(|(_, snapshot)| snapshot.tree);
    if let Some(summary) = parent.as_ref().and_then(|(_, snapshot)| snapshot.summary.as_ref()) {
        // A first guess, so that progress has an end; it grows if there is more.
        let progress = &control.progress;
        progress.files_total.fetch_max(summary.total_files_processed, Ordering::Relaxed);
        progress.bytes_total.fetch_max(summary.total_bytes_processed, Ordering::Relaxed);
    }
    let writer = PackWriter::new(repository, control);
    let blobs = BlobStore::new(repository, index, &writer, control, request);
    let estimate = parent.is_none().then_some(&request.paths[..]);
    let tree = run_pipeline(&blobs, &sources, &excludes, parent_tree, estimate)?;
    let stored = (blobs.finish(), writer.finish()?);
    control.check()?;
    outcome_of(repository, request, stored, (sources.names(), parent.map(|(id, _)| id)), tree, started)
}

/// Writes the snapshot, unless it is a dry run.
fn outcome_of(
    repository: &Repository,
    request: &BackupRequest,
    ((used, mut summary), Written { packs, indexes }): ((Vec<Id>, Summary), Written),
    (paths, parent): (&[String], Option<Id>),
    tree: Id,
    started: String,
) -> Result<BackupOutcome> {
    summary.backup_start = started;
    summary.backup_end = crate::time::now_text();
    let snapshot = if request.dry_run {
        None
    } else {
        let text = snapshot_of(request, paths, parent, tree, summary.clone());
        Some(repository.save_snapshot(&text)?)
    };
    let used_packs = used.into_iter().chain(packs.iter().map(|(id, _)| *id)).collect();
    Ok(BackupOutcome { snapshot, summary, new_packs: packs, new_indexes: indexes, used_packs })
}

fn find_parent(
    repository: &Repository,
    request: &BackupRequest,
    sources: &source::Sources,
) -> Result<Option<(Id, Snapshot)>> {
    if request.force {
        return Ok(None);
    }
    if let Some(id) = request.parent {
        return Ok(Some((id, repository.snapshot(id)?)));
    }
    let (snapshots, _) = repository.snapshots()?;
    let fits = |s: &Snapshot| s.hostname == request.hostname && s.paths == sources.names();
    Ok(snapshots.into_iter().rev().find(|(_, snapshot)| fits(snapshot)))
}

fn snapshot_of(
    request: &BackupRequest,
    paths: &[String],
    parent: Option<Id>,
    tree: Id,
    summary: Summary,
) -> Snapshot {
    Snapshot {
        time: request.time.map_or_else(|| summary.backup_start.clone(), Time::text),
        parent,
        tree,
        paths: paths.to_vec(),
        hostname: request.hostname.clone(),
        username: request.username.clone(),
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        excludes: request.excludes.clone(),
        tags: request.tags.clone(),
        original: None,
        program_version: format!("strongroom {}", env!("CARGO_PKG_VERSION")),
        summary: Some(summary),
    }
}

/// Starts the threads, scans, and waits for the root's listing.
fn run_pipeline(
    blobs: &BlobStore<'_>,
    sources: &source::Sources,
    excludes: &Excludes,
    parent_tree: Option<Id>,
    estimate: Option<&[PathBuf]>,
) -> Result<Id> {
    let workers = threads();
    let chunker = Chunker::new(&blobs.repository.derive_key("strongroom chunker v1"));
    let (file_sender, file_receiver) = bounded::<FileJob>(FILE_QUEUE);
    let (chunk_sender, chunk_receiver) = bounded::<ChunkJob>(workers);
    let (names, tasks, spare) = (Names::load(), Tasks::default(), Spare::default());
    let root = directory::Root::default();
    let outcome = std::thread::scope(|scope| {
        let (names, root, chunker, tasks, spare) = (&names, &root, &chunker, &tasks, &spare);
        let (mut uploaders, mut handles, mut scans) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = || -> Result<()> {
            let (scan_end, scanning) = bounded::<Infallible>(0);
            for _ in 0..blobs.writer.uploaders() {
                uploaders.push(spawn(scope, || {
                    blobs.writer.run_uploader();
                    Ok(())
                })?);
            }
            for _ in 0..workers {
                let (files, chunks) = (file_receiver.clone(), Chunks::new(chunk_sender.clone(), spare));
                let reader = move || content::run_reader(blobs, chunker, names, &files, chunks);
                handles.push(spawn(scope, reader)?);
            }
            // A reader works on chunks itself while these are busy.
            for _ in 0..workers - 1 {
                let chunks = chunk_receiver.clone();
                handles.push(spawn(scope, move || chunks::work(blobs, &chunks, spare))?);
            }
            if let Some(paths) = estimate {
                handles.push(spawn(scope, move || {
                    estimate::run(paths, excludes, blobs.control, &scanning);
                    Ok(())
                })?);
            }
            // The first one starts with the sources, the others help.
            for number in 0..workers {
                let (files, scan_end) = (file_sender.clone(), scan_end.clone());
                let first = (number == 0).then(|| tasks.begin());
                let scan = move || {
                    let _scan_end = scan_end;
                    let scan = Scan { blobs, excludes, names, tasks, files, opener: Opener::new()? };
                    match first {
                        Some(busy) => scan.run(busy, sources, parent_tree, root),
                        None => scan.help(),
                    }
                };
                // Deeply nested directories need a deep stack.
                let builder = std::thread::Builder::new().stack_size(SCAN_STACK_BYTES);
                scans.push(spawn_with(builder, scope, move || {
                    scan().unwrap_or_else(|error| blobs.writer.fail(error));
                    Ok(())
                })?);
            }
            Ok(())
        };
        if let Err(error) = start() {
            blobs.writer.fail(error);
        }
        drop((file_sender, chunk_sender, file_receiver, chunk_receiver));
        for scan in scans {
            if let Err(error) = join(scan) {
                blobs.writer.fail(error);
            }
        }
        // The scan has dropped its senders: readers end, then chunk workers, and with them the last listing.
        let worked: Result<Vec<()>> = handles.into_iter().map(join).collect();
        blobs.writer.close();
        for uploader in uploaders {
            if let Err(error) = join(uploader) {
                blobs.writer.fail(error);
            }
        }
        worked
    });
    if let Err(error) = outcome {
        blobs.writer.fail(error);
    }
    match root.tree() {
        Some(tree) => Ok(tree),
        None => Err(blobs.writer.take_failure().unwrap_or_else(|| {
            Error::new(ErrorKind::Io, "the backup ended without a listing of its root; please report this")
        })),
    }
}
