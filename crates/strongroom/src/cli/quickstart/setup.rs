//! What quickstart needs in its directory: made once, and taken as it is at the next run.

use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use recovery::{Recovery, Role};
use repository::{Control, Passcode};
use secrecy::SecretString;

use super::sample;
use super::show::Show;
use super::{DEFAULT_PORT, go_on};
use crate::cli::init;
use crate::config::{Config, Template, Tls, write_new};
use crate::exit::Failure;
use crate::passcode::{PasscodeSource, read_secret_file};
use crate::{server, words};

/// The administrator's name.
pub const USERNAME: &str = "admin";

/// Everything that the story needs.
pub struct Prepared {
    /// Quickstart's directory.
    pub directory: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// The certificate that the server shows, and the only one that the client trusts.
    pub certificate: PathBuf,
    /// The directory that is backed up.
    pub content: PathBuf,
    /// Whether that is a directory of the person's own, which is never changed.
    pub protected: bool,
    /// The administrator's password, and whether it was made in this run.
    pub password: (SecretString, bool),
    /// What seals the backup.
    pub passcode: Passcode,
}

impl Prepared {
    /// Where the store is.
    pub fn store(&self) -> PathBuf {
        self.directory.join("store")
    }

    /// The file that holds the password.
    pub fn password_file(&self) -> PathBuf {
        self.directory.join("admin-password")
    }

    /// The file that holds the passcode.
    pub fn passcode_file(&self) -> PathBuf {
        self.directory.join("passcode")
    }
}

/// Makes, or finds, configuration, secrets and content.
pub fn prepare(
    directory: &Path,
    protect: Option<&Path>,
    port: Option<u16>,
    show: &Show,
    control: &Arc<Control>,
) -> Result<Prepared> {
    show.section("Prepare")?;
    let config_file = directory.join("strongroom.toml");
    let is_new = !config_file.exists();
    if is_new {
        let component = match protect {
            Some(path) => protected_component(directory, path)?,
            None => {
                refuse_foreign_content(&directory.join("content"))?;
                ("content".to_owned(), PathBuf::from("content"))
            }
        };
        init::make(
            directory,
            &Template {
                listen: format!("127.0.0.1:{}", port.unwrap_or(DEFAULT_PORT)),
                allowed_directories: vec![PathBuf::from("store")],
                component: Some(component),
            },
        )?;
    }
    let config = server::load_config(&config_file)?;
    let content = component_path(&config, directory, protect)?;
    let made = if is_new { "made" } else { "as it was" };
    show.done("configuration, keys, certificate", &format!("strongroom.toml ({made})"))?;

    let password_file = directory.join("admin-password");
    let password_is_new = make_secret(&password_file, &random_words(4))?;
    let passcode_file = directory.join("passcode");
    make_secret(&passcode_file, &random_words(5))?;
    make_private_directory(&directory.join("store"))?;
    if protect.is_none() {
        make_sample(&content, show, control)?;
    }
    let certificate = match &config.tls {
        Tls::Files { certificate, .. } | Tls::SelfSigned { certificate, .. } => certificate.clone(),
        Tls::Off => {
            return Err(Failure::usage("quickstart shows HTTPS, but the configuration turns it off").into());
        }
    };
    Ok(Prepared {
        directory: directory.to_owned(),
        certificate,
        config,
        content,
        protected: protect.is_some(),
        password: (read_secret_file(&password_file)?, password_is_new),
        passcode: PasscodeSource { passcode_file: Some(passcode_file) }.existing()?,
    })
}

/// Sees to it that the administrator can log in with the password of the file.
pub async fn administrator(recovery: &Recovery, prepared: &Prepared, show: &Show) -> Result<()> {
    let (password, is_new) = &prepared.password;
    let is_there = recovery.users().await?.iter().any(|user| user.username == USERNAME);
    match (is_there, is_new) {
        (false, _) => recovery.add_user(USERNAME, password, Role::Administrator).await?,
        (true, true) => recovery.set_password(USERNAME, password).await?,
        (true, false) => {}
    }
    show.administrator(USERNAME, password, *is_new)
}

