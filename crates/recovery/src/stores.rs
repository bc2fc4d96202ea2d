//! Registered stores: where they may lie, registering, looking, forgetting.
//!
//! A store's directory is found again by the canonical path in its row, its bucket by connection and credential
//! ([`buckets`]), and either is opened anew for each use: one small file is read, and a disk that is no longer mounted is
//! noticed at once instead of looking like an empty store.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Component as Part, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use storage::{Directory, DirectoryOptions, ObjectPlace, ObjectStorage};

use crate::buckets::{self, BucketConnection};
use crate::clock::now_ms;
use crate::jobs::SubmitJob;
use crate::names::{Named, check_name, name_key, normal};
use crate::recovery::{Inner, blocking};
use crate::state::{DeleteStore, JobRow, LANE_SIDE, StoreRow};
use crate::store::Store;
use crate::store::cache::CatalogueCache;
use crate::{
    Caller, Credentials, Error, ErrorKind, Kind, Passcode, RegisterStore, Result, Settings, StoreDetail,
    StorePlace, StoreView, Validation,
};

/// A validation answers within this time, whatever the store does.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(25);

/// `storageConfig` is kept as it came and shown in lists.
const CONFIG_BYTES_MAX: usize = 64 * 1024;

/// One lock per store: deletions in it and forgetting it happen one after another.
#[derive(Debug, Default)]
pub(crate) struct Gates(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Gates {
    /// The lock of a registered store.
    pub fn of(&self, store: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut gates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        gates.entry(store.to_owned()).or_default().clone()
    }
}

/// A registration whose parameters have passed.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    name: String,
    kind: String,
    place: Place,
    storage_config: serde_json::Value,
    default: bool,
}

/// Where a store lies.
#[derive(Clone, Debug)]
enum Place {
    Directory(PathBuf),
    Bucket(Box<ObjectPlace>),
}

impl Place {
    /// What tells places apart: a directory's path or a bucket's URL. What lies inside another begins with it.
    fn root(&self) -> PathBuf {
        match self {
            Self::Directory(root) => root.clone(),
            Self::Bucket(place) => place.to_string().into(),
        }
    }
}

impl Inner {
    pub async fn stores(&self) -> Result<Vec<StoreView>> {
        Ok(self.state.stores().await?.iter().map(StoreRow::view).collect())
    }

    pub async fn default_store(&self) -> Result<Option<String>> {
        Ok(self.state.stores().await?.into_iter().find(|store| store.default).map(|store| store.name))
    }

    /// The row of a registered store, or `StoreNotFound`.
    pub async fn store_row(&self, name: &str) -> Result<StoreRow> {
        let name = normal(name);
        let row = self.state.store(&name).await?;
        row.ok_or_else(|| Error::new(ErrorKind::StoreNotFound, format!("There is no backup store '{name}'.")))
    }

    /// The store itself, or `StoreUnreachable`.
    pub async fn open_store(&self, row: &StoreRow) -> Result<Store> {
        let (row, place) = (row.clone(), self.place_of(row)?);
        blocking(move || open(&row, &place)).await
    }

    /// Where a registered store lies.
    fn place_of(&self, row: &StoreRow) -> Result<Place> {
        match (&row.connection, &row.credential) {
            (None, _) => Ok(Place::Directory(PathBuf::from(&row.root_dir))),
            (Some(connection), credential) => {
                let sealed = credential.as_deref().unwrap_or_default();
                let place = buckets::open(&self.key, &row.name, connection, sealed)?;
                Ok(self.held_to_rule(Place::Bucket(place.into())))
            }
        }
    }

    /// The same place; connections go only where the configuration lets them.
    fn held_to_rule(&self, place: Place) -> Place {
        match place {
            Place::Bucket(mut bucket) => {
                bucket.options.addresses = Some(Arc::clone(&self.settings.store_addresses));
                Place::Bucket(bucket)
            }
            directory => directory,
        }
    }

    /// The same for a backup or restore. What is protected may have been configured anew since the registration; a restore
    /// would exchange a store inside of it with the rest, and remove it.
    pub async fn open_store_apart(&self, row: &StoreRow) -> Result<Store> {
        let (row, settings, place) = (row.clone(), self.settings.clone(), self.place_of(row)?);
        blocking(move || match protected_around(&place.root(), &settings) {
            None => open(&row, &place),
            Some((name, protected)) => {
                let message = format!(
                    "Store '{}' at {} and the protected place {} of component '{name}' lie inside each other; move \
                     one of the two, and register the store anew.",
                    row.name,
                    place.root().display(),
                    protected.display()
                );
                Err(Error::new(ErrorKind::Incompatible, message))
            }
        })
        .await
    }

