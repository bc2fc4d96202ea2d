//! What comes back of a bucket: all, a part, or what changed.

use super::*;

fn whatever_a_bucket_holds_comes_back_with_all_that_belongs_to_it(scene: Scene) {
    let (content, component) = (scene.content(), scene.component("", 3));
    for (number, key) in KEYS.iter().enumerate() {
        scene.put(key, format!("content {number}").as_bytes());
    }
    let mut tags = vec![
        ("kept until".into(), scene.strange("2030 + later @ 1/2", "2030 + later : 1/2")),
        ("project".into(), "a=b".into()),
    ];
    tags.retain(|_| scene.kind != Kinds::Google);
    let headers = Headers {
        content_type: Some("image/tiff".into()),
        content_encoding: Some("identity".into()),
        content_language: Some("de".into()),
        content_disposition: Some("attachment; filename=\"a.tif\"".into()),
        cache_control: Some("max-age=60".into()),
        // S3 alone knows of it; Azure is choosy about tags and names, and Google has no tags.
        expires: (scene.kind == Kinds::S3).then(|| "Thu, 01 Dec 2050 16:00:00 GMT".into()),
        metadata: vec![("owner".into(), "somebody else".into()), (scene.strange("x-y", "x_y"), "1".into())],
        tags,
        ..Headers::default()
    };
    content.write("told/of", &headers, b"with headers".to_vec()).unwrap();
    content.write("empty", &headers, Vec::new()).unwrap();
    // More than one range of reading and more than one part of writing.
    let mut upload = content.upload("large", &headers).unwrap();
    let large = noise(37 << 20);
    large.chunks(6 << 20).for_each(|part| upload.part(part.to_vec()).unwrap());
    upload.end().unwrap();
    content.write("one part", &Headers::default(), noise(16 << 20)).unwrap();
    let before = scene.everything();
    assert_eq!(before.len(), KEYS.len() + 4);
    assert_eq!(before["told/of"].0.tags, headers.tags, "the server keeps them");

    let entry = scene.back_up("one", &component).unwrap();
    assert_eq!(entry.warnings, []);
    let part = &entry.components[0];
    assert_eq!((part.kind, part.facts.buckets.as_slice()), (Kind::ObjectStore, &[scene.bucket.clone()][..]));
    assert_eq!(
        (part.files, part.bytes),
        (before.len() as u64, before.values().map(|(_, b)| b.len() as u64).sum())
    );

    // Another content, other headers alone, gone, and new ones.
    scene.put("a/b", b"later");
    scene.put("told/of", b"with headers");
    for gone in ["a", "a//b", "large", "folder/"] {
        content.delete(gone).unwrap();
    }
    for new in ["new", "large/now a folder", "per%", "told/of/this"] {
        scene.put(new, b"new");
    }
    let vault = scene.store.open_vault(&entry, &world::passcode(PASSCODE)).unwrap();
    let index = vault.load_index(&|_| true).unwrap();
    let plan = component
        .plan(&vault, &index, part.snapshot, &Portion::default(), &Control::new(), &mut |_, _, _| Ok(()))
        .unwrap();
    let kept = before.len() as u64 - 6;
    assert_eq!((plan.made, plan.made_equal, plan.removed, plan.unchanged), (4, 2, 4, kept));
    let context = DrillContext {
        repository: &vault,
        index: &index,
        snapshot: part.snapshot,
        job_id: "a-drill",
        directory: &scene.dir.path().join("drills"),
        control: Control::new(),
    };
    let mut drilled = Drilled::default();
    component.drill(&context, &mut drilled).unwrap();
    assert_eq!((drilled.files, drilled.failures.as_slice()), (before.len() as u64, [].as_slice()));
    assert!(drilled.not_proven[1].contains("that a service takes the objects"), "{drilled:?}");
    let done = scene.restore("one", &component).unwrap();
    assert_eq!(done.files, before.len() as u64);
    let after = scene.everything();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (key, (headers, body)) in &before {
        assert_eq!(&after[key].0, headers, "{key}");
        assert!(&after[key].1 == body, "{key} has other content");
    }

    // What was put back is new to the service, and known for the same; but the tag of what was written in parts tells nothing,
    // and no tag does where each writing makes a new one.
    let unknown = if scene.kind == Kinds::Azure { 6 } else { 1 };
    let plan = component
        .plan(&vault, &index, part.snapshot, &Portion::default(), &Control::new(), &mut |_, _, _| Ok(()))
        .unwrap();
    assert_eq!((plan.made, plan.made_equal, plan.removed), (0, unknown, 0));
    let again = scene.back_up("two", &component).unwrap();
    assert!(again.bytes_added < 100_000, "{}", again.bytes_added);
}

