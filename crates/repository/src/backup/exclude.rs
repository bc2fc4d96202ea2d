//! Patterns of what is left out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{Error, ErrorKind, Result};

/// So many patterns are taken; each costs time for each entry.
const PATTERNS_MAX: usize = 10_000;

/// A set of patterns over whole paths.
pub(super) struct Excludes(Option<GlobSet>);

impl Excludes {
    /// A pattern with a leading `/` counts from the root; any other fits at every depth. What lies below a directory
    /// that fits is left out with it. `Invalid` names the pattern that cannot be read.
    pub(super) fn new(patterns: &[String]) -> Result<Self> {
        let invalid = |pattern: &str, why: &dyn std::fmt::Display| {
            Error::new(
                ErrorKind::Invalid,
                format!("the exclude pattern '{}' cannot be used: {why}", pattern.escape_debug()),
            )
        };
        if patterns.is_empty() {
            return Ok(Self(None));
        }
        if patterns.len() > PATTERNS_MAX {
            return Err(Error::new(ErrorKind::Invalid, format!("more than {PATTERNS_MAX} exclude patterns")));
        }
        let mut set = GlobSetBuilder::new();
        for pattern in patterns {
            let trimmed = pattern.trim_end_matches('/');
            let anchored =
                if trimmed.starts_with('/') { trimmed.to_owned() } else { format!("**/{trimmed}") };
            let glob = GlobBuilder::new(&anchored).literal_separator(true).backslash_escape(true).build();
            set.add(glob.map_err(|e| invalid(pattern, &e))?);
        }
        Ok(Self(Some(set.build().map_err(|e| invalid("(all)", &e))?)))
    }

    /// Is the entry at this absolute path left out?
    pub(super) fn fits(&self, path: &[u8]) -> bool {
        self.0.as_ref().is_some_and(|set| set.is_match(OsStr::from_bytes(path)))
    }
}

#[cfg(test)]
mod tests {
    use super::Excludes;

    #[test]
    fn patterns_fit_anywhere_unless_they_start_at_the_root() {
        let excludes = Excludes::new(&["*.tmp".into(), "/srv/a/cache/".into(), "x/*/y".into()]).unwrap();
        for path in ["/a.tmp", "/deep/down/b.tmp", "/srv/a/cache", "/q/x/1/y"] {
            assert!(excludes.fits(path.as_bytes()), "{path}");
        }
        for path in ["/a.tmpx", "/other/srv/a/cache", "/x/1/2/y"] {
            assert!(!excludes.fits(path.as_bytes()), "{path}");
        }
        assert!(Excludes::new(&["[".into()]).is_err());
    }
}
