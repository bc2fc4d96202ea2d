//! Content-defined chunking: where a file is cut depends on its content alone, so that an insertion moves few cuts.
//!
//! A gear hash rolls over the bytes (`h = h·2 + table[byte]`; its high bits depend on the last 64 bytes). A cut is
//! made where chosen bits of it are zero: more bits before the wished size, fewer after it, which draws the sizes
//! together (Xia et al., "FastCDC", USENIX ATC 2016). The table is derived from the repository's master key, so
//! that the sizes of chunks tell strangers little about known content.
//!
//! The table and the masks decide what deduplicates against older backups: changing them is a format change,
//! guarded by a test with fixed cuts.

use std::ops::Range;

use sha2::{Digest, Sha256};

/// Smallest chunk but for the last of a file.
pub(crate) const CHUNK_MIN: usize = 512 << 10;
/// Largest chunk.
pub(crate) const CHUNK_MAX: usize = 4 << 20;
/// The size that the masks aim at.
const CHUNK_WISHED: usize = 1 << 20;
/// Bytes that the high bits of the hash depend on.
const WINDOW: usize = 64;
/// Strips that are looked at side by side, and bytes of each.
const LANES: usize = 4;
const STRIP: usize = 4 << 10;
/// 21 of the highest bits before the wished size, 19 after it.
const MASK_BEFORE: u64 = ((1 << 21) - 1) << 43;
const MASK_AFTER: u64 = ((1 << 19) - 1) << 45;

/// Finds the cuts.
#[derive(Clone)]
pub(crate) struct Chunker {
    table: Box<[u64; 256]>,
}

impl Chunker {
    /// A chunker whose table comes from `secret`.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let mut table = Box::new([0; 256]);
        for (i, word) in table.iter_mut().enumerate() {
            let digest = Sha256::new().chain_update(secret).chain_update([i as u8]).finalize();
            let mut first = [0; 8];
            first.copy_from_slice(&digest[..8]);
            *word = u64::from_le_bytes(first);
        }
        Self { table }
    }

    /// Length of the chunk that `data` starts with. `data` holds [`CHUNK_MAX`] bytes, or all that is left.
    pub(crate) fn cut(&self, data: &[u8]) -> usize {
        let end = data.len().min(CHUNK_MAX);
        if end <= CHUNK_MIN {
            return end;
        }
        let middle = CHUNK_WISHED.min(end);
        self.scan(data, CHUNK_MIN..middle, MASK_BEFORE)
            .or_else(|| self.scan(data, middle..end, MASK_AFTER))
            .unwrap_or(end)
    }

    /// The first cut behind a byte of `range`. The hash at a byte depends on the [`WINDOW`] bytes up to it alone, so
    /// the range is looked at in [`LANES`] strips at once: one strip alone would wait for each addition.
    fn scan(&self, data: &[u8], range: Range<usize>, mask: u64) -> Option<usize> {
        let mut from = range.start;
        while let Some(block) = data[..range.end].get(from - WINDOW..from + LANES * STRIP) {
            if self.any_cut(block, mask) {
                // Rare: once for each chunk. The strips tell that there is one, not which is first.
                return self.scan_strip(data, from..from + LANES * STRIP, mask);
            }
            from += LANES * STRIP;
        }
        self.scan_strip(data, from..range.end, mask)
    }

    /// Is there a cut in a block of [`LANES`] strips, behind the [`WINDOW`] bytes before them?
    fn any_cut(&self, block: &[u8], mask: u64) -> bool {
        let strips: [&[u8]; LANES] = std::array::from_fn(|i| &block[i * STRIP..][..WINDOW + STRIP]);
        let mut hashes = strips.map(|strip| self.roll(0, &strip[..WINDOW]));
        let [a, b, c, d] = strips.map(|strip| &strip[WINDOW..]);
        for (((&a, &b), &c), &d) in a.iter().zip(b).zip(c).zip(d) {
            let mut found = false;
            for (hash, byte) in hashes.iter_mut().zip([a, b, c, d]) {
                *hash = (*hash << 1).wrapping_add(self.table[usize::from(byte)]);
                found |= *hash & mask == 0;
            }
            if found {
                return true;
            }
        }
        false
    }

    fn scan_strip(&self, data: &[u8], range: Range<usize>, mask: u64) -> Option<usize> {
        let mut hash = self.roll(0, &data[range.start - WINDOW..range.start]);
        for (i, &byte) in data[range.clone()].iter().enumerate() {
            hash = (hash << 1).wrapping_add(self.table[usize::from(byte)]);
            if hash & mask == 0 {
                return Some(range.start + i + 1);
            }
        }
        None
    }

    fn roll(&self, hash: u64, bytes: &[u8]) -> u64 {
        bytes.iter().fold(hash, |hash, &byte| (hash << 1).wrapping_add(self.table[usize::from(byte)]))
    }
}

