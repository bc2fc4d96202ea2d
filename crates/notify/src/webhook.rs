//! A letter as a POST of JSON, signed so that the receiver knows who sent it and when.
//!
//! `Strongroom-Signature: t=SECONDS,v1=HEX`, where HEX is HMAC-SHA256 under the shared secret over `SECONDS.BODY`. A
//! receiver that refuses old times cannot be sent the same again by somebody who listened. Redirects are not followed,
//! proxies of the environment not used, and the connection goes only to addresses that the rule allows, looked at after the
//! name was resolved. Of the answer the status alone counts; its body is not read.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Url};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::Sha256;
use storage::AddressRule;

use crate::{Letter, Unusable, causes};

/// The version of the body.
const VERSION: u32 = 1;
const TIME_MAX: Duration = Duration::from_secs(10);
/// The header that holds the signature.
pub const SIGNATURE_HEADER: &str = "strongroom-signature";

/// How a webhook is reached.
#[derive(Clone, Debug)]
pub struct WebhookSettings {
    /// Where it is; the path may be a secret.
    pub url: SecretString,
    /// What signs the body.
    pub secret: SecretString,
    /// Whether `http://` is fine.
    pub allow_http: bool,
    /// PEM certificates that are trusted beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Where connections may go.
    pub addresses: Arc<AddressRule>,
}

/// A webhook.
#[derive(Debug)]
pub struct Webhook {
    url: SecretString,
    place: String,
    /// The host, where the URL has an address in place of a name.
    literal: Option<IpAddr>,
    secret: SecretString,
    addresses: Arc<AddressRule>,
    client: Client,
}

/// Names lead only to addresses that may be reached.
struct Resolver(Arc<AddressRule>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (rule, host) = (Arc::clone(&self.0), name.as_str().to_owned());
        Box::pin(async move {
            let addresses = rule.resolve(&host).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The text of the header for a body that is sent at this time (seconds since 1970).
pub fn signature(secret: &SecretString, seconds: i64, body: &[u8]) -> String {
    // HMAC takes keys of every length, so that this never fails.
    let code = Hmac::<Sha256>::new_from_slice(secret.expose_secret().as_bytes()).map(|mut hmac| {
        hmac.update(seconds.to_string().as_bytes());
        hmac.update(b".");
        hmac.update(body);
        hex::encode(hmac.finalize().into_bytes())
    });
    format!("t={seconds},v1={}", code.unwrap_or_default())
}

impl Webhook {
    /// Checks what can be checked without a connection.
    pub fn new(settings: WebhookSettings) -> Result<Self, Unusable> {
        let unusable = |why: &str| Unusable(why.to_owned());
        let url: Url = settings.url.expose_secret().parse().map_err(|_| unusable("the URL is not valid"))?;
        let http_is_fine = settings.allow_http;
        match url.scheme() {
            "https" => {}
            "http" if http_is_fine => {}
            "http" => return Err(unusable("the URL has no TLS; use https://, or set allow_http = true")),
            _ => return Err(unusable("the URL must start with https://")),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable("the URL holds a user name or password; use url_file and a secret path"));
        }
        let host = url.host_str().ok_or_else(|| unusable("the URL names no host"))?;
        let literal = host.trim_matches(['[', ']']).parse().ok();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let place = format!("{}://{host}{port}", url.scheme());
        let mut client = Client::builder()
            .timeout(TIME_MAX)
            .redirect(Policy::none())
            .no_proxy()
            .http1_only()
            .https_only(!http_is_fine)
            // Each attempt looks at the addresses anew.
            .pool_max_idle_per_host(0)
            .dns_resolver(Arc::new(Resolver(Arc::clone(&settings.addresses))))
            .user_agent(concat!("Strongroom/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = &settings.ca_pem {
            let trusted = Certificate::from_pem_bundle(pem).unwrap_or_default();
            if trusted.is_empty() {
                return Err(unusable("ca_file holds no PEM certificates"));
            }
            client = client.tls_certs_merge(trusted);
        }
        let client = client.build().map_err(|error| Unusable(causes(&error.without_url())))?;
        let WebhookSettings { url, secret, addresses, .. } = settings;
        Ok(Self { url, place, literal, secret, addresses, client })
    }

    /// Scheme, host and port: the rest of the URL may be a secret.
    pub fn place(&self) -> String {
        self.place.clone()
    }

    pub(crate) async fn send(&self, letter: &Letter) -> Result<(), String> {
        if let Some(address) = self.literal {
            self.addresses.check(&self.place, address).map_err(|refused| refused.to_string())?;
        }
        let body = body(letter);
        let signed = signature(&self.secret, jiff::Timestamp::now().as_second(), &body);
        let request = self
            .client
            .post(self.url.expose_secret())
            .header("content-type", "application/json")
            .header("strongroom-delivery", &letter.delivery)
            .header("strongroom-event", &letter.event)
            .header(SIGNATURE_HEADER, signed)
            .body(body);
        let answer = request.send().await.map_err(|error| {
            if error.is_timeout() {
                format!("no answer within {} s", TIME_MAX.as_secs())
            } else {
                causes(&error.without_url())
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            Ok(())
        } else if status.is_redirection() {
            Err(format!(
                "answered {status}; redirects are not followed: put the right URL into the configuration"
            ))
        } else {
            Err(format!("answered {status}"))
        }
    }
}

fn body(letter: &Letter) -> Vec<u8> {
    let time = jiff::Timestamp::from_millisecond(letter.time).unwrap_or_default();
    let mut body = json!({
        "version": VERSION,
        "delivery": letter.delivery,
        "event": letter.event,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "subject": letter.subject,
        "message": letter.message,
    });
    if let Some(object) = body.as_object_mut() {
        object.extend(letter.facts.clone());
    }
    body.to_string().into_bytes()
}
