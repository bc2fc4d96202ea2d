//! A letter as a plain-text mail over SMTP.
//!
//! The mail server stands in the configuration by its host name, and is often on this machine or in a private network:
//! connections to it are not held to the rule for addresses. Whatever goes into a header is one line first.

use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};

use crate::{Letter, Unusable, causes, one_line};

/// For the whole conversation.
const TIME_MAX: Duration = Duration::from_secs(30);
const SUBJECT_CHARS_MAX: usize = 180;

/// How the connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MailTls {
    /// Not at all.
    None,
    /// By an upgrade that must succeed before anything is said.
    StartTls,
    /// From the first byte.
    Tls,
}

impl MailTls {
    /// The port that is usual for it.
    pub fn usual_port(self) -> u16 {
        match self {
            Self::None => 25,
            Self::StartTls => 587,
            Self::Tls => 465,
        }
    }
}

/// How mail is sent, by whom and to whom.
#[derive(Clone, Debug)]
pub struct MailSettings {
    /// The mail server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub tls: MailTls,
    /// Name and password, if it asks for them.
    pub login: Option<(String, SecretString)>,
    /// PEM certificates that are trusted beside the system's.
    pub ca_pem: Option<Vec<u8>>,
    /// Like `Strongroom <dr@example.org>`.
    pub from: String,
    /// At least one.
    pub to: Vec<String>,
}

/// Mail to some people.
pub struct Mail {
    place: String,
    from: Mailbox,
    to: Vec<Mailbox>,
    transport: AsyncSmtpTransport<Tokio1Executor>,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Mail {
    /// Checks what can be checked without a connection.
    pub fn new(settings: MailSettings) -> Result<Self, Unusable> {
        let mailbox = |text: &str| -> Result<Mailbox, Unusable> {
            text.parse().map_err(|_| Unusable(format!("'{}' is no mail address", text.escape_debug())))
        };
        let from = mailbox(&settings.from)?;
        let to = settings.to.iter().map(|text| mailbox(text)).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err(Unusable("to names nobody".to_owned()));
        }
        if settings.login.is_some() && settings.tls == MailTls::None {
            let why = "a password is not sent without TLS; set tls to \"starttls\" or \"tls\"";
            return Err(Unusable(why.to_owned()));
        }
        let tls = match settings.tls {
            MailTls::None => Tls::None,
            MailTls::StartTls => Tls::Required(parameters(&settings)?),
            MailTls::Tls => Tls::Wrapper(parameters(&settings)?),
        };
        let mut transport = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&settings.host)
            .port(settings.port)
            .tls(tls)
            .timeout(Some(TIME_MAX))
            .hello_name(ClientId::Domain(from.email.domain().to_owned()));
        if let Some((name, password)) = &settings.login {
            let password = password.expose_secret().to_owned();
            transport = transport.credentials(Credentials::new(name.clone(), password));
        }
        let people: Vec<String> = to.iter().map(|mailbox| mailbox.email.to_string()).collect();
        let place = format!("{} by {}:{}", people.join(", "), settings.host, settings.port);
        Ok(Self { place, from, to, transport: transport.build() })
    }

    /// To whom, and by which server.
    pub fn place(&self) -> String {
        self.place.clone()
    }

    pub(crate) async fn send(&self, letter: &Letter) -> Result<(), String> {
        let message = self.message(letter)?;
        match tokio::time::timeout(TIME_MAX, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(causes(&error)),
            Err(_) => Err(format!("the mail server did not finish within {} s", TIME_MAX.as_secs())),
        }
    }

    fn message(&self, letter: &Letter) -> Result<Message, String> {
        let delivery = one_line(&letter.delivery, 100);
        let mut message = Message::builder()
            .from(self.from.clone())
            .subject(one_line(&letter.subject, SUBJECT_CHARS_MAX))
            // The same at each attempt: programs that read mail show it once.
            .message_id(Some(format!("<{delivery}@{}>", self.from.email.domain())))
            .header(ContentType::TEXT_PLAIN);
        for mailbox in &self.to {
            message = message.to(mailbox.clone());
        }
        let mut message = message.body(text(letter)).map_err(|error| causes(&error))?;
        // So that nobody's absence note answers.
        let name = HeaderName::new_from_ascii_str("Auto-Submitted");
        message.headers_mut().insert_raw(HeaderValue::new(name, "auto-generated".to_owned()));
        Ok(message)
    }
}

fn parameters(settings: &MailSettings) -> Result<TlsParameters, Unusable> {
    let unusable = |error: lettre::transport::smtp::Error| Unusable(causes(&error));
    let mut builder = TlsParameters::builder(settings.host.clone());
    if let Some(pem) = &settings.ca_pem {
        builder = builder.add_root_certificate(Certificate::from_pem(pem).map_err(unusable)?);
    }
    builder.build().map_err(unusable)
}

/// What people read: the message, then the facts, a line each.
fn text(letter: &Letter) -> String {
    let time = jiff::Timestamp::from_millisecond(letter.time).unwrap_or_default();
    let mut text = format!("{}\r\n\r\n", letter.message.replace('\r', " ").replace('\n', "\r\n"));
    for (name, value) in &letter.facts {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        text.push_str(&format!("{name}: {}\r\n", one_line(&value, 1000)));
    }
    text.push_str(&format!("event: {}\r\n", letter.event));
    text.push_str(&format!("time: {}\r\n", time.strftime("%Y-%m-%d %H:%M:%S UTC")));
    text
}
