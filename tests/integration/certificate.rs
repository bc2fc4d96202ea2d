//! A certificate that is replaced under a running server.

use std::fs;
use std::io::{Read, Write};
use std::process::Command;

use rustix::process::Signal;
use strongroom_tests::server::{Options, Site, binary, raw_tls, wait_for};

#[test]
fn a_replaced_certificate_is_shown_without_a_restart_and_open_connections_go_on() {
    let site = Site::new(Options::default());
    let server = site.start();
    let request = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut open = raw_tls(&site).unwrap();
    let mut ask = || {
        open.write_all(request).unwrap();
        let mut reply = [0; 4096];
        let length = open.read(&mut reply).unwrap();
        assert!(reply[..length].starts_with(b"HTTP/1.1 200"));
    };
    ask();
    // Another pair, as `init` makes it for a new server.
    let other = site.root().join("other");
    let made = Command::new(binary()).args(["init", "--directory"]).arg(&other).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let key = site.certificate().with_file_name("key.pem");
    fs::rename(other.join("certificate.pem"), site.certificate()).unwrap();
    // The client trusts the new one alone by now, and so nobody who shows the old one.
    let trusted = || raw_tls(&site).and_then(|mut stream| Ok(stream.write_all(request)?));
    assert!(trusted().is_err());
    server.signal(Signal::HUP);
    wait_for("the refusal", || site.log().contains("the certificate stays as it was").then_some(()));
    assert!(trusted().is_err(), "a certificate without its key is not shown");
    fs::rename(other.join("key.pem"), key).unwrap();
    server.signal(Signal::HUP);
    wait_for("the new certificate", || trusted().ok());
    ask();
}
