//! Verification of one backup, in two depths: by names, sizes and checksums alone, or with the passcode down to the
//! last blob.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use repository::{CheckReport, CheckRequest, Control, Finding, Id, Passcode};

use super::entry_files::{Findings, list_packs};
use crate::store::groups::Group;
use crate::store::vaults::{id_of, load_index};
use crate::store::{CatalogueEntry, FORMAT_VERSION, Store, failure, layout};
use crate::{Error, ErrorKind, Result};

/// Checks a backup; what is damaged or missing is named in the report, by its key in the store.
///
/// Without a passcode: entry, groups, snapshots, index files, config and keys are intact, all packs are there at their
/// size, and with `read_data` their content matches their names. With it also: the key opens, the entry is authentic,
/// index and trees are complete, and with `read_data` every blob opens to what it should be. `PasscodeWrong` is an
/// error and no finding.
pub fn verify_backup(
    store: &Store,
    name: &str,
    passcode: Option<&Passcode>,
    read_data: bool,
    control: &Arc<Control>,
) -> Result<CheckReport> {
    let mut findings = Findings::new(control);
    findings.check_identity(store)?;
    let entry = match store.backup(name) {
        Ok(Some(entry)) => entry,
        Ok(None) => {
            let message = format!("there is no backup '{name}' in the store '{}'", store.identity().name);
            return Err(Error::new(ErrorKind::BackupNotFound, message));
        }
        Err(e) if e.kind == ErrorKind::Damaged => {
            findings.add(layout::backup_key(name), e.message);
            return Ok(findings.report);
        }
        Err(e) => return Err(e),
    };
    if entry.format_version > FORMAT_VERSION {
        let message = format!(
            "backup '{name}' has format version {}, which this release does not know",
            entry.format_version
        );
        return Err(Error::new(ErrorKind::Incompatible, message));
    }
    let groups = check_files(store, &entry, &mut findings)?;
    let packs: BTreeSet<Id> = groups.iter().flat_map(|group| group.packs.keys().copied()).collect();
    let all_groups = groups.len() == entry.groups.len();
    let mut read = HashSet::new();
    if let Some(passcode) = passcode {
        let own = all_groups.then_some(&packs);
        read = check_with_passcode(store, &entry, passcode, read_data, own, control, &mut findings)?;
    }
    if read_data {
        for id in packs.iter().filter(|id| !read.contains(id)) {
            findings
                .require_named_by_hash(store, &layout::vault_key(&entry.vault, &layout::pack_file(*id)))?;
        }
    }
    Ok(findings.report)
}

/// All that can be told without the passcode and without reading packs.
fn check_files(store: &Store, entry: &CatalogueEntry, findings: &mut Findings<'_>) -> Result<Vec<Group>> {
    let vault = entry.vault.as_str();
    let known = [entry.vault_config.clone()];
    findings.extend(store.check_small_files(vault, &known, &entry.vault_keys)?);
    let groups = findings.groups_of(store, entry)?;
    for id in entry.snapshots() {
        findings.require_named_by_hash(store, &layout::vault_key(vault, &format!("snapshots/{id}")))?;
    }
    let indexes: BTreeSet<Id> = groups.iter().flat_map(|group| group.indexes.keys().copied()).collect();
    for id in indexes {
        findings.require_named_by_hash(store, &layout::vault_key(vault, &format!("index/{id}")))?;
    }
    findings.check_packs(vault, &groups, &list_packs(store, vault)?);
    findings.report.snapshots = entry.components.len() as u64;
    Ok(groups)
}

/// Opens the vault and walks trees, and with `read_data` reads the packs that hold what they need; returns these.
///
/// Damage of a pack outside of `own`, the packs of the entry's groups, is only noted: the vault holds what this backup
/// needs a second time, in a pack of its groups.
fn check_with_passcode(
    store: &Store,
    entry: &CatalogueEntry,
    passcode: &Passcode,
    read_data: bool,
    own: Option<&BTreeSet<Id>>,
    control: &Arc<Control>,
    findings: &mut Findings<'_>,
) -> Result<HashSet<Id>> {
    let vault = match store.open_vault(entry, passcode) {
        Ok(vault) => vault,
        Err(e) if e.kind == ErrorKind::Damaged => {
            findings.add(layout::backup_key(&entry.name), e.message);
            return Ok(HashSet::new());
        }
        Err(e) => return Err(e),
    };
    let what = format!("backup '{}' could not be checked", entry.name);
    let report =
        match repository::check_snapshots(&vault, &entry.snapshots(), CheckRequest { read_data }, control) {
            Ok(report) => report,
            Err(e) if is_damage(&e) => {
                // The files checked before name the place already, where it can be named.
                findings.add(layout::vault_key(&entry.vault, "").trim_end_matches('/'), e.to_string());
                return Ok(HashSet::new());
            }
            Err(e) => return Err(failure::engine(&what, e)),
        };
    findings.report.bytes_read += report.bytes_read;
    for Finding { file, problem } in report.findings {
        let key = layout::vault_key(&entry.vault, &file);
        let pack = file.starts_with("data/").then(|| id_of(&file)).flatten();
        match (pack, own) {
            (Some(pack), Some(own)) if !own.contains(&pack) => {
                findings.note(format!("'{key}': {problem}; this backup has its content in another pack"));
            }
            _ => findings.add(key, problem),
        }
    }
    for note in report.notes {
        findings.note(note);
    }
    let mut read = HashSet::new();
    if read_data {
        let index = load_index(&vault, &|_| true)?;
        for snapshot in entry.snapshots() {
            match repository::needed_packs(&vault, &index, snapshot, control) {
                Ok(packs) => read.extend(packs),
                Err(e) if is_damage(&e) => {}
                Err(e) => return Err(failure::engine(&what, e)),
            }
        }
    }
    Ok(read)
}

fn is_damage(error: &repository::Error) -> bool {
    matches!(error.kind, repository::ErrorKind::Damaged | repository::ErrorKind::NotFound)
}
