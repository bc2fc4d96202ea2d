//! One flipped bit anywhere is found and named, and no restore ever writes what is not right.
//!
//! Most damage is done and looked for in this process, by the same calls that the commands make, since hundreds of
//! processes would take minutes; a sample goes through the real binary. The seed is printed; the same places are
//! hit again with `STRONGROOM_TEST_SEED`.

use std::fs;
use std::path::{Path, PathBuf};

use recovery::Cost;
use recovery::store::Store;
use recovery::work::scrub;
use repository::{CheckRequest, Control, ErrorKind, Repository};
use strongroom_tests::tree::Picture;
use tempfile::TempDir;

use crate::command::{PASSCODE, Place, restic, run, strongroom};
use crate::world::{OTHER_PASSCODE, World, directory, is_right, keys, passcode, restore, write_content};

const STORE_FLIPS: usize = 350;
const REPOSITORY_FLIPS: usize = 150;
const STORE_FLIPS_BY_BINARY: usize = 12;
const REPOSITORY_FLIPS_BY_BINARY: usize = 8;

/// Numbers that depend on the seed alone.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let given = std::env::var("STRONGROOM_TEST_SEED").ok();
        let seed = given.map_or_else(rand::random, |text| text.parse().unwrap());
        println!("STRONGROOM_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) % end as u64) as usize
    }
}

/// A place that is hit: a file, a byte in it, a bit of that.
#[derive(Debug)]
struct Hit {
    key: String,
    byte: usize,
    bit: u8,
}

/// So many places, spread over all files alike: a file of a hundred bytes is hit as often as one of a million.
fn hits(root: &Path, keys: &[String], count: usize) -> Vec<Hit> {
    let mut random = Random::new();
    let hit = |number: usize| {
        let key = keys[number % keys.len()].clone();
        let length = fs::metadata(root.join(&key)).unwrap().len() as usize;
        Hit { key, byte: random.below(length), bit: random.below(8) as u8 }
    };
    (0..count).map(hit).collect()
}

/// Replaces a file's content for as long as this lives.
struct Damaged {
    file: PathBuf,
    intact: PathBuf,
}

impl Damaged {
    fn flip(root: &Path, hit: &Hit) -> Self {
        let mut bytes = fs::read(root.join(&hit.key)).unwrap();
        bytes[hit.byte] ^= 1 << hit.bit;
        Self::replace(root, &hit.key, Some(bytes))
    }

    /// `None` takes the file away.
    fn replace(root: &Path, key: &str, bytes: Option<Vec<u8>>) -> Self {
        let file = root.join(key);
        let intact = root.with_extension("intact");
        fs::rename(&file, &intact).unwrap();
        if let Some(bytes) = bytes {
            fs::write(&file, bytes).unwrap();
        }
        Self { file, intact }
    }
}

