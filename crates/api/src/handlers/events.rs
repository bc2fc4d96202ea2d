//! The progress of a job as it comes: server-sent events for the page of the job.
//!
//! Each event holds the job as programs get it, with its state and stages; `end` follows the last one. A stream ends with
//! the job, with the session, when the server stops, or after ten minutes; browsers then ask again by themselves.

use super::jobs;
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::outgoing::{self, Writer};
use crate::reply::Reply;
use recovery::JobView;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at the job.
const LOOK_TIME: Duration = Duration::from_millis(500);
/// Between two looks whether the session still holds; then a sign of life is sent too.
const SESSION_TIME: Duration = Duration::from_secs(10);
const STREAM_TIME_MAX: Duration = Duration::from_secs(600);

/// `admin/jobs/<job>/events`
pub(crate) async fn follow(call: Arc<Call>) -> ApiResult<Reply> {
    let id = call.name("job").ok_or_else(ApiError::unknown_url)?.to_owned();
    call.lift(call.site.recovery.job(&id).await)?;
    let place = call.site.streams.followers.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(409, "DR_BUSY", "Too many pages follow jobs just now; look at the job again later.")
    })?;
    let (writer, events) = outgoing::stream(None);
    tokio::spawn(async move {
        tell(&call, &id, &writer).await;
        drop(place);
    });
    Ok(Reply::Events(events))
}

async fn tell(call: &Call, id: &str, writer: &Writer) {
    let (recovery, mut stopping) = (&call.site.recovery, call.site.stopping.subscribe());
    let (mut told, end) = (String::new(), Instant::now() + STREAM_TIME_MAX);
    let mut next_check = Instant::now() + SESSION_TIME;
    if !writer.send("retry: 2000\n\n").await {
        return;
    }
    while Instant::now() < end {
        let Ok(job) = recovery.job(id).await else { return };
        let text = event(&job);
        if text != told && !writer.send(text.clone()).await {
            return;
        }
        told = text;
        if jobs::ended(job.status) {
            writer.send("event: end\ndata: {}\n\n").await;
            return;
        }
        if Instant::now() >= next_check {
            next_check = Instant::now() + SESSION_TIME;
            let holder = recovery.authenticate(call.credential().unwrap_or_default()).await;
            if !matches!(holder, Ok(Some(_))) || !writer.send(":\n\n").await {
                return;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_TIME) => {}
            () = writer.closed() => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

/// One event; JSON has no line breaks, so it is one line.
fn event(job: &JobView) -> String {
    let mut entry = jobs::entry(job);
    entry["state"] = json!(jobs::state(job));
    entry["stages"] = jobs::stages(&job.stages);
    if let Some(progress) = &job.progress {
        entry["doing"] = json!(jobs::doing(progress));
    }
    format!("event: job\ndata: {entry}\n\n")
}
