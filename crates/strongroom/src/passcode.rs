//! Where a passcode comes from: a file, the environment, or a hidden prompt; never the command line, which every
//! user of the machine can read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Result;
use repository::Passcode;
use secrecy::SecretString;

use crate::exit::Failure;

/// The environment variable that may hold the passcode.
pub const VARIABLE: &str = "STRONGROOM_PASSCODE";
/// Fewer characters are refused when something new is sealed.
const LENGTH_MIN: usize = 8;
/// A secret file longer than this is not one.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// `--passcode-file`, the same for every command that needs a passcode.
#[derive(clap::Args, Clone, Debug)]
pub struct PasscodeSource {
    /// File that holds the passcode (else STRONGROOM_PASSCODE, else a hidden prompt)
    #[arg(long, value_name = "FILE", global = true)]
    pub passcode_file: Option<PathBuf>,
}

impl PasscodeSource {
    /// The passcode of something that is there already.
    pub fn existing(&self) -> Result<Passcode> {
        existing(self.passcode_file.as_deref(), VARIABLE, "Passcode: ")
    }

    /// The passcode, if one was given; nobody is asked for it.
    pub fn if_given(&self) -> Result<Option<Passcode>> {
        given(self.passcode_file.as_deref(), VARIABLE)?.map(passcode).transpose()
    }

    /// The passcode of something new: at least eight characters, and typed twice if it is typed.
    pub fn for_something_new(&self) -> Result<Passcode> {
        new(self.passcode_file.as_deref(), VARIABLE)
    }
}

/// A passcode that opens something, from this file, else this variable, else a prompt.
pub fn existing(file: Option<&Path>, variable: &str, question: &str) -> Result<Passcode> {
    match given(file, variable)? {
        Some(text) => passcode(text),
        None => passcode(prompt(question, variable)?),
    }
}

/// A passcode that is to seal something: at least eight characters, and typed twice if it is typed.
pub fn new(file: Option<&Path>, variable: &str) -> Result<Passcode> {
    let text = match given(file, variable)? {
        Some(text) => text,
        None => {
            let first = prompt("New passcode: ", variable)?;
            if prompt("The same again: ", variable)? != first {
                return Err(Failure::usage("the two passcodes differ").into());
            }
            first
        }
    };
    if text.chars().count() < LENGTH_MIN {
        return Err(Failure::usage(format!("the passcode has fewer than {LENGTH_MIN} characters")).into());
    }
    passcode(text)
}

/// A password, from this file or else a prompt.
pub fn password(file: Option<&Path>, username: &str) -> Result<SecretString> {
    if let Some(file) = file {
        return read_secret_file(file);
    }
    let typed = rpassword::prompt_password(format!("Password of {username}: ")).map_err(|e| {
        Failure::usage(format!("no password was given, and there is no terminal to ask for it ({e})"))
            .hint("use --password-file FILE")
    })?;
    if typed.is_empty() {
        return Err(Failure::usage("the password is empty").into());
    }
    Ok(SecretString::from(typed))
}

fn given(file: Option<&Path>, variable: &str) -> Result<Option<String>> {
    if let Some(file) = file {
        return read_secret_text(file).map(Some);
    }
    match std::env::var(variable) {
        Ok(text) => Ok(Some(text)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => {
            Err(Failure::usage(format!("{variable} is not valid UTF-8")).into())
        }
    }
}

/// A secret that the configuration names by file or by variable; `None` if it names none.
pub fn configured(
    key: &str,
    file: Option<&Path>,
    variable: Option<&str>,
) -> Result<Option<SecretString>, String> {
    match (file, variable) {
        (Some(_), Some(_)) => Err(format!("{key}_file and {key}_env are both given; leave one out")),
        (Some(file), None) => read_secret_file(file).map(Some).map_err(|e| format!("{key}_file: {e}")),
        (None, Some(name)) => match std::env::var(name) {
            Ok(text) if !text.is_empty() => Ok(Some(SecretString::from(text))),
            _ => Err(format!("{key}_env: there is no variable {name}, or it is empty")),
        },
        (None, None) => Ok(None),
    }
}

/// Reads a secret from a file. One line end at the end, which editors add, does not belong to it.
pub fn read_secret_file(file: &Path) -> Result<SecretString> {
    read_secret_text(file).map(SecretString::from)
}

fn read_secret_text(file: &Path) -> Result<String> {
    let mut text = String::new();
    File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|e| Failure::usage(format!("cannot read the secret in {}: {e}", file.display())))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(Failure::usage(format!("{} is too long to be a secret", file.display())).into());
    }
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(Failure::usage(format!("{} is empty", file.display())).into());
    }
    Ok(text)
}

fn passcode(text: String) -> Result<Passcode> {
    if text.is_empty() {
        return Err(Failure::usage("the passcode is empty").into());
    }
    Ok(Passcode::new(text))
}

fn prompt(question: &str, variable: &str) -> Result<String> {
    let typed = rpassword::prompt_password(question).map_err(|e| {
        Failure::usage(format!("no passcode was given, and there is no terminal to ask for it ({e})"))
            .hint(format!("use {} FILE, or set {variable}", option_of(variable)))
    })?;
    Ok(typed)
}

/// `STRONGROOM_NEW_PASSCODE` is `--new-passcode-file`.
fn option_of(variable: &str) -> String {
    let words = variable.trim_start_matches("STRONGROOM_").to_lowercase().replace('_', "-");
    format!("--{words}-file")
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn file_with(content: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        file
    }

    fn source(file: &tempfile::NamedTempFile) -> PasscodeSource {
        PasscodeSource { passcode_file: Some(file.path().to_owned()) }
    }

    #[test]
    fn a_line_end_that_an_editor_added_does_not_belong_to_the_passcode() {
        for content in ["correct horse", "correct horse\n", "correct horse\r\n"] {
            let secret = read_secret_file(file_with(content.as_bytes()).path()).unwrap();
            assert_eq!(secret.expose_secret(), "correct horse");
        }
        let two_lines = read_secret_file(file_with(b" a b \n\n").path()).unwrap();
        assert_eq!(two_lines.expose_secret(), " a b \n", "only one line end goes, and no blank");
    }

    #[test]
    fn a_short_passcode_opens_what_exists_but_seals_nothing_new() {
        let file = file_with(b"seven77\n");
        assert!(source(&file).existing().is_ok());
        let refused = source(&file).for_something_new().unwrap_err();
        assert!(refused.to_string().contains("fewer than 8 characters"), "{refused}");
        assert!(!refused.to_string().contains("seven77"), "no message holds the passcode");
    }

    #[test]
    fn each_variable_has_its_option() {
        assert_eq!(option_of(VARIABLE), "--passcode-file");
        assert_eq!(option_of("STRONGROOM_FROM_PASSCODE"), "--from-passcode-file");
    }

    #[test]
    fn eight_letters_of_any_alphabet_are_enough() {
        assert!(source(&file_with("пароль12".as_bytes())).for_something_new().is_ok());
    }

    #[test]
    fn an_empty_missing_or_huge_file_is_refused_by_name() {
        let empty = file_with(b"\n");
        let refused = read_secret_file(empty.path()).unwrap_err().to_string();
        assert!(refused.contains(&empty.path().display().to_string()), "{refused}");
        assert!(read_secret_file(Path::new("/nonexistent/passcode")).is_err());
        assert!(read_secret_file(file_with(&vec![b'a'; 70_000]).path()).is_err());
    }
}
