//! The provider as it is reached over the network: what it says of itself, its keys, and the exchange of a code.
//!
//! Each request has an end, a limit on what is read, and follows no redirect; few are under way at a time. What was read
//! is kept (`shelf`), so that neither sign-ins nor strangers make us ask for it each time; and what was good
//! holds for a day while the provider fails to tell it anew.

use super::jwt::{self, Judged, Key, Token};
use super::shelf::{KEPT, KEPT_MAX, PAUSE, Shelf};
use super::{OidcSettings, Refusal, harmless};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

pub(super) const REQUEST_TIME_MAX: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });
const REPLY_BYTES_MAX: u64 = 256 << 10;
/// Exchanges of codes at one time.
const EXCHANGES_MAX: usize = 16;
/// A token that the kept keys do not fit makes us ask for the keys again, this often at most.
const KEYS_PAUSE: Duration = Duration::from_secs(60);

/// What the provider says of itself, in words.
const DESCRIPTION: &str = "its description";

/// What the provider says of itself, as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    pub authorization_endpoint: String,
    token_endpoint: String,
    jwks_uri: String,
    /// Whether the client's secret goes into the body, as some take it there alone.
    secret_in_body: bool,
}

/// One provider.
pub(super) struct Provider {
    issuer: String,
    client_id: String,
    client_secret: Option<SecretString>,
    agent: Agent,
    turns: Semaphore,
    metadata: Shelf<Metadata>,
    keys: Shelf<Vec<Key>>,
}

/// Whether URLs of this provider may be asked: over TLS, or on this machine.
pub(super) fn is_safe(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    match (uri.scheme_str(), uri.host()) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(host)) => is_here(host),
        _ => false,
    }
}

