//! Restores beside and over what is there, of parts, and of what is damaged.

use super::*;

#[test]
fn a_damaged_listing_costs_only_what_lies_in_that_directory() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    let mut listing = None;
    walk(&repository, &index, snapshot, &mut |path, node| {
        if path.ends_with(b"/source/a/b") {
            listing = node.subtree;
        }
        Ok(())
    })
    .unwrap();
    place.damage(&index, crate::pack::BlobKind::Tree, &listing.unwrap());

    let failed = place.restore_to(&repository, snapshot, "out").unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Damaged, "{failed}");
    let mut expected = picture(&place.path("source"));
    expected.retain(|path, _| !path.starts_with(b"a/b/"));
    assert_eq!(picture(&place.path("out")), expected);
}

#[test]
fn restore_over_present_files_reuses_what_is_right_and_replaces_what_is_not() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    place.restore_to(&repository, snapshot, "present").unwrap();
    let damaged = fs::OpenOptions::new().write(true).open(place.path("present/large")).unwrap();
    damaged.write_all_at(b"scrambled", 3 << 20).unwrap();
    let request = RestoreRequest {
        snapshot,
        subpath: Some(place.path("source").as_os_str().as_bytes().to_vec()),
        target: place.path("out"),
        reuse_from: Some(place.path("present")),
        choice: Choice::All,
        verify: true,
    };
    let index = repository.load_index(&|_| true).unwrap();
    let done = restore(&repository, &index, &request, &Control::new()).unwrap();
    assert_eq!(picture(&place.path("source")), picture(&place.path("out")));
    assert!(done.bytes_reused > 0 && done.bytes_reused < done.bytes);
}

#[test]
fn restore_in_place_writes_what_differs_and_leaves_no_trace_of_what_was_there() {
    let place = Place::new();
    make_source(&place.path("source"));
    let zeros = place.path("source/zeros");
    fs::write(&zeros, vec![0; 3 << 20]).unwrap();
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let first = place.restore_to(&repository, snapshot, "out").unwrap();
    assert_eq!(first.bytes_reused, 0);
    let large = place.path("out/large");
    let inode = fs::metadata(&large).unwrap().ino();

    let change = |name: &str| fs::OpenOptions::new().write(true).open(place.path(name)).unwrap();
    change("out/large").write_all_at(b"scrambled", 3 << 20).unwrap();
    change("out/zeros").write_all_at(b"not zero", 2 << 20).unwrap();
    // A file with another name is not changed under that name.
    let shared = place.path("elsewhere");
    fs::hard_link(place.path("out/a/b/c/deep"), &shared).unwrap();
    fs::write(&shared, "of somebody else").unwrap();
    // Longer than it should be, with an attribute and rights that it should not have.
    change("out/large").set_len(64 << 20).unwrap();
    fs::set_permissions(&large, fs::Permissions::from_mode(0o666)).unwrap();
    let attribute = rustix::fs::setxattr(&large, "user.of.before", b"1", rustix::fs::XattrFlags::empty());
    assert!(matches!(attribute, Ok(()) | Err(rustix::io::Errno::OPNOTSUPP)), "{attribute:?}");

    let again = place.restore_to(&repository, snapshot, "out").unwrap();
    assert_eq!(picture(&place.path("source")), picture(&place.path("out")));
    assert_eq!(fs::read(&shared).unwrap(), b"of somebody else");
    assert_eq!(fs::metadata(&large).unwrap().ino(), inode, "it was written in place");
    assert!(rustix::fs::getxattr(&large, "user.of.before", &mut [0; 8]).is_err());
    assert!(again.bytes_reused > first.bytes / 2 && again.bytes_reused < first.bytes, "{again:?}");
}

#[test]
fn a_restore_takes_what_is_chosen_and_nothing_else() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    let restored = |target: &str, choice: Choice| {
        let request = RestoreRequest {
            snapshot,
            subpath: Some(place.path("source").as_os_str().as_bytes().to_vec()),
            target: place.path(target),
            reuse_from: None,
            choice,
            verify: true,
        };
        restore(&repository, &index, &request, &Control::new()).unwrap();
        picture(&place.path(target))
    };
    let patterns = |texts: &[&str]| {
        Patterns::new(&texts.iter().map(|&text| Pattern::new(text)).collect::<Vec<_>>()).unwrap()
    };
    let all = picture(&place.path("source"));
    let expected = |chosen: &dyn Fn(&[u8]) -> bool| {
        all.iter().filter(|(path, _)| chosen(path)).map(|(path, line)| (path.clone(), line.clone())).collect()
    };
    let only: BTreeMap<_, _> = expected(&|path| path == b"large" || b"a/b/c/deep".starts_with(path));
    assert_eq!(restored("only", Choice::Only(patterns(&["/a/b/c", "large"]))), only);
    // What is there beside it, and above it, is not touched.
    fs::create_dir_all(place.path("kept/a")).unwrap();
    fs::set_permissions(place.path("kept/a"), fs::Permissions::from_mode(0o711)).unwrap();
    fs::write(place.path("kept/small.txt"), "mine").unwrap();
    restored("kept", Choice::Only(patterns(&["deep"])));
    assert_eq!(fs::metadata(place.path("kept/a")).unwrap().mode() & 0o777, 0o711);
    assert_eq!(fs::read(place.path("kept/small.txt")).unwrap(), b"mine");
    assert_eq!(fs::metadata(place.path("kept/a/b")).unwrap().mode() & 0o7777, 0o2750);

    let without: BTreeMap<_, _> = expected(&|path| !path.starts_with(b"a/b") && path != b"text");
    assert_eq!(restored("without", Choice::Without(patterns(&["/a/b", "text"]))), without);
}

#[test]
fn what_cannot_be_restored_leaves_the_file_that_is_there() {
    let place = Place::new();
    make_source(&place.path("source"));
    let repository = place.init();
    let snapshot = place.back_up(&repository).snapshot.unwrap();
    let index = repository.load_index(&|_| true).unwrap();
    place.damage(&index, crate::pack::BlobKind::Data, &Id::of(b"hello"));
    place.damage(&index, crate::pack::BlobKind::Data, &Id::of(b"deep"));
    // Two names of one lost file, and one file with a single name.
    let mine = ["small.txt", "a/linked", "a/b/c/deep"];
    fs::create_dir_all(place.path("out/a/b/c")).unwrap();
    for name in mine {
        let path = place.path("out").join(name);
        fs::write(&path, name).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    }
    let failed = place.restore_to(&repository, snapshot, "out").unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Damaged);
    assert!(failed.message.starts_with("3 files"), "{failed}");
    let (mut left, mut expected) = (picture(&place.path("out")), picture(&place.path("source")));
    for name in mine {
        let path = place.path("out").join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), name);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o604, "{name}");
        left.remove(name.as_bytes());
        expected.remove(name.as_bytes());
    }
    assert_eq!(left, expected);
}
