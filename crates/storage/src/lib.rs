//! One small trait over every place that keeps bytes: directories and object stores, by the same contract.
//!
//! Data moves through it whole: a caller hands over a complete object and gets it back whole or by range.
//! There is no append, no seek-and-overwrite and no rename, because object stores have none. Two ways to
//! write exist: [`Storage::create`] (never replaces) and [`Storage::replace`] (only if nobody changed it).
//!
//! * [`Directory`] keeps objects as files: temporary file, fsync, link into place, fsync of the directory.
//! * [`ObjectStorage`] keeps them in a bucket: one put each, under a condition, tried again within limits.
//! * [`Content`] is a bucket whose objects belong to others: something to protect, not a store.
//! * [`Location`] is what a URL means, and opens it.
//! * [`Prefixed`] shows the part of a store below a prefix as a store of its own.
//! * [`AddressRule`] says to which network addresses a connection may go.
//! * [`Guarded`] asks a permit before every write, so that a worker that lost its lease writes nothing more.
//! * `conformance` (feature `test-support`) tries out every promise of the trait on any backend.
//! * `Faulty` (feature `test-support`) fails, or "dies", at the nth call; `Memory` keeps objects in memory.
//! * `Bucket` (feature `test-support`) is a bucket in memory behind [`ObjectStorage`]; its requests fail by plan too.
#![deny(missing_docs)]

mod addresses;
#[cfg(feature = "test-support")]
pub mod conformance;
mod content;
mod directory;
mod error;
#[cfg(feature = "test-support")]
mod faulty;
mod guarded;
mod key;
mod location;
#[cfg(feature = "test-support")]
mod memory;
mod object;
mod prefixed;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

pub use addresses::{AddressRule, Network, NotANetwork, Refused};
pub use content::{Content, ContentEntry, ContentLook, ContentRead, ContentVersion, Headers, Upload};
pub use directory::{Directory, DirectoryOptions};
pub use error::{Error, ErrorKind, Result};
#[cfg(feature = "test-support")]
pub use faulty::{Fault, FaultPlan, Faulty};
pub use guarded::{Guarded, Permit};
pub use key::check_key;
pub use location::Location;
#[cfg(feature = "test-support")]
pub use memory::Memory;
#[cfg(feature = "test-support")]
pub use object::Bucket;
pub use object::{Credentials, Limits, ObjectOptions, ObjectPlace, ObjectStorage, Service};
pub use prefixed::Prefixed;

/// A store shared between threads.
pub type Shared = Arc<dyn Storage>;

/// An object's identity at one time; equal versions mean equal content. Opaque: compare, never parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(pub String);

/// What a listing says of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The object's key, relative to the store.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// When it was written, by the store's clock; a hint, never a ground for safety.
    pub modified: Option<SystemTime>,
    /// What tells this content from any other that lay or will lie here; `None` where the place cannot say.
    pub stamp: Option<Stamp>,
}

/// What a listing says of an object's content without its being read. Equal stamps of one key in one place mean that it
/// was not changed in between, by anybody. For caches of what is shown: whoever decides something reads the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(pub(crate) [u64; 3]);

impl Stamp {
    /// Of a place that gives each content a name of its own, like an ETag.
    pub fn of_tag(tag: &[u8]) -> Self {
        let mut words = [0; 3];
        for (word, bytes) in words.iter_mut().zip(Sha256::digest(tag).as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self(words)
    }
}

/// An object that is being written piece by piece. Nobody sees it before it is committed; dropped, it is gone.
pub trait Draft: Send {
    /// Adds to its end.
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Gives it its key, as durably and with the same errors as [`Storage::create`].
    fn commit(self: Box<Self>, key: &str) -> Result<()>;
}

/// A place that keeps immutable objects under keys like `vaults/ab/data/00/00ff…`.
///
/// Every call may be repeated. A call that fails has either done its work whole or not at all: no reader ever
/// sees half an object. Implementations are used from many threads at once.
///
/// No call has a default that an implementation may replace: one that wraps another would lose what that one does, and
/// nothing would show it.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Where this is, for people: a path or an URL without secrets.
    fn location(&self) -> String;

    /// Reads a whole object. `NotFound` if there is none; `TooLarge` if it is longer than `size_max` bytes.
    fn get(&self, key: &str, size_max: u64) -> Result<Vec<u8>>;

