//! S3 spoken by ourselves, for content that belongs to others.
//!
//! The library below turns keys into paths: it cannot name `a//b` or `folder/`, and a listing that holds one fails. It knows
//! neither tags nor versions nor the service's own copy with a condition. So requests are made here, signed by the library
//! ([`AwsAuthorizer`]), sent by its client, and go through the same loop of attempts as all others. What their answers
//! hold is read by `xml`.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponseBody};
use object_store::path::Path;
use object_store::signer::Signer;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::{Instant, timeout_at};

use super::answer::{Meaning, Verb};
use super::retry::{Attempts, Failure, Refusal, SLOWEST_BYTES_PER_SECOND};
use super::wire::Connector;
use super::{ObjectPlace, ObjectStorage, build, xml};
use crate::{Content, ContentEntry, ContentRead, ContentVersion, Error, ErrorKind, Headers, Result, Upload};

/// An answer that describes something is not longer.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// Objects up to here are copied by one request; S3 refuses more.
const COPY_BYTES_MAX: u64 = 5 << 30;
/// A larger one is copied in parts of so much.
const COPY_PART_BYTES: u64 = 1 << 30;
const METADATA: &str = "x-amz-meta-";

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
    body: Vec<u8>,
    /// So many bytes are expected at most.
    size_max: u64,
}

struct Answered {
    headers: HeaderMap,
    body: Vec<u8>,
}

impl S3Content {
    pub(super) fn open(place: &ObjectPlace) -> Result<Self> {
        let fail = |why: String| Error::new(ErrorKind::Invalid, "open", "", &place.to_string(), why);
        let build::S3 { signer, options, trusted, region } = build::s3_parts(place).map_err(fail)?;
        let client = Connector::new(place, trusted).connect(&options).map_err(|e| fail(e.to_string()))?;
        let shared = Shared {
            storage: ObjectStorage::open(place)?,
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
            body: Vec::new(),
            size_max: DOCUMENT_BYTES_MAX,
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
            let (up, down) =
                (asked.body.len() as u64, if asked.verb == Verb::Read { asked.size_max } else { 0 });
            inner.limiter.upload(up).await;
            let attempts = Attempts::new(inner, asked.verb, up.max(down));
            let answered = attempts.run(|| shared.attempt(&asked)).await?;
            inner.limiter.download(answered.body.len() as u64).await;
            Ok::<_, Refusal>(answered)
        })?;
        outcome.map_err(|refusal| storage.refused(operation, &name, refusal))
    }

    /// Sends what has an answer in XML.
    fn ask<T: serde::de::DeserializeOwned>(&self, asked: Asked) -> Result<T> {
        let (operation, key) = (asked.operation, asked.key.clone());
        let answered = self.send(asked)?;
        xml::read(&answered.body)
            .map_err(|why| self.shared.storage.error(ErrorKind::Io, operation, &key, why))
    }

    fn page(&self, prefix: &str, token: Option<&str>, keys_max: Option<u32>) -> Result<xml::Listing> {
        let mut asked = self.asked_of_bucket(Verb::List, "list");
        asked.query.push(("list-type", "2".to_owned()));
        asked.query.push(("encoding-type", "url".to_owned()));
        asked.query.push(("prefix", format!("{}{prefix}", self.prefix())));
        asked.query.extend(token.map(|token| ("continuation-token", token.to_owned())));
        asked.query.extend(keys_max.map(|max| ("max-keys", max.to_string())));
        self.ask(asked)
    }

    fn tags(&self, key: &str, version: &ContentVersion) -> Result<Vec<(String, String)>> {
        let mut asked = self.asked(Verb::Read, "read the tags of", Method::GET, key);
        asked.query.push(("tagging", String::new()));
        asked.query.extend(version.number.iter().map(|number| ("versionId", number.clone())));
        let told: xml::Tagging = self.ask(asked)?;
        let mut tags = told.pairs();
        tags.sort();
        Ok(tags)
    }

    fn begin(&self, key: &str, headers: &Headers) -> Result<S3Upload> {
        let mut asked = self.asked(Verb::Create, "begin to write", Method::POST, key);
        asked.query.push(("uploads", String::new()));
        asked.headers = to_send(headers);
        let begun: xml::Begun = self.ask(asked)?;
        Ok(S3Upload { content: self.clone(), key: key.to_owned(), id: begun.upload_id, parts: Vec::new() })
    }

    fn source(&self, key: &str, version: &ContentVersion) -> String {
        let number = version.number.as_ref().map(|number| format!("?versionId={}", encoded(number, false)));
        let path = encoded(&format!("{}{key}", self.prefix()), true);
        format!("/{}/{path}{}", self.shared.bucket, number.unwrap_or_default())
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
        let mut request = HttpRequest::new(HttpRequestBody::from(asked.body.clone()));
        *request.method_mut() = asked.method.clone();
        *request.uri_mut() = url.parse().map_err(|_| unfit("its key"))?;
        for (name, value) in &asked.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit(name))?;
            let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unfit(name.as_str()))?;
            request.headers_mut().insert(name, value);
        }
        AwsAuthorizer::new(&credential, "s3", &self.region).try_authorize(&mut request, None)?;
        let sent = self.client.execute(request).await;
        let response = sent.map_err(|e| Failure::transport(innermost(&e)))?;
        let (parts, body) = response.into_parts();
        let size_max = if parts.status.is_success() { asked.size_max } else { DOCUMENT_BYTES_MAX };
        let body = self.collect(body, size_max).await?;
        // A copy that fails late says so in an answer that began well.
        let begins = &body[..body.len().min(200)];
        if parts.status.as_u16() >= 300
            || (asked.method != Method::GET && String::from_utf8_lossy(begins).contains("<Error>"))
        {
            let text = String::from_utf8_lossy(&body[..body.len().min(4096)]).into_owned();
            return Err(object_store::Error::Generic { store: "S3", source: text.into() }.into());
        }
        Ok(Answered { headers: parts.headers, body })
    }

    /// What stands before each key: the library knows how regions and endpoints become an address.
    async fn base(&self) -> Result<&str, Failure> {
        if let Some(base) = self.base.get() {
            return Ok(base);
        }
        let sample = Path::from("k");
        let signed = self.signer.signed_url(Method::GET, &sample, std::time::Duration::from_secs(60)).await?;
        let url = signed.as_str();
        let base = url.split('?').next().and_then(|url| url.strip_suffix('k')).unwrap_or_default();
        Ok(self.base.get_or_init(|| base.to_owned()))
    }

    /// Reads a body that must neither fall silent nor drip, nor be longer than expected.
    async fn collect(&self, body: HttpResponseBody, size_max: u64) -> Result<Vec<u8>, Failure> {
        let silence = self.storage.inner.limits.silence;
        let end =
            Instant::now() + silence + std::time::Duration::from_secs(size_max / SLOWEST_BYTES_PER_SECOND);
        let mut whole = Vec::new();
        let mut stream = body.bytes_stream();
        loop {
            match timeout_at(end.min(Instant::now() + silence), stream.next()).await {
                Err(_) => {
                    let reason = format!("it sent {} bytes and then no more", whole.len());
                    return Err(Failure::transport(reason));
                }
                Ok(Some(Ok(bytes))) if whole.len() as u64 + bytes.len() as u64 <= size_max => {
                    whole.extend(bytes)
                }
                Ok(Some(Ok(_))) => return Err(Failure::transport("it sent more bytes than were asked for")),
                Ok(Some(Err(e))) => return Err(Failure::transport(innermost(&e))),
                Ok(None) => return Ok(whole),
            }
        }
    }
}

