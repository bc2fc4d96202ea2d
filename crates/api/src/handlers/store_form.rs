//! What people type into the forms of stores, as the `settings` that programs send: each field says where its value belongs
//! (`pages/forms/stores.rs`). What comes out is judged as if a program had sent it, and an error of that names the field
//! again. Programs have the one documented form: these fields are read of pages alone.

use crate::dispatch::Call;
use crate::error::{ApiError, ApiResult};
use crate::pages::forms::{self, CREDENTIAL_TYPE, DEFAULT_OF_STORE, Part, StoreKind};
use crate::parameters::Parameters;
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// The kind of store whose form was sent; none where `settings` or a directory come as programs send them.
pub(super) fn kind_sent(call: &Call) -> ApiResult<Option<&'static StoreKind>> {
    let is_of_a_program = |name| call.parameters.text(name).is_some();
    let is_form = call.is_html() && !["settings", "rootDirectory"].into_iter().any(is_of_a_program);
    match call.parameters.text("kind").filter(|_| is_form) {
        None => Ok(None),
        Some(word) => match forms::store_kind(word) {
            Some(kind) => Ok(Some(kind)),
            None => Err(ApiError::invalid("kind", "choose one of the kinds of stores")),
        },
    }
}

/// The `settings` of a new store of this kind.
pub(super) fn settings(kind: &StoreKind, typed: &Parameters) -> ApiResult<Object> {
    let mut settings = Object::new();
    put(&mut settings, &["type"], kind.kind);
    for part in kind.place {
        take(&mut settings, part, typed)?;
    }
    if !kind.rights.is_empty() {
        let rights = typed.required(CREDENTIAL_TYPE.name, "choose whose rights are used")?;
        put(&mut settings, &["connection", "credential"], credential(kind, rights, typed)?);
    }
    Ok(settings)
}

/// The `settings` of what is to change of a store of this kind.
pub(super) fn changes(kind: &StoreKind, typed: &Parameters) -> ApiResult<Object> {
    let mut settings = Object::new();
    if let Some(default) = typed.text(DEFAULT_OF_STORE.name) {
        put(&mut settings, &["default"], default);
    }
    match typed.text(CREDENTIAL_TYPE.name) {
        Some(rights) => put(&mut settings, &["credential"], credential(kind, rights, typed)?),
        None => {
            if let Some(part) = kind.credential.iter().find(|part| typed.text(part.field.name).is_some()) {
                return Err(ApiError::invalid(
                    part.field.name,
                    "choose whose rights are used as well, or leave it empty",
                ));
            }
        }
    }
    if settings.is_empty() {
        return Err(ApiError::missing(DEFAULT_OF_STORE.name, "nothing is chosen that is to change"));
    }
    Ok(settings)
}

/// The credential of these rights.
fn credential(kind: &StoreKind, rights: &str, typed: &Parameters) -> ApiResult<Object> {
    if !kind.rights.iter().any(|(known, _)| *known == rights) {
        return Err(ApiError::invalid(CREDENTIAL_TYPE.name, "choose one of those on the page"));
    }
    let mut credential = Object::new();
    put(&mut credential, &["type"], rights);
    for part in kind.credential {
        if part.of.is_none_or(|of| of == rights) {
            take(&mut credential, part, typed)?;
        } else if typed.text(part.field.name).is_some() {
            // Rather than leave out what somebody thinks is used.
            return Err(ApiError::invalid(
                part.field.name,
                "it belongs to other rights than the chosen ones; choose those, or leave it empty",
            ));
        }
    }
    Ok(credential)
}

/// Puts what was typed into one field where it belongs. Blanks around it come of copying.
fn take(object: &mut Object, part: &Part, typed: &Parameters) -> ApiResult<()> {
    match typed.text(part.field.name).map(str::trim).filter(|text| !text.is_empty()) {
        Some(text) => put(object, part.at, text),
        None if part.field.required => {
            return Err(ApiError::missing(part.field.name, "it must be filled in"));
        }
        None => {}
    }
    Ok(())
}

