//! The description of this interface for programs, in OpenAPI 3.1: made of the same table that serves
//! ([`ENDPOINTS`](crate::endpoints::ENDPOINTS)), the fields of its operations ([`forms`](crate::pages::forms)), the
//! [`replies`], the [`refusals`] and what is said [`about`] the rest. The test suite checks every reply that it gets against
//! it; `docs/openapi.json` is a copy of it, `docs/api-reference.md` the same for people.
//!
//! Of ours are, at an operation, `x-role` (the least role), `x-key-operations` (what a key must be good for; absent: no key
//! is), `x-errors` (the names of its own errors; those of all stand at the top) and `x-refused` (when it is refused, whoever asks).
//!
//! Pages for people are left out. A resource also takes POST, with the same parameters in its body.

mod about;
pub(crate) mod codes;
pub(crate) mod refusals;
pub(crate) mod replies;
pub(crate) mod schema;

use crate::endpoints::{self, ENDPOINTS, Endpoint, Gives, Kind, Refused};
use crate::error::role_name;
use crate::pages::forms::Field;
use schema::Names;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const TITLE: &str = "Strongroom Administrator API";
const ABOUT: &str = "Backup and restore of a deployment. The HTTP status is 200 for errors too: look for the key \
                     `error`, and decide by its `messageCode`. Without `f`, and with `f=html`, replies are pages for \
                     people, which are not described here. A body may \
                     also be `multipart/form-data`, or a flat JSON object of the same parameters.";

const EVENTS: &str = "`event: job` with the job in JSON, and `state`, `stages`, `doing` beside it, at each change; \
                      `event: end` with `{}` at last.";

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
        "tags": TAGS.iter().map(|(name, about)| json!({"name": name, "description": about})).collect::<Value>(),
        "paths": paths,
        "x-errors": refusals::EVERYWHERE,
        "components": {
            "parameters": {"f": {
                "name": "f", "in": "query", "required": true, "schema": {"type": "string", "enum": ["json", "pjson"]},
                "description": "The format of the reply; pjson is indented. Without it replies are pages for people.",
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
    let about = match name {
        "store" | "backup" | "user" | "key" => "Its name; case counts.",
        _ => "Its id.",
    };
    json!({"name": name, "in": "path", "required": true, "schema": schema, "description": about})
}

fn operation(endpoint: &Endpoint, names: &mut Names) -> Option<Value> {
    let error = json!({"$ref": "#/components/schemas/Error"});
    let mut content = match endpoint.gives {
        Gives::Page => return None,
        Gives::Json(schema) => {
            json!({"application/json": {"schema": {"oneOf": [schema.to_json(names), error]}}})
        }
        Gives::Document => json!({"application/json": {"schema": {"type": "object"}}}),
        Gives::Text(media_type) => json!({
            media_type: {"schema": {"type": "string"}}, "application/json": {"schema": error},
        }),
        // Some tools hold it against the whole text, others against each event: it binds neither.
        Gives::Events => json!({
            "text/event-stream": {"schema": {"description": EVENTS}}, "application/json": {"schema": error},
        }),
    };
    if let Some(example) = about::example(endpoint.path) {
        content["application/json"]["example"] =
            serde_json::from_str(example).unwrap_or_else(|error| json!(error.to_string()));
    }
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
        Some(role) => {
            operation["x-role"] = json!(role_name(role));
            if let Some(group) = endpoint.group {
                operation["x-key-operations"] = json!(group.name());
            }
        }
    }
    let own = refusals::of(endpoint);
    if !own.is_empty() {
        operation["x-errors"] = json!(own);
    }
    if let Some(when) = refused(endpoint) {
        operation["x-refused"] = json!(when);
    }
    if let Some(words) = about::words(endpoint.path) {
        operation["description"] = json!(words);
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

/// When it is refused, whoever asks.
fn refused(endpoint: &Endpoint) -> Option<&'static str> {
    match endpoint.refused {
        // The domain refuses this one.
        _ if endpoint.last() == "restore" => Some("in read-only mode"),
        Refused::Never => None,
        Refused::WhileRestoring => Some("while a restore runs"),
        Refused::WhileReadOnly => Some("while a restore runs, and in read-only mode"),
    }
}

/// What there is, in the order in which people read it.
static TAGS: &[(&str, &str)] = &[
    (LOG_IN, "Tokens, the OAuth 2 log-in, and what known clients ask for before they go on."),
    (DISASTER_RECOVERY, "Settings, and what became of the last backup or restore."),
    (STORES, "Where backups lie."),
    (BACKUPS, "Making, looking at, proving, restoring and deleting backups."),
    (OLD_LAYOUT, "The same backups at the URLs of 10.9, where a backup is found by its name alone."),
    (JOBS, "What takes long is a job: followed here, and cancelled."),
    (SCHEDULES, "What the server does by itself, and the record of each run."),
    (SERVER, "The deployment itself: what is protected, mode, figures, notifications, the audit log."),
    (USERS, "People. No key reaches these."),
    (KEYS, "Keys for programs. No key reaches these."),
];
const LOG_IN: &str = "log-in";
const DISASTER_RECOVERY: &str = "settings and status";
const STORES: &str = "stores";
const BACKUPS: &str = "backups";
const OLD_LAYOUT: &str = "layout of 10.9";
const JOBS: &str = "jobs";
const SCHEDULES: &str = "schedules";
const SERVER: &str = "server";
const USERS: &str = "users";
const KEYS: &str = "keys";

/// By what it is about.
fn tag(endpoint: &Endpoint) -> &'static str {
    let segments: Vec<&str> = endpoint.pattern().collect();
    match segments.as_slice() {
        ["sharing", ..] | [_, "generateToken"] => LOG_IN,
        [_, "password" | "users", ..] => USERS,
        [_, "keys", ..] => KEYS,
        [_, "jobs", ..] => JOBS,
        [_, "system", "tasks", ..] => SCHEDULES,
        [_, "system", "disasterrecovery", "backuprestore", ..] => OLD_LAYOUT,
        [_, "system", "disasterrecovery", "stores", _, "backups", ..] => BACKUPS,
        [_, "system", "disasterrecovery", "stores", ..] => STORES,
        [_, "system", "disasterrecovery", ..] => DISASTER_RECOVERY,
        _ => SERVER,
    }
}

fn in_query(field: &Field, names: &mut Names) -> Value {
    let mut parameter = json!({"name": field.name, "in": "query", "schema": kind(field, names)});
    if !field.hint.is_empty() {
        parameter["description"] = json!(field.hint);
    }
    if field.required {
        parameter["required"] = json!(true);
    }
    parameter
}

/// What is taken, and what counts where nothing is sent.
fn kind(field: &Field, names: &mut Names) -> Value {
    let mut schema = field.takes.to_json(names);
    if !field.absent.is_empty() {
        schema["default"] = serde_json::from_str(field.absent).unwrap_or_else(|_| json!(field.absent));
    }
    schema
}

fn body(fields: &[&Field], names: &mut Names) -> Value {
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for field in fields {
        let mut schema = kind(field, names);
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
