//! kill -9 at random instants of every operation.
//!
//! The time that an operation takes is measured first; the instants are random fractions of it, a little beyond its
//! end, so that they fall into all of its phases. After each kill the server is started again (now and then
//! killed in that start as well), the interrupted job must end by itself, and then everything must be as before the
//! operation or as after it.

#[path = "kill/deployment.rs"]
mod deployment;
#[path = "kill/log.rs"]
mod log;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use strongroom_tests::client::Client;
use strongroom_tests::postgres::Postgres;
use strongroom_tests::server::{Launch, Options, PASSCODE, Server, Site, tail, wait_for};

use crate::content::{Content, SMALL, Tree, USUAL, seed};
use crate::vault::{self, Traces};

/// How many kills there are in all; each test takes its part.
fn kills(part: f64) -> usize {
    let all: f64 =
        std::env::var("STRONGROOM_TEST_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(24.0);
    ((all * part).round() as usize).max(1)
}

/// A site with a server that is killed again and again.
struct Victim<'a> {
    site: &'a Site,
    server: Server<'a>,
    client: Client,
    random: StdRng,
    kills: usize,
    outcomes: BTreeMap<String, usize>,
    start_time: Duration,
    /// How long the operation takes, as far as is known by now.
    time: Duration,
}

impl<'a> Victim<'a> {
    fn new(site: &'a Site, seed: u64) -> Self {
        let begun = Instant::now();
        let server = site.start();
        let (start_time, client) = (begun.elapsed(), server.client());
        client.register(site);
        let random = StdRng::seed_from_u64(seed);
        let time = Duration::ZERO;
        Self { site, server, client, random, kills: 0, outcomes: BTreeMap::new(), start_time, time }
    }

    /// An instant of the operation, or a bit after it.
    fn instant(&mut self) -> Duration {
        self.time.mul_f64(self.random.random_range(0.0..1.15))
    }

    /// A busy machine becomes slower and faster: what was killed too late was quicker than believed.
    fn learn(&mut self, had_ended: bool) {
        self.time = self.time.mul_f64(if had_ended { 0.85 } else { 1.03 });
    }

    /// Sends a request and kills the server that long afterwards, whether it has answered or not.
    fn kill_during(&mut self, after: Duration, request: impl FnOnce(&Client) + Send) {
        let client = self.client.clone();
        std::thread::scope(|scope| {
            let begun = Instant::now();
            let asking = scope.spawn(move || request(&client));
            std::thread::sleep(after.saturating_sub(begun.elapsed()));
            self.server.kill();
            let _ = asking.join();
        });
        self.kills += 1;
    }

    /// Starts the server again; every fourth time it is killed once more on the way.
    fn restart(&mut self) {
        if self.random.random_bool(0.25) {
            let mut dying = self.site.launch(&Launch::default());
            let after = self.start_time.mul_f64(self.random.random_range(0.0..2.0));
            std::thread::sleep(after);
            dying.kill();
            self.kills += 1;
            self.note("killed once more in the start that followed");
        }
        self.server = self.site.start();
        self.client = self.server.client();
    }

    /// The job that came into being since `known`, at its end; none if the kill came before it was accepted.
    fn new_job(&self, known: &[String]) -> Option<Value> {
        let new: Vec<String> = self.client.jobs().into_iter().filter(|id| !known.contains(id)).collect();
        assert!(new.len() <= 1, "one request, several jobs: {new:?}");
        new.first().map(|id| self.client.ended(id))
    }

    fn note(&mut self, outcome: &str) {
        *self.outcomes.entry(outcome.to_owned()).or_default() += 1;
    }

    /// What must be true whenever nothing is at work.
    fn check(&self, backups: &BTreeMap<String, Tree>) {
        let expected: Vec<&String> = backups.keys().collect();
        assert_eq!(self.client.backups().iter().collect::<Vec<_>>(), expected, "the list of backups");
        vault::nothing_half_made(self.site);
        vault::verifies(&self.site.store());
        vault::restic_agrees(&self.site.store());
    }

