//! S3 spoken by ourselves, for content that belongs to others.
//!
//! The library below turns keys into paths: it cannot name `a//b` or `folder/`, and a listing that holds one fails. It knows
//! neither tags nor versions nor the service's own copy with a condition. So requests are made here, signed by the library
//! ([`AwsAuthorizer`]), sent by its client, and go through the same loop of attempts as all others. What their answers
//! hold is read by `headers` and `xml`; `content` says which requests a call is, `upload` makes an object of parts.

mod content;
mod headers;
mod upload;
mod xml;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::StreamExt;
use object_store::PutPayload;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::Signer;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::answer::{Meaning, Verb};
use super::retry::{Attempts, Failure, Refusal, cause};
use super::wire::Connector;
use super::{ObjectPlace, ObjectStorage, build, collect};
use crate::{Error, ErrorKind, Result};
use headers::encoded;

/// An answer that describes something is not longer.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// A bucket of an S3 service.
#[derive(Clone)]
pub(super) struct S3Content {
    shared: Arc<Shared>,
}

struct Shared {
    /// Its limits and attempts are ours too.
    storage: ObjectStorage,
    bucket: String,
    client: HttpClient,
    signer: AmazonS3,
    region: String,
    /// `https://host/bucket/`, once the library has said it.
    base: OnceLock<String>,
}

