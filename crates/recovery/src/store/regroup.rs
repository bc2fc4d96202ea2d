//! An entry names other groups: what compaction changes of a backup. Needs the passcode, as the entry is sealed anew.
//!
//! The exact bytes that the MAC covers are taken apart, given the new groups, and sealed again; what was edited without
//! the passcode stays outside of the MAC. Only an entry whose MAC is right is touched.

use hmac::Mac;
use repository::Repository;
use serde_json::value::{RawValue, to_raw_value};
use storage::ErrorKind;

use super::catalogue::{Changes, EntryFile, internal, keyed};
use super::{Store, failure, layout, sealed};
use crate::{Error, ErrorKind as Kind, Result};

/// So often a change that somebody else made meanwhile is looked at anew.
const TRIES_MAX: u32 = 8;

impl Store {
    /// Lets the entry of `run` name `after` in the place of `before`. `false`: that backup is no longer in the catalogue.
    /// `Busy` if the entry names other groups by now.
    pub(crate) fn regroup(
        &self,
        (name, run): (&str, &str),
        before: &[String],
        after: &[String],
        vault: &Repository,
    ) -> Result<bool> {
        let key = layout::backup_key(name);
        for _ in 0..TRIES_MAX {
            let Some(found) = self.read_entry(&key)? else { return Ok(false) };
            let (entry, changes, version) = found?;
            if entry.run != run || self.is_revoked(run)? {
                return Ok(false);
            }
            if entry.groups == after {
                return Ok(true);
            }
            if entry.groups != before {
                let message =
                    format!("backup '{name}' names other groups than before; somebody else changed it");
                return Err(Error::new(Kind::Busy, message));
            }
            if !entry.is_authentic(vault) {
                return Err(failure::damaged(&key, "its MAC does not match; it stays as it is"));
            }
            let raw = with_groups(&entry.seal.raw, after)?;
            let mac = hex::encode(keyed(vault, raw.get()).finalize().into_bytes());
            let changes = (changes != Changes::default()).then_some(changes);
            let bytes = sealed::seal(&EntryFile { entry: raw, mac, changes, checksum: String::new() })?;
            match self.storage().replace(&key, &bytes, &version) {
                Ok(()) => return Ok(true),
                // The next look tells what happened.
                Err(e) if matches!(e.kind, ErrorKind::Precondition | ErrorKind::NotFound) => {}
                Err(e) => return Err(failure::storage(e)),
            }
        }
        Err(Error::new(Kind::Busy, format!("backup '{name}' is being changed by others all the time")))
    }
}

/// The same text with other groups; members that this release does not know stay.
fn with_groups(raw: &str, groups: &[String]) -> Result<Box<RawValue>> {
    let mut entry: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(raw).map_err(internal)?;
    entry.insert("groups".to_owned(), groups.into());
    to_raw_value(&entry).map_err(internal)
}
