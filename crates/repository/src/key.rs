//! Passcodes and key files: how a passcode opens a repository.
//!
//! A key file under `keys/` is plain JSON; its `data` is the repository's master key, sealed under a key that
//! scrypt derives from the passcode. Its name is the SHA-256 of its bytes. Any number of key files may wrap the
//! same master key; opening tries each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::seal::SealKey;
use crate::{Error, ErrorKind, KeyLabel, Result};

/// scrypt may use so much memory for a key file that somebody else wrote.
const SCRYPT_BYTES_MAX: u64 = 1 << 30;
/// Lanes run side by side within so much memory.
const LANES_BYTES_MAX: u64 = 64 << 20;
/// Far more than any program writes; each costs time or memory before the passcode is known to be right.
const SCRYPT_P_MAX: u32 = 64;
const SCRYPT_R_MAX: u32 = 64;
/// restic's salts have exactly this length and it refuses others.
const SALT_BYTES: usize = 64;

/// What opens a repository. Never printed, wiped when dropped.
#[derive(Clone)]
pub struct Passcode(SecretString);

impl Passcode {
    /// Takes the text as it is: no trimming, no normalising.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The text, for deriving keys or sealing it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl std::fmt::Debug for Passcode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passcode(…)")
    }
}

/// Cost of deriving a key from a passcode with scrypt: memory is 128·n·r bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Work factor, a power of two.
    pub n: u32,
    /// Block size.
    pub r: u32,
    /// Parallelism.
    pub p: u32,
}

impl Cost {
    /// 32 MiB and about 0.26 s of a server core of 2026; the three lanes run side by side where there are cores.
    pub const DEFAULT: Cost = Cost { n: 32768, r: 8, p: 3 };
    /// Cheap, for tests alone.
    pub const FAST: Cost = Cost { n: 1024, r: 8, p: 1 };

    /// Memory that one lane needs.
    fn lane_bytes(self) -> u64 {
        128 * u64::from(self.n) * u64::from(self.r)
    }

    fn params(self) -> Result<scrypt::Params> {
        let bytes = self.lane_bytes();
        let work = bytes.saturating_mul(u64::from(self.p));
        let sane = self.n.is_power_of_two() && self.n > 1 && (1..=SCRYPT_P_MAX).contains(&self.p);
        if !sane || bytes > SCRYPT_BYTES_MAX || work > 4 * SCRYPT_BYTES_MAX || self.r > SCRYPT_R_MAX {
            let Cost { n, r, p } = self;
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("refusing the scrypt cost N={n}, r={r}, p={p}: illegal, or too much memory or time"),
            ));
        }
        scrypt::Params::new(self.n.trailing_zeros() as u8, self.r, self.p)
            .map_err(|e| Error::new(ErrorKind::Damaged, format!("refusing the scrypt cost {self:?}: {e}")))
    }
}

/// The lanes of scrypt (its parameter p) are independent: as many run at once as there are cores and memory allows.
fn scrypt_into(passcode: &Passcode, salt: &[u8], cost: Cost, out: &mut [u8]) -> Result<()> {
    let failed = |e: &dyn std::fmt::Display| {
        Error::new(ErrorKind::Invalid, format!("cannot derive a key with scrypt: {e}"))
    };
    let params = cost.params()?;
    let lanes = (LANES_BYTES_MAX / cost.lane_bytes()).clamp(1, u64::from(cost.p)) as usize;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(lanes.min(crate::threads())).build();
    pool.map_err(|e| failed(&e))?
        .install(|| scrypt::scrypt(passcode.expose().as_bytes(), salt, &params, out))
        .map_err(|e| failed(&e))
}

/// 32 bytes that scrypt makes of the passcode. Refuses costs above 1 GiB of memory.
pub fn derive_from_passcode(passcode: &Passcode, salt: &[u8], cost: Cost) -> Result<[u8; 32]> {
    let mut out = [0; 32];
    scrypt_into(passcode, salt, cost, &mut out)?;
    Ok(out)
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    #[serde(default)]
    created: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    hostname: String,
    kdf: String,
    #[serde(rename = "N")]
    n: u32,
    r: u32,
    p: u32,
    salt: String,
    data: String,
}

#[derive(Serialize, Deserialize, Zeroize)]
struct MasterKeyText {
    mac: MacText,
    encrypt: String,
}

#[derive(Serialize, Deserialize, Zeroize)]
struct MacText {
    k: String,
    r: String,
}

fn user_key(passcode: &Passcode, salt: &[u8], cost: Cost) -> Result<SealKey> {
    let mut bytes = Zeroizing::new([0u8; 64]);
    scrypt_into(passcode, salt, cost, bytes.as_mut())?;
    let mut key = SealKey { encrypt: [0; 32], k: [0; 16], r: [0; 16] };
    key.encrypt.copy_from_slice(&bytes[..32]);
    key.k.copy_from_slice(&bytes[32..48]);
    key.r.copy_from_slice(&bytes[48..]);
    Ok(key)
}

/// The text of a new key file that opens `master` with `passcode`.
pub(crate) fn make_key_file(master: &SealKey, passcode: &Passcode, cost: Cost) -> Result<Vec<u8>> {
    make_labelled_key_file(master, passcode, cost, &KeyLabel::default())
}

