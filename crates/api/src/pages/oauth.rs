//! The two pages of the OAuth 2 log-in. Programs read them too.

use super::{Frame, finish, frame};
use crate::dispatch::Call;
use askama::Template;
use serde_json::{Value, json};

/// What known clients look for when a password is wrong, and show to their user.
const WRONG_PASSWORD: &str = "Invalid username or password.";

#[derive(Template)]
#[template(path = "authorize.html")]
struct AuthorizePage {
    frame: Frame,
    client_id: String,
    oauth_state: String,
    error: Option<&'static str>,
    info: String,
}

#[derive(Template)]
#[template(path = "approval.html")]
struct ApprovalPage {
    frame: Frame,
    code: Option<String>,
    info: String,
}

/// What the page says for programs: one JSON object in one line, the first on the page that has braces. It stands in a
/// block of data, which is no script; nothing in it ends that block early.
fn info(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c")
}

pub(super) fn authorize(call: &Call, client_id: String, oauth_state: &str, refused: bool) -> String {
    let about = if refused {
        json!({"code": "OAUTH_0015", "messages": [WRONG_PASSWORD], "oauth_state": oauth_state})
    } else {
        json!({"oauth_state": oauth_state})
    };
    finish(&AuthorizePage {
        frame: frame(call),
        client_id,
        oauth_state: oauth_state.to_owned(),
        error: refused.then_some(WRONG_PASSWORD),
        info: info(&about),
    })
}

pub(super) fn approval(call: &Call, code: Option<String>) -> String {
    let info = info(&json!({"code": code}));
    finish(&ApprovalPage { frame: frame(call), code, info })
}
