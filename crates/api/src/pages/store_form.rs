//! Registering a store, and changing one, for people: which kind of place first, then plain fields. The forms send to the
//! same operations as everybody; `handlers/store_form.rs` makes `settings` of what was typed. Without a kind there is the
//! form that programs have.

use super::forms::{
    CREDENTIAL_TYPE, DEFAULT_OF_STORE, Input, OF_EACH_STORE, Part, REGISTER_STORE, STORE_KINDS, StoreKind,
    store_kind,
};
use super::operation::{FieldView, fields, mark};
use super::{ErrorView, Frame, Link, finish, frame};
use crate::dispatch::Call;
use crate::error::ApiError;
use askama::Template;

const REGISTER: &str = "admin/system/disasterrecovery/stores/register";
const UPDATE: &str = "admin/system/disasterrecovery/stores/{store}/update";

#[derive(Template)]
#[template(path = "store_kinds.html")]
struct KindsPage {
    frame: Frame,
    error: Option<ErrorView>,
    kinds: Vec<KindView>,
    action: String,
    intro: &'static str,
    fields: Vec<FieldView>,
}

struct KindView {
    link: Link,
    about: &'static str,
}

#[derive(Template)]
#[template(path = "store_form.html")]
struct FormPage {
    frame: Frame,
    error: Option<ErrorView>,
    action: String,
    word: &'static str,
    intro: String,
    submit: &'static str,
    /// Groups of fields, one below the other.
    groups: Vec<Group>,
}

#[derive(Default)]
struct Group {
    title: &'static str,
    /// The rights that must be chosen for it to count; always, if there are none.
    of: &'static str,
    fields: Vec<FieldView>,
}

/// The page, where this request is about one of the two.
pub(super) fn page(call: &Call, error: Option<&ApiError>) -> Option<String> {
    let is_new = match call.endpoint?.path {
        REGISTER => true,
        UPDATE => false,
        _ => return None,
    };
    match call.parameters.text("kind").and_then(store_kind) {
        Some(kind) => Some(form(call, kind, is_new, error)),
        None if is_new => Some(kinds(call, error)),
        None => None,
    }
}

/// The choice of a kind, and the form of programs.
fn kinds(call: &Call, error: Option<&ApiError>) -> String {
    let action = call.path();
    let view = |kind: &StoreKind| KindView {
        link: Link { text: kind.title.to_owned(), path: format!("{action}?kind={}", kind.word) },
        about: kind.about,
    };
    finish(&KindsPage {
        frame: frame(call),
        error: error.map(ErrorView::of),
        kinds: STORE_KINDS.iter().map(view).collect(),
        intro: REGISTER_STORE.intro,
        fields: fields(call, REGISTER_STORE.fields, error),
        action,
    })
}

fn form(call: &Call, kind: &'static StoreKind, is_new: bool, error: Option<&ApiError>) -> String {
    let mut frame = frame(call);
    let action = call.path();
    let intro = if is_new {
        let above = Link { text: std::mem::take(&mut frame.title), path: action.clone() };
        frame.crumbs.push(above);
        frame.title = format!("Register: {}", kind.title);
        format!("{} {}", kind.about, REGISTER_STORE.intro)
    } else {
        "What is left as it is does not change. Where the store lies cannot be changed: register another one."
            .to_owned()
    };
    let mut groups = groups(call, kind, is_new);
    mark(groups.iter_mut().flat_map(|group| &mut group.fields), error);
    finish(&FormPage {
        frame,
        error: error.map(ErrorView::of),
        action,
        word: kind.word,
        intro,
        submit: if is_new { "Register" } else { "Update" },
        groups,
    })
}

fn groups(call: &Call, kind: &'static StoreKind, is_new: bool) -> Vec<Group> {
    let view = |part: &Part| {
        let mut view = FieldView::of(call, &part.field);
        for (value, text) in &mut view.options {
            *text = match *value {
                "" => "not set",
                "true" => "yes",
                "false" => "no",
                other => other,
            };
        }
        view
    };
    let own = if is_new {
        fields(call, &OF_EACH_STORE, None)
    } else {
        let mut default = FieldView::of(call, &DEFAULT_OF_STORE);
        default.options = vec![("", "as it is"), ("true", "yes"), ("false", "no")];
        vec![default]
    };
    let mut groups = vec![Group { fields: own, ..Group::default() }];
    if is_new && !kind.place.is_empty() {
        let title = "Where it lies";
        groups.push(Group { title, fields: kind.place.iter().map(view).collect(), ..Group::default() });
    }
    if kind.rights.is_empty() {
        return groups;
    }
    let mut rights = FieldView::of(call, &CREDENTIAL_TYPE);
    rights.options = kind.rights.to_vec();
    if !is_new {
        rights.options.insert(0, ("", "as they are"));
    }
    let mut of_all = vec![rights];
    of_all.extend(kind.credential.iter().filter(|part| part.of.is_none()).map(view));
    groups.push(Group { title: "Rights", fields: of_all, ..Group::default() });
    for &(of, title) in kind.rights {
        let fields: Vec<FieldView> =
            kind.credential.iter().filter(|part| part.of == Some(of)).map(view).collect();
        if !fields.is_empty() {
            groups.push(Group { title, of, fields });
        }
    }
    // Which of them must be filled in hangs on what is chosen, and that can be told without scripts by the answer alone.
    for field in groups.iter_mut().skip(1).flat_map(|group| &mut group.fields) {
        field.required &= kind.place.iter().any(|part| part.field.name == field.name);
    }
    groups
}
