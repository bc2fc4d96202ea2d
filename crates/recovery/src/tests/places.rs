//! Data directory and stores.

use std::fs;

use super::support::*;
use crate::*;

#[tokio::test]
async fn a_second_server_on_the_same_directory_is_refused() {
    let site = Site::new();
    let server = site.idle_server().await;
    assert!(server.ready().await);
    let error = Recovery::open(site.settings.clone()).await.err().unwrap();
    assert_eq!(error.kind, ErrorKind::AlreadyRunning);
    assert!(error.message.contains("another server"), "{error}");
}

#[tokio::test]
async fn a_lost_or_exchanged_master_key_is_refused_with_an_explanation() {
    let site = Site::new();
    drop(site.idle_server().await);
    drop(site.idle_server().await);
    let key = fs::read(&site.settings.master_key_file).unwrap();
    fs::remove_file(&site.settings.master_key_file).unwrap();
    let error = open_error(&site).await;
    assert!(error.message.contains("is missing"), "{error}");
    let other = tempfile::tempdir().unwrap();
    let mut elsewhere = site.settings.clone();
    elsewhere.data_directory = other.path().to_owned();
    elsewhere.state_file = other.path().join("state.db");
    drop(Recovery::open(elsewhere).await.unwrap());
    let error = open_error(&site).await;
    assert!(error.message.contains("is not the one"), "{error}");
    fs::write(&site.settings.master_key_file, key).unwrap();
    site.idle_server().await;
}

async fn open_error(site: &Site) -> Error {
    loop {
        match Recovery::open(site.settings.clone()).await.err().unwrap() {
            error if error.message.contains("another server") => tokio::task::yield_now().await,
            error => return error,
        }
    }
}

#[tokio::test]
async fn stores_are_registered_listed_adopted_and_forgotten() {
    let site = Site::new();
    let server = site.idle_server().await;
    assert!(server.stores().await.unwrap().is_empty());
    let s1 = server.register_store(hosted("s1", true)).await.unwrap();
    assert_eq!((s1.kind.as_str(), s1.default, s1.identity.len()), ("HOSTED", true, 20));
    assert_eq!(s1.storage_config["size"], "64Gi");
    let root = site.base.join("stores/two");
    let s2 = server.register_store(RegisterStore { default: true, ..register("s2", &root) }).await.unwrap();
    assert_eq!(s2.root_dir, root.display().to_string());
    assert_eq!(server.default_store().await.unwrap().as_deref(), Some("s2"));
    let names: Vec<String> = server.stores().await.unwrap().into_iter().map(|store| store.name).collect();
    assert_eq!(names, ["s1", "s2"]);

    let again = server.register_store(hosted("S1", false)).await.unwrap_err();
    assert_eq!(again.kind, ErrorKind::StoreExists);
    for place in ["stores/two", "stores/two/inside", "stores"] {
        let error = server.register_store(register("s3", &site.base.join(place))).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::LocationInUse, "{place}: {error}");
        assert!(error.message.contains("'s2'"), "{error}");
    }
    let error = server.register_store(register("s3", &site.base.join("elsewhere"))).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ParameterInvalid);
    assert!(!site.base.join("elsewhere").exists());
    assert_eq!(kind(server.register_store(hosted("register", false)).await), ErrorKind::NameInvalid);

    server.update_store("s2", false).await.unwrap();
    assert_eq!(server.default_store().await.unwrap(), None);
    assert_eq!(kind(server.update_store("nope", true).await), ErrorKind::StoreNotFound);
    server.unregister_store("s2", false).await.unwrap();
    assert_eq!(kind(server.unregister_store("s2", false).await), ErrorKind::StoreNotFound);
    let adopted = server.register_store(register("other name", &root)).await.unwrap();
    assert_eq!(adopted.identity, s2.identity);
}

#[tokio::test]
async fn a_store_whose_directory_is_gone_is_unreachable_and_not_empty() {
    let site = Site::new();
    let server = site.idle_server().await;
    let root = site.base.join("stores/one");
    server.register_store(register("s", &root)).await.unwrap();
    let ready = server.validate_store("s").await.unwrap();
    assert!(ready.ready, "{ready:?}");
    let detail = server.store("s").await.unwrap();
    assert!(detail.last_validated > 0 && detail.free_bytes.is_some() && detail.backup_count == 0);

    fs::rename(&root, site.base.join("away")).unwrap();
    assert_eq!(kind(server.backups("s").await), ErrorKind::StoreUnreachable);
    assert_eq!(kind(server.store("s").await), ErrorKind::StoreUnreachable);
    assert_eq!(kind(server.create_backup(create("s", "b"), caller()).await), ErrorKind::StoreUnreachable);
    let gone = server.validate_store("s").await.unwrap();
    assert!(!gone.ready && gone.details[0].contains("cannot be reached"), "{gone:?}");
    assert_eq!(server.stores().await.unwrap().len(), 1);

    // An empty directory in its place, as under a disk that is not mounted, is not the store either.
    fs::create_dir(&root).unwrap();
    assert_eq!(kind(server.backups("s").await), ErrorKind::StoreUnreachable);
    fs::remove_dir(&root).unwrap();
    fs::rename(site.base.join("away"), &root).unwrap();
    assert!(server.backups("s").await.unwrap().is_empty());
    assert!(server.validate_store("s").await.unwrap().ready);
}

#[tokio::test]
async fn a_store_is_registered_by_a_job_too() {
    let site = Site::new();
    let server = site.server().await;
    let id = server.register_store_as_job(hosted("s", true), caller()).await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!((job.status, job.operation.as_str()), (JobStatus::Completed, "Register"));
    let result = job.result.unwrap();
    assert_eq!((result["status"].as_str(), result["name"].as_str()), (Some("success"), Some("s")));
    assert_eq!(server.default_store().await.unwrap().as_deref(), Some("s"));
    assert_eq!(kind(server.register_store_as_job(hosted("S", true), caller()).await), ErrorKind::StoreExists);
    server.stop().await;
}

#[tokio::test]
async fn a_store_that_lies_inside_what_is_protected_by_now_is_neither_written_nor_restored_from() {
    let mut site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "b").await;
    server.stop().await;
    drop(server);
    site.settings.components = vec![files("content", &site.base.join("stores"))];
    let server = site.server().await;
    let error = server.create_backup(create("s", "b2"), caller()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Incompatible, "{error}");
    let error = server.restore_backup(restore("s", "b"), caller()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Incompatible, "{error}");
    assert!(error.message.contains("lie inside each other"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn a_damaged_state_database_is_named_with_the_way_out() {
    let site = Site::new();
    fs::create_dir_all(&site.settings.data_directory).unwrap();
    fs::write(&site.settings.state_file, "no database ".repeat(1000)).unwrap();
    let error = Recovery::open(site.settings.clone()).await.err().unwrap();
    let file = site.settings.state_file.display().to_string();
    assert!(error.message.contains(&file) && error.message.contains("register the stores again"), "{error}");
    assert!(fs::read_to_string(&site.settings.state_file).unwrap().starts_with("no database"), "untouched");
}
