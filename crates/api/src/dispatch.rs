//! One request from its head to its reply: the checks in their fixed order, then the handler.
//!
//! ```text
//! body (413) → f (400) → token (498, 499) → route (404) → method (405) → privilege (403: role, then key) → read-only (423)
//!            → parameters as a whole (400) → handler: parameters, named things, conflicts, store, passcode
//! ```
//!
//! So nobody learns of names without a token, and an unknown backup is reported before a wrong passcode. The
//! checks and the handler run in a task of their own: a caller that goes away does not cut a change in half,
//! and a panic ends in an error reply instead of a broken connection.

use crate::body::{self, BodyError};
use crate::endpoints::{self, Endpoint, Kind, Names, Refused, StoreIn};
use crate::error::{self, ApiError, ApiResult};
use crate::format::Format;
use crate::log_ins::LogIns;
use crate::oidc::{Oidc, OidcSettings};
use crate::parameters::Parameters;
use crate::reply::{self, Reply, Response};
use crate::{handlers, outgoing, pages, path, session, token};
use hyper::body::{Body, Bytes};
use hyper::{HeaderMap, Method, Request, StatusCode};
use recovery::{AuditEntry, Caller, ErrorKind, Principal, Recovery};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::{Semaphore, watch};

/// Requests that are being handled at one time. Callers that go away leave theirs running, so connections and
/// streams alone do not bound them.
const HANDLED_MAX: usize = 512;

/// A path in the log is cut here: strangers can send long ones.
const LOGGED_PATH_CHARS: usize = 300;

/// What all requests share.
pub(crate) struct Site {
    pub recovery: Recovery,
    /// First path segment; none if the context is the root.
    pub context: Option<String>,
    /// What URLs in replies start with; no slash at the end.
    pub public_url: String,
    /// Whether browsers reach us over TLS, here or at a proxy in front.
    pub secure_cookies: bool,
    /// The provider through which people may sign in.
    pub oidc: Option<Oidc>,
    body_budget: Semaphore,
    turns: Arc<Semaphore>,
    pub log_ins: LogIns,
    /// Replies that are written bit by bit.
    pub streams: outgoing::Streams,
    /// Whether the server is about to stop.
    pub stopping: watch::Sender<bool>,
}

impl Site {
    pub fn new(recovery: Recovery, context: &str, public_url: &str, tls: bool) -> Self {
        let context = context.trim_matches('/');
        let public_url = public_url.trim_end_matches('/').to_owned();
        Self {
            recovery,
            context: (!context.is_empty()).then(|| context.to_owned()),
            secure_cookies: tls || public_url.starts_with("https://"),
            public_url,
            oidc: None,
            body_budget: Semaphore::new(body::BUDGET_BYTES),
            turns: Arc::new(Semaphore::new(HANDLED_MAX)),
            log_ins: LogIns::default(),
            streams: outgoing::Streams::default(),
            stopping: watch::Sender::new(false),
        }
    }

    /// The same, with a provider through which people may sign in.
    pub fn with_provider(self, settings: Option<OidcSettings>) -> Self {
        Self { oidc: settings.map(|settings| Oidc::new(settings, &self.public_url)), ..self }
    }

    /// The context as the beginning of a path: empty, or with a slash in front.
    pub fn context_path(&self) -> String {
        self.context.as_deref().map_or(String::new(), |context| format!("/{}", path::encode(context)))
    }
}

/// One request with all that is known of it.
pub(crate) struct Call {
    pub site: Arc<Site>,
    pub request_id: String,
    pub method: Method,
    /// Decoded segments under the context; empty if the path cannot be decoded.
    pub segments: Vec<String>,
    /// The line of the table, if there is one for this path.
    pub endpoint: Option<&'static Endpoint>,
    names: Names,
    pub format: Format,
    pub parameters: Parameters,
    pub headers: HeaderMap,
    pub address: IpAddr,
    /// What the request says about who asks; judged by [`Call::identify`].
    token: ApiResult<Option<String>>,
    /// Who asks; `None` at public endpoints.
    pub principal: Option<Principal>,
    /// The token of the cookie that the request rests on.
    pub session: Option<String>,
}

impl Call {
    /// The name at a place of the path.
    pub fn name(&self, place: &str) -> Option<&str> {
        self.names.iter().find(|(known, _)| *known == place).map(|(_, name)| name.as_str())
    }

    /// This request's path under the context, clean and encoded.
    pub fn path(&self) -> String {
        let under = if self.segments.is_empty() { String::new() } else { path::join(&self.segments) };
        self.site.context_path() + &under
    }

