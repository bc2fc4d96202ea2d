//! A server by the physical way: its files once in a while (a base), and all of its write-ahead log since. From these it can be
//! had as it was at any instant between the end of a base and the end of the backup.
//!
//! ```text
//! all the time  pg_receivewal, with a slot (`receive`) → segments in a directory of ours (`spool`)
//! backup        what the last one holds (`previous`), a base now and then (pg_basebackup), a mark in the log (`mark`), the
//!               segments until there, named to the engine one after the other (`feed`)
//! restore       base and log → a server of our own that replays until the instant (`replay`) → its databases as a logical
//!               backup in scratch (`recover`) → the restore that every logical backup has
//! rescue        the same server, shut down: the directory of a new one (`whole`)
//! ```
//! A backup that follows another one in the same vault keeps the base and the segments that lie there already: nothing
//! but new log is read and stored. Whether the log is without a gap is looked at in each backup (`log`), by the
//! numbers of the segments, and whether what came later continues what lay here (`joint`, by the records of the log); after a gap
//! there is a new base, and the gap is named.

mod backup;
mod feed;
mod joint;
mod log;
mod manifest;
mod mark;
mod present;
mod previous;
mod receive;
mod records;
mod recover;
mod replay;
mod spool;
mod whole;

use std::path::PathBuf;
use std::time::Duration;

use super::{RelationalStore, quote};

pub(super) use backup::{backup, probe};
pub(super) use manifest::{MANIFEST, Manifest};
pub(super) use receive::{LogWatch, attend, watch};
pub(super) use recover::{Recovery, recover};
pub use whole::{RestoredServer, ServerRequest, restore_server};

/// Where its files lie in a snapshot.
fn root(store: &RelationalStore) -> PathBuf {
    PathBuf::from("/").join(quote::file_name(&store.settings.name))
}

/// A library that does not lie where the server's own do could be anything, and a restore would load it.
fn refuse_preload(libraries: &str) -> Option<String> {
    let names = libraries.split(',').map(|name| name.trim().trim_matches('"'));
    let odd =
        names.map(|name| name.strip_prefix("$libdir/").unwrap_or(name)).find(|name| name.contains('/'))?;
    Some(format!(
        "shared_preload_libraries names '{odd}', which does not lie in the directory of the server's libraries"
    ))
}

/// How a server is backed up by the physical way.
#[derive(Clone, Debug)]
pub struct PhysicalSettings {
    /// So old a base may be before a backup takes a new one.
    pub base_every: Duration,
    /// Where the log lies that no backup holds yet; of this component alone.
    pub log_directory: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_loaded_from_the_servers_own_place_alone() {
        for fine in ["", "timescaledb, pg_cron", "$libdir/plugins", "\"auto_explain\""] {
            let odd = refuse_preload(fine);
            assert!(odd.is_none(), "{fine}: {odd:?}");
        }
        for odd in ["./evil", "pg_cron, /tmp/evil.so", "\"../evil\"", "$libdir/../evil"] {
            assert!(refuse_preload(odd).is_some(), "{odd}");
        }
    }
}
