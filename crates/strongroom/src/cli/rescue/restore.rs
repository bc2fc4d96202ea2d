//! `rescue restore`: a backup into a directory, straight from its vault.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use recovery::store::{CatalogueEntry, Store};
use recovery::{BackupComponentView, BackupView};
use repository::{
    Control, ErrorKind, Index, Lock, LockKind, Passcode, Repository, RestoreOutcome, RestoreRequest,
};
use serde_json::json;

use super::{Place, time_of};
use crate::cli::repo::lock_owner;
use crate::exit::{Exit, Failure};
use crate::progress::{self, Follower, Work, printable};
use crate::{terminal, words};

/// What is restored and whereto.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The backup (default: the newest that is complete)
    #[arg(long, value_name = "NAME")]
    backup: Option<String>,
    /// Only this component; may be given several times
    #[arg(long = "component", value_name = "NAME")]
    components: Vec<String>,
    /// A new or empty directory; several components get a directory each below it
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
}

/// One backup that is to be restored without a server.
pub struct Rescue<'a> {
    /// The store that holds it.
    pub store: &'a Store,
    /// Its place in the catalogue.
    pub entry: &'a CatalogueEntry,
    /// What opens it.
    pub passcode: &'a Passcode,
    /// Names of components; empty for all.
    pub components: &'a [String],
    /// A new or empty directory.
    pub target: &'a Path,
}

/// Runs the restore.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let started = Instant::now();
    let (store, control) = place.open()?;
    let entry = find(&store, arguments.backup.as_deref())?;
    let view = entry.view(&store.identity().name);
    terminal::note(format!("backup {} of {}", printable(&view.name), time_of(view.start_time)));
    let target = std::path::absolute(&arguments.target)?;
    let passcode = place.passcode.existing()?;
    let rescue = Rescue {
        store: &store,
        entry: &entry,
        passcode: &passcode,
        components: &arguments.components,
        target: &target,
    };
    let follower = Follower::start(&control, Work::Restore, place.json);
    let outcome = restore_into(&rescue, &control);
    drop(follower);
    progress::tell_warnings(&control, Work::Restore, place.json);
    let outcome = outcome?;
    if place.json {
        terminal::out_json(&json!({
            "message_type": "summary", "backupName": view.name, "target": target,
            "seconds_elapsed": started.elapsed().as_secs(), "files_restored": outcome.files,
            "bytes_restored": outcome.bytes,
        }))?;
    } else {
        terminal::out(format!(
            "restored {}, {} to {} in {}, read back and compared",
            words::counted(outcome.files, "file", "files"),
            words::bytes(outcome.bytes),
            target.display(),
            words::duration(started.elapsed())
        ))?;
    }
    Ok(if control.warning_count() > 0 { Exit::Incomplete } else { Exit::Done })
}

pub(super) fn find(store: &Store, name: Option<&str>) -> Result<CatalogueEntry> {
    if let Some(name) = name {
        return store.backup(name)?.ok_or_else(|| {
            Failure::usage(format!("there is no backup '{name}' in this store"))
                .hint("`strongroom rescue backups --store …` lists them")
                .into()
        });
    }
    let (entries, damaged) = store.backups()?;
    for finding in &damaged {
        terminal::warn(format!("damaged: {}: {}", finding.file, finding.problem));
    }
    let newest = entries.into_iter().max_by_key(|entry| entry.view("").start_time);
    newest.ok_or_else(|| Failure::usage("there is no backup in this store").into())
}

