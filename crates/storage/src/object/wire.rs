//! What each service answered, seen where the requests leave.
//!
//! The library's errors hide the status of an answer, so its HTTP client is wrapped: the wrapper notes the status in
//! the calling task, where [`last_answer`] finds it. It also sees to it that an answer begins in time.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use super::retry::SLOWEST_BYTES_PER_SECOND;

tokio::task_local! {
    static LAST: RefCell<Answer>;
}

/// The outcome of the last request of this task.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Answer {
    /// The status, if an answer came.
    pub(super) status: Option<u16>,
    /// The service's wish for a pause.
    pub(super) pause: Option<Duration>,
    /// The request asked for credentials, not for the store.
    pub(super) for_credentials: bool,
}

/// Runs `call` in such a way that its answers are noted.
pub(super) async fn listening<T>(call: impl Future<Output = T>) -> T {
    LAST.scope(RefCell::default(), call).await
}

/// What was answered since the last look.
pub(super) fn last_answer() -> Answer {
    LAST.try_with(|last| last.take()).unwrap_or_default()
}

/// Makes the library's HTTP clients.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    silence: Duration,
    made: Arc<AtomicUsize>,
}

impl Connector {
    pub(super) fn new(silence: Duration) -> Self {
        Self { silence, made: Arc::default() }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        let (silence, made) = (self.silence, Arc::clone(&self.made));
        Ok(HttpClient::new(Watched { client, silence, number, made }))
    }
}

/// A client whose answers are noted.
#[derive(Debug)]
struct Watched {
    client: HttpClient,
    silence: Duration,
    number: usize,
    /// Clients made by this connector. The last one is for the store itself, those before it fetch credentials.
    made: Arc<AtomicUsize>,
}

impl HttpService for Watched {
    fn call<'life, 'future>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'future>>
    where
        'life: 'future,
        Self: 'future,
    {
        Box::pin(async move {
            let for_credentials = self.number != self.made.load(Ordering::SeqCst);
            note(Answer { for_credentials, ..Answer::default() });
            let sending = request.body().content_length() as u64 / SLOWEST_BYTES_PER_SECOND;
            let patience = self.silence + Duration::from_secs(sending);
            let Ok(outcome) = tokio::time::timeout(patience, self.client.execute(request)).await else {
                return Err(HttpError::new(HttpErrorKind::Timeout, Silent(patience)));
            };
            let response = outcome?;
            let pause = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
            let pause = pause.and_then(|text| text.parse().ok()).map(Duration::from_secs);
            note(Answer { status: Some(response.status().as_u16()), pause, for_credentials });
            Ok(response)
        })
    }
}

/// Notes an answer of the running call.
pub(super) fn note(answer: Answer) {
    // Outside of a call nobody asks for it.
    let _ = LAST.try_with(|last| last.replace(answer));
}

/// No answer began in time.
#[derive(Debug)]
struct Silent(Duration);

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no answer within {} s", self.0.as_secs())
    }
}

impl std::error::Error for Silent {}
