//! System tasks: backups by schedule, the retention cleaner, verifications, drills, the freeing of space.
//!
//! `cron` understands when, `plan` says what is due, `scheduler` makes runs of that and works them off; here is what
//! callers do: make, change, look, run by hand. A task's passcode lies sealed under the master key and is never shown.

mod cron;
mod model;
mod plan;
mod scheduler;
#[cfg(test)]
mod tests;
mod work;

use crate::clock::now_ms;
use crate::names::{Named, check_description, check_name, check_passcode};
use crate::recovery::Inner;
use crate::secrets::Place;
use crate::state::{NewRun, TaskRow};
use crate::{Caller, Error, ErrorKind, Passcode, Result};

pub use cron::CronFields;
pub use model::{RunStatus, RunView, TaskChange, TaskKind, TaskParameters, TaskView};
use plan::Schedule;

/// The cleaner is there from the start, under this id.
pub const CLEANER_ID: &str = "00000000000000000000000000000001";
/// A prefix leaves room for the time that is appended.
const PREFIX_CHARS_MAX: usize = 80;
/// What is appended, at its longest.
const TIME_SHAPE: &str = "-00000000-000000-9";
const TITLE_CHARS_MAX: usize = 200;
/// Backups by schedule are kept for an hour at least, and for a thousand years at most.
const RETENTION_MS: std::ops::RangeInclusive<i64> = 3_600_000..=1000 * 366 * 86_400_000;
/// More tasks than anybody has; each is looked at often.
const TASKS_MAX: usize = 1000;
/// Somebody else changed the task meanwhile: so often it is read and changed again.
const CHANGE_TRIES: usize = 5;
/// How long a store may take to answer before its backup is begun.
const STORE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(60);
/// A run may take so long before it is missed.
const LATE_MS: i64 = 3_600_000;
/// Runs are kept this long.
const RUNS_KEPT_MS: i64 = 180 * 86_400_000;

/// What the request ids of runs begin with.
const OF_RUN: &str = "run ";

/// The request id of what a run asks for.
fn of_run(run: &str) -> String {
    format!("{OF_RUN}{run}")
}

/// The run that asked for something, if it was one.
pub(crate) fn run_in(request_id: &str) -> Option<&str> {
    request_id.strip_prefix(OF_RUN)
}

/// Where the passcode of a task lies.
fn passcode_place(id: &str) -> Place<'_> {
    Place { table: "tasks", row: id, column: "passcode" }
}

fn new_id() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

fn invalid(parameter: &str, expected: &str) -> Error {
    Error::new(ErrorKind::ParameterInvalid, format!("Parameter '{parameter}' is not valid: {expected}."))
}

fn missing(parameter: &str, expected: &str) -> Error {
    Error::new(ErrorKind::ParameterMissing, format!("Parameter '{parameter}' is missing: {expected}."))
}

fn no_such_task(id: &str) -> Error {
    let shown: String = id.chars().filter(|c| !c.is_control()).take(60).collect();
    Error::new(ErrorKind::TaskNotFound, format!("There is no task '{shown}'."))
}

fn does_not_answer(store: &str) -> Error {
    let message = format!("Store '{store}' did not answer within {} s.", STORE_TIME_MAX.as_secs());
    Error::new(ErrorKind::StoreUnreachable, message)
}

fn no_such_run(id: &str) -> Error {
    let shown: String = id.chars().filter(|c| !c.is_control()).take(60).collect();
    Error::new(ErrorKind::RunNotFound, format!("There is no run '{shown}' of this task."))
}

impl TaskRow {
    /// A new task of somebody's, active and without a limit; it has no next run yet.
    fn new(id: String, kind: TaskKind, cron: CronFields, owner: &str, now: i64) -> Self {
        Self {
            id,
            title: String::new(),
            kind,
            active: true,
            generation: 1,
            owner: owner.to_owned(),
            cron,
            zone: "UTC".to_owned(),
            start_date: 0,
            end_date: 0,
            max_occurrences: -1,
            occurrences: 0,
            created_at: now,
            updated_at: now,
            last_start: 0,
            next_run: -1,
            parameters: TaskParameters::default(),
            passcode: None,
        }
    }

