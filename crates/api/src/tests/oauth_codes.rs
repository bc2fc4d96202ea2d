//! Codes and refresh tokens: who gets them, how often, and to what end.

use super::oauth::{SITE, answered, authorize, info, oauth_state, refused, sign_in, works};
use super::support::{PASSWORD, PUBLIC_URL, World, ask};
use crate::oauth::OUT_OF_BAND;
use recovery::Role;
use secrecy::SecretString;
use serde_json::Value;

const APPROVAL: &str = "/strongroom/sharing/rest/oauth2/approval";
const TOKEN: &str = "/strongroom/sharing/rest/oauth2/token";
const REVOKE: &str = "/strongroom/sharing/rest/oauth2/revokeToken";
/// From the standard: a verifier and its challenge.
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

/// A code for the site itself, guarded by [`CHALLENGE`].
async fn code(world: &World, username: &str) -> String {
    let rest = format!("&code_challenge={CHALLENGE}&code_challenge_method=S256&expiration=1440&state=a");
    let state = oauth_state(world, authorize("code", SITE, &rest)).await;
    let answer = sign_in(world, &state, username, PASSWORD).await;
    let mut query = answered(&answer, &format!("{SITE}?"));
    assert_eq!(query.remove("state").as_deref(), Some("a"));
    query.remove("code").expect("code")
}

async fn exchange(world: &World, form: &str) -> Value {
    let answer = world.send(ask("POST", TOKEN).form(form)).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert_eq!(answer.header("content-type"), "application/json", "whatever is asked for");
    assert_eq!(answer.header("cache-control"), "no-store");
    answer.json()
}

fn by_code(code: &str) -> String {
    format!(
        "grant_type=authorization_code&client_id=pythonapi&code={code}&code_verifier={VERIFIER}&redirect_uri={PUBLIC_URL}"
    )
}

#[tokio::test]
async fn a_code_is_exchanged_once_by_the_program_that_asked_for_it() {
    let world = World::open().await;
    let first = code(&world, "olga").await;
    assert!(!works(&world, &first).await, "a code is no token");
    let reply = exchange(&world, &by_code(&first)).await;
    assert_eq!((&reply["username"], &reply["ssl"]), (&"olga".into(), &true.into()), "{reply}");
    assert!((1700..=1800).contains(&reply["expires_in"].as_i64().expect("seconds")));
    assert!((86_000..=86_400).contains(&reply["refresh_token_expires_in"].as_i64().expect("seconds")));
    assert!(works(&world, reply["access_token"].as_str().expect("token")).await);
    assert!(!works(&world, reply["refresh_token"].as_str().expect("token")).await);
    assert_eq!(refused(&exchange(&world, &by_code(&first)).await), "invalid_grant", "replayed");

    for (from, to) in [
        (VERIFIER, "A".repeat(43)),
        (VERIFIER, CHALLENGE.to_owned()),
        (VERIFIER, String::new()),
        ("pythonapi", "another".to_owned()),
        (PUBLIC_URL, "https://evil.example".to_owned()),
    ] {
        let stolen = code(&world, "olga").await;
        let form = by_code(&stolen);
        assert_eq!(refused(&exchange(&world, &form.replace(from, &to)).await), "invalid_grant", "{to}");
        assert_eq!(refused(&exchange(&world, &form).await), "invalid_grant", "gone with the first try");
    }
    let token = world.token(Role::Administrator);
    assert_eq!(refused(&exchange(&world, &by_code(token)).await), "invalid_grant", "a token is no code");
    assert_eq!(refused(&exchange(&world, &by_code("")).await), "invalid_request");
}

