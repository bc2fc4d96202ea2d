//! Backups as callers see them: lists, creation, changes, deletion, validation.
//!
//! The catalogue in the store says what there is; the jobs that have not ended say what is being made, deleted or
//! read. Who may start while something runs is decided in the transaction that makes the job durable, by
//! [`Inner::submit`] and the rules below it.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::json;

use crate::clock::now_ms;
use crate::jobs::{SubmitJob, backup_stages};
use crate::names::{Named, check_description, check_name, check_passcode, check_retention, name_key, normal};
use crate::recovery::{Inner, blocking};
use crate::state::{JobRow, LANE_MAIN, LANE_SIDE, LANE_VERIFY, StoreRow};
use crate::store::cache::{Listed, Look};
use crate::store::{CatalogueEntry, Store};
use crate::work;
use crate::{
    BackupView, Caller, CreateBackup, Deletion, Error, ErrorKind, Passcode, Proof, RELEASE, Result,
    Validation,
};

/// Kinds of backups by who asked for them.
const MANUAL: &str = "MANUAL";
const SCHEDULED: &str = "SCHEDULED";

/// More findings than this are counted, not listed.
const DETAILS_MAX: usize = 100;

impl Inner {
    /// All that the catalogue of a store lists; what it cannot read is logged and left out.
    pub async fn look_at_catalogue(&self, row: &StoreRow, store: &Store) -> Result<Look> {
        let (store, name, cache) =
            (store.clone(), row.name.clone(), self.caches.of(&row.name, &row.identity));
        let look = blocking(move || store.listed(&cache, &name)).await?;
        log_damaged(row, &look.findings);
        Ok(look)
    }

    pub async fn backups(&self, store: &str) -> Result<Vec<Arc<BackupView>>> {
        let row = self.store_row(store).await?;
        self.backups_of(&row).await
    }

    async fn backups_of(&self, row: &StoreRow) -> Result<Vec<Arc<BackupView>>> {
        // Jobs first: a backup that is completed in between is then in both lists, never in none.
        let active = self.state.active_jobs().await?;
        let store = self.open_store(row).await?;
        let look = self.look_at_catalogue(row, &store).await?;
        Ok(sorted(self.with_jobs(row, &active, &look.backups)))
    }

    /// The same from the entries as they lie in the store now, for those who act on it.
    pub async fn backups_read_anew(&self, row: &StoreRow) -> Result<Vec<Arc<BackupView>>> {
        let active = self.state.active_jobs().await?;
        let store = self.open_store(row).await?;
        let (entries, findings) = blocking(move || store.backups()).await?;
        log_damaged(row, &findings);
        let listed: Vec<_> =
            entries.into_iter().map(|entry| Arc::new(Listed::of(entry, &row.name))).collect();
        Ok(sorted(self.with_jobs(row, &active, &listed)))
    }

    /// What is being made and deleted counts too. In no special order.
    pub fn with_jobs(
        &self,
        row: &StoreRow,
        active: &[JobRow],
        listed: &[Arc<Listed>],
    ) -> Vec<Arc<BackupView>> {
        let mut views: Vec<Arc<BackupView>> = listed.iter().map(|listed| listed.view.clone()).collect();
        for job in active.iter().filter(|job| job.store == row.name) {
            let place = listed.iter().position(|listed| listed.name_key == job.backup_key);
            match (job.operation.as_str(), place.and_then(|place| views.get_mut(place))) {
                ("Backup", None) => views.push(Arc::new(self.in_progress(job))),
                ("Delete", Some(view)) => Arc::make_mut(view).status = "deleting".to_owned(),
                _ => {}
            }
        }
        views
    }

    pub async fn all_backups(&self) -> Result<Vec<Arc<BackupView>>> {
        let mut all = Vec::new();
        let mut unreachable = None;
        for row in self.state.stores().await? {
            match self.backups_of(&row).await {
                Ok(views) => all.extend(views),
                Err(error) => {
                    tracing::warn!(store = %row.name, "its backups are missing in the list of all: {error}");
                    unreachable = Some(error);
                }
            }
        }
        // An empty list would say that nothing is there; that is not known.
        if let (true, Some(error)) = (all.is_empty(), unreachable) {
            return Err(error);
        }
        Ok(sorted(all))
    }

