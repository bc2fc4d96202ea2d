//! System tasks and their runs: schedules of backups, the retention cleaner, verifications.
//!
//! A task's passcode comes in and never goes out: replies show asterisks in its place, and a client that sends these
//! back changes nothing.

use super::{accepted, passcode_of, portal, success};
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::parameters::{Keys, Parameters};
use crate::reply::Reply;
use recovery::{CronFields, Passcode, RunStatus, RunView, TaskChange, TaskKind, TaskParameters, TaskView};
use serde_json::{Map, Value, json};
use std::sync::Arc;

const HIDDEN: &str = "********";
/// The parameters that change something of a task.
const CHANGING: [&str; 17] = [
    "title",
    "minute",
    "hour",
    "dayOfMonth",
    "month",
    "dayOfWeek",
    "timeZone",
    "startDate",
    "endDate",
    "maxOccurrences",
    "parameters",
    "name",
    "storeName",
    "description",
    "retentionDays",
    "allBackups",
    "passcode",
];
const DAY_MS: i64 = 86_400_000;

/// `tasks`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let (tasks, portal) = (call.lift(call.site.recovery.tasks().await)?, portal::id(&call));
    Ok(Reply::Json(json!({"result": tasks.iter().map(|task| entry(task, &portal)).collect::<Value>()})))
}

/// `tasks/<task>`
pub(crate) async fn one(call: Arc<Call>) -> ApiResult<Reply> {
    let task = call.lift(call.site.recovery.task(id(&call)?).await)?;
    Ok(Reply::Json(entry(&task, &portal::id(&call))))
}

fn id(call: &Call) -> ApiResult<&str> {
    call.name("task").ok_or_else(ApiError::unknown_url)
}

fn run_id(call: &Call) -> ApiResult<&str> {
    call.name("run").ok_or_else(ApiError::unknown_url)
}

/// One task as documented; `nextRun`, `timeZone` and `occurrences` are ours.
fn entry(task: &TaskView, portal: &str) -> Value {
    let kind = match task.kind {
        TaskKind::CreateBackup => "CREATE_BACKUP_TASK_TYPE",
        TaskKind::BackupRetentionCleaner => "BACKUP_RETENTION_CLEANER_TASK_TYPE",
        TaskKind::VerifyBackups => "VERIFY_BACKUPS_TASK_TYPE",
        TaskKind::RecoveryDrill => "RECOVERY_DRILL_TASK_TYPE",
        TaskKind::ReclaimSpace => "RECLAIM_SPACE_TASK_TYPE",
    };
    let mut entry = json!({
        "taskId": task.id, "id": task.id, "taskTitle": task.title, "title": task.title,
        "taskType": task.kind.name(), "type": kind,
        "taskState": if task.active { "active" } else { "paused" }, "active": task.active,
        "generation": task.generation, "ownerId": task.owner, "orgId": portal,
        "cronSchedule": task.cron, "cronExpression": task.cron.expression(), "timeZone": task.zone,
        "maxOccurrences": task.max_occurrences, "occurrences": task.occurrences,
        "created": task.created, "updated": task.updated,
        "startDate": if task.start_date > 0 { task.start_date } else { task.created },
        "lastStart": task.last_start, "nextRun": task.next_run, "parameters": parameters_entry(task),
    });
    if let Some(object) = entry.as_object_mut() {
        if let Some(seconds) = task.interval_seconds {
            object.insert("runIntervalSeconds".into(), json!(seconds));
        }
        if task.end_date > 0 {
            object.insert("endDate".into(), json!(task.end_date));
        }
    }
    entry
}

fn parameters_entry(task: &TaskView) -> Value {
    let mut shown = Map::from_iter([("itemId".to_owned(), json!(""))]);
    if let Ok(Value::Object(told)) = serde_json::to_value(&task.parameters) {
        shown.extend(told.into_iter().filter(|(key, _)| key != "once"));
    }
    if task.has_passcode {
        shown.insert("passcode".to_owned(), json!(HIDDEN));
    }
    Value::Object(shown)
}

/// `tasks/createTask`
pub(crate) async fn create(call: Arc<Call>) -> ApiResult<Reply> {
    let parameters = &call.parameters;
    let kind = parameters.required("type", "the kind of task, such as CreateBackup")?;
    let kind = TaskKind::of(kind).ok_or_else(|| {
        let kinds = TaskKind::ALL.map(TaskKind::name).join(", ");
        ApiError::not_supported(format!("This version has no tasks of that type; it has {kinds}."))
    })?;
    let change = change(parameters, None)?;
    let owner = call.caller().username;
    let id = call.lift(call.site.recovery.create_task(kind, change, &owner).await)?;
    done(&id)
}

