//! Where a lock's process ran: what the host names in locks tell of it.
//!
//! restic writes the host's name alone, and takes a lock for abandoned if the name is its own and the process id
//! belongs to nobody. Containers repeat both, so the names of our locks are unique: `host/PLACE-RANDOM`, which restic
//! never takes for its own. PLACE stands for this start of the machine and this space of process ids, in which an
//! id that belongs to nobody means a dead process.

use sha2::{Digest, Sha256};

use crate::words;

/// This machine, as locks call it.
pub struct Here {
    host: String,
    /// `host/PLACE-`; `None` if the kernel does not tell where we are.
    ours: Option<String>,
}

impl Here {
    /// Asks the kernel.
    pub fn find() -> Self {
        let host = words::host_name();
        let place = || {
            let started = std::fs::read("/proc/sys/kernel/random/boot_id").ok()?;
            let processes = std::fs::read_link("/proc/self/ns/pid").ok()?;
            let both =
                Sha256::new().chain_update(started).chain_update(processes.as_os_str().as_encoded_bytes());
            Some(hex::encode(&both.finalize()[..8]))
        };
        let ours = place().map(|place| format!("{host}/{place}-"));
        Self { host, ours }
    }

    /// A name for a lock that no other has.
    pub fn unique_name(&self) -> String {
        let unique: [u8; 16] = rand::random();
        let nowhere = || format!("{}/", self.host);
        format!("{}{}", self.ours.clone().unwrap_or_else(nowhere), hex::encode(unique))
    }

    /// Whether a lock of this name was written here, by this command or by restic.
    pub fn wrote(&self, name: &str) -> bool {
        name == self.host || self.ours.as_ref().is_some_and(|ours| name.starts_with(ours))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_are_known_again_and_others_are_not() {
        let here = Here::find();
        assert!(here.ours.is_some(), "this kernel does not tell where we are");
        assert!(here.wrote(&here.unique_name()) && here.wrote(&words::host_name()));
        let host = words::host_name();
        let elsewhere = Here { ours: Some(format!("{host}/0123456789abcdef-")), host: host.clone() };
        assert!(!here.wrote(&elsewhere.unique_name()), "another container of the same name");
        for stranger in
            ["", "elsewhere", &format!("{host}/"), &format!("{host}.example"), &format!("{host}/server")]
        {
            assert!(!here.wrote(stranger), "{stranger}");
        }
        let blind = Here { ours: None, host };
        assert!(!blind.wrote(&blind.unique_name()) && !blind.wrote(&here.unique_name()));
    }
}
