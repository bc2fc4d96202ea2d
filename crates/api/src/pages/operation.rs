//! The page of an operation: its form. After a refusal it comes again with what was typed (no secrets) and says beside the
//! field what is wrong with it.

use super::forms::{Field, Input};
use super::{ErrorView, Frame, capital, finish, frame, store_form};
use crate::dispatch::Call;
use crate::error::ApiError;
use crate::openapi::schema::Schema;
use askama::Template;

#[derive(Template)]
#[template(path = "operation.html")]
struct OperationPage {
    frame: Frame,
    error: Option<ErrorView>,
    action: String,
    intro: &'static str,
    submit: &'static str,
    caution: bool,
    fields: Vec<FieldView>,
}

/// A field as it is shown.
pub(super) struct FieldView {
    pub name: &'static str,
    pub label: &'static str,
    pub hint: &'static str,
    pub input: Input,
    pub required: bool,
    pub value: String,
    /// What can be chosen, and how that is told; else something is typed in.
    pub options: Vec<(&'static str, &'static str)>,
    /// What is wrong with it.
    pub error: Option<String>,
}

impl FieldView {
    pub fn of(call: &Call, field: &Field) -> Self {
        let comes_back = !field.may_hold_secret();
        let sent = call.parameters.text(field.name).filter(|_| comes_back);
        let options = match field.takes {
            Schema::Choice(among) if field.input == Input::Text => {
                let none = (!field.required).then_some(("", "as it is"));
                none.into_iter().chain(among.iter().map(|option| (*option, *option))).collect()
            }
            _ => Vec::new(),
        };
        Self {
            name: field.name,
            label: field.label,
            hint: field.hint,
            input: field.input,
            required: field.required,
            // A box that nobody ticked is not sent; what it was at first counts before anything was sent alone.
            value: sent.unwrap_or(if call.is_post() && comes_back { "" } else { field.value }).to_owned(),
            options,
            error: None,
        }
    }

    /// Whether this is what is chosen.
    pub fn holds(&self, value: &str) -> bool {
        self.value == value
    }

    /// Attributes that tie hint and error to the field; its name is one of ours.
    pub fn tied(&self) -> String {
        let name = self.name;
        match (self.hint.is_empty(), &self.error) {
            (true, None) => String::new(),
            (false, None) => format!(" aria-describedby=\"{name}-hint\""),
            (true, Some(_)) => format!(" aria-invalid=\"true\" aria-describedby=\"{name}-error\""),
            (false, Some(_)) => {
                format!(" aria-invalid=\"true\" aria-describedby=\"{name}-error {name}-hint\"")
            }
        }
    }
}

/// Says at the first field that an error is about what is wrong with it.
pub(super) fn mark<'a>(fields: impl Iterator<Item = &'a mut FieldView>, error: Option<&ApiError>) {
    let Some(error) = error else { return };
    for field in fields {
        if is_about(error, field.name) {
            field.error = Some(told_at(&error.message, field.name));
            return;
        }
    }
}

/// A message as it stands at the field: without the words that say which it is.
fn told_at(message: &str, name: &str) -> String {
    let kinds = ["is not valid: ", "is missing: "].map(|kind| format!("Parameter '{name}' {kind}"));
    let rest = kinds.iter().find_map(|words| message.strip_prefix(words.as_str())).unwrap_or(message);
    capital(rest)
}

/// Whether an error names this field, or is one that only a field of this name brings about.
fn is_about(error: &ApiError, name: &str) -> bool {
    let by_code: &[&str] = match error.message_code {
        "NAME_INVALID" | "DR_BACKUP_EXISTS" | "DR_STORE_EXISTS" => &["name", "storeName", "username"],
        "DR_PASSCODE_SHORT" | "DR_PASSCODE_WRONG" => &["passcode"],
        "DR_RETENTION_INVALID" => &["retentionDate", "retentionDays"],
        _ => &[],
    };
    by_code.contains(&name) || error.message.contains(&format!("'{name}'"))
}

pub(super) fn page(call: &Call, error: Option<&ApiError>) -> String {
    if let Some(page) = store_form::page(call, error) {
        return page;
    }
    let Some(form) = call.endpoint.and_then(|endpoint| endpoint.kind.form()) else { return String::new() };
    finish(&OperationPage {
        frame: frame(call),
        error: error.map(ErrorView::of),
        action: call.path(),
        intro: form.intro,
        submit: form.submit,
        caution: form.caution,
        fields: fields(call, form.typed.iter().chain(form.fields), error),
    })
}

/// The fields of a form, the one that an error is about marked.
pub(super) fn fields<'a>(
    call: &Call,
    fields: impl IntoIterator<Item = &'a Field>,
    error: Option<&ApiError>,
) -> Vec<FieldView> {
    let mut fields: Vec<FieldView> = fields.into_iter().map(|field| FieldView::of(call, field)).collect();
    mark(fields.iter_mut(), error);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_at_the_field_that_it_names() {
        let error = ApiError::invalid("retentionDays", "expected 1 to 36,500 days");
        assert!(is_about(&error, "retentionDays"));
        assert_eq!(told_at(&error.message, "retentionDays"), "Expected 1 to 36,500 days.");
        assert!(!is_about(&error, "retention") && !is_about(&error, "name"));
        let name = ApiError::new(400, "NAME_INVALID", "This is no name for a backup: '/' is not allowed.");
        assert!(is_about(&name, "name") && !is_about(&name, "passcode"));
        let busy = ApiError::new(409, "DR_BUSY", "A backup of 'x' runs.");
        assert!(!["name", "passcode", "storeName"].iter().any(|name| is_about(&busy, name)));
    }
}
