//! The state database as its users rely on it: leases fence, ends are final, secrets go.

use std::os::unix::fs::MetadataExt;

use sqlx::{QueryBuilder, Row};

use super::*;
use crate::{JobStatus, ProgressView, Purpose, Role};

struct Fixture {
    state: State,
    dir: tempfile::TempDir,
}

async fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let state = State::open(&dir.path().join("state.db")).await.unwrap();
    Fixture { state, dir }
}

fn new_job(id: &str, operation: &'static str, lane: &'static str) -> NewJob {
    NewJob {
        id: id.to_owned(),
        operation,
        lane,
        store: "s".to_owned(),
        backup: "B".to_owned(),
        backup_key: "b".to_owned(),
        parameters: serde_json::json!({"description": "d"}),
        passcode: Some(vec![1, 2, 3]),
        operation_uri: "/strongroom/admin/x".to_owned(),
        username: "admin".to_owned(),
        request_id: "r1".to_owned(),
        stages: Vec::new(),
        run: None,
    }
}

fn finish(status: JobStatus) -> Finish {
    Finish {
        status,
        messages: vec!["end".to_owned()],
        stages: Vec::new(),
        result: Some(serde_json::json!({"a": 1})),
        notice: None,
    }
}

async fn submit(state: &State, job: &NewJob) {
    state.submit_job(job, 1000, |_| Ok(())).await.unwrap();
}

async fn claim(state: &State, owner: &str, now: i64) -> JobRow {
    state.claim_job(LANE_MAIN, owner, now, now + 100).await.unwrap().unwrap()
}

#[tokio::test]
async fn an_older_token_can_write_nothing() {
    let f = fixture().await;
    submit(&f.state, &new_job("j1", "Backup", LANE_MAIN)).await;
    let first = claim(&f.state, "one", 2000).await.lease();
    assert!(f.state.claim_job(LANE_MAIN, "two", 2100, 2200).await.unwrap().is_none(), "still held");
    let second = claim(&f.state, "two", 2101).await.lease();
    assert_eq!((first.token, second.token), (1, 2));

    let progress = ProgressView { percent: 50, ..ProgressView::default() };
    assert!(!f.state.renew_lease(&first, 2102, 9000).await.unwrap());
    assert!(!f.state.write_progress(&first, &[], &progress, 2102).await.unwrap());
    assert!(!f.state.set_phase(&first, "changing", 2102).await.unwrap());
    assert!(!f.state.release_lease(&first, Some("x"), 2102).await.unwrap());
    assert!(!f.state.finish_job(&first, &finish(JobStatus::Completed), 2102).await.unwrap());
    let row = f.state.job("j1").await.unwrap().unwrap();
    assert_eq!((row.status, row.updated_at, row.phase.as_str()), (JobStatus::Executing, 2101, ""));
    assert_eq!(
        (row.progress.is_none(), row.messages.len(), row.lease_owner.as_deref()),
        (true, 0, Some("two"))
    );

    assert!(f.state.renew_lease(&second, 2103, 9000).await.unwrap());
    assert!(f.state.finish_job(&second, &finish(JobStatus::Completed), 2104).await.unwrap());
}

#[tokio::test]
async fn an_ended_job_never_changes_and_holds_no_passcode() {
    let f = fixture().await;
    for (id, status) in
        [("j1", JobStatus::Completed), ("j2", JobStatus::Failed), ("j3", JobStatus::Cancelled)]
    {
        submit(&f.state, &new_job(id, "Backup", LANE_MAIN)).await;
        let job = claim(&f.state, "one", 2000).await;
        assert_eq!(job.passcode.as_deref(), Some(&[1, 2, 3][..]));
        let lease = job.lease();
        assert!(f.state.finish_job(&lease, &finish(status), 3000).await.unwrap());

        for other in [JobStatus::Completed, JobStatus::Failed] {
            assert!(!f.state.finish_job(&lease, &finish(other), 4000).await.unwrap());
        }
        assert!(!f.state.renew_lease(&lease, 4000, 5000).await.unwrap());
        assert!(!f.state.release_lease(&lease, None, 4000).await.unwrap());
        assert_eq!(f.state.cancel_job(id, 4000).await.unwrap(), Cancel::Ended(status));
        assert!(f.state.interrupt_all("x", 4000).await.unwrap().is_empty());
        assert!(f.state.claim_job(LANE_MAIN, "two", 99_000, 99_100).await.unwrap().is_none());
        let row = f.state.job(id).await.unwrap().unwrap();
        assert_eq!((row.status, row.ended_at, row.updated_at), (status, 3000, 3000));
        assert_eq!(row.passcode, None);
        assert_eq!(row.messages, ["end"]);
    }
}

