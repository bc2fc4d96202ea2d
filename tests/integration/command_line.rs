//! What scripts rely on: exit codes, JSON, quiet pipes, secrets that stay secret, and refusals that change nothing.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use strongroom_tests::tree::{Picture, am_root, noise};

use crate::command::{PASSCODE, Place, Ran, is_installed, restic, restics, run, strongroom};
use crate::forge::Forge;
use crate::locks::{halted_backup, locks};
use crate::world::{World, keys};

const MINUTE: Duration = Duration::from_secs(60);

/// A place with a repository and one snapshot of a small directory.
pub fn with_snapshot() -> Place {
    let place = Place::with_repository();
    let source = place.path("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), noise(1, 10_000)).unwrap();
    place.repo(["backup", source.to_str().unwrap()]).expect(0);
    place
}

#[test]
fn wrong_usage_and_configuration_end_with_2() {
    let place = with_snapshot();
    for arguments in [
        &["no-such-verb"][..],
        &["backup"],
        &["backup", "/etc/hostname", "--no-such-option"],
        &["restore", "latest"],
        &["forget"],
        &["forget", "--keep-last", "0"],
        &["prune", "--max-unused", "many"],
    ] {
        place.repo(arguments).expect(2);
    }
    run(&mut strongroom(["repo", "snapshots"])).expect(2).expect_text("--repository");
    run(&mut strongroom(["repo", "-r", "s3://", "snapshots"])).expect(2);
    run(&mut strongroom(["repo", "-r", "nonsense://x", "snapshots"])).expect(2);
    run(&mut strongroom(["rescue", "backups"])).expect(2).expect_text("--store");
    run(&mut strongroom(["serve", "--config", "/nonexistent/strongroom.toml"])).expect(2);
    run(&mut strongroom(["--help"])).expect(0);
    run(&mut strongroom(["version"])).expect(0);
    run(&mut strongroom(["--version"])).expect(0);
}

#[test]
fn a_failure_ends_with_1_and_changes_nothing() {
    let place = with_snapshot();
    let before = Picture::take(&place.repository());
    let file = place.path("passcode");
    place.repo(["restore", "latest", "--target", file.to_str().unwrap()]).expect(1).expect_text("passcode");
    place.repo(["restore", "0000000000", "--target", place.path("t").to_str().unwrap()]).expect(1);
    place.repo(["restore", "latest:/no/such", "--target", place.path("t").to_str().unwrap()]).expect(1);
    place.repo(["backup", "/no/such/path"]).expect(1).expect_text("/no/such/path");
    place.repo(["init"]).expect(1).expect_text("already");
    assert!(!place.path("t").exists(), "a target was made for a restore that cannot be");
    same_files(&before, &place);
}

/// The repository holds what it held, locks that came and went aside.
#[track_caller]
fn same_files(before: &Picture, place: &Place) {
    let files = |picture: &Picture| {
        let files = picture.entries.iter().filter(|(path, _)| !path.starts_with(b"locks"));
        files.map(|(path, entry)| (path.clone(), entry.content.clone())).collect::<Vec<_>>()
    };
    assert_eq!(files(before), files(&Picture::take(&place.repository())));
}

#[test]
fn what_could_not_be_read_is_named_and_ends_with_3() {
    let place = with_snapshot();
    let source = place.path("source");
    let secret = source.join("not for us");
    fs::write(&secret, "x").unwrap();
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
    let mut backup = place.repo_command(["backup", source.to_str().unwrap()]);
    if am_root() {
        if !is_installed("setpriv") {
            return println!(
                "NOT TESTED: a file that cannot be read, since root reads all and there is no setpriv"
            );
        }
        backup = without_rights(&backup);
    }
    let ran = run(&mut backup).expect(3);
    assert!(ran.err.contains("not for us"), "{ran}");
    assert!(!place.repo(["ls", "latest"]).expect(0).out.contains("not for us"));
    let ran = place.repo(["backup", "/etc/hostname", "/no/such/path"]).expect(3);
    assert!(ran.err.contains("/no/such/path"), "{ran}");
    place.repo(["check", "--read-data"]).expect(0);
}

/// The same command as a root whom file modes bind.
fn without_rights(command: &Command) -> Command {
    let mut bound = Command::new("setpriv");
    bound
        .arg("--bounding-set=-dac_override,-dac_read_search")
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(name, value),
            None => bound.env_remove(name),
        };
    }
    bound
}

