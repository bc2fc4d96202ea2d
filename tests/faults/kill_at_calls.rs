//! kill -9 right before the first, second, third … of the system calls that make things durable or visible.
//!
//! Random instants seldom hit the few microseconds in which an operation commits; strace hits each of them. It
//! counts per thread, so call n dies at the first thread that reaches its nth. One round for each n, until the
//! operation gets through alive.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strongroom_tests::client::Client;
use strongroom_tests::server::{Launch, Options, PASSCODE, Server, Site, tail, wait_for};

use crate::content::{Content, Size, seed};
use crate::vault;

/// Calls that change names.
const NAMES: &str = "renameat2,rename,renameat,linkat,link";
/// Calls that make durable.
const SYNCS: &str = "fsync,fdatasync,syncfs,sync_file_range";
/// Calls that remove.
const REMOVALS: &str = "unlink,unlinkat,rmdir";

/// A tracer that kills a server at its nth call of these.
struct Tracer(Child);

impl Tracer {
    fn attach(server: &Server<'_>, calls: &str, n: usize) -> Self {
        let child = Command::new("strace")
            .args(["-f", "-qqq", "-o", "/dev/null", "-p", &server.pid().to_string()])
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:signal=KILL:when={n}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace: apt-get install strace");
        let tasks = format!("/proc/{}/task", server.pid());
        wait_for("strace to hold all threads", || {
            let all = vault::names(tasks.as_ref());
            let traced = |task: &String| {
                let status = fs::read_to_string(format!("{tasks}/{task}/status")).unwrap_or_default();
                status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
            };
            all.iter().all(traced).then_some(())
        });
        Self(child)
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        // Now and then it misses the end of a thread and waits for ever, which keeps the server a zombie.
        let end = Instant::now() + Duration::from_secs(2);
        while self.0.try_wait().unwrap().is_none() {
            if Instant::now() > end {
                let _ = self.0.kill();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// The server's memory is private, also to its own user.
fn may_trace() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("NOT TESTED: only root may trace a running server");
    }
    is_root
}

/// Each n while there are few, then fewer and fewer.
fn next(n: usize) -> usize {
    let all = if is_long_run() { 32 } else { 8 };
    if n < all { n + 1 } else { n + n / 2 }
}

fn is_long_run() -> bool {
    std::env::var("STRONGROOM_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(24) >= 100
}

/// What is traced in a normal run, and in a long one.
fn kinds() -> &'static [&'static str] {
    if is_long_run() { &[NAMES, SYNCS, REMOVALS] } else { &[NAMES] }
}

/// Posts, and waits until the job has ended or the server is dead. The id of the job, if it was told.
fn post_and_follow(client: &Client, server: &mut Server<'_>, path: &str, fields: &[(&str, &str)]) -> bool {
    let Ok(reply) = client.post(&format!("admin/system/disasterrecovery/{path}"), fields) else {
        return false;
    };
    let Some(id) = reply.json["jobid"].as_str().map(str::to_owned) else { return server.is_alive() };
    wait_for("the end of the job or of the server", || {
        if !server.is_alive() {
            return Some(false);
        }
        let Ok(job) = client.get(&format!("admin/jobs/{id}")) else { return Some(false) };
        matches!(job.json["status"].as_str(), Some("COMPLETED" | "FAILED")).then_some(true)
    })
}

const TINY: Size = Size { files: 12, large: 200_000 };

#[test]
fn a_restore_killed_at_each_call_ends_before_or_after_and_never_between() {
    if !may_trace() {
        return;
    }
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), TINY, seed("restore killed at calls"));
    let mut server = site.start();
    server.client().register(&site);
    server.client().back_up("b");
    let backed_up = content.tree();
    for calls in kinds() {
        let (mut n, mut outcomes) = (1, Vec::new());
        loop {
            content.change();
            let before = content.tree();
            let client = server.client();
            let known = client.jobs();
            let tracer = Tracer::attach(&server, calls, n);
            let survived = post_and_follow(
                &client,
                &mut server,
                "stores/s1/backups/b/restore",
                &[("passcode", PASSCODE)],
            );
            drop(tracer);
            let phase = vault::restore_phase(&site);
            if !survived {
                server.wait();
                server = site.start();
            }
            let client = server.client();
            let new = client.jobs().into_iter().find(|id| !known.contains(id));
            let job = new.map(|id| client.ended(&id));
            let status = job.as_ref().map_or("not accepted", |job| job["status"].as_str().unwrap());
            outcomes.push(format!("{n}: {phase} → {status}"));
            let expected = if status == "COMPLETED" { &backed_up } else { &before };
            let now = content.tree();
            assert!(
                now == *expected,
                "call {n} of {calls} ({phase}, {status}):\n{}",
                now.differences(expected)
            );
            vault::nothing_half_made(&site);
            if survived {
                break;
            }
            n = next(n);
        }
        eprintln!("restore, {calls}: {}", outcomes.join("; "));
        assert!(n > 1, "too few calls were met: {n}");
    }
    assert_eq!(server.client().backups(), ["b"]);
    vault::verifies(&site.store());
    vault::restic_agrees(&site.store());
}

