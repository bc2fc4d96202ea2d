//! A restore: check all, stage all, swap all, finish all.
//!
//! Nothing is changed before every selected component is staged. `before_swap` marks the point of no return; then all
//! are swapped. If one swap fails, all are taken back, so that no mixture stays. After a kill [`recover_restore`]
//! finishes or undoes each component by its own journal; unless every one was finished the restore is run again.

use std::collections::HashMap;
use std::sync::Arc;

use components::{Component, Kind, Recovered, RestoreContext, StagedRestore};
use repository::{Control, Id, Index, Lock, LockKind, LockOwner, Repository, Warning};

use super::stages::{self, StageSink, Stages};
use super::{RestoreDone, RestoreTask, locks};
use crate::store::vaults::load_index;
use crate::store::{CatalogueEntry, EntryComponent, FORMAT_VERSION, Store, failure, layout};
use crate::{Error, ErrorKind, Result, Selection, clock};

/// One component of the backup with the configured one that takes it.
pub(super) struct Part {
    pub(super) entry: EntryComponent,
    pub(super) component: Arc<dyn Component>,
}

/// Checks without changing anything: the backup is there, complete and of a known format; each selected component has
/// a target; the passcode opens it; the entry is authentic. What it opened is for [`check_portions`].
pub fn check_restore(store: &Store, task: &RestoreTask) -> Result<Repository> {
    let (entry, _) = plan(store, task)?;
    store.open_vault(&entry, &task.passcode)
}

/// Checks without changing anything: what is to be restored alone is in the backup, and can be had so.
pub fn check_portions(store: &Store, task: &RestoreTask, vault: &Repository) -> Result<()> {
    if task.selection.portions.is_empty() {
        return Ok(());
    }
    let (_, parts) = plan(store, task)?;
    let index = load_index(vault, &|_| true)?;
    for Part { entry, component } in &parts {
        let portion = task.selection.portion(&entry.name);
        if !portion.is_all() {
            component
                .check(vault, &index, entry.snapshot, &portion, &Control::new())
                .map_err(|e| failure::component(component.name(), e))?;
        }
    }
    Ok(())
}

/// Restores. `before_swap` is called once, right before anything changes; its error stops the restore.
pub fn run_restore(
    store: &Store,
    task: &RestoreTask,
    control: &Arc<Control>,
    stages: &dyn StageSink,
    before_swap: &dyn Fn() -> Result<()>,
) -> Result<RestoreDone> {
    let mut stages = Stages::new(stages);
    let mut begun: Vec<Arc<dyn Component>> = Vec::new();
    let outcome = restore(store, task, control, &mut stages, before_swap, &mut begun);
    // On every way out.
    for component in begun {
        if let Err(error) = component.after_restore() {
            control.warn(component.name(), format!("after the restore: {error}"));
        }
    }
    match outcome {
        Ok((entry, mut done)) => {
            let recorded = entry.warnings.into_iter();
            done.warnings = recorded
                .map(|w| Warning { item: w.item, reason: format!("not in the backup: {}", w.reason) })
                .collect();
            done.warnings.extend(control.warnings());
            let state = if done.warnings.is_empty() { stages::COMPLETED } else { stages::WITH_WARNINGS };
            stages.end(stages::RESTORE_CLEANUP, state);
            Ok(done)
        }
        Err(error) => {
            stages.fail(&error);
            Err(error)
        }
    }
}

