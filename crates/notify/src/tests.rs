//! One attempt against receivers that take, refuse, hang, lead elsewhere or lie.

use std::sync::Arc;

use secrecy::SecretString;
use serde_json::{Value, json};
use storage::AddressRule;

use crate::sinks::{Answer, MailSink, Manner, WebSink};
use crate::*;

fn letter() -> Letter {
    let facts = json!({"job": "j1", "backup": "nightly", "store": "main"});
    Letter {
        delivery: "d-1".to_owned(),
        event: "backup.failed".to_owned(),
        time: 1_700_000_000_000,
        subject: "backup 'nightly' failed\r\nBcc: everybody@example.org".to_owned(),
        message: "No room.\nGrüße\n.\n.hidden".to_owned(),
        facts: facts.as_object().unwrap().clone(),
    }
}

fn webhook(url: &str, allowed: &[&str]) -> Target {
    let listed = allowed.iter().map(|text| text.parse().unwrap()).collect();
    let settings = WebhookSettings {
        url: SecretString::from(url.to_owned()),
        secret: SecretString::from("shared"),
        allow_http: true,
        ca_pem: None,
        addresses: Arc::new(AddressRule::public(listed)),
    };
    Target::webhook("ops", settings).unwrap()
}

const HERE: &[&str] = &["127.0.0.0/8", "::1"];

fn mail(sink: &MailSink) -> MailSettings {
    MailSettings {
        host: "127.0.0.1".to_owned(),
        port: sink.address().port(),
        tls: MailTls::None,
        login: None,
        ca_pem: None,
        from: "Strongroom <dr@example.org>".to_owned(),
        to: vec!["ops@example.org".to_owned(), "Boss <boss@example.org>".to_owned()],
    }
}

