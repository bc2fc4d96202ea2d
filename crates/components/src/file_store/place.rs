//! Where a restore takes place: the target's real path, and where it can be staged on the same file system.
//!
//! Beside the target, if its root can be renamed. Inside it, if it is a mount point, or if its parent is not ours
//! to write to. A file system mounted somewhere below the target is a reason to refuse: a swap would take it away
//! from where it belongs, and what lies on it cannot be moved.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::journal::Method;
use super::remove::is_mount_root;
use crate::{Error, ErrorKind, Result};

/// What the name of every staging directory starts with. It is never backed up and never swapped.
pub const STAGING_PREFIX: &str = ".strongroom-restore-";

/// Symbolic links that are followed at most, as the kernel has it.
const LINKS_MAX: u32 = 40;

/// Names at a target's root that are no content: staging directories, and what belongs to the file system itself.
pub(super) fn is_kept(name: &OsStr) -> bool {
    name.as_bytes().starts_with(STAGING_PREFIX.as_bytes()) || name == "lost+found"
}

/// The name of a job's staging directory for one target. Targets beside each other have staging directories beside
/// each other, so the target's name takes part in it.
pub(super) fn staging_name(job_id: &str, target: &Path) -> Result<OsString> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if job_id.is_empty() || job_id.len() > 100 || !job_id.chars().all(legal) {
        return Err(Error::new(ErrorKind::Io, format!("{job_id:?} is not a legal job id")));
    }
    let name = target.file_name().unwrap_or_default();
    // FNV-1a; it tells siblings apart, nothing more. A collision is caught by the journal, which names its target.
    let hash = name
        .as_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
    Ok(OsString::from(format!("{STAGING_PREFIX}{job_id}-{hash:016x}")))
}

/// The real path of a target, which need not exist: symbolic links are followed also where they dangle, since
/// a restore that was killed may just have moved away what they point to.
pub(super) fn resolve(target: &Path) -> Result<PathBuf> {
    let fail = |e: io::Error| Error::io(format!("cannot resolve {}", target.display()), e);
    let mut path = std::path::absolute(target).map_err(fail)?;
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(link) => path = path.parent().unwrap_or(Path::new("/")).join(link),
            Err(_) => break, // no link, or nothing there
        }
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return fs::canonicalize(&path).map_err(fail); // "/" or "a/.."
    };
    match fs::canonicalize(parent) {
        Ok(parent) => Ok(parent.join(name)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(path),
        Err(e) => Err(fail(e)),
    }
}

/// How this target can be swapped. Its parent exists.
pub(super) fn method(target: &Path) -> Result<Method> {
    let metadata = match fs::symlink_metadata(target) {
        Ok(metadata) => metadata,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Method::Root),
        Err(e) => return Err(Error::io(format!("cannot examine {}", target.display()), e)),
    };
    if !metadata.is_dir() {
        let message =
            format!("cannot restore onto {}: it is not a directory; move it away", target.display());
        return Err(Error::new(ErrorKind::Missing, message));
    }
    let mounts = mounts();
    if let Some(inner) = mounts.iter().find(|m| m.starts_with(target) && *m != target) {
        let message = format!(
            "cannot restore onto {}: another file system is mounted below it at {}; unmount that for the time \
             of the restore, or restore to another place",
            target.display(),
            inner.display()
        );
        return Err(Error::new(ErrorKind::Io, message));
    }
    let Some(parent) = target.parent() else { return Ok(Method::Entries) };
    let foreign = fs::metadata(parent).is_ok_and(|p| p.dev() != metadata.dev());
    let mounted = is_mount_root(rustix::fs::CWD, target.as_os_str()) || mounts.iter().any(|m| m == target);
    Ok(if foreign || mounted { Method::Entries } else { Method::Root })
}

/// All mount points that this process sees; empty where the kernel does not tell.
fn mounts() -> Vec<PathBuf> {
    let table = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let lines = table.split(|b| *b == b'\n');
    lines.filter_map(|line| line.split(|b| *b == b' ').nth(4)).map(unescape).collect()
}

/// The table has blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..3).and_then(|d| std::str::from_utf8(d).ok());
        match digits.and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) if first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::file_store::test_support::{Mount, is_root};

    #[test]
    fn staging_names_differ_between_siblings_and_jobs_and_cannot_leave_their_directory() {
        let name = |job: &str, target: &str| staging_name(job, Path::new(target)).unwrap();
        assert_ne!(name("j1", "/srv/a"), name("j1", "/srv/b"));
        assert_ne!(name("j1", "/srv/a"), name("j2", "/srv/a"));
        assert_eq!(name("j1", "/srv/a"), name("j1", "/srv/a"));
        assert!(is_kept(&name("j1", "/srv/a")));
        for bad in ["", "../x", "a/b", "a b", &"x".repeat(101)] {
            assert!(staging_name(bad, Path::new("/srv/a")).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_target_is_resolved_also_through_a_dangling_link() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        fs::create_dir(real.join("disk")).unwrap();
        symlink("disk/content", real.join("link")).unwrap();
        assert_eq!(resolve(&real.join("link")).unwrap(), real.join("disk/content"));
        fs::create_dir(real.join("disk/content")).unwrap();
        assert_eq!(resolve(&real.join("link")).unwrap(), real.join("disk/content"));
        assert_eq!(resolve(&real.join("missing/below")).unwrap(), real.join("missing/below"));
        assert_eq!(resolve(Path::new("/")).unwrap(), Path::new("/"));
    }

    #[test]
    fn blanks_in_mount_points_are_understood() {
        assert_eq!(unescape(br"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescape(br"/a\9\04"), Path::new(r"/a\9\04"));
    }

    #[test]
    fn a_mount_point_is_swapped_by_entries_and_one_below_the_target_is_refused() {
        if !is_root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().canonicalize().unwrap();
        let (target, source) = (real.join("the target"), real.join("source"));
        fs::create_dir(&target).unwrap();
        fs::create_dir(&source).unwrap();
        assert_eq!(method(&target).unwrap(), Method::Root);
        let _mount = Mount::bind(&source, &target);
        assert_eq!(method(&target).unwrap(), Method::Entries);
        let error = method(&real).unwrap_err();
        assert!(error.message.contains("the target"), "{error}");
        fs::write(real.join("file"), "").unwrap();
        assert_eq!(method(&real.join("file")).unwrap_err().kind, ErrorKind::Missing);
        assert_eq!(method(&real.join("nothing")).unwrap(), Method::Root);
    }
}
