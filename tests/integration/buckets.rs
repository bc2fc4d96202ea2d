//! The product on object stores: commands and server against a real S3 server, with stock restic on the same bucket.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use strongroom_tests::client::{Client, Reply};
use strongroom_tests::google::Google;
use strongroom_tests::proxy::{Fate, Fault, Proxy};
use strongroom_tests::server::{Options, PASSCODE as SERVER_PASSCODE, Site};
use strongroom_tests::services::{ACCESS_KEY, AZURE_ACCOUNT, AZURE_KEY, SECRET_KEY, Service};
use strongroom_tests::tree::{Picture, noise};

use crate::command::{PASSCODE, Place, Ran, restic, run, strongroom};

pub fn with_keys(command: &mut Command) -> &mut Command {
    for name in ["AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_SESSION_TOKEN"] {
        command.env_remove(name);
    }
    command
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_REGION", "us-east-1")
}

/// `strongroom repo …` on a bucket, with keys in the environment.
pub fn repo(url: &str, arguments: &[&str]) -> Ran {
    let mut all = vec!["repo", "--repository", url, "--no-cache"];
    all.extend(arguments);
    run(with_keys(&mut strongroom(all)))
}

fn restic_on(place: &Place, url: &str, arguments: &[&str]) -> Ran {
    run(with_keys(&mut place.restic_on(&restic(), Path::new(url), arguments)))
}

pub fn small_tree(at: &Path) {
    for i in 0..40 {
        let dir = at.join(format!("d{}", i % 5));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("file {i}")), noise(i as u64, i * 1013)).unwrap();
    }
}

#[test]
fn restic_and_strongroom_read_each_others_repositories_in_one_bucket() {
    let Some(server) = Service::s3() else { return };
    let bucket = server.bucket();
    let place = Place::new();
    let source = place.path("source");
    small_tree(&source);
    let before = Picture::take(&source);
    let text = source.to_str().unwrap();

    let ours = format!("s3:{}/{bucket}/ours", server.url());
    repo(&ours, &["init"]).expect(0);
    repo(&ours, &["init"]).expect(1);
    repo(&ours, &["backup", text]).expect(0);
    restic_on(&place, &ours, &["check", "--read-data"]).expect(0).expect_text("no errors were found");
    let target = place.path("by-restic");
    restic_on(&place, &ours, &["restore", "latest", "--target", target.to_str().unwrap()]).expect(0);
    before.assert_same(&Picture::take(&target.join(text.trim_start_matches('/'))), "restored by restic");
    restic_on(&place, &ours, &["backup", text]).expect(0);

    let theirs = format!("s3:{}/{bucket}/theirs", server.url());
    restic_on(&place, &theirs, &["init"]).expect(0);
    restic_on(&place, &theirs, &["backup", text]).expect(0);
    // The other form of the same place.
    let same = format!("s3://{bucket}/theirs?endpoint={}", server.url());
    repo(&same, &["check", "--read-data"]).expect(0);
    let target = place.path("by-us");
    repo(&theirs, &["restore", "latest", "--verify", "--target", target.to_str().unwrap()]).expect(0);
    before.assert_same(&Picture::take(&target.join(text.trim_start_matches('/'))), "restored by us");
    repo(&theirs, &["backup", text]).expect(0);
    repo(&theirs, &["forget", "--keep-last", "1", "--prune"]).expect(0);
    restic_on(&place, &theirs, &["check", "--read-data"]).expect(0);

    // What is not there is said to be not there, and nobody's rights are nobody's.
    repo(&format!("s3:{}/no-such-bucket/x", server.url()), &["snapshots"]).expect(10);
    repo(&format!("s3:{}/{bucket}/nothing", server.url()), &["snapshots"]).expect(10);
    repo("s3:http://192.0.2.1/bucket/x", &["snapshots"]).expect(2).expect_text("allow_http");
}

