//! What keeps jobs going: the lanes that claim them, the thread that prolongs their leases, and the hourly chores.
//!
//! The heartbeat is an operating-system thread with a small runtime of its own, so that neither the engine's threads
//! nor a busy server can keep it from its statement. It renews at a third of the lease.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use repository::Control;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::lease::{Held, Stop};
use super::targets;
use crate::clock::{self, now_ms};
use crate::recovery::{Inner, blocking};
use crate::state::{LANE_MAIN, LANE_SIDE, LANE_VERIFY, State};
use crate::work;
use crate::{Error, ErrorKind, Result};

/// A stopping server waits this long for its jobs to reach a safe point.
const STOP_TIME: Duration = Duration::from_secs(20);
/// A lane looks this often for work that nobody announced, such as a job whose lease ran out.
const IDLE_TIME: Duration = Duration::from_secs(5);
const HOUR_MS: i64 = 3_600_000;

/// The background work of one server.
pub(crate) struct Runner {
    pub lease: Duration,
    lanes: HashMap<&'static str, Notify>,
    running: Mutex<HashMap<String, Arc<Held>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    heartbeat: Mutex<Option<Thread>>,
    started: AtomicBool,
    stopping: AtomicBool,
    killed: AtomicBool,
    deleted: Notify,
    tasks_due: Notify,
    /// Runs of tasks whose jobs are being made just now.
    beginning: Mutex<HashSet<String>>,
    /// Ends reclaiming when the server stops; what it did not get to, the next hour does.
    pub reclaiming: Arc<Control>,
}

impl Runner {
    /// Nothing runs yet.
    pub fn new(lease: Duration) -> Self {
        let lanes = [LANE_MAIN, LANE_SIDE, LANE_VERIFY].map(|lane| (lane, Notify::new()));
        Self {
            lease,
            lanes: HashMap::from(lanes),
            running: Mutex::default(),
            tasks: Mutex::default(),
            heartbeat: Mutex::default(),
            started: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            deleted: Notify::new(),
            tasks_due: Notify::new(),
            beginning: Mutex::default(),
            reclaiming: Control::new(),
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<String, Arc<Held>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tasks(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server stops or is gone.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst) || self.is_killed()
    }

    /// Whether nothing more may be written at all.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// There is work in a lane.
    pub fn wake(&self, lane: &str) {
        if let Some(notify) = self.lanes.get(lane) {
            notify.notify_one();
        }
    }

    /// Something left a catalogue: its space may be freed after the grace time.
    pub fn reclaim_soon(&self) {
        self.deleted.notify_one();
    }

    /// Schedules were changed, or a run was asked for.
    pub fn wake_tasks(&self) {
        self.tasks_due.notify_one();
    }

    /// A run's job is going to be made; `None` if somebody is at it already.
    pub fn begin_run(self: &Arc<Self>, run: &str) -> Option<Beginning> {
        let is_new = self.beginning().insert(run.to_owned());
        is_new.then(|| Beginning { runner: self.clone(), run: run.to_owned() })
    }

    fn beginning(&self) -> MutexGuard<'_, HashSet<String>> {
        self.beginning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until then.
    pub async fn tasks_woken(&self) {
        self.tasks_due.notified().await;
    }

    /// Stops the work on one job, if it is at work here.
    pub fn cancel(&self, job_id: &str) {
        if let Some(held) = self.running().get(job_id) {
            held.stop(Stop::Cancelled);
        }
    }

    /// Work on a job begins.
    pub fn begin(&self, held: &Arc<Held>) {
        self.running().insert(held.lease.job_id.clone(), held.clone());
        if self.is_stopping() {
            held.stop(if self.is_killed() { Stop::Lost } else { Stop::Paused });
        }
    }

    /// Work on a job has ended.
    pub fn end(&self, held: &Arc<Held>) {
        self.running().remove(&held.lease.job_id);
    }

    /// Pauses all jobs and waits until they have paused.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.reclaiming.cancel();
        for held in self.running().values() {
            held.stop(Stop::Paused);
        }
        self.lanes.values().for_each(Notify::notify_one);
        self.tasks_due.notify_one();
        let deadline = tokio::time::Instant::now() + STOP_TIME;
        let tasks = std::mem::take(&mut *self.tasks());
        for mut task in tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                tracing::warn!("a job did not pause in time; it goes on at the next start");
                task.abort();
            }
        }
        self.kill();
    }

    /// Ends everything at once, as the death of the process would.
    pub fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.reclaiming.cancel();
        for held in self.running().values() {
            held.stop(Stop::Lost);
        }
        for task in self.tasks().drain(..) {
            task.abort();
        }
        if let Some(thread) = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner).take() {
            thread.unpark();
        }
    }
}

/// One run whose job is being made; dropped, it is free again.
pub(crate) struct Beginning {
    runner: Arc<Runner>,
    run: String,
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.runner.beginning().remove(&self.run);
    }
}

