//! What a handler answers, and how that becomes an HTTP response.

use crate::dispatch::{Call, Site};
use crate::error::{ApiError, ApiResult};
use crate::format::Format;
use crate::outgoing::{Outgoing, Stream};
use crate::pages::{self, AssistantView, BackupPageView, BackupsView, FilesView, file_name};
use hyper::StatusCode;
use hyper::body::Body;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use recovery::{JobView, Overview, StoreDetail};
use serde_json::Value;

/// A response, its body in memory or written bit by bit.
pub(crate) type Response = hyper::Response<Outgoing>;

/// What a handler answers when it does not refuse.
#[derive(Debug)]
pub(crate) enum Reply {
    /// A documented JSON object; its page is a view of the same.
    Json(Value),
    /// A job: its object, and the view for the page.
    Job(Value, Box<JobView>),
    /// An accepted job: the object, and the id whose page comes next.
    Accepted(Value, String),
    /// The form of the operation.
    Form,
    /// The sign-in page; `error` after a failed try.
    SignIn { next: String, error: Option<String> },
    /// The sign-in page of a program that asked for access; `refused` after a failed try.
    Authorize { client_id: String, oauth_state: String, refused: bool },
    /// The page at the end of such a sign-in, with the code for the program if there is one.
    Approval { code: Option<String> },
    /// To where such a program wants its answer; the URL was checked.
    Redirect(String),
    /// To the provider, with a cookie for the way back. Page only.
    Leave { location: String, cookie: String },
    /// Signed in through the provider: a page that leads on. A redirect would still belong to the provider's site, and
    /// browsers would keep the cookie of the session back. Page only.
    SignedIn { next: String, username: String, cookies: [String; 2] },
    /// To another page of ours, perhaps with a cookie. Page only.
    Go { path: String, cookie: Option<String> },
    /// A list: the documented object, and one that tells people more.
    Listed(Value, Value),
    /// The start page, and the object for programs.
    Overview(Value, Box<Overview>),
    /// Figures for monitoring, whatever the format.
    Metrics(String),
    /// The description of this interface, JSON whatever the format.
    Document(&'static Value),
    /// A part of the pages that is a file of its own: its media type and its text.
    Asset(&'static str, &'static str),
    /// A store: its object, and the view for the page.
    Store(Value, Box<StoreDetail>),
    /// Backups for people; the object for programs.
    Backups(Value, Box<BackupsView>),
    /// One backup.
    Backup(Value, Box<BackupPageView>),
    /// A step of the restore assistant. Page only.
    Assistant(Box<AssistantView>),
    /// A look into a backup.
    Files(Value, Box<FilesView>),
    /// The content of a file, with its name; never shown by a browser.
    Download(Vec<u8>, Stream),
    /// Events as they come.
    Events(Stream),
}

/// The business code of a response, for the log alone.
#[derive(Clone, Copy)]
struct BusinessCode(u16);

/// The response to a call.
pub(crate) fn render(call: &Call, result: ApiResult<Reply>) -> Response {
    match (result, call.format) {
        (Ok(Reply::Asset(kind, text)), _) => asset(kind, text),
        (Ok(Reply::Download(name, content)), _) => download(&name, content),
        (Ok(Reply::Events(events)), _) => {
            let policy = "default-src 'none'; frame-ancestors 'none'";
            response(StatusCode::OK, "text/event-stream", policy, Outgoing::Stream(events))
        }
        (Ok(Reply::Metrics(text)), _) => metrics(text),
        (Ok(Reply::Document(value)), format) => json(StatusCode::OK, format, value),
        (Ok(Reply::Go { path, cookie }), _) => go(StatusCode::SEE_OTHER, &path, cookie.as_deref()),
        (Ok(Reply::Leave { location, cookie }), _) => go(StatusCode::FOUND, &location, Some(&cookie)),
        (Ok(Reply::SignedIn { next, cookies, .. }), _) => {
            let mut response = html(StatusCode::OK, pages::signed_in(call, next));
            for cookie in cookies {
                add(response.headers_mut(), header::SET_COOKIE, &cookie);
            }
            response
        }
        // Known clients look for this status.
        (Ok(Reply::Redirect(location)), _) => go(StatusCode::FOUND, &location, None),
        (Ok(Reply::Accepted(_, id)), Format::Html) => {
            let page = format!("{}/admin/jobs/{}", call.site.context_path(), crate::path::encode(&id));
            go(StatusCode::SEE_OTHER, &page, None)
        }
        (Ok(reply), Format::Html) if call.principal.is_some() => page(pages::render(call, reply)),
        (Ok(reply), Format::Html) => html(StatusCode::OK, pages::render(call, reply)),
        (
            Ok(
                Reply::Json(value)
                | Reply::Job(value, _)
                | Reply::Accepted(value, _)
                | Reply::Overview(value, _)
                | Reply::Store(value, _)
                | Reply::Backups(value, _)
                | Reply::Backup(value, _)
                | Reply::Files(value, _)
                | Reply::Listed(value, _),
            ),
            format,
        ) => json(StatusCode::OK, format, &value),
        (Ok(Reply::Authorize { oauth_state, .. }), format) => {
            json(StatusCode::OK, format, &serde_json::json!({"oauth_state": oauth_state}))
        }
        (Ok(Reply::Form | Reply::Assistant(_) | Reply::SignIn { .. } | Reply::Approval { .. }), format) => {
            bare_error(&call.site, StatusCode::OK, format, &ApiError::unknown_url())
        }
        (Err(error), Format::Html) if call.principal.is_some() => {
            mark(page(pages::render_error(call, &error)), &error)
        }
        (Err(error), Format::Html) => mark(html(StatusCode::OK, pages::render_error(call, &error)), &error),
        (Err(error), format) => bare_error(&call.site, StatusCode::OK, format, &error),
    }
}

/// An error where nothing is known of the caller or the page.
pub(crate) fn bare_error(site: &Site, status: StatusCode, format: Format, error: &ApiError) -> Response {
    let response = match format {
        Format::Html => html(status, pages::bare_error(site, error)),
        Format::Json | Format::PrettyJson => json(status, format, &error.envelope()),
    };
    mark(response, error)
}

fn mark(mut response: Response, error: &ApiError) -> Response {
    response.extensions_mut().insert(BusinessCode(error.code));
    response
}

/// The code in the envelope of a response, 0 if it is none.
pub(crate) fn business_code(response: &Response) -> u16 {
    response.extensions().get::<BusinessCode>().map_or(0, |code| code.0)
}

/// Tells the caller that this connection ends.
pub(crate) fn closing(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The answer to HEAD: that of GET without its body.
pub(crate) fn headers_alone(mut response: Response) -> Response {
    if let Some(length) = response.body().size_hint().exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    *response.body_mut() = Outgoing::default();
    response
}

/// Adds the id under which the log knows this request.
pub(crate) fn with_request_id(mut response: Response, request_id: &str) -> Response {
    set(response.headers_mut(), HeaderName::from_static("x-request-id"), request_id);
    response
}

/// A JSON response.
pub(crate) fn json(status: StatusCode, format: Format, value: &Value) -> Response {
    let policy = "default-src 'none'; frame-ancestors 'none'";
    response(status, "application/json", policy, format.write(value))
}

/// A page of a session: it may run the one script that is ours, and ask this site alone.
fn page(page: String) -> Response {
    let policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                  form-action 'self'; base-uri 'none'; frame-ancestors 'none'";
    response(StatusCode::OK, "text/html; charset=utf-8", policy, page)
}

/// A page for strangers runs nothing.
fn html(status: StatusCode, page: String) -> Response {
    let policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
                  frame-ancestors 'none'";
    response(status, "text/html; charset=utf-8", policy, page)
}

/// To another page; the place is our own or was checked.
fn go(status: StatusCode, place: &str, cookie: Option<&str>) -> Response {
    let mut response = html(status, String::new());
    set(response.headers_mut(), header::LOCATION, place);
    if let Some(cookie) = cookie {
        set(response.headers_mut(), header::SET_COOKIE, cookie);
    }
    response
}

fn metrics(text: String) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    response(StatusCode::OK, kind, "default-src 'none'; frame-ancestors 'none'", text)
}

/// What a browser keeps as a file, whatever it holds.
fn download(name: &[u8], content: Stream) -> Response {
    let policy = "default-src 'none'; sandbox; frame-ancestors 'none'";
    let content = Outgoing::Stream(content);
    let mut response = response(StatusCode::OK, "application/octet-stream", policy, content);
    let headers = response.headers_mut();
    set(headers, header::CONTENT_DISPOSITION, &file_name::disposition(name));
    set(headers, header::ACCEPT_RANGES, "none");
    response
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    let mut response = response(StatusCode::OK, kind, "default-src 'none'", text);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    policy: &'static str,
    body: impl Into<Outgoing>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, policy),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn add(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.append(name, value);
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
