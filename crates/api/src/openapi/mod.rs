//! The description of this interface for programs, in OpenAPI 3.1: made of the same table that serves
//! ([`ENDPOINTS`](crate::endpoints::ENDPOINTS)), the fields of its operations ([`forms`](crate::pages::forms)), and the
//! [`replies`]. The test suite checks every reply that it gets against it; `docs/openapi.json` is a copy of it.
//!
//! Pages for people are left out. A resource also takes POST, with the same parameters in its body.

mod codes;
pub(crate) mod replies;
pub(crate) mod schema;

use crate::endpoints::{self, ENDPOINTS, Endpoint, Gives, Kind};
use crate::error::role_name;
use crate::pages::forms::Field;
use schema::Names;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const TITLE: &str = "Strongroom Administrator API";
const ABOUT: &str = "Backup and restore of a deployment. The HTTP status is 200 for errors too: look for the key \
                     `error`, and decide by its `messageCode`. Without `f` replies are pages for people. A body may \
                     also be `multipart/form-data`, or a flat JSON object of the same parameters.";

/// The document. Its server is where it was read from, one level up.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

fn document() -> Value {
    let (mut names, mut paths) = (Names::new(), Map::new());
    names.insert("Error", error_schema());
    // Some handlers are there in tests alone.
    for endpoint in ENDPOINTS.iter().filter(|endpoint| endpoint.last() != "failing") {
        if let Some(operation) = operation(endpoint, &mut names) {
            let method = if matches!(endpoint.kind, Kind::Resource | Kind::Page) { "get" } else { "post" };
            let mut item = json!({method: operation});
            let parameters: Vec<Value> =
                endpoint.pattern().filter_map(endpoints::placeholder).map(in_path).collect();
            if !parameters.is_empty() {
                item["parameters"] = json!(parameters);
            }
            paths.insert(format!("/{}", endpoint.path), item);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": TITLE, "version": env!("CARGO_PKG_VERSION"), "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "..", "description": "The context of this server."}],
        "security": [{"bearer": []}, {"header": []}, {"parameter": []}],
        "paths": paths,
        "components": {
            "parameters": {"f": {
                "name": "f", "in": "query", "schema": {"type": "string", "enum": ["json", "pjson", "html"]},
                "description": "The format of the reply; programs send json.",
            }},
            "schemas": names,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "header": {
                    "type": "apiKey", "in": "header", "name": "X-Esri-Authorization", "description": "Bearer TOKEN",
                },
                "parameter": {"type": "apiKey", "in": "query", "name": "token"},
            },
        },
    })
}

fn error_schema() -> Value {
    let meaning: Vec<String> =
        codes::CODES.iter().map(|(name, code, about)| format!("{name} ({code}): {about}")).collect();
    let names: Vec<&str> = codes::CODES.iter().map(|(name, ..)| *name).collect();
    let mut classes: Vec<u16> = codes::CODES.iter().map(|(_, code, _)| *code).collect();
    classes.sort_unstable();
    classes.dedup();
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "properties": {"error": {
            "type": "object",
            "properties": {
                "code": {"type": "integer", "enum": classes},
                "messageCode": {"type": "string", "enum": names, "description": meaning.join("\n")},
                "message": {"type": "string", "description": "For people: what, on what, why, what to do."},
                "details": {"type": "array", "items": text},
                "error": {"type": "string", "description": "What OAuth calls it."},
                "error_description": text,
            },
            "required": ["code", "messageCode", "message", "details"],
            "additionalProperties": false,
        }},
        "required": ["error"],
        "additionalProperties": false,
    })
}

fn in_path(name: &str) -> Value {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 100});
    json!({"name": name, "in": "path", "required": true, "schema": schema})
}

fn operation(endpoint: &Endpoint, names: &mut Names) -> Option<Value> {
    let error = json!({"$ref": "#/components/schemas/Error"});
    let content = match endpoint.gives {
        Gives::Page => return None,
        Gives::Json(schema) => {
            json!({"application/json": {"schema": {"oneOf": [schema.to_json(names), error]}}})
        }
        Gives::Document => json!({"application/json": {"schema": {"type": "object"}}}),
        Gives::Text(media_type) => json!({
            media_type: {"schema": {"type": "string"}}, "application/json": {"schema": error},
        }),
    };
    let mut operation = json!({
        "operationId": endpoint.path.replace('/', ".").replace(['{', '}'], ""),
        "summary": endpoint.title,
        "tags": [tag(endpoint)],
        "responses": {"200": {"description": "The reply, or an error.", "content": content}},
    });
    let query = if matches!(endpoint.kind, Kind::Program) { &[] } else { endpoint.asks };
    let mut asked: Vec<Value> = query.iter().map(|field| in_query(field, names)).collect();
    if !matches!(endpoint.gives, Gives::Document) {
        asked.push(json!({"$ref": "#/components/parameters/f"}));
    }
    if !asked.is_empty() {
        operation["parameters"] = json!(asked);
    }
    match endpoint.role {
        None => operation["security"] = json!([]),
        Some(role) => operation["x-role"] = json!(role_name(role)),
    }
    if let Some(form) = endpoint.kind.form() {
        operation["description"] = json!(form.intro);
        operation["requestBody"] = body(&form.parameters().collect::<Vec<_>>(), names);
    }
    if matches!(endpoint.kind, Kind::Program) {
        operation["requestBody"] = body(&endpoint.asks.iter().collect::<Vec<_>>(), names);
    }
    Some(operation)
}

/// By what it is about.
fn tag(endpoint: &Endpoint) -> &'static str {
    let mut segments = endpoint.pattern();
    match (segments.next(), segments.next(), segments.next()) {
        (Some("sharing"), ..) => "log-in",
        (_, Some("generateToken" | "password" | "users" | "keys"), _) => "users",
        (_, Some("jobs"), _) => "jobs",
        (_, Some("system"), Some("tasks")) => "schedules",
        (_, Some("system"), Some("disasterrecovery")) => "disaster recovery",
        _ => "server",
    }
}

fn in_query(field: &Field, names: &mut Names) -> Value {
    let mut parameter = json!({"name": field.name, "in": "query", "schema": field.takes.to_json(names)});
    if !field.hint.is_empty() {
        parameter["description"] = json!(field.hint);
    }
    if field.required {
        parameter["required"] = json!(true);
    }
    parameter
}

fn body(fields: &[&Field], names: &mut Names) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in fields {
        let mut schema = field.takes.to_json(names);
        if !field.hint.is_empty() {
            schema["description"] = json!(field.hint);
        }
        properties.insert(field.name.to_owned(), schema);
        if field.required {
            required.push(field.name);
        }
    }
    let mut schema = json!({"type": "object", "properties": properties});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    json!({
        "required": !required.is_empty(),
        "content": {"application/x-www-form-urlencoded": {"schema": schema}},
    })
}