    pub async fn store(&self, name: &str) -> Result<StoreDetail> {
        let row = self.store_row(name).await?;
        let store = self.open_store(&row).await?;
        let cache = self.caches.of(&row.name, &row.identity);
        let look = self.look_at_catalogue(&row, &store).await?;
        let (backup_count, bytes_stored, free_bytes) = blocking(move || {
            let free = store.storage().free_space().unwrap_or(None);
            Ok((look.backups.len() as u64, store.bytes_stored(&cache, &look)?, free))
        })
        .await?;
        let last_validated = row.validated_at;
        Ok(StoreDetail { store: row.view(), backup_count, bytes_stored, last_validated, free_bytes })
    }

    pub async fn register_store(&self, request: RegisterStore) -> Result<StoreView> {
        self.refuse_while_read_only().await?;
        let registration = self.check_registration(request).await?;
        self.register(registration).await
    }

    pub async fn register_store_as_job(&self, request: RegisterStore, caller: Caller) -> Result<String> {
        self.refuse_while_read_only().await?;
        let registration = self.check_registration(request).await?;
        self.refuse_taken(&registration).await?;
        let (parameters, credential) = as_job(&registration)?;
        let job = SubmitJob {
            operation: "Register",
            lane: LANE_SIDE,
            store: &registration.name,
            parameters,
            passcode: credential.as_ref(),
            ..SubmitJob::default()
        };
        let key = name_key(&registration.name);
        self.submit(job, caller, move |active| {
            match active.iter().find(|job| job.operation == "Register" && name_key(&job.store) == key) {
                Some(job) => Err(store_exists(&job.store).detail(format!("jobid={}", job.id))),
                None => Ok(()),
            }
        })
        .await
    }

    /// Parameters alone: name, type, place.
    async fn check_registration(&self, request: RegisterStore) -> Result<Registration> {
        let name = check_name(Named::Store, &request.name)?;
        if request.storage_config.to_string().len() > CONFIG_BYTES_MAX {
            let message = format!("'storageConfig' is longer than {CONFIG_BYTES_MAX} bytes.");
            return Err(Error::new(ErrorKind::ParameterInvalid, message));
        }
        let (settings, for_name) = (self.settings.clone(), name.clone());
        let kind = request.place.kind().to_owned();
        let RegisterStore { place, storage_config, default, .. } = request;
        let place = blocking(move || match place {
            StorePlace::Hosted => Ok(Place::Directory(hosted_root(&for_name, &settings)?)),
            StorePlace::Directory(root) => Ok(Place::Directory(allowed_root(&root, &settings)?)),
            StorePlace::Bucket(place) => {
                let place = Place::Bucket(place);
                refuse_protected(&place.root(), &settings)?;
                Ok(place)
            }
        })
        .await?;
        Ok(Registration { name, kind, place, storage_config, default })
    }

    /// Conflicts of name and place.
    async fn refuse_taken(&self, wanted: &Registration) -> Result<()> {
        let (key, root) = (name_key(&wanted.name), wanted.place.root());
        for store in self.state.stores().await? {
            if store.name_key == key {
                return Err(store_exists(&store.name));
            }
            let there = Path::new(&store.root_dir);
            if root.starts_with(there) || there.starts_with(&root) {
                let message = format!(
                    "{} is the place of store '{}', or lies inside it or around it.",
                    root.display(),
                    store.name
                );
                return Err(Error::new(ErrorKind::LocationInUse, message));
            }
        }
        Ok(())
    }

    /// Makes or adopts the store at the place and keeps it. Nothing is registered unless all of it succeeds.
    pub async fn register(&self, wanted: Registration) -> Result<StoreView> {
        let _one = self.registration.lock().await;
        self.refuse_taken(&wanted).await?;
        let (place, name) = (self.held_to_rule(wanted.place.clone()), wanted.name.clone());
        let (cost, server_id) = (self.settings.cost, self.server_id.clone());
        let (store, adopted) = blocking(move || make(&place, &name, cost, &server_id)).await?;
        let (connection, credential) = match &wanted.place {
            Place::Directory(_) => (None, None),
            Place::Bucket(place) => (
                Some(BucketConnection::of(place)),
                Some(buckets::seal(&self.key, &wanted.name, &place.options.credentials)?),
            ),
        };
        let row = StoreRow {
            name_key: name_key(&wanted.name),
            name: wanted.name,
            kind: wanted.kind,
            root_dir: wanted.place.root().display().to_string(),
            connection,
            credential,
            storage_config: wanted.storage_config,
            default: wanted.default,
            identity: store.identity().id.clone(),
            created_at: now_ms(),
            validated_at: now_ms(),
        };
        if !self.state.insert_store(&row).await? {
            return Err(store_exists(&row.name));
        }
        tracing::info!(store = %row.name, place = %row.root_dir, adopted, "store registered");
        Ok(row.view())
    }