/// `tasks/<task>/update`
pub(crate) async fn update(call: Arc<Call>) -> ApiResult<Reply> {
    let task = call.lift(call.site.recovery.task(id(&call)?).await)?;
    if call.parameters.text("type").is_some_and(|kind| kind != task.kind.name()) {
        return Err(ApiError::invalid("type", "the type of a task cannot be changed"));
    }
    if CHANGING.iter().all(|name| call.parameters.text(name).is_none()) {
        return Err(ApiError::new(400, "PARAM_MISSING", "Nothing to change: no known parameter was sent."));
    }
    let change = change(&call.parameters, Some(&task))?;
    call.lift(call.site.recovery.update_task(&task.id, change).await)?;
    done(&task.id)
}

/// `tasks/<task>/enable`
pub(crate) async fn enable(call: Arc<Call>) -> ApiResult<Reply> {
    call.lift(call.site.recovery.enable_task(id(&call)?, true).await)?;
    done(id(&call)?)
}

/// `tasks/<task>/disable`
pub(crate) async fn disable(call: Arc<Call>) -> ApiResult<Reply> {
    call.lift(call.site.recovery.enable_task(id(&call)?, false).await)?;
    done(id(&call)?)
}

/// `tasks/<task>/delete`
pub(crate) async fn delete(call: Arc<Call>) -> ApiResult<Reply> {
    call.lift(call.site.recovery.delete_task(id(&call)?).await)?;
    done(id(&call)?)
}

/// What a known client reads from each reply.
fn done(id: &str) -> ApiResult<Reply> {
    Ok(Reply::Json(json!({"status": "success", "success": true, "taskId": id})))
}

/// `tasks/<task>/run`
pub(crate) async fn run(call: Arc<Call>) -> ApiResult<Reply> {
    let (run, job) = call.lift(call.site.recovery.run_task(id(&call)?, call.caller()).await)?;
    let Some(job) = job else {
        return Ok(Reply::Json(json!({"status": "success", "success": true, "runId": run})));
    };
    let mut reply = accepted(&call, job, "SUBMITTED")?;
    if let Reply::Accepted(Value::Object(object), _) = &mut reply {
        object.insert("runId".into(), json!(run));
    }
    Ok(reply)
}

/// `tasks/<task>/runs`
pub(crate) async fn runs(call: Arc<Call>) -> ApiResult<Reply> {
    let task = call.lift(call.site.recovery.task(id(&call)?).await)?;
    let runs = call.lift(call.site.recovery.runs(&task.id).await)?;
    let entries = runs.iter().map(|run| run_entry(run, &task));
    Ok(Reply::Json(json!({"result": entries.collect::<Value>()})))
}

/// `tasks/<task>/runs/<run>`
pub(crate) async fn one_run(call: Arc<Call>) -> ApiResult<Reply> {
    let task = call.lift(call.site.recovery.task(id(&call)?).await)?;
    let run = call.lift(call.site.recovery.run(&task.id, run_id(&call)?).await)?;
    Ok(Reply::Json(run_entry(&run, &task)))
}

fn run_entry(run: &RunView, task: &TaskView) -> Value {
    json!({
        "runId": run.id, "status": run.status.name(), "result": run.result, "created": run.created,
        "modified": run.modified, "scheduledFor": run.slot, "byHand": run.by_hand, "url": "",
        "jobid": run.job_id,
        "task": {"taskId": task.id, "taskTitle": task.title, "taskType": task.kind.name()},
    })
}

/// `tasks/<task>/runs/<run>/update`; a known client calls the result `results`.
pub(crate) async fn update_run(call: Arc<Call>) -> ApiResult<Reply> {
    let status = match call.parameters.text("status") {
        None => None,
        Some(text) => Some(RunStatus::of(text).ok_or_else(|| {
            ApiError::invalid("status", "expected succeeded, skipped, failed or submitfailed")
        })?),
    };
    let result = call.parameters.text("result").or(call.parameters.text("results")).map(str::to_owned);
    if status.is_none() && result.is_none() {
        return Err(ApiError::missing("status", "send it, or result"));
    }
    call.lift(call.site.recovery.update_run(id(&call)?, run_id(&call)?, status, result).await)?;
    success()
}

/// `tasks/<task>/runs/<run>/delete`
pub(crate) async fn delete_run(call: Arc<Call>) -> ApiResult<Reply> {
    call.lift(call.site.recovery.delete_run(id(&call)?, run_id(&call)?).await)?;
    success()
}

/// What is sent, over what the task has already.
fn change(parameters: &Parameters, task: Option<&TaskView>) -> ApiResult<TaskChange> {
    let mut told =
        Told { parameters: task.map(|task| task.parameters.clone()).unwrap_or_default(), passcode: None };
    if let Some(sent) = parameters.object("parameters")? {
        told.take(&Keys::of("parameters", &sent))?;
    }
    told.take_flat(parameters)?;
    Ok(TaskChange {
        title: parameters.text("title").map(str::to_owned),
        cron: cron(parameters, task)?,
        zone: parameters.text("timeZone").map(str::to_owned),
        start_date: parameters.integer("startDate")?,
        end_date: parameters.integer("endDate")?,
        max_occurrences: parameters.integer("maxOccurrences")?,
        parameters: Some(told.parameters),
        passcode: told.passcode,
        generation: task.map(|task| task.generation),
    })
}

