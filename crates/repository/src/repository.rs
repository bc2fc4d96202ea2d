//! An open repository: storage, keys and configuration, and the small reads and writes that all verbs share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::Sha256;
use storage::{ErrorKind as StorageKind, Shared};
use zeroize::Zeroizing;

use crate::Control;
use crate::cached::Cached;
use crate::compress::Zstd;
use crate::config::{CONFIG, Config};
use crate::file::{self, Folder};
use crate::index::Place;
use crate::lock::{self, Held, Lock, LockKind, LockOwner, LockWait};
use crate::pack::{BlobKind, pack_key};
use crate::seal::{OVERHEAD, SealKey};
use crate::{Cost, Error, ErrorKind, Id, Index, Node, Passcode, Result, Snapshot, Warning, key, tree};

/// Key files and config are this long at most.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;
/// So many key files are tried with a passcode, as each costs time and memory.
pub(crate) const KEYS_TRIED_MAX: usize = 20;
/// A blob may claim so many bytes at most; chunks have up to 8 MiB, listings of huge directories a few hundred.
pub(crate) const BLOB_BYTES_MAX: u32 = 1 << 30;

#[derive(Clone)]
struct Inner {
    storage: Shared,
    key: SealKey,
    /// The key file that opened it.
    key_file: Id,
    config: Config,
    /// Where large indexes are kept for the next time.
    cache: Option<PathBuf>,
    /// Whether a lock that another holds is waited for.
    lock_wait: Option<LockWait>,
    /// Snapshots come and go under this lock alone.
    lock: Option<Arc<Held>>,
}

/// Snapshots with their ids.
pub type Snapshots = Vec<(Id, Snapshot)>;

/// An open repository; cheap to clone.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("storage", &self.0.storage).field("id", &self.0.config.id).finish()
    }
}

impl Repository {
    /// Makes a new repository: a key file, then `config`, whose creation is the commit. `Exists` if there is one.
    pub fn init(storage: Shared, passcode: &Passcode, cost: Cost) -> Result<Self> {
        let exists = || {
            let place = storage.location();
            Error::new(ErrorKind::Exists, format!("there is a repository already at {place}"))
        };
        if storage.head(CONFIG)?.is_some() {
            return Err(exists());
        }
        let key = SealKey::random();
        let key_file = key::make_key_file(&key, passcode, cost)?;
        let key_file_id = Id::of(&key_file);
        storage.create(&Folder::Keys.key(key_file_id), &[&key_file])?;
        let config = Config::new();
        let text = serde_json::to_vec(&config).map_err(|e| Error::new(ErrorKind::Invalid, e.to_string()))?;
        storage.create(CONFIG, &[&key.seal(&text)]).map_err(|e| match e.kind {
            StorageKind::Exists => exists(),
            _ => e.into(),
        })?;
        Ok(Self::assemble(storage, key, key_file_id, config))
    }

    /// Opens a repository. `NoRepository`, `WrongPasscode`, `UnsupportedVersion` or `Damaged`.
    pub fn open(storage: Shared, passcode: &Passcode) -> Result<Self> {
        let sealed = storage.get(CONFIG, SMALL_FILE_BYTES_MAX).map_err(|e| match e.kind {
            StorageKind::NotFound => {
                let place = storage.location();
                Error::new(
                    ErrorKind::NoRepository,
                    format!("there is no repository at {place}: it has no 'config'"),
                )
            }
            _ => e.into(),
        })?;
        let mut failure = Error::damaged("keys/", "there is no key file");
        let keys = file::list(&storage, Folder::Keys)?;
        let mut tried = 0;
        for (id, _) in keys.iter().copied().take(KEYS_TRIED_MAX) {
            tried += 1;
            match Self::open_with_key(&storage, id, &sealed, passcode) {
                Ok((key, config)) => {
                    return Ok(Self::assemble(storage, key, id, config));
                }
                // A wrong passcode must not hide that another key file, perhaps the right one, is damaged.
                Err(e) if tried == 1 || e.kind != ErrorKind::WrongPasscode => failure = e,
                Err(_) => {}
            }
        }
        if failure.kind == ErrorKind::WrongPasscode {
            failure.message =
                format!("wrong passcode for {}: it opens none of the {tried} key files", storage.location());
        }
        if keys.len() > tried {
            failure.message += &format!(
                "; the other {} were not tried, as there are more than {KEYS_TRIED_MAX}: open it with another passcode and remove key files that nobody uses",
                keys.len() - tried
            );
        }
        Err(failure)
    }