    pub async fn update_store(&self, name: &str, default: bool) -> Result<()> {
        self.refuse_while_read_only().await?;
        let row = self.store_row(name).await?;
        self.state.set_default(&row.name, default).await?;
        Ok(())
    }

    /// Takes another credential for a bucket, once it has opened the store.
    pub async fn renew_credential(&self, name: &str, credentials: Credentials) -> Result<()> {
        self.refuse_while_read_only().await?;
        let row = self.store_row(name).await?;
        let Place::Bucket(mut bucket) = self.place_of(&row)? else {
            let message = format!("Store '{}' has no credential: it is a directory.", row.name);
            return Err(Error::new(ErrorKind::NotSupported, message));
        };
        bucket.options.credentials = credentials;
        let sealed = buckets::seal(&self.key, &row.name, &bucket.options.credentials)?;
        let (connection, name) = (BucketConnection::of(&bucket), row.name.clone());
        blocking(move || {
            let store = open(&row, &Place::Bucket(bucket))?;
            match store.probe().into_iter().next() {
                None => Ok(()),
                Some(obstacle) => Err(Error::new(ErrorKind::StoreUnreachable, obstacle)),
            }
        })
        .await?;
        self.state.set_credential(&name, &connection, &sealed).await
    }

    pub async fn validate_store(&self, name: &str) -> Result<Validation> {
        let row = self.store_row(name).await?;
        let (looked, place) = (row.clone(), self.place_of(&row)?);
        let cache = self.caches.of(&row.name, &row.identity);
        let look = blocking(move || {
            let store = open(&looked, &place)?;
            let mut details = store.probe();
            details.extend(room_missing(&store, &cache, &looked.name)?);
            Ok(details)
        });
        let details = match tokio::time::timeout(VALIDATION_TIMEOUT, look).await {
            Ok(Ok(details)) => details,
            Ok(Err(error)) => vec![error.message],
            Err(_) => {
                vec![format!("{} did not answer within {} s.", row.root_dir, VALIDATION_TIMEOUT.as_secs())]
            }
        };
        if details.is_empty() {
            self.state.set_validated(&row.name, now_ms()).await?;
        }
        Ok(Validation { ready: details.is_empty(), details })
    }

    pub async fn unregister_store(&self, name: &str, pause_tasks: bool) -> Result<()> {
        self.refuse_while_read_only().await?;
        let row = self.store_row(name).await?;
        let gate = self.gates.of(&row.name);
        let Ok(_alone) = gate.try_lock() else {
            let message =
                format!("Backups are being deleted from store '{}'; try again when that is done.", row.name);
            return Err(Error::new(ErrorKind::StoreInUse, message));
        };
        let in_use = |job: String| {
            let message = format!("Store '{}' is used by a running job.", row.name);
            Error::new(ErrorKind::StoreInUse, message).detail(format!("jobid={job}"))
        };
        // Before a schedule is paused for nothing.
        if let Some(job) = self.state.active_jobs().await?.into_iter().find(|job| job.store == row.name) {
            return Err(in_use(job.id));
        }
        for task in self.tasks_on_store(&row.name).await? {
            if !pause_tasks {
                let message = format!(
                    "Store '{}' is used by a schedule; disable or delete that first, or send force=true to pause it.",
                    row.name
                );
                let mut error = Error::new(ErrorKind::StoreInUse, message);
                let tasks = self.tasks_on_store(&row.name).await?;
                error.details = tasks.into_iter().map(|task| task.title).collect();
                return Err(error);
            }
            self.enable_task(&task.id, false).await?;
        }
        match self.state.delete_store(&row.name).await? {
            DeleteStore::Done => {
                self.caches.forget(&row.name);
                tracing::info!(store = %row.name, place = %row.root_dir, "store unregistered; its backups stay");
                Ok(())
            }
            DeleteStore::Unknown => {
                Err(Error::new(ErrorKind::StoreNotFound, format!("There is no backup store '{}'.", row.name)))
            }
            DeleteStore::InUse(job) => Err(in_use(job)),
        }
    }
}