/// Work through a slow line that fails now and then. `STRONGROOM_TEST_MIB` says how much is moved.
#[test]
fn a_slow_line_that_fails_now_and_then_is_enough() {
    let Some(server) = Service::s3() else { return };
    let proxy = Proxy::start(server.address());
    proxy.plan(|request| {
        // One of twenty, in turn in each way.
        let fault = match (request.number % 20, request.number / 20 % 3) {
            (7, 0) => Fault::Status(500, "InternalError"),
            (7, 1) => Fault::ResetBefore,
            (7, _) => Fault::LoseAnswer,
            _ => Fault::None,
        };
        Fate { delay: Duration::from_millis(200), fault }
    });
    let mib: usize = std::env::var("STRONGROOM_TEST_MIB").ok().and_then(|mib| mib.parse().ok()).unwrap_or(64);
    let place = Place::new();
    let source = place.path("source");
    small_tree(&source);
    for i in 0..mib.div_ceil(64) {
        fs::write(source.join(format!("large {i}")), noise(99 + i as u64, mib.min(64) << 20)).unwrap();
    }
    let before = Picture::take(&source);
    let url = format!("s3:{}/{}/slow", proxy.url(), server.bucket());
    let target = place.path("target");
    let steps: [(&str, Vec<&str>); 4] = [
        ("init", vec!["init"]),
        ("backup", vec!["backup", source.to_str().unwrap()]),
        ("check", vec!["check", "--read-data"]),
        ("restore", vec!["restore", "latest", "--target", target.to_str().unwrap()]),
    ];
    for (name, arguments) in steps {
        proxy.counts().reset();
        let since = std::time::Instant::now();
        repo(&url, &arguments).expect(0);
        let counts = proxy.counts();
        println!(
            "{name} of {mib} MiB: {:.1} s, {} requests {:?}, {} of them failed, {} at once at most",
            since.elapsed().as_secs_f64(),
            counts.requests(),
            counts.by_method.lock().unwrap(),
            counts.failed(),
            counts.most_at_once()
        );
        assert!(counts.most_at_once() <= 16, "more requests at once than are allowed");
    }
    let restored = target.join(source.strip_prefix("/").unwrap());
    before.assert_same(&Picture::take(&restored), "through the slow line");
}

fn settings(url: &str, bucket: &str, prefix: &str) -> String {
    json!({
        "type": "S3",
        "provider": {"name": "AWS", "cloudServices": [{
            "name": "AWS S3", "type": "objectStore", "usage": "BACKUP", "category": "storage",
            "connection": {
                "bucketName": bucket, "region": "us-east-1", "rootDir": prefix, "endpointUrl": url,
                "credential": {"type": "ACCESS-KEY", "secret": {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}},
            },
        }]},
    })
    .to_string()
}

fn register(client: &Client, name: &str, settings: &str, others: &[(&str, &str)]) -> Reply {
    let mut fields = vec![("storeName", name), ("settings", settings)];
    fields.extend(others);
    client.dr_post("stores/register", &fields)
}

#[test]
fn a_server_backs_up_into_a_bucket_and_restores_from_it() {
    let Some(service) = Service::s3() else { return };
    let bucket = service.bucket();
    let site = Site::new(Options::default());
    small_tree(&site.content());
    let before = Picture::take(&site.content());
    let mut running = site.start();
    let client = running.client();

    let made = settings(&service.url(), &bucket, "site1");
    let reply = register(&client, "s1", &made, &[("isDefault", "true")]).ok();
    assert_eq!((&reply["type"], &reply["rootDir"]), (&json!("S3"), &json!("site1")));
    register(&client, "s2", &settings(&service.url(), &bucket, "site1/inside"), &[])
        .refused(409, "DR_LOCATION_IN_USE");
    let listed = client.dr_get("stores").ok()["backupStores"][0].clone();
    for (key, value) in [
        ("bucketName", bucket.as_str()),
        ("region", "us-east-1"),
        ("credentialType", "ACCESS-KEY"),
        ("providerID", "AWS"),
    ] {
        assert_eq!(listed[key], json!(value), "{listed}");
    }
    assert_eq!(client.dr_post("stores/s1/validate", &[]).ok()["isReady"], json!(true));
    client.back_up("b1");
    fs::remove_dir_all(site.content().join("d1")).unwrap();
    fs::write(site.content().join("d2/file 2"), "changed").unwrap();
    running.stop();

    // The credential outlives the server, sealed.
    let mut running = site.start();
    let client = running.client();
    let accepted = client.restore("b1").ok();
    client.completed(&accepted);
    before.assert_same(&Picture::take(&site.content()), "restored from the bucket");

    // A registration as a job carries its credential sealed too, and loses it in the end.
    let other = settings(&service.url(), &bucket, "site2");
    let accepted = register(&client, "s2", &other, &[("async", "true")]).ok();
    client.completed(&accepted);
    assert_eq!(client.dr_post("stores/s2/validate", &[]).ok()["isReady"], json!(true));

    // Another credential is taken once it has opened the store.
    let wanted = json!({"credential": {"type": "ACCESS-KEY", "secret": {"accessKey": "AKIAOTHER", "secretKey": SECRET_KEY}}});
    client.dr_post("stores/s2/update", &[("settings", &wanted.to_string())]).ok();
    let wanted = json!({"credential": {"type": "STORAGE-ACCOUNT-KEY", "secret": {}}});
    client.dr_post("stores/s2/update", &[("settings", &wanted.to_string())]).refused(400, "PARAM_INVALID");

    running.stop();
    assert!(!site.replies().contains(SECRET_KEY) && !site.log().contains(SECRET_KEY));
    assert_nowhere_below(&site.data(), SECRET_KEY.as_bytes());

    // Without a server: bucket and passcode suffice.
    let url = format!("s3:{}/{bucket}/site1", service.url());
    let target = site.root().join("rescued");
    let rescue = |arguments: &[&str]| {
        let mut all = vec!["rescue"];
        all.extend(arguments);
        all.extend(["--store", &url]);
        let mut command = strongroom(all);
        command.env("STRONGROOM_PASSCODE", SERVER_PASSCODE);
        run(with_keys(&mut command))
    };
    rescue(&["backups"]).expect(0).expect_text("b1");
    rescue(&["verify", "--backup", "b1"]).expect(0);
    let to = target.to_str().unwrap();
    rescue(&["restore", "--backup", "b1", "--component", "content", "--target", to]).expect(0);
    assert_ne!(PASSCODE, SERVER_PASSCODE);
}

