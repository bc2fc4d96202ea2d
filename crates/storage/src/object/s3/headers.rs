//! What belongs to an object beside its content, in the headers of requests and answers.

use reqwest::header::HeaderMap;

use crate::{ContentVersion, Headers};

const METADATA: &str = "x-amz-meta-";

/// All but letters, digits and four marks as `%XX`, as the signature wants it; slashes only where they part a path.
pub(super) fn encoded(text: &str, is_path: bool) -> String {
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

pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

pub(super) fn version_of(headers: &HeaderMap) -> ContentVersion {
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

pub(super) fn kept(headers: &HeaderMap) -> Headers {
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

pub(super) fn to_send(headers: &Headers) -> Vec<(String, String)> {
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
