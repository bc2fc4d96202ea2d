//! A drill of databases: the same restore as ever, into a server of our own that goes again.

use std::time::Instant;

use repository::{Control, TreeSize};

use super::cluster::{Cluster, cancelled};
use super::manifest::Manifest;
use super::physical::{self, Recovery};
use super::prove::Prover;
use super::snapshot::Snapshot;
use super::tools::Tools;
use super::{RelationalStore, stage};
use crate::drill::{ARCHIVES, CLUSTER, Place};
use crate::{DrillContext, Drilled, Hooks, RestoreContext, Result, StagedRestore, file_store};

/// Rows as they lie in tables, with their indexes, are about so many times as long as in a backup.
const WITH_INDEXES: u64 = 2;
/// What a server writes besides.
const LOG_BYTES: u64 = 1 << 30;
/// Tablespaces that every server has.
const OWN_TABLESPACES: [&str; 2] = ["pg_default", "pg_global"];

pub(super) fn drill(
    store: &RelationalStore,
    context: &DrillContext<'_>,
    drilled: &mut Drilled,
) -> Result<()> {
    let outcome = run(store, context, drilled);
    // The server was taken away under whatever was going on.
    match outcome {
        Err(_) if is_cancelled(&context.control) => Err(cancelled()),
        other => other,
    }
}

fn is_cancelled(control: &Control) -> bool {
    control.cancelled.load(std::sync::atomic::Ordering::Relaxed)
}

/// Of a physical backup the last instant is recovered first; what comes of that is drilled as ever.
fn run(store: &RelationalStore, context: &DrillContext<'_>, drilled: &mut Drilled) -> Result<()> {
    let snapshot = Snapshot::open(context.repository, context.index, context.snapshot)?;
    let Some(manifest) = snapshot.physical_if_any(&context.control)? else {
        return run_logical(store, context, drilled);
    };
    let mut since = Instant::now();
    let recovered = physical::recover(&Recovery {
        store,
        repository: context.repository,
        index: context.index,
        snapshot: context.snapshot,
        job_id: context.job_id,
        directory: context.directory,
        at: None,
        portion: &crate::Portion::default(),
        control: &context.control,
    });
    drilled.restored(&mut since);
    let recovered = recovered?;
    drilled.proven.push(format!(
        "component '{}': the base passes pg_verifybackup, and its log is replayed until the end of the backup, by PostgreSQL {}",
        store.settings.name,
        manifest.server_major()
    ));
    drilled.not_proven.push(format!(
        "that the rows of component '{}' are what they were: beside the sums of pages there is nothing to compare them with",
        store.settings.name
    ));
    let context = DrillContext {
        repository: &recovered.repository,
        index: &recovered.index,
        snapshot: recovered.snapshot,
        job_id: context.job_id,
        directory: context.directory,
        control: std::sync::Arc::clone(&context.control),
    };
    run_logical(store, &context, drilled)
}

fn run_logical(store: &RelationalStore, context: &DrillContext<'_>, drilled: &mut Drilled) -> Result<()> {
    let control = &*context.control;
    let mut since = Instant::now();
    let manifest = Snapshot::open(context.repository, context.index, context.snapshot)?.manifest(control)?;
    let tools = Tools::find_server(store.settings.tools_directory.as_deref(), manifest.server_major())?;
    control.progress.set_current("the server of the drill");
    let archives = Place::make(context.directory, context.job_id, &store.settings.name, ARCHIVES)?;
    let home = Place::make(context.directory, context.job_id, &store.settings.name, CLUSTER)?;
    let rows: u64 = manifest
        .databases
        .iter()
        .flat_map(|one| &one.tables)
        .flat_map(|one| &one.parts)
        .map(|one| one.bytes)
        .sum();
    let size =
        TreeSize { files: 1, dirs: 1, bytes: rows.saturating_mul(WITH_INDEXES).saturating_add(LOG_BYTES) };
    file_store::refuse_without_room(&store.settings.name, &home.path(), &size)?;
    let started = Cluster::start(&home, &tools, &tablespaces(&manifest), &context.control);
    drilled.prepared(&mut since);
    let cluster = started?;

    let mut there = store.clone();
    there.server = cluster.server.clone();
    there.settings.hooks = Hooks::default();
    there.settings.scratch_directory = archives.path();
    let outcome = restore(&there, context);
    drilled.restored(&mut since);
    let outcome = outcome?;
    (drilled.files, drilled.bytes) = (outcome.files, outcome.bytes);

    let checked = check(store, &there, &manifest, &tools, &home, context, drilled);
    drilled.checked(&mut since);
    checked?;
    drop(cluster);
    home.remove()?;
    archives.remove()
}

fn tablespaces(manifest: &Manifest) -> Vec<&str> {
    let mut names: Vec<&str> = manifest
        .databases
        .iter()
        .flat_map(|database| database.tablespaces.iter().chain([&database.tablespace]))
        .map(String::as_str)
        .filter(|name| !OWN_TABLESPACES.contains(name))
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn restore(there: &RelationalStore, context: &DrillContext<'_>) -> Result<repository::RestoreOutcome> {
    let context = RestoreContext {
        repository: context.repository,
        index: context.index,
        snapshot: context.snapshot,
        job_id: context.job_id,
        portion: crate::Portion::default(),
        at: None,
        control: std::sync::Arc::clone(&context.control),
    };
    let mut staged: Box<dyn StagedRestore> = stage::stage(there, &context)?;
    staged.swap()?;
    staged.finish()
}

fn check(
    store: &RelationalStore,
    there: &RelationalStore,
    manifest: &Manifest,
    tools: &Tools,
    home: &Place,
    context: &DrillContext<'_>,
    drilled: &mut Drilled,
) -> Result<()> {
    let control = &*context.control;
    drilled.proven.push(format!(
        "component '{}': a server of PostgreSQL {} holds what was backed up of release {} (databases: {}, roles: {})",
        store.settings.name,
        tools.major,
        manifest.server_major(),
        manifest.databases.len(),
        manifest.roles.len()
    ));
    drilled.not_proven.push(format!(
        "that functions, views, sequences and rights of component '{}' are what they were: they were restored without an error, and \
         are compared with nothing",
        store.settings.name
    ));
    for database in &manifest.databases {
        control.progress.set_current(&format!("database {}", database.name));
        Prover { server: &there.server, database, connections: there.settings.connections, control, drilled }
            .prove()?;
    }
    if !drilled.failures.is_empty() {
        return Ok(());
    }
    let hooks = &store.settings.hooks;
    let place = there.server.address();
    hooks.drill_check(store, place, Cluster::environment(&home.path()), control)?;
    drilled.note_own_check(&store.settings.name, hooks);
    Ok(())
}
