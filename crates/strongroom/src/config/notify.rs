//! `[[notify]]`: who is told of what. Secrets are read from their files at the start.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use recovery::{EventKind, MailSettings, MailTls, Subscription, Target, WebhookSettings};
use secrecy::SecretString;
use storage::AddressRule;

use super::meant::below;
use super::suggestion;
use super::typed::Notify;
use crate::passcode::{configured, read_secret_file};

/// More targets than anybody has; each keeps a worker.
const TARGETS_MAX: usize = 50;

/// Everybody who is told, as the configuration names them.
pub fn subscriptions(
    typed: Vec<Notify>,
    directory: &Path,
    addresses: Arc<AddressRule>,
) -> Result<Vec<Subscription>, String> {
    if typed.len() > TARGETS_MAX {
        return Err(format!("there are more than {TARGETS_MAX} [[notify]]"));
    }
    let mut names = HashSet::new();
    let mut all = Vec::new();
    for (at, notify) in typed.into_iter().enumerate() {
        let name = notify.name.clone().unwrap_or_default();
        let place = if name.is_empty() { format!("notify {}", at + 1) } else { format!("notify '{name}'") };
        if !names.insert(name) {
            return Err(format!("{place}: two have this name"));
        }
        all.push(
            subscription(notify, directory, &addresses).map_err(|problem| format!("{place}: {problem}"))?,
        );
    }
    Ok(all)
}

fn subscription(
    notify: Notify,
    directory: &Path,
    addresses: &Arc<AddressRule>,
) -> Result<Subscription, String> {
    let name = notify.name.clone().filter(|name| !name.trim().is_empty()).ok_or("name is missing")?;
    let events = match &notify.events {
        None => EventKind::ALL.to_vec(),
        Some(events) => events.iter().map(|event| event_of(event)).collect::<Result<_, _>>()?,
    };
    let target = match notify.kind.as_deref() {
        Some("webhook") => {
            refuse_foreign("webhook", &mail_keys(&notify))?;
            let settings = webhook(notify, directory, addresses)?;
            Target::webhook(name, settings).map_err(|e| e.to_string())?
        }
        Some("mail") => {
            refuse_foreign("mail", &webhook_keys(&notify))?;
            Target::mail(name, mail(notify, directory)?).map_err(|e| e.to_string())?
        }
        Some(kind) => return Err(format!("kind '{kind}' is neither webhook nor mail")),
        None => return Err("kind is missing: webhook or mail".to_owned()),
    };
    Ok(Subscription { target: Arc::new(target), events })
}

fn event_of(name: &str) -> Result<EventKind, String> {
    if let Some(event) = EventKind::ALL.into_iter().find(|event| event.name() == name) {
        return Ok(event);
    }
    let known: Vec<&str> = EventKind::ALL.into_iter().map(EventKind::name).collect();
    Err(match suggestion::nearest(name, &known) {
        Some(meant) => format!("there is no event '{name}'; did you mean '{meant}'?"),
        None => format!("there is no event '{name}'; known: {}", known.join(", ")),
    })
}

fn webhook(
    notify: Notify,
    directory: &Path,
    addresses: &Arc<AddressRule>,
) -> Result<WebhookSettings, String> {
    let url = match (notify.url, notify.url_file) {
        (Some(url), None) => SecretString::from(url),
        (None, Some(file)) => {
            read_secret_file(&below(directory, &file)).map_err(|e| format!("url_file: {e}"))?
        }
        (Some(_), Some(_)) => return Err("url and url_file are both given; leave one out".to_owned()),
        (None, None) => return Err("url is missing (or url_file, where it is a secret)".to_owned()),
    };
    let file = notify.secret_file.map(|file| below(directory, &file));
    let secret = configured("secret", file.as_deref(), notify.secret_env.as_deref())?
        .ok_or("secret_file is missing: it signs each request")?;
    Ok(WebhookSettings {
        url,
        secret,
        allow_http: notify.allow_http.unwrap_or(false),
        ca_pem: certificates(notify.ca_file, directory)?,
        addresses: Arc::clone(addresses),
    })
}

fn mail(notify: Notify, directory: &Path) -> Result<MailSettings, String> {
    let tls = match notify.tls.as_deref() {
        None | Some("starttls") => MailTls::StartTls,
        Some("tls") => MailTls::Tls,
        Some("none") => MailTls::None,
        Some(other) => return Err(format!("tls '{other}' must be none, starttls or tls")),
    };
    let file = notify.password_file.map(|file| below(directory, &file));
    let password = configured("password", file.as_deref(), notify.password_env.as_deref())?;
    let login = match (notify.username, password) {
        (Some(name), Some(password)) => Some((name, password)),
        (None, None) => None,
        _ => return Err("username and password_file belong together".to_owned()),
    };
    Ok(MailSettings {
        host: notify.host.filter(|host| !host.is_empty()).ok_or("host is missing: the mail server")?,
        port: notify.port.unwrap_or(tls.usual_port()),
        tls,
        login,
        ca_pem: certificates(notify.ca_file, directory)?,
        from: notify.from.ok_or("from is missing")?,
        to: notify.to.ok_or("to is missing")?,
    })
}

fn certificates(file: Option<String>, directory: &Path) -> Result<Option<Vec<u8>>, String> {
    let Some(file) = file.map(|file| below(directory, &file)) else { return Ok(None) };
    std::fs::read(&file).map(Some).map_err(|e| format!("cannot read ca_file {}: {e}", file.display()))
}

type Keys = Vec<(&'static str, bool)>;

fn webhook_keys(n: &Notify) -> Keys {
    vec![
        ("url", n.url.is_some()),
        ("url_file", n.url_file.is_some()),
        ("secret_file", n.secret_file.is_some()),
        ("secret_env", n.secret_env.is_some()),
        ("allow_http", n.allow_http.is_some()),
    ]
}

fn mail_keys(n: &Notify) -> Keys {
    vec![
        ("host", n.host.is_some()),
        ("port", n.port.is_some()),
        ("tls", n.tls.is_some()),
        ("username", n.username.is_some()),
        ("password_file", n.password_file.is_some()),
        ("password_env", n.password_env.is_some()),
        ("from", n.from.is_some()),
        ("to", n.to.is_some()),
    ]
}

fn refuse_foreign(kind: &str, foreign: &Keys) -> Result<(), String> {
    match foreign.iter().find(|(_, typed)| *typed) {
        Some((key, _)) => Err(format!("'{key}' is no key of a {kind}")),
        None => Ok(()),
    }
}
