//! The same work on many things, on several threads: reading many small files takes as long as the place needs to answer,
//! not as the machine needs to think.

use std::thread;

use crate::Result;

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
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = match things.len() <= FEW {
        true => 1,
        false => storage.parallelism().unwrap_or_else(cores).clamp(THREADS_MIN, THREADS_MAX),
    };
    repository::each(threads, things, work)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::{Error, ErrorKind};

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
