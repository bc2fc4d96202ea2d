//! The parameters of the operations: what the pages ask for, and what programs may send besides.

use crate::openapi::schema::{COUNT, Schema, TEXT, TIME_OR_NEVER, may};
use Schema::{Boolean, Choice, Integer, Json, Open, Secret, Text};

mod people;
mod programs;
mod stores;

pub(crate) use people::*;
pub(crate) use programs::*;
pub(crate) use stores::*;

/// One form.
#[derive(Debug)]
pub(crate) struct Form {
    /// What the operation does, in a sentence or two.
    pub intro: &'static str,
    /// Text of the button.
    pub submit: &'static str,
    /// Whether the button warns by its colour.
    pub caution: bool,
    /// What is asked for.
    pub fields: &'static [Field],
    /// What programs may send besides.
    pub also: &'static [Field],
    /// What people type in, first of all, in place of something in `also`. It is taken of pages alone.
    pub typed: &'static [Field],
}

impl Form {
    /// All parameters of the operation, as programs send them.
    pub fn parameters(&self) -> impl Iterator<Item = &'static Field> {
        self.fields.iter().chain(self.also)
    }
}

/// One field of a form.
#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    pub input: Input,
    /// What is taken; the operations themselves refuse everything else.
    pub takes: Schema,
    pub required: bool,
    /// What stands in the field at first.
    pub value: &'static str,
    /// What counts if a program sends nothing; empty: nothing does.
    pub absent: &'static str,
}

/// How a field is typed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Text,
    /// Not shown, and never sent back into the page.
    Secret,
    Lines,
    /// A day, as browsers let it be chosen.
    Date,
    /// No or yes.
    Switch,
}

impl Field {
    /// A secret, or an object in which one may stand.
    pub fn may_hold_secret(&self) -> bool {
        self.input == Input::Secret || matches!(self.takes, Json(_))
    }
}

const fn field(input: Input, name: &'static str, label: &'static str, hint: &'static str) -> Field {
    let takes = match input {
        Input::Text | Input::Lines | Input::Date => TEXT,
        Input::Secret => Secret { least: 1, most: 256 },
        Input::Switch => Boolean,
    };
    Field { name, label, hint, input, takes, required: false, value: "", absent: "" }
}

/// A parameter that no page asks for.
const fn sent(name: &'static str, takes: Schema, hint: &'static str) -> Field {
    field(Input::Text, name, "", hint).takes(takes)
}

impl Field {
    const fn takes(mut self, takes: Schema) -> Self {
        self.takes = takes;
        self
    }

    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn value(mut self, value: &'static str) -> Self {
        self.value = value;
        self
    }

    const fn absent(mut self, absent: &'static str) -> Self {
        self.absent = absent;
        self
    }
}

const fn form(intro: &'static str, submit: &'static str, fields: &'static [Field]) -> Form {
    Form { intro, submit, caution: false, fields, also: &[], typed: &[] }
}

const fn caution(intro: &'static str, submit: &'static str, fields: &'static [Field]) -> Form {
    Form { intro, submit, caution: true, fields, also: &[], typed: &[] }
}

impl Form {
    const fn also(mut self, also: &'static [Field]) -> Self {
        self.also = also;
        self
    }

    const fn typed(mut self, typed: &'static [Field]) -> Self {
        self.typed = typed;
        self
    }
}

/// A name of a thing.
const THING: Schema = Text { least: 1, most: Some(100) };
const NEW_SECRET: Schema = Secret { least: 8, most: 256 };
const DAYS: Schema = Integer { least: 1, most: 36_500 };

const STORE: Field = field(
    Input::Text,
    "storeName",
    "Store",
    "The backup's store; needed if several stores hold a backup of this name.",
);
const ASYNC: Field =
    field(Input::Switch, "async", "As a job", "Answers at once; the work goes on as a job.").absent("false");
const NAME: Field =
    field(Input::Text, "name", "Name", "1 to 100 characters, new in its store; none of / \\ ? # % < > \" &.")
        .takes(THING)
        .required();
