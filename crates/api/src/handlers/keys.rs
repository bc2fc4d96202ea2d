//! API keys, for administrators: the secret is in the reply that makes one and nowhere else.

use super::success;
use super::users::role;
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::parameters::Parameters;
use crate::reply::Reply;
use recovery::{KeyScope, KeyView, NewKey, OperationGroup};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;

const OPERATIONS: &str = "read, backup, restore, schedules or manage, several with commas between";

/// `admin/keys`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let keys = call.lift(call.site.recovery.keys().await)?;
    Ok(Reply::Json(json!({"keys": keys.iter().map(entry).collect::<Value>()})))
}

/// `admin/keys/<key>`
pub(crate) async fn one(call: Arc<Call>) -> ApiResult<Reply> {
    let key = call.lift(call.site.recovery.key(key(&call)?).await)?;
    Ok(Reply::Json(entry(&key)))
}

fn key(call: &Call) -> ApiResult<&str> {
    call.name("key").ok_or_else(ApiError::unknown_url)
}

fn entry(key: &KeyView) -> Value {
    let KeyScope { stores, operations } = &key.scope;
    json!({
        "name": key.name, "role": key.role, "operations": names(operations), "stores": stores,
        "createdBy": key.created_by, "createdTime": key.created_at, "expires": key.expires_at,
        "lastUsedTime": key.last_used,
    })
}

fn names(operations: &[OperationGroup]) -> Value {
    operations.iter().map(|group| Value::from(group.name())).collect()
}

/// `admin/keys/create`
pub(crate) async fn create(call: Arc<Call>) -> ApiResult<Reply> {
    let parameters = &call.parameters;
    let name = parameters.required("name", "the name of the new key")?.to_owned();
    let role = role(&call)?.ok_or_else(|| ApiError::missing("role", "viewer, operator or administrator"))?;
    let scope = KeyScope { stores: stores(parameters)?, operations: operations(parameters)? };
    let days = match parameters.integer("expirationDays")? {
        None => None,
        Some(days) => match u32::try_from(days) {
            Ok(days) => Some(days),
            Err(_) => return Err(ApiError::invalid("expirationDays", "expected a number of days")),
        },
    };
    let new = NewKey { name: name.clone(), role, scope, days };
    let made = call.site.recovery.create_key(new, &call.caller().username).await;
    let (secret, expires) = call.lift(made)?;
    Ok(Reply::Json(json!({
        "status": "success", "name": name, "key": secret.expose_secret(), "expires": expires,
    })))
}

/// Nothing sent: all of them.
fn operations(parameters: &Parameters) -> ApiResult<Vec<OperationGroup>> {
    let Some(text) = parameters.text("operations") else { return Ok(OperationGroup::ALL.to_vec()) };
    let group = |name| OperationGroup::named(name).ok_or_else(|| ApiError::invalid("operations", OPERATIONS));
    text.split(',').map(|name| group(name.trim())).collect()
}

/// Names with commas between, or a JSON list, as names may hold commas. Nothing sent: all of them.
fn stores(parameters: &Parameters) -> ApiResult<Vec<String>> {
    // An empty list would be good for all stores, which nobody means who sends one.
    let stores = parameters.list("stores", "names of stores with commas between, or a JSON list of them")?;
    Ok(stores.unwrap_or_default())
}

/// `admin/keys/<key>/revoke`
pub(crate) async fn revoke(call: Arc<Call>) -> ApiResult<Reply> {
    call.lift(call.site.recovery.revoke_key(key(&call)?).await)?;
    success()
}
