//! The parameters of one request: query and form body merged, the body first, and read by type.
//!
//! Reading never fails on what nobody asks for: unknown parameters are ignored. What is wrong with the parts
//! as a whole (a parameter twice with two values, a body that is no form) is kept as a `defect` and reported
//! at its place in the order of checks, after token, route and privilege.

use crate::error::{ApiError, ApiResult};
use serde_json::{Map, Value};

/// More parameters than any operation has; what comes after is a defect.
const COUNT_MAX: usize = 200;

/// Names and values of one part (query, or body) or of both together.
#[derive(Clone, Default)]
pub(crate) struct Parameters {
    values: Vec<(String, String)>,
    several: Vec<String>,
    defect: Option<ApiError>,
}

/// Names alone: a value may be a passcode.
impl std::fmt::Debug for Parameters {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_list().entries(self.values.iter().map(|(name, _)| name)).finish()
    }
}

impl Parameters {
    /// The parameters of a query or of an urlencoded body.
    pub fn from_form(text: &[u8]) -> Self {
        let mut part = Self::default();
        for (name, value) in form_urlencoded::parse(text) {
            // What comes after too many is not even looked at.
            if part.values.len() >= COUNT_MAX && part.defect.is_some() {
                break;
            }
            part.add(name.into_owned(), value.into_owned());
        }
        part
    }

    /// The parameters of a flat JSON object; a value that is not a text stands for its own JSON text.
    pub fn from_json(text: &[u8]) -> Self {
        let mut part = Self::default();
        match serde_json::from_slice::<Map<String, Value>>(text) {
            Ok(object) => {
                for (name, value) in object {
                    match value {
                        Value::Null => {}
                        Value::String(text) => part.add(name, text),
                        other => part.add(name, other.to_string()),
                    }
                }
            }
            Err(_) => part.mark(ApiError::new(
                400,
                "JSON_INVALID",
                "The body is not valid: expected one flat JSON object of parameters.",
            )),
        }
        part
    }

    /// Adds one value; a second, different one under the same name is a defect.
    pub fn add(&mut self, name: String, value: String) {
        match self.values.iter().find(|(known, _)| *known == name) {
            Some((_, known)) if *known == value => {}
            Some(_) => {
                let message = format!("Parameter '{}' was sent twice with different values.", shown(&name));
                self.mark(ApiError::new(400, "PARAM_INVALID", message));
                if self.several.len() < COUNT_MAX {
                    self.several.push(name);
                }
            }
            None if self.values.len() >= COUNT_MAX => {
                let message = format!("There are more than {COUNT_MAX} parameters.");
                self.mark(ApiError::new(400, "PARAM_INVALID", message));
            }
            None => self.values.push((name, value)),
        }
    }

    /// Notes what is wrong with the whole; the first one counts.
    pub fn mark(&mut self, defect: ApiError) {
        self.defect.get_or_insert(defect);
    }

    /// Whether this part holds two values under that name.
    pub fn has_several(&self, name: &str) -> bool {
        self.several.iter().any(|known| known == name)
    }

    /// This part with another below it: this one's values win.
    pub fn over(mut self, below: Parameters) -> Self {
        for (name, value) in below.values {
            if self.values.iter().all(|(known, _)| *known != name) {
                self.values.push((name, value));
            }
        }
        if let Some(defect) = below.defect {
            self.mark(defect);
        }
        self
    }

    /// The defect of the parts, if there is one.
    pub fn whole(&self) -> ApiResult<()> {
        self.defect.clone().map_or(Ok(()), Err)
    }

    /// A text; absent and empty are the same.
    pub fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.values.iter().find(|(known, _)| known == name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// A text that must be there.
    pub fn required(&self, name: &str, expected: &str) -> ApiResult<&str> {
        self.text(name).ok_or_else(|| ApiError::missing(name, expected))
    }

    /// The description; a known client sends the word `None` when it has none.
    pub fn description(&self) -> Option<&str> {
        self.text("description").filter(|text| *text != "None")
    }

    /// A boolean, `false` if absent.
    pub fn boolean(&self, name: &str) -> ApiResult<bool> {
        match self.text(name) {
            None => Ok(false),
            Some(text) => truth(text).ok_or_else(|| ApiError::invalid(name, "expected true or false")),
        }
    }

    /// A whole number.
    pub fn integer(&self, name: &str) -> ApiResult<Option<i64>> {
        let parse =
            |text: &str| text.trim().parse().map_err(|_| ApiError::invalid(name, "expected a whole number"));
        self.text(name).map(parse).transpose()
    }

    /// Texts with commas between, or a JSON list, as a text may hold commas; an empty one is not sent.
    pub fn list(&self, name: &str, expected: &str) -> ApiResult<Option<Vec<String>>> {
        let Some(text) = self.text(name) else { return Ok(None) };
        let invalid = || ApiError::invalid(name, expected);
        let list: Vec<String> = if text.starts_with('[') {
            let list: Vec<Value> = serde_json::from_str(text).map_err(|_| invalid())?;
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(invalid));
            texts.collect::<ApiResult<_>>()?
        } else {
            text.split(',').map(|text| text.trim().to_owned()).collect()
        };
        if list.is_empty() { Err(invalid()) } else { Ok(Some(list)) }
    }

    /// A JSON object.
    pub fn object(&self, name: &str) -> ApiResult<Option<Map<String, Value>>> {
        let parse = |text: &str| serde_json::from_str(text).map_err(|_| ApiError::not_an_object(name));
        self.text(name).map(parse).transpose()
    }
}

