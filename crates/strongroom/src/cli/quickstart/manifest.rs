//! What every entry below a directory is: the ground truth that a restore is compared with. It is taken by reading
//! the files themselves and knows nothing of backups.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

/// Every entry below a directory, by its path in it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// What each path is.
    pub entries: BTreeMap<PathBuf, Entry>,
}

/// One file, directory or link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is, and what is in it.
    pub kind: Kind,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    /// Attributes of the user's own.
    attributes: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File {
        /// Its length.
        bytes: u64,
        /// SHA-256 of its content.
        hash: [u8; 32],
        /// The first path that is the same file by a hard link.
        same_as: Option<PathBuf>,
    },
    /// A directory.
    Directory,
    /// A symbolic link, and where it points.
    Symlink(PathBuf),
    /// A socket, a device or a named pipe.
    Special,
    /// It cannot be read, so it cannot be compared.
    Unreadable,
}

/// One path at which two manifests differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The path.
    pub path: PathBuf,
    /// What differs.
    pub what: &'static str,
}

impl Manifest {
    /// Reads everything below `root`. `seen` is told of each entry, with its length if it is a file, and may stop
    /// the work.
    pub fn take(root: &Path, seen: &mut dyn FnMut(Option<u64>) -> Result<()>) -> Result<Self> {
        let mut manifest = Self::default();
        let mut first_names = HashMap::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let mut names = Vec::new();
            let place = root.join(&folder);
            for entry in fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))? {
                names.push(entry?.file_name());
            }
            names.sort();
            for name in names {
                let path = folder.join(name);
                let full = root.join(&path);
                let metadata =
                    full.symlink_metadata().with_context(|| format!("cannot read {}", full.display()))?;
                let kind = kind(&full, &path, &metadata, &mut first_names);
                seen(metadata.is_file().then_some(metadata.len()))?;
                if kind == Kind::Directory {
                    folders.push(path.clone());
                }
                manifest.entries.insert(path, entry(&full, kind, &metadata));
            }
        }
        Ok(manifest)
    }

    /// Regular files.
    pub fn files(&self) -> impl Iterator<Item = (&Path, u64)> {
        self.entries.iter().filter_map(|(path, entry)| match &entry.kind {
            Kind::File { bytes, .. } => Some((path.as_path(), *bytes)),
            _ => None,
        })
    }

    /// How many regular files there are, and how many bytes in them.
    pub fn size(&self) -> (u64, u64) {
        self.files().fold((0, 0), |(files, total), (_, bytes)| (files + 1, total + bytes))
    }

    /// Where `other` is not what this one says.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let mut found = Vec::new();
        for (path, entry) in &self.entries {
            if entry.kind == Kind::Unreadable {
                continue;
            }
            let what = match other.entries.get(path) {
                None => Some("missing"),
                Some(there) => entry.differs(there),
            };
            found.extend(what.map(|what| Difference { path: path.clone(), what }));
        }
        for path in other.entries.keys().filter(|path| !self.entries.contains_key(*path)) {
            found.push(Difference { path: path.clone(), what: "not there before" });
        }
        found
    }
}

impl Entry {
    fn differs(&self, there: &Self) -> Option<&'static str> {
        match (&self.kind, &there.kind) {
            (Kind::File { bytes: a, .. }, Kind::File { bytes: b, .. }) if a != b => Some("other length"),
            (Kind::File { hash: a, .. }, Kind::File { hash: b, .. }) if a != b => Some("other content"),
            (Kind::File { same_as: a, .. }, Kind::File { same_as: b, .. }) if a != b => {
                Some("other hard link")
            }
            (Kind::Symlink(a), Kind::Symlink(b)) if a != b => Some("points elsewhere"),
            (a, b) if a != b => Some("another kind of thing"),
            _ if self.mode != there.mode => Some("other mode"),
            _ if self.owner != there.owner => Some("other owner"),
            _ if self.modified != there.modified => Some("other time"),
            _ if self.attributes != there.attributes => Some("other attributes"),
            _ => None,
        }
    }
}