impl Inner {
    /// Takes up what an earlier run of the server left, and begins to work.
    pub async fn start(self: &Arc<Self>) -> Result<()> {
        if self.runner.started.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        // The data directory is ours alone, so whoever held a lease is dead.
        let message = format!("the server stopped during this job; it went on at {}", clock::text(now_ms()));
        for job in self.state.interrupt_all(&message, now_ms()).await? {
            tracing::info!(%job, "an interrupted job goes on");
        }
        self.tidy_failed_restores().await?;
        self.clear_drills().await;
        self.prepare_tasks().await?;
        let heartbeat = spawn_heartbeat(self.state.clone(), self.runner.clone())?;
        *self.runner.heartbeat.lock().unwrap_or_else(PoisonError::into_inner) = Some(heartbeat);
        let mut tasks = self.runner.tasks();
        for component in self.settings.components.iter().map(Arc::clone) {
            let runner = Arc::clone(&self.runner);
            tasks.push(tokio::task::spawn_blocking(move || component.attend(&|| runner.is_stopping())));
        }
        for lane in [LANE_MAIN, LANE_SIDE, LANE_VERIFY] {
            tasks.push(tokio::spawn(self.clone().work_off(lane)));
        }
        tasks.push(tokio::spawn(self.clone().schedule_tasks()));
        tasks.push(tokio::spawn(self.clone().do_chores()));
        tasks.push(tokio::spawn(self.clone().deliver_notices()));
        tasks.push(tokio::spawn(self.clone().watch()));
        tasks.push(tokio::spawn(self.clone().reclaim_after_deletions()));
        Ok(())
    }

    /// A restore that failed in the midst of its change may not have been able to put everything back; it is tried again
    /// before anything else touches the content. Where nothing is left this looks at a few names and is done.
    async fn tidy_failed_restores(&self) -> Result<()> {
        for job in self.state.failed_restores().await? {
            let (id, components) = (job.id.clone(), self.settings.components.clone());
            let tidied = blocking(move || {
                work::recover_restore(&job.id, &components, &targets::selection_of(&job)?, true)
            });
            if let Err(error) = tidied.await {
                tracing::error!(job = %id, "what a failed restore left could not be tidied up: {error}");
            }
        }
        Ok(())
    }

    /// One lane: claims its jobs one after another.
    async fn work_off(self: Arc<Self>, lane: &'static str) {
        while !self.runner.is_stopping() {
            // Taken before the claim, so that the lease is never believed to last longer than its row says.
            let (taken, now) = (Instant::now(), now_ms());
            match self.state.claim_job(lane, &self.instance, now, now + ms(self.runner.lease)).await {
                Ok(Some(job)) => {
                    self.work_on(job, taken).await;
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(lane, "cannot look for jobs: {error}"),
            }
            tokio::select! {
                () = self.wait_for_work(lane) => {}
                () = tokio::time::sleep(IDLE_TIME) => {}
            }
        }
    }

    async fn wait_for_work(&self, lane: &str) {
        match self.runner.lanes.get(lane) {
            Some(notify) => notify.notified().await,
            None => std::future::pending().await,
        }
    }

    /// On the hour: old records go.
    async fn do_chores(self: Arc<Self>) {
        loop {
            let left = HOUR_MS - now_ms().rem_euclid(HOUR_MS);
            if self.pause(Duration::from_millis(left.unsigned_abs())).await {
                return;
            }
            for (chore, done) in [
                ("old sessions", self.purge_sessions().await),
                ("old jobs", self.purge_jobs().await),
                ("old runs of tasks", self.purge_runs().await),
                ("old entries of the audit log", self.purge_audit().await),
                ("old notifications", self.purge_notices().await),
            ] {
                if let Err(error) = done {
                    tracing::error!("{chore} not removed: {error}");
                }
            }
        }
    }

    /// Soon after a deletion its space is freed; with a long grace time the cleaner does it.
    async fn reclaim_after_deletions(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.runner.deleted.notified() => {}
                stopped = self.pause(Duration::from_secs(3600)) => if stopped { return } else { continue },
            }
            let grace = self.settings.deletion_grace;
            if grace > Duration::from_secs(3600) {
                continue;
            }
            if self.pause(grace).await {
                return;
            }
            self.reclaim_all().await;
        }
    }

    /// Waits; true if the server stops meanwhile.
    pub async fn pause(&self, time: Duration) -> bool {
        let end = tokio::time::Instant::now() + time;
        loop {
            if self.runner.is_stopping() {
                return true;
            }
            let now = tokio::time::Instant::now();
            if now >= end {
                return false;
            }
            tokio::time::sleep((end - now).min(Duration::from_millis(500))).await;
        }
    }
}

/// A duration in milliseconds.
pub(crate) fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 4)
}

fn spawn_heartbeat(state: State, runner: Arc<Runner>) -> Result<Thread> {
    let failed = |e: std::io::Error| {
        Error::new(ErrorKind::Internal, "cannot start the thread that prolongs leases").because(e)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("lease-io")
        .enable_time()
        .build()
        .map_err(failed)?;
    let thread = std::thread::Builder::new().name("lease-heartbeat".to_owned()).spawn(move || {
        while !runner.is_killed() {
            std::thread::park_timeout(runner.lease / 3);
            let held: Vec<Arc<Held>> = runner.running().values().cloned().collect();
            for held in held {
                runtime.block_on(renew(&state, &held, runner.lease));
            }
        }
    });
    Ok(thread.map_err(failed)?.thread().clone())
}

async fn renew(state: &State, held: &Held, lease: Duration) {
    let (sent, now) = (Instant::now(), now_ms());
    match state.renew_lease(&held.lease, now, now + ms(lease)).await {
        Ok(true) => held.renewed(sent),
        Ok(false) => held.stop(Stop::Lost),
        Err(error) => tracing::warn!(job = %held.lease.job_id, "lease not prolonged: {error}"),
    }
    // Notices a lease that ran out even while nothing is being written.
    held.stopped();
}
