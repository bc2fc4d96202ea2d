//! Servers that stop, cleanly or not, in the midst of jobs.

use std::sync::Arc;
use std::time::Duration;

use super::gate::{Gated, Point};
use super::support::*;
use crate::*;

/// Ends the server as a kill would, while work waits at the gate.
fn kill(server: Recovery, site: &Site) {
    drop(server);
    site.gate.die();
}

#[tokio::test]
async fn a_backup_goes_on_after_a_kill() {
    let site = Site::new();
    let server = site.server_with_store().await;
    site.gate.close(Point::Backup);
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    site.gate.reached(Point::Backup).await;
    kill(server, &site);

    let server = site.idle_server().await;
    assert_eq!(server.backup("s", "b").await.unwrap().status, "in_progress");
    site.gate.open();
    server.start().await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    assert!(job.messages[0].contains("the server stopped during this job; it went on at"), "{job:?}");
    let view = server.backup("s", "b").await.unwrap();
    assert_eq!((view.status.as_str(), view.job_id), ("completed", id));
    assert!(site.opened_store().running().unwrap().is_empty());
    let whole = server.validate_backup("s", "b", Some(passcode(PASSCODE))).await.unwrap();
    assert!(whole.ready, "{whole:?}");
    server.stop().await;
}

#[tokio::test]
async fn after_the_third_interruption_a_backup_is_given_up_and_leaves_nothing() {
    let site = Site::new();
    site.gate.close(Point::Backup);
    let mut server = site.server_with_store().await;
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    for _ in 0..3 {
        site.gate.reached(Point::Backup).await;
        kill(server, &site);
        server = site.server().await;
    }
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Failed, "{job:?}");
    assert!(job.messages[0].contains("given up: the server stopped 3 times"), "{job:?}");
    assert!(server.backups("s").await.unwrap().is_empty());
    assert!(site.opened_store().running().unwrap().is_empty());
    site.gate.open();
    make(&server, "b").await;
    server.stop().await;
}

#[tokio::test]
async fn a_clean_stop_pauses_a_backup_and_does_not_count() {
    let site = Site::new();
    site.gate.close(Point::Backup);
    let mut server = site.server_with_store().await;
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    for _ in 0..4 {
        site.gate.reached(Point::Backup).await;
        server.stop().await;
        assert_eq!(server.job(&id).await.unwrap().status, JobStatus::Executing);
        drop(server);
        server = site.server().await;
    }
    site.gate.open();
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    assert_eq!(job.messages.len(), 4);
    server.stop().await;
}

#[tokio::test]
async fn a_job_that_had_not_begun_begins_at_the_next_start() {
    let site = Site::new();
    drop(site.server_with_store().await);
    let idle = site.idle_server().await;
    let id = idle.create_backup(create("s", "b"), caller()).await.unwrap();
    assert_eq!(idle.job(&id).await.unwrap().status, JobStatus::Submitted);
    drop(idle);
    let server = site.server().await;
    let job = ended(&server, &id).await;
    assert_eq!((job.status, job.messages.len()), (JobStatus::Completed, 0), "{job:?}");
    server.stop().await;
}

