//! Object stores by themselves: every kind keeps the same promises, and faults on the way harm none of them.

use std::sync::Arc;
use std::time::Duration;

use storage::{
    Credentials, ErrorKind, Limits, ObjectOptions, ObjectPlace, ObjectStorage, Service, Shared, conformance,
};
use strongroom_tests::google::Google;
use strongroom_tests::proxy::{Fate, Fault, Proxy};
use strongroom_tests::services::{ACCESS_KEY, AZURE_ACCOUNT, AZURE_KEY, SECRET_KEY, Service as Server};

/// Nobody waits in these tests as long as outside of them.
fn hurried() -> Limits {
    Limits { silence: Duration::from_millis(700), deadline: Duration::from_secs(60), ..Limits::default() }
}

fn s3_options(url: &str, limits: Limits) -> ObjectOptions {
    ObjectOptions {
        endpoint: Some(url.to_owned()),
        credentials: Credentials::AccessKey {
            id: ACCESS_KEY.to_owned(),
            secret: SECRET_KEY.to_owned().into(),
            session_token: None,
        },
        limits,
        ..ObjectOptions::default()
    }
}

fn s3(url: &str, bucket: &str, limits: Limits) -> Shared {
    let place = ObjectPlace::new(Service::S3, bucket, "some/prefix", s3_options(url, limits)).unwrap();
    Arc::new(ObjectStorage::open(&place).unwrap())
}

#[test]
fn s3_keeps_every_promise_of_a_storage() {
    let Some(server) = Server::s3() else { return };
    let storage = s3(&server.url(), &server.bucket(), Limits::default());
    conformance::all(&storage);
    assert!(storage.location().ends_with("/some/prefix") && !storage.location().contains("planted"));
    conformance::a_place_that_is_gone_is_an_error(
        s3(&server.url(), "no-such-bucket", Limits::default()).as_ref(),
    );
}

#[test]
fn azure_blob_keeps_every_promise_of_a_storage() {
    let Some(server) = Server::azure() else { return };
    server.container("container");
    let open = |container: &str| -> Shared {
        let options = ObjectOptions {
            endpoint: Some(format!("{}/{AZURE_ACCOUNT}", server.url())),
            credentials: Credentials::AccountKey {
                account: AZURE_ACCOUNT.to_owned(),
                key: AZURE_KEY.to_owned().into(),
            },
            ..ObjectOptions::default()
        };
        let place = ObjectPlace::new(Service::Azure, container, "prefix", options).unwrap();
        Arc::new(ObjectStorage::open(&place).unwrap())
    };
    conformance::all(&open("container"));
    conformance::a_place_that_is_gone_is_an_error(open("no-such-container").as_ref());
}

#[test]
fn the_double_of_google_storage_keeps_every_promise_of_a_storage() {
    let server = Google::default();
    let open = |bucket: &str| -> Shared {
        let options = ObjectOptions {
            endpoint: Some(server.url()),
            credentials: Credentials::ServiceAccount(server.account().into()),
            ..ObjectOptions::default()
        };
        let place = ObjectPlace::new(Service::Google, bucket, "prefix", options).unwrap();
        Arc::new(ObjectStorage::open(&place).unwrap())
    };
    conformance::all(&open("bucket"));
    conformance::a_place_that_is_gone_is_an_error(open("no-such-bucket").as_ref());
}

/// A server, a proxy before it, and a storage behind both.
fn troubled() -> Option<(Server, Proxy, Shared)> {
    let server = Server::s3()?;
    let proxy = Proxy::start(server.address());
    let storage = s3(&proxy.url(), &server.bucket(), hurried());
    Some((server, proxy, storage))
}

/// This fault for every request of a method from the first to the `last`th.
fn first_requests(
    method: &'static str,
    last: u64,
    fault: Fault,
) -> impl Fn(&strongroom_tests::proxy::Request) -> Fate {
    let seen = std::sync::atomic::AtomicU64::new(0);
    move |request| {
        let hit = request.method == method && seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) < last;
        Fate { fault: if hit { fault.clone() } else { Fault::None }, ..Fate::default() }
    }
}

#[test]
fn a_lost_answer_to_a_condition_is_recognised_as_our_own() {
    let Some((_server, proxy, storage)) = troubled() else { return };
    for (name, fault) in [
        ("lost", Fault::LoseAnswer),
        ("cut", Fault::CutBody(0)),
        ("failed", Fault::Status(500, "InternalError")),
    ] {
        proxy.plan(first_requests("PUT", 1, fault.clone()));
        storage.create(&format!("own/{name}"), &[b"mine"]).unwrap();
        let (_, version) = storage.get_versioned(&format!("own/{name}"), 9).unwrap();
        proxy.plan(first_requests("PUT", 1, fault));
        storage.replace(&format!("own/{name}"), b"mine too", &version).unwrap();
        assert_eq!(storage.get(&format!("own/{name}"), 9).unwrap(), b"mine too");
    }
    // Somebody else's object stays somebody else's.
    storage.create("own/theirs", &[b"theirs"]).unwrap();
    let (_, version) = storage.get_versioned("own/theirs", 9).unwrap();
    storage.replace("own/theirs", b"news", &version).unwrap();
    proxy.plan(first_requests("PUT", 1, Fault::Status(503, "SlowDown")));
    assert_eq!(storage.create("own/theirs", &[b"mine"]).unwrap_err().kind, ErrorKind::Exists);
    proxy.plan(first_requests("PUT", 1, Fault::ResetBefore));
    let refused = storage.replace("own/theirs", b"mine", &version).unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Precondition);
    assert_eq!(storage.get("own/theirs", 9).unwrap(), b"news");
}

