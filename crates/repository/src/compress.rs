//! Compression of blobs and of unpacked files: one zstd frame each.

use std::io;

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

/// How hard to compress.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Data blobs are stored as they are (trees and metadata are always compressed).
    Off,
    /// As fast as zstd can at little loss.
    Fastest,
    /// The same, and harder while the store is slower than the compression and so there is time.
    #[default]
    Auto,
    /// As small as sensible, several times slower.
    Max,
}

/// Level of texts that are not chunks: index files, snapshots.
pub(crate) const TEXT_LEVEL: i32 = 3;

/// Shortest match that level 1 looks for; zstd's own for large inputs is 7. Shorter ones cost next to nothing there
/// and make database pages, which repeat short fields, 8 to 14 % smaller, other content 1 %.
const FAST_MATCH_MIN: u32 = 5;

impl Compression {
    /// zstd's level for a blob; `time` tells that the store keeps the compression waiting.
    pub(crate) fn level(self, time: bool) -> i32 {
        match self {
            Self::Auto if time => 3,
            Self::Off | Self::Fastest | Self::Auto => 1,
            Self::Max => 15,
        }
    }
}

/// A compressor and decompressor of one thread, with their memory reused from blob to blob.
pub(crate) struct Zstd {
    level: i32,
    compressor: Compressor<'static>,
    decompressor: Decompressor<'static>,
}

impl Zstd {
    pub(crate) fn new() -> io::Result<Self> {
        let level = TEXT_LEVEL;
        let mut compressor = Compressor::new(level)?;
        compressor.set_parameter(CParameter::ChecksumFlag(false))?;
        compressor.set_parameter(CParameter::ContentSizeFlag(true))?;
        Ok(Self { level, compressor, decompressor: Decompressor::new()? })
    }

    /// Replaces `out` with the frame of `data`.
    pub(crate) fn compress(&mut self, data: &[u8], level: i32, out: &mut Vec<u8>) -> io::Result<()> {
        if level != self.level {
            self.compressor.set_compression_level(level)?;
            let shortest = if level == 1 { FAST_MATCH_MIN } else { 0 };
            self.compressor.set_parameter(CParameter::MinMatch(shortest))?;
            self.level = level;
        }
        out.clear();
        out.reserve(zstd::zstd_safe::compress_bound(data.len()));
        self.compressor.compress_to_buffer(data, out)?;
        Ok(())
    }

    /// Replaces `out` with the content of `frame`, which must be of exactly `length` bytes.
    pub(crate) fn decompress(&mut self, frame: &[u8], length: usize, out: &mut Vec<u8>) -> io::Result<()> {
        out.clear();
        out.reserve(length);
        let written = self.decompressor.decompress_to_buffer(frame, out)?;
        if written == length {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("it holds {written} bytes, not {length}")))
    }
}

/// The content of a frame of unknown length, at most `length_max` bytes.
pub(crate) fn decompress_text(frame: &[u8], length_max: usize) -> io::Result<Vec<u8>> {
    use io::Read;
    let mut text = Vec::new();
    let limit = length_max as u64 + 1;
    zstd::stream::read::Decoder::with_buffer(frame)?.single_frame().take(limit).read_to_end(&mut text)?;
    if text.len() > length_max {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it holds more than {length_max} bytes"),
        ));
    }
    Ok(text)
}