    fn report(&self, operation: &str) {
        let traces = Traces::of(&self.site.store());
        let log = self.site.log();
        assert!(!log.contains("panicked"), "{}", tail(&log));
        eprintln!("{operation}: {} kills; left in the store: {traces:?}", self.kills);
        for (outcome, count) in &self.outcomes {
            eprintln!("{operation}:   {count:4} × {outcome}");
        }
    }
}

fn status(job: Option<&Value>) -> String {
    match job {
        None => "not accepted".to_owned(),
        Some(job) => job["status"].as_str().unwrap().to_owned(),
    }
}

/// Whether the server died, or stopped, while it worked on this job.
fn was_interrupted(job: &Value) -> bool {
    job["messages"].to_string().contains("the server stopped during this job")
}

#[track_caller]
fn assert_same(now: &Tree, expected: &Tree, what: &str) {
    assert!(now == expected, "{what}:\n{}", now.differences(expected));
}

#[test]
fn a_server_killed_during_backups_harms_none_and_shows_none_half_made() {
    let seed = seed("kill during backup");
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), USUAL, seed);
    let mut victim = Victim::new(&site, seed);
    let mut backups = BTreeMap::new();
    victim.client.back_up("g000");
    backups.insert("g000".to_owned(), content.tree());
    content.change();
    let begun = Instant::now();
    victim.client.back_up("g001");
    victim.time = begun.elapsed();
    backups.insert("g001".to_owned(), content.tree());
    eprintln!(
        "kill during backup: one takes {} ms, a start {} ms",
        victim.time.as_millis(),
        victim.start_time.as_millis()
    );

    for round in 2.. {
        content.change();
        let (name, tree) = (format!("g{round:03}"), content.tree());
        let (known, traces) = (victim.client.jobs(), Traces::of(&site.store()));
        let after = victim.instant();
        victim.kill_during(after, |client| {
            let fields = [("name", name.as_str()), ("passcode", PASSCODE)];
            let _ = client.post("admin/system/disasterrecovery/stores/s1/backups/create", &fields);
        });
        let phase = vault::backup_phase(&site.store(), &name, &traces);
        victim.restart();
        let job = victim.new_job(&known);
        victim.learn(phase == "ended");
        victim.note(&format!("{phase}, then {}", status(job.as_ref())));
        if job.is_some_and(|job| job["status"] == "COMPLETED") {
            backups.insert(name, tree.clone());
        }
        assert_same(&content.tree(), &tree, "the content is not touched by a backup");
        victim.check(&backups);
        if victim.kills >= kills(0.35) {
            break;
        }
        // Without this the store would grow and each check take longer than the last.
        while backups.len() > 3 {
            let (oldest, _) = backups.pop_first().unwrap();
            victim.client.delete(&oldest).ok();
        }
    }
    victim.report("backup");
}

#[test]
fn a_server_killed_during_restores_leaves_the_content_as_before_or_as_after() {
    let seed = seed("kill during restore");
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), USUAL, seed);
    let mut victim = Victim::new(&site, seed);
    let mut backups = BTreeMap::new();
    for round in 0..3 {
        content.change();
        victim.client.back_up(&format!("g{round}"));
        backups.insert(format!("g{round}"), content.tree());
    }
    content.change();
    let begun = Instant::now();
    victim.client.completed(&victim.client.restore("g1").ok());
    victim.time = begun.elapsed();
    assert_same(&content.tree(), &backups["g1"], "a restore that nobody disturbed");
    eprintln!("kill during restore: one takes {} ms", victim.time.as_millis());

    loop {
        content.change();
        let before = content.tree();
        let name = format!("g{}", victim.random.random_range(0..3));
        let (known, after) = (victim.client.jobs(), victim.instant());
        victim.kill_during(after, |client| {
            let path = format!("admin/system/disasterrecovery/stores/s1/backups/{name}/restore");
            let _ = client.post(&path, &[("passcode", PASSCODE)]);
        });
        let phase = vault::restore_phase(&site);
        victim.restart();
        let job = victim.new_job(&known);
        let had_ended = job.as_ref().is_some_and(|job| !was_interrupted(job));
        let phase = if had_ended { "ended".to_owned() } else { phase };
        victim.learn(had_ended);
        victim.note(&format!("{phase}, then {}", status(job.as_ref())));
        let restored = job.is_some_and(|job| job["status"] == "COMPLETED");
        let expected = if restored { &backups[&name] } else { &before };
        assert_same(&content.tree(), expected, if restored { "restored" } else { "not restored" });
        victim.check(&backups);
        if victim.kills >= kills(0.35) {
            break;
        }
    }
    victim.report("restore");
}

