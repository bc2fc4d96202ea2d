//! An object that is written in parts, or copied in parts by the service itself.

use std::ops::Range;

use reqwest::Method;

use super::xml;
use crate::object::answer::Verb;
use crate::object::spoken::{Asked, OurContent, text};
use crate::{Content, ErrorKind, Result, Upload};

/// An object in parts.
pub(super) struct S3Upload {
    content: OurContent,
    key: String,
    id: String,
    /// The tag of each part.
    parts: Vec<String>,
    length: u64,
    /// The tag of an object ends with the number of its parts.
    tag_counts: bool,
}

impl S3Upload {
    pub(super) fn new(content: &OurContent, key: String, id: String, tag_counts: bool) -> Self {
        Self { content: content.clone(), key, id, parts: Vec::new(), length: 0, tag_counts }
    }

    fn asked(&self, operation: &'static str, method: Method) -> Asked {
        let mut asked = self.content.line.asked(Verb::Replace, operation, method, &self.key);
        asked.query("uploadId", self.id.as_str());
        asked
    }

    pub(super) fn abort(&self) -> Result<()> {
        let mut asked =
            self.content.line.asked(Verb::Delete, "give up the upload of", Method::DELETE, &self.key);
        asked.query("uploadId", self.id.as_str());
        self.content.line.send_or_gone(asked)
    }

    /// After an error, which is told; what cannot be given up costs room until the bucket's rules remove it.
    pub(super) fn give_up(&self) {
        if let Err(e) = self.abort() {
            tracing::warn!("{e}");
        }
    }

    fn asked_part(&self) -> Asked {
        let mut asked = self.asked("write a part of", Method::PUT);
        asked.query("partNumber", (self.parts.len() + 1).to_string());
        asked
    }

    pub(super) fn copied_part(
        &mut self,
        source: &str,
        range: Range<u64>,
        condition: Option<(String, String)>,
    ) -> Result<()> {
        let mut asked = self.asked_part();
        asked.say("x-amz-copy-source", source);
        asked.say("x-amz-copy-source-range", format!("bytes={}-{}", range.start, range.end - 1));
        asked.headers.extend(condition);
        (asked.moved, asked.proof) = (range.end - range.start, "CopyPartResult");
        let copied: xml::CopiedPart = self.content.line.ask(asked)?;
        self.parts.push(copied.tag);
        self.length += range.end - range.start;
        Ok(())
    }
}

impl Upload for S3Upload {
    fn part(&mut self, body: Vec<u8>) -> Result<()> {
        let mut asked = self.asked_part();
        let length = body.len() as u64;
        asked.body = body.into();
        let answered = self.content.line.send(asked)?;
        let tag = text(&answered.headers, "etag").ok_or_else(|| {
            let reason = "the service did not say which part it took";
            self.content.line.error(ErrorKind::Io, "write a part of", &self.key, reason)
        })?;
        self.parts.push(tag);
        self.length += length;
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<()> {
        let mut asked = self.asked("end the writing of", Method::POST);
        asked.body = xml::parts(&self.parts).into_bytes().into();
        asked.proof = "CompleteMultipartUploadResult";
        let Err(e) = self.content.line.send(asked) else { return Ok(()) };
        // Our own first attempt may have been carried out and its answer lost: then the upload is gone and the object there.
        let found = if e.kind == ErrorKind::NotFound { self.content.look(&self.key)? } else { None };
        let ours = format!("-{}", self.parts.len());
        let is_ours = found.is_some_and(|found| {
            let tells = found.version.tag.is_some_and(|tag| tag.ends_with(&ours));
            found.size == self.length && (tells || !self.tag_counts)
        });
        match is_ours {
            true => Ok(()),
            false => Err(e),
        }
    }
}