    fn in_progress(&self, job: &JobRow) -> BackupView {
        BackupView {
            name: job.backup.clone(),
            store: job.store.clone(),
            description: text(&job.parameters, "description"),
            release: RELEASE.to_owned(),
            site_name: self.settings.site_name.clone(),
            status: "in_progress".to_owned(),
            schedule_type: schedule_type(&job.parameters),
            start_time: job.submitted_at,
            complete_time: 0,
            retention_date: job.parameters["retentionDate"].as_i64().unwrap_or(-1),
            components: Vec::new(),
            bytes_read: 0,
            bytes_added: 0,
            files_total: 0,
            format_version: 1,
            vault: String::new(),
            warnings: Vec::new(),
            warning_count: 0,
            job_id: job.id.clone(),
        }
    }

    pub async fn backup(&self, store: &str, name: &str) -> Result<BackupView> {
        let row = self.store_row(store).await?;
        let name = normal(name);
        let active = self.state.active_jobs().await?;
        let job = active.iter().find(|job| job.store == row.name && job.backup == name);
        if let Some(entry) = self.entry(&row, &name).await? {
            let mut view = entry.view(&row.name);
            if job.is_some_and(|job| job.operation == "Delete") {
                view.status = "deleting".to_owned();
            }
            return Ok(view);
        }
        match job.filter(|job| job.operation == "Backup") {
            Some(job) => Ok(self.in_progress(job)),
            None => Err(no_such_backup(&row.name, &name)),
        }
    }

    /// When each of these backups of a store was last shown to be good here.
    pub async fn proofs(&self, store: &str, backups: &[&str]) -> Result<HashMap<String, Proof>> {
        let mut proofs: HashMap<String, Proof> = HashMap::new();
        for (backup, operation, status, ended) in self.state.last_proofs(store, backups).await? {
            let proof = proofs.entry(backup).or_default();
            match (operation.as_str(), status.as_str()) {
                ("Restore", _) => proof.restored = ended,
                (_, "COMPLETED") => proof.verified = ended,
                _ => proof.damaged = ended,
            }
        }
        for proof in proofs.values_mut().filter(|proof| proof.damaged <= proof.verified) {
            proof.damaged = 0;
        }
        Ok(proofs)
    }

    async fn entry(&self, row: &StoreRow, name: &str) -> Result<Option<CatalogueEntry>> {
        let store = self.open_store(row).await?;
        let name = name.to_owned();
        blocking(move || store.backup(&name)).await
    }

    pub async fn find_backup(&self, name: &str, store: Option<&str>) -> Result<String> {
        if let Some(store) = store {
            return Ok(self.backup(store, name).await?.store);
        }
        let rows = self.state.stores().await?;
        let (mut found, mut unreachable) = (Vec::new(), None);
        for row in &rows {
            match self.backup(&row.name, name).await {
                Ok(_) => found.push(row),
                Err(error) if error.kind == ErrorKind::BackupNotFound => {}
                // A damaged entry is there all the same.
                Err(error) if error.kind == ErrorKind::Damaged => found.push(row),
                Err(error) => unreachable = Some(error),
            }
        }
        match found.as_slice() {
            [only] => Ok(only.name.clone()),
            [] => Err(unreachable.unwrap_or_else(|| no_such_backup("any", name))),
            several => match several.iter().find(|row| row.default) {
                Some(default) => Ok(default.name.clone()),
                None => {
                    let message =
                        format!("Backup '{}' is in several stores; name one with 'storeName'.", normal(name));
                    let mut error = Error::new(ErrorKind::Ambiguous, message);
                    error.details = several.iter().map(|row| row.name.clone()).collect();
                    Err(error)
                }
            },
        }
    }

    pub async fn create_backup(&self, request: CreateBackup, caller: Caller) -> Result<String> {
        self.submit_backup(request, caller, None).await
    }

