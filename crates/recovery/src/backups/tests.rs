//! What may run together: the table of the interface.

use super::*;
use crate::JobStatus;

fn job(operation: &str, store: &str, backup: &str) -> JobRow {
    JobRow {
        id: format!("j-{operation}"),
        operation: operation.to_owned(),
        status: JobStatus::Executing,
        store: store.to_owned(),
        backup: backup.to_owned(),
        backup_key: name_key(backup),
        parameters: json!({}),
        passcode: None,
        operation_uri: String::new(),
        username: String::new(),
        request_id: String::new(),
        submitted_at: 0,
        updated_at: 0,
        ended_at: 0,
        interruptions: 0,
        phase: String::new(),
        lease_owner: None,
        lease_token: 1,
        messages: Vec::new(),
        stages: Vec::new(),
        progress: None,
        result: None,
    }
}

fn kind(outcome: Result<()>) -> Option<ErrorKind> {
    outcome.err().map(|error| {
        assert!(error.details.iter().any(|line| line.starts_with("jobid=j-")), "{error:?}");
        error.kind
    })
}

#[test]
fn a_backup_starts_beside_anything_but_a_backup_or_a_restore() {
    let admit = |active: &[JobRow]| kind(admit_backup(active, "s", "new"));
    assert_eq!(admit(&[]), None);
    assert_eq!(admit(&[job("Backup", "other", "x")]), Some(ErrorKind::Busy));
    assert_eq!(admit(&[job("Backup", "s", "x")]), Some(ErrorKind::Busy));
    assert_eq!(admit(&[job("Backup", "s", "NEW")]), Some(ErrorKind::BackupExists), "a repeated request");
    assert_eq!(admit(&[job("Restore", "s", "x")]), Some(ErrorKind::ReadOnly));
    assert_eq!(admit(&[job("Delete", "s", "x"), job("Validate", "s", "x"), job("Register", "t", "")]), None);
}

#[test]
fn a_backup_in_use_is_not_changed_and_others_are() {
    let admit = |active: &[JobRow]| kind(admit_change(active, "s", "b"));
    assert_eq!(admit(&[]), None);
    assert_eq!(admit(&[job("Backup", "s", "b")]), Some(ErrorKind::BackupInUse));
    assert_eq!(admit(&[job("Backup", "s", "c"), job("Backup", "t", "b")]), None);
    assert_eq!(admit(&[job("Delete", "s", "b")]), Some(ErrorKind::BackupInUse));
    assert_eq!(admit(&[job("Delete", "s", "c")]), None);
    assert_eq!(admit(&[job("Validate", "s", "b")]), Some(ErrorKind::BackupInUse));
    assert_eq!(admit(&[job("Restore", "t", "c")]), Some(ErrorKind::ReadOnly));
}
