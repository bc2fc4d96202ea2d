//! Everything that is served under the context: one line an endpoint.
//!
//! To add one: a line in [`ENDPOINTS`] and a handler. Route, method, privilege, the read-only rule, the form
//! page, links between pages and the tests over all endpoints follow from the line.

use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::format::Format;
use crate::handlers::{
    audit, backups, disaster_recovery, events, files, jobs, keys, login, metrics, oauth, portal, restore,
    root, site, status, stores, tasks, users,
};
use crate::pages::forms::{self, Form};
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

const fn resource(path: &'static str, title: &'static str, role: Option<Role>, handler: Run) -> Endpoint {
    let (group, refused) = (Some(OperationGroup::Read), Refused::Never);
    Endpoint { path, title, kind: Kind::Resource, role, group, refused, told: false, handler }
}

/// A resource that lets somebody see what is in a backup.
const fn look(path: &'static str, title: &'static str, handler: Run) -> Endpoint {
    let group = Some(OperationGroup::Restore);
    Endpoint { told: true, group, ..resource(path, title, ADMINISTRATOR, handler) }
}

/// An operation that works at all times.
const fn operation(
    path: &'static str,
    title: &'static str,
    role: Option<Role>,
    form: &'static Form,
    handler: Run,
) -> Endpoint {
    let (group, refused) = (Some(OperationGroup::Manage), Refused::Never);
    Endpoint { path, title, kind: Kind::Operation(form), role, group, refused, told: false, handler }
}

/// An operation that is refused while a restore runs.
const fn backup(
    path: &'static str,
    title: &'static str,
    role: Option<Role>,
    form: &'static Form,
    handler: Run,
) -> Endpoint {
    let group = Some(OperationGroup::Backup);
    Endpoint { group, refused: Refused::WhileRestoring, ..operation(path, title, role, form, handler) }
}

/// An operation that is refused while a restore runs or the deployment is read-only.
const fn change(
    path: &'static str,
    title: &'static str,
    role: Option<Role>,
    form: &'static Form,
    handler: Run,
) -> Endpoint {
    Endpoint { refused: Refused::WhileReadOnly, ..operation(path, title, role, form, handler) }
}

const fn page(path: &'static str, title: &'static str, handler: Run) -> Endpoint {
    let (role, group, refused) = (PUBLIC, None, Refused::Never);
    Endpoint { path, title, kind: Kind::Page, role, group, refused, told: false, handler }
}

/// A page for those who may look.
const fn page_for(path: &'static str, title: &'static str, role: Option<Role>, handler: Run) -> Endpoint {
    Endpoint { role, group: Some(OperationGroup::Read), ..page(path, title, handler) }
}

