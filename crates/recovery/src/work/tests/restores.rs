//! Restoring.

use std::fs;

use repository::Control;

use super::support::*;
use crate::work::{check_restore, recover_restore, run_restore};
use crate::{Error, ErrorKind, Selection};

#[test]
fn a_restore_brings_back_what_was_there() {
    let world = World::new();
    let before = tree(&world.content());
    world.back_up("one").unwrap();
    world.write("a.txt", b"spoiled");
    world.write("extra", b"extra");
    fs::remove_file(world.content().join("sub/b.bin")).unwrap();
    check_restore(&world.store, &world.restore_task("one")).unwrap();
    let done = world.restore("one").unwrap();
    assert_eq!(tree(&world.content()), before);
    assert_eq!((done.files, done.bytes), (2, 200_005));
    assert_eq!(done.warnings, []);
    assert!(world.keys("vaults/").iter().all(|key| !key.contains("/locks/")));
}

#[test]
fn a_wrong_passcode_is_refused_and_changes_nothing() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.write("a.txt", b"later");
    let before = tree(world.dir.path());
    let mut task = world.restore_task("one");
    task.passcode = passcode("not that one");
    for error in [check_restore(&world.store, &task).unwrap_err(), restore(&world.store, &task).unwrap_err()]
    {
        assert_eq!(error.kind, ErrorKind::PasscodeWrong);
        assert!(error.message.contains("passcode") && error.message.contains("'one'"), "{error}");
    }
    assert_eq!(tree(world.dir.path()), before);
}

#[test]
fn what_is_asked_for_and_not_there_is_named() {
    let world = World::new();
    world.back_up("one").unwrap();
    let unknown = check_restore(&world.store, &world.restore_task("two")).unwrap_err();
    assert_eq!(unknown.kind, ErrorKind::BackupNotFound);
    let mut task = world.restore_task("one");
    task.selection.components = vec!["maps".to_owned()];
    let error = check_restore(&world.store, &task).unwrap_err();
    assert!(error.kind == ErrorKind::ParameterInvalid && error.message.contains("content"), "{error}");
    task.selection.components = vec!["filestore".to_owned()];
    check_restore(&world.store, &task).unwrap();
    task.components = vec![file_store("other", &world.content())];
    let error = check_restore(&world.store, &task).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Incompatible);
    assert_eq!(error.details.len(), 1);
}

#[test]
fn a_restore_that_is_stopped_before_the_swap_changes_nothing() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.write("a.txt", b"later");
    let before = tree(&world.content());
    let seen = Seen::default();
    let stop = || Err(Error::new(ErrorKind::Cancelled, "stopped"));
    let error =
        run_restore(&world.store, &world.restore_task("one"), &Control::new(), &seen, &stop).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Cancelled);
    assert_eq!(tree(&world.content()), before);
    assert!(seen.0.into_inner().unwrap().contains(&("Restore volumes".to_owned(), "cancelled".to_owned())));
    assert!(!recover_restore("restore-one", &[world.component()], &Selection::default(), true).unwrap());
}

#[test]
fn what_was_not_in_the_backup_is_said_again_by_the_restore() {
    let world = World::new();
    let mut task = world.task("one");
    let optional =
        components::FileStoreSettings { optional: true, ..settings("gone", &world.dir.path().join("gone")) };
    task.components.push(components::file_store(optional));
    back_up(&world.store, &task).unwrap();
    let done = world.restore("one").unwrap();
    assert_eq!(done.warnings.len(), 1);
    assert!(done.warnings[0].reason.starts_with("not in the backup"), "{:?}", done.warnings);
}

#[test]
fn a_forged_entry_is_refused_though_its_checksum_is_right() {
    let world = World::new();
    let one = world.back_up("one").unwrap();
    world.write("a.txt", b"second");
    let two = world.back_up("two").unwrap();
    let path = world.file("backups/two.json");
    let text = fs::read_to_string(&path).unwrap();
    let (id_one, id_two) = (one.components[0].snapshot.to_string(), two.components[0].snapshot.to_string());
    let forged = text.replace(&id_two, &id_one);
    let open = forged.split(",\"checksum\"").next().unwrap();
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(open.as_bytes()));
    fs::write(&path, format!("{open},\"checksum\":\"{digest}\"}}")).unwrap();
    assert_eq!(
        world.store.backup("two").unwrap().unwrap().components[0].snapshot,
        one.components[0].snapshot
    );
    let before = tree(&world.content());
    for error in [
        check_restore(&world.store, &world.restore_task("two")).unwrap_err(),
        world.restore("two").unwrap_err(),
    ] {
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert!(error.message.contains("backups/two.json") && error.message.contains("forged"), "{error}");
    }
    assert_eq!(tree(&world.content()), before);
    assert_eq!(world.verify("two").findings[0].file, "backups/two.json");
    world.assert_verifies("one");
}

#[test]
fn an_entry_under_another_backups_name_is_refused() {
    let world = World::new();
    world.back_up("one").unwrap();
    fs::copy(world.file("backups/one.json"), world.file("backups/two.json")).unwrap();
    assert_eq!(world.store.backup("two").unwrap_err().kind, ErrorKind::Damaged);
    let (entries, findings) = world.store.backups().unwrap();
    assert_eq!((entries.len(), findings.len()), (1, 1));
    assert_eq!(findings[0].file, "backups/two.json");
}
