//! How far a job is: read from the engine's counters, with a rate over the last seconds, and written into the row at
//! most once a second (and at each change of a stage).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use repository::Control;

use super::lease::{Held, Stop};
use super::stages::Stages;
use crate::ProgressView;
use crate::clock::now_ms;
use crate::recovery::Inner;

const WINDOW: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(1);
const CURRENT_CHARS_MAX: usize = 300;

/// Remembers the last seconds of a counter.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    samples: VecDeque<(Instant, u64)>,
}

impl Meter {
    fn per_second(&mut self, at: Instant, bytes: u64) -> u64 {
        if self.samples.back().is_some_and(|(_, before)| *before > bytes) {
            self.samples.clear();
        }
        self.samples.push_back((at, bytes));
        while self.samples.len() > 2
            && self.samples.front().is_some_and(|(then, _)| at.duration_since(*then) > WINDOW)
        {
            self.samples.pop_front();
        }
        let Some((then, before)) = self.samples.front() else { return 0 };
        let passed = at.duration_since(*then).as_secs_f64();
        if passed < 0.1 { 0 } else { ((bytes - before) as f64 / passed) as u64 }
    }

    /// What callers see of `control` now.
    pub fn view(&mut self, control: &Control, stage: String, at: Instant) -> ProgressView {
        let progress = &control.progress;
        let bytes_done = progress.bytes_done.load(Ordering::Relaxed);
        let bytes_total = progress.bytes_total.load(Ordering::Relaxed);
        let files_done = progress.files_done.load(Ordering::Relaxed);
        let files_total = progress.files_total.load(Ordering::Relaxed);
        let bytes_per_second = self.per_second(at, bytes_done);
        let left = bytes_total.saturating_sub(bytes_done);
        ProgressView {
            percent: if bytes_total > 0 {
                percent(bytes_done, bytes_total)
            } else {
                percent(files_done, files_total)
            },
            stage,
            bytes_done,
            bytes_total,
            files_done,
            files_total,
            bytes_per_second,
            seconds_left: (bytes_total > 0 && bytes_per_second > 0).then(|| left.div_ceil(bytes_per_second)),
            current: progress.current().chars().take(CURRENT_CHARS_MAX).collect(),
        }
    }
}

/// 100 only when the job has ended, which is said elsewhere.
fn percent(done: u64, total: u64) -> u8 {
    if total == 0 {
        return 0;
    }
    u8::try_from(u128::from(done) * 100 / u128::from(total)).unwrap_or(100).min(99)
}

/// Writes the job's progress until its work ends (then it is dropped).
pub(crate) async fn write(inner: Arc<Inner>, held: Arc<Held>, stages: Arc<Stages>) {
    let mut meter = Meter::default();
    let mut written = None;
    loop {
        let view = meter.view(&held.control, stages.current(), Instant::now());
        let now = (stages.views(), serde_json::to_string(&view).unwrap_or_default());
        if written.as_ref() != Some(&now) {
            match inner.state.write_progress(&held.lease, &now.0, &view, now_ms()).await {
                Ok(true) => written = Some(now),
                Ok(false) => held.stop(Stop::Lost),
                // A full disk must not end the work; the lease runs out if the state stays unwritable.
                Err(error) => tracing::warn!(job = %held.lease.job_id, "progress not written: {error}"),
            }
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stages.changed.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_time_left_come_from_the_last_seconds() {
        let control = Control::new();
        let (mut meter, start) = (Meter::default(), Instant::now());
        control.progress.bytes_total.store(10_000, Ordering::Relaxed);
        assert_eq!(meter.view(&control, String::new(), start).seconds_left, None);
        control.progress.bytes_done.store(2_000, Ordering::Relaxed);
        let view = meter.view(&control, "x".to_owned(), start + Duration::from_secs(2));
        assert_eq!((view.percent, view.bytes_per_second, view.seconds_left), (20, 1000, Some(8)));
        control.progress.bytes_done.store(10_000, Ordering::Relaxed);
        let view = meter.view(&control, "x".to_owned(), start + Duration::from_secs(4));
        assert_eq!((view.percent, view.seconds_left), (99, Some(0)));
    }

    #[test]
    fn a_counter_that_begins_anew_or_passes_its_total_does_no_harm() {
        let control = Control::new();
        let (mut meter, start) = (Meter::default(), Instant::now());
        control.progress.bytes_done.store(500, Ordering::Relaxed);
        meter.view(&control, String::new(), start);
        control.progress.bytes_done.store(10, Ordering::Relaxed);
        control.progress.bytes_total.store(5, Ordering::Relaxed);
        let view = meter.view(&control, String::new(), start + Duration::from_secs(1));
        assert_eq!((view.percent, view.bytes_per_second), (99, 0));
    }
}
