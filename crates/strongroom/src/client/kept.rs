//! The tokens that `strongroom login` keeps: one file a server, in `$XDG_STATE_HOME/strongroom` or
//! `~/.local/state/strongroom`, readable by its owner alone. A file that others could have read is not used.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Server;
use crate::exit::Failure;

const FILE_BYTES_MAX: u64 = 64 * 1024;
const SUFFIX: &str = ".token";

/// A log-in that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The server.
    pub server: Server,
    /// Who logged in.
    pub username: String,
    /// What proves it.
    pub token: SecretString,
    /// When it ends, in milliseconds since 1970.
    pub expires: i64,
    /// The certificates that were trusted, if not those of the machine.
    pub ca_file: Option<PathBuf>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    server: String,
    username: String,
    token: String,
    expires: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

/// Keeps it, in place of the one that was kept for this server.
pub fn keep(kept: &Kept) -> Result<()> {
    keep_in(&directory()?, kept)
}

/// What is kept for this server.
pub fn kept_for(server: &Server) -> Result<Option<Kept>> {
    read(&file_of(&directory()?, server))
}

/// All that is kept, by URL.
pub fn all_kept() -> Result<Vec<Kept>> {
    all_in(&directory()?)
}

/// Forgets what is kept for this server; false if nothing is.
pub fn forget(server: &Server) -> Result<bool> {
    let file = file_of(&directory()?, server);
    match std::fs::remove_file(&file) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("cannot remove {}", file.display())),
    }
}

fn directory() -> Result<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let state = state.ok_or_else(|| {
        Failure::usage("there is no place to keep a token: neither XDG_STATE_HOME nor HOME is set")
    })?;
    Ok(state.join("strongroom"))
}

fn file_of(directory: &Path, server: &Server) -> PathBuf {
    let digest = hex::encode(Sha256::digest(server.base().as_bytes()));
    directory.join(format!("{}{SUFFIX}", &digest[..32]))
}

fn keep_in(directory: &Path, kept: &Kept) -> Result<()> {
    let file = file_of(directory, &kept.server);
    let written = Written {
        server: kept.server.base().to_owned(),
        username: kept.username.clone(),
        token: kept.token.expose_secret().to_owned(),
        expires: kept.expires,
        ca_file: kept.ca_file.clone(),
    };
    let text = serde_json::to_vec(&written)?;
    write(directory, &file, &text).with_context(|| format!("cannot keep the token in {}", file.display()))
}

/// The file is there whole or not at all, and nobody else can read it at any time.
fn write(directory: &Path, file: &Path, content: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let unfinished = file.with_extension(format!("new-{}", std::process::id()));
    let result = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut opened| {
            opened.write_all(content)?;
            opened.sync_all()
        })
        .and_then(|()| std::fs::rename(&unfinished, file));
    if result.is_err() {
        let _ = std::fs::remove_file(&unfinished);
    }
    result
}

fn read(file: &Path) -> Result<Option<Kept>> {
    let mut opened = match File::open(file) {
        Ok(opened) => opened,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot read the token in {}", file.display())),
    };
    let mode = opened.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Failure::usage(format!(
            "the token in {} is not used: its mode is {mode:03o}, so others may have read it",
            file.display()
        ))
        .hint("log in again: strongroom login replaces the file by one that only you can read")
        .into());
    }
    let mut text = String::new();
    (&mut opened).take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    let damaged = |why: String| {
        Failure::usage(format!("{} is damaged: {why}", file.display()))
            .hint("log in again: strongroom login replaces it")
    };
    // What is wrong with it could repeat the token, and is not told.
    let written: Written = serde_json::from_str(&text)
        .map_err(|_| damaged("it is not what strongroom login writes".to_owned()))?;
    let server = Server::parse(&written.server).map_err(|e| damaged(e.to_string()))?;
    Ok(Some(Kept {
        server,
        username: written.username,
        token: SecretString::from(written.token),
        expires: written.expires,
        ca_file: written.ca_file,
    }))
}

fn all_in(directory: &Path) -> Result<Vec<Kept>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e).with_context(|| format!("cannot list {}", directory.display())),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            all.extend(read(&path)?);
        }
    }
    all.sort_by(|a, b| a.server.base().cmp(b.server.base()));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(url: &str, token: &str) -> Kept {
        Kept {
            server: Server::parse(url).unwrap(),
            username: "admin".to_owned(),
            token: SecretString::from(token.to_owned()),
            expires: 7,
            ca_file: None,
        }
    }

    #[test]
    fn a_token_is_kept_for_its_server_and_only_its_owner_can_read_it() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("state/strongroom");
        let (one, other) = (kept("https://a/x", "first"), kept("https://b/x", "second"));
        keep_in(&directory, &one).unwrap();
        keep_in(&directory, &other).unwrap();
        keep_in(&directory, &kept("https://a/x", "third")).unwrap();
        let file = file_of(&directory, &one.server);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(read(&file).unwrap().unwrap().token.expose_secret(), "third");
        let all = all_in(&directory).unwrap();
        let told: Vec<_> = all.iter().map(|kept| (kept.server.base(), kept.token.expose_secret())).collect();
        assert_eq!(told, [("https://a/x", "third"), ("https://b/x", "second")]);
        assert!(!format!("{one:?}").contains("first"));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2, "nothing unfinished is left");
    }

    #[test]
    fn a_token_that_others_could_read_is_refused_with_the_file_and_the_way_out() {
        let place = tempfile::tempdir().unwrap();
        let one = kept("https://a/x", "first");
        keep_in(place.path(), &one).unwrap();
        let file = file_of(place.path(), &one.server);
        for mode in [0o640, 0o604, 0o666, 0o610] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = read(&file).unwrap_err().to_string();
            assert!(refused.contains(file.to_str().unwrap()), "{refused}");
            assert!(refused.contains(&format!("{mode:o}")) && !refused.contains("first"), "{refused}");
        }
        keep_in(place.path(), &one).unwrap();
        assert!(read(&file).unwrap().is_some(), "the next log-in mends it");
    }

    #[test]
    fn a_damaged_file_is_named_and_what_is_in_it_is_not_told() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("x.token");
        write(place.path(), &file, b"{\"token\": \"abc").unwrap();
        let refused = read(&file).unwrap_err().to_string();
        assert!(refused.contains("x.token") && !refused.contains("abc"), "{refused}");
        assert!(read(&place.path().join("missing.token")).unwrap().is_none());
    }
}
