//! The cleaner (hourly, by the system task of that name): backups whose retention date has passed leave the catalogue, and the space of what left it is
//! freed once that is safe.
//!
//! What goes is decided by a plain function over the catalogue, so that it can be read and tested: never the newest
//! complete backup of a store, never one that a job uses. Clocks decide nothing else; one that jumped is not believed
//! at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::now_ms;
use crate::recovery::{Inner, blocking};
use crate::state::StoreRow;
use crate::store::RunningRecord;
use crate::{BackupView, ErrorKind, JobStatus, Result};

/// What one run of the cleaner did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetentionReport {
    /// Store and name of each backup that left the catalogue.
    pub deleted: Vec<(String, String)>,
    /// Store, name and reason of each expired backup that stayed.
    pub kept: Vec<(String, String, String)>,
    /// Store and reason where the work could not be done.
    pub failures: Vec<(String, String)>,
    /// Packs removed, and their bytes.
    pub packs_reclaimed: u64,
    /// Bytes freed.
    pub bytes_reclaimed: u64,
    /// Why space still waits to be freed, by store.
    pub waiting: Vec<(String, String)>,
    /// Whether the server stopped before all stores were looked at.
    pub stopped: bool,
    /// Why nothing was looked at this time.
    pub skipped: Option<String>,
}

/// How often a store is looked through for torn files: that lists all of it.
const SWEEP_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// No write takes this long, whatever the clocks of two machines say.
const TORN_AGE: Duration = Duration::from_secs(24 * 3600);

/// When this process looked through each store for torn files.
#[derive(Debug, Default)]
pub(crate) struct Sweeps(Mutex<HashMap<String, Instant>>);

impl Sweeps {
    /// Whether it is time again; if so, the time is noted.
    fn begin(&self, store: &str) -> bool {
        let mut sweeps = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = sweeps.get(store).is_none_or(|last| last.elapsed() >= SWEEP_INTERVAL);
        if is_due {
            sweeps.insert(store.to_owned(), Instant::now());
        }
        is_due
    }
}

/// A server at work changes its lock every five minutes, and takes it for lost after 22. One of which nothing was seen
/// for so long, by this machine's own clock that never jumps, is dead, or will find its lock lost.
const SILENCE_MAX: Duration = Duration::from_secs(45 * 60);

/// A store and a run in it.
type RunAt = (String, String);

/// Since when running records of other servers show no sign of life: the signs, and when they were first seen.
#[derive(Debug, Default)]
pub(crate) struct Silences(Mutex<HashMap<RunAt, (Vec<String>, Instant)>>);

impl Silences {
    /// Notes what was seen now; true if it is what was seen first so long ago.
    fn is_dead(&self, store: &str, run: &str, signs: Vec<String>, now: Instant) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, since) =
            seen.entry((store.to_owned(), run.to_owned())).or_insert_with(|| (signs.clone(), now));
        if *before != signs {
            (*before, *since) = (signs, now);
        }
        now.saturating_duration_since(*since) >= SILENCE_MAX
    }

    /// Forgets records of a store that are gone.
    fn retain(&self, store: &str, runs: &HashSet<String>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(of, run), _| of != store || runs.contains(run));
    }
}

/// What is to become of a store's expired backups.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decision {
    delete: Vec<String>,
    keep: Vec<(String, String)>,
}

/// Decides over one store's catalogue. The newest backup without warnings is never taken, so that one that lacks
/// something displaces none that is whole; where none is whole, the newest of all.
fn decide(backups: &[Arc<BackupView>], in_use: &HashSet<String>, keep_last: usize, now: i64) -> Decision {
    let newest = |status: &str| {
        let mut names: Vec<_> = backups.iter().filter(|backup| backup.status == status).collect();
        names.sort_by_key(|backup| std::cmp::Reverse((backup.start_time, &backup.name)));
        names.into_iter().take(keep_last).map(|backup| &backup.name).collect::<Vec<_>>()
    };
    let mut last = newest("completed");
    if last.is_empty() {
        last = newest("completed_with_warnings");
    }
    let mut decision = Decision::default();
    for backup in backups {
        if !backup.is_complete() || backup.retention_date < 0 || backup.retention_date > now {
            continue;
        }
        if last.contains(&&backup.name) {
            let why = match last.as_slice() {
                [_] => "it is the newest complete backup of its store".to_owned(),
                several => format!("it is among the {} newest complete backups of its store", several.len()),
            };
            decision.keep.push((backup.name.clone(), why));
        } else if in_use.contains(&backup.name) {
            decision.keep.push((backup.name.clone(), "a job uses it; next time".to_owned()));
        } else {
            decision.delete.push(backup.name.clone());
        }
    }
    decision
}

