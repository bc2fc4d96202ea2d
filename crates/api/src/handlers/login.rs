//! Tokens for programs, and the sessions of the pages.

use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;
use crate::session;
use recovery::{ErrorKind, Principal};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::sync::Arc;

/// Two weeks; a longer wish is cut, not refused.
const TOKEN_MINUTES_MAX: i64 = 20_160;
const TOKEN_MINUTES_DEFAULT: i64 = 60;

/// `generateToken`
pub(crate) async fn generate_token(call: Arc<Call>) -> ApiResult<Reply> {
    let parameters = &call.parameters;
    let username = parameters.required("username", "the name of a user")?;
    let password = parameters.required("password", "the user's password")?;
    if parameters.text("client").is_some_and(|client| !matches!(client, "referer" | "ip" | "requestip")) {
        return Err(ApiError::invalid("client", "expected referer, ip or requestip"));
    }
    let minutes = match parameters.integer("expiration")?.unwrap_or(TOKEN_MINUTES_DEFAULT) {
        ..=0 => return Err(ApiError::invalid("expiration", "expected minutes, at least 1")),
        minutes => u32::try_from(minutes.min(TOKEN_MINUTES_MAX)).unwrap_or(1),
    };
    let principal = log_in(&call, username, password).await?;
    let (token, expires) = call.lift(call.site.recovery.issue_token(&principal, minutes).await)?;
    Ok(Reply::Json(json!({"token": token.expose_secret(), "expires": expires, "ssl": true})))
}

/// Checks a password. The refusal is the same for an unknown user, a wrong password and too many tries.
pub(super) async fn log_in(call: &Call, username: &str, password: &str) -> ApiResult<Principal> {
    let _place = call.site.log_ins.begin(call.address)?;
    let password = SecretString::from(password);
    let result = call.site.recovery.log_in(username, &password, &call.address.to_string()).await;
    match result {
        Err(error) if error.kind == ErrorKind::LoginFailed => {
            let refusal = ApiError::new(400, "LOGIN_FAILED", "Unable to generate token.");
            Err(refusal.detail("Invalid username or password."))
        }
        other => call.lift(other),
    }
}

/// `admin/login`: the form, and what it sends.
pub(crate) async fn sign_in(call: Arc<Call>) -> ApiResult<Reply> {
    if !call.is_html() {
        return Err(ApiError::unknown_url());
    }
    let next = session::local_target(call.parameters.text("next"), &call.site.context_path());
    if !call.is_post() {
        return Ok(Reply::SignIn { next, error: None });
    }
    session::check_origin(&call.headers, &call.site.public_url)?;
    let username = call.parameters.text("username").unwrap_or_default();
    let password = call.parameters.text("password").unwrap_or_default();
    match log_in(&call, username, password).await {
        Ok(principal) => {
            end_session(&call).await?;
            let issued = call.site.recovery.issue_token(&principal, session::SESSION_MINUTES).await;
            let (token, _) = call.lift(issued)?;
            let cookie = session::start_cookie(token.expose_secret(), call.site.secure_cookies);
            Ok(Reply::Go { path: next, cookie: Some(cookie) })
        }
        Err(error) if error.code == 400 => {
            Ok(Reply::SignIn { next, error: Some("The user name or the password is not right.".to_owned()) })
        }
        Err(error) => Err(error),
    }
}

/// `admin/logout`
pub(crate) async fn sign_out(call: Arc<Call>) -> ApiResult<Reply> {
    let path = format!("{}/admin/login", call.site.context_path());
    if !call.is_html() {
        return Err(ApiError::unknown_url());
    }
    if !call.is_post() {
        return Ok(Reply::Go { path, cookie: None });
    }
    session::check_origin(&call.headers, &call.site.public_url)?;
    if let Some(token) = session::cookie_token(&call.headers, call.site.secure_cookies) {
        session::check_form(&token, call.parameters.text(session::FORM_FIELD))?;
    }
    end_session(&call).await?;
    Ok(Reply::Go { path, cookie: Some(session::end_cookie(call.site.secure_cookies)) })
}

/// Makes the token of the cookie worthless.
pub(super) async fn end_session(call: &Call) -> ApiResult<()> {
    match session::cookie_token(&call.headers, call.site.secure_cookies) {
        Some(token) => call.lift(call.site.recovery.revoke_token(&token).await),
        None => Ok(()),
    }
}
