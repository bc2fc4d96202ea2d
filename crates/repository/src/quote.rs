//! Names in trees: any bytes, written as text that fits into JSON.
//!
//! restic writes a name as Go's `strconv.Quote` without the outer quotes, and that text as a JSON string. So a
//! name that is not UTF-8 survives: each stray byte becomes `\xNN`.

/// Appends `name`, quoted; not yet as JSON.
pub(crate) fn quote(name: &[u8], out: &mut String) {
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            quote_char(c, out);
        }
        for byte in chunk.invalid() {
            push_hex(out, "\\x", u32::from(*byte), 2);
        }
    }
}

fn quote_char(c: char, out: &mut String) {
    let plain = match c {
        '"' => "\\\"",
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        _ if c < ' ' || c == '\x7f' => return push_hex(out, "\\x", c as u32, 2),
        // Go keeps what it calls printable. Letters and digits surely are; escaping more is read just as well.
        _ if c.is_ascii() || c.is_alphanumeric() => return out.push(c),
        _ if (c as u32) < 0x1_0000 => return push_hex(out, "\\u", c as u32, 4),
        _ => return push_hex(out, "\\U", c as u32, 8),
    };
    out.push_str(plain);
}

fn push_hex(out: &mut String, prefix: &str, value: u32, digits: usize) {
    out.push_str(prefix);
    for i in (0..digits).rev() {
        out.push(char::from_digit(value >> (4 * i) & 15, 16).unwrap_or('0'));
    }
}

/// The bytes of a quoted name; `None` if it is not well formed.
pub(crate) fn unquote(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|&b| b == b'\\') {
        out.extend_from_slice(&rest[..at]);
        let (&kind, after) = rest[at + 1..].split_first()?;
        rest = after;
        let simple = match kind {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            b'\\' | b'"' | b'\'' => kind,
            b'x' => take_number(&mut rest, 2, 16)? as u8,
            b'0'..=b'7' => {
                let high = u32::from(kind - b'0') * 64;
                u8::try_from(high + take_number(&mut rest, 2, 8)?).ok()?
            }
            b'u' | b'U' => {
                let digits = if kind == b'u' { 4 } else { 8 };
                let c = char::from_u32(take_number(&mut rest, digits, 16)?)?;
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        };
        out.push(simple);
    }
    out.extend_from_slice(rest);
    Some(out)
}

fn take_number(rest: &mut &[u8], digits: usize, radix: u32) -> Option<u32> {
    let (head, tail) = rest.split_at_checked(digits)?;
    *rest = tail;
    head.iter().try_fold(0, |n, &b| Some(n * radix + char::from(b).to_digit(radix)?))
}

/// Appends `text` as a JSON string, escaped as Go's `encoding/json` does, so that equal trees get equal ids.
pub(crate) fn push_json_string(text: &str, out: &mut String) {
    out.push('"');
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\x1f' => "",
            _ => continue,
        };
        out.push_str(&text[start..at]);
        start = at + c.len_utf8();
        if escape.is_empty() {
            push_hex(out, "\\u", c as u32, 4);
        } else {
            out.push_str(escape);
        }
    }
    out.push_str(&text[start..]);
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quoted(name: &[u8]) -> String {
        let mut out = String::new();
        quote(name, &mut out);
        out
    }

    #[test]
    fn odd_names_are_quoted_as_go_does() {
        assert_eq!(quoted(b"plain \xc3\xa9"), "plain é");
        assert_eq!(quoted(b"a\"b\\c\nd\xff\x01"), r#"a\"b\\c\nd\xff\x01"#);
        assert_eq!(quoted("\u{200b}".as_bytes()), "\\u200b");
    }

    #[test]
    fn octal_and_broken_escapes() {
        assert_eq!(unquote("\\101\\x42"), Some(b"AB".to_vec()));
        for bad in ["\\", "\\q", "\\x4", "\\777", "\\ud800"] {
            assert_eq!(unquote(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_survive_quoting_and_json(name in proptest::collection::vec(any::<u8>(), 0..60)) {
            let mut json = String::new();
            push_json_string(&quoted(&name), &mut json);
            let back: String = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(unquote(&back), Some(name));
        }
    }
}
