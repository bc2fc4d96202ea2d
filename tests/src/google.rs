//! A double of Google Cloud Storage: as much of its XML interface as we use, in memory.
//!
//! Every emulator that can be had ignores conditions, so this one exists. It says how the interface is documented to
//! behave, not how the real service behaves.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};

use crate::http::Message;

const PAGE: usize = 1000;

/// Headers that are kept with an object and given back.
const KEPT: [&str; 5] =
    ["content-type", "content-encoding", "content-language", "content-disposition", "cache-control"];
const OWN: &str = "x-goog-meta-";

#[derive(Clone, Default)]
struct Object {
    generation: u64,
    /// How often its headers alone were changed, and one.
    revision: u64,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// It was made of parts: its tag tells nothing of its content.
    composed: bool,
}

#[derive(Default)]
struct Upload {
    key: String,
    headers: Vec<(String, String)>,
    parts: BTreeMap<u64, Vec<u8>>,
}

#[derive(Default)]
struct State {
    generation: u64,
    objects: BTreeMap<String, Object>,
    /// What was replaced or removed, in a bucket that keeps versions.
    replaced: Vec<(String, Object)>,
    keeps_versions: bool,
    uploads: BTreeMap<String, Upload>,
}

/// The double, with the one bucket `bucket`. Its thread ends with the process.
pub struct Google {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Default for Google {
    fn default() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(&stream, &state));
            }
        });
        Self { address, state }
    }
}

impl Google {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A service account that needs no token.
    pub fn account(&self) -> String {
        r#"{"private_key":"none","private_key_id":"none","client_email":"none","disable_oauth":true}"#
            .to_owned()
    }

    /// From now on the bucket keeps what is replaced or removed.
    pub fn keep_versions(&self) {
        self.state.lock().unwrap().keeps_versions = true;
    }

    /// Changes one header of an object alone.
    pub fn say(&self, key: &str, name: &str, value: &str) {
        let mut state = self.state.lock().unwrap();
        let object = state.objects.get_mut(key).unwrap();
        object.headers.retain(|(other, _)| other != name);
        object.headers.push((name.to_owned(), value.to_owned()));
        object.revision += 1;
    }

    /// How many uploads nobody ended.
    pub fn open_uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.len()
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

fn document(text: &str) -> Message {
    Message::reply(200, &[("Content-Type", "application/xml")], text.as_bytes())
}

/// A field of a query.
fn field(query: &str, name: &str) -> Option<String> {
    let found = query.split('&').find_map(|pair| match pair.split_once('=') {
        Some((other, value)) => (other == name).then_some(value),
        None => (pair == name).then_some(""),
    });
    found.map(|value| decode(&value.replace('+', " ")))
}

impl State {
    fn insert(
        &mut self,
        key: String,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        composed: bool,
    ) -> Message {
        self.generation += 1;
        let object = Object { generation: self.generation, revision: 1, headers, body, composed };
        let reply = [("ETag", e_tag(&object)), ("x-goog-generation", object.generation.to_string())];
        self.retire(&key);
        self.objects.insert(key, object);
        Message::reply(200, &reply.each_ref().map(|(name, value)| (*name, value.as_str())), b"")
    }

    fn retire(&mut self, key: &str) -> Option<()> {
        let object = self.objects.remove(key)?;
        if self.keeps_versions {
            self.replaced.push((key.to_owned(), object));
        }
        Some(())
    }

