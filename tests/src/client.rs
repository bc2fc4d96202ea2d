//! Who talks to a server: requests as clients send them, and what they expect of the replies.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use anyhow::{Context, Result, anyhow};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::server::{DEADLINE, PASSCODE, Site, wait_for};

const REPLY_BYTES_MAX: u64 = 64 << 20;

/// One answer of the server.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// As it came.
    pub text: String,
    /// As JSON; null if it is none.
    pub json: Value,
}

impl Reply {
    /// `error.code`, or 0 where there is no error.
    pub fn code(&self) -> u64 {
        self.json["error"]["code"].as_u64().unwrap_or(0)
    }

    /// `error.messageCode`, or nothing.
    pub fn message_code(&self) -> &str {
        self.json["error"]["messageCode"].as_str().unwrap_or_default()
    }

    /// The job that an error names in its details.
    pub fn blocking_job(&self) -> Option<&str> {
        let details = self.json["error"]["details"].as_array()?;
        details.iter().find_map(|line| line.as_str()?.strip_prefix("jobid="))
    }

    /// The body, which must be no error.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(
            self.status == 200 && self.code() == 0 && self.json.is_object(),
            "HTTP {}: {}",
            self.status,
            self.text
        );
        self.json
    }

    /// An error with these codes, in an envelope that known clients can read.
    #[track_caller]
    pub fn refused(self, code: u64, message_code: &str) -> Self {
        assert_eq!((self.code(), self.message_code()), (code, message_code), "{}", self.text);
        assert_eq!(self.status, 200, "{}", self.text);
        assert!(self.json["error"]["details"].is_array(), "{}", self.text);
        assert!(self.json["error"]["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", self.text);
        self
    }
}

/// Somebody who talks to the server.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    /// `https://host:port/context`
    pub base: String,
    /// Sent with every request, if there is one.
    pub token: Option<String>,
    replies: Arc<Mutex<String>>,
}

impl Client {
    /// Somebody who trusts this certificate alone and is not logged in; what is answered is added to `replies`.
    pub(crate) fn new(certificate: &Path, base: String, replies: Arc<Mutex<String>>) -> Self {
        Self { agent: agent(certificate), base, token: None, replies }
    }

    /// Logs in; must succeed.
    pub fn log_in(&mut self, username: &str, password: &str) {
        self.token = None;
        let fields = [
            ("username", username),
            ("password", password),
            ("client", "referer"),
            ("referer", "http"),
            ("expiration", "720"),
        ];
        let reply = self.post("sharing/rest/generateToken", &fields).unwrap().ok();
        self.token = Some(reply["token"].as_str().unwrap().to_owned());
    }

    /// The sign-in page of a program that asks, out of band, for a `token` or a `code`.
    pub fn authorize(&self, kind: &str) -> String {
        let asked = format!(
            "sharing/rest/oauth2/authorize?response_type={kind}&client_id=test&redirect_uri=urn:ietf:wg:oauth:2.0:oob"
        );
        self.get(&asked).unwrap().ok()["oauth_state"].as_str().unwrap().to_owned()
    }

    /// Signs in on such a page, which must succeed; returns the token or the code.
    pub fn sign_in(&self, oauth_state: &str, username: &str, password: &str) -> String {
        let fields = [("oauth_state", oauth_state), ("username", username), ("password", password)];
        let reply = self.post("sharing/oauth2/signin", &fields).unwrap();
        assert_eq!(reply.status, 302, "{}", reply.text);
        granted(&reply.location.unwrap())
    }

    /// Reads a resource as JSON.
    pub fn get(&self, path: &str) -> Result<Reply> {
        let mut request = self.agent.get(self.address_of(path)).query("f", "json");
        if let Some(token) = &self.token {
            request = request.header("X-Esri-Authorization", format!("Bearer {token}"));
        }
        self.read(request.call())
    }

