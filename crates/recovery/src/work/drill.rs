//! A drill: a backup is restored into scratch, checked and removed again; what came of it is written into the store.
//!
//! A backup that cannot be restored is no error of the drill but its outcome. Errors are what says nothing about the backup:
//! it is not there, the passcode is wrong, the store is out of reach, the work was stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use components::{Component, DrillContext, Drilled};
use repository::{Control, Index, Passcode, Repository};

use super::restore::{Part, lock, look_for_packs, plan};
use super::stages::{self, StageSink, Stages};
use super::{RestoreTask, verify_backup};
use crate::clock::now_ms;
use crate::drills::{DrillReport, DrillStage, FAILED, PROVEN, WHOLE};
use crate::store::vaults::load_index;
use crate::store::{CatalogueEntry, Store, failure};
use crate::{Error, ErrorKind, Result, Selection};

/// Of each kind of lines, so that a report stays far below what is read of one.
const LINES_MAX: usize = 200;
const LINE_BYTES_MAX: usize = 2000;
/// So many earlier reports on a backup are looked at.
const EARLIER_MAX: usize = 20;

const NOT_WITHOUT_PASSCODE: [&str; 2] = [
    "that a passcode opens it, that it is the backup that was made, and that anything in it can be restored: no passcode was given, and \
     nothing was restored",
    "how long a recovery takes",
];

/// A drill to carry out.
#[derive(Clone, Debug)]
pub struct DrillTask {
    /// The job; also names what lies in scratch.
    pub job_id: String,
    /// Tells this server from all others.
    pub server_id: String,
    /// The backup's name.
    pub name: String,
    /// The store's name, for messages.
    pub store_name: String,
    /// What opens it. Without one nothing is restored.
    pub passcode: Option<Passcode>,
    /// The configured components.
    pub components: Vec<Arc<dyn Component>>,
    /// Scratch.
    pub directory: PathBuf,
}

/// Carries out a drill and writes its report; failed or not, that is what is returned. What killed drills left is removed first.
pub fn run_drill(
    store: &Store,
    task: &DrillTask,
    control: &Arc<Control>,
    stages: &dyn StageSink,
) -> Result<DrillReport> {
    let mut stages = Stages::new(stages);
    let outcome = drill(store, task, control, &mut stages);
    if let Err(error) = &outcome {
        stages.fail(error);
    }
    outcome
}

fn drill(
    store: &Store,
    task: &DrillTask,
    control: &Arc<Control>,
    stages: &mut Stages<'_>,
) -> Result<DrillReport> {
    stages.begin(stages::VALIDATION);
    if let Err(error) = components::clear_drills(&task.directory) {
        tracing::warn!("what earlier drills left stays: {error}");
    }
    let Some(passcode) = &task.passcode else {
        let entry = entry_of(store, task)?;
        let mut drill = Drill { store, task, control, stages, report: begun(task, &entry) };
        drill.look()?;
        return drill.conclude(&entry, None);
    };
    let restore = RestoreTask {
        job_id: task.job_id.clone(),
        name: task.name.clone(),
        store_name: task.store_name.clone(),
        passcode: passcode.clone(),
        components: task.components.clone(),
        selection: Selection::default(),
    };
    let (entry, parts) = plan(store, &restore)?;
    let mut drill = Drill { store, task, control, stages, report: begun(task, &entry) };
    let since = Instant::now();
    let vault = match store.open_vault(&entry, passcode) {
        Err(error) if error.kind == ErrorKind::Damaged => {
            drill.fail(error);
            return drill.conclude(&entry, None);
        }
        other => other?,
    };
    drill.prove(&restore, (&entry, &parts), &vault, since)?;
    drill.note_forged(&vault)?;
    drill.conclude(&entry, Some(&vault))
}

fn entry_of(store: &Store, task: &DrillTask) -> Result<CatalogueEntry> {
    store.backup(&task.name)?.ok_or_else(|| {
        let message = format!("there is no backup '{}' in the store '{}'", task.name, task.store_name);
        Error::new(ErrorKind::BackupNotFound, message)
    })
}

fn begun(task: &DrillTask, entry: &CatalogueEntry) -> DrillReport {
    DrillReport {
        format_version: 1,
        backup: entry.name.clone(),
        run: entry.run.clone(),
        store_id: entry.store_id.clone(),
        job_id: task.job_id.clone(),
        server: task.server_id.clone(),
        start_time: now_ms(),
        with_passcode: task.passcode.is_some(),
        recovery_time: -1,
        recovery_point: entry.components.iter().map(|part| part.start_time).min().unwrap_or(entry.start_time),
        ..DrillReport::default()
    }
}

/// A drill at work, and what it knows by now.
struct Drill<'a, 's> {
    store: &'a Store,
    task: &'a DrillTask,
    control: &'a Arc<Control>,
    stages: &'a mut Stages<'s>,
    report: DrillReport,
}

impl Drill<'_, '_> {
    /// Without the passcode: every file that the backup needs is there and whole.
    fn look(&mut self) -> Result<()> {
        let since = Instant::now();
        let found = verify_backup(self.store, &self.task.name, None, true, self.control)?;
        let report = &mut self.report;
        report.stages.push(stage("read every pack", "", since));
        let line = |finding: &repository::Finding| format!("{}: {}", finding.file, finding.problem);
        report.failures.extend(found.findings.iter().map(line));
        if report.failures.is_empty() {
            let text = "every pack of the backup is in the store, and has the content that its name tells";
            report.proven.push(text.to_owned());
        }
        report.not_proven.extend(NOT_WITHOUT_PASSCODE.map(str::to_owned));
        self.stages.end(stages::VALIDATION, stages::COMPLETED);
        Ok(())
    }