/// After a kill: finishes or undoes what a restore of this job had begun in each component, and runs the
/// `after_restore` hooks where something was found. `swapping`: whether `before_swap` had been called.
///
/// `true` only if every one that was restored turned out finished. Else the job is to be run again, which is harmless
/// also where some had been finished.
pub fn recover_restore(
    task_job_id: &str,
    components: &[Arc<dyn Component>],
    selection: &Selection,
    swapping: bool,
) -> Result<bool> {
    let source = |component: &Arc<dyn Component>| {
        selection.source(component.kind(), component.name()).map(str::to_owned)
    };
    let selected: Vec<_> = components.iter().filter_map(|part| Some((part, source(part)?))).collect();
    let mut all_finished = !selected.is_empty();
    let mut first_error = None;
    for (component, source) in selected {
        match component.recover(task_job_id, &selection.portion(&source)) {
            Ok(recovered) => {
                all_finished &= recovered == Recovered::Finished;
                if recovered != Recovered::Nothing
                    && let Err(error) = component.after_restore()
                {
                    tracing::warn!(component = component.name(), %error, "an after_restore hook failed");
                }
            }
            Err(error) => {
                all_finished = false;
                first_error = first_error.or(Some(failure::component(component.name(), error)));
            }
        }
    }
    match first_error {
        Some(error) => Err(error),
        None => Ok(swapping && all_finished),
    }
}

pub(super) fn plan(store: &Store, task: &RestoreTask) -> Result<(CatalogueEntry, Vec<Part>)> {
    let Some(entry) = store.backup(&task.name)? else {
        let message = format!("there is no backup '{}' in the store '{}'", task.name, task.store_name);
        return Err(Error::new(ErrorKind::BackupNotFound, message));
    };
    if entry.format_version > FORMAT_VERSION {
        let message = format!(
            "backup '{}' has format version {}; this release knows up to {FORMAT_VERSION}. Restore it with a newer release",
            entry.name, entry.format_version
        );
        return Err(Error::new(ErrorKind::Incompatible, message));
    }
    if !matches!(entry.status.as_str(), stages::COMPLETED | stages::WITH_WARNINGS)
        || entry.components.is_empty()
    {
        let message = format!(
            "backup '{}' is not complete (its status is '{}')",
            entry.name,
            entry.status.escape_debug()
        );
        return Err(Error::new(ErrorKind::NotRestorable, message));
    }
    let means = |part: &EntryComponent, word: &str| {
        part.name == word || kind_word(part.kind).eq_ignore_ascii_case(word)
    };
    let words = &task.selection.components;
    if let Some(unknown) = words.iter().find(|word| !entry.components.iter().any(|part| means(part, word))) {
        let held: Vec<&str> = entry.components.iter().map(|part| part.name.as_str()).collect();
        let message =
            format!("backup '{}' holds no component '{unknown}'; it holds: {}", entry.name, held.join(", "));
        return Err(Error::new(ErrorKind::ParameterInvalid, message));
    }
    let (mut parts, mut missing) = (Vec::new(), Vec::new());
    for part in &entry.components {
        if !task.selection.includes(part.kind, &part.name) {
            continue;
        }
        let target = task.selection.target(&part.name);
        match task.components.iter().find(|c| c.name() == target && c.kind() == part.kind) {
            Some(component) => parts.push(Part { entry: part.clone(), component: Arc::clone(component) }),
            None => missing.push(format!("no {} named '{target}' is configured here", kind_word(part.kind))),
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "backup '{}' cannot be restored into this configuration: {}",
            entry.name,
            missing.join("; ")
        );
        let mut error = Error::new(ErrorKind::Incompatible, message);
        error.details = missing;
        return Err(error);
    }
    if !task.selection.redirected.is_empty()
        && let Some((one, other)) = meeting(&parts)
    {
        let message = format!(
            "target: '{one}' and '{other}' would both be restored into {}; restore one after the other",
            place_of(&parts, one)
        );
        return Err(Error::new(ErrorKind::ParameterInvalid, message));
    }
    if let Some(at) = task.selection.at {
        check_instant(&entry.name, at, &parts)?;
    }
    parts.sort_by_key(|part| stages::KINDS.iter().position(|kind| *kind == part.entry.kind));
    Ok((entry, parts))
}

fn place_of(parts: &[Part], name: &str) -> String {
    parts.iter().find(|part| part.entry.name == name).map(|part| part.component.place()).unwrap_or_default()
}