fn entry(full: &Path, kind: Kind, metadata: &Metadata) -> Entry {
    Entry {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        attributes: attributes(full).unwrap_or_default(),
    }
}

fn kind(full: &Path, path: &Path, metadata: &Metadata, first: &mut HashMap<(u64, u64), PathBuf>) -> Kind {
    if metadata.is_dir() {
        return if fs::read_dir(full).is_ok() { Kind::Directory } else { Kind::Unreadable };
    }
    if metadata.is_symlink() {
        return fs::read_link(full).map_or(Kind::Unreadable, Kind::Symlink);
    }
    if !metadata.is_file() {
        return Kind::Special;
    }
    let Ok(hash) = hash(full) else { return Kind::Unreadable };
    let same_as = if metadata.nlink() > 1 {
        let known = first.entry((metadata.dev(), metadata.ino())).or_insert_with(|| path.to_owned());
        Some(known.clone()).filter(|known| known != path)
    } else {
        None
    };
    Kind::File { bytes: metadata.len(), hash, same_as }
}

fn hash(file: &Path) -> io::Result<[u8; 32]> {
    let mut opened = File::open(file)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        match opened.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Only those named `user.…`: the others belong to the system, and differ from place to place.
fn attributes(path: &Path) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, names.as_mut_slice())?;
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice())?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn take(root: &Path) -> Manifest {
        Manifest::take(root, &mut |_| Ok(())).unwrap()
    }

    fn content() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("folder")).unwrap();
        for (name, text) in [("a", "one"), ("folder/b", "two"), ("folder/c", "three")] {
            fs::write(root.path().join(name), text).unwrap();
        }
        fs::hard_link(root.path().join("a"), root.path().join("z")).unwrap();
        std::os::unix::fs::symlink("folder/b", root.path().join("link")).unwrap();
        root
    }

    fn told(before: &Manifest, root: &Path) -> Vec<(String, &'static str)> {
        let found = before.differences(&take(root));
        found.into_iter().map(|d| (d.path.display().to_string(), d.what)).collect()
    }

    #[test]
    fn what_nobody_touched_does_not_differ() {
        let root = content();
        let before = take(root.path());
        assert_eq!(before.entries.len(), 6);
        assert_eq!(before.size(), (4, 14));
        assert!(told(&before, root.path()).is_empty());
    }

    #[test]
    fn each_kind_of_change_is_seen_and_named() {
        let root = content();
        let at = |name: &str| root.path().join(name);
        let before = take(root.path());
        let times =
            fs::FileTimes::new().set_modified(fs::metadata(at("folder/c")).unwrap().modified().unwrap());
        fs::write(at("folder/c"), "THREE").unwrap();
        File::options().write(true).open(at("folder/c")).unwrap().set_times(times).unwrap();
        fs::set_permissions(at("folder/b"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::remove_file(at("link")).unwrap();
        std::os::unix::fs::symlink("folder/c", at("link")).unwrap();
        fs::write(at("new"), "").unwrap();
        let found = told(&before, root.path());
        assert!(found.contains(&("folder/c".to_owned(), "other content")), "same length and time: {found:?}");
        assert!(found.contains(&("folder/b".to_owned(), "other mode")), "{found:?}");
        assert!(found.contains(&("link".to_owned(), "points elsewhere")), "{found:?}");
        assert!(found.contains(&("new".to_owned(), "not there before")), "{found:?}");
    }

    #[test]
    fn a_copy_in_the_place_of_a_hard_link_is_a_difference() {
        let root = content();
        let before = take(root.path());
        let metadata = fs::metadata(root.path().join("z")).unwrap();
        fs::remove_file(root.path().join("z")).unwrap();
        fs::write(root.path().join("z"), "one").unwrap();
        let file = File::options().write(true).open(root.path().join("z")).unwrap();
        file.set_times(fs::FileTimes::new().set_modified(metadata.modified().unwrap())).unwrap();
        assert_eq!(told(&before, root.path()), [("z".to_owned(), "other hard link")]);
    }
}
