//! Everything that is served under the context: one line an endpoint.
//!
//! To add one: a line in [`ENDPOINTS`] and a handler. Route, method, privilege, the read-only rule, the form
//! page, links between pages and the tests over all endpoints follow from the line.

use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::format::Format;
use crate::handlers::{
    assistant, audit, backups, components, disaster_recovery, drills, events, files, jobs, keys, login,
    metrics, notifications, oauth, oidc, portal, restore, root, site, status, stores, tasks, users,
};
use crate::openapi::replies as told;
use crate::openapi::schema::Schema;
use crate::pages::forms::{self, Field, Form};
use crate::reply::Reply;
use recovery::OperationGroup::{self, Backup, Restore, Schedules};
use recovery::Role;
use std::pin::Pin;
use std::sync::Arc;

/// What a handler is doing until it answers.
pub(crate) type Answer = Pin<Box<dyn Future<Output = ApiResult<Reply>> + Send>>;

/// One line of the table.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Path under the context; `{name}` stands for any one segment.
    pub path: &'static str,
    /// What the page is called, and for an operation what it does ("You are not allowed to …").
    pub title: &'static str,
    /// Resource, operation or page.
    pub kind: Kind,
    /// Least role; `None` is open to everybody.
    pub role: Option<Role>,
    /// What a key must be good for; none: keys are good for it never.
    pub group: Option<OperationGroup>,
    /// When POST is refused (423).
    pub refused: Refused,
    /// What it answers.
    pub gives: Gives,
    /// Parameters beside those of a form.
    pub asks: &'static [Field],
    /// Whether the audit log tells of a look too, not only of changes.
    pub told: bool,
    /// Does the work.
    pub handler: fn(Arc<Call>) -> Answer,
}

/// When an operation is refused, whoever asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It works at all times.
    Never,
    /// While a restore runs.
    WhileRestoring,
    /// While a restore runs, and while an administrator made the deployment read-only.
    WhileReadOnly,
}

/// What an endpoint answers to programs; refusals apart, which are the same everywhere.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Gives {
    /// Pages and redirects alone.
    Page,
    /// JSON of this kind.
    Json(&'static Schema),
    /// The description of this interface.
    Document,
    /// Text of this media type, whatever the format.
    Text(&'static str),
    /// Server-sent events, whatever the format.
    Events,
}

/// Where a request says which store it is about; a key that is good for some stores needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StoreIn {
    /// In its path.
    Path,
    /// In `storeName`, which the old layout takes for the store.
    Parameter,
    /// It names a job, which knows its store.
    Job,
    /// It is about several stores, or none.
    Nowhere,
}

/// How an endpoint is used.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Read with GET; POST gives the same.
    Resource,
    /// Done with POST; GET shows the form.
    Operation(&'static Form),
    /// For browsers alone; the handler takes both methods.
    Page,
    /// Done with POST, by programs that do not say which format they want and read JSON.
    Program,
}

impl Kind {
    /// The form of an operation.
    pub fn form(&self) -> Option<&'static Form> {
        match self {
            Self::Operation(form) => Some(form),
            Self::Resource | Self::Page | Self::Program => None,
        }
    }

    /// The format of the reply where `asked` was asked for.
    pub fn format(&self, asked: Format) -> Format {
        match self {
            Self::Program if asked == Format::Html => Format::Json,
            _ => asked,
        }
    }
}

const PUBLIC: Option<Role> = None;
const VIEWER: Option<Role> = Some(Role::Viewer);
const OPERATOR: Option<Role> = Some(Role::Operator);
const ADMINISTRATOR: Option<Role> = Some(Role::Administrator);

type Run = fn(Arc<Call>) -> Answer;

impl Endpoint {
    /// The same with what it answers.
    const fn gives(self, gives: Gives) -> Self {
        Self { gives, ..self }
    }

    /// The same with parameters that no form has.
    const fn asks(self, asks: &'static [Field]) -> Self {
        Self { asks, ..self }
    }
}

