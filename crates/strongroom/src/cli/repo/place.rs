//! Which repository, how it is opened, and under what name its locks are held.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use repository::{Control, Cost, Lock, LockKind, LockOwner, LockWait, Passcode, Repository};
use storage::{Directory, DirectoryOptions, ErrorKind, Limits, Location, Shared};

use super::times;
use super::whereabouts::Here;
use crate::exit::{Exit, Failure};
use crate::passcode::PasscodeSource;
use crate::{interrupt, terminal, words};

/// Where the repository is and what opens it: the same options for every verb.
#[derive(clap::Args, Debug)]
pub struct Place {
    /// The repository: a directory, s3://bucket/prefix, azblob://container/prefix, gs://bucket/prefix, or
    /// s3:https://host/bucket/prefix; rights come from the environment, a profile, or the machine's role
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
    /// Wait so long for a lock that another holds, like 90s, 5m or 1h30m; without it, end at once with 11
    #[arg(long, global = true, value_name = "DURATION", value_parser = times::duration)]
    retry_lock: Option<Duration>,
    /// Where the index of a large repository, and what describes one in a bucket, is kept for the next time, sealed
    /// [default: $XDG_CACHE_HOME/strongroom, or ~/.cache/strongroom]
    #[arg(long, value_name = "DIR", env = "STRONGROOM_CACHE_DIR", global = true)]
    cache_dir: Option<PathBuf>,
    /// Keep nothing on this machine
    #[arg(long, conflicts_with = "cache_dir", global = true)]
    no_cache: bool,
    /// Send to an object store this many KiB a second at most
    #[arg(long, global = true, value_name = "KIB")]
    limit_upload: Option<u64>,
    /// Fetch from an object store this many KiB a second at most
    #[arg(long, global = true, value_name = "KIB")]
    limit_download: Option<u64>,
}

impl Place {
    /// Opens the repository. From now on Ctrl-C cancels the control, so that the work ends in order and no lock
    /// is left behind.
    pub fn open(&self) -> Result<(Repository, Arc<Control>)> {
        let storage = open(&self.location()?, "repository")?;
        let mut repository = Repository::open(storage, &self.passcode.existing()?)?;
        if let Some(dir) = self.cache() {
            repository = repository.with_cache(&dir);
        }
        let control = Control::new();
        interrupt::cancels(&control)?;
        Ok((self.patient(repository, &control), control))
    }

    /// The repository, whose locks are waited for as long as `--retry-lock` says, or until the control is cancelled.
    pub fn patient(&self, repository: Repository, control: &Arc<Control>) -> Repository {
        let Some(at_most) = self.retry_lock else { return repository };
        let notice = move |locked: &repository::Error| {
            terminal::note(format!("waiting up to {}, as {locked}", words::duration(at_most)));
        };
        repository.with_lock_wait(LockWait { at_most, notice: Arc::new(notice), control: control.clone() })
    }

    /// The same for a verb that only looks: it may use copies of a bucket's metadata that are kept on this machine.
    pub fn open_to_look(&self) -> Result<(Repository, Arc<Control>)> {
        let (repository, control) = self.open()?;
        let (Location::Object(_), Some(dir)) = (self.location()?, self.cache()) else {
            return Ok((repository, control));
        };
        let with_copies = repository.with_copies(&dir).unwrap_or_else(|e| {
            terminal::warn(format!("nothing is kept for the next time: {e}"));
            repository
        });
        Ok((with_copies, control))
    }

    /// Makes a new one; the directory is made if need be.
    pub fn init(&self) -> Result<Repository> {
        let location = self.location()?;
        let passcode: Passcode = self.passcode.for_something_new()?;
        let storage: Shared = match &location {
            Location::Directory(path) => Arc::new(Directory::create_root(path, DirectoryOptions::default())?),
            Location::Object(_) => open(&location, "repository")?,
        };
        Ok(Repository::init(storage, &passcode, Cost::DEFAULT)?)
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

    /// Whether the repository, or what is kept of it, lies in this directory, which is given as it really is called.
    #[cfg(feature = "mount")]
    pub fn lies_below(&self, dir: &std::path::Path) -> bool {
        let repository = match self.location() {
            Ok(Location::Directory(path)) => Some(path),
            _ => None,
        };
        let paths = repository.into_iter().chain(self.cache());
        paths.filter_map(|path| path.canonicalize().ok()).any(|path| path.starts_with(dir))
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

    /// The place that is meant, with the limits that were asked for.
    fn location(&self) -> Result<Location> {
        let url = self.repository.as_deref().filter(|url| !url.is_empty()).ok_or_else(|| {
            Failure::usage("which repository?").hint("use --repository DIR, or set STRONGROOM_REPOSITORY")
        })?;
        let mut location = parse(url)?;
        if let Location::Object(place) = &mut location {
            let rate = |kib: Option<u64>| kib.map(|kib| kib.saturating_mul(1024));
            place.options.limits = Limits {
                upload_bytes_per_second: rate(self.limit_upload),
                download_bytes_per_second: rate(self.limit_download),
                ..place.options.limits.clone()
            };
        }
        Ok(location)
    }
}

/// Opens the repository behind a URL.
pub fn open_repository(url: &str, passcode: &Passcode) -> Result<Repository> {
    Ok(Repository::open(open_storage(url, "repository")?, passcode)?)
}

/// Opens the place behind a URL, which must exist.
pub fn open_storage(url: &str, what: &str) -> Result<Shared> {
    open(&parse(url)?, what)
}

fn parse(url: &str) -> Result<Location> {
    Location::parse(url)
        .map_err(|e| Failure::usage(e.to_string()).hint("`strongroom repo --help` shows the forms").into())
}

fn open(location: &Location, what: &str) -> Result<Shared> {
    location.open().map_err(|e| match (location, e.kind) {
        (Location::Directory(path), ErrorKind::NotFound | ErrorKind::Invalid) => Failure::new(
            Exit::NoRepository,
            format!("there is no {what} at {}: {}", path.display(), e.reason),
        )
        .into(),
        (Location::Object(_), ErrorKind::Invalid) => Failure::usage(e.to_string()).into(),
        _ => anyhow::Error::from(e),
    })
}

/// The name that our locks bear.
pub fn lock_owner() -> LockOwner {
    LockOwner { hostname: Here::find().unique_name(), username: user_name() }
}

/// Who runs this command: as restic has it, by the table of users, and if it does not know by the environment.
pub fn user_name() -> String {
    repository::user_name(rustix::process::getuid().as_raw())
        .or_else(|| ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok()))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::classify;

    #[test]
    fn a_place_that_cannot_be_meant_is_wrong_usage() {
        for url in ["ftp://host/x", "s3://b", "s3:bucket", "gs://bucket?secret=x"] {
            let refused = open_storage(url, "repository").unwrap_err();
            assert_eq!(classify(&refused), Exit::Usage, "{refused}");
        }
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
