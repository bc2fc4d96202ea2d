//! Trees of files to protect, and how to compare them.
//!
//! [`make_odd_tree`] makes a tree with everything that a POSIX file system can hold and a backup could lose.
//! [`Picture::take`] writes down what a restore must bring back, bytes as bytes, and [`Picture::differences`] says,
//! entry by entry and aspect by aspect, how a copy differs. Nothing here knows how the product does it.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File, Permissions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags, chownat,
    lsetxattr, makedev, mknodat, openat, readlinkat, statat, utimensat,
};

/// Holes smaller than this may fill up in a copy.
const HOLE_BYTES_MIN: u64 = 2 << 20;

/// Whether this process may make devices and give files away.
pub fn am_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Bytes that do not compress and depend on `seed` alone.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Makes `root` and in it a tree with every oddity; what this user may not make is left out and told.
pub fn make_odd_tree(root: &Path) {
    fs::create_dir(root).unwrap();
    if !am_root() {
        println!("NOT TESTED without root: owners, devices, entries without permissions, trusted attributes");
    }
    contents(&directory(root, "content"));
    names(&directory(root, "names"));
    links(&directory(root, "links"));
    sparse(&directory(root, "sparse"));
    special(&directory(root, "special"));
    attributes(&directory(root, "attributes"));
    deep(&directory(root, "deep"));
    many(&directory(root, "many"));
    owners(&directory(root, "owners"));
    modes(&directory(root, "modes"));
    // Last, since everything before moves times.
    times(&directory(root, "times"));
}

fn directory(root: &Path, name: &str) -> PathBuf {
    let path = root.join(name);
    fs::create_dir(&path).unwrap();
    path
}

