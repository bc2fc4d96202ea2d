//! What each endpoint answers when it does not refuse. The tests check every reply that they get against these.

use super::schema::Schema::{Boolean, Choice, Either, List, Named, Number, Object, Texts};
use super::schema::{COUNT, INTEGER, Schema, TEXT, TIME_OR_NEVER, key, may};

static WORDS: Schema = List(&TEXT);
static ONLY_SUCCESS: Schema = Choice(&["success"]);

/// The plain reply of an operation.
pub(crate) static SUCCESS: Schema = Named("Success", &Object(&[key("status", &ONLY_SUCCESS)]));

static ACCEPTED: Schema = Named(
    "Accepted",
    &Object(&[
        key("jobsUrl", &TEXT).about("Where the job is read."),
        key("jobid", &TEXT).about("The id of the job."),
        key("jobId", &TEXT).about("The same."),
        key("status", &Choice(&["SUBMITTED", "success"])).about("Only the job tells how it ends."),
        may("runId", &TEXT).about("Of a task that was run by hand."),
    ]),
);

/// Done, or accepted as a job.
pub(crate) static DONE_OR_JOB: Schema = Either(&[&SUCCESS, &ACCEPTED]);
/// Accepted as a job.
pub(crate) static JOB_ACCEPTED: &Schema = &ACCEPTED;

/// `generateToken`
pub(crate) static TOKEN: Schema = Named(
    "Token",
    &Object(&[key("token", &TEXT), key("expires", &COUNT).about("When it ends."), key("ssl", &Boolean)]),
);
/// `sharing/rest`
pub(crate) static SHARING: Schema =
    Object(&[key("currentVersion", &TEXT), key("enterpriseVersion", &TEXT), key("enterpriseBuild", &TEXT)]);
/// `sharing/rest/info`
pub(crate) static INFO: Schema = Object(&[key(
    "authInfo",
    &Object(&[key("isTokenBasedSecurity", &Boolean), key("tokenServicesUrl", &TEXT)]),
)]);
/// `oauth2/authorize`, asked for JSON
pub(crate) static OAUTH_STATE: Schema = Object(&[key("oauth_state", &TEXT).about("Good for ten minutes.")]);
/// `oauth2/token`
pub(crate) static OAUTH_TOKEN: Schema = Named(
    "OAuthToken",
    &Object(&[
        key("access_token", &TEXT),
        key("token_type", &Choice(&["bearer"])),
        key("expires_in", &INTEGER).about("Seconds."),
        key("username", &TEXT),
        key("ssl", &Boolean),
        may("refresh_token", &TEXT),
        may("refresh_token_expires_in", &INTEGER).about("Seconds."),
    ]),
);
/// `oauth2/revokeToken`
pub(crate) static REVOKED: Schema = Object(&[key("success", &Boolean)]);

/// A user as a portal tells of it.
pub(crate) static PORTAL_USER: Schema = Named(
    "PortalUser",
    &Object(&[
        key("username", &TEXT),
        key("id", &TEXT),
        key("fullName", &TEXT),
        key("role", &Choice(&["org_admin", "org_publisher"])),
        key("privileges", &WORDS),
        key("groups", &WORDS),
    ]),
);
/// `portals/self`
pub(crate) static PORTAL: Schema = Named(
    "Portal",
    &Object(&[
        key("id", &TEXT),
        key("name", &TEXT),
        key("portalName", &TEXT),
        key("portalDeploymentType", &TEXT),
        key("isPortal", &Boolean),
        key("portalMode", &TEXT),
        key("allSSL", &Boolean),
        key("currentVersion", &TEXT),
        may("user", &PORTAL_USER).about("Of the token; absent without one."),
    ]),
);

