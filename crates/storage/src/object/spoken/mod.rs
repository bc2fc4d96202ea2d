//! Services spoken to by ourselves, for content that belongs to others.
//!
//! The library below turns keys into paths: it cannot name `a//b` or `folder/`, and a listing that holds one fails. It knows
//! neither all tags and versions nor the service's own copy with a condition. So requests are made here (`line`), signed by
//! the library (`sign`), and go through the same loop of attempts as all others. What services do alike is here, under the
//! names that each has for it (`headers`, `xml`); what each does in its own way is its [`Dialect`].

mod headers;
mod line;
mod sign;
mod xml;

use std::fmt;
use std::ops::Range;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::answer::Verb;
use crate::{
    Content, ContentEntry, ContentLook, ContentRead, ContentVersion, ErrorKind, Headers, Result, Upload,
};
pub(super) use headers::{Tags, Words, encoded, tag, text};
use line::DOCUMENT_BYTES_MAX;
pub(super) use line::{Answered, Asked, Line};
pub(super) use sign::Signer;
pub(super) use xml::{decoded, tags as read_tags, walk};

/// No service has so many pages in which nothing lies.
const EMPTY_PAGES_MAX: usize = 10_000;

/// A page of a listing.
pub(super) struct Page {
    /// With the whole keys.
    pub(super) entries: Vec<ContentEntry>,
    /// Where the next page begins.
    pub(super) next: Option<String>,
}

/// What a service does in its own way.
pub(super) trait Dialect: Send + Sync {
    fn words(&self) -> &Words;

    /// The objects whose whole keys start with these letters.
    fn page(&self, line: &Line, prefix: &str, token: Option<&str>, entries_max: Option<u32>) -> Result<Page>;

    /// Understands tags.
    fn tags(&self, body: &[u8]) -> Result<Vec<(String, String)>, String>;

    /// What else an answer tells of an object, and what it does not.
    fn add(&self, answer: &HeaderMap, headers: &mut Headers, lacking: &mut Vec<String>);

    /// Whether such an object can be written by one request.
    fn takes_whole(&self, headers: &Headers) -> bool;

    fn upload(&self, content: &OurContent, key: &str, headers: &Headers) -> Result<Box<dyn Upload>>;

    fn copy(&self, content: &OurContent, from: &str, to: &str, size: u64, tag: Option<&str>) -> Result<()>;

    fn abort_uploads(&self, content: &OurContent, prefix: &str) -> Result<()>;

    /// Why an object cannot be removed so that it could be put back.
    fn irremovable(&self, content: &OurContent, key: &str) -> Result<Option<&'static str>>;
}

/// A bucket whose service is spoken to by ourselves.
#[derive(Clone)]
pub(super) struct OurContent {
    pub(super) line: Line,
    dialect: &'static dyn Dialect,
}

impl OurContent {
    pub(super) fn new(line: Line, dialect: &'static dyn Dialect) -> Self {
        Self { line, dialect }
    }

    pub(super) fn words(&self) -> &Words {
        self.dialect.words()
    }

    /// A page of the objects whose keys start with these letters, with keys relative to the place. The prefix itself, as an
    /// object, is none of what lies below it.
    fn page(&self, prefix: &str, token: Option<&str>, entries_max: Option<u32>) -> Result<Page> {
        let line = &self.line;
        let whole = format!("{}{prefix}", line.prefix());
        let mut page = self.dialect.page(line, &whole, token, entries_max)?;
        for entry in &mut page.entries {
            let key = entry.key.strip_prefix(line.prefix()).filter(|key| key.starts_with(prefix));
            let key = key.map(str::to_owned).ok_or_else(|| {
                let why =
                    format!("the service lists '{}', which was not asked for", entry.key.escape_debug());
                line.error(ErrorKind::Io, "list", prefix, why)
            })?;
            entry.key = key;
        }
        page.entries.retain(|entry| !entry.key.is_empty());
        if page.next.is_some() && page.next.as_deref() == token {
            let why = "the service says that there is more, and not where";
            return Err(line.error(ErrorKind::Io, "list", prefix, why));
        }
        Ok(page)
    }

