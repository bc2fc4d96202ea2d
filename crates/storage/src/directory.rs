//! A directory as a store.
//!
//! An object appears whole or not at all: it is written under a temporary name in its own directory, synced,
//! renamed into place without replacing anything, and then the directory is synced, so that it survives loss of
//! power once the call returns. A sync that failed is never tried again on the same file: the kernel may have
//! dropped the pages and would report success (the file is discarded instead).
//!
//! Temporary names start with a dot and hold `.tmp-`; listings never show them, [`Storage::clean_leftovers`]
//! removes old ones that a crash left behind. A draft is locked while it is written, and so is not taken for one.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, DirEntry, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, IoSlice, Read, Write};
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FlockOperation, RenameFlags};
use sha2::{Digest, Sha256};

use crate::{Draft, Entry, Error, ErrorKind, Permit, Result, Shared, Stamp, Storage, Version, check_key};

/// What serialises [`Storage::replace`] between processes on one machine.
const REPLACE_LOCK: &str = ".replace.lock";

/// Small pieces of a draft are collected up to this before they are written.
const DRAFT_BUFFER_BYTES: usize = 256 << 10;

/// How a [`Directory`] behaves.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryOptions {
    /// Whether writes are synced to the disk before they return. Off only for scratch data in tests.
    pub sync: bool,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self { sync: true }
    }
}

/// What `statfs` says of file systems whose directories no other machine can change: ext2 to ext4, XFS, Btrfs, ZFS,
/// F2FS, bcachefs, tmpfs, overlayfs.
const LOCAL: [u32; 8] =
    [0xef53, 0x5846_5342, 0x9123_683e, 0x2fc1_2fc1, 0xf2f5_2010, 0xca45_1a4e, 0x0102_1994, 0x794c_7630];

/// Objects as files below one directory, which must exist.
#[derive(Clone, Debug)]
pub struct Directory {
    root: PathBuf,
    options: DirectoryOptions,
    is_local: bool,
}

impl Directory {
    /// Uses `root`, which must be a directory. It is never created here: a disk that is not mounted must
    /// not look like an empty store.
    pub fn open(root: &Path, options: DirectoryOptions) -> Result<Self> {
        let location = root.display().to_string();
        let metadata = fs::metadata(root).map_err(|e| Error::io("open", "", &location, e))?;
        if !metadata.is_dir() {
            return Err(Error::new(ErrorKind::Invalid, "open", "", &location, "not a directory"));
        }
        let is_local = rustix::fs::statfs(root).is_ok_and(|stat| LOCAL.contains(&(stat.f_type as u32)));
        Ok(Self { root: root.to_owned(), options, is_local })
    }

