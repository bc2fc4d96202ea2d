//! A directory below the root alone: which one, where it lies now, and where in the snapshot.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use repository::{Id, Index, NodeKind, Repository};

use super::place;
use super::stage::subpath;
use crate::{Error, ErrorKind, Portion, Result};

fn refuse<T>(message: String) -> Result<T> {
    Err(Error::new(ErrorKind::Selection, message))
}

/// The path below the root that is meant; empty: all.
pub(super) fn relative(portion: &Portion) -> Result<&str> {
    if portion.into.is_some() {
        let message = "into: a directory is restored in its own place alone; leave it out, or use `strongroom rescue restore --target`";
        return refuse(message.to_owned());
    }
    let path = match portion.paths.as_slice() {
        [] => return Ok(""),
        [path] => path.strip_suffix('/').unwrap_or(path),
        _ => {
            let message = "only: of a fileStore one directory at a time is restored; name the one above them, or make a restore of each";
            return refuse(message.to_owned());
        }
    };
    if path.contains('\0') || path.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return refuse(format!("only: '{}' is no path below the component's root", path.escape_debug()));
    }
    Ok(path)
}

/// Where it lies now. No link on the way is followed: it could lead out of the root.
pub(super) fn target(root: &Path, relative: &str) -> Result<PathBuf> {
    let root = place::resolve(root)?;
    if relative.is_empty() {
        return Ok(root);
    }
    let target = root.join(relative);
    let parent = target.parent().unwrap_or(&root);
    match fs::canonicalize(parent) {
        Ok(real) if real == parent => {}
        Ok(_) => {
            return refuse(format!(
                "only: a symbolic link lies on the way to {} now; restore the directory in which it lies",
                target.display()
            ));
        }
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return refuse(format!(
                "only: {}, in which it lies, is no directory now; restore that one",
                parent.display()
            ));
        }
        Err(e) => return Err(Error::io(format!("cannot look for {}", parent.display()), e)),
    }
    match fs::symlink_metadata(&target) {
        Ok(found) if !found.is_dir() => {
            refuse(format!("only: {} is no directory now; move it away first", target.display()))
        }
        Ok(_) => Ok(target),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(target),
        Err(e) => Err(Error::io(format!("cannot look for {}", target.display()), e)),
    }
}

/// Where a restore that was killed may have left something; `None`: what it lay in is gone, with all of it.
pub(super) fn target_before(root: &Path, relative: &str) -> Result<Option<PathBuf>> {
    let root = place::resolve(root)?;
    let target = root.join(relative);
    match (relative.is_empty(), target.parent()) {
        (false, Some(parent)) if fs::canonicalize(parent).ok().as_deref() != Some(parent) => Ok(None),
        (false, _) => Ok(Some(target)),
        (true, _) => Ok(Some(root)),
    }
}

/// Where it lies in the snapshot.
pub(super) fn find(
    component: &str,
    (repository, index, snapshot): (&Repository, &Index, Id),
    relative: &str,
) -> Result<Vec<u8>> {
    let mut path = subpath(component, repository, snapshot)?;
    if relative.is_empty() {
        return Ok(path);
    }
    path.push(b'/');
    path.extend(relative.bytes());
    let fail = |e| {
        Error::engine(format!("cannot look for '{relative}' in the backup of component '{component}'"), e)
    };
    let tree = repository.snapshot(snapshot).map_err(fail)?.tree;
    let found = repository::look_up(repository, index, tree, &path).map_err(fail)?;
    match found.flatten().map(|node| node.kind) {
        Some(NodeKind::Dir) => Ok(path),
        Some(_) => refuse(format!(
            "only: '{}' is no directory in the backup; restore the one in which it lies, or download it in the console",
            relative.escape_debug()
        )),
        None => refuse(format!(
            "only: the backup of component '{component}' holds no '{}'; look at its files in the console",
            relative.escape_debug()
        )),
    }
}
