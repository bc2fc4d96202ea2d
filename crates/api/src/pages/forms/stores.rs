//! The forms about stores: what programs send, and for people one form for each kind of store.
//!
//! People type into flat fields. Each [`Part`] says where in `settings`, or in a credential, its value belongs;
//! `handlers/store_form.rs` puts it there, and from then on both are the same request.

use super::programs::{CREDENTIAL, NO_BDS, STORAGE_CONFIG, STORE_SETTINGS};
use super::{ASYNC, Field, Form, Input, THING, caution, field, form, sent};
use crate::openapi::schema::Schema::{Boolean, Choice, Json, Open};
use crate::openapi::schema::{TEXT, may};

const NAME: Field =
    field(Input::Text, "storeName", "Name", "1 to 100 characters; none of / \\ ? # % < > \" &.")
        .takes(THING)
        .required();
const DEFAULT: Field =
    field(Input::Switch, "isDefault", "Default store", "The one that is used where no store is named.")
        .absent("false");

/// stores/register
pub(crate) static REGISTER_STORE: Form = form(
    "A place that holds backups already is adopted: its backups are listed at once.",
    "Register",
    &[
        NAME,
        field(
            Input::Lines,
            "settings",
            "Settings",
            "HOSTED: a directory that the server manages. For one of your own: {\"type\": \"FILESYSTEM\", \
             \"rootDir\": \"/backup/s1\"}; it must lie where the configuration allows stores.",
        )
        .takes(Json(&STORE_SETTINGS))
        .value("{\"type\": \"HOSTED\", \"storageConfig\": {}}"),
        DEFAULT,
        ASYNC,
    ],
)
.also(&[
    sent("rootDirectory", TEXT, "As in 10.9, in place of settings: the directory of the store."),
    sent("storageConfig", Json(&STORAGE_CONFIG), "As in 10.9; kept and not used."),
    sent("credentials", Json(&Open(&[])), "As in 10.9; not kept."),
    NO_BDS,
]);

/// stores/{store}/update
pub(crate) static UPDATE_STORE: Form = form(
    "Makes this store the default one or not, or gives it another credential, which is taken once it has opened the \
     store. Its place and type cannot be changed.",
    "Update",
    &[field(Input::Lines, "settings", "Settings", "A JSON object.")
        .takes(Json(&Open(&[
            may("default", &Boolean).about("Whether it is used where no store is named."),
            may("credential", &CREDENTIAL).about("Of a bucket, as at the registration."),
        ])))
        .value("{\"default\": true}")
        .required()],
);

/// stores/{store}/validate
pub(crate) static VALIDATE_STORE: Form =
    form("Checks that the store can be reached, read and written, and has room.", "Validate", &[]);

/// stores/{store}/unregister
pub(crate) static UNREGISTER_STORE: Form = caution(
    "The backups stay where they are and are out of reach until a store is registered on that place again.",
    "Unregister this store",
    &[field(
        Input::Switch,
        "force",
        "Pause schedules",
        "Pauses the schedules that make backups in this store.",
    )
    .absent("false")],
);

/// A kind of store that people choose.
#[derive(Debug)]
pub(crate) struct StoreKind {
    /// In the addresses of pages, and in what their forms send.
    pub word: &'static str,
    /// What `settings` calls it.
    pub kind: &'static str,
    pub title: &'static str,
    pub about: &'static str,
    /// Where the store lies.
    pub place: &'static [Part],
    /// Whose rights are used (`credential.type`), and how that is told; none for directories.
    pub rights: &'static [Rights],
    /// What is asked for of a credential.
    pub credential: &'static [Part],
}

/// The type of a credential, and what it is called.
type Rights = (&'static str, &'static str);

/// One field of such a form.
#[derive(Debug)]
pub(crate) struct Part {
    pub field: Field,
    /// Where its value stands in `settings`, or in the credential.
    pub at: &'static [&'static str],
    /// Of which rights it is; absent: of all.
    pub of: Option<&'static str>,
}

