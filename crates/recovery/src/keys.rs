//! API keys: how programs prove who they are, without a password and without a person.
//!
//! ```text
//! create   name, role, scope, end → `srk_` and 256 random bits, told once; its SHA-256 is kept
//! request  key → hash → row → Principal with the key's scope, which the wire judges by
//! revoke   the row goes, and with the next request the key is unknown
//! ```
//!
//! A fast hash is right here: nobody can try 2^256 keys.

use secrecy::{ExposeSecret, SecretString};

use crate::clock::now_ms;
use crate::names::{Named, check_name, normal};
use crate::recovery::Inner;
use crate::users::token_hash;
use crate::{Error, ErrorKind, Principal, Result, Role};

/// What every key begins with, so that scanners for secrets find those that leaked.
pub(crate) const PREFIX: &str = "srk_";
/// A key has an end, so that forgotten ones do not live for ever.
const DAYS_MAX: u32 = 365;
const DAY_MS: i64 = 86_400_000;
const KEYS_MAX: i64 = 1000;
const STORES_MAX: usize = 100;
/// The last use is kept to the hour, so that requests do not write.
const USE_MS: i64 = 3_600_000;
/// Keys whose end has come are listed so long, so that people see why a program stopped.
const ENDED_KEPT_MS: i64 = 90 * DAY_MS;

/// Whoever looks after programs is told so long before that a key ends.
pub const KEY_ENDS_SOON_MS: i64 = 14 * DAY_MS;
/// And so long after it ended, unless it is revoked: the program is refused then.
pub(crate) const KEY_ENDED_MS: i64 = 7 * DAY_MS;

/// What can be done with a key, in groups. A key needs the role as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OperationGroup {
    /// Looking.
    Read,
    /// Making and validating backups, validating stores, cancelling jobs.
    Backup,
    /// Restoring.
    Restore,
    /// Making, changing, running and removing tasks.
    Schedules,
    /// Stores, the deletion and retention of backups, settings, mode.
    Manage,
}

impl OperationGroup {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Read, Self::Backup, Self::Restore, Self::Schedules, Self::Manage];

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Schedules => "schedules",
            Self::Manage => "manage",
        }
    }

    /// The group of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.name() == name)
    }
}

/// What a key is good for, within its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyScope {
    /// The stores it is good for; empty: all of them, and what belongs to no store.
    pub stores: Vec<String>,
    /// The operations it is good for.
    pub operations: Vec<OperationGroup>,
}

/// A key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Its name.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// What it is good for.
    pub scope: KeyScope,
    /// When it ends, in days from now; a year if absent, and at most.
    pub days: Option<u32>,
}

/// One key, for lists. The key itself is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyView {
    /// Its name.
    pub name: String,
    /// What it may do at most.
    pub role: Role,
    /// What it is good for.
    pub scope: KeyScope,
    /// Who made it.
    pub created_by: String,
    /// When it was made.
    pub created_at: i64,
    /// When it ends or ended.
    pub expires_at: i64,
    /// When it was last used, to the hour; 0 = never.
    pub last_used: i64,
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::ParameterInvalid, message)
}

fn no_such_key(name: &str) -> Error {
    Error::new(ErrorKind::KeyNotFound, format!("There is no key '{name}'."))
}

/// The scope in its normal form. Stores need not be registered yet.
fn check_scope(scope: KeyScope) -> Result<KeyScope> {
    if scope.stores.len() > STORES_MAX {
        return Err(invalid(format!("A key is good for at most {STORES_MAX} stores by name.")));
    }
    let stores = scope.stores.iter().map(|store| check_name(Named::Store, store));
    let mut operations = scope.operations;
    operations.sort_by_key(|group| group.name());
    operations.dedup();
    if operations.is_empty() {
        return Err(invalid("A key that is good for no operation is good for nothing: name one.".to_owned()));
    }
    Ok(KeyScope { stores: stores.collect::<Result<_>>()?, operations })
}

impl Inner {
    /// Makes a key; returns it, which nobody can tell again, and its end.
    pub async fn create_key(&self, new: NewKey, created_by: &str) -> Result<(SecretString, i64)> {
        let name = check_name(Named::Key, &new.name)?;
        let scope = check_scope(new.scope)?;
        let days = new.days.unwrap_or(DAYS_MAX);
        if !(1..=DAYS_MAX).contains(&days) {
            return Err(invalid(format!("A key lasts 1 to {DAYS_MAX} days.")));
        }
        let key = SecretString::from(format!("{PREFIX}{}", hex::encode(rand::random::<[u8; 32]>())));
        let now = now_ms();
        let view = KeyView {
            name,
            role: new.role,
            scope,
            created_by: created_by.to_owned(),
            created_at: now,
            expires_at: now + i64::from(days) * DAY_MS,
            last_used: 0,
        };
        if self.state.count_keys().await? >= KEYS_MAX {
            return Err(invalid(format!("There are {KEYS_MAX} keys already; revoke some that nobody uses.")));
        }
        if self.state.insert_key(&view, &token_hash(key.expose_secret())).await? {
            return Ok((key, view.expires_at));
        }
        let name = view.name;
        Err(invalid(format!("There is a key '{name}' already (names are compared without case).")))
    }

    /// All keys by name.
    pub async fn keys(&self) -> Result<Vec<KeyView>> {
        self.state.keys().await
    }

    /// One key.
    pub async fn key(&self, name: &str) -> Result<KeyView> {
        let name = normal(name);
        let found = self.state.keys().await?.into_iter().find(|key| key.name == name);
        found.ok_or_else(|| no_such_key(&name))
    }

    /// Makes a key worthless at once.
    pub async fn revoke_key(&self, name: &str) -> Result<()> {
        let name = normal(name);
        let done = self.state.delete_key(&name).await?;
        self.browsing.close_of_user(&format!("{}{name}", Named::KEY_MARK));
        if done { Ok(()) } else { Err(no_such_key(&name)) }
    }

    /// Who holds this key.
    pub async fn key_holder(&self, key: &str) -> Result<Option<Principal>> {
        let now = now_ms();
        let Some(found) = self.state.key_by_hash(&token_hash(key), now).await? else { return Ok(None) };
        if now - found.last_used >= USE_MS {
            // Who may look must be able to look though the state cannot be written to.
            if let Err(error) = self.state.mark_key_used(&found.name, now).await {
                tracing::warn!(key = %found.name, "the last use of a key is not kept: {error}");
            }
        }
        let username = format!("{}{}", Named::KEY_MARK, found.name);
        Ok(Some(Principal { username, role: found.role, key: Some(found.scope) }))
    }

    /// Hourly: keys go whose end came long ago.
    pub async fn purge_keys(&self) -> Result<()> {
        self.state.purge_keys(now_ms() - ENDED_KEPT_MS).await
    }
}
