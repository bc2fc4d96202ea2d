//! `strongroom repo` on a bucket behind a line that misbehaves: backup and restore end well, or with the exit code and
//! sentence that are promised; and what they write is never wrong.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use strongroom_tests::proxy::{Fate, Fault, Proxy, Request};
use strongroom_tests::services::Service;
use strongroom_tests::tree::{Picture, noise};

use crate::buckets::{repo, small_tree};
use crate::command::Place;

/// A tree, a repository in a bucket, and a proxy in front of it.
struct Line {
    server: Service,
    proxy: Proxy,
    place: Place,
    /// `bucket/prefix`
    at: String,
    before: Picture,
}

impl Line {
    fn new() -> Option<Self> {
        let server = Service::s3()?;
        let (proxy, place) = (Proxy::start(server.address()), Place::new());
        let source = place.path("source");
        small_tree(&source);
        fs::write(source.join("large"), noise(77, 20 << 20)).unwrap();
        let before = Picture::take(&source);
        let at = format!("{}/r", server.bucket());
        let line = Self { server, proxy, place, at, before };
        repo(&line.straight(), &["init"]).expect(0);
        Some(line)
    }

    /// Around the proxy.
    fn straight(&self) -> String {
        format!("s3:{}/{}", self.server.url(), self.at)
    }

    fn url(&self) -> String {
        format!("s3:{}/{}", self.proxy.url(), self.at)
    }

    fn source(&self) -> String {
        self.place.path("source").to_str().unwrap().to_owned()
    }

    fn target(&self) -> String {
        self.place.path("target").to_str().unwrap().to_owned()
    }

    /// Faults for the requests that `which` picks.
    fn faults(&self, fault: Fault, which: impl Fn(&Request) -> bool + Send + Sync + 'static) {
        self.proxy.counts().reset();
        self.proxy.plan(move |request| {
            let fault = if which(request) { fault.clone() } else { Fault::None };
            Fate { fault, ..Fate::default() }
        });
    }

    /// Each file of the target is what it is in the source, or is not there.
    fn no_wrong_byte(&self) {
        let restored = Path::new(&self.target()).join(self.source().trim_start_matches('/'));
        if !restored.exists() {
            return;
        }
        for (path, entry) in Picture::take(&restored).entries {
            let there = &self.before.entries[&path].content;
            assert!(entry.content == *there, "{} is wrong", String::from_utf8_lossy(&path));
        }
    }

    fn remove_target(&self) {
        let _ = fs::remove_dir_all(self.target());
    }

    /// All keys of a folder in the bucket, as paths of requests.
    fn objects(&self, folder: &str) -> Vec<String> {
        let (bucket, prefix) = self.at.split_once('/').unwrap();
        let listed = self.server.ask("GET", &format!("/{bucket}?list-type=2&prefix={prefix}/{folder}/"));
        let text = String::from_utf8(listed.body).unwrap();
        text.split("<Key>")
            .skip(1)
            .map(|rest| format!("/{bucket}/{}", rest.split_once('<').unwrap().0))
            .collect()
    }
}

/// Every nth request.
fn every(n: u64) -> impl Fn(&Request) -> bool {
    move |request| request.number % n == 0
}