fn is_here(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

pub(super) fn bad(what: &str, why: impl std::fmt::Display) -> Refusal {
    Refusal::Provider(format!("{what}: {why}"))
}

impl Metadata {
    /// Takes a description apart, if it is that of this issuer.
    pub fn of(told: &Value, issuer: &str) -> Result<Self, Refusal> {
        let what = DESCRIPTION;
        if told["issuer"].as_str() != Some(issuer) {
            let other = harmless(told["issuer"].as_str().unwrap_or_default());
            return Err(bad(what, format!("it calls itself '{other}' and not '{issuer}'")));
        }
        let place = |name: &str| match told[name].as_str() {
            Some(url) if is_safe(url) => Ok(url.to_owned()),
            Some(url) => Err(bad(what, format!("{name} '{}' is not https", harmless(url)))),
            None => Err(bad(what, format!("it has no {name}"))),
        };
        let ways = told["token_endpoint_auth_methods_supported"].as_array();
        let takes = |way: &str| ways.is_some_and(|ways| ways.iter().any(|known| known == way));
        Ok(Self {
            authorization_endpoint: place("authorization_endpoint")?,
            token_endpoint: place("token_endpoint")?,
            jwks_uri: place("jwks_uri")?,
            secret_in_body: takes("client_secret_post") && !takes("client_secret_basic"),
        })
    }

    /// Where it leads.
    #[cfg(any(test, feature = "fuzzing"))]
    pub fn places(&self) -> [&str; 3] {
        [&self.authorization_endpoint, &self.token_endpoint, &self.jwks_uri]
    }
}

impl Provider {
    pub fn new(settings: &OidcSettings) -> Self {
        let roots = match &settings.certificates {
            None => RootCerts::PlatformVerifier,
            Some(certificates) => {
                let trusted: Vec<_> =
                    certificates.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
                RootCerts::new_with_certs(&trusted)
            }
        };
        let mut config = Agent::config_builder()
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .max_redirects(0)
            // One that the provider has closed meanwhile would cost a sign-in.
            .max_idle_connections(0)
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_TIME_MAX));
        if settings.issuer.parse::<Uri>().is_ok_and(|uri| uri.host().is_some_and(is_here)) {
            config = config.proxy(None);
        }
        Self {
            issuer: settings.issuer.clone(),
            client_id: settings.client_id.clone(),
            client_secret: settings.client_secret.clone(),
            agent: config.build().new_agent(),
            turns: Semaphore::new(EXCHANGES_MAX),
            metadata: Shelf::default(),
            keys: Shelf::default(),
        }
    }

    /// What it says of itself.
    pub async fn metadata(&self) -> Result<Arc<Metadata>, Refusal> {
        if let Some(fresh) = self.metadata.younger_than(KEPT) {
            return Ok(fresh);
        }
        let old = self.metadata.younger_than(KEPT_MAX);
        let asked = self.metadata.ask(PAUSE, old.is_none(), self.discover()).await;
        // An older description is better than none: what it leads to is checked all the same.
        asked.or_else(|refusal| old.ok_or(refusal))
    }

    async fn discover(&self) -> Result<Metadata, Refusal> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let told = self.get(DESCRIPTION, url).await?;
        Metadata::of(&told, &self.issuer)
    }

    async fn read_keys(&self) -> Result<Vec<Key>, Refusal> {
        let what = "its keys";
        let metadata = self.metadata().await?;
        let keys = jwt::keys(&self.get(what, metadata.jwks_uri.clone()).await?);
        if keys.is_empty() {
            return Err(bad(what, "none of them can be used here"));
        }
        Ok(keys)
    }

    /// The ID token for a code.
    pub async fn exchange(&self, code: &str, redirect_uri: &str, verifier: &str) -> Result<String, Refusal> {
        let what = "the exchange of the code";
        let metadata = self.metadata().await?;
        let _turn = self.turns.try_acquire().map_err(|_| Refusal::Busy)?;
        let mut form = vec![
            ("grant_type".to_owned(), "authorization_code".to_owned()),
            ("code".to_owned(), code.to_owned()),
            ("redirect_uri".to_owned(), redirect_uri.to_owned()),
            ("code_verifier".to_owned(), verifier.to_owned()),
        ];
        let mut proof = None;
        match &self.client_secret {
            Some(secret) if !metadata.secret_in_body => {
                let encode =
                    |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encode(&self.client_id), encode(secret.expose_secret()));
                proof = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            secret => {
                form.push(("client_id".to_owned(), self.client_id.clone()));
                let secret = secret.as_ref().map(|secret| secret.expose_secret().to_owned());
                form.extend(secret.map(|secret| ("client_secret".to_owned(), secret)));
            }
        }
        let (agent, url) = (self.agent.clone(), metadata.token_endpoint.clone());
        let reply = blocking(what, move || {
            let mut request = agent.post(url).header("accept", "application/json");
            if let Some(proof) = proof {
                request = request.header("authorization", proof);
            }
            request.send_form(form)
        })
        .await?;
        match (reply.status, reply.json["id_token"].as_str()) {
            (200, Some(token)) => Ok(token.to_owned()),
            (200, None) => Err(bad(what, "there is no ID token in the reply")),
            (400..500, _) => {
                let error = harmless(reply.json["error"].as_str().unwrap_or("without a word"));
                Err(Refusal::Denied(format!("{what}: refused ({}, {error})", reply.status)))
            }
            (status, _) => Err(bad(what, format!("it answered with HTTP {status}"))),
        }
    }

    /// What a token says, if the provider signed it. Keys that do not fit it, or are old, are asked for anew; those that
    /// were good count while the provider does not tell others.
    pub async fn verified(&self, token: &str) -> Result<Map<String, Value>, Refusal> {
        let judge =
            |keys: &[Key]| Token::parse(token).map(|token| token.judge(keys)).map_err(Refusal::Untrusted);
        let kept = self.keys.younger_than(KEPT_MAX);
        let judged = judge(kept.as_ref().map(|keys| keys.as_slice()).unwrap_or_default())?;
        let is_right = matches!(judged, Judged::Right(_));
        if is_right && self.keys.younger_than(KEPT).is_some() {
            return claims_of(judged);
        }
        let pause = if kept.is_some() { KEYS_PAUSE } else { PAUSE };
        match self.keys.ask(pause, !is_right, self.read_keys()).await {
            Ok(keys) => claims_of(judge(&keys)?),
            Err(_) if is_right => claims_of(judged),
            Err(refusal) => Err(refusal),
        }
    }

    /// As if so much time had passed since the provider was asked.
    #[cfg(test)]
    pub fn let_time_pass(&self, time: Duration) {
        self.metadata.let_time_pass(time);
        self.keys.let_time_pass(time);
    }

    /// Lets the next token that the kept keys do not fit ask for the keys again.
    #[cfg(test)]
    pub fn forget_when_keys_were_read(&self) {
        self.keys.let_time_pass(KEYS_PAUSE);
    }

    async fn get(&self, what: &'static str, url: String) -> Result<Value, Refusal> {
        let agent = self.agent.clone();
        let reply =
            blocking(what, move || agent.get(url).header("accept", "application/json").call()).await?;
        match reply.status {
            200 => Ok(reply.json),
            status => Err(bad(what, format!("it answered with HTTP {status}"))),
        }
    }
}

fn claims_of(judged: Judged) -> Result<Map<String, Value>, Refusal> {
    match judged {
        Judged::Right(claims) => Ok(claims),
        Judged::Wrong => Err(Refusal::Untrusted("the signature of the ID token is wrong".to_owned())),
        Judged::UnknownKey => Err(Refusal::Untrusted(
            "the ID token is signed by a key that the provider does not name".to_owned(),
        )),
    }
}

struct Answered {
    status: u16,
    json: Value,
}

/// Runs one request on a thread that may wait.
async fn blocking(
    what: &'static str,
    request: impl FnOnce() -> Result<ureq::http::Response<ureq::Body>, ureq::Error> + Send + 'static,
) -> Result<Answered, Refusal> {
    let work = move || {
        let mut reply = request().map_err(|e| bad(what, e))?;
        let status = reply.status().as_u16();
        let body = reply.body_mut().with_config().limit(REPLY_BYTES_MAX).read_to_vec();
        let body = body.map_err(|e| bad(what, e))?;
        // What it says beside a redirect or an error page matters to nobody.
        let json = match serde_json::from_slice(&body) {
            Ok(json) => json,
            Err(_) if status != 200 => Value::Null,
            Err(e) => return Err(bad(what, format!("the reply is no JSON ({e})"))),
        };
        Ok(Answered { status, json })
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(bad(what, e)))
}
