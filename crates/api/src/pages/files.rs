//! The browser of a backup's files: its components, then directory by directory. Content is never shown here, only
//! handed over to be kept.

use super::view::size;
use super::words::{exact, grouped};
use super::{Frame, Link, finish, frame, links_below};
use crate::dispatch::Call;
use crate::handlers::files::{SHOWN, SHOWN_MAX};
use crate::pages::file_name::{encode, kind, shown};
use askama::Template;
use recovery::{BackupView, EntryKind, FileEntry, FileListing, Role};

/// What the page shows.
#[derive(Debug)]
pub(crate) struct FilesView {
    pub backup: BackupView,
    /// Component, a part of one of its directories, and how many entries stand before that part; without it the
    /// components.
    pub directory: Option<(String, FileListing, usize)>,
}

#[derive(Template)]
#[template(path = "files.html")]
struct FilesPage {
    frame: Frame,
    /// Address and text of the way from the component to this directory.
    way: Vec<Link>,
    here: String,
    close: Option<Link>,
    parts: Vec<Link>,
    rows: Vec<Row>,
    total: String,
    place: Option<String>,
    before: Option<String>,
    behind: Option<String>,
}

struct Row {
    name: String,
    kind: &'static str,
    /// The page of a directory.
    enter: Option<String>,
    /// The content of a file.
    download: Option<String>,
    target: Option<String>,
    size: String,
    modified: String,
}

/// Whether this user may look.
pub(super) fn is_allowed(call: &Call) -> bool {
    call.principal.as_ref().is_some_and(|principal| principal.role >= Role::Administrator)
}

/// The address of a directory below the page of its backup.
pub(super) fn address(backup: &str, component: &str, directory: Option<&[u8]>, skip: usize) -> String {
    query(&format!("{backup}/files"), component, directory, skip)
}

fn query(page: &str, component: &str, path: Option<&[u8]>, skip: usize) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.append_pair("component", component);
    if let Some(path) = path {
        let path = if path.is_empty() { "/".to_owned() } else { encode(path) };
        query.append_pair("path", &path);
    }
    if skip > 0 {
        query.append_pair("start", &(skip + 1).to_string());
    }
    format!("{page}?{}", query.finish())
}

pub(super) fn page(call: &Call, view: &FilesView) -> String {
    let page = call.path();
    let backup = page.strip_suffix("/files").unwrap_or(&page).to_owned();
    let mut frame = frame(call);
    frame.title = format!("Files of {}", view.backup.name);
    let close = links_below(call).1.into_iter().find(|link| link.path.ends_with("/close"));
    let Some((component, listing, skip)) = &view.directory else {
        let parts = view.backup.components.iter().map(|part| Link {
            path: address(&backup, &part.name, None, 0),
            text: format!("{}: {}", part.name, part.place),
        });
        return finish(&FilesPage {
            frame,
            way: Vec::new(),
            here: String::new(),
            close,
            parts: parts.collect(),
            rows: Vec::new(),
            total: String::new(),
            place: None,
            before: None,
            behind: None,
        });
    };
    // Whoever asked for pages of another length goes on so.
    let asked: Option<usize> = call.parameters.text("num").and_then(|num| num.parse().ok());
    let at = |skip| {
        let page = address(&backup, component, Some(&listing.path), skip);
        match asked {
            Some(num) => format!("{page}&num={num}"),
            None => page,
        }
    };
    // The last page may be shorter than those before it.
    let per_page = asked.unwrap_or(SHOWN).clamp(1, SHOWN_MAX);
    let (count, shown_until) = (listing.entries.len(), skip + listing.entries.len());
    let is_part = (count as u64) < listing.total;
    let (way, here) = way(&backup, component, &listing.path);
    finish(&FilesPage {
        frame,
        way,
        here,
        close,
        parts: Vec::new(),
        rows: listing.entries.iter().map(|entry| row(&backup, component, &listing.path, entry)).collect(),
        total: grouped(listing.total),
        place: is_part.then(|| format!("{} to {}", skip + 1, shown_until)),
        before: (*skip > 0).then(|| at(skip.saturating_sub(per_page))),
        behind: (is_part && (shown_until as u64) < listing.total && count > 0).then(|| at(shown_until)),
    })
}

/// The directories above this one, from the component on, and its own name.
fn way(backup: &str, component: &str, path: &[u8]) -> (Vec<Link>, String) {
    let mut way = vec![Link { text: component.to_owned(), path: address(backup, component, Some(b""), 0) }];
    let mut at = Vec::new();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        at.push(b'/');
        at.extend_from_slice(name);
        way.push(Link { text: shown(name), path: address(backup, component, Some(&at), 0) });
    }
    let here = way.pop().map_or(String::new(), |link| link.text);
    (way, here)
}

fn row(backup: &str, component: &str, directory: &[u8], entry: &FileEntry) -> Row {
    let path = [directory, b"/", &entry.name].concat();
    let is_file = entry.kind == EntryKind::File;
    Row {
        name: shown(&entry.name),
        kind: kind(entry.kind),
        enter: (entry.kind == EntryKind::Directory).then(|| address(backup, component, Some(&path), 0)),
        download: is_file.then(|| query(&format!("{backup}/files/download"), component, Some(&path), 0)),
        target: entry.link_target.as_deref().map(shown),
        size: if is_file { size(entry.size) } else { String::new() },
        modified: exact(entry.modified),
    }
}
