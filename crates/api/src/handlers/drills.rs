//! Drills of a backup: asking for one, and what they found.

use super::{accepted, backup_asked_for, sent_passcode};
use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::reply::Reply;
use recovery::{DrillReport, DrillStage};
use serde_json::{Value, json};
use std::sync::Arc;

/// `backups/<backup>/drill`
pub(crate) async fn drill(call: Arc<Call>) -> ApiResult<Reply> {
    let passcode = sent_passcode(&call.parameters)?;
    let (store, name) = backup_asked_for(&call).await?;
    let id = call.lift(call.site.recovery.drill_backup(&store, &name, passcode, call.caller()).await)?;
    accepted(&call, id, "SUBMITTED")
}

/// `backups/<backup>/drills`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let (store, name) = backup_asked_for(&call).await?;
    let backup = call.lift(call.site.recovery.backup(&store, &name).await)?;
    let reports = call.lift(call.site.recovery.drill_reports(&backup.store, &backup.name).await)?;
    Ok(Reply::Json(json!({"reports": reports.iter().map(entry).collect::<Value>()})))
}

fn entry(report: &DrillReport) -> Value {
    let time = |stage: &DrillStage| json!({"name": stage.name, "component": stage.component, "milliseconds": stage.milliseconds});
    json!({
        "backupName": report.backup, "outcome": report.outcome, "startTime": report.start_time, "endTime": report.end_time,
        "withPasscode": report.with_passcode, "recoveryTime": report.recovery_time,
        "recoveryPoint": report.recovery_point, "files": report.files, "bytes": report.bytes,
        "times": report.stages.iter().map(time).collect::<Value>(), "proven": report.proven,
        "notProven": report.not_proven, "failures": report.failures, "server": report.server, "jobid": report.job_id,
    })
}