#[test]
fn a_server_killed_while_it_deletes_keeps_what_the_others_need() {
    let seed = seed("kill during deletion");
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), USUAL, seed);
    let mut victim = Victim::new(&site, seed);
    let mut backups = BTreeMap::new();
    for name in ["first", "g000"] {
        content.change();
        victim.client.back_up(name);
        backups.insert(name.to_owned(), content.tree());
    }
    let freed = |site: &Site| Traces::of(&site.store()).deleted == 0;
    let begun = Instant::now();
    victim.client.delete("first").ok();
    backups.remove("first");
    wait_for("the space of a deleted backup", || freed(&site).then_some(()));
    victim.time = begun.elapsed();
    eprintln!("kill during deletion: one takes {} ms", victim.time.as_millis());

    for round in 1.. {
        content.change();
        let name = format!("g{round:03}");
        victim.client.back_up(&name);
        backups.insert(name, content.tree());
        let doomed = format!("g{:03}", round - 1);
        let known = victim.client.jobs();
        let (after, wait) = (victim.instant(), if round % 2 == 0 { "true" } else { "false" });
        victim.kill_during(after, |client| {
            let path = format!("admin/system/disasterrecovery/stores/s1/backups/{doomed}/delete");
            let _ = client.post(&path, &[("async", wait)]);
        });
        let (entry, record) = (site.store().join(format!("backups/{doomed}.json")).exists(), !freed(&site));
        let phase = match (entry, record) {
            (true, false) => "not begun",
            (true, true) => "record written, still listed",
            (false, true) => "not listed, space not freed",
            (false, false) => "all freed",
        };
        victim.restart();
        let job = victim.new_job(&known);
        victim.learn(phase == "all freed");
        victim.note(&format!("{phase}, then {}", status(job.as_ref())));
        match victim.client.backups().contains(&doomed) {
            false => drop(backups.remove(&doomed)),
            // It is whole as long as it is listed, and can be deleted again.
            true => {
                assert!(
                    job.is_none_or(|job| job["status"] != "COMPLETED"),
                    "deleted, it is said, and still listed"
                );
                victim.check(&backups);
                victim.client.delete(&doomed).ok();
                backups.remove(&doomed);
            }
        }
        victim.check(&backups);
        if victim.kills >= kills(0.15) {
            break;
        }
    }
    // Space that a dead server did not free is freed with that of the next deletion.
    content.change();
    victim.client.back_up("last");
    victim.client.delete("last").ok();
    wait_for("the space of all deleted backups", || freed(&site).then_some(()));
    victim.check(&backups);
    victim.report("deletion");
}

#[test]
fn a_server_killed_while_the_retention_cleaner_runs_keeps_the_newest_and_what_it_needs() {
    let seed = seed("kill during retention");
    let site = Site::new(Options::default());
    let mut content = Content::new(&site.content(), USUAL, seed);
    let mut victim = Victim::new(&site, seed);
    let mut backups = BTreeMap::new();
    for round in 0.. {
        for part in ["a", "b", "c"] {
            content.change();
            let name = format!("g{round:03}{part}");
            let retention = clock::ms_from_now(Duration::from_secs(60)).to_string();
            let fields = [("name", name.as_str()), ("passcode", PASSCODE), ("retentionDate", &retention)];
            victim.client.completed(&victim.client.dr_post("stores/s1/backups/create", &fields).ok());
            backups.insert(name, content.tree());
        }
        // At the next start all have expired, and the hour is about to strike.
        victim.server.kill();
        let (launch, strikes) = clock::just_before_an_hour(Duration::from_secs(4));
        victim.server = site.start_as(&launch);
        let cleaning = Duration::from_millis(victim.random.random_range(0..120));
        std::thread::sleep((strikes + cleaning).duration_since(SystemTime::now()).unwrap_or_default());
        victim.server.kill();
        victim.kills += 1;

        victim.restart();
        let listed = victim.client.backups();
        let newest = backups.keys().next_back().unwrap().clone();
        assert!(listed.contains(&newest), "the newest complete backup is gone: {listed:?}");
        let gone = backups.len() - listed.len();
        backups.retain(|name, _| listed.contains(name));
        let waiting = Traces::of(&site.store()).deleted;
        victim.note(&format!("{gone} had left the catalogue, {waiting} deletions were still to be freed"));
        victim.check(&backups);
        if victim.kills >= kills(0.075) {
            break;
        }
        while backups.len() > 1 {
            let (oldest, _) = backups.pop_first().unwrap();
            victim.client.delete(&oldest).ok();
        }
    }
    victim.report("retention");
}

