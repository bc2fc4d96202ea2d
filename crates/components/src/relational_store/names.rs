//! The databases of a restore under names of their own: what tells, after a kill, how far it came.
//!
//! ```text
//! strongroom_new_<job>_<n>   is being built
//! strongroom_old_<job>_<n>   was there before; with the first of these the restored ones have taken their places
//! ```
//! A comment on each says which database it becomes or was. All renames of a server are one transaction.

use postgres::Client;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::inventory::get;
use super::{failure, quote};
use crate::Result;

/// Names of one job's databases.
#[derive(Clone, Debug)]
pub(super) struct Names {
    job: String,
}

/// What a database's comment says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Note {
    /// What this is, for people.
    pub strongroom: String,
    /// The name that it gets or had.
    pub database: String,
    /// The comment that it gets or had.
    pub comment: Option<String>,
    /// It takes nobody's place: if that name is taken, it does not get it.
    #[serde(default)]
    pub beside: bool,
}

/// A database of a restore, as it was found.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub name: String,
    pub old: bool,
    pub note: Option<Note>,
}

impl Names {
    /// `component` too: two of one restore may lie on one server.
    pub(super) fn new(job_id: &str, component: &str) -> Self {
        let digest = Sha256::new().chain_update(job_id).chain_update([0]).chain_update(component).finalize();
        Self { job: hex::encode(&digest[..8]) }
    }

    pub(super) fn new_one(&self, number: usize) -> String {
        format!("strongroom_new_{}_{number}", self.job)
    }

    pub(super) fn old_one(&self, number: usize) -> String {
        format!("strongroom_old_{}_{number}", self.job)
    }

    /// Of the job whose note has this name.
    pub(super) fn of_note(file: &str) -> Option<Self> {
        let job = file.strip_prefix("strongroom_restore_")?.strip_suffix(".json")?;
        Some(Self { job: job.to_owned() })
    }

    /// The databases of this job that there are, the old ones first.
    pub(super) fn find(&self, client: &mut Client) -> Result<Vec<Found>> {
        let (new, old) = (self.prefix("new"), self.prefix("old"));
        let rows = client
            .query(
                "SELECT datname::text, starts_with(datname::text, $2), shobj_description(oid, 'pg_database') FROM pg_database \
                 WHERE starts_with(datname::text, $1) OR starts_with(datname::text, $2) ORDER BY 2 DESC, 1",
                &[&new, &old],
            )
            .map_err(|e| failure::server("cannot look for the databases of a restore", &e))?;
        let note = |text: Option<String>| serde_json::from_str(&text?).ok();
        rows.iter()
            .map(|row| Ok(Found { name: get(row, 0)?, old: get(row, 1)?, note: note(get(row, 2)?) }))
            .collect()
    }

    /// Whether a name begins like that of a database which this job builds.
    pub(super) fn is_new(&self, name: &str) -> bool {
        name.starts_with(&self.prefix("new"))
    }

    /// The file that says that this job builds databases.
    pub(super) fn note_file(&self) -> String {
        format!("strongroom_restore_{}.json", self.job)
    }

    /// The file that says that this job's databases are to be taken back.
    pub(super) fn undo_file(&self) -> String {
        format!("strongroom_undo_{}.json", self.job)
    }

    fn prefix(&self, what: &str) -> String {
        format!("strongroom_{what}_{}_", self.job)
    }
}

/// The statement that writes a comment, or takes it away.
pub(super) fn comment(database: &str, text: Option<&str>) -> String {
    let text = text.map_or_else(|| "NULL".to_owned(), quote::literal);
    format!("COMMENT ON DATABASE {} IS {text}", quote::ident(database))
}

impl Note {
    /// What to say of a database that gets, or had, the name `database` and the comment `comment`.
    pub(super) fn new(what: &str, database: &str, comment: Option<String>) -> Self {
        Self { strongroom: what.to_owned(), database: database.to_owned(), comment, beside: false }
    }

    pub(super) fn text(&self) -> Result<String> {
        serde_json::to_string(self)
            .map_err(|e| crate::Error::new(crate::ErrorKind::Io, format!("cannot write a note: {e}")))
    }
}
