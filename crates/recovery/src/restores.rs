//! Asking for a restore: every check that needs no change, the passcode last, before anything durable exists.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::backups::{busy, is_main, read_only};
use crate::jobs::{SubmitJob, restore_stages, targets};
use crate::names::check_passcode;
use crate::recovery::{Inner, blocking};
use crate::state::{JobRow, LANE_MAIN};
use crate::work::{self, RestoreTask};
use crate::{Caller, Error, ErrorKind, Kind, RestoreBackup, Result, Selection};

const WRONG_WINDOW: Duration = Duration::from_secs(600);
const WRONG_FREE: usize = 5;
const WRONG_DELAY: Duration = Duration::from_secs(2);
/// Backups whose wrong passcodes are counted; more are only tried by somebody who guesses widely.
const WRONG_PLACES_MAX: usize = 1000;

/// Wrong passcodes per backup in the last ten minutes: beyond five the answer comes late.
#[derive(Debug, Default)]
pub(crate) struct WrongPasscodes(Mutex<HashMap<String, VecDeque<Instant>>>);

impl WrongPasscodes {
    /// Hands `error` back; late, if it is one wrong passcode too many for this backup.
    pub async fn note(&self, place: &str, error: Error) -> Error {
        if error.kind == ErrorKind::PasscodeWrong && self.count(place, Instant::now()) > WRONG_FREE {
            tokio::time::sleep(WRONG_DELAY).await;
        }
        error
    }

    fn count(&self, place: &str, now: Instant) -> usize {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = |at: &Instant| now.saturating_duration_since(*at) < WRONG_WINDOW;
        if places.len() >= WRONG_PLACES_MAX {
            places.retain(|_, tries| tries.back().is_some_and(recent));
        }
        if places.len() >= WRONG_PLACES_MAX && !places.contains_key(place) {
            return WRONG_FREE + 1;
        }
        let tries = places.entry(place.to_owned()).or_default();
        tries.retain(recent);
        tries.push_back(now);
        if tries.len() > WRONG_FREE + 1 {
            tries.pop_front();
        }
        tries.len()
    }
}

/// Why changes are refused while these jobs run.
pub(crate) fn restore_reason(active: &[JobRow]) -> Option<String> {
    active.iter().find(|job| job.operation == "Restore").map(|job| read_only(job).message)
}

impl Inner {
    /// `ReadOnly` while a restore runs, and while somebody made this server read-only.
    pub async fn refuse_while_read_only(&self) -> Result<()> {
        self.refuse_while_restoring().await?;
        match self.mode().await?.refusal() {
            Some(why) => Err(Error::new(ErrorKind::ReadOnly, why)),
            None => Ok(()),
        }
    }

    /// `ReadOnly` while a restore runs.
    pub async fn refuse_while_restoring(&self) -> Result<()> {
        let active = self.state.active_jobs().await?;
        active.iter().find(|job| job.operation == "Restore").map_or(Ok(()), |job| Err(read_only(job)))
    }

    pub async fn restore_backup(&self, request: RestoreBackup, caller: Caller) -> Result<Option<String>> {
        if let (false, Some(why)) = (request.validate_only, self.mode().await?.refusal()) {
            return Err(Error::new(ErrorKind::ReadOnly, why));
        }
        check_passcode(&request.passcode)?;
        let row = self.store_row(&request.store).await?;
        let view = self.backup(&row.name, &request.name).await?;
        if !view.is_complete() {
            let message =
                format!("Backup '{}' cannot be restored: its status is {}.", view.name, view.status);
            return Err(
                Error::new(ErrorKind::NotRestorable, message).detail(format!("jobid={}", view.job_id))
            );
        }
        admit_restore(&self.state.active_jobs().await?, &row.name, &view.name)?;
        let held: Vec<(Kind, &str)> =
            view.components.iter().map(|part| (part.kind, part.name.as_str())).collect();
        let selection = Selection::resolve(&request.wanted, &held)?;
        let task = RestoreTask {
            job_id: String::new(),
            name: view.name.clone(),
            store_name: row.name.clone(),
            passcode: request.passcode.clone(),
            components: self.settings.components.clone(),
            selection: selection.clone(),
        };
        let store = self.open_store_apart(&row).await?;
        let turn = self.passcode_turns.acquire().await;
        let checked =
            blocking(move || work::check_restore(&store, &task).map(|vault| (store, task, vault))).await;
        drop(turn);
        let (store, task, vault) = match checked {
            Ok(opened) => opened,
            Err(error) => {
                return Err(self.wrong_passcodes.note(&format!("{}/{}", row.name, view.name), error).await);
            }
        };
        blocking(move || work::check_portions(&store, &task, &vault)).await?;
        if request.validate_only {
            return Ok(None);
        }
        let mut parameters = json!(selection);
        parameters["targets"] = targets::of(&view, &selection, &self.settings.components);
        let job = SubmitJob {
            operation: "Restore",
            lane: LANE_MAIN,
            store: &row.name,
            backup: &view.name,
            parameters,
            passcode: Some(&request.passcode),
            stages: restore_stages(&view, &selection),
            run: None,
        };
        // Under the store's gate: a deletion that was just allowed is over or has not begun.
        let gate = self.gates.of(&row.name);
        let _alone = gate.lock().await;
        self.require_listed(&row, &view.name).await?;
        let id = self.submit(job, caller, |active| admit_restore(active, &row.name, &view.name)).await?;
        Ok(Some(id))
    }
}

/// May a restore of this backup start?
fn admit_restore(active: &[JobRow], store: &str, backup: &str) -> Result<()> {
    if let Some(job) = active.iter().find(|job| is_main(job)) {
        return Err(busy(job));
    }
    match active.iter().find(|job| job.operation == "Delete" && job.store == store && job.backup == backup) {
        Some(job) => {
            let message = format!("Backup '{backup}' cannot be restored: it is being deleted.");
            Err(Error::new(ErrorKind::NotRestorable, message).detail(format!("jobid={}", job.id)))
        }
        None => Ok(()),
    }
}

/// The kind's word in the interface.
pub(crate) fn kind_text(kind: Kind) -> &'static str {
    match kind {
        Kind::RelationalStore => "relationalStore",
        Kind::ObjectStore => "objectStore",
        Kind::FileStore => "fileStore",
        Kind::SystemConfiguration => "systemConfiguration",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sixth_wrong_passcode_in_ten_minutes_is_one_too_many() {
        let wrong = WrongPasscodes::default();
        let start = Instant::now();
        for n in 1..=5 {
            assert_eq!(wrong.count("s/b", start), n);
        }
        assert!(wrong.count("s/b", start) > WRONG_FREE);
        assert_eq!(wrong.count("s/other", start), 1);
        assert_eq!(wrong.count("s/b", start + WRONG_WINDOW), 1);
    }
}