/// `admin`
pub(crate) static ADMIN: Schema = Object(&[
    key("fullVersion", &TEXT).about("The release of the interface that is spoken."),
    key("currentVersion", &Number).about("The same as a number."),
    key("resources", &WORDS),
    key("strongroomVersion", &TEXT).about("The version of this program."),
]);
/// `admin/system`
pub(crate) static RESOURCES: Schema = Object(&[key("resources", &WORDS)]);
/// The roots of disaster recovery.
pub(crate) static BELOW: Schema = Object(&[key("operations", &WORDS), key("resources", &WORDS)]);

/// `users/{user}`
pub(crate) static USER: Schema = Named(
    "User",
    &Object(&[
        key("username", &TEXT),
        key("role", &Choice(&["viewer", "operator", "administrator"])),
        key("createdTime", &COUNT),
    ]),
);
/// `users`
pub(crate) static USERS: Schema = Object(&[key("users", &List(&USER))]);
/// `keys/{key}`
pub(crate) static KEY: Schema = Named(
    "Key",
    &Object(&[
        key("name", &TEXT),
        key("role", &Choice(&["viewer", "operator", "administrator"])).about("The most that it may do."),
        key("operations", &List(&Choice(&["read", "backup", "restore", "schedules", "manage"]))),
        key("stores", &WORDS).about("None: all of them."),
        key("createdBy", &TEXT).about("The administrator who made it."),
        key("createdTime", &COUNT),
        key("expires", &COUNT).about("When it ends."),
        key("lastUsedTime", &COUNT).about("0: never."),
    ]),
);
/// `keys`
pub(crate) static KEYS: Schema = Object(&[key("keys", &List(&KEY))]);
/// `keys/create`
pub(crate) static KEY_MADE: Schema = Object(&[
    key("status", &ONLY_SUCCESS),
    key("name", &TEXT),
    key("key", &TEXT).about("Shown this once."),
    key("expires", &COUNT),
]);
/// `system/components`
pub(crate) static COMPONENTS: Schema = Object(&[key(
    "components",
    &List(&Named(
        "Component",
        &Object(&[
            key("name", &TEXT),
            key("kind", &Choice(&["relationalStore", "objectStore", "fileStore", "systemConfiguration"])),
            key("target", &TEXT).about("Where its content lies."),
            key("isMissing", &Boolean),
            may("problem", &TEXT).about("Why it cannot be backed up now."),
            may("backupName", &TEXT).about("The newest backup without warnings that holds it."),
            may("backupStore", &TEXT),
            key("backupTime", &COUNT).about("0: there is none."),
        ]),
    )),
)]);
/// `audit`
pub(crate) static AUDIT: Schema = Object(&[
    key(
        "entries",
        &List(&Named(
            "AuditEntry",
            &Object(&[
                key("id", &COUNT),
                key("time", &COUNT),
                key("username", &TEXT).about("Who; `key:NAME` of a key."),
                key("address", &TEXT).about("Of the connection."),
                key("operation", &TEXT),
                key("path", &TEXT).about("It ends with `?name=…` where something was made."),
                key("code", &COUNT).about("0: done; else the code of the refusal."),
                key("messageCode", &TEXT),
                key("jobid", &TEXT).about("The job that came of it, or nothing."),
                key("requestId", &TEXT).about("As in the log and in `x-request-id`."),
            ]),
        )),
    ),
    key("nextBefore", &TIME_OR_NEVER).about("Send it as `before` for the next page; -1 at the end."),
]);

/// `jobs`
pub(crate) static JOBS: Schema = Object(&[key("jobs", &WORDS)]);

static STAGES: Schema = List(&Named(
    "Stage",
    &Object(&[key("name", &TEXT), key("state", &TEXT).about("`pending`, `in_progress`, `completed`, `completed_with_warnings`, `failed`, `skipped` or `cancelled`."), key("duration", &TEXT), key("lastUpdated", &COUNT).about("When it last changed.")]),
));

static WARNINGS: Schema = List(&Object(&[
    key("item", &TEXT).about("What is not in the backup, or was not set."),
    key("reason", &TEXT).about("Why."),
]));

