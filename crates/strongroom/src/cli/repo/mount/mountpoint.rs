//! The directory that we are mounted at, and what is mounted there.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rustix::mount::{UnmountFlags, unmount};

use crate::exit::Failure;

/// A directory to mount at.
pub struct Mountpoint(PathBuf);

impl Mountpoint {
    /// The directory must exist.
    pub fn new(path: &Path) -> Result<Self> {
        let refuse = |why: String| {
            Failure::usage(format!("cannot mount at {}: {why}", path.display()))
                .hint("make a directory first, or `umount` what is left of an earlier mount")
        };
        let path = path.canonicalize().map_err(|e| refuse(e.to_string()))?;
        if !path.is_dir() {
            return Err(refuse("it is no directory".to_owned()).into());
        }
        Ok(Self(path))
    }

    /// Its absolute path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The device of what is mounted there now, if something is.
    pub fn mounted(&self) -> Option<String> {
        let mounts = std::fs::read("/proc/self/mountinfo").ok()?;
        device_at(&mounts, &self.0)
    }

    /// Unmounts what is mounted there now, even if it is in use.
    pub fn detach(&self) -> std::io::Result<()> {
        Ok(unmount(&self.0, UnmountFlags::DETACH)?)
    }
}

impl fmt::Display for Mountpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// The device of the last mount at a path: the one that is seen.
fn device_at(mounts: &[u8], path: &Path) -> Option<String> {
    let mut escaped = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\\' => escaped.extend(format!("\\{byte:03o}").into_bytes()),
            _ => escaped.push(byte),
        }
    }
    let at_path = |line: &[u8]| {
        // Number, parent's number, device, root, mount point, …
        let mut fields = line.split(|&byte| byte == b' ').skip(2);
        let device = fields.next()?.to_vec();
        (fields.nth(1)? == escaped).then_some(device)
    };
    let device = mounts.split(|&byte| byte == b'\n').filter_map(at_path).next_back()?;
    String::from_utf8(device).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_at_a_path_is_the_one_that_is_seen() {
        let mounts = b"25 30 0:22 / /proc rw - proc proc rw\n\
            40 30 0:50 / /mnt/a\\040b\\134c ro,nosuid - fuse strongroom ro\n\
            41 40 0:51 / /mnt/a\\040b\\134c rw - tmpfs none rw\n";
        assert_eq!(device_at(mounts, Path::new("/mnt/a b\\c")).as_deref(), Some("0:51"));
        assert_eq!(device_at(mounts, Path::new("/proc")).as_deref(), Some("0:22"));
        assert_eq!(device_at(mounts, Path::new("/mnt")), None);
    }
}
