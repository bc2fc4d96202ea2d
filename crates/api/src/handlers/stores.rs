//! Backup stores: list, one, register, update, validate, unregister.

use super::{accepted, buckets, store_form, success, texts};
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::pages::forms::StoreKind;
use crate::parameters::{Parameters, boolean};
use crate::path;
use crate::reply::Reply;
use recovery::{Credentials, RegisterStore, Service, StorePlace, StoreView, Validation};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;

/// `stores`
pub(crate) async fn list(call: Arc<Call>) -> ApiResult<Reply> {
    let mut stores = call.lift(call.site.recovery.stores().await)?;
    stores.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Reply::Json(json!({"backupStores": stores.iter().map(entry).collect::<Value>()})))
}

/// `stores/<store>`
pub(crate) async fn one(call: Arc<Call>) -> ApiResult<Reply> {
    let detail = call.lift(call.site.recovery.store(store(&call)?).await)?;
    let mut entry = entry(&detail.store);
    if let Some(object) = entry.as_object_mut() {
        object.insert("backupCount".into(), json!(detail.backup_count));
        object.insert("bytesStored".into(), json!(detail.bytes_stored));
        object.insert("lastValidated".into(), json!(detail.last_validated));
    }
    Ok(Reply::Store(entry, Box::new(detail)))
}

fn store(call: &Call) -> ApiResult<&str> {
    call.name("store").ok_or_else(ApiError::unknown_url)
}

/// One store as documented; the last three keys are always there, as a known client needs them in every
/// entry.
pub(crate) fn entry(store: &StoreView) -> Value {
    let mut entry = json!({
        "name": store.name, "default": store.default, "type": store.kind, "rootDir": store.root_dir,
        "storageConfig": store.storage_config, "identity": store.identity,
        "versionCreated": store.version_created, "providerID": "", "serviceID": "",
    });
    if let (Some(connection), Some(entry)) = (&store.connection, entry.as_object_mut()) {
        buckets::show(connection, entry);
    }
    entry
}

/// `stores/register`
pub(crate) async fn register(call: Arc<Call>) -> ApiResult<Reply> {
    let kind = store_form::kind_sent(&call)?;
    let request = match kind {
        Some(kind) => typed(kind, &call.parameters)?,
        None => registration(&call.parameters)?,
    };
    if call.parameters.boolean("async")? {
        let id = call.lift(call.site.recovery.register_store_as_job(request, call.caller()).await)?;
        return accepted(&call, id, "SUBMITTED");
    }
    let store = call.lift(call.site.recovery.register_store(request).await)?;
    if kind.is_some() {
        return Ok(page_of(&call, &store.name));
    }
    Ok(Reply::Json(json!({
        "status": "success", "name": store.name, "default": store.default, "type": store.kind,
        "rootDir": store.root_dir, "storageConfig": store.storage_config,
    })))
}

/// The page of a store, to which the forms of people lead.
fn page_of(call: &Call, store: &str) -> Reply {
    let stores = format!("{}/admin/system/disasterrecovery/stores", call.site.context_path());
    Reply::Go { path: format!("{stores}/{}", path::encode(store)), cookie: None }
}

/// The store that somebody typed into the form of its kind.
fn typed(kind: &StoreKind, parameters: &Parameters) -> ApiResult<RegisterStore> {
    let name = parameters.required("storeName", "the name of the new store")?.to_owned();
    let settings = store_form::settings(kind, parameters)?;
    let (place, config) = place(&settings).map_err(|error| store_form::about_field(kind, error))?;
    Ok(RegisterStore { name, place, storage_config: config, default: parameters.boolean("isDefault")? })
}