fn a_prefix_alone_is_compared_replaced_and_put_back_and_all_else_stays_as_it_is(scene: Scene) {
    let component = scene.component("", 1);
    let old = [
        "photos/2026/a",
        "photos/2026/b",
        "photos/2026/c/d",
        "photos/2025/a",
        "photos/2026",
        "photos/20267",
        "logo",
    ];
    old.iter().for_each(|key| scene.put(key, b"old"));
    let entry = scene.back_up("b", &component).unwrap();
    let vault = scene.store.open_vault(&entry, &world::passcode(PASSCODE)).unwrap();
    let index = vault.load_index(&|_| true).unwrap();
    let snapshot = entry.components[0].snapshot;
    let damage = || {
        old.iter().for_each(|key| scene.put(key, b"newer"));
        scene.content().delete("photos/2026/b").unwrap();
        ["photos/2026/new", "photos/2025/new"].iter().for_each(|key| scene.put(key, b"new"));
        scene.everything()
    };
    let portion = |path: &str| Portion { paths: vec![path.to_owned()], into: None };
    let restored = |before: &Everything, prefix: &str| {
        let mut wanted = before.clone();
        wanted.retain(|key, _| !key.starts_with(prefix));
        wanted.extend(
            old.iter()
                .filter(|key| key.starts_with(prefix))
                .map(|key| ((*key).to_owned(), (Headers::default(), b"old".to_vec()))),
        );
        wanted.into_iter().map(|(key, (_, body))| (key, body)).collect::<Vec<_>>()
    };
    let bodies = || scene.everything().into_iter().map(|(key, (_, body))| (key, body)).collect::<Vec<_>>();
    let run = |path: &str| {
        let mut task = scene.task("b", &component);
        task.selection.portions = [(component.name().to_owned(), portion(path))].into();
        run_restore(&scene.store, &task, &Control::new(), &Silent, &|| Ok(()))
    };

    let before = damage();
    let mut planned = Vec::new();
    let plan = component
        .plan(&vault, &index, snapshot, &portion("photos/2026/"), &Control::new(), &mut |path, _, _| {
            planned.push(String::from_utf8(path.to_vec()).unwrap());
            Ok(())
        })
        .unwrap();
    assert_eq!(planned, ["photos/2026/a", "photos/2026/b", "photos/2026/c/d", "photos/2026/new"]);
    assert_eq!((plan.made, plan.made_equal, plan.removed, plan.unchanged), (1, 2, 1, 0));
    run("photos/2026/").unwrap();
    assert_eq!(bodies(), restored(&before, "photos/2026/"));
    run("logo").unwrap();
    assert_eq!(scene.everything()["logo"].1, b"old");
    assert_eq!(scene.everything()["photos/2025/a"].1, b"newer");

    // Taken back, or dead before the swap and after it.
    let before = damage();
    let stage = || world::stage(&scene.store, "b", &component, &portion("photos/2026/"));
    let mut staged = stage();
    staged.swap().unwrap();
    staged.abandon().unwrap();
    assert_eq!(scene.everything(), before);
    std::mem::forget(stage());
    assert_eq!(component.recover("a-restore", &portion("photos/2026/")).unwrap(), Recovered::Undone);
    assert_eq!(scene.everything(), before);
    let mut staged = stage();
    staged.swap().unwrap();
    std::mem::forget(staged);
    assert_eq!(component.recover("a-restore", &portion("photos/2026/")).unwrap(), Recovered::Finished);
    assert_eq!(bodies(), restored(&before, "photos/2026/"));

    let before = scene.everything();
    for path in ["photos/2027/", "photos/202", "logo/", "nothing"] {
        let error = run(path).unwrap_err();
        assert_eq!(error.kind, recovery::ErrorKind::ParameterInvalid, "{error}");
        assert!(error.message.contains("holds no object"), "{error}");
        component.check(&vault, &index, snapshot, &portion(path), &Control::new()).unwrap_err();
    }
    let named = Portion { into: Some("other".to_owned()), ..portion("logo") };
    let error = component.check(&vault, &index, snapshot, &named, &Control::new()).unwrap_err();
    assert!(error.message.contains("in its own place alone"), "{error}");
    assert_eq!(scene.everything(), before);
}

fn an_unchanged_object_is_not_read_again(scene: Scene) {
    let component = scene.component("", 3);
    // More than a page of a listing.
    let numbers: Vec<u32> = (0..1001).collect();
    repository::each(8, &numbers, |number| {
        scene.put(&format!("tile/{number}"), b"tile");
        Ok::<_, ()>(())
    })
    .unwrap();
    scene.back_up("one", &component).unwrap();
    scene.proxy.counts().reset();
    scene.back_up("two", &component).unwrap();
    assert!(scene.proxy.counts().requests() <= 3, "a listing: {:?}", scene.proxy.counts());
    scene.put("tile/7", b"other");
    scene.proxy.counts().reset();
    scene.back_up("three", &component).unwrap();
    assert!(scene.proxy.counts().requests() <= 4, "and the one: {:?}", scene.proxy.counts());
    assert_eq!(scene.store.backup("three").unwrap().unwrap().components[0].files, 1001);
}

fn below_a_prefix_everything_is_protected_and_nothing_else_is_touched(scene: Scene) {
    let component = scene.component("site/1", 3);
    for key in ["site/1/a", "site/1/b/c", "site/1", "site/10", "site/2/a", "other"] {
        scene.put(key, key.as_bytes());
    }
    let before = scene.everything();
    let entry = scene.back_up("one", &component).unwrap();
    assert_eq!(entry.components[0].files, 2);
    scene.content().delete("site/1/a").unwrap();
    scene.put("site/1/new", b"new");
    scene.restore("one", &component).unwrap();
    assert_eq!(scene.everything(), before);

    let error = scene.back_up("two", &scene.component("nowhere", 3)).unwrap_err();
    assert!(error.message.contains("nothing below") && error.message.contains("nowhere"), "{error}");
}

on_each_service! {
    whatever_a_bucket_holds_comes_back_with_all_that_belongs_to_it,
    a_prefix_alone_is_compared_replaced_and_put_back_and_all_else_stays_as_it_is,
    an_unchanged_object_is_not_read_again,
    below_a_prefix_everything_is_protected_and_nothing_else_is_touched,
}
