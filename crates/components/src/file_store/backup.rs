//! The backup of a directory: checked first, since a missing one must never look like an empty one, then
//! handed to the engine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use repository::{BackupOutcome, BackupRequest};

use super::STAGING_PREFIX;
use crate::{BackupContext, Error, ErrorKind, FileStoreSettings, Result};

/// Is the root there, a directory, and readable?
pub(super) fn probe(settings: &FileStoreSettings) -> Result<()> {
    let (name, path) = (&settings.name, settings.path.display());
    let missing = |why: &str| {
        let message = format!("the directory {path} of component '{name}' {why}; is its disk mounted?");
        Error::new(ErrorKind::Missing, message)
    };
    let fail = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => missing("is missing"),
        io::ErrorKind::NotADirectory => missing("is not a directory"),
        _ => Error::io(format!("cannot read the directory {path} of component '{name}'"), e),
    };
    if !fs::metadata(&settings.path).map_err(fail)?.is_dir() {
        return Err(missing("is not a directory"));
    }
    match fs::read_dir(&settings.path).map_err(fail)?.next() {
        Some(Err(e)) => Err(fail(e)),
        _ => Ok(()),
    }
}

/// Makes the snapshot.
pub(super) fn backup(settings: &FileStoreSettings, context: &BackupContext<'_>) -> Result<BackupOutcome> {
    let mut request = BackupRequest::new(vec![root(&settings.path)?]);
    request.excludes = settings.exclude.clone();
    request.excludes.push(format!("{STAGING_PREFIX}*"));
    request.tags = context.tags.clone();
    request.hostname = context.hostname.clone();
    request.compression = context.compression;
    request.timeless_way = true;
    repository::backup(context.repository, context.index, &request, &context.control)
        .map_err(|e| Error::engine(format!("cannot back up component '{}'", settings.name), e))
}

/// A root that is a symbolic link stands for the directory that it points to.
fn root(path: &Path) -> Result<PathBuf> {
    let fail = |e| Error::io(format!("cannot resolve {}", path.display()), e);
    if fs::symlink_metadata(path).map_err(fail)?.is_symlink() {
        return fs::canonicalize(path).map_err(fail);
    }
    std::path::absolute(path).map_err(fail)
}
