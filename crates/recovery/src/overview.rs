//! The deployment at one look: is it protected, when was the last good backup, how long would recovery take, what needs
//! somebody now.
//!
//! What is said of backups is reckoned from the stores themselves, not from what this server remembers of having made
//! them; so it is right on a new server, and after one that slept for a month.

mod needs;

use std::sync::Arc;
use std::time::Duration;

use components::LogState;
use futures_util::future::join_all;

use crate::looks::Seen;

use crate::backups::newest_first;
use crate::clock::now_ms;
use crate::keys::KeyView;
use crate::recovery::{Inner, blocking};
use crate::state::StoreRow;
use crate::{
    BackupView, Component, DrillReport, JobStatus, JobView, Result, RunView, StoreView, TargetView, TaskKind,
    TaskView,
};

/// A look at the deployment waits so long for a store.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);

use needs::Needs;
pub use needs::{Cause, Need, NeedPlace, Severity};

/// One store at a look.
#[derive(Clone, Debug)]
pub struct StoreOverview {
    /// The store.
    pub store: StoreView,
    /// Why it is out of reach, if it is.
    pub problem: Option<String>,
    /// Its complete backups.
    pub backups: usize,
    /// The newest of them without warnings.
    pub newest: Option<Arc<BackupView>>,
    /// Free room, where the place knows it.
    pub free_bytes: Option<u64>,
    /// The last drill that restored a backup of it and found everything right.
    pub proven: Option<Arc<DrillReport>>,
    /// The last drill, where it failed.
    pub failed_drill: Option<Arc<DrillReport>>,
}

/// A restore that was carried out, as a measure of the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredRestore {
    /// Its job.
    pub job_id: String,
    /// When it ended.
    pub ended: i64,
    /// How long it took, in milliseconds.
    pub took_ms: i64,
}

/// What monitoring asks of the jobs that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFigures {
    /// How many, by operation and status.
    pub counts: Vec<(String, String, i64)>,
    /// How long the last completed one ran, in milliseconds, by operation: without the time that it waited for its turn,
    /// or for the server to be there again.
    pub last_durations: Vec<(String, i64)>,
    /// When every byte of a backup was last verified, by store.
    pub last_verified: Vec<(String, i64)>,
}

/// The deployment at one look.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The time of the look.
    pub now: i64,
    /// All stores by name.
    pub stores: Vec<StoreOverview>,
    /// All tasks, oldest first, each with what became of it last.
    pub tasks: Vec<TaskRuns>,
    /// Who is told of what happens, and whether that arrives.
    pub targets: Vec<TargetView>,
    /// Whether somebody made this server read-only.
    pub is_read_only: bool,
    /// The backup or restore that runs.
    pub running: Option<JobView>,
    /// The last restore that was carried out.
    pub restored: Option<MeasuredRestore>,
    /// Of each component whose log is received: its name, and how that goes.
    pub logs: Vec<(String, LogState)>,
    /// What needs somebody, the worst first.
    pub needs: Vec<Need>,
}

impl Overview {
    /// The newest complete backup without warnings in any store.
    pub fn last_good(&self) -> Option<&BackupView> {
        self.stores.iter().filter_map(|store| store.newest.as_deref()).max_by_key(|backup| backup.start_time)
    }

    /// The last drill in any store that proved a backup, and the name of that store.
    pub fn last_proven(&self) -> Option<(&str, &DrillReport)> {
        let proven = self
            .stores
            .iter()
            .filter_map(|store| Some((store.store.name.as_str(), store.proven.as_deref()?)));
        proven.max_by_key(|(_, report)| report.end_time)
    }

    /// The schedule that makes the next backup.
    pub fn next_backup(&self) -> Option<&TaskView> {
        let tasks = self.tasks.iter().map(|state| &state.task);
        let backups = tasks.filter(|task| task.kind == TaskKind::CreateBackup && task.next_run >= 0);
        backups.min_by_key(|task| task.next_run)
    }

    /// Whether a disaster now would find everything protected.
    pub fn is_protected(&self) -> bool {
        self.needs.iter().all(|need| need.severity < Severity::Alarm)
    }
}

/// A task and what became of it last.
#[derive(Clone, Debug)]
pub struct TaskRuns {
    /// The task.
    pub task: TaskView,
    /// The last run that ended.
    pub last_ended: Option<RunView>,
    /// The last run that succeeded.
    pub last_good: Option<RunView>,
    /// Why it cannot run, if it cannot.
    pub obstacle: Option<String>,
}

