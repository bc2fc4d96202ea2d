//! Does this place keep what the store relies on? Every promise is tried out with small objects of random names.
//!
//! Some object stores accept conditions and ignore them, or heed them only while nobody else writes: two servers would
//! then take the same name, or overwrite each other. Such a place is refused, with what it did.

use std::sync::atomic::{AtomicUsize, Ordering};

use storage::{ErrorKind, Storage};

use super::{Store, layout};

/// Less room than this is told.
const FREE_BYTES_MIN: u64 = 100 << 20;

/// So many create one object at once, and so often.
const RACERS: usize = 8;
const RACES: usize = 4;

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
    // What cannot even be written once needs no races, and a refusal is not worth saying twice.
    if let (Err(obstacle), false) = (&outcome, written(storage, &key)) {
        return vec![obstacle.clone()];
    }
    let removed = storage.delete(&key).map_err(|e| e.to_string());
    let gone = removed.and_then(|()| match storage.head(&key) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("an object was still there after it had been deleted".to_owned()),
        Err(e) => Err(e.to_string()),
    });
    let races = if outcome.is_ok() { race(storage) } else { Ok(()) };
    [outcome, gone, races].into_iter().filter_map(Result::err).collect()
}

fn written(storage: &dyn Storage, key: &str) -> bool {
    matches!(storage.head(key), Ok(Some(_)))
}

/// Of many who create one object at the same time exactly one must be told that it did, and its bytes must be there.
fn race(storage: &dyn Storage) -> Result<(), String> {
    for _ in 0..RACES {
        let key = format!("probe/{}", layout::new_token());
        let outcome = race_for(storage, &key);
        storage.delete(&key).map_err(|e| e.to_string())?;
        outcome?;
    }
    Ok(())
}

fn race_for(storage: &dyn Storage, key: &str) -> Result<(), String> {
    let (winners, winner) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failures: Vec<String> = std::thread::scope(|scope| {
        let racer = |number: usize| {
            let (winners, winner) = (&winners, &winner);
            move || match storage.create(key, &[number.to_string().as_bytes()]) {
                Ok(()) => {
                    winners.fetch_add(1, Ordering::SeqCst);
                    winner.store(number, Ordering::SeqCst);
                    None
                }
                Err(e) if e.kind == ErrorKind::Exists => None,
                Err(e) => Some(e.to_string()),
            }
        };
        let racers: Vec<_> = (0..RACERS)
            .filter_map(|number| std::thread::Builder::new().spawn_scoped(scope, racer(number)).ok())
            .collect();
        racers.into_iter().filter_map(|racer| racer.join().ok().flatten()).collect()
    });
    if let Some(failure) = failures.into_iter().next() {
        return Err(failure);
    }
    let body = storage.get(key, 100).map_err(|e| e.to_string())?;
    match winners.into_inner() {
        1 if body == winner.into_inner().to_string().as_bytes() => Ok(()),
        1 => Err("the bytes of another writer were kept than of the one who was told that it had won: conditional \
                  writes are not safe here"
            .to_owned()),
        many => Err(format!(
            "{many} of {RACERS} who created one object at the same time were told that they had: conditional writes are \
             not safe here, and two servers could take the same name"
        )),
    }
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
    let (body, version) = storage.get_versioned(key, 100).map_err(text)?;
    if body != b"three" {
        return Err("an object did not read back as it was replaced".to_owned());
    }
    storage.delete(key).map_err(text)?;
    match storage.replace(key, b"five", &version) {
        Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Precondition) => Ok(()),
        Err(e) => Err(e.to_string()),
        Ok(()) => Err("an object that was gone was replaced: what is deleted could come back".to_owned()),
    }
}
