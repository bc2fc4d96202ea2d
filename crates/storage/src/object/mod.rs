//! Object stores: S3 and what speaks it, Azure Blob, Google Cloud Storage.
//!
//! The engine's threads call; each call becomes a task on a small runtime of its own ([`wait`]), so it works from
//! every thread, also from one that belongs to another runtime. A call goes through one loop of attempts
//! (`retry`): permit (`limit`), request, what the answer means (`answer`), and perhaps another attempt. The library
//! below is told never to retry, so that there is one deadline and one count.
//!
//! An object is one single put. What the engine writes stays far below the longest that services take in one
//! request, and so every object is created under a condition, appears whole, and a writer that dies leaves no
//! invisible parts of an upload behind.
//!
//! A condition may be refused because our own first attempt was carried out and its answer lost. Whenever an
//! earlier attempt may have landed, the object is read back: if it holds our bytes, it is ours.

mod answer;
mod azure;
#[cfg(feature = "test-support")]
mod bucket;
mod build;
mod limit;
mod options;
mod profile;
mod retry;
mod s3;
mod spoken;
mod wire;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, UpdateVersion,
};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout_at};

use crate::{
    Content, Draft, Entry, Error, ErrorKind, Permit, Result, Shared, Stamp, Storage, Version, check_key,
};
use answer::{Meaning, Verb};
#[cfg(feature = "test-support")]
pub use bucket::Bucket;
use limit::Limiter;
pub use options::{Credentials, Limits, ObjectOptions, ObjectPlace, Service};
use retry::{Attempts, Refusal, SLOWEST_BYTES_PER_SECOND};

/// One put of more is refused: S3 takes 5 GiB, Azure 5000 MB. A pack has some 16 MiB.
const OBJECT_BYTES_MAX: u64 = 4 << 30;

/// What the library offers for each service.
trait Backend: ObjectStore + PaginatedListStore {}
impl<T: ObjectStore + PaginatedListStore> Backend for T {}

/// A bucket, or the part of it below a prefix.
#[derive(Clone)]
pub struct ObjectStorage {
    inner: Arc<Inner>,
    /// Asked before and during each attempt of a write.
    permit: Option<Arc<dyn Permit>>,
}

struct Inner {
    backend: Arc<dyn Backend>,
    service: Service,
    location: String,
    /// Empty, or ending in a slash.
    prefix: String,
    limiter: Limiter,
    limits: Limits,
    /// The service itself has answered: so credentials could be had.
    had_credentials: AtomicBool,
}

impl ObjectStorage {
    /// Prepares the bucket for use; nothing is sent yet.
    pub fn open(place: &ObjectPlace) -> Result<Self> {
        Ok(Self::with_backend(build::backend(place)?, place))
    }

    fn with_backend(backend: Arc<dyn Backend>, place: &ObjectPlace) -> Self {
        let prefix = if place.prefix.is_empty() { String::new() } else { format!("{}/", place.prefix) };
        let inner = Inner {
            backend,
            service: place.service,
            location: place.to_string(),
            prefix,
            limiter: Limiter::new(&place.options.limits),
            limits: place.options.limits.clone(),
            had_credentials: false.into(),
        };
        Self { inner: Arc::new(inner), permit: None }
    }