/// The same, saying in clear whose it is.
pub(crate) fn make_labelled_key_file(
    master: &SealKey,
    passcode: &Passcode,
    cost: Cost,
    label: &KeyLabel,
) -> Result<Vec<u8>> {
    let salt: [u8; SALT_BYTES] = rand::random();
    let mut text = MasterKeyText {
        mac: MacText { k: STANDARD.encode(master.k), r: STANDARD.encode(master.r) },
        encrypt: STANDARD.encode(master.encrypt),
    };
    let plain = Zeroizing::new(serde_json::to_vec(&text).map_err(json_error)?);
    text.zeroize();
    let file = KeyFile {
        created: crate::time::now_text(),
        username: label.username.clone(),
        hostname: label.hostname.clone(),
        kdf: "scrypt".to_owned(),
        n: cost.n,
        r: cost.r,
        p: cost.p,
        salt: STANDARD.encode(salt),
        data: STANDARD.encode(user_key(passcode, &salt, cost)?.seal(&plain)),
    };
    serde_json::to_vec(&file).map_err(json_error)
}

/// When a key file was made, and whose it is.
pub(crate) fn describe(name: &str, body: &[u8]) -> Result<(String, KeyLabel)> {
    let file: KeyFile = serde_json::from_slice(body).map_err(|e| Error::damaged(name, e))?;
    Ok((file.created, KeyLabel { username: file.username, hostname: file.hostname }))
}

/// The master key in a key file: `WrongPasscode` if the passcode does not open it, `Damaged` if it is no key file.
pub(crate) fn open_key_file(name: &str, body: &[u8], passcode: &Passcode) -> Result<SealKey> {
    let file: KeyFile = serde_json::from_slice(body).map_err(|e| Error::damaged(name, e))?;
    if file.kdf != "scrypt" {
        return Err(Error::damaged(name, format!("unknown key derivation '{}'", file.kdf.escape_debug())));
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|e| Error::damaged(name, e));
    let salt = decode(&file.salt)?;
    if salt.len() != SALT_BYTES {
        return Err(Error::damaged(name, format!("its salt has {} bytes, not {SALT_BYTES}", salt.len())));
    }
    let sealed = decode(&file.data)?;
    let cost = Cost { n: file.n, r: file.r, p: file.p };
    let user = user_key(passcode, &salt, cost).map_err(|e| Error::damaged(name, e))?;
    let plain = user
        .open(&sealed)
        .map_err(|_| Error::new(ErrorKind::WrongPasscode, format!("the passcode does not open {name}")))?;
    let plain = Zeroizing::new(plain);
    let mut text: MasterKeyText = serde_json::from_slice(&plain).map_err(|e| Error::damaged(name, e))?;
    let part = |text: &str, out: &mut [u8]| -> Result<()> {
        let bytes = Zeroizing::new(decode(text)?);
        if bytes.len() != out.len() {
            return Err(Error::damaged(name, "a part of the master key has a wrong length"));
        }
        out.copy_from_slice(&bytes);
        Ok(())
    };
    let mut master = SealKey { encrypt: [0; 32], k: [0; 16], r: [0; 16] };
    part(&text.encrypt, &mut master.encrypt)?;
    part(&text.mac.k, &mut master.k)?;
    part(&text.mac.r, &mut master.r)?;
    text.zeroize();
    if master.is_legal() { Ok(master.masked()) } else { Err(Error::damaged(name, "its master key is zero")) }
}

fn json_error(e: serde_json::Error) -> Error {
    Error::new(ErrorKind::Invalid, format!("cannot write JSON: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrypt_gives_the_published_vector() {
        let salt: [u8; 64] = std::array::from_fn(|i| i as u8);
        let mut out = [0; 64];
        scrypt_into(&Passcode::new("geheim".into()), &salt, Cost::FAST, &mut out).unwrap();
        assert!(
            hex::encode(out).starts_with("afd9918d07af99c41fe53ea3e2602702a2cc0f1d68f2c224f4f4bdff8a4bea38")
        );
        assert!(
            hex::encode(out).ends_with("e522565c84ab5b1070e2da80cfd4ef48e369ce349fb98016146594b711346c99")
        );
    }

    #[test]
    fn a_key_file_opens_with_its_passcode_alone() {
        let master = SealKey::random();
        let file = make_key_file(&master, &Passcode::new("right one".into()), Cost::FAST).unwrap();
        let opened = open_key_file("keys/x", &file, &Passcode::new("right one".into())).unwrap();
        assert_eq!((opened.encrypt, opened.k, opened.r), (master.encrypt, master.k, master.r));
        let wrong = open_key_file("keys/x", &file, &Passcode::new("wrong one".into())).err().unwrap();
        assert_eq!(wrong.kind, ErrorKind::WrongPasscode);
    }

    #[test]
    fn a_hostile_cost_is_refused_before_it_costs_anything() {
        let mut file: serde_json::Value = serde_json::from_slice(
            &make_key_file(&SealKey::random(), &Passcode::new("p".into()), Cost::FAST).unwrap(),
        )
        .unwrap();
        for n in [0u32, 1, 3, 1 << 30] {
            file["N"] = n.into();
            let error = open_key_file("keys/x", file.to_string().as_bytes(), &Passcode::new("p".into()));
            assert_eq!(error.err().unwrap().kind, ErrorKind::Damaged);
        }
    }
}
