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

/// Settings whose value is a list of names, as the server keeps it: the others are one text.
const LISTS: [&str; 6] = [
    "local_preload_libraries",
    "search_path",
    "session_preload_libraries",
    "shared_preload_libraries",
    "temp_tablespaces",
    "unix_socket_directories",
];

/// `name=value`, as the server keeps it, as `SET`. Anybody may have written the value: no part of it stays unquoted.
pub(super) fn setting(text: &str) -> Option<String> {
    let (name, value) = text.split_once('=')?;
    if value.is_empty() && name.to_ascii_lowercase().ends_with("_preload_libraries") {
        return None; // It would name a library without a name.
    }
    let quoted_name: Vec<String> = name.split('.').map(ident).collect();
    let value = match LISTS.contains(&name.to_ascii_lowercase().as_str()) {
        false => literal(value),
        true => elements(value).iter().map(|element| literal(element)).collect::<Vec<_>>().join(", "),
    };
    Some(format!("SET {} TO {value}", quoted_name.join(".")))
}

/// The elements of a list: separated by commas, each may be in double quotes, in which two stand for one.
fn elements(list: &str) -> Vec<String> {
    let (mut elements, mut element, mut quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let mut rest = list.chars().peekable();
    let end = |text: String, quoted: bool| if quoted { text } else { text.trim_end().to_owned() };
    while let Some(c) = rest.next() {
        match c {
            '"' if quoted && rest.next_if_eq(&'"').is_some() => element.push('"'),
            '"' => (quoted, was_quoted) = (!quoted, true),
            ',' if !quoted => {
                elements.push(end(std::mem::take(&mut element), was_quoted));
                was_quoted = false;
            }
            c if c.is_whitespace() && !quoted && (element.is_empty() || was_quoted) => {}
            c => element.push(c),
        }
    }
    elements.push(end(element, was_quoted));
    elements
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
    fn whatever_a_setting_is_it_sets_itself_alone() {
        let set = |text: &str| setting(text).unwrap();
        assert_eq!(set("search_path=\"$user\", public"), "SET \"search_path\" TO '$user', 'public'");
        assert_eq!(set("search_path=\"\""), "SET \"search_path\" TO ''");
        assert_eq!(
            set("search_path=\"a,b\", \"c\"\"d\", app"),
            "SET \"search_path\" TO 'a,b', 'c\"d', 'app'"
        );
        assert_eq!(
            set("search_path=x;ALTER/**/ROLE/**/me/**/SUPERUSER;--"),
            "SET \"search_path\" TO 'x;ALTER/**/ROLE/**/me/**/SUPERUSER;--'"
        );
        assert_eq!(set("app.word=it's"), "SET \"app\".\"word\" TO 'it''s'");
        assert_eq!(set("DateStyle=ISO, MDY"), "SET \"DateStyle\" TO 'ISO, MDY'");
        assert_eq!(setting("nothing"), None);
        assert_eq!(setting("session_preload_libraries="), None);
    }

    #[test]
    fn different_names_have_different_files_and_none_leads_elsewhere() {
        assert_eq!(file_name("roads"), "roads");
        assert_eq!(file_name(".."), "%2E.");
        assert_eq!(file_name("a/b%2F\n"), "a%2Fb%252F%0A");
        assert_eq!(file_name("straße"), "straße");
    }
}
