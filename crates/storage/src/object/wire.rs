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
use object_store::client::{DnsFuture, DnsResolver};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};

use super::retry::SLOWEST_BYTES_PER_SECOND;
use super::{Credentials, ObjectPlace};
use crate::AddressRule;

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
    addresses: Option<Addresses>,
    made: Arc<AtomicUsize>,
}

impl Connector {
    pub(super) fn new(place: &ObjectPlace) -> Self {
        let options = &place.options;
        Self { silence: options.limits.silence, addresses: Addresses::of(place), made: Arc::default() }
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = match &self.addresses {
            None => ReqwestConnector::default().connect(options)?,
            Some(rule) => {
                let guarded = options.clone().with_dns_resolver(Arc::new(rule.clone()));
                ReqwestConnector::default().connect(&guarded)?
            }
        };
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        let (silence, made) = (self.silence, Arc::clone(&self.made));
        let addresses = self.addresses.clone();
        Ok(HttpClient::new(Watched { client, silence, addresses, number, made }))
    }
}

/// Where clouds give away credentials to their own machines.
const METADATA_HOSTS: [&str; 5] =
    ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "metadata.google.internal"];

/// Where connections may go: names are checked when they are resolved, addresses at each request.
#[derive(Clone, Debug)]
struct Addresses {
    rule: Arc<AddressRule>,
    /// The machine's own credentials are fetched, from where its cloud gives them.
    ambient: bool,
}

impl Addresses {
    fn of(place: &ObjectPlace) -> Option<Self> {
        let rule = place.options.addresses.clone()?;
        let credentials = &place.options.credentials;
        let ambient = matches!(credentials, Credentials::Ambient | Credentials::ManagedIdentity { .. });
        Some(Self { rule, ambient })
    }

    fn check(&self, url: &str, for_credentials: bool) -> Result<(), crate::Refused> {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest).split('/').next().unwrap_or_default();
        if for_credentials && self.ambient && METADATA_HOSTS.contains(&host) {
            return Ok(());
        }
        self.rule.check_literal(url)
    }
}

impl DnsResolver for Addresses {
    fn resolve(&self, host: &str) -> DnsFuture {
        let (rule, ambient, host) = (Arc::clone(&self.rule), self.ambient, host.to_owned());
        Box::pin(async move {
            if ambient && METADATA_HOSTS.contains(&host.as_str()) {
                let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
                return Ok(found.map(|address| address.ip()).collect());
            }
            Ok(rule.resolve(&host).await?.into_iter().map(|address| address.ip()).collect())
        })
    }
}

/// A client whose answers are noted.
#[derive(Debug)]
struct Watched {
    client: HttpClient,
    silence: Duration,
    addresses: Option<Addresses>,
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
            if let Some(rule) = &self.addresses {
                let refused = |why| HttpError::new(HttpErrorKind::Unknown, why);
                rule.check(&request.uri().to_string(), for_credentials).map_err(refused)?;
            }
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
