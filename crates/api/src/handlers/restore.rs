//! Restore, in both layouts.

use super::{accepted, backup_asked_for, sent_passcode};
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::parameters::Parameters;
use crate::reply::Reply;
use recovery::{RestoreBackup, Wanted};
use serde_json::json;
use std::sync::Arc;

/// More components than any deployment has.
const COMPONENTS_MAX: usize = 1000;
/// More parts of components than anybody names.
const ONLY_MAX: usize = 1000;

/// `backups/<backup>/restore`. The domain has checked everything, the passcode too, before this answers; a
/// known client takes any `status` but `success` for a failure, though the work only begins.
pub(crate) async fn restore(call: Arc<Call>) -> ApiResult<Reply> {
    let parameters = &call.parameters;
    let passcode = sent_passcode(parameters)?
        .ok_or_else(|| ApiError::missing("passcode", "the passcode that the backup was created with"))?;
    let wanted = wanted(parameters)?;
    let validate_only = parameters.boolean("validateOnly")?;
    let (store, name) = backup_asked_for(&call).await?;
    let request = RestoreBackup { name, store, passcode, wanted, validate_only };
    match call.lift(call.site.recovery.restore_backup(request, call.caller()).await)? {
        Some(id) => accepted(&call, id, "success"),
        None => Ok(Reply::Json(json!({"status": "success", "isReady": true}))),
    }
}

/// What is to be restored.
fn wanted(parameters: &Parameters) -> ApiResult<Wanted> {
    Ok(Wanted {
        components: components(parameters)?,
        only: only(parameters)?,
        into: parameters.text("into").map(str::to_owned),
        at: instant(parameters)?,
        target: target(parameters)?,
    })
}

/// `recoveryTime`: milliseconds since 1970, as other times of this interface, or RFC 3339, as people write them.
pub(crate) fn instant(parameters: &Parameters) -> ApiResult<Option<i64>> {
    let Some(text) = parameters.text("recoveryTime").map(str::trim).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let at = text.parse().ok().or_else(|| Some(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()));
    at.map(Some).ok_or_else(|| {
        ApiError::invalid(
            "recoveryTime",
            "expected milliseconds since 1970, or a time like 2026-05-04T11:59:30Z",
        )
    })
}

/// `COMPONENT/PATH` each; an empty list would mean all, which nobody means who sends one.
pub(crate) fn only(parameters: &Parameters) -> ApiResult<Vec<String>> {
    let expected = "expected COMPONENT/PATH, several with commas between or as a JSON list";
    let only = parameters.list("only", expected)?.unwrap_or_default();
    if only.len() > ONLY_MAX {
        return Err(ApiError::invalid("only", &format!("{ONLY_MAX} at most; restore the whole component")));
    }
    Ok(only)
}

/// `NAME=COMPONENT` each.
pub(crate) fn target(parameters: &Parameters) -> ApiResult<Vec<String>> {
    let expected = "expected NAME=COMPONENT, several with commas between or as a JSON list";
    let target = parameters.list("target", expected)?.unwrap_or_default();
    if target.len() > COMPONENTS_MAX {
        return Err(ApiError::invalid("target", &format!("{COMPONENTS_MAX} at most")));
    }
    Ok(target)
}

/// Names or kinds, separated by commas.
fn components(parameters: &Parameters) -> ApiResult<Vec<String>> {
    let Some(text) = parameters.text("components") else { return Ok(Vec::new()) };
    let names: Vec<String> =
        text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    if names.is_empty() || names.len() > COMPONENTS_MAX {
        return Err(ApiError::invalid("components", "expected names or kinds, separated by commas"));
    }
    Ok(names)
}
