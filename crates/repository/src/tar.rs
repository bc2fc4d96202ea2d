//! Headers of a tar archive: POSIX ustar, with a PAX header in front where ustar has no room: long or odd names,
//! large numbers, parts of seconds, extended attributes.

use crate::tree::{Node, NodeKind};

const BLOCK: usize = 512;
/// Two empty blocks end an archive.
pub(crate) const END: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// The zeros that fill up the last block of `size` bytes.
pub(crate) fn padding(size: u64) -> &'static [u8] {
    let over = (size % BLOCK as u64) as usize;
    if over == 0 { &[] } else { &END[..BLOCK - over] }
}

/// The header of an entry; `size` bytes of content follow that of a file.
pub(crate) fn header(name: &[u8], node: &Node, size: u64) -> Vec<u8> {
    let kind = match node.kind {
        NodeKind::Dir => b'5',
        NodeKind::Symlink => b'2',
        NodeKind::CharDev => b'3',
        NodeKind::Dev => b'4',
        NodeKind::Fifo => b'6',
        _ => b'0',
    };
    let mut name = name.to_vec();
    if node.kind == NodeKind::Dir {
        name.push(b'/');
    }
    let size = if node.kind == NodeKind::File { size } else { 0 };
    entry(&name, node.link_target.as_deref().unwrap_or_default(), kind, node, size)
}

/// The header of another name for the file at `first`.
pub(crate) fn hard_link(name: &[u8], first: &[u8], node: &Node) -> Vec<u8> {
    entry(name, first, b'1', node, 0)
}

fn entry(name: &[u8], link: &[u8], kind: u8, node: &Node, size: u64) -> Vec<u8> {
    let mut pax = Pax::default();
    let fields = [("path", name, 100), ("linkpath", link, 100)];
    let owners = [("uname", node.user.as_bytes(), 32), ("gname", node.group.as_bytes(), 32)];
    for (key, text, room) in fields.into_iter().chain(owners) {
        if text.len() > room || !text.is_ascii() {
            pax.add(key.as_bytes(), text);
        }
    }
    for (key, value, digits) in [("size", size, 11), ("uid", node.uid.into(), 7), ("gid", node.gid.into(), 7)]
    {
        if value >= 8u64.pow(digits) {
            pax.add(key.as_bytes(), value.to_string().as_bytes());
        }
    }
    let mtime = node.mtime;
    if mtime.nanoseconds != 0 || !(0..8i64.pow(11)).contains(&mtime.seconds) {
        pax.add(b"mtime", decimal(mtime.seconds, mtime.nanoseconds).as_bytes());
    }
    if kind != b'1' {
        for (name, value) in &node.xattrs {
            pax.add(format!("SCHILY.xattr.{name}").as_bytes(), value);
        }
    }
    let mut out = Vec::new();
    if !pax.0.is_empty() {
        let record = Ustar { size: pax.0.len() as u64, mode: 0o644, ..Default::default() };
        out.extend_from_slice(&record.block(b"PaxHeader", b"", b'x'));
        out.extend_from_slice(&pax.0);
        out.extend_from_slice(padding(pax.0.len() as u64));
    }
    let device = matches!(kind, b'3' | b'4').then_some(node.device).unwrap_or_default();
    let ustar = Ustar {
        mode: node.permissions(),
        uid: node.uid.into(),
        gid: node.gid.into(),
        size,
        mtime: u64::try_from(mtime.seconds).unwrap_or(0),
        user: node.user.as_bytes(),
        group: node.group.as_bytes(),
        major: rustix::fs::major(device),
        minor: rustix::fs::minor(device),
    };
    out.extend_from_slice(&ustar.block(name, link, kind));
    out
}

/// Seconds with a fraction, before 1970 too.
fn decimal(seconds: i64, nanoseconds: u32) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    // -1 s and 0.9 s forward is -0.1 s.
    format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
}

/// Records `length key=value\n`, where the length counts itself.
#[derive(Default)]
struct Pax(Vec<u8>);

impl Pax {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} ").as_bytes());
        self.0.extend_from_slice(key);
        self.0.push(b'=');
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

#[derive(Default)]
struct Ustar<'a> {
    mode: u32,
    uid: u64,
    gid: u64,
    size: u64,
    mtime: u64,
    user: &'a [u8],
    group: &'a [u8],
    major: u32,
    minor: u32,
}

impl Ustar<'_> {
    fn block(&self, name: &[u8], link: &[u8], kind: u8) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        put(&mut block[0..100], name);
        number(&mut block[100..108], self.mode.into());
        number(&mut block[108..116], self.uid);
        number(&mut block[116..124], self.gid);
        number(&mut block[124..136], self.size);
        number(&mut block[136..148], self.mtime);
        block[148..156].fill(b' ');
        block[156] = kind;
        put(&mut block[157..257], link);
        put(&mut block[257..265], b"ustar\x0000");
        put(&mut block[265..297], self.user);
        put(&mut block[297..329], self.group);
        number(&mut block[329..337], self.major.into());
        number(&mut block[337..345], self.minor.into());
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        put(&mut block[148..156], format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// As much of the text as there is room for; a PAX header holds all of it.
fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Octal digits with a zero byte behind them; what is too large stands in a PAX header.
fn number(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let value = if value < 8u64.pow(digits as u32) { value } else { 0 };
    put(field, format!("{value:0digits$o}").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_length() {
        for length in [1, 5, 88, 89, 90, 91, 92, 93, 94, 990, 991] {
            let mut pax = Pax::default();
            pax.add(b"path", &vec![b'a'; length]);
            let text = String::from_utf8(pax.0.clone()).unwrap();
            let told: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(told, pax.0.len());
        }
    }

    #[test]
    fn times_before_1970_are_counted_backwards() {
        assert_eq!(decimal(5, 120_000_000), "5.120000000");
        assert_eq!(decimal(-1, 900_000_000), "-0.100000000");
        assert_eq!(decimal(-3, 0), "-3.000000000");
    }
}