#[test]
fn a_server_killed_while_it_starts_starts_the_next_time() {
    let seed = seed("kill during start");
    let mut random = StdRng::seed_from_u64(seed);
    let mut time = Duration::from_millis(300);
    let mut outcomes: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..kills(0.075) {
        let site = Site::new(Options::default());
        // The very first start makes everything: state, keys, certificate.
        std::fs::remove_dir_all(site.data()).unwrap();
        let mut first = site.launch(&Launch::default());
        std::thread::sleep(time.mul_f64(random.random_range(0.0..1.2)));
        first.kill();
        let made = vault::names(&site.data()).len() + vault::names(&site.data().join("tls")).len();
        *outcomes.entry(format!("{made} files made")).or_default() += 1;
        let begun = Instant::now();
        let mut second = site.start();
        time = time.max(begun.elapsed());
        second.stop();
        site.add_user("somebody", "viewer", "another-Password-77");
    }
    eprintln!("start: {outcomes:?}");
}

/// The server's clock.
pub mod clock {
    use std::path::Path;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use strongroom_tests::server::Launch;

    const HOUR: u64 = 3600;
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

    /// Epoch milliseconds of a time to come.
    pub fn ms_from_now(after: Duration) -> u128 {
        (SystemTime::now() + after).duration_since(UNIX_EPOCH).unwrap().as_millis()
    }

    /// A launch whose wall clock is off by so many seconds, while sleeping takes as long as ever.
    pub fn shifted(seconds: i64) -> Launch {
        assert!(Path::new(LIBRARY).exists(), "{LIBRARY} is missing: apt-get install libfaketime");
        let environment = [
            ("LD_PRELOAD", LIBRARY.to_owned()),
            ("FAKETIME", format!("{seconds:+}")),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_RESET", "1".to_owned()),
        ];
        let environment = environment.map(|(name, value)| (name.to_owned(), value)).to_vec();
        Launch { prefix: Vec::new(), environment }
    }

    /// A launch at least an hour later, at whose clock a full hour strikes within this time; and when that is by ours.
    pub fn just_before_an_hour(ahead: Duration) -> (Launch, SystemTime) {
        let launch = just_before_an_hour_after(ahead, HOUR);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        (launch, UNIX_EPOCH + Duration::from_secs(now) + ahead)
    }

    /// A launch at least so many seconds later, just before a full hour.
    pub fn just_before_an_hour_after(ahead: Duration, seconds: u64) -> Launch {
        shifted(seconds_to_an_hour_after(ahead, seconds))
    }

    /// By how much the clock must be ahead for that.
    pub fn seconds_to_an_hour_after(ahead: Duration, seconds: u64) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let hour = ((now + seconds) / HOUR + 2) * HOUR;
        i64::try_from(hour - ahead.as_secs()).unwrap() - i64::try_from(now).unwrap()
    }

    /// The same into the past.
    pub fn just_before_an_hour_in_the_past(ahead: Duration, seconds: u64) -> i64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let hour = (now - seconds) / HOUR * HOUR;
        i64::try_from(hour - ahead.as_secs()).unwrap() - i64::try_from(now).unwrap()
    }
}