const NEW_PASSCODE: Field = field(
    Input::Secret,
    "passcode",
    "Passcode",
    "At least 8 characters. Without it nobody can restore the backup: keep it somewhere else.",
)
.takes(NEW_SECRET)
.required();
const PASSCODE: Field =
    field(Input::Secret, "passcode", "Passcode", "The passcode that the backup was created with.").required();
const DESCRIPTION: Field = field(Input::Lines, "description", "Description", "At most 1,000 characters.")
    .takes(Text { least: 0, most: Some(1000) });
const KEEP_DAYS: Field = field(
    Input::Text,
    "retentionDays",
    "Keep for days",
    "After that the backup is removed by itself. Empty: kept until somebody deletes it.",
)
.takes(DAYS);
const KEEP_UNTIL: Field = sent(
    "retentionDate",
    TIME_OR_NEVER,
    "Milliseconds since 1970 (UTC), or -1: kept until somebody deletes it. Wins over retentionDays.",
)
.absent("-1");
const OF_STORE: Field = sent("storeName", THING, "The store in the path; another one is refused.");
const COMPONENTS: Field = field(
    Input::Text,
    "components",
    "Components",
    "Names or kinds, separated by commas, to restore only those. Empty: everything in the backup.",
);
const ONLY: Field = field(
    Input::Text,
    "only",
    "Only",
    "COMPONENT/PATH, to restore a part of a component: a database (gis/city), a schema or table of it (gis/city/public/roads), a prefix of a bucket (uploads/photos/), a directory (content/photos); several with commas between, or a JSON list.",
);
const INTO: Field = field(
    Input::Text,
    "into",
    "Into",
    "The new name that a database in Only gets, or that of a database for its tables. The present ones are not touched then.",
);
const TARGET: Field = field(
    Input::Text,
    "target",
    "Into another component",
    "NAME=COMPONENT: what the backup holds under a name is restored into another configured component of the same kind, whose content it replaces; that of its own name stays. Several with commas between, or a JSON list.",
);
const RECOVERY_TIME: Field = field(
    Input::Text,
    "recoveryTime",
    "Instant",
    "Of databases whose log is backed up: milliseconds since 1970, or like 2026-05-04T11:59:30Z. Empty: the last instant of the backup.",
);
const VALIDATE_ONLY: Field =
    field(Input::Switch, "validateOnly", "Check only", "Makes all checks of a restore and changes nothing.")
        .absent("false");
const TRY_PASSCODE: Field = field(
    Input::Secret,
    "passcode",
    "Passcode",
    "Optional: also checks that this passcode opens the backup.",
);
const READ_DATA: Field = field(
    Input::Switch,
    "readData",
    "Read all data",
    "Reads and checks every byte, as a job; needs the passcode.",
)
.absent("false");

/// sharing/rest/generateToken
pub(crate) static TOKEN: Form = form(
    "Makes a token for programs. It goes into the header Authorization: Bearer.",
    "Generate token",
    &[
        field(Input::Text, "username", "User name", "One who has a password here.").required(),
        field(Input::Secret, "password", "Password", "The user's password.").required(),
        field(
            Input::Text,
            "expiration",
            "Valid for minutes",
            "1 to 20,160; more is cut to that; 60 if empty.",
        )
        .takes(Integer { least: 1, most: i64::MAX })
        .absent("60"),
    ],
)
.also(&[
    sent("client", Choice(&["referer", "ip", "requestip"]), "Accepted; a token is bound to nothing."),
    sent("referer", TEXT, "Accepted."),
]);

/// jobs/{job}/cancel
pub(crate) static CANCEL_JOB: Form = caution(
    "A backup stops at its next safe point and leaves nothing visible. A restore can be cancelled only before it \
     changes anything.",
    "Cancel this job",
    &[],
);

const CREATE: &str = "Backs up every component of this deployment. The work goes on as a job.";
/// backups/create
pub(crate) static CREATE_BACKUP: Form =
    form(CREATE, "Create backup", &[NAME, NEW_PASSCODE, DESCRIPTION, KEEP_DAYS])
        .also(&[KEEP_UNTIL, OF_STORE]);
