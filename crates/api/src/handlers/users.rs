//! Users, for administrators; and one's own password, for everybody.

use super::success;
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;
use recovery::{ErrorKind, Role};
use secrecy::SecretString;
use serde_json::{Value, json};
use std::sync::Arc;

/// `admin/users`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let users = call.lift(call.site.recovery.users().await)?;
    let entry = |user: &recovery::UserView| json!({"username": user.username, "role": user.role, "createdTime": user.created_at});
    Ok(Reply::Json(json!({"users": users.iter().map(entry).collect::<Value>()})))
}

/// `admin/users/<user>`
pub(crate) async fn one(call: Arc<Call>) -> ApiResult<Reply> {
    let name = user(&call)?;
    let users = call.lift(call.site.recovery.users().await)?;
    let found = users.into_iter().find(|user| user.username == name);
    let found =
        found.ok_or_else(|| ApiError::new(404, "USER_NOT_FOUND", format!("There is no user '{name}'.")))?;
    Ok(Reply::Json(json!({"username": found.username, "role": found.role, "createdTime": found.created_at})))
}

fn user(call: &Call) -> ApiResult<&str> {
    call.name("user").ok_or_else(ApiError::unknown_url)
}

pub(super) fn role(call: &Call) -> ApiResult<Option<Role>> {
    match call.parameters.text("role") {
        None => Ok(None),
        Some("viewer") => Ok(Some(Role::Viewer)),
        Some("operator") => Ok(Some(Role::Operator)),
        Some("administrator") => Ok(Some(Role::Administrator)),
        Some(_) => Err(ApiError::invalid("role", "expected viewer, operator or administrator")),
    }
}

/// `admin/users/add`
pub(crate) async fn add(call: Arc<Call>) -> ApiResult<Reply> {
    let name = call.parameters.required("username", "the name of the new user")?;
    let role = role(&call)?.ok_or_else(|| ApiError::missing("role", "viewer, operator or administrator"))?;
    let password = SecretString::from(call.parameters.required("password", "at least 8 characters")?);
    call.lift(call.site.recovery.add_user(name, &password, role).await)?;
    success()
}

/// `admin/users/<user>/update`: another role, another password, or both; either ends the user's sessions.
pub(crate) async fn update(call: Arc<Call>) -> ApiResult<Reply> {
    let (name, role) = (user(&call)?, role(&call)?);
    let password = call.parameters.text("password").map(SecretString::from);
    if role.is_none() && password.is_none() {
        return Err(ApiError::missing("role", "send it, or password"));
    }
    call.lift(call.site.recovery.update_user(name, role, password.as_ref()).await)?;
    success()
}

/// `admin/users/<user>/signOut`: everywhere.
pub(crate) async fn sign_out(call: Arc<Call>) -> ApiResult<Reply> {
    call.lift(call.site.recovery.revoke_tokens(user(&call)?).await)?;
    success()
}

/// `admin/users/<user>/remove`
pub(crate) async fn remove(call: Arc<Call>) -> ApiResult<Reply> {
    call.lift(call.site.recovery.remove_user(user(&call)?).await)?;
    success()
}

/// `admin/password`: one's own, with the present one. It ends all sessions, this one too.
pub(crate) async fn own_password(call: Arc<Call>) -> ApiResult<Reply> {
    let name = call.caller().username;
    let present = SecretString::from(call.parameters.required("password", "your present password")?);
    let new = SecretString::from(call.parameters.required("newPassword", "at least 8 characters")?);
    let _place = call.site.log_ins.begin(call.address)?;
    match call.site.recovery.log_in(&name, &present, &call.address.to_string()).await {
        Err(error) if error.kind == ErrorKind::LoginFailed => {
            return Err(ApiError::new(400, "LOGIN_FAILED", "Your present password is not right."));
        }
        other => call.lift(other)?,
    };
    match call.site.recovery.set_password(&name, &new).await {
        // Removed since the token was looked at, which has ended with the user.
        Err(error) if error.kind == ErrorKind::UserNotFound => Err(ApiError::token_invalid()),
        other => call.lift(other).and_then(|()| success()),
    }
}