/// Two that would be restored into the same component, or into the same place, where one would take what the other has just put there.
fn meeting(parts: &[Part]) -> Option<(&str, &str)> {
    let same = |one: &Part, other: &Part| {
        one.entry.kind == other.entry.kind
            && (one.component.name() == other.component.name()
                || one.component.place() == other.component.place())
    };
    parts.iter().enumerate().find_map(|(at, one)| {
        let other = parts[..at].iter().find(|other| same(one, other))?;
        Some((other.entry.name.as_str(), one.entry.name.as_str()))
    })
}

/// Every selected component that holds more than one instant holds this one, and there is such a component.
fn check_instant(name: &str, at: i64, parts: &[Part]) -> Result<()> {
    let windows: Vec<_> =
        parts.iter().filter_map(|part| Some((&part.entry.name, part.entry.facts.window?))).collect();
    let refuse = |message: String| Err(Error::new(ErrorKind::ParameterInvalid, message));
    if windows.is_empty() {
        return refuse(format!(
            "backup '{name}' holds one instant alone of what is to be restored; leave the instant out, or choose a backup of a \
             component with method = \"physical\""
        ));
    }
    match windows.into_iter().find(|(_, window)| !(window.from..=window.until).contains(&at)) {
        None => Ok(()),
        Some((component, window)) => refuse(format!(
            "backup '{name}' holds component '{component}' at any instant from {} to {}, and {} is none of these",
            clock::exact(window.from),
            clock::exact(window.until),
            clock::exact(at)
        )),
    }
}

fn restore(
    store: &Store,
    task: &RestoreTask,
    control: &Arc<Control>,
    stages: &mut Stages<'_>,
    before_swap: &dyn Fn() -> Result<()>,
    begun: &mut Vec<Arc<dyn Component>>,
) -> Result<(CatalogueEntry, RestoreDone)> {
    stages.begin(stages::VALIDATION);
    let (entry, parts) = plan(store, task)?;
    let vault = store.open_vault(&entry, &task.passcode)?;
    let lock = lock(&vault, task)?;
    let index = load_index(&vault, &|_| true)?;
    look_for_packs(&entry, &parts, &vault, &index, control)?;
    stages.end(stages::VALIDATION, stages::COMPLETED);

    let mut staged = Vec::new();
    let ready = stage_all(task, &parts, &vault, &index, control, stages, begun, &mut staged).and_then(|()| {
        control
            .check()
            .map_err(|e| failure::engine("the restore was stopped before anything was changed", e))?;
        if let Some(lock) = &lock {
            lock.check()
                .map_err(|e| failure::engine("the lock on the vault was lost; nothing was changed", e))?;
        }
        before_swap()
    });
    if let Err(error) = ready {
        return Err(take_back(staged, error));
    }
    for position in 0..staged.len() {
        let Some((name, restore)) = staged.get_mut(position) else { continue };
        if let Err(error) = restore.swap() {
            let error = failure::component(name, error);
            return Err(take_back(staged, error));
        }
    }
    let done = finish_all(staged)?;
    for kind in stages::KINDS.into_iter().filter(|kind| parts.iter().any(|part| part.entry.kind == *kind)) {
        stages.end(&stages::restore_stage(kind), stages::COMPLETED);
    }
    stages.begin(stages::RESTORE_CLEANUP);
    Ok((entry, done))
}

type Staged = Vec<(String, Box<dyn StagedRestore>)>;

#[allow(clippy::too_many_arguments)]
fn stage_all(
    task: &RestoreTask,
    parts: &[Part],
    repository: &Repository,
    index: &Index,
    control: &Arc<Control>,
    stages: &mut Stages<'_>,
    begun: &mut Vec<Arc<dyn Component>>,
    staged: &mut Staged,
) -> Result<()> {
    for kind in stages::KINDS {
        let stage = stages::restore_stage(kind);
        let of_kind: Vec<&Part> = parts.iter().filter(|part| part.entry.kind == kind).collect();
        if of_kind.is_empty() {
            stages.skip(&stage);
            continue;
        }
        stages.begin(&stage);
        for part in of_kind {
            control
                .check()
                .map_err(|e| failure::engine("the restore was stopped before anything was changed", e))?;
            begun.push(Arc::clone(&part.component));
            let context = RestoreContext {
                repository,
                index,
                snapshot: part.entry.snapshot,
                job_id: &task.job_id,
                portion: task.selection.portion(&part.entry.name),
                // What holds one instant alone is restored as it was then.
                at: task.selection.at.filter(|_| part.entry.facts.window.is_some()),
                control: Arc::clone(control),
            };
            let name = part.component.name();
            let restore = part.component.stage(&context).map_err(|e| failure::component(name, e))?;
            staged.push((name.to_owned(), restore));
        }
    }
    Ok(())
}

