//! Our own faults, and what the log says of requests.

use super::support::{ADMIN, DR, PASSCODE, PASSWORD, World, ask};
use recovery::Role;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Keeps every field of every event as text.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Visit for Log {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.lock().expect("log").push_str(&format!("{field}={value:?} "));
    }
}

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        attributes.record(&mut self.clone());
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, record: &Record<'_>) {
        record.record(&mut self.clone());
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn a_handler_that_panics_ends_in_an_error_that_names_the_request() {
    let world = World::open().await;
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let answer = world.send(ask("POST", "/strongroom/sharing/rest/failing").form("f=json")).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (200, 500));
    let id = answer.header("x-request-id");
    assert_eq!(answer.json()["error"]["details"][0], format!("requestId={id}"));
    assert!(!answer.text.contains("on purpose"));
    assert!(log.0.lock().expect("log").contains(id));
    let page = world.send(ask("GET", "/strongroom/sharing/rest/failing")).await;
    assert!(page.text.contains("500 INTERNAL") && !page.text.contains("on purpose"), "{}", page.text);
    assert_eq!(world.ask(Role::Viewer, "GET", ADMIN, "f=json").await.code(), 0, "the server goes on");
}

#[tokio::test]
async fn no_secret_and_no_query_reaches_the_log_or_a_reply() {
    let world = World::open().await.with_store().await;
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let token = world.token(Role::Administrator).to_owned();
    let (password, passcode) = (PASSWORD.replace(' ', "+"), PASSCODE.replace(' ', "+"));
    let backups = format!("{DR}/stores/s1/backups");
    let oauth_state = super::oauth::out_of_band().seal(&world.recovery);
    let mut replies = String::new();
    for asked in [
        ask("GET", &format!("{ADMIN}?token={token}&planted=in-the-query")),
        ask(
            "POST",
            &format!(
                "{backups}/create?token={token}&passcode={passcode}&name=b1&retentionDate={passcode}&f=json"
            ),
        ),
        ask("POST", &format!("{backups}/create?f=json"))
            .token(&token)
            .form(&format!("async={PASSCODE}&name=b2&passcode={PASSCODE}")),
        ask("POST", &format!("{backups}/nope/restore?f=json"))
            .token(&token)
            .form(&format!("passcode={PASSCODE}")),
        ask("POST", &format!("{backups}/nope/restore?f=html&token={token}"))
            .form(&format!("passcode={PASSCODE}")),
        ask("POST", "/strongroom/sharing/rest/generateToken?f=json")
            .form(&format!("username=nobody&password={PASSWORD}")),
        ask("GET", &format!("/strongroom/sharing/rest/generateToken?username=admin&password={password}")),
        ask("POST", &format!("{ADMIN}/login")).form(&format!("username=nobody&password={PASSWORD}")),
        ask("POST", "/strongroom/sharing/oauth2/signin")
            .form(&format!("oauth_state={oauth_state}&username=nobody&password={PASSWORD}")),
        ask("POST", "/strongroom/sharing/oauth2/signin")
            .form(&format!("oauth_state=nonsense&username=admin&password={PASSWORD}")),
        ask("POST", &format!("/strongroom/sharing/rest/oauth2/token?code={token}"))
            .form(&format!("grant_type=authorization_code&client_id=a&code_verifier={PASSCODE}")),
        ask("GET", &format!("/strongroom/sharing/rest/oauth2/approval?code={token}")),
        ask("POST", &format!("{DR}/stores/register?f=json"))
            .token(&token)
            .form(&format!("storeName=s2&credentials={{\"k\":\"{PASSCODE}\"}}")),
    ] {
        replies += &world.send(asked).await.text;
    }
    let log = log.0.lock().expect("log").clone();
    assert!(log.contains("request_id=") && log.contains("admin"), "{log}");
    for secret in [&token, PASSCODE, &passcode, PASSWORD, &password, "in-the-query", "passcode="] {
        assert!(!log.contains(secret), "{secret} in the log: {log}");
    }
    for secret in [&token, PASSCODE, &passcode, PASSWORD, &password] {
        assert!(!replies.contains(secret), "{secret} in a reply: {replies}");
    }
}