    /// A bucket whose objects belong to others. Nothing is sent yet.
    pub fn content(place: &ObjectPlace) -> Result<Arc<dyn Content>> {
        let dialect: &'static dyn spoken::Dialect = match place.service {
            Service::S3 => &s3::S3,
            Service::Azure => &azure::AZURE,
            Service::Google => &s3::GOOGLE,
        };
        Ok(Arc::new(spoken::OurContent::new(spoken::Line::open(place)?, dialect)))
    }

    fn error(&self, kind: ErrorKind, operation: &'static str, key: &str, reason: impl Into<String>) -> Error {
        Error::new(kind, operation, key, &self.inner.location, reason)
    }

    fn path(&self, key: &str) -> Result<Path> {
        check_key(key, &self.inner.location)?;
        Path::parse(format!("{}{key}", self.inner.prefix))
            .map_err(|e| self.error(ErrorKind::Invalid, "use", key, e.to_string()))
    }

    /// Runs one call to its end on the runtime of the object stores.
    fn run<T, F>(&self, operation: &'static str, key: &str, call: F) -> Result<Result<T, Refusal>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Refusal>> + Send + 'static,
    {
        wait(call).map_err(|why| self.error(ErrorKind::Io, operation, key, why))
    }

    fn refused(&self, operation: &'static str, key: &str, refusal: Refusal) -> Error {
        let kind = match refusal.meaning {
            Meaning::Missing | Meaning::Gone => ErrorKind::NotFound,
            Meaning::Exists => ErrorKind::Exists,
            Meaning::Changed => ErrorKind::Precondition,
            Meaning::Full => ErrorKind::NoSpace,
            Meaning::Denied => ErrorKind::Denied,
            Meaning::Forbidden => ErrorKind::Forbidden,
            Meaning::Short => ErrorKind::Short,
            Meaning::TooLarge => ErrorKind::TooLarge,
            Meaning::Invalid => ErrorKind::Invalid,
            Meaning::Again | Meaning::Failed => ErrorKind::Io,
        };
        self.error(kind, operation, key, refusal.reason)
    }

    fn read(&self, key: &str, range: Option<Range<u64>>, size_max: u64) -> Result<(Vec<u8>, ObjectMeta)> {
        let path = self.path(key)?;
        let inner = Arc::clone(&self.inner);
        let expected = range.as_ref().map_or(0, |range| range.end - range.start);
        let outcome = self.run("read", key, async move {
            inner.limiter.download(expected).await;
            let attempts = Attempts::new(&inner, Verb::Read, expected);
            let read = attempts.run(|| read_once(&inner, &attempts, &path, range.clone(), size_max)).await?;
            if range.is_none() {
                // Its size was not known before.
                inner.limiter.download(read.0.len() as u64).await;
            }
            Ok(read)
        })?;
        outcome.map_err(|refusal| self.refused("read", key, refusal))
    }

    /// Puts one object under a condition. If the condition fails and an earlier attempt may have been carried out,
    /// the object that is there decides.
    fn put(&self, operation: &'static str, key: &str, body: Vec<u8>, mode: PutMode) -> Result<()> {
        let path = self.path(key)?;
        if body.len() as u64 > OBJECT_BYTES_MAX {
            let reason =
                format!("it would have {} bytes; one upload may have {OBJECT_BYTES_MAX} at most", body.len());
            return Err(self.error(ErrorKind::TooLarge, operation, key, reason));
        }
        let (verb, size) =
            (if mode == PutMode::Create { Verb::Create } else { Verb::Replace }, body.len() as u64);
        let payload = PutPayload::from(body);
        let (inner, sent, permit) = (Arc::clone(&self.inner), payload.clone(), self.permit.clone());
        let outcome = self.run(operation, key, async move {
            inner.limiter.upload(size).await;
            let attempts = Attempts::new(&inner, verb, size).under(&permit);
            attempts
                .run(|| async {
                    inner.backend.put_opts(&path, sent.clone(), mode.clone().into()).await?;
                    Ok(())
                })
                .await
        })?;
        let Err(refusal) = outcome else { return Ok(()) };
        if refusal.unsure && matches!(refusal.meaning, Meaning::Exists | Meaning::Changed) {
            match self.read(key, None, size) {
                Ok((there, _)) if is_same(&there, &payload) => return Ok(()),
                Ok(_) => {}
                Err(e) if matches!(e.kind, ErrorKind::NotFound | ErrorKind::TooLarge) => {}
                Err(e) => return Err(e),
            }
        }
        Err(self.refused(operation, key, refusal))
    }

    fn look(&self, key: &str) -> Result<Option<ObjectMeta>> {
        let path = self.path(key)?;
        let inner = Arc::clone(&self.inner);
        let outcome = self.run("look at", key, async move {
            let attempts = Attempts::new(&inner, Verb::Read, 0);
            attempts.run(|| async { Ok(inner.backend.head(&path).await?) }).await
        })?;
        match outcome {
            Ok(meta) => Ok(Some(meta)),
            Err(refusal) if refusal.meaning == Meaning::Missing => Ok(None),
            Err(refusal) => Err(self.refused("look at", key, refusal)),
        }
    }

    fn page(&self, prefix: &str, token: Option<String>) -> Result<(Vec<ObjectMeta>, Option<String>)> {
        let full = format!("{}{prefix}", self.inner.prefix);
        let inner = Arc::clone(&self.inner);
        let outcome = self.run("list", prefix, async move {
            let attempts = Attempts::new(&inner, Verb::List, 0);
            attempts
                .run(|| async {
                    let options =
                        PaginatedListOptions { page_token: token.clone(), ..PaginatedListOptions::default() };
                    let prefix = Some(full.as_str()).filter(|prefix| !prefix.is_empty());
                    let page = inner.backend.list_paginated(prefix, options).await?;
                    Ok((page.result.objects, page.page_token))
                })
                .await
        })?;
        outcome.map_err(|refusal| self.refused("list", prefix, refusal))
    }

    fn entry(&self, meta: &ObjectMeta) -> Option<Entry> {
        let key = meta.location.as_ref().strip_prefix(&self.inner.prefix)?;
        Some(told(key, meta))
    }
}

