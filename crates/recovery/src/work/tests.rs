//! Backups, restores, deletion and damage, with the real engine and real directories.

mod backups;
mod compaction;
mod damage;
mod deletion;
mod drills;
mod faults;
mod interleaving;
mod model;
mod replicate;
mod restores;
mod support;
