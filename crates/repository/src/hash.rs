//! SHA-256 of two messages side by side.
//!
//! The processor's SHA instructions take longer to answer than to be started, so one message alone leaves half of
//! their time unused; two that are independent of each other take hardly longer than one. Whoever has two things to
//! hash (a pack and the blobs in it, two blobs) moves both on with [`advance`].

use sha2::block_api::compress256;

use crate::Id;

const BLOCK: usize = 64;

/// The state that FIPS 180-4 starts with.
const START: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A message that is being hashed; all of it is in memory.
pub(crate) struct Hashing<'a> {
    message: &'a [u8],
    done: usize,
    state: [u32; 8],
}

impl<'a> Hashing<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self { message, done: 0, state: START }
    }

    /// Whole blocks that are left.
    fn blocks(&self) -> usize {
        (self.message.len() - self.done) / BLOCK
    }

    /// The next `count` blocks, which then count as done.
    fn take(&mut self, count: usize) -> &'a [u8] {
        let from = self.done;
        self.done += count * BLOCK;
        &self.message[from..self.done]
    }

    /// Hashes what is left.
    pub(crate) fn finish(mut self) -> Id {
        let blocks = self.blocks();
        let rest = self.take(blocks);
        compress256(&mut self.state, rest.as_chunks().0);
        // Padding: one bit, zeros, and the length in bits.
        let tail = &self.message[self.done..];
        let mut last = [0; 2 * BLOCK];
        last[..tail.len()].copy_from_slice(tail);
        last[tail.len()] = 0x80;
        let end = if tail.len() + 9 <= BLOCK { BLOCK } else { 2 * BLOCK };
        last[end - 8..end].copy_from_slice(&(self.message.len() as u64 * 8).to_be_bytes());
        compress256(&mut self.state, last[..end].as_chunks().0);
        let mut id = [0; 32];
        for (bytes, word) in id.chunks_exact_mut(4).zip(self.state) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        Id(id)
    }
}

/// Moves both on, as far as the one with less left goes.
pub(crate) fn advance(a: &mut Hashing<'_>, b: &mut Hashing<'_>) {
    let count = a.blocks().min(b.blocks());
    let messages = [a.take(count), b.take(count)];
    compress_both([&mut a.state, &mut b.state], messages);
}

/// The ids of two messages.
pub(crate) fn pair(a: &[u8], b: &[u8]) -> (Id, Id) {
    let (mut a, mut b) = (Hashing::new(a), Hashing::new(b));
    advance(&mut a, &mut b);
    (a.finish(), b.finish())
}

