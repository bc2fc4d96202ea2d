//! Keys as paths of files, and back.
//!
//! A key may be what no file's name is: `a//b`, `/a`, `folder/`, and `a` beside `a/b`. In a path
//!
//! * `%` is `%25`, and an empty part `%2F`;
//! * an object that has the name of a directory has a single `%` behind its own.
//!
//! So each key has one path, and each path that was made of a key gives that key again.

/// What stands between the names of a path while paths are sorted: lower than any byte of a name, as the entries of a
/// directory come in the order of their names alone.
pub(super) const BETWEEN: u8 = 0;

/// What an object has behind its name if there is a directory of that name.
const BESIDE_A_DIRECTORY: u8 = b'%';

/// The names of a key's path, with [`BETWEEN`] between them.
pub(super) fn path_of(key: &str) -> Vec<u8> {
    let mut path = Vec::with_capacity(key.len());
    for (number, part) in key.split('/').enumerate() {
        if number > 0 {
            path.push(BETWEEN);
        }
        match part {
            "" => path.extend(b"%2F"),
            part => path.extend(part.replace('%', "%25").bytes()),
        }
    }
    path
}

/// Makes room for a directory of that name.
pub(super) fn step_aside(path: &mut Vec<u8>) {
    path.push(BESIDE_A_DIRECTORY);
}

/// The key that became this path, whose names have slashes between them. `None`: it was made of none.
pub(super) fn key_of(path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    // No escape ends with the letter that it begins with.
    let path = path.strip_suffix(char::from(BESIDE_A_DIRECTORY)).unwrap_or(path);
    let part = |name: &str| match name {
        "%2F" => Some(String::new()),
        name => {
            let key = name.replace("%25", "\0");
            (!key.is_empty() && !key.contains('%')).then(|| key.replace('\0', "%"))
        }
    };
    Some(path.split('/').map(part).collect::<Option<Vec<_>>>()?.join("/"))
}

/// Whether no file can stand for this key, and why.
pub(super) fn unfit(key: &str) -> Option<&'static str> {
    if key.contains('\0') {
        return Some("its key holds a zero, which no file's name does");
    }
    let is_dots = |part| part == "." || part == "..";
    key.split('/')
        .any(is_dots)
        .then_some("a part of its key is . or .., which no address can hold; rename it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(key: &str, aside: bool) -> Option<String> {
        let mut path = path_of(key);
        if aside {
            step_aside(&mut path);
        }
        let path: Vec<u8> = path.iter().map(|&byte| if byte == BETWEEN { b'/' } else { byte }).collect();
        for name in path.split(|&byte| byte == b'/') {
            assert!(!name.is_empty() && name != b"." && name != b"..", "{key:?}");
        }
        key_of(&path)
    }

    #[test]
    fn every_key_has_a_path_of_its_own_and_is_found_again() {
        let keys = [
            "a",
            "a/",
            "a//",
            "/a",
            "//",
            "/",
            "a//b",
            "a b",
            "%",
            "%%",
            "%2F",
            "%25",
            "a%",
            "a%/b%",
            "%2",
            "ä/ö",
            "a%2F/",
            "a%25",
            "a/%",
            "a/%/",
            "a/%2F/%25",
            "...",
            ".a",
        ];
        let mut paths = std::collections::BTreeSet::new();
        for key in keys {
            for aside in [false, true] {
                assert_eq!(there_and_back(key, aside).as_deref(), Some(key), "{key:?} {aside}");
                let mut path = path_of(key);
                if aside {
                    step_aside(&mut path);
                }
                assert!(paths.insert(path), "{key:?} {aside}");
            }
        }
    }

    #[test]
    fn a_path_that_was_made_of_no_key_gives_none() {
        for path in ["", "a//b", "a%2", "%2f", "a%41"] {
            assert_eq!(key_of(path.as_bytes()), None, "{path}");
        }
        assert_eq!(key_of(b"\xff"), None);
    }

    #[test]
    fn what_no_file_can_be_called_is_told() {
        assert!(unfit("a/../b").is_some() && unfit(".").is_some() && unfit("a\0").is_some());
        assert!(unfit("a/.b/c..").is_none());
    }
}
