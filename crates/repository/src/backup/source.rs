//! From the paths that were asked for to the shape of the snapshot's tree.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use crate::posix::show;
use crate::{Error, ErrorKind, Result};

/// A place in the snapshot above, or at, one of the paths.
pub(super) enum Place {
    /// A directory on the way: only these names in it are backed up.
    OnTheWay(BTreeMap<Vec<u8>, Place>),
    /// Everything here.
    Whole,
}

/// The paths, as a tree.
pub(super) struct Sources {
    /// Where the names of the root lie: `/`, or for relative paths the directory of each.
    pub(super) roots: BTreeMap<Vec<u8>, (PathBuf, Place)>,
    names: Vec<String>,
}

impl Sources {
    /// Absolute paths keep all their directories, relative ones their last component, as restic does it.
    pub(super) fn new(paths: &[PathBuf]) -> Result<Self> {
        let invalid = |message: String| Error::new(ErrorKind::Invalid, message);
        if paths.is_empty() {
            return Err(invalid("no path to back up was given".to_owned()));
        }
        let mut sources = Self { roots: BTreeMap::new(), names: Vec::new() };
        for path in paths {
            let absolute = std::path::absolute(path).map_err(|e| Error::path("find", path.display(), e))?;
            let absolute = normalise(&absolute);
            sources.names.push(show(absolute.as_os_str().as_bytes()));
            let last = absolute.file_name().map(|name| name.as_bytes().to_vec());
            let simple_relative =
                path.is_relative() && path.components().all(|c| matches!(c, Component::Normal(_)));
            match last {
                Some(name) if simple_relative => {
                    let parent = absolute.parent().unwrap_or(Path::new("/")).to_owned();
                    if let Some((other, _)) =
                        sources.roots.insert(name.clone(), (parent.clone(), Place::Whole))
                        && other != parent
                    {
                        return Err(invalid(format!(
                            "two paths are called '{}'; give absolute paths",
                            show(&name)
                        )));
                    }
                }
                _ => sources.add_absolute(&absolute)?,
            }
        }
        sources.names.sort();
        sources.names.dedup();
        Ok(sources)
    }

    fn add_absolute(&mut self, path: &Path) -> Result<()> {
        let mut parts: Vec<&[u8]> = path.iter().skip(1).map(OsStrExt::as_bytes).collect();
        if parts.is_empty() {
            // The root itself: all of its entries.
            for entry in std::fs::read_dir("/").map_err(|e| Error::path("list", "/", e))? {
                let name = entry.map_err(|e| Error::path("list", "/", e))?.file_name();
                self.roots.insert(name.as_bytes().to_vec(), (PathBuf::from("/"), Place::Whole));
            }
            return Ok(());
        }
        let first = parts.remove(0);
        let fresh = || (PathBuf::from("/"), Place::OnTheWay(BTreeMap::new()));
        let mut place = &mut self.roots.entry(first.to_vec()).or_insert_with(fresh).1;
        for part in parts {
            match place {
                // Something above is taken whole already.
                Place::Whole => return Ok(()),
                Place::OnTheWay(below) => {
                    place = below.entry(part.to_vec()).or_insert_with(|| Place::OnTheWay(BTreeMap::new()));
                }
            }
        }
        *place = Place::Whole;
        Ok(())
    }

    /// The absolute paths, sorted, as the snapshot lists them.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }
}

/// Resolves `.` and `..` by their names alone.
fn normalise(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_below_another_adds_nothing() {
        let sources = Sources::new(&["/a/b".into(), "/a/b/c".into(), "/a/../a/x".into()]).unwrap();
        let Place::OnTheWay(a) = &sources.roots[&b"a"[..]].1 else { panic!("a is on the way") };
        assert!(matches!(a[&b"b"[..]], Place::Whole));
        assert!(matches!(a[&b"x"[..]], Place::Whole));
        assert_eq!(sources.names(), ["/a/b", "/a/b/c", "/a/x"]);
    }
}