    /// All checks, then a job; `run` is the run of the schedule that asks for it.
    pub async fn submit_backup(
        &self,
        request: CreateBackup,
        caller: Caller,
        run: Option<&str>,
    ) -> Result<String> {
        self.refuse_while_restoring().await?;
        let name = check_name(Named::Backup, &request.name)?;
        check_passcode(&request.passcode)?;
        check_description(&request.description)?;
        check_retention(request.retention_date, now_ms(), "")?;
        if self.settings.components.is_empty() {
            return Err(Error::new(
                ErrorKind::ParameterInvalid,
                "Nothing to back up: no component is configured.",
            ));
        }
        let row = self.store_row(&request.store).await?;
        let key = name_key(&name);
        admit_backup(&self.state.active_jobs().await?, &row.name, &key)?;
        let store = self.open_store_apart(&row).await?;
        // For a better answer alone: the commit finds out by itself whether the name is free.
        let look = self.look_at_catalogue(&row, &store).await?;
        if let Some(there) = look.backups.iter().find(|listed| listed.name_key == key) {
            let error = backup_exists(&row.name, &there.view.name);
            return Err(error.detail(format!("jobid={}", there.view.job_id)));
        }
        let job = SubmitJob {
            operation: "Backup",
            lane: LANE_MAIN,
            store: &row.name,
            backup: &name,
            parameters: json!({
                "description": request.description, "retentionDate": request.retention_date,
                "scheduleType": if run.is_some() { SCHEDULED } else { MANUAL },
            }),
            passcode: Some(&request.passcode),
            stages: backup_stages(&self.settings.components),
            run,
        };
        self.submit(job, caller, |active| admit_backup(active, &row.name, &key)).await
    }

    pub async fn update_backup(
        &self,
        store: &str,
        name: &str,
        retention_date: Option<i64>,
        description: Option<String>,
    ) -> Result<()> {
        self.refuse_while_read_only().await?;
        if retention_date.is_none() && description.is_none() {
            let message = "Nothing to change: neither 'retentionDate' nor 'description' is given.";
            return Err(Error::new(ErrorKind::ParameterMissing, message));
        }
        if let Some(date) = retention_date {
            check_retention(date, now_ms(), "; to remove the backup now, use delete")?;
        }
        check_description(description.as_deref().unwrap_or_default())?;
        let row = self.store_row(store).await?;
        let name = normal(name);
        let gate = self.gates.of(&row.name);
        let _alone = gate.lock().await;
        self.refuse_in_use(&row.name, &name).await?;
        let store = self.open_store(&row).await?;
        blocking(move || {
            store.backup(&name)?.ok_or_else(|| no_such_backup(&row.name, &name))?;
            store.update_backup(&name, retention_date, description.as_deref())
        })
        .await
    }

    pub async fn delete_backup(
        &self,
        store: &str,
        name: &str,
        as_job: bool,
        caller: Caller,
    ) -> Result<Deletion> {
        self.refuse_while_read_only().await?;
        let row = self.store_row(store).await?;
        let name = normal(name);
        self.refuse_in_use(&row.name, &name).await?;
        self.require_listed(&row, &name).await?;
        if as_job {
            let parameters = json!({});
            let job = SubmitJob {
                operation: "Delete",
                lane: LANE_SIDE,
                store: &row.name,
                backup: &name,
                parameters,
                ..SubmitJob::default()
            };
            let id = self.submit(job, caller, |active| admit_change(active, &row.name, &name)).await?;
            return Ok(Deletion::Job(id));
        }
        let gate = self.gates.of(&row.name);
        let _alone = gate.lock().await;
        // While this one waited for its turn, another one may have begun to use it, or deleted it.
        self.refuse_while_read_only().await?;
        self.refuse_in_use(&row.name, &name).await?;
        self.require_listed(&row, &name).await?;
        self.delete_now(&row, &name).await?;
        tracing::info!(store = %row.name, backup = %name, request = %caller.request_id, user = %caller.username, "backup deleted");
        Ok(Deletion::Done)
    }

