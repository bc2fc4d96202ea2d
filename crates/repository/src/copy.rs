//! Copies snapshots into another repository: every blob is opened, hashed, and sealed again under the other's key.
//! Chunks stay as they were cut, so trees and files keep their ids and equal content is stored once.
//!
//! One thread walks the trees and stores those that the target lacks; the missing chunks are gathered, sorted by
//! where they lie, fetched in stretches and stored by several threads. Order: packs, index, then the snapshots.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::edit::SnapshotText;
use crate::fetch::{range_of, stretches};
use crate::index::Place;
use crate::pack::{BlobKind, pack_key};
use crate::pack_writer::{PackWriter, Plain, Sealer};
use crate::repository::Opener;
use crate::uploaders::with_uploaders;
use crate::{
    Compression, Control, Error, ErrorKind, Id, Index, Repository, Result, Snapshot, parallel, threads, tree,
};

/// So many missing chunks are gathered before they are fetched.
const CHUNKS_MAX: usize = 100_000;
/// Snapshots appear in the target once so much was stored, or at the end.
const GROUP_BYTES: u64 = 256 << 20;

/// What to copy and how.
#[derive(Clone, Debug, Default)]
pub struct CopyRequest {
    /// Which snapshots; in this order.
    pub snapshots: Vec<Id>,
    /// How hard to compress in the target.
    pub compression: Compression,
}

/// What became of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It is in the target under this id now.
    New(Id),
    /// The target had it already.
    Already(Id),
}

