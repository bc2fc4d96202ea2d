//! A bucket becomes a snapshot: a listing, then each object that the last snapshot does not have as it is.
//!
//! An object that was changed after the listing is taken as it is then. One that changes while it is read is read on in the
//! version that was begun, if the bucket keeps versions; else it is named and left out.

use std::io::{self, Write};
use std::sync::Mutex;

use repository::{BackupRequest, Control, Fed, FedFile, Time};
use storage::{Content, ContentEntry, ContentRead, ContentVersion, ErrorKind as Stored};

use super::listing::{self, Listed};
use super::{ETAG, HEADERS, ObjectStore, THREADS_MAX, names};
use crate::{Backup, BackupContext, Error, ErrorKind, Facts, Result};

/// A larger object is read in ranges of so much.
const RANGE_BYTES: u64 = 8 << 20;
/// So often an object is looked at anew because it was changed.
const LOOKS_MAX: usize = 5;

pub(super) fn backup(store: &ObjectStore, context: &BackupContext<'_>) -> Result<Backup> {
    let (content, control) = (&*store.content, &*context.control);
    control.progress.set_current(&format!("listing {}", content.location()));
    let objects = listing::in_order(content, control)?;
    if objects.is_empty() && !store.settings.place.prefix.is_empty() {
        let message = format!("there is nothing below {}; is its prefix right?", content.location());
        return Err(Error::new(ErrorKind::Missing, message));
    }
    let bytes = objects.iter().fold(0u64, |sum, object| sum.saturating_add(object.entry.size));
    control.progress.files_total.fetch_add(objects.len() as u64, std::sync::atomic::Ordering::Relaxed);
    control.progress.bytes_total.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);

    let mut request = BackupRequest::new(vec![store.root()]);
    request.tags = context.tags.clone();
    request.hostname = context.hostname.clone();
    request.compression = context.compression;
    let refused = Mutex::new(None);
    let mut rest = objects.into_iter();
    let mut next = || Ok(rest.next().map(|object| fed(content, control, object, &refused)));
    let workers = content.parallelism().clamp(1, THREADS_MAX);
    let outcome =
        repository::backup_feed(context.repository, context.index, &request, &mut next, workers, control)
            .map_err(|e| Error::engine(format!("cannot back up component '{}'", store.settings.name), e))?;
    let summary = &outcome.summary;
    let is_empty = summary.files_new + summary.files_changed + summary.files_unmodified == 0;
    if let (true, Some(why)) = (is_empty, refused.into_inner().unwrap_or_default()) {
        return Err(Error::new(ErrorKind::Io, format!("no object could be read: {why}")));
    }
    let facts = Facts { buckets: vec![content.bucket()], ..Facts::default() };
    Ok(Backup { outcome, facts })
}

fn fed<'c>(
    content: &'c dyn Content,
    control: &'c Control,
    object: Listed,
    refused: &'c Mutex<Option<String>>,
) -> FedFile<'c> {
    let entry = object.entry;
    let nanoseconds = u32::try_from(entry.modified_ms.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    FedFile {
        path: object.path.split(|&byte| byte == names::BETWEEN).map(<[u8]>::to_vec).collect(),
        mtime: Time { seconds: entry.modified_ms.div_euclid(1000), nanoseconds },
        attributes: vec![(ETAG.to_owned(), entry.tag.clone().into_bytes())],
        same_if_size: Some(entry.size),
        content: Box::new(move |out| match read(content, control, &entry, out) {
            Ok(fed) => Ok(fed),
            Err(Unread::Refused(why)) => {
                control.warn(&entry.key, &why);
                refused.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get_or_insert(why);
                Ok(Fed::Gone)
            }
            Err(Unread::Failed(e)) => Err(e),
        }),
    }
}

/// Why an object was not read.
enum Unread {
    /// This one cannot be read; others may.
    Refused(String),
    /// The bucket, or the backup, failed.
    Failed(io::Error),
}

