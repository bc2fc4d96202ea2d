//! What the server is told by its configuration. The binary fills this in; the domain never reads a file for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use components::Component;
use repository::Cost;
use storage::AddressRule;

use crate::Subscription;

/// All that the server is told by its configuration. Paths absolute.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Home of the lock, and by default of state and master key; made if missing.
    pub data_directory: PathBuf,
    /// SQLite file; made if missing.
    pub state_file: PathBuf,
    /// 32 random bytes, hex; made if missing, mode 0600.
    pub master_key_file: PathBuf,
    /// Where directory stores may be registered, and nowhere else.
    pub allowed_directories: Vec<PathBuf>,
    /// Home of stores of type HOSTED.
    pub hosted_directory: PathBuf,
    /// Where drills restore; made if missing.
    pub drill_directory: PathBuf,
    /// What `jobsUrl` starts with, e.g. `https://host:7443/strongroom`.
    pub public_url: String,
    /// What is protected.
    pub components: Vec<Arc<dyn Component>>,
    /// Name of the deployment, written into each backup.
    pub site_name: String,
    /// How hard new backups are compressed.
    pub compression: repository::Compression,
    /// scrypt cost of new vaults; `Cost::FAST` in tests only.
    pub cost: Cost,
    /// Between leaving the catalogue and loss of the packs.
    pub deletion_grace: Duration,
    /// Where connections to buckets may go.
    pub store_addresses: Arc<AddressRule>,
    /// Who is told of what.
    pub notify: Vec<Subscription>,
    /// Lease of a job; heartbeat is a third of it. 30 s by default.
    pub lease: Duration,
}
