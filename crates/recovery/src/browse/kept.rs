//! What sessions keep open: within limits, and not longer than it is used.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::{Error, ErrorKind, Result};

/// Store and backup.
type Place = (String, String);

/// A session by the hash of its token, so that no token lies here.
pub(super) fn session_key(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// Whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub session: [u8; 32],
    pub user: String,
}

struct Entry<T> {
    owner: Owner,
    place: Place,
    used: Instant,
    value: Arc<T>,
    /// Takes it away when it has not been used for long.
    watch: AbortHandle,
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

type Entries<T> = Mutex<Vec<Entry<T>>>;

/// Values by session and place.
pub(super) struct Kept<T> {
    entries: Arc<Entries<T>>,
    count_max: usize,
    of_session_max: usize,
    idle_max: Duration,
}

fn lock<T>(entries: &Entries<T>) -> MutexGuard<'_, Vec<Entry<T>>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Send + Sync + 'static> Kept<T> {
    pub fn new(count_max: usize, of_session_max: usize, idle_max: Duration) -> Self {
        Self { entries: Arc::default(), count_max, of_session_max, idle_max }
    }

    /// Keeps a value in the place of one that this session has there. A session that has too many gives up the one that it
    /// has not used for longest; one that comes when all have too many is refused.
    pub fn insert(&self, session: &str, user: &str, (store, name): (&str, &str), value: T) -> Result<()> {
        let owner = Owner { session: session_key(session), user: user.to_owned() };
        let (place, value) = ((store.to_owned(), name.to_owned()), Arc::new(value));
        let mut entries = lock(&self.entries);
        entries.retain(|entry| entry.owner != owner || entry.place != place);
        let own = || entries.iter().enumerate().filter(|(_, entry)| entry.owner == owner);
        if own().count() >= self.of_session_max
            && let Some((oldest, _)) = own().min_by_key(|(_, entry)| entry.used)
        {
            entries.remove(oldest);
        }
        if entries.len() >= self.count_max {
            let message = format!(
                "{} backups are open just now; close one, or try again in some minutes.",
                self.count_max
            );
            return Err(Error::new(ErrorKind::Busy, message));
        }
        let watched = watch(Arc::downgrade(&self.entries), Arc::downgrade(&value), self.idle_max);
        let watch = tokio::spawn(watched).abort_handle();
        entries.push(Entry { owner, place, used: Instant::now(), value, watch });
        Ok(())
    }

    /// What this session has there; that is a use.
    pub fn get(&self, session: &str, (store, name): (&str, &str)) -> Option<Arc<T>> {
        let key = session_key(session);
        let mut entries = lock(&self.entries);
        let here = |entry: &&mut Entry<T>| {
            entry.owner.session == key && entry.place.0 == store && entry.place.1 == name
        };
        let entry = entries.iter_mut().find(here)?;
        entry.used = Instant::now();
        Some(entry.value.clone())
    }

    pub fn remove_if(&self, goes: impl Fn(&Owner, &Place) -> bool) {
        lock(&self.entries).retain(|entry| !goes(&entry.owner, &entry.place));
    }
}

/// Waits until the value has not been used for `idle_max`, then takes it away.
async fn watch<T>(entries: Weak<Entries<T>>, value: Weak<T>, idle_max: Duration) {
    let mut end = Instant::now() + idle_max;
    loop {
        tokio::time::sleep_until(end).await;
        let Some(entries) = entries.upgrade() else { return };
        let mut entries = lock(&entries);
        let is_this = |entry: &Entry<T>| std::ptr::eq(Arc::as_ptr(&entry.value), value.as_ptr());
        let Some(at) = entries.iter().position(is_this) else { return };
        let used = entries.get(at).map_or(end, |entry| entry.used);
        if used + idle_max <= Instant::now() {
            entries.remove(at);
            return;
        }
        end = used + idle_max;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept<u8> {
        Kept::new(4, 2, Duration::from_secs(600))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_for_ten_minutes_goes_and_what_is_used_stays() {
        let kept = kept();
        kept.insert("a", "u", ("s", "b"), 1).unwrap();
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_secs(599)).await;
            assert_eq!(kept.get("a", ("s", "b")).as_deref(), Some(&1));
        }
        tokio::time::sleep(Duration::from_secs(601)).await;
        assert!(lock(&kept.entries).is_empty(), "gone from memory, not only out of reach");
    }

    #[tokio::test]
    async fn each_session_has_its_own_and_no_other_sees_it() {
        let kept = kept();
        kept.insert("a", "u", ("s", "b"), 1).unwrap();
        for (session, place) in [("b", ("s", "b")), ("a", ("s", "c")), ("a", ("t", "b")), ("", ("s", "b"))] {
            assert_eq!(kept.get(session, place), None);
        }
        kept.insert("a", "u", ("s", "b"), 2).unwrap();
        assert_eq!(kept.get("a", ("s", "b")).as_deref(), Some(&2));
        kept.remove_if(|owner, _| owner.user == "u");
        assert_eq!(kept.get("a", ("s", "b")), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_gives_up_its_oldest_and_all_together_have_a_limit() {
        let kept = kept();
        for (backup, value) in [("b1", 1), ("b2", 2)] {
            kept.insert("a", "u", ("s", backup), value).unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        kept.get("a", ("s", "b1")).unwrap();
        kept.insert("a", "u", ("s", "b3"), 3).unwrap();
        assert_eq!(kept.get("a", ("s", "b2")), None, "b1 was used after it");
        for session in ["b", "c"] {
            kept.insert(session, "u", ("s", "b1"), 9).unwrap();
        }
        assert_eq!(kept.insert("d", "u", ("s", "b1"), 9).unwrap_err().kind, ErrorKind::Busy);
        assert!(kept.get("a", ("s", "b3")).is_some(), "nobody loses what is his to another");
    }
}
