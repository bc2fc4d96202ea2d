//! A small Bloom filter: says of most unknown blobs that they are unknown, without a look at the disk.
//!
//! Ids are hashes, so their own bits choose the place: the first eight bytes one line of 64 bytes, the next eight
//! three bits in it. Ids in order fill and ask lines in order.

use super::entry::prefix;
use crate::Id;

/// Memory that the filter may take; at a hundred million blobs it then still answers five of six questions.
const FILTER_BYTES_MAX: u64 = 48 << 20;
const LINE_WORDS: u64 = 8;

pub(super) struct Filter {
    pub(super) words: Vec<u64>,
}

impl Filter {
    /// For so many blobs.
    pub(super) fn new(count: u64) -> Self {
        let words = (count / 8).clamp(LINE_WORDS, FILTER_BYTES_MAX / 8) / LINE_WORDS * LINE_WORDS;
        Self { words: vec![0; words as usize] }
    }

    fn bits(&self, id: &Id) -> [(usize, u64); 3] {
        let lines = self.words.len() as u64 / LINE_WORDS;
        let line = (u128::from(prefix(id)) * u128::from(lines)) >> 64;
        let rest = u64::from_le_bytes(std::array::from_fn(|i| id.0[8 + i]));
        std::array::from_fn(|n| {
            let bit = rest >> (9 * n) & 511;
            ((line as u64 * LINE_WORDS + bit / 64) as usize, 1 << (bit % 64))
        })
    }

    pub(super) fn add(&mut self, id: &Id) {
        for (word, bit) in self.bits(id) {
            self.words[word] |= bit;
        }
    }

    /// `false`: certainly unknown.
    pub(super) fn may_have(&self, id: &Id) -> bool {
        self.bits(id).iter().all(|&(word, bit)| self.words[word] & bit != 0)
    }
}
