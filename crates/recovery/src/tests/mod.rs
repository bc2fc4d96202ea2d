//! The domain as a whole, over real stores on disk.

mod backups;
pub(crate) mod gate;
mod interruptions;
mod keys;
mod looks;
mod places;
mod restores;
mod sessions;
mod site;
pub(crate) mod support;