const fn endpoint(
    path: &'static str,
    title: &'static str,
    kind: Kind,
    gives: Gives,
    handler: Run,
) -> Endpoint {
    let (role, group, refused) = (PUBLIC, None, Refused::Never);
    Endpoint { path, title, kind, role, group, refused, told: false, gives, asks: &[], handler }
}

const fn resource(
    path: &'static str,
    title: &'static str,
    role: Option<Role>,
    schema: &'static Schema,
    handler: Run,
) -> Endpoint {
    let group = Some(OperationGroup::Read);
    Endpoint { role, group, ..endpoint(path, title, Kind::Resource, Gives::Json(schema), handler) }
}

/// A resource that lets somebody see what is in a backup.
const fn look(path: &'static str, title: &'static str, schema: &'static Schema, handler: Run) -> Endpoint {
    let group = Some(OperationGroup::Restore);
    Endpoint { told: true, group, ..resource(path, title, ADMINISTRATOR, schema, handler) }
}

/// An operation that works at all times.
const fn operation(
    path: &'static str,
    title: &'static str,
    role: Option<Role>,
    form: &'static Form,
    schema: &'static Schema,
    handler: Run,
) -> Endpoint {
    let group = Some(OperationGroup::Manage);
    Endpoint { role, group, ..endpoint(path, title, Kind::Operation(form), Gives::Json(schema), handler) }
}

/// An operation that is refused while a restore runs.
const fn backup(
    path: &'static str,
    title: &'static str,
    role: Option<Role>,
    form: &'static Form,
    schema: &'static Schema,
    handler: Run,
) -> Endpoint {
    let group = Some(OperationGroup::Backup);
    Endpoint {
        group,
        refused: Refused::WhileRestoring,
        ..operation(path, title, role, form, schema, handler)
    }
}

/// An operation that is refused while a restore runs or the deployment is read-only.
const fn change(
    path: &'static str,
    title: &'static str,
    role: Option<Role>,
    form: &'static Form,
    schema: &'static Schema,
    handler: Run,
) -> Endpoint {
    Endpoint { refused: Refused::WhileReadOnly, ..operation(path, title, role, form, schema, handler) }
}

const fn page(path: &'static str, title: &'static str, handler: Run) -> Endpoint {
    endpoint(path, title, Kind::Page, Gives::Page, handler)
}

/// A page for those who may look.
const fn page_for(path: &'static str, title: &'static str, role: Option<Role>, handler: Run) -> Endpoint {
    Endpoint { role, group: Some(OperationGroup::Read), ..page(path, title, handler) }
}

/// A page on the way to a restore; the audit log tells of it.
const fn assistant(path: &'static str, title: &'static str, handler: Run) -> Endpoint {
    let group = Some(OperationGroup::Restore);
    Endpoint { told: true, group, role: ADMINISTRATOR, ..page(path, title, handler) }
}

const fn program(
    path: &'static str,
    title: &'static str,
    asks: &'static [Field],
    schema: &'static Schema,
    handler: Run,
) -> Endpoint {
    endpoint(path, title, Kind::Program, Gives::Json(schema), handler).asks(asks)
}

/// The same, in another group of operations.
const fn within(group: OperationGroup, endpoint: Endpoint) -> Endpoint {
    Endpoint { group: Some(group), ..endpoint }
}

/// The same, for people alone: a key must not make another one, or somebody who makes one.
const fn people(endpoint: Endpoint) -> Endpoint {
    Endpoint { group: None, ..endpoint }
}

