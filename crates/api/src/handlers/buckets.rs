//! Stores in buckets on the wire: `settings` of the types S3, AZURE_BLOBSTORE and GOOGLE_CLOUD_STORAGE, and their credentials.
//!
//! The documented shape is a provider with its services; the one of usage BACKUP says where the store is.

use crate::error::{ApiError, ApiResult};
use crate::parameters::boolean;
use recovery::{BucketConnection, Credentials, ObjectOptions, ObjectPlace, Service};
use serde_json::{Map, Value, json};

type Object = Map<String, Value>;

/// PEM text of more is refused.
const CA_BYTES_MAX: usize = 64 * 1024;
/// A service account's key file is some 2 KiB.
const SECRET_BYTES_MAX: usize = 16 * 1024;
const TEXT_BYTES_MAX: usize = 1024;

fn wrong(what: &str) -> ApiError {
    ApiError::invalid("settings", what)
}

/// The bucket that `settings` of a type describes.
pub(super) fn place(service: Service, settings: &Object) -> ApiResult<ObjectPlace> {
    let connection = connection(settings)?;
    let bucket = match service {
        Service::Azure => required(connection, "containerName")?,
        Service::S3 | Service::Google => required(connection, "bucketName")?,
    };
    let prefix = text(connection, "rootDir")?.unwrap_or_default();
    let endpoint = match service {
        // One client sends a list of one text.
        Service::Azure => match connection.get("accountEndpointUrl") {
            Some(Value::Array(list)) if list.len() == 1 => list[0].as_str().map(str::to_owned),
            _ => text(connection, "accountEndpointUrl")?,
        },
        Service::S3 | Service::Google => text(connection, "endpointUrl")?,
    };
    let ca_pem = match connection.get("caBundle") {
        None | Some(Value::Null) => None,
        Some(Value::String(pem)) if pem.len() <= CA_BYTES_MAX => Some(pem.clone()),
        Some(_) => return Err(wrong("'caBundle' must be PEM text of at most 64 KiB")),
    };
    let credentials = match connection.get("credential") {
        None | Some(Value::Null) => Credentials::Ambient,
        Some(Value::Object(credential)) => credential_of(service, credential)?,
        Some(_) => return Err(wrong("'credential' must be an object")),
    };
    let options = ObjectOptions {
        endpoint,
        region: text(connection, "region")?,
        path_style: flag(connection, "pathStyle")?,
        allow_http: flag(connection, "allowHttp")?.unwrap_or(false),
        ca_pem,
        credentials,
        ..ObjectOptions::default()
    };
    if options.endpoint.as_deref().is_some_and(|url| url.contains('@')) {
        let key = if service == Service::Azure { "accountEndpointUrl" } else { "endpointUrl" };
        return Err(wrong(&format!("'{key}' must hold no credentials; send them in 'credential'")));
    }
    // First alone, so that the message can name the key.
    ObjectPlace::new(service, &bucket, "", ObjectOptions::default()).map_err(|why| {
        let key = if service == Service::Azure { "containerName" } else { "bucketName" };
        wrong(&format!("its key '{key}' cannot be taken, as {why}"))
    })?;
    ObjectPlace::new(service, &bucket, &prefix, options)
        .map_err(|why| wrong(&format!("its key 'rootDir' cannot be taken, as {why}")))
}

/// `provider.cloudServices[]` of usage BACKUP, or `connection` in `settings` itself.
fn connection(settings: &Object) -> ApiResult<&Object> {
    if let Some(Value::Object(connection)) = settings.get("connection") {
        return Ok(connection);
    }
    let services = settings.get("provider").and_then(|provider| provider.get("cloudServices"));
    let services = services.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let is_backup = |service: &&Value| {
        service.get("usage").and_then(Value::as_str).is_some_and(|usage| usage.eq_ignore_ascii_case("BACKUP"))
    };
    let mut fitting = services.iter().filter(is_backup);
    match (fitting.next().and_then(|service| service.get("connection")), fitting.next()) {
        (Some(Value::Object(connection)), None) => Ok(connection),
        (_, Some(_)) => Err(wrong("several of 'provider.cloudServices' have the usage BACKUP; send one")),
        _ => Err(ApiError::missing(
            "settings",
            "'provider.cloudServices' must hold one service of usage BACKUP with its 'connection'",
        )),
    }
}

/// A credential of a service, as it is sent.
pub(super) fn credential_of(service: Service, credential: &Object) -> ApiResult<Credentials> {
    let empty = Object::new();
    let secret = credential.get("secret").and_then(Value::as_object).unwrap_or(&empty);
    let hidden = |key: &str| match secret.get(key).and_then(Value::as_str) {
        Some(text) if !text.is_empty() && text.len() <= SECRET_BYTES_MAX => Ok(text.to_owned().into()),
        _ => Err(ApiError::missing(
            "settings",
            &format!("'credential.secret.{key}' is text that is not empty"),
        )),
    };
    let kind = credential.get("type").and_then(Value::as_str).unwrap_or_default().to_ascii_uppercase();
    match (service, kind.as_str()) {
        (Service::S3 | Service::Google, "IAM-ROLE") => Ok(Credentials::Ambient),
        (Service::S3, "ACCESS-KEY") => Ok(Credentials::AccessKey {
            id: required(secret, "accessKey")?,
            secret: hidden("secretKey")?,
            session_token: secret.contains_key("sessionToken").then(|| hidden("sessionToken")).transpose()?,
        }),
        (Service::Azure, "STORAGE-ACCOUNT-KEY") => Ok(Credentials::AccountKey {
            account: required(secret, "storageAccountName")?,
            key: hidden("storageAccountKey")?,
        }),
        (Service::Azure, "USER-ASSIGNED-IDENTITY") => Ok(Credentials::ManagedIdentity {
            account: required(secret, "storageAccountName")?,
            client_id: text(credential, "managedIdentityClientId")?,
        }),
        (Service::Google, "SERVICE-ACCOUNT") => Ok(Credentials::ServiceAccount(hidden("key")?)),
        (Service::S3, _) => Err(wrong("'credential.type' must be ACCESS-KEY or IAM-ROLE")),
        (Service::Azure, _) => {
            Err(wrong("'credential.type' must be STORAGE-ACCOUNT-KEY or USER-ASSIGNED-IDENTITY"))
        }
        (Service::Google, _) => Err(wrong("'credential.type' must be SERVICE-ACCOUNT or IAM-ROLE")),
    }
}