    /// Who asks and by which URL, for the row of a job.
    pub fn caller(&self) -> Caller {
        let username = self.principal.as_ref().map_or(String::new(), |principal| principal.username.clone());
        Caller { username, operation_uri: self.path(), request_id: self.request_id.clone() }
    }

    /// A domain result as the handler's.
    pub fn lift<T>(&self, result: recovery::Result<T>) -> ApiResult<T> {
        result.map_err(|error| error::from_recovery(error, &self.request_id))
    }

    /// The token that the request rests on, wherever it stood.
    pub fn credential(&self) -> Option<&str> {
        self.session.as_deref().or(self.token.as_ref().ok()?.as_deref())
    }

    /// Whether this request asks for the work and not for a look.
    pub fn is_post(&self) -> bool {
        self.method == Method::POST
    }

    /// Whether a page is wanted.
    pub fn is_html(&self) -> bool {
        self.format == Format::Html
    }

    /// The checks up to the parameters.
    async fn admit(&mut self) -> ApiResult<&'static Endpoint> {
        self.identify().await?;
        let endpoint = self.endpoint.ok_or_else(ApiError::unknown_url)?;
        self.check_method(endpoint)?;
        if let Some(role) = endpoint.role
            && self.principal.as_ref().is_none_or(|principal| principal.role < role)
        {
            return Err(ApiError::forbidden(&pages::purpose(endpoint), role));
        }
        self.check_key(endpoint).await?;
        if self.is_post() {
            let recovery = &self.site.recovery;
            let reason = match endpoint.refused {
                Refused::Never => Ok(None),
                Refused::WhileRestoring => recovery.restoring_reason().await,
                Refused::WhileReadOnly => recovery.read_only_reason().await,
            };
            if let Some(reason) = self.lift(reason)? {
                return Err(ApiError::new(423, "READ_ONLY", reason));
            }
        }
        self.parameters.whole()?;
        Ok(endpoint)
    }

    /// Whether the key that this request rests on is good for it: the one place where keys are bounded. What cannot be
    /// told to be about one of a key's stores is refused.
    async fn check_key(&self, endpoint: &Endpoint) -> ApiResult<()> {
        let Some(scope) = self.principal.as_ref().and_then(|principal| principal.key.as_ref()) else {
            return Ok(());
        };
        let beyond = |why: &str| Err(ApiError::beyond_key(&pages::purpose(endpoint), why));
        let Some(group) = endpoint.group else { return beyond("only a person who signed in can") };
        if !scope.operations.contains(&group) {
            return beyond(&format!("it is not good for the operations '{}'", group.name()));
        }
        if scope.stores.is_empty() {
            return Ok(());
        }
        match self.store_asked_about(endpoint).await? {
            Some(store) if scope.stores.contains(&store) => Ok(()),
            _ => beyond("it is good for some stores alone, and this request is not about one of them"),
        }
    }

    async fn store_asked_about(&self, endpoint: &Endpoint) -> ApiResult<Option<String>> {
        match endpoint.store_in() {
            StoreIn::Path => Ok(self.name("store").map(str::to_owned)),
            StoreIn::Parameter => Ok(self.parameters.text("storeName").map(str::to_owned)),
            StoreIn::Nowhere => Ok(None),
            StoreIn::Job => match self.site.recovery.job(self.name("job").unwrap_or_default()).await {
                Err(error) if error.kind == ErrorKind::JobNotFound => Ok(None),
                job => self.lift(job).map(|job| Some(job.store)),
            },
        }
    }

    /// Who asks, at a public endpoint that says more to those who do.
    pub async fn who_if_any(&self) -> ApiResult<Option<Principal>> {
        let Some(token) = self.token.clone()? else { return Ok(None) };
        let principal = self.lift(self.site.recovery.authenticate(&token).await)?;
        principal.ok_or_else(ApiError::token_invalid).map(Some)
    }

    /// Finds out who asks, where that matters: everywhere under `admin` but at the public endpoints.
    async fn identify(&mut self) -> ApiResult<()> {
        let guarded = match self.endpoint {
            Some(endpoint) => endpoint.role.is_some(),
            None => self.segments.first().is_none_or(|first| first == "admin"),
        };
        if !guarded {
            return Ok(());
        }
        let sent = self.token.clone()?;
        let by_cookie = sent.is_none() && self.is_html();
        let cookie =
            if by_cookie { session::cookie_token(&self.headers, self.site.secure_cookies) } else { None };
        let token = sent.or_else(|| cookie.clone()).ok_or_else(ApiError::token_required)?;
        let principal = self.lift(self.site.recovery.authenticate(&token).await)?;
        // Sessions are for people.
        let principal = principal.filter(|principal| cookie.is_none() || principal.key.is_none());
        self.principal = Some(principal.ok_or_else(ApiError::token_invalid)?);
        self.session = cookie;
        match &self.session {
            Some(token) if self.is_post() => {
                session::check_origin(&self.headers, &self.site.public_url)?;
                session::check_form(token, self.parameters.text(session::FORM_FIELD))
            }
            _ => Ok(()),
        }
    }

    fn check_method(&self, endpoint: &Endpoint) -> ApiResult<()> {
        let reading = matches!(self.method, Method::GET | Method::HEAD);
        match endpoint.kind {
            _ if self.is_post() => Ok(()),
            Kind::Resource | Kind::Page if reading => Ok(()),
            Kind::Resource | Kind::Page => Err(ApiError::method("GET or POST")),
            // A form is shown, unless somebody already put a secret into the URL.
            Kind::Operation(form)
                if reading && self.is_html() && !pages::has_secret(form, &self.parameters) =>
            {
                Ok(())
            }
            Kind::Operation(_) | Kind::Program => Err(ApiError::method("POST")),
        }
    }
}

