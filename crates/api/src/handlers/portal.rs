//! What known clients ask a portal before they let anybody administer it: who are you, and who am I.
//!
//! `portalDeploymentType` selects the client of the disaster-recovery interface; `role` and `privileges` decide
//! whether it opens that client at all. They grant nothing: each request is judged by the user's role here.

use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::reply::Reply;
use recovery::{Principal, Role};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// The version of the portal's own interface that goes with `RELEASE`.
pub(crate) const PORTAL_VERSION: &str = "2025.1";

/// What clients tell portals apart by: 16 digits.
pub(super) fn id(call: &Call) -> String {
    hex::encode_upper(&Sha256::digest(call.site.public_url.as_bytes())[..8])
}

/// `portals/self`: with a token also its user.
pub(crate) async fn portal(call: Arc<Call>) -> ApiResult<Reply> {
    let principal = call.who_if_any().await?;
    let mut reply = json!({
        "id": id(&call), "name": "Strongroom", "portalName": "Strongroom",
        "portalDeploymentType": "ArcGISEnterpriseOnKubernetes", "isPortal": true,
        "portalMode": "singletenant", "allSSL": true, "currentVersion": PORTAL_VERSION,
    });
    if let Some(principal) = principal {
        reply["user"] = user(&principal.username, principal.role);
    }
    Ok(Reply::Json(reply))
}

/// `community/self`
pub(crate) async fn myself(call: Arc<Call>) -> ApiResult<Reply> {
    let Principal { username, role, .. } = call.principal.as_ref().ok_or_else(ApiError::token_required)?;
    Ok(Reply::Json(user(username, *role)))
}

/// `community/users/USER`: oneself, and for an administrator everybody.
pub(crate) async fn one(call: Arc<Call>) -> ApiResult<Reply> {
    let asked_for = call.name("user").unwrap_or_default();
    let caller = call.principal.as_ref().ok_or_else(ApiError::token_required)?;
    if caller.username == asked_for {
        return Ok(Reply::Json(user(asked_for, caller.role)));
    }
    let users = match caller.role {
        // Keys have no say in users.
        Role::Administrator if caller.key.is_none() => call.lift(call.site.recovery.users().await)?,
        _ => Vec::new(),
    };
    let found = users.into_iter().find(|known| known.username == asked_for);
    let found = found.ok_or_else(|| {
        let message = format!("There is no user '{asked_for}', or you may not see it.");
        ApiError::new(404, "USER_NOT_FOUND", message)
    })?;
    Ok(Reply::Json(user(&found.username, found.role)))
}

fn user(username: &str, role: Role) -> Value {
    let (name, privileges) = claims(role);
    json!({
        "username": username, "id": username, "fullName": username, "role": name,
        "privileges": privileges, "groups": [],
    })
}

/// Everybody may read disaster recovery, for which the documented privilege is that of security and infrastructure.
/// Without it, or for older clients without one of these two roles, a client offers no administration at all.
fn claims(role: Role) -> (&'static str, &'static [&'static str]) {
    match role {
        Role::Administrator => ("org_admin", &["portal:admin:manageSecurity", "portal:admin:viewUsers"]),
        Role::Operator | Role::Viewer => ("org_publisher", &["portal:admin:manageSecurity"]),
    }
}
