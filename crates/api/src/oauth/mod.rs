//! OAuth 2: what a program asks for at `authorize`, and how that comes back at `signin` without our keeping it.
//!
//! ```text
//! authorize  parameters → Wish → oauth_state (the wish and its end, signed) → sign-in page
//! signin     oauth_state → Wish → password → redirect with a token (implicit) or a code
//! token      code, verifier → tokens; refresh token → token
//! ```
//!
//! There are no registered programs. What protects is where an answer may go: to this site itself, or onto a page
//! of ours where a person or the program reads it.

mod proof;
mod redirect;

pub(crate) use proof::Facts;

use crate::dispatch;
use crate::error::{ApiError, ApiResult};
use crate::parameters::Parameters;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use recovery::Recovery;
use serde_json::{Value, json};

/// The redirect URI of programs that nothing can be sent to.
pub(crate) const OUT_OF_BAND: &str = "urn:ietf:wg:oauth:2.0:oob";
/// How long a sign-in page can be used.
const STATE_MS: i64 = 10 * 60_000;
/// For redirect URIs and for `state`, which both go into a header.
const TEXT_MAX: usize = 2000;
const CLIENT_ID_MAX: usize = 100;
/// Two weeks; a longer wish, or one for ever (-1), is cut, not refused.
pub(crate) const MINUTES_MAX: u32 = 20_160;
const TOKEN_MINUTES: u32 = 120;
const SIGNED_FOR: &str = "oauth_state";

/// What the program gets after the sign-in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseType {
    /// The token itself.
    Token,
    /// A code that is exchanged for tokens.
    Code,
}

/// What a program asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    pub client_id: String,
    pub redirect_uri: String,
    pub response_type: ResponseType,
    /// Brought back to the program as it is.
    pub state: String,
    /// PKCE, by SHA-256.
    pub challenge: Option<String>,
    /// Of the token, or for a code of the refresh token.
    pub minutes: u32,
}

/// The refusal of a request that is no OAuth request of ours.
pub(crate) fn invalid_request(message: impl Into<String>) -> ApiError {
    ApiError::new(400, "OAUTH_INVALID_REQUEST", message)
}

/// The refusal of a code or refresh token: unknown, used, expired, somebody else's. Which, is not said.
pub(crate) fn invalid_grant(what: &str) -> ApiError {
    let message =
        format!("The {what} is unknown, used, expired or was given for another request: sign in again.");
    ApiError::new(400, "OAUTH_INVALID_GRANT", message)
}

impl Wish {
    /// The wish in a request. The redirect URI is judged first: while it is not ours, nothing else matters.
    pub fn from_request(parameters: &Parameters, public_url: &str) -> ApiResult<Self> {
        let redirect_uri = parameters.text("redirect_uri").unwrap_or_default();
        redirect::check(redirect_uri, public_url)?;
        let response_type = match parameters.text("response_type") {
            Some("token") => ResponseType::Token,
            Some("code") => ResponseType::Code,
            _ => {
                let message = "Invalid response_type: expected token or code.";
                return Err(ApiError::new(400, "OAUTH_UNSUPPORTED_RESPONSE_TYPE", message));
            }
        };
        let state = parameters.text("state").unwrap_or_default();
        if state.len() > TEXT_MAX {
            return Err(invalid_request(format!("Invalid state: at most {TEXT_MAX} bytes.")));
        }
        let challenge = proof::challenge(parameters)?;
        if response_type == ResponseType::Code && challenge.is_none() && redirect_uri != OUT_OF_BAND {
            return Err(invalid_request("A code is given only for a code_challenge, or out of band."));
        }
        let default = if response_type == ResponseType::Token { TOKEN_MINUTES } else { MINUTES_MAX };
        Ok(Self {
            client_id: client_id(parameters)?.to_owned(),
            redirect_uri: redirect_uri.to_owned(),
            response_type,
            state: state.to_owned(),
            challenge,
            minutes: minutes(parameters, default)?,
        })
    }