#[tokio::test]
async fn a_job_that_is_cancelled_before_it_began_is_over_at_once() {
    let f = fixture().await;
    submit(&f.state, &new_job("j1", "Restore", LANE_MAIN)).await;
    assert_eq!(f.state.cancel_job("j1", 2000).await.unwrap(), Cancel::Cancelled);
    let row = f.state.job("j1").await.unwrap().unwrap();
    assert_eq!((row.status, row.passcode, row.ended_at), (JobStatus::Cancelled, None, 2000));
    assert_eq!(f.state.cancel_job("j9", 2000).await.unwrap(), Cancel::Unknown);
}

#[tokio::test]
async fn a_restore_can_be_cancelled_until_it_changes_something_and_not_both() {
    let f = fixture().await;
    submit(&f.state, &new_job("j1", "Restore", LANE_MAIN)).await;
    let lease = claim(&f.state, "one", 2000).await.lease();
    assert!(f.state.set_phase(&lease, "changing", 2001).await.unwrap());
    assert_eq!(f.state.cancel_job("j1", 2002).await.unwrap(), Cancel::TooLate);
    assert!(f.state.set_phase(&lease, "", 2003).await.unwrap());
    assert_eq!(f.state.cancel_job("j1", 2004).await.unwrap(), Cancel::Cancelling);
    assert!(
        !f.state.set_phase(&lease, "changing", 2005).await.unwrap(),
        "a cancelled restore changes nothing"
    );
    assert!(f.state.finish_job(&lease, &finish(JobStatus::Cancelled), 2006).await.unwrap());
}

#[tokio::test]
async fn deletions_at_work_cannot_be_cancelled() {
    let f = fixture().await;
    submit(&f.state, &new_job("j1", "Delete", LANE_SIDE)).await;
    f.state.claim_job(LANE_SIDE, "one", 2000, 2100).await.unwrap().unwrap();
    assert_eq!(f.state.cancel_job("j1", 2002).await.unwrap(), Cancel::TooLate);
}

#[tokio::test]
async fn only_unclean_stops_count_as_interruptions() {
    let f = fixture().await;
    submit(&f.state, &new_job("j1", "Backup", LANE_MAIN)).await;
    let job = claim(&f.state, "one", 2000).await;
    assert!(f.state.release_lease(&job.lease(), None, 2001).await.unwrap());
    assert_eq!(f.state.interrupt_all("restarted", 2002).await.unwrap(), ["j1"]);
    let job = claim(&f.state, "two", 2003).await;
    assert_eq!((job.interruptions, job.status, job.lease_token), (0, JobStatus::Executing, 2));
    assert_eq!(job.messages, ["restarted"]);

    f.state.interrupt_all("restarted again", 2004).await.unwrap();
    let job = claim(&f.state, "three", 2005).await;
    assert_eq!((job.interruptions, job.messages.len(), job.lease_token), (1, 2, 3));
    assert!(f.state.release_lease(&job.lease(), Some("lost"), 2006).await.unwrap());
    assert_eq!(claim(&f.state, "three", 2007).await.interruptions, 2);
}

