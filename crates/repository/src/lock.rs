//! Locks: files that tell other restic clients that somebody works here.
//!
//! They are advisory. Inside the product a lease in the state database decides; the lock file is for foreign
//! clients. Taking one: look for conflicts, write ours, wait a moment, look again. A thread refreshes it (new file
//! first, then the old one goes); once no refresh has succeeded for [`LOST_AFTER`], the work must stop, before
//! others call the lock stale.
//!
//! Whoever would rather wait for a lock that another holds than fail gives the repository a [`LockWait`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::file::{self, Folder};
use crate::time::Time;
use crate::{Control, Error, ErrorKind, Id, Repository, Result, lock_mutex};

/// A lock not refreshed for so long belongs to nobody any more.
const STALE_AFTER_SECONDS: i64 = 30 * 60;
/// How often ours is written anew.
const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);
/// Without a refresh for so long we stop.
const LOST_AFTER: Duration = Duration::from_secs(22 * 60 + 30);
/// Between writing our lock and looking again: time for another writer's lock to become visible.
const SETTLE: Duration = Duration::from_millis(200);
/// A held lock is looked at again after about so long, then twice as long, up to the second.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(20)];

/// What a lock allows beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Other shared locks: backup, restore, reading.
    Shared,
    /// Nothing: prune, forget, check.
    Exclusive,
}

/// Who holds a lock.
#[derive(Clone, Debug)]
pub struct LockOwner {
    /// Unique to the process, like `name/instance-uuid`: in containers host names and process numbers repeat.
    pub hostname: String,
    /// For people.
    pub username: String,
}

/// What is done about a lock that another holds: wait for it.
#[derive(Clone)]
pub struct LockWait {
    /// So long at most; then the work fails as without waiting.
    pub at_most: Duration,
    /// Is told, once for each lock that is waited for, what stands in the way.
    pub notice: Arc<dyn Fn(&Error) + Send + Sync>,
    /// Ends the waiting when it is cancelled.
    pub control: Arc<Control>,
}

