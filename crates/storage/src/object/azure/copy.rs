//! The service's own copy of a blob: begun by a request, and done when the service says so.

use std::thread::sleep;
use std::time::{Duration, Instant};

use reqwest::Method;
use reqwest::header::HeaderMap;

use super::upload::KIND;
use crate::object::answer::Verb;
use crate::object::spoken::{Answered, OurContent, text};
use crate::{Content, Error, ErrorKind, Result};

/// A copy that makes no headway for so many deadlines of a call is given up.
const STILL_MAX: u32 = 4;
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Copies a blob with all that belongs to it.
pub(super) fn copy(content: &OurContent, from: &str, to: &str, tag: Option<&str>) -> Result<()> {
    // The service copies all but tags.
    let found = content.there(from)?;
    if let Some(why) = found.lacking.first() {
        return Err(content.line.error(ErrorKind::Denied, "copy", from, why));
    }
    let source = content.line.address(from)?;
    let begin = || {
        let mut asked = content.line.asked(Verb::Replace, "copy to", Method::PUT, to);
        asked.say("x-ms-copy-source", source.as_str());
        if let Some(tag) = tag {
            asked.say("x-ms-source-if-match", format!("\"{tag}\""));
        }
        asked.headers.extend(content.words().tags_to_send(&found.headers.tags));
        content.line.send(asked)
    };
    let begun = match begin() {
        // No copy makes a blob one of another kind.
        Err(e)
            if e.kind == ErrorKind::Invalid && is_of_another_kind(content, to, &found.headers.blob_type)? =>
        {
            content.delete(to)?;
            begin()?
        }
        // One of ours, whose answer was lost or that a dead restore began, may hold the place.
        Err(e) if e.kind == ErrorKind::Io => {
            let id = under_way(content, to)?.ok_or(e)?;
            // It has its end, whatever that is.
            let _ = wait(content, to, id);
            begin()?
        }
        other => other?,
    };
    match status(&begun.headers).as_deref() {
        Some("success") => Ok(()),
        Some("pending") => wait(content, to, text(&begun.headers, ID).unwrap_or_default()),
        other => Err(refused(content, to, other.unwrap_or_default())),
    }
}

const ID: &str = "x-ms-copy-id";

fn status(headers: &HeaderMap) -> Option<String> {
    text(headers, "x-ms-copy-status")
}

fn refused(content: &OurContent, to: &str, why: &str) -> Error {
    let reason = format!("the service did not copy it ({}); try again", why.escape_debug());
    content.line.error(ErrorKind::Io, "copy to", to, reason)
}

fn is_of_another_kind(content: &OurContent, key: &str, kind: &Option<String>) -> Result<bool> {
    let kind = kind.as_deref().unwrap_or("BlockBlob");
    let there = content.head(key)?;
    Ok(there.and_then(|there| text(&there.headers, KIND)).is_some_and(|other| other != kind))
}

/// The copy to this place that is not done.
fn under_way(content: &OurContent, to: &str) -> Result<Option<String>> {
    let there = content.head(to)?.map(|there| there.headers);
    let headers = there.filter(|headers| status(headers).as_deref() == Some("pending"));
    Ok(headers.and_then(|headers| text(&headers, ID)))
}

/// Waits until a copy that was begun has an end.
fn wait(content: &OurContent, to: &str, id: String) -> Result<()> {
    let still_max = content.line.inner().limits.deadline * STILL_MAX;
    let (mut moved, mut since, mut pause) = (None, Instant::now(), FIRST_PAUSE);
    loop {
        sleep(pause);
        pause = (pause * 2).min(PAUSE_MAX);
        let Some(Answered { headers, .. }) = content.head(to)? else {
            return Err(refused(content, to, "it was removed meanwhile"));
        };
        if text(&headers, ID).as_deref() != Some(id.as_str()) {
            return Err(refused(content, to, "somebody else wrote to it meanwhile"));
        }
        match status(&headers).as_deref() {
            Some("success") => return Ok(()),
            Some("pending") => {}
            other => {
                let told = text(&headers, "x-ms-copy-status-description").filter(|told| !told.is_empty());
                return Err(refused(content, to, told.as_deref().or(other).unwrap_or_default()));
            }
        }
        let progress = text(&headers, "x-ms-copy-progress");
        if progress != moved {
            (moved, since) = (progress, Instant::now());
        }
        if since.elapsed() > still_max {
            give_up(content, to, &id);
            let why = format!("it made no headway for {} s", still_max.as_secs());
            return Err(refused(content, to, &why));
        }
    }
}

/// A copy that goes on would hold its place against all others.
fn give_up(content: &OurContent, to: &str, id: &str) {
    let mut asked = content.line.asked(Verb::Delete, "give up the copy to", Method::PUT, to);
    asked.query("comp", "copy");
    asked.query("copyid", id);
    asked.say("x-ms-copy-action", "abort");
    if let Err(e) = content.line.send(asked) {
        tracing::warn!("{e}");
    }
}
