//! The product while things go wrong: killed, stopped, starved of disk, talked to by strangers.
//!
//! Every test runs the real binary on directories of its own. `STRONGROOM_TEST_KILLS` says how often the server is
//! killed in all (24 if absent), `STRONGROOM_TEST_SEED` repeats a run.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

#[path = "faults/content.rs"]
mod content;
#[path = "faults/documented.rs"]
mod documented;
#[path = "faults/gate.rs"]
mod gate;
#[path = "faults/kill.rs"]
mod kill;
#[path = "faults/kill_at_calls.rs"]
mod kill_at_calls;
#[path = "faults/log_in.rs"]
mod log_in;
#[path = "faults/places.rs"]
mod places;
#[path = "faults/repeated.rs"]
mod repeated;
#[path = "faults/secrets.rs"]
mod secrets;
#[path = "faults/strangers.rs"]
mod strangers;
#[path = "faults/vault.rs"]
mod vault;
