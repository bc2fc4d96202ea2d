//! Vaults: the restic repositories inside a store, one for each passcode, and the second copies of their small files.
//!
//! A vault's id is derived from the passcode, so that backups under one passcode meet in one vault. Config and key
//! files decide over everything in it, so `copies/vaults/<id>/` holds each a second time. A vault whose originals
//! are lost or damaged is opened by the copies; the next backup puts the originals right.
//!
//! Which of two differing files is the intact one is known without the passcode: a key file's name is the SHA-256 of
//! its content, and catalogue entries hold the SHA-256 of the config. A key file that is missing while another one is
//! intact was removed on purpose and is not brought back.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use repository::{Cost, Finding, Id, Index, Passcode, Repository};
use sha2::{Digest, Sha256};
use storage::{Entry, ErrorKind, Prefixed, Shared};

use super::catalogue::CatalogueEntry;
use super::mended::Mended;
use super::{Store, failure, layout};
use crate::{Error, ErrorKind as Kind, Result};

pub(super) const CONFIG: &str = "config";
pub(super) const KEYS: &str = "keys/";
const INDEX: &str = "index/";
/// So often the index is read anew when files of it turn out damaged or vanish.
const INDEX_TRIES_MAX: u32 = 5;
const INDEX_BYTES_MAX: u64 = 512 << 20;
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// More key files than this are not copied.
const KEYS_MAX: usize = 1000;

/// Config and keys of a vault, from one of the two places: file name to content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SmallFiles(pub BTreeMap<String, Vec<u8>>);

impl SmallFiles {
    /// SHA-256 of the config, or nothing if there is none.
    pub fn config_digest(&self) -> Option<String> {
        self.0.get(CONFIG).map(|bytes| hex::encode(Sha256::digest(bytes)))
    }

    /// Names of intact key files.
    pub fn intact_keys(&self) -> Vec<String> {
        let keys = self.0.iter().filter_map(|(file, bytes)| Some((file.strip_prefix(KEYS)?, bytes)));
        keys.filter(|(name, bytes)| is_named_by_hash(name, bytes)).map(|(name, _)| name.to_owned()).collect()
    }
}

/// Whether a file's name is the SHA-256 of its content.
pub(crate) fn is_named_by_hash(name: &str, bytes: &[u8]) -> bool {
    hex::encode(Sha256::digest(bytes)) == name
}

impl Store {
    /// Opens the vault of this backup and checks that the entry was written by somebody who knew its passcode.
    pub fn open_vault(&self, entry: &CatalogueEntry, passcode: &Passcode) -> Result<Repository> {
        let what = format!("cannot open the vault of backup '{}'", entry.name);
        let vault = match self.open_vault_files(
            &entry.vault,
            passcode,
            std::slice::from_ref(&entry.vault_config),
        ) {
            Ok(vault) => vault,
            Err(e) if e.kind == repository::ErrorKind::WrongPasscode => {
                let message = format!(
                    "the passcode does not open backup '{}'; it needs the passcode that was given when it was made",
                    entry.name
                );
                return Err(Error::new(Kind::PasscodeWrong, message).because(e));
            }
            Err(e) => return Err(failure::engine(&what, e)),
        };
        if entry.is_authentic(&vault) {
            return Ok(vault);
        }
        let reason = "it was forged or altered by somebody without the passcode (its MAC does not match). \
                      Nothing was restored from it; take an older backup, and find out who can write to the store";
        Err(failure::damaged(&layout::backup_key(&entry.name), reason))
    }

    /// The vault of this passcode.
    pub(crate) fn vault_of(&self, passcode: &Passcode) -> Result<String> {
        let what = "cannot derive the vault from the passcode";
        let salt = hex::decode(&self.identity().salt)
            .map_err(|_| failure::damaged(layout::IDENTITY, "its salt is not hexadecimal"))?;
        let derived = repository::derive_from_passcode(passcode, &salt, self.identity().cost)
            .map_err(|e| failure::engine(what, e))?;
        let derived = zeroize::Zeroizing::new(derived);
        Ok(hex::encode(derived.first_chunk::<16>().unwrap_or(&[0; 16])))
    }