/// The store that is asked for, in either form of the parameters: `settings`, or `rootDirectory` and
/// `storageConfig` as in 10.9. With both, `settings` wins.
pub(crate) fn registration(parameters: &Parameters) -> ApiResult<RegisterStore> {
    let name = parameters.required("storeName", "the name of the new store")?.to_owned();
    let default = parameters.boolean("isDefault")?;
    parameters.boolean("async")?;
    // Checked to be an object and then forgotten: a directory needs no credentials, and what is not kept
    // cannot leak. A bucket has its own in `settings`.
    parameters.object("credentials")?;
    let old_config = parameters.object("storageConfig")?;
    refuse_bds(parameters.text("supportBDSBackup").map(Value::from).as_ref())?;
    let (place, config) = match parameters.object("settings")? {
        Some(settings) => place(&settings)?,
        None => {
            let directory = parameters.text("rootDirectory").ok_or_else(|| {
                ApiError::missing("settings", "a JSON object with the store's type, or send rootDirectory")
            })?;
            (StorePlace::Directory(PathBuf::from(directory)), storage_config(old_config.as_ref())?)
        }
    };
    Ok(RegisterStore { name, place, storage_config: config, default })
}

/// Place and `storageConfig` in `settings`.
fn place(settings: &Map<String, Value>) -> ApiResult<(StorePlace, Value)> {
    refuse_bds(settings.get("supportBDSBackup"))?;
    let Some(kind) = settings.get("type") else {
        return Err(ApiError::missing("settings", "its key 'type' names the kind of store, such as HOSTED"));
    };
    let config = match settings.get("storageConfig") {
        None | Some(Value::Null) => None,
        Some(Value::Object(config)) => Some(config),
        Some(_) => return Err(ApiError::invalid("settings", "its key 'storageConfig' must be an object")),
    };
    let kind = kind.as_str().unwrap_or_default().to_ascii_uppercase();
    match kind.as_str() {
        "HOSTED" => Ok((StorePlace::Hosted, storage_config(config)?)),
        "FILESYSTEM" => match settings.get("rootDir").and_then(Value::as_str).filter(|text| !text.is_empty())
        {
            Some(directory) => Ok((StorePlace::Directory(PathBuf::from(directory)), storage_config(config)?)),
            None => Err(ApiError::missing("settings", "its key 'rootDir' names the store's directory")),
        },
        kind => match service_of(kind) {
            Some(service) => {
                let bucket = buckets::place(service, settings)?;
                Ok((StorePlace::Bucket(Box::new(bucket)), storage_config(config)?))
            }
            None => Err(ApiError::invalid(
                "settings",
                "its key 'type' must be HOSTED, FILESYSTEM, S3, AZURE_BLOBSTORE or GOOGLE_CLOUD_STORAGE",
            )),
        },
    }
}

fn service_of(kind: &str) -> Option<Service> {
    [Service::S3, Service::Azure, Service::Google]
        .into_iter()
        .find(|service| recovery::kind_of(*service) == kind)
}

/// The known keys of `storageConfig`; others do not get into the state.
fn storage_config(sent: Option<&Map<String, Value>>) -> ApiResult<Value> {
    const TEXT_MAX: usize = 253;
    let is_text = |value: &Value| value.as_str().is_some_and(|text| text.chars().count() <= TEXT_MAX);
    let mut kept = Map::new();
    for key in ["storageClass", "size", "provisioningType", "labels"] {
        let Some(value) = sent.and_then(|sent| sent.get(key)).filter(|value| !value.is_null()) else {
            continue;
        };
        let fits = match (key, value) {
            ("labels", Value::Object(labels)) => labels.len() <= 100 && labels.values().all(is_text),
            ("labels", _) => false,
            (_, value) => is_text(value),
        };
        if !fits {
            return Err(ApiError::invalid(
                "storageConfig",
                &format!("its key '{key}' has a wrong type or length"),
            ));
        }
        kept.insert(key.to_owned(), value.clone());
    }
    Ok(Value::Object(kept))
}

fn refuse_bds(wish: Option<&Value>) -> ApiResult<()> {
    let asked = match wish {
        None | Some(Value::Null) => false,
        Some(value) => {
            boolean(value).ok_or_else(|| ApiError::invalid("supportBDSBackup", "expected true or false"))?
        }
    };
    if asked {
        return Err(ApiError::not_supported(
            "supportBDSBackup is not supported by this version; send false.",
        ));
    }
    Ok(())
}

