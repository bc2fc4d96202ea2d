//! All entries in order: one array in memory, or a file of pages with little of it in memory.

use std::sync::Mutex;

use super::entry::{Entry, prefix};
use super::filter::Filter;
use super::pages::{Buffers, ENTRIES_PER_PAGE, PageFile};
use crate::pack::BlobKind;
use crate::{Id, Result, lock_mutex};

/// Entries in order, each with its number.
pub(super) enum Sorted {
    Memory(InMemory),
    File(InFile),
}

impl Sorted {
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Memory(all) => all.entries.len() as u64,
            Self::File(all) => all.count,
        }
    }

    /// Shows the copies of a blob in order, with their numbers, until `visit` has enough.
    pub(super) fn copies(
        &self,
        kind: BlobKind,
        id: &Id,
        visit: &mut dyn FnMut(u64, &Entry) -> Next,
    ) -> Result<()> {
        match self {
            Self::Memory(all) => {
                let bucket = all.bucket(id);
                copies_in(&all.entries[bucket.clone()], bucket.start as u64, kind, id, visit);
                Ok(())
            }
            Self::File(all) => all.copies(kind, id, visit),
        }
    }

    /// Shows all entries in order, in pieces; each piece has the number of its first entry.
    pub(super) fn pieces(&self, visit: &mut dyn FnMut(u64, &[Entry]) -> Result<()>) -> Result<()> {
        match self {
            Self::Memory(all) => {
                all.entries.chunks(4096).zip(0u64..).try_for_each(|(piece, n)| visit(n * 4096, piece))
            }
            Self::File(all) => {
                let mut reader = all.read();
                let mut number = 0;
                while reader.fill()? {
                    visit(number, &reader.entries)?;
                    number += reader.entries.len() as u64;
                    reader.at = reader.entries.len();
                }
                Ok(())
            }
        }
    }
}

/// Whether a visitor wants to see more.
#[derive(PartialEq, Eq)]
pub(super) enum Next {
    More,
    Enough,
}

/// Shows the copies of a blob in a sorted piece. `Enough`: what follows the piece cannot have more, or is not wanted.
fn copies_in(
    entries: &[Entry],
    first: u64,
    kind: BlobKind,
    id: &Id,
    visit: &mut dyn FnMut(u64, &Entry) -> Next,
) -> Next {
    let from = entries.partition_point(|e| e.blob() < (*id, kind));
    for (entry, number) in entries[from..].iter().zip(first + from as u64..) {
        if entry.blob() != (*id, kind) || visit(number, entry) == Next::Enough {
            return Next::Enough;
        }
    }
    Next::More
}

/// The whole index in memory, with a table over the first two bytes of the id in front.
pub(super) struct InMemory {
    entries: Vec<Entry>,
    /// `fan[p]..fan[p + 1]` are the entries whose id starts with the two bytes `p`.
    fan: Vec<u32>,
}

impl InMemory {
    /// `entries` are in order.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let mut fan = vec![0u32; 65_537];
        for entry in &entries {
            fan[Self::slot(&entry.id) + 1] += 1;
        }
        for i in 1..fan.len() {
            fan[i] += fan[i - 1];
        }
        Self { entries, fan }
    }

    fn slot(id: &Id) -> usize {
        usize::from(u16::from_be_bytes([id.0[0], id.0[1]]))
    }

    fn bucket(&self, id: &Id) -> std::ops::Range<usize> {
        let slot = Self::slot(id);
        self.fan[slot] as usize..self.fan[slot + 1] as usize
    }
}

/// Entries lie on the pages from this one on; the one before it is for whoever keeps the file.
pub(super) const FIRST_PAGE: u64 = 1;

/// The index in a file. In memory are the beginning of each page, the filter, and the pages that were asked last.
///
/// Pages are read, not mapped: mapped pages would count as memory of this process, as many as were ever touched.
pub(super) struct InFile {
    pub(super) pages: PageFile,
    pub(super) count: u64,
    /// The first eight bytes of the first id of each page.
    pub(super) fences: Vec<u64>,
    pub(super) filter: Filter,
    recent: Vec<Mutex<Vec<Recent>>>,
}

/// Pages in memory, in `RECENT_SHARDS` × `RECENT_SLOTS` places: 8 MiB.
const RECENT_SHARDS: usize = 64;
const RECENT_SLOTS: usize = 32;

#[derive(Default)]
struct Recent {
    page: Option<usize>,
    entries: Vec<Entry>,
    buffers: Buffers,
}

