//! What people type into the form of the settings, as the `settings` that programs send. What comes out is judged as if a
//! program had sent it, and an error of that names the field again.

use crate::error::{ApiError, ApiResult};
use crate::parameters::Parameters;
use serde_json::{Map, Value, json};

const TIMEOUT: &str = "timeoutInMinutes";
const MINUTES_MAX: i64 = 43_200;
/// Fields that have the name of the key of `stagingVolumeConfig` that they mean.
const OF_VOLUME: [&str; 3] = ["provisioningType", "storageClass", "size"];
const LABELS: &str = "labels";

/// The `settings` of what was filled in.
pub(super) fn settings(typed: &Parameters) -> ApiResult<Map<String, Value>> {
    let mut settings = Map::new();
    if let Some(minutes) = typed.integer(TIMEOUT)? {
        if !(0..=MINUTES_MAX).contains(&minutes) {
            return Err(ApiError::invalid(TIMEOUT, "expected 1 to 43,200 minutes, or 0 for no limit"));
        }
        settings.insert("timeoutInSeconds".to_owned(), json!(minutes * 60));
    }
    let mut volume = Map::new();
    for key in OF_VOLUME {
        if let Some(text) = typed.text(key).map(str::trim).filter(|text| !text.is_empty()) {
            volume.insert(key.to_owned(), json!(text));
        }
    }
    let labels = labels(typed.text(LABELS).unwrap_or_default())?;
    if !labels.is_empty() {
        volume.insert(LABELS.to_owned(), Value::Object(labels));
    }
    if !volume.is_empty() {
        settings.insert("stagingVolumeConfig".to_owned(), Value::Object(volume));
    }
    if settings.is_empty() {
        return Err(ApiError::missing(TIMEOUT, "nothing is filled in that is to change"));
    }
    Ok(settings)
}

/// One label a line.
fn labels(text: &str) -> ApiResult<Map<String, Value>> {
    let mut labels = Map::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| ApiError::invalid(LABELS, "expected one label a line, as name=value"))?;
        if labels.insert(name.trim().to_owned(), json!(value.trim())).is_some() {
            return Err(ApiError::invalid(LABELS, "a name stands there twice"));
        }
    }
    Ok(labels)
}

/// An error about a key of `settings` as one about the field that means it.
pub(super) fn about_field(error: ApiError) -> ApiError {
    let key = |name: &&str| error.message.contains(&format!("its key '{name}'"));
    match OF_VOLUME.iter().chain([&LABELS]).copied().find(|name| key(name)) {
        Some(name) => {
            let message = error.message.replacen("Parameter 'settings'", &format!("Parameter '{name}'"), 1);
            ApiError { message: message.replacen(&format!("its key '{name}'"), "it", 1), ..error }
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(fields: &[(&str, &str)]) -> ApiResult<Map<String, Value>> {
        let mut parameters = Parameters::default();
        for (name, value) in fields {
            parameters.add((*name).to_owned(), (*value).to_owned());
        }
        settings(&parameters)
    }

    #[test]
    fn what_is_typed_means_what_a_program_would_send_and_what_is_empty_is_not_sent() {
        let fields = [
            ("timeoutInMinutes", " 240 "),
            ("provisioningType", "STATIC"),
            ("storageClass", ""),
            ("size", " 64Gi "),
            ("labels", "disk = fast\r\n\r\nsite=\r\n"),
        ];
        let expected = json!({
            "timeoutInSeconds": 14_400,
            "stagingVolumeConfig":
                {"provisioningType": "STATIC", "size": "64Gi", "labels": {"disk": "fast", "site": ""}},
        });
        assert_eq!(Value::Object(typed(&fields).expect("settings")), expected);
        let no_limit = typed(&[("timeoutInMinutes", "0")]).expect("settings");
        assert_eq!(Value::Object(no_limit), json!({"timeoutInSeconds": 0}));
    }

    #[test]
    fn what_is_wrong_is_told_of_its_field() {
        for (field, text) in [
            ("timeoutInMinutes", "-1"),
            ("timeoutInMinutes", "43201"),
            ("timeoutInMinutes", "two hours"),
            ("labels", "fast"),
            ("labels", "a=1\na=2"),
        ] {
            let refused = typed(&[(field, text)]).expect_err(text);
            assert!(refused.message.contains(&format!("'{field}'")), "{refused:?}");
        }
        assert_eq!(typed(&[("size", " ")]).expect_err("nothing").message_code, "PARAM_MISSING");
        let size = about_field(ApiError::invalid("settings", "its key 'size' must be a quantity like 64Gi"));
        assert_eq!(size.message, "Parameter 'size' is not valid: it must be a quantity like 64Gi.");
    }
}
