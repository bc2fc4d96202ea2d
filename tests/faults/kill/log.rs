//! A database server, the server that receives its log, or both die, again and again, while rows are written.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

const NAME: &str = "counted";

/// Writes numbered rows, one after the other, as long as it lives; goes on where the last one that was committed stands.
fn write(server: &Postgres, stop: &AtomicBool) {
    let text = "DO $$ DECLARE last int; BEGIN SELECT COALESCE(max(n), 0) INTO last FROM numbers; FOR i IN last + 1 .. last + 2000 LOOP \
                INSERT INTO numbers VALUES (i, repeat(md5(i::text), 300)); COMMIT; PERFORM pg_sleep(0.003); END LOOP; END $$";
    while !stop.load(Ordering::Relaxed) {
        let _ = server.try_sql(NAME, text);
        std::thread::yield_now();
    }
}

/// What was committed, and when: number and microseconds since 1970.
fn committed(server: &Postgres) -> Vec<(u32, i64)> {
    let text = "SELECT n, (extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::int8 FROM numbers ORDER BY n";
    let rows = server.sql(NAME, text);
    rows.lines()
        .map(|line| {
            let (n, at) = line.split_once('|').unwrap();
            (n.parse().unwrap(), at.parse().unwrap())
        })
        .collect()
}

#[test]
fn a_log_has_no_gap_whoever_dies_while_it_is_received() {
    let Some(postgres) = Postgres::start_with_small_segments() else { return };
    postgres.sql("postgres", "ALTER SYSTEM SET track_commit_timestamp = on");
    postgres.stop();
    postgres.start_again();
    postgres.sql("postgres", &format!("CREATE DATABASE {NAME}"));
    postgres.sql(NAME, "CREATE TABLE numbers (n int PRIMARY KEY, filler text)");
    postgres.sql(NAME, "ALTER TABLE numbers ALTER filler SET STORAGE EXTERNAL");
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), strongroom_tests::postgres::PASSWORD).unwrap();
    let clusters = tempfile::Builder::new().prefix("cl").tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(clusters.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
    let configuration = format!(
        "[drills]\ndirectory = \"{}\"\n[[component]]\nkind = \"relationalStore\"\nname = \"gis\"\nurl = \"{}\"\npassword_file = \"{}\"\n\
         databases = [\"{NAME}\"]\nmethod = \"physical\"\n",
        clusters.path().join("drills").display(),
        postgres.url(),
        secret.path().display(),
    );
    let site = Site::new(Options { configuration, ..Options::default() });
    let mut victim = Victim::new(&site, seed("kill a log"));
    let of_gis = |client: &Client, name: &str| {
        let entry = client.dr_get(&format!("stores/s1/backups/{name}")).ok();
        let part = &entry["relationalStore"][0];
        let time = |key: &str| part[key].as_i64().unwrap_or_else(|| panic!("{entry}"));
        (time("recoverableFrom"), time("recoverableUntil"))
    };
    let back_up = |client: &Client, name: &str| {
        let job = client.back_up(name);
        assert_eq!(job["warnings"].as_array().map_or(0, Vec::len), 0, "{job}");
        of_gis(client, name)
    };
    let (from, _) = back_up(&victim.client, "first");

    let stop = AtomicBool::new(false);
    // Also if something is found wrong.
    struct Stop<'s>(&'s AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let until = std::thread::scope(|scope| {
        let stop = Stop(&stop);
        let (server, stopped) = (&postgres, stop.0);
        scope.spawn(move || write(server, stopped));
        let mut until = 0;
        for round in 0.. {
            let pause = Duration::from_millis(victim.random.random_range(0..400));
            std::thread::sleep(pause);
            let which = victim.random.random_range(0..3);
            if which != 0 {
                postgres.kill();
            }
            if which != 1 {
                victim.server.kill();
                victim.kills += 1;
            }
            std::thread::sleep(Duration::from_millis(victim.random.random_range(0..200)));
            if which != 0 {
                postgres.start_again();
                victim.kills += 1;
            }
            if which != 1 {
                victim.restart();
            }
            victim.note(["strongroom died", "the database server died", "both died"][which]);
            if round % 4 == 3 {
                let window = back_up(&victim.client, &format!("b{round}"));
                assert_eq!(window.0, from, "the log goes on from the first base");
                assert!(window.1 > until);
                until = window.1;
            }
            if victim.kills >= kills(0.25) && round >= 3 {
                break;
            }
        }
        drop(stop);
        postgres.kill();
        until
    });
    postgres.start_again();
    let rows = committed(&postgres);
    let (_, end) = back_up(&victim.client, "last");
    assert!(end > until);
    for number in 0..2 {
        let at = victim.random.random_range(from..=end);
        let fields = [("passcode", PASSCODE), ("components", "gis"), ("recoveryTime", &at.to_string())];
        victim.client.completed(&victim.client.dr_post("stores/s1/backups/last/restore", &fields).ok());
        let expected = rows.iter().filter(|(_, committed)| *committed <= at * 1000).count();
        let found = postgres.sql(NAME, "SELECT count(*), COALESCE(max(n), 0) FROM numbers");
        assert_eq!(found, format!("{expected}|{expected}"), "{number}: at {at} of {from} to {end}");
    }
    eprintln!("kill a log: {} rows", rows.len());
    victim.report("log");
}