/// `jobs/{job}`
pub(crate) static JOB: Schema = Named(
    "Job",
    &Object(&[
        key("jobid", &TEXT),
        key(
            "status",
            &Choice(&[
                "SUBMITTED",
                "EXECUTING",
                "CANCELLING",
                "COMPLETED",
                "FAILED",
                "CANCELLED",
                "UNAVAILABLE",
            ]),
        ),
        key("starttime", &COUNT),
        key("updatedtime", &COUNT),
        key("endtime", &COUNT).about("0 while it runs."),
        key("operationURI", &TEXT).about("The path that made it."),
        key("username", &TEXT).about("Who asked for it."),
        key("messages", &WORDS).about("Why it failed, or what went on; the most important first."),
        may(
            "progress",
            &Object(&[
                key("percent", &Schema::Integer { least: 0, most: 100 }).about("Of the whole job."),
                key("stage", &TEXT).about("What is at work."),
                key("bytesDone", &COUNT),
                key("bytesTotal", &COUNT),
                key("filesDone", &COUNT),
                key("filesTotal", &COUNT),
                key("bytesPerSecond", &COUNT),
                key("current", &TEXT).about("What it is at just now."),
                may("secondsLeft", &COUNT).about("An estimate."),
            ]),
        )
        .about("While it runs."),
        may("result", &JOB_RESULT).about("Once it has ended."),
    ]),
);

static DRILL_OUTCOME: Schema = Choice(&["proven", "whole", "failed"]);
static DRILL_TIMES: Schema = List(&Object(&[
    key("name", &TEXT),
    key("component", &TEXT).about("Or nothing."),
    key("milliseconds", &COUNT),
]));

/// `backups/{backup}/drills`
pub(crate) static DRILLS: Schema = Object(&[key(
    "reports",
    &List(&Named(
        "DrillReport",
        &Object(&[
            key("backupName", &TEXT),
            key("outcome", &DRILL_OUTCOME)
                .about("`whole`: every pack is there; without the passcode nothing was restored."),
            key("startTime", &COUNT),
            key("endTime", &COUNT),
            key("withPasscode", &Boolean),
            key("recoveryTime", &TIME_OR_NEVER).about(
                "Milliseconds until all was restored, without preparations and checks; -1: not measured.",
            ),
            key("recoveryPoint", &COUNT).about("To which instant the backup brings back."),
            key("files", &COUNT),
            key("bytes", &COUNT),
            key("times", &DRILL_TIMES).about("Where the time went."),
            key("proven", &WORDS).about("What is known now."),
            key("notProven", &WORDS).about("What is not, though one might think so."),
            key("failures", &WORDS).about("Why it failed."),
            key("server", &TEXT).about("Which server carried it out."),
            key("jobid", &TEXT),
        ]),
    )),
)]);

static JOB_RESULT: Schema = Named(
    "JobResult",
    &Object(&[
        key("operation", &Choice(&["Backup", "Restore", "Delete", "Validate", "Drill", "Register"])),
        key("state", &Choice(&["success", "completed_with_warnings", "failed", "cancelled"])),
        key("backupName", &TEXT),
        key("backupStore", &TEXT),
        key("stages", &STAGES),
        may("bytesRead", &COUNT).about("Content that was looked at."),
        may("bytesAdded", &COUNT).about("What the store grew by."),
        may("bytesReused", &COUNT).about("Of a restore: what was in its place already."),
        may("filesTotal", &COUNT),
        may("warnings", &WARNINGS),
        may("status", &TEXT),
        may("isReady", &Boolean).about("Of a validation."),
        may("details", &WORDS).about("Of a validation: what is wrong."),
        may("outcome", &DRILL_OUTCOME).about("This and the next nine: of a drill."),
        may("withPasscode", &Boolean),
        may("recoveryTime", &TIME_OR_NEVER),
        may("recoveryPoint", &COUNT),
        may("files", &COUNT),
        may("bytes", &COUNT),
        may("times", &DRILL_TIMES),
        may("proven", &WORDS),
        may("notProven", &WORDS),
        may("failures", &WORDS),
        may("name", &TEXT).about("This and the next four: of a registration."),
        may("default", &Boolean),
        may("type", &TEXT),
        may("rootDir", &TEXT),
        may("storageConfig", &STORAGE_CONFIG),
    ]),
);

