//! A JSON value as nested tables, its times and sizes in words beside the numbers.

use super::words;
use askama::Template;
use serde_json::Value;

/// Larger numbers are times, in milliseconds.
const TIME_MIN: i64 = 100_000_000_000;
/// Deeper values are shown as their JSON text.
const DEPTH_MAX: usize = 12;
/// More entries of a list are counted: a page stays light.
const ITEMS_MAX: usize = 100;

/// One value: a table, a list, or a text that may be a link. The template escapes every text.
#[derive(Debug, Default, Template)]
#[template(path = "cell.html")]
pub(super) struct Cell {
    text: String,
    link: Option<String>,
    rows: Vec<(String, Cell)>,
    items: Vec<Cell>,
}

/// Where a text leads: its key, itself, and the object that it stands in.
type Links<'a> = &'a dyn Fn(&str, &str, Option<&Value>) -> Option<String>;

impl Cell {
    /// The view of a value.
    pub fn of(value: &Value, links: Links<'_>) -> Self {
        Self::build("", value, None, links, 0)
    }

    fn build(key: &str, value: &Value, around: Option<&Value>, links: Links<'_>, depth: usize) -> Self {
        match value {
            Value::Object(object) if depth < DEPTH_MAX && !object.is_empty() => {
                let row = |(key, inner): (&String, &Value)| {
                    (key.clone(), Self::build(key, inner, Some(value), links, depth + 1))
                };
                Self { rows: object.iter().map(row).collect(), ..Self::default() }
            }
            Value::Array(list) if depth < DEPTH_MAX && !list.is_empty() => {
                let item = |inner| Self::build(key, inner, around, links, depth + 1);
                let mut items: Vec<Self> = list.iter().take(ITEMS_MAX).map(item).collect();
                if list.len() > ITEMS_MAX {
                    items.push(Self::plain(&format!("and {} more", list.len() - ITEMS_MAX)));
                }
                Self { items, ..Self::default() }
            }
            Value::Object(object) if object.is_empty() => Self::plain("none"),
            // Of an API key.
            Value::Array(list) if list.is_empty() && key == "stores" => Self::plain("all"),
            Value::Array(list) if list.is_empty() => Self::plain("none"),
            Value::String(text) => {
                Self { text: text.clone(), link: links(key, text, around), ..Self::default() }
            }
            Value::Number(number) => {
                Self::plain(&in_words(key, number.as_i64()).unwrap_or(number.to_string()))
            }
            Value::Bool(yes) => Self::plain(if *yes { "yes" } else { "no" }),
            other => Self::plain(&other.to_string()),
        }
    }

    /// The same with titles for keys, in the order of these. What has none stays as it is, at the end.
    pub fn titled(mut self, titles: &[(&str, &str)]) -> Self {
        let place = |key: &str| titles.iter().position(|(known, _)| *known == key).unwrap_or(titles.len());
        self.rows.sort_by_key(|(key, _)| place(key));
        let titled = |(key, cell): (String, Self)| {
            // What people or clients called so themselves.
            let cell = if matches!(key.as_str(), "labels" | "metaData") { cell } else { cell.titled(titles) };
            (titles.get(place(&key)).map_or(key, |(_, title)| (*title).to_owned()), cell)
        };
        self.rows = self.rows.into_iter().map(titled).collect();
        self.items = self.items.into_iter().map(|item| item.titled(titles)).collect();
        self
    }

    fn plain(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }
}

/// How the keys of times end.
const TIMES: [&str; 11] = [
    "time",
    "recoverypoint",
    "date",
    "expires",
    "updated",
    "validated",
    "created",
    "modified",
    "scheduledfor",
    "laststart",
    "nextrun",
];

/// A number whose key says that it is a time or a size.
fn in_words(key: &str, number: Option<i64>) -> Option<String> {
    let (lower, number) = (key.to_lowercase(), number?);
    if lower.starts_with("bytes") || lower.ends_with("bytes") {
        return Some(format!("{} ({number} bytes)", size(u64::try_from(number).ok()?)));
    }
    match (key, number) {
        ("timeoutInSeconds", 0) | ("maxOccurrences", -1) => return Some(format!("no limit ({number})")),
        ("timeoutInSeconds", 1..=9_999_999) => {
            return Some(format!("{} ({number} seconds)", words::length(number * 1000)));
        }
        ("retentionOffset", -1) => return Some("until somebody deletes it (-1)".to_owned()),
        ("recoveryTime" | "milliseconds", 0..) => return Some(duration(number.unsigned_abs())),
        ("recoveryTime", _) => return Some("not measured (-1)".to_owned()),
        ("retentionOffset", 0..) => return Some(format!("{} ({number})", words::length(number))),
        _ => {}
    }
    let is_time = TIMES.iter().any(|end| lower.ends_with(end));
    match number {
        -1 if lower.ends_with("date") => Some("never (-1)".to_owned()),
        -1 if is_time => Some("none (-1)".to_owned()),
        0 if is_time => Some("not yet (0)".to_owned()),
        _ if is_time => {
            let time = jiff::Timestamp::from_millisecond(number).ok()?;
            Some(format!("{} ({number})", time.strftime("%Y-%m-%d %H:%M:%S UTC")))
        }
        _ => None,
    }
}

