//! What a physical backup says of itself.
//!
//! ```text
//! /<component>/base-<n>.tar     the server's files, as pg_basebackup writes them; one, or two right after a new one was taken
//! /<component>/log/<segment>    the write-ahead log since the first of them
//! /<component>/physical.json    this
//! ```

use serde::{Deserialize, Serialize};

use super::super::manifest::{self, Database};
use super::super::quote;
use crate::{Error, ErrorKind, Result};

pub(in super::super) const MANIFEST: &str = "physical.json";
pub(super) const LOG: &str = "log";

/// The whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Manifest {
    pub format: u32,
    /// As the server gives it: 150020 is 15.20.
    pub server_version: u32,
    /// Tells one server's log from another's.
    pub system_identifier: String,
    /// The name of the role that every server has.
    pub superuser: String,
    /// The log that was received without a break; what is of another one cannot be joined to it.
    pub run: String,
    /// The words by which the databases were chosen.
    pub named: Vec<String>,
    /// The branch of the log in which all of this is.
    pub time_line: u64,
    /// Bytes of a segment.
    pub segment_bytes: u64,
    /// What the server loads at its start, without which its extensions may not work.
    pub preload: String,
    /// How many prepared transactions there may be in the log.
    pub prepared_max: i32,
    pub databases: Vec<String>,
    /// Oldest first.
    pub bases: Vec<Base>,
    /// Milliseconds of the server's clock since 1970; right after it there is a commit in the log.
    pub until: i64,
    /// Where the log was then: whatever lies before it was committed by then.
    pub until_position: String,
}

/// A base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Base {
    pub file: String,
    /// The number of the first segment that it needs.
    pub first_segment: u64,
    /// Milliseconds of the server's clock since 1970. From its end on the server can be had at any instant.
    pub started: i64,
    pub ended: i64,
}

impl Manifest {
    /// The newest layout that this release knows.
    pub(super) const FORMAT: u32 = 1;

    pub(in super::super) fn parse(text: &[u8]) -> Result<Self> {
        let damaged = |why: String| Error::new(ErrorKind::Damaged, format!("{MANIFEST} in the backup {why}"));
        let whole: Self =
            serde_json::from_slice(text).map_err(|e| damaged(format!("cannot be understood: {e}")))?;
        if whole.format > Self::FORMAT {
            return Err(damaged(format!(
                "has format {}; this release knows up to {}. Restore it with a newer release",
                whole.format,
                Self::FORMAT
            )));
        }
        Ok(whole)
    }

    /// The databases, without what is in them.
    pub(in super::super) fn outline(&self) -> manifest::Manifest {
        let database = |name: &String| Database {
            name: name.clone(),
            directory: quote::file_name(name),
            ..Database::default()
        };
        manifest::Manifest {
            server_version: self.server_version,
            system_identifier: self.system_identifier.clone(),
            databases: self.databases.iter().map(database).collect(),
            is_outline: true,
            ..manifest::Manifest::default()
        }
    }

    /// Like 15.
    pub(in super::super) fn server_major(&self) -> u32 {
        self.server_version / 10_000
    }

    /// The base from which the server gets to an instant; `None`: the end.
    pub(super) fn base_for(&self, at: Option<i64>) -> Result<&Base> {
        let at = at.unwrap_or(self.until);
        let base = self.bases.iter().rev().find(|base| base.ended <= at).filter(|_| at <= self.until);
        base.ok_or_else(|| {
            let from = self.bases.first().map_or(self.until, |base| base.ended);
            let message = format!(
                "the backup holds the server at any instant from {} to {}, and {} is none of these; choose another backup",
                shown(from),
                shown(self.until),
                shown(at)
            );
            Error::new(ErrorKind::Missing, message)
        })
    }
}

/// Like 2026-01-31T12:00:00.5Z.
pub(super) fn shown(milliseconds: i64) -> String {
    let nanoseconds = u32::try_from(milliseconds.rem_euclid(1000)).unwrap_or(0) * 1_000_000;
    repository::Time { seconds: milliseconds.div_euclid(1000), nanoseconds }.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_reached_from_the_newest_base_before_it() {
        let base =
            |ended| Base { file: format!("base-{ended}.tar"), first_segment: 1, started: ended - 5, ended };
        let manifest = Manifest {
            format: Manifest::FORMAT,
            server_version: 150_002,
            system_identifier: "7".to_owned(),
            superuser: "postgres".to_owned(),
            run: String::new(),
            named: Vec::new(),
            time_line: 1,
            segment_bytes: 16 << 20,
            preload: String::new(),
            prepared_max: 0,
            databases: Vec::new(),
            bases: vec![base(1000), base(2000)],
            until: 3000,
            until_position: "0/1".to_owned(),
        };
        let of = |at| manifest.base_for(at).map(|base| base.ended);
        assert_eq!(of(Some(1000)).unwrap(), 1000);
        assert_eq!(of(Some(1999)).unwrap(), 1000);
        assert_eq!(of(Some(2000)).unwrap(), 2000);
        assert_eq!(of(None).unwrap(), 2000);
        for outside in [999, 3001] {
            let error = of(Some(outside)).unwrap_err();
            assert!(error.message.contains("from 1970-01-01T00:00:01Z to 1970-01-01T00:00:03Z"), "{error}");
        }
    }
}
