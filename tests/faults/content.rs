//! Protected content that changes from one generation to the next, and what it looks like: every name, kind, mode,
//! time and hash.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use repository::Id;

/// Everything below a directory, itself included, by its path.
#[derive(Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    content: Option<Id>,
}

impl Tree {
    /// Reads all of it.
    pub fn of(root: &Path) -> Self {
        let mut tree = BTreeMap::new();
        let mut open = vec![root.to_owned()];
        while let Some(path) = open.pop() {
            let meta = path.symlink_metadata().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            let content = if meta.is_dir() {
                open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
                None
            } else if meta.is_symlink() {
                Some(Id::of(fs::read_link(&path).unwrap().as_os_str().as_bytes()))
            } else {
                Some(Id::of(&fs::read(&path).unwrap()))
            };
            let entry = Entry {
                mode: meta.mode(),
                owner: (meta.uid(), meta.gid()),
                modified: (meta.mtime(), meta.mtime_nsec()),
                content,
            };
            tree.insert(path.strip_prefix(root).unwrap().to_owned(), entry);
        }
        Self(tree)
    }

    /// A few of the differences to another.
    pub fn differences(&self, other: &Self) -> String {
        let paths = self.0.keys().chain(other.0.keys().filter(|path| !self.0.contains_key(*path)));
        let differs = paths.filter(|path| self.0.get(*path) != other.0.get(*path));
        let lines: Vec<String> = differs
            .take(8)
            .map(|path| format!("{}: {:?} and {:?}", path.display(), self.0.get(path), other.0.get(path)))
            .collect();
        lines.join("\n")
    }
}

/// How large the content is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Small files.
    pub files: usize,
    /// Bytes of the one large file.
    pub large: usize,
}

/// Some hundreds of files and one of 40 MB: an operation takes about a second.
pub const USUAL: Size = Size { files: 300, large: 40 << 20 };
/// An operation takes as little time as it can.
pub const SMALL: Size = Size { files: 40, large: 3 << 20 };

/// Content that makes itself.
pub struct Content {
    root: PathBuf,
    size: Size,
    random: StdRng,
    names: usize,
}

impl Content {
    /// Fills an empty directory.
    pub fn new(root: &Path, size: Size, seed: u64) -> Self {
        let mut content = Self { root: root.to_owned(), size, random: StdRng::seed_from_u64(seed), names: 0 };
        for _ in 0..size.files {
            content.add();
        }
        let bytes = content.bytes(size.large);
        fs::write(root.join("large.bin"), bytes).unwrap();
        symlink("large.bin", root.join("link")).unwrap();
        fs::create_dir(root.join("empty")).unwrap();
        content
    }

    /// What it looks like now.
    pub fn tree(&self) -> Tree {
        Tree::of(&self.root)
    }

    /// The next generation: a tenth of the files changed, some gone, some new, half of the large one rewritten.
    pub fn change(&mut self) {
        let mut files = self.files();
        let some = (files.len() / 10).max(1);
        for _ in 0..some {
            let file = &files[self.random.random_range(0..files.len())].clone();
            let length = self.random.random_range(0..20_000);
            let bytes = self.bytes(length);
            fs::write(file, bytes).unwrap();
        }
        for _ in 0..some {
            let gone = files.swap_remove(self.random.random_range(0..files.len()));
            fs::remove_file(gone).unwrap();
            self.add();
        }
        let half = self.size.large / 2;
        let (bytes, at) = (self.bytes(half), self.random.random_range(0..=half));
        let mut large = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.root.join("large.bin"))
            .unwrap();
        large.seek(SeekFrom::Start(at as u64)).unwrap();
        large.write_all(&bytes).unwrap();
    }

    fn add(&mut self) {
        self.names += 1;
        let directory =
            self.root.join(format!("folder {}", self.names % 17)).join(format!("{}", self.names % 5));
        fs::create_dir_all(&directory).unwrap();
        let file = directory.join(format!("file-{:05}.dat", self.names));
        let length = self.random.random_range(0..20_000);
        let bytes = self.bytes(length);
        fs::write(&file, bytes).unwrap();
        if self.names.is_multiple_of(7) {
            fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let mut open = vec![self.root.clone()];
        while let Some(directory) = open.pop() {
            for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    open.push(entry.path());
                } else if kind.is_file() && entry.file_name() != "large.bin" {
                    files.push(entry.path());
                }
            }
        }
        files.sort();
        files
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.random.fill_bytes(&mut bytes);
        bytes
    }
}

/// A seed: of the environment, or a new one. Printed, so that a run can be repeated.
pub fn seed(test: &str) -> u64 {
    let seed = std::env::var("STRONGROOM_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    eprintln!("{test}: STRONGROOM_TEST_SEED={seed}");
    seed
}
