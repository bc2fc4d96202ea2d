//! What an administrator sets for the whole deployment while the server runs: read-only mode, and the settings of
//! disaster recovery. Both lie in the state database.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::recovery::Inner;
use crate::restores::restore_reason;
use crate::{Error, ErrorKind, Result};

/// Two hours, as documented.
const TIMEOUT_SECONDS_DEFAULT: i64 = 7200;
const TIMEOUT_SECONDS: std::ops::RangeInclusive<i64> = 60..=2_592_000;
const MESSAGE_CHARS_MAX: usize = 1000;
const TEXT_CHARS_MAX: usize = 253;
const LABELS_MAX: usize = 100;

/// Whether changes are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Mode {
    /// Changes are refused; backups can be made.
    pub is_read_only: bool,
    /// What those are told whose changes are refused; may be empty.
    pub message: String,
}

impl Mode {
    /// Why changes are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<String> {
        let told = if self.message.is_empty() {
            "This server is read-only; an administrator can end that at admin/mode."
        } else {
            &self.message
        };
        self.is_read_only.then(|| told.to_owned())
    }
}

/// How room for staging is provided. Kept for clients; this server stages nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum VolumeProvisioning {
    /// Made on demand.
    Dynamic,
    /// Chosen by labels.
    Static,
}

/// The staging volume that clients of the interface set. Kept and shown, and not used: backups stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StagingVolume {
    /// How it is provided.
    pub provisioning_type: VolumeProvisioning,
    /// 1 to 253 characters; may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_class: Option<String>,
    /// A quantity like `64Gi`; may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// With `STATIC` alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The settings of disaster recovery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DisasterSettings {
    /// Absent before somebody set it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staging_volume_config: Option<StagingVolume>,
    /// A backup that takes longer is cancelled; 0 = no limit.
    pub timeout_in_seconds: i64,
}

impl Default for DisasterSettings {
    fn default() -> Self {
        Self { staging_volume_config: None, timeout_in_seconds: TIMEOUT_SECONDS_DEFAULT }
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::ParameterInvalid, format!("Parameter 'settings' is not valid: {what}."))
}

impl StagingVolume {
    fn check(&self) -> Result<()> {
        let fits = |text: &str| {
            (1..=TEXT_CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control)
        };
        if self.storage_class.as_deref().is_some_and(|class| !fits(class)) {
            return Err(invalid("its key 'storageClass' must have 1 to 253 characters"));
        }
        if self.size.as_deref().is_some_and(|size| !is_quantity(size)) {
            return Err(invalid("its key 'size' must be a quantity like 64Gi"));
        }
        if !self.labels.is_empty() && self.provisioning_type == VolumeProvisioning::Dynamic {
            return Err(invalid("its key 'labels' goes with provisioningType STATIC alone"));
        }
        if self.labels.len() > LABELS_MAX
            || !self.labels.iter().all(|(key, value)| fits(key) && (value.is_empty() || fits(value)))
        {
            return Err(invalid("its key 'labels' has too many entries, or one that is too long"));
        }
        Ok(())
    }
}

/// A size as Kubernetes writes it.
fn is_quantity(text: &str) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    (1..=18).contains(&number.len())
        && matches!(unit, "" | "k" | "M" | "G" | "T" | "P" | "E" | "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei")
}

impl Inner {
    pub async fn mode(&self) -> Result<Mode> {
        self.kept("mode").await
    }

    pub async fn set_mode(&self, mode: Mode) -> Result<()> {
        self.refuse_while_restoring().await?;
        if mode.message.chars().count() > MESSAGE_CHARS_MAX
            || mode.message.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t'))
        {
            let message = "Parameter 'message' is not valid: at most 1,000 characters, none of them a control character.";
            return Err(Error::new(ErrorKind::ParameterInvalid, message));
        }
        tracing::info!(read_only = mode.is_read_only, "mode changed");
        self.keep("mode", &mode).await
    }

    pub async fn disaster_settings(&self) -> Result<DisasterSettings> {
        self.kept("disaster_settings").await
    }

    /// `edit` gets the settings as they are.
    pub async fn update_disaster_settings(
        &self,
        edit: impl FnOnce(&mut DisasterSettings) + Send,
    ) -> Result<()> {
        self.refuse_while_read_only().await?;
        let mut settings = self.disaster_settings().await?;
        edit(&mut settings);
        if let Some(volume) = &settings.staging_volume_config {
            volume.check()?;
        }
        let timeout = settings.timeout_in_seconds;
        if timeout != 0 && !TIMEOUT_SECONDS.contains(&timeout) {
            return Err(invalid("its key 'timeoutInSeconds' must be 60 to 2592000, or 0 for no limit"));
        }
        tracing::info!(timeout, "settings of disaster recovery changed");
        self.keep("disaster_settings", &settings).await
    }

    /// Why changes are refused now: a restore runs, or somebody made this server read-only.
    pub async fn read_only_reason(&self) -> Result<Option<String>> {
        match self.restoring_reason().await? {
            Some(reason) => Ok(Some(reason)),
            None => Ok(self.mode().await?.refusal()),
        }
    }

    /// Why even a backup is refused now: a restore runs.
    pub async fn restoring_reason(&self) -> Result<Option<String>> {
        Ok(restore_reason(&self.state.active_jobs().await?))
    }

    async fn kept<T: Default + serde::de::DeserializeOwned>(&self, name: &str) -> Result<T> {
        let Some(text) = self.state.meta_if_any(name).await? else { return Ok(T::default()) };
        serde_json::from_str(&text).map_err(|e| {
            Error::new(ErrorKind::Internal, format!("'{name}' in the state cannot be read")).because(e)
        })
    }

    async fn keep<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let text = serde_json::to_string(value)
            .map_err(|e| Error::new(ErrorKind::Internal, format!("'{name}' cannot be kept")).because(e))?;
        self.state.set_meta(name, &text).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_quantities() {
        for good in ["64Gi", "16G", "1", "1024Mi"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "Gi", "64 Gi", "64gb", "-1Gi", "1.5Gi", "99999999999999999999Gi"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }

    #[test]
    fn labels_go_with_static_volumes_alone() {
        let labels = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let volume = |provisioning_type| StagingVolume {
            provisioning_type,
            storage_class: None,
            size: None,
            labels: labels.clone(),
        };
        assert!(volume(VolumeProvisioning::Static).check().is_ok());
        assert!(volume(VolumeProvisioning::Dynamic).check().is_err());
    }
}
