//! Where records begin in a segment of the write-ahead log, and which one each follows.
//!
//! A segment is pages, each with a header; records lie in what is between the headers, at multiples of 8, and each tells where the one
//! before it begins. Numbers are in the order of bytes of the server's machine, which the first page tells: it begins with its own
//! position. Source: PostgreSQL's `xlog_internal.h` and `xlogrecord.h`, the same in all releases from 13 to 18.

/// Header of a page; that of the first one of a segment is longer.
const PAGE_HEADER: usize = 24;
const FIRST_PAGE_HEADER: usize = 40;
/// In a page's header.
const FLAGS: usize = 2;
const POSITION: usize = 8;
const REMAINS: usize = 16;
/// A page begins with the rest of a record.
const IS_CONTINUED: u16 = 1;
/// The record that the page before ends in was given up, as its server died in the midst of it: it follows nothing, and nothing it.
const BEGINS_OVER: u16 = 8;
const RECORD_HEADER: usize = 24;
/// In a record's header.
const PREVIOUS: usize = 8;
const INFO: usize = 16;
const MANAGER: usize = 17;
/// What a record is in which its server's own manager says "here the segment ends".
const SWITCH: (u8, u8) = (0, 0x40);
const KIND_BITS: u8 = 0xF0;

/// A segment's content, whole or its beginning.
pub(super) struct Records<'s> {
    segment: &'s [u8],
    /// Position of its first byte.
    start: u64,
    page: usize,
    is_big_endian: bool,
}

/// One that begins in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub position: u64,
    /// Where the one before it begins. `None`: its own header goes on in the next segment.
    pub previous: Option<u64>,
    is_last: bool,
    /// Where in the segment what follows begins.
    next: usize,
}

impl<'s> Records<'s> {
    /// `None`: there is nothing in it yet, or it is no segment that begins there.
    pub(super) fn of(segment: &'s [u8], start: u64, page_bytes: u64) -> Option<Self> {
        let page = usize::try_from(page_bytes).ok().filter(|page| *page > FIRST_PAGE_HEADER)?;
        let position: [u8; 8] = segment.get(POSITION..POSITION + 8)?.try_into().ok()?;
        let is_big_endian =
            match (u64::from_le_bytes(position) == start, u64::from_be_bytes(position) == start) {
                (true, _) => false,
                (_, true) => true,
                _ => return None,
            };
        Some(Self { segment, start, page, is_big_endian })
    }

    /// The first record that begins in it.
    pub(super) fn first(&self) -> Option<Record> {
        let mut at = FIRST_PAGE_HEADER;
        if self.short(FLAGS)? & IS_CONTINUED != 0 {
            at = self.beyond(at, self.word(REMAINS)? as usize)?;
        }
        self.record(at)
    }

