//! The attempts of one call: the only place that tries again.
//!
//! All attempts share one deadline and one count. The pause before the next attempt grows and is drawn by lot, so
//! that many writers do not come back together; a service that names a pause gets it.
//!
//! A write under a permit asks it before each attempt and while one is under way: once it is withdrawn, the attempt is
//! given up.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::answer::{Meaning, Verb, document, meaning};
use super::{Inner, wire};
use crate::Permit;

/// A line slower than this counts as broken.
pub(super) const SLOWEST_BYTES_PER_SECOND: u64 = 64 << 10;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// While an attempt is under way it is looked so often whether it still may be.
const LOOK_EVERY: Duration = Duration::from_secs(1);
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
    permit: Option<Arc<dyn Permit>>,
    /// About how many bytes are moved; more time is given for more of them.
    bytes: AtomicU64,
}

impl<'a> Attempts<'a> {
    /// A call that moves about `bytes`.
    pub(super) fn new(inner: &'a Inner, verb: Verb, bytes: u64) -> Self {
        Self { inner, verb, permit: None, bytes: bytes.into() }
    }

    /// The same for a write, which may be made only under this permit.
    pub(super) fn under(self, permit: &Option<Arc<dyn Permit>>) -> Self {
        Self { permit: permit.clone(), ..self }
    }

    /// Tells how long a body is whose length was not known before.
    pub(super) fn expect(&self, bytes: u64) {
        self.bytes.fetch_max(bytes, Ordering::Relaxed);
    }

    fn time(&self) -> Duration {
        let seconds = self.bytes.load(Ordering::Relaxed) / SLOWEST_BYTES_PER_SECOND;
        self.inner.limits.deadline + Duration::from_secs(seconds)
    }

    fn check(&self, unsure: bool) -> Result<(), Refusal> {
        let Some(permit) = &self.permit else { return Ok(()) };
        permit.may_write().map_err(|reason| Refusal { meaning: Meaning::Forbidden, reason, unsure })
    }

