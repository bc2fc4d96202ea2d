//! Users, log-in and tokens.
//!
//! Passwords are kept as Argon2id hashes (`password`), computed beside the request threads and only a few at a time, since each
//! takes memory. Tokens are random and kept by their SHA-256 alone. A user who fails to log in from one address
//! has five tries free; after that each failure makes the next try possible only later.

use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use crate::clock::now_ms;
use crate::keys;
use crate::names::{Named, check_name, check_password, normal};
use crate::password;
use crate::recovery::{Inner, blocking};
use crate::state::{NewToken, ProviderSignIn, ProviderUser, UserChange};
use crate::{Error, ErrorKind, Principal, Purpose, Result, Role, UserView};

const MINUTES_MAX: u32 = 20_160;
const FAILURES_FREE: i64 = 5;
const DELAY_MS_MAX: i64 = 300_000;
/// Failures are forgotten after this long without another one.
const FAILURES_KEPT_MS: i64 = 3_600_000;
/// Longer texts are no tokens of ours and are not worth hashing.
const TOKEN_LEN_MAX: usize = 128;
const ADDRESS_LEN_MAX: usize = 64;
const PASSWORD_LEN_MAX: usize = 4096;

/// How long after failure number `failures` no further try is looked at.
fn delay_ms(failures: i64) -> i64 {
    let beyond = failures - FAILURES_FREE;
    if beyond < 0 { 0 } else { (1000i64 << beyond.min(20)).min(DELAY_MS_MAX) }
}

fn login_failed() -> Error {
    Error::new(ErrorKind::LoginFailed, "Unable to generate token.").detail("Invalid username or password.")
}

fn no_such_user(username: &str) -> Error {
    Error::new(ErrorKind::UserNotFound, format!("There is no user '{username}'."))
}

fn changed(username: &str, change: UserChange) -> Result<()> {
    match change {
        UserChange::Done => Ok(()),
        UserChange::Unknown => Err(no_such_user(username)),
        UserChange::OfProvider => {
            let message =
                format!("'{username}' signs in through the provider, which decides on role and password.");
            Err(Error::new(ErrorKind::ParameterInvalid, message))
        }
        UserChange::LastAdministrator => {
            let message = format!("'{username}' is the only administrator; add another one first.");
            Err(Error::new(ErrorKind::LastAdministrator, message))
        }
    }
}

pub(crate) fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Who somebody is at a provider; neither part holds a line break.
fn provider_subject(issuer: &str, subject: &str) -> String {
    format!("{issuer}\n{subject}")
}

impl Inner {
    pub async fn add_user(&self, username: &str, password: &SecretString, role: Role) -> Result<()> {
        let username = check_name(Named::User, username)?;
        check_password(password)?;
        let hash = self.hash_password(password).await?;
        if self.state.insert_user(&username, &hash, role, now_ms()).await? {
            return Ok(());
        }
        let message = format!("There is a user '{username}' already (names are compared without case).");
        Err(Error::new(ErrorKind::ParameterInvalid, message))
    }

    pub async fn remove_user(&self, username: &str) -> Result<()> {
        let username = normal(username);
        changed(&username, self.state.delete_user(&username).await?)?;
        self.browsing.close_of_user(&username);
        Ok(())
    }

    pub async fn update_user(
        &self,
        username: &str,
        role: Option<Role>,
        password: Option<&SecretString>,
    ) -> Result<()> {
        let username = normal(username);
        password.map(check_password).transpose()?;
        let hash = match password {
            Some(password) => Some(self.hash_password(password).await?),
            None => None,
        };
        changed(&username, self.state.update_user(&username, role, hash.as_deref()).await?)?;
        self.browsing.close_of_user(&username);
        Ok(())
    }

    /// Somebody whom the configured provider vouches for signs in, under a name of their own kind.
    pub async fn sign_in_by_provider(
        &self,
        issuer: &str,
        subject: &str,
        username: &str,
        role: Role,
    ) -> Result<Principal> {
        let username = format!("{}{}", Named::PROVIDER_MARK, check_name(Named::User, username)?);
        let subject = provider_subject(issuer, subject);
        let user = ProviderUser { username: &username, subject: &subject, role };
        match self.state.upsert_provider_user(&user, now_ms()).await? {
            ProviderSignIn::Done => return Ok(Principal::person(username, role)),
            ProviderSignIn::RoleChanged => {
                // What the sessions under the former role had open goes with them.
                self.browsing.close_of_user(&username);
                return Ok(Principal::person(username, role));
            }
            ProviderSignIn::SomebodyElse => {}
        }
        let message = format!(
            "'{username}' is somebody else at the provider: an administrator must remove that user first, if the name \
             has passed to you."
        );
        Err(Error::new(ErrorKind::Forbidden, message))
    }

    /// Ends the sessions of those whom another provider vouched for; without one, of all.
    pub async fn end_other_provider_sessions(&self, issuer: Option<&str>) -> Result<()> {
        let but = issuer.map(|issuer| provider_subject(issuer, ""));
        self.state.end_provider_sessions(but.as_deref()).await
    }

