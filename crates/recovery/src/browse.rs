//! Looking at the files of a backup: vaults that somebody opened with the passcode and looks around in.
//!
//! ```text
//! open_files   passcode → vault, entry checked → index → kept in memory for this session
//! list_files   component → snapshot → directory → a part of its entries
//! open_file    the same down to a file, whose content is then written chunk by chunk
//! plan_restore components → each of them compared with what is there now (`plans`)
//! ```
//!
//! What is open lies in memory alone, belongs to one session and one backup, and goes after ten minutes without a look, at
//! the end of the session, and when its user changes. Nothing is written into the store, no lock either: what another
//! program removes meanwhile is an error of the look.

mod kept;
mod planned;
mod plans;

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use repository::{Control, Id, Index, Node, NodeKind, OpenFile, Repository};
use tokio::sync::Semaphore;

use crate::names::{check_passcode, normal};
use crate::recovery::{Inner, blocking};
use crate::store::vaults::load_index;
use crate::store::{CatalogueEntry, FORMAT_VERSION, failure};
use crate::{Error, ErrorKind, Passcode, Result};

use kept::Kept;
pub use planned::PlannedNames;
pub use plans::ComponentPlan;

/// After so long without a look a backup is closed.
const IDLE_TIME_MAX: Duration = Duration::from_secs(600);
/// Backups that are open at one time, in all sessions and in one. Each holds an index.
const OPEN_MAX: usize = 16;
const OPEN_OF_SESSION_MAX: usize = 4;
/// Looks into directories at one time: the listing of one directory is in memory as a whole.
const LOOKS_MAX: usize = 4;
/// A path is not longer on any system.
const PATH_BYTES_MAX: usize = 16 << 10;

/// The backups that are open.
pub(crate) struct Browsing {
    kept: Kept<Opened>,
    looks: Semaphore,
    plans: Semaphore,
}

impl Default for Browsing {
    fn default() -> Self {
        let kept = Kept::new(OPEN_MAX, OPEN_OF_SESSION_MAX, IDLE_TIME_MAX);
        Self { kept, looks: Semaphore::new(LOOKS_MAX), plans: Semaphore::new(plans::PLANS_MAX) }
    }
}

impl Browsing {
    /// Closes what this user has open.
    pub fn close_of_user(&self, user: &str) {
        self.kept.remove_if(|owner, _| owner.user == user);
    }

    /// Closes what is open in the session of this token.
    pub fn close_of_session(&self, session: &str) {
        let key = kept::session_key(session);
        self.kept.remove_if(|owner, _| owner.session == key);
    }
}

/// One open backup.
pub(crate) struct Opened {
    vault: Repository,
    entry: CatalogueEntry,
    index: Mutex<Arc<Index>>,
    /// Something was not where the index says: it is read anew at the next look.
    is_stale: AtomicBool,
}

impl Opened {
    fn new(vault: Repository, entry: CatalogueEntry) -> Result<Self> {
        let index = Mutex::new(Arc::new(load_index(&vault, &|_| true)?));
        Ok(Self { vault, entry, index, is_stale: AtomicBool::new(false) })
    }

    fn index(&self) -> Result<Arc<Index>> {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_stale.swap(false, Ordering::SeqCst) {
            *index = Arc::new(load_index(&self.vault, &|_| true)?);
        }
        Ok(index.clone())
    }

    /// Looks with the index at hand, and once more with a fresh one if that fails.
    fn look<T>(&self, look: impl Fn(&Index) -> Result<T>) -> Result<T> {
        match look(&*self.index()?) {
            Err(error) if error.kind == ErrorKind::Damaged => {
                self.is_stale.store(true, Ordering::SeqCst);
                look(&*self.index()?)
            }
            done => done,
        }
    }

    fn fails(&self, error: repository::Error) -> Error {
        failure::engine(&format!("cannot look into backup '{}'", self.entry.name), error)
    }

    /// The root listing of a component's snapshot, and where its content begins.
    fn snapshot(&self, component: &str) -> Result<(Id, Vec<u8>)> {
        let Some(part) = self.entry.components.iter().find(|part| part.name == component) else {
            let message = format!("Backup '{}' holds no component '{component}'.", self.entry.name);
            return Err(Error::new(ErrorKind::ParameterInvalid, message));
        };
        let snapshot = self.vault.snapshot(part.snapshot).map_err(|e| self.fails(e))?;
        let start = snapshot.paths.first().map_or(Vec::new(), |path| path.clone().into_bytes());
        Ok((snapshot.tree, start))
    }

