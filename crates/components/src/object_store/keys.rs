//! The keys that a restore is about: all, or those below prefixes.

use repository::{Id, Index, NodeKind, Repository};

use super::names;
use crate::{Error, ErrorKind, Portion, Result};

/// The keys that a restore is about.
pub(super) struct Keys<'p> {
    /// `photos/2026/` is all that begins so; `photos/2026` is the object of that key, and all below it. None: all.
    paths: &'p [String],
}

impl<'p> Keys<'p> {
    /// Those of a portion that is there in the snapshot.
    pub(super) fn find(
        portion: &'p Portion,
        (repository, index, snapshot): (&Repository, &Index, Id),
    ) -> Result<Self> {
        if portion.into.is_some() {
            let message = "into: a bucket is restored in its own place alone; leave it out, or read the objects as files";
            return Err(Error::new(ErrorKind::Selection, message));
        }
        let fail = |e| Error::engine("cannot read the snapshot of a bucket", e);
        let found = repository.snapshot(snapshot).map_err(fail)?;
        let root = found.paths.first().map(String::as_str).unwrap_or_default().trim_end_matches('/');
        for path in &portion.paths {
            let mut whole = format!("{root}/").into_bytes();
            let names = names::path_of(path.strip_suffix('/').unwrap_or(path));
            whole.extend(names.into_iter().map(|byte| if byte == names::BETWEEN { b'/' } else { byte }));
            let mut beside = whole.clone();
            names::step_aside(&mut beside);
            let mut is_there = false;
            for place in [whole, beside] {
                let node = repository::look_up(repository, index, found.tree, &place).map_err(fail)?;
                let is_below = path.ends_with('/');
                is_there |= node.flatten().is_some_and(|node| !is_below || node.kind == NodeKind::Dir);
            }
            if !is_there {
                let message = format!(
                    "only: the backup holds no object '{}', and none below it; a prefix of whole parts is meant, like photos/2026/",
                    path.escape_debug()
                );
                return Err(Error::new(ErrorKind::Selection, message));
            }
        }
        Ok(Self { paths: &portion.paths })
    }

    pub(super) fn hold(&self, key: &str) -> bool {
        let holds = |path: &String| {
            let rest = key.strip_prefix(path.as_str());
            rest.is_some_and(|rest| rest.is_empty() || path.ends_with('/') || rest.starts_with('/'))
        };
        self.paths.is_empty() || self.paths.iter().any(holds)
    }

    /// What the keys begin with, for listings.
    pub(super) fn prefixes(&self) -> Vec<&str> {
        match self.paths {
            [] => vec![""],
            paths => paths.iter().map(String::as_str).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_what_lies_below_it_and_no_neighbour() {
        let held = |path: &str, keys: &[&'static str]| -> Vec<&'static str> {
            let paths = [path.to_owned()];
            keys.iter().copied().filter(|key| Keys { paths: &paths }.hold(key)).collect()
        };
        let keys = ["a", "a/", "a/b", "a//b", "ab", "a.b", "b/a"];
        assert_eq!(held("a/", &keys), ["a/", "a/b", "a//b"]);
        assert_eq!(held("a", &keys), ["a", "a/", "a/b", "a//b"]);
        assert_eq!(held("a//", &keys), ["a//b"]);
        assert!(Keys { paths: &[] }.hold("a"));
    }
}
