//! Buckets as content, on a real S3 server: what comes back is what was there, whatever its keys, headers and misfortunes.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use components::{Component, DrillContext, Drilled, Hooks, ObjectStoreSettings, Portion, Recovered};
use recovery::store::{CatalogueEntry, Store};
use recovery::work::{RestoreDone, RestoreTask, run_restore};
use recovery::{Cost, Kind, Selection};
use repository::Control;
use secrecy::SecretString;
use storage::{
    Content, Credentials, Headers, Limits, ObjectOptions, ObjectPlace, ObjectStorage, Service as Kinds,
};
use strongroom_tests::proxy::{Fate, Fault, Proxy};
use strongroom_tests::server::{Options, Site};
use strongroom_tests::services::{ACCESS_KEY, SECRET_KEY, Service};
use tempfile::TempDir;

use crate::world::{self, PASSCODE, Silent};

/// Keys that are names of no files, beside each other.
const KEYS: [&str; 20] = [
    "a",
    "a/b",
    "a/",
    "a//b",
    "/first",
    "folder/",
    "folder/in it",
    "sp ace + plus",
    "per%cent",
    "per%25cent",
    "%2F",
    "a%",
    "a-b",
    "a.b",
    "ä/ö/ü",
    "quote'\"<&>",
    "a/b/c",
    "x?y=z#w",
    "tab\tand",
    "~!@$^*()_=[]{}|;:,.",
];

/// A server, a bucket, a store, and a way from one to the other.
struct Scene {
    service: Service,
    proxy: Proxy,
    bucket: String,
    store: Store,
    dir: TempDir,
}

type Everything = BTreeMap<String, (Headers, Vec<u8>)>;

impl Scene {
    fn new() -> Option<Self> {
        let service = Service::s3()?;
        let (proxy, bucket) = (Proxy::start(service.address()), service.bucket());
        let dir = TempDir::with_prefix("strongroom-").unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let storage = world::directory(&dir.path().join("store"));
        let (store, _) = Store::create_or_adopt(storage, "store", Cost::FAST).unwrap();
        store.claim("test/1").unwrap();
        Some(Self { service, proxy, bucket, store, dir })
    }

    fn place(&self, prefix: &str, endpoint: String, attempts: u32) -> ObjectPlace {
        let credentials = Credentials::AccessKey {
            id: ACCESS_KEY.to_owned(),
            secret: SecretString::from(SECRET_KEY),
            session_token: None,
        };
        // What is large enough is copied in parts.
        let silence = Duration::from_secs(5);
        let limits = Limits { attempts, parallel: 4, silence, copy_part_bytes: 8 << 20, ..Limits::default() };
        let options =
            ObjectOptions { endpoint: Some(endpoint), credentials, limits, ..ObjectOptions::default() };
        ObjectPlace::new(Kinds::S3, &self.bucket, prefix, options).unwrap()
    }

    /// The bucket by itself, past the proxy.
    fn content(&self) -> Arc<dyn Content> {
        ObjectStorage::content(&self.place("", self.service.url(), 3)).unwrap()
    }

    fn component(&self, prefix: &str, attempts: u32) -> Arc<dyn Component> {
        let place = self.place(prefix, self.proxy.url(), attempts);
        let settings = ObjectStoreSettings {
            name: "uploads".to_owned(),
            place,
            optional: false,
            hooks: Hooks::default(),
        };
        components::object_store(settings).unwrap()
    }

    fn put(&self, key: &str, body: &[u8]) {
        self.content().write(key, &Headers::default(), body.to_vec()).unwrap();
    }

    fn everything(&self) -> Everything {
        let (content, mut found) = (self.content(), Everything::new());
        content
            .list("", &mut |entry| {
                let range = (entry.size > 0).then_some(0..entry.size);
                let read = content.read(&entry.key, range, &Default::default())?;
                assert_eq!(read.body.len() as u64, entry.size);
                assert!(found.insert(entry.key, (read.object.headers, read.body)).is_none());
                Ok(())
            })
            .unwrap();
        found
    }

    fn back_up(&self, name: &str, component: &Arc<dyn Component>) -> recovery::Result<CatalogueEntry> {
        let mut task = world::task(name, PASSCODE, Path::new("/nowhere"));
        task.components = vec![Arc::clone(component)];
        world::back_up(&self.store, &task)
    }