/// `mode`
pub(crate) static MODE: Schema = Object(&[
    key("isReadOnly", &Boolean),
    may("message", &TEXT).about("What those are told who are refused."),
]);
/// `mode/update`
pub(crate) static MODE_UPDATED: Schema = Object(&[key("status", &ONLY_SUCCESS), key("success", &Boolean)]);

static TASK_TYPE: Schema =
    Choice(&["CreateBackup", "BackupRetentionCleaner", "VerifyBackups", "RecoveryDrill", "ReclaimSpace"]);

/// `tasks/{task}`
pub(crate) static TASK: Schema = Named(
    "Task",
    &Object(&[
        key("taskId", &TEXT),
        key("id", &TEXT).about("The same."),
        key("taskTitle", &TEXT),
        key("title", &TEXT),
        key("taskType", &TASK_TYPE),
        key("type", &TEXT),
        key("taskState", &Choice(&["active", "paused"])).about("`paused`: not by itself."),
        key("active", &Boolean).about("The same as yes or no."),
        key("generation", &COUNT).about("Counts its changes."),
        key("ownerId", &TEXT),
        key("orgId", &TEXT),
        key(
            "cronSchedule",
            &Object(&[
                key("minute", &TEXT),
                key("hour", &TEXT),
                key("dayOfMonth", &TEXT),
                key("month", &TEXT),
                key("dayOfWeek", &TEXT),
            ]),
        ),
        key("cronExpression", &TEXT).about("The same in one line, seconds first."),
        key("timeZone", &TEXT).about("Whose clocks count."),
        key("maxOccurrences", &TIME_OR_NEVER).about("-1: no limit."),
        key("occurrences", &COUNT).about("Runs that count towards that."),
        key("created", &COUNT),
        key("updated", &COUNT),
        key("startDate", &COUNT),
        may("endDate", &COUNT),
        key("lastStart", &COUNT).about("0: never."),
        key("nextRun", &TIME_OR_NEVER).about("-1: none."),
        may("runIntervalSeconds", &COUNT).about("Between the next two times."),
        key("parameters", &TASK_PARAMETERS),
    ]),
);

static TASK_PARAMETERS: Schema = Object(&[
    key("itemId", &TEXT),
    may("name", &TEXT),
    may("storeName", &TEXT),
    may("description", &TEXT),
    may("retentionOffset", &TIME_OR_NEVER).about("Milliseconds that a backup is kept; -1: for ever."),
    may("keepLast", &COUNT).about("Of the cleaner: so many complete backups stay, however old."),
    may("allBackups", &Boolean).about("Of a verification."),
    may(
        "metaData",
        &Object(&[
            may("recurring", &Boolean),
            may("startTime", &TEXT),
            may(
                "retention",
                &Object(&[key("type", &Choice(&["day", "week", "month"])), key("value", &COUNT)]),
            ),
        ]),
    ),
    may("passcode", &TEXT).about("Asterisks, whatever it is."),
]);

/// `tasks`
pub(crate) static TASKS: Schema = Object(&[key("result", &List(&TASK))]);
/// What was done to a task.
pub(crate) static TASK_DONE: Schema = Named(
    "TaskDone",
    &Object(&[key("status", &ONLY_SUCCESS), key("success", &Boolean), key("taskId", &TEXT)]),
);
/// `tasks/{task}/run`
pub(crate) static TASK_RUN: Schema = Either(&[
    &ACCEPTED,
    &Object(&[key("status", &ONLY_SUCCESS), key("success", &Boolean), key("runId", &TEXT)]),
]);
/// `runs/{run}`
pub(crate) static RUN: Schema = Named(
    "Run",
    &Object(&[
        key("runId", &TEXT),
        key("status", &Choice(&["scheduled", "executing", "succeeded", "skipped", "failed", "submitfailed"])),
        key("result", &TEXT).about("What came of it, in words."),
        key("created", &COUNT).about("When it was begun or put off."),
        key("modified", &COUNT).about("When its record last changed."),
        key("scheduledFor", &COUNT).about("The time of the schedule."),
        key("byHand", &Boolean).about("Whether somebody asked for it."),
        key("url", &TEXT),
        key("jobid", &TEXT).about("Its job, or nothing."),
        key("task", &Object(&[key("taskId", &TEXT), key("taskTitle", &TEXT), key("taskType", &TASK_TYPE)])),
    ]),
);
/// `runs`
pub(crate) static RUNS: Schema = Object(&[key("result", &List(&RUN))]);

