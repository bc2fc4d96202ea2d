//! Making backups.

use std::fs;
use std::sync::Arc;

use repository::{Control, Cost};
use storage::Guarded;

use components::Hooks;

use super::support::*;
use crate::ErrorKind;
use crate::store::cache::CatalogueCache;
use crate::store::{RunningRecord, Store};
use crate::work::{run_backup, undo_backup, verify_backup};

#[test]
fn a_backup_is_in_the_catalogue_with_all_facts_and_verifies() {
    let world = World::new();
    let seen = Seen::default();
    let entry = run_backup(&world.store, &world.task("one"), &Control::new(), &seen).unwrap();
    assert_eq!(world.store.backup("one").unwrap().unwrap(), entry);
    let view = entry.view("local");
    assert_eq!((view.files_total, view.bytes_read, view.status.as_str()), (2, 200_005, "completed"));
    assert_eq!((view.description.as_str(), view.job_id.as_str()), ("by test", "job-one"));
    assert!(view.bytes_added > 200_000 && view.complete_time >= view.start_time);
    assert_eq!(view.components[0].place, world.content().display().to_string());
    world.assert_verifies("one");
    assert_eq!(world.scrub().findings, []);
    assert!(world.keys("running/").is_empty());
    let cache = CatalogueCache::default();
    let look = world.store.listed(&cache, "local").unwrap();
    assert!(world.store.bytes_stored(&cache, &look).unwrap() >= view.bytes_added);
    let stages = seen.0.into_inner().unwrap();
    let done: Vec<&str> = stages.iter().filter(|s| s.1 != "in_progress").map(|s| s.0.as_str()).collect();
    let expected = [
        "Validation",
        "Stage Relational store",
        "Stage Object store",
        "Stage volumes",
        "Stage system configuration",
        "Post backup operation cleanup",
    ];
    assert_eq!(done, expected);
}

#[test]
fn a_second_backup_reuses_what_the_first_stored() {
    let world = World::new();
    let first = world.back_up("one").unwrap();
    world.write("c.txt", b"new");
    let second = world.back_up("two").unwrap();
    assert!(second.bytes_added < 10_000, "{} bytes were added", second.bytes_added);
    assert!(second.groups.contains(&first.groups[0]));
    assert_eq!(first.vault, second.vault);
    world.assert_verifies("one");
    world.assert_verifies("two");
}

#[test]
fn another_passcode_means_another_vault() {
    let world = World::new();
    let first = world.back_up("one").unwrap();
    let task = crate::work::BackupTask { passcode: passcode("battery staple"), ..world.task("two") };
    let second = back_up(&world.store, &task).unwrap();
    assert_ne!(first.vault, second.vault);
    assert!(second.bytes_added > 200_000);
    let wrong =
        verify_backup(&world.store, "two", Some(&passcode(PASSCODE)), false, &Control::new()).unwrap_err();
    assert_eq!(wrong.kind, ErrorKind::PasscodeWrong);
    assert!(wrong.message.contains("'two'") && !wrong.message.contains(PASSCODE), "{wrong}");
}

#[test]
fn a_job_run_again_returns_the_backup_that_it_made() {
    let world = World::new();
    let entry = world.back_up("one").unwrap();
    assert_eq!(world.back_up("one").unwrap(), entry);
    let other = crate::work::BackupTask { job_id: "other".to_owned(), ..world.task("one") };
    assert_eq!(back_up(&world.store, &other).unwrap_err().kind, ErrorKind::BackupExists);
}

#[test]
fn a_cancelled_backup_leaves_nothing_visible() {
    let world = World::new();
    let control = Control::new();
    control.cancel();
    let seen = Seen::default();
    let error = run_backup(&world.store, &world.task("one"), &control, &seen).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert_eq!(world.names(), [""; 0]);
    assert!(world.keys("running/").is_empty() && world.keys("groups/").is_empty());
    assert!(world.keys("vaults/").iter().all(|key| !key.contains("/snapshots/") && !key.contains("/locks/")));
    assert!(seen.0.into_inner().unwrap().contains(&("Stage volumes".to_owned(), "cancelled".to_owned())));
}

