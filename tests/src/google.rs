//! A double of Google Cloud Storage: as much of its XML interface as a client of stores uses, in memory.
//!
//! Every emulator that can be had ignores conditions, so this one exists. It says how the interface is documented to
//! behave, not how the real service behaves.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::http::Message;

const PAGE: usize = 1000;

#[derive(Default)]
struct State {
    generation: u64,
    objects: BTreeMap<String, (u64, Vec<u8>)>,
}

/// The double, with the one bucket `bucket`. Its thread ends with the process.
pub struct Google {
    address: SocketAddr,
}

impl Default for Google {
    fn default() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&state);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address }
    }
}

impl Google {
    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A service account that needs no token.
    pub fn account(&self) -> String {
        r#"{"private_key":"none","private_key_id":"none","client_email":"none","disable_oauth":true}"#
            .to_owned()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) -> Option<()> {
    let request = Message::read_request(stream)?;
    let reply = answer(&request, &mut state.lock().unwrap());
    let body = if request.method() == "HEAD" { &[][..] } else { &reply.body };
    reply.write(stream, body).ok()
}

fn refuse(status: u16, code: &str) -> Message {
    Message::reply(status, &[], format!("<Error><Code>{code}</Code></Error>").as_bytes())
}

fn answer(request: &Message, state: &mut State) -> Message {
    let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
    let path = decode(path);
    let Some(rest) = path.strip_prefix("/bucket") else { return refuse(404, "NoSuchBucket") };
    let key = rest.trim_start_matches('/').to_owned();
    if key.is_empty() {
        return list(query, state);
    }
    let there = state.objects.get(&key).map(|(generation, _)| *generation);
    match request.method() {
        "PUT" => {
            let wanted: Option<u64> =
                request.header("x-goog-if-generation-match").and_then(|wanted| wanted.parse().ok());
            if wanted.is_some_and(|wanted| wanted != there.unwrap_or(0)) {
                return refuse(412, "PreconditionFailed");
            }
            state.generation += 1;
            state.objects.insert(key, (state.generation, request.body.clone()));
            let generation = state.generation.to_string();
            Message::reply(
                200,
                &[("ETag", &format!("\"{generation}\"")), ("x-goog-generation", &generation)],
                b"",
            )
        }
        "DELETE" => match state.objects.remove(&key) {
            Some(_) => Message::reply(204, &[], b""),
            None => refuse(404, "NoSuchKey"),
        },
        _ => match state.objects.get(&key) {
            Some((generation, body)) => read(request, *generation, body),
            None => refuse(404, "NoSuchKey"),
        },
    }
}

fn read(request: &Message, generation: u64, body: &[u8]) -> Message {
    let (e_tag, generation) = (format!("\"{generation}\""), generation.to_string());
    let mut headers = vec![
        ("ETag", e_tag.as_str()),
        ("x-goog-generation", &generation),
        ("Last-Modified", "Tue, 24 Nov 2026 12:00:00 GMT"),
    ];
    let range = request.header("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
    let Some((start, end)) = range else {
        let length = body.len().to_string();
        headers.push(("Content-Length", &length));
        return Message::reply(200, &headers, body);
    };
    let start: usize = start.parse().unwrap();
    let end = end.parse::<usize>().unwrap().min(body.len().saturating_sub(1));
    if start >= body.len() {
        return refuse(416, "InvalidRange");
    }
    let range = format!("bytes {start}-{end}/{}", body.len());
    headers.push(("Content-Range", &range));
    Message::reply(206, &headers, &body[start..=end])
}

fn list(query: &str, state: &State) -> Message {
    let field = |name: &str| {
        let found = query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        decode(&found.unwrap_or_default().replace('+', " "))
    };
    let (prefix, after) = (field("prefix"), field("continuation-token"));
    let mut keys = state.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let mut text = "<ListBucketResult>".to_owned();
    let mut last = String::new();
    for (key, (generation, body)) in keys.by_ref().take(PAGE) {
        let shown = key.replace('&', "&amp;").replace('<', "&lt;");
        text.push_str(&format!(
            "<Contents><Key>{shown}</Key><Size>{}</Size><LastModified>2026-11-24T12:00:00.000Z</LastModified>\
             <ETag>\"{generation}\"</ETag></Contents>",
            body.len()
        ));
        last = key.replace('&', "&amp;").replace('<', "&lt;");
    }
    if keys.next().is_some() {
        text.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    text.push_str("</ListBucketResult>");
    Message::reply(200, &[("Content-Type", "application/xml")], text.as_bytes())
}

fn decode(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}