    /// The wish as the text that the sign-in page brings back. It needs no memory here, and holds on every server
    /// under the same master key.
    pub fn seal(&self, recovery: &Recovery) -> String {
        self.seal_until(recovery, dispatch::now_ms() + STATE_MS)
    }

    pub(crate) fn seal_until(&self, recovery: &Recovery, until: i64) -> String {
        let code = self.response_type == ResponseType::Code;
        let fields =
            json!([until, code, self.client_id, self.redirect_uri, self.state, self.challenge, self.minutes]);
        let text = URL_SAFE_NO_PAD.encode(fields.to_string());
        let signature = recovery.sign(SIGNED_FOR, &text);
        format!("{text}.{signature}")
    }

    /// The wish in such a text, if it is ours and has not expired.
    pub fn open(recovery: &Recovery, oauth_state: &str) -> ApiResult<Self> {
        let signed = oauth_state
            .split_once('.')
            .filter(|(text, signature)| recovery.is_signed(SIGNED_FOR, text, signature))
            .and_then(|(text, _)| Self::from_signed(text));
        signed.ok_or_else(|| {
            invalid_request("Invalid oauth_state: this sign-in page is too old. Begin again at the program.")
        })
    }

    fn from_signed(text: &str) -> Option<Self> {
        let fields: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
        let text = |at: usize| fields.get(at).and_then(Value::as_str).map(str::to_owned);
        if fields.get(0)?.as_i64()? < dispatch::now_ms() {
            return None;
        }
        let response_type = if fields.get(1)?.as_bool()? { ResponseType::Code } else { ResponseType::Token };
        Some(Self {
            client_id: text(2)?,
            redirect_uri: text(3)?,
            response_type,
            state: text(4)?,
            challenge: text(5),
            minutes: u32::try_from(fields.get(6)?.as_u64()?).ok()?,
        })
    }

    /// Where the browser or program is sent with `answer`: in the fragment, which no server sees, or for a code in
    /// the query. Everything but the checked redirect URI is encoded, so nothing breaks out of the header.
    pub fn location(&self, public_url: &str, answer: &[(&str, &str)]) -> String {
        let mut pairs = form_urlencoded::Serializer::new(String::new());
        pairs.extend_pairs(answer);
        if !self.state.is_empty() {
            pairs.append_pair("state", &self.state);
        }
        let target = match self.redirect_uri.as_str() {
            OUT_OF_BAND => format!("{public_url}/sharing/rest/oauth2/approval"),
            uri => uri.to_owned(),
        };
        let separator = match self.response_type {
            ResponseType::Token => '#',
            ResponseType::Code if target.contains('?') => '&',
            ResponseType::Code => '?',
        };
        format!("{target}{separator}{}", pairs.finish())
    }

    /// What a code is bound to.
    pub fn facts(&self) -> String {
        let Self { client_id, redirect_uri, challenge, minutes, .. } = self.clone();
        Facts { client_id, redirect_uri, challenge, minutes }.write()
    }
}

/// The name that the program gives itself.
pub(crate) fn client_id(parameters: &Parameters) -> ApiResult<&str> {
    parameters
        .text("client_id")
        .filter(|id| {
            id.len() <= CLIENT_ID_MAX
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        })
        .ok_or_else(|| {
            let message = format!("Invalid client_id: 1 to {CLIENT_ID_MAX} letters, digits and any of - _ .");
            ApiError::new(400, "OAUTH_INVALID_CLIENT", message)
        })
}

