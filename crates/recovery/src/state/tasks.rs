//! Rows of system tasks and of their runs.
//!
//! A slot of a schedule is claimed in one transaction, which makes the run and moves the task to its next slot; the
//! unique index over task and slot makes it once even if two servers find it due. What a run is doing moves by
//! compare-and-set on its status.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::jobs::{json, parse};
use super::{Connection, State};
use crate::notices::Notice;
use crate::tasks::{CronFields, RunStatus, RunView, TaskKind, TaskParameters};
use crate::{Error, ErrorKind, Result};

/// Runs of one task in a list.
const RUNS_MAX: i64 = 10_000;
/// At least so many runs of a task are kept.
const RUNS_KEPT: i64 = 20;

/// One task, as kept.
#[derive(Clone, Debug)]
pub(crate) struct TaskRow {
    pub id: String,
    pub title: String,
    pub kind: TaskKind,
    pub active: bool,
    pub generation: i64,
    pub owner: String,
    pub cron: CronFields,
    pub zone: String,
    pub start_date: i64,
    pub end_date: i64,
    pub max_occurrences: i64,
    pub occurrences: i64,
    pub created_at: i64,
    pub updated_at: i64,
    pub last_start: i64,
    pub next_run: i64,
    pub parameters: TaskParameters,
    pub passcode: Option<Vec<u8>>,
}

/// A run to make.
#[derive(Clone, Debug)]
pub(crate) struct NewRun {
    pub id: String,
    pub task: String,
    pub status: RunStatus,
    pub result: String,
    pub slot: i64,
    pub by_hand: bool,
    pub give_up_at: i64,
}

#[cfg(test)]
impl NewRun {
    /// One that is at work, by hand, for the task of this id.
    pub fn at_work(id: String, task: &str) -> Self {
        let (status, result) = (RunStatus::Executing, String::new());
        Self { id, task: task.to_owned(), status, result, slot: 1, by_hand: true, give_up_at: 0 }
    }
}

/// A run that has not ended.
#[derive(Clone, Debug)]
pub(crate) struct OpenRun {
    pub run: RunView,
    pub give_up_at: i64,
}

/// What is due of a task, and its slot after that; -1 = none.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub run: NewRun,
    pub next_run: i64,
    /// Who is told that it was missed.
    pub notice: Option<Notice>,
}

fn task_of(row: &SqliteRow) -> Result<TaskRow, sqlx::Error> {
    let kind: String = row.try_get("kind")?;
    let kind =
        TaskKind::of(&kind).ok_or_else(|| sqlx::Error::Decode(format!("task kind '{kind}'").into()))?;
    Ok(TaskRow {
        id: row.try_get("id")?,
        title: row.try_get("title")?,
        kind,
        active: row.try_get::<i64, _>("active")? == 1,
        generation: row.try_get("generation")?,
        owner: row.try_get("owner")?,
        cron: parse_or_fail(row, "cron")?,
        zone: row.try_get("zone")?,
        start_date: row.try_get("start_date")?,
        end_date: row.try_get("end_date")?,
        max_occurrences: row.try_get("max_occurrences")?,
        occurrences: row.try_get("occurrences")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        last_start: row.try_get("last_start")?,
        next_run: row.try_get("next_run")?,
        parameters: parse_or_fail(row, "parameters")?,
        passcode: row.try_get("passcode")?,
    })
}

fn parse_or_fail<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<T, sqlx::Error> {
    parse(row.try_get(column)?)
        .ok_or_else(|| sqlx::Error::Decode(format!("column {column} of a task").into()))
}

fn run_of(row: &SqliteRow) -> Result<RunView, sqlx::Error> {
    let status: String = row.try_get("status")?;
    let status =
        RunStatus::of(&status).ok_or_else(|| sqlx::Error::Decode(format!("run status '{status}'").into()))?;
    Ok(RunView {
        id: row.try_get("id")?,
        task: row.try_get("task")?,
        status,
        result: row.try_get("result")?,
        slot: row.try_get("slot")?,
        by_hand: row.try_get::<i64, _>("by_hand")? == 1,
        created: row.try_get("created_at")?,
        modified: row.try_get("modified_at")?,
        ended: row.try_get("ended_at")?,
        job_id: row.try_get("job")?,
    })
}