/// backuprestore/backup
pub(crate) static CREATE_BACKUP_BY_STORE: Form = form(
    CREATE,
    "Create backup",
    &[
        NAME,
        field(Input::Text, "storeName", "Store", "Empty: the default store."),
        NEW_PASSCODE,
        DESCRIPTION,
        KEEP_DAYS,
    ],
)
.also(&[KEEP_UNTIL]);

const RESTORE: &str = "Replaces the present content by that of the backup, all of it or a part. The passcode is checked before anything \
                       is touched; the work goes on as a job.";
/// backups/{backup}/restore
pub(crate) static RESTORE_BACKUP: Form = caution(
    RESTORE,
    "Restore this backup",
    &[PASSCODE, COMPONENTS, ONLY, INTO, TARGET, RECOVERY_TIME, VALIDATE_ONLY],
)
.also(&[OF_STORE]);
/// backuprestore/backups/{backup}/restore
pub(crate) static RESTORE_BACKUP_BY_STORE: Form = caution(
    RESTORE,
    "Restore this backup",
    &[STORE, PASSCODE, COMPONENTS, ONLY, INTO, TARGET, RECOVERY_TIME, VALIDATE_ONLY],
);

/// backups/{backup}/update
pub(crate) static UPDATE_BACKUP: Form = form("What is left empty stays as it is.", "Update", &[DESCRIPTION])
    .typed(&[
        field(
            Input::Date,
            "retentionDate",
            "Keep until",
            "The last day (UTC) on which the backup is there, such as 2027-01-31.",
        ),
        field(Input::Text, "retentionDays", "Or: keep for days", "1 to 36,500, counted from now."),
        field(Input::Switch, "keepForEver", "Or: keep until somebody deletes it", ""),
    ])
    .also(&[
        sent(
            "retentionDate",
            TIME_OR_NEVER,
            "Milliseconds since 1970 (UTC), or -1: kept until somebody deletes it. Wins over retentionDays.",
        ),
        sent("retentionDays", DAYS, "Counted from now."),
        OF_STORE,
    ]);

const VALIDATE: &str = "Checks that everything that the backup needs is in the store.";
/// backups/{backup}/validate
pub(crate) static VALIDATE_BACKUP: Form =
    form(VALIDATE, "Validate", &[TRY_PASSCODE, READ_DATA]).also(&[OF_STORE]);
/// backuprestore/backups/{backup}/validate
pub(crate) static VALIDATE_BACKUP_BY_STORE: Form =
    form(VALIDATE, "Validate", &[STORE, TRY_PASSCODE, READ_DATA]);

/// backups/{backup}/drill
pub(crate) static DRILL_BACKUP: Form = form(
    "Restores the backup into scratch, checks it there and removes it again, as a job; a report stays in the store. What is \
     protected is neither read nor changed. Without the passcode nothing is restored: every pack is read, which proves less.",
    "Begin the drill",
    &[field(
        Input::Secret,
        "passcode",
        "Passcode",
        "The passcode that the backup was created with; without it a drill proves less.",
    )],
)
.also(&[OF_STORE]);

const DELETE: &str =
    "The backup leaves the list at once, its data the store after a grace time. This cannot be undone.";
/// backups/{backup}/delete
pub(crate) static DELETE_BACKUP: Form = caution(DELETE, "Delete this backup", &[ASYNC]).also(&[OF_STORE]);
/// backuprestore/backups/{backup}/delete
pub(crate) static DELETE_BACKUP_BY_STORE: Form = caution(DELETE, "Delete this backup", &[STORE, ASYNC]);

/// backups/{backup}/files/open
pub(crate) static OPEN_FILES: Form = form(
    "Lets you look at the files of this backup and download single ones. It is closed again after ten minutes without a \
     look, and when you sign out. The audit log tells of each look.",
    "Open",
    &[PASSCODE],
);
/// backups/{backup}/files/close
pub(crate) static CLOSE_FILES: Form = form("The passcode is needed to look again.", "Close", &[]);

/// mode/update
pub(crate) static UPDATE_MODE: Form = form(
    "While the deployment is read-only, changes are refused; backups can be made and everything can be read.",
    "Change the mode",
    &[
        field(Input::Switch, "isReadOnly", "Read-only", "Whether changes are refused from now on.")
            .required(),
        field(Input::Lines, "message", "Message", "What those are told whose changes are refused.")
            .takes(Text { least: 0, most: Some(1000) }),
    ],
);

