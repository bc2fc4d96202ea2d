//! From the entries of many index files, in any order, to all of them in order.
//!
//! Few entries stay in memory. Many are spread over parts by the beginning of their ids, in a file without a name;
//! then each part is read, put in order and appended to the final file. Ids are hashes, so the parts are equally
//! large, and memory holds one of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::entry::{self, Entry};
use super::packs::Packs;
use super::pages::{Buffers, ENTRIES_PER_PAGE, PageFile};
use super::sorted::{InFile, InMemory, Sorted, Writer};
use crate::{Result, lock_mutex};

/// So many entries are kept in memory: 48 MiB.
pub(crate) const IN_MEMORY_MAX: usize = 1 << 20;
/// Entries of a part, about.
const PART_ENTRIES: u64 = 1 << 16;
const PARTS_MAX: u64 = 4096;

/// Takes entries from many threads.
pub(super) struct Builder<'a> {
    /// Makes a file, should there be need for one.
    scratch: &'a (dyn Fn() -> Result<PageFile> + Sync),
    /// About how many entries will come.
    estimate: u64,
    in_memory_max: usize,
    state: Mutex<State>,
}

enum State {
    Memory(Vec<Entry>),
    Parts(Arc<Parts>),
}

impl<'a> Builder<'a> {
    pub(super) fn new(
        scratch: &'a (dyn Fn() -> Result<PageFile> + Sync),
        estimate: u64,
        in_memory_max: usize,
    ) -> Self {
        Self { scratch, estimate, in_memory_max, state: Mutex::new(State::Memory(Vec::new())) }
    }

    /// Takes `entries`, which are empty then.
    pub(super) fn add(&self, entries: &mut Vec<Entry>) -> Result<()> {
        let parts = {
            let mut state = lock_mutex(&self.state);
            match &mut *state {
                State::Memory(all) if all.len() + entries.len() <= self.in_memory_max => {
                    all.append(entries);
                    return Ok(());
                }
                State::Memory(all) => match (self.scratch)() {
                    Ok(pages) => {
                        let parts = Arc::new(Parts::new(pages, self.estimate));
                        parts.add(all)?;
                        *state = State::Parts(parts.clone());
                        parts
                    }
                    // Where no file can be made, all stays in memory.
                    Err(_) => {
                        all.append(entries);
                        return Ok(());
                    }
                },
                State::Parts(parts) => parts.clone(),
            }
        };
        parts.add(entries)
    }

    /// Puts all in order, together with the entries of `base`, and gives packs their final numbers: `number_of` has
    /// them by the numbers of the entries so far. `target` makes the file, if there has to be one.
    pub(super) fn finish(
        self,
        base: Option<&InFile>,
        number_of: &[u32],
        packs: &mut Packs,
        target: &dyn Fn() -> Result<PageFile>,
    ) -> Result<Sorted> {
        let state = self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let parts = match state {
            State::Parts(parts) => parts,
            State::Memory(mut entries) if base.is_none() => {
                settle(&mut entries, number_of, packs);
                return Ok(Sorted::Memory(InMemory::new(entries)));
            }
            State::Memory(mut entries) => {
                let parts = Parts::new((self.scratch)()?, base.map_or(0, |base| base.count));
                parts.add(&mut entries)?;
                Arc::new(parts)
            }
        };
        let count = parts.count.load(Ordering::Relaxed) + base.map_or(0, |base| base.count);
        let mut writer = Writer::new(target()?, count);
        let mut base = base.map(InFile::read);
        let (mut entries, mut buffers) = (Vec::new(), Buffers::default());
        for (number, part) in parts.parts.iter().enumerate() {
            entries.clear();
            parts.read(&mut lock_mutex(part), &mut buffers, &mut entries)?;
            if let Some(base) = &mut base {
                let end = (number as u128 + 1) << parts.shift;
                while let Some(entry) = base.next_below(end)? {
                    entries.push(entry);
                }
            }
            settle(&mut entries, number_of, packs);
            entries.iter().try_for_each(|entry| writer.push(*entry))?;
        }
        writer.finish().map(Sorted::File)
    }
}

/// Final numbers of packs, order, no doubles, sums.
fn settle(entries: &mut Vec<Entry>, number_of: &[u32], packs: &mut Packs) {
    for entry in entries.iter_mut() {
        entry.pack = number_of[entry.pack as usize];
    }
    entry::sort(entries);
    entries.iter().for_each(|entry| packs.count(entry));
}

/// Entries in a file, in parts by the first bits of their ids.
struct Parts {
    pages: PageFile,
    next_page: AtomicU64,
    count: AtomicU64,
    /// The part of an entry is `prefix >> shift`.
    shift: u32,
    parts: Vec<Mutex<Part>>,
}

#[derive(Default)]
struct Part {
    pages: Vec<u64>,
    /// What fills no page yet.
    last: Vec<Entry>,
}

impl Parts {
    fn new(pages: PageFile, estimate: u64) -> Self {
        let count = (estimate / PART_ENTRIES).next_power_of_two().clamp(16, PARTS_MAX);
        Self {
            pages,
            next_page: AtomicU64::new(0),
            count: AtomicU64::new(0),
            shift: 64 - count.ilog2(),
            parts: (0..count).map(|_| Mutex::default()).collect(),
        }
    }

    fn add(&self, entries: &mut Vec<Entry>) -> Result<()> {
        self.count.fetch_add(entries.len() as u64, Ordering::Relaxed);
        let mut buffers = Buffers::default();
        for entry in entries.drain(..) {
            let mut part = lock_mutex(&self.parts[(entry.prefix() >> self.shift) as usize]);
            part.last.push(entry);
            if part.last.len() == ENTRIES_PER_PAGE {
                let page = self.next_page.fetch_add(1, Ordering::Relaxed);
                self.pages.write_entries(page, &part.last, &mut buffers)?;
                part.pages.push(page);
                part.last.clear();
            }
        }
        Ok(())
    }

    fn read(&self, part: &mut Part, buffers: &mut Buffers, out: &mut Vec<Entry>) -> Result<()> {
        for page in std::mem::take(&mut part.pages) {
            self.pages.read_entries(page, buffers, out)?;
        }
        out.append(&mut part.last);
        part.last = Vec::new();
        Ok(())
    }
}
