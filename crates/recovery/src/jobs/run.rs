//! One job from claim to end: what its operation does, what is undone if it does not come to its end, what its row
//! says in the end.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};
use storage::Guarded;

use super::lease::{Held, Stop, Undo};
use super::progress;
use super::stages::Stages;
use super::targets;
use crate::backups::{findings, schedule_type, text};
use crate::clock::{self, now_ms};
use crate::recovery::{Inner, blocking};
use crate::state::{Cancel, Finish, JobRow};
use crate::store::Store;
use crate::stores::from_job;
use crate::work::{self, BackupTask, DrillTask, RestoreTask};
use crate::{BackupView, Component, Error, ErrorKind, JobStatus, RELEASE, Result, Selection, StoreView};

/// After this many interruptions a job is given up.
const INTERRUPTIONS_MAX: i64 = 3;
/// How long to wait before an end that could not be written is written again.
const RETRY_TIME: std::time::Duration = std::time::Duration::from_secs(2);
/// So many warnings become messages.
const MESSAGES_MAX: usize = 20;
/// Phase of a restore that may have changed its target.
const CHANGING: &str = "changing";
/// Phase of a backup that is complete.
const COMMITTED: &str = "committed";

/// How work on a job came to its end.
#[derive(Debug)]
enum Outcome {
    Completed {
        result: Value,
        messages: Vec<String>,
    },
    Failed {
        error: Error,
        result: Value,
    },
    Cancelled {
        messages: Vec<String>,
    },
    /// A clean stop: it goes on at the next start.
    Paused,
    /// Another claim, or the next start, goes on with it.
    Lost,
}

/// A job at work, with what it needs.
struct Work {
    inner: Arc<Inner>,
    job: JobRow,
    held: Arc<Held>,
    stages: Arc<Stages>,
}

/// A task that ends with whoever began it, on every way out.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inner {
    /// Works on a claimed job until it ends or is given back.
    pub async fn work_on(self: &Arc<Self>, job: JobRow, taken: Instant) {
        let held = Arc::new(Held::new(job.lease(), self.runner.lease, taken));
        let stages = Arc::new(Stages::new(&job.stages));
        self.runner.begin(&held);
        tracing::info!(job = %job.id, operation = %job.operation, token = job.lease_token, request = %job.request_id, "job begins");
        // A wish to cancel may have come between the claim and the line above.
        if let Ok(Some(now)) = self.state.job(&job.id).await
            && now.status == JobStatus::Cancelling
        {
            held.stop(Stop::Cancelled);
        }
        let writer = tokio::spawn(progress::write(self.clone(), held.clone(), stages.clone()));
        let writer = AbortOnDrop(writer.abort_handle());
        let limit = tokio::spawn(limit_time(self.clone(), job.clone(), held.clone()));
        let limit = AbortOnDrop(limit.abort_handle());
        let work = Work { inner: self.clone(), job, held, stages };
        let outcome = work.run().await;
        drop((writer, limit));
        work.conclude(outcome).await;
        self.runner.end(&work.held);
    }
}

impl Work {
    async fn run(&self) -> Outcome {
        let done = match self.job.operation.as_str() {
            "Backup" => self.backup().await,
            "Restore" => self.restore().await,
            "Delete" => self.delete().await,
            "Validate" => self.validate().await,
            "Drill" => self.drill().await,
            "Register" => self.register().await,
            other => Err(Error::new(
                ErrorKind::Internal,
                format!("this release knows no jobs of operation '{other}'"),
            )),
        };
        done.unwrap_or_else(|error| self.outcome_of(error))
    }

    /// What an error means for the job, where nothing has to be undone.
    fn outcome_of(&self, error: Error) -> Outcome {
        match self.held.stopped() {
            Some(Stop::Lost) => Outcome::Lost,
            Some(Stop::Paused) => Outcome::Paused,
            Some(Stop::Cancelled) => Outcome::Cancelled { messages: Vec::new() },
            None => Outcome::Failed { error, result: json!({}) },
        }
    }