impl Inner {
    pub async fn overview(self: &Arc<Self>) -> Result<Overview> {
        let now = now_ms();
        let mut looks = Vec::new();
        for row in self.state.stores().await? {
            looks.push(self.look_at(row));
        }
        let stores = join_all(looks).await;
        let last_job = self.last_operation().await?;
        let mut overview = Overview {
            now,
            running: last_job.clone().filter(|job| job.end_time == 0),
            restored: self.state.last_restore().await?.map(|job| MeasuredRestore {
                took_ms: job.ended_at - job.submitted_at,
                ended: job.ended_at,
                job_id: job.id,
            }),
            tasks: self.tasks_with_last_runs().await?,
            targets: self.targets().await?,
            is_read_only: self.mode().await?.is_read_only,
            logs: self.logs(),
            needs: Vec::new(),
            stores,
        };
        overview.needs = self.needs(&overview, last_job.as_ref(), &self.state.keys().await?);
        Ok(overview)
    }

    async fn tasks_with_last_runs(&self) -> Result<Vec<TaskRuns>> {
        self.settle_runs(now_ms()).await?;
        let mut all = Vec::new();
        for (task, obstacle) in self.tasks_and_obstacles().await? {
            let last_ended = self.state.last_run(&task.id, false).await?;
            let last_good = self.state.last_run(&task.id, true).await?;
            all.push(TaskRuns { task, last_ended, last_good, obstacle });
        }
        Ok(all)
    }

    /// Looks into a store, or waits for the look that is on its way. One that takes long shows what was seen before.
    async fn look_at(self: &Arc<Self>, row: StoreRow) -> StoreOverview {
        let empty = StoreOverview {
            store: row.view(),
            problem: None,
            backups: 0,
            newest: None,
            free_bytes: None,
            proven: None,
            failed_drill: None,
        };
        let look = self.looks.of(&row.name);
        let finished = look.begin_or_join(|| {
            let inner = self.clone();
            async move { inner.look_into(&row).await.map_err(|error| error.message) }
        });
        let seen = tokio::time::timeout(LOOK_TIME_MAX, finished).await.ok().or_else(|| look.last());
        match seen {
            Some(Ok(seen)) => StoreOverview {
                backups: seen.backups,
                newest: seen.newest,
                free_bytes: seen.free_bytes,
                proven: seen.proven,
                failed_drill: seen.failed_drill,
                ..empty
            },
            Some(Err(problem)) => StoreOverview { problem: Some(problem), ..empty },
            None => {
                let why = format!("It has not answered for {} s.", look.since().as_secs());
                StoreOverview { problem: Some(why), ..empty }
            }
        }
    }

    async fn look_into(&self, row: &StoreRow) -> Result<Seen> {
        let active = self.state.active_jobs().await?;
        let store = self.open_store(row).await?;
        let look = self.look_at_catalogue(row, &store).await?;
        let (free_bytes, (proven, failed_drill)) = blocking(move || {
            let free = store.storage().free_space().unwrap_or(None);
            Ok((free, store.last_drills()?))
        })
        .await?;
        let backups = self.with_jobs(row, &active, &look.backups);
        let good = backups.iter().filter(|backup| backup.status == "completed");
        Ok(Seen {
            backups: backups.iter().filter(|backup| backup.is_complete()).count(),
            newest: good.min_by(|a, b| newest_first(a, b)).cloned(),
            free_bytes,
            proven: proven.map(Arc::new),
            failed_drill: failed_drill.map(Arc::new),
        })
    }

    fn logs(&self) -> Vec<(String, LogState)> {
        let of = |component: &Arc<dyn Component>| Some((component.name().to_owned(), component.log_state()?));
        self.settings.components.iter().filter_map(of).collect()
    }

    fn needs(&self, overview: &Overview, last_job: Option<&JobView>, keys: &[KeyView]) -> Vec<Need> {
        let mut needs = Needs::default();
        if self.settings.components.is_empty() {
            let text = "Nothing is protected: the configuration names no component.";
            needs.alarm(NeedPlace::Configuration, text.to_owned());
        }
        needs.look_at_stores(overview);
        needs.look_at_tasks(&overview.tasks, overview.now);
        needs.look_at_drills(overview);
        needs.look_at_logs(overview);
        for target in overview.targets.iter().filter(|target| target.is_given_up) {
            let text = format!(
                "Notifications do not reach '{}' ({}): {}",
                target.name, target.place, target.last_error
            );
            needs.alarm(NeedPlace::Notifications, text);
        }
        if let Some(job) = last_job.filter(|job| job.status == JobStatus::Failed) {
            let why = job.messages.first().map_or("", String::as_str);
            let text = format!("The last {} ('{}') failed: {why}", job.operation.to_lowercase(), job.backup);
            needs.warn(NeedPlace::Job(job.id.clone()), text);
        }
        needs.look_at_keys(keys, overview.now);
        if overview.is_read_only {
            let text = "The server is read-only: expired backups stay, and nothing can be restored.";
            needs.warn(NeedPlace::Mode, text.to_owned());
        }
        needs.0.sort_by_key(|need| std::cmp::Reverse(need.severity));
        needs.0
    }
}
