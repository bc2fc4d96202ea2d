//! The forms of the operations: what the pages ask for. The operations take more than this from programs.

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
}

/// One field of a form.
#[derive(Debug)]
pub(crate) struct Field {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    pub input: Input,
    pub required: bool,
    /// What stands in the field at first.
    pub value: &'static str,
}

/// How a field is typed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Input {
    Text,
    /// Not shown, and never sent back into the page.
    Secret,
    Lines,
    /// No or yes.
    Switch,
}

const fn field(input: Input, name: &'static str, label: &'static str, hint: &'static str) -> Field {
    Field { name, label, hint, input, required: false, value: "" }
}

impl Field {
    const fn required(mut self) -> Self {
        self.required = true;
        self
    }

    const fn value(mut self, value: &'static str) -> Self {
        self.value = value;
        self
    }
}

const fn form(intro: &'static str, submit: &'static str, fields: &'static [Field]) -> Form {
    Form { intro, submit, caution: false, fields }
}

const fn caution(intro: &'static str, submit: &'static str, fields: &'static [Field]) -> Form {
    Form { intro, submit, caution: true, fields }
}

const STORE: Field = field(
    Input::Text,
    "storeName",
    "Store",
    "The backup's store; needed if several stores hold a backup of this name.",
);
const ASYNC: Field = field(Input::Switch, "async", "As a job", "Answers at once; the work goes on as a job.");
const NAME: Field =
    field(Input::Text, "name", "Name", "1 to 100 characters, new in its store; none of / \\ ? # % < > \" &.")
        .required();
const NEW_PASSCODE: Field = field(
    Input::Secret,
    "passcode",
    "Passcode",
    "At least 8 characters. Without it nobody can restore the backup: keep it somewhere else.",
)
.required();
const PASSCODE: Field =
    field(Input::Secret, "passcode", "Passcode", "The passcode that the backup was created with.").required();
const DESCRIPTION: Field = field(Input::Lines, "description", "Description", "At most 1,000 characters.");
const KEEP_DAYS: Field = field(
    Input::Text,
    "retentionDays",
    "Keep for days",
    "After that the backup is removed by itself. Empty: kept until somebody deletes it.",
);
const COMPONENTS: Field = field(
    Input::Text,
    "components",
    "Components",
    "Names or kinds, separated by commas, to restore only those. Empty: everything in the backup.",
);
const VALIDATE_ONLY: Field =
    field(Input::Switch, "validateOnly", "Check only", "Makes all checks of a restore and changes nothing.");
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
);

/// sharing/rest/generateToken
pub(crate) static TOKEN: Form = form(
    "Makes a token for programs. It goes into the header Authorization: Bearer.",
    "Generate token",
    &[
        field(Input::Text, "username", "User name", "").required(),
        field(Input::Secret, "password", "Password", "").required(),
        field(Input::Text, "expiration", "Valid for minutes", "1 to 20,160; 60 if empty."),
    ],
);

/// jobs/{job}/cancel
pub(crate) static CANCEL_JOB: Form = caution(
    "A backup stops at its next safe point and leaves nothing visible. A restore can be cancelled only before it \
     changes anything.",
    "Cancel this job",
    &[],
);

/// stores/register
pub(crate) static REGISTER_STORE: Form = form(
    "A place that holds backups already is adopted: its backups are listed at once.",
    "Register",
    &[
        field(Input::Text, "storeName", "Name", "1 to 100 characters; none of / \\ ? # % < > \" &.")
            .required(),
        field(
            Input::Lines,
            "settings",
            "Settings",
            "HOSTED: a directory that the server manages. For one of your own: {\"type\": \"FILESYSTEM\", \
             \"rootDir\": \"/backup/s1\"}; it must lie where the configuration allows stores.",
        )
        .value("{\"type\": \"HOSTED\", \"storageConfig\": {}}")
        .required(),
        field(Input::Switch, "isDefault", "Default store", "The one that is used where no store is named."),
        ASYNC,
    ],
);

/// stores/{store}/update
pub(crate) static UPDATE_STORE: Form = form(
    "Makes this store the default one, or not. Its place and type cannot be changed.",
    "Update",
    &[field(Input::Lines, "settings", "Settings", "A JSON object.").value("{\"default\": true}").required()],
);

/// stores/{store}/validate
pub(crate) static VALIDATE_STORE: Form =
    form("Checks that the store can be reached, read and written, and has room.", "Validate", &[]);

/// stores/{store}/unregister
pub(crate) static UNREGISTER_STORE: Form = caution(
    "The backups stay where they are and are out of reach until a store is registered on that place again.",
    "Unregister this store",
    &[],
);

const CREATE: &str = "Backs up every component of this deployment. The work goes on as a job.";
/// backups/create
pub(crate) static CREATE_BACKUP: Form =
    form(CREATE, "Create backup", &[NAME, NEW_PASSCODE, DESCRIPTION, KEEP_DAYS]);
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
);

const RESTORE: &str = "Replaces the present content by that of the backup. The passcode is checked before anything \
                       is touched; the work goes on as a job.";
/// backups/{backup}/restore
pub(crate) static RESTORE_BACKUP: Form =
    caution(RESTORE, "Restore this backup", &[PASSCODE, COMPONENTS, VALIDATE_ONLY]);
/// backuprestore/backups/{backup}/restore
pub(crate) static RESTORE_BACKUP_BY_STORE: Form =
    caution(RESTORE, "Restore this backup", &[STORE, PASSCODE, COMPONENTS, VALIDATE_ONLY]);

/// backups/{backup}/update
pub(crate) static UPDATE_BACKUP: Form = form(
    "What is left empty stays as it is.",
    "Update",
    &[
        field(
            Input::Text,
            "retentionDate",
            "Keep until",
            "Milliseconds since 1970 (UTC), or -1: kept until somebody deletes it.",
        ),
        field(Input::Text, "retentionDays", "Or: keep for days from now", ""),
        DESCRIPTION,
    ],
);

const VALIDATE: &str = "Checks that everything that the backup needs is in the store.";
/// backups/{backup}/validate
pub(crate) static VALIDATE_BACKUP: Form = form(VALIDATE, "Validate", &[TRY_PASSCODE, READ_DATA]);
/// backuprestore/backups/{backup}/validate
pub(crate) static VALIDATE_BACKUP_BY_STORE: Form =
    form(VALIDATE, "Validate", &[STORE, TRY_PASSCODE, READ_DATA]);

const DELETE: &str = "This cannot be undone.";
/// backups/{backup}/delete
pub(crate) static DELETE_BACKUP: Form = caution(DELETE, "Delete this backup", &[ASYNC]);
/// backuprestore/backups/{backup}/delete
pub(crate) static DELETE_BACKUP_BY_STORE: Form = caution(DELETE, "Delete this backup", &[STORE, ASYNC]);
