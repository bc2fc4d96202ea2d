//! What the tests of the whole product share. They run the real binary, real stores and stock restic.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod browser;
pub mod client;
pub mod google;
pub mod http;
pub mod postgres;
pub mod proxy;
pub mod server;
pub mod services;
pub mod tree;
