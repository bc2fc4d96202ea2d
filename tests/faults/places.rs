//! Places that fail: a store that is gone, one that two servers share, disks that are full, a clock that jumps.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use strongroom_tests::client::job_id;
use strongroom_tests::server::{Options, Site, wait_for};

use crate::content::{Content, SMALL, Size, seed};
use crate::gate::Gate;
use crate::kill::clock;
use crate::vault::{self, Traces};

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// A number anywhere in a small file of the store.
fn number(value: &Value, key: &str) -> Option<u64> {
    match value {
        Value::Object(object) => object
            .get(key)
            .and_then(Value::as_u64)
            .or_else(|| object.values().find_map(|part| number(part, key))),
        _ => None,
    }
}

#[test]
fn a_store_that_vanishes_is_unreachable_and_works_again_when_it_is_back() {
    let gate = Gate::new();
    let site = Site::new(Options { component: gate.hook("before_backup"), ..Options::default() });
    let mut content = Content::new(&site.content(), SMALL, seed("vanishing store"));
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    client.back_up("b");
    let (here, gone) = (site.store(), site.root().join("gone"));

    fs::rename(&here, &gone).unwrap();
    for look in ["stores/s1", "stores/s1/backups", "stores/s1/backups/b", "backuprestore/backups"] {
        client.dr_get(look).refused(503, "STORE_UNREACHABLE");
    }
    client.create("c").refused(503, "STORE_UNREACHABLE");
    client.restore("b").refused(503, "STORE_UNREACHABLE");
    client.delete("b").refused(503, "STORE_UNREACHABLE");
    let validation = client.dr_post("stores/s1/validate", &[]).ok();
    assert_eq!(validation["isReady"], false, "{validation}");
    assert_eq!(client.dr_get("stores").ok()["backupStores"][0]["name"], "s1");
    assert!(!here.exists(), "nobody may make an empty store where the disk is missing");

    // Another, empty directory at the same place is not the store either.
    fs::create_dir(&here).unwrap();
    client.dr_get("stores/s1/backups").refused(503, "STORE_UNREACHABLE");
    client.create("c").refused(503, "STORE_UNREACHABLE");
    fs::remove_dir(&here).unwrap();
    fs::rename(&gone, &here).unwrap();
    assert_eq!(client.backups(), ["b"]);
    assert_eq!(client.dr_post("stores/s1/validate", &[]).ok()["isReady"], true);

    // Gone in the middle of a backup.
    content.change();
    gate.close();
    let job = job_id(&client.create("c").ok()).to_owned();
    gate.reached();
    fs::rename(&here, &gone).unwrap();
    gate.open();
    let ended = client.ended(&job);
    assert_eq!(ended["status"], "FAILED", "{ended}");
    eprintln!("store gone during a backup: {}", ended["messages"]);
    fs::rename(&gone, &here).unwrap();
    assert_eq!(client.backups(), ["b"]);
    client.back_up("c");
    // What could not be tidied up while the store was gone goes with the next deletion, or within the hour.
    client.delete("b").ok();
    wait_for("the running record to go", || vault::names(&here.join("running")).is_empty().then_some(()));
    wait_for("the space to be freed", || (Traces::of(&here).deleted == 0).then_some(()));
    assert_eq!(client.backups(), ["c"]);
    vault::nothing_half_made(&site);
    vault::verifies(&here);
    assert!(server.is_alive());
}