    /// When it runs. What is kept was understood once, so only another release can have written what is not.
    fn schedule(&self) -> Result<Schedule> {
        Schedule::parse(&self.cron, &self.zone, self.start_date, self.end_date)
    }

    /// Whether it may run no more after so many runs.
    pub(crate) fn is_spent_after(&self, occurrences: i64) -> bool {
        let limit = if self.parameters.once { 1 } else { self.max_occurrences };
        limit >= 0 && occurrences >= limit
    }

    fn view(self) -> TaskView {
        let now = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
        let schedule = self.schedule().ok();
        TaskView {
            interval_seconds: schedule.and_then(|s| s.cron.interval_seconds(now, &s.zone)),
            id: self.id,
            title: self.title,
            kind: self.kind,
            active: self.active,
            generation: self.generation,
            owner: self.owner,
            cron: self.cron,
            zone: self.zone,
            start_date: self.start_date,
            end_date: self.end_date,
            max_occurrences: self.max_occurrences,
            occurrences: self.occurrences,
            created: self.created_at,
            updated: self.updated_at,
            last_start: self.last_start,
            next_run: if self.active { self.next_run } else { -1 },
            parameters: self.parameters,
            has_passcode: self.passcode.is_some(),
        }
    }

    /// Takes over what is sent, and checks all that can be checked without looking elsewhere.
    fn apply(&mut self, change: TaskChange, now: i64) -> Result<()> {
        let moved = change.cron.is_some()
            || change.zone.is_some()
            || change.start_date.is_some()
            || change.end_date.is_some();
        self.cron = change.cron.unwrap_or_else(|| self.cron.clone());
        self.zone = change.zone.unwrap_or_else(|| self.zone.clone());
        self.start_date = change.start_date.unwrap_or(self.start_date);
        self.end_date = change.end_date.unwrap_or(self.end_date);
        self.max_occurrences = change.max_occurrences.unwrap_or(self.max_occurrences);
        self.title = change.title.unwrap_or_else(|| self.title.clone());
        self.parameters = change.parameters.unwrap_or_else(|| self.parameters.clone());
        check_parameters(self.kind, &mut self.parameters)?;
        if self.title.is_empty() {
            self.title = if self.parameters.name.is_empty() {
                self.kind.name().to_owned()
            } else {
                self.parameters.name.clone()
            };
        }
        if self.title.chars().count() > TITLE_CHARS_MAX || self.title.chars().any(char::is_control) {
            return Err(invalid("title", "at most 200 characters, none of them a control character"));
        }
        if self.max_occurrences != -1 && self.max_occurrences < 1 {
            return Err(invalid("maxOccurrences", "expected -1 for no limit, or a number from 1"));
        }
        if self.start_date < 0 || self.end_date < 0 {
            return Err(invalid("startDate", "expected milliseconds since 1970, for endDate too"));
        }
        let schedule = self.schedule()?;
        if moved && schedule.next_after(now) < 0 {
            return Err(invalid("endDate", "no run would come before it, and after 'startDate'"));
        }
        if moved && self.active {
            self.next_run = schedule.next_after(now);
        }
        self.updated_at = now;
        Ok(())
    }
}

/// Refuses what a kind cannot do, and drops what it does not look at.
fn check_parameters(kind: TaskKind, parameters: &mut TaskParameters) -> Result<()> {
    check_description(&parameters.description)?;
    match parameters.retention_offset {
        None | Some(-1) => {}
        Some(offset) if RETENTION_MS.contains(&offset) => {}
        Some(_) => {
            return Err(invalid(
                "parameters",
                "its key 'retentionOffset' must be -1 or at least an hour in milliseconds",
            ));
        }
    }
    if parameters.keep_last.is_some_and(|keep| !(1..=10_000).contains(&keep)) {
        return Err(invalid("parameters", "its key 'keepLast' must be 1 to 10000"));
    }
    if kind != TaskKind::CreateBackup {
        (parameters.name, parameters.description) = (String::new(), String::new());
        (parameters.retention_offset, parameters.once) = (None, false);
    }
    if kind != TaskKind::BackupRetentionCleaner {
        parameters.keep_last = None;
    }
    if kind != TaskKind::VerifyBackups {
        parameters.all_backups = false;
    }
    match kind {
        TaskKind::CreateBackup => {
            parameters.name = check_name(Named::Backup, &parameters.name)?;
            let with_time = check_name(Named::Backup, &format!("{}{TIME_SHAPE}", parameters.name));
            if parameters.name.chars().count() > PREFIX_CHARS_MAX || with_time.is_err() {
                return Err(Error::new(
                    ErrorKind::NameInvalid,
                    "The name of a schedule has at most 80 characters and 181 bytes, as the time is appended.",
                ));
            }
            if parameters.store_name.is_empty() {
                return Err(missing("parameters", "its key 'storeName' names the backups' store"));
            }
        }
        TaskKind::BackupRetentionCleaner => parameters.store_name.clear(),
        TaskKind::VerifyBackups | TaskKind::RecoveryDrill | TaskKind::ReclaimSpace => {}
    }
    Ok(())
}