/// Registers, backs up, restores and takes the store up again after a restart, whatever service it is.
fn serves_a_deployment(settings: &Value, expected: &[(&str, &str)], secret: &str) {
    let site = Site::new(Options::default());
    small_tree(&site.content());
    let before = Picture::take(&site.content());
    let mut running = site.start();
    let client = running.client();
    let reply = register(&client, "s1", &settings.to_string(), &[("isDefault", "true")]).ok();
    assert_eq!((&reply["type"], &reply["rootDir"]), (&settings["type"], &json!("site1")));
    let listed = client.dr_get("stores").ok()["backupStores"][0].clone();
    for (key, value) in expected {
        assert_eq!(listed[key], json!(value), "{listed}");
    }
    assert_eq!(client.dr_post("stores/s1/validate", &[]).ok()["isReady"], json!(true));
    client.back_up("b1");
    fs::remove_dir_all(site.content().join("d1")).unwrap();
    fs::write(site.content().join("d2/file 2"), "changed").unwrap();
    running.stop();
    let mut running = site.start();
    let client = running.client();
    client.completed(&client.restore("b1").ok());
    before.assert_same(&Picture::take(&site.content()), "restored");
    let read = [("passcode", SERVER_PASSCODE), ("readData", "true")];
    client.completed(&client.dr_post("stores/s1/backups/b1/validate", &read).ok());
    client.delete("b1").ok();
    client.dr_post("stores/s1/unregister", &[]).ok();
    running.stop();
    assert!(!site.replies().contains(secret) && !site.log().contains(secret));
    assert_nowhere_below(&site.data(), secret.as_bytes());
}

#[test]
fn a_server_backs_up_into_azure_blob_storage_and_restores_from_it() {
    let Some(service) = Service::azure() else { return };
    service.container("dr-1");
    let settings = json!({"type": "AZURE_BLOBSTORE", "provider": {"name": "AZURE", "cloudServices": [{
        "name": "Azure Blob Storage", "type": "objectStore", "usage": "BACKUP", "category": "storage",
        "connection": {
            "containerName": "dr-1", "rootDir": "site1", "allowHttp": true,
            "accountEndpointUrl": format!("{}/{AZURE_ACCOUNT}", service.url()),
            "credential": {"type": "STORAGE-ACCOUNT-KEY", "secret": {
                "storageAccountName": AZURE_ACCOUNT, "storageAccountKey": AZURE_KEY,
            }},
        },
    }]}});
    let expected =
        [("containerName", "dr-1"), ("credentialType", "STORAGE-ACCOUNT-KEY"), ("providerID", "AZURE")];
    serves_a_deployment(&settings, &expected, AZURE_KEY);
}