    /// Makes `root` (and what is missing above it) readable by the owner alone, and uses it.
    pub fn create_root(root: &Path, options: DirectoryOptions) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .map_err(|e| Error::io("make", "", &root.display().to_string(), e))?;
        Self::open(root, options)
    }

    /// The directory's path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn error(&self, operation: &'static str, key: &str, source: io::Error) -> Error {
        let mut error = Error::io(operation, key, &self.location(), source);
        if error.kind == ErrorKind::NotFound && !self.root.is_dir() {
            error.reason = "the directory is gone; is its disk mounted?".to_owned();
        }
        error
    }

    fn path(&self, key: &str) -> Result<PathBuf> {
        check_key(key, &self.location())?;
        Ok(self.root.join(key))
    }

    /// Makes the directories between the root and `dir`, syncing each parent that got a new entry.
    fn make_parents(&self, dir: &Path) -> io::Result<()> {
        if dir == self.root || dir.is_dir() {
            return if self.root.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) };
        }
        let parent = dir.parent().unwrap_or(&self.root);
        self.make_parents(parent)?;
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        self.sync_directory(parent)
    }

    fn sync_directory(&self, dir: &Path) -> io::Result<()> {
        if self.options.sync { File::open(dir)?.sync_all() } else { Ok(()) }
    }

    /// Writes `parts` to a synced temporary file beside `path`.
    fn write_temporary(&self, path: &Path, parts: &[&[u8]]) -> io::Result<Temporary> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let (guard, mut file) = self.open_temporary(path.parent().unwrap_or(&self.root), &name)?;
        write_all_parts(&mut file, parts)?;
        self.sync_file(&file)?;
        Ok(guard)
    }

    fn open_temporary(&self, dir: &Path, name: &str) -> io::Result<(Temporary, File)> {
        let short: String = name.chars().take(64).collect();
        let path = dir.join(format!(".{short}.tmp-{:016x}", rand::random::<u64>()));
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = match open() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                self.make_parents(dir)?;
                open()?
            }
            other => other?,
        };
        // Whoever cleans up sees that it is in use, however old it is. Not every file system can lock.
        let _ = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared);
        Ok((Temporary { path, armed: true }, file))
    }

    fn sync_file(&self, file: &File) -> io::Result<()> {
        if self.options.sync { file.sync_all() } else { Ok(()) }
    }

    /// Gives a synced temporary file its name, which must be free, so that it survives loss of power.
    fn publish(&self, temporary: Temporary, path: &Path) -> io::Result<()> {
        let dir = path.parent().unwrap_or(&self.root);
        if temporary.path.parent() != Some(dir) && !dir.is_dir() {
            self.make_parents(dir)?;
        }
        temporary.rename_without_replacing(path)?;
        self.sync_directory(dir)
    }

    /// Visits all files and other things below a prefix, with their names. Directories that are linked are walked as
    /// well, as all other calls follow such links; each once.
    fn visit_below(
        &self,
        prefix: &str,
        visit: &mut dyn FnMut(&DirEntry, &Path, &str) -> Result<()>,
    ) -> Result<()> {
        let start = match prefix.trim_end_matches('/') {
            "" => self.root.clone(),
            key => self.path(key)?,
        };
        let (mut pending, mut linked) = (vec![start], HashSet::new());
        while let Some(dir) = pending.pop() {
            let fail = |e| self.error("list", &self.key_of(&dir), e);
            let listing = match fs::read_dir(&dir) {
                Ok(listing) => listing,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    if self.root.is_dir() && !dir.is_symlink() {
                        continue;
                    }
                    return Err(fail(e));
                }
                Err(e) => return Err(fail(e)),
            };
            for item in listing {
                let item = item.map_err(fail)?;
                let kind = item.file_type().map_err(fail)?;
                let Ok(name) = item.file_name().into_string() else { continue };
                let path = item.path();
                if kind.is_dir()
                    || (kind.is_symlink() && self.is_linked_directory(&path, &name, &mut linked)?)
                {
                    pending.push(path);
                } else {
                    visit(&item, &path, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Where a link leads nowhere, a disk may not be mounted: what should lie there must not look as if it was not.
    fn is_linked_directory(&self, path: &Path, name: &str, linked: &mut HashSet<(u64, u64)>) -> Result<bool> {
        match fs::metadata(path) {
            Ok(m) if !m.is_dir() => Ok(false),
            Ok(m) if linked.insert((m.dev(), m.ino())) => Ok(true),
            Ok(_) => {
                let reason = "links lead to the same directory several times, or in a circle";
                Err(Error::new(ErrorKind::Invalid, "list", &self.key_of(path), &self.location(), reason))
            }
            Err(_) if name.starts_with('.') => Ok(false),
            Err(e) => {
                let mut error = self.error("list", &self.key_of(path), e);
                error.reason =
                    format!("it is a link that leads nowhere ({}); is its disk mounted?", error.reason);
                Err(error)
            }
        }
    }

    fn key_of(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned()
    }
}

impl Storage for Directory {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn get(&self, key: &str, size_max: u64) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.get_into(key, size_max, &mut body)?;
        Ok(body)
    }

    fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> Result<()> {
        let path = self.path(key)?;
        let fail = |e| self.error("read", key, e);
        let mut file = File::open(&path).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        if size > size_max {
            let reason = format!("it has {size} bytes, more than the {size_max} that it may have");
            return Err(Error::new(ErrorKind::TooLarge, "read", key, &self.location(), reason));
        }
        body.clear();
        body.reserve_exact(usize::try_from(size).unwrap_or(0) + 1);
        Read::by_ref(&mut file).take(size_max).read_to_end(body).map_err(fail)?;
        Ok(())
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> Result<(Vec<u8>, Version)> {
        let body = self.get(key, size_max)?;
        let version = version_of(&body);
        Ok((body, version))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        self.get_range_into(key, range, &mut body)?;
        Ok(body)
    }

    fn get_range_into(&self, key: &str, range: Range<u64>, body: &mut Vec<u8>) -> Result<()> {
        let path = self.path(key)?;
        let file = File::open(&path).map_err(|e| self.error("read", key, e))?;
        // What it held is overwritten, so it need not be cleared first.
        body.resize(usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(0), 0);
        file.read_exact_at(body, range.start).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => {
                let reason = format!("it ends before byte {}", range.end);
                Error::new(ErrorKind::Short, "read", key, &self.location(), reason)
            }
            _ => self.error("read", key, e),
        })
    }

    fn get_metadata_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.get_range(key, range)
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        let path = self.path(key)?;
        let fail = |e| self.error("create", key, e);
        if path.symlink_metadata().is_ok() {
            return Err(fail(io::ErrorKind::AlreadyExists.into()));
        }
        let temporary = self.write_temporary(&path, parts).map_err(fail)?;
        self.publish(temporary, &path).map_err(fail)
    }

    fn draft(&self, prefix: &str) -> Result<Option<Box<dyn Draft>>> {
        let dir = self.path(prefix.trim_end_matches('/'))?;
        let (temporary, file) =
            self.open_temporary(&dir, "draft").map_err(|e| self.error("create", prefix, e))?;
        let file = BufWriter::with_capacity(DRAFT_BUFFER_BYTES, file);
        Ok(Some(Box::new(DraftFile { directory: self.clone(), prefix: prefix.to_owned(), file, temporary })))
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> Result<()> {
        let path = self.path(key)?;
        let fail = |e| self.error("replace", key, e);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.root.join(REPLACE_LOCK))
            .map_err(fail)?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| fail(e.into()))?;
        let current = fs::read(&path).map_err(fail)?;
        if version_of(&current) != *expected {
            let reason = "it was changed meanwhile; read it again";
            return Err(Error::new(ErrorKind::Precondition, "replace", key, &self.location(), reason));
        }
        let temporary = self.write_temporary(&path, &[body]).map_err(fail)?;
        temporary.rename_over(&path).map_err(fail)?;
        self.sync_directory(path.parent().unwrap_or(&self.root)).map_err(fail)
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.root.is_dir() => Ok(()),
            Err(e) => Err(self.error("delete", key, e)),
            Ok(()) => self
                .sync_directory(path.parent().unwrap_or(&self.root))
                .map_err(|e| self.error("delete", key, e)),
        }
    }

    fn head(&self, key: &str) -> Result<Option<Entry>> {
        let (path, begun) = (self.path(key)?, SystemTime::now());
        match fs::symlink_metadata(&path) {
            Ok(m) if m.is_file() => Ok(Some(told(key.to_owned(), &m, begun))),
            Ok(_) => Ok(None),
            Err(e) if e.kind() == io::ErrorKind::NotFound && self.root.is_dir() => Ok(None),
            Err(e) => Err(self.error("look at", key, e)),
        }
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let begun = SystemTime::now();
        self.visit_below(prefix, &mut |item, path, name| {
            if is_hidden(name) {
                return Ok(());
            }
            match item.metadata() {
                Ok(m) if m.is_file() => visit(told(self.key_of(path), &m, begun)),
                Ok(_) => Ok(()),
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(self.error("list", &self.key_of(path), e)),
            }
        })
    }

    fn free_space(&self) -> Result<Option<u64>> {
        let stat = rustix::fs::statvfs(&self.root).map_err(|e| self.error("measure", "", e.into()))?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn under(&self, _: &Arc<dyn Permit>) -> Option<Shared> {
        None
    }

    fn parallelism(&self) -> Option<usize> {
        None
    }

    fn lists_at_once(&self) -> bool {
        self.is_local
    }

    fn clean_leftovers(&self, prefix: &str, age_min: Duration) -> Result<u64> {
        let mut removed = 0;
        self.visit_below(prefix, &mut |_, path, name| {
            if is_temporary(name) && older_than(path, age_min) && !is_held(path) {
                match fs::remove_file(path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(self.error("delete", &self.key_of(path), e));
                    }
                    _ => removed += 1,
                }
            }
            Ok(())
        })?;
        Ok(removed)
    }
}