#[test]
fn a_missing_directory_fails_the_backup_unless_the_component_is_optional() {
    let world = World::new();
    let gone = world.dir.path().join("gone");
    let mut task = world.task("one");
    task.components.push(file_store("gone", &gone));
    let error = back_up(&world.store, &task).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(error.message.contains("gone"));
    assert_eq!(world.names(), [""; 0]);

    let optional = components::FileStoreSettings { optional: true, ..settings("gone", &gone) };
    task.components[1] = components::file_store(optional);
    let entry = back_up(&world.store, &task).unwrap();
    assert_eq!(entry.status, "completed_with_warnings");
    assert_eq!(entry.components.len(), 1);
    assert!(entry.warnings.iter().any(|w| w.item == "gone"), "{:?}", entry.warnings);
    assert_eq!(entry.warning_count, entry.warnings.len() as u64);
}

#[test]
fn after_backup_hooks_run_on_success_on_failure_and_on_undo() {
    let world = World::new();
    let mark = world.dir.path().join("thawed");
    let hook = |path: std::path::PathBuf| {
        components::file_store(components::FileStoreSettings {
            hooks: Hooks { after_backup: vec![format!("/bin/touch {}", mark.display())], ..Hooks::default() },
            ..settings("content", &path)
        })
    };
    let mut task = world.task("one");
    task.components = vec![hook(world.dir.path().join("gone"))];
    back_up(&world.store, &task).unwrap_err();
    fs::remove_file(&mark).unwrap();
    undo_backup(&world.store, &task).unwrap();
    fs::remove_file(&mark).unwrap();
    task.components = vec![hook(world.content())];
    back_up(&world.store, &task).unwrap();
    fs::remove_file(&mark).unwrap();
}

#[test]
fn undo_removes_what_a_killed_backup_left_and_keeps_a_committed_one() {
    let world = World::new();
    // Killed right before the commit: everything but the entry is there.
    let plan = storage::FaultPlan::new(0, storage::Fault::DieBefore);
    let counting =
        world.store.with_storage(Arc::new(storage::Faulty::new(world.store.storage().clone(), plan.clone())));
    back_up(&counting, &world.task("count")).unwrap();
    world.store.delete_backup("count").unwrap();
    world.reclaim_now();
    let mut n = plan.calls();
    loop {
        let plan = storage::FaultPlan::new(n, storage::Fault::DieBefore);
        let dying =
            world.store.with_storage(Arc::new(storage::Faulty::new(world.store.storage().clone(), plan)));
        let failed = back_up(&dying, &world.task("one")).is_err();
        if failed && world.names().is_empty() {
            break;
        }
        world.store.delete_backup("one").unwrap();
        world.reclaim_now();
        n -= 1;
    }
    assert_eq!(world.store.running().unwrap().len(), 1);
    assert!(world.keys("vaults/").iter().any(|key| key.contains("/snapshots/")));
    undo_backup(&world.store, &world.task("one")).unwrap();
    assert!(world.store.running().unwrap().is_empty() && world.keys("groups/").is_empty());
    assert!(!world.keys("vaults/").iter().any(|key| key.contains("/snapshots/")));
    undo_backup(&world.store, &world.task("one")).unwrap();

    // The packs that it left are used by the next backup, and belong to its group from then on.
    let entry = world.back_up("two").unwrap();
    assert!(entry.bytes_added < 10_000, "{} bytes were added", entry.bytes_added);
    undo_backup(&world.store, &world.task("two")).unwrap();
    world.assert_verifies("two");
    world.store.delete_backup("two").unwrap();
    world.reclaim_now();
    assert!(!world.keys("vaults/").iter().any(|key| key.contains("/data/") || key.contains("/index/")));
}