/// Answers one request. Never fails: whatever happens ends in a reply.
pub(crate) async fn respond<B>(site: Arc<Site>, request: Request<B>, address: IpAddr) -> Response
where
    B: Body<Data = Bytes> + Unpin,
{
    let started = Instant::now();
    let request_id = uuid::Uuid::new_v4().to_string();
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let outcome = if let Some(response) = handlers::health::answer(&site, &head.method, &path).await {
        response
    } else {
        let received = body::read(body, &head.headers, &site.body_budget).await;
        let query = Parameters::from_form(head.uri.query().unwrap_or_default().as_bytes());
        match received {
            Err(refusal) => refuse_body(&site, refusal, &query, &head.headers),
            Ok(received) => {
                let body = body::parameters(&received.bytes, &head.headers).await;
                let identity = (request_id.clone(), address);
                answer(site.clone(), identity, (head.method.clone(), &path, head.headers), body, query).await
            }
        }
    };
    // The path alone: queries hold tokens.
    tracing::info!(
        request_id,
        method = %head.method,
        path = %path.chars().take(LOGGED_PATH_CHARS).collect::<String>().escape_debug(),
        status = outcome.status().as_u16(),
        code = reply::business_code(&outcome),
        address = %address,
        ms = started.elapsed().as_millis() as u64,
        "request"
    );
    let outcome = if head.method == Method::HEAD { reply::headers_alone(outcome) } else { outcome };
    reply::with_request_id(outcome, &request_id)
}

/// The reply to a body that could not be read.
fn refuse_body(site: &Site, refusal: BodyError, query: &Parameters, headers: &HeaderMap) -> Response {
    let format = Format::choose(query.text("f"), headers).unwrap_or(Format::Json);
    let (status, error) = match refusal {
        BodyError::TooLarge => (StatusCode::OK, ApiError::body_too_large(body::BODY_BYTES_MAX)),
        BodyError::TooSlow => (
            StatusCode::REQUEST_TIMEOUT,
            ApiError::new(408, "BODY_TOO_SLOW", "The request body did not arrive in time."),
        ),
        BodyError::Broken => (
            StatusCode::BAD_REQUEST,
            ApiError::new(400, "BODY_BROKEN", "The request body broke off before its announced end."),
        ),
    };
    // What is left of the body is not read, so the connection cannot be used again.
    reply::closing(reply::bare_error(site, status, format, &error))
}

async fn answer(
    site: Arc<Site>,
    (request_id, address): (String, IpAddr),
    (method, path, headers): (Method, &str, HeaderMap),
    body: Parameters,
    query: Parameters,
) -> Response {
    let token = token::find(&headers, &body, &query);
    let several = body.has_several("f") || query.has_several("f");
    let parameters = body.over(query);
    let format = match Format::choose(
        parameters.text("f").filter(|_| !several).or(several.then_some("?")),
        &headers,
    ) {
        Ok(format) => format,
        Err(error) => return reply::bare_error(&site, StatusCode::OK, Format::Json, &error),
    };
    let Some(segments) = under_context(&site, path) else {
        return reply::bare_error(&site, StatusCode::NOT_FOUND, format, &ApiError::unknown_url());
    };
    let found = segments.as_deref().and_then(endpoints::find);
    let (endpoint, names) = found.map_or((None, Names::new()), |(endpoint, names)| (Some(endpoint), names));
    let segments = segments.unwrap_or_default();
    let format = endpoint.map_or(format, |endpoint| endpoint.kind.format(format));
    let call = Call {
        site: site.clone(),
        request_id: request_id.clone(),
        method,
        segments,
        endpoint,
        names,
        format,
        parameters,
        headers,
        address,
        token,
        principal: None,
        session: None,
    };
    // Never closed, so the turn always comes.
    let turn = site.turns.clone().acquire_owned().await;
    let work = async move {
        let response = handle(call).await;
        drop(turn);
        response
    };
    tokio::spawn(work).await.unwrap_or_else(|failure| {
        tracing::error!(request_id, panicked = failure.is_panic(), "request handler ended without an answer");
        reply::bare_error(&site, StatusCode::OK, format, &ApiError::internal(&request_id))
    })
}

