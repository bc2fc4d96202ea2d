//! The pages: a plain view of the same JSON that programs get, with links and forms. Everything is rendered
//! here, works without scripts, and is escaped by the templates.

mod assistant;
mod backup;
mod backups;
pub(crate) mod file_name;
mod files;
pub(crate) mod forms;
mod lists;
mod oauth;
mod operation;
mod plots;
mod start;
mod store;
mod store_form;
mod titles;
mod view;
mod words;

use crate::dispatch::{Call, Site};
use crate::endpoints::{self, Endpoint, Kind};
use crate::error::{ApiError, role_name};
use crate::handlers::jobs;
use crate::parameters::Parameters;
use crate::reply::Reply;
use crate::{path, session};
use askama::Template;
use forms::{Form, Input};
use recovery::JobView;
use serde_json::Value;
use view::Cell;

pub(crate) use assistant::AssistantView;
pub(crate) use backup::BackupPageView;
pub(crate) use backups::BackupsView;
pub(crate) use files::FilesView;

/// Seconds between two looks at a running job, for browsers without scripts.
const REFRESH_SECONDS: u32 = 3;

/// What every page has around its content.
#[derive(Default)]
struct Frame {
    title: String,
    /// The context as the beginning of a path.
    home: String,
    crumbs: Vec<Link>,
    user: Option<String>,
    role: &'static str,
    /// The field of every form of this session.
    csrf: Option<String>,
    refresh: Option<u32>,
}

struct Link {
    text: String,
    path: String,
}

#[derive(Template)]
#[template(path = "resource.html")]
struct ResourcePage {
    frame: Frame,
    cell: Cell,
    children: Vec<Link>,
    operations: Vec<Link>,
}

struct ErrorView {
    code: u16,
    message_code: &'static str,
    message: String,
    details: Vec<String>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    frame: Frame,
    /// Where its events are told.
    events: String,
    status: String,
    tone: &'static str,
    ended: bool,
    percent: u8,
    doing: String,
    facts: Vec<Fact>,
    stages: Vec<StageRow>,
    backup: Option<Link>,
    messages: Vec<String>,
    portion: String,
    operations: Vec<Link>,
    cell: Cell,
}

/// A figure with its title, and more of it in small.
struct Fact {
    title: &'static str,
    words: String,
    exact: String,
}

struct StageRow {
    name: String,
    state: String,
    tone: &'static str,
    duration: String,
}

#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    next: String,
    error: Option<String>,
    /// The code, for programs that read pages.
    code: Option<String>,
    /// The provider, and where it is gone to.
    provider: Option<Link>,
}