/// Puts a value at a place inside of an object; objects on the way are made.
fn put(object: &mut Object, at: &[&str], value: impl Into<Value>) {
    match at {
        [] => {}
        [last] => drop(object.insert((*last).to_owned(), value.into())),
        [first, rest @ ..] => {
            let inner = object.entry(*first).or_insert_with(|| Value::Object(Object::new()));
            if let Some(inner) = inner.as_object_mut() {
                put(inner, rest, value);
            }
        }
    }
}

/// An error about a key of `settings` as one about the field whose value stands there.
pub(super) fn about_field(kind: &StoreKind, error: ApiError) -> ApiError {
    let is_meant = |part: &&Part| {
        part.at.last().is_some_and(|key| {
            let name = |before: char| error.message.contains(&format!("{before}{key}'"));
            name('\'') || name('.')
        })
    };
    match kind.parts().find(is_meant) {
        Some(part) => {
            let named = format!("Parameter '{}'", part.field.name);
            let message = error.message.replacen("Parameter 'settings'", &named, 1);
            let key = part.at.last().copied().unwrap_or_default();
            ApiError { message: message.replacen(&format!("its key '{key}'"), "it", 1), ..error }
        }
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::buckets;
    use super::*;
    use crate::pages::forms::STORE_KINDS;
    use proptest::prelude::*;
    use proptest::sample::select;
    use recovery::{Credentials, Service};
    use secrecy::ExposeSecret;

    fn typed(fields: &[(&str, &str)]) -> Parameters {
        let mut typed = Parameters::default();
        for (name, value) in fields {
            typed.add((*name).to_owned(), (*value).to_owned());
        }
        typed
    }

    /// Every text in a value, with the way to it.
    fn leaves(value: &Value, way: &str, found: &mut Vec<(String, String)>) {
        match value {
            Value::Object(object) => {
                object.iter().for_each(|(key, inner)| leaves(inner, &format!("{way}/{key}"), found));
            }
            other => found.push((way.to_owned(), other.as_str().expect("a text").to_owned())),
        }
    }

    /// A kind, rights of it, and something typed into each of its fields, or nothing.
    fn anything() -> impl Strategy<Value = (&'static StoreKind, Option<&'static str>, Vec<Option<String>>)> {
        let kinds: Vec<&'static StoreKind> = STORE_KINDS.iter().collect();
        select(kinds).prop_flat_map(|kind| {
            let rights: Vec<Option<&'static str>> =
                kind.rights.iter().map(|(rights, _)| Some(*rights)).chain([None]).collect();
            let text = prop_oneof![
                4 => "[ a-zA-Z0-9:/.{}\"-]{1,20}".prop_map(Some),
                1 => any::<String>().prop_map(Some),
                1 => Just(None),
            ];
            (Just(kind), select(rights), proptest::collection::vec(text, kind.parts().count()))
        })
    }

    proptest! {
        #[test]
        fn each_field_lands_at_its_place_and_nothing_else_is_sent((kind, rights, texts) in anything()) {
            let fields: Vec<(&Part, &str)> = kind
                .parts()
                .zip(&texts)
                .filter_map(|(part, text)| Some((part, text.as_deref()?)))
                .collect();
            let mut sent: Vec<(&str, &str)> = fields.iter().map(|(part, text)| (part.field.name, *text)).collect();
            sent.extend(rights.map(|rights| (CREDENTIAL_TYPE.name, rights)));
            let settings = match settings(kind, &typed(&sent)) {
                Ok(settings) => settings,
                Err(refused) => {
                    // It names a field of this form.
                    let names = kind.parts().map(|part| part.field.name).chain([CREDENTIAL_TYPE.name]);
                    let is_named = names.into_iter().any(|name| refused.message.contains(&format!("'{name}'")));
                    prop_assert!(is_named, "{refused:?}");
                    return Ok(());
                }
            };
            let mut expected = vec![("/type".to_owned(), kind.kind.to_owned())];
            if let (Some(rights), false) = (rights, kind.rights.is_empty()) {
                expected.push(("/connection/credential/type".to_owned(), rights.to_owned()));
            }
            for (part, text) in fields.iter().filter(|(_, text)| !text.trim().is_empty()) {
                let above = if kind.credential.iter().any(|own| std::ptr::eq(own, *part)) {
                    "/connection/credential"
                } else {
                    ""
                };
                expected.push((format!("{above}/{}", part.at.join("/")), text.trim().to_owned()));
            }
            let mut found = Vec::new();
            leaves(&Value::Object(settings), "", &mut found);
            expected.sort();
            found.sort();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn what_is_refused_names_a_field_and_repeats_no_secret(
            (kind, rights, texts) in anything(), planted in "planted[a-z{}\"]{0,10}",
        ) {
            let mut sent: Vec<(&str, &str)> = Vec::new();
            for (part, text) in kind.parts().zip(&texts) {
                let is_secret = part.field.input == forms::Input::Secret;
                let text = text.as_deref().map(|text| if is_secret { planted.as_str() } else { text });
                sent.extend(text.map(|text| (part.field.name, text)));
            }
            sent.extend(rights.map(|rights| (CREDENTIAL_TYPE.name, rights)));
            let service = match kind.kind {
                "S3" => Service::S3,
                "AZURE_BLOBSTORE" => Service::Azure,
                "GOOGLE_CLOUD_STORAGE" => Service::Google,
                _ => return Ok(()),
            };
            let place = settings(kind, &typed(&sent))
                .and_then(|settings| buckets::place(service, &settings).map_err(|error| about_field(kind, error)));
            if let Err(refused) = place {
                prop_assert!(!format!("{refused:?}").contains("planted"), "{refused:?}");
                prop_assert!(!refused.message.contains("'settings'"), "{refused:?}");
            }
        }
    }

    #[test]
    fn the_form_of_s3_means_what_a_program_would_send() {
        let kind = forms::store_kind("s3").expect("kind");
        let settings = settings(
            kind,
            &typed(&[
                ("bucketName", " dr-1 "),
                ("rootDir", "/site1/"),
                ("region", "eu-west-1"),
                ("endpointUrl", "https://minio:9000"),
                ("pathStyle", "false"),
                ("allowHttp", "true"),
                ("credentialType", "ACCESS-KEY"),
                ("accessKey", "AKIA"),
                ("secretKey", "secret half"),
            ]),
        )
        .expect("settings");
        let place = buckets::place(Service::S3, &settings).expect("place");
        assert_eq!((place.bucket.as_str(), place.prefix.as_str()), ("dr-1", "site1"));
        let options = &place.options;
        assert_eq!((options.region.as_deref(), options.path_style), (Some("eu-west-1"), Some(false)));
        assert_eq!((options.endpoint.as_deref(), options.allow_http), (Some("https://minio:9000"), true));
        match &options.credentials {
            Credentials::AccessKey { id, secret, session_token } => {
                assert_eq!((id.as_str(), secret.expose_secret()), ("AKIA", "secret half"));
                assert!(session_token.is_none());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_credential_of_every_kind_can_be_typed_in() {
        for kind in STORE_KINDS.iter().filter(|kind| !kind.rights.is_empty()) {
            for (rights, _) in kind.rights {
                let asked = kind.credential.iter().filter(|part| part.of.is_none_or(|of| of == *rights));
                let mut sent: Vec<(&str, &str)> = asked.map(|part| (part.field.name, "typed")).collect();
                sent.push((CREDENTIAL_TYPE.name, rights));
                let settings = changes(kind, &typed(&sent)).expect("changes");
                let credential = settings["credential"].as_object().expect("object");
                let service = [Service::S3, Service::Azure, Service::Google]
                    .into_iter()
                    .find(|service| recovery::kind_of(*service) == kind.kind)
                    .expect("service");
                buckets::credential_of(service, credential).expect(rights);
            }
        }
    }

    #[test]
    fn what_was_typed_for_other_rights_is_refused_and_not_left_out() {
        let kind = forms::store_kind("s3").expect("kind");
        let sent = [("bucketName", "dr-1"), ("credentialType", "IAM-ROLE"), ("secretKey", "planted")];
        let refused = settings(kind, &typed(&sent)).expect_err("other rights");
        assert!(
            refused.message.contains("'secretKey'") && !refused.message.contains("planted"),
            "{refused:?}"
        );
        let alone = changes(kind, &typed(&[("secretKey", "planted")])).expect_err("no rights");
        assert!(alone.message.contains("'secretKey'"), "{alone:?}");
        assert_eq!(changes(kind, &typed(&[])).expect_err("nothing").message_code, "PARAM_MISSING");
    }
}
