//! What the tests of this module share: trees with everything in them, mounts, restores staged by hand.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::journal::Method;
use super::place;
use super::staging::{NEW, Staging};
use super::swap::Swap;

/// Whether mounts can be made; says so loudly if not.
pub(super) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: this test mounts file systems and needs root");
    }
    root
}

/// A mount that goes with the value.
pub(super) struct Mount(PathBuf);

impl Mount {
    pub fn bind(source: &Path, at: &Path) -> Self {
        Self::at(Command::new("mount").arg("--bind").arg(source).arg(at), at)
    }

    pub fn tmpfs(at: &Path, options: &str) -> Self {
        Self::at(Command::new("mount").args(["-t", "tmpfs", "-o", options, "strongroom-test"]).arg(at), at)
    }

    fn at(command: &mut Command, at: &Path) -> Self {
        assert!(command.status().unwrap().success(), "{command:?}");
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A tree of all kinds of entries; `flavour` makes two of them differ, while some names are in both.
pub(super) fn fill(root: &Path, flavour: &str) {
    fs::create_dir_all(root.join("sub/deep")).unwrap();
    fs::create_dir(root.join(format!("only-{flavour}"))).unwrap();
    for name in ["a", "sub/b", "sub/deep/c"] {
        fs::write(root.join(name), format!("{flavour} {name}")).unwrap();
    }
    fs::write(root.join(OsStr::from_bytes(format!("caf\u{e9} {flavour}").as_bytes())), "x").unwrap();
    fs::write(root.join(OsStr::from_bytes(b"latin \xe9\n")), flavour).unwrap();
    fs::hard_link(root.join("a"), root.join("hard")).unwrap();
    symlink(format!("{flavour}/nowhere"), root.join("link")).unwrap();
    fs::set_permissions(root.join("sub/b"), fs::Permissions::from_mode(0o640)).unwrap();
    fs::set_permissions(root.join("sub/deep"), fs::Permissions::from_mode(0o511)).unwrap();
    rustix::fs::setxattr(root, "user.flavour", flavour.as_bytes(), rustix::fs::XattrFlags::empty()).unwrap();
    rustix::fs::setxattr(root, format!("user.only-{flavour}"), b"1", rustix::fs::XattrFlags::empty())
        .unwrap();
    let mode = if flavour == "new" { 0o750 } else { 0o711 };
    fs::set_permissions(root, fs::Permissions::from_mode(mode)).unwrap();
}

/// All that a restore must bring back, path by path; the root's own line is "". Hard links are told by a
/// number that names in one tree share. Staging directories do not count.
pub(super) fn picture(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let (mut lines, mut links) = (BTreeMap::new(), BTreeMap::new());
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let path = root.join(&relative);
        let m = fs::symlink_metadata(&path).unwrap();
        let next = links.len();
        let link = *links.entry(m.ino()).or_insert(next);
        let content = if m.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let to = fs::read_link(&path).unwrap_or_default();
        let link = if m.is_file() && m.nlink() > 1 { link } else { 0 };
        let attributes = attributes(&path);
        lines.insert(
            relative.as_os_str().as_bytes().to_vec(),
            format!("{:o} {}:{} {to:?} {content:?} {link} {attributes:?}", m.mode(), m.uid(), m.gid()),
        );
        if m.is_dir() {
            let mut names: Vec<_> = fs::read_dir(&path).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names.retain(|name| !name.as_bytes().starts_with(place::STAGING_PREFIX.as_bytes()));
            todo.extend(names.iter().rev().map(|name| relative.join(name)));
        }
    }
    lines
}

fn attributes(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut list = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let names = list[..length].split(|b| *b == 0).map(|name| String::from_utf8(name.to_vec()).unwrap());
    let user = names.filter(|name| name.starts_with("user."));
    user.map(|name| {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, &name, &mut value[..]).unwrap();
        value.truncate(length);
        (name, value)
    })
    .collect()
}

/// A staging directory filled by hand, ready to be prepared.
pub(super) fn staged_by_hand(target: &Path, method: Method, job: &str) -> Swap {
    let target = place::resolve(target).unwrap();
    let parent = match method {
        Method::Root => target.parent().unwrap(),
        Method::Entries => &target,
    };
    let staging = Staging::create(parent, &place::staging_name(job, &target).unwrap()).unwrap();
    fs::create_dir(staging.path.join(NEW)).unwrap();
    fill(&staging.path.join(NEW), "new");
    Swap::new(&target, staging, method)
}

/// Runs `work` as if the process were killed where it calls [`kill`]: nothing that comes after it is done.
/// `None`: killed.
pub(super) fn until_killed<T>(work: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(value) => Some(value),
        Err(payload) if payload.is::<Killed>() => None,
        Err(payload) => resume_unwind(payload),
    }
}

struct Killed;

pub(super) fn kill() -> ! {
    resume_unwind(Box::new(Killed) as Box<dyn Any + Send>)
}
