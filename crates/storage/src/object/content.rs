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
use object_store::PutPayload;
use object_store::aws::{AmazonS3, AwsAuthorizer};
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody, HttpResponseBody};
use object_store::path::Path;
use object_store::signer::Signer;
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use super::answer::{Meaning, Verb};
use super::retry::{Attempts, Failure, Refusal, SLOWEST_BYTES_PER_SECOND};
use super::wire::Connector;
use super::{ObjectPlace, ObjectStorage, build, xml};
use crate::{
    Content, ContentEntry, ContentLook, ContentRead, ContentVersion, Error, ErrorKind, Headers, Result,
    Upload,
};

/// An answer that describes something is not longer.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;
/// Objects up to here are copied by one request. S3 takes 5 GiB, but many services say nothing until they are done.
const COPY_BYTES_MAX: u64 = 256 << 20;
/// A larger one is copied in parts of so much, or more if there were too many.
const COPY_PART_BYTES: u64 = 128 << 20;
const COPY_PARTS_MAX: u64 = 9_000;
/// No service has so many pages of unfinished uploads at one prefix.
const UPLOAD_PAGES_MAX: usize = 100;
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

    /// Tags of an object that is there.
    fn tags(&self, key: &str, version: &ContentVersion) -> Result<Vec<(String, String)>> {
        let mut asked = self.asked(Verb::Read, "read the tags of", Method::GET, key);
        asked.query.push(("tagging", String::new()));
        asked.query.extend(version.number.iter().map(|number| ("versionId", number.clone())));
        match self.ask::<xml::Tagging>(asked) {
            Ok(told) => {
                let mut tags = told.pairs();
                tags.sort();
                Ok(tags)
            }
            // Of some services nothing has tags, or nothing is what an object without tags has.
            Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::Invalid) => Ok(Vec::new()),
            Err(e) => Err(e),
        }
    }

    /// What an answer tells of an object of that size; its tags are asked for where there may be some.
    fn told(&self, key: &str, size: u64, headers: &HeaderMap, has_tags: bool) -> ContentLook {
        let (version, mut kept) = (version_of(headers), kept(headers));
        let mut lacking = Vec::new();
        if has_tags {
            match self.tags(key, &version) {
                Ok(tags) => kept.tags = tags,
                Err(e) => lacking.push(format!("its tags could not be read: {}", e.reason)),
            }
        }
        if let Some(count) = text(headers, "x-amz-missing-meta") {
            lacking.push(format!(
                "the service kept {count} of its metadata to itself, as no header can hold them"
            ));
        }
        ContentLook { size, version, headers: kept, lacking }
    }

    fn begin(&self, key: &str, headers: &Headers) -> Result<S3Upload> {
        let mut asked = self.asked(Verb::Create, "begin to write", Method::POST, key);
        asked.query.push(("uploads", String::new()));
        asked.headers = to_send(headers);
        let begun: xml::Begun = self.ask(asked)?;
        Ok(S3Upload { content: self.clone(), key: key.to_owned(), id: begun.upload_id, parts: Vec::new() })
    }

    fn source(&self, key: &str) -> String {
        format!("/{}/{}", self.shared.bucket, encoded(&format!("{}{key}", self.prefix()), true))
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
        let response = sent.map_err(|e| Failure::transport(innermost(&e)))?;
        let (parts, body) = response.into_parts();
        let size_max = if parts.status.is_success() { asked.size_max } else { DOCUMENT_BYTES_MAX };
        let body = self.collect(body, size_max).await?;
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
                Ok(Some(Ok(_))) => {
                    let reason =
                        "it sent more bytes than were asked for; does something unpack it on the way?";
                    return Err(Failure::decided(Meaning::Invalid, reason.to_owned()));
                }
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
                let Some(key) = entry.key.strip_prefix(self.prefix()).filter(|key| key.starts_with(prefix))
                else {
                    let key = entry.key.escape_debug();
                    return Err(damaged(format!("the service lists '{key}', which was not asked for")));
                };
                // The prefix itself, as an object, is none of what lies below it.
                if !key.is_empty() {
                    visit(ContentEntry { key: key.to_owned(), ..entry })?;
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

    fn first(&self, prefix: &str) -> Result<Option<ContentEntry>> {
        // The prefix itself, as an object, may come before it.
        let page = self.page(prefix, None, Some(2))?;
        let damaged = |why: String| self.shared.storage.error(ErrorKind::Io, "list", prefix, why);
        let relative = |entry: ContentEntry| {
            let key = entry.key.strip_prefix(self.prefix())?;
            let key = Some(key.to_owned()).filter(|key| !key.is_empty() && key.starts_with(prefix))?;
            Some(ContentEntry { key, ..entry })
        };
        Ok(page.entries().map_err(damaged)?.into_iter().find_map(relative))
    }

    fn read(&self, key: &str, range: Option<Range<u64>>, version: &ContentVersion) -> Result<ContentRead> {
        let mut asked = self.asked(Verb::Read, "read", Method::GET, key);
        asked.size_max = range.as_ref().map_or(DOCUMENT_BYTES_MAX, |range| range.end - range.start);
        if let Some(range) = &range {
            asked.headers.push(("range".to_owned(), format!("bytes={}-{}", range.start, range.end - 1)));
        }
        asked.headers.extend(version.tag.iter().map(|tag| ("if-match".to_owned(), format!("\"{tag}\""))));
        asked.query.extend(version.number.iter().map(|number| ("versionId", number.clone())));
        let Answered { status, headers, body } = self.send(asked)?;
        let odd = |reason: String| self.shared.storage.error(ErrorKind::Invalid, "read", key, reason);
        let length = body.len() as u64;
        let size = match &range {
            Some(range) if status == 206 => {
                let told =
                    text(&headers, "content-range").and_then(|told| told.rsplit_once('/')?.1.parse().ok());
                let size: u64 =
                    told.ok_or_else(|| odd("the service does not say how long it is".to_owned()))?;
                let expected = size.min(range.end).saturating_sub(range.start);
                if length != expected || length == 0 {
                    return Err(odd(format!("the service sent {length} of {expected} bytes")));
                }
                size
            }
            Some(range) if range.start > 0 => return Err(odd("the service sends no parts of it".to_owned())),
            _ => length,
        };
        let has_tags = text(&headers, "x-amz-tagging-count").is_some_and(|count| count != "0");
        Ok(ContentRead { body, object: self.told(key, size, &headers, has_tags) })
    }

    fn look(&self, key: &str) -> Result<Option<ContentLook>> {
        let answered = match self.send(self.asked(Verb::Read, "look at", Method::HEAD, key)) {
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let size = text(&answered.headers, "content-length").and_then(|told| told.parse().ok());
        let size = size.ok_or_else(|| {
            let reason = "the service does not say how long it is";
            self.shared.storage.error(ErrorKind::Invalid, "look at", key, reason)
        })?;
        // Unlike a reading, this does not say everywhere whether there are tags.
        Ok(Some(self.told(key, size, &answered.headers, true)))
    }

    fn write(&self, key: &str, headers: &Headers, body: Vec<u8>) -> Result<()> {
        let mut asked = self.asked(Verb::Create, "write", Method::PUT, key);
        (asked.headers, asked.body) = (to_send(headers), body.into());
        self.send(asked).map(drop)
    }

    fn upload(&self, key: &str, headers: &Headers) -> Result<Box<dyn Upload>> {
        Ok(Box::new(self.begin(key, headers)?))
    }

    fn copy(&self, from: &str, to: &str, size: u64, tag: Option<&str>) -> Result<()> {
        let condition = tag.map(|tag| ("x-amz-copy-source-if-match".to_owned(), format!("\"{tag}\"")));
        if size <= COPY_BYTES_MAX {
            let mut asked = self.asked(Verb::Replace, "copy to", Method::PUT, to);
            asked.headers.push(("x-amz-copy-source".to_owned(), self.source(from)));
            asked.headers.extend(condition);
            (asked.moved, asked.proof) = (size, "CopyObjectResult");
            return self.send(asked).map(drop);
        }
        let missing =
            || self.shared.storage.error(ErrorKind::NotFound, "copy", from, "there is no such object");
        let found = self.look(from)?.ok_or_else(missing)?;
        let mut upload = Box::new(self.begin(to, &found.headers)?);
        let part_bytes = COPY_PART_BYTES.max(found.size.div_ceil(COPY_PARTS_MAX));
        let mut start = 0;
        while start < found.size {
            let end = found.size.min(start + part_bytes);
            if let Err(e) = upload.copied_part(&self.source(from), start..end, condition.clone()) {
                upload.give_up();
                return Err(e);
            }
            start = end;
        }
        upload.end()
    }

    fn delete(&self, key: &str) -> Result<()> {
        match self.send(self.asked(Verb::Delete, "delete", Method::DELETE, key)) {
            Err(e) if e.kind != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn abort_uploads(&self, prefix: &str) -> Result<()> {
        for _ in 0..UPLOAD_PAGES_MAX {
            let mut asked = self.asked_of_bucket(Verb::List, "list unfinished uploads below");
            asked.query.push(("uploads", String::new()));
            asked.query.push(("prefix", format!("{}{prefix}", self.prefix())));
            let found: xml::Uploads = self.ask(asked)?;
            let key_of = |upload: &xml::OpenUpload| upload.key.strip_prefix(self.prefix()).map(str::to_owned);
            let uploads: Vec<_> = found
                .uploads
                .into_iter()
                .filter_map(|upload| Some((key_of(&upload)?, upload.upload_id)))
                .filter(|(key, _)| key.starts_with(prefix))
                .collect();
            let last = !found.is_truncated || uploads.is_empty();
            for (key, id) in uploads {
                S3Upload { content: self.clone(), key, id, parts: Vec::new() }.abort()?;
            }
            if last {
                break;
            }
        }
        Ok(())
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

    fn abort(&self) -> Result<()> {
        let mut asked = self.content.asked(Verb::Delete, "give up the upload of", Method::DELETE, &self.key);
        asked.query.push(("uploadId", self.id.clone()));
        match self.content.send(asked) {
            Err(e) if e.kind != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// After an error, which is told; what cannot be given up costs room until the bucket's rules remove it.
    fn give_up(&self) {
        if let Err(e) = self.abort() {
            tracing::warn!("{e}");
        }
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
        (asked.moved, asked.proof) = (range.end - range.start, "CopyPartResult");
        let copied: xml::CopiedPart = self.content.ask(asked)?;
        self.parts.push(copied.tag);
        Ok(())
    }
}

impl Upload for S3Upload {
    fn part(&mut self, body: Vec<u8>) -> Result<()> {
        let mut asked = self.asked_part();
        asked.body = body.into();
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
        asked.body = xml::parts(&self.parts).into_bytes().into();
        asked.proof = "CompleteMultipartUploadResult";
        let Err(e) = self.content.send(asked) else { return Ok(()) };
        // Our own first attempt may have been carried out and its answer lost: then the upload is gone and the object there.
        let ours = format!("-{}", self.parts.len());
        let found = if e.kind == ErrorKind::NotFound { self.content.look(&self.key)? } else { None };
        match found.and_then(|found| found.version.tag).is_some_and(|tag| tag.ends_with(&ours)) {
            true => Ok(()),
            false => Err(e),
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
fn named(headers: &mut Headers) -> [(&'static str, &mut Option<String>); 6] {
    [
        ("content-type", &mut headers.content_type),
        ("content-encoding", &mut headers.content_encoding),
        ("content-language", &mut headers.content_language),
        ("content-disposition", &mut headers.content_disposition),
        ("cache-control", &mut headers.cache_control),
        ("expires", &mut headers.expires),
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
