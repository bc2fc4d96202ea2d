//! Does this place keep what the store relies on? Every promise is tried out with a small object of a random name.

use storage::{ErrorKind, Storage};

use super::{Store, layout};

/// Less room than this is told.
const FREE_BYTES_MIN: u64 = 100 << 20;

impl Store {
    /// What is wrong with the place, one line each; empty if it is ready.
    pub fn probe(&self) -> Vec<String> {
        let mut obstacles = match self.storage().head(layout::IDENTITY) {
            Err(e) => return vec![e.to_string()],
            Ok(None) => vec![format!(
                "'{}' is missing in '{}'; is the right disk or share mounted?",
                layout::IDENTITY,
                self.storage().location()
            )],
            Ok(Some(_)) => Vec::new(),
        };
        obstacles.extend(try_out(self.storage().as_ref()));
        if let Ok(Some(free)) = self.storage().free_space()
            && free < FREE_BYTES_MIN
        {
            obstacles.push(format!("only {} MiB are free in '{}'", free >> 20, self.storage().location()));
        }
        obstacles
    }
}

/// Write, read back, list, conditional create and replace, delete. Stops at the first thing that fails.
pub(crate) fn try_out(storage: &dyn Storage) -> Vec<String> {
    let key = format!("probe/{}", layout::new_token());
    let outcome = steps(storage, &key);
    let removed = storage.delete(&key).map_err(|e| e.to_string());
    let gone = removed.and_then(|()| match storage.head(&key) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("an object was still there after it had been deleted".to_owned()),
        Err(e) => Err(e.to_string()),
    });
    [outcome, gone].into_iter().filter_map(Result::err).collect()
}

fn steps(storage: &dyn Storage, key: &str) -> Result<(), String> {
    let text = |e: storage::Error| e.to_string();
    storage.create(key, &[b"one"]).map_err(text)?;
    match storage.create(key, &[b"two"]) {
        Err(e) if e.kind == ErrorKind::Exists => {}
        Err(e) => return Err(e.to_string()),
        Ok(()) => {
            return Err(
                "an object that existed was overwritten: names cannot be claimed safely here".to_owned()
            );
        }
    }
    let (body, version) = storage.get_versioned(key, 100).map_err(text)?;
    if body != b"one" {
        return Err("an object did not read back as it was written".to_owned());
    }
    let mut listed = false;
    storage
        .list("probe/", &mut |entry| {
            listed |= entry.key == key;
            Ok(())
        })
        .map_err(text)?;
    if !listed {
        return Err("an object that was just written is not listed".to_owned());
    }
    storage.replace(key, b"three", &version).map_err(text)?;
    match storage.replace(key, b"four", &version) {
        Err(e) if e.kind == ErrorKind::Precondition => {}
        Err(e) => return Err(e.to_string()),
        Ok(()) => {
            return Err(
                "an outdated replacement was accepted: two servers could overwrite each other".to_owned()
            );
        }
    }
    match storage.get(key, 100).map_err(text)? == b"three" {
        true => Ok(()),
        false => Err("an object did not read back as it was replaced".to_owned()),
    }
}
