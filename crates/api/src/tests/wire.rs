//! Real sockets: TLS, both versions of HTTP, callers that are broken, slow or hostile, and the stop.

use super::support::{ADMIN, PUBLIC_URL, World};
use crate::server::{ServerSettings, bind};
use recovery::Role;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

/// A server on a free port, and the way to stop it.
struct Running {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<()>,
}

impl Running {
    async fn start(world: &World, tls: Option<Arc<ServerConfig>>) -> Self {
        let listen = ([127, 0, 0, 1], 0).into();
        let settings = ServerSettings {
            listen,
            context: "strongroom".to_owned(),
            tls,
            public_url: PUBLIC_URL.to_owned(),
            oidc: None,
        };
        let bound = bind(settings).await.expect("bind");
        let address = bound.local_address();
        assert_ne!(address.port(), 0);
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(bound.serve(world.recovery.clone(), async { drop(stopped.await) }));
        Self { address, stop: Some(stop), served }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connect")
    }

    /// Sends bytes on a new connection and reads until the server closes it.
    async fn exchange(&self, sent: &[u8]) -> String {
        let mut stream = self.connect().await;
        // The server may close before it has read everything.
        let _ = stream.write_all(sent).await;
        let _ = stream.shutdown().await;
        read_to_end(stream).await
    }

    async fn is_alive(&self) -> bool {
        let mut stream = self.connect().await;
        let request = b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("write");
        let reply = read_to_end(stream).await;
        reply.starts_with("HTTP/1.1 200") && reply.contains("live")
    }

    fn stop(&mut self) {
        let _ = self.stop.take().expect("once").send(());
    }
}

async fn read_to_end(mut stream: impl AsyncRead + Unpin) -> String {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads one reply with a Content-Length.
async fn read_reply(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
            if length.is_some_and(|length| body.len() >= length) {
                return text;
            }
        }
        let mut part = [0; 4096];
        let count = stream.read(&mut part).await.expect("read");
        assert_ne!(count, 0, "closed after {text:?}");
        bytes.extend_from_slice(&part[..count]);
    }
}

/// A certificate for localhost: the server's side and the client's.
fn certificate() -> (Arc<ServerConfig>, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("server");
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("root");
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    (Arc::new(server), client)
}

async fn tls(
    running: &Running,
    client: &ClientConfig,
    protocols: &[&[u8]],
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut client = client.clone();
    client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    let name = ServerName::try_from("localhost").expect("name");
    TlsConnector::from(Arc::new(client)).connect(name, running.connect().await).await.expect("handshake")
}

/// The first bytes of an HTTP/2 connection that asks for one path: preface, settings, one request.
fn http2_get(path: &str) -> Vec<u8> {
    // GET and https by their place in the static table, then path and authority as plain texts.
    let mut block = vec![0x82, 0x87, 0x04, u8::try_from(path.len()).expect("short path")];
    assert!(path.len() < 127);
    block.extend(path.as_bytes());
    block.extend(b"\x01\x09localhost");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    // Frame of type HEADERS on stream 1, end of headers and of the stream.
    bytes.extend([0, 0, u8::try_from(block.len()).expect("short"), 1, 5, 0, 0, 0, 1]);
    bytes.extend(block);
    bytes
}