#[test]
fn two_servers_on_one_store_see_each_other_and_one_of_them_deletes() {
    let shared = tempfile::tempdir().unwrap();
    let gates = [Gate::new(), Gate::new()];
    let sites = [0, 1].map(|n: usize| {
        let component = gates[n].hook("after_backup");
        Site::new(Options { component, stores: Some(shared.path().to_owned()), ..Options::default() })
    });
    let contents = [0, 1].map(|n: usize| Content::new(&sites[n].content(), SMALL, 1)); // the same on both
    let servers = [sites[0].start(), sites[1].start()];
    let clients = [servers[0].client(), servers[1].client()];
    let [a, b] = &clients;
    let store = sites[0].store();
    let epoch = || number(&json(&store.join("owner.json")), "epoch").unwrap();

    a.register(&sites[0]);
    let first = epoch();
    a.back_up("of a");
    b.register(&sites[1]);
    assert!(epoch() > first, "the second registration took the right to delete over");
    assert_eq!(b.backups(), ["of a"], "adopted with its backups");
    let added = b.back_up("of b")["result"]["bytesAdded"].as_u64().unwrap();
    assert!(
        added < 1 << 20,
        "the same data under the same passcode is stored once, but {added} bytes were added"
    );
    assert_eq!(a.backups(), ["of a", "of b"]);

    // Both at once, under two names and under one.
    gates.iter().for_each(Gate::close);
    let jobs = [0, 1].map(|n: usize| job_id(&clients[n].create(&format!("both {n}")).ok()).to_owned());
    gates.iter().for_each(Gate::reached);
    gates.iter().for_each(Gate::open);
    for n in [0, 1] {
        assert_eq!(clients[n].ended(&jobs[n])["status"], "COMPLETED");
    }
    gates.iter().for_each(Gate::close);
    let jobs = [0, 1].map(|n: usize| job_id(&clients[n].create("same").ok()).to_owned());
    gates.iter().for_each(Gate::reached);
    gates.iter().for_each(Gate::open);
    let mut statuses =
        [0, 1].map(|n: usize| clients[n].ended(&jobs[n])["status"].as_str().unwrap().to_owned());
    statuses.sort();
    assert_eq!(statuses, ["COMPLETED", "FAILED"], "one name, one backup");
    vault::verifies(&store);

    // A is no longer the one who may free space.
    a.delete("both 0").ok();
    wait_for("A to learn that it may not delete", || {
        sites[0].log().contains("the right to delete").then_some(())
    });
    assert_eq!(b.backups(), ["both 1", "of a", "of b", "same"]);
    assert_eq!(Traces::of(&store).deleted, 1);

    // B may, but not while A writes into the vault.
    gates[0].close();
    let job = job_id(&a.create("slow").ok()).to_owned();
    gates[0].reached();
    b.delete("of b").ok();
    b.delete("both 1").ok();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(Traces::of(&store).deleted, 3, "nothing is freed while a backup runs");
    gates[0].open();
    assert_eq!(a.ended(&job)["status"], "COMPLETED");
    b.delete("of a").ok();
    wait_for("B to free the space of all", || (Traces::of(&store).deleted == 0).then_some(()));
    assert_eq!(a.backups(), ["same", "slow"]);
    vault::verifies(&store);
    vault::restic_agrees(&store);
    let tree = contents[0].tree();
    fs::remove_file(sites[0].content().join("large.bin")).unwrap();
    a.completed(&a.restore("slow").ok());
    assert!(contents[0].tree() == tree);
}

#[test]
fn a_clock_that_jumps_does_not_cost_the_newest_backup() {
    const DAY: u64 = 86_400;
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), SMALL, seed("clock"));
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    for name in ["old", "middle", "newest"] {
        content.change();
        let retention = clock::ms_from_now(Duration::from_secs(30 * DAY)).to_string();
        let fields =
            [("name", name), ("passcode", strongroom_tests::server::PASSCODE), ("retentionDate", &retention)];
        client.completed(&client.dr_post("stores/s1/backups/create", &fields).ok());
    }
    let tree = content.tree();
    server.stop();

    // Asleep for 400 days: what has expired goes, the newest stays.
    let mut server = site.start_as(&clock::just_before_an_hour_after(Duration::from_secs(4), 400 * DAY));
    client.get("admin").unwrap().refused(498, "TOKEN_INVALID");
    let later = server.client();
    wait_for("the cleaner", || (later.backups() == ["newest"]).then_some(()));
    assert_eq!(later.backups(), ["newest"]);
    later.back_up("of the future");
    server.stop();

    // Right again: the clock went back by 400 days.
    let mut server = site.start();
    let now = server.client();
    assert_eq!(now.backups(), ["newest", "of the future"]);
    now.back_up("now");
    content.change();
    now.completed(&now.restore("newest").ok());
    assert!(content.tree() == tree);
    vault::verifies(&site.store());
    server.stop();

    // 400 days in the past, over a full hour.
    let past = clock::shifted(clock::just_before_an_hour_in_the_past(Duration::from_secs(4), 400 * DAY));
    let mut server = site.start_as(&past);
    let earlier = server.client();
    earlier.back_up("of the past");
    wait_for("the cleaner", || (site.log().matches("retention cleaner ran").count() >= 2).then_some(()));
    assert_eq!(earlier.backups(), ["newest", "now", "of the future", "of the past"]);
    server.stop();
    let server = site.start();
    assert_eq!(server.client().backups().len(), 4);
    vault::verifies(&site.store());
    vault::restic_agrees(&site.store());
}

#[test]
fn a_jump_of_the_clock_of_a_running_server_deletes_nothing_at_once() {
    const DAY: u64 = 86_400;
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), SMALL, seed("jump"));
    let mut server = site.start();
    server.client().register(&site);
    server.stop();
    let (file, mut launch) = (site.root().join("clock"), clock::shifted(0));
    launch.environment.retain(|(name, _)| name != "FAKETIME");
    launch.environment.push(("FAKETIME_TIMESTAMP_FILE".to_owned(), file.display().to_string()));
    launch.environment.push(("FAKETIME_NO_CACHE".to_owned(), "1".to_owned()));
    let ahead = clock::seconds_to_an_hour_after(Duration::from_secs(12), 3600);
    fs::write(&file, format!("{ahead:+}")).unwrap();
    let server = site.start_as(&launch);
    let client = server.client();
    for name in ["one", "two"] {
        content.change();
        let retention = clock::ms_from_now(Duration::from_secs(30 * DAY)).to_string();
        let fields =
            [("name", name), ("passcode", strongroom_tests::server::PASSCODE), ("retentionDate", &retention)];
        client.completed(&client.dr_post("stores/s1/backups/create", &fields).ok());
    }
    fs::write(&file, format!("{:+}", ahead + i64::try_from(400 * DAY).unwrap())).unwrap();
    let after = server.client();
    wait_for("the cleaner to see the jump", || site.log().contains("the clock jumped by").then_some(()));
    assert_eq!(after.backups(), ["one", "two"]);
    // A job that begins now is not taken for one that was abandoned 400 days ago.
    after.back_up("three");
    vault::verifies(&site.store());
}

