//! A store that fails on purpose: the nth call answers with an error, before or after its work was done, or the
//! "process dies" there (that call and all later ones fail). One plan describes one run, so a test can loop
//! n = 1, 2, 3 … until nothing fires any more.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{Draft, Entry, Error, ErrorKind, Permit, Result, Shared, Storage, Version};

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call fails and has done nothing; later calls work.
    ErrorBefore,
    /// The call does its work and then reports a failure; later calls work.
    ErrorAfter,
    /// The process dies before the call: this and all later calls fail and do nothing.
    DieBefore,
    /// The process dies after the call did its work: it and all later calls fail.
    DieAfter,
    /// The place is full from this call on: creating and replacing fail with `NoSpace`.
    Full,
}

/// When and how to fail. Counts every call; shared between clones.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    at: u64,
    fault: Fault,
    writes_only: bool,
    calls: Arc<AtomicU64>,
}

impl FaultPlan {
    /// Fails at call number `at` (from 1). 0 never fails, but counts.
    pub fn new(at: u64, fault: Fault) -> Self {
        Self { at, fault, writes_only: false, calls: Arc::default() }
    }

    /// Counts only calls that change the store.
    pub fn writes_only(mut self) -> Self {
        self.writes_only = true;
        self
    }

    /// How many calls were counted so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// True once the fault has fired.
    pub fn fired(&self) -> bool {
        self.at != 0 && self.calls() >= self.at
    }

    /// Counts a call and tells how it goes wrong.
    pub(crate) fn strike(&self, call: Call) -> Strike {
        let dies = matches!(self.fault, Fault::DieBefore | Fault::DieAfter);
        if self.writes_only && call == Call::Read {
            return if dies && self.fired() { Strike::Before } else { Strike::No };
        }
        let n = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let (here, past) = (n == self.at, self.at != 0 && n > self.at);
        match self.fault {
            Fault::ErrorBefore | Fault::DieBefore if here => Strike::Before,
            Fault::ErrorAfter | Fault::DieAfter if here => Strike::After,
            Fault::DieBefore | Fault::DieAfter if past => Strike::Before,
            Fault::Full if (here || past) && call == Call::Put => Strike::Full,
            _ => Strike::No,
        }
    }
}

/// What a call is about, as far as faults care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    /// Changes nothing.
    Read,
    /// Needs room.
    Put,
    /// Changes the store and needs none.
    Delete,
}

/// How one call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strike {
    /// It does not.
    No,
    /// Nothing was done.
    Before,
    /// Its work was done.
    After,
    /// There is no room.
    Full,
}

/// `inner`, failing by plan.
#[derive(Clone, Debug)]
pub struct Faulty {
    inner: Shared,
    plan: FaultPlan,
}

impl Faulty {
    /// Puts `plan` in front of `inner`.
    pub fn new(inner: Shared, plan: FaultPlan) -> Self {
        Self { inner, plan }
    }

    fn call<T>(
        &self,
        operation: &'static str,
        key: &str,
        call: Call,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        match self.plan.strike(call) {
            Strike::No => work(),
            Strike::Before => Err(self.injected(operation, key)),
            Strike::After => {
                work()?;
                Err(self.injected(operation, key))
            }
            Strike::Full => {
                let place = self.inner.location();
                Err(Error::new(ErrorKind::NoSpace, operation, key, &place, "injected: no space left"))
            }
        }
    }

    fn injected(&self, operation: &'static str, key: &str) -> Error {
        Error::new(ErrorKind::Io, operation, key, &self.inner.location(), "injected fault")
    }
}

/// A draft counts as one call, when it is committed.
struct FaultyDraft {
    store: Faulty,
    draft: Box<dyn Draft>,
}

impl Draft for FaultyDraft {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.draft.append(bytes)
    }

    fn commit(self: Box<Self>, key: &str) -> Result<()> {
        let Self { store, draft } = *self;
        store.call("create", key, Call::Put, || draft.commit(key))
    }
}

impl Storage for Faulty {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn get(&self, key: &str, size_max: u64) -> Result<Vec<u8>> {
        self.call("read", key, Call::Read, || self.inner.get(key, size_max))
    }

    fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> Result<()> {
        self.call("read", key, Call::Read, || self.inner.get_into(key, size_max, body))
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> Result<(Vec<u8>, Version)> {
        self.call("read", key, Call::Read, || self.inner.get_versioned(key, size_max))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.call("read", key, Call::Read, || self.inner.get_range(key, range))
    }

    fn get_range_into(&self, key: &str, range: Range<u64>, body: &mut Vec<u8>) -> Result<()> {
        self.call("read", key, Call::Read, || self.inner.get_range_into(key, range, body))
    }

    fn get_metadata_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.call("read", key, Call::Read, || self.inner.get_metadata_range(key, range))
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.call("create", key, Call::Put, || self.inner.create(key, parts))
    }

    fn draft(&self, prefix: &str) -> Result<Option<Box<dyn Draft>>> {
        let draft = self.inner.draft(prefix)?;
        Ok(draft.map(|draft| Box::new(FaultyDraft { store: self.clone(), draft }) as Box<dyn Draft>))
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> Result<()> {
        self.call("replace", key, Call::Put, || self.inner.replace(key, body, expected))
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.call("delete", key, Call::Delete, || self.inner.delete(key))
    }

    fn head(&self, key: &str) -> Result<Option<Entry>> {
        self.call("look at", key, Call::Read, || self.inner.head(key))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        self.call("list", prefix, Call::Read, || self.inner.list(prefix, visit))
    }

    fn free_space(&self) -> Result<Option<u64>> {
        self.call("measure", "", Call::Read, || self.inner.free_space())
    }

    /// The attempts below count as one call.
    fn under(&self, permit: &Arc<dyn Permit>) -> Option<Shared> {
        let inner = self.inner.under(permit)?;
        Some(Arc::new(Self { inner, plan: self.plan.clone() }))
    }

    fn parallelism(&self) -> Option<usize> {
        self.inner.parallelism()
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn clean_leftovers(&self, prefix: &str, age_min: Duration) -> Result<u64> {
        self.call("delete", prefix, Call::Delete, || self.inner.clean_leftovers(prefix, age_min))
    }
}
