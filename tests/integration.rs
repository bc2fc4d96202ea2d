//! The product from outside: the real binary on real files, and stock restic as the judge.
//!
//! Each file tells one story. What a promise rests on another program for (restic, a mounted file system, root's
//! rights) is skipped only with a line that says so.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "integration/backup_options.rs"]
mod backup_options;
#[path = "integration/bad_lines.rs"]
mod bad_lines;
#[path = "integration/beside.rs"]
mod beside;
#[path = "integration/buckets.rs"]
mod buckets;
#[path = "integration/certificate.rs"]
mod certificate;
#[path = "integration/client.rs"]
mod client;
#[path = "integration/client_jobs.rs"]
mod client_jobs;
#[path = "integration/client_people.rs"]
mod client_people;
#[path = "integration/client_schedules.rs"]
mod client_schedules;
#[path = "integration/command.rs"]
mod command;
#[path = "integration/command_line.rs"]
mod command_line;
#[path = "integration/console.rs"]
mod console;
#[path = "integration/damage.rs"]
mod damage;
#[path = "integration/disk_full.rs"]
mod disk_full;
#[path = "integration/documented_buckets.rs"]
mod documented_buckets;
#[path = "integration/documented_scripts.rs"]
mod documented_scripts;
#[path = "integration/documents.rs"]
mod documents;
#[path = "integration/forge.rs"]
mod forge;
#[path = "integration/forget.rs"]
mod forget;
#[path = "integration/hostile.rs"]
mod hostile;
#[path = "integration/interop.rs"]
mod interop;
#[path = "integration/keys_and_copies.rs"]
mod keys_and_copies;
#[path = "integration/load.rs"]
mod load;
#[path = "integration/locks.rs"]
mod locks;
#[path = "integration/looking.rs"]
mod looking;
#[path = "integration/mount.rs"]
mod mount;
#[path = "integration/notifications.rs"]
mod notifications;
#[path = "integration/object.rs"]
mod object;
#[path = "integration/objects.rs"]
mod objects;
#[path = "integration/oidc.rs"]
mod oidc;
#[path = "integration/part.rs"]
mod part;
#[path = "integration/postgresql.rs"]
mod postgresql;
#[path = "integration/quickstart.rs"]
mod quickstart;
#[path = "integration/rebuild.rs"]
mod rebuild;
#[path = "integration/repair.rs"]
mod repair;
#[path = "integration/restore_over.rs"]
mod restore_over;
#[path = "integration/wire.rs"]
mod wire;
#[path = "integration/world.rs"]
mod world;
