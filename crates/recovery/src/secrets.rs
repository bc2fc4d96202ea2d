//! The master key, and sealing of what must lie in the state but not in clear.
//!
//! A sealed value: version (1 byte), key id (4 bytes), nonce (12 bytes), AES-256-GCM text and tag. The additional data
//! names table, row and column, so that a value copied elsewhere does not open.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use sha2::{Digest, Sha256};
use storage::Storage;
use zeroize::Zeroizing;

use crate::{Error, ErrorKind, Result};

const VERSION: u8 = 1;
const KEY_ID_LEN: usize = 4;
const HEADER_LEN: usize = 1 + KEY_ID_LEN + NONCE_LEN;

/// Where a sealed value lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub table: &'a str,
    pub row: &'a str,
    pub column: &'a str,
}

impl Place<'_> {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        for part in [self.table, self.row, self.column] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes
    }
}

/// The key under which secrets at rest are sealed.
pub(crate) struct MasterKey {
    key: LessSafeKey,
    /// Derived from the master key, for signatures alone.
    signing: hmac::Key,
    id: [u8; KEY_ID_LEN],
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

impl MasterKey {
    /// Reads the key from its file. Makes both if the file is missing and `may_make` allows it.
    pub fn load(file: &Path, may_make: bool) -> Result<Self> {
        match fs::metadata(file) {
            Ok(metadata) if metadata.mode() & 0o077 != 0 => Err(configuration(format!(
                "the master key {0} can be read by others (mode {1:03o}). Run: chmod 600 {0}",
                file.display(),
                metadata.mode() & 0o777
            ))),
            Ok(_) => Self::read(file),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && may_make => {
                make(file)?;
                Self::read(file)
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(configuration(format!(
                "the master key {} is missing, but the state holds secrets that were sealed with it. Put it back \
                 from your copy, or begin with an empty state (backups in stores do not need it)",
                file.display()
            ))),
            Err(e) => {
                Err(configuration(format!("cannot read the master key {}: {e}", file.display())).because(e))
            }
        }
    }

    fn read(file: &Path) -> Result<Self> {
        let text = Zeroizing::new(fs::read(file).map_err(|e| {
            configuration(format!("cannot read the master key {}: {e}", file.display())).because(e)
        })?);
        let mut bytes = Zeroizing::new([0u8; 32]);
        hex::decode_to_slice(text.trim_ascii(), &mut *bytes).map_err(|_| {
            configuration(format!("the master key {} does not hold 64 hexadecimal digits", file.display()))
        })?;
        Self::new(&bytes)
    }

    fn new(bytes: &[u8; 32]) -> Result<Self> {
        let mut hash = Sha256::new();
        hash.update(b"strongroom master key id\0");
        hash.update(bytes);
        let digest = hash.finalize();
        let mut id = [0; KEY_ID_LEN];
        id.copy_from_slice(&digest[..KEY_ID_LEN]);
        let key = UnboundKey::new(&AES_256_GCM, bytes)
            .map_err(|_| Error::new(ErrorKind::Internal, "cannot use the master key with AES-256-GCM"))?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, bytes), b"strongroom signing key 1");
        let signing = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Ok(Self { key: LessSafeKey::new(key), signing, id })
    }

    /// Tells keys apart without saying anything about them.
    pub fn id(&self) -> String {
        hex::encode(self.id)
    }

    /// A signature over `text` that holds for this purpose alone, in hexadecimal digits. What strangers can make us sign,
    /// any number of times, must not use up the nonces of the sealing key, and need not be hidden from them.
    pub fn sign(&self, purpose: &str, text: &str) -> String {
        hex::encode(hmac::sign(&self.signing, &signed_bytes(purpose, text)))
    }

    /// Whether [`MasterKey::sign`] gave this signature; compared in constant time.
    pub fn is_signed(&self, purpose: &str, text: &str, signature: &str) -> bool {
        let right = self.sign(purpose, text);
        verify_slices_are_equal(right.as_bytes(), signature.as_bytes()).is_ok()
    }

    /// Seals `secret` for this place alone.
    pub fn seal(&self, place: Place<'_>, secret: &[u8]) -> Result<Vec<u8>> {
        let mut nonce = [0u8; NONCE_LEN];
        rand::fill(&mut nonce[..]);
        let mut sealed = Vec::with_capacity(HEADER_LEN + secret.len() + 16);
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(secret);
        let mut text = Zeroizing::new(sealed.split_off(HEADER_LEN));
        self.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.bytes()),
                &mut *text,
            )
            .map_err(|_| Error::new(ErrorKind::Internal, "cannot seal a secret"))?;
        sealed.extend_from_slice(&text);
        Ok(sealed)
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let refuse = |why: &str| {
            let message =
                format!("cannot open the sealed {} of {} {}: {why}", place.column, place.table, place.row);
            Error::new(ErrorKind::Internal, message)
        };
        let (header, text) = sealed.split_at_checked(HEADER_LEN).ok_or_else(|| refuse("it is cut short"))?;
        let (version_and_id, nonce) = header.split_at(1 + KEY_ID_LEN);
        if version_and_id[0] != VERSION {
            return Err(refuse("it was written by a newer release"));
        }
        if version_and_id[1..] != self.id {
            return Err(refuse("it was sealed under another master key"));
        }
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| refuse("it is cut short"))?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(place.bytes()), &mut text)
            .map_err(|_| refuse("it was altered"))?
            .len();
        text.truncate(length);
        Ok(text)
    }
}

