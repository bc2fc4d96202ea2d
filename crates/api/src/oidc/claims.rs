//! What a signed ID token says: whether it was made by this provider, for us, now, for this attempt; and whom it names,
//! with which role.

use super::{OidcSettings, Refusal, harmless};
use recovery::Role;
use serde_json::{Map, Value};

/// A token is made for the sign-in that is going on; an older one was kept by somebody.
const AGE_SECONDS_MAX: i64 = 600;
const SUBJECT_BYTES_MAX: usize = 255;

/// Which values of a claim give which role, exactly as they are written. Of several the highest counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleValues {
    /// Values that make an administrator.
    pub administrator: Vec<String>,
    /// Values that make an operator.
    pub operator: Vec<String>,
    /// Values that make a viewer.
    pub viewer: Vec<String>,
}

/// Somebody whom the provider vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    /// The provider, and who it is there, for ever.
    pub issuer: String,
    /// Its own name for the account.
    pub subject: String,
    /// What the person is called.
    pub username: String,
    /// What the person may do.
    pub role: Role,
}

impl RoleValues {
    fn role(&self, told: &[&str]) -> Option<Role> {
        let has = |values: &[String]| told.iter().any(|told| values.iter().any(|value| value == told));
        if has(&self.administrator) {
            Some(Role::Administrator)
        } else if has(&self.operator) {
            Some(Role::Operator)
        } else if has(&self.viewer) {
            Some(Role::Viewer)
        } else {
            None
        }
    }
}

fn seconds(claims: &Map<String, Value>, name: &str) -> Option<i64> {
    let value = claims.get(name)?;
    value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds as i64))
}

/// The claim of that name, else the one to which its dots lead.
fn claim<'a>(claims: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let mut parts = name.split('.');
    let first = claims.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.as_object()?.get(part))
}

/// A text, or all texts of a list.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// Judges the claims of a token whose signature is right.
pub(super) fn identity(
    claims: &Map<String, Value>,
    settings: &OidcSettings,
    is_nonce: impl Fn(&str) -> bool,
    now: i64,
) -> Result<Identity, Refusal> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let refuse = |why: &str| Err(Refusal::Untrusted(format!("the ID token {why}")));
    if text("iss") != Some(settings.issuer.as_str()) {
        return refuse("was issued by somebody else");
    }
    let audience = texts(claims.get("aud"));
    let client = settings.client_id.as_str();
    if !audience.contains(&client) {
        return refuse("was made for another program");
    }
    let party = text("azp");
    if claims.contains_key("azp") && party != Some(client) || audience.len() > 1 && party.is_none() {
        return refuse("was asked for by another program");
    }
    let skew = i64::try_from(settings.clock_skew.as_secs()).unwrap_or(0);
    match (seconds(claims, "exp"), seconds(claims, "iat")) {
        (None, _) | (_, None) => return refuse("does not say when it was made and when it ends"),
        (Some(end), _) if end.saturating_add(skew) <= now => return refuse("has expired"),
        (_, Some(made)) if made > now + skew => {
            return refuse("comes from the future; are both clocks right?");
        }
        (_, Some(made)) if made < now - skew - AGE_SECONDS_MAX => return refuse("is an old one"),
        _ => {}
    }
    if claims.contains_key("nbf") && seconds(claims, "nbf").is_none_or(|start| start > now + skew) {
        return refuse("is not valid yet");
    }
    if !text("nonce").is_some_and(is_nonce) {
        return refuse("was made for another sign-in");
    }
    let subject = text("sub").filter(|subject| (1..=SUBJECT_BYTES_MAX).contains(&subject.len()));
    let Some(subject) = subject else { return refuse("names no account") };
    let Some(username) = claim(claims, &settings.username_claim).and_then(Value::as_str) else {
        let why = format!("the ID token has no claim '{}' with a name", settings.username_claim);
        return Err(Refusal::NoName(why));
    };
    let told = texts(claim(claims, &settings.role_claim));
    let Some(role) = settings.roles.role(&told) else {
        let told: Vec<_> = told.iter().take(20).map(|value| harmless(value)).collect();
        tracing::info!(subject = %harmless(subject), claim = %settings.role_claim, values = ?told, "no role");
        return Err(Refusal::NoRole);
    };
    let (subject, username) = (subject.to_owned(), username.to_owned());
    Ok(Identity { issuer: settings.issuer.clone(), subject, username, role })
}