/// settings/update
pub(crate) static UPDATE_SETTINGS: Form = form("What is left empty stays as it is.", "Update", &[])
    .typed(&[
        field(
            Input::Text,
            "timeoutInMinutes",
            "Longest time of a backup, in minutes",
            "1 to 43,200: a backup that takes longer is cancelled. 0: no limit.",
        ),
        field(
            Input::Text,
            "provisioningType",
            "Staging volume",
            "Made when it is needed (DYNAMIC), or chosen by its labels (STATIC). All that is said of a staging volume is \
             kept for clients and not used: nothing is staged here.",
        )
        .takes(Choice(&["DYNAMIC", "STATIC"])),
        field(Input::Text, "storageClass", "Storage class of the staging volume", "1 to 253 characters."),
        field(Input::Text, "size", "Size of the staging volume", "A number with its unit, such as 64Gi."),
        field(
            Input::Lines,
            "labels",
            "Labels of the staging volume",
            "One a line, as name=value; with STATIC alone. They replace those of before.",
        ),
    ])
    .also(&[sent(
        "settings",
        Json(&Open(&[
            may("timeoutInSeconds", &Integer { least: 0, most: 2_592_000 })
                .about("0: no limit; else 60 or more."),
            may("stagingVolumeConfig", &Open(&[])).about("Kept for clients; nothing is staged here."),
        ])),
        "A JSON object; what is not named in it stays as it is. timeoutInSeconds: a backup that takes longer is \
         cancelled; 0 for no limit.",
    )
    .required()]);

const TITLE: Field = field(Input::Text, "title", "Title", "For people; at most 200 characters.")
    .takes(Text { least: 0, most: Some(200) });
const PREFIX: Field = field(
    Input::Text,
    "name",
    "Name of the backups",
    "At most 80 characters; date and time are appended, as in nightly-20261128-023000.",
)
.takes(Text { least: 1, most: Some(80) });
const TASK_STORE: Field = field(
    Input::Text,
    "storeName",
    "Store",
    "Where the backups lie; for other types empty means every store.",
);
const TASK_PASSCODE: Field = field(
    Input::Secret,
    "passcode",
    "Passcode",
    "At least 8 characters. It is kept sealed and never shown; keep it somewhere else too.",
)
.takes(NEW_SECRET);
const MINUTE: Field =
    field(Input::Text, "minute", "Minute", "0 to 59; lists 0,30, ranges 0-10 and steps */15 are possible.");
const HOUR: Field = field(Input::Text, "hour", "Hour", "0 to 23, or * for every hour.");
const DAY: Field = field(Input::Text, "dayOfMonth", "Day of the month", "1 to 31, or * for every day.");
const MONTH: Field = field(Input::Text, "month", "Month", "1 to 12 or JAN to DEC, or * for every month.");
const WEEKDAY: Field = field(
    Input::Text,
    "dayOfWeek",
    "Day of the week",
    "1 (Sunday) to 7 (Saturday) or SUN to SAT, or ? for any.",
);
const ZONE: Field =
    field(Input::Text, "timeZone", "Time zone", "Whose clocks count, like Europe/Berlin; UTC if empty.");
const OCCURRENCES: Field = field(
    Input::Text,
    "maxOccurrences",
    "At most so many runs",
    "-1 for no limit; after the last one the task is paused.",
)
.takes(TIME_OR_NEVER);
const ALSO_OF_TASKS: &[Field] = &[
    sent("startDate", COUNT, "No run before; 0 for none such."),
    sent("endDate", COUNT, "No run after; 0 for none such."),
    sent("parameters", Json(&TASK_PARAMETERS), "The documented form of what is told apart here."),
];
static TASK_PARAMETERS: Schema = Open(&[
    may("name", &TEXT),
    may("storeName", &TEXT),
    may("passcode", &TEXT),
    may("description", &TEXT),
    may("retentionOffset", &TIME_OR_NEVER).about("Milliseconds that a backup is kept; -1: for ever."),
    may("keepLast", &Integer { least: 1, most: u32::MAX as i64 })
        .about("Of the retention cleaner: so many complete backups stay, however old."),
    may("allBackups", &Boolean).about("Of a verification: not the newest one alone."),
    may("metaData", &Open(&[])).about("As documented: recurring, startTime, retention."),
]);
const TASK_DAYS: Field = KEEP_DAYS.takes(Integer { least: -1, most: 100_000 });