/// Runs a verb as somebody whom file modes bind.
fn bound(place: &Place, verb: &[&str]) -> Ran {
    let command = place.repo_command(verb);
    run(&mut if am_root() { without_rights(&command) } else { command })
}

#[test]
fn a_repository_without_the_rights_to_it_ends_with_1_says_so_and_stays_as_it_is() {
    use std::os::unix::fs::PermissionsExt;
    if am_root() && !is_installed("setpriv") {
        return println!(
            "NOT TESTED: a repository without rights, since root may do all and there is no setpriv"
        );
    }
    let place = with_snapshot();
    let (source, target) = (place.path("source"), place.path("target"));
    let (source, target) = (source.to_str().unwrap(), target.to_str().unwrap());
    let reads: [&[&str]; 4] =
        [&["snapshots"], &["check"], &["ls", "latest"], &["restore", "latest", "-t", target]];
    let writes: [&[&str]; 4] =
        [&["backup", source], &["forget", "--keep-last", "1"], &["prune"], &["key", "passwd"]];
    let forbid = |what: &str, mode: u32| {
        let path = place.repository().join(what);
        let old = path.metadata().unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        move || fs::set_permissions(&path, old.clone()).unwrap()
    };
    // Nothing can be read: neither "no repository" nor "wrong passcode" nor "damaged".
    for what in ["", "keys", "config", "index", "snapshots"] {
        let allow = forbid(what, 0o000);
        for verb in reads.iter().chain(&writes).filter(|verb| what != "index" || verb[0] != "snapshots") {
            if what == "index" && matches!(verb[0], "forget" | "key")
                || what == "snapshots" && verb[0] == "key"
            {
                continue;
            }
            let ran = bound(&place, verb);
            let told = ran.err.to_lowercase();
            assert!(ran.code == 1 && told.contains("permission denied"), "'{what}': {ran}");
        }
        allow();
    }
    // It can be read and not written: a lock cannot be had, and need not be.
    let allow = forbid("locks", 0o555);
    for verb in reads.iter().chain(&writes) {
        bound(&place, verb).expect(1).expect_text("permission denied");
    }
    for verb in reads {
        let verb: Vec<&str> = ["--no-lock"].iter().chain(verb).copied().collect();
        bound(&place, &verb).expect(0);
    }
    allow();
    let allow = forbid("snapshots", 0o555);
    bound(&place, &["backup", source]).expect(1).expect_text("permission denied");
    allow();
    place.repo(["check", "--read-data"]).expect(0);
    let listed = place.repo(["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed[0].as_array().unwrap().len(), 1);
}

#[test]
fn a_place_without_repository_or_store_ends_with_10() {
    let place = Place::new();
    place.repo(["snapshots"]).expect(10);
    fs::create_dir(place.repository()).unwrap();
    for verb in [&["snapshots"][..], &["check"], &["backup", "/etc/hostname"], &["prune"], &["unlock"]] {
        place.repo(verb).expect(10);
    }
    assert_eq!(
        fs::read_dir(place.repository()).unwrap().count(),
        0,
        "something was made in the empty directory"
    );
    for store in [place.repository(), place.path("nowhere")] {
        run(strongroom(["rescue", "backups", "--store"]).arg(store)).expect(10);
    }
}

#[test]
fn a_wrong_passcode_ends_with_12_and_touches_nothing() {
    let place = with_snapshot();
    let before = Picture::take(&place.repository());
    let target = place.path("target");
    for verb in [
        &["snapshots"][..],
        &["check"],
        &["backup", "/etc/hostname"],
        &["forget", "--keep-last", "1", "--prune"],
        &["unlock", "--remove-all"],
        &["restore", "latest", "--target", target.to_str().unwrap()],
    ] {
        let ran = run(place.repo_command(verb).env("STRONGROOM_PASSCODE", "the wrong one")).expect(12);
        assert!(!format!("{}{}", ran.out, ran.err).contains("the wrong one"), "the passcode is told: {ran}");
    }
    before.assert_same(&Picture::take(&place.repository()), "the repository");

    let world = World::new();
    let before = Picture::take(&world.root());
    for verb in [&["verify"][..], &["restore", "--backup", "first", "--target", target.to_str().unwrap()]] {
        let mut rescue = strongroom(["rescue", "--store"]);
        run(rescue.arg(world.root()).args(verb).env("STRONGROOM_PASSCODE", "the wrong one")).expect(12);
    }
    before.assert_same(&Picture::take(&world.root()), "the store");
    assert!(!target.exists());
}

#[test]
fn damage_ends_with_13() {
    let place = with_snapshot();
    let pack = run(Command::new("find").arg(place.repository().join("data")).args(["-type", "f"])).out;
    for pack in pack.lines().map(Path::new) {
        let mut bytes = fs::read(pack).unwrap();
        bytes[7] ^= 1;
        fs::remove_file(pack).unwrap();
        fs::write(pack, bytes).unwrap();
        let name = pack.file_name().unwrap().to_str().unwrap();
        place.repo(["check", "--read-data"]).expect(13).expect_text(name);
    }
    place.repo(["restore", "latest", "--target", place.path("target").to_str().unwrap()]).expect(13);
}

#[test]
fn an_interrupted_backup_ends_with_130_and_leaves_nothing_half_made() {
    for signal in [Signal::INT, Signal::TERM] {
        let place = with_snapshot();
        let output = halted_backup(&place).end_by(signal);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{told}");
        assert!(!told.contains("panicked"), "{told}");
        assert_eq!(locks(&place), 0, "the lock is gone");
        let listed = place.repo(["--json", "snapshots"]).expect(0).json().remove(0);
        assert_eq!(listed.as_array().unwrap().len(), 1, "no snapshot of half a file");
        place.repo(["check", "--read-data"]).expect(0);
        place.restic(&restic(), ["check"]).expect(0);
    }
}

/// Every line of standard output must be JSON.
#[track_caller]
fn all_json(ran: Ran) -> Vec<serde_json::Value> {
    let lines = ran.json();
    assert!(!lines.is_empty(), "{ran}");
    assert!(lines.iter().all(|line| line.is_object() || line.is_array()), "{ran}");
    lines
}

#[test]
fn a_snapshot_says_who_made_it_and_the_summary_when_as_restic_does() {
    let place = with_snapshot();
    let source = place.path("source");
    for restic in restics() {
        let mut backup = place.repo_command(["backup", "--json", source.to_str().unwrap()]);
        let ours = run(backup.env_remove("USER").env_remove("LOGNAME")).expect(0).json().pop().unwrap();
        let mut backup = place.restic_on(&restic, &place.repository(), ["backup", "--json"]);
        let theirs = run(backup.arg(&source).env_remove("USER").env_remove("LOGNAME")).expect(0);
        let snapshot = |which: &str| {
            let list = place.restic(&restic, ["snapshots", "--json", which]).expect(0).json();
            list[0][0].clone()
        };
        let [ours, made] = [snapshot(ours["snapshot_id"].as_str().unwrap()), ours];
        assert!(!ours["username"].as_str().unwrap_or_default().is_empty(), "{ours}");
        assert_eq!(ours["username"], snapshot("latest")["username"]);
        assert_eq!(ours["time"], made["backup_start"], "{made}");
        let time = |name: &str| repository::Time::parse(made[name].as_str().unwrap()).unwrap();
        assert!(time("backup_start") <= time("backup_end"), "{made}");
        if restic.version >= (0, 19) {
            let fields = |told: &serde_json::Value| {
                let names = told.as_object().unwrap().keys();
                names.cloned().collect::<std::collections::BTreeSet<_>>()
            };
            let missing: Vec<_> =
                fields(&theirs.json().pop().unwrap()).difference(&fields(&made)).cloned().collect();
            assert_eq!(missing, Vec::<String>::new(), "{made}");
        }
    }
}

/// The last line of standard error of a run that failed, as a script reads it.
#[track_caller]
fn exit_error(ran: &Ran) -> serde_json::Value {
    let line = ran.err.lines().last().unwrap_or_default();
    let told: serde_json::Value =
        serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON ({e}): {line}\n{ran}"));
    assert_eq!((&told["message_type"], &told["code"]), (&"exit_error".into(), &ran.code.into()), "{ran}");
    assert!(!told["message"].as_str().unwrap().is_empty(), "{ran}");
    assert!(!ran.err.contains("error: ") && !ran.err.contains("hint: "), "in words, too: {ran}");
    told
}

#[test]
fn with_json_a_failure_ends_with_one_line_in_restics_form() {
    let place = with_snapshot();
    let target = place.path("target");
    let nowhere = format!("latest:{}", place.path("nowhere").display());
    for (code, verb) in [
        (2, &["no-such-verb"][..]),
        (2, &["backup", "--no-such-option"]),
        (2, &["backup"]),
        (2, &["find", "["]),
        (1, &["ls", &nowhere]),
        (1, &["dump", "latest", "/nowhere"]),
        (1, &["restore", &nowhere, "--target", target.to_str().unwrap()]),
        (1, &["backup", "/no/such/path"]),
        (3, &["backup", "/etc/hostname", "/no/such/path"]),
        (1, &["init"]),
        (1, &["snapshots", "0000000000"]),
    ] {
        let ran = place.repo(verb.iter().copied().chain(["--json"])).expect(code);
        exit_error(&ran);
    }
    let told = exit_error(&place.repo(["--json", "ls", &nowhere]));
    assert!(told["message"].as_str().unwrap().contains("/nowhere"), "{told}");
    let wrong = run(place.repo_command(["--json", "snapshots"]).env("STRONGROOM_PASSCODE", "the wrong one"));
    exit_error(&wrong.expect(12));
    exit_error(&run(&mut strongroom(["repo", "--json", "-r", "/nonexistent", "snapshots"])).expect(10));
    Forge::new(&place).lock(MINUTE, true);
    let told = exit_error(&place.repo(["--json", "check"]).expect(11));
    assert!(told["message"].as_str().unwrap().contains("unlock"), "{told}");
    place.repo(["unlock", "--remove-all"]).expect(0);
    for restic in restics().into_iter().filter(|restic| restic.version >= (0, 19)) {
        let theirs = exit_error(&place.restic(&restic, ["--json", "snapshots", "--no-such-option"]));
        let ours = exit_error(&place.repo(["--json", "snapshots", "--no-such-option"]).expect(2));
        let names = |told: &serde_json::Value| told.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&ours), names(&theirs));
    }
    for pack in keys(&place.repository(), "data/") {
        fs::remove_file(place.repository().join(pack)).unwrap();
    }
    exit_error(&place.repo(["--json", "check"]).expect(13));

    // What was asked for is no failure, and after `--` everything is a path.
    assert!(place.repo(["--json", "snapshots", "--help"]).expect(0).err.is_empty());
    let ran = place.repo(["backup", "--no-such-option", "--", "--json"]).expect(2);
    assert!(ran.err.starts_with("error: "), "{ran}");
}