/// Copies snapshots; both repositories are locked by the caller. Snapshots that the target has already are left alone.
/// `told` hears of each, as soon as it is safe in the target.
pub fn copy(
    source: &Repository,
    target: &Repository,
    request: &CopyRequest,
    control: &Control,
    told: &mut dyn FnMut(Id, Copied),
) -> Result<()> {
    if source.id() == target.id() {
        let message = "source and target are the same repository";
        return Err(Error::new(ErrorKind::Invalid, message));
    }
    let there = Already::list(target)?;
    let mut wanted = Vec::new();
    for id in &request.snapshots {
        match there.find(*id, &source.snapshot(*id)?) {
            Some(known) => told(*id, Copied::Already(known)),
            None => wanted.push((*id, SnapshotText::read(source, *id)?)),
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let (from, to) = (source.load_index(&|_| true)?, target.load_index_to_add(control)?);
    let mut copier = Copier {
        source,
        from: &from,
        to: &to,
        control,
        compression: request.compression,
        opener: Opener::new()?,
        sealer: Sealer::new(request.compression, true)?,
        trees: HashSet::new(),
        new: HashSet::new(),
        missing: Vec::new(),
    };
    let mut rest = wanted.into_iter().peekable();
    while rest.peek().is_some() {
        let writer = PackWriter::new(target, control);
        let before = control.progress.bytes_stored.load(Ordering::Relaxed);
        let mut whole = Vec::new();
        with_uploaders(&writer, || {
            for (id, text) in rest.by_ref() {
                copier.snapshot(text.tree()?, &writer)?;
                whole.push((id, text));
                if control.progress.bytes_stored.load(Ordering::Relaxed) - before >= GROUP_BYTES {
                    break;
                }
            }
            Ok(())
        })?;
        writer.finish()?;
        for (id, mut text) in whole {
            text.drop_parent();
            text.set_original(id);
            told(id, Copied::New(text.write(target)?));
        }
    }
    Ok(())
}

/// The target's snapshots, by the id that they bore first.
struct Already(HashMap<Id, Vec<(Id, Snapshot)>>);

impl Already {
    fn list(target: &Repository) -> Result<Self> {
        let mut by_first: HashMap<Id, Vec<(Id, Snapshot)>> = HashMap::new();
        for (id, snapshot) in target.snapshots()?.0 {
            by_first.entry(snapshot.original.unwrap_or(id)).or_default().push((id, snapshot));
        }
        Ok(Self(by_first))
    }

    /// Tags may have been changed since; anything else makes it another snapshot.
    fn find(&self, id: Id, snapshot: &Snapshot) -> Option<Id> {
        let facts = |s: &Snapshot| {
            let time = crate::Time::parse(&s.time);
            (time, s.tree, s.hostname.clone(), s.username.clone(), s.paths.clone(), s.excludes.clone())
        };
        let candidates = self.0.get(&snapshot.original.unwrap_or(id))?;
        candidates.iter().find(|(_, other)| facts(other) == facts(snapshot)).map(|(id, _)| *id)
    }
}

struct Copier<'a> {
    source: &'a Repository,
    from: &'a Index,
    to: &'a Index,
    control: &'a Control,
    compression: Compression,
    opener: Opener,
    sealer: Sealer,
    /// Trees that were walked already; the same directory stands in many snapshots.
    trees: HashSet<Id>,
    /// Chunks that this run has stored or is about to.
    new: HashSet<Id>,
    missing: Vec<(Place, Id)>,
}

impl Copier<'_> {
    fn snapshot(&mut self, root: Id, writer: &PackWriter<'_>) -> Result<()> {
        let mut pending = vec![root];
        while let Some(id) = pending.pop() {
            self.control.check()?;
            if !self.trees.insert(id) {
                continue;
            }
            let text = self.source.read_blob(self.from, BlobKind::Tree, id, &mut self.opener)?;
            for node in tree::parse(id, &text)? {
                pending.extend(node.subtree);
                for chunk in node.content {
                    self.chunk(chunk)?;
                }
            }
            if self.to.usable_place(BlobKind::Tree, &id)?.is_none() {
                self.sealer.store(writer, BlobKind::Tree, &Plain::of_id(id, &text))?;
            }
            if self.missing.len() >= CHUNKS_MAX {
                self.fetch(writer)?;
            }
        }
        self.fetch(writer)
    }

    fn chunk(&mut self, id: Id) -> Result<()> {
        if self.to.usable_place(BlobKind::Data, &id)?.is_some() || !self.new.insert(id) {
            return Ok(());
        }
        let place = self
            .from
            .place(BlobKind::Data, &id)?
            .ok_or_else(|| Error::damaged(format!("data blob {id}"), "no index knows it; it is missing"))?;
        self.missing.push((place, id));
        Ok(())
    }

    /// Copies the chunks that were found missing.
    fn fetch(&mut self, writer: &PackWriter<'_>) -> Result<()> {
        let mut missing = std::mem::take(&mut self.missing);
        missing.sort_unstable_by_key(|(place, _)| (place.pack, place.offset));
        let places: Vec<Place> = missing.iter().map(|(place, _)| *place).collect();
        let bytes: u64 = places.iter().map(|place| u64::from(place.plain_length())).sum();
        self.control.progress.bytes_total.fetch_add(bytes, Ordering::Relaxed);
        let stretches = stretches(&places);
        let next = AtomicUsize::new(0);
        let this = &*self;
        parallel(threads(), stretches.len(), || {
            let mut opener = Opener::new()?;
            let mut sealer = Sealer::new(this.compression, true)?;
            let mut plain = Vec::new();
            while let Some(stretch) = stretches.get(next.fetch_add(1, Ordering::Relaxed)) {
                this.control.check()?;
                if writer.has_failed() {
                    return Ok(());
                }
                let range = range_of(&places[stretch.clone()]);
                let key = pack_key(this.from.pack_id(places[stretch.start].pack));
                let start = range.start;
                let stored = this.source.storage().get_range(&key, range).ok();
                for (place, id) in &missing[stretch.clone()] {
                    let from = (u64::from(place.offset) - start) as usize;
                    let sealed =
                        stored.as_ref().and_then(|stored| stored.get(from..from + place.length as usize));
                    let opened = sealed.is_some_and(|sealed| {
                        opener.open(this.source.key(), sealed, place.uncompressed, *id, &mut plain).is_ok()
                    });
                    if !opened {
                        // Another copy may be whole; if none is, this says what is wrong.
                        plain = this.source.read_blob(this.from, BlobKind::Data, *id, &mut opener)?;
                    }
                    sealer.store(writer, BlobKind::Data, &Plain::of_id(*id, &plain))?;
                    this.control.progress.bytes(plain.len() as u64);
                }
            }
            Ok(())
        })
    }
}
