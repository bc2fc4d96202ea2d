//! Many at once: pollers beside a backup, callers that are slow, log-ins without end.
//!
//! The counts of a usual run are small. `STRONGROOM_TEST_POLLERS`, `STRONGROOM_TEST_SLOW` and `STRONGROOM_TEST_LOGINS` give
//! others, `STRONGROOM_TEST_BINARY` a binary built for release; the figures are printed (`--nocapture`). No time is
//! asserted: what must hold is that nobody is refused, and that memory does not grow.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use strongroom_tests::client::{Client, job_id};
use strongroom_tests::server::{ADMIN, Options, PASSWORD, Server, Site, raw_tls};
use strongroom_tests::tree::noise;

/// How often a known client asks for a job's status.
const POLL: Duration = Duration::from_secs(2);

fn count(name: &str, usual: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Median, 99th percentile and longest, in words.
fn spread(mut times: Vec<Duration>) -> String {
    times.sort();
    let ms = |time: &Duration| time.as_secs_f64() * 1000.0;
    let at = |part: f64| ms(&times[((times.len() - 1) as f64 * part) as usize]);
    format!(
        "{} requests, p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
        times.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    )
}

/// Content that no backup has seen.
fn fill(at: &Path, seed: u64, mib: usize) {
    let _ = fs::remove_dir_all(at);
    fs::create_dir_all(at).unwrap();
    for part in 0..mib {
        fs::write(at.join(format!("part {part}")), noise(seed * 10_000 + part as u64, 1 << 20)).unwrap();
    }
}

pub(crate) fn resident_mib(server: &Server<'_>) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn backed_up(client: &Client, name: &str) -> Duration {
    let since = Instant::now();
    client.back_up(name);
    since.elapsed()
}

#[test]
fn pollers_beside_a_backup_are_all_answered() {
    let (pollers, mib) = (count("STRONGROOM_TEST_POLLERS", 20), count("STRONGROOM_TEST_MIB", 16));
    let site = Site::new(Options { log: "warn".to_owned(), ..Options::default() });
    let server = site.start();
    let client = server.client();
    client.register(&site);
    fill(&site.content(), 1, mib);
    let alone = backed_up(&client, "alone");
    let job = client.jobs()[0].clone();
    fill(&site.content(), 2, mib);
    let over = AtomicBool::new(false);
    let (times, beside) = std::thread::scope(|scope| {
        let poll = |number: usize| {
            // A connection of its own.
            let mut mine = site.stranger();
            mine.token.clone_from(&client.token);
            // Spread over the interval, as those of many clients are.
            std::thread::sleep(POLL.mul_f64(number as f64 / pollers as f64));
            let mut times = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let since = Instant::now();
                assert_eq!(mine.job(&job)["jobid"], job.as_str());
                times.push(since.elapsed());
                std::thread::sleep(POLL.saturating_sub(since.elapsed()));
            }
            times
        };
        let running: Vec<_> = (0..pollers).map(|number| scope.spawn(move || poll(number))).collect();
        // All of them have their connection.
        std::thread::sleep(POLL * 2);
        let beside = backed_up(&client, "beside");
        over.store(true, Ordering::Relaxed);
        let times = running.into_iter().flat_map(|one| one.join().unwrap()).collect();
        (times, beside)
    });
    println!(
        "{pollers} pollers every {} s beside a backup of {mib} MiB: {}; the backup took {:.2} s alone, {:.2} s beside them",
        POLL.as_secs(),
        spread(times),
        alone.as_secs_f64(),
        beside.as_secs_f64()
    );
}

#[test]
fn callers_that_never_finish_do_not_keep_a_good_one_waiting() {
    let slow = count("STRONGROOM_TEST_SLOW", 200);
    let site = Site::new(Options { log: "warn".to_owned(), ..Options::default() });
    let mut server = site.start();
    let client = server.client();
    let ask = |times: usize| {
        let asked = (0..times).map(|_| {
            let since = Instant::now();
            client.get("admin/jobs").unwrap().ok();
            since.elapsed()
        });
        spread(asked.collect())
    };
    let before = ask(100);
    let mut held: Vec<_> = (0..slow)
        .map(|number| {
            let mut stream = raw_tls(&site).unwrap();
            // Some in the head, some in the body of a request.
            let begun = match number % 2 {
                0 => "GET /strongroom/admin HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ",
                _ => {
                    "POST /strongroom/sharing/rest/generateToken HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
                }
            };
            stream.write_all(begun.as_bytes()).unwrap();
            stream.flush().unwrap();
            stream
        })
        .collect();
    let mut between = Vec::new();
    for _ in 0..5 {
        // Whom the server has hung up on meanwhile is of no interest.
        held.iter_mut().for_each(|stream| drop(stream.write_all(b"x").and_then(|()| stream.flush())));
        between.push(ask(20));
    }
    println!("alone: {before}; beside {slow} slow ones: {}", between.join("; "));
    assert!(server.is_alive());
}

#[test]
fn log_ins_without_end_do_not_fill_the_memory() {
    let log_ins = count("STRONGROOM_TEST_LOGINS", 60);
    let site = Site::new(Options { log: "warn".to_owned(), ..Options::default() });
    let server = site.start();
    let log_in = |client: &Client, times: usize| {
        for _ in 0..times {
            let fields = [("username", ADMIN), ("password", PASSWORD), ("expiration", "1")];
            client.post("sharing/rest/generateToken", &fields).unwrap().ok();
        }
    };
    log_in(&site.stranger(), log_ins.min(1000) / 2);
    let (before, since) = (resident_mib(&server), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| log_in(&site.stranger(), log_ins / 4));
        }
    });
    let after = resident_mib(&server);
    println!(
        "{log_ins} log-ins, four at a time, in {:.1} s: {before} MiB before, {after} MiB after",
        since.elapsed().as_secs_f64()
    );
    assert!(after < before + 96, "{before} MiB before, {after} MiB after");
    let client = server.client();
    fill(&site.content(), 3, 1);
    client.register(&site);
    let accepted = client.create("after").ok();
    client.ended(job_id(&accepted));
}
