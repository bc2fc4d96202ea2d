//! What Azure alone has: blobs of other kinds, snapshots, leases, an archive, blocks that no blob is made of, and rights that
//! stand in an address.

use strongroom_tests::server::Launch;

use super::*;

fn azure(scene: &Scene) -> &Service {
    match &scene.server {
        Server::Process(service) => service,
        Server::Double(_) => panic!("it is no double"),
    }
}

fn kind(word: &str) -> Headers {
    Headers { blob_type: Some(word.to_owned()), content_type: Some("x/y".to_owned()), ..Headers::default() }
}

fn restored(scene: &Scene, before: &Everything) {
    let after = scene.everything();
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (key, (headers, body)) in before {
        assert_eq!(&after[key].0, headers, "{key}");
        assert!(&after[key].1 == body, "{key} has other content");
    }
}

#[test]
fn blobs_of_each_kind_come_back_as_what_they_were_and_are_put_back_so() {
    let Some(scene) = Scene::of(Kinds::Azure) else { return };
    let (content, component) = (scene.content(), scene.component("", 1));
    let mut disk = vec![0; 6 << 20];
    disk[5 << 20..].copy_from_slice(&noise(1 << 20));
    let log = noise(20 << 20);
    content.write("log", &kind("AppendBlob"), log.clone()).unwrap();
    content.write("disk", &kind("PageBlob"), disk.clone()).unwrap();
    content.write("no log", &kind("AppendBlob"), Vec::new()).unwrap();
    content.write("no disk", &kind("PageBlob"), Vec::new()).unwrap();
    scene.put("plain", b"blocks");
    let before = scene.everything();
    assert_eq!(before["log"].0.blob_type.as_deref(), Some("AppendBlob"));
    let entry = scene.back_up("b", &component).unwrap();
    assert_eq!(entry.warnings, []);

    // No copy makes one kind of another.
    for key in ["disk", "plain", "no log"] {
        content.delete(key).unwrap();
    }
    content.delete("log").unwrap();
    scene.put("disk", b"blocks by now");
    content.write("plain", &kind("PageBlob"), noise(512)).unwrap();
    content.write("new", &kind("AppendBlob"), b"appended".to_vec()).unwrap();
    let damaged = scene.everything();
    let mut staged = world::stage(&scene.store, "b", &component, &Portion::default());
    staged.swap().unwrap();
    staged.abandon().unwrap();
    restored(&scene, &damaged);
    scene.restore("b", &component).unwrap();
    restored(&scene, &before);
}

#[test]
fn what_is_lost_of_an_answer_appends_nothing_twice() {
    let Some(scene) = Scene::of(Kinds::Azure) else { return };
    let slow = ObjectStorage::content(&scene.place("", &scene.proxy.url(), 3)).unwrap();
    let lost = std::sync::atomic::AtomicBool::new(false);
    scene.proxy.plan(move |request| {
        let first =
            request.target.contains("appendblock") && !lost.swap(true, std::sync::atomic::Ordering::SeqCst);
        Fate { fault: if first { Fault::LoseAnswer } else { Fault::None }, ..Fate::default() }
    });
    slow.write("log", &kind("AppendBlob"), b"once".to_vec()).unwrap();
    assert_eq!(scene.everything()["log"].1, b"once");
}

