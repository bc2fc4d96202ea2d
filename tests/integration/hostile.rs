//! Repositories by somebody who has the passcode and means ill: every verb ends with the code for damage, in little
//! time and memory, and nothing is written outside of the target.

use std::fs;

use repository::Id;
use serde_json::{Value, json};

use crate::command::{Place, Ran, restic};
use crate::forge::{Forge, ForgedBlob};
use crate::world::keys;

/// A repository whose one snapshot has this root.
fn with_root(root: Id, forge_blobs: impl FnOnce(&Forge<'_>)) -> Place {
    let place = Place::with_repository();
    let forge = Forge::new(&place);
    forge_blobs(&forge);
    forge.snapshot(&json!({
        "time": "2026-01-01T00:00:00Z", "tree": root, "paths": ["/p"], "hostname": "h",
    }));
    place
}

fn node(name: &str, kind: &str, more: &Value) -> Value {
    let time = "2026-01-01T00:00:00Z";
    let mut node = json!({
        "name": name, "type": kind, "mode": 420, "mtime": time, "atime": time, "ctime": time, "uid": 0, "gid": 0,
        "content": null,
    });
    for (key, value) in more.as_object().unwrap() {
        node[key] = value.clone();
    }
    node
}

fn tree(nodes: &[Value]) -> ForgedBlob {
    ForgedBlob::tree(&format!("{}\n", json!({ "nodes": nodes })))
}

/// Every verb that walks the trees names the damage; restic's `repair snapshots` may still help.
fn everybody_refuses(place: &Place) {
    let target = place.path("target");
    let target = target.to_str().unwrap();
    let verbs: &[&[&str]] = &[
        &["check"],
        &["ls", "latest"],
        &["find", "*"],
        &["restore", "latest", "--target", target],
        &["dump", "latest", "/", "--target", "/dev/null"],
        &["stats"],
        &["stats", "--mode", "raw-data"],
        &["check", "--read-data"],
    ];
    let before = keys(&place.repository(), "");
    for verb in verbs {
        place.repo(*verb).expect(13);
    }
    assert_eq!(keys(&place.repository(), ""), before, "nothing was removed");
}

#[test]
fn a_name_that_leads_out_of_its_directory_is_damage_and_nothing_is_written_there() {
    for name in ["..", ".", "", "a/b", "../outside", "/etc/passwd", "nul\\x00"] {
        let content = Id::of(b"content");
        let root = tree(&[node(name, "file", &json!({"content": [content], "size": 7}))]);
        let place = with_root(root.id, |forge| {
            let data = ForgedBlob { kind: "data", id: content, stored: b"content".to_vec(), claims: None };
            forge.pack(&[data]);
            forge.pack(&[root]);
        });
        everybody_refuses(&place);
        assert!(!place.path("outside").exists());
        let target = place.path("target");
        assert!(!target.exists() || keys(&target, "").is_empty(), "{name}: something was restored");
    }
}

#[test]
fn a_tree_that_contains_itself_is_damage_and_nobody_walks_for_ever() {
    // No tree can name its own hash, so it is one that is stored under another's name.
    let id = Id::of(b"a tree that contains itself");
    let mut root = tree(&[node("again", "dir", &json!({"subtree": id}))]);
    root.id = id;
    let place = with_root(id, |forge| drop(forge.pack(&[root])));
    everybody_refuses(&place);
    place.repo(["prune"]).expect(13);
    place.repo(["repair", "snapshots", "--forget"]).expect(0).expect_text("nothing is left of it");
    place.repo(["prune"]).expect(0);
    place.restic(&restic(), ["check", "--read-data"]).expect(0);
}

/// A file of one chunk, which is stored like this.
fn with_chunk(chunk: ForgedBlob) -> Place {
    let root = tree(&[node("file", "file", &json!({"content": [chunk.id], "size": 1000}))]);
    with_root(root.id, |forge| {
        forge.pack(&[chunk]);
        forge.pack(&[root]);
    })
}

fn nobody_restores_it(place: &Place) -> Ran {
    let target = place.path("target");
    place.repo(["restore", "latest", "--target", target.to_str().unwrap()]).expect(13);
    assert!(!target.join("file").exists(), "a damaged file is not left behind");
    place.repo(["dump", "latest", "/file", "--target", "/dev/null"]).expect(13);
    place.repo(["check", "--read-data"]).expect(13)
}

#[test]
fn a_blob_that_claims_four_gigabytes_is_refused_before_any_is_spent() {
    for claims in [u32::MAX, 1 << 31, (1 << 30) + 1] {
        let stored = rle_frame(16);
        let place =
            with_chunk(ForgedBlob { kind: "data", id: Id::of(b"4 GB"), stored, claims: Some(claims) });
        nobody_restores_it(&place).expect_text("impossible");
    }
}

#[test]
fn a_blob_that_unpacks_to_more_than_it_claims_is_damage() {
    // 32 KiB that unpack to a gigabyte.
    let stored = rle_frame(8192);
    assert!(stored.len() < 40_000);
    for claims in [1000, 1] {
        let stored = stored.clone();
        let place =
            with_chunk(ForgedBlob { kind: "data", id: Id::of(b"bomb"), stored, claims: Some(claims) });
        nobody_restores_it(&place).expect_text("decompress");
    }
}

/// A zstd frame of so many blocks, each 128 KiB of zeros in four bytes.
fn rle_frame(blocks: u32) -> Vec<u8> {
    // Magic number; no content size; a window of 2 MiB.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x58];
    for number in 0..blocks {
        let (last, run_length) = (u32::from(number + 1 == blocks), 1 << 1);
        let header = last | run_length | (128 << 10) << 3;
        frame.extend_from_slice(&header.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[test]
fn an_index_that_lies_about_a_pack_is_named_and_repaired_from_the_packs_own_header() {
    let place = Place::with_repository();
    fs::create_dir(place.path("source")).unwrap();
    fs::write(place.path("source/file"), "content of the file").unwrap();
    place.repo(["backup", place.path("source").to_str().unwrap()]).expect(0);
    let lie = |field: &str, value: Value| {
        let forge = Forge::new(&place);
        for key in keys(&place.repository(), "index/") {
            let id = key.rsplit('/').next().unwrap();
            let text = place.restic(&restic(), ["--no-lock", "cat", "index", id]).expect(0).out;
            let mut text: Value = serde_json::from_str(&text).unwrap();
            for pack in text["packs"].as_array_mut().unwrap() {
                for blob in pack["blobs"].as_array_mut().unwrap() {
                    blob[field] = value.clone();
                }
            }
            fs::remove_file(place.repository().join(&key)).unwrap();
            forge.unpacked("index", &text);
        }
    };
    for (field, value) in [
        ("offset", json!(7)),
        ("offset", json!(u32::MAX)),
        ("length", json!(33)),
        ("length", json!(u32::MAX >> 1)),
        ("uncompressed_length", json!(u32::MAX)),
    ] {
        lie(field, value);
        place.repo(["check"]).expect(13);
        place.repo(["restore", "latest", "--target", place.path("target").to_str().unwrap()]).expect(13);
        place.repo(["prune"]).expect(13);
        place.repo(["repair", "index", "--read-all-packs"]).expect(0);
        place.repo(["check", "--read-data"]).expect(0);
    }
    place.restic(&restic(), ["check", "--read-data"]).expect(0);
}

#[test]
fn a_pack_whose_header_lies_is_named_and_what_the_index_knows_of_it_is_restored() {
    type Lie = fn(&mut Vec<u8>);
    let lies: [(&str, Lie); 8] = [
        ("another kind", |header| header[0] ^= 1),
        ("an unknown kind", |header| header[0] = 9),
        ("a byte less", |header| header[1] -= 1),
        ("four gigabytes", |header| header[1..5].fill(0xff)),
        ("another id", |header| header[5] ^= 1),
        ("no blob", Vec::clear),
        ("a blob more", |header| header.extend_from_within(..)),
        ("half a blob", |header| header.truncate(20)),
    ];
    for (lie, change) in lies {
        let content = Id::of(b"content");
        let root = tree(&[node("file", "file", &json!({"content": [content], "size": 7}))]);
        let mut pack = String::new();
        let place = with_root(root.id, |forge| {
            let data = ForgedBlob { kind: "data", id: content, stored: b"content".to_vec(), claims: None };
            pack = forge.pack_with_header(&[data], change);
            forge.pack(&[root]);
        });
        println!("{lie}");
        place.repo(["check", "--read-data"]).expect(13).expect_text(&pack);
        let target = place.path("target");
        place.repo(["restore", "latest", "--verify", "--target", target.to_str().unwrap()]).expect(0);
        assert_eq!(fs::read(target.join("file")).unwrap(), b"content", "{lie}");
        assert_eq!(place.repo(["dump", "latest", "/file"]).expect(0).out, "content", "{lie}");
        // Who believes the header alone would drop a blob that is there.
        place.repo(["prune"]);
        fs::remove_dir_all(&target).unwrap();
        place.repo(["restore", "latest", "--verify", "--target", target.to_str().unwrap()]).expect(0);
        assert_eq!(fs::read(target.join("file")).unwrap(), b"content", "{lie}, after prune");
    }
}

#[test]
fn a_prefix_that_two_snapshots_share_ends_with_2_and_takes_neither() {
    let place = Place::with_repository();
    let forge = Forge::new(&place);
    for number in 0..17 {
        forge.snapshot(&json!({
            "time": format!("2026-01-01T00:00:{number:02}Z"), "tree": Id::of(b"none"), "paths": ["/p"],
        }));
    }
    let snapshots = keys(&place.repository(), "snapshots/");
    let first = |key: &String| key.rsplit('/').next().unwrap()[..1].to_owned();
    let twice = snapshots.windows(2).find(|pair| first(&pair[0]) == first(&pair[1])).unwrap();
    let prefix = first(&twice[0]);
    for verb in [&["ls"][..], &["forget"], &["stats"], &["tag", "--add", "x"], &["repair", "snapshots"]] {
        let arguments: Vec<&str> = verb.iter().copied().chain([prefix.as_str()]).collect();
        place.repo(&arguments).expect(2).expect_text("several snapshots");
    }
    assert_eq!(keys(&place.repository(), "snapshots/").len(), 17);
}
