//! The repository's `config`: version, id, and a polynomial that restic insists on.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Id, Result};

/// Name of the file.
pub(crate) const CONFIG: &str = "config";

/// The sealed JSON of `config`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Config {
    pub(crate) version: u32,
    pub(crate) id: String,
    pub(crate) chunker_polynomial: String,
    /// rustic's mark for repositories from which nothing may be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) append_only: Option<bool>,
}

impl Config {
    /// A new repository of version 2.
    pub(crate) fn new() -> Self {
        Self {
            version: 2,
            id: Id::random().to_string(),
            chunker_polynomial: format!("{:x}", random_polynomial()),
            append_only: None,
        }
    }

    /// Reads the opened text; `UnsupportedVersion` for any version but 1 and 2.
    pub(crate) fn parse(text: &[u8]) -> Result<Self> {
        let config: Self = serde_json::from_slice(text).map_err(|e| Error::damaged(CONFIG, e))?;
        if !(1..=2).contains(&config.version) {
            return Err(Error::new(
                ErrorKind::UnsupportedVersion,
                format!(
                    "the repository has format version {}; this program knows 1 and 2: use a newer one",
                    config.version
                ),
            ));
        }
        Ok(config)
    }
}

/// Degree of the polynomials that restic's chunker uses. Ours does not need one, but restic refuses to open a
/// repository whose polynomial is not irreducible.
const DEGREE: u32 = 53;

fn random_polynomial() -> u64 {
    loop {
        let candidate = (rand::random::<u64>() & ((1 << (DEGREE + 1)) - 1)) | (1 << DEGREE) | 1;
        if is_irreducible(candidate) {
            return candidate;
        }
    }
}

/// Ben-Or's test over GF(2): for each i up to half the degree, gcd(f, x^(2^i) − x) must be 1.
fn is_irreducible(f: u64) -> bool {
    let mut power = 2u64; // x
    (1..=DEGREE / 2).all(|_| {
        power = multiply_modulo(power, power, f);
        gcd(f, power ^ 2) == 1
    })
}

fn degree(p: u64) -> i32 {
    63 - p.leading_zeros() as i32
}

fn modulo(mut a: u64, f: u64) -> u64 {
    while degree(a) >= degree(f) {
        a ^= f << (degree(a) - degree(f));
    }
    a
}

fn multiply_modulo(a: u64, b: u64, f: u64) -> u64 {
    let mut product = 0;
    let mut shifted = modulo(a, f);
    for bit in 0..=degree(b) {
        if b >> bit & 1 == 1 {
            product ^= shifted;
        }
        shifted = modulo(shifted << 1, f);
    }
    product
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, modulo(a, b));
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polynomials_are_irreducible_of_degree_53() {
        assert!(is_irreducible(0x3d_a335_8b4d_c173));
        assert!(!is_irreducible(0x3d_a335_8b4d_c172));
        let made = random_polynomial();
        assert!(is_irreducible(made) && degree(made) == 53);
    }

    #[test]
    fn unknown_versions_are_refused() {
        let text = br#"{"version":3,"id":"x","chunker_polynomial":"3"}"#;
        assert_eq!(Config::parse(text).unwrap_err().kind, ErrorKind::UnsupportedVersion);
    }
}