    fn given_up(&self) -> Option<Error> {
        (self.job.interruptions >= INTERRUPTIONS_MAX).then(|| {
            let message = format!(
                "given up: the server stopped {} times during this {}; look into its log for the reason",
                self.job.interruptions,
                self.job.operation.to_lowercase()
            );
            Error::new(ErrorKind::Internal, message)
        })
    }

    async fn open_store(&self) -> Result<Store> {
        let row = self.inner.store_row(&self.job.store).await?;
        self.inner.open_store(&row).await
    }

    /// The store behind this job's lease.
    fn guarded(&self, store: &Store) -> Store {
        store.with_storage(Arc::new(Guarded::new(store.storage().clone(), self.held.clone())))
    }

    async fn backup(&self) -> Result<Outcome> {
        let ready = match self.backup_task() {
            Ok(task) => self.open_store().await.map(|store| (task, store)),
            Err(error) => Err(error),
        };
        let (task, store) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                self.thaw("after_backup", |component| component.after_backup()).await;
                return Err(error);
            }
        };
        if self.held.stopped() == Some(Stop::Cancelled) {
            return Ok(self.undo_backup(&store, task, None).await);
        }
        if let Some(error) = self.given_up() {
            return match self.committed(&store).await? {
                Some(view) => Ok(backup_completed(&view)),
                None => Ok(self.undo_backup(&store, task, Some(error)).await),
            };
        }
        let (guarded, held, stages) = (self.guarded(&store), self.held.clone(), self.stages.clone());
        let (run, store_name) = (task.clone(), self.job.store.clone());
        let done = blocking(move || {
            let entry = work::run_backup(&guarded, &run, &held.control, &*stages)?;
            Ok(entry.view(&store_name))
        })
        .await;
        match (done, self.held.stopped()) {
            (_, Some(Stop::Lost)) => Ok(Outcome::Lost),
            // Complete all the same, unless somebody was promised that it would not be.
            (_, Some(Stop::Cancelled)) => Ok(self.undo_backup(&store, task, None).await),
            (Ok(view), _) if self.settle().await => Ok(backup_completed(&view)),
            (Ok(_), _) => Ok(self.undo_backup(&store, task, None).await),
            (Err(_), Some(Stop::Paused)) => Ok(Outcome::Paused),
            (Err(error), None) => Ok(self.undo_backup(&store, task, Some(error)).await),
        }
    }

    fn backup_task(&self) -> Result<BackupTask> {
        let settings = &self.inner.settings;
        Ok(BackupTask {
            job_id: self.job.id.clone(),
            server_id: self.inner.server_id.clone(),
            username: self.job.username.clone(),
            name: self.job.backup.clone(),
            store_name: self.job.store.clone(),
            description: text(&self.job.parameters, "description"),
            retention_date: self.job.parameters["retentionDate"].as_i64().unwrap_or(-1),
            passcode: self.inner.passcode_of(&self.job)?,
            components: settings.components.clone(),
            site_name: settings.site_name.clone(),
            release: RELEASE.to_owned(),
            schedule_type: schedule_type(&self.job.parameters),
            compression: settings.compression,
            cost: settings.cost,
        })
    }

    /// The backup that this job made, if it came that far before it was interrupted.
    async fn committed(&self, store: &Store) -> Result<Option<BackupView>> {
        let (store, job) = (store.clone(), self.job.clone());
        blocking(move || {
            let view = store.backup(&job.backup)?.map(|entry| entry.view(&job.store));
            Ok(view.filter(|view| view.job_id == job.id))
        })
        .await
    }

    /// From here on a complete backup stays and its job cannot be cancelled. False if somebody was told before that it
    /// is being cancelled.
    async fn settle(&self) -> bool {
        let (state, lease) = (&self.inner.state, &self.held.lease);
        if !matches!(state.set_phase(lease, COMMITTED, now_ms()).await, Ok(false)) {
            return true;
        }
        match state.job(&lease.job_id).await {
            Ok(Some(job)) => job.status != JobStatus::Cancelling || job.lease_token != lease.token,
            _ => true,
        }
    }

    /// Runs the hooks that end what a killed run of this job may have begun, where no other step does.
    async fn thaw(
        &self,
        hooks: &'static str,
        run: impl Fn(&dyn Component) -> components::Result<()> + Send + 'static,
    ) {
        if self.job.lease_token <= 1 {
            return;
        }
        let components = self.inner.settings.components.clone();
        let done = blocking(move || {
            for component in &components {
                if let Err(error) = run(component.as_ref()) {
                    tracing::warn!(component = component.name(), hooks, "a hook failed: {error}");
                }
            }
            Ok(())
        });
        if let Err(error) = done.await {
            tracing::warn!(job = %self.job.id, hooks, "hooks were not run: {error}");
        }
    }

    /// Takes away whatever a backup left; `error` is why it failed, `None` if it was cancelled.
    async fn undo_backup(&self, store: &Store, task: BackupTask, error: Option<Error>) -> Outcome {
        let committed = self.committed(store).await.unwrap_or(None).is_some();
        let storage = Guarded::new(store.storage().clone(), Arc::new(Undo(self.held.clone())));
        let undone = store.with_storage(Arc::new(storage));
        let name = task.name.clone();
        let undo = blocking(move || {
            if committed {
                undone.delete_backup(&name)?;
            }
            work::undo_backup(&undone, &task)
        })
        .await;
        match self.held.stopped() {
            Some(Stop::Lost) => return Outcome::Lost,
            Some(Stop::Paused) => return Outcome::Paused,
            _ => {}
        }
        let mut messages = Vec::new();
        if let Err(failed) = undo {
            tracing::warn!(job = %self.job.id, "traces of a backup left in the store: {failed}");
            messages.push(format!("not everything could be tidied up; that is done later: {failed}"));
        }
        match error {
            None => Outcome::Cancelled { messages },
            Some(mut error) => {
                if error.kind == ErrorKind::NoSpace {
                    // What it had stored was given up, and no grace time applies to that.
                    let inner = self.inner.clone();
                    tokio::spawn(async move { inner.reclaim_all().await });
                }
                error.details.extend(messages);
                Outcome::Failed { error, result: json!({}) }
            }
        }
    }

    async fn restore(&self) -> Result<Outcome> {
        let components = self.inner.settings.components.clone();
        let selection = targets::selection_of(&self.job)?;
        if self.job.lease_token > 1
            && let Some(outcome) = self.resume_restore(&components, &selection).await?
        {
            return Ok(outcome);
        }
        if self.held.stopped() == Some(Stop::Cancelled) {
            self.end_killed_restore().await;
            return Ok(Outcome::Cancelled { messages: Vec::new() });
        }
        if let Some(error) = self.given_up() {
            self.end_killed_restore().await;
            return Ok(Outcome::Failed { error, result: json!({}) });
        }
        let (task, store) = match self.prepare_restore(components, selection).await {
            Ok(ready) => ready,
            Err(error) => {
                self.thaw("after_restore", |component| component.after_restore()).await;
                return Err(error);
            }
        };
        let (held, stages, inner) = (self.held.clone(), self.stages.clone(), self.inner.clone());
        let runtime = tokio::runtime::Handle::current();
        let done = blocking(move || {
            let before_swap = || runtime.block_on(begin_changing(&inner, &held));
            work::run_restore(&store, &task, &held.control, &*stages, &before_swap)
        })
        .await?;
        Ok(Outcome::Completed {
            result: json!({
                "bytesRead": done.bytes, "bytesReused": done.bytes_reused, "filesTotal": done.files,
                "warnings": done.warnings,
            }),
            messages: Vec::new(),
        })
    }

    /// After a kill: finishes or undoes what this restore had begun. `None`: it is to be run again.
    async fn resume_restore(
        &self,
        components: &[Arc<dyn Component>],
        selection: &Selection,
    ) -> Result<Option<Outcome>> {
        let (id, swapping) = (self.job.id.clone(), self.job.phase == CHANGING);
        let (parts, selected) = (components.to_vec(), selection.clone());
        let finished = blocking(move || work::recover_restore(&id, &parts, &selected, swapping)).await?;
        if let Some(error) = targets::gone(&self.job, components) {
            // What may be left there is tried again at each start, until its component is configured again.
            self.inner.state.set_phase(&self.job.lease(), CHANGING, now_ms()).await?;
            self.end_killed_restore().await;
            return Ok(Some(Outcome::Failed { error, result: json!({}) }));
        }
        if finished {
            self.clear_restore_lock().await;
            return Ok(Some(Outcome::Completed { result: json!({"warnings": []}), messages: Vec::new() }));
        }
        // What was begun is undone: from here on the restore can be cancelled again.
        if swapping {
            self.inner.state.set_phase(&self.job.lease(), "", now_ms()).await?;
        }
        Ok(None)
    }

    /// All that a restore needs, and nothing in its way.
    async fn prepare_restore(
        &self,
        components: Vec<Arc<dyn Component>>,
        selection: Selection,
    ) -> Result<(RestoreTask, Store)> {
        self.inner.clear_the_way(&selected_components(&components, &selection)).await?;
        let task = self.restore_task(components, selection)?;
        Ok((task, self.guarded(&self.open_store().await?)))
    }

    /// A killed restore that is not run again: its lock goes, and what its hooks stopped runs again.
    async fn end_killed_restore(&self) {
        self.clear_restore_lock().await;
        self.thaw("after_restore", |component| component.after_restore()).await;
    }

    fn restore_task(&self, components: Vec<Arc<dyn Component>>, selection: Selection) -> Result<RestoreTask> {
        Ok(RestoreTask {
            job_id: self.job.id.clone(),
            name: self.job.backup.clone(),
            store_name: self.job.store.clone(),
            passcode: self.inner.passcode_of(&self.job)?,
            components,
            selection,
        })
    }

    /// For a restore that is not run again: takes away the lock that it may have left when the server was killed.
    async fn clear_restore_lock(&self) {
        if self.job.lease_token <= 1 {
            return;
        }
        let task = self.restore_task(Vec::new(), Selection::default());
        let done = match (task, self.open_store().await) {
            (Ok(task), Ok(store)) => {
                let store = self.guarded(&store);
                blocking(move || {
                    work::clear_after_restore(&store, &task);
                    Ok(())
                })
                .await
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        if let Err(error) = done {
            tracing::warn!(job = %self.job.id, "the vault was not looked at for a lock of this restore: {error}");
        }
    }

    async fn delete(&self) -> Result<Outcome> {
        let gate = self.inner.gates.of(&self.job.store);
        let _alone = gate.lock().await;
        let row = self.inner.store_row(&self.job.store).await?;
        self.inner.delete_now(&row, &self.job.backup).await?;
        Ok(Outcome::Completed { result: json!({"status": "success"}), messages: Vec::new() })
    }

    async fn validate(&self) -> Result<Outcome> {
        if let Some(error) = self.given_up() {
            return Err(error);
        }
        let passcode = self.inner.passcode_of(&self.job)?;
        let store = self.guarded(&self.open_store().await?);
        let (name, held) = (self.job.backup.clone(), self.held.clone());
        let checked =
            blocking(move || work::verify_backup(&store, &name, Some(&passcode), true, &held.control)).await;
        let details = match checked {
            Ok(report) => findings(&report),
            Err(error) if error.kind == ErrorKind::Damaged => vec![error.message],
            Err(error) => return Err(error),
        };
        if details.is_empty() {
            let result = json!({"status": "success", "isReady": true});
            return Ok(Outcome::Completed { result, messages: Vec::new() });
        }
        let message = format!("Backup '{}' of store '{}' is damaged.", self.job.backup, self.job.store);
        let result = json!({"status": "failed", "isReady": false, "details": details});
        let mut error = Error::new(ErrorKind::Damaged, message);
        error.details = details;
        Ok(Outcome::Failed { error, result })
    }

    async fn drill(&self) -> Result<Outcome> {
        if let Some(error) = self.given_up() {
            return Err(error);
        }
        let with_passcode = self.job.parameters["withPasscode"].as_bool().unwrap_or(false);
        let task = DrillTask {
            job_id: self.job.id.clone(),
            server_id: self.inner.server_id.clone(),
            name: self.job.backup.clone(),
            store_name: self.job.store.clone(),
            passcode: with_passcode.then(|| self.inner.passcode_of(&self.job)).transpose()?,
            components: self.inner.settings.components.clone(),
            directory: self.inner.settings.drill_directory.clone(),
        };
        let store = self.guarded(&self.open_store().await?);
        let (held, stages) = (self.held.clone(), self.stages.clone());
        let report = blocking(move || work::run_drill(&store, &task, &held.control, &*stages)).await?;
        let result = crate::drills::job_result(&report);
        let warnings = self.held.control.warnings().into_iter().take(MESSAGES_MAX);
        let messages: Vec<String> =
            warnings.map(|warning| format!("{}: {}", warning.item, warning.reason)).collect();
        if report.failures.is_empty() {
            return Ok(Outcome::Completed { result, messages });
        }
        let message =
            format!("Backup '{}' of store '{}' did not stand its drill.", self.job.backup, self.job.store);
        let mut error = Error::new(ErrorKind::Damaged, message);
        error.details = report.failures;
        error.details.extend(messages);
        Ok(Outcome::Failed { error, result })
    }

    async fn register(&self) -> Result<Outcome> {
        let wanted = from_job(&self.job, || self.inner.passcode_of(&self.job))?;
        let root = text(&self.job.parameters, "root");
        let view = match self.inner.register(wanted).await {
            // Registered just before the server was interrupted.
            Err(error) if error.kind == ErrorKind::StoreExists && self.job.lease_token > 1 => {
                let row = self.inner.store_row(&self.job.store).await?;
                if row.root_dir == root { row.view() } else { return Err(error) }
            }
            other => other?,
        };
        Ok(Outcome::Completed { result: registered(&view), messages: Vec::new() })
    }

    /// Writes the end of the job, again and again if the state database refuses; a job is never left open
    /// because its disk was full for a while.
    async fn conclude(&self, outcome: Outcome) {
        loop {
            if self.inner.runner.is_killed() {
                return;
            }
            match self.write_end(&outcome).await {
                Ok(true) => return,
                Ok(false) => {
                    tracing::warn!(job = %self.job.id, "the lease was lost before the job's end could be written");
                    return;
                }
                Err(error) => {
                    tracing::error!(job = %self.job.id, "the job's end could not be written: {error}")
                }
            }
            if self.inner.runner.is_stopping() {
                return;
            }
            tokio::time::sleep(RETRY_TIME).await;
        }
    }

    async fn write_end(&self, outcome: &Outcome) -> Result<bool> {
        let (state, lease, now) = (&self.inner.state, &self.held.lease, now_ms());
        let (status, messages, result) = match outcome {
            Outcome::Paused => return state.release_lease(lease, None, now).await,
            Outcome::Lost => {
                let message = format!("the lease on this job was lost; it went on at {}", clock::text(now));
                return state.release_lease(lease, Some(&message), now).await;
            }
            Outcome::Completed { result, messages } => (JobStatus::Completed, messages.clone(), result),
            Outcome::Failed { error, result } => {
                let mut messages = vec![error.message.clone()];
                messages.extend(error.details.iter().cloned());
                (JobStatus::Failed, messages, result)
            }
            Outcome::Cancelled { messages } => {
                let why = self.held.reason.get().cloned();
                let mut all = vec![why.unwrap_or_else(|| "cancelled".to_owned())];
                all.extend(messages.iter().cloned());
                (JobStatus::Cancelled, all, &Value::Null)
            }
        };
        let result = with_state(result, status);
        let stages = self.stages.ended(status);
        let mut finish = Finish { status, messages, stages, result: Some(result), notice: None };
        finish.notice = self.inner.notice_of_job(&self.job, &finish, self.held.reason.get().is_some());
        let written = state.finish_job(lease, &finish, now).await?;
        if written {
            self.inner.bell.ring();
            tracing::info!(
                job = %self.job.id, ?status, request = %self.job.request_id,
                "job ended: {}", finish.messages.first().map_or("done", String::as_str)
            );
        }
        Ok(written)
    }
}

fn selected_components(components: &[Arc<dyn Component>], selection: &Selection) -> Vec<Arc<dyn Component>> {
    let chosen = |part: &&Arc<dyn Component>| selection.source(part.kind(), part.name()).is_some();
    components.iter().filter(chosen).cloned().collect()
}

/// Cancels a backup that takes longer than the settings allow, counted from when this server began to work on it: time
/// that it was down is not the backup's. The settings of that time count.
async fn limit_time(inner: Arc<Inner>, job: JobRow, held: Arc<Held>) {
    if job.operation != "Backup" {
        return;
    }
    let seconds = match inner.disaster_settings().await {
        Ok(settings) if settings.timeout_in_seconds > 0 => settings.timeout_in_seconds,
        Ok(_) => return,
        Err(error) => {
            tracing::error!(job = %job.id, "it has no time limit, as the settings cannot be read: {error}");
            return;
        }
    };
    tokio::time::sleep(std::time::Duration::from_secs(seconds.unsigned_abs())).await;
    if held.stopped().is_some() {
        return;
    }
    match inner.state.cancel_job(&job.id, now_ms()).await {
        Ok(Cancel::Cancelling) => {
            let why = format!(
                "cancelled: it took longer than the {seconds} seconds that 'timeoutInSeconds' of the settings of \
                 disaster recovery allows; set it higher, or to 0 for no limit"
            );
            tracing::warn!(job = %job.id, "{why}");
            let _ = held.reason.set(why);
            held.stop(Stop::Cancelled);
        }
        Ok(_) => {}
        Err(error) => {
            tracing::error!(job = %job.id, "it is over its time and could not be cancelled: {error}")
        }
    }
}

/// From here on a restore changes its target and can no longer be cancelled.
async fn begin_changing(inner: &Inner, held: &Held) -> Result<()> {
    let refused = |kind, why: &str| Error::new(kind, format!("the restore changes nothing: {why}"));
    match held.stopped() {
        Some(Stop::Lost) => return Err(refused(ErrorKind::LeaseLost, "the lease on its job is lost")),
        Some(Stop::Paused) => return Err(refused(ErrorKind::Cancelled, "the server is stopping")),
        Some(Stop::Cancelled) => return Err(refused(ErrorKind::Cancelled, "it was cancelled")),
        None => {}
    }
    if inner.state.set_phase(&held.lease, CHANGING, now_ms()).await? {
        return Ok(());
    }
    Err(refused(ErrorKind::Cancelled, "it was cancelled, or its lease is lost"))
}

fn backup_completed(view: &BackupView) -> Outcome {
    let state = if view.status == "completed_with_warnings" { "completed_with_warnings" } else { "success" };
    let result = json!({
        "state": state, "bytesRead": view.bytes_read, "bytesAdded": view.bytes_added,
        "filesTotal": view.files_total, "warnings": view.warnings,
    });
    let shown = view
        .warnings
        .iter()
        .take(MESSAGES_MAX)
        .map(|warning| format!("{}: {}", warning.item, warning.reason));
    Outcome::Completed { result, messages: shown.collect() }
}

/// The reply of a synchronous registration.
fn registered(view: &StoreView) -> Value {
    json!({
        "status": "success", "name": view.name, "default": view.default, "type": view.kind,
        "rootDir": view.root_dir, "storageConfig": view.storage_config,
    })
}

/// The result with its `state`, where the work has not set one.
fn with_state(result: &Value, status: JobStatus) -> Value {
    let mut result = if result.is_object() { result.clone() } else { json!({}) };
    let state = match status {
        JobStatus::Completed => "success",
        JobStatus::Cancelled => "cancelled",
        _ => "failed",
    };
    if let Some(object) = result.as_object_mut() {
        object.entry("state").or_insert_with(|| json!(state));
    }
    result
}