impl fmt::Debug for S3Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Content").field(&self.location()).finish()
    }
}

impl Content for S3Content {
    fn location(&self) -> String {
        self.shared.storage.inner.location.clone()
    }

    fn bucket(&self) -> String {
        self.shared.bucket.clone()
    }

    fn parallelism(&self) -> usize {
        self.shared.storage.inner.limits.parallel
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ContentEntry) -> Result<()>) -> Result<()> {
        let mut token: Option<String> = None;
        loop {
            let page = self.page(prefix, token.as_deref(), None)?;
            let damaged = |why: String| self.shared.storage.error(ErrorKind::Io, "list", prefix, why);
            for entry in page.entries().map_err(damaged)? {
                // The prefix itself, as an object, is none of what lies below it.
                let key = entry.key.strip_prefix(self.prefix()).filter(|key| !key.is_empty());
                if let Some(key) = key.map(str::to_owned) {
                    visit(ContentEntry { key, ..entry })?;
                }
            }
            if !page.is_truncated {
                return Ok(());
            }
            let Some(next) = page.next_continuation_token.filter(|next| Some(next) != token.as_ref()) else {
                return Err(damaged("the service says that there is more, and not where".to_owned()));
            };
            token = Some(next);
        }
    }

    fn has_any(&self, prefix: &str) -> Result<bool> {
        Ok(!self.page(prefix, None, Some(1))?.contents.is_empty())
    }

    fn read(&self, key: &str, range: Option<Range<u64>>, version: &ContentVersion) -> Result<ContentRead> {
        let mut asked = self.asked(Verb::Read, "read", Method::GET, key);
        asked.size_max = range.as_ref().map_or(u64::MAX, |range| range.end - range.start);
        if let Some(range) = &range {
            asked.headers.push(("range".to_owned(), format!("bytes={}-{}", range.start, range.end - 1)));
        }
        asked.headers.extend(version.tag.iter().map(|tag| ("if-match".to_owned(), format!("\"{tag}\""))));
        asked.query.extend(version.number.iter().map(|number| ("versionId", number.clone())));
        let Answered { headers, body } = self.send(asked)?;
        let version = version_of(&headers);
        let told = text(&headers, "content-range").and_then(|told| told.rsplit_once('/')?.1.parse().ok());
        let size = told.unwrap_or(body.len() as u64);
        let whole = range.as_ref().map_or(size, |range| size.min(range.end).saturating_sub(range.start));
        if body.len() as u64 != whole {
            let reason = format!("it sent {} of {whole} bytes", body.len());
            return Err(self.shared.storage.error(ErrorKind::Io, "read", key, reason));
        }
        let mut kept = kept(&headers);
        if text(&headers, "x-amz-tagging-count").is_some_and(|count| count != "0") {
            kept.tags = self.tags(key, &version)?;
        }
        Ok(ContentRead { body, size, version, headers: kept })
    }

    fn look(&self, key: &str) -> Result<Option<(u64, ContentVersion, Headers)>> {
        let answered = match self.send(self.asked(Verb::Read, "look at", Method::HEAD, key)) {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let headers = &answered.headers;
        let size = text(headers, "content-length").and_then(|told| told.parse().ok()).unwrap_or(0);
        let (version, mut kept) = (version_of(headers), kept(headers));
        // Unlike a reading, this does not say whether there are any everywhere.
        kept.tags = self.tags(key, &version)?;
        Ok(Some((size, version, kept)))
    }

    fn write(&self, key: &str, headers: &Headers, body: Vec<u8>) -> Result<()> {
        let mut asked = self.asked(Verb::Create, "write", Method::PUT, key);
        (asked.headers, asked.body) = (to_send(headers), body);
        self.send(asked).map(drop)
    }

    fn upload(&self, key: &str, headers: &Headers) -> Result<Box<dyn Upload>> {
        Ok(Box::new(self.begin(key, headers)?))
    }

    fn copy(&self, from: &str, to: &str, tag: Option<&str>) -> Result<()> {
        let condition = tag.map(|tag| ("x-amz-copy-source-if-match".to_owned(), format!("\"{tag}\"")));
        let missing =
            || self.shared.storage.error(ErrorKind::NotFound, "copy", from, "there is no such object");
        let mut asked = self.asked(Verb::Read, "look at", Method::HEAD, from);
        asked.headers.extend(tag.map(|tag| ("if-match".to_owned(), format!("\"{tag}\""))));
        let told = self.send(asked)?;
        let size = text(&told.headers, "content-length").and_then(|told| told.parse().ok()).unwrap_or(0);
        let version = version_of(&told.headers);
        if size <= COPY_BYTES_MAX {
            let mut asked = self.asked(Verb::Replace, "copy to", Method::PUT, to);
            asked.headers.push(("x-amz-copy-source".to_owned(), self.source(from, &version)));
            asked.headers.extend(condition);
            return self.send(asked).map(drop);
        }
        let (_, _, headers) = self.look(from)?.ok_or_else(missing)?;
        let mut upload = self.begin(to, &headers)?;
        for start in (0..size).step_by(COPY_PART_BYTES as usize) {
            let end = size.min(start + COPY_PART_BYTES);
            upload.copied_part(&self.source(from, &version), start..end, condition.clone())?;
        }
        Box::new(upload).end()
    }

    fn delete(&self, key: &str) -> Result<()> {
        match self.send(self.asked(Verb::Delete, "delete", Method::DELETE, key)) {
            Err(e) if e.kind != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn abort_uploads(&self, prefix: &str) -> Result<u64> {
        let mut count = 0;
        loop {
            let mut asked = self.asked_of_bucket(Verb::List, "list unfinished uploads below");
            asked.query.push(("uploads", String::new()));
            asked.query.push(("prefix", format!("{}{prefix}", self.prefix())));
            let found: xml::Uploads = self.ask(asked)?;
            let uploads: Vec<_> = found
                .uploads
                .iter()
                .filter_map(|upload| Some((upload.key.strip_prefix(self.prefix())?, &upload.upload_id)))
                .filter(|(key, _)| key.starts_with(prefix))
                .collect();
            for (key, id) in &uploads {
                let mut asked = self.asked(Verb::Delete, "give up the upload of", Method::DELETE, key);
                asked.query.push(("uploadId", (*id).clone()));
                match self.send(asked) {
                    Err(e) if e.kind != ErrorKind::NotFound => return Err(e),
                    _ => count += 1,
                }
            }
            if !found.is_truncated || uploads.is_empty() {
                return Ok(count);
            }
        }
    }
}

/// An object in parts.
struct S3Upload {
    content: S3Content,
    key: String,
    id: String,
    /// The tag of each part.
    parts: Vec<String>,
}

impl S3Upload {
    fn asked(&self, operation: &'static str, method: Method) -> Asked {
        let mut asked = self.content.asked(Verb::Replace, operation, method, &self.key);
        asked.query.push(("uploadId", self.id.clone()));
        asked
    }

    fn asked_part(&self) -> Asked {
        let mut asked = self.asked("write a part of", Method::PUT);
        asked.query.push(("partNumber", (self.parts.len() + 1).to_string()));
        asked
    }

    fn copied_part(
        &mut self,
        source: &str,
        range: Range<u64>,
        condition: Option<(String, String)>,
    ) -> Result<()> {
        let mut asked = self.asked_part();
        asked.headers.push(("x-amz-copy-source".to_owned(), source.to_owned()));
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        asked.headers.push(("x-amz-copy-source-range".to_owned(), bytes));
        asked.headers.extend(condition);
        let copied: xml::CopiedPart = self.content.ask(asked)?;
        self.parts.push(copied.tag);
        Ok(())
    }
}

impl Upload for S3Upload {
    fn part(&mut self, body: Vec<u8>) -> Result<()> {
        let mut asked = self.asked_part();
        asked.body = body;
        let answered = self.content.send(asked)?;
        let tag = text(&answered.headers, "etag").ok_or_else(|| {
            let reason = "the service did not say which part it took";
            self.content.shared.storage.error(ErrorKind::Io, "write a part of", &self.key, reason)
        })?;
        self.parts.push(tag);
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<()> {
        let mut asked = self.asked("end the writing of", Method::POST);
        asked.body = xml::parts(&self.parts).into_bytes();
        match self.content.send(asked) {
            // Our own first attempt may have been carried out and its answer lost: then the upload is gone and the object there.
            Err(e) if e.kind == ErrorKind::NotFound && self.content.look(&self.key)?.is_some() => Ok(()),
            other => other.map(drop),
        }
    }
}

/// All but letters, digits and four marks as `%XX`, as the signature wants it; slashes only where they part a path.
fn encoded(text: &str, is_path: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for &byte in text.as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte))
            }
            b'/' if is_path => encoded.push('/'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn version_of(headers: &HeaderMap) -> ContentVersion {
    ContentVersion {
        tag: text(headers, "etag").map(|tag| tag.trim_matches('"').to_owned()),
        number: text(headers, "x-amz-version-id").filter(|number| number != "null"),
    }
}

/// The headers that belong to an object, by the names that they have in requests and answers alike.
fn named(headers: &mut Headers) -> [(&'static str, &mut Option<String>); 7] {
    [
        ("content-type", &mut headers.content_type),
        ("content-encoding", &mut headers.content_encoding),
        ("content-language", &mut headers.content_language),
        ("content-disposition", &mut headers.content_disposition),
        ("cache-control", &mut headers.cache_control),
        ("expires", &mut headers.expires),
        ("x-amz-website-redirect-location", &mut headers.website_redirect),
    ]
}

fn kept(headers: &HeaderMap) -> Headers {
    let mut kept = Headers::default();
    for (name, slot) in named(&mut kept) {
        *slot = text(headers, name);
    }
    for (name, value) in headers {
        if let Some(own) = name.as_str().strip_prefix(METADATA) {
            kept.metadata.push((own.to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()));
        }
    }
    kept.metadata.sort();
    kept
}

fn to_send(headers: &Headers) -> Vec<(String, String)> {
    let mut headers = headers.clone();
    let mut sent: Vec<_> = named(&mut headers)
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value.take()?)))
        .collect();
    sent.extend(headers.metadata.into_iter().map(|(name, value)| (format!("{METADATA}{name}"), value)));
    if !headers.tags.is_empty() {
        let pairs = headers
            .tags
            .iter()
            .map(|(name, value)| format!("{}={}", encoded(name, false), encoded(value, false)));
        sent.push(("x-amz-tagging".to_owned(), pairs.collect::<Vec<_>>().join("&")));
    }
    sent
}

/// The innermost reason, which names no URL.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    if text.contains("://") { "the request could not be made".to_owned() } else { text }
}
