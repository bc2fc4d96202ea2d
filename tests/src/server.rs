//! A server of its own for each test: the real binary on a directory and a port of its own.
//!
//! [`Site`] is what lies on the disk and survives the server: configuration, users, protected content, places for
//! stores. [`Site::start`] runs `strongroom serve` on it; a [`Server`] can be killed, stopped, and started again.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;
use ureq::tls::Certificate;

use crate::client::{Client, agent, certificate, install_provider};

/// Nothing in a test takes this long unless it hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(10);

/// The administrator of every site.
pub const ADMIN: &str = "admin";
/// The administrator's password.
pub const PASSWORD: &str = "cobalt-Fjord-41-lantern";
/// What backups are sealed with.
pub const PASSCODE: &str = "seven quiet herons / 1959";

/// The binary under test: beside the tests, unless STRONGROOM_TEST_BINARY names another.
pub fn binary() -> PathBuf {
    if let Some(binary) = std::env::var_os("STRONGROOM_TEST_BINARY") {
        return binary.into();
    }
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    let binary = path.join("strongroom");
    assert!(binary.exists(), "{} is missing: cargo build -p strongroom", binary.display());
    binary
}

/// The binary with an environment in which no setting of this shell can change what it does.
pub fn command() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STRONGROOM_") {
            command.env_remove(name);
        }
    }
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command().args(arguments).envs(environment.iter().copied()).output().unwrap()
}

/// Polls until `look` returns something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "waited {} s in vain for {what}", DEADLINE.as_secs());
        std::thread::sleep(POLL);
    }
}

/// How a site differs from the usual one.
#[derive(Clone, Debug)]
pub struct Options {
    /// First segment of every path.
    pub context: String,
    /// From leaving the catalogue to loss of the data.
    pub deletion_grace_minutes: u64,
    /// Further lines of the component, such as hooks.
    pub component: String,
    /// Further sections of the configuration.
    pub configuration: String,
    /// `STRONGROOM_LOG`.
    pub log: String,
    /// Where the state lies; below the site's own directory if absent.
    pub data_directory: Option<PathBuf>,
    /// Where directory stores may lie; below the site's own directory if absent.
    pub stores: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            context: "strongroom".to_owned(),
            deletion_grace_minutes: 0,
            component: String::new(),
            configuration: String::new(),
            log: "info".to_owned(),
            data_directory: None,
            stores: None,
        }
    }
}

/// How a start differs from the usual one.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// A program, with its arguments, that runs the server, such as strace.
    pub prefix: Vec<String>,
    /// Environment of the server.
    pub environment: Vec<(String, String)>,
}

/// What lies on the disk.
pub struct Site {
    directory: TempDir,
    options: Options,
    port: u16,
    token: Mutex<Option<String>>,
    replies: Arc<Mutex<String>>,
}

impl Site {
    /// A new site with an administrator, empty content and no store.
    pub fn new(options: Options) -> Self {
        let directory = tempfile::Builder::new().prefix("strongroom-test-").tempdir().unwrap();
        let site =
            Self { directory, options, port: free_port(), token: Mutex::default(), replies: Arc::default() };
        fs::create_dir_all(site.content()).unwrap();
        fs::create_dir_all(site.stores()).unwrap();
        fs::write(site.config(), site.configuration()).unwrap();
        site.add_user(ADMIN, "administrator", PASSWORD);
        site
    }

    /// The directory of all that belongs to it.
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// What is protected. Nothing else lies beside it.
    pub fn content(&self) -> PathBuf {
        self.root().join("protected/content")
    }

    /// Where stores may be registered.
    pub fn stores(&self) -> PathBuf {
        self.options.stores.clone().unwrap_or_else(|| self.root().join("stores"))
    }

    /// The directory of the store `s1` of [`Client::register`].
    pub fn store(&self) -> PathBuf {
        self.stores().join("s1")
    }

    /// strongroom.toml.
    pub fn config(&self) -> PathBuf {
        self.root().join("strongroom.toml")
    }

    /// The server's own state.
    pub fn data(&self) -> PathBuf {
        self.options.data_directory.clone().unwrap_or_else(|| self.root().join("data"))
    }

    /// What the server wrote to its two outputs, over all its starts.
    pub fn log_file(&self) -> PathBuf {
        self.root().join("server.log")
    }

    /// The same as text.
    pub fn log(&self) -> String {
        fs::read(self.log_file())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Every reply that any client of this site got.
    pub fn replies(&self) -> String {
        self.replies.lock().unwrap().clone()
    }

    /// `https://127.0.0.1:port/context`
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}/{}", self.port, self.options.context)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The certificate that the server made for itself.
    pub fn certificate(&self) -> PathBuf {
        self.data().join("tls/certificate.pem")
    }

