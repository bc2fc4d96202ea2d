//! One flipped bit anywhere is found and named; lost small files are made up for by their second copies.

use std::fs;

use repository::{CheckRequest, Control, Cost};

use super::support::*;
use crate::store::{RunningRecord, Store};
use crate::work::verify_backup;

#[test]
fn one_flipped_bit_in_any_file_of_a_store_is_named_by_the_scrub() {
    let world = World::new();
    world.back_up("gone").unwrap();
    world.write("sub/b.bin", &noise(2, 300_000));
    let one = world.back_up("one").unwrap();
    world.store.delete_backup("gone").unwrap();
    let record = RunningRecord {
        job_id: "other".to_owned(),
        run: "ab".repeat(16),
        server: "elsewhere/2".to_owned(),
        backup: "x".to_owned(),
        vault: one.vault.clone(),
        started_at: 1,
    };
    world.store.put_running(&record, None).unwrap();
    world.store.revoke(&"ef".repeat(16), "x").unwrap();
    assert_eq!(world.scrub().findings, []);
    let keys = world.keys("");
    let kinds = [
        "strongroom.json",
        "owner.json",
        "backups/",
        "groups/",
        "deleted/",
        "running/",
        "revoked/",
        "copies/strongroom.json",
        "copies/vaults/",
        "/keys/",
        "/config",
        "/data/",
        "/index/",
        "/snapshots/",
    ];
    for kind in kinds {
        assert!(keys.iter().any(|key| key.contains(kind)), "no file of kind {kind}");
    }
    for key in &keys {
        let intact = fs::read(world.file(key)).unwrap();
        world.flip(key);
        let found: Vec<String> = world.scrub().findings.into_iter().map(|f| f.file).collect();
        assert_eq!(found, [key.as_str()]);
        fs::write(world.file(key), intact).unwrap();
    }
    println!("{} files", keys.len());
}

#[test]
fn one_flipped_bit_in_any_file_that_a_backup_needs_is_named_by_its_verification() {
    let world = World::new();
    world.back_up("one").unwrap();
    for key in world.keys("").iter().filter(|key| *key != "owner.json") {
        let intact = fs::read(world.file(key)).unwrap();
        world.flip(key);
        for passcode in [None, Some(passcode(PASSCODE))] {
            let report =
                verify_backup(&world.store, "one", passcode.as_ref(), true, &Control::new()).unwrap();
            assert!(report.findings.iter().any(|f| f.file == *key), "{key}: {:?}", report.findings);
        }
        fs::write(world.file(key), intact).unwrap();
    }
}

#[test]
fn every_bit_of_an_entry_is_guarded() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.store.update_backup("one", Some(5), Some("ü")).unwrap();
    let intact = fs::read(world.file("backups/one.json")).unwrap();
    for position in 0..intact.len() {
        let mut bytes = intact.clone();
        bytes[position] ^= 1 << (position % 8);
        fs::write(world.file("backups/one.json"), bytes).unwrap();
        let (entries, findings) = world.store.backups().unwrap();
        assert!(entries.is_empty() && findings.len() == 1, "byte {position}");
    }
}

#[test]
fn missing_files_of_a_backup_are_named() {
    let world = World::new();
    world.back_up("one").unwrap();
    let kinds =
        ["groups/", "/data/", "/index/", "/snapshots/", "strongroom.json", "/config", "/keys/", "copies/"];
    for key in world.keys("").iter().filter(|key| kinds.iter().any(|kind| key.contains(kind))) {
        let intact = fs::read(world.file(key)).unwrap();
        fs::remove_file(world.file(key)).unwrap();
        for report in
            [world.scrub(), verify_backup(&world.store, "one", None, false, &Control::new()).unwrap()]
        {
            assert!(report.findings.iter().any(|f| f.file == *key), "{key}: {:?}", report.findings);
        }
        fs::write(world.file(key), intact).unwrap();
    }
}

#[test]
fn each_small_file_may_be_lost_or_damaged_and_the_backup_is_restored_all_the_same() {
    let world = World::new();
    world.back_up("one").unwrap();
    let small: Vec<String> = world
        .keys("")
        .into_iter()
        .filter(|key| key.contains("/keys/") || key.ends_with("config") || key.ends_with("strongroom.json"))
        .collect();
    assert_eq!(small.len(), 6);
    for key in &small {
        let intact = fs::read(world.file(key)).unwrap();
        for damage in [None, Some(vec![]), Some(vec![0; intact.len()]), Some(intact[..10].to_vec())] {
            match &damage {
                None => fs::remove_file(world.file(key)).unwrap(),
                Some(bytes) => fs::write(world.file(key), bytes).unwrap(),
            }
            let store = Store::open(world.store.storage().clone()).unwrap();
            restore(&store, &world.restore_task("one")).unwrap();
            fs::write(world.file(key), &intact).unwrap();
        }
        // The next backup puts it right.
        world.flip(key);
        let (store, _) = Store::create_or_adopt(world.store.storage().clone(), "x", Cost::FAST).unwrap();
        let name = format!("after {}", key.replace('/', "-"));
        back_up(&store, &world.task(&name)).unwrap();
        assert_eq!(fs::read(world.file(key)).unwrap(), intact, "{key}");
        world.assert_verifies(&name);
    }
}

