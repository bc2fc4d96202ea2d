//! Users, passwords, tokens.

use secrecy::{ExposeSecret, SecretString};

use super::support::*;
use crate::*;

fn password(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

#[tokio::test]
async fn a_user_logs_in_gets_a_token_and_loses_it() {
    let site = Site::new();
    let server = site.idle_server().await;
    server.add_user("Anna", &password("long enough"), Role::Operator).await.unwrap();
    assert_eq!(
        kind(server.add_user("anna", &password("long enough"), Role::Viewer).await),
        ErrorKind::ParameterInvalid
    );
    assert_eq!(
        kind(server.add_user("bert", &password("short"), Role::Viewer).await),
        ErrorKind::ParameterInvalid
    );
    assert_eq!(
        kind(server.add_user("a/b", &password("long enough"), Role::Viewer).await),
        ErrorKind::NameInvalid
    );

    let anna = server.log_in("Anna", &password("long enough"), "10.0.0.1").await.unwrap();
    assert_eq!(anna.role, Role::Operator);
    let (token, expires) = server.issue_token(&anna, 60).await.unwrap();
    assert!(expires > 0);
    let holder = server.authenticate(token.expose_secret()).await.unwrap().unwrap();
    assert_eq!(holder.username, "Anna");
    assert!(server.authenticate("nonsense").await.unwrap().is_none());
    assert!(server.authenticate("").await.unwrap().is_none());
    assert!(server.authenticate(&"x".repeat(1 << 20)).await.unwrap().is_none());
    server.revoke_token(token.expose_secret()).await.unwrap();
    assert!(server.authenticate(token.expose_secret()).await.unwrap().is_none());

    let (token, _) = server.issue_token(&anna, u32::MAX).await.unwrap();
    server.set_password("Anna", &password("another one")).await.unwrap();
    assert!(server.authenticate(token.expose_secret()).await.unwrap().is_none());
    assert_eq!(kind(server.log_in("Anna", &password("long enough"), "x").await), ErrorKind::LoginFailed);
    server.log_in("Anna", &password("another one"), "y").await.unwrap();
    assert_eq!(server.users().await.unwrap().len(), 1);
    server.remove_user("Anna").await.unwrap();
    assert_eq!(kind(server.remove_user("Anna").await), ErrorKind::UserNotFound);
    assert_eq!(kind(server.set_password("Anna", &password("another one")).await), ErrorKind::UserNotFound);
    assert_eq!(kind(server.issue_token(&anna, 1).await), ErrorKind::LoginFailed);
}

#[tokio::test]
async fn after_many_failures_even_the_right_password_is_refused_from_that_address() {
    let site = Site::new();
    let server = site.idle_server().await;
    server.add_user("anna", &password("long enough"), Role::Viewer).await.unwrap();
    for _ in 0..5 {
        let error = server.log_in("anna", &password("wrong one"), "10.0.0.1").await.unwrap_err();
        assert_eq!(
            (error.kind, error.message.as_str()),
            (ErrorKind::LoginFailed, "Unable to generate token.")
        );
        assert_eq!(error.details, ["Invalid username or password."]);
    }
    assert_eq!(
        kind(server.log_in("anna", &password("long enough"), "10.0.0.1").await),
        ErrorKind::LoginFailed
    );
    server.log_in("anna", &password("long enough"), "10.0.0.2").await.unwrap();
}

#[tokio::test]
async fn an_unknown_user_gets_the_same_answer() {
    let site = Site::new();
    let server = site.idle_server().await;
    let error = server.log_in("nobody", &password("whatever it is"), "10.0.0.1").await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::LoginFailed, "Unable to generate token."));
    let name = "x".repeat(100_000);
    assert_eq!(kind(server.log_in(&name, &password(&name), &name).await), ErrorKind::LoginFailed);
}

