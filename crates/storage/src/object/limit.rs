//! How many requests at once, and how many bytes a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::Limits;

/// Shared by all calls of one store.
pub(super) struct Limiter {
    requests: Semaphore,
    upload: Option<Pace>,
    download: Option<Pace>,
}

impl Limiter {
    pub(super) fn new(limits: &Limits) -> Self {
        let pace = |rate: Option<u64>| rate.map(Pace::new);
        Self {
            requests: Semaphore::new(limits.parallel.max(1)),
            upload: pace(limits.upload_bytes_per_second),
            download: pace(limits.download_bytes_per_second),
        }
    }

    /// Waits until a request may be made; it counts until the permit is dropped.
    pub(super) async fn permit(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.requests.acquire().await.ok()
    }

    /// Waits until so many bytes may be sent.
    pub(super) async fn upload(&self, bytes: u64) {
        if let Some(pace) = &self.upload {
            pace.wait(bytes).await;
        }
    }

    /// Waits until so many bytes may be fetched.
    pub(super) async fn download(&self, bytes: u64) {
        if let Some(pace) = &self.download {
            pace.wait(bytes).await;
        }
    }
}

/// Hands out bytes at a steady rate: each taker is told when its turn begins.
struct Pace {
    rate: u64,
    free_from: Mutex<Instant>,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), free_from: Mutex::new(Instant::now()) }
    }

    fn turn(&self, bytes: u64, now: Instant) -> Instant {
        let mut free_from = self.free_from.lock().unwrap_or_else(PoisonError::into_inner);
        let start = now.max(*free_from);
        *free_from = start + Duration::from_secs_f64(bytes as f64 / self.rate as f64);
        start
    }

    async fn wait(&self, bytes: u64) {
        sleep_until(self.turn(bytes, Instant::now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_handed_out_at_the_given_rate() {
        let pace = Pace::new(1000);
        let start = Instant::now();
        assert_eq!(pace.turn(500, start), start);
        assert_eq!(pace.turn(2000, start), start + Duration::from_millis(500));
        assert_eq!(pace.turn(1, start), start + Duration::from_millis(2500));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.turn(1, later), later, "what was not used does not pile up");
    }
}
