//! The OAuth 2 log-in, which known clients use by default: implicit, and by code with PKCE. What travels between the
//! steps is in `oauth`.

use super::login;
use crate::dispatch::{Call, now_ms};
use crate::error::{ApiError, ApiResult};
use crate::oauth::{Facts, ResponseType, Wish, invalid_grant, invalid_request};
use crate::reply::Reply;
use crate::session;
use recovery::{Principal, Purpose};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use std::sync::Arc;

/// From the redirect to the exchange; out of band a person carries the code.
const CODE_MINUTES: u32 = 5;
/// Of an access token from a code or refresh token. Known clients ask anew when less than five minutes are left.
const ACCESS_MINUTES: u32 = 30;

/// `oauth2/authorize`: the sign-in page, with the request sealed into it.
pub(crate) async fn authorize(call: Arc<Call>) -> ApiResult<Reply> {
    let wish = Wish::from_request(&call.parameters, &call.site.public_url)?;
    let oauth_state = wish.seal(&call.site.recovery);
    Ok(Reply::Authorize { client_id: wish.client_id, oauth_state, refused: false })
}

/// `oauth2/signin`: what that page sends. The request is checked before the password, so what did not come from
/// `authorize` tries no passwords.
pub(crate) async fn sign_in(call: Arc<Call>) -> ApiResult<Reply> {
    if !call.is_post() {
        return Err(ApiError::method("POST"));
    }
    session::check_origin(&call.headers, &call.site.public_url)?;
    let parameters = &call.parameters;
    let oauth_state = parameters.required("oauth_state", "as authorize gave it")?;
    let wish = Wish::open(&call.site.recovery, oauth_state)?;
    let username = parameters.text("username").unwrap_or_default();
    let password = parameters.text("password").unwrap_or_default();
    match login::log_in(&call, username, password).await {
        Ok(principal) => grant(&call, &wish, &principal).await,
        Err(error) if error.message_code == "LOGIN_FAILED" && call.is_html() => {
            let (client_id, oauth_state) = (wish.client_id, oauth_state.to_owned());
            Ok(Reply::Authorize { client_id, oauth_state, refused: true })
        }
        Err(error) => Err(error),
    }
}

/// Sends the program what it asked for.
async fn grant(call: &Call, wish: &Wish, principal: &Principal) -> ApiResult<Reply> {
    let recovery = &call.site.recovery;
    let location = match wish.response_type {
        ResponseType::Token => {
            let (token, expires) = call.lift(recovery.issue_token(principal, wish.minutes).await)?;
            let answer = [
                ("access_token", token.expose_secret()),
                ("expires_in", &seconds_until(expires).to_string()),
                ("username", &principal.username),
                ("ssl", "true"),
            ];
            wish.location(&call.site.public_url, &answer)
        }
        ResponseType::Code => {
            let issued = recovery.issue_grant(principal, Purpose::Code, CODE_MINUTES, &wish.facts()).await;
            let (code, _) = call.lift(issued)?;
            wish.location(&call.site.public_url, &[("code", code.expose_secret())])
        }
    };
    Ok(Reply::Redirect(location))
}

fn seconds_until(expires: i64) -> i64 {
    (expires - now_ms()) / 1000
}

/// `oauth2/approval`: where a code goes that nothing can be sent to. Shows codes of ours alone, so that nobody makes
/// this page say something else.
pub(crate) async fn approval(call: Arc<Call>) -> ApiResult<Reply> {
    let code = call.parameters.text("code");
    if let Some(code) = code {
        let known = call.lift(call.site.recovery.grant(code, Purpose::Code).await)?;
        known.ok_or_else(|| invalid_grant("code"))?;
    }
    Ok(Reply::Approval { code: code.map(str::to_owned) })
}

/// `oauth2/token`
pub(crate) async fn token(call: Arc<Call>) -> ApiResult<Reply> {
    let reply = match call.parameters.text("grant_type") {
        Some("authorization_code") => by_code(&call).await?,
        Some("refresh_token") => by_refresh_token(&call).await?,
        Some(_) => {
            let message = "Invalid grant_type: expected authorization_code or refresh_token. A program without a person \
                           beside it gets its token from generateToken, with a user's name and password.";
            return Err(ApiError::new(400, "OAUTH_UNSUPPORTED_GRANT_TYPE", message));
        }
        None => return Err(invalid_request("The grant_type is missing.")),
    };
    Ok(Reply::Json(reply))
}

async fn by_code(call: &Call) -> ApiResult<Value> {
    let recovery = &call.site.recovery;
    let code = call.parameters.text("code").ok_or_else(|| invalid_request("The code is missing."))?;
    // A code that was shown to somebody else is gone with the first try, right or wrong.
    let taken = call.lift(recovery.take_grant(code, Purpose::Code).await)?;
    let (principal, facts) = taken
        .and_then(|(principal, facts)| Some((principal, Facts::read(&facts)?)))
        .filter(|(_, facts)| facts.proven(&call.parameters, &call.site.public_url))
        .ok_or_else(|| invalid_grant("code"))?;
    let issued = recovery.issue_grant(&principal, Purpose::Refresh, facts.minutes, &facts.write()).await;
    let (refresh, refresh_ends) = call.lift(issued)?;
    let mut reply = access(call, &principal).await?;
    reply["refresh_token"] = json!(refresh.expose_secret());
    reply["refresh_token_expires_in"] = json!(seconds_until(refresh_ends));
    Ok(reply)
}

/// The refresh token stays good to its end: known clients keep the one that they had first.
async fn by_refresh_token(call: &Call) -> ApiResult<Value> {
    let parameters = &call.parameters;
    let sent = parameters.text("refresh_token");
    let sent = sent.ok_or_else(|| invalid_request("The refresh_token is missing."))?;
    let held = call.lift(call.site.recovery.grant(sent, Purpose::Refresh).await)?;
    let (principal, _) = held
        .filter(|(_, facts)| Facts::read(facts).is_some_and(|facts| facts.names_client(parameters)))
        .ok_or_else(|| invalid_grant("refresh token"))?;
    access(call, &principal).await
}

async fn access(call: &Call, principal: &Principal) -> ApiResult<Value> {
    let (token, expires) = call.lift(call.site.recovery.issue_token(principal, ACCESS_MINUTES).await)?;
    Ok(json!({
        "access_token": token.expose_secret(), "token_type": "bearer", "expires_in": seconds_until(expires),
        "username": principal.username, "ssl": true,
    }))
}

/// `oauth2/revokeToken`: the same reply whether there was such a token or not.
pub(crate) async fn revoke(call: Arc<Call>) -> ApiResult<Reply> {
    let sent = call.parameters.text("auth_token").or_else(|| call.parameters.text("token"));
    let token = sent.ok_or_else(|| invalid_request("The auth_token is missing."))?;
    for purpose in [Purpose::Access, Purpose::Refresh] {
        // Looked up first: strangers must not make the state write.
        if call.lift(call.site.recovery.grant(token, purpose).await)?.is_some() {
            call.lift(call.site.recovery.revoke_token(token).await)?;
        }
    }
    Ok(Reply::Json(json!({"success": true})))
}
