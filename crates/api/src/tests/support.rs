//! A running domain with one protected directory and one user for each role, and requests to it.

use super::shapes;
use crate::dispatch::{Site, respond};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{HeaderMap, Method, Request, StatusCode};
use recovery::{
    AddressRule, Cost, FileStoreSettings, Hooks, Principal, Recovery, Role, Settings, file_store,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) const PUBLIC_URL: &str = "https://dr.example.org/strongroom";
pub(super) const ADMIN: &str = "/strongroom/admin";
pub(super) const DR: &str = "/strongroom/admin/system/disasterrecovery";
pub(super) const PASSWORD: &str = "correct horse battery";
pub(super) const PASSCODE: &str = "staple correct horse";

pub(super) struct World {
    pub site: Arc<Site>,
    pub recovery: Recovery,
    pub directory: tempfile::TempDir,
    tokens: [String; 3],
}

impl World {
    /// A new, empty deployment, jobs running.
    pub async fn open() -> Self {
        Self::open_with(|_| {}).await
    }

    /// The same, set up in another way.
    pub async fn open_with(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let mut settings = settings(directory.path());
        change(&mut settings);
        let recovery = Recovery::open(settings).await.expect("domain");
        let mut tokens = Vec::new();
        for (username, role) in
            [("victor", Role::Viewer), ("olga", Role::Operator), ("admin", Role::Administrator)]
        {
            recovery.add_user(username, &SecretString::from(PASSWORD), role).await.expect("user");
            let principal = Principal::person(username.to_owned(), role);
            let (token, _) = recovery.issue_token(&principal, 60).await.expect("token");
            tokens.push(token.expose_secret().to_owned());
        }
        recovery.start().await.expect("start");
        let site = Arc::new(Site::new(recovery.clone(), "strongroom", PUBLIC_URL, true));
        let tokens = tokens.try_into().expect("three tokens");
        Self { site, recovery, directory, tokens }
    }

    /// The same, with a provider through which people may sign in.
    pub fn with_provider(self, settings: crate::OidcSettings) -> Self {
        let site = Site::new(self.recovery.clone(), "strongroom", PUBLIC_URL, true);
        Self { site: Arc::new(site.with_provider(Some(settings))), ..self }
    }

    pub fn token(&self, role: Role) -> &str {
        &self.tokens[role as usize]
    }

    /// A request of a user, as JSON unless told otherwise.
    pub async fn ask(&self, role: Role, method: &str, path: &str, form: &str) -> Answer {
        self.send(ask(method, path).token(self.token(role)).form(form)).await
    }

    /// GET as a viewer: the JSON.
    pub async fn read(&self, path: &str) -> Value {
        self.ask(Role::Viewer, "GET", &format!("{path}?f=json"), "").await.json()
    }

    /// POST as an administrator: the JSON.
    pub async fn run(&self, path: &str, form: &str) -> Value {
        self.ask(Role::Administrator, "POST", path, &format!("f=json&{form}")).await.json()
    }

    async fn respond(&self, asked: Asked) -> crate::reply::Response {
        let mut request = Request::builder()
            .method(asked.method)
            .uri(asked.path)
            .body(Full::new(Bytes::from(asked.body)))
            .expect("request");
        *request.headers_mut() = asked.headers;
        respond(self.site.clone(), request, [127, 0, 0, 1].into()).await
    }

    /// Whether the reply breaks off before its end.
    pub async fn broken_off(&self, asked: Asked) -> bool {
        self.respond(asked).await.into_body().collect().await.is_err()
    }

    pub async fn send(&self, asked: Asked) -> Answer {
        let (method, path) = (asked.method.clone(), asked.path.clone());
        let (head, body) = self.respond(asked).await.into_parts();
        let bytes = body.collect().await.expect("body").to_bytes().to_vec();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        shapes::check(&method, &path, &head.headers, &text);
        Answer { status: head.status, headers: head.headers, text, bytes }
    }

    /// The job once it has ended.
    pub async fn wait(&self, accepted: &Value) -> Value {
        let id = accepted["jobid"].as_str().unwrap_or_else(|| panic!("no job: {accepted}"));
        let ended =
            |job: &Value| matches!(job["status"].as_str(), Some("COMPLETED" | "FAILED" | "CANCELLED"));
        self.until(&format!("{ADMIN}/jobs/{id}"), ended).await
    }

    /// Makes every job that begins from now on wait, or lets all go on.
    pub fn hold(&self, on: bool) {
        let file = self.directory.path().join("hold");
        if on { std::fs::write(file, "").expect("hold") } else { std::fs::remove_file(file).expect("hold") }
    }

    /// Asks for one page again and again until it says what is wanted.
    pub async fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let reply = self.read(path).await;
            if wanted(&reply) {
                return reply;
            }
            assert!(Instant::now() < deadline, "{reply}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Registers the store `s1`.
    pub async fn with_store(self) -> Self {
        let done = self
            .run(
                &format!("{DR}/stores/register"),
                "storeName=s1&isDefault=true&settings={\"type\":\"HOSTED\"}",
            )
            .await;
        assert_eq!(done["status"], "success", "{done}");
        self
    }
}

fn settings(directory: &Path) -> Settings {
    let content = directory.join("content");
    std::fs::create_dir_all(&content).expect("content");
    std::fs::write(content.join("a.txt"), "first").expect("file");
    std::fs::create_dir_all(directory.join("backup")).expect("backup");
    // Hooks wait as long as there is a file `hold`, so that a test can look at a job at work.
    let hook = directory.join("hook.sh");
    let hold = directory.join("hold");
    std::fs::write(&hook, format!("while [ -e '{}' ]; do sleep 0.02; done", hold.display())).expect("hook");
    let hook = vec![format!("/bin/sh {}", hook.display())];
    let component = FileStoreSettings {
        name: "content".to_owned(),
        path: content,
        exclude: Vec::new(),
        optional: false,
        hooks: Hooks {
            before_backup: hook.clone(),
            before_restore: hook,
            timeout: Duration::from_secs(60),
            ..Hooks::default()
        },
    };
    Settings {
        data_directory: directory.join("data"),
        state_file: directory.join("data/state.db"),
        master_key_file: directory.join("data/master.key"),
        allowed_directories: vec![directory.join("backup")],
        hosted_directory: directory.join("stores"),
        drill_directory: directory.join("drills"),
        public_url: PUBLIC_URL.to_owned(),
        components: vec![file_store(component)],
        site_name: "site1".to_owned(),
        compression: Default::default(),
        cost: Cost::FAST,
        deletion_grace: Duration::from_secs(3600),
        store_addresses: Arc::new(AddressRule::inner_networks_too(Vec::new())),
        notify: Vec::new(),
        lease: Duration::from_secs(30),
    }
}

/// A request under construction.
pub(super) struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

pub(super) fn ask(method: &str, path: &str) -> Asked {
    let method = method.parse().expect("method");
    Asked { method, path: path.to_owned(), headers: HeaderMap::new(), body: Vec::new() }
}

impl Asked {
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.append(name, value.parse().expect("header"));
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("x-esri-authorization", &format!("Bearer {token}"))
    }

    /// A form body; written with blanks and braces as they are.
    pub fn form(mut self, form: &str) -> Self {
        self.body = form.replace(' ', "+").into_bytes();
        self.header("content-type", "application/x-www-form-urlencoded")
    }

    pub fn body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    /// Code in the envelope, 0 if there is none.
    pub fn code(&self) -> u64 {
        self.json()["error"]["code"].as_u64().unwrap_or(0)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}
