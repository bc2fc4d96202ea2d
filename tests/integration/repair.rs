//! Damaged repositories are made the best of, and stock restic finds nothing to complain about afterwards.

use std::fs;
use std::path::Path;

use strongroom_tests::tree::noise;

use crate::command::{Place, Ran, restic, restics};
use crate::world::keys;

/// A repository with two snapshots of a source with a few directories.
fn with_two_snapshots() -> Place {
    let place = Place::with_repository();
    let source = place.path("source");
    for (first, directory) in [(0, "stays"), (100, "changes")] {
        fs::create_dir_all(source.join(directory)).unwrap();
        for number in 0..5 {
            let length = 20_000 + number as usize;
            fs::write(source.join(directory).join(format!("{number}")), noise(first + number, length))
                .unwrap();
        }
    }
    fs::write(source.join("large"), noise(77, 6 << 20)).unwrap();
    back_up(&place);
    fs::write(source.join("changes/new"), "new\n").unwrap();
    back_up(&place);
    place
}

fn back_up(place: &Place) -> Ran {
    place.repo(["backup", place.path("source").to_str().unwrap()]).expect(0)
}

/// Both programs find the repository whole.
fn is_whole(place: &Place) {
    place.repo(["check", "--read-data"]).expect(0);
    for restic in restics() {
        place.restic(&restic, ["check", "--read-data"]).expect(0);
    }
}

fn remove(place: &Place, key: &str) {
    fs::remove_file(place.repository().join(key)).unwrap();
}

/// Flips a bit of a file of the repository.
fn flip(place: &Place, key: &str, at: usize) {
    let path = place.repository().join(key);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at] ^= 4;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
}

/// The keys of packs that hold blobs of this kind, by restic's word.
fn packs_of(place: &Place, kind: &str) -> Vec<String> {
    let mut packs = Vec::new();
    for index in keys(&place.repository(), "index/") {
        let id = index.rsplit('/').next().unwrap();
        let text = place.restic(&restic(), ["--no-lock", "cat", "index", id]).expect(0).out;
        let text: serde_json::Value = serde_json::from_str(&text).unwrap();
        for pack in text["packs"].as_array().unwrap() {
            if pack["blobs"][0]["type"] == kind {
                let id = pack["id"].as_str().unwrap();
                packs.push(format!("data/{}/{id}", &id[..2]));
            }
        }
    }
    packs
}

fn largest(place: &Place, keys: &[String]) -> String {
    let size = |key: &&String| fs::metadata(place.repository().join(key)).unwrap().len();
    keys.iter().max_by_key(size).unwrap().clone()
}

#[test]
fn a_lost_or_damaged_index_is_rebuilt_from_the_packs_and_everything_is_there_again() {
    let place = with_two_snapshots();
    let indexes = keys(&place.repository(), "index/");
    assert!(indexes.len() >= 2);
    flip(&place, &indexes[0], 40);
    for index in &indexes[1..] {
        remove(&place, index);
    }
    place.repo(["check"]).expect(13);
    place.repo(["repair", "index", "--dry-run"]).expect(0);
    assert_eq!(keys(&place.repository(), "index/").len(), 1, "a dry run changes nothing");
    place.repo(["repair", "index"]).expect(0).expect_text("cannot be read");
    assert!(!keys(&place.repository(), "index/").contains(&indexes[0]));
    is_whole(&place);
    place.repo(["repair", "index"]).expect(0).expect_text("the index was right");
    let told = place.repo(["repair", "index", "--read-all-packs", "--json"]).expect(0).json();
    assert_eq!(told[0]["packs_listed_anew"], keys(&place.repository(), "data/").len());
    is_whole(&place);
}

