//! Requests of our own: made here, signed by the library, sent by its client, and tried again like all others.

use std::sync::Arc;

use futures_util::StreamExt;
use object_store::PutPayload;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use super::headers::encoded;
use super::sign::Signer;
use super::xml;
use crate::object::answer::{Meaning, Verb};
use crate::object::retry::{Attempts, Failure, Refusal, cause};
use crate::object::wire::Connector;
use crate::object::{Inner, ObjectPlace, ObjectStorage, build, collect};
use crate::{Error, ErrorKind, Result};

/// An answer that describes something is not longer.
/// Where Azure tells an error's code too.
const ERROR_CODE: &str = "x-ms-error-code";
pub(in crate::object) const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

/// The way to a bucket.
#[derive(Clone)]
pub(in crate::object) struct Line {
    shared: Arc<Shared>,
}

struct Shared {
    /// Its limits and attempts are ours too.
    storage: ObjectStorage,
    bucket: String,
    client: HttpClient,
    signer: Signer,
}

/// A request, before it is signed.
#[derive(Clone)]
pub(in crate::object) struct Asked {
    pub(in crate::object) verb: Verb,
    pub(in crate::object) operation: &'static str,
    pub(in crate::object) method: Method,
    /// The whole key; empty for the bucket itself.
    pub(in crate::object) key: String,
    pub(in crate::object) query: Vec<(&'static str, String)>,
    pub(in crate::object) headers: Vec<(String, String)>,
    pub(in crate::object) body: PutPayload,
    /// So many bytes are expected at most.
    pub(in crate::object) size_max: u64,
    /// So many bytes are moved by the service itself.
    pub(in crate::object) moved: u64,
    /// What a good answer holds: a service that fails late has begun with a good status.
    pub(in crate::object) proof: &'static str,
}

impl Asked {
    pub(in crate::object) fn say(&mut self, name: &str, value: impl Into<String>) {
        self.headers.push((name.to_owned(), value.into()));
    }

    pub(in crate::object) fn query(&mut self, name: &'static str, value: impl Into<String>) {
        self.query.push((name, value.into()));
    }
}

pub(in crate::object) struct Answered {
    pub(in crate::object) status: u16,
    pub(in crate::object) headers: HeaderMap,
    pub(in crate::object) body: Vec<u8>,
}

impl Line {
    pub(in crate::object) fn open(place: &ObjectPlace) -> Result<Self> {
        let fail = |why: String| Error::new(ErrorKind::Invalid, "open", "", &place.to_string(), why);
        let build::Parts { backend, signer, options, trusted } = build::parts(place).map_err(fail)?;
        let client = Connector::new(place, trusted).connect(&options).map_err(|e| fail(e.to_string()))?;
        let storage = ObjectStorage::with_backend(backend, place);
        let shared = Shared { storage, bucket: place.bucket.clone(), client, signer };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(in crate::object) fn inner(&self) -> &Inner {
        &self.shared.storage.inner
    }

    pub(in crate::object) fn bucket(&self) -> &str {
        &self.shared.bucket
    }

    pub(in crate::object) fn prefix(&self) -> &str {
        &self.inner().prefix
    }

    pub(in crate::object) fn asked(
        &self,
        verb: Verb,
        operation: &'static str,
        method: Method,
        key: &str,
    ) -> Asked {
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
    pub(in crate::object) fn asked_of_bucket(&self, verb: Verb, operation: &'static str) -> Asked {
        Asked { key: String::new(), ..self.asked(verb, operation, Method::GET, "") }
    }

    pub(in crate::object) fn send(&self, asked: Asked) -> Result<Answered> {
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
    pub(in crate::object) fn send_or_gone(&self, asked: Asked) -> Result<()> {
        match self.send(asked) {
            Err(e) if e.kind != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    pub(in crate::object) fn error(
        &self,
        kind: ErrorKind,
        operation: &'static str,
        key: &str,
        reason: impl Into<String>,
    ) -> Error {
        self.shared.storage.error(kind, operation, key, reason)
    }

    /// Sends what has an answer that `understand` can read.
    pub(in crate::object) fn ask_for<T>(
        &self,
        asked: Asked,
        understand: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T> {
        let operation = asked.operation;
        let key = asked.key.strip_prefix(self.prefix()).unwrap_or_default().to_owned();
        let answered = self.send(asked)?;
        understand(&answered.body).map_err(|why| self.error(ErrorKind::Io, operation, &key, why))
    }

    /// Sends what has an answer in XML.
    pub(in crate::object) fn ask<T: serde::de::DeserializeOwned>(&self, asked: Asked) -> Result<T> {
        self.ask_for(asked, xml::read)
    }

    /// The address of an object, for the service itself.
    pub(in crate::object) fn address(&self, key: &str) -> Result<String> {
        let (shared, whole) = (Arc::clone(&self.shared), format!("{}{key}", self.prefix()));
        let outcome = self.shared.storage.run("copy", key, async move {
            let address = async || Ok(format!("{}{}", shared.signer.base().await?, encoded(&whole, true)));
            Attempts::new(&shared.storage.inner, Verb::Read, 0).run(address).await
        })?;
        outcome.map_err(|refusal| self.shared.storage.refused("copy", key, refusal))
    }
}

impl Shared {
    async fn attempt(&self, asked: &Asked) -> Result<Answered, Failure> {
        let mut url = format!("{}{}", self.signer.base().await?, encoded(&asked.key, true));
        if asked.key.is_empty() && self.signer.names_buckets_bare() {
            url.pop();
        }
        for (number, (name, value)) in asked.query.iter().enumerate() {
            let before = if number == 0 { '?' } else { '&' };
            url.push_str(&format!("{before}{name}={}", encoded(value, false)));
        }
        let unfit = |what: &str| Failure::decided(Meaning::Invalid, format!("{what} cannot be sent"));
        let mut request = HttpRequest::new(HttpRequestBody::from(asked.body.clone()));
        *request.method_mut() = asked.method.clone();
        *request.uri_mut() = url.parse().map_err(|_| unfit("its key"))?;
        for (name, value) in &asked.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit(name))?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unfit(name.as_str()))?;
            request.headers_mut().insert(name, value);
        }
        let parts: Vec<&[u8]> = asked.body.iter().map(AsRef::as_ref).collect();
        self.signer.sign(&mut request, &parts).await?;
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
            let mut text = String::from_utf8_lossy(&body).trim_start().chars().take(4096).collect::<String>();
            // The answer to a look has no body.
            let code = parts.headers.get(ERROR_CODE).and_then(|code| code.to_str().ok());
            if let Some(code) = code.filter(|_| !text.contains("<Code>")) {
                text = format!("<Code>{code}</Code>{text}");
            }
            let store = self.signer.service();
            return Err(object_store::Error::Generic { store, source: text.into() }.into());
        }
        Ok(Answered { status, headers: parts.headers, body })
    }
}