/// Whether two slots in a row have passed since then without being made use of; the second one an hour ago, so that its
/// run has had time to begin and end.
pub(crate) fn is_late(task: &TaskView, since: i64, now: i64) -> bool {
    let Ok(schedule) = Schedule::parse(&task.cron, &task.zone, task.start_date, task.end_date) else {
        return false;
    };
    let first = schedule.next_after(since);
    let second = if first < 0 { -1 } else { schedule.next_after(first) };
    second >= 0 && second + LATE_MS < now
}

impl Inner {
    /// All tasks, oldest first.
    pub async fn tasks(&self) -> Result<Vec<TaskView>> {
        Ok(self.state.tasks().await?.into_iter().map(TaskRow::view).collect())
    }

    /// All tasks, each with why it cannot run here, if it cannot.
    pub async fn tasks_and_obstacles(&self) -> Result<Vec<(TaskView, Option<String>)>> {
        let rows = self.state.tasks().await?.into_iter();
        Ok(rows.map(|row| (self.obstacle(&row), row.view())).map(|(why, view)| (view, why)).collect())
    }

    /// What was fine when it was set, and is not any more: after a move to another release, or under another master key.
    fn obstacle(&self, row: &TaskRow) -> Option<String> {
        if !row.active {
            return None;
        }
        if let Err(error) = row.schedule() {
            return Some(format!("its schedule is not understood any more: {}", error.message));
        }
        match self.passcode_of_task(row) {
            Err(_) => Some("its passcode cannot be opened with this master key; set it anew".to_owned()),
            Ok(None) if row.kind == TaskKind::CreateBackup => Some("it has no passcode; set one".to_owned()),
            Ok(_) => None,
        }
    }

    pub async fn task(&self, id: &str) -> Result<TaskView> {
        Ok(self.task_row(id).await?.view())
    }

    async fn task_row(&self, id: &str) -> Result<TaskRow> {
        self.state.task(id).await?.ok_or_else(|| no_such_task(id))
    }

    /// Makes a task; returns its id.
    pub async fn create_task(&self, kind: TaskKind, change: TaskChange, owner: &str) -> Result<String> {
        self.refuse_while_read_only().await?;
        if kind == TaskKind::BackupRetentionCleaner {
            let message = format!("There is one retention cleaner, task {CLEANER_ID}; update that one.");
            return Err(Error::new(ErrorKind::TaskInUse, message));
        }
        let cron = change.cron.clone().ok_or_else(|| missing("minute", "the fields of the schedule"))?;
        let (now, passcode) = (now_ms(), change.passcode.clone());
        let mut row = TaskRow::new(new_id(), kind, cron, owner, now);
        row.apply(change, now)?;
        match passcode {
            Some(passcode) => row.passcode = Some(self.seal_for_task(&row.id, &passcode)?),
            None if kind == TaskKind::CreateBackup => {
                return Err(missing(
                    "parameters",
                    "its key 'passcode' seals the backups, at least 8 characters",
                ));
            }
            None => {}
        }
        self.check_store_of(&mut row).await?;
        if self.state.tasks().await?.len() >= TASKS_MAX {
            return Err(Error::new(
                ErrorKind::Busy,
                format!("There are {TASKS_MAX} tasks already; delete some."),
            ));
        }
        self.state.add_task(&row).await?;
        tracing::info!(task = %row.id, kind = kind.name(), title = %row.title, user = owner, "task created");
        self.runner.wake_tasks();
        Ok(row.id)
    }

