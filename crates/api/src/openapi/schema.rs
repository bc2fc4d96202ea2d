//! The kinds of values that parameters and replies have, and their form in JSON Schema (2020-12, as OpenAPI 3.1 uses it).
//! Only what this interface needs: `tests/shapes.rs` checks replies against exactly these words.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A kind of value.
#[derive(Debug)]
pub(crate) enum Schema {
    /// A text of so many characters.
    Text {
        least: u32,
        most: Option<u32>,
    },
    /// A text that is never shown again.
    Secret {
        least: u32,
        most: u32,
    },
    /// A whole number.
    Integer {
        least: i64,
        most: i64,
    },
    /// A number with a fraction.
    Number,
    Boolean,
    /// One of these texts.
    Choice(&'static [&'static str]),
    List(&'static Schema),
    /// An object of these keys and no others.
    Object(&'static [Key]),
    /// An object of texts under any keys.
    Texts,
    /// A text that holds a JSON object.
    Json(&'static Schema),
    /// An object of which these keys count; others may be there.
    Open(&'static [Key]),
    /// One of several, which differ in their keys.
    Either(&'static [&'static Schema]),
    /// One that the document names once.
    Named(&'static str, &'static Schema),
}

/// A key of an object.
#[derive(Debug)]
pub(crate) struct Key {
    pub name: &'static str,
    pub schema: &'static Schema,
    pub optional: bool,
    pub about: &'static str,
}

/// A key that is always there.
pub(crate) const fn key(name: &'static str, schema: &'static Schema) -> Key {
    Key { name, schema, optional: false, about: "" }
}

/// A key that may be absent.
pub(crate) const fn may(name: &'static str, schema: &'static Schema) -> Key {
    Key { optional: true, ..key(name, schema) }
}

impl Key {
    /// The same with a word on what it means.
    pub const fn about(self, about: &'static str) -> Self {
        Self { about, ..self }
    }
}

/// Any text.
pub(crate) const TEXT: Schema = Schema::Text { least: 0, most: None };
/// Any whole number.
pub(crate) const INTEGER: Schema = Schema::Integer { least: i64::MIN, most: i64::MAX };
/// A count, or milliseconds since 1970.
pub(crate) const COUNT: Schema = Schema::Integer { least: 0, most: i64::MAX };
/// Milliseconds since 1970, or -1 for never.
pub(crate) const TIME_OR_NEVER: Schema = Schema::Integer { least: -1, most: i64::MAX };

/// Schemas that are named once.
pub(crate) type Names = BTreeMap<&'static str, Value>;

impl Schema {
    /// In JSON Schema; what is named goes into `names`.
    pub fn to_json(&self, names: &mut Names) -> Value {
        match self {
            Self::Text { least, most } => text(*least, *most),
            Self::Secret { least, most } => {
                let mut schema = text(*least, Some(*most));
                schema["format"] = json!("password");
                schema
            }
            Self::Integer { least, most } => {
                let mut schema = json!({"type": "integer"});
                if *least > i64::MIN {
                    schema["minimum"] = json!(least);
                }
                if *most < i64::MAX {
                    schema["maximum"] = json!(most);
                }
                schema
            }
            Self::Number => json!({"type": "number"}),
            Self::Boolean => json!({"type": "boolean"}),
            Self::Choice([only]) => json!({"const": only}),
            Self::Choice(texts) => json!({"type": "string", "enum": texts}),
            Self::List(of) => json!({"type": "array", "items": of.to_json(names)}),
            Self::Object(keys) => {
                let mut schema = object(keys, names);
                schema["additionalProperties"] = json!(false);
                schema
            }
            Self::Open(keys) => object(keys, names),
            Self::Texts => json!({"type": "object", "additionalProperties": {"type": "string"}}),
            Self::Json(of) => json!({
                "type": "string", "contentMediaType": "application/json", "contentSchema": of.to_json(names),
            }),
            Self::Either(several) => {
                json!({"oneOf": several.iter().map(|one| one.to_json(names)).collect::<Value>()})
            }
            Self::Named(name, of) => {
                if !names.contains_key(name) {
                    // Before what it holds, which may name it again.
                    names.insert(name, Value::Null);
                    let schema = of.to_json(names);
                    names.insert(name, schema);
                }
                json!({"$ref": format!("#/components/schemas/{name}")})
            }
        }
    }
}

fn text(least: u32, most: Option<u32>) -> Value {
    let mut schema = json!({"type": "string"});
    if least > 0 {
        schema["minLength"] = json!(least);
    }
    if let Some(most) = most {
        schema["maxLength"] = json!(most);
    }
    schema
}

fn object(keys: &[Key], names: &mut Names) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = key.schema.to_json(names);
        if !key.about.is_empty() {
            schema["description"] = json!(key.about);
        }
        properties.insert(key.name.to_owned(), schema);
    }
    let required: Vec<&str> = keys.iter().filter(|key| !key.optional).map(|key| key.name).collect();
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}