#[tokio::test]
async fn a_job_that_was_begun_comes_before_one_that_waits() {
    let f = fixture().await;
    submit(&f.state, &new_job("j1", "Delete", LANE_SIDE)).await;
    submit(&f.state, &new_job("j2", "Delete", LANE_SIDE)).await;
    let take = async |now| f.state.claim_job(LANE_SIDE, "x", now, now + 10).await.unwrap().map(|job| job.id);
    assert_eq!(take(2000).await.as_deref(), Some("j1"));
    assert_eq!(take(2001).await.as_deref(), Some("j2"));
    assert_eq!(take(2002).await, None);
    f.state.interrupt_all("x", 2003).await.unwrap();
    submit(&f.state, &new_job("j3", "Delete", LANE_SIDE)).await;
    assert_eq!(take(2004).await.as_deref(), Some("j1"));
    assert_eq!(f.state.job_ids().await.unwrap(), ["j3", "j2", "j1"]);
}

#[tokio::test]
async fn the_state_itself_allows_one_backup_or_restore() {
    let f = fixture().await;
    submit(&f.state, &new_job("j1", "Backup", LANE_MAIN)).await;
    let second = new_job("j2", "Restore", LANE_MAIN);
    assert!(f.state.submit_job(&second, 1000, |_| Ok(())).await.is_err());
    let refused = f.state.submit_job(&second, 1000, |active| {
        assert_eq!(active.len(), 1);
        Err(Error::new(ErrorKind::Busy, "no"))
    });
    assert_eq!(refused.await.unwrap_err().kind, ErrorKind::Busy);
    assert!(f.state.job("j2").await.unwrap().is_none());
    submit(&f.state, &new_job("j3", "Delete", LANE_SIDE)).await;
    assert_eq!(f.state.active_jobs().await.unwrap().len(), 2);
    assert_eq!(f.state.last_main_job().await.unwrap().unwrap().id, "j1");
}

#[tokio::test]
async fn old_jobs_go_and_running_ones_stay() {
    let f = fixture().await;
    submit(&f.state, &new_job("j1", "Backup", LANE_MAIN)).await;
    let lease = claim(&f.state, "one", 2000).await.lease();
    f.state.finish_job(&lease, &finish(JobStatus::Completed), 3000).await.unwrap();
    submit(&f.state, &new_job("j2", "Backup", LANE_MAIN)).await;
    f.state.purge_jobs(3000).await.unwrap();
    assert_eq!(f.state.job_ids().await.unwrap(), ["j2", "j1"]);
    f.state.purge_jobs(3001).await.unwrap();
    assert_eq!(f.state.job_ids().await.unwrap(), ["j2"]);
}

#[tokio::test]
async fn a_full_disk_is_named_and_harms_nothing_once_there_is_room() {
    let f = fixture().await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count").fetch_one(&f.state.writer).await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}")))
        .execute(&f.state.writer)
        .await
        .unwrap();
    let mut refused = None;
    for n in 0..200 {
        let mut job = new_job(&format!("j{n}"), "Delete", LANE_SIDE);
        job.parameters = serde_json::json!({"description": "x".repeat(1000)});
        if let Err(error) = f.state.submit_job(&job, 1, |_| Ok(())).await {
            refused = Some((n, error));
            break;
        }
    }
    let (n, error) = refused.unwrap();
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert!(error.message.contains("no space left for the state database"), "{error}");
    assert_eq!(f.state.job_ids().await.unwrap().len(), n);
    sqlx::query("PRAGMA max_page_count = 1000000").execute(&f.state.writer).await.unwrap();
    submit(&f.state, &new_job("later", "Delete", LANE_SIDE)).await;
    assert_eq!(f.state.job_ids().await.unwrap().len(), n + 1);
}

#[tokio::test]
async fn the_state_survives_being_opened_again_and_is_private() {
    let f = fixture().await;
    assert_eq!(f.state.meta("server_id", "a").await.unwrap(), "a");
    submit(&f.state, &new_job("j1", "Backup", LANE_MAIN)).await;
    let file = f.dir.path().join("state.db");
    for name in ["state.db", "state.db-wal", "state.db-shm"] {
        assert_eq!(std::fs::metadata(f.dir.path().join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
    }
    f.state.close().await;
    let again = State::open(&file).await.unwrap();
    assert_eq!(again.meta("server_id", "b").await.unwrap(), "a");
    assert_eq!(again.job_ids().await.unwrap(), ["j1"]);
    assert!(again.answers().await);
}

#[tokio::test]
async fn a_state_of_a_newer_release_is_refused_untouched() {
    let f = fixture().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, installed_on, success, checksum, execution_time)
         VALUES (999, 'newer', '2030-01-01', TRUE, x'00', 0)",
    )
    .execute(&f.state.writer)
    .await
    .unwrap();
    f.state.close().await;
    let error = State::open(&f.dir.path().join("state.db")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.message.contains("newer release"), "{error}");
}

