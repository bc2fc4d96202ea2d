//! Every way in which a call fails: what is said, which exit code it is, what to do.

use serde_json::Value;
use ureq::Timeout;

use crate::exit::Exit;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody answered, so nothing was done.
    #[error("no server answers at {server}: {reason}")]
    Unreachable {
        /// Its URL.
        server: String,
        /// What the machine says.
        reason: String,
    },
    /// Somebody answered whom nobody vouches for. Nothing was sent.
    #[error("the certificate of {server} is not trusted: {reason}")]
    Untrusted {
        /// Its URL.
        server: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The connection ended between request and answer.
    #[error("{server} broke off before it answered: {reason}")]
    Lost {
        /// Its URL.
        server: String,
        /// What the machine says.
        reason: String,
        /// Whether the request was one that changes something.
        changes: bool,
    },
    /// What answers is not what we know.
    #[error("{server} does not answer as Strongroom does: {reason}")]
    Foreign {
        /// Its URL.
        server: String,
        /// What it did.
        reason: String,
    },
    /// The token is unknown or has expired, or there is none.
    #[error("you are not logged in to {server}, or no longer; or the key was revoked or has ended")]
    LoggedOut {
        /// Its URL.
        server: String,
    },
    /// The server refuses.
    #[error("{message}")]
    Refused {
        /// The stable name of the reason.
        code: String,
        /// For people.
        message: String,
        /// Further lines.
        details: Vec<String>,
    },
}

impl Error {
    /// The exit code that it stands for.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Foreign { .. } | Self::LoggedOut { .. } => {
                Exit::Failed
            }
            Self::Untrusted { .. } => Exit::Usage,
            // Not damaged, but still being made, or deleted, by that job.
            Self::Refused { code, details, .. }
                if code == "DR_BACKUP_NOT_RESTORABLE"
                    && details.iter().any(|line| line.starts_with("jobid=")) =>
            {
                Exit::Locked
            }
            Self::Refused { code, .. } => exit_of(code),
        }
    }

    /// What to do about it.
    pub fn hints(&self) -> Vec<String> {
        let line = |text: &str| vec![text.to_owned()];
        match self {
            Self::Unreachable { .. } => line("is the server running, and is its URL right? See --server"),
            Self::Untrusted { .. } => {
                line("if it is your server, name its certificate, or that of who signed it: --ca-file FILE")
            }
            Self::Lost { changes: true, .. } => line(
                "whether it was done is not known: look before you do it again, as with `strongroom job list`",
            ),
            Self::Lost { .. } => Vec::new(),
            Self::Foreign { .. } => {
                line("is --server right? It ends with the context, such as https://127.0.0.1:7443/strongroom")
            }
            Self::LoggedOut { server } => vec![format!("log in: strongroom login --server {server}")],
            Self::Refused { details, .. } => details.iter().map(|detail| advice(detail)).collect(),
        }
    }

    /// Whether the same call may succeed a moment later: the server is being restarted, or the line is bad.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Foreign { .. } => true,
            Self::Refused { code, .. } => code == "INTERNAL",
            Self::Untrusted { .. } | Self::LoggedOut { .. } => false,
        }
    }
}

/// The one map from the names of the interface to exit codes.
fn exit_of(message_code: &str) -> Exit {
    match message_code {
        "PARAM_MISSING"
        | "PARAM_INVALID"
        | "JSON_INVALID"
        | "FORMAT_UNKNOWN"
        | "NAME_INVALID"
        | "DR_PASSCODE_SHORT"
        | "DR_RETENTION_INVALID"
        | "URL_NOT_FOUND"
        | "METHOD_NOT_ALLOWED"
        | "BODY_TOO_LARGE"
        | "NOT_SUPPORTED" => Exit::Usage,
        "STORE_NOT_FOUND" | "STORE_UNREACHABLE" => Exit::NoRepository,
        "DR_BUSY" | "DR_STORE_IN_USE" | "DR_BACKUP_IN_USE" | "READ_ONLY" => Exit::Locked,
        "DR_PASSCODE_WRONG" => Exit::WrongPasscode,
        "DR_BACKUP_NOT_RESTORABLE" => Exit::Damaged,
        _ => Exit::Failed,
    }
}

/// A detail of the server, as a person can use it.
fn advice(detail: &str) -> String {
    match detail.strip_prefix("jobid=") {
        Some(job) => format!("that is job {job}: strongroom job wait {job}"),
        None => detail.to_owned(),
    }
}

/// An error of the interface.
pub fn refused(error: &Value, server: String) -> Error {
    let code = error["messageCode"].as_str().unwrap_or_default();
    if matches!(code, "TOKEN_INVALID" | "TOKEN_REQUIRED") {
        return Error::LoggedOut { server };
    }
    let details = error["details"].as_array().map(Vec::as_slice).unwrap_or_default();
    Error::Refused {
        code: code.to_owned(),
        message: error["message"].as_str().unwrap_or("the server refuses without a word").to_owned(),
        details: details.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
    }
}

