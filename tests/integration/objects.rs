//! Buckets as content, on servers of each kind: what comes back is what was there, whatever its keys, headers and misfortunes.

#[path = "objects/azure.rs"]
mod azure;
#[path = "objects/dying.rs"]
mod dying;
#[path = "objects/google.rs"]
mod google;
#[path = "objects/interface.rs"]
mod interface;
#[path = "objects/misfortunes.rs"]
mod misfortunes;
#[path = "objects/whole.rs"]
mod whole;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use components::{Component, DrillContext, Drilled, Hooks, ObjectStoreSettings, Portion, Recovered};
use recovery::store::{CatalogueEntry, Store};
use recovery::work::{RestoreDone, RestoreTask, run_restore};
use recovery::{Cost, Kind, Selection};
use repository::Control;
use secrecy::SecretString;
use serde_json::{Value, json};
use storage::{
    Content, Credentials, Headers, Limits, ObjectOptions, ObjectPlace, ObjectStorage, Service as Kinds,
};
use strongroom_tests::google::Google;
use strongroom_tests::proxy::{Fate, Fault, Proxy};
use strongroom_tests::server::{Options, Site};
use strongroom_tests::services::{ACCESS_KEY, AZURE_ACCOUNT, AZURE_KEY, SECRET_KEY, Service};
use tempfile::TempDir;

use crate::world::{self, PASSCODE, Silent};

/// Keys that are names of no files, beside each other.
const KEYS: [&str; 20] = [
    "a",
    "a/b",
    "a/",
    "a//b",
    "/first",
    "folder/",
    "folder/in it",
    "sp ace + plus",
    "per%cent",
    "per%25cent",
    "%2F",
    "a%",
    "a-b",
    "a.b",
    "ä/ö/ü",
    "quote'\"<&>",
    "a/b/c",
    "x?y=z#w",
    "tab\tand",
    "~!@$^*()_=[]{}|;:,.",
];

/// A test for each kind of service of a function that takes a [`Scene`].
macro_rules! on_each_service {
    ($($name:ident,)*) => {
        $(mod $name {
            use super::{Kinds, Scene};

            #[test]
            fn s3() {
                Scene::of(Kinds::S3).map(super::$name);
            }

            #[test]
            fn azure() {
                Scene::of(Kinds::Azure).map(super::$name);
            }

            #[test]
            fn google() {
                Scene::of(Kinds::Google).map(super::$name);
            }
        })*
    };
}
use on_each_service;

/// A server of its own, or a double.
enum Server {
    Process(Service),
    Double(Google),
}

/// A server, a bucket, a store, and a way from one to the other.
struct Scene {
    kind: Kinds,
    server: Server,
    proxy: Proxy,
    bucket: String,
    store: Store,
    dir: TempDir,
}

type Everything = BTreeMap<String, (Headers, Vec<u8>)>;

impl Scene {
    fn of(kind: Kinds) -> Option<Self> {
        let (server, bucket) = match kind {
            Kinds::S3 => {
                let service = Service::s3()?;
                let bucket = service.bucket();
                (Server::Process(service), bucket)
            }
            Kinds::Azure => {
                let service = Service::azure()?;
                service.container("bucket");
                (Server::Process(service), "bucket".to_owned())
            }
            Kinds::Google => (Server::Double(Google::default()), "bucket".to_owned()),
        };
        let proxy = Proxy::start(match &server {
            Server::Process(service) => service.address(),
            Server::Double(google) => google.address(),
        });
        let dir = TempDir::with_prefix("strongroom-").unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let storage = world::directory(&dir.path().join("store"));
        let (store, _) = Store::create_or_adopt(storage, "store", Cost::FAST).unwrap();
        store.claim("test/1").unwrap();
        Some(Self { kind, server, proxy, bucket, store, dir })
    }

    fn url(&self) -> String {
        match &self.server {
            Server::Process(service) => service.url(),
            Server::Double(google) => google.url(),
        }
    }

    /// The account, where the service has it in its paths.
    fn account(&self) -> String {
        if self.kind == Kinds::Azure { format!("/{AZURE_ACCOUNT}") } else { String::new() }
    }

    /// The path of an object, as requests have it.
    fn path(&self, key: &str) -> String {
        format!("{}/{}/{key}", self.account(), self.bucket)
    }

    /// What a service takes that is not choosy, or what Azure takes.
    fn strange(&self, free: &str, azure: &str) -> String {
        if self.kind == Kinds::Azure { azure.to_owned() } else { free.to_owned() }
    }

    fn credentials(&self) -> Credentials {
        match self.kind {
            Kinds::Azure => Credentials::AccountKey {
                account: AZURE_ACCOUNT.to_owned(),
                key: SecretString::from(AZURE_KEY),
            },
            Kinds::Google => Credentials::ServiceAccount(SecretString::from(google_account())),
            Kinds::S3 => Credentials::AccessKey {
                id: ACCESS_KEY.to_owned(),
                secret: SecretString::from(SECRET_KEY),
                session_token: None,
            },
        }
    }

