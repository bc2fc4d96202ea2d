//! The domain as a whole, over real stores on disk.

mod backups;
pub(crate) mod gate;
mod interruptions;
mod places;
mod restores;
mod sessions;
pub(crate) mod support;