fn text(object: &Object, key: &str) -> ApiResult<Option<String>> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) => {
            Ok(Some(text.clone()))
        }
        Some(_) => Err(wrong(&format!("'{key}' must be text of at most {TEXT_BYTES_MAX} bytes"))),
    }
}

fn required(object: &Object, key: &str) -> ApiResult<String> {
    text(object, key)?.ok_or_else(|| ApiError::missing("settings", &format!("'{key}' is missing")))
}

fn flag(object: &Object, key: &str) -> ApiResult<Option<bool>> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match boolean(value) {
            Some(flag) => Ok(Some(flag)),
            None => Err(wrong(&format!("'{key}' must be true or false"))),
        },
    }
}

/// What an entry of a store in a bucket shows besides the rest. Some clients need the keys at the top level.
pub(super) fn show(connection: &BucketConnection, entry: &mut Object) {
    let (bucket, endpoint, provider, service) = match connection.kind.as_str() {
        "AZURE_BLOBSTORE" => ("containerName", "accountEndpointUrl", "AZURE", "Azure Blob Storage"),
        "GOOGLE_CLOUD_STORAGE" => ("bucketName", "endpointUrl", "GCP", "Google Cloud Storage"),
        _ => ("bucketName", "endpointUrl", "AWS", "AWS S3"),
    };
    entry.insert(bucket.to_owned(), json!(connection.bucket));
    entry.insert("region".to_owned(), json!(connection.region.as_deref().unwrap_or_default()));
    if let Some(url) = &connection.endpoint {
        entry.insert(endpoint.to_owned(), json!(url));
    }
    entry.insert("credentialType".to_owned(), json!(connection.credential_type));
    entry.insert("providerID".to_owned(), json!(provider));
    entry.insert("serviceID".to_owned(), json!(service));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(connection: Value) -> Object {
        let settings = json!({"type": "S3", "provider": {"name": "AWS", "cloudServices": [
            {"name": "AWS S3", "type": "objectStore", "usage": "LOGS", "connection": {}},
            {"name": "AWS S3", "type": "objectStore", "usage": "BACKUP", "connection": connection},
        ]}});
        settings.as_object().unwrap().clone()
    }

    #[test]
    fn a_bucket_is_read_from_the_service_for_backups() {
        let place = place(
            Service::S3,
            &settings(json!({
                "bucketName": "dr-1", "region": "eu-west-1", "rootDir": "/site1/", "endpointUrl": "https://minio:9000",
                "pathStyle": "true",
                "credential": {"type": "ACCESS-KEY", "secret": {"accessKey": "A", "secretKey": "planted"}},
            })),
        )
        .unwrap();
        assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("dr-1", "site1"));
        assert_eq!(place.options.path_style, Some(true));
        assert!(matches!(place.options.credentials, Credentials::AccessKey { .. }));
        assert!(!format!("{place:?}").contains("planted"));
    }

    #[test]
    fn azures_address_may_come_as_a_list_of_one() {
        let connection = json!({
            "containerName": "dr-1", "accountEndpointUrl": ["https://a.blob.core.windows.net"],
            "credential": {"type": "STORAGE-ACCOUNT-KEY", "secret": {"storageAccountName": "a", "storageAccountKey": "k"}},
        });
        let place = place(Service::Azure, &settings(connection)).unwrap();
        assert_eq!(place.options.endpoint.as_deref(), Some("https://a.blob.core.windows.net"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_refused_and_no_secret_is_repeated() {
        for connection in [
            json!({}),
            json!({"bucketName": "x"}),
            json!({"bucketName": 7}),
            json!({"bucketName": "dr-1", "rootDir": "../up"}),
            json!({"bucketName": "dr-1", "pathStyle": "perhaps"}),
            json!({"bucketName": "dr-1", "credential": "planted"}),
            json!({"bucketName": "dr-1", "credential": {"type": "planted"}}),
            json!({"bucketName": "dr-1", "credential": {"type": "ACCESS-KEY", "secret": {"secretKey": "planted"}}}),
            json!({"bucketName": "dr-1", "endpointUrl": "https://a:planted@host"}),
        ] {
            let refused = place(Service::S3, &settings(connection.clone())).unwrap_err();
            assert!(!format!("{refused:?}").contains("planted"), "{connection}");
        }
        assert!(place(Service::S3, &Object::new()).is_err());
    }
}