impl Unread {
    fn of(content: &dyn Content, error: storage::Error) -> Self {
        match error.kind {
            Stored::Invalid | Stored::Short | Stored::Precondition => Self::Refused(error.reason),
            // Is it this object, or is it the credentials?
            Stored::Denied if content.first("").is_ok() => Self::Refused(error.reason),
            _ => Self::Failed(io::Error::other(error)),
        }
    }
}

fn read(
    content: &dyn Content,
    control: &Control,
    entry: &ContentEntry,
    out: &mut dyn Write,
) -> Result<Fed, Unread> {
    let Some(ContentRead { body, object }) = begin(content, entry)? else { return Ok(Fed::Gone) };
    out.write_all(&body).map_err(Unread::Failed)?;
    let mut at = body.len() as u64;
    drop(body);
    while at < object.size {
        let range = at..object.size.min(at + RANGE_BYTES);
        let changed = || {
            let why = "it was changed or removed while it was read, and its bucket keeps no versions; back up again";
            Unread::Refused(why.to_owned())
        };
        match content.read(&entry.key, Some(range), &object.version) {
            // Not every service keeps to the condition.
            Ok(next) if next.object.version != object.version || next.object.size != object.size => {
                return Err(changed());
            }
            Ok(next) => {
                out.write_all(&next.body).map_err(Unread::Failed)?;
                at += next.body.len() as u64;
            }
            Err(e) if matches!(e.kind, Stored::NotFound | Stored::Precondition) => return Err(changed()),
            Err(e) => return Err(Unread::of(content, e)),
        }
    }
    for lacking in &object.lacking {
        control.warn(&entry.key, lacking);
    }
    let mut attributes = vec![(ETAG.to_owned(), object.version.tag.unwrap_or_default().into_bytes())];
    if object.headers != storage::Headers::default() {
        let text = serde_json::to_vec(&object.headers).map_err(|e| Unread::Failed(e.into()))?;
        attributes.push((HEADERS.to_owned(), text));
    }
    Ok(Fed::Described(attributes))
}

/// The beginning of an object as it was listed, or as it is by now; `None` if it is gone.
fn begin(content: &dyn Content, entry: &ContentEntry) -> Result<Option<ContentRead>, Unread> {
    let tag = Some(entry.tag.clone()).filter(|tag| !tag.is_empty());
    let (mut size, mut version) = (entry.size, ContentVersion { tag: tag.clone(), number: None });
    for _ in 0..LOOKS_MAX {
        // Of nothing there is no range.
        let range = (size > 0).then(|| 0..size.min(RANGE_BYTES));
        match content.read(&entry.key, range, &version) {
            Ok(read) if read.object.version.tag == tag && read.object.size != entry.size => {
                let why = format!(
                    "the service lists {} bytes and sends {}; does something unpack it on the way?",
                    entry.size, read.object.size
                );
                return Err(Unread::Refused(why));
            }
            Ok(read) => return Ok(Some(read)),
            Err(e) if matches!(e.kind, Stored::NotFound | Stored::Precondition) => {}
            Err(e) => return Err(Unread::of(content, e)),
        }
        let Some(there) = content.look(&entry.key).map_err(|e| Unread::of(content, e))? else {
            return gone(content, &entry.key);
        };
        (size, version) = (there.size, there.version);
    }
    Err(Unread::Refused("it is changed faster than it can be read".to_owned()))
}

/// A service says that there is no such object: that is so only if it does not list it either.
fn gone(content: &dyn Content, key: &str) -> Result<Option<ContentRead>, Unread> {
    match content.first(key) {
        Ok(Some(entry)) if entry.key == key => {
            Err(Unread::Refused("the service lists it, and says that it is not there".to_owned()))
        }
        Ok(_) => Ok(None),
        Err(e) => Err(Unread::Failed(io::Error::other(e))),
    }
}