#[tokio::test]
async fn https_is_served_in_both_versions_of_http() {
    let world = World::open().await;
    let (server, client) = certificate();
    let running = Running::start(&world, Some(server)).await;
    let token = world.token(Role::Viewer);

    let mut one = tls(&running, &client, &[b"http/1.1"]).await;
    for _ in 0..2 {
        let request =
            format!("GET {ADMIN}?f=json HTTP/1.1\r\nHost: x\r\nX-Esri-Authorization: Bearer {token}\r\n\r\n");
        one.write_all(request.as_bytes()).await.expect("write");
        let reply = read_reply(&mut one).await;
        assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("fullVersion"), "{reply}");
        assert!(!reply.to_lowercase().contains("www-authenticate"));
    }

    let mut two = tls(&running, &client, &[b"h2", b"http/1.1"]).await;
    assert_eq!(two.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    two.write_all(&http2_get(&format!("{ADMIN}?f=json&token={token}"))).await.expect("write");
    let mut received = Vec::new();
    while !String::from_utf8_lossy(&received).contains("fullVersion") {
        let count = two.read_buf(&mut received).await.expect("read");
        assert_ne!(count, 0, "closed after {:?}", String::from_utf8_lossy(&received));
    }

    let plain = running.exchange(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(!plain.contains("HTTP/1.1 2"), "plain text on the TLS port: {plain}");
}

#[tokio::test]
async fn broken_requests_neither_stop_the_server_nor_make_it_answer_5xx() {
    let world = World::open().await;
    let running = Running::start(&world, None).await;
    let host = "Host: x\r\n";
    let many = (0..500).map(|n| format!("H{n}: 1\r\n")).collect::<String>();
    let deep = format!("settings={}", "[".repeat(100_000));
    let token = world.token(Role::Administrator);
    let register = format!("{ADMIN}/system/disasterrecovery/stores/register");
    let requests: Vec<Vec<u8>> = vec![
        b"\0\xff\xfe garbage \r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
        b"GET".to_vec(),
        format!("GET {ADMIN} HTTP/1.1\r\nHo").into_bytes(),
        format!("GET {ADMIN} HTTP/9.9\r\n{host}\r\n").into_bytes(),
        format!("GET {ADMIN} HTTP/1.1\r\n{host}Big: {}\r\n\r\n", "a".repeat(200_000)).into_bytes(),
        format!("GET {ADMIN} HTTP/1.1\r\n{host}{many}\r\n").into_bytes(),
        format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100_000)).into_bytes(),
        format!("GET {ADMIN}?{} HTTP/1.1\r\n{host}\r\n", "a=1&".repeat(5000)).into_bytes(),
        format!("POST {ADMIN} HTTP/1.1\r\n{host}Content-Length: 100\r\n\r\nshort").into_bytes(),
        format!("POST {ADMIN} HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n").into_bytes(),
        format!("POST {ADMIN} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nzz\r\nnot a chunk").into_bytes(),
        format!("POST {ADMIN} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nabc").into_bytes(),
        format!(
            "POST {register} HTTP/1.1\r\n{host}X-Esri-Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n{deep}",
            deep.len()
        )
        .into_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
    ];
    for request in requests {
        let reply = running.exchange(&request).await;
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(!reply.starts_with("HTTP/1.1 5"), "{shown:?}: {reply}");
        assert!(running.is_alive().await, "after {shown:?}");
    }
}

#[tokio::test]
async fn an_announced_oversize_body_is_refused_before_it_is_sent() {
    let world = World::open().await;
    let running = Running::start(&world, None).await;
    let mut stream = running.connect().await;
    let head = format!("POST {ADMIN}?f=json HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("write");
    let reply = read_to_end(stream).await;
    assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("BODY_TOO_LARGE"), "{reply}");
}

/// Waits for the server's answer with a clock that jumps to the next timer whenever nothing else goes on.
async fn waits_long<S: AsyncRead + AsyncWrite + Unpin>(stream: S) -> String {
    tokio::time::pause();
    let reply = read_to_end(stream).await;
    tokio::time::resume();
    reply
}

#[tokio::test]
async fn callers_that_send_nothing_or_too_slowly_are_let_go() {
    let world = World::open().await;
    let running = Running::start(&world, None).await;
    assert_eq!(waits_long(running.connect().await).await, "", "no byte at all");

    let mut headers = running.connect().await;
    headers.write_all(format!("GET {ADMIN} HTTP/1.1\r\nHost: x\r\nSlow: ").as_bytes()).await.expect("write");
    let reply = waits_long(headers).await;
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 408"), "{reply}");

    let mut body = running.connect().await;
    let head = format!("POST {ADMIN}?f=json HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nf=");
    body.write_all(head.as_bytes()).await.expect("write");
    let reply = waits_long(body).await;
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("BODY_TOO_SLOW"), "{reply}");
    assert!(running.is_alive().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_does_not_hold_up_the_stop() {
    let world = World::open().await;
    let mut running = Running::start(&world, None).await;
    let mut idle = running.connect().await;
    idle.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
    read_reply(&mut idle).await;
    assert_eq!(waits_long(idle).await, "");

    let mut kept = running.connect().await;
    kept.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
    read_reply(&mut kept).await;
    running.stop();
    running.served.await.expect("served");
    assert_eq!(read_to_end(kept).await, "");
    assert!(TcpStream::connect(running.address).await.is_err());
}

#[tokio::test]
async fn callers_that_hold_every_connection_and_ask_for_something_now_and_then_keep_nobody_out() {
    let world = World::open().await;
    let running = Running::start(&world, None).await;
    let mut held = Vec::new();
    for _ in 0..512 {
        let mut stream = running.connect().await;
        stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("write");
        read_reply(&mut stream).await;
        held.push(stream);
    }
    // Each asks again before it would be let go as idle.
    let ask_again = tokio::spawn(async move {
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(8)).await;
            for stream in &held {
                let _ = stream.try_write(b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n");
            }
        }
    });
    let good = tokio::time::timeout(std::time::Duration::from_secs(60), running.is_alive()).await;
    assert_eq!(good, Ok(true), "it never got a place");
    ask_again.abort();
}

