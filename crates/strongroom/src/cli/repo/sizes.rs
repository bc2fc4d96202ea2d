//! Sizes as people write them on a command line.

use crate::exit::Failure;

/// `500`, `64k`, `100M`, `1.5G`, `2T`; a `B` or `iB` behind the letter says nothing more. Powers of 1,024, as restic has it.
pub fn parse(text: &str) -> Result<u64, Failure> {
    let invalid =
        || Failure::usage(format!("'{}' is no size", text.escape_debug())).hint("write 500, 64k, 100M or 2G");
    let digits = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_end_matches("iB").trim_end_matches(['b', 'B']);
    let shift = match unit {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return Err(invalid()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(invalid);
    }
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let bytes = number * (1u64 << shift) as f64;
    if bytes.is_finite() && (0.0..1e18).contains(&bytes) { Ok(bytes as u64) } else { Err(invalid()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [
            ("0", 0),
            ("500", 500),
            ("64k", 64 << 10),
            ("1.5M", 3 << 19),
            ("2GiB", 2 << 30),
            ("3TB", 3 << 40),
        ] {
            assert_eq!(parse(text).unwrap(), bytes, "{text}");
        }
        for wrong in ["", "M", "-1", "1X", "1.2.3", "99999999999T", "5%"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
