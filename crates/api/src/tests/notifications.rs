//! Targets of notifications as they are shown and tried out.

use super::support::{ADMIN, World};
use notify::sinks::{Answer, MailSink, Manner, WebSink};
use recovery::{
    AddressRule, EventKind, MailSettings, MailTls, Role, Settings, Subscription, Target, WebhookSettings,
};
use secrecy::SecretString;
use std::sync::Arc;

pub(super) fn subscriptions(web: &WebSink, mail: &MailSink) -> Vec<Subscription> {
    let webhook = WebhookSettings {
        url: SecretString::from(web.url("/hidden-path")),
        secret: SecretString::from("hidden-secret"),
        allow_http: true,
        ca_pem: None,
        addresses: Arc::new(AddressRule::inner_networks_too(Vec::new())),
    };
    let mail = MailSettings {
        host: "127.0.0.1".to_owned(),
        port: mail.address().port(),
        tls: MailTls::None,
        login: None,
        ca_pem: None,
        from: "dr@example.org".to_owned(),
        to: vec!["ops@example.org".to_owned()],
    };
    let to = |target, events| Subscription { target: Arc::new(target), events };
    vec![
        to(Target::webhook("hook", webhook).expect("webhook"), EventKind::ALL.to_vec()),
        to(Target::mail("people", mail).expect("mail"), vec![EventKind::BackupFailed]),
    ]
}

#[tokio::test]
async fn a_test_notification_tells_what_became_of_it_and_no_secret_is_shown() {
    let web = WebSink::web(vec![Answer::Status(503)]).expect("sink");
    let mail = MailSink::mail(vec![Manner::Accept]).expect("sink");
    let world =
        World::open_with(|settings: &mut Settings| settings.notify = subscriptions(&web, &mail)).await;
    let done = world.run(&format!("{ADMIN}/notifications/test"), "target=people").await;
    assert_eq!(done["status"], "success", "{done}");
    assert_eq!(done["deliveries"][0]["status"], "delivered");
    assert!(mail.taken()[0].contains("User 'admin' asked for this test"), "{:?}", mail.taken());

    let done = world.run(&format!("{ADMIN}/notifications/test"), "").await;
    assert_eq!(done["status"], "failed", "{done}");
    assert!(done["deliveries"][0]["error"].as_str().expect("why").contains("503"), "{done}");
    assert_eq!(done["deliveries"][1]["status"], "delivered", "the other one arrives: {done}");

    let list = world.ask(Role::Operator, "GET", &format!("{ADMIN}/notifications?f=json"), "").await;
    let shown = list.json();
    let hook = &shown["targets"][0];
    assert_eq!((hook["name"].as_str(), hook["waiting"].as_i64()), (Some("hook"), Some(1)), "{shown}");
    assert!(hook["lastError"].as_str().expect("why").contains("503"), "{shown}");
    assert_eq!(shown["targets"][1]["delivered"], 2);
    let page = world.ask(Role::Operator, "GET", &format!("{ADMIN}/notifications"), "").await.text;
    assert!(page.contains("Told of") && page.contains("ops@example.org"), "{page}");
    for text in [list.text, page, done.to_string()] {
        assert!(!text.contains("hidden"), "{text}");
    }
    let figures = world.ask(Role::Viewer, "GET", &format!("{ADMIN}/metrics"), "").await.text;
    assert!(figures.contains("strongroom_notifications{target=\"hook\",status=\"waiting\"} 1"), "{figures}");
    assert!(figures.contains("strongroom_notification_ok{target=\"people\"} 1"), "{figures}");
}

#[tokio::test]
async fn a_test_to_nobody_is_refused_with_the_reason() {
    let world = World::open().await;
    let refused = world.run(&format!("{ADMIN}/notifications/test"), "").await;
    assert!(refused["error"]["message"].as_str().expect("why").contains("[[notify]]"), "{refused}");
    let refused = world.run(&format!("{ADMIN}/notifications/test"), "target=nobody").await;
    assert!(refused["error"]["message"].as_str().expect("why").contains("'nobody'"), "{refused}");
}

#[tokio::test]
async fn a_store_at_a_link_local_address_is_refused_before_it_is_asked() {
    let world = World::open().await;
    for endpoint in ["http://169.254.169.254", "http://2852039166", "http://[::ffff:169.254.169.254]"] {
        let settings = format!(
            r#"{{"type":"S3","provider":{{"name":"AWS","cloudServices":[{{"name":"AWS S3","type":"objectStore","usage":"BACKUP","connection":{{"bucketName":"dr-1","endpointUrl":"{endpoint}","allowHttp":true,"credential":{{"type":"ACCESS-KEY","secret":{{"accessKey":"a","secretKey":"s"}}}}}}}}]}}}}"#
        );
        let form = format!("storeName=s9&settings={settings}");
        let refused = world.run(&format!("{}/stores/register", super::support::DR), &form).await;
        let why = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(why.contains("security.allowed_addresses"), "{endpoint}: {refused}");
    }
}
