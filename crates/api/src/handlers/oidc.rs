//! Sign-in through an OpenID Connect provider: to it, and back. What is checked is in `oidc`.

use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::oidc::{self, Answer, Attempt, Identity, Oidc, Refusal};
use crate::reply::Reply;
use crate::session;
use recovery::{ErrorKind, Principal};
use secrecy::ExposeSecret;
use std::sync::Arc;

/// The provider, for browsers, where there is one.
fn provider(call: &Call) -> ApiResult<&Oidc> {
    if call.is_post() {
        return Err(ApiError::method("GET"));
    }
    call.site.oidc.as_ref().filter(|_| call.is_html()).ok_or_else(ApiError::unknown_url)
}

/// `admin/oidc/start`
pub(crate) async fn start(call: Arc<Call>) -> ApiResult<Reply> {
    let provider = provider(&call)?;
    let next = session::local_target(call.parameters.text("next"), &call.site.context_path());
    let attempt = Attempt::new(next);
    let recovery = &call.site.recovery;
    let location = provider.address_for(&attempt, recovery).await.map_err(|why| refused(&call, &why))?;
    // Here, as the browser does not send the session's cookie when it comes back from the provider.
    super::login::end_session(&call).await?;
    let cookie = oidc::cookie(&attempt.seal(recovery), call.site.secure_cookies);
    Ok(Reply::Leave { location, cookie })
}

/// `admin/oidc/callback`: where the provider sends the browser.
pub(crate) async fn callback(call: Arc<Call>) -> ApiResult<Reply> {
    let provider = provider(&call)?;
    let recovery = &call.site.recovery;
    let secure = call.site.secure_cookies;
    let attempt = oidc::sent_cookie(&call.headers, secure).and_then(|sent| Attempt::open(recovery, sent));
    // Before anything else: nobody who did not begin here makes us ask the provider.
    let attempt = attempt.ok_or_else(|| refused(&call, &Refusal::Foreign))?;
    // An attempt is anybody's to begin.
    let _place = call.site.log_ins.begin(call.address)?;
    let of = |name| call.parameters.text(name);
    let answer = Answer { code: of("code"), state: of("state"), error: of("error"), issuer: of("iss") };
    let identity = provider.identity(answer, &attempt, recovery).await.map_err(|why| refused(&call, &why))?;
    let principal = principal(&call, &identity).await?;
    // Whoever was signed in here is so no longer.
    super::login::end_session(&call).await?;
    let (token, _) = call.lift(recovery.issue_token(&principal, session::SESSION_MINUTES).await)?;
    let cookies = [session::start_cookie(token.expose_secret(), secure), oidc::end_cookie(secure)];
    Ok(Reply::SignedIn { next: attempt.next, username: principal.username, cookies })
}

async fn principal(call: &Call, identity: &Identity) -> ApiResult<Principal> {
    let Identity { issuer, subject, username, role } = identity;
    match call.site.recovery.sign_in_by_provider(issuer, subject, username, *role).await {
        Err(error) if matches!(error.kind, ErrorKind::NameInvalid | ErrorKind::ParameterMissing) => {
            Err(refused(call, &Refusal::NoName(error.message)))
        }
        Err(error) if error.kind == ErrorKind::Forbidden => {
            tracing::warn!(
                request_id = call.request_id,
                reason = error.message,
                "sign-in by the provider failed"
            );
            Err(ApiError::new(400, "LOGIN_FAILED", error.message))
        }
        other => call.lift(other),
    }
}

/// The refusal for the person; the reason goes to the log. What nobody tried to get past is no failed log-in.
fn refused(call: &Call, why: &Refusal) -> ApiError {
    tracing::warn!(
        request_id = call.request_id,
        reason = why.reason(),
        "sign-in by the provider failed: {why}"
    );
    let (code, message_code) = match why {
        Refusal::Busy => (409, "DR_BUSY"),
        Refusal::Provider(_) => (503, "OIDC_UNREACHABLE"),
        Refusal::Foreign => (400, "OIDC_FOREIGN"),
        Refusal::Denied(_) | Refusal::Untrusted(_) | Refusal::NoName(_) | Refusal::NoRole => {
            (400, "LOGIN_FAILED")
        }
    };
    ApiError::new(code, message_code, why.to_string())
}