#[tokio::test]
async fn a_refresh_token_gives_tokens_until_it_is_revoked_or_the_password_changes() {
    let world = World::open().await;
    let granted = exchange(&world, &by_code(&code(&world, "olga").await)).await;
    let refresh = granted["refresh_token"].as_str().expect("token");
    let form =
        |token: &str| format!("f=json&grant_type=refresh_token&client_id=pythonapi&refresh_token={token}");
    for _ in 0..2 {
        let reply = exchange(&world, &form(refresh)).await;
        assert!(works(&world, reply["access_token"].as_str().expect("token")).await);
        assert!(reply.get("refresh_token").is_none());
    }
    let another = form(refresh).replace("pythonapi", "another");
    assert_eq!(refused(&exchange(&world, &another).await), "invalid_grant");
    assert_eq!(refused(&exchange(&world, &form(world.token(Role::Operator))).await), "invalid_grant");
    assert_eq!(refused(&exchange(&world, &form("")).await), "invalid_request");

    let revoke =
        |name: &str, token: &str| ask("POST", REVOKE).form(&format!("client_id=pythonapi&{name}={token}"));
    let unknown = world.send(revoke("auth_token", "unknown")).await.json();
    let done = world.send(revoke("auth_token", refresh)).await.json();
    assert_eq!((done["success"].as_bool(), &unknown), (Some(true), &done), "nobody learns what is a token");
    assert_eq!(refused(&exchange(&world, &form(refresh)).await), "invalid_grant");
    let access = granted["access_token"].as_str().expect("token");
    assert!(works(&world, access).await);
    world.send(revoke("token", access)).await;
    assert!(!works(&world, access).await);
    assert_eq!(refused(&world.send(ask("POST", REVOKE).form("f=json")).await.json()), "invalid_request");

    let granted = exchange(&world, &by_code(&code(&world, "olga").await)).await;
    world.recovery.set_password("olga", &SecretString::from("another one")).await.expect("password");
    let refresh = granted["refresh_token"].as_str().expect("token");
    assert_eq!(refused(&exchange(&world, &form(refresh)).await), "invalid_grant");
}

#[tokio::test]
async fn a_code_out_of_band_is_shown_on_a_page_that_shows_no_other() {
    let world = World::open().await;
    let state = oauth_state(&world, authorize("code", OUT_OF_BAND, "&expiration=-1&state=a")).await;
    let answer = sign_in(&world, &state, "victor", PASSWORD).await;
    let location = answer.header("location").to_owned();
    let code = answered(&answer, &format!("{PUBLIC_URL}/sharing/rest/oauth2/approval?"))["code"].clone();
    let path = location.strip_prefix(SITE).expect("our own page");
    for _ in 0..2 {
        let page = world.send(ask("GET", path)).await;
        assert!(page.text.contains(&format!("<title>SUCCESS code={code}</title>")), "{}", page.text);
        assert!(page.text.contains(&format!("<code>{code}</code>")));
        assert_eq!(
            info(&page),
            serde_json::json!({"code": code}),
            "known clients look for messages of failure there"
        );
        assert_eq!(page.header("cache-control"), "no-store");
    }
    for other in ["x", "%3Cscript%3E", world.token(Role::Viewer)] {
        let page = world.send(ask("GET", &format!("{APPROVAL}?code={other}"))).await;
        assert!(!page.text.contains("SUCCESS") && page.text.contains("OAUTH_INVALID_GRANT"), "{}", page.text);
        assert!(!page.text.contains("<script"));
    }
    let form = format!("grant_type=authorization_code&client_id=pythonapi&code={code}");
    let exchanged = exchange(&world, &format!("{form}&redirect_uri={OUT_OF_BAND}")).await;
    assert!(works(&world, exchanged["access_token"].as_str().expect("token")).await, "{exchanged}");
    assert!(exchanged["refresh_token_expires_in"].as_i64() > Some(1_200_000), "for ever is two weeks");
    let after = world.send(ask("GET", path)).await;
    assert!(after.text.contains("OAUTH_INVALID_GRANT"), "a used code is shown no more");
    let end = world.send(ask("GET", APPROVAL)).await;
    assert!(end.text.contains("You are signed in"), "{}", end.text);

    let state = oauth_state(&world, authorize("code", OUT_OF_BAND, "")).await;
    let answer = sign_in(&world, &state, "victor", PASSWORD).await;
    let code = answered(&answer, &format!("{PUBLIC_URL}/sharing/rest/oauth2/approval?"))["code"].clone();
    let form = format!("grant_type=authorization_code&client_id=pythonapi&code={code}&redirect_uri={SITE}");
    assert_eq!(refused(&exchange(&world, &form).await), "invalid_grant", "another redirect URI");
}

#[tokio::test]
async fn other_grants_are_refused_by_name_and_in_json() {
    let world = World::open().await;
    for grant in ["client_credentials", "password", "implicit", "urn:ietf:params:oauth:grant-type:jwt-bearer"]
    {
        let form = format!(
            "grant_type={grant}&client_id=admin&client_secret={PASSWORD}&username=admin&password={PASSWORD}"
        );
        let reply = exchange(&world, &form).await;
        assert_eq!(refused(&reply), "unsupported_grant_type", "{grant}");
        assert!(reply["error"]["message"].as_str().expect("message").contains("generateToken"));
    }
    assert_eq!(refused(&exchange(&world, "f=html").await), "invalid_request");
    for path in [TOKEN, REVOKE] {
        let get = world.send(ask("GET", &format!("{path}?grant_type=refresh_token"))).await;
        assert_eq!((get.status.as_u16(), get.code()), (200, 405));
    }
}