fn store_exists(name: &str) -> Error {
    Error::new(ErrorKind::StoreExists, format!("There is a backup store '{name}' already."))
}

/// Opens the registered store and makes sure that it is still the one that was registered.
fn open(row: &StoreRow, place: &Place) -> Result<Store> {
    let unreachable = |e| store_error(&row.name, e);
    let storage: storage::Shared = match place {
        Place::Directory(root) => {
            Arc::new(Directory::open(root, DirectoryOptions::default()).map_err(unreachable)?)
        }
        Place::Bucket(place) => Arc::new(ObjectStorage::open(place).map_err(unreachable)?),
    };
    let store = Store::open(storage)?;
    if store.identity().id != row.identity {
        let message = format!(
            "Store '{}': another store ({}) than the registered one ({}) lies at {}. Is the right disk mounted?",
            row.name,
            store.identity().id,
            row.identity,
            row.root_dir
        );
        return Err(Error::new(ErrorKind::StoreUnreachable, message));
    }
    Ok(store)
}

/// Makes the store at the place, or adopts the one that is there, and claims the right to delete in it. A bucket must
/// exist; a directory is made.
fn make(place: &Place, name: &str, cost: repository::Cost, server_id: &str) -> Result<(Store, bool)> {
    let root = match place {
        Place::Directory(root) => root,
        Place::Bucket(place) => {
            let bucket = ObjectStorage::open(place).map_err(|e| match e.kind {
                storage::ErrorKind::Invalid => Error::new(ErrorKind::ParameterInvalid, e.to_string()),
                _ => store_error(name, e),
            })?;
            let (store, adopted) = Store::create_or_adopt(Arc::new(bucket), name, cost)?;
            store.claim(server_id)?;
            return Ok((store, adopted));
        }
    };
    let is_new = !root.exists();
    let made = Directory::create_root(root, DirectoryOptions::default())
        .map_err(|e| store_error(name, e))
        .and_then(|directory| {
            // Between the check of the path and now somebody may have put a link there.
            if fs::canonicalize(root).ok().as_deref() != Some(root) {
                let message = format!("{} changed while the store was being registered.", root.display());
                return Err(Error::new(ErrorKind::ParameterInvalid, message));
            }
            Store::create_or_adopt(Arc::new(directory), name, cost)
        })
        .and_then(|(store, adopted)| {
            store.claim(server_id)?;
            Ok((store, adopted))
        });
    if made.is_err() && is_new {
        // Goes only if it is empty.
        let _ = fs::remove_dir(root);
    }
    made
}

/// A registration as the parameters of a job, and its credential, which the job keeps sealed like a passcode.
fn as_job(registration: &Registration) -> Result<(serde_json::Value, Option<Passcode>)> {
    let (connection, credential) = match &registration.place {
        Place::Directory(_) => (None, None),
        Place::Bucket(place) => {
            let text = buckets::credential_text(&place.options.credentials)?;
            let text = std::str::from_utf8(&text)
                .map_err(|_| Error::new(ErrorKind::Internal, "a credential is no text"))?;
            (Some(BucketConnection::of(place)), Some(Passcode::new(text.to_owned())))
        }
    };
    let parameters = json!({
        "kind": registration.kind, "root": registration.place.root(), "default": registration.default,
        "storageConfig": registration.storage_config, "connection": connection,
    });
    Ok((parameters, credential))
}

/// The registration that a job is to do.
pub(crate) fn from_job(job: &JobRow, credential: impl FnOnce() -> Result<Passcode>) -> Result<Registration> {
    let parameters = &job.parameters;
    let text = |key: &str| parameters[key].as_str().unwrap_or_default().to_owned();
    let place = match &parameters["connection"] {
        serde_json::Value::Null => Place::Directory(text("root").into()),
        connection => {
            let connection: BucketConnection = serde_json::from_value(connection.clone()).map_err(|e| {
                Error::new(ErrorKind::Internal, format!("a job's connection is not valid: {e}"))
            })?;
            Place::Bucket(connection.place(credential()?.expose().as_bytes())?.into())
        }
    };
    Ok(Registration {
        name: job.store.clone(),
        kind: text("kind"),
        place,
        storage_config: parameters["storageConfig"].clone(),
        default: parameters["default"].as_bool().unwrap_or(false),
    })
}

fn store_error(name: &str, error: storage::Error) -> Error {
    let kind = match error.kind {
        storage::ErrorKind::NoSpace => ErrorKind::NoSpace,
        _ => ErrorKind::StoreUnreachable,
    };
    Error::new(kind, format!("Store '{name}' cannot be reached: {error}")).because(error)
}

