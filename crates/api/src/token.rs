//! Where a token may stand in a request.

use crate::error::{ApiError, ApiResult};
use crate::parameters::Parameters;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

/// The token of a request, from the header that known clients use, the usual header, the body and the query.
/// Two that differ are refused: it would be unclear who asks.
pub(crate) fn find(headers: &HeaderMap, body: &Parameters, query: &Parameters) -> ApiResult<Option<String>> {
    let in_headers = ["x-esri-authorization", AUTHORIZATION.as_str()]
        .into_iter()
        .flat_map(|name| headers.get_all(name))
        .filter_map(|value| bearer(value.to_str().ok()?));
    let in_parameters = [body.text("token"), query.text("token")].into_iter().flatten();
    let mut found: Option<&str> = None;
    for token in in_headers.chain(in_parameters) {
        if found.is_some_and(|first| first != token) {
            return Err(ApiError::token_invalid());
        }
        found = Some(token);
    }
    if body.has_several("token") || query.has_several("token") {
        return Err(ApiError::token_invalid());
    }
    Ok(found.map(str::to_owned))
}

/// The token of a `Bearer` header; other schemes are not ours.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(headers: &[(&'static str, &str)], body: &str, query: &str) -> ApiResult<Option<String>> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("header"));
        }
        find(&map, &Parameters::from_form(body.as_bytes()), &Parameters::from_form(query.as_bytes()))
    }

    #[test]
    fn the_token_is_found_in_each_of_its_four_places() {
        let found = Ok(Some("abc".to_owned()));
        assert_eq!(tokens(&[("x-esri-authorization", "Bearer abc")], "", ""), found);
        assert_eq!(tokens(&[("authorization", "bearer  abc ")], "", ""), found);
        assert_eq!(tokens(&[], "token=abc", ""), found);
        assert_eq!(tokens(&[], "", "token=abc"), found);
        assert_eq!(tokens(&[("authorization", "Bearer abc")], "token=abc", "token=abc"), found);
    }

    #[test]
    fn two_different_tokens_are_refused() {
        for result in [
            tokens(&[("x-esri-authorization", "Bearer a"), ("authorization", "Bearer b")], "", ""),
            tokens(&[("authorization", "Bearer a")], "token=b", ""),
            tokens(&[], "token=a", "token=b"),
            tokens(&[], "token=a&token=b", ""),
            tokens(&[("authorization", "Bearer a"), ("authorization", "Bearer b")], "", ""),
        ] {
            assert_eq!(result.expect_err("two tokens").code, 498);
        }
    }

    #[test]
    fn empty_tokens_and_other_schemes_are_no_token() {
        assert_eq!(tokens(&[("authorization", "Basic YWRtaW46eA==")], "token=", ""), Ok(None));
        assert_eq!(tokens(&[("authorization", "Bearer")], "", ""), Ok(None));
    }
}
