//! Locks: files that tell other restic clients that somebody works here.
//!
//! They are advisory. Inside the product a lease in the state database decides; the lock file is for foreign
//! clients. Taking one: look for conflicts, write ours, wait a moment where a listing may be late, look again: of two
//! that write and then look, one at least sees the other. A thread refreshes it (new file first, then the old one goes).
//!
//! Whoever is about to remove something, or to write a snapshot, asks [`Lock::check`] before: is our file still there?
//! One that was not refreshed for [`LOST_AFTER`], as the machine slept say, is refreshed on the spot. If another client
//! took it for stale and removed it, or it cannot be refreshed, the work must stop.
//!
//! Whoever would rather wait for a lock that another holds than fail gives the repository a [`LockWait`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::file::{self, Folder};
use crate::time::Time;
use crate::{Control, Error, ErrorKind, Id, Repository, Result, lock_mutex};

/// A lock not refreshed for so long belongs to nobody any more.
const STALE_AFTER_SECONDS: i64 = 30 * 60;
/// How often ours is written anew.
const REFRESH_EVERY: Duration = Duration::from_secs(5 * 60);
/// Without a refresh for so long ours must be refreshed before anything else is done.
const LOST_AFTER: Duration = Duration::from_secs(22 * 60 + 30);
/// Between writing our lock and looking again: time for another writer's lock to become visible.
const SETTLE: Duration = Duration::from_millis(200);
/// A held lock is looked at again after about so long, then twice as long, up to the second.
const AGAIN_AFTER: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(20)];
/// So many things are removed between two looks for our file.
const REMOVED_BETWEEN_CHECKS: u64 = 100;

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

    /// Whether the process that wrote this is dead, if it ran where we run. A process that cannot be asked for lives.
    fn is_of_the_dead(&self) -> bool {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
    }

    fn is_stale(&self) -> bool {
        let age = Time::parse(&self.time).map(|at| Time::now().seconds - at.seconds);
        age.is_some_and(|age| age > STALE_AFTER_SECONDS)
    }

    fn write(&self, repository: &Repository) -> Result<Id> {
        file::write_json(repository, Folder::Locks, self)
    }
}

/// Shared by the lock, the thread that refreshes it, and the repositories that are used under it.
pub(crate) struct Held {
    repository: Repository,
    /// Locked while the file is replaced or looked for, so that nobody looks for the old one when it has just gone.
    current: Mutex<Current>,
    stop: (Mutex<bool>, Condvar),
    /// Another client removed our file, and may have changed the repository.
    lost: AtomicBool,
}

/// The lock file of the moment.
struct Current {
    id: Id,
    text: LockText,
    refreshed: SinceBoot,
}

/// A time by a clock that goes on while the machine sleeps.
#[derive(Clone, Copy)]
struct SinceBoot {
    seconds: i64,
}

impl SinceBoot {
    fn now() -> Self {
        Self { seconds: clock_gettime(ClockId::Boottime).tv_sec }
    }

    fn is_long_ago(self) -> bool {
        Self::now().seconds - self.seconds > LOST_AFTER.as_secs() as i64
    }
}

impl Held {
    pub(crate) fn check(&self) -> Result<()> {
        let mut current = lock_mutex(&self.current);
        if current.refreshed.is_long_ago() {
            return self.refresh(&mut current).map_err(|e| match e.kind {
                ErrorKind::LockLost => e,
                _ => {
                    let message = format!(
                        "the repository's lock could not be refreshed, and others may take it for stale; stopping: {e}"
                    );
                    Error { kind: ErrorKind::LockLost, message, source: Some(Box::new(e)) }
                }
            });
        }
        self.look_for(current.id)
    }

    fn look_for(&self, id: Id) -> Result<()> {
        if !self.lost.load(Ordering::SeqCst) {
            if self.repository.storage().head(&Folder::Locks.key(id))?.is_some() {
                return Ok(());
            }
            self.lost.store(true, Ordering::SeqCst);
        }
        let message = "the repository's lock is gone: another client took it for stale, as after a sleep of this machine, and may have changed the repository; stopping, begin again";
        Err(Error::new(ErrorKind::LockLost, message))
    }

    /// Puts a new file in the place of ours, if ours is still there.
    fn refresh(&self, current: &mut Current) -> Result<()> {
        let (old, now, is_late) = (current.id, SinceBoot::now(), current.refreshed.is_long_ago());
        self.look_for(old)?;
        current.text.time = crate::time::now_text();
        let new = current.text.write(&self.repository)?;
        if is_late {
            // Others may be about to remove the old one as stale: they see the new one, or we see that it is gone.
            std::thread::sleep(SETTLE);
            if let Err(gone) = self.look_for(old) {
                let _ = self.repository.storage().delete(&Folder::Locks.key(new));
                return Err(gone);
            }
        }
        (current.id, current.refreshed) = (new, now);
        // The new one counts already; the old one becomes stale if it stays.
        let _ = self.repository.storage().delete(&Folder::Locks.key(old));
        Ok(())
    }