const fn at(at: &'static [&'static str], field: Field) -> Part {
    Part { field, at, of: None }
}

impl Part {
    const fn of(mut self, rights: &'static str) -> Self {
        self.of = Some(rights);
        self
    }
}

const fn secret(name: &'static str, label: &'static str, hint: &'static str) -> Field {
    field(Input::Secret, name, label, hint)
}

/// The name of the new store, and whether it is the default one.
pub(crate) static OF_EACH_STORE: [Field; 2] = [NAME, DEFAULT];

/// Whether a store that is there becomes the default one.
pub(crate) static DEFAULT_OF_STORE: Field = field(
    Input::Text,
    "isDefault",
    "Default store",
    "The one that is used where no store is named. There is one at most: another one ceases to be it.",
)
.takes(Choice(&["true", "false"]));

/// Whose rights are used; what can be chosen is told by the kind.
pub(crate) static CREDENTIAL_TYPE: Field =
    field(Input::Text, "credentialType", "Whose rights", "What is typed in is sealed and never shown again.");

const IN_BUCKET: Part = at(
    &["connection", "rootDir"],
    field(
        Input::Text,
        "rootDir",
        "Directory in it",
        "What all names begin with, such as site1. May be empty.",
    ),
);
const ALLOW_HTTP: Part = at(
    &["connection", "allowHttp"],
    field(
        Input::Switch,
        "allowHttp",
        "Allow an address without TLS",
        "Whoever is on the way can then read and change what is sent. On this machine it needs no permission.",
    ),
);
const CERTIFICATES: Part = at(
    &["connection", "caBundle"],
    field(
        Input::Lines,
        "caBundle",
        "Certificates to trust",
        "In PEM, beside those of the system. Empty, unless the service has a certificate of your own.",
    ),
);

