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
    /// Components that are restored into another one of the same kind, each `NAME=COMPONENT`; those of these names stay as they are.
    pub target: Vec<String>,
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
    /// Into which configured component one of the backup is restored; all that are not here: into that of their own name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub redirected: BTreeMap<String, String>,
}

impl Selection {
    /// What the words of a request mean for a backup that holds these components.
    pub(crate) fn resolve(wanted: &Wanted, held: &[(Kind, &str)]) -> Result<Self> {
        let Wanted { components, only, into, at, target } = wanted;
        let invalid = |message: String| Err(Error::new(ErrorKind::ParameterInvalid, message));
        let mut selection = Self { components: components.clone(), at: *at, ..Self::default() };
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
        selection.redirect(target, held)?;
        if components.is_empty() && only.is_empty() {
            selection.components = selection.redirected.keys().cloned().collect();
        } else if components.is_empty() {
            selection.components = selection.portions.keys().cloned().collect();
        }
        if let Some(name) = selection.redirected.keys().find(|name| {
            let kind = held.iter().find(|(_, held)| held == name).map(|(kind, _)| *kind);
            kind.is_none_or(|kind| !selection.includes(kind, name))
        }) {
            return invalid(format!(
                "target: '{name}' is not among what is to be restored; leave it out, or name it in components or only"
            ));
        }
        let Some(into) = into else { return Ok(selection) };
        let chosen = held.iter().filter(|(kind, name)| selection.includes(*kind, name)).count();
        match selection.portions.values_mut().next() {
            Some(portion) if chosen == 1 => portion.into = Some(into.clone()),
            _ => return invalid("into: it needs only, of one component and nothing beside it".to_owned()),
        }
        Ok(selection)
    }

    /// Takes in words of the form `NAME=COMPONENT`.
    fn redirect(&mut self, words: &[String], held: &[(Kind, &str)]) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorKind::ParameterInvalid, message));
        for word in words {
            // A name may hold an equals sign.
            let names = held
                .iter()
                .filter_map(|(_, name)| Some((*name, word.trim().strip_prefix(name)?.strip_prefix('=')?)));
            let Some((name, into)) =
                names.max_by_key(|(name, _)| name.len()).filter(|(_, into)| !into.is_empty())
            else {
                let names: Vec<&str> = held.iter().map(|(_, name)| *name).collect();
                return invalid(format!(
                    "target: '{}' must be NAME=COMPONENT, a component of the backup and a configured one that takes its content; the \
                     backup holds the components {}",
                    word.escape_debug(),
                    names.join(", ")
                ));
            };
            if self.redirected.insert(name.to_owned(), into.to_owned()).is_some() {
                return invalid(format!(
                    "target: '{name}' is named twice; a restore puts it into one component"
                ));
            }
        }
        Ok(())
    }

    /// The configured component that takes a component of the backup.
    pub fn target<'s>(&'s self, name: &'s str) -> &'s str {
        self.redirected.get(name).map_or(name, String::as_str)
    }

    /// What of the backup is restored into a configured component: the name that it has there.
    pub fn source<'s>(&'s self, kind: Kind, component: &'s str) -> Option<&'s str> {
        let from_another = self.redirected.iter().find(|(_, into)| *into == component);
        let name = match from_another {
            Some((name, _)) => name.as_str(),
            None => Some(component).filter(|name| !self.redirected.contains_key(*name))?,
        };
        self.includes(kind, name).then_some(name)
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

    /// In words: "gis/city as city_old, gis into standby, as of 2026-05-04T11:59:30Z"; nothing where whole components are restored.
    pub fn in_words(&self) -> String {
        let words = self.portions.iter().flat_map(|(name, portion)| {
            let into = portion.into.as_ref().map(|into| format!(" as {into}")).unwrap_or_default();
            portion.paths.iter().map(move |path| format!("{name}/{path}{into}"))
        });
        let at = self.at.map(|at| format!("as of {}", clock::exact(at)));
        let redirected = self.redirected.iter().map(|(name, into)| format!("{name} into {into}"));
        words.chain(redirected).chain(at).collect::<Vec<_>>().join(", ")
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
        let wanted = Wanted { components: owned(components), only: owned(only), into, ..Wanted::default() };
        Selection::resolve(&wanted, &HELD)
    }

    fn redirect(components: &[&str], only: &[&str], target: &[&str]) -> Result<Selection> {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let wanted = Wanted {
            components: owned(components),
            only: owned(only),
            target: owned(target),
            ..Wanted::default()
        };
        Selection::resolve(&wanted, &HELD)
    }

    #[test]
    fn what_goes_into_another_component_leaves_the_one_of_its_name_alone() {
        let selection = redirect(&[], &[], &["gis=standby"]).unwrap();
        assert_eq!(selection.components, ["gis"]);
        assert_eq!((selection.target("gis"), selection.target("a")), ("standby", "a"));
        assert_eq!(selection.source(Kind::RelationalStore, "standby"), Some("gis"));
        assert_eq!(selection.source(Kind::RelationalStore, "gis"), None);
        assert_eq!(selection.source(Kind::FileStore, "a"), None, "nothing else is restored");
        assert_eq!(selection.in_words(), "gis into standby");
        let kept = serde_json::to_value(&selection).unwrap();
        assert_eq!(serde_json::from_value::<Selection>(kept).unwrap(), selection);

        // The two change places; all else of the kind comes beside them.
        let both = redirect(&["filestore"], &[], &["a=a/b", "a/b=a"]).unwrap();
        assert_eq!(both.source(Kind::FileStore, "a"), Some("a/b"));
        assert_eq!(both.source(Kind::FileStore, "a/b"), Some("a"));
        let part = redirect(&[], &["gis/city"], &["gis=other"]).unwrap();
        assert_eq!(part.portion("gis").paths, ["city"]);
        assert_eq!(part.source(Kind::RelationalStore, "other"), Some("gis"));

        let refused = |components: &[&str], target: &[&str]| {
            let error = redirect(components, &[], target).unwrap_err();
            assert_eq!(error.kind, ErrorKind::ParameterInvalid);
            error.message
        };
        assert!(refused(&[], &["nobody=a"]).contains("the components gis, a, a/b"));
        assert!(refused(&[], &["gis"]).contains("NAME=COMPONENT"));
        assert!(refused(&[], &["gis="]).contains("NAME=COMPONENT"));
        assert!(refused(&[], &["gis=b", "gis=c"]).contains("named twice"));
        assert!(refused(&["a"], &["gis=b"]).contains("is not among what is to be restored"));
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
