//! Lists in files: patterns to leave out, and paths to back up.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::exit::Failure;

/// A list longer than this is not one.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The patterns in a file: one a line, without empty lines and those that start with `#`. `$NAME` and `${NAME}` are
/// taken from the environment, `$$` is a dollar sign.
pub fn patterns(file: &Path) -> Result<Vec<String>> {
    let text = String::from_utf8(read(file)?)
        .map_err(|_| Failure::usage(format!("{} is not valid UTF-8", file.display())))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(lines.map(|line| expand(line, &|name| std::env::var(name).unwrap_or_default())).collect())
}

/// The paths in a file: one a line, without empty lines and those that start with `#`; each may be a pattern, and
/// must then fit something.
pub fn paths(file: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for line in read(file)?.split(|&b| b == b'\n') {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let Ok(pattern) = std::str::from_utf8(line) else {
            paths.push(PathBuf::from(OsStr::from_bytes(line)));
            continue;
        };
        let usage = |e: &dyn std::fmt::Display| {
            Failure::usage(format!("'{}' in {}: {e}", pattern.escape_debug(), file.display()))
        };
        let fitting: Vec<PathBuf> =
            glob::glob(pattern).map_err(|e| usage(&e))?.collect::<Result<_, _>>().map_err(|e| usage(&e))?;
        if fitting.is_empty() {
            // Named as missing later on, unless it is a pattern that fits nothing.
            paths.push(PathBuf::from(pattern));
        }
        paths.extend(fitting);
    }
    Ok(paths)
}

/// The paths in a file, one a line, each as it stands there.
pub fn paths_verbatim(file: &Path) -> Result<Vec<PathBuf>> {
    Ok(split(read(file)?, b'\n'))
}

/// The paths in a file, each ended by a zero byte.
pub fn paths_raw(file: &Path) -> Result<Vec<PathBuf>> {
    Ok(split(read(file)?, 0))
}

fn split(bytes: Vec<u8>, at: u8) -> Vec<PathBuf> {
    let parts = bytes.split(|&b| b == at).filter(|part| !part.is_empty());
    parts.map(|part| PathBuf::from(std::ffi::OsString::from_vec(part.to_vec()))).collect()
}

/// `-` is standard input.
fn read(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let from: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let opened = File::open(file);
        Box::new(opened.map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))?)
    };
    from.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", file.display()))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{} is too long to be a list", file.display())).into());
    }
    Ok(bytes)
}

fn expand(text: &str, value: &dyn Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let braced = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        if let Some((name, after)) = braced {
            out.push_str(&value(name));
            rest = after;
        } else if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else {
            let length = rest.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            if length == 0 {
                out.push('$');
            } else {
                out.push_str(&value(&rest[..length]));
            }
            rest = &rest[length..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_with(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    #[test]
    fn patterns_are_lines_without_comments_and_with_the_environment() {
        let file = file_with(b"# comment\n\n  *.tmp  \n!keep\n");
        assert_eq!(patterns(file.path()).unwrap(), ["*.tmp", "!keep"]);
        let value = |name: &str| format!("<{name}>");
        assert_eq!(expand("$HOME/a", &value), "<HOME>/a");
        assert_eq!(expand("a${B}c$$d$", &value), "a<B>c$d$");
    }

    #[test]
    fn each_sort_of_list_takes_its_paths_in_its_way() {
        let place = tempfile::tempdir().unwrap();
        for name in ["a1", "a2", "b"] {
            std::fs::write(place.path().join(name), "x").unwrap();
        }
        let at = |name: &str| place.path().join(name);
        let list = file_with(format!("#x\n{}\n{}\n", at("a*").display(), at("missing").display()).as_bytes());
        assert_eq!(paths(list.path()).unwrap(), [at("a1"), at("a2"), at("missing")]);
        assert_eq!(
            paths_verbatim(file_with(b" a*\n#b\n").path()).unwrap(),
            [Path::new(" a*"), Path::new("#b")]
        );
        assert_eq!(paths_raw(file_with(b"a\nb\0c\0").path()).unwrap(), [Path::new("a\nb"), Path::new("c")]);
        assert!(paths(Path::new("/nonexistent")).is_err());
    }
}