    /// The entry at a path; `None` inside is the root.
    fn entry_at(&self, index: &Index, tree: Id, path: &[u8]) -> Result<Option<Node>> {
        let found = repository::look_up(&self.vault, index, tree, path).map_err(|e| self.fails(e))?;
        found.ok_or_else(|| {
            let message = format!("Backup '{}' has no '{}'.", self.entry.name, path.escape_ascii());
            Error::new(ErrorKind::ParameterInvalid, message)
        })
    }

    fn list(&self, component: &str, path: Option<&[u8]>, (skip, count): (u64, usize)) -> Result<FileListing> {
        let (tree, start) = self.snapshot(component)?;
        let path = clean(path.unwrap_or(&start));
        self.look(|index| {
            let at = self.entry_at(index, tree, &path)?;
            let directory = match &at {
                None => tree,
                Some(Node { kind: NodeKind::Dir, subtree: Some(subtree), .. }) => *subtree,
                Some(_) => {
                    let message = format!("'{}' is no directory.", path.escape_ascii());
                    return Err(Error::new(ErrorKind::ParameterInvalid, message));
                }
            };
            let (mut entries, mut total) = (Vec::new(), 0_u64);
            repository::visit_directory(&self.vault, index, directory, &mut |node| {
                if total >= skip && entries.len() < count {
                    entries.push(FileEntry::of(node));
                }
                total += 1;
                Ok(())
            })
            .map_err(|e| self.fails(e))?;
            Ok(FileListing { path: path.clone(), entries, total })
        })
    }

    fn open_file(self: &Arc<Self>, component: &str, path: &[u8]) -> Result<OpenedFile> {
        let ((tree, _), path) = (self.snapshot(component)?, clean(path));
        self.look(|index| {
            let node = self.entry_at(index, tree, &path)?.filter(|node| node.kind == NodeKind::File);
            let node = node.ok_or_else(|| {
                let message = format!("'{}' is no file.", path.escape_ascii());
                Error::new(ErrorKind::ParameterInvalid, message)
            })?;
            let size = OpenFile::new(index, &node).map_err(|e| self.fails(e))?.size();
            Ok(OpenedFile { opened: self.clone(), index: self.index()?, node, size })
        })
    }
}

/// Without doubled slashes, and without one at the end.
fn clean(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
    parts.flat_map(|part| std::iter::once(b'/').chain(part.iter().copied())).collect()
}

/// What an entry of a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file, whose content can be read.
    File,
    /// A directory, which can be listed.
    Directory,
    /// A symbolic link.
    Link,
    /// A device, pipe or socket.
    Other,
}

/// One entry of a directory in a backup.
#[derive(Clone, Debug)]
pub struct FileEntry {
    /// Raw bytes of the name: anything but `/` and NUL.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Bytes of a file's content.
    pub size: u64,
    /// Time of last change of the content.
    pub modified: i64,
    /// Where a symbolic link leads; raw bytes.
    pub link_target: Option<Vec<u8>>,
}

impl FileEntry {
    fn of(node: Node) -> Self {
        let nanoseconds = i64::from(node.mtime.nanoseconds);
        Self {
            kind: match node.kind {
                NodeKind::File => EntryKind::File,
                NodeKind::Dir => EntryKind::Directory,
                NodeKind::Symlink => EntryKind::Link,
                _ => EntryKind::Other,
            },
            size: node.size,
            modified: node.mtime.seconds.saturating_mul(1000).saturating_add(nanoseconds / 1_000_000),
            name: node.name,
            link_target: node.link_target,
        }
    }
}

/// A part of a directory.
#[derive(Clone, Debug)]
pub struct FileListing {
    /// The directory's path in the backup, beginning with a slash; empty for its root. Raw bytes.
    pub path: Vec<u8>,
    /// Its entries by name, those that were asked for.
    pub entries: Vec<FileEntry>,
    /// How many it has in all.
    pub total: u64,
}

