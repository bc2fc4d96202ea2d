//! `docs/api-reference.md`: the description of the interface as a page for people. It is made of the same document that is
//! served, so it says what that says; the page in `docs` must be the one that is made here.

use crate::endpoints::ENDPOINTS;
use crate::openapi::DOCUMENT;
use crate::openapi::codes::CODES;
use crate::openapi::refusals::EVERYWHERE;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt::Write;

pub(super) const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/api-reference.md");

const HEAD: &str = "\
# Reference of the interface

Every operation that programs can use. This page is made from [openapi.json](openapi.json) by the test suite: change what the
program says of itself, not this page ([CONTRIBUTING.md](../CONTRIBUTING.md#test)). How to log in, what requests and replies
look like, and how to follow a job: [api.md](api.md). Where this differs from what Esri documents:
[coverage.md](coverage.md).

* Paths follow `https://HOST:PORT/CONTEXT/`, by default `https://127.0.0.1:7443/strongroom/`.
* A resource is read with GET, or POST with the same parameters in the body; an operation needs POST. Every one takes `f`,
  which programs send: `json`, or indented `pjson`. Without it, and with `html`, replies are pages for people.
* *Role*: the least one that may; `viewer`, `operator`, `administrator`, each with all that the former may. *Keys*: which of its
  operations an [API key](api.md#api-keys-all-ours) must be good for.
* Times are milliseconds since 1970. A ✓ under *required* or *always* means that it must be sent, or is always there.
";

/// So many values are those of errors, which have a table of their own.
const CODES_MANY: usize = 10;

/// The whole page.
pub(super) fn page() -> String {
    let titles = titles();
    let mut page = format!("{HEAD}\n## Contents\n");
    let tags = list(&DOCUMENT["tags"]);
    for tag in tags {
        let name = text(tag, "name");
        let _ = write!(page, "\n**[{}](#{})**", capital(name), anchor(name));
        let _ = writeln!(page, ": {}\n\n| path | |\n|---|---|", text(tag, "description"));
        for (path, _, _) in operations(name) {
            let title = &titles[path];
            let _ = writeln!(page, "| `{}` | [{title}](#{}) |", short(path), anchor(title));
        }
    }
    page.push_str("\n[Errors](#errors), [kinds of objects](#kinds-of-objects)\n");
    for tag in tags {
        let name = text(tag, "name");
        let _ = writeln!(page, "\n## {}", capital(name));
        for (path, method, operation) in operations(name) {
            let _ = writeln!(page, "\n### {}\n", titles[path]);
            write_operation(&mut page, path, method, operation);
        }
    }
    write_errors(&mut page);
    write_kinds(&mut page);
    page
}

/// The operations of a tag, in the order of the table: path, method, description.
fn operations(tag: &str) -> Vec<(&'static str, &'static str, &'static Value)> {
    let all = ENDPOINTS.iter().filter_map(|endpoint| {
        let item = &DOCUMENT["paths"][format!("/{}", endpoint.path)];
        let method = ["get", "post"].into_iter().find(|method| item.get(method).is_some())?;
        Some((endpoint.path, method, &item[method]))
    });
    all.filter(|(.., operation)| operation["tags"][0] == tag).collect()
}

/// A heading for each path, no two alike.
fn titles() -> HashMap<&'static str, String> {
    let mut titles: HashMap<&str, String> = HashMap::new();
    for tag in list(&DOCUMENT["tags"]) {
        for (path, _, operation) in operations(text(tag, "name")) {
            let mut title = capital(text(operation, "summary"));
            if list(&DOCUMENT["tags"]).iter().any(|tag| capital(text(tag, "name")) == title) {
                title = format!("List of {}", text(operation, "summary").to_lowercase());
            }
            if path.contains("backuprestore/") {
                title.push_str(" (10.9)");
            } else if titles.values().any(|other| *other == title) {
                let _ = write!(title, " at {}", path.split('/').next().unwrap_or_default());
            }
            assert!(!titles.values().any(|other| *other == title), "two operations are called {title}");
            titles.insert(path, title);
        }
    }
    titles
}

fn write_operation(page: &mut String, path: &str, method: &str, operation: &Value) {
    let methods = if method == "get" { "GET, POST" } else { "POST" };
    let _ = writeln!(page, "`{methods} {path}`\n");
    if let Some(about) = operation["description"].as_str() {
        let _ = writeln!(page, "{about}\n");
    }
    let role = operation["x-role"].as_str().map_or("none, it is open to everybody".to_owned(), |role| {
        let keys = operation["x-key-operations"].as_str();
        format!("{role}. Keys: {}", keys.map_or("none".to_owned(), |keys| format!("`{keys}`")))
    });
    let _ = write!(page, "Role: {role}.");
    if let Some(when) = operation["x-refused"].as_str() {
        let _ = write!(page, " Refused {when}.");
    }
    page.push('\n');
    write_parameters(page, path, operation);
    write_reply(page, operation);
    let own: Vec<String> = list(&operation["x-errors"])
        .iter()
        .filter_map(Value::as_str)
        .map(|name| format!("`{name}`"))
        .collect();
    if !own.is_empty() {
        let _ = writeln!(page, "\nErrors beside [those of all](#errors): {}.", own.join(", "));
    }
}

fn write_parameters(page: &mut String, path: &str, operation: &Value) {
    let mut rows = Vec::new();
    let in_path = &DOCUMENT["paths"][format!("/{path}")]["parameters"];
    for parameter in list(in_path).iter().chain(list(&operation["parameters"])) {
        if let Some(name) = parameter["name"].as_str() {
            let place = if parameter["in"] == "path" { format!("{{{name}}}") } else { name.to_owned() };
            let is_required = parameter["required"] == true;
            row(&mut rows, &place, &parameter["schema"], text(parameter, "description"), is_required);
        }
    }
    let body = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
    for (name, schema) in object(&body["properties"]) {
        let is_required = list(&body["required"]).iter().any(|one| *one == **name);
        row(&mut rows, name, schema, text(schema, "description"), is_required);
    }
    // Before those that may be left out.
    rows.sort_by_key(|(is_required, _)| !is_required);
    if !rows.is_empty() {
        page.push_str(
            "\n| parameter | type | required | default | limits | meaning |\n|---|---|---|---|---|---|\n",
        );
        for (_, row) in rows {
            page.push_str(&row);
        }
    }
}

/// The line of a parameter, and below it those of the keys of an object that it holds.
fn row(rows: &mut Vec<(bool, String)>, name: &str, schema: &Value, about: &str, is_required: bool) {
    let default = schema.get("default").map_or(String::new(), |value| match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    });
    let mark = if is_required { "✓" } else { "" };
    let mut lines = format!(
        "| `{name}` | {} | {mark} | {default} | {} | {} |\n",
        kind(schema),
        limits(schema),
        cell(about)
    );
    if let Some(content) = schema.get("contentSchema") {
        let mut keys = Vec::new();
        flatten(content, name, &mut keys);
        for (name, schema, is_required) in keys {
            let mark = if is_required { "✓" } else { "" };
            let (name, about) = (shortened(&name), cell(text(schema, "description")));
            let _ =
                writeln!(lines, "| `{name}` | {} | {mark} | | {} | {about} |", kind(schema), limits(schema));
        }
    }
    rows.push((is_required, lines));
}

fn write_reply(page: &mut String, operation: &Value) {
    let content = object(&operation["responses"]["200"]["content"]);
    for (media_type, reply) in content {
        if media_type != "application/json" {
            let _ = writeln!(page, "\nReply: `{media_type}`.");
            continue;
        }
        // The error is one of two; alone it stands beside another media type.
        let several = list(&reply["schema"]["oneOf"]);
        let schemas = several.iter().filter(|one| !is_error(one)).flat_map(|one| match one.get("oneOf") {
            Some(inner) => list(inner).iter().collect::<Vec<_>>(),
            None => vec![one],
        });
        for (place, schema) in schemas.enumerate() {
            let or = if place == 0 { "Reply" } else { "Or" };
            match reference(schema) {
                Some(name) => {
                    let _ = writeln!(page, "\n{or}: {}", link(name));
                }
                None => {
                    let _ = writeln!(page, "\n{or}:\n");
                    write_keys(page, schema);
                }
            }
        }
        if let Some(example) = reply.get("example") {
            let _ = writeln!(page, "\n```json\n{example:#}\n```");
        }
    }
}

fn write_keys(page: &mut String, schema: &Value) {
    let mut keys = Vec::new();
    flatten(schema, "", &mut keys);
    page.push_str("| key | type | always | meaning |\n|---|---|---|---|\n");
    for (name, schema, is_required) in keys {
        let mark = if is_required { "✓" } else { "" };
        let limits = limits(schema);
        let limits = if limits.is_empty() { limits } else { format!(", {limits}") };
        let about = cell(text(schema, "description"));
        let _ = writeln!(page, "| `{name}` | {}{limits} | {mark} | {about} |", kind(schema));
    }
}

/// The keys of an object, and of objects in it, as `a.b` and `a[].b`: name, kind, whether it must be there.
fn flatten<'a>(schema: &'a Value, before: &str, keys: &mut Vec<(String, &'a Value, bool)>) {
    for (name, key) in object(&schema["properties"]) {
        let is_required = list(&schema["required"]).iter().any(|one| *one == **name);
        let place = if before.is_empty() { name.clone() } else { format!("{before}.{name}") };
        keys.push((place.clone(), key, is_required));
        match key.get("items") {
            Some(items) if reference(items).is_none() => flatten(items, &format!("{place}[]"), keys),
            _ => flatten(key, &place, keys),
        }
    }
}

fn write_errors(page: &mut String) {
    page.push_str(
        "\n## Errors\n\nThe HTTP status is 200 with an error too; [api.md](api.md#replies) says how to read one. Those marked \
         with ✓ can be the answer to any request.\n\n| code | messageCode | everywhere | meaning |\n|---|---|---|---|\n",
    );
    for (name, code, about) in CODES {
        let mark = if EVERYWHERE.contains(name) { "✓" } else { "" };
        let _ = writeln!(page, "| {code} | `{name}` | {mark} | {} |", cell(about));
    }
}

fn write_kinds(page: &mut String) {
    page.push_str("\n## Kinds of objects\n");
    for (name, schema) in object(&DOCUMENT["components"]["schemas"]) {
        let _ = writeln!(page, "\n### Object {name}\n");
        write_keys(page, schema);
    }
}

/// What kind of value it is, in words.
fn kind(schema: &Value) -> String {
    if let Some(name) = reference(schema) {
        return link(name);
    }
    if let Some(only) =
        schema.get("const").or_else(|| schema["enum"].get(0).filter(|_| list(&schema["enum"]).len() == 1))
    {
        return format!("`{}`", only.as_str().unwrap_or_default());
    }
    if schema.get("contentSchema").is_some() {
        return "JSON object".to_owned();
    }
    match schema["type"].as_str() {
        Some("string") if schema["format"] == "password" => "secret".to_owned(),
        Some("string") => "text".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") if schema["additionalProperties"]["type"] == "string" => "object of texts".to_owned(),
        Some(other) => other.to_owned(),
        None => "one of several".to_owned(),
    }
}

/// Within which limits.
fn limits(schema: &Value) -> String {
    let of = list(&schema["enum"]);
    if of.len() > CODES_MANY {
        return "[one of these](#errors)".to_owned();
    }
    if of.len() > 1 {
        let texts: Vec<String> = of
            .iter()
            .map(|one| format!("`{}`", one.as_str().map_or(one.to_string(), str::to_owned)))
            .collect();
        return texts.join(", ");
    }
    let number = |name: &str| schema[name].as_i64();
    match (number("minLength"), number("maxLength"), number("minimum"), number("maximum")) {
        (Some(least), Some(most), ..) => format!("{least} to {most} characters"),
        (Some(least), None, ..) => format!("at least {least} characters"),
        (None, Some(most), ..) => format!("at most {most} characters"),
        (.., Some(least), Some(most)) => format!("{least} to {most}"),
        (.., Some(least), None) => format!("from {least}"),
        (.., None, Some(most)) => format!("to {most}"),
        _ => String::new(),
    }
}

fn is_error(schema: &Value) -> bool {
    reference(schema) == Some("Error")
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.rsplit('/').next()
}

fn link(name: &str) -> String {
    format!("[{name}](#object-{})", name.to_lowercase())
}

/// As GitHub makes it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().replace(' ', "-")
}

