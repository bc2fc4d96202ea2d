//! From an URL to the place that it means.
//!
//! * a path, or `file:///path`
//! * `s3://bucket/prefix`, `azblob://container/prefix`, `gs://bucket/prefix`, with options behind a question mark:
//!   `endpoint`, `region`, `path_style`, `allow_http`, `ca_file`, `parallel`
//! * `s3:https://host:port/bucket/prefix`, as other tools write it; `azblob:` and `gs:` alike
//!
//! No secret is ever part of an URL: those come from the environment or from [`Credentials`](crate::Credentials).

use std::path::PathBuf;
use std::sync::Arc;

use crate::{
    Directory, DirectoryOptions, Error, ErrorKind, ObjectOptions, ObjectPlace, ObjectStorage, Result,
    Service, Shared, check_key,
};

const URL_BYTES_MAX: usize = 4096;
/// Requests at once that may be asked for.
const PARALLEL_MAX: usize = 256;

/// A place that keeps bytes.
#[derive(Clone, Debug)]
pub enum Location {
    /// A directory.
    Directory(PathBuf),
    /// A bucket, or a part of one. Large, as it holds all options.
    Object(Box<ObjectPlace>),
}

impl Location {
    /// Understands an URL, or says what is wrong with it.
    pub fn parse(url: &str) -> Result<Self> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::Invalid, "use", "", &shown(url), why));
        if url.is_empty() || url.len() > URL_BYTES_MAX || url.chars().any(char::is_control) {
            return refuse("it is empty, too long, or holds control characters");
        }
        if let Some(rest) = url.strip_prefix("file://") {
            let path = rest.strip_prefix("localhost").unwrap_or(rest);
            return if path.starts_with('/') {
                Ok(Self::Directory(path.into()))
            } else {
                refuse("it names no absolute path; write file:///directory")
            };
        }
        for service in [Service::S3, Service::Azure, Service::Google] {
            let Some(rest) = url.strip_prefix(service.scheme()).and_then(|rest| rest.strip_prefix(':'))
            else {
                continue;
            };
            return match object(service, rest) {
                Ok(place) => Ok(Self::Object(Box::new(place))),
                Err(why) => refuse(&why),
            };
        }
        match url.split_once("://") {
            Some(_) => refuse(
                "it is no place that is known: use a directory, file:///directory, s3://, azblob:// or gs://",
            ),
            None => Ok(Self::Directory(url.into())),
        }
    }

    /// Opens the place. A directory must exist; a bucket is first asked when it is used.
    pub fn open(&self) -> Result<Shared> {
        match self {
            Self::Directory(path) => Ok(Arc::new(Directory::open(path, DirectoryOptions::default())?)),
            Self::Object(place) => Ok(Arc::new(ObjectStorage::open(place)?)),
        }
    }
}

/// An URL without what may be a password in front of the host.
fn shown(url: &str) -> String {
    let clean: String = url.chars().filter(|c| !c.is_control()).take(200).collect();
    match (clean.split_once("://"), clean.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => clean,
    }
}

fn object(service: Service, rest: &str) -> Result<ObjectPlace, String> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let mut options = read_options(query)?;
    let path = if let Some(path) = path.strip_prefix("//") {
        path
    } else if path.starts_with("http://") || path.starts_with("https://") {
        let (scheme, rest) = path.split_once("://").unwrap_or_default();
        // Azure's emulator keeps the account in the path: with the option `endpoint` alone.
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if options.endpoint.is_some() {
            return Err("it names its endpoint twice".to_owned());
        }
        options.endpoint = Some(format!("{scheme}://{host}"));
        path
    } else {
        return Err(format!("write {0}://bucket/prefix or {0}:https://host/bucket/prefix", service.scheme()));
    };
    if options.endpoint.as_deref().is_some_and(|endpoint| endpoint.contains('@')) || path.contains('@') {
        return Err("an URL must hold no credentials; give them in the environment".to_owned());
    }
    let (bucket, prefix) = path.split_once('/').unwrap_or((path, ""));
    ObjectPlace::new(service, bucket, prefix, options)
}

