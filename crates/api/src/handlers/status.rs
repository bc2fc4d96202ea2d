//! The last submitted backup or restore, in both layouts.

use super::{duration_text, jobs};
use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::reply::Reply;
use recovery::{JobStatus, JobView};
use serde_json::{Value, json};
use std::sync::Arc;

/// `disasterrecovery/status`
pub(crate) async fn last(call: Arc<Call>) -> ApiResult<Reply> {
    let job = call.lift(call.site.recovery.last_operation().await)?;
    Ok(Reply::Json(json!({"status": job.as_ref().map_or_else(none, entry)})))
}

/// The number that goes with a state; 3 is documented, the others are ours.
fn code(state: &str) -> u8 {
    match state {
        "submitted" => 1,
        "in_progress" => 2,
        "success" => 3,
        "completed_with_warnings" => 4,
        "failed" => 5,
        _ => 0,
    }
}

/// Before the first job.
pub(crate) fn none() -> Value {
    json!({
        "operation": "", "state": "none", "code": 0, "message": "", "backupName": "", "backupStore": "",
        "scheduleType": "", "startTime": 0, "completeTime": 0, "overallDuration": duration_text(0),
        "jobid": "", "stages": [],
    })
}

/// One job as the last operation. A cancelled one counts as failed here; the message says which it was.
pub(crate) fn entry(job: &JobView) -> Value {
    let state = match jobs::state(job) {
        "cancelled" => "failed",
        state => state,
    };
    let until = if jobs::ended(job.status) { job.end_time } else { job.updated_time };
    let duration = u64::try_from(until.saturating_sub(job.start_time)).unwrap_or(0);
    json!({
        "operation": job.operation, "state": state, "code": code(state), "message": message(job),
        "backupName": job.backup, "backupStore": job.store, "scheduleType": job.schedule_type,
        "startTime": job.start_time, "completeTime": job.end_time, "overallDuration": duration_text(duration),
        "jobid": job.id, "stages": jobs::stages(&job.stages),
    })
}

fn message(job: &JobView) -> String {
    let told = job.messages.join(" ");
    match job.status {
        JobStatus::Cancelled if told.is_empty() => "The job was cancelled.".to_owned(),
        JobStatus::Cancelled if !told.to_lowercase().contains("cancel") => {
            format!("The job was cancelled. {told}")
        }
        _ => told,
    }
}
