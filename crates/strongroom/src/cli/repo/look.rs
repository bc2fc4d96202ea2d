//! `repo snapshots`, `repo ls`: looking without changing anything.

use anyhow::Result;
use repository::{GroupBy, Id, Node, NodeKind, Snapshot, Time};
use serde_json::{Value, json};

use super::filter::Filter;
use super::place::Place;
use super::short;
use crate::exit::Exit;
use crate::progress::printable;
use crate::table::Table;
use crate::{terminal, words};

/// Which snapshots are listed.
#[derive(clap::Args, Debug)]
pub struct SnapshotsArguments {
    /// Snapshots by id or prefix, or `latest` (default: all)
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Only the newest N of each host and set of paths
    #[arg(long, value_name = "N")]
    latest: Option<usize>,
}

/// Which snapshot is listed.
#[derive(clap::Args, Debug)]
pub struct LsArguments {
    /// Id, prefix of an id, or `latest`; with `:PATH` only what lies there
    snapshot: String,
    /// Mode, owner, size and time too
    #[arg(long, short = 'l')]
    long: bool,
}

/// Lists the snapshots.
pub fn snapshots(place: &Place, arguments: &SnapshotsArguments) -> Result<Exit> {
    let (repository, _control) = place.open_to_look()?;
    let _lock = place.lock_for_reading(&repository)?;
    let (mut chosen, unreadable) = arguments.filter.choose(&repository, &arguments.snapshots)?;
    if let Some(latest) = arguments.latest {
        let groups = repository::group_snapshots(chosen, GroupBy::default()).into_iter();
        chosen =
            groups.flat_map(|(_, mut group)| group.split_off(group.len().saturating_sub(latest))).collect();
        chosen.sort_by_key(|(id, snapshot)| (Time::parse(&snapshot.time), *id));
    }
    if place.json {
        let list: Vec<Value> = chosen.iter().map(|(id, snapshot)| snapshot_json(*id, snapshot)).collect();
        terminal::out_json(&list)?;
    } else {
        let mut table = Table::new(["ID", "Time", "Host", "Tags", "Paths"]);
        for (id, snapshot) in &chosen {
            table.row([
                short(&id.to_string()).to_owned(),
                time_of(&snapshot.time),
                printable(&snapshot.hostname),
                printable(&snapshot.tags.join(",")),
                printable(&snapshot.paths.join(", ")),
            ]);
        }
        terminal::out(table.text())?;
        terminal::out(words::counted(chosen.len() as u64, "snapshot", "snapshots"))?;
    }
    Ok(if unreadable { Exit::Damaged } else { Exit::Done })
}

/// Lists what is in a snapshot.
pub fn ls(place: &Place, arguments: &LsArguments) -> Result<Exit> {
    let (repository, control) = place.open_to_look()?;
    let _lock = place.lock_for_reading(&repository)?;
    let (snapshot, path) = split(&arguments.snapshot);
    let (id, snapshot) = repository.find_snapshot(snapshot)?;
    let index = repository.load_index(&|_| true)?;
    let below = canonical(path.unwrap_or_default());
    // A path that is not there is an error, and not an empty list.
    repository::entry_at(&repository, &index, snapshot.tree, &below)?;
    if place.json {
        let mut head = snapshot_json(id, &snapshot);
        head["message_type"] = json!("snapshot");
        head["struct_type"] = json!("snapshot");
        terminal::out_json(&head)?;
    }
    repository::walk(&repository, &index, id, &mut |path, node| {
        control.check()?;
        let inside =
            path.strip_prefix(below.as_slice()).is_some_and(|rest| rest.is_empty() || rest[0] == b'/');
        if !inside {
            return Ok(());
        }
        let name = String::from_utf8_lossy(path);
        let told = match (place.json, arguments.long) {
            (true, _) => terminal::out_json(&node_json(&name, node)),
            (false, true) => terminal::out(long_line(&name, node)),
            (false, false) => terminal::out(printable(&name)),
        };
        told.map_err(super::stopped)
    })?;
    Ok(Exit::Done)
}

