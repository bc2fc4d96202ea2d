//! Prune: what goes, what stays, and what is compressed on the way.

use super::*;

#[test]
fn prune_removes_what_no_snapshot_needs_and_nothing_else() {
    let place = Place::new();
    let repository = place.init();
    let owner = LockOwner { hostname: "test".into(), username: String::new() };
    let source = place.path("source");
    for n in 0..4 {
        for file in 0..6 {
            if file % (n + 1) == 0 {
                fs::write(source.join(format!("f{file}")), noise(n * 10 + file, 700_000)).unwrap();
            }
        }
        place.back_up(&repository);
    }
    let (snapshots, _) = repository.snapshots().unwrap();
    let expected = picture(&source);
    for (id, _) in &snapshots[..3] {
        repository.delete_snapshot(*id).unwrap();
    }
    let request = PruneRequest { max_unused_percent: 0.0, ..PruneRequest::default() };
    let before: u64 = repository.list_packs().unwrap().values().sum();
    let planned =
        prune(&repository, &owner, &PruneRequest { dry_run: true, ..request.clone() }, &Control::new())
            .unwrap();
    let report = prune(&repository, &owner, &request, &Control::new()).unwrap();
    // How long the headers of new packs are shows when they are written.
    assert_eq!(PruneReport { bytes_after: planned.bytes_after, ..report.clone() }, planned);
    assert!(report.packs_removed > 0 && report.packs_repacked > 0);
    let after: u64 = repository.list_packs().unwrap().values().sum();
    assert!(after < before);
    assert_eq!(report.bytes_after, after);
    let check_report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!((check_report.findings, check_report.notes), (vec![], vec![]));
    place.restore_to(&repository, snapshots[3].0, "out").unwrap();
    assert_eq!(picture(&place.path("out")), expected);
    // Nothing is left to do.
    let again = prune(&repository, &owner, &request, &Control::new()).unwrap();
    assert_eq!(again.packs_removed, 0);
}

#[test]
fn prune_compresses_what_lies_uncompressed_once_and_for_all() {
    let place = Place::new();
    let repository = place.init();
    let source = place.path("source");
    let numbers = |n: u64| (0..60_000).map(|i| format!("{} ", i * n)).collect::<String>();
    for n in 0..3 {
        fs::write(source.join(format!("numbers {n}")), numbers(n + 1)).unwrap();
        fs::write(source.join(format!("noise {n}")), noise(n, 900_000)).unwrap();
    }
    let back_up = |compression| {
        let request = BackupRequest { compression, ..BackupRequest::new(vec![source.clone()]) };
        let index = repository.load_index(&|_| true).unwrap();
        backup(&repository, &index, &request, &Control::new()).unwrap().snapshot.unwrap()
    };
    back_up(Compression::Off);
    fs::write(source.join("compressed already"), numbers(7)).unwrap();
    let snapshot = back_up(Compression::Fastest);
    let expected = picture(&source);
    let blobs = || {
        let (mut all, mut uncompressed) = (0, 0);
        let index = repository.load_index(&|_| true).unwrap();
        index
            .blobs(&mut |_, copies| {
                all += copies.len();
                uncompressed += copies.iter().filter(|copy| copy.packed().uncompressed.is_none()).count();
                Ok(())
            })
            .unwrap();
        (all, uncompressed)
    };
    let stored = || repository.list_packs().unwrap().values().sum::<u64>();
    let owner = LockOwner { hostname: "test".into(), username: String::new() };
    let run = |request: &PruneRequest| prune(&repository, &owner, request, &Control::new()).unwrap();

    let (all, uncompressed) = blobs();
    assert!(0 < uncompressed && uncompressed < all);
    let before = stored();
    assert_eq!(run(&PruneRequest::default()).packs_repacked, 0, "nobody asked for it");
    let request = PruneRequest { repack_uncompressed: Some(Compression::Max), ..PruneRequest::default() };
    let planned = run(&PruneRequest { dry_run: true, ..request.clone() });
    assert!(planned.packs_repacked > 0 && stored() == before);
    let report = run(&request);
    assert_eq!(report.packs_repacked, planned.packs_repacked);
    assert_eq!(blobs(), (all, 0));
    assert!(stored() < before - 500_000, "{} of {before} are left", stored());
    assert_eq!(report.bytes_after, stored());
    assert_eq!(run(&request).packs_repacked, 0, "noise is not tried again and again");
    let found = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!((found.findings, found.notes), (vec![], vec![]));
    place.restore_to(&repository, snapshot, "out").unwrap();
    assert_eq!(picture(&place.path("out")), expected);
}

