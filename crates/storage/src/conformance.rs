//! What every storage must do, one function for each promise of [`Storage`]: run against directories and every
//! kind of object store. A function works below a prefix of its own and leaves its objects behind.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{ErrorKind, Shared, Storage};

/// More than services put on one page of a listing.
const MORE_THAN_A_PAGE: usize = 1_050;

/// Runs all of them.
pub fn all(storage: &Shared) {
    objects_read_back_whole_and_by_range(storage);
    what_is_missing_is_said_to_be_missing(storage);
    create_never_replaces(storage);
    one_of_many_racing_creators_wins(storage);
    replace_needs_the_version_that_was_read(storage);
    one_of_many_racing_replacers_wins(storage);
    a_stamp_goes_with_one_content(storage);
    deleting_twice_is_fine(storage);
    a_listing_shows_what_lies_below_its_prefix_and_nothing_else(storage);
    keys_of_odd_characters_come_back_as_they_were(storage);
    a_listing_is_complete_beyond_one_page(storage);
    a_pack_and_an_empty_object_read_back(storage);
    illegal_keys_are_refused(storage);
}

fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..bytes.div_ceil(8)).flat_map(|_| next()).take(bytes).collect()
}

/// Bytes come back as they were, whole and in part; limits are kept.
pub fn objects_read_back_whole_and_by_range(storage: &Shared) {
    storage.create("read/a/b", &[b"hel", b"", b"lo"]).unwrap();
    assert_eq!(storage.get("read/a/b", 100).unwrap(), b"hello");
    assert_eq!(storage.get("read/a/b", 5).unwrap(), b"hello");
    assert_eq!(storage.get("read/a/b", 4).unwrap_err().kind, ErrorKind::TooLarge);
    assert_eq!(storage.get_range("read/a/b", 1..3).unwrap(), b"el");
    assert_eq!(storage.get_range("read/a/b", 4..5).unwrap(), b"o");
    assert_eq!(storage.get_range("read/a/b", 2..2).unwrap(), b"");
    assert_eq!(storage.get_range("read/a/b", 3..9).unwrap_err().kind, ErrorKind::Short);
    assert_eq!(storage.get_range("read/a/b", 50..60).unwrap_err().kind, ErrorKind::Short);
    let entry = storage.head("read/a/b").unwrap().unwrap();
    assert_eq!((entry.key.as_str(), entry.size), ("read/a/b", 5));
}

/// Reading what is not there is `NotFound`; looking and listing say that there is nothing.
pub fn what_is_missing_is_said_to_be_missing(storage: &Shared) {
    assert_eq!(storage.get("missing/x", 9).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.get_range("missing/x", 0..1).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.get_versioned("missing/x", 9).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.head("missing/x").unwrap(), None);
    assert!(storage.list_all("missing/").unwrap().is_empty());
}

/// No stamp outlives a change, and looking and listing give the same one.
pub fn a_stamp_goes_with_one_content(storage: &Shared) {
    storage.create("stamp/k", &[b"one"]).unwrap();
    let look = || {
        let (head, listed) = (storage.head("stamp/k").unwrap().unwrap(), storage.list_all("stamp/").unwrap());
        // A file that was just written has none yet.
        assert!(head.stamp == listed[0].stamp || head.stamp.is_none() || listed[0].stamp.is_none());
        head.stamp
    };
    let first = look();
    let (_, version) = storage.get_versioned("stamp/k", 9).unwrap();
    storage.replace("stamp/k", b"two", &version).unwrap();
    let second = look();
    storage.delete("stamp/k").unwrap();
    storage.create("stamp/k", &[b"six"]).unwrap();
    let third = look();
    let told: Vec<_> = [first, second, third].into_iter().flatten().collect();
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
}

/// A second create leaves the first as it is.
pub fn create_never_replaces(storage: &Shared) {
    storage.create("create/k", &[b"one"]).unwrap();
    assert_eq!(storage.create("create/k", &[b"two"]).unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(storage.create("create/k", &[b"one"]).unwrap_err().kind, ErrorKind::Exists);
    assert_eq!(storage.get("create/k", 100).unwrap(), b"one");
}

fn winners(count: usize, race: impl Fn(usize) -> bool + Sync) -> usize {
    let wins = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for i in 0..count {
            let (wins, race) = (&wins, &race);
            scope.spawn(move || wins.fetch_add(usize::from(race(i)), Ordering::SeqCst));
        }
    });
    wins.into_inner()
}

/// Of many creators at once exactly one is told that it won, and its bytes are there.
pub fn one_of_many_racing_creators_wins(storage: &Shared) {
    for round in 0..3 {
        let key = format!("race/create-{round}");
        let won = winners(16, |i| match storage.create(&key, &[format!("{i}").as_bytes()]) {
            Ok(()) => true,
            Err(e) => {
                assert_eq!(e.kind, ErrorKind::Exists, "{e}");
                false
            }
        });
        assert_eq!(won, 1);
    }
}

/// A replacement counts only for the version that was read.
pub fn replace_needs_the_version_that_was_read(storage: &Shared) {
    storage.create("replace/k", &[b"one"]).unwrap();
    let (body, first) = storage.get_versioned("replace/k", 10).unwrap();
    assert_eq!(body, b"one");
    storage.replace("replace/k", b"two", &first).unwrap();
    assert_eq!(storage.replace("replace/k", b"three", &first).unwrap_err().kind, ErrorKind::Precondition);
    let (body, second) = storage.get_versioned("replace/k", 10).unwrap();
    assert_eq!(body, b"two");
    assert_ne!(first, second);
    storage.delete("replace/k").unwrap();
    let gone = storage.replace("replace/k", b"four", &second).unwrap_err().kind;
    assert!(matches!(gone, ErrorKind::NotFound | ErrorKind::Precondition), "{gone:?}");
    assert_eq!(storage.head("replace/k").unwrap(), None);
}

