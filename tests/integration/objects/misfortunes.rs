//! What goes wrong while a bucket is read, or written to by somebody else.

use super::*;

fn an_object_that_changes_goes_or_is_refused_during_the_backup_is_told_and_the_rest_is_there(scene: Scene) {
    let component = scene.component("", 2);
    let long = noise(20 << 20);
    for key in ["changed", "changing", "forbidden", "gone", "calm"] {
        scene.put(key, if key == "changing" { &long } else { b"before" });
    }
    let (content, path) = (scene.content(), scene.path(""));
    scene.proxy.plan(move |request| {
        let is = |key: &str| request.method == "GET" && request.target.starts_with(&format!("{path}{key}"));
        let write = |key: &str, body: &[u8]| content.write(key, &Headers::default(), body.to_vec()).unwrap();
        let mut fate = Fate::default();
        if is("gone") {
            content.delete("gone").unwrap();
        } else if is("forbidden") {
            fate.fault = Fault::Status(403, "AccessDenied");
        } else if is("changed") && content.look("changed").unwrap().unwrap().size == 6 {
            write("changed", b"longer than before");
        } else if is("changing") {
            write("changing", &strongroom_tests::tree::noise(request.number, 20 << 20));
        }
        fate
    });
    let entry = scene.back_up("one", &component).unwrap();
    let mut told: Vec<_> = entry.warnings.iter().map(|warning| warning.item.as_str()).collect();
    told.sort_unstable();
    assert_eq!(told, ["changing", "forbidden"], "{:?}", entry.warnings);
    assert_eq!(entry.components[0].files, 2);
    scene.proxy.plan(|_| Fate::default());
    scene.restore("one", &component).unwrap();
    let expected = [("calm", &b"before"[..]), ("changed", b"longer than before")];
    let found = scene.everything();
    let found: Vec<_> = found.iter().map(|(key, (_, body))| (key.as_str(), &body[..])).collect();
    assert_eq!(found, expected);

    // Where nothing can be read there is no backup.
    let refused = scene.path("c");
    scene.proxy.plan(move |request| match request.target.starts_with(&refused) {
        true => Fate { fault: Fault::Status(403, "AccessDenied"), ..Fate::default() },
        false => Fate::default(),
    });
    scene.put("calm", b"now");
    scene.put("changed", b"now");
    let error = scene.back_up("two", &component).unwrap_err();
    assert!(
        error.message.contains("no object could be read") && error.message.contains("AccessDenied"),
        "{error}"
    );
}

fn a_bucket_that_is_gone_or_fails_is_an_error_and_never_an_empty_backup(mut scene: Scene) {
    scene.put("a", b"1");
    scene.proxy.plan(|request| match is_listing(&request.target) {
        true => Fate { fault: Fault::Status(503, "SlowDown"), ..Fate::default() },
        false => Fate::default(),
    });
    let error = scene.back_up("one", &scene.component("", 2)).unwrap_err();
    assert!(error.message.contains("SlowDown") && error.message.contains("tried 2 times"), "{error}");
    scene.proxy.plan(|_| Fate::default());
    scene.bucket = "no-such-bucket".to_owned();
    let error = scene.back_up("one", &scene.component("", 2)).unwrap_err();
    assert!(error.message.contains("is its name right?"), "{error}");
    assert!(scene.store.backup("one").unwrap().is_none());
}

fn a_bucket_that_goes_or_credentials_that_end_during_the_backup_fail_it(scene: Scene) {
    let component = scene.component("", 1);
    for key in ["a", "b", "c"] {
        scene.put(key, b"1");
    }
    // Whoever says that there is no such object and lists it all the same is not believed.
    let plan = |status, code, also_listing: bool, read: &'static str| {
        let listings = std::sync::atomic::AtomicUsize::new(0);
        scene.proxy.plan(move |request| {
            let is_listing = is_listing(&request.target);
            let first = is_listing && listings.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            let passes = first || (is_listing && !also_listing) || request.target.ends_with(read);
            match passes {
                true => Fate::default(),
                false => Fate { fault: Fault::Status(status, code), ..Fate::default() },
            }
        });
    };
    plan(404, "NoSuchKey", false, "/none");
    let error = scene.back_up("one", &component).unwrap_err();
    assert!(error.message.contains("the service lists it, and says that it is not there"), "{error}");
    plan(404, "NoSuchBucket", true, "/none");
    let error = scene.back_up("one", &component).unwrap_err();
    assert!(error.message.contains("is its name right?"), "{error}");
    // One is read before they end.
    plan(403, "ExpiredToken", true, "/a");
    let error = scene.back_up("one", &component).unwrap_err();
    assert!(error.message.contains("ExpiredToken"), "{error}");
    assert!(scene.store.backup("one").unwrap().is_none());
}

fn what_somebody_writes_during_a_restore_is_told_and_not_written_over_later(scene: Scene) {
    let component = scene.component("", 2);
    scene.put("a", b"old");
    scene.back_up("one", &component).unwrap();
    scene.put("a", b"new");
    let content = scene.content();
    scene.proxy.plan(move |request| {
        if request.target.contains("state/finished") && request.method == "PUT" {
            content.write("a", &Headers::default(), b"somebody else's".to_vec()).unwrap();
        }
        Fate::default()
    });
    let error = scene.restore("one", &component).unwrap_err();
    assert!(error.message.contains("somebody else writes"), "{error}");
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);
    assert_eq!(scene.everything()["a"].1, b"somebody else's");
}

fn an_object_whose_tags_cannot_be_read_is_there_without_them_and_is_named(scene: Scene) {
    if scene.kind == Kinds::Google {
        // It has no tags.
        return;
    }
    let component = scene.component("", 2);
    let headers = Headers { tags: vec![("a".into(), "b".into())], ..Headers::default() };
    scene.content().write("tagged", &headers, b"1".to_vec()).unwrap();
    scene.proxy.plan(|request| {
        match request.target.contains("tagging") || request.target.contains("comp=tags") {
            true => Fate { fault: Fault::Status(403, "AccessDenied"), ..Fate::default() },
            false => Fate::default(),
        }
    });
    let entry = scene.back_up("one", &component).unwrap();
    assert_eq!(entry.components[0].files, 1);
    assert!(entry.warnings[0].reason.contains("its tags could not be read"), "{:?}", entry.warnings);
}

on_each_service! {
    an_object_that_changes_goes_or_is_refused_during_the_backup_is_told_and_the_rest_is_there,
    a_bucket_that_is_gone_or_fails_is_an_error_and_never_an_empty_backup,
    a_bucket_that_goes_or_credentials_that_end_during_the_backup_fail_it,
    what_somebody_writes_during_a_restore_is_told_and_not_written_over_later,
    an_object_whose_tags_cannot_be_read_is_there_without_them_and_is_named,
}
