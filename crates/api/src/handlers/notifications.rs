//! Who is told of what happens, and whether that arrives.

use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::reply::Reply;
use recovery::{DeliveryStatus, DeliveryView, EventKind, TargetView};
use serde_json::{Value, json};
use std::sync::Arc;

/// `admin/notifications`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let targets = call.lift(call.site.recovery.targets().await)?;
    Ok(Reply::Json(json!({"targets": targets.iter().map(target).collect::<Value>()})))
}

/// `admin/notifications/test`
pub(crate) async fn test(call: Arc<Call>) -> ApiResult<Reply> {
    let asked = call.parameters.text("target").unwrap_or_default();
    let username = call.caller().username;
    let deliveries = call.lift(call.site.recovery.test_notification(asked, &username).await)?;
    let all = deliveries.iter().all(|delivery| delivery.status == DeliveryStatus::Delivered);
    let status = if all { "success" } else { "failed" };
    Ok(Reply::Json(json!({
        "status": status, "deliveries": deliveries.iter().map(delivery).collect::<Value>(),
    })))
}

fn target(of: &TargetView) -> Value {
    let events: Vec<&str> = of.events.iter().copied().map(EventKind::name).collect();
    json!({
        "name": of.name, "type": of.kind, "place": of.place, "events": events.join(", "),
        "waiting": of.waiting, "delivered": of.delivered, "givenUp": of.gave_up,
        "lastDelivered": time(of.last_delivered), "lastFailed": time(of.last_failed), "lastError": of.last_error,
    })
}

fn delivery(of: &DeliveryView) -> Value {
    json!({
        "deliveryId": of.id, "target": of.target, "event": of.event.name(), "subject": of.subject, "time": of.time,
        "status": of.status.name(), "attempts": of.attempts, "error": of.error,
    })
}

/// As elsewhere: -1 for never.
fn time(ms: i64) -> i64 {
    if ms == 0 { -1 } else { ms }
}
