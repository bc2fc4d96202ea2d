//! S3 and Google's XML interface, which is one of its dialects: what they do in their own way.
//!
//! A listing and the parts of an object are told in `xml`; `upload` makes an object of parts, or copies one so. Google names
//! headers otherwise, has no tags, numbers each object whether it keeps versions or not, and copies no parts.

mod upload;
mod xml;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::answer::Verb;
use super::spoken::{Dialect, Line, OurContent, Page, Tags, Words, encoded, read_tags, text};
use crate::{Headers, Result, Upload};
use upload::S3Upload;

/// A copy in parts has so many at most.
const COPY_PARTS_MAX: u64 = 9_000;
/// No service has so many pages of unfinished uploads at one prefix.
const UPLOAD_PAGES_MAX: usize = 100;

/// Amazon S3, and whatever speaks its language.
pub(super) static S3: S3Dialect = S3Dialect {
    words: Words {
        metadata: "x-amz-meta-",
        written: "",
        whole: &[],
        read: &[],
        expires: true,
        tags: Some(Tags {
            asked: ("tagging", ""),
            written: "x-amz-tagging",
            count: "x-amz-tagging-count",
            always_counted: false,
        }),
        version: "x-amz-version-id",
        version_asked: "versionId",
        revision: None,
        assumed_cache_control: &[],
    },
    copy_source: "x-amz-copy-source",
    copy_condition: "x-amz-copy-source-if-match",
    copies_parts: true,
};

/// Google Cloud Storage.
pub(super) static GOOGLE: S3Dialect = S3Dialect {
    words: Words {
        metadata: "x-goog-meta-",
        written: "",
        whole: &[],
        // Else it unpacks what is packed.
        read: &[("accept-encoding", "gzip")],
        expires: false,
        tags: None,
        version: "x-goog-generation",
        version_asked: "generation",
        revision: Some("x-goog-metageneration"),
        assumed_cache_control: &["public, max-age=3600", "private, max-age=0"],
    },
    copy_source: "x-goog-copy-source",
    copy_condition: "x-goog-copy-source-if-match",
    copies_parts: false,
};

/// How it is spoken.
pub(super) struct S3Dialect {
    words: Words,
    /// The header with what is copied.
    copy_source: &'static str,
    /// The header with the tag that it must have.
    copy_condition: &'static str,
    /// Whether parts can be copied; and the tag of an object tells of how many it was made.
    copies_parts: bool,
}

impl S3Dialect {
    fn begin(&self, content: &OurContent, key: &str, headers: &Headers) -> Result<S3Upload> {
        let mut asked = content.line.asked(Verb::Create, "begin to write", Method::POST, key);
        asked.query("uploads", "");
        asked.headers = self.words.to_send(headers);
        let begun: xml::Begun = content.line.ask(asked)?;
        Ok(S3Upload::new(content, key.to_owned(), begun.upload_id, self.copies_parts))
    }
}

impl Dialect for S3Dialect {
    fn words(&self) -> &Words {
        &self.words
    }

    fn page(&self, line: &Line, prefix: &str, token: Option<&str>, entries_max: Option<u32>) -> Result<Page> {
        let mut asked = line.asked_of_bucket(Verb::List, "list");
        asked.query("list-type", "2");
        asked.query("encoding-type", "url");
        asked.query("prefix", prefix);
        if let Some(token) = token {
            asked.query("continuation-token", token);
        }
        if let Some(max) = entries_max {
            asked.query("max-keys", max.to_string());
        }
        line.ask_for(asked, |body| xml::listing(body, self.words.revision.is_some()))
    }

    fn tags(&self, body: &[u8]) -> Result<Vec<(String, String)>, String> {
        read_tags(body, "Tagging")
    }

    fn add(&self, answer: &HeaderMap, _: &mut Headers, lacking: &mut Vec<String>) {
        if let Some(count) = text(answer, "x-amz-missing-meta") {
            lacking.push(format!(
                "the service kept {count} of its metadata to itself, as no header can hold them"
            ));
        }
    }

    fn takes_whole(&self, _: &Headers) -> bool {
        true
    }

    fn upload(&self, content: &OurContent, key: &str, headers: &Headers) -> Result<Box<dyn Upload>> {
        Ok(Box::new(self.begin(content, key, headers)?))
    }

    fn copy(&self, content: &OurContent, from: &str, to: &str, size: u64, tag: Option<&str>) -> Result<()> {
        let line = &content.line;
        let source = format!("{}/{}", line.bucket(), encoded(&format!("{}{from}", line.prefix()), true));
        let source = if self.copies_parts { format!("/{source}") } else { source };
        let condition =
            tag.map(|tag| (self.copy_condition.to_owned(), format!("\"{}\"", self.words.bare(tag))));
        let part_bytes = line.inner().limits.copy_part_bytes;
        if !self.copies_parts || size <= part_bytes.saturating_mul(2) {
            let mut asked = line.asked(Verb::Replace, "copy to", Method::PUT, to);
            asked.say(self.copy_source, source);
            asked.headers.extend(condition);
            (asked.moved, asked.proof) = (size, "CopyObjectResult");
            return line.send(asked).map(drop);
        }
        let found = content.there(from)?;
        let mut upload = Box::new(self.begin(content, to, &found.headers)?);
        let part_bytes = part_bytes.max(found.size.div_ceil(COPY_PARTS_MAX));
        let mut start = 0;
        while start < found.size {
            let end = found.size.min(start.saturating_add(part_bytes));
            if let Err(e) = upload.copied_part(&source, start..end, condition.clone()) {
                upload.give_up();
                return Err(e);
            }
            start = end;
        }
        upload.end()
    }

    fn abort_uploads(&self, content: &OurContent, prefix: &str) -> Result<()> {
        let line = &content.line;
        for _ in 0..UPLOAD_PAGES_MAX {
            let mut asked = line.asked_of_bucket(Verb::List, "list unfinished uploads below");
            asked.query("uploads", "");
            asked.query("prefix", format!("{}{prefix}", line.prefix()));
            let found = line.ask_for(asked, xml::uploads)?;
            let uploads: Vec<_> = found
                .uploads
                .into_iter()
                .filter_map(|(key, id)| Some((key.strip_prefix(line.prefix())?.to_owned(), id)))
                .filter(|(key, _)| key.starts_with(prefix))
                .collect();
            let last = !found.is_truncated || uploads.is_empty();
            for (key, id) in uploads {
                S3Upload::new(content, key, id, self.copies_parts).abort()?;
            }
            if last {
                break;
            }
        }
        Ok(())
    }

    /// What is removed can be put back as it was.
    fn irremovable(&self, _: &OurContent, _: &str) -> Result<Option<&'static str>> {
        Ok(None)
    }
}
