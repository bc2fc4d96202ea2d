//! Our own folders with the snapshots in them, named as restic names them: `ids/ID`, `snapshots/TIME`,
//! `hosts/HOST/TIME`, `tags/TAG/TIME`, and beside times a link `latest` to the newest.

use std::collections::BTreeMap;
use std::ffi::OsString;

use repository::{Id, Snapshot, Time};

/// Something in a folder.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// Another folder.
    Folder,
    /// A link to a neighbour.
    Link(OsString),
    /// The root of a snapshot.
    Snapshot(Root),
}

/// The root of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Root {
    /// The snapshot.
    pub id: Id,
    /// The listing of its root.
    pub tree: Id,
    /// When it was made.
    pub time: Time,
}

/// What is in a folder, by name.
pub type Folder = BTreeMap<OsString, Item>;

/// All folders by their paths, like `hosts/one`; the mounted directory itself has the empty one.
pub struct Folders(BTreeMap<String, Folder>);

impl Folders {
    /// The folders for these snapshots, the oldest of which is first.
    pub fn new(snapshots: &[(Id, Snapshot)]) -> Self {
        let top = ["ids", "snapshots", "hosts", "tags"];
        let mut folders = Self(BTreeMap::new());
        folders.0.insert(String::new(), top.map(|name| (name.into(), Item::Folder)).into());
        folders.0.extend(top.map(|name| (name.to_owned(), Folder::new())));
        for (id, snapshot) in snapshots {
            let time = Time::parse(&snapshot.time).unwrap_or_default();
            let root = Root { id: *id, tree: snapshot.tree, time };
            let short: String = id.to_string().chars().take(8).collect();
            add(folders.0.entry("ids".to_owned()).or_default(), &short, root);
            let name = name_of(&snapshot.time);
            folders.add_by_time("snapshots", &name, root);
            let host = folders.below("hosts", &snapshot.hostname);
            folders.add_by_time(&host, &name, root);
            for tag in &snapshot.tags {
                let tag = folders.below("tags", tag);
                folders.add_by_time(&tag, &name, root);
            }
        }
        folders
    }

    /// The folder at this path.
    pub fn get(&self, path: &str) -> Option<&Folder> {
        self.0.get(path)
    }

    /// Makes sure that there is a folder in a folder; its path.
    fn below(&mut self, folder: &str, name: &str) -> String {
        let name = safe(name);
        let path = format!("{folder}/{name}");
        self.0.entry(folder.to_owned()).or_default().insert(name.into(), Item::Folder);
        self.0.entry(path.clone()).or_default();
        path
    }

    /// Adds a snapshot, which is the newest so far.
    fn add_by_time(&mut self, path: &str, name: &str, root: Root) {
        let folder = self.0.entry(path.to_owned()).or_default();
        folder.remove(&OsString::from("latest"));
        let name = add(folder, name, root);
        folder.insert("latest".into(), Item::Link(name));
    }
}

/// Adds a snapshot under this name or, if that is taken, with a number behind it; returns its name.
fn add(folder: &mut Folder, name: &str, root: Root) -> OsString {
    let mut free = OsString::from(name);
    let mut number = 1;
    while folder.contains_key(&free) {
        free = format!("{name}-{number}").into();
        number += 1;
    }
    folder.insert(free.clone(), Item::Snapshot(root));
    free
}

/// The time of a snapshot as it was written, without fractions of a second. What is no time is the epoch.
fn name_of(time: &str) -> String {
    match time.split_at_checked(19) {
        Some((second, rest)) if Time::parse(time).is_some() => {
            let zone = rest.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
            safe(&format!("{second}{zone}"))
        }
        _ => Time::default().text(),
    }
}

/// A name that can be one: who wrote the repository chose it.
fn safe(text: &str) -> String {
    let text = text.replace(['/', '\0'], "_");
    match text.as_str() {
        "" | "." => "_".to_owned(),
        ".." => "__".to_owned(),
        _ if text.len() > 255 => text.chars().take(60).collect(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(number: u8, time: &str, host: &str, tags: &[&str]) -> (Id, Snapshot) {
        let text = serde_json::json!({
            "time": time, "tree": Id([number; 32]), "paths": ["/p"], "hostname": host, "tags": tags,
        });
        (Id([number; 32]), serde_json::from_value(text).unwrap())
    }

    /// All snapshots and links, as `a/b = NUMBER` and `a/b -> c`.
    fn shown(folders: &Folders) -> Vec<String> {
        let mut out = Vec::new();
        for (path, folder) in &folders.0 {
            for (name, item) in folder {
                let path = format!("{path}/{}", name.to_str().unwrap());
                match item {
                    Item::Folder => {
                        assert!(folders.get(path.trim_start_matches('/')).is_some(), "{path} leads nowhere");
                    }
                    Item::Link(target) => out.push(format!("{path} -> {}", target.to_str().unwrap())),
                    Item::Snapshot(root) => out.push(format!("{path} = {}", root.id.0[0])),
                }
            }
        }
        out
    }

    #[test]
    fn snapshots_are_found_by_id_time_host_and_tag_with_a_link_to_the_newest() {
        let snapshots = vec![
            snapshot(1, "2026-01-01T10:00:00.123+02:00", "one", &["x"]),
            snapshot(2, "2026-01-01T10:00:00.9+02:00", "two", &[]),
            snapshot(3, "2026-01-02T00:00:00Z", "one", &["x", "y"]),
        ];
        let expected = [
            "hosts/one/2026-01-01T10:00:00+02:00 = 1",
            "hosts/one/2026-01-02T00:00:00Z = 3",
            "hosts/one/latest -> 2026-01-02T00:00:00Z",
            "hosts/two/2026-01-01T10:00:00+02:00 = 2",
            "hosts/two/latest -> 2026-01-01T10:00:00+02:00",
            "ids/01010101 = 1",
            "ids/02020202 = 2",
            "ids/03030303 = 3",
            "snapshots/2026-01-01T10:00:00+02:00 = 1",
            "snapshots/2026-01-01T10:00:00+02:00-1 = 2",
            "snapshots/2026-01-02T00:00:00Z = 3",
            "snapshots/latest -> 2026-01-02T00:00:00Z",
            "tags/x/2026-01-01T10:00:00+02:00 = 1",
            "tags/x/2026-01-02T00:00:00Z = 3",
            "tags/x/latest -> 2026-01-02T00:00:00Z",
            "tags/y/2026-01-02T00:00:00Z = 3",
            "tags/y/latest -> 2026-01-02T00:00:00Z",
        ];
        assert_eq!(shown(&Folders::new(&snapshots)), expected);
        assert_eq!(shown(&Folders::new(&[])), [""; 0]);
    }

    #[test]
    fn whatever_a_snapshot_says_of_itself_is_a_name_of_one_component() {
        let long = "ß".repeat(200);
        for odd in ["", ".", "..", "../..", "/etc", "a\0b", "latest", long.as_str()] {
            let folders = Folders::new(&[snapshot(1, odd, odd, &[odd]), snapshot(2, odd, odd, &[odd])]);
            for name in folders.0.values().flat_map(BTreeMap::keys) {
                let name = name.to_str().unwrap();
                assert!(!["", ".", ".."].contains(&name) && name.len() <= 255, "{name}");
                assert!(!name.contains(['/', '\0']), "{name}");
            }
            assert_eq!(shown(&folders).len(), 2 + 3 * 3, "{odd}");
        }
    }
}