/// A small file system of its own, unmounted in the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: a full disk needs the right to mount");
            return None;
        }
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(mounted.success());
        Some(Self(at.to_owned()))
    }

    /// Leaves no byte free.
    fn fill(&self) {
        let mut filler = fs::File::options().create(true).append(true).open(self.filler()).unwrap();
        for size in [1 << 16, 4096, 256, 1] {
            while std::io::Write::write_all(&mut filler, &vec![b'x'; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(Command::new("mount").args(["-o", &options]).arg(&self.0).status().unwrap().success());
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_server_whose_state_has_no_room_says_so_and_works_again_with_room() {
    let place = tempfile::tempdir().unwrap();
    let data = place.path().join("data");
    let Some(disk) = SmallDisk::mount(&data, "4m") else { return };
    let gate = Gate::new();
    let site = Site::new(Options {
        component: gate.hook("before_backup"),
        data_directory: Some(data),
        ..Options::default()
    });
    let mut content = Content::new(&site.content(), SMALL, seed("full state"));
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    client.back_up("b");
    let before = client.jobs().len();

    disk.fill();
    // Small rows may still find a place in a page that is there; a few requests use that up.
    let refused = wait_for("the full disk to be felt", || {
        let reply = client.create(&format!("c{}", client.jobs().len()));
        if reply.code() == 0 {
            client.ended(job_id(&reply.json));
            return None;
        }
        Some(reply)
    });
    let refused = refused.refused(507, "NO_SPACE");
    eprintln!("state full: {}", refused.text);
    assert!(client.backups().contains(&"b".to_owned()), "reading goes on");
    let accepted = client.jobs().len() - before;
    assert!(server.is_alive());
    disk.make_room();
    client.back_up("d");

    // Full while a job runs: its end is written once there is room.
    content.change();
    gate.close();
    let job = job_id(&client.create("e").ok()).to_owned();
    gate.reached();
    disk.fill();
    gate.open();
    wait_for("the backup to be in the catalogue", || {
        site.store().join("backups/e.json").exists().then_some(())
    });
    client.get("admin").unwrap().ok();
    disk.make_room();
    assert_eq!(client.ended(&job)["status"], "COMPLETED");
    assert_eq!(client.backups().len(), 3 + accepted);
    vault::nothing_half_made(&site);
    vault::verifies(&site.store());
    assert!(server.is_alive());
    drop(server);
    drop(site);
    drop(disk);
}

#[test]
fn a_backup_into_a_full_store_fails_and_harms_no_earlier_one() {
    let place = tempfile::tempdir().unwrap();
    let Some(disk) = SmallDisk::mount(&place.path().join("stores"), "16m") else { return };
    let site = Site::new(Options { stores: Some(disk.0.clone()), ..Options::default() });
    let mut content = Content::new(&site.content(), Size { files: 40, large: 6 << 20 }, seed("full store"));
    let mut server = site.start();
    let client = server.client();
    client.register(&site);
    client.back_up("b");
    let tree = content.tree();
    fs::write(site.content().join("more.bin"), noise(14 << 20)).unwrap();
    let ended = client.ended(job_id(&client.create("c").ok()));
    assert_eq!(ended["status"], "FAILED", "{ended}");
    eprintln!("store full: {}", ended["messages"]);
    assert!(ended["messages"].to_string().to_lowercase().contains("space"), "{ended}");
    assert_eq!(client.backups(), ["b"]);
    vault::nothing_half_made(&site);
    vault::verifies(&site.store());

    // Even to the last byte: nothing more can be written, and the backup that is there can still be restored.
    disk.fill();
    let reply = client.create("c");
    if reply.code() == 0 {
        assert_eq!(client.ended(job_id(&reply.json))["status"], "FAILED");
    } else {
        reply.refused(507, "NO_SPACE");
    }
    client.completed(&client.restore("b").ok());
    assert!(content.tree() == tree, "{}", content.tree().differences(&tree));
    disk.make_room();
    disk.grow("40m");
    assert!(server.is_alive());
    content.change();
    client.back_up("d");
    vault::nothing_half_made(&site);
    vault::verifies(&site.store());
    vault::restic_agrees(&site.store());
    drop(server);
    drop(site);
    drop(disk);
}

fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    rand::fill(&mut bytes[..]);
    bytes
}
