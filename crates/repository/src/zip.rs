//! The parts of a zip archive that can be written without ever going back: for each entry a header, its content as it
//! is, and behind the content its checksum; at the end the directory of all entries, which is held in memory until then.
//!
//! Written here as names are bytes, and the libraries take text. Numbers that the first form of the format has no room
//! for stand in the fields of zip64.

use crate::time::{Time, civil};
use crate::tree::{Node, NodeKind};

/// Whoever wrote this thinks in modes of Unix, and of version 4.5, which brought zip64.
const MADE_BY: u16 = (3 << 8) | 45;
/// Checksum and sizes follow the content.
const SUMS_FOLLOW: u16 = 1 << 3;
const NAME_IS_UTF8: u16 = 1 << 11;
/// A number from here on stands elsewhere.
const TOO_LARGE: u32 = u32::MAX;
const TOO_MANY: u16 = u16::MAX;

/// What an entry holds.
#[derive(Clone, Copy)]
pub(crate) enum Content<'a> {
    /// These bytes: the target of a link, or nothing.
    Here(&'a [u8]),
    /// So many bytes, which the caller writes.
    Follows(u64),
}

/// What the directory says of an entry.
pub(crate) struct Entry {
    name: Vec<u8>,
    flags: u16,
    /// DOS time and date.
    time: (u16, u16),
    mode: u32,
    extra: Vec<u8>,
    crc: u32,
    size: u64,
    offset: u64,
}

/// The entries so far, and how long the archive is.
#[derive(Default)]
pub(crate) struct Directory {
    central: Vec<u8>,
    entries: u64,
    offset: u64,
}

impl Directory {
    /// The header of an entry, with its content if that is known; `None` if no zip archive can hold a name so long.
    pub(crate) fn begin(
        &mut self,
        name: &[u8],
        node: &Node,
        content: Content<'_>,
    ) -> Option<(Vec<u8>, Entry)> {
        let mut name = name.to_vec();
        if node.kind == NodeKind::Dir {
            name.push(b'/');
        }
        let name_length = u16::try_from(name.len()).ok()?;
        let utf8 = if std::str::from_utf8(&name).is_ok() { NAME_IS_UTF8 } else { 0 };
        let (crc, size, follows) = match content {
            Content::Here(bytes) => (crc_of(bytes), bytes.len() as u64, 0),
            Content::Follows(size) => (0, size, SUMS_FOLLOW),
        };
        let time = dos_time(node.mtime);
        let mode = file_type(node.kind) | node.permissions();
        let entry = Entry {
            name,
            flags: utf8 | follows,
            time,
            mode,
            extra: extra(node),
            crc,
            size,
            offset: self.offset,
        };
        let is_large = entry.is_large();
        let mut zip64 = Vec::new();
        if is_large {
            // With the sums behind the content there is nothing to be said here but that they are long.
            field(&mut zip64, 1, &[0; 16]);
        }
        // Sums that follow are zero here, and those of a large entry are said to stand in its field.
        let told = match content {
            Content::Here(bytes) => bytes.len() as u32,
            Content::Follows(_) if is_large => TOO_LARGE,
            Content::Follows(_) => 0,
        };
        let mut out = b"PK\x03\x04".to_vec();
        entry.put_common(&mut out);
        put32(&mut out, &[crc, told, told]);
        put16(&mut out, &[name_length, (zip64.len() + entry.extra.len()) as u16]);
        for part in [&entry.name, &zip64, &entry.extra] {
            out.extend_from_slice(part);
        }
        if let Content::Here(bytes) = content {
            out.extend_from_slice(bytes);
        }
        self.offset += out.len() as u64;
        Some((out, entry))
    }

    /// What stands behind the content of an entry: its sums, unless they stand before it already.
    pub(crate) fn end(&mut self, mut entry: Entry, written: Option<(u32, u64)>) -> Vec<u8> {
        let mut out = Vec::new();
        if let Some((crc, size)) = written {
            let is_large = entry.is_large();
            (entry.crc, entry.size) = (crc, size);
            out.extend_from_slice(b"PK\x07\x08");
            put32(&mut out, &[crc]);
            if is_large {
                put64(&mut out, &[size, size]);
            } else {
                put32(&mut out, &[size as u32, size as u32]);
            }
            self.offset += size + out.len() as u64;
        }
        entry.put_central(&mut self.central);
        self.entries += 1;
        out
    }