/// Of a key that lies deep the end.
fn shortened(name: &str) -> String {
    let segments: Vec<&str> = name.split('.').collect();
    match segments.as_slice() {
        [.., above, last] if segments.len() > 3 => format!("….{above}.{last}"),
        _ => name.to_owned(),
    }
}

fn short(path: &str) -> String {
    match path.strip_prefix("admin/system/disasterrecovery/") {
        Some(rest) => format!("…/{rest}"),
        None => path.to_owned(),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// Text in a table. Several lines are the meanings of errors, which have a table of their own.
fn cell(text: &str) -> String {
    if text.contains('\n') {
        return String::new();
    }
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn object(value: &Value) -> &Map<String, Value> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

#[test]
fn the_reference_in_docs_tells_what_the_description_tells() {
    let made = page();
    if std::env::var_os(super::description::WRITE).is_some() {
        std::fs::write(KEPT, &made).expect("docs/api-reference.md");
    }
    let kept = std::fs::read_to_string(KEPT).expect("docs/api-reference.md");
    let write = super::description::WRITE;
    assert!(kept == made, "docs/api-reference.md is not current: run this test with {write}=1");
}

#[test]
fn every_operation_says_what_it_is_for_and_every_parameter_what_it_means() {
    for tag in list(&DOCUMENT["tags"]) {
        assert!(!operations(text(tag, "name")).is_empty(), "nothing belongs to {tag}");
        for (path, _, operation) in operations(text(tag, "name")) {
            assert!(!text(operation, "description").is_empty(), "{path} does not say what it is for");
            for parameter in list(&operation["parameters"]).iter().filter(|one| one.get("name").is_some()) {
                assert!(!text(parameter, "description").is_empty(), "{path}: {parameter}");
            }
            let body = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
            for (name, schema) in object(&body["properties"]) {
                assert!(!text(schema, "description").is_empty(), "{path}: {name}");
            }
        }
    }
}

#[test]
fn every_error_is_one_that_all_or_some_operations_can_answer() {
    let own: Vec<&str> = DOCUMENT["paths"]
        .as_object()
        .expect("paths")
        .values()
        .flat_map(|item| item.as_object().expect("item").values())
        .flat_map(|operation| list(&operation["x-errors"]))
        .filter_map(Value::as_str)
        .collect();
    for (name, ..) in CODES {
        assert!(
            own.contains(name) != EVERYWHERE.contains(name),
            "{name} is nobody's, or both its own and all's"
        );
    }
    for name in own.iter().chain(EVERYWHERE) {
        assert!(CODES.iter().any(|(known, ..)| known == name), "{name} is no error");
    }
}

#[test]
fn every_example_is_a_reply_as_described() {
    let mut seen = 0;
    for (path, item) in object(&DOCUMENT["paths"]) {
        for operation in item.as_object().expect("item").values() {
            let reply = &operation["responses"]["200"]["content"]["application/json"];
            if let Some(example) = reply.get("example") {
                assert_eq!(super::shapes::fits(&reply["schema"], example), Ok(()), "{path}: {example}");
                seen += 1;
            }
        }
    }
    assert!(seen > 20, "{seen}");
}
