//! The wire: the disaster-recovery part of the Administrator API over HTTPS, as JSON and as plain pages.
//!
//! A request goes this way and nowhere else:
//!
//! ```text
//! server      accept, TLS, limits on time and size, graceful stop
//! dispatch    request id, body, then the checks in their fixed order:
//!             format → token → route → method → privilege → read-only → parameters
//! endpoints   one table of everything that is served
//! handlers    one file a resource: parameters in, one call of `recovery`, documented JSON out
//! format      json, pjson, or a page rendered from the same JSON
//! ```
//!
//! Business errors are HTTP 200 with the error envelope: clients of this interface repeat a request, without
//! its token or six times over, when they see another status. What the domain refuses is mapped in `error`
//! alone.
#![deny(missing_docs)]

mod body;
mod dispatch;
mod endpoints;
mod error;
mod format;
mod handlers;
mod log_ins;
mod oauth;
mod oidc;
mod openapi;
mod outgoing;
mod pages;
mod parameters;
mod path;
mod reply;
mod server;
mod session;
mod token;

#[cfg(test)]
mod tests;

#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub use oidc::fuzzing;
pub use oidc::{OidcSettings, RoleValues, is_safe_issuer};
pub use path::encode as encode_segment;
pub use server::{Bound, Error, ServerSettings, bind};