impl Drop for Damaged {
    fn drop(&mut self) {
        fs::rename(&self.intact, &self.file).unwrap();
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_store_is_named_and_never_restored() {
    let world = World::with_remains();
    assert_eq!(world.verify().unwrap(), [""; 0], "before any damage");
    let keys = keys(&world.root(), "");
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
        assert!(keys.iter().any(|key| key.contains(kind)), "the store has no {kind}");
    }
    let mut restored = 0;
    for hit in hits(&world.root(), &keys, STORE_FLIPS) {
        let _damaged = Damaged::flip(&world.root(), &hit);
        world.damage_is_named(&hit.key).unwrap_or_else(|e| panic!("{hit:?} is not named: {e}"));
        restored += world.no_restore_is_wrong(&format!("{hit:?}"));
    }
    println!("{STORE_FLIPS} flips in {} files, in process; {restored} restores succeeded", keys.len());
    assert_eq!(world.verify().unwrap(), [""; 0], "after all damage was undone");
}

#[test]
fn every_bit_of_the_small_files_of_a_store_counts() {
    // Text has bits that may change without changing what a careless reader makes of it: letters of digits, blanks.
    let world = World::with_remains();
    for key in keys(&world.root(), "").iter().filter(|key| key.ends_with(".json")) {
        let length = fs::metadata(world.root().join(key)).unwrap().len() as usize;
        for byte in (0..length).step_by(3) {
            let hit = Hit { key: key.clone(), byte, bit: 5 };
            let _damaged = Damaged::flip(&world.root(), &hit);
            let store = Store::open(directory(&world.root())).unwrap();
            let found = scrub(&store, &Control::new()).unwrap().findings;
            assert!(found.iter().any(|finding| finding.file == *key), "{hit:?}: {found:?}");
        }
    }
}

#[test]
fn a_file_of_a_store_that_is_lost_cut_or_overwritten_is_named_and_never_restored() {
    let world = World::new();
    let (mut count, mut restored) = (0, 0);
    for key in keys(&world.root(), "") {
        let bytes = fs::read(world.root().join(&key)).unwrap();
        let half = bytes[..bytes.len() / 2].to_vec();
        let longer = [&bytes[..], b"\0"].concat();
        for (how, damage) in [
            ("lost", None),
            ("empty", Some(Vec::new())),
            ("cut", Some(half)),
            ("zeros", Some(vec![0; bytes.len()])),
            ("longer", Some(longer)),
        ] {
            let _damaged = Damaged::replace(&world.root(), &key, damage);
            // Nobody can tell that a catalogue entry was there, nor miss an owner.
            if !(how == "lost" && (key.starts_with("backups/") || key == "owner.json")) {
                world.damage_is_named(&key).unwrap_or_else(|e| panic!("{key}, {how}, is not named: {e}"));
            }
            let now = world.no_restore_is_wrong(&format!("{key}, {how}"));
            let has_a_copy =
                key.ends_with("strongroom.json") || key.contains("/config") || key.contains("/keys/");
            assert!(now == world.backups.len() || !has_a_copy, "{key}, {how}: the second copy is of no use");
            count += 1;
            restored += now;
        }
    }
    println!("{count} files lost, cut or overwritten, in process; {restored} restores succeeded");
}

#[test]
fn a_sample_of_flipped_bits_in_a_store_through_the_binary() {
    let world = World::with_remains();
    let root = world.root();
    let place = Place::new();
    let rescue = |verb: &str, more: &[&str]| {
        run(strongroom(["rescue", "--store", root.to_str().unwrap(), verb]).args(more))
    };
    rescue("verify", &[]).expect(0);
    for hit in hits(&root, &keys(&root, ""), STORE_FLIPS_BY_BINARY) {
        let _damaged = Damaged::flip(&root, &hit);
        rescue("verify", &[]).expect(13).expect_text(&hit.key);
        let target = place.path("target");
        let ran = rescue("restore", &["--backup", "second", "--target", target.to_str().unwrap()]);
        let outcome = if ran.code == 0 { Ok(()) } else { Err(ran.to_string()) };
        if target.exists() {
            is_right(&world.backups[1].expected, &target, &outcome, &format!("{hit:?}"));
            fs::remove_dir_all(&target).unwrap();
        }
    }
}

/// A plain repository with three snapshots.
struct Plain {
    place: Place,
    snapshots: Vec<(repository::Id, Picture)>,
}

impl Plain {
    fn new() -> Self {
        let place = Place::new();
        let root = place.repository();
        fs::create_dir(&root).unwrap();
        let made = Repository::init(directory(&root), &passcode(PASSCODE), Cost::FAST).unwrap();
        let content = place.path("content");
        let mut snapshots = Vec::new();
        for generation in 0..3 {
            write_content(&content, generation);
            let index = made.load_index(&|_| true).unwrap();
            let request = repository::BackupRequest::new(vec![content.clone()]);
            let outcome = repository::backup(&made, &index, &request, &Control::new()).unwrap();
            snapshots.push((outcome.snapshot.unwrap(), Picture::take(&content)));
        }
        Self { place, snapshots }
    }

    fn root(&self) -> PathBuf {
        self.place.repository()
    }

    /// What `repo check --read-data` does.
    fn damage_is_named(&self, key: &str) -> Result<(), String> {
        let found = Repository::open(directory(&self.root()), &passcode(PASSCODE))
            .and_then(|opened| repository::check(&opened, CheckRequest { read_data: true }, &Control::new()));
        match found {
            Ok(report) if report.findings.iter().any(|finding| finding.file == key) => Ok(()),
            Ok(report) => Err(format!("found only {:?}", report.findings)),
            Err(e) if e.kind == ErrorKind::Damaged && e.message.contains(key) => Ok(()),
            Err(e) => Err(format!("{:?}: {e}", e.kind)),
        }
    }