/// `disasterrecovery/status`
pub(crate) static STATUS: Schema = Object(&[key(
    "status",
    &Named(
        "LastOperation",
        &Object(&[
            key("operation", &TEXT).about("`Backup` or `Restore`; nothing before the first."),
            key(
                "state",
                &Choice(&[
                    "none",
                    "submitted",
                    "in_progress",
                    "success",
                    "completed_with_warnings",
                    "failed",
                ]),
            ),
            key("code", &Schema::Integer { least: 0, most: 5 }).about(
                "0 none, 1 submitted, 2 in progress, 3 success, 4 with warnings, 5 failed or cancelled.",
            ),
            key("message", &TEXT).about("Why it failed; else nothing."),
            key("backupName", &TEXT),
            key("backupStore", &TEXT),
            key("scheduleType", &TEXT),
            key("startTime", &COUNT),
            key("completeTime", &COUNT).about("0 while it runs."),
            key("overallDuration", &TEXT),
            key("jobid", &TEXT),
            key("stages", &STAGES),
        ]),
    ),
)]);

static VOLUME_KEYS: Schema = Object(&[
    key("component", &TEXT),
    key("provisioningType", &Choice(&["DYNAMIC", "STATIC"])),
    may("storageClass", &TEXT),
    may("size", &TEXT),
    may("labels", &Texts),
]);
/// `disasterrecovery/settings`
pub(crate) static SETTINGS: Schema = Object(&[
    key("timeoutInSeconds", &COUNT).about("A backup that takes longer is cancelled; 0: no limit."),
    may("stagingVolumeConfig", &VOLUME_KEYS)
        .about("Once it was set; kept for clients, nothing is staged here."),
]);

static STORAGE_CONFIG: Schema = Named(
    "StorageConfig",
    &Object(&[
        may("storageClass", &TEXT),
        may("size", &TEXT),
        may("provisioningType", &TEXT),
        may("labels", &Texts),
    ]),
);

static STORE_TYPE: Schema =
    Choice(&["HOSTED", "FILESYSTEM", "S3", "AZURE_BLOBSTORE", "GOOGLE_CLOUD_STORAGE"]);

/// A store in the list. The keys of buckets are there in buckets alone.
macro_rules! store_with {
    ($name:literal, $($more:expr),*) => {
        Named($name, &Object(&[
            key("name", &TEXT),
            key("default", &Boolean).about("Whether it is used where none is named."),
            key("type", &STORE_TYPE),
            key("rootDir", &TEXT).about("Of a bucket: what its keys begin with."),
            key("storageConfig", &STORAGE_CONFIG).about("As it was sent; not used."),
            key("identity", &TEXT).about("Of the store itself, wherever it is registered."),
            key("versionCreated", &TEXT).about("The release that it was made with."),
            key("providerID", &TEXT),
            key("serviceID", &TEXT),
            may("bucketName", &TEXT).about("This and the following: of buckets."),
            may("containerName", &TEXT),
            may("region", &TEXT),
            may("endpointUrl", &TEXT),
            may("accountEndpointUrl", &TEXT),
            may("credentialType", &TEXT),
            $($more),*
        ]))
    };
}

