//! Paths: split and decoded on the way in, encoded on the way out.

/// The decoded segments of a path. Doubled and trailing slashes are ignored; `None` if an escape is broken or
/// a segment is not UTF-8. `.` and `..` have no meaning here: they are names like others, and unknown ones.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect()
}

fn decode(segment: &str) -> Option<String> {
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let pair = segment.get(at + 1..at + 3)?;
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return None;
            }
            decoded.push(u8::from_str_radix(pair, 16).ok()?);
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

/// One name as a path segment.
pub fn encode(name: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~@:+,;=!*()$".contains(&byte) {
            text.push(byte as char);
        } else {
            text.push('%');
            text.push(HEX[usize::from(byte >> 4)] as char);
            text.push(HEX[usize::from(byte & 15)] as char);
        }
    }
    text
}

/// Segments as an absolute path, encoded.
pub(crate) fn join<S: AsRef<str>>(segments: &[S]) -> String {
    if segments.is_empty() {
        return "/".to_owned();
    }
    segments.iter().fold(String::new(), |path, segment| path + "/" + &encode(segment.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubled_and_trailing_slashes_are_ignored() {
        assert_eq!(segments("//a///b/").expect("path"), ["a", "b"]);
        assert!(segments("/").expect("path").is_empty());
    }

    #[test]
    fn segments_are_decoded_once_and_after_splitting() {
        assert_eq!(segments("/a%20b/%C3%A4/c%2Fd/%2525").expect("path"), ["a b", "ä", "c/d", "%25"]);
    }

    #[test]
    fn broken_escapes_are_no_path() {
        for path in ["/%", "/%2", "/%zz", "/%+1", "/%ff", "/%é"] {
            assert_eq!(segments(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let names = ["a b", "ä/ö", "100%", "<x>", "q?r#s&t", "plain-1_2.3~"];
        assert_eq!(segments(&join(&names)).expect("path"), names);
        assert_eq!(encode("plain-1_2.3~"), "plain-1_2.3~");
    }
}
