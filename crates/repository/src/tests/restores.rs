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
        subpath: Some(place.path("source").as_os_str().as_bytes().to_vec()),
        reuse_from: Some(place.path("present")),
        verify: true,
        ..RestoreRequest::new(snapshot, place.path("out"))
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
            subpath: Some(place.path("source").as_os_str().as_bytes().to_vec()),
            choice,
            verify: true,
            ..RestoreRequest::new(snapshot, place.path(target))
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

/// A restored tree in which one file was changed, one was lost, and things were added.
struct Drifted {
    place: Place,
    repository: Repository,
    index: Index,
    request: RestoreRequest,
}

impl Drifted {
    fn new() -> Self {
        let place = Place::new();
        make_source(&place.path("source"));
        let repository = place.init();
        let snapshot = place.back_up(&repository).snapshot.unwrap();
        place.restore_to(&repository, snapshot, "out").unwrap();
        let at = |name: &str| place.path("out").join(name);
        fs::write(at("text"), "of mine").unwrap();
        fs::remove_file(at("a/b/c/deep")).unwrap();
        fs::write(at("added"), "not in the snapshot").unwrap();
        fs::create_dir_all(at("a/new/below")).unwrap();
        fs::write(at("a/new/below/kept.log"), "a log").unwrap();
        fs::write(at("a/new/gone"), "gone").unwrap();
        let index = repository.load_index(&|_| true).unwrap();
        let request = RestoreRequest {
            subpath: Some(place.path("source").as_os_str().as_bytes().to_vec()),
            ..RestoreRequest::new(snapshot, place.path("out"))
        };
        Self { place, repository, index, request }
    }

    fn run(&self, request: &RestoreRequest) -> RestoreOutcome {
        restore(&self.repository, &self.index, request, &Control::new()).unwrap()
    }

    /// The plan, and its changes as `+ /path` lines, in order.
    fn plan(&self, request: &RestoreRequest) -> (RestorePlan, Vec<String>) {
        let mut lines = Vec::new();
        let control = Control::new();
        let plan = plan_restore(&self.repository, &self.index, request, &control, &mut |path, change, _| {
            let sign = match change {
                Planned::Made => '+',
                Planned::MadeEqual => 'M',
                Planned::Removed => '-',
            };
            lines.push(format!("{sign} {}", String::from_utf8_lossy(path)));
            Ok(())
        });
        lines.sort();
        (plan.unwrap(), lines)
    }

    fn out(&self) -> BTreeMap<Vec<u8>, String> {
        picture(&self.place.path("out"))
    }
}

#[test]
fn a_plan_tells_what_a_restore_changes_and_changes_nothing_itself() {
    let drifted = Drifted::new();
    let request = RestoreRequest { remove_others: true, ..drifted.request.clone() };
    let before = drifted.out();
    let (plan, lines) = drifted.plan(&request);
    assert_eq!(
        lines,
        [
            "+ /a/b/c/deep",
            "- /a/new",
            "- /a/new/below",
            "- /a/new/below/kept.log",
            "- /a/new/gone",
            "- /added",
            "M /text",
        ]
    );
    assert_eq!((plan.made, plan.made_equal, plan.removed, plan.kept), (1, 1, 5, 0));
    assert_eq!(drifted.out(), before);

    let done = drifted.run(&request);
    assert_eq!(done.removed, plan.removed);
    // A file of several names is replaced without being read: its five bytes are not in the plan.
    assert_eq!(done.bytes - done.bytes_reused, plan.bytes + 5);
    assert_eq!(drifted.out(), picture(&drifted.place.path("source")));
    let (after, lines) = drifted.plan(&request);
    assert_eq!((lines.as_slice(), after.made + after.made_equal + after.removed), (&[][..], 0));
    let (elsewhere, lines) = drifted.plan(&RestoreRequest { target: drifted.place.path("none"), ..request });
    assert_eq!(elsewhere.made, lines.len() as u64);
    assert!(elsewhere.made > plan.unchanged && !drifted.place.path("none").exists(), "{elsewhere:?}");
}

#[test]
fn what_is_removed_is_what_was_chosen_and_nothing_goes_without_being_asked_for() {
    let drifted = Drifted::new();
    assert_eq!(drifted.run(&drifted.request).removed, 0);
    let without_logs = Choice::Without(Patterns::new(&[Pattern::new("*.log")]).unwrap());
    let request = RestoreRequest { remove_others: true, choice: without_logs, ..drifted.request.clone() };
    let (plan, _) = drifted.plan(&request);
    let done = drifted.run(&request);
    assert_eq!((done.removed, plan.removed), (2, 2));
    assert!(drifted.place.path("out/a/new/below/kept.log").exists());
    assert!(!drifted.place.path("out/a/new/gone").exists() && !drifted.place.path("out/added").exists());
    // Of a target that is only passed on the way to what was chosen, nothing goes.
    fs::write(drifted.place.path("out/beside"), "stays").unwrap();
    let only = Choice::Only(Patterns::new(&[Pattern::new("/a")]).unwrap());
    let request = RestoreRequest { remove_others: true, choice: only, ..drifted.request.clone() };
    assert_eq!(drifted.run(&request).removed, 3);
    assert!(drifted.place.path("out/beside").exists() && !drifted.place.path("out/a/new").exists());
    // A single file is restored into a directory that may be anybody's.
    let mut file = drifted.request.subpath.clone().unwrap();
    file.extend_from_slice(b"/text");
    let request = RestoreRequest { subpath: Some(file), remove_others: true, ..drifted.request.clone() };
    assert_eq!((drifted.run(&request).removed, drifted.plan(&request).0.removed), (0, 0));
}

