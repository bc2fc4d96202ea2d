//! `waste/<vault>.json`: in this vault something may be worth compacting, as soon as a job brings the passcode.
//!
//! Whoever leaves waste behind makes the mark; the compaction that leaves none removes it. That it exists decides, not
//! what is in it. A mark that is lost costs space until the next deletion in the vault, and nothing else.

use serde::Serialize;
use storage::ErrorKind;

use super::{Store, failure, layout, sealed};
use crate::Result;
use crate::clock::now_ms;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Mark<'a> {
    vault: &'a str,
    marked_at: i64,
}

impl Store {
    /// Makes the mark.
    pub(crate) fn mark_waste(&self, vault: &str) -> Result<()> {
        let bytes = sealed::seal(&Mark { vault, marked_at: now_ms() })?;
        match self.storage().create(&layout::waste_key(vault), &[&bytes]) {
            Err(e) if e.kind != ErrorKind::Exists => Err(failure::storage(e)),
            _ => Ok(()),
        }
    }

    /// Whether it is there.
    pub(crate) fn has_waste(&self, vault: &str) -> Result<bool> {
        Ok(self.storage().head(&layout::waste_key(vault)).map_err(failure::storage)?.is_some())
    }

    /// Removes it.
    pub(crate) fn clear_waste(&self, vault: &str) -> Result<()> {
        self.storage().delete(&layout::waste_key(vault)).map_err(failure::storage)
    }
}
