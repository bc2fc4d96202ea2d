//! What can be checked of a backup's files without its passcode: that they are there, at their size, and that their
//! content is what their name or checksum says.

use std::collections::{BTreeSet, HashMap};

use repository::{CheckReport, Control, Finding, Id};
use sha2::{Digest, Sha256};
use storage::ErrorKind;

use crate::Result;
use crate::store::groups::{FoundGroup, Group};
use crate::store::sealed::Found;
use crate::store::vaults::id_of;
use crate::store::{CatalogueEntry, Store, StoreIdentity, failure, layout, sealed};

/// Read at once while hashing.
const PIECE_BYTES: u64 = 4 << 20;
const IDENTITY_BYTES_MAX: u64 = 64 * 1024;

/// Gathers what is wrong, each file once.
pub(super) struct Findings<'a> {
    pub report: CheckReport,
    pub control: &'a Control,
    named: BTreeSet<String>,
}

impl<'a> Findings<'a> {
    pub fn new(control: &'a Control) -> Self {
        Self { report: CheckReport::default(), control, named: BTreeSet::new() }
    }

    pub fn add(&mut self, file: impl Into<String>, problem: impl Into<String>) {
        let file = file.into();
        if self.named.insert(file.clone()) {
            self.report.findings.push(Finding { file, problem: problem.into() });
        }
    }

    pub fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.add(finding.file, finding.problem);
        }
    }

    pub fn note(&mut self, text: impl Into<String>) {
        self.report.notes.push(text.into());
    }

    pub fn check_cancelled(&self) -> Result<()> {
        self.control.check().map_err(|e| failure::engine("the check was stopped", e))
    }

    /// The store's own description and its copy.
    pub fn check_identity(&mut self, store: &Store) -> Result<()> {
        for key in [layout::IDENTITY, layout::IDENTITY_COPY] {
            match sealed::read::<StoreIdentity>(store.storage().as_ref(), key, IDENTITY_BYTES_MAX)? {
                Found::Good(identity, _) if identity == *store.identity() => {}
                Found::Good(..) => self.add(key, "it describes another store than its second copy"),
                Found::Missing => self.add(key, "it is missing"),
                Found::Damaged(reason, _) => self.add(key, reason),
            }
        }
        Ok(())
    }

    /// A file whose name is the SHA-256 of its content. `false`: it is not there.
    pub fn check_named_by_hash(&mut self, store: &Store, key: &str) -> Result<bool> {
        self.check_cancelled()?;
        self.control.progress.set_current(key);
        let Some(entry) = store.storage().head(key).map_err(failure::storage)? else { return Ok(false) };
        let mut hasher = Sha256::new();
        let mut at = 0;
        while at < entry.size {
            let end = entry.size.min(at + PIECE_BYTES);
            match store.storage().get_range(key, at..end) {
                Ok(piece) => hasher.update(&piece),
                Err(e) if e.kind == ErrorKind::NotFound => return Ok(false),
                Err(e) if matches!(e.kind, ErrorKind::Io | ErrorKind::Short) => {
                    self.add(key, format!("it cannot be read: {}", e.reason));
                    return Ok(true);
                }
                Err(e) => return Err(failure::storage(e)),
            }
            self.report.bytes_read += end - at;
            at = end;
        }
        let digest = hex::encode(hasher.finalize());
        if id_of(key).is_none_or(|id| id.to_string() != digest) {
            self.add(key, "its content does not match its name");
        }
        Ok(true)
    }

    /// A file that must be there and whose name is the SHA-256 of its content.
    pub fn require_named_by_hash(&mut self, store: &Store, key: &str) -> Result<()> {
        if !self.check_named_by_hash(store, key)? {
            self.add(key, "it is missing");
        }
        Ok(())
    }

    /// The groups that an entry names, read; missing and damaged ones are findings.
    pub fn groups_of(&mut self, store: &Store, entry: &CatalogueEntry) -> Result<Vec<Group>> {
        let mut groups = Vec::new();
        for id in &entry.groups {
            match store.group(id)? {
                FoundGroup::Good(group) if group.vault == entry.vault => groups.push(group),
                FoundGroup::Good(_) => self.add(layout::group_key(id), "it is a group of another vault"),
                FoundGroup::Missing => self.add(layout::group_key(id), "it is missing"),
                FoundGroup::Damaged(reason) => self.add(layout::group_key(id), reason),
            }
        }
        Ok(groups)
    }

    /// All packs of these groups must be in the listing, at their size.
    pub fn check_packs(&mut self, vault: &str, groups: &[Group], listing: &HashMap<Id, u64>) {
        let mut seen = BTreeSet::new();
        for (id, expected) in groups.iter().flat_map(|group| &group.packs).filter(|(id, _)| seen.insert(**id))
        {
            let key = || layout::vault_key(vault, &layout::pack_file(*id));
            match listing.get(id) {
                Some(size) if size == expected => {}
                Some(size) => self.add(key(), format!("it has {size} bytes and should have {expected}")),
                None => self.add(key(), "it is missing"),
            }
        }
        self.report.packs += seen.len() as u64;
    }
}

/// Packs of a vault with their sizes.
pub(super) fn list_packs(store: &Store, vault: &str) -> Result<HashMap<Id, u64>> {
    let mut packs = HashMap::new();
    store
        .storage()
        .list(&layout::vault_key(vault, "data/"), &mut |entry| {
            if let Some(id) = id_of(&entry.key) {
                packs.insert(id, entry.size);
            }
            Ok(())
        })
        .map_err(failure::storage)?;
    Ok(packs)
}