impl ObjectPlace {
    /// Checks the names of bucket and prefix.
    pub fn new(service: Service, bucket: &str, prefix: &str, options: ObjectOptions) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !(3..=222).contains(&bucket.len()) || !bucket.chars().all(plain) || bucket.starts_with('.') {
            return Err(format!(
                "'{}' is no name of a bucket: 3 or more letters, digits, hyphens, dots",
                bucket.escape_debug()
            ));
        }
        let prefix = prefix.trim_matches('/');
        if !prefix.is_empty() && check_key(prefix, "").is_err()
            || prefix.len() > 300
            || prefix.chars().any(|c| c.is_control() || matches!(c, '?' | '#' | '\\'))
        {
            return Err(format!("'{}' is no prefix for keys", prefix.escape_debug()));
        }
        Ok(Self { service, bucket: bucket.to_owned(), prefix: prefix.to_owned(), options })
    }
}

fn read_options(query: &str) -> Result<ObjectOptions, String> {
    let mut options = ObjectOptions::default();
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        let flag = || match &*value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("its option {key} must be true or false")),
        };
        match &*key {
            "endpoint" => options.endpoint = Some(value.into_owned()),
            "region" => options.region = Some(value.into_owned()),
            "path_style" => options.path_style = Some(flag()?),
            "allow_http" => options.allow_http = flag()?,
            "ca_file" => options.ca_file = Some(value.into_owned().into()),
            "parallel" => match value.parse() {
                Ok(parallel @ 1..=PARALLEL_MAX) => options.limits.parallel = parallel,
                _ => return Err(format!("its option parallel must be 1 to {PARALLEL_MAX}")),
            },
            other => {
                return Err(format!(
                    "its option '{}' is unknown; known are endpoint, region, path_style, allow_http, ca_file, parallel",
                    other.escape_debug()
                ));
            }
        }
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str) -> ObjectPlace {
        match Location::parse(url).unwrap() {
            Location::Object(place) => *place,
            Location::Directory(path) => panic!("{url} was taken for {}", path.display()),
        }
    }

    #[test]
    fn a_directory_is_meant_by_its_path_or_a_file_url() {
        let path = |url| match Location::parse(url).unwrap() {
            Location::Directory(path) => path.display().to_string(),
            Location::Object(place) => panic!("{place}"),
        };
        assert_eq!(path("/backup/r"), "/backup/r");
        assert_eq!(path("relative/r"), "relative/r");
        assert_eq!(path("file:///backup/r"), "/backup/r");
        assert_eq!(path("file://localhost/backup/r"), "/backup/r");
        assert!(Location::parse("file://backup/r").is_err());
    }

    #[test]
    fn a_bucket_is_meant_by_either_form_of_its_url() {
        let plain = place("s3://bucket/site1/");
        assert_eq!((plain.bucket.as_str(), plain.prefix.as_str()), ("bucket", "site1"));
        assert_eq!(plain.to_string(), "s3://bucket/site1");
        let other = place("s3:http://127.0.0.1:9000/bucket/a/b");
        assert_eq!(other.options.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!(other.to_string(), "s3:http://127.0.0.1:9000/bucket/a/b");
        let with = place("gs://bucket?endpoint=https%3A%2F%2Fx%3A1&region=r&path_style=false&parallel=3");
        assert_eq!(with.service, Service::Google);
        assert_eq!(with.options.endpoint.as_deref(), Some("https://x:1"));
        assert_eq!((with.options.path_style, with.options.limits.parallel), (Some(false), 3));
        assert_eq!(place("azblob://container").service, Service::Azure);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_and_no_password_is_repeated() {
        for url in [
            "",
            "s3:",
            "s3://",
            "s3://b",
            "s3:bucket",
            "ftp://host/x",
            "s3://buc ket",
            "s3://bucket/../x",
            "s3://bucket/a//b",
            "s3://bucket?secret=x",
            "s3://bucket?parallel=0",
            "s3://bucket?allow_http=maybe",
            "s3:https://host/bucket?endpoint=https://other",
        ] {
            assert_eq!(Location::parse(url).unwrap_err().kind, ErrorKind::Invalid, "{url}");
        }
        for url in ["s3:https://me:geheim@host/bucket", "ftp://me:geheim@host/x", "s3://me:geheim@bucket/x"] {
            let refused = Location::parse(url).unwrap_err().to_string();
            assert!(!refused.contains("geheim"), "{refused}");
        }
    }
}