async fn handle(mut call: Call) -> Response {
    let admitted = call.admit().await;
    let call = Arc::new(call);
    let result = match admitted {
        Ok(endpoint) if !call.is_post() && endpoint.kind.form().is_some() => Ok(Reply::Form),
        Ok(endpoint) => (endpoint.handler)(call.clone()).await,
        Err(error) => Err(error),
    };
    if let Some((entry, is_log_in)) = audited(&call, &result) {
        call.site.recovery.record(entry, is_log_in).await;
    }
    reply::render(&call, result)
}

/// Endpoints at which people and programs sign in.
const SIGN_INS: [&str; 4] = ["login", "signin", "generateToken", CALLBACK];
/// Where browsers come back to from a provider, with GET.
const CALLBACK: &str = "callback";

/// The line for the audit log, if the request asked for a change, was a look into a backup, or a log-in; and whether it
/// was the latter. What was
/// refused before anybody was known to ask is not told, nor are log-ins without name and password: strangers must not
/// fill the log.
fn audited(call: &Call, result: &ApiResult<Reply>) -> Option<(AuditEntry, bool)> {
    let endpoint = call.endpoint.filter(|endpoint| call.is_post() || endpoint.told)?;
    let is_log_in = endpoint.role.is_none() && SIGN_INS.contains(&endpoint.last());
    let is_change = (endpoint.kind.form().is_some() || endpoint.told) && call.principal.is_some();
    let (code, message_code) = match result {
        Ok(Reply::SignIn { error: Some(_), .. } | Reply::Authorize { refused: true, .. }) => {
            (400, "LOGIN_FAILED")
        }
        Ok(_) => (0, ""),
        Err(error) => (error.code, error.message_code),
    };
    let was_tried = code == 0 || message_code == "LOGIN_FAILED";
    if !(is_change || is_log_in && was_tried) {
        return None;
    }
    let typed = || match result {
        Ok(Reply::SignedIn { username, .. }) => username.clone(),
        _ if endpoint.last() == CALLBACK => "oidc:".to_owned(),
        _ => call.parameters.text("username").unwrap_or_default().to_owned(),
    };
    let job_id = match result {
        Ok(Reply::Accepted(_, id)) => id.clone(),
        _ => String::new(),
    };
    let entry = AuditEntry {
        username: call.principal.as_ref().map_or_else(typed, |principal| principal.username.clone()),
        address: call.address.to_string(),
        operation: endpoint.title.to_lowercase(),
        path: path_told(call, endpoint),
        code,
        message_code: message_code.to_owned(),
        job_id,
        request_id: call.request_id.clone(),
    };
    Some((entry, is_log_in))
}

/// The path, and what of a look or of something new is named in a parameter.
fn path_told(call: &Call, endpoint: &Endpoint) -> String {
    if endpoint.told {
        return handlers::files::told(call);
    }
    let parameter = match endpoint.last() {
        "create" | "backup" => "name",
        "add" => "username",
        "register" => "storeName",
        "createTask" => "title",
        _ => return call.path(),
    };
    let name = call.parameters.text(parameter);
    name.map_or_else(|| call.path(), |name| format!("{}?{parameter}={name}", call.path()))
}

/// The segments under the context: `None` outside of it, `Some(None)` for a path below it that cannot be
/// decoded.
fn under_context(site: &Site, path: &str) -> Option<Option<Vec<String>>> {
    let Some(mut segments) = path::segments(path) else {
        let first = path.split('/').find(|segment| !segment.is_empty());
        let inside = site.context.as_deref().is_none_or(|context| first == Some(context));
        return inside.then_some(None);
    };
    if let Some(context) = &site.context {
        if segments.first() != Some(context) {
            return None;
        }
        segments.remove(0);
    }
    Some(Some(segments))
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
