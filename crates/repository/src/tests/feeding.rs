//! Files that come from elsewhere than a directory.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A file by its path below `/fed`, its content and what identifies it.
type Source<'a> = (&'a str, Vec<u8>, Option<&'a str>);

struct Feeder {
    repository: Repository,
    /// Contents that were asked for.
    asked: AtomicUsize,
}

impl Feeder {
    fn new(place: &Place) -> Self {
        Self { repository: place.init(), asked: AtomicUsize::new(0) }
    }

    fn back_up(&self, sources: &[Source<'_>]) -> Result<BackupOutcome> {
        self.asked.store(0, Ordering::SeqCst);
        let mut rest = sources.iter();
        let mut next = || {
            Ok(rest.next().map(|(path, content, tag)| FedFile {
                path: path.split('/').map(|name| name.as_bytes().to_vec()).collect(),
                mtime: Time { seconds: 1_700_000_000, nanoseconds: 5 },
                attributes: tag.iter().map(|tag| ("user.tag".to_owned(), tag.as_bytes().to_vec())).collect(),
                same_if_size: tag.map(|_| content.len() as u64),
                content: Box::new(move |out| {
                    self.asked.fetch_add(1, Ordering::SeqCst);
                    // In pieces that have nothing to do with chunks.
                    content.chunks(77_777).try_for_each(|piece| out.write_all(piece))?;
                    let attribute = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
                    Ok(tag.map_or(Fed::Whole, |tag| {
                        Fed::Described(vec![attribute("user.tag", tag), attribute("user.told", "late")])
                    }))
                }),
            }))
        };
        let index = self.repository.load_index(&|_| true)?;
        let request = BackupRequest::new(vec!["/fed".into()]);
        backup_feed(&self.repository, &index, &request, &mut next, 3, &Control::new())
    }

    /// All files of a snapshot.
    fn files(&self, snapshot: Id) -> BTreeMap<String, Vec<u8>> {
        let index = self.repository.load_index(&|_| true).unwrap();
        let (mut files, control) = (BTreeMap::new(), Control::new());
        walk(&self.repository, &index, snapshot, &mut |path, node| {
            if node.kind == NodeKind::File {
                let mut content = Vec::new();
                dump_file(&self.repository, &index, node, &control, &mut content)?;
                assert_eq!(node.size, content.len() as u64);
                files.insert(String::from_utf8(path.to_vec()).unwrap(), content);
            }
            Ok(())
        })
        .unwrap();
        files
    }
}

#[test]
fn fed_files_come_back_with_their_directories_and_are_cut_like_files() {
    let place = Place::new();
    let fed = Feeder::new(&place);
    let large = noise(1, 9_000_000);
    let sources = [
        ("a", b"".to_vec(), None),
        ("b/c/one", b"1".to_vec(), None),
        ("b/c/two", large.clone(), None),
        ("b/d/three", vec![0; 5_000_000], None),
        ("e", b"last".to_vec(), None),
    ];
    let outcome = fed.back_up(&sources).unwrap();
    let files = fed.files(outcome.snapshot.unwrap());
    let expected = sources.iter().map(|(path, content, _)| (format!("/fed/{path}"), content.clone()));
    assert_eq!(files, expected.collect());
    assert_eq!((outcome.summary.files_new, outcome.summary.dirs_new), (5, 4));

    // The same content in a directory adds nothing but listings.
    fs::write(place.path("source/large"), &large).unwrap();
    assert_eq!(place.back_up(&fed.repository).summary.data_blobs, 0);
}

#[test]
fn a_fed_file_with_the_same_marks_is_not_asked_for_its_content() {
    let place = Place::new();
    let fed = Feeder::new(&place);
    let sources = |tag| {
        [
            ("a/one", b"11".to_vec(), Some(tag)),
            ("a/two", b"22".to_vec(), Some("2")),
            ("b", b"3".to_vec(), None),
        ]
    };
    let first = fed.back_up(&sources("1")).unwrap();
    assert_eq!(fed.asked.load(Ordering::SeqCst), 3);
    let second = fed.back_up(&sources("1")).unwrap();
    assert_eq!(fed.asked.load(Ordering::SeqCst), 1, "the one without a mark");
    assert_eq!((second.summary.files_unmodified, second.summary.files_changed), (2, 1));
    let trees =
        [&first, &second].map(|outcome| fed.repository.snapshot(outcome.snapshot.unwrap()).unwrap().tree);
    assert_eq!(trees[0], trees[1], "nothing changed, and no listing says otherwise");
    let index = fed.repository.load_index(&|_| true).unwrap();
    let node = entry_at(&fed.repository, &index, trees[1], b"/fed/a/one").unwrap().unwrap();
    assert_eq!(node.xattrs.last().unwrap(), &("user.told".to_owned(), b"late".to_vec()));
    fed.back_up(&sources("other")).unwrap();
    assert_eq!(fed.asked.load(Ordering::SeqCst), 2);
    assert_eq!(fed.files(second.snapshot.unwrap()).len(), 3);
}

#[test]
fn a_fed_file_that_fails_ends_the_backup_and_one_that_is_gone_is_left_out() {
    let place = Place::new();
    let fed = Feeder::new(&place);
    let index = fed.repository.load_index(&|_| true).unwrap();
    let request = BackupRequest::new(vec!["/fed".into()]);
    let run = |contents: Vec<FedContent<'static>>| {
        let mut contents = contents.into_iter().enumerate();
        let mut next = || {
            Ok(contents.next().map(|(number, content)| FedFile {
                path: vec![format!("{number:03}").into_bytes()],
                mtime: Time::default(),
                attributes: Vec::new(),
                same_if_size: None,
                content,
            }))
        };
        backup_feed(&fed.repository, &index, &request, &mut next, 2, &Control::new())
    };
    let whole =
        || -> FedContent<'static> { Box::new(|out| out.write_all(&noise(1, 700_000)).map(|()| Fed::Whole)) };
    // Many behind it: nobody waits for ever in a full queue.
    let mut contents: Vec<FedContent<'static>> = (0..200).map(|_| whole()).collect();
    contents[20] = Box::new(|out| {
        out.write_all(b"half")?;
        Err(io::Error::other("the source broke"))
    });
    let error = run(contents).unwrap_err();
    assert!(
        error.message.contains("cannot read '/020'") && error.message.contains("the source broke"),
        "{error}"
    );
    assert_eq!(fed.repository.snapshots().unwrap().0.len(), 0);