/// Equal tags of one key mean equal content, whenever it was put there. Azure has them in quotes in a header and without
/// in a listing.
fn told(key: &str, meta: &ObjectMeta) -> Entry {
    let stamp = meta.e_tag.as_deref().map(|tag| Stamp::of_tag(tag.trim_matches('"').as_bytes()));
    Entry { key: key.to_owned(), size: meta.size, modified: Some(meta.last_modified.into()), stamp }
}

impl fmt::Debug for ObjectStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ObjectStorage").field(&self.inner.location).finish()
    }
}

impl Storage for ObjectStorage {
    fn location(&self) -> String {
        self.inner.location.clone()
    }

    fn get(&self, key: &str, size_max: u64) -> Result<Vec<u8>> {
        Ok(self.read(key, None, size_max)?.0)
    }

    fn get_into(&self, key: &str, size_max: u64, body: &mut Vec<u8>) -> Result<()> {
        *body = self.get(key, size_max)?;
        Ok(())
    }

    fn get_versioned(&self, key: &str, size_max: u64) -> Result<(Vec<u8>, Version)> {
        let (body, meta) = self.read(key, None, size_max)?;
        let version = Version(format!(
            "{}\n{}",
            meta.e_tag.as_deref().unwrap_or_default(),
            meta.version.as_deref().unwrap_or_default()
        ));
        Ok((body, version))
    }

    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        if range.is_empty() {
            let found = self.look(key)?;
            let missing = || self.error(ErrorKind::NotFound, "read", key, "there is no such object");
            return found.map(|_| Vec::new()).ok_or_else(missing);
        }
        Ok(self.read(key, Some(range), u64::MAX)?.0)
    }

    fn get_range_into(&self, key: &str, range: Range<u64>, body: &mut Vec<u8>) -> Result<()> {
        *body = self.get_range(key, range)?;
        Ok(())
    }

    fn get_metadata_range(&self, key: &str, range: Range<u64>) -> Result<Vec<u8>> {
        self.get_range(key, range)
    }

    fn create(&self, key: &str, parts: &[&[u8]]) -> Result<()> {
        self.put("create", key, parts.concat(), PutMode::Create)
    }

    /// A put has its whole body.
    fn draft(&self, _: &str) -> Result<Option<Box<dyn Draft>>> {
        Ok(None)
    }

    fn replace(&self, key: &str, body: &[u8], expected: &Version) -> Result<()> {
        let (e_tag, version) = expected.0.split_once('\n').unwrap_or((&expected.0, ""));
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let expected = UpdateVersion { e_tag: some(e_tag), version: some(version) };
        self.put("replace", key, body.to_vec(), PutMode::Update(expected))
    }

    fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        let (inner, permit) = (Arc::clone(&self.inner), self.permit.clone());
        let outcome = self.run("delete", key, async move {
            let attempts = Attempts::new(&inner, Verb::Delete, 0).under(&permit);
            attempts.run(|| async { Ok(inner.backend.delete(&path).await?) }).await
        })?;
        match outcome {
            Err(refusal) if refusal.meaning != Meaning::Missing => Err(self.refused("delete", key, refusal)),
            _ => Ok(()),
        }
    }

    fn head(&self, key: &str) -> Result<Option<Entry>> {
        Ok(self.look(key)?.map(|meta| told(key, &meta)))
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(Entry) -> Result<()>) -> Result<()> {
        let mut token = None;
        loop {
            let (objects, next) = self.page(prefix, token.clone())?;
            for meta in &objects {
                // A marker object for the "directory" itself is none of ours.
                match self.entry(meta).filter(|entry| entry.key.starts_with(prefix)) {
                    Some(entry) if entry.key.len() > prefix.len() => visit(entry)?,
                    _ => {}
                }
            }
            if next.is_some() && next == token {
                let reason = "the service sends the same page of the listing again and again";
                return Err(self.error(ErrorKind::Io, "list", prefix, reason));
            }
            match next {
                Some(_) => token = next,
                None => return Ok(()),
            }
        }
    }

    fn free_space(&self) -> Result<Option<u64>> {
        Ok(None)
    }

    fn under(&self, permit: &Arc<dyn Permit>) -> Option<Shared> {
        Some(Arc::new(Self { permit: Some(permit.clone()), ..self.clone() }))
    }

    fn parallelism(&self) -> Option<usize> {
        Some(self.inner.limits.parallel)
    }

    fn lists_at_once(&self) -> bool {
        false
    }

    /// A put that failed left nothing.
    fn clean_leftovers(&self, _: &str, _: Duration) -> Result<u64> {
        Ok(0)
    }
}

