//! Sessions of the pages: a cookie that carries a token, and the field that each form must bring back.
//!
//! The cookie counts for HTML alone. A request that rests on it and can change something needs two things
//! more: the form field, which only a page of this session holds, and a browser that does not say that the
//! request comes from another site.

use crate::error::{ApiError, ApiResult};
use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use hyper::header::{COOKIE, HOST, ORIGIN};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// How long a session of the pages lasts.
pub(crate) const SESSION_MINUTES: u32 = 8 * 60;
/// Name of the form field.
pub(crate) const FORM_FIELD: &str = "csrf";

/// Name of the cookie. The prefix makes browsers refuse it from anything but this very host over TLS.
fn cookie_name(secure: bool) -> &'static str {
    if secure { "__Host-strongroom" } else { "strongroom" }
}

/// The token in the session cookie.
pub(crate) fn cookie_token(headers: &HeaderMap, secure: bool) -> Option<String> {
    headers
        .get_all(COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, token)| *name == cookie_name(secure) && !token.is_empty())
        .map(|(_, token)| token.to_owned())
}

/// The header that starts a session.
pub(crate) fn start_cookie(token: &str, secure: bool) -> String {
    let flag = if secure { "; Secure" } else { "" };
    format!("{}={token}; Path=/; HttpOnly; SameSite=Strict{flag}", cookie_name(secure))
}

/// The header that ends it.
pub(crate) fn end_cookie(secure: bool) -> String {
    format!("{}; Max-Age=0", start_cookie("", secure))
}

/// The form field of a session: a MAC under the session's own token, so it needs no memory, holds on every
/// replica, and tells nothing about the token.
pub(crate) fn form_field(token: &str) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(token.as_bytes()) else { return String::new() };
    mac.update(b"strongroom form field 1");
    hex::encode(mac.finalize().into_bytes())
}

/// Refuses a form that does not belong to this session.
pub(crate) fn check_form(token: &str, field: Option<&str>) -> ApiResult<()> {
    let expected = form_field(token);
    let equal: bool = field.unwrap_or_default().as_bytes().ct_eq(expected.as_bytes()).into();
    if equal && !expected.is_empty() {
        return Ok(());
    }
    Err(ApiError::new(
        403,
        "FORBIDDEN",
        "This form belongs to another or an older session: open the page again.",
    ))
}

/// Refuses a request that a browser made for another site. Callers that are no browsers send neither header.
pub(crate) fn check_origin(headers: &HeaderMap, public_url: &str) -> ApiResult<()> {
    let text = |name| headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
    let foreign = ApiError::new(403, "FORBIDDEN", "This request was made by a page of another site.");
    if let Some(site) = text(hyper::header::HeaderName::from_static("sec-fetch-site")) {
        return if matches!(site, "same-origin" | "none") { Ok(()) } else { Err(foreign) };
    }
    match text(ORIGIN) {
        // Our own pages send no referrer, and then browsers write "null" here; the form field decides.
        None | Some("null") => Ok(()),
        Some(origin) => {
            let host = origin.split_once("://").map(|(_, host)| host);
            let ours = host.is_some() && (host == text(HOST) || host == host_of(public_url));
            if ours { Ok(()) } else { Err(foreign) }
        }
    }
}

/// Host and port of a URL.
fn host_of(url: &str) -> Option<&str> {
    url.split_once("://")?.1.split('/').next()
}

/// Where to go after signing in: the page asked for, if it is one of ours, else the start page.
pub(crate) fn local_target(next: Option<&str>, context_path: &str) -> String {
    let start = format!("{context_path}/admin");
    let ours = |path: &&str| {
        path.len() <= 2000
            && path.strip_prefix(context_path).is_some_and(|rest| rest.starts_with("/admin"))
            && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\')
            && !path.contains("//")
    };
    next.filter(ours).map_or(start, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value")))
            .collect()
    }

    #[test]
    fn the_cookie_is_bound_to_the_host_and_hidden_from_scripts() {
        let header = start_cookie("abc", true);
        assert_eq!(header, "__Host-strongroom=abc; Path=/; HttpOnly; SameSite=Strict; Secure");
        assert_eq!(start_cookie("abc", false), "strongroom=abc; Path=/; HttpOnly; SameSite=Strict");
        assert!(end_cookie(true).ends_with("; Max-Age=0"));
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        let sent = headers(&[("cookie", "a=1; __Host-strongroom=abc; strongroom=other")]);
        assert_eq!(cookie_token(&sent, true).as_deref(), Some("abc"));
        assert_eq!(cookie_token(&sent, false).as_deref(), Some("other"));
        assert_eq!(cookie_token(&headers(&[("cookie", "__Host-strongroom=")]), true), None);
    }

    #[test]
    fn a_form_is_taken_only_with_the_field_of_its_own_session() {
        let field = form_field("token-1");
        assert_eq!(field.len(), 64);
        assert!(!field.contains("token"));
        assert_eq!(check_form("token-1", Some(&field)), Ok(()));
        for wrong in [None, Some(""), Some("0"), Some(form_field("token-2").as_str())] {
            assert_eq!(check_form("token-1", wrong).expect_err("wrong field").code, 403);
        }
    }

    #[test]
    fn requests_made_by_other_sites_are_refused() {
        let ours = "https://dr.example.org/strongroom";
        let host = ("host", "localhost:7443");
        for good in [
            headers(&[host]),
            headers(&[host, ("sec-fetch-site", "same-origin"), ("origin", "null")]),
            headers(&[host, ("origin", "https://localhost:7443")]),
            headers(&[host, ("origin", "https://dr.example.org")]),
        ] {
            assert_eq!(check_origin(&good, ours), Ok(()), "{good:?}");
        }
        for bad in [
            headers(&[host, ("sec-fetch-site", "cross-site")]),
            headers(&[host, ("sec-fetch-site", "same-site"), ("origin", "https://localhost:7443")]),
            headers(&[host, ("origin", "https://evil.example")]),
            headers(&[host, ("origin", "https://dr.example.org.evil.example")]),
            headers(&[("origin", "garbage")]),
        ] {
            assert_eq!(check_origin(&bad, ours).expect_err("foreign").code, 403, "{bad:?}");
        }
    }

    #[test]
    fn signing_in_leads_to_local_pages_alone() {
        let target = |next| local_target(Some(next), "/strongroom");
        assert_eq!(target("/strongroom/admin/jobs/j1"), "/strongroom/admin/jobs/j1");
        for foreign in [
            "https://evil.example/strongroom/admin",
            "//evil.example/strongroom/admin",
            "/strongroom//evil.example",
            "/strongroom/admin//evil",
            "/other/admin",
            "/strongroom/admin\\evil",
            "/strongroom/admin\r\nSet-Cookie:x",
            "",
        ] {
            assert_eq!(target(foreign), "/strongroom/admin", "{foreign:?}");
        }
        assert_eq!(local_target(None, ""), "/admin");
    }
}
