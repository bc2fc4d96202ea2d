//! The way to a PostgreSQL server: connections of ours and the server's own tools, with the same address, log-in and
//! encryption. The password is read anew for each and never becomes an argument.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use postgres::config::{Host, SslMode};
use postgres::{Client, Config, NoTls};
use rustls::pki_types::pem::PemObject;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::failure;
use crate::process;
use crate::{Error, ErrorKind, Result};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const DEFAULT_PORT: u16 = 5432;
/// How a connection of ours names itself in the server's views.
const APPLICATION: &str = "strongroom";

/// Where a password comes from.
#[derive(Clone, Debug)]
pub enum Password {
    /// The first line of this file, read for each connection, so that it may be changed.
    File(PathBuf),
    /// This one.
    Value(SecretString),
}

/// How to reach a server.
#[derive(Clone, Debug)]
pub(super) struct Server {
    config: Config,
    password: Option<Password>,
    /// Certificates of authorities that may vouch for the server; else those of the system.
    ca_file: Option<PathBuf>,
    encrypted: bool,
    host: String,
    port: u16,
    user: String,
    database: String,
}

impl Server {
    /// From `postgres://user@host:port/database`. Neither password nor several hosts may stand in it. The server's
    /// certificate is always checked, unless the way leads over a socket, to this machine itself, or `sslmode=disable` is given.
    pub(super) fn new(
        url: &str,
        password: Option<Password>,
        ca_file: Option<PathBuf>,
    ) -> Result<Self, String> {
        let config = Config::from_str(url).map_err(|e| {
            let reason = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
            format!("url is not like postgres://user@host:5432/: {reason}")
        })?;
        if config.get_password().is_some() {
            return Err("url holds a password; give it as password_file or password_env".to_owned());
        }
        let host = match config.get_hosts() {
            [Host::Tcp(host)] => host.clone(),
            #[cfg(unix)]
            [Host::Unix(path)] => path.display().to_string(),
            [] => return Err("url names no host".to_owned()),
            _ => return Err("url names several hosts; name the one to back up".to_owned()),
        };
        let user = config.get_user().ok_or("url names no user")?.to_owned();
        let local = host.starts_with('/') || matches!(host.as_str(), "localhost" | "127.0.0.1" | "::1");
        let encrypted = match config.get_ssl_mode() {
            SslMode::Disable => false,
            SslMode::Require => !host.starts_with('/'),
            _ => !local || ca_file.is_some(),
        };
        let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
        let database = config.get_dbname().unwrap_or("postgres").to_owned();
        Ok(Self { config, password, ca_file, encrypted, host, port, user, database })
    }

    /// Like `postgres://user@host:port/`.
    pub(super) fn address(&self) -> String {
        format!("postgres://{}@{}:{}/", self.user, self.host, self.port)
    }

    /// The database that is spoken to about the others.
    pub(super) fn maintenance(&self) -> &str {
        &self.database
    }

    fn password(&self) -> Result<Option<SecretString>> {
        match &self.password {
            None => Ok(None),
            Some(Password::Value(value)) => Ok(Some(value.clone())),
            Some(Password::File(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|e| Error::io(format!("cannot read the password file {}", path.display()), e))?;
                Ok(Some(SecretString::from(text.lines().next().unwrap_or_default())))
            }
        }
    }