/// A file of an open backup. It stays readable while the backup is closed elsewhere.
pub struct OpenedFile {
    opened: Arc<Opened>,
    index: Arc<Index>,
    node: Node,
    size: u64,
}

impl std::fmt::Debug for OpenedFile {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OpenedFile").field("size", &self.size).finish_non_exhaustive()
    }
}

impl OpenedFile {
    /// Raw bytes of its name.
    pub fn name(&self) -> &[u8] {
        &self.node.name
    }

    /// So many bytes will be written, unless something is damaged.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes the content; blocks. Each chunk was hashed before it is written.
    pub fn write_to(&self, out: &mut dyn Write) -> Result<()> {
        let Opened { vault, is_stale, .. } = &*self.opened;
        let written = repository::dump_file(vault, &self.index, &self.node, &Control::new(), out);
        written.map_err(|error| {
            let error = self.opened.fails(error);
            is_stale.fetch_or(error.kind == ErrorKind::Damaged, Ordering::SeqCst);
            error
        })
    }
}

impl Inner {
    pub async fn open_files(
        &self,
        session: &str,
        user: &str,
        store: &str,
        name: &str,
        passcode: Passcode,
    ) -> Result<()> {
        check_passcode(&passcode)?;
        let row = self.store_row(store).await?;
        let view = self.backup(&row.name, name).await?;
        if !view.is_complete() {
            let message = format!("Backup '{}' cannot be opened: its status is {}.", view.name, view.status);
            return Err(Error::new(ErrorKind::NotRestorable, message));
        }
        let (opened, name) = (self.open_store(&row).await?, view.name.clone());
        let turn = self.passcode_turns.acquire().await;
        let made = blocking(move || {
            let entry = opened.backup(&name)?.ok_or_else(|| {
                Error::new(ErrorKind::BackupNotFound, format!("There is no backup '{name}' any more."))
            })?;
            if entry.format_version > FORMAT_VERSION {
                let message = format!("Backup '{name}' has a newer format: look at it with a newer release.");
                return Err(Error::new(ErrorKind::Incompatible, message));
            }
            let vault = opened.open_vault(&entry, &passcode)?;
            Opened::new(vault, entry)
        })
        .await;
        drop(turn);
        match made {
            Ok(opened) => self.browsing.kept.insert(session, user, (&row.name, &view.name), opened),
            Err(error) => Err(self.wrong_passcodes.note(&format!("{}/{}", row.name, view.name), error).await),
        }
    }

    /// What is open in this session of this backup.
    pub fn opened(&self, session: &str, store: &str, name: &str) -> Option<Arc<Opened>> {
        self.browsing.kept.get(session, (&normal(store), &normal(name)))
    }

    pub fn close_files(&self, session: &str, store: &str, name: &str) {
        let (session, place) = (kept::session_key(session), (normal(store), normal(name)));
        self.browsing.kept.remove_if(|owner, there| owner.session == session && *there == place);
    }

    pub async fn list_files(
        &self,
        session: &str,
        (store, name): (&str, &str),
        component: &str,
        path: Option<&[u8]>,
        part: (u64, usize),
    ) -> Result<Option<FileListing>> {
        let Some(opened) = self.opened(session, store, name) else { return Ok(None) };
        let (component, path) = (component.to_owned(), path.map(<[u8]>::to_vec));
        check_path(path.as_deref().unwrap_or_default())?;
        let _turn = self.browsing.looks.acquire().await;
        blocking(move || opened.list(&component, path.as_deref(), part).map(Some)).await
    }

    pub async fn open_file(
        &self,
        session: &str,
        (store, name): (&str, &str),
        component: &str,
        path: &[u8],
    ) -> Result<Option<OpenedFile>> {
        let Some(opened) = self.opened(session, store, name) else { return Ok(None) };
        check_path(path)?;
        let (component, path) = (component.to_owned(), path.to_vec());
        let _turn = self.browsing.looks.acquire().await;
        blocking(move || opened.open_file(&component, &path).map(Some)).await
    }
}

fn check_path(path: &[u8]) -> Result<()> {
    if path.len() <= PATH_BYTES_MAX {
        return Ok(());
    }
    let message = format!("A path has at most {PATH_BYTES_MAX} bytes.");
    Err(Error::new(ErrorKind::ParameterInvalid, message))
}