fn token<'a>(hash: &'a str, username: &'a str, expires_at: i64, purpose: Purpose) -> NewToken<'a> {
    NewToken { hash, username, expires_at, purpose, facts: "facts" }
}

#[tokio::test]
async fn tokens_are_found_by_hash_until_they_expire_or_their_user_goes() {
    let f = fixture().await;
    assert!(f.state.insert_user("Anna", "hash", Role::Operator, 1).await.unwrap());
    assert!(!f.state.insert_user("anna", "hash", Role::Viewer, 1).await.unwrap());
    assert!(f.state.insert_token(&token("t1", "Anna", 1000, Purpose::Access)).await.unwrap());
    assert!(!f.state.insert_token(&token("t2", "nobody", 1000, Purpose::Access)).await.unwrap());
    let (holder, _) = f.state.token_holder("t1", Purpose::Access, 999).await.unwrap().unwrap();
    assert_eq!((holder.username.as_str(), holder.role), ("Anna", Role::Operator));
    assert!(f.state.token_holder("t1", Purpose::Access, 1000).await.unwrap().is_none());
    f.state.update_user("Anna", None, Some("other")).await.unwrap();
    assert!(
        f.state.token_holder("t1", Purpose::Access, 999).await.unwrap().is_none(),
        "a new password ends sessions"
    );
    f.state.insert_token(&token("t3", "Anna", 1000, Purpose::Access)).await.unwrap();
    assert_eq!(f.state.delete_user("Anna").await.unwrap(), UserChange::Done);
    assert!(f.state.token_holder("t3", Purpose::Access, 999).await.unwrap().is_none());
}

#[tokio::test]
async fn a_user_has_a_limited_number_of_tokens_and_the_newest_ones_work() {
    let f = fixture().await;
    f.state.insert_user("a", "hash", Role::Viewer, 1).await.unwrap();
    let mut write = f.state.write().await.unwrap();
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
         INSERT INTO tokens (hash, username, expires_at) SELECT 'old' || i, 'a', 1000 + i FROM n",
    )
    .bind(users::TOKENS_PER_USER_MAX)
    .execute(&mut *write)
    .await
    .unwrap();
    f.state.commit(write).await.unwrap();
    f.state.insert_token(&token("new", "a", 500, Purpose::Access)).await.unwrap();
    assert!(
        f.state.token_holder("new", Purpose::Access, 0).await.unwrap().is_some(),
        "the new one stays even if it ends first"
    );
    assert!(f.state.token_holder("old1", Purpose::Access, 0).await.unwrap().is_none());
    assert!(f.state.token_holder("old2", Purpose::Access, 0).await.unwrap().is_some());
    f.state.purge_sessions(1_000_000, 0).await.unwrap();
    assert!(f.state.token_holder("old2", Purpose::Access, 0).await.unwrap().is_none());
}

