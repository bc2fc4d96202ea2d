//! Figures for monitoring, in the OpenMetrics text format (<https://prometheus.io/docs/specs/om/open_metrics_spec/>).
//!
//! The same look as the start page takes: ages are those of backups in the stores, not of this server's memory. Units are
//! seconds and bytes; a time is seconds since 1970, so that its age is `time() - …`.

use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::reply::Reply;
use recovery::{JobFigures, LogState, Overview, RunStatus, Severity};
use std::fmt::Write;
use std::sync::Arc;

/// `admin/metrics`
pub(crate) async fn metrics(call: Arc<Call>) -> ApiResult<Reply> {
    let overview = call.lift(call.site.recovery.overview().await)?;
    let jobs = call.lift(call.site.recovery.job_figures().await)?;
    let mut page = Page::default();
    page.of_deployment(&overview);
    page.of_stores(&overview);
    page.of_logs(&overview.logs);
    page.of_jobs(&jobs);
    page.of_tasks(&overview.tasks);
    page.of_notifications(&overview.targets);
    page.0.push_str("# EOF\n");
    Ok(Reply::Metrics(page.0))
}

#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        if !unit.is_empty() {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.0.push_str(name);
        if !labels.is_empty() {
            let told: Vec<String> =
                labels.iter().map(|(label, text)| format!("{label}=\"{}\"", escaped(text))).collect();
            let _ = write!(self.0, "{{{}}}", told.join(","));
        }
        let _ = writeln!(self.0, " {value}");
    }

    fn of_deployment(&mut self, overview: &Overview) {
        let count = |severity| overview.needs.iter().filter(|need| need.severity == severity).count();
        self.family(
            "strongroom_protected",
            "gauge",
            "",
            "1 if nothing is alarming, as the start page says it.",
        );
        self.sample("strongroom_protected", &[], f64::from(u8::from(overview.is_protected())));
        self.family("strongroom_needs", "gauge", "", "Things that need somebody.");
        self.sample("strongroom_needs", &[("severity", "alarm")], count(Severity::Alarm) as f64);
        self.sample("strongroom_needs", &[("severity", "warning")], count(Severity::Warning) as f64);
        self.family("strongroom_read_only", "gauge", "", "1 in read-only mode.");
        self.sample("strongroom_read_only", &[], f64::from(u8::from(overview.is_read_only)));
        let name = "strongroom_last_restore_duration_seconds";
        self.family(name, "gauge", "seconds", "How long the last restore took.");
        if let Some(restored) = &overview.restored {
            self.sample(name, &[], restored.took_ms as f64 / 1000.0);
        }
        let name = "strongroom_last_restore_timestamp_seconds";
        self.family(name, "gauge", "seconds", "When the last restore ended.");
        if let Some(restored) = &overview.restored {
            self.sample(name, &[], restored.ended as f64 / 1000.0);
        }
    }

    fn of_stores(&mut self, overview: &Overview) {
        type Figure = fn(&recovery::StoreOverview) -> Option<f64>;
        let figures: [(&str, &str, &str, Figure); 11] = [
            ("strongroom_store_up", "", "1 if the store can be reached.", |store| {
                Some(f64::from(u8::from(store.problem.is_none())))
            }),
            ("strongroom_store_backups", "", "Complete backups.", |store| {
                store.problem.is_none().then_some(store.backups as f64)
            }),
            ("strongroom_store_free_bytes", "bytes", "Free room.", |store| {
                store.free_bytes.map(|bytes| bytes as f64)
            }),
            (
                "strongroom_store_last_backup_timestamp_seconds",
                "seconds",
                "Start of the newest complete backup without warnings.",
                |store| store.newest.as_ref().map(|backup| backup.start_time as f64 / 1000.0),
            ),
            (
                "strongroom_store_last_backup_duration_seconds",
                "seconds",
                "How long that backup took.",
                |store| {
                    store
                        .newest
                        .as_ref()
                        .map(|backup| (backup.complete_time - backup.start_time) as f64 / 1000.0)
                },
            ),
            (
                "strongroom_store_last_backup_added_bytes",
                "bytes",
                "What that backup added to the store.",
                |store| store.newest.as_ref().map(|backup| backup.bytes_added as f64),
            ),
            (
                "strongroom_store_last_backup_read_bytes",
                "bytes",
                "How much content that backup holds.",
                |store| store.newest.as_ref().map(|backup| backup.bytes_read as f64),
            ),
            ("strongroom_store_last_drill_ok", "", "0 if the last drill failed.", |store| {
                match (&store.failed_drill, &store.proven) {
                    (None, None) => None,
                    (failed, _) => Some(f64::from(u8::from(failed.is_none()))),
                }
            }),
            (
                "strongroom_store_last_proven_restore_timestamp_seconds",
                "seconds",
                "End of the last drill that restored a backup and found everything right.",
                |store| store.proven.as_ref().map(|report| report.end_time as f64 / 1000.0),
            ),
            (
                "strongroom_store_recovery_time_seconds",
                "seconds",
                "How long the restore of that drill took.",
                |store| store.proven.as_ref().map(|report| report.recovery_time as f64 / 1000.0),
            ),
            (
                "strongroom_store_recovery_point_timestamp_seconds",
                "seconds",
                "To which instant that restore brought back.",
                |store| store.proven.as_ref().map(|report| report.recovery_point as f64 / 1000.0),
            ),
        ];
        for (name, unit, help, figure) in figures {
            self.family(name, "gauge", unit, help);
            for store in &overview.stores {
                if let Some(value) = figure(store) {
                    self.sample(name, &[("store", &store.store.name)], value);
                }
            }
        }
    }

    fn of_logs(&mut self, logs: &[(String, LogState)]) {
        type Figure = fn(&LogState) -> Option<f64>;
        let figures: [(&str, &str, &str, Figure); 3] = [
            (
                "strongroom_log_arriving",
                "",
                "0 if the write-ahead log of a database server does not arrive.",
                |log| Some(f64::from(u8::from(log.failure.is_none()))),
            ),
            (
                "strongroom_log_behind_bytes",
                "bytes",
                "Log that the server keeps for us, as it has not arrived yet.",
                |log| log.behind_bytes.map(|bytes| bytes as f64),
            ),
            (
                "strongroom_log_held_bytes",
                "bytes",
                "Log on this server's disk: what no backup holds yet, and what came in the last day.",
                |log| Some(log.held_bytes as f64),
            ),
        ];
        for (name, unit, help, figure) in figures {
            self.family(name, "gauge", unit, help);
            for (component, log) in logs {
                if let Some(value) = figure(log) {
                    self.sample(name, &[("component", component)], value);
                }
            }
        }
    }

    fn of_jobs(&mut self, jobs: &JobFigures) {
        self.family("strongroom_jobs", "gauge", "", "Jobs that this server keeps, by operation and status.");
        for (operation, status, count) in &jobs.counts {
            let labels = [("operation", operation.as_str()), ("status", status.as_str())];
            self.sample("strongroom_jobs", &labels, *count as f64);
        }
        let name = "strongroom_job_last_duration_seconds";
        self.family(
            name,
            "gauge",
            "seconds",
            "How long the last completed job ran, by operation, without waiting.",
        );
        for (operation, ms) in &jobs.last_durations {
            self.sample(name, &[("operation", operation)], *ms as f64 / 1000.0);
        }
        let name = "strongroom_store_last_verification_timestamp_seconds";
        self.family(
            name,
            "gauge",
            "seconds",
            "When every byte of a backup was last verified and found right.",
        );
        for (store, ended) in &jobs.last_verified {
            self.sample(name, &[("store", store)], *ended as f64 / 1000.0);
        }
    }

    fn of_tasks(&mut self, tasks: &[recovery::TaskRuns]) {
        let name = "strongroom_task_last_success_timestamp_seconds";
        self.family(name, "gauge", "seconds", "End of the last run that succeeded.");
        for of in tasks {
            if let Some(run) = &of.last_good {
                self.sample(name, &labels(of), run.ended as f64 / 1000.0);
            }
        }
        let name = "strongroom_task_last_run_ok";
        self.family(name, "gauge", "", "1 if the last run that ended succeeded.");
        for of in tasks {
            if let Some(run) = &of.last_ended {
                self.sample(name, &labels(of), f64::from(u8::from(run.status == RunStatus::Succeeded)));
            }
        }
        let name = "strongroom_task_can_run";
        self.family(name, "gauge", "", "0 if its schedule or passcode is of no use any more.");
        for of in tasks.iter().filter(|of| of.task.active) {
            self.sample(name, &labels(of), f64::from(u8::from(of.obstacle.is_none())));
        }
        let name = "strongroom_task_next_run_timestamp_seconds";
        self.family(name, "gauge", "seconds", "When it runs next by itself.");
        for of in tasks.iter().filter(|of| of.task.next_run >= 0) {
            self.sample(name, &labels(of), of.task.next_run as f64 / 1000.0);
        }
    }
}

