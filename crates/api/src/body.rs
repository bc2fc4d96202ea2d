//! Reads a request's body within limits of size, time and memory, and takes its parameters out.

use crate::error::ApiError;
use crate::parameters::Parameters;
use http_body_util::{BodyDataStream, BodyExt, Full};
use hyper::HeaderMap;
use hyper::body::{Body, Bytes};
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// No operation needs more.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// From the first byte of the body to the last.
const READ_TIME_MAX: Duration = Duration::from_secs(30);
/// Of all bodies that are being read or handled at one time, so that many callers cannot fill the memory
/// together.
pub(crate) const BUDGET_BYTES: usize = 64 << 20;

/// Why there is no body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// Over [`BODY_BYTES_MAX`].
    TooLarge,
    /// The caller was slower than [`READ_TIME_MAX`].
    TooSlow,
    /// The connection broke off, or the framing was wrong.
    Broken,
}

/// A body in memory, holding its share of the budget.
#[derive(Default)]
pub(crate) struct Received<'budget> {
    pub bytes: Vec<u8>,
    _share: Option<SemaphorePermit<'budget>>,
}

/// The whole body, or why not. Nothing is buffered for one that announces too much.
pub(crate) async fn read<'budget, B>(
    body: B,
    headers: &HeaderMap,
    budget: &'budget Semaphore,
) -> Result<Received<'budget>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(BodyError::TooLarge);
    }
    tokio::time::timeout(READ_TIME_MAX, collect(body, budget)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn collect<B>(mut body: B, budget: &Semaphore) -> Result<Received<'_>, BodyError>
where
    B: Body<Data = Bytes> + Unpin,
{
    let mut received = Received::default();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| BodyError::Broken)?.into_data() else { continue };
        if received.bytes.len() + data.len() > BODY_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
        let count = u32::try_from(data.len()).map_err(|_| BodyError::TooLarge)?;
        let share = budget.acquire_many(count).await.map_err(|_| BodyError::Broken)?;
        match &mut received._share {
            Some(held) => held.merge(share),
            none => *none = Some(share),
        }
        received.bytes.extend_from_slice(&data);
    }
    Ok(received)
}

/// The parameters in a body, by its content type. Without one, a form is assumed, as some clients send none.
pub(crate) async fn parameters(body: &[u8], headers: &HeaderMap) -> Parameters {
    if body.is_empty() {
        return Parameters::default();
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match media_type.as_str() {
        "" | "application/x-www-form-urlencoded" => Parameters::from_form(body),
        "application/json" => Parameters::from_json(body),
        "multipart/form-data" => multipart(body, content_type).await,
        _ => {
            let mut part = Parameters::default();
            part.mark(ApiError::new(
                400,
                "PARAM_INVALID",
                "The Content-Type of the body is not known: send application/x-www-form-urlencoded.",
            ));
            part
        }
    }
}

async fn multipart(body: &[u8], content_type: &str) -> Parameters {
    let mut part = Parameters::default();
    let broken = || ApiError::new(400, "PARAM_INVALID", "The body is not valid multipart/form-data.");
    let Ok(boundary) = multer::parse_boundary(content_type) else {
        part.mark(broken());
        return part;
    };
    let stream = BodyDataStream::new(Full::new(Bytes::copy_from_slice(body)));
    let mut fields = multer::Multipart::new(stream, boundary);
    loop {
        let field = match fields.next_field().await {
            Ok(Some(field)) => field,
            Ok(None) => return part,
            Err(_) => break,
        };
        let Some(name) = field.name().map(str::to_owned) else { continue };
        match field.text().await {
            Ok(value) => part.add(name, value),
            Err(_) => break,
        }
    }
    part.mark(broken());
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(content_type: &str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().expect("header"))])
    }

    #[tokio::test]
    async fn forms_multipart_and_json_give_the_same_parameters() {
        let multi = "--X\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\na bä\r\n--X\r\n\
                     Content-Disposition: form-data; name=\"f\"\r\n\r\njson\r\n--X--\r\n";
        for (content_type, body) in [
            ("application/x-www-form-urlencoded; charset=utf-8", "name=a+b%C3%A4&f=json"),
            ("Application/JSON", r#"{"name": "a bä", "f": "json"}"#),
            ("multipart/form-data; boundary=X", multi),
        ] {
            let sent = parameters(body.as_bytes(), &headers(content_type)).await;
            assert_eq!(sent.text("name"), Some("a bä"));
            assert_eq!(sent.text("f"), Some("json"));
            assert_eq!(sent.whole(), Ok(()));
        }
    }

    #[tokio::test]
    async fn cut_multipart_and_foreign_types_are_defects_not_failures() {
        let cut = "--X\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\na b";
        for content_type in ["multipart/form-data; boundary=X", "multipart/form-data", "text/xml"] {
            let part = parameters(cut.as_bytes(), &headers(content_type)).await;
            assert_eq!(part.whole().expect_err(content_type).code, 400);
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_refused_with_and_without_an_announced_length() {
        let budget = Semaphore::new(BUDGET_BYTES);
        let body = || Full::new(Bytes::from(vec![b'a'; BODY_BYTES_MAX + 1]));
        let announced = HeaderMap::from_iter([(CONTENT_LENGTH, "1048577".parse().expect("header"))]);
        for headers in [HeaderMap::new(), announced] {
            assert_eq!(read(body(), &headers, &budget).await.err(), Some(BodyError::TooLarge));
        }
        let largest = Full::new(Bytes::from(vec![b'a'; BODY_BYTES_MAX]));
        let received = read(largest, &HeaderMap::new(), &budget).await.expect("at the limit");
        assert_eq!(received.bytes.len(), BODY_BYTES_MAX);
        assert_eq!(budget.available_permits(), BUDGET_BYTES - BODY_BYTES_MAX);
        drop(received);
        assert_eq!(budget.available_permits(), BUDGET_BYTES);
    }
}