    /// Tags of an object that is there.
    fn tags(&self, words: &Tags, key: &str, version: &ContentVersion) -> Result<Vec<(String, String)>> {
        let mut asked = self.line.asked(Verb::Read, "read the tags of", Method::GET, key);
        asked.query(words.asked.0, words.asked.1);
        if let Some(number) = &version.number {
            asked.query(self.words().version_asked, number.as_str());
        }
        match self.line.ask_for(asked, |body| self.dialect.tags(body)) {
            // Of some services nothing has tags, or nothing is what an object without tags has. Where they were counted, there are some.
            Err(e) if !words.always_counted && matches!(e.kind, ErrorKind::NotFound | ErrorKind::Invalid) => {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    /// What an answer tells of an object of that size. A reading says whether there are tags.
    fn told(&self, key: &str, size: u64, answer: &HeaderMap, is_reading: bool) -> ContentLook {
        let words = self.words();
        let (version, mut headers) = (words.version_of(answer), words.kept(answer));
        let mut lacking = Vec::new();
        let has_tags = |words: &&Tags| {
            let counts = is_reading || words.always_counted;
            !counts || text(answer, words.count).is_some_and(|count| count != "0")
        };
        if let Some(words) = words.tags.as_ref().filter(has_tags) {
            match self.tags(words, key, &version) {
                Ok(tags) => headers.tags = tags,
                Err(e) => lacking.push(format!("its tags could not be read: {}", e.reason)),
            }
        }
        self.dialect.add(answer, &mut headers, &mut lacking);
        ContentLook { size, version, headers, lacking }
    }

    /// The answer to a look at an object that may be there.
    pub(super) fn head(&self, key: &str) -> Result<Option<Answered>> {
        let mut asked = self.line.asked(Verb::Read, "look at", Method::HEAD, key);
        self.words().read.iter().for_each(|(name, value)| asked.say(name, *value));
        match self.line.send(asked) {
            Err(e) if e.kind == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    pub(super) fn there(&self, key: &str) -> Result<ContentLook> {
        let missing = || self.line.error(ErrorKind::NotFound, "copy", key, "there is no such object");
        self.look(key)?.ok_or_else(missing)
    }
}

impl fmt::Debug for OurContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OurContent").field(&self.location()).finish()
    }
}

impl Content for OurContent {
    fn location(&self) -> String {
        self.line.inner().location.clone()
    }

    fn bucket(&self) -> String {
        self.line.bucket().to_owned()
    }

    fn parallelism(&self) -> usize {
        self.line.inner().limits.parallel
    }

    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ContentEntry) -> Result<()>) -> Result<()> {
        let mut token = None;
        loop {
            let page = self.page(prefix, token.as_deref(), None)?;
            page.entries.into_iter().try_for_each(&mut *visit)?;
            match page.next {
                Some(_) => token = page.next,
                None => return Ok(()),
            }
        }
    }

    fn first(&self, prefix: &str) -> Result<Option<ContentEntry>> {
        // The prefix itself, as an object, may come before it.
        let mut page = self.page(prefix, None, Some(2))?;
        // A page may be empty, and more come after it.
        for _ in 0..EMPTY_PAGES_MAX {
            if !page.entries.is_empty() || page.next.is_none() {
                return Ok(page.entries.into_iter().next());
            }
            page = self.page(prefix, page.next.as_deref(), None)?;
        }
        let why = format!("the service says {EMPTY_PAGES_MAX} times that there is more, and lists nothing");
        Err(self.line.error(ErrorKind::Io, "list", prefix, why))
    }

    fn read(&self, key: &str, range: Option<Range<u64>>, version: &ContentVersion) -> Result<ContentRead> {
        let mut asked = self.line.asked(Verb::Read, "read", Method::GET, key);
        self.words().read.iter().for_each(|(name, value)| asked.say(name, *value));
        asked.size_max = range.as_ref().map_or(DOCUMENT_BYTES_MAX, |range| range.end - range.start);
        if let Some(range) = &range {
            asked.say("range", format!("bytes={}-{}", range.start, range.end - 1));
        }
        if let Some(tag) = &version.tag {
            asked.say("if-match", format!("\"{}\"", self.words().bare(tag)));
        }
        if let Some(number) = &version.number {
            asked.query(self.words().version_asked, number.as_str());
        }
        let Answered { status, headers, body } = self.line.send(asked)?;
        let odd = |reason: String| self.line.error(ErrorKind::Invalid, "read", key, reason);
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
        Ok(ContentRead { body, object: self.told(key, size, &headers, true) })
    }

    fn look(&self, key: &str) -> Result<Option<ContentLook>> {
        let Some(answered) = self.head(key)? else { return Ok(None) };
        let size = text(&answered.headers, "content-length").and_then(|told| told.parse().ok());
        let size = size.ok_or_else(|| {
            let reason = "the service does not say how long it is";
            self.line.error(ErrorKind::Invalid, "look at", key, reason)
        })?;
        Ok(Some(self.told(key, size, &answered.headers, false)))
    }

    fn write(&self, key: &str, headers: &Headers, body: Vec<u8>) -> Result<()> {
        if !self.dialect.takes_whole(headers) {
            let mut upload = self.upload(key, headers)?;
            if !body.is_empty() {
                upload.part(body)?;
            }
            return upload.end();
        }
        let mut asked = self.line.asked(Verb::Create, "write", Method::PUT, key);
        (asked.headers, asked.body) = (self.words().to_send(headers), body.into());
        self.words().whole.iter().for_each(|(name, value)| asked.say(name, *value));
        self.line.send(asked).map(drop)
    }

    fn upload(&self, key: &str, headers: &Headers) -> Result<Box<dyn Upload>> {
        self.dialect.upload(self, key, headers)
    }

    fn copy(&self, from: &str, to: &str, size: u64, tag: Option<&str>) -> Result<()> {
        self.dialect.copy(self, from, to, size, tag)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.line.send_or_gone(self.line.asked(Verb::Delete, "delete", Method::DELETE, key))
    }

    fn irremovable(&self, key: &str) -> Result<Option<&'static str>> {
        self.dialect.irremovable(self, key)
    }

    fn abort_uploads(&self, prefix: &str) -> Result<()> {
        self.dialect.abort_uploads(self, prefix)
    }
}