    /// Opens the vault, or makes it; then sees to it that originals and copies are whole.
    pub(crate) fn open_or_make_vault(
        &self,
        vault: &str,
        passcode: &Passcode,
        cost: Cost,
    ) -> Result<Repository> {
        let what = format!("cannot open the vault '{}'", layout::vault_key(vault, ""));
        let known = self.config_digests(vault)?;
        let opened = match self.open_vault_files(vault, passcode, &known) {
            Err(e) if e.kind == repository::ErrorKind::NoRepository => {
                match self.refuse_vault_that_lost_its_config(vault) {
                    Ok(()) => match Repository::init(self.vault_storage(vault), passcode, cost) {
                        Err(e) if e.kind == repository::ErrorKind::Exists => {
                            self.open_vault_files(vault, passcode, &known)
                        }
                        other => other,
                    },
                    // Another server may have made it since that look.
                    Err(refused) => match self.open_vault_files(vault, passcode, &known) {
                        Err(_) => return Err(refused),
                        opened => opened,
                    },
                }
            }
            other => other,
        };
        let repository = opened.map_err(|e| failure::engine(&what, e))?;
        self.mend_small_files(vault, passcode)?;
        Ok(repository)
    }

    /// What lies in the vault, as a store of its own.
    pub(crate) fn vault_storage(&self, vault: &str) -> Shared {
        Arc::new(Prefixed::new(self.storage().clone(), layout::vault_key(vault, "").trim_end_matches('/')))
    }

    /// Names of all vaults that have at least one small file, original or copy.
    pub(crate) fn vault_ids(&self) -> Result<Vec<String>> {
        let mut ids = std::collections::BTreeSet::new();
        for prefix in [layout::VAULTS, layout::VAULT_COPIES] {
            let mut collect = |entry: Entry| {
                if let Some((id, _)) = entry.key.strip_prefix(prefix).and_then(|rest| rest.split_once('/'))
                    && layout::is_token(id)
                {
                    ids.insert(id.to_owned());
                }
                Ok(())
            };
            self.storage().list(prefix, &mut collect).map_err(failure::storage)?;
        }
        Ok(ids.into_iter().collect())
    }

    /// Config and keys below `prefix` (of the originals or of the copies).
    pub(crate) fn small_files(&self, prefix: &str) -> Result<SmallFiles> {
        let mut files = vec![CONFIG.to_owned()];
        for entry in self.storage().list_all(&format!("{prefix}{KEYS}")).map_err(failure::storage)? {
            if let Some(file) = entry.key.strip_prefix(prefix)
                && files.len() <= KEYS_MAX
            {
                files.push(file.to_owned());
            }
        }
        let mut found = SmallFiles::default();
        for file in files {
            match self.storage().get(&format!("{prefix}{file}"), SMALL_BYTES_MAX) {
                Ok(bytes) => drop(found.0.insert(file, bytes)),
                Err(e) if e.kind == ErrorKind::NotFound => {}
                Err(e) if matches!(e.kind, ErrorKind::TooLarge | ErrorKind::Short) => {
                    found.0.insert(file, Vec::new());
                }
                Err(e) => return Err(failure::storage(e)),
            }
        }
        Ok(found)
    }

    /// Both sets of small files of a vault: originals, copies.
    pub(crate) fn both_small_files(&self, vault: &str) -> Result<(SmallFiles, SmallFiles)> {
        let originals = self.small_files(&layout::vault_key(vault, ""))?;
        Ok((originals, self.small_files(&layout::vault_copy_key(vault, ""))?))
    }

    /// What is wrong with originals and copies, as far as it can be told without the passcode. `known` are the
    /// configs' digests in the catalogue's entries, `keys` the key files that these entries name.
    pub(crate) fn check_small_files(
        &self,
        vault: &str,
        known: &[String],
        keys: &[String],
    ) -> Result<Vec<Finding>> {
        let (originals, copies) = self.both_small_files(vault)?;
        let mut findings = Vec::new();
        let mut report =
            |file: String, problem: &str| findings.push(Finding { file, problem: problem.to_owned() });
        let key_of = |copy: bool, file: &str| match copy {
            false => layout::vault_key(vault, file),
            true => layout::vault_copy_key(vault, file),
        };
        for (copy, files, others) in [(false, &originals, &copies), (true, &copies, &originals)] {
            for (file, bytes) in &files.0 {
                match file.strip_prefix(KEYS) {
                    Some(name) if !is_named_by_hash(name, bytes) => {
                        report(key_of(copy, file), "its content does not match its name");
                    }
                    Some(_) => {}
                    None if known.is_empty() && others.0.get(CONFIG).is_some_and(|other| other != bytes) => {
                        report(
                            key_of(copy, file),
                            "it differs from its second copy; one of the two is damaged",
                        );
                    }
                    None if !known.is_empty()
                        && !files.config_digest().is_some_and(|d| known.contains(&d)) =>
                    {
                        report(
                            key_of(copy, file),
                            "it is not the config that the backups in this vault were made with",
                        );
                    }
                    None => {}
                }
            }
            if !files.0.contains_key(CONFIG) && !known.is_empty() {
                report(key_of(copy, CONFIG), "it is missing");
            }
            for name in
                keys.iter().map(|name| format!("{KEYS}{name}")).filter(|file| !files.0.contains_key(file))
            {
                report(key_of(copy, &name), "it is missing");
            }
        }
        Ok(findings)
    }