impl State {
    /// Keeps a new task. False if one of that id is there already.
    pub async fn add_task(&self, task: &TaskRow) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "INSERT INTO tasks (id, title, kind, active, generation, owner, cron, zone, start_date, end_date,
                 max_occurrences, occurrences, created_at, updated_at, last_start, next_run, parameters, passcode)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
             ON CONFLICT (id) DO NOTHING",
        )
        .bind(&task.id)
        .bind(&task.title)
        .bind(task.kind.name())
        .bind(i64::from(task.active))
        .bind(task.generation)
        .bind(&task.owner)
        .bind(json(&task.cron)?)
        .bind(&task.zone)
        .bind(task.start_date)
        .bind(task.end_date)
        .bind(task.max_occurrences)
        .bind(task.occurrences)
        .bind(task.created_at)
        .bind(task.updated_at)
        .bind(task.last_start)
        .bind(task.next_run)
        .bind(json(&task.parameters)?)
        .bind(task.passcode.as_deref())
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// All tasks, oldest first.
    pub async fn tasks(&self) -> Result<Vec<TaskRow>> {
        let rows = sqlx::query("SELECT * FROM tasks ORDER BY created_at, id")
            .fetch_all(self.reader())
            .await
            .map_err(self.read_error())?;
        rows.iter().map(task_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// One task.
    pub async fn task(&self, id: &str) -> Result<Option<TaskRow>> {
        let row = sqlx::query("SELECT * FROM tasks WHERE id = $1")
            .bind(id)
            .fetch_optional(self.reader())
            .await
            .map_err(self.read_error())?;
        row.as_ref().map(task_of).transpose().map_err(self.read_error())
    }

    /// Keeps what was changed of a task, if nobody else changed it since it was read, nor did it run. The generation
    /// goes up by one.
    pub async fn change_task(&self, task: &TaskRow, last_start_read: i64) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "UPDATE tasks SET title = $3, active = $4, generation = generation + 1, cron = $5, zone = $6,
                 start_date = $7, end_date = $8, max_occurrences = $9, occurrences = $10, updated_at = $11,
                 next_run = $12, parameters = $13, passcode = $14
             WHERE id = $1 AND generation = $2 AND last_start = $15",
        )
        .bind(&task.id)
        .bind(task.generation)
        .bind(&task.title)
        .bind(i64::from(task.active))
        .bind(json(&task.cron)?)
        .bind(&task.zone)
        .bind(task.start_date)
        .bind(task.end_date)
        .bind(task.max_occurrences)
        .bind(task.occurrences)
        .bind(task.updated_at)
        .bind(task.next_run)
        .bind(json(&task.parameters)?)
        .bind(task.passcode.as_deref())
        .bind(last_start_read)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets a task and its runs. False if there is none.
    pub async fn delete_task(&self, id: &str) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query("DELETE FROM tasks WHERE id = $1")
            .bind(id)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Makes runs of all that is due. `decide` is asked about each active task whose next run has come, under the write
    /// lock. Returns how many runs were made.
    pub async fn claim_due(&self, now: i64, decide: impl Fn(&TaskRow) -> Option<Claim>) -> Result<usize> {
        const DUE: &str =
            "SELECT * FROM tasks WHERE active = 1 AND next_run >= 0 AND next_run <= $1 ORDER BY next_run";
        // Most of the time nothing is due: then nobody waits for the write lock.
        let waiting =
            sqlx::query(DUE).bind(now).fetch_optional(self.reader()).await.map_err(self.read_error())?;
        if waiting.is_none() {
            return Ok(0);
        }
        let mut write = self.write().await?;
        let rows = sqlx::query(DUE).bind(now).fetch_all(&mut *write).await.map_err(self.read_error())?;
        let mut made = 0;
        for row in &rows {
            let task = task_of(row).map_err(self.read_error())?;
            let Some(claim) = decide(&task) else { continue };
            // A limit that was lowered leaves nothing to run; a slot that had its run gets no second one.
            let is_new = !task.is_spent_after(task.occurrences)
                && self.insert_run(&mut write, &claim.run, now).await?;
            if let Some(notice) = claim.notice.as_ref().filter(|_| is_new) {
                self.add_notice(&mut write, notice, now).await?;
            }
            made += usize::from(is_new);
            let began = is_new && !claim.run.status.has_ended();
            let occurrences = task.occurrences + i64::from(began);
            let next_run = if task.is_spent_after(occurrences) { -1 } else { claim.next_run };
            sqlx::query(
                "UPDATE tasks SET next_run = $2, last_start = $3, occurrences = $4, active = $5 WHERE id = $1",
            )
            .bind(&task.id)
            .bind(next_run)
            .bind(if began { now } else { task.last_start })
            .bind(occurrences)
            .bind(i64::from(next_run >= 0))
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        }
        self.commit(write).await?;
        Ok(made)
    }

    /// Makes one run, asked for by hand.
    pub async fn add_run(&self, run: &NewRun, now: i64) -> Result<()> {
        let mut write = self.write().await?;
        self.insert_run(&mut write, run, now).await?;
        sqlx::query("UPDATE tasks SET last_start = $2 WHERE id = $1")
            .bind(&run.task)
            .bind(now)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }

    async fn insert_run(&self, write: &mut Connection, run: &NewRun, now: i64) -> Result<bool> {
        let done = sqlx::query(
            "INSERT INTO runs (id, task, slot, by_hand, status, result, created_at, modified_at, ended_at, give_up_at,
                 job)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $9, $8, '')
             ON CONFLICT (task, slot) WHERE by_hand = 0 DO NOTHING",
        )
        .bind(&run.id)
        .bind(&run.task)
        .bind(run.slot)
        .bind(i64::from(run.by_hand))
        .bind(run.status.name())
        .bind(&run.result)
        .bind(now)
        .bind(run.give_up_at)
        .bind(if run.status.has_ended() { now } else { 0 })
        .execute(write)
        .await
        .map_err(self.write_error())?;
        Ok(done.rows_affected() == 1)
    }

    /// A task's runs, newest first.
    pub async fn runs(&self, task: &str) -> Result<Vec<RunView>> {
        let rows = sqlx::query(
            "SELECT * FROM runs WHERE task = $1 ORDER BY created_at DESC, slot DESC, id LIMIT $2",
        )
        .bind(task)
        .bind(RUNS_MAX)
        .fetch_all(self.reader())
        .await
        .map_err(self.read_error())?;
        rows.iter().map(run_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// The last run of a task that ended, or that succeeded.
    pub async fn last_run(&self, task: &str, succeeded: bool) -> Result<Option<RunView>> {
        let row = sqlx::query(
            "SELECT * FROM runs WHERE task = $1 AND status NOT IN ('scheduled', 'executing')
             AND ($2 = 0 OR status = 'succeeded') ORDER BY created_at DESC, slot DESC LIMIT 1",
        )
        .bind(task)
        .bind(i64::from(succeeded))
        .fetch_optional(self.reader())
        .await
        .map_err(self.read_error())?;
        row.as_ref().map(run_of).transpose().map_err(self.read_error())
    }

    /// One run.
    pub async fn run(&self, id: &str) -> Result<Option<RunView>> {
        let row = sqlx::query("SELECT * FROM runs WHERE id = $1")
            .bind(id)
            .fetch_optional(self.reader())
            .await
            .map_err(self.read_error())?;
        row.as_ref().map(run_of).transpose().map_err(self.read_error())
    }

    /// Runs that have not ended, oldest first.
    pub async fn open_runs(&self) -> Result<Vec<OpenRun>> {
        let rows = sqlx::query(
            "SELECT * FROM runs WHERE status IN ('scheduled', 'executing') ORDER BY created_at, slot, id",
        )
        .fetch_all(self.reader())
        .await
        .map_err(self.read_error())?;
        let open = |row| Ok(OpenRun { run: run_of(row)?, give_up_at: row.try_get("give_up_at")? });
        rows.iter().map(open).collect::<Result<_, sqlx::Error>>().map_err(self.read_error())
    }

    /// Moves a run from one status to another. False if it was not there any more.
    pub async fn move_run(
        &self,
        id: &str,
        from: RunStatus,
        to: RunStatus,
        result: &str,
        now: i64,
    ) -> Result<bool> {
        self.end_run(id, from, (to, result), None, now).await
    }

    /// The same, and puts a notice of it into the outbox.
    pub async fn end_run(
        &self,
        id: &str,
        from: RunStatus,
        (to, result): (RunStatus, &str),
        notice: Option<&Notice>,
        now: i64,
    ) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "UPDATE runs SET status = $3, result = $4, modified_at = $5,
                 ended_at = CASE WHEN ended_at = 0 AND $6 = 1 THEN $5 ELSE ended_at END
             WHERE id = $1 AND status = $2",
        )
        .bind(id)
        .bind(from.name())
        .bind(to.name())
        .bind(result)
        .bind(now)
        .bind(i64::from(to.has_ended()))
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        if let Some(notice) = notice.filter(|_| done.rows_affected() == 1) {
            self.add_notice(&mut write, notice, now).await?;
        }
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Gives a waiting run its job, in the transaction that makes the job durable.
    pub(super) async fn run_begins(
        &self,
        write: &mut Connection,
        run: &str,
        job: &str,
        now: i64,
    ) -> Result<()> {
        let done = sqlx::query(
            "UPDATE runs SET status = 'executing', result = '', job = $2, modified_at = $3
             WHERE id = $1 AND status = 'scheduled'",
        )
        .bind(run)
        .bind(job)
        .bind(now)
        .execute(write)
        .await
        .map_err(self.write_error())?;
        if done.rows_affected() == 1 {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Busy, "This run of the task has begun already, or was ended."))
    }

    /// Forgets a run that has ended. False if it has not, or is not there.
    pub async fn delete_run(&self, id: &str) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query("DELETE FROM runs WHERE id = $1 AND status NOT IN ('scheduled', 'executing')")
            .bind(id)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Forgets runs that ended before that time, but the newest of each task.
    pub async fn purge_runs(&self, ended_before: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "DELETE FROM runs WHERE modified_at < $1 AND status NOT IN ('scheduled', 'executing')
             AND created_at < (SELECT created_at FROM runs newer WHERE newer.task = runs.task
                  ORDER BY newer.created_at DESC LIMIT 1 OFFSET $2 - 1)",
        )
        .bind(ended_before)
        .bind(RUNS_KEPT)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await
    }
}
