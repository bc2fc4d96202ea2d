//! Several clients work on one repository at the same time: two back up, the third forgets and prunes. Each is a process
//! of its own and tries again while another holds the lock, as a user would.
//!
//! `STRONGROOM_TEST_ROUNDS=50` for a long run.

use std::path::Path;
use std::time::{Duration, Instant};

use super::command::{Place, Ran};

const LOCKED: i32 = 11;
const DEADLINE: Duration = Duration::from_secs(240);

/// Runs a verb until no lock is in its way.
fn insist(place: &Place, arguments: &[&str]) -> Ran {
    let since = Instant::now();
    loop {
        let ran = place.repo(arguments);
        if ran.code != LOCKED || since.elapsed() > DEADLINE {
            return ran.expect(0);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Content that no other round and writer has, and some that all have.
fn write(source: &Path, writer: usize, round: usize) {
    let line = |n: usize| format!("line {n} of writer {writer} in round {round}\n");
    std::fs::write(source.join("changing"), (0..3000).map(line).collect::<String>()).unwrap();
    std::fs::write(source.join(format!("added-{}", round % 4)), line(round)).unwrap();
    std::fs::write(source.join("shared"), format!("both have this in round {round}\n").repeat(500)).unwrap();
}

#[test]
fn every_snapshot_verifies_though_one_client_prunes_while_two_back_up() {
    let rounds = std::env::var("STRONGROOM_TEST_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let place = Place::with_repository();
    let sources = [place.path("one"), place.path("two")];
    for source in &sources {
        std::fs::create_dir(source).unwrap();
    }
    for round in 0..rounds {
        std::thread::scope(|scope| {
            for (writer, source) in sources.iter().enumerate() {
                let place = &place;
                scope.spawn(move || {
                    for half in 0..2 {
                        write(source, writer, 2 * round + half);
                        insist(place, &["backup", source.to_str().unwrap()]);
                    }
                });
            }
            scope.spawn(|| {
                insist(&place, &["forget", "--keep-last", "2"]);
                insist(&place, &["prune", "--max-unused", "0"]);
            });
        });
        let ran = insist(&place, &["check", "--read-data"]);
        assert!(!ran.out.contains("damaged"), "round {round}: {ran}");
        // Both writers' newest snapshots are there, and nothing was lost on the way.
        let snapshots = place.repo(["--json", "snapshots"]).expect(0).json();
        let listed = snapshots[0].as_array().unwrap().len();
        assert!((4..=8).contains(&listed), "round {round}: {listed} snapshots");
        for source in &sources {
            let target = place.path("restored");
            let newest = snapshots[0].as_array().unwrap().iter().rev();
            let mut newest = newest.filter(|s| s["paths"][0].as_str() == source.to_str());
            let id = newest.next().unwrap()["id"].as_str().unwrap().to_owned();
            let from = format!("{id}:{}", source.display());
            place.repo(["restore", &from, "--target", target.to_str().unwrap()]).expect(0);
            for name in ["changing", "shared"] {
                let (was, is) = (std::fs::read(source.join(name)), std::fs::read(target.join(name)));
                assert_eq!(is.unwrap(), was.unwrap(), "round {round}: {name}");
            }
            std::fs::remove_dir_all(&target).unwrap();
        }
    }
    println!("{rounds} rounds, one client pruning beside two that backed up");
}
