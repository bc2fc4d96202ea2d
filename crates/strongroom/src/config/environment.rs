//! Every key can come from the environment: `STRONGROOM_SERVER__LISTEN` is `listen` in `[server]`. A double underscore
//! separates levels; `STRONGROOM_COMPONENT__0__PATH` is the path of the first component of the file.

use std::ffi::OsString;

use serde::Deserialize;
use toml::{Table, Value};

use super::typed::{Mistake, Typed};
use crate::exit::Failure;

/// One variable that means a key of the configuration.
#[derive(Clone, Debug)]
pub struct Variable {
    name: String,
    path: Vec<String>,
    text: String,
}

/// Those that mean a key: named `STRONGROOM_…__…`. (`STRONGROOM_PASSCODE` and its like have no double underscore.)
pub fn variables(all: impl Iterator<Item = (OsString, OsString)>) -> Vec<Variable> {
    let mut found: Vec<Variable> = all
        .filter_map(|(name, text)| {
            let name = name.into_string().ok()?;
            let path = name.strip_prefix("STRONGROOM_").filter(|rest| rest.contains("__"))?;
            let path = path.split("__").map(str::to_lowercase).collect();
            Some(Variable { name, path, text: text.to_string_lossy().into_owned() })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// What was typed with the variables put over it, one after the other, so that a wrong one can be named; as it stands there and
/// as typed.
pub fn overlay(text: &str, typed: Typed, variables: &[Variable]) -> Result<(Table, Typed), Failure> {
    let mut table: Table = toml::from_str(text).map_err(|e| Mistake::new(&e).at("the configuration"))?;
    let mut overlaid = typed;
    for variable in variables {
        (table, overlaid) = put(&table, variable)?;
    }
    Ok((table, overlaid))
}

/// Tries the text as TOML (`true`, `10`, `["a", "b"]`) and, where that does not fit the key, as plain text.
fn put(table: &Table, variable: &Variable) -> Result<(Table, Typed), Failure> {
    let place = format!("environment variable {}", variable.name);
    let mut candidates = vec![Value::String(variable.text.clone())];
    if let Ok(mut parsed) = toml::from_str::<Table>(&format!("value = {}", variable.text))
        && let Some(value) = parsed.remove("value")
    {
        candidates.insert(0, value);
    }
    let mut mistake = None;
    for value in candidates {
        let mut changed = table.clone();
        let root = changed.entry(variable.path[0].clone()).or_insert_with(|| Value::Table(Table::new()));
        if !set(root, &variable.path[1..], value) {
            return Err(Failure::usage(format!("{place}: there is no such key to set")));
        }
        match Typed::deserialize(Value::Table(changed.clone())) {
            Ok(typed) => return Ok((changed, typed)),
            Err(e) => mistake = Some(Mistake::new(&e)),
        }
    }
    Err(match mistake {
        Some(mistake) => mistake.at(&place),
        None => Failure::usage(format!("{place}: not understood")),
    })
}

/// Goes down the path, making tables on the way; a number is a place in an array that exists.
fn set(place: &mut Value, path: &[String], value: Value) -> bool {
    let Some((key, rest)) = path.split_first() else {
        *place = value;
        return true;
    };
    match place {
        Value::Table(table) => {
            let below = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            set(below, rest, value)
        }
        Value::Array(items) => {
            let item = key.parse::<usize>().ok().and_then(|at| items.get_mut(at));
            item.is_some_and(|item| set(item, rest, value))
        }
        _ => false,
    }
}

#[cfg(test)]
impl Variable {
    /// For tests: one variable by name and text.
    pub fn for_test(name: &str, text: &str) -> Self {
        let mut found = variables(std::iter::once((name.into(), text.into())));
        found.remove(0)
    }
}