#[test]
fn a_server_backs_up_into_a_double_of_google_storage_and_restores_from_it() {
    let service = Google::default();
    let secret = "planted-private-key";
    let account =
        service.account().replace("\"private_key\":\"none\"", &format!("\"private_key\":\"{secret}\""));
    let settings = json!({"type": "GOOGLE_CLOUD_STORAGE", "provider": {"name": "GCP", "cloudServices": [{
        "name": "Google Cloud Storage", "type": "objectStore", "usage": "BACKUP", "category": "storage",
        "connection": {
            "bucketName": "bucket", "rootDir": "site1", "allowHttp": true, "endpointUrl": service.url(),
            "credential": {"type": "SERVICE-ACCOUNT", "secret": {"key": account}},
        },
    }]}});
    let expected = [("bucketName", "bucket"), ("credentialType", "SERVICE-ACCOUNT"), ("providerID", "GCP")];
    serves_a_deployment(&settings, &expected, secret);
}

#[test]
fn a_store_is_copied_into_a_bucket_and_back_and_restores_from_each() {
    let Some(service) = Service::s3() else { return };
    let site = Site::new(Options::default());
    small_tree(&site.content());
    let before = Picture::take(&site.content());
    let mut running = site.start();
    running.client().register(&site);
    running.client().back_up("b1");
    running.stop();
    let original = site.store().display().to_string();
    let bucket = format!("s3:{}/{}/copy", service.url(), service.bucket());
    let back = site.root().join("back");
    fs::create_dir(&back).unwrap();
    let back = back.display().to_string();
    let rescue = |store: &str, arguments: &[&str]| {
        let mut all = vec!["rescue"];
        all.extend(arguments);
        all.extend(["--store", store]);
        let mut command = strongroom(all);
        command.env("STRONGROOM_PASSCODE", SERVER_PASSCODE);
        run(with_keys(&mut command))
    };
    rescue(&original, &["replicate", "--to", &bucket]).expect(0).expect_text("1 backup copied");
    rescue(&original, &["replicate", "--to", &bucket]).expect(0).expect_text("1 unchanged");
    rescue(&bucket, &["replicate", "--to", &back]).expect(0).expect_text("1 backup copied");
    for (store, target) in [(&bucket, "from-bucket"), (&back, "from-back")] {
        rescue(store, &["verify", "--scrub"]).expect(0);
        let target = site.root().join(target);
        let to = target.to_str().unwrap();
        rescue(store, &["restore", "--backup", "b1", "--component", "content", "--target", to]).expect(0);
        before.assert_same(&Picture::take(&target), store);
    }
    // Another store's copy is not overwritten, and a bucket that is not there is said to be so.
    let other = Site::new(Options::default());
    let mut running = other.start();
    running.client().register(&other);
    running.client().back_up("b2");
    running.stop();
    let refused = rescue(&other.store().display().to_string(), &["replicate", "--to", &bucket]);
    assert_ne!(refused.code, 0);
    rescue(&bucket, &["backups"]).expect(0).expect_text("b1");
    let nowhere = format!("s3:{}/no-such-bucket/copy", service.url());
    assert_ne!(rescue(&original, &["replicate", "--to", &nowhere]).code, 0);
}

fn assert_nowhere_below(dir: &Path, secret: &[u8]) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            assert_nowhere_below(&path, secret);
        } else if let Ok(bytes) = fs::read(&path) {
            assert!(!bytes.windows(secret.len()).any(|part| part == secret), "{}", path.display());
        }
    }
}

#[test]
fn a_store_that_lies_about_conditions_or_cannot_be_used_is_refused_with_the_reason() {
    let Some(service) = Service::s3() else { return };
    let proxy = Proxy::start(service.address());
    let bucket = service.bucket();
    let site = Site::new(Options::default());
    let running = site.start();
    let client = running.client();
    let refused = |reason: &str| {
        let reply = register(&client, "s1", &settings(&proxy.url(), &bucket, "p"), &[]);
        let text = reply.text.clone();
        assert!(reply.code() == 503 && text.contains(reason), "{text}");
        assert!(!text.contains(SECRET_KEY), "{text}");
        assert_eq!(client.dr_get("stores").ok()["backupStores"], json!([]), "nothing is registered");
    };
    let puts = |fault: Fault| {
        move |request: &strongroom_tests::proxy::Request| Fate {
            fault: if request.method == "PUT" { fault.clone() } else { Fault::None },
            ..Fate::default()
        }
    };
    proxy.plan(puts(Fault::Without(&["if-none-match"])));
    refused("overwritten");
    proxy.plan(puts(Fault::Without(&["if-match"])));
    refused("outdated replacement");
    // Heeds conditions only while nobody else writes.
    proxy.plan(|request| {
        let lie = request.method == "PUT" && request.at_once > 1;
        let fault = if lie { Fault::Without(&["if-none-match"]) } else { Fault::None };
        Fate { delay: Duration::from_millis(50), fault }
    });
    refused("at the same time");
    proxy.plan(puts(Fault::Status(403, "AccessDenied")));
    refused("AccessDenied");
    proxy.plan(|_| Fate { fault: Fault::Status(404, "NoSuchBucket"), ..Fate::default() });
    refused("bucket is not there");
    proxy.plan(|_| Fate::default());
    register(&client, "s1", &settings(&proxy.url(), &bucket, "p"), &[]).ok();
    // A store that turns bad later is not ready.
    proxy.plan(puts(Fault::Without(&["if-none-match"])));
    let validated: Value = client.dr_post("stores/s1/validate", &[]).ok();
    assert_eq!(validated["isReady"], json!(false), "{validated}");
}

