//! What an answer means, by service, by what was asked, by status and error code: one table.
//!
//! The same number means different things: 409 is "try again" from S3 and "exists" from Azure; 404 is a missing
//! object, or a bucket that is gone.

use super::Service;

/// What was asked of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Reading, or looking.
    Read,
    /// Putting an object that must not exist.
    Create,
    /// Putting an object whose version must be the expected one.
    Replace,
    /// Deleting.
    Delete,
    /// Listing.
    List,
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It may work in a moment.
    Again,
    /// There is no such object.
    Missing,
    /// There is no such bucket.
    Gone,
    /// An object of that key is there.
    Exists,
    /// The object is not the expected version.
    Changed,
    /// A quota is used up.
    Full,
    /// No right to do so, or no credentials.
    Denied,
    /// Our own permit was withdrawn.
    Forbidden,
    /// The object ends before the range.
    Short,
    /// The object is longer than the caller allows.
    TooLarge,
    /// The service cannot do what was asked.
    Invalid,
    /// It will not work, for another reason.
    Failed,
}

/// Reads the table. `code` is the text in the error document, such as `NoSuchKey`; empty if there was none.
pub(super) fn meaning(service: Service, verb: Verb, status: u16, code: &str) -> Meaning {
    match code {
        "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" | "ResourceNotFound" => {
            return Meaning::Gone;
        }
        "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => return Meaning::Full,
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" | "RequestTimeTooSkewed" => {
            return Meaning::Denied;
        }
        "SlowDown" | "InternalError" | "ServerBusy" | "OperationTimedOut" | "RequestTimeout" => {
            return Meaning::Again;
        }
        "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "Md5Mismatch" => {
            // What arrived is not what was sent.
            return Meaning::Again;
        }
        _ => {}
    }
    // Azure lets nobody at this one blob: it lies in an archive, or is held by a lease, a policy or its snapshots.
    let is_held = match status {
        409 => matches!(
            code,
            "BlobArchived"
                | "BlobBeingRehydrated"
                | "BlobImmutableDueToPolicy"
                | "BlobImmutableDueToLegalHold"
                | "BlobUsesCustomerSpecifiedEncryption"
                | "SnapshotsPresent"
        ),
        412 => matches!(code, "LeaseIdMissing" | "LeaseIdMismatchWithBlobOperation"),
        _ => false,
    };
    if is_held {
        return Meaning::Denied;
    }
    if code == "InvalidBlobType" {
        return Meaning::Invalid;
    }
    // This one object cannot be read: it lies in an archive, or its key is gone or was never ours.
    let is_unreadable = matches!(code, "InvalidRequest" | "InvalidObjectState" | "MethodNotAllowed");
    let lacks_key =
        ["KMS.", "CloudKms"].iter().any(|kms| code.starts_with(kms)) || code.ends_with("EncryptionKey");
    if verb == Verb::Read && (is_unreadable || lacks_key) {
        return Meaning::Denied;
    }
    match (verb, status) {
        (_, 404) => Meaning::Missing,
        (_, 401 | 403) => Meaning::Denied,
        (Verb::Create, 412) => Meaning::Exists,
        (Verb::Create, 409) if service == Service::Azure && code == "BlobAlreadyExists" => Meaning::Exists,
        (Verb::Replace | Verb::Read, 412) => Meaning::Changed,
        (_, 409 | 429 | 408 | 425) => Meaning::Again,
        (Verb::Read, 416) => Meaning::Short,
        (_, 507) => Meaning::Full,
        (_, 501) => Meaning::Invalid,
        (_, 500..=599) => Meaning::Again,
        (_, 300..=399) => Meaning::Invalid,
        // The answer was fine and its body was not.
        (_, 200..=299) => Meaning::Again,
        _ => Meaning::Failed,
    }
}