#[test]
fn a_worker_that_lost_its_lease_leaves_everything_to_its_successor() {
    struct Never;
    impl storage::Permit for Never {
        fn may_write(&self) -> std::result::Result<(), String> {
            Err("the lease has lapsed".to_owned())
        }
    }
    let world = World::new();
    let guarded =
        world.store.with_storage(Arc::new(Guarded::new(world.store.storage().clone(), Arc::new(Never))));
    assert_eq!(back_up(&guarded, &world.task("one")).unwrap_err().kind, ErrorKind::LeaseLost);
    assert!(world.keys("running/").is_empty() && world.keys("vaults/").is_empty());
}

#[test]
fn an_entry_that_lands_after_its_run_was_given_up_is_void() {
    let world = World::new();
    let entry = world.back_up("one").unwrap();
    let bytes = fs::read(world.file("backups/one.json")).unwrap();
    // As it would have been had the worker paused right before the commit, and another one cleaned up.
    fs::remove_file(world.file("backups/one.json")).unwrap();
    let record = RunningRecord {
        job_id: entry.job_id.clone(),
        run: entry.run.clone(),
        server: SERVER.to_owned(),
        backup: "one".to_owned(),
        vault: entry.vault.clone(),
        started_at: 1,
    };
    world.store.put_running(&record, None).unwrap();
    undo_backup(&world.store, &world.task("one")).unwrap();
    fs::write(world.file("backups/one.json"), &bytes).unwrap();
    assert_eq!(world.names(), [""; 0]);
    assert!(world.store.backup("one").unwrap().is_none());
    world.store.clear_running("job-one").unwrap();
    assert!(world.store.backup("one").unwrap().is_none());

    // The name is free: the next backup takes the void entry's place.
    let again = world.back_up("one").unwrap();
    assert_ne!(again.run, entry.run);
    world.assert_verifies("one");
    assert_eq!(world.names(), ["one"]);
}

#[test]
fn clearing_the_record_of_a_backup_that_committed_keeps_the_backup() {
    let world = World::new();
    let entry = world.back_up("one").unwrap();
    let record = RunningRecord {
        job_id: entry.job_id.clone(),
        run: entry.run.clone(),
        server: SERVER.to_owned(),
        backup: "one".to_owned(),
        vault: entry.vault.clone(),
        started_at: 1,
    };
    world.store.put_running(&record, None).unwrap();
    world.store.clear_running(&entry.job_id).unwrap();
    assert_eq!(world.names(), ["one"]);
    assert!(world.keys("revoked/").is_empty() && world.keys("running/").is_empty());
}

#[test]
fn retention_and_description_change_without_the_passcode_and_the_entry_stays_authentic() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.store.update_backup("one", Some(77), None).unwrap();
    world.store.update_backup("one", None, Some("changed")).unwrap();
    let entry = world.store.backup("one").unwrap().unwrap();
    assert_eq!((entry.retention_date, entry.description.as_str()), (77, "changed"));
    world.assert_verifies("one");
    assert_eq!(world.store.update_backup("no", None, None).unwrap_err().kind, ErrorKind::BackupNotFound);
}

#[test]
fn the_vault_is_a_repository_that_the_engines_own_check_finds_clean() {
    let world = World::new();
    let entry = world.back_up("one").unwrap();
    let vault = world.store.open_vault(&entry, &passcode(PASSCODE)).unwrap();
    let report =
        repository::check(&vault, repository::CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!(report.findings, []);
    let (snapshots, _) = vault.snapshots().unwrap();
    assert_eq!(snapshots[0].1.tags, ["backup=one", "component=content", "job=job-one"]);
}

#[test]
fn a_store_is_adopted_by_the_next_server_with_all_its_backups() {
    let world = World::new();
    world.back_up("one").unwrap();
    let (again, adopted) =
        Store::create_or_adopt(world.store.storage().clone(), "other", Cost::FAST).unwrap();
    assert!(adopted);
    assert_eq!(again.identity(), world.store.identity());
    assert_eq!(again.identity().id.len(), 20);
    assert_eq!(again.backups().unwrap().0.len(), 1);
    assert!(again.probe().is_empty());
    assert!(world.keys("probe/").is_empty());
}
