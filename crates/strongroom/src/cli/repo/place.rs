//! Which repository, how it is opened, and under what name its locks are held.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use repository::{Control, Cost, Lock, LockKind, LockOwner, Passcode, Repository};
use storage::{Directory, DirectoryOptions, ErrorKind, Shared};

use crate::exit::{Exit, Failure};
use crate::passcode::PasscodeSource;
use crate::{interrupt, words};

/// Where the repository is and what opens it: the same options for every verb.
#[derive(clap::Args, Debug)]
pub struct Place {
    /// The repository: a directory, or file:///directory
    #[arg(
        long,
        short = 'r',
        alias = "repo",
        value_name = "URL",
        env = "STRONGROOM_REPOSITORY",
        global = true
    )]
    repository: Option<String>,
    #[command(flatten)]
    passcode: PasscodeSource,
    /// One JSON object a line on standard output
    #[arg(long, global = true)]
    pub json: bool,
    /// Read without taking a lock, for a repository that cannot be written
    #[arg(long, global = true)]
    no_lock: bool,
    /// Where the index of a large repository is kept for the next time, sealed [default: $XDG_CACHE_HOME/strongroom,
    /// or ~/.cache/strongroom]
    #[arg(long, value_name = "DIR", env = "STRONGROOM_CACHE_DIR", global = true)]
    cache_dir: Option<PathBuf>,
    /// Keep nothing on this machine
    #[arg(long, conflicts_with = "cache_dir", global = true)]
    no_cache: bool,
}

impl Place {
    /// Opens the repository. From now on Ctrl-C cancels the control, so that the work ends in order and no lock
    /// is left behind.
    pub fn open(&self) -> Result<(Repository, Arc<Control>)> {
        let mut repository = open_repository(self.url()?, &self.passcode.existing()?)?;
        if let Some(dir) = self.cache() {
            repository = repository.with_cache(&dir);
        }
        let control = Control::new();
        interrupt::cancels(&control)?;
        Ok((repository, control))
    }

    /// Makes a new one; the directory is made if need be.
    pub fn init(&self) -> Result<Repository> {
        let path = directory_of(self.url()?)?;
        let passcode: Passcode = self.passcode.for_something_new()?;
        let storage = Directory::create_root(Path::new(path), DirectoryOptions::default())?;
        Ok(Repository::init(Arc::new(storage), &passcode, Cost::DEFAULT)?)
    }

    /// The lock of work that changes something; `--no-lock` has no say in it.
    pub fn lock(&self, repository: &Repository, kind: LockKind) -> Result<Lock> {
        Ok(repository.lock(kind, &lock_owner())?)
    }

    /// The lock of work that only reads, which may do without (`--no-lock`).
    pub fn lock_for_reading(&self, repository: &Repository) -> Result<Option<Lock>> {
        if self.no_lock { Ok(None) } else { self.lock(repository, LockKind::Shared).map(Some) }
    }

    /// Whether `--no-lock` was given.
    pub fn reads_without_lock(&self) -> bool {
        self.no_lock
    }

    fn cache(&self) -> Option<PathBuf> {
        if self.no_cache {
            return None;
        }
        let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
        self.cache_dir.clone().or_else(|| {
            let caches = dir("XDG_CACHE_HOME").or_else(|| dir("HOME").map(|home| home.join(".cache")));
            caches.map(|caches| caches.join("strongroom"))
        })
    }

    fn url(&self) -> Result<&str, Failure> {
        self.repository.as_deref().filter(|url| !url.is_empty()).ok_or_else(|| {
            Failure::usage("which repository?").hint("use --repository DIR, or set STRONGROOM_REPOSITORY")
        })
    }
}

/// Opens the repository behind a URL.
pub fn open_repository(url: &str, passcode: &Passcode) -> Result<Repository> {
    Ok(Repository::open(open_storage(url, "repository")?, passcode)?)
}

/// Opens the place behind a URL, which must exist.
pub fn open_storage(url: &str, what: &str) -> Result<Shared> {
    let path = directory_of(url)?;
    let directory =
        Directory::open(Path::new(path), DirectoryOptions::default()).map_err(|e| match e.kind {
            ErrorKind::NotFound | ErrorKind::Invalid => anyhow::Error::from(Failure::new(
                Exit::NoRepository,
                format!("there is no {what} at {path}: {}", e.reason),
            )),
            _ => anyhow::Error::from(e),
        })?;
    Ok(Arc::new(directory))
}

/// The directory that a URL means; other places are refused by name.
fn directory_of(url: &str) -> Result<&str, Failure> {
    if let Some(rest) = url.strip_prefix("file://") {
        let path = rest.strip_prefix("localhost").unwrap_or(rest);
        if !path.starts_with('/') {
            return Err(
                Failure::usage(format!("'{url}' names no absolute path")).hint("write file:///directory")
            );
        }
        return Ok(path);
    }
    match url.split_once("://") {
        Some((scheme @ ("s3" | "azblob" | "gs"), _)) => {
            Err(Failure::usage(format!("{scheme}:// is not in this build yet; use a directory")))
        }
        Some((scheme, _)) => Err(Failure::usage(format!("'{scheme}://' is no place that Strongroom knows"))
            .hint("use a directory, or file:///directory")),
        None => Ok(url),
    }
}

/// The name that our locks bear. The host's name alone is not enough: containers repeat it, and other programs
/// judge by it and a process id whether a lock's owner still lives.
pub fn lock_owner() -> LockOwner {
    let unique: [u8; 16] = rand::random();
    LockOwner { hostname: format!("{}/{}", words::host_name(), hex::encode(unique)), username: user_name() }
}

/// Who runs this command.
pub fn user_name() -> String {
    ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::classify;

    #[test]
    fn a_directory_is_meant_by_its_path_or_a_file_url() {
        assert_eq!(directory_of("/backup/r").unwrap(), "/backup/r");
        assert_eq!(directory_of("relative/r").unwrap(), "relative/r");
        assert_eq!(directory_of("file:///backup/r").unwrap(), "/backup/r");
        assert_eq!(directory_of("file://localhost/backup/r").unwrap(), "/backup/r");
        assert!(directory_of("file://backup/r").is_err());
    }

    #[test]
    fn places_that_are_not_built_yet_are_refused_by_name() {
        for url in ["s3://bucket/prefix", "azblob://container", "gs://bucket"] {
            let refused = directory_of(url).unwrap_err();
            assert!(refused.to_string().contains("not in this build yet"), "{refused}");
            assert_eq!(classify(&refused.into()), Exit::Usage);
        }
        assert!(directory_of("ftp://host/x").is_err());
    }

    #[test]
    fn a_place_that_is_not_there_ends_with_its_own_exit_code() {
        let refused = open_storage("/nonexistent/repository", "repository").unwrap_err();
        assert_eq!(classify(&refused), Exit::NoRepository);
    }

    #[test]
    fn two_locks_of_one_machine_have_different_names() {
        assert_ne!(lock_owner().hostname, lock_owner().hostname);
    }
}
