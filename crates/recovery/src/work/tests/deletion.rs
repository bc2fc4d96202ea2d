//! Leaving the catalogue, and reclaiming the space.

use std::fs;
use std::time::Duration;

use repository::{CheckRequest, Control, Id};

use super::support::*;
use crate::ErrorKind;
use crate::store::RunningRecord;
use crate::store::groups::Group;

fn record(vault: &str) -> RunningRecord {
    RunningRecord {
        job_id: "other".to_owned(),
        run: "ab".repeat(16),
        server: "elsewhere/2".to_owned(),
        backup: "x".to_owned(),
        vault: vault.to_owned(),
        started_at: 1,
    }
}

fn assert_vault_clean(world: &World, name: &str) {
    let entry = world.store.backup(name).unwrap().unwrap();
    let vault = world.store.open_vault(&entry, &passcode(PASSCODE)).unwrap();
    let report = repository::check(&vault, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!(report.findings, []);
    assert_eq!(report.notes, [""; 0]);
}

#[test]
fn a_deleted_backups_space_goes_and_the_other_backup_stays_whole() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.write("sub/b.bin", &noise(2, 300_000));
    let two = world.back_up("two").unwrap();
    assert!(two.bytes_added > 300_000);
    world.store.delete_backup("two").unwrap();
    world.store.delete_backup("two").unwrap();
    assert_eq!(world.names(), ["one"]);
    let report = world.reclaim_now();
    assert_eq!(report.waiting, [""; 0]);
    assert!(report.packs >= 1 && report.bytes > 300_000, "{report:?}");
    assert!(world.keys("deleted/").is_empty());
    assert_eq!(world.keys("groups/").len(), 1);
    world.assert_verifies("one");
    assert_vault_clean(&world, "one");
    assert_eq!(world.scrub().findings, []);
    assert_eq!(world.reclaim_now(), crate::store::ReclaimReport::default());
}

#[test]
fn packs_that_a_later_backup_shares_stay_when_the_earlier_one_goes() {
    let world = World::new();
    let one = world.back_up("one").unwrap();
    let two = world.back_up("two").unwrap();
    assert!(two.groups.contains(&one.groups[0]));
    world.store.delete_backup("one").unwrap();
    assert_eq!(world.reclaim_now().packs, 0);
    world.assert_verifies("two");
    assert_vault_clean(&world, "two");
    world.store.delete_backup("two").unwrap();
    world.reclaim_now();
    let left: Vec<String> = world
        .keys("vaults/")
        .into_iter()
        .filter(|key| !key.contains("/keys/") && !key.ends_with("/config"))
        .collect();
    assert_eq!(left, [""; 0]);
    assert!(world.keys("groups/").is_empty());
}

#[test]
fn a_backup_does_not_build_on_what_is_about_to_go() {
    let world = World::new();
    let one = world.back_up("one").unwrap();
    world.store.delete_backup("one").unwrap();
    let two = world.back_up("two").unwrap();
    assert!(two.bytes_added > 200_000, "doomed packs were used");
    assert!(!two.groups.contains(&one.groups[0]));
    assert!(world.reclaim_now().packs > 0);
    world.assert_verifies("two");
    assert_vault_clean(&world, "two");
}

#[test]
fn reclaiming_waits_for_the_grace_for_running_backups_and_for_locks() {
    let world = World::new();
    let one = world.back_up("one").unwrap();
    world.store.delete_backup("one").unwrap();
    let packs = world.keys("vaults/");
    let waits_for = |what: &str, grace: Duration| {
        let report = world.store.reclaim(SERVER, grace, &Control::new()).unwrap();
        assert!(report.waiting.iter().any(|line| line.contains(what)), "{report:?}");
        assert_eq!(world.keys("vaults/"), packs);
    };
    waits_for("kept for", Duration::from_secs(60));

    world.store.put_running(&record(&one.vault), None).unwrap();
    waits_for("at work", Duration::ZERO);
    world.flip("running/other.json");
    waits_for("running/other.json", Duration::ZERO);
    fs::remove_file(world.file("running/other.json")).unwrap();

    let lock = format!("vaults/{}/locks/{}", one.vault, "ab".repeat(32));
    world.store.storage().create(&lock, &[b"locked"]).unwrap();
    let report = world.store.reclaim(SERVER, Duration::ZERO, &Control::new()).unwrap();
    assert!(report.waiting[0].contains(&lock) && report.packs == 0, "{report:?}");
    world.age_locks();
    assert!(world.store.reclaim(SERVER, Duration::ZERO, &Control::new()).unwrap().packs > 0);
}