/// True if `data` holds nothing but zeros.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    // Blocks, so that the compiler compares many bytes at once and still stops early.
    let mut blocks = data.chunks_exact(64);
    blocks.by_ref().all(|block| block.iter().fold(0, |all, b| all | b) == 0)
        && blocks.remainder().iter().all(|&b| b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of 0, 1, 2 … as little-endian 64-bit numbers: 16 MiB of noise that anybody can make again.
    fn noise() -> Vec<u8> {
        (0..524_288u64).flat_map(|i| <[u8; 32]>::from(Sha256::digest(i.to_le_bytes()))).collect()
    }

    fn cuts(chunker: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut cuts = Vec::new();
        while !data.is_empty() {
            let cut = chunker.cut(data);
            cuts.push(cut);
            data = &data[cut..];
        }
        cuts
    }

    #[test]
    fn cuts_never_move_between_releases() {
        let cuts = cuts(&Chunker::new(&[7; 32]), &noise());
        assert_eq!(cuts.iter().sum::<usize>(), 16 << 20);
        assert_eq!(cuts, GOLDEN);
    }

    const GOLDEN: &[usize] = &[
        1_180_294, 1_759_452, 1_145_870, 1_447_658, 1_300_105, 2_041_369, 613_221, 1_086_540, 2_106_495,
        694_986, 2_406_586, 994_640,
    ];

    #[test]
    fn strips_side_by_side_find_the_first_cut() {
        let chunker = Chunker::new(&[7; 32]);
        let data = noise();
        // Masks of few bits cut often, so that several strips of a block have one.
        for bits in [6, 10, 13, 16] {
            let mask = ((1 << bits) - 1) << (64 - bits);
            let mut from = WINDOW;
            for length in [100, STRIP, 3 * STRIP + 5, LANES * STRIP, 9 * LANES * STRIP + 77].repeat(20) {
                let range = from..from + length;
                assert_eq!(chunker.scan(&data, range.clone(), mask), chunker.scan_strip(&data, range, mask));
                from += length / 2 + 1;
            }
        }
    }

    #[test]
    fn an_insertion_moves_few_cuts() {
        let chunker = Chunker::new(&[7; 32]);
        let before = noise();
        let mut after = before.clone();
        after.splice(1000..1000, *b"inserted");
        let ends = |cuts: Vec<usize>, total: usize| -> Vec<usize> {
            let mut at = 0;
            cuts.into_iter()
                .map(|c| {
                    at += c;
                    total - at
                })
                .collect()
        };
        let old = ends(cuts(&chunker, &before), before.len());
        let new = ends(cuts(&chunker, &after), after.len());
        let kept = new.iter().filter(|end| old.contains(end)).count();
        assert!(kept + 2 >= old.len(), "{kept} of {} cuts kept", old.len());
    }

    #[test]
    fn zeros_are_seen() {
        assert!(is_zero(&[]) && is_zero(&[0; 1000]));
        for at in [0, 63, 64, 999] {
            let mut data = [0; 1000];
            data[at] = 1;
            assert!(!is_zero(&data));
        }
    }
}
