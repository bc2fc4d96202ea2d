//! A bucket as somebody else's content: any key, what the service says about each object, and no promise but the service's own.
//!
//! [`Storage`](crate::Storage) is for objects that we alone write, under keys of ours. Here objects come with headers, tags
//! and keys that others chose (`a//b`, `folder/`), are listed in the service's order, read in ranges of one version, replaced
//! in place, and copied by the service itself.

use std::fmt;
use std::ops::Range;

use crate::Result;

/// One object, as a listing tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentEntry {
    /// Its key, relative to the place.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// When it was put there, in milliseconds since 1970 by the service's clock.
    pub modified_ms: i64,
    /// Its ETag, without quotes. Equal tags of one key mean equal content.
    pub tag: String,
    /// It lies in an archive, and cannot be read before somebody has it brought back.
    pub archived: bool,
}

/// What the service keeps beside an object's content, and gives back with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// `Content-Type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// `Content-Encoding`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_encoding: Option<String>,
    /// `Content-Language`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_language: Option<String>,
    /// `Content-Disposition`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_disposition: Option<String>,
    /// `Cache-Control`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<String>,
    /// `Expires`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    /// `Content-MD5` of the whole, where somebody gave it one (Azure).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_md5: Option<String>,
    /// What it is made of, if that is not blocks: `AppendBlob`, `PageBlob` (Azure).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob_type: Option<String>,
    /// The owner's own names and values, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
    /// Tags, by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<(String, String)>,
}

/// Which content of a key is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentVersion {
    /// The tag that it must have; else `Precondition`.
    pub tag: Option<String>,
    /// The number that a bucket with versions gave it: it can be read though another has taken its place.
    pub number: Option<String>,
}

/// An object without its content.
#[derive(Clone, Debug)]
pub struct ContentLook {
    /// Size of the whole object.
    pub size: u64,
    /// Which content it is.
    pub version: ContentVersion,
    /// What belongs to it.
    pub headers: Headers,
    /// What else belongs to it and could not be had, and why.
    pub lacking: Vec<String>,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct ContentRead {
    /// The bytes of the range.
    pub body: Vec<u8>,
    /// The object itself.
    pub object: ContentLook,
}

/// A bucket, or the part of it below a prefix, whose objects belong to others. Used from many threads at once; each call is
/// tried again within limits.
pub trait Content: Send + Sync + fmt::Debug {
    /// Where this is, for people: an URL without secrets.
    fn location(&self) -> String;

    /// The bucket's name.
    fn bucket(&self) -> String;

    /// How many calls at once are worth the while.
    fn parallelism(&self) -> usize;

    /// Calls `visit` for each object whose key starts with these letters. Complete, or an error.
    fn list(&self, prefix: &str, visit: &mut dyn FnMut(ContentEntry) -> Result<()>) -> Result<()>;

    /// The first object whose key starts with these letters.
    fn first(&self, prefix: &str) -> Result<Option<ContentEntry>>;

    /// Reads a range, or all of what has 16 MiB at most. `NotFound` if there is none, `Precondition` if it is not that version.
    fn read(&self, key: &str, range: Option<Range<u64>>, version: &ContentVersion) -> Result<ContentRead>;

    /// Reads all of an object but its content; `None` if there is none.
    fn look(&self, key: &str) -> Result<Option<ContentLook>>;

    /// Writes an object in one request, in place of what was there.
    fn write(&self, key: &str, headers: &Headers, body: Vec<u8>) -> Result<()>;

    /// Begins an object that is too large for one request. It appears when it is [ended](Upload::end).
    fn upload(&self, key: &str, headers: &Headers) -> Result<Box<dyn Upload>>;

    /// Has the service copy an object of that size with all that belongs to it, in place of what was there. `Precondition` if
    /// its tag is another one.
    fn copy(&self, from: &str, to: &str, size: u64, tag: Option<&str>) -> Result<()>;

    /// Removes an object. An object that is not there is no error.
    fn delete(&self, key: &str) -> Result<()>;

    /// Why an object cannot be removed so that it could be put back as it was; `None` if it can.
    fn irremovable(&self, key: &str) -> Result<Option<&'static str>>;

    /// Gives up uploads of keys that start with these letters and that nobody ended.
    fn abort_uploads(&self, prefix: &str) -> Result<()>;
}

/// An object that is written in parts. Dropped without an end it leaves parts, or an object, behind; the
/// parts [`Content::abort_uploads`] removes.
pub trait Upload: Send {
    /// Writes the next part. All but the last are of one size, at least 5 MiB, and whole MiB.
    fn part(&mut self, body: Vec<u8>) -> Result<()>;

    /// Makes the object of its parts, in place of what was there.
    fn end(self: Box<Self>) -> Result<()>;
}