#[test]
fn a_deletion_from_the_future_waits() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.store.delete_backup("one").unwrap();
    let key = world.keys("deleted/").remove(0);
    let text = fs::read_to_string(world.file(&key)).unwrap();
    let open = text.split(",\"checksum\"").next().unwrap();
    let (head, _) = open.split_once("\"deletedAt\":").unwrap();
    let open = format!("{head}\"deletedAt\":99999999999999");
    let digest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(open.as_bytes()));
    fs::write(world.file(&key), format!("{open},\"checksum\":\"{digest}\"}}")).unwrap();
    let report = world.reclaim_now();
    assert!(report.packs == 0 && report.waiting[0].contains("clock"), "{report:?}");
}

#[test]
fn nothing_goes_while_an_entry_or_a_needed_group_cannot_be_read() {
    let world = World::new();
    let one = world.back_up("one").unwrap();
    world.write("sub/b.bin", &noise(2, 300_000));
    world.back_up("two").unwrap();
    world.store.delete_backup("two").unwrap();
    let entry = fs::read(world.file("backups/one.json")).unwrap();
    world.flip("backups/one.json");
    let report = world.reclaim_now();
    assert!(report.packs == 0 && report.waiting[0].contains("backups/one.json"), "{report:?}");
    fs::write(world.file("backups/one.json"), entry).unwrap();
    let group = format!("groups/{}", one.groups[0]);
    let bytes = fs::read(world.file(&group)).unwrap();
    world.flip(&group);
    let report = world.reclaim_now();
    assert!(report.packs == 0 && report.waiting[0].contains(&group), "{report:?}");
    fs::write(world.file(&group), bytes).unwrap();
    assert!(world.reclaim_now().packs > 0);
    world.assert_verifies("one");
}

#[test]
fn a_damaged_entry_can_be_deleted_and_its_packs_are_taken_over() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.flip("backups/one.json");
    world.store.delete_backup("one").unwrap();
    assert_eq!(world.names(), [""; 0]);
    world.reclaim_now();
    assert!(world.keys("deleted/").is_empty());
    let two = world.back_up("two").unwrap();
    assert!(two.bytes_added < 10_000, "{} bytes were added", two.bytes_added);
    world.assert_verifies("two");
    assert_vault_clean(&world, "two");
    world.store.delete_backup("two").unwrap();
    world.reclaim_now();
    assert!(!world.keys("vaults/").iter().any(|key| key.contains("/data/")));
}

#[test]
fn somebodys_own_snapshot_in_a_vault_holds_its_packs() {
    let world = World::new();
    let one = world.back_up("one").unwrap();
    let vault = world.store.open_vault(&one, &passcode(PASSCODE)).unwrap();
    let index = vault.load_index(&|_| true).unwrap();
    let request = repository::BackupRequest::new(vec![world.content()]);
    repository::backup(&vault, &index, &request, &Control::new()).unwrap();
    world.store.delete_backup("one").unwrap();
    let report = world.reclaim_now();
    assert!(report.packs == 0 && report.waiting[0].contains("snapshots/"), "{report:?}");
}