#[test]
fn a_blob_that_cannot_be_put_back_stays_and_is_told() {
    let Some(scene) = Scene::of(Kinds::Azure) else { return };
    let component = scene.component("", 1);
    for key in ["kept", "changed"] {
        scene.put(key, b"old");
    }
    scene.back_up("b", &component).unwrap();
    scene.put("changed", b"new");
    for key in ["snapped", "snapped/below", "extra"] {
        scene.put(key, b"new");
    }
    let ask = |path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]| {
        let reply = azure(&scene).ask_azure("PUT", &format!("{}/{path}", scene.bucket), query, headers, b"");
        assert!((200..300).contains(&reply.status()), "{}", String::from_utf8_lossy(&reply.body));
    };
    ask("snapped", &[("comp", "snapshot")], &[]);
    let done = scene.restore("b", &component).unwrap();
    assert_eq!(scene.everything().keys().collect::<Vec<_>>(), ["changed", "kept", "snapped"]);
    assert_eq!(done.warnings.len(), 1, "{:?}", done.warnings);
    assert!(
        done.warnings[0].item == "snapped" && done.warnings[0].reason.contains("snapshots"),
        "{:?}",
        done.warnings
    );

    // Nor is what somebody holds written over.
    scene.put("changed", b"new");
    ask("changed", &[("comp", "lease")], &[("x-ms-lease-action", "acquire"), ("x-ms-lease-duration", "-1")]);
    let before = scene.everything();
    let error = scene.restore("b", &component).unwrap_err();
    assert!(error.message.contains("LeaseIdMissing"), "{error}");
    assert_eq!(scene.everything(), before);
}

#[test]
fn a_blob_in_the_archive_is_named_and_left_alone() {
    let Some(scene) = Scene::of(Kinds::Azure) else { return };
    let component = scene.component("", 1);
    scene.put("cold", b"1");
    scene.put("warm", b"1");
    let path = format!("{}/cold", scene.bucket);
    let reply =
        azure(&scene).ask_azure("PUT", &path, &[("comp", "tier")], &[("x-ms-access-tier", "Archive")], b"");
    assert_eq!(reply.status(), 200);
    let entry = scene.back_up("b", &component).unwrap();
    let told: Vec<_> = entry.warnings.iter().map(|warning| warning.item.as_str()).collect();
    assert_eq!((told, entry.components[0].files), (vec!["cold"], 1));
    let error = scene.content().read("cold", Some(0..1), &Default::default()).unwrap_err();
    assert!(error.reason.contains("BlobArchived"), "{error}");
    scene.put("warm", b"2");
    scene.restore("b", &component).unwrap();
    assert!(scene.content().look("cold").unwrap().is_some());
    assert_eq!(scene.content().read("warm", Some(0..1), &Default::default()).unwrap().body, b"1");
}