    pub async fn revoke_tokens(&self, username: &str) -> Result<()> {
        let username = normal(username);
        let done = self.state.delete_tokens(&username).await?;
        self.browsing.close_of_user(&username);
        if done { Ok(()) } else { Err(no_such_user(&username)) }
    }

    pub async fn users(&self) -> Result<Vec<UserView>> {
        self.state.users().await
    }

    pub async fn log_in(&self, username: &str, password: &SecretString, address: &str) -> Result<Principal> {
        let Ok(username) = check_name(Named::User, username) else { return Err(login_failed()) };
        if password.expose_secret().len() > PASSWORD_LEN_MAX {
            return Err(login_failed());
        }
        let address: String = address.chars().filter(|c| !c.is_control()).take(ADDRESS_LEN_MAX).collect();
        self.refuse_while_locked_out(&username, &address).await?;
        let Ok(_turn) = self.password_turns.acquire().await else { return Err(login_failed()) };
        // Again: while this one waited for its turn, others may have failed.
        self.refuse_while_locked_out(&username, &address).await?;
        let known = self.state.credentials(&username).await?;
        let (stored, role) = match known {
            Some((stored, role)) => (Some(stored), role),
            None => (None, Role::Viewer),
        };
        let password = password.clone();
        let right = blocking(move || match stored {
            Some(stored) => Ok(password::verify(&password, &stored)),
            None => {
                password::verify(&password, password::nobody());
                Ok(false)
            }
        })
        .await?;
        if !right {
            self.state.add_login_failure(&username, &address, now_ms()).await?;
            tracing::warn!(%username, %address, "log-in failed");
            return Err(login_failed());
        }
        if self.state.login_failures(&username, &address).await?.0 > 0 {
            self.state.clear_login_failures(&username, &address).await?;
        }
        Ok(Principal::person(username, role))
    }

    async fn refuse_while_locked_out(&self, username: &str, address: &str) -> Result<()> {
        let (failures, failed_at) = self.state.login_failures(username, address).await?;
        let since = now_ms() - failed_at;
        // A clock that was set back must not lock anybody out for ever.
        if (0..delay_ms(failures)).contains(&since) { Err(login_failed()) } else { Ok(()) }
    }

    async fn hash_password(&self, password: &SecretString) -> Result<String> {
        let _turn = self.password_turns.acquire().await;
        let password = password.clone();
        blocking(move || password::hash(&password)).await
    }

    pub async fn issue_token(&self, principal: &Principal, minutes: u32) -> Result<(SecretString, i64)> {
        self.issue_grant(principal, Purpose::Access, minutes, "").await
    }

    pub async fn issue_grant(
        &self,
        principal: &Principal,
        purpose: Purpose,
        minutes: u32,
        facts: &str,
    ) -> Result<(SecretString, i64)> {
        let minutes = minutes.clamp(1, MINUTES_MAX);
        let token = hex::encode(rand::random::<[u8; 32]>());
        let expires_at = now_ms() + i64::from(minutes) * 60_000;
        let (hash, username) = (token_hash(&token), principal.username.as_str());
        let new = NewToken { hash: &hash, username, expires_at, purpose, facts };
        let kept = self.state.insert_token(&new).await?;
        if kept { Ok((SecretString::from(token), expires_at)) } else { Err(login_failed()) }
    }

    pub async fn authenticate(&self, token: &str) -> Result<Option<Principal>> {
        if token.starts_with(keys::PREFIX) && token.len() <= TOKEN_LEN_MAX {
            return self.key_holder(token).await;
        }
        Ok(self.grant(token, Purpose::Access).await?.map(|(principal, _)| principal))
    }

    pub async fn grant(&self, token: &str, purpose: Purpose) -> Result<Option<(Principal, String)>> {
        if token.is_empty() || token.len() > TOKEN_LEN_MAX {
            return Ok(None);
        }
        self.state.token_holder(&token_hash(token), purpose, now_ms()).await
    }

    pub async fn take_grant(&self, token: &str, purpose: Purpose) -> Result<Option<(Principal, String)>> {
        if token.is_empty() || token.len() > TOKEN_LEN_MAX {
            return Ok(None);
        }
        self.state.take_token(&token_hash(token), purpose, now_ms()).await
    }

    pub async fn revoke_token(&self, token: &str) -> Result<()> {
        self.browsing.close_of_session(token);
        self.state.delete_token(&token_hash(token)).await
    }

    /// Hourly: what has expired goes.
    pub async fn purge_sessions(&self) -> Result<()> {
        self.purge_keys().await?;
        let now = now_ms();
        self.state.purge_sessions(now, now - FAILURES_KEPT_MS).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_are_free_and_then_the_delay_grows_to_a_limit() {
        let delays: Vec<i64> = (0..10).map(delay_ms).collect();
        assert_eq!(delays, [0, 0, 0, 0, 0, 1000, 2000, 4000, 8000, 16_000]);
        assert_eq!(delay_ms(1_000_000), DELAY_MS_MAX);
    }
}
