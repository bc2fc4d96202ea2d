//! The parsers of what a provider sends, each as a function over arbitrary bytes: for fuzzing (feature `fuzzing`, see
//! `fuzz/`) and, in the crate's own tests, for reading the kept corpus again. A fuzzer cannot encode a token or sign it, so
//! three lines stand for its three parts too, and claims are judged without a signature.

#![allow(clippy::unwrap_used, clippy::panic)] // a panic is how a fuzzer is told

use super::jwt::{self, Judged, Token};
use super::provider::{Metadata, is_safe};
use super::{OidcSettings, RoleValues, claims};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::time::Duration;

/// A parser, fed with arbitrary bytes.
pub type Target = fn(&[u8]);

/// All of them by name; the names are those of the folders in `fuzz/corpus`.
pub const TARGETS: &[(&str, Target)] =
    &[("id-token", id_token), ("provider-keys", keys), ("provider-description", description)];

const ISSUER: &str = "https://login.example";
/// The example of RFC 7515, A.3, and the key that signed it.
const SIGNED: &str = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9\
                      pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3\
                      -Kg6NU1Q";
const X: &str = "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU";
const Y: &str = "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0";

fn known() -> Value {
    json!({"keys": [{"kty": "EC", "crv": "P-256", "x": X, "y": Y}]})
}

fn id_token(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        judge(text);
    }
    let encoded: Vec<_> =
        data.splitn(3, |byte| *byte == b'\n').map(|part| URL_SAFE_NO_PAD.encode(part)).collect();
    judge(&encoded.join("."));
    if let Ok(Value::Object(told)) = serde_json::from_slice(data) {
        let settings = settings();
        if let Ok(who) = claims::identity(&told, &settings, |nonce| nonce == "n", 1_900_000_000) {
            assert!(who.issuer == ISSUER && !who.subject.is_empty());
        }
    }
}

/// What is right was signed by the one key that is known.
fn judge(text: &str) {
    if let Ok(token) = Token::parse(text)
        && let Judged::Right(_) = token.judge(&jwt::keys(&known()))
    {
        let (signed, _) = text.rsplit_once('.').unwrap();
        assert!(SIGNED.starts_with(signed), "{text}");
    }
}

fn keys(data: &[u8]) {
    let Ok(told) = serde_json::from_slice::<Value>(data) else { return };
    let keys = jwt::keys(&told);
    assert!(keys.len() <= 100);
    let _ = Token::parse(SIGNED).unwrap().judge(&keys);
    // Of the other kinds, with signatures of the right length that nobody made.
    for (algorithm, length) in [("RS256", 256), ("EdDSA", 64)] {
        let head = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm}).to_string());
        let token = format!("{head}.e30.{}", URL_SAFE_NO_PAD.encode(vec![1; length]));
        let _ = Token::parse(&token).unwrap().judge(&keys);
    }
}

fn description(data: &[u8]) {
    let Ok(told) = serde_json::from_slice::<Value>(data) else { return };
    if let Ok(metadata) = Metadata::of(&told, ISSUER) {
        assert!(metadata.places().into_iter().all(is_safe), "{metadata:?}");
    }
}

/// Those of the tests, too.
pub(super) fn settings() -> OidcSettings {
    let values = |value: &str| vec![value.to_owned()];
    OidcSettings {
        issuer: ISSUER.to_owned(),
        client_id: "us".to_owned(),
        client_secret: None,
        scopes: Vec::new(),
        username_claim: "preferred_username".to_owned(),
        role_claim: "realm_access.roles".to_owned(),
        roles: RoleValues {
            administrator: values("dr-admins"),
            operator: values("dr-operators"),
            viewer: values("staff"),
        },
        clock_skew: Duration::from_secs(60),
        label: String::new(),
        certificates: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kept_corpus_is_read_without_a_crash() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        for (name, target) in TARGETS {
            let mut files = 0;
            for file in std::fs::read_dir(corpus.join(name)).unwrap() {
                target(&std::fs::read(file.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files > 0, "there is no corpus for {name}");
        }
    }

    #[test]
    fn the_published_example_is_right_under_its_key_alone() {
        let judge = |keys: &Value| Token::parse(SIGNED).unwrap().judge(&jwt::keys(keys));
        assert!(matches!(judge(&known()), Judged::Right(claims) if claims["iss"] == "joe"));
        let exchanged = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": Y, "y": X}]});
        assert_eq!(judge(&exchanged), Judged::Wrong);
        assert_eq!(judge(&json!({})), Judged::UnknownKey);
    }
}
