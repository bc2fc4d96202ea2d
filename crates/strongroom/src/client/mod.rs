//! A client of a running server: the one place that knows its envelope, its token, and whom to trust.
//!
//! ```text
//! address   what a person calls the server → the base of all URLs
//! trust     whose certificate is believed
//! kept      the token that `strongroom login` keeps, one file a server
//! Client    get, post: a path and fields in, JSON out
//! jobs      follows a job to its end
//! error     every way in which that fails, with its exit code and advice
//! ```

mod address;
mod error;
mod jobs;
mod kept;
mod trust;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use ureq::Agent;

pub use address::Server;
pub use error::Error;
pub use jobs::{Ended, Progressing, ended, follow};
pub use kept::{Kept, all_kept, forget, keep, kept_for};
pub use trust::Trust;

/// What a call came to.
pub type Result<T> = std::result::Result<T, Error>;

/// Some operations answer only when they have looked at a whole store.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
const REPLY_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The root of everything about disaster recovery.
pub const DISASTER_RECOVERY: &str = "admin/system/disasterrecovery";

/// The root of everything that the server does by itself.
pub const TASKS: &str = "admin/system/tasks";

/// What is protected.
pub const COMPONENTS: &str = "admin/system/components";

/// The users.
pub const USERS: &str = "admin/users";

/// The keys of programs.
pub const KEYS: &str = "admin/keys";

/// Somebody who talks to a server, logged in or not.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    server: Server,
    token: Option<SecretString>,
}

impl Client {
    /// Somebody who is not logged in. Nothing is sent yet.
    pub fn new(server: Server, trust: &Trust) -> anyhow::Result<Self> {
        let agent = trust.agent(&server, REQUEST_TIMEOUT)?;
        Ok(Self { agent, server, token: None })
    }

    /// The same, with a token that was kept.
    pub fn with_token(self, token: SecretString) -> Self {
        Self { token: Some(token), ..self }
    }

    /// Which server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Asks for a token of so many minutes and uses it from now on; returns it, and when it ends (milliseconds).
    pub fn log_in(
        &mut self,
        username: &str,
        password: &SecretString,
        minutes: u32,
    ) -> Result<(SecretString, i64)> {
        let minutes = minutes.to_string();
        let fields = [
            ("username", username),
            ("password", password.expose_secret()),
            ("client", "referer"),
            ("referer", "strongroom"),
            ("expiration", minutes.as_str()),
        ];
        self.token = None;
        let reply = self.post("sharing/rest/generateToken", &fields)?;
        let token = SecretString::from(self.text(&reply, "token")?.to_owned());
        self.token = Some(token.clone());
        Ok((token, reply["expires"].as_i64().unwrap_or_default()))
    }

    /// Reads a resource. The path is encoded already, as [`store`], [`backup`] and [`job`] give it.
    pub fn get(&self, path: &str) -> Result<Value> {
        let mut request = self.agent.get(self.url(path)).query("f", "json");
        if let Some(token) = &self.token {
            request = request.header("X-Esri-Authorization", bearer(token));
        }
        self.read(request.call(), path, false)
    }

    /// Runs an operation.
    pub fn post(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value> {
        let mut request = self.agent.post(self.url(path));
        if let Some(token) = &self.token {
            request = request.header("X-Esri-Authorization", bearer(token));
        }
        let fields = fields.iter().copied().chain([("f", "json")]);
        self.read(request.send_form(fields), path, true)
    }

    /// A text that the reply must have.
    pub fn text<'a>(&self, reply: &'a Value, key: &str) -> Result<&'a str> {
        reply[key].as_str().ok_or_else(|| self.foreign(format!("its answer has no '{key}'")))
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.server.base())
    }

    fn foreign(&self, reason: String) -> Error {
        Error::Foreign { server: self.server.to_string(), reason }
    }

    fn read(
        &self,
        reply: std::result::Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        path: &str,
        changes: bool,
    ) -> Result<Value> {
        let server = || self.server.to_string();
        let mut reply = reply.map_err(|e| error::unanswered(&e, server(), changes))?;
        let status = reply.status();
        let body = reply.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_string();
        let text = body.map_err(|e| error::unanswered(&e, server(), changes))?;
        let Ok(body) = serde_json::from_str::<Value>(&text) else {
            return Err(self.foreign(format!("its answer at {path} is no JSON (HTTP {})", status.as_u16())));
        };
        match body.get("error") {
            None if body.is_object() => Ok(body),
            None => Err(self.foreign(format!("its answer at {path} is no JSON object"))),
            Some(refusal) => Err(error::refused(refusal, server())),
        }
    }
}

fn bearer(token: &SecretString) -> String {
    format!("Bearer {}", token.expose_secret())
}

/// The path of a store.
pub fn store(name: &str) -> String {
    format!("{DISASTER_RECOVERY}/stores/{}", api::encode_segment(name))
}

/// The path of a backup.
pub fn backup(store_name: &str, name: &str) -> String {
    format!("{}/backups/{}", store(store_name), api::encode_segment(name))
}

/// The path of a job.
pub fn job(id: &str) -> String {
    format!("admin/jobs/{}", api::encode_segment(id))
}

/// The path of a task.
pub fn task(id: &str) -> String {
    format!("{TASKS}/{}", api::encode_segment(id))
}

/// The path of a user.
pub fn user(name: &str) -> String {
    format!("{USERS}/{}", api::encode_segment(name))
}

/// The path of a key.
pub fn key(name: &str) -> String {
    format!("{KEYS}/{}", api::encode_segment(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::{Exit, classify};
    use crate::tls;
    use std::path::Path;

    /// Serves one connection with a new certificate in `directory`: a log-in that succeeds.
    fn serve_once(directory: &Path) -> (Server, std::thread::JoinHandle<()>) {
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
        (Server::parse(&base).unwrap(), serving)
    }

    #[test]
    fn the_client_trusts_the_certificates_that_it_was_given_and_no_others() {
        tls::install_provider();
        let password = SecretString::from("not a real one".to_owned());
        let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let other = other.path().join("certificate.pem");
        std::fs::create_dir_all(other.parent().unwrap()).unwrap();
        tls::write_self_signed(&other, &other.with_extension("key")).unwrap();

        for trust in [Trust::Certificates(other), Trust::System] {
            let own = tempfile::tempdir_in(own.path()).unwrap();
            let (server, serving) = serve_once(own.path());
            let mut client = Client::new(server, &trust).unwrap();
            let refused = client.log_in("admin", &password, 1).unwrap_err();
            serving.join().unwrap();
            assert!(matches!(refused, Error::Untrusted { .. }), "{refused:?}");
            assert_eq!(classify(&refused.into()), Exit::Usage);
        }

        let (server, serving) = serve_once(own.path());
        let trust = Trust::Certificates(own.path().join("certificate.pem"));
        let mut client = Client::new(server, &trust).unwrap();
        let (token, expires) = client.log_in("admin", &password, 1).unwrap();
        serving.join().unwrap();
        assert_eq!((token.expose_secret(), expires), ("abc", 1));
        assert!(!format!("{client:?}").contains("abc"), "a token must not be shown");
    }

    #[test]
    fn names_become_one_segment_of_a_path_each() {
        assert_eq!(
            store("Müller & Söhne"),
            format!("{DISASTER_RECOVERY}/stores/M%C3%BCller%20%26%20S%C3%B6hne")
        );
        assert_eq!(
            backup("s 1", "a/../b?x#y%z"),
            format!("{DISASTER_RECOVERY}/stores/s%201/backups/a%2F..%2Fb%3Fx%23y%25z")
        );
    }
}
