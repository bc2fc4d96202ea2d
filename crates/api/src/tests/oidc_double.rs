//! A provider that can be told to lie: a real HTTP server on this machine with real keys.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub(super) const CLIENT: &str = "strongroom test";
pub(super) const SECRET: &str = "planted: client & secret";

/// How one of its three pages answers.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Right,
    /// With this status and a page of HTML.
    Status(u16),
    /// Somewhere else, where the right answer would be.
    Redirect,
    /// More than anybody should read.
    Huge,
    /// Not at all, for longer than anybody should wait.
    Hang,
    /// Half of the right answer.
    Half,
    Json(Value),
}

/// By what an ID token is signed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Signer {
    Rs256,
    Es256,
    EdDsa,
    /// By nothing.
    None,
    /// HMAC under the public key, which everybody knows.
    Hs256,
    /// Another key under the name of the known one.
    Stranger,
    /// A new key of the provider, which it tells of only from now on.
    Rotated,
    /// A key that the provider never tells of.
    Unknown,
    /// A new key in the place of the known one, in a token that names none.
    Replaced,
}

/// What it does.
pub(super) struct Behaviour {
    pub discovery: Told,
    pub keys: Told,
    pub token: Told,
    pub signer: Signer,
    /// The nonce that it was asked with.
    pub nonce: String,
    /// Put over the right claims; null takes one away.
    pub claims: Value,
    /// Put over the right description.
    pub description: Value,
    /// Its keys have no names.
    pub nameless: bool,
    rotated: bool,
    replaced: bool,
}

