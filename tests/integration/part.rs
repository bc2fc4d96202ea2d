//! Parts of work that would be too much at once: reading some packs, repacking some bytes.

use std::fs;

use strongroom_tests::tree::noise;

use crate::command::{Place, restics};
use crate::world::keys;

/// A repository of many small packs, of which half is waste.
fn with_waste() -> Place {
    let place = Place::with_repository();
    fs::create_dir(place.path("source")).unwrap();
    for number in 0..12 {
        let file = place.path("source").join(format!("{}", number % 6));
        fs::write(file, noise(number, 100_000)).unwrap();
        place.repo(["backup", place.path("source").to_str().unwrap()]).expect(0);
    }
    place.repo(["forget", "--keep-last", "1"]).expect(0);
    place
}

#[test]
fn the_parts_of_a_check_together_read_every_pack_once() {
    let place = with_waste();
    let packs = keys(&place.repository(), "data/");
    let read = |subset: &str| -> u64 {
        let told = place.repo(["check", "--json", "--read-data-subset", subset]).expect(0).json();
        told.last().unwrap()["bytes_read"].as_u64().unwrap()
    };
    let all: u64 = packs.iter().map(|key| fs::metadata(place.repository().join(key)).unwrap().len()).sum();
    assert_eq!((1..=4).map(|n| read(&format!("{n}/4"))).sum::<u64>(), all);
    assert_eq!(read("100%"), all);
    assert_eq!(read("100G"), all);
    for some in ["10%", "150k"] {
        assert!((1..all).contains(&read(some)), "{some}");
    }
    // Damage in a part is found by reading that part.
    let path = place.repository().join(&packs[0]);
    let mut bytes = fs::read(&path).unwrap();
    bytes[40] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    let first = u8::from_str_radix(&packs[0][5..7], 16).unwrap();
    let (part, other) = (first % 4 + 1, (first + 1) % 4 + 1);
    place.repo(["check", "--read-data-subset", &format!("{part}/4")]).expect(13).expect_text(&packs[0]);
    place.repo(["check", "--read-data-subset", &format!("{other}/4")]).expect(0);
    for wrong in ["5/4", "0/4", "0%", "much"] {
        place.repo(["check", "--read-data-subset", wrong]).expect(2);
    }
}

#[test]
fn a_prune_keeps_to_its_limits_and_restic_finds_the_rest_whole() {
    let place = with_waste();
    let plan = |limits: &[&str]| {
        let arguments: Vec<&str> =
            ["prune", "--dry-run", "--json"].into_iter().chain(limits.iter().copied()).collect();
        let told = place.repo(&arguments).expect(0).json().pop().unwrap();
        (told["packs_repacked"].as_u64().unwrap(), told["bytes_repacked"].as_u64().unwrap())
    };
    let (packs, bytes) = plan(&["--max-unused", "0", "--repack-small"]);
    assert!(packs > 1, "there is something to repack");
    let (fewer, less) = plan(&["--max-unused", "0", "--repack-small", "--max-repack-size", "250k"]);
    assert!((1..packs).contains(&fewer) && less < bytes && less <= 250 << 10);
    assert_eq!(plan(&["--max-unused", "0", "--repack-small", "--max-repack-size", "0"]), (0, 0));
    let (trees, _) = plan(&["--max-unused", "0", "--repack-small", "--repack-cacheable-only"]);
    assert!(trees < packs);
    for wrong in ["x", "-5%", "101%"] {
        place.repo(["prune", &format!("--max-unused={wrong}")]).expect(2);
    }
    place.repo(["prune", "--max-unused", "0", "--repack-small", "--max-repack-size", "250k"]).expect(0);
    place.repo(["prune", "--max-unused", "0B", "--repack-small"]).expect(0);
    assert_eq!(plan(&["--max-unused", "0", "--repack-small"]).0, 0, "a second one has nothing to do");
    for restic in restics() {
        place.restic(&restic, ["check", "--read-data"]).expect(0);
    }
}