    /// Runs an operation.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<Reply> {
        let mut request = self.agent.post(self.address_of(path));
        if let Some(token) = &self.token {
            request = request.header("X-Esri-Authorization", format!("Bearer {token}"));
        }
        let format = (!fields.iter().any(|(name, _)| *name == "f")).then_some(("f", "json"));
        self.read(request.send_form(fields.iter().copied().chain(format)))
    }

    fn address_of(&self, path: &str) -> String {
        format!("{}/{}", self.base, path.replace(' ', "%20"))
    }

    fn read(&self, reply: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Reply> {
        let mut reply = reply.context("the server does not answer")?;
        let status = reply.status().as_u16();
        let location = reply.headers().get("location").map(|value| value.to_str().unwrap().to_owned());
        let text = reply.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_string()?;
        self.replies.lock().unwrap().push_str(&format!("{text}\n"));
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Reply { status, location, text, json })
    }

    /// Below `admin/system/disasterrecovery`.
    pub fn dr_get(&self, path: &str) -> Reply {
        self.get(&format!("admin/system/disasterrecovery/{path}")).unwrap()
    }

    /// Below `admin/system/disasterrecovery`.
    pub fn dr_post(&self, path: &str, fields: &[(&str, &str)]) -> Reply {
        self.post(&format!("admin/system/disasterrecovery/{path}"), fields).unwrap()
    }

    /// Registers the directory `s1` of the site as the default store `s1`.
    pub fn register(&self, site: &Site) {
        let settings = serde_json::json!({"type": "FILESYSTEM", "rootDir": site.store()}).to_string();
        self.dr_post(
            "stores/register",
            &[("storeName", "s1"), ("isDefault", "true"), ("settings", &settings)],
        )
        .ok();
    }

    /// Asks for a backup in `s1`.
    pub fn create(&self, name: &str) -> Reply {
        self.dr_post(
            "stores/s1/backups/create",
            &[("name", name), ("passcode", PASSCODE), ("description", "")],
        )
    }

    /// Makes a backup in `s1`, which must succeed; returns its job.
    pub fn back_up(&self, name: &str) -> Value {
        self.completed(&self.create(name).ok())
    }

    /// Asks for a restore from `s1`.
    pub fn restore(&self, name: &str) -> Reply {
        self.dr_post(&format!("stores/s1/backups/{name}/restore"), &[("passcode", PASSCODE)])
    }

    /// Deletes a backup in `s1`.
    pub fn delete(&self, name: &str) -> Reply {
        self.dr_post(&format!("stores/s1/backups/{name}/delete"), &[])
    }

    /// Names of the backups in `s1`, sorted, all of which must be complete.
    pub fn backups(&self) -> Vec<String> {
        let list = self.dr_get("stores/s1/backups").ok();
        let mut names = Vec::new();
        for backup in list["backups"].as_array().unwrap() {
            assert_eq!(backup["status"], "completed", "{backup}");
            names.push(backup["backupName"].as_str().unwrap().to_owned());
        }
        names.sort();
        names
    }

    /// One job.
    pub fn job(&self, id: &str) -> Value {
        self.get(&format!("admin/jobs/{id}")).unwrap().ok()
    }

    /// Ids of all jobs, newest first.
    pub fn jobs(&self) -> Vec<String> {
        let list = self.get("admin/jobs").unwrap().ok();
        list["jobs"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Waits until a job has ended, however.
    pub fn ended(&self, id: &str) -> Value {
        wait_for(&format!("the end of job {id}"), || {
            let job = self.job(id);
            matches!(job["status"].as_str().unwrap(), "COMPLETED" | "FAILED" | "CANCELLED").then_some(job)
        })
    }

    /// Waits for the job of an accepted request, which must complete.
    #[track_caller]
    pub fn completed(&self, accepted: &Value) -> Value {
        let job = self.ended(job_id(accepted));
        assert_eq!(job["status"], "COMPLETED", "{job}");
        job
    }
}

/// The token or code that a redirect after a sign-in carries.
#[track_caller]
pub fn granted(location: &str) -> String {
    let (_, answer) = location.split_once(['#', '?']).unwrap();
    let (name, value) = answer.split('&').next().unwrap().split_once('=').unwrap();
    assert!(["access_token", "code"].contains(&name), "{location}");
    value.to_owned()
}

/// The job that a reply names.
#[track_caller]
pub fn job_id(accepted: &Value) -> &str {
    accepted["jobid"].as_str().ok_or_else(|| anyhow!("no job in {accepted}")).unwrap()
}

pub(crate) fn certificate(file: &Path) -> Certificate<'static> {
    Certificate::from_pem(&fs::read(file).unwrap()).unwrap()
}

pub(crate) fn install_provider() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    });
}

pub(crate) fn agent(file: &Path) -> Agent {
    agent_for(file, true)
}

pub(crate) fn browser_agent(file: &Path) -> Agent {
    agent_for(file, false)
}

fn agent_for(file: &Path, https_only: bool) -> Agent {
    install_provider();
    let trusted = [certificate(file)];
    Agent::config_builder()
        .tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&trusted)).build())
        .https_only(https_only)
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .timeout_global(Some(DEADLINE))
        .build()
        .new_agent()
}