/// A file that was touched so shortly ago may be touched again within the same tick of its file system's clock, which
/// counts in steps of up to two seconds.
const UNSETTLED: Duration = Duration::from_secs(2);

/// What a look that began at `begun` tells of a file.
fn told(key: String, metadata: &Metadata, begun: SystemTime) -> Entry {
    let nanoseconds = |seconds: i64, rest: i64| seconds.wrapping_mul(1_000_000_000).wrapping_add(rest);
    let changed = nanoseconds(metadata.ctime(), metadata.ctime_nsec());
    let modified = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
    let settled = u64::try_from(changed).ok().and_then(|at| {
        let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(at))?;
        begun.duration_since(at).ok().filter(|passed| *passed >= UNSETTLED)
    });
    let place = metadata.ino() ^ metadata.dev().rotate_left(32);
    let stamp = settled.map(|_| Stamp([place, changed.cast_unsigned(), modified.cast_unsigned()]));
    Entry { key, size: metadata.len(), modified: metadata.modified().ok(), stamp }
}

/// A temporary file that is being written.
struct DraftFile {
    directory: Directory,
    prefix: String,
    file: BufWriter<File>,
    temporary: Temporary,
}

impl Draft for DraftFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| self.directory.error("create", &self.prefix, e))
    }

    fn commit(self: Box<Self>, key: &str) -> Result<()> {
        let Self { directory, file, temporary, .. } = *self;
        let path = directory.path(key)?;
        let fail = |e| directory.error("create", key, e);
        let file = file.into_inner().map_err(|e| fail(e.into_error()))?;
        directory.sync_file(&file).map_err(fail)?;
        directory.publish(temporary, &path).map_err(fail)
    }
}