    /// Step one of a deletion; the caller holds the store's gate. Its space is freed in the background.
    pub async fn delete_now(&self, row: &StoreRow, name: &str) -> Result<()> {
        let store = self.open_store(row).await?;
        let name = name.to_owned();
        blocking(move || store.delete_backup(&name)).await?;
        self.runner.reclaim_soon();
        Ok(())
    }

    async fn refuse_in_use(&self, store: &str, name: &str) -> Result<()> {
        admit_change(&self.state.active_jobs().await?, store, name)
    }

    /// A damaged entry counts as listed: it must be possible to remove it.
    pub async fn require_listed(&self, row: &StoreRow, name: &str) -> Result<()> {
        match self.entry(row, name).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(no_such_backup(&row.name, name)),
            Err(error) if error.kind == ErrorKind::Damaged => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub async fn validate_backup(
        &self,
        store: &str,
        name: &str,
        passcode: Option<Passcode>,
    ) -> Result<Validation> {
        passcode.as_ref().map(check_passcode).transpose()?;
        let view = match self.backup(store, name).await {
            Err(error) if error.kind == ErrorKind::Damaged => {
                return Ok(Validation { ready: false, details: vec![error.message] });
            }
            other => other?,
        };
        if view.status == "in_progress" {
            let details =
                vec![format!("Backup '{}' is still in progress (jobid={}).", view.name, view.job_id)];
            return Ok(Validation { ready: false, details });
        }
        let row = self.store_row(&view.store).await?;
        let _turn = self.validation_turns.acquire().await;
        let store = self.open_store(&row).await?;
        let (name, place) = (view.name.clone(), format!("{}/{}", row.name, view.name));
        let checked = blocking(move || {
            let control = repository::Control::new();
            work::verify_backup(&store, &name, passcode.as_ref(), false, &control)
        })
        .await;
        match checked {
            Ok(report) => {
                let details = findings(&report);
                Ok(Validation { ready: details.is_empty(), details })
            }
            Err(error) if error.kind == ErrorKind::Damaged => {
                Ok(Validation { ready: false, details: vec![error.message] })
            }
            Err(error) => Err(self.wrong_passcodes.note(&place, error).await),
        }
    }

    pub async fn verify_backup_as_job(
        &self,
        store: &str,
        name: &str,
        passcode: Passcode,
        caller: Caller,
    ) -> Result<String> {
        check_passcode(&passcode)?;
        let row = self.store_row(store).await?;
        let view = self.backup(store, name).await?;
        if view.status == "in_progress" {
            let message = format!("Backup '{}' is still in progress.", view.name);
            return Err(
                Error::new(ErrorKind::NotRestorable, message).detail(format!("jobid={}", view.job_id))
            );
        }
        let opened = self.open_store(&row).await?;
        self.refuse_wrong_passcode(opened, &row.name, &view.name, &passcode).await?;
        let job = SubmitJob {
            operation: "Validate",
            lane: LANE_VERIFY,
            store: &row.name,
            backup: &view.name,
            parameters: json!({}),
            passcode: Some(&passcode),
            ..SubmitJob::default()
        };
        self.submit(job, caller, |active| {
            let same =
                |job: &&JobRow| job.operation == "Delete" && job.store == row.name && job.backup == view.name;
            active.iter().find(same).map_or(Ok(()), |job| Err(backup_in_use(job)))
        })
        .await
    }
}

/// What a report says against a backup, one line each.
pub(crate) fn findings(report: &repository::CheckReport) -> Vec<String> {
    let line = |finding: &repository::Finding| format!("{}: {}", finding.file, finding.problem);
    let mut lines: Vec<String> = report.findings.iter().take(DETAILS_MAX).map(line).collect();
    if report.findings.len() > DETAILS_MAX {
        lines.push(format!("and {} more", report.findings.len() - DETAILS_MAX));
    }
    lines
}

/// A text among a job's parameters.
pub(crate) fn text(parameters: &serde_json::Value, name: &str) -> String {
    parameters[name].as_str().unwrap_or_default().to_owned()
}

/// Who asked for a backup, by the parameters of its job.
pub(crate) fn schedule_type(parameters: &serde_json::Value) -> String {
    let told = parameters["scheduleType"].as_str();
    told.filter(|told| *told == SCHEDULED).unwrap_or(MANUAL).to_owned()
}

fn log_damaged(row: &StoreRow, findings: &[repository::Finding]) {
    for finding in findings {
        tracing::warn!(store = %row.name, file = %finding.file, "damaged catalogue entry: {}", finding.problem);
    }
}

/// The order of lists.
pub(crate) fn newest_first(a: &BackupView, b: &BackupView) -> Ordering {
    b.start_time.cmp(&a.start_time).then_with(|| a.name.cmp(&b.name))
}

fn sorted(mut views: Vec<Arc<BackupView>>) -> Vec<Arc<BackupView>> {
    views.sort_by(|a, b| newest_first(a, b));
    views
}

/// May a backup start? Its own repetition is told apart from another job, so that a retry learns its first job.
fn admit_backup(active: &[JobRow], store: &str, key: &str) -> Result<()> {
    let same = |job: &&JobRow| job.operation == "Backup" && job.store == store && job.backup_key == key;
    if let Some(job) = active.iter().find(same) {
        return Err(backup_exists(store, &job.backup).detail(format!("jobid={}", job.id)));
    }
    match active.iter().find(|job| is_main(job)) {
        Some(job) if job.operation == "Restore" => Err(read_only(job)),
        Some(job) => Err(busy(job)),
        None => Ok(()),
    }
}

/// May this backup be changed or deleted?
fn admit_change(active: &[JobRow], store: &str, name: &str) -> Result<()> {
    if let Some(job) = active.iter().find(|job| job.operation == "Restore") {
        return Err(read_only(job));
    }
    let same = |job: &&JobRow| job.store == store && job.backup == name && job.operation != "Register";
    active.iter().find(same).map_or(Ok(()), |job| Err(backup_in_use(job)))
}

/// Whether a job is a backup or a restore.
pub(crate) fn is_main(job: &JobRow) -> bool {
    matches!(job.operation.as_str(), "Backup" | "Restore")
}

/// Another backup or restore runs.
pub(crate) fn busy(job: &JobRow) -> Error {
    let what = job.operation.to_lowercase();
    let hint = if what == "backup" { "; wait for its end or cancel it" } else { "; wait for its end" };
    let message = format!("A {what} of '{}' (store '{}') is running{hint}.", job.backup, job.store);
    Error::new(ErrorKind::Busy, message).detail(format!("jobid={}", job.id))
}

/// A restore runs.
pub(crate) fn read_only(job: &JobRow) -> Error {
    let message = format!(
        "Backup '{}' (store '{}') is being restored; until that ends nothing can be changed.",
        job.backup, job.store
    );
    Error::new(ErrorKind::ReadOnly, message).detail(format!("jobid={}", job.id))
}

pub(crate) fn no_such_backup(store: &str, name: &str) -> Error {
    let message = match store {
        "any" => format!("There is no backup '{name}' in any store."),
        _ => format!("There is no backup '{name}' in store '{store}'."),
    };
    Error::new(ErrorKind::BackupNotFound, message)
}

fn backup_exists(store: &str, name: &str) -> Error {
    Error::new(ErrorKind::BackupExists, format!("Backup '{name}' already exists in store '{store}'."))
}

pub(crate) fn backup_in_use(job: &JobRow) -> Error {
    let doing = match job.operation.as_str() {
        "Backup" => "being made",
        "Delete" => "being deleted",
        "Validate" => "being read by a validation",
        "Drill" => "being tried out by a drill",
        _ => "being restored",
    };
    let message = format!("Backup '{}' of store '{}' is {doing}.", job.backup, job.store);
    Error::new(ErrorKind::BackupInUse, message).detail(format!("jobid={}", job.id))
}

#[cfg(test)]
mod tests;
