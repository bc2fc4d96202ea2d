//! A view of a vault with damaged files, by which it can be used all the same.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use storage::{Draft, Entry, ErrorKind, Permit, Shared, Storage, Version};

use super::vaults::{CONFIG, KEYS, SmallFiles};

/// A vault as it would be with its damaged files mended: config and keys from memory, damaged index files left out.
#[derive(Debug)]
pub(super) struct Mended {
    pub inner: Shared,
    /// In the place of config and keys.
    pub files: Option<SmallFiles>,
    /// Keys that no listing shows.
    pub hidden: HashSet<String>,
}

impl Mended {
    /// The content of a file that comes from memory; `None` if this key does not.
    fn small(&self, operation: &'static str, key: &str) -> Option<storage::Result<&Vec<u8>>> {
        let files = self.files.as_ref().filter(|_| key == CONFIG || key.starts_with(KEYS))?;
        Some(files.0.get(key).ok_or_else(|| {
            storage::Error::new(
                ErrorKind::NotFound,
                operation,
                key,
                &self.location(),
                "there is no such file",
            )
        }))
    }

    fn entry(file: &str, bytes: &[u8]) -> Entry {
        Entry { key: file.to_owned(), size: bytes.len() as u64, modified: None, stamp: None }
    }
}

impl Storage for Mended {
    fn location(&self) -> String {
        self.inner.location()
    }

    fn get(&self, key: &str, size_max: u64) -> storage::Result<Vec<u8>> {
        match self.small("read", key) {
            Some(found) => found.cloned(),
            None => self.inner.get(key, size_max),
        }
    }

    fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> storage::Result<()> {
        match self.small("read", key) {
            Some(found) => found.map(|bytes| body.clone_from(bytes)),
            None => self.inner.get_into(key, size_max, body),
        }
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> storage::Result<(Vec<u8>, Version)> {
        self.inner.get_versioned(key, size_max)
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> storage::Result<Vec<u8>> {
        let Some(found) = self.small("read", key) else { return self.inner.get_range(key, range) };
        let cut = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let part = found.map(|bytes| cut.and_then(|(start, end)| bytes.get(start..end)))?;
        part.map(<[u8]>::to_vec).ok_or_else(|| {
            storage::Error::new(ErrorKind::Short, "read", key, &self.location(), "it ends before the range")
        })
    }

    fn get_metadata_range(&self, key: &str, range: Range<u64>) -> storage::Result<Vec<u8>> {
        match self.small("read", key) {
            Some(_) => self.get_range(key, range),
            None => self.inner.get_metadata_range(key, range),
        }
    }

    fn get_range_into(&self, key: &str, range: Range<u64>, body: &mut Vec<u8>) -> storage::Result<()> {
        match self.small("read", key) {
            Some(_) => {
                *body = self.get_range(key, range)?;
                Ok(())
            }
            None => self.inner.get_range_into(key, range, body),
        }
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> storage::Result<()> {
        self.inner.create(key, parts)
    }

    fn draft(&self, prefix: &str) -> storage::Result<Option<Box<dyn Draft>>> {
        self.inner.draft(prefix)
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> storage::Result<()> {
        self.inner.replace(key, body, expected)
    }

    fn delete(&self, key: &str) -> storage::Result<()> {
        self.inner.delete(key)
    }

    fn head(&self, key: &str) -> storage::Result<Option<Entry>> {
        match self.small("look at", key) {
            Some(found) => Ok(found.ok().map(|bytes| Self::entry(key, bytes))),
            None => self.inner.head(key),
        }
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> storage::Result<()>) -> storage::Result<()> {
        if let Some(files) = self.files.as_ref().filter(|_| prefix == KEYS) {
            let keys = files.0.iter().filter(|(file, _)| file.starts_with(KEYS));
            return keys.map(|(file, bytes)| Self::entry(file, bytes)).try_for_each(visit);
        }
        self.inner.list(prefix, &mut |entry| match self.hidden.contains(&entry.key) {
            true => Ok(()),
            false => visit(entry),
        })
    }

    fn free_space(&self) -> storage::Result<Option<u64>> {
        self.inner.free_space()
    }

    fn parallelism(&self) -> Option<usize> {
        self.inner.parallelism()
    }

    fn lists_at_once(&self) -> bool {
        self.inner.lists_at_once()
    }

    fn under(&self, permit: &Arc<dyn Permit>) -> Option<Shared> {
        let inner = self.inner.under(permit)?;
        Some(Arc::new(Self { inner, files: self.files.clone(), hidden: self.hidden.clone() }))
    }

    fn clean_leftovers(&self, prefix: &str, age_min: Duration) -> storage::Result<u64> {
        self.inner.clean_leftovers(prefix, age_min)
    }
}

#[cfg(test)]
mod tests {
    use storage::Bucket;

    use super::*;

    #[test]
    fn a_mended_vault_is_as_fast_as_what_lies_below_it() {
        let inner: Shared = Arc::new(Bucket::default().open());
        let mended = Mended { inner: inner.clone(), files: None, hidden: HashSet::new() };
        assert!(inner.parallelism().is_some());
        assert_eq!(mended.parallelism(), inner.parallelism());
        inner.create("data/1", &[b"hello"]).unwrap();
        let mut body = b"before".to_vec();
        mended.get_into("data/1", 10, &mut body).unwrap();
        assert_eq!(body, b"hello");
        mended.get_range_into("data/1", 1..3, &mut body).unwrap();
        assert_eq!(body, b"el");
        assert_eq!(mended.get_metadata_range("data/1", 3..5).unwrap(), b"lo");
    }
}
