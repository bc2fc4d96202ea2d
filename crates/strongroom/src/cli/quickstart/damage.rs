//! The disaster: what accidents and ransomware do to files, done to the sample content. Never to anything else.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::manifest::{Kind, Manifest};
use super::sample::Random;

/// One kind of harm that was done.
#[derive(Debug)]
pub struct Harm {
    /// What was done, with the number of victims: `312 files overwritten …`.
    pub what: &'static str,
    /// How many.
    pub count: u64,
    /// One of them.
    pub example: String,
}

type Act = fn(&Path) -> io::Result<()>;

/// Shares of the files, in per mille, and what happens to them.
const ACTS: [(u64, &str, Act); 5] = [
    (50, "files deleted one by one", |path| fs::remove_file(path)),
    (120, "files scrambled and renamed, as ransomware does", scramble),
    (30, "files cut off in the middle", cut),
    (30, "files with one bit flipped, size and time unchanged", flip_a_bit),
    (20, "files with other permissions", |path| fs::set_permissions(path, Permissions::from_mode(0o000))),
];

const NOTE: &str = "READ-ME-TO-GET-YOUR-FILES-BACK.txt";

/// Does it, and says what was done. `known` tells what lies in `root`.
pub fn strike(root: &Path, known: &Manifest) -> Result<Vec<Harm>> {
    let mut harms = Vec::new();
    let lost_folder = folder_to_lose(known);
    if let Some((folder, count)) = &lost_folder {
        let place = root.join(folder);
        fs::remove_dir_all(&place).with_context(|| format!("cannot damage {}", place.display()))?;
        harms.push(Harm { what: "files deleted with their folder", count: *count, example: shown(folder) });
    }
    let mut victims: Vec<&Path> = known.files().map(|(path, _)| path).collect();
    victims.retain(|path| lost_folder.as_ref().is_none_or(|(folder, _)| !path.starts_with(folder)));
    shuffle(&mut victims);
    let total = victims.len() as u64;
    let mut victims = victims.into_iter();
    for (share, what, act) in ACTS {
        let wanted = (total * share).div_ceil(1000) as usize;
        // What cannot be damaged (a file without permission to write) is not counted.
        let struck: Vec<_> =
            victims.by_ref().take(wanted).filter(|path| act(&root.join(path)).is_ok()).collect();
        if let Some(first) = struck.first() {
            harms.push(Harm { what, count: struck.len() as u64, example: shown(first) });
        }
    }
    harms.extend(redirect_a_link(root, known));
    let note = root.join(NOTE);
    fs::write(&note, "All your files belong to us.\n")
        .with_context(|| format!("cannot write {}", note.display()))?;
    harms.push(Harm { what: "ransom note left behind", count: 1, example: NOTE.to_owned() });
    Ok(harms)
}

/// The folder with the most files below it, as long as that is less than a third of all.
fn folder_to_lose(known: &Manifest) -> Option<(PathBuf, u64)> {
    let mut counts: BTreeMap<PathBuf, u64> = BTreeMap::new();
    let mut total = 0;
    for (path, _) in known.files() {
        total += 1;
        for folder in path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            *counts.entry(folder.to_owned()).or_default() += 1;
        }
    }
    counts.into_iter().filter(|(_, count)| count * 3 < total).max_by_key(|(_, count)| *count)
}

fn shuffle(paths: &mut [&Path]) {
    let mut random = Random(0xD15A57E2);
    for at in (1..paths.len()).rev() {
        paths.swap(at, random.below(at as u64 + 1) as usize);
    }
}

fn scramble(path: &Path) -> io::Result<()> {
    let length = fs::metadata(path)?.len().clamp(16, 1024 * 1024) as usize;
    let bytes = Random(length as u64).bytes(length);
    let mut file = File::options().write(true).truncate(true).open(path)?;
    file.write_all(&bytes)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".locked");
    fs::rename(path, path.with_file_name(name))
}

fn cut(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(file.metadata()?.len() / 2)
}

/// What no tool that looks at size and time alone will ever notice.
fn flip_a_bit(path: &Path) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let metadata = file.metadata()?;
    if metadata.len() == 0 {
        return Err(io::Error::other("nothing to flip"));
    }
    let at = metadata.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at)?;
    file.write_all_at(&[byte[0] ^ 0x10], at)?;
    file.set_times(FileTimes::new().set_modified(metadata.modified()?))
}

fn redirect_a_link(root: &Path, known: &Manifest) -> Option<Harm> {
    let mut links = known.entries.iter().filter(|(_, entry)| matches!(entry.kind, Kind::Symlink(_)));
    let (path, _) = links.next()?;
    let place = root.join(path);
    fs::remove_file(&place).and_then(|()| symlink("/dev/null", &place)).ok()?;
    Some(Harm { what: "link turned elsewhere", count: 1, example: shown(path) })
}

fn shown(path: &Path) -> String {
    crate::progress::printable(&path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::quickstart::sample;

    #[test]
    fn every_harm_that_is_told_is_really_done_and_seen_by_the_manifest() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("content");
        sample::make(&root, &|| Ok(())).unwrap();
        let before = Manifest::take(&root, &mut |_| Ok(())).unwrap();
        let harms = strike(&root, &before).unwrap();
        assert_eq!(harms.len(), 8, "{harms:?}");
        let after = Manifest::take(&root, &mut |_| Ok(())).unwrap();
        let told: u64 = harms.iter().map(|harm| harm.count).sum();
        assert!(before.differences(&after).len() as u64 >= told);
        assert!(told > 500 && told < before.entries.len() as u64, "{told}");
    }

    #[test]
    fn nothing_outside_the_root_is_touched() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("content");
        fs::create_dir(&root).unwrap();
        fs::write(place.path().join("mine"), "mine").unwrap();
        symlink(place.path().join("mine"), root.join("link")).unwrap();
        fs::write(root.join("a"), "a").unwrap();
        let before = Manifest::take(&root, &mut |_| Ok(())).unwrap();
        strike(&root, &before).unwrap();
        assert_eq!(fs::read(place.path().join("mine")).unwrap(), b"mine");
    }
}