    fn assemble(storage: Shared, key: SealKey, key_file: Id, config: Config) -> Self {
        Self(Arc::new(Inner { storage, key, key_file, config, cache: None, lock_wait: None, lock: None }))
    }

    fn open_with_key(
        storage: &Shared,
        id: Id,
        config: &[u8],
        passcode: &Passcode,
    ) -> Result<(SealKey, Config)> {
        let name = Folder::Keys.key(id);
        let body = file::read_raw(storage, Folder::Keys, id)?;
        let key = key::open_key_file(&name, &body, passcode)?;
        let text = key.open(config).map_err(|_| {
            Error::damaged(CONFIG, format!("its seal does not open with the master key in {name}"))
        })?;
        Ok((key, Config::parse(&text)?))
    }

    /// The repository's id: 64 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.0.config.id
    }

    /// The format's version, 1 or 2.
    pub fn version(&self) -> u32 {
        self.0.config.version
    }

    /// Where it lies.
    pub fn storage(&self) -> &Shared {
        &self.0.storage
    }

    /// The same repository behind another storage (guarded, faulty).
    pub fn with_storage(&self, storage: Shared) -> Self {
        Self(Arc::new(Inner { storage, ..Inner::clone(&self.0) }))
    }

    /// The same repository, with a directory for what need not be read again the next time. It is made if need be,
    /// holds nothing in the clear, and may be deleted at any time. Small repositories put nothing there.
    pub fn with_cache(&self, dir: &Path) -> Self {
        Self(Arc::new(Inner { cache: Some(dir.to_owned()), ..Inner::clone(&self.0) }))
    }

    /// The same repository for whoever only looks: copies of index files, snapshots and packs of trees are kept below
    /// `dir`, sealed as they are, so that the next look need not fetch them. They may be deleted at any time. Not for
    /// work that must see damage or that removes something.
    pub fn with_copies(&self, dir: &Path) -> Result<Self> {
        let name = hex::encode(&self.derive_key("strongroom copies of metadata v1: name")[..16]);
        let cached = Cached::new(self.storage().clone(), &dir.join(format!("{name}.copies")))?;
        Ok(self.with_storage(Arc::new(cached)))
    }

    /// The same repository, whose locks are waited for while another holds them. Without this they are not.
    pub fn with_lock_wait(&self, wait: LockWait) -> Self {
        Self(Arc::new(Inner { lock_wait: Some(wait), ..Inner::clone(&self.0) }))
    }

    pub(crate) fn lock_wait(&self) -> Option<&LockWait> {
        self.0.lock_wait.as_ref()
    }

    pub(crate) fn cache(&self) -> Option<&Path> {
        self.0.cache.as_deref()
    }

    /// The key file that opened it.
    pub(crate) fn key_file(&self) -> Id {
        self.0.key_file
    }

    pub(crate) fn key(&self) -> &SealKey {
        &self.0.key
    }

    /// HMAC-SHA256 of `purpose` under the master key: a key for another use, like the catalogue's MAC.
    pub fn derive_key(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let mut secret = Zeroizing::new([0u8; 64]);
        secret[..32].copy_from_slice(&self.0.key.encrypt);
        secret[32..48].copy_from_slice(&self.0.key.k);
        secret[48..].copy_from_slice(&self.0.key.r);
        let mac = Hmac::<Sha256>::new(&(*secret).into()).chain_update(purpose.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }

    /// Takes a restic-compatible lock. `Locked` names who holds a conflicting one, `Cancelled` ends the waiting for it.
    pub fn lock(&self, kind: LockKind, owner: &LockOwner) -> Result<Lock> {
        Lock::acquire(self, kind, owner)
    }

    /// The same repository for work under a lock: it writes and removes no snapshot once the lock is lost.
    pub fn under(&self, lock: &Lock) -> Self {
        Self(Arc::new(Inner { lock: Some(lock.held()), ..Inner::clone(&self.0) }))
    }

    /// `LockLost` if this is used under a lock that is not held any more.
    pub(crate) fn check_lock(&self) -> Result<()> {
        self.0.lock.as_ref().map_or(Ok(()), |held| held.check())
    }

    /// Removes stale locks; returns how many. Of a lock whose host name `is_here` takes for one of this machine it is
    /// asked whether its process lives: that it does not is enough.
    pub fn unlock(&self, is_here: &dyn Fn(&str) -> bool) -> Result<u64> {
        lock::remove_stale(self, is_here)
    }

    /// Removes all locks, whoever holds them; returns how many.
    pub fn remove_all_locks(&self) -> Result<u64> {
        lock::remove_all(self)
    }

    /// Removes the locks that a dead process of this host name left. Only for whoever knows that it is dead.
    pub fn break_locks_of(&self, hostname: &str) -> Result<u64> {
        lock::remove_of(self, hostname)
    }

    /// All snapshots, oldest first; those that cannot be read are named in the second list.
    pub fn snapshots(&self) -> Result<(Snapshots, Vec<Warning>)> {
        let (mut snapshots, mut damaged) = (Vec::new(), Vec::new());
        for (id, _) in file::list(self.storage(), Folder::Snapshots)? {
            match self.snapshot(id) {
                Ok(snapshot) => snapshots.push((id, snapshot)),
                Err(e) if e.kind == ErrorKind::Damaged => {
                    damaged.push(Warning { item: Folder::Snapshots.key(id), reason: e.message });
                }
                Err(e) => return Err(e),
            }
        }
        snapshots.sort_by_key(|(id, snapshot)| (crate::time::Time::parse(&snapshot.time), *id));
        Ok((snapshots, damaged))
    }

    /// One snapshot.
    pub fn snapshot(&self, id: Id) -> Result<Snapshot> {
        let text = file::read_text(self.storage(), self.key(), Folder::Snapshots, id)?;
        serde_json::from_slice(&text).map_err(|e| Error::damaged(Folder::Snapshots.key(id), e))
    }

    /// A snapshot by id, by a prefix that fits one alone, or `latest`.
    pub fn find_snapshot(&self, text: &str) -> Result<(Id, Snapshot)> {
        let none =
            || Error::new(ErrorKind::NotFound, format!("there is no snapshot '{}'", text.escape_debug()));
        if text == "latest" {
            let (mut snapshots, damaged) = self.snapshots()?;
            let damaged = damaged.into_iter().next().map(|w| Error::new(ErrorKind::Damaged, w.reason));
            return snapshots.pop().ok_or_else(|| damaged.unwrap_or_else(none));
        }
        let ids = file::list(self.storage(), Folder::Snapshots)?;
        let mut fitting = ids.iter().filter(|(id, _)| !text.is_empty() && id.to_string().starts_with(text));
        let (id, _) = fitting.next().ok_or_else(none)?;
        if fitting.next().is_some() {
            let message = format!("several snapshots start with '{text}'; give more digits");
            return Err(Error::new(ErrorKind::Ambiguous, message));
        }
        Ok((*id, self.snapshot(*id)?))
    }

    pub(crate) fn save_snapshot(&self, snapshot: &impl Serialize) -> Result<Id> {
        self.check_lock()?;
        file::write_json(self, Folder::Snapshots, snapshot)
    }

    /// Refuses to remove anything from a repository that is marked append-only (by rustic).
    pub(crate) fn check_removal(&self) -> Result<()> {
        if self.0.config.append_only == Some(true) {
            return Err(Error::new(
                ErrorKind::Denied,
                "the repository is marked append-only: nothing may be removed",
            ));
        }
        Ok(())
    }

    /// Removes a snapshot; its data stays until a prune.
    pub fn delete_snapshot(&self, id: Id) -> Result<()> {
        self.check_removal()?;
        self.check_lock()?;
        Ok(self.storage().delete(&Folder::Snapshots.key(id))?)
    }

    /// Reads all index files. Packs that `usable` refuses can be read from, but a new backup does not refer to them.
    pub fn load_index(&self, usable: &dyn Fn(Id) -> bool) -> Result<Index> {
        Index::load(self, usable)
    }

    /// Reads all index files for whoever is about to add to the repository: what lies in a pack that is gone, or was cut
    /// short, counts as unknown and is stored again. Such packs are named as warnings.
    pub fn load_index_to_add(&self, control: &Control) -> Result<Index> {
        let mut index = Index::load(self, &|_| true)?;
        let sizes = self.list_packs()?; // after the index: what that names was there before
        for pack in index.refuse_packs(|id, size| sizes.get(id).is_some_and(|there| *there >= size)) {
            let how = if sizes.contains_key(&pack) { "too short" } else { "missing" };
            let reason = format!(
                "this pack is {how}: what is still there to be read is stored again; `check` tells what else is damaged"
            );
            control.warn(pack_key(pack), reason);
        }
        Ok(index)
    }

    /// Reads the index files that can be read, for restoring from a damaged repository; names the others.
    pub fn load_readable_index(&self) -> Result<(Index, Vec<Warning>)> {
        let (index, damaged) = Index::load_lenient(self)?;
        let warning = |(id, e): (Id, Error)| Warning { item: Folder::Index.key(id), reason: e.message };
        Ok((index, damaged.into_iter().map(warning).collect()))
    }

    /// The size of each pack, by listing.
    pub fn list_packs(&self) -> Result<HashMap<Id, u64>> {
        let mut packs = HashMap::new();
        self.storage().list("data/", &mut |entry| {
            if let Some(Ok(id)) = entry.key.rsplit('/').next().map(str::parse) {
                packs.insert(id, entry.size);
            }
            Ok(())
        })?;
        Ok(packs)
    }

    /// A blob's plaintext, from the first copy that is whole.
    pub(crate) fn read_blob(
        &self,
        index: &Index,
        kind: BlobKind,
        id: Id,
        opener: &mut Opener,
    ) -> Result<Vec<u8>> {
        let mut failure = None;
        for place in index.places(kind, &id)? {
            match self.read_place(index, kind, &place, id, opener) {
                Ok(plain) => return Ok(plain),
                Err(e) if matches!(e.kind, ErrorKind::Cancelled | ErrorKind::Forbidden) => return Err(e),
                // A copy that could not be asked for may be whole: nobody may take the blob for lost.
                Err(e) if e.kind == ErrorKind::Damaged => drop(failure.get_or_insert(e)),
                Err(e) => failure = Some(e),
            }
        }
        Err(failure.unwrap_or_else(|| {
            let word = if kind == BlobKind::Tree { "tree" } else { "data" };
            Error::damaged(format!("{word} blob {id}"), "no index knows it; it is missing")
        }))
    }

    fn read_place(
        &self,
        index: &Index,
        kind: BlobKind,
        place: &Place,
        id: Id,
        opener: &mut Opener,
    ) -> Result<Vec<u8>> {
        let key = pack_key(index.pack_id(place.pack));
        let range = u64::from(place.offset)..u64::from(place.offset) + u64::from(place.length);
        let mut open = |sealed: storage::Result<Vec<u8>>| -> Result<Vec<u8>> {
            let sealed = sealed.map_err(|e| match e.kind {
                StorageKind::NotFound => Error::damaged(&key, "the file is missing"),
                StorageKind::Short => Error::damaged(&key, "it is shorter than the index says"),
                _ => e.into(),
            })?;
            let mut plain = Vec::new();
            opener.open(self.key(), &sealed, place.uncompressed, id, &mut plain).map_err(|problem| {
                Error::damaged(&key, format!("blob {id} at byte {}: {problem}", place.offset))
            })?;
            Ok(plain)
        };
        if kind == BlobKind::Tree {
            match open(self.storage().get_metadata_range(&key, range.clone())) {
                // Perhaps a local copy went bad after it had been compared: the store itself decides.
                Err(e) if e.kind == ErrorKind::Damaged => {}
                other => return other,
            }
        }
        open(self.storage().get_range(&key, range))
    }

    /// A directory's entries.
    pub(crate) fn read_tree(&self, index: &Index, id: Id, opener: &mut Opener) -> Result<Vec<Node>> {
        tree::parse(id, &self.read_blob(index, BlobKind::Tree, id, opener)?)
    }
}

