//! A root directory's own metadata: owner, mode, extended attributes (ACLs are some of them), times.
//!
//! Where the target's root is a mount point it cannot be replaced; it gets the restored root's metadata instead.
//! That is kept in the journal, since moving entries changes times, and the modes may stand in our own way.

use std::ffi::CString;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Attributes that the content's owner set, so that ones which the restored root lacks are removed.
/// Others (`security.*`) belong to the system and are only set.
const OWNED_ATTRIBUTES: [&[u8]; 3] = [b"user.", b"trusted.", b"system.posix_acl"];

/// The metadata of one directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RootMetadata {
    mode: u32,
    uid: u32,
    gid: u32,
    accessed: (i64, i64),
    modified: (i64, i64),
    /// Name and value, both in hex.
    attributes: Vec<(String, String)>,
}

impl RootMetadata {
    /// Reads what an open directory has; `mode` is what it had before it was opened.
    pub fn read(directory: impl AsFd, mode: u32) -> io::Result<Self> {
        let directory = directory.as_fd();
        let stat = rustix::fs::fstat(directory)?;
        let mut attributes = Vec::new();
        for name in attribute_names(directory)? {
            if let Some(value) = attribute(directory, &name)? {
                attributes.push((hex::encode(name.as_bytes()), hex::encode(value)));
            }
        }
        Ok(Self {
            mode: mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            accessed: (stat.st_atime as i64, stat.st_atime_nsec as i64),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            attributes,
        })
    }

    /// Gives the directory all of it. What could not be set is returned, for people.
    pub fn apply(&self, directory: impl AsFd) -> Vec<String> {
        let directory = directory.as_fd();
        let mut failures = Vec::new();
        let mut note = |what: &str, result: Result<(), Errno>| {
            if let Err(e) = result {
                failures.push(format!("cannot set {what}: {}", io::Error::from(e)));
            }
        };
        // The owner first: changing it clears mode bits. ACLs after the mode, which they refine.
        note("owner and group", self.apply_owner(directory.as_fd()));
        note("mode", rustix::fs::fchmod(directory, Mode::from_raw_mode(self.mode)));
        for (name, value) in &self.attributes {
            let (Some(name), Ok(value)) = (name_of(name), hex::decode(value)) else { continue };
            if attribute(directory, &name).ok().flatten().as_ref() != Some(&value) {
                let set = rustix::fs::fsetxattr(directory, &name, &value, XattrFlags::empty());
                note(&format!("attribute {name:?}"), set);
            }
        }
        for name in attribute_names(directory).unwrap_or_default() {
            let owned = OWNED_ATTRIBUTES.iter().any(|prefix| name.as_bytes().starts_with(prefix));
            if owned && !self.has(&name) {
                note(&format!("attribute {name:?}"), rustix::fs::fremovexattr(directory, &name));
            }
        }
        note("times", self.apply_times(directory));
        failures
    }

    /// The times alone: they change again whenever an entry comes or goes.
    pub fn apply_times(&self, directory: impl AsFd) -> Result<(), Errno> {
        let time = |(tv_sec, tv_nsec): (i64, i64)| Timespec { tv_sec, tv_nsec };
        let times = Timestamps { last_access: time(self.accessed), last_modification: time(self.modified) };
        rustix::fs::futimens(directory, &times)
    }

    fn apply_owner(&self, directory: impl AsFd) -> Result<(), Errno> {
        let directory = directory.as_fd();
        let stat = rustix::fs::fstat(directory)?;
        if (stat.st_uid, stat.st_gid) == (self.uid, self.gid) {
            return Ok(());
        }
        rustix::fs::fchown(directory, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
    }

    fn has(&self, name: &CString) -> bool {
        let name = hex::encode(name.as_bytes());
        self.attributes.iter().any(|(known, _)| *known == name)
    }
}

fn name_of(hex_text: &str) -> Option<CString> {
    CString::new(hex::decode(hex_text).ok()?).ok()
}

/// Empty where the file system has no attributes.
fn attribute_names(directory: impl AsFd) -> io::Result<Vec<CString>> {
    let directory = directory.as_fd();
    let mut list = vec![0; 64 << 10]; // the kernel's own limit
    let length = match rustix::fs::flistxattr(directory, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
        Err(e) => return Err(e.into()),
    };
    let names = list[..length].split(|b| *b == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

/// `None` for one that vanished, or that we may not read.
fn attribute(directory: impl AsFd, name: &CString) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; 64 << 10]; // the kernel's own limit
    match rustix::fs::fgetxattr(directory, name, &mut value[..]) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS) => Ok(None),
        Err(e) => Err(e.into()),
    }
}
