//! Names out of backups. They are any bytes but `/` and NUL, chosen by whoever could write there: here is how they are
//! shown, how they stand in addresses, and what a browser is told to call a file.

use recovery::EntryKind;
use std::fmt::Write;

/// Longer names are cut in the suggestion to a browser; no system takes longer ones.
const SUGGESTED_BYTES_MAX: usize = 255;

/// What an entry is called.
pub(crate) fn kind(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::File => "file",
        EntryKind::Directory => "directory",
        EntryKind::Link => "link",
        EntryKind::Other => "other",
    }
}

/// Whether a character could make a name look like another one: control characters, and those that are not seen or turn
/// the direction of writing.
fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A name or path for people: what is no text, or could deceive, is escaped.
pub(crate) fn shown(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_ascii_control() => {
                    let _ = write!(text, "\\x{:02x}", c as u32);
                }
                c if is_deceptive(c) => {
                    let _ = write!(text, "\\u{{{:x}}}", c as u32);
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

/// A name or path as a text that stands for its very bytes: what is no text or not seen, and the percent sign, becomes
/// `%XX`.
pub(crate) fn encode(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    let escape = |text: &mut String, bytes: &[u8]| {
        for byte in bytes {
            let _ = write!(text, "%{byte:02X}");
        }
    };
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || is_deceptive(c) {
                escape(&mut text, c.encode_utf8(&mut [0; 4]).as_bytes());
            } else {
                text.push(c);
            }
        }
        escape(&mut text, chunk.invalid());
    }
    text
}

/// The bytes that a text stands for; `None` if a percent sign has no two digits behind it.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, behind) = rest.split_first_chunk::<2>()?;
        let digit = |digit: u8| char::from(digit).to_digit(16);
        bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
        rest = behind;
    }
    Some(bytes)
}

/// `Content-Disposition` that makes a browser keep a file under this name, or one like it.
pub(crate) fn disposition(name: &[u8]) -> String {
    let mut suggested = String::new();
    for c in String::from_utf8_lossy(name).chars() {
        let c = if is_deceptive(c) || matches!(c, '/' | '\\' | '\u{fffd}') { '_' } else { c };
        if suggested.len() + c.len_utf8() > SUGGESTED_BYTES_MAX {
            break;
        }
        suggested.push(c);
    }
    let plain: String = suggested
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ' ') { c } else { '_' })
        .collect();
    let mut exact = String::with_capacity(suggested.len() * 3);
    for byte in suggested.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_') {
            exact.push(char::from(byte));
        } else {
            let _ = write!(exact, "%{byte:02X}");
        }
    }
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{exact}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Names that were or could be trouble somewhere.
    fn hostile() -> Vec<Vec<u8>> {
        let texts = [
            "plain.txt",
            "<script>alert(1)</script>",
            "\"; filename=\"evil.exe",
            "a\r\nSet-Cookie: x=y",
            "x\u{202e}gpj.exe",
            "%2e%2e%2f",
            "100%",
            "back\\slash",
            "a&b=c#d?e",
            " blank ",
            "äöü 日本語 🦀",
            "'quoted'",
            "\u{feff}bom",
            "tab\there",
        ];
        let mut names: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
        names.push(b"\xff\xfe\x80 no text".to_vec());
        names.push((1..=255).filter(|byte| *byte != b'/').collect());
        names.push(vec![b'n'; 4000]);
        names
    }

    #[test]
    fn every_name_comes_back_from_an_address_as_it_was() {
        for name in hostile() {
            let text = encode(&name);
            assert!(!text.chars().any(is_deceptive), "{text}");
            assert_eq!(decode(&text).expect("good"), name);
        }
        for bad in ["%", "%2", "%zz", "a%+1", "%é"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_name_deceives_who_reads_it() {
        for name in hostile() {
            assert!(!shown(&name).chars().any(is_deceptive), "{name:?}");
        }
        assert_eq!(shown("x\u{202e}gpj.exe".as_bytes()), "x\\u{202e}gpj.exe");
        assert_eq!(shown(b"a\nb\xff\\"), "a\\x0ab\\xff\\\\");
        let (one, other) = (shown(b"\\xff"), shown(b"\xff"));
        assert_ne!(one, other, "a name that looks like an escape is told apart from one");
    }

    #[test]
    fn no_name_gets_out_of_its_header() {
        for name in hostile() {
            let header = disposition(&name);
            assert!(header.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()), "{header}");
            assert_eq!(header.matches('"').count(), 2, "{header}");
            assert_eq!(header.matches(';').count(), 2, "{header}");
            assert!(header.len() < 1100, "{header}");
            let plain = header.split('"').nth(1).expect("plain");
            assert!(!plain.contains(['/', '\\']), "{header}");
        }
        let told = "attachment; filename=\"Bericht f_r M_rz.txt\"; filename*=UTF-8''Bericht%20f%C3%BCr%20M%C3%A4rz.txt";
        assert_eq!(disposition("Bericht für März.txt".as_bytes()), told);
    }
}
