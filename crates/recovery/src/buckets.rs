//! Stores in buckets: what of them is kept where.
//!
//! The row of a store has two parts: [`BucketConnection`], which everybody with a token may see, and the credential, sealed
//! under the master key for that row and opened only to reach the bucket. Nothing of it lies in the store itself.

use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use storage::{Credentials, ObjectOptions, ObjectPlace, Service};
use zeroize::Zeroizing;

use crate::secrets::{MasterKey, Place};
use crate::{Error, ErrorKind, Result};

/// How a bucket is reached, without anything secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BucketConnection {
    /// `S3`, `AZURE_BLOBSTORE` or `GOOGLE_CLOUD_STORAGE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The bucket, or Azure's container.
    pub bucket: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// The region, if one was given.
    pub region: Option<String>,
    /// The service's address, if it is not the provider's own.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path or in the host's name.
    pub path_style: Option<bool>,
    /// Whether an address without TLS was allowed.
    pub allow_http: bool,
    /// PEM certificates that are trusted beside the system's.
    pub ca_pem: Option<String>,
    /// Whose rights are used: `ACCESS-KEY`, `STORAGE-ACCOUNT-KEY`, `USER-ASSIGNED-IDENTITY`, `SERVICE-ACCOUNT`,
    /// `IAM-ROLE`.
    pub credential_type: String,
}

/// The credential, as it is sealed.
#[derive(Serialize, Deserialize)]
struct Sealed {
    id: Option<String>,
    secret: Option<String>,
    token: Option<String>,
}

impl Drop for Sealed {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        self.secret.zeroize();
        self.token.zeroize();
    }
}

/// The name of a kind of bucket on the wire.
pub fn kind_of(service: Service) -> &'static str {
    match service {
        Service::S3 => "S3",
        Service::Azure => "AZURE_BLOBSTORE",
        Service::Google => "GOOGLE_CLOUD_STORAGE",
    }
}

impl BucketConnection {
    /// What may be seen of a place.
    pub(crate) fn of(place: &ObjectPlace) -> Self {
        let options = &place.options;
        Self {
            kind: kind_of(place.service).to_owned(),
            bucket: place.bucket.clone(),
            prefix: place.prefix.clone(),
            region: options.region.clone(),
            endpoint: options.endpoint.clone(),
            path_style: options.path_style,
            allow_http: options.allow_http,
            ca_pem: options.ca_pem.clone(),
            credential_type: credential_type(&options.credentials).to_owned(),
        }
    }

    /// The place again, with the credential as it was sealed.
    pub(crate) fn place(&self, credential: &[u8]) -> Result<ObjectPlace> {
        let service = match self.kind.as_str() {
            "S3" => Service::S3,
            "AZURE_BLOBSTORE" => Service::Azure,
            "GOOGLE_CLOUD_STORAGE" => Service::Google,
            other => return Err(broken(&format!("its type '{other}' is unknown"))),
        };
        let options = ObjectOptions {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            path_style: self.path_style,
            allow_http: self.allow_http,
            ca_pem: self.ca_pem.clone(),
            credentials: credentials(&self.credential_type, credential)?,
            ..ObjectOptions::default()
        };
        ObjectPlace::new(service, &self.bucket, &self.prefix, options).map_err(|why| broken(&why))
    }
}

fn broken(why: &str) -> Error {
    Error::new(ErrorKind::Internal, format!("the connection of a store in the state is not valid: {why}"))
}

fn credential_type(credentials: &Credentials) -> &'static str {
    match credentials {
        Credentials::Ambient => "IAM-ROLE",
        Credentials::AccessKey { .. } => "ACCESS-KEY",
        Credentials::AccountKey { .. } => "STORAGE-ACCOUNT-KEY",
        Credentials::ManagedIdentity { .. } => "USER-ASSIGNED-IDENTITY",
        Credentials::ServiceAccount(_) => "SERVICE-ACCOUNT",
    }
}