/// The kinds, in the order in which they are offered.
pub(crate) static STORE_KINDS: [StoreKind; 5] = [
    StoreKind {
        word: "directory",
        kind: "FILESYSTEM",
        title: "Directory of your own",
        about: "A local disk or a network file system that is mounted on the server.",
        place: &[at(
            &["rootDir"],
            field(
                Input::Text,
                "rootDir",
                "Directory",
                "The whole path on the server, such as /backup/main. It must lie where the configuration allows stores \
                 (stores.allowed_directories), and is made if it is not there.",
            )
            .required(),
        )],
        rights: &[],
        credential: &[],
    },
    StoreKind {
        word: "hosted",
        kind: "HOSTED",
        title: "Directory of the server",
        about: "The server makes and manages it, in the place that its configuration has for stores.",
        place: &[],
        rights: &[],
        credential: &[],
    },
    StoreKind {
        word: "s3",
        kind: "S3",
        title: "Amazon S3, or what speaks its language",
        about: "A bucket of Amazon S3, MinIO, Ceph, Wasabi and many others.",
        place: &[
            at(&["connection", "bucketName"], field(Input::Text, "bucketName", "Bucket", "It must exist already.").required()),
            IN_BUCKET,
            at(
                &["connection", "region"],
                field(Input::Text, "region", "Region", "Such as eu-central-1. Empty: us-east-1."),
            ),
            at(
                &["connection", "endpointUrl"],
                field(
                    Input::Text,
                    "endpointUrl",
                    "Address of the service",
                    "Such as https://minio.example.org:9000. Empty: Amazon's own.",
                ),
            ),
            at(
                &["connection", "pathStyle"],
                field(
                    Input::Text,
                    "pathStyle",
                    "The bucket stands in the path of addresses",
                    "no: in the name of the host, as some services want it. Not set: yes.",
                )
                .takes(Choice(&["true", "false"])),
            ),
            ALLOW_HTTP,
            CERTIFICATES,
        ],
        rights: &[("ACCESS-KEY", "Access key"), ("IAM-ROLE", "The server's own rights")],
        credential: &[
            at(&["secret", "accessKey"], field(Input::Text, "accessKey", "Access key", "The half that is no secret, such as AKIA…").required())
                .of("ACCESS-KEY"),
            at(&["secret", "secretKey"], secret("secretKey", "Secret key", "").required()).of("ACCESS-KEY"),
            at(&["secret", "sessionToken"], secret("sessionToken", "Session token", "Of keys for a short time alone."))
                .of("ACCESS-KEY"),
        ],
    },
    StoreKind {
        word: "azure",
        kind: "AZURE_BLOBSTORE",
        title: "Azure Blob Storage",
        about: "A container of a storage account.",
        place: &[
            at(
                &["connection", "containerName"],
                field(Input::Text, "containerName", "Container", "It must exist already.").required(),
            ),
            IN_BUCKET,
            at(
                &["connection", "accountEndpointUrl"],
                field(
                    Input::Text,
                    "accountEndpointUrl",
                    "Address of the account",
                    "Such as https://ACCOUNT.blob.core.windows.net. Empty: that of the public cloud.",
                ),
            ),
            ALLOW_HTTP,
            CERTIFICATES,
        ],
        rights: &[
            ("STORAGE-ACCOUNT-KEY", "Key of the storage account"),
            ("USER-ASSIGNED-IDENTITY", "Identity of the server's machine"),
        ],
        credential: &[
            at(
                &["secret", "storageAccountName"],
                field(Input::Text, "storageAccountName", "Storage account", "Its name.").required(),
            ),
            at(
                &["secret", "storageAccountKey"],
                secret("storageAccountKey", "Account key", "One of its two keys.").required(),
            )
            .of("STORAGE-ACCOUNT-KEY"),
            at(
                &["managedIdentityClientId"],
                field(
                    Input::Text,
                    "managedIdentityClientId",
                    "Client id of the identity",
                    "Empty: the one that the machine has itself.",
                ),
            )
            .of("USER-ASSIGNED-IDENTITY"),
        ],
    },
    StoreKind {
        word: "google",
        kind: "GOOGLE_CLOUD_STORAGE",
        title: "Google Cloud Storage",
        about: "A bucket of Google Cloud Storage.",
        place: &[
            at(&["connection", "bucketName"], field(Input::Text, "bucketName", "Bucket", "It must exist already.").required()),
            IN_BUCKET,
            at(
                &["connection", "endpointUrl"],
                field(Input::Text, "endpointUrl", "Address of the service", "Empty: Google's own."),
            ),
            ALLOW_HTTP,
            CERTIFICATES,
        ],
        rights: &[("SERVICE-ACCOUNT", "Service account"), ("IAM-ROLE", "The server's own rights")],
        credential: &[at(
            &["secret", "key"],
            secret("serviceAccountKey", "Key file", "The text of the JSON file, from { to }.").required(),
        )
        .of("SERVICE-ACCOUNT")],
    },
];

impl StoreKind {
    /// All fields of this kind but name and default.
    pub fn parts(&self) -> impl Iterator<Item = &'static Part> + use<> {
        self.place.iter().chain(self.credential)
    }
}

/// The kind that pages call so.
pub(crate) fn store_kind(word: &str) -> Option<&'static StoreKind> {
    STORE_KINDS.iter().find(|kind| kind.word == word)
}

/// The kind that `settings` and stores call so.
pub(crate) fn store_kind_of(kind: &str) -> Option<&'static StoreKind> {
    STORE_KINDS.iter().find(|known| known.kind == kind)
}

/// The names of all fields of these forms that take a secret.
pub(crate) fn store_secrets() -> impl Iterator<Item = &'static str> {
    let parts = STORE_KINDS.iter().flat_map(StoreKind::parts);
    parts.filter(|part| part.field.input == Input::Secret).map(|part| part.field.name)
}
