//! The deployment at one look: is it protected, when was the last good backup, how long would recovery take, what needs
//! somebody now.
//!
//! What is said of backups is reckoned from the stores themselves, not from what this server remembers of having made
//! them; so it is right on a new server, and after one that slept for a month.

use std::sync::Arc;
use std::time::Duration;

use components::LogState;
use futures_util::future::join_all;

use crate::looks::Seen;

use crate::backups::newest_first;
use crate::clock::{self, now_ms};
use crate::keys::{KEY_ENDED_MS, KEY_ENDS_SOON_MS, KeyView};
use crate::recovery::{Inner, blocking};
use crate::state::StoreRow;
use crate::tasks::is_late;
use crate::{
    BackupView, Component, DrillReport, EventKind, JobStatus, JobView, Result, RunStatus, RunView, StoreView,
    TargetView, TaskKind, TaskView,
};

/// A look at the deployment waits so long for a store.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);

/// A log that does not arrive for so long is alarming.
const LOG_PATIENCE: Duration = Duration::from_secs(300);

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Somebody should look at it.
    Warning,
    /// A disaster now would cost what ought to be protected.
    Alarm,
}

/// One thing that needs somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, and what to do.
    pub text: String,
    /// Where to go.
    pub place: NeedPlace,
    /// For what is told outside as well.
    pub cause: Option<Cause>,
}

/// A need that is told outside as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cause {
    /// As what.
    pub event: EventKind,
    /// Since when it is so, where that is known: while that stays the same, it is the same need.
    pub since: Option<i64>,
}

/// What a need is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeedPlace {
    /// The list of stores, or what can be done there.
    Stores,
    /// One store.
    Store(String),
    /// The list of tasks.
    Tasks,
    /// One task.
    Task(String),
    /// One job.
    Job(String),
    /// The targets of notifications.
    Notifications,
    /// The mode.
    Mode,
    /// The API keys, which administrators see.
    Keys,
    /// The configuration file.
    Configuration,
}

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

#[derive(Default)]
struct Needs(Vec<Need>);

impl Needs {
    fn alarm(&mut self, place: NeedPlace, text: String) {
        self.0.push(Need { severity: Severity::Alarm, text, place, cause: None });
    }

    fn warn(&mut self, place: NeedPlace, text: String) {
        self.0.push(Need { severity: Severity::Warning, text, place, cause: None });
    }

    /// The last one is told outside as well.
    fn told_as(&mut self, event: EventKind, since: Option<i64>) {
        if let Some(need) = self.0.last_mut() {
            need.cause = Some(Cause { event, since });
        }
    }

    /// A server that is started anew is away for a moment, and that is nothing to tell.
    fn look_at_logs(&mut self, overview: &Overview) {
        for (name, state) in &overview.logs {
            let Some((why, since)) = &state.failure else { continue };
            if since.elapsed().unwrap_or_default() < LOG_PATIENCE {
                continue;
            }
            let text = format!(
                "The write-ahead log of '{name}' does not arrive: {why}. Its server keeps it meanwhile and needs more and more room."
            );
            self.alarm(NeedPlace::Configuration, text);
        }
    }

    fn look_at_stores(&mut self, overview: &Overview) {
        if overview.stores.is_empty() {
            self.alarm(NeedPlace::Stores, "There is no backup store: register one.".to_owned());
            return;
        }
        for store in &overview.stores {
            let name = &store.store.name;
            if let Some(problem) = &store.problem {
                self.alarm(
                    NeedPlace::Store(name.clone()),
                    format!("Store '{name}' is out of reach: {problem}"),
                );
                continue;
            }
            if let Some(report) = &store.failed_drill {
                let why = report.failures.first().map_or("", String::as_str);
                let text = format!(
                    "The last drill in store '{name}' failed: backup '{}' could not be restored as it was: {why}",
                    report.backup
                );
                self.warn(NeedPlace::Store(name.clone()), text);
            }
            if let (Some(free), Some(newest)) = (store.free_bytes, &store.newest)
                && free < newest.bytes_added
            {
                let text = format!(
                    "Store '{name}' has {free} bytes of room left, less than the last backup '{}' added.",
                    newest.name
                );
                self.warn(NeedPlace::Store(name.clone()), text);
                self.told_as(EventKind::StoreLow, None);
            }
        }
        if overview.last_good().is_none() {
            let text = if overview.stores.iter().any(|store| store.backups > 0) {
                "Every backup lacks something: look at the warnings of the newest one."
            } else if overview.stores.iter().any(|store| store.problem.is_some()) {
                "No store that can be reached holds a complete backup."
            } else {
                "There is no backup yet: create one."
            };
            self.alarm(NeedPlace::Stores, text.to_owned());
        }
    }

