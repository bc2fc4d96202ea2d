//! A bucket's objects, for whoever protects them: each call as one request or several.

use std::fmt;
use std::ops::Range;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::headers::{encoded, kept, text, to_send, version_of};
use super::upload::S3Upload;
use super::{Answered, DOCUMENT_BYTES_MAX, S3Content, xml};
use crate::object::answer::Verb;
use crate::{
    Content, ContentEntry, ContentLook, ContentRead, ContentVersion, ErrorKind, Headers, Result, Upload,
};

/// A copy in parts has so many at most.
const COPY_PARTS_MAX: u64 = 9_000;
/// No service has so many pages of unfinished uploads at one prefix.
const UPLOAD_PAGES_MAX: usize = 100;

impl S3Content {
    /// A page of the objects whose keys start with these letters, with keys relative to the place, and where the next one
    /// begins. The prefix itself, as an object, is none of what lies below it.
    fn page(
        &self,
        prefix: &str,
        token: Option<&str>,
        keys_max: Option<u32>,
    ) -> Result<(Vec<ContentEntry>, Option<String>)> {
        let mut asked = self.asked_of_bucket(Verb::List, "list");
        asked.query.push(("list-type", "2".to_owned()));
        asked.query.push(("encoding-type", "url".to_owned()));
        asked.query.push(("prefix", format!("{}{prefix}", self.prefix())));
        asked.query.extend(token.map(|token| ("continuation-token", token.to_owned())));
        asked.query.extend(keys_max.map(|max| ("max-keys", max.to_string())));
        let page: xml::Listing = self.ask(asked)?;
        let damaged = |why: String| self.error(ErrorKind::Io, "list", prefix, why);
        let mut entries = page.entries().map_err(damaged)?;
        for entry in &mut entries {
            let key = entry.key.strip_prefix(self.prefix()).filter(|key| key.starts_with(prefix));
            let key = key.map(str::to_owned).ok_or_else(|| {
                let key = entry.key.escape_debug();
                damaged(format!("the service lists '{key}', which was not asked for"))
            })?;
            entry.key = key;
        }
        entries.retain(|entry| !entry.key.is_empty());
        if !page.is_truncated {
            return Ok((entries, None));
        }
        match page.next_continuation_token.filter(|next| Some(next.as_str()) != token) {
            Some(next) => Ok((entries, Some(next))),
            None => Err(damaged("the service says that there is more, and not where".to_owned())),
        }
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
        Ok(S3Upload::new(self, key.to_owned(), begun.upload_id))
    }

    fn source(&self, key: &str) -> String {
        format!("/{}/{}", self.shared.bucket, encoded(&format!("{}{key}", self.prefix()), true))
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
        let mut token = None;
        loop {
            let (entries, next) = self.page(prefix, token.as_deref(), None)?;
            entries.into_iter().try_for_each(&mut *visit)?;
            match next {
                Some(_) => token = next,
                None => return Ok(()),
            }
        }
    }

    fn first(&self, prefix: &str) -> Result<Option<ContentEntry>> {
        // The prefix itself, as an object, may come before it.
        let (entries, _) = self.page(prefix, None, Some(2))?;
        Ok(entries.into_iter().next())
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
        let odd = |reason: String| self.error(ErrorKind::Invalid, "read", key, reason);
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
            self.error(ErrorKind::Invalid, "look at", key, reason)
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
        let part_bytes = self.shared.storage.inner.limits.copy_part_bytes;
        if size <= part_bytes.saturating_mul(2) {
            let mut asked = self.asked(Verb::Replace, "copy to", Method::PUT, to);
            asked.headers.push(("x-amz-copy-source".to_owned(), self.source(from)));
            asked.headers.extend(condition);
            (asked.moved, asked.proof) = (size, "CopyObjectResult");
            return self.send(asked).map(drop);
        }
        let missing = || self.error(ErrorKind::NotFound, "copy", from, "there is no such object");
        let found = self.look(from)?.ok_or_else(missing)?;
        let mut upload = Box::new(self.begin(to, &found.headers)?);
        let part_bytes = part_bytes.max(found.size.div_ceil(COPY_PARTS_MAX));
        let mut start = 0;
        while start < found.size {
            let end = found.size.min(start.saturating_add(part_bytes));
            if let Err(e) = upload.copied_part(&self.source(from), start..end, condition.clone()) {
                upload.give_up();
                return Err(e);
            }
            start = end;
        }
        upload.end()
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.send_or_gone(self.asked(Verb::Delete, "delete", Method::DELETE, key))
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
                S3Upload::new(self, key, id).abort()?;
            }
            if last {
                break;
            }
        }
        Ok(())
    }
}
