//! `strongroom.json`: what makes a directory or bucket a store. Written once, kept twice.
//!
//! It is created before its copy; whoever registers the store or writes a backup adds a missing one of the two.
//! A store whose description is lost or damaged is opened by the copy. The description decides over nothing that
//! exists: entries name their vault themselves, so even with both lost all backups stay restorable.

use repository::Cost;
use serde::{Deserialize, Serialize};
use storage::ErrorKind;

use super::sealed::{self, Found};
use super::{Store, failure, layout};
use crate::{Error, ErrorKind as Kind, Result};

/// Version of all that lies in a store.
pub const FORMAT_VERSION: u32 = 1;
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;
const ID_CHARS: usize = 20;

/// What `strongroom.json` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreIdentity {
    /// Version of the layout; a newer one is refused and left untouched.
    pub format_version: u32,
    /// 20 characters a-z0-9 that tell stores apart.
    pub id: String,
    /// The name under which it was made.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Salt for the derivation of vault ids from passcodes; hexadecimal.
    pub salt: String,
    /// Cost of that derivation.
    pub cost: Cost,
}

impl Store {
    /// Probes the place, then takes the store that is there, or makes one. `true`: there was one.
    pub fn create_or_adopt(storage: storage::Shared, name: &str, cost: Cost) -> Result<(Store, bool)> {
        let obstacles = super::probe::try_out(storage.as_ref());
        if !obstacles.is_empty() {
            let message = format!(
                "'{}' cannot be used as a backup store: {}",
                storage.location(),
                obstacles.join("; ")
            );
            let mut error = Error::new(Kind::StoreUnreachable, message);
            error.details = obstacles;
            return Err(error);
        }
        if let Some(identity) = find(storage.as_ref())? {
            let store = Store { storage, identity: identity.into() };
            store.mend_identity()?;
            return Ok((store, true));
        }
        let random: [u8; ID_CHARS] = rand::random();
        let identity = StoreIdentity {
            format_version: FORMAT_VERSION,
            id: random
                .iter()
                .map(|b| char::from(b"abcdefghijklmnopqrstuvwxyz0123456789"[usize::from(*b) % 36]))
                .collect(),
            name: name.to_owned(),
            created: jiff::Timestamp::now().to_string(),
            salt: hex::encode(rand::random::<[u8; 32]>()),
            cost,
        };
        let bytes = sealed::seal(&identity)?;
        let adopted = match storage.create(layout::IDENTITY, &[&bytes]) {
            Ok(()) => false,
            Err(e) if e.kind == ErrorKind::Exists => true,
            Err(e) => return Err(failure::storage(e)),
        };
        // Another server may have made it at the same time, or our own first try got through: what lies there counts.
        let store = Store::open(storage)?;
        store.mend_identity()?;
        let ours = store.identity.id == identity.id;
        Ok((store, adopted && !ours))
    }

    /// Opens a store; by the copy of its description if the description is lost or damaged.
    pub fn open(storage: storage::Shared) -> Result<Store> {
        match find(storage.as_ref())? {
            Some(identity) => Ok(Store { storage, identity: identity.into() }),
            None => Err(Error::new(
                Kind::StoreUnreachable,
                format!(
                    "there is no backup store in '{}': '{}' is missing; is its disk or share mounted, and is the path right?",
                    storage.location(),
                    layout::IDENTITY
                ),
            )),
        }
    }

    /// Adds what is missing of description and copy, and puts right what is damaged: the other one is intact.
    pub(crate) fn mend_identity(&self) -> Result<()> {
        let bytes = sealed::seal(self.identity())?;
        for key in [layout::IDENTITY, layout::IDENTITY_COPY] {
            let done = match sealed::read::<StoreIdentity>(self.storage.as_ref(), key, IDENTITY_BYTES_MAX)? {
                Found::Good(..) | Found::Damaged(_, None) => Ok(()),
                Found::Missing => self.storage.create(key, &[&bytes]),
                Found::Damaged(_, Some(version)) => self.storage.replace(key, &bytes, &version),
            };
            match done {
                Err(e) if !matches!(e.kind, ErrorKind::Exists | ErrorKind::Precondition) => {
                    return Err(failure::storage(e));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn find(storage: &dyn storage::Storage) -> Result<Option<StoreIdentity>> {
    let original = sealed::read(storage, layout::IDENTITY, IDENTITY_BYTES_MAX)?;
    let reason = match original {
        Found::Good(identity, _) => return known(identity).map(Some),
        Found::Missing => None,
        Found::Damaged(reason, _) => Some(reason),
    };
    match (sealed::read(storage, layout::IDENTITY_COPY, IDENTITY_BYTES_MAX)?, reason) {
        (Found::Good(identity, _), reason) => {
            let reason = reason.unwrap_or_else(|| "it is missing".to_owned());
            tracing::warn!(store = %storage.location(), file = layout::IDENTITY, reason, "the second copy was used");
            known(identity).map(Some)
        }
        (Found::Missing, None) => Ok(None),
        (_, Some(reason)) => Err(failure::damaged(
            layout::IDENTITY,
            &format!(
                "{reason}; its copy '{}' cannot help. Backups can still be restored; to go on backing up here, \
                 move both files away and register the store again",
                layout::IDENTITY_COPY
            ),
        )),
        (Found::Damaged(reason, _), None) => Err(failure::damaged(
            layout::IDENTITY_COPY,
            &format!(
                "{reason}; and '{}' is missing. Move it away and register the store again",
                layout::IDENTITY
            ),
        )),
    }
}

fn known(identity: StoreIdentity) -> Result<StoreIdentity> {
    if identity.format_version == FORMAT_VERSION {
        return Ok(identity);
    }
    let message = format!(
        "the store '{}' has format version {}; this release knows version {FORMAT_VERSION}. It stays untouched; use a newer release",
        identity.name, identity.format_version
    );
    Err(Error::new(Kind::Incompatible, message))
}