    fn secret(&self) -> &'static str {
        match self.kind {
            Kinds::S3 => SECRET_KEY,
            Kinds::Azure => AZURE_KEY,
            Kinds::Google => GOOGLE_KEY,
        }
    }

    /// Lines of a configuration that give rights by a file with the secret, or with what holds it.
    fn rights(&self, file: &Path) -> String {
        let file = file.display();
        match self.kind {
            Kinds::Azure => format!("account = \"{AZURE_ACCOUNT}\"\naccount_key_file = \"{file}\"\n"),
            Kinds::Google => format!("service_account_file = \"{file}\"\n"),
            Kinds::S3 => format!("access_key_id = \"{ACCESS_KEY}\"\nsecret_access_key_file = \"{file}\"\n"),
        }
    }

    /// A component in the lines of a configuration.
    fn lines(&self, prefix: &str, rights: &str) -> String {
        format!(
            "[[component]]\nkind = \"objectStore\"\nname = \"uploads\"\nurl = \"{}://{}/{prefix}\"\nendpoint = \"{}{}\"\n{rights}",
            self.kind.scheme(),
            self.bucket,
            self.url(),
            self.account()
        )
    }

    /// A store in the bucket, as it is registered.
    fn settings(&self, prefix: &str) -> Value {
        let url = format!("{}{}", self.url(), self.account());
        let (kind, provider, connection) = match self.kind {
            Kinds::Azure => (
                "AZURE_BLOBSTORE",
                "AZURE",
                json!({"containerName": self.bucket, "rootDir": prefix, "accountEndpointUrl": url,
                    "credential": {"type": "STORAGE-ACCOUNT-KEY", "secret": {
                        "storageAccountName": AZURE_ACCOUNT, "storageAccountKey": AZURE_KEY}}}),
            ),
            Kinds::Google => (
                "GOOGLE_CLOUD_STORAGE",
                "GCP",
                json!({"bucketName": self.bucket, "rootDir": prefix, "endpointUrl": url,
                    "credential": {"type": "SERVICE-ACCOUNT", "secret": {"key": google_account()}}}),
            ),
            Kinds::S3 => (
                "S3",
                "AWS",
                json!({"bucketName": self.bucket, "region": "us-east-1", "rootDir": prefix, "endpointUrl": url,
                    "credential": {"type": "ACCESS-KEY", "secret": {"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}}}),
            ),
        };
        json!({"type": kind, "provider": {"name": provider, "cloudServices": [
            {"name": "a bucket", "type": "objectStore", "usage": "BACKUP", "category": "storage", "connection": connection}]}})
    }

    fn place(&self, prefix: &str, server: &str, attempts: u32) -> ObjectPlace {
        // What is large enough is copied in parts.
        let silence = Duration::from_secs(5);
        let limits = Limits { attempts, parallel: 4, silence, copy_part_bytes: 8 << 20, ..Limits::default() };
        let endpoint = Some(format!("{server}{}", self.account()));
        let options =
            ObjectOptions { endpoint, credentials: self.credentials(), limits, ..ObjectOptions::default() };
        ObjectPlace::new(self.kind, &self.bucket, prefix, options).unwrap()
    }

    /// The bucket by itself, past the proxy.
    fn content(&self) -> Arc<dyn Content> {
        ObjectStorage::content(&self.place("", &self.url(), 3)).unwrap()
    }

    fn component(&self, prefix: &str, attempts: u32) -> Arc<dyn Component> {
        let place = self.place(prefix, &self.proxy.url(), attempts);
        let settings = ObjectStoreSettings {
            name: "uploads".to_owned(),
            place,
            optional: false,
            hooks: Hooks::default(),
        };
        components::object_store(settings).unwrap()
    }

    fn put(&self, key: &str, body: &[u8]) {
        self.content().write(key, &Headers::default(), body.to_vec()).unwrap();
    }

    fn everything(&self) -> Everything {
        let (content, mut found) = (self.content(), Everything::new());
        content
            .list("", &mut |entry| {
                let range = (entry.size > 0).then_some(0..entry.size);
                let read = content.read(&entry.key, range, &Default::default())?;
                assert_eq!(read.body.len() as u64, entry.size);
                assert!(found.insert(entry.key, (read.object.headers, read.body)).is_none());
                Ok(())
            })
            .unwrap();
        found
    }

    fn back_up(&self, name: &str, component: &Arc<dyn Component>) -> recovery::Result<CatalogueEntry> {
        let mut task = world::task(name, PASSCODE, Path::new("/nowhere"));
        task.components = vec![Arc::clone(component)];
        world::back_up(&self.store, &task)
    }

    fn task(&self, name: &str, component: &Arc<dyn Component>) -> RestoreTask {
        RestoreTask {
            job_id: "a-restore".to_owned(),
            name: name.to_owned(),
            store_name: "store".to_owned(),
            passcode: world::passcode(PASSCODE),
            components: vec![Arc::clone(component)],
            selection: Selection::default(),
        }
    }

    fn restore(&self, name: &str, component: &Arc<dyn Component>) -> recovery::Result<RestoreDone> {
        run_restore(&self.store, &self.task(name, component), &Control::new(), &Silent, &|| Ok(()))
    }
}

fn noise(length: usize) -> Vec<u8> {
    strongroom_tests::tree::noise(7, length)
}

/// Whether a request asks for a listing of the bucket.
fn is_listing(target: &str) -> bool {
    target.contains("list-type") || target.contains("comp=list")
}

const GOOGLE_KEY: &str = "planted-private-key";

/// A service account that needs no token.
fn google_account() -> String {
    json!({"private_key": GOOGLE_KEY, "private_key_id": "none", "client_email": "none", "disable_oauth": true})
        .to_string()
}
