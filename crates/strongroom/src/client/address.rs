//! What a person calls the server, and the base of all its URLs.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use crate::exit::Failure;

/// The context of a server that was configured with no other.
const DEFAULT_CONTEXT: &str = "strongroom";

/// A server: `https://host:port/context`, always written in the same way, as tokens are kept under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    base: String,
    host: String,
}

impl Server {
    /// Understands an URL. Without a path the usual context is meant; `/admin` at the end, where a browser shows the
    /// pages, does not belong to it.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = |why: &str| {
            Failure::usage(format!("'{}' is no URL of a server: {why}", text.escape_debug()))
                .hint("write https://HOST:PORT/CONTEXT, such as https://127.0.0.1:7443/strongroom")
        };
        let uri: Uri = text.trim().parse().map_err(|e| wrong(&format!("{e}")))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong("it must begin with https://"));
        };
        if authority.as_str().contains('@') || uri.query().is_some() {
            return Err(wrong("it must hold neither a user, nor a password, nor a question mark"));
        }
        let host = authority.host().to_ascii_lowercase();
        let server = match scheme {
            "https" => host,
            "http" if is_this_machine(&host) => host,
            "http" => {
                return Err(wrong("without https everybody on the way could read passwords and passcodes"));
            }
            _ => return Err(wrong("it must begin with https://")),
        };
        let port = authority.port().map(|port| format!(":{port}")).unwrap_or_default();
        let path = uri.path().trim_matches('/');
        let context = match path.strip_suffix("/admin").unwrap_or(path) {
            "" => DEFAULT_CONTEXT,
            context => context,
        };
        Ok(Self { base: format!("{scheme}://{server}{port}/{context}"), host: server })
    }

    /// What every URL begins with; no slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether it runs on this machine and is reached without leaving it.
    pub fn is_here(&self) -> bool {
        is_this_machine(&self.host)
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

fn is_this_machine(host: &str) -> bool {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    plain == "localhost" || plain.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_is_written_in_one_way() {
        for text in [
            "https://DR.example.org:7443/strongroom",
            "https://dr.example.org:7443/strongroom/",
            "https://dr.example.org:7443/strongroom/admin/",
            "https://dr.example.org:7443",
            " https://dr.example.org:7443/ ",
        ] {
            assert_eq!(
                Server::parse(text).unwrap().base(),
                "https://dr.example.org:7443/strongroom",
                "{text}"
            );
        }
        assert_eq!(Server::parse("https://dr/a/b").unwrap().base(), "https://dr/a/b");
    }

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for here in ["http://127.0.0.1:7443/x", "http://localhost/x", "http://[::1]:80/x"] {
            assert!(Server::parse(here).unwrap().is_here(), "{here}");
        }
        let refused = Server::parse("http://dr.example.org/x").unwrap_err();
        assert!(refused.to_string().contains("https"), "{refused}");
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        for text in [
            "",
            "dr.example.org",
            "dr:7443",
            "ftp://dr/x",
            "https://",
            "https://me:secret@dr/x",
            "https://dr/x?y",
        ] {
            assert!(Server::parse(text).is_err(), "{text}");
        }
    }
}
