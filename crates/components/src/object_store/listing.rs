//! What a bucket holds now.

use repository::Control;
use storage::{Content, ContentEntry};

use super::area::STAGING_PREFIX;
use super::{names, store_error};
use crate::{Error, ErrorKind, Result};

/// An object on its way into a backup.
pub(super) struct Listed {
    /// The names of its path, with [`names::BETWEEN`] between them.
    pub(super) path: Vec<u8>,
    pub(super) entry: ContentEntry,
}

/// Calls `visit` for each object that belongs to the content and begins with these letters: what a restore has lying about does not.
pub(super) fn visit(
    content: &dyn Content,
    prefix: &str,
    control: &Control,
    visit: &mut dyn FnMut(ContentEntry),
) -> Result<()> {
    let mut stopped = None;
    let listed = content.list(prefix, &mut |entry| {
        if let Err(e) = control.check() {
            let why = e.message.clone();
            stopped = Some(e);
            return Err(storage::Error::new(storage::ErrorKind::Io, "list", "", "the bucket", why));
        }
        if !entry.key.split('/').any(|part| part.starts_with(STAGING_PREFIX)) {
            visit(entry);
        }
        Ok(())
    });
    match stopped {
        Some(e) => Err(Error::engine("the listing was stopped", e)),
        None => listed.map_err(store_error),
    }
}

/// Why an object is in no backup, if it is not: then a restore leaves it alone as well.
pub(super) fn beyond_us(entry: &ContentEntry) -> Option<&'static str> {
    let archived = "it lies in an archive; bring it back, and back up again";
    names::unfit(&entry.key).or(entry.archived.then_some(archived))
}

/// All objects, in the order of their paths. An object that no file can stand for is named and left out.
pub(super) fn in_order(content: &dyn Content, control: &Control) -> Result<Vec<Listed>> {
    let mut found = Vec::new();
    visit(content, "", control, &mut |entry| match beyond_us(&entry) {
        Some(why) => control.warn(&entry.key, why),
        None => found.push(Listed { path: names::path_of(&entry.key), entry }),
    })?;
    found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    let is_below = |path: &[u8], other: &[u8]| {
        other.strip_prefix(path).is_some_and(|rest| rest.first() == Some(&names::BETWEEN))
    };
    let mut stepped = false;
    for place in 1..found.len() {
        if is_below(&found[place - 1].path, &found[place].path) {
            names::step_aside(&mut found[place - 1].path);
            stepped = true;
        }
    }
    if stepped {
        found.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    }
    if let Some(pair) = found.windows(2).find(|pair| pair[0].path == pair[1].path) {
        let message = format!("the service lists '{}' twice; try again", pair[0].entry.key.escape_debug());
        return Err(Error::new(ErrorKind::Io, message));
    }
    Ok(found)
}
