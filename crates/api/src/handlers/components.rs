//! What is protected.

use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::reply::Reply;
use recovery::ComponentView;
use serde_json::{Value, json};
use std::sync::Arc;

/// `admin/system/components`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let components = call.lift(call.site.recovery.components().await)?;
    Ok(Reply::Json(json!({"components": components.iter().map(entry).collect::<Value>()})))
}

fn entry(component: &ComponentView) -> Value {
    let mut entry = json!({
        "name": component.name, "kind": component.kind, "target": component.place,
        "isMissing": component.problem.is_some(), "backupTime": 0,
    });
    if let Some(problem) = &component.problem {
        entry["problem"] = json!(problem);
    }
    if let Some(backup) = &component.last_backup {
        entry["backupName"] = json!(backup.name);
        entry["backupStore"] = json!(backup.store);
        entry["backupTime"] = json!(backup.start_time);
    }
    entry
}
