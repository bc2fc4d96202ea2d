//! Looking around: files at any offset, what comes and goes, and damage.

use super::*;
use crate::pack::BlobKind;

fn browser(repository: &Repository) -> Browser {
    let (browser, warnings) = Browser::new(repository.clone(), SnapshotFilter::default()).unwrap();
    assert_eq!(warnings, []);
    browser
}

/// The entry of the source's file of this name in the newest snapshot.
fn entry(place: &Place, browser: &Browser, name: &str) -> Node {
    let mut tree = browser.snapshots().last().unwrap().1.tree;
    for part in place.path("source").iter().skip(1) {
        tree = browser.list(tree).unwrap().find(part.as_bytes()).unwrap().subtree.unwrap();
    }
    browser.list(tree).unwrap().find(name.as_bytes()).unwrap().clone()
}

#[test]
fn any_part_of_a_file_is_read_as_it_was() {
    let place = Place::new();
    let content = noise(3, 9_500_000);
    fs::write(place.path("source").join("large"), &content).unwrap();
    fs::write(place.path("source").join("empty"), "").unwrap();
    let repository = place.init();
    place.back_up(&repository);
    let browser = browser(&repository);
    let node = entry(&place, &browser, "large");
    assert!(node.content.len() > 2, "the parts below meet the ends of chunks");
    let file = browser.open(&node).unwrap();
    let size = content.len() as u64;
    let mut offsets: Vec<u64> = (0..size).step_by(777_777).collect();
    offsets.extend([0, 1, size - 1, size, size + 1, u64::MAX]);
    for offset in offsets {
        for length in [0, 1, 4096, 3_000_000, usize::MAX] {
            let from = offset.min(size) as usize;
            let to = from.saturating_add(length).min(content.len());
            let read = browser.read(&file, offset, length).unwrap();
            assert!(read == content[from..to], "{length} bytes at {offset}");
        }
    }
    let empty = browser.open(&entry(&place, &browser, "empty")).unwrap();
    assert!(browser.read(&empty, 0, 100).unwrap().is_empty());
}

#[test]
fn snapshots_that_come_and_go_are_seen_at_the_next_look_and_only_those_that_fit() {
    let place = Place::new();
    fs::write(place.path("source").join("file"), "one").unwrap();
    let repository = place.init();
    let browser = browser(&repository);
    assert!(browser.snapshots().is_empty());
    let first = place.back_up(&repository).snapshot.unwrap();
    fs::write(place.path("source").join("file"), "another").unwrap();
    assert!(browser.snapshots().is_empty(), "not before the next look");
    let second = place.back_up(&repository).snapshot.unwrap();
    assert_eq!(browser.look_again().unwrap(), []);
    let ids = |browser: &Browser| browser.snapshots().iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(ids(&browser), [first, second]);
    let node = entry(&place, &browser, "file");
    let file = browser.open(&node).unwrap();
    assert_eq!(browser.read(&file, 0, 100).unwrap(), b"another", "the index came along");
    repository.delete_snapshot(first).unwrap();
    assert_eq!(browser.look_again().unwrap(), []);
    assert_eq!(ids(&browser), [second]);
    let nobody = SnapshotFilter { hosts: vec!["nobody".to_owned()], ..Default::default() };
    let (none, _) = Browser::new(repository, nobody).unwrap();
    assert!(none.snapshots().is_empty());
}

#[test]
fn a_damaged_snapshot_is_named_once_and_the_others_are_seen() {
    let place = Place::new();
    let repository = place.init();
    let first = place.back_up(&repository).snapshot.unwrap();
    fs::write(place.path("source").join("file"), "one").unwrap();
    let second = place.back_up(&repository).snapshot.unwrap();
    let file = place.path("repo").join("snapshots").join(first.to_string());
    let mut bytes = fs::read(&file).unwrap();
    bytes[20] ^= 1;
    fs::remove_file(&file).unwrap();
    fs::write(&file, bytes).unwrap();
    let (browser, warnings) = Browser::new(repository, SnapshotFilter::default()).unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].item.contains(&first.to_string()));
    assert_eq!(browser.snapshots().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [second]);
    assert_eq!(browser.look_again().unwrap(), []);
}

#[test]
fn a_damaged_chunk_is_an_error_and_the_others_are_read() {
    let place = Place::new();
    let content = noise(4, 9_500_000);
    fs::write(place.path("source").join("large"), &content).unwrap();
    let repository = place.init();
    place.back_up(&repository);
    let browser = browser(&repository);
    let node = entry(&place, &browser, "large");
    let index = repository.load_index(&|_| true).unwrap();
    place.damage(&index, BlobKind::Data, node.content.last().unwrap());
    let file = browser.open(&node).unwrap();
    assert!(browser.read(&file, 0, 100_000).unwrap() == content[..100_000]);
    for _ in 0..2 {
        let error = browser.read(&file, content.len() as u64 - 10, 10).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Damaged);
        assert!(error.message.contains(&node.content.last().unwrap().to_string()), "{error}");
    }
}

#[test]
fn a_file_whose_chunks_are_missing_or_do_not_add_up_is_not_opened() {
    let place = Place::new();
    fs::write(place.path("source").join("file"), "content").unwrap();
    let repository = place.init();
    place.back_up(&repository);
    let browser = browser(&repository);
    let node = entry(&place, &browser, "file");
    for damaged in [
        Node { size: 6, ..node.clone() },
        Node { size: u64::MAX, ..node.clone() },
        Node { content: vec![Id([7; 32])], ..node.clone() },
        Node { content: [node.content.clone(), node.content.clone()].concat(), ..node.clone() },
    ] {
        assert_eq!(browser.open(&damaged).unwrap_err().kind, ErrorKind::Damaged);
    }
    let fifo = Node { kind: NodeKind::Fifo, ..node };
    assert_eq!(browser.open(&fifo).unwrap_err().kind, ErrorKind::Invalid);
}
