//! `[[component]]` of kind objectStore: which bucket of which service, and with whose rights.

use std::path::Path;

use components::ObjectStoreSettings;
use secrecy::SecretString;
use storage::{Credentials, Location, Service};

use super::meant::below;
use super::protected::{connections, hooks, name, refuse_foreign};
use super::typed;
use crate::passcode;

/// Keys of every bucket.
const COMMON: [&str; 5] = ["url", "endpoint", "allow_http", "ca_file", "connections"];

/// Keys of the buckets of one service.
fn own(service: Service) -> &'static [&'static str] {
    match service {
        Service::S3 => {
            &["region", "path_style", "access_key_id", "secret_access_key_file", "secret_access_key_env"]
        }
        Service::Azure => &["account", "account_key_file", "account_key_env", "managed_identity"],
        Service::Google => &["service_account_file"],
    }
}

pub(super) fn object_store(
    mut component: typed::Component,
    directory: &Path,
) -> Result<ObjectStoreSettings, String> {
    let services = [Service::S3, Service::Azure, Service::Google];
    let all = [&COMMON[..], &services.map(own).concat()].concat();
    refuse_foreign(&component, "kind objectStore", &all)?;
    let url = component.url.take().ok_or("url is missing")?;
    let Location::Object(place) = Location::parse(&url).map_err(|e| e.to_string())? else {
        return Err("url names no bucket; write s3://, azblob:// or gs://, then bucket/prefix".to_owned());
    };
    let mut place = *place;
    let what = format!("a bucket of {}://", place.service.scheme());
    refuse_foreign(&component, &what, &[&COMMON[..], own(place.service)].concat())?;
    let options = &mut place.options;
    options.endpoint = component.endpoint.take().or(options.endpoint.take());
    options.region = component.region.take().or(options.region.take());
    options.path_style = component.path_style.or(options.path_style);
    options.allow_http = component.allow_http.unwrap_or(options.allow_http);
    options.ca_file = component.ca_file.take().map(|file| below(directory, &file)).or(options.ca_file.take());
    options.limits.parallel = connections(&component)?.unwrap_or(options.limits.parallel);
    options.credentials = match place.service {
        Service::S3 => s3(&mut component, directory)?,
        Service::Azure => azure(&mut component, directory)?,
        Service::Google => google(&mut component, directory)?,
    };
    Ok(ObjectStoreSettings {
        name: name(&component)?,
        place,
        optional: component.optional.unwrap_or(false),
        hooks: hooks(component)?,
    })
}

/// A secret that stands in a file or in a variable.
fn secret(
    key: &str,
    file: Option<String>,
    variable: Option<String>,
    directory: &Path,
) -> Result<Option<SecretString>, String> {
    let file = file.map(|file| below(directory, &file));
    passcode::configured(key, file.as_deref(), variable.as_deref())
}

fn s3(component: &mut typed::Component, directory: &Path) -> Result<Credentials, String> {
    let (file, variable) = (component.secret_access_key_file.take(), component.secret_access_key_env.take());
    match (component.access_key_id.take(), secret("secret_access_key", file, variable, directory)?) {
        (Some(id), Some(secret)) => Ok(Credentials::AccessKey { id, secret, session_token: None }),
        (None, None) => Ok(Credentials::Ambient),
        (Some(_), None) => {
            Err("access_key_id is given without secret_access_key_file or secret_access_key_env".to_owned())
        }
        (None, Some(_)) => Err("a secret access key is given without access_key_id".to_owned()),
    }
}

fn azure(component: &mut typed::Component, directory: &Path) -> Result<Credentials, String> {
    let (file, variable) = (component.account_key_file.take(), component.account_key_env.take());
    let key = secret("account_key", file, variable, directory)?;
    match (component.account.take(), key, component.managed_identity.take()) {
        (Some(account), Some(key), None) => Ok(Credentials::AccountKey { account, key }),
        (Some(account), None, client_id) => Ok(Credentials::ManagedIdentity { account, client_id }),
        (None, None, None) => Ok(Credentials::Ambient),
        (None, ..) => Err("a key or an identity is given without account".to_owned()),
        (Some(_), Some(_), Some(_)) => {
            Err("managed_identity and a key of the account are both given; leave one out".to_owned())
        }
    }
}

fn google(component: &mut typed::Component, directory: &Path) -> Result<Credentials, String> {
    let account = secret("service_account", component.service_account_file.take(), None, directory)?;
    Ok(account.map_or(Credentials::Ambient, Credentials::ServiceAccount))
}
