//! Backups, restores, deletion and damage, with the real engine and real directories.

mod backups;
mod damage;
mod deletion;
mod faults;
mod interleaving;
mod restores;
mod support;