#[tokio::test]
async fn a_caller_that_never_reads_its_replies_is_let_go() {
    let world = World::open().await;
    let running = Running::start(&world, None).await;
    let stream = running.connect().await;
    // More replies than any buffer between us holds; after a while no more requests are taken either.
    let requests = format!("GET {ADMIN}/login HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n").repeat(100);
    let mut refused = 0;
    while refused < 20 {
        match stream.try_write(requests.as_bytes()) {
            Ok(_) => refused = 0,
            Err(_) => {
                refused += 1;
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
    assert!(running.is_alive().await);
    tokio::time::pause();
    for _ in 0..60 {
        tokio::time::sleep(std::time::Duration::from_secs(5)).await;
        match stream.try_write(b"x") {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            _ => {}
        }
    }
    panic!("it is still there after five minutes");
}

#[tokio::test]
async fn the_stop_lets_a_request_finish_and_does_not_wait_for_one_that_never_does() {
    let world = World::open().await;
    let token = world.token(Role::Viewer);
    let head = format!(
        "POST {ADMIN} HTTP/1.1\r\nHost: x\r\nX-Esri-Authorization: Bearer {token}\r\nContent-Length: 6\r\n\r\nf=j"
    );
    for finishes in [true, false] {
        let mut running = Running::start(&world, None).await;
        let mut stream = running.connect().await;
        stream.write_all(head.as_bytes()).await.expect("write");
        assert!(running.is_alive().await, "the first request has been taken up by then");
        running.stop();
        if finishes {
            stream.write_all(b"son").await.expect("write");
            let reply = read_reply(&mut stream).await;
            assert!(reply.starts_with("HTTP/1.1 200") && reply.contains("fullVersion"), "{reply}");
        } else {
            tokio::time::pause();
        }
        running.served.await.expect("served");
    }
}

#[tokio::test]
async fn an_address_in_use_is_reported_with_the_address() {
    let world = World::open().await;
    let running = Running::start(&world, None).await;
    let settings = ServerSettings {
        listen: running.address,
        context: String::new(),
        tls: None,
        public_url: String::new(),
        oidc: None,
    };
    let error = bind(settings).await.expect_err("in use").to_string();
    assert!(error.contains(&running.address.to_string()), "{error}");
}

/// A record that holds an alert, one that ends the connection, and two of its reasons.
const ALERT: u8 = 21;
const FATAL: u8 = 2;
const HANDSHAKE_FAILURE: u8 = 40;
const PROTOCOL_VERSION: u8 = 70;

#[tokio::test]
async fn versions_of_tls_before_1_2_are_refused() {
    let world = World::open().await;
    let (server, _) = certificate();
    let running = Running::start(&world, Some(server)).await;
    // Hellos that differ in nothing but the version, with suites of that time and a signature that is fine.
    for (version, answer) in [(1, PROTOCOL_VERSION), (2, PROTOCOL_VERSION), (3, HANDSHAKE_FAILURE)] {
        let mut hello = vec![3, version];
        hello.extend([7; 32]);
        hello.extend([0, 0, 4, 0xc0, 0x13, 0x00, 0x2f, 1, 0]);
        hello.extend([0, 8, 0, 13, 0, 4, 0, 2, 4, 3]);
        let mut message = vec![1, 0, 0, hello.len() as u8];
        message.extend(hello);
        let mut record = vec![22, 3, 1, 0, message.len() as u8];
        record.extend(message);
        let mut stream = running.connect().await;
        stream.write_all(&record).await.expect("write");
        let mut alert = Vec::new();
        stream.read_to_end(&mut alert).await.expect("read");
        assert_eq!((alert[0], &alert[5..7]), (ALERT, &[FATAL, answer][..]), "version 3.{version}");
    }
}
