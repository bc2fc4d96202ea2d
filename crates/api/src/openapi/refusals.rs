//! Which errors an endpoint can answer with, beyond those that every one can. The tests hold each error that they get
//! against it.

use crate::endpoints::{Endpoint, Gives, Kind, Refused};
use crate::openapi::schema::Schema;

/// What every endpoint can answer: it depends on the request alone, not on what the endpoint does.
pub(crate) static EVERYWHERE: &[&str] = &[
    "FORMAT_UNKNOWN",
    "URL_NOT_FOUND",
    "METHOD_NOT_ALLOWED",
    "TOKEN_INVALID",
    "TOKEN_REQUIRED",
    "FORBIDDEN",
    "PARAM_MISSING",
    "PARAM_INVALID",
    "JSON_INVALID",
    "BODY_BROKEN",
    "BODY_TOO_SLOW",
    "BODY_TOO_LARGE",
    "INTERNAL",
];

/// What this endpoint can answer besides.
pub(crate) fn of(endpoint: &Endpoint) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = named_things(endpoint).collect();
    if endpoint.refused != Refused::Never || endpoint.last() == "restore" {
        names.push("READ_ONLY");
    }
    names.extend(OWN.iter().filter(|(of, _)| is_meant(endpoint, of)).flat_map(|(_, own)| *own));
    let asked = endpoint.kind.form().into_iter().flat_map(|form| form.parameters()).chain(endpoint.asks);
    for field in asked {
        match (field.name, &field.takes) {
            ("passcode", Schema::Secret { least: 8, .. }) => names.push("DR_PASSCODE_SHORT"),
            ("passcode", _) => names.extend(["DR_PASSCODE_SHORT", "DR_PASSCODE_WRONG"]),
            ("retentionDate", _) => names.push("DR_RETENTION_INVALID"),
            _ => {}
        }
    }
    names.sort_unstable();
    names.dedup();
    names
}

/// The path ends with this; what begins with a slash is whole.
fn is_meant(endpoint: &Endpoint, of: &str) -> bool {
    of.strip_prefix('/').map_or_else(|| endpoint.path.ends_with(of), |whole| endpoint.path == whole)
}

/// What the path names may not be there, and who looks at a store may find it away.
fn named_things(endpoint: &Endpoint) -> impl Iterator<Item = &'static str> {
    let path = endpoint.path;
    let is_of_store = path.contains("{store}");
    let is_of_backup = path.contains("{backup}");
    let is_for_programs = !matches!(endpoint.gives, Gives::Page) && !matches!(endpoint.kind, Kind::Program);
    let all = [
        (is_of_store || is_of_backup, "STORE_NOT_FOUND"),
        (is_of_store || is_of_backup, "STORE_UNREACHABLE"),
        (is_of_backup, "BACKUP_NOT_FOUND"),
        (is_of_backup, "DR_BACKUP_NOT_RESTORABLE"),
        (path.contains("backuprestore") && is_of_backup, "DR_AMBIGUOUS"),
        (path.contains("{job}"), "JOB_NOT_FOUND"),
        (path.contains("{task}"), "TASK_NOT_FOUND"),
        (path.contains("{run}"), "RUN_NOT_FOUND"),
        (path.contains("{user}"), "USER_NOT_FOUND"),
        (path.contains("{key}"), "KEY_NOT_FOUND"),
    ];
    all.into_iter().filter(move |(is_so, _)| *is_so && is_for_programs).map(|(_, name)| name)
}

static OWN: &[(&str, &[&str])] = &[
    ("generateToken", &["LOGIN_FAILED"]),
    ("/admin/password", &["LOGIN_FAILED"]),
    (
        "oauth2/authorize",
        &["OAUTH_INVALID_REQUEST", "OAUTH_INVALID_CLIENT", "OAUTH_UNSUPPORTED_RESPONSE_TYPE"],
    ),
    (
        "oauth2/token",
        &[
            "OAUTH_INVALID_REQUEST",
            "OAUTH_INVALID_CLIENT",
            "OAUTH_INVALID_GRANT",
            "OAUTH_UNSUPPORTED_GRANT_TYPE",
        ],
    ),
    ("oauth2/revokeToken", &["OAUTH_INVALID_REQUEST"]),
    ("users/add", &["NAME_INVALID"]),
    ("{user}/update", &["LAST_ADMINISTRATOR"]),
    ("{user}/remove", &["LAST_ADMINISTRATOR"]),
    ("keys/create", &["NAME_INVALID", "STORE_NOT_FOUND"]),
    ("jobs/{job}/cancel", &["DR_BUSY"]),
    ("tasks/createTask", &["NAME_INVALID", "STORE_NOT_FOUND", "NOT_SUPPORTED"]),
    ("tasks/{task}/update", &["NAME_INVALID", "STORE_NOT_FOUND"]),
    ("tasks/{task}/delete", &["TASK_IN_USE"]),
    ("tasks/{task}/run", &["DR_BUSY", "STORE_NOT_FOUND", "STORE_UNREACHABLE", "TASK_IN_USE"]),
    ("runs/{run}/update", &["TASK_IN_USE"]),
    ("runs/{run}/delete", &["TASK_IN_USE"]),
    ("settings/update", &["DR_BUSY"]),
    (
        "stores/register",
        &[
            "NAME_INVALID",
            "DR_STORE_EXISTS",
            "DR_LOCATION_IN_USE",
            "DR_INCOMPATIBLE",
            "DR_BACKUP_NOT_RESTORABLE",
            "NOT_SUPPORTED",
            "STORE_UNREACHABLE",
            "NO_SPACE",
        ],
    ),
    ("stores/{store}/update", &["NOT_SUPPORTED"]),
    ("stores/{store}/unregister", &["DR_STORE_IN_USE"]),
    ("backups/create", &["NAME_INVALID", "DR_BACKUP_EXISTS", "DR_BUSY", "NO_SPACE"]),
    (
        "backuprestore/backup",
        &["NAME_INVALID", "STORE_NOT_FOUND", "STORE_UNREACHABLE", "DR_BACKUP_EXISTS", "DR_BUSY", "NO_SPACE"],
    ),
    ("backuprestore/backups", &["STORE_UNREACHABLE"]),
    ("{backup}/restore", &["DR_BUSY", "DR_BACKUP_IN_USE", "DR_INCOMPATIBLE"]),
    ("{backup}/update", &["DR_BACKUP_IN_USE"]),
    ("{backup}/validate", &["DR_BACKUP_IN_USE", "DR_INCOMPATIBLE"]),
    ("{backup}/drill", &["DR_BACKUP_IN_USE", "DR_INCOMPATIBLE"]),
    ("{backup}/delete", &["DR_BACKUP_IN_USE", "DR_BUSY"]),
    ("{backup}/files/open", &["DR_BACKUP_IN_USE", "DR_INCOMPATIBLE", "DR_BUSY"]),
    ("{backup}/files", &["DR_FILES_NOT_OPEN", "DR_BUSY"]),
    ("{backup}/files/download", &["DR_FILES_NOT_OPEN", "DR_BUSY"]),
];
