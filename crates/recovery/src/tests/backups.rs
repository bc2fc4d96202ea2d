//! Backups from request to entry, what callers see meanwhile, and their deletion.

use std::fs;

use super::gate::Point;
use super::support::*;
use crate::*;

#[tokio::test]
async fn a_backup_is_made_listed_and_described() {
    let site = Site::new();
    let server = site.server_with_store().await;
    assert!(server.last_operation().await.unwrap().is_none());
    let job = make(&server, "Nightly").await;

    assert!(job.id.starts_with('j') && job.id.len() == 37, "{}", job.id);
    assert_eq!((job.operation.as_str(), job.store.as_str(), job.backup.as_str()), ("Backup", "s", "Nightly"));
    assert!(job.start_time > 0 && job.end_time >= job.start_time && job.messages.is_empty(), "{job:?}");
    let states: Vec<(&str, &str)> =
        job.stages.iter().map(|stage| (stage.name.as_str(), stage.state.as_str())).collect();
    assert_eq!(
        states,
        [
            ("Validation", "completed"),
            ("Stage Relational store", "skipped"),
            ("Stage Object store", "skipped"),
            ("Stage volumes", "completed"),
            ("Stage system configuration", "skipped"),
            ("Post backup operation cleanup", "completed"),
        ]
    );
    let result = job.result.unwrap();
    assert_eq!((result["state"].as_str(), result["filesTotal"].as_u64()), (Some("success"), Some(20)));
    assert!(result["bytesRead"].as_u64() > Some(0) && result["bytesAdded"].as_u64() > Some(0), "{result}");

    let listed = server.backups("s").await.unwrap();
    assert_eq!(listed.len(), 1);
    let view = server.backup("s", "Nightly").await.unwrap();
    assert_eq!(
        (view.status.as_str(), view.job_id.as_str(), view.store.as_str()),
        ("completed", job.id.as_str(), "s")
    );
    assert_eq!(
        (view.description.as_str(), view.release.as_str(), view.retention_date),
        ("first", "12.0.0", -1)
    );
    assert_eq!(view.components[0].name, "content");
    assert_eq!(server.last_operation().await.unwrap().unwrap().id, job.id);
    assert_eq!(server.jobs().await.unwrap(), [job.id]);
    assert_eq!(server.store("s").await.unwrap().backup_count, 1);
    assert_eq!(kind(server.backup("s", "nightly").await), ErrorKind::BackupNotFound);
    assert_eq!(kind(server.backups("t").await), ErrorKind::StoreNotFound);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_become_a_backup_is_refused_before_a_job_exists() {
    let site = Site::new();
    let server = site.server_with_store().await;
    let first = make(&server, "taken").await;
    let refused = async |change: &dyn Fn(&mut CreateBackup)| {
        let mut request = create("s", "new");
        change(&mut request);
        server.create_backup(request, caller()).await.unwrap_err()
    };
    assert_eq!(refused(&|r| r.name = "a/b".to_owned()).await.kind, ErrorKind::NameInvalid);
    assert_eq!(refused(&|r| r.passcode = passcode("short")).await.kind, ErrorKind::PasscodeShort);
    assert_eq!(refused(&|r| r.retention_date = 0).await.kind, ErrorKind::RetentionInvalid);
    assert_eq!(refused(&|r| r.description = "x".repeat(1001)).await.kind, ErrorKind::ParameterInvalid);
    assert_eq!(refused(&|r| r.store = "nope".to_owned()).await.kind, ErrorKind::StoreNotFound);
    let error = refused(&|r| r.name = "TAKEN".to_owned()).await;
    assert_eq!((error.kind, error.details), (ErrorKind::BackupExists, vec![format!("jobid={}", first.id)]));
    assert_eq!(server.jobs().await.unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_server_without_components_has_nothing_to_back_up() {
    let mut site = Site::new();
    site.settings.components.clear();
    let server = site.server_with_store().await;
    let error = server.create_backup(create("s", "b"), caller()).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ParameterInvalid);
    assert!(error.message.contains("Nothing to back up"), "{error}");
}

#[tokio::test]
async fn while_a_backup_runs_it_is_visible_and_holds_off_what_would_disturb_it() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "old").await;
    site.gate.close(Point::Backup);
    let id = server.create_backup(create("s", "Running"), caller()).await.unwrap();
    site.gate.reached(Point::Backup).await;

    let here = vec![format!("jobid={id}")];
    let again = server.create_backup(create("s", "running"), caller()).await.unwrap_err();
    assert_eq!((again.kind, again.details), (ErrorKind::BackupExists, here.clone()));
    let other = server.create_backup(create("s", "other"), caller()).await.unwrap_err();
    assert_eq!((other.kind, other.details), (ErrorKind::Busy, here.clone()));
    let restored = server.restore_backup(restore("s", "old"), caller()).await.unwrap_err();
    assert_eq!((restored.kind, restored.details), (ErrorKind::Busy, here.clone()));
    assert_eq!(
        kind(server.restore_backup(restore("s", "Running"), caller()).await),
        ErrorKind::NotRestorable
    );
    let deleted = server.delete_backup("s", "Running", false, caller()).await.unwrap_err();
    assert_eq!((deleted.kind, deleted.details), (ErrorKind::BackupInUse, here.clone()));
    assert_eq!(kind(server.update_backup("s", "Running", Some(-1), None).await), ErrorKind::BackupInUse);
    let unregistered = server.unregister_store("s", false).await.unwrap_err();
    assert_eq!((unregistered.kind, unregistered.details), (ErrorKind::StoreInUse, here));
    assert_eq!(server.read_only_reason().await.unwrap(), None);

    let listed = server.backups("s").await.unwrap();
    let states: Vec<_> = listed.iter().map(|view| (view.name.as_str(), view.status.as_str())).collect();
    assert_eq!(states, [("Running", "in_progress"), ("old", "completed")]);
    assert_eq!(server.backup("s", "Running").await.unwrap().complete_time, 0);
    let running =
        until(&server, &id, |job| job.progress.as_ref().is_some_and(|p| p.stage == "Stage volumes")).await;
    assert_eq!((running.status, running.end_time), (JobStatus::Executing, 0));
    assert!(files_with(&site.base, PASSCODE).is_empty(), "the passcode lies in clear");

    // Other backups may be changed and deleted meanwhile.
    server.update_backup("s", "old", Some(-1), Some("changed".to_owned())).await.unwrap();
    assert_eq!(server.backup("s", "old").await.unwrap().description, "changed");
    assert_eq!(server.delete_backup("s", "old", false, caller()).await.unwrap(), Deletion::Done);
    site.gate.open();
    assert_eq!(ended(&server, &id).await.status, JobStatus::Completed);
    server.stop().await;
}