#[test]
fn packs_that_a_killed_backup_left_are_listed_and_packs_that_are_gone_are_not() {
    let place = with_two_snapshots();
    let gone = largest(&place, &packs_of(&place, "data"));
    remove(&place, &gone);
    place.repo(["check"]).expect(13);
    let told = place.repo(["repair", "index", "--json"]).expect(0).json();
    assert!(gone.ends_with(told[0]["packs_missing"][0].as_str().unwrap()), "{told:?}");
    // The index tells the truth now, and so does the check: chunks are missing, no longer a pack.
    place.repo(["check"]).expect(13).expect_text("in no index");
    // What is missing comes back with a backup that reads everything again.
    place.repo(["backup", "--force", place.path("source").to_str().unwrap()]).expect(0);
    is_whole(&place);
}

#[test]
fn what_is_whole_in_a_damaged_pack_is_saved_and_the_rest_is_taken_out_of_the_snapshots() {
    let place = with_two_snapshots();
    let pack = largest(&place, &packs_of(&place, "data"));
    flip(&place, &pack, 70_000);
    place.repo(["check", "--read-data"]).expect(13).expect_text(&pack);
    let mut repair = place.repo_command(["repair", "packs", &pack, "--json"]);
    let told = crate::command::run(repair.current_dir(place.dir.path())).expect(0).json();
    assert_eq!(told[0]["blobs_lost"].as_array().unwrap().len(), 1, "{told:?}");
    assert!(told[0]["blobs_saved"].as_u64().unwrap() > 0);
    let copy = place.path(&format!("pack-{}", pack.rsplit('/').next().unwrap()));
    assert!(copy.is_file(), "a copy of the damaged pack is kept");
    assert!(!place.repository().join(&pack).exists());

    place.repo(["repair", "snapshots", "--dry-run"]).expect(0).expect_text("would be repaired");
    place.repo(["repair", "snapshots"]).expect(0).expect_text("chunks are lost");
    let snapshots = place.repo(["snapshots", "--json"]).expect(0).json();
    let repaired: Vec<_> =
        snapshots[0].as_array().unwrap().iter().filter(|one| one["tags"][0] == "repaired").collect();
    assert_eq!((snapshots[0].as_array().unwrap().len(), repaired.len()), (4, 2), "{snapshots:?}");
    assert!(repaired.iter().all(|one| one["original"].is_string()));
    place.repo(["repair", "snapshots", "--forget"]).expect(0);
    assert_eq!(place.repo(["snapshots", "--json"]).expect(0).json()[0].as_array().unwrap().len(), 4);
    is_whole(&place);
    everything_but_what_was_lost(&place, 1);
}

/// The newest snapshot restores, and all but `lost` of its files are as in the source.
fn everything_but_what_was_lost(place: &Place, lost: usize) {
    let target = place.path("target");
    let source = place.path("source");
    place.restic(&restic(), ["restore", "latest", "--target", target.to_str().unwrap()]).expect(0);
    let mut differ = Vec::new();
    let mut pending = vec![source.clone()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if fs::read(&path).unwrap() != fs::read(inside(&target, &path)).unwrap_or_default() {
                differ.push(path);
            }
        }
    }
    assert_eq!(differ.len(), lost, "{differ:?}");
}

fn inside(target: &Path, path: &Path) -> std::path::PathBuf {
    target.join(path.strip_prefix("/").unwrap())
}

#[test]
fn a_directory_whose_listing_is_lost_becomes_an_empty_one_and_all_others_stay() {
    let place = with_two_snapshots();
    // The second backup stored the listings that changed; that of `stays` is in the first one's pack alone.
    let mut trees = packs_of(&place, "tree");
    trees.sort_by_key(|key| fs::metadata(place.repository().join(key)).unwrap().modified().unwrap());
    assert!(trees.len() >= 2);
    remove(&place, &trees[0]);
    place.repo(["repair", "index"]).expect(0);
    let ran = place.repo(["repair", "snapshots", "--forget"]).expect(0);
    let ran = ran.expect_text("nothing is left of it").expect_text("its listing is lost");
    assert!(ran.err.contains("/stays"), "{ran}");
    is_whole(&place);
    everything_but_what_was_lost(&place, 5);
}