/// One line if the place has less room than the newest backup took.
fn room_missing(store: &Store, cache: &CatalogueCache, name: &str) -> Result<Option<String>> {
    let Some(free) = store.storage().free_space().unwrap_or(None) else { return Ok(None) };
    let look = store.listed(cache, name)?;
    let newest = look.backups.iter().map(|listed| &listed.view).max_by_key(|view| view.start_time);
    Ok(newest.filter(|newest| free < newest.bytes_added).map(|newest| {
        format!(
            "{free} bytes are free, less than the {} that the last backup '{}' added.",
            newest.bytes_added, newest.name
        )
    }))
}

/// The canonical form of a root that lies under an allowed directory, or why it does not.
fn allowed_root(root: &Path, settings: &Settings) -> Result<PathBuf> {
    let refuse = |why: &str| {
        let allowed: Vec<String> =
            settings.allowed_directories.iter().map(|directory| directory.display().to_string()).collect();
        let allowed = if allowed.is_empty() { "none is configured".to_owned() } else { allowed.join(", ") };
        let message = format!("'rootDir' {} {why}. Allowed directories: {allowed}.", root.display());
        Err(Error::new(ErrorKind::ParameterInvalid, message))
    };
    if !root.is_absolute() {
        return refuse("is no absolute path");
    }
    if root.components().any(|part| part == Part::ParentDir) {
        return refuse("holds '..'");
    }
    let Some(text) = root.to_str() else { return refuse("is no valid UTF-8") };
    if text.len() > 4096 || text.chars().any(char::is_control) {
        return refuse("is too long or holds control characters");
    }
    let resolved = resolve(root).map_err(|e| place_error(root, &e))?;
    let allowed = settings.allowed_directories.iter().filter_map(|directory| resolve(directory).ok());
    if !allowed.into_iter().any(|directory| resolved.starts_with(directory)) {
        return refuse("does not lie under a directory that is allowed for stores");
    }
    if resolved.exists() && !resolved.is_dir() {
        return refuse("is no directory");
    }
    if resolved.to_str().is_none() {
        return refuse("is no valid UTF-8");
    }
    refuse_protected(&resolved, settings)?;
    Ok(resolved)
}

/// The canonical root of a hosted store.
fn hosted_root(name: &str, settings: &Settings) -> Result<PathBuf> {
    let home = &settings.hosted_directory;
    let root = resolve(&home.join(name)).map_err(|e| place_error(home, &e))?;
    refuse_protected(&root, settings)?;
    Ok(root)
}

/// A store inside what it protects would back itself up, and a restore would exchange it with the rest.
fn refuse_protected(root: &Path, settings: &Settings) -> Result<()> {
    match protected_around(root, settings) {
        None => Ok(()),
        Some((name, place)) => {
            let message = format!(
                "The store's place {} and the protected place {} of component '{name}' lie inside each other.",
                root.display(),
                place.display()
            );
            Err(Error::new(ErrorKind::ParameterInvalid, message))
        }
    }
}

/// The component, and its place, that lies around this place or inside of it.
fn protected_around(root: &Path, settings: &Settings) -> Option<(String, PathBuf)> {
    let mut places = settings.components.iter().filter_map(|component| {
        let place = PathBuf::from(component.place());
        match component.kind() {
            Kind::FileStore if place.is_absolute() => Some((component, resolve(&place).unwrap_or(place))),
            Kind::ObjectStore => Some((component, place)),
            _ => None,
        }
    });
    let found = places.find(|(_, place)| root.starts_with(place) || place.starts_with(root));
    found.map(|(component, place)| (component.name().to_owned(), place))
}

/// The path with the links of all that exists of it resolved; what does not exist yet stays as it is.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(resolved) => Ok(resolved),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            // A link that leads nowhere is there all the same, and would be followed by whoever makes it.
            if fs::symlink_metadata(path).is_ok() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a link that leads nowhere"));
            }
            match (path.parent(), path.file_name()) {
                (Some(parent), Some(name)) => Ok(resolve(parent)?.join(name)),
                _ => Err(e),
            }
        }
        Err(e) => Err(e),
    }
}

fn place_error(path: &Path, error: &io::Error) -> Error {
    Error::new(
        ErrorKind::ParameterInvalid,
        format!("{} cannot be used for a store: {error}.", path.display()),
    )
}

#[cfg(test)]
mod tests;
