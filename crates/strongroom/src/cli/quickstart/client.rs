//! What a user's script would do: the server's interface over HTTPS, trusting one certificate and no other.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::exit::{Exit, Failure};
use crate::tls;

const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;
const POLL_INTERVAL: Duration = Duration::from_millis(120);

/// Somebody who is logged in.
pub struct Client {
    agent: Agent,
    /// `https://host:port/context`
    base: String,
    token: SecretString,
}

/// How far a job is.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// What is being done.
    pub stage: String,
    /// Bytes done and to be done; 0 while unknown.
    pub bytes: (u64, u64),
    /// Files done.
    pub files: u64,
    /// What is being read or written.
    pub current: String,
}

impl Client {
    /// Logs in. Only the certificate in this file is trusted.
    pub fn log_in(base: &str, certificate: &Path, username: &str, password: &SecretString) -> Result<Self> {
        let trusted: Vec<_> = tls::certificates(certificate)?
            .iter()
            .map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned())
            .collect();
        let agent = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&trusted)).build())
            .https_only(true)
            // The server is on this machine: no proxy of the environment is asked.
            .proxy(None)
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build()
            .new_agent();
        let mut client = Self { agent, base: base.to_owned(), token: SecretString::default() };
        let fields = [
            ("username", username),
            ("password", password.expose_secret()),
            ("client", "referer"),
            ("referer", "strongroom"),
            ("expiration", "720"),
        ];
        let reply = client.post("sharing/rest/generateToken", &fields)?;
        client.token = SecretString::from(text(&reply, "token")?.to_owned());
        Ok(client)
    }

    /// Reads a resource.
    pub fn get(&self, path: &str) -> Result<Value> {
        let url = format!("{}/{path}?f=json", self.base);
        let reply = self.agent.get(&url).header("X-Esri-Authorization", self.bearer()).call();
        read(reply, path)
    }

    /// Runs an operation.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value> {
        let url = format!("{}/{path}", self.base);
        let fields = fields.iter().copied().chain([("f", "json")]);
        let mut request = self.agent.post(&url);
        if !self.token.expose_secret().is_empty() {
            request = request.header("X-Esri-Authorization", self.bearer());
        }
        read(request.send_form(fields), path)
    }

    /// Waits for a job and returns its result; `tell` hears how far it is, and may give up.
    pub fn follow(&self, accepted: &Value, tell: &mut dyn FnMut(&Progress) -> Result<()>) -> Result<Value> {
        let path = format!("admin/jobs/{}", text(accepted, "jobid")?);
        loop {
            let mut job = self.get(&path)?;
            match text(&job, "status")? {
                "COMPLETED" => return Ok(job["result"].take()),
                "FAILED" => return Err(failed(&job)),
                "CANCELLED" => return Err(Failure::new(Exit::Interrupted, "the job was cancelled").into()),
                _ => tell(&progress(&job["progress"]))?,
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.expose_secret())
    }
}

fn progress(told: &Value) -> Progress {
    let number = |key: &str| told[key].as_u64().unwrap_or_default();
    let words = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
    Progress {
        stage: words("stage"),
        bytes: (number("bytesDone"), number("bytesTotal")),
        files: number("filesDone"),
        current: words("current"),
    }
}

fn read(reply: Result<ureq::http::Response<ureq::Body>, ureq::Error>, path: &str) -> Result<Value> {
    let mut reply = reply.with_context(|| format!("the server does not answer at {path}"))?;
    let status = reply.status();
    let body: Value = reply
        .body_mut()
        .with_config()
        .limit(REPLY_BYTES_MAX)
        .read_json()
        .with_context(|| format!("the server's answer at {path} (HTTP {status}) is no JSON"))?;
    match body.get("error") {
        None => Ok(body),
        Some(error) => Err(refusal(error)),
    }
}

/// An error of the interface, as an error of ours.
fn refusal(error: &Value) -> anyhow::Error {
    let message = error["message"].as_str().unwrap_or("the server refuses without a word");
    let exit = match error["messageCode"].as_str() {
        Some("DR_PASSCODE_WRONG") => Exit::WrongPasscode,
        Some("STORE_UNREACHABLE") => Exit::NoRepository,
        Some("DR_BUSY") => Exit::Locked,
        _ => Exit::Failed,
    };
    let details = error["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    let failure = Failure::new(exit, message);
    details.iter().filter_map(Value::as_str).fold(failure, Failure::hint).into()
}

fn failed(job: &Value) -> anyhow::Error {
    let messages = job["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut messages = messages.iter().filter_map(Value::as_str);
    let first = messages.next().unwrap_or("the job failed and does not say why");
    messages.fold(Failure::new(Exit::Failed, first), Failure::hint).into()
}

/// A text that the reply must have.
pub fn text<'a>(reply: &'a Value, key: &str) -> Result<&'a str> {
    reply[key].as_str().ok_or_else(|| anyhow!("the server's answer has no {key}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::classify;
    use serde_json::json;

    /// Serves one connection with a new certificate in `directory`: a log-in that succeeds.
    fn serve_once(directory: &Path) -> (String, std::thread::JoinHandle<()>) {
        use std::io::{Read, Write};
        let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
        tls::write_self_signed(&certificate, &key).unwrap();
        let config = tls::load(&certificate, &key).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("https://{}/strongroom", listener.local_addr().unwrap());
        let serving = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let connection = rustls::ServerConnection::new(config).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            // A client that does not trust us hangs up here.
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok_and(|length| length > 0) {
                let body = r#"{"token": "abc", "expires": 1, "ssl": true}"#;
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all((head + body).as_bytes()).unwrap();
            }
        });
        (base, serving)
    }

    #[test]
    fn the_client_trusts_the_one_certificate_and_no_other() {
        tls::install_provider();
        let password = SecretString::from("not a real one".to_owned());
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        tls::write_self_signed(&other.path().join("certificate.pem"), &other.path().join("key.pem")).unwrap();

        let (base, serving) = serve_once(own.path());
        let refused =
            Client::log_in(&base, &other.path().join("certificate.pem"), "admin", &password).err().unwrap();
        serving.join().unwrap();
        assert!(format!("{refused:#}").contains("certificate"), "{refused:#}");

        let trusted = tempfile::tempdir().unwrap();
        let (base, serving) = serve_once(trusted.path());
        let client =
            Client::log_in(&base, &trusted.path().join("certificate.pem"), "admin", &password).unwrap();
        serving.join().unwrap();
        assert_eq!(client.token.expose_secret(), "abc");
    }

    #[test]
    fn a_refusal_keeps_its_message_and_gets_its_exit_code() {
        let error = refusal(
            &json!({"code": 400, "messageCode": "DR_PASSCODE_WRONG", "message": "no", "details": []}),
        );
        assert_eq!(classify(&error), Exit::WrongPasscode);
        assert_eq!(error.to_string(), "no");
        assert_eq!(classify(&refusal(&json!({}))), Exit::Failed);
    }

    #[test]
    fn a_failed_job_tells_its_first_message() {
        let error = failed(&json!({"messages": ["the disk is full", "store s1"]}));
        assert_eq!(error.to_string(), "the disk is full");
        assert!(!failed(&json!({})).to_string().is_empty());
    }
}