#[tokio::test]
async fn a_wish_to_cancel_outlives_a_kill() {
    let site = Site::new();
    site.gate.close(Point::Backup);
    let server = site.server_with_store().await;
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    site.gate.reached(Point::Backup).await;
    kill(server, &site);
    let server = site.idle_server().await;
    server.cancel_job(&id).await.unwrap();
    assert_eq!(server.job(&id).await.unwrap().status, JobStatus::Cancelling);
    server.start().await.unwrap();
    assert_eq!(ended(&server, &id).await.status, JobStatus::Cancelled);
    assert!(server.backups("s").await.unwrap().is_empty());
    assert!(site.opened_store().running().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_restore_goes_on_after_a_kill_before_and_after_the_swap() {
    for point in [Point::Staged, Point::Swapped] {
        let site = Site::new();
        let server = site.server_with_store().await;
        let before = site.tree();
        make(&server, "b").await;
        site.damage();
        site.gate.close(point);
        let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
        site.gate.reached(point).await;
        kill(server, &site);
        site.gate.open();
        let server = site.idle_server().await;
        assert!(server.read_only_reason().await.unwrap().is_some());
        server.start().await.unwrap();
        let job = ended(&server, &id).await;
        assert_eq!(job.status, JobStatus::Completed, "{point:?}: {job:?}");
        assert_eq!(site.tree(), before, "{point:?}");
        let left = std::fs::read_dir(&site.base)
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        let left: Vec<String> = left.filter(|name| name.starts_with('.')).collect();
        assert!(left.is_empty(), "{point:?}: {left:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_restore_of_a_part_goes_on_after_a_kill_with_that_part_alone() {
    for point in [Point::Staged, Point::Swapped] {
        let site = Site::new();
        let part = site.base.join("content/part");
        std::fs::create_dir_all(&part).unwrap();
        std::fs::write(part.join("file"), "good").unwrap();
        let server = site.server_with_store().await;
        make(&server, "b").await;
        std::fs::write(part.join("file"), "damaged").unwrap();
        std::fs::write(site.base.join("content/beside"), "came later").unwrap();
        site.gate.close(point);
        let wanted = Wanted { only: vec!["content/part".to_owned()], ..Wanted::default() };
        let request = RestoreBackup { wanted, ..restore("s", "b") };
        let id = server.restore_backup(request, caller()).await.unwrap().unwrap();
        site.gate.reached(point).await;
        kill(server, &site);
        site.gate.open();
        let server = site.server().await;
        let job = ended(&server, &id).await;
        assert_eq!(
            (job.status, job.portion.as_str()),
            (JobStatus::Completed, "content/part"),
            "{point:?}: {job:?}"
        );
        assert_eq!(std::fs::read_to_string(part.join("file")).unwrap(), "good", "{point:?}");
        assert!(site.base.join("content/beside").exists(), "{point:?}: all of it was restored");
        assert_eq!(
            std::fs::read_dir(site.base.join("content"))
                .unwrap()
                .filter(|entry| { entry.as_ref().unwrap().file_name().to_str().unwrap().starts_with('.') })
                .count(),
            0,
            "{point:?}: something is left"
        );
        server.stop().await;
    }
}

#[tokio::test]
async fn a_restore_into_another_component_goes_on_after_a_kill_and_never_touches_the_one_of_its_name() {
    for point in [Point::Staged, Point::Swapped] {
        let mut site = Site::new();
        let standby = site.base.join("standby");
        std::fs::create_dir_all(&standby).unwrap();
        std::fs::write(standby.join("old"), "replaced").unwrap();
        let inner = files("standby", &standby);
        site.settings.components.push(Arc::new(Gated { inner, gate: site.gate.clone() }));
        let server = site.server_with_store().await;
        let good: Vec<String> = site.tree().into_iter().map(|(_, text)| text).collect();
        make(&server, "b").await;
        site.damage();
        let damaged = site.tree();
        site.gate.close(point);
        let wanted = Wanted { target: vec!["content=standby".to_owned()], ..Wanted::default() };
        let request = RestoreBackup { wanted, ..restore("s", "b") };
        let id = server.restore_backup(request, caller()).await.unwrap().unwrap();
        site.gate.reached(point).await;
        kill(server, &site);
        site.gate.open();
        let server = site.server().await;
        let job = ended(&server, &id).await;
        assert_eq!(
            (job.status, job.portion.as_str()),
            (JobStatus::Completed, "content into standby"),
            "{point:?}: {job:?}"
        );
        assert_eq!(site.tree(), damaged, "{point:?}: the content of its name was touched");
        assert!(!standby.join("old").exists(), "{point:?}");
        let mut there: Vec<_> =
            std::fs::read_dir(standby.join("sub")).unwrap().map(|e| e.unwrap().path()).collect();
        there.sort();
        let there: Vec<String> = there.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
        assert_eq!(there, good, "{point:?}");
        server.stop().await;
    }
}

#[tokio::test]
async fn a_restore_that_is_given_up_leaves_the_content_as_it_was() {
    let site = Site::new();
    let mut server = site.server_with_store().await;
    make(&server, "b").await;
    site.damage();
    let damaged = site.tree();
    site.gate.close(Point::Staged);
    let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
    for _ in 0..3 {
        site.gate.reached(Point::Staged).await;
        kill(server, &site);
        server = site.server().await;
    }
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Failed, "{job:?}");
    assert_eq!(site.tree(), damaged);
    assert_eq!(server.read_only_reason().await.unwrap(), None);
    server.stop().await;
}

#[tokio::test]
async fn no_passcode_outlives_its_job() {
    let site = Site::new();
    let server = site.server_with_store().await;
    make(&server, "b").await;
    site.damage();
    let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
    ended(&server, &id).await;
    server.stop().await;
    drop(server);
    let state = crate::state::State::open(&site.settings.state_file).await.unwrap();
    for id in state.job_ids().await.unwrap() {
        assert_eq!(state.job(&id).await.unwrap().unwrap().passcode, None);
    }
    assert!(files_with(&site.base, PASSCODE).is_empty());
}

#[tokio::test]
async fn a_worker_that_lost_its_lease_writes_nothing_more_and_the_job_is_taken_up_again() {
    let mut site = Site::new();
    site.settings.lease = Duration::from_millis(1500);
    let server = site.server_with_store().await;
    site.gate.close(Point::Backup);
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    site.gate.reached(Point::Backup).await;
    // As if this server had been paused, and another worker had taken the job and then died.
    let state = crate::state::State::open(&site.settings.state_file).await.unwrap();
    let far = 9_000_000_000_000;
    let other = state.claim_job("main", "other", far, far).await.unwrap().unwrap();
    assert_eq!((other.id.as_str(), other.lease_token), (id.as_str(), 2));
    site.gate.left(Point::Backup).await;
    let before = all_files(&site.store());
    site.gate.open();
    assert!(server.backups("s").await.unwrap().iter().all(|view| view.status == "in_progress"));
    assert_eq!(all_files(&site.store()), before);
    assert!(state.release_lease(&other.lease(), None, far).await.unwrap());

    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Completed, "{job:?}");
    assert!(server.validate_backup("s", "b", Some(passcode(PASSCODE))).await.unwrap().ready);
    assert!(site.opened_store().running().unwrap().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_backup_that_cannot_go_on_after_a_kill_still_runs_its_after_hooks() {
    let mut site = Site::new();
    let thawed = site.base.join("thawed");
    let mut settings = files_settings("content", &site.content());
    settings.hooks.after_backup = vec![format!("/usr/bin/touch {}", thawed.display())];
    site.settings.components =
        vec![std::sync::Arc::new(Gated { inner: file_store(settings), gate: site.gate.clone() })];
    site.gate.close(Point::Backup);
    let server = site.server_with_store().await;
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    site.gate.reached(Point::Backup).await;
    kill(server, &site);
    std::fs::rename(site.store(), site.base.join("away")).unwrap();
    let server = site.idle_server().await;
    assert!(!thawed.exists());
    site.gate.open();
    server.start().await.unwrap();
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Failed, "{job:?}");
    assert!(thawed.exists());
    server.stop().await;
}

#[tokio::test]
async fn a_backup_that_was_told_to_be_cancelled_at_the_last_instant_does_not_stay() {
    let site = Site::new();
    let server = site.server_with_store().await;
    site.gate.close(Point::Backup);
    let id = server.create_backup(create("s", "b"), caller()).await.unwrap();
    site.gate.reached(Point::Backup).await;
    // The row says so already; the worker does not know it yet.
    let state = crate::state::State::open(&site.settings.state_file).await.unwrap();
    let asked = state.cancel_job(&id, 9_000_000_000_000).await.unwrap();
    assert_eq!(asked, crate::state::Cancel::Cancelling);
    site.gate.open();
    let job = ended(&server, &id).await;
    assert_eq!(job.status, JobStatus::Cancelled, "{job:?}");
    assert!(server.backups("s").await.unwrap().is_empty());
    make(&server, "b").await;
    server.stop().await;
}

/// Another component, with one file; it is the first to be swapped.
fn other(site: &mut Site) -> std::path::PathBuf {
    let other = site.base.join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("file"), "good").unwrap();
    site.settings.components.insert(0, files("other", &other));
    other
}

fn staging(site: &Site) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(&site.base).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('.')).collect()
}

