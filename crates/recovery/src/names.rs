//! Rules for what people type: names, descriptions, passcodes, passwords, retention dates.
//! Checked once at the border; inside, a name is known to be legal.

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

use crate::{Error, ErrorKind, Passcode, Result};

const NAME_CHARS_MAX: usize = 100;
const NAME_BYTES_MAX: usize = 200;
const DESCRIPTION_CHARS_MAX: usize = 1000;
const PASSCODE_CHARS_MIN: usize = 8;
const PASSCODE_CHARS_MAX: usize = 256;
const PASSWORD_BYTES_MAX: usize = 1024;
/// Smaller numbers are seconds that somebody took for milliseconds (this is the year 1973).
const MILLISECONDS_MIN: i64 = 100_000_000_000;

/// What is named: it decides which word is taken by the interface itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Store,
    Backup,
    User,
    Key,
}

impl Named {
    /// What stands before a key's name where users are named, so that neither is taken for the other.
    pub const KEY_MARK: &str = "key:";
    /// The same for users whom a provider vouches for.
    pub const PROVIDER_MARK: &str = "oidc:";

    fn noun(self) -> &'static str {
        match self {
            Named::Store => "store",
            Named::Backup => "backup",
            Named::User => "user",
            Named::Key => "key",
        }
    }

    fn reserved(self) -> Option<&'static str> {
        match self {
            Named::Store => Some("register"),
            Named::Backup => Some("create"),
            Named::User => Some("add"),
            Named::Key => Some("create"),
        }
    }
}

/// One form for one name, however it was typed.
pub(crate) fn normal(name: &str) -> String {
    name.nfc().collect()
}

/// Equal keys mean names that would be taken for each other.
pub(crate) fn name_key(name: &str) -> String {
    name.nfc().collect::<String>().to_lowercase()
}

/// The name in its normal form, or why it is none.
pub(crate) fn check_name(named: Named, name: &str) -> Result<String> {
    let refuse = |why: &str| {
        let message = format!("This is no name for a {}: {why}.", named.noun());
        Err(Error::new(ErrorKind::NameInvalid, message))
    };
    if name.is_empty() {
        return Err(Error::new(
            ErrorKind::ParameterMissing,
            format!("The name of the {} is missing.", named.noun()),
        ));
    }
    // Before anything costly is done to it; normal forms do not shrink a text to less than a third.
    if name.len() > NAME_BYTES_MAX * 4 {
        return refuse("it has more than 100 characters or 200 bytes");
    }
    let name = normal(name);
    if name.chars().count() > NAME_CHARS_MAX || name.len() > NAME_BYTES_MAX {
        return refuse("it has more than 100 characters or 200 bytes");
    }
    if let Some(found) = name.chars().find(|c| r#"/\?#%<>"&"#.contains(*c)) {
        return refuse(&format!("'{found}' is not allowed; nor are / \\ ? # % < > \" &"));
    }
    if name.chars().any(char::is_control) {
        return refuse("control characters are not allowed");
    }
    if name.starts_with('.') {
        return refuse("it must not start with a dot");
    }
    if name.trim() != name {
        return refuse("it must not start or end with a space");
    }
    let marks = [Named::KEY_MARK, Named::PROVIDER_MARK];
    if named == Named::User
        && let Some(mark) = marks.into_iter().find(|mark| name_key(&name).starts_with(mark))
    {
        return refuse(&format!("'{mark}' stands before names of another kind"));
    }
    if named.reserved().is_some_and(|word| name.eq_ignore_ascii_case(word)) {
        return refuse(&format!("'{name}' is an operation of the interface"));
    }
    Ok(name)
}

/// At most 1,000 characters; line breaks and tabs yes, other control characters no.
pub(crate) fn check_description(text: &str) -> Result<()> {
    if text.chars().count() > DESCRIPTION_CHARS_MAX {
        let message = format!("'description' has more than {DESCRIPTION_CHARS_MAX} characters.");
        return Err(Error::new(ErrorKind::ParameterInvalid, message));
    }
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        let message = "'description' holds control characters other than line breaks.";
        return Err(Error::new(ErrorKind::ParameterInvalid, message));
    }
    Ok(())
}

/// 8 to 256 characters of any kind, taken as they are.
pub(crate) fn check_passcode(passcode: &Passcode) -> Result<()> {
    let count = passcode.expose().chars().take(PASSCODE_CHARS_MAX + 1).count();
    if count < PASSCODE_CHARS_MIN {
        let message = format!("The passcode must have at least {PASSCODE_CHARS_MIN} characters.");
        return Err(Error::new(ErrorKind::PasscodeShort, message));
    }
    if count > PASSCODE_CHARS_MAX {
        let message = format!("'passcode' has more than {PASSCODE_CHARS_MAX} characters.");
        return Err(Error::new(ErrorKind::ParameterInvalid, message));
    }
    Ok(())
}

