//! Rows of registered stores.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Connection, State};
use crate::{BucketConnection, Error, ErrorKind, Result, StoreView};

/// One registered store, as kept.
#[derive(Clone, Debug)]
pub(crate) struct StoreRow {
    pub name: String,
    pub name_key: String,
    pub kind: String,
    /// The directory, or the bucket's URL: no two stores have the same.
    pub root_dir: String,
    pub connection: Option<BucketConnection>,
    /// Sealed under the master key.
    pub credential: Option<Vec<u8>>,
    pub storage_config: serde_json::Value,
    pub default: bool,
    pub identity: String,
    pub created_at: i64,
    pub validated_at: i64,
}

impl StoreRow {
    /// What callers see of it.
    pub fn view(&self) -> StoreView {
        StoreView {
            name: self.name.clone(),
            default: self.default,
            kind: self.kind.clone(),
            root_dir: match &self.connection {
                None => self.root_dir.clone(),
                Some(connection) => connection.prefix.clone(),
            },
            connection: self.connection.clone(),
            storage_config: self.storage_config.clone(),
            identity: self.identity.clone(),
            version_created: crate::RELEASE.to_owned(),
        }
    }
}

fn store_of(row: &SqliteRow) -> Result<StoreRow, sqlx::Error> {
    let config: &str = row.try_get("storage_config")?;
    let connection: Option<&str> = row.try_get("connection")?;
    let connection = connection.map(serde_json::from_str).transpose();
    Ok(StoreRow {
        name: row.try_get("name")?,
        name_key: row.try_get("name_key")?,
        kind: row.try_get("kind")?,
        root_dir: row.try_get("root_dir")?,
        connection: connection.map_err(|e| sqlx::Error::Decode(e.into()))?,
        credential: row.try_get("credential")?,
        storage_config: serde_json::from_str(config).unwrap_or_default(),
        default: row.try_get::<i64, _>("is_default")? != 0,
        identity: row.try_get("identity")?,
        created_at: row.try_get("created_at")?,
        validated_at: row.try_get("validated_at")?,
    })
}

impl State {
    /// All registered stores by name.
    pub async fn stores(&self) -> Result<Vec<StoreRow>> {
        let rows = sqlx::query("SELECT * FROM stores ORDER BY name")
            .fetch_all(self.reader())
            .await
            .map_err(self.read_error())?;
        rows.iter().map(store_of).collect::<Result<_, _>>().map_err(self.read_error())
    }

    /// One registered store by its exact name.
    pub async fn store(&self, name: &str) -> Result<Option<StoreRow>> {
        let row = sqlx::query("SELECT * FROM stores WHERE name = $1")
            .bind(name)
            .fetch_optional(self.reader())
            .await
            .map_err(self.read_error())?;
        row.as_ref().map(store_of).transpose().map_err(self.read_error())
    }

    /// Adds a store; with `default` it takes the flag from the other one in the same transaction.
    /// False if its name or place is taken.
    pub async fn insert_store(&self, store: &StoreRow) -> Result<bool> {
        let mut write = self.write().await?;
        if store.default {
            self.clear_default(&mut write).await?;
        }
        let connection = store.connection.as_ref().map(serde_json::to_string).transpose();
        let connection = connection
            .map_err(|e| Error::new(ErrorKind::Internal, format!("a connection cannot be kept: {e}")))?;
        let done = sqlx::query(
            "INSERT INTO stores (name, name_key, kind, root_dir, storage_config, is_default, identity, created_at,
             validated_at, connection, credential) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT DO NOTHING",
        )
        .bind(&store.name)
        .bind(&store.name_key)
        .bind(&store.kind)
        .bind(&store.root_dir)
        .bind(store.storage_config.to_string())
        .bind(i64::from(store.default))
        .bind(&store.identity)
        .bind(store.created_at)
        .bind(store.validated_at)
        .bind(connection)
        .bind(store.credential.as_deref())
        .execute(&mut *write)
        .await
        .map_err(self.write_error())?;
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        self.commit(write).await?;
        Ok(true)
    }

    /// Gives or takes the default flag. False if there is no such store.
    pub async fn set_default(&self, name: &str, default: bool) -> Result<bool> {
        let mut write = self.write().await?;
        if default {
            self.clear_default(&mut write).await?;
        }
        let done = sqlx::query("UPDATE stores SET is_default = $2 WHERE name = $1")
            .bind(name)
            .bind(i64::from(default))
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        if done.rows_affected() != 1 {
            return Ok(false);
        }
        self.commit(write).await?;
        Ok(true)
    }

    async fn clear_default(&self, connection: &mut Connection) -> Result<()> {
        sqlx::query("UPDATE stores SET is_default = 0 WHERE is_default = 1")
            .execute(connection)
            .await
            .map_err(self.write_error())?;
        Ok(())
    }

    /// Keeps another credential and what may be seen of it.
    pub async fn set_credential(
        &self,
        name: &str,
        connection: &BucketConnection,
        sealed: &[u8],
    ) -> Result<()> {
        let connection = serde_json::to_string(connection)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("a connection cannot be kept: {e}")))?;
        let mut write = self.write().await?;
        sqlx::query("UPDATE stores SET connection = $2, credential = $3 WHERE name = $1")
            .bind(name)
            .bind(connection)
            .bind(sealed)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// Notes that the store was found ready.
    pub async fn set_validated(&self, name: &str, now: i64) -> Result<()> {
        let mut write = self.write().await?;
        sqlx::query("UPDATE stores SET validated_at = $2 WHERE name = $1")
            .bind(name)
            .bind(now)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await
    }

    /// Forgets a store. The error names the running job that uses it; `None` inside if there is no such store.
    pub async fn delete_store(&self, name: &str) -> Result<DeleteStore> {
        let mut write = self.write().await?;
        let user: Option<String> = sqlx::query_scalar(
            "SELECT id FROM jobs WHERE store = $1 AND status IN ('SUBMITTED', 'EXECUTING', 'CANCELLING')
             ORDER BY seq LIMIT 1",
        )
        .bind(name)
        .fetch_optional(&mut *write)
        .await
        .map_err(self.read_error())?;
        if let Some(job) = user {
            return Ok(DeleteStore::InUse(job));
        }
        let done = sqlx::query("DELETE FROM stores WHERE name = $1")
            .bind(name)
            .execute(&mut *write)
            .await
            .map_err(self.write_error())?;
        self.commit(write).await?;
        Ok(if done.rows_affected() == 1 { DeleteStore::Done } else { DeleteStore::Unknown })
    }
}

/// What became of forgetting a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DeleteStore {
    Done,
    Unknown,
    /// The job with this id uses it.
    InUse(String),
}