/// A damaged pack counts as unknown, the next backup stores its blobs again, and a prune keeps the whole copies.
#[test]
fn a_compressing_prune_that_was_broken_off_goes_on_with_what_it_had_compressed() {
    let place = Place::new();
    let repository = place.init();
    let source = place.path("source");
    let owner = LockOwner { hostname: "test".into(), username: String::new() };
    for n in 0..3 {
        // Text: compressed it is smaller, and its old packs have more needed bytes than the new ones.
        let text: String = (0..60_000_u64).map(|i| format!("{} ", i * (n + 1))).collect();
        fs::write(source.join(format!("numbers {n}")), text).unwrap();
        let request =
            BackupRequest { compression: Compression::Off, ..BackupRequest::new(vec![source.clone()]) };
        let index = repository.load_index(&|_| true).unwrap();
        backup(&repository, &index, &request, &Control::new()).unwrap();
    }
    // As if it had died when the new index was stored and nothing removed yet.
    let storage = place.storage();
    let files = |folder: &str| -> Vec<(String, Vec<u8>)> {
        let all = storage.list_all(folder).unwrap().into_iter();
        all.map(|entry| (entry.key.clone(), storage.get(&entry.key, u64::MAX).unwrap())).collect()
    };
    let before = [files("data/"), files("index/")].concat();
    let compressing = PruneRequest {
        repack_uncompressed: Some(Compression::Fastest),
        max_unused_percent: 0.0,
        ..PruneRequest::default()
    };
    prune(&repository, &owner, &compressing, &Control::new()).unwrap();
    for (key, content) in before {
        if storage.get(&key, u64::MAX).is_err() {
            storage.create(&key, &[&content]).unwrap();
        }
    }
    let report = prune(&repository, &owner, &compressing, &Control::new()).unwrap();
    assert!(report.packs_removed > 0, "{report:?}");
    assert_eq!(report.packs_repacked, 0, "{report:?}");
    let again = prune(&repository, &owner, &compressing, &Control::new()).unwrap();
    assert_eq!((again.packs_removed, again.packs_repacked), (0, 0));
    assert_eq!(check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap().findings, []);
}

#[test]
fn prune_keeps_the_whole_copy_of_a_blob_and_never_the_damaged_one() {
    for missing in [false, true] {
        let place = Place::new();
        fs::write(place.path("source/a"), noise(1, 300_000)).unwrap();
        fs::write(place.path("source/b"), noise(2, 300_000)).unwrap();
        let repository = place.init();
        let mut request = BackupRequest::new(vec![place.path("source")]);
        // What other tests do beside the source must not make other listings, which would be lost with the packs.
        request.timeless_way = true;
        let index = repository.load_index(&|_| true).unwrap();
        let first = backup(&repository, &index, &request, &Control::new()).unwrap();
        for (pack, _) in &first.new_packs {
            let path = place.path("repo").join(crate::pack::pack_key(*pack));
            if missing {
                fs::remove_file(&path).unwrap();
            } else {
                let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
                file.write_all_at(b"flipped", 100).unwrap();
            }
        }
        let bad: Vec<Id> = first.new_packs.iter().map(|(id, _)| *id).collect();
        let index = repository.load_index(&|id| !bad.contains(&id)).unwrap();
        backup(&repository, &index, &request, &Control::new()).unwrap();
        let owner = LockOwner { hostname: "test".into(), username: String::new() };
        prune(&repository, &owner, &PruneRequest::default(), &Control::new()).unwrap();
        place.restore_to(&repository, first.snapshot.unwrap(), "out").unwrap();
        assert_eq!(picture(&place.path("source")), picture(&place.path("out")));
        let report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
        assert_eq!(report.findings, [], "missing: {missing}");
    }
}

/// Some program may list a pack in parts, or twice. A prune that writes such index files anew loses no part.
#[test]
fn prune_keeps_every_blob_of_a_pack_that_is_listed_in_parts() {
    use crate::file::{Folder, list, write_json};
    use crate::index::{BlobText, IndexText, PackText, visit_index_file};

    let place = Place::new();
    for n in 0..30 {
        fs::write(place.path(&format!("source/{n}")), noise(n, 20_000)).unwrap();
    }
    let repository = place.init();
    let kept = place.back_up(&repository).snapshot.unwrap();
    let folder = Folder::Index;
    for (file, _) in list(repository.storage(), folder).unwrap() {
        let mut parts = [IndexText::default(), IndexText::default(), IndexText::default()];
        visit_index_file(&repository, file, &mut |pack| {
            let middle = pack.blobs.len() / 2;
            for (part, blobs) in
                parts.iter_mut().zip([&pack.blobs[..middle], &pack.blobs[middle..], &pack.blobs[..middle]])
            {
                let blobs = blobs.iter().map(BlobText::from).collect();
                part.packs.push(PackText { id: pack.id, blobs });
            }
            Ok(())
        })
        .unwrap();
        for part in &parts {
            write_json(&repository, folder, part).unwrap();
        }
        repository.storage().delete(&folder.key(file)).unwrap();
    }
    fs::write(place.path("source/more"), noise(99, 200_000)).unwrap();
    let gone = place.back_up(&repository).snapshot.unwrap();
    repository.delete_snapshot(gone).unwrap();
    let owner = LockOwner { hostname: "test".into(), username: String::new() };
    let report = prune(&repository, &owner, &PruneRequest::default(), &Control::new()).unwrap();
    assert!(report.packs_removed > 0);
    assert_eq!(list(repository.storage(), folder).unwrap().len(), 1, "small index files are joined");
    let report = check(&repository, CheckRequest { read_data: true }, &Control::new()).unwrap();
    assert_eq!(report.findings, []);
    fs::remove_file(place.path("source/more")).unwrap();
    place.restore_to(&repository, kept, "out").unwrap();
    assert_eq!(fs::read(place.path("source/7")).unwrap(), fs::read(place.path("out/7")).unwrap());
}