static STORE_ENTRY: Schema = store_with!("StoreEntry",);
/// `stores`
pub(crate) static STORES: Schema = Object(&[key("backupStores", &List(&STORE_ENTRY))]);
/// `stores/{store}`
pub(crate) static STORE: Schema = store_with!(
    "Store",
    key("backupCount", &COUNT).about("How many are listed."),
    key("bytesStored", &COUNT).about("What its packs take."),
    key("lastValidated", &COUNT).about("0: never.")
);
/// `stores/register`
pub(crate) static REGISTERED: Schema = Either(&[
    &ACCEPTED,
    &Object(&[
        key("status", &ONLY_SUCCESS),
        key("name", &TEXT),
        key("default", &Boolean),
        key("type", &STORE_TYPE),
        key("rootDir", &TEXT),
        key("storageConfig", &STORAGE_CONFIG),
    ]),
]);
/// `stores/{store}/validate`
pub(crate) static VALIDATION: Schema = Named(
    "Validation",
    &Object(&[
        key("isReady", &Boolean),
        key("status", &Choice(&["success", "failed"])),
        may("details", &WORDS).about("What is wrong, one line each."),
    ]),
);

static PART_STATUS: Schema = Choice(&["completed", "completed_with_warnings"]);

/// A backup, alone or in a list.
macro_rules! backup_with {
    ($name:literal, $($more:expr),*) => {
        Named($name, &Object(&[
            key("backupName", &TEXT),
            key("backupStore", &TEXT),
            key("description", &TEXT),
            key("release", &TEXT).about("The release that it was made with."),
            key("siteName", &TEXT).about("The deployment that it was made of."),
            key("namespace", &TEXT).about("Always empty."),
            key("backupType", &Choice(&["FULL"])).about("Each restores alone, although only new data is stored."),
            key("scheduleType", &Choice(&["MANUAL", "SCHEDULED"])),
            key("status", &Choice(&["in_progress", "completed", "completed_with_warnings", "deleting"])),
            key("startTime", &COUNT),
            key("completeTime", &COUNT).about("0 while it runs."),
            key("retentionDate", &TIME_OR_NEVER).about("From then on the cleaner may remove it; -1: never."),
            key("relationalStore", &List(&RELATIONAL)).about("Its database servers."),
            key("objectStore", &List(&OBJECTS)).about("Its buckets."),
            key("infrastructures", &INFRASTRUCTURES),
            key("volumes", &List(&VOLUME)).about("Its directories."),
            key("bytesRead", &COUNT).about("The content at that time."),
            key("bytesAdded", &COUNT).about("What the store grew by."),
            key("filesTotal", &COUNT),
            key("snapshotId", &TEXT).about("Of its first component, in restic."),
            key("vaultId", &TEXT).about("The restic repository in the store."),
            key("formatVersion", &COUNT),
            key("warningCount", &COUNT).about("How much is not in it."),
            key("jobid", &TEXT).about("The job that made it."),
            $($more),*
        ]))
    };
}

static RELATIONAL: Schema = Object(&[
    key("name", &TEXT),
    key("systemDatabases", &WORDS).about("Databases that hold no geodatabase."),
    key("geodatabases", &List(&Object(&[key("gdbName", &TEXT), key("egdbID", &TEXT)]))),
    key("clusterID", &TEXT).about("The system identifier of the server's data."),
    key("serverVersion", &TEXT),
    may("recoverableFrom", &COUNT)
        .about("With the log: the first instant that can be restored, milliseconds since 1970."),
    may("recoverableUntil", &COUNT).about("The last one."),
    key("files", &COUNT),
    key("bytes", &COUNT),
    key("bytesAdded", &COUNT),
    key("startTime", &COUNT),
    key("endTime", &COUNT),
    key("status", &PART_STATUS),
    key("snapshotId", &TEXT),
]);
static OBJECTS: Schema = Object(&[
    key("name", &TEXT),
    key("buckets", &WORDS),
    key("clusterID", &TEXT).about("Where they lie: service, bucket and prefix."),
    key("files", &COUNT).about("Objects."),
    key("bytes", &COUNT),
    key("bytesAdded", &COUNT),
    key("startTime", &COUNT),
    key("endTime", &COUNT),
    key("status", &PART_STATUS),
    key("snapshotId", &TEXT),
]);
static INFRASTRUCTURES: Schema =
    Object(&[may("startTime", &COUNT), may("endTime", &COUNT), may("status", &PART_STATUS)]);