/// A temporary file that goes away unless it was renamed.
struct Temporary {
    path: PathBuf,
    armed: bool,
}

impl Temporary {
    fn rename_without_replacing(mut self, target: &Path) -> io::Result<()> {
        match rustix::fs::renameat_with(CWD, &self.path, CWD, target, RenameFlags::NOREPLACE) {
            Ok(()) => self.armed = false,
            // File systems without the flag: a hard link is as good, it refuses an existing name too.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                fs::hard_link(&self.path, target)?;
            }
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }

    fn rename_over(mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        self.armed = false;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if self.armed {
            // Best effort: what stays behind is swept later.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn is_temporary(name: &str) -> bool {
    name.starts_with('.') && name.contains(".tmp-")
}

/// Names that are not objects: our temporaries and the lock file.
fn is_hidden(name: &str) -> bool {
    is_temporary(name) || name == REPLACE_LOCK
}

fn older_than(path: &Path, age: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|m| m.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|passed| passed >= age))
}

/// Is somebody still writing it?
fn is_held(path: &Path) -> bool {
    OpenOptions::new().write(true).open(path).is_ok_and(|file| {
        let locked = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive);
        locked == Err(rustix::io::Errno::WOULDBLOCK)
    })
}

fn version_of(body: &[u8]) -> Version {
    Version(hex::encode(Sha256::digest(body)))
}

