//! In which form a reply is wanted: `f`, or what the caller accepts.

use crate::error::ApiError;
use hyper::HeaderMap;
use hyper::header::ACCEPT;
use serde_json::Value;

/// The form of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A page for people; the default of this interface.
    Html,
    /// JSON in one line.
    Json,
    /// JSON indented by two blanks.
    PrettyJson,
}

impl Format {
    /// The format asked for by `f`, else by `Accept`.
    pub fn choose(f: Option<&str>, headers: &HeaderMap) -> Result<Self, ApiError> {
        match f.map(str::to_ascii_lowercase).as_deref() {
            Some("html") => Ok(Self::Html),
            Some("json") => Ok(Self::Json),
            Some("pjson") => Ok(Self::PrettyJson),
            Some(_) => Err(ApiError::new(
                400,
                "FORMAT_UNKNOWN",
                "Parameter 'f' is not valid: expected html, json or pjson.",
            )),
            None => Ok(Self::accepted(headers)),
        }
    }

    /// What `Accept` says: JSON for a caller that names it and not HTML.
    fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let names = |media_type: &str| {
            accept.split(',').any(|range| {
                range.split(';').next().is_some_and(|name| name.trim().eq_ignore_ascii_case(media_type))
            })
        };
        if names("application/json") && !names("text/html") { Self::Json } else { Self::Html }
    }

    /// A JSON text in this format; HTML is rendered elsewhere and gets the plain form.
    pub fn write(self, value: &Value) -> String {
        match self {
            Self::PrettyJson => format!("{value:#}"),
            Self::Json | Self::Html => value.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, hyper::header::HeaderValue::from_static(value))])
    }

    #[test]
    fn f_decides_in_any_case_and_html_is_the_default() {
        let none = HeaderMap::new();
        for (f, format) in [
            (None, Format::Html),
            (Some("HTML"), Format::Html),
            (Some("json"), Format::Json),
            (Some("PJson"), Format::PrettyJson),
        ] {
            assert_eq!(Format::choose(f, &none), Ok(format));
        }
        for f in ["xml", "jsonp", "json "] {
            assert_eq!(Format::choose(Some(f), &none).expect_err(f).message_code, "FORMAT_UNKNOWN");
        }
    }

    #[test]
    fn without_f_the_accept_header_can_ask_for_json() {
        assert_eq!(Format::choose(None, &accept("application/json")), Ok(Format::Json));
        assert_eq!(Format::choose(None, &accept("text/plain, Application/JSON;q=0.9")), Ok(Format::Json));
        assert_eq!(Format::choose(None, &accept("text/html, application/json")), Ok(Format::Html));
        assert_eq!(Format::choose(None, &accept("*/*")), Ok(Format::Html));
        assert_eq!(Format::choose(Some("html"), &accept("application/json")), Ok(Format::Html));
    }

    #[test]
    fn pjson_is_indented_by_two_blanks() {
        let value = serde_json::json!({"a": {"b": 1}});
        assert_eq!(Format::PrettyJson.write(&value), "{\n  \"a\": {\n    \"b\": 1\n  }\n}");
        assert_eq!(Format::Json.write(&value), r#"{"a":{"b":1}}"#);
    }
}