#[test]
fn only_the_server_that_claimed_the_store_reclaims() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.store.delete_backup("one").unwrap();
    let first = world.store.owner().unwrap().unwrap();
    world.store.claim(SERVER).unwrap();
    assert_eq!(world.store.owner().unwrap().unwrap(), first);
    world.store.claim("new/2").unwrap();
    assert_eq!(world.store.owner().unwrap().unwrap().epoch, first.epoch + 1);
    let refused = world.store.reclaim(SERVER, Duration::ZERO, &Control::new()).unwrap_err();
    assert!(refused.kind == ErrorKind::Forbidden && refused.message.contains("new/2"), "{refused}");
    assert!(world.store.reclaim("new/2", Duration::ZERO, &Control::new()).unwrap().packs > 0);
    world.flip("owner.json");
    assert!(world.store.owner().unwrap().is_none());
    world.store.claim(SERVER).unwrap();
    assert!(world.store.owner().unwrap().unwrap().epoch > first.epoch + 1);
}

#[test]
fn two_servers_that_claim_at_once_leave_one_owner() {
    let world = World::new();
    std::thread::scope(|scope| {
        for server in ["a/1", "b/2", "c/3"] {
            let store = &world.store;
            scope.spawn(move || store.claim(server).unwrap());
        }
    });
    let owner = world.store.owner().unwrap().unwrap();
    assert!(["a/1", "b/2", "c/3"].contains(&owner.server.as_str()));
    assert_eq!(owner.epoch, 4);
}

#[test]
fn an_index_file_that_alone_speaks_of_a_needed_pack_stays_with_all_its_packs() {
    let world = World::new();
    world.back_up("one").unwrap();
    let two = world.back_up("two").unwrap();
    let vault = two.vault.clone();
    let put = |file: &str, fill: u8| {
        let bytes = [fill; 50];
        let id = Id(<sha2::Sha256 as sha2::Digest>::digest(bytes).into());
        let key = format!(
            "vaults/{vault}/{}",
            file.replace("ID", &id.to_string()).replace("XX", &id.to_string()[..2])
        );
        world.store.storage().create(&key, &[&bytes]).unwrap();
        (id, key)
    };
    let (dead, dead_key) = put("data/XX/ID", 7);
    let (gone, gone_key) = put("data/XX/ID", 8);
    let (index, index_key) = put("index/ID", 9);
    let (lone, lone_key) = put("index/ID", 10);
    // One of its packs is needed by the living backup, and the backup's own index file is lost.
    let living = match world.store.group(&two.groups[0]).unwrap() {
        crate::store::groups::FoundGroup::Good(group) => group,
        _ => panic!("no group"),
    };
    let needed = living.packs.into_iter().next().unwrap();
    let (own, _) = living.indexes.into_iter().find(|(_, packs)| packs.contains(&needed.0)).unwrap();
    let own = world.file(&format!("vaults/{vault}/index/{own}"));
    let away = world.dir.path().join("own index");
    fs::rename(&own, &away).unwrap();
    let group = Group {
        vault: vault.clone(),
        packs: [needed, (dead, 50), (gone, 50)].into(),
        indexes: [(index, vec![needed.0, dead]), (lone, vec![gone])].into(),
    };
    let id = "cd".repeat(16);
    world.store.create_group(&id, &group).unwrap();
    world.store.create_group(&id, &group).unwrap();
    world.store.forget_for_tests("three", &vault, std::slice::from_ref(&id));
    let report = world.reclaim_now();
    assert!(report.waiting[0].contains("index file"), "{report:?}");
    let keys = world.keys("vaults/");
    assert!(keys.contains(&dead_key) && keys.contains(&index_key));
    assert!(!keys.contains(&gone_key) && !keys.contains(&lone_key));
    fs::rename(&away, &own).unwrap();
    assert_eq!(world.reclaim_now().waiting, [""; 0]);
    let keys = world.keys("vaults/");
    assert!(!keys.contains(&dead_key) && !keys.contains(&index_key));
    world.assert_verifies("two");

    world.store.delete_backup("one").unwrap();
    world.store.delete_backup("two").unwrap();
    assert_eq!(world.reclaim_now().waiting, [""; 0]);
    assert!(!world.keys("vaults/").iter().any(|key| key.contains("/data/") || key.contains("/index/")));
    assert!(world.keys("groups/").is_empty() && world.keys("deleted/").is_empty());
}