const fn program(path: &'static str, title: &'static str, handler: Run) -> Endpoint {
    let (role, group, refused) = (PUBLIC, None, Refused::Never);
    Endpoint { path, title, kind: Kind::Program, role, group, refused, told: false, handler }
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
    page("admin/logout", "Sign out", |c| Box::pin(login::sign_out(c))),

    resource("sharing/rest", "Sharing", PUBLIC, |c| Box::pin(root::sharing(c))),
    resource("sharing/rest/info", "Server information", PUBLIC, |c| Box::pin(root::info(c))),
    operation("sharing/rest/generateToken", "generate a token", PUBLIC, &forms::TOKEN, |c| Box::pin(login::generate_token(c))),
    page("sharing/rest/oauth2/authorize", "Sign in", |c| Box::pin(oauth::authorize(c))),
    page("sharing/oauth2/signin", "Sign in", |c| Box::pin(oauth::sign_in(c))),
    page("sharing/rest/oauth2/signin", "Sign in", |c| Box::pin(oauth::sign_in(c))),
    page("sharing/rest/oauth2/approval", "Signed in", |c| Box::pin(oauth::approval(c))),
    program("sharing/rest/oauth2/token", "exchange a code", |c| Box::pin(oauth::token(c))),
    program("sharing/rest/oauth2/revokeToken", "revoke a token", |c| Box::pin(oauth::revoke(c))),
    resource("sharing/rest/portals/self", "Portal", PUBLIC, |c| Box::pin(portal::portal(c))),
    resource("sharing/rest/community/self", "Signed-in user", VIEWER, |c| Box::pin(portal::myself(c))),
    resource("sharing/rest/community/users/{user}", "User", VIEWER, |c| Box::pin(portal::one(c))),
    operation("admin/generateToken", "generate a token", PUBLIC, &forms::TOKEN, |c| Box::pin(login::generate_token(c))),

    #[cfg(test)]
    resource("sharing/rest/failing", "A handler that panics", PUBLIC, |c| Box::pin(crate::tests::failing(c))),

    resource("admin", "Administration", VIEWER, |c| Box::pin(root::admin(c))),
    people(operation("admin/password", "change your own password", VIEWER, &forms::OWN_PASSWORD, |c| Box::pin(users::own_password(c)))),
    people(resource("admin/users", "Users", ADMINISTRATOR, |c| Box::pin(users::list(c)))),
    people(operation("admin/users/add", "add a user", ADMINISTRATOR, &forms::ADD_USER, |c| Box::pin(users::add(c)))),
    people(resource("admin/users/{user}", "User account", ADMINISTRATOR, |c| Box::pin(users::one(c)))),
    people(operation("admin/users/{user}/update", "update a user", ADMINISTRATOR, &forms::UPDATE_USER, |c| Box::pin(users::update(c)))),
    people(operation("admin/users/{user}/signOut", "sign a user out everywhere", ADMINISTRATOR, &forms::SIGN_OUT_USER, |c| Box::pin(users::sign_out(c)))),
    people(operation("admin/users/{user}/remove", "remove a user", ADMINISTRATOR, &forms::REMOVE_USER, |c| Box::pin(users::remove(c)))),
    people(resource("admin/keys", "API keys", ADMINISTRATOR, |c| Box::pin(keys::list(c)))),
    people(operation("admin/keys/create", "create an API key", ADMINISTRATOR, &forms::CREATE_KEY, |c| Box::pin(keys::create(c)))),
    people(resource("admin/keys/{key}", "API key", ADMINISTRATOR, |c| Box::pin(keys::one(c)))),
    people(operation("admin/keys/{key}/revoke", "revoke an API key", ADMINISTRATOR, &forms::REVOKE_KEY, |c| Box::pin(keys::revoke(c)))),
    resource("admin/audit", "Audit log", ADMINISTRATOR, |c| Box::pin(audit::list(c))),
    resource("admin/metrics", "Metrics", VIEWER, |c| Box::pin(metrics::metrics(c))),
    resource("admin/jobs", "Jobs", VIEWER, |c| Box::pin(jobs::list(c))),
    resource("admin/jobs/{job}", "Job", VIEWER, |c| Box::pin(jobs::one(c))),
    page_for("admin/jobs/{job}/events", "Progress of a job", VIEWER, |c| Box::pin(events::follow(c))),
    within(Backup, operation("admin/jobs/{job}/cancel", "cancel a job", OPERATOR, &forms::CANCEL_JOB, |c| Box::pin(jobs::cancel(c)))),
    resource("admin/mode", "Mode", VIEWER, |c| Box::pin(site::mode(c))),
    operation("admin/mode/update", "change the mode", ADMINISTRATOR, &forms::UPDATE_MODE, |c| Box::pin(site::update_mode(c))),
    resource("admin/system", "System", VIEWER, |c| Box::pin(root::system(c))),

    resource("admin/system/tasks", "Schedules and tasks", OPERATOR, |c| Box::pin(tasks::list(c))),
    within(Schedules, change("admin/system/tasks/createTask", "create a task", ADMINISTRATOR, &forms::CREATE_TASK, |c| Box::pin(tasks::create(c)))),
    resource("admin/system/tasks/{task}", "Task", OPERATOR, |c| Box::pin(tasks::one(c))),
    within(Schedules, change("admin/system/tasks/{task}/update", "update a task", ADMINISTRATOR, &forms::UPDATE_TASK, |c| Box::pin(tasks::update(c)))),
    within(Schedules, change("admin/system/tasks/{task}/enable", "enable a task", ADMINISTRATOR, &forms::ENABLE_TASK, |c| Box::pin(tasks::enable(c)))),
    within(Schedules, change("admin/system/tasks/{task}/disable", "disable a task", ADMINISTRATOR, &forms::DISABLE_TASK, |c| Box::pin(tasks::disable(c)))),
    within(Schedules, change("admin/system/tasks/{task}/run", "run a task now", ADMINISTRATOR, &forms::RUN_TASK, |c| Box::pin(tasks::run(c)))),
    within(Schedules, change("admin/system/tasks/{task}/delete", "delete a task", ADMINISTRATOR, &forms::DELETE_TASK, |c| Box::pin(tasks::delete(c)))),
    resource("admin/system/tasks/{task}/runs", "Runs", OPERATOR, |c| Box::pin(tasks::runs(c))),
    resource("admin/system/tasks/{task}/runs/{run}", "Run", OPERATOR, |c| Box::pin(tasks::one_run(c))),
    within(Schedules, change("admin/system/tasks/{task}/runs/{run}/update", "update a run", ADMINISTRATOR, &forms::UPDATE_RUN, |c| Box::pin(tasks::update_run(c)))),
    within(Schedules, change("admin/system/tasks/{task}/runs/{run}/delete", "delete a run", ADMINISTRATOR, &forms::DELETE_RUN, |c| Box::pin(tasks::delete_run(c)))),

    resource("admin/system/disasterrecovery", "Disaster recovery", VIEWER, |c| Box::pin(disaster_recovery::root(c))),
    resource("admin/system/disasterrecovery/status", "Last operation", VIEWER, |c| Box::pin(status::last(c))),
    resource("admin/system/disasterrecovery/settings", "Settings", VIEWER, |c| Box::pin(site::settings(c))),
    change("admin/system/disasterrecovery/settings/update", "update the settings", ADMINISTRATOR, &forms::UPDATE_SETTINGS, |c| Box::pin(site::update_settings(c))),
    resource("admin/system/disasterrecovery/stores", "Backup stores", VIEWER, |c| Box::pin(stores::list(c))),
    change("admin/system/disasterrecovery/stores/register", "register a backup store", ADMINISTRATOR, &forms::REGISTER_STORE, |c| Box::pin(stores::register(c))),
    resource("admin/system/disasterrecovery/stores/{store}", "Backup store", VIEWER, |c| Box::pin(stores::one(c))),
    change("admin/system/disasterrecovery/stores/{store}/update", "update a backup store", ADMINISTRATOR, &forms::UPDATE_STORE, |c| Box::pin(stores::update(c))),
    within(Backup, operation("admin/system/disasterrecovery/stores/{store}/validate", "validate a backup store", OPERATOR, &forms::VALIDATE_STORE, |c| Box::pin(stores::validate(c)))),
    change("admin/system/disasterrecovery/stores/{store}/unregister", "unregister a backup store", ADMINISTRATOR, &forms::UNREGISTER_STORE, |c| Box::pin(stores::unregister(c))),
    resource("admin/system/disasterrecovery/stores/{store}/backups", "Backups", VIEWER, |c| Box::pin(backups::list(c))),
    backup("admin/system/disasterrecovery/stores/{store}/backups/create", "create a backup", OPERATOR, &forms::CREATE_BACKUP, |c| Box::pin(backups::create(c))),
    resource("admin/system/disasterrecovery/stores/{store}/backups/{backup}", "Backup", VIEWER, |c| Box::pin(backups::one(c))),
    within(Restore, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/restore", "restore a backup", ADMINISTRATOR, &forms::RESTORE_BACKUP, |c| Box::pin(restore::restore(c)))),
    change("admin/system/disasterrecovery/stores/{store}/backups/{backup}/update", "update a backup", ADMINISTRATOR, &forms::UPDATE_BACKUP, |c| Box::pin(backups::update(c))),
    within(Backup, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/validate", "validate a backup", OPERATOR, &forms::VALIDATE_BACKUP, |c| Box::pin(backups::validate(c)))),
    change("admin/system/disasterrecovery/stores/{store}/backups/{backup}/delete", "delete a backup", ADMINISTRATOR, &forms::DELETE_BACKUP, |c| Box::pin(backups::delete(c))),
    look("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files", "Files", |c| Box::pin(files::list(c))),
    within(Restore, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files/open", "open a backup to look at its files", ADMINISTRATOR, &forms::OPEN_FILES, |c| Box::pin(files::open(c)))),
    Endpoint { kind: Kind::Page, ..look("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files/download", "Download of a file", |c| Box::pin(files::download(c))) },
    within(Restore, operation("admin/system/disasterrecovery/stores/{store}/backups/{backup}/files/close", "close a backup's files", ADMINISTRATOR, &forms::CLOSE_FILES, |c| Box::pin(files::close(c)))),

    resource("admin/system/disasterrecovery/backuprestore", "Backup and restore (10.9)", VIEWER, |c| Box::pin(disaster_recovery::old_root(c))),
    resource("admin/system/disasterrecovery/backuprestore/status", "Last operation", VIEWER, |c| Box::pin(status::last(c))),
    backup("admin/system/disasterrecovery/backuprestore/backup", "create a backup", OPERATOR, &forms::CREATE_BACKUP_BY_STORE, |c| Box::pin(backups::create(c))),
    resource("admin/system/disasterrecovery/backuprestore/backups", "Backups", VIEWER, |c| Box::pin(backups::list(c))),
    resource("admin/system/disasterrecovery/backuprestore/backups/{backup}", "Backup", VIEWER, |c| Box::pin(backups::one(c))),
    within(Restore, operation("admin/system/disasterrecovery/backuprestore/backups/{backup}/restore", "restore a backup", ADMINISTRATOR, &forms::RESTORE_BACKUP_BY_STORE, |c| Box::pin(restore::restore(c)))),
    within(Backup, operation("admin/system/disasterrecovery/backuprestore/backups/{backup}/validate", "validate a backup", OPERATOR, &forms::VALIDATE_BACKUP_BY_STORE, |c| Box::pin(backups::validate(c)))),
    change("admin/system/disasterrecovery/backuprestore/backups/{backup}/delete", "delete a backup", ADMINISTRATOR, &forms::DELETE_BACKUP_BY_STORE, |c| Box::pin(backups::delete(c))),
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
                "create" | "backup" | "validate" | "cancel" => OPERATOR,
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
        assert_eq!(names, ["restore", "update", "validate", "delete", "files"]);
    }
}