#[test]
fn a_conflict_means_try_again_and_not_that_the_object_exists() {
    let Some((_server, proxy, storage)) = troubled() else { return };
    proxy.plan(first_requests("PUT", 2, Fault::Status(409, "ConditionalRequestConflict")));
    storage.create("conflict", &[b"x"]).unwrap();
    assert_eq!(proxy.counts().requests(), 3);
}

#[test]
fn each_fault_on_the_way_is_overcome() {
    let Some((_server, proxy, storage)) = troubled() else { return };
    let body = vec![7u8; 300_000];
    storage.create("fault/there", &[&body]).unwrap();
    for fault in [
        Fault::Status(500, "InternalError"),
        Fault::Status(503, "SlowDown"),
        Fault::Status(429, "TooManyRequests"),
        Fault::ResetBefore,
        Fault::LoseAnswer,
        Fault::CutBody(1000),
        Fault::StallBody(1000),
        Fault::Hang,
    ] {
        let name = format!("fault/{fault:?}").replace(|c: char| !c.is_ascii_alphanumeric() && c != '/', "-");
        let two_of = |method| proxy.plan(first_requests(method, 2, fault.clone()));
        two_of("GET");
        assert!(storage.get("fault/there", 1 << 20).unwrap() == body, "{fault:?}");
        two_of("GET");
        assert!(storage.get_range("fault/there", 10..200_000).unwrap() == body[10..200_000], "{fault:?}");
        two_of("GET");
        assert!(!storage.list_all("fault/").unwrap().is_empty(), "{fault:?}");
        two_of("PUT");
        storage.create(&name, &[&body]).unwrap();
        two_of("HEAD");
        assert!(storage.head(&name).unwrap().is_some(), "{fault:?}");
        two_of("DELETE");
        storage.delete(&name).unwrap();
        proxy.plan(|_| Fate::default());
        assert_eq!(storage.head(&name).unwrap(), None, "{fault:?}");
    }
}

#[test]
fn every_third_call_may_fail() {
    let Some((_server, proxy, storage)) = troubled() else { return };
    proxy.plan(|request| Fate {
        fault: if request.number % 3 == 0 { Fault::Status(500, "InternalError") } else { Fault::None },
        ..Fate::default()
    });
    conformance::objects_read_back_whole_and_by_range(&storage);
    conformance::one_of_many_racing_creators_wins(&storage);
    conformance::replace_needs_the_version_that_was_read(&storage);
    conformance::deleting_twice_is_fine(&storage);
    conformance::a_listing_shows_what_lies_below_its_prefix_and_nothing_else(&storage);
}

#[test]
fn what_cannot_work_ends_at_once_and_what_might_ends_in_time() {
    let Some(server) = Server::s3() else { return };
    let proxy = Proxy::start(server.address());
    let limits = Limits { attempts: 4, ..hurried() };
    let storage = s3(&proxy.url(), &server.bucket(), limits);
    let denied = |fault: Fault, expected: ErrorKind, requests: u64| {
        proxy.plan(move |_| Fate { fault: fault.clone(), ..Fate::default() });
        proxy.counts().reset();
        let refused = storage.create("denied", &[b"x"]).unwrap_err();
        assert_eq!(refused.kind, expected, "{refused}");
        assert_eq!(proxy.counts().requests(), requests, "{refused}");
        refused.to_string()
    };
    let text = denied(Fault::Status(403, "AccessDenied"), ErrorKind::Denied, 1);
    assert!(text.contains("AccessDenied") && !text.contains("planted"), "{text}");
    denied(Fault::Status(400, "ExpiredToken"), ErrorKind::Denied, 1);
    denied(Fault::Status(507, "QuotaExceeded"), ErrorKind::NoSpace, 1);
    denied(Fault::Status(404, "NoSuchBucket"), ErrorKind::NotFound, 1);
    let text = denied(Fault::Status(503, "SlowDown"), ErrorKind::Io, 4);
    assert!(text.contains("4 times"), "{text}");
    denied(Fault::Hang, ErrorKind::Io, 4);
    drop(server);
    proxy.plan(|_| Fate::default());
    assert_eq!(storage.get("gone", 9).unwrap_err().kind, ErrorKind::Io);
    assert_eq!(storage.list_all("").unwrap_err().kind, ErrorKind::Io, "an outage is no empty listing");
}

#[test]
fn no_more_requests_than_allowed_are_under_way() {
    let Some(server) = Server::s3() else { return };
    let proxy = Proxy::start(server.address());
    proxy.plan(|_| Fate { delay: Duration::from_millis(30), ..Fate::default() });
    let storage = s3(&proxy.url(), &server.bucket(), Limits { parallel: 3, ..Limits::default() });
    std::thread::scope(|scope| {
        for i in 0..24 {
            let storage = &storage;
            scope.spawn(move || storage.create(&format!("many/{i}"), &[b"x"]).unwrap());
        }
    });
    assert_eq!(proxy.counts().most_at_once(), 3);
    assert_eq!(storage.parallelism(), Some(3));
}

#[test]
fn a_storage_works_from_threads_of_another_runtime_and_may_be_dropped_there() {
    let Some(server) = Server::s3() else { return };
    let storage = s3(&server.url(), &server.bucket(), Limits::default());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async {
        let blocking = Arc::clone(&storage);
        tokio::task::spawn_blocking(move || blocking.create("a", &[b"1"]).unwrap()).await.unwrap();
        // Not what one should do; it blocks that thread, and does no worse.
        assert_eq!(storage.get("a", 9).unwrap(), b"1");
        drop(storage);
    });
}
