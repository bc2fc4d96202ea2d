//! Rows of API keys.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::State;
use super::users::{role_of, role_text};
use crate::Result;
use crate::keys::{KeyScope, KeyView};
use crate::names::name_key;

/// A list that cannot be read is an error: an empty one would mean everything.
fn list_of<T: serde::de::DeserializeOwned>(row: &SqliteRow, column: &str) -> Result<Vec<T>, sqlx::Error> {
    let text: &str = row.try_get(column)?;
    serde_json::from_str(text).map_err(|e| sqlx::Error::Decode(Box::new(e)))
}

fn text_of<T: serde::Serialize>(list: &[T]) -> String {
    // Texts and plain enumerations always become JSON.
    serde_json::to_string(list).unwrap_or_default()
}

fn view_of(row: &SqliteRow) -> Result<KeyView, sqlx::Error> {
    Ok(KeyView {
        name: row.try_get("name")?,
        role: role_of(row.try_get("role")?),
        scope: KeyScope { stores: list_of(row, "stores")?, operations: list_of(row, "operations")? },
        created_by: row.try_get("created_by")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        last_used: row.try_get("last_used")?,
    })
}

impl State {
    /// False if there is a key of that name, whatever its case.
    pub async fn insert_key(&self, key: &KeyView, hash: &str) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query(
            "INSERT INTO api_keys (name, name_key, hash, role, stores, operations, created_by, created_at, expires_at,
                 last_used)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ON CONFLICT DO NOTHING",
        )
        .bind(&key.name)
        .bind(name_key(&key.name))
        .bind(hash)
        .bind(role_text(key.role))
        .bind(text_of(&key.scope.stores))
        .bind(text_of(&key.scope.operations))
        .bind(&key.created_by)
        .bind(key.created_at)
        .bind(key.expires_at)
        .bind(key.last_used)
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// How many there are, ended ones too.
    pub async fn count_keys(&self) -> Result<i64> {
        sqlx::query_scalar("SELECT COUNT(*) FROM api_keys")
            .fetch_one(self.reader())
            .await
            .map_err(self.read_error())
    }

    /// All keys by name.
    pub async fn keys(&self) -> Result<Vec<KeyView>> {
        let rows = sqlx::query("SELECT * FROM api_keys ORDER BY name_key")
            .fetch_all(self.reader())
            .await
            .map_err(self.read_error())?;
        rows.iter().map(view_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// The key with this hash, if it has not ended.
    pub async fn key_by_hash(&self, hash: &str, now: i64) -> Result<Option<KeyView>> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE hash = $1 AND expires_at > $2")
            .bind(hash)
            .bind(now)
            .fetch_optional(self.reader())
            .await
            .map_err(self.read_error())?;
        row.as_ref().map(view_of).transpose().map_err(self.read_error())
    }

    /// Notes that it was used.
    pub async fn mark_key_used(&self, name: &str, now: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE api_keys SET last_used = $2 WHERE name = $1")
            .bind(name)
            .bind(now)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// False if there is no such key.
    pub async fn delete_key(&self, name: &str) -> Result<bool> {
        let mut write = self.write().await?;
        let done = sqlx::query("DELETE FROM api_keys WHERE name = $1")
            .bind(name)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(done.rows_affected() == 1)
    }

    /// Removes keys that ended before that time.
    pub async fn purge_keys(&self, before: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("DELETE FROM api_keys WHERE expires_at < $1")
            .bind(before)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }
}