    /// One line for all keys that end soon or ended lately, the first one by name.
    fn look_at_keys(&mut self, keys: &[KeyView], now: i64) {
        let left = |key: &&KeyView| key.expires_at - now;
        let told = -KEY_ENDED_MS..=KEY_ENDS_SOON_MS;
        let soon: Vec<&KeyView> = keys.iter().filter(|key| told.contains(&left(key))).collect();
        let Some(first) = soon.iter().copied().min_by_key(left) else { return };
        let (name, end) = (&first.name, clock::text(first.expires_at));
        let ends = if left(&first) > 0 { "ends" } else { "ended" };
        let text = match soon.len() {
            1 => format!("API key '{name}' {ends} at {end}: make another one for the program that uses it."),
            count if left(&first) > 0 => {
                format!("{count} API keys end within 14 days, '{name}' first, at {end}: make others.")
            }
            count => {
                format!(
                    "{count} API keys end within 14 days or ended, '{name}' first, at {end}: make others."
                )
            }
        };
        self.warn(NeedPlace::Keys, text);
    }

    /// Drills by schedule that prove nothing: told by the reports in the stores, not by what this server remembers of its runs.
    fn look_at_drills(&mut self, overview: &Overview) {
        let drills = |state: &&TaskRuns| {
            let task = &state.task;
            task.kind == TaskKind::RecoveryDrill
                && task.active
                && task.has_passcode
                && state.obstacle.is_none()
        };
        for TaskRuns { task, .. } in overview.tasks.iter().filter(drills) {
            let meant = &task.parameters.store_name;
            for store in overview.stores.iter().filter(|store| store.backups > 0) {
                let (name, proven) = (&store.store.name, store.proven.as_ref().map(|report| report.end_time));
                let since = proven.unwrap_or(0).max(task.updated);
                if (!meant.is_empty() && meant != name) || !is_late(task, since, overview.now) {
                    continue;
                }
                let last = proven.map_or("never yet".to_owned(), clock::text);
                let text = format!(
                    "Schedule '{}' proves no backup of store '{name}'; the last proven restore: {last}.",
                    task.title
                );
                self.warn(NeedPlace::Task(task.id.clone()), text);
            }
        }
    }

    fn look_at_tasks(&mut self, tasks: &[TaskRuns], now: i64) {
        let is_backup = |state: &&TaskRuns| state.task.kind == TaskKind::CreateBackup;
        if !tasks.iter().filter(is_backup).any(|state| state.task.active) {
            let text = "No schedule makes backups by itself: create one.";
            self.warn(NeedPlace::Tasks, text.to_owned());
        }
        for TaskRuns { task, last_ended, last_good, obstacle } in
            tasks.iter().filter(|state| state.task.active)
        {
            // What was paused or set anew has had no time yet.
            let since = last_good.as_ref().map_or(0, |run| run.ended).max(task.updated);
            let place = NeedPlace::Task(task.id.clone());
            if let Some(why) = obstacle {
                self.alarm(place, format!("Schedule '{}' does not run: {why}.", task.title));
                self.told_as(EventKind::ScheduleResting, Some(task.updated));
                continue;
            }
            if task.kind == TaskKind::CreateBackup && is_late(task, since, now) {
                let text =
                    format!("Schedule '{}' has made no backup since {}.", task.title, clock::text(since));
                self.alarm(place, text);
                self.told_as(EventKind::BackupLate, Some(since));
                continue;
            }
            let bad = |run: &&RunView| run.status != RunStatus::Succeeded;
            if let Some(run) = last_ended.as_ref().filter(bad) {
                let text =
                    format!("The last run of '{}' {}: {}", task.title, in_words(run.status), run.result);
                self.warn(place, text);
            }
        }
    }
}