    /// Reads a whole object into `body`, in place of what it held: its memory is used again.
    fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> Result<()>;

    /// Reads a whole small object with its version, for a later [`Storage::replace`].
    fn get_versioned(&self, key: &str, size_max: u64) -> Result<(Vec<u8>, Version)>;

    /// Reads the bytes of `range`. Fewer bytes than asked for is an error (`Short`).
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// The same into `body`, in place of what it held: its memory is used again.
    fn get_range_into(&self, key: &str, range: Range<u64>, body: &mut Vec<u8>) -> Result<()>;

    /// Like [`Storage::get_range`] of an object of which other parts will soon be wanted too, and which describes others:
    /// a cache may keep all of it.
    fn get_metadata_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>>;

    /// Writes an object that must not exist yet, durably: once this returns it survives loss of power.
    /// The body is the concatenation of `parts`. `Exists` if there is one already, which stays as it is.
    ///
    /// Over a network an answer may be lost. If it was, and these very bytes lie there, they count as written by this
    /// call; so whoever must know that it was the one who took a name writes bytes that nobody else would.
    fn create(&self, key: &str, parts: &[&[u8]]) -> Result<()>;

    /// Starts an object whose key below `prefix` is known only once all of it was written. `None` where a place takes
    /// objects whole: then collect it, and use [`Storage::create`].
    fn draft(&self, prefix: &str) -> Result<Option<Box<dyn Draft>>>;

    /// Replaces an object if its version is still `expected`, durably and in one step; else `Precondition`.
    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> Result<()>;

    /// Removes an object. An object that is not there is no error.
    fn delete(&self, key: &str) -> Result<()>;

    /// Size and time of one object, or `None` if there is none.
    fn head(&self, key: &str) -> Result<Option<Entry>>;

    /// Calls `visit` for each object whose key starts with `prefix` (a whole number of path segments: empty, or
    /// ending in `/`), in no special order. Complete, or an error; a missing prefix is an empty listing.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()>;

    /// Bytes still free, where the place knows it.
    fn free_space(&self) -> Result<Option<u64>>;

    /// The same place, where a call that writes asks this permit again before each of its attempts. `None` where a call
    /// is one attempt.
    fn under(&self, permit: &Arc<dyn Permit>) -> Option<Shared>;

    /// How many calls at once are worth the while where that is more than one a core: a network is far away, and
    /// its calls spend their time waiting.
    fn parallelism(&self) -> Option<usize>;

    /// Whether every listing, by any machine, shows all that was written before it began. `false` where nobody knows.
    fn lists_at_once(&self) -> bool;

    /// Removes what crashed writers left below `prefix` and no listing shows, if it is at least `age_min` old.
    /// Returns how many such things went.
    fn clean_leftovers(&self, prefix: &str, age_min: Duration) -> Result<u64>;

    /// All entries below `prefix`, in order of their keys; the same for every storage.
    fn list_all(&self, prefix: &str) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        self.list(prefix, &mut |entry| {
            entries.push(entry);
            Ok(())
        })?;
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }
}

/// The rest of an implementation of [`Storage`] by its other calls, for stores of tests: nothing is read into memory
/// that is there, written piece by piece, tried again, listed late or left over.
#[cfg(feature = "test-support")]
#[macro_export]
macro_rules! plain_calls {
    () => {
        fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> $crate::Result<()> {
            *body = self.get(key, size_max)?;
            Ok(())
        }

        fn get_range_into(
            &self,
            key: &str,
            range: std::ops::Range<u64>,
            body: &mut Vec<u8>,
        ) -> $crate::Result<()> {
            *body = self.get_range(key, range)?;
            Ok(())
        }

        fn get_metadata_range(&self, key: &str, range: std::ops::Range<u64>) -> $crate::Result<Vec<u8>> {
            self.get_range(key, range)
        }

        fn draft(&self, _: &str) -> $crate::Result<Option<Box<dyn $crate::Draft>>> {
            Ok(None)
        }

        fn under(&self, _: &std::sync::Arc<dyn $crate::Permit>) -> Option<$crate::Shared> {
            None
        }

        fn parallelism(&self) -> Option<usize> {
            None
        }

        fn lists_at_once(&self) -> bool {
            true
        }

        fn clean_leftovers(&self, _: &str, _: std::time::Duration) -> $crate::Result<u64> {
            Ok(0)
        }
    };
}
