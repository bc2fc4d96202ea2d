//! Lists as tables: for each resource that lists things, which of their keys people want to see, and where a line leads.

use super::words::ahead;
use super::{Frame, Link, finish, frame, link, links_below, view};
use crate::dispatch::{Call, now_ms};
use crate::path;
use askama::Template;
use serde_json::{Value, json};
use view::Cell;

/// How one list is shown.
struct List {
    /// The endpoint's path.
    path: &'static str,
    /// The key of the list in the reply.
    key: &'static str,
    /// The key that names a thing in its own URL, below this one; empty if it has none there.
    id: &'static str,
    /// Keys and titles of the columns; the first one leads to the thing.
    columns: &'static [(&'static str, &'static str)],
}

const STORES: &str = "admin/system/disasterrecovery/stores";

static LISTS: &[List] = &[
    List {
        path: STORES,
        key: "backupStores",
        id: "name",
        columns: &[("name", "Store"), ("type", "Type"), ("default", "Default"), ("rootDir", "Place")],
    },
    List {
        path: "admin/system/tasks",
        key: "result",
        id: "taskId",
        columns: &[
            ("taskTitle", "Task"),
            ("taskType", "Type"),
            ("taskState", "State"),
            ("cronExpression", "When"),
            ("timeZone", "By the clocks of"),
            ("lastStart", "Last begun"),
            ("nextRun", "Next"),
        ],
    },
    List {
        path: "admin/system/tasks/{task}/runs",
        key: "result",
        id: "runId",
        columns: &[("scheduledFor", "Run"), ("status", "Status"), ("result", "Result"), ("jobid", "Job")],
    },
    List {
        path: "admin/jobs",
        key: "jobs",
        id: "jobid",
        columns: &[
            ("operation", "Job"),
            ("backup", "Backup"),
            ("store", "Store"),
            ("status", "Status"),
            ("startTime", "Submitted"),
            ("endTime", "Ended"),
            ("username", "By"),
        ],
    },
    List {
        path: "admin/users",
        key: "users",
        id: "username",
        columns: &[("username", "User"), ("role", "Role"), ("createdTime", "Added")],
    },
    List {
        path: "admin/system/components",
        key: "components",
        id: "",
        columns: &[
            ("name", "Component"),
            ("kind", "Kind"),
            ("target", "Where"),
            ("backupTime", "Last backup"),
            ("backupName", "Of"),
            ("problem", "Problem"),
        ],
    },
    List {
        path: "admin/keys",
        key: "keys",
        id: "name",
        columns: &[
            ("name", "Key"),
            ("role", "Role"),
            ("operations", "Good for"),
            ("stores", "In which stores"),
            ("createdBy", "Made by"),
            ("expires", "Ends"),
            ("lastUsedTime", "Last used"),
        ],
    },
    List {
        path: "admin/notifications",
        key: "targets",
        id: "",
        columns: &[
            ("name", "Target"),
            ("type", "Type"),
            ("place", "Place"),
            ("events", "Told of"),
            ("waiting", "Waiting"),
            ("givenUp", "Given up"),
            ("lastDelivered", "Last delivered"),
            ("lastFailed", "Last failed"),
            ("lastError", "Why"),
        ],
    },
    List {
        path: "admin/audit",
        key: "entries",
        id: "",
        columns: &[
            ("time", "When"),
            ("username", "Who"),
            ("operation", "What"),
            ("path", "Where"),
            ("address", "From"),
            ("messageCode", "Refused"),
            ("jobid", "Job"),
        ],
    },
];

/// Texts of more bytes are long.
const LONG: usize = 40;
/// More lines are counted, not shown: a page stays light.
const ROWS_MAX: usize = 150;
/// Lists of more are not shown a second time as programs get them.
const WHOLE_MAX: usize = 30;

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    frame: Frame,
    children: Vec<Link>,
    operations: Vec<Link>,
    titles: Vec<&'static str>,
    rows: Vec<Vec<CellText>>,
    more: usize,
    /// Everything, for a list whose table leaves keys out.
    cell: Option<Cell>,
}

struct CellText {
    title: &'static str,
    text: String,
    /// Times and schedules stay on one line; long texts may break anywhere.
    class: &'static str,
    link: Option<String>,
}

/// The page of a list, if this endpoint lists things.
pub(super) fn page(call: &Call, value: &Value) -> Option<String> {
    let endpoint = call.endpoint?;
    let list = LISTS.iter().find(|list| list.path == endpoint.path)?;
    let entries = value.get(list.key)?.as_array()?;
    let now = now_ms();
    let row = |entry: &Value| {
        let cell = |(place, (key, title)): (usize, &(&str, &'static str))| {
            let text = match (list.path, *key) {
                (STORES, "rootDir") => view::place_of_store(entry),
                ("admin/keys", "stores") if entry["stores"] == json!([]) => "all".to_owned(),
                _ => view::short(key, entry.get(*key)),
            };
            if let ("admin/keys", "expires", Some(end)) =
                (list.path, *key, entry.get(*key).and_then(Value::as_i64))
            {
                return end_of_key(title, text, end, now);
            }
            let own = entry.get(list.id).and_then(Value::as_str).filter(|_| place == 0);
            let link = match own {
                Some(id) => Some(format!("{}/{}", call.path(), path::encode(id))),
                None => link(call, key, &text, Some(entry)),
            };
            CellText { title, class: class_of(key, entry.get(*key), &text), text, link }
        };
        list.columns.iter().enumerate().map(cell).collect()
    };
    let (children, operations) = links_below(call);
    let is_whole = matches!(
        list.path,
        "admin/jobs" | "admin/users" | "admin/keys" | "admin/audit" | "admin/notifications"
    );
    let cell = (!is_whole && (1..=WHOLE_MAX).contains(&entries.len()))
        .then(|| Cell::of(value, &|key, text, around| link(call, key, text, around)));
    Some(finish(&ListPage {
        frame: frame(call),
        children,
        operations,
        titles: list.columns.iter().map(|(_, title)| *title).collect(),
        rows: entries.iter().take(ROWS_MAX).map(row).collect(),
        more: entries.len().saturating_sub(ROWS_MAX),
        cell,
    }))
}

/// When a key ends, and that somebody should see to it.
fn end_of_key(title: &'static str, text: String, end: i64, now: i64) -> CellText {
    let (class, text) = match end - now {
        ..=0 => ("line bad", format!("{text} (ended)")),
        left if left <= recovery::KEY_ENDS_SOON_MS => ("line mild", format!("{text} ({})", ahead(left))),
        _ => ("line", text),
    };
    CellText { title, text, class, link: None }
}

fn class_of(key: &str, value: Option<&Value>, text: &str) -> &'static str {
    match value {
        Some(Value::Number(_)) => "line",
        _ if key == "cronExpression" => "line",
        _ if text.len() > LONG => "long",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoints::ENDPOINTS;

    #[test]
    fn every_list_belongs_to_an_endpoint() {
        for list in LISTS {
            assert!(ENDPOINTS.iter().any(|endpoint| endpoint.path == list.path), "{}", list.path);
        }
    }
}