/// A value in a table: words alone, and nothing where there is nothing to say.
pub(super) fn short(key: &str, value: Option<&Value>) -> String {
    let lower = key.to_lowercase();
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(Value::Number(number)) => match number.as_i64() {
            Some(bytes) if lower.starts_with("bytes") => size(u64::try_from(bytes).unwrap_or(0)),
            Some(0) if matches!(key, "waiting" | "givenUp") => "0".to_owned(),
            Some(0) => "not yet".to_owned(),
            Some(-1) if lower.ends_with("date") => "somebody deletes it".to_owned(),
            Some(-1) => "none".to_owned(),
            Some(ms) => match jiff::Timestamp::from_millisecond(ms) {
                Ok(time) if ms > TIME_MIN => time.strftime("%Y-%m-%d %H:%M UTC").to_string(),
                _ => number.to_string(),
            },
            None => number.to_string(),
        },
        Some(Value::Array(list)) => {
            list.iter().map(|item| short("", Some(item))).collect::<Vec<_>>().join(", ")
        }
        Some(other) => other.to_string(),
    }
}

/// Where a store lies, as its entry tells it: a directory, or a bucket and what is before the names in it.
pub(super) fn place_of_store(entry: &Value) -> String {
    let texts = ["bucketName", "containerName", "rootDir"].map(|key| entry[key].as_str().unwrap_or_default());
    texts.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("/")
}

/// A size in a unit that people read.
pub(super) fn size(bytes: u64) -> String {
    let mut rest = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if rest < 1024.0 {
            return if unit == "B" { format!("{bytes} B") } else { format!("{rest:.1} {unit}") };
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} PiB")
}

/// A duration that people read.
pub(super) fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..60_000 => format!("{:.1} s", ms as f64 / 1000.0),
        _ => format!("{} min {} s", ms / 60_000, ms / 1000 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_from_outside_are_escaped_in_text_and_links() {
        let value = json!({"<i>k</i>": "<script>alert(1)</script>", "list": ["\"><b>x", {"deep": "a&b"}]});
        let page = Cell::of(&value, &|_, text, _| Some(format!("/x/{text}"))).to_string();
        for raw in ["<script>", "<i>", "\"><b>", "a&b<"] {
            assert!(!page.contains(raw), "{raw} in {page}");
        }
        assert!(page.contains("&#60;script&#62;"), "{page}");
    }

    #[test]
    fn a_bucket_is_part_of_the_place_of_a_store() {
        for (entry, place) in [
            (json!({"rootDir": "/backup/main", "storageConfig": {}}), "/backup/main"),
            (json!({"bucketName": "dr-1", "rootDir": "site1"}), "dr-1/site1"),
            (json!({"containerName": "dr-1", "rootDir": ""}), "dr-1"),
        ] {
            assert_eq!(place_of_store(&entry), place);
        }
    }

    #[test]
    fn times_and_sizes_are_shown_in_words_beside_the_number() {
        let value = json!({"startTime": 1634736144653_i64, "retentionDate": -1, "endtime": 0, "nextRun": -1, "bytesRead": 1536, "code": 3,
            "recoveryTime": 61500, "of a packs-only drill": {"recoveryTime": -1}});
        let page = Cell::of(&value, &|_, _, _| None).to_string();
        for text in [
            "2021-10-20 13:22:24 UTC (1634736144653)",
            "never (-1)",
            "not yet (0)",
            "none (-1)",
            "1.5 KiB (1536 bytes)",
            "1 min 1 s",
            "not measured (-1)",
        ] {
            assert!(page.contains(text), "{text} in {page}");
        }
        let counts = ["waiting", "lastDelivered"].map(|key| short(key, Some(&json!(0))));
        assert_eq!(counts, ["0", "not yet"]);
        assert_eq!(duration(61_500), "1 min 1 s");
        assert_eq!(duration(1500), "1.5 s");
    }

    #[test]
    fn keys_have_titles_but_those_that_people_chose() {
        let value = json!({"byHand": true, "zzz": 1, "timeoutInSeconds": 7200, "labels": {"byHand": "x"}});
        let titles = [("timeoutInSeconds", "Longest"), ("byHand", "By hand")];
        let page = Cell::of(&value, &|_, _, _| None).titled(&titles).to_string();
        assert!(page.contains("2 hours (7200 seconds)") && page.contains("<td>yes</td>"), "{page}");
        let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} in {page}"));
        assert!(at(">Longest<") < at(">By hand<") && at(">By hand<") < at(">zzz<"), "{page}");
        assert_eq!(page.matches(">byHand<").count(), 1, "{page}");
    }

    #[test]
    fn values_of_any_depth_and_size_are_shown() {
        let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
        assert!(Cell::of(&deep, &|_, _, _| None).to_string().len() < 2000);
        let long = Cell::of(&json!(vec!["x"; 100_000]), &|_, _, _| None).to_string();
        assert!(long.len() < 5000 && long.contains("and 99900 more"), "{}", long.len());
        assert!(Cell::of(&json!({}), &|_, _, _| None).to_string().contains("none"));
        assert_eq!(size(u64::MAX), "16384.0 PiB");
    }
}