#[test]
fn a_backup_killed_at_each_call_is_listed_whole_or_not_at_all() {
    if !may_trace() {
        return;
    }
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), TINY, seed("backup killed at calls"));
    let mut server = site.start();
    server.client().register(&site);
    server.client().back_up("b0");
    let mut expected = vec!["b0".to_owned()];
    for calls in kinds() {
        let (mut n, mut outcomes) = (1, Vec::new());
        loop {
            content.change();
            let client = server.client();
            let name = format!("b{}-{n}", calls.len());
            let (known, traces) = (client.jobs(), vault::Traces::of(&site.store()));
            let tracer = Tracer::attach(&server, calls, n);
            let fields = [("name", name.as_str()), ("passcode", PASSCODE)];
            let survived = post_and_follow(&client, &mut server, "stores/s1/backups/create", &fields);
            drop(tracer);
            let phase = vault::backup_phase(&site.store(), &name, &traces);
            if !survived {
                server.wait();
                server = site.start();
            }
            let client = server.client();
            let new = client.jobs().into_iter().find(|id| !known.contains(id));
            let job = new.map(|id| client.ended(&id));
            let status = job.as_ref().map_or("not accepted", |job| job["status"].as_str().unwrap());
            outcomes.push(format!("{n}: {phase} → {status}"));
            if status == "COMPLETED" {
                expected.push(name);
                expected.sort();
            }
            assert_eq!(client.backups(), expected, "call {n} of {calls}");
            vault::nothing_half_made(&site);
            if survived {
                break;
            }
            n = next(n);
        }
        eprintln!("backup, {calls}: {}", outcomes.join("; "));
        assert!(n > 1, "too few calls were met: {n}");
        vault::verifies(&site.store());
        vault::restic_agrees(&site.store());
    }
}

#[test]
fn a_deletion_killed_at_each_call_keeps_what_the_others_need() {
    if !may_trace() {
        return;
    }
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), TINY, seed("deletion killed at calls"));
    let mut server = site.start();
    server.client().register(&site);
    server.client().back_up("b000");
    let mut round = 0;
    for calls in [NAMES, REMOVALS] {
        let (mut n, mut outcomes) = (1, Vec::new());
        loop {
            content.change();
            let client = server.client();
            let (doomed, kept) = (format!("b{round:03}"), format!("b{:03}", round + 1));
            round += 1;
            client.back_up(&kept);
            let freed = || vault::Traces::of(&site.store()).deleted == 0;
            let listed = || site.store().join(format!("backups/{doomed}.json")).exists();
            let tracer = Tracer::attach(&server, calls, n);
            let _ =
                client.post(&format!("admin/system/disasterrecovery/stores/s1/backups/{doomed}/delete"), &[]);
            let survived = wait_for("the end of the deletion or of the server", || {
                if !server.is_alive() || client.get("admin").is_err() {
                    return Some(false);
                }
                (!listed() && freed()).then_some(true)
            });
            drop(tracer);
            outcomes.push(format!(
                "{n}: {}, {}",
                if listed() { "listed" } else { "gone" },
                if freed() { "freed" } else { "not freed" }
            ));
            if !survived {
                server.wait();
                server = site.start();
            }
            let client = server.client();
            let mut expected = vec![kept];
            if listed() {
                expected.insert(0, doomed.clone());
            }
            assert_eq!(client.backups(), expected, "call {n} of {calls}");
            vault::nothing_half_made(&site);
            vault::verifies(&site.store());
            vault::restic_agrees(&site.store());
            if listed() {
                client.delete(&doomed).ok();
            }
            if survived {
                break;
            }
            n = next(n);
        }
        eprintln!("deletion, {calls}: {}", outcomes.join("; "));
    }
    // What the dead servers did not free goes with the next deletion.
    let client = server.client();
    client.back_up("last");
    client.delete("last").ok();
    wait_for("the space of all deleted backups", || {
        (vault::Traces::of(&site.store()).deleted == 0).then_some(())
    });
    vault::verifies(&site.store());
    vault::restic_agrees(&site.store());
}

/// Starts servers that make everything for the first time and die at call n, until one gets through.
fn die_in_first_starts(what: &str, calls: &str, files: &[&str]) {
    let mut n = 1;
    loop {
        let site = Site::new(Options::default());
        fs::remove_dir_all(site.data()).unwrap();
        let mut prefix: Vec<String> =
            ["strace", "-D", "-f", "-qqq", "-o", "/dev/null"].map(str::to_owned).to_vec();
        prefix.extend(["-e".to_owned(), format!("trace={calls}")]);
        prefix.extend(["-e".to_owned(), format!("inject={calls}:signal=KILL:when={n}")]);
        for file in files {
            prefix.extend(["-P".to_owned(), site.data().join(file).display().to_string()]);
        }
        let mut first = site.launch(&Launch { prefix, environment: Vec::new() });
        let survived = first.answers();
        first.kill();
        let mut second = site.launch(&Launch::default());
        assert!(second.answers(), "{what}, killed at call {n}: {}", tail(&site.log()));
        if survived {
            break;
        }
        n = next(n);
    }
    eprintln!("first start, {what}: {} calls", n - 1);
}

#[test]
fn a_first_start_killed_at_each_call_starts_the_next_time() {
    die_in_first_starts("renames", NAMES, &[]);
    die_in_first_starts("syncs", SYNCS, &[]);
    let all = "openat,write,fsync,fdatasync,rename,renameat,renameat2,link,linkat";
    die_in_first_starts("key and certificate", all, &["tls/key.pem", "tls/certificate.pem", "tls"]);
    die_in_first_starts("master key", all, &["master.key"]);
}
