//! What an administrator sets for the whole deployment: read-only mode, and the settings of disaster recovery.

use super::{settings_form, success};
use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::parameters::Keys;
use crate::reply::Reply;
use recovery::{DisasterSettings, Mode, StagingVolume, VolumeProvisioning};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// `admin/mode`
pub(crate) async fn mode(call: Arc<Call>) -> ApiResult<Reply> {
    let mode = call.lift(call.site.recovery.mode().await)?;
    let mut entry = json!({"isReadOnly": mode.is_read_only});
    if let (true, Some(object)) = (mode.is_read_only, entry.as_object_mut()) {
        object.insert("message".into(), json!(mode.message));
    }
    Ok(Reply::Json(entry))
}

/// `admin/mode/update`
pub(crate) async fn update_mode(call: Arc<Call>) -> ApiResult<Reply> {
    call.parameters.required("isReadOnly", "true or false")?;
    let is_read_only = call.parameters.boolean("isReadOnly")?;
    let message = call.parameters.text("message").unwrap_or_default().to_owned();
    call.lift(call.site.recovery.set_mode(Mode { is_read_only, message }).await)?;
    Ok(Reply::Json(json!({"status": "success", "success": true})))
}

/// `disasterrecovery/settings`. The staging volume is there only once somebody has set it, as known clients expect.
pub(crate) async fn settings(call: Arc<Call>) -> ApiResult<Reply> {
    let settings = call.lift(call.site.recovery.disaster_settings().await)?;
    let mut entry = json!({"timeoutInSeconds": settings.timeout_in_seconds});
    if let (Some(volume), Some(object)) = (&settings.staging_volume_config, entry.as_object_mut()) {
        let mut shown = Map::from_iter([("component".to_owned(), json!("DR_JOB"))]);
        if let Ok(Value::Object(told)) = serde_json::to_value(volume) {
            shown.extend(told);
        }
        object.insert("stagingVolumeConfig".into(), Value::Object(shown));
    }
    Ok(Reply::Json(entry))
}

/// `disasterrecovery/settings/update`; what is not sent stays.
pub(crate) async fn update_settings(call: Arc<Call>) -> ApiResult<Reply> {
    let is_typed = call.is_html() && call.parameters.text("settings").is_none();
    let about = |error| if is_typed { settings_form::about_field(error) } else { error };
    let sent = if is_typed {
        settings_form::settings(&call.parameters)?
    } else {
        call.parameters.object("settings")?.ok_or_else(|| ApiError::missing("settings", "a JSON object"))?
    };
    let change = SettingsChange::of(&Keys::of("settings", &sent)).map_err(about)?;
    let updated = call.site.recovery.update_disaster_settings(move |settings| change.apply(settings)).await;
    call.lift(updated).map_err(about)?;
    if is_typed {
        let path = format!("{}/admin/system/disasterrecovery/settings", call.site.context_path());
        return Ok(Reply::Go { path, cookie: None });
    }
    success()
}

/// What is to change.
#[derive(Default)]
struct SettingsChange {
    timeout_in_seconds: Option<i64>,
    provisioning_type: Option<VolumeProvisioning>,
    storage_class: Option<String>,
    size: Option<String>,
    labels: Option<BTreeMap<String, String>>,
}

impl SettingsChange {
    /// The documentation names the time-out in two places; both count.
    fn of(sent: &Keys<'_>) -> ApiResult<Self> {
        let mut change = Self { timeout_in_seconds: sent.number("timeoutInSeconds")?, ..Self::default() };
        if let Some(volume) = sent.object("stagingVolumeConfig")? {
            change.timeout_in_seconds = change.timeout_in_seconds.or(volume.number("timeoutInSeconds")?);
            change.take_volume(&volume)?;
        }
        if change.timeout_in_seconds.is_none() && !change.has_volume() {
            return Err(ApiError::invalid(
                "settings",
                "nothing known in it; expected stagingVolumeConfig or timeoutInSeconds",
            ));
        }
        Ok(change)
    }

    fn take_volume(&mut self, volume: &Keys<'_>) -> ApiResult<()> {
        self.provisioning_type = match volume.text("provisioningType")?.as_deref() {
            None => None,
            Some(text) if text.eq_ignore_ascii_case("DYNAMIC") => Some(VolumeProvisioning::Dynamic),
            Some(text) if text.eq_ignore_ascii_case("STATIC") => Some(VolumeProvisioning::Static),
            Some(_) => return Err(volume.wrong("provisioningType", "DYNAMIC or STATIC")),
        };
        self.storage_class = volume.text("storageClass")?;
        self.size = volume.text("size")?;
        let labels = volume.value("labels").map(|labels| serde_json::from_value(labels.clone()));
        self.labels = labels.transpose().map_err(|_| volume.wrong("labels", "an object of texts"))?;
        Ok(())
    }

    fn has_volume(&self) -> bool {
        self.provisioning_type.is_some()
            || self.storage_class.is_some()
            || self.size.is_some()
            || self.labels.is_some()
    }

    fn apply(self, settings: &mut DisasterSettings) {
        settings.timeout_in_seconds = self.timeout_in_seconds.unwrap_or(settings.timeout_in_seconds);
        if !self.has_volume() {
            return;
        }
        let volume = settings.staging_volume_config.get_or_insert(StagingVolume {
            provisioning_type: VolumeProvisioning::Dynamic,
            storage_class: None,
            size: None,
            labels: BTreeMap::new(),
        });
        volume.provisioning_type = self.provisioning_type.unwrap_or(volume.provisioning_type);
        volume.storage_class = self.storage_class.or(volume.storage_class.take());
        volume.size = self.size.or(volume.size.take());
        match self.labels {
            Some(labels) => volume.labels = labels,
            // Labels choose among volumes that are there already; those of before mean nothing any more.
            None if volume.provisioning_type == VolumeProvisioning::Dynamic => volume.labels.clear(),
            None => {}
        }
    }
}