/// The error code and message in the XML (S3, Azure, Google) that an error text quotes.
pub(super) fn document(text: &str) -> (String, String) {
    let field = |name: &str| {
        let start = text.find(&format!("<{name}>"))? + name.len() + 2;
        let rest = text.get(start..)?;
        let end = rest.find(&format!("</{name}>"))?;
        Some(rest[..end].chars().filter(|c| !c.is_control()).take(300).collect::<String>())
    };
    (field("Code").unwrap_or_default(), field("Message").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_says_exists_changed_and_again_in_its_own_way() {
        use Meaning::*;
        use Service::*;
        for (service, verb, status, code, expected) in [
            (S3, Verb::Create, 412, "PreconditionFailed", Exists),
            (S3, Verb::Create, 409, "ConditionalRequestConflict", Again),
            (S3, Verb::Create, 409, "OperationAborted", Again),
            (S3, Verb::Replace, 412, "PreconditionFailed", Changed),
            (S3, Verb::Replace, 409, "ConditionalRequestConflict", Again),
            (S3, Verb::Replace, 404, "NoSuchKey", Missing),
            (S3, Verb::Delete, 404, "NoSuchBucket", Gone),
            (S3, Verb::List, 404, "NoSuchBucket", Gone),
            (S3, Verb::Read, 404, "", Missing),
            (S3, Verb::Read, 416, "InvalidRange", Short),
            (S3, Verb::Create, 503, "SlowDown", Again),
            (S3, Verb::Create, 400, "RequestTimeout", Again),
            (S3, Verb::Create, 400, "BadDigest", Again),
            (S3, Verb::Create, 400, "ExpiredToken", Denied),
            (S3, Verb::Create, 501, "NotImplemented", Invalid),
            (S3, Verb::Read, 301, "PermanentRedirect", Invalid),
            (S3, Verb::Read, 403, "AccessDenied", Denied),
            (S3, Verb::Create, 400, "EntityTooLarge", Failed),
            (Azure, Verb::Create, 409, "BlobAlreadyExists", Exists),
            (Azure, Verb::Create, 412, "ConditionNotMet", Exists),
            (Azure, Verb::Create, 409, "ContainerBeingDeleted", Gone),
            (Azure, Verb::Replace, 412, "ConditionNotMet", Changed),
            (Azure, Verb::Replace, 409, "LeaseIdMissing", Again),
            (Azure, Verb::Replace, 412, "LeaseIdMissing", Denied),
            (Azure, Verb::Replace, 412, "SourceConditionNotMet", Changed),
            (Azure, Verb::Replace, 409, "PendingCopyOperation", Again),
            (Azure, Verb::Replace, 409, "InvalidBlobType", Invalid),
            (Azure, Verb::Read, 409, "BlobArchived", Denied),
            (Azure, Verb::Delete, 409, "SnapshotsPresent", Denied),
            (Azure, Verb::Delete, 409, "BlobImmutableDueToPolicy", Denied),
            (Azure, Verb::Read, 404, "BlobNotFound", Missing),
            (Azure, Verb::List, 404, "ContainerNotFound", Gone),
            (Azure, Verb::Create, 503, "ServerBusy", Again),
            (Azure, Verb::Replace, 409, "BlobImmutableDueToLegalHold", Denied),
            (Azure, Verb::Read, 409, "BlobUsesCustomerSpecifiedEncryption", Denied),
            (Google, Verb::Read, 400, "CloudKmsDisabledKey", Denied),
            (Google, Verb::Read, 400, "ResourceIsEncryptedWithCustomerEncryptionKey", Denied),
            (Google, Verb::Create, 412, "PreconditionFailed", Exists),
            (Google, Verb::Replace, 412, "PreconditionFailed", Changed),
            (Google, Verb::Create, 429, "SlowDown", Again),
            (Google, Verb::Replace, 409, "Conflict", Again),
            (Google, Verb::Read, 401, "", Denied),
            (S3, Verb::Read, 206, "", Again),
            (S3, Verb::Create, 507, "", Full),
        ] {
            assert_eq!(
                meaning(service, verb, status, code),
                expected,
                "{service:?} {verb:?} {status} {code}"
            );
        }
    }

    #[test]
    fn an_error_document_is_read_from_whatever_surrounds_it() {
        let text = "… 404: <Error><Code>NoSuchKey</Code><Message>not\n here</Message></Error>";
        assert_eq!(document(text), ("NoSuchKey".to_owned(), "not here".to_owned()));
        assert_eq!(document("<Code>cut"), (String::new(), String::new()));
    }
}