#[test]
fn json_is_json_whatever_the_verb() {
    let place = Place::new();
    let source = place.path("source \"with\"\nodd name\u{1b}[31m");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("file"), "content").unwrap();
    let (path, target) = (source.to_str().unwrap(), place.path("target"));
    all_json(place.repo(["--json", "init"]).expect(0));
    all_json(place.repo(["--json", "backup", path, "--dry-run"]).expect(0));
    let summary = all_json(place.repo(["backup", "--json", path]).expect(0)).pop().unwrap();
    assert_eq!(
        (&summary["message_type"], &summary["files_new"]),
        (&"summary".into(), &1.into()),
        "{summary}"
    );
    let id = summary["snapshot_id"].as_str().unwrap().to_owned();
    place.repo(["backup", path]).expect(0);
    for verb in [
        &["snapshots"][..],
        &["ls", "latest"],
        &["stats"],
        &["check"],
        &["check", "--read-data"],
        &["restore", &id, "--target", target.to_str().unwrap()],
        &["forget", "--keep-last", "1", "--dry-run"],
        &["forget", &id],
        &["prune", "--dry-run"],
        &["prune"],
        &["unlock"],
    ] {
        all_json(place.repo(["--json"].iter().chain(verb)).expect(0));
    }
    let world = World::new();
    for verb in [
        &["backups"][..],
        &["verify"],
        &["verify", "--scrub"],
        &["verify", "--backup", "first"],
        &["restore", "--backup", "first", "--target", place.path("rescued").to_str().unwrap()],
    ] {
        all_json(run(strongroom(["rescue", "--json", "--store"]).arg(world.root()).args(verb)).expect(0));
    }
}

