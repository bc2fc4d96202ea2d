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
        key("jobid", &TEXT),
        key("jobId", &TEXT),
        key("status", &Choice(&["SUBMITTED", "success"])).about("Only the job tells how it ends."),
        may("runId", &TEXT).about("Of a task that was run by hand."),
    ]),
);

/// Done, or accepted as a job.
pub(crate) static DONE_OR_JOB: Schema = Either(&[&SUCCESS, &ACCEPTED]);
/// Accepted as a job.
pub(crate) static JOB_ACCEPTED: &Schema = &ACCEPTED;

/// `generateToken`
pub(crate) static TOKEN: Schema =
    Named("Token", &Object(&[key("token", &TEXT), key("expires", &COUNT), key("ssl", &Boolean)]));
/// `sharing/rest`
pub(crate) static SHARING: Schema =
    Object(&[key("currentVersion", &TEXT), key("enterpriseVersion", &TEXT), key("enterpriseBuild", &TEXT)]);
/// `sharing/rest/info`
pub(crate) static INFO: Schema = Object(&[key(
    "authInfo",
    &Object(&[key("isTokenBasedSecurity", &Boolean), key("tokenServicesUrl", &TEXT)]),
)]);
/// `oauth2/authorize`, asked for JSON
pub(crate) static OAUTH_STATE: Schema = Object(&[key("oauth_state", &TEXT)]);
/// `oauth2/token`
pub(crate) static OAUTH_TOKEN: Schema = Named(
    "OAuthToken",
    &Object(&[
        key("access_token", &TEXT),
        key("token_type", &Choice(&["bearer"])),
        key("expires_in", &INTEGER),
        key("username", &TEXT),
        key("ssl", &Boolean),
        may("refresh_token", &TEXT),
        may("refresh_token_expires_in", &INTEGER),
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
        may("user", &PORTAL_USER),
    ]),
);

/// `admin`
pub(crate) static ADMIN: Schema = Object(&[
    key("fullVersion", &TEXT),
    key("currentVersion", &Number),
    key("resources", &WORDS),
    key("strongroomVersion", &TEXT),
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
        key("role", &Choice(&["viewer", "operator", "administrator"])),
        key("operations", &List(&Choice(&["read", "backup", "restore", "schedules", "manage"]))),
        key("stores", &WORDS).about("None: all of them."),
        key("createdBy", &TEXT),
        key("createdTime", &COUNT),
        key("expires", &COUNT),
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
                key("username", &TEXT),
                key("address", &TEXT),
                key("operation", &TEXT),
                key("path", &TEXT),
                key("code", &COUNT).about("0: done; else the code of the refusal."),
                key("messageCode", &TEXT),
                key("jobid", &TEXT),
                key("requestId", &TEXT),
            ]),
        )),
    ),
    key("nextBefore", &TIME_OR_NEVER).about("Send it as `before` for the next page; -1 at the end."),
]);

/// `jobs`
pub(crate) static JOBS: Schema = Object(&[key("jobs", &WORDS)]);

static STAGES: Schema = List(&Named(
    "Stage",
    &Object(&[key("name", &TEXT), key("state", &TEXT), key("duration", &TEXT), key("lastUpdated", &COUNT)]),
));

static WARNINGS: Schema = List(&Object(&[key("item", &TEXT), key("reason", &TEXT)]));

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
        key("operationURI", &TEXT),
        key("username", &TEXT),
        key("messages", &WORDS),
        may(
            "progress",
            &Object(&[
                key("percent", &Schema::Integer { least: 0, most: 100 }),
                key("stage", &TEXT),
                key("bytesDone", &COUNT),
                key("bytesTotal", &COUNT),
                key("filesDone", &COUNT),
                key("filesTotal", &COUNT),
                key("bytesPerSecond", &COUNT),
                key("current", &TEXT),
                may("secondsLeft", &COUNT),
            ]),
        )
        .about("While it runs."),
        may("result", &JOB_RESULT).about("Once it has ended."),
    ]),
);

static JOB_RESULT: Schema = Named(
    "JobResult",
    &Object(&[
        key("operation", &Choice(&["Backup", "Restore", "Delete", "Validate", "Register"])),
        key("state", &Choice(&["success", "completed_with_warnings", "failed", "cancelled"])),
        key("backupName", &TEXT),
        key("backupStore", &TEXT),
        key("stages", &STAGES),
        may("bytesRead", &COUNT),
        may("bytesAdded", &COUNT),
        may("bytesReused", &COUNT),
        may("filesTotal", &COUNT),
        may("warnings", &WARNINGS),
        may("status", &TEXT),
        may("isReady", &Boolean),
        may("details", &WORDS),
        may("name", &TEXT),
        may("default", &Boolean),
        may("type", &TEXT),
        may("rootDir", &TEXT),
        may("storageConfig", &STORAGE_CONFIG),
    ]),
);

