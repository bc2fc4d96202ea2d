//! One try to sign in, as it lies in the cookie of the browser that began it, signed by us.
//!
//! State, nonce and PKCE verifier are derived from its random seed under a key that only servers have: who reads the
//! cookie learns none of them, and no two tries share one.

use crate::dispatch::now_ms;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::HeaderMap;
use hyper::header::COOKIE;
use recovery::Recovery;
use sha2::{Digest, Sha256};

/// How long somebody may take to sign in there.
const COOKIE_MINUTES: i64 = 10;
const SIGNED_FOR: &str = "oidc attempt";
const STATE: &str = "oidc state";
const NONCE: &str = "oidc nonce";
const VERIFIER: &str = "oidc verifier";

/// One try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attempt {
    until: i64,
    seed: String,
    /// The page to go to afterwards.
    pub next: String,
}

impl Attempt {
    /// A new one, that leads to that page.
    pub fn new(next: String) -> Self {
        let seed = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        Self { until: now_ms() + COOKIE_MINUTES * 60_000, seed, next }
    }

    /// As it lies in the cookie.
    pub fn seal(&self, recovery: &Recovery) -> String {
        let text = format!("{}.{}.{}", self.until, self.seed, URL_SAFE_NO_PAD.encode(&self.next));
        let signature = recovery.sign(SIGNED_FOR, &text);
        format!("{text}.{signature}")
    }

    /// The one in such a text, if we signed it and it is not too old.
    pub fn open(recovery: &Recovery, sealed: &str) -> Option<Self> {
        let (text, signature) = sealed.rsplit_once('.')?;
        if !recovery.is_signed(SIGNED_FOR, text, signature) {
            return None;
        }
        let mut parts = text.split('.');
        let until: i64 = parts.next()?.parse().ok()?;
        let seed = parts.next()?.to_owned();
        let next = String::from_utf8(URL_SAFE_NO_PAD.decode(parts.next()?).ok()?).ok()?;
        (until > now_ms()).then_some(Self { until, seed, next })
    }

    pub fn state(&self, recovery: &Recovery) -> String {
        recovery.sign(STATE, &self.seed)
    }

    pub fn is_state(&self, recovery: &Recovery, sent: &str) -> bool {
        recovery.is_signed(STATE, &self.seed, sent)
    }

    pub fn nonce(&self, recovery: &Recovery) -> String {
        recovery.sign(NONCE, &self.seed)
    }

    pub fn is_nonce(&self, recovery: &Recovery, sent: &str) -> bool {
        recovery.is_signed(NONCE, &self.seed, sent)
    }

    /// Of PKCE: 64 hexadecimal digits.
    pub fn verifier(&self, recovery: &Recovery) -> String {
        recovery.sign(VERIFIER, &self.seed)
    }

    pub fn challenge(&self, recovery: &Recovery) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier(recovery).as_bytes()))
    }
}

fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-strongroom-oidc" } else { "strongroom-oidc" }
}

/// The header that keeps the try. `Lax`, as the browser comes back from another site.
pub(crate) fn cookie(sealed: &str, secure: bool) -> String {
    let flag = if secure { "; Secure" } else { "" };
    let seconds = COOKIE_MINUTES * 60;
    format!("{}={sealed}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{flag}", cookie_name(secure))
}

/// The header that forgets it.
pub(crate) fn end_cookie(secure: bool) -> String {
    let flag = if secure { "; Secure" } else { "" };
    format!("{}=; Path=/; HttpOnly; SameSite=Lax; Max-Age=0{flag}", cookie_name(secure))
}

/// What the browser sent of it.
pub(crate) fn sent_cookie(headers: &HeaderMap, secure: bool) -> Option<&str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == cookie_name(secure)).map(|(_, value)| value)
}