#[cfg(test)]
mod tests {
    use super::super::fuzzing::settings;
    use super::*;
    use serde_json::json;

    const NOW: i64 = 1_900_000_000;

    fn judged(change: impl FnOnce(&mut Value)) -> Result<Identity, Refusal> {
        let mut claims = json!({
            "iss": "https://login.example", "aud": "us", "sub": "1", "nonce": "n", "exp": NOW + 300, "iat": NOW,
            "preferred_username": "anna", "realm_access": {"roles": ["staff", "dr-operators"]},
        });
        change(&mut claims);
        identity(claims.as_object().expect("object"), &settings(), |nonce| nonce == "n", NOW)
    }

    #[test]
    fn the_highest_of_the_roles_counts_and_values_must_be_exact() {
        assert_eq!(judged(|_| {}).expect("good").role, Role::Operator);
        let role =
            |value: Value| judged(|claims| claims["realm_access"]["roles"] = value).map(|who| who.role);
        assert_eq!(role(json!("dr-admins")), Ok(Role::Administrator));
        for none in [
            json!(["DR-admins", "dr-admins ", "dr"]),
            json!([]),
            json!(null),
            json!([["dr-admins"]]),
            json!(7),
        ] {
            assert_eq!(role(none.clone()), Err(Refusal::NoRole), "{none}");
        }
        let whole = judged(|claims| claims["realm_access.roles"] = json!(["dr-admins"]));
        assert_eq!(whole.expect("a claim whose name has dots").role, Role::Administrator);
    }

    #[test]
    fn clocks_may_differ_a_little_and_no_more() {
        for (exp, iat) in [(NOW - 59, NOW - 300), (NOW + 300, NOW + 60), (NOW + 300, NOW - 660)] {
            assert!(
                judged(|c| {
                    c["exp"] = json!(exp);
                    c["iat"] = json!(iat)
                })
                .is_ok(),
                "{exp} {iat}"
            );
        }
        for (exp, iat) in [(NOW - 60, NOW - 300), (NOW + 300, NOW + 61), (NOW + 300, NOW - 661)] {
            assert!(
                judged(|c| {
                    c["exp"] = json!(exp);
                    c["iat"] = json!(iat)
                })
                .is_err(),
                "{exp} {iat}"
            );
        }
        assert!(judged(|c| c["exp"] = json!(1.9e9 + 1.5)).is_ok());
    }

    #[test]
    fn a_token_for_somebody_else_is_refused_whatever_it_says_besides() {
        assert!(judged(|c| c["aud"] = json!(["us"])).is_ok());
        assert!(
            judged(|c| {
                c["aud"] = json!(["us", "them"]);
                c["azp"] = json!("us")
            })
            .is_ok()
        );
        let wrong: [(&str, Value); 12] = [
            ("iss", json!("https://login.example/")),
            ("aud", json!("them")),
            ("aud", json!([])),
            ("aud", json!(["us", "them"])),
            ("azp", json!("them")),
            ("azp", json!(null)),
            ("nonce", json!("other")),
            ("nonce", json!(null)),
            ("sub", json!("")),
            ("exp", json!("soon")),
            ("iat", json!(null)),
            ("nbf", json!(NOW + 3600)),
        ];
        for (claim, value) in wrong {
            let refused = judged(|c| c[claim] = value.clone());
            assert!(matches!(refused, Err(Refusal::Untrusted(_))), "{claim} {value}: {refused:?}");
        }
        assert!(matches!(judged(|c| c["preferred_username"] = json!(7)), Err(Refusal::NoName(_))));
    }
}
