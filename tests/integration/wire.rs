//! Limits on what a stranger sends, over TLS to the real server: what is too long, too much, too slow or too many is refused
//! or cut off, and somebody else is served all the while.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};
use strongroom_tests::server::{Options, Server, Site, raw_tls, wait_for};

use crate::load::resident_mib;

/// Nobody is let wait for so long.
const PATIENCE: Duration = Duration::from_secs(90);

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn quiet_site() -> Site {
    Site::new(Options { log: "warn".to_owned(), ..Options::default() })
}

/// Sends it, as far as that is taken, and returns what comes back until the server hangs up.
fn exchange(site: &Site, request: &[u8]) -> String {
    let mut stream = raw_tls(site).unwrap();
    for part in request.chunks(4096) {
        if stream.write_all(part).and_then(|()| stream.flush()).is_err() {
            break;
        }
    }
    let mut reply = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut reply);
    String::from_utf8_lossy(&reply).into_owned()
}

fn status(reply: &str) -> &str {
    reply.split(' ').nth(1).unwrap_or("none")
}

/// A client that has done nothing wrong is served.
fn serves_others(server: &mut Server<'_>) {
    server.client().get("admin").unwrap().ok();
    assert!(server.is_alive());
}

#[test]
fn what_is_too_long_or_too_much_is_refused_before_it_is_kept() {
    let site = quiet_site();
    let mut server = site.start();
    let end = "Host: x\r\nConnection: close\r\n\r\n";
    let long = "a".repeat(200_000);
    let headers: String = (0..300).map(|number| format!("X-{number}: 1\r\n")).collect();
    let endless = "X: y\r\n".repeat(200_000);
    for (what, request, allowed) in [
        ("a request line", format!("GET /strongroom/admin?x={long} HTTP/1.1\r\n{end}"), &["414", "431"][..]),
        ("a header", format!("GET /strongroom/admin HTTP/1.1\r\nX: {long}\r\n{end}"), &["431"]),
        ("headers", format!("GET /strongroom/admin HTTP/1.1\r\n{headers}{end}"), &["431"]),
        ("headers without end", format!("GET /strongroom/admin HTTP/1.1\r\n{endless}"), &["431"]),
        ("a method", format!("{long} / HTTP/1.1\r\n{end}"), &["400", "414", "431"]),
        ("a name of a header", format!("GET / HTTP/1.1\r\n{long}: x\r\n{end}"), &["400", "431"]),
    ] {
        let before = resident_mib(&server);
        let reply = exchange(&site, request.as_bytes());
        // Whoever goes on sending may lose the answer with the connection.
        assert!(reply.is_empty() || allowed.contains(&status(&reply)), "{what}: {reply}");
        assert!(resident_mib(&server) < before + 32, "{what}");
        serves_others(&mut server);
    }
    let parameters: Vec<String> = (0..300).map(|number| format!("p{number}=1")).collect();
    let client = server.client();
    let many = client.get(&format!("admin?f=json&{}", parameters.join("&"))).unwrap();
    assert_eq!(many.message_code(), "PARAM_INVALID");
    let fields: Vec<(String, String)> = (0..300).map(|n| (format!("p{n}"), "1".to_owned())).collect();
    let named = fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let fields: Vec<(&str, &str)> = std::iter::once(("f", "json")).chain(named).collect();
    assert_eq!(client.post("admin", &fields).unwrap().message_code(), "PARAM_INVALID");
    serves_others(&mut server);
}

/// Sends a byte now and then until the server says something or hangs up; what it says.
fn sent_slowly(stream: &mut Stream) -> String {
    stream.sock.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let (since, mut reply) = (Instant::now(), Vec::new());
    loop {
        assert!(since.elapsed() < PATIENCE, "it is still listened to");
        let sent = stream.write_all(b"a").and_then(|()| stream.flush());
        let mut part = [0; 4096];
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => reply.extend_from_slice(&part[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
        if sent.is_err() {
            break;
        }
    }
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn whoever_sends_a_byte_now_and_then_is_cut_off_in_head_and_body() {
    let site = quiet_site();
    let mut server = site.start();
    let begun = |text: &str| {
        let mut stream = raw_tls(&site).unwrap();
        stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).unwrap();
        stream
    };
    let mut head = begun("GET /strongroom/admin HTTP/1.1\r\nHost: x\r\nX-Slow: ");
    let mut body = begun(
        "POST /strongroom/sharing/rest/generateToken HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nf=json&x=",
    );
    std::thread::scope(|scope| {
        let head = scope.spawn(|| sent_slowly(&mut head));
        let body = scope.spawn(|| sent_slowly(&mut body));
        serves_others(&mut server);
        let head = head.join().unwrap();
        assert!(head.is_empty() || status(&head) == "408", "{head}");
        let body = body.join().unwrap();
        assert!(body.is_empty() || status(&body) == "408", "{body}");
    });
    serves_others(&mut server);
}

#[test]
fn connections_beyond_the_limit_wait_and_a_good_client_gets_through() {
    let site = quiet_site();
    let mut server = site.start();
    server.client();
    // None of them ever says anything; more than there are places for.
    let held: Vec<_> = (0..600).map(|_| TcpStream::connect(site.address()).unwrap()).collect();
    serves_others(&mut server);
    let reply = exchange(&site, b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(status(&reply), "200", "{reply}");
    drop(held);
}

#[test]
fn requests_in_a_row_are_answered_in_their_order() {
    let site = quiet_site();
    let _server = site.start();
    let ask = |path: &str, more: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{more}\r\n");
    let mut requests = String::new();
    for _ in 0..50 {
        requests.push_str(&ask("/health/live", ""));
        requests.push_str(&ask("/nowhere", ""));
    }
    requests.push_str(&ask("/health/live", "Connection: close\r\n"));
    let replies = exchange(&site, requests.as_bytes());
    let statuses: Vec<&str> = replies.split("HTTP/1.1 ").skip(1).map(|reply| &reply[..3]).collect();
    let expected: Vec<&str> = ["200", "404"].into_iter().cycle().take(101).collect();
    assert_eq!(statuses, expected);
}

#[test]
fn whoever_never_reads_the_replies_costs_no_memory_and_keeps_nobody_waiting() {
    let site = quiet_site();
    let mut server = site.start();
    let client = server.client();
    let token = client.token.clone().unwrap();
    let request = format!(
        "GET /strongroom/admin/openapi.json HTTP/1.1\r\nHost: x\r\nX-Esri-Authorization: Bearer {token}\r\n\r\n"
    );
    let before = resident_mib(&server);
    let mut held = Vec::new();
    for _ in 0..16 {
        let mut stream = raw_tls(&site).unwrap();
        stream.sock.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        // Until the server takes no more.
        for _ in 0..2000 {
            if stream.write_all(request.as_bytes()).and_then(|()| stream.flush()).is_err() {
                break;
            }
        }
        held.push(stream);
    }
    serves_others(&mut server);
    let after = resident_mib(&server);
    assert!(after < before + 128, "{before} MiB before, {after} MiB after");
    drop(held);
    wait_for("an answer", || client.get("admin").ok());
}
