//! One file a resource. Each handler takes parameters, makes one call of the domain, and answers the
//! documented JSON.

pub(crate) mod assistant;
pub(crate) mod audit;
pub(crate) mod backups;
mod buckets;
pub(crate) mod components;
pub(crate) mod disaster_recovery;
pub(crate) mod drills;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod login;
pub(crate) mod metrics;
pub(crate) mod notifications;
pub(crate) mod oauth;
pub(crate) mod oidc;
pub(crate) mod portal;
pub(crate) mod restore;
pub(crate) mod root;
mod settings_form;
pub(crate) mod site;
pub(crate) mod status;
mod store_form;
pub(crate) mod stores;
pub(crate) mod tasks;
pub(crate) mod users;

use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::parameters::Parameters;
use crate::reply::Reply;
use recovery::Passcode;
use serde_json::{Value, json};

/// The plain reply of an operation.
fn success() -> ApiResult<Reply> {
    Ok(Reply::Json(json!({"status": "success"})))
}

/// The reply of an accepted job. `jobsUrl` starts with the public URL, never with what the request calls its
/// host.
fn accepted(call: &Call, id: String, status: &str) -> ApiResult<Reply> {
    let url = format!("{}/admin/jobs/{id}", call.site.public_url);
    Ok(Reply::Accepted(json!({"jobsUrl": url, "jobid": id, "jobId": id, "status": status}), id))
}

/// The store in the path, or in the old layout the one that `storeName` names. Both, and different: refused.
fn store_asked_for(call: &Call) -> ApiResult<Option<&str>> {
    let sent = call.parameters.text("storeName");
    match call.name("store") {
        Some(path) if sent.is_some_and(|sent| sent != path) => {
            Err(ApiError::invalid("storeName", "it names another store than the URL; leave it out"))
        }
        Some(path) => Ok(Some(path)),
        None => Ok(sent),
    }
}

/// Store and name of the backup in the path; in the old layout it is found by its name.
async fn backup_asked_for(call: &Call) -> ApiResult<(String, String)> {
    let name = call.name("backup").ok_or_else(ApiError::unknown_url)?.to_owned();
    let store = store_asked_for(call)?;
    match call.name("store") {
        Some(store) => Ok((store.to_owned(), name)),
        None => Ok((call.lift(call.site.recovery.find_backup(&name, store).await)?, name)),
    }
}

/// A passcode that seals a new backup, its length checked with the other parameters.
fn new_passcode(parameters: &Parameters) -> ApiResult<Passcode> {
    passcode_of(parameters.required("passcode", "at least 8 characters")?)
}

fn passcode_of(text: &str) -> ApiResult<Passcode> {
    match text.chars().count() {
        0..8 => Err(ApiError::new(400, "DR_PASSCODE_SHORT", "The passcode must have at least 8 characters.")),
        8..=256 => Ok(Passcode::new(text.to_owned())),
        _ => Err(ApiError::invalid("passcode", "at most 256 characters")),
    }
}

/// The passcode of a backup that is there, if it was sent.
fn sent_passcode(parameters: &Parameters) -> ApiResult<Option<Passcode>> {
    match parameters.text("passcode") {
        Some(text) if text.chars().count() > 256 => {
            Err(ApiError::invalid("passcode", "at most 256 characters"))
        }
        text => Ok(text.map(|text| Passcode::new(text.to_owned()))),
    }
}

/// A duration as this interface writes it.
fn duration_text(ms: u64) -> String {
    format!("{ms} millis (~ {} minutes)", ms / 60_000)
}

/// Texts as a JSON list.
fn texts(lines: &[String]) -> Value {
    lines.iter().cloned().map(Value::String).collect()
}