impl InFile {
    pub(super) fn new(pages: PageFile, count: u64, fences: Vec<u64>, filter: Filter) -> Self {
        Self { pages, count, fences, filter, recent: (0..RECENT_SHARDS).map(|_| Mutex::default()).collect() }
    }

    fn copies(&self, kind: BlobKind, id: &Id, visit: &mut dyn FnMut(u64, &Entry) -> Next) -> Result<()> {
        if !self.filter.may_have(id) {
            return Ok(());
        }
        let wanted = prefix(id);
        // A blob whose copies go over the end of a page begins before the first fence that is not smaller.
        let mut page = self.fences.partition_point(|fence| *fence < wanted).saturating_sub(1);
        while self.fences.get(page).is_some_and(|fence| *fence <= wanted) {
            if self.copies_on(page, kind, id, visit)? == Next::Enough {
                break;
            }
            page += 1;
        }
        Ok(())
    }

    fn copies_on(
        &self,
        page: usize,
        kind: BlobKind,
        id: &Id,
        visit: &mut dyn FnMut(u64, &Entry) -> Next,
    ) -> Result<Next> {
        let mut shard = lock_mutex(&self.recent[page % RECENT_SHARDS]);
        if shard.is_empty() {
            shard.resize_with(RECENT_SLOTS, Recent::default);
        }
        let Recent { page: held, entries, buffers } = &mut shard[page / RECENT_SHARDS % RECENT_SLOTS];
        if *held != Some(page) {
            *held = None;
            entries.clear();
            self.pages.read_entries(FIRST_PAGE + page as u64, buffers, entries)?;
            *held = Some(page);
        }
        Ok(copies_in(entries, (page * ENTRIES_PER_PAGE) as u64, kind, id, visit))
    }

    /// Can all of it be read?
    pub(super) fn is_whole(&self) -> bool {
        let mut reader = self.read();
        while let Ok(more) = reader.fill() {
            if !more {
                return true;
            }
            reader.at = reader.entries.len();
        }
        false
    }

    /// Reads all entries in order.
    pub(super) fn read(&self) -> Reader<'_> {
        Reader { file: self, page: 0, entries: Vec::new(), at: 0, buffers: Buffers::default() }
    }
}

/// Goes through a file of entries.
pub(super) struct Reader<'f> {
    file: &'f InFile,
    page: usize,
    entries: Vec<Entry>,
    at: usize,
    buffers: Buffers,
}

impl Reader<'_> {
    /// Sees to it that there is an entry at hand; `false` at the end.
    fn fill(&mut self) -> Result<bool> {
        while self.at >= self.entries.len() {
            if self.page >= self.file.fences.len() {
                return Ok(false);
            }
            self.entries.clear();
            self.at = 0;
            let number = FIRST_PAGE + self.page as u64;
            self.file.pages.read_entries(number, &mut self.buffers, &mut self.entries)?;
            self.page += 1;
        }
        Ok(true)
    }

    /// The next entry, if its id begins below `end`.
    pub(super) fn next_below(&mut self, end: u128) -> Result<Option<Entry>> {
        if !self.fill()? {
            return Ok(None);
        }
        let entry = self.entries[self.at];
        let below = u128::from(entry.prefix()) < end;
        self.at += usize::from(below);
        Ok(below.then_some(entry))
    }
}

/// Writes entries, which come in order, to a new file.
pub(super) struct Writer {
    pages: PageFile,
    count: u64,
    fences: Vec<u64>,
    filter: Filter,
    page: Vec<Entry>,
    buffers: Buffers,
}

impl Writer {
    /// For `count` entries at most.
    pub(super) fn new(pages: PageFile, count: u64) -> Self {
        let fences = Vec::with_capacity(count.div_ceil(ENTRIES_PER_PAGE as u64) as usize);
        let page = Vec::with_capacity(ENTRIES_PER_PAGE);
        Self { pages, count: 0, fences, filter: Filter::new(count), page, buffers: Buffers::default() }
    }

    pub(super) fn push(&mut self, entry: Entry) -> Result<()> {
        self.filter.add(&entry.id);
        self.page.push(entry);
        self.count += 1;
        if self.page.len() == ENTRIES_PER_PAGE { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let Some(first) = self.page.first() else { return Ok(()) };
        let number = FIRST_PAGE + self.fences.len() as u64;
        self.fences.push(first.prefix());
        self.pages.write_entries(number, &self.page, &mut self.buffers)?;
        self.page.clear();
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<InFile> {
        self.write()?;
        Ok(InFile::new(self.pages, self.count, self.fences, self.filter))
    }
}