#[test]
fn blocks_that_no_blob_is_made_of_are_given_up() {
    let Some(scene) = Scene::of(Kinds::Azure) else { return };
    let content = scene.content();
    for key in ["area/half", "area/half of it", "elsewhere"] {
        content.upload(key, &Headers::default()).unwrap().part(noise(1 << 20)).unwrap();
    }
    scene.put("area/whole", b"1");
    let mut upload = content.upload("area/whole", &Headers::default()).unwrap();
    upload.part(b"more".to_vec()).unwrap();
    let listed = || {
        let query = [("comp", "list"), ("include", "uncommittedblobs"), ("restype", "container")];
        let reply = azure(&scene).ask_azure("GET", &scene.bucket, &query, &[], b"");
        let text = String::from_utf8(reply.body).unwrap();
        text.split("<Name>")
            .skip(1)
            .map(|rest| rest.split('<').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(listed(), ["area/half", "area/half of it", "area/whole", "elsewhere"]);
    assert_eq!(scene.everything().keys().collect::<Vec<_>>(), ["area/whole"]);
    content.abort_uploads("area/").unwrap();
    assert_eq!(listed(), ["area/whole", "elsewhere"]);
    assert_eq!(scene.everything()["area/whole"].1, b"1");
}

#[test]
fn a_copy_that_is_not_done_at_once_is_waited_for_and_one_that_fails_is_told() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    const STATUS: &str = "x-ms-copy-status";
    let Some(scene) = Scene::of(Kinds::Azure) else { return };
    scene.put("from", b"1");
    let mut place = scene.place("", &scene.proxy.url(), 2);
    place.options.limits.deadline = Duration::from_millis(300);
    let content = ObjectStorage::content(&place).unwrap();
    // What the service says of the copy, each time that it is asked; the last goes on.
    let copy = |said: &'static [Fault]| {
        let asked = AtomicUsize::new(0);
        scene.proxy.plan(move |request| {
            if request.method == "GET" || !request.target.ends_with("/to") {
                return Fate::default();
            }
            let number = asked.fetch_add(1, Ordering::SeqCst);
            Fate { fault: said[number.min(said.len() - 1)].clone(), ..Fate::default() }
        });
        content.copy("from", "to", 1, None)
    };
    const PENDING: Fault = Fault::Say(STATUS, "pending");
    scene.proxy.counts().reset();
    copy(&[PENDING, PENDING, PENDING, Fault::None]).unwrap();
    assert_eq!(scene.proxy.counts().requests(), 5, "a look, a copy, and three looks at it");
    assert_eq!(scene.everything()["to"].1, b"1");
    for (last, reason) in [
        (Fault::Say(STATUS, "failed"), "(failed)"),
        (Fault::Say("x-ms-copy-id", "another"), "somebody else"),
        (Fault::Status(404, "BlobNotFound"), "removed meanwhile"),
        (PENDING, "no headway"),
    ] {
        let said: &'static [Fault] = vec![PENDING, last].leak();
        let error = copy(said).unwrap_err();
        assert!(error.reason.contains(reason), "{error}");
    }
    // Another copy there has its end first.
    const BUSY: Fault = Fault::Status(409, "PendingCopyOperation");
    copy(&[BUSY, BUSY, PENDING, Fault::None, Fault::None]).unwrap();
    let error = copy(&[BUSY, BUSY, Fault::None]).unwrap_err();
    assert!(error.reason.contains("PendingCopyOperation"), "{error}");
    let changed = content.copy("from", "to", 1, Some("another")).unwrap_err();
    assert_eq!(changed.kind, storage::ErrorKind::Precondition, "{changed}");
    let gone = content.copy("nothing", "to", 1, None).unwrap_err();
    assert_eq!(gone.kind, storage::ErrorKind::NotFound, "{gone}");
}

#[test]
fn what_cannot_be_signed_is_refused_with_the_reason() {
    let Some(scene) = Scene::of(Kinds::Azure) else { return };
    let named =
        Headers { content_disposition: Some("attachment; filename=\"ä\"".into()), ..Headers::default() };
    let refused = scene.content().write("a", &named, Vec::new()).unwrap_err();
    assert_eq!(refused.kind, storage::ErrorKind::Invalid);
    assert!(refused.reason.contains("beyond ASCII"), "{refused}");
    let other = Headers { blob_type: Some("CloudBlob".into()), ..Headers::default() };
    let refused = scene.content().write("a", &other, Vec::new()).unwrap_err();
    assert!(refused.reason.contains("unknown kind 'CloudBlob'"), "{refused}");
    assert!(scene.everything().is_empty());
}

#[test]
fn rights_that_stand_in_an_address_suffice_and_are_told_nobody() {
    let Some(scene) = Scene::of(Kinds::Azure) else { return };
    let tagged = Headers { tags: vec![("a".into(), "b".into())], ..Headers::default() };
    scene.content().write("map/a", &tagged, b"old".to_vec()).unwrap();
    let site = Site::new(Options { log: "trace".to_owned(), ..Options::default() });
    let configuration = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(site.config(), configuration + &scene.lines("map", "")).unwrap();
    let signature = strongroom_tests::services::azure_sas();
    let environment = [("AZURE_ACCOUNT_NAME", AZURE_ACCOUNT), ("AZURE_ACCOUNT_SAS", &signature)];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let _server = site.start_as(&Launch { environment, ..Launch::default() });
    let client = site.client();
    client.register(&site);
    client.back_up("b");
    let before = scene.everything();
    scene.put("map/a", b"new");
    scene.put("map/new", b"new");
    client.completed(&client.restore("b").ok());
    assert_eq!(scene.everything(), before);
    let secret = signature.rsplit_once("sig=").unwrap().1;
    let told = [site.log(), site.replies()].concat();
    assert!(!told.contains(secret), "a signature is told");
}