static VOLUME: Schema = Object(&[
    key("name", &TEXT),
    key("path", &TEXT).about("Where it lay."),
    key("startTime", &COUNT),
    key("endTime", &COUNT),
    key("status", &PART_STATUS),
    key("files", &COUNT).about("How many entries."),
    key("bytes", &COUNT),
    key("bytesAdded", &COUNT),
    key("snapshotId", &TEXT),
]);

static BACKUP_ENTRY: Schema = backup_with!("BackupEntry",);
/// `backups`
pub(crate) static BACKUPS: Schema = Object(&[
    key("backups", &List(&BACKUP_ENTRY)),
    may("nextStart", &TIME_OR_NEVER)
        .about("If a page was asked for: `start` of the next one, or -1 at the end."),
]);
/// `backups/{backup}`
pub(crate) static BACKUP: Schema =
    backup_with!("Backup", key("warnings", &WORDS).about("What is not in the backup."));
/// `backups/{backup}/files`: the components, or a directory of one of them.
pub(crate) static FILES: Schema = Either(&[
    &Object(&[
        key("backupName", &TEXT),
        key("components", &List(&Object(&[key("name", &TEXT), key("path", &TEXT)]))),
    ]),
    &Object(&[
        key("backupName", &TEXT),
        key("component", &TEXT),
        key("path", &TEXT),
        key("total", &COUNT),
        key("nextStart", &TIME_OR_NEVER),
        key(
            "entries",
            &List(&Object(&[
                key("name", &TEXT),
                key("kind", &Choice(&["file", "directory", "link", "other"])),
                key("modified", &INTEGER),
                may("bytes", &COUNT).about("Of a file."),
                may("target", &TEXT).about("Of a link."),
            ])),
        ),
    ]),
]);
/// `backups/{backup}/restore`
pub(crate) static RESTORE: Schema =
    Either(&[&ACCEPTED, &Object(&[key("status", &ONLY_SUCCESS), key("isReady", &Boolean)])]);
/// `backups/{backup}/validate`
pub(crate) static BACKUP_VALIDATION: Schema = Either(&[&VALIDATION, &ACCEPTED]);

/// `notifications`
pub(crate) static TARGETS: Schema = Object(&[key(
    "targets",
    &List(&Named(
        "NotificationTarget",
        &Object(&[
            key("name", &TEXT),
            key("type", &Choice(&["webhook", "mail"])),
            key("place", &TEXT).about("Where it is, without secrets."),
            key("events", &TEXT).about("What it is told of, separated by commas."),
            key("waiting", &COUNT),
            key("delivered", &COUNT).about("Of the last 30 days."),
            key("givenUp", &COUNT).about("Of the last 30 days."),
            key("lastDelivered", &TIME_OR_NEVER),
            key("lastFailed", &TIME_OR_NEVER).about("The last attempt that failed of what is not delivered."),
            key("lastError", &TEXT),
        ]),
    )),
)]);
/// `notifications/test`
pub(crate) static TEST_NOTIFICATION: Schema = Object(&[
    key("status", &Choice(&["success", "failed"])).about("Whether all were delivered at the first attempt."),
    key(
        "deliveries",
        &List(&Object(&[
            key("deliveryId", &TEXT),
            key("target", &TEXT),
            key("event", &TEXT),
            key("subject", &TEXT),
            key("time", &COUNT),
            key("status", &Choice(&["waiting", "delivered", "gaveup"])),
            key("attempts", &COUNT),
            key("error", &TEXT),
        ])),
    ),
]);
