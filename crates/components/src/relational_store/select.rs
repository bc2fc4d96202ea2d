//! Which databases of a backup are restored, and under which names.

use postgres::Client;

use super::failure;
use super::manifest::Manifest;
use crate::{Error, ErrorKind, Portion, Result};

/// PostgreSQL cuts longer ones off.
const NAME_BYTES_MAX: usize = 63;
/// So many names are told when one is unknown.
const TOLD_MAX: usize = 20;

/// What is restored.
pub(super) struct Selected {
    /// The backup's, with these databases alone, each under the name that it gets.
    pub manifest: Manifest,
    /// Its database takes nobody's place.
    pub beside: bool,
}

/// Takes what is wanted out of a manifest. A path is the directory of a database in the backup.
pub(super) fn select(mut manifest: Manifest, portion: &Portion) -> Result<Selected> {
    if portion.is_all() {
        return Ok(Selected { manifest, beside: false });
    }
    for path in &portion.paths {
        let directory = path.trim_end_matches('/');
        if !manifest.databases.iter().any(|database| database.directory == directory) {
            return Err(unknown(&manifest, directory));
        }
    }
    manifest
        .databases
        .retain(|database| portion.paths.iter().any(|path| path.trim_end_matches('/') == database.directory));
    if let Some(name) = &portion.into {
        check_name(name)?;
        match manifest.databases.as_mut_slice() {
            [database] => database.name.clone_from(name),
            _ => {
                return refuse(format!(
                    "one database alone can be restored into '{name}'; only names several"
                ));
            }
        }
    }
    Ok(Selected { manifest, beside: portion.into.is_some() })
}

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorKind::Selection, message))
}

fn unknown(manifest: &Manifest, directory: &str) -> Error {
    let (shown, rest) =
        directory.split_once('/').map_or((directory, None), |(name, rest)| (name, Some(rest)));
    let message = match rest {
        Some(rest) if manifest.databases.iter().any(|database| database.directory == shown) => {
            format!("only a whole database can be restored alone: leave out '/{}'", rest.escape_debug())
        }
        _ => format!(
            "the backup holds no database '{}'; it holds {}",
            shown.escape_debug(),
            listed(manifest.databases.iter().map(|database| database.directory.as_str()))
        ),
    };
    Error::new(ErrorKind::Selection, message)
}

/// The first names, and how many more there are.
fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<&str> = names.collect();
    let more = names.len().saturating_sub(TOLD_MAX);
    names.truncate(TOLD_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

fn check_name(name: &str) -> Result<()> {
    let is_ours = ["strongroom_new_", "strongroom_old_"].iter().any(|prefix| name.starts_with(prefix));
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') || is_ours {
        return refuse(format!(
            "into: a database needs a name of 1 to {NAME_BYTES_MAX} bytes that does not begin with strongroom_new_ or strongroom_old_"
        ));
    }
    Ok(())
}

/// Refuses a name that a database has already: what is there is not touched.
pub(super) fn refuse_taken(client: &mut Client, selected: &Selected) -> Result<()> {
    for database in selected.manifest.databases.iter().filter(|_| selected.beside) {
        let name = &database.name;
        let found = client
            .query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[name])
            .map_err(|e| failure::server(format!("cannot look for the database '{name}'"), &e))?;
        if found.is_some() {
            return refuse(format!(
                "into: there is a database '{name}' already, and it is not touched; give another name, or drop it first"
            ));
        }
    }
    Ok(())
}