impl LockWait {
    /// Sleeps for about so long, but not beyond the end. Two that wait for each other should not wake together.
    fn pause(&self, about: Duration, since: Instant) -> Result<()> {
        let pause = about.mul_f64(rand::random_range(0.5..1.0));
        let until = Instant::now() + pause.min(self.at_most.saturating_sub(since.elapsed()));
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            self.control.check()?;
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
        self.control.check()
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct LockText {
    time: String,
    exclusive: bool,
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
}

impl LockText {
    fn new(kind: LockKind, owner: &LockOwner) -> Self {
        Self {
            time: crate::time::now_text(),
            exclusive: kind == LockKind::Exclusive,
            hostname: owner.hostname.clone(),
            username: owner.username.clone(),
            pid: std::process::id(),
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
        }
    }

    fn is_stale(&self) -> bool {
        let age = Time::parse(&self.time).map(|at| Time::now().seconds - at.seconds);
        age.is_some_and(|age| age > STALE_AFTER_SECONDS)
    }

    fn write(&self, repository: &Repository) -> Result<Id> {
        file::write_json(repository, Folder::Locks, self)
    }
}

struct Held {
    /// The lock file of the moment.
    id: Mutex<Id>,
    stop: (Mutex<bool>, Condvar),
    lost: AtomicBool,
}

/// A held lock; dropping it removes the file.
pub struct Lock {
    held: Arc<Held>,
    repository: Repository,
    refresher: Option<JoinHandle<()>>,
}

impl Lock {
    /// Takes the lock at once, or waits for it if the repository was given a [`LockWait`].
    pub(crate) fn acquire(repository: &Repository, kind: LockKind, owner: &LockOwner) -> Result<Self> {
        let Some(wait) = repository.lock_wait() else { return Self::acquire_now(repository, kind, owner) };
        let (since, [mut pause, pause_max]) = (Instant::now(), AGAIN_AFTER);
        let mut told = false;
        loop {
            match Self::acquire_now(repository, kind, owner) {
                Err(e) if e.kind == ErrorKind::Locked && since.elapsed() < wait.at_most => {
                    if !std::mem::replace(&mut told, true) {
                        (wait.notice)(&e);
                    }
                }
                other => return other,
            }
            wait.pause(pause, since)?;
            pause = (2 * pause).min(pause_max);
        }
    }

    fn acquire_now(repository: &Repository, kind: LockKind, owner: &LockOwner) -> Result<Self> {
        find_conflict(repository, kind, None)?;
        let text = LockText::new(kind, owner);
        let id = text.write(repository)?;
        std::thread::sleep(SETTLE);
        if let Err(conflict) = find_conflict(repository, kind, Some(id)) {
            repository.storage().delete(&Folder::Locks.key(id))?;
            return Err(conflict);
        }
        let held = Arc::new(Held {
            id: Mutex::new(id),
            stop: (Mutex::new(false), Condvar::new()),
            lost: false.into(),
        });
        let refresher = {
            let (held, repository) = (held.clone(), repository.clone());
            std::thread::Builder::new()
                .name("lock refresh".to_owned())
                .spawn(move || refresh(&held, &repository, text))
                .map_err(|e| Error::path("start a thread to refresh", "the lock", e))?
        };
        Ok(Self { held, repository: repository.clone(), refresher: Some(refresher) })
    }

    /// `LockLost` when no refresh succeeded for so long that others may call the lock stale.
    pub fn check(&self) -> Result<()> {
        if self.held.lost.load(Ordering::SeqCst) {
            let message =
                "the repository's lock could not be refreshed; stopping before others take it for stale";
            return Err(Error::new(ErrorKind::LockLost, message));
        }
        Ok(())
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        *lock_mutex(&self.held.stop.0) = true;
        self.held.stop.1.notify_all();
        if let Some(thread) = self.refresher.take() {
            let _ = thread.join();
        }
        // Best effort: a lock that stays behind becomes stale by itself.
        let _ = self.repository.storage().delete(&Folder::Locks.key(*lock_mutex(&self.held.id)));
    }
}

fn refresh(held: &Held, repository: &Repository, mut text: LockText) {
    let mut last = Instant::now();
    loop {
        let stopped = lock_mutex(&held.stop.0);
        let waited = held.stop.1.wait_timeout_while(stopped, REFRESH_EVERY, |stopped| !*stopped);
        if waited.map_or(true, |(stopped, _)| *stopped) {
            return;
        }
        // Whoever took it for stale, while this machine was suspended say, may have changed the repository.
        let current = Folder::Locks.key(*lock_mutex(&held.id));
        if let Ok(None) = repository.storage().head(&current) {
            held.lost.store(true, Ordering::SeqCst);
            return;
        }
        text.time = crate::time::now_text();
        if let Ok(new) = text.write(repository) {
            let old = std::mem::replace(&mut *lock_mutex(&held.id), new);
            // The new one counts already; the old one becomes stale if it stays.
            let _ = repository.storage().delete(&Folder::Locks.key(old));
            last = Instant::now();
        } else if last.elapsed() > LOST_AFTER {
            held.lost.store(true, Ordering::SeqCst);
        }
    }
}

/// Looks for a lock that forbids ours. Stale ones are removed on the way; unreadable ones count as conflicts, as
/// nobody knows what they mean.
fn find_conflict(repository: &Repository, kind: LockKind, own: Option<Id>) -> Result<()> {
    for (id, size) in file::list(repository.storage(), Folder::Locks)? {
        if Some(id) == own || size == 0 {
            continue;
        }
        let key = Folder::Locks.key(id);
        let lock = match read(repository, id) {
            Ok(lock) => lock,
            Err(_) if repository.storage().head(&key)?.is_none() => continue,
            Err(e) => {
                let message = format!(
                    "the repository has a lock that cannot be read ({e}); 'unlock' removes stale locks"
                );
                return Err(Error { kind: ErrorKind::Locked, message, source: Some(Box::new(e)) });
            }
        };
        if lock.is_stale() {
            repository.storage().delete(&key)?;
        } else if lock.exclusive || kind == LockKind::Exclusive {
            return Err(locked(&lock));
        }
    }
    Ok(())
}

fn locked(lock: &LockText) -> Error {
    let LockText { time, hostname, username, pid, .. } = lock;
    let sort = if lock.exclusive { "exclusively" } else { "for shared work" };
    let by = if username.is_empty() { String::new() } else { format!(" by {}", username.escape_debug()) };
    Error::new(
        ErrorKind::Locked,
        format!(
            "the repository is locked {sort}{by} on {} (process {pid}) since {time}; wait until that work ends, or run 'unlock' if that process is dead",
            hostname.escape_debug()
        ),
    )
}

fn read(repository: &Repository, id: Id) -> Result<LockText> {
    let text = file::read_text(repository.storage(), repository.key(), Folder::Locks, id)?;
    serde_json::from_slice(&text).map_err(|e| Error::damaged(Folder::Locks.key(id), e))
}

/// Removes the locks that `doomed` picks (unreadable ones are offered as `None`); returns how many.
pub(crate) fn remove(repository: &Repository, doomed: impl Fn(Option<(bool, &str)>) -> bool) -> Result<u64> {
    let mut removed = 0;
    for (id, _) in file::list(repository.storage(), Folder::Locks)? {
        let lock = read(repository, id).ok();
        if doomed(lock.as_ref().map(|lock| (lock.is_stale(), lock.hostname.as_str()))) {
            repository.storage().delete(&Folder::Locks.key(id))?;
            removed += 1;
        }
    }
    Ok(removed)
}
