//! What a worker holds while it works on a job: the lease, and with it the permission to write into the store.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use repository::Control;
use storage::Permit;

use crate::state::Lease;

/// After a cancellation or a stop the work may still tidy up (take its restic lock and its record of a running backup away)
/// for this long; then its writes are refused. Whether the job became complete meanwhile is looked at afterwards.
const TIDY_TIME: Duration = Duration::from_secs(15);

/// Why work on a job is to end before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Somebody asked for it: what was done is undone.
    Cancelled,
    /// The server stops: the job goes on at its next start.
    Paused,
    /// The lease is gone, or the server is: nothing more may be written at all.
    Lost,
}

/// One job at work in this process. The engine's threads ask it before each write.
pub(crate) struct Held {
    pub lease: Lease,
    pub control: Arc<Control>,
    length: Duration,
    state: Mutex<State>,
    /// Why it is cancelled, if nobody asked for it.
    pub reason: OnceLock<String>,
}

struct State {
    /// By the monotonic clock, taken before the renewal was sent: never later than what the row says.
    renewed: Instant,
    stop: Option<(Stop, Instant)>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Held").field(&self.lease).finish()
    }
}

impl Held {
    /// A lease that was taken or renewed no earlier than `renewed`.
    pub fn new(lease: Lease, length: Duration, renewed: Instant) -> Self {
        let state = Mutex::new(State { renewed, stop: None });
        Self { lease, control: Control::new(), length, state, reason: OnceLock::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a renewal. One that comes after the lease had run out comes too late: meanwhile writes were refused.
    pub fn renewed(&self, sent: Instant) {
        let mut state = self.state();
        if state.renewed.elapsed() < self.length {
            state.renewed = sent;
        }
    }

    /// Makes the work end. A loss outweighs a stop of the server, which outweighs a cancellation.
    pub fn stop(&self, why: Stop) {
        let mut state = self.state();
        let outweighed = match state.stop {
            None => true,
            Some((Stop::Cancelled, _)) => why != Stop::Cancelled,
            Some((Stop::Paused, _)) => why == Stop::Lost,
            Some((Stop::Lost, _)) => false,
        };
        if outweighed {
            state.stop = Some((why, Instant::now()));
        }
        drop(state);
        self.control.cancel();
    }

    /// Why the work was to end, if it was; a lease that has run out counts as lost from then on.
    pub fn stopped(&self) -> Option<Stop> {
        let expired = self.state().renewed.elapsed() >= self.length;
        if expired {
            self.stop(Stop::Lost);
        }
        self.state().stop.map(|(why, _)| why)
    }

    fn refusal(&self, undoing: bool) -> Option<&'static str> {
        let stopped = self.stopped();
        let since = self.state().stop.map(|(_, at)| at.elapsed()).unwrap_or_default();
        match stopped {
            None => None,
            Some(Stop::Lost) => Some("the lease on this job is lost; another worker may have taken it over"),
            Some(Stop::Cancelled) if undoing => None,
            _ if since < TIDY_TIME => None,
            Some(Stop::Cancelled) => Some("the job was cancelled"),
            Some(Stop::Paused) => Some("the server is stopping; the job goes on at its next start"),
        }
    }
}

impl Permit for Held {
    fn may_write(&self) -> Result<(), String> {
        self.refusal(false).map_or(Ok(()), |why| Err(why.to_owned()))
    }
}

/// The permit of what takes a cancelled or failed job's traces away.
pub(crate) struct Undo(pub Arc<Held>);

impl Permit for Undo {
    fn may_write(&self) -> Result<(), String> {
        self.0.refusal(true).map_or(Ok(()), |why| Err(why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(length: Duration, renewed: Instant) -> Held {
        Held::new(Lease { job_id: "j1".to_owned(), token: 1 }, length, renewed)
    }

    #[test]
    fn a_lease_that_was_not_renewed_in_time_refuses_writes_for_ever() {
        let long_ago = Instant::now() - Duration::from_secs(60);
        let held = held(Duration::from_secs(30), long_ago);
        assert!(held.may_write().unwrap_err().contains("lease"));
        assert!(held.control.check().is_err());
        held.renewed(Instant::now());
        assert!(held.may_write().is_err(), "a renewal that comes too late gives nothing back");
    }

    #[test]
    fn a_renewed_lease_allows_writes() {
        let held = held(Duration::from_secs(30), Instant::now() - Duration::from_secs(20));
        held.renewed(Instant::now());
        assert!(held.may_write().is_ok());
        assert_eq!(held.stopped(), None);
    }

    #[test]
    fn a_stopped_job_may_tidy_up_for_a_while_and_undo_longer() {
        let held = Arc::new(held(Duration::from_secs(3600), Instant::now()));
        held.stop(Stop::Cancelled);
        assert!(held.control.check().is_err());
        assert!(held.may_write().is_ok());
        held.state().stop = Some((Stop::Cancelled, Instant::now() - TIDY_TIME));
        assert!(held.may_write().unwrap_err().contains("cancelled"));
        assert!(Undo(held.clone()).may_write().is_ok());
        held.stop(Stop::Lost);
        assert!(Undo(held).may_write().is_err());
    }

    #[test]
    fn a_loss_outweighs_a_pause_and_a_pause_a_cancellation() {
        let held = held(Duration::from_secs(3600), Instant::now());
        held.stop(Stop::Cancelled);
        held.stop(Stop::Paused);
        held.stop(Stop::Cancelled);
        assert_eq!(held.stopped(), Some(Stop::Paused));
        held.stop(Stop::Lost);
        held.stop(Stop::Paused);
        assert_eq!(held.stopped(), Some(Stop::Lost));
    }
}
