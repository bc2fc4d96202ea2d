//! The attempts of one call: the only place that tries again.
//!
//! All attempts share one deadline and one count. The pause before the next attempt grows and is drawn by lot, so
//! that many writers do not come back together; a service that names a pause gets it.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{Meaning, Verb, document, meaning};
use super::{Inner, wire};

/// A line slower than this counts as broken.
pub(super) const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A service may ask for a pause of so long at most.
const ASKED_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How one attempt failed.
pub(super) enum Failure {
    /// The library's error; the answer that was noted says more.
    Library(object_store::Error),
    /// We know what it means.
    Decided(Meaning, String),
}

impl Failure {
    pub(super) fn decided(meaning: Meaning, reason: String) -> Self {
        Self::Decided(meaning, reason)
    }

    /// The line failed while the answer came.
    pub(super) fn transport(reason: impl Into<String>) -> Self {
        Self::Decided(Meaning::Again, reason.into())
    }
}

impl From<object_store::Error> for Failure {
    fn from(error: object_store::Error) -> Self {
        Self::Library(error)
    }
}

/// How a call failed in the end.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) meaning: Meaning,
    /// For people; without URLs, as these may hold signatures.
    pub(super) reason: String,
    /// An earlier attempt may have been carried out.
    pub(super) unsure: bool,
}

/// The attempts of one call.
pub(super) struct Attempts<'a> {
    inner: &'a Inner,
    verb: Verb,
    time: Duration,
}

impl<'a> Attempts<'a> {
    /// A call that moves about `bytes`.
    pub(super) fn new(inner: &'a Inner, verb: Verb, bytes: u64) -> Self {
        let time = inner.limits.deadline + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND);
        Self { inner, verb, time }
    }

    /// Tries until it works, cannot work, or time or attempts are used up.
    pub(super) async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (mut unsure, mut number) = (false, 0);
        // Waiting for the first permit costs nothing of it: that is our own queue.
        let mut end = None;
        loop {
            number += 1;
            let permit = self.inner.limiter.permit().await;
            let end = *end.get_or_insert_with(|| Instant::now() + self.time);
            let outcome = timeout_at(end, attempt()).await;
            drop(permit);
            let answer = wire::last_answer();
            let (meaning, reason) = match outcome {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(failure)) => self.judge(failure, answer),
                Err(_) => (Meaning::Again, "no answer in time".to_owned()),
            };
            if meaning != Meaning::Again {
                return Err(Refusal { meaning, reason, unsure });
            }
            // Refused before it was carried out: a conflict, or too many requests. All else may have landed.
            unsure |= !matches!(answer.status, Some(400..500));
            let pause = pause(number, answer.pause);
            if number >= self.inner.limits.attempts || Instant::now() + pause >= end {
                let tries = if number == 1 { "once".to_owned() } else { format!("{number} times") };
                let reason = format!("{reason} (tried {tries}; is the service reachable and well?)");
                return Err(Refusal { meaning: Meaning::Again, reason, unsure });
            }
            sleep(pause).await;
        }
    }

    fn judge(&self, failure: Failure, answer: wire::Answer) -> (Meaning, String) {
        let error = match failure {
            Failure::Decided(meaning, reason) => return (meaning, reason),
            Failure::Library(error) => error,
        };
        let text = error.to_string();
        let (code, message) = document(&text);
        if answer.for_credentials {
            return (
                Meaning::Denied,
                format!(
                    "no credentials could be had ({}); give them by environment, profile or the machine's role",
                    cause(&error)
                ),
            );
        }
        let status = match (answer.status, &error) {
            (Some(status), _) if status >= 300 => Some(status),
            // An answer that carries the outcome of a part in its body, or an error made before sending.
            // Azure deletes by a list, and answers with a sentence for each.
            (_, object_store::Error::NotFound { .. }) if text.contains("container does not exist") => {
                return (Meaning::Gone, "the container is not there; is its name right?".to_owned());
            }
            (_, object_store::Error::NotFound { .. }) => Some(404),
            (_, object_store::Error::AlreadyExists { .. }) => Some(409),
            (_, object_store::Error::Precondition { .. }) => Some(412),
            (_, object_store::Error::PermissionDenied { .. }) => Some(403),
            (_, object_store::Error::Unauthenticated { .. }) => Some(401),
            (status, _) => status,
        };
        let Some(status) = status else {
            return match error {
                object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                    (Meaning::Invalid, cause(&error))
                }
                _ => (Meaning::Again, cause(&error)),
            };
        };
        let meaning = meaning(self.inner.service, self.verb, status, &code);
        let reason = match (meaning, code.as_str(), message.as_str()) {
            (Meaning::Missing, ..) => "there is no such object".to_owned(),
            (Meaning::Gone, ..) => "the bucket is not there; is its name right?".to_owned(),
            (Meaning::Exists, ..) => "there is such an object already".to_owned(),
            (Meaning::Changed, ..) => "it was changed meanwhile; read it again".to_owned(),
            (Meaning::Short, ..) => "it ends before the bytes that were asked for".to_owned(),
            (_, "", _) if (300..400).contains(&status) => {
                format!("the service answered {status}: is this its right region and address?")
            }
            (_, "", _) if status < 300 => cause(&error),
            (_, "", _) => format!("the service answered {status}"),
            (_, code, "") => format!("the service answered {status} {code}"),
            (_, code, message) => format!("the service answered {status} {code}: {message}"),
        };
        (meaning, reason)
    }
}

/// The innermost reason, which names no URL.
fn cause(error: &object_store::Error) -> String {
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    let text = innermost.to_string();
    if text.contains("://") { "the request could not be made".to_owned() } else { text }
}

/// The pause before attempt `number + 1`.
fn pause(number: u32, asked: Option<Duration>) -> Duration {
    let longest = PAUSE_MAX.min(FIRST_PAUSE * 2u32.saturating_pow(number.min(16)));
    let drawn = longest.mul_f64(rand::random_range(0.5..1.0));
    drawn.max(asked.unwrap_or_default().min(ASKED_PAUSE_MAX))
}