/// `stores/<store>/update`
pub(crate) async fn update(call: Arc<Call>) -> ApiResult<Reply> {
    let name = store(&call)?;
    let typed = store_form::kind_sent(&call)?;
    let settings = match typed {
        Some(kind) => Some(store_form::changes(kind, &call.parameters)?),
        None => call.parameters.object("settings")?,
    };
    if let Some(credential) = credential_sent(settings.as_ref())? {
        let kind = call.lift(call.site.recovery.store(name).await)?.store.kind;
        let credentials = credential_for(&kind, &credential);
        let credentials = credentials.map_err(|error| match typed {
            Some(kind) => store_form::about_field(kind, error),
            None => error,
        })?;
        call.lift(call.site.recovery.renew_credential(name, credentials).await)?;
    }
    match update_settings(settings.as_ref())? {
        Some(default) => call.lift(call.site.recovery.update_store(name, default).await)?,
        // Nothing to change; the store must be there all the same.
        None => drop(call.lift(call.site.recovery.store(name).await)?),
    }
    if typed.is_some() { Ok(page_of(&call, name)) } else { success() }
}

/// Another credential in `settings`, if there is one.
fn credential_sent(settings: Option<&Map<String, Value>>) -> ApiResult<Option<Map<String, Value>>> {
    match settings.and_then(|settings| settings.get("credential")) {
        None => Ok(None),
        Some(Value::Object(credential)) => Ok(Some(credential.clone())),
        Some(_) => Err(ApiError::invalid("settings", "its key 'credential' must be an object")),
    }
}

fn credential_for(kind: &str, credential: &Map<String, Value>) -> ApiResult<Credentials> {
    match service_of(kind) {
        Some(service) => buckets::credential_of(service, credential),
        None => Err(ApiError::not_supported("This store has no credential: it is a directory.")),
    }
}

/// The wish for the default flag in `settings`.
fn update_settings(settings: Option<&Map<String, Value>>) -> ApiResult<Option<bool>> {
    let settings = settings.ok_or_else(|| ApiError::missing("settings", "a JSON object"))?;
    for key in ["type", "rootDir", "rootDirectory", "storageConfig", "provider", "name", "storeName"] {
        if settings.contains_key(key) {
            let message = format!("its key '{key}' cannot be changed; register another store instead");
            return Err(ApiError::invalid("settings", &message));
        }
    }
    refuse_bds(settings.get("supportBDSBackup"))?;
    match settings.get("default") {
        Some(value) => match boolean(value) {
            Some(default) => Ok(Some(default)),
            None => Err(ApiError::invalid("settings", "its key 'default' must be true or false")),
        },
        None if settings.contains_key("supportBDSBackup") || settings.contains_key("credential") => Ok(None),
        None => Err(ApiError::invalid(
            "settings",
            "nothing in it can be changed; known are 'default' and 'credential'",
        )),
    }
}

/// `stores/<store>/validate`
pub(crate) async fn validate(call: Arc<Call>) -> ApiResult<Reply> {
    let validation = call.lift(call.site.recovery.validate_store(store(&call)?).await)?;
    Ok(Reply::Json(validation_entry(&validation)))
}

/// The reply to a validation. What is not ready is no error.
pub(crate) fn validation_entry(validation: &Validation) -> Value {
    if validation.ready {
        return json!({"isReady": true, "status": "success"});
    }
    json!({"isReady": false, "status": "failed", "details": texts(&validation.details)})
}

/// `stores/<store>/unregister`
pub(crate) async fn unregister(call: Arc<Call>) -> ApiResult<Reply> {
    let force = call.parameters.boolean("force")?;
    call.lift(call.site.recovery.unregister_store(store(&call)?, force).await)?;
    success()
}
