//! `repo mount` in a program that was built without it: says how to get it.

use std::ffi::OsString;

use anyhow::Result;

use super::place::Place;
use crate::exit::{Exit, Failure};

/// Whatever was given.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    _any: Vec<OsString>,
}

/// Refuses.
pub fn run(_: &Place, _: &Arguments) -> Result<Exit> {
    Err(Failure::usage("this program was built without `repo mount`")
        .hint("build it with `cargo build --release --package strongroom --features mount`")
        .into())
}
