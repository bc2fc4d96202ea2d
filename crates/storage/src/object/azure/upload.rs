//! A blob that is written in parts: of blocks, of what is appended, or of pages.

use reqwest::Method;

use super::xml;
use crate::object::answer::Verb;
use crate::object::spoken::{Asked, OurContent, text};
use crate::{ErrorKind, Headers, Result, Upload};

/// The header with a blob's kind.
pub(super) const KIND: &str = "x-ms-blob-type";
/// The header with the digest of a whole blob.
pub(super) const DIGEST: &str = "x-ms-blob-content-md5";
/// The header with the length of a blob of pages.
const LENGTH: &str = "x-ms-blob-content-length";

/// So many bytes of pages are written at once.
const PAGES_BYTES_MAX: usize = 4 << 20;
/// So many bytes are appended at once.
const APPENDED_BYTES_MAX: usize = 64 << 20;

/// How a blob is made of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It appears once its blocks are named.
    Blocks,
    /// It is there from the beginning, and grows.
    Appended,
    /// The same, and its length is a multiple of 512.
    Pages,
}

impl Kind {
    pub(super) fn of(headers: &Headers) -> Result<Self, String> {
        match headers.blob_type.as_deref() {
            None => Ok(Self::Blocks),
            Some("AppendBlob") => Ok(Self::Appended),
            Some("PageBlob") => Ok(Self::Pages),
            Some(other) => Err(format!("it is a blob of the unknown kind '{}'", other.escape_debug())),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Blocks => "BlockBlob",
            Self::Appended => "AppendBlob",
            Self::Pages => "PageBlob",
        }
    }
}

/// A blob on its way.
pub(super) struct Put {
    content: OurContent,
    key: String,
    /// What is said of it when it is made.
    headers: Vec<(String, String)>,
    kind: Kind,
    /// What its blocks are called, so that nobody else's are taken for ours.
    name: u64,
    blocks: Vec<String>,
    length: u64,
}

impl Put {
    pub(super) fn begin(content: &OurContent, key: &str, headers: &Headers, kind: Kind) -> Result<Self> {
        let mut told = content.words().to_send(headers);
        told.extend(headers.content_md5.iter().map(|digest| (DIGEST.to_owned(), digest.clone())));
        let (content, key, name) = (content.clone(), key.to_owned(), rand::random());
        let put = Self { content, key, headers: told, kind, name, blocks: Vec::new(), length: 0 };
        if kind != Kind::Blocks {
            let mut asked = put.asked("begin to write");
            asked.headers = put.headers.clone();
            asked.say(KIND, kind.word());
            if kind == Kind::Pages {
                asked.say(LENGTH, "0");
            }
            put.content.line.send(asked)?;
        }
        Ok(put)
    }

    fn asked(&self, operation: &'static str) -> Asked {
        self.content.line.asked(Verb::Replace, operation, Method::PUT, &self.key)
    }

    fn asked_part(&self, what: &'static str) -> Asked {
        let mut asked = self.asked("write a part of");
        asked.query("comp", what);
        asked
    }

    fn block(&mut self, body: Vec<u8>) -> Result<()> {
        let mut asked = self.asked_part("block");
        // All of one length, and of letters that mean the same in Base64.
        let id = format!("{:016x}{:08}", self.name, self.blocks.len());
        asked.query("blockid", id.as_str());
        asked.body = body.into();
        self.content.line.send(asked)?;
        self.blocks.push(id);
        Ok(())
    }

    fn append(&mut self, body: &[u8]) -> Result<()> {
        let end = self.length + body.len() as u64;
        let mut asked = self.asked_part("appendblock");
        asked.say("x-ms-blob-condition-appendpos", self.length.to_string());
        asked.body = body.to_vec().into();
        if let Err(e) = self.content.line.send(asked) {
            // Our own first attempt may have been carried out and its answer lost.
            let found = match e.kind {
                ErrorKind::Precondition => self.content.head(&self.key)?,
                _ => None,
            };
            let length = found.and_then(|found| text(&found.headers, "content-length")?.parse().ok());
            if length != Some(end) {
                return Err(e);
            }
        }
        self.length = end;
        Ok(())
    }

    fn pages(&mut self, body: &[u8]) -> Result<()> {
        let end = self.length + body.len() as u64;
        let mut asked = self.asked_part("properties");
        asked.say(LENGTH, end.to_string());
        self.content.line.send(asked)?;
        for piece in body.chunks(PAGES_BYTES_MAX) {
            let (start, next) = (self.length, self.length + piece.len() as u64);
            self.length = next;
            // What was never written is zero.
            if piece.iter().all(|&byte| byte == 0) {
                continue;
            }
            let mut asked = self.asked_part("page");
            asked.say("x-ms-page-write", "update");
            asked.say("range", format!("bytes={start}-{}", next - 1));
            asked.body = piece.to_vec().into();
            self.content.line.send(asked)?;
        }
        Ok(())
    }
}

impl Upload for Put {
    fn part(&mut self, body: Vec<u8>) -> Result<()> {
        match self.kind {
            Kind::Blocks => self.block(body),
            Kind::Appended => body.chunks(APPENDED_BYTES_MAX).try_for_each(|piece| self.append(piece)),
            Kind::Pages => self.pages(&body),
        }
    }

    fn end(self: Box<Self>) -> Result<()> {
        if self.kind != Kind::Blocks {
            return Ok(());
        }
        let mut asked = self.asked("end the writing of");
        asked.query("comp", "blocklist");
        asked.headers = self.headers.clone();
        asked.body = xml::blocks(&self.blocks).into_bytes().into();
        self.content.line.send(asked).map(drop)
    }
}
