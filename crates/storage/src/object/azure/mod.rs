//! Azure Blob Storage: what it does in its own way.
//!
//! A listing and a list of blocks are told in `xml`. `upload` makes a blob of blocks, of what is appended, or of pages; `copy`
//! has the service copy one, and waits for it. Accounts whose containers have directories of their own list these among their
//! blobs; they are no objects, and are left out.

mod copy;
mod upload;
mod xml;

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::answer::Verb;
use super::spoken::{Dialect, Line, OurContent, Page, Tags, Words, read_tags, text};
use crate::{Content, ErrorKind, Headers, Result, Upload};
use upload::{Kind, Put};

/// Azure Blob Storage.
pub(super) static AZURE: Azure = Azure {
    words: Words {
        metadata: "x-ms-meta-",
        written: "x-ms-blob-",
        whole: &[(upload::KIND, "BlockBlob")],
        read: &[],
        expires: false,
        tags: Some(Tags {
            asked: ("comp", "tags"),
            written: "x-ms-tags",
            count: "x-ms-tag-count",
            always_counted: true,
        }),
        version: "x-ms-version-id",
        version_asked: "versionid",
        revision: None,
        assumed_cache_control: &[],
    },
};

/// How it is spoken.
pub(super) struct Azure {
    words: Words,
}

/// A page with 5,000 of the longest names is not longer.
const PAGE_BYTES_MAX: u64 = 64 << 20;

/// What a listing is to tell beside committed blobs.
const SNAPSHOTS: &str = "snapshots";
const UNCOMMITTED: &str = "uncommittedblobs";

/// A page of what a container lists.
fn listed(
    line: &Line,
    prefix: &str,
    token: Option<&str>,
    entries_max: Option<u32>,
    include: Option<&'static str>,
) -> Result<xml::Listing> {
    let mut asked = line.asked_of_bucket(Verb::List, "list");
    asked.size_max = PAGE_BYTES_MAX;
    asked.query("restype", "container");
    asked.query("comp", "list");
    let max = entries_max.map(|max| max.to_string());
    let others =
        [("prefix", Some(prefix)), ("marker", token), ("maxresults", max.as_deref()), ("include", include)];
    for (name, value) in others {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            asked.query(name, value);
        }
    }
    line.ask_for(asked, xml::listing)
}

impl Dialect for Azure {
    fn words(&self) -> &Words {
        &self.words
    }

    fn page(&self, line: &Line, prefix: &str, token: Option<&str>, entries_max: Option<u32>) -> Result<Page> {
        let listing = listed(line, prefix, token, entries_max, None)?;
        let blobs = listing.blobs.into_iter().filter(|blob| !blob.is_directory());
        let entries: Result<_, String> = blobs.map(xml::Blob::entry).collect();
        let damaged = |why| line.error(ErrorKind::Io, "list", prefix, why);
        Ok(Page { entries: entries.map_err(damaged)?, next: listing.next })
    }

    fn tags(&self, body: &[u8]) -> Result<Vec<(String, String)>, String> {
        read_tags(body, "Tags")
    }

    fn add(&self, answer: &HeaderMap, headers: &mut Headers, _: &mut Vec<String>) {
        headers.blob_type = text(answer, upload::KIND).filter(|kind| kind != "BlockBlob");
        // Beside a range, the other one is that of the range.
        let is_whole = !answer.contains_key("content-range");
        headers.content_md5 =
            text(answer, upload::DIGEST).or_else(|| text(answer, "content-md5").filter(|_| is_whole));
    }

    fn takes_whole(&self, headers: &Headers) -> bool {
        headers.blob_type.is_none()
    }

    fn upload(&self, content: &OurContent, key: &str, headers: &Headers) -> Result<Box<dyn Upload>> {
        let kind =
            Kind::of(headers).map_err(|why| content.line.error(ErrorKind::Invalid, "write", key, why))?;
        Ok(Box::new(Put::begin(content, key, headers, kind)?))
    }

    fn copy(&self, content: &OurContent, from: &str, to: &str, _: u64, tag: Option<&str>) -> Result<()> {
        copy::copy(content, from, to, tag)
    }

    /// The service lets blocks that nobody made a blob of be for a week. A blob of none of them removes them at once.
    fn abort_uploads(&self, content: &OurContent, prefix: &str) -> Result<()> {
        let line = &content.line;
        let whole = format!("{}{prefix}", line.prefix());
        let mut token = None;
        loop {
            let page = listed(line, &whole, token.as_deref(), None, Some(UNCOMMITTED))?;
            // What was never made has no length; one whose answer says nothing else is tried.
            for blob in page.blobs.into_iter().filter(|blob| !blob.is_directory() && !blob.has_content()) {
                let Some(key) = blob.name.strip_prefix(line.prefix()) else { continue };
                let mut asked = line.asked(Verb::Create, "give up the upload of", Method::PUT, key);
                asked.query("comp", "blocklist");
                asked.say("if-none-match", "*");
                asked.body = xml::blocks(&[]).into_bytes().into();
                match line.send(asked) {
                    Ok(_) => content.delete(key)?,
                    // It is whole, perhaps one that is not made of blocks.
                    Err(e) if matches!(e.kind, ErrorKind::Exists | ErrorKind::Invalid) => {}
                    Err(e) => return Err(e),
                }
            }
            match page.next {
                next if next == token => return Ok(()),
                None => return Ok(()),
                next => token = next,
            }
        }
    }

    /// No snapshot outlives its blob.
    fn irremovable(&self, content: &OurContent, key: &str) -> Result<Option<&'static str>> {
        let whole = format!("{}{key}", content.line.prefix());
        let mut token = None;
        loop {
            // It is the first that begins so, and its snapshots come before it.
            let page = listed(&content.line, &whole, token.as_deref(), Some(2), Some(SNAPSHOTS))?;
            if page.blobs.iter().any(|blob| blob.name == whole && blob.is_snapshot) {
                return Ok(Some(
                    "it has snapshots, which would go with it and could not be put back; remove it yourself",
                ));
            }
            if !page.blobs.is_empty() || page.next.is_none() || page.next == token {
                return Ok(None);
            }
            token = page.next;
        }
    }
}
