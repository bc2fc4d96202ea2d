//! How much there is to back up, counted beside the backup itself, so that its progress has an end to go towards.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use repository::Control;

/// Counts on a thread of its own; an estimate for a progress bar, so nothing waits for it and nothing depends on it.
pub fn start(paths: Vec<PathBuf>, control: &Arc<Control>) {
    let control = Arc::clone(control);
    let counting = std::thread::Builder::new().name("scan".to_owned());
    let _ = counting.spawn(move || {
        if let Some((files, bytes)) = count(paths, &control) {
            control.progress.files_total.store(files, Ordering::Relaxed);
            control.progress.bytes_total.store(bytes, Ordering::Relaxed);
        }
    });
}

/// Everything that is no directory, and the bytes of regular files; `None` once cancelled.
fn count(mut paths: Vec<PathBuf>, control: &Control) -> Option<(u64, u64)> {
    let (mut files, mut bytes) = (0, 0);
    while let Some(path) = paths.pop() {
        control.check().ok()?;
        let Ok(metadata) = path.symlink_metadata() else { continue };
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
        std::os::unix::fs::symlink("/", place.path().join("link")).unwrap();
        let control = Control::new();
        let paths = vec![place.path().to_owned(), place.path().join("missing")];
        assert_eq!(count(paths.clone(), &control), Some((3, 8)));
        control.cancel();
        assert_eq!(count(paths, &control), None);
    }
}
