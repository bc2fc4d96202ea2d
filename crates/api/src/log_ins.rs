//! How many log-ins are looked at at one time. Each waits for its turn to compute a costly hash; without a limit a flood
//! of them would take all the places where requests are handled, and nobody with a token would be answered.

use crate::error::{ApiError, ApiResult};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

const ALL_MAX: usize = 128;
/// A proxy in front is one address for all.
const ADDRESS_MAX: usize = 32;

/// The log-ins at work, by address.
#[derive(Debug, Default)]
pub(crate) struct LogIns(Mutex<HashMap<IpAddr, usize>>);

/// A place among them, until it is dropped.
#[derive(Debug)]
pub(crate) struct LogIn<'a> {
    all: &'a LogIns,
    address: IpAddr,
}

impl LogIns {
    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more, if there is one.
    pub fn begin(&self, address: IpAddr) -> ApiResult<LogIn<'_>> {
        let mut counts = self.counts();
        let (all, here) = (counts.values().sum::<usize>(), counts.get(&address).copied().unwrap_or(0));
        if all >= ALL_MAX || here >= ADDRESS_MAX {
            let message = "Too many log-ins are being checked just now; try again in a moment.";
            return Err(ApiError::new(409, "DR_BUSY", message));
        }
        counts.insert(address, here + 1);
        Ok(LogIn { all: self, address })
    }
}

impl Drop for LogIn<'_> {
    fn drop(&mut self) {
        let mut counts = self.all.counts();
        match counts.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => drop(counts.remove(&self.address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_one_address_nor_all_together_can_take_every_place() {
        let log_ins = LogIns::default();
        let from = |n: u8| log_ins.begin([10, 0, 0, n].into());
        let mut held: Vec<_> = (0..ADDRESS_MAX).map(|_| from(1).expect("room")).collect();
        assert_eq!(from(1).expect_err("full").message_code, "DR_BUSY");
        held.extend((0..ALL_MAX - ADDRESS_MAX).map(|n| from(2 + n as u8).expect("room")));
        assert!(from(200).is_err());
        held.pop();
        from(200).expect("room again");
        drop(held);
        assert!(log_ins.counts().is_empty());
    }
}
