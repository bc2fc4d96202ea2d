//! What anybody who reaches the port may send: halves, floods, noise, drips. No answer is a 5xx, and the server goes
//! on answering others.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use strongroom_tests::client::Client;
use strongroom_tests::server::{Options, Server, Site, raw_tls, send_raw};

use crate::content::{Content, SMALL, seed};

const CREATE: &str = "/strongroom/admin/system/disasterrecovery/stores/s1/backups/create";

/// Still alive, still answering, nothing done.
#[track_caller]
fn unimpressed(server: &mut Server<'_>, client: &Client, site: &Site) {
    assert_eq!(client.backups(), [""; 0]);
    assert_eq!(client.jobs(), [""; 0]);
    unshaken(server, site);
}

/// Still alive, and neither panicked nor failed.
#[track_caller]
fn unshaken(server: &mut Server<'_>, site: &Site) {
    assert!(server.is_alive());
    let log = site.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(!log.contains("\"status\":5"), "{log}");
}

/// The status of what came back, if it is HTTP.
fn status(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    text.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn prepared<'a>(site: &'a Site) -> (Server<'a>, Client) {
    Content::new(&site.content(), SMALL, 1);
    let server = site.start();
    let client = server.client();
    client.register(site);
    (server, client)
}

#[test]
fn a_request_cut_off_anywhere_starts_nothing() {
    let site = Site::new(Options::default());
    let (mut server, client) = prepared(&site);
    let body = format!(
        "name=half&passcode=a+long+enough+one&description=&f=pjson&token={}",
        client.token.clone().unwrap()
    );
    let request = format!(
        "POST {CREATE} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for cut in (0..request.len()).step_by(23) {
        let mut stream = raw_tls(&site).unwrap();
        stream.write_all(&request.as_bytes()[..cut]).unwrap();
        // Sometimes with a proper end of TLS, sometimes the line is just dead.
        if cut % 2 == 0 {
            stream.conn.send_close_notify();
        }
        let _ = stream.flush();
        let _ = stream.sock.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(status(&answer).is_none_or(|status| status < 500), "{}", String::from_utf8_lossy(&answer));
    }
    unimpressed(&mut server, &client, &site);
}

#[test]
fn a_body_of_ten_megabytes_is_refused() {
    let site = Site::new(Options::default());
    let (mut server, client) = prepared(&site);
    let large = "x".repeat(10 << 20);
    let reply = client.post(
        &CREATE["/strongroom/".len()..],
        &[("name", "large"), ("passcode", "long enough"), ("description", &large)],
    );
    match reply {
        Ok(reply) => drop(reply.refused(413, "BODY_TOO_LARGE")),
        // It may hang up while we still send.
        Err(error) => eprintln!("10 MB form: {error:#}"),
    }
    // In chunks, without a length; and with a length that is a lie.
    let head =
        format!("POST {CREATE} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n");
    let chunk = format!("100000\r\n{}\r\n", "y".repeat(1 << 20));
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{}", chunk.repeat(10));
    let lie = format!("{head}content-length: 99999999999\r\n\r\nname=x");
    for request in [chunked, lie] {
        let mut stream = raw_tls(&site).unwrap();
        let _ = stream.write_all(request.as_bytes());
        let _ = stream.flush();
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).unwrap_or(0);
        let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
        assert!(status(answer.as_bytes()).is_none_or(|status| status < 500), "{answer}");
    }
    unimpressed(&mut server, &client, &site);
}

#[test]
fn noise_on_the_port_and_inside_tls_is_hung_up_on() {
    let seed = seed("noise");
    let mut random = StdRng::seed_from_u64(seed);
    let site = Site::new(Options::default());
    let (mut server, client) = prepared(&site);
    let mut noise = |length: usize| {
        let mut bytes = vec![0; length];
        random.fill_bytes(&mut bytes);
        bytes
    };
    let mut sent: Vec<Vec<u8>> = (0..40).map(|n| noise(n * n)).collect();
    // Looks like TLS at first; plain HTTP; HTTP/2 without TLS.
    sent.push([&[22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3][..], &noise(600)].concat());
    sent.push(format!("GET {CREATE} HTTP/1.1\r\nhost: x\r\n\r\n").into_bytes());
    sent.push(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec());
    for bytes in &sent {
        let answer = send_raw(site.address(), bytes);
        assert!(status(&answer).is_none_or(|status| status < 500));
    }
    for bytes in &sent {
        let mut stream = raw_tls(&site).unwrap();
        let _ = stream.write_all(bytes);
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(status(&answer).is_none_or(|status| status < 500), "{}", String::from_utf8_lossy(&answer));
    }
    // Requests that are HTTP, but strange.
    let long = "a".repeat(100_000);
    let strange = [
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        format!("GET /{long} HTTP/1.1\r\nhost: x\r\n\r\n"),
        format!("GET /strongroom/admin HTTP/1.1\r\nhost: x\r\nx-long: {long}\r\n\r\n"),
        format!("GET /strongroom/admin HTTP/1.1\r\nhost: x\r\n{}\r\n", "x-many: 1\r\n".repeat(5000)),
        "GET /strongroom/%00%ff%2e%2e/%zz HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "POST /strongroom/admin/jobs HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde".to_owned(),
        "TRACE /strongroom/admin HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        format!("POST {CREATE} HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=\r\ncontent-length: 4\r\n\r\n----"),
        format!("POST {CREATE} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 60000\r\n\r\n{}", "[".repeat(60_000)),
    ];
    for request in &strange {
        let mut stream = raw_tls(&site).unwrap();
        let _ = stream.write_all(request.as_bytes());
        stream.conn.send_close_notify();
        let _ = stream.flush();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let shown: String = request.chars().take(60).collect();
        assert!(
            status(&answer).is_none_or(|status| status < 500),
            "{shown}: {}",
            String::from_utf8_lossy(&answer)
        );
    }
    unimpressed(&mut server, &client, &site);
}

