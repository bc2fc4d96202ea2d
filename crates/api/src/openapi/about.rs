//! What endpoints are for that have no form to say it, and examples of what endpoints answer. The tests hold each example
//! against the kind of its reply.

/// What is read at a path.
pub(crate) fn words(path: &str) -> Option<&'static str> {
    WORDS.iter().find(|(of, _)| *of == path).map(|(_, words)| *words)
}

/// A reply of a path, as JSON.
pub(crate) fn example(path: &str) -> Option<&'static str> {
    // The old layout and the alias answer the same.
    let path = path.replace("backuprestore/backups/{backup}", "stores/{store}/backups/{backup}");
    let path = match path.as_str() {
        "admin/generateToken" => "sharing/rest/generateToken",
        "admin/system/disasterrecovery/backuprestore/status" => "admin/system/disasterrecovery/status",
        "admin/system/disasterrecovery/backuprestore/backup" => {
            "admin/system/disasterrecovery/stores/{store}/backups/create"
        }
        path => path,
    };
    EXAMPLES.iter().find(|(of, _)| *of == path).map(|(_, example)| *example)
}

static WORDS: &[(&str, &str)] = &[
    ("sharing/rest", "The version of the interface, for clients that ask for it first."),
    ("sharing/rest/info", "Where tokens are made."),
    (
        "sharing/rest/oauth2/authorize",
        "The sign-in page of the OAuth 2 log-in; with `f=json` the `oauth_state` that `signin` wants back.",
    ),
    (
        "sharing/rest/oauth2/token",
        "Gives an access token for a code, or for a refresh token. A code is good for five minutes and one try.",
    ),
    ("sharing/rest/oauth2/revokeToken", "Ends an access or refresh token."),
    (
        "sharing/rest/portals/self",
        "What this deployment is and, with a token, whose token it is. Known clients decide by it how to go on.",
    ),
    (
        "sharing/rest/community/self",
        "The user of the token. `role` and `privileges` make known clients offer their administration; they grant \
         nothing.",
    ),
    (
        "sharing/rest/community/users/{user}",
        "A user as known clients ask for it: oneself; an administrator learns of others too.",
    ),
    ("admin", "The versions, and what lies below."),
    ("admin/users", "All users, those of a sign-in provider too."),
    ("admin/users/{user}", "One user."),
    ("admin/keys", "All keys. A key whose end has come is listed for 90 days more."),
    ("admin/keys/{key}", "One key; the key itself is never shown again."),
    (
        "admin/audit",
        "Every change and log-in, done or refused, newest first, kept for 400 days. The same log-in again within ten \
         minutes is not told, nor are more than 50 failed ones.",
    ),
    ("admin/metrics", "Figures for a monitoring system in the OpenMetrics text format."),
    ("admin/openapi.json", "This interface in OpenAPI 3.1, whatever the format asked for."),
    ("admin/notifications", "The targets of notifications and what became of what they were sent."),
    ("admin/jobs", "The ids of all jobs, newest first. Jobs are kept for 90 days."),
    ("admin/jobs/{job}", "One job: how far it is, and once it has ended what came of it."),
    (
        "admin/jobs/{job}/events",
        "The progress of a job as server-sent events: each `job` holds the job, `end` is the last. 64 streams at a \
         time, of at most ten minutes each.",
    ),
    ("admin/mode", "Whether the deployment is read-only."),
    ("admin/system", "What lies below."),
    (
        "admin/system/components",
        "What is protected, whether it is there, and the newest good backup of each; each store's newest is looked at.",
    ),
    ("admin/system/tasks", "All schedules and other tasks."),
    ("admin/system/tasks/{task}", "One task; its passcode is shown as asterisks."),
    (
        "admin/system/tasks/{task}/runs",
        "The runs of a task, newest first. Records are kept for 180 days, the last 20 always.",
    ),
    ("admin/system/tasks/{task}/runs/{run}", "The record of one run."),
    ("admin/system/disasterrecovery", "What lies below."),
    (
        "admin/system/disasterrecovery/status",
        "The last backup or restore that was asked for, running or not. Deletions and validations do not count.",
    ),
    ("admin/system/disasterrecovery/settings", "The settings of backups."),
    ("admin/system/disasterrecovery/stores", "All registered stores by name. No secret is shown."),
    (
        "admin/system/disasterrecovery/stores/{store}",
        "One store, with how much is in it. A store out of reach is an error here; in the list it is not looked at.",
    ),
    (
        "admin/system/disasterrecovery/stores/{store}/backups",
        "The backups of a store, newest first. All of them, unless `start` or `num` asks for a page.",
    ),
    ("admin/system/disasterrecovery/stores/{store}/backups/{backup}", "One backup, with what is not in it."),
    (
        "admin/system/disasterrecovery/stores/{store}/backups/{backup}/drills",
        "What the last 20 drills of a backup came to, newest first; the reports lie in the store.",
    ),
    (
        "admin/system/disasterrecovery/stores/{store}/backups/{backup}/files",
        "What is in a backup that was opened with its passcode: its components, or a directory of one of them. The \
         audit log tells of each look.",
    ),
    (
        "admin/system/disasterrecovery/stores/{store}/backups/{backup}/files/download",
        "The content of one file. A download that breaks off ends before its `Content-Length`.",
    ),
    ("admin/system/disasterrecovery/backuprestore", "What lies below."),
    ("admin/system/disasterrecovery/backuprestore/status", "The same as `disasterrecovery/status`."),
    (
        "admin/system/disasterrecovery/backuprestore/backups",
        "The backups of all stores, newest first. All of them, unless `start` or `num` asks for a page.",
    ),
    (
        "admin/system/disasterrecovery/backuprestore/backups/{backup}",
        "One backup, with what is not in it. `storeName` says which, if several stores hold the name.",
    ),
];