/// A restore of two components is killed right after their swaps; at the next start one of them is not configured.
async fn interrupted_and_then_one_component_less(site: &mut Site) -> (JobView, std::path::PathBuf) {
    let other = other(site);
    let server = site.server_with_store().await;
    make(&server, "b").await;
    site.damage();
    std::fs::write(other.join("file"), "damaged").unwrap();
    site.gate.close(Point::Swapped);
    let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
    site.gate.reached(Point::Swapped).await;
    kill(server, site);
    site.gate.open();
    let gone = site.settings.components.remove(0);
    let server = site.server().await;
    let job = ended(&server, &id).await;
    server.stop().await;
    drop(server);
    site.settings.components.insert(0, gone);
    (job, other)
}

#[tokio::test]
async fn a_restore_whose_component_is_no_longer_configured_is_not_complete_and_is_put_right_later() {
    let mut site = Site::new();
    let (job, other) = interrupted_and_then_one_component_less(&mut site).await;
    assert_eq!(job.status, JobStatus::Failed, "{job:?}");
    assert!(job.messages[0].contains("component 'other' at"), "{job:?}");
    assert_eq!(staging(&site).len(), 1, "what was there before is kept");
    let server = site.server().await;
    assert!(staging(&site).is_empty());
    assert_eq!(std::fs::read_to_string(other.join("file")).unwrap(), "good");
    server.stop().await;
}

#[tokio::test]
async fn no_restore_begins_where_an_earlier_one_left_something_that_cannot_be_put_right() {
    let mut site = Site::new();
    let (job, other) = interrupted_and_then_one_component_less(&mut site).await;
    let left = staging(&site).remove(0);
    std::fs::write(left.join("journal.json"), "damaged").unwrap();
    let server = site.server().await;
    let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
    let second = ended(&server, &id).await;
    assert_eq!(second.status, JobStatus::Failed, "{second:?}");
    assert!(left.exists());
    assert!(second.messages[0].contains(&format!("an earlier restore (job {})", job.id)), "{second:?}");
    std::fs::write(other.join("file"), "damaged").unwrap();
    std::fs::remove_dir_all(left).unwrap();
    let id = server.restore_backup(restore("s", "b"), caller()).await.unwrap().unwrap();
    assert_eq!(ended(&server, &id).await.status, JobStatus::Completed);
    assert_eq!(std::fs::read_to_string(other.join("file")).unwrap(), "good");
    server.stop().await;
}