/// No answer. What was not even sent is told apart from what may have been done.
pub fn unanswered(error: &ureq::Error, server: String, changes: bool) -> Error {
    if let Some(tls) = tls_error(error) {
        return match tls {
            rustls::Error::InvalidCertificate(why) => {
                Error::Untrusted { server, reason: certificate_text(why) }
            }
            other => Error::Foreign { server, reason: format!("it does not speak HTTPS ({other})") },
        };
    }
    let reason = match error {
        ureq::Error::HostNotFound => "there is no such host".to_owned(),
        ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => "it is silent".to_owned(),
        ureq::Error::Timeout(_) => "it took too long".to_owned(),
        ureq::Error::Io(e) => e.to_string(),
        other => other.to_string(),
    };
    let was_sent = match error {
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => false,
        ureq::Error::Io(e) => !matches!(
            e.kind(),
            std::io::ErrorKind::ConnectionRefused
                | std::io::ErrorKind::HostUnreachable
                | std::io::ErrorKind::NetworkUnreachable
                | std::io::ErrorKind::AddrNotAvailable
        ),
        _ => true,
    };
    match (was_sent, error) {
        (false, _) => Error::Unreachable { server, reason },
        (true, ureq::Error::Protocol(_)) => Error::Foreign { server, reason },
        (true, _) => Error::Lost { server, reason, changes },
    }
}

/// The error of the TLS library in it: it comes as it is, or in an error of reading and writing.
fn tls_error(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(tls) => Some(tls),
        ureq::Error::Io(e) => e.get_ref()?.downcast_ref::<rustls::Error>(),
        _ => None,
    }
}

fn certificate_text(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Why;
    match why {
        Why::UnknownIssuer => "nobody whom you trust has signed it".to_owned(),
        Why::Expired | Why::ExpiredContext { .. } => "it has expired".to_owned(),
        Why::NotValidYet | Why::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        Why::NotValidForName | Why::NotValidForNameContext { .. } => {
            "it belongs to a server of another name".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::classify;
    use serde_json::json;

    fn refusal(message_code: &str, details: &[&str]) -> Error {
        let error = json!({"code": 400, "messageCode": message_code, "message": "no", "details": details});
        refused(&error, "https://dr/strongroom".to_owned())
    }

    #[test]
    fn each_refusal_has_the_exit_code_of_its_reason() {
        for (code, exit) in [
            ("PARAM_INVALID", Exit::Usage),
            ("DR_PASSCODE_SHORT", Exit::Usage),
            ("DR_PASSCODE_WRONG", Exit::WrongPasscode),
            ("STORE_NOT_FOUND", Exit::NoRepository),
            ("STORE_UNREACHABLE", Exit::NoRepository),
            ("BACKUP_NOT_FOUND", Exit::Failed),
            ("DR_BUSY", Exit::Locked),
            ("READ_ONLY", Exit::Locked),
            ("DR_BACKUP_NOT_RESTORABLE", Exit::Damaged),
            ("TOKEN_INVALID", Exit::Failed),
            ("LOGIN_FAILED", Exit::Failed),
            ("WHAT_A_LATER_SERVER_SAYS", Exit::Failed),
        ] {
            assert_eq!(classify(&refusal(code, &[]).into()), exit, "{code}");
        }
        let in_progress = refusal("DR_BACKUP_NOT_RESTORABLE", &["jobid=j1"]);
        assert_eq!(classify(&in_progress.into()), Exit::Locked);
        assert_eq!(classify(&refused(&json!({}), String::new()).into()), Exit::Failed);
    }

    #[test]
    fn a_refusal_keeps_its_message_and_says_what_to_do() {
        let busy = refusal("DR_BUSY", &["jobid=j1", "more"]);
        assert_eq!(busy.to_string(), "no");
        assert_eq!(busy.hints(), ["that is job j1: strongroom job wait j1", "more"]);
        let expired = refusal("TOKEN_INVALID", &[]);
        assert!(expired.hints()[0].contains("strongroom login --server https://dr/strongroom"));
    }

    #[test]
    fn what_was_never_sent_is_told_apart_from_what_may_have_been_done() {
        let io = |kind| ureq::Error::Io(std::io::Error::from(kind));
        let told = |error: ureq::Error| unanswered(&error, "https://dr/x".to_owned(), true);
        assert!(matches!(told(io(std::io::ErrorKind::ConnectionRefused)), Error::Unreachable { .. }));
        assert!(matches!(told(ureq::Error::HostNotFound), Error::Unreachable { .. }));
        let lost = told(io(std::io::ErrorKind::ConnectionReset));
        assert!(matches!(lost, Error::Lost { .. }));
        assert!(lost.hints()[0].contains("not known"), "{:?}", lost.hints());
        assert!(lost.may_pass());
    }

    #[test]
    fn an_untrusted_certificate_is_no_lost_connection() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let error = ureq::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, tls));
        let error = unanswered(&error, "https://dr/x".to_owned(), true);
        assert!(matches!(error, Error::Untrusted { .. }));
        assert!(!error.may_pass());
    }
}
