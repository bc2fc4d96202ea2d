//! API keys in the state: what is kept of them, and how they end.

use secrecy::ExposeSecret;

use super::support::*;
use crate::clock::now_ms;
use crate::users::token_hash;
use crate::*;

fn new_key(name: &str) -> NewKey {
    let scope = KeyScope { stores: Vec::new(), operations: vec![OperationGroup::Read] };
    NewKey { name: name.to_owned(), role: Role::Viewer, scope, days: Some(1) }
}

#[tokio::test]
async fn no_key_lies_in_the_state() {
    let site = Site::new();
    let server = site.idle_server().await;
    let (key, _) = server.create_key(new_key("k"), "anna").await.unwrap();
    assert!(server.authenticate(key.expose_secret()).await.unwrap().is_some());
    let secret = key.expose_secret().trim_start_matches("srk_").as_bytes();
    for entry in std::fs::read_dir(&site.settings.data_directory).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap_or_default();
        assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
    }
}

#[tokio::test]
async fn a_key_whose_end_has_come_is_worthless_and_listed_for_a_while() {
    let site = Site::new();
    let server = site.idle_server().await;
    let day = 86_400_000;
    for (name, expires_at) in [("over", now_ms() - 1), ("long over", now_ms() - 91 * day)] {
        let scope = new_key(name).scope;
        let (role, created_by) = (Role::Viewer, "anna".to_owned());
        let name = name.to_owned();
        let view = KeyView { name, role, scope, created_by, created_at: 1, expires_at, last_used: 0 };
        let secret = format!("srk_{}", view.name);
        assert!(server.inner.state.insert_key(&view, &token_hash(&secret)).await.unwrap());
        assert!(server.authenticate(&secret).await.unwrap().is_none());
    }
    assert_eq!(server.keys().await.unwrap().len(), 2);
    server.inner.purge_sessions().await.unwrap();
    let left = server.keys().await.unwrap();
    assert_eq!(left.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["over"]);
}

#[tokio::test]
async fn using_a_key_writes_once_in_an_hour() {
    let site = Site::new();
    let server = site.idle_server().await;
    let (key, _) = server.create_key(new_key("k"), "anna").await.unwrap();
    let use_it = async || {
        server.authenticate(key.expose_secret()).await.unwrap().unwrap();
        server.key("k").await.unwrap().last_used
    };
    let first = use_it().await;
    assert!(first > 0);
    let hour = 3_600_000;
    server.inner.state.mark_key_used("k", now_ms() - hour / 2).await.unwrap();
    let kept = server.key("k").await.unwrap().last_used;
    assert_eq!(use_it().await, kept, "within the hour");
    server.inner.state.mark_key_used("k", now_ms() - hour).await.unwrap();
    assert!(use_it().await >= first, "after it");
}