/// The keys of a JSON object that came as one parameter, read by type. Null is the same as absent.
pub(crate) struct Keys<'a> {
    /// The parameter, which errors name.
    parameter: &'static str,
    object: &'a Map<String, Value>,
}

impl<'a> Keys<'a> {
    pub fn of(parameter: &'static str, object: &'a Map<String, Value>) -> Self {
        Self { parameter, object }
    }

    /// 400 for a key whose value cannot be taken.
    pub fn wrong(&self, key: &str, expected: &str) -> ApiError {
        ApiError::invalid(self.parameter, &format!("its key '{key}' must be {expected}"))
    }

    pub fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> ApiResult<Option<String>> {
        let read = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(key, "a text"));
        self.value(key).map(read).transpose()
    }

    /// A whole number, also as text; an empty text is absent.
    pub fn number(&self, key: &str) -> ApiResult<Option<i64>> {
        let read = |value: &Value| {
            let number = value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
            number.ok_or_else(|| self.wrong(key, "a whole number"))
        };
        self.value(key).filter(|value| value.as_str() != Some("")).map(read).transpose()
    }

    /// A boolean, also in the spellings that clients use.
    pub fn boolean(&self, key: &str) -> ApiResult<Option<bool>> {
        let read = |value: &Value| boolean(value).ok_or_else(|| self.wrong(key, "true or false"));
        self.value(key).map(read).transpose()
    }

    /// The keys of an object inside.
    pub fn object(&self, key: &str) -> ApiResult<Option<Keys<'a>>> {
        let read = |value: &'a Value| match value.as_object() {
            Some(object) => Ok(Keys::of(self.parameter, object)),
            None => Err(self.wrong(key, "an object")),
        };
        self.value(key).map(read).transpose()
    }
}

/// A JSON boolean, or one of the spellings that clients use.
pub(crate) fn boolean(value: &Value) -> Option<bool> {
    value.as_bool().or_else(|| truth(value.as_str()?))
}

/// The spellings of a boolean that clients use.
pub(crate) fn truth(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// A name from outside, made short and harmless for a message.
fn shown(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Parameters {
        Parameters::from_form(text.as_bytes())
    }

    #[test]
    fn the_body_wins_over_the_query() {
        let merged = form("f=json&name=body").over(form("f=html&storeName=s1"));
        assert_eq!(merged.text("f"), Some("json"));
        assert_eq!(merged.text("storeName"), Some("s1"));
        assert_eq!(merged.whole(), Ok(()));
    }

    #[test]
    fn a_parameter_twice_in_one_part_is_refused_unless_the_values_are_equal() {
        assert_eq!(form("a=1&a=1").whole(), Ok(()));
        let error = form("a=1&a=2").whole().expect_err("differs");
        assert_eq!((error.code, error.message_code), (400, "PARAM_INVALID"));
        assert!(error.message.contains("'a'"));
        assert!(form("x=1").over(form("a=1&a=2")).whole().is_err());
    }

    #[test]
    fn no_value_is_repeated_in_debug_output_or_errors() {
        let secrets =
            form("passcode=hunter22hunter&passcode=othersecret&async=hunter22hunter&settings=hunter22hunter");
        let shown = format!(
            "{secrets:?} {:?} {:?} {:?}",
            secrets.whole(),
            secrets.boolean("async"),
            secrets.object("settings")
        );
        assert!(!shown.contains("hunter22") && !shown.contains("othersecret"), "{shown}");
    }

    #[test]
    fn empty_texts_and_the_description_none_count_as_absent() {
        let sent = form("description=None&name=&other=None");
        assert_eq!(sent.description(), None);
        assert_eq!(sent.text("name"), None);
        assert_eq!(sent.text("other"), Some("None"));
        assert_eq!(sent.required("name", "x").expect_err("empty").message_code, "PARAM_MISSING");
    }

    #[test]
    fn booleans_are_read_in_any_case_and_as_digits() {
        for (text, value) in
            [("true", true), ("False", false), ("TRUE", true), ("0", false), ("1", true), ("", false)]
        {
            assert_eq!(form(&format!("b={text}")).boolean("b"), Ok(value), "{text}");
        }
        assert_eq!(form("").boolean("b"), Ok(false));
        assert_eq!(form("b=yes").boolean("b").expect_err("yes").message_code, "PARAM_INVALID");
    }

    #[test]
    fn objects_must_be_json_objects() {
        assert!(form("o=%7B%22a%22%3A1%7D").object("o").expect("object").is_some());
        assert!(form("").object("o").expect("absent").is_none());
        for text in ["[]", "1", "nonsense", "%22x%22"] {
            assert_eq!(form(&format!("o={text}")).object("o").expect_err(text).message_code, "JSON_INVALID");
        }
    }

    #[test]
    fn a_flat_json_body_gives_parameters_too() {
        let body = Parameters::from_json(br#"{"a": "x", "b": true, "n": 5, "o": {"k": 1}, "z": null}"#);
        assert_eq!(body.text("a"), Some("x"));
        assert_eq!(body.boolean("b"), Ok(true));
        assert_eq!(body.integer("n"), Ok(Some(5)));
        assert_eq!(body.object("o").expect("object").map(|object| object.len()), Some(1));
        assert_eq!(body.text("z"), None);
        assert_eq!(Parameters::from_json(b"[1]").whole().expect_err("list").message_code, "JSON_INVALID");
    }

    #[test]
    fn too_many_parameters_are_refused() {
        let many = (0..300).map(|n| format!("p{n}=1")).collect::<Vec<_>>().join("&");
        assert!(form(&many).whole().is_err());
    }
}
