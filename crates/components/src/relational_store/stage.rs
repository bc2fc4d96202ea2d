//! A restore up to the point where nothing has changed yet: every database is built beside the present one.
//!
//! manifest → what of it (`select`) → can it be restored here (`check`)? → roles that are missing (`roles`) → each database (`build`)

use std::sync::Arc;

use repository::RestoreOutcome;

use super::build::{Builder, create};
use super::check::check;
use super::names::Names;
use super::physical::{self, Recovery};
use super::roles::make_roles;
use super::select::{refuse_taken, select};
use super::snapshot::Snapshot;
use super::tools::Tools;
use super::trace::Trace;
use super::{RelationalStore, inventory, swap};
use crate::{Error, ErrorKind, RestoreContext, Result, StagedRestore};

/// A restore whose databases are built.
pub(super) struct Staged {
    store: RelationalStore,
    trace: Trace,
    outcome: RestoreOutcome,
    /// The name of each in the end, and its number in the server's catalogue.
    built: Vec<(String, u32)>,
    swapped: bool,
}

/// Of a physical backup the wanted instant is recovered first.
pub(super) fn stage(store: &RelationalStore, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>> {
    let snapshot = Snapshot::open(context.repository, context.index, context.snapshot)?;
    if snapshot.physical_if_any(&context.control)?.is_none() {
        return match context.at {
            None => stage_rows(store, context),
            Some(_) => {
                let message = "the backup was made by the logical way and holds one instant alone";
                Err(Error::new(ErrorKind::Missing, message))
            }
        };
    }
    let recovered = physical::recover(&Recovery {
        store,
        repository: context.repository,
        index: context.index,
        snapshot: context.snapshot,
        job_id: context.job_id,
        directory: &store.settings.clusters_directory,
        at: context.at,
        portion: &context.portion,
        control: &context.control,
    })?;
    let context = RestoreContext {
        repository: &recovered.repository,
        index: &recovered.index,
        snapshot: recovered.snapshot,
        job_id: context.job_id,
        portion: context.portion.clone(),
        at: None,
        control: Arc::clone(&context.control),
    };
    stage_rows(store, &context)
}

fn stage_rows(store: &RelationalStore, context: &RestoreContext<'_>) -> Result<Box<dyn StagedRestore>> {
    let control = &*context.control;
    let snapshot = Snapshot::open(context.repository, context.index, context.snapshot)?;
    let selected = select(snapshot.manifest(control)?, &context.portion)?;
    let manifest = &selected.manifest;
    let mut client = swap::aside(&store.server, &[])?;
    refuse_taken(&mut client, &selected)?;
    let about = inventory::about(&mut client)?;
    check(&mut client, &about, manifest, control)?;
    let tools =
        Tools::find(store.settings.tools_directory.as_deref(), about.major().max(manifest.tools_version))?;
    make_roles(&mut client, about.major(), manifest, control)?;

    let trace = store.trace(Names::new(context.job_id, &store.settings.name));
    swap::clear_leftovers(&store.server, &trace.directory, &trace.component);
    trace.write(&[])?;
    let mut staged = Staged {
        store: store.clone(),
        trace,
        outcome: RestoreOutcome::default(),
        built: Vec::new(),
        swapped: false,
    };
    let builder = Builder { store, snapshot: &snapshot, tools: &tools, control };
    for (number, database) in manifest.databases.iter().enumerate() {
        let name = staged.trace.names.new_one(number);
        let made = create(&mut client, &about, database, &name, selected.beside)?;
        staged.built.push((database.name.clone(), made));
        builder.build(&mut client, database, selected.tables.as_ref(), &name, &mut staged.outcome)?;
    }
    staged.trace.write(&staged.built)?;
    Ok(Box::new(staged))
}

impl StagedRestore for Staged {
    fn swap(&mut self) -> Result<()> {
        // Even after an error: the answer may have been lost.
        self.swapped = true;
        swap::swap_in(&self.store.server, &self.trace.names)
    }

    fn finish(self: Box<Self>) -> Result<RestoreOutcome> {
        swap::remove(&self.store.server, &self.trace.names, true)?;
        self.trace.remove()?;
        Ok(self.outcome.clone())
    }

    fn abandon(mut self: Box<Self>) -> Result<()> {
        self.swapped = true;
        swap::abandon(&self.store.server, &self.trace, &self.built)
    }
}

impl Drop for Staged {
    /// What a restore that failed had built goes; if the server is away, with the next backup or restore.
    fn drop(&mut self) {
        if self.swapped {
            return;
        }
        let removed =
            swap::remove(&self.store.server, &self.trace.names, false).and_then(|()| self.trace.remove());
        if let Err(error) = removed {
            tracing::warn!(component = self.store.settings.name, %error, "what a restore had built could not be removed yet");
        }
    }
}
