//! A store in memory that behaves like an object store: one map of keys, no directories, no leftovers. For tests.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Entry, Error, ErrorKind, Result, Stamp, Storage, Version, check_key};

/// The store. [`Memory::fork`] makes another one of the same content.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Object>>,
}

#[derive(Clone, Debug)]
struct Object {
    body: Vec<u8>,
    version: u64,
}

impl Object {
    fn told(&self, key: &str) -> Entry {
        let stamp = Some(Stamp::of_tag(&self.body));
        Entry { key: key.to_owned(), size: self.body.len() as u64, modified: None, stamp }
    }
}

impl Memory {
    /// A store of its own with the content that this one has now.
    pub fn fork(&self) -> Self {
        Self { objects: Mutex::new(self.objects().clone()) }
    }

    /// What no storage may do: puts other bytes in the place of an object, or a new object there.
    pub fn damage(&self, key: &str, body: Vec<u8>) {
        let mut objects = self.objects();
        let version = objects.get(key).map_or(0, |object| object.version);
        objects.insert(key.to_owned(), Object { body, version });
    }

    fn objects(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find<T>(
        &self,
        operation: &'static str,
        key: &str,
        look: impl FnOnce(&Object) -> Result<T, (ErrorKind, &'static str)>,
    ) -> Result<T> {
        let objects = self.objects();
        let object = objects.get(key).ok_or((ErrorKind::NotFound, "there is no such object"));
        object.and_then(look).map_err(|(kind, reason)| self.error(kind, operation, key, reason))
    }

    fn error(&self, kind: ErrorKind, operation: &'static str, key: &str, reason: &str) -> Error {
        Error::new(kind, operation, key, &self.location(), reason)
    }
}

impl Storage for Memory {
    fn location(&self) -> String {
        "memory".to_owned()
    }

    fn get(&self, key: &str, size_max: u64) -> Result<Vec<u8>> {
        self.get_versioned(key, size_max).map(|(body, _)| body)
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> Result<(Vec<u8>, Version)> {
        self.find("read", key, |object| {
            if object.body.len() as u64 > size_max {
                return Err((ErrorKind::TooLarge, "it is longer than expected"));
            }
            Ok((object.body.clone(), Version(object.version.to_string())))
        })
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.find("read", key, |object| {
            let (start, end) = (range.start as usize, range.end as usize);
            let part = object.body.get(start..end).ok_or((ErrorKind::Short, "it ends before"))?;
            Ok(part.to_vec())
        })
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        check_key(key, &self.location())?;
        let mut objects = self.objects();
        if objects.contains_key(key) {
            return Err(self.error(ErrorKind::Exists, "create", key, "it is there already"));
        }
        objects.insert(key.to_owned(), Object { body: parts.concat(), version: 0 });
        Ok(())
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> Result<()> {
        let mut objects = self.objects();
        match objects.get_mut(key) {
            Some(object) if object.version.to_string() == expected.0 => {
                *object = Object { body: body.to_vec(), version: object.version + 1 };
                Ok(())
            }
            _ => Err(self.error(ErrorKind::Precondition, "replace", key, "it is another version")),
        }
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.objects().remove(key);
        Ok(())
    }

    fn head(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.objects().get(key).map(|object| object.told(key)))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let found: Vec<Entry> = {
            let objects = self.objects();
            let from_prefix = objects.range(prefix.to_owned()..);
            let below = from_prefix.take_while(|(key, _)| key.starts_with(prefix));
            below.map(|(key, object)| object.told(key)).collect()
        };
        found.into_iter().try_for_each(visit)
    }

    fn free_space(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    crate::plain_calls!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_contract_of_a_store() {
        let store = Memory::default();
        store.create("a/b", &[b"one", b"two"]).unwrap();
        assert_eq!(store.create("a/b", &[b"other"]).unwrap_err().kind, ErrorKind::Exists);
        assert_eq!(store.get_range("a/b", 1..4).unwrap(), b"net");
        assert_eq!(store.get_range("a/b", 4..7).unwrap_err().kind, ErrorKind::Short);
        assert_eq!(store.get("a/b", 5).unwrap_err().kind, ErrorKind::TooLarge);
        assert_eq!(store.get("a", 5).unwrap_err().kind, ErrorKind::NotFound);
        let (_, version) = store.get_versioned("a/b", 6).unwrap();
        store.replace("a/b", b"new", &version).unwrap();
        assert_eq!(store.replace("a/b", b"late", &version).unwrap_err().kind, ErrorKind::Precondition);
        store.create("a/c", &[]).unwrap();
        store.create("b", &[]).unwrap();
        let fork = store.fork();
        store.delete("a/b").unwrap();
        store.delete("a/b").unwrap();
        let keys =
            |store: &Memory| store.list_all("a/").unwrap().into_iter().map(|e| e.key).collect::<Vec<_>>();
        assert_eq!(keys(&store), ["a/c"]);
        assert_eq!(keys(&fork), ["a/b", "a/c"]);
        assert_eq!(fork.get("a/b", 3).unwrap(), b"new");
    }
}
