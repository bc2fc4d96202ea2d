//! Which bucket of which service, how it is reached, and with whose rights.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use crate::AddressRule;

/// The kind of a service: what it answers means different things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Amazon S3, and whatever speaks its language.
    S3,
    /// Azure Blob Storage.
    Azure,
    /// Google Cloud Storage.
    Google,
}

impl Service {
    /// The scheme of its URLs.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::Azure => "azblob",
            Self::Google => "gs",
        }
    }
}

/// Whose rights are used.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Those that are at hand: the environment, a profile, web identity, the machine's role.
    #[default]
    Ambient,
    /// A key pair of S3.
    AccessKey {
        /// `AKIA…`
        id: String,
        /// The secret half.
        secret: SecretString,
        /// Of temporary credentials.
        session_token: Option<SecretString>,
    },
    /// The key of an Azure storage account.
    AccountKey {
        /// The storage account.
        account: String,
        /// Its key.
        key: SecretString,
    },
    /// The JSON text of a Google service account.
    ServiceAccount(SecretString),
    /// An identity of an Azure virtual machine for a storage account.
    ManagedIdentity {
        /// The storage account.
        account: String,
        /// The identity; absent for the machine's own.
        client_id: Option<String>,
    },
}

/// How a service is reached.
#[derive(Clone, Debug, Default)]
pub struct ObjectOptions {
    /// Its address, such as `https://minio.example.org:9000`; the provider's own if absent.
    pub endpoint: Option<String>,
    /// The region; from the environment, or `us-east-1`, if absent.
    pub region: Option<String>,
    /// Whether the bucket stands in the path (`true`) or in the host's name. Absent: in the path.
    pub path_style: Option<bool>,
    /// Whether an address without TLS is fine. On loopback it always is.
    pub allow_http: bool,
    /// PEM certificates that are trusted beside the system's.
    pub ca_file: Option<PathBuf>,
    /// The same as text.
    pub ca_pem: Option<String>,
    /// Whose rights are used.
    pub credentials: Credentials,
    /// Where connections may go; absent: anywhere.
    pub addresses: Option<Arc<AddressRule>>,
    /// How much at once, and for how long.
    pub limits: Limits,
}

/// How much is asked of a service at once, and for how long it is waited for.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Requests at the same time.
    pub parallel: usize,
    /// Bytes sent in a second, if limited.
    pub upload_bytes_per_second: Option<u64>,
    /// Bytes fetched in a second, if limited.
    pub download_bytes_per_second: Option<u64>,
    /// A service that is silent for so long has failed that attempt.
    pub silence: Duration,
    /// All attempts of one call end within this time; large bodies get more by their size.
    pub deadline: Duration,
    /// Attempts of one call.
    pub attempts: u32,
    /// A service copies what is twice as long in parts of so much, at least 5 MiB. It could take more at once; but many say
    /// nothing until they are done.
    pub copy_part_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parallel: 16,
            upload_bytes_per_second: None,
            download_bytes_per_second: None,
            silence: Duration::from_secs(20),
            deadline: Duration::from_secs(180),
            attempts: 10,
            copy_part_bytes: 128 << 20,
        }
    }
}

/// A bucket, or the part of it below a prefix.
#[derive(Clone, Debug)]
pub struct ObjectPlace {
    /// The kind of service.
    pub service: Service,
    /// The bucket, or Azure's container.
    pub bucket: String,
    /// Without slashes at its ends; may be empty.
    pub prefix: String,
    /// How it is reached.
    pub options: ObjectOptions,
}

/// An URL without secrets, as people write it.
impl fmt::Display for ObjectPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.service.scheme();
        match self.options.endpoint.as_deref() {
            Some(endpoint) => write!(f, "{scheme}:{}/{}", endpoint.trim_end_matches('/'), self.bucket)?,
            None => write!(f, "{scheme}://{}", self.bucket)?,
        }
        if self.prefix.is_empty() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}
