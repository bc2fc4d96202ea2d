//! `strongroom store`: where the server keeps backups.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::{Map, Value, json};
use storage::{Location, ObjectPlace, Service};

use super::{Place, list, number, shown, time, validated};
use crate::client::{self, Client, DISASTER_RECOVERY};
use crate::exit::{Exit, Failure};
use crate::passcode::read_secret_file;
use crate::progress::printable;
use crate::table::{self, Table};
use crate::words;

/// Arguments of `strongroom store`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List the stores
    List,
    /// Show one store
    Show(Name),
    /// Register a store; backups that lie there already are adopted
    Register(Register),
    /// Make a store the default one or not, or give it another credential
    Update(Update),
    /// Ask whether a store can be used
    Validate(Name),
    /// Forget a store; what lies in it stays
    Unregister(Name),
}

#[derive(clap::Args, Debug)]
struct Name {
    /// The store's name
    #[arg(value_name = "STORE")]
    name: String,
}

#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("where").required(true))]
struct Register {
    #[command(flatten)]
    store: Name,
    /// A directory of the server's machine, s3://bucket/prefix, azblob://container/prefix or gs://bucket/prefix, with
    /// options as in ?endpoint=https://minio:9000&region=eu-west-1
    #[arg(long, value_name = "URL", group = "where")]
    location: Option<String>,
    /// A directory that the server manages itself
    #[arg(long, group = "where")]
    hosted: bool,
    /// File that holds `settings` as the Administrator API takes them, JSON
    #[arg(long, value_name = "FILE", group = "where")]
    settings_file: Option<PathBuf>,
    /// File that holds the credential for a bucket, JSON as in the Administrator API; absent: the server's own rights
    #[arg(long, value_name = "FILE", requires = "location")]
    credential_file: Option<PathBuf>,
    /// Make it the default store
    #[arg(long)]
    default: bool,
}

#[derive(clap::Args, Debug)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true))]
struct Update {
    #[command(flatten)]
    store: Name,
    /// Make it the default store
    #[arg(long, group = "what", conflicts_with = "no_default")]
    default: bool,
    /// Let it be the default store no more
    #[arg(long, group = "what")]
    no_default: bool,
    /// File that holds another credential for its bucket, JSON as in the Administrator API
    #[arg(long, value_name = "FILE", group = "what")]
    credential_file: Option<PathBuf>,
}

/// Runs one verb.
pub fn run(arguments: Arguments) -> Result<Exit> {
    let place = &arguments.place;
    match &arguments.verb {
        Verb::List => list_all(place, &place.connect()?),
        Verb::Show(Name { name }) => {
            let store = place.connect()?.get(&client::store(name))?;
            place.tell(&store, || in_words(&store))
        }
        Verb::Register(wanted) => register(place, wanted),
        Verb::Update(wanted) => update(place, wanted),
        Verb::Validate(Name { name }) => {
            let answer = place.connect()?.post(&format!("{}/validate", client::store(name)), &[])?;
            validated(place, &answer, &format!("store '{name}'"), Exit::NoRepository)
        }
        Verb::Unregister(Name { name }) => {
            let answer = place.connect()?.post(&format!("{}/unregister", client::store(name)), &[])?;
            place
                .tell(&answer, || format!("store '{}' is forgotten; its backups stay in it", printable(name)))
        }
    }
}

fn list_all(place: &Place, client: &Client) -> Result<Exit> {
    let answer = client.get(&format!("{DISASTER_RECOVERY}/stores"))?;
    place.tell(&answer["backupStores"], || {
        let mut table = Table::new(["Store", "Default", "Type", "Place"]);
        for store in list(&answer["backupStores"]) {
            let default = if store["default"] == Value::Bool(true) { "yes" } else { "" };
            table.row([shown(&store["name"]), default.to_owned(), shown(&store["type"]), place_of(store)]);
        }
        table.text()
    })
}