#[derive(Template)]
#[template(path = "signed_in.html")]
struct SignedInPage {
    frame: Frame,
    next: String,
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage {
    frame: Frame,
    error: ErrorView,
}

/// What an endpoint is for, in a sentence that goes on "not allowed to …".
pub(crate) fn purpose(endpoint: &Endpoint) -> String {
    match endpoint.kind {
        Kind::Operation(_) | Kind::Program => endpoint.title.to_owned(),
        Kind::Resource | Kind::Page => format!("read '{}'", endpoint.title),
    }
}

/// Whether a secret of this form stands in the parameters.
pub(crate) fn has_secret(form: &Form, parameters: &Parameters) -> bool {
    let of_form = form.fields.iter().filter(|field| field.input == Input::Secret).map(|field| field.name);
    let objects = form.fields.iter().filter(|field| field.input != Input::Secret && field.may_hold_secret());
    let tells = |text: &str| {
        let text = text.to_ascii_lowercase();
        ["secret", "passcode", "password"].iter().any(|word| text.contains(word))
    };
    of_form.chain(forms::store_secrets()).any(|name| parameters.text(name).is_some())
        || objects.filter_map(|field| parameters.text(field.name)).any(tells)
}

/// The page of a reply.
pub(crate) fn render(call: &Call, reply: Reply) -> String {
    match reply {
        Reply::Json(value) | Reply::Accepted(value, _) | Reply::Listed(_, value) => resource(call, &value),
        Reply::Job(value, job) => job_page(call, &value, &job),
        Reply::Overview(_, overview) => start::page(call, &overview),
        Reply::Store(value, detail) => store::page(call, &value, &detail),
        Reply::Backups(_, view) => backups::page(call, &view),
        Reply::Backup(value, view) => backup::page(call, &value, &view),
        Reply::Files(_, view) => files::page(call, &view),
        Reply::Assistant(view) => assistant::page(call, &view),
        Reply::Form => operation::page(call, None),
        Reply::SignIn { next, error } => sign_in(call, next, error, None),
        Reply::Authorize { client_id, oauth_state, refused } => {
            oauth::authorize(call, client_id, &oauth_state, refused)
        }
        Reply::Approval { code } => oauth::approval(call, code),
        Reply::SignedIn { next, .. } => signed_in(call, next),
        Reply::Leave { .. }
        | Reply::Go { .. }
        | Reply::Redirect(_)
        | Reply::Asset(..)
        | Reply::Download(..)
        | Reply::Events(_)
        | Reply::Document(_)
        | Reply::Metrics(_) => String::new(),
    }
}

/// The page of an error: the sign-in form where a session is missing, the operation's form with the text in
/// it, or the text alone.
pub(crate) fn render_error(call: &Call, error: &ApiError) -> String {
    if matches!(error.code, 498 | 499) {
        let session = session::cookie_token(&call.headers, call.site.secure_cookies);
        let ended = session.map(|_| "Your session has ended: sign in again.".to_owned());
        return sign_in(call, call.path(), ended, Some(format!("{} {}", error.code, error.message)));
    }
    if call.endpoint.is_some_and(|endpoint| endpoint.path.starts_with("admin/oidc/")) && error.code != 404 {
        return sign_in(
            call,
            format!("{}/admin", call.site.context_path()),
            Some(error.message.clone()),
            None,
        );
    }
    let has_form = call.endpoint.is_some_and(|endpoint| endpoint.kind.form().is_some());
    if has_form && call.is_post() && !matches!(error.code, 403 | 405) {
        return operation::page(call, Some(error));
    }
    let mut frame = frame(call);
    frame.title = "Not possible".to_owned();
    finish(&ErrorPage { frame, error: ErrorView::of(error) })
}

/// An error where nothing is known of the caller.
pub(crate) fn bare_error(site: &Site, error: &ApiError) -> String {
    let frame = Frame { title: "Not possible".to_owned(), home: site.context_path(), ..Frame::default() };
    finish(&ErrorPage { frame, error: ErrorView::of(error) })
}

impl ErrorView {
    fn of(error: &ApiError) -> Self {
        Self {
            code: error.code,
            message_code: error.message_code,
            message: capital(&error.message),
            details: error.details.clone(),
        }
    }
}

fn resource(call: &Call, value: &Value) -> String {
    if let Some(page) = lists::page(call, value) {
        return page;
    }
    let (titles, shown) = titles::of(call, value);
    let cell = Cell::of(&shown, &|key, text, around| link(call, key, text, around)).titled(titles);
    let (children, operations) = links_below(call);
    let mut frame = frame(call);
    // A task is known by its title, its path by its id.
    if let Some(title) = value["taskTitle"].as_str().filter(|title| !title.is_empty()) {
        frame.title = title.to_owned();
    }
    finish(&ResourcePage { frame, cell, children, operations })
}

fn job_page(call: &Call, value: &Value, job: &JobView) -> String {
    let mut frame = frame(call);
    let ended = jobs::ended(job.status);
    if !job.backup.is_empty() {
        frame.title = format!("{} of {}", job.operation, job.backup);
    }
    frame.refresh = (!ended).then_some(REFRESH_SECONDS);
    let (_, operations) = links_below(call);
    let progress = job.progress.clone().unwrap_or_default();
    let stages = job.stages.iter().map(|stage| StageRow {
        name: stage.name.clone(),
        tone: tone(&stage.state),
        state: stage.state.replace('_', " "),
        duration: match stage.state.as_str() {
            "skipped" | "pending" => String::new(),
            _ => view::duration(stage.duration_ms),
        },
    });
    let state = jobs::state(job);
    finish(&JobPage {
        events: format!("{}/events", call.path()),
        status: format!("{} · {}", job.operation, state.replace('_', " ")),
        tone: tone(state),
        ended,
        percent: progress.percent.min(100),
        doing: jobs::doing(&progress),
        facts: if ended { job_facts(job) } else { Vec::new() },
        stages: stages.collect(),
        backup: backup_link(call, &job.store, &job.backup),
        messages: job.messages.clone(),
        portion: job.portion.clone(),
        operations: if ended { Vec::new() } else { operations },
        cell: Cell::of(value, &|key, text, around| link(call, key, text, around)),
        frame,
    })
}

/// What came of a job that has ended.
fn job_facts(job: &JobView) -> Vec<Fact> {
    let told = |key: &str| job.result.as_ref().and_then(|result| result.get(key)).and_then(Value::as_u64);
    let took = u64::try_from(job.end_time - job.start_time).unwrap_or(0);
    let by = if job.username.is_empty() { String::new() } else { format!("asked for by {}", job.username) };
    let mut facts = vec![
        Fact {
            title: "Took",
            words: view::duration(took),
            exact: format!("until {}", words::exact(job.end_time)),
        },
        Fact {
            title: "Begun",
            words: words::clock(job.start_time),
            exact: format!("{}, {by}", words::date(job.start_time)),
        },
    ];
    if let (Some(bytes), Some(files)) = (told("bytesRead"), told("filesTotal")) {
        let exact = words::several(i64::try_from(files).unwrap_or(i64::MAX), "file");
        facts.push(Fact { title: "Content", words: view::size(bytes), exact });
    }
    for (key, title, exact) in [
        ("bytesAdded", "Added to the store", "new, compressed and sealed"),
        ("bytesReused", "Was right already", "and did not have to be fetched"),
    ] {
        if let Some(bytes) = told(key) {
            facts.push(Fact { title, words: view::size(bytes), exact: exact.to_owned() });
        }
    }
    facts
}

/// The page of a backup, where both names are known.
fn backup_link(call: &Call, store: &str, name: &str) -> Option<Link> {
    let stores = format!("{}/admin/system/disasterrecovery/stores", call.site.context_path());
    let path = format!("{stores}/{}/backups/{}", path::encode(store), path::encode(name));
    (!store.is_empty() && !name.is_empty()).then(|| Link { text: name.to_owned(), path })
}

/// Whether a state is good or not, as a class of the style sheet; the state's word stands beside it.
fn tone(state: &str) -> &'static str {
    match state {
        "success" | "completed" => "good",
        "completed_with_warnings" => "mild",
        "failed" | "cancelled" => "bad",
        "in_progress" | "submitted" | "deleting" => "busy",
        _ => "",
    }
}