impl Page {
    fn of_notifications(&mut self, targets: &[recovery::TargetView]) {
        let name = "strongroom_notifications";
        self.family(name, "gauge", "", "Notifications of the last 30 days, by target and status.");
        for of in targets {
            let counts = [("waiting", of.waiting), ("delivered", of.delivered), ("gaveup", of.gave_up)];
            for (status, count) in counts {
                self.sample(name, &[("target", &of.name), ("status", status)], count as f64);
            }
        }
        let name = "strongroom_notification_ok";
        self.family(name, "gauge", "", "0 if the last notification that ended was given up.");
        for of in targets {
            self.sample(name, &[("target", &of.name)], f64::from(u8::from(!of.is_given_up)));
        }
        let name = "strongroom_notification_last_delivery_timestamp_seconds";
        self.family(name, "gauge", "seconds", "When a notification was last taken by the other side.");
        for of in targets.iter().filter(|of| of.last_delivered > 0) {
            self.sample(name, &[("target", &of.name)], of.last_delivered as f64 / 1000.0);
        }
    }
}

fn labels(of: &recovery::TaskRuns) -> [(&'static str, &str); 4] {
    [
        ("id", of.task.id.as_str()),
        ("task", of.task.title.as_str()),
        ("type", of.task.kind.name()),
        ("store", of.task.parameters.store_name.as_str()),
    ]
}

/// As the format escapes the values of labels.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}