#[tokio::test]
async fn neither_password_nor_token_lies_in_the_state() {
    let site = Site::new();
    let server = site.idle_server().await;
    server.add_user("anna", &password("planted-password-1"), Role::Viewer).await.unwrap();
    let anna = server.log_in("anna", &password("planted-password-1"), "x").await.unwrap();
    let (token, _) = server.issue_token(&anna, 60).await.unwrap();
    for entry in std::fs::read_dir(&site.settings.data_directory).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        for secret in ["planted-password-1", token.expose_secret()] {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()), "{}", path.display());
        }
    }
}

#[tokio::test]
async fn a_code_is_good_once_and_for_nothing_else_and_goes_with_its_user() {
    let site = Site::new();
    let server = site.idle_server().await;
    server.add_user("anna", &password("long enough"), Role::Operator).await.unwrap();
    let anna = server.log_in("anna", &password("long enough"), "x").await.unwrap();
    let issue = async |purpose| {
        let (token, _) = server.issue_grant(&anna, purpose, 5, "facts").await.unwrap();
        token.expose_secret().to_owned()
    };
    let (access, code, refresh) =
        (issue(Purpose::Access).await, issue(Purpose::Code).await, issue(Purpose::Refresh).await);
    for (token, others) in [
        (&access, [Purpose::Code, Purpose::Refresh]),
        (&code, [Purpose::Access, Purpose::Refresh]),
        (&refresh, [Purpose::Access, Purpose::Code]),
    ] {
        for other in others {
            assert!(server.grant(token, other).await.unwrap().is_none(), "{other:?}");
            assert!(server.take_grant(token, other).await.unwrap().is_none(), "{other:?}");
        }
    }
    assert!(server.authenticate(&code).await.unwrap().is_none());
    assert!(server.authenticate(&refresh).await.unwrap().is_none());

    let takers = (0..8).map(|_| {
        let (server, code) = (server.clone(), code.clone());
        tokio::spawn(async move { server.take_grant(&code, Purpose::Code).await.unwrap() })
    });
    let mut taken = Vec::new();
    for taker in takers.collect::<Vec<_>>() {
        taken.extend(taker.await.unwrap());
    }
    assert_eq!(taken.len(), 1, "of many at once exactly one gets it");
    assert_eq!((taken[0].0.username.as_str(), taken[0].1.as_str()), ("anna", "facts"));
    for _ in 0..2 {
        assert!(server.grant(&refresh, Purpose::Refresh).await.unwrap().is_some(), "good again and again");
    }
    let code = issue(Purpose::Code).await;
    server.set_password("anna", &password("another one")).await.unwrap();
    assert!(server.take_grant(&code, Purpose::Code).await.unwrap().is_none());
    assert!(server.grant(&refresh, Purpose::Refresh).await.unwrap().is_none());
}

#[tokio::test]
async fn a_signature_outlives_its_server_and_holds_at_no_other() {
    let site = Site::new();
    let server = site.idle_server().await;
    let signature = server.sign("page", "text");
    drop(server);
    let next = site.idle_server().await;
    assert!(next.is_signed("page", "text", &signature));
    assert!(!next.is_signed("page", "text.", &signature));
    assert!(!Site::new().idle_server().await.is_signed("page", "text", &signature), "another master key");
}

#[tokio::test]
async fn strangers_who_guess_names_fill_a_small_part_of_the_audit_log_alone() {
    let site = Site::new();
    let server = site.idle_server().await;
    let log_in = |username: String, code| AuditEntry { username, code, ..AuditEntry::default() };
    for n in 0..60 {
        server.record(log_in(format!("guess{n}"), 400), true).await;
    }
    assert_eq!(server.audit("", None, 1000).await.unwrap().len(), 50);
    server.record(log_in("anna".to_owned(), 0), true).await;
    server.record(log_in("anna".to_owned(), 403), false).await;
    assert_eq!(server.audit("anna", None, 1000).await.unwrap().len(), 2);
}
