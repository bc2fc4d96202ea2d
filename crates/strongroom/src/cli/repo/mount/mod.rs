//! `repo mount`: snapshots as a read-only file system, until Ctrl-C, SIGTERM or an unmount from outside.
//!
//! [`folders`] names our own folders (`ids`, `snapshots`, `hosts`, `tags`), [`numbers`] remembers what the kernel was
//! told of, and [`files`] answers the kernel from both and from the engine's `Browser`, on a few threads. The verb holds
//! the lock and waits for the end; [`mountpoint`] says whether we are still mounted.

mod files;
mod folders;
mod mountpoint;
mod numbers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use fuser::{BackgroundSession, Config, MountOption, SessionACL};
use repository::{Browser, Control, ErrorKind, Lock};
use serde_json::json;

use super::filter::Filter;
use super::place::Place;
use super::times;
use crate::exit::{Exit, Failure};
use crate::terminal;
use files::{SnapshotFiles, Told};
use mountpoint::Mountpoint;

/// Requests answered at the same time; each may fetch a chunk.
const THREADS: usize = 4;
/// So often is looked whether to end.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// So often is looked whether the lock is still held.
const CHECK_LOCK_EVERY: Duration = Duration::from_secs(60);

/// What is mounted where.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The directory to mount at; it must exist
    #[arg(value_name = "MOUNTPOINT")]
    mountpoint: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Let other users look, too; each sees what the permissions in the snapshots allow
    #[arg(long)]
    allow_other: bool,
    /// With --allow-other: let them see everything, whatever the permissions in the snapshots
    #[arg(long)]
    no_default_permissions: bool,
    /// Show everything as root's
    #[arg(long)]
    owner_root: bool,
    /// Look for new snapshots when a folder is looked at and so long has passed
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = times::duration)]
    look_again: Duration,
}

/// Mounts, and waits.
pub fn run(place: &Place, arguments: &Arguments) -> Result<Exit> {
    let mountpoint = Mountpoint::new(&arguments.mountpoint)?;
    if place.lies_below(mountpoint.path()) {
        let message = format!("{mountpoint} holds the repository or its cache, which a mount would hide");
        return Err(Failure::usage(message).hint("mount at another directory").into());
    }
    let (repository, control) = place.open_to_look()?;
    let lock = place.lock_for_reading(&repository)?;
    let told = Arc::new(Told::default());
    let (browser, warnings) = Browser::new(repository, arguments.filter.conditions()?)?;
    warnings.iter().for_each(|warning| told.warning(warning));
    let files = SnapshotFiles::new(browser, told.clone(), arguments.owner_root, arguments.look_again);
    let session = fuser::spawn_mount(files, mountpoint.path(), &config(arguments)).with_context(|| {
        format!("cannot mount at {mountpoint}; this needs /dev/fuse and, without root, fusermount3")
    })?;
    let mounted = mountpoint.mounted();
    if place.json {
        terminal::out_json(
            &json!({ "message_type": "mounted", "mountpoint": mountpoint.path().to_string_lossy() }),
        )?;
    } else {
        terminal::out(format!("mounted at {mountpoint}"))?;
        terminal::note("Ctrl-C or `umount` ends it");
    }
    let held = wait(&session, &control, lock.as_ref());
    unmount(session, &mountpoint, mounted.as_deref())?;
    held?;
    Ok(if told.damage() { Exit::Damaged } else { Exit::Done })
}

fn config(arguments: &Arguments) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::FSName("strongroom".to_owned()),
        MountOption::Subtype("strongroom".to_owned()),
    ];
    // Whoever can mount has the passcode and may read all; others only what the permissions allow.
    if arguments.allow_other && !arguments.no_default_permissions {
        config.mount_options.push(MountOption::DefaultPermissions);
    }
    config.acl = if arguments.allow_other { SessionACL::All } else { SessionACL::Owner };
    config.n_threads = Some(THREADS);
    config
}

/// Returns when we are asked to stop, somebody unmounted us, or the lock is lost.
fn wait(session: &BackgroundSession, control: &Control, lock: Option<&Lock>) -> repository::Result<()> {
    let mut checked = Instant::now();
    while control.check().is_ok() && !session.guard.is_finished() {
        std::thread::sleep(LOOK_EVERY);
        if checked.elapsed() < CHECK_LOCK_EVERY {
            continue;
        }
        checked = Instant::now();
        match lock.map_or(Ok(()), Lock::check) {
            Err(lost) if lost.kind == ErrorKind::LockLost => return Err(lost),
            // The store could not be asked: the next time, perhaps.
            _ => {}
        }
    }
    Ok(())
}

/// Unmounts, also while somebody still stands in a directory of ours: whoever does sees an error from then on.
fn unmount(session: BackgroundSession, mountpoint: &Mountpoint, mounted: Option<&str>) -> Result<()> {
    let is_ours = || mounted.is_some() && mountpoint.mounted().as_deref() == mounted;
    if !is_ours() {
        // Dropping the session would unmount whatever is mounted there now.
        std::mem::forget(session);
        return Ok(());
    }
    drop(session);
    if is_ours() {
        mountpoint.detach().with_context(|| format!("cannot unmount {mountpoint}"))?;
    }
    Ok(())
}
