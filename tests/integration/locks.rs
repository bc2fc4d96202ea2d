//! Locks: who waits for whom, who is refused, and what `unlock` removes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use strongroom_tests::tree::noise;

use crate::command::{Place, Restic, restic, restics};
use crate::command_line::with_snapshot;
use crate::forge::Forge;
use crate::world::keys;

const MINUTE: Duration = Duration::from_secs(60);

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "waited too long: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub fn locks(place: &Place) -> usize {
    fs::read_dir(place.repository().join("locks")).map_or(0, |entries| entries.count())
}

pub fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// restic, which reads what to back up from us and holds a shared lock until we stop.
fn held_by(restic: &Restic, place: &Place) -> Child {
    let mut backup = place.restic_on(restic, &place.repository(), ["backup", "--stdin"]);
    let held = backup.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    until("restic has its lock", || locks(place) == 1);
    held
}

fn let_go(mut held: Child) {
    held.stdin.take().unwrap().write_all(b"something").unwrap();
    assert!(held.wait().unwrap().success(), "the backup of restic beside ours");
}

#[test]
fn a_lock_of_restic_that_is_alive_ends_with_11() {
    let place = with_snapshot();
    let held = held_by(&restic(), &place);
    place.repo(["check"]).expect(11).expect_text("locked");
    place.repo(["prune"]).expect(11);
    place.repo(["forget", "--keep-last", "1"]).expect(11);
    place.repo(["backup", place.path("source").to_str().unwrap()]).expect(0);
    let_go(held);
    place.repo(["check", "--read-data"]).expect(0);

    Forge::new(&place).lock(MINUTE, true);
    let target = place.path("target");
    for verb in
        [&["backup", "/etc/hostname"][..], &["restore", "latest", "--target", target.to_str().unwrap()]]
    {
        place.repo(verb).expect(11).expect_text("elsewhere");
    }
    assert!(!target.exists());
    assert_eq!(locks(&place), 1, "somebody's live lock is left alone, and none of ours stays");
    place.repo(["--no-lock", "snapshots"]).expect(0);
    place.repo(["unlock"]).expect(0);
    assert_eq!(locks(&place), 1, "unlock leaves a live lock alone");
    place.repo(["unlock", "--remove-all"]).expect(0);
    assert_eq!(locks(&place), 0);
}

