//! The audit log, newest first, a page at a time.

use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::reply::Reply;
use recovery::AuditView;
use serde_json::{Value, json};
use std::sync::Arc;

const COUNT: i64 = 100;
const COUNT_MAX: i64 = 1000;

/// `admin/audit`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let username = call.parameters.text("username").unwrap_or_default();
    let before = call.parameters.integer("before")?;
    let count = call.parameters.integer("num")?.unwrap_or(COUNT).clamp(1, COUNT_MAX);
    let entries = call.lift(call.site.recovery.audit(username, before, count).await)?;
    let full = i64::try_from(entries.len()).unwrap_or(0) == count;
    let next = entries.last().filter(|_| full).map_or(-1, |last| last.id);
    Ok(Reply::Json(json!({"entries": entries.iter().map(entry).collect::<Value>(), "nextBefore": next})))
}

fn entry(view: &AuditView) -> Value {
    let of = &view.entry;
    json!({
        "id": view.id, "time": view.time, "username": of.username, "address": of.address,
        "operation": of.operation, "path": of.path, "code": of.code, "messageCode": of.message_code,
        "jobid": of.job_id, "requestId": of.request_id,
    })
}
