//! A store that asks for a permit before each write.
//!
//! The permit stands for a lease: as soon as it is withdrawn (another worker took over, the job was cancelled,
//! the server stops) every further write fails with `Forbidden`, wherever in the engine it comes from. A place that
//! tries again by itself is given the permit too ([`Storage::under`]), so that a write under way ends soon.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::{Draft, Entry, Error, ErrorKind, Result, Shared, Storage, Version};

/// Tells whether writing is still allowed; asked before each write, and must not block.
pub trait Permit: Send + Sync {
    /// `Err` with the reason for people once nothing more may be written.
    fn may_write(&self) -> std::result::Result<(), String>;
}

/// `inner`, with writes under a permit.
#[derive(Clone)]
pub struct Guarded {
    inner: Shared,
    permit: Arc<dyn Permit>,
}

impl Guarded {
    /// Puts `inner` under `permit`.
    pub fn new(inner: Shared, permit: Arc<dyn Permit>) -> Self {
        let inner = inner.under(&permit).unwrap_or(inner);
        Self { inner, permit }
    }

    fn check(&self, operation: &'static str, key: &str) -> Result<()> {
        self.permit.may_write().map_err(|reason| {
            Error::new(ErrorKind::Forbidden, operation, key, &self.inner.location(), reason)
        })
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guarded").field(&self.inner).finish()
    }
}

impl Storage for Guarded {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn get(&self, key: &str, size_max: u64) -> Result<Vec<u8>> {
        self.inner.get(key, size_max)
    }

    fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> Result<()> {
        self.inner.get_into(key, size_max, body)
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> Result<(Vec<u8>, Version)> {
        self.inner.get_versioned(key, size_max)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.inner.get_range(key, range)
    }

    fn get_range_into(&self, key: &str, range: Range<u64>, body: &mut Vec<u8>) -> Result<()> {
        self.inner.get_range_into(key, range, body)
    }

    fn get_metadata_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.inner.get_metadata_range(key, range)
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.check("create", key)?;
        self.inner.create(key, parts)
    }

    fn draft(&self, prefix: &str) -> Result<Option<Box<dyn Draft>>> {
        self.check("create", prefix)?;
        let draft = self.inner.draft(prefix)?;
        Ok(draft.map(|draft| Box::new(GuardedDraft { store: self.clone(), draft }) as Box<dyn Draft>))
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> Result<()> {
        self.check("replace", key)?;
        self.inner.replace(key, body, expected)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.check("delete", key)?;
        self.inner.delete(key)
    }

    fn head(&self, key: &str) -> Result<Option<Entry>> {
        self.inner.head(key)
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        self.inner.list(prefix, visit)
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.inner.free_space()
    }

    /// A place asks one permit between its attempts, and it has that of this one; a second is asked before each call.
    fn under(&self, _: &Arc<dyn Permit>) -> Option<Shared> {
        None
    }

    fn parallelism(&self) -> Option<usize> {
        self.inner.parallelism()
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn clean_leftovers(&self, prefix: &str, age_min: Duration) -> Result<u64> {
        self.check("delete", prefix)?;
        self.inner.clean_leftovers(prefix, age_min)
    }
}

struct GuardedDraft {
    store: Guarded,
    draft: Box<dyn Draft>,
}

impl Draft for GuardedDraft {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.draft.append(bytes)
    }

    fn commit(self: Box<Self>, key: &str) -> Result<()> {
        self.store.check("create", key)?;
        self.draft.commit(key)
    }
}