fn in_words(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Skipped => "was skipped",
        RunStatus::SubmitFailed => "could not begin",
        _ => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyScope, Role};

    fn told(ends: &[(&str, i64)]) -> Option<String> {
        const DAY_MS: i64 = 86_400_000;
        let now = 1_800_000_000_000;
        let key = |&(name, days): &(&str, i64)| KeyView {
            name: name.to_owned(),
            role: Role::Viewer,
            scope: KeyScope { operations: Vec::new(), stores: Vec::new() },
            created_by: String::new(),
            created_at: 0,
            expires_at: now + days * DAY_MS,
            last_used: 0,
        };
        let mut needs = Needs::default();
        needs.look_at_keys(&ends.iter().map(key).collect::<Vec<_>>(), now);
        needs.0.pop().map(|need| need.text)
    }

    /// What is told of a daily drill of all stores, made ten days ago, of which one store was last proven then.
    fn told_of_drills(proven_days_ago: Option<i64>) -> Vec<String> {
        const DAY_MS: i64 = 86_400_000;
        let now = 1_800_000_000_000;
        let store = StoreView {
            name: "s1".to_owned(),
            default: true,
            kind: "FILESYSTEM".to_owned(),
            root_dir: String::new(),
            connection: None,
            storage_config: serde_json::Value::Null,
            identity: String::new(),
            version_created: String::new(),
        };
        let report = |days| DrillReport { end_time: now - days * DAY_MS, ..DrillReport::default() };
        let stores = vec![StoreOverview {
            store,
            problem: None,
            backups: 3,
            newest: None,
            free_bytes: None,
            proven: proven_days_ago.map(|days| Arc::new(report(days))),
            failed_drill: None,
        }];
        let every = |text: &str| text.to_owned();
        let cron = crate::CronFields {
            minute: every("0"),
            hour: every("3"),
            day_of_month: every("*"),
            month: every("*"),
            day_of_week: every("?"),
        };
        let task = TaskView {
            id: "t".to_owned(),
            title: "drill".to_owned(),
            kind: TaskKind::RecoveryDrill,
            active: true,
            generation: 1,
            owner: String::new(),
            cron,
            zone: "UTC".to_owned(),
            interval_seconds: None,
            start_date: 0,
            end_date: 0,
            max_occurrences: -1,
            occurrences: 0,
            created: 0,
            updated: now - 10 * DAY_MS,
            last_start: 0,
            next_run: now + DAY_MS,
            parameters: crate::TaskParameters::default(),
            has_passcode: true,
        };
        let tasks = vec![TaskRuns { task, last_ended: None, last_good: None, obstacle: None }];
        let overview = Overview {
            now,
            stores,
            tasks,
            targets: Vec::new(),
            is_read_only: false,
            running: None,
            restored: None,
            logs: Vec::new(),
            needs: Vec::new(),
        };
        let mut needs = Needs::default();
        needs.look_at_drills(&overview);
        needs.0.into_iter().map(|need| need.text).collect()
    }

    #[test]
    fn a_daily_drill_that_proves_nothing_for_days_is_told_of_by_what_lies_in_the_store() {
        assert_eq!(told_of_drills(Some(1)), [""; 0]);
        let late = told_of_drills(Some(30));
        assert!(
            late.len() == 1
                && late[0].contains("proves no backup of store 's1'; the last proven restore: 20"),
            "{late:?}"
        );
        assert!(told_of_drills(None)[0].ends_with("never yet."));
    }

    #[test]
    fn a_key_that_ended_is_told_of_for_a_week_and_one_that_ends_for_two() {
        assert_eq!(told(&[("far", 15), ("gone", -8)]), None);
        assert!(told(&[("far", 15), ("soon", 14)]).unwrap().starts_with("API key 'soon' ends at "));
        assert!(told(&[("gone", -8), ("ended", -1)]).unwrap().starts_with("API key 'ended' ended at "));
        let both = told(&[("soon", 3), ("ended", -7)]).unwrap();
        assert!(both.starts_with("2 API keys end within 14 days or ended, 'ended' first"), "{both}");
    }
}