    fn task(&self, name: &str, component: &Arc<dyn Component>) -> RestoreTask {
        RestoreTask {
            job_id: "a-restore".to_owned(),
            name: name.to_owned(),
            store_name: "store".to_owned(),
            passcode: world::passcode(PASSCODE),
            components: vec![Arc::clone(component)],
            selection: Selection::default(),
        }
    }

    fn restore(&self, name: &str, component: &Arc<dyn Component>) -> recovery::Result<RestoreDone> {
        run_restore(&self.store, &self.task(name, component), &Control::new(), &Silent, &|| Ok(()))
    }
}

fn noise(length: usize) -> Vec<u8> {
    strongroom_tests::tree::noise(7, length)
}

#[test]
fn whatever_a_bucket_holds_comes_back_with_all_that_belongs_to_it() {
    let Some(scene) = Scene::new() else { return };
    let (content, component) = (scene.content(), scene.component("", 3));
    for (number, key) in KEYS.iter().enumerate() {
        scene.put(key, format!("content {number}").as_bytes());
    }
    let headers = Headers {
        content_type: Some("image/tiff".into()),
        content_encoding: Some("identity".into()),
        content_language: Some("de".into()),
        content_disposition: Some("attachment; filename=\"a.tif\"".into()),
        cache_control: Some("max-age=60".into()),
        expires: Some("Thu, 01 Dec 2050 16:00:00 GMT".into()),
        metadata: vec![("owner".into(), "somebody else".into()), ("x-y".into(), "1".into())],
        tags: vec![("kept until".into(), "2030 + later @ 1/2".into()), ("project".into(), "a=b".into())],
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

    // What was put back is new to the service, and known for the same; but the tag of what was written in parts tells nothing.
    let plan = component
        .plan(&vault, &index, part.snapshot, &Portion::default(), &Control::new(), &mut |_, _, _| Ok(()))
        .unwrap();
    assert_eq!((plan.made, plan.made_equal, plan.removed), (0, 1, 0));
    let again = scene.back_up("two", &component).unwrap();
    assert!(again.bytes_added < 100_000, "{}", again.bytes_added);
}

#[test]
fn a_prefix_alone_is_compared_replaced_and_put_back_and_all_else_stays_as_it_is() {
    let Some(scene) = Scene::new() else { return };
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

#[test]
fn an_unchanged_object_is_not_read_again() {
    let Some(scene) = Scene::new() else { return };
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

#[test]
fn below_a_prefix_everything_is_protected_and_nothing_else_is_touched() {
    let Some(scene) = Scene::new() else { return };
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

#[test]
fn an_object_that_changes_goes_or_is_refused_during_the_backup_is_told_and_the_rest_is_there() {
    let Some(scene) = Scene::new() else { return };
    let component = scene.component("", 2);
    let long = noise(20 << 20);
    for key in ["changed", "changing", "forbidden", "gone", "calm"] {
        scene.put(key, if key == "changing" { &long } else { b"before" });
    }
    let (content, bucket) = (scene.content(), scene.bucket.clone());
    scene.proxy.plan(move |request| {
        let is =
            |key: &str| request.method == "GET" && request.target.starts_with(&format!("/{bucket}/{key}"));
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
    let refused = format!("/{}/c", scene.bucket);
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

#[test]
fn a_bucket_that_is_gone_or_fails_is_an_error_and_never_an_empty_backup() {
    let Some(mut scene) = Scene::new() else { return };
    scene.put("a", b"1");
    scene.proxy.plan(|request| match request.target.contains("list-type") {
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

#[test]
fn a_bucket_that_goes_or_credentials_that_end_during_the_backup_fail_it() {
    let Some(scene) = Scene::new() else { return };
    let component = scene.component("", 1);
    for key in ["a", "b", "c"] {
        scene.put(key, b"1");
    }
    // Whoever says that there is no such object and lists it all the same is not believed.
    let plan = |status, code, also_listing: bool, read: &'static str| {
        let listings = std::sync::atomic::AtomicUsize::new(0);
        scene.proxy.plan(move |request| {
            let is_listing = request.target.contains("list-type");
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

#[test]
fn what_somebody_writes_during_a_restore_is_told_and_not_written_over_later() {
    let Some(scene) = Scene::new() else { return };
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

#[test]
fn a_restore_that_is_taken_back_leaves_the_bucket_as_before_also_if_the_line_ends_meanwhile() {
    let Some(scene) = Scene::new() else { return };
    let component = scene.component("", 1);
    for key in ["kept", "changed", "removed"] {
        scene.put(key, b"old");
    }
    scene.back_up("b", &component).unwrap();
    scene.put("changed", b"new");
    scene.content().delete("removed").unwrap();
    scene.put("added", b"new");
    let before = scene.everything();
    let swapped = || {
        let mut staged = world::stage(&scene.store, "b", &component, &Portion::default());
        staged.swap().unwrap();
        assert_eq!(scene.content().look("added").unwrap().map(|found| found.size), None);
        staged
    };
    swapped().abandon().unwrap();
    assert_eq!(scene.everything(), before);
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);

    // It ends as soon as it is known that all is to be taken back.
    let staged = swapped();
    let known = std::sync::atomic::AtomicBool::new(false);
    scene.proxy.plan(move |request| {
        let fault =
            if known.load(std::sync::atomic::Ordering::SeqCst) { Fault::ResetBefore } else { Fault::None };
        known.fetch_or(request.target.contains("state/undoing"), std::sync::atomic::Ordering::SeqCst);
        Fate { fault, ..Fate::default() }
    });
    staged.abandon().unwrap_err();
    scene.proxy.plan(|_| Fate::default());
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Undone);
    assert_eq!(scene.everything(), before);
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);
}

#[test]
fn a_restore_that_has_nothing_to_change_may_die_too() {
    let Some(scene) = Scene::new() else { return };
    let component = scene.component("", 1);
    scene.put("a", b"1");
    scene.back_up("one", &component).unwrap();
    // The line ends once the swap has begun.
    let begun = std::sync::atomic::AtomicBool::new(false);
    scene.proxy.plan(move |request| {
        let fault =
            if begun.load(std::sync::atomic::Ordering::SeqCst) { Fault::ResetBefore } else { Fault::None };
        begun.fetch_or(request.target.contains("state/swapping"), std::sync::atomic::Ordering::SeqCst);
        Fate { fault, ..Fate::default() }
    });
    scene.restore("one", &component).unwrap_err();
    scene.proxy.plan(|_| Fate::default());
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Finished);
    assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);
    assert_eq!(scene.everything().len(), 1);
}

#[test]
fn an_object_whose_tags_cannot_be_read_is_there_without_them_and_is_named() {
    let Some(scene) = Scene::new() else { return };
    let component = scene.component("", 2);
    let headers = Headers { tags: vec![("a".into(), "b".into())], ..Headers::default() };
    scene.content().write("tagged", &headers, b"1".to_vec()).unwrap();
    scene.proxy.plan(|request| match request.target.contains("tagging") {
        true => Fate { fault: Fault::Status(403, "AccessDenied"), ..Fate::default() },
        false => Fate::default(),
    });
    let entry = scene.back_up("one", &component).unwrap();
    assert_eq!(entry.components[0].files, 1);
    assert!(entry.warnings[0].reason.contains("its tags could not be read"), "{:?}", entry.warnings);
}

#[test]
fn a_restore_that_dies_at_any_request_leaves_the_bucket_as_before_or_as_after() {
    let Some(scene) = Scene::new() else { return };
    let component = scene.component("", 1);
    let reset = || {
        for (key, _) in scene.everything() {
            scene.content().delete(&key).unwrap();
        }
        for key in ["kept", "changed", "removed"] {
            scene.put(key, b"old");
        }
    };
    let damage = || {
        scene.put("changed", b"new");
        scene.content().delete("removed").unwrap();
        scene.put("added", b"new");
        scene.everything()
    };
    reset();
    let before = scene.everything();
    scene.back_up("b", &component).unwrap();
    damage();
    scene.proxy.counts().reset();
    scene.restore("b", &component).unwrap();
    let requests = scene.proxy.counts().requests();
    assert_eq!(scene.everything(), before);
    let (mut undone, mut finished) = (0, 0);
    for last in 1..=requests {
        let damaged = damage();
        scene.proxy.counts().reset();
        // This request is carried out, and nobody hears of it, nor of any other.
        scene.proxy.plan(move |request| {
            let fault = match request.number.cmp(&last) {
                std::cmp::Ordering::Less => Fault::None,
                std::cmp::Ordering::Equal => Fault::LoseAnswer,
                std::cmp::Ordering::Greater => Fault::ResetBefore,
            };
            Fate { fault, ..Fate::default() }
        });
        let outcome = scene.restore("b", &component);
        scene.proxy.plan(|_| Fate::default());
        let recovered = component.recover("a-restore", &Portion::default()).unwrap();
        let now = scene.everything();
        match recovered {
            Recovered::Finished => {
                assert_eq!(now, before, "{last}");
                finished += 1;
            }
            _ if outcome.is_ok() => assert_eq!(now, before, "{last}"),
            _ => {
                // Either the trace went last, after all was done, or nothing was.
                assert!(now == damaged || (last + 2 > requests && now == before), "{last}: {recovered:?}");
                undone += 1;
            }
        }
        assert_eq!(component.recover("a-restore", &Portion::default()).unwrap(), Recovered::Nothing);
        scene.restore("b", &component).unwrap();
        assert_eq!(scene.everything(), before, "{last}");
    }
    assert!(undone > 0 && finished > 0, "{undone} {finished}");
}

#[test]
fn buckets_are_backed_up_and_restored_over_the_interface_and_their_keys_are_told_nobody() {
    let Some(scene) = Scene::new() else { return };
    scene.put("map/tile 1", b"one");
    let secret = TempDir::with_prefix("strongroom-").unwrap();
    let file = secret.path().join("secret");
    std::fs::write(&file, format!("{SECRET_KEY}\n")).unwrap();
    let component = format!(
        "[[component]]\nkind = \"objectStore\"\nname = \"uploads\"\nurl = \"s3://{}/map\"\nendpoint = \"{}\"\n\
         access_key_id = \"{ACCESS_KEY}\"\nsecret_access_key_file = \"{}\"\n",
        scene.bucket,
        scene.service.url(),
        file.display()
    );
    let site = Site::new(Options { configuration: component, log: "trace".to_owned(), ..Options::default() });
    let _server = site.start();
    let client = site.client();
    client.register(&site);
    client.back_up("b");
    let entry = client.dr_get("stores/s1/backups/b").ok();
    let store = &entry["objectStore"][0];
    assert_eq!((&store["name"], &store["buckets"][0]), (&"uploads".into(), &scene.bucket.as_str().into()));
    assert_eq!((&store["files"], &store["bytes"]), (&1.into(), &3.into()));
    // A restore would take what lies in a store there for objects that should not be there.
    let inside = serde_json::json!({"type": "S3", "provider": {"name": "AWS", "cloudServices": [{
        "name": "AWS S3", "type": "objectStore", "usage": "BACKUP", "category": "storage", "connection": {
            "bucketName": scene.bucket, "region": "us-east-1", "rootDir": "map/backups", "endpointUrl": scene.service.url(),
            "credential": {"type": "ACCESS-KEY", "secret": {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}}}}]}});
    let inside = [("storeName", "inside"), ("settings", &inside.to_string())];
    let refused = client.dr_post("stores/register", &inside).refused(400, "PARAM_INVALID");
    assert!(refused.text.contains("lie inside each other"));
    assert!(store["clusterID"].as_str().unwrap().ends_with(&format!("/{}/map", scene.bucket)), "{store}");

    scene.content().delete("map/tile 1").unwrap();
    scene.put("map/later", b"not in the backup");
    std::fs::write(site.content().join("later"), "not in the backup").unwrap();
    let planned = client
        .dr_post(
            "stores/s1/backups/b/restore",
            &[("passcode", strongroom_tests::server::PASSCODE), ("validateOnly", "true")],
        )
        .ok();
    assert_eq!(planned["isReady"], true, "{planned}");
    client.completed(&client.restore("b").ok());
    assert_eq!(scene.everything().keys().collect::<Vec<_>>(), ["map/tile 1"]);
    assert!(!site.content().join("later").exists());
    let told = [site.log(), site.replies()].concat();
    assert!(!told.contains(SECRET_KEY), "a secret is told");
}
