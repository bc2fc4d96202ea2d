//! The door: accepts connections, speaks TLS and HTTP with limits on everything a stranger controls, and
//! stops gracefully.
//!
//! hyper's header timer works only when it is given a clock, so every connection gets one. A second watch
//! closes connections that sit there without a request: hyper has none for HTTP/2, and none while it still
//! guesses the version. While all places are taken it also lets no connection go on after the reply at hand, so that
//! those who wait get their turn, whoever holds the others.

use crate::dispatch::{self, Site};
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use recovery::Recovery;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// More callers wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;
/// From the accepted connection to the end of the TLS handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// From the first look for a request to the end of its headers; so also how long HTTP/1 keeps an idle
/// connection.
const HEADER_TIME_MAX: Duration = Duration::from_secs(15);
/// Until the first request of a connection.
const FIRST_REQUEST_TIME_MAX: Duration = Duration::from_secs(20);
/// Between requests.
const IDLE_TIME_MAX: Duration = Duration::from_secs(120);
/// For the last reply to be fetched, on a connection that takes no more requests.
const LAST_REPLY_TIME_MAX: Duration = Duration::from_secs(15);
/// How often idle connections are looked for.
const IDLE_CHECK: Duration = Duration::from_secs(5);
/// Request line and headers together.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Requests at one time in one HTTP/2 connection.
const STREAMS_MAX: u32 = 32;
/// How long the stop waits for requests that are being answered.
const DRAIN_TIME_MAX: Duration = Duration::from_secs(10);
/// After an accept that failed, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where and how the interface is served.
#[derive(Clone)]
pub struct ServerSettings {
    /// Address to listen on; port 0 takes a free one.
    pub listen: SocketAddr,
    /// First path segment of every URL; may be empty.
    pub context: String,
    /// Certificate and key; `None` serves plain HTTP, for a proxy in front.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What the URLs in replies start with, context included, like `https://dr.example.org/strongroom`.
    pub public_url: String,
    /// The provider through which people may sign in beside their passwords.
    pub oidc: Option<crate::OidcSettings>,
}

impl std::fmt::Debug for ServerSettings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServerSettings")
            .field("listen", &self.listen)
            .field("context", &self.context)
            .field("tls", &self.tls.is_some())
            .field("public_url", &self.public_url)
            .field("oidc", &self.oidc.as_ref().map(|oidc| &oidc.issuer))
            .finish()
    }
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; is another server running there?")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// A server that has its address and does not answer yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    settings: ServerSettings,
}

