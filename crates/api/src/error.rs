//! The error envelope, and the only map from the domain's errors to the wire.
//!
//! The HTTP status stays 200 for all of these (see the crate's header); `code` tells the class and
//! `messageCode`, which is stable, tells programs exactly what happened.

use recovery::ErrorKind;
use serde_json::{Value, json};

/// A request that is refused or failed, as the caller sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiError {
    /// Class of the error: 400, 403, 404, 405, 409, 413, 423, 498, 499, 500, 501, 503, 507.
    pub code: u16,
    /// Stable name for programs.
    pub message_code: &'static str,
    /// For people: what, on what, why, what to do.
    pub message: String,
    /// Further lines; never absent in the envelope, as a known client needs the key.
    pub details: Vec<String>,
}

/// What a handler answers when it refuses.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error without details.
    pub fn new(code: u16, message_code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message_code, message: message.into(), details: Vec::new() }
    }

    /// 400 for a parameter that is not there.
    pub fn missing(parameter: &str, expected: &str) -> Self {
        Self::new(400, "PARAM_MISSING", format!("Parameter '{parameter}' is missing: {expected}."))
    }

    /// 400 for a parameter whose value cannot be taken. The value itself is not repeated: it may be a secret.
    pub fn invalid(parameter: &str, expected: &str) -> Self {
        Self::new(400, "PARAM_INVALID", format!("Parameter '{parameter}' is not valid: {expected}."))
    }

    /// 400 for a parameter that should hold a JSON object.
    pub fn not_an_object(parameter: &str) -> Self {
        Self::new(
            400,
            "JSON_INVALID",
            format!("Parameter '{parameter}' is not valid: expected a JSON object."),
        )
    }

    /// 404 for a path that is not served.
    pub fn unknown_url() -> Self {
        Self::new(404, "URL_NOT_FOUND", "There is no resource or operation at this URL.")
    }

    /// 405; `allowed` names what would have worked.
    pub fn method(allowed: &str) -> Self {
        Self::new(405, "METHOD_NOT_ALLOWED", format!("This method is not allowed here; use {allowed}."))
    }

    /// 403 naming the operation.
    pub fn forbidden(operation: &str, role: recovery::Role) -> Self {
        let message = format!("You are not allowed to {operation}: it needs the role {}.", role_name(role));
        Self::new(403, "FORBIDDEN", message)
    }

    /// 403 for a key that is not good for this.
    pub fn beyond_key(operation: &str, why: &str) -> Self {
        Self::new(403, "FORBIDDEN", format!("This key cannot be used to {operation}: {why}."))
    }

    /// 499: nobody has said who asks. The text is fixed by what clients look for.
    pub fn token_required() -> Self {
        Self::new(499, "TOKEN_REQUIRED", "Token Required")
    }

    /// 498: the token is unknown, expired, or two different ones were sent. The text is fixed as well.
    pub fn token_invalid() -> Self {
        Self::new(498, "TOKEN_INVALID", "Invalid Token")
    }

    /// 413: the body is over the limit.
    pub fn body_too_large(limit_bytes: usize) -> Self {
        Self::new(413, "BODY_TOO_LARGE", format!("The request body is larger than {limit_bytes} bytes."))
    }

    /// 501: documented, but not in this build.
    pub fn not_supported(what: impl Into<String>) -> Self {
        Self::new(501, "NOT_SUPPORTED", what)
    }

    /// 500: our fault. What happened is in the log beside the request id.
    pub fn internal(request_id: &str) -> Self {
        let message = "The server failed at this request; its log names the cause beside the request id.";
        Self::new(500, "INTERNAL", message).detail(format!("requestId={request_id}"))
    }

    /// Adds one line of detail.
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }

    /// The body of the reply.
    pub fn envelope(&self) -> Value {
        let details: Vec<String> = self.details.iter().map(|line| self.quiet(line)).collect();
        let mut error = json!({
            "code": self.code, "messageCode": self.message_code,
            "message": self.quiet(&self.message), "details": details,
        });
        // What OAuth calls it.
        if let Some(name) = self.message_code.strip_prefix("OAUTH_") {
            error["error"] = json!(name.to_lowercase());
            error["error_description"] = error["message"].clone();
        }
        json!({"error": error})
    }

    /// Clients drop their token when they read certain phrases, wherever these stand, so a name that somebody
    /// chose must not bring one into another message: its blanks become no-break spaces.
    fn quiet(&self, text: &str) -> String {
        const PHRASES: [&str; 3] = ["invalid token", "token required", "token is valid but access is denied"];
        let lower = text.to_lowercase();
        if matches!(self.code, 498 | 499) || !PHRASES.iter().any(|phrase| lower.contains(phrase)) {
            return text.to_owned();
        }
        text.replace(' ', "\u{a0}")
    }
}

/// A role as it is called in messages.
pub(crate) fn role_name(role: recovery::Role) -> &'static str {
    match role {
        recovery::Role::Viewer => "viewer",
        recovery::Role::Operator => "operator",
        recovery::Role::Administrator => "administrator",
    }
}