/// A path as a walk tells it: `/srv/a` for `srv//a/`, nothing for the root.
fn canonical(path: &str) -> Vec<u8> {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.flat_map(|part| ["/", part]).collect::<String>().into_bytes()
}

/// `SNAPSHOT:PATH` in its two parts.
pub fn split(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((snapshot, path)) if !path.is_empty() => (snapshot, Some(path)),
        Some((snapshot, _)) => (snapshot, None),
        None => (text, None),
    }
}

/// A snapshot in the form of `restic snapshots --json`.
pub fn snapshot_json(id: Id, snapshot: &Snapshot) -> Value {
    let mut value = serde_json::to_value(snapshot).unwrap_or_else(|_| json!({}));
    if let Some(object) = value.as_object_mut() {
        // restic leaves out what is empty.
        object.retain(|_, value| !value.is_null() && *value != json!([]) && *value != json!(""));
    }
    let id = id.to_string();
    value["id"] = json!(id);
    value["short_id"] = json!(short(&id));
    value
}

/// An entry in the form of `restic ls --json`.
pub fn node_json(path: &str, node: &Node) -> Value {
    let mut value = json!({
        "name": path.rsplit('/').next().unwrap_or_default(), "type": node.kind.word(), "path": path,
        "uid": node.uid, "gid": node.gid, "mode": node.mode, "permissions": permissions(node.kind, node.permissions()), "mtime": node.mtime.text(),
        "atime": node.atime.text(), "ctime": node.ctime.text(), "message_type": "node", "struct_type": "node",
    });
    if node.inode != 0 {
        value["inode"] = json!(node.inode);
    }
    if node.kind == NodeKind::File {
        value["size"] = json!(node.size);
    }
    if let Some(target) = &node.link_target {
        value["linktarget"] = json!(String::from_utf8_lossy(target));
    }
    value
}

/// An entry with mode, owner, size and time.
pub fn long_line(path: &str, node: &Node) -> String {
    let link = match &node.link_target {
        Some(target) => format!(" -> {}", printable(&String::from_utf8_lossy(target))),
        None => String::new(),
    };
    format!(
        "{} {:>5} {:>5} {:>12} {} {}{link}",
        permissions(node.kind, node.permissions()),
        node.uid,
        node.gid,
        node.size,
        time_of(&node.mtime.text()),
        printable(path)
    )
}

/// `drwxr-xr-x`
fn permissions(kind: NodeKind, mode: u32) -> String {
    let kind = match kind {
        NodeKind::Dir => 'd',
        NodeKind::Symlink => 'l',
        NodeKind::Fifo => 'p',
        NodeKind::Socket => 's',
        NodeKind::Dev => 'b',
        NodeKind::CharDev => 'c',
        NodeKind::File | NodeKind::Irregular => '-',
    };
    let bit = |at: u32| if mode & (1 << at) == 0 { '-' } else { ['x', 'w', 'r'][at as usize % 3] };
    std::iter::once(kind).chain((0..9).rev().map(bit)).collect()
}

/// `2026-03-01 10:15:30` of an RFC 3339 time, as it was written.
pub fn time_of(time: &str) -> String {
    printable(time.get(..19).unwrap_or(time)).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_and_a_path_inside_it_are_told_apart() {
        assert_eq!(split("latest"), ("latest", None));
        assert_eq!(split("4f1c:/srv/a:b"), ("4f1c", Some("/srv/a:b")));
        assert_eq!(split("latest:"), ("latest", None));
    }

    #[test]
    fn paths_are_taken_as_a_walk_tells_them() {
        assert_eq!(canonical("srv//./a/"), b"/srv/a");
        assert_eq!(canonical("/"), b"");
    }

    #[test]
    fn modes_are_shown_as_ls_shows_them() {
        assert_eq!(permissions(NodeKind::Dir, 0o755), "drwxr-xr-x");
        assert_eq!(permissions(NodeKind::File, 0o640), "-rw-r-----");
        assert_eq!(permissions(NodeKind::Symlink, 0o777), "lrwxrwxrwx");
    }
}