#[test]
fn slow_senders_do_not_keep_the_others_waiting() {
    let site = Site::new(Options::default());
    let (mut server, client) = prepared(&site);
    let silent: Vec<TcpStream> = (0..100).map(|_| TcpStream::connect(site.address()).unwrap()).collect();
    let mut drips: Vec<_> = (0..50).map(|_| raw_tls(&site).unwrap()).collect();
    let body = format!("POST {CREATE} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n");
    let requests = [body.as_bytes(), b"GET /strongroom/admin HTTP/1.1\r\nhost: x\r\nx-slow: "];
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    for step in 0..30 {
        for (n, stream) in drips.iter_mut().enumerate() {
            let request = requests[n % 2];
            let _ = stream.write_all(&request[step * 3 % request.len()..][..1]);
            let _ = stream.flush();
        }
        let asked = Instant::now();
        client.get("admin").unwrap().ok();
        longest = longest.max(asked.elapsed());
    }
    eprintln!("slow senders: {:?} in all, the longest answer took {longest:?}", begun.elapsed());
    drop((silent, drips));
    unimpressed(&mut server, &client, &site);
}

#[test]
fn random_forms_at_every_operation_get_an_envelope_and_never_a_5xx() {
    let seed = seed("random forms");
    let mut random = StdRng::seed_from_u64(seed);
    let site = Site::new(Options::default());
    let (mut server, client) = prepared(&site);
    let stranger = site.stranger();
    let operations = [
        "sharing/rest/generateToken",
        "sharing/oauth2/signin",
        "sharing/rest/oauth2/token",
        "sharing/rest/oauth2/revokeToken",
        "admin/system/disasterrecovery/stores/register",
        "admin/system/disasterrecovery/stores/s1/update",
        "admin/system/disasterrecovery/stores/nope/unregister",
        "admin/system/disasterrecovery/stores/s1/backups/create",
        "admin/system/disasterrecovery/stores/s1/backups/nope/restore",
        "admin/system/disasterrecovery/stores/s1/backups/nope/delete",
        "admin/system/disasterrecovery/backuprestore/backup",
        "admin/jobs/nope/cancel",
    ];
    let names = [
        "name",
        "passcode",
        "storeName",
        "settings",
        "retentionDate",
        "f",
        "async",
        "username",
        "password",
        "expiration",
        "oauth_state",
        "grant_type",
        "code",
        "auth_token",
    ];
    let values = [
        "",
        "x",
        "{}",
        "[]",
        "{\"type\":\"S3\"}",
        "-1",
        "99999999999999999999",
        "\0",
        "..",
        "None",
        "authorization_code",
        "true",
        "é\u{202e}",
        "json",
    ];
    let mut accepted = Vec::new();
    for _ in 0..300 {
        let path = operations[random.random_range(0..operations.len())];
        let mut fields: Vec<(&str, &str)> = Vec::new();
        for _ in 0..random.random_range(0..6) {
            fields.push((
                names[random.random_range(0..names.len())],
                values[random.random_range(0..values.len())],
            ));
        }
        let known = random.random_bool(0.5);
        let reply = if known { &client } else { &stranger }.post(path, &fields).unwrap();
        assert!(reply.status < 500, "{path} {fields:?}: {}", reply.text);
        assert!(!matches!(reply.code(), 500 | 502 | 504..=506), "{path} {fields:?}: {}", reply.text);
        let job = reply.json["jobid"].as_str().map(str::to_owned);
        assert!(known || job.is_none(), "a stranger started a job: {path} {fields:?}: {}", reply.text);
        accepted.extend(job);
    }
    // By chance the administrator's form may be a good one. Nothing else did anything.
    accepted.iter().for_each(|job| drop(client.ended(job)));
    let mut jobs = client.jobs();
    jobs.sort();
    accepted.sort();
    assert_eq!(jobs, accepted);
    unshaken(&mut server, &site);
}