const ACCEPTED: &str = r#"{"jobsUrl": "https://dr.example.org/strongroom/admin/jobs/j83d135ab-fb58-4ef8-a7b8-26fcc09d3098",
 "jobid": "j83d135ab-fb58-4ef8-a7b8-26fcc09d3098", "jobId": "j83d135ab-fb58-4ef8-a7b8-26fcc09d3098",
 "status": "SUBMITTED"}"#;
const RESTORING: &str = r#"{"jobsUrl": "https://dr.example.org/strongroom/admin/jobs/j2f7a0a83-9df1-4c55-8a33-6f4b9d0f1a77",
 "jobid": "j2f7a0a83-9df1-4c55-8a33-6f4b9d0f1a77", "jobId": "j2f7a0a83-9df1-4c55-8a33-6f4b9d0f1a77",
 "status": "success"}"#;
const JOB: &str = r#"{"jobid": "j83d135ab-fb58-4ef8-a7b8-26fcc09d3098", "status": "COMPLETED",
 "starttime": 1795836600000, "updatedtime": 1795836641210, "endtime": 1795836641210,
 "operationURI": "/strongroom/admin/system/disasterrecovery/stores/main/backups/create", "username": "admin",
 "messages": [],
 "result": {"operation": "Backup", "state": "success", "backupName": "second", "backupStore": "main",
  "stages": [{"name": "Validation", "state": "completed", "duration": "31 millis (~ 0 minutes)",
   "lastUpdated": 1795836600102}],
  "bytesRead": 64172032, "bytesAdded": 61203441, "filesTotal": 2917, "warnings": []}}"#;
const STORES: &str = r#"{"backupStores": [{"name": "main", "default": true, "type": "FILESYSTEM", "rootDir": "/backup/main",
 "storageConfig": {}, "identity": "zusu66mh5dhsjtv78nhd", "versionCreated": "12.0.0", "providerID": "",
 "serviceID": ""}]}"#;
const REGISTERED: &str = r#"{"status": "success", "name": "main", "default": true, "type": "FILESYSTEM",
 "rootDir": "/backup/main", "storageConfig": {}}"#;
const BACKUPS: &str = r#"{"backups": [{"backupName": "second", "backupStore": "main", "description": "",
 "release": "12.0.0", "siteName": "headquarters", "namespace": "", "backupType": "FULL", "scheduleType": "MANUAL",
 "status": "completed", "startTime": 1795836600102, "completeTime": 1795836641100, "retentionDate": -1,
 "relationalStore": [], "objectStore": [], "infrastructures": {},
 "volumes": [{"name": "content", "path": "/srv/content", "startTime": 1795836600140, "endTime": 1795836640930,
  "status": "completed", "files": 2917, "bytes": 64172032, "bytesAdded": 61203441,
  "snapshotId": "4f1c2f0a9b7d"}],
 "bytesRead": 64172032, "bytesAdded": 61203441, "filesTotal": 2917, "snapshotId": "4f1c2f0a9b7d",
 "vaultId": "9be1d3", "formatVersion": 1, "warningCount": 0,
 "jobid": "j83d135ab-fb58-4ef8-a7b8-26fcc09d3098"}], "nextStart": -1}"#;
