//! A drill: a backup is restored into scratch, checked and removed again; what came of it is written into the store.
//!
//! A backup that cannot be restored is no error of the drill but its outcome. Errors are what says nothing about the backup:
//! it is not there, the passcode is wrong, the store is out of reach, the work was stopped.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use components::{Component, DrillContext, Drilled};
use repository::{Control, Passcode, Repository};

use super::restore::{Part, lock, look_for_packs, plan};
use super::stages::{self, StageSink, Stages};
use super::{RestoreTask, verify_backup};
use crate::clock::now_ms;
use crate::drills::{DrillReport, DrillStage, FAILED, PROVEN, WHOLE};
use crate::store::vaults::load_index;
use crate::store::{CatalogueEntry, Store, failure};
use crate::{Error, ErrorKind, Result};

/// More findings are counted, not told.
const FINDINGS_MAX: usize = 20;
/// So many earlier reports on a backup are looked at.
const EARLIER_MAX: usize = 20;

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
    components::clear_drills(&task.directory).map_err(|e| failure::component("drill", e))?;
    let restore = RestoreTask {
        job_id: task.job_id.clone(),
        name: task.name.clone(),
        store_name: task.store_name.clone(),
        passcode: task.passcode.clone().unwrap_or_else(|| Passcode::new(String::new())),
        components: task.components.clone(),
        selection: Vec::new(),
    };
    let (entry, parts) = plan(store, &restore)?;
    let mut report = DrillReport {
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
    };
    let mut vault = None;
    match &task.passcode {
        None => look(store, &entry, control, stages, &mut report)?,
        Some(passcode) => {
            let since = Instant::now();
            let opened = match store.open_vault(&entry, passcode) {
                Err(error) if error.kind == ErrorKind::Damaged => {
                    report.failures.push(error.message);
                    None
                }
                other => Some(other?),
            };
            if let Some(opened) = &opened {
                prove(task, &restore, (&entry, &parts), opened, since, control, stages, &mut report)?;
                note_forged(store, opened, &mut report)?;
            }
            vault = opened;
        }
    }
    // Their names are nobody's business who has no passcode; the job tells them.
    match control.warnings().len() {
        0 => {}
        count => report.not_proven.push(format!(
            "that all comes back as it was: {count} things could not be set here (owners, attributes, settings); the job names them"
        )),
    }
    for warning in &entry.warnings {
        report.not_proven.push(format!("{}: not in the backup: {}", warning.item, warning.reason));
    }
    report.end_time = now_ms();
    report.outcome = match (report.failures.is_empty(), report.with_passcode) {
        (false, _) => FAILED,
        (true, true) => PROVEN,
        (true, false) => WHOLE,
    }
    .to_owned();
    stages.begin(stages::DRILL_REPORT);
    store.write_report(&report, vault.as_ref())?;
    stages.end(stages::DRILL_REPORT, stages::COMPLETED);
    Ok(report)
}

/// Without the passcode: every file that the backup needs is there and whole.
fn look(
    store: &Store,
    entry: &CatalogueEntry,
    control: &Arc<Control>,
    stages: &mut Stages<'_>,
    report: &mut DrillReport,
) -> Result<()> {
    let since = Instant::now();
    let found = verify_backup(store, &entry.name, None, true, control)?;
    report.stages.push(stage("read every pack", "", since));
    report.failures.extend(
        found
            .findings
            .iter()
            .take(FINDINGS_MAX)
            .map(|finding| format!("{}: {}", finding.file, finding.problem)),
    );
    if found.findings.len() > FINDINGS_MAX {
        report.failures.push(format!("and {} more", found.findings.len() - FINDINGS_MAX));
    }
    if report.failures.is_empty() {
        report.proven.push(
            "every pack of the backup is in the store, and has the content that its name tells".to_owned(),
        );
    }
    report.not_proven.extend(
        [
            "that a passcode opens it, that it is the backup that was made, and that anything in it can be restored: no passcode was given, \
             and nothing was restored",
            "how long a recovery takes",
        ]
        .map(str::to_owned),
    );
    stages.end(stages::VALIDATION, stages::COMPLETED);
    Ok(())
}

/// With the passcode: everything is restored and looked at.
#[allow(clippy::too_many_arguments)]
fn prove(
    task: &DrillTask,
    restore: &RestoreTask,
    (entry, parts): (&CatalogueEntry, &[Part]),
    vault: &Repository,
    since: Instant,
    control: &Arc<Control>,
    stages: &mut Stages<'_>,
    report: &mut DrillReport,
) -> Result<()> {
    let _lock = lock(vault, restore)?;
    let ready = load_index(vault, &|_| true)
        .and_then(|index| look_for_packs(entry, parts, vault, &index, control).map(|()| index));
    let opened = stage("open the backup", "", since);
    let mut recovery = opened.milliseconds;
    report.stages.push(opened);
    let index = match ready {
        Err(error) if is_verdict(&error) => return fail(report, error),
        other => other?,
    };
    stages.end(stages::VALIDATION, stages::COMPLETED);
    for part in parts {
        let (name, of_kind) = (part.component.name(), stages::restore_stage(part.entry.kind));
        control.check().map_err(|e| failure::engine("the drill was stopped", e))?;
        stages.begin(&of_kind);
        let context = DrillContext {
            repository: vault,
            index: &index,
            snapshot: part.entry.snapshot,
            job_id: &task.job_id,
            directory: &task.directory,
            control: Arc::clone(control),
        };
        let mut drilled = Drilled::default();
        let outcome =
            part.component.drill(&context, &mut drilled).map_err(|error| failure::component(name, error));
        for (what, milliseconds) in
            [("prepare", drilled.prepare_ms), ("restore", drilled.restore_ms), ("check", drilled.check_ms)]
        {
            let (what, component) = (what.to_owned(), name.to_owned());
            report.stages.push(DrillStage { name: what, component, milliseconds });
        }
        recovery += drilled.restore_ms;
        report.files += drilled.files;
        report.bytes += drilled.bytes;
        report.proven.extend(drilled.proven);
        report.not_proven.extend(drilled.not_proven);
        let failed = !drilled.failures.is_empty();
        report.failures.extend(drilled.failures);
        match outcome {
            Err(error) if is_verdict(&error) => {
                stages.end(&of_kind, "failed");
                fail(report, error)?;
            }
            Err(error) => return Err(error),
            Ok(()) => stages.end(&of_kind, if failed { "failed" } else { stages::COMPLETED }),
        }
    }
    if report.failures.is_empty() {
        report.recovery_time = i64::try_from(recovery).unwrap_or(i64::MAX);
        report.proven.push(
            "the passcode opens the backup, and its entry in the catalogue was written by whoever had the passcode"
                .to_owned(),
        );
    }
    Ok(())
}

/// A report that nobody with the passcode wrote, under the name of one that somebody did.
fn note_forged(store: &Store, vault: &Repository, report: &mut DrillReport) -> Result<()> {
    for earlier in store.reports(&report.backup, EARLIER_MAX)? {
        let of_this = earlier.report.run == report.run && earlier.report.with_passcode;
        if of_this && !earlier.is_authentic(vault) {
            report.not_proven.push(format!(
                "what the report of job {} says: it was not signed by anybody who had the passcode",
                earlier.report.job_id
            ));
        }
    }
    Ok(())
}

fn fail(report: &mut DrillReport, error: Error) -> Result<()> {
    report.failures.push(error.message);
    report.failures.extend(error.details);
    Ok(())
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
