//! The data directory belongs to one running server: a lock on a file in it, held as long as the process lives.
//! A directory on a network file system is refused, since neither that lock nor SQLite's can be trusted there.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// What `statfs` says of file systems whose files lie on another machine.
const NETWORK_FILE_SYSTEMS: [(u32, &str); 5] =
    [(0x6969, "NFS"), (0x517b, "SMB"), (0xff53_4d42, "CIFS"), (0xfe53_4d42, "SMB2"), (0x6b41_4653, "AFS")];

/// Held by the one process that works with a data directory; the lock ends with it, however the process ends.
#[derive(Debug)]
pub(crate) struct Ownership {
    _lock: File,
}

impl Ownership {
    /// Makes the directory if it is missing and takes it, or says who has it.
    pub fn take(directory: &Path) -> Result<Self> {
        let wrong = |verb: &str, e: std::io::Error| {
            let message = format!("cannot {verb} the data directory {}: {e}", directory.display());
            Error::new(ErrorKind::Configuration, message).because(e)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|e| wrong("make", e))?;
        refuse_network(directory)?;
        let mode = fs::metadata(directory).map_err(|e| wrong("read", e))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            tracing::warn!(
                "the data directory {0} is open to others (mode {mode:03o}); to close it: chmod 700 {0}",
                directory.display()
            );
        }
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(directory.join("lock"))
            .map_err(|e| wrong("lock", e))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(directory, &mut lock)),
            Err(TryLockError::Error(e)) => return Err(wrong("lock", e)),
        }
        // Only for the message of the next one who comes; a failure is no reason not to start.
        let noted = lock
            .set_len(0)
            .and_then(|()| lock.seek(SeekFrom::Start(0)))
            .and_then(|_| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        if let Err(e) = noted {
            tracing::debug!("cannot note the process id in the lock file: {e}");
        }
        Ok(Self { _lock: lock })
    }
}

fn taken(directory: &Path, lock: &mut File) -> Error {
    let mut pid = String::new();
    let known = lock.take(20).read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
    let who = if known { format!(" (process {})", pid.trim()) } else { String::new() };
    Error::new(
        ErrorKind::AlreadyRunning,
        format!("another server{who} is running on {}; stop it first", directory.display()),
    )
}

/// Refuses a place whose files lie on another machine.
pub(crate) fn refuse_network(directory: &Path) -> Result<()> {
    let statfs = rustix::fs::statfs(directory).map_err(|e| {
        let message = format!("cannot look at the file system of {}: {e}", directory.display());
        Error::new(ErrorKind::Configuration, message).because(e)
    })?;
    match network_file_system(statfs.f_type as u32) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::Configuration,
            format!(
                "{} lies on a network file system ({name}), where file locks and the state database cannot be \
                 trusted. Put data_directory on a local disk; backup stores may stay on {name}",
                directory.display()
            ),
        )),
    }
}

fn network_file_system(magic: u32) -> Option<&'static str> {
    NETWORK_FILE_SYSTEMS.iter().find(|(known, _)| *known == magic).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_by_name_until_the_first_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Ownership::take(&data).unwrap();
        let error = Ownership::take(&data).unwrap_err();
        assert_eq!(error.kind, ErrorKind::AlreadyRunning);
        let expected =
            format!("another server (process {}) is running on {}", std::process::id(), data.display());
        assert!(error.message.contains(&expected), "{error}");
        drop(first);
        Ownership::take(&data).unwrap();
        assert_eq!(fs::metadata(&data).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(data.join("lock")).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn network_file_systems_are_known_by_their_numbers() {
        assert_eq!(network_file_system(0x6969), Some("NFS"));
        assert_eq!(network_file_system(0xfe53_4d42), Some("SMB2"));
        assert_eq!(network_file_system(0xef53), None, "ext4");
        assert_eq!(network_file_system(0x0102_1994), None, "tmpfs");
    }
}
