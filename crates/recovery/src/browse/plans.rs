//! What a restore would change: an open backup, component by component, compared with what is there now.
//!
//! It reads and changes nothing. It can take long, so it has places and a time of its own, and is broken off through the
//! engine's `Control` when the time is over, the server stops, or its future is dropped. A caller who goes away over HTTP
//! does not drop it: requests are worked off to their end.

use std::sync::Arc;
use std::time::Duration;

use repository::{Control, RestorePlan};

use super::{Opened, PlannedNames};
use crate::recovery::{Inner, blocking};
use crate::{Component, Error, ErrorKind, Kind, Result, Selection, Wanted};

/// Comparisons with what is there now, which are long: they have places of their own, so that listings go on beside them.
pub(super) const PLANS_MAX: usize = 2;
/// A comparison that takes longer is given up: it is there to be looked at. So long one waits for its turn, too.
const PLAN_TIME_MAX: Duration = Duration::from_secs(30);
/// How often a comparison looks whether its time is over or the server stops.
const PLAN_LOOK: Duration = Duration::from_millis(50);

/// What a restore of one component would change.
#[derive(Clone, Debug)]
pub struct ComponentPlan {
    /// Its name.
    pub name: String,
    /// Where its content would be replaced.
    pub place: String,
    /// The figures, or why there are none.
    pub plan: std::result::Result<RestorePlan, String>,
    /// The first names of what would change.
    pub names: PlannedNames,
}

/// Ends a comparison whose future is dropped, as when the server stops.
struct BreakOff(Arc<Control>);

impl Drop for BreakOff {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl Opened {
    /// Compares the components of these names with what is there now.
    fn plan(
        &self,
        components: &[Arc<dyn Component>],
        selection: &Selection,
        control: &Control,
    ) -> Result<Vec<ComponentPlan>> {
        let index = self.index()?;
        let parts = self.entry.components.iter().filter(|part| selection.includes(part.kind, &part.name));
        let plan = |part: &crate::store::EntryComponent| {
            let mut names = PlannedNames::default();
            let target = selection.target(&part.name);
            let found = components.iter().find(|c| c.name() == target && c.kind() == part.kind);
            let plan = match found {
                None => Err("No component of this name and kind is configured here.".to_owned()),
                Some(component) => component
                    .plan(
                        &self.vault,
                        &index,
                        part.snapshot,
                        &selection.portion(&part.name),
                        control,
                        &mut |path, change, _| {
                            names.note(path, change);
                            Ok(())
                        },
                    )
                    .map_err(|error| match control.check().is_err() {
                        true => "Comparing takes too long to be waited for here.".to_owned(),
                        false => error.to_string(),
                    }),
            };
            let place = found.map_or(part.place.clone(), |component| component.place());
            ComponentPlan { name: part.name.clone(), place, plan, names }
        };
        Ok(parts.map(plan).collect())
    }
}

impl Inner {
    pub async fn plan_restore(
        &self,
        session: &str,
        (store, name): (&str, &str),
        wanted: &Wanted,
    ) -> Result<Option<Vec<ComponentPlan>>> {
        let Some(opened) = self.opened(session, store, name) else { return Ok(None) };
        let held: Vec<(Kind, &str)> =
            opened.entry.components.iter().map(|part| (part.kind, part.name.as_str())).collect();
        let selection = Selection::resolve(wanted, &held)?;
        let components = self.settings.components.clone();
        let turn = tokio::time::timeout(PLAN_TIME_MAX, self.browsing.plans.acquire()).await;
        let Ok(_turn) = turn else {
            let message = "Too many comparisons are being made just now; try again in a moment.";
            return Err(Error::new(ErrorKind::Busy, message));
        };
        let control = Control::new();
        let _broken_off = BreakOff(control.clone());
        let work = blocking({
            let control = control.clone();
            move || opened.plan(&components, &selection, &control).map(Some)
        });
        let mut work = std::pin::pin!(work);
        let end = tokio::time::Instant::now() + PLAN_TIME_MAX;
        loop {
            tokio::select! {
                planned = &mut work => return planned,
                () = tokio::time::sleep(PLAN_LOOK) => {
                    if self.runner.is_stopping() || tokio::time::Instant::now() >= end {
                        control.cancel();
                    }
                }
            }
        }
    }
}
