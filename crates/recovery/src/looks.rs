//! Looks into stores for the start page and for monitoring: one at a time for each store, whoever asks and how often.
//!
//! A store that hangs keeps the thread that looks into it. Asked again each minute, that would use up all threads; so
//! those who come meanwhile wait for the same look, and are told what the one before it saw if it takes too long.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::{BackupView, DrillReport};

/// What was seen is told for so long while a later look has not come to its end.
const LAST_TIME_MAX: Duration = Duration::from_secs(300);

/// What a look saw.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub backups: usize,
    pub newest: Option<Arc<BackupView>>,
    pub free_bytes: Option<u64>,
    /// The last drill that proved a backup.
    pub proven: Option<Arc<DrillReport>>,
    /// The last drill, where it failed.
    pub failed_drill: Option<Arc<DrillReport>>,
}

/// What a look saw, or why it could not.
type Outcome = Result<Seen, String>;

/// Until a look has come to its end.
type Waiting = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// The looks into all stores.
#[derive(Debug, Default)]
pub(crate) struct Looks(Mutex<HashMap<String, Arc<Look>>>);

impl Looks {
    /// That into the store of this name.
    pub fn of(&self, store: &str) -> Arc<Look> {
        let mut looks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        looks.entry(store.to_owned()).or_default().clone()
    }
}

/// The looks into one store.
#[derive(Debug, Default)]
pub(crate) struct Look(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The one on its way, and since when.
    running: Option<(watch::Receiver<Option<Outcome>>, Instant)>,
    last: Option<(Outcome, Instant)>,
}

impl Look {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The outcome of the look that is on its way, or of a new one. It goes on even if nobody waits any more.
    pub fn begin_or_join<W>(self: &Arc<Self>, work: impl FnOnce() -> W) -> Waiting
    where
        W: Future<Output = Outcome> + Send + 'static,
    {
        let mut state = self.state();
        let mut finished = match &state.running {
            Some((finished, _)) => finished.clone(),
            None => {
                let (tell, finished) = watch::channel(None);
                let (look, work) = (self.clone(), work());
                state.running = Some((finished.clone(), Instant::now()));
                tokio::spawn(async move {
                    // A task of its own, so that a panic in it does not leave this look running for ever.
                    let outcome = tokio::spawn(work).await;
                    let outcome = outcome.unwrap_or_else(|_| Err("Looking into it failed.".to_owned()));
                    let mut state = look.state();
                    (state.running, state.last) = (None, Some((outcome.clone(), Instant::now())));
                    drop(state);
                    let _ = tell.send(Some(outcome));
                });
                finished
            }
        };
        drop(state);
        Box::pin(async move {
            match finished.wait_for(Option::is_some).await {
                Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(String::new())),
                Err(_) => Err("Looking into it was broken off.".to_owned()),
            }
        })
    }

    /// What the last look saw that came to its end, if that is not long ago.
    pub fn last(&self) -> Option<Outcome> {
        let state = self.state();
        state.last.as_ref().filter(|(_, at)| at.elapsed() < LAST_TIME_MAX).map(|(outcome, _)| outcome.clone())
    }

    /// How long the look on its way takes already.
    pub fn since(&self) -> Duration {
        self.state().running.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn seen(backups: usize) -> Outcome {
        Ok(Seen { backups, newest: None, free_bytes: None, proven: None, failed_drill: None })
    }

    #[tokio::test]
    async fn a_hundred_who_ask_while_a_store_hangs_make_one_look_and_are_told_what_was_seen_before() {
        let (look, begun) = (Looks::default().of("s"), Arc::new(AtomicUsize::new(0)));
        look.begin_or_join(|| async { seen(7) }).await.unwrap();
        let (free, hangs) = tokio::sync::oneshot::channel::<()>();
        let mut hangs = Some(hangs);
        let mut waiting = Vec::new();
        for _ in 0..100 {
            waiting.push(look.begin_or_join(|| {
                begun.fetch_add(1, Ordering::SeqCst);
                let hangs = hangs.take().unwrap();
                async move {
                    let _ = hangs.await;
                    seen(8)
                }
            }));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        assert_eq!(look.last().unwrap().unwrap().backups, 7);
        free.send(()).unwrap();
        for one in waiting {
            assert_eq!(one.await.unwrap().backups, 8);
        }
        assert_eq!(look.last().unwrap().unwrap().backups, 8);
    }

    #[tokio::test]
    async fn a_look_that_panics_is_an_error_and_the_next_one_begins() {
        let look = Looks::default().of("s");
        let broken = look.begin_or_join(|| async { panic!("on purpose") });
        assert!(broken.await.is_err());
        assert_eq!(look.begin_or_join(|| async { seen(1) }).await.unwrap().backups, 1);
    }
}
