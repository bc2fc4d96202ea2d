//! The steps of a job as callers see them, in the order and by the names of the interface.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::clock::now_ms;
use crate::work::StageSink;
use crate::{BackupView, Component, JobStatus, Kind, Selection, StageView};

const KINDS: [(Kind, &str); 4] = [
    (Kind::RelationalStore, "Relational store"),
    (Kind::ObjectStore, "Object store"),
    (Kind::FileStore, "volumes"),
    (Kind::SystemConfiguration, "system configuration"),
];
const STAGES_MAX: usize = 50;

/// The stages of a backup of these components.
pub(crate) fn backup_stages(components: &[Arc<dyn Component>]) -> Vec<StageView> {
    list("Stage", "Post backup operation cleanup", |kind| components.iter().any(|part| part.kind() == kind))
}

/// The stages of a restore of the selected components of a backup.
pub(crate) fn restore_stages(backup: &BackupView, selection: &Selection) -> Vec<StageView> {
    list("Restore", "Post restore operation cleanup", |kind| {
        backup.components.iter().any(|part| part.kind == kind && selection.includes(kind, &part.name))
    })
}

/// The stages of a drill.
pub(crate) fn drill_stages(backup: &BackupView, with_passcode: bool) -> Vec<StageView> {
    list("Restore", "Drill report", |kind| {
        with_passcode && backup.components.iter().any(|part| part.kind == kind)
    })
}

fn list(verb: &str, last: &str, present: impl Fn(Kind) -> bool) -> Vec<StageView> {
    let now = now_ms();
    let stage = |name: String, state: &str| StageView {
        name,
        state: state.to_owned(),
        duration_ms: 0,
        last_updated: now,
    };
    let mut stages = vec![stage("Validation".to_owned(), "pending")];
    for (kind, noun) in KINDS {
        stages.push(stage(format!("{verb} {noun}"), if present(kind) { "pending" } else { "skipped" }));
    }
    stages.push(stage(last.to_owned(), "pending"));
    stages
}

/// The stages of one running job; the work reports into it, the progress writer reads it.
#[derive(Debug)]
pub(crate) struct Stages {
    list: Mutex<Vec<(StageView, Option<Instant>)>>,
    pub changed: Notify,
}

impl Stages {
    /// Begins with what was submitted; a job that goes on begins its stages anew.
    pub fn new(submitted: &[StageView]) -> Self {
        let fresh = |stage: &StageView| {
            let state = if stage.state == "skipped" { "skipped" } else { "pending" };
            let last_updated = now_ms();
            (
                StageView { name: stage.name.clone(), state: state.to_owned(), duration_ms: 0, last_updated },
                None,
            )
        };
        Self { list: Mutex::new(submitted.iter().map(fresh).collect()), changed: Notify::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(StageView, Option<Instant>)>> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As they are now.
    pub fn views(&self) -> Vec<StageView> {
        self.lock().iter().map(|(stage, _)| stage.clone()).collect()
    }

    /// Name of the stage at work.
    pub fn current(&self) -> String {
        let list = self.lock();
        list.iter()
            .find(|(stage, _)| stage.state == "in_progress")
            .map(|(stage, _)| stage.name.clone())
            .unwrap_or_default()
    }

    /// As they stay when the job ends: what did not come about is not promised any more.
    pub fn ended(&self, status: JobStatus) -> Vec<StageView> {
        let (running, pending) = match status {
            JobStatus::Completed => ("completed", Some("skipped")),
            JobStatus::Cancelled => ("cancelled", Some("cancelled")),
            _ => ("failed", None),
        };
        let names: Vec<(String, String)> =
            self.lock().iter().map(|(stage, _)| (stage.name.clone(), stage.state.clone())).collect();
        for (name, state) in names {
            match (state.as_str(), pending) {
                ("in_progress", _) => self.stage(&name, running),
                ("pending", Some(pending)) => self.stage(&name, pending),
                _ => {}
            }
        }
        let mut views = self.views();
        if let Some(failed) = views.iter().rposition(|stage| stage.state == "failed") {
            views.truncate(failed + 1);
        }
        views.retain(|stage| stage.state != "pending");
        views
    }
}

impl StageSink for Stages {
    fn stage(&self, name: &str, state: &str) {
        let mut list = self.lock();
        if !list.iter().any(|(stage, _)| stage.name == name) && list.len() < STAGES_MAX {
            let stage =
                StageView { name: name.to_owned(), state: String::new(), duration_ms: 0, last_updated: 0 };
            list.push((stage, None));
        }
        if let Some((stage, since)) = list.iter_mut().find(|(stage, _)| stage.name == name) {
            if state == "in_progress" {
                since.get_or_insert_with(Instant::now);
            }
            stage.duration_ms =
                since.map_or(0, |since| u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX));
            stage.state = state.to_owned();
            stage.last_updated = now_ms();
        }
        drop(list);
        self.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states(stages: &[StageView]) -> Vec<(&str, &str)> {
        stages.iter().map(|stage| (stage.name.as_str(), stage.state.as_str())).collect()
    }

    #[test]
    fn kinds_without_a_component_are_skipped() {
        let all = backup_stages(&[]);
        assert_eq!(
            states(&all),
            [
                ("Validation", "pending"),
                ("Stage Relational store", "skipped"),
                ("Stage Object store", "skipped"),
                ("Stage volumes", "skipped"),
                ("Stage system configuration", "skipped"),
                ("Post backup operation cleanup", "pending"),
            ]
        );
    }

    #[test]
    fn a_failed_job_shows_its_stages_up_to_the_failing_one() {
        let stages = Stages::new(&backup_stages(&[]));
        stages.stage("Validation", "in_progress");
        assert_eq!(stages.current(), "Validation");
        let ended = stages.ended(JobStatus::Failed);
        assert_eq!(states(&ended), [("Validation", "failed")]);
    }

    #[test]
    fn a_completed_job_has_no_stage_left_open() {
        let stages = Stages::new(&backup_stages(&[]));
        stages.stage("Validation", "completed");
        stages.stage("Post backup operation cleanup", "in_progress");
        let ended = stages.ended(JobStatus::Completed);
        assert!(
            ended.iter().all(|stage| matches!(stage.state.as_str(), "completed" | "skipped")),
            "{ended:?}"
        );
    }
}
