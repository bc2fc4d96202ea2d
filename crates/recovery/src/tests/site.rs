//! What an administrator sets for the whole deployment: the time limit of backups, and read-only mode.

use super::gate::Point;
use super::support::*;
use crate::{ErrorKind, JobStatus, Mode, TaskChange, TaskKind};

#[tokio::test]
async fn a_backup_that_takes_longer_than_the_settings_allow_is_cancelled_and_says_so() {
    let site = Site::new();
    let server = site.server_with_store().await;
    server.inner.state.set_meta("disaster_settings", r#"{"timeoutInSeconds": 1}"#).await.unwrap();
    site.gate.close(Point::Backup);
    let id = server.create_backup(create("s", "long"), caller()).await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Cancelled, "{job:?}");
    assert!(job.messages[0].contains("timeoutInSeconds") && job.messages[0].contains("1 seconds"), "{job:?}");
    site.gate.open();
    assert!(server.backups("s").await.unwrap().is_empty());
}

#[tokio::test]
async fn in_read_only_mode_backups_are_made_and_nothing_else_changes() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "b1").await;
    let told = "Maintenance until noon.";
    server.set_mode(Mode { is_read_only: true, message: told.to_owned() }).await.unwrap();
    drop(server);
    let server = site.server().await;
    assert_eq!(server.read_only_reason().await.unwrap().as_deref(), Some(told), "it outlasts a restart");
    make(&server, "b2").await;
    let refused = server.delete_backup("s", "b1", false, caller()).await.unwrap_err();
    assert_eq!((refused.kind, refused.message.as_str()), (ErrorKind::ReadOnly, told));
    assert_eq!(kind(server.restore_backup(restore("s", "b1"), caller()).await), ErrorKind::ReadOnly);
    assert_eq!(
        kind(server.create_task(TaskKind::CreateBackup, TaskChange::default(), "a").await),
        ErrorKind::ReadOnly
    );
    assert_eq!(kind(server.unregister_store("s", false).await), ErrorKind::ReadOnly);
    assert!(server.run_retention_now().await.unwrap().skipped.is_some());
    let mut check = restore("s", "b1");
    check.validate_only = true;
    assert_eq!(server.restore_backup(check, caller()).await.unwrap(), None);
    server.set_mode(Mode::default()).await.unwrap();
    server.delete_backup("s", "b1", false, caller()).await.unwrap();
}

#[tokio::test]
async fn settings_are_checked_and_what_is_not_sent_stays() {
    let site = Site::new();
    let server = site.idle_server().await;
    assert_eq!(server.disaster_settings().await.unwrap().timeout_in_seconds, 7200);
    server.update_disaster_settings(|settings| settings.timeout_in_seconds = 14_400).await.unwrap();
    for bad in [59, -1, 2_592_001, i64::MAX] {
        let outcome =
            server.update_disaster_settings(move |settings| settings.timeout_in_seconds = bad).await;
        assert_eq!(kind(outcome), ErrorKind::ParameterInvalid, "{bad}");
    }
    assert_eq!(server.disaster_settings().await.unwrap().timeout_in_seconds, 14_400);
}