/// Takes the address.
pub async fn bind(settings: ServerSettings) -> Result<Bound, Error> {
    let refused = |source| Error::Listen { address: settings.listen, source };
    let listener = TcpListener::bind(settings.listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok(Bound { listener, address, settings })
}

impl Bound {
    /// The address with its real port.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Replaces the public URL, for a caller that learns its port only now.
    pub fn with_public_url(mut self, public_url: impl Into<String>) -> Self {
        self.settings.public_url = public_url.into();
        self
    }

    /// Answers requests until `shutdown`, then lets those that are being answered finish, for ten seconds at
    /// most.
    pub async fn serve(self, recovery: Recovery, shutdown: impl Future<Output = ()>) {
        let settings = self.settings;
        let site = Site::new(recovery, &settings.context, &settings.public_url, settings.tls.is_some());
        let site = Arc::new(site.with_provider(settings.oidc));
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let tls = settings.tls.map(acceptor);
        let shared = Arc::new(Shared { site: site.clone(), tls, slots: slots.clone() });
        let stopped = shared.site.stopping.subscribe();
        let mut connections = JoinSet::new();
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                (stream, peer, slot) = accept(&self.listener, &slots) => {
                    let work = connection(shared.clone(), stream, peer, stopped.clone());
                    connections.spawn(async move {
                        work.await;
                        drop(slot);
                    });
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        drop(self.listener);
        site.stopping.send_replace(true);
        let drain = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN_TIME_MAX, drain).await.is_err() {
            tracing::warn!(connections = connections.len(), "requests were still being answered at the end");
        }
        connections.shutdown().await;
    }
}

/// What all connections share.
struct Shared {
    site: Arc<Site>,
    tls: Option<TlsAcceptor>,
    /// One for each connection that there may be.
    slots: Arc<Semaphore>,
}

impl Shared {
    /// Whether somebody may be waiting for a place.
    fn is_full(&self) -> bool {
        self.slots.available_permits() == 0
    }
}

/// Offers HTTP/2 and HTTP/1.1 where the configuration says nothing.
fn acceptor(config: Arc<rustls::ServerConfig>) -> TlsAcceptor {
    if !config.alpn_protocols.is_empty() {
        return TlsAcceptor::from(config);
    }
    let mut config = (*config).clone();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// The next connection, once there is room for one.
async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // Never closed, so there is always a slot in the end.
    let slot = slots.clone().acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, slot),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    stopped: watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    match &shared.tls {
        None => serve_http(&shared, stream, peer, stopped).await,
        Some(tls) => match tokio::time::timeout(HANDSHAKE_TIME_MAX, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve_http(&shared, stream, peer, stopped).await,
            Ok(Err(error)) => tracing::debug!(%error, %peer, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        },
    }
}

async fn serve_http<S>(shared: &Shared, stream: S, peer: SocketAddr, mut stopped: watch::Receiver<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Arc::new(Activity::new());
    let service = service_fn(|request: Request<Incoming>| {
        let (site, busy) = (shared.site.clone(), Activity::begin(&activity));
        async move {
            let mut response = dispatch::respond(site, request, peer.ip()).await;
            response.body_mut().hold(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let builder = protocol();
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut tick = tokio::time::interval(IDLE_CHECK);
    let mut stopping = false;
    loop {
        tokio::select! {
            result = served.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(error = ?error.to_string(), %peer, "connection ended");
                }
                return;
            }
            _ = stopped.wait_for(|stopped| *stopped), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
            _ = tick.tick() => {
                if stopping || activity.is_closed() {
                    if activity.is_over(stopping) {
                        return;
                    }
                } else if activity.is_idle() || shared.is_full() && activity.was_asked() {
                    activity.close();
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// HTTP/1.1 and HTTP/2 with their limits.
fn protocol() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME_MAX)
        .max_buf_size(HEADER_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HEADER_TIME_MAX)
        .keep_alive_timeout(HEADER_TIME_MAX)
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX as u32);
    builder
}

/// What goes on in one connection.
struct Activity {
    started: Instant,
    running: AtomicUsize,
    requests: AtomicUsize,
    /// End of the last request, in milliseconds after the beginning.
    last_ms: AtomicU64,
    /// Whether no more requests are to come. HTTP/2 takes some all the same until its peer agrees, which it need not.
    is_closed: AtomicBool,
}

impl Activity {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            running: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            last_ms: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
        }
    }

    fn age_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// A request; one that comes too late keeps nothing open.
    fn begin(this: &Arc<Self>) -> Busy {
        if this.is_closed() {
            return Busy(None);
        }
        this.requests.fetch_add(1, Ordering::Relaxed);
        this.running.fetch_add(1, Ordering::Relaxed);
        Busy(Some(this.clone()))
    }

    /// No more requests are to come.
    fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }

    fn quiet(&self) -> Duration {
        Duration::from_millis(self.age_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    fn is_running(&self) -> bool {
        self.running.load(Ordering::Relaxed) > 0
    }

    /// Whether it has asked for something yet.
    fn was_asked(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Whether nothing has been asked for long enough.
    fn is_idle(&self) -> bool {
        let time_max = if self.was_asked() { IDLE_TIME_MAX } else { FIRST_REQUEST_TIME_MAX };
        !self.is_running() && self.quiet() >= time_max
    }

    /// Whether a connection that takes no more requests can be dropped. A stop does not wait for a reply to be fetched.
    fn is_over(&self, stopping: bool) -> bool {
        !self.is_running() && (stopping || self.quiet() >= LAST_REPLY_TIME_MAX)
    }
}

/// A request that is being answered.
struct Busy(Option<Arc<Activity>>);

impl Drop for Busy {
    fn drop(&mut self) {
        let Some(activity) = &self.0 else { return };
        activity.last_ms.store(activity.age_ms(), Ordering::Relaxed);
        activity.running.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_comes_when_none_is_to_come_keeps_no_connection_open() {
        let activity = Arc::new(Activity::new());
        let last = Activity::begin(&activity);
        activity.close();
        let late = Activity::begin(&activity);
        assert!(!activity.is_over(true), "the last one is being answered");
        drop(last);
        assert!(activity.is_over(true), "the late one does not count");
        let ended = activity.last_ms.load(Ordering::Relaxed);
        drop(late);
        assert_eq!((activity.last_ms.load(Ordering::Relaxed), activity.is_running()), (ended, false));
    }
}
