//! What a copy of a store needs that no backup does: a place with the same identity, and entries byte for byte.

use storage::ErrorKind;

use super::catalogue::{CatalogueEntry, EntryFile};
use super::sealed::{self, Found};
use super::{Store, failure, layout};
use crate::{Error, ErrorKind as Kind, Result};

const ENTRY_BYTES_MAX: u64 = 16 << 20;

impl Store {
    /// The same store at another place: a copy that is there, or, in an empty place, the beginning of one.
    pub(crate) fn copy_at(&self, place: storage::Shared) -> Result<Store> {
        let location = place.location();
        let to = Store { storage: place, identity: self.identity.clone() };
        let refused = |why: &str| {
            let message =
                format!("'{location}' cannot hold a copy of the store '{}': {why}", self.identity().name);
            Error::new(Kind::LocationInUse, message)
        };
        match Store::open(to.storage.clone()) {
            Ok(there) if there.identity() == self.identity() => {}
            Ok(there) => return Err(refused(&format!("the store '{}' lies there", there.identity().name))),
            Err(e) if e.kind == Kind::StoreUnreachable => {
                if !to.storage.list_all("").map_err(failure::storage)?.is_empty() {
                    return Err(refused("it is not empty, and holds no copy of it; take an empty directory"));
                }
            }
            Err(e) => return Err(e),
        }
        to.mend_identity()?;
        Ok(to)
    }

    /// An entry with the exact bytes of its file; `None` if there is none, or its run was revoked.
    pub(crate) fn entry_bytes(&self, name: &str) -> Result<Option<(CatalogueEntry, Vec<u8>)>> {
        let key = layout::backup_key(name);
        if self.backup(name)?.is_none() {
            return Ok(None);
        }
        let bytes = match self.storage().get(&key, ENTRY_BYTES_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failure::storage(e)),
        };
        let file: EntryFile = sealed::unseal(&bytes).map_err(|reason| failure::damaged(&key, &reason))?;
        let (entry, _) = CatalogueEntry::from_file(file).map_err(|reason| failure::damaged(&key, &reason))?;
        Ok(Some((entry, bytes)))
    }

    /// Puts an entry's file into the catalogue, or in the place of the same backup's.
    pub(crate) fn put_entry(&self, entry: &CatalogueEntry, bytes: &[u8]) -> Result<()> {
        let key = layout::backup_key(&entry.name);
        let damaged = || failure::damaged(&key, "it is not the entry that is to be replaced");
        let done = match sealed::read::<EntryFile>(self.storage().as_ref(), &key, ENTRY_BYTES_MAX)? {
            Found::Missing => self.storage().create(&key, &[bytes]),
            Found::Damaged(..) => return Err(damaged()),
            Found::Good(file, version) => match CatalogueEntry::from_file(file) {
                Ok((there, _)) if there.run == entry.run => self.storage().replace(&key, bytes, &version),
                _ => return Err(damaged()),
            },
        };
        done.map_err(failure::storage)
    }
}