/// Leaves every target as it was, and says where that did not succeed.
fn take_back(staged: Staged, mut error: Error) -> Error {
    for (name, restore) in staged.into_iter().rev() {
        if let Err(e) = restore.abandon() {
            error = error.detail(format!(
                "component '{name}' could not be put back as it was: {e}; this is tried again at the server's next start"
            ));
        }
    }
    error
}

/// All are swapped: each is finished, whatever becomes of the others.
fn finish_all(staged: Staged) -> Result<RestoreDone> {
    let mut done = RestoreDone::default();
    let (mut finished, mut failed) = (Vec::new(), None);
    let mut problems = Vec::new();
    for (name, restore) in staged {
        match restore.finish() {
            Ok(outcome) => {
                done.files += outcome.files;
                done.bytes += outcome.bytes;
                done.bytes_reused += outcome.bytes_reused;
                finished.push(name);
            }
            Err(e) => {
                problems.push(format!("component '{name}' was swapped in, but then: {e}"));
                failed = failed.or(Some(failure::component(&name, e)));
            }
        }
    }
    match failed {
        None => Ok(done),
        Some(mut error) => {
            error.details.extend(problems);
            error.details.push(format!(
                "restored completely: {}",
                if finished.is_empty() { "none".to_owned() } else { finished.join(", ") }
            ));
            Err(error)
        }
    }
}

/// Every blob that the selected snapshots need must be known before anything is begun. A pack that is missing is said
/// at once, but does not end the restore: another pack may hold the same blobs, and if none does, staging fails before
/// anything is changed.
pub(super) fn look_for_packs(
    entry: &CatalogueEntry,
    parts: &[Part],
    vault: &Repository,
    index: &Index,
    control: &Control,
) -> Result<()> {
    let what = format!("backup '{}' is not complete, nothing was changed", entry.name);
    let listing: HashMap<Id, u64> = vault.list_packs().map_err(|e| failure::engine(&what, e))?;
    for part in parts {
        let needed = repository::needed_packs(vault, index, part.entry.snapshot, control)
            .map_err(|e| failure::engine(&what, e))?;
        for missing in needed.iter().filter(|pack| !listing.contains_key(pack)) {
            let file = layout::vault_key(&entry.vault, &layout::pack_file(*missing));
            tracing::warn!(
                backup = entry.name,
                file,
                "a pack is missing; other copies of its content are looked for"
            );
        }
    }
    Ok(())
}

/// A shared lock keeps restic clients from pruning meanwhile. A store that is read-only or full is restored from
/// all the same.
pub(super) fn lock(vault: &Repository, task: &RestoreTask) -> Result<Option<Lock>> {
    use repository::ErrorKind as Engine;
    let owner =
        LockOwner { hostname: locks::name_of_restore(&task.job_id), username: "strongroom".to_owned() };
    // This job runs once at a time: a lock under its name is left from before a kill.
    let _ = vault.break_locks_of(&owner.hostname);
    match vault.lock(LockKind::Shared, &owner) {
        Ok(lock) => Ok(Some(lock)),
        Err(e) if matches!(e.kind, Engine::Denied | Engine::NoSpace) => {
            tracing::warn!(error = %e, "restoring without a lock on the vault");
            Ok(None)
        }
        Err(e) => Err(failure::engine("cannot lock the vault for a restore", e)),
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::RelationalStore => "relationalStore",
        Kind::ObjectStore => "objectStore",
        Kind::FileStore => "fileStore",
        Kind::SystemConfiguration => "systemConfiguration",
    }
}
