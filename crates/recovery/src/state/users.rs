//! Rows of users, their tokens and failed log-ins.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::State;
use crate::names::name_key;
use crate::{Principal, Purpose, Result, Role, UserView};

/// A client that makes one token per call must not fill the disk: the oldest go first.
pub(super) const TOKENS_PER_USER_MAX: i64 = 10_000;
/// More pairs of user and address than this are not remembered; the oldest go first.
const FAILURES_MAX: i64 = 10_000;

/// What became of a change of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UserChange {
    Done,
    Unknown,
    /// A provider says who this user is and what the role is.
    OfProvider,
    /// Nobody could administer this server any more.
    LastAdministrator,
}

pub(super) fn role_text(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Administrator => "administrator",
    }
}

/// An unknown text gives the least right, never the most.
pub(super) fn role_of(text: &str) -> Role {
    match text {
        "administrator" => Role::Administrator,
        "operator" => Role::Operator,
        _ => Role::Viewer,
    }
}

fn purpose_text(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Access => "access",
        Purpose::Code => "code",
        Purpose::Refresh => "refresh",
    }
}

/// What became of a sign-in through a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProviderSignIn {
    /// As a new user, or under the same role as before.
    Done,
    /// Under another role than before: the sessions under that one have ended.
    RoleChanged,
    /// The name belongs to somebody else there.
    SomebodyElse,
}

/// Somebody whom a provider vouches for.
pub(crate) struct ProviderUser<'a> {
    /// With the mark of providers.
    pub username: &'a str,
    /// The provider and its own name for the account.
    pub subject: &'a str,
    pub role: Role,
}

/// A token to be kept.
pub(crate) struct NewToken<'a> {
    pub hash: &'a str,
    pub username: &'a str,
    pub expires_at: i64,
    pub purpose: Purpose,
    pub facts: &'a str,
}

fn user_of(row: &SqliteRow) -> Result<UserView, sqlx::Error> {
    Ok(UserView {
        username: row.try_get("username")?,
        role: role_of(row.try_get("role")?),
        created_at: row.try_get("created_at")?,
    })
}