/// Code and stable name for each kind of domain error.
pub(crate) fn wire_code(kind: ErrorKind) -> (u16, &'static str) {
    match kind {
        ErrorKind::ParameterMissing => (400, "PARAM_MISSING"),
        ErrorKind::ParameterInvalid => (400, "PARAM_INVALID"),
        ErrorKind::NameInvalid => (400, "NAME_INVALID"),
        ErrorKind::PasscodeShort => (400, "DR_PASSCODE_SHORT"),
        ErrorKind::PasscodeWrong => (400, "DR_PASSCODE_WRONG"),
        ErrorKind::RetentionInvalid => (400, "DR_RETENTION_INVALID"),
        ErrorKind::LoginFailed => (400, "LOGIN_FAILED"),
        ErrorKind::Forbidden => (403, "FORBIDDEN"),
        ErrorKind::StoreNotFound => (404, "STORE_NOT_FOUND"),
        ErrorKind::BackupNotFound => (404, "BACKUP_NOT_FOUND"),
        ErrorKind::JobNotFound => (404, "JOB_NOT_FOUND"),
        ErrorKind::UserNotFound => (404, "USER_NOT_FOUND"),
        ErrorKind::KeyNotFound => (404, "KEY_NOT_FOUND"),
        ErrorKind::LastAdministrator => (409, "LAST_ADMINISTRATOR"),
        ErrorKind::TaskNotFound => (404, "TASK_NOT_FOUND"),
        ErrorKind::RunNotFound => (404, "RUN_NOT_FOUND"),
        ErrorKind::StoreExists => (409, "DR_STORE_EXISTS"),
        ErrorKind::BackupExists => (409, "DR_BACKUP_EXISTS"),
        ErrorKind::LocationInUse => (409, "DR_LOCATION_IN_USE"),
        ErrorKind::StoreInUse => (409, "DR_STORE_IN_USE"),
        ErrorKind::BackupInUse => (409, "DR_BACKUP_IN_USE"),
        ErrorKind::TaskInUse => (409, "TASK_IN_USE"),
        // The work of another caller, or the end of this server, stands in the way: ask again later.
        ErrorKind::Busy | ErrorKind::Cancelled | ErrorKind::LeaseLost => (409, "DR_BUSY"),
        // What is damaged in the store is named in the message; the backup cannot be used as it is.
        ErrorKind::NotRestorable | ErrorKind::Damaged => (409, "DR_BACKUP_NOT_RESTORABLE"),
        ErrorKind::Incompatible => (409, "DR_INCOMPATIBLE"),
        ErrorKind::Ambiguous => (409, "DR_AMBIGUOUS"),
        ErrorKind::ReadOnly => (423, "READ_ONLY"),
        ErrorKind::NotSupported => (501, "NOT_SUPPORTED"),
        ErrorKind::StoreUnreachable => (503, "STORE_UNREACHABLE"),
        ErrorKind::NoSpace => (507, "NO_SPACE"),
        ErrorKind::AlreadyRunning | ErrorKind::Configuration | ErrorKind::Internal => (500, "INTERNAL"),
    }
}

/// The domain's error for the caller. What is our own fault goes to the log in full, and to the caller as the
/// request id alone.
pub(crate) fn from_recovery(error: recovery::Error, request_id: &str) -> ApiError {
    let (code, message_code) = wire_code(error.kind);
    if code == 500 {
        tracing::error!(request_id, error = ?causes(&error), "request failed");
        return ApiError::internal(request_id);
    }
    if let Some(source) = &error.source {
        tracing::warn!(request_id, message_code, cause = ?source.to_string(), "request refused");
    }
    ApiError { code, message_code, message: error.message, details: error.details }
}

/// An error and what lies below it, outermost first.
fn causes(error: &dyn std::error::Error) -> Vec<String> {
    let mut chain = vec![error.to_string()];
    let mut next = error.source();
    while let (Some(cause), true) = (next, chain.len() < 16) {
        chain.push(cause.to_string());
        next = cause.source();
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_has_code_name_message_and_details_even_when_these_are_empty() {
        let envelope = ApiError::new(409, "DR_BUSY", "A backup runs.").envelope();
        let expected =
            r#"{"error":{"code":409,"messageCode":"DR_BUSY","message":"A backup runs.","details":[]}}"#;
        assert_eq!(envelope.to_string(), expected);
    }

    #[test]
    fn phrases_that_make_clients_drop_their_token_stay_with_the_token_errors() {
        assert_eq!(ApiError::token_invalid().envelope()["error"]["message"], "Invalid Token");
        assert_eq!(ApiError::token_required().envelope()["error"]["message"], "Token Required");
        let named = ApiError::new(404, "BACKUP_NOT_FOUND", "Backup 'INVALID Token' is unknown.").envelope();
        let message = named["error"]["message"].as_str().expect("text").to_lowercase();
        assert!(!message.contains("invalid token"), "{message}");
        assert!(message.contains("invalid\u{a0}token"));
    }

    #[test]
    fn our_own_faults_reach_the_caller_as_a_request_id_alone() {
        let inner = recovery::Error::new(ErrorKind::Internal, "table jobs is locked").detail("row 7");
        let error = from_recovery(inner, "r-1");
        assert_eq!((error.code, error.message_code), (500, "INTERNAL"));
        assert_eq!(error.details, ["requestId=r-1"]);
        assert!(!error.message.contains("jobs"));
    }

    #[test]
    fn what_the_domain_refuses_keeps_its_message_and_details() {
        let inner = recovery::Error::new(ErrorKind::Busy, "A backup runs.").detail("jobid=j1");
        let error = from_recovery(inner, "r-1");
        assert_eq!((error.code, error.message_code), (409, "DR_BUSY"));
        assert_eq!(error.message, "A backup runs.");
        assert_eq!(error.details, ["jobid=j1"]);
    }
}