#[test]
fn backup_and_restore_end_well_over_lines_that_fail_now_and_then() {
    let Some(line) = Line::new() else { return };
    let mut snapshots = 0;
    for (name, fault, every_nth) in [
        ("500 to every third call", Fault::Status(500, "InternalError"), 3),
        ("throttled", Fault::Status(503, "SlowDown"), 3),
        ("throttled otherwise", Fault::Status(429, "TooManyRequests"), 4),
        ("cut short", Fault::CutBody(10), 3),
        ("reset", Fault::ResetBefore, 4),
        ("no answer", Fault::LoseAnswer, 4),
    ] {
        println!("{name}");
        line.faults(fault, every(every_nth));
        repo(&line.url(), &["backup", "--force", &line.source()]).expect(0);
        assert!(line.proxy.counts().failed() > 0);
        snapshots += 1;
        line.proxy.counts().reset();
        repo(&line.url(), &["restore", "latest", "--verify", "--target", &line.target()]).expect(0);
        assert!(line.proxy.counts().failed() > 0);
        let restored = Path::new(&line.target()).join(line.source().trim_start_matches('/'));
        line.before.assert_same(&Picture::take(&restored), name);
        line.remove_target();
    }
    repo(&line.straight(), &["check", "--read-data"]).expect(0);
    let listed = repo(&line.straight(), &["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed[0].as_array().unwrap().len(), snapshots, "a write that was tried again counts once");
    assert!(line.objects("locks").is_empty());
}

#[test]
fn an_answer_that_does_not_come_is_asked_for_again() {
    let Some(line) = Line::new() else { return };
    // One that writes, one that reads, and one whose body stops.
    let hung = AtomicU64::new(0);
    line.proxy.plan(move |request| {
        let is_first_put = request.method == "PUT" && request.target.contains("/data/");
        let hang = is_first_put && hung.fetch_add(1, Ordering::SeqCst) == 0;
        Fate { fault: if hang { Fault::Hang } else { Fault::None }, ..Fate::default() }
    });
    repo(&line.url(), &["backup", &line.source()]).expect(0);
    let hung = AtomicU64::new(0);
    line.proxy.plan(move |request| {
        let reads = request.method == "GET" && request.target.contains("/data/");
        let fault = match reads.then(|| hung.fetch_add(1, Ordering::SeqCst)) {
            Some(0) => Fault::Hang,
            Some(1) => Fault::StallBody(100),
            _ => Fault::None,
        };
        Fate { fault, ..Fate::default() }
    });
    repo(&line.url(), &["restore", "latest", "--verify", "--target", &line.target()]).expect(0);
    let restored = Path::new(&line.target()).join(line.source().trim_start_matches('/'));
    line.before.assert_same(&Picture::take(&restored), "after silence");
    repo(&line.straight(), &["check", "--read-data"]).expect(0);
}

#[test]
fn a_service_that_refuses_ends_the_work_with_1_and_the_reason_and_leaves_no_snapshot() {
    let Some(line) = Line::new() else { return };
    line.faults(Fault::Status(403, "AccessDenied"), |request| {
        request.method == "PUT" && request.target.contains("/data/")
    });
    repo(&line.url(), &["backup", &line.source()]).expect(1).expect_text("AccessDenied");
    line.faults(Fault::Status(507, "QuotaExceeded"), |request| {
        request.method == "PUT" && request.target.contains("/index/")
    });
    repo(&line.url(), &["backup", &line.source()]).expect(1).expect_text("QuotaExceeded");
    assert!(line.objects("snapshots").is_empty() && line.objects("locks").is_empty());
    repo(&line.straight(), &["backup", &line.source()]).expect(0);
    line.faults(Fault::Status(403, "AccessDenied"), |request| {
        request.method == "GET" && request.target.contains("/data/")
    });
    repo(&line.url(), &["restore", "latest", "--target", &line.target()])
        .expect(1)
        .expect_text("AccessDenied");
    line.no_wrong_byte();
    repo(&line.straight(), &["check", "--read-data"]).expect(0);
}

#[test]
fn another_object_than_was_asked_for_is_damage_and_none_of_it_is_written() {
    let Some(line) = Line::new() else { return };
    repo(&line.straight(), &["backup", &line.source()]).expect(0);
    repo(&line.straight(), &["backup", "--tag", "again", "--force", &format!("{}/d1", line.source())])
        .expect(0);
    repo(&line.straight(), &["backup", &line.source()]).expect(0);
    for folder in ["data", "index", "snapshots", "keys"] {
        let objects = line.objects(folder);
        for asked in &objects {
            // Another of the same kind; of keys there is one, so something else.
            let other = objects.iter().find(|other| *other != asked).cloned();
            let other = other.unwrap_or_else(|| line.objects("index").remove(0));
            let swapped = asked.clone();
            line.faults(Fault::Swap(other), move |request| {
                request.method == "GET" && request.target.split('?').next() == Some(&swapped)
            });
            let restored = repo(&line.url(), &["restore", "latest", "--target", &line.target()]);
            // A pack, index file or snapshot that is not needed may go unseen.
            let seen = line.proxy.counts().failed() > 0;
            assert!(restored.code == 13 || restored.code == 0 && folder != "keys", "{asked}: {restored}");
            assert!(seen || restored.code == 0, "{asked}: {restored}");
            if restored.code == 13 {
                let name = asked.rsplit('/').next().unwrap();
                assert!(restored.err.contains(&name[..8]), "{asked} is not named: {restored}");
            }
            line.no_wrong_byte();
            line.remove_target();
            if folder != "keys" {
                repo(&line.url(), &["check", "--read-data"]).expect(13);
            }
            // A backup meets it in what it compares with, and stops, or does without.
            let backup = repo(&line.url(), &["backup", &line.source()]);
            assert!([0, 3, 13].contains(&backup.code), "{asked}: {backup}");
            line.proxy.plan(|_| Fate::default());
        }
    }
    repo(&line.straight(), &["check", "--read-data"]).expect(0);
    repo(&line.straight(), &["restore", "latest", "--verify", "--target", &line.target()]).expect(0);
}
