//! What is left out of a backup: by pattern, by a file that marks its directory, by size, by file system.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use rustix::fs::Stat;

use super::BackupRequest;
use crate::posix::{self, show};
use crate::{NodeKind, Pattern, Patterns, Result};

/// A file that says of its directory that what lies beside it is not worth keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Its name.
    pub name: Vec<u8>,
    /// What it must begin with.
    pub header: Vec<u8>,
}

impl Marker {
    /// The one that programs put into their caches: <https://bford.info/cachedir/>.
    pub fn cache_directory() -> Self {
        let header = b"Signature: 8a477f597d28d172789f06886806bc55".to_vec();
        Self { name: b"CACHEDIR.TAG".to_vec(), header }
    }
}

/// What is left out beside the patterns in [`BackupRequest::excludes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoreExcludes {
    /// Patterns for which upper and lower case are the same.
    pub ignoring_case: Vec<String>,
    /// Directories with such a file are kept with that file alone.
    pub if_present: Vec<Marker>,
    /// Files with more bytes.
    pub larger_than: Option<u64>,
    /// What lies on other file systems than the paths that are backed up; their mount points are kept, empty.
    pub other_file_systems: bool,
}

/// What a running backup leaves out.
pub(super) struct Excludes {
    patterns: Option<Patterns>,
    if_present: Vec<Marker>,
    larger_than: u64,
    /// File systems that are backed up; empty: all.
    devices: HashSet<u64>,
}

impl Excludes {
    /// What lies below a directory that fits a pattern is left out with it. `Invalid` names the pattern that cannot be
    /// read.
    pub(super) fn of(request: &BackupRequest) -> Result<Self> {
        let more = &request.also_exclude;
        let patterns: Vec<Pattern> = request
            .excludes
            .iter()
            .map(Pattern::new)
            .chain(more.ignoring_case.iter().map(Pattern::ignoring_case))
            .collect();
        let mut devices = HashSet::new();
        if more.other_file_systems {
            devices.extend(request.paths.iter().filter_map(|path| Some(path.symlink_metadata().ok()?.dev())));
        }
        Ok(Self {
            patterns: if patterns.is_empty() { None } else { Some(Patterns::new(&patterns)?) },
            if_present: more.if_present.clone(),
            larger_than: more.larger_than.unwrap_or(u64::MAX),
            devices,
        })
    }

    /// Is the entry at this absolute path left out?
    pub(super) fn fits(&self, path: &[u8]) -> bool {
        self.patterns.as_ref().is_some_and(|patterns| patterns.fits(path))
    }

    /// Is an entry left out for what it is? A directory never is.
    pub(super) fn refuses(&self, stat: &Stat) -> bool {
        match posix::kind(stat) {
            NodeKind::Dir => false,
            NodeKind::File => stat.st_size as u64 > self.larger_than || self.is_elsewhere(stat),
            _ => self.is_elsewhere(stat),
        }
    }

    fn is_elsewhere(&self, stat: &Stat) -> bool {
        !self.devices.is_empty() && !self.devices.contains(&stat.st_dev)
    }

    /// Takes out of a directory's names those that are left out.
    pub(super) fn narrow(
        &self,
        dir: BorrowedFd<'_>,
        stat: &Stat,
        path: &mut Vec<u8>,
        names: &mut Vec<Vec<u8>>,
    ) {
        if self.is_elsewhere(stat) {
            names.clear();
        }
        if let Some(marker) =
            self.if_present.iter().find(|marker| names.contains(&marker.name) && marker.is_in(dir))
        {
            names.retain(|name| *name == marker.name);
        }
        if self.patterns.is_some() {
            let length = path.len();
            names.retain(|name| {
                path.truncate(length);
                path.push(b'/');
                path.extend_from_slice(name);
                !self.fits(path)
            });
            path.truncate(length);
        }
    }
}

impl Marker {
    fn is_in(&self, dir: BorrowedFd<'_>) -> bool {
        let opened = posix::open_file(dir.as_fd(), &self.name).map(std::fs::File::from);
        let Ok(file) = opened else { return false };
        let mut head = Vec::with_capacity(self.header.len());
        file.take(self.header.len() as u64).read_to_end(&mut head).is_ok() && head == self.header
    }

    /// `NAME` or `NAME:HEADER`, as restic's option has it.
    pub fn parse(text: &OsStr) -> Option<Self> {
        let bytes = text.as_bytes();
        let at = bytes.iter().position(|&b| b == b':').unwrap_or(bytes.len());
        let (name, header) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
        let is_component = !name.is_empty() && !name.contains(&b'/') && name != b"." && name != b"..";
        is_component.then(|| Self { name: name.to_vec(), header: header.to_vec() })
    }
}

impl std::fmt::Display for Marker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&show(&self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_may_say_what_it_begins_with() {
        let parse = |text: &str| Marker::parse(OsStr::new(text));
        assert_eq!(parse("CACHEDIR.TAG").unwrap().header, b"");
        assert_eq!(parse(".nobackup:Signature: x").unwrap().header, b"Signature: x");
        for wrong in ["", ":x", "a/b", ".."] {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn patterns_of_both_sorts_count() {
        let mut request = BackupRequest::new(vec!["/srv".into()]);
        request.excludes = vec!["*.tmp".into(), "!keep.tmp".into()];
        request.also_exclude.ignoring_case = vec!["*.JPG".into()];
        let excludes = Excludes::of(&request).unwrap();
        assert!(excludes.fits(b"/srv/a.tmp") && excludes.fits(b"/srv/b.jpg"));
        assert!(!excludes.fits(b"/srv/keep.tmp") && !excludes.fits(b"/srv/a.TMP"));
    }
}
