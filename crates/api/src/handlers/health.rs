//! `/health/live` and `/health/ready`: outside the context, for probes, the only replies with a status of
//! their own.

use crate::dispatch::Site;
use crate::format::Format;
use crate::reply::{self, Response};
use hyper::{Method, StatusCode};
use serde_json::json;

/// The reply, if the path is one of the two.
pub(crate) async fn answer(site: &Site, method: &Method, path: &str) -> Option<Response> {
    let (status, text) = match path {
        "/health/live" => (StatusCode::OK, "live"),
        "/health/ready" if site.recovery.ready().await => (StatusCode::OK, "ready"),
        "/health/ready" => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        _ => return None,
    };
    let status =
        if matches!(*method, Method::GET | Method::HEAD) { status } else { StatusCode::METHOD_NOT_ALLOWED };
    Some(reply::json(status, Format::Json, &json!({"status": text})))
}