    /// Opens by the originals, or if these are lost or damaged by the copies.
    fn open_vault_files(
        &self,
        vault: &str,
        passcode: &Passcode,
        known: &[String],
    ) -> std::result::Result<Repository, repository::Error> {
        let inner = self.vault_storage(vault);
        let first = match Repository::open(inner.clone(), passcode) {
            Ok(repository) => return Ok(repository),
            Err(e) => e,
        };
        use repository::ErrorKind as Engine;
        let may_help = matches!(
            first.kind,
            Engine::NoRepository | Engine::WrongPasscode | Engine::Damaged | Engine::NotFound
        );
        let Some((originals, copies)) = may_help.then(|| self.both_small_files(vault).ok()).flatten() else {
            return Err(first);
        };
        let Some(files) = best_of(&originals, &copies, known).filter(|files| *files != originals) else {
            return Err(first);
        };
        match Repository::open(
            Arc::new(Mended { inner, files: Some(files), hidden: HashSet::new() }),
            passcode,
        ) {
            Ok(repository) => {
                tracing::warn!(vault, reason = %first, "config or keys are lost or damaged; the second copies were used");
                Ok(repository)
            }
            Err(_) => Err(first),
        }
    }

    /// The config digests that the catalogue's entries of this vault hold.
    pub(crate) fn config_digests(&self, vault: &str) -> Result<Vec<String>> {
        let entries = self.catalogue()?.entries;
        Ok(entries.into_iter().filter(|e| e.vault == vault).map(|e| e.vault_config).collect())
    }

    /// A vault with content and without config is damaged, not new.
    fn refuse_vault_that_lost_its_config(&self, vault: &str) -> Result<()> {
        for part in ["snapshots/", "index/", "data/"] {
            let prefix = layout::vault_key(vault, part);
            if !self.storage().list_all(&prefix).map_err(failure::storage)?.is_empty() {
                let reason = "it is missing, and so is its second copy, but the vault holds backups. \
                              Bring the file back from elsewhere, or take another passcode to begin a new vault";
                return Err(failure::damaged(&layout::vault_key(vault, CONFIG), reason));
            }
        }
        Ok(())
    }

    /// Adds missing copies and originals and replaces damaged ones. The passcode has just opened the vault; what of
    /// the two opens with it is known to be intact.
    fn mend_small_files(&self, vault: &str, passcode: &Passcode) -> Result<()> {
        let (originals, copies) = self.both_small_files(vault)?;
        let good_config = match (originals.0.get(CONFIG), copies.0.get(CONFIG)) {
            (Some(a), Some(b)) if a == b => Some(a.clone()),
            (Some(a), _) if self.opens(vault, passcode)? => Some(a.clone()),
            (_, b) => b.cloned(),
        };
        let mut keys: BTreeMap<&String, &Vec<u8>> = BTreeMap::new();
        for source in [&originals, &copies] {
            let intact = source.intact_keys();
            let any_original = !originals.intact_keys().is_empty();
            for (file, bytes) in source
                .0
                .iter()
                .filter(|(f, _)| f.strip_prefix(KEYS).is_some_and(|n| intact.iter().any(|k| k == n)))
            {
                // A key that only the copies have was removed on purpose, unless nothing is left of the originals.
                if originals.0.contains_key(file) || !any_original {
                    keys.insert(file, bytes);
                }
            }
        }
        let config_name = CONFIG.to_owned();
        let wanted = good_config.as_ref().map(|bytes| (&config_name, bytes)).into_iter().chain(keys);
        for (file, bytes) in wanted {
            for (key, there) in [
                (layout::vault_key(vault, file), originals.0.get(file)),
                (layout::vault_copy_key(vault, file), copies.0.get(file)),
            ] {
                if there != Some(bytes) {
                    self.put_small_file(&key, bytes)?;
                }
            }
        }
        Ok(())
    }

