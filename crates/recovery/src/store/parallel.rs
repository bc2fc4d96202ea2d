//! The same work on many things, on several threads: reading many small files takes as long as the place needs to answer,
//! not as the machine needs to think.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::{Error, ErrorKind, Result};

/// So few things are not worth a thread.
const FEW: usize = 16;
/// Threads beyond this help no place.
const THREADS_MAX: usize = 32;
/// A disk or a file server answers several at once, whatever the count of cores.
const THREADS_MIN: usize = 8;

/// What `work` makes of each, in the same order; or an error, and then not all of it was done.
pub(crate) fn each<T: Sync, R: Send>(
    storage: &dyn storage::Storage,
    things: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    if things.len() <= FEW {
        return things.iter().map(work).collect();
    }
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = storage.parallelism().unwrap_or_else(cores).clamp(THREADS_MIN, THREADS_MAX);
    let next = AtomicUsize::new(0);
    let take = || {
        let mut done = Vec::new();
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(thing) = things.get(place) else { return Ok(done) };
            match work(thing) {
                Ok(result) => done.push((place, result)),
                Err(error) => {
                    // Nobody begins another one.
                    next.store(things.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
    };
    let mut done = Vec::with_capacity(things.len());
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        for worker in workers {
            let died = |_| Error::new(ErrorKind::Internal, "a thread that read from the store died");
            done.extend(worker.join().map_err(died)??);
        }
        Ok::<_, Error>(())
    })?;
    done.sort_unstable_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_things_and_an_error_ends_it() {
        let memory = storage::Memory::default();
        let things: Vec<u32> = (0..1000).collect();
        assert_eq!(each(&memory, &things, |n| Ok(n * 2)).unwrap(), (0..2000).step_by(2).collect::<Vec<_>>());
        let begun = AtomicUsize::new(0);
        let failing = |n: &u32| {
            begun.fetch_add(1, Ordering::Relaxed);
            if *n == 20 { Err(Error::new(ErrorKind::Internal, "on purpose")) } else { Ok(()) }
        };
        assert!(each(&memory, &things, failing).is_err());
        assert!(begun.into_inner() < 1000);
    }
}
