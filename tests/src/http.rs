//! As much of HTTP/1.1 as the doubles and the proxy of these tests need: one request a connection, whole bodies.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

/// A request or a reply: its first line, headers in order, and its body.
#[derive(Clone, Debug, Default)]
pub struct Message {
    pub first: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Message {
    /// A reply of this status.
    pub fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { first: format!("HTTP/1.1 {status} -"), headers, body: body.to_vec() }
    }

    /// Reads a request; `None` if the other side closed before it was whole.
    pub fn read_request(stream: &TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut message = Self::read_head(&mut reader)?;
        message.read_body(&mut reader, false)?;
        Some(message)
    }

    /// Reads a reply to a request of this method.
    pub fn read_reply(stream: &TcpStream, method: &str) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        loop {
            let mut message = Self::read_head(&mut reader)?;
            if message.status() == 100 {
                continue;
            }
            if method != "HEAD" && !matches!(message.status(), 204 | 304) {
                message.read_body(&mut reader, true)?;
            }
            return Some(message);
        }
    }

    fn read_head(reader: &mut impl BufRead) -> Option<Self> {
        let mut line = || {
            let mut line = String::new();
            (reader.read_line(&mut line).ok()? > 0).then(|| line.trim_end().to_owned())
        };
        let first = line()?;
        let mut headers = Vec::new();
        loop {
            let line = line()?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => return Some(Self { first, headers, body: Vec::new() }),
            }
        }
    }

    fn read_body(&mut self, reader: &mut impl BufRead, to_the_end: bool) -> Option<()> {
        if let Some(length) = self.header("content-length").and_then(|length| length.parse().ok()) {
            self.body = vec![0; length];
            return reader.read_exact(&mut self.body).ok();
        }
        if self.header("transfer-encoding").is_some() {
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).ok()?;
                let length = usize::from_str_radix(line.trim(), 16).ok()?;
                let mut chunk = vec![0; length + 2];
                reader.read_exact(&mut chunk).ok()?;
                self.body.extend(&chunk[..length]);
                if length == 0 {
                    self.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("transfer-encoding"));
                    return Some(());
                }
            }
        }
        if to_the_end {
            reader.read_to_end(&mut self.body).ok()?;
        }
        Some(())
    }

    pub fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    /// Path and query, as sent.
    pub fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    pub fn header(&self, wanted: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        found.map(|(_, value)| value.as_str())
    }

    pub fn without(mut self, names: &[&str]) -> Self {
        self.headers.retain(|(name, _)| !names.iter().any(|gone| name.eq_ignore_ascii_case(gone)));
        self
    }

    /// Writes it, saying that the connection ends with it.
    pub fn write(&self, mut stream: &TcpStream, body: &[u8]) -> std::io::Result<()> {
        let mut head = format!("{}\r\n", self.first);
        let mut length = None;
        for (name, value) in &self.headers {
            match name.to_ascii_lowercase().as_str() {
                "connection" | "expect" | "transfer-encoding" => {}
                "content-length" => length = Some(value.clone()),
                _ => head.push_str(&format!("{name}: {value}\r\n")),
            }
        }
        // What was announced stays announced, also where less of it follows.
        let length = length.unwrap_or_else(|| self.body.len().to_string());
        head.push_str(&format!("Content-Length: {length}\r\nConnection: close\r\n\r\n"));
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        stream.flush()
    }
}