fn sign_in(call: &Call, next: String, error: Option<String>, code: Option<String>) -> String {
    let frame = Frame { title: "Sign in".to_owned(), home: call.site.context_path(), ..Frame::default() };
    let provider = call.site.oidc.as_ref().map(|provider| {
        let start = format!("{}/admin/oidc/start", call.site.context_path());
        let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", &next).finish();
        Link { text: provider.label().to_owned(), path: format!("{start}?{query}") }
    });
    finish(&SignInPage { frame, next, error, code, provider })
}

/// Leads on by itself, which a browser takes for our own doing.
pub(crate) fn signed_in(call: &Call, next: String) -> String {
    let frame = Frame { title: "Signed in".to_owned(), home: call.site.context_path(), ..Frame::default() };
    finish(&SignedInPage { frame, next })
}

fn frame(call: &Call) -> Frame {
    let title = call.endpoint.map_or("Strongroom".to_owned(), |endpoint| title(endpoint, &call.segments));
    Frame {
        title,
        home: call.site.context_path(),
        crumbs: crumbs(call),
        user: call.principal.as_ref().map(|principal| principal.username.clone()),
        role: call.principal.as_ref().map_or("", |principal| role_name(principal.role)),
        csrf: call.session.as_deref().map(session::form_field),
        refresh: None,
    }
}