/// One request for an object, or a range of it, with its whole body.
async fn read_once(
    inner: &Inner,
    attempts: &Attempts<'_>,
    path: &Path,
    range: Option<Range<u64>>,
    size_max: u64,
) -> Result<(Vec<u8>, ObjectMeta), retry::Failure> {
    let options = GetOptions { range: range.clone().map(GetRange::Bounded), ..GetOptions::default() };
    let result = inner.backend.get_opts(path, options).await?;
    let meta = result.meta.clone();
    if range.is_none() && meta.size > size_max {
        let reason = format!("it has {} bytes, more than the {size_max} that it may have", meta.size);
        return Err(retry::Failure::decided(Meaning::TooLarge, reason));
    }
    let size = result.range.end - result.range.start;
    if let Some(range) = &range
        && size < range.end - range.start
    {
        let reason = format!("it ends at byte {}, before byte {}", meta.size, range.end);
        return Err(retry::Failure::decided(Meaning::Short, reason));
    }
    attempts.expect(size);
    let too_long = || retry::Failure::transport("it sent more bytes than it announced");
    let body = collect(inner, result.into_stream().map_err(retry::Failure::from), size, too_long).await?;
    match body.len() as u64 == size {
        true => Ok((body, meta)),
        false => Err(retry::Failure::transport(format!("it sent {} of {size} bytes", body.len()))),
    }
}

/// Reads a body that must neither fall silent nor drip, nor be longer than `size_max`.
async fn collect<B: AsRef<[u8]>>(
    inner: &Inner,
    stream: impl Stream<Item = Result<B, retry::Failure>>,
    size_max: u64,
    too_long: impl FnOnce() -> retry::Failure,
) -> Result<Vec<u8>, retry::Failure> {
    let silence = inner.limits.silence;
    let end = Instant::now() + silence + Duration::from_secs(size_max / SLOWEST_BYTES_PER_SECOND);
    let mut body = Vec::new();
    let mut stream = pin!(stream);
    loop {
        let Ok(piece) = timeout_at(end.min(Instant::now() + silence), stream.next()).await else {
            return Err(retry::Failure::transport(format!("it sent {} bytes and then no more", body.len())));
        };
        let Some(piece) = piece.transpose()? else { return Ok(body) };
        if (body.len() + piece.as_ref().len()) as u64 > size_max {
            return Err(too_long());
        }
        body.extend_from_slice(piece.as_ref());
    }
}

fn is_same(there: &[u8], payload: &PutPayload) -> bool {
    let mut rest = there;
    payload.iter().all(|part| match rest.split_at_checked(part.len()) {
        Some((head, tail)) => {
            rest = tail;
            head == part
        }
        None => false,
    }) && rest.is_empty()
}

/// The threads of all object stores. They live as long as the process: a runtime must not be dropped by a thread
/// that belongs to another one.
fn runtime() -> Result<&'static Runtime, String> {
    static RUNTIME: OnceLock<Result<Runtime, String>> = OnceLock::new();
    let made = RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("object-store")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|e| format!("no threads can be had for object stores: {e}"))
    });
    made.as_ref().map_err(Clone::clone)
}

/// Runs `call` as a task and waits for its end. The waiting thread blocks, whatever it belongs to.
fn wait<T: Send + 'static>(call: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    runtime()?.spawn(async move {
        // Nobody listens only if the caller's thread is gone.
        let _ = sender.send(wire::listening(call).await);
    });
    receiver.recv().map_err(|_| "the call ended without an outcome; please report this".to_owned())
}
