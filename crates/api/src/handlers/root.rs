//! The small resources at the top: versions, what lies below, style sheet, script and icon of the pages.

use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::handlers::portal::PORTAL_VERSION;
use crate::openapi;
use crate::reply::Reply;
use serde_json::json;
use std::sync::Arc;

/// The version of the interface that we claim to be compatible with.
pub(crate) const RELEASE: &str = "12.0.0";

/// The context itself: browsers go on to the start page.
pub(crate) async fn start(call: Arc<Call>) -> ApiResult<Reply> {
    if call.is_html() {
        return Ok(Reply::Go { path: format!("{}/admin", call.site.context_path()), cookie: None });
    }
    Err(ApiError::unknown_url())
}

/// The style sheet of the pages.
pub(crate) async fn style(_call: Arc<Call>) -> ApiResult<Reply> {
    Ok(Reply::Asset("text/css; charset=utf-8", include_str!("../static/style.css")))
}

/// The script of the pages: what they can do without it they do, and with it some of it goes by itself.
pub(crate) async fn script(_call: Arc<Call>) -> ApiResult<Reply> {
    Ok(Reply::Asset("text/javascript; charset=utf-8", include_str!("../static/console.js")))
}

/// The icon of the pages.
pub(crate) async fn icon(_call: Arc<Call>) -> ApiResult<Reply> {
    Ok(Reply::Asset("image/svg+xml", include_str!("../static/icon.svg")))
}

/// `admin`
pub(crate) async fn admin(call: Arc<Call>) -> ApiResult<Reply> {
    let value = json!({
        "fullVersion": RELEASE, "currentVersion": 12.0, "resources": ["system", "jobs", "mode"],
        "strongroomVersion": env!("CARGO_PKG_VERSION"),
    });
    if !call.is_html() {
        return Ok(Reply::Json(value));
    }
    let overview = call.lift(call.site.recovery.overview().await)?;
    Ok(Reply::Overview(value, Box::new(overview)))
}

/// `admin/system`
pub(crate) async fn system(_call: Arc<Call>) -> ApiResult<Reply> {
    Ok(Reply::Json(json!({"resources": ["disasterrecovery", "tasks", "components"]})))
}

/// `admin/openapi.json`: for everybody; it tells of this server no more than its version.
pub(crate) async fn openapi(_call: Arc<Call>) -> ApiResult<Reply> {
    Ok(Reply::Document(&openapi::DOCUMENT))
}

/// `sharing/rest`
pub(crate) async fn sharing(_call: Arc<Call>) -> ApiResult<Reply> {
    Ok(Reply::Json(
        json!({"currentVersion": PORTAL_VERSION, "enterpriseVersion": RELEASE, "enterpriseBuild": "1"}),
    ))
}

/// `sharing/rest/info`: where clients find the place that makes tokens.
pub(crate) async fn info(call: Arc<Call>) -> ApiResult<Reply> {
    let url = format!("{}/sharing/rest/generateToken", call.site.public_url);
    Ok(Reply::Json(json!({"authInfo": {"isTokenBasedSecurity": true, "tokenServicesUrl": url}})))
}