/// tasks/createTask
pub(crate) static CREATE_TASK: Form = form(
    "Does something by itself, again and again: CreateBackup, VerifyBackups, RecoveryDrill or ReclaimSpace.",
    "Create this task",
    &[
        field(Input::Text, "type", "Type", "CreateBackup, VerifyBackups, RecoveryDrill or ReclaimSpace.")
            .takes(Choice(&["CreateBackup", "VerifyBackups", "RecoveryDrill", "ReclaimSpace"]))
            .required()
            .value("CreateBackup"),
        TITLE,
        PREFIX,
        TASK_STORE,
        TASK_PASSCODE,
        DESCRIPTION,
        TASK_DAYS,
        MINUTE.required().value("30"),
        HOUR.required().value("2"),
        DAY.required().value("*"),
        MONTH.required().value("*"),
        WEEKDAY.required().value("?"),
        ZONE.absent("UTC"),
        OCCURRENCES.value("-1").absent("-1"),
        field(
            Input::Switch,
            "allBackups",
            "Verify all backups",
            "Not the newest one alone; for VerifyBackups.",
        )
        .absent("false"),
    ],
)
.also(ALSO_OF_TASKS);

/// tasks/{task}/update
pub(crate) static UPDATE_TASK: Form = form(
    "What is left empty stays as it is. Changes count from the next run on.",
    "Update",
    &[
        TITLE,
        PREFIX,
        TASK_STORE,
        TASK_PASSCODE,
        DESCRIPTION,
        TASK_DAYS,
        MINUTE,
        HOUR,
        DAY,
        MONTH,
        WEEKDAY,
        ZONE,
        OCCURRENCES,
        field(
            Input::Lines,
            "parameters",
            "Parameters",
            "A JSON object, such as {\"keepLast\": 3} of the retention cleaner.",
        )
        .takes(Json(&TASK_PARAMETERS)),
    ],
)
.also(&[
    sent("startDate", COUNT, "No run before; 0 for none such."),
    sent("endDate", COUNT, "No run after; 0 for none such."),
    sent("allBackups", Boolean, "Not the newest one alone; for VerifyBackups."),
]);

/// tasks/{task}/enable
pub(crate) static ENABLE_TASK: Form = form("The task runs by itself from now on.", "Enable this task", &[]);
/// tasks/{task}/disable
pub(crate) static DISABLE_TASK: Form =
    form("The task does not run by itself until somebody enables it.", "Disable this task", &[]);
/// tasks/{task}/run
pub(crate) static RUN_TASK: Form = form("Does now what the task does by its schedule.", "Run now", &[]);
/// tasks/{task}/delete
pub(crate) static DELETE_TASK: Form =
    caution("The task and the record of its runs go. Backups that it made stay.", "Delete this task", &[]);

/// tasks/{task}/runs/{run}/update
pub(crate) static UPDATE_RUN: Form = form(
    "Changes the record of a run that has ended.",
    "Update",
    &[
        field(Input::Text, "status", "Status", "succeeded, skipped, failed or submitfailed.")
            .takes(Choice(&["succeeded", "skipped", "failed", "submitfailed"])),
        field(Input::Lines, "result", "Result", "What came of it."),
    ],
)
.also(&[sent("results", TEXT, "The same as result.")]);
/// tasks/{task}/runs/{run}/delete
pub(crate) static DELETE_RUN: Form = caution("Only the record goes.", "Delete this record", &[]);

/// notifications/test
pub(crate) static TEST_NOTIFICATION: Form = form(
    "Sends a test to one target, or to all, and waits for the outcome of the first attempt.",
    "Send",
    &[field(Input::Text, "target", "Target", "A name of the configuration; all if empty.")],
);