#[tokio::test]
async fn the_default_flag_moves_in_one_step() {
    let f = fixture().await;
    let row = |name: &str, default| StoreRow {
        name: name.to_owned(),
        name_key: name.to_lowercase(),
        kind: "HOSTED".to_owned(),
        root_dir: format!("/stores/{name}"),
        connection: None,
        credential: None,
        storage_config: serde_json::json!({"size": "64Gi"}),
        default,
        identity: "i".to_owned(),
        created_at: 1,
        validated_at: 0,
    };
    assert!(f.state.insert_store(&row("a", true)).await.unwrap());
    assert!(f.state.insert_store(&row("b", true)).await.unwrap());
    assert!(!f.state.insert_store(&row("A", true)).await.unwrap(), "a name that differs in case alone");
    let defaults = async || {
        let all = f.state.stores().await.unwrap();
        all.into_iter().filter(|store| store.default).map(|store| store.name).collect::<Vec<_>>()
    };
    assert_eq!(defaults().await, ["b"], "a refused registration takes no flag");
    assert!(!f.state.set_default("nope", true).await.unwrap());
    assert_eq!(defaults().await, ["b"]);
    assert!(f.state.set_default("a", true).await.unwrap());
    assert_eq!(defaults().await, ["a"]);
    assert!(f.state.set_default("a", false).await.unwrap());
    assert_eq!(defaults().await, Vec::<String>::new());
    assert_eq!(f.state.store("a").await.unwrap().unwrap().storage_config["size"], "64Gi");
}

#[tokio::test]
async fn a_store_in_use_is_not_forgotten() {
    let f = fixture().await;
    assert_eq!(f.state.delete_store("s").await.unwrap(), DeleteStore::Unknown);
    submit(&f.state, &new_job("j1", "Backup", LANE_MAIN)).await;
    assert_eq!(f.state.delete_store("s").await.unwrap(), DeleteStore::InUse("j1".to_owned()));
}

#[tokio::test]
async fn failed_log_ins_are_counted_per_user_and_address() {
    let f = fixture().await;
    f.state.add_login_failure("Anna", "10.0.0.1", 5).await.unwrap();
    f.state.add_login_failure("anna", "10.0.0.1", 7).await.unwrap();
    assert_eq!(f.state.login_failures("ANNA", "10.0.0.1").await.unwrap(), (2, 7));
    assert_eq!(f.state.login_failures("anna", "10.0.0.2").await.unwrap(), (0, 0));
    f.state.clear_login_failures("anna", "10.0.0.1").await.unwrap();
    assert_eq!(f.state.login_failures("anna", "10.0.0.1").await.unwrap(), (0, 0));
}

/// A small file system in memory, gone with the value.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    /// `None` where this process may not mount.
    fn mount(at: &Path) -> Option<Self> {
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "strongroom-test"])
            .arg(at)
            .output();
        mount.is_ok_and(|done| done.status.success()).then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[tokio::test]
async fn on_a_disk_that_is_really_full_the_state_refuses_and_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let Some(_disk) = SmallDisk::mount(dir.path()) else {
        println!("SKIPPED: this test mounts a file system and needs root");
        return;
    };
    let state = State::open(&dir.path().join("state.db")).await.unwrap();
    submit(&state, &new_job("first", "Backup", LANE_MAIN)).await;
    let lease = claim(&state, "one", 2000).await.lease();
    let ballast = dir.path().join("ballast");
    let mut size = 1 << 20;
    while size >= 512 {
        let mut file = OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
        if io::Write::write_all(&mut file, &vec![1; size]).is_err() {
            size /= 2;
        }
    }
    let mut refused = Vec::new();
    for n in 0..300 {
        if let Err(error) =
            state.submit_job(&new_job(&format!("j{n}"), "Delete", LANE_SIDE), 1, |_| Ok(())).await
        {
            refused.push(error);
        }
    }
    assert!(!refused.is_empty());
    for error in &refused {
        assert_eq!(error.kind, ErrorKind::NoSpace, "{error:?}");
    }
    assert!(state.job("first").await.unwrap().is_some(), "reading goes on");
    std::fs::remove_file(&ballast).unwrap();
    submit(&state, &new_job("last", "Delete", LANE_SIDE)).await;
    assert!(state.finish_job(&lease, &finish(JobStatus::Completed), 9000).await.unwrap());
}

