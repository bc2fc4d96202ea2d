//! Where an answer may go.

use super::{OUT_OF_BAND, TEXT_MAX};
use crate::error::{ApiError, ApiResult};
use crate::path;
use hyper::Uri;
use hyper::http::uri::Authority;

/// Refuses every redirect URI but the one out of band and those that lead to this site: same scheme, host and port
/// as the public URL, and there the root or a path at or below the context. Elsewhere on the host something may send
/// browsers on, and a fragment goes with them.
pub(super) fn check(uri: &str, public_url: &str) -> ApiResult<()> {
    if uri == OUT_OF_BAND || leads_home(uri, public_url).unwrap_or(false) {
        return Ok(());
    }
    // Known clients look for the first two words and then try the next URI that they know.
    let message = format!("Invalid redirect_uri: expected a URL at {public_url}, or {OUT_OF_BAND}.");
    Err(ApiError::new(400, "OAUTH_INVALID_REQUEST", message))
}

fn leads_home(uri: &str, public_url: &str) -> Option<bool> {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\\\"<>^`{|}#".contains(&byte);
    if uri.len() > TEXT_MAX || !uri.bytes().all(plain) {
        return None;
    }
    let (uri, home): (Uri, Uri) = (uri.parse().ok()?, public_url.parse().ok()?);
    let same_site =
        uri.scheme()? == home.scheme()? && site(uri.authority()?, &home) == site(home.authority()?, &home);
    let (sent, context) = (path::segments(uri.path())?, path::segments(home.path())?);
    let climbs = sent.iter().any(|segment| segment == "." || segment == "..");
    Some(same_site && !climbs && (sent.is_empty() || sent.starts_with(&context)))
}

/// Host and port for comparison; who is named before the host, if anybody, stays and so makes a difference.
fn site(authority: &Authority, home: &Uri) -> String {
    let port = if home.scheme_str() == Some("https") { ":443" } else { ":80" };
    let text = authority.as_str().to_ascii_lowercase();
    text.strip_suffix(port).map_or_else(|| text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "https://dr.example.org:7443/strongroom";

    #[test]
    fn redirects_lead_to_this_site_or_out_of_band_and_nowhere_else() {
        for good in [
            "https://dr.example.org:7443",
            "https://dr.example.org:7443/",
            "https://dr.example.org:7443/?a=b",
            "HTTPS://DR.Example.Org:7443",
            "https://dr.example.org:7443/strongroom",
            "https://dr.example.org:7443//strongroom/admin?x=1",
            OUT_OF_BAND,
        ] {
            assert_eq!(check(good, HOME), Ok(()), "{good}");
        }
        for bad in [
            "",
            "https://dr.example.org",
            "https://dr.example.org:7444",
            "https://dr.example.org:744",
            "https://dr.example.org:74430",
            "http://dr.example.org:7443",
            "ftp://dr.example.org:7443",
            "javascript:alert(1)//https://dr.example.org:7443",
            "https://dr.example.org:7443@evil.example",
            "https://dr.example.org:7443@evil.example:7443/",
            "https://admin@dr.example.org:7443",
            "https://evil.example",
            "https://evil.example/https://dr.example.org:7443",
            "https://evil.example#https://dr.example.org:7443",
            "https://evil.example\\@dr.example.org:7443",
            "https://dr.example.org:7443\\@evil.example",
            "https://dr.example.org:7443.evil.example",
            "https://dr.example.org.evil.example:7443",
            "https://evil-dr.example.org:7443",
            "https:/dr.example.org:7443",
            "//dr.example.org:7443",
            "/strongroom",
            "dr.example.org:7443",
            "https://dr.example.org:7443/other",
            "https://dr.example.org:7443/strongroom2",
            "https://dr.example.org:7443/strongroom/../other",
            "https://dr.example.org:7443/strongroom/%2e%2E/other",
            "https://dr.example.org:7443/strongroom/%zz",
            "https://dr.example.org:7443#fragment",
            "https://dr.example.org:7443/strongroom#fragment",
            "https://dr.example.org:7443/\r\nSet-Cookie:a=b",
            "https://dr.example.org:7443/ x",
            "https://dr.example.org:7443/\u{e9}",
            "https://dr.example.org:7443\t",
            " https://dr.example.org:7443",
            "urn:ietf:wg:oauth:2.0:oob:auto",
            "URN:ietf:wg:oauth:2.0:oob",
        ] {
            let error = check(bad, HOME).expect_err(bad);
            assert!(error.message.starts_with("Invalid redirect_uri"), "{bad}");
        }
        let long = format!("{HOME}/{}", "a".repeat(TEXT_MAX));
        assert!(check(&long, HOME).is_err());
    }

    #[test]
    fn the_usual_port_may_be_written_or_left_out() {
        for home in ["https://dr.example.org/strongroom", "https://dr.example.org:443/strongroom"] {
            for uri in ["https://dr.example.org", "https://dr.example.org:443/strongroom/admin"] {
                assert_eq!(check(uri, home), Ok(()), "{uri} at {home}");
            }
            for uri in ["https://dr.example.org:80", "http://dr.example.org:443", "https://dr.example.org:"] {
                assert!(check(uri, home).is_err(), "{uri} at {home}");
            }
        }
        assert_eq!(check("https://dr.example.org/any/where", "https://dr.example.org"), Ok(()));
        assert!(check("https://dr.example.org/", "no url").is_err());
    }
}
