//! Notifications on their way out: one letter to one target, one attempt.
//!
//! A [`Letter`] is what is told; a [`Target`] is who is told, by a webhook or by mail. [`Target::send`] makes one attempt
//! within a time limit and says whether the other side took it. When to try again, and what has been delivered, is known
//! above: this crate keeps nothing between two attempts. What it says of a failure names no secret, neither a password nor
//! the path of a webhook's URL, which often is one.
#![deny(missing_docs)]

mod mail;
#[cfg(any(test, feature = "test-support"))]
pub mod sinks;
#[cfg(test)]
mod tests;
mod webhook;

use serde_json::{Map, Value};

pub use mail::{Mail, MailSettings, MailTls};
pub use webhook::{SIGNATURE_HEADER, Webhook, WebhookSettings, signature};

/// What is told once to one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Letter {
    /// The same at each attempt, so that a receiver knows what it has already.
    pub delivery: String,
    /// What happened, as a stable word such as `backup.failed`.
    pub event: String,
    /// When it happened, in milliseconds since 1970.
    pub time: i64,
    /// What happened, in one line.
    pub subject: String,
    /// The same in full, for people.
    pub message: String,
    /// What it is about, for programs: names of job, backup, store and the like.
    pub facts: Map<String, Value>,
}

/// Who is told.
#[derive(Debug)]
pub struct Target {
    /// Its name in the configuration.
    pub name: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Webhook(Webhook),
    Mail(Mail),
}

/// Why a target cannot be used at all.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// Why an attempt did not succeed; in words, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Target {
    /// A webhook.
    pub fn webhook(name: impl Into<String>, settings: WebhookSettings) -> Result<Self, Unusable> {
        Ok(Self { name: name.into(), way: Way::Webhook(Webhook::new(settings)?) })
    }

    /// Somebody's mailbox.
    pub fn mail(name: impl Into<String>, settings: MailSettings) -> Result<Self, Unusable> {
        Ok(Self { name: name.into(), way: Way::Mail(Mail::new(settings)?) })
    }

    /// `webhook` or `mail`.
    pub fn kind(&self) -> &'static str {
        match &self.way {
            Way::Webhook(_) => "webhook",
            Way::Mail(_) => "mail",
        }
    }

    /// Where it is, without secrets.
    pub fn place(&self) -> String {
        match &self.way {
            Way::Webhook(webhook) => webhook.place(),
            Way::Mail(mail) => mail.place(),
        }
    }

    /// One attempt. `Ok` means that the other side has taken it.
    pub async fn send(&self, letter: &Letter) -> Result<(), Failure> {
        let sent = match &self.way {
            Way::Webhook(webhook) => webhook.send(letter).await,
            Way::Mail(mail) => mail.send(letter).await,
        };
        sent.map_err(|why| Failure(one_line(&why, FAILURE_CHARS_MAX)))
    }
}

/// More of what went wrong is not kept.
const FAILURE_CHARS_MAX: usize = 500;

/// As one line: what controls a terminal or ends a header becomes a blank.
fn one_line(text: &str, chars: usize) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(chars).collect();
    line.trim().to_owned()
}

/// All causes of an error in one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text.push_str(": ");
            text.push_str(&told);
        }
        cause = error.source();
    }
    text
}
