//! A part of a store, seen as a store of its own: the vault inside its store.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::{Draft, Entry, Permit, Result, Shared, Storage, Version};

/// The objects of `inner` below a prefix.
#[derive(Clone, Debug)]
pub struct Prefixed {
    inner: Shared,
    prefix: String,
}

impl Prefixed {
    /// Shows what lies below `prefix` (without a slash at its end).
    pub fn new(inner: Shared, prefix: &str) -> Self {
        Self { inner, prefix: format!("{}/", prefix.trim_matches('/')) }
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn strip(&self, mut entry: Entry) -> Entry {
        if let Some(rest) = entry.key.strip_prefix(&self.prefix) {
            entry.key = rest.to_owned();
        }
        entry
    }
}

impl Storage for Prefixed {
    fn location(&self) -> String {
        format!("{}/{}", self.inner.location(), self.prefix.trim_end_matches('/'))
    }

    fn get(&self, key: &str, size_max: u64) -> Result<Vec<u8>> {
        self.inner.get(&self.full(key), size_max)
    }

    fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> Result<()> {
        self.inner.get_into(&self.full(key), size_max, body)
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> Result<(Vec<u8>, Version)> {
        self.inner.get_versioned(&self.full(key), size_max)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.inner.get_range(&self.full(key), range)
    }

    fn get_range_into(&self, key: &str, range: Range<u64>, body: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range_into(&self.full(key), range, body)
    }

    fn get_metadata_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.inner.get_metadata_range(&self.full(key), range)
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.inner.create(&self.full(key), parts)
    }

    fn draft(&self, prefix: &str) -> Result<Option<Box<dyn Draft>>> {
        let draft = self.inner.draft(&self.full(prefix))?;
        Ok(draft.map(|draft| Box::new(PrefixedDraft { store: self.clone(), draft }) as Box<dyn Draft>))
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> Result<()> {
        self.inner.replace(&self.full(key), body, expected)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(&self.full(key))
    }

    fn head(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.inner.head(&self.full(key))?.map(|entry| self.strip(entry)))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        self.inner.list(&self.full(prefix), &mut |entry| visit(self.strip(entry)))
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space()
    }

    fn under(&self, permit: &Arc<dyn Permit>) -> Option<Shared> {
        let inner = self.inner.under(permit)?;
        Some(Arc::new(Self { inner, prefix: self.prefix.clone() }))
    }

    fn parallelism(&self) -> Option<usize> {
        self.inner.parallelism()
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn clean_leftovers(&self, prefix: &str, age_min: Duration) -> Result<u64> {
        self.inner.clean_leftovers(&self.full(prefix), age_min)
    }
}

struct PrefixedDraft {
    store: Prefixed,
    draft: Box<dyn Draft>,
}

impl Draft for PrefixedDraft {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.draft.append(bytes)
    }

    fn commit(self: Box<Self>, key: &str) -> Result<()> {
        self.draft.commit(&self.store.full(key))
    }
}
