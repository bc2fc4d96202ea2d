//! Where a service's objects are, and how a request shows that it may be made.

use std::sync::OnceLock;
use std::time::Duration;

use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::azure::{AzureAuthorizer, AzureCredential, AzureCredentialProvider};
use object_store::client::HttpRequest;
use object_store::gcp::GcpCredentialProvider;
use object_store::path::Path;
use object_store::signer::Signer as _;
use reqwest::Method;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderValue};
use sha2::{Digest, Sha256};

use crate::object::answer::Meaning;
use crate::object::retry::Failure;

/// The rights of a place, as the library has them.
pub(in crate::object) enum Signer {
    S3 {
        store: AmazonS3,
        region: String,
        /// `https://host/bucket/`, once the library has said it.
        base: OnceLock<String>,
    },
    Azure {
        credentials: AzureCredentialProvider,
        account: String,
        /// `https://host/container/`
        base: String,
    },
    Google {
        credentials: GcpCredentialProvider,
        /// `https://host/bucket/`
        base: String,
    },
}

/// Asked for by [`COPY_SOURCE`], a copy reads with the rights that stand in the address.
const COPY_SOURCE: &str = "x-ms-copy-source";

impl Signer {
    /// For people.
    pub(super) fn service(&self) -> &'static str {
        match self {
            Self::S3 { .. } => "S3",
            Self::Azure { .. } => "Azure",
            Self::Google { .. } => "Google",
        }
    }

    /// Whether the address of the bucket itself ends without a slash.
    pub(super) fn names_buckets_bare(&self) -> bool {
        matches!(self, Self::Azure { .. })
    }

    /// What stands before each key.
    pub(super) async fn base(&self) -> Result<&str, Failure> {
        let (store, known) = match self {
            Self::S3 { store, base, .. } => (store, base),
            Self::Azure { base, .. } | Self::Google { base, .. } => return Ok(base),
        };
        if let Some(base) = known.get() {
            return Ok(base);
        }
        // The library knows how regions and endpoints become an address.
        let sample = Path::from("k");
        let signed = store.signed_url(Method::GET, &sample, Duration::from_secs(60)).await?;
        let url = signed.as_str();
        let base = url.split('?').next().and_then(|url| url.strip_suffix('k')).unwrap_or_default();
        Ok(known.get_or_init(|| base.to_owned()))
    }

    /// Signs a request that is whole.
    pub(super) async fn sign(&self, request: &mut HttpRequest, parts: &[&[u8]]) -> Result<(), Failure> {
        match self {
            Self::S3 { store, region, .. } => {
                let credential = store.credentials().get_credential().await?;
                let mut digest = Sha256::new();
                parts.iter().for_each(|part| digest.update(part));
                AwsAuthorizer::new(&credential, "s3", region)
                    .try_authorize(request, Some(&digest.finalize()))?;
            }
            Self::Azure { credentials, account, .. } => {
                let credential = credentials.get_credential().await?;
                tell_length(request, parts);
                match &*credential {
                    AzureCredential::AccessKey(_) => check_letters(request)?,
                    AzureCredential::SASToken(pairs) => read_with(request, pairs)?,
                    // The library takes it for granted that it can be sent.
                    AzureCredential::BearerToken(token) => {
                        HeaderValue::from_str(token).map_err(|_| unfit("its token".to_owned()))?;
                    }
                }
                AzureAuthorizer::new(&credential, account).try_authorize(request)?;
            }
            Self::Google { credentials, .. } => {
                tell_length(request, parts);
                let bearer = &credentials.get_credential().await?.bearer;
                // Only a double for tests asks for none.
                if !bearer.is_empty() {
                    let value = HeaderValue::from_str(&format!("Bearer {bearer}"));
                    let mut value = value.map_err(|_| unfit("its token".to_owned()))?;
                    value.set_sensitive(true);
                    request.headers_mut().insert(AUTHORIZATION, value);
                }
            }
        }
        Ok(())
    }
}

fn unfit(what: String) -> Failure {
    Failure::decided(Meaning::Invalid, format!("{what} cannot be sent to this service"))
}

/// Said also where there is no body, as services ask for it that have no use for one.
fn tell_length(request: &mut HttpRequest, parts: &[&[u8]]) {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The library takes it for granted that it can sign all headers, and the address.
fn check_letters(request: &HttpRequest) -> Result<(), Failure> {
    if let Some((name, _)) = request.headers().iter().find(|(_, value)| value.to_str().is_err()) {
        return Err(unfit(format!("its header {name}, which holds letters beyond ASCII,")));
    }
    match url::Url::parse(&request.uri().to_string()) {
        Ok(_) => Ok(()),
        Err(_) => Err(unfit("its key".to_owned())),
    }
}

/// A signature that stands in an address is told for the source of a copy too.
fn read_with(request: &mut HttpRequest, pairs: &[(String, String)]) -> Result<(), Failure> {
    let Some(source) = request.headers().get(COPY_SOURCE).and_then(|source| source.to_str().ok()) else {
        return Ok(());
    };
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    let source = HeaderValue::from_str(&format!("{source}?{query}"));
    let mut source = source.map_err(|_| unfit("the source of a copy".to_owned()))?;
    source.set_sensitive(true);
    request.headers_mut().insert(COPY_SOURCE, source);
    Ok(())
}
