//! Passwords as Argon2id hashes in the PHC format.
//!
//! A hash takes 19 MiB. Asked for anew each time, that memory would stay with every thread that ever computed one, as the
//! allocator gives such sizes back late; so what one hash worked on is kept for the next. Callers compute a few at a time.

use std::sync::{Mutex, OnceLock, PoisonError};

use argon2::password_hash::phc::{Output, PasswordHash, Salt};
use argon2::{Algorithm, Argon2, Block, Params, Version};
use secrecy::{ExposeSecret, SecretString};

use crate::{Error, ErrorKind, Result};

const HASH_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
/// Of another hash than ours, so that a row of the state cannot ask for any amount.
const BLOCKS_MAX: usize = 1 << 16;

/// Memory of hashes that nobody computes just now.
static MEMORY: Mutex<Vec<Vec<Block>>> = Mutex::new(Vec::new());

/// The hash of this password under a new salt.
pub(crate) fn hash(password: &SecretString) -> Result<String> {
    let salt: [u8; SALT_BYTES] = rand::random();
    hash_with(password, &salt)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot hash a password: {e}")))
}

fn hash_with(
    password: &SecretString,
    salt: &[u8],
) -> std::result::Result<String, argon2::password_hash::Error> {
    let (algorithm, version, params) = (Algorithm::default(), Version::default(), Params::DEFAULT);
    let mut out = [0; HASH_BYTES];
    compute(algorithm, version, params.clone(), password, salt, &mut out)?;
    let hash = PasswordHash {
        algorithm: algorithm.ident(),
        version: Some(version.into()),
        params: (&params).try_into()?,
        salt: Some(Salt::new(salt)?),
        hash: Some(Output::new(&out)?),
    };
    Ok(hash.to_string())
}

/// Whether this password has that hash.
pub(crate) fn verify(password: &SecretString, stored: &str) -> bool {
    is_hash_of(password, stored).unwrap_or(false)
}

fn is_hash_of(password: &SecretString, stored: &str) -> Option<bool> {
    let stored = PasswordHash::new(stored).ok()?;
    let algorithm = Algorithm::try_from(stored.algorithm.as_str()).ok()?;
    let version = stored.version.map_or(Some(Version::default()), |version| version.try_into().ok())?;
    let params = Params::try_from(&stored).ok().filter(|params| params.block_count() <= BLOCKS_MAX)?;
    let (salt, expected) = (stored.salt.as_ref()?, stored.hash.as_ref()?);
    let mut out = vec![0; expected.len()];
    compute(algorithm, version, params, password, salt, &mut out).ok()?;
    // In constant time.
    Some(Output::new(&out).ok()? == *expected)
}

/// A hash that no password has, so that an unknown user takes as long as a known one.
pub(crate) fn nobody() -> &'static str {
    static HASH: OnceLock<String> = OnceLock::new();
    HASH.get_or_init(|| {
        let random = SecretString::from(hex::encode(rand::random::<[u8; 32]>()));
        hash(&random).unwrap_or_default()
    })
}

fn compute(
    algorithm: Algorithm,
    version: Version,
    params: Params,
    password: &SecretString,
    salt: &[u8],
    out: &mut [u8],
) -> argon2::Result<()> {
    let count = params.block_count();
    let mut memory = MEMORY.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
    memory.resize(count, Block::default());
    let argon = Argon2::new(algorithm, version, params);
    let done =
        argon.hash_password_into_with_memory(password.expose_secret().as_bytes(), salt, out, &mut memory[..]);
    // What it held comes from the password.
    memory.fill(Block::default());
    MEMORY.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};

    fn secret(text: &str) -> SecretString {
        SecretString::from(text)
    }

    #[test]
    fn hashes_are_those_of_the_library_in_both_directions() {
        let password = secret("correct horse battery");
        let ours = hash(&password).unwrap();
        let parsed = PasswordHash::new(&ours).unwrap();
        assert!(Argon2::default().verify_password(b"correct horse battery", &parsed).is_ok());
        let theirs = Argon2::default().hash_password(b"correct horse battery").unwrap().to_string();
        assert!(verify(&password, &theirs));
        assert_eq!(ours.len(), theirs.len());
        for (password, stored) in [("correct horse", &ours), ("Correct horse battery", &theirs)] {
            assert!(!verify(&secret(password), stored));
        }
        assert_ne!(hash(&password).unwrap(), ours, "each has a salt of its own");
        assert!(!verify(&password, nobody()));
    }

    #[test]
    fn what_is_no_hash_or_asks_for_too_much_is_the_hash_of_nothing() {
        let password = secret("correct horse battery");
        let ours = hash(&password).unwrap();
        for stored in ["", "x", "$argon2id$", &ours[..40], &ours.replace("m=19456", "m=4194304")] {
            assert!(!verify(&password, stored), "{stored}");
        }
    }

    #[test]
    fn as_much_memory_is_kept_as_hashes_were_computed_at_one_time() {
        for _ in 0..8 {
            assert!(hash(&secret("correct horse battery")).is_ok());
        }
        // Other tests compute some too, but none as many at a time as were computed here.
        assert!(MEMORY.lock().unwrap().len() < 8);
    }
}
