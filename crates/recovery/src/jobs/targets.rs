//! What a restore changes: name and place of each component, kept with its job.
//!
//! The configuration may be another one when an interrupted restore goes on. A component that is gone, or lies elsewhere
//! now, may hold the half of a swap: such a restore must not end as complete, and is tried again at each start until
//! its component is configured again. So must what an earlier, failed restore left be settled before a new one begins:
//! the other way round it would undo the newer content.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::recovery::{Inner, blocking};
use crate::state::JobRow;
use crate::work;
use crate::{BackupView, Component, Error, ErrorKind, Result, Selection};

/// For a job's parameters: the components that this restore changes.
pub(crate) fn of(backup: &BackupView, selection: &Selection, components: &[Arc<dyn Component>]) -> Value {
    let in_backup = |component: &Arc<dyn Component>| {
        let source = selection.source(component.kind(), component.name());
        backup
            .components
            .iter()
            .any(|part| part.kind == component.kind() && Some(part.name.as_str()) == source)
    };
    let changed = components.iter().filter(|component| in_backup(component));
    changed.map(|component| json!({"name": component.name(), "place": component.place()})).collect()
}

/// What a restore's job restores.
pub(crate) fn selection_of(job: &JobRow) -> Result<Selection> {
    serde_json::from_value(job.parameters.clone()).map_err(|e| {
        let message = format!("the parameters of job {} are not understood: {e}; restore again", job.id);
        Error::new(ErrorKind::Internal, message)
    })
}

/// Why the restore cannot go on: a component that it had begun with is gone, or lies elsewhere now.
pub(super) fn gone(job: &JobRow, components: &[Arc<dyn Component>]) -> Option<Error> {
    let targets = job.parameters["targets"].as_array()?;
    let missing: Vec<String> = targets
        .iter()
        .map(|target| {
            let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
            (text("name"), text("place"))
        })
        .filter(|(name, place)| {
            !components.iter().any(|component| component.name() == name && component.place() == *place)
        })
        .map(|(name, place)| format!("component '{name}' at {place}"))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let message = format!(
        "the server stopped during this restore, and the configuration has no longer: {}. What the restore had begun \
         there may be incomplete; configure it again and restart the server, which puts it right",
        missing.join(", ")
    );
    Some(Error::new(ErrorKind::Incompatible, message))
}

impl Inner {
    /// Finishes or undoes what earlier, failed restores left in these components; without that nothing new may begin
    /// there.
    pub async fn clear_the_way(&self, components: &[Arc<dyn Component>]) -> Result<()> {
        for job in self.state.failed_restores().await? {
            let (id, parts, selection) = (job.id.clone(), components.to_vec(), selection_of(&job)?);
            blocking(move || work::recover_restore(&id, &parts, &selection, true)).await.map_err(|error| {
                let message = format!(
                    "nothing was changed: an earlier restore (job {}) left something that must be put right first: {}",
                    job.id, error.message
                );
                Error { message, ..error }
            })?;
        }
        Ok(())
    }
}
