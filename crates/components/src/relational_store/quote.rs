//! Names in SQL and names of files.

/// An identifier, quoted always.
pub(super) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A table.
pub(super) fn table(schema: &str, name: &str) -> String {
    format!("{}.{}", ident(schema), ident(name))
}

/// A text, whatever `standard_conforming_strings` is.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    match quoted.contains('\\') {
        true => format!(" E'{}'", quoted.replace('\\', "\\\\")),
        false => format!("'{quoted}'"),
    }
}

/// A name as that of a file or directory, so that different names stay different: `%`, `/`, control characters and a
/// leading dot are written as `%XX`.
pub(super) fn file_name(name: &str) -> String {
    let mut file = String::new();
    for (at, c) in name.char_indices() {
        if c == '%' || c == '/' || c.is_control() || (c == '.' && at == 0) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                file.push_str(&format!("%{byte:02X}"));
            }
        } else {
            file.push(c);
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_its_quotes() {
        assert_eq!(table("a\"b", "c d"), "\"a\"\"b\".\"c d\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn different_names_have_different_files_and_none_leads_elsewhere() {
        assert_eq!(file_name("roads"), "roads");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name("a/b%2F\n"), "a%2Fb%252F%0A");
        assert_eq!(file_name("straße"), "straße");
    }
}