/// A directory, or a bucket and what is below it.
fn place_of(store: &Value) -> String {
    let bucket =
        [&store["bucketName"], &store["containerName"]].into_iter().map(shown).find(|name| !name.is_empty());
    match (bucket, shown(&store["rootDir"])) {
        (None, directory) => directory,
        (Some(bucket), prefix) if prefix.is_empty() => bucket,
        (Some(bucket), prefix) => format!("{bucket}/{prefix}"),
    }
}

fn in_words(store: &Value) -> String {
    let mut lines = vec![
        ("Store", shown(&store["name"])),
        ("Default", if store["default"] == Value::Bool(true) { "yes" } else { "no" }.to_owned()),
        ("Type", shown(&store["type"])),
        ("Place", place_of(store)),
        ("Region", shown(&store["region"])),
        ("Endpoint", shown(&store["endpointUrl"]) + &shown(&store["accountEndpointUrl"])),
        ("Credential", shown(&store["credentialType"])),
        ("Backups", number(&store["backupCount"]).to_string()),
        ("Stored", words::bytes(number(&store["bytesStored"]))),
        ("Validated", time(&store["lastValidated"])),
        ("Identity", shown(&store["identity"])),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    table::pairs(&lines)
}

fn register(place: &Place, wanted: &Register) -> Result<Exit> {
    let settings = settings(wanted)?.to_string();
    let name = wanted.store.name.as_str();
    let default = wanted.default.to_string();
    let fields = [("storeName", name), ("isDefault", default.as_str()), ("settings", settings.as_str())];
    let client = place.connect()?;
    let answer = client.post(&format!("{DISASTER_RECOVERY}/stores/register"), &fields)?;
    let found =
        client.get(&client::store(name)).map(|store| number(&store["backupCount"])).unwrap_or_default();
    place.tell(&answer, || {
        let adopted = match found {
            0 => String::new(),
            found => format!(", with {}", words::counted(found, "backup", "backups")),
        };
        format!("registered store '{}'{adopted}", printable(name))
    })
}

/// `settings` as the interface takes them.
fn settings(wanted: &Register) -> Result<Value> {
    if wanted.hosted {
        return Ok(json!({"type": "HOSTED"}));
    }
    if let Some(file) = &wanted.settings_file {
        return Ok(Value::Object(object_of(file)?));
    }
    let text = wanted.location.as_deref().unwrap_or_default();
    match Location::parse(text)? {
        Location::Directory(path) if wanted.credential_file.is_some() => {
            Err(Failure::usage(format!("{} is a directory, and needs no credential", path.display())).into())
        }
        Location::Directory(path) if path.is_absolute() => Ok(json!({"type": "FILESYSTEM", "rootDir": path})),
        Location::Directory(_) => {
            Err(Failure::usage("the directory is one of the server's machine: name its whole path").into())
        }
        Location::Object(bucket) => {
            let credential = wanted.credential_file.as_deref().map(object_of).transpose()?;
            bucket_settings(&bucket, credential)
        }
    }
}

fn bucket_settings(bucket: &ObjectPlace, credential: Option<Map<String, Value>>) -> Result<Value> {
    let (provider, name_key, endpoint_key) = match bucket.service {
        Service::S3 => ("AWS", "bucketName", "endpointUrl"),
        Service::Azure => ("AZURE", "containerName", "accountEndpointUrl"),
        Service::Google => ("GCP", "bucketName", "endpointUrl"),
    };
    let options = &bucket.options;
    let mut connection = Map::new();
    connection.insert(name_key.to_owned(), json!(bucket.bucket));
    connection.insert("rootDir".to_owned(), json!(bucket.prefix));
    let optional = [
        (endpoint_key, options.endpoint.as_ref().map(|url| json!(url))),
        ("region", options.region.as_ref().map(|region| json!(region))),
        ("pathStyle", options.path_style.map(|flag| json!(flag))),
        ("allowHttp", options.allow_http.then_some(json!(true))),
        ("caBundle", options.ca_pem.as_ref().map(|pem| json!(pem))),
        ("credential", credential.map(Value::Object)),
    ];
    for (key, value) in optional {
        if let Some(value) = value {
            connection.insert(key.to_owned(), value);
        }
    }
    Ok(json!({"type": recovery::kind_of(bucket.service), "provider": {"name": provider, "cloudServices": [
        {"name": provider, "type": "objectStore", "usage": "BACKUP", "category": "storage", "connection": connection},
    ]}}))
}

fn update(place: &Place, wanted: &Update) -> Result<Exit> {
    let mut settings = Map::new();
    if wanted.default || wanted.no_default {
        settings.insert("default".to_owned(), json!(wanted.default));
    }
    if let Some(file) = &wanted.credential_file {
        settings.insert("credential".to_owned(), Value::Object(object_of(file)?));
    }
    let settings = Value::Object(settings).to_string();
    let name = &wanted.store.name;
    let answer = place
        .connect()?
        .post(&format!("{}/update", client::store(name)), &[("settings", settings.as_str())])?;
    place.tell(&answer, || format!("updated store '{}'", printable(name)))
}

/// The JSON object in a file, which may hold a secret: what is wrong with it is not repeated.
fn object_of(file: &Path) -> Result<Map<String, Value>> {
    use secrecy::ExposeSecret;
    let text = read_secret_file(file)?;
    serde_json::from_str(text.expose_secret())
        .map_err(|_| Failure::usage(format!("{} holds no JSON object", file.display())))
        .context("cannot read what was given")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Register,
    }

    fn told(words: &[&str]) -> Result<Value> {
        settings(
            &Line::try_parse_from(["x", "s1"].iter().chain(words)).map_err(anyhow::Error::from)?.arguments,
        )
    }

    #[test]
    fn a_location_becomes_the_settings_of_the_interface() {
        assert_eq!(
            told(&["--location", "/backup/main"]).unwrap(),
            json!({"type": "FILESYSTEM", "rootDir": "/backup/main"})
        );
        assert_eq!(told(&["--hosted"]).unwrap(), json!({"type": "HOSTED"}));
        let bucket =
            told(&["--location", "s3://dr-1/site1?endpoint=https://minio:9000&region=eu-west-1"]).unwrap();
        assert_eq!(bucket["type"], "S3");
        assert_eq!(
            bucket["provider"]["cloudServices"][0]["connection"],
            json!({"bucketName": "dr-1", "rootDir": "site1", "endpointUrl": "https://minio:9000", "region": "eu-west-1"})
        );
        let container = told(&["--location", "azblob://dr-1/site1"]).unwrap();
        assert_eq!(container["type"], "AZURE_BLOBSTORE");
        assert_eq!(container["provider"]["cloudServices"][0]["connection"]["containerName"], "dr-1");
    }

    #[test]
    fn a_credential_comes_from_a_file_and_only_for_a_bucket() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            r#"{"type": "ACCESS-KEY", "secret": {"accessKey": "A", "secretKey": "planted"}}"#,
        )
        .unwrap();
        let path = file.path().to_str().unwrap();
        let bucket = told(&["--location", "s3://dr-1", "--credential-file", path]).unwrap();
        let connection = &bucket["provider"]["cloudServices"][0]["connection"];
        assert_eq!(connection["credential"]["secret"]["secretKey"], "planted");
        assert!(told(&["--location", "/backup/main", "--credential-file", path]).is_err());
        std::fs::write(file.path(), "planted, no JSON").unwrap();
        let refused = told(&["--location", "s3://dr-1", "--credential-file", path]).unwrap_err();
        assert!(!format!("{refused:#}").contains("planted"), "{refused:#}");
    }

    #[test]
    fn there_is_one_place_and_it_is_told_whole() {
        for wrong in [&[][..], &["--hosted", "--location", "/a"], &["--location", "backup/main"]] {
            assert!(told(wrong).is_err(), "{wrong:?}");
        }
    }
}