/// What one thread needs to open blobs, reused from blob to blob.
pub(crate) struct Opener {
    zstd: Zstd,
    frame: Vec<u8>,
}

impl Opener {
    pub(crate) fn new() -> Result<Self> {
        let zstd = Zstd::new()
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot prepare decompression: {e}")))?;
        Ok(Self { zstd, frame: Vec::new() })
    }

    /// Opens, decompresses and hashes a stored blob; `plain` is right only if this succeeds.
    pub(crate) fn open(
        &mut self,
        key: &SealKey,
        sealed: &[u8],
        uncompressed: Option<u32>,
        id: Id,
        plain: &mut Vec<u8>,
    ) -> Result<(), String> {
        self.unseal(key, sealed, uncompressed, plain)?;
        if Id::of(plain) == id { Ok(()) } else { Err("its content does not fit its id".to_owned()) }
    }

    /// The same without hashing, for whoever compares the content in another way.
    pub(crate) fn unseal(
        &mut self,
        key: &SealKey,
        sealed: &[u8],
        uncompressed: Option<u32>,
        plain: &mut Vec<u8>,
    ) -> Result<(), String> {
        let broken = |_| "its seal is broken".to_owned();
        match uncompressed {
            None => key.open_into(sealed, plain).map_err(broken),
            Some(length) if length > BLOB_BYTES_MAX || sealed.len() < OVERHEAD => {
                Err(format!("its length of {length} bytes is impossible"))
            }
            Some(length) => {
                key.open_into(sealed, &mut self.frame).map_err(broken)?;
                self.zstd
                    .decompress(&self.frame, length as usize, plain)
                    .map_err(|e| format!("it does not decompress: {e}"))
            }
        }
    }
}