impl Inner {
    /// One run over all stores; a store out of reach does not keep the others from it.
    pub async fn run_retention(&self) -> Result<RetentionReport> {
        let mut report = RetentionReport::default();
        if let Some(drift) = self.clock.jumped() {
            let why = format!(
                "the clock jumped by {} hours; expired backups stay until the next run",
                drift / 3_600_000
            );
            tracing::warn!("{why}");
            report.skipped = Some(why);
            return Ok(report);
        }
        if let Some(why) = self.mode().await?.refusal() {
            report.skipped = Some(why);
            return Ok(report);
        }
        for row in self.state.stores().await? {
            if self.runner.is_stopping() {
                report.stopped = true;
                break;
            }
            if let Err(error) = self.clean_store(&row, &mut report).await {
                tracing::error!(store = %row.name, "retention cleaner: {error}");
                report.failures.push((row.name.clone(), error.message));
                continue;
            }
            self.reclaim(&row, &mut report).await;
            self.sweep_torn(&row).await;
        }
        tracing::info!(
            deleted = report.deleted.len(),
            kept = report.kept.len(),
            failures = report.failures.len(),
            bytes = report.bytes_reclaimed,
            "retention cleaner ran"
        );
        Ok(report)
    }

    async fn clean_store(&self, row: &StoreRow, report: &mut RetentionReport) -> Result<()> {
        let gate = self.gates.of(&row.name);
        let _alone = gate.lock().await;
        let backups = self.backups(&row.name).await?;
        let active = self.state.active_jobs().await?;
        let in_use = active.into_iter().filter(|job| job.store == row.name).map(|job| job.backup).collect();
        let keep_last = self.keep_last().await?;
        let mut decision = decide(&backups, &in_use, keep_last, now_ms());
        if !decision.delete.is_empty() {
            // What is to go is decided by what lies in the store, not by what a look remembers of it.
            decision = decide(&self.backups_read_anew(row).await?, &in_use, keep_last, now_ms());
        }
        for (name, why) in decision.keep {
            report.kept.push((row.name.clone(), name, why));
        }
        for name in decision.delete {
            // A restore takes the gate before it is accepted, so none can have begun since.
            self.delete_now(row, &name).await?;
            tracing::info!(store = %row.name, backup = %name, "backup deleted: its retention date has passed");
            report.deleted.push((row.name.clone(), name));
        }
        Ok(())
    }

    /// Removes files that writers were killed over. No listing shows them, so that nobody else ever would.
    async fn sweep_torn(&self, row: &StoreRow) {
        if !self.sweeps.begin(&row.name) {
            return;
        }
        let swept = match self.open_store(row).await {
            Ok(store) => {
                blocking(move || {
                    store.storage().clean_leftovers("", TORN_AGE).map_err(crate::store::failure::storage)
                })
                .await
            }
            Err(error) => Err(error),
        };
        match swept {
            Ok(0) => {}
            Ok(files) => tracing::info!(store = %row.name, files, "torn files of dead writers removed"),
            Err(error) => tracing::warn!(store = %row.name, "torn files were not looked for: {error}"),
        }
    }

    /// Frees space in all stores.
    pub async fn reclaim_all(&self) {
        let mut report = RetentionReport::default();
        match self.state.stores().await {
            Ok(rows) => {
                for row in rows {
                    self.reclaim(&row, &mut report).await;
                }
            }
            Err(error) => tracing::error!("space not reclaimed: {error}"),
        }
    }

    pub(crate) async fn reclaim(&self, row: &StoreRow, report: &mut RetentionReport) {
        match self.try_reclaim(row).await {
            Ok(done) => {
                report.packs_reclaimed += done.packs;
                report.bytes_reclaimed += done.bytes;
                for why in done.waiting {
                    tracing::debug!(store = %row.name, "space waits: {why}");
                    report.waiting.push((row.name.clone(), why));
                }
            }
            Err(error) if error.kind == ErrorKind::Cancelled && self.runner.is_stopping() => {
                report.stopped = true;
            }
            Err(error) => {
                tracing::warn!(store = %row.name, "space not reclaimed: {error}");
                report.failures.push((row.name.clone(), error.message));
            }
        }
    }

    /// Whether the server that wrote this record is gone. To be wrong costs its backup, which then cannot commit any more.
    async fn is_dead(&self, store: &crate::store::Store, name: &str, record: &RunningRecord) -> Result<bool> {
        let (store, seen) = (store.clone(), record.clone());
        let signs = blocking(move || store.signs_of_life(&seen)).await?;
        let is_dead = self.silences.is_dead(name, &record.run, signs, Instant::now());
        if is_dead {
            tracing::warn!(
                store = name, server = %record.server, backup = %record.backup, job = %record.job_id,
                "a backup of another server shows no sign of life; it is given up, so that space can be freed"
            );
        }
        Ok(is_dead)
    }

