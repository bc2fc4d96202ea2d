//! Sealing: AES-256 in counter mode and Poly1305-AES over the ciphertext, as restic does it.
//!
//! `nonce (16) ‖ ciphertext ‖ tag (16)`; the one-time key of Poly1305 is `r ‖ AES-128(k, nonce)`. Nothing binds a
//! blob to its place: whoever opens one hashes the plaintext again and compares it with the blob's id.
//! Format: <https://restic.readthedocs.io/en/stable/100_references.html>, section "Keys, Encryption and MAC".

use aes::{Aes128, Aes256};
use ctr::cipher::{Array, BlockCipherEncrypt, KeyInit, KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes that sealing adds.
pub const OVERHEAD: usize = 32;
const NONCE: usize = 16;
const TAG: usize = 16;

/// The three keys of a repository, or of a passcode.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct SealKey {
    pub(crate) encrypt: [u8; 32],
    pub(crate) k: [u8; 16],
    pub(crate) r: [u8; 16],
}

/// The sealed bytes were altered, cut, or sealed under another key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unsealable;

impl SealKey {
    /// A fresh random key.
    pub(crate) fn random() -> Self {
        Self { encrypt: rand::random(), k: rand::random(), r: rand::random() }.masked()
    }

    /// With the bits of `r` cleared that Poly1305 never uses. restic writes a key back like this when it adds a
    /// passcode, so whatever is derived from a key is derived from this form.
    pub(crate) fn masked(mut self) -> Self {
        for i in [3, 7, 11, 15] {
            self.r[i] &= 15;
        }
        for i in [4, 8, 12] {
            self.r[i] &= 252;
        }
        self
    }

    /// restic refuses keys of zeros, and so do we.
    pub(crate) fn is_legal(&self) -> bool {
        self.encrypt != [0; 32] && self.k != [0; 16] && self.r != [0; 16]
    }

    fn tag(&self, nonce: &[u8], ciphertext: &[u8]) -> [u8; TAG] {
        let mut s = Array::from([0u8; 16]);
        s.copy_from_slice(nonce);
        Aes128::new(&Array::from(self.k)).encrypt_block(&mut s);
        let mut one_time = [0; 32];
        one_time[..16].copy_from_slice(&self.r);
        one_time[16..].copy_from_slice(&s);
        let tag = Poly1305::new(&Array::from(one_time)).compute_unpadded(ciphertext);
        one_time.zeroize();
        tag.into()
    }

    /// Encrypts or decrypts `from` into `to`, which is of the same length.
    fn keystream(&self, nonce: &[u8; NONCE], from: &[u8], to: &mut [u8]) {
        ctr::Ctr128BE::<Aes256>::new(&Array::from(self.encrypt), &Array::from(*nonce))
            .apply_keystream_b2b(from, to);
    }

    /// Replaces `out` with the sealed form of `plaintext`.
    pub(crate) fn seal_into(&self, plaintext: &[u8], out: &mut Vec<u8>) {
        let mut nonce: [u8; NONCE] = rand::random();
        while nonce == [0; NONCE] {
            nonce = rand::random();
        }
        self.seal_with_nonce(&nonce, plaintext, out);
    }

    fn seal_with_nonce(&self, nonce: &[u8; NONCE], plaintext: &[u8], out: &mut Vec<u8>) {
        // What it held is overwritten, so it need not be cleared first.
        out.resize(plaintext.len() + OVERHEAD, 0);
        let (head, rest) = out.split_at_mut(NONCE);
        let (ciphertext, tag) = rest.split_at_mut(plaintext.len());
        head.copy_from_slice(nonce);
        self.keystream(nonce, plaintext, ciphertext);
        tag.copy_from_slice(&self.tag(nonce, ciphertext));
    }

    /// The sealed form of `plaintext`.
    pub(crate) fn seal(&self, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        self.seal_into(plaintext, &mut out);
        out
    }

    /// Replaces `out` with the plaintext of `sealed`; the tag is compared, in constant time, before anything is decrypted.
    /// `out` is empty if that fails.
    pub(crate) fn open_into(&self, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), Unsealable> {
        let Some((nonce, ciphertext)) = self.authentic(sealed) else {
            out.clear();
            return Err(Unsealable);
        };
        // What it held is overwritten, so it need not be cleared first.
        out.resize(ciphertext.len(), 0);
        self.keystream(nonce, ciphertext, out);
        Ok(())
    }

    /// The nonce and the ciphertext, if the tag fits them.
    fn authentic<'s>(&self, sealed: &'s [u8]) -> Option<(&'s [u8; NONCE], &'s [u8])> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE>()?;
        let (ciphertext, tag) = body.split_last_chunk::<TAG>()?;
        let fits = *nonce != [0; NONCE] && bool::from(self.tag(nonce, ciphertext).ct_eq(tag));
        fits.then_some((nonce, ciphertext))
    }

    /// The plaintext of `sealed`.
    pub(crate) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
        let mut out = Vec::new();
        self.open_into(sealed, &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting<const N: usize>(from: u8) -> [u8; N] {
        std::array::from_fn(|i| from + i as u8)
    }

    fn key() -> SealKey {
        SealKey { encrypt: counting(0), k: counting(0x20), r: counting(0x30) }
    }

    #[test]
    fn sealing_gives_the_published_vectors() {
        for (plain, sealed) in [
            ("", "404142434445464748494a4b4c4d4e4f859469c07743c7e45b318d151d3d87e9"),
            (
                "hello world",
                "404142434445464748494a4b4c4d4e4fcb1bb353f87acd80e1170642213a3d87cbaf287c201f644492c3f6",
            ),
        ] {
            let mut out = Vec::new();
            key().seal_with_nonce(&counting(0x40), plain.as_bytes(), &mut out);
            assert_eq!(hex::encode(&out), sealed);
            assert_eq!(key().open(&out).unwrap(), plain.as_bytes());
        }
    }

    #[test]
    fn the_bits_that_masking_clears_never_mattered() {
        let mut key = key();
        key.r = [0xff; 16];
        let sealed = key.seal(b"content");
        assert_eq!(key.masked().open(&sealed).unwrap(), b"content");
    }

    #[test]
    fn one_flipped_bit_anywhere_is_refused() {
        let sealed = key().seal(b"some content");
        for bit in 0..sealed.len() * 8 {
            let mut bad = sealed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key().open(&bad), Err(Unsealable));
        }
        for length in 0..sealed.len() {
            assert_eq!(key().open(&sealed[..length]), Err(Unsealable));
        }
    }
}
