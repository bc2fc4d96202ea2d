//! Patterns over paths, as restic means them: `*`, `?`, `[…]` within a name, `**` for any directories.
//!
//! A pattern with a leading `/` counts from the root, any other fits at every depth. A pattern with `!` in front takes
//! back what an earlier one chose.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{Error, ErrorKind, Result};

/// So many patterns are taken; each costs time for each entry.
const PATTERNS_MAX: usize = 10_000;

/// A set of patterns over whole paths.
#[derive(Clone, Debug)]
pub struct Patterns {
    set: GlobSet,
    /// For each pattern whether it takes back; empty if none does.
    negated: Vec<bool>,
    /// No pattern says anything about directories above.
    names_alone: bool,
}

/// One pattern, and whether case counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// As it was given.
    pub text: String,
    /// Upper and lower case are the same.
    pub ignore_case: bool,
}

impl Pattern {
    /// A pattern whose case counts.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ignore_case: false }
    }

    /// A pattern whose case does not count.
    pub fn ignoring_case(text: impl Into<String>) -> Self {
        Self { text: text.into(), ignore_case: true }
    }
}

impl Patterns {
    /// `Invalid` names the pattern that cannot be read.
    pub fn new(patterns: &[Pattern]) -> Result<Self> {
        let invalid = |pattern: &str, why: &dyn std::fmt::Display| {
            let pattern = pattern.escape_debug();
            Error::new(ErrorKind::Invalid, format!("the pattern '{pattern}' cannot be used: {why}"))
        };
        if patterns.len() > PATTERNS_MAX {
            return Err(Error::new(ErrorKind::Invalid, format!("more than {PATTERNS_MAX} patterns")));
        }
        let mut set = GlobSetBuilder::new();
        let (mut negated, mut names_alone) = (Vec::new(), true);
        for Pattern { text, ignore_case } in patterns {
            let (takes_back, pattern) =
                text.strip_prefix('!').map_or((false, text.as_str()), |rest| (true, rest));
            negated.push(takes_back);
            if pattern.is_empty() {
                return Err(invalid(text, &"it is empty"));
            }
            let mut trimmed = pattern.trim_end_matches('/');
            // Any directories may be none: what lies below `a` fits `a/**`, and so does `a`.
            while let Some(shorter) = trimmed.strip_suffix("/**").filter(|shorter| !shorter.is_empty()) {
                trimmed = shorter;
            }
            names_alone &= !trimmed.contains('/') && !trimmed.contains("**");
            let anchored =
                if pattern.starts_with('/') { trimmed.to_owned() } else { format!("**/{trimmed}") };
            let glob = GlobBuilder::new(&without_alternatives(&anchored))
                .literal_separator(true)
                .backslash_escape(true)
                .case_insensitive(*ignore_case)
                .build();
            set.add(glob.map_err(|e| invalid(text, &e))?);
        }
        if !negated.contains(&true) {
            negated.clear();
        }
        let set = set.build().map_err(|e| invalid("(all)", &e))?;
        Ok(Self { set, negated, names_alone })
    }

    /// Does the entry at this absolute path fit? The last pattern that has something to say decides.
    pub fn fits(&self, path: &[u8]) -> bool {
        if self.negated.is_empty() {
            return self.set.is_match(OsStr::from_bytes(path));
        }
        self.says(path) == Some(true)
    }

    /// What the last pattern says that has something to say of the entry at this absolute path.
    pub(crate) fn says(&self, path: &[u8]) -> Option<bool> {
        let at = self.set.matches(OsStr::from_bytes(path)).last().copied()?;
        Some(!self.negated.get(at).copied().unwrap_or(false))
    }

    /// Whether it depends on an entry's own name alone if it fits.
    pub(crate) fn look_at_names_alone(&self) -> bool {
        self.names_alone
    }
}

/// Braces mean themselves, as in restic.
fn without_alternatives(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let (mut escaped, mut in_class) = (false, false);
    for c in pattern.chars() {
        match c {
            '{' | '}' if !escaped && !in_class => {
                out.extend(['[', c, ']']);
                continue;
            }
            '[' if !escaped => in_class = true,
            ']' if !escaped => in_class = false,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Patterns {
        Patterns::new(&texts.iter().map(|&text| Pattern::new(text)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn patterns_fit_anywhere_unless_they_start_at_the_root() {
        let patterns = patterns(&["*.tmp", "/srv/a/cache/", "x/*/y", "{z}", "**/out/**"]);
        for path in ["/a.tmp", "/deep/down/b.tmp", "/srv/a/cache", "/q/x/1/y", "/{z}", "/b/out"] {
            assert!(patterns.fits(path.as_bytes()), "{path}");
        }
        for path in ["/a.tmpx", "/other/srv/a/cache", "/x/1/2/y", "/z"] {
            assert!(!patterns.fits(path.as_bytes()), "{path}");
        }
        assert!(Patterns::new(&[Pattern::new("[")]).is_err());
        assert!(Patterns::new(&[Pattern::new("")]).is_err());
    }

    #[test]
    fn the_last_pattern_that_says_something_decides() {
        let patterns = patterns(&["*.log", "!keep.log", "/never/*.log"]);
        assert!(patterns.fits(b"/a/x.log"));
        assert!(!patterns.fits(b"/a/keep.log"));
        assert!(patterns.fits(b"/never/keep.log"));
        assert!(!patterns.fits(b"/a/other"));
    }

    #[test]
    fn case_counts_unless_it_is_said_not_to() {
        let patterns = Patterns::new(&[Pattern::new("Cache"), Pattern::ignoring_case("*.JPG")]).unwrap();
        assert!(patterns.fits(b"/a/Cache") && !patterns.fits(b"/a/cache"));
        assert!(patterns.fits(b"/b.jpg") && patterns.fits(b"/b.JPG"));
    }
}
