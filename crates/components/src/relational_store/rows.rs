//! Rows on their way: counted and summed, so that two tables can be told equal whatever the order of their rows.

use std::hash::Hasher;
use std::io::{self, Write};

use siphasher::sip128::{Hasher128, SipHasher13};

use super::manifest::Part;

/// Counts what COPY writes as text: each row is a line, and a line break within a value is written as `\n`.
pub(super) struct Rows<W> {
    out: W,
    /// The beginning of a row whose end has not come yet.
    begun: Vec<u8>,
    rows: u64,
    bytes: u64,
    sum: u128,
}

impl<W: Write> Rows<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, begun: Vec::new(), rows: 0, bytes: 0, sum: 0 }
    }

    fn row(&mut self, row: &[u8]) {
        // To tell by accident, not against malice: the engine's own hashes are for that.
        let mut hasher = SipHasher13::new();
        hasher.write(row);
        self.sum = self.sum.wrapping_add(hasher.finish128().as_u128());
        self.rows += 1;
    }

    /// What was counted.
    pub(super) fn part(&self) -> Part {
        Part { rows: self.rows, bytes: self.bytes, sum: format!("{:032x}", self.sum) }
    }
}

impl<W: Write> Write for Rows<W> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.out.write_all(data)?;
        self.bytes += data.len() as u64;
        let mut rest = data;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            if self.begun.is_empty() {
                self.row(&rest[..end]);
            } else {
                let mut whole = std::mem::take(&mut self.begun);
                whole.extend_from_slice(&rest[..end]);
                self.row(&whole);
                whole.clear();
                self.begun = whole;
            }
            rest = &rest[end + 1..];
        }
        self.begun.extend_from_slice(rest);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(pieces: &[&[u8]]) -> Part {
        let mut rows = Rows::new(io::sink());
        for piece in pieces {
            rows.write_all(piece).unwrap();
        }
        rows.part()
    }

    #[test]
    fn rows_are_the_same_in_any_order_and_cut_anywhere() {
        let whole = count(&[b"one\t1\ntwo\t2\n\nthree\\n\t3\n"]);
        assert_eq!((whole.rows, whole.bytes), (4, 23));
        assert_eq!(count(&[b"o", b"ne\t1", b"\ntwo\t2\n\nth", b"ree\\n\t3\n"]), whole);
        assert_eq!(count(&[b"two\t2\none\t1\nthree\\n\t3\n\n"]).sum, whole.sum);
        assert_ne!(count(&[b"one\t1\ntwo\t3\n\nthree\\n\t3\n"]).sum, whole.sum);
        assert_ne!(
            count(&[b"one\t1\none\t1\n"]).sum,
            count(&[b"two\t2\ntwo\t2\n"]).sum,
            "a pair does not cancel out"
        );
    }
}
