//! What a key may look like, checked once at the border so that no backend can be led out of its place.

use crate::{Error, ErrorKind, Result};

/// Longest key in bytes; S3's limit is 1024.
const KEY_BYTES_MAX: usize = 900;

/// Accepts relative keys of non-empty segments; refuses `.`, `..`, empty segments and NUL.
pub fn check_key(key: &str, location: &str) -> Result<()> {
    let fine = !key.is_empty()
        && key.len() <= KEY_BYTES_MAX
        && !key.contains('\0')
        && key.split('/').all(|s| !s.is_empty() && s != "." && s != ".." && s.len() <= 255);
    if fine {
        Ok(())
    } else {
        Err(Error::new(ErrorKind::Invalid, "use", key, location, "not a legal object key"))
    }
}

#[cfg(test)]
mod tests {
    use super::check_key;

    #[test]
    fn keys_cannot_leave_their_store() {
        for bad in ["", "/a", "a/", "a//b", "../a", "a/../b", "a/.", "a\0b"] {
            assert!(check_key(bad, "x").is_err(), "{bad:?}");
        }
        for good in ["a", "a/b", "vaults/0a/data/ff/x", "a b", "é"] {
            assert!(check_key(good, "x").is_ok(), "{good:?}");
        }
    }
}
