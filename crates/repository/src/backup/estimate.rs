//! How much there is to back up, counted beside the backup itself, so that progress has an end to go towards.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use super::exclude::Excludes;
use crate::Control;

/// Counts until everything is counted or `stop` is set. Nothing waits for it and nothing depends on it.
pub(super) fn run(paths: &[PathBuf], excludes: &Excludes, control: &Control, stop: &AtomicBool) {
    if let Some((files, bytes)) = count(paths.to_vec(), excludes, stop) {
        control.progress.files_total.store(files, Ordering::Relaxed);
        control.progress.bytes_total.store(bytes, Ordering::Relaxed);
    }
}

/// Everything that is no directory, and the bytes of regular files; `None` once stopped.
fn count(mut paths: Vec<PathBuf>, excludes: &Excludes, stop: &AtomicBool) -> Option<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    while let Some(path) = paths.pop() {
        if stop.load(Ordering::Relaxed) {
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
        let stop = AtomicBool::new(false);
        let paths = vec![place.path().to_owned(), place.path().join("missing")];
        let excludes = Excludes::new(&["*.tmp".into()]).unwrap();
        assert_eq!(count(paths.clone(), &excludes, &stop), Some((3, 8)));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(count(paths, &excludes, &stop), None);
    }
}