    async fn try_reclaim(&self, row: &StoreRow) -> Result<crate::store::ReclaimReport> {
        let store = self.open_store(row).await?;
        let opened = store.clone();
        let running = blocking(move || opened.running()).await?;
        let opened = store.clone();
        let owner = blocking(move || opened.owner()).await?;
        let is_ours = owner.is_some_and(|owner| owner.server == self.server_id);
        let runs = running.iter().map(|record| record.run.clone()).collect();
        self.silences.retain(&row.name, &runs);
        for record in running {
            // Records of jobs that ended without tidying up (their store was out of reach then) hold nothing any more.
            let is_over = match self.state.job(&record.job_id).await? {
                Some(job) => {
                    matches!(job.status, JobStatus::Completed | JobStatus::Failed | JobStatus::Cancelled)
                }
                None => is_ours && self.is_dead(&store, &row.name, &record).await?,
            };
            if is_over {
                let store = store.clone();
                blocking(move || store.clear_running(&record.job_id)).await?;
            }
        }
        let (server_id, grace) = (self.server_id.clone(), self.settings.deletion_grace);
        let control = Arc::clone(&self.runner.reclaiming);
        let _one = self.reclaiming.lock().await;
        blocking(move || store.reclaim(&server_id, grace, &control)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(name: &str, status: &str, start_time: i64, retention_date: i64) -> Arc<BackupView> {
        Arc::new(BackupView {
            name: name.to_owned(),
            store: "s".to_owned(),
            description: String::new(),
            release: String::new(),
            site_name: String::new(),
            status: status.to_owned(),
            schedule_type: String::new(),
            start_time,
            complete_time: start_time,
            retention_date,
            components: Vec::new(),
            bytes_read: 0,
            bytes_added: 0,
            files_total: 0,
            format_version: 1,
            vault: String::new(),
            warnings: Vec::new(),
            warning_count: 0,
            job_id: String::new(),
        })
    }

    fn decided(backups: &[Arc<BackupView>], in_use: &[&str]) -> (Vec<String>, Vec<String>) {
        decided_keeping(1, backups, in_use)
    }

    fn decided_keeping(
        keep: usize,
        backups: &[Arc<BackupView>],
        in_use: &[&str],
    ) -> (Vec<String>, Vec<String>) {
        let in_use = in_use.iter().map(|name| (*name).to_owned()).collect();
        let decision = decide(backups, &in_use, keep, 1000);
        (decision.delete, decision.keep.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn only_expired_backups_go_and_never_the_newest_complete_one() {
        let all = [
            backup("old", "completed", 1, 500),
            backup("at the limit", "completed", 2, 1000),
            backup("kept for ever", "completed", 3, -1),
            backup("not yet", "completed", 4, 1001),
            backup("newest", "completed", 5, 500),
        ];
        let (delete, keep) = decided(&all, &[]);
        assert_eq!(delete, ["old", "at the limit"]);
        assert_eq!(keep, ["newest"]);
    }

    #[test]
    fn as_many_of_the_newest_stay_as_the_cleaner_is_told() {
        let all = [
            backup("a", "completed", 1, 500),
            backup("b", "completed", 2, 500),
            backup("gaps", "completed_with_warnings", 3, 500),
            backup("c", "completed", 4, 500),
        ];
        let (delete, keep) = decided_keeping(2, &all, &[]);
        assert_eq!(
            (delete, keep),
            (vec!["a".to_owned(), "gaps".to_owned()], vec!["b".to_owned(), "c".to_owned()])
        );
        assert_eq!(decided_keeping(100, &all, &[]).0, ["gaps"], "one with gaps displaces none that is whole");
    }

    #[test]
    fn what_is_incomplete_displaces_nothing_and_is_not_touched() {
        let all = [
            backup("whole", "completed", 1, 500),
            backup("with gaps", "completed_with_warnings", 2, 500),
            backup("being made", "in_progress", 3, 500),
            backup("being deleted", "deleting", 4, 500),
        ];
        let (delete, keep) = decided(&all, &[]);
        assert_eq!(delete, ["with gaps"]);
        assert_eq!(keep, ["whole"]);
    }

    #[test]
    fn where_none_is_whole_the_newest_with_warnings_stays() {
        let all =
            [backup("a", "completed_with_warnings", 1, 500), backup("b", "completed_with_warnings", 2, 500)];
        assert_eq!(decided(&all, &[]), (vec!["a".to_owned()], vec!["b".to_owned()]));
    }

    #[test]
    fn a_server_is_dead_only_if_nothing_of_it_changed_for_long() {
        let (silences, start) = (Silences::default(), Instant::now());
        let after = |minutes: u64| start + Duration::from_secs(minutes * 60);
        let signs = |lock: &str| vec!["1".to_owned(), lock.to_owned()];
        assert!(!silences.is_dead("s", "run", signs("a"), start));
        assert!(!silences.is_dead("s", "run", signs("a"), after(44)));
        assert!(!silences.is_dead("s", "run", signs("b"), after(60)), "its lock is new");
        assert!(
            !silences.is_dead("s", "other", signs("b"), after(120)),
            "another run is looked at for the first time"
        );
        assert!(!silences.is_dead("t", "run", signs("b"), after(120)), "and so is one in another store");
        assert!(silences.is_dead("s", "run", signs("b"), after(120)));
        silences.retain("s", &HashSet::new());
        assert!(!silences.is_dead("s", "run", signs("b"), after(180)));
    }

    #[test]
    fn a_backup_in_use_waits_for_the_next_run() {
        let all = [backup("a", "completed", 1, 500), backup("b", "completed", 2, -1)];
        assert_eq!(decided(&all, &["a"]), (vec![], vec!["a".to_owned()]));
    }
}
