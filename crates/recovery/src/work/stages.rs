//! The steps of a job, by the names of the interface: one for all components of a kind.

use components::Kind;

use crate::{Error, ErrorKind};

/// Is told of every change of a stage.
pub trait StageSink: Send + Sync {
    /// The stage `name` is now in `state`: `in_progress`, `completed`, `completed_with_warnings`, `failed`,
    /// `skipped` or `cancelled`.
    fn stage(&self, name: &str, state: &str);
}

pub(super) const VALIDATION: &str = "Validation";
pub(super) const BACKUP_CLEANUP: &str = "Post backup operation cleanup";
pub(super) const RESTORE_CLEANUP: &str = "Post restore operation cleanup";
pub(super) const DRILL_REPORT: &str = "Drill report";
pub(super) const COMPLETED: &str = "completed";
pub(super) const WITH_WARNINGS: &str = "completed_with_warnings";

/// Kinds in the order in which they are backed up and restored.
pub(super) const KINDS: [Kind; 4] =
    [Kind::RelationalStore, Kind::ObjectStore, Kind::FileStore, Kind::SystemConfiguration];

/// The stage of a kind in a backup.
pub(super) fn backup_stage(kind: Kind) -> String {
    format!("Stage {}", words(kind))
}

/// The stage of a kind in a restore.
pub(super) fn restore_stage(kind: Kind) -> String {
    format!("Restore {}", words(kind))
}

fn words(kind: Kind) -> &'static str {
    match kind {
        Kind::RelationalStore => "Relational store",
        Kind::ObjectStore => "Object store",
        Kind::FileStore => "volumes",
        Kind::SystemConfiguration => "system configuration",
    }
}

/// Follows one job through its stages, so that a failure is marked at the stage where it happened.
pub(super) struct Stages<'a> {
    sink: &'a dyn StageSink,
    current: Vec<String>,
}

impl<'a> Stages<'a> {
    pub fn new(sink: &'a dyn StageSink) -> Self {
        Self { sink, current: Vec::new() }
    }

    pub fn begin(&mut self, name: &str) {
        self.sink.stage(name, "in_progress");
        self.current.push(name.to_owned());
    }

    pub fn end(&mut self, name: &str, state: &str) {
        self.current.retain(|open| open != name);
        self.sink.stage(name, state);
    }

    pub fn skip(&mut self, name: &str) {
        self.sink.stage(name, "skipped");
    }

    /// Marks what was going on.
    pub fn fail(&mut self, error: &Error) {
        let state = if error.kind == ErrorKind::Cancelled { "cancelled" } else { "failed" };
        for name in self.current.drain(..) {
            self.sink.stage(&name, state);
        }
    }
}
