//! What the keys of single things are called on their pages, in the order in which people read them.

use crate::dispatch::Call;
use serde_json::Value;

/// Keys and their titles.
type Titles = &'static [(&'static str, &'static str)];

static TITLES: &[(&str, Titles)] = &[
    (
        "admin/system/tasks/{task}",
        &[
            ("taskTitle", "Title"),
            ("taskType", "Type"),
            ("taskState", "State"),
            ("cronExpression", "When"),
            ("timeZone", "By the clocks of"),
            ("lastStart", "Last begun"),
            ("nextRun", "Next"),
            ("startDate", "No run before"),
            ("endDate", "No run after"),
            ("maxOccurrences", "At most so many runs"),
            ("occurrences", "Runs so far"),
            ("parameters", "What it does"),
            ("name", "Name of the backups"),
            ("storeName", "Store"),
            ("passcode", "Passcode"),
            ("description", "Description"),
            ("retentionOffset", "Each is kept for"),
            ("keepLast", "So many always stay"),
            ("allBackups", "All backups"),
            ("metaData", "Notes of clients"),
            ("ownerId", "Made by"),
            ("created", "Made"),
            ("updated", "Changed"),
            ("taskId", "Id"),
        ],
    ),
    (
        "admin/system/tasks/{task}/runs/{run}",
        &[
            ("task", "Task"),
            ("taskTitle", "Title"),
            ("taskType", "Type"),
            ("taskId", "Id of the task"),
            ("scheduledFor", "Due"),
            ("byHand", "By hand"),
            ("status", "Status"),
            ("result", "Result"),
            ("jobid", "Job"),
            ("created", "Begun"),
            ("modified", "Changed"),
            ("runId", "Id"),
        ],
    ),
    (
        "admin/system/disasterrecovery/stores/{store}/backups/{backup}/drills",
        &[
            ("reports", "The last drills"),
            ("outcome", "Outcome"),
            ("failures", "Why it failed"),
            ("recoveryTime", "A recovery takes"),
            ("recoveryPoint", "It brings back to"),
            ("proven", "Proven"),
            ("notProven", "Not proven"),
            ("withPasscode", "With the passcode"),
            ("startTime", "Begun"),
            ("endTime", "Ended"),
            ("files", "Files"),
            ("bytes", "Content"),
            ("times", "Where the time went"),
            ("name", "Step"),
            ("component", "Of"),
            ("milliseconds", "Took"),
            ("jobid", "Job"),
            ("server", "Carried out by"),
            ("backupName", "Backup"),
        ],
    ),
    ("admin/users/{user}", &[("username", "User name"), ("role", "Role"), ("createdTime", "Added")]),
    (
        "admin/keys/{key}",
        &[
            ("name", "Name"),
            ("role", "Role"),
            ("operations", "Good for"),
            ("stores", "In which stores"),
            ("createdBy", "Made by"),
            ("createdTime", "Made"),
            ("expires", "Ends"),
            ("lastUsedTime", "Last used"),
        ],
    ),
    (
        "admin/system/disasterrecovery/settings",
        &[
            ("timeoutInSeconds", "Longest time of a backup"),
            ("stagingVolumeConfig", "Staging volume (kept for clients and not used)"),
            ("component", "Of"),
            ("provisioningType", "How it is provided"),
            ("storageClass", "Storage class"),
            ("size", "Size"),
            ("labels", "Labels"),
        ],
    ),
    ("admin/mode", &[("isReadOnly", "Read-only"), ("message", "Message")]),
];

/// What says once more what stands under another key, or says nothing to people.
const OF_PROGRAMS: [&str; 10] = [
    "id",
    "title",
    "type",
    "active",
    "generation",
    "orgId",
    "cronSchedule",
    "itemId",
    "url",
    "runIntervalSeconds",
];

/// The titles of the thing that this request is about, and what of it is shown; none: all as programs get it.
pub(super) fn of(call: &Call, value: &Value) -> (Titles, Value) {
    let path = call.endpoint.map_or("", |endpoint| endpoint.path);
    let titles = TITLES.iter().find(|(of, _)| *of == path).map_or(&[][..], |(_, titles)| *titles);
    let mut shown = value.clone();
    if path.starts_with("admin/system/tasks/") && !titles.is_empty() {
        without(&mut shown);
        shown.get_mut("parameters").into_iter().for_each(without);
    }
    (titles, shown)
}

fn without(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        OF_PROGRAMS.iter().for_each(|key| drop(object.remove(*key)));
    }
}
