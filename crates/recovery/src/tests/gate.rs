//! A component that stops at chosen points of its work, so that a test can do something just then.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use components::{BackupContext, DrillContext, Drilled, Recovered, RestoreContext, StagedRestore};
use repository::Control;

use crate::{Component, Kind, Portion};

/// Where the work stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    Plan,
    Backup,
    Staged,
    Swapped,
}

#[derive(Debug, Default)]
struct State {
    closed: Vec<Point>,
    waiting: Option<Point>,
    dies: bool,
}

/// Lets work through except at closed points.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate(Arc<(Mutex<State>, Condvar)>);

impl Gate {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    /// From now on work stops at this point.
    pub fn close(&self, point: Point) {
        self.state().closed.push(point);
    }

    /// Lets everything through.
    pub fn open(&self) {
        self.state().closed.clear();
        self.0.1.notify_all();
    }

    /// Waits until work has come to the point.
    pub async fn reached(&self, point: Point) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.state().waiting != Some(point) {
            assert!(Instant::now() < deadline, "nothing came to {point:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether work stands at the point.
    pub fn is_at(&self, point: Point) -> bool {
        self.state().waiting == Some(point)
    }

    /// Waits until work has left the point.
    pub async fn left(&self, point: Point) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.state().waiting == Some(point) {
            assert!(Instant::now() < deadline, "nothing left {point:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The thread that waits at the gate ends like one of a killed process: nothing after this point is done.
    pub fn die(&self) {
        self.state().dies = true;
        self.0.1.notify_all();
    }

    fn pass(&self, point: Point, control: &Control) -> components::Result<()> {
        let mut state = self.state();
        while state.closed.contains(&point) {
            state.waiting = Some(point);
            state = self.0.1.wait_timeout(state, Duration::from_millis(20)).unwrap().0;
            if state.dies {
                (state.dies, state.waiting) = (false, None);
                drop(state);
                panic!("killed at {point:?} (on purpose)");
            }
            if point != Point::Swapped && control.check().is_err() {
                state.waiting = None;
                let message = "stopped at the gate".to_owned();
                return Err(components::Error {
                    kind: components::ErrorKind::Cancelled,
                    message,
                    source: None,
                });
            }
        }
        state.waiting = None;
        Ok(())
    }
}

/// `inner`, through a gate.
#[derive(Debug)]
pub(crate) struct Gated {
    pub inner: Arc<dyn Component>,
    pub gate: Gate,
}

struct GatedRestore {
    inner: Box<dyn StagedRestore>,
    gate: Gate,
    control: Arc<Control>,
}

impl Component for Gated {
    fn kind(&self) -> Kind {
        self.inner.kind()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn optional(&self) -> bool {
        self.inner.optional()
    }

    fn place(&self) -> String {
        self.inner.place()
    }

    fn probe(&self) -> components::Result<()> {
        self.inner.probe()
    }

    fn backup(&self, context: &BackupContext<'_>) -> components::Result<components::Backup> {
        let done = self.inner.backup(context)?;
        self.gate.pass(Point::Backup, &context.control)?;
        Ok(done)
    }

    fn after_backup(&self) -> components::Result<()> {
        self.inner.after_backup()
    }

    fn stage(&self, context: &RestoreContext<'_>) -> components::Result<Box<dyn StagedRestore>> {
        let inner = self.inner.stage(context)?;
        self.gate.pass(Point::Staged, &context.control)?;
        Ok(Box::new(GatedRestore { inner, gate: self.gate.clone(), control: context.control.clone() }))
    }

    fn check(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        control: &repository::Control,
    ) -> components::Result<()> {
        self.inner.check(repository, index, snapshot, portion, control)
    }

    fn plan(
        &self,
        repository: &repository::Repository,
        index: &repository::Index,
        snapshot: repository::Id,
        portion: &Portion,
        control: &repository::Control,
        visit: &mut repository::VisitPlanned<'_>,
    ) -> components::Result<repository::RestorePlan> {
        self.gate.pass(Point::Plan, control)?;
        self.inner.plan(repository, index, snapshot, portion, control, visit)
    }

    fn recover(&self, job_id: &str, portion: &Portion) -> components::Result<Recovered> {
        self.inner.recover(job_id, portion)
    }

    fn after_restore(&self) -> components::Result<()> {
        self.inner.after_restore()
    }

    fn drill(&self, context: &DrillContext<'_>, drilled: &mut Drilled) -> components::Result<()> {
        self.inner.drill(context, drilled)
    }
}

impl StagedRestore for GatedRestore {
    fn swap(&mut self) -> components::Result<()> {
        self.inner.swap()?;
        self.gate.pass(Point::Swapped, &self.control)
    }

    fn finish(self: Box<Self>) -> components::Result<repository::RestoreOutcome> {
        self.inner.finish()
    }

    fn abandon(self: Box<Self>) -> components::Result<()> {
        self.inner.abandon()
    }
}