async fn failure(target: &Target) -> String {
    target.send(&letter()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_webhook_gets_the_event_as_json_with_a_signature_over_time_and_body() {
    let sink = WebSink::web(vec![Answer::Status(204)]).unwrap();
    webhook(&sink.url("/hook?token=secret"), HERE).send(&letter()).await.unwrap();
    let request = &sink.taken()[0];
    assert_eq!(request.line, "POST /hook?token=secret HTTP/1.1");
    let body: Value = serde_json::from_slice(&request.body).unwrap();
    assert_eq!((body["version"].as_u64(), body["event"].as_str()), (Some(1), Some("backup.failed")));
    assert_eq!(
        (body["delivery"].as_str(), body["time"].as_str()),
        (Some("d-1"), Some("2023-11-14T22:13:20Z"))
    );
    assert_eq!(
        (body["job"].as_str(), body["backup"].as_str(), body["store"].as_str()),
        (Some("j1"), Some("nightly"), Some("main"))
    );
    let told = request.header(SIGNATURE_HEADER);
    let seconds: i64 = told.strip_prefix("t=").unwrap().split(',').next().unwrap().parse().unwrap();
    assert_eq!(told, signature(&SecretString::from("shared"), seconds, &request.body));
    assert_ne!(told, signature(&SecretString::from("other"), seconds, &request.body));
    assert_eq!(request.header("strongroom-delivery"), "d-1");
}

#[test]
fn the_signature_is_hmac_sha256_in_hexadecimal_digits() {
    let secret = SecretString::from("key");
    // printf '1.{}' | openssl dgst -sha256 -hmac key
    let expected = "t=1,v1=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224";
    assert_eq!(signature(&secret, 1, b"{}"), expected);
}

#[tokio::test]
async fn only_a_success_counts_and_no_redirect_is_followed() {
    let inside = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let sink = WebSink::web(vec![
        Answer::Status(500),
        Answer::Status(404),
        Answer::Redirect(inside.url("/")),
        Answer::Reset,
        Answer::EndlessBody,
    ])
    .unwrap();
    let target = webhook(&sink.url("/secret-path"), HERE);
    assert!(failure(&target).await.contains("500"));
    assert!(failure(&target).await.contains("404"));
    assert!(failure(&target).await.contains("redirects are not followed"));
    let reset = failure(&target).await;
    assert!(!reset.contains("secret-path"), "the path may be a secret: {reset}");
    target.send(&letter()).await.unwrap();
    assert_eq!((inside.connections(), sink.connections()), (0, 5));
}

#[tokio::test(start_paused = true)]
async fn a_webhook_that_hangs_is_let_go() {
    let sink = WebSink::web(vec![Answer::Silence]).unwrap();
    let why = failure(&webhook(&sink.url("/"), HERE)).await;
    assert!(why.contains("no answer within 10 s"), "{why}");
}

#[tokio::test]
async fn inner_addresses_are_refused_however_they_are_written() {
    let sink = WebSink::web(vec![Answer::Status(200)]).unwrap();
    let port = sink.address().port();
    for host in [
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "10.0.0.1",
    ] {
        let why = failure(&webhook(&format!("http://{host}:{port}/"), &[])).await;
        assert!(why.contains("security.allowed_addresses"), "{host}: {why}");
    }
    let why = failure(&webhook("http://169.254.169.254/latest/meta-data", HERE)).await;
    assert!(why.contains("link-local"), "{why}");
    assert_eq!(sink.connections(), 0, "nobody was asked");
    webhook(&format!("http://localhost:{port}/"), HERE).send(&letter()).await.unwrap();
}

#[test]
fn a_webhook_without_tls_is_refused_unless_that_is_wanted() {
    let of = |url: &str, allow_http: bool| {
        let settings = WebhookSettings {
            url: SecretString::from(url.to_owned()),
            secret: SecretString::from("s"),
            allow_http,
            ca_pem: None,
            addresses: Arc::new(AddressRule::public(Vec::new())),
        };
        Target::webhook("ops", settings).map(|target| target.place())
    };
    assert!(of("http://hooks.example.org/a/b", false).is_err());
    assert!(of("ftp://hooks.example.org", true).is_err());
    assert!(of("https://user:password@hooks.example.org/", false).is_err());
    assert!(of("hooks", false).is_err());
    assert_eq!(of("https://hooks.example.org/T0/secret?x=y", false).unwrap(), "https://hooks.example.org");
    assert_eq!(of("http://10.0.0.1:8080/a", true).unwrap(), "http://10.0.0.1:8080");
}

#[tokio::test]
async fn mail_is_plain_text_and_nothing_gets_into_its_headers() {
    let sink = MailSink::mail(vec![Manner::Accept]).unwrap();
    Target::mail("ops", mail(&sink)).unwrap().send(&letter()).await.unwrap();
    let mail = &sink.taken()[0];
    let (head, body) = mail.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("From: \"Strongroom\" <dr@example.org>")
            || head.contains("From: Strongroom <dr@example.org>"),
        "{head}"
    );
    assert!(head.contains("ops@example.org") && head.contains("boss@example.org"), "{head}");
    assert!(head.contains("Message-ID: <d-1@example.org>"), "{head}");
    assert!(head.contains("Auto-Submitted: auto-generated"), "{head}");
    assert!(head.to_lowercase().contains("content-type: text/plain; charset=utf-8"), "{head}");
    assert!(!head.lines().any(|line| line.to_lowercase().starts_with("bcc:")), "{head}");
    assert!(head.contains("Subject: backup 'nightly' failed"), "{head}");
    assert!(body.contains("event: backup.failed") && body.contains("job: j1"), "{body}");
}

#[tokio::test]
async fn a_mail_server_that_refuses_or_drops_has_not_taken_it() {
    let sink =
        MailSink::mail(vec![Manner::Refuse, Manner::Busy, Manner::DropInData, Manner::Accept]).unwrap();
    let target = Target::mail("ops", mail(&sink)).unwrap();
    assert!(failure(&target).await.contains("550"));
    assert!(failure(&target).await.contains("451"));
    failure(&target).await;
    assert!(sink.taken().is_empty());
    target.send(&letter()).await.unwrap();
    assert_eq!(sink.taken().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_mail_server_that_stalls_or_talks_without_end_is_let_go() {
    let sink = MailSink::mail(vec![Manner::Silence, Manner::EndlessLine]).unwrap();
    let target = Target::mail("ops", mail(&sink)).unwrap();
    failure(&target).await;
    failure(&target).await;
}

#[tokio::test]
async fn mail_that_must_be_protected_is_not_sent_to_a_server_without_tls() {
    let sink = MailSink::mail(vec![Manner::Accept]).unwrap();
    let settings = MailSettings { tls: MailTls::StartTls, ..mail(&sink) };
    let why = failure(&Target::mail("ops", settings).unwrap()).await;
    assert!(why.to_uppercase().contains("STARTTLS"), "{why}");
    assert!(sink.taken().is_empty());
    let login = Some(("dr".to_owned(), SecretString::from("pw")));
    let refused = Target::mail("ops", MailSettings { login, ..mail(&sink) }).unwrap_err().to_string();
    assert!(refused.contains("without TLS"), "{refused}");
}

#[test]
fn what_is_no_address_is_refused() {
    let sink = MailSink::mail(vec![Manner::Accept]).unwrap();
    for to in [vec![], vec!["nobody".to_owned()], vec!["a@b.c\r\nBcc: d@e.f".to_owned()]] {
        assert!(Target::mail("ops", MailSettings { to, ..mail(&sink) }).is_err());
    }
}