/// Restores and verifies. What was missing at the backup already is told as a warning once more.
pub fn restore_into(rescue: &Rescue<'_>, control: &Arc<Control>) -> Result<RestoreOutcome> {
    let view = rescue.entry.view(&rescue.store.identity().name);
    let components = chosen(&view, rescue.components)?;
    refuse_unless_empty(rescue.target)?;
    let (vault, index, _lock) = open_vault(rescue.store, rescue.entry, rescue.passcode)?;
    for warning in &view.warnings {
        control.warn(warning.item.clone(), format!("not in the backup: {}", warning.reason));
    }
    let mut whole = RestoreOutcome::default();
    for component in &components {
        let (id, snapshot) = vault.find_snapshot(&component.snapshot_id)?;
        let target = match components.len() {
            1 => rescue.target.to_owned(),
            _ => rescue.target.join(file_name(&component.name)),
        };
        let subpath = match snapshot.paths.as_slice() {
            [path] => Some(path.as_bytes().to_vec()),
            _ => None,
        };
        let request = RestoreRequest { subpath, verify: true, ..RestoreRequest::new(id, target) };
        let outcome = repository::restore(&vault, &index, &request, control)?;
        whole.files += outcome.files;
        whole.dirs += outcome.dirs;
        whole.other += outcome.other;
        whole.bytes += outcome.bytes;
    }
    Ok(whole)
}

/// A backup's vault, as much of its index as can be read, and the lock that keeps both as they are.
pub(super) fn open_vault(
    store: &Store,
    entry: &CatalogueEntry,
    passcode: &Passcode,
) -> Result<(Repository, Index, Option<Lock>)> {
    let vault = store.open_vault(entry, passcode)?;
    // A store on a read-only medium cannot be locked, and need not be.
    let lock = match vault.lock(LockKind::Shared, &lock_owner()) {
        Ok(lock) => Some(lock),
        Err(e) if e.kind == ErrorKind::Locked => return Err(e.into()),
        Err(_) => None,
    };
    let (index, damaged) = vault.load_readable_index()?;
    for file in damaged {
        terminal::warn(format!(
            "damaged: {}; content that only this index lists cannot be restored",
            file.item
        ));
    }
    Ok((vault, index, lock))
}

fn chosen<'a>(view: &'a BackupView, names: &[String]) -> Result<Vec<&'a BackupComponentView>> {
    if names.is_empty() {
        return Ok(view.components.iter().filter(|component| !component.snapshot_id.is_empty()).collect());
    }
    let find = |name: &String| {
        view.components.iter().find(|component| component.name == *name).ok_or_else(|| {
            let known: Vec<_> = view.components.iter().map(|component| printable(&component.name)).collect();
            Failure::usage(format!("there is no component '{name}' in this backup"))
                .hint(format!("it holds: {}", known.join(", ")))
                .into()
        })
    };
    names.iter().map(find).collect()
}

fn refuse_unless_empty(target: &Path) -> Result<()> {
    let is_empty = match std::fs::read_dir(target) {
        Ok(mut entries) => entries.next().is_none(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => true,
        Err(e) => return Err(Failure::usage(format!("cannot restore into {}: {e}", target.display())).into()),
    };
    if is_empty {
        return Ok(());
    }
    Err(Failure::usage(format!("{} is not empty; nothing was changed", target.display()))
        .hint("name a new directory: a rescue never mixes with what is there")
        .into())
}

/// A component's name as the name of a directory.
fn file_name(name: &str) -> String {
    let name = name.replace(['/', '\0'], "_");
    if name.starts_with('.') { format!("_{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rescue_never_mixes_with_what_is_there() {
        let place = tempfile::tempdir().unwrap();
        assert!(refuse_unless_empty(place.path()).is_ok());
        assert!(refuse_unless_empty(&place.path().join("new")).is_ok());
        std::fs::write(place.path().join("mine"), "").unwrap();
        assert!(refuse_unless_empty(place.path()).is_err());
        assert!(refuse_unless_empty(&place.path().join("mine")).is_err());
    }

    #[test]
    fn a_component_cannot_name_a_directory_outside_the_target() {
        assert_eq!(file_name("content"), "content");
        assert_eq!(file_name("../etc"), "_.._etc");
        assert_eq!(file_name(".."), "_..");
    }
}