#[tokio::test]
async fn a_cancelled_backup_leaves_nothing_and_its_name_is_free() {
    let site = Site::new();
    let server = site.server_with_store().await;
    site.gate.close(Point::Backup);
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    site.gate.reached(Point::Backup).await;
    server.cancel_job(&id).await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!((job.status, job.messages[0].as_str()), (JobStatus::Cancelled, "cancelled"));
    assert!(job.stages.iter().any(|stage| stage.state == "cancelled"), "{job:?}");
    assert!(server.backups("s").await.unwrap().is_empty());
    assert!(site.opened_store().running().unwrap().is_empty());
    assert!(
        all_files(&site.store()).iter().all(|file| !file.to_string_lossy().contains("/locks/")),
        "a restic lock stayed"
    );
    assert_eq!(kind(server.cancel_job(&id).await), ErrorKind::Busy);
    assert_eq!(kind(server.cancel_job("j0").await), ErrorKind::JobNotFound);
    site.gate.open();
    make(&server, "b").await;
    server.stop().await;
}

#[tokio::test]
async fn a_backup_that_fails_says_why_and_leaves_nothing() {
    let site = Site::new();
    let server = site.server_with_store().await;
    fs::rename(site.content(), site.base.join("away")).unwrap();
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Failed);
    assert!(job.messages[0].contains("content"), "{job:?}");
    assert_eq!(job.result.unwrap()["state"], "failed");
    assert_eq!(job.stages.last().unwrap().state, "failed");
    assert!(server.backups("s").await.unwrap().is_empty());
    assert!(site.opened_store().running().unwrap().is_empty());
    fs::rename(site.base.join("away"), site.content()).unwrap();
    make(&server, "b").await;
    server.stop().await;
}

#[tokio::test]
async fn deleted_backups_are_gone_at_once_and_their_space_soon() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "a").await;
    make(&server, "b").await;
    assert_eq!(server.delete_backup("s", "a", false, caller()).await.unwrap(), Deletion::Done);
    assert_eq!(kind(server.backup("s", "a").await), ErrorKind::BackupNotFound);
    assert_eq!(kind(server.delete_backup("s", "a", false, caller()).await), ErrorKind::BackupNotFound);
    let Deletion::Job(id) = server.delete_backup("s", "b", true, caller()).await.unwrap() else {
        panic!("no job")
    };
    let job = ended(&server, &id).await;
    assert_eq!((job.status, job.operation.as_str()), (JobStatus::Completed, "Delete"));
    assert_eq!(job.result.unwrap()["status"], "success");
    assert!(server.backups("s").await.unwrap().is_empty());
    // Without grace time the background does this too; whoever comes first, at the end nothing is left.
    let report = server.run_retention_now().await.unwrap();
    assert!(report.failures.is_empty() && report.waiting.is_empty(), "{report:?}");
    let data =
        all_files(&site.store()).iter().filter(|file| file.to_string_lossy().contains("/data/")).count();
    assert_eq!(data, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_damaged_entry_can_be_deleted() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "a").await;
    make(&server, "b").await;
    fs::write(site.store().join("backups/a.json"), "{}").unwrap();
    assert_eq!(kind(server.backup("s", "a").await), ErrorKind::Damaged);
    assert!(!server.validate_backup("s", "a", None).await.unwrap().ready);
    assert_eq!(server.backups("s").await.unwrap().len(), 1);
    server.delete_backup("s", "a", false, caller()).await.unwrap();
    assert_eq!(kind(server.backup("s", "a").await), ErrorKind::BackupNotFound);
    assert!(server.validate_backup("s", "b", Some(passcode(PASSCODE))).await.unwrap().ready);
    server.stop().await;
}

