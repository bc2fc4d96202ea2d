//! What needs somebody: each look at a part of the deployment adds what it finds, with what to do.

use std::time::Duration;

use super::{Overview, TaskRuns};
use crate::keys::{KEY_ENDED_MS, KEY_ENDS_SOON_MS, KeyView};
use crate::tasks::is_late;
use crate::{EventKind, RunStatus, RunView, TaskKind, clock};

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

#[derive(Default)]
pub(super) struct Needs(pub(super) Vec<Need>);

impl Needs {
    pub(super) fn alarm(&mut self, place: NeedPlace, text: String) {
        self.0.push(Need { severity: Severity::Alarm, text, place, cause: None });
    }

    pub(super) fn warn(&mut self, place: NeedPlace, text: String) {
        self.0.push(Need { severity: Severity::Warning, text, place, cause: None });
    }

    /// The last one is told outside as well.
    fn told_as(&mut self, event: EventKind, since: Option<i64>) {
        if let Some(need) = self.0.last_mut() {
            need.cause = Some(Cause { event, since });
        }
    }

    /// A server that is started anew is away for a moment, and that is nothing to tell.
    pub(super) fn look_at_logs(&mut self, overview: &Overview) {
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

    pub(super) fn look_at_stores(&mut self, overview: &Overview) {
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
    pub(super) fn look_at_keys(&mut self, keys: &[KeyView], now: i64) {
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
    pub(super) fn look_at_drills(&mut self, overview: &Overview) {
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

    pub(super) fn look_at_tasks(&mut self, tasks: &[TaskRuns], now: i64) {
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
    use std::sync::Arc;
    use std::time::SystemTime;

    use components::LogState;

    use super::*;
    use crate::overview::{StoreOverview, TaskRuns};
    use crate::{DrillReport, KeyScope, Role, StoreView, TaskView};

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

    fn nothing(now: i64) -> Overview {
        Overview {
            now,
            stores: Vec::new(),
            tasks: Vec::new(),
            targets: Vec::new(),
            is_read_only: false,
            running: None,
            restored: None,
            logs: Vec::new(),
            needs: Vec::new(),
        }
    }

    #[test]
    fn a_log_that_does_not_arrive_is_alarming_after_five_minutes() {
        let told = |seconds| {
            let since = SystemTime::now() - Duration::from_secs(seconds);
            let failing = LogState { failure: Some(("refused".to_owned(), since)), ..LogState::default() };
            let logs = vec![("fine".to_owned(), LogState::default()), ("gis".to_owned(), failing)];
            let mut needs = Needs::default();
            needs.look_at_logs(&Overview { logs, ..nothing(0) });
            needs.0
        };
        assert_eq!(told(240), []);
        let late = told(360);
        assert!(late.len() == 1 && late[0].severity == Severity::Alarm, "{late:?}");
        assert!(late[0].text.contains("'gis' does not arrive: refused"), "{late:?}");
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
        let overview = Overview { stores, tasks, ..nothing(now) };
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
