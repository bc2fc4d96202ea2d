//! What must be true of a site whenever no job is at work, however the server died before.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use strongroom_tests::server::{PASSCODE, Site, command};

/// All files below a directory.
pub fn files(root: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![root.to_owned()]);
    while let Some(directory) = open.pop() {
        let Ok(listing) = fs::read_dir(&directory) else { continue };
        for entry in listing.map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => files.push(entry.path()),
            }
        }
    }
    files
}

/// Names in a directory; none if it is not there.
pub fn names(directory: &Path) -> Vec<String> {
    let Ok(listing) = fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<String> =
        listing.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The vaults of a store.
pub fn vaults(store: &Path) -> Vec<PathBuf> {
    names(&store.join("vaults")).into_iter().map(|name| store.join("vaults").join(name)).collect()
}

/// Nothing of a job is left: no running record, no staged or set aside content, in the store and beside the content.
#[track_caller]
pub fn nothing_half_made(site: &Site) {
    let mut running = names(&site.store().join("running"));
    running.retain(|name| !name.starts_with('.')); // torn files of a dead writer are nothing to anybody
    assert_eq!(running, [""; 0], "running records");
    assert_eq!(names(site.content().parent().unwrap()), ["content"], "beside the content");
    let inside = names(&site.content());
    assert!(!inside.iter().any(|name| name.starts_with(".strongroom")), "{inside:?}");
}

/// Every byte of the store is what it should be, and each of its backups can be restored whole.
#[track_caller]
pub fn verifies(store: &Path) {
    let output = rescue(store, &["verify"]);
    assert!(output.status.success(), "rescue verify: {}", text(&output));
}

/// `strongroom rescue`, with the passcode.
pub fn rescue(store: &Path, arguments: &[&str]) -> Output {
    let mut command = command();
    command.arg("rescue").args(arguments).arg("--store").arg(store).env("STRONGROOM_PASSCODE", PASSCODE);
    command.output().unwrap()
}

/// Stock restic finds nothing wrong in any vault; packs that nothing refers to are no error.
#[track_caller]
pub fn restic_agrees(store: &Path) {
    for vault in vaults(store) {
        let output = restic(&vault, &["check"]);
        assert!(output.status.success(), "restic check: {}", text(&output));
    }
}

/// Stock restic in a vault.
pub fn restic(vault: &Path, arguments: &[&str]) -> Output {
    let mut command =
        Command::new(std::env::var_os("STRONGROOM_TEST_RESTIC_OLD").unwrap_or_else(|| "restic".into()));
    command.arg("--no-cache").arg("-r").arg(vault).args(arguments).env("RESTIC_PASSWORD", PASSCODE);
    command.output().expect("restic: apt-get install restic")
}

/// What a program said.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The phase that the journal of a restore stands in, or whatever else there is of it.
pub fn restore_phase(site: &Site) -> String {
    let beside = site.content().parent().unwrap().to_owned();
    let Some(staging) = names(&beside).into_iter().find(|name| name.starts_with(".strongroom")) else {
        return "no staging".to_owned();
    };
    let Ok(journal) = fs::read_to_string(beside.join(staging).join("journal.json")) else {
        return "staging, no journal".to_owned();
    };
    let journal: serde_json::Value = serde_json::from_str(&journal).unwrap();
    journal["phase"].as_str().unwrap_or("?").to_owned()
}

/// How far a backup in the store has come.
pub fn backup_phase(store: &Path, name: &str, before: &Traces) -> &'static str {
    if store.join(format!("backups/{name}.json")).exists() {
        return if names(&store.join("running")).is_empty() { "ended" } else { "entry written" };
    }
    let now = Traces::of(store);
    if names(&store.join("running")).is_empty() {
        "not begun"
    } else if now.groups > before.groups {
        "group written"
    } else if now.snapshots > before.snapshots {
        "snapshot written"
    } else if now.packs > before.packs {
        "packs written"
    } else {
        "running record written"
    }
}

/// How many files of each kind lie in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces {
    pub groups: usize,
    pub snapshots: usize,
    pub packs: usize,
    pub locks: usize,
    pub deleted: usize,
    pub revoked: usize,
    /// Torn files of writers that died.
    pub temporary: usize,
}

impl Traces {
    pub fn of(store: &Path) -> Self {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for file in files(store) {
            let relative = file.strip_prefix(store).unwrap().display().to_string();
            let is_temporary = relative.contains("/.") && relative.contains(".tmp-");
            let parts: Vec<&str> = relative.split('/').collect();
            let kind = match parts.as_slice() {
                _ if is_temporary => "temporary",
                ["vaults", _, "data", ..] => "packs",
                ["vaults", _, "snapshots", _] => "snapshots",
                ["vaults", _, "locks", _] => "locks",
                ["groups", _] => "groups",
                ["deleted", _] => "deleted",
                ["revoked", _] => "revoked",
                _ => "other",
            };
            *kinds.entry(kind).or_default() += 1;
        }
        let count = |kind| kinds.get(kind).copied().unwrap_or(0);
        Self {
            groups: count("groups"),
            snapshots: count("snapshots"),
            packs: count("packs"),
            locks: count("locks"),
            deleted: count("deleted"),
            revoked: count("revoked"),
            temporary: count("temporary"),
        }
    }
}