#[test]
fn a_pipe_gets_plain_text() {
    let place = with_snapshot();
    for verb in [&["snapshots"][..], &["ls", "-l", "latest"], &["check"], &["stats"], &["ls", "no such"]] {
        let ran = place.repo(verb);
        assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'), "{ran}");
        assert!(!ran.out.contains('\r') && !ran.err.contains('\r'), "{ran}");
    }
}

#[test]
fn a_terminal_gets_colour_unless_it_asks_for_none() {
    if !is_installed("script") {
        return println!("NOT TESTED: colour on a terminal, since there is no 'script' to make one");
    }
    let place = with_snapshot();
    let line = format!(
        "{} repo -r {} ls nothing",
        crate::command::strongroom_path().display(),
        place.repository().display()
    );
    let coloured = |name: &str, value: &str| {
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        script
            .env("STRONGROOM_PASSCODE", PASSCODE)
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .env(name, value);
        run(&mut script).expect(1).expect_text("error:").out.contains("\x1b[1;31m")
    };
    assert!(coloured("UNUSED", ""), "an error on a terminal is red");
    assert!(!coloured("NO_COLOR", "1"));
    assert!(coloured("NO_COLOR", ""), "an empty NO_COLOR asks for nothing");
    assert!(!coloured("TERM", "dumb"));
}

