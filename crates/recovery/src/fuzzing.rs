//! The parsers of what lies in a store, each as a function over arbitrary bytes: for fuzzing (feature `fuzzing`, see
//! `fuzz/`) and, in the crate's own tests, for reading the kept corpus again. Records carry a checksum, which a fuzzer
//! could not make: each is tried as it is, and once more with a right one.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is how a fuzzer is told

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use crate::store::{catalogue, deletion, groups, identity, owner, running, sealed};

/// A parser, fed with arbitrary bytes.
pub type Target = fn(&[u8]);

/// All of them by name; the names are those of the folders in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] = &[
    ("catalogue-entry", catalogue::fuzz_entry),
    ("store-identity", record::<identity::StoreIdentity>),
    ("owner", record::<owner::Owner>),
    ("running", record::<running::RunningRecord>),
    ("deletion", record::<deletion::DeletedRecord>),
    ("group", group),
];

fn record<T: DeserializeOwned>(data: &[u8]) {
    let _ = sealed::unseal::<T>(data);
    let _ = sealed::unseal::<T>(&with_checksum(data));
}

/// The bytes as the store would have sealed them: in place of the last brace, the right checksum.
pub(crate) fn with_checksum(data: &[u8]) -> Vec<u8> {
    let open = data.strip_suffix(b"}").unwrap_or(data);
    let digest = hex::encode(Sha256::digest(open));
    [open, b",\"checksum\":\"", digest.as_bytes(), b"\"}"].concat()
}

fn group(data: &[u8]) {
    let _ = groups::Group::decode(data);
    let body = [data, Sha256::digest(data).as_slice()].concat();
    if let Ok(group) = groups::Group::decode(&body) {
        let again = groups::Group::decode(&group.encode().unwrap()).unwrap();
        assert_eq!(again, group);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_corpus_is_read_without_a_crash() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (name, target) in TARGETS {
            let mut files = 0;
            for file in std::fs::read_dir(corpus.join(name)).unwrap() {
                target(&std::fs::read(file.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files > 0, "there is no corpus for {name}");
        }
    }
}
