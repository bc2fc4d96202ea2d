//! Replies against the description of the interface: every JSON reply that any test of this crate gets must be of the
//! kind that the document promises for its path, and every error one that it names there. The words of JSON Schema that the document uses are understood, and
//! any other one is an error here.

use crate::openapi::DOCUMENT;
use crate::openapi::refusals::EVERYWHERE;
use hyper::{HeaderMap, Method};
use serde_json::{Map, Value};

/// Panics if this reply of this path is none that the document promises.
pub(super) fn check(method: &Method, path: &str, headers: &HeaderMap, text: &str) {
    let is_json = headers.get("content-type").is_some_and(|kind| kind == "application/json");
    if !is_json || text.is_empty() {
        return;
    }
    let value: Value = serde_json::from_str(text).expect("a reply of type JSON is JSON");
    let path = path.split('?').next().unwrap_or_default();
    let Some(schema) = promised(path) else {
        // Outside of the table: health pages, and errors everywhere.
        if !path.starts_with("/health/") {
            assert_eq!(fits(error(), &value), Ok(()), "{method} {path}: {text}");
        }
        return;
    };
    let outcome = fits(schema, &value);
    assert_eq!(outcome, Ok(()), "the reply to {method} {path} is not as described: {text}");
    if let Some(name) = value["error"]["messageCode"].as_str() {
        assert!(
            is_told(path, name),
            "{method} {path} can answer {name}, and openapi/refusals.rs does not say so"
        );
    }
}

/// Whether the document says that this path can answer with this error.
fn is_told(path: &str, name: &str) -> bool {
    let own = operation(path).map(|operation| &operation["x-errors"]);
    let is_own = own.and_then(Value::as_array).is_some_and(|own| own.iter().any(|one| one == name));
    is_own || EVERYWHERE.contains(&name)
}

fn error() -> &'static Value {
    &DOCUMENT["components"]["schemas"]["Error"]
}

/// What the document says of the path.
fn operation(path: &str) -> Option<&'static Value> {
    let mut segments = crate::path::segments(path)?;
    if segments.first().is_some_and(|first| first == "strongroom") {
        segments.remove(0);
    }
    let (endpoint, _) = crate::endpoints::find(&segments)?;
    let item = &DOCUMENT["paths"][format!("/{}", endpoint.path)];
    item.get("get").or(item.get("post"))
}

/// What the document says of the path's JSON replies.
fn promised(path: &str) -> Option<&'static Value> {
    let content = &operation(path)?["responses"]["200"]["content"];
    content.get("application/json").map(|content| &content["schema"])
}

/// Whether a value is of a kind, or where it is not.
pub(super) fn fits(schema: &Value, value: &Value) -> Result<(), String> {
    let mut at = Vec::new();
    fits_at(schema, value, &mut at).map_err(|why| format!("at /{}: {why}", at.join("/")))
}

fn fits_at(schema: &Value, value: &Value, at: &mut Vec<String>) -> Result<(), String> {
    let words = schema.as_object().ok_or("a schema is an object")?;
    for (word, wanted) in words {
        let holds = match word.as_str() {
            "$ref" => {
                let name = wanted.as_str().and_then(|place| place.strip_prefix("#/components/schemas/"));
                let schema = name.map(|name| &DOCUMENT["components"]["schemas"][name]);
                fits_at(schema.ok_or("a reference to nothing")?, value, at)?;
                true
            }
            "oneOf" => {
                let several = wanted.as_array().ok_or("oneOf is a list")?;
                let outcomes: Vec<_> = several.iter().map(|one| fits(one, value)).collect();
                if outcomes.iter().filter(|outcome| outcome.is_ok()).count() != 1 {
                    return Err(format!("not exactly one of these: {outcomes:?}"));
                }
                true
            }
            "type" => is_of(wanted.as_str().unwrap_or_default(), value),
            "const" => value == wanted,
            "enum" => wanted.as_array().is_some_and(|list| list.contains(value)),
            "minimum" => value.as_i64() >= wanted.as_i64(),
            "maximum" => value.as_i64() <= wanted.as_i64(),
            "minLength" => length(value) >= wanted.as_u64(),
            "maxLength" => length(value) <= wanted.as_u64(),
            "items" => {
                for (place, item) in value.as_array().into_iter().flatten().enumerate() {
                    inside(wanted, item, &place.to_string(), at)?;
                }
                true
            }
            "properties" => {
                let (wanted, found) = (object(wanted)?, object(value)?);
                for (name, schema) in wanted {
                    if let Some(found) = found.get(name) {
                        inside(schema, found, name, at)?;
                    }
                }
                true
            }
            "required" => {
                let names = wanted.as_array().into_iter().flatten().filter_map(Value::as_str);
                if let Some(name) = names.into_iter().find(|name| value.get(name).is_none()) {
                    return Err(format!("'{name}' is missing"));
                }
                true
            }
            "additionalProperties" => {
                let known = words.get("properties").and_then(Value::as_object);
                let others = object(value)?
                    .iter()
                    .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
                for (name, other) in others {
                    match wanted {
                        Value::Bool(false) => return Err(format!("'{name}' is not described")),
                        schema => inside(schema, other, name, at)?,
                    }
                }
                true
            }
            "description" | "format" => true,
            other => return Err(format!("this test does not know the word '{other}'")),
        };
        if !holds {
            return Err(format!("{word} is to be {wanted}, and there is {value}"));
        }
    }
    Ok(())
}

fn inside(schema: &Value, value: &Value, name: &str, at: &mut Vec<String>) -> Result<(), String> {
    at.push(name.to_owned());
    fits_at(schema, value, at)?;
    at.pop();
    Ok(())
}

fn object(value: &Value) -> Result<&Map<String, Value>, String> {
    value.as_object().ok_or_else(|| format!("no object: {value}"))
}

fn length(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

fn is_of(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    }
}

#[test]
fn what_is_not_as_described_is_found() {
    let of = |schema: &str, value: &str| {
        fits(&serde_json::from_str(schema).expect("schema"), &serde_json::from_str(value).expect("value"))
    };
    let closed = r#"{"type":"object","properties":{"a":{"type":"integer","minimum":0},"b":{"type":"array","items":{"enum":["x"]}}},
        "required":["a"],"additionalProperties":false}"#;
    assert_eq!(of(closed, r#"{"a":1,"b":["x","x"]}"#), Ok(()));
    for (value, why) in [
        ("{}", "'a' is missing"),
        (r#"{"a":-1}"#, "at /a"),
        (r#"{"a":1.5}"#, "at /a"),
        (r#"{"a":1,"b":["x","y"]}"#, "at /b/1"),
        (r#"{"a":1,"c":2}"#, "'c' is not described"),
        ("[]", "object"),
    ] {
        let error = of(closed, value).expect_err(value);
        assert!(error.contains(why), "{value}: {error}");
    }
    assert!(of(r#"{"oneOf":[{"type":"string"},{"const":"x"}]}"#, r#""x""#).is_err(), "both fit");
    assert!(of(r#"{"oneOf":[{"type":"string"},{"const":"x"}]}"#, r#""y""#).is_ok());
    assert!(of(r#"{"pattern":"x"}"#, r#""x""#).is_err(), "a word that is not understood");
    assert!(fits(error(), &serde_json::json!({"error": {"code": 400}})).is_err());
}