#[test]
fn a_reader_that_goes_away_is_no_drama() {
    let place = with_snapshot();
    let many = place.path("many");
    fs::create_dir(&many).unwrap();
    // More than any pipe holds.
    for number in 0..3_000 {
        fs::write(many.join(format!("{number:0>100}")), "").unwrap();
    }
    place.repo(["backup", many.to_str().unwrap()]).expect(0);
    for verb in [&["ls", "latest"][..], &["ls", "latest", "--json"], &["ls", "-l", "latest"]] {
        let mut child =
            place.repo_command(verb).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::with_capacity(16, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let mut told = String::new();
        child.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!((child.wait().unwrap().code(), told.as_str()), (Some(0), ""), "{verb:?}");
        assert_eq!(locks(&place), 0, "{verb:?} left its lock");
    }
}

#[test]
fn a_passcode_is_never_an_argument_nor_told() {
    let place = with_snapshot();
    for argument in [
        &["--passcode", "hunter2hunter2"][..],
        &["--passcode=hunter2hunter2"],
        &["--password=hunter2hunter2"],
    ] {
        let ran = place.repo(argument.iter().chain(&["snapshots"])).expect(2);
        assert!(!ran.err.contains("hunter2"), "{ran}");
    }
    let backup = halted_backup(&place);
    let line = fs::read(format!("/proc/{}/cmdline", backup.id())).unwrap();
    assert!(line.windows(6).any(|part| part == b"backup"), "this is its command line");
    assert!(!String::from_utf8_lossy(&line).contains(PASSCODE));
    backup.end_by(Signal::INT);

    let file = place.path("passcode");
    let mut from_file = place.repo_command(["snapshots", "--passcode-file", file.to_str().unwrap()]);
    run(from_file.env_remove("STRONGROOM_PASSCODE")).expect(0);
    // Neither file nor variable, and nobody at a terminal to ask.
    let mut nothing = Command::new("setsid");
    let command = place.repo_command(["snapshots"]);
    nothing
        .arg("--wait")
        .arg(command.get_program())
        .args(command.get_args())
        .env_remove("STRONGROOM_PASSCODE");
    run(&mut nothing).expect(2).expect_text("--passcode-file");
}

#[test]
fn a_short_passcode_is_refused_and_nothing_is_made() {
    let place = Place::new();
    for short in ["seven77", "", "1234567"] {
        let refused = run(place.repo_command(["init"]).env("STRONGROOM_PASSCODE", short)).expect(2);
        assert!(short.is_empty() || !refused.err.contains(short), "{refused}");
        assert!(!place.repository().exists());
    }
    run(place.repo_command(["init"]).env("STRONGROOM_PASSCODE", "пароль12")).expect(0);
}

#[test]
fn an_unknown_key_of_the_configuration_is_refused_with_line_and_suggestion() {
    let place = Place::new();
    let server = place.path("server");
    run(strongroom(["init", "--directory"]).arg(&server)).expect(0);
    let file = server.join("strongroom.toml");
    let text = fs::read_to_string(&file).unwrap();
    for (right, wrong) in [
        ("listen =", "lisen ="),
        ("data_directory =", "data_dir ="),
        ("master_key_file =", "masterkey_file ="),
    ] {
        let line = text.lines().position(|line| line.starts_with(right)).unwrap() + 1;
        fs::write(&file, text.replacen(&format!("\n{right}"), &format!("\n{wrong}"), 1)).unwrap();
        let ran = run(strongroom(["serve", "--config"]).arg(&file)).expect(2);
        for part in
            [&format!("line {line}"), wrong.split(' ').next().unwrap(), right.split(' ').next().unwrap()]
        {
            assert!(ran.err.contains(part), "'{part}' is not told: {ran}");
        }
    }
    fs::write(&file, text).unwrap();
    let mut serve = strongroom(["serve", "--config"]);
    run(serve.arg(&file).env("STRONGROOM_SERVER__LISEN", "127.0.0.1:1")).expect(2).expect_text("LISEN");
}

#[test]
fn a_repository_of_an_unknown_version_is_refused_and_left_as_it_is() {
    let place = with_snapshot();
    Forge::new(&place).version(3);
    let before = Picture::take(&place.repository());
    let source = place.path("source");
    for verb in [
        &["snapshots"][..],
        &["backup", source.to_str().unwrap()],
        &["check"],
        &["forget", "--keep-last", "1", "--prune"],
        &["prune"],
        &["unlock", "--remove-all"],
        &["init"],
    ] {
        let ran = place.repo(verb);
        assert!(![0, 3, 13].contains(&ran.code), "{ran}");
        assert!(verb == ["init"] || ran.err.contains("version 3"), "{ran}");
    }
    before.assert_same(&Picture::take(&place.repository()), "the repository of version 3");
}