    /// Connects to a database, with settings under which content is written and read in one way alone.
    pub(super) fn connect(&self, database: &str) -> Result<Client> {
        let mut config = self.config.clone();
        config.dbname(database).application_name(APPLICATION).connect_timeout(CONNECT_TIMEOUT);
        config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(120));
        if let Some(password) = self.password()? {
            config.password(password.expose_secret());
        }
        let what = format!("cannot connect to the database '{database}' at {}", self.address());
        // A server that accepts and then says nothing would keep us for ever: the library limits the first step alone.
        let tls = if self.encrypted { Some(self.tls()?) } else { None };
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let connected = match tls {
                Some(tls) => config.ssl_mode(SslMode::Require).connect(tls),
                None => config.ssl_mode(SslMode::Disable).connect(NoTls),
            };
            let _ =
                send.send(connected.and_then(|mut client| client.batch_execute(SESSION).map(|()| client)));
        });
        match receive.recv_timeout(2 * CONNECT_TIMEOUT) {
            Ok(connected) => connected.map_err(|e| failure::server(what, &e)),
            Err(_) => {
                let seconds = 2 * CONNECT_TIMEOUT.as_secs();
                Err(Error::new(ErrorKind::Io, format!("{what}: it did not answer within {seconds} s")))
            }
        }
    }

    fn tls(&self) -> Result<MakeRustlsConnect> {
        let mut roots = rustls::RootCertStore::empty();
        let fail = |why: String| {
            Error::new(ErrorKind::Io, format!("cannot encrypt the way to {}: {why}", self.address()))
        };
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .map_err(|e| fail(e.to_string()))?;
        let config = match &self.ca_file {
            Some(path) => {
                let bad = |e: String| fail(format!("the file of authorities {}: {e}", path.display()));
                let pem = std::fs::read(path).map_err(|e| bad(e.to_string()))?;
                for certificate in rustls::pki_types::CertificateDer::pem_slice_iter(&pem) {
                    let certificate = certificate.map_err(|e| bad(e.to_string()))?;
                    roots.add(certificate).map_err(|e| bad(e.to_string()))?;
                }
                if roots.is_empty() {
                    return Err(bad("it holds no certificate".to_owned()));
                }
                builder.with_root_certificates(roots).with_no_client_auth()
            }
            None => {
                use rustls_platform_verifier::BuilderVerifierExt;
                builder.with_platform_verifier().map_err(|e| fail(e.to_string()))?.with_no_client_auth()
            }
        };
        Ok(MakeRustlsConnect::new(config))
    }

    /// A tool of the server's, ready to be given arguments: it finds the server, and nothing of our environment.
    pub(super) fn tool(&self, program: &Path, database: &str) -> Result<Command> {
        let mut command = Command::new(program);
        command.env_clear();
        for key in ["PATH", "TZ", "TMPDIR"] {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        command
            .current_dir("/")
            // What they say is looked at.
            .env("LC_ALL", "C")
            .env("PGOPTIONS", TOOL_OPTIONS)
            .env("PGHOST", &self.host)
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", &self.user)
            .env("PGDATABASE", database)
            .env("PGPASSFILE", "/dev/null")
            .env("PGSERVICEFILE", "/dev/null")
            .env("PGAPPNAME", APPLICATION)
            .env("PGCONNECT_TIMEOUT", CONNECT_TIMEOUT.as_secs().to_string());
        match (self.encrypted, &self.ca_file) {
            (false, _) => command.env("PGSSLMODE", "disable"),
            (true, Some(path)) => command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", path),
            (true, None) => command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", system_roots()),
        };
        if let Some(password) = self.password()? {
            command.env("PGPASSWORD", password.expose_secret());
        }
        Ok(command)
    }
}

impl Server {
    /// The same for one that ends when we do, however that comes: it is run with [`super::tools::run_guarded`].
    pub(super) fn guarded_tool(&self, program: &Path, database: &str) -> Result<Command> {
        let mut command = self.tool(Path::new(process::SHELL), database)?;
        command.args(["-c", process::GUARD, "TERM"]).arg(program);
        Ok(command)
    }
}

/// A tool may wait for long until somebody reads what it writes.
pub(super) const TOOL_OPTIONS: &str = "-c tcp_keepalives_idle=30";

/// Where systems keep their authorities; libpq knows the word `system` only since 16.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn system_roots() -> &'static str {
    SYSTEM_ROOTS.into_iter().find(|path| Path::new(path).is_file()).unwrap_or(SYSTEM_ROOTS[0])
}

/// As `pg_dump` sets it. Without time limits: a backup may take long, and waits for a lock end by `lock_timeout`. Views and
/// foreign tables of users are not read, as their owners' code would run with our rights; not every release knows this.
const SESSION: &str = "SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET timezone = 'UTC'; \
     SET bytea_output = hex; SET xmloption = content; SET search_path = pg_catalog; SET row_security = off; SET statement_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '30s'; SET synchronize_seqscans = off; SET quote_all_identifiers = off; \
     SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'; \
     SELECT set_config(name, 'view, foreign-table', false) FROM pg_settings WHERE name = 'restrict_nonsystem_relation_kind'";

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        Server::new(url, None, None).unwrap_err()
    }

    #[test]
    fn an_address_names_one_host_and_a_user_and_never_a_password() {
        assert!(refusal("postgres://backup:secret@db/").contains("password_file"));
        assert!(!refusal("postgres://backup:secret@db/").contains("secret@"));
        assert!(refusal("postgres://backup@one,two/").contains("several hosts"));
        assert!(refusal("postgres://db/").contains("no user"));
        assert!(refusal("mysql://a@b/").contains("postgres://"));
        let server = Server::new("postgres://backup@db.example.org/", None, None).unwrap();
        assert_eq!(server.address(), "postgres://backup@db.example.org:5432/");
        assert_eq!(server.maintenance(), "postgres");
    }

    #[test]
    fn whoever_is_not_on_this_machine_is_spoken_to_in_secret() {
        let encrypted = |url: &str| Server::new(url, None, None).unwrap().encrypted;
        assert!(encrypted("postgres://backup@db.example.org/"));
        assert!(encrypted("postgres://backup@127.0.0.1/?sslmode=require"));
        assert!(!encrypted("postgres://backup@127.0.0.1/"));
        assert!(!encrypted("postgres://backup@%2Fvar%2Frun%2Fpostgresql/"));
        assert!(!encrypted("postgres://backup@db.example.org/?sslmode=disable"));
    }
}
