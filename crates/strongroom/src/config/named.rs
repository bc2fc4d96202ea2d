//! The files that a configuration names, in its text or by the environment: a key that ends in `_file` holds a path.

use std::path::{Path, PathBuf};

use super::meant::below;

/// Each key with its file. Relative paths start at `directory`.
pub(super) fn files(table: toml::Table, directory: &Path) -> Vec<(String, PathBuf)> {
    let mut found = Vec::new();
    look(&toml::Value::Table(table), "", &mut |key, path| found.push((key, below(directory, path))));
    found
}

fn look(value: &toml::Value, name: &str, found: &mut dyn FnMut(String, &str)) {
    match value {
        toml::Value::Table(table) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                match value {
                    toml::Value::String(path) if key.ends_with("_file") => found(name, path),
                    value => look(value, &name, found),
                }
            }
        }
        toml::Value::Array(values) => values.iter().for_each(|value| look(value, name, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_that_names_a_file_is_found() {
        let text = "[security]\nmaster_key_file = \"m.key\"\n[server.tls]\nkey_file = \"/k\"\n\
                    [[component]]\npath = \"/srv\"\npassword_file = \"../p\"\n[[component]]\nca_file = \"c\"\n";
        let mut found = files(text.parse().unwrap(), Path::new("/etc/s"));
        found.sort();
        let expected = [
            ("component.ca_file", "/etc/s/c"),
            ("component.password_file", "/etc/p"),
            ("security.master_key_file", "/etc/s/m.key"),
            ("server.tls.key_file", "/k"),
        ];
        assert_eq!(found, expected.map(|(key, path)| (key.to_owned(), PathBuf::from(path))));
    }
}