const STATUS: &str = r#"{"status": {"operation": "Backup", "state": "success", "code": 3, "message": "",
 "backupName": "second", "backupStore": "main", "scheduleType": "MANUAL", "startTime": 1795836600000,
 "completeTime": 1795836641210, "overallDuration": "41210 millis (~ 0 minutes)",
 "jobid": "j83d135ab-fb58-4ef8-a7b8-26fcc09d3098",
 "stages": [{"name": "Validation", "state": "completed", "duration": "31 millis (~ 0 minutes)",
  "lastUpdated": 1795836600102}]}}"#;
const RUNS: &str = r#"{"result": [{"runId": "dae1bfa5d6ec44349790ebb3f27dd4e1", "status": "succeeded",
 "result": "Backup 'nightly-20261128-023000' completed.", "created": 1795833000120, "modified": 1795833041345,
 "scheduledFor": 1795833000000, "byHand": false, "url": "", "jobid": "j83d135ab-fb58-4ef8-a7b8-26fcc09d3098",
 "task": {"taskId": "5f0cdc50cf36460990bb6edfe9b60e08", "taskTitle": "nightly", "taskType": "CreateBackup"}}]}"#;
const TASK_DONE: &str =
    r#"{"status": "success", "success": true, "taskId": "5f0cdc50cf36460990bb6edfe9b60e08"}"#;
const DRILLS: &str = r#"{"reports": [{"backupName": "second", "outcome": "proven", "startTime": 1795836700000,
 "endTime": 1795836712000, "withPasscode": true, "recoveryTime": 8120, "recoveryPoint": 1795836600140, "files": 2917,
 "bytes": 64172032, "times": [{"name": "restore", "component": "content", "milliseconds": 8044}],
 "proven": ["component 'content': 2917 files were restored …"], "notProven": [], "failures": [],
 "server": "headquarters/1", "jobid": "j2f7a0a83-9df1-4c55-8a33-6f4b9d0f1a77"}]}"#;
const FILES: &str = r#"{"backupName": "second", "component": "content", "path": "/maps", "total": 1, "nextStart": -1,
 "entries": [{"name": "world.geojson", "kind": "file", "modified": 1795833000000, "bytes": 81234}]}"#;

static EXAMPLES: &[(&str, &str)] = &[
    ("sharing/rest/generateToken", r#"{"token": "b0Wc5d1yXw…", "expires": 1795840200000, "ssl": true}"#),
    (
        "sharing/rest/oauth2/token",
        r#"{"access_token": "b0Wc5d1yXw…", "token_type": "bearer", "expires_in": 1800, "username": "admin",
 "ssl": true}"#,
    ),
    (
        "admin/keys/create",
        r#"{"status": "success", "name": "nightly", "key": "srk_…", "expires": 1803612600000}"#,
    ),
    ("admin/jobs", r#"{"jobs": ["j83d135ab-fb58-4ef8-a7b8-26fcc09d3098"]}"#),
    ("admin/jobs/{job}", JOB),
    ("admin/mode", r#"{"isReadOnly": true, "message": "Closed until Monday."}"#),
    ("admin/system/tasks/createTask", TASK_DONE),
    ("admin/system/tasks/{task}/runs", RUNS),
    ("admin/system/disasterrecovery/status", STATUS),
    ("admin/system/disasterrecovery/settings", r#"{"timeoutInSeconds": 7200}"#),
    ("admin/system/disasterrecovery/stores", STORES),
    ("admin/system/disasterrecovery/stores/register", REGISTERED),
    ("admin/system/disasterrecovery/stores/{store}/validate", r#"{"isReady": true, "status": "success"}"#),
    ("admin/system/disasterrecovery/stores/{store}/backups", BACKUPS),
    ("admin/system/disasterrecovery/stores/{store}/backups/create", ACCEPTED),
    ("admin/system/disasterrecovery/stores/{store}/backups/{backup}/restore", RESTORING),
    (
        "admin/system/disasterrecovery/stores/{store}/backups/{backup}/validate",
        r#"{"isReady": true, "status": "success"}"#,
    ),
    ("admin/system/disasterrecovery/stores/{store}/backups/{backup}/drill", ACCEPTED),
    ("admin/system/disasterrecovery/stores/{store}/backups/{backup}/drills", DRILLS),
    ("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files", FILES),
];
