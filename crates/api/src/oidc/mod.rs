//! Sign-in of people through an OpenID Connect provider: authorisation code with PKCE, state and nonce.
//!
//! ```text
//! begin     Attempt (random, signed, in a cookie of this browser) → to the provider, with state, nonce, challenge
//! provider  the person signs in there
//! finish    code, state, cookie → `provider`: code for ID token → `jwt`: signature → `claims`: for us, now, this attempt
//!           → name and role → a session like any other
//! ```
//!
//! Nothing is kept between the two: what ties them together is derived from the cookie under a key of the server. So a
//! code works only in the browser that asked for it. Whatever the provider does, log-in by password goes its own way.

mod attempt;
mod claims;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod jwt;
mod provider;
mod shelf;

pub(crate) use attempt::{Attempt, cookie, end_cookie, sent_cookie};
pub(crate) use claims::Identity;
pub use claims::RoleValues;

use crate::dispatch::now_ms;
use provider::Provider;
use recovery::Recovery;
use secrecy::SecretString;
use std::time::Duration;

/// The provider, and who its users are here.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// What the provider calls itself, and where it describes itself.
    pub issuer: String,
    /// What it calls us.
    pub client_id: String,
    /// What proves us to it; none for a public client.
    pub client_secret: Option<SecretString>,
    /// What is asked for; `openid` always is.
    pub scopes: Vec<String>,
    /// The claim that names a user.
    pub username_claim: String,
    /// The claim that decides the role; dots lead into objects.
    pub role_claim: String,
    /// Which of its values give which role.
    pub roles: RoleValues,
    /// How far its clock may be from ours.
    pub clock_skew: Duration,
    /// What stands on the button.
    pub label: String,
    /// The certificates to trust, DER; none: those that this machine trusts.
    pub certificates: Option<Vec<Vec<u8>>>,
}

/// Whether a provider may be called so: over TLS, or on this machine, and nothing that would confuse its own URLs.
pub fn is_safe_issuer(issuer: &str) -> bool {
    provider::is_safe(issuer) && !issuer.contains(['?', '#', '@']) && !issuer.contains(char::is_whitespace)
}

/// Why nobody was signed in. The text is for the person; what the provider did stands in the log.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Too many are asking.
    #[error("Too many sign-ins wait for the provider just now; try again in a moment, or use a password.")]
    Busy,
    /// It cannot be reached, or answers what is no answer.
    #[error("The sign-in provider does not answer as it should; try again later, or use a password.")]
    Provider(String),
    /// The answer does not belong to a sign-in that this browser began, or came too late.
    #[error("This sign-in was not begun in this browser, or too long ago: begin again.")]
    Foreign,
    /// The person, or the provider for the person, said no.
    #[error("The provider refused to sign you in.")]
    Denied(String),
    /// What it says of the person cannot be believed.
    #[error("The provider's answer cannot be trusted; the server's log says why.")]
    Untrusted(String),
    /// It names nobody who could be known here.
    #[error("The provider gives no name that can be used here; the server's log says why.")]
    NoName(String),
    /// Nothing that it says gives a role.
    #[error("You are known to the provider, but nothing that it says of you gives you a role here.")]
    NoRole,
}

impl Refusal {
    /// What the log tells beyond the text.
    pub fn reason(&self) -> &str {
        match self {
            Self::Provider(why) | Self::Denied(why) | Self::Untrusted(why) | Self::NoName(why) => why,
            Self::Busy | Self::Foreign | Self::NoRole => "",
        }
    }
}

/// What came back from the provider in the URL.
pub(crate) struct Answer<'a> {
    pub code: Option<&'a str>,
    pub state: Option<&'a str>,
    pub error: Option<&'a str>,
    pub issuer: Option<&'a str>,
}

/// The client of one provider.
pub(crate) struct Oidc {
    settings: OidcSettings,
    provider: Provider,
    redirect_uri: String,
}

impl Oidc {
    /// Reads nothing yet: a provider that is away must not keep the server from starting.
    pub fn new(settings: OidcSettings, public_url: &str) -> Self {
        let redirect_uri = format!("{}/admin/oidc/callback", public_url.trim_end_matches('/'));
        Self { provider: Provider::new(&settings), settings, redirect_uri }
    }

    /// What stands on the button.
    pub fn label(&self) -> &str {
        &self.settings.label
    }

    /// Lets the next token that the kept keys do not fit ask for the keys again.
    #[cfg(test)]
    pub fn forget_when_keys_were_read(&self) {
        self.provider.forget_when_keys_were_read();
    }

    /// As if so much time had passed since the provider was asked.
    #[cfg(test)]
    pub fn let_time_pass(&self, time: Duration) {
        self.provider.let_time_pass(time);
    }

    /// Where the browser goes to sign in.
    pub async fn address_for(&self, attempt: &Attempt, recovery: &Recovery) -> Result<String, Refusal> {
        let metadata = self.provider.metadata().await?;
        let mut query = form_urlencoded::Serializer::new(String::new());
        let scopes = self.settings.scopes.iter().map(String::as_str).filter(|scope| *scope != "openid");
        let scopes: Vec<_> = std::iter::once("openid").chain(scopes).collect();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.settings.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("scope", &scopes.join(" "))
            .append_pair("state", &attempt.state(recovery))
            .append_pair("nonce", &attempt.nonce(recovery))
            .append_pair("code_challenge", &attempt.challenge(recovery))
            .append_pair("code_challenge_method", "S256");
        let address = &metadata.authorization_endpoint;
        let joint = if address.contains('?') { '&' } else { '?' };
        Ok(format!("{address}{joint}{}", query.finish()))
    }

    /// Who signed in.
    pub async fn identity(
        &self,
        answer: Answer<'_>,
        attempt: &Attempt,
        recovery: &Recovery,
    ) -> Result<Identity, Refusal> {
        if !answer.state.is_some_and(|state| attempt.is_state(recovery, state)) {
            return Err(Refusal::Foreign);
        }
        if answer.issuer.is_some_and(|issuer| issuer != self.settings.issuer) {
            return Err(Refusal::Untrusted("the answer comes from another provider".to_owned()));
        }
        if let Some(error) = answer.error {
            return Err(Refusal::Denied(harmless(error)));
        }
        let code = answer.code.ok_or(Refusal::Foreign)?;
        let token = self.provider.exchange(code, &self.redirect_uri, &attempt.verifier(recovery)).await?;
        let claims = self.provider.verified(&token).await?;
        let is_nonce = |nonce: &str| attempt.is_nonce(recovery, nonce);
        claims::identity(&claims, &self.settings, is_nonce, now_ms() / 1000)
    }
}

/// A word of the provider, short and without anything that could confuse a log.
fn harmless(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').take(100).collect()
}