    /// The directory, which ends the archive.
    pub(crate) fn finish(self) -> Vec<u8> {
        let Self { central: mut out, entries, offset } = self;
        let size = out.len() as u64;
        let few = u16::try_from(entries).unwrap_or(TOO_MANY);
        let small = |number: u64| u32::try_from(number).unwrap_or(TOO_LARGE);
        if few == TOO_MANY || small(size) == TOO_LARGE || small(offset) == TOO_LARGE {
            out.extend_from_slice(b"PK\x06\x06");
            put64(&mut out, &[44]);
            put16(&mut out, &[MADE_BY, 45]);
            put32(&mut out, &[0, 0]);
            put64(&mut out, &[entries, entries, size, offset]);
            out.extend_from_slice(b"PK\x06\x07");
            put32(&mut out, &[0]);
            put64(&mut out, &[offset + size]);
            put32(&mut out, &[1]);
        }
        out.extend_from_slice(b"PK\x05\x06");
        put16(&mut out, &[0, 0, few, few]);
        put32(&mut out, &[small(size), small(offset)]);
        put16(&mut out, &[0]);
        out
    }
}

impl Entry {
    /// Does its size need a field of its own?
    fn is_large(&self) -> bool {
        self.size >= u64::from(TOO_LARGE)
    }

    /// What header and directory have in common: version needed, flags, that nothing is compressed, time.
    fn put_common(&self, out: &mut Vec<u8>) {
        let needed = if self.is_large() || self.offset >= u64::from(TOO_LARGE) { 45 } else { 20 };
        put16(out, &[needed, self.flags, 0, self.time.0, self.time.1]);
    }

    fn put_central(&self, out: &mut Vec<u8>) {
        let mut large = Vec::new();
        let mut fitting = |number: u64, times: usize| {
            u32::try_from(number).ok().filter(|number| *number != TOO_LARGE).unwrap_or_else(|| {
                put64(&mut large, &[number; 2][..times]);
                TOO_LARGE
            })
        };
        let (size, offset) = (fitting(self.size, 2), fitting(self.offset, 1));
        let mut zip64 = Vec::new();
        if !large.is_empty() {
            field(&mut zip64, 1, &large);
        }
        out.extend_from_slice(b"PK\x01\x02");
        put16(out, &[MADE_BY]);
        self.put_common(out);
        put32(out, &[self.crc, size, size]);
        // No comment, on the first disk, of no known kind of content.
        put16(out, &[self.name.len() as u16, (zip64.len() + self.extra.len()) as u16, 0, 0, 0]);
        let dos_directory = if self.mode & 0o170_000 == file_type(NodeKind::Dir) { 0x10 } else { 0 };
        put32(out, &[self.mode << 16 | dos_directory, offset]);
        for part in [&self.name, &zip64, &self.extra] {
            out.extend_from_slice(part);
        }
    }
}

/// The checksum of bytes that come in pieces.
pub(crate) struct Crc(crc_fast::Digest);

impl Crc {
    pub(crate) fn new() -> Self {
        Self(crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32IsoHdlc))
    }

    pub(crate) fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u32 {
        self.0.finalize() as u32
    }
}

fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.add(bytes);
    crc.value()
}

/// The type bits of POSIX.
fn file_type(kind: NodeKind) -> u32 {
    match kind {
        NodeKind::Dir => 0o040_000,
        NodeKind::Symlink => 0o120_000,
        _ => 0o100_000,
    }
}

/// The time in seconds, where they have room, and the numbers of owner and group.
fn extra(node: &Node) -> Vec<u8> {
    let mut out = Vec::new();
    if let Ok(seconds) = i32::try_from(node.mtime.seconds) {
        let mut time = vec![1];
        time.extend_from_slice(&seconds.to_le_bytes());
        field(&mut out, 0x5455, &time);
    }
    let mut owner = vec![1];
    for number in [node.uid, node.gid] {
        owner.push(4);
        put32(&mut owner, &[number]);
    }
    field(&mut out, 0x7875, &owner);
    out
}

/// Time and date in UTC, to two seconds, of the years that DOS knows.
fn dos_time(time: Time) -> (u16, u16) {
    let (year, month, day) = civil(time.seconds.div_euclid(86_400));
    let rest = time.seconds.rem_euclid(86_400) as u32;
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    let parts = |time: u32, date: u32| (time as u16, date as u16);
    match u32::try_from(year - 1980) {
        Ok(years @ 0..=127) => parts(hour << 11 | minute << 5 | (second / 2), years << 9 | month << 5 | day),
        Ok(_) => parts(23 << 11 | 59 << 5 | 29, 127 << 9 | 12 << 5 | 31),
        Err(_) => parts(0, 1 << 5 | 1),
    }
}

