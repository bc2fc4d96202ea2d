//! An object that is written in parts, or copied in parts by the service itself.

use std::ops::Range;

use reqwest::Method;

use super::headers::text;
use super::{Asked, S3Content, xml};
use crate::object::answer::Verb;
use crate::{Content, ErrorKind, Result, Upload};

/// An object in parts.
pub(super) struct S3Upload {
    content: S3Content,
    key: String,
    id: String,
    /// The tag of each part.
    parts: Vec<String>,
}

impl S3Upload {
    pub(super) fn new(content: &S3Content, key: String, id: String) -> Self {
        Self { content: content.clone(), key, id, parts: Vec::new() }
    }

    fn asked(&self, operation: &'static str, method: Method) -> Asked {
        let mut asked = self.content.asked(Verb::Replace, operation, method, &self.key);
        asked.query.push(("uploadId", self.id.clone()));
        asked
    }

    pub(super) fn abort(&self) -> Result<()> {
        let mut asked = self.content.asked(Verb::Delete, "give up the upload of", Method::DELETE, &self.key);
        asked.query.push(("uploadId", self.id.clone()));
        self.content.send_or_gone(asked)
    }

    /// After an error, which is told; what cannot be given up costs room until the bucket's rules remove it.
    pub(super) fn give_up(&self) {
        if let Err(e) = self.abort() {
            tracing::warn!("{e}");
        }
    }

    fn asked_part(&self) -> Asked {
        let mut asked = self.asked("write a part of", Method::PUT);
        asked.query.push(("partNumber", (self.parts.len() + 1).to_string()));
        asked
    }

    pub(super) fn copied_part(
        &mut self,
        source: &str,
        range: Range<u64>,
        condition: Option<(String, String)>,
    ) -> Result<()> {
        let mut asked = self.asked_part();
        asked.headers.push(("x-amz-copy-source".to_owned(), source.to_owned()));
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        asked.headers.push(("x-amz-copy-source-range".to_owned(), bytes));
        asked.headers.extend(condition);
        (asked.moved, asked.proof) = (range.end - range.start, "CopyPartResult");
        let copied: xml::CopiedPart = self.content.ask(asked)?;
        self.parts.push(copied.tag);
        Ok(())
    }
}

impl Upload for S3Upload {
    fn part(&mut self, body: Vec<u8>) -> Result<()> {
        let mut asked = self.asked_part();
        asked.body = body.into();
        let answered = self.content.send(asked)?;
        let tag = text(&answered.headers, "etag").ok_or_else(|| {
            let reason = "the service did not say which part it took";
            self.content.error(ErrorKind::Io, "write a part of", &self.key, reason)
        })?;
        self.parts.push(tag);
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<()> {
        let mut asked = self.asked("end the writing of", Method::POST);
        asked.body = xml::parts(&self.parts).into_bytes().into();
        asked.proof = "CompleteMultipartUploadResult";
        let Err(e) = self.content.send(asked) else { return Ok(()) };
        // Our own first attempt may have been carried out and its answer lost: then the upload is gone and the object there.
        let ours = format!("-{}", self.parts.len());
        let found = if e.kind == ErrorKind::NotFound { self.content.look(&self.key)? } else { None };
        match found.and_then(|found| found.version.tag).is_some_and(|tag| tag.ends_with(&ours)) {
            true => Ok(()),
            false => Err(e),
        }
    }
}