    fn no_restore_is_wrong(&self, what: &str) -> usize {
        let restored = self.snapshots.iter().filter(|(id, expected)| {
            let target = TempDir::with_prefix_in("target-", self.place.dir.path()).unwrap();
            let opened = Repository::open(directory(&self.root()), &passcode(PASSCODE));
            let outcome =
                opened.map_err(|e| e.to_string()).and_then(|opened| restore(&opened, *id, target.path()));
            is_right(expected, target.path(), &outcome, what)
        });
        restored.count()
    }
}

#[test]
fn a_flipped_bit_anywhere_in_a_repository_is_named_and_never_restored() {
    let plain = Plain::new();
    let keys = keys(&plain.root(), "");
    for kind in ["config", "keys/", "index/", "snapshots/", "data/"] {
        assert!(keys.iter().any(|key| key.starts_with(kind)), "the repository has no {kind}");
    }
    let mut restored = 0;
    for hit in hits(&plain.root(), &keys, REPOSITORY_FLIPS) {
        let _damaged = Damaged::flip(&plain.root(), &hit);
        plain.damage_is_named(&hit.key).unwrap_or_else(|e| panic!("{hit:?} is not named: {e}"));
        restored += plain.no_restore_is_wrong(&format!("{hit:?}"));
    }
    println!("{REPOSITORY_FLIPS} flips in {} files, in process; {restored} restores succeeded", keys.len());
}

#[test]
fn a_file_of_a_repository_that_is_lost_cut_or_overwritten_is_named_and_never_restored() {
    let plain = Plain::new();
    for key in keys(&plain.root(), "") {
        let bytes = fs::read(plain.root().join(&key)).unwrap();
        for (how, damage) in [
            ("lost", None),
            ("empty", Some(Vec::new())),
            ("cut", Some(bytes[..bytes.len() / 2].to_vec())),
            ("zeros", Some(vec![0; bytes.len()])),
        ] {
            let _damaged = Damaged::replace(&plain.root(), &key, damage);
            // What is gone can be named only by what needs it: packs, and instead of an index file what it listed.
            // A snapshot leaves no trace, and without config or key there is no repository to be checked.
            match plain.damage_is_named(&key) {
                Err(found) if how == "lost" && key.starts_with("index/") => {
                    assert!(found.contains("no index"), "{found}")
                }
                Err(found) if how != "lost" || key.starts_with("data/") => {
                    panic!("{key}, {how}, is not named: {found}")
                }
                _ => {}
            }
            plain.no_restore_is_wrong(&format!("{key}, {how}"));
        }
    }
}

#[test]
fn a_sample_of_flipped_bits_in_a_repository_through_the_binary() {
    let plain = Plain::new();
    for hit in hits(&plain.root(), &keys(&plain.root(), ""), REPOSITORY_FLIPS_BY_BINARY) {
        let _damaged = Damaged::flip(&plain.root(), &hit);
        plain.place.repo(["check", "--read-data"]).expect(13).expect_text(&hit.key);
        let target = plain.place.path("target");
        let (id, expected) = &plain.snapshots[1];
        let what = format!("{id}:{}", plain.place.path("content").display());
        let ran = plain.place.repo(["restore", &what, "--verify", "--target", target.to_str().unwrap()]);
        let outcome = if ran.code == 0 { Ok(()) } else { Err(ran.to_string()) };
        if target.exists() {
            is_right(expected, &target, &outcome, &format!("{hit:?}"));
            fs::remove_dir_all(&target).unwrap();
        }
    }
}

#[test]
fn a_damaged_key_beside_a_whole_one_is_named_and_does_not_shut_anybody_out() {
    let plain = Plain::new();
    let second = plain.place.path("second passcode");
    fs::write(&second, OTHER_PASSCODE).unwrap();
    let first = keys(&plain.root(), "keys/").remove(0);
    plain.place.restic(&restic(), ["key", "add", "--new-password-file", second.to_str().unwrap()]).expect(0);
    let added = keys(&plain.root(), "keys/").into_iter().find(|key| *key != first).unwrap();
    let _damaged = Damaged::flip(&plain.root(), &Hit { key: added.clone(), byte: 50, bit: 3 });
    plain.place.repo(["check"]).expect(13).expect_text(&added);
    plain.place.repo(["snapshots"]).expect(0);
    // Whoever has only the damaged key is told that it is damaged, not that the passcode is wrong.
    let mut command = plain.place.repo_command(["snapshots"]);
    run(command.env("STRONGROOM_PASSCODE", OTHER_PASSCODE)).expect(13).expect_text(&added);
}

#[test]
fn a_lost_index_is_rebuilt_by_restic_and_everything_is_there_again() {
    let plain = Plain::new();
    for index in keys(&plain.root(), "index/") {
        fs::remove_file(plain.root().join(index)).unwrap();
    }
    plain.place.repo(["check"]).expect(13);
    plain.place.restic(&restic(), ["rebuild-index"]).expect(0);
    plain.place.repo(["check", "--read-data"]).expect(0);
    assert_eq!(plain.no_restore_is_wrong("after restic rebuilt the index"), plain.snapshots.len());
}