    /// Refreshes until it is told to stop, or the lock is lost. A refresh that failed is tried again the next time.
    fn keep_fresh(&self) {
        loop {
            let stopped = lock_mutex(&self.stop.0);
            let waited = self.stop.1.wait_timeout_while(stopped, REFRESH_EVERY, |stopped| !*stopped);
            if waited.map_or(true, |(stopped, _)| *stopped) {
                return;
            }
            let refreshed = self.refresh(&mut lock_mutex(&self.current));
            if refreshed.is_err_and(|e| e.kind == ErrorKind::LockLost) {
                return;
            }
        }
    }
}

/// A held lock; dropping it removes the file.
pub struct Lock {
    held: Arc<Held>,
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
        let refreshed = SinceBoot::now();
        let id = text.write(repository)?;
        if !repository.storage().lists_at_once() {
            std::thread::sleep(SETTLE);
        }
        if let Err(conflict) = find_conflict(repository, kind, Some(id)) {
            repository.storage().delete(&Folder::Locks.key(id))?;
            return Err(conflict);
        }
        let held = Arc::new(Held {
            repository: repository.clone(),
            current: Mutex::new(Current { id, text, refreshed }),
            stop: (Mutex::new(false), Condvar::new()),
            lost: false.into(),
        });
        let refresher = {
            let held = held.clone();
            std::thread::Builder::new()
                .name("lock refresh".to_owned())
                .spawn(move || held.keep_fresh())
                .map_err(|e| Error::path("start a thread to refresh", "the lock", e))?
        };
        Ok(Self { held, refresher: Some(refresher) })
    }

    /// `LockLost` when our file is gone, or cannot be refreshed in time. Asks the storage.
    pub fn check(&self) -> Result<()> {
        self.held.check()
    }

    /// Removes things one after the other, and makes sure from time to time that the lock is still held.
    pub(crate) fn removing<T>(
        &self,
        things: impl IntoIterator<Item = T>,
        mut remove: impl FnMut(T) -> Result<()>,
    ) -> Result<u64> {
        let mut removed = 0;
        for thing in things {
            if removed % REMOVED_BETWEEN_CHECKS == 0 {
                self.check()?;
            }
            remove(thing)?;
            removed += 1;
        }
        Ok(removed)
    }

    pub(crate) fn held(&self) -> Arc<Held> {
        self.held.clone()
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
        let id = lock_mutex(&self.held.current).id;
        let _ = self.held.repository.storage().delete(&Folder::Locks.key(id));
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
                    "the repository has a lock that cannot be read ({e}); 'unlock --remove-all' removes it, with all others"
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
            "the repository is locked {sort}{by} on {} (process {pid}) since {time}; wait until that work ends, or, if that process is dead, run 'unlock' on the same machine, or 'unlock --remove-all'",
            hostname.escape_debug()
        ),
    )
}

fn read(repository: &Repository, id: Id) -> Result<LockText> {
    let text = file::read_text(repository.storage(), repository.key(), Folder::Locks, id)?;
    serde_json::from_slice(&text).map_err(|e| Error::damaged(Folder::Locks.key(id), e))
}

/// Removes stale locks, and those that dead processes left whose host names say that they ran where we run.
pub(crate) fn remove_stale(repository: &Repository, is_here: &dyn Fn(&str) -> bool) -> Result<u64> {
    remove(repository, |lock| {
        lock.is_some_and(|lock| lock.is_stale() || (is_here(&lock.hostname) && lock.is_of_the_dead()))
    })
}

/// Removes the locks of this host name.
pub(crate) fn remove_of(repository: &Repository, hostname: &str) -> Result<u64> {
    remove(repository, |lock| lock.is_some_and(|lock| lock.hostname == hostname))
}

/// Removes all locks, also those that cannot be read.
pub(crate) fn remove_all(repository: &Repository) -> Result<u64> {
    remove(repository, |_| true)
}