    fn configuration(&self) -> String {
        let text = |path: PathBuf| Value::String(path.display().to_string()).to_string();
        format!(
            "[server]\nlisten = \"{}\"\ncontext = \"{}\"\ndata_directory = {}\n\
             [stores]\nallowed_directories = [{}]\n\
             [limits]\ndeletion_grace_minutes = {}\n\
             [[component]]\nkind = \"fileStore\"\nname = \"content\"\npath = {}\n{}\n{}\n",
            self.address(),
            self.options.context,
            text(self.data()),
            text(self.stores()),
            self.options.deletion_grace_minutes,
            text(self.content()),
            self.options.component,
            self.options.configuration,
        )
    }

    /// Adds a user; no server may run meanwhile.
    pub fn add_user(&self, username: &str, role: &str, password: &str) {
        let file = self.root().join(format!("password-{username}"));
        fs::write(&file, password).unwrap();
        let (config, file) = (self.config(), file.display().to_string());
        let config = config.display().to_string();
        let arguments = [
            "user",
            "add",
            "--config",
            &config,
            "--username",
            username,
            "--role",
            role,
            "--password-file",
            &file,
        ];
        let output = run(&arguments, &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Starts the server and waits until it answers.
    pub fn start(&self) -> Server<'_> {
        self.start_as(&Launch::default())
    }

    /// The same, in another way than the usual one.
    pub fn start_as(&self, launch: &Launch) -> Server<'_> {
        let mut server = self.launch(launch);
        server.wait_until_ready();
        server
    }

    /// Starts the server and does not wait for anything.
    pub fn launch(&self, launch: &Launch) -> Server<'_> {
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).unwrap();
        let plain = command();
        let mut command = match launch.prefix.split_first() {
            None => plain,
            Some((program, arguments)) => {
                let mut wrapped = Command::new(program);
                wrapped.args(arguments).arg(plain.get_program());
                plain.get_envs().filter(|(_, value)| value.is_none()).for_each(|(name, _)| {
                    wrapped.env_remove(name);
                });
                wrapped.stdin(Stdio::null());
                wrapped
            }
        };
        command.args(["serve", "--config"]).arg(self.config());
        command.env("STRONGROOM_LOG", &self.options.log);
        command.envs(launch.environment.iter().map(|(name, value)| (name, value)));
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Server { site: self, child: command.spawn().unwrap() }
    }

    /// A client of somebody who is not logged in.
    pub fn stranger(&self) -> Client {
        Client::new(&self.certificate(), self.url(), self.replies.clone())
    }

    /// Something that trusts this site's certificate, also speaks plain HTTP, and follows no redirect.
    pub fn browser_agent(&self) -> ureq::Agent {
        crate::client::browser_agent(&self.certificate())
    }

    /// A client of the administrator. The token is the one of the last time as long as it is valid: a server that
    /// was restarted still knows it.
    pub fn client(&self) -> Client {
        let mut token = self.token.lock().unwrap();
        let mut client = self.stranger();
        if let Some(token) = token.as_ref() {
            client.token = Some(token.clone());
            if client.get("admin").is_ok_and(|reply| reply.code() == 0) {
                return client;
            }
            client.token = None;
        }
        client.log_in(ADMIN, PASSWORD);
        token.clone_from(&client.token);
        client
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A connection to this site on which anything can be written, once TLS is agreed on.
pub fn raw_tls(site: &Site) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    install_provider();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(certificate(&site.certificate()).der().to_vec()))?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1")?;
    let stream = TcpStream::connect(site.address())?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream))
}

/// A running server. Dropped, it is killed.
pub struct Server<'a> {
    site: &'a Site,
    child: Child,
}

impl Server<'_> {
    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Waits until it answers; false if it ended instead.
    pub fn answers(&mut self) -> bool {
        wait_for("the server to answer", || {
            if !self.is_alive() {
                return Some(false);
            }
            let key = self.site.data().join("tls/key.pem");
            if !self.site.certificate().exists() || !key.exists() {
                return None;
            }
            let certificate = fs::read(self.site.certificate()).ok()?;
            Certificate::from_pem(&certificate).ok()?;
            let url = format!("https://{}/health/ready", self.site.address());
            let reply = agent(&self.site.certificate()).get(&url).call().ok()?;
            (reply.status() == 200).then_some(true)
        })
    }

    fn wait_until_ready(&mut self) {
        assert!(self.answers(), "the server ended at its start; its log ends:\n{}", tail(&self.site.log()));
    }

    /// The administrator's client.
    pub fn client(&self) -> Client {
        self.site.client()
    }

    /// kill -9, and returns when the process is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end, whatever brings it.
    pub fn wait(&mut self) -> ExitStatus {
        wait_for("the server to end", || self.child.try_wait().unwrap())
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log.
pub fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Sends bytes to the server's port, without TLS, and returns what comes back until it hangs up.
pub fn send_raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Appends to a file, so that what was there stays.
pub fn append(file: &Path, bytes: &[u8]) {
    File::options().create(true).append(true).open(file).unwrap().write_all(bytes).unwrap();
}
