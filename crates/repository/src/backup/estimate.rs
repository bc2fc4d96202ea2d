//! How much there is to back up, counted beside the backup itself, so that progress has an end to go towards.

use std::convert::Infallible;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError};

use super::exclude::Excludes;
use crate::Control;

/// A backup that ends before this needs no estimate, and counting would only slow it down.
const AFTER: Duration = Duration::from_secs(2);

/// Counts until everything is counted, or the scan ends and drops the other end of `scanning`. Nothing waits for the
/// count and nothing depends on it.
pub(super) fn run(
    paths: &[PathBuf],
    excludes: &Excludes,
    control: &Control,
    scanning: &Receiver<Infallible>,
) {
    if scanning.recv_timeout(AFTER) != Err(RecvTimeoutError::Timeout) {
        return;
    }
    if let Some((files, bytes)) = count(paths.to_vec(), excludes, scanning) {
        control.progress.files_total.store(files, Ordering::Relaxed);
        control.progress.bytes_total.store(bytes, Ordering::Relaxed);
    }
}

/// Everything that is no directory, and the bytes of regular files; `None` once the scan has ended.
fn count(
    mut paths: Vec<PathBuf>,
    excludes: &Excludes,
    scanning: &Receiver<Infallible>,
) -> Option<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    while let Some(path) = paths.pop() {
        if scanning.try_recv() == Err(TryRecvError::Disconnected) {
            return None;
        }
        let Ok(metadata) = path.symlink_metadata() else { continue };
        if excludes.fits(path.as_os_str().as_bytes()) {
            continue;
        }
        if metadata.is_dir() {
            let Ok(entries) = fs::read_dir(&path) else { continue };
            paths.extend(entries.filter_map(|entry| Some(entry.ok()?.path())));
            continue;
        }
        files += 1;
        bytes += if metadata.is_file() { metadata.len() } else { 0 };
    }
    Some((files, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_links_are_counted_and_links_are_not_followed() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("folder")).unwrap();
        fs::write(place.path().join("folder/a"), "12345").unwrap();
        fs::write(place.path().join("b"), "678").unwrap();
        fs::write(place.path().join("c.tmp"), "left out").unwrap();
        std::os::unix::fs::symlink("/", place.path().join("link")).unwrap();
        let (scan, scanning) = crossbeam_channel::bounded(0);
        let paths = vec![place.path().to_owned(), place.path().join("missing")];
        let mut request = crate::BackupRequest::new(Vec::new());
        request.excludes = vec!["*.tmp".into()];
        let excludes = Excludes::of(&request).unwrap();
        assert_eq!(count(paths.clone(), &excludes, &scanning), Some((3, 8)));
        drop(scan);
        assert_eq!(count(paths, &excludes, &scanning), None);
    }
}