#[cfg(target_arch = "x86_64")]
fn compress_both(states: [&mut [u32; 8]; 2], messages: [&[u8]; 2]) {
    let there = std::arch::is_x86_feature_detected!("sha")
        && std::arch::is_x86_feature_detected!("ssse3")
        && std::arch::is_x86_feature_detected!("sse4.1");
    if there {
        // SAFETY: the processor has the features that the function is compiled for; that is all it asks for.
        #[allow(unsafe_code)]
        unsafe {
            side_by_side::compress(states, messages);
        }
    } else {
        one_by_one(states, messages);
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn compress_both(states: [&mut [u32; 8]; 2], messages: [&[u8]; 2]) {
    one_by_one(states, messages);
}

fn one_by_one(states: [&mut [u32; 8]; 2], messages: [&[u8]; 2]) {
    for (state, message) in states.into_iter().zip(messages) {
        compress256(state, message.as_chunks().0);
    }
}

/// Two lanes of the instructions that Intel described in "New Instructions Supporting the Secure Hash Algorithm".
#[cfg(target_arch = "x86_64")]
mod side_by_side {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_extract_epi32, _mm_set_epi32, _mm_set_epi64x,
        _mm_setzero_si128, _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32,
        _mm_shuffle_epi8, _mm_shuffle_epi32,
    };

    use super::BLOCK;

    /// The constants of FIPS 180-4, section 4.2.2, four rounds a row.
    const K: [[u32; 4]; 16] = [
        [0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5],
        [0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5],
        [0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3],
        [0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174],
        [0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc],
        [0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da],
        [0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7],
        [0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967],
        [0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13],
        [0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85],
        [0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3],
        [0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070],
        [0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5],
        [0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3],
        [0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208],
        [0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2],
    ];

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub(super) fn compress(states: [&mut [u32; 8]; 2], messages: [&[u8]; 2]) {
        let [state_a, state_b] = states;
        let mut lanes = [pack(state_a), pack(state_b)];
        let [a, b] = messages.map(|message| message.as_chunks::<BLOCK>().0);
        for (a, b) in a.iter().zip(b) {
            let before = lanes;
            let mut words = [load(a), load(b)];
            for (i, k) in K.iter().enumerate() {
                let k = row(k);
                for (lane, words) in lanes.iter_mut().zip(&mut words) {
                    if i >= 4 {
                        *words = [words[1], words[2], words[3], next_words(words)];
                    }
                    four_rounds(lane, _mm_add_epi32(words[i.min(3)], k));
                }
            }
            for (lane, before) in lanes.iter_mut().zip(before) {
                *lane = [_mm_add_epi32(lane[0], before[0]), _mm_add_epi32(lane[1], before[1])];
            }
        }
        *state_a = unpack(lanes[0]);
        *state_b = unpack(lanes[1]);
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn row(words: &[u32; 4]) -> __m128i {
        let [a, b, c, d] = words.map(|word| word as i32);
        _mm_set_epi32(d, c, b, a)
    }

    /// The state as the instructions want it: words a, b, e, f and c, d, g, h, the first in the highest place.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn pack(state: &[u32; 8]) -> [__m128i; 2] {
        let [a, b, c, d, e, f, g, h] = state.map(|word| word as i32);
        [_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)]
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn unpack([abef, cdgh]: [__m128i; 2]) -> [u32; 8] {
        [
            _mm_extract_epi32::<3>(abef),
            _mm_extract_epi32::<2>(abef),
            _mm_extract_epi32::<3>(cdgh),
            _mm_extract_epi32::<2>(cdgh),
            _mm_extract_epi32::<1>(abef),
            _mm_extract_epi32::<0>(abef),
            _mm_extract_epi32::<1>(cdgh),
            _mm_extract_epi32::<0>(cdgh),
        ]
        .map(|word| word as u32)
    }

    /// The sixteen words of a block, from big-endian bytes.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn load(block: &[u8; BLOCK]) -> [__m128i; 4] {
        let swap = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        let halves = block.as_chunks::<8>().0;
        let mut words = [_mm_setzero_si128(); 4];
        for (word, half) in words.iter_mut().zip(halves.as_chunks::<2>().0) {
            let [low, high] = half.map(i64::from_le_bytes);
            *word = _mm_shuffle_epi8(_mm_set_epi64x(high, low), swap);
        }
        words
    }

    /// The four words of the schedule that follow on the last sixteen.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn next_words(w: &[__m128i; 4]) -> __m128i {
        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w[0], w[1]), _mm_alignr_epi8::<4>(w[3], w[2]));
        _mm_sha256msg2_epu32(sum, w[3])
    }

    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn four_rounds(lane: &mut [__m128i; 2], words: __m128i) {
        let [abef, cdgh] = *lane;
        let middle = _mm_sha256rnds2_epu32(cdgh, abef, words);
        *lane = [_mm_sha256rnds2_epu32(abef, middle, _mm_shuffle_epi32::<0x0e>(words)), middle];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_published_vectors_come_out() {
        let (empty, abc) = pair(b"", b"abc");
        assert_eq!(empty.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(abc.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    proptest! {
        #[test]
        fn two_messages_have_the_ids_that_each_has_alone(
            a in proptest::collection::vec(any::<u8>(), 0..700),
            b in proptest::collection::vec(any::<u8>(), 0..700),
            c in proptest::collection::vec(any::<u8>(), 0..700),
        ) {
            let (mut first, mut second, mut third) = (Hashing::new(&a), Hashing::new(&b), Hashing::new(&c));
            advance(&mut first, &mut second);
            advance(&mut first, &mut third);
            advance(&mut second, &mut third);
            prop_assert_eq!(first.finish(), Id::of(&a));
            prop_assert_eq!(second.finish(), Id::of(&b));
            prop_assert_eq!(third.finish(), Id::of(&c));
        }
    }
}