/// The five fields; of a task that is there already those that are not sent stay.
fn cron(parameters: &Parameters, task: Option<&TaskView>) -> ApiResult<Option<CronFields>> {
    let names = ["minute", "hour", "dayOfMonth", "month", "dayOfWeek"];
    if task.is_some() && names.iter().all(|name| parameters.text(name).is_none()) {
        return Ok(None);
    }
    let field = |name: &str, before: Option<&str>| match (parameters.text(name), before) {
        (Some(sent), _) => Ok(sent.to_owned()),
        (None, Some(before)) => Ok(before.to_owned()),
        (None, None) => Err(ApiError::missing(name, "a field of the schedule; * stands for every value")),
    };
    let before = task.map(|task| &task.cron);
    Ok(Some(CronFields {
        minute: field("minute", before.map(|cron| cron.minute.as_str()))?,
        hour: field("hour", before.map(|cron| cron.hour.as_str()))?,
        day_of_month: field("dayOfMonth", before.map(|cron| cron.day_of_month.as_str()))?,
        month: field("month", before.map(|cron| cron.month.as_str()))?,
        day_of_week: field("dayOfWeek", before.map(|cron| cron.day_of_week.as_str()))?,
    }))
}

/// What a task is told, and its passcode apart.
struct Told {
    parameters: TaskParameters,
    passcode: Option<Passcode>,
}

impl Told {
    /// The documented form: one JSON object. Unknown keys get nowhere.
    fn take(&mut self, sent: &Keys<'_>) -> ApiResult<()> {
        let of = &mut self.parameters;
        of.name = sent.text("name")?.unwrap_or_else(|| of.name.clone());
        of.store_name = sent.text("storeName")?.unwrap_or_else(|| of.store_name.clone());
        of.description = sent.text("description")?.unwrap_or_else(|| of.description.clone());
        if let Some(keep) = sent.number("keepLast")? {
            let keep = u32::try_from(keep).map_err(|_| sent.wrong("keepLast", "a number from 1"))?;
            of.keep_last = Some(keep);
        }
        of.all_backups = sent.boolean("allBackups")?.unwrap_or(of.all_backups);
        if let Some(meta) = sent.object("metaData")? {
            self.take_meta(&meta)?;
        }
        if let Some(offset) = sent.number("retentionOffset")? {
            self.parameters.retention_offset = Some(offset);
        }
        match sent.text("passcode")? {
            Some(passcode) => self.take_passcode(&passcode),
            None => Ok(()),
        }
    }

    /// `recurring` and `retention` count, `startTime` is only shown.
    fn take_meta(&mut self, meta: &Keys<'_>) -> ApiResult<()> {
        let mut kept = Map::new();
        if let Some(recurring) = meta.boolean("recurring")? {
            self.parameters.once = !recurring;
            kept.insert("recurring".into(), json!(recurring));
        }
        if let Some(time) = meta.text("startTime")? {
            let shown: String = time.chars().filter(|c| !c.is_control()).take(20).collect();
            kept.insert("startTime".into(), json!(shown));
        }
        if let Some(retention) = meta.object("retention")? {
            let kind = retention.text("type")?;
            let days = match kind.as_deref() {
                Some("day") => 1,
                Some("week") => 7,
                Some("month") => 30,
                _ => return Err(meta.wrong("retention", "of type day, week or month")),
            };
            let value = retention.number("value")?.filter(|value| (1..=100_000).contains(value));
            let value = value.ok_or_else(|| meta.wrong("retention", "of a value from 1"))?;
            self.parameters.retention_offset = Some(value * days * DAY_MS);
            kept.insert("retention".into(), json!({"type": kind, "value": value}));
        }
        self.parameters.meta_data = Value::Object(kept);
        Ok(())
    }

    /// Our own short form, for the page and the command line.
    fn take_flat(&mut self, sent: &Parameters) -> ApiResult<()> {
        let of = &mut self.parameters;
        of.name = sent.text("name").map_or_else(|| of.name.clone(), str::to_owned);
        of.store_name = sent.text("storeName").map_or_else(|| of.store_name.clone(), str::to_owned);
        if sent.text("allBackups").is_some() {
            of.all_backups = sent.boolean("allBackups")?;
        }
        of.description = sent.description().map_or_else(|| of.description.clone(), str::to_owned);
        if let Some(days) = sent.integer("retentionDays")? {
            let valid = days == -1 || (1..=100_000).contains(&days);
            let offset = if days == -1 { -1 } else { days.saturating_mul(DAY_MS) };
            of.retention_offset = Some(offset)
                .filter(|_| valid)
                .map(Some)
                .ok_or_else(|| ApiError::invalid("retentionDays", "expected -1 for ever, or days from 1"))?;
        }
        match sent.text("passcode") {
            Some(passcode) => self.take_passcode(passcode),
            None => Ok(()),
        }
    }

    fn take_passcode(&mut self, text: &str) -> ApiResult<()> {
        if text != HIDDEN && !text.is_empty() {
            self.passcode = Some(passcode_of(text)?);
        }
        Ok(())
    }
}