    fn find(&self, key: &str, query: &str) -> Option<&Object> {
        let Some(wanted) = field(query, "generation") else { return self.objects.get(key) };
        let old = self.replaced.iter().filter(|(other, _)| other == key).map(|(_, object)| object);
        old.chain(self.objects.get(key)).find(|object| object.generation.to_string() == wanted)
    }
}

fn e_tag(object: &Object) -> String {
    if object.composed {
        return format!("\"{}=\"", object.generation);
    }
    let digest = Sha256::digest(&object.body);
    let digest: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("\"{digest}\"")
}

fn kept(request: &Message) -> Vec<(String, String)> {
    let names = request.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    names.filter(|(name, _)| KEPT.contains(&name.as_str()) || name.starts_with(OWN)).collect()
}

fn answer(request: &Message, state: &mut State) -> Message {
    let (path, query) = request.target().split_once('?').unwrap_or((request.target(), ""));
    let path = decode(path);
    let key = match path.strip_prefix("/bucket") {
        Some("") => String::new(),
        Some(rest) if rest.starts_with('/') => rest[1..].to_owned(),
        _ => return refuse(404, "NoSuchBucket"),
    };
    if key.is_empty() {
        return if field(query, "uploads").is_some() {
            list_uploads(query, state)
        } else {
            list(query, state)
        };
    }
    let there = state.objects.get(&key).map(|object| object.generation);
    match request.method() {
        "PUT" if field(query, "partNumber").is_some() => put_part(request, query, state),
        "PUT" if request.header("x-goog-copy-source").is_some() => copy(request, key, state),
        "PUT" => {
            let wanted: Option<u64> =
                request.header("x-goog-if-generation-match").and_then(|wanted| wanted.parse().ok());
            if wanted.is_some_and(|wanted| wanted != there.unwrap_or(0)) {
                return refuse(412, "PreconditionFailed");
            }
            state.insert(key, kept(request), request.body.clone(), false)
        }
        "POST" if field(query, "uploads").is_some() => {
            state.generation += 1;
            let id = format!("upload {}", state.generation);
            state.uploads.insert(id.clone(), Upload { key, headers: kept(request), parts: BTreeMap::new() });
            document(&format!(
                "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
            ))
        }
        "POST" => match state.uploads.remove(&field(query, "uploadId").unwrap_or_default()) {
            Some(upload) => {
                let body = upload.parts.into_values().flatten().collect();
                state.insert(key, upload.headers, body, true);
                document("<CompleteMultipartUploadResult></CompleteMultipartUploadResult>")
            }
            None => refuse(404, "NoSuchUpload"),
        },
        "DELETE" => {
            let gone = match field(query, "uploadId") {
                Some(id) => state.uploads.remove(&id).map(drop),
                None => state.retire(&key),
            };
            gone.map_or_else(|| refuse(404, "NoSuchKey"), |()| Message::reply(204, &[], b""))
        }
        _ => match state.find(&key, query) {
            Some(object) => read(request, object),
            None => refuse(404, "NoSuchKey"),
        },
    }
}

fn put_part(request: &Message, query: &str, state: &mut State) -> Message {
    let number = field(query, "partNumber").and_then(|number| number.parse().ok()).unwrap();
    match state.uploads.get_mut(&field(query, "uploadId").unwrap_or_default()) {
        Some(upload) => {
            upload.parts.insert(number, request.body.clone());
            Message::reply(200, &[("ETag", &format!("\"part {number}\""))], b"")
        }
        None => refuse(404, "NoSuchUpload"),
    }
}

fn copy(request: &Message, key: String, state: &mut State) -> Message {
    let source = decode(request.header("x-goog-copy-source").unwrap());
    let Some(source) = source.strip_prefix("bucket/").and_then(|key| state.objects.get(key)) else {
        return refuse(404, "NoSuchKey");
    };
    if request.header("x-goog-copy-source-if-match").is_some_and(|wanted| wanted != e_tag(source)) {
        return refuse(412, "PreconditionFailed");
    }
    let source = source.clone();
    state.insert(key, source.headers, source.body, source.composed);
    document("<CopyObjectResult></CopyObjectResult>")
}

fn read(request: &Message, object: &Object) -> Message {
    let e_tag = e_tag(object);
    if request.header("if-match").is_some_and(|wanted| wanted != e_tag) {
        return refuse(412, "PreconditionFailed");
    }
    let (generation, revision) = (object.generation.to_string(), object.revision.to_string());
    let packed = ("content-encoding".to_owned(), "gzip".to_owned());
    let unpacks = object.headers.contains(&packed)
        && !request.header("accept-encoding").is_some_and(|accepted| accepted.contains("gzip"));
    if unpacks {
        return Message::reply(200, &[("ETag", &e_tag)], b"what it was before it was packed");
    }
    let mut headers = vec![
        ("ETag", e_tag.as_str()),
        ("x-goog-generation", &generation),
        ("x-goog-metageneration", &revision),
        ("Last-Modified", "Tue, 24 Nov 2026 12:00:00 GMT"),
    ];
    headers.extend(object.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let body = &object.body;
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn list(query: &str, state: &State) -> Message {
    let asked = |name| field(query, name).unwrap_or_default();
    let (prefix, after) = (asked("prefix"), asked("continuation-token"));
    let page = asked("max-keys").parse().unwrap_or(PAGE);
    let is_encoded = asked("encoding-type") == "url";
    let mut keys = state.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > after);
    let mut text = "<ListBucketResult>".to_owned();
    let mut last = String::new();
    for (key, object) in keys.by_ref().take(page) {
        let shown = if is_encoded { encode(key) } else { escaped(key) };
        text.push_str(&format!(
            "<Contents><Key>{shown}</Key><Generation>{}</Generation><MetaGeneration>{}</MetaGeneration>\
             <Size>{}</Size><LastModified>2026-11-24T12:{:02}:{:02}.000Z</LastModified><ETag>{}</ETag></Contents>",
            object.generation,
            object.revision,
            object.body.len(),
            object.generation / 60 % 60,
            object.generation % 60,
            e_tag(object)
        ));
        last = escaped(key);
    }
    let is_truncated = keys.next().is_some();
    if is_truncated {
        text.push_str(&format!("<NextContinuationToken>{last}</NextContinuationToken>"));
    }
    if is_encoded {
        text.push_str("<EncodingType>url</EncodingType>");
    }
    text.push_str(&format!("<IsTruncated>{is_truncated}</IsTruncated></ListBucketResult>"));
    document(&text)
}

fn list_uploads(query: &str, state: &State) -> Message {
    let prefix = field(query, "prefix").unwrap_or_default();
    let uploads = state.uploads.iter().filter(|(_, upload)| upload.key.starts_with(&prefix));
    let uploads = uploads.map(|(id, upload)| {
        format!("<Upload><Key>{}</Key><UploadId>{id}</UploadId></Upload>", escaped(&upload.key))
    });
    let uploads: String = uploads.collect();
    document(&format!(
        "<ListMultipartUploadsResult>{uploads}<IsTruncated>false</IsTruncated></ListMultipartUploadsResult>"
    ))
}

fn encode(text: &str) -> String {
    let letter = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(letter).collect()
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