/// `mode`
pub(crate) static MODE: Schema = Object(&[key("isReadOnly", &Boolean), may("message", &TEXT)]);
/// `mode/update`
pub(crate) static MODE_UPDATED: Schema = Object(&[key("status", &ONLY_SUCCESS), key("success", &Boolean)]);

static TASK_TYPE: Schema =
    Choice(&["CreateBackup", "BackupRetentionCleaner", "VerifyBackups", "ReclaimSpace"]);

/// `tasks/{task}`
pub(crate) static TASK: Schema = Named(
    "Task",
    &Object(&[
        key("taskId", &TEXT),
        key("id", &TEXT),
        key("taskTitle", &TEXT),
        key("title", &TEXT),
        key("taskType", &TASK_TYPE),
        key("type", &TEXT),
        key("taskState", &Choice(&["active", "paused"])),
        key("active", &Boolean),
        key("generation", &COUNT),
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
        key("cronExpression", &TEXT),
        key("timeZone", &TEXT),
        key("maxOccurrences", &TIME_OR_NEVER),
        key("occurrences", &COUNT),
        key("created", &COUNT),
        key("updated", &COUNT),
        key("startDate", &COUNT),
        may("endDate", &COUNT),
        key("lastStart", &COUNT),
        key("nextRun", &TIME_OR_NEVER),
        may("runIntervalSeconds", &COUNT),
        key("parameters", &TASK_PARAMETERS),
    ]),
);

static TASK_PARAMETERS: Schema = Object(&[
    key("itemId", &TEXT),
    may("name", &TEXT),
    may("storeName", &TEXT),
    may("description", &TEXT),
    may("retentionOffset", &TIME_OR_NEVER),
    may("keepLast", &COUNT),
    may("allBackups", &Boolean),
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
        key("result", &TEXT),
        key("created", &COUNT),
        key("modified", &COUNT),
        key("scheduledFor", &COUNT),
        key("byHand", &Boolean),
        key("url", &TEXT),
        key("jobid", &TEXT),
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
            key("operation", &TEXT),
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
            key("code", &Schema::Integer { least: 0, most: 5 }),
            key("message", &TEXT),
            key("backupName", &TEXT),
            key("backupStore", &TEXT),
            key("scheduleType", &TEXT),
            key("startTime", &COUNT),
            key("completeTime", &COUNT),
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
pub(crate) static SETTINGS: Schema =
    Object(&[key("timeoutInSeconds", &COUNT), may("stagingVolumeConfig", &VOLUME_KEYS)]);

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
            key("default", &Boolean),
            key("type", &STORE_TYPE),
            key("rootDir", &TEXT),
            key("storageConfig", &STORAGE_CONFIG),
            key("identity", &TEXT),
            key("versionCreated", &TEXT),
            key("providerID", &TEXT),
            key("serviceID", &TEXT),
            may("bucketName", &TEXT),
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
    key("backupCount", &COUNT),
    key("bytesStored", &COUNT),
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
            key("release", &TEXT),
            key("siteName", &TEXT),
            key("namespace", &TEXT),
            key("backupType", &Choice(&["FULL"])),
            key("scheduleType", &Choice(&["MANUAL", "SCHEDULED"])),
            key("status", &Choice(&["in_progress", "completed", "completed_with_warnings", "deleting"])),
            key("startTime", &COUNT),
            key("completeTime", &COUNT),
            key("retentionDate", &TIME_OR_NEVER),
            key("relationalStore", &List(&RELATIONAL)),
            key("objectStore", &List(&OBJECTS)),
            key("infrastructures", &INFRASTRUCTURES),
            key("volumes", &List(&VOLUME)),
            key("bytesRead", &COUNT),
            key("bytesAdded", &COUNT),
            key("filesTotal", &COUNT),
            key("snapshotId", &TEXT),
            key("vaultId", &TEXT),
            key("formatVersion", &COUNT),
            key("warningCount", &COUNT),
            key("jobid", &TEXT),
            $($more),*
        ]))
    };
}

static RELATIONAL: Schema = Object(&[
    key("systemDatabases", &WORDS),
    key("geodatabases", &List(&Object(&[key("gdbName", &TEXT), key("egdbID", &TEXT)]))),
    key("clusterID", &TEXT),
    key("startTime", &COUNT),
    key("endTime", &COUNT),
    key("status", &PART_STATUS),
    key("snapshotId", &TEXT),
]);
static OBJECTS: Schema = Object(&[
    key("buckets", &WORDS),
    key("clusterID", &TEXT),
    key("startTime", &COUNT),
    key("endTime", &COUNT),
    key("status", &PART_STATUS),
    key("snapshotId", &TEXT),
]);
static INFRASTRUCTURES: Schema =
    Object(&[may("startTime", &COUNT), may("endTime", &COUNT), may("status", &PART_STATUS)]);
static VOLUME: Schema = Object(&[
    key("name", &TEXT),
    key("path", &TEXT),
    key("startTime", &COUNT),
    key("endTime", &COUNT),
    key("status", &PART_STATUS),
    key("files", &COUNT),
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
