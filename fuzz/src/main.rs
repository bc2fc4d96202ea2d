//! One fuzzer for all parsers: `STRONGROOM_FUZZ_TARGET` names the one to feed. The parsers' own crates say what each
//! must do with arbitrary bytes (`fuzzing.rs`).
#![no_main]
#![allow(clippy::panic)] // nobody but a caller with a wrong name sees it

use std::sync::LazyLock;

static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let wanted = std::env::var("STRONGROOM_FUZZ_TARGET").unwrap_or_default();
    let ours = repository::fuzzing::TARGETS.iter().chain(recovery::fuzzing::TARGETS);
    let mut targets = ours.chain(api::fuzzing::TARGETS);
    match targets.find(|(name, _)| *name == wanted) {
        Some((_, target)) => *target,
        None => {
            panic!("STRONGROOM_FUZZ_TARGET='{wanted}' names no target; fuzz/corpus has a folder for each")
        }
    }
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| TARGET(data));
