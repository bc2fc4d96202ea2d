//! Drills: a backup is restored into scratch, checked and removed again, to know that it can be and how long that takes.
//!
//! ```text
//! <directory>/drill-<hash>-<what>        what is restored there; private
//! <directory>/drill-<hash>-<what>.lock   held (flock) while the drill runs
//! ```
//! What a killed drill left goes with [`clear_drills`]: its lock is free.

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::{Error, ErrorKind, Hooks, Result, file_store, relational_store};

const PREFIX: &str = "drill-";
const LOCK: &str = ".lock";
/// So much of a hash stands in a name.
const DIGEST_BYTES: usize = 6;
/// What is restored into a place.
pub(crate) const FILES: &str = "files";
pub(crate) const ARCHIVES: &str = "archives";
pub(crate) const CLUSTER: &str = "cluster";
/// A server that replays its log, and the rows that come of it.
pub(crate) const RECOVERED: &str = "recovered";
pub(crate) const ROWS: &str = "rows";
const WHATS: [&str; 5] = [FILES, ARCHIVES, CLUSTER, RECOVERED, ROWS];

/// What a component needs for a drill.
pub struct DrillContext<'a> {
    /// Where the snapshot is.
    pub repository: &'a repository::Repository,
    /// That repository's index.
    pub index: &'a repository::Index,
    /// The snapshot.
    pub snapshot: repository::Id,
    /// Unique per job: names what lies in scratch.
    pub job_id: &'a str,
    /// Where drills restore; made if it is missing.
    pub directory: &'a Path,
    /// Cancellation, progress, warnings.
    pub control: Arc<repository::Control>,
}

/// What a drill of a component came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drilled {
    /// Files restored.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// Milliseconds until something could be restored into: room, a server.
    pub prepare_ms: u64,
    /// Milliseconds of the restore.
    pub restore_ms: u64,
    /// Milliseconds of the checks.
    pub check_ms: u64,
    /// What is known now, one sentence each.
    pub proven: Vec<String>,
    /// What is not, though one might think so.
    pub not_proven: Vec<String>,
    /// What is wrong with what was restored; nothing, if the drill succeeded.
    pub failures: Vec<String>,
}

impl Drilled {
    pub(crate) fn prepared(&mut self, since: &mut Instant) {
        self.prepare_ms += lap(since);
    }

    pub(crate) fn restored(&mut self, since: &mut Instant) {
        self.restore_ms += lap(since);
    }

    pub(crate) fn checked(&mut self, since: &mut Instant) {
        self.check_ms += lap(since);
    }

    /// The operator's own checks have succeeded, or there are none.
    pub(crate) fn note_own_check(&mut self, component: &str, hooks: &Hooks) {
        match hooks.drill_check.as_slice() {
            [] => self.not_proven.push(format!(
                "that applications can work with component '{component}': no check of your own (drill_check) is configured"
            )),
            checks => self.proven.push(format!(
                "component '{component}': your own checks succeeded: {}",
                // Their arguments are nobody's business who has no passcode.
                checks.iter().filter_map(|check| check.split_whitespace().next()).collect::<Vec<_>>().join("; ")
            )),
        }
    }
}

/// Milliseconds since then, from where the next ones count.
fn lap(since: &mut Instant) -> u64 {
    let now = Instant::now();
    let passed = now.duration_since(*since);
    *since = now;
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}

/// A private directory of one drill. It goes with this value.
pub(crate) struct Place {
    parent: PathBuf,
    name: String,
    lock: Option<File>,
}

