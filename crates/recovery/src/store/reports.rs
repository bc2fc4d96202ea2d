//! `reports/<name>/<time>.<outcome>.json`: what drills of a backup came to. Created once, never changed.
//!
//! `{"report":{…},"mac":"…","checksum":"…"}`. With the passcode at hand the drill signs: `mac` is an HMAC-SHA256 over the exact
//! bytes of the report under a key of the backup's vault. Without it `mac` is empty, and the report says so. Time and outcome
//! stand in the key too, so that a listing alone tells when a backup was last proven.

use hmac::Mac;
use repository::{Finding, Repository};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage::ErrorKind;

use super::catalogue::keyed_for;
use super::sealed::{self, Found};
use super::{Store, failure, layout, parallel};
use crate::clock::now_ms;
use crate::drills::{FAILED, PROVEN, WHOLE};
use crate::{DrillReport, Error, ErrorKind as Reason, Result};

const REPORT_BYTES_MAX: u64 = 4 << 20;
/// A drill writes 201 lines of a kind at most, and a few stages for each component.
const READ_LINES_MAX: usize = 256;
const STAGES_MAX: usize = 10_000;
/// So many reports are looked at for one that can be believed.
const TRIES_MAX: usize = 20;
const DAY_MS: i64 = 24 * 3600 * 1000;
const MAC_PURPOSE: &str = "strongroom report v1";

/// One file among the reports, by its key alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportKey {
    pub key: String,
    /// When the drill ended.
    pub time: i64,
    /// Its outcome.
    pub outcome: String,
}

