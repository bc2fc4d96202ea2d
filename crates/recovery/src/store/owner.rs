//! `owner.json`: which server may delete in this store. Each change of hands raises the epoch, by conditional put.
//!
//! It keeps two servers from wasting each other's work; that nothing needed is deleted never rests on it
//! (see `reclaim`).

use serde::{Deserialize, Serialize};
use storage::ErrorKind;

use super::sealed::{self, Found};
use super::{Store, failure, layout};
use crate::clock::now_ms;
use crate::{Error, ErrorKind as Kind, Result};

const OWNER_BYTES_MAX: u64 = 64 * 1024;
const TRIES_MAX: u32 = 8;

/// Who may delete here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    /// The server.
    pub server: String,
    /// Grows with each change of hands.
    pub epoch: u64,
    /// When it took the store, epoch milliseconds.
    pub claimed_at: i64,
}

impl Store {
    /// Makes this server the one that may delete here, whoever it was before.
    pub fn claim(&self, server_id: &str) -> Result<()> {
        for _ in 0..TRIES_MAX {
            let now = now_ms();
            let (epoch, version) =
                match sealed::read::<Owner>(self.storage().as_ref(), layout::OWNER, OWNER_BYTES_MAX)? {
                    Found::Good(owner, _) if owner.server == server_id => return Ok(()),
                    Found::Good(owner, version) => (owner.epoch.saturating_add(1), Some(version)),
                    Found::Missing => (1, None),
                    // The epoch is lost; the time in seconds is beyond any count of changes of hands.
                    Found::Damaged(_, Some(version)) => {
                        (u64::try_from(now / 1000).unwrap_or(1), Some(version))
                    }
                    Found::Damaged(reason, None) => return Err(failure::damaged(layout::OWNER, &reason)),
                };
            let bytes = sealed::seal(&Owner { server: server_id.to_owned(), epoch, claimed_at: now })?;
            let done = match version {
                None => self.storage().create(layout::OWNER, &[&bytes]),
                Some(version) => self.storage().replace(layout::OWNER, &bytes, &version),
            };
            match done {
                Ok(()) => return Ok(()),
                // Lost a race, or our own first try got through: the next look tells.
                Err(e) if matches!(e.kind, ErrorKind::Exists | ErrorKind::Precondition) => {}
                Err(e) => return Err(failure::storage(e)),
            }
        }
        let message = format!(
            "other servers keep claiming the store in '{}'; stop one of them",
            self.storage().location()
        );
        Err(Error::new(Kind::StoreInUse, message))
    }

    /// The present owner; `None` if nobody is or its record is damaged.
    pub fn owner(&self) -> Result<Option<Owner>> {
        match sealed::read(self.storage().as_ref(), layout::OWNER, OWNER_BYTES_MAX)? {
            Found::Good(owner, _) => Ok(Some(owner)),
            _ => Ok(None),
        }
    }
}