/// Of many replacers of one version exactly one wins.
pub fn one_of_many_racing_replacers_wins(storage: &Shared) {
    storage.create("race/replace", &[b"0"]).unwrap();
    let (_, version) = storage.get_versioned("race/replace", 10).unwrap();
    let won = winners(8, |i| match storage.replace("race/replace", format!("n{i}").as_bytes(), &version) {
        Ok(()) => true,
        Err(e) => {
            assert_eq!(e.kind, ErrorKind::Precondition, "{e}");
            false
        }
    });
    assert_eq!(won, 1);
}

/// What is gone may be deleted again, and created again.
pub fn deleting_twice_is_fine(storage: &Shared) {
    storage.create("delete/k", &[b"1"]).unwrap();
    storage.delete("delete/k").unwrap();
    storage.delete("delete/k").unwrap();
    assert_eq!(storage.head("delete/k").unwrap(), None);
    storage.create("delete/k", &[b"2"]).unwrap();
    assert_eq!(storage.get("delete/k", 10).unwrap(), b"2");
}

/// A prefix is a whole number of segments.
pub fn a_listing_shows_what_lies_below_its_prefix_and_nothing_else(storage: &Shared) {
    for key in ["list/x/1", "list/x/y/2", "list/x-1", "list/xy/3", "list/x0"] {
        storage.create(key, &[key.as_bytes()]).unwrap();
    }
    let keys =
        |prefix| storage.list_all(prefix).unwrap().into_iter().map(|e| (e.key, e.size)).collect::<Vec<_>>();
    assert_eq!(keys("list/x/"), [("list/x/1".to_owned(), 8), ("list/x/y/2".to_owned(), 10)]);
    assert_eq!(keys("list/").len(), 5);
    assert!(keys("").len() >= 5);
    storage.delete("list/x/1").unwrap();
    assert_eq!(keys("list/x/"), [("list/x/y/2".to_owned(), 10)], "a deleted object is listed no more");
}

/// Names of people's backups are keys.
pub fn keys_of_odd_characters_come_back_as_they_were(storage: &Shared) {
    let keys = [
        "a b",
        "é ü",
        "100%",
        "%41",
        "a+b",
        "a&b=c",
        "#1",
        "~x",
        "a'b\"c",
        "a,b;c:d@e",
        "(x)[y]{z}",
        "日本",
        "..x",
    ];
    for key in keys {
        let key = format!("odd/{key}");
        storage.create(&key, &[key.as_bytes()]).unwrap();
        assert_eq!(storage.get(&key, 100).unwrap(), key.as_bytes());
    }
    let mut expected: Vec<String> = keys.iter().map(|key| format!("odd/{key}")).collect();
    expected.sort();
    let listed: Vec<String> = storage.list_all("odd/").unwrap().into_iter().map(|e| e.key).collect();
    assert_eq!(listed, expected);
    for key in expected {
        storage.delete(&key).unwrap();
    }
    assert!(storage.list_all("odd/").unwrap().is_empty());
}

/// Services list a thousand or so at a time.
pub fn a_listing_is_complete_beyond_one_page(storage: &Shared) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::SeqCst);
                    if i >= MORE_THAN_A_PAGE {
                        return;
                    }
                    storage.create(&format!("pages/{i:05}"), &[b"x"]).unwrap();
                }
            });
        }
    });
    let keys: Vec<String> = storage.list_all("pages/").unwrap().into_iter().map(|e| e.key).collect();
    let expected: Vec<String> = (0..MORE_THAN_A_PAGE).map(|i| format!("pages/{i:05}")).collect();
    assert_eq!(keys, expected);
}

/// Sizes that the engine writes.
pub fn a_pack_and_an_empty_object_read_back(storage: &Shared) {
    let pack = noise((17 << 20) + 13);
    storage.create("sizes/pack", &[&pack[..1000], &pack[1000..]]).unwrap();
    assert!(storage.get("sizes/pack", u64::MAX).unwrap() == pack);
    let range = (9 << 20)..(17 << 20) + 13;
    assert!(storage.get_range("sizes/pack", range.clone()).unwrap() == pack[range.start as usize..]);
    storage.create("sizes/empty", &[]).unwrap();
    assert_eq!(storage.get("sizes/empty", 0).unwrap(), b"");
    assert_eq!(storage.head("sizes/empty").unwrap().unwrap().size, 0);
}

/// No key leads out of the store.
pub fn illegal_keys_are_refused(storage: &Shared) {
    for key in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\0b"] {
        assert_eq!(storage.create(key, &[b"x"]).unwrap_err().kind, ErrorKind::Invalid, "{key:?}");
        assert_eq!(storage.get(key, 9).unwrap_err().kind, ErrorKind::Invalid, "{key:?}");
        assert_eq!(storage.delete(key).unwrap_err().kind, ErrorKind::Invalid, "{key:?}");
    }
}

/// For a place that was there and is gone: an error, never an empty listing.
pub fn a_place_that_is_gone_is_an_error(storage: &dyn Storage) {
    assert_eq!(storage.list_all("x/").unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.create("x/2", &[b"2"]).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.get("x/2", 9).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.delete("x/1").unwrap_err().kind, ErrorKind::NotFound);
}
