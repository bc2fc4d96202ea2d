//! The forms about who may do what: users, one's own password, API keys.

use super::{Field, Form, Input, THING, caution, field, form};
use crate::openapi::schema::Schema::{self, Choice, Integer, Secret};

const USER_NAME: Field =
    field(Input::Text, "username", "User name", "1 to 100 characters; none of / \\ ? # % < > \" &.")
        .takes(THING);
const ROLE: Field = field(
    Input::Text,
    "role",
    "Role",
    "viewer: reads. operator: makes and validates backups as well. administrator: everything.",
)
.takes(Choice(&["viewer", "operator", "administrator"]));
const NEW_PASSWORD: Schema = Secret { least: 8, most: 1024 };

/// admin/password
pub(crate) static OWN_PASSWORD: Form = form(
    "Changes your own password and signs you out everywhere.",
    "Change the password",
    &[
        field(Input::Secret, "password", "Present password", "The one until now.").required(),
        field(Input::Secret, "newPassword", "New password", "At least 8 characters.")
            .takes(NEW_PASSWORD)
            .required(),
    ],
);

/// users/add
pub(crate) static ADD_USER: Form = form(
    "The new user can sign in at once.",
    "Add this user",
    &[
        USER_NAME.required(),
        ROLE.required().value("viewer"),
        field(Input::Secret, "password", "Password", "At least 8 characters.").takes(NEW_PASSWORD).required(),
    ],
);

/// users/{user}/update
pub(crate) static UPDATE_USER: Form = form(
    "What is left empty stays as it is. The user is signed out everywhere.",
    "Update",
    &[ROLE, field(Input::Secret, "password", "New password", "At least 8 characters.").takes(NEW_PASSWORD)],
);

/// users/{user}/signOut
pub(crate) static SIGN_OUT_USER: Form =
    form("Ends all sessions of this user and makes all tokens worthless.", "Sign out everywhere", &[]);

/// users/{user}/remove
pub(crate) static REMOVE_USER: Form =
    caution("The user is signed out everywhere and cannot sign in any more.", "Remove this user", &[]);

/// keys/create
pub(crate) static CREATE_KEY: Form = form(
    "For programs. The key is shown once, on the next page, and kept nowhere: copy it from there.",
    "Create this key",
    &[
        field(Input::Text, "name", "Name", "What it is for; it appears in the audit log.")
            .takes(THING)
            .required(),
        ROLE.required().value("operator"),
        field(
            Input::Text,
            "operations",
            "Good for",
            "Of read, backup, restore, schedules, manage, with commas between; empty for all that the role allows.",
        )
        .value("read,backup"),
        field(Input::Text, "stores", "In these stores alone", "Names with commas between; empty for all."),
        field(Input::Text, "expirationDays", "Good for so many days", "At most 365.")
            .takes(Integer { least: 1, most: 365 })
            .value("365")
            .absent("365"),
    ],
);

/// keys/{key}/revoke
pub(crate) static REVOKE_KEY: Form =
    caution("Programs that use this key are refused from now on.", "Revoke this key", &[]);
