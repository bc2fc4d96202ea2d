//! The other side, for tests: a web server and a mail server that take what they are sent, or fail in a chosen way.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Nobody waits longer than this for a sink.
const TIME_MAX: Duration = Duration::from_secs(120);

/// How a web server answers a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// With this status.
    Status(u16),
    /// By sending the caller elsewhere.
    Redirect(String),
    /// Not at all, and keeps the connection.
    Silence,
    /// By closing the connection after it has read the request.
    Reset,
    /// With 200 and a body that does not end.
    EndlessBody,
}

/// How a mail server behaves.
#[derive(Clone, Copy, Debug)]
pub enum Manner {
    /// Takes every mail.
    Accept,
    /// Refuses each recipient for good (550).
    Refuse,
    /// Has no time now (451).
    Busy,
    /// Says nothing.
    Silence,
    /// Closes the connection in the midst of the mail.
    DropInData,
    /// Greets with a line that does not end.
    EndlessLine,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method and path.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }
}

/// A server on a free port of this machine.
#[derive(Clone, Debug)]
pub struct Sink<Way, Taken> {
    address: SocketAddr,
    shared: Arc<Mutex<Shared<Way, Taken>>>,
}

#[derive(Debug)]
struct Shared<Way, Taken> {
    ways: VecDeque<Way>,
    taken: Vec<Taken>,
    connections: usize,
}

/// A web server.
pub type WebSink = Sink<Answer, Request>;
/// A mail server.
pub type MailSink = Sink<Manner, String>;

impl<Way: Clone + Send + 'static, Taken: Clone + Send + 'static> Sink<Way, Taken> {
    fn start(
        ways: Vec<Way>,
        talk: fn(&Self, TcpStream, Way) -> std::io::Result<()>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let shared = Shared { ways: ways.into(), taken: Vec::new(), connections: 0 };
        let sink = Self { address: listener.local_addr()?, shared: Arc::new(Mutex::new(shared)) };
        let server = sink.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (sink, way) = (server.clone(), server.next_way());
                let _ = stream.set_read_timeout(Some(TIME_MAX));
                std::thread::spawn(move || way.map(|way| talk(&sink, stream, way)));
            }
        });
        Ok(sink)
    }

    fn shared(&self) -> MutexGuard<'_, Shared<Way, Taken>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last one counts for all that follow.
    fn next_way(&self) -> Option<Way> {
        let mut shared = self.shared();
        shared.connections += 1;
        if shared.ways.len() > 1 { shared.ways.pop_front() } else { shared.ways.front().cloned() }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it goes on from now on.
    pub fn set(&self, ways: Vec<Way>) {
        self.shared().ways = ways.into();
    }

    /// What it has taken so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.shared().taken.clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared().connections
    }
}

impl WebSink {
    /// A web server that answers one connection after the other like this.
    pub fn web(answers: Vec<Answer>) -> std::io::Result<Self> {
        Self::start(answers, answer)
    }

    /// Its URL.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn answer(sink: &WebSink, mut stream: TcpStream, way: Answer) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = header.split_once(':') {
            headers.push((name.to_lowercase(), value.trim().to_owned()));
        }
    }
    let mut request = Request { line: line.trim().to_owned(), headers, body: Vec::new() };
    let length: u64 = request.header("content-length").parse().unwrap_or(0);
    reader.take(length).read_to_end(&mut request.body)?;
    sink.shared().taken.push(request);
    let head = |status: u16, more: &str| format!("HTTP/1.1 {status} -\r\nconnection: close\r\n{more}\r\n");
    match way {
        Answer::Status(status) => stream.write_all(head(status, "content-length: 0\r\n").as_bytes()),
        Answer::Redirect(to) => {
            stream.write_all(head(307, &format!("location: {to}\r\ncontent-length: 0\r\n")).as_bytes())
        }
        Answer::Silence => wait_for_the_end(stream),
        Answer::Reset => Ok(()),
        Answer::EndlessBody => {
            stream.write_all(head(200, "").as_bytes())?;
            loop {
                stream.write_all(&[b'x'; 8192])?;
            }
        }
    }
}

fn wait_for_the_end(mut stream: TcpStream) -> std::io::Result<()> {
    std::io::copy(&mut stream, &mut std::io::sink()).map(|_| ())
}

impl MailSink {
    /// A mail server that meets one connection after the other like this.
    pub fn mail(manners: Vec<Manner>) -> std::io::Result<Self> {
        Self::start(manners, converse)
    }
}

fn converse(sink: &MailSink, mut stream: TcpStream, manner: Manner) -> std::io::Result<()> {
    match manner {
        Manner::Silence => return wait_for_the_end(stream),
        Manner::EndlessLine => loop {
            stream.write_all(&[b'2'; 8192])?;
        },
        _ => stream.write_all(b"220 sink ready\r\n")?,
    }
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.split_whitespace().next().unwrap_or_default().to_uppercase();
        match verb.as_str() {
            "EHLO" => stream.write_all(b"250-sink\r\n250 8BITMIME\r\n")?,
            "RCPT" if matches!(manner, Manner::Refuse) => {
                stream.write_all(b"550 5.1.1 no such mailbox\r\n")?;
            }
            "RCPT" if matches!(manner, Manner::Busy) => {
                stream.write_all(b"451 4.3.0 try again later\r\n")?;
            }
            "DATA" => {
                stream.write_all(b"354 go on\r\n")?;
                let mut mail = String::new();
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line)? == 0 {
                        return Ok(());
                    }
                    if matches!(manner, Manner::DropInData) {
                        return Ok(());
                    }
                    if line == ".\r\n" {
                        break;
                    }
                    mail.push_str(&line);
                }
                sink.shared().taken.push(mail);
                stream.write_all(b"250 taken\r\n")?;
            }
            "QUIT" => return stream.write_all(b"221 bye\r\n"),
            _ => stream.write_all(b"250 fine\r\n")?,
        }
    }
}
