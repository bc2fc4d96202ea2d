//! The `strongroom` command: the disaster-recovery server, its quickstart, and the tools that work without a server.
//!
//! This crate is glue: it reads what was typed and configured, calls the crates below and shows what came of it.
//!
//! * `cli` one file a command; `config` strongroom.toml, as typed and as meant
//! * `client` speaks to a running server, for the commands that are clients of one
//! * `server`, `tls`, `logging` the running server
//! * `passcode`, `interrupt`, `progress`, `terminal`, `table`, `words` what the commands have in common towards a person
//! * `exit` every exit code, and what an error looks like at the end
#![deny(missing_docs)]

mod cli;
mod client;
mod config;
mod exit;
mod interrupt;
mod logging;
mod passcode;
mod progress;
mod server;
mod table;
mod terminal;
mod tls;
mod words;

fn main() -> std::process::ExitCode {
    keep_memory_private();
    exit::report(cli::run())
}

/// A passcode stands in memory while it is used: no core file is to hold it, and no debugger of the same user to read it.
/// What this process starts is not concerned.
fn keep_memory_private() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}