    fn seal_for_task(&self, id: &str, passcode: &Passcode) -> Result<Vec<u8>> {
        check_passcode(passcode)?;
        self.key.seal(passcode_place(id), passcode.expose().as_bytes())
    }

    /// The passcode that is kept with a task.
    fn passcode_of_task(&self, row: &TaskRow) -> Result<Option<Passcode>> {
        let Some(sealed) = row.passcode.as_deref() else { return Ok(None) };
        let bytes = self.key.open(passcode_place(&row.id), sealed)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            Error::new(ErrorKind::Internal, format!("the passcode of task {} is damaged", row.id))
        })?;
        Ok(Some(Passcode::new(text.to_owned())))
    }

    /// A task may only name a store that is there.
    async fn check_store_of(&self, row: &mut TaskRow) -> Result<()> {
        if !row.parameters.store_name.is_empty() {
            row.parameters.store_name = self.store_row(&row.parameters.store_name).await?.name;
        }
        Ok(())
    }

    /// Changes a task; what is not sent stays.
    pub async fn update_task(&self, id: &str, change: TaskChange) -> Result<()> {
        self.refuse_while_read_only().await?;
        self.edit_task(id, |row| {
            if change.generation.is_some_and(|seen| seen != row.generation) {
                return Err(changed_meanwhile());
            }
            row.apply(change.clone(), now_ms())?;
            if let Some(passcode) = &change.passcode {
                row.passcode = Some(self.seal_for_task(&row.id, passcode)?);
            }
            Ok(())
        })
        .await
    }

    /// Starts or ends a task's running by itself. One that ran as often as it may begins to count anew.
    pub async fn enable_task(&self, id: &str, active: bool) -> Result<()> {
        self.refuse_while_read_only().await?;
        self.edit_task(id, |row| {
            if row.active != active {
                row.active = active;
                row.occurrences = 0;
                row.next_run = if active { row.schedule()?.next_after(now_ms()) } else { -1 };
                if active && row.next_run < 0 {
                    return Err(invalid(
                        "endDate",
                        "it has passed, so this task would never run; change it first",
                    ));
                }
                row.updated_at = now_ms();
            }
            Ok(())
        })
        .await?;
        if !active {
            self.end_waiting_runs(id, "the task was disabled").await?;
        }
        Ok(())
    }

    async fn edit_task(&self, id: &str, edit: impl Fn(&mut TaskRow) -> Result<()> + Send) -> Result<()> {
        for _ in 0..CHANGE_TRIES {
            let mut row = self.task_row(id).await?;
            let last_start = row.last_start;
            let store = row.parameters.store_name.clone();
            edit(&mut row)?;
            if row.parameters.store_name != store {
                self.check_store_of(&mut row).await?;
            }
            if self.state.change_task(&row, last_start).await? {
                tracing::info!(task = %row.id, title = %row.title, active = row.active, "task changed");
                self.runner.wake_tasks();
                return Ok(());
            }
        }
        Err(changed_meanwhile())
    }

    /// Forgets a task and the record of its runs; its backups stay.
    pub async fn delete_task(&self, id: &str) -> Result<()> {
        self.refuse_while_read_only().await?;
        if id == CLEANER_ID {
            let message = "The retention cleaner cannot be deleted; disable it instead.";
            return Err(Error::new(ErrorKind::TaskInUse, message));
        }
        if !self.state.delete_task(id).await? {
            return Err(no_such_task(id));
        }
        tracing::info!(task = id, "task deleted");
        Ok(())
    }

    /// Begins a run now; returns its id, and that of its job if it has one from the start.
    pub async fn run_task(&self, id: &str, caller: Caller) -> Result<(String, Option<String>)> {
        let row = self.task_row(id).await?;
        let now = now_ms();
        let run = NewRun {
            id: new_id(),
            task: row.id.clone(),
            status: RunStatus::Scheduled,
            result: String::new(),
            slot: now,
            by_hand: true,
            give_up_at: now,
        };
        if row.kind != TaskKind::CreateBackup {
            self.state.add_run(&run, now).await?;
            self.runner.wake_tasks();
            return Ok((run.id, None));
        }
        // So that the scheduler leaves it alone.
        let _begun = self.runner.begin_run(&run.id);
        self.state.add_run(&run, now).await?;
        let submitted =
            match tokio::time::timeout(STORE_TIME_MAX, self.submit_scheduled(&row, &run.id, now, caller))
                .await
            {
                Ok(submitted) => submitted,
                Err(_) => Err(does_not_answer(&row.parameters.store_name)),
            };
        match submitted {
            Ok(job) => Ok((run.id, Some(job))),
            Err(error) => {
                // Nothing ran: the answer says why, and no record is left.
                let why = &error.message;
                self.state.move_run(&run.id, RunStatus::Scheduled, RunStatus::SubmitFailed, why, now).await?;
                self.state.delete_run(&run.id).await?;
                Err(error)
            }
        }
    }

    /// A task's runs, newest first.
    pub async fn runs(&self, task: &str) -> Result<Vec<RunView>> {
        self.task_row(task).await?;
        self.settle_runs(now_ms()).await?;
        self.state.runs(task).await
    }

    pub async fn run(&self, task: &str, id: &str) -> Result<RunView> {
        self.task_row(task).await?;
        self.settle_runs(now_ms()).await?;
        self.state.run(id).await?.filter(|run| run.task == task).ok_or_else(|| no_such_run(id))
    }

    /// Writes another status or result into the record of a run that has ended.
    pub async fn update_run(
        &self,
        task: &str,
        id: &str,
        status: Option<RunStatus>,
        result: Option<String>,
    ) -> Result<()> {
        self.refuse_while_read_only().await?;
        check_description(result.as_deref().unwrap_or_default())?;
        let run = self.run(task, id).await?;
        if !run.status.has_ended() || status.is_some_and(|status| !status.has_ended()) {
            return Err(run_in_use(&run));
        }
        let (status, result) = (status.unwrap_or(run.status), result.unwrap_or(run.result.clone()));
        self.state.move_run(id, run.status, status, &result, now_ms()).await?;
        Ok(())
    }

    /// Removes the record of a run that has ended.
    pub async fn delete_run(&self, task: &str, id: &str) -> Result<()> {
        self.refuse_while_read_only().await?;
        let run = self.run(task, id).await?;
        if self.state.delete_run(id).await? { Ok(()) } else { Err(run_in_use(&run)) }
    }

    /// Hourly: old records of runs go.
    pub async fn purge_runs(&self) -> Result<()> {
        self.state.purge_runs(now_ms() - RUNS_KEPT_MS).await
    }

    /// The active tasks that name a store.
    pub async fn tasks_on_store(&self, store: &str) -> Result<Vec<TaskView>> {
        let mut tasks = self.tasks().await?;
        tasks.retain(|task| task.active && task.parameters.store_name == store);
        Ok(tasks)
    }

    /// So many of the newest complete backups of each store stay.
    pub async fn keep_last(&self) -> Result<usize> {
        let row = self.state.task(CLEANER_ID).await?;
        let keep = row.and_then(|row| row.parameters.keep_last).unwrap_or(1);
        Ok(usize::try_from(keep).unwrap_or(1))
    }

    async fn end_waiting_runs(&self, task: &str, why: &str) -> Result<()> {
        for open in self.state.open_runs().await? {
            if open.run.task == task && open.run.status == RunStatus::Scheduled {
                let (from, to) = (RunStatus::Scheduled, RunStatus::Skipped);
                self.state.move_run(&open.run.id, from, to, why, now_ms()).await?;
            }
        }
        Ok(())
    }
}

fn changed_meanwhile() -> Error {
    Error::new(ErrorKind::Busy, "Somebody else changed this task meanwhile; look at it and try again.")
}

fn run_in_use(run: &RunView) -> Error {
    let message =
        format!("This run is {}; only the record of one that has ended can be changed.", run.status.name());
    let error = Error::new(ErrorKind::TaskInUse, message);
    if run.job_id.is_empty() { error } else { error.detail(format!("jobid={}", run.job_id)) }
}