fn named(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

fn contents(at: &Path) {
    fs::write(at.join("empty"), b"").unwrap();
    fs::create_dir(at.join("empty directory")).unwrap();
    fs::write(at.join("larger than any chunk"), noise(1, 9_500_000)).unwrap();
    for length in [1, 512 << 10, (512 << 10) + 1] {
        fs::write(at.join(format!("{length} bytes")), noise(length as u64, length)).unwrap();
    }
    fs::write(at.join("twice, once"), noise(2, 300_000)).unwrap();
    fs::write(at.join("twice, again"), noise(2, 300_000)).unwrap();
    fs::write(at.join("text"), "the same line again and again\n".repeat(20_000)).unwrap();
}

fn names(at: &Path) {
    let long = "x".repeat(255);
    let names: &[&[u8]] = &[
        b"\xff\xfe not text",
        b"latin caf\xe9",
        b"cut short \xe2\x82",
        b"surrogate \xed\xa0\x80",
        b"new\nline",
        b"tab\tbell\x07escape\x1b[31m",
        b"delete\x7f",
        b"'single' \"double\" `back`",
        b"back\\slash \\x41 \\n \\u0041",
        b"<html> &amp; 1 > 0",
        b"-rf",
        b"--help",
        b" blank before and after ",
        b"...",
        b"*?[a-z]{b,c}",
        b"$HOME ~ %s %n",
        b"CON",
        b"a:b|c",
        b"trailing.",
        b"Same",
        b"same",
        "é composed".as_bytes(),
        "e\u{301} decomposed".as_bytes(),
        "日本語 🗄 ".as_bytes(),
        "right to left \u{202e}txt.exe".as_bytes(),
        "line separator \u{2028}".as_bytes(),
        "no-break\u{a0}space, soft\u{ad}hyphen, \u{85}".as_bytes(),
        "private \u{e000}, none \u{ffff} \u{10ffff}, mark \u{feff}".as_bytes(),
        "replacement \u{fffd}".as_bytes(),
        b"replacement \xff",
        long.as_bytes(),
    ];
    for name in names {
        fs::write(at.join(named(name)), name).unwrap();
    }
    let below = at.join(named(b"directory \xff\n"));
    fs::create_dir(&below).unwrap();
    fs::write(below.join(named(b"file \xfe")), "inside").unwrap();
}

fn links(at: &Path) {
    let (one, other) = (directory(at, "one"), directory(at, "other"));
    fs::write(one.join("first"), noise(3, 100_000)).unwrap();
    fs::hard_link(one.join("first"), one.join("second")).unwrap();
    fs::hard_link(one.join("first"), other.join("third")).unwrap();
    fs::write(other.join("empty"), "").unwrap();
    fs::hard_link(other.join("empty"), one.join("empty too")).unwrap();
    let targets: &[(&str, &[u8])] = &[
        ("relative", b"../one/first"),
        ("absolute", b"/etc/hostname"),
        ("dangling", b"nowhere/at all"),
        ("to itself", b"to itself"),
        ("to a directory", b"."),
        ("out of the tree", b"../../../../../../../../etc/passwd"),
        ("odd", b"a \"b\" \\c\n<d>\t"),
        ("not text", b"to \xff\xfe"),
        ("unicode", "zu Österreich \u{202e}".as_bytes()),
    ];
    for (name, target) in targets {
        symlink(named(target), at.join(name)).unwrap();
    }
    symlink("y/".repeat(1_900), at.join("long")).unwrap();
    fs::hard_link(at.join("dangling"), other.join("a second name of a symbolic link")).unwrap();
}

fn sparse(at: &Path) {
    const MIB: u64 = 1 << 20;
    let make = |name: &str, length: u64, data: &[u64]| {
        let file = File::create(at.join(name)).unwrap();
        file.set_len(length).unwrap();
        for (seed, offset) in data.iter().enumerate() {
            file.write_all_at(&noise(seed as u64 + 50, 100_000), *offset).unwrap();
        }
    };
    make("hole at the start", 12 * MIB + 100_000, &[12 * MIB]);
    make("hole in the middle", 12 * MIB + 100_000, &[0, 12 * MIB]);
    make("hole at the end", 12 * MIB, &[0]);
    make("nothing but a hole", 20 * MIB, &[]);
    make("a hole of one byte", 1, &[]);
    make("holes of odd sizes", 30 * MIB + 7, &[10 * MIB + 13, 22 * MIB + 4097]);
}

fn special(at: &Path) {
    let make = |name: &str, kind: FileType, device: u64| {
        mknodat(CWD, at.join(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    };
    make("fifo", FileType::Fifo, 0);
    make("socket", FileType::Socket, 0);
    if am_root() {
        make("null", FileType::CharacterDevice, makedev(1, 3));
        make("large character device", FileType::CharacterDevice, makedev(4000, 1_000_000));
        make("block", FileType::BlockDevice, makedev(7, 200));
    }
}

/// An access control list as the kernel keeps it: `(tag, permissions, id)` for each entry.
fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut list = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        list.extend(tag.to_le_bytes());
        list.extend(permissions.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    list
}

fn attributes(at: &Path) {
    let set = |name: &str, attribute: &str, value: &[u8]| {
        lsetxattr(at.join(name), attribute, value, XattrFlags::empty()).unwrap_or_else(|e| {
            panic!("cannot set {attribute} on {name}: {e}; tests need a temporary directory with attributes")
        });
    };
    const NOBODY: u32 = u32::MAX;
    let (owner, user, group, any_group, mask, other) = (1, 2, 4, 8, 16, 32);
    for name in ["file", "mode from a list"] {
        fs::write(at.join(name), name).unwrap();
    }
    fs::create_dir(at.join("directory")).unwrap();
    for name in ["file", "directory"] {
        set(name, "user.text", b"a value");
        set(name, "user.empty", b"");
        set(name, "user.binary", &(0..=255).collect::<Vec<u8>>());
        set(name, "user.large", &noise(4, 2_500));
        set(name, "user.odd \"name\" é", b"\0");
    }
    let list = access_list(&[
        (owner, 7, NOBODY),
        (user, 4, 4_321),
        (group, 4, NOBODY),
        (any_group, 7, 1_234),
        (mask, 5, NOBODY),
        (other, 0, NOBODY),
    ]);
    set("mode from a list", "system.posix_acl_access", &list);
    set("directory", "system.posix_acl_access", &list);
    set("directory", "system.posix_acl_default", &list);
    fs::write(at.join("directory/inherits"), "").unwrap();
    if am_root() {
        symlink("file", at.join("link")).unwrap();
        set("link", "trusted.of the link itself", b"\xff");
    }
}

/// Deep, and as long a path as every program can still name.
fn deep(at: &Path) {
    let mut path = at.to_owned();
    for level in 0..120 {
        path.push(format!("level {level:03} of many directories"));
    }
    fs::create_dir_all(&path).unwrap();
    fs::write(path.join("at the bottom"), "deep").unwrap();
}

/// Paths that no program can name as a whole: longer than PATH_MAX. Below `root`, which is made.
pub fn make_unnameable_paths(root: &Path) {
    fs::create_dir(root).unwrap();
    let name = "n".repeat(250);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = rustix::fs::open(root, flags, Mode::empty()).unwrap();
    for _ in 0..40 {
        rustix::fs::mkdirat(&dir, &name, Mode::RWXU).unwrap();
        dir = openat(&dir, &name, flags, Mode::empty()).unwrap();
    }
    let file = openat(&dir, "at the bottom", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"ten thousand bytes down").unwrap();
}

fn many(at: &Path) {
    for i in 0..30 {
        let below = directory(at, &format!("{i}"));
        for j in 0..40 {
            fs::write(below.join(format!("{j}.txt")), format!("{}\n", i * j).repeat(j)).unwrap();
        }
    }
}

fn owners(at: &Path) {
    fs::write(at.join("file"), "mine").unwrap();
    fs::create_dir(at.join("directory")).unwrap();
    fs::write(at.join("set-uid of somebody"), "").unwrap();
    symlink("nowhere", at.join("link")).unwrap();
    if !am_root() {
        return;
    }
    for (name, uid, gid) in [
        ("file", 12_345, 54_321),
        ("directory", 1, 4_294_967_294),
        ("set-uid of somebody", 4_000_000_000, 65_534),
        ("link", 777, 888),
    ] {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        chownat(CWD, at.join(name), owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
    fs::set_permissions(at.join("set-uid of somebody"), Permissions::from_mode(0o6755)).unwrap();
}

fn modes(at: &Path) {
    let mut modes = vec![0o400, 0o777, 0o4755, 0o2755, 0o1644, 0o6711, 0o7777];
    if am_root() {
        modes.extend([0o000, 0o007, 0o222]);
    }
    for mode in modes {
        let file = at.join(format!("file {mode:04o}"));
        fs::write(&file, format!("{mode:o}")).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        let readable = mode & 0o500 == 0o500;
        if readable || am_root() {
            let below = directory(at, &format!("directory {mode:04o}"));
            fs::write(below.join("inside"), "inside").unwrap();
            fs::set_permissions(&below, Permissions::from_mode(mode)).unwrap();
        }
    }
}

fn times(at: &Path) {
    let times = [
        ("one nanosecond before 1970", -1, 999_999_999),
        ("1910", -1_893_456_000, 123_456_789),
        ("1970", 0, 0),
        ("trailing zeros", 1_700_000_000, 120_000_000),
        ("after 2038", 2_500_000_000, 1),
        ("2200", 7_258_118_400, 999_999_999),
    ];
    for (name, seconds, nanoseconds) in times {
        let (file, below, link) =
            (at.join(name), at.join(format!("{name} dir")), at.join(format!("{name} link")));
        fs::write(&file, name).unwrap();
        fs::create_dir(&below).unwrap();
        fs::write(below.join("younger than its directory"), "").unwrap();
        symlink("nowhere", &link).unwrap();
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        for path in [file, below, link] {
            utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }
}

/// What one entry is, as far as a restore must bring it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub kind: FileType,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Time of last change of the content: seconds, nanoseconds.
    pub time: (i64, u64),
    pub size: u64,
    /// SHA-256 of a file's content.
    pub content: Option<String>,
    pub target: Option<Vec<u8>>,
    pub attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    pub device: u64,
    /// The first path in the tree that is the same file, if there is another.
    pub same_as: Option<Vec<u8>>,
    /// Bytes that it takes up on the disk.
    pub allocated: u64,
}

/// All entries below a directory, and under the empty name that directory itself.
#[derive(Clone, Debug)]
pub struct Picture {
    pub entries: BTreeMap<Vec<u8>, Entry>,
}

/// In what respect a copy of an entry is not the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Aspect {
    Missing,
    Surplus,
    Kind,
    Mode,
    Owner,
    Time,
    Content,
    LinkTarget,
    Attributes,
    Device,
    HardLinks,
    Holes,
}

/// One difference between a tree and its copy.
#[derive(Clone, PartialEq, Eq)]
pub struct Difference {
    pub path: Vec<u8>,
    pub aspect: Aspect,
    pub told: String,
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "'{}' {:?}: {}", self.path.escape_ascii(), self.aspect, self.told)
    }
}

impl Picture {
    /// Writes down a whole tree. Goes through descriptors, so that no path is too long.
    pub fn take(root: &Path) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(root, flags, Mode::empty())
            .unwrap_or_else(|e| panic!("{}: {e}", root.display()));
        let mut entries = BTreeMap::new();
        entries.insert(Vec::new(), entry(&fd, b".").1);
        let mut inodes: HashMap<(u64, u64), Vec<Vec<u8>>> = HashMap::new();
        below(&fd, &mut Vec::new(), &mut entries, &mut inodes);
        for mut paths in inodes.into_values().filter(|paths| paths.len() > 1) {
            paths.sort();
            for path in &paths {
                entries.get_mut(path).unwrap().same_as = Some(paths[0].clone());
            }
        }
        Self { entries }
    }

    /// How `copy` differs from this.
    pub fn differences(&self, copy: &Picture) -> Vec<Difference> {
        let mut found = Vec::new();
        for (path, was) in &self.entries {
            match copy.entries.get(path) {
                None => found.push(difference(path, Aspect::Missing, &was.kind, &"nothing")),
                Some(is) => compare(path, was, is, &mut found),
            }
        }
        for (path, is) in copy.entries.iter().filter(|(path, _)| !self.entries.contains_key(*path)) {
            found.push(difference(path, Aspect::Surplus, &"nothing", &is.kind));
        }
        found
    }

    /// Fails, with all differences, unless `copy` is the same.
    #[track_caller]
    pub fn assert_same(&self, copy: &Picture, what: &str) {
        self.assert_same_but(copy, what, &[]);
    }

    /// The same, but for exactly these `(path, aspect, reason)`: each of them must be there, and nothing else.
    #[track_caller]
    pub fn assert_same_but(&self, copy: &Picture, what: &str, but: &[(&str, Aspect, &str)]) {
        let mut differences = self.differences(copy);
        for (path, aspect, reason) in but {
            let at = differences.iter().position(|d| d.path == path.as_bytes() && d.aspect == *aspect);
            let at = at.unwrap_or_else(|| {
                panic!("{what}: '{path}' was expected to differ in {aspect:?} ({reason})")
            });
            differences.remove(at);
        }
        assert!(differences.is_empty(), "{what}: {} differences: {differences:#?}", differences.len());
    }
}

fn difference(path: &[u8], aspect: Aspect, was: &dyn fmt::Debug, is: &dyn fmt::Debug) -> Difference {
    let mut told = format!("{was:?} became {is:?}");
    told.truncate(told.floor_char_boundary(400));
    Difference { path: path.to_vec(), aspect, told }
}

fn text(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

/// Attributes of the one that the other has not, or not with this value.
fn only_in(one: &BTreeMap<Vec<u8>, Vec<u8>>, other: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<String> {
    let differing = one.iter().filter(|(name, value)| other.get(*name) != Some(value));
    differing.map(|(name, value)| format!("{}={}", text(name), text(value))).collect()
}

fn compare(path: &[u8], was: &Entry, is: &Entry, found: &mut Vec<Difference>) {
    let mut note =
        |aspect, was: &dyn fmt::Debug, is: &dyn fmt::Debug| found.push(difference(path, aspect, was, is));
    if was.kind != is.kind {
        return note(Aspect::Kind, &was.kind, &is.kind);
    }
    if was.mode != is.mode {
        note(Aspect::Mode, &format!("{:o}", was.mode), &format!("{:o}", is.mode));
    }
    if was.owner != is.owner {
        note(Aspect::Owner, &was.owner, &is.owner);
    }
    if was.time != is.time {
        note(Aspect::Time, &was.time, &is.time);
    }
    if (was.size, &was.content) != (is.size, &is.content) {
        note(Aspect::Content, &(was.size, &was.content), &(is.size, &is.content));
    }
    if was.target != is.target {
        note(Aspect::LinkTarget, &was.target.as_deref().map(text), &is.target.as_deref().map(text));
    }
    if was.attributes != is.attributes {
        let (lost, gained) =
            (only_in(&was.attributes, &is.attributes), only_in(&is.attributes, &was.attributes));
        note(Aspect::Attributes, &lost, &gained);
    }
    if was.device != is.device {
        note(Aspect::Device, &was.device, &is.device);
    }
    if was.same_as != is.same_as {
        note(Aspect::HardLinks, &was.same_as.as_deref().map(text), &is.same_as.as_deref().map(text));
    }
    let sparse = was.allocated + HOLE_BYTES_MIN <= was.size;
    if sparse && is.allocated > was.allocated + HOLE_BYTES_MIN {
        note(Aspect::Holes, &was.allocated, &is.allocated);
    }
}

fn below(
    dir: &OwnedFd,
    path: &mut Vec<u8>,
    entries: &mut BTreeMap<Vec<u8>, Entry>,
    inodes: &mut HashMap<(u64, u64), Vec<Vec<u8>>>,
) {
    let names: Vec<_> =
        Dir::read_from(dir).unwrap().map(|item| item.unwrap().file_name().to_bytes().to_vec()).collect();
    let length = path.len();
    for name in names.iter().filter(|name| *name != b"." && *name != b"..") {
        if length > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let (inode, entry) = entry(dir, name);
        if entry.kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            below(&openat(dir, named(name), flags, Mode::empty()).unwrap(), path, entries, inodes);
        } else {
            inodes.entry(inode).or_default().push(path.clone());
        }
        entries.insert(path.clone(), entry);
        path.truncate(length);
    }
}

fn entry(dir: &OwnedFd, name: &[u8]) -> ((u64, u64), Entry) {
    let stat = statat(dir, named(name), AtFlags::SYMLINK_NOFOLLOW).unwrap();
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_device = matches!(kind, FileType::BlockDevice | FileType::CharacterDevice);
    let target =
        (kind == FileType::Symlink).then(|| readlinkat(dir, named(name), Vec::new()).unwrap().into_bytes());
    let is_file = kind == FileType::RegularFile;
    let entry = Entry {
        kind,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        time: (stat.st_mtime, stat.st_mtime_nsec),
        size: if is_file { stat.st_size as u64 } else { 0 },
        content: is_file.then(|| content(dir, name)),
        target,
        attributes: read_attributes(dir, name),
        device: if is_device { stat.st_rdev } else { 0 },
        same_as: None,
        allocated: stat.st_blocks as u64 * 512,
    };
    ((stat.st_dev, stat.st_ino), entry)
}

fn content(dir: &OwnedFd, name: &[u8]) -> String {
    let fd = openat(dir, named(name), OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
    let mut bytes = Vec::new();
    File::from(fd.unwrap()).read_to_end(&mut bytes).unwrap();
    repository::Id::of(&bytes).to_string()
}

fn read_attributes(dir: &OwnedFd, name: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    // The way to an entry itself, whatever it is, without naming a path that could be too long.
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let path = named(&path);
    let mut buffer = vec![0; 65_536];
    let length = match rustix::fs::llistxattr(path, &mut buffer[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(e) => panic!("cannot list attributes of {}: {e}", path.display()),
    };
    let names = buffer[..length].to_vec();
    let mut attributes = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let length = rustix::fs::lgetxattr(path, named(name), &mut buffer[..]).unwrap();
        attributes.insert(name.to_vec(), buffer[..length].to_vec());
    }
    attributes
}
