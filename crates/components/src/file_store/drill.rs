//! A drill of files: restored into scratch, read back, and given to the operator's own checks.

use std::path::Path;
use std::time::Instant;

use repository::{RestoreRequest, TreeSize};

use super::directory;
use super::stage::{missing_room, subpath};
use crate::drill::{FILES, Place};
use crate::{Component, DrillContext, Drilled, Error, ErrorKind, Hooks, Result};

/// Where the content comes to lie in the drill's place; beside it nothing does.
const CONTENT: &str = "content";

/// A drill must not fill the disk on which perhaps the state of the server lies as well.
pub(crate) fn refuse_without_room(component: &str, place: &Path, size: &TreeSize) -> Result<()> {
    let io = |e| Error::io(format!("cannot look at {}", place.display()), e);
    match missing_room(directory::open(place).map_err(io)?, size).map_err(io)? {
        None => Ok(()),
        Some(missing) => {
            let message = format!(
                "a drill of component '{component}' in {} {missing}; make room there, or set drills.directory",
                place.display()
            );
            Err(Error::new(ErrorKind::NoSpace, message))
        }
    }
}

/// Restores the files of a snapshot, checks them with `check` and the operator's own checks, and removes them.
pub(crate) fn drill_files(
    owner: &dyn Component,
    hooks: &Hooks,
    context: &DrillContext<'_>,
    drilled: &mut Drilled,
    check: &dyn Fn(&Path) -> Result<()>,
) -> Result<()> {
    let component = owner.name();
    let fail = |e| Error::engine(format!("component '{component}' cannot be restored"), e);
    let mut since = Instant::now();
    let place = Place::make(context.directory, context.job_id, component, FILES)?;
    let subpath = subpath(component, context.repository, context.snapshot)?;
    let size = repository::measure(context.repository, context.index, context.snapshot, Some(&subpath))
        .map_err(fail)?;
    refuse_without_room(component, &place.path(), &size)?;
    drilled.prepared(&mut since);

    let content = place.path().join(CONTENT);
    let request = RestoreRequest {
        subpath: Some(subpath),
        verify: true,
        ..RestoreRequest::new(context.snapshot, content.clone())
    };
    let outcome = repository::restore(context.repository, context.index, &request, &context.control);
    drilled.restored(&mut since);
    let outcome = outcome.map_err(fail)?;
    (drilled.files, drilled.bytes) = (outcome.files, outcome.bytes);

    drilled.proven.push(format!(
        "component '{component}': {} files, {} directories and {} other entries with {} bytes were restored; each was read back and \
         has the content of the backup",
        outcome.files, outcome.dirs, outcome.other, outcome.bytes
    ));
    let checked = check(&content)
        .and_then(|()| hooks.drill_check(owner, content.display().to_string(), Vec::new(), &context.control));
    drilled.checked(&mut since);
    checked?;
    drilled.note_own_check(component, hooks);
    place.remove()
}