    /// Tries until it works, cannot work, or time or attempts are used up.
    pub(super) async fn run<T, F>(&self, mut attempt: impl FnMut() -> F) -> Result<T, Refusal>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let (mut unsure, mut number) = (false, 0);
        // Waiting for the first permit costs nothing of it: that is our own queue.
        let mut begin = None;
        loop {
            number += 1;
            let turn = self.inner.limiter.permit().await;
            self.check(unsure)?;
            let begin = *begin.get_or_insert_with(Instant::now);
            let outcome = self.watch(begin, attempt()).await?;
            drop(turn);
            let answer = wire::last_answer();
            if answer.status.is_some() && !answer.for_credentials {
                self.inner.had_credentials.store(true, Ordering::Relaxed);
            }
            let (meaning, reason) = match outcome {
                Some(Ok(done)) => return Ok(done),
                Some(Err(failure)) => self.judge(failure, answer),
                None => (Meaning::Again, "no answer in time".to_owned()),
            };
            if meaning != Meaning::Again {
                return Err(Refusal { meaning, reason, unsure });
            }
            // Refused before it was carried out: a conflict, or too many requests. All else may have landed.
            unsure |= !answer.for_credentials && !matches!(answer.status, Some(400..500));
            let pause = pause(number, answer.pause);
            if number >= self.inner.limits.attempts || Instant::now() + pause >= begin + self.time() {
                let tries = if number == 1 { "once".to_owned() } else { format!("{number} times") };
                let reason = format!("{reason} (tried {tries}; is the service reachable and well?)");
                return Err(Refusal { meaning: Meaning::Again, reason, unsure });
            }
            sleep(pause).await;
        }
    }

    /// Waits for the end of an attempt, as long as there is time (else `None`) and it is permitted.
    async fn watch<T>(&self, begin: Instant, attempt: impl Future<Output = T>) -> Result<Option<T>, Refusal> {
        let mut attempt = pin!(attempt);
        loop {
            let now = Instant::now();
            let end = begin + self.time();
            if let Ok(outcome) = timeout_at(end.min(now + LOOK_EVERY), attempt.as_mut()).await {
                return Ok(Some(outcome));
            }
            if Instant::now() >= begin + self.time() {
                return Ok(None);
            }
            // What was sent may be carried out all the same.
            self.check(true)?;
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
            let what = format!("no credentials could be had ({})", cause(&error));
            // Where nothing answers and nothing ever did, there are none.
            let is_there = answer.status.is_some() || self.inner.had_credentials.load(Ordering::Relaxed);
            return match answer.status {
                None | Some(..300 | 408 | 429 | 500..) if is_there => (Meaning::Again, what),
                _ => {
                    let advice = "give them by environment, profile or the machine's role";
                    (Meaning::Denied, format!("{what}; {advice}"))
                }
            };
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
            (Some(_), _) if self.verb == Verb::Delete => code_in_sentence(&text).or(answer.status),
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

/// What became of one object of a list: `… failed for key k: reason (code: 503)`.
fn code_in_sentence(text: &str) -> Option<u16> {
    let (_, rest) = text.rsplit_once("(code: ")?;
    rest.split_once(')')?.0.parse().ok().filter(|code| *code >= 300)
}

/// The innermost reason, which names no URL.
pub(super) fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
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

#[cfg(test)]
#[cfg(feature = "test-support")]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::Storage;
    use crate::object::{Bucket, Limits, ObjectStorage, read_once, wait};

    fn answered(status: Option<u16>, for_credentials: bool) -> wire::Answer {
        wire::Answer { status, for_credentials, ..wire::Answer::default() }
    }

    fn failed(text: &'static str) -> Failure {
        Failure::Library(object_store::Error::Generic { store: "test", source: text.into() })
    }

    #[test]
    fn credentials_that_cannot_be_had_for_a_moment_are_asked_for_again() {
        let bucket = Bucket::default().open();
        let judge = |status| {
            let attempts = Attempts::new(&bucket.inner, Verb::Read, 0);
            attempts.judge(failed("no luck"), answered(status, true)).0
        };
        // Where nothing ever answered there are none.
        assert_eq!(judge(None), Meaning::Denied);
        for had in [false, true] {
            bucket.inner.had_credentials.store(had, Ordering::Relaxed);
            for status in [200, 408, 429, 500, 503, 504] {
                assert_eq!(judge(Some(status)), Meaning::Again, "{status}");
            }
            for status in [301, 400, 401, 403, 404] {
                assert_eq!(judge(Some(status)), Meaning::Denied, "{status}");
            }
        }
        assert_eq!(judge(None), Meaning::Again);
    }

    #[test]
    fn one_failure_of_the_service_of_credentials_does_not_end_the_work() {
        let bucket = Bucket::default().open();
        let outcome = wait(async move {
            let attempts = Attempts::new(&bucket.inner, Verb::Create, 0);
            let mut number = 0;
            attempts
                .run(|| {
                    number += 1;
                    let number = number;
                    async move {
                        if number == 1 {
                            wire::note(answered(Some(503), true));
                            return Err(failed("busy"));
                        }
                        Ok(number)
                    }
                })
                .await
        });
        assert_eq!(outcome.unwrap().unwrap(), 2);
    }

    #[test]
    fn what_became_of_one_object_of_a_deleted_list_is_read_from_the_sentence() {
        let bucket = Bucket::default().open();
        let judge = |text| {
            let attempts = Attempts::new(&bucket.inner, Verb::Delete, 0);
            attempts.judge(failed(text), answered(Some(202), false)).0
        };
        assert_eq!(judge("Bulk delete request failed for key k: not allowed (code: 403)"), Meaning::Denied);
        assert_eq!(judge("Bulk delete request failed for key k: busy (code: 503)"), Meaning::Again);
        assert_eq!(judge("Got invalid bulk delete response: torn"), Meaning::Again);
        assert_eq!(code_in_sentence("k (code: 403) (code: 503)"), Some(503));
        assert_eq!(code_in_sentence("(code: x)"), None);
    }

    struct Until(AtomicBool);

    impl Permit for Until {
        fn may_write(&self) -> Result<(), String> {
            if self.0.load(Ordering::SeqCst) { Ok(()) } else { Err("the lease is lost".to_owned()) }
        }
    }

    /// Makes a call whose attempts end as told, under a permit that is withdrawn during the first.
    fn withdrawn_during_an_attempt(hangs: bool) -> (Result<(), Refusal>, u64) {
        let bucket: ObjectStorage = Bucket::default().open();
        wait(async move {
            let permit = Arc::new(Until(true.into()));
            let shared: Arc<dyn Permit> = permit.clone();
            let attempts = Attempts::new(&bucket.inner, Verb::Create, 0).under(&Some(shared));
            let number = AtomicU64::new(0);
            let outcome: Result<(), Refusal> = attempts
                .run(|| async {
                    number.fetch_add(1, Ordering::SeqCst);
                    permit.0.store(false, Ordering::SeqCst);
                    if hangs {
                        std::future::pending::<()>().await;
                    }
                    Err(failed("no answer"))
                })
                .await;
            (outcome, number.load(Ordering::SeqCst))
        })
        .unwrap_or_else(|why| panic!("{why}"))
    }

    #[test]
    fn a_write_is_not_tried_again_once_its_permit_is_withdrawn() {
        for hangs in [false, true] {
            let (outcome, attempts) = withdrawn_during_an_attempt(hangs);
            let refusal = outcome.unwrap_err();
            assert_eq!((refusal.meaning, attempts), (Meaning::Forbidden, 1), "{}", refusal.reason);
            assert!(refusal.unsure);
        }
    }

    #[test]
    fn a_body_gets_time_by_its_length_once_that_is_known() {
        const SECONDS: u64 = 10;
        let bucket = Bucket::default().open();
        bucket.create("long", &[&vec![7; (SECONDS * SLOWEST_BYTES_PER_SECOND) as usize]]).unwrap();
        let path = bucket.path("long").unwrap();
        let times = wait(async move {
            let attempts = Attempts::new(&bucket.inner, Verb::Read, 0);
            let before = attempts.time();
            let read = attempts.run(|| read_once(&bucket.inner, &attempts, &path, None, 1 << 20)).await;
            (before, read.unwrap().0.len(), attempts.time())
        });
        let deadline = Limits::default().deadline;
        let length = (SECONDS * SLOWEST_BYTES_PER_SECOND) as usize;
        assert_eq!(times.unwrap(), (deadline, length, deadline + Duration::from_secs(SECONDS)));
    }
}