/// The name and path of a component for a directory of the person's own.
fn protected_component(directory: &Path, protect: &Path) -> Result<(String, PathBuf)> {
    let path = real_path(protect)?;
    if path == Path::new("/") {
        return Err(Failure::usage("--protect / would back up the whole machine, with this backup in it")
            .hint("name one directory")
            .into());
    }
    if directory.starts_with(&path) || path.starts_with(directory) {
        return Err(Failure::usage(format!(
            "{} and {} lie inside one another: the backup would back itself up",
            path.display(),
            directory.display()
        ))
        .hint("put quickstart elsewhere: --directory /some/other/place")
        .into());
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain =
        name.chars().all(|c| c.is_ascii_alphanumeric() || "-_. ".contains(c)) && !name.starts_with('.');
    Ok((if plain { name } else { "protected".to_owned() }, path))
}

fn real_path(protect: &Path) -> Result<PathBuf, Failure> {
    let path = protect
        .canonicalize()
        .map_err(|e| Failure::usage(format!("cannot protect {}: {e}", protect.display())))?;
    if !path.is_dir() {
        return Err(Failure::usage(format!("cannot protect {}: it is no directory", path.display())));
    }
    Ok(path)
}

/// The story damages the content: it must be ours, and not something that happened to be there.
fn refuse_foreign_content(content: &Path) -> Result<(), Failure> {
    if content.symlink_metadata().is_err() {
        return Ok(());
    }
    Err(Failure::usage(format!("{} is there already, and quickstart did not make it", content.display()))
        .hint("choose another --directory; to back up a directory of your own use --protect"))
}

/// The one directory that the configuration protects; it must be the one that this run is about.
fn component_path(config: &Config, directory: &Path, protect: Option<&Path>) -> Result<PathBuf> {
    let wanted = match protect {
        Some(path) => real_path(path)?,
        None => directory.join("content"),
    };
    match config.component_paths.as_slice() {
        [(_, path)] if *path == wanted => Ok(wanted),
        _ => {
            let there: Vec<_> =
                config.component_paths.iter().map(|(_, path)| path.display().to_string()).collect();
            Err(Failure::usage(format!(
                "{} was made for {}, not for {}",
                directory.join("strongroom.toml").display(),
                there.join(", "),
                wanted.display()
            ))
            .hint("choose another --directory, or the same --protect as before")
            .into())
        }
    }
}

/// The sample appears whole or not at all, so that a run that was stopped does not leave half of it for the next.
fn make_sample(content: &Path, show: &Show, control: &Arc<Control>) -> Result<()> {
    if let Ok(there) = content.symlink_metadata() {
        if !there.is_dir() {
            return Err(Failure::usage(format!("{} is no directory", content.display())).into());
        }
        return Ok(show.done("sample content", &format!("{} (as it was)", content.display()))?);
    }
    let started = Instant::now();
    let unfinished = content.with_extension("unfinished");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished)
            .with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    let made = sample::make(&unfinished, &|| go_on(control))
        .with_context(|| format!("cannot make sample content in {}", unfinished.display()))?;
    std::fs::rename(&unfinished, content).with_context(|| format!("cannot make {}", content.display()))?;
    show.done(
        "sample content",
        &format!(
            "{}, {} in {}",
            words::counted(made.files, "file", "files"),
            words::bytes(made.bytes),
            words::duration(started.elapsed())
        ),
    )?;
    Ok(())
}

/// Makes a directory that its owner alone can enter, unless it is there.
pub fn make_private_directory(path: &Path) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make {}", path.display()))
}

/// Writes a secret that its owner alone can read, unless there is one. True if it was made now.
fn make_secret(file: &Path, secret: &str) -> Result<bool> {
    match write_new(file, format!("{secret}\n").as_bytes(), 0o600) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot write {}", file.display())),
    }
}

/// Groups of letters and digits that are not mistaken for one another, 25 bits each: `k7mwq-3hxnd-…`.
fn random_words(groups: usize) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut text = Vec::new();
    for group in 0..groups {
        if group > 0 {
            let _ = text.write_all(b"-");
        }
        let random: [u8; 5] = rand::random();
        text.extend(random.map(|byte| LETTERS[usize::from(byte % 32)]));
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_is_private_and_stays_as_it_was_made_first() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("passcode");
        assert!(make_secret(&file, "first").unwrap());
        assert!(!make_secret(&file, "second").unwrap());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "first\n");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn secrets_are_long_and_never_the_same() {
        let (a, b) = (random_words(4), random_words(4));
        assert_eq!(a.len(), 23);
        assert_ne!(a, b);
    }

    #[test]
    fn a_directory_that_holds_the_backup_cannot_be_protected_by_it() {
        let place = tempfile::tempdir().unwrap();
        let own = place.path().join("quickstart");
        assert!(protected_component(&own, place.path()).is_err());
        assert!(protected_component(&own, Path::new("/")).is_err());
        let other = tempfile::tempdir().unwrap();
        assert!(protected_component(&own, other.path()).is_ok());
        assert!(protected_component(&own, &other.path().join("missing")).is_err());
    }

    #[test]
    fn content_that_was_there_before_is_not_taken_for_a_sample() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("content")).unwrap();
        let refused = prepare(place.path(), None, None, &Show::new(), &Control::new()).err().unwrap();
        assert!(refused.to_string().contains("did not make it"), "{refused}");
    }
}