/// A request, before it is signed.
#[derive(Clone)]
struct Asked {
    verb: Verb,
    operation: &'static str,
    method: Method,
    /// The whole key; empty for the bucket itself.
    key: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(String, String)>,
    body: PutPayload,
    /// So many bytes are expected at most.
    size_max: u64,
    /// So many bytes are moved by the service itself.
    moved: u64,
    /// What a good answer holds: a service that fails late has begun with a good status.
    proof: &'static str,
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl S3Content {
    pub(super) fn open(place: &ObjectPlace) -> Result<Self> {
        let fail = |why: String| Error::new(ErrorKind::Invalid, "open", "", &place.to_string(), why);
        let build::S3 { signer, options, trusted, region } = build::s3_parts(place).map_err(fail)?;
        let client = Connector::new(place, trusted).connect(&options).map_err(|e| fail(e.to_string()))?;
        let shared = Shared {
            storage: ObjectStorage::with_backend(Arc::new(signer.clone()), place),
            bucket: place.bucket.clone(),
            client,
            signer,
            region,
            base: OnceLock::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    fn prefix(&self) -> &str {
        &self.shared.storage.inner.prefix
    }

    fn asked(&self, verb: Verb, operation: &'static str, method: Method, key: &str) -> Asked {
        Asked {
            verb,
            operation,
            method,
            key: format!("{}{key}", self.prefix()),
            query: Vec::new(),
            headers: Vec::new(),
            body: PutPayload::new(),
            size_max: DOCUMENT_BYTES_MAX,
            moved: 0,
            proof: "",
        }
    }

    /// The same for the bucket itself.
    fn asked_of_bucket(&self, verb: Verb, operation: &'static str) -> Asked {
        Asked { key: String::new(), ..self.asked(verb, operation, Method::GET, "") }
    }

    fn send(&self, asked: Asked) -> Result<Answered> {
        let name = asked.key.strip_prefix(self.prefix()).unwrap_or(&asked.key).to_owned();
        let operation = asked.operation;
        let storage = &self.shared.storage;
        if asked.key.split('/').any(|part| part == "." || part == "..") {
            let reason = "a part of its key is . or .., which no address can hold; rename it";
            return Err(storage.error(ErrorKind::Invalid, operation, &name, reason));
        }
        let shared = Arc::clone(&self.shared);
        let outcome = storage.run(operation, &name, async move {
            let inner = &shared.storage.inner;
            let (up, down) = (
                asked.body.content_length() as u64,
                if asked.verb == Verb::Read { asked.size_max } else { 0 },
            );
            inner.limiter.upload(up).await;
            let attempts = Attempts::new(inner, asked.verb, up.max(down).max(asked.moved));
            let answered = attempts.run(|| shared.attempt(&asked)).await?;
            inner.limiter.download(answered.body.len() as u64).await;
            Ok::<_, Refusal>(answered)
        })?;
        outcome.map_err(|refusal| storage.refused(operation, &name, refusal))
    }

    /// The same for what may be gone already.
    fn send_or_gone(&self, asked: Asked) -> Result<()> {
        match self.send(asked) {
            Err(e) if e.kind != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn error(&self, kind: ErrorKind, operation: &'static str, key: &str, reason: impl Into<String>) -> Error {
        self.shared.storage.error(kind, operation, key, reason)
    }

    /// Sends what has an answer in XML.
    fn ask<T: serde::de::DeserializeOwned>(&self, asked: Asked) -> Result<T> {
        let operation = asked.operation;
        let key = asked.key.strip_prefix(self.prefix()).unwrap_or_default().to_owned();
        let answered = self.send(asked)?;
        xml::read(&answered.body).map_err(|why| self.error(ErrorKind::Io, operation, &key, why))
    }
}

impl Shared {
    async fn attempt(&self, asked: &Asked) -> Result<Answered, Failure> {
        let credential = self.signer.credentials().get_credential().await?;
        let base = self.base().await?;
        let mut url = format!("{base}{}", encoded(&asked.key, true));
        for (number, (name, value)) in asked.query.iter().enumerate() {
            let before = if number == 0 { '?' } else { '&' };
            url.push_str(&format!("{before}{name}={}", encoded(value, false)));
        }
        let unfit = |what: &str| Failure::decided(Meaning::Invalid, format!("{what} cannot be sent"));
        let mut digest = Sha256::new();
        asked.body.iter().for_each(|part| digest.update(part));
        let mut request = HttpRequest::new(HttpRequestBody::from(asked.body.clone()));
        *request.method_mut() = asked.method.clone();
        *request.uri_mut() = url.parse().map_err(|_| unfit("its key"))?;
        for (name, value) in &asked.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit(name))?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unfit(name.as_str()))?;
            request.headers_mut().insert(name, value);
        }
        AwsAuthorizer::new(&credential, "s3", &self.region)
            .try_authorize(&mut request, Some(&digest.finalize()))?;
        let sent = self.client.execute(request).await;
        let response = sent.map_err(|e| Failure::transport(cause(&e)))?;
        let (parts, body) = response.into_parts();
        let size_max = if parts.status.is_success() { asked.size_max } else { DOCUMENT_BYTES_MAX };
        let stream = body.bytes_stream().map(|piece| piece.map_err(|e| Failure::transport(cause(&e))));
        let too_long = || {
            let reason = "it sent more bytes than were asked for; does something unpack it on the way?";
            Failure::decided(Meaning::Invalid, reason.to_owned())
        };
        let body = collect(&self.storage.inner, stream, size_max, too_long).await?;
        let status = parts.status.as_u16();
        let is_proven = asked.proof.is_empty() || String::from_utf8_lossy(&body).contains(asked.proof);
        if status >= 300 || !is_proven {
            let text = String::from_utf8_lossy(&body).trim_start().chars().take(4096).collect::<String>();
            return Err(object_store::Error::Generic { store: "S3", source: text.into() }.into());
        }
        Ok(Answered { status, headers: parts.headers, body })
    }

    /// What stands before each key: the library knows how regions and endpoints become an address.
    async fn base(&self) -> Result<&str, Failure> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let sample = Path::from("k");
        let signed = self.signer.signed_url(Method::GET, &sample, Duration::from_secs(60)).await?;
        let url = signed.as_str();
        let base = url.split('?').next().and_then(|url| url.strip_suffix('k')).unwrap_or_default();
        Ok(self.base.get_or_init(|| base.to_owned()))
    }
}