fn minutes(parameters: &Parameters, default: u32) -> ApiResult<u32> {
    match parameters.integer("expiration")? {
        None => Ok(default),
        Some(-1) => Ok(MINUTES_MAX),
        Some(minutes @ 1..) => Ok(u32::try_from(minutes).unwrap_or(MINUTES_MAX).min(MINUTES_MAX)),
        Some(_) => Err(ApiError::invalid("expiration", "expected minutes, at least 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "https://dr.example.org:7443/strongroom";

    fn wish(query: &str) -> ApiResult<Wish> {
        Wish::from_request(&Parameters::from_form(query.as_bytes()), HOME)
    }

    #[test]
    fn a_wish_is_read_within_its_limits() {
        let base = format!("client_id=pythonapi&redirect_uri={OUT_OF_BAND}");
        let token = wish(&format!("{base}&response_type=token&state=s&expiration=600")).expect("wish");
        assert_eq!(
            (token.response_type, token.minutes, token.state.as_str()),
            (ResponseType::Token, 600, "s")
        );
        for (expiration, token, code) in
            [("", 120, 20_160), ("-1", 20_160, 20_160), ("999999999999", 20_160, 20_160), ("30", 30, 30)]
        {
            for (kind, minutes) in [("token", token), ("code", code)] {
                let asked = wish(&format!("{base}&response_type={kind}&expiration={expiration}"));
                assert_eq!(asked.expect("wish").minutes, minutes, "{kind} {expiration}");
            }
        }
        let challenge = "a".repeat(43);
        for (rest, code) in [
            ("", "OAUTH_UNSUPPORTED_RESPONSE_TYPE"),
            ("&response_type=id_token", "OAUTH_UNSUPPORTED_RESPONSE_TYPE"),
            ("&response_type=code&expiration=0", "PARAM_INVALID"),
            ("&response_type=code&expiration=x", "PARAM_INVALID"),
            ("&response_type=code&code_challenge_method=S256", "OAUTH_INVALID_REQUEST"),
            (&format!("&response_type=code&code_challenge={challenge}"), "OAUTH_INVALID_REQUEST"),
            (
                &format!("&response_type=code&code_challenge={challenge}&code_challenge_method=plain"),
                "OAUTH_INVALID_REQUEST",
            ),
            (
                &format!("&response_type=code&code_challenge={challenge}a&code_challenge_method=S256"),
                "OAUTH_INVALID_REQUEST",
            ),
            (&format!("&response_type=token&state={}", "a".repeat(TEXT_MAX + 1)), "OAUTH_INVALID_REQUEST"),
        ] {
            assert_eq!(wish(&format!("{base}{rest}")).expect_err(rest).message_code, code, "{rest}");
        }
        for id in ["", "&client_id=a%20b", "&client_id=%7B", &format!("&client_id={}", "a".repeat(101))] {
            let query = format!("redirect_uri={OUT_OF_BAND}&response_type=token{id}");
            assert_eq!(wish(&query).expect_err(id).message_code, "OAUTH_INVALID_CLIENT");
        }
        let direct = "client_id=a&response_type=code&redirect_uri=https://dr.example.org:7443";
        let error = wish(direct).expect_err("a code that is sent somewhere needs PKCE");
        assert!(error.message.contains("code_challenge"));
        assert!(wish(&format!("{direct}&code_challenge={challenge}&code_challenge_method=S256")).is_ok());
    }

    #[test]
    fn answers_go_into_fragment_or_query_and_nothing_breaks_out_of_them() {
        let mut asked = wish(
            "client_id=a&response_type=token&redirect_uri=https://dr.example.org:7443&state=%0D%0ALocation:%20x%23%26%3D%C3%A9",
        )
        .expect("wish");
        let token = asked.location(HOME, &[("access_token", "t"), ("username", "a b&c")]);
        let state = "state=%0D%0ALocation%3A+x%23%26%3D%C3%A9";
        assert_eq!(token, format!("https://dr.example.org:7443#access_token=t&username=a+b%26c&{state}"));
        asked.response_type = ResponseType::Code;
        assert_eq!(
            asked.location(HOME, &[("code", "c")]),
            format!("https://dr.example.org:7443?code=c&{state}")
        );
        asked.redirect_uri += "/?a=b";
        assert!(asked.location(HOME, &[("code", "c")]).contains("/?a=b&code=c&"));
        asked.redirect_uri = OUT_OF_BAND.to_owned();
        asked.state.clear();
        let page = format!("{HOME}/sharing/rest/oauth2/approval?code=c");
        assert_eq!(asked.location(HOME, &[("code", "c")]), page);
    }
}