    /// With the passcode: everything is restored and looked at.
    fn prove(
        &mut self,
        restore: &RestoreTask,
        (entry, parts): (&CatalogueEntry, &[Part]),
        vault: &Repository,
        since: Instant,
    ) -> Result<()> {
        let _lock = lock(vault, restore)?;
        let ready = load_index(vault, &|_| true)
            .and_then(|index| look_for_packs(entry, parts, vault, &index, self.control).map(|()| index));
        let opened = stage("open the backup", "", since);
        let mut recovery = opened.milliseconds;
        self.report.stages.push(opened);
        let index = match ready {
            Err(error) if is_verdict(&error) => {
                self.fail(error);
                return Ok(());
            }
            other => other?,
        };
        self.stages.end(stages::VALIDATION, stages::COMPLETED);
        for part in parts {
            self.control.check().map_err(|e| failure::engine("the drill was stopped", e))?;
            recovery += self.prove_part(part, vault, &index)?;
        }
        if self.report.failures.is_empty() {
            self.report.recovery_time = i64::try_from(recovery).unwrap_or(i64::MAX);
            let text = "the passcode opens the backup, and its entry in the catalogue was written by whoever had the passcode";
            self.report.proven.push(text.to_owned());
        }
        Ok(())
    }

    /// One component; tells the milliseconds of its restore.
    fn prove_part(&mut self, part: &Part, vault: &Repository, index: &Index) -> Result<u64> {
        let (name, of_kind) = (part.component.name(), stages::restore_stage(part.entry.kind));
        self.stages.begin(&of_kind);
        let context = DrillContext {
            repository: vault,
            index,
            snapshot: part.entry.snapshot,
            job_id: &self.task.job_id,
            directory: &self.task.directory,
            control: Arc::clone(self.control),
        };
        let mut drilled = Drilled::default();
        let outcome = part.component.drill(&context, &mut drilled);
        let mut failed = !drilled.failures.is_empty();
        let times =
            [("prepare", drilled.prepare_ms), ("restore", drilled.restore_ms), ("check", drilled.check_ms)];
        let report = &mut self.report;
        report.stages.extend(times.map(|(what, milliseconds)| DrillStage {
            name: what.to_owned(),
            component: name.to_owned(),
            milliseconds,
        }));
        report.files += drilled.files;
        report.bytes += drilled.bytes;
        report.proven.extend(drilled.proven);
        report.not_proven.extend(drilled.not_proven);
        report.failures.extend(drilled.failures);
        match outcome.map_err(|error| failure::component(name, error)) {
            Err(error) if is_verdict(&error) => {
                failed = true;
                self.fail(error);
            }
            other => other?,
        }
        self.stages.end(&of_kind, if failed { "failed" } else { stages::COMPLETED });
        Ok(drilled.restore_ms)
    }

    /// Names earlier reports on this backup that nobody with the passcode wrote, though they say so.
    fn note_forged(&mut self, vault: &Repository) -> Result<()> {
        for earlier in self.store.reports(&self.report.backup, EARLIER_MAX)? {
            // What finds the vault damaged cannot sign that.
            let is_signed = earlier.report.with_passcode && earlier.report.outcome == PROVEN;
            let of_this = earlier.report.run == self.report.run && is_signed;
            if of_this && !earlier.is_authentic(vault) {
                self.report.not_proven.push(format!(
                    "what the report of job {} says: it was not signed by anybody who had the passcode",
                    earlier.report.job_id
                ));
            }
        }
        Ok(())
    }

    fn fail(&mut self, error: Error) {
        self.report.failures.push(error.message);
        self.report.failures.extend(error.details);
    }

    /// Writes the report.
    fn conclude(mut self, entry: &CatalogueEntry, vault: Option<&Repository>) -> Result<DrillReport> {
        let report = &mut self.report;
        // Their names are nobody's business who has no passcode; the job tells them.
        match self.control.warning_count() {
            0 => {}
            count => report.not_proven.push(format!(
                "that all comes back as it was: {count} things could not be set here (owners, attributes, settings); the job names them"
            )),
        }
        for warning in &entry.warnings {
            report.not_proven.push(format!("{}: not in the backup: {}", warning.item, warning.reason));
        }
        for lines in [&mut report.proven, &mut report.not_proven, &mut report.failures] {
            bound(lines);
        }
        report.end_time = now_ms();
        report.outcome = match (report.failures.is_empty(), report.with_passcode) {
            (false, _) => FAILED,
            (true, true) => PROVEN,
            (true, false) => WHOLE,
        }
        .to_owned();
        self.stages.begin(stages::DRILL_REPORT);
        self.store.write_report(report, vault)?;
        self.stages.end(stages::DRILL_REPORT, stages::COMPLETED);
        Ok(self.report)
    }
}

/// A report must be read again: more lines are counted, and longer ones cut.
fn bound(lines: &mut Vec<String>) {
    let more = lines.len().saturating_sub(LINES_MAX);
    lines.truncate(LINES_MAX);
    for line in lines.iter_mut() {
        line.truncate(line.floor_char_boundary(LINE_BYTES_MAX));
    }
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
}

/// Whether an error speaks of the backup, or of how it can be restored here, and not of the work.
fn is_verdict(error: &Error) -> bool {
    !matches!(
        error.kind,
        ErrorKind::Cancelled
            | ErrorKind::LeaseLost
            | ErrorKind::PasscodeWrong
            | ErrorKind::StoreUnreachable
            | ErrorKind::Busy
    )
}

fn stage(name: &str, component: &str, since: Instant) -> DrillStage {
    DrillStage {
        name: name.to_owned(),
        component: component.to_owned(),
        milliseconds: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}
