//! What a killed restore left behind is finished or undone, without the backup and without its passcode.
//!
//! Before the swap was announced the target is untouched: the staging directory goes. After that the swap is
//! completed, from whatever step; if that fails it is taken back.

use std::path::Path;

use super::journal::{Journal, Phase};
use super::place;
use super::remove::Left;
use super::staging::{Staging, finished_name};
use super::swap::Swap;
use crate::{Recovered, Result};

/// Recovers one job's restore of one target. Idempotent.
pub(super) fn recover(component: &str, target: &Path, job_id: &str) -> Result<Recovered> {
    recover_with(component, target, job_id, &mut |_| {})
}

/// The same, with a chance to prepare each swap before it goes on (tests).
pub(super) fn recover_with(
    component: &str,
    target: &Path,
    job_id: &str,
    adjust: &mut dyn FnMut(&mut Swap),
) -> Result<Recovered> {
    let target = place::resolve(target)?;
    let name = place::staging_name(job_id, &target)?;
    let mut recovered = Recovered::Nothing;
    for parent in [target.parent(), Some(target.as_path())].into_iter().flatten() {
        if let Some(staging) = Staging::open(parent, &finished_name(&name))? {
            log_left(component, &staging, &staging.remove());
            recovered = Recovered::Finished;
        }
        let Some(staging) = Staging::open(parent, &name)? else { continue };
        let Some(journal) = Journal::load(&staging.directory, &staging.path, &target)? else {
            log_left(component, &staging, &staging.remove());
            recovered = Recovered::Undone;
            continue;
        };
        let mut swap = Swap::of(&target, staging, journal);
        adjust(&mut swap);
        let result = proceed(component, &mut swap);
        for warning in &swap.warnings {
            tracing::warn!(component, "{warning}");
        }
        recovered = result?;
    }
    Ok(recovered)
}

fn log_left(component: &str, staging: &Staging, left: &Left) {
    if left.count > 0 {
        let path = staging.path.display();
        tracing::warn!(component, "{path} could not be removed whole ({})", left.failures.join(", "));
    }
}

fn proceed(component: &str, swap: &mut Swap) -> Result<Recovered> {
    let (phase, target) = (swap.journal.phase, swap.target.display().to_string());
    match phase {
        Phase::Staging | Phase::Staged | Phase::TakingOut | Phase::PuttingBack => {
            tracing::info!(component, target, ?phase, "undoing an interrupted restore");
            swap.give_up()?;
            Ok(Recovered::Undone)
        }
        Phase::Swapping | Phase::MovingOut | Phase::MovingIn | Phase::Swapped => {
            tracing::info!(component, target, ?phase, "finishing an interrupted restore");
            match swap.run() {
                Ok(()) => {
                    swap.finish()?;
                    Ok(Recovered::Finished)
                }
                Err(error) if swap.journal.phase == Phase::Staging => {
                    tracing::error!(component, "cannot finish an interrupted restore: {error}");
                    swap.give_up()?;
                    Ok(Recovered::Undone)
                }
                Err(error) => Err(error),
            }
        }
    }
}