impl State {
    /// False if there is a user of that name, whatever its case.
    pub async fn insert_user(&self, username: &str, hash: &str, role: Role, now: i64) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "INSERT INTO users (username, name_key, password_hash, role, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
        )
        .bind(username)
        .bind(name_key(username))
        .bind(hash)
        .bind(role_text(role))
        .bind(now)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Lets somebody sign in whom a provider vouches for, as a user of that name, new or known. Another role ends the
    /// sessions under the one before.
    pub async fn upsert_provider_user(&self, user: &ProviderUser<'_>, now: i64) -> Result<ProviderSignIn> {
        let mut write = self.write().await?;
        let known: Option<(String, String)> =
            sqlx::query_as("SELECT role, COALESCE(subject, '') FROM users WHERE name_key = $1")
                .bind(name_key(user.username))
                .fetch_optional(&mut *write)
                .await
                .map_err(self.read_error())?;
        let done = match known {
            Some((_, subject)) if subject != user.subject => return Ok(ProviderSignIn::SomebodyElse),
            Some((role, _)) if role_of(&role) == user.role => return Ok(ProviderSignIn::Done),
            Some(_) => {
                sqlx::query("UPDATE users SET role = $2 WHERE name_key = $1")
                    .bind(name_key(user.username))
                    .bind(role_text(user.role))
                    .execute(&mut *write)
                    .await
                    .map_err(self.write_error())?;
                self.end_sessions(&mut write, user.username).await?;
                ProviderSignIn::RoleChanged
            }
            None => {
                sqlx::query(
                    "INSERT INTO users (username, name_key, password_hash, role, created_at, subject)
                     VALUES ($1, $2, '', $3, $4, $5)",
                )
                .bind(user.username)
                .bind(name_key(user.username))
                .bind(role_text(user.role))
                .bind(now)
                .bind(user.subject)
                .execute(&mut *write)
                .await
                .map_err(self.write_error())?;
                ProviderSignIn::Done
            }
        };
        self.commit(write).await?;
        Ok(done)
    }

    /// Ends the sessions of users whom a provider vouched for, unless their subject begins so; none: of all of them.
    pub async fn end_provider_sessions(&self, but: Option<&str>) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "DELETE FROM tokens WHERE username IN (SELECT username FROM users
                 WHERE subject IS NOT NULL AND ($1 IS NULL OR substr(subject, 1, length($1)) <> $1))",
        )
        .bind(but)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// Gives a user another role, another password, or both, and ends all of the user's sessions.
    pub async fn update_user(
        &self,
        username: &str,
        role: Option<Role>,
        hash: Option<&str>,
    ) -> Result<UserChange> {
        let mut write = self.write().await?;
        let loses = role.is_some_and(|role| role != Role::Administrator);
        if loses && self.is_last_administrator(&mut write, username).await? {
            return Ok(UserChange::LastAdministrator);
        }
        if self.is_of_provider(&mut write, username).await? {
            return Ok(UserChange::OfProvider);
        }
        let done = sqlx::query(
            "UPDATE users SET role = COALESCE($2, role), password_hash = COALESCE($3, password_hash)
             WHERE username = $1",
        )
        .bind(username)
        .bind(role.map(role_text))
        .bind(hash)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.end_sessions(&mut write, username).await?;
        self.commit(write).await?;
        Ok(if done.rows_affected() == 1 { UserChange::Done } else { UserChange::Unknown })
    }

    async fn is_of_provider(&self, write: &mut super::Connection, username: &str) -> Result<bool> {
        let found: Option<String> =
            sqlx::query_scalar("SELECT username FROM users WHERE username = $1 AND subject IS NOT NULL")
                .bind(username)
                .fetch_optional(write)
                .await
                .map_err(self.read_error())?;
        Ok(found.is_some())
    }

    /// A provider may go away, so its administrators do not count.
    async fn is_last_administrator(&self, write: &mut super::Connection, username: &str) -> Result<bool> {
        let administrators: Vec<String> =
            sqlx::query_scalar("SELECT username FROM users WHERE role = 'administrator' AND subject IS NULL")
                .fetch_all(write)
                .await
                .map_err(self.read_error())?;
        Ok(administrators == [username])
    }

    async fn end_sessions(&self, write: &mut super::Connection, username: &str) -> Result<()> {
        sqlx::query("DELETE FROM tokens WHERE username = $1")
            .bind(username)
            .execute(write)
            .await
            .map_err(self.write_error())?;
        Ok(())
    }

    /// Ends all sessions of a user. False if there is no such user.
    pub async fn delete_tokens(&self, username: &str) -> Result<bool> {
        let mut write = self.write().await?;
        let known: Option<String> = sqlx::query_scalar("SELECT username FROM users WHERE username = $1")
            .bind(username)
            .fetch_optional(&mut *write)
            .await
            .map_err(self.read_error())?;
        self.end_sessions(&mut write, username).await?;
        self.commit(write).await?;
        Ok(known.is_some())
    }

    /// Removes a user with all tokens.
    pub async fn delete_user(&self, username: &str) -> Result<UserChange> {
        let mut write = self.write().await?;
        if self.is_last_administrator(&mut write, username).await? {
            return Ok(UserChange::LastAdministrator);
        }
        let done = sqlx::query("DELETE FROM users WHERE username = $1")
            .bind(username)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(if done.rows_affected() == 1 { UserChange::Done } else { UserChange::Unknown })
    }

    /// All users by name.
    pub async fn users(&self) -> Result<Vec<UserView>> {
        let rows = sqlx::query("SELECT username, role, created_at FROM users ORDER BY name_key")
            .fetch_all(self.reader())
            .await
            .map_err(self.read_error())?;
        rows.iter().map(user_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// Password hash and role of a user who has a password.
    pub async fn credentials(&self, username: &str) -> Result<Option<(String, Role)>> {
        let row: Option<(String, String)> =
            sqlx::query_as("SELECT password_hash, role FROM users WHERE username = $1 AND subject IS NULL")
                .bind(username)
                .fetch_optional(self.reader())
                .await
                .map_err(self.read_error())?;
        Ok(row.map(|(hash, role)| (hash, role_of(&role))))
    }

    /// Keeps a token by its hash; the user's oldest ones go when there are too many. False if the user is gone.
    pub async fn insert_token(&self, token: &NewToken<'_>) -> Result<bool> {
        let NewToken { hash, username, expires_at, purpose, facts } = *token;
        let mut write = self.write().await?;
        let done = sqlx::query(
            "INSERT INTO tokens (hash, username, expires_at, purpose, facts)
             SELECT $1, username, $3, $4, $5 FROM users WHERE username = $2",
        )
        .bind(hash)
        .bind(username)
        .bind(expires_at)
        .bind(purpose_text(purpose))
        .bind(facts)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM tokens WHERE username = $1")
            .bind(username)
            .fetch_one(&mut *write)
            .await
            .map_err(self.write_error())?;
        if count > TOKENS_PER_USER_MAX {
            sqlx::query(
                "DELETE FROM tokens WHERE hash IN
                 (SELECT hash FROM tokens WHERE username = $1 AND hash <> $3 ORDER BY expires_at LIMIT $2)",
            )
            .bind(username)
            .bind(count - TOKENS_PER_USER_MAX)
            .bind(hash)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        }
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Who holds the token with this hash and purpose, and the facts kept with it.
    pub async fn token_holder(
        &self,
        hash: &str,
        purpose: Purpose,
        now: i64,
    ) -> Result<Option<(Principal, String)>> {
        let row: Option<(String, String, String)> = sqlx::query_as(
            "SELECT users.username, users.role, tokens.facts
             FROM tokens JOIN users ON users.username = tokens.username
             WHERE tokens.hash = $1 AND tokens.purpose = $2 AND tokens.expires_at > $3",
        )
        .bind(hash)
        .bind(purpose_text(purpose))
        .bind(now)
        .fetch_optional(self.reader())
        .await
        .map_err(self.read_error())?;
        Ok(row.map(|(username, role, facts)| (Principal::person(username, role_of(&role)), facts)))
    }

    /// Like [`State::token_holder`], and the token is gone: of two callers one gets it.
    pub async fn take_token(
        &self,
        hash: &str,
        purpose: Purpose,
        now: i64,
    ) -> Result<Option<(Principal, String)>> {
        let Some(held) = self.token_holder(hash, purpose, now).await? else { return Ok(None) };
        let mut write = self.write().await?;
        let done = sqlx::query("DELETE FROM tokens WHERE hash = $1 AND purpose = $2")
            .bind(hash)
            .bind(purpose_text(purpose))
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok((done.rows_affected() == 1).then_some(held))
    }

    /// Ends one session.
    pub async fn delete_token(&self, hash: &str) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM tokens WHERE hash = $1")
            .bind(hash)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// Forgets expired tokens, and failed log-ins from before `failures_before`.
    pub async fn purge_sessions(&self, now: i64, failures_before: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM tokens WHERE expires_at <= $1")
            .bind(now)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        sqlx::query("DELETE FROM login_failures WHERE failed_at < $1")
            .bind(failures_before)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// How often, and when last, this user failed to log in from this address.
    pub async fn login_failures(&self, username: &str, address: &str) -> Result<(i64, i64)> {
        let row = sqlx::query_as(
            "SELECT failures, failed_at FROM login_failures WHERE name_key = $1 AND address = $2",
        )
        .bind(name_key(username))
        .bind(address)
        .fetch_optional(self.reader())
        .await
        .map_err(self.read_error())?;
        Ok(row.unwrap_or((0, 0)))
    }

    /// Counts one more failed log-in.
    pub async fn add_login_failure(&self, username: &str, address: &str, now: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query(
            "INSERT INTO login_failures (name_key, address, failures, failed_at) VALUES ($1, $2, 1, $3)
             ON CONFLICT (name_key, address)
             DO UPDATE SET failures = login_failures.failures + 1, failed_at = excluded.failed_at",
        )
        .bind(name_key(username))
        .bind(address)
        .bind(now)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM login_failures")
            .fetch_one(&mut *write)
            .await
            .map_err(self.write_error())?;
        if count > FAILURES_MAX {
            sqlx::query(
                "DELETE FROM login_failures WHERE failed_at <= (SELECT MIN(failed_at) FROM login_failures)",
            )
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        }
        self.commit(write).await
    }

    /// Forgets failed log-ins after a good one.
    pub async fn clear_login_failures(&self, username: &str, address: &str) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM login_failures WHERE name_key = $1 AND address = $2")
            .bind(name_key(username))
            .bind(address)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }
}