/// What a verb asks of a bucket: each object that it fetches.
fn fetched(proxy: &Proxy) -> Arc<Mutex<Vec<String>>> {
    let fetched = Arc::<Mutex<Vec<String>>>::default();
    let told = fetched.clone();
    proxy.plan(move |request| {
        if request.method == "GET" && !request.target.contains("list-type") {
            told.lock().unwrap().push(request.target.clone());
        }
        Fate::default()
    });
    fetched
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

#[test]
fn a_second_look_into_a_bucket_fetches_no_metadata_again_and_check_goes_around_the_copies() {
    let Some(server) = Service::s3() else { return };
    let proxy = Proxy::start(server.address());
    let place = Place::new();
    let source = place.path("source");
    small_tree(&source);
    let url = format!("s3:{}/{}/r", proxy.url(), server.bucket());
    let cache = place.path("cache");
    let cached = |arguments: &[&str]| {
        let mut all = vec!["repo", "--repository", &url, "--cache-dir", cache.to_str().unwrap()];
        all.extend(arguments);
        run(with_keys(&mut strongroom(all))).expect(0)
    };
    let described = |asked: &[String]| {
        let folders = ["/data/", "/index/", "/snapshots/"];
        asked.iter().filter(|target| folders.iter().any(|folder| target.contains(folder))).count()
    };
    repo(&url, &["init"]).expect(0);
    for i in 0..2 {
        fs::write(source.join("d1/new"), format!("{i}")).unwrap();
        repo(&url, &["backup", source.to_str().unwrap()]).expect(0);
    }
    let looks: [&[&str]; 3] = [&["snapshots"], &["ls", "latest"], &["find", "file *"]];
    let plain: Vec<String> = looks.iter().map(|look| repo(&url, look).expect(0).out).collect();
    let asked = fetched(&proxy);
    let first: Vec<String> = looks.iter().map(|look| cached(look).out).collect();
    // Two snapshots, two index files, two packs of trees: each once, and no pack of data.
    assert_eq!(described(&asked.lock().unwrap()), 6, "{:?}", asked.lock().unwrap());
    let asked = fetched(&proxy);
    let second: Vec<String> = looks.iter().map(|look| cached(look).out).collect();
    assert_eq!(described(&asked.lock().unwrap()), 0, "{:?}", asked.lock().unwrap());
    assert_eq!((&first, &second), (&plain, &plain));

    // All copies are spoilt: fetched anew, and the answers are the same.
    let copies = files_below(&cache);
    assert_eq!(copies.len(), 6);
    copies.iter().for_each(|copy| fs::write(copy, "overwritten").unwrap());
    let third: Vec<String> = looks.iter().map(|look| cached(look).out).collect();
    assert_eq!(third, plain);

    // A pack that is gone is found by `check`, whatever is kept here; and what was forgotten is not seen again.
    let pack = copies.iter().find(|copy| copy.to_str().unwrap().contains("/data/")).unwrap();
    let gone = pack.file_name().unwrap().to_str().unwrap().to_owned();
    proxy.plan(move |request| {
        let fault = Fault::Status(404, "NoSuchKey");
        Fate { fault: if request.target.contains(&gone) { fault } else { Fault::None }, ..Fate::default() }
    });
    let check = ["repo", "--repository", &url, "--cache-dir", cache.to_str().unwrap(), "check"];
    run(with_keys(&mut strongroom(check))).expect(13);
    proxy.plan(|_| Fate::default());
    repo(&url, &["forget", "--keep-last", "1"]).expect(0);
    assert_eq!(cached(&["snapshots"]).out, repo(&url, &["snapshots"]).expect(0).out);
}
