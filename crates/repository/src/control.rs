//! The handle on one long work: cancel it, watch its progress, collect what it could not do.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Error, ErrorKind, Result};

/// So many warnings are kept word for word; beyond that they are only counted.
const WARNINGS_KEPT_MAX: usize = 1000;

/// Something that is not in the backup, or not restored as it was: named, with the reason.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Warning {
    /// The file or other thing.
    pub item: String,
    /// Why.
    pub reason: String,
}

/// Counters that the engine's threads move and anybody may read.
#[derive(Debug, Default)]
pub struct Progress {
    /// Files finished.
    pub files_done: AtomicU64,
    /// Files expected; 0 while unknown.
    pub files_total: AtomicU64,
    /// Bytes of content finished.
    pub bytes_done: AtomicU64,
    /// Bytes of content expected; 0 while unknown.
    pub bytes_total: AtomicU64,
    /// New bytes stored (backup), or fetched (restore).
    pub bytes_stored: AtomicU64,
    current: Mutex<String>,
}

impl Progress {
    /// What is being worked on, for people.
    pub fn current(&self) -> String {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says what is being worked on.
    pub fn set_current(&self, what: &str) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        current.clear();
        current.push_str(what);
    }

    /// Counts one finished file.
    pub(crate) fn file_done(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts finished bytes.
    pub(crate) fn bytes(&self, count: u64) {
        self.bytes_done.fetch_add(count, Ordering::Relaxed);
    }
}

/// Cancellation, progress and warnings of one long work; shared by the engine's threads and whoever watches.
#[derive(Debug, Default)]
pub struct Control {
    /// Set once; the work stops at its next safe point.
    pub cancelled: AtomicBool,
    /// How far it is.
    pub progress: Progress,
    warnings: Mutex<Vec<Warning>>,
    warning_count: AtomicU64,
}

impl Control {
    /// A fresh handle.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Asks the work to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// `Cancelled` once [`Control::cancel`] was called.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
        }
        Ok(())
    }

    /// Names something that is missing from the result. Control characters in names are escaped.
    pub fn warn(&self, item: impl Into<String>, reason: impl Into<String>) {
        self.warning_count.fetch_add(1, Ordering::Relaxed);
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if warnings.len() < WARNINGS_KEPT_MAX {
            warnings.push(Warning { item: item.into(), reason: reason.into() });
        }
    }

    /// The first 1,000 warnings.
    pub fn warnings(&self) -> Vec<Warning> {
        self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many warnings there were.
    pub fn warning_count(&self) -> u64 {
        self.warning_count.load(Ordering::Relaxed)
    }
}