#[test]
fn a_lock_of_restic_is_waited_for_as_long_as_was_asked_for() {
    let place = with_snapshot();
    for verb in [&["check"][..], &["forget", "--keep-last", "1", "--prune"], &["prune"], &["repair", "index"]]
    {
        let held = held_by(&restic(), &place);
        let ran = place.repo(verb.iter().copied().chain(["--retry-lock", "1s"])).expect(11);
        assert_eq!(ran.err.matches("waiting up to 1 s").count(), 1, "{ran}");
        let mut command = place.repo_command(verb);
        command.args(["--retry-lock", "1h"]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut waiting = command.spawn().unwrap();
        let mut told = BufReader::new(waiting.stderr.take().unwrap()).lines();
        let line = told.next().unwrap().unwrap();
        assert!(
            line.starts_with("waiting up to 1 h 00 min, as the repository is locked"),
            "{verb:?}: {line}"
        );
        let_go(held);
        let more: Vec<String> = told.map_while(Result::ok).collect();
        assert!(waiting.wait().unwrap().success(), "{verb:?}: {more:?}");
        assert!(!more.iter().any(|line| line.contains("waiting")), "{verb:?}: {more:?}");
        assert_eq!(locks(&place), 0);
    }
    place.restic(&restic(), ["check", "--read-data"]).expect(0);
    place.repo(["check", "--retry-lock", "5"]).expect(2).expect_text("1h30m");
}

#[test]
fn who_waits_for_a_lock_can_be_interrupted() {
    let place = with_snapshot();
    Forge::new(&place).lock(MINUTE, true);
    let mut command = place.repo_command(["snapshots", "--retry-lock", "1h"]);
    let mut waiting = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut told = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(told.next().unwrap().unwrap().contains("waiting"));
    kill(&waiting, Signal::INT);
    assert_eq!(waiting.wait().unwrap().code(), Some(130));
}

#[test]
fn a_lock_of_ours_keeps_restic_out() {
    let place = with_snapshot();
    let backup = halted_backup(&place);
    let refused = place.restic(&restic(), ["prune"]);
    assert!(refused.code != 0 && refused.err.contains("already locked"), "{refused}");
    backup.end_by(Signal::INT);
    place.restic(&restic(), ["prune"]).expect(0);
}

/// A process that was halted; it must not outlive a test that failed.
pub struct Halted(Option<Child>);

impl Halted {
    pub fn id(&self) -> u32 {
        self.0.as_ref().unwrap().id()
    }

    /// Sends a signal and lets it go on so that it can end.
    pub fn end_by(mut self, signal: Signal) -> std::process::Output {
        let child = self.0.take().unwrap();
        kill(&child, signal);
        kill(&child, Signal::CONT);
        child.wait_with_output().unwrap()
    }
}

impl Drop for Halted {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a backup and halts it, with its lock in place, once its first pack is stored.
pub fn halted_backup(place: &Place) -> Halted {
    let large = place.path("large");
    fs::write(&large, noise(5, 96 << 20)).unwrap();
    let packs = || keys(&place.repository(), "data/").len();
    let before = packs();
    let mut command = place.repo_command(["backup", large.to_str().unwrap()]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the backup stores a pack", || packs() > before);
    kill(&child, Signal::STOP);
    Halted(Some(child))
}

#[test]
fn unlock_removes_a_fresh_lock_that_a_dead_process_left_here() {
    let place = with_snapshot();
    let ours = halted_backup(&place);
    assert_eq!(locks(&place), 1);
    let told = place.repo(["unlock"]).expect(0);
    assert!(told.err.contains("1 lock stays"), "of a process that lives: {told}");
    let refused = place.repo(["prune"]).expect(11);
    assert!(refused.err.contains("run 'unlock' on the same machine"), "{refused}");
    ours.end_by(Signal::KILL);
    place.repo(["prune"]).expect(11);
    assert_eq!(locks(&place), 1, "only who is asked to judges by process ids");
    place.repo(["unlock"]).expect(0).expect_text("removed 1 lock");
    place.repo(["prune"]).expect(0);

    for restic in restics() {
        let mut held = held_by(&restic, &place);
        place.repo(["unlock"]).expect(0);
        assert_eq!(locks(&place), 1, "of a process that lives");
        kill(&held, Signal::KILL);
        held.wait().unwrap();
        place.repo(["unlock"]).expect(0).expect_text("removed 1 lock");
        assert_eq!(locks(&place), 0);
    }
    // A process of this number may live elsewhere.
    Forge::new(&place).lock(MINUTE, true);
    place.repo(["unlock"]).expect(0);
    assert_eq!(locks(&place), 1);
    place.repo(["unlock", "--remove-all"]).expect(0);
}

#[test]
fn locks_of_half_an_hour_ago_stop_nobody() {
    for exclusive in [false, true] {
        let place = with_snapshot();
        Forge::new(&place).lock(29 * MINUTE, exclusive);
        place.repo(["check"]).expect(11);
        place.repo(["unlock", "--remove-all"]).expect(0);
        Forge::new(&place).lock(31 * MINUTE, exclusive);
        place.repo(["backup", place.path("source").to_str().unwrap()]).expect(0);
        Forge::new(&place).lock(31 * MINUTE, exclusive);
        place.repo(["check"]).expect(0);
        Forge::new(&place).lock(31 * MINUTE, exclusive);
        place.repo(["unlock"]).expect(0);
        assert_eq!(locks(&place), 0);
    }
}
