//! Who may take up a code: PKCE, and what else the code is bound to.

use super::{invalid_request, redirect};
use crate::error::ApiResult;
use crate::parameters::Parameters;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// A SHA-256 in URL-safe base64.
const CHALLENGE_LEN: usize = 43;
const VERIFIER_LEN: std::ops::RangeInclusive<usize> = 43..=128;

/// What a code and the refresh token made from it are bound to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub client_id: String,
    pub redirect_uri: String,
    pub challenge: Option<String>,
    /// Of the refresh token.
    pub minutes: u32,
}

impl Facts {
    pub fn read(text: &str) -> Option<Self> {
        let fields: Value = serde_json::from_str(text).ok()?;
        let text = |at: usize| fields.get(at).and_then(Value::as_str).map(str::to_owned);
        Some(Self {
            client_id: text(0)?,
            redirect_uri: text(1)?,
            challenge: text(2),
            minutes: u32::try_from(fields.get(3)?.as_u64()?).ok()?,
        })
    }

    pub fn write(&self) -> String {
        json!([self.client_id, self.redirect_uri, self.challenge, self.minutes]).to_string()
    }

    /// Whether the caller gives itself the name of the program that asked.
    pub fn names_client(&self, parameters: &Parameters) -> bool {
        parameters.text("client_id") == Some(self.client_id.as_str())
    }

    /// Whether the caller is the program that asked for the code. With PKCE the verifier proves it, and the
    /// redirect URI need only be one of ours: a known client sends another one here than there. Without PKCE it must
    /// be the same.
    pub fn proven(&self, parameters: &Parameters, public_url: &str) -> bool {
        let redirect = parameters.text("redirect_uri");
        let place = match (&self.challenge, redirect) {
            (Some(_), None) => true,
            (Some(_), Some(uri)) => redirect::check(uri, public_url).is_ok(),
            (None, uri) => uri == Some(self.redirect_uri.as_str()),
        };
        let verifier = match (&self.challenge, parameters.text("code_verifier")) {
            (None, None) => true,
            (Some(challenge), Some(verifier)) => answers(challenge, verifier),
            // A verifier without a challenge: somebody took the challenge out of the request.
            (Some(_), None) | (None, Some(_)) => false,
        };
        place && verifier && self.names_client(parameters)
    }
}

/// Whether the verifier is what the challenge was made of.
fn answers(challenge: &str, verifier: &str) -> bool {
    let made = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
    VERIFIER_LEN.contains(&verifier.len()) && made.as_bytes().ct_eq(challenge.as_bytes()).into()
}

/// The challenge in a request, if it has one.
pub(super) fn challenge(parameters: &Parameters) -> ApiResult<Option<String>> {
    let method = parameters.text("code_challenge_method");
    let Some(challenge) = parameters.text("code_challenge") else {
        return match method {
            None => Ok(None),
            Some(_) => Err(invalid_request("The code_challenge is missing.")),
        };
    };
    // Without a method "plain" is meant, which proves nothing to whoever saw the request.
    if method != Some("S256") {
        return Err(invalid_request("Invalid code_challenge_method: only S256 is taken."));
    }
    let base64 = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if challenge.len() != CHALLENGE_LEN || !challenge.bytes().all(base64) {
        return Err(invalid_request("Invalid code_challenge: expected a SHA-256 in URL-safe base64."));
    }
    Ok(Some(challenge.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oauth::OUT_OF_BAND;

    const HOME: &str = "https://dr.example.org:7443/strongroom";

    #[test]
    fn the_published_verifier_answers_its_challenge_and_others_do_not() {
        let challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
        assert!(answers(challenge, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        for wrong in ["", challenge, "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXK"] {
            assert!(!answers(challenge, wrong), "{wrong}");
        }
    }

    #[test]
    fn a_code_goes_to_the_program_that_asked_for_it_alone() {
        let verifier = "v".repeat(50);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let plain = Facts {
            client_id: "a".to_owned(),
            redirect_uri: OUT_OF_BAND.to_owned(),
            challenge: None,
            minutes: 5,
        };
        let pkce = Facts {
            challenge: Some(challenge.clone()),
            ..Facts::read(r#"["a","x",null,5]"#).expect("facts")
        };
        let proven = |facts: &Facts, form: &str| facts.proven(&Parameters::from_form(form.as_bytes()), HOME);
        let oob = format!("redirect_uri={OUT_OF_BAND}");
        assert!(proven(&plain, &format!("client_id=a&{oob}")));
        for form in [
            "client_id=a".to_owned(),
            oob.clone(),
            format!("client_id=b&{oob}"),
            format!("client_id=a&redirect_uri={HOME}"),
            format!("client_id=a&{oob}&code_verifier={verifier}"),
        ] {
            assert!(!proven(&plain, &form), "{form}");
        }
        for rest in ["", &format!("&{oob}"), &format!("&redirect_uri={HOME}")] {
            assert!(proven(&pkce, &format!("client_id=a&code_verifier={verifier}{rest}")), "{rest}");
        }
        for form in [
            "client_id=a".to_owned(),
            format!("client_id=a&code_verifier={challenge}"),
            format!("client_id=b&code_verifier={verifier}"),
            format!("client_id=a&code_verifier={verifier}&redirect_uri=https://evil.example"),
        ] {
            assert!(!proven(&pkce, &form), "{form}");
        }
    }
}