/// The same with a capital letter at its beginning.
fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().to_string() + letters.as_str())
}

/// What a page is called: the name in its path, or the endpoint's title; an operation on one named thing says on which.
fn title(endpoint: &Endpoint, segments: &[String]) -> String {
    if let (Some(_), Some(name)) = (endpoints::placeholder(endpoint.last()), segments.last()) {
        return name.clone();
    }
    let title = capital(endpoint.title);
    let patterns: Vec<&str> = endpoint.pattern().collect();
    match (patterns.as_slice(), segments) {
        ([.., above, _], [.., name, _]) if endpoints::placeholder(above).is_some() => {
            format!("{title}: {name}")
        }
        _ => title,
    }
}

/// The pages above this one.
fn crumbs(call: &Call) -> Vec<Link> {
    let above = (1..call.segments.len()).filter_map(|count| {
        let segments = call.segments.get(..count)?;
        let (endpoint, _) = endpoints::find(segments)?;
        Some(Link { text: title(endpoint, segments), path: call.site.context_path() + &path::join(segments) })
    });
    above.collect()
}

/// What operations are done on.
const NOUNS: [&str; 6] = ["backup", "backup store", "job", "run", "task", "user"];

/// Links to what lies directly below: resources, and operations that this user may do.
fn links_below(call: &Call) -> (Vec<Link>, Vec<Link>) {
    let mut links = (Vec::new(), Vec::new());
    for child in call.endpoint.into_iter().flat_map(Endpoint::children) {
        let allowed = match child.role {
            Some(role) => call.principal.as_ref().is_some_and(|principal| principal.role >= role),
            None => true,
        };
        if !allowed || endpoints::placeholder(child.last()).is_some() {
            continue;
        }
        let below = format!("{}/{}", call.path(), path::encode(child.last()));
        let text = title(child, &[]);
        // "Restore a backup" is "Restore" on the page of one.
        let is_of_one =
            call.endpoint.is_some_and(|endpoint| endpoints::placeholder(endpoint.last()).is_some());
        let text = text
            .rsplit_once(" a ")
            .filter(|(_, noun)| is_of_one && NOUNS.contains(noun))
            .map_or(text.clone(), |(verb, _)| verb.to_owned());
        let link = Link { text, path: below };
        if child.kind.form().is_some() { links.1.push(link) } else { links.0.push(link) }
    }
    links
}

/// Where a value of a known key leads.
fn link(call: &Call, key: &str, text: &str, around: Option<&Value>) -> Option<String> {
    let admin = call.site.context_path() + "/admin";
    let below = || format!("{}/{}", call.path(), path::encode(text));
    match (call.endpoint?.last(), key) {
        ("stores", "name") => Some(below()),
        ("backups", "backupName") => {
            // In the old layout a name alone may be ambiguous.
            let store = around.and_then(|entry| entry.get("backupStore")).and_then(Value::as_str)?;
            let stores = format!("{admin}/system/disasterrecovery/stores");
            Some(format!("{stores}/{}/backups/{}", path::encode(store), path::encode(text)))
        }
        ("jobs", "jobs") => Some(below()),
        (_, "jobid") if !text.is_empty() => Some(format!("{admin}/jobs/{}", path::encode(text))),
        (_, "backupStore") if !text.is_empty() => {
            Some(format!("{admin}/system/disasterrecovery/stores/{}", path::encode(text)))
        }
        _ => None,
    }
}

/// The page's text; writing into memory does not fail.
fn finish(page: &impl Template) -> String {
    page.render().unwrap_or_else(|error| {
        tracing::error!(%error, "page could not be rendered");
        String::new()
    })
}
