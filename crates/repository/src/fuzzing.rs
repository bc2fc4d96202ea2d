//! The parsers of this crate, each as a function over arbitrary bytes: for fuzzing (feature `fuzzing`, see `fuzz/`) and,
//! in the crate's own tests, for reading the kept corpus again. A parser must not crash, hang or take much memory, and
//! what it accepted must come back the same when it is written and read again.
//!
//! What lies sealed in a repository is taken here without its seal: a fuzzer could not get past one.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is how a fuzzer is told

use crate::compress::{Zstd, decompress_text};
use crate::config::Config;
use crate::index::{IndexText, PackText, visit_packs};
use crate::key::{Passcode, open_key_file};
use crate::pack::{BlobKind, PackedBlob, decode_header, encode_header, pack_size, read_header};
use crate::seal::SealKey;
use crate::snapshot::Snapshot;
use crate::{Id, Time, file, quote, tree};

/// A parser, fed with arbitrary bytes.
pub type Target = fn(&[u8]);

/// All of them by name; the names are those of the folders in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("key-file", key_file),
    ("config", config),
    ("index", index),
    ("pack-header", pack_header),
    ("pack", pack),
    ("tree", tree),
    ("snapshot", snapshot),
    ("payload", payload),
    ("blob", blob),
    ("name", name),
];

const MIB: usize = 1 << 20;

fn key_file(data: &[u8]) {
    // A legal cost may take seconds; what it costs is limited and tested elsewhere.
    let number = |value: &serde_json::Value, field: &str| value[field].as_u64().unwrap_or(1);
    let value: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let cost = number(&value, "N").saturating_mul(number(&value, "r")).saturating_mul(number(&value, "p"));
    if cost <= 1 << 14 {
        let _ = open_key_file("keys/fuzzed", data, &Passcode::new("a passcode".to_owned()));
    }
}

fn config(data: &[u8]) {
    if let Ok(config) = Config::parse(data) {
        let again = Config::parse(&serde_json::to_vec(&config).unwrap()).unwrap();
        assert_eq!((config.version, config.id), (again.version, again.id));
    }
}

fn index(data: &[u8]) {
    let read = |text: &[u8]| {
        let mut packs = Vec::new();
        let done = visit_packs("index/fuzzed", text, &mut |pack| {
            packs.push((pack.id, pack.blobs));
            Ok(())
        });
        done.map(|()| packs)
    };
    let Ok(packs) = read(data) else { return };
    let as_text = |(id, blobs): &(Id, Vec<PackedBlob>)| PackText {
        id: *id,
        blobs: blobs.iter().map(Into::into).collect(),
    };
    let text = IndexText { packs: packs.iter().map(as_text).collect() };
    assert_eq!(read(&serde_json::to_vec(&text).unwrap()).unwrap(), packs);
}

fn pack_header(data: &[u8]) {
    if let Ok(blobs) = decode_header(data) {
        assert_eq!(encode_header(&blobs), data);
        assert!(pack_size(&blobs) > data.len() as u64);
    }
}

/// The header of a pack whose body, header and length are all arbitrary; and one that is sealed rightly.
fn pack(data: &[u8]) {
    let key = SealKey { encrypt: [1; 32], k: [2; 16], r: [3; 16] }.masked();
    let _ = read_header(&key, data);
    let mut sealed = key.seal(data);
    sealed.extend_from_slice(&(sealed.len() as u32).to_le_bytes());
    let _ = read_header(&key, &sealed);
    // One blob, and the header that belongs to it.
    let mut body = key.seal(data);
    let length = body.len() as u32;
    let blob = PackedBlob { kind: BlobKind::Data, id: Id::of(data), offset: 0, length, uncompressed: None };
    let header = key.seal(&encode_header(&[blob]));
    body.extend_from_slice(&header);
    body.extend_from_slice(&(header.len() as u32).to_le_bytes());
    assert_eq!(read_header(&key, &body).unwrap(), [blob]);
}

fn tree(data: &[u8]) {
    let id = Id::of(data);
    let Ok(nodes) = tree::parse(id, data) else { return };
    let written = tree::tree_text(nodes.iter().map(tree::Node::text));
    let mut expected = nodes;
    for node in expected.iter_mut().filter(|node| node.kind != tree::NodeKind::File) {
        node.content.clear(); // only files have content; what else claims some is written without
    }
    assert_eq!(tree::parse(id, &written).unwrap(), expected);
}

fn snapshot(data: &[u8]) {
    if let Ok(snapshot) = serde_json::from_slice::<Snapshot>(data) {
        let written = serde_json::to_vec(&snapshot).unwrap();
        assert_eq!(serde_json::from_slice::<Snapshot>(&written).unwrap(), snapshot);
        let _ = Time::parse(&snapshot.time);
    }
}

fn payload(data: &[u8]) {
    if data.first() == Some(&2) {
        // The same as for a file, but with less room.
        let _ = decompress_text(&data[1..], 32 * MIB);
    } else {
        let _ = file::decode_payload(data.to_vec());
    }
}

fn blob(data: &[u8]) {
    let Some((length, frame)) = data.split_first_chunk::<3>() else { return };
    let length = u32::from_le_bytes([length[0], length[1], length[2], 0]) as usize;
    let mut zstd = Zstd::new().unwrap();
    let mut out = Vec::new();
    if zstd.decompress(frame, length, &mut out).is_ok() {
        assert_eq!(out.len(), length);
    }
    zstd.compress(frame, 1, &mut out).unwrap();
    let mut back = Vec::new();
    zstd.decompress(&out, frame.len(), &mut back).unwrap();
    assert_eq!(back, frame);
}

/// Names as they stand in trees; and any bytes as a name.
fn name(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(name) = quote::unquote(text)
    {
        round_trip(&name);
    }
    round_trip(data);
}

fn round_trip(name: &[u8]) {
    let mut quoted = String::new();
    quote::quote(name, &mut quoted);
    assert_eq!(quote::unquote(&quoted).as_deref(), Some(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_corpus_is_read_without_a_crash() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (name, target) in TARGETS {
            let mut files = 0;
            for file in std::fs::read_dir(corpus.join(name)).unwrap() {
                target(&std::fs::read(file.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files > 0, "there is no corpus for {name}");
        }
    }
}
