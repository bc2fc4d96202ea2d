//! Managing the key files of an open repository. All of them wrap the same master key, each under a passcode.
//!
//! A new key file is opened again, as a later start would open it, before anything is removed. The key file that the
//! repository was opened with is never removed, so the last one cannot be.

use crate::file::{self, Folder};
use crate::repository::KEYS_TRIED_MAX;
use crate::{Cost, Error, ErrorKind, Id, Passcode, Repository, Result, Warning, key};

/// What people may know of a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyLabel {
    /// Who uses it.
    pub username: String,
    /// Where.
    pub hostname: String,
}

/// A key file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its name.
    pub id: Id,
    /// The repository was opened with it.
    pub current: bool,
    /// When it was made; RFC 3339.
    pub created: String,
    /// Whose it is.
    pub label: KeyLabel,
}

/// All key files; those that cannot be read are named in the second list.
pub fn list_keys(repository: &Repository) -> Result<(Vec<KeyInfo>, Vec<Warning>)> {
    let (mut keys, mut damaged) = (Vec::new(), Vec::new());
    for (id, _) in file::list(repository.storage(), Folder::Keys)? {
        let name = Folder::Keys.key(id);
        let described = file::read_raw(repository.storage(), Folder::Keys, id)
            .and_then(|body| key::describe(&name, &body));
        match described {
            Ok((created, label)) => {
                keys.push(KeyInfo { id, current: repository.key_file() == id, created, label });
            }
            Err(e) if e.kind == ErrorKind::Damaged => {
                damaged.push(Warning { item: name, reason: e.message });
            }
            Err(e) => return Err(e),
        }
    }
    Ok((keys, damaged))
}

/// Lets one more passcode open the repository. `Invalid` if there are as many key files as an opening tries.
pub fn add_key(repository: &Repository, passcode: &Passcode, cost: Cost, label: &KeyLabel) -> Result<Id> {
    check_count(repository, KEYS_TRIED_MAX - 1)?;
    write_key(repository, passcode, cost, label)
}

/// One of too many key files might never be tried.
fn check_count(repository: &Repository, count_max: usize) -> Result<()> {
    let count = file::list(repository.storage(), Folder::Keys)?.len();
    if count <= count_max {
        return Ok(());
    }
    let message = format!(
        "no key was added: there are {count} key files, and of more than {KEYS_TRIED_MAX} not all are tried with a passcode; remove one that nobody uses"
    );
    Err(Error::new(ErrorKind::Invalid, message))
}

fn write_key(repository: &Repository, passcode: &Passcode, cost: Cost, label: &KeyLabel) -> Result<Id> {
    let body = key::make_labelled_key_file(repository.key(), passcode, cost, label)?;
    let id = Id::of(&body);
    repository.storage().create(&Folder::Keys.key(id), &[&body])?;
    let stored = file::read_raw(repository.storage(), Folder::Keys, id)?;
    key::open_key_file(&Folder::Keys.key(id), &stored, passcode)?;
    Ok(id)
}

/// Removes the key file of which this is the id or the beginning of it. `Denied` for the one in use.
pub fn remove_key(repository: &Repository, text: &str) -> Result<Id> {
    repository.check_removal()?;
    let keys = file::list(repository.storage(), Folder::Keys)?;
    let mut fitting = keys.iter().filter(|(id, _)| !text.is_empty() && id.to_string().starts_with(text));
    let (id, _) = fitting.next().ok_or_else(|| {
        Error::new(ErrorKind::NotFound, format!("there is no key '{}'", text.escape_debug()))
    })?;
    if fitting.next().is_some() {
        let message = format!("several keys start with '{text}'; give more digits");
        return Err(Error::new(ErrorKind::Ambiguous, message));
    }
    if *id == repository.key_file() {
        let message = format!(
            "key {} is the one in use and stays; open the repository with another passcode to remove it",
            id.short()
        );
        return Err(Error::new(ErrorKind::Denied, message));
    }
    repository.storage().delete(&Folder::Keys.key(*id))?;
    Ok(*id)
}

/// Replaces the key file in use by one of a new passcode; the new one is there before the old one goes.
pub fn change_passcode(
    repository: &Repository,
    passcode: &Passcode,
    cost: Cost,
    label: &KeyLabel,
) -> Result<Id> {
    repository.check_removal()?;
    check_count(repository, KEYS_TRIED_MAX)?;
    let id = write_key(repository, passcode, cost, label)?;
    repository.storage().delete(&Folder::Keys.key(repository.key_file()))?;
    Ok(id)
}
