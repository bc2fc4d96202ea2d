//! One bit for each pack, or each blob, set from many threads.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Index, Place};
use crate::Id;

/// Bits that start out clear.
pub(crate) struct Bits(Vec<AtomicU64>);

impl Bits {
    pub(crate) fn new(count: u64) -> Self {
        Self((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets a bit; tells whether it was clear.
    pub(crate) fn set(&self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        // A load first: almost always it is set already, and a shared cache line stays shared.
        self.0.get(word).is_some_and(|word| {
            word.load(Ordering::Relaxed) & bit == 0 && word.fetch_or(bit, Ordering::Relaxed) & bit == 0
        })
    }

    pub(crate) fn is_set(&self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        self.0.get(word).is_some_and(|word| word.load(Ordering::Relaxed) & bit != 0)
    }

    /// The numbers of all set bits.
    pub(crate) fn all(&self) -> impl Iterator<Item = u64> + '_ {
        self.0.iter().zip(0u64..).flat_map(|(word, n)| {
            let word = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| word >> bit & 1 != 0).map(move |bit| n * 64 + bit)
        })
    }
}

/// Which packs a running backup refers to; marked from many threads.
pub(crate) struct PackMarks(Bits);

impl PackMarks {
    pub(crate) fn new(index: &Index) -> Self {
        Self(Bits::new(index.pack_count() as u64))
    }

    pub(crate) fn mark(&self, place: &Place) {
        self.0.set(u64::from(place.pack));
    }

    /// Numbers of the marked packs, which are in order of their ids.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.all().map(|number| number as u32)
    }

    pub(crate) fn marked<'a>(&'a self, index: &'a Index) -> impl Iterator<Item = Id> + 'a {
        self.numbers().map(|number| index.pack_id(number))
    }
}