/// The credential as text, to be sealed; it is wiped when dropped.
pub(crate) fn credential_text(credentials: &Credentials) -> Result<Zeroizing<Vec<u8>>> {
    let some = |secret: &secrecy::SecretString| Some(secret.expose_secret().to_owned());
    let sealed = match credentials {
        Credentials::Ambient => Sealed { id: None, secret: None, token: None },
        Credentials::AccessKey { id, secret, session_token } => Sealed {
            id: Some(id.clone()),
            secret: some(secret),
            token: session_token.as_ref().and_then(some),
        },
        Credentials::AccountKey { account, key } => {
            Sealed { id: Some(account.clone()), secret: some(key), token: None }
        }
        Credentials::ManagedIdentity { account, client_id } => {
            Sealed { id: Some(account.clone()), secret: None, token: client_id.clone() }
        }
        Credentials::ServiceAccount(key) => Sealed { id: None, secret: some(key), token: None },
    };
    let text = serde_json::to_vec(&sealed)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("a credential cannot be written down: {e}")))?;
    Ok(Zeroizing::new(text))
}

fn credentials(kind: &str, text: &[u8]) -> Result<Credentials> {
    let mut sealed: Sealed =
        serde_json::from_slice(text).map_err(|_| broken("its credential cannot be read"))?;
    let (id, secret, token) = (sealed.id.take(), sealed.secret.take(), sealed.token.take());
    match (kind, id, secret) {
        ("IAM-ROLE", ..) => Ok(Credentials::Ambient),
        ("ACCESS-KEY", Some(id), Some(secret)) => {
            Ok(Credentials::AccessKey { id, secret: secret.into(), session_token: token.map(Into::into) })
        }
        ("STORAGE-ACCOUNT-KEY", Some(account), Some(key)) => {
            Ok(Credentials::AccountKey { account, key: key.into() })
        }
        ("USER-ASSIGNED-IDENTITY", Some(account), _) => {
            Ok(Credentials::ManagedIdentity { account, client_id: token })
        }
        ("SERVICE-ACCOUNT", _, Some(key)) => Ok(Credentials::ServiceAccount(key.into())),
        _ => Err(broken("its credential is not of its type")),
    }
}

/// Where the credential of a store lies.
fn credential_place(name: &str) -> Place<'_> {
    Place { table: "stores", row: name, column: "credential" }
}

/// Seals a credential for the row of a store.
pub(crate) fn seal(key: &MasterKey, store: &str, credentials: &Credentials) -> Result<Vec<u8>> {
    key.seal(credential_place(store), &credential_text(credentials)?)
}

/// The bucket of a store's row.
pub(crate) fn open(
    key: &MasterKey,
    store: &str,
    connection: &BucketConnection,
    sealed: &[u8],
) -> Result<ObjectPlace> {
    connection.place(&key.open(credential_place(store), sealed)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_from_its_row_and_its_public_part_holds_no_secret() {
        for (service, credentials) in [
            (
                Service::S3,
                Credentials::AccessKey {
                    id: "AKIA".to_owned(),
                    secret: "planted".to_owned().into(),
                    session_token: Some("planted too".to_owned().into()),
                },
            ),
            (Service::S3, Credentials::Ambient),
            (
                Service::Azure,
                Credentials::AccountKey { account: "a".to_owned(), key: "planted".to_owned().into() },
            ),
            (
                Service::Azure,
                Credentials::ManagedIdentity { account: "a".to_owned(), client_id: Some("c".to_owned()) },
            ),
            (Service::Google, Credentials::ServiceAccount("planted".to_owned().into())),
        ] {
            let options = ObjectOptions {
                endpoint: Some("https://host".to_owned()),
                region: Some("r".to_owned()),
                credentials,
                ..ObjectOptions::default()
            };
            let place = ObjectPlace::new(service, "bucket", "a/b", options).unwrap();
            let connection = BucketConnection::of(&place);
            let shown = format!("{} {connection:?} {place:?}", serde_json::to_string(&connection).unwrap());
            assert!(!shown.contains("planted"), "{shown}");
            let text = credential_text(&place.options.credentials).unwrap();
            let again = connection.place(&text).unwrap();
            assert_eq!(BucketConnection::of(&again), connection);
            assert_eq!(*credential_text(&again.options.credentials).unwrap(), *text);
        }
    }
}
