//! The write-ahead log as the server numbers it: positions, and the files ("segments") in which it lies.
//!
//! A segment's name is three numbers of eight hexadecimal digits: the time line, and the segment's number in two parts. Source:
//! PostgreSQL's documentation, "WAL Internals", and `xlog_internal.h`.

use std::collections::BTreeSet;
use std::fmt;

/// A position in the log, in bytes since its beginning. Written like `16/B374D848`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position(pub u64);

impl Position {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (high, low) = text.split_once('/')?;
        let part = |text: &str| u32::from_str_radix(text, 16).ok();
        Some(Self(u64::from(part(high)?) << 32 | u64::from(part(low)?)))
    }

    /// The number of the segment in which it lies.
    pub(super) fn segment(self, segment_bytes: u64) -> u64 {
        self.0 / segment_bytes.max(1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & u64::from(u32::MAX))
    }
}

/// What a file that holds log is called while it grows.
pub(super) const PARTIAL: &str = ".partial";

/// A segment of the log, as its name tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    /// Which branch of the log: a new one begins when a server is restored, or takes over from another one.
    pub time_line: u64,
    pub number: u64,
    /// Else it grows.
    pub is_whole: bool,
}

impl Segment {
    /// Whether a name is that of a segment, of whatever length; in upper case, as the server writes them.
    pub(super) fn is_name(name: &str) -> bool {
        let stem = name.strip_suffix(PARTIAL).unwrap_or(name);
        stem.len() == 24 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'A'..=b'F'))
    }

    /// `None`: the name is none of a segment's.
    pub(super) fn parse(name: &str, segment_bytes: u64) -> Option<Self> {
        if !Self::is_name(name) {
            return None;
        }
        let part = |at: std::ops::Range<usize>| u64::from_str_radix(name.get(at)?, 16).ok();
        let (time_line, high, low) = (part(0..8)?, part(8..16)?, part(16..24)?);
        let is_whole = !name.ends_with(PARTIAL);
        let per_part = (1u64 << 32) / segment_bytes.max(1);
        (low < per_part).then(|| Self { time_line, number: high * per_part + low, is_whole })
    }
}

/// The first and the last number of the first stretch of `first..=last` that is not `there`.
pub(super) fn gap(first: u64, last: u64, there: &BTreeSet<u64>) -> Option<(u64, u64)> {
    let from = (first..=last).find(|number| !there.contains(number))?;
    let until = there.range(from..).next().map_or(last, |next| last.min(next - 1));
    Some((from, until))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 16 << 20;

    #[test]
    fn positions_are_read_and_written_as_the_server_does() {
        let position = Position::parse("16/B374D848").unwrap();
        assert_eq!(position.0, 0x16_B374_D848);
        assert_eq!(position.to_string(), "16/B374D848");
        assert_eq!(Position::parse("0/9").unwrap().to_string(), "0/9");
        assert!(Position::parse("16").is_none() && Position::parse("1/xx").is_none());
    }

    #[test]
    fn a_segment_is_known_by_its_name_whatever_its_length() {
        let segment = |time_line, number, is_whole| Some(Segment { time_line, number, is_whole });
        assert_eq!(Segment::parse("000000010000001600000AB3", 1 << 20), segment(1, 0x16AB3, true));
        assert_eq!(Segment::parse("0000000A00000016000000B3", SEGMENT), segment(10, 0x16B3, true));
        assert_eq!(Segment::parse("0000000200000016000000B3.partial", SEGMENT), segment(2, 0x16B3, false));
        // `SELECT pg_walfile_name('16/B374D848')` says the second.
        assert_eq!(Position::parse("16/B374D848").unwrap().segment(SEGMENT), 0x16B3);
        let not = [
            "lock",
            "00000002.history",
            "0000000100000016000000b3",
            "000000010000001600000AB3",
            "00000001000000160000",
            "é",
        ];
        for name in not {
            assert_eq!(Segment::parse(name, SEGMENT), None, "{name}");
        }
    }

    #[test]
    fn a_gap_is_found_wherever_it_is() {
        let there: BTreeSet<u64> = [3, 4, 7, 8].into();
        assert_eq!(gap(3, 4, &there), None);
        assert_eq!(gap(3, 8, &there), Some((5, 6)));
        assert_eq!(gap(2, 3, &there), Some((2, 2)));
        assert_eq!(gap(7, 10, &there), Some((9, 10)));
        assert_eq!(gap(5, 5, &BTreeSet::new()), Some((5, 5)));
    }
}