impl ReportKey {
    fn of(key: String) -> Option<Self> {
        let (_, name) = key.rsplit_once('/')?;
        let (time, outcome) = name.strip_suffix(".json")?.split_once('.')?;
        let (time, outcome) = (time.parse().ok()?, outcome.to_owned());
        Some(Self { key, time, outcome })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReportFile {
    report: Box<RawValue>,
    mac: String,
    #[serde(default, skip_serializing)]
    #[allow(dead_code)]
    checksum: String,
}

/// A report as it was read.
pub(crate) struct ReadReport {
    pub report: DrillReport,
    raw: String,
    mac: String,
}

impl ReadReport {
    /// Whether it was written by somebody who could open the vault.
    pub fn is_authentic(&self, vault: &Repository) -> bool {
        hex::decode(&self.mac)
            .is_ok_and(|mac| keyed_for(vault, MAC_PURPOSE, &self.raw).verify_slice(&mac).is_ok())
    }
}

impl Store {
    /// Writes a report, signed if the vault is open.
    pub(crate) fn write_report(&self, report: &DrillReport, vault: Option<&Repository>) -> Result<()> {
        let raw = serde_json::value::to_raw_value(report).map_err(super::catalogue::internal)?;
        let mac = vault.map(|vault| keyed_for(vault, MAC_PURPOSE, raw.get()).finalize().into_bytes());
        let file = ReportFile {
            report: raw,
            mac: mac.map(hex::encode).unwrap_or_default(),
            checksum: String::new(),
        };
        let bytes = sealed::seal(&file)?;
        // Two of one backup within a millisecond: the second one is a moment later.
        for moment in 0..8 {
            let key = layout::report_key(&report.backup, report.end_time + moment, &report.outcome);
            match self.storage().create(&key, &[&bytes]) {
                Err(e) if e.kind == ErrorKind::Exists => {}
                other => return other.map_err(failure::storage),
            }
        }
        Err(Error::new(Reason::Busy, format!("a report on backup '{}' finds no free name", report.backup)))
    }

    /// All of one backup, or of all backups, newest first, by their keys alone.
    pub(crate) fn report_keys(&self, backup: Option<&str>) -> Result<Vec<ReportKey>> {
        let prefix = backup.map_or_else(|| layout::REPORTS.to_owned(), layout::report_prefix);
        let listed = self.storage().list_all(&prefix).map_err(failure::storage)?;
        let mut keys: Vec<ReportKey> =
            listed.into_iter().filter_map(|entry| ReportKey::of(entry.key)).collect();
        keys.sort_by(|a, b| (b.time, &b.key).cmp(&(a.time, &a.key)));
        Ok(keys)
    }

    /// The newest reports on one backup, at most so many. What cannot be read is left out; the scrub names it.
    pub(crate) fn reports(&self, backup: &str, count: usize) -> Result<Vec<ReadReport>> {
        let mut keys = self.report_keys(Some(backup))?;
        keys.truncate(count);
        let read = parallel::each(self.storage().as_ref(), &keys, |key| self.report(&key.key))?;
        Ok(read.into_iter().flatten().filter(|read| read.report.backup == backup).collect())
    }

    /// The last report that proves a backup, and a later one that tells of a failure.
    pub(crate) fn last_drills(&self) -> Result<(Option<DrillReport>, Option<DrillReport>)> {
        let soon = now_ms() + DAY_MS;
        let keys: Vec<ReportKey> =
            self.report_keys(None)?.into_iter().filter(|key| key.time < soon).collect();
        let proven = self.first_believed(keys.iter().filter(|key| key.outcome == PROVEN))?;
        let failed = self.first_believed(keys.iter().filter(|key| key.outcome != WHOLE))?;
        let failed = failed.filter(|report| report.outcome == FAILED);
        // That every pack is there takes back that one was not, and nothing else.
        let is_whole = keys.first().is_some_and(|key| key.outcome == WHOLE);
        let failed = failed.filter(|report| report.with_passcode || !is_whole);
        Ok((proven, failed))
    }

    /// The first that can be read and speaks of a backup that is there: who may write to the store may write others.
    fn first_believed<'k>(&self, keys: impl Iterator<Item = &'k ReportKey>) -> Result<Option<DrillReport>> {
        for key in keys.take(TRIES_MAX) {
            let Some(read) = self.report(&key.key)? else { continue };
            let of_a_backup =
                self.backup(&read.report.backup)?.is_some_and(|entry| entry.run == read.report.run);
            if of_a_backup && (read.report.outcome != PROVEN || !read.mac.is_empty()) {
                return Ok(Some(read.report));
            }
        }
        Ok(None)
    }

    /// One report; `None` if there is none, or none that is intact.
    pub(crate) fn report(&self, key: &str) -> Result<Option<ReadReport>> {
        match self.read_report(key)? {
            Found::Good(read, _) => Ok(Some(read)),
            Found::Missing => Ok(None),
            Found::Damaged(reason, _) => {
                tracing::warn!(key, "a report of a drill is damaged: {reason}");
                Ok(None)
            }
        }
    }

    /// Reports that are damaged.
    pub(crate) fn damaged_reports(&self) -> Result<Vec<Finding>> {
        let listed = self.storage().list_all(layout::REPORTS).map_err(failure::storage)?;
        let read = parallel::each(self.storage().as_ref(), &listed, |entry| {
            Ok(match self.read_report(&entry.key)? {
                Found::Damaged(problem, _) => Some(Finding { file: entry.key.clone(), problem }),
                Found::Good(..) | Found::Missing => None,
            })
        })?;
        Ok(read.into_iter().flatten().collect())
    }

    fn read_report(&self, key: &str) -> Result<Found<ReadReport>> {
        let found = sealed::read::<ReportFile>(self.storage().as_ref(), key, REPORT_BYTES_MAX)?;
        let (file, version) = match found {
            Found::Good(file, version) => (file, version),
            Found::Missing => return Ok(Found::Missing),
            Found::Damaged(reason, version) => return Ok(Found::Damaged(reason, version)),
        };
        let report: DrillReport = match serde_json::from_str(file.report.get()) {
            Ok(report) => report,
            Err(e) => {
                let reason = format!("it is no report of the expected form: {e}");
                return Ok(Found::Damaged(reason, Some(version)));
            }
        };
        let lines = [&report.proven, &report.not_proven, &report.failures];
        if report.stages.len() > STAGES_MAX || lines.iter().any(|lines| lines.len() > READ_LINES_MAX) {
            return Ok(Found::Damaged("it has more lines than any drill writes".to_owned(), Some(version)));
        }
        let belongs = ReportKey::of(key.to_owned()).is_some_and(|named| {
            key.starts_with(&layout::report_prefix(&report.backup))
                && named.outcome == report.outcome
                && named.time.checked_sub(report.end_time).is_some_and(|moment| (0..8).contains(&moment))
        });
        if !belongs {
            let reason = "it is the report of another drill".to_owned();
            return Ok(Found::Damaged(reason, Some(version)));
        }
        Ok(Found::Good(ReadReport { report, raw: file.report.get().to_owned(), mac: file.mac }, version))
    }
}
