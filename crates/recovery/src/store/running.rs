//! Backups at work, visible in the store, and the revocation of those that were given up.
//!
//! * `running/<job>.json` is created before a backup looks at the catalogue and removed after its entry was created.
//!   Whoever deletes packs waits while there is one for the vault.
//! * Each attempt at a backup is a *run* with a random token, which its entry carries. A run that is given up by
//!   anybody but itself is revoked first (`revoked/<run>.json`, for ever): should the paused worker wake and its
//!   entry still land in the catalogue, that entry is void and no reader shows it.
//! * Revoking and committing may meet. The worker creates its entry and then looks for a revocation; who revokes
//!   creates the revocation and then looks for the entry, and takes the revocation back if it finds it. So at least
//!   one of the two sees the other, and no backup that was reported complete becomes void. Only after that look the
//!   revocation is made final, and only then anything of the run is cleaned up: an entry that lands later stays void.
//! * The record of a server that is gone is given up in this way by the server that owns the store, once it has seen no
//!   sign of life for longer than a lock may stay as it is (see `retention`). Should that server live all the same, its
//!   backup is lost and no other one.

use std::collections::HashSet;

use repository::Finding;
use serde::{Deserialize, Serialize};
use storage::{ErrorKind, Version};

use super::catalogue::CatalogueEntry;
use super::sealed::{self, Found};
use super::{Store, failure, layout};
use crate::clock::now_ms;
use crate::{Error, ErrorKind as Kind, Result};

const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// One backup at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunningRecord {
    /// The job.
    pub job_id: String,
    /// The attempt.
    pub run: String,
    /// The server that works on it.
    pub server: String,
    /// The backup's name.
    pub backup: String,
    /// The vault it writes to.
    pub vault: String,
    /// When this attempt began, epoch milliseconds by that server's clock.
    pub started_at: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Revocation {
    run: String,
    backup: String,
    revoked_at: i64,
    /// The entry was looked for after this revocation existed, and was not there.
    #[serde(rename = "final")]
    is_final: bool,
}

impl Store {
    /// All backups at work in this store; a damaged record is an error, for it may stand for any of them.
    pub fn running(&self) -> Result<Vec<RunningRecord>> {
        let (records, findings) = self.running_records()?;
        match findings.first() {
            None => Ok(records),
            Some(finding) => Err(failure::damaged(&finding.file, &finding.problem)),
        }
    }

    /// Ends the record of a backup that nobody works on any more. Its run can then no longer commit; if it had
    /// committed already, the backup stays.
    pub fn clear_running(&self, job_id: &str) -> Result<()> {
        let key = layout::running_key(job_id);
        if let Found::Good(record, _) = self.read_running(job_id)? {
            self.revoke(&record.run, &record.backup)?;
        }
        self.storage().delete(&key).map_err(failure::storage)
    }

    /// Changes as long as somebody works on this backup: a server at work holds a restic lock in the vault and writes it
    /// anew, under another name, every few minutes; a copy at work writes its record anew.
    pub(crate) fn signs_of_life(&self, record: &RunningRecord) -> Result<Vec<String>> {
        let mut signs = match self.read_running(&record.job_id)? {
            Found::Good(_, version) | Found::Damaged(_, Some(version)) => vec![version.0],
            Found::Missing | Found::Damaged(_, None) => Vec::new(),
        };
        let locks = layout::vault_key(&record.vault, "locks/");
        let locks = self.storage().list_all(&locks).map_err(failure::storage)?;
        signs.extend(locks.into_iter().map(|entry| entry.key));
        Ok(signs)
    }

    pub(crate) fn running_records(&self) -> Result<(Vec<RunningRecord>, Vec<Finding>)> {
        let (mut records, mut findings) = (Vec::new(), Vec::new());
        for entry in self.storage().list_all(layout::RUNNING).map_err(failure::storage)? {
            match sealed::read::<RunningRecord>(self.storage().as_ref(), &entry.key, RECORD_BYTES_MAX)? {
                Found::Good(record, _) => records.push(record),
                Found::Missing => {}
                Found::Damaged(problem, _) => findings.push(Finding { file: entry.key, problem }),
            }
        }
        Ok((records, findings))
    }

