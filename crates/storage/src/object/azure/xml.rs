//! What Azure answers and is told in XML.

use crate::ContentEntry;
use crate::object::spoken::{decoded, tag, walk};

/// A page of a listing.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) blobs: Vec<Blob>,
    /// Where the next page begins.
    pub(super) next: Option<String>,
}

/// A blob, or a snapshot of one, as it is listed.
#[derive(Debug, Default)]
pub(super) struct Blob {
    pub(super) name: String,
    pub(super) is_snapshot: bool,
    size: String,
    modified: String,
    tag: String,
    tier: String,
    resource: String,
}

/// Blobs of this tier must be brought back before they can be read.
const ARCHIVE: &str = "Archive";

impl Blob {
    pub(super) fn has_content(&self) -> bool {
        !matches!(self.size.as_str(), "" | "0")
    }

    /// A directory of an account whose containers have such.
    pub(super) fn is_directory(&self) -> bool {
        self.resource.eq_ignore_ascii_case("directory")
    }

    pub(super) fn entry(self) -> Result<ContentEntry, String> {
        let none = |what: &str, text: &str| format!("'{}' is no {what}", text.escape_debug());
        let modified = jiff::fmt::rfc2822::parse(&self.modified).map_err(|_| none("time", &self.modified))?;
        Ok(ContentEntry {
            size: self.size.parse().map_err(|_| none("length", &self.size))?,
            modified_ms: modified.timestamp().as_millisecond(),
            tag: tag(&self.tag, None),
            archived: self.tier == ARCHIVE,
            key: self.name,
        })
    }
}

pub(super) fn listing(body: &[u8]) -> Result<Listing, String> {
    let (mut listing, mut blob) = (Listing::default(), Blob::default());
    walk(body, "EnumerationResults", &mut |element| {
        let text = element.text;
        match element.name.as_str() {
            "Name" if element.is_encoded => blob.name = decoded(&text, false)?,
            "Name" => blob.name = text,
            "Snapshot" => blob.is_snapshot = true,
            "Content-Length" => blob.size = text,
            "Last-Modified" => blob.modified = text,
            "Etag" => blob.tag = text,
            "AccessTier" => blob.tier = text,
            "ResourceType" => blob.resource = text,
            "Blob" => listing.blobs.push(std::mem::take(&mut blob)),
            "NextMarker" => listing.next = Some(text).filter(|text| !text.is_empty()),
            _ => {}
        }
        Ok(())
    })?;
    match listing.blobs.iter().any(|blob| blob.name.is_empty()) {
        true => Err("it lists something without a name".to_owned()),
        false => Ok(listing),
    }
}

/// Names the blocks that make a blob.
pub(super) fn blocks(ids: &[String]) -> String {
    let blocks: String = ids.iter().map(|id| format!("<Latest>{id}</Latest>")).collect();
    format!("<?xml version=\"1.0\" encoding=\"utf-8\"?><BlockList>{blocks}</BlockList>")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(blobs: &str, end: &str) -> String {
        format!(
            "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ServiceEndpoint=\"https://a/\" ContainerName=\"c\">\
             <Prefix>p</Prefix><Blobs>{blobs}</Blobs>{end}</EnumerationResults>"
        )
    }

    fn blob(name: &str, more: &str) -> String {
        format!(
            "<Blob>{name}<Properties><Creation-Time>Mon, 06 May 2024 07:08:09 GMT</Creation-Time>\
             <Last-Modified>Mon, 06 May 2024 07:08:09 GMT</Last-Modified><Etag>0x8D</Etag><Content-Length>5</Content-Length>{more}\
             </Properties><OrMetadata /></Blob>"
        )
    }

    #[test]
    fn names_of_a_listing_are_read_as_the_service_wrote_them() {
        let text = page(
            &[
                blob("<Name> a&amp;b//c/ </Name>", "<AccessTier>Archive</AccessTier>"),
                blob("<Name Encoded=\"true\">a%20%EF%BF%BE+%25</Name>", ""),
                blob("<Name>per%41cent&#x9;</Name><Snapshot>2024-05-06T07:08:09.0Z</Snapshot>", ""),
                blob("<Name>dir</Name>", "<ResourceType>directory</ResourceType>"),
            ]
            .concat(),
            "<NextMarker>2!4!a</NextMarker>",
        );
        let found = listing(text.as_bytes()).unwrap();
        assert_eq!(found.next.as_deref(), Some("2!4!a"));
        assert_eq!(
            found.blobs.iter().map(|blob| blob.is_snapshot).collect::<Vec<_>>(),
            [false, false, true, false]
        );
        assert_eq!(
            found.blobs.iter().map(Blob::is_directory).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        let entries: Vec<_> = found.blobs.into_iter().map(|blob| blob.entry().unwrap()).collect();
        let expected = ContentEntry {
            key: " a&b//c/ ".into(),
            size: 5,
            modified_ms: 1_714_979_289_000,
            tag: "0x8D".into(),
            archived: true,
        };
        assert_eq!(entries[0], expected);
        assert_eq!((entries[1].key.as_str(), entries[2].key.as_str()), ("a \u{fffe}+%", "per%41cent\t"));
        let end = listing(page("", "<NextMarker />").as_bytes()).unwrap();
        assert!(end.blobs.is_empty() && end.next.is_none());
    }

    #[test]
    fn a_listing_that_is_none_or_damaged_is_refused() {
        let whole = page(&blob("<Name>a</Name>", ""), "<NextMarker/>");
        let cut = &whole[..whole.len() - 30];
        let nameless = page(&blob("", ""), "");
        let misread = page(&blob("<Name Encoded=\"true\">%f</Name>", ""), "");
        for text in ["", "<html><body>It works!</body></html>", cut, &nameless, &misread] {
            assert!(listing(text.as_bytes()).is_err(), "{text}");
        }
        let timeless = page("<Blob><Name>a</Name></Blob>", "");
        let found = listing(timeless.as_bytes()).unwrap();
        assert!(found.blobs.into_iter().all(|blob| blob.entry().is_err()));
    }
}
