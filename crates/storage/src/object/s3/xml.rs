//! What S3 answers and is told in XML.

use serde::Deserialize;

use crate::ContentEntry;
use crate::object::spoken::{Page, decoded, tag, walk};

/// Of these an object must be brought back before it can be read.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// An object as it is listed.
#[derive(Default)]
struct Listed {
    key: String,
    size: String,
    modified: String,
    tag: String,
    class: String,
    revision: String,
}

impl Listed {
    fn entry(self, is_encoded: bool, is_revised: bool) -> Result<ContentEntry, String> {
        if self.key.is_empty() {
            return Err("it lists something without a key".to_owned());
        }
        let none = |what: &str, text: &str| format!("'{}' is no {what}", text.escape_debug());
        let modified: jiff::Timestamp = self.modified.parse().map_err(|_| none("time", &self.modified))?;
        Ok(ContentEntry {
            size: self.size.parse().map_err(|_| none("length", &self.size))?,
            modified_ms: modified.as_millisecond(),
            tag: tag(&self.tag, Some(self.revision.as_str()).filter(|_| is_revised)),
            archived: ARCHIVES.contains(&self.class.as_str()),
            key: if is_encoded { decoded(&self.key, true)? } else { self.key },
        })
    }
}

/// A page of a listing, with the whole keys. `is_revised`: answers tell too how often what belongs to an object was changed.
pub(super) fn listing(body: &[u8], is_revised: bool) -> Result<Page, String> {
    let (mut found, mut listed) = (Vec::new(), Listed::default());
    let (mut is_encoded, mut is_truncated, mut next) = (false, None, None);
    walk(body, "ListBucketResult", &mut |element| {
        let text = element.text;
        match element.name.as_str() {
            "Key" => listed.key = text,
            "Size" => listed.size = text,
            "LastModified" => listed.modified = text,
            "ETag" => listed.tag = text,
            "StorageClass" => listed.class = text,
            "MetaGeneration" => listed.revision = text,
            "Contents" => found.push(std::mem::take(&mut listed)),
            "EncodingType" => is_encoded = text == "url",
            "IsTruncated" => is_truncated = Some(text.trim() == "true"),
            "NextContinuationToken" => next = Some(text),
            _ => {}
        }
        Ok(())
    })?;
    let is_truncated = is_truncated.ok_or("its answer is not understood: it is no listing")?;
    if is_truncated && next.is_none() {
        return Err("the service says that there is more, and not where".to_owned());
    }
    let entries: Result<_, String> =
        found.into_iter().map(|listed| listed.entry(is_encoded, is_revised)).collect();
    Ok(Page { entries: entries?, next: next.filter(|_| is_truncated) })
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
#[derive(Debug, Default)]
pub(super) struct Uploads {
    /// Key and number of each.
    pub(super) uploads: Vec<(String, String)>,
    pub(super) is_truncated: bool,
}

pub(super) fn uploads(body: &[u8]) -> Result<Uploads, String> {
    let (mut found, mut key, mut id) = (Uploads::default(), String::new(), String::new());
    walk(body, "ListMultipartUploadsResult", &mut |element| {
        match element.name.as_str() {
            "Key" => key = element.text,
            "UploadId" => id = element.text,
            "Upload" => found.uploads.push((std::mem::take(&mut key), std::mem::take(&mut id))),
            "IsTruncated" => found.is_truncated = element.text.trim() == "true",
            _ => {}
        }
        Ok(())
    })?;
    Ok(found)
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
            listing(text.as_bytes(), false).map(|page| page.entries)
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
        assert_eq!(page("", " a%2F+b&amp; ").unwrap()[0].key, " a%2F+b& ", "where they are not encoded");
        assert!(page(url, "a%2").is_err() && page(url, "%FF").is_err());
    }

    #[test]
    fn an_answer_that_is_none_is_refused() {
        let page = "<html><body>It works!</body></html>";
        for text in ["", "no", "<Listing>", "<ListBucketResult><Contents/></ListBucketResult>", page] {
            assert!(listing(text.as_bytes(), false).is_err(), "{text}");
        }
        let empty = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        assert!(listing(empty, false).unwrap().entries.is_empty());
        assert!(
            listing(b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", false).is_err()
        );
    }

    #[test]
    fn a_revision_is_part_of_the_tag_only_where_all_answers_tell_it() {
        let text = "<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>k</Key><Size>5</Size><ETag>\"abc\"</ETag>\
             <LastModified>2024-05-06T07:08:09.010Z</LastModified><MetaGeneration>2</MetaGeneration></Contents></ListBucketResult>";
        let tag = |is_revised| listing(text.as_bytes(), is_revised).unwrap().entries[0].tag.clone();
        assert_eq!((tag(false), tag(true)), ("abc".to_owned(), "abc#2".to_owned()));
        let nameless = text.replace("<Key>k</Key>", "");
        assert!(listing(nameless.as_bytes(), true).is_err());
    }
}