    pub(crate) fn read_running(&self, job_id: &str) -> Result<Found<RunningRecord>> {
        sealed::read(self.storage().as_ref(), &layout::running_key(job_id), RECORD_BYTES_MAX)
    }

    /// Puts a new run's record in the place of what is there (`before`), or creates it.
    pub(crate) fn put_running(&self, record: &RunningRecord, before: Option<&Version>) -> Result<()> {
        let (key, bytes) = (layout::running_key(&record.job_id), sealed::seal(record)?);
        let done = match before {
            None => self.storage().create(&key, &[&bytes]),
            Some(version) => self.storage().replace(&key, &bytes, version),
        };
        match done {
            Ok(()) => Ok(()),
            Err(e) if matches!(e.kind, ErrorKind::Exists | ErrorKind::Precondition) => {
                self.still_running(record).map_err(|lost| lost.because(e))
            }
            Err(e) => Err(failure::storage(e)),
        }
    }

    /// `LeaseLost` unless the record of this very run is there.
    pub(crate) fn still_running(&self, record: &RunningRecord) -> Result<()> {
        match self.read_running(&record.job_id)? {
            Found::Good(found, _) if found.run == record.run => Ok(()),
            _ => {
                let message = format!("another worker took over job {}, or it was given up", record.job_id);
                Err(Error::new(Kind::LeaseLost, message))
            }
        }
    }

    /// Takes from a run the right to commit. Returns its entry if it had committed before.
    pub(crate) fn revoke(&self, run: &str, backup: &str) -> Result<Option<CatalogueEntry>> {
        if !layout::is_token(run) {
            return Ok(None);
        }
        let committed = |found: Option<CatalogueEntry>| found.filter(|entry| entry.run == run);
        if let Some(entry) = committed(self.backup(backup)?) {
            return Ok(Some(entry));
        }
        let key = layout::revoked_key(run);
        let mut record = Revocation {
            run: run.to_owned(),
            backup: backup.to_owned(),
            revoked_at: now_ms(),
            is_final: false,
        };
        match self.storage().create(&key, &[&sealed::seal(&record)?]) {
            Err(e) if e.kind != ErrorKind::Exists => return Err(failure::storage(e)),
            _ => {}
        }
        let version = match sealed::read::<Revocation>(self.storage().as_ref(), &key, RECORD_BYTES_MAX)? {
            Found::Good(found, _) if found.is_final => return Ok(None),
            Found::Good(_, version) => version,
            // Only its name decides; what was final before it was damaged must stay so.
            Found::Missing | Found::Damaged(..) => return Ok(None),
        };
        if let Some(entry) = committed(self.backup_even_void(backup)?) {
            self.storage().delete(&key).map_err(failure::storage)?;
            return Ok(Some(entry));
        }
        record.is_final = true;
        match self.storage().replace(&key, &sealed::seal(&record)?, &version) {
            Err(e) if e.kind != ErrorKind::Precondition => Err(failure::storage(e)),
            _ => Ok(None),
        }
    }

    /// Whether this run may not commit any more.
    pub(crate) fn is_revoked(&self, run: &str) -> Result<bool> {
        if !layout::is_token(run) {
            return Ok(false);
        }
        Ok(self.storage().head(&layout::revoked_key(run)).map_err(failure::storage)?.is_some())
    }

    /// All runs that may not commit any more.
    pub(crate) fn revoked(&self) -> Result<HashSet<String>> {
        let entries = self.storage().list_all(layout::REVOKED).map_err(failure::storage)?;
        let runs = entries.iter().filter_map(|e| e.key.strip_prefix(layout::REVOKED)?.strip_suffix(".json"));
        Ok(runs.map(str::to_owned).collect())
    }

    /// Damage among the revocations, for the scrub. Only their names decide anything.
    pub(crate) fn damaged_revocations(&self) -> Result<Vec<Finding>> {
        let mut findings = Vec::new();
        for entry in self.storage().list_all(layout::REVOKED).map_err(failure::storage)? {
            if let Found::Damaged(problem, _) =
                sealed::read::<Revocation>(self.storage().as_ref(), &entry.key, RECORD_BYTES_MAX)?
            {
                findings.push(Finding { file: entry.key, problem });
            }
        }
        Ok(findings)
    }
}