/// The table. Where a literal and a name compete for a segment, the literal stands first. A restore is no
/// `change`: asked for during a restore it shall reach the domain, whose refusal names the running job; and the domain
/// refuses it in a read-only deployment.
#[rustfmt::skip]
pub(crate) static ENDPOINTS: &[Endpoint] = &[
    page("", "Start", |c| Box::pin(root::start(c))),
    page("static/style.css", "Style sheet", |c| Box::pin(root::style(c))),
    page("static/console.js", "Script", |c| Box::pin(root::script(c))),
    page("static/icon.svg", "Icon", |c| Box::pin(root::icon(c))),
    page("admin/login", "Sign in", |c| Box::pin(login::sign_in(c))),
    page("admin/oidc/start", "Sign in", |c| Box::pin(oidc::start(c))),
    Endpoint { told: true, ..page("admin/oidc/callback", "Sign in", |c| Box::pin(oidc::callback(c))) },
    page("admin/logout", "Sign out", |c| Box::pin(login::sign_out(c))),

    resource("sharing/rest", "Sharing", PUBLIC, &told::SHARING, |c| Box::pin(root::sharing(c))),
    resource("sharing/rest/info", "Server information", PUBLIC, &told::INFO, |c| Box::pin(root::info(c))),
    operation("sharing/rest/generateToken", "generate a token", PUBLIC, &forms::TOKEN, &told::TOKEN, |c| Box::pin(login::generate_token(c))),
    page("sharing/rest/oauth2/authorize", "Sign in", |c| Box::pin(oauth::authorize(c))).gives(Gives::Json(&told::OAUTH_STATE)).asks(forms::OAUTH_AUTHORIZE),
    page("sharing/oauth2/signin", "Sign in", |c| Box::pin(oauth::sign_in(c))),
    page("sharing/rest/oauth2/signin", "Sign in", |c| Box::pin(oauth::sign_in(c))),
    page("sharing/rest/oauth2/approval", "Signed in", |c| Box::pin(oauth::approval(c))),
    program("sharing/rest/oauth2/token", "exchange a code", forms::OAUTH_TOKEN, &told::OAUTH_TOKEN, |c| Box::pin(oauth::token(c))),
    program("sharing/rest/oauth2/revokeToken", "revoke a token", forms::OAUTH_REVOKE, &told::REVOKED, |c| Box::pin(oauth::revoke(c))),
    resource("sharing/rest/portals/self", "Portal", PUBLIC, &told::PORTAL, |c| Box::pin(portal::portal(c))),
    resource("sharing/rest/community/self", "Signed-in user", VIEWER, &told::PORTAL_USER, |c| Box::pin(portal::myself(c))),
    resource("sharing/rest/community/users/{user}", "User", VIEWER, &told::PORTAL_USER, |c| Box::pin(portal::one(c))),
    operation("admin/generateToken", "generate a token", PUBLIC, &forms::TOKEN, &told::TOKEN, |c| Box::pin(login::generate_token(c))),

    #[cfg(test)]
    resource("sharing/rest/failing", "A handler that panics", PUBLIC, &told::SUCCESS, |c| Box::pin(crate::tests::failing(c))),

    resource("admin", "Administration", VIEWER, &told::ADMIN, |c| Box::pin(root::admin(c))),
    people(operation("admin/password", "change your own password", VIEWER, &forms::OWN_PASSWORD, &told::SUCCESS, |c| Box::pin(users::own_password(c)))),
    people(resource("admin/users", "Users", ADMINISTRATOR, &told::USERS, |c| Box::pin(users::list(c)))),
    people(operation("admin/users/add", "add a user", ADMINISTRATOR, &forms::ADD_USER, &told::SUCCESS, |c| Box::pin(users::add(c)))),
    people(resource("admin/users/{user}", "User account", ADMINISTRATOR, &told::USER, |c| Box::pin(users::one(c)))),
    people(operation("admin/users/{user}/update", "update a user", ADMINISTRATOR, &forms::UPDATE_USER, &told::SUCCESS, |c| Box::pin(users::update(c)))),
    people(operation("admin/users/{user}/signOut", "sign a user out everywhere", ADMINISTRATOR, &forms::SIGN_OUT_USER, &told::SUCCESS, |c| Box::pin(users::sign_out(c)))),
    people(operation("admin/users/{user}/remove", "remove a user", ADMINISTRATOR, &forms::REMOVE_USER, &told::SUCCESS, |c| Box::pin(users::remove(c)))),
    people(resource("admin/keys", "API keys", ADMINISTRATOR, &told::KEYS, |c| Box::pin(keys::list(c)))),
    people(operation("admin/keys/create", "create an API key", ADMINISTRATOR, &forms::CREATE_KEY, &told::KEY_MADE, |c| Box::pin(keys::create(c)))),
    people(resource("admin/keys/{key}", "API key", ADMINISTRATOR, &told::KEY, |c| Box::pin(keys::one(c)))),
    people(operation("admin/keys/{key}/revoke", "revoke an API key", ADMINISTRATOR, &forms::REVOKE_KEY, &told::SUCCESS, |c| Box::pin(keys::revoke(c)))),
    resource("admin/audit", "Audit log", ADMINISTRATOR, &told::AUDIT, |c| Box::pin(audit::list(c))).asks(forms::AUDIT_PAGE),
    resource("admin/metrics", "Metrics", VIEWER, &told::SUCCESS, |c| Box::pin(metrics::metrics(c))).gives(Gives::Text("application/openmetrics-text")),
    resource("admin/openapi.json", "Description for programs", PUBLIC, &told::SUCCESS, |c| Box::pin(root::openapi(c))).gives(Gives::Document),
    resource("admin/notifications", "Notifications", OPERATOR, &told::TARGETS, |c| Box::pin(notifications::list(c))),
    operation("admin/notifications/test", "send a test notification", ADMINISTRATOR, &forms::TEST_NOTIFICATION, &told::TEST_NOTIFICATION, |c| Box::pin(notifications::test(c))),
    resource("admin/jobs", "Jobs", VIEWER, &told::JOBS, |c| Box::pin(jobs::list(c))),
    resource("admin/jobs/{job}", "Job", VIEWER, &told::JOB, |c| Box::pin(jobs::one(c))),
    page_for("admin/jobs/{job}/events", "Progress of a job", VIEWER, |c| Box::pin(events::follow(c))).gives(Gives::Events),
    within(Backup, operation("admin/jobs/{job}/cancel", "cancel a job", OPERATOR, &forms::CANCEL_JOB, &told::SUCCESS, |c| Box::pin(jobs::cancel(c)))),
    resource("admin/mode", "Mode", VIEWER, &told::MODE, |c| Box::pin(site::mode(c))),
    operation("admin/mode/update", "change the mode", ADMINISTRATOR, &forms::UPDATE_MODE, &told::MODE_UPDATED, |c| Box::pin(site::update_mode(c))),
    resource("admin/system", "System", VIEWER, &told::RESOURCES, |c| Box::pin(root::system(c))),
    resource("admin/system/components", "Components", VIEWER, &told::COMPONENTS, |c| Box::pin(components::list(c))),

    resource("admin/system/tasks", "Schedules and tasks", OPERATOR, &told::TASKS, |c| Box::pin(tasks::list(c))),
    within(Schedules, change("admin/system/tasks/createTask", "create a task", ADMINISTRATOR, &forms::CREATE_TASK, &told::TASK_DONE, |c| Box::pin(tasks::create(c)))),
    resource("admin/system/tasks/{task}", "Task", OPERATOR, &told::TASK, |c| Box::pin(tasks::one(c))),
    within(Schedules, change("admin/system/tasks/{task}/update", "update a task", ADMINISTRATOR, &forms::UPDATE_TASK, &told::TASK_DONE, |c| Box::pin(tasks::update(c)))),
    within(Schedules, change("admin/system/tasks/{task}/enable", "enable a task", ADMINISTRATOR, &forms::ENABLE_TASK, &told::TASK_DONE, |c| Box::pin(tasks::enable(c)))),
    within(Schedules, change("admin/system/tasks/{task}/disable", "disable a task", ADMINISTRATOR, &forms::DISABLE_TASK, &told::TASK_DONE, |c| Box::pin(tasks::disable(c)))),
    within(Schedules, change("admin/system/tasks/{task}/run", "run a task now", ADMINISTRATOR, &forms::RUN_TASK, &told::TASK_RUN, |c| Box::pin(tasks::run(c)))),
    within(Schedules, change("admin/system/tasks/{task}/delete", "delete a task", ADMINISTRATOR, &forms::DELETE_TASK, &told::TASK_DONE, |c| Box::pin(tasks::delete(c)))),
    resource("admin/system/tasks/{task}/runs", "Runs", OPERATOR, &told::RUNS, |c| Box::pin(tasks::runs(c))),
    resource("admin/system/tasks/{task}/runs/{run}", "Run", OPERATOR, &told::RUN, |c| Box::pin(tasks::one_run(c))),
    within(Schedules, change("admin/system/tasks/{task}/runs/{run}/update", "update a run", ADMINISTRATOR, &forms::UPDATE_RUN, &told::SUCCESS, |c| Box::pin(tasks::update_run(c)))),
    within(Schedules, change("admin/system/tasks/{task}/runs/{run}/delete", "delete a run", ADMINISTRATOR, &forms::DELETE_RUN, &told::SUCCESS, |c| Box::pin(tasks::delete_run(c)))),

    resource("admin/system/disasterrecovery", "Disaster recovery", VIEWER, &told::BELOW, |c| Box::pin(disaster_recovery::root(c))),
    resource("admin/system/disasterrecovery/status", "Last operation", VIEWER, &told::STATUS, |c| Box::pin(status::last(c))),
    resource("admin/system/disasterrecovery/settings", "Settings", VIEWER, &told::SETTINGS, |c| Box::pin(site::settings(c))),
    change("admin/system/disasterrecovery/settings/update", "update the settings", ADMINISTRATOR, &forms::UPDATE_SETTINGS, &told::SUCCESS, |c| Box::pin(site::update_settings(c))),
    resource("admin/system/disasterrecovery/stores", "Backup stores", VIEWER, &told::STORES, |c| Box::pin(stores::list(c))),
    change("admin/system/disasterrecovery/stores/register", "register a backup store", ADMINISTRATOR, &forms::REGISTER_STORE, &told::REGISTERED, |c| Box::pin(stores::register(c))),
    resource("admin/system/disasterrecovery/stores/{store}", "Backup store", VIEWER, &told::STORE, |c| Box::pin(stores::one(c))),
    change("admin/system/disasterrecovery/stores/{store}/update", "update a backup store", ADMINISTRATOR, &forms::UPDATE_STORE, &told::SUCCESS, |c| Box::pin(stores::update(c))),
    within(Backup, operation("admin/system/disasterrecovery/stores/{store}/validate", "validate a backup store", OPERATOR, &forms::VALIDATE_STORE, &told::VALIDATION, |c| Box::pin(stores::validate(c)))),
    change("admin/system/disasterrecovery/stores/{store}/unregister", "unregister a backup store", ADMINISTRATOR, &forms::UNREGISTER_STORE, &told::SUCCESS, |c| Box::pin(stores::unregister(c))),
    resource("admin/system/disasterrecovery/stores/{store}/backups", "Backups", VIEWER, &told::BACKUPS, |c| Box::pin(backups::list(c))).asks(forms::PAGE),
    backup("admin/system/disasterrecovery/stores/{store}/backups/create", "create a backup", OPERATOR, &forms::CREATE_BACKUP, told::JOB_ACCEPTED, |c| Box::pin(backups::create(c))),
    resource("admin/system/disasterrecovery/stores/{store}/backups/{backup}", "Backup", VIEWER, &told::BACKUP, |c| Box::pin(backups::one(c))),
    within(Restore, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/restore", "restore a backup", ADMINISTRATOR, &forms::RESTORE_BACKUP, &told::RESTORE, |c| Box::pin(restore::restore(c)))),
    change("admin/system/disasterrecovery/stores/{store}/backups/{backup}/update", "update a backup", ADMINISTRATOR, &forms::UPDATE_BACKUP, &told::SUCCESS, |c| Box::pin(backups::update(c))),
    within(Backup, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/validate", "validate a backup", OPERATOR, &forms::VALIDATE_BACKUP, &told::BACKUP_VALIDATION, |c| Box::pin(backups::validate(c)))),
    within(Backup, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/drill", "drill a backup", OPERATOR, &forms::DRILL_BACKUP, told::JOB_ACCEPTED, |c| Box::pin(drills::drill(c)))),
    resource("admin/system/disasterrecovery/stores/{store}/backups/{backup}/drills", "Drills", VIEWER, &told::DRILLS, |c| Box::pin(drills::list(c))),
    change("admin/system/disasterrecovery/stores/{store}/backups/{backup}/delete", "delete a backup", ADMINISTRATOR, &forms::DELETE_BACKUP, &told::DONE_OR_JOB, |c| Box::pin(backups::delete(c))),
    assistant("admin/system/disasterrecovery/stores/{store}/backups/{backup}/assistant", "Restore step by step", |c| Box::pin(assistant::choose(c))),
    assistant("admin/system/disasterrecovery/stores/{store}/backups/{backup}/assistant/plan", "Restore by the assistant", |c| Box::pin(assistant::plan(c))),
    look("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files", "Files of a backup", &told::FILES, |c| Box::pin(files::list(c))).asks(forms::FILES),
    within(Restore, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files/open", "open a backup to look at its files", ADMINISTRATOR, &forms::OPEN_FILES, &told::SUCCESS, |c| Box::pin(files::open(c)))),
    Endpoint { kind: Kind::Page, ..look("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files/download", "Download of a file", &told::SUCCESS, |c| Box::pin(files::download(c))) }.gives(Gives::Text("application/octet-stream")).asks(forms::FILE),
    within(Restore, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files/close", "close a backup's files", ADMINISTRATOR, &forms::CLOSE_FILES, &told::SUCCESS, |c| Box::pin(files::close(c)))),

    resource("admin/system/disasterrecovery/backuprestore", "Backup and restore (10.9)", VIEWER, &told::BELOW, |c| Box::pin(disaster_recovery::old_root(c))),
    resource("admin/system/disasterrecovery/backuprestore/status", "Last operation", VIEWER, &told::STATUS, |c| Box::pin(status::last(c))),
    backup("admin/system/disasterrecovery/backuprestore/backup", "create a backup", OPERATOR, &forms::CREATE_BACKUP_BY_STORE, told::JOB_ACCEPTED, |c| Box::pin(backups::create(c))),
    resource("admin/system/disasterrecovery/backuprestore/backups", "Backups", VIEWER, &told::BACKUPS, |c| Box::pin(backups::list(c))).asks(forms::PAGE),
    resource("admin/system/disasterrecovery/backuprestore/backups/{backup}", "Backup", VIEWER, &told::BACKUP, |c| Box::pin(backups::one(c))),
    within(Restore, operation("admin/system/disasterrecovery/backuprestore/backups/{backup}/restore", "restore a backup", ADMINISTRATOR, &forms::RESTORE_BACKUP_BY_STORE, &told::RESTORE, |c| Box::pin(restore::restore(c)))),
    within(Backup, operation("admin/system/disasterrecovery/backuprestore/backups/{backup}/validate", "validate a backup", OPERATOR, &forms::VALIDATE_BACKUP_BY_STORE, &told::BACKUP_VALIDATION, |c| Box::pin(backups::validate(c)))),
    change("admin/system/disasterrecovery/backuprestore/backups/{backup}/delete", "delete a backup", ADMINISTRATOR, &forms::DELETE_BACKUP_BY_STORE, &told::DONE_OR_JOB, |c| Box::pin(backups::delete(c))),
];

/// The names that stand in the path at the places of `{…}`.
pub(crate) type Names = Vec<(&'static str, String)>;

impl Endpoint {
    /// The segments of the path's pattern.
    pub fn pattern(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter(|segment| !segment.is_empty())
    }

    /// The names in `segments`, if this endpoint is meant.
    fn matched(&self, segments: &[String]) -> Option<Names> {
        if self.pattern().count() != segments.len() {
            return None;
        }
        let mut names = Names::new();
        for (pattern, segment) in self.pattern().zip(segments) {
            match placeholder(pattern) {
                Some(name) => names.push((name, segment.clone())),
                None if pattern == segment => {}
                None => return None,
            }
        }
        Some(names)
    }

    /// The last segment of the pattern.
    pub fn last(&self) -> &'static str {
        self.pattern().last().unwrap_or_default()
    }

    /// Where a request says which store it is about.
    pub fn store_in(&self) -> StoreIn {
        let old_layout = self.path.contains("/backuprestore/");
        if self.path.contains("{store}") {
            StoreIn::Path
        } else if self.path.contains("{job}") {
            StoreIn::Job
        } else if old_layout && (self.path.contains("{backup}") || self.last() == "backup") {
            StoreIn::Parameter
        } else {
            StoreIn::Nowhere
        }
    }

    /// Endpoints one segment below this one.
    pub fn children(&self) -> impl Iterator<Item = &'static Endpoint> {
        let (path, depth) = (self.path, self.pattern().count());
        ENDPOINTS.iter().filter(move |child| {
            !matches!(child.kind, Kind::Page | Kind::Program)
                && child.pattern().count() == depth + 1
                && child.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
        })
    }
}

/// The name in `{name}`.
pub(crate) fn placeholder(pattern: &'static str) -> Option<&'static str> {
    pattern.strip_prefix('{')?.strip_suffix('}')
}

/// The endpoint at these decoded segments under the context.
pub(crate) fn find(segments: &[String]) -> Option<(&'static Endpoint, Names)> {
    ENDPOINTS.iter().find_map(|endpoint| Some((endpoint, endpoint.matched(segments)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<(&'static str, Names)> {
        let (endpoint, names) = find(&crate::path::segments(path)?)?;
        Some((endpoint.path, names))
    }

    #[test]
    fn every_endpoint_is_found_under_its_own_path() {
        for endpoint in ENDPOINTS {
            let path = endpoint.path.replace(['{', '}'], "");
            let (pattern, names) = found(&path).expect(endpoint.path);
            assert_eq!(pattern, endpoint.path);
            assert_eq!(names.len(), endpoint.path.matches('{').count());
        }
    }

    #[test]
    fn literals_win_over_names_and_case_counts() {
        let stores = "admin/system/disasterrecovery/stores";
        assert_eq!(found(&format!("{stores}/register")).expect("register").0, format!("{stores}/register"));
        let (path, names) = found(&format!("{stores}/my%20store")).expect("store");
        assert_eq!(path, format!("{stores}/{{store}}"));
        assert_eq!(names, [("store", "my store".to_owned())]);
        assert!(found("admin/System").is_none());
        assert!(found("Admin").is_none());
    }

    #[test]
    fn what_is_not_in_the_table_is_not_found() {
        for path in
            ["admin/nope", "admin/system/disasterrecovery/stores/s/backups/b/export", "rest/services", "x"]
        {
            assert!(found(path).is_none(), "{path}");
        }
    }

    #[test]
    fn operations_that_remove_or_replace_need_an_administrator() {
        for endpoint in ENDPOINTS {
            let Kind::Operation(_) = endpoint.kind else { continue };
            let needed = match endpoint.last() {
                "generateToken" => None,
                "password" => VIEWER,
                "create" if endpoint.path.starts_with("admin/keys") => ADMINISTRATOR,
                "create" | "backup" | "validate" | "drill" | "cancel" => OPERATOR,
                _ => ADMINISTRATOR,
            };
            assert_eq!(endpoint.role, needed, "{}", endpoint.path);
        }
    }

    #[test]
    fn children_are_one_segment_below() {
        let (backup, _) =
            find(&["admin", "system", "disasterrecovery", "stores", "s", "backups", "b"].map(String::from))
                .expect("backup");
        let names: Vec<_> = backup.children().map(Endpoint::last).collect();
        assert_eq!(names, ["restore", "update", "validate", "drill", "drills", "delete", "files"]);
    }
}