    /// Whether the record in whose midst it begins was given up.
    pub(super) fn begins_over(&self) -> bool {
        self.short(FLAGS).is_some_and(|flags| flags & BEGINS_OVER != 0)
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<Record> {
        let mut last = self.first()?;
        while !last.is_last
            && let Some(next) = self.record(last.next)
        {
            last = next;
        }
        Some(last)
    }

    /// The record that begins there, or right after the page's header.
    fn record(&self, at: usize) -> Option<Record> {
        let at = self.past_header(at.checked_next_multiple_of(8)?);
        let length = self.word(at)? as usize;
        if length < RECORD_HEADER {
            return None; // Here nothing was written yet.
        }
        let header = self.header(at);
        let previous = header.and_then(|header| {
            let bytes = header[PREVIOUS..PREVIOUS + 8].try_into().ok()?;
            Some(if self.is_big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
        });
        let is_last = header.is_none_or(|header| (header[MANAGER], header[INFO] & KIND_BITS) == SWITCH);
        let next = self.beyond(at, length).unwrap_or(self.segment.len());
        Some(Record { position: self.start + at as u64, previous, is_last, next })
    }

    fn header(&self, at: usize) -> Option<[u8; RECORD_HEADER]> {
        let (mut header, mut from) = ([0; RECORD_HEADER], at);
        for byte in &mut header {
            from = self.past_header(from);
            *byte = *self.segment.get(from)?;
            from += 1;
        }
        Some(header)
    }

    /// Where one is after so many bytes of records, or where the record in which they are was given up.
    fn beyond(&self, mut at: usize, mut bytes: usize) -> Option<usize> {
        while bytes > 0 {
            if at > 0 && at.is_multiple_of(self.page) && self.short(at + FLAGS)? & BEGINS_OVER != 0 {
                return Some(at);
            }
            at = self.past_header(at);
            if at >= self.segment.len() {
                return None;
            }
            let here = bytes.min(self.page - at % self.page);
            (at, bytes) = (at + here, bytes - here);
        }
        Some(at)
    }

    /// Past the header of a page that begins there.
    fn past_header(&self, at: usize) -> usize {
        match at % self.page {
            0 if at == 0 => FIRST_PAGE_HEADER,
            0 => at + PAGE_HEADER,
            _ => at,
        }
    }

    fn word(&self, at: usize) -> Option<u32> {
        let bytes = self.segment.get(at..at + 4)?.try_into().ok()?;
        Some(if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn short(&self, at: usize) -> Option<u16> {
        let bytes = self.segment.get(at..at + 2)?.try_into().ok()?;
        Some(if self.is_big_endian { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 256;
    const SEGMENT: usize = 16 * PAGE;
    const START: u64 = 3 * SEGMENT as u64;

    /// Writes as a server does, with short pages and segments.
    struct Writer {
        log: Vec<u8>,
        previous: u64,
    }

    impl Writer {
        fn new() -> Self {
            Self { log: Vec::new(), previous: START - 40 }
        }

        /// The next byte, of a record of which so many bytes are still to come.
        fn byte(&mut self, byte: u8, left: usize) {
            if self.log.len().is_multiple_of(PAGE) {
                let is_first = self.log.len().is_multiple_of(SEGMENT);
                let mut page = vec![0; if is_first { FIRST_PAGE_HEADER } else { PAGE_HEADER }];
                page[FLAGS] = u8::from(left > 0);
                let position = START + self.log.len() as u64;
                page[POSITION..POSITION + 8].copy_from_slice(&position.to_le_bytes());
                page[REMAINS..REMAINS + 4].copy_from_slice(&(left as u32).to_le_bytes());
                self.log.extend(page);
            }
            self.log.push(byte);
        }

        /// Returns where it begins.
        fn record(&mut self, length: usize, info: u8) -> u64 {
            while !self.log.len().is_multiple_of(8) {
                self.byte(0, 0);
            }
            let mut record = vec![7; length];
            record[..4].copy_from_slice(&(length as u32).to_le_bytes());
            record[PREVIOUS..PREVIOUS + 8].copy_from_slice(&self.previous.to_le_bytes());
            (record[INFO], record[MANAGER]) = (info, 0);
            self.byte(record[0], 0);
            let position = START + self.log.len() as u64 - 1;
            for (i, byte) in record.iter().enumerate().skip(1) {
                self.byte(*byte, length - i);
            }
            self.previous = position;
            position
        }

        fn segments(mut self) -> Vec<Vec<u8>> {
            self.log.resize(self.log.len().next_multiple_of(SEGMENT), 0);
            self.log.chunks(SEGMENT).map(<[u8]>::to_vec).collect()
        }
    }

    fn of(segments: &[Vec<u8>], number: usize) -> Option<Records<'_>> {
        Records::of(&segments[number], START + (number * SEGMENT) as u64, PAGE as u64)
    }

    #[test]
    fn the_first_record_of_a_segment_follows_the_last_one_of_the_segment_before() {
        for first in 24..900 {
            let mut writer = Writer::new();
            let lengths = [first, 31, 500, 24, 100, 29].into_iter().cycle();
            let positions: Vec<u64> = lengths.take(40).map(|length| writer.record(length, 0)).collect();
            let segments = writer.segments();
            let record = of(&segments, 0).unwrap().first().unwrap();
            assert_eq!((record.position, record.previous), (positions[0], Some(START - 40)), "{first}");
            let end = START + SEGMENT as u64;
            let before = positions.iter().rfind(|position| **position < end).unwrap();
            assert_eq!(of(&segments, 0).unwrap().last().unwrap().position, *before, "{first}");
            assert_eq!(of(&segments, 1).unwrap().first().unwrap().previous, Some(*before), "{first}");
        }
    }

    #[test]
    fn after_a_switch_nothing_follows_and_what_is_no_segment_has_no_records() {
        let mut writer = Writer::new();
        writer.record(50, 0);
        let switch = writer.record(24, SWITCH.1);
        writer.record(50, 0);
        let segments = writer.segments();
        assert_eq!(of(&segments, 0).unwrap().last().unwrap().position, switch);
        assert!(Records::of(&segments[0], START + 1, PAGE as u64).is_none());
        assert!(Records::of(&[0; SEGMENT], START, PAGE as u64).is_none());
        // However it is cut off, nothing is read beyond its end.
        for end in 0..SEGMENT {
            if let Some(records) = Records::of(&segments[0][..end], START, PAGE as u64) {
                let _ = (records.first(), records.last());
            }
        }
    }

    #[test]
    fn a_record_that_its_server_gave_up_is_followed_by_one_that_follows_the_one_before_it() {
        let mut writer = Writer::new();
        let before = writer.record(40, 0);
        let given_up = writer.record(3 * PAGE, 0);
        // The server came back, and went on at the next page.
        writer.log.truncate(PAGE);
        writer.previous = before;
        writer.log.extend([0; PAGE_HEADER]);
        writer.log[PAGE + FLAGS] = BEGINS_OVER as u8;
        writer.log[PAGE + POSITION..PAGE + POSITION + 8]
            .copy_from_slice(&(START + PAGE as u64).to_le_bytes());
        let next = writer.record(30, 0);
        let last = writer.record(30, 0);
        let segments = writer.segments();
        let records = of(&segments, 0).unwrap();
        assert_eq!(records.last().unwrap().position, last);
        assert!(given_up < next && !records.begins_over());
    }

    #[test]
    fn a_record_longer_than_a_segment_leaves_none_that_begins_there() {
        let mut writer = Writer::new();
        writer.record(3 * SEGMENT, 0);
        let after = writer.record(30, 0);
        let segments = writer.segments();
        assert!(of(&segments, 1).unwrap().first().is_none());
        assert_eq!(of(&segments, 3).unwrap().last().unwrap().position, after);
    }
}