#[test]
fn a_cut_pack_gives_back_what_is_left_of_it() {
    let place = with_two_snapshots();
    let pack = largest(&place, &packs_of(&place, "data"));
    let path = place.repository().join(&pack);
    let bytes = fs::read(&path).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    // Its header is gone, so what the index knows of it stays.
    place.repo(["repair", "index"]).expect(13).expect_text(&pack);
    let mut repair = place.repo_command(["repair", "packs", &pack, "--json"]);
    let told = crate::command::run(repair.current_dir(place.dir.path())).expect(0).json();
    assert!(told[0]["blobs_saved"].as_u64().unwrap() > 0, "{told:?}");
    place.repo(["repair", "snapshots", "--forget"]).expect(0);
    is_whole(&place);
}

#[test]
fn repairs_of_what_is_not_there_change_nothing() {
    let place = with_two_snapshots();
    let before = keys(&place.repository(), "");
    let nobody = "ab".repeat(32);
    place.repo(["repair", "packs", &nobody]).expect(1).expect_text("there is no pack");
    place.repo(["repair", "packs", "abab"]).expect(2);
    place.repo(["repair", "snapshots", "abababab"]).expect(1);
    place.repo(["repair", "snapshots"]).expect(0).expect_text("0 of 2");
    assert_eq!(keys(&place.repository(), ""), before);
    // Not a single pack: a place that is not mounted looks like this.
    fs::rename(place.repository().join("data"), place.path("elsewhere")).unwrap();
    place.repo(["repair", "index"]).expect(13).expect_text("mounted");
    fs::rename(place.path("elsewhere"), place.repository().join("data")).unwrap();
    is_whole(&place);
}

#[test]
fn a_backup_stores_again_what_lies_in_a_pack_that_is_gone_or_damaged_and_says_so() {
    for how in ["missing", "short", "flipped"] {
        let place = with_two_snapshots();
        let source = place.path("source");
        // That content is damaged is not seen by a backup, which reads listings alone.
        let packs =
            if how == "flipped" { packs_of(&place, "tree") } else { keys(&place.repository(), "data/") };
        for key in &packs {
            let path = place.repository().join(key);
            let bytes = fs::read(&path).unwrap();
            match how {
                "missing" => remove(&place, key),
                "short" => {
                    fs::remove_file(&path).unwrap();
                    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
                }
                _ => (0..bytes.len()).step_by(500).for_each(|at| flip(&place, key, at)),
            }
        }
        fs::write(source.join("changes/again"), how).unwrap();
        place.repo(["backup", source.to_str().unwrap()]).expect(3).expect_text(match how {
            "flipped" => "is damaged, all of it is read anew",
            "short" => "too short",
            _ => "missing",
        });
        let target = place.path("restored");
        place.repo(["restore", "latest", "--verify", "--target", target.to_str().unwrap()]).expect(0);
        for (file, length) in [("stays/3", 20_003), ("changes/0", 20_000), ("large", 6 << 20)] {
            let restored = target.join(source.strip_prefix("/").unwrap()).join(file);
            assert_eq!(fs::read(&restored).unwrap(), fs::read(source.join(file)).unwrap(), "{how}: {file}");
            assert_eq!(fs::metadata(&restored).unwrap().len(), length);
        }
        // The next one has a whole parent; what is gone is named until the index tells the truth.
        let code = if how == "flipped" { 0 } else { 3 };
        place.repo(["backup", source.to_str().unwrap()]).expect(code);
        if how != "flipped" {
            packs
                .iter()
                .filter(|key| place.repository().join(key).exists())
                .for_each(|key| remove(&place, key));
            place.repo(["repair", "index"]).expect(0);
            place.repo(["backup", source.to_str().unwrap()]).expect(0);
        }
        // Until then restic may ask for the copy that is gone, and for no other.
        for restic in restics() {
            place
                .restic(&restic, ["restore", "latest", "--target", &format!("{}-restic", target.display())])
                .expect(0);
        }
    }
}
