//! Signed tokens of the provider (JSON Web Signature, compact), and its public keys (JSON Web Keys).
//!
//! Only signatures by keys that the signer alone has: RS256, ES256, EdDSA with Ed25519. `none`, and HMAC under what
//! others know as well, are refused before a key is looked for; the key decides with the token what is checked, never
//! the token alone.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

const TOKEN_BYTES_MAX: usize = 64 << 10;
const KEYS_MAX: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Es256,
    EdDsa,
}

/// One public key of the provider.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: Option<String>,
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The point, uncompressed.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

/// A token whose signature is not judged yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    signed: &'a str,
    signature: Vec<u8>,
    claims: Map<String, Value>,
}

/// What the known keys say to a token.
#[derive(Debug, PartialEq)]
pub(super) enum Judged {
    /// One of them signed it, and this is what it says.
    Right(Map<String, Value>),
    /// The key that it names signed something else.
    Wrong,
    /// It names a key that is not among them.
    UnknownKey,
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&bytes(part)?).ok()
}

/// Keys of a set that can be used here; others are not for us.
pub(super) fn keys(set: &Value) -> Vec<Key> {
    let keys = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    keys.iter().take(KEYS_MAX).filter_map(key).collect()
}

fn key(told: &Value) -> Option<Key> {
    let text = |name: &str| told[name].as_str();
    let part = |name: &str| bytes(text(name)?);
    if text("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let (material, algorithm) = match (text("kty")?, text("crv")) {
        ("RSA", _) => {
            let number = |name| part(name).map(|n| n.into_iter().skip_while(|byte| *byte == 0).collect());
            (Material::Rsa { n: number("n")?, e: number("e")? }, "RS256")
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (part("x")?, part("y")?);
            if (x.len(), y.len()) != (32, 32) {
                return None;
            }
            (Material::P256([vec![4], x, y].concat()), "ES256")
        }
        ("OKP", Some("Ed25519")) => (Material::Ed25519(part("x")?), "EdDSA"),
        _ => return None,
    };
    if text("alg").is_some_and(|told| told != algorithm) {
        return None;
    }
    Some(Key { id: text("kid").map(str::to_owned), material })
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Rsa { .. } => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
            }
            Material::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Material::Ed25519(point) => UnparsedPublicKey::new(&ED25519, point).verify(message, signature),
        };
        verified.is_ok()
    }
}

impl<'a> Token<'a> {
    /// Takes it apart; the error says what is wrong with it.
    pub fn parse(text: &'a str) -> Result<Self, String> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(format!("the ID token is longer than {TOKEN_BYTES_MAX} bytes"));
        }
        let broken = || "the ID token is no signed token".to_owned();
        let (signed, signature) = text.rsplit_once('.').ok_or_else(broken)?;
        let (head, body) = signed.split_once('.').ok_or_else(broken)?;
        let head = object(head).ok_or_else(broken)?;
        if head.contains_key("crit") {
            return Err("the ID token demands an extension that is not known here".to_owned());
        }
        let algorithm = match head.get("alg").and_then(Value::as_str) {
            Some("RS256") => Algorithm::Rs256,
            Some("ES256") => Algorithm::Es256,
            Some("EdDSA") => Algorithm::EdDsa,
            other => {
                let told = super::harmless(other.unwrap_or_default());
                return Err(format!(
                    "the ID token is signed by '{told}'; RS256, ES256 and EdDSA are accepted"
                ));
            }
        };
        Ok(Self {
            algorithm,
            key_id: head.get("kid").and_then(Value::as_str).map(str::to_owned),
            signed,
            signature: bytes(signature).ok_or_else(broken)?,
            claims: object(body).ok_or_else(broken)?,
        })
    }

    /// Whether one of these keys signed it. Names only choose among keys: a token without one may be of any that fits, and
    /// a key without one may have signed any.
    pub fn judge(self, keys: &[Key]) -> Judged {
        let fits = |key: &&Key| {
            key.algorithm() == self.algorithm
                && (self.key_id.is_none() || key.id.is_none() || self.key_id == key.id)
        };
        let mut candidates = keys.iter().filter(fits).peekable();
        if candidates.peek().is_none() {
            return Judged::UnknownKey;
        }
        let is_right = candidates.any(|key| key.signed(self.signed.as_bytes(), &self.signature));
        if is_right { Judged::Right(self.claims) } else { Judged::Wrong }
    }
}