fn remove(repository: &Repository, doomed: impl Fn(Option<&LockText>) -> bool) -> Result<u64> {
    let mut removed = 0;
    for (id, _) in file::list(repository.storage(), Folder::Locks)? {
        let lock = read(repository, id).ok();
        if doomed(lock.as_ref()) {
            repository.storage().delete(&Folder::Locks.key(id))?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use storage::{Memory, Shared};

    use super::*;
    use crate::{Cost, Passcode};

    fn repository() -> (Shared, Repository) {
        let storage: Shared = Arc::new(Memory::default());
        let passcode = Passcode::new("a good passcode".to_owned());
        let repository = Repository::init(storage.clone(), &passcode, Cost::FAST).unwrap();
        (storage, repository)
    }

    fn owner() -> LockOwner {
        LockOwner { hostname: "h".to_owned(), username: "u".to_owned() }
    }

    /// The number of a process that has ended.
    fn dead() -> u32 {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn unlock_removes_what_dead_processes_left_here_and_leaves_the_living_and_those_elsewhere() {
        let (storage, repository) = repository();
        let left = |hostname: &str, pid: u32| {
            let owner = LockOwner { hostname: hostname.to_owned(), username: String::new() };
            LockText { pid, ..LockText::new(LockKind::Shared, &owner) }.write(&repository).unwrap()
        };
        let alive = std::process::id();
        let stay = [left("here", alive), left("elsewhere", dead()), left("here", 0), left("here", u32::MAX)];
        left("here", dead());
        assert_eq!(repository.unlock(&|_| false).unwrap(), 0, "nobody knows where they ran");
        assert_eq!(repository.unlock(&|host| host == "here").unwrap(), 1);
        let mut expected = stay.map(|id| Folder::Locks.key(id));
        expected.sort();
        let mut files = files(&storage);
        files.sort();
        assert_eq!(files, expected);
        assert_eq!(repository.remove_all_locks().unwrap(), 4);
    }

    fn sleep_for_an_hour(lock: &Lock) {
        lock_mutex(&lock.held.current).refreshed.seconds -= 3600;
    }

    fn files(storage: &Shared) -> Vec<String> {
        storage.list_all("locks/").unwrap().into_iter().map(|entry| entry.key).collect()
    }

    #[test]
    fn a_lock_that_was_not_refreshed_for_long_is_refreshed_before_it_counts() {
        let (storage, repository) = repository();
        let lock = repository.lock(LockKind::Exclusive, &owner()).unwrap();
        let before = files(&storage);
        lock.check().unwrap();
        assert_eq!(files(&storage), before);
        sleep_for_an_hour(&lock);
        lock.check().unwrap();
        let after = files(&storage);
        assert_eq!(after.len(), 1);
        assert_ne!(after, before);
        drop(lock);
        assert!(files(&storage).is_empty());
    }

    #[test]
    fn of_many_that_race_for_an_exclusive_lock_one_at_most_has_it() {
        let place = tempfile::tempdir().unwrap();
        let storage: Shared = Arc::new(storage::Directory::open(place.path(), Default::default()).unwrap());
        assert!(storage.lists_at_once(), "{storage:?}");
        let passcode = Passcode::new("a good passcode".to_owned());
        let repository = Repository::init(storage, &passcode, Cost::FAST).unwrap();
        let (holders, taken) = (AtomicU64::new(0), AtomicU64::new(0));
        let end = Instant::now() + Duration::from_secs(60);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while taken.load(Ordering::SeqCst) < 100 {
                        assert!(Instant::now() < end, "nobody gets on");
                        match repository.lock(LockKind::Exclusive, &owner()) {
                            Ok(_lock) => {
                                assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0);
                                taken.fetch_add(1, Ordering::SeqCst);
                                std::thread::yield_now();
                                holders.fetch_sub(1, Ordering::SeqCst);
                            }
                            Err(e) => assert_eq!(e.kind, ErrorKind::Locked, "{e}"),
                        }
                        std::thread::sleep(Duration::from_micros(rand::random_range(0..2000)));
                    }
                });
            }
        });
    }

    #[test]
    fn a_lock_that_another_removed_is_lost_for_ever() {
        let (storage, repository) = repository();
        for slept in [false, true] {
            let lock = repository.lock(LockKind::Exclusive, &owner()).unwrap();
            let key = files(&storage).remove(0);
            let file = storage.get(&key, 1 << 20).unwrap();
            storage.delete(&key).unwrap();
            if slept {
                sleep_for_an_hour(&lock);
            }
            let error = lock.check().unwrap_err();
            assert_eq!(error.kind, ErrorKind::LockLost);
            assert!(error.message.contains("is gone"), "{error}");
            storage.create(&key, &[&file]).unwrap();
            assert_eq!(lock.check().unwrap_err().kind, ErrorKind::LockLost, "whatever comes back");
        }
    }
}
