//! What S3 answers and is told in XML.

use serde::Deserialize;

use crate::ContentEntry;

/// Understands an answer.
pub(super) fn read<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let text = std::str::from_utf8(body).map_err(|_| "its answer is no text".to_owned())?;
    quick_xml::de::from_str(text).map_err(|e| format!("its answer is not understood: {e}"))
}

/// A page of a listing.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listing {
    #[serde(default)]
    contents: Vec<Listed>,
    /// Without it this is no listing.
    pub(super) is_truncated: bool,
    pub(super) next_continuation_token: Option<String>,
    encoding_type: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Listed {
    key: String,
    size: u64,
    last_modified: String,
    #[serde(rename = "ETag", default)]
    tag: String,
    #[serde(default)]
    storage_class: String,
}

/// Of these an object must be brought back before it can be read.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

impl Listing {
    /// Its objects, with the whole keys.
    pub(super) fn entries(&self) -> Result<Vec<ContentEntry>, String> {
        let is_encoded = self.encoding_type.as_deref() == Some("url");
        let entry = |listed: &Listed| {
            let key = match is_encoded {
                true => decoded(&listed.key),
                false => Ok(listed.key.clone()),
            };
            let modified: jiff::Timestamp = listed
                .last_modified
                .parse()
                .map_err(|_| format!("'{}' is no time", listed.last_modified.escape_debug()))?;
            Ok(ContentEntry {
                key: key?,
                size: listed.size,
                modified_ms: modified.as_millisecond(),
                tag: listed.tag.trim_matches('"').to_owned(),
                archived: ARCHIVES.contains(&listed.storage_class.as_str()),
            })
        };
        self.contents.iter().map(entry).collect()
    }
}

/// `%XX` and `+` as what they stand for.
fn decoded(text: &str) -> Result<String, String> {
    let wrong = || format!("its key '{}' is not encoded as it says", text.escape_debug());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&first) = rest.next() {
        bytes.push(match first {
            b'%' => {
                let (digits, after) = rest.as_slice().split_at_checked(2).ok_or_else(wrong)?;
                rest = after.iter();
                let mut byte = [0];
                hex::decode_to_slice(digits, &mut byte).map_err(|_| wrong())?;
                byte[0]
            }
            b'+' => b' ',
            plain => plain,
        });
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Tagging {
    #[serde(default)]
    tag_set: TagSet,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagSet {
    #[serde(default, rename = "Tag")]
    tags: Vec<Tag>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    key: String,
    #[serde(default)]
    value: String,
}

impl Tagging {
    pub(super) fn pairs(self) -> Vec<(String, String)> {
        self.tag_set.tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
    }
}

/// An upload in parts that has begun.
#[derive(Debug, Deserialize)]
pub(super) struct Begun {
    #[serde(rename = "UploadId")]
    pub(super) upload_id: String,
}

/// A part that the service copied.
#[derive(Debug, Deserialize)]
pub(super) struct CopiedPart {
    #[serde(rename = "ETag")]
    pub(super) tag: String,
}

/// Uploads that nobody ended.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Uploads {
    #[serde(default, rename = "Upload")]
    pub(super) uploads: Vec<OpenUpload>,
    #[serde(default)]
    pub(super) is_truncated: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct OpenUpload {
    pub(super) key: String,
    pub(super) upload_id: String,
}

/// Names the parts that make an object, by their tags.
pub(super) fn parts(tags: &[String]) -> String {
    let part = |(number, tag): (usize, &String)| {
        let tag = tag.replace('&', "&amp;").replace('<', "&lt;");
        format!("<Part><PartNumber>{}</PartNumber><ETag>{tag}</ETag></Part>", number + 1)
    };
    let parts: String = tags.iter().enumerate().map(part).collect();
    format!("<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_a_listing_are_read_as_the_service_wrote_them() {
        let page = |encoding: &str, key: &str| {
            let text = format!(
                "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <Name>b</Name>{encoding}<IsTruncated>false</IsTruncated><KeyCount>1</KeyCount><Contents><Key>{key}</Key>\
                 <LastModified>2024-05-06T07:08:09.010Z</LastModified><ETag>&quot;0a-2&quot;</ETag><Size>5</Size>\
                 <StorageClass>STANDARD</StorageClass></Contents></ListBucketResult>"
            );
            read::<Listing>(text.as_bytes()).unwrap().entries()
        };
        let url = "<EncodingType>url</EncodingType>";
        let found = page(url, "a%2F+b%2B%C3%A4//c/").unwrap();
        let expected = ContentEntry {
            key: "a/ b+ä//c/".into(),
            size: 5,
            modified_ms: 1_714_979_289_010,
            tag: "0a-2".into(),
            archived: false,
        };
        assert_eq!(found, [expected]);
        assert_eq!(page("", "a%2F+b&amp;").unwrap()[0].key, "a%2F+b&");
        assert!(page(url, "a%2").is_err() && page(url, "%FF").is_err());
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        let page = "<html><body>It works!</body></html>";
        for text in ["", "no", "<Listing>", "<ListBucketResult><Contents/></ListBucketResult>", page] {
            assert!(read::<Listing>(text.as_bytes()).is_err(), "{text}");
        }
        let empty = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert!(read::<Listing>(empty).unwrap().contents.is_empty());
    }
}
