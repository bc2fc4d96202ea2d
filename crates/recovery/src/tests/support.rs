//! A server on a temporary directory, with fast key derivation, and ways to wait for what it does.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gate::{Gate, Gated};
use crate::*;

pub(crate) const PASSCODE: &str = "correct horse battery";

/// Settings for a server below `base`: state in `data`, stores allowed in `stores`, no components.
pub(crate) fn settings(base: &Path) -> Settings {
    let data = base.join("data");
    Settings {
        state_file: data.join("state.db"),
        master_key_file: data.join("master.key"),
        hosted_directory: data.join("stores"),
        drill_directory: data.join("drills"),
        data_directory: data,
        allowed_directories: vec![base.join("stores")],
        public_url: "https://dr.example.org/strongroom".to_owned(),
        components: Vec::new(),
        site_name: "site1".to_owned(),
        compression: repository::Compression::Auto,
        cost: Cost::FAST,
        deletion_grace: Duration::ZERO,
        store_addresses: Arc::new(AddressRule::inner_networks_too(Vec::new())),
        notify: Vec::new(),
        lease: Duration::from_secs(30),
    }
}

/// A protected directory.
pub(crate) fn files(name: &str, path: &Path) -> Arc<dyn Component> {
    file_store(files_settings(name, path))
}

pub(crate) fn files_settings(name: &str, path: &Path) -> FileStoreSettings {
    FileStoreSettings {
        name: name.to_owned(),
        path: path.to_owned(),
        exclude: Vec::new(),
        optional: false,
        hooks: Hooks { timeout: Duration::from_secs(60), ..Hooks::default() },
    }
}

/// A directory with a server's settings, and content to protect.
pub(crate) struct Site {
    pub base: PathBuf,
    pub settings: Settings,
    /// Where the one component stops.
    pub gate: Gate,
    _dir: tempfile::TempDir,
}

impl Site {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let mut settings = settings(&base);
        let content = base.join("content");
        fs::create_dir_all(content.join("sub")).unwrap();
        fs::create_dir_all(base.join("stores")).unwrap();
        for n in 0..20 {
            fs::write(content.join(format!("sub/file{n}")), format!("content {n} ").repeat(500)).unwrap();
        }
        let gate = Gate::default();
        settings.components = vec![Arc::new(Gated { inner: files("content", &content), gate: gate.clone() })];
        Self { base, settings, gate, _dir: dir }
    }

    /// A working server with an empty store `s` in `stores/s`.
    pub async fn server_with_store(&self) -> Recovery {
        let server = self.server().await;
        server.register_store(register("s", &self.store())).await.unwrap();
        server
    }

    /// Where the store `s` lies.
    pub fn store(&self) -> PathBuf {
        self.base.join("stores/s")
    }

    /// The store `s`, without a server.
    pub fn opened_store(&self) -> crate::store::Store {
        let directory = storage::Directory::open(&self.store(), storage::DirectoryOptions::default());
        crate::store::Store::open(Arc::new(directory.unwrap())).unwrap()
    }

    /// Path and content of every protected file.
    pub fn tree(&self) -> Vec<(PathBuf, String)> {
        let mut files: Vec<(PathBuf, String)> = fs::read_dir(self.content().join("sub"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    /// Changes, removes and adds files.
    pub fn damage(&self) {
        fs::write(self.content().join("sub/file0"), "damaged").unwrap();
        fs::remove_file(self.content().join("sub/file1")).unwrap();
        fs::write(self.content().join("sub/planted"), "x").unwrap();
    }

    pub fn content(&self) -> PathBuf {
        self.base.join("content")
    }

    /// A server that works.
    pub async fn server(&self) -> Recovery {
        let server = self.idle_server().await;
        server.start().await.unwrap();
        server
    }

    /// A server that accepts jobs and does not work on them. Waits until an earlier one has let go.
    pub async fn idle_server(&self) -> Recovery {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            match Recovery::open(self.settings.clone()).await {
                Ok(server) => return server,
                Err(e) if e.message.contains("another server") && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(e) => panic!("{e:?}"),
            }
        }
    }
}

pub(crate) fn caller() -> Caller {
    Caller {
        username: "admin".to_owned(),
        operation_uri: "/strongroom/admin/x".to_owned(),
        request_id: "r1".to_owned(),
    }
}

pub(crate) fn register(name: &str, root: &Path) -> RegisterStore {
    RegisterStore {
        name: name.to_owned(),
        place: StorePlace::Directory(root.to_owned()),
        storage_config: serde_json::json!({}),
        default: false,
    }
}

pub(crate) fn hosted(name: &str, default: bool) -> RegisterStore {
    let storage_config = serde_json::json!({"size": "64Gi"});
    RegisterStore { name: name.to_owned(), place: StorePlace::Hosted, storage_config, default }
}

pub(crate) fn create(store: &str, name: &str) -> CreateBackup {
    CreateBackup {
        name: name.to_owned(),
        store: store.to_owned(),
        passcode: passcode(PASSCODE),
        description: "first".to_owned(),
        retention_date: -1,
    }
}

pub(crate) fn restore(store: &str, name: &str) -> RestoreBackup {
    RestoreBackup {
        name: name.to_owned(),
        store: store.to_owned(),
        passcode: passcode(PASSCODE),
        wanted: crate::Wanted::default(),
        validate_only: false,
    }
}

pub(crate) fn passcode(text: &str) -> Passcode {
    Passcode::new(text.to_owned())
}

/// Polls until the job has ended.
pub(crate) async fn ended(server: &Recovery, id: &str) -> JobView {
    until(server, id, |job| {
        matches!(job.status, JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled)
    })
    .await
}

/// Polls until the job is as wanted.
pub(crate) async fn until(server: &Recovery, id: &str, wanted: impl Fn(&JobView) -> bool) -> JobView {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let job = server.job(id).await.unwrap();
        if wanted(&job) {
            return job;
        }
        assert!(Instant::now() < deadline, "still {job:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The error's kind.
pub(crate) fn kind<T: std::fmt::Debug>(outcome: Result<T>) -> ErrorKind {
    outcome.unwrap_err().kind
}

/// Makes a backup in store `s` and waits for it.
pub(crate) async fn make(server: &Recovery, name: &str) -> JobView {
    let id = server.create_backup(create("s", name), caller()).await.unwrap();
    let job = ended(server, &id).await;
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    job
}

/// Every regular file below a directory.
pub(crate) fn all_files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(all_files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

/// The files that hold this text.
pub(crate) fn files_with(directory: &Path, text: &str) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        fs::read(path).unwrap_or_default().windows(text.len()).any(|part| part == text.as_bytes())
    };
    all_files(directory).into_iter().filter(holds).collect()
}