#[tokio::test]
async fn how_long_a_job_ran_is_without_the_time_that_it_waited_for_its_turn_or_its_server() {
    let f = fixture().await;
    let last = async || f.state.job_figures().await.unwrap().last_durations;
    submit(&f.state, &new_job("j1", "Backup", LANE_MAIN)).await;
    assert!(last().await.is_empty());
    // Submitted at 1,000, taken at 5,000, paused by a clean stop at 5,300.
    let first = claim(&f.state, "one", 5000).await.lease();
    assert!(f.state.release_lease(&first, None, 5300).await.unwrap());
    // Taken again, and its server dies at some time after the last renewal.
    let second = claim(&f.state, "two", 9000).await.lease();
    assert!(f.state.renew_lease(&second, 9020, 9500).await.unwrap());
    f.state.interrupt_all("the server died", 20_000).await.unwrap();
    // Taken by one whose lease runs out without a word, and then by the one that ends it.
    claim(&f.state, "three", 30_000).await;
    let last_one = claim(&f.state, "four", 40_000).await.lease();
    assert!(f.state.finish_job(&last_one, &finish(JobStatus::Completed), 40_001).await.unwrap());
    assert_eq!(last().await, [("Backup".to_owned(), 300 + 20 + 1)]);
    // A clock that goes back takes nothing away.
    submit(&f.state, &new_job("j2", "Backup", LANE_MAIN)).await;
    let back = claim(&f.state, "five", 50_000).await.lease();
    assert!(f.state.finish_job(&back, &finish(JobStatus::Completed), 45_000).await.unwrap());
    assert_eq!(last().await, [("Backup".to_owned(), 0)]);
}

#[tokio::test]
async fn what_pages_ask_of_jobs_reads_the_jobs_of_those_backups_or_of_that_kind_alone() {
    let f = fixture().await;
    let mut number = 0;
    for (store, backup, operation, status, result) in [
        ("s", "B1", "Validate", JobStatus::Completed, true),
        ("s", "B1", "Validate", JobStatus::Completed, true),
        ("s", "B1", "Restore", JobStatus::Completed, true),
        ("s", "B1", "Backup", JobStatus::Completed, true),
        ("s", "B2", "Validate", JobStatus::Failed, true),
        ("s", "B2", "Validate", JobStatus::Failed, false),
        ("s", "B2", "Restore", JobStatus::Failed, true),
        ("s", "B3", "Validate", JobStatus::Completed, true),
        ("other", "B1", "Validate", JobStatus::Completed, true),
    ] {
        number += 1;
        let (store, backup) = (store.to_owned(), backup.to_owned());
        submit(&f.state, &NewJob { store, backup, ..new_job(&format!("j{number}"), operation, LANE_MAIN) })
            .await;
        let lease = claim(&f.state, "one", 2000).await.lease();
        let mut finish = finish(status);
        finish.result = finish.result.filter(|_| result);
        assert!(f.state.finish_job(&lease, &finish, 3000 + number).await.unwrap());
    }
    let proof = |backup: &str, operation: &str, status: &str, ended: i64| {
        (backup.to_owned(), operation.to_owned(), status.to_owned(), ended)
    };
    let mut proofs = f.state.last_proofs("s", &["B1", "B2", "none"]).await.unwrap();
    proofs.sort();
    assert_eq!(
        proofs,
        [
            proof("B1", "Restore", "COMPLETED", 3003),
            proof("B1", "Validate", "COMPLETED", 3002),
            proof("B2", "Validate", "FAILED", 3005),
        ]
    );
    assert_eq!(f.state.last_proofs("s", &[]).await.unwrap(), []);
    assert_eq!(f.state.last_restore().await.unwrap().unwrap().id, "j3");

    let proofs = jobs::proofs_of("s", &["B1", "B2"]).into_string();
    for (query, by) in [
        (proofs.as_str(), "(store=? AND backup=?)"),
        (jobs::LAST_RESTORE, "(operation=? AND status=?)"),
        (figures::LAST_DURATION, "(operation=? AND status=?)"),
    ] {
        let mut explain = QueryBuilder::<Sqlite>::new("EXPLAIN QUERY PLAN ");
        let plan = explain.push(query).build().fetch_all(f.state.reader()).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
        assert!(steps[0].starts_with("SEARCH jobs") && steps[0].ends_with(by), "{query}: {steps:?}");
        assert!(!steps.iter().any(|step| step.starts_with("SCAN")), "{query}: {steps:?}");
    }
}
