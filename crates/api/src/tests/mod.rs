//! Tests of the whole interface: in process through the dispatcher, and over real sockets, always with the
//! real domain behind it.

mod access;
mod concurrency;
mod console;
mod coverage;
mod description;
mod drills;
mod faults;
mod files;
mod generated;
mod keys;
mod notifications;
mod oauth;
mod oauth_codes;
mod oidc;
mod oidc_double;
mod overview;
mod pages;
mod portal;
mod reference;
mod replies;
mod shapes;
mod support;
mod tasks;
mod users;
mod wire;

/// The handler of an endpoint that is there in tests alone.
pub(crate) async fn failing(
    call: std::sync::Arc<crate::dispatch::Call>,
) -> crate::error::ApiResult<crate::reply::Reply> {
    panic!("on purpose, at {}", call.path());
}