#[tokio::test]
async fn retention_takes_what_has_expired_and_leaves_the_newest() {
    let site = Site::new();
    let server = site.server_with_store().await;
    for name in ["a", "b", "c"] {
        make(&server, name).await;
    }
    let past = server.update_backup("s", "a", Some(1_600_000_000_000), None).await.unwrap_err();
    assert_eq!(past.kind, ErrorKind::RetentionInvalid);
    assert!(past.message.contains("use delete"), "{past}");
    assert_eq!(kind(server.update_backup("s", "a", None, None).await), ErrorKind::ParameterMissing);
    let store = site.opened_store();
    for name in ["a", "c"] {
        store.update_backup(name, Some(1_600_000_000_000), None).unwrap();
    }
    // A second store, out of reach, does not keep the cleaner from the first.
    server.register_store(register("gone", &site.base.join("stores/gone"))).await.unwrap();
    fs::rename(site.base.join("stores/gone"), site.base.join("away")).unwrap();

    let report = server.run_retention_now().await.unwrap();
    assert_eq!(report.deleted, [("s".to_owned(), "a".to_owned())]);
    assert_eq!((report.kept[0].0.as_str(), report.kept[0].1.as_str()), ("s", "c"));
    assert_eq!(report.failures[0].0, "gone");
    let left: Vec<String> = server.backups("s").await.unwrap().iter().map(|view| view.name.clone()).collect();
    assert_eq!(left, ["c", "b"]);
    for name in ["b", "c"] {
        let whole = server.validate_backup("s", name, Some(passcode(PASSCODE))).await.unwrap();
        assert!(whole.ready, "{name}: {whole:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn torn_files_of_writers_that_were_killed_go_once_they_are_a_day_old() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "a").await;
    let torn = |name: &str, hours: u64| {
        let file = site.store().join("backups").join(name);
        let written = fs::File::create(&file).unwrap();
        written
            .set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600))
            .unwrap();
        file
    };
    let (old, fresh) = (torn(".a.json.tmp-0123456789abcdef", 25), torn(".b.json.tmp-0123456789abcdef", 1));
    server.run_retention_now().await.unwrap();
    assert!(!old.exists());
    assert!(fresh.exists(), "somebody may still be writing it");
    assert_eq!(server.backups("s").await.unwrap().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn a_backup_is_found_by_name_alone_by_the_old_rule() {
    let site = Site::new();
    let server = site.server_with_store().await;
    server.register_store(hosted("t", false)).await.unwrap();
    make(&server, "only in s").await;
    make(&server, "both").await;
    let id = server.create_backup(create("t", "both"), caller()).await.unwrap();
    ended(&server, &id).await;
    assert_eq!(server.find_backup("only in s", None).await.unwrap(), "s");
    assert_eq!(server.find_backup("both", Some("t")).await.unwrap(), "t");
    assert_eq!(kind(server.find_backup("only in s", Some("t")).await), ErrorKind::BackupNotFound);
    assert_eq!(kind(server.find_backup("none", None).await), ErrorKind::BackupNotFound);
    let error = server.find_backup("both", None).await.unwrap_err();
    assert_eq!((error.kind, error.details), (ErrorKind::Ambiguous, vec!["s".to_owned(), "t".to_owned()]));
    server.update_store("t", true).await.unwrap();
    assert_eq!(server.find_backup("both", None).await.unwrap(), "t");
    assert_eq!(server.all_backups().await.unwrap().len(), 3);
    server.stop().await;
}

#[tokio::test]
async fn verification_reads_everything_and_names_a_flipped_bit() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "b").await;
    let wrong = server.verify_backup_as_job("s", "b", passcode("not the passcode"), caller()).await;
    assert_eq!(kind(wrong), ErrorKind::PasscodeWrong);
    assert_eq!(
        kind(server.validate_backup("s", "b", Some(passcode("not the passcode"))).await),
        ErrorKind::PasscodeWrong
    );
    assert_eq!(kind(server.validate_backup("s", "x", None).await), ErrorKind::BackupNotFound);
    let id = server.verify_backup_as_job("s", "b", passcode(PASSCODE), caller()).await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!((job.status, job.operation.as_str()), (JobStatus::Completed, "Validate"), "{job:?}");
    assert_eq!(job.result.unwrap()["isReady"], true);

    let files = all_files(&site.store());
    let pack = files.iter().find(|file| file.to_string_lossy().contains("/data/")).unwrap();
    let mut bytes = fs::read(pack).unwrap();
    bytes[10] ^= 1;
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    let id = server.verify_backup_as_job("s", "b", passcode(PASSCODE), caller()).await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Failed);
    let name = pack.file_name().unwrap().to_string_lossy().into_owned();
    assert!(job.messages.iter().any(|message| message.contains(&name)), "{job:?}");
    assert_eq!(job.result.unwrap()["isReady"], false);
    server.stop().await;
}