/// What a signature is over: the purpose with its length in front, so that no other division of the bytes gives the same.
fn signed_bytes(purpose: &str, text: &str) -> Vec<u8> {
    [&(purpose.len() as u64).to_be_bytes(), purpose.as_bytes(), text.as_bytes()].concat()
}

/// Writes a new key, durably and never over another one.
fn make(file: &Path) -> Result<()> {
    let wrong = |why: String| configuration(format!("cannot make the master key {}: {why}", file.display()));
    let (Some(parent), Some(name)) = (file.parent(), file.file_name().and_then(|name| name.to_str())) else {
        return Err(wrong("its path is no file name".to_owned()));
    };
    let mut bytes = Zeroizing::new([0u8; 32]);
    rand::fill(&mut bytes[..]);
    let text = Zeroizing::new(format!("{}\n", hex::encode(*bytes)));
    let directory = storage::Directory::create_root(parent, storage::DirectoryOptions::default());
    match directory.and_then(|directory| directory.create(name, &[text.as_bytes()])) {
        Err(e) if e.kind != storage::ErrorKind::Exists => Err(wrong(e.to_string())),
        _ => Ok(()),
    }
}

fn configuration(message: String) -> Error {
    Error::new(ErrorKind::Configuration, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const HERE: Place<'_> = Place { table: "jobs", row: "j1", column: "passcode" };

    #[test]
    fn a_sealed_secret_opens_only_at_its_own_place_and_unaltered() {
        let key = MasterKey::new(&[7; 32]).unwrap();
        let sealed = key.seal(HERE, b"correct horse").unwrap();
        assert!(!sealed.windows(7).any(|part| part == b"correct"));
        assert_eq!(key.open(HERE, &sealed).unwrap().as_slice(), b"correct horse");
        assert!(key.open(Place { row: "j2", ..HERE }, &sealed).is_err());
        assert!(key.open(Place { table: "tasks", ..HERE }, &sealed).is_err());
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(key.open(HERE, &altered).is_err(), "byte {at}");
        }
        for length in 0..sealed.len() {
            assert!(key.open(HERE, &sealed[..length]).is_err(), "cut to {length}");
        }
        let other = MasterKey::new(&[8; 32]).unwrap();
        let error = other.open(HERE, &sealed).unwrap_err();
        assert!(error.message.contains("another master key"), "{error}");
    }

    #[test]
    fn a_signature_holds_for_its_text_purpose_and_key_alone() {
        let key = MasterKey::new(&[7; 32]).unwrap();
        let signature = key.sign("a", "text");
        assert!(key.is_signed("a", "text", &signature));
        assert!(
            MasterKey::new(&[7; 32]).unwrap().is_signed("a", "text", &signature),
            "as long as the key stays"
        );
        for (purpose, text) in [("b", "text"), ("a", "texT"), ("a", ""), ("at", "ext"), ("", "atext")] {
            assert!(!key.is_signed(purpose, text, &signature), "{purpose} {text}");
        }
        for wrong in [
            "",
            "00",
            &signature[..62],
            &format!("{signature}00"),
            &"0".repeat(64),
            &signature.to_uppercase(),
        ] {
            assert!(!key.is_signed("a", "text", wrong), "{wrong}");
        }
        assert!(!MasterKey::new(&[8; 32]).unwrap().is_signed("a", "text", &signature));
    }

    #[test]
    fn two_seals_of_one_secret_differ() {
        let key = MasterKey::new(&[7; 32]).unwrap();
        assert_ne!(key.seal(HERE, b"x").unwrap(), key.seal(HERE, b"x").unwrap());
    }

    #[test]
    fn the_key_file_is_made_once_and_must_be_private() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys/master.key");
        assert_eq!(MasterKey::load(&file, false).unwrap_err().kind, ErrorKind::Configuration);
        let id = MasterKey::load(&file, true).unwrap().id();
        assert_eq!(MasterKey::load(&file, true).unwrap().id(), id);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = MasterKey::load(&file, true).unwrap_err();
        assert!(error.message.contains("chmod 600"), "{error}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "no key").unwrap();
        assert!(MasterKey::load(&file, true).is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        let key = MasterKey::new(&[7; 32]).unwrap();
        assert!(!format!("{key:?}").contains(&hex::encode([7; 32])));
    }
}
