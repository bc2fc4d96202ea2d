//! Small JSON files with a checksum of their own, so that one flipped bit anywhere in them is found without a key.
//!
//! The last member of the object is `"checksum"`: the SHA-256, in lower-case hexadecimal, of all bytes of the file
//! before `,"checksum"`. Nothing may follow the closing brace. So every byte is either hashed or fixed.

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use storage::{ErrorKind, Storage, Version};

use super::failure;
use crate::{Error, ErrorKind as Kind, Result};

const MEMBER: &str = ",\"checksum\":\"";
const TAIL: &str = "\"}";
const DIGEST_CHARS: usize = 64;

/// What was found under a key.
pub(crate) enum Found<T> {
    /// Nothing.
    Missing,
    /// The record, with the version for a later replacement.
    Good(T, Version),
    /// Something that is not an intact record, and why. The version is there if the file could be read at all.
    Damaged(String, Option<Version>),
}

/// The bytes of a record's file. A record is an object with at least one member.
pub(crate) fn seal<T: Serialize>(record: &T) -> Result<Vec<u8>> {
    let text = serde_json::to_string(record).unwrap_or_default();
    let Some(open) = text.strip_suffix('}').filter(|open| open.len() > 1) else {
        return Err(Error::new(Kind::Internal, "a record of the store could not be put into words"));
    };
    let digest = hex::encode(Sha256::digest(open.as_bytes()));
    Ok([open, MEMBER, &digest, TAIL].concat().into_bytes())
}

/// The record in a file's bytes, or why there is none.
pub(crate) fn unseal<T: DeserializeOwned>(bytes: &[u8]) -> std::result::Result<T, String> {
    if bytes.is_empty() {
        return Err("it is empty".to_owned());
    }
    if bytes.iter().all(|b| *b == 0) {
        return Err("it holds nothing but zero bytes".to_owned());
    }
    let open = bytes
        .strip_suffix(TAIL.as_bytes())
        .and_then(|rest| rest.split_at_checked(rest.len().checked_sub(DIGEST_CHARS)?))
        .and_then(|(rest, digest)| Some((rest.strip_suffix(MEMBER.as_bytes())?, digest)));
    let Some((open, digest)) = open else {
        return Err("it does not end in a checksum".to_owned());
    };
    if hex::encode(Sha256::digest(open)).as_bytes() != digest {
        return Err("its checksum does not match its content".to_owned());
    }
    serde_json::from_slice(bytes).map_err(|e| format!("it is not a record of the expected form: {e}"))
}

/// Reads one record. A place that fails as a whole is an error; a single file that cannot be read is damaged.
pub(crate) fn read<T: DeserializeOwned>(storage: &dyn Storage, key: &str, size_max: u64) -> Result<Found<T>> {
    match storage.get_versioned(key, size_max) {
        Ok((bytes, version)) => Ok(match unseal(&bytes) {
            Ok(record) => Found::Good(record, version),
            Err(reason) => Found::Damaged(reason, Some(version)),
        }),
        Err(e) => match e.kind {
            // A whole place that is gone answers NotFound too; `head` tells the two apart.
            ErrorKind::NotFound => storage.head(key).map(|_| Found::Missing).map_err(failure::storage),
            ErrorKind::TooLarge | ErrorKind::Short => Ok(Found::Damaged(e.reason, None)),
            ErrorKind::Io | ErrorKind::Denied => match storage.list("running/", &mut |_| Ok(())) {
                Ok(()) => Ok(Found::Damaged(format!("it cannot be read: {}", e.reason), None)),
                Err(_) => Err(failure::storage(e)),
            },
            _ => Err(failure::storage(e)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(serde::Serialize, serde::Deserialize, Debug, PartialEq)]
    struct Sample {
        name: String,
        n: u64,
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let sample = Sample { name: "a \"b\" }".to_owned(), n: 7 };
        let bytes = seal(&sample).unwrap();
        assert_eq!(unseal::<Sample>(&bytes).unwrap(), sample);
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let bytes = seal(&Sample { name: "x".to_owned(), n: 1 }).unwrap();
        for position in 0..bytes.len() {
            for bit in 0..8 {
                let mut bad = bytes.clone();
                bad[position] ^= 1 << bit;
                assert!(unseal::<Sample>(&bad).is_err(), "byte {position}, bit {bit}");
            }
            assert!(unseal::<Sample>(&bytes[..position]).is_err(), "cut at {position}");
        }
        let mut longer = bytes;
        longer.push(b'\n');
        assert!(unseal::<Sample>(&longer).is_err());
        assert!(unseal::<Sample>(&[0; 40]).unwrap_err().contains("zero"));
    }
}
