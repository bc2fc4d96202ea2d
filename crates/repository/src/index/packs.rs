//! The packs that the index files list, numbered in order of their ids.

use std::collections::BTreeMap;

use super::entry::Entry;
use crate::pack::pack_size;
use crate::{Error, ErrorKind, Id, Result};

/// A pack as it turns up in an index file. Until all are known, entries name packs by the number of such a line.
#[derive(Clone, Copy)]
pub(super) struct Listed {
    pub(super) id: Id,
    pub(super) doomed: bool,
}

/// Lines of packs while index files are read.
#[derive(Default)]
pub(super) struct Listings {
    lines: Vec<Listed>,
    /// For each index file the numbers of its lines.
    files: BTreeMap<Id, Vec<u32>>,
}

impl Listings {
    /// Goes on from packs that are known already; their numbers stay.
    pub(super) fn after(packs: &Packs) -> Self {
        let lines = packs.ids.iter().zip(&packs.doomed).map(|(&id, &doomed)| Listed { id, doomed }).collect();
        Self { lines, files: packs.files.clone() }
    }

    /// Adds the packs of an index file; the number of the first, which the others follow.
    pub(super) fn add(&mut self, file: Id, packs: &[Listed]) -> Result<u32> {
        let number = |count: usize| {
            u32::try_from(count)
                .map_err(|_| Error::new(ErrorKind::Invalid, "the index lists more than four billion packs"))
        };
        let (first, end) = (number(self.lines.len())?, number(self.lines.len() + packs.len())?);
        self.lines.extend_from_slice(packs);
        self.files.insert(file, (first..end).collect());
        Ok(first)
    }

    /// The packs in order, and for each line the number of its pack.
    pub(super) fn finish(self) -> (Packs, Vec<u32>) {
        let mut order: Vec<u32> = (0..self.lines.len() as u32).collect();
        order.sort_unstable_by_key(|&line| self.lines[line as usize].id);
        let mut packs = Packs::default();
        let mut number_of = vec![0; self.lines.len()];
        for line in order {
            let Listed { id, doomed } = self.lines[line as usize];
            if packs.ids.last() != Some(&id) {
                packs.ids.push(id);
                packs.doomed.push(false);
            }
            let number = packs.ids.len() - 1;
            packs.doomed[number] |= doomed;
            number_of[line as usize] = number as u32;
        }
        packs.sizes = vec![pack_size(&[]); packs.ids.len()];
        packs.counts = vec![0; packs.ids.len()];
        packs.files = self.files;
        for numbers in packs.files.values_mut() {
            for number in numbers.iter_mut() {
                *number = number_of[*number as usize];
            }
            numbers.shrink_to_fit();
        }
        (packs, number_of)
    }
}

/// The packs, by number.
#[derive(Default)]
pub(super) struct Packs {
    pub(super) ids: Vec<Id>,
    /// Size of each as the entries add up to.
    pub(super) sizes: Vec<u64>,
    /// Entries of each.
    pub(super) counts: Vec<u32>,
    /// Some index file says that it will go.
    pub(super) doomed: Vec<bool>,
    /// For each index file the packs that it lists.
    pub(super) files: BTreeMap<Id, Vec<u32>>,
}

impl Packs {
    /// Counts an entry of the finished index.
    pub(super) fn count(&mut self, entry: &Entry) {
        let pack = entry.pack as usize;
        self.sizes[pack] += entry.share_of_pack();
        self.counts[pack] = self.counts[pack].saturating_add(1);
    }

    pub(super) fn number(&self, id: &Id) -> Option<u32> {
        self.ids.binary_search(id).ok().map(|number| number as u32)
    }
}
