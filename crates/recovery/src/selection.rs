//! What of a backup is restored: whole components, or a portion of one.

use std::collections::BTreeMap;

use components::{Kind, Portion};
use serde::{Deserialize, Serialize};

use crate::restores::kind_text;
use crate::{Error, ErrorKind, Result, clock};

/// What is to be restored, in the words of a request; by default everything.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Kinds or names of components; none: those of `only`, or all.
    pub components: Vec<String>,
    /// What of a component is restored alone, each `COMPONENT/PATH`.
    pub only: Vec<String>,
    /// The name that this gets; what is there is not touched.
    pub into: Option<String>,
    /// The instant, in milliseconds since 1970, of components that hold several; none: the last.
    pub at: Option<i64>,
}

/// What of a backup is restored; by default everything. A job keeps it in its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Selection {
    /// Kinds or names of components; none: all.
    pub components: Vec<String>,
    /// What of a component is restored, by its name; all of those that are not here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub portions: BTreeMap<String, Portion>,
    /// The instant, in milliseconds since 1970, of components that hold several; none: the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
}

impl Selection {
    /// What the words of a request mean for a backup that holds these components.
    pub(crate) fn resolve(wanted: &Wanted, held: &[(Kind, &str)]) -> Result<Self> {
        let Wanted { components, only, into, at } = wanted;
        let invalid = |message: String| Err(Error::new(ErrorKind::ParameterInvalid, message));
        let mut selection = Self { components: components.clone(), portions: BTreeMap::new(), at: *at };
        for word in only {
            // A name may hold a slash.
            let names = held
                .iter()
                .filter_map(|(kind, name)| Some((*kind, *name, word.strip_prefix(name)?.strip_prefix('/')?)));
            let Some((kind, name, path)) = names.max_by_key(|(_, name, _)| name.len()) else {
                let names: Vec<&str> = held.iter().map(|(_, name)| *name).collect();
                return invalid(format!(
                    "only: '{}' must be COMPONENT/PATH, and the backup holds the components {}",
                    word.escape_debug(),
                    names.join(", ")
                ));
            };
            if path.is_empty() {
                return invalid(format!(
                    "only: '{word}' names no part of the component '{name}'; for all of it send components={name}"
                ));
            }
            if !selection.includes(kind, name) {
                return invalid(format!(
                    "only: '{word}' is of the component '{name}', which components leaves out; send one of the two"
                ));
            }
            selection.portions.entry(name.to_owned()).or_default().paths.push(path.to_owned());
        }
        if components.is_empty() {
            selection.components = selection.portions.keys().cloned().collect();
        }
        let Some(into) = into else { return Ok(selection) };
        let chosen = held.iter().filter(|(kind, name)| selection.includes(*kind, name)).count();
        match selection.portions.values_mut().next() {
            Some(portion) if chosen == 1 => portion.into = Some(into.clone()),
            _ => return invalid("into: it needs only, of one component and nothing beside it".to_owned()),
        }
        Ok(selection)
    }

    /// Whether a component is restored, or a portion of it.
    pub fn includes(&self, kind: Kind, name: &str) -> bool {
        let chosen = |word: &String| word == name || kind_text(kind).eq_ignore_ascii_case(word);
        self.components.is_empty() || self.components.iter().any(chosen)
    }

    /// What of a component is restored.
    pub fn portion(&self, component: &str) -> Portion {
        self.portions.get(component).cloned().unwrap_or_default()
    }

    /// In words: "gis/city as city_old, as of 2026-05-04T11:59:30Z"; nothing where whole components are restored.
    pub fn in_words(&self) -> String {
        let words = self.portions.iter().flat_map(|(name, portion)| {
            let into = portion.into.as_ref().map(|into| format!(" as {into}")).unwrap_or_default();
            portion.paths.iter().map(move |path| format!("{name}/{path}{into}"))
        });
        let at = self.at.map(|at| format!("as of {}", clock::exact(at)));
        words.chain(at).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELD: [(Kind, &str); 3] =
        [(Kind::RelationalStore, "gis"), (Kind::FileStore, "a"), (Kind::FileStore, "a/b")];

    fn resolve(components: &[&str], only: &[&str], into: Option<&str>) -> Result<Selection> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let into = into.map(str::to_owned);
        let wanted = Wanted { components: owned(components), only: owned(only), into, at: None };
        Selection::resolve(&wanted, &HELD)
    }

    #[test]
    fn a_path_belongs_to_the_component_with_the_longest_name_before_it_and_chooses_it() {
        let selection = resolve(&[], &["gis/city", "gis/land/public", "a/b/c/d"], None).unwrap();
        assert_eq!(selection.components, ["a/b", "gis"]);
        assert_eq!(selection.portion("gis").paths, ["city", "land/public"]);
        assert_eq!(selection.portion("a/b").paths, ["c/d"]);
        assert!(selection.portion("a").is_all() && !selection.includes(Kind::FileStore, "a"));
        assert_eq!(selection.in_words(), "a/b/c/d, gis/city, gis/land/public");

        let beside = resolve(&["filestore", "gis"], &["gis/city"], None).unwrap();
        assert!(beside.includes(Kind::FileStore, "a") && beside.portion("a").is_all());
        assert_eq!(resolve(&[], &[], None).unwrap(), Selection::default());
    }

    #[test]
    fn words_that_mean_nothing_are_refused_with_what_would() {
        let refused = |components: &[&str], only: &[&str], into| {
            let error = resolve(components, only, into).unwrap_err();
            assert_eq!(error.kind, ErrorKind::ParameterInvalid);
            error.message
        };
        assert!(refused(&[], &["city"], None).contains("the components gis, a, a/b"));
        assert!(refused(&[], &["gis"], None).contains("COMPONENT/PATH"));
        assert!(refused(&[], &["gis/"], None).contains("components=gis"));
        assert!(refused(&["a"], &["gis/city"], None).contains("which components leaves out"));
        assert!(refused(&[], &[], Some("new")).contains("it needs only"));
        assert!(refused(&["gis", "a"], &["gis/city"], Some("new")).contains("nothing beside it"));
        let named = resolve(&["gis"], &["gis/city"], Some("new")).unwrap();
        assert_eq!(named.portion("gis").into.as_deref(), Some("new"));
        assert_eq!(named.in_words(), "gis/city as new");
    }

    #[test]
    fn a_job_keeps_it_in_its_parameters_and_an_older_one_has_components_alone() {
        let selection = resolve(&[], &["gis/city"], Some("new")).unwrap();
        let kept = serde_json::to_value(&selection).unwrap();
        assert_eq!(serde_json::from_value::<Selection>(kept).unwrap(), selection);
        let older = serde_json::json!({"components": ["gis"], "targets": []});
        let read: Selection = serde_json::from_value(older).unwrap();
        assert_eq!(read, Selection { components: vec!["gis".to_owned()], ..Selection::default() });
    }
}