    // It is gone, though much of it was taken.
    let gone: FedContent<'static> = Box::new(|out| out.write_all(&noise(2, 9_000_000)).map(|()| Fed::Gone));
    let outcome = run(vec![whole(), gone, whole()]).unwrap();
    let names: Vec<String> = fed.files(outcome.snapshot.unwrap()).into_keys().collect();
    assert_eq!(names, ["/fed/000", "/fed/002"]);

    let mut failing = || Err(Error::new(ErrorKind::Io, "no more names"));
    let error = backup_feed(&fed.repository, &index, &request, &mut failing, 2, &Control::new()).unwrap_err();
    assert_eq!(error.message, "no more names");
}

#[test]
fn a_store_that_fails_ends_a_long_stream_at_once_with_its_own_word() {
    const PIECES: u64 = 400;
    let place = Place::new();
    drop(place.init());
    let plan = storage::FaultPlan::new(2, storage::Fault::Full).writes_only();
    let full: Shared = Arc::new(storage::Faulty::new(place.storage(), plan));
    let repository = Repository::open(full, &passcode()).unwrap();
    let given = AtomicUsize::new(0);
    let mut stream = Some(FedFile {
        path: vec![b"stream".to_vec()],
        mtime: Time::default(),
        attributes: Vec::new(),
        same_if_size: None,
        content: Box::new(|out| {
            for number in 0..PIECES {
                out.write_all(&noise(number, 1_000_000))?;
                given.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Fed::Whole)
        }),
    });
    let index = repository.load_index(&|_| true).unwrap();
    let request = BackupRequest::new(vec!["/fed".into()]);
    let mut next = || Ok(stream.take());
    let error = backup_feed(&repository, &index, &request, &mut next, 1, &Control::new()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::NoSpace, "{error}");
    assert!(given.load(Ordering::SeqCst) < PIECES as usize / 2, "{given:?} pieces were taken");
}

#[test]
fn a_fed_name_that_leads_elsewhere_is_refused() {
    let place = Place::new();
    let fed = Feeder::new(&place);
    for name in ["..", ".", "", "a\0b"] {
        let error = fed.back_up(&[(name, Vec::new(), None)]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Invalid, "{name:?}");
    }
}
