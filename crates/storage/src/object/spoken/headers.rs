//! What belongs to an object beside its content, in the headers of requests and answers.

use reqwest::header::HeaderMap;

use crate::{ContentVersion, Headers};

/// What a service calls things, where services differ in names alone.
pub(in crate::object) struct Words {
    /// What stands before the owner's own names.
    pub(in crate::object) metadata: &'static str,
    /// What stands before `content-type` and its like in a request that writes.
    pub(in crate::object) written: &'static str,
    /// What else a request says that writes a whole object.
    pub(in crate::object) whole: &'static [(&'static str, &'static str)],
    /// What else a request says that reads an object or looks at it.
    pub(in crate::object) read: &'static [(&'static str, &'static str)],
    /// Whether a request that writes may say when it expires.
    pub(in crate::object) expires: bool,
    /// Absent where objects have no tags.
    pub(in crate::object) tags: Option<Tags>,
    /// The header with the number of a version.
    pub(in crate::object) version: &'static str,
    /// The same in the query of a reading.
    pub(in crate::object) version_asked: &'static str,
    /// The header with how often what belongs to an object was changed, where that leaves its ETag as it is.
    pub(in crate::object) revision: Option<&'static str>,
    /// What the service answers for `cache-control` where an object has none.
    pub(in crate::object) assumed_cache_control: &'static [&'static str],
}

/// How tags are asked for and written.
pub(in crate::object) struct Tags {
    /// The query that reads them.
    pub(in crate::object) asked: (&'static str, &'static str),
    /// The header that writes them.
    pub(in crate::object) written: &'static str,
    /// The header of an answer with how many there are.
    pub(in crate::object) count: &'static str,
    /// Whether each answer has that header if there are some.
    pub(in crate::object) always_counted: bool,
}

/// All but letters, digits and four marks as `%XX`, as signatures want it; slashes only where they part a path.
pub(in crate::object) fn encoded(text: &str, is_path: bool) -> String {
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

pub(in crate::object) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

/// What stands between an ETag and how often what belongs to the object was changed.
const REVISED: char = '#';

/// A tag that is another one when anything of an object is.
pub(in crate::object) fn tag(e_tag: &str, revision: Option<&str>) -> String {
    // One that is weak is none in a condition.
    let e_tag = e_tag.strip_prefix("W/").unwrap_or(e_tag).trim_matches('"');
    match revision.filter(|revision| !matches!(*revision, "" | "1")) {
        Some(revision) if !e_tag.is_empty() => format!("{e_tag}{REVISED}{revision}"),
        _ => e_tag.to_owned(),
    }
}

/// The headers that belong to an object, by the names that they have in answers.
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

impl Words {
    pub(super) fn version_of(&self, headers: &HeaderMap) -> ContentVersion {
        let revision = self.revision.and_then(|name| text(headers, name));
        ContentVersion {
            tag: text(headers, "etag").map(|e_tag| tag(&e_tag, revision.as_deref())),
            number: text(headers, self.version).filter(|number| number != "null"),
        }
    }

    /// The ETag of a [`tag`].
    pub(in crate::object) fn bare<'t>(&self, tag: &'t str) -> &'t str {
        match tag.rsplit_once(REVISED).filter(|_| self.revision.is_some()) {
            Some((bare, _)) => bare,
            None => tag,
        }
    }

    pub(super) fn kept(&self, headers: &HeaderMap) -> Headers {
        let mut kept = Headers::default();
        for (name, slot) in named(&mut kept) {
            *slot = text(headers, name);
        }
        if !self.expires {
            kept.expires = None;
        }
        kept.cache_control =
            kept.cache_control.filter(|told| !self.assumed_cache_control.contains(&told.as_str()));
        for (name, value) in headers {
            if let Some(own) = name.as_str().strip_prefix(self.metadata) {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                kept.metadata.push((own.to_owned(), value));
            }
        }
        kept.metadata.sort();
        kept
    }

    /// What a request that writes says of an object.
    pub(in crate::object) fn to_send(&self, headers: &Headers) -> Vec<(String, String)> {
        let mut headers = headers.clone();
        if !self.expires {
            headers.expires = None;
        }
        let mut sent: Vec<_> = named(&mut headers)
            .into_iter()
            .filter_map(|(name, value)| Some((format!("{}{name}", self.written), value.take()?)))
            .collect();
        let own = |(name, value)| (format!("{}{name}", self.metadata), value);
        sent.extend(headers.metadata.into_iter().map(own));
        sent.extend(self.tags_to_send(&headers.tags));
        sent
    }

    pub(in crate::object) fn tags_to_send(&self, tags: &[(String, String)]) -> Option<(String, String)> {
        let words = self.tags.as_ref().filter(|_| !tags.is_empty())?;
        let pair =
            |(name, value): &(String, String)| format!("{}={}", encoded(name, false), encoded(value, false));
        let pairs: Vec<_> = tags.iter().map(pair).collect();
        Some((words.written.to_owned(), pairs.join("&")))
    }
}
