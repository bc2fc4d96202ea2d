//! The restore assistant, for people: components and passcode, then what would change, then the restore.
//!
//! The first page opens the backup's files for this session as the browser of files does; with them the second compares
//! and tells what would change. It asks for passcode and name once more, as what follows cannot be taken back.

use super::files::{asked_for, page_of, session};
use super::restore::{instant, only, target};
use super::{accepted, sent_passcode};
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::pages::AssistantView;
use crate::reply::Reply;
use recovery::{BackupView, RestoreBackup, Wanted};
use std::sync::Arc;

/// The components whose boxes were ticked, in the backup's order; each has a parameter of its own, so that a form without
/// scripts can send several.
fn chosen(call: &Call, backup: &BackupView) -> Vec<String> {
    let is_ticked = |name: &String| call.parameters.text(&parameter(name)).is_some();
    backup.components.iter().map(|part| part.name.clone()).filter(is_ticked).collect()
}

/// What is to be restored: the ticked components, or what was named instead of them.
fn wanted(call: &Call, backup: &BackupView) -> ApiResult<Wanted> {
    let only = only(&call.parameters)?;
    let into = call.parameters.text("into").map(str::to_owned);
    let components = if only.is_empty() { chosen(call, backup) } else { Vec::new() };
    match components.is_empty() && only.is_empty() {
        true => Err(ApiError::missing("component", "choose at least one")),
        false => {
            let (at, target) = (instant(&call.parameters)?, target(&call.parameters)?);
            Ok(Wanted { components, only, into, at, target })
        }
    }
}

/// The parameter of a component's box.
pub(crate) fn parameter(component: &str) -> String {
    format!("component.{component}")
}

fn for_people(call: &Call) -> ApiResult<()> {
    if call.is_html() { Ok(()) } else { Err(ApiError::unknown_url()) }
}

fn passcode_missing() -> ApiError {
    ApiError::missing("passcode", "the passcode that the backup was created with")
}

/// `assistant`: which components, and the passcode.
pub(crate) async fn choose(call: Arc<Call>) -> ApiResult<Reply> {
    for_people(&call)?;
    let backup = asked_for(&call).await?;
    if !call.is_post() {
        let chosen = backup.components.iter().map(|part| part.name.clone()).collect();
        return Ok(page(&call, backup, chosen, None, None));
    }
    let chosen = chosen(&call, &backup);
    match open(&call, &backup).await {
        Ok(()) => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for name in &chosen {
                query.append_pair(&parameter(name), "true");
            }
            for name in ["only", "into", "target", "recoveryTime"] {
                query.extend_pairs(call.parameters.text(name).map(|value| (name, value)));
            }
            let path = format!("{}?{}", page_of(&call, &backup, "/assistant/plan"), query.finish());
            Ok(Reply::Go { path, cookie: None })
        }
        Err(error) => Ok(page(&call, backup, chosen, None, Some(error))),
    }
}

async fn open(call: &Call, backup: &BackupView) -> ApiResult<()> {
    wanted(call, backup)?;
    let passcode = sent_passcode(&call.parameters)?.ok_or_else(passcode_missing)?;
    let who = call.principal.as_ref().ok_or_else(ApiError::token_required)?;
    let (recovery, session) = (&call.site.recovery, session(call)?);
    call.lift(recovery.open_files(session, who, &backup.store, &backup.name, passcode).await)
}

/// `assistant/plan`: what would change, and the restore itself.
pub(crate) async fn plan(call: Arc<Call>) -> ApiResult<Reply> {
    for_people(&call)?;
    let backup = asked_for(&call).await?;
    let chosen = chosen(&call, &backup);
    let refused = if call.is_post() {
        match restore(&call, &backup).await {
            Ok(id) => return accepted(&call, id, "success"),
            Err(error) => Some(error),
        }
    } else {
        None
    };
    let place = (backup.store.as_str(), backup.name.as_str());
    let Ok(wanted) = wanted(&call, &backup) else {
        return Ok(Reply::Go { path: page_of(&call, &backup, "/assistant"), cookie: None });
    };
    let (session, mut stopping) = (session(&call)?, call.site.stopping.subscribe());
    let planned = tokio::select! {
        planned = call.site.recovery.plan_restore(session, place, &wanted) => planned,
        // A stop does not wait for a look: dropped, the comparison ends.
        _ = stopping.wait_for(|stopping| *stopping) => {
            return Err(ApiError::new(409, "DR_BUSY", "The server is about to stop; open this page again later."));
        }
    };
    match call.lift(planned)?.filter(|plans| !plans.is_empty()) {
        Some(plans) => Ok(page(&call, backup, chosen, Some(plans), refused)),
        None => Ok(Reply::Go { path: page_of(&call, &backup, "/assistant"), cookie: None }),
    }
}

async fn restore(call: &Call, backup: &BackupView) -> ApiResult<String> {
    if call.parameters.text("confirmation") != Some(&backup.name) {
        let message = format!("type the backup's name, {}, as it stands here", backup.name);
        return Err(ApiError::invalid("confirmation", &message));
    }
    let wanted = wanted(call, backup)?;
    let passcode = sent_passcode(&call.parameters)?.ok_or_else(passcode_missing)?;
    let request = RestoreBackup {
        name: backup.name.clone(),
        store: backup.store.clone(),
        passcode,
        wanted,
        validate_only: false,
    };
    let id = call.lift(call.site.recovery.restore_backup(request, call.caller()).await)?;
    id.ok_or_else(|| ApiError::internal(&call.request_id))
}

fn page(
    call: &Call,
    backup: BackupView,
    chosen: Vec<String>,
    plans: Option<Vec<recovery::ComponentPlan>>,
    error: Option<ApiError>,
) -> Reply {
    let text = |name| call.parameters.text(name).unwrap_or_default().to_owned();
    let (only, into, target, at) = (text("only"), text("into"), text("target"), text("recoveryTime"));
    Reply::Assistant(Box::new(AssistantView { backup, chosen, only, into, target, at, plans, error }))
}