    /// Whether the originals open the vault. That the place failed is no answer.
    fn opens(&self, vault: &str, passcode: &Passcode) -> Result<bool> {
        use repository::ErrorKind as Engine;
        match Repository::open(self.vault_storage(vault), passcode) {
            Ok(_) => Ok(true),
            Err(e)
                if matches!(
                    e.kind,
                    Engine::NoRepository | Engine::WrongPasscode | Engine::Damaged | Engine::NotFound
                ) =>
            {
                Ok(false)
            }
            Err(e) => Err(failure::engine("cannot look at the vault's config and keys", e)),
        }
    }

    fn put_small_file(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let done = match self.storage().get_versioned(key, SMALL_BYTES_MAX) {
            Ok((there, version)) if there != bytes => self.storage().replace(key, bytes, &version),
            Ok(_) => Ok(()),
            Err(e) if e.kind == ErrorKind::NotFound => self.storage().create(key, &[bytes]),
            // Too large to be read, so it cannot be replaced on condition; the scrub names it.
            Err(e) if e.kind == ErrorKind::TooLarge => Ok(()),
            Err(e) => Err(e),
        };
        match done {
            Err(e) if !matches!(e.kind, ErrorKind::Exists | ErrorKind::Precondition) => {
                Err(failure::storage(e))
            }
            _ => Ok(()),
        }
    }
}

/// The intact files of the two sets: a config that the catalogue knows if possible, and all intact keys.
pub(crate) fn best_of(originals: &SmallFiles, copies: &SmallFiles, known: &[String]) -> Option<SmallFiles> {
    let is_known = |files: &&SmallFiles| files.config_digest().is_some_and(|digest| known.contains(&digest));
    let config = [originals, copies].into_iter().find(is_known).and_then(|files| files.0.get(CONFIG));
    let config = config.or_else(|| copies.0.get(CONFIG)).or_else(|| originals.0.get(CONFIG))?;
    let source = if originals.intact_keys().is_empty() { copies } else { originals };
    let mut files = SmallFiles::default();
    files.0.insert(CONFIG.to_owned(), config.clone());
    for name in source.intact_keys() {
        let file = format!("{KEYS}{name}");
        if let Some(bytes) = source.0.get(&file) {
            files.0.insert(file, bytes.clone());
        }
    }
    Some(files)
}

/// The index of a vault. Index files that are damaged are left out instead of blocking every backup and restore: what
/// only they list counts as unknown, so the next backup stores it again. One that vanishes while it is to be read was
/// deleted meanwhile; then the listing is made anew.
pub(crate) fn load_index(vault: &Repository, usable: &dyn Fn(Id) -> bool) -> Result<Index> {
    let mut view = vault.clone();
    let mut tries = 0;
    loop {
        match view.load_index(usable) {
            Ok(index) => return Ok(index),
            Err(e) if e.kind == repository::ErrorKind::Damaged && tries < INDEX_TRIES_MAX => tries += 1,
            Err(e) => return Err(failure::engine("cannot load the index of the vault", e)),
        }
        let hidden = damaged_index_files(vault)?;
        let inner = vault.storage().clone();
        view = vault.with_storage(Arc::new(Mended { inner, files: None, hidden }));
    }
}

fn damaged_index_files(vault: &Repository) -> Result<HashSet<String>> {
    let mut damaged = HashSet::new();
    for entry in vault.storage().list_all(INDEX).map_err(failure::storage)? {
        let intact = match vault.storage().get(&entry.key, INDEX_BYTES_MAX) {
            Ok(bytes) => entry.key.strip_prefix(INDEX).is_some_and(|name| is_named_by_hash(name, &bytes)),
            Err(e) if matches!(e.kind, ErrorKind::TooLarge | ErrorKind::Short | ErrorKind::NotFound) => false,
            Err(e) => return Err(failure::storage(e)),
        };
        if !intact {
            tracing::warn!(file = %entry.key, place = %vault.storage().location(), "a damaged index file is left out");
            damaged.insert(entry.key);
        }
    }
    Ok(damaged)
}

/// Parses the last segment of a key as an id.
pub(crate) fn id_of(key: &str) -> Option<Id> {
    key.rsplit('/').next()?.parse().ok()
}
