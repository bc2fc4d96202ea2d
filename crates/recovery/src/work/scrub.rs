//! Reads a whole store and names every file that is damaged, without any passcode.

use std::collections::BTreeMap;
use std::sync::Arc;

use repository::{CheckReport, Control};

use super::entry_files::{Findings, list_packs};
use crate::Result;
use crate::store::groups::FoundGroup;
use crate::store::{CatalogueEntry, Owner, Store, failure, layout, lost, sealed};

const OWNER_BYTES_MAX: u64 = 64 * 1024;

/// Checks every file's form and, where a name or record holds one, its hash; and that all that entries name is there.
/// Locks and whatever else others put into the store are left out.
pub fn scrub(store: &Store, control: &Arc<Control>) -> Result<CheckReport> {
    let mut findings = Findings::new(control);
    findings.check_identity(store)?;
    match sealed::read::<Owner>(store.storage().as_ref(), layout::OWNER, OWNER_BYTES_MAX)? {
        sealed::Found::Damaged(reason, _) => findings.add(layout::OWNER, reason),
        sealed::Found::Good(..) | sealed::Found::Missing => {}
    }
    let catalogue = store.catalogue()?;
    findings.extend(catalogue.findings);
    findings.extend(store.deleted_records()?.1);
    findings.extend(store.running_records()?.1);
    findings.extend(store.damaged_revocations()?);
    findings.extend(store.damaged_reports()?);
    check_groups(store, &mut findings)?;
    for (id, _) in store.lost_groups()? {
        findings.add(layout::group_key(&id), lost::problem());
    }

    let mut vaults: BTreeMap<String, Vec<&CatalogueEntry>> =
        store.vault_ids()?.into_iter().map(|id| (id, Vec::new())).collect();
    for entry in &catalogue.entries {
        vaults.entry(entry.vault.clone()).or_default().push(entry);
    }
    for (vault, entries) in vaults {
        check_vault(store, &vault, &entries, &mut findings)?;
    }
    Ok(findings.report)
}

/// All groups, those too that only deletions or nobody names.
fn check_groups(store: &Store, findings: &mut Findings<'_>) -> Result<()> {
    for id in store.group_ids()? {
        findings.check_cancelled()?;
        if let FoundGroup::Damaged(reason) = store.group(&id)? {
            findings.add(layout::group_key(&id), reason);
        }
    }
    Ok(())
}

fn check_vault(
    store: &Store,
    vault: &str,
    entries: &[&CatalogueEntry],
    findings: &mut Findings<'_>,
) -> Result<()> {
    let known: Vec<String> = entries.iter().map(|entry| entry.vault_config.clone()).collect();
    let keys: Vec<String> = entries.last().map(|entry| entry.vault_keys.clone()).unwrap_or_default();
    findings.extend(store.check_small_files(vault, &known, &keys)?);
    for part in ["snapshots/", "index/", "data/"] {
        let mut listed = Vec::new();
        store
            .storage()
            .list(&layout::vault_key(vault, part), &mut |entry| {
                listed.push(entry.key);
                Ok(())
            })
            .map_err(failure::storage)?;
        for key in listed {
            // What is gone by now was deleted meanwhile; what is needed is looked for below.
            findings.check_named_by_hash(store, &key)?;
        }
    }
    let packs = list_packs(store, vault)?;
    for entry in entries {
        // Deleted while we read?
        if store.backup(&entry.name).ok().flatten().is_none_or(|now| now.run != entry.run) {
            continue;
        }
        let groups = findings.groups_of(store, entry)?;
        findings.check_packs(vault, &groups, &packs);
        let snapshots = entry.snapshots().into_iter().map(|id| format!("snapshots/{id}"));
        let indexes = groups.iter().flat_map(|group| group.indexes.keys()).map(|id| format!("index/{id}"));
        for file in snapshots.chain(indexes) {
            let key = layout::vault_key(vault, &file);
            if store.storage().head(&key).map_err(failure::storage)?.is_none() {
                findings.add(key, "it is missing");
            }
        }
        findings.report.snapshots += entry.components.len() as u64;
    }
    Ok(())
}
