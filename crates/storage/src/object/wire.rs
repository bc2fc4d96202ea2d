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

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
    ReqwestConnector,
};
use object_store::{ClientConfigKey, ClientOptions};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::build::{CONNECT_TIMEOUT, POOL_IDLE_TIMEOUT};
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
    trusted: Vec<Vec<u8>>,
    made: Arc<AtomicUsize>,
}

impl Connector {
    /// `trusted` are the PEM certificates that the options have too.
    pub(super) fn new(place: &ObjectPlace, trusted: Vec<Vec<u8>>) -> Self {
        let silence = place.options.limits.silence;
        Self { silence, addresses: Addresses::of(place), trusted, made: Arc::default() }
    }

    /// The client that the library would make, but that it goes nowhere else when it is sent elsewhere, and only where
    /// the rule lets it.
    fn guarded(&self, options: &ClientOptions, rule: &Addresses) -> reqwest::Result<HttpClient> {
        let option = |key| options.get_config_value(&key);
        // Shorter where the library looks whether this machine has a role.
        let patience = option(ClientConfigKey::ConnectTimeout);
        let patience = patience.and_then(|text| text.strip_suffix('s')?.parse().ok());
        let mut client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(rule.clone()))
            .https_only(option(ClientConfigKey::AllowHttp).as_deref() != Some("true"))
            .connect_timeout(patience.map_or(CONNECT_TIMEOUT, Duration::from_secs))
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .http1_only()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .user_agent(concat!("Strongroom/", env!("CARGO_PKG_VERSION")));
        for pem in &self.trusted {
            client = client.tls_certs_merge(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        Ok(HttpClient::new(client.build()?))
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = match &self.addresses {
            None => ReqwestConnector::default().connect(options)?,
            Some(rule) => self
                .guarded(options, rule)
                .map_err(|e| object_store::Error::Generic { store: "HTTP client", source: Box::new(e) })?,
        };
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        let (silence, made) = (self.silence, Arc::clone(&self.made));
        let addresses = self.addresses.clone();
        Ok(HttpClient::new(Watched { client, silence, addresses, number, made }))
    }
}

/// How much longer it is waited for work that the service does by itself.
const WORK_TIME: Duration = Duration::from_secs(300);

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

impl Resolve for Addresses {
    fn resolve(&self, name: Name) -> Resolving {
        let (rule, ambient, host) = (Arc::clone(&self.rule), self.ambient, name.as_str().to_owned());
        Box::pin(async move {
            let found: Vec<_> = if ambient && METADATA_HOSTS.contains(&host.as_str()) {
                tokio::net::lookup_host((host.as_str(), 0)).await?.collect()
            } else {
                rule.resolve(&host).await?.into_iter().collect()
            };
            Ok(Box::new(found.into_iter()) as Addrs)
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
            let patience = self.silence + Duration::from_secs(sending) + work_of_the_service(&request);
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

/// A service that copies, or puts parts together, may say nothing before it is done.
fn work_of_the_service(request: &HttpRequest) -> Duration {
    let copies = ["x-amz-copy-source", "x-goog-copy-source"]
        .into_iter()
        .any(|name| request.headers().contains_key(name));
    let puts_together = request.method() == reqwest::Method::POST
        && request.uri().query().is_some_and(|query| query.contains("uploadId="));
    if copies || puts_together { WORK_TIME } else { Duration::ZERO }
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crate::object::{ObjectOptions, ObjectPlace, ObjectStorage, Service};
    use crate::{AddressRule, Storage};
    use secrecy::SecretString;

    /// Answers each request by sending the caller to `to`; counts them.
    fn sending_elsewhere(to: String) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, asked) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut stream = stream;
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read(&mut [0; 8192]);
                let _ = write!(
                    stream,
                    "HTTP/1.1 307 Temporary Redirect\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
        });
        (format!("http://{address}"), asked)
    }

    #[test]
    fn a_store_that_sends_elsewhere_is_not_followed() {
        let (elsewhere, reached) = sending_elsewhere("http://127.0.0.1:1/".to_owned());
        let (endpoint, asked) = sending_elsewhere(format!("{elsewhere}/latest/meta-data"));
        let credentials = crate::Credentials::AccessKey {
            id: "id".to_owned(),
            secret: SecretString::from("secret".to_owned()),
            session_token: None,
        };
        let options = ObjectOptions {
            endpoint: Some(endpoint),
            credentials,
            addresses: Some(Arc::new(AddressRule::inner_networks_too(Vec::new()))),
            ..ObjectOptions::default()
        };
        let place = ObjectPlace::new(Service::S3, "bucket", "", options).unwrap();
        let storage = ObjectStorage::open(&place).unwrap();
        assert!(storage.get("config", 1 << 20).is_err());
        assert!(asked.load(Ordering::SeqCst) > 0);
        assert_eq!(reached.load(Ordering::SeqCst), 0);
    }
}
