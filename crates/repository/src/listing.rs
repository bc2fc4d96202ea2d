//! What is stored, beside what the index says is stored.

use crate::{Id, Index, Repository, Result};

/// Sizes of packs as the store lists them.
pub(crate) struct Listing {
    /// By number of the pack.
    sizes: Vec<u64>,
    /// Packs that are in no index.
    pub(crate) unlisted: Vec<(Id, u64)>,
}

const MISSING: u64 = u64::MAX;

impl Listing {
    /// Lists all packs.
    pub(crate) fn new(repository: &Repository, index: &Index) -> Result<Self> {
        let mut listing = Self { sizes: vec![MISSING; index.pack_count()], unlisted: Vec::new() };
        repository.storage().list("data/", &mut |entry| {
            if let Some(Ok(id)) = entry.key.rsplit('/').next().map(str::parse::<Id>) {
                match index.pack_number(&id) {
                    Some(number) => listing.sizes[number as usize] = entry.size,
                    None => listing.unlisted.push((id, entry.size)),
                }
            }
            Ok(())
        })?;
        listing.unlisted.sort_unstable();
        Ok(listing)
    }

    /// The size of a pack; `None` if it is missing.
    pub(crate) fn size(&self, number: u32) -> Option<u64> {
        self.sizes.get(number as usize).copied().filter(|size| *size != MISSING)
    }

    /// Is the pack there with the size that the index reckons?
    pub(crate) fn fits(&self, index: &Index, number: u32) -> bool {
        self.size(number) == Some(index.pack_size(number))
    }
}