#[test]
fn nothing_is_removed_when_something_could_not_be_restored() {
    let drifted = Drifted::new();
    drifted.place.damage(&drifted.index, crate::pack::BlobKind::Data, &Id::of(b"deep"));
    let request = RestoreRequest { remove_others: true, ..drifted.request.clone() };
    let failed = restore(&drifted.repository, &drifted.index, &request, &Control::new()).unwrap_err();
    assert_eq!(failed.kind, ErrorKind::Damaged);
    assert!(drifted.place.path("out/added").exists() && drifted.place.path("out/a/new/gone").exists());
}

#[test]
fn what_is_there_is_kept_or_trusted_as_far_as_was_asked_for() {
    let drifted = Drifted::new();
    let text = drifted.place.path("out/text");
    let with = |existing| RestoreRequest { existing, ..drifted.request.clone() };
    let set_time = |path: &Path, at: std::time::SystemTime| {
        fs::File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    };

    // Kept: only what is missing is made, and directories keep their rights.
    let a = drifted.place.path("out/a");
    fs::set_permissions(&a, fs::Permissions::from_mode(0o711)).unwrap();
    let (plan, lines) = drifted.plan(&with(Existing::Kept));
    assert_eq!((lines.as_slice(), plan.made), (&["+ /a/b/c/deep".to_owned()][..], 1));
    let done = drifted.run(&with(Existing::Kept));
    assert_eq!(done.kept, plan.kept);
    assert_eq!(fs::read_to_string(&text).unwrap(), "of mine");
    assert_eq!(fs::metadata(&a).unwrap().mode() & 0o777, 0o711);

    // Kept if it is as young, or younger, than the snapshot's.
    drifted.run(&with(Existing::KeptIfYounger));
    assert_eq!(fs::read_to_string(&text).unwrap(), "of mine");
    set_time(&text, std::time::UNIX_EPOCH);
    assert_eq!(drifted.plan(&with(Existing::KeptIfYounger)).1, ["M /text"]);
    drifted.run(&with(Existing::KeptIfYounger));
    assert_eq!(drifted.out().get(&b"text"[..]), picture(&drifted.place.path("source")).get(&b"text"[..]));

    // Trusted by size and time: other content of the same looks stays, until one of them differs.
    let source = fs::read(drifted.place.path("source/text")).unwrap();
    let time = fs::metadata(drifted.place.path("source/text")).unwrap().modified().unwrap();
    fs::write(&text, vec![b'x'; source.len()]).unwrap();
    set_time(&text, time);
    drifted.run(&with(Existing::MadeEqualUnlessAlike));
    assert_eq!(fs::read(&text).unwrap(), vec![b'x'; source.len()]);
    assert_eq!(drifted.plan(&with(Existing::MadeEqual)).1, ["M /text"]);
    set_time(&text, std::time::UNIX_EPOCH);
    drifted.run(&with(Existing::MadeEqualUnlessAlike));
    assert_eq!(fs::read(&text).unwrap(), source);
}

#[test]
fn what_a_pattern_takes_back_is_neither_restored_nor_removed() {
    let drifted = Drifted::new();
    let kept = drifted.place.path("out/a/b/kept");
    fs::write(&kept, "mine").unwrap();
    let choice = Choice::Only(Patterns::new(&[Pattern::new("/a"), Pattern::new("!/a/b")]).unwrap());
    let request = RestoreRequest { choice, remove_others: true, ..drifted.request.clone() };
    assert_eq!(
        drifted.plan(&request).1,
        ["- /a/new", "- /a/new/below", "- /a/new/below/kept.log", "- /a/new/gone"]
    );
    drifted.run(&request);
    assert!(kept.exists() && !drifted.place.path("out/a/b/c/deep").exists());
    assert!(!drifted.place.path("out/a/new").exists());
}

#[test]
fn a_file_in_the_place_of_a_directory_stays_where_what_is_there_is_kept() {
    let drifted = Drifted::new();
    let a = drifted.place.path("out/a");
    fs::remove_dir_all(&a).unwrap();
    fs::write(&a, "mine").unwrap();
    for existing in [Existing::Kept, Existing::KeptIfYounger] {
        let request = RestoreRequest { existing, ..drifted.request.clone() };
        let control = Control::new();
        let restored = restore(&drifted.repository, &drifted.index, &request, &control).unwrap_err();
        let planned =
            plan_restore(&drifted.repository, &drifted.index, &request, &control, &mut |_, _, _| Ok(()));
        assert_eq!(planned.unwrap_err().message, restored.message);
        assert_eq!(fs::read(&a).unwrap(), b"mine");
    }
    assert!(drifted.plan(&drifted.request).1.contains(&"M /a".to_owned()));
    drifted.run(&drifted.request);
    assert!(a.join("b/c/deep").exists());
}