#[test]
fn a_key_that_was_removed_on_purpose_is_not_brought_back() {
    let world = World::new();
    let one = world.back_up("one").unwrap();
    let other = format!("{:x}", 0);
    let bytes = format!("another key {other}");
    let name = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(bytes.as_bytes()));
    let copy = format!("copies/vaults/{}/keys/{name}", one.vault);
    world.store.storage().create(&copy, &[bytes.as_bytes()]).unwrap();
    world.back_up("two").unwrap();
    assert!(!world.keys("vaults/").iter().any(|key| key.contains(&name)));
}

#[test]
fn a_vault_that_lost_its_config_for_good_is_never_begun_anew() {
    let world = World::new();
    let one = world.back_up("one").unwrap();
    fs::remove_file(world.file(&format!("vaults/{}/config", one.vault))).unwrap();
    fs::remove_file(world.file(&format!("copies/vaults/{}/config", one.vault))).unwrap();
    let error = world.back_up("two").unwrap_err();
    assert!(error.kind == crate::ErrorKind::Damaged && error.message.contains("config"), "{error}");
    assert!(!world.keys("vaults/").iter().any(|key| key.ends_with("config")));
}

#[test]
fn a_lost_pack_or_index_file_is_healed_by_the_next_backup_of_the_same_data() {
    for (part, damage) in [("/data/", true), ("/data/", false), ("/index/", true), ("/index/", false)] {
        let world = World::new();
        let before = tree(&world.content());
        world.back_up("one").unwrap();
        for key in world.keys("vaults/").iter().filter(|key| key.contains(part)) {
            if damage {
                // Cut short: found by size for a pack, by its name for an index file.
                let bytes = fs::read(world.file(key)).unwrap();
                fs::write(world.file(key), &bytes[..bytes.len() / 2]).unwrap();
            } else {
                fs::remove_file(world.file(key)).unwrap();
            }
        }
        assert!(!world.verify("one").findings.is_empty());
        world.back_up("two").unwrap();
        assert_eq!(
            world.verify("two").findings.iter().filter(|f| f.file.contains("/data/")).count(),
            0,
            "{part} {damage}"
        );
        for name in ["one", "two"] {
            world.write("a.txt", b"spoiled");
            world.restore(name).unwrap();
            assert_eq!(tree(&world.content()), before, "{part} {damage} {name}");
        }
    }
}

#[test]
fn an_unreadable_file_among_the_records_is_named_and_does_not_stop_the_others() {
    let world = World::new();
    world.back_up("one").unwrap();
    for bytes in [&b""[..], &[0; 100], b"{}", b"{\"entry\":{}}"] {
        fs::write(world.file("backups/two.json"), bytes).unwrap();
        let (entries, findings) = world.store.backups().unwrap();
        assert_eq!((entries.len(), findings.len()), (1, 1));
        assert_eq!(findings[0].file, "backups/two.json");
    }
    let report = repository::check(
        &world.store.open_vault(&world.store.backup("one").unwrap().unwrap(), &passcode(PASSCODE)).unwrap(),
        CheckRequest { read_data: true },
        &Control::new(),
    )
    .unwrap();
    assert_eq!(report.findings, []);
}

#[test]
fn a_backup_whose_entry_is_lost_is_noticed_and_not_tidied_away() {
    let world = World::new();
    world.back_up("one").unwrap();
    world.write("c.bin", &noise(3, 50_000));
    let two = world.back_up("two").unwrap();
    let entry = std::fs::read(world.file("backups/two.json")).unwrap();
    std::fs::remove_file(world.file("backups/two.json")).unwrap();
    let lost = format!("groups/{}", two.run);
    let finds_it = || world.scrub().findings.iter().any(|finding| finding.file == lost);
    assert!(finds_it());
    world.reclaim_now();
    world.back_up("three").unwrap();
    world.reclaim_now();
    assert!(finds_it(), "what told of it was tidied away");
    // Brought back from elsewhere, it is whole.
    std::fs::write(world.file("backups/two.json"), entry).unwrap();
    world.assert_verifies("two");
    assert_eq!(world.scrub().findings, []);
    // Given up with restic, nothing tells of it any more.
    std::fs::remove_file(world.file("backups/two.json")).unwrap();
    for snapshot in two.snapshots() {
        std::fs::remove_file(world.file(&format!("vaults/{}/snapshots/{snapshot}", two.vault))).unwrap();
    }
    world.reclaim_now();
    assert_eq!(world.scrub().findings, []);
    world.assert_verifies("three");
}
