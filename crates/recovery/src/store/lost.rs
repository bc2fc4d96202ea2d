//! Backups whose entry is lost: a file of the catalogue that vanished leaves no trace in it, but the group that the backup
//! brought is still there, and neither an entry nor a deletion names it.

use std::collections::HashSet;

use super::groups::FoundGroup;
use super::{Store, layout};
use crate::Result;

impl Store {
    /// Groups, with their vaults, that nothing accounts for: no entry, no deletion, no backup at work in their vault, and
    /// no run that was given up. None while something that could account for them cannot be read.
    pub(crate) fn lost_groups(&self) -> Result<Vec<(String, String)>> {
        self.lost_groups_beside("")
    }

    /// The same, as seen by a job that is itself at work there and has written no group yet.
    pub(crate) fn lost_groups_beside(&self, job_id: &str) -> Result<Vec<(String, String)>> {
        // In this order: a backup that wrote its group before the first look is at work, or has its entry.
        let ids = self.group_ids()?;
        let (running, damaged_running) = self.running_records()?;
        let catalogue = self.catalogue()?;
        let (deleted, damaged_deleted) = self.deleted_records()?;
        let of_damaged = deleted.iter().any(|(_, record)| record.vault.is_empty());
        let findings = [&catalogue.findings, &damaged_running, &damaged_deleted];
        if of_damaged || findings.iter().any(|findings| !findings.is_empty()) {
            return Ok(Vec::new());
        }
        let mut known: HashSet<String> = self.revoked()?;
        let entries = catalogue.entries.iter().chain(&catalogue.void);
        known.extend(entries.flat_map(|entry| entry.groups.iter().cloned()));
        known.extend(deleted.into_iter().flat_map(|(_, record)| record.groups));
        let at_work: HashSet<&String> =
            running.iter().filter(|record| record.job_id != job_id).map(|record| &record.vault).collect();
        let mut lost = Vec::new();
        for id in ids.into_iter().filter(|id| !known.contains(id)) {
            if let FoundGroup::Good(group) = self.group(&id)?
                && !at_work.contains(&group.vault)
            {
                lost.push((id, group.vault));
            }
        }
        Ok(lost)
    }
}

/// What is said of such a group.
pub(crate) fn problem() -> String {
    format!(
        "no backup names it: the file of a backup in '{}' is lost. Bring that file back from elsewhere, or restore from the \
         vault's snapshots with restic",
        layout::BACKUPS
    )
}
