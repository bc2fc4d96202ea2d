//! Restores from request to restored content.

use super::gate::Point;
use super::support::*;
use crate::*;

#[tokio::test]
async fn a_restore_brings_everything_back() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let before = site.tree();
    make(&server, "b").await;
    site.damage();
    let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
    let job = ended(&server, &id).await;
    assert_eq!((job.status, job.operation.as_str()), (JobStatus::Completed, "Restore"), "{job:?}");
    assert_eq!(site.tree(), before);
    let result = job.result.unwrap();
    assert_eq!(
        (result["state"].as_str(), result["filesTotal"].as_u64()),
        (Some("success"), Some(20)),
        "{result}"
    );
    assert_eq!(job.stages.iter().filter(|stage| stage.state == "completed").count(), 3, "{:?}", job.stages);
    assert_eq!(server.read_only_reason().await.unwrap(), None);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_before_anything_is_touched() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "b").await;
    site.damage();
    let damaged = site.tree();
    let refused = async |change: &dyn Fn(&mut RestoreBackup)| {
        let mut request = restore("s", "b");
        change(&mut request);
        server.restore_backup(request, caller()).await.unwrap_err()
    };
    let wrong = refused(&|r| r.passcode = passcode("wrong passcode")).await;
    assert_eq!(wrong.kind, ErrorKind::PasscodeWrong);
    assert!(wrong.message.contains("passcode") && wrong.message.contains("'b'"), "{wrong}");
    assert!(!wrong.message.contains("wrong passcode"), "the message holds what was typed");
    assert_eq!(refused(&|r| r.passcode = passcode("short")).await.kind, ErrorKind::PasscodeShort);
    assert_eq!(refused(&|r| r.name = "x".to_owned()).await.kind, ErrorKind::BackupNotFound);
    assert_eq!(refused(&|r| r.store = "x".to_owned()).await.kind, ErrorKind::StoreNotFound);
    assert_eq!(
        refused(&|r| r.wanted.components = vec!["nope".to_owned()]).await.kind,
        ErrorKind::ParameterInvalid
    );
    // An unknown backup comes before a wrong passcode.
    let both = refused(&|r| (r.name, r.passcode) = ("x".to_owned(), passcode("wrong passcode"))).await;
    assert_eq!(both.kind, ErrorKind::BackupNotFound);

    let only_checks = RestoreBackup { validate_only: true, ..restore("s", "b") };
    assert_eq!(server.restore_backup(only_checks, caller()).await.unwrap(), None);
    assert_eq!(server.jobs().await.unwrap().len(), 1);
    assert_eq!(site.tree(), damaged);
    server.stop().await;
}

#[tokio::test]
async fn while_a_restore_runs_nothing_can_be_changed_and_it_can_be_cancelled_before_it_changes_anything() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "b").await;
    site.damage();
    let damaged = site.tree();
    site.gate.close(Point::Staged);
    let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
    site.gate.reached(Point::Staged).await;

    let reason = server.read_only_reason().await.unwrap().unwrap();
    assert!(reason.contains("'b'"), "{reason}");
    let again = server.restore_backup(restore("s", "b"), caller()).await.unwrap_err();
    assert_eq!((again.kind, again.details), (ErrorKind::Busy, vec![format!("jobid={id}")]));
    assert_eq!(kind(server.create_backup(create("s", "new"), caller()).await), ErrorKind::ReadOnly);
    assert_eq!(kind(server.delete_backup("s", "b", false, caller()).await), ErrorKind::ReadOnly);
    assert_eq!(kind(server.update_backup("s", "b", Some(-1), None).await), ErrorKind::ReadOnly);
    assert_eq!(kind(server.unregister_store("s", false).await), ErrorKind::ReadOnly);
    assert_eq!(kind(server.update_store("s", true).await), ErrorKind::ReadOnly);
    assert_eq!(kind(server.register_store(hosted("t", false)).await), ErrorKind::ReadOnly);
    assert!(server.validate_backup("s", "b", None).await.unwrap().ready);
    site.opened_store().update_backup("b", Some(1_600_000_000_000), None).unwrap();
    assert!(server.run_retention_now().await.unwrap().deleted.is_empty(), "the cleaner took a backup in use");

    server.cancel_job(&id).await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Cancelled, "{job:?}");
    assert_eq!(site.tree(), damaged);
    assert_eq!(server.read_only_reason().await.unwrap(), None);
    site.gate.open();
    server.stop().await;
}

#[tokio::test]
async fn a_restore_that_has_begun_to_change_things_cannot_be_cancelled() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let before = site.tree();
    make(&server, "b").await;
    site.damage();
    site.gate.close(Point::Swapped);
    let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
    site.gate.reached(Point::Swapped).await;
    let error = server.cancel_job(&id).await.unwrap_err();
    assert_eq!((error.kind, error.details), (ErrorKind::Busy, vec![format!("jobid={id}")]));
    site.gate.open();
    assert_eq!(ended(&server, &id).await.status, JobStatus::Completed);
    assert_eq!(site.tree(), before);
    server.stop().await;
}

#[tokio::test]
async fn a_new_server_shows_and_restores_what_lies_in_an_old_store() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let before = site.tree();
    make(&server, "b").await;
    server.stop().await;
    drop(server);
    std::fs::remove_dir_all(&site.settings.data_directory).unwrap();
    site.damage();

    let server = site.server().await;
    server.register_store(register("taken over", &site.store())).await.unwrap();
    let listed = server.backups("taken over").await.unwrap();
    assert_eq!((listed[0].name.as_str(), listed[0].store.as_str()), ("b", "taken over"));
    let id = server.restore_backup(restore("taken over", "b"), caller()).await.unwrap().unwrap();
    assert_eq!(ended(&server, &id).await.status, JobStatus::Completed);
    assert_eq!(site.tree(), before);
    server.stop().await;
}
