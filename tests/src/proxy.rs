//! A proxy between us and a service that makes things go wrong: slow, failing, silent, lying.
//!
//! A plan is asked for each request what becomes of it. The proxy counts, so it is also the measure of how many
//! requests some work takes and how many of them at once.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::http::Message;

/// What becomes of a request.
#[derive(Clone, Debug, Default)]
pub struct Fate {
    /// The answer comes so much later.
    pub delay: Duration,
    pub fault: Fault,
}

/// How a request goes wrong.
#[derive(Clone, Debug, Default)]
pub enum Fault {
    /// It does not.
    #[default]
    None,
    /// It is not carried out; this status is the answer, with this code in its document.
    Status(u16, &'static str),
    /// The connection ends; nothing was carried out.
    ResetBefore,
    /// It is carried out and the connection ends without an answer.
    LoseAnswer,
    /// Only so many bytes of the answer's body come, then the connection ends.
    CutBody(usize),
    /// So many bytes of the answer's body come, then silence.
    StallBody(usize),
    /// It is not carried out, and no answer comes.
    Hang,
    /// These headers are not passed on: a service that ignores conditions.
    Without(&'static [&'static str]),
    /// This header of the answer says something else.
    Say(&'static str, &'static str),
    /// The object of another path is returned.
    Swap(String),
}

/// A request, as the plan sees it.
#[derive(Clone, Debug)]
pub struct Request {
    /// From 1.
    pub number: u64,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Requests under way, with this one.
    pub at_once: u64,
}

type Plan = dyn Fn(&Request) -> Fate + Send + Sync;

/// What passed.
#[derive(Debug, Default)]
pub struct Counts {
    pub requests: AtomicU64,
    pub failed: AtomicU64,
    pub at_once: AtomicU64,
    pub most_at_once: AtomicU64,
    pub bytes_up: AtomicU64,
    pub bytes_down: AtomicU64,
    pub by_method: Mutex<std::collections::BTreeMap<String, u64>>,
}

impl Counts {
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::SeqCst)
    }

    pub fn most_at_once(&self) -> u64 {
        self.most_at_once.load(Ordering::SeqCst)
    }

    /// Begins anew.
    pub fn reset(&self) {
        for count in [&self.requests, &self.failed, &self.most_at_once, &self.bytes_up, &self.bytes_down] {
            count.store(0, Ordering::SeqCst);
        }
        self.by_method.lock().unwrap().clear();
    }
}

/// A running proxy; it ends when dropped.
pub struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Arc<Plan>>>,
    counts: Arc<Counts>,
    stopped: Arc<AtomicBool>,
}

impl Proxy {
    /// A proxy in front of `service` that lets everything pass until it has a plan.
    pub fn start(service: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan: Arc<Mutex<Arc<Plan>>> = Arc::new(Mutex::new(Arc::new(|_: &Request| Fate::default())));
        let (counts, stopped) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
        let (plans, counted, stop) = (Arc::clone(&plan), Arc::clone(&counts), Arc::clone(&stopped));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (plans, counts, stop) = (Arc::clone(&plans), Arc::clone(&counted), Arc::clone(&stop));
                std::thread::spawn(move || {
                    counts.at_once.fetch_add(1, Ordering::SeqCst);
                    let way = UnderWay(&counts);
                    pass(&stream, service, &plans, &counts, &stop, way);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, plan, counts, stopped }
    }

    /// From now on this decides.
    pub fn plan(&self, plan: impl Fn(&Request) -> Fate + Send + Sync + 'static) {
        *self.plan.lock().unwrap() = Arc::new(plan);
    }

    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// `http://127.0.0.1:port`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
    }
}

/// Counts a request as under way until its answer begins.
struct UnderWay<'a>(&'a Counts);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.at_once.fetch_sub(1, Ordering::SeqCst);
    }
}

fn pass(
    stream: &TcpStream,
    service: SocketAddr,
    plans: &Mutex<Arc<Plan>>,
    counts: &Counts,
    stop: &AtomicBool,
    way: UnderWay<'_>,
) -> Option<()> {
    let request = Message::read_request(stream)?;
    let now = counts.at_once.load(Ordering::SeqCst);
    counts.most_at_once.fetch_max(now, Ordering::SeqCst);
    counts.bytes_up.fetch_add(request.body.len() as u64, Ordering::SeqCst);
    *counts.by_method.lock().unwrap().entry(request.method().to_owned()).or_default() += 1;
    let number = counts.requests.fetch_add(1, Ordering::SeqCst) + 1;
    let plan = Arc::clone(&plans.lock().unwrap());
    let fate = plan(&Request {
        number,
        method: request.method().to_owned(),
        target: request.target().to_owned(),
        at_once: now,
    });
    std::thread::sleep(fate.delay);
    if !matches!(fate.fault, Fault::None | Fault::Without(_) | Fault::Say(..)) {
        counts.failed.fetch_add(1, Ordering::SeqCst);
    }
    let hang = || {
        while !stop.load(Ordering::SeqCst) && !is_closed(stream) {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let (mut request, mut cut, mut stall, mut said) = (request, None, false, None);
    match fate.fault {
        Fault::None => {}
        Fault::Status(status, code) => {
            let body = format!("<Error><Code>{code}</Code><Message>injected</Message></Error>");
            let reply = Message::reply(status, &[("Content-Type", "application/xml")], body.as_bytes());
            let sent = if request.method() == "HEAD" { &[][..] } else { &reply.body };
            drop(way);
            return reply.write(stream, sent).ok();
        }
        Fault::ResetBefore => return None,
        Fault::Hang => {
            hang();
            return None;
        }
        Fault::LoseAnswer => {
            forward(&request, service)?;
            return None;
        }
        Fault::CutBody(bytes) => cut = Some(bytes),
        Fault::StallBody(bytes) => (cut, stall) = (Some(bytes), true),
        Fault::Without(names) => request = request.without(names),
        Fault::Say(name, value) => said = Some((name, value)),
        Fault::Swap(other) => {
            let mut words: Vec<&str> = request.first.split(' ').collect();
            words[1] = &other;
            request.first = words.join(" ");
        }
    }
    let mut reply = forward(&request, service)?;
    if let Some((name, value)) = said {
        reply = reply.without(&[name]);
        reply.headers.push((name.to_owned(), value.to_owned()));
    }
    drop(way);
    let body = &reply.body[..cut.unwrap_or(usize::MAX).min(reply.body.len())];
    counts.bytes_down.fetch_add(body.len() as u64, Ordering::SeqCst);
    reply.write(stream, body).ok()?;
    if stall {
        hang();
    }
    Some(())
}

fn forward(request: &Message, service: SocketAddr) -> Option<Message> {
    let upstream = TcpStream::connect(service).ok()?;
    request.write(&upstream, &request.body).ok()?;
    Message::read_reply(&upstream, request.method())
}

fn is_closed(stream: &TcpStream) -> bool {
    let _ = stream.set_nonblocking(true);
    let closed = matches!(stream.peek(&mut [0]), Ok(0));
    let _ = stream.set_nonblocking(false);
    closed
}