fn write_all_parts(file: &mut File, parts: &[&[u8]]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    IoSlice::advance_slices(&mut rest, 0);
    while !rest.is_empty() {
        match file.write_vectored(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => IoSlice::advance_slices(&mut rest, n),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn store() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(dir.path(), DirectoryOptions::default()).unwrap();
        (dir, store)
    }

    #[test]
    fn an_object_reads_back_whole_and_by_range() {
        let (_dir, store) = store();
        store.create("a/b/c", &[b"hel", b"", b"lo"]).unwrap();
        assert_eq!(store.get("a/b/c", 100).unwrap(), b"hello");
        assert_eq!(store.get_range("a/b/c", 1..3).unwrap(), b"el");
        assert_eq!(store.get_range("a/b/c", 3..9).unwrap_err().kind, ErrorKind::Short);
        assert_eq!(store.get("a/b/c", 4).unwrap_err().kind, ErrorKind::TooLarge);
        assert!(store.get("a/b", 4).is_err());
        assert_eq!(store.get("nope", 4).unwrap_err().kind, ErrorKind::NotFound);
    }

    #[cfg(feature = "test-support")]
    #[test]
    fn a_directory_keeps_every_promise_of_a_storage() {
        let dir = tempfile::tempdir().unwrap();
        let store = Directory::open(dir.path(), DirectoryOptions { sync: false }).unwrap();
        crate::conformance::all(&(std::sync::Arc::new(store.clone()) as crate::Shared));
        drop(dir);
        crate::conformance::a_place_that_is_gone_is_an_error(&store);
    }

    #[test]
    fn a_draft_is_seen_once_it_is_committed_and_never_replaces() {
        let (dir, store) = store();
        let draft = |text: &[u8]| {
            let mut draft = store.draft("data/").unwrap().unwrap();
            text.chunks(3).for_each(|part| draft.append(part).unwrap());
            assert!(store.list_all("").unwrap().iter().all(|entry| entry.key == "data/aa/1"));
            draft
        };
        draft(b"first text").commit("data/aa/1").unwrap();
        assert_eq!(store.get("data/aa/1", 100).unwrap(), b"first text");
        let error = draft(b"second text").commit("data/aa/1").unwrap_err();
        assert_eq!(error.kind, ErrorKind::Exists);
        drop(draft(b"given up"));
        assert_eq!(store.get("data/aa/1", 100).unwrap(), b"first text");
        let names: Vec<_> =
            fs::read_dir(dir.path().join("data")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["aa"], "nothing is left behind");
    }

    #[test]
    fn an_old_draft_that_is_still_written_is_no_leftover() {
        let (_dir, store) = store();
        let mut draft = store.draft("data/").unwrap().unwrap();
        draft.append(b"begun, then nothing for a day, ").unwrap();
        assert_eq!(store.clean_leftovers("", Duration::ZERO).unwrap(), 0);
        draft.append(b"and the rest").unwrap();
        draft.commit("data/1").unwrap();
        assert!(store.get("data/1", 100).unwrap().ends_with(b"and the rest"));
        // What a killed process left is not locked.
        fs::write(store.root().join("data/.draft.tmp-00"), b"torn").unwrap();
        assert_eq!(store.clean_leftovers("", Duration::ZERO).unwrap(), 1);
    }

    #[test]
    fn what_lies_behind_a_link_to_a_directory_is_listed_as_it_is_read() {
        let (dir, store) = store();
        let other = tempfile::tempdir().unwrap();
        symlink(other.path(), dir.path().join("data")).unwrap();
        store.create("data/aa/1", &[b"1"]).unwrap();
        assert_eq!(store.get("data/aa/1", 10).unwrap(), b"1");
        for prefix in ["", "data/", "data/aa/"] {
            let keys: Vec<_> = store.list_all(prefix).unwrap().into_iter().map(|e| e.key).collect();
            assert_eq!(keys, ["data/aa/1"], "{prefix}");
        }
        fs::write(other.path().join("aa/.2.tmp-00"), b"torn").unwrap();
        assert_eq!(store.clean_leftovers("", Duration::ZERO).unwrap(), 1);
        // A circle is an error, and so is a disk that is not there.
        symlink("..", other.path().join("aa/up")).unwrap();
        assert_eq!(store.list_all("").unwrap_err().kind, ErrorKind::Invalid);
        drop(other);
        for prefix in ["", "data/"] {
            let error = store.list_all(prefix).unwrap_err();
            assert_eq!(error.kind, ErrorKind::NotFound, "{error}");
        }
    }

    #[test]
    fn create_never_replaces() {
        let (_dir, store) = store();
        store.create("k", &[b"one"]).unwrap();
        assert_eq!(store.create("k", &[b"two"]).unwrap_err().kind, ErrorKind::Exists);
        assert_eq!(store.get("k", 100).unwrap(), b"one");
    }

    #[test]
    fn one_of_many_racing_creators_wins() {
        let (_dir, store) = store();
        let wins: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..16)
                .map(|i: u8| {
                    let store = &store;
                    scope.spawn(move || usize::from(store.create("k", &[&[i]]).is_ok()))
                })
                .collect();
            racers.into_iter().map(|r| r.join().unwrap()).sum()
        });
        assert_eq!(wins, 1);
    }

    #[test]
    fn replace_needs_the_version_that_was_read() {
        let (_dir, store) = store();
        store.create("k", &[b"one"]).unwrap();
        let (_, version) = store.get_versioned("k", 10).unwrap();
        store.replace("k", b"two", &version).unwrap();
        assert_eq!(store.replace("k", b"three", &version).unwrap_err().kind, ErrorKind::Precondition);
        assert_eq!(store.get("k", 10).unwrap(), b"two");
    }

    #[test]
    fn a_file_has_a_stamp_once_it_was_left_alone_and_another_after_any_write() {
        let (dir, store) = store();
        store.create("k", &[b"one"]).unwrap();
        let fresh = store.head("k").unwrap().unwrap();
        assert_eq!(fresh.stamp, None, "it may be written again within the same tick");
        let settled = || {
            let deadline = std::time::Instant::now() + Duration::from_secs(30);
            loop {
                let listed = store.list_all("").unwrap().remove(0);
                if let Some(stamp) = listed.stamp {
                    assert_eq!(store.head("k").unwrap().unwrap().stamp, Some(stamp));
                    return stamp;
                }
                assert!(std::time::Instant::now() < deadline);
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        let before = settled();
        assert_eq!(settled(), before);
        // In place, as long as before, and its time put back: as somebody does who wants not to be noticed.
        let file = File::options().write(true).open(dir.path().join("k")).unwrap();
        file.write_all_at(b"two", 0).unwrap();
        file.set_modified(fresh.modified.unwrap()).unwrap();
        assert_ne!(settled(), before);
    }

    #[test]
    fn listings_show_objects_only_and_deleting_twice_is_fine() {
        let (dir, store) = store();
        store.create("x/1", &[b"1"]).unwrap();
        store.create("x/y/2", &[b"22"]).unwrap();
        fs::write(dir.path().join("x/.3.tmp-00"), b"torn").unwrap();
        let keys: Vec<_> = store.list_all("x/").unwrap().into_iter().map(|e| (e.key, e.size)).collect();
        assert_eq!(keys, [("x/1".to_owned(), 1), ("x/y/2".to_owned(), 2)]);
        assert!(store.list_all("none/").unwrap().is_empty());
        store.delete("x/1").unwrap();
        store.delete("x/1").unwrap();
        assert_eq!(store.clean_leftovers("", Duration::ZERO).unwrap(), 1);
        assert_eq!(store.head("x/1").unwrap(), None);
    }

    #[test]
    fn a_store_that_vanished_is_an_error_and_never_an_empty_listing() {
        let (dir, store) = store();
        store.create("x/1", &[b"1"]).unwrap();
        fs::remove_dir_all(dir.path()).unwrap();
        assert_eq!(store.list_all("x/").unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(store.create("x/2", &[b"2"]).unwrap_err().kind, ErrorKind::NotFound);
        assert_eq!(store.delete("x/1").unwrap_err().kind, ErrorKind::NotFound);
        assert!(!dir.path().exists());
    }
}
