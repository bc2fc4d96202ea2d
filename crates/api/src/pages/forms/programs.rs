//! What programs alone send: JSON inside of parameters, pages of lists, the OAuth 2 log-in.

use super::{Field, THING, sent};
use crate::openapi::schema::Schema::{self, Boolean, Choice, Integer, List, Open};
use crate::openapi::schema::{COUNT, TEXT, key, may};

pub(super) static STORAGE_CONFIG: Schema = Open(&[
    may("storageClass", &TEXT),
    may("size", &TEXT),
    may("provisioningType", &TEXT),
    may("labels", &Schema::Texts),
]);
pub(super) static CREDENTIAL: Schema = Open(&[
    key("type", &TEXT).about("IAM-ROLE, ACCESS-KEY and others; each with its own keys in secret."),
    may("secret", &Open(&[])).about("Sealed under the server's key and never shown."),
]);
static CONNECTION: Schema = Open(&[
    may("bucketName", &TEXT).about("Must exist."),
    may("containerName", &TEXT).about("Of Azure, in place of bucketName."),
    may("region", &TEXT).about("Of S3; us-east-1 if absent."),
    may("rootDir", &TEXT).about("What all keys of the store begin with."),
    may("endpointUrl", &TEXT).about("The service's address, if it is not the provider's own."),
    may("pathStyle", &Boolean).about("false puts the bucket into the host's name."),
    may("allowHttp", &Boolean).about("true allows an address without TLS."),
    may("caBundle", &TEXT).about("PEM certificates to trust beside the system's."),
    may("credential", &CREDENTIAL),
]);
pub(super) static STORE_SETTINGS: Schema = Open(&[
    key("type", &Choice(&["HOSTED", "FILESYSTEM", "S3", "AZURE_BLOBSTORE", "GOOGLE_CLOUD_STORAGE"])),
    may("rootDir", &TEXT).about("Of FILESYSTEM: the directory, below one that the configuration allows."),
    may("storageConfig", &STORAGE_CONFIG).about("Kept for clients and not used."),
    may(
        "provider",
        &Open(&[
            may("name", &TEXT),
            may(
                "cloudServices",
                &List(&Open(&[may("usage", &Choice(&["BACKUP"])), may("connection", &CONNECTION)])),
            ),
        ]),
    ),
]);
pub(super) const NO_BDS: Field =
    sent("supportBDSBackup", Boolean, "true is refused: not in this version.").absent("false");

/// A part of a list of backups.
pub(crate) static PAGE: &[Field] = &[
    sent("start", Integer { least: 1, most: i64::MAX }, "The first one, counted from 1.").absent("1"),
    sent("num", Integer { least: 1, most: i64::MAX }, "So many at most."),
];
/// Which files of a backup.
pub(crate) static FILES: &[Field] = &[
    sent("component", TEXT, "One of the backup's components; without it these are listed."),
    sent("path", TEXT, "A directory of it. What is no UTF-8 stands as %XX, and a percent sign as %25."),
    sent("start", Integer { least: 1, most: i64::MAX }, "The first one, counted from 1.").absent("1"),
    sent(
        "num",
        Integer { least: 1, most: i64::MAX },
        "So many at most; 200 if absent, never more than 1,000.",
    )
    .absent("200"),
];
/// Which file of a backup.
pub(crate) static FILE: &[Field] = &[
    sent("component", TEXT, "One of the backup's components.").required(),
    sent("path", TEXT, "A file of it, as it is listed.").required(),
];
/// A part of the audit log.
pub(crate) static AUDIT_PAGE: &[Field] = &[
    sent("username", TEXT, "What this user did alone."),
    sent("num", Schema::Integer { least: 1, most: 1000 }, "So many at most; 100 if absent.").absent("100"),
    sent("before", COUNT, "What nextBefore of the page before said."),
];
/// sharing/rest/oauth2/authorize
pub(crate) static OAUTH_AUTHORIZE: &[Field] = &[
    sent("client_id", THING, "The program; any name of letters, digits, - _ .").required(),
    sent("redirect_uri", TEXT, "Below the public URL, or urn:ietf:wg:oauth:2.0:oob.").required(),
    sent("response_type", Choice(&["token", "code"]), "What the sign-in gives.").required(),
    sent("state", TEXT, "Comes back with the answer."),
    sent(
        "expiration",
        Integer { least: -1, most: i64::MAX },
        "Minutes; 120 if absent (with code two weeks); -1 and more than two weeks: two weeks.",
    ),
    sent("code_challenge", TEXT, "Of PKCE; needed for a code that goes to a URL."),
    sent("code_challenge_method", Choice(&["S256"]), "Of PKCE."),
];
/// sharing/rest/oauth2/token
pub(crate) static OAUTH_TOKEN: &[Field] = &[
    sent("grant_type", Choice(&["authorization_code", "refresh_token"]), "What is sent beside it.")
        .required(),
    sent("client_id", THING, "As authorize was told."),
    sent("code", TEXT, "With authorization_code."),
    sent("code_verifier", TEXT, "Of PKCE."),
    sent("redirect_uri", TEXT, "As authorize was told."),
    sent("refresh_token", TEXT, "With refresh_token."),
];
/// sharing/rest/oauth2/revokeToken
pub(crate) static OAUTH_REVOKE: &[Field] =
    &[sent("auth_token", TEXT, "An access or refresh token.").required()];
