//! A part of a component.

use crate::{Error, ErrorKind, Result};

/// What of a snapshot is restored, and under which name; by default all of it, in the place of what is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Portion {
    /// Paths, in the words of the component's kind; none: all.
    pub paths: Vec<String>,
    /// The name that it gets. What is there now is not touched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub into: Option<String>,
}

impl Portion {
    /// Whether it is all, in the place of what is there.
    pub fn is_all(&self) -> bool {
        self.paths.is_empty() && self.into.is_none()
    }
}

/// Refuses a portion for a kind that is restored as a whole or not at all.
pub(crate) fn refuse(kind: &str, component: &str, portion: &Portion) -> Result<()> {
    match portion.is_all() {
        true => Ok(()),
        false => {
            let message = format!(
                "'{component}' is {kind}, which is restored whole or not at all: leave out only and into"
            );
            Err(Error::new(ErrorKind::Selection, message))
        }
    }
}