fn field(out: &mut Vec<u8>, kind: u16, bytes: &[u8]) {
    put16(out, &[kind, bytes.len() as u16]);
    out.extend_from_slice(bytes);
}

fn put16(out: &mut Vec<u8>, numbers: &[u16]) {
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn put32(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

fn put64(out: &mut Vec<u8>, numbers: &[u64]) {
    out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    /// What Python reads of an archive: a list of names, sizes, offsets and modes, and the content of the small files.
    fn read_by_python(archive: &std::path::Path) -> Option<serde_json::Value> {
        let script = "import json, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
told = lambda e: [e.filename, e.file_size, e.external_attr >> 16, archive.read(e).decode() if e.file_size < 100 else '']
entries = archive.infolist()
print(json.dumps([len(entries), [told(e) for e in entries[:3] + entries[-1:]]]))";
        let python =
            std::process::Command::new("python3").arg("-c").arg(script).arg(archive).output().ok()?;
        let error = String::from_utf8_lossy(&python.stderr);
        assert!(python.status.success(), "{error}");
        Some(serde_json::from_slice(&python.stdout).unwrap())
    }

    #[test]
    fn more_and_larger_entries_than_the_first_form_has_room_for_are_read_by_python() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive.zip");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut directory = Directory::default();
        let mut node = Node::new(Vec::new(), NodeKind::File);
        node.mode = 0o640;
        node.mtime.seconds = 1_700_000_000;
        // Not written: a hole, of which nobody reads the checksum.
        let large = 5 << 30;
        let (header, entry) = directory.begin(b"large", &node, Content::Follows(large)).unwrap();
        file.write_all(&header).unwrap();
        file.seek(SeekFrom::Current(large as i64)).unwrap();
        let sums = directory.end(entry, Some((0, large)));
        // Python reads the directory alone. Whoever reads from the front needs the long form there too.
        assert!(header.windows(4).any(|bytes| bytes == [1, 0, 16, 0]), "a field of zip64 with two sizes");
        assert_eq!(header[18..26], [0xff; 8]);
        assert_eq!(sums.len(), 24, "a mark, a checksum, two sizes of eight bytes");
        file.write_all(&sums).unwrap();
        let mut rest = Vec::new();
        for number in 0..70_000 {
            let name = format!("{number}");
            let (header, entry) =
                directory.begin(name.as_bytes(), &node, Content::Follows(name.len() as u64)).unwrap();
            rest.extend_from_slice(&header);
            rest.extend_from_slice(name.as_bytes());
            rest.extend_from_slice(&directory.end(entry, Some((crc_of(name.as_bytes()), name.len() as u64))));
        }
        file.write_all(&rest).unwrap();
        file.write_all(&directory.finish()).unwrap();
        let Some(read) = read_by_python(&path) else { return println!("NOT TESTED: there is no python3") };
        let mode = 0o100_640;
        let small = |name: &str| serde_json::json!([name, name.len(), mode, name]);
        let expected =
            serde_json::json!([70_001, [["large", large, mode, ""], small("0"), small("1"), small("69999")]]);
        assert_eq!(read, expected);
    }

    #[test]
    fn times_that_dos_does_not_know_are_its_first_and_its_last() {
        let at = |text: &str| dos_time(Time::parse(text).unwrap());
        assert_eq!(at("1969-12-31T23:59:59Z"), (0, 1 << 5 | 1));
        assert_eq!(at("1980-01-01T00:00:00Z"), (0, 1 << 5 | 1));
        assert_eq!(at("2026-11-24T17:05:09Z"), (17 << 11 | 5 << 5 | 4, 46 << 9 | 11 << 5 | 24));
        assert_eq!(at("2107-12-31T23:59:59Z"), (23 << 11 | 59 << 5 | 29, 127 << 9 | 12 << 5 | 31));
        assert_eq!(at("2300-01-01T00:00:00Z"), at("2107-12-31T23:59:58Z"));
    }

    #[test]
    fn a_name_that_is_too_long_is_refused() {
        let node = Node::new(Vec::new(), NodeKind::Dir);
        let mut directory = Directory::default();
        assert!(directory.begin(&[b'a'; 65_534], &node, Content::Here(b"")).is_some());
        assert!(directory.begin(&[b'a'; 65_535], &node, Content::Here(b"")).is_none());
    }
}
