//! Jobs: the list, one, and the request to cancel.

use super::{duration_text, success, texts};
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;
use recovery::{JobStatus, JobView, ProgressView, StageView};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// So many jobs are shown on the page: it must stay light.
const SHOWN: i64 = 150;

/// `admin/jobs`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    if !call.is_html() {
        return Ok(Reply::Json(json!({"jobs": call.lift(call.site.recovery.jobs().await)?})));
    }
    let recent = call.lift(call.site.recovery.recent_jobs(SHOWN).await)?;
    let line = |job: &JobView| {
        json!({
            "jobid": job.id, "operation": job.operation, "backup": job.backup, "store": job.store,
            "status": job.status, "startTime": job.start_time, "endTime": job.end_time, "username": job.username,
        })
    };
    Ok(Reply::Listed(Value::Null, json!({"jobs": recent.iter().map(line).collect::<Value>()})))
}

/// `admin/jobs/<job>`
pub(crate) async fn one(call: Arc<Call>) -> ApiResult<Reply> {
    let id = call.name("job").ok_or_else(ApiError::unknown_url)?;
    let job = call.lift(call.site.recovery.job(id).await)?;
    Ok(Reply::Job(entry(&job), Box::new(job)))
}

/// `admin/jobs/<job>/cancel`
pub(crate) async fn cancel(call: Arc<Call>) -> ApiResult<Reply> {
    let id = call.name("job").ok_or_else(ApiError::unknown_url)?;
    call.lift(call.site.recovery.cancel_job(id).await)?;
    success()
}

/// What a running job does just now, in words.
pub(crate) fn doing(progress: &ProgressView) -> String {
    let mut words = Vec::new();
    if !progress.stage.is_empty() {
        words.push(progress.stage.clone());
    }
    if let Some(seconds) = progress.seconds_left {
        words.push(match seconds {
            0..60 => format!("{seconds} s left"),
            _ => format!("{} min left", seconds.div_ceil(60)),
        });
    }
    if !progress.current.is_empty() {
        words.push(progress.current.clone());
    }
    words.join(" · ")
}

/// Whether nothing more will happen.
pub(crate) fn ended(status: JobStatus) -> bool {
    matches!(status, JobStatus::Cancelled | JobStatus::Failed | JobStatus::Completed)
}

/// A job as documented, with `messages` always there and our `progress` while it runs.
pub(crate) fn entry(job: &JobView) -> Value {
    let mut entry = Map::new();
    entry.insert("jobid".into(), json!(job.id));
    entry.insert("status".into(), json!(job.status));
    entry.insert("starttime".into(), json!(job.start_time));
    entry.insert("updatedtime".into(), json!(job.updated_time));
    entry.insert("endtime".into(), json!(job.end_time));
    entry.insert("operationURI".into(), json!(job.operation_uri));
    entry.insert("username".into(), json!(job.username));
    entry.insert("messages".into(), texts(&job.messages));
    if ended(job.status) {
        entry.insert("result".into(), result(job));
    } else if let Some(progress) = &job.progress {
        entry.insert("progress".into(), progress_entry(progress));
    }
    Value::Object(entry)
}

/// `success`, `completed_with_warnings`, `failed`, `cancelled`; `submitted` and `in_progress` before the end.
pub(crate) fn state(job: &JobView) -> &'static str {
    let told = job.result.as_ref();
    let warned = told.and_then(|result| result.get("warnings")).and_then(Value::as_array);
    let partial = told.and_then(|result| result.get("state")).and_then(Value::as_str);
    match job.status {
        JobStatus::Completed if partial == Some("completed_with_warnings") => "completed_with_warnings",
        JobStatus::Completed if warned.is_some_and(|warnings| !warnings.is_empty()) => {
            "completed_with_warnings"
        }
        JobStatus::Completed => "success",
        JobStatus::Failed => "failed",
        JobStatus::Cancelled => "cancelled",
        JobStatus::Submitted => "submitted",
        JobStatus::Executing | JobStatus::Cancelling | JobStatus::Unavailable => "in_progress",
    }
}

/// What a finished job left; a known client needs `stages` in it, whatever the operation was.
fn result(job: &JobView) -> Value {
    let mut result = Map::new();
    result.insert("operation".into(), json!(job.operation));
    result.insert("state".into(), json!(state(job)));
    result.insert("backupName".into(), json!(job.backup));
    result.insert("backupStore".into(), json!(job.store));
    result.insert("stages".into(), stages(&job.stages));
    if let Some(Value::Object(told)) = &job.result {
        for (key, value) in told {
            if !result.contains_key(key) {
                result.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(result)
}

/// The stages as documented.
pub(crate) fn stages(stages: &[StageView]) -> Value {
    let entry = |stage: &StageView| {
        json!({
            "name": stage.name, "state": stage.state, "duration": duration_text(stage.duration_ms),
            "lastUpdated": stage.last_updated,
        })
    };
    stages.iter().map(entry).collect()
}

fn progress_entry(progress: &ProgressView) -> Value {
    let mut entry = json!({
        "percent": progress.percent, "stage": progress.stage,
        "bytesDone": progress.bytes_done, "bytesTotal": progress.bytes_total,
        "filesDone": progress.files_done, "filesTotal": progress.files_total,
        "bytesPerSecond": progress.bytes_per_second, "current": progress.current,
    });
    if let (Some(seconds), Some(object)) = (progress.seconds_left, entry.as_object_mut()) {
        object.insert("secondsLeft".into(), json!(seconds));
    }
    entry
}