struct Keys {
    rsa: RsaKeyPair,
    stranger: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

struct Inner {
    issuer: String,
    behaviour: Mutex<Behaviour>,
    keys: Keys,
    asked: Mutex<HashMap<String, usize>>,
    /// Body and `authorization` of the last exchange.
    exchanged: Mutex<(String, String)>,
}

#[derive(Clone)]
pub(super) struct Double(Arc<Inner>);

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn rsa() -> RsaKeyPair {
    RsaKeyPair::generate(KeySize::Rsa2048).expect("key")
}

/// The modulus, which lies at a fixed place in the DER text of a key of 2,048 bits.
fn modulus(key: &RsaKeyPair) -> Vec<u8> {
    key.public_key().as_ref()[9..265].to_vec()
}

fn over(right: &mut Value, changes: &Value) {
    for (name, value) in changes.as_object().into_iter().flatten() {
        match value {
            Value::Null => drop(right.as_object_mut().expect("object").remove(name)),
            value => right[name] = value.clone(),
        }
    }
}

impl Double {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port");
        let issuer = format!("http://{}", listener.local_addr().expect("address"));
        let behaviour = Behaviour {
            discovery: Told::Right,
            keys: Told::Right,
            token: Told::Right,
            signer: Signer::Rs256,
            nonce: String::new(),
            claims: json!({}),
            description: json!({}),
            nameless: false,
            rotated: false,
            replaced: false,
        };
        let keys = Keys {
            rsa: rsa(),
            stranger: rsa(),
            p256: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("key"),
            ed25519: Ed25519KeyPair::generate().expect("key"),
        };
        let behaviour = Mutex::new(behaviour);
        let inner = Inner { issuer, behaviour, keys, asked: Mutex::default(), exchanged: Mutex::default() };
        let double = Self(Arc::new(inner));
        let serving = double.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let double = serving.clone();
                std::thread::spawn(move || double.answer(stream));
            }
        });
        double
    }

    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    pub fn set(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut self.0.behaviour.lock().expect("behaviour"));
    }

    /// How often a page was asked for.
    pub fn asked(&self, path: &str) -> usize {
        self.0.asked.lock().expect("asked").get(path).copied().unwrap_or(0)
    }

    /// Body and `authorization` of the last exchange of a code.
    pub fn exchanged(&self) -> (String, String) {
        self.0.exchanged.lock().expect("exchanged").clone()
    }

    fn answer(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                break;
            }
            head.push(line.trim_end().to_owned());
        }
        let header = |name: &str| {
            let lines = head.iter().filter_map(|line| line.split_once(':'));
            let mut found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
            found.next().map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let mut body = vec![0; header("content-length").parse().unwrap_or(0)];
        reader.read_exact(&mut body).expect("body");
        let request = head.first().cloned().unwrap_or_default();
        let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
        *self.0.asked.lock().expect("asked").entry(path.clone()).or_default() += 1;
        if path == "/token" {
            let body = String::from_utf8_lossy(&body).into_owned();
            *self.0.exchanged.lock().expect("exchanged") = (body, header("authorization"));
        }
        let (told, right) = self.told(&path);
        let ok = |body: String| {
            let length = body.len();
            format!(
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )
        };
        let reply = match told {
            Told::Right => ok(right.to_string()),
            Told::Json(value) => ok(value.to_string()),
            Told::Huge => ok(format!("{{\"padding\": \"{}\"}}", "x".repeat(1 << 20))),
            Told::Half => ok(right.to_string().chars().take(40).collect()),
            Told::Status(status) => format!("HTTP/1.1 {status} No\r\ncontent-length: 4\r\n\r\n<p>!"),
            Told::Redirect => {
                format!(
                    "HTTP/1.1 302 Go\r\nlocation: {}/right{path}\r\ncontent-length: 0\r\n\r\n",
                    self.issuer()
                )
            }
            Told::Hang => {
                std::thread::sleep(Duration::from_secs(20));
                String::new()
            }
        };
        let _ = reader.get_mut().write_all(reply.as_bytes());
    }

    fn told(&self, path: &str) -> (Told, Value) {
        let mut behaviour = self.0.behaviour.lock().expect("behaviour");
        match path {
            "/.well-known/openid-configuration" => {
                let mut right = json!({
                    "issuer": self.issuer(),
                    "authorization_endpoint": format!("{}/auth?tenant=1", self.issuer()),
                    "token_endpoint": format!("{}/token", self.issuer()),
                    "jwks_uri": format!("{}/keys", self.issuer()),
                });
                over(&mut right, &behaviour.description);
                (behaviour.discovery.clone(), right)
            }
            "/keys" => (behaviour.keys.clone(), self.key_set(&behaviour)),
            "/token" => {
                let token = self.token(&behaviour);
                behaviour.rotated |= behaviour.signer == Signer::Rotated;
                behaviour.replaced |= behaviour.signer == Signer::Replaced;
                (
                    behaviour.token.clone(),
                    json!({"access_token": "x", "token_type": "Bearer", "id_token": token}),
                )
            }
            _ => (Told::Right, json!({"id_token": self.token(&behaviour)})),
        }
    }

    fn key_set(&self, behaviour: &Behaviour) -> Value {
        let keys = &self.0.keys;
        let point = keys.p256.public_key().as_ref();
        let rsa = |id: &str, key: &RsaKeyPair| json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": b64(modulus(key)), "e": "AQAB"});
        let mut set = vec![
            json!({"kty": "RSA", "kid": "r", "use": "enc", "n": b64(modulus(&keys.stranger)), "e": "AQAB"}),
            rsa("r", if behaviour.replaced { &keys.stranger } else { &keys.rsa }),
            json!({"kty": "EC", "kid": "p", "crv": "P-256", "x": b64(&point[1..33]), "y": b64(&point[33..])}),
            json!({"kty": "OKP", "kid": "e", "crv": "Ed25519", "x": b64(keys.ed25519.public_key().as_ref())}),
            json!({"kty": "oct", "kid": "h", "k": "c2VjcmV0"}),
        ];
        if behaviour.rotated {
            set.push(rsa("rotated", &keys.stranger));
        }
        if behaviour.nameless {
            set.iter_mut().for_each(|key| over(key, &json!({"kid": null})));
        }
        json!({ "keys": set })
    }

    fn token(&self, behaviour: &Behaviour) -> String {
        let now = crate::dispatch::now_ms() / 1000;
        let mut claims = json!({
            "iss": self.issuer(), "aud": CLIENT, "sub": "account-1", "iat": now, "exp": now + 300,
            "nonce": behaviour.nonce, "preferred_username": "anna", "roles": ["staff", "dr-operators"],
        });
        over(&mut claims, &behaviour.claims);
        let (algorithm, id) = match behaviour.signer {
            Signer::Rs256 | Signer::Stranger | Signer::Replaced => ("RS256", "r"),
            Signer::Rotated => ("RS256", "rotated"),
            Signer::Unknown => ("RS256", "unknown"),
            Signer::Es256 => ("ES256", "p"),
            Signer::EdDsa => ("EdDSA", "e"),
            Signer::None => ("none", "r"),
            Signer::Hs256 => ("HS256", "r"),
        };
        let mut head = json!({"alg": algorithm, "kid": id, "typ": "JWT"});
        if behaviour.signer == Signer::Replaced {
            over(&mut head, &json!({"kid": null}));
        }
        let signed = format!("{}.{}", b64(head.to_string()), b64(claims.to_string()));
        let (keys, text) = (&self.0.keys, signed.as_bytes());
        let with_rsa = |key: &RsaKeyPair| {
            let mut signature = vec![0; key.public_modulus_len()];
            key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).expect("signature");
            signature
        };
        let signature = match behaviour.signer {
            Signer::Rs256 => with_rsa(&keys.rsa),
            Signer::Stranger | Signer::Rotated | Signer::Unknown | Signer::Replaced => {
                with_rsa(&keys.stranger)
            }
            Signer::Es256 => keys.p256.sign(&SystemRandom::new(), text).expect("signature").as_ref().to_vec(),
            Signer::EdDsa => keys.ed25519.sign(text).as_ref().to_vec(),
            Signer::None => Vec::new(),
            Signer::Hs256 => {
                let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &modulus(&keys.rsa));
                aws_lc_rs::hmac::sign(&key, text).as_ref().to_vec()
            }
        };
        format!("{signed}.{}", b64(signature))
    }
}