/// At least 8 characters, at most 1,024 bytes.
pub(crate) fn check_password(password: &SecretString) -> Result<()> {
    let password = password.expose_secret();
    if password.chars().count() < 8 || password.len() > PASSWORD_BYTES_MAX {
        let message =
            format!("A password must have at least 8 characters and at most {PASSWORD_BYTES_MAX} bytes.");
        return Err(Error::new(ErrorKind::ParameterInvalid, message));
    }
    Ok(())
}

/// -1 for never, or a time to come.
pub(crate) fn check_retention(date: i64, now: i64, hint: &str) -> Result<()> {
    if date == -1 || (date > now && date >= MILLISECONDS_MIN) {
        return Ok(());
    }
    let why = if (1..MILLISECONDS_MIN).contains(&date) {
        "it must be in milliseconds since 1970, not seconds".to_owned()
    } else if date <= 0 {
        "it must be -1 (never) or milliseconds since 1970".to_owned()
    } else {
        format!("it must lie in the future{hint}")
    };
    Err(Error::new(ErrorKind::RetentionInvalid, format!("'retentionDate' {date} is not possible: {why}.")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(name: &str) -> Option<ErrorKind> {
        check_name(Named::Backup, name).err().map(|e| e.kind)
    }

    #[test]
    fn ordinary_names_are_accepted_and_normalised() {
        for name in [
            "nightly",
            "Nightly 2026-11-24",
            "Sicherung Würzburg",
            "日本語",
            "a.b",
            "register",
            "x-_~()!'+,;=@$",
        ] {
            assert_eq!(check_name(Named::Backup, name).unwrap(), normal(name), "{name}");
        }
        assert_eq!(check_name(Named::Backup, "u\u{308}").unwrap(), "ü");
        assert_eq!(check_name(Named::Store, &"x".repeat(100)).unwrap().len(), 100);
    }

    #[test]
    fn names_that_would_break_a_path_or_a_page_are_refused() {
        let bad = [
            "a/b", "a\\b", "a?b", "a#b", "a%b", "a<b", "a>b", "a\"b", "a&b", ".", "..", ".a", " a", "a ",
            "a\nb", "a\u{0}b",
        ];
        for name in bad {
            assert_eq!(kind(name), Some(ErrorKind::NameInvalid), "{name:?}");
        }
        assert_eq!(kind(""), Some(ErrorKind::ParameterMissing));
        assert_eq!(kind(&"x".repeat(101)), Some(ErrorKind::NameInvalid));
        assert_eq!(kind(&"ü".repeat(101)), Some(ErrorKind::NameInvalid));
        assert_eq!(kind(&"日".repeat(67)), Some(ErrorKind::NameInvalid), "201 bytes");
        assert_eq!(kind(&"日".repeat(66)), None, "198 bytes");
        assert_eq!(kind(&"x".repeat(1_000_000)), Some(ErrorKind::NameInvalid));
    }

    #[test]
    fn words_of_the_interface_are_no_names() {
        assert_eq!(kind("Create"), Some(ErrorKind::NameInvalid));
        assert!(check_name(Named::Store, "REGISTER").is_err());
        assert!(check_name(Named::Store, "create").is_ok());
    }

    #[test]
    fn names_that_differ_in_case_or_form_alone_have_one_key() {
        assert_eq!(name_key("Nightly"), name_key("nIGHTLY"));
        assert_eq!(name_key("U\u{308}"), name_key("ü"));
        assert_ne!(name_key("a"), name_key("b"));
    }

    #[test]
    fn passcodes_are_counted_in_characters() {
        let kind = |text: &str| check_passcode(&Passcode::new(text.to_owned())).err().map(|e| e.kind);
        assert_eq!(kind("1234567"), Some(ErrorKind::PasscodeShort));
        assert_eq!(kind("üüüüüüü"), Some(ErrorKind::PasscodeShort));
        assert_eq!(kind("12345678"), None);
        assert_eq!(kind("        "), None);
        assert_eq!(kind(&"x".repeat(256)), None);
        assert_eq!(kind(&"x".repeat(257)), Some(ErrorKind::ParameterInvalid));
    }

    #[test]
    fn a_retention_date_is_never_or_in_the_future_in_milliseconds() {
        let now = 1_800_000_000_000;
        assert!(check_retention(-1, now, "").is_ok());
        assert!(check_retention(now + 1, now, "").is_ok());
        for bad in [0, -2, i64::MIN, now, now - 1] {
            assert_eq!(check_retention(bad, now, "").unwrap_err().kind, ErrorKind::RetentionInvalid, "{bad}");
        }
        let seconds = check_retention(1_900_000_000, now, "").unwrap_err();
        assert!(seconds.message.contains("milliseconds since 1970, not seconds"), "{seconds}");
    }

    #[test]
    fn descriptions_may_have_lines_and_have_a_limit() {
        assert!(check_description("two\nlines").is_ok());
        assert!(check_description("a\u{7}").is_err());
        assert!(check_description(&"ü".repeat(1000)).is_ok());
        assert!(check_description(&"ü".repeat(1001)).is_err());
    }
}