impl Place {
    /// `what` is one of [`WHATS`].
    pub(crate) fn make(parent: &Path, job_id: &str, component: &str, what: &'static str) -> Result<Self> {
        let fail = |e: io::Error| {
            let message = format!("cannot make a place for a drill in {}", parent.display());
            Error::io(message, e)
        };
        // Others may pass through it, where a server runs as somebody else, and not look around.
        DirBuilder::new().recursive(true).mode(0o711).create(parent).map_err(fail)?;
        let parent = parent.canonicalize().map_err(fail)?;
        refuse_if_open(&parent)?;
        let digest = Sha256::new().chain_update(job_id).chain_update([0]).chain_update(component).finalize();
        let name = format!("{PREFIX}{}-{what}", hex::encode(&digest[..DIGEST_BYTES]));
        let Some(lock) = take_lock(&parent, &name).map_err(fail)? else {
            return Err(fail(io::Error::other("this very drill runs already")));
        };
        let place = Self { parent, name, lock: Some(lock) };
        clear(&place.parent, &place.name)?;
        DirBuilder::new().mode(0o700).create(place.path()).map_err(fail)?;
        Ok(place)
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// Removes it, and tells if that does not succeed.
    pub(crate) fn remove(mut self) -> Result<()> {
        self.remove_now()
    }

    fn remove_now(&mut self) -> Result<()> {
        if self.lock.is_none() {
            return Ok(());
        }
        let cleared = clear(&self.parent, &self.name);
        let _ = std::fs::remove_file(lock_file(&self.parent, &self.name));
        self.lock = None;
        cleared
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.remove_now() {
            tracing::warn!("what a drill restored is still there: {error}");
        }
    }
}

/// Ends and removes what killed drills left in `directory`; what runs is left alone.
pub fn clear_drills(directory: &Path) -> Result<()> {
    let fail =
        |e: io::Error| Error::io(format!("cannot look for what drills left in {}", directory.display()), e);
    let entries = match std::fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(fail)?,
    };
    let parent = directory.canonicalize().map_err(fail)?;
    for entry in entries {
        let name = entry.map_err(fail)?.file_name().to_string_lossy().into_owned();
        let name = name.strip_suffix(LOCK).unwrap_or(&name);
        if !is_ours(name) {
            continue;
        }
        if let Some(_lock) = take_lock(&parent, name).map_err(fail)? {
            clear(&parent, name)?;
            std::fs::remove_file(lock_file(&parent, name)).map_err(fail)?;
        }
    }
    Ok(())
}

/// Whether a name can be that of a drill's place: what else lies there is somebody else's.
fn is_ours(name: &str) -> bool {
    let parts = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
    parts.is_some_and(|(digits, what)| {
        digits.len() == 2 * DIGEST_BYTES
            && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
            && WHATS.contains(&what)
    })
}

/// Under its lock.
fn clear(parent: &Path, name: &str) -> Result<()> {
    relational_store::end_cluster(&parent.join(name));
    file_store::remove_tree(parent, OsStr::new(name))
}

fn lock_file(parent: &Path, name: &str) -> PathBuf {
    parent.join(format!("{name}{LOCK}"))
}

/// Who may write there could have us write elsewhere.
fn refuse_if_open(directory: &Path) -> Result<()> {
    let fail = |e| Error::io(format!("cannot look at {}", directory.display()), e);
    let found = std::fs::metadata(directory).map_err(fail)?;
    let own = rustix::process::geteuid().as_raw();
    if found.mode() & 0o022 == 0 && [0, own].contains(&found.uid()) {
        return Ok(());
    }
    let message = format!(
        "others may write to {}, where drills restore; set drills.directory to one of this server's own",
        directory.display()
    );
    Err(Error::new(ErrorKind::Io, message))
}

/// `None`: somebody has it.
fn take_lock(parent: &Path, name: &str) -> io::Result<Option<File>> {
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = File::options();
    let lock = options.create(true).append(true).custom_flags(no_link).open(lock_file(parent, name))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(lock)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_which_others_may_write_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        for (mode, is_fine) in [(0o700, true), (0o711, true), (0o722, false), (0o1777, false)] {
            std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(refuse_if_open(dir.path()).is_ok(), is_fine, "{mode:o}");
        }
    }

    #[test]
    fn what_killed_drills_left_goes_and_what_runs_or_is_of_others_stays() {
        let dir = tempfile::tempdir().unwrap();
        let ours = |digit: &str| format!("{PREFIX}{}-{FILES}", digit.repeat(2 * DIGEST_BYTES));
        let (left, runs) = (ours("a"), ours("b"));
        let others = ["drill-plans", "drill-aaaaaaaaaaaa-photos", "drill-aaaaaaaaaaa-files", "files"];
        for name in [left.as_str(), &runs].into_iter().chain(others) {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("content"), "x").unwrap();
        }
        let lock = take_lock(dir.path(), &runs).unwrap().unwrap();
        clear_drills(dir.path()).unwrap();
        let there = |name: &str| dir.path().join(name).join("content").exists();
        assert!(!there(&left) && there(&runs) && others.iter().all(|name| there(name)));
        drop(lock);
        // A program that is being started by another test may hold all that is open for a moment.
        let deadline = Instant::now() + std::time::Duration::from_secs(20);
        while there(&runs) && Instant::now() < deadline {
            clear_drills(dir.path()).unwrap();
            std::thread::yield_now();
        }
        assert!(!there(&runs) && others.iter().all(|name| there(name)));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), others.len());
        clear_drills(&dir.path().join("none")).unwrap();
    }
}
